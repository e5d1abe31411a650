//! Days as policies and vendors write them, `2027-01-31`, and the seconds they name (proleptic Gregorian calendar).

use legation_core::UnixTime;

/// Seconds of a day.
pub(crate) const DAY: u64 = 86_400;

/// First second of the day that `text` names; nothing unless it is a day from 1970 on in this one spelling.
pub(crate) fn day(text: &str) -> Option<UnixTime> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days from civil, after Howard Hinnant: years begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (y / 400, y % 400);
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * m + 2) / 5 + (day - 1);
    let time = UnixTime(days.checked_sub(719_468)?.checked_mul(DAY)?);
    // Days that no month has come back as another; signs, blanks and other lengths as another text.
    (time.to_string() == format!("{text}T00:00:00Z")).then_some(time)
}

/// Last second of the day that `text` names, such as `2027-01-31`.
pub fn end_of_day(text: &str) -> Option<UnixTime> {
    day(text).map(|begin| begin.plus(DAY - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_days_are_days() {
        for (text, seconds) in [
            ("1970-01-01", Some(0)),
            ("2000-02-29", Some(951_782_400)),
            ("2027-01-31", Some(1_801_353_600)),
            ("2027-02-29", None),
            ("2027-13-01", None),
            ("2027-1-31", None),
            ("2027-01-31 ", None),
            ("+027-01-31", None),
            ("2027/01/31", None),
            ("1969-12-31", None),
            ("9999-12-31", Some(253_402_214_400)),
            ("€€€-01-01", None),
            ("", None),
        ] {
            assert_eq!(day(text), seconds.map(UnixTime), "{text}");
        }
        assert_eq!(end_of_day("1970-01-01"), Some(UnixTime(86_399)));
    }
}

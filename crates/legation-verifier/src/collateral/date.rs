//! Dates as Intel writes them: RFC 3339 in UTC without fractions, `2025-06-19T10:16:03Z`.

use legation_core::UnixTime;

/// Reads such a date; nothing else, and nothing that is not a day of the calendar.
pub(super) fn parse(text: &str) -> Option<UnixTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let number = |text: &str, len: usize| -> Option<u64> {
        (text.len() == len && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
    };
    let three = |text: &str, separator: char, lengths: [usize; 3]| -> Option<[u64; 3]> {
        let parts: Vec<_> = text.split(separator).collect();
        let [a, b, c] = parts.as_slice() else { return None };
        Some([number(a, lengths[0])?, number(b, lengths[1])?, number(c, lengths[2])?])
    };
    let [year, month, day] = three(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = three(time, ':', [2, 2, 2])?;
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Civil date to days since 1970 (after Howard Hinnant); four digits of year overflow nothing.
    let y = if month <= 2 { year - 1 } else { year };
    let era = y / 400;
    let of_era = y % 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let at = UnixTime(days * 86_400 + hour * 3600 + minute * 60 + second);
    // A 31st of a month without one reads back as another day.
    (at.to_string() == text).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_read_back_and_other_text_is_none() {
        for at in [0, 951_782_399, 951_782_400, 1_750_328_163, 1_795_262_400, 4_102_444_799] {
            assert_eq!(parse(&UnixTime(at).to_string()), Some(UnixTime(at)));
        }
        for bad in [
            "2025-06-19T10:16:03",
            "2025-06-19 10:16:03Z",
            "2025-02-29T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-00-10T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2025-06-19T24:00:00Z",
            "2025-06-19T10:16:60Z",
            "2025-6-19T10:16:03Z",
            "+025-06-19T10:16:03Z",
            "2025-06-19T10:16:03.5Z",
            "",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}

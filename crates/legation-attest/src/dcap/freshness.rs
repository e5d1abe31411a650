//! When collateral is current: dates of what Intel publishes, and the grace past them.

use legation_core::{Rejection, UnixTime};

use super::check::Check;

/// Something with dates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dated {
    /// What it is, such as `TCB info` or `certificate Intel SGX TCB Signing`.
    pub what: String,
    /// When it was issued, or begins to be valid.
    pub from: UnixTime,
    /// Its next update, or the end of its validity.
    pub until: UnixTime,
    /// The last second at which it counts: `until`, or for revocation lists the second before.
    pub(crate) last_good: UnixTime,
}

/// Dates of everything in a collateral.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Freshness {
    /// What is published anew at intervals: TCB info, QE identity, revocation lists. A grace may bridge a late update.
    pub documents: Vec<Dated>,
    /// Certificates of the chains. No grace bridges their end.
    pub certificates: Vec<Dated>,
}

/// The moment a verdict is made as of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    /// `at`, or the last second at which every document was current.
    pub(crate) as_of: UnixTime,
    /// The next update that did not come.
    pub(crate) stale_since: Option<UnixTime>,
}

impl Freshness {
    /// When the youngest document was issued.
    pub fn issued(&self) -> UnixTime {
        self.documents.iter().map(|d| d.from).max().unwrap_or_default()
    }

    /// The document that is to be renewed first.
    pub fn next(&self) -> Option<&Dated> {
        self.documents.iter().min_by_key(|d| d.last_good)
    }

    /// When the first document is to be renewed.
    pub fn next_update(&self) -> UnixTime {
        self.next().map(|d| d.until).unwrap_or_default()
    }

    /// When the first document is to be renewed or the first certificate ends.
    pub fn expires(&self) -> UnixTime {
        self.documents.iter().chain(&self.certificates).map(|d| d.until).min().unwrap_or_default()
    }

    /// Where `at` lies in the documents' dates.
    pub(crate) fn hold(&self, grace_seconds: u64, at: UnixTime) -> Result<Held, Rejection> {
        let refuse = |d: &Dated, expected: String| {
            Check::Freshness.refuse(format!("dates of the collateral's {}", d.what), expected, at)
        };
        let Some(next) = self.next() else { return Err(Check::Freshness.refuse("dates", "documents", "none")) };
        if let Some(future) = self.documents.iter().find(|d| d.from > at) {
            return Err(refuse(future, format!("issued by the time of the verdict, but issued {}", future.from))
                .fix("set the verifier's clock, or use the collateral that was current then"));
        }
        if at <= next.last_good {
            return Ok(Held { as_of: at, stale_since: None });
        }
        if at.since(next.last_good) > grace_seconds {
            let grace =
                if grace_seconds == 0 { String::new() } else { format!(" and {grace_seconds} seconds of grace") };
            return Err(refuse(next, format!("{} to {}{grace}", next.from, next.until))
                .fix("fetch the collateral again: a stale one hides revocations and TCB recoveries"));
        }
        let as_of = next.last_good;
        if let Some(young) = self.documents.iter().find(|d| d.from > as_of) {
            let expected = format!("all current at one time, but {} ended {}", next.what, next.until);
            return Err(refuse(young, expected).fix("fetch all of the collateral again"));
        }
        Ok(Held { as_of, stale_since: Some(next.until) })
    }
}

/// A time as Intel writes it: `2025-06-19T10:16:03Z`, nothing else.
pub(crate) fn time(text: &str) -> Option<UnixTime> {
    let bytes: &[u8; 20] = text.as_bytes().try_into().ok()?;
    let number = |from: usize, to: usize| {
        bytes.get(from..to)?.iter().try_fold(0_u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
    marks.iter().all(|(at, mark)| bytes[*at] == *mark).then_some(())?;
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Civil date to days (Howard Hinnant); the year begins in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, yoe) = (y / 400, y % 400);
    let days = era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let time = UnixTime(days * 86_400 + hour * 3600 + minute * 60 + second);
    // A date that does not exist, such as 30 February, comes out as another.
    (time.to_string() == text).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dated(what: &str, from: u64, until: u64) -> Dated {
        Dated { what: what.to_owned(), from: UnixTime(from), until: UnixTime(until), last_good: UnixTime(until) }
    }

    #[test]
    fn times_are_read_in_one_form() {
        for unix in [0, 951_782_399, 951_782_400, 1_750_328_163, 1_795_262_400, 4_102_444_799] {
            assert_eq!(time(&UnixTime(unix).to_string()), Some(UnixTime(unix)));
        }
        for wrong in [
            "",
            "2025-06-19",
            "2025-06-19T10:16:03",
            "2025-06-19T10:16:03+00:00",
            "2025-06-19 10:16:03Z",
            "2025-02-30T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-00-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2025-06-19T24:00:00Z",
            "2025-06-19T23:60:00Z",
            "2025-06-19T23:59:60Z",
            "2o25-06-19T10:16:03Z",
        ] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_grace_is_dated_and_ends() {
        let freshness = Freshness { documents: vec![dated("a", 100, 200), dated("b", 150, 300)], certificates: vec![] };
        let hold = |grace, at| freshness.hold(grace, UnixTime(at)).map_err(|r| r.check);
        let good = |as_of, since: Option<u64>| Ok(Held { as_of: UnixTime(as_of), stale_since: since.map(UnixTime) });
        assert_eq!(hold(0, 149), Err("dcap.freshness".to_owned()));
        assert_eq!(hold(u64::MAX, 149), Err("dcap.freshness".to_owned()));
        assert_eq!(hold(0, 150), good(150, None));
        assert_eq!(hold(0, 200), good(200, None));
        assert_eq!(hold(0, 201), Err("dcap.freshness".to_owned()));
        assert_eq!(hold(10, 201), good(200, Some(200)));
        assert_eq!(hold(10, 210), good(200, Some(200)));
        assert_eq!(hold(10, 211), Err("dcap.freshness".to_owned()));
        assert_eq!(hold(u64::MAX, u64::MAX), good(200, Some(200)));
        assert_eq!((freshness.issued(), freshness.next_update()), (UnixTime(150), UnixTime(200)));
        // One document was issued after another had ended: at no time were both current.
        let apart = Freshness { documents: vec![dated("a", 100, 200), dated("b", 250, 300)], certificates: vec![] };
        assert!(apart.hold(1000, UnixTime(260)).is_err());
    }
}

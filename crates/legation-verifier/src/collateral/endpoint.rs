//! One place that can be asked, and how long to leave it alone after it failed.

use legation_core::UnixTime;

/// First pause after a failure, in seconds; it doubles with each.
const PAUSE_SECONDS: u64 = 5;
/// Longest pause, in seconds.
const PAUSE_SECONDS_MAX: u64 = 3600;

/// A base URL, or a folder.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) base: String,
    failures: u32,
    retry_at: UnixTime,
}

impl Endpoint {
    pub(super) fn new(base: String) -> Self {
        Self { base, failures: 0, retry_at: UnixTime(0) }
    }

    /// When it may be asked again.
    pub(super) fn retry_at(&self) -> UnixTime {
        self.retry_at
    }

    pub(super) fn answered(&mut self) {
        (self.failures, self.retry_at) = (0, UnixTime(0));
    }

    /// Leaves it alone for 5 s, 10 s, 20 s .. an hour, less up to half of that by chance, or for as long as it asked.
    pub(super) fn failed(&mut self, now: UnixTime, asked: Option<u64>, chance: u8) {
        let full = PAUSE_SECONDS.saturating_mul(1 << self.failures.min(10)).min(PAUSE_SECONDS_MAX);
        self.failures = self.failures.saturating_add(1);
        let pause = full - full / 2 * u64::from(chance) / 255;
        self.retry_at = now.plus(asked.map_or(pause, |asked| asked.clamp(pause, PAUSE_SECONDS_MAX)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour_and_end_with_an_answer() {
        let now = UnixTime(1_800_000_000);
        let mut endpoint = Endpoint::new("https://vendor.example".to_owned());
        let mut pauses = Vec::new();
        for _ in 0..40 {
            endpoint.failed(now, None, 0);
            pauses.push(endpoint.retry_at().since(now));
        }
        assert_eq!((&pauses[..4], pauses[39]), (&[5, 10, 20, 40][..], 3600));
        endpoint.answered();
        assert_eq!(endpoint.retry_at(), UnixTime(0));
        endpoint.failed(now, None, 255);
        assert_eq!(endpoint.retry_at().since(now), 3, "half of it is chance");
        endpoint.failed(now, Some(120), 0);
        assert_eq!(endpoint.retry_at().since(now), 120, "as long as it asked");
        endpoint.failed(now, Some(1 << 60), 0);
        assert_eq!(endpoint.retry_at().since(now), 3600, "but no longer than an hour");
    }
}

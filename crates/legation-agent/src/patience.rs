//! How long to wait before the next try, and when to renew: pure arithmetic over random numbers that the caller draws.

use std::time::Duration;

use legation_core::{UnixTime, statement::Passport};

use crate::config::Reconnect;

/// Longest pause while managers answer and one of them is about to lead.
const ELECTING_MAX: Duration = Duration::from_millis(750);
/// Rounds in a row after which none of them seems to be about to: a minute or so.
const ELECTING_ROUNDS: u32 = 100;

/// What kept this agent from its manager.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    /// The network, or the other side, failed.
    Failed,
    /// Managers are there, and none that is reached leads: one is about to.
    Electing,
    /// One side would not have the other: time alone seldom mends that.
    Refused,
}

/// A passport with less life left is renewed rather than shown, in seconds.
pub(crate) const LIFE_MIN: u64 = 5;

/// Counts failures in a row.
#[derive(Debug)]
pub(crate) struct Patience {
    bounds: Reconnect,
    failures: u32,
}

impl Patience {
    pub(crate) fn new(bounds: Reconnect) -> Self {
        Self { bounds, failures: 0 }
    }

    /// The connection was good: the next failure is the first again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause after another failure: doubling, between half and all of it, no shorter than half of what refusals want when
    /// this was one, and short while a manager is about to lead.
    pub(crate) fn pause(&mut self, trouble: Trouble, random: u64) -> Duration {
        let Reconnect { first, longest, refused: least } = self.bounds;
        let doubled = first.saturating_mul(1 << self.failures.min(20)).min(longest.max(first));
        self.failures = self.failures.saturating_add(1);
        let full = match trouble {
            Trouble::Refused => doubled.max(least),
            Trouble::Electing if self.failures < ELECTING_ROUNDS => doubled.min(ELECTING_MAX),
            Trouble::Electing | Trouble::Failed => doubled,
        };
        let half = full / 2;
        half + share(half, random)
    }
}

/// `random` of all there are, of `whole`.
fn share(whole: Duration, random: u64) -> Duration {
    let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(u64::try_from((u128::from(nanos) * u128::from(random)) >> 64).unwrap_or(nanos))
}

/// How long from `now` until the passport is to be renewed: at 60 to 80 % of its life, so that agents that began together do not
/// renew together.
pub(crate) fn renew_in(passport: &Passport, now: UnixTime, random: u64) -> Duration {
    let life = Duration::from_secs(passport.expires.since(passport.issued));
    let at = life * 3 / 5 + share(life / 5, random);
    at.saturating_sub(Duration::from_secs(now.since(passport.issued)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_bounds_and_are_longer_after_refusals() {
        let s = Duration::from_secs;
        let bounds = Reconnect { first: s(1), longest: s(8), refused: s(60) };
        for (trouble, random, expected) in [
            (Trouble::Failed, 0, [500, 1000, 2000, 4000, 4000]),
            (Trouble::Failed, u64::MAX, [999, 1999, 3999, 7999, 7999]),
            (Trouble::Refused, 0, [30_000; 5]),
            (Trouble::Refused, u64::MAX, [59_999; 5]),
            (Trouble::Electing, 0, [375; 5]),
            (Trouble::Electing, u64::MAX, [749; 5]),
        ] {
            let mut patience = Patience::new(bounds);
            let got: Vec<_> = (0..5).map(|_| patience.pause(trouble, random).as_millis()).collect();
            assert_eq!(got, expected, "{trouble:?}");
            patience.reset();
            assert_eq!(patience.pause(trouble, random).as_millis(), expected[0]);
        }
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut patience = Patience::new(Reconnect::default());
        let longest = (0..100).map(|_| patience.pause(Trouble::Failed, u64::MAX)).max();
        assert!(longest < Some(Duration::from_secs(31)), "{longest:?}");
        // Where nobody comes to lead, managers are not asked so often for ever.
        assert!(patience.pause(Trouble::Electing, 0) > Duration::from_secs(10));
    }
}

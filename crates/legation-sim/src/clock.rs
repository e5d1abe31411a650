//! Time: the simulation's own, and what the nodes' clocks show of it.

use std::fmt;

use legation_core::UnixTime;

/// What every clock showed at the start, were it right.
const START: u64 = 1_800_000_000;

/// Microseconds since the start: what a stopwatch shows, on every node alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Instant(pub(crate) u64);

/// A length of time, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Span(pub(crate) u64);

impl Span {
    pub(crate) const fn millis(n: u64) -> Self {
        Self(n * 1000)
    }

    pub(crate) const fn seconds(n: u64) -> Self {
        Self(n * 1_000_000)
    }
}

impl Instant {
    pub(crate) fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    pub(crate) fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} s", self.0 / 1_000_000, self.0 % 1_000_000 / 1000)
    }
}

/// A node's clock: right, but for so many microseconds. (Clocks that run at other speeds are not simulated.)
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// How far it is ahead; behind when negative.
    pub(crate) ahead: i64,
}

impl Clock {
    /// Unix time in microseconds.
    pub(crate) fn micros(self, now: Instant) -> u64 {
        (START * 1_000_000).saturating_add(now.0).saturating_add_signed(self.ahead)
    }

    /// Unix time.
    pub(crate) fn unix(self, now: Instant) -> UnixTime {
        UnixTime(self.micros(now) / 1_000_000)
    }
}

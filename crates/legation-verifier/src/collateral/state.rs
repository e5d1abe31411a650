//! How an item stands, in one word and the dates behind it.

use std::fmt;

use legation_core::UnixTime;
use serde::{Deserialize, Serialize};

/// How an item stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ItemState {
    /// Nothing to do.
    Fresh,
    /// The next update is near: it is being looked for.
    Due,
    /// Past its next update; the judge takes it until the grace ends.
    StaleInGrace {
        /// When that is.
        until: UnixTime,
    },
    /// Past its next update and past the grace: nothing that needs it is accepted.
    Expired,
    /// Wanted, and not here.
    Missing,
}

impl ItemState {
    /// How an item issued and due then stands at `now`. From the second of its next update on it is stale; a judge may
    /// see that a second later.
    pub fn of(issued: UnixTime, next_update: UnixTime, grace_seconds: u64, now: UnixTime) -> Self {
        let until = next_update.plus(grace_seconds);
        if now < next_update.minus(refresh_before(issued, next_update)) {
            Self::Fresh
        } else if now < next_update {
            Self::Due
        } else if now < until {
            Self::StaleInGrace { until }
        } else {
            Self::Expired
        }
    }

    /// Whether people should be told.
    pub const fn is_stale(self) -> bool {
        matches!(self, Self::StaleInGrace { .. } | Self::Expired)
    }
}

impl fmt::Display for ItemState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh => f.pad("fresh"),
            Self::Due => f.pad("due"),
            Self::StaleInGrace { until } => f.pad(&format!("stale-in-grace until {until}")),
            Self::Expired => f.pad("expired"),
            Self::Missing => f.pad("missing"),
        }
    }
}

/// How long before its next update an item is looked for: a quarter of its life, an hour at least, a week at most.
pub(super) fn refresh_before(issued: UnixTime, next_update: UnixTime) -> u64 {
    (next_update.since(issued) / 4).clamp(3600, 7 * 86_400)
}

/// An item as people see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ItemStatus {
    /// Its name.
    pub name: String,
    /// How it stands.
    #[serde(flatten)]
    pub state: ItemState,
    /// Where it came from; nowhere while it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// When it was last seen at a source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched: Option<UnixTime>,
    /// When its youngest part was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued: Option<UnixTime>,
    /// When its first part is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_update: Option<UnixTime>,
    /// When it is looked for again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<UnixTime>,
    /// Why the last try failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl ItemStatus {
    /// Whole days until the next update; negative past it.
    pub fn days_left(&self, now: UnixTime) -> Option<i64> {
        let next = self.next_update?;
        let days = |seconds: u64| i64::try_from(seconds / 86_400).unwrap_or(i64::MAX);
        Some(if next < now { -days(now.since(next)) } else { days(next.since(now)) })
    }

    /// The warning that belongs to a stale item.
    pub fn warning(&self) -> Option<String> {
        let next = self.next_update.unwrap_or_default();
        let problem = self.problem.as_deref().unwrap_or("no source answered with a newer one");
        match self.state {
            ItemState::StaleInGrace { until } => Some(format!(
                "collateral {} is past its next update of {next}: machines that need it are refused from {until} on ({problem})",
                self.name
            )),
            ItemState::Expired => Some(format!(
                "collateral {} is past its next update of {next} and past the grace: machines that need it are refused ({problem})",
                self.name
            )),
            // Without a list nothing is refused that it would name: whoever looks must know that nobody looked.
            ItemState::Missing if self.name.ends_with("/crl") && self.problem.is_some() => Some(format!(
                "collateral {} is missing: machines are judged without looking whether it names them ({problem})",
                self.name
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_ages_through_its_states() {
        const DAY: u64 = 86_400;
        let (issued, next) = (UnixTime(1_800_000_000), UnixTime(1_800_000_000 + 28 * DAY));
        let until = next.plus(7 * DAY);
        for (at, grace, state) in [
            (issued, 7, ItemState::Fresh),
            (next.minus(7 * DAY + 1), 7, ItemState::Fresh),
            (next.minus(7 * DAY), 7, ItemState::Due),
            (next.minus(1), 7, ItemState::Due),
            (next, 7, ItemState::StaleInGrace { until }),
            (until.minus(1), 7, ItemState::StaleInGrace { until }),
            (until, 7, ItemState::Expired),
            (next, 0, ItemState::Expired),
            (UnixTime(u64::MAX), 7, ItemState::Expired),
            (UnixTime(0), 7, ItemState::Fresh),
        ] {
            assert_eq!(ItemState::of(issued, next, grace * DAY, at), state, "at {at} with {grace} days");
        }
    }
}

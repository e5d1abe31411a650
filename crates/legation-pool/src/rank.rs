//! Ranking: who is best among those that will do, as an *effective price*.
//!
//! The effective price is the price of an hour of what the fragment needs, made dearer by what speaks against an enclave. So
//! every consideration reads as money: somebody 100 ms away is as good as somebody 10 % dearer next door.
//!
//! | consideration | thousandths of the price | weight |
//! |---|---|---|
//! | distance from where the client or its data is | 1 for each millisecond of the round trip; 500 where nobody knows it | `proximity` |
//! | posture: firmware behind | 50 for each component, at most 500 | `posture` |
//! | .. status of the firmware out of date, or withdrawn | 200, 1000 | `posture` |
//! | .. admitted for a time although something must be mended | 200 | `posture` |
//! | .. collateral past its next update | 100 | `posture` |
//! | .. no revocation list was at hand | 50 | `posture` |
//! | .. evidence that others vouch for rather than the hardware | up to 100 by its confidence | `posture` |
//! | .. a development root | 1000 | `posture` |
//! | .. age of the proof | up to 50 at its end | `posture` |
//! | .. doubt after dissents and hints, which fade ([`crate::trust`]) | less than 3000; 1000 after one dissent | `posture` |
//! | fit: what would be left over and of little use | see [`crate::index::Room`] | `fit` |
//! | other fragments of the task on the same enclave | 4000 for each | always |
//! | soft rules of spread that it goes against | 500 for each | always |
//!
//! Weights are percent of these; a weight of `cost` other than 100 divides the others by it, and 0 takes the price out.

use legation_core::{
    Region,
    claims::TcbStatus,
    prefer::{Preferences, Weights},
    statement::Passport,
};

use crate::index::{TOO_FAR, Weighing};

/// What a distance costs that nobody has measured, as milliseconds.
pub(crate) const UNKNOWN_MS: u32 = 500;
/// What each other fragment of the task on the same enclave costs, in thousandths.
pub(crate) const USE: u32 = 4000;
/// What going against a soft rule of spread costs, in thousandths.
pub(crate) const APART: u32 = 500;
/// Most that distance can cost, in thousandths.
const DISTANCE_MAX: u64 = 1_000_000;

/// What an enclave would cost that is doubted altogether, in thousandths, before weights.
pub(crate) const DOUBT: u32 = 3000;

/// Weights as they multiply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weighed {
    pub(crate) index: Weighing,
    proximity: u64,
}

impl Weighed {
    pub(crate) fn new(weights: Weights) -> Self {
        let cost = u64::from(weights.cost);
        let over = |weight: u16| (u64::from(weight) * 100).checked_div(cost).unwrap_or(u64::from(weight));
        let index = Weighing { cost: cost > 0, posture: over(weights.posture), fit: over(weights.fit) };
        Self { index, proximity: over(weights.proximity) }
    }

    /// What doubt costs, of these thousandths before weights.
    pub(crate) fn doubt(&self, cost: u32) -> u32 {
        u32::try_from(u64::from(cost).saturating_mul(self.index.posture) / 100).unwrap_or(u32::MAX)
    }

    /// What a round trip of so many milliseconds costs.
    pub(crate) fn distance(&self, ms: u32) -> u32 {
        let cost = (u64::from(ms) * self.proximity / 100).min(DISTANCE_MAX);
        u32::try_from(cost).unwrap_or(TOO_FAR - 1)
    }
}

/// What the posture of an enclave costs, in thousandths, before weights; without the age of its proof.
pub(crate) fn posture(passport: &Passport) -> u32 {
    let (claims, ear) = (&passport.claims, &passport.ear);
    let behind = u32::try_from(ear.tcb.shortfall.len()).unwrap_or(u32::MAX).saturating_mul(50).min(500);
    let status = match ear.tcb.status {
        TcbStatus::OutOfDate | TcbStatus::OutOfDateConfigurationNeeded => 200,
        TcbStatus::Revoked => 1000,
        _ => 0,
    };
    let doubt = u32::from(1000_u16.saturating_sub(claims.measurement.confidence.0)) / 10;
    let when = |so: bool, cost: u32| if so { cost } else { 0 };
    behind
        + status
        + doubt
        + when(ear.grace.is_some(), 200)
        + when(claims.stale_since.is_some(), 100)
        + when(!claims.revocation.is_done(), 50)
        + when(claims.anchor.is_development(), 1000)
}

/// Where an enclave is: what its evidence says before what its provider does.
pub(crate) fn region(passport: &Passport) -> &Region {
    passport.claims.region.as_ref().map_or(&passport.configuration.region, |claim| &claim.value)
}

/// Whether a round trip will do, and what it costs.
pub(crate) fn distance(prefer: &Preferences, weighed: &Weighed, ms: Option<u32>) -> Option<u32> {
    if prefer.near.is_none() {
        return Some(0);
    }
    match (prefer.within, ms) {
        (Some(within), Some(ms)) if u64::from(ms) > within.0 => None,
        (Some(_), None) => None,
        (_, ms) => Some(weighed.distance(ms.unwrap_or(UNKNOWN_MS))),
    }
}

/// An effective price in its parts, for people: thousandths of the price, weighed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Parts {
    pub(crate) distance: u32,
    pub(crate) posture: u32,
    pub(crate) fit: u32,
    pub(crate) spread: u32,
    pub(crate) trust: u32,
}

impl Parts {
    pub(crate) fn total(&self) -> u64 {
        [self.distance, self.posture, self.fit, self.spread, self.trust].into_iter().map(u64::from).sum()
    }

    /// Such as `distance +8.0 %, posture +5.3 %`; nothing when nothing speaks against it.
    pub(crate) fn words(&self) -> String {
        let Self { distance, posture, fit, spread, trust } = self;
        let parts = [("distance", distance), ("posture", posture), ("fit", fit), ("spread", spread), ("trust", trust)];
        let said = parts.into_iter().filter(|(_, n)| **n > 0);
        let said: Vec<_> = said.map(|(name, n)| format!("{name} +{}.{} %", n / 10, n % 10)).collect();
        said.join(", ")
    }
}

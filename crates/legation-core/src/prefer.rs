//! What a client prefers among the enclaves that satisfy it, and what it says of its data.
//!
//! Requirements decide who may; preferences decide who is best among them. They order enclaves by an *effective price*: the
//! price of an hour, made dearer by distance, by a weaker posture and by a worse fit (docs/placement.md has the rules and
//! their defaults). Weights say how much each counts; spread keeps fragments of one task apart, or together.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    id::{Region, ReservationId},
    rejection::Rejection,
    time::Millis,
};

/// Largest weight: ten times the usual.
pub const WEIGHT_MAX: u16 = 1000;
/// Most rules of spread.
pub const SPREAD_MAX: usize = 8;
/// Most regulations or regions of residence named.
pub const NAMES_MAX: usize = 16;
/// Longest name of a regulation, in bytes.
pub const NAME_MAX: usize = 64;

/// How a client wants to be placed, among those that satisfy what it requires.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Preferences {
    /// How much each consideration counts.
    #[serde(skip_serializing_if = "is_default")]
    pub weights: Weights,
    /// Where the client or its data is: distance is counted from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near: Option<Region>,
    /// Longest round trip to `near`; enclaves farther away, or of unknown distance, are not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Millis>,
    /// What the task's fragments must share or must not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spread: Vec<Spread>,
    /// How urgent the task is, among those of its tenant and, as far as the tenant may, among all.
    #[serde(skip_serializing_if = "is_default")]
    pub priority: Priority,
    /// The reservation in whose seats it is placed, and nowhere else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<ReservationId>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How much each consideration counts, in percent of the usual. With `cost` 0, price does not count at all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// The price of an hour.
    pub cost: u16,
    /// Round trips from [`Preferences::near`].
    pub proximity: u16,
    /// Firmware that is behind, proofs that are old, admission by exception.
    pub posture: u16,
    /// What would be left over and of no use.
    pub fit: u16,
}

impl Default for Weights {
    fn default() -> Self {
        Self { cost: 100, proximity: 100, posture: 100, fit: 100 }
    }
}

/// How urgent: 0 is whenever there is room, 4 is usual, 9 is first of all. Larger goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(pub u8);

impl Priority {
    /// The highest.
    pub const MAX: Self = Self(9);
}

impl Default for Priority {
    fn default() -> Self {
        Self(4)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One rule about where the fragments of a task are, relative to each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// In respect of what.
    pub axis: Axis,
    /// What of it.
    pub rule: SpreadRule,
}

/// In respect of what fragments are apart or together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// Who owns the enclave.
    Provider,
    /// Its kind of machine.
    Tee,
    /// Its region.
    Region,
    /// Its chip.
    Chip,
    /// The enclave itself.
    Enclave,
}

/// Whether fragments are apart or together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpreadRule {
    /// No two share it: rather wait.
    Distinct,
    /// All share it: rather wait.
    Same,
    /// Better apart: sharing counts as dearer.
    Apart,
    /// Better together: not sharing counts as dearer.
    Together,
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Provider => "provider",
            Self::Tee => "tee",
            Self::Region => "region",
            Self::Chip => "chip",
            Self::Enclave => "enclave",
        })
    }
}

impl fmt::Display for SpreadRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Distinct => "distinct",
            Self::Same => "same",
            Self::Apart => "apart",
            Self::Together => "together",
        })
    }
}

/// How much harm it does when data gets out. Ascending.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sensitivity {
    /// None.
    Public,
    /// Some.
    Internal,
    /// Much. What is said of data of which nothing is said.
    #[default]
    Confidential,
    /// Very much.
    Restricted,
}

impl fmt::Display for Sensitivity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Confidential => "confidential",
            Self::Restricted => "restricted",
        })
    }
}

/// What a client says of the data that its task reads and makes: policies of the pool and of the tenant speak of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataTerms {
    /// How much harm it does when it gets out.
    #[serde(skip_serializing_if = "is_default")]
    pub sensitivity: Sensitivity,
    /// Rules that it is under, such as `gdpr` or `hipaa`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub regulations: BTreeSet<String>,
    /// Regions that it may be in; anywhere without one.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub residency: BTreeSet<Region>,
}

impl Preferences {
    /// What they must satisfy in themselves.
    ///
    /// # Errors
    /// The first rule they break.
    pub fn validate(&self) -> Result<(), Rejection> {
        let Weights { cost, proximity, posture, fit } = self.weights;
        if let Some(large) = [cost, proximity, posture, fit].into_iter().find(|w| *w > WEIGHT_MAX) {
            return Err(Rejection::new("request.weights", "weights of the preferences")
                .expected(format!("0 to {WEIGHT_MAX} percent each"))
                .got(large));
        }
        if self.priority > Priority::MAX {
            return Err(Rejection::new("request.priority", "priority of the request")
                .expected(format!("0 to {}", Priority::MAX))
                .got(self.priority));
        }
        if self.within.is_some() && self.near.is_none() {
            return Err(Rejection::new("request.within", "longest round trip")
                .expected("a place that it is measured from")
                .got("none")
                .fix("say `near`, too"));
        }
        self.check_spread()
    }

    fn check_spread(&self) -> Result<(), Rejection> {
        let bad = |got: String| Rejection::new("request.spread", "rules of spread").got(got);
        if self.spread.len() > SPREAD_MAX {
            return Err(bad(self.spread.len().to_string()).expected(format!("at most {SPREAD_MAX}")));
        }
        for (n, one) in self.spread.iter().enumerate() {
            for other in &self.spread[n + 1..] {
                if one.axis == other.axis {
                    return Err(bad(format!("`{}` and `{}` for {}", one.rule, other.rule, one.axis))
                        .expected("one rule for each")
                        .fix("drop one of the two"));
                }
            }
        }
        // What shares the narrower shares the wider: both cannot be.
        let rule = |axis| self.spread.iter().find(|s| s.axis == axis).map(|s| s.rule);
        let wider = |axis| match axis {
            Axis::Enclave => &[Axis::Chip, Axis::Tee, Axis::Region, Axis::Provider][..],
            Axis::Chip => &[Axis::Tee, Axis::Region, Axis::Provider],
            _ => &[],
        };
        for one in self.spread.iter().filter(|s| s.rule == SpreadRule::Same) {
            if let Some(axis) = wider(one.axis).iter().find(|a| rule(**a) == Some(SpreadRule::Distinct)) {
                return Err(bad(format!("`same` {} and `distinct` {axis}", one.axis))
                    .expected("rules that can hold together")
                    .fix("drop one of the two"));
            }
        }
        Ok(())
    }
}

impl DataTerms {
    /// What they must satisfy in themselves.
    ///
    /// # Errors
    /// The first rule they break.
    pub fn validate(&self) -> Result<(), Rejection> {
        let bad = |got: String| Rejection::new("request.data", "what the request says of its data").got(got);
        if self.regulations.len() > NAMES_MAX || self.residency.len() > NAMES_MAX {
            return Err(bad(format!("{} and {}", self.regulations.len(), self.residency.len()))
                .expected(format!("at most {NAMES_MAX} regulations and {NAMES_MAX} regions")));
        }
        let odd = |name: &&String| {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
            name.is_empty() || name.len() > NAME_MAX || !name.chars().all(plain)
        };
        match self.regulations.iter().find(odd) {
            Some(name) => {
                Err(bad(format!("{name:?}")).expected(format!("names of 1 to {NAME_MAX} of a-z, 0-9, `-`, `.`, `_`")))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_that_cannot_hold_are_refused() {
        use {Axis::*, SpreadRule::*};
        let check = |spread: &[(Axis, SpreadRule)]| {
            let spread = spread.iter().map(|(axis, rule)| Spread { axis: *axis, rule: *rule }).collect();
            Preferences { spread, ..Preferences::default() }.validate().map_err(|e| e.check)
        };
        assert_eq!(check(&[(Provider, Distinct), (Region, Same)]), Ok(()));
        assert_eq!(check(&[(Provider, Distinct), (Provider, Apart)]), Err("request.spread".into()));
        assert_eq!(check(&[(Chip, Same), (Provider, Distinct)]), Err("request.spread".into()));
        assert_eq!(check(&[(Enclave, Same), (Chip, Distinct)]), Err("request.spread".into()));
        let of = |p: Preferences| p.validate().map_err(|e| e.check);
        let within = Preferences { within: Some(Millis(10)), ..Preferences::default() };
        assert_eq!(of(within), Err("request.within".into()));
        let priority = Preferences { priority: Priority(10), ..Preferences::default() };
        assert_eq!(of(priority), Err("request.priority".into()));
        let weights = Weights { cost: 1001, ..Weights::default() };
        assert_eq!(of(Preferences { weights, ..Preferences::default() }), Err("request.weights".into()));
    }

    #[test]
    fn what_is_not_said_is_not_written() {
        assert_eq!(serde_json::to_string(&Preferences::default()).unwrap(), "{}");
        assert_eq!(serde_json::to_string(&DataTerms::default()).unwrap(), "{}");
        let terms = DataTerms { regulations: ["GDPR".to_owned()].into(), ..DataTerms::default() };
        assert_eq!(terms.validate().map_err(|e| e.check), Err("request.data".into()));
    }
}

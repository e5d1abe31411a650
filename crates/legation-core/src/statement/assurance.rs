//! How results are assured, and which assurance is no weaker than which.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{prefer::Axis, rejection::Rejection};

/// Fewest enclaves that run a replicated call.
pub const REPLICAS_MIN: u8 = 2;
/// Most of them.
pub const REPLICAS_MAX: u8 = 9;

/// How a result is assured. Written as `"attested"`, `{"replicated":{"k":3,"diverse":"provider"}}` or `"proven"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Assurance {
    /// By the report of one attested enclave.
    Attested,
    /// By the reports of a strict majority of several attested enclaves, which agree to the byte.
    Replicated {
        /// How many enclaves run it.
        k: u8,
        /// In respect of what no two of them are the same.
        diverse: Diversity,
    },
    /// By a succinct proof that the module, on the committed input, gave the committed output.
    Proven,
}

/// In respect of what the enclaves of a replicated call differ. Never are two of them on one chip.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Diversity {
    /// Their chips alone.
    Chip,
    /// Their owners, too.
    Provider,
    /// Their kinds of machines, too.
    Tee,
}

impl Diversity {
    /// The axis of placement that it is about.
    pub const fn axis(self) -> Axis {
        match self {
            Self::Chip => Axis::Chip,
            Self::Provider => Axis::Provider,
            Self::Tee => Axis::Tee,
        }
    }

    /// Whether enclaves that differ by this differ by `least`.
    pub fn covers(self, least: Self) -> bool {
        self == least || least == Self::Chip
    }
}

impl Assurance {
    /// Whether it assures no less than `least`: a proof more than any number of enclaves, more enclaves more than fewer.
    pub fn covers(self, least: Self) -> bool {
        match (self, least) {
            (Self::Proven, _) | (_, Self::Attested) => true,
            (Self::Replicated { k, diverse }, Self::Replicated { k: fewest, diverse: by }) => {
                k >= fewest && diverse.covers(by)
            }
            _ => false,
        }
    }

    /// The weakest that is no weaker than either.
    #[must_use]
    pub fn both(self, other: Self) -> Self {
        match (self, other) {
            (one, other) if one.covers(other) => one,
            (one, other) if other.covers(one) => other,
            (Self::Replicated { k, diverse }, Self::Replicated { k: most, diverse: by }) => {
                match (diverse.covers(by), by.covers(diverse)) {
                    (true, _) => Self::Replicated { k: k.max(most), diverse },
                    (_, true) => Self::Replicated { k: k.max(most), diverse: by },
                    // Enclaves of different owners may be machines of one kind, and the other way round.
                    _ => Self::Proven,
                }
            }
            _ => Self::Proven,
        }
    }

    /// How many enclaves run it.
    pub const fn copies(self) -> u8 {
        match self {
            Self::Attested | Self::Proven => 1,
            Self::Replicated { k, .. } => k,
        }
    }

    /// How many of them must agree: more than half.
    pub const fn quorum(self) -> u8 {
        self.copies() / 2 + 1
    }

    /// Whether it can be had at all.
    ///
    /// # Errors
    /// `assurance.replicas`.
    pub fn validate(self) -> Result<(), Rejection> {
        match self {
            Self::Replicated { k, .. } if !(REPLICAS_MIN..=REPLICAS_MAX).contains(&k) => {
                Err(Rejection::new("assurance.replicas", "enclaves that run a replicated call")
                    .expected(format!("{REPLICAS_MIN} to {REPLICAS_MAX}"))
                    .got(k)
                    .fix("an odd number is best: half of an even one is no majority"))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Assurance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attested => f.write_str("attested"),
            Self::Replicated { k, diverse } => write!(f, "replicated by {k}, diverse by {}", diverse.axis()),
            Self::Proven => f.write_str("proven"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_spelling_stays_and_the_new_are_one() {
        let three = Assurance::Replicated { k: 3, diverse: Diversity::Provider };
        for (assurance, text) in [
            (Assurance::Attested, r#""attested""#),
            (three, r#"{"replicated":{"k":3,"diverse":"provider"}}"#),
            (Assurance::Proven, r#""proven""#),
        ] {
            assert_eq!(serde_json::to_string(&assurance).unwrap(), text);
            assert_eq!(serde_json::from_str::<Assurance>(text).unwrap(), assurance);
        }
        for bad in [
            r#""replicated""#,
            r#"{"replicated":{"k":3}}"#,
            r#"{"replicated":{"k":3,"diverse":"region"}}"#,
            r#"{"replicated":{"k":3,"diverse":"chip","more":1}}"#,
            r#"{"replicated":{"k":300,"diverse":"chip"}}"#,
        ] {
            assert!(serde_json::from_str::<Assurance>(bad).is_err(), "{bad}");
        }
    }

    fn all() -> Vec<Assurance> {
        let by = [Diversity::Chip, Diversity::Provider, Diversity::Tee];
        let some = (REPLICAS_MIN..=REPLICAS_MAX).flat_map(|k| by.map(|diverse| Assurance::Replicated { k, diverse }));
        some.chain([Assurance::Attested, Assurance::Proven]).collect()
    }

    #[test]
    fn no_weaker_is_an_order() {
        for a in all() {
            assert!(a.covers(a) && a.covers(Assurance::Attested) && Assurance::Proven.covers(a));
            assert!(a.quorum() * 2 > a.copies() && (a.quorum() - 1) * 2 <= a.copies());
            for b in all() {
                assert!(!(a.covers(b) && b.covers(a)) || a == b, "{a} {b}");
                for c in all() {
                    assert!(!(a.covers(b) && b.covers(c)) || a.covers(c), "{a} {b} {c}");
                }
            }
        }
    }

    #[test]
    fn both_is_the_weakest_that_covers_two() {
        for a in all() {
            for b in all() {
                let both = a.both(b);
                assert!(both.covers(a) && both.covers(b), "{a} {b}: {both}");
                assert_eq!(both, b.both(a), "{a} {b}");
                for c in all() {
                    assert!(!(c.covers(a) && c.covers(b)) || c.covers(both), "{c} is less than {both}, for {a} {b}");
                }
            }
        }
        let (five, three) = (Diversity::Chip, Diversity::Provider);
        let both = Assurance::Replicated { k: 5, diverse: five }.both(Assurance::Replicated { k: 3, diverse: three });
        assert_eq!(both, Assurance::Replicated { k: 5, diverse: three });
    }

    #[test]
    fn one_enclave_is_no_replica_and_a_hundred_are_too_many() {
        for (k, fits) in [(0, false), (1, false), (2, true), (9, true), (10, false), (255, false)] {
            assert_eq!(Assurance::Replicated { k, diverse: Diversity::Chip }.validate().is_ok(), fits, "{k}");
        }
    }
}

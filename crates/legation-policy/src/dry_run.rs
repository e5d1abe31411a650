//! What a policy would do to the enclaves that are there, and what a change of policy would change.

use std::{collections::BTreeMap, fmt};

use legation_core::{Rejection, UnixTime, statement::Tier};
use serde::{Deserialize, Serialize};

use crate::{facts::Subject, placement::PlaceQuestion, policy::Policy};

/// Enclaves that are named for one reason; the others are counted.
pub const NAMED_MAX: usize = 16;

/// What a policy says of one enclave.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// Admitted.
    Admitted {
        /// How well.
        status: Tier,
        /// End of the dated exception it rests on, if it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<UnixTime>,
        /// The permits that hold.
        rules: Vec<String>,
    },
    /// Refused.
    Refused {
        /// Why.
        why: Rejection,
    },
}

impl Verdict {
    fn of(policy: &Policy, subject: Subject<'_>, at: UnixTime) -> Self {
        match policy.admit(subject, at) {
            Ok(admission) => Self::Admitted {
                status: admission.ear.status,
                until: admission.ear.grace.map(|g| g.until),
                rules: admission.rules,
            },
            Err(why) => Self::Refused { why },
        }
    }

    /// Whether work that asks this would be placed.
    fn of_placement(policy: &Policy, subject: Subject<'_>, question: &PlaceQuestion, at: UnixTime) -> Self {
        match policy.place_by(subject, &question.asked(subject.configuration), at) {
            Ok(rules) => Self::Admitted {
                status: Tier::Affirming,
                until: None,
                rules: rules.iter().map(|rule| rule.id.clone()).collect(),
            },
            Err(why) => Self::Refused { why },
        }
    }

    /// Whether two verdicts let in the same, for as long and as well.
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Refused { .. }, Self::Refused { .. }) => true,
            (Self::Admitted { status: a, until: c, .. }, Self::Admitted { status: b, until: d, .. }) => {
                a == b && c == d
            }
            _ => false,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admitted { status, until, rules } => {
                let status = match status {
                    Tier::Affirming => "admitted",
                    Tier::Warning => "admitted with a warning",
                    Tier::Contraindicated => "admitted against the evidence",
                };
                write!(f, "{status} by {}", rules.join(", "))?;
                until.map_or(Ok(()), |until| write!(f, " until {until}"))
            }
            Self::Refused { why } => write!(f, "refused: {why}"),
        }
    }
}

/// Why some enclaves would be refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reason {
    /// The first refusal of this kind; the others have the same check and expectation.
    pub why: Rejection,
    /// How many.
    pub enclaves: usize,
    /// Which, at most [`NAMED_MAX`] of them.
    pub named: Vec<String>,
}

/// What a policy would do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DryRun {
    /// The policy.
    pub policy: String,
    /// Enclaves that were looked at.
    pub enclaves: usize,
    /// Admitted without a warning.
    pub affirmed: usize,
    /// Admitted with a warning.
    pub warned: usize,
    /// Of those, by a dated exception.
    pub graced: usize,
    /// Refused.
    pub refused: usize,
    /// Why, most frequent first.
    pub reasons: Vec<Reason>,
}

/// Holds enclaves, each with its name, against a policy as of `at`.
pub fn dry_run<'a>(policy: &Policy, enclaves: impl IntoIterator<Item = (String, Subject<'a>)>, at: UnixTime) -> DryRun {
    run(policy, enclaves, |subject| Verdict::of(policy, subject, at))
}

/// Holds enclaves, each with its name, against the rules of placement of a policy as of `at`: which of them could take the
/// work. An enclave that could counts as affirmed.
pub fn place_dry_run<'a>(
    policy: &Policy,
    question: &PlaceQuestion,
    enclaves: impl IntoIterator<Item = (String, Subject<'a>)>,
    at: UnixTime,
) -> DryRun {
    run(policy, enclaves, |subject| Verdict::of_placement(policy, subject, question, at))
}

fn run<'a>(
    policy: &Policy,
    enclaves: impl IntoIterator<Item = (String, Subject<'a>)>,
    judge: impl Fn(Subject<'a>) -> Verdict,
) -> DryRun {
    let mut run = DryRun {
        policy: policy.name().to_owned(),
        enclaves: 0,
        affirmed: 0,
        warned: 0,
        graced: 0,
        refused: 0,
        reasons: Vec::new(),
    };
    let mut reasons: BTreeMap<(String, String), Reason> = BTreeMap::new();
    for (name, subject) in enclaves {
        run.enclaves += 1;
        match judge(subject) {
            Verdict::Admitted { status, until, .. } => {
                if status == Tier::Affirming {
                    run.affirmed += 1;
                } else {
                    run.warned += 1;
                }
                run.graced += usize::from(until.is_some());
            }
            Verdict::Refused { why } => {
                run.refused += 1;
                let key = (why.check.clone(), why.expected.clone());
                let reason = reasons.entry(key).or_insert_with(|| Reason { why, enclaves: 0, named: Vec::new() });
                reason.enclaves += 1;
                if reason.named.len() < NAMED_MAX {
                    reason.named.push(name);
                }
            }
        }
    }
    run.reasons = reasons.into_values().collect();
    run.reasons.sort_by_key(|reason| std::cmp::Reverse(reason.enclaves));
    run
}

impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { enclaves, affirmed, warned, graced, refused, .. } = self;
        write!(f, "policy `{}` would refuse {refused} of {enclaves}", self.policy)?;
        for (i, reason) in self.reasons.iter().enumerate() {
            let lead = if i == 0 { ", because" } else { ";" };
            let Rejection { check, expected, got, .. } = &reason.why;
            write!(f, "{lead} {} fail {check}: expected {expected}, got {got}", reason.enclaves)?;
        }
        write!(f, "; it would affirm {affirmed} and admit {warned} with a warning")?;
        if *graced > 0 {
            write!(f, ", {graced} of them by a dated exception")?;
        }
        Ok(())
    }
}

/// An enclave whose verdict changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Its name.
    pub enclave: String,
    /// The verdict so far.
    pub before: Verdict,
    /// The verdict by the other policy.
    pub after: Verdict,
}

/// What a change of policy changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PolicyDiff {
    /// Rules that are new.
    pub added: Vec<String>,
    /// Rules that are gone.
    pub removed: Vec<String>,
    /// Enclaves that were looked at.
    pub enclaves: usize,
    /// Those whose verdict changes.
    pub changes: Vec<Change>,
}

/// Holds enclaves, each with its name, against two policies as of `at`.
pub fn diff<'a>(
    old: &Policy,
    new: &Policy,
    enclaves: impl IntoIterator<Item = (String, Subject<'a>)>,
    at: UnixTime,
) -> PolicyDiff {
    let without = |of: &Policy, other: &Policy| {
        of.rules().filter(|id| !other.rules().any(|o| o == *id)).map(str::to_owned).collect()
    };
    let mut found =
        PolicyDiff { added: without(new, old), removed: without(old, new), enclaves: 0, changes: Vec::new() };
    for (enclave, subject) in enclaves {
        found.enclaves += 1;
        let (before, after) = (Verdict::of(old, subject, at), Verdict::of(new, subject, at));
        if !before.same(&after) {
            found.changes.push(Change { enclave, before, after });
        }
    }
    found
}

impl fmt::Display for PolicyDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (sign, rules) in [("-", &self.removed), ("+", &self.added)] {
            for rule in rules {
                writeln!(f, "{sign} rule {rule}")?;
            }
        }
        write!(f, "{} of {} enclaves change", self.changes.len(), self.enclaves)?;
        for Change { enclave, before, after } in &self.changes {
            write!(f, "\n{enclave}\n  - {before}\n  + {after}")?;
        }
        Ok(())
    }
}

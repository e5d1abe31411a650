//! What a reader demands of a receipt beside that it is valid: who may have run it, where, on what, how well assured, how freshly
//! proven.
//!
//! A valid receipt shows what happened; whether that is good enough is its reader's to say. The demands are held against what the
//! receipt proved ([`Verdict::executions`]), each for itself: all that are not met are named, and not only the first. They are of
//! *every* execution, of fragments as well as of the parts that were handed on, dissenters included:
//! 1. `anchors`: the root that its enclave rests on (and those of the members of a swarm, who see the work too);
//! 2. `tee`: the kind of its machine;
//! 3. `providers`, `regions`, `jurisdictions`: whose it is and where it stands, by its own word and by whoever attests that;
//! 4. `assurance`, and `assurance_of_calls` for what was handed on: how its result is assured, at least;
//! 5. `maximum_proof_age`: the time from the judgement of its evidence to the end of the execution;
//! 6. `maximum_depth`: how often work was handed on;
//! 7. `modules`: what ran;
//!
//! and of the receipt as a whole:
//! 8. `completed`: the task did not fail;
//! 9. `log`: its statements are in a transparency log of the reader's anchors.
//!
//! What they do not reach is what no receipt shows: attempts that left no report.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Anchor, Digest, Execution, Rejection, Verdict};
use crate::{
    claims::TeeKind,
    id::{ProviderId, Region},
    statement::Assurance,
};

/// Largest file of demands, in bytes.
pub const DEMANDS_MAX: usize = 1 << 20;
/// Executions that a refusal names, and entries of a list that it repeats.
const NAMED_MAX: usize = 4;

/// A reader's demands. What is not said is not demanded.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demands {
    /// Roots that enclaves may rest on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchors: Option<Vec<AnchorName>>,
    /// Kinds of machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tee: Option<Vec<TeeKind>>,
    /// Owners of machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub providers: Option<Vec<ProviderId>>,
    /// Regions, by their whole names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions: Option<Vec<Region>>,
    /// Beginnings of names of regions, up to a `-` or the end: `eu` is `eu-north` and `eu`, and not `europe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jurisdictions: Option<Vec<Region>>,
    /// How every result is assured, at least. Whole fragments are `attested`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assurance: Option<Assurance>,
    /// How the results of parts that were handed on are assured, at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assurance_of_calls: Option<Assurance>,
    /// Seconds from a passport's issue to the end of the execution, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_proof_age: Option<u64>,
    /// How often work may have been handed on; 0 for not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_depth: Option<u32>,
    /// Modules that may have run, by SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modules: Option<Vec<Digest>>,
    /// Whether the task must have completed.
    #[serde(default)]
    pub completed: bool,
    /// Whether the statements must be in a log.
    #[serde(default)]
    pub log: bool,
}

/// An anchor as verdicts show it and demands name it: `production(amd-milan)`, `development(local)`. Never the bare name, which a
/// development root may share with a vendor's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AnchorName(pub Anchor);

impl TryFrom<String> for AnchorName {
    type Error = Rejection;

    fn try_from(text: String) -> Result<Self, Rejection> {
        let parts = text.strip_suffix(')').and_then(|open| open.split_once('('));
        match parts {
            Some(("production", name)) if !name.is_empty() => Ok(Self(Anchor::Production(name.to_owned()))),
            Some(("development", name)) if !name.is_empty() => Ok(Self(Anchor::Development(name.to_owned()))),
            _ => Err(Rejection::new("demand.anchors", "name of an anchor")
                .expected("as verdicts show it, such as `production(amd-milan)` or `development(local)`")
                .got(text)),
        }
    }
}

impl From<AnchorName> for String {
    fn from(name: AnchorName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for AnchorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Demands {
    /// Reads them from JSON.
    ///
    /// # Errors
    /// `demand.size`, `demand.format`; or as [`Self::validate`].
    pub fn from_json(text: &[u8]) -> Result<Self, Rejection> {
        Self::check_size(text.len())?;
        let bad = |got: &dyn std::fmt::Display| {
            Rejection::new("demand.format", "a reader's demands").expected("fields of its format, each once").got(got)
        };
        // Fields in a list, without their names, are read as an object too.
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(bad(&"no object"));
        }
        let demands: Self = serde_json::from_slice(text).map_err(|e| bad(&e))?;
        demands.validate()?;
        Ok(demands)
    }

    /// Whether a file of demands may be so large.
    ///
    /// # Errors
    /// `demand.size`.
    pub fn check_size(bytes: usize) -> Result<(), Rejection> {
        if bytes <= DEMANDS_MAX {
            return Ok(());
        }
        Err(Rejection::new("demand.size", "size of a reader's demands")
            .expected(format!("at most {DEMANDS_MAX} bytes"))
            .got(bytes))
    }

    /// Whether they can be meant so: something is demanded, and every list allows something.
    ///
    /// # Errors
    /// `demand.nothing`, `demand.empty` or `assurance.replicas`.
    pub fn validate(&self) -> Result<(), Rejection> {
        if *self == Self::default() {
            return Err(Rejection::new("demand.nothing", "a reader's demands")
                .expected("at least one")
                .got("none")
                .fix("leave the policy out to demand no more than that the receipt is valid"));
        }
        let lengths = [
            ("anchors", self.anchors.as_ref().map(Vec::len)),
            ("tee", self.tee.as_ref().map(Vec::len)),
            ("providers", self.providers.as_ref().map(Vec::len)),
            ("regions", self.regions.as_ref().map(Vec::len)),
            ("jurisdictions", self.jurisdictions.as_ref().map(Vec::len)),
            ("modules", self.modules.as_ref().map(Vec::len)),
        ];
        if let Some((name, _)) = lengths.into_iter().find(|(_, len)| *len == Some(0)) {
            return Err(Rejection::new("demand.empty", format!("what `{name}` allows"))
                .expected("something")
                .got("an empty list, which no receipt can meet")
                .fix(format!("leave `{name}` out to allow all")));
        }
        [self.assurance, self.assurance_of_calls].into_iter().flatten().try_for_each(Assurance::validate)
    }

    /// Every demand that a valid receipt does not meet, each once; nothing when it meets all. `logged` is whether its statements
    /// are shown to be in a log that the reader trusts.
    pub fn unmet(&self, verdict: &Verdict, logged: bool) -> Vec<Rejection> {
        [
            self.of_anchors(verdict),
            self.of_tees(verdict),
            self.of_providers(verdict),
            self.of_regions(verdict),
            self.of_jurisdictions(verdict),
            of_assurance("assurance", self.assurance, verdict, |_| true),
            of_assurance("assurance_of_calls", self.assurance_of_calls, verdict, |ran| ran.call.is_some()),
            self.of_age(verdict),
            self.of_depth(verdict),
            self.of_modules(verdict),
            self.of_end(verdict),
            self.of_log(logged),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn of_anchors(&self, verdict: &Verdict) -> Option<Rejection> {
        let allowed = self.anchors.as_ref()?;
        let why = demand("anchors", "root that an enclave rests on").expected(one_of(allowed));
        let other = |ran: &Execution| !allowed.iter().any(|name| name.0 == ran.anchor);
        let members = || {
            let names: Vec<String> = allowed.iter().map(ToString::to_string).collect();
            let other = verdict.anchors.iter().find(|name| !names.contains(name))?;
            Some(why.clone().got(format!("{other} under a member of a swarm")))
        };
        each(verdict, why.clone(), |ran| other(ran).then(|| ran.anchor.to_string())).or_else(members)
    }

    fn of_tees(&self, verdict: &Verdict) -> Option<Rejection> {
        let allowed = self.tee.as_ref()?;
        let why = demand("tee", "kind of machine").expected(one_of(allowed));
        each(verdict, why, |ran| (!allowed.contains(&ran.tee)).then(|| ran.tee.to_string()))
    }

    fn of_providers(&self, verdict: &Verdict) -> Option<Rejection> {
        let allowed = self.providers.as_ref()?;
        let why = demand("providers", "owner of a machine").expected(one_of(allowed));
        each(verdict, why, |ran| (!allowed.contains(&ran.provider)).then(|| ran.provider.to_string()))
    }

    fn of_regions(&self, verdict: &Verdict) -> Option<Rejection> {
        let allowed = self.regions.as_ref()?;
        let why = demand("regions", "region of an enclave").expected(one_of(allowed));
        each(verdict, why, |ran| ran.regions().find(|region| !allowed.contains(region)).map(ToString::to_string))
    }

    fn of_jurisdictions(&self, verdict: &Verdict) -> Option<Rejection> {
        let allowed = self.jurisdictions.as_ref()?;
        let why = demand("jurisdictions", "jurisdiction of an enclave's region").expected(one_of(allowed));
        let within = |region: &Region| allowed.iter().any(|jurisdiction| is_in(region, jurisdiction));
        each(verdict, why, |ran| ran.regions().find(|region| !within(region)).map(ToString::to_string))
    }

    fn of_age(&self, verdict: &Verdict) -> Option<Rejection> {
        let most = self.maximum_proof_age?;
        let why = demand("maximum_proof_age", "time from the proof of an enclave to the end of its work")
            .expected(format!("at most {most} s"));
        each(verdict, why, |ran| (ran.proof_age > most).then(|| format!("{} s", ran.proof_age)))
    }

    fn of_depth(&self, verdict: &Verdict) -> Option<Rejection> {
        let most = self.maximum_depth?;
        let why = demand("maximum_depth", "how often work was handed on").expected(format!("at most {most}"));
        each(verdict, why, |ran| (ran.depth > most).then(|| ran.depth.to_string()))
    }

    fn of_modules(&self, verdict: &Verdict) -> Option<Rejection> {
        let allowed = self.modules.as_ref()?;
        let why = demand("modules", "module that ran").expected(one_of(allowed));
        each(verdict, why, |ran| (!allowed.contains(&ran.module)).then(|| ran.module.to_string()))
    }

    fn of_end(&self, verdict: &Verdict) -> Option<Rejection> {
        let unmet = self.completed && !verdict.completed;
        unmet.then(|| demand("completed", "how the task ended").expected("completed").got("failed"))
    }

    fn of_log(&self, logged: bool) -> Option<Rejection> {
        let unmet = self.log && !logged;
        unmet.then(|| {
            demand("log", "whether the statements are in a log")
                .expected("shown to be in one that the anchors name")
                .got("not shown")
                .fix("`legation log prove` adds the proofs; `logs` in the anchors names logs")
        })
    }
}

fn of_assurance(
    name: &str,
    least: Option<Assurance>,
    verdict: &Verdict,
    concerns: impl Fn(&Execution) -> bool,
) -> Option<Rejection> {
    let least = least?;
    let why = demand(name, "assurance of a result").expected(format!("{least} at least"));
    each(verdict, why, |ran| (concerns(ran) && !ran.assurance.covers(least)).then(|| ran.assurance.to_string()))
}

/// Whether a region is in a jurisdiction, by its name.
fn is_in(region: &Region, jurisdiction: &Region) -> bool {
    match region.as_str().strip_prefix(jurisdiction.as_str()) {
        Some(rest) => rest.is_empty() || rest.starts_with('-'),
        None => false,
    }
}

fn demand(name: &str, claim: &str) -> Rejection {
    Rejection::new(&format!("demand.{name}"), claim.to_owned())
}

fn one_of(allowed: &[impl fmt::Display]) -> String {
    let named: Vec<String> = allowed.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    format!("one of {}{}", named.join(", "), more(allowed.len().saturating_sub(NAMED_MAX)))
}

fn more(count: usize) -> String {
    if count == 0 { String::new() } else { format!(", and {count} more") }
}

/// The refusal of what is demanded of every execution, with those that do not meet it: `found` says what is wrong with one.
fn each(verdict: &Verdict, why: Rejection, found: impl Fn(&Execution) -> Option<String>) -> Option<Rejection> {
    // A receipt is of something that ran: where nothing did, nothing is met.
    if verdict.executions.is_empty() {
        return Some(why.got("nothing that ran"));
    }
    let mut unmet = verdict.executions.iter().filter_map(|ran| Some(format!("{} in {}", found(ran)?, ran.place())));
    let named: Vec<String> = unmet.by_ref().take(NAMED_MAX).collect();
    if named.is_empty() {
        return None;
    }
    let rest = more(unmet.count());
    Some(why.got(format!("{}{rest}", named.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jurisdiction_ends_where_a_word_ends() {
        for (region, jurisdiction, inside) in [
            ("eu-north", "eu", true),
            ("eu", "eu", true),
            ("europe-1", "eu", false),
            ("eu-north-1", "eu-north", true),
            ("eu", "eu-north", false),
            ("us-east", "eu", false),
        ] {
            let name = |text: &str| Region::new(text).unwrap();
            assert_eq!(is_in(&name(region), &name(jurisdiction)), inside, "{region} in {jurisdiction}");
        }
    }

    #[test]
    fn an_anchor_is_named_with_its_kind() {
        for (text, anchor) in [
            ("production(amd-milan)", Some(Anchor::Production("amd-milan".into()))),
            ("development(local)", Some(Anchor::Development("local".into()))),
            ("development(a(b))", Some(Anchor::Development("a(b)".into()))),
            ("amd-milan", None),
            ("production()", None),
            ("production(amd-milan", None),
            ("Production(amd-milan)", None),
            ("", None),
        ] {
            let read = AnchorName::try_from(text.to_owned());
            assert_eq!(read.as_ref().ok().map(|name| &name.0), anchor.as_ref(), "{text}");
            if let Ok(name) = read {
                assert_eq!(String::from(name), text);
            }
        }
    }
}

//! One rule: what its annotations say, and its conditions.
//!
//! | annotation | on | says |
//! |---|---|---|
//! | `@id("known-image")` | every rule | its name, unique in the policy; refusals are named after it |
//! | `@grace("2027-01-31")` | permit | it permits until the end of that day (UTC) and with a warning; passports end there |
//! | `@why("..")` | permit with `@grace` | what must be mended until then |
//! | `@fix("..")` | every rule | what to do when it is what refuses |
//! | `@passport_seconds("600")` | permit | life of the passports it leads to; the least of all that permit counts |

use std::collections::BTreeSet;

use cedar_policy::Effect;
use legation_attest::appraisal::PASSPORT_SECONDS_MAX;
use legation_core::UnixTime;

use crate::{
    conjunct::{Conjunct, conjuncts},
    date,
    problem::Problem,
    reference,
    scan::Token,
};

/// Longest text of an annotation, in bytes.
const ANNOTATION_MAX: usize = 512;

/// A rule that was loaded.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) id: String,
    pub(crate) permits: bool,
    /// Last second of a dated exception, and what must be mended until then.
    pub(crate) grace: Option<(UnixTime, String)>,
    pub(crate) fix: Option<String>,
    pub(crate) passport_seconds: Option<u64>,
    pub(crate) conjuncts: Vec<Conjunct>,
}

impl Rule {
    /// Whether it says anything at `at`.
    pub(crate) fn holds_at(&self, at: UnixTime) -> bool {
        self.grace.as_ref().is_none_or(|(until, _)| at <= *until)
    }

    /// Reads a rule that Cedar has parsed; `tokens` are its words in `text`. What is wrong goes to `problems`.
    pub(crate) fn read(
        text: &str,
        tokens: &[Token<'_>],
        policy: &cedar_policy::Policy,
        known: &BTreeSet<String>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let at = tokens.first().map_or(0, |t| t.at);
        let id = policy.annotation("id").unwrap_or_default().to_owned();
        let named = (!id.is_empty()).then_some(id.as_str());
        let mut wrong = |check: &str, what: String, hint: &str| {
            problems.push(Problem::new(check, what, hint).at(text, at).rule(named))
        };
        match &id {
            id if id.is_empty() => {
                wrong("policy.id", "a rule without a name".to_owned(), "write `@id(\"..\")` before it");
            }
            id if !reference::is_name(id) => {
                wrong("policy.id", format!("`{}` is no name of a rule", id.escape_debug()), reference::NAME_RULE);
            }
            id if known.contains(id) => {
                wrong("policy.id", "two rules have this name".to_owned(), "give each rule a name of its own");
            }
            _ => {}
        }
        let permits = policy.effect() == Effect::Permit;
        for (name, value) in policy.annotations() {
            match name {
                "id" | "fix" => {}
                "grace" | "why" | "passport_seconds" if permits => {}
                "grace" | "why" | "passport_seconds" => {
                    wrong("policy.annotation", format!("`@{name}` on a forbid"), "it belongs on a permit");
                }
                _ => wrong(
                    "policy.annotation",
                    format!("annotation `@{name}`"),
                    "known are @id, @fix, @grace, @why and @passport_seconds",
                ),
            }
            if value.len() > ANNOTATION_MAX || value.chars().any(char::is_control) {
                let what = format!("text of `@{name}`");
                wrong("policy.annotation", what, "write at most 512 bytes on one line");
            }
        }
        let text_of = |name: &str| policy.annotation(name).map(str::to_owned);
        let grace = match (text_of("grace"), text_of("why")) {
            (None, None) => None,
            (None, Some(_)) => {
                wrong("policy.annotation", "`@why` without `@grace`".to_owned(), "say until when it is accepted");
                None
            }
            (Some(day), why) => {
                if why.as_ref().is_none_or(|why| why.trim().is_empty()) {
                    wrong(
                        "policy.annotation",
                        "`@grace` without `@why`".to_owned(),
                        "say what must be mended until then",
                    );
                }
                match date::end_of_day(&day) {
                    Some(until) => Some((until, why.unwrap_or_default())),
                    None => {
                        let what = format!("`@grace(\"{}\")` names no day", day.escape_debug());
                        wrong("policy.annotation", what, "write it as `2027-01-31`");
                        None
                    }
                }
            }
        };
        let passport_seconds = text_of("passport_seconds").and_then(|seconds| {
            let number = seconds.parse().ok().filter(|n| (1..=PASSPORT_SECONDS_MAX).contains(n));
            if number.is_none() {
                let what = format!("`@passport_seconds(\"{}\")`", seconds.escape_debug());
                wrong("policy.annotation", what, "write a number from 1 to 3600");
            }
            number
        });
        Self { permits, grace, fix: text_of("fix"), passport_seconds, conjuncts: conjuncts(tokens), id }
    }
}

//! One rule: what its annotations say, and its conditions.
//!
//! | annotation | on | says |
//! |---|---|---|
//! | `@id("known-image")` | every rule | its name, unique in the policy; refusals are named after it |
//! | `@grace("2027-01-31")` | permit | it permits until the end of that day (UTC) and with a warning; passports end there |
//! | `@why("..")` | permit with `@grace` | what must be mended until then |
//! | `@fix("..")` | every rule | what to do when it is what refuses |
//! | `@passport_seconds("600")` | permit | life of the passports it leads to; the least of all that permit counts |
//! | `@limit_cpu("4")`, `@limit_memory("8 GiB")`, `@limit_fuel("20 G")`, `@limit_time("10 min")`, `@limit_egress("1 MiB")`, `@min_encryption("aes-256-gcm")` | permit of placement | what the work may use there; the least of all that permit counts |

use std::collections::BTreeSet;

use cedar_policy::{ActionConstraint, Effect, EntityUid};
use legation_attest::appraisal::PASSPORT_SECONDS_MAX;
use legation_core::{Allowance, Encryption, UnixTime};

use crate::{
    amount,
    conjunct::{Conjunct, conjuncts},
    date,
    problem::Problem,
    reference,
    scan::Token,
};

/// Longest text of an annotation, in bytes.
const ANNOTATION_MAX: usize = 512;

/// What a rule is about, by its action.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum About {
    /// Who becomes, and stays, an enclave of the pool or of a tenant's choice.
    Admit,
    /// Whose work is placed where: `action == Action::"place"`.
    Place,
}

/// Annotations that belong on permits of admission, and on permits of placement.
const OF_ADMISSION: [&str; 3] = ["grace", "why", "passport_seconds"];
const OF_PLACEMENT: [&str; 6] =
    ["limit_cpu", "limit_memory", "limit_fuel", "limit_time", "limit_egress", "min_encryption"];

/// A rule that was loaded.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) id: String,
    pub(crate) about: About,
    pub(crate) permits: bool,
    /// What work may use that it lets be placed.
    pub(crate) limits: Option<Allowance>,
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
        let about = match about(&policy.action_constraint()) {
            Some(about) => about,
            None => {
                let what = "`Action::\"place\"` beside another action".to_owned();
                wrong("policy.action", what, "write a rule for each: they ask about different things");
                About::Place
            }
        };
        for (name, value) in policy.annotations() {
            let belongs = match about {
                _ if matches!(name, "id" | "fix") => Ok(()),
                About::Admit if OF_ADMISSION.contains(&name) => Ok(()),
                About::Place if OF_PLACEMENT.contains(&name) => Ok(()),
                About::Place if OF_ADMISSION.contains(&name) => Err("it belongs on a permit of admission"),
                About::Admit if OF_PLACEMENT.contains(&name) => {
                    Err("it belongs on a permit of placement: `action == Action::\"place\"`")
                }
                _ => Err("known are @id, @fix, @grace, @why, @passport_seconds, and on permits of placement \
                          @limit_cpu, @limit_memory, @limit_fuel, @limit_time, @limit_egress, @min_encryption"),
            };
            match belongs {
                Err(hint) => wrong("policy.annotation", format!("annotation `@{name}`"), hint),
                Ok(()) if !permits && !matches!(name, "id" | "fix") => {
                    wrong("policy.annotation", format!("`@{name}` on a forbid"), "it belongs on a permit");
                }
                Ok(()) => {}
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
        let limits = limits(policy, &mut wrong);
        let conjuncts = conjuncts(tokens, about);
        Self { about, permits, limits, grace, fix: text_of("fix"), passport_seconds, conjuncts, id }
    }
}

/// What a rule is about; nothing where it is about placement and something else.
fn about(constraint: &ActionConstraint) -> Option<About> {
    let place = |uid: &EntityUid| {
        let (kind, id): (String, &str) = (uid.type_name().to_string(), uid.id().as_ref());
        kind == "Action" && id == "place"
    };
    match constraint {
        ActionConstraint::Eq(uid) if place(uid) => Some(About::Place),
        ActionConstraint::In(all) if all.iter().all(place) && !all.is_empty() => Some(About::Place),
        ActionConstraint::In(all) if all.iter().any(place) => None,
        _ => Some(About::Admit),
    }
}

/// What its annotations let work use; nothing where they say nothing.
fn limits(policy: &cedar_policy::Policy, wrong: &mut dyn FnMut(&str, String, &str)) -> Option<Allowance> {
    let mut read = |name: &str, hint: &str, set: &mut dyn FnMut(&str) -> bool| {
        if let Some(text) = policy.annotation(name)
            && !set(text)
        {
            wrong("policy.annotation", format!("`@{name}(\"{}\")`", text.escape_debug()), hint);
        }
    };
    let mut all = Allowance::default();
    read("limit_cpu", "write cores, such as `4` or `0.5`", &mut |text| {
        all.cpu = amount::cores(text);
        all.cpu.is_some()
    });
    read("limit_memory", "write bytes, such as `8 GiB`", &mut |text| {
        all.memory = amount::bytes(text);
        all.memory.is_some()
    });
    read("limit_fuel", "write a number, such as `20 G` (k, M, G, T)", &mut |text| {
        all.fuel = amount::fuel(text);
        all.fuel.is_some()
    });
    read("limit_time", "write a time, such as `500 ms`, `30 s`, `10 min`, `2 h`", &mut |text| {
        all.time = amount::time(text);
        all.time.is_some()
    });
    read("limit_egress", "write bytes, such as `100 MiB`", &mut |text| {
        all.egress = amount::bytes(text);
        all.egress.is_some()
    });
    let names = Encryption::ALL.map(Encryption::name).join(", ");
    read("min_encryption", &format!("write one of {names}"), &mut |text| {
        all.encryption = Encryption::named(text);
        all.encryption.is_some()
    });
    (!all.is_unlimited()).then_some(all)
}

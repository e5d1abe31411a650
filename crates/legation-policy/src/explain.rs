//! Why a policy refuses: the rule, its condition in the author's words, what was found, what would make it pass.
//!
//! Where a forbid fires, it is that one. Where no permit holds, it is the closest: the one with the fewest conditions that
//! fail, the first of those in the text; and of it, the first condition that fails. The others are named in the advice.

use cedar_policy::{Authorizer, PolicySet};
use legation_core::Rejection;

use crate::{
    appraise::Question,
    conjunct::Conjunct,
    facts::Facts,
    policy::{Machine, Policy, policy_id},
    rule::{About, Rule},
};

/// Longest condition that is shown, in characters.
const SHOWN_MAX: usize = 300;
/// Other permits that are named.
const OTHERS_MAX: usize = 3;

/// The conditions of permits one by one, so that the closest permit can be found.
pub(crate) struct Pieces {
    authorizer: Authorizer,
    /// Every conjunct of every permit as a rule of its own; `policyN` is the Nth of [`Self::of`].
    conjuncts: PolicySet,
    /// Of which rule, and which of its conjuncts.
    of: Vec<(usize, usize)>,
    about: About,
}

impl Pieces {
    /// Of the permits among `rules` that are about this.
    pub(crate) fn new(rules: &[Rule], about: About) -> Option<Self> {
        let permits = rules.iter().enumerate().filter(|(_, rule)| rule.permits && rule.about == about);
        let of: Vec<(usize, usize)> =
            permits.flat_map(|(rule, r)| (0..r.conjuncts.len()).map(move |piece| (rule, piece))).collect();
        let mut conjuncts = PolicySet::new();
        for (index, (rule, piece)) in of.iter().enumerate() {
            let text = &rules.get(*rule)?.conjuncts.get(*piece)?.text;
            let source = format!("permit (principal, action, resource) when {{ {text} }};");
            conjuncts.add(cedar_policy::Policy::parse(Some(policy_id(index)), source).ok()?).ok()?;
        }
        Some(Self { authorizer: Authorizer::new(), conjuncts, of, about })
    }
}

impl Policy {
    pub(crate) fn claim(&self, rule: &Rule) -> String {
        format!("rule `{}` of policy `{}`", rule.id, self.name)
    }

    /// A forbid fires.
    pub(crate) fn forbidden(&self, rule: &Rule, facts: &Facts<'_>) -> Rejection {
        let conditions: Vec<_> = rule.conjuncts.iter().map(|c| c.text.as_str()).collect();
        let expected = if conditions.is_empty() {
            "nothing: it forbids everything".to_owned()
        } else {
            format!("not ({})", shown(&conditions.join(" && ")))
        };
        let fix = rule.fix.clone().unwrap_or_else(|| {
            let generic = self.advice(&rule.conjuncts, facts).map(|a| format!("{a}, or ")).unwrap_or_default();
            format!("{generic}change rule `{}`", rule.id)
        });
        Rejection::new(&format!("policy.{}", rule.id), self.claim(rule))
            .expected(expected)
            .got(found(rule.conjuncts.iter(), facts))
            .fix(fix)
    }

    /// No permit holds; `lapsed` are those that would, had their dated exceptions not ended.
    pub(crate) fn refusal(
        &self,
        facts: &Facts<'_>,
        question: &Question,
        pieces: &Pieces,
        lapsed: &[&Rule],
    ) -> Rejection {
        if let Some(rule) = lapsed.first()
            && let Some((until, why)) = &rule.grace
        {
            let generic = || format!("mend what it excused: {why}");
            return Rejection::new(&format!("policy.{}", rule.id), self.claim(rule))
                .expected(format!("until {until}: a dated exception"))
                .got(format!("now {}", facts.at))
                .fix(rule.fix.clone().unwrap_or_else(generic));
        }
        let mut near = self.near(question, pieces);
        // Stable: among equals the first of the text stays first.
        near.sort_by_key(|(_, failing)| failing.len());
        let Some((rule, failing)) = near.first() else {
            return Rejection::new("policy.permit", format!("policy `{}`", self.name))
                .expected("a rule that permits")
                .got("none")
                .fix("add a permit");
        };
        let Some(first) = failing.first() else {
            // Each condition holds alone, yet the rule does not: only a defect of the splitting could say so.
            return Rejection::new(&format!("policy.{}", rule.id), self.claim(rule))
                .expected(shown(&rule.conjuncts.iter().map(|c| c.text.as_str()).collect::<Vec<_>>().join(" && ")))
                .got(found(rule.conjuncts.iter(), facts))
                .fix(rule.fix.clone().unwrap_or_else(|| format!("meet rule `{}`", rule.id)));
        };
        let count = match failing.len() {
            1 => String::new(),
            n => format!(" (the first of {n} conditions that fail)"),
        };
        let others: Vec<_> = near.iter().skip(1).map(|(rule, _)| format!("`{}`", rule.id)).collect();
        let others = match others.len() {
            0 => String::new(),
            n if n > OTHERS_MAX => format!("; or meet one of {n} other rules"),
            1 => format!("; or meet rule {}", others.join("")),
            _ => format!("; or meet one of the rules {}", others.join(", ")),
        };
        let fix = rule.fix.clone().unwrap_or_else(|| {
            let one = std::slice::from_ref(*first);
            self.advice(one, facts).unwrap_or_else(|| format!("meet rule `{}`, or change the policy", rule.id))
        });
        Rejection::new(&format!("policy.{}", rule.id), self.claim(rule))
            .expected(format!("{}{count}", shown(&first.text)))
            .got(found(std::iter::once(*first), facts))
            .fix(format!("{fix}{others}"))
    }

    /// What commonly mends a condition.
    fn advice(&self, conjuncts: &[Conjunct], facts: &Facts<'_>) -> Option<String> {
        let first = conjuncts.iter().flat_map(|c| &c.reads).find_map(|path| path.first())?;
        let claims = facts.subject.claims;
        Some(match first.as_str() {
            "image" if let Some((value, register)) = self.references.other_guest(claims, facts.at) => {
                let got = claims.registers.get(register).map_or("nothing", String::as_str);
                format!(
                    "reference value `{}` is of this measurement, and of another guest: `{register}` is {got} here; run that \
                     image, or make a reference value of this one (`legation reference add`)",
                    value.name
                )
            }
            "image" if let Some(value) = self.references.expired_image(claims, facts.at) => {
                let end = value.expires.unwrap_or(facts.at);
                format!(
                    "reference value `{}` expired at {end}: update the enclave, or ask {} to renew it",
                    value.name, value.owner
                )
            }
            "image" | "measurement" | "registers" => {
                "run an image that the policy names, or make a reference value of this one (`legation reference add`)"
                    .to_owned()
            }
            "tcb" if !facts.tcb.shortfall.is_empty() => {
                let behind: Vec<_> = facts.tcb.shortfall.iter().map(ToString::to_string).collect();
                format!("update the machine's firmware: {}", behind.join(", "))
            }
            "tcb" => {
                "update the machine's firmware, or say by `legation reference add NAME --firmware` what is current"
                    .into()
            }
            "debug" => "launch the guest with a policy that forbids debugging".to_owned(),
            "vmpl" => "ask for the report from a more privileged level".to_owned(),
            "development" => "use real hardware".to_owned(),
            "confidential" => "use a machine that hides its memory from its host".to_owned(),
            "revocation_checked" => {
                "give the verifier the revocation lists of the machine's authorities (`legation collateral status`)"
                    .to_owned()
            }
            "features" => "use a machine whose hardware reports this feature".to_owned(),
            "context" if facts.asked.is_some() => {
                "say something else of the data, ask for less, or have another enclave permitted".to_owned()
            }
            "stale_collateral" => "renew the collateral (`legation collateral status` shows what is stale)".to_owned(),
            _ => return None,
        })
    }

    /// Each permit that may still count, with its conditions that fail.
    fn near(&self, question: &Question, pieces: &Pieces) -> Vec<(&Rule, Vec<&Conjunct>)> {
        let response = pieces.authorizer.is_authorized(&question.request, &pieces.conjuncts, &question.entities);
        // What cannot be evaluated is not among the reasons: it fails.
        let mut holds = vec![false; pieces.of.len()];
        for index in response.diagnostics().reason().filter_map(Machine::index) {
            if let Some(piece) = holds.get_mut(index) {
                *piece = true;
            }
        }
        let rules = self.rules.iter().enumerate().filter(|(_, rule)| rule.permits && rule.about == pieces.about);
        rules
            .map(|(index, rule)| {
                let own = pieces.of.iter().zip(&holds).filter(|((of, _), holds)| *of == index && !**holds);
                (rule, own.filter_map(|((_, piece), _)| rule.conjuncts.get(*piece)).collect())
            })
            .collect()
    }
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}..", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}

/// The values that conditions read, each once.
fn found<'a>(conjuncts: impl Iterator<Item = &'a Conjunct>, facts: &Facts<'_>) -> String {
    let mut told: Vec<String> = Vec::new();
    for path in conjuncts.flat_map(|c| &c.reads) {
        let text = facts.tell(path);
        if !told.contains(&text) {
            told.push(text);
        }
    }
    if told.is_empty() { "not so".to_owned() } else { told.join(", ") }
}

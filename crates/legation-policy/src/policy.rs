//! A policy as it is loaded: everything that can be wrong in a text is found here, before anything is judged by it.
//!
//! [`Policy::load`] makes these checks, in this order; each stage tells all that it finds.
//!
//! 1. `policy.name`: the name is one.
//! 2. `policy.size`, `policy.rules`, `policy.depth`: at most [`TEXT_MAX`] bytes, [`RULES_MAX`] rules, and no expression
//!    nested so deep that reading it needs much of a stack.
//! 3. `policy.syntax`: it is Cedar. `policy.template`: without placeholders.
//! 4. `policy.id`, `policy.annotation`, `policy.action`: every rule has a name of its own, annotations that we know, and is
//!    about admission or about placement.
//! 5. `policy.schema`: it asks only about what the schema has, in its types (Cedar's strict validation).
//! 6. `policy.reference`: every `Image::"NAME"` is a reference value. `policy.entity`: no other thing is named that is not
//!    there.
//! 7. `policy.permit`: it permits something: to be admitted, and to be placed where it has a rule of placement.
//!
//! What is doubtful but no error is told by [`Policy::warnings`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    sync::Arc,
};

use cedar_policy::{
    Authorizer, Effect, EntityUid, PolicyId, PolicySet, PrincipalConstraint, Schema, ValidationMode, Validator,
};
use legation_attest::appraisal::PASSPORT_SECONDS_DEFAULT;
use legation_core::{Digest, TenantId, UnixTime};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};

use crate::{
    explain::Pieces,
    facts::{ATTRIBUTES, Words},
    placement::Placing,
    problem::{PolicyError, Problem},
    reference::{self, ReferenceKind, References},
    rule::{About, Rule},
    scan::{self, Token},
    schema,
};

/// Longest text, in bytes.
pub const TEXT_MAX: usize = 64 << 10;
/// Most rules.
pub const RULES_MAX: usize = 256;

/// What a verifier's own configuration says, and no policy text can.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Whether development evidence may be admitted at all.
    pub allow_development: bool,
    /// Whose work the policy is asked about.
    pub scope: Scope,
}

impl Options {
    /// What a policy of this scope is loaded with, where the verifiers are configured like this. A tenant chooses among
    /// enclaves that a verifier admitted: what that verifier allows is not asked again.
    pub fn of(scope: Scope, allow_development: bool) -> Self {
        Self { allow_development: allow_development || matches!(scope, Scope::Tenant(_)), scope }
    }
}

/// Whose work a policy is asked about: the `resource` of its rules. As text, `appraisal` or `tenant/NAME`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Scope {
    /// The pool as a whole: `Pool::"pool"`.
    #[default]
    Pool,
    /// One tenant's: `Tenant::"NAME"`.
    Tenant(TenantId),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool => f.write_str("appraisal"),
            Self::Tenant(tenant) => write!(f, "tenant/{tenant}"),
        }
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

/// A text that names no policy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` names no policy: write `appraisal` or `tenant/NAME`")]
pub struct ScopeError(String);

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        match text.strip_prefix("tenant/") {
            Some(tenant) => TenantId::new(tenant).ok().map(Self::Tenant),
            None => (text == "appraisal").then_some(Self::Pool),
        }
        .ok_or_else(|| ScopeError(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for Scope {
    type Error = ScopeError;

    fn try_from(text: String) -> Result<Self, ScopeError> {
        text.parse()
    }
}

impl Scope {
    fn entity(&self) -> Option<EntityUid> {
        match self {
            Self::Pool => schema::entity("Pool", "pool"),
            Self::Tenant(tenant) => schema::entity("Tenant", &tenant.to_string()),
        }
    }
}

/// A policy that was loaded, with the reference values it is held to.
#[derive(Clone)]
pub struct Policy {
    pub(crate) name: String,
    text: Arc<str>,
    digest: Digest,
    pub(crate) options: Options,
    pub(crate) rules: Vec<Rule>,
    pub(crate) references: Arc<References>,
    /// Names of images that rules name.
    images: BTreeSet<String>,
    doubts: Vec<Problem>,
    pub(crate) machine: Arc<Machine>,
    /// Its rules of placement, if it has any.
    pub(crate) placing: Option<Arc<Placing>>,
    /// Entities of the images there are.
    pub(crate) entities: Arc<BTreeMap<String, EntityUid>>,
}

/// What is made once so that a verdict is quick.
pub(crate) struct Machine {
    pub(crate) authorizer: Authorizer,
    /// The rules; `policyN` is rule N.
    whole: PolicySet,
    /// The rules without the permits whose scope names one image, and the same with those of that image: a permit for
    /// another image permits nothing, and leaving a permit out never admits. Every forbid is in each.
    for_none: PolicySet,
    for_one: BTreeMap<String, PolicySet>,
    pub(crate) pieces: Pieces,
    /// Attributes that the text may ask about: the others need not be told to Cedar.
    pub(crate) attributes: Vec<&'static str>,
    pub(crate) registers: bool,
    pub(crate) now: bool,
    pub(crate) words: Words,
    pub(crate) principal: EntityUid,
    pub(crate) action: EntityUid,
    pub(crate) resource: EntityUid,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("name", &self.name).field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.text == other.text
            && self.options == other.options
            && self.references == other.references
    }
}

impl Policy {
    /// Loads a text under a name, held to reference values.
    ///
    /// # Errors
    /// Everything that the first failing stage of the module's list finds.
    pub fn load(name: &str, text: &str, references: Arc<References>, options: Options) -> Result<Self, PolicyError> {
        let fail = |problems| Err(PolicyError::new(name, problems));
        let problems = bounds(name, text);
        if !problems.is_empty() {
            return fail(problems);
        }
        let tokens = scan::tokens(text);
        let parts: Vec<&[Token<'_>]> = scan::rules(&tokens).collect();
        let problems = too_many(text, &parts);
        if !problems.is_empty() {
            return fail(problems);
        }
        let set = match text.parse::<PolicySet>() {
            Ok(set) => set,
            Err(errors) => return fail(errors.iter().map(|e| told("policy.syntax", text, e)).collect()),
        };
        if let Some(template) = set.templates().next() {
            let id = template.annotation("id");
            let hint = "write the entity itself: policies are not linked later";
            return fail(vec![Problem::new("policy.template", "a rule with a placeholder", hint).rule(id)]);
        }
        let broken = || PolicyError::new(name, vec![Problem::new("policy.defect", "this program", "report it")]);
        let mut problems = Vec::new();
        let (mut rules, mut known) = (Vec::new(), BTreeSet::new());
        for (index, tokens) in parts.iter().enumerate() {
            let policy = set.policy(&policy_id(index)).ok_or_else(broken)?;
            let rule = Rule::read(text, tokens, policy, &known, &mut problems);
            known.insert(rule.id.clone());
            rules.push(rule);
        }
        if set.num_of_policies() != rules.len() {
            return Err(broken());
        }
        if !problems.is_empty() {
            return fail(problems);
        }
        let failed = |problems| PolicyError::new(name, problems);
        let (admission, placement) = apart(set.clone(), &rules).ok_or_else(broken)?;
        let mut doubts = validate(text, &admission, &rules, schema::schema()).map_err(failed)?;
        doubts.extend(validate(text, &placement, &rules, schema::placement()).map_err(failed)?);
        let images = named(&set, &parts, text, &rules, &references, &options.scope).map_err(failed)?;
        if let Some(problem) = nothing_permitted(&rules, &options.scope) {
            return fail(vec![problem]);
        }
        let of = |about: About| -> Vec<&[Token<'_>]> {
            parts.iter().zip(&rules).filter(|(_, rule)| rule.about == about).map(|(tokens, _)| *tokens).collect()
        };
        let machine = Machine::new(admission, &rules, &of(About::Admit), &options.scope).ok_or_else(broken)?;
        let placing = match of(About::Place) {
            tokens if tokens.is_empty() => None,
            tokens => Some(Arc::new(Placing::new(placement, &rules, &tokens).ok_or_else(broken)?)),
        };
        Ok(Self {
            name: name.to_owned(),
            text: text.into(),
            digest: Digest::of(text.as_bytes()),
            options,
            rules,
            entities: Arc::new(image_entities(&references)),
            references,
            images,
            doubts,
            machine: Arc::new(machine),
            placing,
        })
    }

    /// The same policy, held to other reference values.
    ///
    /// # Errors
    /// A rule names one that is not among them.
    pub fn with_references(&self, references: Arc<References>) -> Result<Self, PolicyError> {
        let missing: Vec<_> = self.images.iter().filter(|name| !is_image(&references, name)).collect();
        if !missing.is_empty() {
            return Err(PolicyError::new(&self.name, missing.into_iter().map(|name| unknown_image(name)).collect()));
        }
        let mut policy = self.clone();
        policy.entities = Arc::new(image_entities(&references));
        policy.references = references;
        Ok(policy)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of its text.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The reference values it is held to.
    pub fn references(&self) -> &Arc<References> {
        &self.references
    }

    /// Names of its rules, in the order of the text.
    pub fn rules(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.id.as_str())
    }

    /// Whether a rule names the image, or asks how current firmware is and `name` is a value of firmware.
    pub fn uses(&self, name: &str) -> bool {
        let firmware =
            || matches!(self.references.get(name), Some(v) if matches!(v.value, ReferenceKind::Firmware { .. }));
        self.images.contains(name) || (self.reads_tcb() && firmware())
    }

    fn reads_tcb(&self) -> bool {
        let placing = self.placing.as_ref();
        self.machine.attributes.contains(&"tcb") || placing.is_some_and(|placing| placing.reads("tcb"))
    }

    /// Whether it has rules of admission; one of a tenant's need not.
    pub(crate) fn admits(&self) -> bool {
        self.rules.iter().any(|rule| rule.about == About::Admit)
    }

    /// Names of reference values that no rule uses, ascending.
    pub fn unused(&self) -> Vec<&str> {
        self.references.iter().map(|v| v.name.as_str()).filter(|name| !self.uses(name)).collect()
    }

    /// What is doubtful as of `at`: what Cedar's validator warns of, rules whose dated exception is over, reference values
    /// that are named but no longer count.
    pub fn warnings(&self, at: UnixTime) -> Vec<Problem> {
        let mut found = self.doubts.clone();
        for rule in &self.rules {
            if let Some((until, _)) = &rule.grace
                && !rule.holds_at(at)
            {
                let what = format!("its exception ended at {until}: it permits nothing any more");
                found.push(Problem::new("policy.grace", what, "remove the rule").rule(Some(&rule.id)));
            }
        }
        found.extend(self.expired(at));
        found
    }

    /// Whether the text may be set at `at`: every image that it names counts. One in force whose image expires later stays,
    /// and [`Self::warnings`] tells.
    ///
    /// # Errors
    /// `policy.expired`: those that count no longer.
    pub fn check_images(&self, at: UnixTime) -> Result<(), PolicyError> {
        let expired: Vec<_> = self.expired(at).collect();
        if expired.is_empty() { Ok(()) } else { Err(PolicyError::new(&self.name, expired)) }
    }

    /// Images that are named and no longer count at `at`.
    fn expired(&self, at: UnixTime) -> impl Iterator<Item = Problem> + '_ {
        let named = self.images.iter().filter_map(|name| self.references.get(name));
        named.filter(move |value| !value.holds_at(at)).filter_map(|value| {
            let what = format!("reference value `{}` expired at {}", value.name, value.expires?);
            let hint = format!("ask {} to renew it, or drop it from the policy", value.owner);
            Some(Problem::new("policy.expired", what, hint))
        })
    }

    /// Life of a passport, by the least that any permit says.
    pub(crate) fn life<'a>(rules: impl Iterator<Item = &'a Rule>) -> u64 {
        let seconds = rules.filter(|rule| rule.permits).filter_map(|rule| rule.passport_seconds);
        seconds.min().unwrap_or(PASSPORT_SECONDS_DEFAULT)
    }
}

impl Machine {
    fn new(set: PolicySet, rules: &[Rule], tokens: &[&[Token<'_>]], scope: &Scope) -> Option<Self> {
        let all = || tokens.iter().flat_map(|rule| rule.iter());
        // An attribute can be read by its name alone. A text with an escape may be any name.
        let escaped = all().any(|t| t.kind == scan::Kind::Text && t.plain().is_none());
        let says = |name: &str| escaped || all().any(|t| t.text == name || t.plain() == Some(name));
        let (for_none, for_one) = slices(&set)?;
        Some(Self {
            authorizer: Authorizer::new(),
            whole: set,
            for_none,
            for_one,
            pieces: Pieces::new(rules, About::Admit)?,
            attributes: ATTRIBUTES.into_iter().filter(|name| says(name)).collect(),
            registers: says("hasTag") || says("getTag"),
            now: says("context"),
            words: Words::new()?,
            principal: schema::entity("Enclave", "this")?,
            action: schema::entity("Action", "admit")?,
            resource: scope.entity()?,
        })
    }

    /// The rules that can count for an enclave of these images.
    pub(crate) fn rules_for(&self, images: &[&str]) -> &PolicySet {
        match images {
            [] => &self.for_none,
            [one] => self.for_one.get(*one).unwrap_or(&self.for_none),
            _ => &self.whole,
        }
    }

    /// Which rule Cedar means.
    pub(crate) fn index(id: &PolicyId) -> Option<usize> {
        let text: &str = id.as_ref();
        text.strip_prefix("policy")?.parse().ok()
    }
}

/// Most rules for which slices are kept: their sizes add up to the square of it.
const SLICED_MAX: usize = 64;

/// See [`Machine::for_one`].
fn slices(set: &PolicySet) -> Option<(PolicySet, BTreeMap<String, PolicySet>)> {
    if set.num_of_policies() > SLICED_MAX {
        return Some((set.clone(), BTreeMap::new()));
    }
    let of = |image: Option<&str>| {
        let rules = set.policies().filter(|rule| scoped(rule).is_none_or(|own| Some(own.as_str()) == image));
        PolicySet::from_policies(rules.cloned()).ok()
    };
    let images = set.policies().filter_map(scoped).map(|image| Some((image.clone(), of(Some(&image))?)));
    Some((of(None)?, images.collect::<Option<_>>()?))
}

/// The one image that a permit's scope names.
fn scoped(rule: &cedar_policy::Policy) -> Option<String> {
    let uid = match rule.principal_constraint() {
        PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) if rule.effect() == Effect::Permit => uid,
        _ => return None,
    };
    (uid.type_name().to_string() == "Image").then(|| AsRef::<str>::as_ref(uid.id()).to_owned())
}

/// As Cedar names the rules of a text, in their order.
pub(crate) fn policy_id(index: usize) -> PolicyId {
    PolicyId::new(format!("policy{index}"))
}

fn image_entities(references: &References) -> BTreeMap<String, EntityUid> {
    let images = references.iter().filter(|v| matches!(v.value, ReferenceKind::Image { .. }));
    images.filter_map(|v| Some((v.name.clone(), schema::entity("Image", &v.name)?))).collect()
}

fn is_image(references: &References, name: &str) -> bool {
    references.get(name).is_some_and(|v| matches!(v.value, ReferenceKind::Image { .. }))
}

fn unknown_image(name: &str) -> Problem {
    let what = format!("`Image::\"{}\"` is not the name of an image's reference value", name.escape_debug());
    Problem::new("policy.reference", what, "add it by `legation reference add`, or see `legation reference list`")
}

fn bounds(name: &str, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    // A tenant's policy is named `tenant/NAME`.
    if !name.split('/').all(reference::is_name) || name.matches('/').count() > 1 {
        problems.push(Problem::new("policy.name", "name of the policy", reference::NAME_RULE));
    }
    if text.len() > TEXT_MAX {
        let what = format!("a text of {} bytes", text.len());
        problems.push(Problem::new("policy.size", what, format!("write at most {TEXT_MAX} bytes")));
    }
    problems
}

fn too_many(text: &str, parts: &[&[Token<'_>]]) -> Vec<Problem> {
    if parts.len() > RULES_MAX {
        let what = format!("{} rules", parts.len());
        return vec![Problem::new("policy.rules", what, format!("write at most {RULES_MAX}"))];
    }
    let deep = parts.iter().filter_map(|rule| scan::too_deep(rule));
    deep.map(|(at, what)| {
        let what = format!("too many {what}");
        let hint = format!("nest at most {} deep, with {} operators a rule", scan::NESTING_MAX, scan::CHAIN_MAX);
        Problem::new("policy.depth", what, hint).at(text, at)
    })
    .collect()
}

/// What Cedar says of a place in the text.
fn told(check: &str, text: &str, error: &(impl Diagnostic + ?Sized)) -> Problem {
    let hint = error.help().map(|h| h.to_string()).unwrap_or_default();
    let label = error.labels().and_then(|mut labels| labels.next());
    let said = label.as_ref().and_then(|l| l.label()).map(str::to_owned).unwrap_or_default();
    let hint = [hint, said].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join("; ");
    let problem = Problem::new(check, error, hint);
    match label {
        Some(label) => problem.at(text, label.offset()),
        None => problem,
    }
}

/// The rules of admission and those of placement, each under its name in the whole.
fn apart(set: PolicySet, rules: &[Rule]) -> Option<(PolicySet, PolicySet)> {
    let of = |about: About| {
        let own = rules.iter().enumerate().filter(|(_, rule)| rule.about == about);
        let own = own.map(|(index, _)| set.policy(&policy_id(index)).cloned()).collect::<Option<Vec<_>>>()?;
        PolicySet::from_policies(own).ok()
    };
    Some((of(About::Admit)?, of(About::Place)?))
}

/// What is wrong where nothing is permitted. A tenant's text may leave admission alone; the pool's admits somebody.
fn nothing_permitted(rules: &[Rule], scope: &Scope) -> Option<Problem> {
    let has = |about: About| rules.iter().any(|rule| rule.about == about);
    let permits = |about: About| rules.iter().any(|rule| rule.about == about && rule.permits);
    let problem = |what: &str, hint: &str| Some(Problem::new("policy.permit", what, hint));
    if rules.iter().all(|rule| !rule.permits) {
        return problem("nothing is permitted", "write at least one permit: what nothing permits is refused");
    }
    if !permits(About::Admit) && (*scope == Scope::Pool || has(About::Admit)) {
        return problem("nobody is admitted", "write at least one permit with `action == Action::\"admit\"`");
    }
    if has(About::Place) && !permits(About::Place) {
        let hint = "write at least one permit with `action == Action::\"place\"`, or no such forbid";
        return problem("nothing may be placed", hint);
    }
    None
}

/// Strict validation against the schema. Gives the warnings.
fn validate(
    text: &str,
    set: &PolicySet,
    rules: &[Rule],
    schema: Option<&'static Schema>,
) -> Result<Vec<Problem>, Vec<Problem>> {
    let Some(schema) = schema else {
        return Err(vec![Problem::new("policy.defect", "the schema that is compiled in", "report it")]);
    };
    let result = Validator::new(schema.clone()).validate(set, ValidationMode::Strict);
    let rule = |id: &PolicyId| Machine::index(id).and_then(|i| rules.get(i)).map(|r| r.id.as_str());
    // Cedar prefixes each message with its own name of the rule, which people have never seen.
    let plain = |mut problem: Problem, id: &PolicyId| {
        let prefix = format!("for policy `{id}`, ");
        if let Some(rest) = problem.what.strip_prefix(&prefix) {
            problem.what = rest.to_owned();
        }
        problem.rule(rule(id))
    };
    let errors: Vec<_> =
        result.validation_errors().map(|e| plain(told("policy.schema", text, e), e.policy_id())).collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(result.validation_warnings().map(|w| plain(told("policy.doubt", text, w), w.policy_id())).collect())
}

/// The images that rules name; everything named must be there.
fn named(
    set: &PolicySet,
    parts: &[&[Token<'_>]],
    text: &str,
    rules: &[Rule],
    references: &References,
    scope: &Scope,
) -> Result<BTreeSet<String>, Vec<Problem>> {
    let (mut images, mut problems) = (BTreeSet::new(), Vec::new());
    let resource = scope.entity();
    for (index, tokens) in parts.iter().enumerate() {
        let literals = set.policy(&policy_id(index)).map(cedar_policy::Policy::entity_literals).unwrap_or_default();
        let rule = rules.get(index);
        let id = rule.map(|r| r.id.as_str());
        // Of placement the operator says whose work, a tenant only its own.
        let anyones = *scope == Scope::Pool && rule.is_some_and(|r| r.about == About::Place);
        let place = |name: &str| {
            let at = tokens.iter().find(|t| t.plain() == Some(name)).or(tokens.first());
            at.map_or(0, |t| t.at)
        };
        for uid in literals {
            let name: &str = uid.id().as_ref();
            let problem = match uid.type_name().to_string().as_str() {
                "Image" if is_image(references, name) => {
                    images.insert(name.to_owned());
                    continue;
                }
                "Image" => unknown_image(name),
                "Tenant" if anyones && TenantId::new(name).is_ok() => continue,
                "Pool" | "Tenant" if Some(&uid) == resource.as_ref() => continue,
                "Pool" | "Tenant" => Problem::new(
                    "policy.entity",
                    format!("`{uid}` is not what this policy is asked about"),
                    resource.as_ref().map_or(String::new(), |own| format!("write `resource`, or `resource == {own}`")),
                ),
                "Enclave" => Problem::new(
                    "policy.entity",
                    format!("`{uid}` names an enclave"),
                    "an enclave's name is new at every boot: name its image, or revoke it",
                ),
                // Kinds, statuses and actions are whole in the schema: validation has seen them.
                _ => continue,
            };
            problems.push(problem.at(text, place(name)).rule(id));
        }
    }
    if problems.is_empty() { Ok(images) } else { Err(problems) }
}

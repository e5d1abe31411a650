//! Rules of placement: whose work with which data may be on which enclaves, and what it may use there.
//!
//! They stand in the same text as the rules of admission and say `action == Action::"place"`. [`Policy::place`] makes these
//! checks, in this order:
//!
//! 1. `policy.ID`: no forbid fires, and none fails to be evaluated.
//! 2. `policy.ID`: a permit holds; what fails to be evaluated holds not. Where a text has no rule of placement, nothing is
//!    asked; where it has one, what no permit allows is refused.
//!
//! What every permit that holds allows is put together: the least of each limit counts. The verdict is a function of the
//! enclave's kind, of what [`Policy::sees`] digests, of the reference values and, where [`Policy::depends_on_time`], of
//! the time: so one verdict serves all enclaves of a kind.

use cedar_policy::{Authorizer, Context, Entities, Entity, EntityUid, PolicySet, Request, RestrictedExpression};
use legation_core::{
    Allowance, Digest, MicroUsd, Rejection, TenantId, UnixTime,
    claims::Configuration,
    prefer::{DataTerms, Priority},
    statement,
    task::{Demand, Fragment},
};
use serde::{Deserialize, Serialize};

use crate::{
    appraise::Question,
    explain::Pieces,
    facts::{ATTRIBUTES, Fact, Facts, Subject, Words},
    policy::Policy,
    rule::{About, Rule},
    scan::{self, Token},
    schema,
};

/// What of a request the rules can see.
pub(crate) const CONTEXT: [&str; 14] = [
    "sensitivity",
    "regulations",
    "residency",
    "priority",
    "module",
    "cpu",
    "gpus",
    "memory",
    "fuel",
    "time",
    "output",
    "price_hour",
    "cost_max",
    "budget",
];

/// What is to be placed, as far as rules can see it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Whose work it is.
    pub tenant: &'a TenantId,
    /// What is said of the data.
    pub data: &'a DataTerms,
    /// How urgent it is.
    pub priority: Priority,
    /// Its module, by SHA-256.
    pub module: Digest,
    /// What it needs.
    pub demand: Demand,
    /// What the whole task may cost.
    pub budget: MicroUsd,
    /// An hour of it there.
    pub price_hour: MicroUsd,
    /// What it costs there at most.
    pub cost_max: MicroUsd,
}

impl<'a> Asked<'a> {
    /// A fragment of a request, at a price of an hour.
    pub fn of(request: &'a statement::Request, fragment: &Fragment, price_hour: MicroUsd, cost_max: MicroUsd) -> Self {
        Self {
            tenant: &request.tenant,
            data: &request.data,
            priority: request.prefer.priority,
            module: fragment.module,
            demand: fragment.demand,
            budget: request.budget,
            price_hour,
            cost_max,
        }
    }

    /// The value of an attribute of the schema's context.
    fn get(&self, name: &str) -> Option<Fact> {
        let number = |n: u64| Fact::Number(i64::try_from(n).unwrap_or(i64::MAX));
        let Demand { cpu, memory, fuel, time, output, gpus } = self.demand;
        Some(match name {
            "sensitivity" => Fact::Sensitivity(self.data.sensitivity),
            "regulations" => Fact::Names(self.data.regulations.clone()),
            "residency" => Fact::Names(self.data.residency.iter().map(ToString::to_string).collect()),
            "priority" => Fact::Number(i64::from(self.priority.0)),
            "module" => Fact::Name(self.module.to_string()),
            "cpu" => number(cpu.0),
            "gpus" => number(gpus.0),
            "memory" => number(memory.0),
            "fuel" => number(fuel.0),
            "time" => number(time.0),
            "output" => number(output.0),
            "price_hour" => number(self.price_hour.0),
            "cost_max" => number(self.cost_max.0),
            "budget" => number(self.budget.0),
            _ => return None,
        })
    }

    /// An attribute in words.
    pub(crate) fn tell(&self, name: &str) -> Option<String> {
        Some(format!("{name} {}", self.get(name)?))
    }
}

/// A question of a dry run: whose work with which data would be placed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceQuestion {
    /// Whose work it is.
    pub tenant: TenantId,
    /// What is said of the data.
    #[serde(default)]
    pub data: DataTerms,
    /// How urgent it is.
    #[serde(default)]
    pub priority: Priority,
    /// Its module, by SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<Digest>,
    /// What it needs.
    #[serde(default)]
    pub demand: Demand,
    /// What the whole task may cost.
    #[serde(default)]
    pub budget: MicroUsd,
}

impl PlaceQuestion {
    /// The question about one enclave.
    pub(crate) fn asked(&self, configuration: &Configuration) -> Asked<'_> {
        let Demand { cpu, memory, time, .. } = self.demand;
        let rate = configuration.rate;
        Asked {
            tenant: &self.tenant,
            data: &self.data,
            priority: self.priority,
            module: self.module.unwrap_or(Digest::of(b"")),
            demand: self.demand,
            budget: self.budget,
            price_hour: rate.per_hour(cpu, memory),
            cost_max: rate.charge(cpu, memory, time.0.saturating_mul(1000)),
        }
    }
}

/// The rules of placement of a text, made ready.
pub(crate) struct Placing {
    authorizer: Authorizer,
    rules: PolicySet,
    pieces: Pieces,
    /// Attributes of enclaves, and of requests, that the rules may ask about.
    attributes: Vec<&'static str>,
    context: Vec<&'static str>,
    registers: bool,
    /// Whether they may ask for the time itself.
    now: bool,
    /// Whether the passing of time can change what they say.
    timed: bool,
    words: Words,
    action: EntityUid,
    resource: EntityUid,
}

impl Placing {
    /// Whether a rule may ask about this attribute of an enclave.
    pub(crate) fn reads(&self, attribute: &str) -> bool {
        self.attributes.contains(&attribute)
    }

    /// Of the rules of a text that are about placement; `tokens` are theirs.
    pub(crate) fn new(set: PolicySet, rules: &[Rule], tokens: &[&[Token<'_>]]) -> Option<Self> {
        let all = || tokens.iter().flat_map(|rule| rule.iter());
        // An attribute can be read by its name alone. A text with an escape may be any name.
        let escaped = all().any(|t| t.kind == scan::Kind::Text && t.plain().is_none());
        let says = |name: &str| escaped || all().any(|t| t.text == name || t.plain() == Some(name));
        let now = says("now");
        Some(Self {
            authorizer: Authorizer::new(),
            pieces: Pieces::new(rules, About::Place)?,
            rules: set,
            attributes: ATTRIBUTES.into_iter().filter(|name| says(name)).collect(),
            context: CONTEXT.into_iter().filter(|name| says(name)).collect(),
            registers: says("hasTag") || says("getTag"),
            now,
            timed: now || says("tcb") || says("Image"),
            words: Words::new()?,
            action: schema::entity("Action", "place")?,
            resource: schema::entity("Enclave", "this")?,
        })
    }

    fn ask(&self, policy: &Policy, facts: &Facts<'_>, asked: &Asked<'_>) -> Option<Question> {
        let attributes = self.attributes.iter().filter(|name| **name != "registers");
        let attributes = attributes.filter_map(|name| Some((*name, facts.get(name)?)));
        let attributes: Option<Vec<_>> =
            attributes.map(|(name, fact)| Some((name.to_owned(), self.words.expression(fact)?))).collect();
        let parents = facts.images.iter().filter_map(|name| policy.entities.get(*name).cloned());
        let registers = facts.registers().iter().filter(|_| self.registers);
        let registers = registers.map(|(name, value)| (name.clone(), RestrictedExpression::new_string(value.clone())));
        let resource = Entity::new_with_tags(self.resource.clone(), attributes?, parents, registers).ok()?;
        let context = self.context.iter().filter_map(|name| Some((*name, asked.get(name)?)));
        let context: Option<Vec<_>> =
            context.map(|(name, fact)| Some((name.to_owned(), self.words.expression(fact)?))).collect();
        let now = self.now.then(|| RestrictedExpression::new_datetime(facts.at.to_string()));
        let context = context?.into_iter().chain(now.map(|now| ("now".to_owned(), now)));
        let principal = schema::entity("Tenant", &asked.tenant.to_string())?;
        let (action, resource_uid) = (self.action.clone(), self.resource.clone());
        Some(Question {
            request: Request::new(principal, action, resource_uid, Context::from_pairs(context).ok()?, None).ok()?,
            entities: Entities::from_entities([resource], None).ok()?,
        })
    }
}

impl Policy {
    /// Whether it has rules of placement: then what none of them permits is refused.
    pub fn places(&self) -> bool {
        self.placing.is_some()
    }

    /// Whether time alone can change what its rules of placement say: by `context.now`, by the age of firmware, or by a
    /// reference value that ends.
    pub fn depends_on_time(&self) -> bool {
        self.placing.as_ref().is_some_and(|placing| placing.timed)
    }

    /// Digest of what of a request its rules of placement can see: requests that look alike get the same verdict on
    /// enclaves of one kind.
    pub fn sees(&self, asked: &Asked<'_>) -> Digest {
        let Some(placing) = &self.placing else { return Digest::of(b"") };
        let tenant = asked.tenant.as_str();
        let mut text = format!("{}:{tenant}", tenant.len());
        for fact in placing.context.iter().filter_map(|name| asked.tell(name)) {
            text.push_str(&format!(",{}:{fact}", fact.len()));
        }
        Digest::of(text.as_bytes())
    }

    /// Holds work that is to be placed on an enclave against the rules of placement as of `at`. Gives what it may use.
    ///
    /// # Errors
    /// The first check of the module's list that refuses.
    pub fn place(&self, subject: Subject<'_>, asked: &Asked<'_>, at: UnixTime) -> Result<Allowance, Rejection> {
        self.place_by(subject, asked, at).map(|rules| {
            let named = |rule: &&Rule| {
                let limits = rule.limits.clone()?;
                Some(Allowance { rules: vec![format!("{}/{}", self.name, rule.id)], ..limits })
            };
            rules.iter().filter_map(named).fold(Allowance::default(), |all, one| all.and(&one))
        })
    }

    /// The permits of placement that hold.
    pub(crate) fn place_by(
        &self,
        subject: Subject<'_>,
        asked: &Asked<'_>,
        at: UnixTime,
    ) -> Result<Vec<&Rule>, Rejection> {
        let Some(placing) = &self.placing else { return Ok(Vec::new()) };
        let tcb = self.references.tcb(subject.claims, at);
        let images: Vec<&str> = self.references.images_of(subject.claims, at).collect();
        let facts = Facts { subject, tcb: &tcb, images: &images, at, asked: Some(asked) };
        let question = placing.ask(self, &facts, asked).ok_or_else(|| self.defect("the question could not be put"))?;
        let response = placing.authorizer.is_authorized(&question.request, &placing.rules, &question.entities);
        let holding = self.holding(&response, &facts)?;
        if holding.is_empty() {
            return Err(self.refusal(&facts, &question, &placing.pieces, &[]));
        }
        Ok(holding)
    }
}

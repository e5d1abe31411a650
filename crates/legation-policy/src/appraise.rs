//! The verdict: claims held against a policy as of a time.
//!
//! [`Policy::admit`] makes these checks, in this order; the first three are a floor that no policy text can lower:
//!
//! 1. `appraisal.anchor`: development evidence needs a verifier whose own configuration allows it.
//! 2. `appraisal.tcb`: the vendor has not revoked the machine's security version.
//! 3. `policy.ID`: no forbid fires, and none fails to be evaluated.
//! 4. `policy.ID`: a permit holds. A permit with a dated exception (`@grace`) holds until its date; what fails to be
//!    evaluated holds not. A tenant's text that has rules of placement alone leaves admission to the pool.
//!
//! What passes is graded by a trustworthiness vector (draft-ietf-rats-ar4si section 2.3.4), whose worst value is the status:
//! development hardware, debuggable guests, memory that is open to the host, firmware with known holes, stale collateral,
//! SEV-SNP chips that no revocation list was held against, images without a reference value and dated exceptions are warnings, whatever the policy says.

use std::collections::BTreeMap;

use cedar_policy::{AuthorizationError, Context, Decision, Entities, Entity, Request, Response, RestrictedExpression};
use legation_attest::{Appraiser, appraisal};
use legation_core::{
    Rejection, UnixTime,
    claims::{Claims, Judged, Tcb, TcbStatus, TeeKind},
    statement::{Ear, Grace},
};

use crate::{
    facts::{Facts, Subject},
    policy::{Machine, Policy},
    rule::Rule,
};

/// What admits an enclave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admission {
    /// The result.
    pub ear: Ear,
    /// Life of a passport in seconds: the least that the permits which hold say.
    pub passport_seconds: u64,
    /// The permits that hold, in the order of the text.
    pub rules: Vec<String>,
}

/// A question in Cedar's form.
pub(crate) struct Question {
    pub(crate) request: Request,
    pub(crate) entities: Entities,
}

impl Policy {
    /// Holds an enclave against the policy as of `at`.
    ///
    /// # Errors
    /// The first check of the module's list that refuses.
    pub fn admit(&self, subject: Subject<'_>, at: UnixTime) -> Result<Admission, Rejection> {
        let claims = subject.claims;
        let tcb = self.references.tcb(claims, at);
        self.floor(claims, &tcb)?;
        let images: Vec<&str> = self.references.images_of(claims, at).collect();
        let facts = Facts { subject, tcb: &tcb, images: &images, at, asked: None };
        let question = self.ask(&facts).ok_or_else(|| self.defect("the question could not be put"))?;
        let rules = self.machine.rules_for(&images);
        let response = self.machine.authorizer.is_authorized(&question.request, rules, &question.entities);
        let holding = self.holding(&response, &facts)?;
        let (lasting, lapsed): (Vec<&Rule>, Vec<&Rule>) = holding.into_iter().partition(|rule| rule.holds_at(at));
        if lasting.is_empty() && self.admits() {
            return Err(self.refusal(&facts, &question, &self.machine.pieces, &lapsed));
        }
        let grace = grace(&lasting);
        let vector = vector(claims, &tcb, !images.is_empty(), grace.is_some());
        let ear = Ear {
            status: appraisal::status(&vector),
            vector,
            policy: self.name.clone(),
            policy_digest: self.digest(),
            images: images.iter().map(|&name| name.to_owned()).collect(),
            tcb,
            grace,
        };
        let rules = lasting.iter().map(|rule| rule.id.clone()).collect();
        Ok(Admission { ear, passport_seconds: Self::life(lasting.into_iter()), rules })
    }

    fn floor(&self, claims: &Claims, tcb: &Tcb) -> Result<(), Rejection> {
        let refuse = |check: &str, claim: &str| Rejection::new(check, format!("{claim} under policy `{}`", self.name));
        if claims.anchor.is_development() && !self.options.allow_development {
            return Err(refuse("appraisal.anchor", "anchor of the evidence")
                .expected("a hardware vendor's root")
                .got(&claims.anchor)
                .fix("use real hardware, or set `allow_development = true` at a verifier that protects nothing"));
        }
        if tcb.status == TcbStatus::Revoked {
            return Err(refuse("appraisal.tcb", "security version of the machine")
                .expected("one that its vendor stands by")
                .got(tcb)
                .fix("update the machine's firmware and microcode, and commit them"));
        }
        Ok(())
    }

    /// The permits that hold, where no forbid does.
    pub(crate) fn holding(&self, response: &Response, facts: &Facts<'_>) -> Result<Vec<&Rule>, Rejection> {
        let diagnostics = response.diagnostics();
        // A forbid that cannot be evaluated might have fired: Cedar skips it, we do not.
        for error in diagnostics.errors() {
            let AuthorizationError::PolicyEvaluationError(of) = error;
            let rule = Machine::index(of.policy_id()).and_then(|i| self.rules.get(i));
            if let Some(rule) = rule.filter(|rule| !rule.permits) {
                return Err(Rejection::new(&format!("policy.{}", rule.id), self.claim(rule))
                    .expected("a forbid that can be evaluated")
                    .got(error)
                    .fix("mend the rule: what cannot be decided is refused"));
            }
        }
        let mut reasons: Vec<usize> = diagnostics.reason().filter_map(Machine::index).collect();
        reasons.sort_unstable();
        let rules: Vec<&Rule> = reasons.into_iter().filter_map(|i| self.rules.get(i)).collect();
        if let Some(rule) = rules.iter().find(|rule| !rule.permits) {
            return Err(self.forbidden(rule, facts));
        }
        match response.decision() {
            Decision::Allow => Ok(rules),
            Decision::Deny => Ok(Vec::new()),
        }
    }

    /// What only a defect of this program brings about: refused, and said.
    pub(crate) fn defect(&self, what: &str) -> Rejection {
        Rejection::new("policy.defect", format!("evaluation of policy `{}`", self.name))
            .expected("a verdict")
            .got(what)
            .fix("report it: this is a defect of Legation")
    }
}

impl Appraiser for Policy {
    fn appraise(&self, judged: &Judged, at: UnixTime) -> Result<Ear, Rejection> {
        self.admit(judged.into(), at).map(|admission| admission.ear)
    }

    fn passport_seconds(&self) -> u64 {
        Self::life(self.rules.iter())
    }

    fn appraise_for(&self, judged: &Judged, at: UnixTime) -> Result<(Ear, u64), Rejection> {
        self.admit(judged.into(), at).map(|admission| (admission.ear, admission.passport_seconds))
    }
}

impl Policy {
    fn ask(&self, facts: &Facts<'_>) -> Option<Question> {
        let machine = &*self.machine;
        let attributes = machine.attributes.iter().filter(|name| **name != "registers");
        let attributes = attributes.filter_map(|name| Some((*name, facts.get(name)?)));
        let attributes: Option<Vec<_>> =
            attributes.map(|(name, fact)| Some((name.to_owned(), machine.words.expression(fact)?))).collect();
        let parents = facts.images.iter().filter_map(|name| self.entities.get(*name).cloned());
        let registers = facts.registers().iter().filter(|_| machine.registers);
        let registers = registers.map(|(name, value)| (name.clone(), RestrictedExpression::new_string(value.clone())));
        let principal = Entity::new_with_tags(machine.principal.clone(), attributes?, parents, registers).ok()?;
        let context = match machine.now {
            true => {
                let now = RestrictedExpression::new_datetime(facts.at.to_string());
                Context::from_pairs([("now".to_owned(), now)]).ok()?
            }
            false => Context::empty(),
        };
        let (action, resource) = (machine.action.clone(), machine.resource.clone());
        Some(Question {
            request: Request::new(machine.principal.clone(), action, resource, context, None).ok()?,
            entities: Entities::from_entities([principal], None).ok()?,
        })
    }
}

/// The dated exception that an admission rests on: none where a lasting permit holds too, else the one that lasts longest.
fn grace(lasting: &[&Rule]) -> Option<Grace> {
    if lasting.iter().any(|rule| rule.grace.is_none()) {
        return None;
    }
    let graces = lasting.iter().filter_map(|rule| Some((rule.grace.as_ref()?, rule)));
    graces.max_by_key(|((until, _), _)| *until).map(|((until, why), rule)| Grace {
        until: *until,
        rule: rule.id.clone(),
        why: why.clone(),
    })
}

/// The vector's values (draft-ietf-rats-ar4si section 2.3.4): 2 and 3 affirm, 32 and 33 warn.
fn vector(claims: &Claims, tcb: &Tcb, recognised: bool, grace: bool) -> BTreeMap<String, i8> {
    use TcbStatus::{
        ConfigurationAndSwHardeningNeeded, ConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded, Revoked,
    };
    let development = claims.anchor.is_development();
    // AMD publishes lists, and chips are judged without them too: a machine that AMD revoked would look like any other.
    let listed = matches!(claims.tee.value, TeeKind::SevSnp | TeeKind::AzSnpVtpm);
    let unchecked = listed && !claims.revocation.is_done();
    let warn_if = |bad: bool| if bad { 32 } else { 2 };
    let holes = matches!(tcb.status, OutOfDate | OutOfDateConfigurationNeeded | Revoked);
    let loose =
        matches!(tcb.status, ConfigurationNeeded | ConfigurationAndSwHardeningNeeded | OutOfDateConfigurationNeeded);
    [
        // Recognised, by a key the vendor (or a development root) certified; whether it still stands by it, stale
        // collateral cannot say, nor can nobody.
        ("instance-identity", warn_if(claims.stale_since.is_some() || unchecked)),
        ("configuration", warn_if(claims.debug.value || loose || (grace && !holes))),
        // Approved executables were loaded during boot; a launch measurement says nothing of what came after.
        ("executables", if recognised { 3 } else { 33 }),
        ("hardware", warn_if(development || holes)),
        // Memory is encrypted against the host; software that signs like a chip encrypts nothing.
        ("runtime-opaque", warn_if(development || claims.debug.value || !claims.confidential.value)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

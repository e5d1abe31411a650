//! Policies in the journal: the pool's own, by which verifiers admit enclaves, and each tenant's, by which its tasks are
//! placed. Every version is a record; a text that does not load is never one.
//!
//! 1. Whoever the pool's policy refuses is not let in, whichever verifier vouches for it; but a verifier that the operator trusts
//!    with some tenants' work alone decides for those (development machines stay out where the manager allows none).
//! 2. Nothing is placed on whom the pool's policy or the tenant's refuses now. Each is asked once for each kind of enclave (all
//!    that a policy can read) and remembered for [`REMEMBERED_SECONDS`]: policies may speak of the time.
//! 3. Whoever is in and is refused after a change is cordoned, and its work moves.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use legation_core::{
    Digest, EnclaveId, Rejection, Seq, TenantId, UnixTime,
    statement::{Appointment, Passport},
};
use legation_policy::{Options, Policy, PolicyError, Problem, References, Scope};
use serde::{Deserialize, Serialize};

use crate::{
    apply::Change,
    enclave::Enclave,
    event::Event,
    kind::Kind,
    pool::{Env, Pool},
    queue::Chances,
    text::cut,
};

pub(crate) mod snapshot;

/// Versions of one policy that are kept at hand; the journal has them all.
pub(crate) const VERSIONS_KEPT: usize = 32;
/// Most policies of tenants.
const TENANTS_MAX: usize = 4096;
/// Seconds that a verdict about a kind of enclave is remembered.
pub(crate) const REMEMBERED_SECONDS: u64 = 30;
/// Most verdicts that are remembered.
const REMEMBERED_MAX: usize = 65_536;

/// A version of a policy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PolicyVersion {
    /// Counted from 1.
    pub version: u64,
    /// SHA-256 of the text: what results of appraisal name.
    pub digest: Digest,
    /// Who set it.
    pub author: String,
    /// When.
    pub at: UnixTime,
    /// Its record.
    pub seq: Seq,
    /// The text.
    pub text: String,
}

/// A policy in force, as people see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PolicyView {
    /// Its name: `appraisal`, or `tenant/NAME`.
    pub name: String,
    /// The version in force.
    pub current: PolicyVersion,
    /// Names of its rules.
    pub rules: Vec<String>,
    /// What is doubtful about it now.
    pub warnings: Vec<Problem>,
}

/// One policy with its history.
#[derive(Clone, PartialEq, Debug)]
struct Kept {
    policy: Arc<Policy>,
    /// Oldest first; never empty.
    versions: Vec<PolicyVersion>,
}

/// All policies.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Policies {
    pub(crate) references: Arc<References>,
    kept: BTreeMap<Scope, Kept>,
    /// The last record that changed any of it.
    changed: Seq,
    remembered: Remembered,
}

/// Verdicts about kinds of enclaves: derived, so never compared and never copied.
#[derive(Default)]
struct Remembered {
    verdicts: Mutex<BTreeMap<(Scope, Digest), Verdict>>,
    /// When all enclaves were last held against the pool's policy, and as of which record.
    looked: Mutex<Option<(Seq, UnixTime)>>,
    /// The text that was loaded last, by scope, digest and the record as of which.
    loaded: Mutex<Option<(Loaded, Arc<Policy>)>>,
}

/// What was loaded: for whom, the digest of the text, and the record as of which.
type Loaded = (Scope, Digest, Seq);

/// When it was found, and why not, if not.
type Verdict = (UnixTime, Option<Rejection>);

impl Remembered {
    fn verdicts(&self) -> MutexGuard<'_, BTreeMap<(Scope, Digest), Verdict>> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is time to look at all enclaves; notes that it is done.
    fn is_to_look(&self, changed: Seq, now: UnixTime) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let known = looked.is_some_and(|(seq, at)| seq == changed && at <= now && now.since(at) < REMEMBERED_SECONDS);
        if !known {
            *looked = Some((changed, now));
        }
        !known
    }
}

impl Clone for Remembered {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Remembered {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remembered")
    }
}

impl Policies {
    /// The policies in force.
    pub(crate) fn current(&self) -> impl Iterator<Item = (&Scope, &Arc<Policy>)> {
        self.kept.iter().map(|(scope, kept)| (scope, &kept.policy))
    }

    /// Holds every policy to other reference values.
    pub(crate) fn hold_to(&mut self, references: Arc<References>, seq: Seq) -> Option<()> {
        let held: Option<Vec<_>> =
            self.kept.values().map(|kept| kept.policy.with_references(references.clone()).ok()).collect();
        for (kept, policy) in self.kept.values_mut().zip(held?) {
            kept.policy = Arc::new(policy);
        }
        self.references = references;
        self.changed = seq;
        self.remembered = Remembered::default();
        Some(())
    }
}

impl Pool {
    /// The pool's policy, or a tenant's. Whether development evidence is admitted at all is not the journal's to say, but
    /// [`Limits::allow_development`](crate::Limits)'s.
    pub fn policy(&self, scope: &Scope) -> Option<&Arc<Policy>> {
        self.policies.kept.get(scope).map(|kept| &kept.policy)
    }

    /// The last record that changed a policy or a reference value.
    pub fn policies_changed(&self) -> Seq {
        self.policies.changed
    }

    /// The versions of a policy that are at hand, newest first.
    ///
    /// # Errors
    /// There is no such policy.
    pub fn policy_versions(&self, scope: &Scope) -> Result<Vec<PolicyVersion>, Rejection> {
        let kept = self.policies.kept.get(scope).ok_or_else(|| unknown(scope))?;
        Ok(kept.versions.iter().rev().cloned().collect())
    }

    /// The policy in force.
    ///
    /// # Errors
    /// There is no such policy.
    pub fn policy_view(&self, scope: &Scope, now: UnixTime) -> Result<PolicyView, Rejection> {
        let kept = self.policies.kept.get(scope).ok_or_else(|| unknown(scope))?;
        let current = kept.versions.last().cloned().ok_or_else(|| unknown(scope))?;
        Ok(PolicyView {
            name: scope.to_string(),
            current,
            rules: kept.policy.rules().map(str::to_owned).collect(),
            warnings: kept.policy.warnings(now),
        })
    }

    /// All policies in force, the pool's first.
    pub fn policy_views(&self, now: UnixTime) -> Vec<PolicyView> {
        self.policies.kept.keys().filter_map(|scope| self.policy_view(scope, now).ok()).collect()
    }

    /// Why a policy keeps a tenant's tasks off an enclave, if one does: `place.policy`. The pool's own is asked first:
    /// verifiers elsewhere have policies of their own, and it may have changed since.
    pub(crate) fn policy_refuses(&self, tenant: &TenantId, kind: &Kind, now: UnixTime) -> Option<Rejection> {
        if self.policies.kept.is_empty() {
            return None;
        }
        let of_tenant = || self.refused_by(Scope::Tenant(tenant.clone()), kind, now);
        let why = self.refused_by(Scope::Pool, kind, now).or_else(of_tenant)?;
        Some(Rejection { check: PLACE.to_owned(), ..why })
    }

    /// Whether no policy can refuse anything.
    pub(crate) fn is_without_policies(&self) -> bool {
        self.policies.kept.is_empty()
    }

    fn refused_by(&self, scope: Scope, kind: &Kind, now: UnixTime) -> Option<Rejection> {
        let policy = &self.policies.kept.get(&scope)?.policy;
        let passport = kind.typical();
        if scope == Scope::Pool && is_of_tenants(kind.appointment()) {
            return self.development_refused(passport);
        }
        let mut remembered = self.policies.remembered.verdicts();
        let key = (scope, kind.digest());
        if let Some((at, verdict)) = remembered.get(&key)
            && *at <= now
            && now.since(*at) <= REMEMBERED_SECONDS
        {
            return verdict.clone();
        }
        let verdict = policy.admit(passport.into(), now).err();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(key, (now, verdict.clone()));
        verdict
    }

    /// Whoever the pool's policy refuses is not let in, whichever verifier vouches for it.
    pub(crate) fn check_policy(
        &self,
        passport: &Passport,
        appointment: &Appointment,
        now: UnixTime,
    ) -> Result<(), Rejection> {
        let Some(policy) = self.policy(&Scope::Pool) else { return Ok(()) };
        if is_of_tenants(appointment) {
            return self.development_refused(passport).map_or(Ok(()), Err);
        }
        policy.admit(passport.into(), now).map(|_| ())
    }

    /// What no tenant's own verifier decides.
    fn development_refused(&self, passport: &Passport) -> Option<Rejection> {
        let anchor = &passport.claims.anchor;
        (anchor.is_development() && !self.limits.allow_development).then(|| {
            Rejection::new("appraisal.anchor", "anchor of the evidence in this pool")
                .expected("a hardware vendor's root")
                .got(anchor)
                .fix("use real hardware, or set `allow_development = true` at a manager that protects nothing")
        })
    }

    /// Whether the pool's policy refuses proofs of this kind now.
    pub(crate) fn is_refused(&self, kind: &Kind, now: UnixTime) -> bool {
        self.refused_by(Scope::Pool, kind, now).is_some()
    }

    /// Whether it is time to hold everybody against the pool's policy: whenever policies have changed, and every
    /// [`REMEMBERED_SECONDS`], since policies may speak of the time. Notes that it is done.
    pub(crate) fn is_to_look(&self, now: UnixTime) -> bool {
        self.policies.remembered.is_to_look(self.policies.changed, now)
    }

    /// Enclaves that are trusted by every proof that holds, and by none of them to the pool's policy as it is now, each with
    /// why.
    pub(crate) fn refused_now(&self, now: UnixTime) -> Vec<(EnclaveId, Rejection)> {
        if !self.policies.kept.contains_key(&Scope::Pool) {
            return Vec::new();
        }
        let refused = |enclave: &Enclave| {
            let mut why = None;
            for proof in enclave.proofs.current().iter().filter(|proof| proof.holds_at(now)) {
                why = Some(self.refused_by(Scope::Pool, &proof.kind, now)?);
            }
            why
        };
        let asked = self.enclaves.iter().filter(|(_, e)| e.is_trusted() && !(e.is_away() && e.is_idle()));
        asked.filter_map(|(id, e)| refused(e).map(|why| (*id, why))).collect()
    }

    /// Loads a text as the policy of `scope`, held to the reference values there are.
    pub(crate) fn load_policy(&self, scope: &Scope, text: &str) -> Result<Arc<Policy>, PolicyError> {
        // A command checks, its record checks again, and then it is done: the text is loaded once.
        let key = (scope.clone(), Digest::of(text.as_bytes()), self.policies.changed);
        let mut last = self.policies.remembered.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, policy)) = last.as_ref()
            && *known == key
        {
            return Ok(policy.clone());
        }
        let options = Options::of(scope.clone(), self.limits.allow_development);
        let policy = Arc::new(Policy::load(&scope.to_string(), text, self.references().clone(), options)?);
        *last = Some((key, policy.clone()));
        Ok(policy)
    }

    pub(crate) fn set_policy(
        &mut self,
        scope: Scope,
        text: String,
        author: &str,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        if self.policy(&scope).is_some_and(|policy| policy.text() == text) {
            return Ok(());
        }
        if !self.policies.kept.contains_key(&scope) && self.policies.kept.len() > TENANTS_MAX {
            return Err(Rejection::new("policy.count", "number of policies")
                .expected(format!("at most {TENANTS_MAX} tenants with a policy of their own"))
                .fix("use requirements in tasks instead"));
        }
        let policy = self.load_policy(&scope, &text).map_err(|e| e.rejection())?;
        policy.check_images(env.now).map_err(|e| e.rejection())?;
        out.record(self, env, Event::PolicySet { scope, text, author: cut(author) })?;
        out.chances = Chances::All;
        self.lapse(env, out)
    }

    pub(crate) fn absorb_policy(
        &mut self,
        scope: &Scope,
        text: &str,
        author: &str,
        at: UnixTime,
        seq: Seq,
    ) -> Option<()> {
        let policy = self.load_policy(scope, text).ok()?;
        let last = |kept: &Kept| kept.versions.last().map_or(0, |v| v.version);
        let version = PolicyVersion {
            version: self.policies.kept.get(scope).map_or(0, last).saturating_add(1),
            digest: policy.digest(),
            author: author.to_owned(),
            at,
            seq,
            text: text.to_owned(),
        };
        match self.policies.kept.get_mut(scope) {
            Some(kept) => {
                kept.policy = policy;
                kept.versions.push(version);
                if kept.versions.len() > VERSIONS_KEPT {
                    kept.versions.remove(0);
                }
            }
            None => {
                self.policies.kept.insert(scope.clone(), Kept { policy, versions: vec![version] });
            }
        }
        self.policies.changed = seq;
        self.policies.remembered = Remembered::default();
        Some(())
    }
}

/// The check by which a policy keeps tasks off an enclave.
pub(crate) const PLACE: &str = "place.policy";

/// Whether a verifier is trusted by some tenants alone: whom it lets in for them is theirs to say.
fn is_of_tenants(appointment: &Appointment) -> bool {
    appointment.scope.as_ref().is_some_and(|scope| scope.tenants.is_some())
}

fn unknown(scope: &Scope) -> Rejection {
    Rejection::new("policy.unknown", format!("policy `{scope}`"))
        .expected("one that was set")
        .got("none")
        .fix("set it by `legation policy set FILE`")
}

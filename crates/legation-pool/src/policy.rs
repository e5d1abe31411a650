//! Policies in the journal: the pool's own, by which verifiers admit enclaves, and each tenant's, by which its tasks are
//! placed. Every version is a record; a text that does not load is never one.
//!
//! A tenant's policy is asked once for each kind of enclave (all that a policy can read) and remembered for
//! [`REMEMBERED_SECONDS`]: policies may speak of the time. It admits or not; it lowers nothing, since whoever is in the pool
//! was admitted by the pool's policy before.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use legation_core::{Digest, Rejection, Seq, TenantId, UnixTime, statement::Passport};
use legation_policy::{Options, Policy, PolicyError, Problem, References, Scope};
use serde::{Deserialize, Serialize};

use crate::{
    apply::Change,
    event::Event,
    pool::{Env, Pool},
    proofs::Current,
    queue::Chances,
    text::cut,
};

/// Versions of one policy that are kept at hand; the journal has them all.
pub(crate) const VERSIONS_KEPT: usize = 32;
/// Most policies of tenants.
const TENANTS_MAX: usize = 4096;
/// Seconds that a verdict about a kind of enclave is remembered.
const REMEMBERED_SECONDS: u64 = 30;
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
struct Remembered(Mutex<BTreeMap<(Scope, Digest), Verdict>>);

/// When it was found, and why not, if not.
type Verdict = (UnixTime, Option<Rejection>);

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
    /// The pool's policy, or a tenant's. Whether development evidence is admitted at all is not the journal's to say: a
    /// verifier adds that.
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

    /// Why a tenant's policy keeps its tasks off an enclave, if it does: `place.policy`.
    pub(crate) fn tenant_refuses(&self, tenant: &TenantId, proof: &Current, now: UnixTime) -> Option<Rejection> {
        if self.policies.kept.is_empty() {
            return None;
        }
        let scope = Scope::Tenant(tenant.clone());
        let policy = &self.policies.kept.get(&scope)?.policy;
        let mut remembered = self.policies.remembered.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (scope, proof.kind);
        if let Some((at, verdict)) = remembered.get(&key)
            && *at <= now
            && now.since(*at) <= REMEMBERED_SECONDS
        {
            return verdict.clone();
        }
        let passport: &Passport = &proof.proof.passport;
        let verdict = policy.admit(passport.into(), now).err().map(|why| Rejection { check: PLACE.to_owned(), ..why });
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(key, (now, verdict.clone()));
        verdict
    }

    /// Loads a text as the policy of `scope`, held to the reference values there are.
    pub(crate) fn load_policy(&self, scope: &Scope, text: &str) -> Result<Policy, PolicyError> {
        let options = Options::of(scope.clone(), false);
        Policy::load(&scope.to_string(), text, self.references().clone(), options)
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
        self.load_policy(&scope, &text).map_err(|e| e.rejection())?;
        out.record(self, env, Event::PolicySet { scope, text, author: cut(author) })?;
        out.chances = Chances::All;
        Ok(())
    }

    pub(crate) fn absorb_policy(
        &mut self,
        scope: &Scope,
        text: &str,
        author: &str,
        at: UnixTime,
        seq: Seq,
    ) -> Option<()> {
        let policy = Arc::new(self.load_policy(scope, text).ok()?);
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

/// The check by which a tenant's policy keeps its tasks off an enclave.
const PLACE: &str = "place.policy";

fn unknown(scope: &Scope) -> Rejection {
    Rejection::new("policy.unknown", format!("policy `{scope}`"))
        .expected("one that was set")
        .got("none")
        .fix("set it by `legation policy set FILE`")
}

//! What the rules of placement let a fragment do on enclaves of a kind: the pool's rules and the tenant's, asked together.
//!
//! 1. `place.policy`: neither the pool's policy nor the tenant's refuses enclaves of this kind (`policy.rs`).
//! 2. `data.residency`, `data.sensitivity`: the data may be there, with or without a policy.
//! 3. `place.policy`: the rules of placement of both permit it, where there are any.
//! 4. `limits.*`: what they let it use is no less than it asks for.
//!
//! The answer is a function of the enclave's kind (`kind.rs`), of what the rules can see of the fragment
//! ([`Policy::sees`]), of the demand, of the policies and, where [`Policy::depends_on_time`], of the time. It is
//! remembered by the first two for as long as policies stay what they are, and for [`REMEMBERED_SECONDS`].

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use legation_core::{
    Allowance, Digest, MicroUsd, Rejection, Seq, TenantId, UnixTime,
    requirement::Candidate,
    statement::Request,
    task::{Demand, Fragment},
};
use legation_policy::{Asked, Policy, Scope};

use crate::{
    apply::defect,
    enclave::Enclave,
    kind::Kind,
    policy::{PLACE, REMEMBERED_SECONDS},
    pool::Pool,
    wanted,
};

/// Most verdicts that are remembered.
const REMEMBERED_MAX: usize = 65_536;

/// Whose rules, of which kind of enclave, about what of a request.
type Key = (Scope, Digest, Digest);
type Verdicts = BTreeMap<Key, (UnixTime, Result<Allowance, Rejection>)>;

/// Verdicts of rules of placement: derived, so never compared and never copied.
#[derive(Default)]
pub(crate) struct Permits(Mutex<(Seq, Verdicts)>);

impl Clone for Permits {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Permits {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permits")
    }
}

impl Pool {
    /// What work of `request` may use on an enclave with a proof of this kind, or why it may not be there.
    pub(crate) fn permits(
        &self,
        request: &Request,
        fragment: &Fragment,
        kind: &Kind,
        price_hour: MicroUsd,
        now: UnixTime,
    ) -> Result<Allowance, Rejection> {
        let cost_max = wanted::cost_max(price_hour, &fragment.demand);
        self.permits_work(request, fragment, (&fragment.demand, cost_max), kind, price_hour, now)
    }

    /// The same where limits are held against other work than the rules are asked about, and the cost is another than its time's.
    pub(crate) fn permits_work(
        &self,
        request: &Request,
        fragment: &Fragment,
        (work, cost_max): (&Demand, MicroUsd),
        kind: &Kind,
        price_hour: MicroUsd,
        now: UnixTime,
    ) -> Result<Allowance, Rejection> {
        if let Some(why) = self.policy_refuses(&request.tenant, kind, now) {
            return Err(why);
        }
        request.data.check(kind.typical())?;
        let mut allowance = Allowance::default();
        let asked = || Asked::of(request, fragment, price_hour, cost_max);
        for (scope, policy) in self.placing(&request.tenant) {
            allowance = allowance.and(&self.permitted_by(scope, policy, &asked(), kind, now)?);
        }
        allowance.check_work(work)?;
        Ok(allowance)
    }

    /// The policies with rules of placement that are asked about a tenant's work.
    fn placing(&self, tenant: &TenantId) -> impl Iterator<Item = (Scope, &Policy)> {
        let scopes = if self.is_without_policies() {
            [None, None]
        } else {
            [Some(Scope::Pool), Some(Scope::Tenant(tenant.clone()))]
        };
        let known = scopes.into_iter().flatten().filter_map(|scope| {
            let policy = self.policy(&scope)?;
            Some((scope, &**policy))
        });
        known.filter(|(_, policy)| policy.places())
    }

    /// Whether nothing but requirements decides where a request's work may be.
    pub(crate) fn is_unruled(&self, request: &Request) -> bool {
        self.is_without_policies() && !request.data.restrict()
    }

    fn permitted_by(
        &self,
        scope: Scope,
        policy: &Policy,
        asked: &Asked<'_>,
        kind: &Kind,
        now: UnixTime,
    ) -> Result<Allowance, Rejection> {
        let key = (scope, kind.digest(), policy.sees(asked));
        let mut known = self.permits.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (as_of, verdicts) = &mut *known;
        if *as_of != self.policies_changed() || verdicts.len() >= REMEMBERED_MAX {
            (*as_of, *verdicts) = (self.policies_changed(), Verdicts::new());
        }
        if let Some((at, verdict)) = verdicts.get(&key)
            && *at <= now
            && now.since(*at) <= REMEMBERED_SECONDS
        {
            return verdict.clone();
        }
        let verdict = policy.place(kind.typical().into(), asked, now);
        let verdict = verdict.map_err(|why| Rejection { check: PLACE.to_owned(), ..why });
        verdicts.insert(key, (now, verdict.clone()));
        verdict
    }

    /// What work may use on an enclave that was chosen for it, by the freshest proof by which it was; nothing where nothing
    /// limits it.
    pub(crate) fn limits_at(
        &self,
        request: &Request,
        fragment: &Fragment,
        enclave: &Enclave,
        price_hour: MicroUsd,
        now: UnixTime,
    ) -> Result<Option<Allowance>, Rejection> {
        let mut refusal = None;
        for proof in enclave.proofs.for_tenant(&request.tenant, now) {
            let candidate = Candidate { passport: proof.typical(), price_hour };
            let satisfied = request.require.check(&candidate).and_then(|()| fragment.require.check(&candidate));
            match satisfied.and_then(|()| self.permits(request, fragment, &proof.kind, price_hour, now)) {
                Ok(allowance) => return Ok((!allowance.is_unlimited()).then_some(allowance)),
                Err(why) => refusal = refusal.or(Some(why)),
            }
        }
        Err(refusal.unwrap_or_else(|| defect("a chosen enclave without a proof")))
    }
}

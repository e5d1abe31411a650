//! What proves one enclave: passports of several verifiers, one of each that counts, and a few before them.
//!
//! 1. A verifier's newer passport replaces its older one; the older one is kept a while, since a report may name it.
//! 2. A proof that is dropped (its verifier took it back, or is revoked) is dropped with those before it: nothing rests on
//!    it from then on.
//! 3. The newest proof is remembered also when no proof counts any more: it says what the enclave was.

use std::sync::Arc;

use legation_core::{
    Digest, KeyId, Signed, TenantId, UnixTime,
    claims::{CollateralItem, Evidence},
    statement::{Appointment, Passport},
};
use serde::{Deserialize, Serialize};

use crate::snapshot::shared;

/// Passports of one verifier for one enclave that are kept, the current one included: a report may name the one before the
/// last renewal.
const PROOFS_KEPT: usize = 4;
/// Verifiers whose passports for one enclave are kept.
pub(crate) const VERIFIERS_MAX: usize = 16;

/// A passport with what is behind it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Proof {
    /// The passport.
    #[serde(with = "shared")]
    pub passport: Arc<Signed<Passport>>,
    /// Appointment of its verifier.
    #[serde(with = "shared")]
    pub appointment: Arc<Signed<Appointment>>,
    /// The evidence behind it.
    #[serde(with = "shared")]
    pub evidence: Arc<Evidence>,
    /// The collateral behind it, ascending by digest.
    #[serde(with = "shared::list")]
    pub collateral: Vec<Arc<CollateralItem>>,
}

/// A proof that counts while its passport holds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Current {
    pub(crate) proof: Proof,
    pub(crate) verifier: KeyId,
    issued: UnixTime,
    expires: UnixTime,
    /// Digest of all that a requirement can ask about: proofs of one kind satisfy the same requirements.
    pub(crate) kind: Digest,
}

impl Current {
    fn new(proof: Proof) -> Self {
        let passport = &proof.passport;
        Self {
            verifier: passport.verifier_id(),
            issued: passport.issued,
            expires: passport.expires,
            kind: kind(passport),
            proof,
        }
    }

    /// Whether it holds at `now`.
    pub(crate) fn holds_at(&self, now: UnixTime) -> bool {
        self.issued <= now && now <= self.expires
    }

    /// From when until when it holds.
    pub(crate) fn holds(&self) -> (UnixTime, UnixTime) {
        (self.issued, self.expires)
    }

    fn rank(&self) -> (UnixTime, UnixTime, KeyId) {
        (self.issued, self.expires, self.verifier)
    }
}

/// Digest of claims and configuration without what is each enclave's own, which no requirement can name.
fn kind(passport: &Passport) -> Digest {
    let mut claims = passport.claims.clone();
    claims.chip.value.clear();
    claims.report_data.clear();
    for gpu in &mut claims.gpus {
        gpu.value.chip.clear();
    }
    let mut configuration = passport.configuration.clone();
    configuration.slot = 0;
    let ear = serde_json::to_vec(&passport.ear).unwrap_or_default();
    let claims = serde_json::to_vec(&claims).unwrap_or_default();
    Digest::of_parts(&[&claims, &ear, passport.verifier_id().digest().as_bytes(), &configuration.encode()])
}

/// The proofs of one enclave.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Proofs {
    /// The newest, whether or not it counts.
    newest: Proof,
    /// Those that count, one of each verifier, the freshest first.
    current: Vec<Current>,
    /// Those before them, newest last.
    earlier: Vec<Proof>,
}

impl Proofs {
    pub(crate) fn new(proof: Proof) -> Self {
        Self { newest: proof.clone(), current: vec![Current::new(proof)], earlier: Vec::new() }
    }

    /// Takes a proof in place of the one of the same verifier.
    pub(crate) fn take(&mut self, proof: Proof) {
        self.newest = proof.clone();
        let new = Current::new(proof);
        if let Some(place) = self.current.iter().position(|c| c.verifier == new.verifier) {
            self.earlier.push(self.current.remove(place).proof);
            let same = |p: &Proof| p.passport.verifier_id() == new.verifier;
            if self.earlier.iter().filter(|p| same(p)).count() >= PROOFS_KEPT
                && let Some(oldest) = self.earlier.iter().position(same)
            {
                self.earlier.remove(oldest);
            }
        }
        if self.current.len() >= VERIFIERS_MAX
            && let Some(first) = self.current.iter().enumerate().min_by_key(|(_, c)| c.expires).map(|(i, _)| i)
        {
            let gone = self.current.remove(first).verifier;
            self.earlier.retain(|p| p.passport.verifier_id() != gone);
        }
        self.current.push(new);
        self.current.sort_by_key(|c| std::cmp::Reverse(c.rank()));
    }

    /// Whether there is room for a proof of `verifier` at `now`, if need be for one that is over.
    pub(crate) fn has_room_for(&self, verifier: KeyId, now: UnixTime) -> bool {
        self.current.len() < VERIFIERS_MAX || self.current.iter().any(|c| c.verifier == verifier || c.expires < now)
    }

    /// Drops all proofs that `gone` says; says whether one of them counted.
    pub(crate) fn drop_where(&mut self, gone: impl Fn(&Passport) -> bool) -> bool {
        let before = self.current.len();
        self.current.retain(|c| !gone(&c.proof.passport));
        self.earlier.retain(|p| !gone(&p.passport));
        if let Some(freshest) = self.current.first() {
            self.newest = freshest.proof.clone();
        }
        self.current.len() < before
    }

    pub(crate) fn newest(&self) -> &Proof {
        &self.newest
    }

    /// Those that count, the freshest first.
    pub(crate) fn current(&self) -> &[Current] {
        &self.current
    }

    pub(crate) fn of(&self, verifier: KeyId) -> Option<&Proof> {
        self.current.iter().find(|c| c.verifier == verifier).map(|c| &c.proof)
    }

    /// The proof whose passport has this digest, unless it was dropped.
    pub(crate) fn by(&self, passport: Digest) -> Option<&Proof> {
        let current = self.current.iter().map(|c| &c.proof);
        current.chain(self.earlier.iter().rev()).find(|p| p.passport.digest() == passport)
    }

    /// Whether any holds at `now`.
    pub(crate) fn hold_at(&self, now: UnixTime) -> bool {
        self.current.iter().any(|c| c.holds_at(now))
    }

    /// Whether all are over at `now`: then none returns by itself.
    pub(crate) fn are_over_at(&self, now: UnixTime) -> bool {
        self.current.iter().all(|c| c.expires < now)
    }

    /// Those that hold at `now` and whose verifier is trusted with the work of `tenant`, the freshest first.
    pub(crate) fn for_tenant<'a>(
        &'a self,
        tenant: &'a TenantId,
        now: UnixTime,
    ) -> impl Iterator<Item = &'a Current> + 'a {
        self.current.iter().filter(move |c| c.holds_at(now) && c.proof.appointment.covers_tenant(tenant))
    }

    /// All that are kept.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Proof> {
        self.current.iter().map(|c| &c.proof).chain(&self.earlier)
    }

    /// Until when one of them holds.
    pub(crate) fn until(&self) -> Option<UnixTime> {
        self.current.iter().map(|c| c.expires).max()
    }
}

//! Kinds of proofs: what requirements, policies, prices and ranking can see of one, kept once for all that have it in common.
//!
//! 1. A kind is everything in a passport that is not each enclave's own, and the appointment of the verifier: two proofs of one kind
//!    get the same answer from everybody who decides.
//! 2. Kinds and what else proofs share are held in tables, and forgotten when nobody has them any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use legation_core::{
    Digest, KeyId, PublicKey, Signed, UnixTime,
    claims::Configuration,
    key::SealingPublicKey,
    statement::{Appointment, Passport},
};
use serde::{Deserialize, Serialize};

use crate::{
    brief::{Behind, Brief},
    footprint::{block, shared_block, tree},
    snapshot::shared,
};

/// Fewest entries of a table at which it is looked for those that nobody has.
const SWEPT_MIN: usize = 64;

/// A kind of proof.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kind {
    digest: Digest,
    verifier: KeyId,
    #[serde(with = "shared")]
    appointment: Arc<Signed<Appointment>>,
    typical: Passport,
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Kind {
    fn new(passport: &Passport, appointment: &Signed<Appointment>) -> Self {
        let typical = typical(passport);
        Self {
            digest: digest(&typical),
            verifier: passport.verifier_id(),
            appointment: Arc::new(appointment.clone()),
            typical,
        }
    }

    /// What tells it from all others: all that a requirement or a policy can ask about, and the appointment.
    pub(crate) fn key(&self) -> (Digest, Digest) {
        (self.digest, self.appointment.digest())
    }

    /// The part of it that requirements and policies can ask about: proofs of one get the same answers.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn verifier(&self) -> KeyId {
        self.verifier
    }

    pub(crate) fn appointment(&self) -> &Arc<Signed<Appointment>> {
        &self.appointment
    }

    /// A passport of nobody: what is each enclave's own is blank.
    pub(crate) fn typical(&self) -> &Passport {
        &self.typical
    }
}

/// A passport without what is each enclave's own.
fn typical(passport: &Passport) -> Passport {
    let mut claims = passport.claims.clone();
    claims.chip.value.clear();
    claims.report_data.clear();
    for gpu in &mut claims.gpus {
        gpu.value.chip.clear();
    }
    Passport {
        verifier: passport.verifier,
        issued: UnixTime(0),
        expires: UnixTime(0),
        enclave: PublicKey::from_bytes([0; 32]),
        sealing: SealingPublicKey::from_bytes([0; SealingPublicKey::LEN]),
        ear: passport.ear.clone(),
        claims,
        configuration: shared_part(&passport.configuration),
        evidence: Digest::from_bytes([0; 32]),
        collateral: Vec::new(),
        prev: passport.prev.clone(),
    }
}

/// A configuration without what is each enclave's own: of its address, only whether there is one.
pub(crate) fn shared_part(configuration: &Configuration) -> Configuration {
    let advertise = configuration.advertise.as_ref().map(|_| String::new());
    Configuration { advertise, ..configuration.clone() }
}

fn digest(typical: &Passport) -> Digest {
    let ear = serde_json::to_vec(&typical.ear).unwrap_or_default();
    let claims = serde_json::to_vec(&typical.claims).unwrap_or_default();
    let verifier = typical.verifier_id();
    Digest::of_parts(&[&claims, &ear, verifier.digest().as_bytes(), &typical.configuration.encode()])
}

/// What proofs share. Derived: two tables are always equal.
#[derive(Clone, Default)]
pub(crate) struct Kinds {
    kinds: BTreeMap<(Digest, Digest), Arc<Kind>>,
    behind: BTreeSet<Arc<Behind>>,
    /// Entries of each at which it is looked again for those that nobody has.
    sweep_at: (usize, usize),
}

impl PartialEq for Kinds {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kinds({})", self.kinds.len())
    }
}

impl Kinds {
    /// The kind of a proof.
    pub(crate) fn of(&mut self, passport: &Passport, appointment: &Signed<Appointment>) -> Arc<Kind> {
        self.kind(Arc::new(Kind::new(passport, appointment)))
    }

    fn kind(&mut self, kind: Arc<Kind>) -> Arc<Kind> {
        let known = self.kinds.entry(kind.key()).or_insert(kind).clone();
        if self.kinds.len() > self.sweep_at.0 {
            self.kinds.retain(|_, kind| Arc::strong_count(kind) > 1);
            self.sweep_at.0 = self.kinds.len().saturating_mul(2).max(SWEPT_MIN);
        }
        known
    }

    /// One value for all that are equal; nothing for nothing.
    pub(crate) fn behind(&mut self, behind: Behind) -> Option<Arc<Behind>> {
        if behind.is_nothing() {
            return None;
        }
        if let Some(known) = self.behind.get(&behind) {
            return Some(known.clone());
        }
        let new = Arc::new(behind);
        self.behind.insert(new.clone());
        if self.behind.len() > self.sweep_at.1 {
            self.behind.retain(|behind| Arc::strong_count(behind) > 1);
            self.sweep_at.1 = self.behind.len().saturating_mul(2).max(SWEPT_MIN);
        }
        Some(new)
    }

    /// Lets a proof that was read share what others have too.
    pub(crate) fn adopt(&mut self, brief: &mut Brief) {
        let behind = brief.behind.take();
        brief.behind = behind.and_then(|behind| self.behind(Arc::unwrap_or_clone(behind)));
        brief.kind = self.kind(brief.kind.clone());
    }

    /// Bytes of kinds and of all else that is shared, about.
    pub(crate) fn weight(&self) -> usize {
        let text = |kind: &Kind| serde_json::to_vec(&kind.typical).map_or(0, |text| text.len());
        let kinds: usize = self.kinds.values().map(|kind| shared_block::<Kind>() + block(text(kind))).sum();
        let behind: usize = self.behind.iter().map(|behind| behind.weight()).sum();
        let trees = tree::<(Digest, Digest), Arc<Kind>>(self.kinds.len()) + tree::<Arc<Behind>, ()>(self.behind.len());
        kinds + behind + trees
    }
}

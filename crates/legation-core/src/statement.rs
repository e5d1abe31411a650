//! The predicates: everything that must convince a stranger, and how each rests on the others.
//!
//! ```text
//! appointment <- passport <-----------------------.
//!      ^                                          |
//!      '------- allocation <------------------- report <- aggregate <- (next) request
//!                  |    request <- grant <--------'
//!                  '------^
//! ```
//! Every arrow is a digest in `prev`; a receipt holds the closure of its roots. A swarm's statements are in [`crate::swarm`],
//! those of work that an enclave hands on in [`crate::delegation`].

use serde::{Deserialize, Serialize};

use crate::{
    claims::{Claims, Configuration, Tcb, TeeKind},
    digest::Digest,
    dsse::{Predicate, Subject},
    encoding::{b64, b64_list},
    id::{EnclaveId, FragmentIndex, KeyId, LeaseId, ProviderId, Region, RevocationEpoch, TaskId, TenantId, Term},
    key::{PublicKey, SealingPublicKey},
    limits::Allowance,
    prefer::{DataTerms, Preferences},
    requirement::Requirement,
    swarm::{SeatDemand, SeatRef, SwarmTerms},
    task::{Fragment, OutputRef},
    time::UnixTime,
    unit::MicroUsd,
};

mod assurance;
mod grant;
mod proof;
mod report;

pub use assurance::{Assurance, Diversity, REPLICAS_MAX, REPLICAS_MIN};
pub use grant::{Delegable, Grant, GrantSubject};
pub use proof::{ExecutionClaim, ExecutionProof, args_digest};
pub use report::{Answer, Committed, Outcome, Report, Usage};

/// What a key may do, as appointed by an operator's root.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Office {
    /// Signs passports.
    Verifier,
    /// Signs allocations and answers as the manager.
    Manager,
}

/// An operator's root appoints a key to an office. `prev` is empty: it rests on the reader's anchor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Appointment {
    /// The root that signs this.
    pub operator: PublicKey,
    /// The key appointed.
    pub key: PublicKey,
    /// To what.
    pub office: Office,
    /// For what a verifier is trusted; for everything without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Not before.
    pub not_before: UnixTime,
    /// Not after.
    pub not_after: UnixTime,
}

/// For whom and for which machines a verifier's word counts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// For the work of these tenants, ascending; of all without a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<TenantId>>,
    /// On machines of these kinds, ascending; on all without a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<TeeKind>>,
}

impl Appointment {
    /// Whether a verifier of this appointment is trusted with machines of `kind`.
    pub fn covers_kind(&self, kind: TeeKind) -> bool {
        self.scope.as_ref().and_then(|s| s.kinds.as_ref()).is_none_or(|kinds| kinds.contains(&kind))
    }

    /// Whether a verifier of this appointment is trusted with the work of `tenant`.
    pub fn covers_tenant(&self, tenant: &TenantId) -> bool {
        self.scope.as_ref().and_then(|s| s.tenants.as_ref()).is_none_or(|tenants| tenants.contains(tenant))
    }
}

impl Predicate for Appointment {
    const TYPE: &'static str = "https://legation.dev/appointment/v1";

    fn signer(&self) -> PublicKey {
        self.operator
    }

    fn prev(&self) -> &[Digest] {
        &[]
    }

    fn subjects(&self) -> Vec<Subject> {
        vec![Subject::new("key", self.key.id().digest())]
    }
}

/// A task as its client asks for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The client, who signs this.
    pub client: PublicKey,
    /// Key that results without an owner of their own are sealed to.
    pub sealing: SealingPublicKey,
    /// On whose account.
    pub tenant: TenantId,
    /// What people call it.
    pub name: String,
    /// When it was made.
    pub created: UnixTime,
    /// When it is given up.
    pub expires: UnixTime,
    /// The pieces; a piece may read outputs of earlier ones.
    pub fragments: Vec<Fragment>,
    /// What every enclave must satisfy.
    pub require: Requirement,
    /// Who is best among those.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prefer: Preferences,
    /// What is said of the data.
    #[serde(default, skip_serializing_if = "is_default")]
    pub data: DataTerms,
    /// The enclaves that work on it at once; each fragment finds one for itself without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swarm: Option<SwarmTerms>,
    /// How results are assured.
    pub assurance: Assurance,
    /// What the whole may cost at most.
    pub budget: MicroUsd,
    /// Makes two requests of the same content two tasks.
    pub nonce: Digest,
    /// Earlier work this one builds on.
    pub prev: Vec<Digest>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Predicate for Request {
    const TYPE: &'static str = "https://legation.dev/request/v1";

    fn signer(&self) -> PublicKey {
        self.client
    }

    fn prev(&self) -> &[Digest] {
        &self.prev
    }

    fn subjects(&self) -> Vec<Subject> {
        let named = |i: usize, what: &str| format!("fragment-{i}/{what}");
        let mut out = Vec::new();
        for (i, fragment) in self.fragments.iter().enumerate() {
            out.push(Subject::new(named(i, "module"), fragment.module));
            for input in fragment.sealed_inputs() {
                out.push(Subject::new(named(i, &input.name), input.ciphertext));
            }
        }
        out
    }
}

/// The manager's word on which enclave gets a fragment, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allocation {
    /// The manager, who signs this.
    pub manager: PublicKey,
    /// Its term.
    pub term: Term,
    /// The task.
    pub task: TaskId,
    /// The fragment.
    pub fragment: FragmentIndex,
    /// The promise.
    pub lease: LeaseId,
    /// Begin of the promise.
    pub from: UnixTime,
    /// End of the promise.
    pub until: UnixTime,
    /// The enclave.
    pub enclave: EnclaveId,
    /// Its owner.
    pub provider: ProviderId,
    /// Its place.
    pub region: Region,
    /// Price of one hour of the fragment's demand there.
    pub price_hour: MicroUsd,
    /// What the work may use there, where the policies that permit it limit that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Allowance>,
    /// Why this one.
    pub why: Placement,
    /// As of which revocation.
    pub revocations: RevocationEpoch,
    /// The seat it is within, of a fragment that a swarm works on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seat: Option<SeatRef>,
    /// To whom the enclave is lent, of a promise that is for calls and not for the fragment itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loan: Option<LoanRef>,
    /// The request, the manager's appointment, the allocation this one replaces (or repeats) if any, and in a swarm the
    /// memberships of its round in the order of its members. Of a loan: the request, the appointment, the borrower's allocation.
    pub prev: Vec<Digest>,
}

/// To whom an enclave is lent: it runs the borrower's calls, one at a time, while the loan lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoanRef {
    /// The borrower's own promise: of its fragment, or of a loan to somebody else. The loan ends with it.
    pub of: LeaseId,
    /// The borrower: whose calls are to be run.
    pub borrower: EnclaveId,
    /// Which of the loans under that promise, counted from 1.
    pub number: u32,
    /// What it sets aside; the time is for one call, at most.
    pub demand: SeatDemand,
}

/// Why an enclave was chosen, in numbers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// Enclaves looked at.
    pub considered: u32,
    /// Enclaves that could have taken it.
    pub eligible: u32,
    /// How many were passed over for each reason, most frequent first.
    pub passed_over: Vec<PassedOver>,
    /// What decided, such as `cheapest of 3`.
    pub decided_by: String,
}

/// A reason and how many enclaves it ruled out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassedOver {
    /// Short form of the check.
    pub check: String,
    /// How many.
    pub enclaves: u32,
}

impl Predicate for Allocation {
    const TYPE: &'static str = "https://legation.dev/allocation/v1";

    fn signer(&self) -> PublicKey {
        self.manager
    }

    fn prev(&self) -> &[Digest] {
        &self.prev
    }

    fn subjects(&self) -> Vec<Subject> {
        vec![Subject::new("request", self.task.digest())]
    }
}

/// A reducing enclave's word that its result rests on these reports.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    /// Identity key of the enclave, which signs this.
    pub enclave: PublicKey,
    /// The task.
    pub task: TaskId,
    /// The reducing fragment.
    pub fragment: FragmentIndex,
    /// Reports of the fragments whose outputs were reduced, in the order they were read.
    pub reports: Vec<Digest>,
    /// The result, sealed; nothing when there was none.
    pub result: Option<OutputRef>,
    /// Privacy budget spent, in words; `none` where no mechanism was asked for.
    pub privacy: String,
    /// Its own report, then `reports`.
    pub prev: Vec<Digest>,
}

impl Predicate for Aggregate {
    const TYPE: &'static str = "https://legation.dev/aggregate/v1";

    fn signer(&self) -> PublicKey {
        self.enclave
    }

    fn prev(&self) -> &[Digest] {
        &self.prev
    }

    fn subjects(&self) -> Vec<Subject> {
        match &self.result {
            Some(result) => vec![Subject::new("result", result.ciphertext)],
            None => self.reports.iter().map(|r| Subject::new("report", *r)).collect(),
        }
    }
}

/// A verifier's word that an attestation key lives in the TPM of an endorsement key: it saw a credential activated there
/// (TPM 2.0 Library, Part 1, section 24). Where a cloud certifies attestation keys itself, nobody needs this.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyAttestation {
    /// The verifier, who signs this.
    pub verifier: PublicKey,
    /// The attestation key, `TPMT_PUBLIC`.
    #[serde(with = "b64")]
    pub ak: Vec<u8>,
    /// Certificates of the endorsement key, leaf first, DER; never the root.
    #[serde(with = "b64_list")]
    pub ek: Vec<Vec<u8>>,
    /// When it was seen.
    pub issued: UnixTime,
    /// Until when this may be shown.
    pub expires: UnixTime,
    /// The verifier's appointment.
    pub prev: Vec<Digest>,
}

impl Predicate for KeyAttestation {
    const TYPE: &'static str = "https://legation.dev/attestation-key/v1";

    fn signer(&self) -> PublicKey {
        self.verifier
    }

    fn prev(&self) -> &[Digest] {
        &self.prev
    }

    fn subjects(&self) -> Vec<Subject> {
        vec![Subject::new("ak", Digest::of(&self.ak))]
    }
}

/// Longest life of a passport, in seconds.
pub const PASSPORT_LIFE_MAX: u64 = 3600;

/// Trustworthiness tier of an attestation result (draft-ietf-rats-ar4si section 2.3.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Affirmed.
    Affirming,
    /// Affirmed with a warning: every development enclave, among others.
    Warning,
    /// Not to be trusted.
    Contraindicated,
}

/// An attestation result in the shape of EAR (draft-ietf-rats-ear): status and trustworthiness vector by AR4SI.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ear {
    /// Overall status: the worst of the vector.
    pub status: Tier,
    /// AR4SI claims and their values, by name.
    pub vector: std::collections::BTreeMap<String, i8>,
    /// Which policy appraised it.
    pub policy: String,
    /// SHA-256 of the policy's text.
    pub policy_digest: Digest,
    /// The machine's security version, with what the verifier knows of it: where the vendor publishes no status, held
    /// against the verifier's reference values.
    pub tcb: Tcb,
    /// Names of the reference values that its measurements are equal to, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// Until when it is admitted although something must be mended, and what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Grace>,
}

/// A dated exception: admitted now, refused after.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grace {
    /// Last second of it.
    pub until: UnixTime,
    /// Which rule grants it.
    pub rule: String,
    /// What must be mended until then.
    pub why: String,
}

/// Passport: a verifier's attestation result that confirms an enclave's keys.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passport {
    /// The verifier, who signs this.
    pub verifier: PublicKey,
    /// When the evidence was judged.
    pub issued: UnixTime,
    /// Until when it holds.
    pub expires: UnixTime,
    /// Identity key it confirms (`cnf`).
    pub enclave: PublicKey,
    /// Sealing key it confirms.
    pub sealing: SealingPublicKey,
    /// The appraisal.
    pub ear: Ear,
    /// What was found.
    pub claims: Claims,
    /// What the enclave says of itself, measured.
    pub configuration: Configuration,
    /// Content address of the evidence.
    pub evidence: Digest,
    /// The collateral that was taken into account, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collateral: Vec<Digest>,
    /// The verifier's appointment.
    pub prev: Vec<Digest>,
}

impl Passport {
    /// Name of the enclave it confirms.
    pub fn enclave_id(&self) -> EnclaveId {
        self.enclave.enclave_id()
    }

    /// Name of the verifier's key.
    pub fn verifier_id(&self) -> KeyId {
        self.verifier.id()
    }

    /// Whether it holds at `now`.
    pub fn valid_at(&self, now: UnixTime) -> bool {
        self.issued <= now && now <= self.expires
    }
}

impl Predicate for Passport {
    const TYPE: &'static str = "https://legation.dev/passport/v1";

    fn signer(&self) -> PublicKey {
        self.verifier
    }

    fn prev(&self) -> &[Digest] {
        &self.prev
    }

    fn subjects(&self) -> Vec<Subject> {
        vec![Subject::new("enclave", self.enclave_id().digest()), Subject::new("evidence", self.evidence)]
    }
}

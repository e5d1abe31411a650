//! Control messages between an agent and the manager: JSON in control frames, contents of objects in data frames.
//!
//! ```text
//! agent                                    manager
//!   | AskActivation ------------------------>|      (a TPM whose attestation key nobody certified, once a boot)
//!   |<-------------------------- Activate    |
//!   | Activated ---------------------------->|
//!   |<----------------------- KeyAttested    |
//!   | AskChallenge ------------------------->|      (as applicant: nothing else is allowed)
//!   |<------------------------- Challenge    |
//!   | Evidence ----------------------------->|  verifier judges
//!   |<---------------- Admitted | Refused    |
//!   |  ... channel renews with the passport: attested from here on ...
//!   | Present ------------------------------>|  what still runs here, which term was obeyed
//!   |<----------------------------- Offer    |
//!   | Fetch -------------------------------->|<- data frames of that stream
//!   |<------------- Revocations | Reattest   |
//!   | Heeded | AskChallenge ---------------->|
//!   |<---------------------------- Enlist    |  the members of a swarm's round, with this agent among them
//!   | Join | Refuse ------------------------>|
//!   | Refuse | data frames, then Report ---->|  journalled, then
//!   |<---------------------- Acknowledged    |  (until then the agent keeps the report and sends it again)
//! ```

use legation_core::{
    Digest, LeaseId, Rejection, RevocationEpoch, RevocationList, Seq, Signed, Term,
    claims::Evidence,
    encoding::{b64, b64_list},
    statement::{Aggregate, Allocation, Appointment, Grant, KeyAttestation, Passport, Report, Request},
    swarm::{Membership, Seating},
    task::WrappedKey,
};
use serde::{Deserialize, Serialize};

/// What the manager says to an agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "say", content = "with", rename_all = "kebab-case")]
pub enum ToAgent {
    /// Attest over this nonce.
    Challenge {
        /// Fresh for this agent.
        nonce: Digest,
    },
    /// The evidence was accepted.
    Admitted {
        /// What to present from now on.
        passport: Box<Signed<Passport>>,
        /// Why its verifier may be believed.
        appointment: Box<Signed<Appointment>>,
    },
    /// Prove that your attestation key lives in the TPM of this endorsement key: decrypt this.
    Activate {
        /// `TPM2B_ID_OBJECT`.
        #[serde(with = "b64")]
        credential: Vec<u8>,
        /// `TPM2B_ENCRYPTED_SECRET`.
        #[serde(with = "b64")]
        secret: Vec<u8>,
    },
    /// The attestation key was activated: endorse its quotes with this.
    KeyAttested {
        /// The verifier's word.
        statement: Box<Signed<KeyAttestation>>,
        /// Why the verifier may be believed.
        appointment: Box<Signed<Appointment>>,
    },
    /// Attest again now: what the last appraisal rested on has changed.
    Reattest {
        /// What changed, in words.
        why: String,
    },
    /// Everything that is revoked so far. Answered by `Heeded`.
    Revocations {
        /// The manager's signed list.
        list: Box<Signed<RevocationList>>,
        /// Why the manager may be believed.
        appointment: Box<Signed<Appointment>>,
    },
    /// The evidence was refused.
    Refused {
        /// Why.
        why: Rejection,
    },
    /// Run this.
    Offer(Box<Offer>),
    /// Judge these, and join them. Answered by `Join`, or by `Refuse` under the promise of the seat.
    Enlist(Box<Enlist>),
    /// Stop this; of a seat, it has ended.
    Cancel {
        /// Under which promise.
        lease: LeaseId,
    },
    /// The report of this lease is journalled (or will never be wanted): forget it.
    Acknowledged {
        /// Under which promise.
        lease: LeaseId,
    },
    /// The object asked for on this stream is not here.
    Missing {
        /// Stream the agent chose.
        stream: u64,
    },
}

/// Everything an agent needs in order to judge whether it may run a fragment, and to run it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Term of the manager: an older one than obeyed before is refused.
    pub term: Term,
    /// Journal position of the offer.
    pub seq: Seq,
    /// The manager's word on this fragment.
    pub allocation: Signed<Allocation>,
    /// Why the manager may be believed.
    pub appointment: Signed<Appointment>,
    /// The client's word.
    pub request: Signed<Request>,
    /// The owners' and holders' word.
    pub grants: Vec<Signed<Grant>>,
    /// Keys of the inputs, wrapped to this enclave, in the order of the inputs.
    pub keys: Vec<WrappedKey>,
    /// Reports of the fragments whose outputs are read, in order.
    pub upstream: Vec<Upstream>,
}

/// Everything a member needs in order to judge the round of a swarm that it has a seat in: at most as many members as a swarm
/// may have ([`legation_core::swarm::MEMBERS_MAX`]).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enlist {
    /// Term of the manager: an older one than obeyed before is refused.
    pub term: Term,
    /// Journal position of this.
    pub seq: Seq,
    /// The manager's word on who has seats.
    pub seating: Signed<Seating>,
    /// Why the manager may be believed.
    pub appointment: Signed<Appointment>,
    /// The client's word.
    pub request: Signed<Request>,
    /// The members, in the order of the seating, the reader among them.
    pub members: Vec<Peer>,
}

/// A member with what makes it believable.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its passport.
    pub passport: Signed<Passport>,
    /// Appointment of the verifier that signed that.
    pub appointment: Signed<Appointment>,
}

/// A report with what makes it believable.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The report.
    pub report: Signed<Report>,
    /// Passport of the enclave that signed it.
    pub passport: Signed<Passport>,
    /// Appointment of the verifier that signed that.
    pub appointment: Signed<Appointment>,
}

/// What an agent says to the manager.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "say", content = "with", rename_all = "kebab-case")]
pub enum ToManager {
    /// Wants a nonce to attest over.
    AskChallenge,
    /// Wants its attestation key activated: answered by `Activate`.
    AskActivation {
        /// The attestation key, `TPMT_PUBLIC`.
        #[serde(with = "b64")]
        ak: Vec<u8>,
        /// The endorsement key, `TPMT_PUBLIC`.
        #[serde(with = "b64")]
        ek: Vec<u8>,
        /// Certificates of the endorsement key, leaf first, DER; never the root.
        #[serde(with = "b64_list")]
        certificates: Vec<Vec<u8>>,
    },
    /// What was in the credential of the last `Activate`.
    Activated {
        /// The secret.
        secret: Digest,
    },
    /// Has heeded the revocations up to this epoch: channels to what they cover are closed.
    Heeded {
        /// The latest epoch.
        epoch: RevocationEpoch,
    },
    /// Attests over the last nonce.
    Evidence(Box<Evidence>),
    /// Ready for offers.
    Present {
        /// Leases still running or reported but not acknowledged here.
        running: Vec<LeaseId>,
        /// Highest (term, journal position) obeyed.
        obeyed: (Term, Seq),
    },
    /// Will not run what was offered.
    Refuse {
        /// Under which promise.
        lease: LeaseId,
        /// Why.
        why: Rejection,
    },
    /// Has judged the members of a round, and works with them.
    Join(Box<Signed<Membership>>),
    /// Ran what was offered.
    Report(Box<Reported>),
    /// Send the object with this digest on this stream.
    Fetch {
        /// SHA-256 of the object.
        digest: Digest,
        /// Stream the agent chose.
        stream: u64,
    },
    /// The data frames of this stream are the object with this digest.
    Store {
        /// SHA-256 of the object.
        digest: Digest,
        /// Stream the agent chose.
        stream: u64,
    },
    /// Takes no more offers; will close when nothing runs.
    Draining,
}

/// A finished execution.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reported {
    /// The report.
    pub report: Signed<Report>,
    /// The aggregate, of a fragment that read outputs of others.
    pub aggregate: Option<Signed<Aggregate>>,
    /// Keys of output and log, wrapped to the fragment's owner.
    pub keys: Vec<WrappedKey>,
}

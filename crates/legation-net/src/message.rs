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
//!   |<----------------------- Checkpoint     |  of the transparency log
//!   | AskLog ------------------------------->|  where the agent remembers another tree than that one continues
//!   |<---------------------------- Enlist    |  the members of a swarm's round, with this agent among them
//!   | Join | Refuse ------------------------>|
//!   | Borrow ------------------------------->|  of a task that hands parts of its work on
//!   |<---------------- Lent | LoanRefused    |  and to the enclave that is lent: Lend
//!   | GiveBack | Refuse (who is lent) ------>|
//!   |<----------------------- LoanEnded      |  to both
//!   | Refuse | data frames, then Report ---->|  journalled, then
//!   |<---------------------- Acknowledged    |  (until then the agent keeps the report and sends it again)
//!   | Proving ------------------------------>|  of an answer that is to be proven, while that goes on
//!   | Proved ------------------------------->|  a statement, of bytes that the manager asks for if it wants them
//!   |<------------------------ ProofWanted   |
//!   | data frames, then Proved again ------->|  journalled, then
//!   |<-------- ProofTaken | ProofRefused     |
//!   | Unproved ----------------------------->|  or there will be no proof
//!   |<----------------------- CustodyChanged |  ceremonies of the swarm key that the agent helps to keep went on
//!   | AskCustody --------------------------->|
//!   |<------------------------------ Custody |  what there is of their boards, in pages
//!   | Custody ------------------------------>|  a word of a ceremony: the board is the answer
//! ```

use legation_core::{
    Digest, Envelope, LeaseId, Rejection, RevocationEpoch, RevocationList, Seq, Signed, SwarmName, TaskId, Term,
    claims::Evidence,
    custody::CustodyWord,
    delegation::LoanTerms,
    encoding::{b64, b64_list},
    statement::{Aggregate, Allocation, Appointment, ExecutionProof, Grant, KeyAttestation, Passport, Report, Request},
    swarm::{Membership, Seating},
    task::WrappedKey,
};
use serde::{Deserialize, Serialize};

use crate::custody::{CustodyNews, Seen};

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
    /// This enclave is lent to another: take its calls. May come again; known by its promise. Answered by nothing, or by `Refuse`
    /// under that promise.
    Lend(Box<Lending>),
    /// Another enclave is lent to this one. May come again; known by its promise.
    Lent {
        /// The `Borrow` that it answers; nothing when it is told again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ask: Option<u64>,
        /// The loan.
        loan: Box<Lending>,
    },
    /// No enclave is lent.
    LoanRefused {
        /// The `Borrow` that this answers.
        ask: u64,
        /// Why.
        why: Rejection,
    },
    /// A loan is over, on either side.
    LoanEnded {
        /// Which, by its promise.
        loan: LeaseId,
        /// Why, in words.
        why: String,
    },
    /// Stop this; of a seat or of a loan, it has ended.
    Cancel {
        /// Under which promise.
        lease: LeaseId,
    },
    /// The report of this lease is journalled (or will never be wanted): forget it.
    Acknowledged {
        /// Under which promise.
        lease: LeaseId,
    },
    /// The bytes of a proof are wanted: store them, and say `Proved` again.
    ProofWanted {
        /// The report that it is of.
        report: Digest,
    },
    /// A proof is journalled, or what there is to be said instead of one: forget it.
    ProofTaken {
        /// The report that it is of.
        report: Digest,
    },
    /// A proof is not taken. One of a report that nobody knows (`proof.unknown`) may be later: the report that rests on the answer
    /// may still be on its way.
    ProofRefused {
        /// The report that it is of.
        report: Digest,
        /// Why.
        why: Rejection,
    },
    /// How far the transparency log is that this manager keeps (docs/log.md). Nothing follows for the agent's work: it compares.
    Checkpoint {
        /// The log's signed checkpoint.
        note: String,
        /// The log's key, as a vkey (c2sp.org/signed-note).
        key: String,
        /// Entries of the tree that the hashes show it to continue.
        old: u64,
        /// Hash of the last whole subtree of that tree; nothing where that is empty or the same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seed: Option<Digest>,
        /// The hashes that lead from it to the checkpoint's root.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        path: Vec<Digest>,
    },
    /// The ceremonies of a swarm key went on: ask.
    CustodyChanged {
        /// Which.
        swarm: SwarmName,
    },
    /// What there is of them beyond what was asked with.
    Custody(Box<CustodyNews>),
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

/// Everything that either side of a loan needs in order to judge it, and the other.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lending {
    /// Term of the manager: an older one than obeyed before is refused.
    pub term: Term,
    /// Journal position of this.
    pub seq: Seq,
    /// The manager's word on who is lent to whom.
    pub allocation: Signed<Allocation>,
    /// Why the manager may be believed.
    pub appointment: Signed<Appointment>,
    /// The client's word.
    pub request: Signed<Request>,
    /// The borrower's own promise, which the allocation rests on.
    pub borrower: Signed<Allocation>,
    /// The other side: of the one that is lent its borrower, of the borrower the one that is lent. Where it takes channels is
    /// in its passport, measured ([`legation_core::claims::Configuration::advertise`]).
    pub other: Peer,
}

/// An enclave with what makes it believable: a member of a swarm, or the other side of a loan.
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
        /// Leases still running or reported but not acknowledged here, and loans on either side.
        running: Vec<LeaseId>,
        /// Highest (term, journal position) obeyed.
        obeyed: (Term, Seq),
    },
    /// Wants an enclave to hand calls to. Answered by `Lent`, or by `LoanRefused`.
    Borrow {
        /// What the agent calls this, in the answer.
        ask: u64,
        /// Its own promise that the loan is for: of a fragment that it runs, or of a loan that it works under.
        of: LeaseId,
        /// What the loan is to be like.
        terms: Box<LoanTerms>,
    },
    /// Needs an enclave no more that was lent to it.
    GiveBack {
        /// Under which promise.
        loan: LeaseId,
        /// Why the enclave is of no use, if it is not: nobody else of the task is lent it while there are others.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<Rejection>,
    },
    /// Will not run what was offered, or not be lent.
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
    /// Proves an answer of its own, and says how far that is. Answered by nothing.
    Proving {
        /// The task that it was for.
        task: TaskId,
        /// The answer.
        report: Digest,
        /// How much of it is done, in thousandths.
        done: u16,
        /// Seconds until it is there, about.
        seconds_left: u64,
    },
    /// Has proven an answer of its own. Answered by `ProofWanted`, `ProofTaken` or `ProofRefused`, or by nothing by a manager that
    /// cannot say: it is said again.
    Proved {
        /// The task that it was for.
        task: TaskId,
        /// What is proven. The bytes that it names are an object.
        statement: Box<Signed<ExecutionProof>>,
        /// Whether those were stored on this channel.
        stored: bool,
    },
    /// Cannot prove an answer of its own that was to be proven. Answered by `ProofTaken` or `ProofRefused`.
    Unproved {
        /// The task that it was for.
        task: TaskId,
        /// The answer.
        report: Digest,
        /// Why.
        why: Rejection,
    },
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
    /// Remembers another tree of the log than the last `Checkpoint` continued. Answered by one that continues this.
    AskLog {
        /// Its entries.
        old: u64,
        /// Its signed checkpoint, where it is larger than what this manager told: the manager is behind, or its journal lost its end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// What is new of the ceremonies of a swarm key? Answered by `Custody`.
    AskCustody {
        /// Which.
        swarm: SwarmName,
        /// What is known of the ceremony that is under way; nothing where none of it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        open: Option<Seen>,
        /// What is known of the one by which the committee came into force; nothing where none of it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        past: Option<Seen>,
    },
    /// A word of a ceremony. It is answered by the board: said again until it is seen there.
    Custody(Box<CustodyWord>),
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
    /// What the report rests on and no manager has seen: answers to its calls, the calls, and the grants that enclaves passed on, of
    /// its own calls and of all below. Each once, and nothing that it does not need.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attached: Vec<Envelope>,
}

//! What happened, as the journal keeps it, and what is to be done about it.

use legation_core::{
    Digest, EnclaveId, Envelope, FragmentId, FragmentIndex, KeyId, LeaseId, MicroUsd, PublicKey, Rejection,
    ReservationId, Revocation, Seq, Signed, SwarmName, TaskId, TenantId, Term, UnixTime,
    claims::{CollateralItem, Evidence},
    custody::{Charter, CustodyCall, CustodyWord},
    delegation::InTurn,
    prefer::Priority,
    statement::{Aggregate, Allocation, Appointment, ExecutionProof, Grant, Passport, Report, Request},
    swarm::{Membership, Seating},
    task::WrappedKey,
};
use legation_policy::{ReferenceValue, Scope};
use serde::{Deserialize, Serialize};

use crate::{
    account::AccountTerms,
    custody::{CallEnd, CallReason},
    distance::RoundTrip,
    meter::Metered,
    reserve::{Booking, ReservationEnd},
    swarm::{GangBooking, Unbooked},
    task::TaskState,
};

/// Version of the records this program writes. Unknown versions stop the start. Since version 3 reports are metered, and there
/// are accounts, and distances. Since version 4 distances are measured, work is pushed aside, places are reserved, enclaves are
/// cordoned by their operator, and swarms seated. Since version 5 an idle enclave that renews keeps one passport before its new one,
/// and room is booked ahead for swarms. Since version 6 enclaves are lent to running fragments, and
/// what they run may be proven. Since version 7 committees of enclaves have swarm keys.
pub const RECORD_VERSION: u32 = 7;
/// The oldest version that this program reads: what later ones added may be absent in it.
pub const RECORD_VERSION_OLDEST: u32 = 2;

/// One journal record: an event, when it happened, in whose term.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of the format.
    pub version: u32,
    /// Position; the first is 1, without gaps.
    pub seq: Seq,
    /// Term of the manager that wrote it.
    pub term: Term,
    /// When.
    pub at: UnixTime,
    /// What happened.
    pub event: Event,
}

/// Name of a client's try at submitting, kept with the task so that trying again is safe.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdempotencyKey {
    /// What the client chose.
    pub key: String,
    /// SHA-256 of the body it came with.
    pub body: Digest,
}

/// Something that happened. Signed statements are kept whole: the journal proves itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// A manager began to lead: whoever was connected is absent until it returns.
    TermBegan {
        /// Its appointment.
        appointment: Box<Signed<Appointment>>,
    },
    /// A verifier gave an enclave a passport: its first, or a renewal.
    Attested {
        /// The passport.
        passport: Box<Signed<Passport>>,
        /// The verifier's appointment.
        appointment: Box<Signed<Appointment>>,
        /// The evidence behind it.
        evidence: Box<Evidence>,
        /// The collateral behind it that no earlier record holds.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        collateral: Vec<CollateralItem>,
    },
    /// An attested channel to an enclave is open.
    Arrived {
        /// The enclave.
        enclave: EnclaveId,
    },
    /// The channel to an enclave is gone.
    Left {
        /// The enclave.
        enclave: EnclaveId,
        /// Why, in words.
        why: String,
    },
    /// An enclave takes no more offers.
    Draining {
        /// The enclave.
        enclave: EnclaveId,
    },
    /// The operator has nothing new placed on an enclave.
    Cordoned {
        /// The enclave.
        enclave: EnclaveId,
        /// Why, in words.
        why: String,
        /// By whom.
        author: String,
    },
    /// The operator takes that back, or lets in again what was decommissioned.
    Uncordoned {
        /// The enclave.
        enclave: EnclaveId,
        /// By whom.
        author: String,
    },
    /// The operator took an enclave out: it is forgotten and stays out.
    Decommissioned {
        /// The enclave.
        enclave: EnclaveId,
        /// Why, in words.
        why: String,
        /// By whom.
        author: String,
    },
    /// Something is no longer trusted: whatever rests on it falls with it.
    Revoked {
        /// What, as of which epoch, and why.
        revocation: Revocation,
    },
    /// Every proof of an enclave is over or was taken back: nothing is placed on it until it proves itself anew.
    Lapsed {
        /// The enclave.
        enclave: EnclaveId,
        /// Why.
        why: Rejection,
    },
    /// The pool's policy, as it is now, refuses an enclave whatever its proofs: as if it had lapsed.
    Barred {
        /// The enclave.
        enclave: EnclaveId,
        /// Why.
        why: Rejection,
    },
    /// A verifier took back its passport of an enclave.
    Withdrawn {
        /// The enclave.
        enclave: EnclaveId,
        /// The verifier, by its key.
        verifier: KeyId,
        /// Why.
        why: Rejection,
    },
    /// A client asked for a task.
    Submitted {
        /// What it asked for.
        request: Box<Signed<Request>>,
        /// Its try, if it named it.
        idempotency: Option<IdempotencyKey>,
    },
    /// Somebody granted, and released keys.
    Granted {
        /// The grant.
        grant: Box<Signed<Grant>>,
        /// Keys released with it.
        keys: Vec<WrappedKey>,
    },
    /// An enclave was promised to a fragment.
    Leased {
        /// The promise.
        allocation: Box<Signed<Allocation>>,
    },
    /// An enclave was lent to another that runs a fragment; not in records before version 5.
    Lent {
        /// The promise.
        allocation: Box<Signed<Allocation>>,
        /// What the enclave may borrow in turn, as the borrower said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        in_turn: Option<InTurn>,
    },
    /// A place is kept for a fragment, and what runs there makes way for it: less urgent work of accounts that allow it.
    Claimed {
        /// For which fragment.
        fragment: FragmentId,
        /// Where.
        enclave: EnclaveId,
        /// What makes way.
        victims: Vec<LeaseId>,
        /// Their last second.
        until: UnixTime,
    },
    /// A place is no longer kept: what has not ended there goes on.
    Unclaimed {
        /// For which fragment it was.
        fragment: FragmentId,
        /// The check that it does not pass.
        why: String,
    },
    /// A promise ended without a result, or a loan.
    LeaseEnded {
        /// Which.
        lease: LeaseId,
        /// Why.
        why: LeaseEnd,
        /// What it cost: of a loan, and of nothing else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        charged: Option<MicroUsd>,
    },
    /// A fragment was run.
    Reported {
        /// The report.
        report: Box<Signed<Report>>,
        /// The aggregate, of a reducing fragment.
        aggregate: Option<Box<Signed<Aggregate>>>,
        /// Keys of what it left, wrapped to its owner.
        keys: Vec<WrappedKey>,
        /// What it cost.
        charged: MicroUsd,
        /// What it used; not in records of version 2.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        metered: Option<Metered>,
        /// What it rests on of calls to enclaves that were lent: answers, calls, grants by enclaves.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attached: Vec<Envelope>,
    },
    /// An enclave has proven what it answered to a call; the task may be over.
    Proved {
        /// Of which task.
        task: TaskId,
        /// What is proven, and by which bytes: those are an object.
        statement: Box<Signed<ExecutionProof>>,
    },
    /// An enclave cannot prove what it answered to a call; it stays attested.
    Unproved {
        /// Of which task.
        task: TaskId,
        /// The answer.
        report: Digest,
        /// Why, as the enclave says.
        why: Rejection,
    },
    /// A swarm was given seats: all of one round, at once.
    SwarmSeated {
        /// Who has them.
        seating: Box<Signed<Seating>>,
    },
    /// A member joined a round: it judged the others and signed the list.
    SwarmJoined {
        /// Its word.
        membership: Box<Signed<Membership>>,
    },
    /// Seats of a swarm were given back, together.
    SeatsEnded {
        /// Whose.
        task: TaskId,
        /// Which, and what each cost.
        seats: Vec<(LeaseId, MicroUsd)>,
        /// Why.
        why: LeaseEnd,
    },
    /// Room was booked for a swarm that waits: others have it only with what ends before. The record that seats the swarm or ends its
    /// task ends that, too.
    GangBooked {
        /// What, for whom, from when on.
        booking: Box<GangBooking>,
    },
    /// Room is no longer booked for a swarm, which waits on.
    GangUnbooked {
        /// The task whose swarm it was for.
        task: TaskId,
        /// Why.
        why: Unbooked,
    },
    /// An account was set: the default one where no tenant is named.
    AccountSet {
        /// Whose.
        tenant: Option<TenantId>,
        /// What the tenant may do from now on.
        terms: AccountTerms,
        /// By how much its budget was raised, if that was all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        topped_up: Option<MicroUsd>,
        /// By whom.
        author: String,
    },
    /// Seats were set aside for a tenant; the reservation has the number of this record.
    Reserved {
        /// What, for whom, from when until when, and where.
        booking: Box<Booking>,
    },
    /// A seat whose enclave is gone was moved.
    Reseated {
        /// Of which reservation.
        reservation: ReservationId,
        /// Which of its seats, counted from zero.
        seat: u32,
        /// Where it is now.
        enclave: EnclaveId,
        /// What an hour of it costs there.
        price_hour: MicroUsd,
    },
    /// These seats of a reservation cannot be used from now on, and the others can.
    SeatsShort {
        /// Of which reservation.
        reservation: ReservationId,
        /// Which of its seats, in order.
        seats: Vec<u32>,
    },
    /// A reservation ended.
    ReservationEnded {
        /// Which.
        reservation: ReservationId,
        /// How.
        why: ReservationEnd,
        /// What it cost beside the work in its seats.
        charged: MicroUsd,
    },
    /// A reference value was made, or made anew.
    ReferenceAdded {
        /// The value.
        value: Box<ReferenceValue>,
        /// By whom.
        author: String,
    },
    /// A reference value was given an end.
    ReferenceExpired {
        /// Which.
        name: String,
        /// Last second it counts.
        end: UnixTime,
        /// By whom.
        author: String,
    },
    /// A policy was set.
    PolicySet {
        /// Whose.
        scope: Scope,
        /// Its text.
        text: String,
        /// By whom.
        author: String,
    },
    /// The operator gave the distances between regions.
    DistancesSet {
        /// All of them: those before no longer count.
        rows: Vec<RoundTrip>,
        /// By whom.
        author: String,
    },
    /// Channels to agents say how far regions are from the manager's; not in records before version 4.
    DistancesMeasured {
        /// What changed.
        rows: Vec<RoundTrip>,
    },
    /// The operator said what it asks of every committee of a swarm key from now on; none of these in records before version 7.
    CharterSet {
        /// What.
        charter: Box<Signed<Charter>>,
        /// By whom it came.
        author: String,
    },
    /// The operator wants another committee of a swarm key now.
    CustodyAsked {
        /// Which swarm key.
        swarm: SwarmName,
        /// By whom.
        author: String,
    },
    /// Certain enclaves were called to be the next committee of a swarm key.
    CustodyCalled {
        /// Which swarm key.
        swarm: SwarmName,
        /// The call.
        call: Box<Signed<CustodyCall>>,
        /// Why there is to be another committee.
        why: CallReason,
    },
    /// A custodian said its part in a ceremony, or an old one handed over. With the last word that it takes the new committee is in force.
    CustodySaid {
        /// Of which swarm key.
        swarm: SwarmName,
        /// What it said.
        word: Box<CustodyWord>,
    },
    /// A call came to nothing.
    CustodyEnded {
        /// Of which swarm key.
        swarm: SwarmName,
        /// Digest of the call.
        call: Digest,
        /// Why.
        why: CallEnd,
        /// Whom the next attempts do without as far as they can, ascending.
        left_out: Vec<EnclaveId>,
    },
    /// A task came to its end.
    TaskEnded {
        /// Which.
        task: TaskId,
        /// How.
        state: TaskState,
    },
}

/// Why a lease ended without a result.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LeaseEnd {
    /// Its time was over.
    Expired,
    /// Its time was over before the client granted.
    NotGranted,
    /// The enclave went away.
    EnclaveLost {
        /// Why, in words.
        why: String,
    },
    /// The enclave would not.
    Refused {
        /// Its reason.
        why: Rejection,
    },
    /// The enclave's report rests on what another said that was lent to it, and that cannot count: the borrower could not know.
    Misled {
        /// Who was lent.
        by: EnclaveId,
        /// What is wrong.
        why: Rejection,
    },
    /// The enclave was revoked, or what proved it.
    Revoked,
    /// The enclave's proof is over or was taken back.
    Lapsed {
        /// Why.
        why: Rejection,
    },
    /// More urgent work took its place, as both accounts allow: nobody failed, and the fragment goes first of its tenant.
    Preempted {
        /// For which fragment; not told to other tenants.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<FragmentId>,
        /// Whose; not told to other tenants.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<TenantId>,
        /// How urgent that is.
        priority: Priority,
    },
    /// The task ended.
    TaskEnded,
    /// Another member of the swarm was faster.
    Superseded,
    /// Its module failed while another member of the swarm works on the same: what that one says counts.
    FailedCopy {
        /// What it said.
        reason: String,
    },
    /// It did not join its swarm in time.
    NotJoined,
    /// Its seat, or its whole swarm, was given up.
    Dissolved {
        /// Why, in words.
        why: String,
    },
    /// A grant that it rests on was revoked.
    GrantRevoked,
    /// Of a loan: its borrower needs it no more.
    GivenBack,
    /// Of a loan: its borrower says that the enclave is of no use. It is the borrower's word alone.
    Unfit {
        /// Why.
        why: Rejection,
    },
    /// Of a loan: the promise that its borrower worked under is over.
    BorrowerEnded,
}

impl LeaseEnd {
    /// Whether the enclave is passed over for this fragment from now on.
    pub fn blames_enclave(&self) -> bool {
        match self {
            Self::Expired | Self::EnclaveLost { .. } | Self::Refused { .. } | Self::Revoked | Self::NotJoined => true,
            // One that lapsed is passed over until it proves itself anew, and then no worse than before.
            Self::NotGranted | Self::Lapsed { .. } | Self::Preempted { .. } | Self::TaskEnded => false,
            Self::Superseded | Self::FailedCopy { .. } | Self::Dissolved { .. } | Self::Misled { .. } => false,
            Self::GrantRevoked | Self::GivenBack | Self::Unfit { .. } | Self::BorrowerEnded => false,
        }
    }
}

impl std::fmt::Display for LeaseEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Expired => f.write_str("its time was over"),
            Self::NotGranted => f.write_str("the client did not grant in time"),
            Self::EnclaveLost { why } => write!(f, "the enclave was lost ({why})"),
            Self::Refused { why } => write!(f, "the enclave refused: {why}"),
            Self::Misled { by, why } => write!(f, "it was misled by {}, which was lent to it: {why}", by.short()),
            Self::Revoked => f.write_str("the enclave was revoked"),
            Self::Lapsed { why } => write!(f, "the enclave is no longer proven ({})", why.check),
            Self::Preempted { by, tenant, priority } => {
                f.write_str("more urgent work took its place: ")?;
                match (by, tenant) {
                    (Some(by), Some(tenant)) => write!(f, "{by} of {tenant}, priority {priority}"),
                    _ => write!(f, "of another tenant, priority {priority}"),
                }
            }
            Self::TaskEnded => f.write_str("the task ended"),
            Self::Superseded => f.write_str("another was faster"),
            Self::FailedCopy { reason } => write!(f, "it failed while another went on ({reason})"),
            Self::NotJoined => f.write_str("it did not join the swarm in time"),
            Self::Dissolved { why } => write!(f, "its seat was given up ({why})"),
            Self::GrantRevoked => f.write_str("a grant that it rests on was revoked"),
            Self::GivenBack => f.write_str("it was given back"),
            Self::Unfit { why } => write!(f, "its borrower found it of no use: {why}"),
            Self::BorrowerEnded => f.write_str("the work that it was lent for is over"),
        }
    }
}

/// What is to be done after the events are durable: by the leader alone, at least once.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Send the offer of this lease to its enclave.
    Offer {
        /// To whom.
        enclave: EnclaveId,
        /// Which.
        lease: LeaseId,
    },
    /// Tell an enclave to whom it is lent.
    Lend {
        /// Whom: the one that is lent.
        enclave: EnclaveId,
        /// Which loan.
        loan: LeaseId,
    },
    /// Tell a borrower who is lent to it.
    Lent {
        /// Whom: the borrower.
        enclave: EnclaveId,
        /// Which loan.
        loan: LeaseId,
        /// What the borrower called its asking; nothing when it is told again.
        ask: Option<u64>,
    },
    /// Tell one side of a loan that it is over.
    LoanEnded {
        /// Whom.
        enclave: EnclaveId,
        /// Which loan.
        loan: LeaseId,
        /// Why, in words.
        why: String,
    },
    /// Ask an enclave to join the last round of a swarm.
    Enlist {
        /// Whom.
        enclave: EnclaveId,
        /// Whose swarm.
        task: TaskId,
    },
    /// Tell an enclave to stop, or that its seat has ended.
    Cancel {
        /// Whom.
        enclave: EnclaveId,
        /// Which.
        lease: LeaseId,
    },
    /// Close the channel to an enclave.
    Close {
        /// Whom.
        enclave: EnclaveId,
        /// What to tell it.
        why: Rejection,
    },
    /// Tell a custodian to look at the boards of a swarm key: something was said, or somebody called.
    Custody {
        /// Whom.
        enclave: EnclaveId,
        /// Which swarm key.
        swarm: SwarmName,
    },
    /// Send the list of revocations to every agent.
    Revocations,
    /// Ask an enclave to attest again now.
    Reattest {
        /// Whom.
        enclave: EnclaveId,
        /// Why, in words.
        why: String,
    },
    /// Wake whoever waits for this task.
    TaskChanged {
        /// Which.
        task: TaskId,
    },
}

impl Event {
    /// Its name in the journal's `kind` column.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TermBegan { .. } => "term-began",
            Self::Attested { .. } => "attested",
            Self::Arrived { .. } => "arrived",
            Self::Left { .. } => "left",
            Self::Draining { .. } => "draining",
            Self::Cordoned { .. } => "cordoned",
            Self::Uncordoned { .. } => "uncordoned",
            Self::Decommissioned { .. } => "decommissioned",
            Self::Revoked { .. } => "revoked",
            Self::Lapsed { .. } => "lapsed",
            Self::Barred { .. } => "barred",
            Self::Withdrawn { .. } => "withdrawn",
            Self::Submitted { .. } => "submitted",
            Self::Granted { .. } => "granted",
            Self::Leased { .. } => "leased",
            Self::Lent { .. } => "lent",
            Self::Claimed { .. } => "claimed",
            Self::Unclaimed { .. } => "unclaimed",
            Self::LeaseEnded { .. } => "lease-ended",
            Self::Reported { .. } => "reported",
            Self::Proved { .. } => "proved",
            Self::Unproved { .. } => "unproved",
            Self::Reserved { .. } => "reserved",
            Self::Reseated { .. } => "reseated",
            Self::SeatsShort { .. } => "seats-short",
            Self::ReservationEnded { .. } => "reservation-ended",
            Self::ReferenceAdded { .. } => "reference-added",
            Self::ReferenceExpired { .. } => "reference-expired",
            Self::PolicySet { .. } => "policy-set",
            Self::DistancesSet { .. } => "distances-set",
            Self::DistancesMeasured { .. } => "distances-measured",
            Self::AccountSet { .. } => "account-set",
            Self::SwarmSeated { .. } => "swarm-seated",
            Self::SwarmJoined { .. } => "swarm-joined",
            Self::SeatsEnded { .. } => "seats-ended",
            Self::GangBooked { .. } => "gang-booked",
            Self::GangUnbooked { .. } => "gang-unbooked",
            Self::CharterSet { .. } => "charter-set",
            Self::CustodyAsked { .. } => "custody-asked",
            Self::CustodyCalled { .. } => "custody-called",
            Self::CustodySaid { .. } => "custody-said",
            Self::CustodyEnded { .. } => "custody-ended",
            Self::TaskEnded { .. } => "task-ended",
        }
    }

    /// The task it is about, if any.
    pub fn task(&self) -> Option<TaskId> {
        match self {
            Self::Submitted { request, .. } => Some(TaskId::new(request.digest())),
            Self::Granted { grant, .. } => Some(grant.task),
            Self::Leased { allocation } | Self::Lent { allocation, .. } => Some(allocation.task),
            Self::Reported { report, .. } => Some(report.task),
            Self::SwarmSeated { seating } => Some(seating.task),
            Self::SwarmJoined { membership } => Some(membership.task),
            Self::Claimed { fragment, .. } | Self::Unclaimed { fragment, .. } => Some(fragment.task),
            Self::GangBooked { booking } => Some(booking.task),
            Self::GangUnbooked { task, .. } | Self::TaskEnded { task, .. } | Self::SeatsEnded { task, .. } => {
                Some(*task)
            }
            Self::Proved { task, .. } | Self::Unproved { task, .. } => Some(*task),
            _ => None,
        }
    }

    /// The fragment it is about, if any.
    pub fn fragment(&self) -> Option<FragmentIndex> {
        match self {
            Self::Leased { allocation } | Self::Lent { allocation, .. } => Some(allocation.fragment),
            Self::Reported { report, .. } => Some(report.fragment),
            Self::Claimed { fragment, .. } | Self::Unclaimed { fragment, .. } => Some(fragment.index),
            _ => None,
        }
    }

    /// The manager's key, of the event that begins a term.
    pub fn manager(&self) -> Option<PublicKey> {
        match self {
            Self::TermBegan { appointment } => Some(appointment.key),
            _ => None,
        }
    }
}

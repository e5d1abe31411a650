//! What happens to a delegator, and what it wants done.

use std::collections::BTreeSet;

use crate::{
    delegation::{
        Apart, CallDemand,
        session::{ToDelegate, ToDelegator},
    },
    digest::Digest,
    dsse::{Envelope, Signed},
    id::{EnclaveId, LeaseId},
    rejection::Rejection,
    requirement::Requirement,
    statement::{Allocation, Assurance, Committed, Passport, Report},
    time::Millis,
};

/// Which question, by a name that whoever asks chooses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JobId(pub u64);

/// What a task asks of others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// Drawn at random: names the question in calls, and is the seed of who runs it.
    pub question: Digest,
    /// Module to run, by SHA-256.
    pub module: Digest,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it reads, committed to under the key of this question.
    pub input: Committed,
    /// What it may use.
    pub demand: CallDemand,
    /// How the result is assured.
    pub assurance: Assurance,
    /// What whoever is asked must satisfy, by the passport that its answer rests on, beside what request, fragment and grants require.
    pub require: Option<Requirement>,
    /// How long it may take, with retries and all.
    pub within: Millis,
}

/// A loan that a question lacks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Want {
    /// The question.
    pub job: JobId,
    /// Of a replicated one, from whom its enclave is to differ, and in what: those who were asked, and those who can be.
    pub apart: Option<Apart>,
    /// Who is not asked it: those who were in vain, and those who have no room.
    pub not: BTreeSet<EnclaveId>,
}

/// What happens to a delegator.
#[derive(Clone, Debug)]
pub enum DelegatorEvent {
    /// The manager lent an enclave.
    Lent {
        /// The loan's allocation.
        loan: Box<Signed<Allocation>>,
        /// The passport that the manager named, judged.
        passport: Box<Signed<Passport>>,
    },
    /// The enclave showed a newer passport, or says that it answers by another; judged, and held against the one that was named.
    Renewed {
        /// The loan.
        loan: LeaseId,
        /// The passport.
        passport: Box<Signed<Passport>>,
    },
    /// The channel to the enclave of a loan is up; its peer was held against the passport that was named.
    Opened(LeaseId),
    /// That channel is gone.
    Closed(LeaseId),
    /// The loan ended, or its enclave is no longer trusted.
    Gone(LeaseId),
    /// The task asks.
    Ask {
        /// A name that no question here has.
        job: JobId,
        /// What.
        question: Box<Question>,
    },
    /// The task no longer waits.
    Cancel(JobId),
    /// The enclave of a loan said this.
    Heard {
        /// The loan.
        loan: LeaseId,
        /// What.
        message: Box<ToDelegator>,
        /// Of an answer: what arrived, committed to under the key of its question.
        output: Option<Committed>,
    },
    /// Nothing but time went by.
    Tick,
}

/// What a delegator wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DelegatorAction {
    /// Say this to the enclave of a loan; the input of its question follows a call.
    Send {
        /// The loan.
        loan: LeaseId,
        /// What.
        message: Box<ToDelegate>,
    },
    /// The question is answered.
    Done {
        /// Which.
        job: JobId,
        /// By what.
        settled: Box<Settled>,
    },
    /// The question stays without an answer.
    GaveUp {
        /// Which.
        job: JobId,
        /// Why.
        why: Rejection,
    },
    /// An enclave dissented, and with no answers of others that it could have been wrong by; or sent what does not verify: tell
    /// whoever keeps trust.
    Distrust {
        /// The loan.
        loan: LeaseId,
        /// Why.
        why: Rejection,
    },
    /// The loan is of no use: give it back.
    GiveBack {
        /// The loan.
        loan: LeaseId,
        /// Why.
        why: Rejection,
    },
}

/// An answer that verified, with all that a reader will want to see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settled {
    /// The loan whose output counts; those that agreed have the same.
    pub loan: LeaseId,
    /// The answers, for `prev` of the delegator's own report: all that came in, also those that disagreed.
    pub answers: Vec<Digest>,
    /// Of these, those that disagreed, for its `dissent`.
    pub dissent: Vec<Digest>,
    /// The report whose output counts.
    pub report: Signed<Report>,
    /// Grants, calls and reports behind the answers, and what came with them, for the receipt.
    pub statements: Vec<Envelope>,
    /// Loans and passports behind the answers, for whoever is answered in turn. The pool has them.
    pub loans: Vec<Envelope>,
}

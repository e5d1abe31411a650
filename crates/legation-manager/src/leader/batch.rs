//! What a batch leaves to be done, once it is durable: verdicts, answers, effects, in the order they were decided.

use std::{sync::Arc, time::Instant};

use legation_core::{EnclaveId, LeaseId, Rejection, Revoked, Seq, SwarmName, TaskId, UnixTime};
use legation_policy::Policy;
use legation_pool::{EnlistParts, LoanParts, OfferParts, Pool, Record};
use tokio::sync::oneshot;

use crate::revocations::SignedRevocations;

/// What a command came to, once it is durable.
pub(super) type Verdict = Result<Seq, Rejection>;

/// An answer on its way: called once it may be given, or with why not.
pub(super) type Answer = Box<dyn FnOnce(Result<(), Rejection>) + Send>;

/// One thing to do.
pub(super) enum Outcome {
    /// Tell a caller.
    Verdict(oneshot::Sender<Verdict>, Verdict),
    /// Answer a question, or refuse to.
    Answer(Answer),
    /// What the channels believe is revoked.
    Revoked(Arc<Revoked>, UnixTime),
    /// The list of it, to every agent.
    Revocations(Box<SignedRevocations>, Instant),
    /// The policy in force.
    Policy(Option<Arc<Policy>>),
    /// An offer to an agent.
    Offer(EnclaveId, Box<OfferParts>),
    /// An agent is to join a swarm.
    Enlist(EnclaveId, Box<EnlistParts>),
    /// An enclave is to hear to whom it is lent.
    Lend(EnclaveId, Box<LoanParts>),
    /// A borrower is to hear who is lent to it, and what it called its asking.
    Lent(EnclaveId, Option<u64>, Box<LoanParts>),
    /// One side of a loan is to hear that it is over, and why.
    LoanEnded(EnclaveId, LeaseId, String),
    /// An agent is to stop.
    Cancel(EnclaveId, LeaseId),
    /// A channel is to close.
    Close(EnclaveId, Rejection),
    /// An agent is to attest.
    Reattest(EnclaveId, String),
    /// A custodian is to look at the ceremonies of a swarm key.
    Custody(EnclaveId, SwarmName),
    /// A task changed.
    Changed(TaskId),
    /// A pool to be saved.
    Snapshot(Box<Pool>),
}

/// Records that become durable together, and what follows from them.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) records: Vec<Record>,
    pub(super) outcomes: Vec<Outcome>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.outcomes.is_empty()
    }

    /// Refuses whoever waits for it; nothing of it has happened.
    pub(super) fn refuse(self, why: &Rejection) {
        for outcome in self.outcomes {
            match outcome {
                Outcome::Verdict(reply, _) => drop(reply.send(Err(why.clone()))),
                Outcome::Answer(answer) => answer(Err(why.clone())),
                _ => {}
            }
        }
    }

    /// Refuses whoever waits for it, and keeps what else follows from it.
    pub(super) fn refuse_callers(&mut self, why: &Rejection) {
        let waits = |outcome: &mut Outcome| matches!(outcome, Outcome::Verdict(..) | Outcome::Answer(_));
        let outcomes = self.outcomes.extract_if(.., waits).collect();
        Self { records: Vec::new(), outcomes }.refuse(why);
    }

    /// Tells the verdicts and does nothing else: it happened, and this manager leads no longer.
    pub(super) fn tell(self, refusal: &Rejection) {
        for outcome in self.outcomes {
            match outcome {
                Outcome::Verdict(reply, verdict) => drop(reply.send(verdict)),
                Outcome::Answer(answer) => answer(Err(refusal.clone())),
                _ => {}
            }
        }
    }
}

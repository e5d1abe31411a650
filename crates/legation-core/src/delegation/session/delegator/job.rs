//! One question that has no answer yet, and the calls that were made for it.

use std::collections::{BTreeMap, BTreeSet};

use super::{DelegatorAction, Question, loan::Face};
use crate::{
    delegation::{
        Call, Sum,
        session::{ATTEMPTS_MAX, GRACE, PROOF_GRACE, RESEND, ToDelegate, after, refuse},
    },
    dsse::{Envelope, Signed},
    id::{EnclaveId, LeaseId},
    rejection::Rejection,
    statement::{Assurance, Diversity, Report},
    time::Millis,
};

/// One call that has no answer yet.
pub(super) struct Attempt {
    pub(super) call: Signed<Call>,
    pub(super) accepted: bool,
    /// Whether it was ever accepted, however often it was sent.
    pub(super) taken: bool,
    /// When it was sent last, and how often again.
    pub(super) sent: Millis,
    pub(super) resent: u8,
    /// Set aside of what may be handed on.
    pub(super) reserved: Sum,
}

/// An answer that verified.
pub(super) struct Given {
    pub(super) loan: LeaseId,
    pub(super) face: Face,
    pub(super) report: Signed<Report>,
    pub(super) statements: Vec<Envelope>,
    pub(super) loans: Vec<Envelope>,
}

pub(super) struct Job {
    pub(super) question: Question,
    pub(super) deadline: Millis,
    pub(super) attempts: BTreeMap<LeaseId, Attempt>,
    pub(super) given: Vec<Given>,
    /// Enclaves that are not asked again, and those that said once that a call was of another session.
    pub(super) tried: BTreeSet<EnclaveId>,
    pub(super) stale: BTreeSet<EnclaveId>,
    pub(super) made: u32,
    /// On how many loans it did not fit.
    pub(super) unfit: u32,
    /// Since when a majority agrees, and nobody is left to ask.
    pub(super) decided: Option<Millis>,
    /// Since when it waits for nothing but what others may give back.
    pub(super) short: Option<Millis>,
    /// Whether no enclave can answer it any more.
    pub(super) hopeless: bool,
    /// Why the last attempt came to nothing.
    pub(super) why: Option<Rejection>,
}

impl Job {
    pub(super) fn new(question: Question, now: Millis) -> Self {
        let deadline = after(now, question.within);
        Self {
            question,
            deadline,
            attempts: BTreeMap::new(),
            given: Vec::new(),
            tried: BTreeSet::new(),
            stale: BTreeSet::new(),
            made: 0,
            unfit: 0,
            decided: None,
            short: None,
            hopeless: false,
            why: None,
        }
    }

    /// How many calls it lacks.
    pub(super) fn missing(&self) -> usize {
        if self.hopeless || self.made >= ATTEMPTS_MAX {
            return 0;
        }
        let have = self.attempts.len().saturating_add(self.given.len());
        usize::from(self.question.assurance.copies()).saturating_sub(have)
    }

    /// Whether it has as many answers as it is to have.
    pub(super) fn is_whole(&self) -> bool {
        self.given.len() >= usize::from(self.question.assurance.copies())
    }

    /// In respect of what those who are asked differ, where several are.
    pub(super) fn diverse(&self) -> Option<Diversity> {
        match self.question.assurance {
            Assurance::Replicated { diverse, .. } => Some(diverse),
            Assurance::Attested | Assurance::Proven => None,
        }
    }
}

/// When something is to be done about an attempt that nobody speaks of.
pub(super) fn due(attempt: &Attempt) -> Millis {
    let time = attempt.call.demand.time;
    // What a proof would take is counted before the module runs.
    let grace = if attempt.call.assurance == Assurance::Proven { PROOF_GRACE } else { GRACE };
    let wait = if attempt.accepted { after(time, grace) } else { RESEND };
    after(attempt.sent, wait)
}

pub(super) fn submit(lease: LeaseId, attempt: &Attempt, out: &mut Vec<DelegatorAction>) {
    let message = Box::new(ToDelegate::Submit(attempt.call.clone()));
    out.push(DelegatorAction::Send { loan: lease, message });
}

/// Why a question that is over has no answer.
pub(super) fn unanswered(job: &Job) -> Rejection {
    if let (true, Some(why)) = (job.hopeless, &job.why) {
        return why.clone();
    }
    let got = job.why.as_ref().map_or("no enclave that could be asked".to_owned(), Rejection::to_string);
    refuse("delegator.deadline", "answer to the question")
        .expected("one before its deadline")
        .got(got)
        .fix("allow more time, or more enclaves")
}

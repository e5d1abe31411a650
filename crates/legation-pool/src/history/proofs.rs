//! Proofs of what enclaves answered that were lent.

use std::collections::BTreeSet;

use legation_core::{
    Digest, Envelope, PublicKey, Rejection, TaskId,
    delegation::Call,
    statement::{Assurance, ExecutionProof, Outcome, Report},
};

use super::{HistoryFacts, bad, unless};

/// An answer that was to be proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Answered {
    task: TaskId,
    enclave: PublicKey,
    proven: bool,
    failed: bool,
}

impl HistoryFacts {
    /// Notes what is to be proven of what came with a report.
    pub(super) fn answered(&mut self, task: TaskId, attached: &[Envelope]) {
        let proven =
            |envelope: &&Envelope| envelope.peek::<Call>().is_ok_and(|call| call.assurance == Assurance::Proven);
        let calls: BTreeSet<Digest> = attached.iter().filter(proven).map(Envelope::digest).collect();
        for envelope in attached {
            let Ok(Report { answer: Some(answer), outcome: Outcome::Completed, enclave, .. }) =
                envelope.peek::<Report>()
            else {
                continue;
            };
            if calls.contains(&answer.call) {
                let facts = Answered { task, enclave, proven: false, failed: false };
                self.to_prove.entry(envelope.digest()).or_insert(facts);
            }
        }
    }

    fn awaited(&mut self, task: TaskId, report: Digest) -> Result<&mut Answered, Rejection> {
        let known = self.to_prove.get_mut(&report).filter(|answer| answer.task == task && !answer.proven);
        known.ok_or_else(|| {
            bad("history.proof", "an answer that is proven")
                .expected("one of its task that was to be proven, and is not yet")
                .got(report)
        })
    }

    /// An answer is proven: by who gave it, and it rests on that alone.
    pub(super) fn proved(&mut self, task: TaskId, statement: &ExecutionProof) -> Result<(), Rejection> {
        let answer = self.awaited(task, statement.report)?;
        unless(statement.prover == answer.enclave && statement.prev == [statement.report], || {
            bad("history.proof", "who proves an answer, and what that rests on")
                .expected(format!("{}, and the answer", answer.enclave.enclave_id()))
                .got(statement.prover.enclave_id())
        })?;
        answer.proven = true;
        Ok(())
    }

    /// An answer will not be proven.
    pub(super) fn unproved(&mut self, task: TaskId, report: Digest) -> Result<(), Rejection> {
        let answer = self.awaited(task, report)?;
        unless(!answer.failed, || bad("history.proof", "an answer that cannot be proven").expected("told once"))?;
        answer.failed = true;
        Ok(())
    }
}

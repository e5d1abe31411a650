//! Proofs of executions: taken when their bytes are here, and told so when the statement about them is durable.
//!
//! Whether a proof is good is not judged here: that is for readers of the receipt. What the pool knows is held against it: that it is
//! owed, by this enclave, and of that claim.

use std::sync::Arc;

use legation_core::{Digest, EnclaveId, Rejection, Signed, TaskId, statement::ExecutionProof};
use legation_net::{Sender, message::ToAgent};
use legation_pool::{Command, Progress};
use tracing::{debug, info, warn};

use super::{Gate, OBJECT_WAIT, reports::arrive, transient};

/// What is said of a proof; nothing where it is to be said again later.
type Answer = Option<ToAgent>;

/// Whether a refusal is of the moment.
fn passes(why: &Rejection) -> bool {
    transient(why) || matches!(why.check.as_str(), "manager.stopping" | "manager.standby")
}

/// An enclave says that it has proven something.
pub(super) async fn take(
    gate: Arc<Gate>,
    sender: Sender,
    enclave: EnclaveId,
    (task, statement, stored): (TaskId, Box<Signed<ExecutionProof>>, bool),
) {
    let report = statement.report;
    let answer = match judge(&gate, enclave, task, statement, stored).await {
        Ok(answer) => answer,
        Err(why) if passes(&why) => {
            warn!(%enclave, %report, %why, "a proof could not be taken");
            None
        }
        Err(why) => {
            info!(%enclave, %report, %why, "a proof is not taken");
            Some(ToAgent::ProofRefused { report, why })
        }
    };
    if let Some(answer) = answer {
        let _ = sender.send_control(&answer).await;
    }
}

async fn judge(
    gate: &Gate,
    enclave: EnclaveId,
    task: TaskId,
    statement: Box<Signed<ExecutionProof>>,
    stored: bool,
) -> Result<Answer, Rejection> {
    let (report, proof, size) = (statement.report, statement.proof, statement.size);
    if !gate.leader.ask(move |pool| pool.owes(enclave, task, report)).await?? {
        return Ok(Some(ToAgent::ProofTaken { report }));
    }
    let most = legation_core::Bytes(u64::try_from(legation_core::proven::PROOF_MAX).unwrap_or(u64::MAX));
    if size > most {
        return Err(Rejection::new("proof.size", "size of a proof of execution").expected(most).got(size));
    }
    let here = gate.objects.has(&proof).await.map_err(|why| why.refusal())?;
    if !here && (!stored || tokio::time::timeout(OBJECT_WAIT, arrive(gate, &[proof])).await.is_err()) {
        return Ok(Some(ToAgent::ProofWanted { report }));
    }
    let found = gate.objects.read(&proof).await.map_err(|why| why.refusal())?;
    let found = found.map(|object| object.size());
    if found != Some(size.0) {
        return Err(Rejection::new("proof.size", "size of the proof that the statement names")
            .expected(found.map_or("an object that can be read".to_owned(), |size| format!("{size} bytes, as it is")))
            .got(size));
    }
    gate.leader.apply(Command::Prove { enclave, task, statement }).await?;
    gate.proving.forget(&report);
    info!(%enclave, %report, "an execution is proven");
    Ok(Some(ToAgent::ProofTaken { report }))
}

/// An enclave says that it cannot prove something.
pub(super) async fn give_up(
    gate: &Gate,
    sender: &Sender,
    enclave: EnclaveId,
    (task, report, why): (TaskId, Digest, Rejection),
) {
    debug!(%enclave, %report, %why, "an enclave says that it cannot prove an execution");
    let answer = match gate.leader.apply(Command::Unprove { enclave, task, report, why }).await {
        // Only now it is known that it is this enclave's to say.
        Ok(_) => {
            info!(%enclave, %report, "an execution will not be proven");
            gate.proving.forget(&report);
            ToAgent::ProofTaken { report }
        }
        Err(why) if passes(&why) => return,
        Err(why) => ToAgent::ProofRefused { report, why },
    };
    let _ = sender.send_control(&answer).await;
}

/// An enclave says how far it is with something that it owes; anything else is nobody's business.
pub(super) async fn note(gate: &Gate, enclave: EnclaveId, (task, report): (TaskId, Digest), progress: Progress) {
    let awaited = gate
        .leader
        .ask(move |pool| pool.owes(enclave, task, report).is_ok_and(|owes| owes) && pool.may_be_unproved(task, report));
    if matches!(awaited.await, Ok(true)) {
        gate.proving.note(enclave, report, progress);
    }
}

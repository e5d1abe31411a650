//! Reports: taken when the objects they name are here, and acknowledged when they are durable.

use std::sync::Arc;

use legation_core::{Digest, EnclaveId, Envelope, Rejection, TaskId, statement::Outcome, task::OutputRef};
use legation_net::{
    Sender,
    message::{Reported, ToAgent},
};
use legation_pool::{Attached, Command, Pool};
use tracing::{info, warn};

use super::{Gate, LOOK_AGAIN, OBJECT_WAIT, transient};

/// The first object whose size is not what the report says: bytes are metered by it.
async fn other_size(gate: &Gate, named: impl Iterator<Item = &OutputRef>) -> Option<Rejection> {
    for object in named {
        let size = gate.objects.read(&object.ciphertext).await.ok().flatten().map(|found| found.size());
        if size != Some(object.size.0) {
            return Some(
                Rejection::new("report.size", format!("size of object {} that the report names", object.object))
                    .expected(
                        size.map_or("an object that can be read".to_owned(), |size| format!("{size} bytes, as it is")),
                    )
                    .got(object.size),
            );
        }
    }
    None
}

/// A report is taken when the objects it names are here, and acknowledged when it is durable.
pub(super) async fn take(gate: Arc<Gate>, sender: Sender, enclave: EnclaveId, reported: Box<Reported>) {
    let Reported { report, aggregate, keys, attached } = *reported;
    let (lease, task) = (report.lease, report.task);
    let wanted: Vec<Digest> =
        [&report.output, &report.log].into_iter().flatten().map(|object| object.ciphertext).collect();
    let complete = wanted.is_empty() || tokio::time::timeout(OBJECT_WAIT, arrive(&gate, &wanted)).await.is_ok();
    let completed = report.outcome == Outcome::Completed;
    let lie =
        if complete { other_size(&gate, [&report.output, &report.log].into_iter().flatten()).await } else { None };
    let result = if let Some(why) = lie {
        gate.leader.apply(Command::Refuse { enclave, lease, why }).await
    } else if complete {
        match opened(&gate, task, attached).await {
            Ok(attached) => {
                let (report, aggregate) = (Box::new(report), aggregate.map(Box::new));
                gate.leader.apply(Command::Report { enclave, report, aggregate, keys, attached }).await
            }
            // The store may answer when it comes again.
            Err(why) if why.check == "archive.store" || transient(&why) => {
                warn!(%enclave, %lease, %why, "report could not be judged");
                sender.revoke(why);
                return;
            }
            Err(why) => gate.leader.apply(Command::Refuse { enclave, lease, why }).await,
        }
    } else {
        let why = Rejection::new("report.objects", "output named by the report").expected("sent before the report");
        gate.leader.apply(Command::Refuse { enclave, lease, why }).await
    };
    match result {
        Err(why) if transient(&why) || matches!(why.check.as_str(), "manager.stopping" | "manager.standby") => {
            // Not acknowledged: the agent keeps it and sends it again on its next channel.
            warn!(%enclave, %lease, %why, "report could not be taken");
            sender.revoke(why);
            return;
        }
        Err(why) => info!(%enclave, %lease, %why, "report is not wanted"),
        Ok(_) => tracing::debug!(%enclave, %lease, completed, "reported"),
    }
    let _ = sender.send_control(&ToAgent::Acknowledged { lease }).await;
}

/// What came with a report, with the passports that it rests on: signatures are checked here, beside the leader.
async fn opened(gate: &Gate, task: TaskId, attached: Vec<Envelope>) -> Result<Box<Attached>, Rejection> {
    if attached.is_empty() {
        return Ok(Box::default());
    }
    let opening = tokio::task::spawn_blocking(move || Attached::open(attached)).await;
    let mut attached = opening.map_err(|e| Rejection::new("report.attached", "what came with the report").got(e))??;
    let wanted = attached.passports_wanted();
    let proofs = gate.leader.ask(move |pool: &Pool| pool.proofs_named(task, &wanted)).await?;
    attached.prove(gate.leader.archive_for_agents().passports(&proofs).await?);
    Ok(Box::new(attached))
}

pub(super) async fn arrive(gate: &Gate, wanted: &[Digest]) {
    for digest in wanted {
        loop {
            let news = gate.stored.notified();
            match gate.objects.has(digest).await {
                Ok(true) => break,
                Ok(false) => news.await,
                Err(why) => {
                    warn!(%digest, %why, "it cannot be seen whether an object is here");
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        }
    }
}

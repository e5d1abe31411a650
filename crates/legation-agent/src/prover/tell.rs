//! Telling the manager: how far proofs are while they are made; and those that are made, until it has them.
//!
//! A proof is offered by its statement. Its bytes go out when the manager asks for them: it may not know the answer yet, because the
//! report that rests on it is still to come.

use std::{convert::Infallible, sync::Arc, time::Duration};

use legation_core::{Digest, Rejection};
use legation_net::{StreamId, message::ToManager};
use tokio::time::sleep;

use super::{Prover, desk::Word};
use crate::{agent::Inner, session::Link, status::Status};

/// How often the manager is told, where nothing happens.
const TELL: Duration = Duration::from_secs(2);
/// The check of a proof of what the manager does not know, or not yet.
const UNKNOWN: &str = "proof.unknown";

/// Tells everything there is to tell, for ever.
pub(super) async fn tell_all(agent: &Inner, prover: &Prover) -> Infallible {
    let mut link = agent.link.subscribe();
    loop {
        let current = link.borrow_and_update().clone();
        if let Some(current) = current {
            tell(&current, prover).await;
        }
        let dropped = prover.desk().expire();
        agent.books().proved(dropped);
        tokio::select! {
            () = sleep(TELL) => {}
            () = prover.news.notified() => {}
            Ok(()) = link.changed() => prover.desk().again(),
        }
    }
}

/// What cannot be said on this link is said on the next.
async fn tell(link: &Link, prover: &Prover) {
    let far = prover.desk().far();
    for far in far {
        let (task, report, done, seconds_left) = (far.task, far.report, far.done, far.seconds_left);
        if link.sender.send_control(&ToManager::Proving { task, report, done, seconds_left }).await.is_err() {
            return;
        }
    }
    let due = prover.desk().due();
    for (task, report, word) in due {
        let word = match word {
            Word::Proved(statement, _) => ToManager::Proved { task, statement, stored: false },
            Word::Unproved(why) => ToManager::Unproved { task, report, why },
        };
        if link.sender.send_control(&word).await.is_err() {
            return;
        }
    }
}

/// The manager wants the bytes of a proof.
pub(crate) fn wanted(agent: &Inner, link: &Arc<Link>, report: Digest) {
    let found = agent.prover.as_ref().and_then(|prover| prover.desk().find(&report));
    let Some((task, Word::Proved(statement, bytes))) = found else { return };
    let link = link.clone();
    tokio::spawn(async move {
        let _turn = link.stores.acquire().await;
        let (stream, digest) = (link.fetches.stream(), statement.proof);
        // A channel that ends meanwhile is followed by another, on which it is offered again.
        if link.sender.send_control(&ToManager::Store { digest, stream }).await.is_ok()
            && link.sender.send_data(StreamId(stream), bytes, true).await.is_ok()
        {
            let _ = link.sender.send_control(&ToManager::Proved { task, statement, stored: true }).await;
        }
    });
}

/// The manager has it.
pub(crate) fn taken(agent: &Inner, report: Digest) {
    forget(agent, &report);
}

/// The manager does not take it; one that it does not know it may know later.
pub(crate) fn refused(agent: &Inner, report: Digest, why: Rejection) {
    if why.check == UNKNOWN {
        tracing::debug!(%report, %why, "a proof waits for the report that rests on its answer");
        return;
    }
    if forget(agent, &report) {
        agent.tell(Status::ProofRefused { report, why });
    }
}

fn forget(agent: &Inner, report: &Digest) -> bool {
    let kept = agent.prover.as_ref().is_some_and(|prover| prover.desk().forget(report));
    if kept {
        agent.books().proved(1);
        agent.progress.notify_one();
    }
    kept
}

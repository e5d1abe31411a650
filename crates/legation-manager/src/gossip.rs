//! Checkpoints of the transparency log on their way to agents, so that a log that changes its past, or loses its end, is noticed by those
//! who have heard of it. An agent hears its managers alone: that a manager shows agents one log and readers of receipts another is for
//! witnesses to find out.
//!
//! All agents are told the latest now and then, with the hashes that show it to continue the one told before; whoever remembers another
//! asks with the size of that one. Whoever remembers a larger one sends it along: it was signed, so it binds this manager's log as well.

use std::{sync::Arc, time::Duration};

use legation_core::Rejection;
use legation_net::message::ToAgent;
use tokio::time::sleep;
use tracing::debug;

use crate::{gate::Gate, log::Log};

/// Between two tellings, at least.
const APART: Duration = Duration::from_secs(2);

/// What an agent is told that remembers the tree of `old` entries. Reads the log's file.
pub(crate) fn telling(log: &Log, old: u64) -> Result<ToAgent, Rejection> {
    let latest = log.checkpoint()?;
    let size = latest.checkpoint().size;
    let (seed, path) = log.beginning(old, size)?;
    Ok(ToAgent::Checkpoint { note: latest.note().to_string(), key: log.key().to_string(), old, seed, path })
}

/// What an agent is told that asks with the size of the tree that it remembers and, where that is larger than any it was told here,
/// with its checkpoint. Nothing where there is nothing to show yet. Reads the log's file.
pub(crate) fn answer(log: &Log, old: u64, note: Option<&str>) -> Result<Option<ToAgent>, Rejection> {
    note.map_or(Ok(()), |note| log.shown(note))?;
    if old > log.checkpoint()?.checkpoint().size {
        return Ok(None);
    }
    telling(log, old).map(Some)
}

/// Tells all agents that are here whenever the log has grown, while this manager leads.
pub(crate) async fn spread(gate: Arc<Gate>, log: Option<Log>) {
    let Some(log) = log else { return };
    let mut latest = log.checkpoints();
    let mut old = 0;
    while latest.changed().await.is_ok() {
        let size = latest.borrow_and_update().as_ref().map_or(0, |checkpoint| checkpoint.checkpoint().size);
        if *gate.open.borrow() && size > 0 {
            let from = log.clone();
            match tokio::task::spawn_blocking(move || telling(&from, old)).await {
                Ok(Ok(message)) => {
                    gate.effects.tell_all(&message);
                    old = size;
                }
                Ok(Err(why)) => debug!(%why, "agents are not told of the transparency log"),
                Err(_) => return,
            }
        }
        sleep(APART).await;
    }
}

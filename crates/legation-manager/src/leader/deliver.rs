//! Saying and doing what is durable.

use std::{
    collections::BTreeSet,
    sync::{Arc, mpsc},
    time::Duration,
};

use legation_core::TaskId;
use legation_policy::Policy;
use legation_pool::Pool;
use tracing::{error, info, warn};

use super::{
    Parts,
    batch::{Batch, Outcome},
    changes::Changes,
    decider::Appraisal,
    standing::Standing,
};
use crate::journal::Snapshots;

/// After a snapshot, so many times as long as it took passes before the next, but no longer than [`REST_MAX`]: under the greatest
/// load too, snapshots take a small share of the machine, and a start does not read for long.
const REST: u32 = 9;
/// Longest rest.
const REST_MAX: Duration = Duration::from_secs(20);

/// Who is told.
pub(super) struct Delivery {
    pub(super) parts: Arc<Parts>,
    pub(super) changes: Arc<Changes>,
    pub(super) appraisal: Appraisal,
    pub(super) snapshots: mpsc::SyncSender<Box<Pool>>,
}

impl Delivery {
    /// The policy in force; whoever follows it hears of changes alone.
    pub(super) fn policy(&self, policy: Option<Arc<Policy>>) {
        self.appraisal.send_if_modified(|now| {
            let same = match (&*now, &policy) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
                (None, None) => true,
                _ => false,
            };
            if !same {
                now.clone_from(&policy);
            }
            !same
        });
    }

    /// Does everything, in order; tasks that changed wake their watchers last, each once.
    pub(super) fn deliver(&self, batch: Batch) {
        let mut changed: BTreeSet<TaskId> = BTreeSet::new();
        let effects = &self.parts.effects;
        for outcome in batch.outcomes {
            match outcome {
                Outcome::Verdict(reply, verdict) => drop(reply.send(verdict)),
                Outcome::Answer(answer) => answer(Ok(())),
                Outcome::Revoked(revoked, at) => self.parts.revocations.learn(revoked, at),
                Outcome::Revocations(signed, began) => effects.revocations(*signed, began),
                Outcome::Policy(policy) => {
                    self.appraisal.send_replace(policy);
                }
                Outcome::Offer(enclave, parts) => effects.offer(enclave, *parts),
                Outcome::Enlist(enclave, parts) => effects.enlist(enclave, *parts),
                Outcome::Lend(enclave, parts) => effects.lend(enclave, *parts),
                Outcome::Lent(enclave, ask, parts) => effects.lent(enclave, ask, *parts),
                Outcome::LoanEnded(enclave, loan, why) => effects.loan_ended(enclave, loan, why),
                Outcome::Cancel(enclave, lease) => effects.cancel(enclave, lease),
                Outcome::Reattest(enclave, why) => {
                    effects.reattest(enclave, &why);
                }
                Outcome::Custody(enclave, swarm) => effects.custody(enclave, swarm),
                Outcome::Close(enclave, why) => {
                    warn!(%enclave, %why, "closing channel");
                    effects.close(enclave, why);
                }
                Outcome::Changed(task) => {
                    changed.insert(task);
                }
                Outcome::Snapshot(pool) => {
                    if self.snapshots.try_send(pool).is_err() {
                        warn!("the snapshot before is not done: this one is passed over");
                    }
                }
            }
        }
        for task in changed {
            self.changes.wake(task);
        }
    }
}

/// Saves pools as they come, until nobody sends any more.
pub(super) fn save(inbox: &mpsc::Receiver<Box<Pool>>, store: &mut dyn Snapshots, standing: &Standing) {
    while let Ok(pool) = inbox.recv() {
        let (began, seq) = (std::time::Instant::now(), pool.seq());
        let bytes = match pool.snapshot() {
            Ok(bytes) => bytes,
            Err(why) => {
                error!(%why, "a snapshot is not made");
                standing.rest_snapshots(REST_MAX);
                continue;
            }
        };
        drop(pool);
        let made = began.elapsed();
        match store.save_snapshot(seq, &bytes) {
            Ok(()) => {
                let (making, all) = (made.as_millis(), began.elapsed().as_millis());
                info!(seq = seq.0, bytes = bytes.len(), making, ms = all, "snapshot saved");
                standing.saved(Some(seq));
            }
            Err(why) => warn!(%why, "a snapshot could not be saved: the start reads more of the journal instead"),
        }
        standing.rest_snapshots((began.elapsed() * REST).min(REST_MAX));
    }
}

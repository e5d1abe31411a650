//! How far proofs of executions are that agents make, as they say: told to whoever looks at a task, kept by nobody.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use legation_core::{Digest, EnclaveId};
use legation_pool::{Progress, Stands, TaskView};

/// What is kept at most; each is of a proof that a task is owed.
const KEPT_MAX: usize = 4096;
/// And of one enclave: more than wait there at once.
const EACH_MAX: usize = 64;
/// What was not said again for so long is not told any more.
const STALE: Duration = Duration::from_secs(60);

/// What was said, by report: by whom, how far, and when.
type Said = BTreeMap<Digest, (EnclaveId, Progress, Instant)>;

/// How far proofs are; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Proving(Arc<Mutex<Said>>);

impl Proving {
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An enclave says how far a proof is that it owes.
    pub(crate) fn note(&self, enclave: EnclaveId, report: Digest, progress: Progress) {
        let mut said = self.lock();
        let now = Instant::now();
        let room =
            |said: &Said| said.len() < KEPT_MAX && said.values().filter(|(by, _, _)| *by == enclave).count() < EACH_MAX;
        if !room(&said) {
            said.retain(|_, (_, _, at)| now.duration_since(*at) < STALE);
        }
        if room(&said) || said.contains_key(&report) {
            let progress = Progress { done: progress.done.min(1000), ..progress };
            said.insert(report, (enclave, progress, now));
        }
    }

    /// There is nothing more to say of a proof.
    pub(crate) fn forget(&self, report: &Digest) {
        self.lock().remove(report);
    }

    /// Adds to a view what is known of the proofs that are still to come.
    pub(crate) fn tell(&self, view: &mut TaskView) {
        if view.proofs.is_empty() {
            return;
        }
        let said = self.lock();
        for proof in view.proofs.iter_mut().filter(|proof| proof.stands == Stands::Awaited) {
            let known = said.get(&proof.report).filter(|(by, _, at)| *by == proof.prover && at.elapsed() < STALE);
            proof.progress = known.map(|(_, progress, _)| *progress);
        }
    }
}

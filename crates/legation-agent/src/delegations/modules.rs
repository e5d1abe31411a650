//! Modules for delegates that lack them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use legation_core::{Digest, UnixTime};
use legation_net::delegation::ToLent;
use tokio::{
    sync::{OnceCell, mpsc},
    task::JoinSet,
};

use crate::{agent::Inner, assignment, peers::Out};

/// Bytes of modules kept for those who ask next; beyond that they are fetched anew.
const KEPT: usize = 64 << 20;

/// Modules that delegates of one execution asked for: each is fetched once, and whoever asks for another does not wait for it.
#[derive(Default)]
pub(super) struct Modules {
    kept: BTreeMap<Digest, Arc<OnceCell<Bytes>>>,
    /// Which could not be had, when they were wanted last.
    missing: Arc<Mutex<BTreeSet<Digest>>>,
    /// On their way; dropped with this.
    sending: JoinSet<()>,
}

fn lock(missing: &Mutex<BTreeSet<Digest>>) -> MutexGuard<'_, BTreeSet<Digest>> {
    missing.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Modules {
    /// Whether a module could not be had when it was wanted last.
    pub(super) fn lacks(&self, digest: &Digest) -> bool {
        lock(&self.missing).contains(digest)
    }

    /// Sends a module on a stream of a channel, once it is there; or says that it is missing.
    pub(super) fn send(
        &mut self,
        agent: &Arc<Inner>,
        (digest, until): (Digest, UnixTime),
        out: mpsc::Sender<Out<ToLent>>,
        stream: u64,
    ) {
        let kept: usize = self.kept.values().filter_map(|module| module.get()).map(Bytes::len).sum();
        if kept > KEPT {
            // Those who wait for one hold it themselves.
            self.kept.clear();
        }
        let (agent, module) = (agent.clone(), self.kept.entry(digest).or_default().clone());
        let missing = self.missing.clone();
        while self.sending.try_join_next().is_some() {}
        self.sending.spawn(async move {
            let fetched = || async { assignment::module_bytes(&agent, digest, until).await.map(Bytes::from) };
            let said = match module.get_or_try_init(fetched).await {
                Ok(bytes) => {
                    lock(&missing).remove(&digest);
                    Out { word: None, data: Some((stream, bytes.clone())) }
                }
                Err(_) => {
                    lock(&missing).insert(digest);
                    Out::word(ToLent::Missing { stream })
                }
            };
            // A channel that has ended needs no module; the delegate asks again over the next.
            let _ = out.send(said).await;
        });
    }
}

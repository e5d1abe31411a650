//! What is revoked, as every channel of a process sees it: one handle, shared by whoever hears of revocations and by the
//! judge of the channels.
//!
//! 1. A change is seen by every live channel at once, not at its next look; [`Revocations::settled`] says when all have.
//! 2. A revoked verifier takes no enclave with it that has a passport of another. So a live channel that shows a passport of
//!    a verifier that was just revoked gets [`ANOTHER_SECONDS`] to show another; a new channel, and a renewal, get none.
//! 3. Everything else that is revoked has no grace.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use legation_core::{PublicKey, Rejection, Revocable, RevocationEpoch, Revoked, UnixTime, statement::Passport};
use tokio::sync::watch;

/// How long a live channel may go on under a passport whose verifier was revoked, in seconds from when that was heard.
pub const ANOTHER_SECONDS: u64 = 3;

/// The handle; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Revocations(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<Known>,
    /// Up to which epoch each live channel has looked.
    looked: watch::Sender<Looked>,
    changed: watch::Sender<RevocationEpoch>,
}

#[derive(Debug, Default)]
struct Known {
    revoked: Arc<Revoked>,
    /// When each epoch was first heard of here, by the clock here: only of the last changes, which may still be in grace.
    heard: BTreeMap<RevocationEpoch, UnixTime>,
}

#[derive(Debug, Default)]
struct Looked {
    next: u64,
    by_channel: BTreeMap<u64, RevocationEpoch>,
}

impl Revocations {
    /// A handle that knows of no revocation.
    pub fn new() -> Self {
        Self::default()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The latest epoch known.
    pub fn epoch(&self) -> RevocationEpoch {
        self.known().revoked.epoch()
    }

    /// Everything known.
    pub fn all(&self) -> Arc<Revoked> {
        self.known().revoked.clone()
    }

    /// Learns of revocations: `revoked` is all of them, heard of at `now`. An older list than is known changes nothing.
    pub fn learn(&self, revoked: Arc<Revoked>, now: UnixTime) {
        let epoch = revoked.epoch();
        {
            let mut known = self.known();
            let before = known.revoked.epoch();
            if epoch <= before {
                return;
            }
            known.heard.retain(|_, heard| now <= heard.plus(ANOTHER_SECONDS));
            for revocation in revoked.list().into_iter().filter(|r| r.epoch > before) {
                known.heard.insert(revocation.epoch, now);
            }
            known.revoked = revoked;
        }
        self.0.changed.send_replace(epoch);
    }

    /// Why an enclave with this passport may not be believed.
    pub fn of(&self, passport: &Passport) -> Option<Rejection> {
        self.known().revoked.of(passport).map(legation_core::Revocation::refusal)
    }

    /// As [`Self::of`], for a channel that was open before: a passport whose verifier alone is revoked has a moment.
    pub(crate) fn of_live(&self, passport: &Passport, now: UnixTime) -> Option<Rejection> {
        let known = self.known();
        let first = known.revoked.of(passport)?;
        let verifier = Revocable::Verifier(passport.verifier_id());
        let only = known.revoked.get(&verifier).filter(|_| !known.revoked.covers_beside(passport, &verifier));
        let grace = only.and_then(|r| known.heard.get(&r.epoch)).is_some_and(|at| now <= at.plus(ANOTHER_SECONDS));
        (!grace).then(|| first.refusal())
    }

    /// Why the enclave of this key may not be believed, whatever it shows.
    pub fn of_enclave(&self, key: &PublicKey) -> Option<Rejection> {
        let what = Revocable::Enclave(key.enclave_id());
        self.known().revoked.get(&what).map(legation_core::Revocation::refusal)
    }

    /// Waits until every channel that is live has looked at what is revoked up to `epoch`.
    pub async fn settled(&self, epoch: RevocationEpoch) {
        let mut looked = self.0.looked.subscribe();
        // The sender is in `self`, so it cannot be gone.
        let _ = looked.wait_for(|l| l.by_channel.values().all(|seen| *seen >= epoch)).await;
    }

    /// What one live channel watches with.
    pub(crate) fn watcher(&self) -> Watcher {
        let changed = self.0.changed.subscribe();
        let mut number = 0;
        self.0.looked.send_modify(|looked| {
            number = looked.next;
            looked.next = looked.next.wrapping_add(1);
            looked.by_channel.insert(number, RevocationEpoch(0));
        });
        Watcher { all: self.clone(), number, changed }
    }
}

/// A live channel's view of revocations. Dropped with the channel, which then has nothing to look at any more.
pub(crate) struct Watcher {
    all: Revocations,
    number: u64,
    changed: watch::Receiver<RevocationEpoch>,
}

impl Watcher {
    /// Waits for something new.
    pub(crate) async fn changed(&mut self) {
        // The sender is in `all`, so it cannot be gone.
        let _ = self.changed.changed().await;
    }

    /// What there is to look at now; to be said before looking.
    pub(crate) fn epoch(&mut self) -> RevocationEpoch {
        *self.changed.borrow_and_update()
    }

    /// This channel has looked.
    pub(crate) fn looked(&self, epoch: RevocationEpoch) {
        self.all.0.looked.send_if_modified(|looked| match looked.by_channel.get_mut(&self.number) {
            Some(seen) if *seen < epoch => {
                *seen = epoch;
                true
            }
            _ => false,
        });
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.all.0.looked.send_modify(|looked| {
            looked.by_channel.remove(&self.number);
        });
    }
}

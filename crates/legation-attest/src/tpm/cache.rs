//! What a verifier of TPMs remembers between reports: chains of certificates, and statements whose signatures it checked.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use legation_core::{
    Digest, Rejection,
    dsse::Signed,
    statement::{Appointment, KeyAttestation},
};

use crate::x509::{CHAINS_MAX, ChainCache};

/// A key attestation and the appointment it came with. Each is signed by the key it names; nothing else is settled.
pub(super) struct Word {
    pub(super) attestation: Signed<KeyAttestation>,
    pub(super) appointment: Signed<Appointment>,
}

/// A cache of chains and of opened statements. The caller owns it; it may be shared, and no lock is held while a
/// signature is checked.
///
/// Opening a statement depends on its bytes alone, and those are the key here. Who may say it, of what and until when is
/// checked anew each time. The oldest goes first when it is full.
pub struct Cache {
    chains: ChainCache,
    capacity: usize,
    words: Mutex<Words>,
}

#[derive(Default)]
struct Words {
    by_key: BTreeMap<Digest, Arc<Word>>,
    oldest_first: VecDeque<Digest>,
}

impl Cache {
    /// A cache of at most `capacity` chains and as many pairs of statements, itself at most [`CHAINS_MAX`]; 0 remembers
    /// nothing.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.min(CHAINS_MAX);
        Self { chains: ChainCache::new(capacity), capacity, words: Mutex::default() }
    }

    /// The chains, for an [`activation::Challenge`](super::activation::Challenge) to share.
    pub fn chains(&self) -> &ChainCache {
        &self.chains
    }

    // A panic while the lock was held leaves at worst a statement that is never evicted early: go on.
    fn lock(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The statements in these bytes, opened by `open` if they are not here.
    pub(super) fn word(
        &self,
        bytes: [&[u8]; 2],
        open: impl FnOnce() -> Result<Word, Rejection>,
    ) -> Result<Arc<Word>, Rejection> {
        let key = Digest::of_parts(&bytes.map(Digest::of).each_ref().map(|digest| &digest.as_bytes()[..]));
        if let Some(word) = self.lock().by_key.get(&key) {
            return Ok(Arc::clone(word));
        }
        let word = Arc::new(open()?);
        let mut words = self.lock();
        if self.capacity > 0 && words.by_key.insert(key, Arc::clone(&word)).is_none() {
            words.oldest_first.push_back(key);
            if words.oldest_first.len() > self.capacity
                && let Some(oldest) = words.oldest_first.pop_front()
            {
                words.by_key.remove(&oldest);
            }
        }
        Ok(word)
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new(CHAINS_MAX)
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cache({} chains, {} statements)", self.chains.len(), self.lock().by_key.len())
    }
}

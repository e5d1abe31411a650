//! A cache of chains that were verified.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use legation_core::{Digest, UnixTime};

use super::Chain;

/// Most chains a cache holds.
pub const CHAINS_MAX: usize = 4096;

/// Verified chains by the content of everything they were verified with. The caller owns it; it may be shared, and its
/// lock is never held while a signature is checked.
///
/// A chain in it is used only inside the dates of its certificates and lists, so a cached verdict never outlives a
/// date, and a new revocation list makes a new key. The oldest chain goes first when it is full.
#[derive(Debug)]
pub struct ChainCache {
    capacity: usize,
    chains: Mutex<Chains>,
}

#[derive(Debug, Default)]
struct Chains {
    by_key: BTreeMap<Digest, Arc<Chain>>,
    oldest_first: VecDeque<Digest>,
}

impl ChainCache {
    /// A cache of at most `capacity` chains, itself at most [`CHAINS_MAX`]; 0 remembers nothing.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.min(CHAINS_MAX), chains: Mutex::default() }
    }

    /// How many chains it holds.
    pub fn len(&self) -> usize {
        self.lock().by_key.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    // A panic while the lock was held leaves at worst a chain that is never evicted early: go on.
    fn lock(&self) -> MutexGuard<'_, Chains> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, key: &Digest, at: UnixTime) -> Option<Arc<Chain>> {
        self.lock().by_key.get(key).filter(|chain| chain.from <= at && at <= chain.until).cloned()
    }

    pub(super) fn insert(&self, key: Digest, chain: Arc<Chain>) {
        if self.capacity == 0 {
            return;
        }
        let mut chains = self.lock();
        if chains.by_key.insert(key, chain).is_none() {
            chains.oldest_first.push_back(key);
        }
        while chains.by_key.len() > self.capacity {
            let Some(oldest) = chains.oldest_first.pop_front() else { break };
            chains.by_key.remove(&oldest);
        }
    }
}

impl Default for ChainCache {
    fn default() -> Self {
        Self::new(CHAINS_MAX)
    }
}

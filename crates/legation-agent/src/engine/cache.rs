//! Compiled modules by digest: bounded by count and bytes, least recently used goes first, one compilation per digest at a time and
//! few in all.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use legation_core::{Bytes, Digest};

use super::module::Prepared;

/// Compilations at a time. None can be interrupted, and hostile code takes much memory while it compiles.
pub(crate) const MAKING_MAX: usize = 2;

pub(super) struct Cache {
    state: Mutex<State>,
    made: Condvar,
    modules_max: usize,
    bytes_max: Bytes,
}

#[derive(Default)]
struct State {
    kept: HashMap<Digest, Kept>,
    /// Being compiled right now.
    making: HashSet<Digest>,
    bytes: Bytes,
    /// Counts uses; the entry with the smallest stamp is the least recently used.
    clock: u64,
}

struct Kept {
    module: Arc<Prepared>,
    used: u64,
}

impl Cache {
    pub(super) fn new(modules_max: usize, bytes_max: Bytes) -> Self {
        Self { state: Mutex::default(), made: Condvar::new(), modules_max, bytes_max }
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<Prepared>> {
        self.lock().touch(digest)
    }

    /// The kept module, or what `make` makes. A failure is not kept: the next caller tries again.
    pub(super) fn get_or_make<E>(
        &self,
        digest: Digest,
        make: impl FnOnce() -> Result<Prepared, E>,
    ) -> Result<Arc<Prepared>, E> {
        let mut state = self.lock();
        loop {
            if let Some(module) = state.touch(&digest) {
                return Ok(module);
            }
            if state.making.len() < MAKING_MAX && state.making.insert(digest) {
                break;
            }
            state = self.made.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        let making = Making { cache: self, digest };
        let module = Arc::new(make()?);
        self.lock().keep(digest, module.clone(), self.modules_max, self.bytes_max);
        drop(making);
        Ok(module)
    }

    /// A poisoned lock is fine: every change below leaves the state whole at each step.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the digest out of `making` and wakes the waiters even when the compiler panics.
struct Making<'a> {
    cache: &'a Cache,
    digest: Digest,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.cache.lock().making.remove(&self.digest);
        self.cache.made.notify_all();
    }
}

impl State {
    fn touch(&mut self, digest: &Digest) -> Option<Arc<Prepared>> {
        self.clock += 1;
        let kept = self.kept.get_mut(digest)?;
        kept.used = self.clock;
        Some(kept.module.clone())
    }

    fn keep(&mut self, digest: Digest, module: Arc<Prepared>, modules_max: usize, bytes_max: Bytes) {
        let size = module.code_size();
        while self.kept.len() >= modules_max || self.bytes.saturating_add(size) > bytes_max {
            let Some(oldest) = self.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(digest, _)| *digest) else {
                break;
            };
            if let Some(gone) = self.kept.remove(&oldest) {
                self.bytes = self.bytes.saturating_sub(gone.module.code_size());
            }
        }
        self.bytes = self.bytes.saturating_add(size);
        self.clock += 1;
        self.kept.insert(digest, Kept { module, used: self.clock });
    }
}

//! What is replaced while others read it: policies and shelves. A reader gets a snapshot and keeps it for one request.

use std::sync::{Arc, PoisonError, RwLock};

use legation_attest::Appraiser;
use legation_core::Digest;

/// A value that can be replaced as a whole. Reading costs one count of references.
#[derive(Debug, Default)]
pub struct Current<T>(RwLock<Arc<T>>);

impl<T> Current<T> {
    /// Starts with this value.
    pub fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    /// The value as of now.
    pub fn get(&self) -> Arc<T> {
        // Nothing panics while the lock is held: the value is whole in any case.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the value for whoever reads from now on.
    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

/// A policy with the name and digest it goes by.
#[derive(Clone)]
pub struct Appraising {
    /// Its name, as in passports.
    pub name: String,
    /// SHA-256 of what it was read from.
    pub digest: Digest,
    /// What decides.
    pub appraiser: Arc<dyn Appraiser>,
}

impl std::fmt::Debug for Appraising {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Appraising({} {})", self.name, self.digest.short())
    }
}

/// The policy in force; it can be replaced while evidence is judged.
pub type Appraisers = Current<Appraising>;

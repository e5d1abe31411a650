//! What a verifier of TPMs remembers between reports: chains of certificates, and statements whose signatures it checked.

use std::sync::Arc;

use legation_core::{
    Digest,
    dsse::Signed,
    statement::{Appointment, KeyAttestation},
};

use crate::{
    cache::{Bounded, ENTRIES_MAX},
    x509::ChainCache,
};

/// Most bytes of statements, as JSON, that a cache holds.
pub const WORDS_BYTES_MAX: usize = 8 << 20;

/// A key attestation and the appointment it came with. Each is signed by the key it names; nothing else is settled.
pub(super) struct Word {
    pub(super) attestation: Signed<KeyAttestation>,
    pub(super) appointment: Signed<Appointment>,
}

/// A cache of chains and of opened statements. The caller owns it; it may be shared, and no lock is held while a
/// signature is checked.
///
/// Opening a statement depends on its bytes alone, and those are the key here. Who may say it, of what and until when is
/// checked anew each time; a statement comes in here only once all of that was found right. The oldest goes first when it
/// is full.
#[derive(Debug)]
pub struct Cache {
    chains: ChainCache,
    words: Bounded<Arc<Word>>,
}

impl Cache {
    /// A cache of at most `capacity` chains and as many pairs of statements, itself at most [`ENTRIES_MAX`], the statements of
    /// at most [`WORDS_BYTES_MAX`]; 0 remembers nothing.
    pub fn new(capacity: usize) -> Self {
        Self { chains: ChainCache::new(capacity), words: Bounded::weighing(capacity, WORDS_BYTES_MAX) }
    }

    /// The chains, for an [`activation::Challenge`](super::activation::Challenge) to share.
    pub fn chains(&self) -> &ChainCache {
        &self.chains
    }

    /// What two statements are found by.
    pub(super) fn key(bytes: [&[u8]; 2]) -> Digest {
        Digest::of_parts(&bytes.map(Digest::of).each_ref().map(|digest| &digest.as_bytes()[..]))
    }

    /// The statements of this key, if they are here.
    pub(super) fn word(&self, key: &Digest) -> Option<Arc<Word>> {
        self.words.get(key)
    }

    /// Holds statements that came in so many bytes, and were found right.
    pub(super) fn remember(&self, key: Digest, word: &Arc<Word>, bytes: usize) {
        self.words.insert_weighing(key, Arc::clone(word), bytes);
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new(ENTRIES_MAX)
    }
}

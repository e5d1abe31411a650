//! The log through its public doors, against a naive tree, published vectors and forged proofs.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod checkpoints;
mod cose;
mod forks;
mod naive;
mod observer;
mod proofs;
mod receipts;
mod tree;
mod witness;

use legation_core::{Digest, Signer as _};
use legation_keys::IdentityKey;
use legation_log::{Checkpoint, KeyKind, MemoryTiles, NoteKey, Prover, SignedCheckpoint, Tree};

/// The log of these tests.
pub(crate) const ORIGIN: &str = "log.example/legation";

/// A key that is always the same.
pub(crate) fn key(number: u8) -> IdentityKey {
    IdentityKey::from_seed([number; 32])
}

/// The log's, as readers know it.
pub(crate) fn log_key() -> NoteKey {
    NoteKey::new(ORIGIN, KeyKind::Log, key(1).public_key()).unwrap()
}

/// An entry of `story`: two stories with the same name have the same entries.
pub(crate) fn entry(story: &str, index: u64) -> Digest {
    Digest::of_parts(&[story.as_bytes(), &index.to_be_bytes()])
}

/// A log with its tiles.
pub(crate) struct Log {
    pub(crate) tree: Tree,
    pub(crate) prover: Prover<MemoryTiles>,
}

impl Log {
    /// `common` entries that every log has, then some of a story of its own, up to `size`.
    pub(crate) fn of(story: &str, common: u64, size: u64) -> Self {
        let (mut tree, mut tiles) = (Tree::new(), MemoryTiles::new());
        for index in 0..size {
            let entry = if index < common { entry("common", index) } else { entry(story, index) };
            assert_eq!(tree.append(entry.as_bytes()), Ok(index));
        }
        tree.flush(&mut tiles).unwrap();
        Self { tree, prover: Prover::new(tiles) }
    }

    /// The checkpoint when it had `size` entries.
    pub(crate) fn checkpoint(&mut self, size: u64) -> SignedCheckpoint {
        let root = self.prover.root(size).unwrap();
        Checkpoint { origin: ORIGIN.to_owned(), size, root }.sign(&key(1)).unwrap()
    }
}

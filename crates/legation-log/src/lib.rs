//! The transparency log: a Merkle tree (RFC 6962, RFC 9162 section 2.1) over digests of envelopes, kept as C2SP tiles, with
//! signed checkpoints, proofs, witnesses, evidence of forks, and COSE receipts (RFC 9942).
//!
//! It is *not* a service: tiles come from a store that is an argument ([`Tiles`]), signatures from a [`legation_core::Signer`],
//! time from the caller. Nor does it say what is logged: an entry is any bytes up to [`tile::ENTRY_MAX`], for us the 32 bytes of
//! an envelope's digest.
//!
//! | file | what |
//! |---|---|
//! | `hash` | leaves and nodes |
//! | `tree` | appending: amortised one node and one leaf hash, memory of the right edge alone |
//! | `tile` | names of tiles, bundles of entries (c2sp.org/tlog-tiles) |
//! | `prover` | proofs made from tiles |
//! | `proof` | proofs judged, from nothing but themselves |
//! | `note`, `checkpoint`, `cosign` | c2sp.org/signed-note, tlog-checkpoint, tlog-cosignature |
//! | `witness` | c2sp.org/tlog-witness: what a witness remembers and refuses |
//! | `gossip` | two checkpoints of one log: they agree, or convict it |
//! | `observer` | what whoever merely listens remembers and notices |
//! | `cose` | COSE receipts of inclusion |
//! | `receipt` | the `log` section of a receipt |
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod checkpoint;
pub mod cose;
pub mod cosign;
pub mod gossip;
pub mod hash;
pub mod note;
pub mod observer;
pub mod proof;
pub mod prover;
pub mod receipt;
pub mod tile;
pub mod tree;
pub mod witness;

pub use checkpoint::{Checkpoint, SignedCheckpoint};
pub use gossip::{Compared, Fork};
pub use hash::{empty_root, leaf_hash, node_hash};
pub use note::{KeyKind, Note, NoteError, NoteKey};
pub use proof::{Consistency, Inclusion, ProofError};
pub use prover::Prover;
pub use tile::{Level, TileId, TilePath};
pub use tree::{MemoryTiles, TileFault, Tiles, Tree};
pub use witness::{AddCheckpoint, Refused, Witness};

/// Most entries of a log: seven levels of full tiles. Proofs have fewer than [`proof::PATH_MAX`] hashes below it.
pub const SIZE_MAX: u64 = (1 << 56) - 1;

//! Digests of pieces and of the trees over them: BLAKE3, because every byte of every fragment is hashed, and SHA-256 alone would
//! take longer than all else. What it names stays inside a manifest, which SHA-256 names.

use std::fmt;

use legation_core::{ObjectId, encoding};

use super::{Position, StripeIndex};

const PIECE_KEY: &[u8; 32] = b"legation-object-v2 piece digest.";
const INNER_KEY: &[u8; 32] = b"legation-object-v2 inner digest.";

macro_rules! blake3_digest {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps 32 bytes that are already such a digest.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&encoding::hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), encoding::hex(&self.0[..6]))
            }
        }
    };
}

blake3_digest! {
    /// BLAKE3 of a piece and its place, or of two of these in a tree.
    PieceDigest
}
blake3_digest! {
    /// Root of the tree over the digests of a fragment's pieces.
    FragmentDigest
}

/// The digest of a piece at its place: the same bytes have another one in another object, fragment or stripe.
pub fn piece_digest(object: ObjectId, position: Position, stripe: StripeIndex, bytes: &[u8]) -> PieceDigest {
    // The place comes last, so that the hash runs over the piece in its widest steps.
    let mut place = [0; 21];
    place[..16].copy_from_slice(object.as_bytes());
    place[16] = position.0;
    place[17..].copy_from_slice(&stripe.0.to_be_bytes());
    PieceDigest(*blake3::Hasher::new_keyed(PIECE_KEY).update(bytes).update(&place).finalize().as_bytes())
}

/// The digest above two others.
pub(super) fn inner(left: &PieceDigest, right: &PieceDigest) -> PieceDigest {
    let mut both = [0; 64];
    both[..32].copy_from_slice(&left.0);
    both[32..].copy_from_slice(&right.0);
    PieceDigest(*blake3::keyed_hash(INNER_KEY, &both).as_bytes())
}

/// The root of a tree: its one node, or that of no piece at all.
pub(super) fn root(node: Option<PieceDigest>) -> FragmentDigest {
    FragmentDigest(node.map_or_else(|| *blake3::keyed_hash(INNER_KEY, b"").as_bytes(), |node| node.0))
}

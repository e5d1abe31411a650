//! Hashes of the tree: SHA-256 with a byte before it that tells leaves from nodes (RFC 6962 section 2.1), so that nobody passes
//! a node off as an entry.

use aws_lc_rs::digest::{SHA256, digest};
use legation_core::Digest;

const LEAF: u8 = 0;
const NODE: u8 = 1;

/// Entries up to this many bytes are hashed without touching the heap.
const SHORT: usize = 64;

fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    Digest::from_bytes(out)
}

/// The root of the tree without entries: SHA-256 of nothing.
pub fn empty_root() -> Digest {
    sha256(&[])
}

/// The hash of an entry: `SHA-256(0x00 || entry)`.
pub fn leaf_hash(entry: &[u8]) -> Digest {
    let mut short = [0; SHORT + 1];
    match short.get_mut(1..=entry.len()) {
        Some(room) => {
            room.copy_from_slice(entry);
            short[0] = LEAF;
            sha256(short.get(..=entry.len()).unwrap_or_default())
        }
        None => Digest::of_parts(&[&[LEAF], entry]),
    }
}

/// The hash of two subtrees: `SHA-256(0x01 || left || right)`.
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut bytes = [0; 65];
    bytes[0] = NODE;
    bytes[1..33].copy_from_slice(left.as_bytes());
    bytes[33..].copy_from_slice(right.as_bytes());
    sha256(&bytes)
}

/// The largest power of two that is smaller than `size`, which is at least 2 (RFC 6962 section 2.1: `k`).
pub(crate) fn split(size: u64) -> u64 {
    1 << (63 - size.saturating_sub(1).max(1).leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_entries_are_hashed_alike() {
        for len in [0, 1, 31, 32, 63, 64, 65, 66, 1000] {
            let entry = vec![7; len];
            assert_eq!(leaf_hash(&entry), Digest::of(&[&[0][..], &entry].concat()), "{len}");
        }
    }

    #[test]
    fn a_tree_is_split_at_the_largest_power_below_it() {
        for (size, k) in [(2, 1), (3, 2), (4, 2), (5, 4), (8, 4), (9, 8), (1 << 40, 1 << 39), ((1 << 40) + 1, 1 << 40)]
        {
            assert_eq!(split(size), k, "{size}");
        }
    }
}

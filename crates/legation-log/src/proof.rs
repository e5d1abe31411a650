//! Proofs, judged from nothing but themselves: RFC 9162 sections 2.1.3.2 (inclusion) and 2.1.4.2 (consistency).

use legation_core::Digest;
use serde::{Deserialize, Serialize};

use crate::{
    SIZE_MAX,
    hash::{empty_root, node_hash},
};

/// Most hashes in a proof (c2sp.org/tlog-witness allows as many).
pub const PATH_MAX: usize = 63;

/// That a leaf is in a tree.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inclusion {
    /// Position of the leaf, counted from zero.
    pub index: u64,
    /// Entries of the tree.
    pub size: u64,
    /// The hashes beside the way from the leaf to the root, the leaf's neighbour first.
    pub path: Vec<Digest>,
}

/// That a tree is the beginning of another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consistency {
    /// Entries of the older tree.
    pub old: u64,
    /// Entries of the newer tree.
    pub new: u64,
    /// RFC 6962 section 2.1.2; empty where the older tree is empty, or both are the same.
    pub path: Vec<Digest>,
}

/// Why a proof proves nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProofError {
    /// A tree larger than any log.
    #[error("a tree of {size} entries is larger than any log")]
    TooLarge {
        /// Its entries.
        size: u64,
    },
    /// The leaf lies beyond the tree.
    #[error("entry {index} lies beyond a tree of {size} entries")]
    Beyond {
        /// Position of the leaf.
        index: u64,
        /// Entries of the tree.
        size: u64,
    },
    /// The older tree is the larger one.
    #[error("a tree of {old} entries is no beginning of one of {new}")]
    Backwards {
        /// Entries of the older tree.
        old: u64,
        /// Entries of the newer tree.
        new: u64,
    },
    /// The path has too few or too many hashes.
    #[error("a path of {got} hashes does not fit a proof of this shape")]
    Length {
        /// Hashes in it.
        got: usize,
    },
    /// It leads to another root.
    #[error("the proof leads to root {got}, expected {expected}")]
    OtherRoot {
        /// The root wanted.
        expected: Digest,
        /// The root that it leads to.
        got: Digest,
    },
    /// It leads to another root of the older tree: what was there has been changed.
    #[error("the newer tree begins with root {got}, expected {expected}")]
    OtherBeginning {
        /// The older root.
        expected: Digest,
        /// What the newer tree has in its place.
        got: Digest,
    },
}

impl Inclusion {
    /// The root of the tree that has this leaf hash here.
    ///
    /// # Errors
    /// A position beyond the tree, or a path of another length.
    pub fn root(&self, leaf: &Digest) -> Result<Digest, ProofError> {
        if self.size > SIZE_MAX {
            return Err(ProofError::TooLarge { size: self.size });
        }
        if self.index >= self.size {
            return Err(ProofError::Beyond { index: self.index, size: self.size });
        }
        let length = ProofError::Length { got: self.path.len() };
        let (mut node, mut last, mut root) = (self.index, self.size - 1, *leaf);
        for beside in &self.path {
            if last == 0 {
                return Err(length);
            }
            if node & 1 == 1 || node == last {
                root = node_hash(beside, &root);
                while node & 1 == 0 && node != 0 {
                    node >>= 1;
                    last >>= 1;
                }
            } else {
                root = node_hash(&root, beside);
            }
            node >>= 1;
            last >>= 1;
        }
        if last == 0 { Ok(root) } else { Err(length) }
    }

    /// Whether this leaf hash is here in the tree with this root.
    ///
    /// # Errors
    /// As [`Self::root`], or another root.
    pub fn verify(&self, leaf: &Digest, expected: &Digest) -> Result<(), ProofError> {
        let got = self.root(leaf)?;
        if got == *expected { Ok(()) } else { Err(ProofError::OtherRoot { expected: *expected, got }) }
    }
}

impl Consistency {
    /// Whether the tree with `old_root` is the beginning of the one with `new_root`.
    ///
    /// # Errors
    /// Sizes or a path that do not fit; [`ProofError::OtherRoot`] where the proof does not belong to the newer tree;
    /// [`ProofError::OtherBeginning`] where it does, and the newer tree begins otherwise.
    pub fn verify(&self, old_root: &Digest, new_root: &Digest) -> Result<(), ProofError> {
        let Self { old, new, path } = self;
        let length = ProofError::Length { got: path.len() };
        if *new > SIZE_MAX {
            return Err(ProofError::TooLarge { size: *new });
        }
        if old > new {
            return Err(ProofError::Backwards { old: *old, new: *new });
        }
        if *old == 0 || old == new {
            if !path.is_empty() {
                return Err(length);
            }
            // Of an empty tree, there is one root; a tree has one beginning of its own size.
            let beginning = if *old == 0 { empty_root() } else { *new_root };
            return same_beginning(old_root, &beginning);
        }
        // The old root itself stands for the first hash where the old tree is one whole subtree.
        let (seed, rest) = if old.is_power_of_two() {
            (old_root, path.as_slice())
        } else {
            path.split_first().ok_or_else(|| length.clone())?
        };
        let (beginning, root) = fold(*old, *new, seed, rest)?;
        if root != *new_root {
            return Err(ProofError::OtherRoot { expected: *new_root, got: root });
        }
        same_beginning(old_root, &beginning)
    }
}

fn same_beginning(expected: &Digest, got: &Digest) -> Result<(), ProofError> {
    if expected == got { Ok(()) } else { Err(ProofError::OtherBeginning { expected: *expected, got: *got }) }
}

/// The roots of the older and the newer tree that the hashes of a consistency proof lead to, when `seed` is the hash of the last
/// whole subtree of the older tree (in the proof itself it is left out where it is the older tree). `0 < old < new`.
///
/// # Errors
/// A path of another length.
pub fn fold(old: u64, new: u64, seed: &Digest, path: &[Digest]) -> Result<(Digest, Digest), ProofError> {
    let length = ProofError::Length { got: path.len() };
    if old == 0 || old >= new {
        return Err(ProofError::Backwards { old, new });
    }
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut beginning, mut root) = (*seed, *seed);
    for beside in path {
        if last == 0 {
            return Err(length);
        }
        if node & 1 == 1 || node == last {
            beginning = node_hash(beside, &beginning);
            root = node_hash(beside, &root);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            root = node_hash(&root, beside);
        }
        node >>= 1;
        last >>= 1;
    }
    if last == 0 { Ok((beginning, root)) } else { Err(length) }
}

//! Two checkpoints of one log, held against each other. Either the later continues the earlier, or the log has two pasts.
//!
//! That a log is forked is shown to anybody who knows its key by [`Fork`]: both signed checkpoints and, where their sizes differ, the
//! hashes out of which the newer root is made and an older root that is not the one signed before. The newer root binds the log to
//! those hashes (SHA-256), so it has signed two beginnings of one length. Nothing has to be believed of who shows it, and it is not
//! a fork that somebody merely failed to get a proof.

use legation_core::Digest;
use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::SignedCheckpoint,
    note::{NoteError, NoteKey},
    proof::{Consistency, PATH_MAX, ProofError, fold},
};

/// How two checkpoints of one log stand to each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Compared {
    /// Both have the same tree.
    Same,
    /// The second continues the first.
    Grown,
    /// The first continues the second.
    Older,
    /// The log has forked.
    Forked(Box<Fork>),
}

/// What convicts a log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// The smaller checkpoint, as its log signed it.
    pub older: String,
    /// The larger one, or another of the same size.
    pub newer: String,
    /// Hash of the last whole subtree of what the newer tree begins with; nothing where both have one size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Digest>,
    /// The hashes that lead from it to both roots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<Digest>,
}

/// Why two checkpoints say nothing of each other, or something is no evidence of a fork.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GossipError {
    /// A note is not a checkpoint of this log.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// They are of different logs.
    #[error("checkpoints of different logs, {first} and {second}")]
    Origins {
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// The proof is not about these two.
    #[error("a proof from {old} to {new} entries says nothing of checkpoints with {first} and {second}")]
    Sizes {
        /// Smaller size in the proof.
        old: u64,
        /// Larger size in it.
        new: u64,
        /// Entries of the first checkpoint.
        first: u64,
        /// Entries of the second.
        second: u64,
    },
    /// The proof proves nothing: neither that they agree nor that they do not.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// Both checkpoints agree: there is no fork.
    #[error("the checkpoints agree: this is no evidence of a fork")]
    NoFork,
}

/// Compares two checkpoints of a log. `proof` is about them; it may be left out where they have the same size.
///
/// # Errors
/// Another log's, or a proof that says nothing: such as one that does not lead to the newer root.
pub fn compare(
    first: &SignedCheckpoint,
    second: &SignedCheckpoint,
    proof: Option<&Consistency>,
) -> Result<Compared, GossipError> {
    let (a, b) = (first.checkpoint(), second.checkpoint());
    if a.origin != b.origin {
        return Err(GossipError::Origins { first: a.origin.clone(), second: b.origin.clone() });
    }
    if a.size == b.size {
        return Ok(if a.root == b.root { Compared::Same } else { forked(first, second, None, Vec::new()) });
    }
    let (older, newer, agree) =
        if a.size < b.size { (first, second, Compared::Grown) } else { (second, first, Compared::Older) };
    let (old, new) = (older.checkpoint(), newer.checkpoint());
    let sizes = |old, new| GossipError::Sizes { old, new, first: a.size, second: b.size };
    let proof = proof.ok_or(sizes(0, 0))?;
    if (proof.old, proof.new) != (old.size, new.size) {
        return Err(sizes(proof.old, proof.new));
    }
    match proof.verify(&old.root, &new.root) {
        Ok(()) => Ok(agree),
        // There the proof itself shows what the newer tree begins with.
        Err(ProofError::OtherBeginning { .. }) if !proof.old.is_power_of_two() && proof.old > 0 => {
            let (seed, path) = proof.path.split_first().map_or((None, Vec::new()), |(s, p)| (Some(*s), p.to_vec()));
            Ok(forked(older, newer, seed, path))
        }
        Err(why) => Err(why.into()),
    }
}

/// As [`compare`], with what [`crate::Prover::beginning`] gives out of the newer tree's own tiles: it decides whatever the sizes are.
///
/// # Errors
/// As [`compare`]; hashes that do not make the newer root.
pub fn compare_with(
    older: &SignedCheckpoint,
    newer: &SignedCheckpoint,
    seed: &Digest,
    path: &[Digest],
) -> Result<Compared, GossipError> {
    let (old, new) = (older.checkpoint(), newer.checkpoint());
    if old.origin != new.origin {
        return Err(GossipError::Origins { first: old.origin.clone(), second: new.origin.clone() });
    }
    let (beginning, root) = fold(old.size, new.size, seed, path)?;
    if root != new.root {
        return Err(ProofError::OtherRoot { expected: new.root, got: root }.into());
    }
    Ok(if beginning == old.root { Compared::Grown } else { forked(older, newer, Some(*seed), path.to_vec()) })
}

fn forked(older: &SignedCheckpoint, newer: &SignedCheckpoint, seed: Option<Digest>, path: Vec<Digest>) -> Compared {
    let (older, newer) = (older.note().to_string(), newer.note().to_string());
    Compared::Forked(Box::new(Fork { older, newer, seed, path }))
}

impl Fork {
    /// Whether it convicts the log of `key`.
    ///
    /// # Errors
    /// It does not, and why.
    pub fn verify(&self, key: &NoteKey) -> Result<(), GossipError> {
        let (older, newer) = (SignedCheckpoint::open(&self.older, key)?, SignedCheckpoint::open(&self.newer, key)?);
        if self.path.len() > PATH_MAX {
            return Err(ProofError::Length { got: self.path.len() }.into());
        }
        let compared = match &self.seed {
            Some(seed) => compare_with(&older, &newer, seed, &self.path)?,
            None => compare(&older, &newer, None)?,
        };
        if matches!(compared, Compared::Forked(_)) { Ok(()) } else { Err(GossipError::NoFork) }
    }
}

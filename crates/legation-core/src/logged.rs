//! The `log` section of a receipt: that its statements stand in a transparency log, in front of the same checkpoint.
//!
//! This is the form alone, which belongs to the file's one spelling; `legation-log` makes and judges it. Proofs of one receipt share
//! most of their hashes: each stands once in `nodes`, in the order in which the proofs first use them.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The section.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logged {
    /// The log's signed checkpoint (c2sp.org/tlog-checkpoint), with the cosignatures that whoever made the receipt had.
    pub checkpoint: String,
    /// Hashes of the tree that the proofs use.
    pub nodes: Vec<Digest>,
    /// A proof for each envelope, in the order of the envelopes. Nothing for one that is no entry itself, such as what enclaves
    /// said to each other alone: an entry that rests on it binds it by its digest.
    pub proofs: Vec<Option<LoggedAt>>,
}

/// That the digest of an envelope is an entry of the log (RFC 9162 section 2.1.3).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedAt {
    /// Position in the log, counted from zero.
    pub index: u64,
    /// Places in `nodes` of the hashes beside its way to the root, the entry's neighbour first.
    pub path: Vec<u32>,
}

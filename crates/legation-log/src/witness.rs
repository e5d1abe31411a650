//! A witness (c2sp.org/tlog-witness): signs that a log has only grown.
//!
//! It remembers one checkpoint of each log: the largest that it signed. A request is judged ([`Witness::judge`]), what is to be
//! remembered is written where it survives, then it is taken up ([`Witness::remember`]), and then the signature is given out: whoever
//! drives a witness does all of that under one lock. So it never signs two trees that do not continue each other, whatever fails
//! in between.
//!
//! A request is refused, in this order, because
//! 1. its log is unknown (404);
//! 2. the log did not sign its checkpoint (403);
//! 3. it is about an older tree that is larger than the checkpoint (400);
//! 4. the older tree is not the last one signed (409, with the size of that);
//! 5. it has the size of the last one and another root (409): a fork, kept as evidence;
//! 6. its proof does not lead from the last one to it (422); where the proof itself shows that the log has two pasts, that is kept
//!    as evidence;
//! 7. with the witness's signature it would be longer than any note (400): what is remembered must be readable again.
//!
//! Of the signatures that came with a checkpoint only the log's own are remembered. A memory that cannot be read signs nothing (500).

use std::{collections::BTreeMap, fmt};

use legation_core::{Digest, Signer, UnixTime, encoding};
use serde::{Deserialize, Serialize};

use crate::{
    SIZE_MAX,
    checkpoint::SignedCheckpoint,
    cosign::cosign,
    gossip::{Compared, Fork, compare},
    hash::empty_root,
    note::{NOTE_MAX, Note, NoteError, NoteKey, NoteSignature},
    proof::{Consistency, PATH_MAX},
};

/// Longest request read, in bytes.
pub const REQUEST_MAX: usize = NOTE_MAX + 64 * 48;
/// Most logs of a witness.
pub const LOGS_MAX: usize = 1024;

/// A request to sign a checkpoint, with a proof that it continues one that was signed before.
///
/// ```text
/// old SIZE
/// base64(hash), a line each
///
/// the checkpoint
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddCheckpoint {
    /// Entries of the last tree that the witness signed; zero where it signed none.
    pub old: u64,
    /// From there to the checkpoint.
    pub path: Vec<Digest>,
    /// The checkpoint as its log signed it.
    pub note: Note,
}

impl AddCheckpoint {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// Too large, or not of the form.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let malformed = NoteError::Malformed;
        if text.len() > REQUEST_MAX {
            return Err(NoteError::TooLarge { what: "the request", max: REQUEST_MAX });
        }
        let (head, note) = text.split_once("\n\n").ok_or(malformed("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n');
        let size = lines.next().and_then(|line| line.strip_prefix("old ")).unwrap_or_default();
        let number: Option<u64> = size.parse().ok();
        let old = number
            .filter(|number| *number <= SIZE_MAX && number.to_string() == size)
            .ok_or(malformed("the first line is `old SIZE`"))?;
        let mut path = Vec::new();
        for line in lines {
            if path.len() >= PATH_MAX {
                return Err(NoteError::TooLarge { what: "number of hashes before the text", max: PATH_MAX });
            }
            let hash = encoding::unbase64_array(line).map_err(|_| malformed("a line of the proof is no hash"))?;
            path.push(Digest::from_bytes(hash));
        }
        Ok(Self { old, path, note: Note::parse(note)? })
    }
}

/// The body of the request.
impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        for hash in &self.path {
            writeln!(f, "{}", encoding::base64(hash.as_bytes()))?;
        }
        write!(f, "\n{}", self.note)
    }
}

/// The last tree of a log that a witness signed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Entries.
    pub size: u64,
    /// Root hash.
    pub root: Digest,
    /// The checkpoint as its log signed it, with this witness's signature.
    pub note: String,
}

/// What a witness will sign once it is remembered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signing {
    /// The log.
    pub origin: String,
    /// What to write where it survives, before anybody sees the signature.
    pub seen: Seen,
    /// The signature.
    pub signature: NoteSignature,
}

/// Why a witness does not sign.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// A log that it does not watch.
    #[error("this witness does not watch the log {origin}")]
    UnknownLog {
        /// Which.
        origin: String,
    },
    /// Not the log's.
    #[error("the checkpoint is not one of the log: {0}")]
    Untrusted(NoteError),
    /// Not a checkpoint, or a proof backwards.
    #[error("{0}")]
    Malformed(&'static str),
    /// Another older tree than the last one signed.
    #[error("the last tree signed has {size} entries")]
    Stale {
        /// Its entries.
        size: u64,
    },
    /// The log has forked.
    #[error("the log has signed two pasts: this is evidence against it")]
    Forked(Box<Fork>),
    /// The proof does not lead there.
    #[error("the checkpoint is not shown to continue the last one signed: {why}")]
    Unproven {
        /// Why.
        why: String,
    },
    /// What this witness remembers is no checkpoint of the log.
    #[error("what this witness remembers of the log cannot be read: {0}")]
    Memory(NoteError),
}

impl Refused {
    /// The HTTP status that the specification gives it.
    pub fn status(&self) -> u16 {
        match self {
            Self::UnknownLog { .. } => 404,
            Self::Untrusted(_) => 403,
            Self::Malformed(_) => 400,
            Self::Stale { .. } => 409,
            // With a size of their own the specification has a conflict for them; otherwise the proof is what fails.
            Self::Forked(fork) if fork.seed.is_none() => 409,
            Self::Forked(_) | Self::Unproven { .. } => 422,
            Self::Memory(_) => 500,
        }
    }
}

/// A witness: the logs that it watches, and what it signed last of each.
#[derive(Clone, Debug)]
pub struct Witness {
    name: String,
    logs: BTreeMap<String, NoteKey>,
    seen: BTreeMap<String, Seen>,
}

impl Witness {
    /// A witness of this name that watches these logs and has signed this much.
    ///
    /// # Errors
    /// Too many logs, or it remembers something that is no checkpoint of one of them: then its memory is another's, and it must not
    /// sign.
    pub fn new(
        name: &str,
        logs: impl IntoIterator<Item = NoteKey>,
        seen: BTreeMap<String, Seen>,
    ) -> Result<Self, NoteError> {
        let logs: BTreeMap<_, _> = logs.into_iter().map(|key| (key.name().to_owned(), key)).collect();
        if logs.len() > LOGS_MAX {
            return Err(NoteError::TooLarge { what: "number of logs", max: LOGS_MAX });
        }
        for (origin, seen) in &seen {
            let Some(key) = logs.get(origin) else { continue };
            let opened = SignedCheckpoint::open(&seen.note, key)?;
            if (opened.checkpoint().size, opened.checkpoint().root) != (seen.size, seen.root) {
                return Err(NoteError::Malformed("what the witness remembers is not what it signed"));
            }
        }
        Ok(Self { name: name.to_owned(), logs, seen })
    }

    /// Whether this is the tree of the log that it signed last: then there is nothing to write before it is signed again.
    pub fn has_signed(&self, signing: &Signing) -> bool {
        let before = self.seen.get(&signing.origin);
        before.is_some_and(|seen| (seen.size, seen.root) == (signing.seen.size, signing.seen.root))
    }

    /// What it signed last of a log.
    pub fn seen(&self, origin: &str) -> Option<&Seen> {
        self.seen.get(origin)
    }

    /// What it signed last of each log: what has to survive.
    pub fn memory(&self) -> &BTreeMap<String, Seen> {
        &self.seen
    }

    /// The key by which it knows a log.
    pub fn log(&self, origin: &str) -> Option<&NoteKey> {
        self.logs.get(origin)
    }

    /// Judges a request; nothing is remembered yet.
    ///
    /// # Errors
    /// Why it does not sign.
    pub fn judge(&self, request: &AddCheckpoint, signer: &dyn Signer, at: UnixTime) -> Result<Signing, Refused> {
        let origin = request.note.text().split('\n').next().unwrap_or_default();
        let key = self.logs.get(origin).ok_or_else(|| Refused::UnknownLog { origin: origin.to_owned() })?;
        let opened = SignedCheckpoint::of_note(request.note.clone(), key).map_err(Refused::Untrusted)?;
        let checkpoint = opened.checkpoint();
        if request.old > checkpoint.size {
            return Err(Refused::Malformed("the older tree is larger than the checkpoint"));
        }
        let seen = self.seen.get(origin);
        let (size, root) = seen.map_or((0, empty_root()), |seen| (seen.size, seen.root));
        if request.old != size {
            return Err(Refused::Stale { size });
        }
        let proof = Consistency { old: size, new: checkpoint.size, path: request.path.clone() };
        // Without the note that it remembers, a fork would be refused and leave no evidence.
        let last = seen.map(|seen| SignedCheckpoint::open(&seen.note, key)).transpose().map_err(Refused::Memory)?;
        match last.map(|last| compare(&last, &opened, Some(&proof))) {
            Some(Ok(Compared::Forked(fork))) => return Err(Refused::Forked(fork)),
            Some(Err(why)) => return Err(Refused::Unproven { why: why.to_string() }),
            Some(Ok(_)) | None => {}
        }
        proof.verify(&root, &checkpoint.root).map_err(|why| Refused::Unproven { why: why.to_string() })?;
        let signature = cosign(request.note.text(), &self.name, signer, at).map_err(Refused::Untrusted)?;
        let mut note = request.note.clone();
        note.keep(key);
        note.add(signature.clone()).map_err(Refused::Untrusted)?;
        let note = note.to_string();
        if note.len() > NOTE_MAX {
            return Err(Refused::Malformed("the checkpoint leaves no room for a signature"));
        }
        let seen = Seen { size: checkpoint.size, root: checkpoint.root, note };
        Ok(Signing { origin: origin.to_owned(), seen, signature })
    }

    /// Takes up what was written where it survives.
    pub fn remember(&mut self, signing: &Signing) {
        self.seen.insert(signing.origin.clone(), signing.seen.clone());
    }
}

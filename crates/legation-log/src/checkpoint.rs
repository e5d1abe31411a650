//! Checkpoints (c2sp.org/tlog-checkpoint): what a log commits to, as the text of a signed note.
//!
//! ```text
//! ORIGIN
//! SIZE
//! base64(root)
//! ```
//! A log of ours writes no further lines; those of others are kept and mean nothing.

use std::str::FromStr;

use legation_core::{Digest, Signer, encoding};

use crate::{
    SIZE_MAX,
    hash::empty_root,
    note::{KeyKind, Note, NoteError, NoteKey, is_name},
};

/// The tree of a log at one time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Which log: the name of its key, too.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// Root hash.
    pub root: Digest,
}

/// A checkpoint that its log signed, as it travels. It was read with the log's key: it is believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedCheckpoint {
    note: Note,
    checkpoint: Checkpoint,
}

impl Checkpoint {
    /// The text of the note.
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, encoding::base64(self.root.as_bytes()))
    }

    /// Signs it under its origin.
    ///
    /// # Errors
    /// The origin cannot be the name of a key.
    pub fn sign(self, signer: &dyn Signer) -> Result<SignedCheckpoint, NoteError> {
        let note = Note::sign(&self.to_text(), &self.origin, signer)?;
        Ok(SignedCheckpoint { note, checkpoint: self })
    }
}

impl FromStr for Checkpoint {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let malformed = NoteError::Malformed;
        let body = text.strip_suffix('\n').ok_or(malformed("a checkpoint ends with a line break"))?;
        let mut lines = body.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(malformed("a checkpoint has origin, size and root, a line each"));
        };
        if !is_name(origin) {
            return Err(NoteError::Name);
        }
        let number: Option<u64> = size.parse().ok();
        let size = number
            .filter(|number| *number <= SIZE_MAX && number.to_string() == size)
            .ok_or(malformed("the size of a checkpoint is a number without leading zeros"))?;
        let root = encoding::unbase64_array(root).map_err(|_| malformed("the root of a checkpoint is 32 bytes"))?;
        let root = Digest::from_bytes(root);
        // What grows out of it would never be shown to continue it, and whoever remembers it could believe nothing of this log.
        if size == 0 && root != empty_root() {
            return Err(malformed("the empty tree has one root"));
        }
        if lines.any(str::is_empty) {
            return Err(malformed("a further line of a checkpoint is empty"));
        }
        Ok(Self { origin: origin.to_owned(), size, root })
    }
}

impl SignedCheckpoint {
    /// Reads a note and checks that the log of `key` signed it under its name as origin.
    ///
    /// # Errors
    /// Not a note, not a checkpoint, of another origin, or not signed by this key.
    pub fn open(text: &str, key: &NoteKey) -> Result<Self, NoteError> {
        Self::of_note(Note::parse(text)?, key)
    }

    /// As [`Self::open`], of a note that was read.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of_note(note: Note, key: &NoteKey) -> Result<Self, NoteError> {
        let checkpoint: Checkpoint = note.text().parse()?;
        if checkpoint.origin != key.name() || key.kind() != KeyKind::Log {
            return Err(NoteError::Unsigned { name: key.name().to_owned() });
        }
        note.verify(key)?;
        Ok(Self { note, checkpoint })
    }

    /// What it says.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note, with whatever signatures it came with.
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// The note, to add cosignatures to.
    pub fn note_mut(&mut self) -> &mut Note {
        &mut self.note
    }
}

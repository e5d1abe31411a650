//! Who is told checkpoints by others and compares: an agent, or anybody else that hears of a log now and then.
//!
//! It remembers the largest checkpoint of each log that it heard of, and the key that this one came with: the first word counts,
//! until somebody with an anchor says better. A larger one is taken with the hashes that show it to continue the one remembered.
//! A smaller one may come from somebody who is merely behind, or who has lost what was signed: it is answered with the one
//! remembered, which its log signed. Whoever shows neither for long ([`PATIENCE`]) is reported, once until it shows something again.

use std::collections::BTreeMap;

use legation_core::Digest;

use crate::{
    checkpoint::SignedCheckpoint,
    gossip::{Compared, Fork, GossipError, compare, compare_with},
    note::{NoteError, NoteKey},
};

/// Most logs that are remembered.
pub const LOGS_MAX: usize = 16;

/// Most checkpoints in a row that are not shown to belong to the one remembered, before that is said.
pub const PATIENCE: u32 = 8;

/// What was told.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The signed checkpoint.
    pub note: &'a str,
    /// The log's key, as a vkey.
    pub key: &'a str,
    /// Entries of the older tree that the hashes are about.
    pub old: u64,
    /// What [`crate::Prover::beginning`] gives; nothing where the older tree is empty, or the same.
    pub seed: Option<Digest>,
    /// The rest of it.
    pub path: &'a [Digest],
}

/// What follows from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// The first of this log, or one that continues what was known.
    Taken {
        /// Entries.
        size: u64,
    },
    /// What is known already, or was said already: nothing follows.
    Known,
    /// Less than what is known: tell them of that.
    Less {
        /// Entries of the one remembered.
        size: u64,
        /// The one remembered, as its log signed it.
        note: String,
    },
    /// A larger one, but not shown to continue the one remembered: ask with this size.
    Ask {
        /// Entries of the one remembered.
        size: u64,
    },
    /// Asked for often enough, or answered with nothing: it is not shown that the log continues the one remembered.
    Unshown {
        /// Entries of the one remembered.
        size: u64,
    },
    /// The log has two pasts.
    Forked(Box<Fork>),
    /// The log came with another key than before.
    OtherKey {
        /// Which log.
        origin: String,
    },
}

/// Remembers and compares.
#[derive(Clone, Default, Debug)]
pub struct Observer {
    logs: BTreeMap<String, Known>,
}

#[derive(Clone, Debug)]
struct Known {
    key: NoteKey,
    last: SignedCheckpoint,
    /// Checkpoints since then that were not shown to belong to it.
    unshown: u32,
}

impl Known {
    fn new(key: NoteKey, last: SignedCheckpoint) -> Self {
        Self { key, last, unshown: 0 }
    }

    /// Counts one that was not shown; gives what was heard instead when that were too many, the first time.
    fn unshown(&mut self, heard: Heard) -> Heard {
        self.unshown = self.unshown.saturating_add(1);
        if self.unshown == PATIENCE { Heard::Unshown { size: self.last.checkpoint().size } } else { heard }
    }

    /// An answer with nothing in it needs no patience: that is said at once, and once.
    fn nothing_shown(&mut self) -> Heard {
        if self.unshown >= PATIENCE {
            return Heard::Known;
        }
        self.unshown = PATIENCE;
        Heard::Unshown { size: self.last.checkpoint().size }
    }
}

impl Observer {
    /// Hears of a checkpoint.
    ///
    /// # Errors
    /// Not a checkpoint of this key, too many logs, or hashes that prove nothing.
    pub fn hear(&mut self, told: Told<'_>) -> Result<Heard, GossipError> {
        let key: NoteKey = told.key.parse()?;
        let origin = key.name().to_owned();
        let (many, known) = (self.logs.len(), self.logs.get_mut(&origin));
        if known.as_ref().is_some_and(|known| known.key != key) {
            return Ok(Heard::OtherKey { origin });
        }
        let new = SignedCheckpoint::open(told.note, &key)?;
        let size = new.checkpoint().size;
        let Some(known) = known else {
            if many >= LOGS_MAX {
                return Err(NoteError::TooLarge { what: "number of logs", max: LOGS_MAX }.into());
            }
            self.logs.insert(origin, Known::new(key, new));
            return Ok(Heard::Taken { size });
        };
        let before = known.last.checkpoint().size;
        if size < before {
            let less = Heard::Less { size: before, note: known.last.note().to_string() };
            return Ok(known.unshown(less));
        }
        let compared = match told.seed {
            _ if size == before => compare(&known.last, &new, None)?,
            _ if before == 0 => Compared::Grown,
            Some(seed) if told.old == before => compare_with(&known.last, &new, &seed, told.path)?,
            // The answer to the question, with nothing in it: it is not asked again.
            None if told.old == before => return Ok(known.nothing_shown()),
            _ => return Ok(known.unshown(Heard::Ask { size: before })),
        };
        match compared {
            Compared::Forked(fork) => Ok(Heard::Forked(fork)),
            Compared::Grown => {
                *known = Known::new(key, new);
                Ok(Heard::Taken { size })
            }
            Compared::Same | Compared::Older => {
                known.unshown = 0;
                Ok(Heard::Known)
            }
        }
    }
}

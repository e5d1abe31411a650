//! The largest checkpoint that is known to be signed with the log's key: a file beside the key, `KEY.last`, not in the data folder.
//!
//! What was signed binds, and the data folder may come out of a backup, or be lost: then neither the journal nor `log.sqlite` knows
//! what was signed after. So the mark is written and synced before a checkpoint is given out, and the log signs nothing that does not
//! continue it. It belongs to the key as the state of a one-time signature does: who keeps the key keeps the mark.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use legation_log::{Checkpoint, NoteKey, SignedCheckpoint};

use super::LogError;

/// What is known to be signed.
pub(super) struct Mark {
    path: PathBuf,
    last: Option<SignedCheckpoint>,
}

/// The path with this at its end.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

impl Mark {
    /// Reads the file; without one, the key has signed nothing yet.
    ///
    /// # Errors
    /// It cannot be read, or is no checkpoint by this key.
    pub(super) fn read(path: PathBuf, key: &NoteKey) -> Result<Self, LogError> {
        let last = match fs::read_to_string(&path) {
            Ok(text) => Some(SignedCheckpoint::open(&text, key)),
            Err(source) if source.kind() == ErrorKind::NotFound => None,
            Err(source) => return Err(LogError::Mark { path, source }),
        };
        match last.transpose() {
            Ok(last) => Ok(Self { path, last }),
            Err(why) => Err(LogError::OtherMark { path, why }),
        }
    }

    /// The checkpoint.
    pub(super) fn last(&self) -> Option<&Checkpoint> {
        self.last.as_ref().map(SignedCheckpoint::checkpoint)
    }

    /// Its entries; zero before the first.
    pub(super) fn size(&self) -> u64 {
        self.last().map_or(0, |last| last.size)
    }

    /// Remembers a checkpoint, where it survives, before anybody sees it; a smaller one, or the same, is remembered already.
    ///
    /// # Errors
    /// The file cannot be written: the checkpoint must not be given out.
    pub(super) fn advance(&mut self, to: &SignedCheckpoint) -> Result<(), LogError> {
        if self.last.is_some() && to.checkpoint().size <= self.size() {
            return Ok(());
        }
        self.write(&to.note().to_string()).map_err(|source| LogError::Mark { path: self.path.clone(), source })?;
        self.last = Some(to.clone());
        Ok(())
    }

    /// Replaces the file: what was in it is there until the new one is whole.
    fn write(&self, text: &str) -> io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let aside = beside(&self.path, ".new");
        let mut file = File::create(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, &self.path)?;
        File::open(folder)?.sync_all()
    }
}

//! Snapshots in a store: the newest few, each with its digest. And as files in a folder, for stores that are files.
//!
//! ```text
//! DIR/snapshot-SEQ      magic, SHA-256 of the rest, the rest: what a pool's snapshot is
//! ```
//! A file is written aside, synced, renamed, and its folder synced.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use legation_core::{Digest, Seq};

use super::JournalError;

/// Snapshots that a store keeps; older ones go.
pub const SNAPSHOTS_KEPT: usize = 2;
/// What our files begin with; the number is the version of what frames a snapshot, not of what is in it.
const MAGIC: &[u8; 16] = b"legation-snap-1\n";
/// How their names begin.
const PREFIX: &str = "snapshot-";

/// A pool as of a record, as it was saved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The last record in it.
    pub seq: Seq,
    /// What was saved, or how it was damaged.
    pub bytes: Result<Vec<u8>, String>,
}

/// Where snapshots are kept. Calls block.
pub trait Snapshots: Send {
    /// Saves one durably, whole or not at all, and forgets all but the newest [`SNAPSHOTS_KEPT`].
    ///
    /// # Errors
    /// The store failed.
    fn save_snapshot(&mut self, seq: Seq, bytes: &[u8]) -> Result<(), JournalError>;

    /// The newest one before record `before`, or of all.
    ///
    /// # Errors
    /// The store failed. A damaged one is no error, but says so.
    fn newest_snapshot(&mut self, before: Option<Seq>) -> Result<Option<Snapshot>, JournalError>;
}

/// Snapshots as files.
pub(super) struct SnapshotFiles {
    dir: PathBuf,
}

impl SnapshotFiles {
    /// Those of a folder that exists.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn file(&self, seq: Seq) -> PathBuf {
        self.dir.join(format!("{PREFIX}{}", seq.0))
    }

    /// Positions of those that are there, ascending.
    fn all(&self) -> Result<Vec<Seq>, JournalError> {
        let file = |source| JournalError::File { path: self.dir.clone(), source };
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(file)? {
            let name = entry.map_err(file)?.file_name();
            let number = name.to_str().and_then(|n| n.strip_prefix(PREFIX)).and_then(|n| n.parse().ok());
            all.extend(number.map(Seq));
        }
        all.sort_unstable();
        Ok(all)
    }
}

/// Takes a file apart.
fn open(whole: &[u8]) -> Result<Vec<u8>, String> {
    let Some(rest) = whole.strip_prefix(MAGIC) else {
        return Err("it does not begin as a snapshot does".to_owned());
    };
    let Some((digest, bytes)) = rest.split_first_chunk::<32>() else { return Err("it is cut off".to_owned()) };
    check(digest, bytes).map(|()| bytes.to_vec())
}

/// Whether these bytes are those that were saved.
pub(super) fn check(digest: &[u8], bytes: &[u8]) -> Result<(), String> {
    let is = Digest::of(bytes);
    if is.as_bytes() == digest { Ok(()) } else { Err(format!("its digest is not what was saved, but {is}")) }
}

impl Snapshots for SnapshotFiles {
    fn save_snapshot(&mut self, seq: Seq, bytes: &[u8]) -> Result<(), JournalError> {
        let (path, aside) = (self.file(seq), self.dir.join("snapshot.new"));
        let write = |aside: &Path| {
            let mut file = File::create(aside)?;
            file.write_all(MAGIC)?;
            file.write_all(Digest::of(bytes).as_bytes())?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(aside, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write(&aside).map_err(|source| {
            // What is left of it takes room that the journal may need.
            let _ = fs::remove_file(&aside);
            JournalError::File { path: path.clone(), source }
        })?;
        let all = self.all()?;
        for old in all.iter().rev().skip(SNAPSHOTS_KEPT) {
            let path = self.file(*old);
            fs::remove_file(&path).map_err(|source| JournalError::File { path, source })?;
        }
        Ok(())
    }

    fn newest_snapshot(&mut self, before: Option<Seq>) -> Result<Option<Snapshot>, JournalError> {
        let all = self.all()?;
        let Some(seq) = all.into_iter().rev().find(|seq| before.is_none_or(|before| *seq < before)) else {
            return Ok(None);
        };
        let path = self.file(seq);
        let bytes = match fs::read(&path) {
            Ok(whole) => open(&whole),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => Err(format!("{} cannot be read: {e}", path.display())),
        };
        Ok(Some(Snapshot { seq, bytes }))
    }
}

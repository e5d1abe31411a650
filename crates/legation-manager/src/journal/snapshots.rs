//! Snapshots in a store: the newest few, each with its digest. And as files in a folder, for stores that are files.
//!
//! ```text
//! DIR/snapshot-SEQ      magic, SHA-256 of the rest, SHA-256 of the journal's record SEQ, what a pool's snapshot is
//! ```
//! The digest of the record says of which journal it is: where a copy of the journal takes its place, another record may come to that
//! position, in a term of the same number.
//!
//! A file is written aside, synced, renamed, and its folder synced.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use legation_core::{Digest, Seq};
use legation_pool::Record;

use super::{JournalError, Records, migrate::digest_of};

/// Snapshots that a store keeps; older ones go.
pub const SNAPSHOTS_KEPT: usize = 2;
/// What our files begin with; the number is the version of what frames a snapshot, not of what is in it.
const MAGIC: &[u8; 16] = b"legation-snap-2\n";
/// How their names begin.
const PREFIX: &str = "snapshot-";

/// A pool as of a record, as it was saved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The last record in it.
    pub seq: Seq,
    /// What was saved, or how it was damaged.
    pub bytes: Result<Vec<u8>, String>,
    /// Digest of the journal's record at that position when this was saved; nothing of a damaged one.
    pub record: Option<Digest>,
}

impl Snapshot {
    /// One that was filed like this, under this digest.
    pub(super) fn filed(seq: Seq, digest: &[u8], filed: &[u8]) -> Self {
        Self::of(seq, apart(digest, filed))
    }

    fn of(seq: Seq, apart: Result<(Digest, Vec<u8>), String>) -> Self {
        match apart {
            Ok((record, bytes)) => Self { seq, bytes: Ok(bytes), record: Some(record) },
            Err(why) => Self { seq, bytes: Err(why), record: None },
        }
    }
}

/// Where snapshots are kept. Calls block.
pub trait Snapshots: Send {
    /// Saves one durably, whole or not at all, with the digest of the journal's record `seq`, and forgets all but the newest
    /// [`SNAPSHOTS_KEPT`].
    ///
    /// # Errors
    /// The store failed, or the record cannot be read.
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
    journal: Box<dyn Records>,
}

impl SnapshotFiles {
    /// Those of a folder that exists, of this journal.
    pub(super) fn new(dir: PathBuf, journal: Box<dyn Records>) -> Self {
        Self { dir, journal }
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

/// Takes a file apart: the digest of the record, and what was saved.
fn open(whole: &[u8]) -> Result<(Digest, Vec<u8>), String> {
    let Some(rest) = whole.strip_prefix(MAGIC) else {
        return Err("it does not begin as a snapshot does".to_owned());
    };
    let Some((digest, filed)) = rest.split_first_chunk::<32>() else { return Err("it is cut off".to_owned()) };
    apart(digest, filed)
}

/// Takes apart what was filed under this digest, if it is what was filed.
fn apart(digest: &[u8], filed: &[u8]) -> Result<(Digest, Vec<u8>), String> {
    let is = Digest::of(filed);
    if is.as_bytes() != digest {
        return Err(format!("its digest is not what was saved, but {is}"));
    }
    let Some((record, bytes)) = filed.split_first_chunk::<32>() else { return Err("it is cut off".to_owned()) };
    Ok((Digest::from_bytes(*record), bytes.to_vec()))
}

/// What names the journal of a snapshot: the digest of its last record. Where there is none it is that of nothing, which no record
/// has.
pub(super) fn last_of(record: Option<&Record>) -> Result<Digest, JournalError> {
    record.map_or_else(|| Ok(Digest::of(b"")), digest_of)
}

impl Snapshots for SnapshotFiles {
    fn save_snapshot(&mut self, seq: Seq, bytes: &[u8]) -> Result<(), JournalError> {
        let last = last_of(self.journal.records(&[seq])?.first())?;
        let (path, aside) = (self.file(seq), self.dir.join("snapshot.new"));
        let write = |aside: &Path| {
            let mut file = File::create(aside)?;
            file.write_all(MAGIC)?;
            file.write_all(Digest::of_parts(&[last.as_bytes(), bytes]).as_bytes())?;
            file.write_all(last.as_bytes())?;
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
        let found = match fs::read(&path) {
            Ok(whole) => open(&whole),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => Err(format!("{} cannot be read: {e}", path.display())),
        };
        Ok(Some(Snapshot::of(seq, found)))
    }
}

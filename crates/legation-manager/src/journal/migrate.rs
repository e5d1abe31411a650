//! From one store to another: every record, and the newest snapshot.
//!
//! 1. The target must be empty, or hold the beginning of the same journal: then it goes on where it stopped.
//! 2. While it copies it leads the target, so that no manager can begin there; the source is locked by being open.
//! 3. At the end both are read once more and compared: number of records and a digest over all of them.

use std::time::Duration;

use legation_core::{Digest, Seq, Term};
use legation_pool::Record;

use super::{Advertised, Candidate, Journal, JournalError};

/// Records in one append.
const BATCH: usize = 1000;
/// How long the target is held at once.
const TTL: Duration = Duration::from_secs(60);

/// Why a journal was not copied.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A store failed.
    #[error("{which} {source}")]
    Journal {
        /// Source or target.
        which: &'static str,
        /// Why.
        source: JournalError,
    },
    /// The target holds something else.
    #[error("the target holds record {} that is not the source's: it is another journal; give an empty database", .0.0)]
    Other(Seq),
    /// The target was written by a manager.
    #[error("the target was led by manager `{0}`: only an empty database is migrated to")]
    Led(String),
    /// The copy is not equal.
    #[error(
        "the copy is not equal: {copied} in the target, {expected} in the source; give an empty database and try again"
    )]
    Unequal {
        /// What was read from the target.
        copied: Sum,
        /// What was read from the source.
        expected: Sum,
    },
}

/// Number and digest of a journal's records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sum {
    /// How many.
    pub records: u64,
    /// SHA-256 over the digests of all of them, in order.
    pub digest: Digest,
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} records of digest {}", self.records, self.digest)
    }
}

/// What was copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Migrated {
    /// What both hold now.
    pub sum: Sum,
    /// Records that the target had before.
    pub had: u64,
    /// The snapshot that was copied.
    pub snapshot: Option<Seq>,
}

/// The name that the copying goes by.
const NAME: &str = "migration";

/// Digest of a record as it is stored.
pub(crate) fn digest_of(record: &Record) -> Result<Digest, JournalError> {
    let bytes = serde_json::to_vec(record);
    let bytes = bytes.map_err(|e| JournalError::Unreadable { seq: record.seq, why: e.to_string() })?;
    Ok(Digest::of(&bytes))
}

/// Number and digest of all records.
///
/// # Errors
/// The store failed, or a record cannot be read.
pub fn sum(journal: &mut dyn Journal) -> Result<Sum, JournalError> {
    let mut sum = Sum { records: 0, digest: Digest::of(b"") };
    journal.read(Seq(0), &mut |record| {
        sum.records += 1;
        sum.digest = Digest::of_parts(&[sum.digest.as_bytes(), digest_of(&record)?.as_bytes()]);
        Ok(())
    })?;
    Ok(sum)
}

/// Copies `from` to `to`. `instance` tells this try from others; `told` is called with the number of records that are there so far.
///
/// # Errors
/// What is wrong, and what to do.
pub fn migrate(
    from: &mut dyn Journal,
    to: &mut dyn Journal,
    instance: u64,
    told: &mut dyn FnMut(u64),
) -> Result<Migrated, MigrateError> {
    let source = |source| MigrateError::Journal { which: "source", source };
    let target = |source| MigrateError::Journal { which: "target", source };
    let head = to.head().map_err(target)?;
    if let Some(holder) = &head.holder
        && holder.candidate.name != NAME
    {
        return Err(MigrateError::Led(holder.candidate.name.clone()));
    }
    // What is there must be the source's beginning: its last record says so now, and the digest of all at the end.
    if head.last > Seq(0) {
        let same = from.record(head.last).map_err(source)? == to.record(head.last).map_err(target)?;
        if !same {
            return Err(MigrateError::Other(head.last));
        }
    }
    let candidate = Candidate { name: NAME.to_owned(), instance, addresses: Advertised::default() };
    // A try before this one ended in the middle of a term: that is gone on with.
    let term = head.holder.as_ref().map(|holder| holder.term);
    let mut copy = Copy { to, candidate, term, last: head.last };
    let mut batch: Vec<Record> = Vec::with_capacity(BATCH);
    let mut failed = None;
    let read = from.read(head.last, &mut |record| {
        let full = batch.len() >= BATCH || batch.last().is_some_and(|last| last.term != record.term);
        if full && let Err(why) = copy.append(&mut batch, told) {
            let seq = record.seq;
            failed = Some(why);
            return Err(JournalError::Unreadable { seq, why: "not copied".to_owned() });
        }
        batch.push(record);
        Ok(())
    });
    if let Some(why) = failed {
        return Err(target(why));
    }
    read.map_err(source)?;
    copy.append(&mut batch, told).map_err(target)?;
    copy.finish().map_err(target)?;
    let snapshot = from.newest_snapshot(None).map_err(source)?;
    let saved = match snapshot.and_then(|snapshot| Some((snapshot.seq, snapshot.record?, snapshot.bytes.ok()?))) {
        Some((seq, last, bytes)) => {
            // One of another journal would pass for the target's from now on.
            let record = from.record(seq).map_err(source)?;
            let is = record.as_ref().map(digest_of).transpose().map_err(source)?;
            if is == Some(last) { to.save_snapshot(seq, &bytes).map(|()| Some(seq)).map_err(target)? } else { None }
        }
        None => None,
    };
    let (expected, copied) = (sum(from).map_err(source)?, sum(to).map_err(target)?);
    if expected != copied {
        return Err(MigrateError::Unequal { copied, expected });
    }
    Ok(Migrated { sum: copied, had: head.last.0, snapshot: saved })
}

/// Writing to the target: terms are claimed until they are the records'.
struct Copy<'a> {
    to: &'a mut dyn Journal,
    candidate: Candidate,
    term: Option<Term>,
    last: Seq,
}

impl Copy<'_> {
    fn append(&mut self, batch: &mut Vec<Record>, told: &mut dyn FnMut(u64)) -> Result<(), JournalError> {
        let (Some(first), Some(end)) = (batch.first().map(|r| r.term), batch.last().map(|r| r.seq)) else {
            return Ok(());
        };
        while self.term.is_none_or(|term| term < first) {
            // It may be of a try before this one.
            self.finish()?;
            self.term = Some(self.to.claim(&self.candidate, TTL)?);
        }
        self.to.renew(first, TTL)?;
        self.to.append(first, self.last, batch)?;
        self.last = end;
        batch.clear();
        told(end.0);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), JournalError> {
        self.term.map_or(Ok(()), |term| self.to.release(term))
    }
}

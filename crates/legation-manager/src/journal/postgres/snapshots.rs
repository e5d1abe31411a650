//! Snapshots in tables, over a connection of their own: they are large, and the leader's appends do not wait for them.

use std::sync::Arc;

use legation_core::{Digest, Seq};

use super::{LONG_CALL, PostgresSettings, link::Link, row_of, signed};
use crate::journal::{JournalError, SNAPSHOTS_KEPT, Snapshot, Snapshots, snapshots::last_of};

/// Bytes of one part.
const PART: usize = 1 << 20;

pub(super) struct PostgresSnapshots {
    link: Link,
}

impl PostgresSnapshots {
    pub(super) fn new(settings: Arc<PostgresSettings>) -> Result<Self, JournalError> {
        Ok(Self { link: Link::new(settings)? })
    }

    pub(super) fn another(&self) -> Result<Self, JournalError> {
        Self::new(self.link.settings())
    }
}

impl Snapshots for PostgresSnapshots {
    fn save_snapshot(&mut self, seq: Seq, bytes: &[u8]) -> Result<(), JournalError> {
        let seq = signed(seq.0);
        let row = self.link.call("read a record", LONG_CALL, async |db| {
            db.query_opt("select seq, version, term, at, record from journal where seq = $1", &[&seq]).await
        })?;
        let record = row.as_ref().map(|row| row_of(row).record()).transpose()?;
        // The digest of the record is the first part, a short one.
        let last = last_of(record.as_ref())?;
        let first = last.as_bytes().as_slice();
        let (size, digest) = ((first.len() + bytes.len()) as i64, Digest::of_parts(&[first, bytes]));
        let kept = SNAPSHOTS_KEPT as i64;
        // An error drops the connection, and with it the transaction.
        self.link.call("save a snapshot", LONG_CALL, async |db| {
            db.batch_execute("begin").await?;
            db.execute("delete from snapshot where seq = $1", &[&seq]).await?;
            let insert = "insert into snapshot (seq, digest, size) values ($1, $2, $3)";
            db.execute(insert, &[&seq, &digest.as_bytes().as_slice(), &size]).await?;
            let insert = db.prepare("insert into snapshot_part (seq, part, bytes) values ($1, $2, $3)").await?;
            for (part, bytes) in (0_i32..).zip(std::iter::once(first).chain(bytes.chunks(PART))) {
                db.execute(&insert, &[&seq, &part, &bytes]).await?;
            }
            let forget = "delete from snapshot where seq not in (select seq from snapshot order by seq desc limit $1)";
            db.execute(forget, &[&kept]).await?;
            db.batch_execute("commit").await
        })
    }

    fn newest_snapshot(&mut self, before: Option<Seq>) -> Result<Option<Snapshot>, JournalError> {
        let before = before.map_or(i64::MAX, |seq| signed(seq.0));
        let found = self.link.call("read a snapshot", LONG_CALL, async |db| {
            // One moment's view: a leader may be forgetting it meanwhile.
            db.batch_execute("begin transaction isolation level repeatable read read only").await?;
            let newest = "select seq, digest, size from snapshot where seq < $1 order by seq desc limit 1";
            let Some(row) = db.query_opt(newest, &[&before]).await? else {
                db.batch_execute("commit").await?;
                return Ok(None);
            };
            let (seq, digest, size): (i64, Vec<u8>, i64) = (row.get(0), row.get(1), row.get(2));
            let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0).min(1 << 30));
            let parts = db.prepare("select bytes from snapshot_part where seq = $1 and part = $2").await?;
            for part in 0_i32.. {
                match db.query_opt(&parts, &[&seq, &part]).await? {
                    Some(row) => bytes.extend_from_slice(row.get(0)),
                    None => break,
                }
            }
            db.batch_execute("commit").await?;
            Ok(Some((seq, digest, bytes)))
        })?;
        Ok(found.map(|(seq, digest, filed)| Snapshot::filed(Seq(seq.unsigned_abs()), &digest, &filed)))
    }
}

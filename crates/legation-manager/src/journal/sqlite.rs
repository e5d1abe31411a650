//! The embedded journal: one SQLite file in WAL mode with full sync, inspectable with `sqlite3`.
//!
//! `journal(seq integer primary key, version, term, at, kind text, record text)`; `record` is the JSON of the event. A
//! locked file beside it keeps a second manager out; the lock dies with its process, however it dies.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

use legation_core::{Seq, Term, UnixTime};
use legation_pool::{Event, RECORD_VERSION, Record};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Journal, JournalError, check_batch};

/// Records in an SQLite file.
pub struct SqliteJournal {
    db: Connection,
    last: Seq,
    newest: Term,
    /// Held while this process lives.
    _lock: File,
}

impl SqliteJournal {
    /// Opens or makes `path`.
    ///
    /// # Errors
    /// In use by another manager, not a journal, or the disk failed.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let lock_path: PathBuf = path.with_extension("lock");
        let file = |source| JournalError::File { path: lock_path.clone(), source };
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(file)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(file(source)),
        }
        let store = |what| move |source| JournalError::Store { what, source };
        let db = Connection::open(path).map_err(store("be opened"))?;
        db.execute_batch(
            "pragma journal_mode = wal; pragma synchronous = full; pragma wal_autocheckpoint = 4000;
             create table if not exists journal (
                 seq integer primary key, version integer not null, term integer not null, at integer not null,
                 kind text not null, record text not null) strict;",
        )
        .map_err(store("be prepared"))?;
        let last = db
            .query_row("select seq, term from journal order by seq desc limit 1", [], |row| {
                Ok((Seq(row.get::<_, i64>(0)?.unsigned_abs()), Term(row.get::<_, i64>(1)?.unsigned_abs())))
            })
            .optional()
            .map_err(store("be read"))?;
        let (last, newest) = last.unwrap_or_default();
        Ok(Self { db, last, newest, _lock: lock })
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Journal for SqliteJournal {
    fn newest_term(&mut self) -> Result<Term, JournalError> {
        Ok(self.newest)
    }

    fn append(&mut self, batch: &[Record]) -> Result<(), JournalError> {
        check_batch(batch, self.last, self.newest)?;
        let Some(end) = batch.last() else { return Ok(()) };
        let store = |source| JournalError::Store { what: "append", source };
        let transaction = self.db.transaction().map_err(store)?;
        {
            let mut insert = transaction
                .prepare_cached("insert into journal (seq, version, term, at, kind, record) values (?, ?, ?, ?, ?, ?)")
                .map_err(store)?;
            for record in batch {
                let text = serde_json::to_string(&record.event)
                    .map_err(|e| JournalError::Unreadable { seq: record.seq, why: e.to_string() })?;
                let kind = record.event.kind();
                insert
                    .execute(params![
                        signed(record.seq.0),
                        record.version,
                        signed(record.term.0),
                        signed(record.at.0),
                        kind,
                        text
                    ])
                    .map_err(store)?;
            }
        }
        transaction.commit().map_err(store)?;
        self.last = end.seq;
        self.newest = end.term;
        Ok(())
    }

    fn read(
        &mut self,
        after: Seq,
        each: &mut dyn FnMut(Record) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let store = |source| JournalError::Store { what: "be read", source };
        let mut select = self
            .db
            .prepare("select seq, version, term, at, record from journal where seq > ? order by seq")
            .map_err(store)?;
        let mut rows = select.query([signed(after.0)]).map_err(store)?;
        while let Some(row) = rows.next().map_err(store)? {
            // The query asks for positions above one that is not negative.
            let seq = Seq(row.get::<_, i64>(0).map_err(store)?.unsigned_abs());
            let number = |i: usize, name: &str| {
                let value = row.get::<_, i64>(i).map_err(store)?;
                let negative = |_| JournalError::Unreadable { seq, why: format!("its {name} is {value}") };
                u64::try_from(value).map_err(negative)
            };
            let version = u32::try_from(number(1, "version")?).unwrap_or(u32::MAX);
            if version != RECORD_VERSION {
                let why = format!("version {version}, and this program knows version {RECORD_VERSION}");
                return Err(JournalError::Unreadable { seq, why });
            }
            let text: String = row.get(4).map_err(store)?;
            let event: Event =
                serde_json::from_str(&text).map_err(|e| JournalError::Unreadable { seq, why: e.to_string() })?;
            each(Record { version, seq, term: Term(number(2, "term")?), at: UnixTime(number(3, "time")?), event })?;
        }
        Ok(())
    }
}

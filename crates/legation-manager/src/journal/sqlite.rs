//! The embedded journal: one SQLite file in WAL mode with full sync, inspectable with `sqlite3`.
//!
//! ```text
//! journal(seq integer primary key, version, term, at, kind text, record text)    record: the JSON of the event
//! term(id = 1, term, name, instance, addresses text, expires)                    one row; expires in ms since 1970
//! ```
//! `pragma user_version` is the version of the tables. A locked file beside it keeps a second manager out; the lock dies with its
//! process, however it dies: so whoever opens it finds no term that has not expired. Snapshots are files in the same folder.
//! What was appended is moved from the write-ahead log into the table's pages by a thread of its own (`checkpoints.rs`).

use std::{
    collections::BTreeSet,
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use legation_core::{Seq, Term};
use legation_pool::Record;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

mod checkpoints;

use checkpoints::Checkpoints;

use super::{
    Candidate, Head, Holder, Journal, JournalError, Records, Snapshot, Snapshots, check_batch,
    memory::StoreClock,
    row::{Row, signed, text},
    snapshots::SnapshotFiles,
};

/// Version of the tables. Version 0 had no term.
const TABLES: i64 = 1;
/// How long a write waits for the lock of another connection: of the end of a checkpoint, which takes far less, or of people's tools.
const BUSY: Duration = Duration::from_secs(5);

/// Records in an SQLite file.
pub struct SqliteJournal {
    db: Connection,
    path: PathBuf,
    files: SnapshotFiles,
    dir: PathBuf,
    clock: StoreClock,
    checkpoints: Checkpoints,
    /// Held while this process lives.
    _lock: File,
}

impl SqliteJournal {
    /// Opens or makes `path`.
    ///
    /// # Errors
    /// In use by another manager, not a journal, or the disk failed.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Self::open_with(path, Arc::new(since_1970))
    }

    /// As [`Self::open`], with another clock.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(path: &Path, clock: StoreClock) -> Result<Self, JournalError> {
        let lock_path: PathBuf = path.with_extension("lock");
        let file = |source| JournalError::File { path: lock_path.clone(), source };
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(file)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(file(source)),
        }
        let mut db = Connection::open(path).map_err(JournalError::store("be opened"))?;
        db.busy_timeout(BUSY).map_err(JournalError::store("be opened"))?;
        prepare(&mut db)?;
        let dir = path.parent().unwrap_or(Path::new(".")).to_owned();
        let checkpoints = Checkpoints::start(path)?;
        let path = path.to_owned();
        let files = SnapshotFiles::new(dir.clone(), Box::new(SqliteRecords { path: path.clone() }));
        Ok(Self { db, path, files, dir, clock, checkpoints, _lock: lock })
    }

    fn now(&self) -> i64 {
        milliseconds((self.clock)())
    }
}

fn since_1970() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn prepare(db: &mut Connection) -> Result<(), JournalError> {
    let store = JournalError::store("be prepared");
    db.execute_batch("pragma journal_mode = wal; pragma synchronous = full; pragma wal_autocheckpoint = 0;")
        .map_err(store)?;
    let found: i64 = db.query_row("pragma user_version", [], |row| row.get(0)).map_err(store)?;
    if !(0..=TABLES).contains(&found) {
        return Err(JournalError::Schema { found, known: TABLES });
    }
    let transaction = db.transaction().map_err(store)?;
    transaction
        .execute_batch(
            "create table if not exists journal (
                 seq integer primary key, version integer not null, term integer not null, at integer not null,
                 kind text not null, record text not null) strict;
             create table if not exists term (
                 id integer primary key check (id = 1), term integer not null, name text not null,
                 instance integer not null, addresses text not null, expires integer not null) strict;
             insert or ignore into term values (1, 0, '', 0, '{\"agents\":\"\",\"api\":\"\"}', 0);
             update term set expires = 0, term = max(term, (select coalesce(max(term), 0) from journal));",
        )
        .map_err(store)?;
    transaction.pragma_update(None, "user_version", TABLES).map_err(store)?;
    transaction.commit().map_err(store)?;
    // The tables may be another's: that is said now, not at the first append.
    db.prepare("select seq, version, term, at, kind, record from journal limit 0").map_err(store)?;
    Ok(())
}

fn head(db: &Connection, now: i64) -> rusqlite::Result<Head> {
    let last: Option<i64> = db.prepare_cached("select max(seq) from journal")?.query_row([], |row| row.get(0))?;
    let holder = db
        .prepare_cached("select term, name, instance, addresses, expires from term where id = 1")?
        .query_row([], |row| {
            let addresses: String = row.get(3)?;
            let candidate = Candidate {
                name: row.get(1)?,
                instance: row.get::<_, i64>(2)?.cast_unsigned(),
                addresses: serde_json::from_str(&addresses).unwrap_or_default(),
            };
            let term = Term(row.get::<_, i64>(0)?.unsigned_abs());
            Ok(Holder { term, candidate, expired: row.get::<_, i64>(4)? <= now })
        })
        .optional()?;
    Ok(Head { last: Seq(last.unwrap_or(0).unsigned_abs()), holder: holder.filter(|h| h.term > Term(0)) })
}

impl Snapshots for SqliteJournal {
    fn save_snapshot(&mut self, seq: Seq, bytes: &[u8]) -> Result<(), JournalError> {
        self.files.save_snapshot(seq, bytes)
    }

    fn newest_snapshot(&mut self, before: Option<Seq>) -> Result<Option<Snapshot>, JournalError> {
        self.files.newest_snapshot(before)
    }
}

impl SqliteJournal {
    fn hold(&mut self, term: Term, until: i64) -> Result<(), JournalError> {
        let store = JournalError::store("hold its term");
        let held = self
            .db
            .execute("update term set expires = ? where id = 1 and term = ?", params![until, signed(term.0)])
            .map_err(store)?;
        if held == 1 {
            return Ok(());
        }
        let newest = head(&self.db, 0).map_err(store)?.term();
        Err(JournalError::Fenced { ours: term, newest })
    }
}

impl Journal for SqliteJournal {
    fn head(&mut self) -> Result<Head, JournalError> {
        head(&self.db, self.now()).map_err(JournalError::store("be read"))
    }

    fn claim(&mut self, candidate: &Candidate, ttl: Duration) -> Result<Term, JournalError> {
        let (now, store) = (self.now(), JournalError::store("claim a term"));
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store)?;
        let before = head(&transaction, now).map_err(store)?;
        if let Some(holder) = before.holder.as_ref()
            && !holder.expired
            && holder.candidate.instance != candidate.instance
        {
            return Err(JournalError::Led(Box::new(holder.clone())));
        }
        let term = Term(before.term().0.saturating_add(1));
        let addresses = serde_json::to_string(&candidate.addresses).unwrap_or_default();
        transaction
            .execute(
                "update term set term = ?, name = ?, instance = ?, addresses = ?, expires = ? where id = 1",
                params![
                    signed(term.0),
                    candidate.name,
                    candidate.instance.cast_signed(),
                    addresses,
                    now.saturating_add(milliseconds(ttl))
                ],
            )
            .map_err(store)?;
        transaction.commit().map_err(store)?;
        Ok(term)
    }

    fn renew(&mut self, term: Term, ttl: Duration) -> Result<(), JournalError> {
        let until = self.now().saturating_add(milliseconds(ttl));
        self.hold(term, until)
    }

    fn release(&mut self, term: Term) -> Result<(), JournalError> {
        self.hold(term, 0)
    }

    fn append(&mut self, term: Term, after: Seq, batch: &[Record]) -> Result<(), JournalError> {
        let texts = batch.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let bytes: usize = texts.iter().map(String::len).sum();
        let store = JournalError::store("append");
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store)?;
        let before = head(&transaction, 0).map_err(store)?;
        check_batch(term, after, batch, before.last, before.term())?;
        if batch.is_empty() {
            return Ok(());
        }
        {
            let mut insert = transaction
                .prepare_cached("insert into journal (seq, version, term, at, kind, record) values (?, ?, ?, ?, ?, ?)")
                .map_err(store)?;
            for (record, text) in batch.iter().zip(texts) {
                let (seq, term, at) = (signed(record.seq.0), signed(record.term.0), signed(record.at.0));
                insert.execute(params![seq, record.version, term, at, record.event.kind(), text]).map_err(store)?;
            }
        }
        transaction.commit().map_err(store)?;
        self.checkpoints.wrote(bytes);
        Ok(())
    }

    fn settle(&mut self, term: Term) -> Result<Seq, JournalError> {
        // A transaction that failed was rolled back, or is there: this connection is the only one that writes.
        let head = self.head()?;
        if head.term() != term {
            return Err(JournalError::Fenced { ours: term, newest: head.term() });
        }
        Ok(head.last)
    }

    fn read(
        &mut self,
        after: Seq,
        each: &mut dyn FnMut(Record) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let store = JournalError::store("be read");
        let mut select = self
            .db
            .prepare("select seq, version, term, at, record from journal where seq > ? order by seq")
            .map_err(store)?;
        let mut rows = select.query([signed(after.0)]).map_err(store)?;
        while let Some(row) = rows.next().map_err(store)? {
            each(row_of(row).map_err(store)?.record()?)?;
        }
        Ok(())
    }

    fn record(&mut self, seq: Seq) -> Result<Option<Record>, JournalError> {
        let row = self
            .db
            .query_row("select seq, version, term, at, record from journal where seq = ?", [signed(seq.0)], row_of)
            .optional();
        row.map_err(JournalError::store("be read"))?.map(Row::record).transpose()
    }

    fn snapshots(&mut self) -> Result<Box<dyn Snapshots>, JournalError> {
        Ok(Box::new(SnapshotFiles::new(self.dir.clone(), self.archive()?)))
    }

    fn archive(&mut self) -> Result<Box<dyn Records>, JournalError> {
        Ok(Box::new(SqliteRecords { path: self.path.clone() }))
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    fn kind(&self) -> &'static str {
        "sqlite"
    }
}

/// Single records, over a connection for each call: one that stayed open would keep the journal's own from tidying up when it
/// closes. Who reads does not keep out who writes: the journal is in WAL mode.
struct SqliteRecords {
    path: PathBuf,
}

impl Records for SqliteRecords {
    fn records(&mut self, at: &[Seq]) -> Result<Vec<Record>, JournalError> {
        let store = JournalError::store("be read");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&self.path, flags).map_err(store)?;
        let mut select =
            db.prepare("select seq, version, term, at, record from journal where seq = ?").map_err(store)?;
        let at: BTreeSet<Seq> = at.iter().copied().collect();
        let mut found = Vec::with_capacity(at.len());
        for seq in at {
            if let Some(row) = select.query_row([signed(seq.0)], row_of).optional().map_err(store)? {
                found.push(row.record()?);
            }
        }
        Ok(found)
    }
}

fn row_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let [seq, version, term, at] = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?];
    Ok(Row { seq, version, term, at, record: row.get(4)? })
}

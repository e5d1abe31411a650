//! The file of the log: one SQLite database in WAL mode, beside the journal, inspectable with `sqlite3`.
//!
//! ```text
//! head(id = 1, seq, record, size, root) the last record taken up, the SHA-256 of its JSON, how many entries there are by then, and
//!                                       the root of their tree, against which the tiles are held when they are read again
//! tile(level, number, bytes)            hashes; entries are at level -1
//! entry(digest, position)               where a digest stands
//! ```
//! All three change in one transaction. It is not synced at each: what is lost with the power is made again from the journal.

use std::{borrow::Borrow, path::Path, time::Duration};

use legation_core::{Digest, Seq};
use legation_log::{Level, TileId, Tiles, Tree, empty_root};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::LogError;

/// Version of the tables.
const TABLES: i64 = 2;
/// How long one connection waits for the other.
const BUSY: Duration = Duration::from_secs(5);

/// What the file remembers beside its tiles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    /// The last record taken up.
    pub(super) seq: Seq,
    /// SHA-256 of its JSON.
    pub(super) record: Digest,
    /// Entries.
    pub(super) size: u64,
    /// Root hash of their tree.
    pub(super) root: Digest,
}

/// Tiles over a connection, or a transaction of one.
pub(super) struct SqliteTiles<C>(pub(super) C);

/// SQLite's integers have a sign; no number here comes near it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn level(tile: TileId) -> i64 {
    match tile.level {
        Level::Entries => -1,
        Level::Hashes(level) => i64::from(level),
    }
}

impl<C: Borrow<Connection>> Tiles for SqliteTiles<C> {
    type Error = rusqlite::Error;

    fn get(&mut self, tile: TileId) -> rusqlite::Result<Option<Vec<u8>>> {
        let db: &Connection = self.0.borrow();
        db.prepare_cached("select bytes from tile where level = ? and number = ?")?
            .query_row(params![level(tile), signed(tile.index)], |row| row.get(0))
            .optional()
    }

    fn put(&mut self, tile: TileId, bytes: &[u8]) -> rusqlite::Result<()> {
        let db: &Connection = self.0.borrow();
        db.prepare_cached("insert or replace into tile (level, number, bytes) values (?, ?, ?)")?
            .execute(params![level(tile), signed(tile.index), bytes])
            .map(|_| ())
    }
}

/// Opens or makes the file.
pub(super) fn open(path: &Path) -> Result<Connection, LogError> {
    let failed = LogError::store("be opened");
    let mut db = Connection::open(path).map_err(failed)?;
    db.busy_timeout(BUSY).map_err(failed)?;
    db.execute_batch("pragma journal_mode = wal; pragma synchronous = normal;").map_err(failed)?;
    let found: i64 = db.query_row("pragma user_version", [], |row| row.get(0)).map_err(failed)?;
    if found != 0 && found != TABLES {
        return Err(LogError::Damaged(format!("its tables are of version {found}, and this program knows {TABLES}")));
    }
    let transaction = db.transaction().map_err(failed)?;
    transaction
        .execute_batch(
            "create table if not exists head (
                 id integer primary key check (id = 1), seq integer not null, record blob not null,
                 size integer not null, root blob not null) strict;
             create table if not exists tile (
                 level integer not null, number integer not null, bytes blob not null,
                 primary key (level, number)) strict, without rowid;
             create table if not exists entry (
                 digest blob primary key, position integer not null) strict, without rowid;",
        )
        .map_err(failed)?;
    transaction
        .execute("insert or ignore into head values (1, 0, zeroblob(32), 0, ?)", [&empty_root().as_bytes()[..]])
        .map_err(failed)?;
    transaction.pragma_update(None, "user_version", TABLES).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(db)
}

/// How far the log has come.
pub(super) fn head(db: &Connection) -> rusqlite::Result<Head> {
    db.query_row("select seq, record, size, root from head where id = 1", [], |row| {
        let (seq, size): (i64, i64) = (row.get(0)?, row.get(2)?);
        let [record, root] = [1_usize, 3].map(|column| row.get::<_, [u8; 32]>(column).map(Digest::from_bytes));
        Ok(Head { seq: Seq(seq.unsigned_abs()), record: record?, size: size.unsigned_abs(), root: root? })
    })
}

/// Writes how far it has come, with the tiles of `tree`.
pub(super) fn advance(transaction: &Transaction<'_>, tree: &mut Tree, to: Head) -> rusqlite::Result<()> {
    tree.flush(&mut SqliteTiles(&**transaction))?;
    transaction
        .execute(
            "update head set seq = ?, record = ?, size = ?, root = ? where id = 1",
            params![signed(to.seq.0), &to.record.as_bytes()[..], signed(to.size), &to.root.as_bytes()[..]],
        )
        .map(|_| ())
}

/// Notes that a digest stands at a position; says whether it is new.
pub(super) fn enter(transaction: &Transaction<'_>, digest: &Digest, position: u64) -> rusqlite::Result<bool> {
    let new = transaction
        .prepare_cached("insert or ignore into entry (digest, position) values (?, ?)")?
        .execute(params![&digest.as_bytes()[..], signed(position)])?;
    Ok(new == 1)
}

/// Where a digest stands.
pub(super) fn position(db: &Connection, digest: &Digest) -> rusqlite::Result<Option<u64>> {
    let found: Option<i64> = db
        .prepare_cached("select position from entry where digest = ?")?
        .query_row([&digest.as_bytes()[..]], |row| row.get(0))
        .optional()?;
    Ok(found.map(i64::unsigned_abs))
}

//! Objects as pieces in PostgreSQL: `object(digest, upload, size)` says which upload is an object, `object_piece(upload, piece,
//! bytes)` holds its bytes, `object_incoming(upload, began)` what is not finished.
//!
//! * **Whole or not at all**: an object is there when its row in `object` is, which is written last, and only over all of its
//!   pieces. One of a single piece is one statement.
//! * **Durable**: pieces are committed without waiting for the disk; the row that makes them an object waits, and the write-ahead
//!   log is written in order, so they are durable with it. If the server died in between and lost a piece, the count of pieces
//!   says so, and nothing is acknowledged.
//! * **Bounded**: one piece of each transfer is in memory; so many statements run at once, for so long each.
//! * **Checked**: the digest is computed while an object is read; the last piece of one that is damaged is not given out.
//!
//! A connection that failed is not used again; every statement may be repeated, and is, once, on a fresh one.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use legation_core::{Digest, DigestWriter};
use tokio::{sync::Semaphore, time::timeout};
use tokio_postgres::{
    Client, Row,
    error::SqlState,
    types::{ToSql, Type},
};
use tracing::warn;

use super::{ObjectError, PIECE};
use crate::journal::postgres::PostgresSettings;

/// Statements at once, and with them connections.
const CONNECTIONS_MAX: usize = 8;
/// How long a statement may take, and a connection.
const STATEMENT_MAX: Duration = Duration::from_secs(10);
/// Objects remembered as being there: they stay.
const KNOWN_MAX: usize = 65_536;
/// Keeps two managers that start at once from making the tables at once.
const MAKING: i64 = 0x6c65_6761_7469_6f6e;

const TABLES: &str = "
    create sequence if not exists object_upload;
    create table if not exists object_incoming (
        upload bigint primary key default nextval('object_upload'), began timestamptz not null default now());
    create table if not exists object (
        digest bytea primary key check (octet_length(digest) = 32), upload bigint not null, size bigint not null);
    create table if not exists object_piece (
        upload bigint not null, piece integer not null, bytes bytea not null, primary key (upload, piece));
    -- Ciphertext does not become smaller.
    alter table object_piece alter column bytes set storage external;
    delete from object_piece using object_incoming i
        where object_piece.upload = i.upload and i.began < now() - interval '1 day';
    delete from object_incoming where began < now() - interval '1 day';";

/// One of a single piece.
const KEEP_SMALL: &str = "
    with own as (insert into object (digest, upload, size) values ($1, nextval('object_upload'), $2)
        on conflict do nothing returning upload)
    insert into object_piece (upload, piece, bytes) select upload, 0, $3 from own";
const BEGIN: &str = "insert into object_incoming default values returning upload";
/// Not to be waited for: see above.
const PIECE_ON_ITS_WAY: &str = "
    with quick as materialized (select set_config('synchronous_commit', 'off', true))
    insert into object_piece (upload, piece, bytes) select $1, $2, $3 from quick on conflict do nothing";
/// Gives whether the object is there now: made of this upload, or there before.
const KEEP: &str = "
    with whole as (select count(*) as pieces, coalesce(sum(octet_length(bytes)), 0) as size
            from object_piece where upload = $2),
        own as (insert into object (digest, upload, size) select $1, $2, $3 from whole where pieces = $4 and whole.size = $3
            on conflict do nothing returning upload),
        over as (delete from object_incoming where upload in (select upload from own))
    select exists (select from own) as made, exists (select from object where digest = $1) as known";
const FORGET: &str = "
    with unfinished as (delete from object_incoming where upload = $1 returning upload)
    delete from object_piece where upload in (select upload from unfinished)";
const FIND: &str = "select upload, size from object where digest = $1";
const READ: &str = "select bytes from object_piece where upload = $1 and piece = $2";

/// The database; cheap to clone.
#[derive(Clone)]
pub(super) struct Database(Arc<Inner>);

struct Inner {
    settings: PostgresSettings,
    idle: Mutex<Vec<Client>>,
    turns: Semaphore,
    known: Mutex<HashSet<Digest>>,
}

/// A parameter with its type, so that a statement is one round trip.
type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(what: &'static str, error: &tokio_postgres::Error) -> ObjectError {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        why = format!("{why}: {inner}");
        source = inner.source();
    }
    ObjectError::Database { what, why, full: error.code() == Some(&SqlState::DISK_FULL) }
}

/// Whether an error is the end of its connection rather than the server's word on the statement.
fn is_over(error: &tokio_postgres::Error) -> bool {
    let ends = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
    error.code().is_none_or(|code| ends.contains(code))
}

fn late(what: &'static str) -> ObjectError {
    ObjectError::Database { what, why: format!("no answer of the database within {STATEMENT_MAX:?}"), full: false }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Database {
    pub(super) async fn open(settings: PostgresSettings) -> Result<Self, ObjectError> {
        let database = Self(Arc::new(Inner {
            settings,
            idle: Mutex::default(),
            turns: Semaphore::new(CONNECTIONS_MAX),
            known: Mutex::default(),
        }));
        let client = database.0.connect("prepared for").await?;
        let make = format!("begin; select pg_advisory_xact_lock({MAKING}); {TABLES} commit;");
        let made = timeout(STATEMENT_MAX, client.batch_execute(&make)).await.map_err(|_| late("prepared for"))?;
        made.map_err(|e| failed("prepared for", &e))?;
        lock(&database.0.idle).push(client);
        Ok(database)
    }

    pub(super) async fn has(&self, digest: &Digest) -> Result<bool, ObjectError> {
        if lock(&self.0.known).contains(digest) {
            return Ok(true);
        }
        Ok(self.find("looked for", digest).await?.is_some())
    }

    async fn find(&self, what: &'static str, digest: &Digest) -> Result<Option<(i64, u64)>, ObjectError> {
        let name: &[u8] = digest.as_bytes();
        let rows = self.0.query(what, FIND, &[(&name, Type::BYTEA)]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        self.0.knows(digest);
        Ok(Some((row.get(0), row.get::<_, i64>(1).unsigned_abs())))
    }

    pub(super) fn begin(&self) -> Incoming<'_> {
        Incoming { database: self, upload: None, pieces: 0, waiting: Vec::new() }
    }

    pub(super) async fn read(&self, digest: &Digest) -> Result<Option<(Outgoing, u64)>, ObjectError> {
        let Some((upload, size)) = self.find("read", digest).await? else { return Ok(None) };
        let out = Outgoing {
            database: self.clone(),
            announced: *digest,
            digest: Some(DigestWriter::new()),
            upload,
            piece: 0,
            left: size,
        };
        Ok(Some((out, size)))
    }
}

impl Inner {
    async fn connect(&self, what: &'static str) -> Result<Client, ObjectError> {
        let connecting = timeout(STATEMENT_MAX, self.settings.connect()).await.map_err(|_| late(what))?;
        let (client, connection) = connecting.map_err(|e| failed(what, &e))?;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn query(
        &self,
        what: &'static str,
        sql: &'static str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, ObjectError> {
        // It is never closed.
        let _turn = self.turns.acquire().await.map_err(|_| late(what))?;
        let kept = lock(&self.idle).pop().filter(|client| !client.is_closed());
        let fresh = kept.is_none();
        let client = match kept {
            Some(client) => client,
            None => self.connect(what).await?,
        };
        match timeout(STATEMENT_MAX, client.query_typed(sql, parameters)).await {
            Ok(Ok(rows)) => {
                lock(&self.idle).push(client);
                return Ok(rows);
            }
            Ok(Err(error)) if fresh || !is_over(&error) => return Err(failed(what, &error)),
            Ok(Err(_)) => {}
            Err(_) => return Err(late(what)),
        }
        // The server was started anew since this connection was used.
        lock(&self.idle).clear();
        let client = self.connect(what).await?;
        let rows = timeout(STATEMENT_MAX, client.query_typed(sql, parameters)).await.map_err(|_| late(what))?;
        let rows = rows.map_err(|e| failed(what, &e))?;
        lock(&self.idle).push(client);
        Ok(rows)
    }

    fn knows(&self, digest: &Digest) {
        let mut known = lock(&self.known);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(*digest);
    }
}

/// An object on its way in.
pub(super) struct Incoming<'a> {
    database: &'a Database,
    /// Set once a piece has been sent.
    upload: Option<i64>,
    pieces: i32,
    /// Less than a piece, or just one.
    waiting: Vec<u8>,
}

impl Incoming<'_> {
    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> Result<(), ObjectError> {
        while !bytes.is_empty() {
            if self.waiting.len() == PIECE {
                self.send().await?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.waiting.len()));
            self.waiting.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Sends what waits as the next piece.
    async fn send(&mut self) -> Result<(), ObjectError> {
        let (what, inner) = ("written", &self.database.0);
        let upload = match self.upload {
            Some(upload) => upload,
            None => {
                let rows = inner.query(what, BEGIN, &[]).await?;
                let upload = rows.first().map(|row| row.get::<_, i64>(0)).ok_or_else(|| late(what))?;
                *self.upload.insert(upload)
            }
        };
        let piece = std::mem::take(&mut self.waiting);
        let parameters: [Parameter<'_>; 3] = [(&upload, Type::INT8), (&self.pieces, Type::INT4), (&piece, Type::BYTEA)];
        inner.query(what, PIECE_ON_ITS_WAY, &parameters).await?;
        self.pieces += 1;
        self.waiting = piece;
        self.waiting.clear();
        Ok(())
    }

    pub(super) async fn keep(mut self, digest: &Digest, size: u64) -> Result<(), ObjectError> {
        let (what, name, size) = ("kept", digest.as_bytes().as_slice(), number(size));
        if self.upload.is_none() {
            let piece = std::mem::take(&mut self.waiting);
            let parameters: [Parameter<'_>; 3] = [(&name, Type::BYTEA), (&size, Type::INT8), (&piece, Type::BYTEA)];
            self.database.0.query(what, KEEP_SMALL, &parameters).await?;
            self.database.0.knows(digest);
            return Ok(());
        }
        if !self.waiting.is_empty() {
            self.send().await?;
        }
        let (upload, pieces) = (self.upload.unwrap_or_default(), i64::from(self.pieces));
        let parameters: [Parameter<'_>; 4] =
            [(&name, Type::BYTEA), (&upload, Type::INT8), (&size, Type::INT8), (&pieces, Type::INT8)];
        let rows = self.database.0.query(what, KEEP, &parameters).await?;
        let (made, known) = rows.first().map_or((false, false), |row| (row.get(0), row.get(1)));
        if made {
            // Nothing is left to be forgotten.
            self.upload = None;
        } else if !known && self.database.find(what, digest).await?.is_none() {
            let why = "a piece of it was lost before it was whole: send it again".to_owned();
            return Err(ObjectError::Database { what, why, full: false });
        }
        self.database.0.knows(digest);
        Ok(())
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        let (Some(upload), Ok(runtime)) = (self.upload, tokio::runtime::Handle::try_current()) else { return };
        let database = self.database.clone();
        // What cannot be removed now is swept when a manager starts.
        runtime.spawn(async move {
            if let Err(why) = database.0.query("forgotten", FORGET, &[(&upload, Type::INT8)]).await {
                warn!(%why, "pieces of an unfinished object stay for a day");
            }
        });
    }
}

/// An object on its way out.
pub(super) struct Outgoing {
    database: Database,
    announced: Digest,
    /// Taken when the last piece was read.
    digest: Option<DigestWriter>,
    upload: i64,
    piece: i32,
    left: u64,
}

impl Outgoing {
    pub(super) async fn next(&mut self) -> Result<Option<bytes::Bytes>, ObjectError> {
        let damaged = |why: String| ObjectError::Damaged { digest: self.announced, why };
        if self.left == 0 {
            return Ok(None);
        }
        let parameters: [Parameter<'_>; 2] = [(&self.upload, Type::INT8), (&self.piece, Type::INT4)];
        let rows = self.database.0.query("read", READ, &parameters).await?;
        let row = rows.first().ok_or_else(|| damaged(format!("piece {} is missing", self.piece)))?;
        let bytes: &[u8] = row.try_get(0).map_err(|e| damaged(e.to_string()))?;
        let expected = self.left.min(PIECE as u64);
        if bytes.len() as u64 != expected {
            return Err(damaged(format!("piece {} has {} bytes, not {expected}", self.piece, bytes.len())));
        }
        let Some(digest) = &mut self.digest else { return Ok(None) };
        digest.update(bytes);
        self.left -= expected;
        self.piece += 1;
        let bytes = bytes::Bytes::copy_from_slice(bytes);
        if self.left == 0 {
            let got = self.digest.take().map(DigestWriter::finish);
            if got != Some(self.announced) {
                return Err(ObjectError::Damaged { digest: self.announced, why: "its digest is another".to_owned() });
            }
        }
        Ok(Some(bytes))
    }
}

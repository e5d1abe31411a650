//! The shared journal: a PostgreSQL database, for several managers of which one leads.
//!
//! ```text
//! journal(seq primary key, version, term, at, kind, record text)     record: the JSON of the event
//! term(id = 1, term, session, name, instance, addresses, expires)    one row: who holds the newest term
//! snapshot(seq primary key, digest, size), snapshot_part(seq, part, bytes)
//! legation_schema(version)
//! ```
//! 1. An append is one statement that takes the term's row, compares it, and inserts: a claim waits for it or comes before it.
//! 2. The server's clock says when a term has expired; nobody else's.
//! 3. The row also counts the holder's connections. Whoever lost one counts it up before anything else: what the old connection had
//!    yet to do is done by then (it held the row), or refused for ever (its number is old). So [`Journal::settle`] is final.
//! 4. Every call has a deadline. After an error the connection is not used again.

use std::{sync::Arc, time::Duration};

use legation_core::{Seq, Term};
use legation_pool::Record;
use tokio_postgres::Statement;
use tracing::warn;

use super::{
    Candidate, Head, Holder, Journal, JournalError, Records, Snapshot, Snapshots, check_batch,
    row::{Row, signed, text},
};

mod link;
mod records;
mod schema;
mod settings;
mod snapshots;
mod tls;

use link::Link;
use records::PostgresRecords;
pub use settings::{PASSWORD_VARIABLE, PostgresSettings};
use snapshots::PostgresSnapshots;

/// Deadline of a call that the leader waits for.
const CALL: Duration = Duration::from_secs(2);
/// Deadline of a renewal: whoever waits longer had better stop leading.
const HOLD_CALL: Duration = Duration::from_secs(1);
/// Deadline of a call that reads or writes much.
const LONG_CALL: Duration = Duration::from_secs(60);
/// Records that are read at once.
const PAGE: i64 = 2000;

const APPEND: &str = "
    with held as (select term from term where id = 1 and term = $1 and session = $2 for update),
         last as (select coalesce(max(seq), 0) as seq from journal)
    insert into journal (seq, version, term, at, kind, record)
    select r.seq, $3, $1, r.at, r.kind, r.record
    from unnest($5::bigint[], $6::bigint[], $7::text[], $8::text[]) as r(seq, at, kind, record), held, last
    where last.seq = $4";

const HEAD: &str = "
    select term, name, instance, addresses, expires <= clock_timestamp(), (select coalesce(max(seq), 0) from journal)
    from term where id = 1";

const CLAIM: &str = "
    update term set term = term + 1, session = session + 1, name = $1, instance = $2, addresses = $3,
        expires = clock_timestamp() + $4::bigint * interval '1 millisecond'
    where id = 1 and (expires <= clock_timestamp() or instance = $2) returning term, session";

const HOLD: &str = "
    update term set expires = clock_timestamp() + $2::bigint * interval '1 millisecond' where id = 1 and term = $1";

/// Records in a PostgreSQL database.
pub struct PostgresJournal {
    link: Link,
    snapshots: PostgresSnapshots,
    /// The number of this connection, while it holds a term.
    session: Option<(Term, i64)>,
    append: Option<Statement>,
}

impl PostgresJournal {
    /// Connects, and makes the tables where there are none.
    ///
    /// # Errors
    /// The server cannot be reached or refuses us, or the tables are not ours.
    pub fn open(settings: PostgresSettings) -> Result<Self, JournalError> {
        let settings = Arc::new(settings);
        let mut link = Link::new(settings.clone())?;
        schema::prepare(&mut link)?;
        let fsync = link.call("be looked at", CALL, async |db| db.query_one("show fsync", &[]).await)?;
        if fsync.get::<_, &str>(0) != "on" {
            warn!("PostgreSQL runs with fsync off: what it acknowledges is lost with the power");
        }
        Ok(Self { link, snapshots: PostgresSnapshots::new(settings)?, session: None, append: None })
    }

    /// Forgets what belonged to a connection that is gone.
    fn on_this_connection(&mut self) {
        if !self.link.is_up() {
            self.session = None;
            self.append = None;
        }
    }

    fn fenced(&mut self, ours: Term) -> JournalError {
        match self.head() {
            Ok(head) => JournalError::Fenced { ours, newest: head.term() },
            Err(error) => error,
        }
    }

    /// This connection's number while `term` is held: counted up where the connection is new.
    fn session(&mut self, term: Term) -> Result<i64, JournalError> {
        self.on_this_connection();
        if let Some((held, session)) = self.session
            && held == term
        {
            return Ok(session);
        }
        let number = signed(term.0);
        let row = self.link.call("take its term up again", CALL, async |db| {
            let sql = "update term set session = session + 1 where id = 1 and term = $1 returning session";
            db.query_opt(sql, &[&number]).await
        })?;
        match row {
            Some(row) => {
                let session = row.get(0);
                self.session = Some((term, session));
                Ok(session)
            }
            None => Err(self.fenced(term)),
        }
    }

    fn hold(&mut self, term: Term, ttl: Duration) -> Result<(), JournalError> {
        self.on_this_connection();
        let (number, ttl) = (signed(term.0), milliseconds(ttl));
        let held = self.link.call("hold its term", HOLD_CALL, async |db| db.execute(HOLD, &[&number, &ttl]).await)?;
        if held == 1 { Ok(()) } else { Err(self.fenced(term)) }
    }

    fn insert(&mut self, session: i64, term: Term, after: Seq, batch: &[Record]) -> Result<u64, JournalError> {
        let (mut seqs, mut ats, mut kinds, mut texts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for record in batch {
            seqs.push(signed(record.seq.0));
            ats.push(signed(record.at.0));
            kinds.push(record.event.kind());
            texts.push(text(record)?);
        }
        let version = batch.first().map_or(0, |record| i32::try_from(record.version).unwrap_or(i32::MAX));
        let (term, after) = (signed(term.0), signed(after.0));
        let known = self.append.clone();
        let (statement, inserted) = self.link.call("append", CALL, async |db| {
            let statement = match known {
                Some(statement) => statement,
                None => db.prepare(APPEND).await?,
            };
            let inserted =
                db.execute(&statement, &[&term, &session, &version, &after, &seqs, &ats, &kinds, &texts]).await?;
            Ok((statement, inserted))
        })?;
        self.append = Some(statement);
        Ok(inserted)
    }
}

/// For SQL.
fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl Snapshots for PostgresJournal {
    fn save_snapshot(&mut self, seq: Seq, bytes: &[u8]) -> Result<(), JournalError> {
        self.snapshots.save_snapshot(seq, bytes)
    }

    fn newest_snapshot(&mut self, before: Option<Seq>) -> Result<Option<Snapshot>, JournalError> {
        self.snapshots.newest_snapshot(before)
    }
}

impl Journal for PostgresJournal {
    fn head(&mut self) -> Result<Head, JournalError> {
        self.on_this_connection();
        let row = self.link.call("be read", CALL, async |db| db.query_one(HEAD, &[]).await)?;
        let addresses: String = row.get(3);
        let candidate = Candidate {
            name: row.get(1),
            instance: row.get::<_, i64>(2).cast_unsigned(),
            addresses: serde_json::from_str(&addresses).unwrap_or_default(),
        };
        let term = Term(row.get::<_, i64>(0).unsigned_abs());
        let holder = Holder { term, candidate, expired: row.get(4) };
        Ok(Head {
            last: Seq(row.get::<_, i64>(5).unsigned_abs()),
            holder: Some(holder).filter(|holder| holder.term > Term(0)),
        })
    }

    fn claim(&mut self, candidate: &Candidate, ttl: Duration) -> Result<Term, JournalError> {
        self.on_this_connection();
        let addresses = serde_json::to_string(&candidate.addresses).unwrap_or_default();
        let (name, instance, ttl) = (candidate.name.clone(), candidate.instance.cast_signed(), milliseconds(ttl));
        let row = self
            .link
            .call("claim a term", CALL, async |db| db.query_opt(CLAIM, &[&name, &instance, &addresses, &ttl]).await)?;
        if let Some(row) = row {
            let (term, session) = (Term(row.get::<_, i64>(0).unsigned_abs()), row.get(1));
            self.session = Some((term, session));
            return Ok(term);
        }
        match self.head()?.holder {
            Some(holder) => Err(JournalError::Led(Box::new(holder))),
            None => Err(JournalError::store("claim a term")("its row is missing")),
        }
    }

    fn renew(&mut self, term: Term, ttl: Duration) -> Result<(), JournalError> {
        self.hold(term, ttl)
    }

    fn release(&mut self, term: Term) -> Result<(), JournalError> {
        self.hold(term, Duration::ZERO)
    }

    fn append(&mut self, term: Term, after: Seq, batch: &[Record]) -> Result<(), JournalError> {
        check_batch(term, after, batch, after, term)?;
        let session = self.session(term)?;
        let inserted = if batch.is_empty() { 0 } else { self.insert(session, term, after, batch)? };
        if inserted > 0 && inserted == batch.len() as u64 {
            return Ok(());
        }
        let head = self.head()?;
        check_batch(term, after, batch, head.last, head.term())?;
        if batch.is_empty() {
            return Ok(());
        }
        // Another connection of this manager's took the term up: it knows better.
        self.session = None;
        Err(JournalError::store("append")("the term is held by another connection of this manager"))
    }

    fn settle(&mut self, term: Term) -> Result<Seq, JournalError> {
        self.session = None;
        self.session(term)?;
        // In a statement of its own: it must see what the one before waited for.
        Ok(self.head()?.last)
    }

    fn read(
        &mut self,
        after: Seq,
        each: &mut dyn FnMut(Record) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let mut after = signed(after.0);
        loop {
            self.on_this_connection();
            let rows = self.link.call("be read", LONG_CALL, async |db| {
                let sql = "select seq, version, term, at, record from journal where seq > $1 order by seq limit $2";
                db.query(sql, &[&after, &PAGE]).await
            })?;
            for row in &rows {
                let row = row_of(row);
                after = row.seq;
                each(row.record()?)?;
            }
            if (rows.len() as i64) < PAGE {
                return Ok(());
            }
        }
    }

    fn record(&mut self, seq: Seq) -> Result<Option<Record>, JournalError> {
        self.on_this_connection();
        let seq = signed(seq.0);
        let row = self.link.call("be read", CALL, async |db| {
            db.query_opt("select seq, version, term, at, record from journal where seq = $1", &[&seq]).await
        })?;
        row.as_ref().map(|row| row_of(row).record()).transpose()
    }

    fn snapshots(&mut self) -> Result<Box<dyn Snapshots>, JournalError> {
        Ok(Box::new(self.snapshots.another()?))
    }

    fn archive(&mut self) -> Result<Box<dyn Records>, JournalError> {
        Ok(Box::new(PostgresRecords::new(self.link.settings())?))
    }

    fn is_exclusive(&self) -> bool {
        false
    }

    fn kind(&self) -> &'static str {
        "postgres"
    }
}

fn row_of(row: &tokio_postgres::Row) -> Row {
    Row {
        seq: row.get(0),
        version: i64::from(row.get::<_, i32>(1)),
        term: row.get(2),
        at: row.get(3),
        record: row.get(4),
    }
}

//! The journal: the one truth, behind one trait with several stores.
//!
//! 1. A store appends a batch whole or not at all, and never leaves a gap. When [`Journal::append`] returns, the batch survives the
//!    loss of power (as far as the disk tells the truth).
//! 2. A term has one holder. [`Journal::claim`] gives the next term, unless another's has not expired by the store's own clock.
//! 3. The store itself compares the term with every append, in one step: whoever was superseded is refused
//!    ([`JournalError::Fenced`]), however long it slept and whatever its clock says. Expiry alone takes nothing away: until
//!    somebody else claims, the term may be renewed and appended under.
//! 4. An append that failed may have happened. [`Journal::settle`] finds out, and what it says is final.
//!
//! Snapshots are no truth but a short cut: any of them may be removed.

use std::{path::PathBuf, time::Duration};

use legation_core::{Seq, Term};
use legation_pool::{Corrupt, RECORD_VERSION, RECORD_VERSION_OLDEST, Record};
use serde::{Deserialize, Serialize};

pub mod memory;
pub mod migrate;
pub mod postgres;
mod row;
mod snapshots;
pub mod sqlite;

pub use snapshots::{SNAPSHOTS_KEPT, Snapshot, Snapshots};

/// Where others reach a manager: what standbys tell agents and clients.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advertised {
    /// For agents: `host:port`.
    pub agents: String,
    /// For clients: a base URL.
    pub api: String,
}

/// Who wants to lead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// What people call it.
    pub name: String,
    /// Told apart from every other process, also of the same name: drawn at random at its start.
    pub instance: u64,
    /// Where it is reached.
    pub addresses: Advertised,
}

/// Whose term it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// The term.
    pub term: Term,
    /// Who claimed it.
    pub candidate: Candidate,
    /// Whether it has expired by the store's clock, so that anybody may claim the next.
    pub expired: bool,
}

/// What a store knows beside its records.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Head {
    /// Position of the last record; zero when there is none.
    pub last: Seq,
    /// The newest term; nothing while nobody ever claimed.
    pub holder: Option<Holder>,
}

impl Head {
    /// The newest term, zero when there is none.
    pub fn term(&self) -> Term {
        self.holder.as_ref().map_or(Term(0), |holder| holder.term)
    }
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another manager has it open.
    #[error("journal {path} is in use by another manager: stop that one first, or give this one its own data folder")]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// The store failed: a full disk, or a server that is away.
    #[error("journal could not {what}: {source}")]
    Store {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file system failed.
    #[error("journal file {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another term is newer: this manager no longer leads.
    #[error("term {} was superseded by term {}", ours.0, newest.0)]
    Fenced {
        /// Term of the writer.
        ours: Term,
        /// Newest term in the store.
        newest: Term,
    },
    /// Another's term has not expired.
    #[error("term {} of manager `{}` has not expired", .0.term.0, .0.candidate.name)]
    Led(Box<Holder>),
    /// The batch does not follow the last record.
    #[error("record {} does not follow record {}", got.0, after.0)]
    Gap {
        /// Last record of the store.
        after: Seq,
        /// First record of the batch that does not fit.
        got: Seq,
    },
    /// The tables are of another version of this program.
    #[error(
        "journal has tables of version {found}, and this program knows version {known}; use the program that made them"
    )]
    Schema {
        /// What is there.
        found: i64,
        /// What this program writes.
        known: i64,
    },
    /// A record cannot be read.
    #[error(
        "record {} cannot be read: {why}; restore the journal from a backup, or read it with the program that wrote it", seq.0
    )]
    Unreadable {
        /// Which.
        seq: Seq,
        /// Why.
        why: String,
    },
    /// The records do not make a pool.
    #[error("journal does not hold together: {0}")]
    Corrupt(#[from] Corrupt),
}

impl JournalError {
    fn store<E: Into<Box<dyn std::error::Error + Send + Sync>>>(what: &'static str) -> impl Fn(E) -> Self + Copy {
        move |source| Self::Store { what, source: source.into() }
    }

    /// Whether trying again may help: the store failed, and may be repaired.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Store { .. } | Self::File { .. } | Self::Led(_))
    }
}

/// Where records are kept. Calls block.
pub trait Journal: Snapshots {
    /// The last position and the newest term.
    ///
    /// # Errors
    /// The store failed.
    fn head(&mut self) -> Result<Head, JournalError>;

    /// Claims the next term for `ttl`. From then on every append of an earlier term is refused. Whoever holds a term claims the next
    /// whether or not its own has expired.
    ///
    /// # Errors
    /// [`JournalError::Led`] when another's term has not expired; or the store failed.
    fn claim(&mut self, candidate: &Candidate, ttl: Duration) -> Result<Term, JournalError>;

    /// Lets `term` expire not before `ttl` from now.
    ///
    /// # Errors
    /// [`JournalError::Fenced`] when a newer one was claimed; or the store failed.
    fn renew(&mut self, term: Term, ttl: Duration) -> Result<(), JournalError>;

    /// Lets `term` expire now, so that another may claim at once.
    ///
    /// # Errors
    /// As [`Self::renew`].
    fn release(&mut self, term: Term) -> Result<(), JournalError>;

    /// Appends `batch` durably after record `after`, all or nothing, while `term` is the newest.
    ///
    /// # Errors
    /// [`JournalError::Fenced`] or [`JournalError::Gap`]: nothing was appended. [`JournalError::Store`]: it may have been, see
    /// [`Self::settle`].
    fn append(&mut self, term: Term, after: Seq, batch: &[Record]) -> Result<(), JournalError>;

    /// The last position, after an append under `term` whose outcome is unknown: that append has happened by then, or never will.
    ///
    /// # Errors
    /// [`JournalError::Fenced`] when a newer term was claimed (nothing can be appended under this one any more); or the store
    /// failed, and nothing is known.
    fn settle(&mut self, term: Term) -> Result<Seq, JournalError>;

    /// Calls `each` with every record after `after`, in order.
    ///
    /// # Errors
    /// The store failed, or a record cannot be read; whatever `each` gives.
    fn read(
        &mut self,
        after: Seq,
        each: &mut dyn FnMut(Record) -> Result<(), JournalError>,
    ) -> Result<(), JournalError>;

    /// One record, if it is there.
    ///
    /// # Errors
    /// The store failed, or the record cannot be read.
    fn record(&mut self, seq: Seq) -> Result<Option<Record>, JournalError>;

    /// Another door to the snapshots, for a thread of its own.
    ///
    /// # Errors
    /// The store failed.
    fn snapshots(&mut self) -> Result<Box<dyn Snapshots>, JournalError>;

    /// Another door to single records, for a thread of its own.
    ///
    /// # Errors
    /// The store failed.
    fn archive(&mut self) -> Result<Box<dyn Records>, JournalError>;

    /// Whether nobody else can have this store open, so that a term needs no renewing.
    fn is_exclusive(&self) -> bool;

    /// What people call the kind of store.
    fn kind(&self) -> &'static str;
}

/// Single records. Stores never drop one: the pool keeps proofs in brief, and says where the whole ones are. Calls block.
pub trait Records: Send {
    /// Those of these positions that are there, ascending, each once.
    ///
    /// # Errors
    /// The store failed, or a record cannot be read.
    fn records(&mut self, at: &[Seq]) -> Result<Vec<Record>, JournalError>;
}

/// Checks that a batch may follow `last` when `newest` is the newest term. An earlier term is the greater fault: its writer is told
/// that first.
fn check_batch(term: Term, after: Seq, batch: &[Record], last: Seq, newest: Term) -> Result<(), JournalError> {
    if term != newest {
        return Err(JournalError::Fenced { ours: term, newest });
    }
    if after != last {
        return Err(JournalError::Gap { after: last, got: Seq(after.0.saturating_add(1)) });
    }
    let mut before = after;
    for record in batch {
        if before.0.checked_add(1) != Some(record.seq.0) {
            return Err(JournalError::Gap { after: before, got: record.seq });
        }
        if record.term != term {
            return Err(JournalError::Fenced { ours: record.term, newest });
        }
        if !(RECORD_VERSION_OLDEST..=RECORD_VERSION).contains(&record.version) {
            let known = format!("{RECORD_VERSION_OLDEST} to {RECORD_VERSION}");
            let why = format!("version {}, and this program knows versions {known}", record.version);
            return Err(JournalError::Unreadable { seq: record.seq, why });
        }
        before = record.seq;
    }
    Ok(())
}

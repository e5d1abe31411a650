//! The journal: the one truth, behind one trait with several stores.
//!
//! A store appends a batch whole or not at all, refuses a writer whose term is not the newest, and never leaves a gap. When
//! [`Journal::append`] returns, the batch survives the loss of power (as far as the disk tells the truth).

use std::path::PathBuf;

use legation_core::{Seq, Term};
use legation_pool::{Corrupt, Record};

pub mod memory;
pub mod sqlite;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another manager has it open.
    #[error("journal {path} is in use by another manager: stop that one first, or give this one its own data folder")]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// The store failed: a full disk, most likely.
    #[error("journal could not {what}: {source}")]
    Store {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: rusqlite::Error,
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
    #[error("term {ours:?} was superseded by term {newest:?}")]
    Fenced {
        /// Term of the writer.
        ours: Term,
        /// Newest term in the store.
        newest: Term,
    },
    /// The batch does not follow the last record.
    #[error("record {got:?} does not follow record {after:?}")]
    Gap {
        /// Last record of the store.
        after: Seq,
        /// First record of the batch.
        got: Seq,
    },
    /// A record cannot be read.
    #[error(
        "record {seq:?} cannot be read: {why}; restore the journal from a backup, or read it with the program that wrote it"
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

/// Where records are kept.
pub trait Journal: Send {
    /// Newest term that began, zero when none did.
    ///
    /// # Errors
    /// The store failed.
    fn newest_term(&mut self) -> Result<Term, JournalError>;

    /// Appends `batch` durably, all or nothing. The first record of a new term claims the term.
    ///
    /// # Errors
    /// The store failed, the batch leaves a gap, or its term is not the newest.
    fn append(&mut self, batch: &[Record]) -> Result<(), JournalError>;

    /// Calls `each` with every record after `after`, in order.
    ///
    /// # Errors
    /// The store failed, or a record cannot be read.
    fn read(
        &mut self,
        after: Seq,
        each: &mut dyn FnMut(Record) -> Result<(), JournalError>,
    ) -> Result<(), JournalError>;
}

/// Checks that a batch may follow `(last, newest)`.
fn check_batch(batch: &[Record], last: Seq, newest: Term) -> Result<(), JournalError> {
    let (mut after, mut newest) = (last, newest);
    for record in batch {
        if record.seq.0 != after.0 + 1 {
            return Err(JournalError::Gap { after, got: record.seq });
        }
        if record.term < newest {
            return Err(JournalError::Fenced { ours: record.term, newest });
        }
        (after, newest) = (record.seq, record.term);
    }
    Ok(())
}

//! Records as rows: what every SQL store writes and reads.

use legation_core::{Seq, Term, UnixTime};
use legation_pool::{Event, RECORD_VERSION, RECORD_VERSION_OLDEST, Record};

use super::JournalError;

/// A row as SQL has it: numbers are signed there.
pub(super) struct Row {
    pub(super) seq: i64,
    pub(super) version: i64,
    pub(super) term: i64,
    pub(super) at: i64,
    pub(super) record: String,
}

impl Row {
    /// Reads it back.
    pub(super) fn record(self) -> Result<Record, JournalError> {
        let seq = Seq(self.seq.unsigned_abs());
        let number = |value: i64, name: &str| {
            let negative = |_| JournalError::Unreadable { seq, why: format!("its {name} is {value}") };
            u64::try_from(value).map_err(negative)
        };
        let version = u32::try_from(number(self.version, "version")?).unwrap_or(u32::MAX);
        if !(RECORD_VERSION_OLDEST..=RECORD_VERSION).contains(&version) {
            let why = format!(
                "version {version}, and this program knows versions {RECORD_VERSION_OLDEST} to {RECORD_VERSION}"
            );
            return Err(JournalError::Unreadable { seq, why });
        }
        let event: Event =
            serde_json::from_str(&self.record).map_err(|e| JournalError::Unreadable { seq, why: e.to_string() })?;
        let (term, at) = (Term(number(self.term, "term")?), UnixTime(number(self.at, "time")?));
        Ok(Record { version, seq, term, at, event })
    }
}

/// An event's text.
pub(super) fn text(record: &Record) -> Result<String, JournalError> {
    serde_json::to_string(&record.event).map_err(|e| JournalError::Unreadable { seq: record.seq, why: e.to_string() })
}

/// A number for SQL. None of ours comes near the end of the range.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

//! Single records over a connection of their own: the leader's appends do not wait for who reads old ones.

use std::sync::Arc;

use legation_core::Seq;
use legation_pool::Record;

use super::{CALL, PostgresSettings, link::Link, row_of, signed};
use crate::journal::{JournalError, Records};

pub(super) struct PostgresRecords {
    link: Link,
}

impl PostgresRecords {
    pub(super) fn new(settings: Arc<PostgresSettings>) -> Result<Self, JournalError> {
        Ok(Self { link: Link::new(settings)? })
    }
}

impl Records for PostgresRecords {
    fn records(&mut self, at: &[Seq]) -> Result<Vec<Record>, JournalError> {
        let at: Vec<i64> = at.iter().map(|seq| signed(seq.0)).collect();
        let rows = self.link.call("be read", CALL, async |db| {
            let sql = "select seq, version, term, at, record from journal where seq = any($1) order by seq";
            db.query(sql, &[&at]).await
        })?;
        rows.iter().map(|row| row_of(row).record()).collect()
    }
}

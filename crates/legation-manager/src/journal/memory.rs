//! A journal in memory, for tests: forgets everything with the process, refuses everything else that the others refuse.

use legation_core::{Seq, Term};
use legation_pool::Record;

use super::{Journal, JournalError, check_batch};

/// Records in a list.
#[derive(Default)]
pub struct MemoryJournal {
    records: Vec<Record>,
}

impl Journal for MemoryJournal {
    fn newest_term(&mut self) -> Result<Term, JournalError> {
        Ok(self.records.last().map_or(Term(0), |r| r.term))
    }

    fn append(&mut self, batch: &[Record]) -> Result<(), JournalError> {
        let last = self.records.last().map_or(Seq(0), |r| r.seq);
        let newest = self.newest_term()?;
        check_batch(batch, last, newest)?;
        self.records.extend_from_slice(batch);
        Ok(())
    }

    fn read(
        &mut self,
        after: Seq,
        each: &mut dyn FnMut(Record) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        for record in self.records.iter().filter(|r| r.seq > after) {
            each(record.clone())?;
        }
        Ok(())
    }
}

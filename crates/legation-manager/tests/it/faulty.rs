//! A journal whose store fails when it is told to: before an append or after it, or altogether, as a server that is away.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use legation_core::{Seq, Term};
use legation_manager::journal::{
    Candidate, Head, Journal, JournalError, Records, Snapshot, Snapshots, memory::MemoryJournal,
};
use legation_pool::Record;

/// What happens to the next append.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Next {
    /// It succeeds.
    #[default]
    Good,
    /// It fails and has not happened.
    Lost,
    /// It fails and has happened.
    Unheard,
    /// It fails, has not happened, and the store is away from then on.
    LostAndAway,
    /// It fails, has happened, and the store is away from then on.
    UnheardAndAway,
}

/// How the store behaves; clones steer the same door.
#[derive(Clone, Default)]
pub(crate) struct Fault {
    pub(crate) next: Arc<Mutex<Next>>,
    pub(crate) away: Arc<AtomicBool>,
    /// Milliseconds that an append takes.
    pub(crate) slow: Arc<AtomicU64>,
    /// Appends that succeeded.
    pub(crate) appends: Arc<AtomicU64>,
}

impl Fault {
    pub(crate) fn set(&self, next: Next) {
        *self.next.lock().unwrap() = next;
    }

    pub(crate) fn away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }
}

pub(crate) struct Faulty {
    pub(crate) inner: MemoryJournal,
    pub(crate) fault: Fault,
    pub(crate) exclusive: bool,
}

impl Faulty {
    fn here(&self) -> Result<(), JournalError> {
        if self.fault.away.load(Ordering::SeqCst) { Err(failure("the server is away")) } else { Ok(()) }
    }
}

fn failure(why: &str) -> JournalError {
    JournalError::Store { what: "append", source: why.into() }
}

impl Snapshots for Faulty {
    fn save_snapshot(&mut self, seq: Seq, bytes: &[u8]) -> Result<(), JournalError> {
        self.here()?;
        self.inner.save_snapshot(seq, bytes)
    }

    fn newest_snapshot(&mut self, before: Option<Seq>) -> Result<Option<Snapshot>, JournalError> {
        self.here()?;
        self.inner.newest_snapshot(before)
    }
}

impl Journal for Faulty {
    fn head(&mut self) -> Result<Head, JournalError> {
        self.here()?;
        self.inner.head()
    }

    fn claim(&mut self, candidate: &Candidate, ttl: Duration) -> Result<Term, JournalError> {
        self.here()?;
        self.inner.claim(candidate, ttl)
    }

    fn renew(&mut self, term: Term, ttl: Duration) -> Result<(), JournalError> {
        self.here()?;
        self.inner.renew(term, ttl)
    }

    fn release(&mut self, term: Term) -> Result<(), JournalError> {
        self.here()?;
        self.inner.release(term)
    }

    fn append(&mut self, term: Term, after: Seq, batch: &[Record]) -> Result<(), JournalError> {
        self.here()?;
        std::thread::sleep(Duration::from_millis(self.fault.slow.load(Ordering::SeqCst)));
        let next = std::mem::take(&mut *self.fault.next.lock().unwrap());
        if matches!(next, Next::Good | Next::Unheard | Next::UnheardAndAway) {
            self.inner.append(term, after, batch)?;
            self.fault.appends.fetch_add(1, Ordering::SeqCst);
        }
        if matches!(next, Next::LostAndAway | Next::UnheardAndAway) {
            self.fault.away(true);
        }
        if next == Next::Good { Ok(()) } else { Err(failure("the connection is gone")) }
    }

    fn settle(&mut self, term: Term) -> Result<Seq, JournalError> {
        self.here()?;
        self.inner.settle(term)
    }

    fn read(
        &mut self,
        after: Seq,
        each: &mut dyn FnMut(Record) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        self.here()?;
        self.inner.read(after, each)
    }

    fn record(&mut self, seq: Seq) -> Result<Option<Record>, JournalError> {
        self.here()?;
        self.inner.record(seq)
    }

    fn snapshots(&mut self) -> Result<Box<dyn Snapshots>, JournalError> {
        self.inner.snapshots()
    }

    fn archive(&mut self) -> Result<Box<dyn Records>, JournalError> {
        self.inner.archive()
    }

    fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    fn kind(&self) -> &'static str {
        "memory"
    }
}

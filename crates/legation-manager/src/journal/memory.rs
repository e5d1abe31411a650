//! A journal in memory, for tests: forgets everything with the process, refuses everything else that the others refuse.
//!
//! Clones are doors to the same records, as several managers have them to one server.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use legation_core::{Digest, Seq, Term};
use legation_pool::Record;

use super::{
    Candidate, Head, Holder, Journal, JournalError, Records, SNAPSHOTS_KEPT, Snapshot, Snapshots, check_batch,
    snapshots::last_of,
};

/// Time since any moment, as a store counts it.
pub type StoreClock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Records in a list.
#[derive(Clone)]
pub struct MemoryJournal {
    shared: Arc<Mutex<Shared>>,
    clock: StoreClock,
}

#[derive(Default)]
struct Shared {
    records: Vec<Record>,
    /// The newest term, who claimed it, and when it expires.
    holder: Option<(Term, Candidate, Duration)>,
    /// What is filed, with its digest: the digest of the record, then the snapshot.
    snapshots: Vec<(Seq, Digest, Vec<u8>)>,
}

impl Default for MemoryJournal {
    /// One in which no time passes.
    fn default() -> Self {
        Self::new(Arc::new(|| Duration::ZERO))
    }
}

impl MemoryJournal {
    /// An empty one; `clock` says when terms expire.
    pub fn new(clock: StoreClock) -> Self {
        Self { shared: Arc::default(), clock }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the records, as nobody should.
    pub fn damage_records(&mut self, change: impl FnOnce(&mut Vec<Record>)) {
        change(&mut self.shared().records);
    }

    /// Changes the bytes of a saved snapshot, as a disk may.
    pub fn damage_snapshot(&mut self, seq: Seq, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some((_, _, bytes)) = self.shared().snapshots.iter_mut().find(|(at, ..)| *at == seq) {
            change(bytes);
        }
    }
}

impl Shared {
    fn last(&self) -> Seq {
        self.records.last().map_or(Seq(0), |r| r.seq)
    }

    fn newest(&self) -> Term {
        self.holder.as_ref().map_or(Term(0), |(term, ..)| *term)
    }

    fn hold(&mut self, term: Term, until: Duration) -> Result<(), JournalError> {
        let newest = self.newest();
        match &mut self.holder {
            Some((held, _, expires)) if *held == term => {
                *expires = until;
                Ok(())
            }
            _ => Err(JournalError::Fenced { ours: term, newest }),
        }
    }
}

impl Snapshots for MemoryJournal {
    fn save_snapshot(&mut self, seq: Seq, bytes: &[u8]) -> Result<(), JournalError> {
        let mut shared = self.shared();
        shared.snapshots.retain(|(at, ..)| *at != seq);
        let last = last_of(shared.records.iter().find(|record| record.seq == seq))?;
        let filed = [last.as_bytes().as_slice(), bytes].concat();
        shared.snapshots.push((seq, Digest::of(&filed), filed));
        shared.snapshots.sort_by_key(|(at, ..)| *at);
        let old = shared.snapshots.len().saturating_sub(SNAPSHOTS_KEPT);
        shared.snapshots.drain(..old);
        Ok(())
    }

    fn newest_snapshot(&mut self, before: Option<Seq>) -> Result<Option<Snapshot>, JournalError> {
        let shared = self.shared();
        let found = shared.snapshots.iter().rev().find(|(at, ..)| before.is_none_or(|before| *at < before));
        Ok(found.map(|(seq, digest, filed)| Snapshot::filed(*seq, digest.as_bytes(), filed)))
    }
}

impl Records for MemoryJournal {
    fn records(&mut self, at: &[Seq]) -> Result<Vec<Record>, JournalError> {
        let at: BTreeSet<Seq> = at.iter().copied().collect();
        Ok(self.shared().records.iter().filter(|record| at.contains(&record.seq)).cloned().collect())
    }
}

impl Journal for MemoryJournal {
    fn head(&mut self) -> Result<Head, JournalError> {
        let (shared, now) = (self.shared(), (self.clock)());
        let holder = shared.holder.as_ref().map(|(term, candidate, expires)| Holder {
            term: *term,
            candidate: candidate.clone(),
            expired: *expires <= now,
        });
        Ok(Head { last: shared.last(), holder })
    }

    fn claim(&mut self, candidate: &Candidate, ttl: Duration) -> Result<Term, JournalError> {
        let (mut shared, now) = (self.shared(), (self.clock)());
        if let Some((term, holder, expires)) = &shared.holder
            && *expires > now
            && holder.instance != candidate.instance
        {
            let held = Holder { term: *term, candidate: holder.clone(), expired: false };
            return Err(JournalError::Led(Box::new(held)));
        }
        let term = Term(shared.newest().0.saturating_add(1));
        shared.holder = Some((term, candidate.clone(), now.saturating_add(ttl)));
        Ok(term)
    }

    fn renew(&mut self, term: Term, ttl: Duration) -> Result<(), JournalError> {
        let until = (self.clock)().saturating_add(ttl);
        self.shared().hold(term, until)
    }

    fn release(&mut self, term: Term) -> Result<(), JournalError> {
        self.shared().hold(term, Duration::ZERO)
    }

    fn append(&mut self, term: Term, after: Seq, batch: &[Record]) -> Result<(), JournalError> {
        let mut shared = self.shared();
        check_batch(term, after, batch, shared.last(), shared.newest())?;
        shared.records.extend_from_slice(batch);
        Ok(())
    }

    fn settle(&mut self, term: Term) -> Result<Seq, JournalError> {
        let shared = self.shared();
        if shared.newest() != term {
            return Err(JournalError::Fenced { ours: term, newest: shared.newest() });
        }
        Ok(shared.last())
    }

    fn read(
        &mut self,
        after: Seq,
        each: &mut dyn FnMut(Record) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        // A copy: whoever reads may take its time, or write.
        let from = usize::try_from(after.0).unwrap_or(usize::MAX);
        let records = self.shared().records.get(from..).map(<[Record]>::to_vec).unwrap_or_default();
        records.into_iter().try_for_each(each)
    }

    fn record(&mut self, seq: Seq) -> Result<Option<Record>, JournalError> {
        Ok(self.shared().records.iter().find(|r| r.seq == seq).cloned())
    }

    fn snapshots(&mut self) -> Result<Box<dyn Snapshots>, JournalError> {
        Ok(Box::new(self.clone()))
    }

    fn archive(&mut self) -> Result<Box<dyn Records>, JournalError> {
        Ok(Box::new(self.clone()))
    }

    fn is_exclusive(&self) -> bool {
        false
    }

    fn kind(&self) -> &'static str {
        "memory"
    }
}

//! The store as a node: the product's journal in memory ([`MemoryJournal`]), behind a line and on a disk that may be slow, fail, or
//! leave it open whether they did what was asked.
//!
//! A call is done at the store in the moment it is made, and the caller is busy for as long as it takes ([`Line::took`]). An append
//! whose outcome nobody hears may have been done, may never be, or is done later: as the contract says, not after its term was settled.
//! A store that crashes keeps what was durable. Terms end by the store's own clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use legation_core::{Seq, TaskId, Term, statement::Allocation};
use legation_manager::journal::{
    Candidate, Head, Journal, JournalError, Records, Snapshot, Snapshots, memory::MemoryJournal,
};
use legation_pool::{Event, Record};

use crate::{
    clock::{Clock, Span},
    defect::Defect,
    ether::Ether,
    fault::Fault,
    message::{Node, Timer},
    random::Random,
};

/// How long a manager waits for a store that does not answer, at most, in microseconds.
const PATIENCE: u64 = 900_000;

/// What the disk is like at the moment, in parts of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) slow: u64,
    pub(crate) fails: u64,
    pub(crate) unknown: u64,
}

/// What happened during a call.
enum Note {
    Appended(Vec<Record>),
    Claimed(Term),
    Refused(&'static str, String),
    Fault(Fault),
    /// An append is on its way still, under this number.
    Late(u64),
    Dies,
}

/// An append that nobody waits for any more and that the store has yet to do.
struct Late {
    number: u64,
    term: Term,
    after: Seq,
    batch: Vec<Record>,
}

/// The door by which managers call the store.
pub(crate) struct Line {
    journal: MemoryJournal,
    /// The store's clock, in microseconds.
    time: Arc<AtomicU64>,
    random: Random,
    defect: Option<Defect>,
    disk: Disk,
    /// What is asked arrives; what is answered arrives.
    asks: bool,
    answers: bool,
    up: bool,
    /// It may die in the middle of an append.
    fragile: bool,
    late: Vec<Late>,
    numbers: u64,
    notes: Vec<Note>,
    took: u64,
}

fn failed(what: &'static str, why: &'static str) -> JournalError {
    JournalError::Store { what, source: why.into() }
}

impl Line {
    /// One call, over the network and back.
    fn call<T>(
        &mut self,
        what: &'static str,
        does: impl FnOnce(&mut MemoryJournal) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        self.took += self.random.range(300, 3000);
        if !self.asks || !self.up {
            self.took += self.random.range(1000, PATIENCE);
            return Err(failed(what, "the server cannot be reached"));
        }
        let done = does(&mut self.journal);
        if let Err(why) = &done {
            self.notes.push(Note::Refused(what, why.to_string()));
        }
        if !self.answers {
            self.took += self.random.range(1000, PATIENCE);
            return Err(failed(what, "the server did not answer"));
        }
        done
    }

    fn note(&mut self, fault: Fault) {
        self.notes.push(Note::Fault(fault));
    }

    fn unheard<T>(&mut self) -> Result<T, JournalError> {
        self.took += self.random.range(1000, PATIENCE);
        Err(failed("append records", "the connection ended in the middle of it"))
    }

    fn write(&mut self, term: Term, after: Seq, batch: &[Record]) -> Result<(), JournalError> {
        let mut done = self.journal.append(term, after, batch);
        if let Err(why) = &done {
            self.notes.push(Note::Refused("append", why.to_string()));
            if self.defect == Some(Defect::StoreDoesNotFence) {
                done = Ok(());
            }
        }
        if done.is_ok() {
            self.notes.push(Note::Appended(batch.to_vec()));
        }
        done
    }
}

impl Snapshots for Line {
    fn save_snapshot(&mut self, seq: Seq, bytes: &[u8]) -> Result<(), JournalError> {
        self.call("save a snapshot", |journal| journal.save_snapshot(seq, bytes))
    }

    fn newest_snapshot(&mut self, before: Option<Seq>) -> Result<Option<Snapshot>, JournalError> {
        self.call("read a snapshot", |journal| journal.newest_snapshot(before))
    }
}

impl Journal for Line {
    fn head(&mut self) -> Result<Head, JournalError> {
        self.call("read the head", MemoryJournal::head)
    }

    fn claim(&mut self, candidate: &Candidate, ttl: Duration) -> Result<Term, JournalError> {
        let claimed = self.call("claim a term", |journal| journal.claim(candidate, ttl));
        if let Ok(term) = &claimed {
            self.notes.push(Note::Claimed(*term));
        }
        claimed
    }

    fn renew(&mut self, term: Term, ttl: Duration) -> Result<(), JournalError> {
        self.call("renew a term", |journal| journal.renew(term, ttl))
    }

    fn release(&mut self, term: Term) -> Result<(), JournalError> {
        self.call("release a term", |journal| journal.release(term))
    }

    fn append(&mut self, term: Term, after: Seq, batch: &[Record]) -> Result<(), JournalError> {
        self.took += self.random.range(300, 3000);
        if !self.asks || !self.up {
            self.took += self.random.range(1000, PATIENCE);
            return Err(failed("append records", "the server cannot be reached"));
        }
        if self.random.chance(self.disk.slow) {
            self.note(Fault::DiskSlow);
            self.took += self.random.range(20_000, 1_200_000);
        }
        if self.random.chance(self.disk.fails) {
            self.note(Fault::DiskFails);
            return Err(failed("append records", "no space left on device"));
        }
        let dies = self.fragile && self.random.chance(15);
        if dies {
            self.note(Fault::StoreCrashInAppend);
            self.notes.push(Note::Dies);
        }
        let unheard = dies || !self.answers || self.random.chance(self.disk.unknown);
        if !unheard {
            return self.write(term, after, batch);
        }
        match self.random.range(0, if dies { 1 } else { 2 }) {
            0 => self.note(Fault::UnknownLost),
            1 => {
                self.note(Fault::UnknownWritten);
                let _ = self.write(term, after, batch);
            }
            _ => {
                self.note(Fault::UnknownLate);
                self.numbers += 1;
                self.notes.push(Note::Late(self.numbers));
                self.late.push(Late { number: self.numbers, term, after, batch: batch.to_vec() });
            }
        }
        self.unheard()
    }

    fn settle(&mut self, term: Term) -> Result<Seq, JournalError> {
        if self.asks && self.up {
            // What is still on its way is done before this is answered, or never.
            for late in std::mem::take(&mut self.late) {
                if late.term == term && self.random.chance(500) {
                    let _ = self.write(late.term, late.after, &late.batch);
                } else if late.term != term {
                    self.late.push(late);
                }
            }
        }
        self.call("settle an append", |journal| journal.settle(term))
    }

    fn read(
        &mut self,
        after: Seq,
        each: &mut dyn FnMut(Record) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let mut records = Vec::new();
        self.call("read records", |journal| {
            journal.read(after, &mut |record| {
                records.push(record);
                Ok(())
            })
        })?;
        records.into_iter().try_for_each(each)
    }

    fn record(&mut self, seq: Seq) -> Result<Option<Record>, JournalError> {
        self.call("read a record", |journal| journal.record(seq))
    }

    fn snapshots(&mut self) -> Result<Box<dyn Snapshots>, JournalError> {
        self.journal.snapshots()
    }

    fn archive(&mut self) -> Result<Box<dyn Records>, JournalError> {
        self.journal.archive()
    }

    fn is_exclusive(&self) -> bool {
        false
    }

    fn kind(&self) -> &'static str {
        "simulated"
    }
}

/// The store.
pub(crate) struct Store {
    line: Line,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    pub(crate) life: u32,
    /// It may die in the middle of an append.
    pub(crate) fragile: bool,
}

impl Store {
    pub(crate) fn new(ether: &mut Ether) -> Self {
        let time = Arc::new(AtomicU64::new(0));
        let line = Line {
            journal: empty(&time),
            time,
            random: Random::new(ether.random.next()),
            defect: ether.plan.defect,
            disk: Disk::default(),
            asks: true,
            answers: true,
            up: true,
            fragile: false,
            late: Vec::new(),
            numbers: 0,
            notes: Vec::new(),
            took: 0,
        };
        Self { line, clock: Clock::default(), disk: Disk::default(), life: 0, fragile: false }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.line.up
    }

    /// Every record it holds.
    pub(crate) fn records(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        let _ = self.line.journal.read(Seq(0), &mut |record| {
            records.push(record);
            Ok(())
        });
        records
    }

    /// Lets a manager call; says how long its calls took.
    pub(crate) fn visit<T>(
        &mut self,
        ether: &mut Ether,
        manager: Node,
        calls: impl FnOnce(&mut dyn Journal) -> T,
    ) -> (T, Span) {
        let line = &mut self.line;
        line.time.store(self.clock.micros(ether.now), Ordering::Relaxed);
        line.asks = ether.passes(manager, Node::Store);
        line.answers = ether.passes(Node::Store, manager);
        line.disk = self.disk;
        line.fragile = self.fragile;
        line.took = 0;
        let result = calls(line);
        let took = Span(line.took);
        self.tell(ether, manager);
        (result, took)
    }

    /// Tells what happened to whoever watches.
    fn tell(&mut self, ether: &mut Ether, manager: Node) {
        for note in std::mem::take(&mut self.line.notes) {
            match note {
                Note::Appended(batch) => {
                    ether.tell(Node::Store, || {
                        let kinds: Vec<_> = batch.iter().map(brief).collect();
                        let (first, term) = batch.first().map_or((0, 0), |r| (r.seq.0, r.term.0));
                        format!("keeps {} from {first} on in term {term}: {}", batch.len(), kinds.join(", "))
                    });
                    let verdict = ether.oracle.durable(&batch);
                    ether.judge(verdict);
                }
                Note::Claimed(term) => ether.tell(Node::Store, || format!("term {} is {manager}'s", term.0)),
                Note::Refused(what, why) => {
                    ether.tally.reach(&format!("store: refuses to {what}"));
                    ether.tell(Node::Store, || format!("refuses {manager} to {what}: {why}"));
                }
                Note::Fault(fault) => {
                    ether.fault(fault);
                    ether.tell(Node::Store, || format!("{}, for {manager}", fault.name()));
                }
                Note::Late(number) => {
                    let after = ether.between((Span::millis(50), Span::millis(3000)));
                    ether.ring(Node::Store, self.life, after, Timer::Late { number });
                }
                Note::Dies => self.crash(ether, Span::millis(700)),
            }
        }
    }

    /// It dies, and comes back after `down`.
    pub(crate) fn crash(&mut self, ether: &mut Ether, down: Span) {
        self.line.up = false;
        self.line.late.clear();
        self.life += 1;
        ether.tell(Node::Store, || format!("dies, for {down}"));
        ether.ring(Node::Store, self.life, down, Timer::Restart);
        if ether.is(Defect::StoreLosesTail) {
            self.lose_tail();
        }
    }

    pub(crate) fn rings(&mut self, ether: &mut Ether, timer: Timer) {
        match timer {
            Timer::Restart => {
                self.line.up = true;
                ether.tell(Node::Store, || "is back");
            }
            Timer::Late { number } => {
                let Some(place) = self.line.late.iter().position(|l| l.number == number) else { return };
                let late = self.line.late.remove(place);
                ether.tell(Node::Store, || "comes to an append that nobody waits for any more");
                let _ = self.line.write(late.term, late.after, &late.batch);
                self.tell(ether, Node::Store);
            }
            _ => {}
        }
    }

    /// Makes its journal anew, without the last record.
    fn lose_tail(&mut self) {
        let mut records = self.records();
        records.pop();
        let newest = self.line.journal.head().map_or(Term(0), |head| head.term());
        let nobody = Candidate { name: "nobody".into(), instance: 0, addresses: Default::default() };
        let mut journal = empty(&self.line.time);
        let mut term = Term(0);
        let mut claim = |journal: &mut MemoryJournal, until: Term| {
            while term < until {
                term = journal.claim(&nobody, Duration::from_secs(2)).unwrap_or(until);
            }
        };
        for record in records {
            claim(&mut journal, record.term);
            let _ = journal.append(record.term, Seq(record.seq.0 - 1), std::slice::from_ref(&record));
        }
        claim(&mut journal, newest);
        self.line.journal = journal;
    }

    /// Changes a byte of a snapshot, as a disk may.
    pub(crate) fn damage(&mut self, ether: &mut Ether) {
        if let Ok(Some(newest)) = self.line.journal.newest_snapshot(None) {
            ether.fault(Fault::SnapshotDamaged);
            ether.tell(Node::Store, || format!("its snapshot of record {} is damaged", newest.seq.0));
            self.line.journal.damage_snapshot(newest.seq, |bytes| {
                if let Some(byte) = bytes.last_mut() {
                    *byte ^= 1;
                }
            });
        }
    }
}

/// A record in a few words.
fn brief(record: &Record) -> String {
    let kind = record.event.kind();
    match &record.event {
        Event::Attested { passport, .. } => format!("{kind} {}", passport.enclave_id().short()),
        Event::Arrived { enclave } | Event::Left { enclave, .. } | Event::Draining { enclave } => {
            format!("{kind} {}", enclave.short())
        }
        Event::Lapsed { enclave, .. } | Event::Barred { enclave, .. } | Event::Withdrawn { enclave, .. } => {
            format!("{kind} {}", enclave.short())
        }
        Event::Revoked { revocation } => format!("{kind} {}", revocation.what),
        Event::Leased { allocation } | Event::Lent { allocation, .. } => {
            let Allocation { lease, enclave, task, fragment, .. } = allocation.predicate();
            format!("{kind} {lease} for {} of {} to {}", fragment, task.short(), enclave.short())
        }
        Event::Cordoned { enclave, .. } | Event::Uncordoned { enclave, .. } | Event::Reseated { enclave, .. } => {
            format!("{kind} {}", enclave.short())
        }
        Event::Claimed { fragment, enclave, victims, .. } => {
            format!("{kind} {} for {fragment}, where {} make way", enclave.short(), victims.len())
        }
        Event::Unclaimed { fragment, why } => format!("{kind} for {fragment}: {why}"),
        Event::SeatsShort { reservation, seats } => format!("{kind} {reservation}: {seats:?}"),
        Event::Reserved { booking } => format!("{kind} {} seats", booking.seats.len()),
        Event::ReservationEnded { reservation, .. } => format!("{kind} {reservation}"),
        Event::GangBooked { booking } => format!("{kind} for {} by {}", booking.task.short(), booking.at),
        Event::GangUnbooked { task, why } => format!("{kind} for {}: {why}", task.short()),
        Event::LeaseEnded { lease, why, .. } => format!("{kind} {lease}: {why}"),
        Event::Reported { report, .. } => format!("{kind} {}", report.lease),
        Event::Proved { statement, .. } => format!("{kind} {}", statement.report.short()),
        Event::Unproved { report, why, .. } => format!("{kind} {}: {}", report.short(), why.check),
        Event::TaskEnded { task, state } => format!("{kind} {} {state:?}", task.short()),
        Event::Submitted { request, .. } => format!("{kind} {}", TaskId::new(request.digest()).short()),
        Event::CustodyCalled { call, why, .. } => {
            let members: Vec<_> = call.members.iter().map(|member| member.enclave.short()).collect();
            format!("{kind} {}, attempt {}, as {why}: {}", call.digest().short(), call.attempt, members.join(" "))
        }
        Event::CustodySaid { word, .. } => format!("{kind} {} of {}", word.kind(), word.speaker().enclave_id().short()),
        Event::CustodyEnded { call, why, .. } => format!("{kind} {}: {why}", call.short()),
        _ => kind.to_owned(),
    }
}

fn empty(time: &Arc<AtomicU64>) -> MemoryJournal {
    let time = time.clone();
    MemoryJournal::new(Arc::new(move || Duration::from_micros(time.load(Ordering::Relaxed))))
}

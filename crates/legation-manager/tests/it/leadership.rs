//! Leadership without threads: two managers over one journal in memory, with a clock that the test moves and a store that fails when
//! it is told to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use legation_core::{
    Revocable, Seq, Signer, Term, UnixTime,
    dsse::sign,
    statement::{Appointment, Office},
};
use legation_keys::IdentityKey;
use legation_manager::{
    journal::{JournalError, Snapshots, memory::MemoryJournal},
    leadership::{Claimant, Fate, Leadership, Timing, Turn},
    recovery::recover,
};
use legation_net::OsEntropy;
use legation_pool::{Command, Limits, Pool, Record};

use crate::{
    faulty::{Fault, Faulty, Next},
    journal_contract::candidate,
};

const START: UnixTime = UnixTime(1_800_000_000);

/// With what a manager of this name claims to lead; its appointment holds for so many seconds.
pub(crate) fn claimant(name: &str, seconds: u64) -> Claimant {
    let (operator, key) = (IdentityKey::generate(&mut OsEntropy), IdentityKey::generate(&mut OsEntropy));
    let appointment = Appointment {
        operator: operator.public_key(),
        key: key.public_key(),
        office: Office::Manager,
        scope: None,
        not_before: START,
        not_after: START.plus(seconds),
    };
    Claimant { candidate: candidate(name), signer: Arc::new(key), appointment: sign(appointment, &operator) }
}

/// Two managers, their store, and the time.
struct World {
    now: Arc<AtomicU64>,
    store: MemoryJournal,
}

/// One manager.
struct Manager {
    journal: Faulty,
    fault: Fault,
    leadership: Leadership,
    claimant: Claimant,
    pool: Option<Pool>,
}

impl World {
    fn new() -> Self {
        let now = Arc::new(AtomicU64::new(1000));
        let clock = now.clone();
        let store = MemoryJournal::new(Arc::new(move || Duration::from_millis(clock.load(Ordering::SeqCst))));
        Self { now, store }
    }

    fn manager(&self, name: &str) -> Manager {
        let (fault, claimant) = (Fault::default(), claimant(name, 1_000_000));
        let leadership = Leadership::new(claimant.clone(), Timing::default(), Limits::default());
        let journal = Faulty { inner: self.store.clone(), fault: fault.clone(), exclusive: false };
        Manager { journal, fault, leadership, claimant, pool: None }
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.now.load(Ordering::SeqCst))
    }

    fn pass(&self, milliseconds: u64) {
        self.now.fetch_add(milliseconds, Ordering::SeqCst);
    }

    fn records(&self) -> Vec<Record> {
        crate::journal_contract::read(&mut self.store.clone(), 0).unwrap()
    }
}

impl Manager {
    /// Turns while something is due now; gives what was told.
    fn turn(&mut self, world: &World) -> Result<Vec<&'static str>, JournalError> {
        let mut told = Vec::new();
        while self.leadership.due() <= world.now() {
            let wall = START.plus(world.now().as_secs());
            match self.leadership.turn(&mut self.journal, world.now(), wall)? {
                Turn::Quiet => {}
                Turn::Began(began) => {
                    self.pool = Some(began.pool);
                    told.push("began");
                }
                Turn::Settled { done: true } => told.push("done"),
                Turn::Settled { done: false } => told.push("not done"),
                Turn::Ended(_) => {
                    self.pool = None;
                    told.push("ended");
                }
                Turn::Refused(_) => told.push("refused"),
            }
        }
        Ok(told)
    }

    /// Decides something and makes it durable.
    fn decide(&mut self, world: &World, what: &str) -> Fate {
        let what = Revocable::named("chip", what).unwrap();
        let command = Command::Revoke { what, why: "a test".to_owned() };
        let pool = self.pool.as_mut().unwrap();
        let records = pool.apply(command, START, &*self.claimant.signer).unwrap().records;
        self.leadership.append(&mut self.journal, &records, world.now())
    }
}

#[test]
fn one_leads_and_the_other_takes_over_when_it_dies() {
    let world = World::new();
    let (mut a, mut b) = (world.manager("a"), world.manager("b"));
    assert_eq!(a.turn(&world).unwrap(), ["began"]);
    assert_eq!(b.turn(&world).unwrap(), [""; 0]);
    assert_eq!(a.leadership.leads(world.now()), Some(Term(1)));
    assert!(matches!(a.decide(&world, "c0ffee00"), Fate::Durable));
    for _ in 0..50 {
        world.pass(100);
        assert_eq!((a.turn(&world).unwrap(), b.turn(&world).unwrap()), (vec![], vec![]));
        // The follower is warm.
        assert_eq!((b.leadership.seq(), b.leadership.pool().unwrap().seq()), (Seq(2), Seq(2)));
        assert_eq!(b.leadership.head().holder.as_ref().unwrap().candidate, a.claimant.candidate);
        assert!(a.leadership.leads(world.now()).is_some());
    }
    // It dies. Within its term's time and one look, the other leads, with all that was decided.
    let died = world.now();
    while b.leadership.leads(world.now()).is_none() {
        world.pass(20);
        b.turn(&world).unwrap();
    }
    assert!(world.now() - died <= Duration::from_millis(2200), "{:?}", world.now() - died);
    assert_eq!(b.leadership.leads(world.now()), Some(Term(2)));
    assert_eq!(b.pool.as_ref().unwrap().revoked().len(), 1);
    // It did not die: it slept. By its own clock it leads no longer, and the store refuses what it wants to write.
    assert_eq!(a.leadership.leads(world.now()), None);
    let before = world.records();
    assert!(matches!(a.decide(&world, "c0ffee01"), Fate::Ended(JournalError::Fenced { .. })));
    assert_eq!(world.records(), before);
    a.pool = None;
    a.turn(&world).unwrap();
    assert_eq!(a.leadership.pool(), b.pool.as_ref(), "it follows with the pool of the journal");
}

#[test]
fn whoever_slept_and_was_not_missed_goes_on() {
    let world = World::new();
    let mut a = world.manager("a");
    a.turn(&world).unwrap();
    world.pass(60_000);
    assert_eq!(a.leadership.leads(world.now()), None, "it cannot know");
    // It asks before it appends.
    assert!(matches!(a.decide(&world, "c0ffee00"), Fate::Durable));
    assert_eq!(a.leadership.leads(world.now()), Some(Term(1)));
    // Or before it does anything else.
    world.pass(60_000);
    assert_eq!(a.turn(&world).unwrap(), [""; 0]);
    assert_eq!(a.leadership.leads(world.now()), Some(Term(1)));
}

#[test]
fn whoever_cannot_renew_stops_before_its_term_is_over() {
    let world = World::new();
    let (mut a, mut b) = (world.manager("a"), world.manager("b"));
    a.turn(&world).unwrap();
    b.turn(&world).unwrap();
    a.fault.away(true);
    let cut_off = world.now();
    let (mut stopped, mut taken) = (None, None);
    while taken.is_none() {
        world.pass(50);
        match a.turn(&world) {
            Ok(told) if told.contains(&"ended") => stopped = stopped.or(Some(world.now())),
            _ => assert!(stopped.is_none() || a.leadership.leads(world.now()).is_none()),
        }
        if b.turn(&world).unwrap().contains(&"began") {
            taken = Some(world.now());
        }
        let both = a.leadership.leads(world.now()).is_some() && b.leadership.leads(world.now()).is_some();
        assert!(!both, "two lead at once");
    }
    assert!(stopped.unwrap() < taken.unwrap() && taken.unwrap() - cut_off < Duration::from_millis(2300));
    // The store comes back: it reads what it missed, and follows.
    a.fault.away(false);
    world.pass(100);
    assert_eq!(a.turn(&world).unwrap(), [""; 0]);
    assert_eq!(a.leadership.pool(), b.pool.as_ref());
}

/// What is told of an append whose outcome was unknown, by how it failed and what came after.
#[test]
fn what_became_of_an_append_is_found_out() {
    let table = [
        // The store fails once: settled while it leads, which it goes on to do.
        (Next::Lost, false, vec!["not done"], Some(Term(1))),
        (Next::Unheard, false, vec!["done"], Some(Term(1))),
        // The store is away beyond the term, and nobody else is there: settled after the term, before the next begins.
        (Next::LostAndAway, false, vec!["ended", "not done", "began"], Some(Term(2))),
        (Next::UnheardAndAway, false, vec!["ended", "done", "began"], Some(Term(2))),
        // Another leads meanwhile.
        (Next::LostAndAway, true, vec!["ended", "not done"], None),
        (Next::UnheardAndAway, true, vec!["ended", "done"], None),
    ];
    for (next, another, wanted, leads) in table {
        let world = World::new();
        let (mut a, mut b) = (world.manager("a"), world.manager("b"));
        a.turn(&world).unwrap();
        b.turn(&world).unwrap();
        a.fault.set(next);
        assert!(matches!(a.decide(&world, "c0ffee00"), Fate::Unknown(_)), "{next:?}");
        assert!(a.leadership.is_unsettled());
        // Nothing is appended meanwhile.
        assert!(matches!(a.decide(&world, "c0ffee01"), Fate::Ended(_)), "{next:?}");
        let mut told = Vec::new();
        for step in 0..60 {
            told.extend(a.turn(&world).unwrap_or_default());
            if another {
                b.turn(&world).unwrap();
            }
            if step == 40 {
                a.fault.away(false);
            }
            world.pass(100);
        }
        assert_eq!(told, wanted, "{next:?}, another: {another}");
        a.turn(&world).unwrap();
        assert_eq!(a.leadership.leads(world.now()), leads, "{next:?}, another: {another}");
        // What was told is what is in the journal.
        let recorded = world.records().iter().filter(|r| r.event.kind() == "revoked").count();
        assert_eq!(recorded == 1, wanted.contains(&"done"), "{next:?}, another: {another}");
        assert!(!a.leadership.is_unsettled());
        if leads == Some(Term(1)) {
            a.pool = Some(a.leadership.reload(&mut a.journal).unwrap());
        }
        if leads.is_some() {
            assert!(matches!(a.decide(&world, "c0ffee02"), Fate::Durable), "{next:?}, another: {another}");
            let pool = recover(&mut world.store.clone(), Limits::default()).unwrap().pool;
            assert_eq!(a.pool.as_ref(), Some(&pool), "{next:?}, another: {another}");
        }
    }
}

#[test]
fn a_term_whose_first_record_is_in_doubt_is_followed_by_another() {
    for next in [Next::Lost, Next::Unheard, Next::LostAndAway, Next::UnheardAndAway] {
        let world = World::new();
        let mut a = world.manager("a");
        a.fault.set(next);
        assert!(a.turn(&world).is_err(), "{next:?}");
        a.fault.away(false);
        world.pass(100);
        assert_eq!(a.turn(&world).unwrap(), ["began"], "{next:?}");
        assert_eq!(a.leadership.leads(world.now()), Some(Term(2)));
        assert!(matches!(a.decide(&world, "c0ffee00"), Fate::Durable));
        let terms: Vec<_> = world.records().iter().map(|r| r.term.0).collect();
        let happened = matches!(next, Next::Unheard | Next::UnheardAndAway);
        assert_eq!(terms, if happened { vec![1, 2, 2] } else { vec![2, 2] }, "{next:?}");
    }
}

#[test]
fn whom_the_pool_refuses_gives_the_term_back() {
    let world = World::new();
    let mut a = world.manager("a");
    a.leadership = Leadership::new(claimant("a", 0), Timing::default(), Limits::default());
    world.pass(120_000);
    assert_eq!(a.turn(&world).unwrap(), ["refused"]);
    assert!(world.records().is_empty());
    let mut b = world.manager("b");
    assert_eq!(b.turn(&world).unwrap(), ["began"], "at once");
}

#[test]
fn a_term_that_is_given_back_is_another_s_at_once() {
    let world = World::new();
    let (mut a, mut b) = (world.manager("a"), world.manager("b"));
    a.turn(&world).unwrap();
    b.turn(&world).unwrap();
    a.leadership.release(&mut a.journal).unwrap();
    assert_eq!(a.leadership.leads(world.now()), None);
    world.pass(100);
    assert_eq!(b.turn(&world).unwrap(), ["began"]);
}

#[test]
fn an_exclusive_store_needs_no_renewing() {
    let world = World::new();
    let mut a = world.manager("a");
    a.journal.exclusive = true;
    a.turn(&world).unwrap();
    world.pass(3_600_000);
    assert_eq!(a.leadership.leads(world.now()), Some(Term(1)));
    a.fault.set(Next::LostAndAway);
    assert!(matches!(a.decide(&world, "c0ffee00"), Fate::Unknown(_)));
    world.pass(3_600_000);
    assert!(a.turn(&world).is_err(), "a full disk is waited for");
    a.fault.away(false);
    world.pass(1000);
    assert_eq!(a.turn(&world).unwrap(), ["not done"]);
}

/// Position and term come again where a copy of the journal took its place: which record it is does not.
#[test]
fn a_snapshot_of_a_journal_that_was_lost_is_passed_over() {
    let (lost, kept) = (World::new(), World::new());
    let mut ends = Vec::new();
    for (world, what) in [(&lost, "c0ffee00"), (&kept, "deadbeef")] {
        let mut manager = world.manager("a");
        manager.turn(world).unwrap();
        assert!(matches!(manager.decide(world, what), Fate::Durable));
        ends.push(manager.pool.unwrap());
    }
    let [before, after] = &ends[..] else { panic!("two journals") };
    assert_eq!((before.seq(), before.term()), (after.seq(), after.term()));
    let mut store = lost.store.clone();
    store.save_snapshot(before.seq(), &before.snapshot().unwrap()).unwrap();
    let recovered = recover(&mut store, Limits::default()).unwrap();
    assert_eq!((&recovered.pool, recovered.snapshot), (before, Some(before.seq())));
    // The journal is another; the snapshot stayed.
    let copy = kept.records();
    store.damage_records(|records| *records = copy);
    let recovered = recover(&mut store, Limits::default()).unwrap();
    assert_eq!((&recovered.pool, recovered.snapshot), (after, None));
}

#[test]
fn recovery_reads_the_newest_good_snapshot_and_what_follows() {
    let world = World::new();
    let mut a = world.manager("a");
    a.turn(&world).unwrap();
    let mut store = world.store.clone();
    let mut whole = Vec::new();
    for n in 0..6_u32 {
        a.decide(&world, &format!("c0ffee{n:02}"));
        let pool = a.pool.as_ref().unwrap();
        whole.push((pool.seq(), pool.snapshot().unwrap()));
    }
    let pool = a.pool.clone().unwrap();
    let check = |wanted: Option<Seq>, what: &str, store: &mut MemoryJournal| {
        let recovered = recover(store, Limits::default()).unwrap();
        assert_eq!((&recovered.pool, recovered.snapshot), (&pool, wanted), "{what}");
    };
    check(None, "none", &mut store);
    for (seq, bytes) in &whole[1..3] {
        store.save_snapshot(*seq, bytes).unwrap();
    }
    check(Some(Seq(4)), "the newest", &mut store);
    store.damage_snapshot(Seq(4), |bytes| bytes.truncate(100));
    check(Some(Seq(3)), "a damaged one is passed over", &mut store);
    store.damage_snapshot(Seq(3), |bytes| bytes[9] ^= 1);
    check(None, "both are damaged", &mut store);
    let mut newer = whole[4].1.clone();
    newer[3] += 1;
    store.save_snapshot(whole[4].0, &newer).unwrap();
    check(None, "another version", &mut store);
    // One of another journal: of records that this one does not have, or has otherwise.
    store.save_snapshot(Seq(99), &whole[4].1).unwrap();
    check(None, "filed under another record", &mut store);
    let (elsewhere, mut other) = (World::new(), None);
    for n in 0..3 {
        let mut b = elsewhere.manager(&format!("b{n}"));
        b.turn(&elsewhere).unwrap();
        b.decide(&elsewhere, &format!("deadbeef{n:02}"));
        elsewhere.pass(10_000);
        other = b.pool;
    }
    let other = other.unwrap();
    store.save_snapshot(other.seq(), &other.snapshot().unwrap()).unwrap();
    check(None, "of another term", &mut store);
}

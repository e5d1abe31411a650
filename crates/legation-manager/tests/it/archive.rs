//! Whole proofs, where the pool has them in brief: read from the journal, also by a manager that began from a snapshot, and never
//! silently absent.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use legation_core::{Rejection, Seq, TaskId, Term};
use legation_manager::{
    archive::Archive,
    journal::{Journal, JournalError, Records, Snapshots, memory::MemoryJournal},
    leader::Leader,
    leadership::Timing,
};
use legation_pool::{Event, Record};
use tokio::runtime::Runtime;

use crate::{
    journal_contract::candidate,
    leadership::claimant,
    world::{HOUR, Key, Machine, World, fragment, limits, output_of, reading},
};

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A task that ran on two enclaves, one that reads its first output and was not run yet, and one that waits for its client's grant.
fn world() -> (World, TaskId, TaskId) {
    let mut world = World::new([Machine::new("a"), Machine::new("b")]);
    let done = world.submit_granted(vec![fragment("map"), reading(fragment("sum"), vec![output_of(0)])]);
    for index in 0..2 {
        let (lease, _) = world.lease(done, index).unwrap();
        if world.pool.leases()[&lease].offered {
            world.run(lease);
        } else {
            world.grant(lease, &Key::new("client"));
            world.run(lease);
        }
    }
    let request = world.signed(vec![fragment("waits")]);
    let waits = world.submit(&request);
    (world, done, waits)
}

/// A store with these records, which nobody leads.
fn store(records: &[Record]) -> MemoryJournal {
    let mut store = MemoryJournal::default();
    let term = store.claim(&candidate("before"), Duration::ZERO).unwrap();
    assert_eq!(term, Term(1));
    store.append(term, Seq(0), records).unwrap();
    store.release(term).unwrap();
    store
}

/// Counts how often it is asked, and for how many records.
struct Counting {
    inner: Box<dyn Records>,
    read: Arc<AtomicUsize>,
    away: bool,
}

impl Records for Counting {
    fn records(&mut self, at: &[Seq]) -> Result<Vec<Record>, JournalError> {
        self.read.fetch_add(at.len(), Ordering::SeqCst);
        if self.away {
            return Err(JournalError::Store { what: "be read", source: "it is away".into() });
        }
        self.inner.records(at)
    }
}

fn archive(records: &[Record], most: usize) -> (Archive, Arc<AtomicUsize>) {
    let read = Arc::<AtomicUsize>::default();
    let counting = Counting { inner: store(records).archive().unwrap(), read: read.clone(), away: false };
    (Archive::new(Box::new(counting), most), read)
}

#[test]
fn a_manager_that_begins_from_a_snapshot_shows_proofs_whole() {
    let (world, done, waits) = world();
    let mut store = store(&world.records);
    store.save_snapshot(world.pool.seq(), &world.pool.snapshot().unwrap()).unwrap();
    let now = world.now;
    let leader = Leader::alone(
        Box::new(store),
        claimant("second", 100 * HOUR),
        limits(),
        Timing::default(),
        1_000_000,
        Arc::new(move || now),
    )
    .unwrap();
    runtime().block_on(async {
        assert_eq!(leader.view().snapshot, Some(world.pool.seq().0), "it began from the snapshot");
        let outline = leader.ask(move |pool| pool.receipt_outline(done)).await.unwrap().unwrap();
        let (told, wanted) = (leader.archive().receipt(outline).await.unwrap(), world.receipt(done));
        assert_eq!(told.evidence.len(), wanted.evidence.len());
        assert!(wanted.envelopes.iter().all(|envelope| told.envelopes.contains(envelope)));
        let needs = leader.ask(move |pool| pool.needs(waits, now)).await.unwrap().unwrap();
        let (told, wanted) = (leader.archive().needs(needs).await.unwrap(), world.needs(waits));
        assert_eq!((told.len(), &told[0].passport, &told[0].evidence), (1, &wanted[0].passport, &wanted[0].evidence));
        leader.stop().await;
    });
}

#[test]
fn a_record_that_is_gone_or_is_another_is_said() {
    let (world, done, _) = world();
    let outline = world.pool.receipt_outline(done).unwrap();
    let at = outline.proofs[0].at;
    let place = usize::try_from(at.0 - 1).unwrap();
    let told = |change: &dyn Fn(&mut Vec<Record>)| -> Rejection {
        let mut store = store(&world.records);
        let archive = Archive::new(store.archive().unwrap(), 1 << 20);
        store.damage_records(change);
        runtime().block_on(archive.receipt(outline.clone())).unwrap_err()
    };
    let other = |records: &mut Vec<Record>, event: Event| records[place].event = event;
    let attested = |n: usize| match &world.records.iter().filter(|r| r.event.kind() == "attested").nth(n).unwrap().event
    {
        Event::Attested { passport, appointment, evidence, collateral } => {
            (passport.clone(), appointment.clone(), evidence.clone(), collateral.clone())
        }
        other => panic!("{other:?}"),
    };
    let Event::Attested { passport: own, .. } = &world.records[place].event else { panic!("not attested") };
    let another = (0..2).find(|n| attested(*n).0 != *own).unwrap();
    for (what, got, why) in [
        ("gone", "no such record", told(&|records| drop(records.remove(place)))),
        ("of another kind", "a record `", told(&|records| other(records, world.records[0].event.clone()))),
        (
            "another passport",
            "one of digest",
            told(&|records| {
                let (passport, appointment, evidence, collateral) = attested(another);
                other(records, Event::Attested { passport, appointment, evidence, collateral });
            }),
        ),
        (
            "other evidence",
            "one of digest",
            told(&|records| {
                let (_, appointment, evidence, collateral) = attested(another);
                other(records, Event::Attested { passport: own.clone(), appointment, evidence, collateral });
            }),
        ),
    ] {
        assert_eq!(why.check, "archive.record", "{what}: {why}");
        assert!(why.claim.contains(&format!("record {}", at.0)), "{what}: {why}");
        assert!(why.got.contains(got) && !why.fix.is_empty(), "{what}: {why}");
    }
}

#[test]
fn a_store_that_is_away_is_no_lost_record() {
    let (world, done, _) = world();
    let inner = store(&world.records).archive().unwrap();
    let archive = Archive::new(Box::new(Counting { inner, read: Arc::default(), away: true }), 1 << 20);
    let why = runtime().block_on(archive.receipt(world.pool.receipt_outline(done).unwrap())).unwrap_err();
    assert_eq!(why.check, "archive.store");
    assert!(why.got.contains("away") && !why.fix.is_empty(), "{why}");
}

/// A store that answers once it is let.
struct Slow {
    inner: Box<dyn Records>,
    go: mpsc::Receiver<()>,
}

impl Records for Slow {
    fn records(&mut self, at: &[Seq]) -> Result<Vec<Record>, JournalError> {
        let _ = self.go.recv();
        self.inner.records(at)
    }
}

#[test]
fn what_goes_to_agents_does_not_wait_for_what_clients_ask() {
    let (world, done, waits) = world();
    let door = || store(&world.records).archive().unwrap();
    let (let_go, go) = mpsc::channel();
    let clients = Archive::new(Box::new(Slow { inner: door(), go }), 1 << 20);
    let agents = clients.beside(door());
    let outline = world.pool.receipt_outline(done).unwrap();
    let needs = world.pool.needs(waits, world.now).unwrap();
    runtime().block_on(async {
        let asked = tokio::spawn(async move { clients.receipt(outline).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        let told = tokio::time::timeout(Duration::from_secs(5), agents.needs(needs)).await;
        assert_eq!(told.expect("it does not wait").unwrap().len(), 1);
        assert!(!asked.is_finished());
        drop(let_go);
        asked.await.unwrap().unwrap();
        assert!(agents.kept() > 0, "both keep what either read");
    });
}

#[test]
fn what_was_read_is_kept_within_bounds() {
    let mut world = World::new((0..40).map(|n| Machine::new(&format!("machine {n}"))));
    // A core of two for each: two to an enclave.
    let tasks: Vec<_> = (0..40).map(|n| world.submit(&world.signed(vec![fragment(&format!("waits {n}"))]))).collect();
    let needs = |task: TaskId| world.pool.needs(task, world.now).unwrap();
    let places: BTreeSet<Seq> = tasks.iter().flat_map(|t| needs(*t)).map(|n| n.proof.at).collect();
    let runtime = runtime();
    let (all, read) = archive(&world.records, usize::MAX);
    for round in 0..3 {
        for task in &tasks {
            runtime.block_on(all.needs(needs(*task))).unwrap();
        }
        assert_eq!(read.load(Ordering::SeqCst), places.len(), "round {round}: each is read once");
    }
    let one = all.kept() / places.len();
    let (few, read) = archive(&world.records, 4 * one);
    for task in &tasks {
        runtime.block_on(few.needs(needs(*task))).unwrap();
        assert!(few.kept() <= 4 * one);
    }
    assert!(few.kept() > 0 && read.load(Ordering::SeqCst) >= places.len());
    let (none, _) = archive(&world.records, 10);
    runtime.block_on(none.needs(needs(tasks[0]))).unwrap();
    assert_eq!(none.kept(), 0, "what is larger than all that may be kept is not");
}

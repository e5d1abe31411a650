//! Records: what cannot follow changes nothing, and what was stored is read back byte for byte.

use legation_core::{EnclaveId, LeaseId, Rejection, Revocable, Revocation, RevocationEpoch, Seq, Signer, TaskId, Term};
use legation_pool::{Command, Corrupt, Event, IdempotencyKey, LeaseEnd, Limits, Pool, Record, TaskState};

use crate::world::*;

/// A history in which everything happened, and its world.
fn history() -> World {
    let mut world = World::new([Machine::new("a"), Machine::new("b")]);
    let task = world.submit_granted(vec![fragment("map"), reading(fragment("sum"), vec![output_of(0)])]);
    world.refuse(world.lease(task, 0).unwrap().0);
    world.run(world.lease(task, 0).unwrap().0);
    let client = Key::new("client");
    let (sum, enclave) = world.lease(task, 1).unwrap();
    world.grant(sum, &client);
    world.begin_term(2).unwrap();
    world.arrive(enclave, &[sum]);
    world.run(sum);
    let cancelled = world.submit_granted(vec![fragment("given up")]);
    world.apply(Command::Cancel { task: cancelled }).unwrap();
    world.apply(Command::Drain { enclave }).unwrap();
    world.revoke(Revocable::Enclave(enclave));
    let fleeting = world.attested_until(&Machine::new("d"), world.now.plus(1));
    world.apply(fleeting).unwrap();
    world.arrive(Machine::new("d").id, &[]);
    world.wait(2);
    world.apply(world.attested(&Machine::new("d"))).unwrap();
    let (verifier, why) = (world.verifier.public_key().id(), Rejection::new("appraisal.tcb", "security version"));
    world.apply(Command::Withdraw { enclave: Machine::new("d").id, verifier, why }).unwrap();
    world.attest(Machine::new("c")).unwrap();
    world.arrive(Machine::new("c").id, &[]);
    world.submit_granted(vec![fragment("runs")]);
    world
}

#[test]
fn what_was_stored_is_read_back_byte_for_byte() {
    let world = history();
    let mut again = Pool::new(limits());
    let mut kinds = std::collections::BTreeSet::new();
    for (n, record) in (1..).zip(&world.records) {
        let stored = serde_json::to_string(record).unwrap();
        let read: Record = serde_json::from_str(&stored).unwrap();
        assert_eq!(&read, record);
        assert_eq!(serde_json::to_string(&read).unwrap(), stored);
        assert_eq!(read.seq, Seq(n), "a gap");
        again.absorb(&read).unwrap();
        let tag: serde_json::Value = serde_json::from_str(&stored).unwrap();
        kinds.insert(tag["event"]["event"].as_str().unwrap().to_owned());
    }
    assert_eq!(again, world.pool);
    again.audit().unwrap();
    // Every kind of record has been through this.
    assert_eq!(kinds.len(), 14, "{kinds:?}");
}

#[test]
fn a_forged_statement_in_a_record_is_not_read() {
    let world = history();
    let stored = serde_json::to_string(&world.records[0]).unwrap();
    let at = stored.find("\"sig\":\"").unwrap() + 7;
    let other = if stored.as_bytes()[at] == b'A' { "B" } else { "A" };
    let forged = format!("{}{other}{}", &stored[..at], &stored[at + 1..]);
    assert!(serde_json::from_str::<Record>(&forged).is_err());
}

#[test]
fn a_record_that_cannot_follow_changes_nothing() {
    let world = history();
    let (pool, last) = (&world.pool, world.records.last().unwrap());
    let next = |event: Event| Record { seq: Seq(pool.seq().0 + 1), event, ..last.clone() };
    let found = |wanted: fn(&Event) -> bool| world.records.iter().map(|r| r.event.clone()).find(wanted).unwrap();
    let (stranger, nobody) = (Machine::new("stranger").id, TaskId::new(module()));
    let here = Machine::new("c").id;
    let live = *pool.tasks().iter().find(|(_, t)| t.state == TaskState::Live).unwrap().0;
    let ended = *pool.tasks().iter().find(|(_, t)| t.state == TaskState::Completed).unwrap().0;
    let gone: EnclaveId = *pool.enclaves().iter().find(|(_, e)| e.revoked().is_some()).unwrap().0;
    let drain = || Event::Draining { enclave: here };
    let revoked = |enclave, epoch| Event::Revoked {
        revocation: Revocation {
            what: Revocable::Enclave(enclave),
            epoch: RevocationEpoch(epoch),
            at: world.now,
            why: String::new(),
        },
    };
    let (verifier, why) = (Key::new("nobody").public_key().id(), || Rejection::new("x", "y"));
    let over = |task, state| Event::TaskEnded { task, state };
    let submitted = Event::Submitted { request: Box::new((*pool.tasks()[&live].request).clone()), idempotency: None };
    let mut twin = World::new([]);
    twin.now = world.now;
    let attested = twin.apply(twin.attested(&Machine::new("c").reboot("twin"))).unwrap().records.remove(0).event;
    let cases = vec![
        ("another version", Record { version: 1, ..next(drain()) }),
        ("a gap", Record { seq: Seq(pool.seq().0 + 2), ..next(drain()) }),
        ("a record twice", Record { seq: pool.seq(), ..next(drain()) }),
        ("an older term", Record { term: Term(1), ..next(drain()) }),
        ("a term that never began", Record { term: Term(3), ..next(drain()) }),
        ("a term that begins again", next(found(|e| matches!(e, Event::TermBegan { .. })))),
        ("a stranger arrives", next(Event::Arrived { enclave: stranger })),
        ("a stranger leaves", next(Event::Left { enclave: stranger, why: String::new() })),
        ("a stranger drains", next(Event::Draining { enclave: stranger })),
        ("a stranger lapses", next(Event::Lapsed { enclave: stranger, why: why() })),
        ("one who is proven lapses", next(Event::Lapsed { enclave: here, why: why() })),
        ("a passport nobody gave is withdrawn", next(Event::Withdrawn { enclave: here, verifier, why: why() })),
        ("revoked twice", next(revoked(gone, 2))),
        ("an epoch left out", next(revoked(here, 3))),
        ("one who was revoked arrives", next(Event::Arrived { enclave: gone })),
        ("one who is away leaves", next(Event::Left { enclave: gone, why: String::new() })),
        ("a busy enclave is replaced", next(attested)),
        ("submitted twice", next(submitted)),
        ("a grant for an ended task", next(found(|e| matches!(e, Event::Granted { .. })))),
        ("a lease for an ended task", next(found(|e| matches!(e, Event::Leased { .. })))),
        (
            "a lease nobody has ends",
            next(Event::LeaseEnded { lease: LeaseId(99), why: LeaseEnd::Expired, charged: None }),
        ),
        ("a report of a lease that is over", next(found(|e| matches!(e, Event::Reported { .. })))),
        ("an unknown task ends", next(over(nobody, TaskState::Cancelled))),
        ("a task ends twice", next(over(ended, TaskState::Cancelled))),
        ("a task ends with leases", next(over(live, TaskState::Cancelled))),
    ];
    for (claim, record) in cases {
        let mut changed = pool.clone();
        let why = changed.absorb(&record).expect_err(claim);
        assert_eq!(changed, *pool, "{claim}: {why}");
    }
    let mut empty = Pool::new(Limits::default());
    let record = Record { seq: Seq(1), term: Term(0), ..next(found(|e| matches!(e, Event::Submitted { .. }))) };
    assert!(matches!(empty.absorb(&record), Err(Corrupt::Impossible { .. })), "a record before any term");
}

#[test]
fn a_pool_with_another_memory_reads_the_same_journal() {
    let world = history();
    for kept in [0, 1, 100] {
        let mut pool =
            Pool::new(Limits { ended_tasks_kept: kept, enclaves_max: 1, grant_seconds: 5, ..Limits::default() });
        for record in &world.records {
            pool.absorb(record).unwrap();
        }
        pool.audit().unwrap();
        assert_eq!(pool.leases().len(), world.pool.leases().len());
    }
}

#[test]
fn a_pool_with_a_larger_memory_reads_what_a_smaller_one_had_forgotten() {
    let mut world = World::with(Limits { ended_tasks_kept: 0, ..Limits::default() }, [Machine::new("a")]);
    let body = legation_core::Digest::of(b"body");
    for _ in 0..2 {
        let request = world.signed(vec![fragment("short")]);
        let key = IdempotencyKey { key: "the same".into(), body };
        world.submit_with(&request, Vec::new(), Some(key)).unwrap();
        world.apply(Command::Cancel { task: TaskId::new(request.digest()) }).unwrap();
    }
    for kept in [0, 1, 2] {
        let mut pool = Pool::new(Limits { ended_tasks_kept: kept, ..Limits::default() });
        for record in &world.records {
            pool.absorb(record).unwrap();
            pool.audit().unwrap();
        }
        assert_eq!(pool.tasks().len(), kept);
    }
}

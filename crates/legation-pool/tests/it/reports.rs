//! Reports: stale ones are refused; those that do not hold together cost the enclave the lease.

use legation_core::{
    Bytes, Digest, FragmentIndex, Fuel, LeaseId, MicroUsd, TaskId,
    dsse::sign,
    statement::{Grant, Outcome},
    task::WrappedKey,
};
use legation_pool::{Command, LeaseEnd, Phase};

use crate::world::*;

#[test]
fn a_stale_report_is_refused() {
    let mut world = World::new([Machine::new("a"), Machine::new("b")]);
    let task = world.submit_granted(vec![fragment("moves")]);
    let (lease, enclave) = world.lease(task, 0).unwrap();
    let late = world.reporting(enclave, world.ran(lease));
    world.lose(enclave);
    assert_eq!(world.refused(late), "pool.lease");
    let (second, other) = world.lease(task, 0).unwrap();
    let again = world.reporting(other, world.ran(second));
    world.apply(again.clone()).unwrap();
    assert_eq!(world.refused(again), "pool.lease", "the same report twice");
}

#[test]
fn nobody_reports_for_another() {
    let mut world = World::new([Machine::new("a"), Machine::new("b")]);
    let task = world.submit_granted(vec![fragment("mine")]);
    let (lease, enclave) = world.lease(task, 0).unwrap();
    let other = *world.pool.enclaves().keys().find(|id| **id != enclave).unwrap();
    let command = match world.reporting(enclave, world.ran(lease)) {
        Command::Report { report, aggregate, keys, attached, .. } => {
            Command::Report { enclave: other, report, aggregate, keys, attached }
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(world.refused(command), "pool.lease");
    assert_eq!(world.lease(task, 0), Some((lease, enclave)));
}

/// A task whose second fragment reads a sealed input and the output of the first, offered.
fn reducing() -> (World, TaskId, LeaseId) {
    let mut world = World::new([Machine::new("a"), Machine::new("b"), Machine::new("c")]);
    let request = world.signed(vec![fragment("map"), reading(fragment("sum"), vec![sealed("x", None), output_of(0)])]);
    let grant = Grant { fuel: Fuel(2_000_000), budget: MicroUsd(10), ..policy_grant(&request, &world.client) };
    let grant = sign(grant, &world.client);
    world.submit_with(&request, vec![grant], None).unwrap();
    let task = TaskId::new(request.digest());
    world.now = START.plus(60);
    world.run(world.lease(task, 0).unwrap().0);
    let (lease, _) = world.lease(task, 1).unwrap();
    let client = Key::new("client");
    world.grant(lease, &client);
    (world, task, lease)
}

#[test]
fn a_report_that_does_not_hold_together_costs_the_lease() {
    type Change = fn(&mut Ran);
    let cases: [(&str, Change); 29] = [
        ("another task", |r| r.report.task = TaskId::new(module())),
        ("another fragment", |r| r.report.fragment = FragmentIndex(0)),
        ("another module", |r| r.report.module = Digest::of(b"another")),
        ("no allocation", |r| {
            r.report.prev.remove(0);
        }),
        ("another allocation", |r| r.report.prev[0] = module()),
        ("no passport", |r| {
            r.report.prev.remove(1);
        }),
        ("no grant", |r| {
            r.report.prev.drain(2..4);
        }),
        ("grants out of order", |r| r.report.prev.swap(2, 3)),
        ("a grant twice", |r| r.report.prev.insert(3, r.report.prev[2])),
        ("no report behind its input", |r| {
            r.report.prev.pop();
        }),
        ("another report behind its input", |r| r.report.prev[4] = module()),
        ("other inputs", |r| r.report.inputs[0] = module()),
        ("an input too few", |r| {
            r.report.inputs.pop();
        }),
        ("too much fuel", |r| r.report.usage.fuel = Fuel(u64::MAX)),
        ("more fuel than was granted", |r| r.report.usage.fuel = Fuel(2_000_001)),
        ("dearer than was granted", |r| r.report.usage.micros = 60_000_000),
        ("too much time", |r| r.report.usage.micros = 61_000_001),
        ("too much memory", |r| r.report.usage.memory_peak = Bytes::mib(65)),
        ("begun after its end", |r| r.report.started = r.report.finished.plus(1)),
        ("begun before its lease", |r| r.report.started = START.minus(1)),
        ("ended in the future", |r| r.report.finished = START.plus(60 + 61)),
        ("no aggregate", |r| r.aggregate = None),
        ("an aggregate of another result", |r| r.aggregate.as_mut().unwrap().result = None),
        ("an aggregate over nothing", |r| r.aggregate.as_mut().unwrap().reports.clear()),
        ("an aggregate that rests on less", |r| r.aggregate.as_mut().unwrap().prev = vec![module()]),
        ("a failure with an aggregate", |r| r.report.outcome = Outcome::Failed { reason: "exit-1".into() }),
        ("no key of its output", |r| r.keys.clear()),
        ("a key for somebody else", |r| r.keys[0].recipient = module()),
        ("a key of 64 KiB", |r| r.keys[0] = WrappedKey { sealed: vec![0; 1 << 16], ..r.keys[0].clone() }),
    ];
    let (world, task, lease) = reducing();
    let honest = world.ran(lease);
    // Allocation, passport, two grants, one report: what the cases change.
    assert_eq!(honest.report.prev.len(), 5);
    for (claim, change) in cases {
        let (mut world, ..) = reducing();
        let (_, enclave) = world.lease(task, 1).unwrap();
        let mut ran = honest.clone();
        change(&mut ran);
        world.apply(world.reporting(enclave, ran)).unwrap();
        assert_ne!(world.phase(task, 1), Phase::Done, "{claim}");
        let (who, ended) = world.tries(task, 1)[0].clone();
        assert!(matches!(ended, Some(LeaseEnd::Refused { .. })) && who == enclave, "{claim}: {ended:?}");
        assert!(world.lease(task, 1).is_some_and(|(_, other)| other != enclave), "{claim}: it did not move");
    }
    let (mut world, ..) = reducing();
    did(&world.run(lease), &["reported #1", "completed"]);
}

#[test]
fn what_was_not_offered_cannot_be_reported() {
    let mut world = World::new([Machine::new("a")]);
    let request = world.signed(vec![reading(fragment("guessed"), vec![sealed("x", None)])]);
    let task = world.submit(&request);
    let (lease, enclave) = world.lease(task, 0).unwrap();
    // The grant is there, its key is not: so far, no offer. What the report rests on was seen in a twin world, where it was.
    let client = Key::new("client");
    let (grant, _) = world.grant_to(lease, &client);
    world.apply(Command::Grant { grant: Box::new(sign(grant, &client)), keys: Vec::new() }).unwrap();
    let mut twin = World::new([Machine::new("a")]);
    twin.submit(&request);
    twin.grant(lease, &client);
    let forged = twin.reporting(enclave, twin.ran(lease));
    world.apply(forged).unwrap();
    assert!(matches!(&world.tries(task, 0)[0].1, Some(LeaseEnd::Refused { .. })));
}

#[test]
fn an_output_that_others_read_must_be_there() {
    let mut world = World::new([Machine::new("a")]);
    let task = world.submit_granted(vec![fragment("map"), reading(fragment("sum"), vec![output_of(0)])]);
    let (lease, enclave) = world.lease(task, 0).unwrap();
    let mut ran = world.ran(lease);
    (ran.report.output, ran.keys) = (None, Vec::new());
    world.apply(world.reporting(enclave, ran)).unwrap();
    assert_eq!(world.phase(task, 0), Phase::Queued);
    // One that nobody reads need not be.
    let task = world.submit_granted(vec![fragment("silent")]);
    let (lease, enclave) = world.lease(task, 0).unwrap();
    let mut ran = world.ran(lease);
    (ran.report.output, ran.keys) = (None, Vec::new());
    did(&world.apply(world.reporting(enclave, ran)).unwrap(), &["reported #0", "completed"]);
}

#[test]
fn a_report_charges_what_it_used_and_never_more_than_was_committed() {
    // A core-hour costs a cent; a tenth of a core for a minute may cost 17 millionths.
    for (micros, charged) in [(0, 0), (1, 1), (3_600_000, 1), (36_000_000, 10), (61_000_000, 17)] {
        let mut world = World::new([Machine::new("a")]);
        let task = world.submit_granted(vec![fragment("paid")]);
        let (lease, enclave) = world.lease(task, 0).unwrap();
        // As long as it says has passed: what has not is not charged (metering.rs).
        world.now = world.now.plus(60);
        let mut ran = world.ran(lease);
        ran.report.usage.micros = micros;
        world.apply(world.reporting(enclave, ran)).unwrap();
        assert_eq!(world.pool.tasks().get(&task).unwrap().spent.0, charged, "{micros} us");
    }
}

#[test]
fn an_execution_begins_after_what_it_reads_was_written() {
    for (early, taken) in [(60, true), (61, false)] {
        let mut world = World::new([Machine::new("a")]);
        let task = world.submit_granted(vec![fragment("map"), reading(fragment("sum"), vec![output_of(0)])]);
        let (lease, enclave) = world.lease(task, 0).unwrap();
        // The clock of the first enclave is ahead, as far as is allowed.
        let mut ran = world.ran(lease);
        ran.report.finished = START.plus(60);
        world.apply(world.reporting(enclave, ran)).unwrap();
        let (lease, enclave) = world.lease(task, 1).unwrap();
        let client = Key::new("client");
        world.grant(lease, &client);
        let mut ran = world.ran(lease);
        (ran.report.started, ran.report.finished) = (START.plus(60).minus(early), START.plus(60));
        world.apply(world.reporting(enclave, ran)).unwrap();
        assert_eq!(world.phase(task, 1) == Phase::Done, taken, "{early} seconds early");
    }
}

#[test]
fn an_execution_ends_with_its_lease_and_its_request() {
    for (claim, life, late, taken) in [
        ("within its lease", HOUR, 105, true),
        ("within what clocks differ", HOUR, 105 + 60, true),
        ("after its lease", HOUR, 105 + 61, false),
        ("after its request", 100, 161, false),
    ] {
        let mut world = World::new([Machine::new("a")]);
        let mut asked = request("client", claim, world.now, vec![fragment("long")]);
        asked.expires = world.now.plus(life);
        let asked = sign(asked, &world.client);
        let grant = sign(policy_grant(&asked, &world.client), &world.client);
        world.submit_with(&asked, vec![grant], None).unwrap();
        let task = TaskId::new(asked.digest());
        let (lease, enclave) = world.lease(task, 0).unwrap();
        let mut ran = world.ran(lease);
        ran.report.finished = START.plus(late);
        // The manager has not looked at its clock for a while: nothing has expired yet.
        world.now = world.now.plus(late);
        world.apply(world.reporting(enclave, ran)).unwrap();
        assert_eq!(world.phase(task, 0) == Phase::Done, taken, "{claim}");
    }
}

#[test]
fn a_report_rests_on_a_passport_that_held_and_still_satisfies() {
    type Renew = fn(&mut legation_core::statement::Passport);
    let cases: [(&str, u64, Renew, bool); 4] = [
        ("a good one", 0, |_| {}, true),
        ("one that was over", 11, |p| p.expires = START.plus(10), false),
        ("one that did not hold yet", 0, |p| p.issued = START.plus(61), false),
        ("another product", 0, |p| p.claims.product.value = "older".into(), false),
    ];
    for (claim, later, renew, taken) in cases {
        let mut world = World::new([Machine::new("a")]);
        let mut asked = request("client", claim, world.now, vec![fragment("choosy")]);
        asked.require = "product == \"milan\"".parse().unwrap();
        let asked = sign(asked, &world.client);
        let grant = sign(policy_grant(&asked, &world.client), &world.client);
        world.submit_with(&asked, vec![grant], None).unwrap();
        let task = TaskId::new(asked.digest());
        let (lease, enclave) = world.lease(task, 0).unwrap();
        let appointment = world.appointment(&world.verifier, legation_core::statement::Office::Verifier);
        let machine = Machine::new("a");
        let mut passport = machine.passport(START, START.plus(100), &world.verifier, appointment.digest());
        renew(&mut passport);
        world.now = passport.issued;
        let renewed = Command::Attested {
            passport: Box::new(sign(passport, &world.verifier)),
            appointment: Box::new(appointment),
            evidence: Box::new(machine.evidence()),
            collateral: Vec::new(),
        };
        world.apply(renewed).unwrap();
        let mut ran = world.ran(lease);
        let finished = START.plus(later);
        (ran.report.started, ran.report.finished) = (finished, finished);
        world.now = world.now.max(finished);
        world.apply(world.reporting(enclave, ran)).unwrap();
        assert_eq!(world.phase(task, 0) == Phase::Done, taken, "{claim}");
    }
}

#[test]
fn a_report_names_no_grants_of_others() {
    let mut world = World::new([Machine::new("a").slots(4)]);
    let request = world.signed(vec![fragment("mine"), fragment("other")]);
    let task = world.submit(&request);
    let client = Key::new("client");
    let (lease, enclave) = world.lease(task, 0).unwrap();
    world.grant(lease, &client);
    world.grant(world.lease(task, 1).unwrap().0, &client);
    let mut ran = world.ran(lease);
    let all: std::collections::BTreeSet<_> = world.pool.tasks()[&task].grants.iter().map(|g| g.digest()).collect();
    ran.report.prev.truncate(2);
    ran.report.prev.extend(all);
    world.apply(world.reporting(enclave, ran)).unwrap();
    assert_ne!(world.phase(task, 0), Phase::Done);
}

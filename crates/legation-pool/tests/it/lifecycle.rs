//! What the operator says of enclaves, and clients that stay silent.

use legation_core::{
    Digest, Rejection,
    dsse::sign,
    monitor::{CallSet, Feature, Monitored, Verdict},
};
use legation_pool::{Command, LeaseEnd, Limits, Phase, Pool, TaskState};

use crate::world::*;

fn cordon(enclave: legation_core::EnclaveId) -> Command {
    Command::Cordon { enclave, why: "a fan is loud".into(), author: "operator".into() }
}

fn uncordon(enclave: legation_core::EnclaveId) -> Command {
    Command::Uncordon { enclave, author: "operator".into() }
}

#[test]
fn nothing_new_is_placed_on_one_that_is_cordoned() {
    let mut world = World::new([Machine::new("a")]);
    let runs = world.submit_granted(vec![fragment("runs")]);
    let (lease, enclave) = world.lease(runs, 0).unwrap();
    world.apply(cordon(enclave)).unwrap();
    assert!(world.apply(cordon(enclave)).unwrap().records.is_empty(), "cordoned twice");
    let waits = world.submit_granted(vec![fragment("waits")]);
    assert_eq!(world.phase(waits, 0), Phase::Queued);
    let why = world.pool.explain(waits, world.now).unwrap();
    assert_eq!(why[0].classes[0].why_not[0].why.check, "pool.held");
    // It holds when the enclave leaves, renews and returns; what runs there is done.
    world.run(lease);
    assert_eq!(world.state(runs), TaskState::Completed);
    world.lose(enclave);
    let renewed = world.attested(&world.machines[&enclave]);
    world.apply(renewed).unwrap();
    world.arrive(enclave, &[]);
    assert_eq!(world.phase(waits, 0), Phase::Queued);
    assert_eq!(world.pool.enclave_view(enclave, world.now).unwrap().hold.unwrap().why, "a fan is loud");
    world.apply(uncordon(enclave)).unwrap();
    assert!(world.lease(waits, 0).is_some());
}

#[test]
fn what_is_decommissioned_stays_out_until_that_is_lifted() {
    let mut world = World::new([Machine::new("a"), Machine::new("b").at("alpha", "eu-1", 2)]);
    let task = world.submit_granted(vec![fragment("moves")]);
    let (_, enclave) = world.lease(task, 0).unwrap();
    let out = Command::Decommission { enclave, why: "sold".into(), author: "operator".into() };
    let done = world.apply(out).unwrap();
    assert!(
        done.effects.iter().any(|e| matches!(e, legation_pool::Effect::Close { enclave: id, .. } if *id == enclave))
    );
    // Its work has moved.
    assert_ne!(world.lease(task, 0).unwrap().1, enclave);
    assert!(matches!(&world.tries(task, 0)[0].1, Some(LeaseEnd::EnclaveLost { why }) if why == "decommissioned: sold"));
    assert!(!world.pool.enclaves().contains_key(&enclave));
    // Neither it nor another boot of its machine comes back, until it may.
    let reboot = world.machines[&enclave].reboot("a, once more");
    assert_eq!(world.refused(world.attested(&world.machines[&enclave])), "pool.decommissioned");
    assert_eq!(world.refused(world.attested(&reboot)), "pool.decommissioned");
    assert_eq!(world.refused(Command::Arrived { enclave, running: Vec::new() }), "pool.enclave");
    let restored = Pool::restore(&world.pool.snapshot().unwrap(), limits()).unwrap();
    assert_eq!(restored, world.pool);
    world.apply(uncordon(enclave)).unwrap();
    world.attest(reboot).unwrap();
}

#[test]
fn a_drain_outlives_the_place_in_the_pool() {
    let mut world = World::new([Machine::new("a")]);
    let enclave = *world.pool.enclaves().keys().next().unwrap();
    world.apply(Command::Drain { enclave }).unwrap();
    world.lose(enclave);
    // Another boot takes the slot of its chip, and goes.
    let other = world.machines[&enclave].reboot("a, once more");
    let other = world.attest(other).unwrap();
    assert!(!world.pool.enclaves().contains_key(&enclave));
    world.arrive(other, &[]);
    world.lose(other);
    // The one that drained comes back: it drains still.
    let again = world.attested(&world.machines[&enclave]);
    world.apply(again).unwrap();
    world.arrive(enclave, &[]);
    let waits = world.submit_granted(vec![fragment("waits")]);
    assert_eq!(world.phase(waits, 0), Phase::Queued);
    assert_eq!(world.pool.enclaves()[&enclave].presence(), legation_pool::Presence::Draining);
}

#[test]
fn a_client_that_stays_silent_loses_its_task() {
    let limits = Limits { grant_seconds: 10, ..limits() };
    let mut world = World::with(limits, [Machine::new("a"), Machine::new("b")]);
    let request = world.signed(vec![fragment("one"), fragment("two"), fragment("three"), fragment("four")]);
    let task = world.submit(&request);
    // Leases that wait together count as one.
    for round in 1..=3 {
        assert_eq!(world.state(task), TaskState::Live, "round {round}");
        assert!(world.lease(task, 0).is_some(), "round {round}");
        world.wait(11);
    }
    let TaskState::Failed { reason } = world.state(task) else { panic!("{:?}", world.state(task)) };
    assert_eq!(reason, "task.not-granted: its client did not grant in time, 3 times in a row");
    // One that grants in between goes on.
    let request = sign(legation_core::statement::Request { name: "slow".into(), ..(*request).clone() }, &world.client);
    let task = world.submit(&request);
    world.wait(11);
    world.wait(11);
    let client = Key::new("client");
    let (lease, _) = world.lease(task, 0).unwrap();
    world.grant(lease, &client);
    world.wait(11);
    world.wait(11);
    assert_eq!(world.state(task), TaskState::Live);
}

#[test]
fn what_comes_late_changes_nothing() {
    let mut world = World::new([Machine::new("a"), Machine::new("b").at("alpha", "eu-1", 2)]);
    let task = world.submit_granted(vec![fragment("moves")]);
    let (lease, enclave) = world.lease(task, 0).unwrap();
    let ran = world.ran(lease);
    world.lose(enclave);
    let (moved, other) = world.lease(task, 0).unwrap();
    assert_ne!(other, enclave);
    // A report, a refusal, of a lease that has moved: by its old holder, or by the new one.
    let late = world.reporting(enclave, ran);
    assert_eq!(world.refused(late), "pool.lease");
    let why = || Rejection::new("agent.busy", "the engine");
    assert_eq!(world.refused(Command::Refuse { enclave, lease, why: why() }), "pool.lease");
    assert_eq!(world.refused(Command::Refuse { enclave, lease: moved, why: why() }), "pool.lease");
    // It comes back and says that it runs what it no longer has: it is told to stop, and nothing moves.
    let told = world.arrive(enclave, &[lease]);
    did(&told, &["arrived", &format!("-> cancel {lease}")]);
    // Once more, out of its turn: no record, nothing but the same word.
    did(&world.arrive(enclave, &[lease]), &[&format!("-> cancel {lease}")]);
    assert_eq!(world.lease(task, 0), Some((moved, other)));
    // The end of a channel that is gone already.
    world.lose(enclave);
    assert!(world.lose(enclave).records.is_empty());
}

#[test]
fn a_cordon_is_of_the_machine_and_a_drain_of_the_boot() {
    let mut world = World::new([Machine::new("a")]);
    let enclave = *world.pool.enclaves().keys().next().unwrap();
    world.apply(cordon(enclave)).unwrap();
    world.apply(Command::Drain { enclave }).unwrap();
    world.lose(enclave);
    let again = world.machines[&enclave].reboot("a, once more");
    let again = world.attest(again).unwrap();
    world.arrive(again, &[]);
    assert_eq!(world.pool.enclaves()[&again].presence(), legation_pool::Presence::Here);
    assert_eq!(world.pool.enclave_view(again, world.now).unwrap().hold.unwrap().why, "a fan is loud");
    let waits = world.submit_granted(vec![fragment("waits")]);
    assert_eq!(world.phase(waits, 0), Phase::Queued);
    world.apply(uncordon(again)).unwrap();
    assert!(world.lease(waits, 0).is_some());
}

#[test]
fn a_cordon_is_lifted_of_one_that_is_not_there() {
    let limits = Limits { enclaves_max: 1, ..limits() };
    let mut world = World::with(limits, [Machine::new("a")]);
    let enclave = *world.pool.enclaves().keys().next().unwrap();
    world.apply(cordon(enclave)).unwrap();
    world.lose(enclave);
    world.wait(2 * HOUR);
    // There is room for one: another machine takes its place, and is not cordoned.
    let other = world.attest(Machine::new("b")).unwrap();
    assert!(!world.pool.enclaves().contains_key(&enclave));
    assert!(world.pool.enclaves()[&other].hold().is_none());
    assert_eq!(world.apply(uncordon(enclave)).unwrap().records.len(), 1);
    assert_eq!(world.refused(uncordon(enclave)), "pool.enclave", "nothing is left of it");
    world.wait(2 * HOUR);
    let again = world.attested(&world.machines[&enclave]);
    world.apply(again).unwrap();
    assert!(world.pool.enclaves()[&enclave].hold().is_none());
}

/// Runs a task of one fragment whose report says this; whether its enclave is cordoned then.
fn run_said(world: &mut World, verdict: Verdict) -> bool {
    let task = world.submit_granted(vec![fragment("monitored")]);
    let (lease, enclave) = world.lease(task, 0).unwrap();
    let mut ran = world.ran(lease);
    let (trace, worst) = (Digest::of(b"calls"), Some(Feature::Fuel));
    ran.report.monitor = Some(Monitored { calls: CallSet::EMPTY, trace, verdict, evidence: 6700, worst });
    world.apply(world.reporting(enclave, ran)).unwrap();
    assert_eq!(world.state(task), TaskState::Completed);
    world.pool.enclaves()[&enclave].hold().is_some()
}

#[test]
fn alarms_of_its_monitor_cordon_an_enclave_where_the_operator_wants_that() {
    let mut world = World::new([Machine::new("a")]);
    assert!((0..9).all(|_| !run_said(&mut world, Verdict::Alarm)), "by default nobody is");
    // It is doubted a little, and no more by nine than by two.
    let enclave = *world.pool.enclaves().keys().next().unwrap();
    let trust = |after: u64| world.pool.enclave_view(enclave, world.now.plus(after)).unwrap().trust.unwrap();
    let said = trust(0);
    assert_eq!((said.doubt, said.dissents, said.alarms, said.found[0].hints), (90, 0, 9, 9));
    let later = trust(5 * 7 * 24 * HOUR);
    assert_eq!((later.doubt, later.alarms, later.last, later.found), (0, 9, None, Vec::new()));

    let mut world = World::with(Limits { alarms_max: 2, ..limits() }, [Machine::new("a")]);
    let enclave = *world.pool.enclaves().keys().next().unwrap();
    for (verdict, held) in
        [(Verdict::Alarm, false), (Verdict::Suspect, false), (Verdict::Normal, false), (Verdict::Alarm, true)]
    {
        assert_eq!(run_said(&mut world, verdict), held, "{verdict}");
    }
    let hold = world.pool.enclave_view(enclave, world.now).unwrap().hold.unwrap();
    assert!(hold.author == "monitor" && hold.why.contains("2 alarms"), "{hold:?}");
    let waits = world.submit_granted(vec![fragment("waits")]);
    assert_eq!(world.phase(waits, 0), Phase::Queued);
    let restored = Pool::restore(&world.pool.snapshot().unwrap(), limits()).unwrap();
    assert_eq!(restored.enclaves()[&enclave].alarms(), 2);

    // Who lifts the cordon forgives what was.
    world.apply(uncordon(enclave)).unwrap();
    assert_eq!(world.pool.enclave_view(enclave, world.now).unwrap().trust, None);
    world.run(world.lease(waits, 0).unwrap().0);
    assert!(!run_said(&mut world, Verdict::Alarm) && run_said(&mut world, Verdict::Alarm));
}

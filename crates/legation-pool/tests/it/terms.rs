//! A new manager takes over: older terms are refused, enclaves come back, and work moves only when they do not.

use legation_core::{LeaseId, UnixTime, dsse::sign, statement::Office};
use legation_pool::{Command, LeaseEnd, Phase, Presence};

use crate::world::*;

/// Two machines, and a task that runs on one of them.
fn running() -> (World, legation_core::TaskId, LeaseId, legation_core::EnclaveId) {
    let mut world = World::new([Machine::new("a"), Machine::new("b")]);
    let task = world.submit_granted(vec![fragment("long")]);
    let (lease, enclave) = world.lease(task, 0).unwrap();
    (world, task, lease, enclave)
}

#[test]
fn terms_only_grow() {
    let mut world = World::new([Machine::new("a")]);
    for term in [0, 1] {
        assert_eq!(world.begin_term(term).unwrap_err().check, "pool.term", "term {term}");
    }
    did(&world.begin_term(7).unwrap(), &["term began"]);
    assert_eq!(world.pool.term().0, 7);
    assert!(world.pool.enclaves().values().all(|e| e.presence() == Presence::Away { since: START }));
}

#[test]
fn only_an_appointed_manager_leads() {
    let mut world = World::new([]);
    let mut refused = |appointment| {
        world.refused(Command::BeginTerm { term: legation_core::Term(2), appointment: Box::new(appointment) })
    };
    let world_of = World::new([]);
    assert_eq!(refused(world_of.appointment(&world_of.manager, Office::Verifier)), "pool.term", "a verifier");
    assert_eq!(refused(world_of.appointment(&world_of.client, Office::Manager)), "pool.term", "another key");
    let dated = |from: u64, until: u64| {
        let mut appointment = world_of.appointment(&world_of.manager, Office::Manager).predicate().clone();
        (appointment.not_before, appointment.not_after) = (UnixTime(from), UnixTime(until));
        sign(appointment, &world_of.operator)
    };
    assert_eq!(refused(dated(START.0 - 10, START.0 - 1)), "pool.term", "over");
    assert_eq!(refused(dated(START.0 + 61, START.0 + 99)), "pool.term", "of tomorrow");
}

#[test]
fn a_manager_whose_appointment_is_over_allocates_nothing() {
    let mut world = World::new([Machine::new("a").slots(1)]);
    let first = world.submit_granted(vec![fragment("before")]);
    world.now = START.plus(1000 * HOUR - 60);
    world.apply(world.attested(&Machine::new("a").slots(1))).unwrap();
    world.tick();
    assert_eq!(world.state(first), legation_pool::TaskState::Expired);
    world.now = START.plus(1000 * HOUR + 1);
    let task = world.submit_granted(vec![fragment("after")]);
    assert_eq!(world.phase(task, 0), Phase::Queued);
    let missing = world.pool.explain(task, world.now).unwrap().remove(0).missing.unwrap();
    assert_eq!(missing.check, "pool.term");
}

#[test]
fn work_goes_on_when_its_enclave_returns() {
    let (mut world, task, lease, enclave) = running();
    world.begin_term(2).unwrap();
    did(&world.wait(15), &[]);
    did(&world.arrive(enclave, &[lease]), &["arrived"]);
    did(&world.wait(30), &[]);
    assert_eq!(world.lease(task, 0), Some((lease, enclave)));
    did(&world.run(lease), &["reported #0", "completed"]);
}

#[test]
fn work_moves_when_its_enclave_does_not_return() {
    let (mut world, task, lease, enclave) = running();
    let other = *world.pool.enclaves().keys().find(|id| **id != enclave).unwrap();
    world.begin_term(2).unwrap();
    world.arrive(other, &[]);
    let applied = world.wait(16);
    let lost = "lease-1 ended: the enclave was lost (it did not return to the new manager)";
    did(&applied, &[lost, "lease-2 for #0", "-> cancel lease-1", "-> offer lease-2"]);
    // Too late: what it still runs, it is told to stop.
    did(&world.arrive(enclave, &[lease]), &["arrived", "-> cancel lease-1"]);
    assert!(matches!(&world.tries(task, 0)[0].1, Some(LeaseEnd::EnclaveLost { .. })));
}

#[test]
fn an_offer_that_was_lost_is_made_again() {
    let (mut world, _, lease, enclave) = running();
    world.begin_term(2).unwrap();
    did(&world.arrive(enclave, &[]), &["arrived", "-> offer lease-1"]);
    // Also on a new channel under the same manager; an offer that it knows is not repeated.
    did(&world.arrive(enclave, &[]), &["-> offer lease-1"]);
    did(&world.arrive(enclave, &[lease]), &[]);
}

#[test]
fn a_grant_given_while_the_enclave_was_away_is_offered_when_it_returns() {
    let mut world = World::new([Machine::new("a")]);
    let request = world.signed(vec![fragment("late")]);
    let task = world.submit(&request);
    let (lease, enclave) = world.lease(task, 0).unwrap();
    world.begin_term(2).unwrap();
    did(&world.arrive(enclave, &[]), &["arrived"]);
    world.begin_term(3).unwrap();
    let client = Key::new("client");
    did(&world.grant(lease, &client), &["granted with 0 keys", "-> offer lease-1"]);
    did(&world.arrive(enclave, &[]), &["arrived", "-> offer lease-1"]);
}

#[test]
fn what_runs_for_nobody_is_stopped() {
    let mut world = World::new([Machine::new("a")]);
    let enclave = Machine::new("a").id;
    let applied = world.arrive(enclave, &[LeaseId(41), LeaseId(42)]);
    did(&applied, &["-> cancel lease-41", "-> cancel lease-42"]);
}

#[test]
fn what_was_finished_while_nobody_led_is_taken() {
    let (mut world, task, lease, enclave) = running();
    world.now = world.now.plus(60);
    let ran = world.ran(lease);
    // No manager for ten minutes: the lease is long over, its report is not.
    world.now = world.now.plus(600);
    world.begin_term(2).unwrap();
    did(&world.tick(), &[]);
    did(&world.wait(10), &[]);
    did(&world.arrive(enclave, &[lease]), &["arrived"]);
    did(&world.wait(10), &[]);
    did(&world.apply(world.reporting(enclave, ran)).unwrap(), &["reported #0", "completed"]);
    assert_eq!(world.phase(task, 0), Phase::Done);
    // But who comes back with nothing in time is not waited for any longer.
    let (mut world, _, lease, enclave) = running();
    world.now = world.now.plus(600);
    world.begin_term(2).unwrap();
    world.arrive(enclave, &[lease]);
    did(&world.wait(15), &[]);
    did(&world.wait(1), &["lease-1 ended: its time was over", "-> cancel lease-1"]);
}

#[test]
fn an_allocation_is_offered_with_the_appointment_of_who_made_it() {
    let (mut world, task, lease, enclave) = running();
    let before = world.appointment(&world.manager, Office::Manager);
    world.manager = Key::new("next manager");
    world.begin_term(2).unwrap();
    world.arrive(enclave, &[lease]);
    let parts = world.pool.offer(lease).unwrap();
    assert_eq!((parts.appointment.digest(), parts.term.0), (before.digest(), 2));
    assert_eq!(parts.allocation.prev[1], before.digest());
    did(&world.run(lease), &["reported #0", "completed"]);
    let receipt = world.receipt(task);
    assert!(receipt.envelopes.iter().any(|e| e.digest() == before.digest()));
}

#[test]
fn appointments_that_nothing_rests_on_are_forgotten() {
    let (mut world, task, lease, enclave) = running();
    for term in 2..20 {
        world.manager = Key::new(&format!("manager of term {}", term % 3));
        world.begin_term(term).unwrap();
        world.arrive(enclave, &[lease]);
    }
    world.run(lease);
    let parts = world.pool.receipt_outline(task).unwrap().whole(&world.records).unwrap();
    let appointments = parts.envelopes.iter().filter(|e| e.peek::<legation_core::statement::Appointment>().is_ok());
    // That of the allocation, that of the last manager, the verifier's.
    assert_eq!(appointments.count(), 3);
}

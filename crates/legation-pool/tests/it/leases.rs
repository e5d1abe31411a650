//! What becomes of leases: over, not granted, lost, moved; and capacity.

use legation_core::{Bytes, Millicores, Milligpus};
use legation_pool::{Command, LeaseEnd, Phase};

use crate::world::*;

#[test]
fn a_lease_ends_with_its_time_and_its_work_moves() {
    let mut world = World::new([Machine::new("a"), Machine::new("b")]);
    let task = world.submit_granted(vec![fragment("slow")]);
    let (lease, slow) = world.lease(task, 0).unwrap();
    // A minute to run, 30 seconds to grant, 15 of margin.
    did(&world.wait(105), &[]);
    let applied = world.wait(1);
    did(&applied, &["lease-1 ended: its time was over", "lease-2 for #0", "-> cancel lease-1", "-> offer lease-2"]);
    assert_eq!(world.tries(task, 0)[0], (slow, Some(LeaseEnd::Expired)));
    assert_ne!(world.lease(task, 0).unwrap().1, slow);
    let late = Command::Refuse { enclave: slow, lease, why: legation_core::Rejection::new("agent.busy", "") };
    assert_eq!(world.refused(late), "pool.lease");
}

#[test]
fn who_does_not_grant_in_time_waits_again_and_nobody_is_blamed() {
    for asleep in [31, 100_000] {
        let mut world = World::new([Machine::new("a")]);
        // Nobody granted: not even when all of the lease's time has passed is it the enclave's fault.
        let mut asked = request("client", "slow", world.now, vec![fragment("x")]);
        asked.expires = world.now.plus(2 * 100_000);
        let task = world.submit(&legation_core::dsse::sign(asked, &world.client));
        let (_, enclave) = world.lease(task, 0).unwrap();
        world.now = world.now.plus(asleep);
        let machine = Machine::new("a");
        world.apply(world.attested(&machine)).unwrap();
        did(&world.tick(), &["lease-1 ended: the client did not grant in time", "lease-2 for #0", "-> cancel lease-1"]);
        assert_eq!(world.lease(task, 0).unwrap().1, enclave);
    }
}

#[test]
fn a_lost_enclave_loses_its_work() {
    let mut world = World::new([Machine::new("a"), Machine::new("b")]);
    let task = world.submit_granted(vec![fragment("moves")]);
    let (lease, lost) = world.lease(task, 0).unwrap();
    let applied = world.lose(lost);
    did(&applied, &["left", "lease-1 ended: the enclave was lost (reset)", "lease-2 for #0", "-> offer lease-2"]);
    did(&world.lose(lost), &[]);
    // The promise says which one it replaces.
    let allocations = &world.pool.tasks()[&task].fragments[0].allocations;
    assert_eq!(allocations[1].prev[2], allocations[0].digest());
    // It comes back, still working: it is told to stop, and gets nothing of this fragment again.
    did(&world.arrive(lost, &[lease]), &["arrived", "-> cancel lease-1"]);
    let (second, other) = world.lease(task, 0).unwrap();
    world.refuse(second);
    assert_eq!((world.phase(task, 0), other == lost), (Phase::Queued, false));
}

#[test]
fn work_that_waits_goes_to_who_arrives() {
    let mut world = World::new([]);
    let task = world.submit_granted(vec![fragment("waits")]);
    assert_eq!(world.phase(task, 0), Phase::Queued);
    let id = world.attest(Machine::new("a")).unwrap();
    assert_eq!(world.phase(task, 0), Phase::Queued, "attested is not here");
    did(&world.arrive(id, &[]), &["arrived", "lease-1 for #0", "-> offer lease-1"]);
}

#[test]
fn capacity_is_slots_cpu_and_memory() {
    let wide = |cpu, memory| {
        let mut fragment = fragment("wide");
        (fragment.demand.cpu, fragment.demand.memory) = (Millicores(cpu), memory);
        fragment
    };
    // Two slots, two cores, 1 GiB.
    for (claim, first, second, fits) in [
        ("both fit", wide(1000, Bytes::mib(512)), wide(1000, Bytes::mib(512)), true),
        ("too little cpu", wide(1000, Bytes::mib(512)), wide(1001, Bytes::mib(512)), false),
        ("too little memory", wide(1000, Bytes::mib(512)), wide(1000, Bytes::mib(513)), false),
        ("more than there is", wide(1, Bytes::mib(1)), wide(2001, Bytes::mib(1)), false),
    ] {
        let mut world = World::new([Machine::new("a")]);
        let task = world.submit_granted(vec![first, second]);
        assert!(world.lease(task, 0).is_some(), "{claim}");
        assert_eq!(world.lease(task, 1).is_some(), fits, "{claim}");
    }
    let mut world = World::new([Machine::new("a").slots(1)]);
    let task = world.submit_granted(vec![fragment("first"), fragment("second")]);
    assert_eq!(world.phase(task, 1), Phase::Queued);
    assert_eq!(world.pool.explain(task, world.now).unwrap()[1].classes[0].why_not[0].why.check, "pool.capacity");
}

#[test]
fn a_machine_without_bounds_is_counted_too() {
    let mut machine = Machine::new("a").slots(u32::MAX);
    // The most that anybody may ask for.
    machine.configuration.capacity.cpu = legation_core::task::DEMAND_MAX.0;
    machine.configuration.capacity.memory = Bytes(u64::MAX);
    machine.configuration.rate.core_hour = legation_core::MicroUsd(0);
    let mut world = World::new([machine]);
    let mut whole = fragment("whole");
    whole.demand.cpu = legation_core::task::DEMAND_MAX.0;
    let task = world.submit_granted(vec![whole, fragment("more")]);
    assert!(world.lease(task, 0).is_some());
    assert_eq!(world.phase(task, 1), Phase::Queued);
}

#[test]
fn a_small_fragment_passes_a_large_one_that_finds_no_room() {
    let mut world = World::new([Machine::new("a")]);
    let mut large = fragment("large");
    large.demand.memory = Bytes::gib(2);
    let waits = world.submit_granted(vec![large]);
    let passes = world.submit_granted(vec![fragment("small")]);
    assert_eq!(world.phase(waits, 0), Phase::Queued);
    assert!(world.lease(passes, 0).is_some());
}

#[test]
fn one_that_finds_nothing_does_not_speak_for_others() {
    // The first fragment has tried the only enclave, the second is over its budget; the third is of the same kind, and fits.
    let mut world = World::new([Machine::new("a")]);
    let tried = world.submit_granted(vec![fragment("same")]);
    world.refuse(world.lease(tried, 0).unwrap().0);
    let mut poor = request("client", "poor", world.now, vec![fragment("same"), fragment("same")]);
    poor.budget = legation_core::MicroUsd(20);
    let poor = legation_core::dsse::sign(poor, &world.client);
    let poor = world.submit(&poor);
    let fits = world.submit_granted(vec![fragment("same")]);
    assert_eq!((world.phase(tried, 0), world.phase(poor, 1)), (Phase::Queued, Phase::Queued));
    assert!(world.lease(fits, 0).is_some());
}

#[test]
fn accelerators_are_leased_device_by_device() {
    let mut machine = Machine::new("a").slots(8);
    machine.gpus = vec!["gpu one", "gpu two"];
    let id = machine.id;
    let mut world = World::new([machine]);
    let ask = |world: &mut World, milli: u64| {
        let mut part = fragment("part");
        part.demand.gpus = Milligpus(milli);
        world.submit_granted(vec![part])
    };
    let first = ask(&mut world, 600);
    let second = ask(&mut world, 600);
    assert!(world.lease(first, 0).is_some() && world.lease(second, 0).is_some());
    let third = ask(&mut world, 600);
    assert_eq!(world.phase(third, 0), Phase::Queued, "800 are left, but on no device 600");
    let said = world.pool.explain(third, world.now).unwrap();
    assert!(format!("{said:?}").contains("0.400 of an accelerator"), "what is left of the best is told");
    let plain = world.submit_granted(vec![fragment("plain")]);
    assert!(world.lease(plain, 0).is_some(), "who wants none is not kept waiting");
    let (lease, _) = world.lease(first, 0).unwrap();
    world.run(lease);
    assert!(world.lease(third, 0).is_some());
    assert_eq!(world.pool.enclaves()[&id].gpus_left(), [400, 400]);
    let whole = ask(&mut world, 1000);
    assert_eq!(world.phase(whole, 0), Phase::Queued);
}

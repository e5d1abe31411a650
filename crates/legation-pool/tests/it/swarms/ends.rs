//! How tries, seats and rounds of swarms end: without harm to what goes on, once each, and paid for only where somebody joined.

use super::*;

/// A swarm of three with a fragment that runs for too long, and its copy.
struct Straggling {
    world: World,
    task: TaskId,
    slow: LeaseId,
    copy: LeaseId,
}

fn straggling(limits: Limits, machines_there: usize) -> Straggling {
    let mut world = World::with(limits, machines(machines_there));
    let asked = swarm_request(&world, terms(3, Some(2)), parts(4));
    let (task, _) = submit_swarm(&mut world, asked);
    join_all(&mut world, task);
    let (slow, _) = world.lease(task, 0).unwrap();
    for index in 1..4 {
        let (lease, _) = world.lease(task, index).unwrap();
        world.run(lease);
    }
    world.wait(4);
    let copy = world.pool.tasks()[&task].fragments[0].copy.unwrap();
    Straggling { world, task, slow, copy }
}

/// A seat that lasts no longer than a fragment may.
fn short(members: u16, least: Option<u16>) -> SwarmTerms {
    let terms = terms(members, least);
    SwarmTerms { seat: SeatDemand { time: Millis(60_000), ..terms.seat }, ..terms }
}

fn run_all(world: &mut World) {
    let held: Vec<_> = world.pool.leases().keys().copied().collect();
    for lease in held {
        world.run(lease);
    }
}

#[test]
fn a_swarm_that_loses_too_many_seats_fails_once() {
    let mut world = World::new(machines(2));
    let asked = swarm_request(&world, terms(2, Some(1)), parts(3));
    let (task, _) = submit_swarm(&mut world, asked);
    let stays = view(&world, task).seats[0].enclave;
    for n in 0..17 {
        assert_eq!(world.state(task), TaskState::Live, "after {n}");
        let seat = view(&world, task).seats.into_iter().find(|s| s.enclave != stays).unwrap();
        let why = legation_core::Rejection::new("swarm.chip", "chips");
        world.apply(Command::Refuse { enclave: seat.enclave, lease: seat.lease, why }).unwrap();
        let id = world.attest(Machine::new(&format!("fresh {n}")).slots(1)).unwrap();
        world.arrive(id, &[]);
    }
    let failed = world.state(task);
    assert!(matches!(&failed, TaskState::Failed { reason } if reason.contains("lost 17 members")), "{failed:?}");
    assert_eq!(world.records.iter().filter(|r| matches!(r.event, Event::TaskEnded { .. })).count(), 1);
    assert!(idle(&world));
}

#[test]
fn a_copy_that_is_not_granted_ends_alone() {
    let (mut world, task) = all_done_but_one();
    let slow = world.lease(task, 0);
    world.wait(10);
    assert!(world.pool.tasks()[&task].fragments[0].copy.is_some());
    // It is not granted, and is not tried again: what runs has all of its time.
    for seconds in [31, 31, 31] {
        world.wait(seconds);
        assert_eq!((world.state(task), world.lease(task, 0)), (TaskState::Live, slow));
    }
    assert_eq!(world.tries(task, 0).len(), 2);
    assert_eq!(world.tries(task, 0)[1].1, Some(LeaseEnd::NotGranted));
    world.run(slow.unwrap().0);
    assert_eq!(world.state(task), TaskState::Completed);
}

#[test]
fn copies_that_are_refused_fail_no_task_while_the_first_runs() {
    let Straggling { mut world, task, slow, copy } = straggling(Limits { attempts_max: 2, ..limits() }, 4);
    world.refuse(copy);
    assert_eq!((world.state(task), world.lease(task, 0).map(|l| l.0)), (TaskState::Live, Some(slow)));
    world.run(slow);
    assert_eq!(world.state(task), TaskState::Completed);
}

#[test]
fn the_first_good_report_counts_and_only_the_last_failure() {
    for (first, both) in [(true, true), (true, false), (false, true), (false, false)] {
        let Straggling { mut world, task, slow, copy } = straggling(limits(), 3);
        let (fails, stays) = if first { (slow, copy) } else { (copy, slow) };
        let applied = world.fail(fails, "out of luck");
        did(&applied, &[&format!("{fails} ended: it failed while another went on (out of luck)")]);
        assert_eq!((world.state(task), world.lease(task, 0).map(|l| l.0)), (TaskState::Live, Some(stays)));
        let blamed: Vec<_> = world.tries(task, 0).into_iter().filter_map(|(_, end)| end).collect();
        assert!(blamed.iter().all(|end| !end.blames_enclave()) && view(&world, task).seats.len() == 3);
        if !first {
            // Another copy would come to the same.
            world.wait(10);
            assert_eq!(world.tries(task, 0).len(), 2);
        }
        if both {
            world.fail(stays, "no more luck");
            let failed = world.state(task);
            assert!(matches!(&failed, TaskState::Failed { reason } if reason.contains("no more luck")), "{failed:?}");
        } else {
            world.run(stays);
            assert_eq!(world.state(task), TaskState::Completed);
        }
        assert!(idle(&world));
    }
}

#[test]
fn who_was_lost_is_taken_again_twice() {
    let mut world = World::new(machines(3));
    let asked = swarm_request(&world, terms(3, Some(2)), parts(8));
    let (task, _) = submit_swarm(&mut world, asked);
    join_all(&mut world, task);
    let lost = seat_of(&world, task, 0).enclave;
    for time in 1..=3 {
        world.lose(lost);
        assert_eq!(view(&world, task).seats.len(), 2);
        world.arrive(lost, &[]);
        assert_eq!(view(&world, task).seats.iter().any(|s| s.enclave == lost), time < 3, "lost {time} times");
        join_all(&mut world, task);
    }
    finish(&mut world, task);
    assert_eq!(world.state(task), TaskState::Completed);
}

#[test]
fn who_joins_at_the_last_second_has_all_of_the_time() {
    let mut world = World::new(machines(2));
    let asked = swarm_request(&world, short(2, None), parts(2));
    let (task, _) = submit_swarm(&mut world, asked);
    world.wait(15);
    join_all(&mut world, task);
    let lasts = |lease: &legation_pool::Lease| lease.until.since(lease.from);
    assert_eq!(world.pool.leases().values().map(lasts).collect::<Vec<_>>(), [60 + 30 + 15; 2]);
    // Whoever needs all of it is not blamed.
    world.now = world.now.plus(60 + 30 + 15);
    world.tick();
    run_all(&mut world);
    assert_eq!(world.state(task), TaskState::Completed);
    assert!(view(&world, task).gone.iter().all(|gone| gone.ended == Some(LeaseEnd::TaskEnded)));
}

#[test]
fn a_seat_in_which_nothing_can_begin_is_given_back() {
    let mut world = World::new(machines(2));
    let asked = swarm_request(&world, short(2, Some(1)), parts(2));
    let (task, _) = submit_swarm(&mut world, asked);
    join_all(&mut world, task);
    let (lease, free) = world.lease(task, 0).unwrap();
    world.run(lease);
    did(&world.wait(15), &[]);
    world.wait(1);
    let now = view(&world, task);
    assert!(now.seats.len() == 1 && now.seats[0].enclave != free && now.last_round == 1, "{now:?}");
    assert!(matches!(&now.gone[0].ended, Some(LeaseEnd::Dissolved { why }) if why.contains("too little time")));
    run_all(&mut world);
    assert_eq!(world.state(task), TaskState::Completed);
}

#[test]
fn seats_that_brought_a_task_on_may_be_given_again() {
    let mut world = World::with(Limits { attempts_max: 2, ..limits() }, machines(2));
    let asked = swarm_request(&world, short(2, None), parts(8));
    let (task, _) = submit_swarm(&mut world, asked);
    join_all(&mut world, task);
    for round in 2..5 {
        world.now = world.now.plus(20);
        run_all(&mut world);
        // Nothing could begin in either seat.
        world.tick();
        assert_eq!((world.state(task), view(&world, task).last_round), (TaskState::Live, round));
        join_all(&mut world, task);
    }
    finish(&mut world, task);
    assert_eq!(world.state(task), TaskState::Completed);
}

#[test]
fn a_seat_that_nobody_joined_by_costs_nothing() {
    for joined in 0..=2 {
        let mut world = World::new(machines(2));
        let asked = swarm_request(&world, terms(2, None), parts(2));
        let (task, _) = submit_swarm(&mut world, asked);
        for enclave in waiting(&world, task).into_iter().take(joined) {
            join(&mut world, task, enclave);
        }
        world.now = world.now.plus(36);
        world.apply(Command::Cancel { task }).unwrap();
        // A tenth of a core at a cent an hour, for 36 s each.
        let paid = MicroUsd(10 * joined as u64);
        assert_eq!((world.pool.tasks()[&task].spent, view(&world, task).charged), (paid, paid));
    }
}

#[test]
fn who_is_no_longer_proven_is_in_no_further_round() {
    let mut world = World::new(machines(2));
    let over = Machine::new("over").slots(1);
    let id = over.id;
    let attested = world.attested_until(&over, world.now.plus(20));
    world.apply(attested).unwrap();
    world.machines.insert(id, over);
    world.arrive(id, &[]);
    let asked = swarm_request(&world, terms(3, Some(2)), parts(6));
    let (task, _) = submit_swarm(&mut world, asked);
    join_all(&mut world, task);
    for name in ["m2", "m3"] {
        let more = world.attest(Machine::new(name).slots(1)).unwrap();
        world.arrive(more, &[]);
    }
    // Before a tick notices that its passport is over, another member is lost.
    world.now = world.now.plus(30);
    let lost = view(&world, task).seats.iter().map(|s| s.enclave).find(|e| *e != id).unwrap();
    world.lose(lost);
    let now = view(&world, task);
    assert_eq!((now.seats.len(), now.last_round), (3, 2));
    assert!(now.seats.iter().all(|s| s.enclave != id));
    let lapsed = |end: &Option<LeaseEnd>| matches!(end, Some(LeaseEnd::Lapsed { why }) if why.check == "pool.lapsed");
    assert!(now.gone.iter().any(|gone| gone.enclave == id && lapsed(&gone.ended)), "{:?}", now.gone);
}

#[test]
fn one_tenant_has_half_of_the_swarms_that_may_wait() {
    let mut world = World::new(machines(1));
    for _ in 0..128 {
        let asked = swarm_request(&world, terms(2, None), parts(1));
        submit_swarm(&mut world, asked);
    }
    let request = sign(swarm_request(&world, terms(2, None), parts(1)), &world.client);
    let command = Command::Submit { request: Box::new(request), grants: Vec::new(), idempotency: None };
    assert_eq!(world.refused(command.clone()), "pool.queue");
    // One of them has its seats: there is place for another.
    let id = world.attest(Machine::new("m1").slots(1)).unwrap();
    world.arrive(id, &[]);
    world.apply(command).unwrap();
}

#[test]
fn words_of_rounds_that_were_never_formed_are_not_kept() {
    let mut world = World::new(machines(4));
    let asked = swarm_request(&world, terms(3, Some(2)), parts(3));
    let (task, _) = submit_swarm(&mut world, asked);
    let members = waiting(&world, task);
    join(&mut world, task, members[0]);
    world.lose(members[1]);
    join_all(&mut world, task);
    let swarm = world.pool.tasks()[&task].swarm.clone().unwrap();
    assert_eq!(swarm.rounds.iter().map(|round| round.memberships.len()).collect::<Vec<_>>(), [0, 3]);
    finish(&mut world, task);
    // No receipt rests on them.
    assert!(world.pool.receipt(task, &world.records).is_ok());
    let copy = Pool::restore(&world.pool.snapshot().unwrap(), limits()).unwrap();
    assert_eq!(copy, world.pool);
}

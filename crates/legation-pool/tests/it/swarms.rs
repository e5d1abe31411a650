//! Swarms: all or none, formed by everybody, work that is pulled, members that are replaced, stragglers that are overtaken,
//! and everything given back. After each command the books are held against each other and the history is judged
//! (`World::apply`): all or none, no seat without release, no fragment outside a formed round, capacity, budget.

use legation_core::{
    Bytes, Digest, EnclaveId, FragmentIndex, LeaseId, MicroUsd, Millicores, Millis, Signed, TaskId,
    dsse::sign,
    prefer::{Axis, Preferences, Spread, SpreadRule},
    statement::Request,
    swarm::{Membership, SeatDemand, SwarmTerms},
    task::Fragment,
};
use legation_pool::{
    Applied, Command, Event, LeaseEnd, Limits, Outlook, Phase, Pool, SeatView, SwarmStage, SwarmView, TaskState,
};
use proptest::prelude::*;

use crate::world::*;

mod ahead;
mod ends;

fn terms(members: u16, least: Option<u16>) -> SwarmTerms {
    SwarmTerms {
        members,
        least,
        seat: SeatDemand {
            cpu: Millicores(100),
            memory: Bytes::mib(64),
            gpus: Default::default(),
            time: Millis(600_000),
        },
        speculate: Some(150),
    }
}

fn swarm_request(world: &World, terms: SwarmTerms, fragments: Vec<Fragment>) -> Request {
    let name = format!("swarm at {}", world.pool.seq().0);
    Request { swarm: Some(terms), ..request("client", &name, world.now, fragments) }
}

fn submit_swarm(world: &mut World, request: Request) -> (TaskId, Applied) {
    let request = sign(request, &world.client);
    let grant = sign(policy_grant(&request, &world.client), &world.client);
    let applied = world.submit_with(&request, vec![grant], None).unwrap();
    (TaskId::new(request.digest()), applied)
}

fn parts(n: usize) -> Vec<Fragment> {
    (0..n).map(|i| fragment(&format!("part {i}"))).collect()
}

fn machines(n: usize) -> Vec<Machine> {
    (0..n).map(|i| Machine::new(&format!("m{i}")).slots(1)).collect()
}

fn view(world: &World, task: TaskId) -> SwarmView {
    world.pool.swarm_view(task).unwrap()
}

/// What the client is asked to grant, with the records that the pool has in brief.
fn needs(world: &World, task: TaskId) -> Vec<legation_pool::Needs> {
    let brief = world.pool.needs(task, world.now).unwrap();
    brief.into_iter().map(|need| need.whole(&world.records).unwrap()).collect()
}

fn membership(world: &World, task: TaskId, enclave: EnclaveId) -> Signed<Membership> {
    let parts = world.pool.enlistment(task, enclave).unwrap();
    let key = &world.machines.get(&enclave).unwrap().key;
    let own = legation_core::Signer::public_key(key);
    sign(Membership::of(&parts.seating, parts.seating.digest(), own).unwrap(), key)
}

pub(crate) fn join(world: &mut World, task: TaskId, enclave: EnclaveId) -> Applied {
    let membership = Box::new(membership(world, task, enclave));
    world.apply(Command::Join { enclave, membership }).unwrap()
}

pub(crate) fn waiting(world: &World, task: TaskId) -> Vec<EnclaveId> {
    view(world, task).seats.iter().filter(|s| !s.joined).map(|s| s.enclave).collect()
}

fn join_all(world: &mut World, task: TaskId) {
    for enclave in waiting(world, task) {
        join(world, task, enclave);
    }
}

fn seat_of(world: &World, task: TaskId, index: u32) -> SeatView {
    view(world, task).seats.into_iter().find(|s| s.works_on == Some(FragmentIndex(index))).unwrap()
}

/// Runs what each member has, until the task ends.
fn finish(world: &mut World, task: TaskId) {
    let client = Key::new("client");
    for _ in 0..100 {
        for need in needs(world, task) {
            world.grant(need.lease, &client);
        }
        let held: Vec<_> = world.pool.leases().iter().filter(|(_, l)| l.offered && l.fragment.task == task).collect();
        let Some(lease) = held.first().map(|(id, _)| **id) else { return };
        world.run(lease);
    }
    panic!("it does not end: {:?}", view(world, task));
}

fn idle(world: &World) -> bool {
    world.pool.enclaves().values().all(|e| e.leases().is_empty()) && world.pool.leases().is_empty()
}

#[test]
fn a_swarm_is_seated_whole_or_not_at_all() {
    let mut world = World::new(machines(2));
    let asked = swarm_request(&world, terms(3, None), parts(3));
    let (task, applied) = submit_swarm(&mut world, asked);
    did(&applied, &["submitted", "granted with 0 keys"]);
    assert_eq!((view(&world, task).stage, idle(&world)), (SwarmStage::Waiting, true));
    // Others pass it; and take what it would need.
    let small = world.submit_granted(vec![fragment("small")]);
    let (lease, _) = world.lease(small, 0).unwrap();
    world.attest(Machine::new("m2").slots(1)).unwrap();
    let id = Machine::new("m2").id;
    did(&world.arrive(id, &[]), &["arrived"]);
    let applied = world.run(lease);
    did(&applied, &["reported #0", "completed", "round 1 seated by 3", "-> enlist", "-> enlist", "-> enlist"]);
    let now = view(&world, task);
    assert_eq!((now.stage, now.seats.len(), now.round), (SwarmStage::Forming, 3, None));
    // What is held is held against others too: nothing is left of three machines with one slot each.
    let next = world.submit_granted(vec![fragment("next")]);
    assert_eq!(world.phase(next, 0), Phase::Queued);
    let held = MicroUsd(3 * 167);
    assert_eq!(world.pool.tasks()[&task].committed, held);
    world.apply(Command::Cancel { task }).unwrap();
    assert!(world.lease(next, 0).is_some());
    assert_eq!(view(&world, task).stage, SwarmStage::Dissolved);
}

#[test]
fn work_begins_when_every_member_joined_and_is_pulled() {
    let mut world = World::new(machines(3));
    let mut fragments = parts(5);
    fragments.push(reading(fragment("sum"), (0..5).map(output_of).collect()));
    let asked = swarm_request(&world, terms(3, None), fragments);
    let (task, _) = submit_swarm(&mut world, asked);
    let members = waiting(&world, task);
    did(&join(&mut world, task, members[0]), &["joined round 1"]);
    did(&join(&mut world, task, members[0]), &[]);
    did(&join(&mut world, task, members[1]), &["joined round 1"]);
    assert!((0..5).all(|i| world.phase(task, i) == Phase::Queued));
    let applied = join(&mut world, task, members[2]);
    let wanted = ["joined round 1", "lease-4 for #0", "lease-5 for #1", "lease-6 for #2"];
    did(&applied, &[&wanted[..], &["-> offer lease-4", "-> offer lease-5", "-> offer lease-6"]].concat());
    // Whoever is free first gets the next, whoever it is.
    let second = seat_of(&world, task, 1);
    let (lease, _) = world.lease(task, 1).unwrap();
    did(&world.run(lease), &["reported #1", "lease-7 for #3", "-> offer lease-7"]);
    assert_eq!(seat_of(&world, task, 3).enclave, second.enclave);
    // The allocation rests on the words of all.
    let allocation = world.pool.tasks()[&task].fragments[3].allocations[0].clone();
    assert_eq!((allocation.prev.len(), allocation.seat.unwrap().lease), (5, second.lease));
    world.now = world.now.plus(36);
    finish(&mut world, task);
    assert_eq!(world.state(task), TaskState::Completed);
    assert!(idle(&world));
    // Three seats of a tenth of a core at a cent an hour, for 36 s each; nothing else is charged.
    let known = &world.pool.tasks()[&task];
    assert_eq!((known.spent, known.committed), (MicroUsd(30), MicroUsd(0)));
    assert!(known.fragments.iter().all(|f| f.done.as_ref().unwrap().charged == MicroUsd(0)));
    // Dissolution is one record.
    let ended: Vec<_> = world.records.iter().filter(|r| matches!(r.event, Event::SeatsEnded { .. })).collect();
    assert!(matches!(&ended[..], [r] if matches!(&r.event, Event::SeatsEnded { seats, .. } if seats.len() == 3)));
    // The pieces of the receipt hold what its allocations rest on.
    assert!(world.pool.receipt(task, &world.records).is_ok());
}

#[test]
fn a_lost_member_is_replaced_and_the_others_go_on() {
    let mut world = World::new(machines(4));
    let asked = swarm_request(&world, terms(3, Some(2)), parts(6));
    let (task, _) = submit_swarm(&mut world, asked);
    join_all(&mut world, task);
    let lost = seat_of(&world, task, 0);
    let applied = world.lose(lost.enclave);
    let lease = world.pool.tasks()[&task].fragments[0].attempts[0].lease;
    did(
        &applied,
        &[
            "left",
            &format!("{lease} ended: the enclave was lost (reset)"),
            "1 seats ended: the enclave was lost (reset)",
            "round 2 seated by 3",
            "-> enlist",
            "-> enlist",
            "-> enlist",
        ],
    );
    // Until the new round is formed, those who were members of the one before go on with it.
    let (other, _) = world.lease(task, 1).unwrap();
    let applied = world.run(other);
    assert!(
        applied
            .records
            .iter()
            .any(|r| matches!(&r.event, Event::Leased { allocation } if allocation.seat.unwrap().round == 1))
    );
    assert_eq!((view(&world, task).round, view(&world, task).last_round), (Some(1), 2));
    join_all(&mut world, task);
    assert_eq!(view(&world, task).round, Some(2));
    // Who was lost may be taken again.
    world.arrive(lost.enclave, &[]);
    let left = seat_of(&world, task, 2).enclave;
    world.lose(left);
    let now = view(&world, task).seats;
    assert!(now.len() == 3 && now.iter().any(|s| s.enclave == lost.enclave && s.lease != lost.lease), "{now:?}");
    finish(&mut world, task);
    assert_eq!(world.state(task), TaskState::Completed);
    assert!(idle(&world));
}

#[test]
fn who_does_not_join_loses_its_seat_and_so_does_who_refuses() {
    let mut world = World::new(machines(5));
    let asked = swarm_request(&world, terms(3, Some(2)), parts(3));
    let (task, _) = submit_swarm(&mut world, asked);
    let members = waiting(&world, task);
    join(&mut world, task, members[0]);
    let seat = view(&world, task).seats.iter().find(|s| s.enclave == members[1]).unwrap().lease;
    let why = legation_core::Rejection::new("swarm.passport", "the passport");
    let stranger = Command::Refuse { enclave: members[0], lease: seat, why: why.clone() };
    assert_eq!(world.refused(stranger), "pool.lease");
    world.apply(Command::Refuse { enclave: members[1], lease: seat, why }).unwrap();
    assert_eq!((view(&world, task).last_round, waiting(&world, task).len()), (2, 3));
    let members = waiting(&world, task);
    join(&mut world, task, members[0]);
    // Fifteen seconds to join.
    did(&world.wait(15), &[]);
    world.wait(1);
    let now = view(&world, task);
    assert_eq!((now.gone.len(), now.last_round), (3, 3));
    assert!(now.gone[1..].iter().all(|a| a.ended == Some(LeaseEnd::NotJoined)));
    join_all(&mut world, task);
    finish(&mut world, task);
    assert_eq!(world.state(task), TaskState::Completed);
}

#[test]
fn a_swarm_that_is_too_small_for_too_long_is_dissolved_and_seated_anew() {
    let limits = Limits { attempts_max: 2, ..limits() };
    let mut world = World::with(limits, machines(3));
    let asked = swarm_request(&world, terms(3, None), parts(3));
    let (task, _) = submit_swarm(&mut world, asked);
    join_all(&mut world, task);
    let lost = seat_of(&world, task, 0).enclave;
    world.lose(lost);
    assert_eq!(view(&world, task).seats.len(), 2);
    world.wait(60);
    assert_eq!(view(&world, task).seats.len(), 2);
    let applied = world.wait(1);
    assert!(
        brief(&applied)
            .iter()
            .any(|s| s == "2 seats ended: its seat was given up (fewer than 3 members for 60 seconds)")
    );
    assert!(idle(&world));
    assert_eq!((view(&world, task).stage, world.state(task)), (SwarmStage::Waiting, TaskState::Live));
    // Two of the three and another: it begins anew, and what was lost counts.
    let id = world.attest(Machine::new("m3").slots(1)).unwrap();
    world.arrive(id, &[]);
    assert_eq!((view(&world, task).seats.len(), view(&world, task).last_round), (3, 2));
    world.lose(id);
    world.wait(61);
    let failed = world.state(task);
    assert!(matches!(&failed, TaskState::Failed { reason } if reason.contains("seated 2 times")), "{failed:?}");
    assert!(idle(&world));
}

#[test]
fn a_straggler_is_overtaken_and_the_first_report_counts() {
    let mut world = World::new(machines(3));
    let asked = swarm_request(&world, terms(3, None), parts(4));
    let (task, _) = submit_swarm(&mut world, asked);
    join_all(&mut world, task);
    let slow = world.lease(task, 0).unwrap();
    for index in 1..4 {
        let (lease, _) = world.lease(task, index).unwrap();
        world.run(lease);
    }
    // The others took 2 s each by their reports: at 3 s it has not run for longer than half as long again.
    did(&world.wait(3), &[]);
    let applied = world.wait(1);
    assert_eq!(brief(&applied).len(), 2, "{:?}", brief(&applied));
    let copy = world.pool.tasks()[&task].fragments[0].copy.unwrap();
    let copier = world.pool.leases()[&copy].enclave;
    assert_ne!(copier, slow.1);
    assert!(view(&world, task).seats.iter().filter(|s| s.repeats).count() == 2 && view(&world, task).repeated == 1);
    did(&world.wait(1), &[]);
    let applied = world.run(copy);
    let wanted = [
        format!("{} ended: another was faster", slow.0),
        "reported #0".to_owned(),
        "3 seats ended: the task ended".to_owned(),
        "completed".to_owned(),
        format!("-> cancel {}", slow.0),
    ];
    assert_eq!(brief(&applied)[..5], wanted);
    assert!(!LeaseEnd::Superseded.blames_enclave());
    assert!(idle(&world));
}

#[test]
fn of_two_that_repeat_either_may_be_lost() {
    for first in [true, false] {
        let mut world = World::new(machines(4));
        let asked = swarm_request(&world, terms(3, Some(2)), parts(4));
        let (task, _) = submit_swarm(&mut world, asked);
        join_all(&mut world, task);
        let slow = world.lease(task, 0).unwrap();
        for index in 1..4 {
            let (lease, _) = world.lease(task, index).unwrap();
            world.run(lease);
        }
        world.wait(4);
        let copy = world.pool.tasks()[&task].fragments[0].copy.unwrap();
        let copier = world.pool.leases()[&copy].enclave;
        world.lose(if first { slow.1 } else { copier });
        let left = world.lease(task, 0).unwrap().0;
        assert_eq!(left, if first { copy } else { slow.0 });
        world.run(left);
        assert_eq!(world.state(task), TaskState::Completed);
    }
}

#[test]
fn nothing_is_repeated_where_nobody_asks_for_it() {
    let mut world = World::new(machines(3));
    let asked = swarm_request(&world, SwarmTerms { speculate: None, ..terms(3, None) }, parts(4));
    let (task, _) = submit_swarm(&mut world, asked);
    join_all(&mut world, task);
    for index in 1..4 {
        let (lease, _) = world.lease(task, index).unwrap();
        world.run(lease);
    }
    did(&world.wait(50), &[]);
}

#[test]
fn a_member_that_fails_a_fragment_is_replaced() {
    let mut world = World::new(machines(4));
    let asked = swarm_request(&world, terms(3, Some(2)), parts(3));
    let (task, _) = submit_swarm(&mut world, asked);
    join_all(&mut world, task);
    let (lease, bad) = world.lease(task, 0).unwrap();
    world.refuse(lease);
    let now = view(&world, task);
    assert!(now.seats.iter().all(|s| s.enclave != bad) && now.seats.len() == 3 && now.last_round == 2);
    join_all(&mut world, task);
    finish(&mut world, task);
    assert_eq!(world.state(task), TaskState::Completed);
}

/// A swarm of three whose fragments read what is granted one by one; all but the first are done.
fn all_done_but_one() -> (World, TaskId) {
    let mut world = World::new(machines(3));
    let fragments =
        (0..4).map(|i| reading(fragment(&format!("p{i}")), vec![sealed(&format!("in {i}"), None)])).collect();
    let request = sign(swarm_request(&world, terms(3, None), fragments), &world.client);
    let task = world.submit(&request);
    join_all(&mut world, task);
    let client = Key::new("client");
    for _ in 0..2 {
        for need in needs(&world, task) {
            world.grant(need.lease, &client);
        }
        for index in 1..4 {
            let lease = world.lease(task, index).filter(|(l, _)| world.pool.leases()[l].offered);
            if let Some((lease, _)) = lease {
                world.run(lease);
            }
        }
    }
    (world, task)
}

#[test]
fn inputs_are_granted_to_each_member_that_repeats() {
    let (mut world, task) = all_done_but_one();
    let client = Key::new("client");
    world.wait(10);
    let needed = needs(&world, task);
    let copy = world.pool.tasks()[&task].fragments[0].copy.unwrap();
    assert_eq!(needed.iter().map(|n| (n.lease, n.allocation.lease)).collect::<Vec<_>>(), [(copy, copy)]);
    did(&world.grant(copy, &client), &["granted with 1 keys", &format!("-> offer {copy}")]);
    world.run(copy);
    assert_eq!(world.state(task), TaskState::Completed);
}

#[test]
fn members_are_apart_as_asked_and_never_two_on_one_chip() {
    let spread =
        |axis| Preferences { spread: vec![Spread { axis, rule: SpreadRule::Distinct }], ..Preferences::default() };
    let all = || {
        vec![
            Machine::new("a").at("alpha", "eu-1", 1),
            Machine::new("b").at("alpha", "eu-1", 1),
            Machine::new("c").at("bravo", "eu-1", 2),
            Machine::new("d").at("bravo", "us-1", 3),
        ]
    };
    for (axis, seated) in [(Axis::Provider, 2), (Axis::Region, 2), (Axis::Chip, 3)] {
        for members in [2, 3] {
            let mut world = World::new(all());
            let asked = Request { prefer: spread(axis), ..swarm_request(&world, terms(members, None), parts(3)) };
            let (task, _) = submit_swarm(&mut world, asked);
            let got = view(&world, task).seats.len();
            assert_eq!(got, if members <= seated { usize::from(members) } else { 0 }, "{axis} {members}");
        }
    }
    // Two slots of one chip are no two members.
    let mut twin = Machine::new("twin");
    twin.chip = Machine::new("a").chip;
    twin.configuration.slot = 1;
    let mut world = World::with(Limits { slots_per_chip: 2, ..limits() }, [Machine::new("a"), twin]);
    let asked = swarm_request(&world, terms(2, None), parts(2));
    let (task, _) = submit_swarm(&mut world, asked);
    assert_eq!(view(&world, task).stage, SwarmStage::Waiting);
}

#[test]
fn what_can_never_be_is_refused_at_once() {
    let mut world = World::new(machines(2));
    type Change = fn(&mut Request);
    let cases: [(&str, Change); 14] = [
        ("swarm.members", |r| r.swarm.as_mut().unwrap().members = 0),
        ("swarm.members", |r| r.swarm.as_mut().unwrap().members = 1),
        ("swarm.members", |r| r.swarm.as_mut().unwrap().members = 65),
        ("swarm.least", |r| r.swarm.as_mut().unwrap().least = Some(0)),
        ("swarm.least", |r| r.swarm.as_mut().unwrap().least = Some(3)),
        ("swarm.speculate", |r| r.swarm.as_mut().unwrap().speculate = Some(0)),
        ("swarm.speculate", |r| r.swarm.as_mut().unwrap().speculate = Some(100)),
        ("swarm.seat", |r| r.swarm.as_mut().unwrap().seat.cpu = Millicores(0)),
        ("swarm.seat", |r| r.swarm.as_mut().unwrap().seat.cpu = Millicores(99)),
        ("swarm.seat", |r| r.swarm.as_mut().unwrap().seat.time = Millis(59_999)),
        ("swarm.seat", |r| r.swarm.as_mut().unwrap().seat.time = Millis(u64::MAX)),
        ("swarm.require", |r| {
            r.fragments[0].require = legation_core::Requirement::parse("region == \"eu-1\"").unwrap()
        }),
        ("swarm.spread", |r| r.prefer.spread = vec![Spread { axis: Axis::Chip, rule: SpreadRule::Same }]),
        ("request.budget", |r| r.budget = MicroUsd(100)),
    ];
    for (check, change) in cases {
        let mut asked = swarm_request(&world, terms(2, None), parts(2));
        change(&mut asked);
        let request = Box::new(sign(asked, &world.client));
        let command = Command::Submit { request, grants: Vec::new(), idempotency: None };
        assert_eq!(world.refused(command), check);
    }
}

#[test]
fn a_word_that_is_not_about_this_round_is_refused() {
    let mut world = World::new(machines(4));
    let asked = swarm_request(&world, terms(3, Some(2)), parts(3));
    let (task, _) = submit_swarm(&mut world, asked);
    let members = waiting(&world, task);
    let good = membership(&world, task, members[0]);
    let key = |world: &World, id: EnclaveId| Key::new(&world.machines[&id].chip["chip of ".len()..]);
    type Change = fn(&mut Membership);
    let cases: [(&str, Change); 4] = [
        ("another round", |m| m.round = 2),
        ("a list without somebody", |m| _ = m.members.pop()),
        ("another seating", |m| m.prev[1] = Digest::of(b"other")),
        ("another seat", |m| m.members[0].lease = LeaseId(99)),
    ];
    for (what, change) in cases {
        let mut said = good.predicate().clone();
        change(&mut said);
        let membership = Box::new(sign(said, &key(&world, members[0])));
        assert_eq!(world.refused(Command::Join { enclave: members[0], membership }), "pool.membership", "{what}");
    }
    // By the channel of another member, and by somebody without a seat.
    let membership = Box::new(good.clone());
    assert_eq!(world.refused(Command::Join { enclave: members[1], membership }), "pool.membership");
    let outside = world.machines.keys().find(|id| !members.contains(id)).copied().unwrap();
    let said = Membership {
        enclave: legation_core::Signer::public_key(&world.machines[&outside].key),
        ..good.predicate().clone()
    };
    let membership = Box::new(sign(said, &key(&world, outside)));
    assert_eq!(world.refused(Command::Join { enclave: outside, membership }), "pool.membership");
    // Of a round that was followed by another.
    world.lose(members[2]);
    assert_eq!(world.refused(Command::Join { enclave: members[0], membership: Box::new(good) }), "pool.membership");
}

#[test]
fn a_new_manager_keeps_the_swarm_and_snapshots_do() {
    let mut world = World::new(machines(3));
    let asked = swarm_request(&world, terms(3, None), parts(4));
    let (task, _) = submit_swarm(&mut world, asked);
    let members = waiting(&world, task);
    join(&mut world, task, members[0]);
    world.begin_term(2).unwrap();
    // Who had not joined is asked again when it comes.
    did(&world.arrive(members[0], &[]), &["arrived"]);
    did(&world.arrive(members[1], &[]), &["arrived", "-> enlist"]);
    world.wait(10);
    world.arrive(members[2], &[]);
    join_all(&mut world, task);
    let (lease, holder) = world.lease(task, 0).unwrap();
    world.begin_term(3).unwrap();
    did(&world.arrive(holder, &[lease]), &["arrived"]);
    let copy = Pool::restore(&world.pool.snapshot().unwrap(), limits()).unwrap();
    assert_eq!(copy, world.pool);
    // The others do not return: their seats go, the fragment that runs stays.
    world.wait(16);
    assert_eq!((view(&world, task).seats.len(), world.lease(task, 0)), (1, Some((lease, holder))));
}

#[test]
fn an_estimate_says_what_seats_would_come_to() {
    let mut world = World::new(machines(2));
    let asked = sign(swarm_request(&world, terms(2, None), parts(3)), &world.client);
    let before = world.pool.clone();
    let said = world.pool.estimate(asked.clone(), &[], world.now).unwrap();
    assert_eq!(world.pool, before);
    assert_eq!(said.swarm.as_ref().map(|s| (s.members, s.seats.len())), Some((2, 2)));
    assert_eq!(said.cost_max, MicroUsd(2 * 167));
    assert!(said.fragments.iter().all(|f| matches!(f.outlook, Outlook::InSwarm { .. })));
    world.submit_with(&asked, Vec::new(), None).unwrap();
    let chosen: Vec<_> = view(&world, TaskId::new(asked.digest())).seats.iter().map(|s| s.enclave).collect();
    let told: Vec<_> = said.swarm.unwrap().seats.iter().map(|p| p.enclave).collect();
    assert_eq!(chosen, told);
    let asked = sign(swarm_request(&world, terms(2, None), parts(3)), &world.client);
    let said = world.pool.estimate(asked, &[], world.now).unwrap();
    assert!(matches!(said.fragments[0].outlook, Outlook::Queued { .. }) && said.swarm.unwrap().seats.is_empty());
}

/// One thing that happens; numbers choose among what is there.
#[derive(Clone, Debug)]
enum Action {
    Submit { members: u16, least: u16, fragments: usize, reduce: bool, speculate: bool },
    Plain,
    Join(usize),
    JoinAll,
    Run(usize),
    Refuse(usize),
    Aloof(usize),
    Lose(usize),
    Arrive(usize),
    Reboot(usize),
    Revoke(usize),
    Drain(usize),
    Cancel(usize),
    BeginTerm,
    Wait(u64),
}

fn action() -> impl Strategy<Value = Action> {
    let pick = || 0..64_usize;
    prop_oneof![
        4 => (2..5_u16, 1..4_u16, 1..7_usize, any::<bool>(), any::<bool>()).prop_map(
            |(members, least, fragments, reduce, speculate)| Action::Submit { members, least, fragments, reduce, speculate }
        ),
        1 => Just(Action::Plain),
        6 => pick().prop_map(Action::Join),
        6 => Just(Action::JoinAll),
        12 => pick().prop_map(Action::Run),
        1 => pick().prop_map(Action::Refuse),
        1 => pick().prop_map(Action::Aloof),
        3 => pick().prop_map(Action::Lose),
        6 => pick().prop_map(Action::Arrive),
        1 => pick().prop_map(Action::Reboot),
        1 => pick().prop_map(Action::Revoke),
        1 => pick().prop_map(Action::Drain),
        1 => pick().prop_map(Action::Cancel),
        1 => Just(Action::BeginTerm),
        6 => prop_oneof![6 => 1..8_u64, 1 => 8..80_u64].prop_map(Action::Wait),
    ]
}

struct Story {
    world: World,
    terms: u64,
    boots: usize,
    tasks: Vec<TaskId>,
}

impl Story {
    fn new() -> Self {
        let limits = Limits { attempts_max: 4, ..limits() };
        Self { world: World::with(limits, machines(6)), terms: 1, boots: 6, tasks: Vec::new() }
    }

    fn pick<T: Copy>(all: &[T], n: usize) -> Option<T> {
        (!all.is_empty()).then(|| all[n % all.len()])
    }

    fn live(&self) -> Vec<TaskId> {
        self.tasks.iter().copied().filter(|t| self.world.state(*t) == TaskState::Live).collect()
    }

    fn act(&mut self, action: &Action) {
        let machines: Vec<_> = self.world.pool.enclaves().keys().copied().collect();
        let offered: Vec<_> = self.world.pool.leases().iter().filter(|(_, l)| l.offered).map(|(id, _)| *id).collect();
        let here =
            |world: &World, id: &EnclaveId| world.pool.enclaves()[id].presence() == legation_pool::Presence::Here;
        match action {
            Action::Submit { members, least, fragments, reduce, speculate } => {
                let mut list = parts(*fragments);
                if *reduce {
                    let outputs = (0..u32::try_from(*fragments).unwrap()).map(output_of).collect();
                    list.push(reading(fragment("sum"), outputs));
                }
                let mut asked = terms(*members, Some((*least).min(*members)));
                asked.speculate = speculate.then_some(150);
                let asked = swarm_request(&self.world, asked, list);
                let (task, _) = submit_swarm(&mut self.world, asked);
                self.tasks.push(task);
            }
            Action::Plain => drop(self.world.submit_granted(vec![fragment("plain")])),
            Action::Join(n) => {
                let all: Vec<_> =
                    self.live().iter().flat_map(|t| waiting(&self.world, *t).into_iter().map(|e| (*t, e))).collect();
                if let Some((task, enclave)) = Self::pick(&all, *n).filter(|(_, e)| here(&self.world, e)) {
                    join(&mut self.world, task, enclave);
                }
            }
            Action::JoinAll => {
                for task in self.live() {
                    for enclave in waiting(&self.world, task) {
                        if here(&self.world, &enclave) && waiting(&self.world, task).contains(&enclave) {
                            join(&mut self.world, task, enclave);
                        }
                    }
                }
            }
            Action::Run(n) => {
                if let Some(lease) = Self::pick(&offered, *n) {
                    let enclave = self.world.pool.leases()[&lease].enclave;
                    if here(&self.world, &enclave) {
                        self.world.run(lease);
                    }
                }
            }
            Action::Refuse(n) => {
                if let Some(lease) = Self::pick(&offered, *n) {
                    self.world.refuse(lease);
                }
            }
            Action::Aloof(n) => {
                let seats: Vec<_> = self
                    .live()
                    .iter()
                    .flat_map(|t| view(&self.world, *t).seats)
                    .map(|s| (s.lease, s.enclave))
                    .collect();
                if let Some((lease, enclave)) = Self::pick(&seats, *n) {
                    let why = legation_core::Rejection::new("swarm.chip", "chips");
                    self.world.apply(Command::Refuse { enclave, lease, why }).unwrap();
                }
            }
            Action::Lose(n) => drop(Self::pick(&machines, *n).map(|id| self.world.lose(id))),
            Action::Arrive(n) => {
                if let Some(id) = Self::pick(&machines, *n)
                    && self.world.pool.enclaves()[&id].revoked().is_none()
                {
                    // It keeps what it works on.
                    let running: Vec<_> = self
                        .world
                        .pool
                        .leases()
                        .iter()
                        .filter(|(_, l)| l.enclave == id && l.offered)
                        .map(|(l, _)| *l)
                        .collect();
                    self.world.arrive(id, &running);
                }
            }
            Action::Reboot(n) => {
                if let Some(old) = Self::pick(&machines, *n).filter(|id| !here(&self.world, id)) {
                    self.boots += 1;
                    let new = self.world.machines[&old].reboot(&format!("m{}", self.boots)).slots(1);
                    if let Ok(id) = self.world.attest(new) {
                        self.world.arrive(id, &[]);
                    }
                }
            }
            Action::Revoke(n) => {
                if let Some(id) = Self::pick(&machines, *n) {
                    self.world.revoke(legation_core::Revocable::Enclave(id));
                    self.boots += 1;
                    if let Ok(id) = self.world.attest(Machine::new(&format!("n{}", self.boots)).slots(1)) {
                        self.world.arrive(id, &[]);
                    }
                }
            }
            Action::Drain(n) => {
                if let Some(enclave) =
                    Self::pick(&machines, *n).filter(|id| self.world.pool.enclaves()[id].revoked().is_none())
                {
                    self.world.apply(Command::Drain { enclave }).unwrap();
                }
            }
            Action::Cancel(n) => {
                if let Some(task) = Self::pick(&self.live(), *n) {
                    self.world.apply(Command::Cancel { task }).unwrap();
                }
            }
            Action::BeginTerm => {
                self.terms += 1;
                self.world.begin_term(self.terms).unwrap();
            }
            Action::Wait(seconds) => drop(self.world.wait(*seconds)),
        }
        self.nobody_is_idle_while_work_waits();
    }

    /// A free member of the formed round that could take a fragment that waits, would have it.
    fn nobody_is_idle_while_work_waits(&self) {
        for id in self.live() {
            let task = &self.world.pool.tasks()[&id];
            let swarm = task.swarm.as_ref().unwrap();
            let Some(round) = swarm.formed() else { continue };
            let free = swarm.seats.iter().filter(|(lease, s)| {
                let known = &self.world.pool.enclaves()[&s.enclave];
                let member = round.seating.seats.iter().any(|said| said.member.lease == **lease);
                member
                    && s.work.is_none()
                    && here_and_proven(known, self.world.now)
                    && self.world.now.plus(60 + 30 + 15) <= s.until
            });
            let free: Vec<_> = free.map(|(_, s)| s.enclave).collect();
            for state in task.fragments.iter().filter(|f| f.phase == Phase::Queued) {
                let failed = |e: &EnclaveId| {
                    state
                        .attempts
                        .iter()
                        .any(|a| a.enclave == *e && a.ended.as_ref().is_some_and(LeaseEnd::blames_enclave))
                };
                assert!(free.iter().all(failed), "somebody is idle while work waits: {:?}", view(&self.world, id));
            }
        }
    }
}

fn here_and_proven(enclave: &legation_pool::Enclave, now: legation_core::UnixTime) -> bool {
    let proven = enclave.proofs().any(|p| now <= p.expires);
    let trusted = enclave.revoked().is_none() && enclave.cordon().is_none();
    enclave.presence() == legation_pool::Presence::Here && trusted && proven
}

#[test]
fn whatever_dies_swarms_are_whole_or_not_and_leave_nothing_behind() {
    let (mut completed, mut replaced, mut repeated, mut dissolved) = (0, 0, 0, 0);
    let config = ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let tally = std::cell::RefCell::new(Vec::new());
    let result = runner.run(&prop::collection::vec(action(), 1..90), |actions| {
        let mut story = Story::new();
        actions.iter().for_each(|action| story.act(action));
        for task in story.tasks.clone() {
            let seen = view(&story.world, task);
            let dissolved = seen.gone.iter().any(|a| matches!(a.ended, Some(LeaseEnd::Dissolved { .. })));
            tally.borrow_mut().push((story.world.state(task), seen.last_round, seen.repeated, dissolved));
            if story.world.state(task) == TaskState::Live {
                story.world.apply(Command::Cancel { task }).unwrap();
            }
        }
        let seats = |id: &LeaseId| story.world.pool.seat_task(*id).is_some();
        assert!(story.world.pool.enclaves().values().all(|e| !e.leases().iter().any(seats)), "a seat is left");
        let restored =
            Pool::restore(&story.world.pool.snapshot().unwrap(), Limits { attempts_max: 4, ..limits() }).unwrap();
        assert_eq!(restored, story.world.pool);
        for record in &story.world.records {
            let text = serde_json::to_string(record).unwrap();
            let read: legation_pool::Record = serde_json::from_str(&text).unwrap();
            assert_eq!(&read, record);
        }
        Ok(())
    });
    result.unwrap();
    for (state, rounds, copies, broken) in tally.into_inner() {
        completed += usize::from(state == TaskState::Completed);
        replaced += usize::from(rounds > 1);
        repeated += usize::from(copies > 0);
        dissolved += usize::from(broken);
    }
    assert!(
        completed > 5 && replaced > 5 && repeated > 0 && dissolved > 0,
        "{completed} {replaced} {repeated} {dissolved}"
    );
}

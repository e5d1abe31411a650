//! Work that makes way: for whom, when, and what becomes of it.

use legation_core::{
    EnclaveId, FragmentId, FragmentIndex, LeaseId, Millicores, Millis, TaskId, TenantId, dsse::sign, prefer::Priority,
    task::Fragment,
};
use legation_pool::{AccountTerms, Command, Event, LeaseEnd, Limits, Phase, Quota, TaskState};

use crate::world::*;

fn account(world: &mut World, name: &str, may_preempt: bool, preemptible: bool) {
    let terms = AccountTerms { may_preempt, preemptible, priority_max: Priority(9), ..AccountTerms::default() };
    let tenant = Some(TenantId::new(name).unwrap());
    world.apply(Command::SetAccount { tenant, terms, as_of: None, author: "operator".into() }).unwrap();
}

fn submit(world: &mut World, of: &str, priority: u8, fragments: Vec<Fragment>) -> TaskId {
    let name = format!("{of} at {}", world.pool.seq().0);
    let mut asked = request("client", &name, world.now, fragments);
    asked.tenant = TenantId::new(of).unwrap();
    asked.prefer.priority = Priority(priority);
    let asked = sign(asked, &world.client);
    let grant = sign(policy_grant(&asked, &world.client), &world.client);
    world.submit_with(&asked, vec![grant], None).unwrap();
    TaskId::new(asked.digest())
}

fn cores(cpu: u64) -> Fragment {
    let mut piece = fragment("piece");
    (piece.demand.cpu, piece.demand.time) = (Millicores(cpu), Millis(600_000));
    piece
}

fn first(task: TaskId) -> FragmentId {
    FragmentId { task, index: FragmentIndex(0) }
}

fn makes_way(world: &World, task: TaskId) -> bool {
    world.lease(task, 0).is_some_and(|(lease, _)| world.pool.leases()[&lease].preempted.is_some())
}

/// A pool with one machine of two slots, held by two victims of which the second began later.
fn held() -> (World, TaskId, TaskId) {
    let mut world = World::new([Machine::new("a")]);
    account(&mut world, "victim", false, true);
    account(&mut world, "urgent", true, false);
    let older = submit(&mut world, "victim", 4, vec![cores(500)]);
    world.wait(60);
    let newer = submit(&mut world, "victim", 4, vec![cores(500)]);
    world.wait(1);
    (world, older, newer)
}

#[test]
fn more_urgent_work_takes_a_place_after_a_grace() {
    let (mut world, older, newer) = held();
    let waits = submit(&mut world, "victim", 4, vec![cores(500)]);
    let urgent = submit(&mut world, "urgent", 7, vec![cores(500)]);
    // The one with the least work lost makes way; its end is in sight, and it may report until then.
    assert_eq!((makes_way(&world, older), makes_way(&world, newer)), (false, true));
    let view = world.pool.task_view(newer).unwrap();
    let preempted = view.fragments[0].preempted.clone().unwrap();
    assert_eq!((preempted.by, preempted.until), (Some(first(urgent)), world.now.plus(30)));
    assert!(world.pool.task_view(urgent).unwrap().fragments[0].claim.is_some());
    // Nobody slips in when the other slot becomes free: the claimant does, and the victim is spared.
    let (lease, _) = world.lease(older, 0).unwrap();
    world.run(lease);
    assert!(world.lease(urgent, 0).is_some(), "the claimant waits for its place while there is room");
    assert!(!makes_way(&world, newer));
    assert_eq!(world.phase(waits, 0), Phase::Queued);
    // Once more, to the end.
    let second = submit(&mut world, "urgent", 7, vec![cores(500)]);
    assert!(makes_way(&world, newer));
    let victim = world.lease(newer, 0).unwrap();
    world.wait(30);
    assert!(world.lease(newer, 0).is_some());
    let done = world.wait(1);
    let fragment = first(newer);
    let tenant = TenantId::new("urgent").unwrap();
    let end = LeaseEnd::Preempted { by: Some(first(second)), tenant: Some(tenant), priority: Priority(7) };
    let ended = Event::LeaseEnded { lease: victim.0, why: end.clone(), charged: None };
    assert_eq!(done.records[0].event, ended);
    assert!(
        done.effects.iter().any(|e| matches!(e, legation_pool::Effect::Cancel { lease, .. } if *lease == victim.0))
    );
    assert_eq!(world.lease(second, 0).map(|(_, enclave)| enclave), Some(victim.1));
    // No blame, no try, and the front of its tenant's queue: before the one that waited longer.
    assert_eq!(world.tries(newer, 0), [(victim.1, Some(end))]);
    let (lease, _) = world.lease(urgent, 0).unwrap();
    world.run(lease);
    assert_eq!(
        world.lease(newer, 0).map(|(_, enclave)| enclave),
        Some(victim.1),
        "{fragment} is not tried there again"
    );
    assert_eq!(world.phase(waits, 0), Phase::Queued);
    // What it reports after its end is refused, and changes nothing.
    let stale =
        Command::Refuse { enclave: victim.1, lease: victim.0, why: legation_core::Rejection::new("late", "it") };
    assert_eq!(world.refused(stale), "pool.lease");
}

#[test]
fn only_where_both_accounts_allow_and_it_is_more_urgent() {
    let tried = |claims: bool, yields: bool, priority: u8, ours: u8| {
        let mut world = World::new([Machine::new("a").slots(1)]);
        account(&mut world, "victim", true, yields);
        account(&mut world, "urgent", claims, true);
        let victim = submit(&mut world, "victim", priority, vec![cores(500)]);
        submit(&mut world, "urgent", ours, vec![cores(500)]);
        makes_way(&world, victim)
    };
    assert!(tried(true, true, 4, 5));
    assert!(!tried(false, true, 4, 9), "the claimant may not push");
    assert!(!tried(true, false, 4, 9), "the victim may not be pushed");
    assert!(!tried(true, true, 5, 5), "no more urgent");
}

#[test]
fn nobody_is_pushed_aside_in_vain_or_too_often() {
    let (mut world, older, newer) = held();
    // What fits nowhere, even in an empty machine, pushes nobody.
    submit(&mut world, "urgent", 9, vec![cores(4000)]);
    assert!(!makes_way(&world, older) && !makes_way(&world, newer));
    // What needs both places has both make way, and no more than those.
    let wide = submit(&mut world, "urgent", 8, vec![cores(1600)]);
    assert!(makes_way(&world, older) && makes_way(&world, newer));
    // Consent that is taken back does not undo what was recorded; a claimant that ends does.
    world.apply(Command::Cancel { task: wide }).unwrap();
    assert!(!makes_way(&world, older) && !makes_way(&world, newer));
    // Twice is enough, and pushed work pushes nobody.
    account(&mut world, "victim", true, true);
    let least = submit(&mut world, "victim", 1, vec![cores(100)]);
    for _ in 0..3 {
        let urgent = submit(&mut world, "urgent", 7, vec![cores(1900)]);
        world.wait(31);
        if let Some((lease, _)) = world.lease(urgent, 0) {
            world.run(lease);
        } else {
            world.apply(Command::Cancel { task: urgent }).unwrap();
        }
        world.wait(1);
    }
    let pushed = |task| {
        let tries = world.tries(task, 0);
        tries.iter().filter(|(_, end)| matches!(end, Some(LeaseEnd::Preempted { .. }))).count()
    };
    assert_eq!((pushed(older), pushed(newer), pushed(least)), (2, 2, 0));
    assert_eq!(world.state(older), TaskState::Live);
}

#[test]
fn a_claim_ends_with_its_enclave() {
    let (mut world, older, newer) = held();
    let enclave: EnclaveId = world.lease(older, 0).unwrap().1;
    let urgent = submit(&mut world, "urgent", 7, vec![cores(500)]);
    assert!(makes_way(&world, newer));
    world.apply(Command::Drain { enclave }).unwrap();
    assert!(!makes_way(&world, newer), "it makes way on an enclave that takes nothing");
    assert!(world.pool.claim(first(urgent)).is_none());
    world.lose(enclave);
    assert_eq!(world.phase(urgent, 0), Phase::Queued);
}

#[test]
fn a_victim_that_reports_in_time_is_done() {
    let mut world = World::with(Limits { preempt_grace_seconds: 5, ..limits() }, [Machine::new("a").slots(1)]);
    account(&mut world, "victim", false, true);
    account(&mut world, "urgent", true, false);
    let victim = submit(&mut world, "victim", 4, vec![cores(500)]);
    let urgent = submit(&mut world, "urgent", 7, vec![cores(500)]);
    world.wait(5);
    let (lease, _): (LeaseId, _) = world.lease(victim, 0).unwrap();
    world.run(lease);
    assert_eq!(world.state(victim), TaskState::Completed);
    assert!(world.lease(urgent, 0).is_some());
}

#[test]
fn nobody_makes_way_beyond_the_claimants_quota() {
    let mut world = World::new(["a", "b", "c"].map(|name| Machine::new(name).slots(1)));
    account(&mut world, "victim", false, true);
    let limited = |leases| AccountTerms {
        may_preempt: true,
        priority_max: Priority(9),
        quota: Quota { leases: Some(leases), ..Quota::default() },
        ..AccountTerms::default()
    };
    let set = |world: &mut World, terms| {
        let tenant = Some(TenantId::new("urgent").unwrap());
        world.apply(Command::SetAccount { tenant, terms, as_of: None, author: "operator".into() }).unwrap();
    };
    set(&mut world, limited(1));
    let victims: Vec<_> = (0..3).map(|_| submit(&mut world, "victim", 4, vec![cores(500)])).collect();
    let pushed = |world: &World| victims.iter().filter(|task| makes_way(world, **task)).count();
    let urgent = submit(&mut world, "urgent", 7, vec![cores(500), cores(500), cores(500)]);
    assert_eq!(pushed(&world), 1);
    world.wait(1);
    assert_eq!(pushed(&world), 1);
    // What can no longer be used is given up at once, and whoever watches the victim hears of it.
    let tenant = Some(TenantId::new("urgent").unwrap());
    let none = Command::SetAccount { tenant, terms: limited(0), as_of: None, author: "operator".into() };
    let done = world.apply(none).unwrap();
    assert_eq!(pushed(&world), 0);
    let told = |task: &TaskId| done.effects.contains(&legation_pool::Effect::TaskChanged { task: *task });
    assert_eq!(victims.iter().filter(|task| told(task)).count(), 1);
    assert_eq!(world.phase(urgent, 0), Phase::Queued);
}

#[test]
fn claimants_without_hope_are_not_in_the_way_of_others() {
    let mut world = World::new([Machine::new("a").slots(1)]);
    account(&mut world, "a-hopeless", true, false);
    account(&mut world, "urgent", false, false);
    let urgent = submit(&mut world, "victim", 4, vec![cores(500)]);
    account(&mut world, "victim", false, true);
    for n in 0..40 {
        let mut piece = cores(4000);
        piece.demand.time = Millis(600_000 + n);
        submit(&mut world, "a-hopeless", 9, vec![piece]);
    }
    let waits = submit(&mut world, "urgent", 7, vec![cores(500)]);
    assert!(!makes_way(&world, urgent));
    account(&mut world, "urgent", true, false);
    for _ in 0..60 {
        world.wait(1);
        if world.pool.claim(first(waits)).is_some() {
            return;
        }
    }
    panic!("nobody looked at {waits}");
}

#[test]
fn tenants_are_not_told_who_the_others_are() {
    let (mut world, _, newer) = held();
    submit(&mut world, "urgent", 7, vec![cores(500)]);
    let enclave = *world.pool.enclaves().keys().next().unwrap();
    let view = world.pool.task_view(newer).unwrap();
    assert!(view.fragments[0].preempted.as_ref().unwrap().tenant.is_some(), "the operator is told");
    let shown = |world: &World| serde_json::to_string(&world.pool.task_view(newer).unwrap().discreet()).unwrap();
    assert!(!shown(&world).contains("urgent"), "{}", shown(&world));
    assert_eq!(view.discreet().fragments[0].preempted.as_ref().unwrap().priority, Priority(7));
    let kept = world.pool.enclave_view(enclave, world.now).unwrap();
    assert!(kept.claimed.is_some());
    assert_eq!((kept.clone().discreet().claimed, kept.kept), (None, Some(Priority(7))));
    world.wait(31);
    assert!(matches!(world.tries(newer, 0)[0].1, Some(LeaseEnd::Preempted { tenant: Some(_), .. })));
    assert!(!shown(&world).contains("urgent"), "{}", shown(&world));
    assert!(shown(&world).contains("\"preempted\""), "{}", shown(&world));
}

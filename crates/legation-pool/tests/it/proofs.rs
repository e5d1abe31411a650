//! Proofs of one enclave by several verifiers: whose word counts for whom, lapse, withdrawal; and slots of a chip.

use legation_core::{KeyId, Rejection, Signer, UnixTime};
use legation_pool::{Command, LeaseEnd, Limits, Phase};

use crate::world::*;

fn key(name: &str) -> KeyId {
    Key::new(name).public_key().id()
}

fn why_not(world: &World, task: legation_core::TaskId) -> Rejection {
    world.pool.explain(task, world.now).unwrap()[0].classes[0].why_not[0].why.clone()
}

fn withdraw(machine: &Machine, verifier: &str) -> Command {
    let why = Rejection::new("appraisal.tcb", "security version").expected("8").got("7").fix("update the firmware");
    Command::Withdraw { enclave: machine.id, verifier: key(verifier), why }
}

#[test]
fn a_tenant_relies_on_verifiers_that_are_trusted_with_its_work() {
    let mut world = World::new([]);
    let a = Machine::new("a");
    let of = |world: &World, verifier: &str, tenants: Option<&[&str]>| {
        world.attested_by(&Key::new(verifier), tenants, &Machine::new("a"), world.now.plus(HOUR))
    };
    world.apply(of(&world, "bank's own", Some(&["bank"]))).unwrap();
    world.arrive(a.id, &[]);
    world.machines.insert(a.id, Machine::new("a"));
    let task = world.submit_granted(vec![fragment("of acme")]);
    assert_eq!(world.phase(task, 0), Phase::Queued);
    let why = why_not(&world, task);
    assert_eq!((why.check.as_str(), why.fix.is_empty()), ("place.verifier", false), "{why}");
    // Another verifier's passport makes it good for this tenant, and a report must name that one.
    world.now = world.now.plus(1);
    did(
        &world.apply(of(&world, "pool's", Some(&["acme", "other"]))).unwrap(),
        &["attested", "lease-1 for #0", "-> offer lease-1"],
    );
    world.now = world.now.plus(1);
    world.apply(of(&world, "bank's own", Some(&["bank"]))).unwrap();
    let (lease, _) = world.lease(task, 0).unwrap();
    let ran = world.ran(lease);
    assert_eq!(world.pool.enclaves()[&a.id].proof().verifier(), key("bank's own"), "the freshest");
    world.apply(world.reporting(a.id, ran.clone())).unwrap();
    assert!(matches!(&world.tries(task, 0)[0].1, Some(LeaseEnd::Refused { why }) if why.claim.contains("verifier")));
    let task = world.submit_granted(vec![fragment("of acme again")]);
    let (lease, _) = world.lease(task, 0).unwrap();
    let mut ran = world.ran(lease);
    let enclave = &world.pool.enclaves()[&a.id];
    let good = enclave.proofs().find(|p| p.verifier() == key("pool's")).unwrap().passport;
    ran.report.prev[1] = good;
    did(&world.apply(world.reporting(a.id, ran)).unwrap(), &["reported #0", "completed"]);
}

#[test]
fn what_a_client_is_shown_is_the_proof_that_counts_for_it() {
    let mut world = World::new([]);
    let a = Machine::new("a");
    for (verifier, tenants) in [("pool's", "acme"), ("bank's own", "bank")] {
        world.apply(world.attested_by(&Key::new(verifier), Some(&[tenants]), &a, world.now.plus(HOUR))).unwrap();
        world.now = world.now.plus(1);
    }
    world.arrive(a.id, &[]);
    let request = world.signed(vec![fragment("asks for a grant")]);
    let task = world.submit(&request);
    let needs = world.needs(task);
    assert_eq!(needs[0].passport.verifier_id(), key("pool's"));
}

#[test]
fn a_lapse_moves_the_work_at_once() {
    let mut world = World::new([]);
    let (a, b) = (Machine::new("a"), Machine::new("b").at("alpha", "eu-1", 9));
    world.apply(world.attested_until(&a, START.plus(10))).unwrap();
    world.arrive(a.id, &[]);
    let task = world.submit_granted(vec![fragment("moves")]);
    world.apply(world.attested(&b)).unwrap();
    world.arrive(b.id, &[]);
    did(&world.wait(10), &[]);
    did(
        &world.wait(1),
        &[
            "lapsed: pool.lapsed",
            "lease-1 ended: the enclave is no longer proven (pool.lapsed)",
            "lease-2 for #0",
            "-> cancel lease-1",
            "-> offer lease-2",
        ],
    );
    assert_eq!(world.lease(task, 0).unwrap().1, b.id);
    let view = world.pool.enclave_view(a.id, world.now).unwrap();
    let cordon = view.cordon.unwrap();
    assert_eq!((cordon.since, cordon.why.check.as_str()), (START.plus(11), "pool.lapsed"));
    assert!(view.overdue && !view.proofs[0].holds && view.proofs[0].age_seconds == 11);
    did(&world.wait(1), &[]);
    // A new passport restores it, also for the same fragment: it is not to blame.
    world.apply(world.attested(&a)).unwrap();
    let view = world.pool.enclave_view(a.id, world.now).unwrap();
    assert!(view.cordon.is_none() && !view.overdue);
    did(
        &world.lose(b.id),
        &["left", "lease-2 ended: the enclave was lost (reset)", "lease-3 for #0", "-> offer lease-3"],
    );
}

#[test]
fn one_good_proof_of_several_is_enough() {
    let mut world = World::new([]);
    let a = Machine::new("a");
    world.apply(world.attested_until(&a, START.plus(10))).unwrap();
    world.apply(world.attested_by(&Key::new("second"), None, &a, START.plus(20))).unwrap();
    world.arrive(a.id, &[]);
    let task = world.submit_granted(vec![fragment("stays")]);
    did(&world.wait(15), &[]);
    assert!(world.lease(task, 0).is_some());
    assert!(!world.pool.enclave_view(a.id, START.plus(17)).unwrap().overdue);
    assert!(world.pool.enclave_view(a.id, START.plus(19)).unwrap().overdue, "nine tenths of the longer one are over");
    let lapsed = world.wait(6);
    assert_eq!(brief(&lapsed)[0], "lapsed: pool.lapsed");
}

#[test]
fn a_verifier_takes_its_passport_back() {
    let mut world = World::new([Machine::new("a"), Machine::new("b").at("alpha", "eu-1", 9)]);
    let (a, b) = (Machine::new("a"), Machine::new("b").at("alpha", "eu-1", 9));
    let task = world.submit_granted(vec![fragment("moves")]);
    did(&world.apply(withdraw(&a, "stranger")).unwrap(), &[]);
    did(
        &world.apply(withdraw(&a, "verifier")).unwrap(),
        &[
            "withdrawn: appraisal.tcb",
            "lapsed: appraisal.tcb",
            "lease-1 ended: the enclave is no longer proven (appraisal.tcb)",
            "lease-2 for #0",
            "-> cancel lease-1",
            "-> reattest",
            "-> offer lease-2",
        ],
    );
    assert_eq!(world.lease(task, 0).unwrap().1, b.id);
    let waits = world.submit_granted(vec![reading(fragment("x"), Vec::new())]);
    let explained = world.pool.explain(waits, world.now).unwrap();
    let class = explained[0].classes.iter().find(|c| c.some.contains(&a.id)).unwrap();
    let why = class.why_not[0].why.clone();
    assert_eq!((why.check.as_str(), why.fix.as_str()), ("appraisal.tcb", "update the firmware"));
    let view = world.pool.enclave_view(a.id, world.now).unwrap();
    assert_eq!(view.withdrawal.unwrap().why.check, "appraisal.tcb");
    did(&world.apply(withdraw(&a, "verifier")).unwrap(), &[]);
    // With another good proof it stays; what only the withdrawn one was good for does not.
    world.now = world.now.plus(1);
    let second = Key::new("second");
    world.apply(world.attested_by(&second, Some(&["bank"]), &b, world.now.plus(HOUR))).unwrap();
    let applied = world.apply(withdraw(&b, "verifier")).unwrap();
    let did = brief(&applied);
    assert_eq!(
        did[..2],
        ["withdrawn: appraisal.tcb", "lease-2 ended: the enclave is no longer proven (appraisal.tcb)"]
    );
    assert!(world.pool.enclaves()[&b.id].cordon().is_none());
}

#[test]
fn so_many_verifiers_and_no_more() {
    let mut world = World::new([]);
    let a = Machine::new("a");
    let by = |world: &World, n: u32, until: UnixTime| {
        world.attested_by(&Key::new(&format!("verifier {n}")), None, &Machine::new("a"), until)
    };
    for n in 0..16 {
        world.apply(by(&world, n, START.plus(100 + u64::from(n)))).unwrap();
    }
    assert_eq!(world.refused(by(&world, 16, START.plus(HOUR))), "pool.verifiers");
    world.now = START.plus(50);
    world.apply(by(&world, 3, START.plus(HOUR))).unwrap();
    world.now = START.plus(101);
    world.apply(by(&world, 16, START.plus(HOUR))).unwrap();
    let enclave = &world.pool.enclaves()[&a.id];
    assert_eq!(enclave.proofs().count(), 16);
    assert!(enclave.proofs().all(|p| p.verifier() != key("verifier 0")), "the one that was over is gone");
}

#[test]
fn a_chip_has_as_many_enclaves_as_it_has_slots() {
    let in_slot = |name: &str, slot: u16| {
        let mut machine = Machine { chip: "one chip".into(), ..Machine::new(name) };
        machine.configuration.slot = slot;
        machine
    };
    let mut world = World::new([]);
    assert_eq!(world.refused(world.attested(&in_slot("b", 1))), "pool.slot");
    let mut world = World::with(Limits { slots_per_chip: 2, ..Limits::default() }, [in_slot("a", 0), in_slot("b", 1)]);
    assert_eq!(world.pool.enclaves().len(), 2);
    assert_eq!(world.refused(world.attested(&in_slot("c", 2))), "pool.slot");
    let twin = in_slot("twin", 1);
    let why = world.apply(world.attested(&twin)).unwrap_err();
    let (one, other) = (twin.id.short(), in_slot("b", 1).id.short());
    assert_eq!(why.check, "pool.chip");
    assert!(why.to_string().contains(&one) && why.to_string().contains(&other), "{why}");
    assert!(!why.fix.is_empty());
    // The slot of one that is away is taken over; the other slot is nobody's business.
    world.lose(in_slot("b", 1).id);
    world.apply(world.attested(&twin)).unwrap();
    assert!(world.pool.enclaves().contains_key(&in_slot("a", 0).id));
    assert!(!world.pool.enclaves().contains_key(&in_slot("b", 1).id));
}

/// Proofs that run out are nobody's fault and are waited for; an enclave whose verifier takes its word back, again and again,
/// does not keep a fragment for ever.
#[test]
fn lapses_by_withdrawal_are_counted_as_attempts() {
    let mut world = World::with(Limits { attempts_max: 3, ..Limits::default() }, [Machine::new("a")]);
    let machine = Machine::new("a");
    let task = world.submit_granted(vec![fragment("one")]);
    for turn in 1..=3 {
        assert!(world.lease(task, 0).is_some(), "turn {turn}");
        world.apply(withdraw(&machine, "verifier")).unwrap();
        world.now = world.now.plus(1);
        let again = world.attested(&machine);
        world.apply(again).unwrap();
    }
    let state = &world.pool.tasks()[&task].state;
    assert!(format!("{state:?}").contains("was tried 3 times"), "{state:?}");
}

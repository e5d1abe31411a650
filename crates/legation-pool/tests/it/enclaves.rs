//! What becomes of enclaves: attested, here, renewed, drained, lost, replaced, revoked, forgotten.

use legation_core::{Digest, Rejection, Revocable, Signer, claims::Evidence, dsse::sign, statement::Tier};
use legation_pool::{Command, Effect, Event, LeaseEnd, Limits, Phase, Pool, Presence, Record};

use crate::world::*;

fn presence(world: &World, machine: &Machine) -> Presence {
    world.pool.enclaves().get(&machine.id).unwrap().presence()
}

#[test]
fn an_enclave_attests_arrives_and_leaves() {
    let mut world = World::new([]);
    let machine = Machine::new("a");
    did(&world.apply(world.attested(&machine)).unwrap(), &["attested"]);
    assert_eq!(presence(&world, &machine), Presence::Away { since: START });
    did(&world.arrive(machine.id, &[]), &["arrived"]);
    assert_eq!(presence(&world, &machine), Presence::Here);
    did(&world.arrive(machine.id, &[]), &[]);
    world.now = world.now.plus(9);
    did(&world.lose(machine.id), &["left"]);
    assert_eq!(presence(&world, &machine), Presence::Away { since: START.plus(9) });
    let stranger = Machine::new("stranger").id;
    for command in [
        Command::Arrived { enclave: stranger, running: Vec::new() },
        Command::Lost { enclave: stranger, why: String::new() },
        Command::Drain { enclave: stranger },
        Command::Withdraw {
            enclave: stranger,
            verifier: Key::new("verifier").public_key().id(),
            why: Rejection::new("appraisal.tcb", "x"),
        },
    ] {
        assert_eq!(world.refused(command), "pool.enclave");
    }
}

#[test]
fn a_passport_that_would_spoil_receipts_is_refused() {
    type Change = fn(&mut legation_core::statement::Passport, &mut Evidence);
    let cases: [(&str, Change); 6] = [
        ("over", |p, _| p.expires = START.minus(1)),
        ("of two hours", |p, _| p.expires = START.plus(2 * HOUR)),
        ("of tomorrow", |p, _| p.issued = START.plus(9)),
        ("of a machine that failed", |p, _| p.ear.status = Tier::Contraindicated),
        ("resting on nothing", |p, _| p.prev.clear()),
        ("of other evidence", |_, e| e.report.push(0)),
    ];
    let mut world = World::new([]);
    let machine = Machine::new("a");
    let appointment = world.appointment(&world.verifier, legation_core::statement::Office::Verifier);
    for (claim, change) in cases {
        let mut evidence = machine.evidence();
        let mut passport = machine.passport(START, START.plus(HOUR), &world.verifier, appointment.digest());
        change(&mut passport, &mut evidence);
        let command = Command::Attested {
            passport: Box::new(sign(passport, &world.verifier)),
            appointment: Box::new(appointment.clone()),
            evidence: Box::new(evidence),
            collateral: Vec::new(),
        };
        assert_eq!(world.refused(command), "pool.passport", "{claim}");
    }
    // A manager's appointment makes no verifier.
    let wrong = world.appointment(&world.verifier, legation_core::statement::Office::Manager);
    let passport = machine.passport(START, START.plus(HOUR), &world.verifier, wrong.digest());
    let command = Command::Attested {
        passport: Box::new(sign(passport, &world.verifier)),
        appointment: Box::new(wrong),
        evidence: Box::new(machine.evidence()),
        collateral: Vec::new(),
    };
    assert_eq!(world.refused(command), "pool.passport");
}

#[test]
fn a_lapsed_passport_makes_ineligible_until_it_is_renewed() {
    let mut world = World::new([]);
    let machine = Machine::new("a");
    world.apply(world.attested_until(&machine, START.plus(10))).unwrap();
    world.arrive(machine.id, &[]);
    world.now = START.plus(11);
    let task = world.submit_granted(vec![fragment("waits")]);
    assert_eq!(world.phase(task, 0), Phase::Queued);
    let why = world.pool.explain(task, world.now).unwrap()[0].classes[0].why_not[0].why.clone();
    assert_eq!(why.check, "pool.passport");
    let renewed = world.attested(&machine);
    did(&world.apply(renewed.clone()).unwrap(), &["attested", "lease-1 for #0", "-> offer lease-1"]);
    did(&world.apply(renewed).unwrap(), &[]);
}

#[test]
fn a_report_may_name_one_of_the_last_passports() {
    for (renewals, taken) in [(1, true), (2, true), (3, false)] {
        let mut world = World::new([Machine::new("a")]);
        let task = world.submit_granted(vec![fragment("long")]);
        let (lease, enclave) = world.lease(task, 0).unwrap();
        let ran = world.ran(lease);
        for _ in 0..renewals {
            world.now = world.now.plus(1);
            world.apply(world.attested(&Machine::new("a"))).unwrap();
        }
        world.apply(world.reporting(enclave, ran)).unwrap();
        assert_eq!(world.phase(task, 0) == Phase::Done, taken, "{renewals} renewals");
    }
}

/// A world of one enclave that renewed so often with nothing to do, then was given work; its report names the first passport.
fn renewed_before_its_work(renewals: u64) -> (World, legation_core::TaskId, Command) {
    let mut world = World::new([Machine::new("a")]);
    let first = world.pool.enclaves()[&Machine::new("a").id].proof().passport;
    for _ in 0..renewals {
        world.now = world.now.plus(1);
        world.apply(world.attested(&Machine::new("a"))).unwrap();
    }
    let task = world.submit_granted(vec![fragment("short")]);
    let (lease, enclave) = world.lease(task, 0).unwrap();
    let mut ran = world.ran(lease);
    ran.report.prev[1] = first;
    let reporting = world.reporting(enclave, ran);
    (world, task, reporting)
}

#[test]
fn who_was_idle_may_name_the_passport_before_its_last_renewal_and_none_before() {
    // The manager knows the new one before the enclave does: work may be offered, and done, in between.
    for (renewals, taken) in [(1, true), (2, false)] {
        let (mut world, task, reporting) = renewed_before_its_work(renewals);
        let restored = Pool::restore(&world.pool.snapshot().unwrap(), limits()).unwrap();
        assert_eq!(restored, world.pool);
        world.apply(reporting).unwrap();
        assert_eq!(world.phase(task, 0) == Phase::Done, taken, "{renewals} renewals");
    }
}

#[test]
fn journals_of_older_versions_are_read_as_they_were_written() {
    // Before version 5 an idle enclave kept two before its current one, and reports may name the older.
    let (mut world, task, reporting) = renewed_before_its_work(2);
    let Command::Report { report: named, .. } = reporting else { unreachable!() };
    let begun = world.records.len();
    world.run(world.lease(task, 0).unwrap().0);
    let mut journal = world.records.clone();
    let reported = journal[begun..].iter_mut().find_map(|record| match &mut record.event {
        Event::Reported { report, .. } => Some(report),
        _ => None,
    });
    *reported.unwrap() = named;
    for (version, fits) in [(4, true), (5, false)] {
        let mut pool = Pool::new(limits());
        let record = |record: &Record| Record { version, ..record.clone() };
        for before in &journal[..begun] {
            pool.absorb(&record(before)).unwrap();
        }
        let mut restored = Pool::restore(&pool.snapshot().unwrap(), limits()).unwrap();
        assert_eq!(restored, pool);
        for pool in [&mut pool, &mut restored] {
            let read = journal[begun..].iter().try_for_each(|after| pool.absorb(&record(after)).map(|_| ()));
            assert_eq!(read.is_ok(), fits, "version {version}: {read:?}");
        }
        assert_eq!(restored, pool);
    }
}

#[test]
fn a_renewal_changes_nothing_that_was_measured_at_the_start() {
    let machine = || Machine::new("a");
    let changes: [(&str, Machine); 3] = [
        ("chip", Machine { chip: "another".into(), ..machine() }),
        ("sealing key", Machine { sealing: sealing("another"), ..machine() }),
        ("price", machine().at("alpha", "eu-1", 9)),
    ];
    for (claim, changed) in changes {
        let mut world = World::new([machine()]);
        world.now = world.now.plus(1);
        assert_eq!(world.refused(world.attested(&changed)), "pool.renewal", "{claim}");
    }
}

#[test]
fn one_live_identity_per_chip() {
    let mut world = World::new([Machine::new("a"), Machine::new("b")]);
    let old = Machine::new("a");
    let new = old.reboot("a, booted anew");
    assert_eq!(world.refused(world.attested(&new)), "pool.chip");
    world.apply(Command::Drain { enclave: old.id }).unwrap();
    assert_eq!(world.refused(world.attested(&new)), "pool.chip", "draining is here too");
    world.lose(old.id);
    did(&world.apply(world.attested(&new)).unwrap(), &["attested"]);
    assert!(!world.pool.enclaves().contains_key(&old.id), "the one before is forgotten");
    assert_eq!(world.refused(Command::Arrived { enclave: old.id, running: Vec::new() }), "pool.enclave");
    assert_eq!(world.pool.enclaves().len(), 2);
}

#[test]
fn a_machine_that_boots_anew_while_managers_change_loses_its_work_at_once() {
    let mut world = World::new([Machine::new("a")]);
    let task = world.submit_granted(vec![fragment("moves")]);
    let (_, old) = world.lease(task, 0).unwrap();
    world.begin_term(2).unwrap();
    let new = Machine::new("a").reboot("a, booted anew");
    let applied = world.apply(world.attested(&new)).unwrap();
    did(&applied, &["lease-1 ended: the enclave was lost (its machine booted anew)", "attested"]);
    assert!(!world.pool.enclaves().contains_key(&old));
    did(&world.arrive(new.id, &[]), &["arrived", "lease-2 for #0", "-> offer lease-2"]);
}

#[test]
fn a_draining_enclave_finishes_and_takes_no_more() {
    let mut world = World::new([Machine::new("a")]);
    let task = world.submit_granted(vec![fragment("one")]);
    let (lease, enclave) = world.lease(task, 0).unwrap();
    did(&world.apply(Command::Drain { enclave }).unwrap(), &["draining"]);
    did(&world.apply(Command::Drain { enclave }).unwrap(), &[]);
    let waits = world.submit_granted(vec![fragment("two")]);
    assert_eq!(world.phase(waits, 0), Phase::Queued);
    did(&world.run(lease), &["reported #0", "completed"]);
    // Leaving and returning does not make it willing, nor does a new manager.
    world.lose(enclave);
    did(&world.arrive(enclave, &[]), &["arrived"]);
    assert_eq!(world.pool.enclaves().get(&enclave).unwrap().presence(), Presence::Draining);
    world.begin_term(2).unwrap();
    world.arrive(enclave, &[]);
    assert_eq!(world.phase(waits, 0), Phase::Queued);
    let why = world.pool.explain(waits, world.now).unwrap()[0].classes[0].why_not[0].why.clone();
    assert_eq!(why.check, "pool.draining");
}

#[test]
fn an_enclave_can_be_drained_while_it_is_away() {
    let mut world = World::new([]);
    let enclave = world.attest(Machine::new("a")).unwrap();
    did(&world.apply(Command::Drain { enclave }).unwrap(), &["draining"]);
    assert_eq!(world.pool.enclaves().get(&enclave).unwrap().presence(), Presence::Away { since: START });
    world.arrive(enclave, &[]);
    assert_eq!(world.pool.enclaves().get(&enclave).unwrap().presence(), Presence::Draining);
}

#[test]
fn a_revoked_enclave_is_cut_off_for_good() {
    let mut world = World::new([Machine::new("a"), Machine::new("b")]);
    let task = world.submit_granted(vec![fragment("moves")]);
    let (_, enclave) = world.lease(task, 0).unwrap();
    let revoke = |why: &str| Command::Revoke { what: Revocable::Enclave(enclave), why: why.into() };
    let applied = world.apply(revoke("stolen")).unwrap();
    did(
        &applied,
        &[
            "revoked, epoch 1",
            "lease-1 ended: the enclave was revoked",
            "left",
            "lease-2 for #0",
            "-> revocations",
            "-> close",
            "-> offer lease-2",
        ],
    );
    let closed = applied.effects.iter().find_map(|e| match e {
        Effect::Close { enclave, why } => Some((*enclave, why.got.ends_with("(epoch 1): stolen"))),
        _ => None,
    });
    assert_eq!(closed, Some((enclave, true)));
    assert_eq!(world.tries(task, 0)[0], (enclave, Some(LeaseEnd::Revoked)));
    did(&world.apply(revoke("again")).unwrap(), &[]);
    assert_eq!(world.pool.revocations().0, 1);
    let machine = if enclave == Machine::new("a").id { Machine::new("a") } else { Machine::new("b") };
    world.now = world.now.plus(1);
    assert_eq!(world.refused(world.attested(&machine)), "revocation");
    assert_eq!(world.refused(Command::Arrived { enclave, running: Vec::new() }), "revocation");
    // Allocations made since say as of which revocation.
    let (second, _) = world.lease(task, 0).unwrap();
    assert_eq!(world.pool.offer(second).unwrap().allocation.revocations.0, 1);
    // The same machine, booted anew, is judged anew.
    let anew = machine.reboot("anew");
    did(&world.apply(world.attested(&anew)).unwrap(), &["attested"]);
    assert!(world.pool.enclaves().contains_key(&enclave), "who was revoked is remembered");
}

#[test]
fn a_full_pool_takes_an_enclave_for_one_it_can_forget() {
    let names = ["a", "b", "c"];
    let mut world = World::with(Limits { enclaves_max: 3, ..Limits::default() }, names.map(Machine::new));
    let fresh = Machine::new("d");
    assert_eq!(world.refused(world.attested(&fresh)), "pool.full");
    for name in names {
        world.now = world.now.plus(1);
        world.lose(Machine::new(name).id);
    }
    world.revoke(Revocable::Enclave(Machine::new("a").id));
    assert_eq!(world.refused(world.attested(&fresh)), "pool.full", "their passports still hold");
    // Replacing makes room by itself.
    let anew = Machine::new("c").reboot("c, booted anew");
    world.apply(world.attested(&anew)).unwrap();
    world.now = world.now.plus(HOUR + 1);
    world.apply(world.attested(&fresh)).unwrap();
    let known = |machine: &Machine| world.pool.enclaves().contains_key(&machine.id);
    assert!(known(&Machine::new("a")) && known(&anew) && known(&fresh) && !known(&Machine::new("b")));
    assert_eq!(world.pool.enclaves().len(), 3);
    // It may come back, for another whose passport is over by now.
    world.apply(world.attested(&Machine::new("b"))).unwrap();
    let known = |machine: &Machine| world.pool.enclaves().contains_key(&machine.id);
    assert!(known(&Machine::new("a")) && known(&Machine::new("b")) && known(&fresh) && !known(&anew));
}

#[test]
fn names_say_what_they_name() {
    let machine = Machine::new("a");
    assert_eq!(machine.id.digest(), Digest::of(&machine.key.public_key().spki()));
}

/// A GPU answers whoever asks: two machines may show the same one, and only one has it.
#[test]
fn a_gpu_is_in_one_live_machine() {
    let with = |name: &str, gpus: &[&'static str]| Machine { gpus: gpus.to_vec(), ..Machine::new(name) };
    let (a, b, c) = (with("a", &["g1", "g2"]), with("b", &["g3", "g2"]), with("c", &["g4"]));
    let mut world = World::new([with("a", &a.gpus), with("c", &c.gpus)]);
    assert_eq!(world.refused(world.attested(&b)), "pool.gpu");
    // Its own, anew, and that of no other.
    world.now = world.now.plus(10);
    did(&world.apply(world.attested(&a)).unwrap(), &["attested"]);
    did(&world.apply(world.attested(&with("d", &["g5"]))).unwrap(), &["attested"]);
    // The machine is away: another may have it now, and the first does not return beside it.
    did(&world.lose(a.id), &["left"]);
    did(&world.apply(world.attested(&b)).unwrap(), &["attested"]);
    did(&world.arrive(b.id, &[]), &["arrived"]);
    assert_eq!(world.refused(Command::Arrived { enclave: a.id, running: Vec::new() }), "pool.gpu");
    world.now = world.now.plus(10);
    assert_eq!(world.refused(world.attested(&a)), "pool.gpu");
    did(&world.lose(b.id), &["left"]);
    did(&world.arrive(a.id, &[]), &["arrived"]);
    // A machine that boots anew brings its own.
    did(&world.lose(a.id), &["left"]);
    let again = Machine { gpus: a.gpus.clone(), ..a.reboot("a2") };
    did(&world.apply(world.attested(&again)).unwrap(), &["attested"]);
    // Its maker's root is a root it rests on, and so is its chip.
    did(&world.arrive(again.id, &[]), &["arrived"]);
    world.revoke(Revocable::Chip("g4".into()));
    assert!(world.pool.enclaves()[&c.id].revoked().is_some());
    world.revoke(Revocable::Anchor("nvidia-device-identity".into()));
    assert!(world.pool.enclaves()[&again.id].revoked().is_some());
    assert_eq!(world.refused(world.attested(&with("e", &["g9"]))), "revocation");
    did(&world.apply(world.attested(&Machine::new("without"))).unwrap(), &["attested"]);
}

//! What is revoked, of every kind: one record, one epoch, everything that rests on it falls, and nothing else does.

use legation_core::{KeyId, Revocable, Signer};
use legation_pool::{Applied, Command, Effect, Event, LeaseEnd, Presence};

use crate::world::*;

fn verifier(name: &str) -> KeyId {
    Key::new(name).public_key().id()
}

/// Names of the machines whose channels close.
fn closed(applied: &Applied, machines: &[&Machine]) -> Vec<usize> {
    let closes = |id| applied.effects.iter().any(|e| matches!(e, Effect::Close { enclave, .. } if *enclave == id));
    machines.iter().enumerate().filter(|(_, m)| closes(m.id)).map(|(n, _)| n).collect()
}

#[test]
fn each_kind_takes_what_rests_on_it() {
    let kinds: Vec<(Revocable, &[usize])> = vec![
        (Revocable::Enclave(Machine::new("a").id), &[0]),
        (Revocable::Chip("chip of b".into()), &[1]),
        (Revocable::Provider("alpha".parse().unwrap()), &[0, 1]),
        (Revocable::Measurement("00".into()), &[0, 1, 2]),
        (Revocable::Anchor("local".into()), &[0, 1, 2]),
        (Revocable::Verifier(verifier("verifier")), &[0, 1, 2]),
        (Revocable::Enclave(Machine::new("stranger").id), &[]),
        (Revocable::Chip("of nobody".into()), &[]),
        (Revocable::Verifier(verifier("nobody")), &[]),
        // It signed no passport here, and vouched for the key behind one.
        (Revocable::Verifier(verifier("activator")), &[1]),
        (Revocable::Anchor("amd-milan".into()), &[]),
    ];
    for (what, fall) in kinds {
        let vouched = || Machine { vouched: Some(verifier("activator")), ..Machine::new("b") };
        let machines = || [Machine::new("a"), vouched(), Machine::new("c").at("bravo", "eu-1", 1)];
        let mut world = World::new(machines());
        let tasks: Vec<_> = (0..3).map(|n| world.submit_granted(vec![fragment(&format!("part {n}"))])).collect();
        let names = machines();
        let applied = world.revoke(what.clone());
        assert_eq!(closed(&applied, &names.iter().collect::<Vec<_>>()), fall, "{what}");
        let revoked = applied.records.iter().filter(|r| matches!(r.event, Event::Revoked { .. })).count();
        assert_eq!((revoked, world.pool.revocations().0), (1, 1), "{what}: one command, one record, one epoch");
        assert_eq!(world.pool.fallen(world.pool.revocations()).len(), fall.len());
        for (n, machine) in names.iter().enumerate() {
            let enclave = &world.pool.enclaves()[&machine.id];
            let fell = fall.contains(&n);
            assert_eq!(enclave.revoked().is_some() || enclave.cordon().is_some(), fell, "{what}: {n}");
            assert_eq!(enclave.presence() == Presence::Here, !fell, "{what}: {n}");
            assert!(!fell || enclave.leases().is_empty());
            world.now = world.now.plus(1);
            let again = world.pool.clone().apply(world.attested(machine), world.now, &world.manager);
            assert_eq!(again.err().map(|why| why.check), fell.then(|| "revocation".to_owned()), "{what}: {n}");
        }
        // What can move has moved.
        let stays = names.len() - fall.len();
        let leased = tasks.iter().filter(|t| world.lease(**t, 0).is_some()).count();
        assert!(leased >= tasks.len().min(2 * stays), "{what}: {leased} leased on {stays}");
        // The same again changes nothing.
        did(&world.revoke(what), &[]);
    }
}

#[test]
fn what_is_revoked_in_advance_is_refused_when_it_comes() {
    for what in [
        Revocable::Chip("chip of a".into()),
        Revocable::Enclave(Machine::new("a").id),
        Revocable::Measurement("00".into()),
        Revocable::Anchor("local".into()),
        Revocable::Provider("alpha".parse().unwrap()),
        Revocable::Verifier(verifier("verifier")),
    ] {
        let mut world = World::new([]);
        did(&world.revoke(what), &["revoked, epoch 1", "-> revocations"]);
        assert_eq!(world.refused(world.attested(&Machine::new("a"))), "revocation");
    }
}

#[test]
fn a_revoked_chip_does_not_return_with_new_keys() {
    let mut world = World::new([Machine::new("a")]);
    world.revoke(Revocable::Chip("chip of a".into()));
    assert_eq!(world.refused(world.attested(&Machine::new("a").reboot("anew"))), "revocation");
    world.attest(Machine::new("b")).unwrap();
}

#[test]
fn a_revoked_verifier_takes_its_own_proofs_and_no_others() {
    let mut world = World::new([Machine::new("a"), Machine::new("b")]);
    let second = Key::new("second");
    let task = world.submit_granted(vec![fragment("left"), fragment("right")]);
    let both = world.attested_by(&second, None, &Machine::new("a"), world.now.plus(HOUR));
    world.apply(both).unwrap();
    let applied = world.revoke(Revocable::Verifier(verifier("verifier")));
    let (a, b) = (Machine::new("a"), Machine::new("b"));
    assert_eq!(closed(&applied, &[&a, &b]), [1], "who has another good proof stays");
    let enclave = &world.pool.enclaves()[&a.id];
    assert_eq!(enclave.proofs().count(), 1);
    assert_eq!(enclave.proof().verifier(), second.public_key().id());
    assert!((0..2).all(|n| world.lease(task, n).unwrap().1 == a.id), "the work of the other moved");
    assert!(world.tries(task, 0).iter().chain(&world.tries(task, 1)).any(|t| *t == (b.id, Some(LeaseEnd::Revoked))));
    // The other returns with a passport of another verifier.
    world.now = world.now.plus(1);
    assert_eq!(world.refused(world.attested(&b)), "revocation");
    world.apply(world.attested_by(&second, None, &b, world.now.plus(HOUR))).unwrap();
    world.arrive(b.id, &[]);
    assert!(world.pool.enclaves()[&b.id].cordon().is_none());
}

#[test]
fn a_report_that_names_a_dropped_passport_is_not_taken() {
    let mut world = World::new([Machine::new("a")]);
    let task = world.submit_granted(vec![fragment("long")]);
    let (lease, enclave) = world.lease(task, 0).unwrap();
    let ran = world.ran(lease);
    world.now = world.now.plus(1);
    world.apply(world.attested_by(&Key::new("second"), None, &Machine::new("a"), world.now.plus(HOUR))).unwrap();
    world.revoke(Revocable::Verifier(verifier("verifier")));
    assert!(world.lease(task, 0).is_some(), "it goes on under the other passport");
    world.apply(world.reporting(enclave, ran)).unwrap();
    let (_, ended) = &world.tries(task, 0)[0];
    assert!(matches!(ended, Some(LeaseEnd::Refused { why }) if why.check == "report.content"), "{ended:?}");
    // A report under the passport that counts would have been taken.
    let mut world = World::new([Machine::new("a")]);
    let task = world.submit_granted(vec![fragment("long")]);
    let (lease, _) = world.lease(task, 0).unwrap();
    world.now = world.now.plus(1);
    world.apply(world.attested_by(&Key::new("second"), None, &Machine::new("a"), world.now.plus(HOUR))).unwrap();
    world.revoke(Revocable::Verifier(verifier("verifier")));
    did(&world.run(lease), &["reported #0", "completed"]);
}

#[test]
fn names_and_number_of_revocations_are_bounded() {
    let mut world = World::new([]);
    let revoke = |name: String, why: &str| Command::Revoke { what: Revocable::Chip(name), why: why.into() };
    assert_eq!(world.refused(revoke(String::new(), "x")), "revocation.name");
    assert_eq!(world.refused(revoke("c".repeat(257), "x")), "revocation.name");
    let why = "y".repeat(10_000);
    let applied = world.apply(revoke("long".into(), &why)).unwrap();
    assert!(matches!(&applied.records[0].event, Event::Revoked { revocation } if revocation.why.len() == 512));
    let mut refused = None;
    for n in 0..2000 {
        world.pool = {
            let mut pool = world.pool.clone();
            refused = pool.apply(revoke(format!("chip {n}"), &why), world.now, &world.manager).err();
            pool
        };
        if refused.is_some() {
            break;
        }
    }
    assert_eq!(refused.unwrap().check, "revocation.full");
    let list = world.pool.revocations_list();
    assert!(serde_json::to_vec(&list).unwrap().len() < 640 * 1024 && list.len() > 500, "{}", list.len());
    assert!(list.is_sorted_by(|a, b| a.epoch < b.epoch));
}

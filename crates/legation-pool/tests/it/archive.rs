//! Proofs in brief: what is decided by them, and what the journal must show when somebody wants one whole.

use std::collections::BTreeMap;

use legation_core::{Digest, Rejection, Seq, claims::CollateralItem, dsse::sign, statement::Passport};
use legation_pool::{Archive, Brief, Command, Enclave, Event, Pool, Record};

use crate::world::*;

/// A command that attests a machine by collateral of these names.
fn by_collateral(world: &World, machine: &Machine, names: &[&str]) -> Command {
    let Command::Attested { passport, appointment, evidence, .. } = world.attested(machine) else { unreachable!() };
    let item = |name: &&str| CollateralItem { name: (*name).to_owned(), bytes: name.as_bytes().to_vec() };
    let collateral: Vec<_> = names.iter().map(item).collect();
    let mut digests: Vec<Digest> = collateral.iter().map(CollateralItem::digest).collect();
    digests.sort_unstable();
    let passport = Passport { collateral: digests, ..(**passport).clone() };
    Command::Attested { passport: Box::new(sign(passport, &world.verifier)), appointment, evidence, collateral }
}

/// A world of an enclave that attested twice, each time by collateral of its own and by some that both share.
fn renewed() -> (World, Machine) {
    let mut world = World::new([]);
    let machine = Machine::new("a");
    world.apply(by_collateral(&world, &machine, &["list", "chip", "first"])).unwrap();
    world.now = world.now.plus(10);
    world.apply(by_collateral(&world, &machine, &["list", "chip", "second"])).unwrap();
    (world, machine)
}

fn proof(pool: &Pool, machine: &Machine) -> Brief {
    pool.enclaves()[&machine.id].proof().clone()
}

#[test]
fn a_proof_is_whole_again_from_the_records_that_it_names() {
    let (world, machine) = renewed();
    let brief = proof(&world.pool, &machine);
    // Of three pieces two are in the record before: a record holds what none before it holds.
    assert_eq!(brief.positions(), [Seq(3), Seq(2)]);
    let whole = brief.whole(&world.records).unwrap();
    assert_eq!(whole.passport.digest(), brief.passport);
    let (expected, mut got) = (whole.passport.collateral.clone(), Vec::new());
    got.extend(whole.collateral.iter().map(CollateralItem::digest));
    assert_eq!(got, expected);
    assert_eq!(whole.evidence, machine.evidence());
    // No more is asked for than these.
    let few: BTreeMap<Seq, &Record> =
        brief.positions().into_iter().map(|at| (at, world.records.record(at).unwrap())).collect();
    assert_eq!(brief.whole(&few).unwrap(), whole);
    // So says a pool that was restored, and one that read the journal.
    let restored = Pool::restore(&world.pool.snapshot().unwrap(), limits()).unwrap();
    assert_eq!(proof(&restored, &machine), brief);
    for (name, rests) in [("list", true), ("second", true), ("first", false)] {
        let digest = CollateralItem { name: name.to_owned(), bytes: name.as_bytes().to_vec() }.digest();
        assert_eq!(restored.rests_on(&brief, &digest), rests, "{name}");
    }
}

#[test]
fn what_the_journal_lacks_or_has_otherwise_is_said() {
    let (world, machine) = renewed();
    let brief = proof(&world.pool, &machine);
    let told = |change: &dyn Fn(&mut BTreeMap<Seq, Record>)| -> Rejection {
        let mut records: BTreeMap<Seq, Record> = world.records.iter().map(|r| (r.seq, r.clone())).collect();
        change(&mut records);
        brief.whole(&records).unwrap_err()
    };
    let pieces = |records: &mut BTreeMap<Seq, Record>, change: &dyn Fn(&mut Vec<CollateralItem>)| {
        let Some(Event::Attested { collateral, .. }) = records.get_mut(&Seq(2)).map(|r| &mut r.event) else { panic!() };
        change(collateral);
    };
    for (what, at, got, why) in [
        ("its own record is gone", 3, "no such record", told(&|all| drop(all.remove(&Seq(3))))),
        ("a record before is gone", 2, "no such record", told(&|all| drop(all.remove(&Seq(2))))),
        (
            "another is in its place",
            3,
            "one of digest",
            told(&|all| {
                let other = all[&Seq(2)].event.clone();
                all.get_mut(&Seq(3)).unwrap().event = other;
            }),
        ),
        (
            "a record of another kind",
            3,
            "a record `term-began`",
            told(&|all| {
                let other = all[&Seq(1)].event.clone();
                all.get_mut(&Seq(3)).unwrap().event = other;
            }),
        ),
        ("collateral is gone", 2, "a record `attested`", told(&|all| pieces(all, &|items| items.clear()))),
        (
            "collateral is another",
            2,
            "one of digest",
            told(&|all| pieces(all, &|items| items.iter_mut().for_each(|item| item.bytes.push(0)))),
        ),
    ] {
        assert_eq!(why.check, "archive.record", "{what}: {why}");
        assert!(why.claim.contains(&format!("record {at} ")), "{what}: {why}");
        assert!(why.got.contains(got) && !why.fix.is_empty(), "{what}: {why}");
    }
}

#[test]
fn a_restored_pool_shows_what_ran_before() {
    let mut world = World::new([Machine::new("a"), Machine::new("b")]);
    let task = world.submit_granted(vec![fragment("ran")]);
    world.run(world.lease(task, 0).unwrap().0);
    let a = Machine::new("a");
    // Its enclave renews more often than proofs are kept: the receipt's is found nevertheless.
    for _ in 0..6 {
        world.now = world.now.plus(10);
        world.attest(Machine::new("a")).unwrap();
        world.attest(Machine::new("b")).unwrap();
    }
    let receipt = world.receipt(task);
    let restored = Pool::restore(&world.pool.snapshot().unwrap(), limits()).unwrap();
    assert_eq!(restored, world.pool);
    assert_eq!(restored.receipt(task, &world.records).unwrap(), receipt);
    let named = restored.tasks()[&task].fragments[0].done.as_ref().unwrap().proof.clone();
    assert_ne!(named.passport, proof(&restored, &a).passport);
    let why = restored.receipt(task, &world.records[..1]).unwrap_err();
    assert_eq!(why.check, "archive.record");
}

/// Most bytes that an enclave with nothing to do may take in a pool of many: fresh, and after any number of renewals.
const EACH_MAX: [usize; 2] = [800, 900];

#[test]
fn an_enclave_with_nothing_to_do_takes_no_more_than_this() {
    let (enclave, brief) = (size_of::<Enclave>(), size_of::<Brief>());
    assert!(enclave <= 176 && brief <= 72, "an enclave itself takes {enclave}, a proof in brief {brief}");
    let named = |n: usize| {
        let machine = Machine::new(&format!("machine {n}"));
        // As long as the name of a real one: 64 bytes in digits.
        Machine { chip: machine.id.to_string().repeat(2), ..machine }
    };
    let machines: Vec<_> = (0..500).map(named).collect();
    let mut world = World::new([]);
    let renewals = |times: usize, world: &mut World| {
        for _ in 0..times {
            world.now = world.now.plus(10);
            for machine in &machines {
                let attested = by_collateral(world, machine, &["list", "chain", &machine.chip]);
                world.pool.apply(attested, world.now, &world.manager).unwrap();
                let arrived = Command::Arrived { enclave: machine.id, running: Vec::new() };
                world.pool.apply(arrived, world.now, &world.manager).unwrap();
            }
        }
        world.pool.audit().unwrap();
        let parts = world.pool.footprint();
        (parts.iter().map(|part| part.bytes).sum::<usize>() / machines.len(), parts)
    };
    let [fresh, renewed, again] = [1, 3, 2].map(|times| renewals(times, &mut world));
    assert!(fresh.0 <= EACH_MAX[0], "{fresh:?}");
    assert!(renewed.0 <= EACH_MAX[1], "{renewed:?}");
    // Nothing is kept of renewals before, but for room in the wheel of when proofs end.
    assert!(again.0 <= renewed.0 + 16, "{again:?}");
}

#[test]
fn enclaves_take_little_however_much_proves_them() {
    let machines = || (0..64).map(|n| Machine::new(&format!("machine {n}")));
    let mut world = World::new(machines());
    for _ in 0..4 {
        world.now = world.now.plus(10);
        for machine in machines() {
            let attested = by_collateral(&world, &machine, &["list", "chain", &machine.chip]);
            world.apply(attested).unwrap();
        }
    }
    let parts = world.pool.footprint();
    let bytes: usize = parts.iter().map(|part| part.bytes).sum();
    // What few have to share weighs more for each than it does in a large pool.
    assert!(bytes / 64 < 1400, "{parts:?}");
}

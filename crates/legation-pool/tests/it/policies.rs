//! Reference values and policies in the journal, and what a tenant's policy does to placement.

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{
    TenantId, UnixTime,
    claims::{Anchor, TeeKind},
    dsse::sign,
    statement::Office,
};
use legation_policy::{ReferenceKind, ReferenceValue, Scope};
use legation_pool::{Applied, Command, Limits, Phase, Pool};

use crate::world::*;

fn image(name: &str, byte: &str) -> ReferenceValue {
    ReferenceValue {
        name: name.into(),
        value: ReferenceKind::Image {
            measurement: byte.repeat(48),
            registers: BTreeMap::new(),
            tees: BTreeSet::from([TeeKind::DevSnp]),
        },
        owner: "ops".into(),
        made: START,
        expires: None,
        source: "file agent.bin".into(),
    }
}

fn add(value: ReferenceValue, replace: bool) -> Command {
    Command::AddReference { value: Box::new(value), author: "operator".into(), replace }
}

fn expire(name: &str, end: Option<UnixTime>, force: bool) -> Command {
    Command::ExpireReference { name: name.into(), end, author: "operator".into(), force }
}

fn set(scope: Scope, text: &str) -> Command {
    Command::SetPolicy { scope, text: text.into(), author: "operator".into() }
}

fn acme() -> Scope {
    Scope::Tenant(TenantId::new("acme").unwrap())
}

fn kinds(applied: &Applied) -> Vec<&'static str> {
    applied.records.iter().map(|r| r.event.kind()).collect()
}

const KNOWN: &str = "@id(\"known\") permit (principal in Image::\"known\", action, resource);";

#[test]
fn reference_values_are_made_made_anew_and_ended() {
    let mut world = World::new([]);
    assert_eq!(kinds(&world.apply(add(image("known", "ab"), false)).unwrap()), ["reference-added"]);
    // The same again is no news; another of the name is refused while it counts.
    assert_eq!(kinds(&world.apply(add(image("known", "ab"), false)).unwrap()), [""; 0]);
    assert_eq!(world.refused(add(image("known", "cd"), false)), "reference.name");
    assert_eq!(world.refused(add(image("Bad", "cd"), false)), "reference.name");
    world.apply(add(image("known", "cd"), true)).unwrap();
    assert_eq!(world.refused(expire("nobody", None, false)), "reference.unknown");
    let view = world.pool.reference_view("known", world.now).unwrap();
    assert!(view.holds && view.used_by.is_empty(), "unused: {view:?}");
    world.apply(set(Scope::Pool, KNOWN)).unwrap();
    assert_eq!(world.pool.reference_view("known", world.now).unwrap().used_by, ["appraisal"]);
    assert_eq!(world.refused(expire("known", None, false)), "reference.used");
    assert_eq!(kinds(&world.apply(expire("known", None, true)).unwrap()), ["reference-expired"]);
    assert!(!world.pool.reference_view("known", world.now).unwrap().holds);
    assert_eq!(kinds(&world.apply(expire("known", None, true)).unwrap()), [""; 0]);
    // What is over makes room for another, and the policy is held to that.
    world.apply(add(image("known", "ef"), false)).unwrap();
    assert!(world.pool.reference_view("known", world.now).unwrap().holds);
    let changed = world.pool.policies_changed();
    assert_eq!(changed, world.pool.seq());
}

#[test]
fn a_policy_is_set_only_if_it_loads() {
    let mut world = World::new([]);
    assert_eq!(world.refused(set(Scope::Pool, KNOWN)), "policy.reference");
    assert_eq!(world.refused(set(Scope::Pool, "nonsense")), "policy.syntax");
    world.apply(add(image("known", "ab"), false)).unwrap();
    world.apply(set(Scope::Pool, KNOWN)).unwrap();
    assert_eq!(kinds(&world.apply(set(Scope::Pool, KNOWN)).unwrap()), [""; 0]);
    // A value that a policy names stays an image.
    let mut firmware = image("known", "ab");
    let (product, minimum) = ("milan".parse().unwrap(), "blSPL=1&teeSPL=1&snpSPL=1&ucodeSPL=1".parse().unwrap());
    firmware.value = ReferenceKind::Firmware { product, minimum };
    assert_eq!(world.refused(add(firmware, true)), "policy.reference");
    for i in 0..40 {
        world.apply(set(Scope::Pool, &format!("{KNOWN} // {i}"))).unwrap();
    }
    let versions = world.pool.policy_versions(&Scope::Pool).unwrap();
    assert_eq!((versions.len(), versions[0].version), (32, 41));
    assert!(versions[0].text.ends_with("// 39") && versions[0].author == "operator");
    let view = world.pool.policy_view(&Scope::Pool, world.now).unwrap();
    assert_eq!((view.name.as_str(), view.rules), ("appraisal", vec!["known".to_owned()]));
    assert_eq!(world.pool.policy_view(&acme(), world.now).unwrap_err().check, "policy.unknown");
    // What no longer counts cannot be named anew; a policy that names it stays, and replays.
    world.apply(expire("known", None, true)).unwrap();
    assert_eq!(world.refused(set(Scope::Pool, KNOWN)), "policy.expired");
    let view = world.pool.policy_view(&Scope::Pool, world.now).unwrap();
    assert_eq!((view.current.version, view.warnings[0].check.as_str()), (41, "policy.expired"));
}

#[test]
fn a_journal_with_a_policy_that_cannot_be_is_refused() {
    let mut world = World::new([]);
    world.apply(add(image("known", "ab"), false)).unwrap();
    world.apply(set(Scope::Pool, KNOWN)).unwrap();
    let mut pool = Pool::new(Limits::default());
    for record in &world.records {
        // Without the reference value, the policy names nothing.
        if record.event.kind() != "reference-added" {
            let mut record = record.clone();
            record.seq = legation_core::Seq(pool.seq().0 + 1);
            let result = pool.absorb(&record);
            assert_eq!(result.is_err(), record.event.kind() == "policy-set", "{result:?}");
        }
    }
}

#[test]
fn a_tenants_policy_decides_where_its_tasks_go() {
    let mut world =
        World::new([Machine::new("a").at("alpha", "eu-1", 1), Machine::new("b").at("beta", "us-1", 9).slots(4)]);
    let dear = world.machines.values().find(|m| m.configuration.region.to_string() == "us-1").unwrap().id;
    let us = "@id(\"us\") permit (principal, action, resource) when { principal.region == \"us-1\" };";
    world.apply(set(acme(), us)).unwrap();
    let task = world.submit_granted(vec![fragment("one")]);
    assert_eq!(world.lease(task, 0).unwrap().1, dear, "the dearer one, which the policy admits");

    // Another tenant's policy is nobody else's.
    let nowhere = "@id(\"no\") permit (principal, action, resource) when { false };";
    world.apply(set(Scope::Tenant(TenantId::new("other").unwrap()), nowhere)).unwrap();
    let task = world.submit_granted(vec![fragment("two")]);
    assert!(world.lease(task, 0).is_some());

    world.apply(set(acme(), nowhere)).unwrap();
    let task = world.submit_granted(vec![fragment("three")]);
    assert_eq!(world.phase(task, 0), Phase::Queued);
    let explanations = world.pool.explain(task, world.now).unwrap();
    let text = serde_json::to_string(&explanations).unwrap();
    assert!(text.contains("place.policy") && text.contains("rule `no` of policy `tenant/acme`"), "{text}");

    // A change of policy gives what waits another look.
    world.apply(set(acme(), us)).unwrap();
    assert_eq!(world.lease(task, 0).unwrap().1, dear);
}

#[test]
fn a_tenants_policy_that_speaks_of_time_is_asked_again() {
    let mut world = World::new([Machine::new("a")]);
    // START is 2027-01-15T08:00:00Z.
    let until =
        "@id(\"soon\") permit (principal, action, resource) when { context.now < datetime(\"2027-01-15T08:01:00Z\") };";
    world.apply(set(acme(), until)).unwrap();
    let task = world.submit_granted(vec![fragment("one")]);
    assert!(world.lease(task, 0).is_some());
    world.wait(120);
    let task = world.submit_granted(vec![fragment("two")]);
    assert_eq!(world.phase(task, 0), Phase::Queued);
}

const ANY: &str = "@id(\"any\") permit (principal, action, resource);";

#[test]
fn whom_the_pools_policy_refuses_is_not_let_in() {
    let mut strict = World::with(Limits::default(), []);
    strict.apply(set(Scope::Pool, ANY)).unwrap();
    let (a, b) = (Machine::new("a"), Machine::new("b").at("beta", "us-1", 9));
    let why = strict.apply(strict.attested(&a)).unwrap_err();
    assert_eq!(why.check, "appraisal.anchor", "no development machine where none is allowed: {why}");
    let own = strict.attested_by(&Key::new("acme's"), Some(&["acme"]), &a, strict.now.plus(HOUR));
    assert_eq!(strict.refused(own), "appraisal.anchor", "whoever vouches");

    let mut world = World::new([]);
    world.apply(set(Scope::Pool, US)).unwrap();
    let here = world.attested(&a);
    assert_eq!(world.refused(here), "policy.us");
    let elsewhere = world.attested_by(&Key::new("elsewhere"), None, &a, world.now.plus(HOUR));
    assert_eq!(world.refused(elsewhere), "policy.us", "every verifier's word is held to it");
    world.attest(b).unwrap();
    // Whom a tenant's own verifier lets in, it lets in for that tenant.
    let own = world.attested_by(&Key::new("acme's"), Some(&["acme"]), &a, world.now.plus(HOUR));
    world.apply(own).unwrap();
}

const US: &str = "@id(\"us\") permit (principal, action, resource) when { principal.region == \"us-1\" };";

#[test]
fn a_change_of_the_pools_policy_takes_out_whom_it_refuses() {
    let (a, b) = (Machine::new("a").at("alpha", "eu-1", 1), Machine::new("b").at("beta", "us-1", 9));
    let (a_id, b_id) = (a.id, b.id);
    let mut world = World::new([a, b]);
    let task = world.submit_granted(vec![fragment("one")]);
    assert_eq!(world.lease(task, 0).unwrap().1, a_id, "the cheaper one");
    let applied = world.apply(set(Scope::Pool, US)).unwrap();
    assert!(kinds(&applied).contains(&"barred"), "{:?}", kinds(&applied));
    let why = world.pool.enclaves()[&a_id].cordon().unwrap().why.clone();
    assert_eq!(why.check, "policy.us", "{why}");
    assert_eq!(world.lease(task, 0).unwrap().1, b_id, "its work moved");
    assert!(world.pool.enclaves()[&b_id].cordon().is_none());
    // It is told when it comes again, since its passport holds by its dates.
    world.lose(a_id);
    let effects = format!("{:?}", world.arrive(a_id, &[]).effects);
    assert!(effects.contains("Reattest"), "{effects}");
    // A policy that admits it lets it attest again, and that restores it.
    world.apply(set(Scope::Pool, ANY)).unwrap();
    assert!(world.pool.enclaves()[&a_id].cordon().is_some());
    world.now = world.now.plus(1);
    let again = world.attested(&world.machines[&a_id]);
    world.apply(again).unwrap();
    assert!(world.pool.enclaves()[&a_id].cordon().is_none());
}

#[test]
fn the_pools_policy_may_speak_of_time() {
    let mut world = World::new([]);
    let until =
        "@id(\"soon\") permit (principal, action, resource) when { context.now < datetime(\"2027-01-15T08:01:00Z\") };";
    world.apply(set(Scope::Pool, until)).unwrap();
    let id = world.attest(Machine::new("a")).unwrap();
    world.arrive(id, &[]);
    world.wait(30);
    assert!(world.pool.enclaves()[&id].cordon().is_none());
    world.wait(60);
    assert_eq!(world.pool.enclaves()[&id].cordon().unwrap().why.check, "policy.soon");
}

#[test]
fn an_end_is_never_moved_later_in_silence() {
    let mut world = World::new([]);
    world.apply(add(image("known", "ab"), false)).unwrap();
    let end = world.now.plus(100);
    world.apply(expire("known", Some(end), false)).unwrap();
    assert_eq!(kinds(&world.apply(expire("known", Some(end), false)).unwrap()), [""; 0]);
    assert_eq!(world.refused(expire("known", Some(end.plus(1)), false)), "reference.expiry");
}

/// On TDX the measurement is of the virtual firmware: a reference value of an enclave there takes in what it started.
#[test]
fn an_image_of_an_enclave_says_what_its_machine_started() {
    let mut world = World::new([]);
    let machine = Machine::new("a");
    let appointment = world.appointment(&world.verifier, Office::Verifier);
    let mut passport = machine.passport(START, START.plus(HOUR), &world.verifier, appointment.digest());
    passport.claims.tee.value = TeeKind::Tdx;
    passport.claims.anchor = Anchor::Production("intel-sgx-root".into());
    passport.claims.measurement.value = "11".repeat(48);
    passport.claims.registers =
        ["rtmr0", "rtmr1", "rtmr2", "rtmr3"].map(|name| (name.to_owned(), "22".repeat(48))).into();
    let attested = Command::Attested {
        passport: Box::new(sign(passport, &world.verifier)),
        appointment: Box::new(appointment),
        evidence: Box::new(machine.evidence()),
        collateral: Vec::new(),
    };
    world.apply(attested).unwrap();
    let value = world.pool.image_of(machine.id).unwrap();
    let ReferenceKind::Image { registers, tees, .. } = &value else { panic!("an image") };
    assert_eq!(registers.keys().collect::<Vec<_>>(), ["rtmr0", "rtmr1", "rtmr2"]);
    assert_eq!(tees.iter().copied().collect::<Vec<_>>(), [TeeKind::Tdx]);
    let bare = ReferenceKind::Image { measurement: "11".repeat(48), registers: BTreeMap::new(), tees: tees.clone() };
    assert_eq!(world.refused(add(ReferenceValue { value: bare, ..image("web", "11") }, false)), "reference.registers");
    did(&world.apply(add(ReferenceValue { value, ..image("web", "11") }, false)).unwrap(), &["reference web added"]);
    assert_eq!(world.pool.image_of(Machine::new("b").id).unwrap_err().check, "pool.enclave");
}

/// A proof for one tenant's work keeps an enclave in the pool, and no other tenant's work on it.
#[test]
fn work_ends_that_no_proof_covers_any_more() {
    let a = Machine::new("a").at("alpha", "eu-1", 1);
    let id = a.id;
    let mut world = World::new([a]);
    let task = world.submit_granted(vec![fragment("of acme")]);
    assert_eq!(world.lease(task, 0).unwrap().1, id);
    world.now = world.now.plus(1);
    let others = world.attested_by(&Key::new("other's"), Some(&["other"]), &world.machines[&id], world.now.plus(HOUR));
    world.apply(others).unwrap();
    assert!(world.lease(task, 0).is_some(), "one proof more takes nothing away");
    let applied = world.apply(set(Scope::Pool, US)).unwrap();
    assert!(!kinds(&applied).contains(&"barred"), "the other tenant's verifier lets it in: {:?}", kinds(&applied));
    assert!(world.pool.enclaves()[&id].cordon().is_none());
    assert_eq!(world.phase(task, 0), Phase::Queued, "what rested on the pool's policy ends");
}

#[test]
fn a_rule_about_slots_is_asked_for_each_slot_of_a_chip() {
    let in_slot = |name: &str, slot: u16| {
        let mut machine = Machine::new(name);
        machine.chip = "chip of both".into();
        machine.configuration.slot = slot;
        machine
    };
    for allowed in [0, 1] {
        let limits = Limits { slots_per_chip: 2, ..limits() };
        let (first, second) = (in_slot("first", 0), in_slot("second", 1));
        let mut world = World::with(limits, [in_slot("first", 0), in_slot("second", 1)]);
        let text = format!("@id(\"one\") permit (principal, action, resource) when {{ principal.slot == {allowed} }};");
        world.apply(set(acme(), &text)).unwrap();
        let wanted = if allowed == 0 { first.id } else { second.id };
        for n in 0..2 {
            let task = world.submit_granted(vec![fragment(&format!("work {n}"))]);
            assert_eq!(world.lease(task, 0).map(|(_, enclave)| enclave), Some(wanted), "slot {allowed}");
        }
        // It has room for two, and the other slot is not for this tenant.
        let task = world.submit_granted(vec![fragment("one more")]);
        assert_eq!(world.phase(task, 0), Phase::Queued);
    }
}

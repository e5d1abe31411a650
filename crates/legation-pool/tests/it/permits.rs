//! Rules of placement: whose work with which data goes where, and what it may use there; residency and sensitivity without
//! any rule.

use legation_core::{
    Bytes, Encryption, Fuel, Region, TaskId, TenantId,
    dsse::sign,
    prefer::{DataTerms, Priority, Sensitivity},
    statement::{Outcome, Request},
    task::Fragment,
};
use legation_policy::Scope;
use legation_pool::{Command, Outlook, Phase};

use crate::world::*;

const ALL: &str = "@id(\"all\") permit (principal, action == Action::\"admit\", resource);";

fn set(scope: Scope, text: &str) -> Command {
    Command::SetPolicy { scope, text: text.into(), author: "operator".into() }
}

fn acme() -> Scope {
    Scope::Tenant(TenantId::new("acme").unwrap())
}

fn submit(world: &mut World, fragments: Vec<Fragment>, change: impl FnOnce(&mut Request)) -> TaskId {
    let mut request = (*world.signed(fragments)).clone();
    change(&mut request);
    let request = sign(request, &world.client);
    let grant = sign(policy_grant(&request, &world.client), &world.client);
    world.submit_with(&request, vec![grant], None).unwrap();
    TaskId::new(request.digest())
}

/// Where the first fragment is, or the checks that keep it from each machine.
fn outcome(world: &World, task: TaskId) -> String {
    match world.lease(task, 0) {
        Some((_, enclave)) => world.machines[&enclave].configuration.region.to_string(),
        None => {
            let said = world.pool.explain(task, world.now).unwrap();
            assert!(said[0].ranking.is_empty());
            let why = said[0].classes.iter().flat_map(|class| &class.why_not).map(|why| &why.why);
            why.map(|w| w.check.clone())
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
                .join(" ")
        }
    }
}

fn two() -> World {
    World::new([Machine::new("a"), Machine::new("b").at("bravo", "us-1", 2)])
}

fn data(sensitivity: Sensitivity, regulations: &[&str]) -> DataTerms {
    DataTerms {
        sensitivity,
        regulations: regulations.iter().map(|r| (*r).to_owned()).collect(),
        ..DataTerms::default()
    }
}

#[test]
fn data_stays_where_it_may_be_without_any_policy() {
    let mut world = two();
    let region = |name: &str| Region::new(name).unwrap();
    let task = submit(&mut world, vec![fragment("us")], |r| r.data.residency = [region("us-1")].into());
    assert_eq!(outcome(&world, task), "us-1");
    let task = submit(&mut world, vec![fragment("mars")], |r| r.data.residency = [region("mars-1")].into());
    assert_eq!(outcome(&world, task), "data.residency");
    // A requirement that leaves no region of residence is refused at once.
    let mut request = (*world.signed(vec![fragment("torn")])).clone();
    request.data.residency = [region("eu-1")].into();
    request.require = "region == \"us-1\" and price < 1 usd/h".parse().unwrap();
    let request = sign(request, &world.client);
    let submit = Command::Submit { request: Box::new(request), grants: Vec::new(), idempotency: None };
    assert_eq!(world.refused(submit), "request.residency");
}

#[test]
fn once_a_scope_has_rules_of_placement_what_none_permits_is_refused() {
    let mut world = two();
    let rules = [
        ALL,
        "@id(\"gdpr-in-europe\") permit (principal, action == Action::\"place\", resource) \
         when { context.regulations.contains(\"gdpr\") && resource.region like \"eu-*\" };",
        "@id(\"public-anywhere\") permit (principal, action == Action::\"place\", resource) \
         when { context.sensitivity == Sensitivity::\"public\" };",
        "@id(\"urgent-not-at-bravo\") forbid (principal, action == Action::\"place\", resource) \
         when { context.priority > 4 && resource.provider == \"bravo\" };",
    ];
    world.apply(set(Scope::Pool, &rules.join("\n"))).unwrap();
    let cases: [(DataTerms, &str, &str); 4] = [
        (data(Sensitivity::Confidential, &["gdpr"]), "any", "eu-1"),
        (data(Sensitivity::Confidential, &[]), "any", "place.policy"),
        (data(Sensitivity::Public, &[]), "provider == \"bravo\"", "us-1"),
        (data(Sensitivity::Internal, &["gdpr"]), "provider == \"bravo\"", "place.policy require.provider"),
    ];
    for (terms, require, wanted) in cases {
        let task = submit(&mut world, vec![fragment("work")], |r| {
            (r.data, r.require) = (terms.clone(), require.parse().unwrap());
        });
        assert_eq!(outcome(&world, task), wanted, "{terms:?}");
    }
    let said = world.pool.policy(&Scope::Pool).unwrap();
    assert!(said.places() && !said.depends_on_time());
}

#[test]
fn a_change_of_rules_counts_at_once_and_a_tenants_rules_narrow() {
    let mut world = two();
    let place =
        "@id(\"cheap\") permit (principal, action == Action::\"place\", resource) when { context.price_hour < 2000 };";
    world.apply(set(acme(), place)).unwrap();
    let dear = |r: &mut Request| r.require = "provider == \"bravo\"".parse().unwrap();
    let task = submit(&mut world, vec![fragment("dear")], dear);
    assert_eq!(outcome(&world, task), "place.policy require.provider");
    // It waits, and is placed as soon as the tenant allows it.
    world.apply(set(acme(), &place.replace("2000", "3000"))).unwrap();
    assert_eq!(outcome(&world, task), "us-1");
    // Another tenant's policy says nothing of this one's work; another tenant cannot be named in a tenant's.
    let theirs = "@id(\"x\") permit (principal == Tenant::\"other\", action == Action::\"place\", resource);";
    assert_eq!(world.refused(set(acme(), theirs)), "policy.entity");
    world.apply(set(Scope::Pool, &[ALL, theirs].concat())).unwrap();
    let task = submit(&mut world, vec![fragment("not theirs")], |_| {});
    assert_eq!(outcome(&world, task), "place.policy");
}

#[test]
fn what_rules_can_see_tells_requests_apart() {
    let mut world = two();
    let rules =
        "@id(\"calm\") permit (principal, action == Action::\"place\", resource) when { context.priority < 3 };";
    world.apply(set(acme(), rules)).unwrap();
    // The first finds nothing, and the second, alike but for what the rules see, is placed all the same.
    let usual = submit(&mut world, vec![fragment("work")], |_| {});
    let calm = submit(&mut world, vec![fragment("work")], |r| r.prefer.priority = Priority(2));
    assert_eq!((outcome(&world, usual).as_str(), outcome(&world, calm).as_str()), ("place.policy", "eu-1"));
    world.wait(1);
    assert_eq!(world.phase(usual, 0), Phase::Queued);
}

const LIMITED: &str = "
@id(\"small\") @limit_memory(\"128 MiB\") @limit_fuel(\"20 G\") @limit_egress(\"16 MiB\")
permit (principal, action == Action::\"place\", resource);
@id(\"behind\") @limit_memory(\"64 MiB\") @limit_time(\"60 s\") @min_encryption(\"aes-256-gcm\")
permit (principal, action == Action::\"place\", resource) when { resource.tcb.status == TcbStatus::\"unknown\" };
@id(\"other-region\") @limit_memory(\"1 MiB\")
permit (principal, action == Action::\"place\", resource) when { resource.region == \"mars-1\" };";

#[test]
fn the_least_of_all_permits_that_hold_stands_in_the_allocation() {
    let mut world = two();
    world.apply(set(acme(), LIMITED)).unwrap();
    let task = submit(&mut world, vec![fragment("work")], |_| {});
    let known = world.pool.tasks().get(&task).unwrap();
    let limits = known.fragments[0].allocations[0].limits.clone().unwrap();
    assert_eq!(
        (limits.memory, limits.fuel, limits.egress),
        (Some(Bytes::mib(64)), Some(Fuel(20_000_000_000)), Some(Bytes::mib(16)))
    );
    assert_eq!(
        (limits.cpu, limits.time.map(|t| t.0), limits.encryption),
        (None, Some(60_000), Some(Encryption::Aes256Gcm))
    );
    assert_eq!(limits.rules, ["tenant/acme/behind", "tenant/acme/small"]);
    assert_eq!(world.pool.task_view(task).unwrap().fragments[0].limits, Some(limits.clone()));
    // The estimate of another says the same.
    let request = world.signed(vec![fragment("next")]);
    let said = world.pool.estimate(request, &[], world.now).unwrap();
    assert!(matches!(&said.fragments[0].outlook, Outlook::Placed(place) if place.limits.as_ref() == Some(&limits)));
    // Rules without limits set none.
    world.apply(set(acme(), ALL)).unwrap();
    let task = submit(&mut world, vec![fragment("free")], |_| {});
    assert_eq!(world.pool.tasks()[&task].fragments[0].allocations[0].limits, None);
}

#[test]
fn work_that_asks_for_more_than_the_limits_is_not_placed() {
    let mut world = two();
    world.apply(set(acme(), LIMITED)).unwrap();
    type Change = fn(&mut Fragment);
    let changes: [(&str, Change); 4] = [
        ("limits.memory", |f| f.demand.memory = Bytes::mib(65)),
        ("limits.fuel", |f| f.demand.fuel = Fuel(20_000_000_001)),
        ("limits.time", |f| f.demand.time.0 = 60_001),
        ("limits.egress", |f| f.demand.output = Bytes(16 * (1 << 20) + 1)),
    ];
    for (check, change) in changes {
        let mut spec = fragment("wide");
        change(&mut spec);
        let task = submit(&mut world, vec![spec], |_| {});
        assert_eq!(outcome(&world, task), check);
    }
    world.apply(set(acme(), &LIMITED.replace("aes-256-gcm", "aes-256-gcm-ml-kem-1024"))).unwrap();
    let task = submit(&mut world, vec![fragment("sealed")], |_| {});
    assert_eq!(outcome(&world, task), "limits.encryption");
}

#[test]
fn a_report_over_the_limits_is_refused() {
    let rules = "@id(\"small\") @limit_egress(\"16 MiB\") permit (principal, action == Action::\"place\", resource);";
    for (size, taken) in [(16 << 20, true), ((16 << 20) + 1, false)] {
        let mut world = two();
        world.apply(set(acme(), rules)).unwrap();
        let task = submit(&mut world, vec![fragment("leaves")], |_| {});
        let (lease, enclave) = world.lease(task, 0).unwrap();
        let mut ran = world.ran(lease);
        ran.report.output.as_mut().unwrap().size = Bytes(size);
        world.apply(world.reporting(enclave, ran)).unwrap();
        let known = &world.pool.tasks()[&task].fragments[0];
        assert_eq!(known.done.as_ref().map(|d| d.report.outcome.clone()), taken.then_some(Outcome::Completed));
        if !taken {
            let ended = known.attempts[0].ended.as_ref().unwrap().to_string();
            assert!(ended.contains("limits.egress"), "{ended}");
        }
    }
}

#[test]
fn rules_that_cannot_be_are_refused_when_they_are_set() {
    let mut world = World::new([]);
    let place = |annotations: &str, condition: &str| {
        format!(
            "@id(\"r\") {annotations} permit (principal, action == Action::\"place\", resource) when {{ {condition} }};"
        )
    };
    for (text, check) in [
        (place("", "context.weather == 1"), "policy.schema"),
        (place("", "principal.debug"), "policy.schema"),
        (place("", "resource.speed > 1"), "policy.schema"),
        (place("", "context.sensitivity == Sensitivity::\"secret\""), "policy.schema"),
        (place("@limit_memory(\"8 GB\")", "true"), "policy.annotation"),
        (place("@limit_disk(\"8 GiB\")", "true"), "policy.annotation"),
        (place("@grace(\"2027-01-31\") @why(\"x\")", "true"), "policy.annotation"),
        (place("@min_encryption(\"rot13\")", "true"), "policy.annotation"),
        ("@id(\"r\") @limit_cpu(\"1\") permit (principal, action, resource);".to_owned(), "policy.annotation"),
        ("@id(\"r\") forbid (principal, action == Action::\"place\", resource);".to_owned(), "policy.permit"),
        (
            "@id(\"r\") permit (principal, action in [Action::\"place\", Action::\"admit\"], resource);".to_owned(),
            "policy.action",
        ),
    ] {
        assert_eq!(world.refused(set(acme(), &text)), check, "{text}");
    }
    // The pool's own text admits somebody.
    assert_eq!(world.refused(set(Scope::Pool, &place("", "true"))), "policy.permit");
}

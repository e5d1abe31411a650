//! What a request would come to, before it is submitted.

use legation_core::{MicroUsd, Region, TenantId, dsse::sign};
use legation_pool::{AccountTerms, Command, Estimate, Outlook, Quota};

use crate::world::*;

fn estimate(world: &mut World, fragments: Vec<legation_core::task::Fragment>) -> Estimate {
    let request = world.signed(fragments);
    let before = world.pool.clone();
    let estimate = world.pool.estimate(request, &[], world.now).unwrap();
    assert_eq!(world.pool, before, "an estimate changed the pool");
    estimate
}

#[test]
fn fragments_get_in_each_others_way_as_they_would() {
    let mut world = World::new([Machine::new("a").slots(1), Machine::new("b").at("bravo", "us-1", 2).slots(1)]);
    let sum = reading(fragment("sum"), vec![output_of(0)]);
    let said = estimate(&mut world, vec![fragment("one"), fragment("two"), fragment("three"), sum]);
    let outlooks: Vec<_> = said
        .fragments
        .iter()
        .map(|f| match &f.outlook {
            Outlook::Placed(place) => format!("{} at {}, {}", place.region, place.price_hour, place.cost_max.0),
            Outlook::Queued { why, ahead, wait, .. } => format!("{}, {ahead} ahead, {wait:?}", why.check),
            Outlook::InSwarm { .. } => "in a swarm".to_owned(),
            Outlook::Behind { behind, place } => format!("behind {}, {}", behind[0], place.is_some()),
        })
        .collect();
    let wanted =
        ["eu-1 at 0.001000 usd, 17", "us-1 at 0.002000 usd, 34", "pool.capacity, 0 ahead, None", "behind #0, false"];
    assert_eq!(outlooks, wanted);
    assert_eq!((said.cost_max, said.cost_expected), (MicroUsd(51), MicroUsd(51)));
}

#[test]
fn what_a_module_took_before_is_what_is_expected() {
    let mut world = World::new([Machine::new("a")]);
    let expected = |said: &Estimate| {
        let place = said.fragments[0].outlook.place().unwrap();
        (place.cost_expected.0, place.past_runs)
    };
    assert_eq!(expected(&estimate(&mut world, vec![fragment("new")])), (17, 0));
    for seconds in [10, 30] {
        let task = world.submit_granted(vec![fragment("run")]);
        let (lease, enclave) = world.lease(task, 0).unwrap();
        world.now = world.now.plus(seconds);
        let mut ran = world.ran(lease);
        ran.report.usage.micros = seconds * 1_000_000;
        world.apply(world.reporting(enclave, ran)).unwrap();
    }
    // Twenty seconds of a tenth of a core, at a cent per core-hour.
    assert_eq!(expected(&estimate(&mut world, vec![fragment("again")])), (6, 2));
    // What failed says nothing of how long it takes.
    let task = world.submit_granted(vec![fragment("fails")]);
    let (lease, _) = world.lease(task, 0).unwrap();
    world.fail(lease, "trap");
    assert_eq!(expected(&estimate(&mut world, vec![fragment("again")])), (6, 2));
    // Another tenant's runs are its own business.
    let mut request = (*world.signed(vec![fragment("theirs")])).clone();
    request.tenant = TenantId::new("other").unwrap();
    let request = sign(request, &world.client);
    let said = world.pool.estimate(request, &[], world.now).unwrap();
    assert_eq!(expected(&said), (17, 0));
    assert_eq!(world.pool.accounts().len(), 1, "asking opened an account");
}

#[test]
fn a_wait_ends_when_what_stands_in_the_way_does() {
    let mut world = World::new([Machine::new("a").slots(1)]);
    let task = world.submit_granted(vec![fragment("quick")]);
    let (lease, _) = world.lease(task, 0).unwrap();
    world.run(lease);
    world.submit_granted(vec![fragment("now")]);
    world.submit_granted(vec![fragment("waits")]);
    let said = estimate(&mut world, vec![fragment("next")]);
    let Outlook::Queued { why, passed_over, ahead, wait } = &said.fragments[0].outlook else { panic!("{said:?}") };
    assert_eq!((why.check.as_str(), passed_over.len(), *ahead), ("pool.capacity", 1, 1));
    // A run counted one second, and one goes before; a lease lasts a minute, 30 s for grants and 15 s beyond, and is noticed late.
    assert_eq!(wait.map(|w| (w.seconds_expected, w.seconds_max)), Some((2, 2 * 107 + 1)));
}

#[test]
fn what_would_be_refused_is_refused_for_the_same_reason() {
    let mut world = World::new([Machine::new("a")]);
    let terms = AccountTerms { quota: Quota { tasks: Some(0), ..Quota::default() }, ..AccountTerms::default() };
    let tenant = Some(TenantId::new("acme").unwrap());
    world.apply(Command::SetAccount { tenant: tenant.clone(), terms, as_of: None, author: "x".into() }).unwrap();
    let request = world.signed(vec![fragment("one")]);
    let estimated = world.pool.estimate(request.clone(), &[], world.now).unwrap_err();
    let refused = world.submit_with(&request, Vec::new(), None).unwrap_err();
    assert_eq!(estimated, refused);
    let terms = AccountTerms { quota: Quota { leases: Some(0), ..Quota::default() }, ..AccountTerms::default() };
    world.apply(Command::SetAccount { tenant, terms, as_of: None, author: "x".into() }).unwrap();
    let said = world.pool.estimate(request.clone(), &[], world.now);
    assert_eq!(said.unwrap_err().check, "account.quota");
    // Nowhere at all: the reason says what was missing.
    let mut far = (*request).clone();
    far.data.residency = [Region::new("mars-1").unwrap()].into();
    let terms = AccountTerms::default();
    let tenant = Some(TenantId::new("acme").unwrap());
    world.apply(Command::SetAccount { tenant, terms, as_of: None, author: "x".into() }).unwrap();
    let said = world.pool.estimate(sign(far, &world.client), &[], world.now).unwrap();
    let Outlook::Queued { why, wait, .. } = &said.fragments[0].outlook else { panic!("{said:?}") };
    assert_eq!((why.check.as_str(), *wait), ("data.residency", None));
    world.submit_with(&request, Vec::new(), None).unwrap();
    assert_eq!(world.pool.estimate(request, &[], world.now).unwrap_err().check, "task.known");
}

//! Grants by themselves: against their request, and against the grant they were passed on from, with every kind of widening.

use legation_core::{
    Envelope, FragmentIndex, Fuel, MicroUsd, Requirement, Signed, TaskId,
    delegation::attenuates,
    grant::check_grant,
    statement::{Assurance, Diversity, Grant, GrantSubject, Request},
};
use serde::Serialize;

use super::{VERSION, json, list, object, settle};
use crate::{
    handed::{self, THREE, delegable, time},
    world::{digest, key, no_bend, object as object_id},
};

/// A grant against its request; `check` is the first that refuses.
#[derive(Serialize)]
struct Within {
    name: &'static str,
    grant: Grant,
    check: Option<String>,
}

/// A grant against one that it was passed on from.
#[derive(Serialize)]
struct Passed {
    name: &'static str,
    parent: Grant,
    child: Grant,
    check: Option<String>,
}

type Change = fn(&mut Grant);
type Both = fn(&mut Grant, &mut Grant);

fn opened<P: legation_core::Predicate>(world: &handed::World, label: &str) -> Signed<P> {
    let digest = world.labels[label];
    world.envelopes.iter().find(|e| e.digest() == digest).unwrap().open().unwrap()
}

const WITHIN: [(&str, bool, Change); 26] = [
    ("as it is", true, |_| ()),
    ("less of everything", true, |g| {
        (g.fuel, g.budget, g.depth, g.expires) = (Fuel(1), MicroUsd(1), 1, time(1));
        g.delegable = Some(delegable(1, 1));
    }),
    ("nothing passed on", true, |g| (g.depth, g.delegable) = (0, None)),
    ("passed on to enclaves of a kind", true, |g| {
        passed(g).require = Some(Requirement::parse("tee == dev-snp").unwrap());
    }),
    ("passed on to be replicated", true, |g| passed(g).assurance = THREE),
    ("a key passed on that it releases", true, |g| passed(g).releases = vec![object_id("north/data")]),
    ("of another task", false, |g| g.task = TaskId::new(digest("x"))),
    ("resting on nothing", false, |g| g.prev.clear()),
    ("longer than the request", false, |g| g.expires = time(3601)),
    ("more than the task's budget", false, |g| g.budget = MicroUsd(10_001)),
    ("more fuel than the fragment", false, |g| g.fuel = Fuel(1_000_000_001)),
    ("of no fragment", false, |g| g.fragments.clear()),
    ("of no such fragment", false, |g| g.fragments = vec![FragmentIndex(1)]),
    ("of a fragment twice", false, |g| g.fragments.push(FragmentIndex(0))),
    ("of another module", false, |g| g.modules = vec![digest("x")]),
    ("of a module more", false, |g| g.modules.push(digest("part.wasm"))),
    ("by somebody else", false, |g| g.issuer = key("attacker")),
    ("releasing what it does not hold", false, |g| g.releases = vec![object_id("model")]),
    ("to whoever satisfies another policy", false, |g| g.subject = GrantSubject::Policy(digest("x"))),
    ("deeper than the request", false, |g| g.depth = 4),
    ("depth without anything to pass on", false, |g| g.delegable = None),
    ("something to pass on without depth", false, |g| g.depth = 0),
    ("passing on another module", false, |g| passed(g).modules = vec![digest("x")]),
    ("passing on more fuel", false, |g| passed(g).fuel = Fuel(1_000_000_001)),
    ("passing on more budget", false, |g| passed(g).budget = MicroUsd(9_001)),
    ("passing on a key that it does not release", false, |g| passed(g).releases = vec![object_id("model")]),
];

const PASSED: [(&str, bool, Both); 34] = [
    ("as it is", true, |_, _| ()),
    ("all that may be passed on", true, |p, c| {
        let purse = passed(p);
        (c.fuel, c.budget, c.depth, c.delegable) = (purse.fuel, purse.budget, 0, None);
    }),
    ("half of it passed on further", true, |_, c| {
        (c.fuel, c.budget) = (Fuel(500_000_000), MicroUsd(4_500));
        c.delegable = Some(delegable(500_000_000, 4_500));
    }),
    ("a key that may go on", true, |p, c| {
        passed(p).releases = vec![object_id("north/data")];
        c.releases = vec![object_id("north/data")];
    }),
    ("a stronger assurance", true, |_, c| passed(c).assurance = Assurance::Proven),
    ("as long as its parent", true, |p, c| c.expires = p.expires),
    ("of a parent that lets nothing be passed on", false, |p, _| (p.depth, p.delegable) = (0, None)),
    ("of a parent of depth 0", false, |p, _| p.depth = 0),
    ("of a parent without anything to pass on", false, |p, _| p.delegable = None),
    ("of a parent to a policy", false, |p, _| p.subject = GrantSubject::Policy(digest("x"))),
    ("of a parent to another enclave", false, |p, _| p.subject = GrantSubject::Enclave(key("enclave-b").enclave_id())),
    ("by another enclave", false, |_, c| c.issuer = key("enclave-b")),
    ("by an unknown key", false, |_, c| c.issuer = key("attacker")),
    ("of another task", false, |_, c| c.task = TaskId::new(digest("x"))),
    ("of another fragment", false, |_, c| c.fragments = vec![FragmentIndex(1)]),
    ("of no fragment", false, |_, c| c.fragments.clear()),
    ("of two fragments", false, |p, c| {
        p.fragments.push(FragmentIndex(1));
        c.fragments.push(FragmentIndex(1));
    }),
    ("to a policy", false, |_, c| c.subject = GrantSubject::Policy(digest("x"))),
    ("to itself", false, |p, c| c.subject = p.subject.clone()),
    ("as deep", false, |p, c| c.depth = p.depth),
    ("deeper", false, |p, c| c.depth = p.depth + 1),
    ("depth without anything to pass on", false, |_, c| c.delegable = None),
    ("something to pass on without depth", false, |_, c| c.depth = 0),
    ("longer", false, |p, c| c.expires = p.expires.plus(1)),
    ("no module", false, |_, c| c.modules.clear()),
    ("another module", false, |_, c| c.modules = vec![digest("x")]),
    ("its parent's own module", false, |p, c| c.modules = p.modules.clone()),
    ("a module twice", false, |_, c| c.modules.push(c.modules[0])),
    ("more fuel", false, |_, c| c.fuel = Fuel(600_000_001)),
    ("fuel past all numbers", false, |_, c| c.fuel = Fuel(u64::MAX)),
    ("more budget", false, |_, c| passed(c).budget = MicroUsd(8_801)),
    ("a key that may not go on", false, |_, c| c.releases = vec![object_id("north/data")]),
    ("another module below", false, |_, c| passed(c).modules = vec![digest("x")]),
    ("a weaker assurance below", false, |p, c| {
        passed(p).assurance = Assurance::Replicated { k: 3, diverse: Diversity::Provider };
        passed(c).assurance = Assurance::Replicated { k: 3, diverse: Diversity::Tee };
    }),
];

fn passed(grant: &mut Grant) -> &mut legation_core::statement::Delegable {
    grant.delegable.as_mut().unwrap()
}

#[test]
fn grants_and_what_widens_them() {
    let world = handed::build(handed::Plan::default(), &no_bend);
    let request: Signed<Request> = opened(&world, "request");
    let envelope: &Envelope = request.envelope();
    let (parent, child): (Signed<Grant>, Signed<Grant>) = (opened(&world, "grant-north"), opened(&world, "child-d"));
    let within = WITHIN.map(|(name, good, change)| {
        let mut grant = parent.predicate().clone();
        change(&mut grant);
        let check = check_grant(&request, &grant).err().map(|why| why.check);
        assert_eq!(check.is_none(), good, "{name}: {check:?}");
        Within { name, grant, check }
    });
    let passed = PASSED.map(|(name, good, change)| {
        let (mut parent, mut child) = (parent.predicate().clone(), child.predicate().clone());
        change(&mut parent, &mut child);
        let check = attenuates(&parent, &child).err().map(|why| why.check);
        assert_eq!(check.is_none(), good, "{name}: {check:?}");
        Passed { name, parent, child, check }
    });
    let text = object(&[
        ("version", json(&VERSION)),
        ("kind", json(&"grants")),
        ("request", json(envelope)),
        ("within", list(within.iter().map(json))),
        ("passed", list(passed.iter().map(json))),
    ]);
    settle("grants.json", &text);
}

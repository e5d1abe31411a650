//! What grants allow: every bound, alone and together.

use legation_core::{
    Digest, FragmentIndex, Fuel, MicroUsd, ObjectId, PublicKey, Requirement, Revoked, Signed, Signer, TaskId, UnixTime,
    dsse,
    grant::{Use, check_grant, check_use},
    statement::{Grant, GrantSubject, Request},
    task::Input,
};
use proptest::prelude::*;

use crate::{
    party::Party,
    world::{Plan, Said, T0, build, digest, key, object, output},
};

const PARTIES: [&str; 5] = ["north", "south", "west", "client", "attacker"];

/// The second round's request: trainers read their own data and the client's model, #3 reads what they leave.
fn request() -> Signed<Request> {
    let world = build(Plan { moved: false, ..Plan::default() }, &|label, said, _| {
        if let ("r2/request", Said::Request(request)) = (label, said) {
            request.fragments[1].demand.fuel = Fuel(800);
        }
    });
    let at = world.labels["r2/request"];
    world.envelopes.iter().find(|e| e.digest() == at).unwrap().open().unwrap()
}

fn time(seconds: u64) -> UnixTime {
    UnixTime(T0 + 1000 + seconds)
}

/// What `north` grants for its own fragment #0.
fn grant(request: &Signed<Request>) -> Grant {
    Grant {
        issuer: key("north"),
        task: TaskId::new(request.digest()),
        fragments: vec![FragmentIndex(0)],
        subject: GrantSubject::Enclave(key("enclave-north").enclave_id()),
        modules: vec![digest("train.wasm")],
        fuel: Fuel(1_000_000_000),
        budget: MicroUsd(10_000),
        depth: 0,
        expires: time(3600),
        releases: vec![object("r2/north/data")],
        delegable: None,
        prev: vec![request.digest()],
    }
}

#[test]
fn one_grant_stays_within_its_request() {
    let request = request();
    let policy = request.require.digest();
    type Change = Box<dyn Fn(&mut Grant)>;
    let cases: Vec<(&str, Change, Option<&str>)> = vec![
        ("as it is, at every bound", Box::new(|_| ()), None),
        (
            "less of everything",
            Box::new(|g| {
                (g.fuel, g.budget, g.expires) = (Fuel(0), MicroUsd(0), UnixTime(0));
                g.releases.clear();
            }),
            None,
        ),
        ("another task", Box::new(|g| g.task = TaskId::new(digest("x"))), Some("grant.task")),
        ("rests on nothing", Box::new(|g| g.prev.clear()), Some("grant.task")),
        ("rests on another", Box::new(|g| g.prev = vec![digest("x")]), Some("grant.task")),
        ("rests on more", Box::new(|g| g.prev.push(digest("x"))), Some("grant.task")),
        ("rests on it twice", Box::new(|g| g.prev.push(g.prev[0])), Some("grant.task")),
        ("a second too long", Box::new(|g| g.expires = time(3601)), Some("grant.expires")),
        ("a millionth too much", Box::new(|g| g.budget = MicroUsd(10_001)), Some("grant.budget")),
        ("passed on once", Box::new(|g| g.depth = 1), Some("grant.depth")),
        ("no fragment", Box::new(|g| g.fragments.clear()), Some("grant.fragments")),
        ("a fragment twice", Box::new(|g| g.fragments.push(FragmentIndex(0))), Some("grant.fragments")),
        (
            "fragments backwards",
            Box::new(|g| {
                (g.issuer, g.fragments) = (key("client"), vec![FragmentIndex(1), FragmentIndex(0)]);
            }),
            Some("grant.fragments"),
        ),
        ("a fragment that is not", Box::new(|g| g.fragments = vec![FragmentIndex(4)]), Some("grant.fragments")),
        (
            "the last fragment there could be",
            Box::new(|g| g.fragments = vec![FragmentIndex(u32::MAX)]),
            Some("grant.fragments"),
        ),
        ("no module", Box::new(|g| g.modules.clear()), Some("grant.module")),
        ("another module", Box::new(|g| g.modules = vec![digest("reduce.wasm")]), Some("grant.module")),
        ("one module more", Box::new(|g| g.modules.push(digest("reduce.wasm"))), Some("grant.module")),
        ("a unit of fuel too much", Box::new(|g| g.fuel = Fuel(1_000_000_001)), Some("grant.fuel")),
        ("somebody else", Box::new(|g| g.issuer = key("attacker")), Some("grant.issuer")),
        ("another owner", Box::new(|g| g.issuer = key("south")), Some("grant.issuer")),
        ("the enclave itself", Box::new(|g| g.issuer = key("enclave-north")), Some("grant.issuer")),
        (
            "the client, who holds the model",
            Box::new(|g| {
                (g.issuer, g.releases) = (key("client"), vec![object("r2/model")]);
            }),
            None,
        ),
        ("the client, with the owner's data", Box::new(|g| g.issuer = key("client")), Some("grant.releases")),
        (
            "the owner, with the client's model",
            Box::new(|g| g.releases.push(object("r2/model"))),
            Some("grant.releases"),
        ),
        ("an object of nobody", Box::new(|g| g.releases = vec![object("x")]), Some("grant.releases")),
        (
            "an object of the first round",
            Box::new(|g| g.releases = vec![object("r1/north/data")]),
            Some("grant.releases"),
        ),
        (
            "the client for all trainers",
            Box::new(|g| {
                (g.issuer, g.releases) = (key("client"), vec![object("r2/model")]);
                (g.fragments, g.fuel) = ((0..3).map(FragmentIndex).collect(), Fuel(800));
            }),
            None,
        ),
        (
            "with more fuel than the least of them",
            Box::new(|g| {
                (g.issuer, g.releases) = (key("client"), vec![object("r2/model")]);
                (g.fragments, g.fuel) = ((0..3).map(FragmentIndex).collect(), Fuel(801));
            }),
            Some("grant.fuel"),
        ),
        (
            "an owner for a reader of its output",
            Box::new(|g| {
                (g.fragments, g.modules) = (vec![FragmentIndex(3)], vec![digest("reduce.wasm")]);
                g.releases = vec![output("r2/output-0").object];
            }),
            None,
        ),
        (
            "an owner for both",
            Box::new(|g| {
                g.fragments = vec![FragmentIndex(0), FragmentIndex(3)];
                g.modules.push(digest("reduce.wasm"));
            }),
            None,
        ),
        (
            "for both, with one module",
            Box::new(|g| {
                g.fragments = vec![FragmentIndex(0), FragmentIndex(3)];
            }),
            Some("grant.module"),
        ),
        (
            "any enclave, releasing a key",
            Box::new(move |g| g.subject = GrantSubject::Policy(policy)),
            Some("grant.policy"),
        ),
        (
            "any enclave",
            Box::new(move |g| {
                (g.subject, g.releases) = (GrantSubject::Policy(policy), Vec::new());
            }),
            None,
        ),
        (
            "any enclave by another policy",
            Box::new(|g| {
                (g.subject, g.releases) = (GrantSubject::Policy(Requirement::any().digest()), Vec::new());
            }),
            Some("grant.policy"),
        ),
    ];
    for (what, change, refused) in cases {
        let mut grant = grant(&request);
        change(&mut grant);
        let got = check_grant(&request, &grant);
        assert_eq!(got.as_ref().err().map(|why| why.check.as_str()), refused, "{what}: {got:?}");
    }
}

/// The grants of `north` and of the client that together let #0 run, and the use they allow.
struct Allowed {
    request: Signed<Request>,
    grants: Vec<Grant>,
    fragment: u32,
    enclave: &'static str,
    objects: Vec<ObjectId>,
    at: UnixTime,
}

impl Allowed {
    fn new() -> Self {
        let request = request();
        let owner = Grant { expires: time(1800), ..grant(&request) };
        let holder = Grant { issuer: key("client"), releases: vec![object("r2/model")], ..owner.clone() };
        Self {
            request,
            grants: vec![owner, holder],
            fragment: 0,
            enclave: "enclave-north",
            objects: vec![object("r2/north/data"), object("r2/model")],
            at: time(1800),
        }
    }

    fn check(&self) -> Result<(), String> {
        let sign = |grant: &Grant| {
            let name = PARTIES.into_iter().find(|name| key(name) == grant.issuer).unwrap();
            dsse::sign(grant.clone(), &Party::new(name) as &dyn Signer)
        };
        let grants: Vec<_> = self.grants.iter().map(sign).collect();
        let (fragment, enclave) = (FragmentIndex(self.fragment), key(self.enclave).enclave_id());
        let used = Use { fragment, enclave, objects: &self.objects, at: self.at, revoked: &Revoked::default() };
        check_use(&self.request, &grants, &used).map_err(|why| why.check)
    }
}

#[test]
fn grants_together_allow_one_use() {
    type Change = Box<dyn Fn(&mut Allowed)>;
    let enclave = || GrantSubject::Enclave(key("enclave-south").enclave_id());
    let cases: Vec<(&str, Change, Option<&str>)> = vec![
        ("as it is, at the last second", Box::new(|_| ()), None),
        ("in another order", Box::new(|a| a.grants.reverse()), None),
        ("a second later", Box::new(|a| a.at = time(1801)), Some("grant.expires")),
        ("no grants", Box::new(|a| a.grants.clear()), Some("grant.missing")),
        ("the owner's alone", Box::new(|a| a.grants.truncate(1)), Some("grant.missing")),
        ("the holder's alone", Box::new(|a| drop(a.grants.remove(0))), Some("grant.missing")),
        ("on another enclave", Box::new(|a| a.enclave = "enclave-south"), Some("grant.missing")),
        ("the owner's for another enclave", Box::new(move |a| a.grants[0].subject = enclave()), Some("grant.missing")),
        ("the holder's for another enclave", Box::new(move |a| a.grants[1].subject = enclave()), Some("grant.missing")),
        ("another fragment", Box::new(|a| a.fragment = 1), Some("grant.missing")),
        ("no fragment", Box::new(|a| a.fragment = 4), Some("grant.fragment")),
        ("the owner's data not released", Box::new(|a| a.grants[0].releases.clear()), Some("grant.missing")),
        ("the model not released", Box::new(|a| a.grants[1].releases.clear()), Some("grant.missing")),
        ("an object less", Box::new(|a| a.objects.truncate(1)), Some("grant.object")),
        ("an object more", Box::new(|a| a.objects.push(object("r2/model"))), Some("grant.object")),
        ("objects swapped", Box::new(|a| a.objects.swap(0, 1)), Some("grant.object")),
        ("an object replaced", Box::new(|a| a.objects[1] = object("x")), Some("grant.object")),
        (
            "a grant out of bounds beside them",
            Box::new(|a| {
                let more = Grant { budget: MicroUsd(10_001), ..a.grants[0].clone() };
                a.grants.push(more);
            }),
            Some("grant.budget"),
        ),
        (
            "a grant of another task beside them",
            Box::new(|a| {
                let more = Grant { task: TaskId::new(digest("x")), ..a.grants[0].clone() };
                a.grants.push(more);
            }),
            Some("grant.task"),
        ),
        (
            "an expired one beside them",
            Box::new(|a| {
                let old = Grant { expires: time(5), ..a.grants[0].clone() };
                a.grants.push(old);
            }),
            None,
        ),
        (
            "all the owner's expired",
            Box::new(|a| {
                let old = Grant { expires: time(5), ..a.grants[0].clone() };
                a.grants[0].expires = time(1799);
                a.grants.push(old);
            }),
            Some("grant.expires"),
        ),
        ("the holder's expired", Box::new(|a| a.grants[1].expires = time(1799)), Some("grant.expires")),
        (
            "one that holds without the key, one with the key that expired",
            Box::new(|a| {
                let old = Grant { expires: time(5), ..a.grants[1].clone() };
                a.grants[1].releases.clear();
                a.grants.push(old);
            }),
            Some("grant.expires"),
        ),
        (
            "a policy for the fragment, enclaves for the keys",
            Box::new(|a| {
                let policy = GrantSubject::Policy(a.request.require.digest());
                a.grants.push(Grant { subject: policy, releases: Vec::new(), ..a.grants[0].clone() });
            }),
            None,
        ),
        (
            "a policy alone, with keys to release",
            Box::new(|a| {
                a.grants[0].subject = GrantSubject::Policy(a.request.require.digest());
                a.grants[0].releases.clear();
            }),
            Some("grant.missing"),
        ),
    ];
    for (what, change, refused) in cases {
        let mut allowed = Allowed::new();
        change(&mut allowed);
        assert_eq!(allowed.check().err().as_deref(), refused, "{what}");
    }
}

#[test]
fn a_reducer_needs_every_owner_it_reads_from() {
    let request = request();
    let names = ["north", "south", "west"];
    let objects: Vec<_> = (0..3).map(|i| output(&format!("r2/output-{i}")).object).collect();
    let of = |issuer: PublicKey, releases: Vec<ObjectId>| Grant {
        issuer,
        fragments: vec![FragmentIndex(3)],
        modules: vec![digest("reduce.wasm")],
        subject: GrantSubject::Enclave(key("enclave-hub").enclave_id()),
        releases,
        ..grant(&request)
    };
    let mut grants = vec![of(key("client"), Vec::new())];
    grants.extend(names.iter().zip(&objects).map(|(name, object)| of(key(name), vec![*object])));
    let allowed =
        Allowed { request: request.clone(), grants, fragment: 3, enclave: "enclave-hub", objects, at: time(9) };
    assert_eq!(allowed.check(), Ok(()));
    for i in 0..4 {
        let mut less = Allowed {
            request: request.clone(),
            grants: allowed.grants.clone(),
            objects: allowed.objects.clone(),
            ..allowed
        };
        less.grants.remove(i);
        assert_eq!(less.check(), Err("grant.missing".to_owned()), "{i}");
    }
    // An owner cannot release what another left.
    let mut other = Allowed {
        request: request.clone(),
        grants: allowed.grants.clone(),
        objects: allowed.objects.clone(),
        ..allowed
    };
    other.grants[1].releases = vec![allowed.objects[1]];
    other.grants[2].releases = vec![allowed.objects[0]];
    assert_eq!(other.check(), Err("grant.missing".to_owned()));
}

fn grants() -> impl Strategy<Value = Grant> {
    let request = request();
    let base = grant(&request);
    let (task, policy) = (base.task, request.require.digest());
    let near = |bound: u64| prop_oneof![4 => 0..=bound, 1 => Just(bound), 1 => bound + 1..=u64::MAX];
    let modules = [digest("train.wasm"), digest("reduce.wasm"), digest("other.wasm")];
    let names = ["r2/north/data", "r2/south/data", "r2/west/data", "r2/model", "r2/output-0", "r2/output-1", "x"];
    let subject = prop_oneof![
        6 => Just(base.subject.clone()),
        2 => Just(GrantSubject::Policy(policy)),
        1 => Just(GrantSubject::Policy(digest("x"))),
    ];
    let fragments: [&[u32]; 9] = [&[], &[0], &[0], &[1], &[3], &[0, 3], &[0, 1, 2], &[1, 0], &[2, 4]];
    let chosen = (
        prop::sample::select(&PARTIES[..]),
        prop::sample::select(fragments.to_vec()),
        // Mostly the modules that the fragments need; else any.
        prop::option::weighted(0.2, prop::sample::subsequence(modules.to_vec(), 0..3)),
        subject,
        prop::sample::subsequence(names.to_vec(), 0..2),
    );
    let depth = prop_oneof![9 => Just(0_u32), 1 => any::<u32>()];
    let numbers = (prop_oneof![near(800), near(1_000_000_000)], near(10_000), near(time(3600).0), depth);
    let odd = prop_oneof![9 => Just(0_u8), 1 => 1..4_u8];
    (chosen, numbers, odd).prop_map(move |(chosen, (fuel, budget, expires, depth), odd)| {
        let (issuer, fragments, any, subject, releases) = chosen;
        let needed = || {
            let mut needed: Vec<_> = fragments.iter().map(|i| modules[usize::from(*i == 3)]).collect();
            needed.dedup();
            needed
        };
        let named = |name: &str| if name.contains("output") { output(name).object } else { object(name) };
        Grant {
            issuer: key(issuer),
            task: if odd == 1 { TaskId::new(digest("x")) } else { task },
            fragments: fragments.iter().copied().map(FragmentIndex).collect(),
            subject,
            modules: any.unwrap_or_else(needed),
            fuel: Fuel(fuel),
            budget: MicroUsd(budget),
            depth,
            expires: UnixTime(expires),
            releases: releases.into_iter().map(named).collect(),
            delegable: None,
            prev: match odd {
                2 => Vec::new(),
                3 => vec![task.digest(), digest("x")],
                _ => vec![task.digest()],
            },
        }
    })
}

/// The bounds of a grant, said once more in other words.
fn within(request: &Signed<Request>, grant: &Grant) -> bool {
    let sealed: std::collections::BTreeMap<ObjectId, PublicKey> = [
        (object("r2/north/data"), key("north")),
        (object("r2/south/data"), key("south")),
        (object("r2/west/data"), key("west")),
    ]
    .into();
    let owners = ["north", "south", "west", "client"].map(key);
    let fuel = [1_000_000_000, 800, 1_000_000_000, 1_000_000_000];
    let covered: Vec<usize> = grant.fragments.iter().map(|f| f.0 as usize).collect();
    let known = !covered.is_empty() && covered.iter().all(|i| *i < 4) && covered.is_sorted();
    let says = |i: usize| match i {
        // A trainer's owner, or the client who holds the model; the reducer's, or an owner of what it reads.
        0..=2 => grant.issuer == owners[i] || grant.issuer == key("client"),
        _ => owners.contains(&grant.issuer),
    };
    let module = |i: usize| digest(if i == 3 { "reduce.wasm" } else { "train.wasm" });
    let releases = |object: &ObjectId| {
        covered.iter().any(|i| match *i {
            3 => grant.issuer != key("client"),
            i if *object == self::object("r2/model") => i < 3 && grant.issuer == key("client"),
            i => sealed.get(object) == Some(&grant.issuer) && owners[i] == grant.issuer,
        })
    };
    let subject = match grant.subject {
        GrantSubject::Enclave(_) => true,
        GrantSubject::Policy(policy) => {
            policy == Digest::of(request.require.source().as_bytes()) && grant.releases.is_empty()
        }
    };
    known
        && grant.task.digest() == request.digest()
        && grant.prev == [request.digest()]
        && grant.expires <= request.expires
        && grant.budget <= request.budget
        && grant.depth == 0
        && subject
        && covered.iter().all(|i| says(*i) && grant.modules.contains(&module(*i)) && grant.fuel.0 <= fuel[*i])
        && grant.modules.iter().all(|m| covered.iter().any(|i| module(*i) == *m))
        && grant.releases.iter().all(releases)
}

#[test]
fn a_grant_that_is_accepted_never_exceeds_its_request() {
    use proptest::test_runner::{Config, TestRunner};
    let request = request();
    let mut accepted = std::cell::Cell::new(0);
    let config = Config { cases: 6000, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&grants(), |grant| {
            let ok = check_grant(&request, &grant).is_ok();
            accepted.set(accepted.get() + usize::from(ok));
            prop_assert_eq!(ok, within(&request, &grant), "{:?}", check_grant(&request, &grant));
            Ok(())
        })
        .unwrap();
    assert!(*accepted.get_mut() > 300, "{} of 6000 accepted: too few to say anything", accepted.get());
}

#[test]
fn grants_that_allow_a_use_hold_what_it_needs() {
    use proptest::test_runner::{Config, TestRunner};
    let allowed = Allowed::new();
    let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
    let some = prop::collection::vec((0_usize..2, 0_u64..3600, any::<bool>(), any::<bool>()), 0..5);
    let run = (some, 0_u64..3600);
    TestRunner::new(config)
        .run(&run, |(made, at)| {
            let grants: Vec<Grant> = made
                .iter()
                .map(|(which, expires, releases, here)| {
                    let mut grant = allowed.grants[*which].clone();
                    grant.expires = time(*expires);
                    if !releases {
                        grant.releases.clear();
                    }
                    if !here {
                        grant.subject = GrantSubject::Enclave(key("enclave-south").enclave_id());
                    }
                    grant
                })
                .collect();
            let holds = |which: usize| {
                made.iter().any(|(w, expires, releases, here)| *w == which && at <= *expires && *releases && *here)
            };
            let used = Allowed {
                request: allowed.request.clone(),
                objects: allowed.objects.clone(),
                grants,
                at: time(at),
                ..allowed
            };
            prop_assert_eq!(used.check().is_ok(), holds(0) && holds(1));
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_holder_of_an_input_is_who_the_request_says() {
    let request = request();
    let fragment = request.fragment(FragmentIndex(0)).unwrap();
    assert_eq!(request.holder(fragment, &fragment.inputs[0]), Some(key("north")), "its owner");
    assert_eq!(request.holder(fragment, &fragment.inputs[1]), Some(key("client")), "whom the input names");
    let output = Input::Output { fragment: FragmentIndex(2) };
    assert_eq!(request.holder(fragment, &output), Some(key("west")), "the owner of what wrote it");
    assert_eq!(request.holder(fragment, &Input::Output { fragment: FragmentIndex(9) }), None);
}

//! What grants pass on: no chain of delegations ever widens anything, whoever signs what.

use std::{cell::Cell, collections::BTreeSet};

use legation_core::{
    Digest, EnclaveId, FragmentIndex, Fuel, MicroUsd, ObjectId, Requirement, Revocable, Revocation, RevocationEpoch,
    Revoked, Signed, TaskId, UnixTime,
    delegation::{
        Lineage, Sum,
        attenuate::{Onward, widest},
        attenuates,
    },
    grant::check_grant,
    statement::{Assurance, Delegable, Diversity, Grant, GrantSubject, Request},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::{
    handed::{Hands, Script, delegable, time},
    world::{Said, digest, key, no_bend, object},
};

const ENCLAVES: [&str; 5] = ["enclave-0", "enclave-1", "enclave-2", "enclave-3", "enclave-4"];
const MODULES: [&str; 4] = ["one.wasm", "two.wasm", "three.wasm", "four.wasm"];
const OBJECTS: [&str; 3] = ["x", "y", "z"];
const ASSURANCES: [Assurance; 6] = [
    Assurance::Attested,
    Assurance::Replicated { k: 3, diverse: Diversity::Chip },
    Assurance::Replicated { k: 3, diverse: Diversity::Provider },
    Assurance::Replicated { k: 3, diverse: Diversity::Tee },
    Assurance::Replicated { k: 5, diverse: Diversity::Provider },
    Assurance::Proven,
];

fn enclave(at: usize) -> EnclaveId {
    key(ENCLAVES[at % ENCLAVES.len()]).enclave_id()
}

/// Those of a list that a number's bits choose, ascending.
fn chosen<T: Ord>(all: impl IntoIterator<Item = T>, bits: u8) -> Vec<T> {
    let mut some: Vec<T> =
        all.into_iter().enumerate().filter(|(i, _)| bits & (1 << i) != 0).map(|(_, one)| one).collect();
    some.sort_unstable();
    some
}

fn modules(bits: u8) -> Vec<Digest> {
    chosen(MODULES.map(digest), bits)
}

fn objects(bits: u8) -> Vec<ObjectId> {
    chosen(OBJECTS.map(object), bits)
}

/// Dice of one grant: each falls within what there is nine times of ten, and beside it else.
type Dice = [u8; 16];
/// A name, what it changes, and the check that notices.
type Delegated<'a> = (&'a str, fn(&mut Delegable), Option<&'a str>);

/// Up to `most`, or a little more.
fn near(most: u64, die: u8) -> u64 {
    match die % 10 {
        9 => most + 1 + u64::from(die / 100),
        _ => u64::from(die) % (most + 1),
    }
}

/// Some of these bits, or others.
fn bits(within: u8, die: u8) -> u8 {
    match die % 10 {
        9 => die / 10,
        _ => within & ((die / 10) | (die << 3)),
    }
}

fn mask<T: PartialEq>(all: &[T], some: &[T]) -> u8 {
    all.iter().enumerate().filter(|(_, one)| some.contains(one)).map(|(i, _)| 1_u8 << i).sum()
}

/// What enclave `place` passes on of `parent` to the next, by the dice.
fn child(parent: &Grant, place: usize, dice: &Dice) -> Grant {
    let nothing = delegable(0, 0);
    let passed = parent.delegable.as_ref().unwrap_or(&nothing);
    let (own, objects_of) = (mask(&MODULES.map(digest), &passed.modules), mask(&OBJECTS.map(object), &passed.releases));
    let releases = bits(objects_of, dice[0]);
    let fuel = near(passed.fuel.0, dice[1]);
    let budget = near(passed.budget.0, dice[2]);
    let deepest = parent.depth.saturating_sub(1);
    let depth = if dice[3] < 160 { deepest } else { u32::try_from(near(deepest.into(), dice[3])).unwrap() };
    let assurance = ASSURANCES[usize::from(dice[4]) % ASSURANCES.len()];
    let below = Delegable {
        modules: modules(bits(own, dice[5])),
        fuel: Fuel(near(passed.fuel.0.saturating_sub(fuel), dice[6])),
        budget: MicroUsd(near(passed.budget.0.saturating_sub(budget), dice[7])),
        releases: objects(bits(releases, dice[8])),
        assurance: if dice[4].is_multiple_of(4) { assurance } else { passed.assurance },
        require: None,
    };
    let odd = |die: u8| die % 16 == 15;
    Grant {
        issuer: key(ENCLAVES[(place + usize::from(odd(dice[9]))) % ENCLAVES.len()]),
        task: TaskId::new(digest(if odd(dice[10]) { "other" } else { "task" })),
        fragments: match dice[11] % 16 {
            14 => Vec::new(),
            15 => vec![FragmentIndex(0), FragmentIndex(1)],
            die => vec![parent.fragments[usize::from(die) % parent.fragments.len()]],
        },
        subject: match odd(dice[12]) {
            true => GrantSubject::Policy(digest("policy")),
            false => GrantSubject::Enclave(enclave(place + 1 - usize::from(odd(dice[13])))),
        },
        modules: modules(bits(own, dice[14])),
        fuel: Fuel(fuel),
        budget: MicroUsd(budget),
        depth,
        expires: UnixTime(near(parent.expires.0, dice[15])),
        releases: objects(releases),
        delegable: ((depth > 0) != odd(dice[10] ^ dice[3])).then_some(below),
        prev: vec![digest("parent")],
    }
}

fn root() -> Grant {
    Grant {
        issuer: key("client"),
        task: TaskId::new(digest("task")),
        fragments: (0..2).map(FragmentIndex).collect(),
        subject: GrantSubject::Enclave(enclave(0)),
        modules: vec![digest("lead.wasm")],
        fuel: Fuel(7),
        budget: MicroUsd(7),
        depth: 5,
        expires: UnixTime(200),
        releases: objects(0b111),
        delegable: Some(Delegable {
            modules: modules(0b1111),
            fuel: Fuel(200),
            budget: MicroUsd(200),
            releases: objects(0b111),
            assurance: Assurance::Attested,
            require: None,
        }),
        prev: vec![digest("request")],
    }
}

fn set<T: Ord + Copy>(list: &[T]) -> BTreeSet<T> {
    list.iter().copied().collect()
}

/// What a chain of grants lets its last enclave do: the intersection of all that was said, link by link, in sets and least
/// numbers, without a look at how grants are compared.
#[derive(Clone, Debug)]
struct Allowed {
    modules: BTreeSet<Digest>,
    objects: BTreeSet<ObjectId>,
    fragments: BTreeSet<FragmentIndex>,
    fuel: u64,
    budget: u64,
    expires: u64,
    depth: u32,
    least: Vec<Assurance>,
}

impl Allowed {
    /// Everything there is.
    fn all() -> Self {
        Self {
            modules: MODULES.map(digest).into(),
            objects: OBJECTS.map(object).into(),
            fragments: (0..4).map(FragmentIndex).collect(),
            fuel: u64::MAX,
            budget: u64::MAX,
            expires: u64::MAX,
            depth: u32::MAX,
            least: Vec::new(),
        }
    }

    /// What is left of it below `grant`.
    fn below(&self, grant: &Grant) -> Option<Self> {
        let passed = grant.delegable.as_ref()?;
        Some(Self {
            modules: &self.modules & &set(&passed.modules),
            objects: &(&self.objects & &set(&grant.releases)) & &set(&passed.releases),
            fragments: &self.fragments & &set(&grant.fragments),
            fuel: self.fuel.min(passed.fuel.0),
            budget: self.budget.min(passed.budget.0),
            expires: self.expires.min(grant.expires.0),
            depth: self.depth.min(grant.depth).checked_sub(1)?,
            least: self.least.iter().copied().chain([passed.assurance]).collect(),
        })
    }

    /// Whether a grant, and whatever it passes on, stays within.
    fn holds(&self, grant: &Grant) -> bool {
        let within = |modules: &[Digest]| modules.iter().all(|module| self.modules.contains(module));
        let (fuel, budget) = grant.delegable.as_ref().map_or((0, 0), |on| (on.fuel.0, on.budget.0));
        within(&grant.modules)
            && grant.releases.iter().all(|object| self.objects.contains(object))
            && grant.fragments.iter().all(|fragment| self.fragments.contains(fragment))
            && u128::from(grant.fuel.0) + u128::from(fuel) <= self.fuel.into()
            && u128::from(grant.budget.0) + u128::from(budget) <= self.budget.into()
            && grant.expires.0 <= self.expires
            && grant.depth <= self.depth
            && grant.delegable.as_ref().is_none_or(|on| {
                within(&on.modules)
                    && on.releases.iter().all(|object| self.objects.contains(object))
                    && self.least.iter().all(|least| on.assurance.covers(*least))
            })
    }
}

/// The form of a grant by an enclave, and who may sign it, said once more in other words.
fn well_formed(parent: &Grant, grant: &Grant) -> bool {
    let signer = GrantSubject::Enclave(grant.issuer.enclave_id());
    let lists = |list: &[Digest]| !list.is_empty() && list.windows(2).all(|two| two[0] < two[1]);
    parent.subject == signer
        && parent.task == grant.task
        && grant.fragments.len() == 1
        && matches!(grant.subject, GrantSubject::Enclave(_))
        && grant.subject != signer
        && lists(&grant.modules)
        && (grant.depth == 0) == grant.delegable.is_none()
        && grant
            .delegable
            .as_ref()
            .is_none_or(|on| lists(&on.modules) && on.releases.iter().all(|object| grant.releases.contains(object)))
}

#[test]
fn no_chain_of_delegations_widens_anything() {
    let (accepted, deep) = (Cell::new(0_usize), Cell::new(0_usize));
    let config = Config { cases: 3000, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&prop::collection::vec(any::<Dice>(), 1..24), |dice| {
            let mut chain = vec![root()];
            let mut allowed = Allowed::all().below(&chain[0]);
            for dice in &dice {
                let parent = &chain[chain.len() - 1];
                let grant = child(parent, chain.len() - 1, dice);
                let verdict = attenuates(parent, &grant);
                let right = well_formed(parent, &grant) && allowed.as_ref().is_some_and(|all| all.holds(&grant));
                prop_assert_eq!(verdict.is_ok(), right, "{:?} of {:#?} under {:#?}", verdict, grant, parent);
                if right {
                    allowed = allowed.and_then(|all| all.below(&grant));
                    chain.push(grant);
                }
            }
            accepted.set(accepted.get() + chain.len() - 1);
            deep.set(deep.get() + usize::from(chain.len() > 3));
            // Whatever everybody does, they stay within what the client let be passed on together.
            let fuel: u64 = chain[1..].iter().map(|grant| grant.fuel.0).sum();
            let budget: u64 = chain[1..].iter().map(|grant| grant.budget.0).sum();
            prop_assert!(fuel <= 200 && budget <= 200 && chain.len() <= 6);
            // And every grant attenuates as if each one above had been passed on to it directly, but for who signed.
            for (i, above) in chain.iter().enumerate() {
                for below in &chain[i + 1..] {
                    let direct = Grant { subject: GrantSubject::Enclave(below.issuer.enclave_id()), ..above.clone() };
                    prop_assert!(attenuates(&direct, below).is_ok());
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(accepted.get() > 500 && deep.get() > 10, "{} accepted, {} deep: too few", accepted.get(), deep.get());
}

/// A request and what its enclave was granted.
fn granted() -> (Signed<Request>, Hands) {
    let mut script = Script::new(&no_bend);
    let request = script.request();
    let lead = script.lead(&request);
    (request, lead)
}

#[test]
fn the_widest_child_is_within_all_parents_and_nothing_wider_is() {
    let (_, lead) = granted();
    let narrow = Grant {
        issuer: key("north"),
        delegable: Some(delegable(60, 40)),
        depth: 2,
        expires: time(900),
        ..lead.grants[0].predicate().clone()
    };
    let party = crate::party::Party::new("north");
    let narrow = legation_core::dsse::sign(narrow, &party);
    let parents = [narrow, lead.grants[1].clone()];
    let to = key("enclave-a").enclave_id();
    let all = Sum { fuel: Fuel(u64::MAX), cost: MicroUsd(u64::MAX) };
    let of = |depth, most| {
        let onward = Onward { depth, most };
        widest(&parents, lead.passport.enclave, FragmentIndex(0), (to, time(5_000)), onward)
    };
    let flat = of(0, all).unwrap();
    // Nothing that may be passed on further is no depth.
    let none = of(7, Sum { fuel: Fuel(0), ..all }).unwrap();
    assert_eq!((none.fuel, none.budget, none.depth), (Fuel(60), MicroUsd(40), 0));
    let some = of(7, Sum { fuel: Fuel(10), cost: MicroUsd(1) }).unwrap();
    assert_eq!((some.fuel, some.budget, some.depth), (Fuel(50), MicroUsd(39), 1));
    assert_eq!((flat.fuel, flat.budget, flat.depth, flat.expires), (Fuel(60), MicroUsd(40), 0, time(900)));
    assert!(flat.prev.is_sorted() && flat.prev.len() == 2);
    let deep = of(7, all).unwrap();
    let on = deep.delegable.clone().unwrap();
    assert_eq!(
        (deep.depth, deep.fuel, on.fuel, deep.budget, on.budget),
        (1, Fuel(30), Fuel(30), MicroUsd(20), MicroUsd(20))
    );
    type Widen = fn(&mut Grant);
    let wider: [Widen; 6] = [
        |g| g.fuel.0 += 1,
        |g| g.budget.0 += 1,
        |g| g.depth += 1,
        |g| g.expires.0 += 1,
        |g| g.modules.push(Digest::from_bytes([255; 32])),
        |g| g.releases.push(object("north/data")),
    ];
    for widen in wider {
        let mut grant = deep.clone();
        widen(&mut grant);
        assert!(parents.iter().any(|parent| attenuates(parent, &grant).is_err()), "{grant:?}");
    }
    let none = [lead.grants[0].clone()];
    let nobody = widest(&none, key("enclave-b"), FragmentIndex(0), (to, time(5_000)), Onward::NOTHING);
    assert_eq!(nobody.unwrap_err().check, "delegation.issuer");
    assert_eq!(
        widest(&[], lead.passport.enclave, FragmentIndex(0), (to, time(1)), Onward::NOTHING).unwrap_err().check,
        "delegation.depth"
    );
}

#[test]
fn a_request_says_what_may_be_handed_on() {
    let (request, lead) = granted();
    let grant = lead.grants.iter().find(|g| g.issuer == key("client")).unwrap().predicate().clone();
    assert_eq!(check_grant(&request, &grant), Ok(()));
    type Change = fn(&mut Grant);
    let on = |change: fn(&mut Delegable)| {
        let mut grant = grant.clone();
        change(grant.delegable.as_mut().unwrap());
        check_grant(&request, &grant).map_err(|why| why.check)
    };
    let cases: [Delegated<'_>; 10] = [
        ("less", |d| (d.fuel, d.budget) = (Fuel(0), MicroUsd(0)), None),
        ("assured better", |d| d.assurance = Assurance::Replicated { k: 3, diverse: Diversity::Provider }, None),
        // What nothing is said of is confidential, and proofs do not hide it.
        ("proven, of confidential data", |d| d.assurance = Assurance::Proven, Some("proof.sensitivity")),
        ("with a requirement", |d| d.require = Some(Requirement::any()), None),
        ("a unit of fuel more", |d| d.fuel.0 += 1, Some("grant.delegable")),
        ("a millionth more", |d| d.budget.0 += 1, Some("grant.delegable")),
        ("another module", |d| d.modules = vec![digest("lead.wasm")], Some("grant.delegable")),
        ("no module", |d| d.modules.clear(), Some("grant.delegable")),
        ("keys of others", |d| d.releases = vec![object("north/data")], Some("grant.releases")),
        (
            "assured by a hundred",
            |d| d.assurance = Assurance::Replicated { k: 100, diverse: Diversity::Chip },
            Some("assurance.replicas"),
        ),
    ];
    for (what, change, refused) in cases {
        assert_eq!(on(change).err().as_deref(), refused, "{what}");
    }
    let cases: [(&str, Change, &str); 4] = [
        ("deeper", |g| g.depth = 4, "grant.depth"),
        ("depth alone", |g| g.delegable = None, "grant.depth"),
        ("no depth", |g| g.depth = 0, "grant.depth"),
        (
            "to whoever satisfies a policy",
            |g| {
                let require = Requirement::parse("tee in [dev-snp, sev-snp] and price <= 0.03 usd/h").unwrap();
                g.subject = GrantSubject::Policy(require.digest());
                g.releases.clear();
            },
            "grant.depth",
        ),
    ];
    for (what, change, refused) in cases {
        let mut grant = grant.clone();
        change(&mut grant);
        assert_eq!(check_grant(&request, &grant).unwrap_err().check, refused, "{what}");
    }
}

#[test]
fn requests_bound_what_they_let_be_handed_on() {
    let request = granted().0.predicate().clone();
    request.validate().unwrap();
    type Change = fn(&mut Request);
    let cases: [(&str, Change, &str); 10] = [
        ("no module", |r| r.fragments[0].delegates.as_mut().unwrap().modules.clear(), "request.delegates"),
        (
            "a module twice",
            |r| r.fragments[0].delegates.as_mut().unwrap().modules = vec![digest("part.wasm"); 2],
            "request.delegates",
        ),
        ("no depth", |r| r.fragments[0].delegates.as_mut().unwrap().depth = 0, "request.delegates"),
        ("too deep", |r| r.fragments[0].delegates.as_mut().unwrap().depth = 9, "request.delegates"),
        ("no fuel", |r| r.fragments[0].delegates.as_mut().unwrap().fuel = Fuel(0), "request.delegates"),
        ("beyond its budget", |r| r.budget = MicroUsd(8_999), "request.delegates"),
        (
            "one replica",
            |r| {
                let one = Assurance::Replicated { k: 1, diverse: Diversity::Chip };
                r.fragments[0].delegates.as_mut().unwrap().assurance = one;
            },
            "assurance.replicas",
        ),
        ("proven as a whole", |r| r.assurance = Assurance::Proven, "request.assurance"),
        (
            "parts proven, of confidential data",
            |r| r.fragments[0].delegates.as_mut().unwrap().assurance = Assurance::Proven,
            "proof.sensitivity",
        ),
        (
            "replicated as a whole",
            |r| r.assurance = Assurance::Replicated { k: 3, diverse: Diversity::Chip },
            "request.assurance",
        ),
    ];
    for (what, change, refused) in cases {
        let mut request = request.clone();
        change(&mut request);
        assert_eq!(request.validate().unwrap_err().check, refused, "{what}");
    }
}

#[test]
fn a_lineage_is_walked_to_the_request_or_refused() {
    let mut script = Script::new(&no_bend);
    let request = script.request();
    let lead = script.lead(&request);
    let d = script.lend(&request, &lead, "enclave-d", 0);
    let e = script.lend(&request, &d, "enclave-e", 1);
    let all: Vec<_> = lead.grants.iter().chain(&d.grants).chain(&e.grants).cloned().collect();
    let find = |digest: &Digest| all.iter().find(|grant| grant.digest() == *digest).cloned();
    let leaf = e.grants[0].digest();
    let lineage = Lineage::of(&request, &leaf, find).unwrap();
    assert_eq!((lineage.grants().count(), lineage.roots().count(), lineage.above().count()), (4, 2, 3));
    assert_eq!((lineage.leaf().digest(), lineage.fragment(), lineage.expires()), (leaf, FragmentIndex(0), time(1800)));
    let check = |result: Result<Lineage, legation_core::Rejection>| result.map(drop).map_err(|why| why.check);
    for missing in &all {
        let fewer = |digest: &Digest| find(digest).filter(|grant| grant.digest() != missing.digest());
        assert_eq!(check(Lineage::of(&request, &leaf, fewer)), Err("delegation.missing".to_owned()));
    }
    // A ring: whoever is asked for a parent shows the child again.
    let child = e.grants[0].clone();
    assert_eq!(
        check(Lineage::of(&request, &child.digest(), |_| Some(child.clone()))),
        Err("delegation.issuer".to_owned())
    );
    assert_eq!(check(Lineage::of(&request, &lead.grants[0].digest(), find)), Err("delegation.prev".to_owned()));
    // Of another task.
    let other = {
        let bend = |_: &str, said: Said<'_>, _: &crate::world::Before| {
            if let Said::Request(request) = said {
                request.name = "another".to_owned();
            }
        };
        Script::new(&bend).request()
    };
    assert!(Lineage::of(&other, &leaf, find).is_err());

    let revoke = |what: Revocable| -> Revoked {
        [Revocation { what, epoch: RevocationEpoch(1), at: time(0), why: "stolen".into() }].into_iter().collect()
    };
    for grant in &all {
        assert!(lineage.revoked(&revoke(Revocable::Grant(grant.digest()))).is_some());
        assert!(lineage.revoked(&revoke(Revocable::Enclave(grant.issuer.enclave_id()))).is_some());
    }
    assert!(lineage.revoked(&revoke(Revocable::Grant(digest("x")))).is_none());
    assert!(lineage.revoked(&revoke(Revocable::Enclave(key("enclave-e").enclave_id()))).is_none(), "it signed nothing");
    assert!(lineage.revoked(&Revoked::default()).is_none());
}

#[test]
fn a_revoked_grant_allows_no_use() {
    use legation_core::grant::{Use, check_use};
    let (request, lead) = granted();
    let objects = [object("north/data"), object("model")];
    let check = |revoked: &Revoked| {
        let enclave = lead.passport.enclave_id();
        let used = Use { fragment: FragmentIndex(0), enclave, objects: &objects, at: time(20), revoked };
        check_use(&request, &lead.grants, &used).map_err(|why| why.check)
    };
    assert_eq!(check(&Revoked::default()), Ok(()));
    for grant in &lead.grants {
        let what = Revocable::Grant(grant.digest());
        let entry = Revocation { what, epoch: RevocationEpoch(1), at: time(0), why: "stolen".into() };
        assert_eq!(check(&[entry].into_iter().collect()), Err("revocation".to_owned()));
    }
}

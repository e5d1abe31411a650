//! Offers: what may be run, and every way in which an offer may not.
//!
//! One good offer is forged anew for each case with one thing changed before it is signed: what rests on the changed statement
//! is signed after it, so that only the one check can refuse.

use legation_agent::offer::{INPUT_BYTES_MAX, OUTPUT_BYTES_MAX, Standing, Work, judge_offer};
use legation_core::{
    Digest, FragmentIndex, Fuel, LeaseId, MicroUsd, Millicores, Millis, ObjectId, ProviderId, Region, Rejection,
    Requirement, Revocable, Revocation, RevocationEpoch, Seq, Term, UnixTime,
    claims::Capacity,
    statement::{
        Allocation, Appointment, Grant, GrantSubject, Office, Outcome, Passport, Report, Request, Scope, Tier,
    },
    task::Input,
    unit::Bytes,
};
use legation_net::message::{Offer, Upstream};

use crate::world::{self, CLIENT, ENCLAVE, MANAGER, OPERATOR, STRANGER, UPSTREAM, VERIFIER, sign};

const NOW: UnixTime = UnixTime(1_795_262_400);

/// One change to one statement of a good offer.
enum Change {
    Nothing,
    Manager(fn(&mut Appointment)),
    Request(fn(&mut Request)),
    /// The request, and the own passport.
    Both(fn(&mut Request), fn(&mut Passport)),
    Allocation(fn(&mut Allocation)),
    Grant(fn(&mut Grant)),
    Own(fn(&mut Passport)),
    UpVerifier(fn(&mut Appointment)),
    UpPassport(fn(&mut Passport)),
    Report(fn(&mut Report)),
    Offer(fn(&mut Offer)),
    Verifier(fn(&mut Appointment)),
    Revoked(fn(&mut legation_core::Revoked)),
    Left(fn(&mut Capacity)),
    Now(fn(&mut UnixTime)),
}

/// Judges the offer of a fragment that reads a sealed input (0) or the output of that one (1), with one change.
fn judge(index: u32, change: &Change) -> Result<Work, Rejection> {
    let index = FragmentIndex(index);
    macro_rules! with {
        ($variant:ident, $value:expr) => {{
            let mut value = $value;
            if let Change::$variant(change) = change {
                change(&mut value);
            }
            value
        }};
    }
    let manager = sign(with!(Manager, world::appointment(Office::Manager, NOW)));
    let verifier = sign(with!(Verifier, world::appointment(Office::Verifier, NOW)));
    let up_verifier = sign(with!(UpVerifier, world::appointment(Office::Verifier, NOW)));
    let mut own = with!(Own, world::passport(ENCLAVE, &verifier, NOW));
    if let Change::Both(_, change) = change {
        change(&mut own);
    }
    let own = sign(own);
    let up_passport = sign(with!(UpPassport, world::passport(UPSTREAM, &up_verifier, NOW)));

    let (input, output) = (world::seal(b"input"), world::seal(b"output"));
    let fragments = vec![
        world::fragment("map", Digest::of(b"map"), vec![Input::Sealed(input.reference("rows"))]),
        world::fragment("reduce", Digest::of(b"reduce"), vec![Input::Output { fragment: FragmentIndex(0) }]),
    ];
    let eu = Requirement::parse("region == eu").unwrap();
    let mut request = with!(Request, Request { require: eu.clone(), ..world::request(fragments, NOW, 1) });
    if let Change::Both(change, _) = change {
        change(&mut request);
    }
    let request = sign(request);
    let read = if index.0 == 0 { &input } else { &output };
    let report = sign(with!(Report, world::report(&request, FragmentIndex(0), &up_passport, &output, NOW)));
    let allocation = world::allocation(&request, &manager, index, &own, LeaseId(5), NOW);
    let allocation = sign(with!(Allocation, allocation));
    let subject = GrantSubject::Enclave(own.enclave_id());
    let grant = sign(with!(Grant, world::grant(&request, index, subject, vec![read.sealed.object])));
    let upstream = Upstream { report, passport: up_passport, appointment: up_verifier };
    let offer = Offer {
        term: Term(3),
        seq: Seq(8),
        allocation,
        appointment: manager,
        keys: vec![read.wrap(world::sealing(ENCLAVE).public(), &request, index)],
        request,
        grants: vec![grant],
        upstream: if index.0 == 0 { Vec::new() } else { vec![upstream] },
    };
    let offer = with!(Offer, offer);
    let standing = Standing {
        passport: &own,
        appointment: &verifier,
        revoked: &with!(Revoked, legation_core::Revoked::default()),
        operators: &[world::key(OPERATOR)],
        obeyed: world::obeyed(),
        left: with!(Left, Capacity { cpu: Millicores(100), memory: Bytes::mib(16), slots: 1 }),
        memory_max: Bytes::mib(64),
        now: with!(Now, NOW),
    };
    judge_offer(&offer, &standing)
}

/// A scope without the tenant of the offers here.
fn of_others() -> Option<Scope> {
    Some(Scope { tenants: Some(vec!["others".parse().unwrap()]), kinds: None })
}

fn revoked(enclave: u8, at: UnixTime) -> Revocation {
    let what = Revocable::Enclave(world::key(enclave).enclave_id());
    Revocation { what, epoch: RevocationEpoch(1), at, why: "stolen".into() }
}

#[test]
fn a_good_offer_says_what_is_to_be_done() {
    let work = judge(0, &Change::Nothing).unwrap();
    assert_eq!((work.lease, work.plan.index), (LeaseId(5), FragmentIndex(0)));
    assert_eq!((work.start_by, work.until), (NOW.plus(60), NOW.plus(60)));
    assert_eq!(work.limits.fuel, Fuel(1_000_000_000));
    assert_eq!((work.limits.time, work.limits.paid), (Millis(20_000), None));
    assert!(work.plan.output_needed && work.rests_on.upstream.is_empty());
    let work = judge(1, &Change::Nothing).unwrap();
    assert_eq!((work.rests_on.upstream.len(), work.rests_on.grants.len()), (1, 1));
    assert!(!work.plan.output_needed);
}

#[test]
fn grants_bind_fuel_time_and_begin() {
    let work = judge(0, &Change::Grant(|g| g.fuel = Fuel(7))).unwrap();
    assert_eq!(work.limits.fuel, Fuel(7));
    // A tenth of a core and 16 MiB cost 4079 micro-dollars an hour.
    let work = judge(0, &Change::Grant(|g| g.budget = MicroUsd(5))).unwrap();
    assert_eq!(work.limits.paid, Some(Millis(4412)));
    let work = judge(0, &Change::Grant(|g| g.expires = NOW.plus(2))).unwrap();
    assert_eq!(work.start_by, NOW.plus(2));
}

#[test]
fn what_differs_within_reason_is_no_refusal() {
    for (name, index, change) in [
        ("an earlier allocation is replaced", 0, Change::Allocation(|a| a.prev.push(Digest::of(b"earlier")))),
        ("made in an earlier term", 0, Change::Allocation(|a| a.term = Term(2))),
        ("a later term", 0, Change::Offer(|o| o.term = Term(4))),
        ("an older position of the same term", 0, Change::Offer(|o| o.seq = Seq(1))),
        ("clocks differ a little", 0, Change::Now(|n| *n = n.minus(30))),
        ("a passport issued a little ahead", 0, Change::Own(|p| p.issued = NOW.plus(30))),
        ("who made an input was revoked after", 1, Change::Revoked(|r| r.insert(revoked(UPSTREAM, NOW.plus(1))))),
        ("the passport behind an input has lapsed", 1, Change::Now(|n| *n = n.plus(59))),
        (
            "a requirement that is met",
            0,
            Change::Request(|r| {
                r.require = Requirement::parse("development and region == eu and price <= 0.01 usd/h").unwrap();
            }),
        ),
    ] {
        assert!(judge(index, &change).is_ok(), "{name}: {}", judge(index, &change).unwrap_err());
    }
    let policy = |g: &mut Grant| {
        g.subject = GrantSubject::Policy(Requirement::parse("region == eu").unwrap().digest());
        g.releases.clear();
    };
    // Policy grants release no keys, so a fragment that reads is still missing its holder's.
    assert_eq!(judge(0, &Change::Grant(policy)).unwrap_err().check, "grant.missing");
}

/// What every refusal of a fragment with a sealed input, then of one that reads an output, is named.
#[test]
fn every_bad_offer_is_refused_by_the_check_that_is_for_it() {
    let sealed: Vec<(&str, Change, &str)> = vec![
        ("operator nobody knows", Change::Manager(|a| a.operator = world::key(STRANGER)), "offer.operator"),
        ("a verifier leads", Change::Manager(|a| a.office = Office::Verifier), "offer.office"),
        ("appointment is over", Change::Manager(|a| a.not_after = NOW.minus(1)), "offer.dates"),
        ("appointment is to come", Change::Manager(|a| a.not_before = NOW.plus(61)), "offer.dates"),
        ("older term", Change::Offer(|o| o.term = Term(2)), "offer.term"),
        ("allocation of a term to come", Change::Allocation(|a| a.term = Term(4)), "offer.term"),
        (
            "request without fragments",
            Change::Offer(|o| {
                let mut request = o.request.predicate().clone();
                request.fragments.clear();
                o.request = sign(request);
            }),
            "request.fragments",
        ),
        (
            "request is over",
            Change::Request(|r| {
                r.created = NOW.minus(100);
                r.expires = NOW.minus(1);
            }),
            "offer.request",
        ),
        (
            "request is to come",
            Change::Request(|r| {
                r.created = NOW.plus(61);
                r.expires = NOW.plus(100);
            }),
            "offer.request",
        ),
        ("no such fragment", Change::Allocation(|a| a.fragment = FragmentIndex(2)), "offer.fragment"),
        ("signed by another", Change::Allocation(|a| a.manager = world::key(STRANGER)), "offer.allocation"),
        (
            "another task",
            Change::Allocation(|a| a.task = legation_core::TaskId::new(Digest::of(b"x"))),
            "offer.allocation",
        ),
        ("rests on another request", Change::Allocation(|a| a.prev[0] = Digest::of(b"x")), "offer.allocation"),
        ("rests on another appointment", Change::Allocation(|a| a.prev[1] = Digest::of(b"x")), "offer.allocation"),
        ("rests on nothing", Change::Allocation(|a| a.prev.clear()), "offer.allocation"),
        ("rests on too much", Change::Allocation(|a| a.prev.extend([Digest::of(b"x"); 2])), "offer.allocation"),
        (
            "another request beside it",
            Change::Offer(|o| {
                let mut request = o.request.predicate().clone();
                request.nonce = Digest::of(b"x");
                o.request = sign(request);
            }),
            "offer.allocation",
        ),
        ("another enclave", Change::Allocation(|a| a.enclave = world::key(STRANGER).enclave_id()), "offer.enclave"),
        ("lease is over", Change::Allocation(|a| a.until = NOW), "offer.lease"),
        (
            "lease is to come",
            Change::Allocation(|a| {
                a.from = NOW.plus(61);
                a.until = NOW.plus(90);
            }),
            "offer.lease",
        ),
        ("another price", Change::Allocation(|a| a.price_hour.0 -= 1), "offer.price"),
        ("another provider", Change::Allocation(|a| a.provider = ProviderId::new("birch").unwrap()), "offer.price"),
        ("another region", Change::Allocation(|a| a.region = Region::new("us").unwrap()), "offer.price"),
        ("own passport has lapsed", Change::Own(|p| p.expires = NOW.minus(1)), "offer.passport"),
        ("own passport is to come", Change::Own(|p| p.issued = NOW.plus(61)), "offer.passport"),
        ("own verifier is not trusted with the tenant", Change::Verifier(|a| a.scope = of_others()), "offer.verifier"),
        ("own chip was revoked", Change::Revoked(|r| r.insert(revoked(ENCLAVE, NOW.minus(999)))), "revocation"),
        (
            "requirement of the task",
            Change::Request(|r| r.require = Requirement::parse("not development").unwrap()),
            "require.not",
        ),
        (
            "requirement of the fragment",
            Change::Request(|r| {
                r.fragments[0].require = Requirement::parse("region == us").unwrap();
            }),
            "require.region",
        ),
        (
            "requirement on the price",
            Change::Request(|r| {
                r.require = Requirement::parse("price < 0.004 usd/h").unwrap();
            }),
            "require.price",
        ),
        (
            "data may be elsewhere only",
            Change::Request(|r| {
                r.require = Requirement::any();
                r.data.residency = [Region::new("us").unwrap()].into();
            }),
            "data.residency",
        ),
        (
            "restricted data after a dated exception",
            Change::Both(
                |r| r.data.sensitivity = legation_core::prefer::Sensitivity::Restricted,
                |p| {
                    p.ear.grace = Some(legation_core::statement::Grace {
                        until: NOW.plus(60),
                        rule: "x".to_owned(),
                        why: "x".to_owned(),
                    });
                },
            ),
            "data.sensitivity",
        ),
        (
            "more than its limits",
            Change::Allocation(|a| {
                a.limits = Some(legation_core::Allowance { memory: Some(Bytes(1)), ..Default::default() });
            }),
            "limits.memory",
        ),
        (
            "upstream where nothing is read",
            Change::Offer(|o| {
                let report = world::report(&o.request, FragmentIndex(0), &up(), &world::seal(b"x"), NOW);
                o.upstream.push(Upstream { report: sign(report), passport: up(), appointment: verifier() });
            }),
            "offer.upstream",
        ),
        ("no key", Change::Offer(|o| o.keys.clear()), "offer.keys"),
        ("one key too many", Change::Offer(|o| o.keys.push(o.keys[0].clone())), "offer.keys"),
        ("key of another object", Change::Offer(|o| o.keys[0].object = ObjectId::from_bytes([0; 16])), "offer.keys"),
        ("key for another enclave", Change::Offer(|o| o.keys[0].recipient = Digest::of(b"x")), "offer.keys"),
        ("no grant", Change::Offer(|o| o.grants.clear()), "grant.missing"),
        (
            "grant to another enclave",
            Change::Grant(|g| {
                g.subject = GrantSubject::Enclave(world::key(STRANGER).enclave_id());
            }),
            "grant.missing",
        ),
        ("grant without release", Change::Grant(|g| g.releases.clear()), "grant.missing"),
        (
            "grant of the other fragment",
            Change::Grant(|g| {
                g.fragments = vec![FragmentIndex(1)];
                g.modules = vec![Digest::of(b"reduce")];
            }),
            "grant.missing",
        ),
        ("grant by a stranger", Change::Grant(|g| g.issuer = world::key(STRANGER)), "grant.issuer"),
        ("grant by the manager", Change::Grant(|g| g.issuer = world::key(MANAGER)), "grant.issuer"),
        ("grant is over", Change::Grant(|g| g.expires = NOW.minus(1)), "grant.expires"),
        ("grant outlives the request", Change::Grant(|g| g.expires = g.expires.plus(1)), "grant.expires"),
        ("grant of another task", Change::Grant(|g| g.prev = vec![Digest::of(b"x")]), "grant.task"),
        ("grant of another module", Change::Grant(|g| g.modules = vec![Digest::of(b"x")]), "grant.module"),
        ("grant of too much fuel", Change::Grant(|g| g.fuel.0 += 1), "grant.fuel"),
        ("grant of too much money", Change::Grant(|g| g.budget.0 += 1), "grant.budget"),
        ("grant that delegates", Change::Grant(|g| g.depth = 1), "grant.depth"),
        (
            "grant under another policy",
            Change::Grant(|g| {
                g.subject = GrantSubject::Policy(Digest::of(b"x"));
                g.releases.clear();
            }),
            "grant.policy",
        ),
        ("no compute left", Change::Left(|l| l.cpu.0 -= 1), "offer.capacity"),
        ("no memory left", Change::Left(|l| l.memory.0 -= 1), "offer.capacity"),
        ("no slot left", Change::Left(|l| l.slots = 0), "offer.capacity"),
        (
            "more memory than the engine gives",
            Change::Request(|r| r.fragments[0].demand.memory = Bytes::mib(65)),
            "offer.capacity",
        ),
        (
            "inputs too large",
            Change::Request(|r| {
                let Input::Sealed(sealed) = &mut r.fragments[0].inputs[0] else { return };
                sealed.size = Bytes(INPUT_BYTES_MAX.0 + 1);
            }),
            "offer.size",
        ),
        (
            "output too large",
            Change::Request(|r| r.fragments[0].demand.output = Bytes(OUTPUT_BYTES_MAX.0 + 1)),
            "offer.size",
        ),
    ];
    let reducing: Vec<(&str, Change, &str)> = vec![
        ("no report", Change::Offer(|o| o.upstream.clear()), "offer.upstream"),
        ("a report too many", Change::Offer(|o| o.upstream.push(o.upstream[0].clone())), "offer.upstream"),
        (
            "report of another task",
            Change::Report(|r| r.task = legation_core::TaskId::new(Digest::of(b"x"))),
            "offer.upstream",
        ),
        ("report of another fragment", Change::Report(|r| r.fragment = FragmentIndex(1)), "offer.upstream"),
        ("report of another module", Change::Report(|r| r.module = Digest::of(b"x")), "offer.upstream"),
        (
            "report that failed",
            Change::Report(|r| r.outcome = Outcome::Failed { reason: "trap".into() }),
            "offer.upstream",
        ),
        ("report without an output", Change::Report(|r| r.output = None), "offer.upstream"),
        (
            "report of another output",
            Change::Report(|r| {
                r.output.as_mut().unwrap().object = ObjectId::from_bytes([0; 16]);
            }),
            "offer.keys",
        ),
        ("report by a stranger", Change::Report(|r| r.enclave = world::key(STRANGER)), "offer.upstream"),
        ("report under another passport", Change::Report(|r| r.prev[1] = Digest::of(b"x")), "offer.upstream"),
        ("report after its passport", Change::Report(|r| r.finished = NOW.plus(591)), "offer.upstream"),
        ("report before its passport", Change::Report(|r| r.finished = NOW.minus(71)), "offer.upstream"),
        ("passport by nobody appointed", Change::UpPassport(|p| p.verifier = world::key(STRANGER)), "offer.upstream"),
        (
            "passport under another appointment",
            Change::UpPassport(|p| p.prev = vec![Digest::of(b"x")]),
            "offer.upstream",
        ),
        ("passport contraindicated", Change::UpPassport(|p| p.ear.status = Tier::Contraindicated), "offer.upstream"),
        (
            "verifier behind is not trusted with the tenant",
            Change::UpVerifier(|a| a.scope = of_others()),
            "offer.upstream",
        ),
        (
            "what is read was made by one who was revoked",
            Change::Revoked(|r| r.insert(revoked(UPSTREAM, NOW.minus(999)))),
            "revocation",
        ),
        ("verifier of another operator", Change::UpVerifier(|a| a.operator = world::key(STRANGER)), "offer.operator"),
        ("a manager verifies", Change::UpVerifier(|a| a.office = Office::Manager), "offer.office"),
        ("verifier no longer appointed", Change::UpVerifier(|a| a.not_after = NOW.minus(11)), "offer.dates"),
        (
            "upstream enclave of another region",
            Change::UpPassport(|p| {
                p.configuration.region = Region::new("us").unwrap();
            }),
            "require.region",
        ),
        ("grant without release of the output", Change::Grant(|g| g.releases.clear()), "grant.missing"),
    ];
    for (index, table) in [(0, &sealed), (1, &reducing)] {
        for (name, change, check) in table {
            let why = judge(index, change).map(|_| ()).expect_err(name);
            assert_eq!(why.check, *check, "{name}: {why}");
        }
    }
}

fn verifier() -> legation_core::Signed<Appointment> {
    assert_ne!(world::key(VERIFIER), world::key(CLIENT));
    sign(world::appointment(Office::Verifier, NOW))
}

fn up() -> legation_core::Signed<Passport> {
    sign(world::passport(UPSTREAM, &verifier(), NOW))
}

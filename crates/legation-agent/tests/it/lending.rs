//! Loans are judged by both sides, each for itself: what the manager says is its word and no more.

use legation_agent::lending::{Standing, judge_later, judge_lend, judge_lent};
use legation_core::{
    Digest, EnclaveId, FragmentIndex, LeaseId, Millicores, Milligpus, Millis, Revocable, Revocation, RevocationEpoch,
    Revoked, Seq, Signed, TenantId, Term, UnixTime,
    claims::{Attested, Capacity},
    statement::{Allocation, Appointment, Assurance, LoanRef, Office, Passport, Request, Scope},
    swarm::SeatDemand,
    unit::Bytes,
};
use legation_net::message::{Lending, Peer};

use crate::world::{self, ENCLAVE, OPERATOR, SECOND, STRANGER, UPSTREAM, sign};

const NOW: UnixTime = UnixTime(1_800_000_000);
const INDEX: FragmentIndex = FragmentIndex(0);

/// What a loan is made of; each test spoils one thing.
struct Parts {
    manager: Appointment,
    verifier: Appointment,
    request: Request,
    own: Box<dyn Fn(Allocation) -> Allocation>,
    loan: Box<dyn Fn(Allocation) -> Allocation>,
    /// Passports of borrower and lent.
    borrower: Box<dyn Fn(Passport) -> Passport>,
    lent: Box<dyn Fn(Passport) -> Passport>,
    term: Term,
}

fn parts() -> Parts {
    let mut fragment = world::fragment("one", Digest::of(b"module"), Vec::new());
    fragment.delegates = Some(world::delegation(&[Digest::of(b"callee")], 1, Assurance::Attested).0);
    Parts {
        manager: world::appointment(Office::Manager, NOW),
        verifier: world::appointment(Office::Verifier, NOW),
        request: world::request(vec![fragment], NOW, 1),
        own: Box::new(|own| own),
        loan: Box::new(|loan| loan),
        borrower: Box::new(|passport| passport),
        lent: Box::new(|mut passport| {
            passport.configuration.advertise = Some("10.0.0.7:7444".to_owned());
            passport
        }),
        term: Term(3),
    }
}

/// The borrower's own promise, what it is told, and what who is lent is told.
fn told(parts: Parts) -> (Signed<Allocation>, Lending, Lending) {
    let (manager, verifier) = (sign(parts.manager), sign(parts.verifier));
    let request: Signed<Request> = sign(parts.request);
    let borrower = sign((parts.borrower)(world::passport(ENCLAVE, &verifier, NOW)));
    let lent = sign((parts.lent)(world::passport(UPSTREAM, &verifier, NOW)));
    let own = sign((parts.own)(world::allocation(&request, &manager, INDEX, &borrower, LeaseId(1), NOW)));
    let demand = SeatDemand { cpu: Millicores(100), memory: Bytes::mib(16), gpus: Milligpus::ZERO, time: Millis(1000) };
    let loan = Allocation {
        until: own.until,
        loan: Some(LoanRef { of: own.lease, borrower: own.enclave, number: 1, demand }),
        prev: vec![request.digest(), manager.digest(), own.digest()],
        ..world::allocation(&request, &manager, INDEX, &lent, LeaseId(2), NOW)
    };
    let loan = sign((parts.loan)(loan));
    let lending = |other: &Signed<Passport>| Lending {
        term: parts.term,
        seq: Seq(9),
        allocation: loan.clone(),
        appointment: manager.clone(),
        request: request.clone(),
        borrower: own.clone(),
        other: Peer { passport: other.clone(), appointment: verifier.clone() },
    };
    (own.clone(), lending(&lent), lending(&borrower))
}

/// What the borrower says of a loan, and what who is lent says.
fn judged(parts: Parts, revoked: &Revoked) -> [Result<(), String>; 2] {
    let (own, borrower, lent) = told(parts);
    let operators = [world::key(OPERATOR)];
    let standing = |seed: u8| Standing {
        identity: world::key(seed).enclave_id(),
        operators: &operators,
        revoked,
        obeyed: Term(3),
        now: NOW.plus(5),
    };
    let left = Capacity { cpu: Millicores(1000), memory: Bytes::mib(64), slots: 1 };
    [
        judge_lent(&borrower, &own, &standing(ENCLAVE)).map_err(|why| why.check),
        judge_lend(&lent, &left, Bytes::mib(64), &standing(UPSTREAM)).map_err(|why| why.check),
    ]
}

#[test]
fn a_loan_holds_for_both_sides_or_for_neither() {
    assert_eq!(judged(parts(), &Revoked::default()), [Ok(()), Ok(())]);
    type Spoil = fn(&mut Parts);
    let both: &[(&str, Spoil, &str)] = &[
        ("another operator's manager", |p| p.manager.operator = world::key(STRANGER), "offer.operator"),
        ("a verifier as manager", |p| p.manager.office = Office::Verifier, "offer.office"),
        ("an appointment that is over", |p| p.manager.not_after = NOW.minus(100), "offer.dates"),
        ("an older term", |p| p.term = Term(2), "offer.term"),
        ("a request that is over", |p| p.request.expires = NOW.plus(1), "loan.request"),
        ("a fragment that may hand nothing on", |p| p.request.fragments[0].delegates = None, "loan.allocation"),
        ("no loan", |p| p.loan = Box::new(|l| Allocation { loan: None, ..l }), "loan.allocation"),
        (
            "of another fragment",
            |p| p.loan = Box::new(|l| Allocation { fragment: FragmentIndex(1), ..l }),
            "loan.allocation",
        ),
        (
            "by somebody else",
            |p| p.loan = Box::new(|l| Allocation { manager: world::key(STRANGER), ..l }),
            "loan.allocation",
        ),
        (
            "on other grounds",
            |p| p.loan = Box::new(|l| Allocation { prev: l.prev[..2].to_vec(), ..l }),
            "loan.allocation",
        ),
        ("for another promise", |p| p.loan = Box::new(|l| terms(l, |t| t.of = LeaseId(9))), "loan.allocation"),
        ("for another borrower", |p| p.loan = Box::new(|l| terms(l, |t| t.borrower = id(STRANGER))), "loan.allocation"),
        ("the first is one", |p| p.loan = Box::new(|l| terms(l, |t| t.number = 0)), "loan.allocation"),
        ("to itself", |p| p.loan = Box::new(|l| Allocation { enclave: id(ENCLAVE), ..l }), "loan.allocation"),
        (
            "longer than the borrower's own",
            |p| p.loan = Box::new(|l| Allocation { until: l.until.plus(1), ..l }),
            "loan.dates",
        ),
        ("over", |p| p.loan = Box::new(|l| Allocation { until: NOW, ..l }), "loan.dates"),
        ("not yet", |p| p.loan = Box::new(|l| Allocation { from: NOW.plus(1000), ..l }), "loan.dates"),
        ("a verifier of others", |p| p.verifier.scope = Some(of_bank()), "loan.verifier"),
        ("an unappointed verifier", |p| p.verifier.operator = world::key(STRANGER), "passport.operator"),
    ];
    for (name, spoil, check) in both {
        let mut parts = parts();
        spoil(&mut parts);
        assert_eq!(judged(parts, &Revoked::default()), [Err((*check).to_owned()), Err((*check).to_owned())], "{name}");
    }
}

fn id(seed: u8) -> EnclaveId {
    world::key(seed).enclave_id()
}

fn terms(loan: Allocation, change: impl Fn(&mut LoanRef)) -> Allocation {
    let mut terms = loan.loan.unwrap();
    change(&mut terms);
    Allocation { loan: Some(terms), ..loan }
}

#[test]
fn each_side_looks_at_the_other() {
    let refused = |check: &str| Err(check.to_owned());
    // Another enclave than was lent, by its passport.
    let mut one = parts();
    one.loan = Box::new(|loan| Allocation { enclave: id(STRANGER), ..loan });
    assert_eq!(judged(one, &Revoked::default()), [refused("loan.enclave"), refused("loan.enclave")]);
    // One that nobody could dial concerns the borrower alone.
    let mut one = parts();
    one.lent = Box::new(|passport| passport);
    assert_eq!(judged(one, &Revoked::default()), [refused("loan.address"), Ok(())]);
    // A passport that is over concerns whoever meets it.
    let mut one = parts();
    one.borrower = Box::new(|passport| Passport { expires: NOW, ..passport });
    assert_eq!(judged(one, &Revoked::default()), [Ok(()), refused("passport.dates")]);
    let revoke = |what| -> Revoked {
        [Revocation { what, epoch: RevocationEpoch(1), at: NOW, why: String::new() }].into_iter().collect()
    };
    assert_eq!(judged(parts(), &revoke(Revocable::Enclave(id(UPSTREAM)))), [refused("revocation"), Ok(())]);
    assert_eq!(judged(parts(), &revoke(Revocable::Enclave(id(ENCLAVE)))), [Ok(()), refused("revocation")]);
}

#[test]
fn another_passport_of_who_is_lent_counts_if_it_could_have_been_named() {
    let (_, told, _) = told(parts());
    let (named, tenant) = (&told.other.passport, &told.request.tenant);
    let operators = [world::key(OPERATOR)];
    let judged = |spoil: fn(&mut Appointment, &mut Passport), revoked: &Revoked| {
        let mut verifier = Appointment { key: world::key(SECOND), ..world::appointment(Office::Verifier, NOW) };
        let mut passport = Passport { verifier: verifier.key, ..named.predicate().clone() };
        spoil(&mut verifier, &mut passport);
        let appointment = sign(verifier);
        let passport = sign(Passport { prev: vec![appointment.digest()], ..passport });
        let identity = id(ENCLAVE);
        let standing = Standing { identity, operators: &operators, revoked, obeyed: Term(3), now: NOW.plus(5) };
        judge_later(&Peer { passport, appointment }, named, tenant, &standing).map_err(|why| why.check)
    };
    let none = Revoked::default();
    assert_eq!(judged(|_, _| {}, &none), Ok(()));
    type Spoil = fn(&mut Appointment, &mut Passport);
    let cases: &[(&str, Spoil, &str)] = &[
        ("another operator's verifier", |a, _| a.operator = world::key(STRANGER), "passport.operator"),
        ("a manager", |a, _| a.office = Office::Manager, "passport.office"),
        ("a verifier of others", |a, _| a.scope = Some(of_bank()), "loan.verifier"),
        ("a passport that is over", |_, p| p.expires = NOW, "passport.dates"),
        ("another enclave", |_, p| p.enclave = world::key(STRANGER), "call.peer"),
        ("another chip", |_, p| p.claims.chip = Attested::hardware("02".repeat(64)), "call.peer"),
        ("another slot", |_, p| p.configuration.slot = 7, "call.peer"),
        ("another key to seal to", |_, p| p.sealing = world::sealing(STRANGER).public().clone(), "call.peer"),
    ];
    for (name, spoil, check) in cases {
        assert_eq!(judged(*spoil, &none), Err((*check).to_owned()), "{name}");
    }
    let what = Revocable::Verifier(world::key(SECOND).id());
    let revocation = Revocation { what, epoch: RevocationEpoch(1), at: NOW, why: String::new() };
    let revoked: Revoked = [revocation].into_iter().collect();
    assert_eq!(judged(|_, _| {}, &revoked), Err("revocation".to_owned()));
}

fn of_bank() -> Scope {
    Scope { tenants: Some(vec![TenantId::new("bank").unwrap()]), kinds: None }
}

#[test]
fn a_loan_fits_into_what_is_left() {
    let (_, _, lent) = told(parts());
    let operators = [world::key(OPERATOR)];
    let revoked = Revoked::default();
    let standing =
        Standing { identity: id(UPSTREAM), operators: &operators, revoked: &revoked, obeyed: Term(3), now: NOW };
    let all = Capacity { cpu: Millicores(100), memory: Bytes::mib(16), slots: 1 };
    for (name, left, memory_max, fits) in [
        ("just", all, Bytes::mib(16), true),
        ("no slot", Capacity { slots: 0, ..all }, Bytes::mib(16), false),
        ("no compute", Capacity { cpu: Millicores(99), ..all }, Bytes::mib(16), false),
        ("no memory", Capacity { memory: Bytes::mib(15), ..all }, Bytes::mib(16), false),
        ("more than one run may have", all, Bytes::mib(15), false),
    ] {
        let judged = judge_lend(&lent, &left, memory_max, &standing);
        assert_eq!(
            judged.map_err(|why| why.check),
            if fits { Ok(()) } else { Err("offer.capacity".to_owned()) },
            "{name}"
        );
    }
}

//! Rounds of swarms: what a member signs, and every reason for which it does not.

use legation_agent::{
    books::Books,
    swarm::{Standing, judge},
};
use legation_core::{
    Bytes, Digest, LeaseId, Millicores, Millis, Rejection, Requirement, Revocable, Revocation, RevocationEpoch,
    Revoked, Seq, TaskId, Term, UnixTime,
    claims::Capacity,
    statement::{Allocation, Appointment, Office, Passport, Placement, Request, Scope, Tier},
    swarm::{Member, Membership, Seat, SeatDemand, SeatRef, Seating, SwarmTerms},
};
use legation_net::message::{Enlist, Peer};

use crate::world::{self, ENCLAVE, OPERATOR, UPSTREAM};

const NOW: UnixTime = UnixTime(1_800_000_000);

/// What is changed before it is signed.
enum Change {
    Nothing,
    Manager(fn(&mut Appointment)),
    Verifier(fn(&mut Appointment)),
    Passport(fn(&mut Passport)),
    Request(fn(&mut Request)),
    Seating(fn(&mut Seating)),
    Enlist(fn(&mut Enlist)),
    Revoked(fn(&mut Revoked)),
    Now(fn(&mut UnixTime)),
}

fn terms() -> SwarmTerms {
    let seat =
        SeatDemand { cpu: Millicores(100), memory: Bytes::mib(16), gpus: Default::default(), time: Millis(60_000) };
    SwarmTerms { members: 2, least: None, seat, speculate: None }
}

fn seat(passport: &legation_core::Signed<Passport>, lease: u64) -> Seat {
    let configuration = &passport.configuration;
    Seat {
        member: Member { enclave: passport.enclave_id(), passport: passport.digest(), lease: LeaseId(lease) },
        provider: configuration.provider.clone(),
        region: configuration.region.clone(),
        from: NOW,
        until: NOW.plus(120),
        price_hour: configuration.rate.per_hour(Millicores(100), Bytes::mib(16)),
        why: Placement { considered: 2, eligible: 2, passed_over: Vec::new(), decided_by: "price".to_owned() },
    }
}

fn judged(change: &Change) -> Result<Membership, Rejection> {
    macro_rules! with {
        ($kind:ident, $value:expr) => {{
            let mut value = $value;
            if let Change::$kind(change) = change {
                change(&mut value);
            }
            value
        }};
    }
    let manager = world::sign(with!(Manager, world::appointment(Office::Manager, NOW)));
    let verifier = world::sign(with!(Verifier, world::appointment(Office::Verifier, NOW)));
    let own = world::sign(world::passport(ENCLAVE, &verifier, NOW));
    let mut other = world::passport(UPSTREAM, &verifier, NOW);
    other.claims.chip.value = "another chip".to_owned();
    let other = world::sign(with!(Passport, other));
    let fragments = vec![world::fragment("map", Digest::of(b"map"), Vec::new()); 2];
    let request = Request { swarm: Some(terms()), ..world::request(fragments, NOW, 1) };
    let request = world::sign(with!(Request, request));
    let mut seats = vec![seat(&own, 1), seat(&other, 2)];
    let mut members =
        vec![Peer { passport: own, appointment: verifier.clone() }, Peer { passport: other, appointment: verifier }];
    seats.sort_by_key(|s| s.member.enclave);
    members.sort_by_key(|m| m.passport.enclave_id());
    let seating = Seating {
        manager: manager.key,
        term: Term(3),
        task: TaskId::new(request.digest()),
        round: 1,
        at: NOW,
        seats,
        revocations: RevocationEpoch(0),
        prev: vec![request.digest(), manager.digest()],
    };
    let seating = world::sign(with!(Seating, seating));
    let enlist = Enlist { term: Term(3), seq: Seq(9), seating, appointment: manager, request, members };
    let enlist = with!(Enlist, enlist);
    let standing = Standing {
        identity: world::key(ENCLAVE),
        operators: &[world::key(OPERATOR)],
        revoked: &with!(Revoked, Revoked::default()),
        obeyed: world::obeyed().0,
        now: with!(Now, NOW),
    };
    judge(&enlist, &standing)
}

#[test]
fn a_member_signs_the_list_as_it_was_seated() {
    let said = judged(&Change::Nothing).unwrap();
    assert_eq!((said.round, said.members.len(), said.prev.len()), (1, 2, 3));
    assert_eq!(said.enclave, world::key(ENCLAVE));
    assert!(said.members.iter().any(|m| m.enclave == said.enclave.enclave_id() && m.passport == said.prev[2]));
}

fn stolen(revoked: &mut Revoked) {
    let what = Revocable::Enclave(world::key(UPSTREAM).enclave_id());
    revoked.insert(Revocation { what, epoch: RevocationEpoch(1), at: NOW, why: "stolen".into() });
}

#[test]
fn a_member_does_not_join_whom_it_does_not_believe() {
    use Change::{
        Enlist as E, Manager as M, Now as N, Passport as P, Request as R, Revoked as X, Seating as S, Verifier as V,
    };
    let cases: Vec<(&str, Change, &str)> = vec![
        ("a manager of another operator", M(|a| a.operator = world::key(9)), "offer.operator"),
        ("no manager", M(|a| a.office = Office::Verifier), "offer.office"),
        ("a manager whose time is over", M(|a| a.not_after = NOW.minus(1)), "offer.dates"),
        ("an older term", E(|e| e.term = Term(1)), "offer.term"),
        ("a seating of a later term", S(|s| s.term = Term(4)), "offer.term"),
        ("no swarm asked for", R(|r| r.swarm = None), "swarm.request"),
        ("a request that is over", N(|now| *now = now.plus(700)), "swarm.request"),
        ("seats too small", R(|r| r.swarm.as_mut().unwrap().seat.cpu = Millicores(1)), "swarm.seat"),
        ("seated by another", S(|s| s.manager = world::key(9)), "swarm.seating"),
        ("of another task", S(|s| s.task = TaskId::new(Digest::of(b"x"))), "swarm.seating"),
        ("resting on another request", S(|s| s.prev[0] = Digest::of(b"x")), "swarm.seating"),
        ("without this enclave", S(|s| s.seats.retain(|s| s.member.lease != LeaseId(1))), "swarm.seating"),
        ("fewer than all in the first round", S(|s| s.seats.retain(|s| s.member.lease == LeaseId(1))), "swarm.seating"),
        (
            "fewer than must be in a later one",
            S(|s| {
                s.round = 2;
                s.seats.retain(|s| s.member.lease == LeaseId(1));
            }),
            "swarm.seating",
        ),
        ("an enclave twice", S(|s| s.seats.push(s.seats[1].clone())), "swarm.seating"),
        ("seats out of order", S(|s| s.seats.reverse()), "swarm.seating"),
        ("seated in the future", S(|s| s.at = NOW.plus(61)), "swarm.seating"),
        ("a passport left out", E(|e| _ = e.members.pop()), "swarm.passport"),
        ("passports of others", E(|e| e.members.reverse()), "swarm.passport"),
        ("a passport that is over", P(|p| p.expires = NOW.minus(1)), "swarm.passport"),
        ("a passport to come", P(|p| p.issued = NOW.plus(61)), "swarm.passport"),
        ("one that is contraindicated", P(|p| p.ear.status = Tier::Contraindicated), "swarm.passport"),
        ("by somebody who is no verifier", P(|p| p.prev[0] = Digest::of(b"x")), "swarm.verifier"),
        (
            "a verifier that others trust",
            V(|a| a.scope = Some(Scope { tenants: Some(vec!["others".parse().unwrap()]), kinds: None })),
            "swarm.verifier",
        ),
        ("a verifier of another operator", V(|a| a.operator = world::key(9)), "offer.operator"),
        ("one that was revoked", X(stolen), "revocation"),
        ("one that does not satisfy", R(|r| r.require = Requirement::parse("region == nowhere").unwrap()), "require"),
        (
            "one that does not satisfy the fragments",
            R(|r| {
                let require = Requirement::parse("region == nowhere").unwrap();
                r.fragments.iter_mut().for_each(|fragment| fragment.require = require.clone());
            }),
            "require",
        ),
        ("a seat at another price", S(|s| s.seats[0].price_hour.0 += 1), "swarm.price"),
        ("a seat for ever", S(|s| s.seats[0].until = NOW.plus(10_000)), "swarm.price"),
        (
            "two on one chip",
            E(|e| {
                // As they are where one machine runs two agents.
                let chip = world::passport(ENCLAVE, &e.members[0].appointment, NOW).claims.chip.value;
                assert!(e.members.iter().any(|m| m.passport.claims.chip.value == chip));
                let mut twin = e
                    .members
                    .iter()
                    .find(|m| m.passport.claims.chip.value != chip)
                    .unwrap()
                    .passport
                    .predicate()
                    .clone();
                twin.claims.chip.value = chip;
                let twin = world::sign(twin);
                let mut seating = e.seating.predicate().clone();
                for (seat, member) in seating.seats.iter_mut().zip(&mut e.members) {
                    if member.passport.enclave_id() == twin.enclave_id() {
                        seat.member.passport = twin.digest();
                        member.passport = twin.clone();
                    }
                }
                e.seating = world::sign(seating);
            }),
            "swarm.chip",
        ),
    ];
    let mut wrong = Vec::new();
    for (what, change, check) in cases {
        match judged(&change) {
            Err(why) if why.check.starts_with(check) => (),
            other => wrong.push(format!("{what}: {other:?}; wanted {check}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn work_of_a_swarm_is_taken_only_in_a_round_that_was_joined() {
    let mut books = Books::new(Capacity { cpu: Millicores(1000), memory: Bytes::mib(100), slots: 2 });
    let manager = world::sign(world::appointment(Office::Manager, NOW));
    let verifier = world::sign(world::appointment(Office::Verifier, NOW));
    let own = world::passport(ENCLAVE, &verifier, NOW);
    let request = world::sign(world::request(vec![world::fragment("map", Digest::of(b"m"), Vec::new())], NOW, 1));
    let index = legation_core::FragmentIndex(0);
    let mut allocation = world::allocation(&request, &manager, index, &own, LeaseId(5), NOW);
    assert!(books.check_member(&allocation).is_ok());
    allocation.seat = Some(SeatRef { lease: LeaseId(2), round: 1 });
    let refused = |books: &Books, allocation: &Allocation| books.check_member(allocation).map_err(|why| why.check);
    assert_eq!(refused(&books, &allocation), Err("offer.member".into()));
    books.join(LeaseId(2), Digest::of(b"membership"));
    assert_eq!(refused(&books, &allocation), Err("offer.member".into()), "it does not rest on its word");
    allocation.prev.push(Digest::of(b"membership"));
    assert_eq!(refused(&books, &allocation), Ok(()));
    // The seat ends: nothing is run in it any more, and it is not joined again.
    books.end(LeaseId(2));
    assert_eq!(refused(&books, &allocation), Err("offer.member".into()));
    books.join(LeaseId(2), Digest::of(b"membership"));
    assert_eq!(refused(&books, &allocation), Err("offer.member".into()));
    // All is bounded: the oldest rounds and seats are forgotten.
    allocation.seat = Some(SeatRef { lease: LeaseId(3), round: 1 });
    books.join(LeaseId(3), Digest::of(b"membership"));
    (0..=u8::MAX).for_each(|n| books.join(LeaseId(3), Digest::of(&[n])));
    assert_eq!(refused(&books, &allocation), Err("offer.member".into()));
}

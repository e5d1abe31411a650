//! Receipts of swarms: the list that every member signed, and what happens to a receipt when somebody did not, signed another, or
//! lies about it with a key of its own.

use legation_core::{
    Digest, FragmentIndex, LeaseId, Millis, Receipt, Requirement, Revocable, Revocation, RevocationEpoch,
    RevocationList, UnixTime,
    claims::Judged,
    receipt::Standing,
    statement::{Allocation, Passport, Request},
    swarm::{Membership, Seating},
};

use crate::world::{Before, Forger, Plan, Said, T0, World, anchors, build, digest, judge, key, no_bend, verify};

type Change<T> = fn(&mut T, &Before);

enum Lie {
    Seating(Change<Seating>),
    Membership(&'static str, Change<Membership>),
    Allocation(&'static str, Change<Allocation>),
    Passport(&'static str, Change<Passport>),
    Enclave(&'static str, Change<Judged>),
    Request(Change<Request>),
}

impl Lie {
    fn tell(&self, label: &str, said: Said<'_>, before: &Before) {
        match (self, said) {
            (Self::Seating(change), Said::Seating(it)) => change(it, before),
            (Self::Membership(at, change), Said::Membership(it)) if *at == label => change(it, before),
            (Self::Allocation(at, change), Said::Allocation(it)) if *at == label => change(it, before),
            (Self::Passport(at, change), Said::Passport(it)) if *at == label => change(it, before),
            (Self::Enclave(at, change), Said::Enclave(it)) if *at == label => change(it, before),
            (Self::Request(change), Said::Request(it)) => change(it, before),
            _ => (),
        }
    }
}

fn receipt() -> (World, Receipt) {
    let world = build(Plan::swarm(), &no_bend);
    let receipt = world.receipt();
    (world, receipt)
}

#[test]
fn the_receipt_of_a_swarm_shows_who_judged_whom() {
    let (_, receipt) = receipt();
    let verdict = verify(&receipt).unwrap();
    assert_eq!((verdict.standing, verdict.completed), (Standing::ValidButDevelopment, true));
    let count = |kind: &str| verdict.links.iter().filter(|l| l.kind == kind).count();
    assert_eq!((count("seating"), count("membership"), count("passport"), count("allocation")), (1, 4, 4, 4));
    let says = verdict.links.iter().find(|l| l.kind == "membership").unwrap().says.clone();
    assert!(says.ends_with("judged and joined the 4 members of round 1"), "{says}");
    // What runs in a seat is paid for by the seat: no report says what that cost.
    let again = Receipt::from_text(receipt.to_text().as_bytes()).unwrap();
    assert_eq!(verify(&again).unwrap(), verdict);
}

#[test]
fn no_statement_of_the_swarm_can_be_left_out_or_moved() {
    let (_, whole) = receipt();
    for i in 0..whole.envelopes.len() {
        let kind = whole.envelopes[i].predicate_type().unwrap();
        if !kind.contains("membership") && !kind.contains("seating") {
            continue;
        }
        let mut receipt = whole.clone();
        receipt.envelopes.remove(i);
        assert_eq!(verify(&receipt).unwrap_err().why.check, "receipt.missing");
        let mut receipt = whole.clone();
        receipt.envelopes.swap(i - 1, i);
        assert_eq!(verify(&receipt).unwrap_err().why.check, "receipt.order");
    }
    for i in 0..whole.evidence.len() {
        let mut receipt = whole.clone();
        receipt.evidence.remove(i);
        assert_eq!(verify(&receipt).unwrap_err().why.check, "receipt.evidence");
    }
}

#[test]
fn every_lie_about_a_swarm_is_a_bad_link() {
    use Lie::{Allocation as A, Enclave as E, Membership as M, Passport as P, Request as R, Seating as S};
    const NORTH: &str = "r1/membership-enclave-north";
    const FIRST: &str = "r1/allocation-3";
    let cases: Vec<(&str, Lie, &str, &str)> = vec![
        ("a seat left out by the manager", S(|s, _| _ = s.seats.pop()), "receipt.swarm", "*"),
        ("seats in another order", S(|s, _| s.seats.reverse()), "receipt.swarm", "r1/seating"),
        ("a seat twice", S(|s, _| s.seats.push(s.seats[3].clone())), "receipt.swarm", "r1/seating"),
        ("a second round without the first", S(|s, _| s.round = 2), "receipt.swarm", "r1/seating"),
        ("seated by somebody", S(|s, _| s.manager = key("attacker")), "receipt.appointment", "r1/seating"),
        (
            "seated when its manager was not appointed",
            S(|s, _| s.at = UnixTime(T0 - 5000)),
            "receipt.appointment",
            "r1/seating",
        ),
        ("seated before its members attested", S(|s, _| s.at = UnixTime(T0 - 100)), "receipt.swarm", "*"),
        ("seated after their passports", S(|s, _| s.at = UnixTime(T0 + 700)), "receipt.swarm", "*"),
        ("seated for another request", S(|s, _| s.prev[0] = s.prev[1]), "receipt.swarm", "r1/seating"),
        ("another passport", S(|s, before| s.seats[0].member.passport = before["r1/request"]), "receipt.swarm", "*"),
        ("a seat at another price", S(|s, _| s.seats[0].price_hour.0 += 1), "receipt.swarm", "*"),
        (
            "two members on one chip",
            E("r1/enclave-north", |e, _| e.claims.chip.value = digest("enclave-hub").to_string()),
            "receipt.swarm",
            "*",
        ),
        (
            "members that do not satisfy the fragments",
            R(|r, _| {
                let require = Requirement::parse("region == nowhere").unwrap();
                r.fragments.iter_mut().for_each(|fragment| fragment.require = require.clone());
            }),
            "require.region",
            "*",
        ),
        ("a list without one", M(NORTH, |m, _| _ = m.members.pop()), "receipt.swarm", NORTH),
        ("a list with another seat", M(NORTH, |m, _| m.members[0].lease = LeaseId(9)), "receipt.swarm", NORTH),
        ("a list with another passport", M(NORTH, |m, _| m.members[0].passport = digest("x")), "receipt.swarm", NORTH),
        ("another round", M(NORTH, |m, _| m.round = 2), "receipt.swarm", NORTH),
        ("the passport of another", M(NORTH, |m, b| m.prev[2] = b["r1/passport-enclave-hub"]), "receipt.swarm", NORTH),
        ("signed by who is no member", M(NORTH, |m, _| m.enclave = key("attacker")), "receipt.swarm", NORTH),
        ("one signs for another", M(NORTH, |m, _| m.enclave = key("enclave-hub")), "receipt.swarm", NORTH),
        ("no seat", A(FIRST, |a, _| a.seat = None), "receipt.swarm", FIRST),
        ("another's seat", A(FIRST, |a, _| a.seat.as_mut().unwrap().lease = LeaseId(99)), "receipt.swarm", FIRST),
        ("another round", A(FIRST, |a, _| a.seat.as_mut().unwrap().round = 2), "receipt.swarm", FIRST),
        ("a membership left out", A(FIRST, |a, _| _ = a.prev.pop()), "receipt.swarm", FIRST),
        ("no membership at all", A(FIRST, |a, _| a.prev.truncate(2)), "receipt.swarm", FIRST),
        ("a membership twice", A(FIRST, |a, _| a.prev.push(a.prev[2])), "receipt.swarm", FIRST),
        ("memberships in another order", A(FIRST, |a, _| a.prev[2..].reverse()), "receipt.swarm", FIRST),
        ("something else for one", A(FIRST, |a, _| a.prev[2] = a.prev[1]), "receipt.swarm", FIRST),
        ("longer than its seat", A(FIRST, |a, _| a.until = UnixTime(T0 + 701)), "receipt.swarm", FIRST),
        ("a fragment that is not there", A(FIRST, |a, _| a.fragment = FragmentIndex(9)), "receipt.allocation", FIRST),
        (
            "a member that is no enclave for the task",
            P("r1/passport-enclave-north", |p, _| p.expires = p.issued.plus(1)),
            "receipt.swarm",
            NORTH,
        ),
        ("a swarm that nobody asked for", R(|r, _| r.swarm = None), "receipt.swarm", "r1/seating"),
        ("more seats than asked for", R(|r, _| r.swarm.as_mut().unwrap().members = 3), "receipt.swarm", "r1/seating"),
        (
            "seats that are too small",
            R(|r, _| r.swarm.as_mut().unwrap().seat.time = Millis(1)),
            "swarm.seat",
            "r1/request",
        ),
        (
            "parts that may be handed on to who is no member",
            R(|r, _| {
                r.fragments[0].delegates = Some(legation_core::task::Delegation {
                    modules: vec![digest("part.wasm")],
                    depth: 1,
                    fuel: legation_core::Fuel(1),
                    budget: legation_core::MicroUsd(1),
                    assurance: legation_core::statement::Assurance::Attested,
                });
            }),
            "swarm.delegates",
            "r1/request",
        ),
    ];
    let mut wrong = Vec::new();
    for (what, lie, check, at) in cases {
        let world = build(Plan::swarm(), &|label, said, before| lie.tell(label, said, before));
        let receipt = match world.assemble() {
            Ok(receipt) => receipt,
            Err(why) => {
                wrong.push(format!("{what}: cannot be assembled: {why}"));
                continue;
            }
        };
        match verify(&receipt) {
            Err(invalid) if invalid.why.check == check && (at == "*" || invalid.at == world.at(at)) => (),
            Err(invalid) => wrong.push(format!("{what}: {invalid}; wanted {check} at {at}")),
            Ok(_) => wrong.push(format!("{what}: accepted; wanted {check} at {at}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_word_that_was_not_signed_by_the_member_is_none() {
    for label in ["r1/seating", "r1/membership-enclave-north", "r1/membership-enclave-hub"] {
        for forger in [Forger::Attacker, Forger::Impostor] {
            let world = build(Plan { forged: Some((label, forger)), ..Plan::swarm() }, &no_bend);
            let invalid = verify(&world.receipt()).unwrap_err();
            assert_eq!((invalid.why.check.as_str(), invalid.at), ("receipt.signature", world.at(label)), "{label}");
        }
    }
}

#[test]
fn a_member_that_was_revoked_when_it_was_seated_spoils_the_receipt() {
    let (_, receipt) = receipt();
    let list = |at: u64, epoch: u64| RevocationList {
        manager: key("manager"),
        epoch: RevocationEpoch(epoch),
        at: UnixTime(T0 + 5000),
        revocations: vec![Revocation {
            what: Revocable::Enclave(key("enclave-hub").enclave_id()),
            epoch: RevocationEpoch(epoch),
            at: UnixTime(T0 + at),
            why: "stolen".to_owned(),
        }],
        prev: vec![Digest::of(b"appointment")],
    };
    let check = |at, epoch| receipt.verify_with(&anchors(), &judge(), Some(&list(at, epoch))).map_err(|i| i.why.check);
    // Nobody's work rests on it alone, but all members judged it.
    assert_eq!(check(5, 9).map(|_| ()), Err("receipt.revoked".to_owned()));
    assert_eq!(check(4000, 7).map(|_| ()), Err("receipt.revoked".to_owned()));
    let late = check(4000, 9).unwrap();
    assert!(late.warnings.iter().any(|w| w.contains("behind a member of the swarm")));
    assert_eq!(late.results.len(), 1);
}

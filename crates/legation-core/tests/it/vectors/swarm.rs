//! A swarm of four: who was seated, who signed, and whether allocations are within.

use legation_core::{
    Fuel, LeaseId, MicroUsd, Millis, Requirement, Revocable, Revocation, RevocationEpoch, RevocationList, UnixTime,
    statement::Assurance, task::Delegation,
};

use super::Receipts;
use crate::world::{Before, Forger, Plan, Said, T0, build, digest, key, no_bend};

type Lie = fn(&str, Said<'_>, &Before);

const FIRST: &str = "r1/allocation-3";
const NORTH: &str = "r1/membership-enclave-north";

#[test]
fn receipts_of_a_swarm() {
    let mut all = Receipts::default();
    let whole = build(Plan::swarm(), &no_bend);
    all.good("good: as it is", &whole.receipt());
    for (name, lie) in SEATS {
        all.bad(name, &build(Plan::swarm(), lie).receipt());
    }
    let appointment = whole.envelopes.iter().find(|e| e.digest() == whole.labels["manager"]).unwrap();
    for (name, at, epoch, good) in [
        ("revoked: a member, before it was seated", 5, 9, false),
        ("revoked: a member, in an epoch that the seating knew", 4000, 7, false),
        ("revoked: a member, after it was seated", 4000, 9, true),
    ] {
        let revocation = Revocation {
            what: Revocable::Enclave(key("enclave-hub").enclave_id()),
            epoch: RevocationEpoch(epoch),
            at: UnixTime(T0 + at),
            why: "stolen".to_owned(),
        };
        let list = RevocationList {
            manager: key("manager"),
            at: UnixTime(T0 + 5000),
            epoch: revocation.epoch,
            revocations: vec![revocation],
            prev: Vec::new(),
        };
        all.revoked(name, &whole.receipt(), (list, appointment.clone()), good);
    }
    all.settle("receipts-swarm.json");
}

#[test]
fn members_of_a_swarm() {
    let mut all = Receipts::default();
    for (name, lie) in MEMBERS {
        all.bad(name, &build(Plan::swarm(), lie).receipt());
    }
    for label in ["r1/seating", NORTH] {
        for (how, forger) in [("by the attacker", Forger::Attacker), ("by an impostor", Forger::Impostor)] {
            let world = build(Plan { forged: Some((label, forger)), ..Plan::swarm() }, &no_bend);
            all.bad(&format!("{label} signed {how}"), &world.receipt());
        }
    }
    all.settle("receipts-swarm-members.json");
}

const SEATS: &[(&str, Lie)] = &[
    ("seating: a seat left out", |_, said, _| {
        if let Said::Seating(it) = said {
            it.seats.pop();
        }
    }),
    ("seating: seats in another order", |_, said, _| {
        if let Said::Seating(it) = said {
            it.seats.reverse();
        }
    }),
    ("seating: a second round without the first", |_, said, _| {
        if let Said::Seating(it) = said {
            it.round = 2;
        }
    }),
    ("seating: by somebody", |_, said, _| {
        if let Said::Seating(it) = said {
            it.manager = key("attacker");
        }
    }),
    ("seating: before its members attested", |_, said, _| {
        if let Said::Seating(it) = said {
            it.at = UnixTime(T0 - 100);
        }
    }),
    ("seating: for another request", |_, said, _| {
        if let Said::Seating(it) = said {
            it.prev[0] = it.prev[1];
        }
    }),
    ("seating: another passport", |_, said, before| {
        if let Said::Seating(it) = said {
            it.seats[0].member.passport = before["r1/request"];
        }
    }),
    ("seating: a seat at another price", |_, said, _| {
        if let Said::Seating(it) = said {
            it.seats[0].price_hour.0 += 1;
        }
    }),
    ("enclave: on the chip of another member", |label, said, _| {
        if let (Said::Enclave(it), "r1/enclave-north") = (said, label) {
            it.claims.chip.value = digest("enclave-hub").to_string();
        }
    }),
    ("request: fragments that no member satisfies", |_, said, _| {
        if let Said::Request(it) = said {
            let require = Requirement::parse("region == nowhere").unwrap();
            it.fragments.iter_mut().for_each(|fragment| fragment.require = require.clone());
        }
    }),
    ("request: a swarm that nobody asked for", |_, said, _| {
        if let Said::Request(it) = said {
            it.swarm = None;
        }
    }),
    ("request: parts that enclaves outside may run", |_, said, _| {
        if let Said::Request(it) = said {
            it.fragments[0].delegates = Some(Delegation {
                modules: vec![digest("part.wasm")],
                depth: 1,
                fuel: Fuel(1),
                budget: MicroUsd(0),
                assurance: Assurance::Attested,
            });
        }
    }),
    ("request: fewer seats than were given", |_, said, _| {
        if let Said::Request(it) = said {
            it.swarm.as_mut().unwrap().members = 3;
        }
    }),
    ("request: seats that are too small", |_, said, _| {
        if let Said::Request(it) = said {
            it.swarm.as_mut().unwrap().seat.time = Millis(1);
        }
    }),
];

const MEMBERS: &[(&str, Lie)] = &[
    ("membership: a list without one", |label, said, _| {
        if let (Said::Membership(it), NORTH) = (said, label) {
            it.members.pop();
        }
    }),
    ("membership: another seat", |label, said, _| {
        if let (Said::Membership(it), NORTH) = (said, label) {
            it.members[0].lease = LeaseId(9);
        }
    }),
    ("membership: another round", |label, said, _| {
        if let (Said::Membership(it), NORTH) = (said, label) {
            it.round = 2;
        }
    }),
    ("membership: the passport of another", |label, said, before| {
        if let (Said::Membership(it), NORTH) = (said, label) {
            it.prev[2] = before["r1/passport-enclave-hub"];
        }
    }),
    ("membership: by who is no member", |label, said, _| {
        if let (Said::Membership(it), NORTH) = (said, label) {
            it.enclave = key("attacker");
        }
    }),
    ("membership: one for another", |label, said, _| {
        if let (Said::Membership(it), NORTH) = (said, label) {
            it.enclave = key("enclave-hub");
        }
    }),
    ("allocation: no seat", |label, said, _| {
        if let (Said::Allocation(it), FIRST) = (said, label) {
            it.seat = None;
        }
    }),
    ("allocation: another's seat", |label, said, _| {
        if let (Said::Allocation(it), FIRST) = (said, label) {
            it.seat.as_mut().unwrap().lease = LeaseId(99);
        }
    }),
    ("allocation: another round", |label, said, _| {
        if let (Said::Allocation(it), FIRST) = (said, label) {
            it.seat.as_mut().unwrap().round = 2;
        }
    }),
    ("allocation: a membership left out", |label, said, _| {
        if let (Said::Allocation(it), FIRST) = (said, label) {
            it.prev.pop();
        }
    }),
    ("allocation: a membership twice", |label, said, _| {
        if let (Said::Allocation(it), FIRST) = (said, label) {
            it.prev.push(it.prev[2]);
        }
    }),
    ("allocation: memberships in another order", |label, said, _| {
        if let (Said::Allocation(it), FIRST) = (said, label) {
            it.prev[2..].reverse();
        }
    }),
    ("allocation: longer than its seat", |label, said, _| {
        if let (Said::Allocation(it), FIRST) = (said, label) {
            it.until = UnixTime(T0 + 701);
        }
    }),
];

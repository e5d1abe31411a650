//! Three trainers, one reducer, two rounds: what a second task rests on, what is reduced, and which roots a receipt has.

use legation_core::{Digest, FragmentIndex, Receipt, TaskId, UnixTime};

use super::Receipts;
use crate::world::{Before, Plan, Said, T0, World, build, key, no_bend, output};

type Lie = fn(&str, Said<'_>, &Before);

fn one() -> Plan<'static> {
    Plan { rounds: 1, ..Plan::default() }
}

#[test]
fn receipts_of_a_federation() {
    let mut all = Receipts::default();
    all.good("good: two rounds", &build(Plan::default(), &no_bend).receipt());
    all.good("good: one round", &build(one(), &no_bend).receipt());
    all.good("good: three results", &build(Plan { reduce: false, ..one() }, &no_bend).receipt());
    all.good("good: one failed", &build(Plan { failed: &[1], ..one() }, &no_bend).receipt());
    all.good("good: two failed", &build(Plan { failed: &[0, 2], ..one() }, &no_bend).receipt());
    all.good("good: the reducer failed", &build(Plan { failed: &[3], ..one() }, &no_bend).receipt());
    for (name, lie) in LIES {
        all.bad(name, &build(one(), lie).receipt());
    }
    for (name, lie) in SECOND {
        all.bad(name, &build(Plan::default(), lie).receipt());
    }
    for twin in ["report", "reduction", "aggregate"] {
        let world = build(Plan { twice: Some(twin), ..Plan::default() }, &no_bend);
        all.bad(&format!("a second {twin} of one fragment"), &world.receipt());
    }
    roots(&mut all);
    all.settle("receipts-federation.json");
}

fn rooted(world: &World, labels: &[&str]) -> Receipt {
    let roots: Vec<Digest> = labels.iter().map(|label| world.labels[*label]).collect();
    world.assemble_roots(roots).unwrap()
}

/// Roots are the results of the task, or what failed: nothing else, and in order.
fn roots(all: &mut Receipts) {
    let whole = build(one(), &no_bend);
    let three = build(Plan { reduce: false, ..one() }, &no_bend);
    let mixed = build(Plan { reduce: false, failed: &[1], ..one() }, &no_bend);
    let both = build(Plan { reduce: false, failed: &[0, 2], ..one() }, &no_bend);
    for (name, world, labels) in [
        ("a trainer's report", &whole, &["r1/report-0"][..]),
        ("all trainers' reports", &whole, &["r1/report-0", "r1/report-1", "r1/report-2"]),
        ("the reducer's report without its aggregate", &whole, &["r1/report-3"]),
        ("a report beside the aggregate", &whole, &["r1/report-0", "r1/aggregate"]),
        ("the reducer twice", &whole, &["r1/report-3", "r1/aggregate"]),
        ("some results", &three, &["r1/report-0", "r1/report-2"]),
        ("results in another order", &three, &["r1/report-1", "r1/report-0", "r1/report-2"]),
        ("the failure left out", &mixed, &["r1/report-0", "r1/report-2"]),
        ("results beside the failure", &mixed, &["r1/report-0", "r1/report-1", "r1/report-2"]),
        ("failures in another order", &both, &["r1/report-2", "r1/report-0"]),
    ] {
        all.bad(&format!("roots: {name}"), &rooted(world, labels));
    }
}

const LIES: &[(&str, Lie)] = &[
    ("allocation: replaces a later lease", |label, said, _| {
        if let (Said::Allocation(it), "r1/allocation-1") = (said, label) {
            it.lease = legation_core::LeaseId(2);
        }
    }),
    ("allocation: replaces one of another fragment", |label, said, before| {
        if let (Said::Allocation(it), "r1/allocation-1") = (said, label) {
            it.prev[2] = before["r1/allocation-0"];
        }
    }),
    ("allocation: forgets a revocation", |label, said, _| {
        if let (Said::Allocation(it), "r1/allocation-1") = (said, label) {
            it.revocations.0 -= 1;
        }
    }),
    ("grant: an owner's of an output, without the key", |label, said, _| {
        if let (Said::Grant(it), "r1/grant-3-west") = (said, label) {
            it.releases.clear();
        }
    }),
    ("report: under the passport of another", |label, said, before| {
        if let (Said::Report(it), "r1/report-3") = (said, label) {
            it.prev[1] = before["r1/passport-enclave-north"];
        }
    }),
    ("report: with the grant of another fragment", |label, said, before| {
        if let (Said::Report(it), "r1/report-3") = (said, label) {
            it.prev.insert(2, before["r1/grant-0-north"]);
            it.prev[2..7].sort_unstable();
        }
    }),
    ("report: grants not in order", |label, said, _| {
        if let (Said::Report(it), "r1/report-3") = (said, label) {
            it.prev.swap(2, 3);
        }
    }),
    ("report: an input left out", |label, said, _| {
        if let (Said::Report(it), "r1/report-3") = (said, label) {
            it.prev.pop();
            it.inputs.pop();
        }
    }),
    ("report: inputs in another order", |label, said, _| {
        if let (Said::Report(it), "r1/report-3") = (said, label) {
            it.prev.swap(6, 7);
            it.inputs.swap(0, 1);
        }
    }),
    ("report: one input twice", |label, said, _| {
        if let (Said::Report(it), "r1/report-3") = (said, label) {
            it.prev[7] = it.prev[6];
            it.inputs[1] = it.inputs[0];
        }
    }),
    ("report: for another input", |label, said, _| {
        if let (Said::Report(it), "r1/report-3") = (said, label) {
            it.inputs[2] = output("r1/log-2").commitment;
        }
    }),
    ("report: begun before its inputs were there", |label, said, _| {
        if let (Said::Report(it), "r1/report-3") = (said, label) {
            (it.started, it.finished) = (UnixTime(T0 - 31), UnixTime(T0 + 60));
        }
    }),
    ("aggregate: leaves a report out", |_, said, _| {
        if let Said::Aggregate(it) = said {
            it.reports.pop();
            it.prev.pop();
        }
    }),
    ("aggregate: another order", |_, said, _| {
        if let Said::Aggregate(it) = said {
            it.reports.swap(0, 1);
            it.prev.swap(1, 2);
        }
    }),
    ("aggregate: one twice", |_, said, _| {
        if let Said::Aggregate(it) = said {
            it.reports.push(it.reports[0]);
            it.prev.push(it.prev[1]);
        }
    }),
    ("aggregate: another result", |_, said, _| {
        if let Said::Aggregate(it) = said {
            it.result = Some(output("x"));
        }
    }),
    ("aggregate: another fragment", |_, said, _| {
        if let Said::Aggregate(it) = said {
            it.fragment = FragmentIndex(0);
        }
    }),
    ("aggregate: by another enclave", |_, said, _| {
        if let Said::Aggregate(it) = said {
            it.enclave = key("enclave-south");
        }
    }),
    ("aggregate: over a trainer's report", |_, said, before| {
        if let Said::Aggregate(it) = said {
            it.prev[0] = before["r1/report-0"];
        }
    }),
    ("aggregate: rests on nothing of its own", |_, said, before| {
        if let Said::Aggregate(it) = said {
            it.prev[0] = before["r1/request"];
        }
    }),
];

const SECOND: &[(&str, Lie)] = &[
    ("request: rests on a grant", |label, said, before| {
        if let (Said::Request(it), "r2/request") = (said, label) {
            it.prev.push(before["r1/grant-0-north"]);
        }
    }),
    ("request: rests on something twice", |label, said, _| {
        if let (Said::Request(it), "r2/request") = (said, label) {
            it.prev.push(it.prev[0]);
        }
    }),
    ("report: under an allocation of the first round", |label, said, before| {
        if let (Said::Report(it), "r2/report-0") = (said, label) {
            it.prev[0] = before["r1/allocation-0"];
        }
    }),
    ("report: on an output of the first round", |label, said, before| {
        if let (Said::Report(it), "r2/report-3") = (said, label) {
            for name in it.prev.iter_mut().filter(|name| **name == before["r2/report-0"]) {
                *name = before["r1/report-0"];
            }
            it.inputs[0] = output("r1/output-0").commitment;
        }
    }),
    ("allocation: for the first round's task", |label, said, before| {
        if let (Said::Allocation(it), "r2/allocation-0") = (said, label) {
            it.task = TaskId::new(before["r1/request"]);
        }
    }),
    ("grant: a holder's, expired", |label, said, _| {
        if let (Said::Grant(it), "r2/grant-0-client") = (said, label) {
            it.expires = UnixTime(T0 + 1019);
        }
    }),
    ("aggregate: of the first round in the second", |label, said, before| {
        if let (Said::Aggregate(it), "r2/aggregate") = (said, label) {
            it.prev = vec![before["r1/report-3"], before["r1/report-0"], before["r1/report-1"], before["r1/report-2"]];
            it.reports = it.prev[1..].to_vec();
        }
    }),
];

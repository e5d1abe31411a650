//! Proofs of executions beside receipts, for a reader who can judge none of them: whose they are and of what is checked, and what
//! they are of is attested.

use legation_core::{
    Bytes, Digest, Receipt, UnixTime, dsse,
    prefer::Sensitivity,
    proven::ProofItem,
    statement::{Assurance, ExecutionClaim, ExecutionProof, Outcome, Report},
};

use super::Receipts;
use crate::{
    handed::{Plan, World, build, time},
    party::{Impostor, Party},
    world::{Before, Said, digest, no_bend},
};

/// One question of `a` and a second of `d`, who asks `e`, who asks `f`: all but the last are to be proven.
const PLAN: Plan<'_> = Plan { assured: Some(Assurance::Proven), answered: &["a"], dissent: &[], deep: 3 };
const ANSWERS: [&str; 3] = ["answer-a", "answer-d", "answer-e"];

fn proven(label: &str, said: Said<'_>, _: &Before) {
    match said {
        Said::Request(it) => it.data.sensitivity = Sensitivity::Internal,
        Said::Call(it) if label != "call-f" => it.assurance = Assurance::Proven,
        _ => (),
    }
}

/// A failure, which nobody proves.
fn failing(label: &str, said: Said<'_>, before: &Before) {
    match said {
        Said::Report(it) if label == "answer-a" => {
            it.outcome = Outcome::Failed { reason: "trap".to_owned() };
            it.answer.as_mut().unwrap().output = None;
        }
        said => proven(label, said, before),
    }
}

/// An item for the answer of this label, whose proof is what it makes public; `bend` changes its statement.
pub(super) fn item(world: &World, label: &str, bend: impl FnOnce(&mut ExecutionProof)) -> ProofItem {
    let envelope = world.envelopes.iter().find(|envelope| envelope.digest() == world.labels[label]).unwrap();
    let report = envelope.open::<Report>().unwrap();
    let claim = ExecutionClaim::of(&report, &["--part".to_owned()], time(0)).unwrap();
    let proof = claim.public_value().as_bytes().to_vec();
    let prover = Party::new("prover");
    let mut statement = ExecutionProof {
        prover: prover.key(),
        report: report.digest(),
        claim,
        program: digest("interpreter"),
        proof: Digest::of(&proof),
        size: Bytes(32),
        made: UnixTime(500),
        prev: vec![report.digest()],
    };
    bend(&mut statement);
    ProofItem { statement: dsse::sign(statement, &prover).envelope().clone(), proof }
}

/// Ascending by report, as a receipt wants them.
fn ordered(world: &World, labels: &[&str]) -> Vec<ProofItem> {
    let mut labels = labels.to_vec();
    labels.sort_unstable_by_key(|label| world.labels[*label]);
    labels.into_iter().map(|label| item(world, label, |_| {})).collect()
}

type Change = fn(&mut ExecutionProof);

const STATEMENTS: &[(&str, Change)] = &[
    ("proof: of another module", |it| it.claim.module = digest("x")),
    ("proof: of other arguments", |it| it.claim.args = digest("x")),
    ("proof: with another seed", |it| it.claim.seed = digest("x")),
    ("proof: with another clock", |it| it.claim.clock = time(1)),
    ("proof: of other inputs", |it| it.claim.inputs = vec![digest("x")]),
    ("proof: of an input more", |it| it.claim.inputs.push(digest("x"))),
    ("proof: of another output", |it| it.claim.output = Some(digest("x"))),
    ("proof: of no output", |it| it.claim.output = None),
    ("proof: of another size", |it| it.size = Bytes(33)),
    ("proof: of other bytes", |it| it.proof = digest("x")),
    ("proof: resting on nothing", |it| it.prev.clear()),
    ("proof: resting on more", |it| it.prev.push(digest("x"))),
    ("proof: resting on another report", |it| it.prev = vec![digest("x")]),
    ("proof: of a report that is not here", |it| (it.report, it.prev) = (digest("x"), vec![digest("x")])),
];

#[test]
fn proofs_beside_receipts() {
    let world = build(PLAN, &proven);
    let with = |proofs: Vec<ProofItem>| Receipt { proofs, ..world.receipt() };
    let good = || item(&world, "answer-a", |_| {});
    let mut all = Receipts::default();
    all.good("good: proofs are awaited", &world.receipt());
    all.good("good: one proof is there", &with(vec![good()]));
    let whole = with(ordered(&world, &ANSWERS));
    all.good("good: every proof is there", &whole);
    all.good("good: of another program", &with(vec![item(&world, "answer-a", |it| it.program = digest("x"))]));
    all.good("good: nobody proves a failure", &build(PLAN, &failing).receipt());
    for (name, change) in STATEMENTS {
        all.bad(name, &with(vec![item(&world, "answer-a", change)]));
    }
    let mut altered = good();
    altered.proof[7] ^= 1;
    all.bad("proof: a byte of it altered", &with(vec![altered]));
    all.bad("proof: nothing of it there", &with(vec![ProofItem { proof: Vec::new(), ..good() }]));
    forged(&mut all, &world);
    let mut backwards = whole.proofs.clone();
    backwards.reverse();
    all.bad("proofs: in another order", &with(backwards));
    all.bad("proofs: one twice", &with(vec![good(), good()]));
    let mut two = vec![good(), item(&world, "answer-a", |it| it.made = UnixTime(501))];
    all.bad("proofs: two of one report", &with(two.clone()));
    two.reverse();
    all.bad("proofs: two of one report, the other first", &with(two));
    all.bad("proof: of an answer that was to be attested", &with(vec![item(&world, "answer-f", |_| {})]));
    all.bad("proof: of the fragment", &with(vec![item(&world, "report", |_| {})]));
    let failed = build(PLAN, &failing);
    let of = failed.labels["answer-a"];
    let moved = item(&world, "answer-a", |it| (it.report, it.prev) = (of, vec![of]));
    all.bad("proof: of a failure", &Receipt { proofs: vec![moved], ..failed.receipt() });
    let confidential = build(Plan { deep: 0, ..PLAN }, &no_bend);
    all.bad("call: to be proven, of confidential data", &confidential.receipt());
    spelled(&mut all, &world, &whole);
    all.settle("receipts-proofs.json");
}

/// Statements that are none, or are not its prover's, or stand where they have no place.
fn forged(all: &mut Receipts, world: &World) {
    let good = item(world, "answer-a", |_| {});
    let statement = ExecutionProof::clone(&good.statement.open::<ExecutionProof>().unwrap());
    let liar = Impostor { own: Party::new("attacker"), claimed: statement.prover };
    let forged = dsse::sign(statement, &liar).envelope().clone();
    let receipt = |proofs: Vec<ProofItem>| Receipt { proofs, ..world.receipt() };
    all.bad("proof: by an impostor", &receipt(vec![ProofItem { statement: forged, ..good.clone() }]));
    let report = world.envelopes.iter().find(|envelope| envelope.digest() == world.labels["answer-a"]).unwrap();
    all.bad("proof: a report in place of it", &receipt(vec![ProofItem { statement: report.clone(), ..good.clone() }]));
    let mut among = world.receipt();
    among.roots.push(good.statement.digest());
    among.envelopes.push(good.statement);
    all.bad("proof: among the statements", &among);
}

fn spelled(all: &mut Receipts, world: &World, whole: &Receipt) {
    let none = world.receipt();
    let awaited = ("good: proofs are awaited", &none);
    all.edit("spelling: proofs that are empty", awaited, "]}\n", "],\"proofs\":[]}\n");
    all.edit("spelling: proofs that are null", awaited, "]}\n", "],\"proofs\":null}\n");
    let every = ("good: every proof is there", whole);
    all.edit("spelling: a proof with more", every, "\"proofs\":[{", "\"proofs\":[{\"more\":1,");
    all.edit("spelling: a proof twice", every, "\"proofs\":[{", "\"proofs\":[{\"proof\":\"\",");
}

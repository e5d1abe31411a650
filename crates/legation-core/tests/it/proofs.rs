//! Proofs of execution in receipts: what makes a result proven, what is only attested, and what every bad item is refused by. The
//! judge believes a proof which is the public value itself.

use std::{cell::Cell, sync::Arc};

use legation_core::{
    Bytes, Digest, Millis, Receipt, Rejection, Revoked, UnixTime,
    delegation::session::{Delegator, DelegatorAction, DelegatorEvent, JobId, Now, Question},
    dsse,
    prefer::Sensitivity,
    proven::{ExecutionJudge, PROOF_MAX, PROOFS_MAX, ProofItem, ProofState},
    receipt::{Demands, Invalid, RECEIPT_MAX, Verdict},
    statement::{Assurance, ExecutionClaim, ExecutionProof, Outcome, Report, Request},
};

use crate::{
    handed::{Plan, Script, World, build, call_demand, committed, time},
    party::{Impostor, Party},
    world::{Before, Bend, Said, anchors, digest, judge, no_bend, verify},
};

/// Knows one program, and counts what it is asked.
#[derive(Default)]
struct Believer {
    asked: Cell<usize>,
}

impl ExecutionJudge for Believer {
    fn judge(&self, program: &Digest, public: &Digest, proof: &[u8]) -> Result<(), Rejection> {
        self.asked.set(self.asked.get() + 1);
        if *program != digest("interpreter") {
            return Err(Rejection::new("proof.program", "program").got(program));
        }
        if proof != public.as_bytes() {
            return Err(Rejection::new("proof.wrong", "public value").expected(public));
        }
        Ok(())
    }
}

/// One proven question of `a`, and one of `d`, who asks `e`, who asks `f`: every call is to be proven.
const ALL: Plan<'_> = Plan { assured: Some(Assurance::Proven), answered: &["a"], dissent: &[], deep: 3 };
const ANSWERS: [&str; 4] = ["answer-a", "answer-d", "answer-e", "answer-f"];

/// Data that a proof may show, and calls that are to be proven.
fn proven(_: &str, said: Said<'_>, _: &Before) {
    match said {
        Said::Request(it) => it.data.sensitivity = Sensitivity::Internal,
        Said::Call(it) => it.assurance = Assurance::Proven,
        _ => (),
    }
}

/// The same, but that the calls of the chain are attested.
fn first_proven(label: &str, said: Said<'_>, before: &Before) {
    match said {
        Said::Call(_) if label != "call-a" => (),
        said => proven(label, said, before),
    }
}

/// A good item for the answer of this label, with a statement that `bend` changed before it was signed.
fn item(world: &World, label: &str, bend: impl FnOnce(&mut ExecutionProof)) -> ProofItem {
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

fn good(world: &World, label: &str) -> ProofItem {
    item(world, label, |_| {})
}

/// Ascending by report, as a receipt wants them.
fn ordered(world: &World, labels: &[&str]) -> Vec<ProofItem> {
    let mut labels = labels.to_vec();
    labels.sort_unstable_by_key(|label| world.labels[*label]);
    labels.into_iter().map(|label| good(world, label)).collect()
}

fn read(receipt: &Receipt) -> Result<Verdict, Invalid> {
    receipt.verify_proven(&anchors(), &judge(), &Believer::default(), None)
}

/// How the answer of this label is assured, and how far its proof is.
fn state(verdict: &Verdict, world: &World, label: &str) -> (Assurance, Option<ProofState>) {
    let ran = verdict.executions.iter().find(|ran| ran.report == world.labels[label]).unwrap();
    (ran.assurance, ran.proof)
}

const PROVEN: (Assurance, Option<ProofState>) = (Assurance::Proven, Some(ProofState::Good));
const AWAITED: (Assurance, Option<ProofState>) = (Assurance::Attested, Some(ProofState::Awaited));
const NOT_JUDGED: (Assurance, Option<ProofState>) = (Assurance::Attested, Some(ProofState::NotJudged));
const ATTESTED: (Assurance, Option<ProofState>) = (Assurance::Attested, None);

#[test]
fn a_result_is_attested_until_its_proof_is_there() {
    let world = build(ALL, &proven);
    let first = world.receipt();
    assert!(!first.to_text().contains("\"proofs\""), "what is not there is not written");
    let before = read(&first).unwrap();
    assert_eq!(ANSWERS.map(|label| state(&before, &world, label)), [AWAITED; 4]);
    assert_eq!(state(&before, &world, "report"), ATTESTED);
    assert!(before.warnings.is_empty(), "{:?}", before.warnings);

    let upgraded = first.clone().with_proofs([good(&world, "answer-a")]);
    let after = read(&upgraded).unwrap();
    assert_eq!(ANSWERS.map(|label| state(&after, &world, label)), [PROVEN, AWAITED, AWAITED, AWAITED]);
    // Nothing else of it changes: neither a statement nor a link.
    assert_eq!(Receipt { proofs: Vec::new(), ..upgraded.clone() }, first);
    assert_eq!((after.links, after.results, after.anchors), (before.links, before.results, before.anchors));
    let text = upgraded.to_text();
    let again = Receipt::from_text(text.as_bytes()).unwrap();
    assert_eq!(again, upgraded);
    // An empty list is another spelling.
    let empty = first.to_text().replacen("}\n", ",\"proofs\":[]}\n", 1);
    assert_eq!(Receipt::from_text(empty.as_bytes()).unwrap_err().why.check, "receipt.spelling");
}

#[test]
fn whatever_proofs_are_taken_away_the_receipt_stands_and_those_results_are_attested() {
    let world = build(ALL, &proven);
    for some in 0..1_usize << ANSWERS.len() {
        let kept = |at: usize| some & (1 << at) != 0;
        let labels: Vec<&str> = (0..ANSWERS.len()).filter(|at| kept(*at)).map(|at| ANSWERS[at]).collect();
        let receipt = Receipt { proofs: ordered(&world, &labels), ..world.receipt() };
        let verdict = read(&receipt).unwrap();
        for (at, label) in ANSWERS.into_iter().enumerate() {
            let wanted = if kept(at) { PROVEN } else { AWAITED };
            assert_eq!(state(&verdict, &world, label), wanted, "{label} with {labels:?}");
        }
        // Whoever knows no program sees that proofs are there, and takes none of them for good.
        let blind = verify(&receipt).unwrap();
        for (at, label) in ANSWERS.into_iter().enumerate() {
            let wanted = if kept(at) { NOT_JUDGED } else { AWAITED };
            assert_eq!(state(&blind, &world, label), wanted, "{label} with {labels:?}");
        }
        assert_eq!(blind.warnings.len(), labels.len());
    }
}

#[test]
fn a_reader_who_demands_proofs_gets_them_or_a_refusal() {
    let world = build(ALL, &proven);
    let calls = Demands { assurance_of_calls: Some(Assurance::Proven), ..Demands::default() };
    let unmet = |receipt: &Receipt| calls.unmet(&read(receipt).unwrap(), false);
    let whole = Receipt { proofs: ordered(&world, &ANSWERS), ..world.receipt() };
    assert!(unmet(&whole).is_empty());
    for missing in ANSWERS {
        let labels: Vec<&str> = ANSWERS.into_iter().filter(|label| *label != missing).collect();
        let receipt = Receipt { proofs: ordered(&world, &labels), ..world.receipt() };
        let found = unmet(&receipt);
        let [why] = found.as_slice() else { panic!("{missing}: {found:?}") };
        let place = format!("attested in report {}", world.labels[missing].short());
        assert!(why.check == "demand.assurance_of_calls" && why.got.starts_with(&place), "{missing}: {why}");
    }
    // Not judged is not proven; and fragments as a whole never are.
    assert_eq!(calls.unmet(&verify(&whole).unwrap(), false).len(), 1);
    let every = Demands { assurance: Some(Assurance::Proven), ..Demands::default() };
    let found = every.unmet(&read(&whole).unwrap(), false);
    let [why] = found.as_slice() else { panic!("{found:?}") };
    assert!(why.got.contains(&world.labels["report"].short()) && !why.got.contains(&world.labels["answer-a"].short()));
}

#[test]
fn a_proof_of_an_unknown_program_is_said_and_counts_for_nothing() {
    let world = build(ALL, &proven);
    let other = item(&world, "answer-a", |s| s.program = digest("other"));
    let verdict = read(&Receipt { proofs: vec![other], ..world.receipt() }).unwrap();
    assert_eq!(state(&verdict, &world, "answer-a"), NOT_JUDGED);
    let [warning] = verdict.warnings.as_slice() else { panic!("{:?}", verdict.warnings) };
    assert!(warning.contains(&world.labels["answer-a"].short()) && warning.contains("not judged"), "{warning}");
    // All else about it is checked nevertheless.
    let mut altered = item(&world, "answer-a", |s| s.program = digest("other"));
    altered.proof[0] ^= 1;
    let invalid = read(&Receipt { proofs: vec![altered], ..world.receipt() }).unwrap_err();
    assert_eq!(invalid.why.check, "proof.bytes");
}

/// Each bad item, alone or among good ones, with the check that refuses it.
fn bad_items(world: &World) -> Vec<(&'static str, ProofItem, &'static str)> {
    let mut byte = good(world, "answer-a");
    byte.proof[7] ^= 1;
    let mut huge = good(world, "answer-a");
    huge.proof = vec![0; PROOF_MAX + 1];
    // Of an execution with another output, under a statement that names this one.
    let other = vec![7; 32];
    let mut wrong = item(world, "answer-a", |s| s.proof = Digest::of(&other));
    wrong.proof = other;
    let statement = good(world, "answer-a").statement.open::<ExecutionProof>().unwrap();
    let liar = Impostor { own: Party::new("liar"), claimed: statement.prover };
    let forged = dsse::sign(ExecutionProof::clone(&statement), &liar).envelope().clone();
    let impostor = ProofItem { statement: forged, ..good(world, "answer-a") };
    let of_a = world.labels["answer-a"];
    let claim_of_a = statement.claim.clone();
    let (renamed_d, adapted_d) = (
        item(world, "answer-d", |s| (s.report, s.prev) = (of_a, vec![of_a])),
        item(world, "answer-d", |s| (s.report, s.prev, s.claim) = (of_a, vec![of_a], claim_of_a)),
    );
    let stranger = digest("no such report");
    vec![
        ("an altered byte", byte, "proof.bytes"),
        ("another size", item(world, "answer-a", |s| s.size = Bytes(33)), "proof.bytes"),
        ("more than any proof", huge, "proof.size"),
        ("of something else", wrong, "proof.wrong"),
        ("of another report", renamed_d, "proof.claim"),
        ("of another report, with this one's claim", adapted_d, "proof.wrong"),
        ("of other arguments", item(world, "answer-a", |s| s.claim.args = digest("x")), "proof.claim"),
        ("of another clock", item(world, "answer-a", |s| s.claim.clock = time(1)), "proof.claim"),
        (
            "of nothing here",
            item(world, "answer-a", |s| (s.report, s.prev) = (stranger, vec![stranger])),
            "proof.report",
        ),
        ("resting on nothing", item(world, "answer-a", |s| s.prev.clear()), "proof.statement"),
        ("resting on more", item(world, "answer-a", |s| s.prev.push(digest("x"))), "proof.statement"),
        ("by an impostor", impostor, "proof.statement"),
        (
            "no such statement",
            ProofItem { statement: world.envelopes[0].clone(), proof: Vec::new() },
            "proof.statement",
        ),
    ]
}

#[test]
fn a_bad_proof_makes_a_receipt_invalid_at_that_proof() {
    let world = build(ALL, &proven);
    for (what, item, check) in bad_items(&world) {
        let at = format!("proof {}", item.statement.digest().short());
        let receipt = Receipt { proofs: vec![item], ..world.receipt() };
        let invalid = read(&receipt).unwrap_err();
        assert_eq!((invalid.why.check.as_str(), &invalid.at), (check, &at), "{what}: {invalid}");
        // Whoever knows no program still finds whatever is bad beside the proof itself.
        let blind = verify(&receipt).map_err(|invalid| invalid.why.check);
        let wanted = if check == "proof.wrong" { Ok(()) } else { Err(check.to_owned()) };
        assert_eq!(blind.map(drop), wanted, "{what}");
    }
}

#[test]
fn proofs_stand_in_their_order_one_of_each_and_no_more_than_may_be() {
    let world = build(ALL, &proven);
    let refused = |proofs: Vec<ProofItem>| read(&Receipt { proofs, ..world.receipt() }).unwrap_err();
    let all = ordered(&world, &ANSWERS);
    read(&Receipt { proofs: all.clone(), ..world.receipt() }).unwrap();
    for at in 1..all.len() {
        let mut swapped = all.clone();
        swapped.swap(at - 1, at);
        assert_eq!(refused(swapped).why.check, "receipt.proofs", "{at}");
    }
    let twice = vec![all[0].clone(), all[0].clone()];
    assert_eq!(refused(twice).why.check, "receipt.proofs");
    // Nor two by different provers.
    let one = good(&world, "answer-a");
    let two = item(&world, "answer-a", |s| s.made = UnixTime(501));
    assert_eq!(refused(vec![one.clone(), two.clone()]).why.check, "receipt.proofs");
    assert_eq!(refused(vec![two, one.clone()]).why.check, "receipt.proofs");
    let many = refused(vec![one; PROOFS_MAX + 1]);
    assert_eq!((many.why.check.as_str(), many.at.as_str()), ("receipt.proofs", "the file"));
}

#[test]
fn what_nobody_asked_to_prove_is_refused_before_it_is_judged() {
    let world = build(ALL, &first_proven);
    let judges = Believer::default();
    let refused = |proofs: Vec<ProofItem>, world: &World| {
        let receipt = Receipt { proofs, ..world.receipt() };
        receipt.verify_proven(&anchors(), &judge(), &judges, None).unwrap_err().why.check
    };
    assert_eq!(refused(vec![good(&world, "answer-d")], &world), "proof.superfluous", "an attested call");
    assert_eq!(refused(vec![good(&world, "report")], &world), "proof.superfluous", "a whole fragment");
    // Failures are attested: nothing of them is owed.
    let failing = |label: &str, said: Said<'_>, before: &Before| match said {
        Said::Report(it) if label == "answer-a" => {
            it.outcome = Outcome::Failed { reason: "trap".to_owned() };
            it.answer.as_mut().unwrap().output = None;
        }
        said => proven(label, said, before),
    };
    let failed = build(ALL, &failing);
    assert_eq!(state(&verify(&failed.receipt()).unwrap(), &failed, "answer-a"), ATTESTED);
    let moved = item(&world, "answer-a", |s| {
        (s.report, s.prev) = (failed.labels["answer-a"], vec![failed.labels["answer-a"]]);
    });
    assert_eq!(refused(vec![moved], &failed), "proof.superfluous", "a failure");
    assert_eq!(judges.asked.get(), 0);
}

#[test]
fn a_question_to_be_proven_has_one_answer_and_data_that_may_be_seen() {
    let two = build(Plan { answered: &["a", "b"], deep: 0, ..ALL }, &proven);
    let invalid = verify(&two.receipt()).unwrap_err();
    assert_eq!((invalid.why.check.as_str(), invalid.at), ("receipt.question", two.at("report")));
    let confidential = build(Plan { deep: 0, ..ALL }, &no_bend);
    let invalid = verify(&confidential.receipt()).unwrap_err();
    assert_eq!((invalid.why.check.as_str(), invalid.at), ("proof.sensitivity", confidential.at("call-a")));
    // What grants pass on may ask for proofs of such data, and of no other.
    let asking = |label: &str, said: Said<'_>, before: &Before| match said {
        Said::Grant(it) if label.starts_with("child-") => {
            if let Some(below) = &mut it.delegable {
                below.assurance = Assurance::Proven;
            }
        }
        said => proven(label, said, before),
    };
    verify(&build(ALL, &asking).receipt()).unwrap();
    let hidden = |label: &str, said: Said<'_>, before: &Before| match said {
        Said::Request(_) => (),
        said => asking(label, said, before),
    };
    let world = build(Plan { assured: None, ..ALL }, &hidden);
    let invalid = verify(&world.receipt()).unwrap_err();
    assert_eq!((invalid.why.check.as_str(), invalid.at), ("proof.sensitivity", world.at("child-d")));

    let request = |world: &World| {
        let envelope = world.envelopes.iter().find(|envelope| envelope.digest() == world.labels["request"]).unwrap();
        Request::clone(&envelope.open::<Request>().unwrap())
    };
    for (world, allowed) in [(&two, true), (&confidential, false)] {
        let mut request = request(world);
        request.fragments[0].delegates.as_mut().unwrap().assurance = Assurance::Proven;
        let checked = request.validate().map_err(|why| why.check);
        assert_eq!(checked, if allowed { Ok(()) } else { Err("proof.sensitivity".to_owned()) });
    }
}

#[test]
fn proofs_are_put_beside_the_receipt_that_they_are_of() {
    let world = build(ALL, &proven);
    let other = build(Plan { deep: 0, ..ALL }, &proven);
    let mut mixed: Vec<ProofItem> = ANSWERS.map(|label| good(&world, label)).into();
    mixed.reverse();
    mixed.push(good(&other, "report"));
    mixed.push(item(&world, "answer-a", |s| s.made = UnixTime(501)));
    let receipt = world.receipt().with_proofs(mixed);
    assert_eq!(receipt.proofs, ordered(&world, &ANSWERS));
    let shut = item(&world, "answer-a", |s| s.prev.clear());
    let opened = world.receipt().with_proofs([shut, good(&world, "answer-a")]);
    assert_eq!(opened.proofs, ordered(&world, &["answer-a"]), "what is none costs nobody else a place");
    // Together they may be more than a receipt can hold, though each is none too large: what fits is taken.
    let count = RECEIPT_MAX / (PROOF_MAX / 3 * 4) + 1;
    let large = world.envelopes.iter().take(count).map(|envelope| {
        let of = envelope.digest();
        ProofItem { proof: vec![0; PROOF_MAX], ..item(&world, "answer-a", |s| (s.report, s.prev) = (of, vec![of])) }
    });
    let large = world.receipt().with_proofs(large);
    assert_eq!(large.proofs.len(), 5);
    assert!(large.to_text().len() <= RECEIPT_MAX);
    // There is no room for another.
    assert!(large.to_text().len() + PROOF_MAX / 3 * 4 > RECEIPT_MAX);
}

#[test]
fn whoever_asks_is_told_at_once_when_its_data_must_be_hidden() {
    let cases: [(Bend<'_>, Option<&str>); 2] = [(&proven, None), (&no_bend, Some("proof.sensitivity"))];
    for (bend, wanted) in cases {
        let mut script = Script::new(bend);
        let request = script.request();
        let lead = script.lead(&request);
        let signer = Arc::new(Party::new(lead.name));
        let mut delegator = Delegator::new(signer, request, lead.allocation, lead.grants, [], 0);
        let question = Question {
            question: digest("question"),
            module: digest("part.wasm"),
            args: Vec::new(),
            input: committed("input"),
            demand: call_demand(),
            assurance: Assurance::Proven,
            require: None,
            within: Millis(60_000),
        };
        let asked = DelegatorEvent::Ask { job: JobId(1), question: Box::new(question) };
        let now = Now { date: time(20), ms: Millis(0) };
        let actions = delegator.handle(asked, now, &Revoked::default());
        let refused = actions.iter().find_map(|action| match action {
            DelegatorAction::GaveUp { why, .. } => Some(why.check.as_str()),
            _ => None,
        });
        assert_eq!(refused, wanted);
        assert_eq!(!delegator.wants().is_empty(), wanted.is_none(), "it waits for an enclave to be lent, or not");
    }
}

//! Proofs of execution beside a receipt, with a judge that believes a proof which is the public value itself.

use legation_core::{
    Bytes, Digest, FragmentIndex, Fuel, LeaseId, Predicate, Rejection, Signed, TaskId, UnixTime, dsse,
    prefer::{DataTerms, Sensitivity},
    proven::{
        ExecutionJudge, Ledger, NoJudge, PROOF_MAX, ProofItem, ProofState, Proving, check_item, is_unknown,
        may_be_assured, may_be_proven,
    },
    statement::{Answer, Assurance, Committed, ExecutionClaim, ExecutionProof, Outcome, Report, Usage, args_digest},
};

use crate::{
    party::{Impostor, Party},
    world::digest,
};

const CLOCK: UnixTime = UnixTime(1_795_262_400);

/// Knows one program, whose proofs are what they make public.
struct Believer;

impl ExecutionJudge for Believer {
    fn judge(&self, program: &Digest, public: &Digest, proof: &[u8]) -> Result<(), Rejection> {
        if *program != digest("interpreter") {
            return Err(Rejection::new("proof.program", "program").got(program));
        }
        if proof != public.as_bytes() {
            return Err(Rejection::new("proof.wrong", "public value").expected(public));
        }
        Ok(())
    }
}

fn args() -> Vec<String> {
    vec!["--level".to_owned(), "3".to_owned()]
}

fn report(bend: impl FnOnce(&mut Report)) -> Signed<Report> {
    let party = Party::new("enclave");
    let mut report = Report {
        enclave: party.key(),
        task: TaskId::new(digest("task")),
        fragment: FragmentIndex(0),
        lease: LeaseId(2),
        module: digest("module"),
        inputs: vec![digest("input")],
        seed: digest("seed"),
        outcome: Outcome::Completed,
        output: None,
        log: None,
        usage: Usage { fuel: Fuel(7), memory_peak: Bytes::mib(1), host_calls: 1, micros: 7 },
        started: UnixTime(90),
        finished: UnixTime(100),
        answer: Some(Answer {
            call: digest("call"),
            output: Some(Committed { size: Bytes(3), commitment: digest("output") }),
            trace: digest("trace"),
        }),
        dissent: Vec::new(),
        monitor: None,
        prev: Vec::new(),
    };
    bend(&mut report);
    dsse::sign(report, &party)
}

/// A good item for `report`, with a statement that `bend` changed before it was signed.
fn item(report: &Signed<Report>, bend: impl FnOnce(&mut ExecutionProof)) -> ProofItem {
    let claim = ExecutionClaim::of(report, &args(), CLOCK).unwrap();
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

fn check(item: &ProofItem, report: &Signed<Report>) -> String {
    let args = args();
    let proving = Proving { report, args: &args, clock: CLOCK };
    check_item(item, &proving, &Believer).err().map_or("fine".to_owned(), |why| why.check)
}

#[test]
fn the_public_value_is_the_one_that_others_compute() {
    // By the documented layout, with Python's hashlib.
    let no_args = "df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b81119";
    assert_eq!(args_digest(&[]).to_string(), no_args);
    let level = "193596cf061d912dedc1476ae863d67aaa7d2e9f29c58ecd35ad457c1d8719e2";
    assert_eq!(args_digest(&args()).to_string(), level);
    let claim = ExecutionClaim::of(&report(|_| {}), &args(), CLOCK).unwrap();
    let public = "6033472b7d3a13e98d03e704a048996287d0da9f77d59ae86ba7c11f5e926a6d";
    assert_eq!(claim.public_value().to_string(), public);
    let silent = ExecutionClaim {
        module: digest("module"),
        args: args_digest(&[]),
        seed: digest("seed"),
        clock: UnixTime(0),
        inputs: Vec::new(),
        output: None,
    };
    let public = "398ea95ad05ef90a0e0de4130eb8600eff1b38918093e25924af31ad53894ca2";
    assert_eq!(silent.public_value().to_string(), public);
}

#[test]
fn arguments_do_not_run_into_each_other() {
    let words = |list: &[&str]| args_digest(&list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let all = [words(&[]), words(&[""]), words(&["", ""]), words(&["ab", "c"]), words(&["a", "bc"]), words(&["abc"])];
    for (at, one) in all.iter().enumerate() {
        assert!(!all[..at].contains(one), "{at}");
    }
}

#[test]
fn a_proof_holds_for_its_report_alone() {
    let own = report(|_| {});
    assert_eq!(check(&item(&own, |_| {}), &own), "fine");
    let others = [
        ("module", report(|r| r.module = digest("other module"))),
        ("input", report(|r| r.inputs = vec![digest("other input")])),
        ("more input", report(|r| r.inputs.push(digest("input")))),
        ("output", report(|r| r.answer.as_mut().unwrap().output.as_mut().unwrap().commitment = digest("other output"))),
        ("seed", report(|r| r.seed = digest("other seed"))),
        ("call", report(|r| r.answer.as_mut().unwrap().call = digest("other call"))),
    ];
    for (what, other) in &others {
        assert_eq!(check(&item(&own, |_| {}), other), "proof.report", "{what}");
        // The same proof under a statement that names the other report.
        let renamed = item(&own, |s| {
            s.report = other.digest();
            s.prev = vec![other.digest()];
        });
        let expect = if *what == "call" { "fine" } else { "proof.claim" };
        assert_eq!(check(&renamed, other), expect, "{what}");
        // And with the other report's claim.
        let claim = ExecutionClaim::of(other, &args(), CLOCK).unwrap();
        let adapted = item(&own, |s| {
            (s.report, s.prev, s.claim) = (other.digest(), vec![other.digest()], claim);
        });
        let expect = if *what == "call" { "fine" } else { "proof.wrong" };
        assert_eq!(check(&adapted, other), expect, "{what}");
    }
}

#[test]
fn other_arguments_and_another_clock_are_other_executions() {
    let own = report(|_| {});
    let good = item(&own, |_| {});
    let check = |args: &[String], clock| {
        let proving = Proving { report: &own, args, clock };
        check_item(&good, &proving, &Believer).map_err(|why| why.check)
    };
    assert_eq!(check(&args(), CLOCK).map(|signed| signed.report), Ok(own.digest()));
    assert_eq!(check(&[], CLOCK).map(drop), Err("proof.claim".to_owned()));
    assert_eq!(check(&args(), CLOCK.plus(1)).map(drop), Err("proof.claim".to_owned()));
}

#[test]
fn what_was_altered_is_refused() {
    let own = report(|_| {});
    let mut byte = item(&own, |_| {});
    byte.proof[7] ^= 1;
    let mut short = item(&own, |_| {});
    short.proof.pop();
    let mut huge = item(&own, |_| {});
    huge.proof = vec![0; PROOF_MAX + 1];
    let impostor = {
        let prover = Party::new("prover").key();
        let statement = item(&own, |_| {}).statement.open::<ExecutionProof>().unwrap();
        let liar = Impostor { own: Party::new("liar"), claimed: prover };
        let statement = dsse::sign(ExecutionProof::clone(&statement), &liar).envelope().clone();
        ProofItem { statement, ..item(&own, |_| {}) }
    };
    let stranger = ProofItem { statement: own.envelope().clone(), ..item(&own, |_| {}) };
    let cases = [
        ("a byte of the proof", byte, "proof.bytes"),
        ("a shorter proof", short, "proof.bytes"),
        ("a huge proof", huge, "proof.size"),
        ("another size", item(&own, |s| s.size = Bytes(33)), "proof.bytes"),
        ("another program", item(&own, |s| s.program = digest("other")), "proof.program"),
        ("resting on nothing", item(&own, |s| s.prev.clear()), "proof.statement"),
        ("resting on more", item(&own, |s| s.prev.push(digest("more"))), "proof.statement"),
        ("an impostor", impostor, "proof.statement"),
        ("no such statement", stranger, "proof.statement"),
    ];
    for (what, item, expect) in &cases {
        assert_eq!(check(item, &own), *expect, "{what}");
    }
}

#[test]
fn failures_are_not_proven() {
    let failed = report(|r| {
        r.outcome = Outcome::Failed { reason: "trap".to_owned() };
        r.answer.as_mut().unwrap().output = None;
    });
    assert_eq!(ExecutionClaim::of(&failed, &args(), CLOCK).unwrap_err().check, "proof.outcome");
    let own = report(|_| {});
    let moved = item(&own, |s| (s.report, s.prev) = (failed.digest(), vec![failed.digest()]));
    assert_eq!(check(&moved, &failed), "proof.outcome");
}

#[test]
fn who_cannot_judge_counts_nothing() {
    let own = report(|_| {});
    let args = args();
    let proving = Proving { report: &own, args: &args, clock: CLOCK };
    let why = check_item(&item(&own, |_| {}), &proving, &NoJudge).unwrap_err();
    assert_eq!(why.check, "proof.program");
    assert!(is_unknown(&why) && why.fix.contains("--prover"), "{why}");
}

#[test]
fn the_ledger_knows_what_is_awaited() {
    let mut ledger = Ledger::default();
    ledger.demand().unwrap();
    ledger.owe(digest("a"));
    ledger.owe(digest("b"));
    assert_eq!(ledger.demand().unwrap_err().check, "proof.awaited");
    ledger.prove(digest("a")).unwrap();
    assert_eq!(ledger.prove(digest("a")).unwrap_err().check, "proof.superfluous");
    assert_eq!(ledger.prove(digest("never asked")).unwrap_err().check, "proof.superfluous");
    assert_eq!(ledger.awaited().collect::<Vec<_>>(), [&digest("b")]);
    // One that could not be judged is neither awaited nor proven, and a demand for proofs is not met by it.
    ledger.pass_over(digest("b")).unwrap();
    assert_eq!(ledger.prove(digest("b")).unwrap_err().check, "proof.superfluous");
    let why = ledger.demand().unwrap_err();
    assert!(why.check == "proof.awaited" && why.got.contains("not judged"), "{why}");
    assert_eq!((ledger.awaited().count(), ledger.proven().collect::<Vec<_>>()), (0, vec![&digest("a")]));
    let states = ["a", "b", "c"].map(|name| ledger.state(&digest(name)));
    assert_eq!(states, [Some(ProofState::Good), Some(ProofState::NotJudged), None]);
    let words = [ProofState::Good, ProofState::Awaited, ProofState::NotJudged].map(|state| state.to_string());
    assert_eq!(words, ["good", "awaited", "not judged"]);
    let mut all = Ledger::default();
    all.owe(digest("a"));
    all.prove(digest("a")).unwrap();
    // To ask again takes nothing back.
    all.owe(digest("a"));
    all.demand().unwrap();
}

#[test]
fn data_that_must_be_hidden_is_not_proven() {
    let check =
        |sensitivity| may_be_proven(&DataTerms { sensitivity, ..DataTerms::default() }).map_err(|why| why.check);
    for sensitivity in [Sensitivity::Public, Sensitivity::Internal] {
        assert_eq!(check(sensitivity), Ok(()));
    }
    for sensitivity in [Sensitivity::Confidential, Sensitivity::Restricted] {
        assert_eq!(check(sensitivity), Err("proof.sensitivity".to_owned()));
        let terms = DataTerms { sensitivity, ..DataTerms::default() };
        assert_eq!(may_be_assured(Assurance::Proven, &terms).unwrap_err().check, "proof.sensitivity");
        may_be_assured(Assurance::Attested, &terms).unwrap();
    }
}

#[test]
fn the_statement_is_about_report_and_proof() {
    let own = report(|_| {});
    let signed = item(&own, |_| {}).statement.open::<ExecutionProof>().unwrap();
    let names: Vec<_> = signed.subjects().into_iter().map(|subject| subject.name).collect();
    assert_eq!(names, ["report", "proof"]);
    assert_eq!(Predicate::prev(&*signed), [own.digest()]);
}

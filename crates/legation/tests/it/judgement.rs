//! What is said of a receipt, to programs and to people, word for word: the JSON of a judgement and the tree, of made-up verdicts.
//! Both are interfaces; docs/receipt.md describes them.

use std::fs;

use legation::{
    exit::Exit,
    verify::{Answer, Judgement, draw_tree, proof_line, read_demands},
};
use legation_core::{
    Bytes, Digest, EnclaveId, FragmentIndex, Fuel, LeaseId, ObjectId, ProviderId, Region, Rejection, RevocationEpoch,
    TaskId, UnixTime,
    claims::{Anchor, TeeKind},
    monitor,
    proven::ProofState,
    receipt::{Called, Execution, Invalid, Link, Standing, Verdict},
    statement::{Assurance, Committed, Diversity, Outcome},
    task::OutputRef,
};
use legation_log::receipt::InLog;

use crate::world::repository;

const THREE: Assurance = Assurance::Replicated { k: 3, diverse: Diversity::Provider };

/// A digest that is easy to find again.
fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

/// An execution of fragment #0 whose report is `0x20 + number`, in enclave `0xe0 + number`.
fn ran(number: u8) -> Execution {
    Execution {
        report: digest(0x20 + number),
        task: TaskId::new(digest(1)),
        fragment: FragmentIndex(0),
        name: "lead".to_owned(),
        depth: 0,
        call: None,
        reads: Vec::new(),
        enclave: EnclaveId::new(digest(0xe0 + number)),
        provider: ProviderId::new("aurora").unwrap(),
        region: Region::new("eu-north").unwrap(),
        region_attested: None,
        tee: TeeKind::DevSnp,
        anchor: Anchor::Development("local".to_owned()),
        module: digest(0x40),
        outcome: Outcome::Completed,
        output: Some(Committed { size: Bytes(4096), commitment: digest(0x50) }),
        fuel: Fuel(500_000_000),
        lease: LeaseId(7),
        grants: vec![digest(0x60)],
        assurance: Assurance::Attested,
        proof: None,
        monitor: None,
        finished: UnixTime(1_800_000_025),
        proof_age: 25,
    }
}

/// The same, as the answer to a call `0x30 + number` of the execution `by`.
fn answered(
    number: u8,
    by: &Execution,
    (count, question): (u64, u8),
    assurance: Assurance,
    dissents: bool,
) -> Execution {
    let call =
        Called { call: digest(0x30 + number), number: count, question: digest(question), used_by: by.report, dissents };
    Execution { depth: by.depth + 1, call: Some(call), assurance, ..ran(number) }
}

fn verdict() -> Verdict {
    let region_attested = Some(Region::new("eu-north").unwrap());
    let lead = Execution { monitor: Some(monitor::Verdict::Normal), region_attested, ..ran(1) };
    let proof = Some(ProofState::Awaited);
    let deep = Execution { proof, ..answered(4, &lead, (2, 0x71), Assurance::Attested, false) };
    let proof = Some(ProofState::Good);
    let deeper = Execution { proof, ..answered(5, &deep, (1, 0x72), Assurance::Proven, false) };
    let reduce = Execution {
        fragment: FragmentIndex(1),
        name: "reduce".to_owned(),
        reads: vec![FragmentIndex(0)],
        outcome: Outcome::Failed { reason: "exit-2".to_owned() },
        output: None,
        ..ran(6)
    };
    let result = OutputRef {
        object: ObjectId::from_bytes([0x0b; 16]),
        ciphertext: digest(0x0c),
        size: Bytes(4096),
        commitment: digest(0x0d),
    };
    let request = Link {
        digest: digest(1),
        kind: "request".to_owned(),
        says: "`weights` of tenant acme: 2 fragments".to_owned(),
        prev: Vec::new(),
    };
    Verdict {
        standing: Standing::ValidButDevelopment,
        task: TaskId::new(digest(1)),
        name: "weights".to_owned(),
        completed: true,
        revocations: RevocationEpoch(2),
        anchors: vec!["development(local)".to_owned()],
        results: vec![None, Some(result)],
        warnings: vec!["be careful".to_owned()],
        executions: vec![
            lead.clone(),
            answered(2, &lead, (1, 0x70), THREE, false),
            answered(3, &lead, (1, 0x70), THREE, true),
            deep.clone(),
            deeper,
            reduce,
        ],
        links: vec![request],
    }
}

fn proven() -> InLog {
    InLog::Proven {
        origin: "log.example.org/pool".to_owned(),
        size: 41,
        entries: 9,
        witnesses: vec![("witness.example.net".to_owned(), UnixTime(1_800_000_100))],
    }
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_judgement_is_one_json_object() {
    let tee = Rejection::new("demand.tee", "kind of machine")
        .expected("one of sev-snp")
        .got("dev-snp in report 212121212121 (fragment #0)");
    let refused = Judgement { answer: Answer::Valid(verdict()), log: Some(proven()), unmet: vec![tee] };
    assert_eq!(serde_json::to_value(&refused).unwrap(), json(include_str!("judgement/unmet.json")));

    // Without the demand, nothing else of it changes.
    let valid = Judgement { unmet: Vec::new(), ..refused.clone() };
    let mut wanted = json(include_str!("judgement/unmet.json"));
    wanted["verdict"] = serde_json::json!("valid");
    wanted["exit"] = serde_json::json!(0);
    wanted["unmet"] = serde_json::json!([]);
    assert_eq!(serde_json::to_value(&valid).unwrap(), wanted);

    for (found, state) in [(InLog::NotAsked, "not-asked"), (InLog::Absent, "absent")] {
        let judgement = Judgement { log: Some(found), ..valid.clone() };
        assert_eq!(serde_json::to_value(&judgement).unwrap()["log"], serde_json::json!({ "state": state }));
    }

    let why = Rejection::new("receipt.signature", "signature of the statement")
        .expected("one by the key its office demands")
        .got("another")
        .fix("do not rely on this receipt");
    let invalid = Judgement::from(Invalid { at: "report 212121212121".to_owned(), why });
    assert_eq!(serde_json::to_value(&invalid).unwrap(), json(include_str!("judgement/invalid.json")));

    // The names of the fields stay in their order, for whoever reads it with their eyes.
    let text = serde_json::to_string(&refused).unwrap();
    assert!(
        text.starts_with("{\"schema\":\"legation-judgement/v1\",\"verdict\":\"unmet\",\"exit\":9,\"standing\":"),
        "{text}"
    );
    assert_eq!([valid.exit(), refused.exit(), invalid.exit()], [Exit::Success, Exit::Unmet, Exit::Receipt]);
}

#[test]
fn the_last_line_is_the_verdict() {
    let valid = Judgement { answer: Answer::Valid(verdict()), log: None, unmet: Vec::new() };
    let why = |check| Rejection::new(check, "what was demanded");
    let one = Judgement { unmet: vec![why("demand.tee")], ..valid.clone() };
    let two = Judgement { unmet: vec![why("demand.tee"), why("demand.log")], ..valid.clone() };
    let refused = "receipt REFUSED by its reader's policy, ";
    let standing = "(it is valid but development): task 010101010101";
    assert_eq!(one.last_line(), format!("{refused}1 demand is not met {standing}"));
    assert_eq!(two.last_line(), format!("{refused}2 demands are not met {standing}"));
    assert!(valid.last_line().starts_with("receipt valid (development"), "{}", valid.last_line());
}

#[test]
fn the_tree_shows_who_ran_what_for_whom() {
    assert_eq!(format!("{}\n", draw_tree(&verdict())), include_str!("judgement/tree.txt"));
    // A stranger's words stay within their line.
    let mut evil = verdict();
    evil.executions[5].name = "a\nreceipt valid\u{1b}[2J".to_owned();
    evil.executions[5].outcome = Outcome::Failed { reason: "b\nreceipt valid".to_owned() };
    assert_eq!(draw_tree(&evil).lines().count(), include_str!("judgement/tree.txt").lines().count());
    assert!(!draw_tree(&evil).contains('\u{1b}'));
    let nothing = Verdict { executions: Vec::new(), ..verdict() };
    assert_eq!((draw_tree(&nothing), proof_line(&nothing)), (String::new(), None));
    // And in one line how far the proofs are.
    let mut judged = verdict();
    assert_eq!(proof_line(&judged).as_deref(), Some("proofs of execution: 1 good, 1 awaited"));
    judged.executions[4].proof = Some(ProofState::NotJudged);
    assert_eq!(proof_line(&judged).as_deref(), Some("proofs of execution: 1 awaited, 1 not judged"));
}

/// The page, and what stands in its first fence of this language.
fn documented(language: &str) -> (String, String) {
    let page = fs::read_to_string(repository("docs/receipt.md")).unwrap();
    let fenced = page.split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let fenced = fenced.to_owned();
    (page, fenced)
}

#[test]
fn the_page_shows_the_code_that_is_compiled_and_a_policy_that_is_read() {
    let example = include_str!("../../examples/check_receipt.rs");
    let (_, code) = documented("rust");
    assert!(
        example.ends_with(code.as_str()) && code.contains("fn main"),
        "docs/receipt.md shows another example:\n{code}"
    );

    let here = tempfile::tempdir().unwrap();
    let (page, policy) = documented("toml");
    fs::write(here.path().join("policy.toml"), &policy).unwrap();
    let demands = read_demands(&here.path().join("policy.toml")).unwrap();
    assert!(demands.completed && demands.log && demands.assurance_of_calls == Some(THREE), "{policy}");

    // Every field of a judgement is in its tables, whatever is in it.
    let fields = json(include_str!("judgement/unmet.json"));
    let of = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let ran = |at: usize| &fields["executions"][at];
    let all = [of(&fields), of(ran(0)), of(&ran(1)["call"]), of(ran(3)), of(&fields["links"][0])];
    let missing: Vec<String> = all.concat().into_iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert_eq!(missing, Vec::<String>::new());
}

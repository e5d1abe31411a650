//! Receipts that hold, and what they say.

use std::time::Instant;

use expect_test::expect;
use legation_core::{
    Digest, PublicKey, Receipt, RevocationEpoch, Signature, Signer, TaskId,
    claims::{Anchor, Attested, TeeKind},
    dsse::{self, Predicate, Subject},
    receipt::{ENVELOPES_MAX, Standing},
    statement::{GrantSubject, Outcome},
};

use crate::world::{Before, EPOCH, Plan, Said, build, no_bend, verify};

#[test]
fn two_rounds_of_federated_learning_are_valid_but_development() {
    let world = build(Plan::default(), &no_bend);
    let receipt = world.receipt();
    let verdict = verify(&receipt).unwrap();
    assert_eq!(verdict.standing, Standing::ValidButDevelopment);
    assert_eq!((verdict.task, verdict.revocations, verdict.completed), (world.task, EPOCH, true));
    assert_eq!(
        (verdict.name.as_str(), verdict.anchors.as_slice()),
        ("round r2", &["development(bench)".to_owned()][..])
    );
    assert_eq!(verdict.results.len(), 1);
    assert_eq!(verdict.results[0].as_ref().unwrap().object, crate::world::object("r2/output-3"));
    assert_eq!(receipt.envelopes.len(), world.envelopes.len(), "everything said is part of the chain");
    assert_eq!(receipt.evidence.len(), 8);

    let mut said: Vec<_> = verdict.links.iter().map(|l| format!("{}: {}", l.kind, l.says)).collect();
    for (i, link) in verdict.links.iter().enumerate() {
        assert!(
            link.prev.iter().all(|p| verdict.links[..i].iter().any(|l| l.digest == *p)),
            "{} rests on later",
            said[i]
        );
    }
    said.truncate(16);
    expect![[r#"
        request: `round r1` of tenant clinic: 4 fragments
        appointment: Manager 66c0a94af912 by operator c338c91a01b0
        allocation: fragment #3 to enclave 8be7af45cbff (hub-hosting, eu-hub), lease-5
        appointment: Verifier e0e835717c93 by operator c338c91a01b0
        passport: enclave 8be7af45cbff is dev-snp (development(bench)), hub-hosting in eu-hub, tee confidence 1, until 2027-01-15T08:10:05Z
        grant: #3 may be run by enclave 8be7af45cbff, 1 keys released
        grant: #3 may be run by enclave 8be7af45cbff, 1 keys released
        grant: #3 may be run by enclave 8be7af45cbff, 0 keys released
        grant: #3 may be run by enclave 8be7af45cbff, 1 keys released
        allocation: fragment #0 to enclave f3722c950f07 (north-hosting, eu-north), lease-1
        passport: enclave f3722c950f07 is dev-snp (development(bench)), north-hosting in eu-north, tee confidence 1, until 2027-01-15T08:10:05Z
        grant: #0 may be run by enclave f3722c950f07, 1 keys released
        report: fragment #0 by enclave f3722c950f07: completed, 500 Mfuel
        allocation: fragment #1 to enclave 73cff1336438 (south-hosting, eu-south), lease-2
        allocation: fragment #1 to enclave acdd7084c390 (south-hosting, eu-south), lease-3
        passport: enclave acdd7084c390 is dev-snp (development(bench)), south-hosting in eu-south, tee confidence 1, until 2027-01-15T08:10:05Z"#]].assert_eq(&said.join("\n"));
}

#[test]
fn the_text_comes_back_as_it_was() {
    let receipt = build(Plan::default(), &no_bend).receipt();
    let text = receipt.to_text();
    let again = Receipt::from_text(text.as_bytes()).unwrap();
    assert_eq!(again, receipt);
    assert_eq!(again.to_text(), text);
    assert_eq!(verify(&again), verify(&receipt));
    assert!(text.ends_with("}\n") && text.starts_with("{\"version\":\"legation-receipt/v1\",\"task\":\""));
}

#[test]
fn a_task_that_failed_is_proven_by_the_reports_that_failed() {
    for (plan, fragments) in [
        (Plan { rounds: 1, failed: &[1], ..Plan::default() }, 1),
        (Plan { rounds: 1, failed: &[0, 2], ..Plan::default() }, 2),
        (Plan { rounds: 1, failed: &[3], ..Plan::default() }, 1),
        (Plan { failed: &[0], ..Plan::single() }, 1),
    ] {
        let receipt = build(plan, &no_bend).receipt();
        let verdict = verify(&receipt).unwrap();
        assert!(!verdict.completed && verdict.results == vec![None; fragments], "{:?}", plan.failed);
        assert!(verdict.links.iter().any(|l| l.says.contains("failed (exit-2)")));
    }
}

#[test]
fn independent_fragments_are_as_many_results() {
    let receipt = build(Plan { rounds: 1, reduce: false, ..Plan::default() }, &no_bend).receipt();
    let verdict = verify(&receipt).unwrap();
    assert_eq!((verdict.results.len(), receipt.roots.len(), verdict.completed), (3, 3, true));
}

#[test]
fn only_production_roots_make_a_receipt_valid_without_but() {
    let production = |tee: TeeKind| {
        move |_: &str, said: Said<'_>, _: &Before| {
            if let Said::Enclave(judged) = said {
                judged.claims.anchor = Anchor::Production("amd-milan".to_owned());
                judged.claims.tee = Attested::hardware(tee);
            }
        }
    };
    let receipt = build(Plan::default(), &production(TeeKind::SevSnp)).receipt();
    let verdict = verify(&receipt).unwrap();
    assert_eq!((verdict.standing, verdict.anchors), (Standing::Valid, vec!["production(amd-milan)".to_owned()]));
    // One development enclave among them is enough.
    let mixed = |label: &str, said: Said<'_>, before: &Before| {
        if !label.ends_with("r1/enclave-west") {
            production(TeeKind::SevSnp)(label, said, before);
        }
    };
    assert_eq!(verify(&build(Plan::default(), &mixed).receipt()).unwrap().standing, Standing::ValidButDevelopment);
    // Evidence of a development machine that claims a vendor's root.
    let invalid = verify(&build(Plan::default(), &production(TeeKind::DevSnp)).receipt()).unwrap_err();
    assert_eq!(invalid.why.check, "receipt.anchor");
}

#[test]
fn a_policy_grant_is_enough_where_nothing_is_read() {
    let bend = |_: &str, said: Said<'_>, _: &Before| match said {
        Said::Request(request) => request.fragments[0].inputs.clear(),
        Said::Grant(grant) => {
            let require =
                legation_core::Requirement::parse("tee in [dev-snp, sev-snp] and price <= 0.03 usd/h").unwrap();
            grant.subject = GrantSubject::Policy(require.digest());
            grant.releases.clear();
        }
        Said::Report(report) => report.inputs.clear(),
        _ => (),
    };
    verify(&build(Plan::single(), &bend).receipt()).unwrap();
}

#[test]
fn what_people_wrote_is_shown_escaped() {
    let bend = |_: &str, said: Said<'_>, _: &Before| match said {
        Said::Request(request) => request.name = "two\nlines \u{1b}[31mred".to_owned(),
        Said::Report(report) => report.outcome = Outcome::Failed { reason: "\u{7}\u{9b}".to_owned() },
        _ => (),
    };
    let verdict = verify(&build(Plan { failed: &[0], ..Plan::single() }, &bend).receipt()).unwrap();
    assert!(verdict.links.iter().all(|l| !l.says.contains(char::is_control)), "{:?}", verdict.links);
}

#[test]
fn assembling_takes_what_the_roots_rest_on_and_nothing_else() {
    let small = build(Plan { rounds: 1, ..Plan::default() }, &no_bend);
    let mut mixed = build(Plan::default(), &no_bend);
    mixed.envelopes.reverse();
    mixed.evidence.extend(small.evidence.clone());
    mixed.envelopes.extend(small.envelopes.clone());
    let first = Receipt::assemble(small.task, EPOCH, small.roots.clone(), mixed.envelopes, mixed.evidence.clone(), []);
    assert_eq!(first.unwrap(), small.receipt());

    let check = |result: Result<Receipt, legation_core::Rejection>| result.map(|_| ()).map_err(|why| why.check);
    let with = |known, envelopes, evidence| {
        check(Receipt::assemble(small.task, known, small.roots.clone(), envelopes, evidence, []))
    };
    let (envelopes, evidence) = (small.envelopes.clone(), small.evidence.clone());
    assert_eq!(with(RevocationEpoch(8), envelopes.clone(), evidence.clone()), Ok(()));
    assert_eq!(with(RevocationEpoch(6), envelopes.clone(), evidence.clone()), Err("receipt.revocations".to_owned()));
    assert_eq!(with(EPOCH, envelopes[1..].to_vec(), evidence.clone()), Err("receipt.missing".to_owned()));
    assert_eq!(with(EPOCH, envelopes, evidence[1..].to_vec()), Err("receipt.evidence".to_owned()));
}

#[test]
fn a_later_revocation_does_not_change_a_receipt() {
    let world = build(Plan::single(), &no_bend);
    let later = Receipt::assemble(
        world.task,
        RevocationEpoch(99),
        world.roots.clone(),
        world.envelopes.clone(),
        world.evidence.clone(),
        [],
    );
    assert_eq!(later.unwrap(), world.receipt());
}

#[test]
fn revocations_of_an_earlier_task_are_its_own() {
    // The first round ran in a pool that had revoked more often.
    let world = build(Plan::default(), &|label, said, _| {
        if let Said::Allocation(allocation) = said
            && label.starts_with("r1/")
        {
            allocation.revocations = RevocationEpoch(40);
        }
    });
    let receipt = world.receipt();
    assert_eq!(receipt.revocations, EPOCH);
    verify(&receipt).unwrap();
}

#[test]
fn statements_are_counted() {
    /// Says nothing but what it rests on; nobody signs it.
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Step {
        prev: Vec<Digest>,
    }
    impl Predicate for Step {
        const TYPE: &'static str = "https://legation.dev/step/v1";
        fn prev(&self) -> &[Digest] {
            &self.prev
        }
        fn subjects(&self) -> Vec<Subject> {
            Vec::new()
        }
        fn signer(&self) -> PublicKey {
            PublicKey::from_bytes([0; 32])
        }
    }
    struct Nobody;
    impl Signer for Nobody {
        fn public_key(&self) -> PublicKey {
            PublicKey::from_bytes([0; 32])
        }
        fn sign(&self, _: &[u8]) -> Signature {
            Signature([0; 64])
        }
    }
    let mut steps = Vec::new();
    let mut last = Vec::new();
    for _ in 0..=ENVELOPES_MAX {
        let step = dsse::sign(Step { prev: last }, &Nobody);
        last = vec![step.digest()];
        steps.push(step.envelope().clone());
    }
    let assemble = |last: usize| {
        Receipt::assemble(TaskId::new(steps[0].digest()), EPOCH, vec![steps[last].digest()], steps.clone(), [], [])
    };
    let most = assemble(ENVELOPES_MAX - 1).unwrap();
    assert_eq!(most.envelopes.len(), ENVELOPES_MAX);
    assert_eq!(verify(&most).unwrap_err().why.check, "receipt.kind");
    assert_eq!(assemble(ENVELOPES_MAX).unwrap_err().check, "receipt.size");
}

#[test]
fn two_hundred_rounds_verify_on_a_small_stack() {
    let plan = Plan { rounds: 200, trainers: 2, ..Plan::default() };
    let world = build(plan, &no_bend);
    let text = world.receipt().to_text();
    let began = Instant::now();
    let links = std::thread::Builder::new()
        .stack_size(256 << 10)
        .spawn(move || verify(&Receipt::from_text(text.as_bytes()).unwrap()).unwrap().links.len())
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(links, world.envelopes.len());
    assert!(began.elapsed().as_secs() < 60, "{links} statements took {:?}", began.elapsed());
}

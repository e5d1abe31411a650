//! Receipts as somebody without keys can change them: take away, move, repeat, alter, rename.

use legation_core::{
    Digest, Envelope, Receipt, RevocationEpoch, TaskId,
    claims::{Anchors, Evidence},
    dsse::Predicate,
    encoding,
    receipt::Invalid,
    statement::{Aggregate, Report},
};

use crate::{
    party::{Believer, Party},
    world::{Plan, World, anchors, build, digest, judge, key, no_bend, verify},
};

fn federated() -> (World, Receipt) {
    let world = build(Plan::default(), &no_bend);
    let receipt = world.receipt();
    (world, receipt)
}

/// Refused, whether it is verified as it stands or written and read again; gives the refusal.
fn refused(what: &str, receipt: &Receipt) -> Invalid {
    let invalid = verify(receipt).expect_err(what);
    let again = Receipt::from_text(receipt.to_text().as_bytes()).and_then(|r| verify(&r));
    assert_eq!(again.expect_err(what), invalid, "{what}");
    invalid
}

fn expect(what: &str, receipt: &Receipt, at: &str, check: &str) {
    let invalid = refused(what, receipt);
    assert_eq!((invalid.at.as_str(), invalid.why.check.as_str()), (at, check), "{what}: {invalid}");
}

/// The envelope with another payload or signature under it, by way of its JSON.
fn altered(envelope: &Envelope, payload: &[u8]) -> Envelope {
    let mut json: serde_json::Value = serde_json::from_str(&envelope.to_json()).unwrap();
    json["payload"] = encoding::base64(payload).into();
    serde_json::from_value(json).unwrap()
}

#[test]
fn every_envelope_is_needed_and_has_one_place() {
    let (_, whole) = federated();
    for i in 0..whole.envelopes.len() {
        let mut receipt = whole.clone();
        receipt.envelopes.remove(i);
        expect(&format!("{i} removed"), &receipt, "the file", "receipt.missing");

        let mut receipt = whole.clone();
        receipt.envelopes.insert(i, whole.envelopes[i].clone());
        expect(&format!("{i} repeated"), &receipt, "the file", "receipt.order");

        let mut receipt = whole.clone();
        receipt.envelopes.push(whole.envelopes[i].clone());
        expect(&format!("{i} repeated at the end"), &receipt, "the file", "receipt.order");

        if i > 0 {
            let mut receipt = whole.clone();
            receipt.envelopes.swap(i - 1, i);
            expect(&format!("{i} swapped"), &receipt, "the file", "receipt.order");
        }
    }
    let mut receipt = whole.clone();
    receipt.envelopes.reverse();
    expect("reversed", &receipt, "the file", "receipt.order");
    receipt.envelopes.clear();
    expect("empty", &receipt, "the file", "receipt.missing");
    let foreign = build(Plan::single(), &no_bend).envelopes[2].clone();
    let mut receipt = whole.clone();
    receipt.envelopes.insert(3, foreign);
    expect("a foreign one added", &receipt, "the file", "receipt.order");
}

#[test]
fn an_edited_statement_does_not_fit_whoever_signs_it() {
    let (_, whole) = federated();
    let attacker = Party::new("attacker");
    for (i, envelope) in whole.envelopes.iter().enumerate() {
        // Every number in the statement, one larger: each is an edit that parses.
        let text = std::str::from_utf8(envelope.payload()).unwrap();
        let mut edits = Vec::new();
        for (at, c) in text.char_indices().filter(|(_, c)| ('0'..='8').contains(c)) {
            if text[..at].ends_with(':') {
                let larger = char::from(c as u8 + 1);
                edits.push(format!("{}{larger}{}", &text[..at], &text[at + 1..]));
            }
        }
        edits.push(text.replace("legation.dev", "legation.dex"));
        for edited in edits {
            assert_ne!(edited, text);
            let unsigned = altered(envelope, edited.as_bytes());
            let pae = format!("DSSEv1 28 application/vnd.in-toto+json {} {edited}", edited.len());
            let sig = legation_core::Signer::sign(&attacker, pae.as_bytes());
            let mut json: serde_json::Value = serde_json::from_str(&unsigned.to_json()).unwrap();
            json["signatures"][0]["sig"] = encoding::base64(&sig.0).into();
            let impostor: Envelope = serde_json::from_value(json.clone()).unwrap();
            json["signatures"][0]["keyid"] = attacker.key().id().to_string().into();
            let resigned: Envelope = serde_json::from_value(json).unwrap();
            for (how, other) in [("not signed", unsigned), ("by an impostor", impostor), ("by the attacker", resigned)]
            {
                let mut receipt = whole.clone();
                receipt.envelopes[i] = other.clone();
                expect(&format!("{i} edited, {how}"), &receipt, "the file", "receipt.missing");
                // As the root of its own: nothing above it gives it away, but what it is.
                if envelope.peek::<Report>().is_ok() || envelope.peek::<Aggregate>().is_ok() {
                    let mut receipt = whole.clone();
                    let all = whole.envelopes.iter().cloned().chain([other.clone()]);
                    let roots = vec![other.digest()];
                    if let Ok(own) =
                        Receipt::assemble(whole.task, whole.revocations, roots, all, whole.evidence.clone(), [])
                    {
                        receipt = own;
                    }
                    receipt.roots = vec![other.digest()];
                    refused(&format!("{i} edited as a root, {how}"), &receipt);
                }
            }
        }
    }
}

#[test]
fn the_header_is_bound_by_what_is_signed() {
    let (world, whole) = federated();
    let edit = |what: &str, at: &str, check: &str, change: &dyn Fn(&mut Receipt)| {
        let mut receipt = whole.clone();
        change(&mut receipt);
        expect(what, &receipt, at, check);
    };
    edit("version", "the file", "receipt.version", &|r| r.version = "legation-receipt/v2".to_owned());
    edit("empty version", "the file", "receipt.version", &|r| r.version.clear());
    edit("unknown task", "the file", "receipt.request", &|r| r.task = TaskId::new(digest("other")));
    let first = TaskId::new(world.labels["r1/request"]);
    edit("task of the first round", "the file", "receipt.roots", &|r| r.task = first);
    edit("earlier revocation", "the file", "receipt.revocations", &|r| r.revocations = RevocationEpoch(6));
    edit("later revocation", "the file", "receipt.revocations", &|r| r.revocations = RevocationEpoch(8));
    edit("no roots", "the file", "receipt.order", &|r| r.roots.clear());
    edit("unknown root", "the file", "receipt.missing", &|r| r.roots[0] = digest("root"));
    edit("another root before", "the file", "receipt.missing", &|r| r.roots.insert(0, digest("root")));
    edit("the root twice", "the file", "receipt.roots", &|r| r.roots.push(r.roots[0]));
    edit("a root that is no result", "the file", "receipt.roots", &|r| r.roots.push(world.labels["r2/report-0"]));
    edit("a root that is a grant", "the file", "receipt.roots", &|r| r.roots.push(world.labels["r2/grant-3-client"]));
    edit("a root of the first round", "the file", "receipt.roots", &|r| r.roots.push(world.labels["r1/aggregate"]));
}

#[test]
fn roots_cannot_be_chosen() {
    let (world, _) = federated();
    for (what, labels) in [
        ("a trainer's report", &["r2/report-0"][..]),
        ("all trainers' reports", &["r2/report-0", "r2/report-1", "r2/report-2"]),
        ("the reducer's report without its aggregate", &["r2/report-3"]),
        ("the first round's aggregate", &["r1/aggregate"]),
        ("both rounds", &["r1/aggregate", "r2/aggregate"]),
        ("a report beside the aggregate", &["r2/report-0", "r2/aggregate"]),
        ("the reducer twice", &["r2/report-3", "r2/aggregate"]),
        ("a passport", &["r2/passport-enclave-hub"]),
        ("nothing", &[]),
    ] {
        let roots = labels.iter().map(|l| world.labels[*l]).collect();
        let invalid = refused(what, &world.assemble_roots(roots).unwrap());
        // Where no statement leads to the task's request, the task itself is unknown.
        let known = labels.iter().any(|label| label.starts_with("r2/") && !label.contains("passport"));
        let check = if known { "receipt.roots" } else { "receipt.request" };
        assert_eq!((invalid.at.as_str(), invalid.why.check.as_str()), ("the file", check), "{what}: {invalid}");
    }

    // Of independent fragments, all; of a task that failed, only what failed.
    let world = build(Plan { rounds: 1, reduce: false, ..Plan::default() }, &no_bend);
    let mixed = build(Plan { rounds: 1, reduce: false, failed: &[1], ..Plan::default() }, &no_bend);
    for (what, world, labels) in [
        ("some results", &world, &["r1/report-0", "r1/report-2"][..]),
        ("results in another order", &world, &["r1/report-1", "r1/report-0", "r1/report-2"]),
        ("a result twice", &world, &["r1/report-0", "r1/report-0", "r1/report-1", "r1/report-2"]),
        ("the failure left out", &mixed, &["r1/report-0", "r1/report-2"]),
        ("results beside the failure", &mixed, &["r1/report-0", "r1/report-1", "r1/report-2"]),
    ] {
        let roots = labels.iter().map(|l| world.labels[*l]).collect();
        expect(what, &world.assemble_roots(roots).unwrap(), "the file", "receipt.roots");
    }
    let both = build(Plan { rounds: 1, reduce: false, failed: &[0, 2], ..Plan::default() }, &no_bend);
    let roots = vec![both.labels["r1/report-2"], both.labels["r1/report-0"]];
    expect("failures in another order", &both.assemble_roots(roots).unwrap(), "the file", "receipt.roots");
}

#[test]
fn evidence_is_all_there_and_as_it_was() {
    let (_, whole) = federated();
    let links: Vec<Digest> = whole.evidence.iter().map(Evidence::digest).collect();
    let passport = |digest: Digest| {
        let of = |e: &&Envelope| e.peek::<legation_core::statement::Passport>().is_ok_and(|p| p.evidence == digest);
        format!("passport {}", whole.envelopes.iter().find(of).unwrap().digest().short())
    };
    for (i, link) in links.into_iter().enumerate() {
        let mut receipt = whole.clone();
        receipt.evidence.remove(i);
        expect("removed", &receipt, &passport(link), "receipt.evidence");
        let mut receipt = whole.clone();
        receipt.evidence.insert(i, whole.evidence[i].clone());
        expect("repeated", &receipt, "the file", "receipt.evidence");
        if i > 0 {
            let mut receipt = whole.clone();
            receipt.evidence.swap(i - 1, i);
            expect("swapped", &receipt, "the file", "receipt.evidence");
        }
        for change in [
            (|e| e.report.push(b' ')) as fn(&mut Evidence),
            |e| e.binding[0] ^= 1,
            |e| e.configuration.clear(),
            |e| e.endorsements.push(Vec::new()),
            |e| e.kind = legation_core::claims::TeeKind::SevSnp,
        ] {
            let mut receipt = whole.clone();
            change(&mut receipt.evidence[i]);
            receipt.evidence.sort_by_key(Evidence::digest);
            let invalid = refused("altered", &receipt);
            assert_eq!((invalid.at, invalid.why.check.as_str()), (passport(link), "receipt.evidence"));
        }
    }
    let mut receipt = whole.clone();
    let mut foreign = whole.evidence[0].clone();
    foreign.report.push(b' ');
    receipt.evidence.push(foreign);
    receipt.evidence.sort_by_key(Evidence::digest);
    expect("superfluous", &receipt, "the file", "receipt.evidence");
}

#[test]
fn a_reader_with_other_anchors_refuses() {
    let (world, receipt) = federated();
    let check = |anchors: &Anchors, judge: &Believer| {
        let invalid = receipt.verify(anchors, judge).unwrap_err();
        (invalid.at, invalid.why.check)
    };
    let mut none = anchors();
    none.operators.clear();
    let mut other = anchors();
    other.operators = vec![key("attacker"), key("verifier"), key("manager"), key("client")];
    let appointment = (world.at("manager"), "receipt.anchor".to_owned());
    assert_eq!(check(&none, &judge()), appointment);
    assert_eq!(check(&other, &judge()), appointment);
    let passport = |check: &str| (world.at("r1/passport-enclave-hub"), check.to_owned());
    let mut strict = anchors();
    strict.development.clear();
    assert_eq!(check(&anchors(), &Believer(Vec::new())), passport("evidence.root"));
    assert_eq!(check(&strict, &judge()), passport("receipt.anchor"), "even if the judge would admit it");
    strict.development = vec![legation_core::claims::DevelopmentAnchor { name: "benches".to_owned(), ark: vec![1] }];
    assert_eq!(check(&strict, &judge()), passport("receipt.anchor"));
}

#[test]
fn a_statement_of_no_known_kind_is_named_safely() {
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Oath {
        swears: legation_core::PublicKey,
        prev: Vec<Digest>,
    }
    impl Predicate for Oath {
        const TYPE: &'static str = "https://legation.dev/\u{1b}[2Joath/v1";
        fn prev(&self) -> &[Digest] {
            &self.prev
        }
        fn subjects(&self) -> Vec<legation_core::dsse::Subject> {
            Vec::new()
        }
        fn signer(&self) -> legation_core::PublicKey {
            self.swears
        }
    }
    let attacker = Party::new("attacker");
    let oath = legation_core::dsse::sign(Oath { swears: attacker.key(), prev: Vec::new() }, &attacker);
    let (world, whole) = federated();
    let roots = vec![oath.digest()];
    let receipt = Receipt::assemble(world.task, whole.revocations, roots, [oath.envelope().clone()], [], []).unwrap();
    let invalid = refused("an oath", &receipt);
    assert_eq!(
        (invalid.at, invalid.why.check.as_str()),
        (format!("statement {}", oath.digest().short()), "receipt.kind")
    );
    assert!(!invalid.why.to_string().contains('\u{1b}'));
}

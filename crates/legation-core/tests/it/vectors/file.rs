//! What somebody without keys can do to a receipt: take away, move, repeat, alter, rename, write otherwise.

use legation_core::{
    Envelope, Receipt, RevocationEpoch, TaskId,
    claims::{DevelopmentAnchor, Evidence, TeeKind},
    encoding,
};

use super::{Receipts, enveloped, statements::listed};
use crate::{
    party::Party,
    world::{Plan, World, anchors, build, digest, key, no_bend},
};

#[test]
fn receipts_as_files() {
    let world = build(Plan::single(), &no_bend);
    let whole = world.receipt();
    let mut all = Receipts::default();
    all.good("as it is", &whole);
    statements(&mut all, &whole);
    headers(&mut all, &world, &whole);
    evidence(&mut all, &whole);
    readers(&mut all, &whole);
    spellings(&mut all, &whole);
    all.settle("receipts-file.json");
}

fn edited(all: &mut Receipts, whole: &Receipt, name: &str, change: &dyn Fn(&mut Receipt)) {
    let mut receipt = whole.clone();
    change(&mut receipt);
    all.bad(name, &receipt);
}

fn statements(all: &mut Receipts, whole: &Receipt) {
    for (i, envelope) in whole.envelopes.iter().enumerate() {
        edited(all, whole, &format!("statement {i} removed"), &|r| drop(r.envelopes.remove(i)));
        edited(all, whole, &format!("statement {i} repeated"), &|r| r.envelopes.insert(i, envelope.clone()));
        edited(all, whole, &format!("statement {i} repeated at the end"), &|r| r.envelopes.push(envelope.clone()));
        if i > 0 {
            edited(all, whole, &format!("statements {} and {i} swapped", i - 1), &|r| r.envelopes.swap(i - 1, i));
        }
        altered(all, whole, i);
    }
    edited(all, whole, "statements reversed", &|r| r.envelopes.reverse());
    edited(all, whole, "no statements", &|r| r.envelopes.clear());
    let foreign = build(Plan { reduce: false, trainers: 2, moved: false, rounds: 1, ..Plan::default() }, &no_bend);
    edited(all, whole, "a foreign statement added", &|r| r.envelopes.insert(1, foreign.envelopes[2].clone()));
    let root = whole.envelopes.last().unwrap();
    let array = listed(std::str::from_utf8(root.payload()).unwrap(), 0);
    let array = enveloped(&array, &Party::new("enclave-north"), &key("enclave-north"));
    edited(all, whole, "an array in place of the root", &|r| {
        r.roots = vec![array.digest()];
        *r.envelopes.last_mut().unwrap() = array.clone();
    });
}

/// A statement with one number changed: not signed anew, signed by an impostor, signed by the attacker.
fn altered(all: &mut Receipts, whole: &Receipt, i: usize) {
    let envelope = &whole.envelopes[i];
    let text = std::str::from_utf8(envelope.payload()).unwrap();
    let small = |(at, c): &(usize, char)| ('0'..='8').contains(c) && text[..*at].ends_with(':');
    let (at, digit) = text.char_indices().find(small).unwrap();
    let larger = char::from_digit(digit.to_digit(10).unwrap() + 1, 10).unwrap();
    let payload = format!("{}{larger}{}", &text[..at], &text[at + 1..]);
    let attacker = Party::new("attacker");
    let resigned = enveloped(payload.as_bytes(), &attacker, &attacker.key());
    let with = |of: &Envelope, field: &str, value: String| -> Envelope {
        let mut json: serde_json::Value = serde_json::from_str(&of.to_json()).unwrap();
        *json.pointer_mut(field).unwrap() = value.into();
        serde_json::from_value(json).unwrap()
    };
    let unsigned = with(envelope, "/payload", encoding::base64(payload.as_bytes()));
    let impostor = with(&resigned, "/signatures/0/keyid", envelope.keyid().to_string());
    for (how, other) in [("not signed anew", unsigned), ("by an impostor", impostor), ("by the attacker", resigned)] {
        // The last one is the root, which nothing names but the header: it is renamed there too.
        let is_root = whole.roots.contains(&envelope.digest());
        edited(all, whole, &format!("statement {i} altered, {how}"), &|r| {
            r.envelopes[i] = other.clone();
            if is_root {
                r.roots = vec![other.digest()];
            }
        });
    }
}

fn headers(all: &mut Receipts, world: &World, whole: &Receipt) {
    let mut edit = |name: &str, change: &dyn Fn(&mut Receipt)| edited(all, whole, name, change);
    edit("version of tomorrow", &|r| r.version = "legation-receipt/v2".to_owned());
    edit("no version", &|r| r.version.clear());
    edit("another task", &|r| r.task = TaskId::new(digest("other")));
    edit("an earlier revocation", &|r| r.revocations = RevocationEpoch(6));
    edit("a later revocation", &|r| r.revocations = RevocationEpoch(8));
    edit("no roots", &|r| r.roots.clear());
    edit("an unknown root", &|r| r.roots = vec![digest("root")]);
    edit("a root more that is not there", &|r| r.roots.insert(0, digest("root")));
    edit("the root twice", &|r| r.roots.push(r.roots[0]));
    edit("a grant as a root", &|r| r.roots.push(world.labels["r1/grant-0-north"]));
    edit("a passport as a root", &|r| r.roots.push(world.labels["r1/passport-enclave-north"]));
}

fn evidence(all: &mut Receipts, whole: &Receipt) {
    let mut edit = |name: &str, change: &dyn Fn(&mut Vec<Evidence>)| {
        let mut receipt = whole.clone();
        change(&mut receipt.evidence);
        all.bad(name, &receipt);
    };
    edit("evidence removed", &|list| list.clear());
    edit("evidence repeated", &|list| list.push(list[0].clone()));
    edit("evidence with a byte more", &|list| list[0].report.push(b' '));
    edit("evidence with another binding", &|list| list[0].binding[0] ^= 1);
    edit("evidence without configuration", &|list| list[0].configuration.clear());
    edit("evidence with an endorsement more", &|list| list[0].endorsements.push(Vec::new()));
    edit("evidence of another kind", &|list| list[0].kind = TeeKind::SevSnp);
    edit("evidence that no passport names", &|list| {
        let mut foreign = list[0].clone();
        foreign.report.push(b' ');
        list.push(foreign);
        list.sort_by_key(Evidence::digest);
    });
    edit("evidence in another order", &|list| {
        let mut foreign = list[0].clone();
        foreign.report.push(b' ');
        list.push(foreign);
        list.sort_by_key(Evidence::digest);
        list.reverse();
    });
}

fn readers(all: &mut Receipts, whole: &Receipt) {
    let mut none = anchors();
    none.operators.clear();
    all.under("a reader who trusts no operator", whole, none, false);
    let mut other = anchors();
    other.operators = vec![key("attacker"), key("verifier"), key("manager"), key("client")];
    all.under("a reader who trusts other operators", whole, other, false);
    let mut strict = anchors();
    strict.development.clear();
    all.under("a reader who trusts no development root", whole, strict.clone(), false);
    strict.development = vec![DevelopmentAnchor { name: "benches".to_owned(), ark: vec![1] }];
    all.under("a reader who trusts another development root", whole, strict, false);
    let mut more = anchors();
    more.operators.insert(0, key("attacker"));
    all.under("a reader who trusts another operator too", whole, more, true);
}

fn spellings(all: &mut Receipts, whole: &Receipt) {
    let text = whole.to_text();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (name, text) in [
        ("nothing", String::new()),
        ("a list", "[]\n".to_owned()),
        ("an object without fields", "{}\n".to_owned()),
        ("white space everywhere", format!("{}\n", serde_json::to_string_pretty(&value).unwrap())),
        ("a second receipt behind it", format!("{text}{text}")),
        ("half of it", text[..text.len() / 2].to_owned()),
    ] {
        all.text(&format!("spelling: {name}"), &text);
    }
    let task = whole.task.to_string();
    let version = r#"{"version":"legation-receipt/v1","#;
    for (name, find, replace) in [
        ("no newline", "]}\n", "]}"),
        ("two newlines", "]}\n", "]}\n\n"),
        ("a carriage return", "]}\n", "]}\r\n"),
        ("a brace short", "]}\n", "]"),
        ("a space before", "{\"version\"", " {\"version\""),
        ("a byte order mark", "{\"version\"", "\u{feff}{\"version\""),
        ("a space after", "]}\n", "]} \n"),
        ("a space between", ",\"task\"", ", \"task\""),
        ("an unknown field", version, r#"{"version":"legation-receipt/v1","more":1,"#),
        ("a field twice", version, r#"{"version":"legation-receipt/v1","version":"legation-receipt/v1","#),
        ("a field missing", "\"revocations\":7,", ""),
        ("a comma too many", "]}\n", "],}\n"),
        ("a number with a fraction", "\"revocations\":7,", "\"revocations\":7.0,"),
        ("a number with an exponent", "\"revocations\":7,", "\"revocations\":7e0,"),
        ("a number with a zero before", "\"revocations\":7,", "\"revocations\":07,"),
        ("a negative number", "\"revocations\":7,", "\"revocations\":-7,"),
        ("a number past 64 bits", "\"revocations\":7,", "\"revocations\":18446744073709551616,"),
        ("a number as a text", "\"revocations\":7,", "\"revocations\":\"7\","),
        ("an escape where none is needed", "legation-receipt/v1", "legation-receipt\\/v1"),
        ("a digest in capitals", &task, &task.to_uppercase()),
        ("a digest too short", &task, &task[2..]),
        ("base64 of another alphabet", "\"payload\":\"eyJf", "\"payload\":\"eyJ-"),
        ("base64 with a line break", "\"payload\":\"eyJf", "\"payload\":\"eyJf\\n"),
        ("base64 cut", "\"payload\":\"eyJf", "\"payload\":\"eyJ"),
        ("a signature without its padding", "==\"}]}", "\"}]}"),
        ("two signatures", "\"}]}", "\"},{\"keyid\":\"00\",\"sig\":\"\"}]}"),
        ("another type of payload", "application/vnd.in-toto+json", "application/json"),
        ("collateral that is empty", "]}\n", "],\"collateral\":[]}\n"),
        (
            "collateral that no passport names",
            "]}\n",
            "],\"collateral\":[{\"name\":\"amd/milan/crl\",\"bytes\":\"AA==\"}]}\n",
        ),
        ("a log that is null", "]}\n", "],\"log\":null}\n"),
        ("a log of another form", "]}\n", "],\"log\":{}}\n"),
        ("devices that are empty", "],\"binding\"", "],\"devices\":[],\"binding\""),
        ("an unknown kind of evidence", "\"kind\":\"dev-snp\"", "\"kind\":\"dev-sgx\""),
    ] {
        all.edit(&format!("spelling: {name}"), ("as it is", whole), find, replace);
    }
}

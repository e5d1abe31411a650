//! Envelopes by themselves: every kind of statement, forms that are read and forms that are not, and signatures at the edge of
//! what Ed25519 lets pass.

use std::collections::BTreeMap;

use legation_core::{
    Digest, Envelope, PublicKey, Signature, Signer,
    delegation::Call,
    dsse::Predicate,
    encoding::base64,
    statement::{Aggregate, Allocation, Appointment, ExecutionProof, Grant, Passport, Report, Request},
    swarm::{Membership, Seating},
};
use serde::Serialize;

use super::{VERSION, custody, enveloped, json, list, object, proofs, settle};
use crate::{
    handed,
    party::Party,
    world::{Plan, build, digest, key, no_bend},
};

/// How many of the edits that go with every kind are made of large statements.
const GENERAL_MIN: usize = 7;

/// An envelope, and whether it opens as a statement of this kind.
#[derive(Serialize)]
struct Case {
    name: String,
    kind: &'static str,
    envelope: Envelope,
    digest: Digest,
    opens: bool,
}

/// A signature, and whether it is one.
#[derive(Serialize)]
struct Signed {
    name: String,
    key: PublicKey,
    message: String,
    signature: String,
    good: bool,
}

fn opens(kind: &str, envelope: &Envelope) -> bool {
    match kind {
        "appointment" => envelope.open::<Appointment>().is_ok(),
        "passport" => envelope.open::<Passport>().is_ok(),
        "request" => envelope.open::<Request>().is_ok(),
        "allocation" => envelope.open::<Allocation>().is_ok(),
        "grant" => envelope.open::<Grant>().is_ok(),
        "call" => envelope.open::<Call>().is_ok(),
        "report" => envelope.open::<Report>().is_ok(),
        "aggregate" => envelope.open::<Aggregate>().is_ok(),
        "seating" => envelope.open::<Seating>().is_ok(),
        "membership" => envelope.open::<Membership>().is_ok(),
        "execution-proof" => envelope.open::<ExecutionProof>().is_ok(),
        other => custody::opens(other, envelope),
    }
}

/// One statement of every kind that receipts have, or that stands beside them, with who signed it.
fn samples() -> BTreeMap<&'static str, (Envelope, &'static str)> {
    let federation = build(Plan { rounds: 1, ..Plan::default() }, &no_bend);
    let single = build(Plan::single(), &no_bend);
    let swarm = build(Plan::swarm(), &no_bend);
    let handed = handed::build(handed::Plan::single(), &no_bend);
    let of = |envelopes: &[Envelope], digest: Digest| envelopes.iter().find(|e| e.digest() == digest).unwrap().clone();
    let first = |label: &str| of(&federation.envelopes, federation.labels[label]);
    BTreeMap::from([
        ("appointment", (first("verifier"), "operator")),
        ("passport", (first("r1/passport-enclave-north"), "verifier")),
        ("request", (of(&single.envelopes, single.labels["r1/request"]), "client")),
        ("allocation", (first("r1/allocation-1"), "manager")),
        ("grant", (first("r1/grant-0-north"), "north")),
        ("report", (first("r1/report-0"), "enclave-north")),
        ("aggregate", (first("r1/aggregate"), "enclave-hub")),
        ("seating", (of(&swarm.envelopes, swarm.labels["r1/seating"]), "manager")),
        ("membership", (of(&swarm.envelopes, swarm.labels["r1/membership-enclave-hub"]), "enclave-hub")),
        ("call", (of(&handed.envelopes, handed.labels["call-a"]), "enclave-lead")),
        ("execution-proof", (proofs::item(&handed, "answer-a", |_| {}).statement, "prover")),
    ])
}

/// The object that begins at `at`, as an array of its values in their order: what derived readers take for it, too.
pub(super) fn listed(text: &str, at: usize) -> Vec<u8> {
    let (mut out, mut depth, mut quoted, mut escaped) = (text[..at].to_owned(), 0, false, false);
    // Where the name of the latest field begins in what was written.
    let mut name = 0;
    let mut rest = text[at..].chars();
    for c in rest.by_ref() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => (),
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => (),
        }
        match (c, depth) {
            _ if quoted => out.push(c),
            ('{', 1) => {
                out.push('[');
                name = out.len();
            }
            (',', 1) => {
                out.push(',');
                name = out.len();
            }
            (':', 1) => out.truncate(name),
            ('}', 0) => {
                out.push(']');
                break;
            }
            _ => out.push(c),
        }
    }
    (out + rest.as_str()).into_bytes()
}

/// Without the commitment of the output, which an execution that wrote nothing has not.
fn without_output(text: &str) -> Vec<u8> {
    let at = text.find(",\"output\":\"").unwrap();
    let end = text[at + 11..].find('"').unwrap() + at + 12;
    [&text[..at], &text[end..]].concat().into_bytes()
}

/// The payload otherwise: what is done to it, and whether it may.
fn edits(kind: &str, text: &str) -> Vec<(&'static str, Vec<u8>, bool)> {
    let once = |find: &str, replace: &str| {
        assert!(text.contains(find), "{kind}: no {find}");
        text.replacen(find, replace, 1).into_bytes()
    };
    let inside = |fields: &str| once("\"predicate\":{", &format!("\"predicate\":{{{fields},"));
    // The first number of the predicate.
    let predicate = text.find("\"predicate\":{").unwrap();
    let after = |(at, c): &(usize, char)| *at > predicate && c.is_ascii_digit() && text[..*at].ends_with(':');
    let numbered = |write: &dyn Fn(&str) -> String| {
        let Some((at, _)) = text.char_indices().find(after) else { return text.as_bytes().to_vec() };
        let end = text[at..].find(|c: char| !c.is_ascii_digit()).unwrap() + at;
        [&text[..at], write(&text[at..end]).as_str(), &text[end..]].concat().into_bytes()
    };
    let custodian = |swarm: &str, more: &str| {
        let custody = format!(r#"{{"swarm":"{swarm}","alone":true,"anchors":"{}"{more}}}"#, digest("anchors"));
        once("\"configuration\":{", &format!("\"configuration\":{{\"custody\":{custody},"))
    };
    let begins = "{\"_type\":";
    let mut all = vec![
        ("white space around it", format!(" {text}\n").into_bytes(), true),
        ("white space inside it", once(",\"predicate\":", " ,\t\"predicate\" :\r\n"), true),
        ("a name with an escape", once("\"_type\"", "\"\\u005ftype\""), true),
        ("an unknown field", once(begins, "{\"more\":1,\"_type\":"), false),
        ("an unknown field of the predicate", inside("\"more\":1"), false),
        ("a field twice", once(begins, "{\"_type\":\"https://in-toto.io/Statement/v1\",\"_type\":"), false),
        ("a field of the predicate twice", inside("\"prev\":[],\"prev\":[]"), false),
        ("another type of statement", once("in-toto.io/Statement/v1", "in-toto.io/Statement/v0.1"), false),
        ("another type of predicate", once("legation.dev/", "legation.dex/"), false),
        ("another subject", once("\"subject\":[{\"name\":\"", "\"subject\":[{\"name\":\"x"), false),
        (
            "a subject more",
            once(
                "\"subject\":[",
                &format!("\"subject\":[{{\"name\":\"x\",\"digest\":{{\"sha256\":\"{}\"}}}},", digest("x")),
            ),
            false,
        ),
        ("a digest of another algorithm", once("\"sha256\":", "\"sha512\":"), false),
        ("something behind it", format!("{text}{{}}").into_bytes(), false),
        ("half of it", text.as_bytes()[..text.len() / 2].to_vec(), false),
        ("nothing", Vec::new(), false),
        ("a comma too many", once("\"predicate\":{", ",\"predicate\":{"), false),
        ("a comment", once(begins, "/* */{\"_type\":"), false),
        ("no UTF-8", [&text.as_bytes()[..20], &[0xff_u8][..], &text.as_bytes()[20..]].concat(), false),
        ("a byte order mark", format!("\u{feff}{text}").into_bytes(), false),
    ];
    if numbered(&str::to_owned) != numbered(&|n| format!("{n}0")) {
        all.extend([
            ("a number with a fraction", numbered(&|n| format!("{n}.0")), false),
            ("a number with an exponent", numbered(&|n| format!("{n}e0")), false),
            ("a number with a zero before", numbered(&|n| format!("0{n}")), false),
            ("a negative number", numbered(&|n| format!("-{n}")), false),
            ("a number past 64 bits", numbered(&|_| "18446744073709551616".to_owned()), false),
            ("a number as a text", numbered(&|n| format!("\"{n}\"")), false),
            ("a number that is null", numbered(&|_| "null".to_owned()), false),
        ]);
    }
    let behind = |find: &str| text.find(find).unwrap() + find.len();
    all.extend([
        ("an array in place of it", listed(text, 0), false),
        ("an array in place of the predicate", listed(text, behind("\"predicate\":")), false),
        ("an array in place of a subject", listed(text, behind("\"subject\":[")), false),
        ("an array in place of digests", listed(text, behind("\"digest\":")), false),
    ]);
    // What holds of every kind need not be shown with the largest.
    if matches!(kind, "passport" | "request" | "release") || kind.starts_with("custody-") {
        all.truncate(GENERAL_MIN);
    }
    match kind {
        "report" => all.extend([
            ("an answer that is null", inside("\"answer\":null"), true),
            ("dissent that is empty", inside("\"dissent\":[]"), true),
            ("dissent that is null", inside("\"dissent\":null"), false),
            ("an outcome with more", once("\"kind\":\"completed\"", "\"kind\":\"completed\",\"more\":1"), false),
            ("an outcome of another kind", once("\"kind\":\"completed\"", "\"kind\":\"done\""), false),
            ("an array in place of the outcome", once("{\"kind\":\"completed\"}", "[\"completed\"]"), false),
            ("an array in place of the usage", listed(text, behind("\"usage\":")), false),
        ]),
        "grant" => all.extend([
            ("something passed on that is null", inside("\"delegable\":null"), true),
            ("a subject of another kind", once("\"kind\":\"enclave\"", "\"kind\":\"everybody\""), false),
            ("a subject with more", once("\"kind\":\"enclave\"", "\"kind\":\"enclave\",\"more\":1"), false),
            ("an array in place of who may act on it", listed(text, behind("\"fragments\":[0],\"subject\":")), false),
        ]),
        "call" => all.extend([
            ("an array in place of the input", listed(text, behind("\"input\":")), false),
            ("an array in place of the demand", listed(text, behind("\"demand\":")), false),
            (
                "an object in place of a word",
                once("\"assurance\":\"attested\"", "\"assurance\":{\"attested\":null}"),
                false,
            ),
        ]),
        "appointment" => all.extend([(
            "an object in place of a word",
            once("\"office\":\"verifier\"", "\"office\":{\"verifier\":null}"),
            false,
        )]),
        "execution-proof" => all.extend([
            ("a claim without an output", without_output(text), true),
            ("an array in place of the claim", listed(text, behind("\"claim\":")), false),
        ]),
        "request" => all.extend([
            ("half a character", once("\"name\":\"round r1\"", "\"name\":\"\\ud800\""), false),
            ("a character in two halves", once("\"name\":\"round r1\"", "\"name\":\"\\ud83d\\ude00\""), true),
            ("a control character", once("\"name\":\"round r1\"", "\"name\":\"\u{1}\""), false),
            ("preferences that are empty", inside("\"prefer\":{}"), true),
            ("a priority past a byte", inside("\"prefer\":{\"priority\":256}"), false),
            ("an array in place of an input", listed(text, behind("\"inputs\":[")), false),
            ("a requirement that is none", once("\"require\":\"", "\"require\":\"teeth == 1 and "), false),
            ("a tenant that is no name", once("\"tenant\":\"clinic\"", "\"tenant\":\"Clinic\""), false),
            (
                "an assurance of nothing",
                once("\"assurance\":\"attested\"", "\"assurance\":{\"replicated\":{\"k\":3}}"),
                false,
            ),
            (
                "a replicated assurance",
                once("\"assurance\":\"attested\"", "\"assurance\":{\"replicated\":{\"k\":3,\"diverse\":\"tee\"}}"),
                true,
            ),
        ]),
        "passport" => all.extend([
            ("a grade past a byte", once("\"hardware\":32", "\"hardware\":128"), false),
            ("a negative grade", once("\"hardware\":32", "\"hardware\":-128"), true),
            ("a kind of machine that nobody knows", once("\"value\":\"dev-snp\"", "\"value\":\"dev-sgx\""), false),
            ("a custodian's", custodian("main", ""), true),
            ("a custodian's with more", custodian("main", ",\"more\":1"), false),
            ("a custodian's of a swarm key that is no name", custodian("Main", ""), false),
        ]),
        other => all.extend(custody::edits(other, text)),
    }
    all
}

fn case(kind: &'static str, name: &str, envelope: Envelope, wanted: bool) -> Case {
    let (digest, opens) = (envelope.digest(), opens(kind, &envelope));
    assert_eq!(opens, wanted, "{kind}: {name}");
    Case { name: format!("{kind}: {name}"), kind, envelope, digest, opens }
}

fn statements(samples: BTreeMap<&'static str, (Envelope, &'static str)>) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |kind: &'static str, name: &str, envelope: Envelope, wanted: bool| {
        cases.push(case(kind, name, envelope, wanted));
    };
    for (kind, (envelope, signer)) in samples {
        let attacker = Party::new("attacker");
        let payload = envelope.payload().to_vec();
        let other = if kind == "grant" { "report" } else { "grant" };
        add(other, &format!("that is of kind {kind}"), envelope.clone(), false);
        add(kind, "as it is", envelope, true);
        add(kind, "by the attacker", enveloped(&payload, &attacker, &attacker.key()), false);
        add(kind, "by an impostor", enveloped(&payload, &attacker, &key(signer)), false);
        add(kind, "under another name", enveloped(&payload, &Party::new(signer), &attacker.key()), false);
        let text = std::str::from_utf8(&payload).unwrap();
        for (name, payload, wanted) in edits(kind, text) {
            add(kind, name, enveloped(&payload, &Party::new(signer), &key(signer)), wanted);
        }
    }
    cases
}

/// The order of the group (RFC 8032 section 5.1), little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// Encodings of points of small order, in canonical form and not (the list of "Taming the many EdDSAs", 2020, table 6.1).
const SMALL: [&str; 14] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

/// What aws-lc, and so every verifier of ours, says of signatures that others may judge otherwise.
fn signatures() -> Vec<Signed> {
    let mut cases = Vec::new();
    let mut add = |name: &str, key: PublicKey, message: &[u8], signature: [u8; 64]| {
        let good = key.verify(message, &Signature(signature)).is_ok();
        let (message, signature) = (base64(message), base64(&signature));
        cases.push(Signed { name: name.to_owned(), key, message, signature, good });
    };
    let party = Party::new("client");
    let message = b"a message";
    let made = party.sign(message).0;
    add("good", party.key(), message, made);
    add("of nothing", party.key(), b"", party.sign(b"").0);
    add("another message", party.key(), b"another message", made);
    add("another key", key("north"), message, made);
    let (mut carry, mut longer) = (0_u16, made);
    for (byte, more) in longer[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(more) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    add("S past the order", party.key(), message, longer);
    for (name, at) in [("R altered", 3), ("S altered", 40), ("the sign of R altered", 31), ("high bits of S", 63)] {
        let mut other = made;
        other[at] ^= 0x80;
        add(name, party.key(), message, other);
    }
    let point = |hex: &str| -> [u8; 32] { legation_core::encoding::unhex_array(hex).unwrap() };
    let identity = point(SMALL[0]);
    for (i, small) in SMALL.into_iter().enumerate() {
        let key = PublicKey::from_bytes(point(small));
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&identity);
        // Some message gives each residue of the hash by the order of the point.
        for n in 0..4_u8 {
            add(&format!("key of small order {i}, message {n}"), key, &[n], signature);
        }
        signature[..32].copy_from_slice(&point(small));
        add(&format!("key and R of small order {i}"), key, &[0], signature);
        let mut other = made;
        other[..32].copy_from_slice(&point(small));
        add(&format!("R of small order {i}"), party.key(), message, other);
    }
    for (name, hex) in [
        ("a key past the field", "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        ("a key that is no point", "0200000000000000000000000000000000000000000000000000000000000000"),
    ] {
        add(name, PublicKey::from_bytes(point(hex)), message, made);
    }
    cases
}

/// Statements of all these types, and signatures.
fn settled(file: &str, types: &[&str], statements: &[Case], signatures: &[Signed]) {
    for kind in types {
        assert!(statements.iter().any(|case| kind.contains(&format!("/{}/", case.kind))), "{kind}");
    }
    let text = object(&[
        ("version", json(&VERSION)),
        ("kind", json(&"statements")),
        ("statements", list(statements.iter().map(json))),
        ("signatures", list(signatures.iter().map(json))),
    ]);
    settle(file, &text);
}

#[test]
fn envelopes_and_signatures() {
    let types = [
        Appointment::TYPE,
        Passport::TYPE,
        Request::TYPE,
        Allocation::TYPE,
        Grant::TYPE,
        Call::TYPE,
        Report::TYPE,
        ExecutionProof::TYPE,
    ];
    settled("statements.json", &types, &statements(samples()), &signatures());
}

#[test]
fn words_of_custody() {
    let mut statements = statements(custody::samples());
    for (kind, envelope) in custody::of_the_first() {
        statements.push(case(kind, "of a first key", envelope, true));
    }
    settled("statements-custody.json", &custody::TYPES, &statements, &[]);
}

//! `vectors/` of this repository: statements, grants and receipts, each with what a verifier must say of it, so that another
//! implementation can be held against this one. `vectors/README.md` describes the files. What is expected is what the code here
//! says, and beside it every case says whether it was meant to be good or bad: a lie that is believed fails the test.
//!
//! `UPDATE_EXPECT=1` writes the files anew. All keys are made from names and all times are fixed: the same code gives the same bytes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use legation_core::{
    Digest, Envelope, PublicKey, Receipt, RevocationList, Signer, TaskId,
    claims::{Anchors, Evidence},
    dsse, encoding,
    proven::{ProofItem, ProofState},
    receipt::{Invalid, Standing, Verdict},
};
use serde::Serialize;

use crate::{
    party::Party,
    world::{anchors, judge},
};

mod custody;
mod delegation;
mod federation;
mod file;
mod grants;
mod proofs;
mod single;
mod statements;
mod swarm;

const VERSION: &str = "legation-vectors/v1";

/// Largest file of vectors, in bytes.
const FILE_MAX: usize = 1 << 20;

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

/// A JSON object of ready-made values, one on each line.
fn object(fields: &[(&str, String)]) -> String {
    let lines: Vec<_> = fields.iter().map(|(name, value)| format!("{}:{value}", json(name))).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

fn lines(open: char, items: impl Iterator<Item = String>, close: char) -> String {
    format!("{open}\n{}\n{close}", items.collect::<Vec<_>>().join(",\n"))
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    lines('[', items.into_iter(), ']')
}

/// Compares what was generated with what is kept, or keeps it.
fn settle(name: &str, text: &str) {
    assert!(text.len() <= FILE_MAX, "{name}: {} bytes", text.len());
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors").join(name);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let line = kept.lines().zip(text.lines()).position(|(kept, made)| kept != made);
    assert!(kept == text, "{name}: not what is generated, from line {line:?} on (UPDATE_EXPECT=1 writes it anew)");
}

/// What is expected of a receipt.
#[derive(Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
enum Expected {
    Valid(Found),
    ValidButDevelopment(Found),
    Invalid { at: String, check: String },
}

#[derive(Serialize)]
struct Found {
    task: TaskId,
    completed: bool,
    anchors: Vec<String>,
    warnings: usize,
    /// The lines of the drawn tree: how far to the right, and which statement.
    tree: Vec<(usize, Digest)>,
    /// Reports that were to be proven, ascending, and how far that is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    proofs: BTreeMap<Digest, ProofState>,
}

impl From<Result<Verdict, Invalid>> for Expected {
    fn from(result: Result<Verdict, Invalid>) -> Self {
        match result {
            Ok(verdict) => {
                let tree = verdict.tree().iter().map(|branch| (branch.depth, branch.link.digest)).collect();
                let found = Found {
                    task: verdict.task,
                    completed: verdict.completed,
                    anchors: verdict.anchors.clone(),
                    warnings: verdict.warnings.len(),
                    tree,
                    proofs: verdict.executions.iter().filter_map(|ran| Some((ran.report, ran.proof?))).collect(),
                };
                match verdict.standing {
                    Standing::Valid => Self::Valid(found),
                    Standing::ValidButDevelopment => Self::ValidButDevelopment(found),
                }
            }
            Err(Invalid { at, why }) => Self::Invalid { at, check: why.check },
        }
    }
}

/// A receipt whose statements and evidence stand elsewhere in the file.
#[derive(Serialize)]
struct ByDigest {
    version: String,
    task: TaskId,
    revocations: u64,
    roots: Vec<Digest>,
    envelopes: Vec<Digest>,
    evidence: Vec<Digest>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    proofs: Vec<ProofItem>,
}

/// A list of revocations as it is saved to a file.
#[derive(Serialize)]
struct Revocations {
    list: Envelope,
    appointment: Envelope,
}

/// The text of another case's receipt, with the first occurrence of something replaced.
#[derive(Serialize)]
struct Edit {
    of: String,
    find: String,
    replace: String,
}

/// One case: of `receipt`, `text` and `edit`, one is there.
#[derive(Serialize)]
struct Case {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<ByDigest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    edit: Option<Edit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anchors: Option<Anchors>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revocations: Option<Revocations>,
    expected: Expected,
}

impl Case {
    fn new(name: &str, expected: Expected) -> Self {
        Self {
            name: name.to_owned(),
            receipt: None,
            text: None,
            edit: None,
            anchors: None,
            revocations: None,
            expected,
        }
    }
}

fn judged(text: &str) -> Expected {
    Receipt::from_text(text.as_bytes()).and_then(|read| read.verify(&anchors(), &judge())).into()
}

/// Cases about receipts, in one file. The statements of all of them stand in it once.
#[derive(Default)]
struct Receipts {
    envelopes: BTreeMap<Digest, Envelope>,
    evidence: BTreeMap<Digest, Evidence>,
    cases: Vec<Case>,
}

impl Receipts {
    fn add(&mut self, name: &str, case: Case, good: bool) {
        assert!(!self.cases.iter().any(|other| other.name == name), "{name} twice");
        match &case.expected {
            Expected::Invalid { at, check } => assert!(!good, "{name}: refused at {at} by {check}"),
            Expected::Valid(_) | Expected::ValidButDevelopment(_) => assert!(good, "{name}: believed"),
        }
        self.cases.push(case);
    }

    fn case(&mut self, name: &str, receipt: &Receipt, expected: Expected) -> Case {
        assert!(receipt.collateral.is_empty() && receipt.log.is_none(), "{name}: the file has no place for these");
        self.envelopes.extend(receipt.envelopes.iter().map(|e| (e.digest(), e.clone())));
        self.evidence.extend(receipt.evidence.iter().map(|e| (e.digest(), e.clone())));
        let by_digest = ByDigest {
            version: receipt.version.clone(),
            task: receipt.task,
            revocations: receipt.revocations.0,
            roots: receipt.roots.clone(),
            envelopes: receipt.envelopes.iter().map(Envelope::digest).collect(),
            evidence: receipt.evidence.iter().map(Evidence::digest).collect(),
            proofs: receipt.proofs.clone(),
        };
        Case { receipt: Some(by_digest), ..Case::new(name, expected) }
    }

    fn judged(&mut self, name: &str, receipt: &Receipt, good: bool) {
        let case = self.case(name, receipt, judged(&receipt.to_text()));
        self.add(name, case, good);
    }

    /// A receipt that is to be believed.
    fn good(&mut self, name: &str, receipt: &Receipt) {
        self.judged(name, receipt, true);
    }

    /// A receipt that is to be refused.
    fn bad(&mut self, name: &str, receipt: &Receipt) {
        self.judged(name, receipt, false);
    }

    /// A receipt for a reader who trusts others.
    fn under(&mut self, name: &str, receipt: &Receipt, anchors: Anchors, good: bool) {
        let expected = receipt.verify(&anchors, &judge()).into();
        let case = Case { anchors: Some(anchors), ..self.case(name, receipt, expected) };
        self.add(name, case, good);
    }

    /// A receipt for a reader who knows what is revoked; `appointment` is the manager's, and signs `list`.
    fn revoked(
        &mut self,
        name: &str,
        receipt: &Receipt,
        (mut list, appointment): (RevocationList, Envelope),
        good: bool,
    ) {
        list.prev = vec![appointment.digest()];
        let list = dsse::sign(list, &Party::new("manager"));
        let opened = RevocationList::open(list.envelope(), &appointment, &anchors().operators).unwrap();
        let expected = receipt.verify_with(&anchors(), &judge(), Some(opened.predicate())).into();
        let revocations = Some(Revocations { list: list.envelope().clone(), appointment });
        let case = Case { revocations, ..self.case(name, receipt, expected) };
        self.add(name, case, good);
    }

    /// A file that is no receipt, or not in the one spelling.
    fn text(&mut self, name: &str, text: &str) {
        let case = Case { text: Some(text.to_owned()), ..Case::new(name, judged(text)) };
        self.add(name, case, false);
    }

    /// The text of the receipt of the case `of`, with the first `find` in it replaced.
    fn edit(&mut self, name: &str, (of, receipt): (&str, &Receipt), find: &str, replace: &str) {
        let text = receipt.to_text();
        assert!(text.contains(find), "{name}: no {find}");
        let edit = Edit { of: of.to_owned(), find: find.to_owned(), replace: replace.to_owned() };
        let case = Case { edit: Some(edit), ..Case::new(name, judged(&text.replacen(find, replace, 1))) };
        self.add(name, case, false);
    }

    fn settle(&self, file: &str) {
        let envelopes = self.envelopes.iter().map(|(digest, envelope)| format!("\"{digest}\":{}", json(envelope)));
        let evidence = self.evidence.iter().map(|(digest, evidence)| format!("\"{digest}\":{}", json(evidence)));
        let text = object(&[
            ("version", json(&VERSION)),
            ("kind", json(&"receipts")),
            ("judge", json(&"believe")),
            ("anchors", json(&anchors())),
            ("envelopes", lines('{', envelopes, '}')),
            ("evidence", lines('{', evidence, '}')),
            ("cases", list(self.cases.iter().map(json))),
        ]);
        settle(file, &text);
    }
}

/// An envelope of any payload: `signer` signs it, under the name of `claimed`.
fn enveloped(payload: &[u8], signer: &Party, claimed: &PublicKey) -> Envelope {
    let pae = [format!("DSSEv1 28 application/vnd.in-toto+json {} ", payload.len()).as_bytes(), payload].concat();
    let (payload, sig) = (encoding::base64(payload), encoding::base64(&signer.sign(&pae).0));
    let keyid = claimed.id();
    let text = format!(
        r#"{{"payloadType":"application/vnd.in-toto+json","payload":"{payload}","signatures":[{{"keyid":"{keyid}","sig":"{sig}"}}]}}"#
    );
    serde_json::from_str(&text).unwrap()
}

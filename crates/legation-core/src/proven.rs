//! Proofs of execution beside a receipt: how they travel, what makes one good, and which reports still lack one.
//!
//! A proof comes after the report that it proves, when the receipt may have been given out already. So it is not among the
//! statements that results rest on: it is an item beside them, and adding it changes nothing else of the receipt.
//!
//! An item holds ([`check_item`]) when
//! 1. its statement is signed by the key that it names, and rests on exactly the report that it is about;
//! 2. it claims what that report says, of an execution that completed;
//! 3. the proof has the size and digest that the statement names;
//! 4. a judge who knows the program finds that the proof proves the claim ([`ExecutionJudge`]).
//!
//! Until an item is there the execution is attested. So it is where the reader's judge does not know the program: then nothing is
//! said against the proof, and nothing for it ([`is_unknown`]).
//!
//! This crate knows no proof system: the judge is an argument, as for evidence.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    dsse::{Envelope, Signed},
    encoding::b64,
    prefer::{DataTerms, Sensitivity},
    rejection::Rejection,
    statement::{Assurance, ExecutionClaim, ExecutionProof, Report},
    time::UnixTime,
};

/// Largest proof, in bytes. One of a million instructions has about 600,000.
pub const PROOF_MAX: usize = 8 << 20;
/// Most proofs beside one receipt.
pub const PROOFS_MAX: usize = 64;

/// A proof and the statement about it, as they travel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofItem {
    /// An [`ExecutionProof`], signed.
    pub statement: Envelope,
    /// The proof, as its program's judge reads it.
    #[serde(with = "b64")]
    pub proof: Vec<u8>,
}

/// Who can tell whether a proof is good.
pub trait ExecutionJudge {
    /// Whether `proof` proves that the program of this name ran to its end and made `public` public, and nothing else.
    /// Reads strangers' bytes: gives a refusal for every fault in them, in bounded memory and without a panic.
    ///
    /// # Errors
    /// `proof.program` for a program it does not know, `proof.bytes` for what is no proof, `proof.wrong` for a proof of
    /// something else or of nothing.
    fn judge(&self, program: &Digest, public: &Digest, proof: &[u8]) -> Result<(), Rejection>;
}

/// The judge of whoever cannot check proofs: refuses them all, so that none counts unchecked.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoJudge;

impl ExecutionJudge for NoJudge {
    fn judge(&self, program: &Digest, _public: &Digest, _proof: &[u8]) -> Result<(), Rejection> {
        Err(Rejection::new("proof.program", "program behind a proof of execution")
            .expected("one that this build can judge")
            .got(program)
            .fix("name a program that judges proofs: `legation receipt verify --prover`"))
    }
}

/// Whether a judge refused because it does not know the program: the proof was not looked at.
pub fn is_unknown(why: &Rejection) -> bool {
    why.check == "proof.program"
}

/// How far the proof of an execution is that was to be proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProofState {
    /// It is there, and was found good.
    Good,
    /// It is not there: the execution is attested.
    Awaited,
    /// It is there, of a program that its reader does not know: the execution is attested.
    NotJudged,
}

impl fmt::Display for ProofState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::Awaited => "awaited",
            Self::NotJudged => "not judged",
        })
    }
}

/// A report to be proven, with what its claim needs beside it.
#[derive(Clone, Copy, Debug)]
pub struct Proving<'a> {
    /// The report.
    pub report: &'a Signed<Report>,
    /// Arguments of its module.
    pub args: &'a [String],
    /// What the clocks of its module showed.
    pub clock: UnixTime,
}

fn bad(what: &str, claim: &str) -> Rejection {
    Rejection::new(&format!("proof.{what}"), claim.to_owned())
}

/// Opens the statement of an item: check 1 but for the report, which the caller finds by what it gives.
///
/// # Errors
/// `proof.size` or `proof.statement`.
pub fn open_item(item: &ProofItem) -> Result<Signed<ExecutionProof>, Rejection> {
    if item.proof.len() > PROOF_MAX {
        let got = format!("{} bytes", item.proof.len());
        return Err(bad("size", "size of a proof of execution")
            .expected(format!("at most {PROOF_MAX} bytes"))
            .got(got));
    }
    let signed = item.statement.open::<ExecutionProof>().map_err(|why| {
        bad("statement", "statement of a proof of execution").expected("one, signed by its prover").got(why)
    })?;
    if signed.prev != [signed.report] {
        return Err(bad("statement", "what a proof of execution rests on")
            .expected(format!("the report that it is about, {}", signed.report.short()))
            .got(signed.prev.iter().map(Digest::short).collect::<Vec<_>>().join(" ")));
    }
    Ok(signed)
}

/// Checks all of an item against the report that it is about; gives its statement.
///
/// # Errors
/// The first check of this module that fails.
pub fn check_item(
    item: &ProofItem,
    proving: &Proving<'_>,
    judge: &dyn ExecutionJudge,
) -> Result<Signed<ExecutionProof>, Rejection> {
    let signed = open_item(item)?;
    if signed.report != proving.report.digest() {
        return Err(bad("report", "report that a proof of execution is about")
            .expected(proving.report.digest())
            .got(signed.report));
    }
    let claim = ExecutionClaim::of(proving.report, proving.args, proving.clock)?;
    if let Some((what, expected, got)) = difference(&claim, &signed.claim) {
        return Err(bad("claim", &format!("{what} of a proof of execution"))
            .expected(format!("{expected}, as the report says"))
            .got(got)
            .fix("a proof holds for the one execution that it is of"));
    }
    let same = u64::try_from(item.proof.len()) == Ok(signed.size.0) && Digest::of(&item.proof) == signed.proof;
    if !same {
        return Err(bad("bytes", "proof beside its statement").expected(signed.proof).got(Digest::of(&item.proof)));
    }
    judge.judge(&signed.program, &claim.public_value(), &item.proof)?;
    Ok(signed)
}

/// What two claims differ in, first.
fn difference(ours: &ExecutionClaim, theirs: &ExecutionClaim) -> Option<(&'static str, String, String)> {
    let list = |digests: &[Digest]| digests.iter().map(Digest::short).collect::<Vec<_>>().join(" ");
    let one = |digest: Option<&Digest>| digest.map_or("none".to_owned(), Digest::to_string);
    let table = [
        ("module", ours.module.to_string(), theirs.module.to_string()),
        ("arguments", ours.args.to_string(), theirs.args.to_string()),
        ("seed", ours.seed.to_string(), theirs.seed.to_string()),
        ("clock", ours.clock.to_string(), theirs.clock.to_string()),
        ("output", one(ours.output.as_ref()), one(theirs.output.as_ref())),
    ];
    if let Some(found) = table.into_iter().find(|(_, ours, theirs)| ours != theirs) {
        return Some(found);
    }
    (ours.inputs != theirs.inputs).then(|| ("inputs", list(&ours.inputs), list(&theirs.inputs)))
}

/// Whether what is said of the data lets a proof of its processing leave the enclave. Proofs of execution convince, but hide
/// nothing: whoever has one may learn something of inputs and memory.
///
/// # Errors
/// `proof.sensitivity`.
pub fn may_be_proven(terms: &DataTerms) -> Result<(), Rejection> {
    if terms.sensitivity <= Sensitivity::Internal {
        return Ok(());
    }
    Err(bad("sensitivity", "sensitivity of the data of a proven execution")
        .expected("public or internal")
        .got(terms.sensitivity)
        .fix("a proof of execution does not hide its inputs: ask for replicas, or say that the data may be seen"))
}

/// Whether what is asked of a call can be kept with its data.
///
/// # Errors
/// `proof.sensitivity`, as [`may_be_proven`].
pub fn may_be_assured(assurance: Assurance, terms: &DataTerms) -> Result<(), Rejection> {
    if assurance == Assurance::Proven { may_be_proven(terms) } else { Ok(()) }
}

/// Which reports of a receipt were to be proven, and how far that is.
#[derive(Debug, Default)]
pub struct Ledger {
    owed: BTreeMap<Digest, ProofState>,
}

impl Ledger {
    /// Notes that `report` was asked to be proven.
    pub fn owe(&mut self, report: Digest) {
        self.owed.entry(report).or_insert(ProofState::Awaited);
    }

    /// How far the proof of `report` is; nothing where nobody asked for one.
    pub fn state(&self, report: &Digest) -> Option<ProofState> {
        self.owed.get(report).copied()
    }

    /// Notes that `report` is proven.
    ///
    /// # Errors
    /// `proof.superfluous` where nobody asked for it, or it has a proof already: an item that nobody needs has no place in a
    /// receipt.
    pub fn prove(&mut self, report: Digest) -> Result<(), Rejection> {
        self.came(report, ProofState::Good)
    }

    /// Notes that there is a proof of `report` which whoever reads could not judge.
    ///
    /// # Errors
    /// As [`Self::prove`].
    pub fn pass_over(&mut self, report: Digest) -> Result<(), Rejection> {
        self.came(report, ProofState::NotJudged)
    }

    fn came(&mut self, report: Digest, to: ProofState) -> Result<(), Rejection> {
        match self.owed.get_mut(&report) {
            Some(state) if *state == ProofState::Awaited => {
                *state = to;
                Ok(())
            }
            _ => Err(bad("superfluous", "proofs of one execution")
                .expected("one, of an execution that was to be proven")
                .got(format!("one more, of report {}", report.short()))),
        }
    }

    /// Reports that are proven, ascending.
    pub fn proven(&self) -> impl Iterator<Item = &Digest> {
        self.those(ProofState::Good)
    }

    /// Reports that are attested until their proof comes, ascending.
    pub fn awaited(&self) -> impl Iterator<Item = &Digest> {
        self.those(ProofState::Awaited)
    }

    fn those(&self, wanted: ProofState) -> impl Iterator<Item = &Digest> {
        self.owed.iter().filter(move |(_, state)| **state == wanted).map(|(report, _)| report)
    }

    /// For a reader who demands that everything that was to be proven is.
    ///
    /// # Errors
    /// `proof.awaited`, with the first report that is not proven.
    pub fn demand(&self) -> Result<(), Rejection> {
        let Some((report, state)) = self.owed.iter().find(|(_, state)| **state != ProofState::Good) else {
            return Ok(());
        };
        let why = bad("awaited", "proof of an execution that was to be proven")
            .expected(format!("a good one, of report {report}"));
        Err(match state {
            ProofState::NotJudged => why.got("one that was not judged: it is attested"),
            _ => why.got("none yet: it is attested").fix("wait until it is made, and export the receipt again"),
        })
    }
}

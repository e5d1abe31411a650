//! Receipts, offline: the judgement, and the chain as people read it.

use std::{fs::File, io::Read, path::Path};

use legation_attest::{Judge, Roots};
use legation_core::{
    Receipt, Rejection, RevocationList, Signed,
    claims::Anchors,
    proven::{ExecutionJudge, NoJudge, ProofState},
    receipt::{Demands, Invalid, RECEIPT_MAX, Standing, Verdict},
};
use legation_log::{
    Fork,
    receipt::{InLog, log_key},
};
use legation_manager::SignedRevocations;
use serde::Serialize;

use crate::exit::{Exit, Failure};

mod child;
mod judgement;
mod proofs;
mod prover;
mod tree;

pub use judgement::{Judgement, SCHEMA};
pub use proofs::{LeftOut, without, without_bad};
pub use prover::{PINNED, PROVER, ProverProgram, had_no_answer};
pub use tree::draw_tree;

/// A verdict on a receipt in words that programs read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Answer {
    /// The chain holds.
    Valid(Verdict),
    /// It does not.
    Invalid {
        /// First link that fails.
        at: String,
        /// Why.
        why: Rejection,
    },
}

/// What whoever reads a receipt brings along: what is trusted, what is known, what is demanded.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// Operators' roots, and development roots if any. Vendors' roots are built in.
    pub anchors: &'a Anchors,
    /// What is revoked, where that is known: [`read_revocations`].
    pub revocations: Option<&'a RevocationList>,
    /// Evidence against logs of the anchors. With any, a receipt must say which log it is in.
    pub forks: &'a [Fork],
    /// Whether a receipt is valid only when its statements are shown to be in a log of the anchors.
    pub logged: bool,
    /// What is demanded beside that the receipt is valid: [`read_demands`].
    pub demands: Option<&'a Demands>,
    /// Who judges proofs of executions, such as [`ProverProgram`]. Without it none is judged: what was to be proven is attested.
    pub proofs: Option<&'a (dyn ExecutionJudge + Sync)>,
}

impl<'a> Reader<'a> {
    /// A reader who trusts `anchors`, and neither knows nor demands anything more.
    pub fn new(anchors: &'a Anchors) -> Self {
        Self { anchors, revocations: None, forks: &[], logged: false, demands: None, proofs: None }
    }

    /// Judges the text of a receipt, offline.
    ///
    /// # Errors
    /// The anchors will not do, evidence convicts no log of theirs, or whoever judges proofs of executions gives no answer. An
    /// invalid receipt is a judgement, not an error.
    pub fn judge(&self, text: &[u8]) -> Result<Judgement, Failure> {
        self.check_forks()?;
        let roots = Roots::new(self.anchors).map_err(|why| Failure::refused(Exit::Usage, &why))?;
        let judge = Judge::new(roots);
        let held = Receipt::from_text(text).and_then(|receipt| self.hold(&receipt, &judge));
        Ok(match held {
            Ok((verdict, log)) => {
                let logged = matches!(log, InLog::Proven { .. });
                let unmet = self.demands.map_or_else(Vec::new, |demands| demands.unmet(&verdict, logged));
                Judgement { answer: Answer::Valid(verdict), log: Some(log), unmet }
            }
            // That nobody judged a proof says nothing of the receipt.
            Err(invalid) if had_no_answer(&invalid.why) => return Err(Failure::refused(Exit::Failure, &invalid.why)),
            Err(invalid) => invalid.into(),
        })
    }

    /// As [`Self::judge`], of the receipt in a file.
    ///
    /// # Errors
    /// The file cannot be read, or the anchors will not do.
    pub fn judge_file(&self, path: &Path) -> Result<Judgement, Failure> {
        match read_receipt(path)? {
            Ok(text) => self.judge(&text),
            Err(invalid) => Ok(invalid.into()),
        }
    }

    /// Evidence that is passed over in silence is worse than none: its reader believes that it was heeded.
    fn check_forks(&self) -> Result<(), Failure> {
        let keys: Vec<_> = self.anchors.logs.iter().filter_map(|log| log_key(log).ok()).collect();
        match self.forks.iter().position(|fork| !keys.iter().any(|key| fork.verify(key).is_ok())) {
            None => Ok(()),
            Some(place) => {
                let why = Rejection::new("fork.log", format!("evidence of a fork, number {}", place + 1))
                    .expected("what convicts a log that the anchors name")
                    .got("nothing against any of them")
                    .fix("`legation log verify FILE` says why; name the log in the anchors' `logs`");
                Err(Failure::refused(Exit::Usage, &why))
            }
        }
    }

    fn hold(&self, receipt: &Receipt, judge: &Judge) -> Result<(Verdict, InLog), Invalid> {
        let executions: &dyn ExecutionJudge = match self.proofs {
            Some(judge) => judge,
            None => &NoJudge,
        };
        let verdict = receipt.verify_proven(self.anchors, judge, executions, self.revocations)?;
        let log = legation_log::receipt::check(receipt, &self.anchors.logs, self.forks)?;
        if self.logged && !matches!(log, InLog::Proven { .. }) {
            let why = Rejection::new("receipt.log", "whether the statements are in a log")
                .expected("a `log` section, and a log of the anchors")
                .got("none")
                .fix("`legation log prove` adds it; `logs` in the anchors names logs");
            return Err(Invalid { at: "the log".to_owned(), why });
        }
        Ok((verdict, log))
    }
}

/// Reads the file of a receipt. A file that is larger than any receipt is refused by its size, before it is read; never is more
/// than the largest receipt in memory.
///
/// # Errors
/// The file cannot be read. What cannot be a receipt for its size is an answer, not an error.
pub fn read_receipt(path: &Path) -> Result<Result<Vec<u8>, Invalid>, Failure> {
    let failed = |e: std::io::Error| Failure::new(Exit::Unreadable, format!("cannot read {}: {e}", path.display()));
    let file = File::open(path).map_err(failed)?;
    if let Err(invalid) = Receipt::check_size(file.metadata().map_err(failed)?.len()) {
        return Ok(Err(invalid));
    }
    // A pipe says no size, and a file may grow: one byte too many is enough to refuse it.
    let most = u64::try_from(RECEIPT_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = Vec::new();
    let read = file.take(most).read_to_end(&mut text).map_err(failed)?;
    Ok(Receipt::check_size(u64::try_from(read).unwrap_or(u64::MAX)).map(|()| text))
}

/// Takes every development root out of what is trusted, of processors and of TPMs: what rests on one is not valid then.
pub fn production_only(anchors: &mut Anchors) {
    anchors.development.clear();
    anchors.tpm.retain(|root| !root.development);
}

/// Reads a reader's demands: JSON from a file whose name ends with `.json`, TOML from any other.
///
/// # Errors
/// The file cannot be read, or is not what it should be: unknown fields, lists that allow nothing, no demand at all.
pub fn read_demands(path: &Path) -> Result<Demands, Failure> {
    let wrong = |e: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("policy {}: {e}", path.display()));
    let file = File::open(path).map_err(|e| wrong(&e))?;
    let most = u64::try_from(legation_core::receipt::DEMANDS_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text).map_err(|e| wrong(&e))?;
    if path.extension().is_some_and(|end| end == "json") {
        return Demands::from_json(&text).map_err(|why| wrong(&why));
    }
    Demands::check_size(text.len()).map_err(|why| wrong(&why))?;
    let text = String::from_utf8(text).map_err(|e| wrong(&e))?;
    let demands: Demands = toml::from_str(&text).map_err(|e| wrong(&e))?;
    demands.validate().map_err(|why| wrong(&why))?;
    Ok(demands)
}

/// What the log says of a valid receipt in one line, where there is something to say.
pub fn log_line(found: &InLog) -> Option<String> {
    match found {
        InLog::NotAsked => None,
        InLog::Absent => {
            Some("log: the receipt does not show that its statements are in a log (`legation log prove`)".to_owned())
        }
        InLog::Proven { origin, size, entries, witnesses } => {
            let names: Vec<_> = witnesses.iter().map(|(name, at)| format!("{name} at {at}")).collect();
            let by = if names.is_empty() { "no witness".to_owned() } else { names.join(", ") };
            Some(format!(
                "log: {entries} statements are among the first {size} of {origin}, cosigned by {by}; they bind the others"
            ))
        }
    }
}

/// How far the proofs are of executions that were to be proven, in one line; nothing where none was.
pub fn proof_line(verdict: &Verdict) -> Option<String> {
    let counted = [ProofState::Good, ProofState::Awaited, ProofState::NotJudged].map(|state| {
        let count = verdict.executions.iter().filter(|ran| ran.proof == Some(state)).count();
        (count > 0).then(|| format!("{count} {state}"))
    });
    let said: Vec<String> = counted.into_iter().flatten().collect();
    if said.is_empty() { None } else { Some(format!("proofs of execution: {}", said.join(", "))) }
}

/// Reads a list of revocations as `legation revocations save` wrote it.
///
/// # Errors
/// It is not one, or nobody of `anchors` stands behind it.
pub fn read_revocations(text: &[u8], anchors: &Anchors) -> Result<Signed<RevocationList>, Failure> {
    let SignedRevocations { list, appointment } = serde_json::from_slice(text)
        .map_err(|e| Failure::new(Exit::Usage, format!("not a saved list of revocations: {e}")))?;
    RevocationList::open(list.envelope(), appointment.envelope(), &anchors.operators)
        .map_err(|why| Failure::refused(Exit::Usage, &why))
}

/// Verifies the text of a receipt, trusting only `anchors` and the vendors' roots; against what is revoked, where that is
/// known. [`Reader`] asks more.
///
/// # Errors
/// The anchors will not do. An invalid receipt is an answer, not an error.
pub fn verify(text: &[u8], anchors: &Anchors, revocations: Option<&RevocationList>) -> Result<Answer, Failure> {
    Ok(Reader { revocations, ..Reader::new(anchors) }.judge(text)?.answer)
}

/// The last line of everything that verifies a receipt.
pub fn last_line(answer: &Answer) -> String {
    match answer {
        Answer::Valid(verdict) => {
            let what = if verdict.completed { "completed" } else { "failed" };
            let anchors = verdict.anchors.join(", ");
            match verdict.standing {
                Standing::Valid => format!("receipt valid: task {} {what}; anchors {anchors}", verdict.task.short()),
                Standing::ValidButDevelopment => format!(
                    "receipt valid (development: proves the protocol, not confidentiality): task {} {what}; anchors {anchors}",
                    verdict.task.short()
                ),
            }
        }
        Answer::Invalid { at, why } => format!("receipt INVALID at {at}: {why}"),
    }
}

/// Lists the chain: every link with what it says, and what it rests on.
pub fn draw(verdict: &Verdict) -> String {
    let places: std::collections::BTreeMap<_, _> =
        verdict.links.iter().zip(1_usize..).map(|(link, place)| (link.digest, place)).collect();
    let mut out = String::new();
    for (place, link) in (1..).zip(&verdict.links) {
        let rests: Vec<String> = link.prev.iter().filter_map(|p| places.get(p)).map(usize::to_string).collect();
        let rests = if rests.is_empty() { String::new() } else { format!("  <- {}", rests.join(" ")) };
        out.push_str(&format!("{place:>4}  {:<11} {}  {}{rests}\n", link.kind, link.digest.short(), link.says));
    }
    out
}

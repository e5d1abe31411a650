//! What comes with a report that used answers of enclaves that were lent: the answers, the calls, and the grants by which each
//! enclave passed its right on. No manager has seen any of it before; a receipt needs all of it.
//!
//! Signatures are checked here, where reports arrive. What the statements say is judged by the pool (`report/answers.rs`), which
//! also wants the passports behind the answers: whoever drives it reads them from the journal ([`Pool::proofs_named`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use legation_core::{
    Digest, Envelope, LeaseId, Predicate, Rejection, Signed, TaskId,
    delegation::Call,
    statement::{Grant, Passport, Report},
};
use serde::{Deserialize, Serialize};

use crate::{brief::Brief, pool::Pool, task::Task};

/// Most statements that come with one report.
pub const ATTACHED_MAX: usize = 4096;
/// Most bytes of them that were signed: in base64, with the report, they travel in one control message.
pub const ATTACHED_BYTES_MAX: usize = 640 << 10;
/// Most statements that come with all reports of one task: with everything else, a receipt has room for them.
pub const TASK_ATTACHED_MAX: u64 = 49_152;
/// Most bytes of those that were signed: in base64, with everything else, they fit into a receipt.
pub const TASK_ATTACHED_BYTES_MAX: u64 = 24 << 20;

/// How much came with reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Carried {
    /// Statements.
    statements: u64,
    /// Bytes of them that were signed.
    bytes: u64,
}

impl Carried {
    /// That of these.
    pub(crate) fn of(envelopes: &[Envelope]) -> Self {
        let bytes = envelopes.iter().map(|envelope| envelope.payload().len() as u64).sum();
        Self { statements: envelopes.len() as u64, bytes }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            statements: self.statements.saturating_add(other.statements),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn fits(self) -> bool {
        self.statements <= TASK_ATTACHED_MAX && self.bytes <= TASK_ATTACHED_BYTES_MAX
    }

    /// Whether one more report may come with as much as a report may.
    pub(crate) fn leaves_room(self) -> bool {
        self.plus(Self { statements: ATTACHED_MAX as u64, bytes: ATTACHED_BYTES_MAX as u64 }).fits()
    }
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.statements, self.bytes)
    }
}

/// The statements that came with a report, each once, with their signatures checked.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    pub(crate) envelopes: Vec<Envelope>,
    pub(crate) answers: BTreeMap<Digest, Signed<Report>>,
    pub(crate) calls: BTreeMap<Digest, Signed<Call>>,
    pub(crate) grants: BTreeMap<Digest, Signed<Grant>>,
    pub(crate) passports: BTreeMap<Digest, Signed<Passport>>,
}

fn bad(claim: &str) -> Rejection {
    Rejection::new("report.attached", claim.to_owned())
}

fn open<P: Predicate>(envelope: &Envelope, into: &mut BTreeMap<Digest, Signed<P>>) -> Result<(), Rejection> {
    let signed = envelope.open::<P>().map_err(|e| bad("signature of a statement that came with the report").got(e))?;
    into.insert(envelope.digest(), signed);
    Ok(())
}

impl Attached {
    /// Opens what came with a report.
    ///
    /// # Errors
    /// `report.attached`: too many or too large, a signature that is none, or a statement of another kind.
    pub fn open(envelopes: Vec<Envelope>) -> Result<Self, Rejection> {
        let bytes: usize = envelopes.iter().map(|envelope| envelope.payload().len()).sum();
        if envelopes.len() > ATTACHED_MAX || bytes > ATTACHED_BYTES_MAX {
            return Err(bad("statements that came with the report")
                .expected(format!("at most {ATTACHED_MAX}, of {ATTACHED_BYTES_MAX} bytes in all"))
                .got(format!("{} of {bytes} bytes", envelopes.len()))
                .fix("hand on fewer and larger parts"));
        }
        let (mut opened, mut seen) = (Self::default(), BTreeSet::new());
        for envelope in envelopes {
            if !seen.insert(envelope.digest()) {
                continue;
            }
            let kind = envelope.predicate_type().map_err(|e| bad("a statement that came with the report").got(e))?;
            match kind.as_str() {
                Report::TYPE => open(&envelope, &mut opened.answers)?,
                Call::TYPE => open(&envelope, &mut opened.calls)?,
                Grant::TYPE => open(&envelope, &mut opened.grants)?,
                other => {
                    return Err(bad("kind of a statement that came with the report")
                        .expected("an answer, a call, or a grant by an enclave")
                        .got(other));
                }
            }
            opened.envelopes.push(envelope);
        }
        Ok(opened)
    }

    /// Whether nothing came.
    pub fn is_empty(&self) -> bool {
        self.envelopes.is_empty()
    }

    /// Whether it fits into the receipt of its task, with what came with other reports.
    pub(crate) fn check_room(&self, task: &Task) -> Result<(), Rejection> {
        let all = task.attached().plus(Carried::of(&self.envelopes));
        if self.is_empty() || all.fits() {
            return Ok(());
        }
        Err(bad("statements that came with the reports of one task")
            .expected(format!("at most {TASK_ATTACHED_MAX}, of {TASK_ATTACHED_BYTES_MAX} bytes in all"))
            .got(all)
            .fix("hand on fewer and larger parts"))
    }

    /// The passports that the answers rest on, by loan.
    pub fn passports_wanted(&self) -> Vec<(LeaseId, Digest)> {
        let named = self.answers.values().filter_map(|answer| Some((answer.lease, *answer.prev.get(1)?)));
        let named: BTreeSet<_> = named.collect();
        named.into_iter().collect()
    }

    /// Takes the passports that the answers rest on, as the journal has them.
    pub fn prove(&mut self, passports: impl IntoIterator<Item = Signed<Passport>>) {
        self.passports.extend(passports.into_iter().map(|passport| (passport.digest(), passport)));
    }
}

impl Task {
    /// How much came with its reports that were taken.
    pub(crate) fn attached(&self) -> Carried {
        let done = self.fragments.iter().filter_map(|fragment| fragment.done.as_ref()?.answers.as_deref());
        done.map(|answers| answers.carried).fold(Carried::default(), Carried::plus)
    }
}

impl Pool {
    /// Where the passports are that answers under loans of a task name, as far as they are known.
    pub fn proofs_named(&self, task: TaskId, named: &[(LeaseId, Digest)]) -> Vec<Brief> {
        named.iter().filter_map(|(loan, passport)| self.lender_proof(task, *loan, *passport)).cloned().collect()
    }

    /// A proof that an enclave had while it was lent, by its passport.
    pub(crate) fn lender_proof(&self, task: TaskId, loan: LeaseId, passport: Digest) -> Option<&Brief> {
        self.tasks.get(&task)?.lending.as_deref()?.loan(loan)?.proofs.get(&passport)
    }
}

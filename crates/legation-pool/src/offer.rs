//! What an offer and a receipt are made of, taken from the pool's books.

use std::sync::Arc;

use legation_core::{
    Digest, DigestWriter, Envelope, LeaseId, Receipt, Rejection, Seq, Signed, TaskId, Term,
    claims::{CollateralItem, Evidence},
    statement::{Allocation, Appointment, Grant, Outcome, Report, Request},
    task::WrappedKey,
};
use serde::{Deserialize, Serialize};

use crate::{
    archive::Archive,
    brief::{Brief, Proof, RECORD},
    event::Event,
    pool::Pool,
    task::{Done, Task, unknown},
};

/// Everything an enclave needs to judge and run a fragment.
#[derive(Clone, Debug)]
pub struct OfferParts {
    /// Term of the manager.
    pub term: Term,
    /// Position of the pool when the offer was made.
    pub seq: Seq,
    /// The promise.
    pub allocation: Signed<Allocation>,
    /// The appointment of the manager that made it.
    pub appointment: Arc<Signed<Appointment>>,
    /// The request.
    pub request: Arc<Signed<Request>>,
    /// Grants for this fragment on this enclave.
    pub grants: Vec<Signed<Grant>>,
    /// Keys of the inputs, wrapped to this enclave, in order.
    pub keys: Vec<WrappedKey>,
    /// Reports behind the inputs, in order.
    pub upstream: Vec<UpstreamParts>,
}

/// A report with what makes it believable.
#[derive(Clone, Debug)]
pub struct UpstreamParts {
    /// The report.
    pub report: Signed<Report>,
    /// Where the passport of its enclave is, and the appointment of its verifier.
    pub proof: Brief,
}

/// Statements that a record of the journal has whole, and the pool by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// The record.
    pub at: Seq,
    /// SHA-256 over the digests of its statements, in order.
    pub digest: Digest,
}

impl Recorded {
    pub(crate) fn of<'a>(at: Seq, statements: impl IntoIterator<Item = &'a Envelope>) -> Self {
        let mut digest = DigestWriter::new();
        statements.into_iter().for_each(|statement| digest.update(statement.digest().as_bytes()));
        Self { at, digest: digest.finish() }
    }

    /// The statements, as the journal has them.
    ///
    /// # Errors
    /// `archive.record`: the record is not there, or is another.
    fn whole<A: Archive + ?Sized>(&self, archive: &A) -> Result<Vec<Envelope>, Rejection> {
        let statements: Vec<Envelope> = match archive.record(self.at).map(|record| &record.event) {
            Some(Event::Lent { allocation, .. }) => vec![allocation.envelope().clone()],
            Some(Event::Reported { attached, .. }) => attached.clone(),
            Some(Event::Proved { statement, .. }) => vec![statement.envelope().clone()],
            _ => Vec::new(),
        };
        if Self::of(self.at, &statements) == *self {
            return Ok(statements);
        }
        Err(Rejection::new(RECORD, format!("statements in record {} of the journal", self.at.0))
            .expected(self.digest)
            .got("none, or others")
            .fix("the journal lacks what it held, or was changed: restore it from a backup"))
    }
}

/// What the pool's books have for a receipt, and where the rest is.
#[derive(Clone, Debug, Default)]
pub struct ReceiptOutline {
    /// Statements that give the results.
    pub roots: Vec<Digest>,
    /// Statements of this task, without passports.
    pub envelopes: Vec<Envelope>,
    /// Proofs behind its reports, each once.
    pub proofs: Vec<Brief>,
    /// What its reports rest on of calls to enclaves that were lent.
    pub records: Vec<Recorded>,
    /// Statements about proofs of what those ran, ascending by report.
    pub executions: Vec<Recorded>,
}

impl ReceiptOutline {
    /// Positions of the records that [`Self::whole`] looks at.
    pub fn positions(&self) -> Vec<Seq> {
        let proofs = self.proofs.iter().flat_map(Brief::positions);
        proofs.chain(self.records.iter().chain(&self.executions).map(|record| record.at)).collect()
    }

    /// With the proofs, whole.
    ///
    /// # Errors
    /// As [`Brief::whole`].
    pub fn whole<A: Archive + ?Sized>(self, archive: &A) -> Result<ReceiptParts, Rejection> {
        let Self { roots, envelopes, proofs, records, executions } = self;
        let mut parts = ReceiptParts { roots, envelopes, ..ReceiptParts::default() };
        for record in records {
            parts.envelopes.extend(record.whole(archive)?);
        }
        for record in executions {
            parts.executions.extend(record.whole(archive)?);
        }
        for proof in proofs {
            let Proof { passport, appointment, evidence, collateral } = proof.whole(archive)?;
            parts.envelopes.extend([passport.envelope().clone(), appointment.envelope().clone()]);
            parts.evidence.push(evidence);
            parts
                .collateral
                .extend(collateral.into_iter().filter(|item| !parts.collateral.contains(item)).collect::<Vec<_>>());
        }
        Ok(parts)
    }
}

/// Everything a receipt is assembled from.
#[derive(Clone, Debug, Default)]
pub struct ReceiptParts {
    /// Statements that give the results.
    pub roots: Vec<Digest>,
    /// Statements of this task.
    pub envelopes: Vec<Envelope>,
    /// Evidence behind its passports.
    pub evidence: Vec<Evidence>,
    /// Collateral behind its passports.
    pub collateral: Vec<CollateralItem>,
    /// Statements about proofs of executions, ascending by report. The proofs are the objects that they name.
    pub executions: Vec<Envelope>,
}

impl Pool {
    /// The offer of a lease that is ready.
    ///
    /// # Errors
    /// The lease is gone, was not offered, or something is missing.
    pub fn offer(&self, id: LeaseId) -> Result<OfferParts, Rejection> {
        let gone = || Rejection::new("pool.lease", format!("{id}")).expected("a live lease").got("none");
        let lease = self.leases.get(&id).filter(|l| l.offered).ok_or_else(gone)?;
        let task = self.tasks.get(&lease.fragment.task).ok_or_else(gone)?;
        let index = lease.fragment.index;
        let fragment = task.request.fragment(index).ok_or_else(gone)?;
        let recipient = self.known(lease.enclave)?.sealing();
        let objects = task.objects(fragment).ok_or_else(gone)?;
        let keys =
            objects.iter().map(|o| task.key_for(*o, recipient).cloned().ok_or_else(gone)).collect::<Result<_, _>>()?;
        let state = task.fragments.get(index.0 as usize).ok_or_else(gone)?;
        let allocation = state.allocations.iter().find(|a| a.lease == id).ok_or_else(gone)?.clone();
        let upstream = fragment
            .upstream()
            .filter_map(|up| task.done(up))
            .map(|done| UpstreamParts { report: done.report.clone(), proof: done.proof.clone() })
            .collect();
        Ok(OfferParts {
            term: self.term,
            seq: self.seq,
            // Of the manager that allocated, which may be one before this one.
            appointment: self.manager_of(&allocation).ok_or_else(gone)?.clone(),
            allocation,
            request: task.request.clone(),
            grants: task.grants_at(index, lease.enclave, self.at),
            keys,
            upstream,
        })
    }

    /// What this pool can contribute to the receipt of a task: its own statements. What the request builds on (statements of
    /// earlier tasks) comes from the receipts of those tasks, which the client has.
    ///
    /// # Errors
    /// The task is unknown or not at its end.
    pub fn receipt_outline(&self, id: TaskId) -> Result<ReceiptOutline, Rejection> {
        let task = self.tasks.get(&id).ok_or_else(|| unknown(id))?;
        let mut parts = ReceiptOutline { envelopes: vec![task.request.envelope().clone()], ..Default::default() };
        parts.envelopes.extend(self.managers.iter().chain(&self.manager).map(|a| a.envelope().clone()));
        parts.envelopes.extend(task.grants.iter().map(|g| g.envelope().clone()));
        for state in &task.fragments {
            parts.envelopes.extend(state.allocations.iter().map(|a| a.envelope().clone()));
            let Some(done) = &state.done else { continue };
            parts.envelopes.push(done.report.envelope().clone());
            parts.envelopes.extend(done.aggregate.iter().map(|a| a.envelope().clone()));
            for proof in done.proofs() {
                if parts.proofs.iter().all(|known: &Brief| known.passport != proof.passport) {
                    parts.proofs.push(proof.clone());
                }
            }
            parts.records.extend(done.answers.iter().flat_map(|answers| answers.records.iter().copied()));
        }
        if let Some(swarm) = &task.swarm {
            for round in &swarm.rounds {
                parts.envelopes.push(round.seating.envelope().clone());
                parts.envelopes.extend(round.memberships.iter().map(|m| m.envelope().clone()));
            }
            let known = |proof: &&Brief| parts.proofs.iter().all(|known| known.passport != proof.passport);
            let more: Vec<_> = swarm.proofs.values().filter(known).cloned().collect();
            parts.proofs.extend(more);
        }
        parts.executions = task.proofs_there().collect();
        parts.roots = roots(task);
        if parts.roots.is_empty() {
            return Err(Rejection::new("receipt.nothing", format!("task {}", id.short()))
                .expected("a task with results")
                .got(format!("{:?}", task.state))
                .fix("wait until it has ended"));
        }
        Ok(parts)
    }

    /// The receipt of a task that builds on no other, without proofs of executions: their bytes are not in the journal.
    ///
    /// # Errors
    /// As [`Self::receipt_outline`] and [`Brief::whole`]; or the task builds on others, so that its client must assemble the
    /// receipt.
    pub fn receipt<A: Archive + ?Sized>(&self, id: TaskId, archive: &A) -> Result<Receipt, Rejection> {
        let parts = self.receipt_outline(id)?.whole(archive)?;
        Receipt::assemble(id, self.revoked.epoch(), parts.roots, parts.envelopes, parts.evidence, parts.collateral)
    }
}

/// Statements that give a task's results, in the order of the fragments; of a failed task, the reports that failed.
fn roots(task: &Task) -> Vec<Digest> {
    let statement = |done: &Done| done.aggregate.as_ref().map_or(done.report.digest(), Signed::digest);
    let results: Option<Vec<_>> = task.request.results().into_iter().map(|i| task.done(i).map(statement)).collect();
    let failed =
        || task.fragments.iter().filter_map(|f| f.done.as_ref()).filter(|d| d.report.outcome != Outcome::Completed);
    match results {
        Some(results) if failed().next().is_none() => results,
        _ => failed().map(statement).collect(),
    }
}

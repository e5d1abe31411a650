//! Loans as people see them.

use legation_core::{
    EnclaveId, FragmentIndex, LeaseId, MicroUsd, ProviderId, Region, TaskId, UnixTime, swarm::SeatDemand,
};
use serde::{Deserialize, Serialize};

use super::Loan;
use crate::{event::LeaseEnd, pool::Pool, task::Task};

/// A loan as people see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LoanView {
    /// The promise.
    pub lease: LeaseId,
    /// The fragment that it is for.
    pub fragment: FragmentIndex,
    /// The borrower.
    pub borrower: EnclaveId,
    /// The borrower's own promise.
    pub of: LeaseId,
    /// Which of the loans under that, counted from 1.
    pub number: u32,
    /// How deep: 1 for a loan to the enclave of the fragment.
    pub depth: u32,
    /// Who is lent.
    pub enclave: EnclaveId,
    /// Its owner.
    pub provider: ProviderId,
    /// Its place.
    pub region: Region,
    /// What is set aside; the time is for one call.
    pub demand: SeatDemand,
    /// One hour of it.
    pub price_hour: MicroUsd,
    /// Why this one.
    pub decided_by: String,
    /// Since when.
    pub from: UnixTime,
    /// Until when at the latest; of one that ended, until when.
    pub until: UnixTime,
    /// Why it ended, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<LeaseEnd>,
    /// What it cost, if it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged: Option<MicroUsd>,
}

impl LoanView {
    pub(super) fn of(lease: LeaseId, loan: &Loan) -> Self {
        let said = loan.allocation.predicate();
        Self {
            lease,
            fragment: said.fragment,
            borrower: loan.terms.borrower,
            of: loan.terms.of,
            number: loan.terms.number,
            depth: loan.depth,
            enclave: loan.enclave,
            provider: said.provider.clone(),
            region: said.region.clone(),
            demand: loan.terms.demand,
            price_hour: said.price_hour,
            decided_by: said.why.decided_by.clone(),
            from: said.from,
            until: said.until,
            ended: None,
            charged: None,
        }
    }

    /// The loans of a task: the last that ended, then those that live.
    pub(crate) fn all(task: &Task) -> Vec<Self> {
        let Some(lending) = task.lending.as_deref() else { return Vec::new() };
        let live = lending.live.iter().map(|(id, loan)| Self::of(*id, loan));
        lending.ended.iter().cloned().chain(live).collect()
    }
}

impl Pool {
    /// The loans of a task: the last that ended, then those that live.
    pub fn loan_views(&self, task: TaskId) -> Vec<LoanView> {
        self.tasks.get(&task).map(LoanView::all).unwrap_or_default()
    }
}

//! What the two sides of a loan are told.

use std::sync::Arc;

use legation_core::{
    EnclaveId, LeaseId, Rejection, Seq, Signed, Term,
    requirement::Candidate,
    statement::{Allocation, Appointment, Request},
};

use super::{Loan, refuse};
use crate::{brief::Brief, enclave::Enclave, pool::Pool, task::Task};

/// Everything that one side of a loan needs to judge it, and the other.
#[derive(Clone, Debug)]
pub struct LoanParts {
    /// Term of the manager.
    pub term: Term,
    /// Position of the pool.
    pub seq: Seq,
    /// The manager's word on who is lent to whom.
    pub allocation: Signed<Allocation>,
    /// The appointment of the manager that lent.
    pub appointment: Arc<Signed<Appointment>>,
    /// The request.
    pub request: Arc<Signed<Request>>,
    /// The borrower's own promise.
    pub borrower: Signed<Allocation>,
    /// Where the passport of the other side is, with the appointment of its verifier. Its address is in the passport.
    pub other: Brief,
}

impl Pool {
    /// What `reader`, one side of a loan, is told.
    ///
    /// # Errors
    /// `pool.lease`: the loan is over, or not this one's.
    pub fn loan_parts(&self, id: LeaseId, reader: EnclaveId) -> Result<LoanParts, Rejection> {
        let gone = || {
            let side = format!("a loan that lives, of or to enclave {}", reader.short());
            refuse("pool.lease", "a loan").expected(side).got(id)
        };
        let (of, loan) = self.loan(id).ok_or_else(gone)?;
        let other = match reader {
            lender if lender == loan.enclave => loan.terms.borrower,
            borrower if borrower == loan.terms.borrower => loan.enclave,
            _ => return Err(gone()),
        };
        let task = self.tasks.get(&of).ok_or_else(gone)?;
        let other = self.enclaves.get(&other).ok_or_else(gone)?;
        Ok(LoanParts {
            term: self.term,
            seq: self.seq,
            appointment: self.manager_of(&loan.allocation).ok_or_else(gone)?.clone(),
            allocation: loan.allocation.clone(),
            request: task.request.clone(),
            borrower: self.borrowers_promise(task, loan).ok_or_else(gone)?.clone(),
            other: self.proof_of_side(task, loan, other).clone(),
        })
    }

    fn borrowers_promise<'a>(&'a self, task: &'a Task, loan: &Loan) -> Option<&'a Signed<Allocation>> {
        if let Some((_, above)) = self.loan(loan.terms.of) {
            return Some(&above.allocation);
        }
        let index = usize::try_from(loan.allocation.fragment.0).ok()?;
        task.fragments.get(index)?.allocations.iter().rev().find(|a| a.lease == loan.terms.of)
    }

    /// The freshest proof of one side that its tenant may rely on and that satisfies request, fragment, and grants.
    fn proof_of_side<'a>(&self, task: &Task, loan: &Loan, side: &'a Enclave) -> &'a Brief {
        let index = loan.allocation.fragment;
        let root = self.leases.get(&loan.root).map_or(loan.terms.borrower, |root| root.enclave);
        let passed = self.passed_on(task, (index, root), loan.depth, self.at).unwrap_or_default();
        let granted = passed.iter().filter_map(|(_, delegable)| delegable.require.as_ref());
        let own = task.request.fragment(index).map(|fragment| &fragment.require);
        let all: Vec<_> = std::iter::once(&task.request.require).chain(own).chain(granted).collect();
        let good = |proof: &&Brief| {
            let candidate = Candidate { passport: proof.typical(), price_hour: loan.allocation.price_hour };
            all.iter().all(|require| require.check(&candidate).is_ok())
        };
        let mut held = side.proofs.for_tenant(&task.request.tenant, self.at);
        held.find(good).or_else(|| side.proofs.for_tenant(&task.request.tenant, self.at).next()).unwrap_or(side.proof())
    }
}

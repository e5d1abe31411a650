//! Enclaves that are lent.

use legation_core::{
    Digest, FragmentId, LeaseId, MicroUsd, Rejection, Term, statement::Allocation, swarm::SeatDemand, task::Demand,
};

use super::{HistoryFacts, LeaseFacts, bad, unless};
use crate::event::LeaseEnd;

impl HistoryFacts {
    /// A loan is for a promise that lives, of the enclave that borrows, and no longer.
    pub(super) fn lent(&mut self, allocation: &Allocation, name: Digest, term: Term) -> Result<(), Rejection> {
        let leads = self.terms.last().is_some_and(|t| t.manager == allocation.manager && t.term == allocation.term);
        unless(leads && allocation.term == term, || {
            bad("history.allocation", "manager and term of a loan")
                .expected(format!("those that lead, term {}", term.0))
                .got(format!("{} in term {}", allocation.manager.id().short(), allocation.term.0))
        })?;
        let (id, enclave) = (allocation.lease, allocation.enclave);
        let fragment = FragmentId { task: allocation.task, index: allocation.fragment };
        self.live(fragment.task)?;
        let wrong = |expected: &str| Err(bad("history.loan", format!("{id}")).expected(expected));
        let Some(terms) = allocation.loan.filter(|_| allocation.seat.is_none()) else {
            return wrong("a loan to somebody, in no seat");
        };
        let for_it = self.leases.get(&terms.of).filter(|of| of.ended.is_none() && of.fragment == fragment);
        let Some(of) = for_it.filter(|of| of.enclave == terms.borrower && enclave != terms.borrower) else {
            return wrong("for a promise that lives, of the borrower, by another");
        };
        if allocation.until > of.until || allocation.prev.get(2) != Some(&of.allocation) {
            return wrong("no longer than what it is for, which it rests on");
        }
        let (under, made) = self.loans.entry(terms.of).or_default();
        *made = made.saturating_add(1);
        if terms.number != *made || !under.insert(id) {
            return wrong("counted by one, from 1");
        }
        self.count(id)?;
        let SeatDemand { cpu, memory, gpus, time } = terms.demand;
        let demand = Demand { cpu, memory, gpus, time, ..Demand::default() };
        let Some(book) = self.enclaves.get_mut(&enclave).filter(|book| !book.revoked) else {
            return Err(bad("history.allocation", "an enclave that is lent")
                .expected("one that attested, not revoked")
                .got(enclave));
        };
        book.held.insert(id, (demand, allocation.until));
        book.within(enclave)?;
        self.leaves_booked(enclave)?;
        let facts = LeaseFacts {
            made: self.last,
            term,
            fragment,
            enclave,
            ended: None,
            allocation: name,
            seat: None,
            until: allocation.until,
            of: Some(terms.of),
        };
        self.leases.insert(id, facts);
        Ok(())
    }

    /// What is lent under a promise is given back before that ends.
    pub(super) fn nothing_lent_under(&self, id: LeaseId) -> Result<(), Rejection> {
        let lent = self.loans.get(&id).map_or(0, |(under, _)| under.len());
        unless(lent == 0, || {
            bad("history.loan", format!("loans under {id}, which ends")).expected("none: all were given back").got(lent)
        })
    }

    /// A promise ended: one that was a loan is no longer among those of what it was for.
    pub(super) fn returned(&mut self, id: LeaseId, lease: &LeaseFacts) {
        if let Some((under, _)) = lease.of.and_then(|of| self.loans.get_mut(&of)) {
            under.remove(&id);
        }
        self.loans.remove(&id);
    }

    /// Who misled the enclave of a promise was lent for that.
    pub(super) fn misled(&self, id: LeaseId, why: &LeaseEnd) -> Result<(), Rejection> {
        let LeaseEnd::Misled { by, .. } = why else { return Ok(()) };
        let lent = self.leases.values().any(|facts| facts.of == Some(id) && facts.enclave == *by);
        unless(lent, || {
            bad("history.loan", format!("who misled the enclave of {id}")).expected("one that was lent to it").got(by)
        })
    }

    /// Loans are paid for when they end, and nothing else that ends without a result is.
    pub(super) fn paid(&mut self, lease: &LeaseFacts, charged: Option<MicroUsd>) -> Result<(), Rejection> {
        unless(lease.of.is_some() == charged.is_some(), || {
            bad("history.loan", "what a promise that ended cost").expected("something exactly of a loan")
        })?;
        let Some(charged) = charged else { return Ok(()) };
        let task = self.live(lease.fragment.task)?;
        task.charged = task.charged.saturating_add(charged);
        let (charged, budget) = (task.charged, task.budget);
        unless(charged <= budget, || {
            bad("history.budget", format!("what task {} was charged", lease.fragment.task.short()))
                .expected(budget)
                .got(charged)
        })
    }
}

//! What may be handed on, and what of it is spent or set aside.
//!
//! Spent is: what calls used; the whole demand of calls that run, and of calls of which nobody said that they did not run; and
//! what enclaves that are lent may hand on in turn. The last is known when a loan is over, where every call of it was reported.
//! So whatever those below do, the sums that pool and receipts hold against grants are within them.

use super::loan::Loan;
use crate::delegation::{Sum, judge::Tally};

pub(super) struct Purse {
    most: Sum,
    spent: Sum,
}

impl Purse {
    /// With so much in it, of which so much was spent before.
    pub(super) fn new(most: Sum, spent: Sum) -> Self {
        Self { most, spent }
    }

    pub(super) fn most(&self) -> Sum {
        self.most
    }

    pub(super) fn left(&self) -> Sum {
        self.most.minus(self.spent)
    }

    pub(super) fn spend(&mut self, more: Sum) {
        self.spent = self.spent.plus(more);
    }

    pub(super) fn back(&mut self, unused: Sum) {
        self.spent = self.spent.minus(unused);
    }

    /// What is spent when these loans are over.
    pub(super) fn handed<'a>(&self, loans: impl Iterator<Item = &'a Loan>, tally: &Tally) -> Sum {
        loans.fold(self.spent, |spent, loan| spent.minus(unused(loan, tally)))
    }

    /// What one more enclave may hand on in turn: half of what all of them may is always left, so that each loan can be followed
    /// by another; and never what the largest question that waits needs itself.
    pub(super) fn share<'a>(&self, loans: impl Iterator<Item = &'a Loan>, need: Sum) -> Sum {
        let aside = loans.fold(Sum::ZERO, |all, loan| all.plus(loan.onward()));
        self.most.half().minus(aside).half().least(self.left().minus(need))
    }
}

/// What a loan set aside for handing on, and comes back with it.
pub(super) fn unused(loan: &Loan, tally: &Tally) -> Sum {
    if !loan.is_clear() {
        return Sum::ZERO;
    }
    let leaf = loan.lineage.leaf();
    loan.onward().minus(tally.below(&leaf.digest(), loan.lineage.fragment()))
}

//! What may be borrowed under loans: as much as the borrower of each said.
//!
//! 1. Whoever borrows says what the enclave may borrow in turn ([`InTurn`]); without a word, nothing. It is to be no more than the
//!    grant that it gives that enclave passes on. The pool sees no such grant, and needs none: the word came by the borrower's own
//!    channel, and stands in the record of the loan.
//! 2. All loans under a loan, on every level, are together within its budget: ended ones with what they cost, others with the most
//!    that they can. So are those under each loan between, within what was said of that.
//! 3. None is deeper than was said of any loan above it.
//! 4. A broken enclave that is lent cannot use up what a task may ever be given: under one loan there are no more than
//!    `EVER_UNDER_LOAN`.
//!
//! Clients bound all of it besides: a loan is no deeper than their grants let anything be passed on.

use legation_core::{LeaseId, MicroUsd, Rejection, delegation::InTurn};
use serde::{Deserialize, Serialize};

use super::{LOANS_EVER_MAX, Lending, Loan, refuse};
use crate::pool::Pool;

/// Loans that may ever be under the lease of one fragment, directly.
const EVER_UNDER_LEASE: u32 = LOANS_EVER_MAX / 2;
/// Loans that may ever be under one loan, on every level.
const EVER_UNDER_LOAN: u32 = LOANS_EVER_MAX / 4;

/// The loans under a loan, on every level.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Below {
    /// How many there ever were.
    pub(crate) given: u32,
    /// What they cost: those that live, the most that they can.
    pub(crate) cost: MicroUsd,
}

impl Lending {
    /// Counts something in every loan that a loan under `of` is under.
    pub(super) fn count_under(&mut self, of: LeaseId, count: impl Fn(&mut Below)) {
        let mut next = of;
        while let Some(above) = self.live.get_mut(&next) {
            count(&mut above.below);
            next = above.terms.of;
        }
    }

    /// How many loans there were under a promise, and how many there may be; of the loans that it is under itself, that which has
    /// most.
    pub(super) fn ever_under(&self, of: LeaseId) -> (u32, u32) {
        let Some(loan) = self.live.get(&of) else {
            return (self.next_number(of).saturating_sub(1), EVER_UNDER_LEASE);
        };
        let (mut most, mut next) = (0, Some(loan));
        while let Some(above) = next {
            most = most.max(above.below.given);
            next = self.live.get(&above.terms.of);
        }
        (most, EVER_UNDER_LOAN)
    }

    /// Whether what is under a loan is counted there, and was let be there.
    pub(super) fn audit_under(&self, id: LeaseId, loan: &Loan) -> bool {
        let (count, cost) = self.under(id).fold((0_u32, MicroUsd::ZERO), |(count, cost), (_, under)| {
            let below = under.below;
            (
                count.saturating_add(below.given).saturating_add(1),
                cost.saturating_add(under.cost_max).saturating_add(below.cost),
            )
        });
        let Below { given, cost: all } = loan.below;
        let let_be = loan.in_turn.map_or(given == 0, |said| all <= said.budget);
        let_be && count <= given && cost <= all
    }
}

impl Pool {
    /// What another loan under a promise may cost at most, by those who borrowed what it is under; anything, under the lease of a
    /// fragment.
    ///
    /// # Errors
    /// `loan.in-turn`: nothing may be borrowed under one of those, or not so deep.
    pub(super) fn left_in_turn(&self, of: LeaseId) -> Result<MicroUsd, Rejection> {
        let mut left = MicroUsd(u64::MAX);
        let (mut level, mut next) = (1_u32, of);
        while let Some((_, loan)) = self.loan(next) {
            let Some(InTurn { budget, .. }) = loan.in_turn.filter(|said| said.depth >= level) else {
                return Err(refuse("loan.in-turn", "loans under a loan")
                    .expected(format!(
                        "levels of them under {next}, in the words of who borrowed that: {level} at least"
                    ))
                    .got(loan.in_turn.map_or(0, |said| said.depth))
                    .fix("have whoever borrowed this enclave let it hand calls on: by a grant, and when it borrows"));
            };
            left = left.min(budget.saturating_sub(loan.below.cost));
            (level, next) = (level.saturating_add(1), loan.terms.of);
        }
        Ok(left)
    }
}

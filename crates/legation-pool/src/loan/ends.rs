//! How loans end: each by a record of its own, after those that rest on it.

use legation_core::{Digest, EnclaveId, KeyId, LeaseId, MicroUsd, Rejection, Signed, TaskId, TenantId, UnixTime};

use super::{ENDED_SHOWN_MAX, LOAN_PROOFS_MAX, Loan, LoanView, refuse};
use crate::{
    apply::Change,
    enclave::Enclave,
    event::{Effect, Event, LeaseEnd},
    meter::Metered,
    pool::{Env, Pool},
    text::cut_rejection,
};

/// Seconds of a loan that are not paid where its borrower says that the enclave is of no use: whatever it says, what was set aside
/// for longer was set aside.
const UNFIT_FREE: u64 = 10;

impl Pool {
    /// Ends a loan, and before it those that rest on it. Both sides hear of it.
    pub(crate) fn end_loan(
        &mut self,
        id: LeaseId,
        why: LeaseEnd,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        self.end_loans_of(id, env, out)?;
        let Some((task, loan)) = self.loan(id) else { return Ok(()) };
        let sides = [loan.enclave, loan.terms.borrower];
        let charged = match why {
            // Who would not be lent is not paid.
            LeaseEnd::Refused { .. } => MicroUsd::ZERO,
            LeaseEnd::Unfit { .. } => loan.charge(UnixTime(env.now.0.saturating_sub(UNFIT_FREE))),
            _ => loan.charge(env.now),
        };
        let said = why.unnamed().to_string();
        out.record(self, env, Event::LeaseEnded { lease: id, why, charged: Some(charged) })?;
        for enclave in sides {
            if self.enclaves.get(&enclave).is_some_and(|e| !e.is_away()) {
                out.effects.push(Effect::LoanEnded { enclave, loan: id, why: said.clone() });
            }
        }
        out.effects.push(Effect::TaskChanged { task });
        Ok(())
    }

    /// Ends what is lent under a promise that is about to end. A loan is of one enclave to another that it does not work for, and so
    /// no deeper than `DELEGATION_DEPTH_MAX`.
    pub(crate) fn end_loans_of(&mut self, of: LeaseId, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        for loan in self.loans_under(of) {
            self.end_loan(loan, LeaseEnd::BorrowerEnded, env, out)?;
        }
        Ok(())
    }

    /// A borrower needs a loan no more, or finds the enclave of no use.
    pub(crate) fn give_back(
        &mut self,
        enclave: EnclaveId,
        loan: LeaseId,
        why: Option<&Rejection>,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        if self.loan(loan).is_none_or(|(_, known)| known.terms.borrower != enclave) {
            return Err(refuse("pool.lease", "a loan that is given back")
                .expected(format!("one to enclave {}", enclave.short()))
                .got(format!("{loan}: it ended, or was never its own"))
                .fix("forget it"));
        }
        let end = why.map_or(LeaseEnd::GivenBack, |why| LeaseEnd::Unfit { why: cut_rejection(why) });
        self.end_loan(loan, end, env, out)
    }

    /// Ends loans whose time is over, whose enclave did not come back to a new manager, or attested so often that its proofs fill
    /// their room.
    pub(crate) fn expire_loans(&mut self, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        let over = self.all_loans().filter_map(|(id, _, loan)| match loan.return_by {
            Some(by) if by < env.now => {
                Some((id, LeaseEnd::EnclaveLost { why: "it did not return to the new manager".into() }))
            }
            None if loan.until() < env.now => Some((id, LeaseEnd::Expired)),
            _ if loan.proofs.len() >= LOAN_PROOFS_MAX => {
                let why = refuse("loan.proofs", "passports of an enclave while it is lent")
                    .expected(format!("fewer than {LOAN_PROOFS_MAX}"))
                    .got(loan.proofs.len())
                    .fix("borrow again");
                Some((id, LeaseEnd::Lapsed { why }))
            }
            _ => None,
        });
        for (id, why) in over.collect::<Vec<_>>() {
            self.end_loan(id, why, env, out)?;
        }
        Ok(())
    }

    /// Loans of `enclave` (of all without one) that no proof is good for any more, by `proven`.
    pub(crate) fn loans_unproven(
        &self,
        enclave: Option<EnclaveId>,
        proven: impl Fn(&TenantId, &Enclave) -> bool,
    ) -> Vec<LeaseId> {
        let of = self.all_loans().filter(|(_, _, loan)| enclave.is_none_or(|only| loan.enclave == only));
        let unproven = of.filter(|(_, task, loan)| {
            let known = self.tasks.get(task).zip(self.enclaves.get(&loan.enclave));
            !known.is_some_and(|(task, lender)| proven(&task.request.tenant, lender))
        });
        unproven.map(|(id, ..)| id).collect()
    }

    /// Loans of an enclave whose answers may rest on a proof by this verifier.
    pub(crate) fn loans_resting_on(&self, enclave: EnclaveId, verifier: KeyId) -> Vec<LeaseId> {
        let rests = |task: TaskId, loan: &Loan| {
            let tenant = self.tasks.get(&task).map(|task| &task.request.tenant);
            let good = |tenant: &TenantId| {
                loan.proofs.values().any(|p| p.verifier() == verifier && p.appointment().covers_tenant(tenant))
            };
            loan.enclave == enclave && tenant.is_some_and(good)
        };
        self.all_loans().filter(|(_, task, loan)| rests(*task, loan)).map(|(id, ..)| id).collect()
    }

    /// A grant was revoked: what was offered by it, and no other takes its place, ends; and so do loans that it let be.
    pub(crate) fn end_ungranted(
        &mut self,
        grant: Digest,
        refusal: &Rejection,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let rests = |task: TaskId| {
            self.tasks.get(&task).is_some_and(|task| task.grants.iter().map(Signed::digest).any(|own| own == grant))
        };
        let offered = self.leases.iter().filter(|(_, lease)| lease.offered && rests(lease.fragment.task));
        let cut = offered
            .filter(|(_, lease)| self.missing(lease, env.now).is_some_and(|missing| missing.check == refusal.check));
        let cut: Vec<_> = cut.map(|(id, lease)| (*id, lease.enclave)).collect();
        for (lease, enclave) in cut {
            self.end_lease(lease, LeaseEnd::GrantRevoked, env, out)?;
            if self.enclaves.get(&enclave).is_some_and(|e| !e.is_away()) {
                out.effects.push(Effect::Cancel { enclave, lease });
            }
        }
        let cut = self.all_loans().filter(|(_, id, loan)| {
            let (task, root) = (self.tasks.get(id), self.leases.get(&loan.root));
            let revoked = |grant: &Signed<legation_core::statement::Grant>| self.revoked.of_grant(grant).is_some();
            task.zip(root).is_none_or(|(task, root)| {
                // What expired meanwhile ends no loan: calls under it are over by themselves.
                let at = (root.fragment.index, root.enclave);
                task.grants.iter().any(revoked) && self.passed_on(task, at, loan.depth, loan.allocation.from).is_err()
            })
        });
        for id in cut.map(|(id, ..)| id).collect::<Vec<_>>() {
            self.end_loan(id, LeaseEnd::GrantRevoked, env, out)?;
        }
        Ok(())
    }

    pub(crate) fn absorb_loan_ended(
        &mut self,
        id: LeaseId,
        why: &LeaseEnd,
        charged: MicroUsd,
        now: UnixTime,
    ) -> Option<()> {
        let of = self.loans.remove(&id)?;
        let task = self.tasks.get_mut(&of)?;
        let lending = task.lending.as_deref_mut()?;
        let mut loan = lending.live.remove(&id)?;
        loan.ended = Some(now);
        let mut shown = LoanView::of(id, &loan);
        (shown.ended, shown.charged, shown.until) = (Some(why.clone()), Some(charged), now.min(shown.until));
        lending.ended.push_back(shown);
        while lending.ended.len() > ENDED_SHOWN_MAX {
            lending.ended.pop_front();
        }
        let (lender, demand, cost_max) = (loan.enclave, loan.demand(), loan.cost_max);
        if matches!(why, LeaseEnd::Unfit { .. }) {
            lending.unfit.insert((lender, loan.terms.borrower));
        }
        lending.count_under(loan.terms.of, |below| {
            below.cost = below.cost.saturating_sub(cost_max).saturating_add(charged);
        });
        lending.charged = lending.charged.saturating_add(charged);
        lending.kept.insert(id, loan);
        task.spent = task.spent.saturating_add(charged);
        task.committed = task.committed.saturating_sub(cost_max);
        let tenant = task.request.tenant.clone();
        self.accounts.give_back(&tenant, &demand, cost_max);
        self.accounts.charge(&tenant, charged, &Metered::default());
        if let Some(enclave) = self.enclaves.get_mut(&lender) {
            enclave.give_back(id, &demand);
        }
        self.reindex_room(lender);
        Some(())
    }

    /// The lease of a fragment is over: nothing will rest any more on what was lent for it.
    pub(crate) fn forget_loans(&mut self, task: TaskId, root: LeaseId) {
        let Some(lending) = self.tasks.get_mut(&task).and_then(|task| task.lending.as_deref_mut()) else { return };
        lending.kept.retain(|_, loan| loan.root != root);
    }

    /// A manager began: loans last until their enclaves had time to return.
    pub(crate) fn keep_loans(&mut self, return_by: UnixTime) {
        self.change_loans(|_| true, |loan| loan.return_by = Some(return_by));
    }

    /// An enclave that is lent is here again.
    pub(crate) fn lenders_return(&mut self, enclave: EnclaveId) {
        self.change_loans(|loan| loan.enclave == enclave, |loan| loan.return_by = None);
    }

    fn change_loans(&mut self, which: impl Fn(&Loan) -> bool, change: impl Fn(&mut Loan)) {
        let chosen = self.all_loans().filter(|(_, _, loan)| which(loan)).map(|(id, task, _)| (id, task));
        for (id, task) in chosen.collect::<Vec<_>>() {
            let lending = self.tasks.get_mut(&task).and_then(|task| task.lending.as_deref_mut());
            if let Some(loan) = lending.and_then(|lending| lending.live.get_mut(&id)) {
                change(loan);
            }
        }
    }

    /// An enclave that is lent was given a passport: answers may rest on it, whatever comes after. Who is given more than there is
    /// room for is lent no longer.
    pub(crate) fn keep_lenders_proof(&mut self, id: EnclaveId) {
        let Some(enclave) = self.enclaves.get(&id).filter(|enclave| !enclave.is_idle()) else { return };
        let proof = enclave.proof().clone();
        let lent = enclave.leases().iter().filter_map(|lease| Some((*lease, *self.loans.get(lease)?)));
        for (id, task) in lent.collect::<Vec<_>>() {
            let lending = self.tasks.get_mut(&task).and_then(|task| task.lending.as_deref_mut());
            let loan = lending.and_then(|lending| lending.live.get_mut(&id));
            if let Some(loan) = loan.filter(|loan| loan.proofs.len() < LOAN_PROOFS_MAX) {
                loan.proofs.insert(proof.passport, proof.clone());
            }
        }
    }

    /// The loans against the other books: each is of a live task and known to its enclave, and rests on a promise that lives.
    pub(crate) fn audit_loans(&self) -> Result<(), String> {
        let mut all = std::collections::BTreeMap::new();
        for (id, task) in &self.tasks {
            let Some(lending) = task.lending.as_deref() else { continue };
            for (lease, loan) in &lending.live {
                all.insert(*lease, *id);
                let counted = self.enclaves.get(&loan.enclave).is_some_and(|e| e.leases().contains(lease));
                let root = self.leases.get(&loan.root).is_some_and(|root| root.fragment.task == *id);
                let above = match self.loan(loan.terms.of) {
                    Some((_, above)) => {
                        above.enclave == loan.terms.borrower && above.until() >= loan.until() && above.root == loan.root
                    }
                    None => self.leases.get(&loan.terms.of).is_some_and(|above| {
                        let own = loan.root == loan.terms.of && above.enclave == loan.terms.borrower;
                        own && above.offered && above.until >= loan.until()
                    }),
                };
                if !counted || !root || !above {
                    return Err(format!("loan {lease} is not known to its enclave, or rests on nothing that lives"));
                }
                if !lending.audit_under(*lease, loan) {
                    return Err(format!("what is borrowed under loan {lease} is not counted, or more than was let be"));
                }
            }
            if lending.live.values().any(|loan| loan.ended.is_some())
                || lending.kept.values().any(|loan| loan.ended.is_none())
            {
                return Err(format!("task {id} has loans that ended among those that live, or the other way round"));
            }
            if lending.kept.values().any(|loan| !self.leases.contains_key(&loan.root)) {
                return Err(format!("task {id} keeps loans that no report can rest on"));
            }
        }
        if all == self.loans { Ok(()) } else { Err("loans are not those of the tasks".to_owned()) }
    }
}

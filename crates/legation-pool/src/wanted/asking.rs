//! What a loan wants: an enclave for calls of a running fragment, which need not be like those that run fragments.
//!
//! 1. It takes channels of other agents: it advertises an address (`place.address`); and it proves executions, where that is asked
//!    for (`place.prover`).
//! 2. It satisfies the request, the fragment, every grant that is passed on, and the borrower's own requirement.
//! 3. The rules of placement permit each module that may be called there, at the price of the whole loan. Limits bind each call,
//!    not the loan: what a call is let use is in the allocation.
//! 4. It shares no chip with the borrower, nor with those that the borrower works for; where diversity is asked for, nothing
//!    that was asked about with the enclaves that are named.

use std::{collections::BTreeSet, rc::Rc};

use legation_core::{
    Allowance, Bytes, DigestWriter, EnclaveId, FragmentIndex, Fuel, MicroUsd, Millis, Rejection, Requirement, UnixTime,
    prefer::{Axis, SpreadRule},
    requirement::Candidate,
    statement::{Diversity, Passport, Request},
    task::{Demand, Fragment},
};

use super::{Place, Refusal, Wanted, cost_max};
use crate::{enclave::Enclave, kind::Kind, pool::Pool, queue::Class, task::Task};

/// The check that an enclave does not pass which nobody could dial.
pub(crate) const ADDRESS: &str = "place.address";

/// The check that an enclave does not pass which proves nothing.
pub(crate) const PROVER: &str = "place.prover";

/// What a loan asks of an enclave.
#[derive(Clone)]
pub(crate) struct Asking {
    /// The borrower's fragment as a call of it could be run there: once for each module that may be called.
    pub(crate) pieces: Vec<Fragment>,
    /// What is to be satisfied beside request and fragment.
    pub(crate) requires: Vec<Requirement>,
    /// How long it lasts, in whole seconds: what is paid for.
    pub(crate) lasts: Millis,
    /// In respect of what it differs from those beside it.
    pub(crate) diverse: Option<Diversity>,
    /// Whether it is to prove executions.
    pub(crate) proven: bool,
    /// Enclaves that it must not be.
    pub(crate) barred: BTreeSet<EnclaveId>,
    /// What it may cost at most, whatever the task's budget is.
    pub(crate) most: MicroUsd,
    /// The borrower, and those that it works for.
    above: Vec<Place>,
    /// Those from which it differs.
    beside: Vec<Place>,
}

impl Asking {
    pub(crate) fn new(pieces: Vec<Fragment>, requires: Vec<Requirement>, lasts: Millis) -> Self {
        let (barred, above, beside) = (BTreeSet::new(), Vec::new(), Vec::new());
        let most = MicroUsd(u64::MAX);
        Self { pieces, requires, lasts, diverse: None, proven: false, barred, most, above, beside }
    }

    /// The same, of none of these.
    pub(crate) fn without(&self, ids: &BTreeSet<EnclaveId>) -> Self {
        let mut asking = self.clone();
        asking.barred.extend(ids);
        asking
    }

    /// For these enclaves, the borrower first; apart from those, where diversity is asked for.
    pub(crate) fn of(mut self, pool: &Pool, above: &[EnclaveId], beside: &[EnclaveId]) -> Self {
        let places = |ids: &[EnclaveId]| -> Vec<Place> {
            ids.iter().filter_map(|id| Some(Place::on(*id, pool.enclaves.get(id)?))).collect()
        };
        self.barred.extend(above);
        (self.above, self.beside) = (places(above), places(beside));
        self
    }

    /// What it costs at most at this price of an hour.
    pub(crate) fn cost(&self, price_hour: MicroUsd) -> MicroUsd {
        cost_max(price_hour, &Demand { time: self.lasts, ..Demand::default() })
    }

    /// Its class: no fragment has it.
    pub(crate) fn class(&self, request: &Request) -> Option<Class> {
        let own = Class::of_fragment(request, self.pieces.first()?);
        let mut digest = DigestWriter::new();
        digest.update(&self.lasts.0.to_be_bytes());
        digest.update(&[u8::from(self.proven)]);
        self.pieces.iter().for_each(|piece| digest.update(piece.module.as_bytes()));
        for require in &self.requires {
            digest.update(require.digest().as_bytes());
        }
        Some(own.beside(digest.finish()))
    }

    /// What calls may use on enclaves of a kind, or why there may be none.
    pub(crate) fn permits(
        &self,
        pool: &Pool,
        task: &Task,
        kind: &Kind,
        price_hour: MicroUsd,
        now: UnixTime,
    ) -> Result<Allowance, Rejection> {
        let passport = kind.typical();
        if passport.configuration.advertise.is_none() {
            return Err(Rejection::new(ADDRESS, "address at which agents reach the enclave")
                .expected("one")
                .got("none")
                .fix("have its owner configure `advertise`"));
        }
        if self.proven && passport.configuration.prover.is_none() {
            return Err(Rejection::new(PROVER, "prover of the enclave")
                .expected("one")
                .got("none")
                .fix("have its owner configure `[prover]`, or ask for `attested`"));
        }
        let mut allowance = Allowance::default();
        if !pool.is_unruled(&task.request) {
            let cost = self.cost(price_hour);
            for piece in &self.pieces {
                // Of work and output each call says how much: the limits are held against that.
                let least = Demand { fuel: Fuel(1), output: Bytes::ZERO, ..piece.demand };
                let permit = pool.permits_work(&task.request, piece, (&least, cost), kind, price_hour, now)?;
                allowance = allowance.and(&permit);
            }
        }
        self.satisfied_by(&task.request, passport, price_hour)?;
        Ok(allowance)
    }

    /// Whether a passport satisfies all that is required.
    pub(crate) fn satisfied_by(
        &self,
        request: &Request,
        passport: &Passport,
        price_hour: MicroUsd,
    ) -> Result<(), Rejection> {
        let candidate = Candidate { passport, price_hour };
        let fragment = self.pieces.first().map(|piece| &piece.require);
        let mut all = std::iter::once(&request.require).chain(fragment).chain(&self.requires);
        all.try_for_each(|require| require.check(&candidate))
    }

    /// Whether enclaves of a kind are diverse enough.
    pub(super) fn kind_apart(&self, passport: &Passport) -> Result<u32, Refusal<'static>> {
        let shares = |other: &Place| match self.diverse {
            Some(Diversity::Provider) => other.provider == passport.configuration.provider,
            Some(Diversity::Tee) => other.tee.is_none_or(|tee| tee == passport.claims.tee.value),
            Some(Diversity::Chip) | None => false,
        };
        match self.beside.iter().any(shares) {
            true => Err(Refusal::Spread(self.diverse.map_or(Axis::Chip, Diversity::axis), SpreadRule::Distinct)),
            false => Ok(0),
        }
    }

    /// Whether an enclave may be lent beside the others, by itself and by its chip.
    pub(super) fn apart(&self, pool: &Pool, id: EnclaveId) -> Result<u32, Refusal<'static>> {
        if self.barred.contains(&id) {
            return Err(Refusal::Spread(Axis::Enclave, SpreadRule::Distinct));
        }
        let chip = pool.enclaves.get(&id).map(Enclave::chip);
        let on_chip = |other: &Place| other.enclave == id || other.chip.as_ref() == chip;
        if self.above.iter().any(on_chip) || (self.diverse.is_some() && self.beside.iter().any(on_chip)) {
            return Err(Refusal::Spread(Axis::Chip, SpreadRule::Distinct));
        }
        Ok(0)
    }
}

impl<'a> Wanted<'a> {
    /// What a loan of this task wants. Its account is the tenant's, without what is set aside by a reservation: loans have no seats of
    /// one.
    pub(crate) fn loan(pool: &'a Pool, task: &'a Task, asking: &'a Asking, now: UnixTime) -> Option<Self> {
        // No fragment has such a number.
        let index = FragmentIndex(u32::MAX);
        let fragment = asking.pieces.first()?;
        let account = pool.headroom(&task.request.tenant, &fragment.demand);
        let wanted = Self::of(pool, task, (index, fragment), Vec::new(), now);
        let left = wanted.left.min(asking.most);
        Some(Self { asking: Some(asking), account: Rc::new(account), left, ..wanted })
    }

    /// Whether an enclave could be lent now, asked of one, with everything that speaks about single enclaves.
    pub(crate) fn lends(&mut self, id: EnclaveId, enclave: &'a Enclave) -> Result<(), Refusal<'a>> {
        self.judge(id, enclave)?;
        self.enclave_within(id).map(|_| ())
    }
}

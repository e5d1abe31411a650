//! Enclaves that are lent.

use legation_core::{FragmentId, LeaseId, MicroUsd, Signed, statement::Allocation, swarm::SeatDemand, task::Demand};
use legation_pool::Record;

use super::{Held, Oracle, unless};

impl Oracle {
    /// An enclave is lent to one that works then, for no longer than that, as any lease is given.
    pub(super) fn lent(&mut self, allocation: &Signed<Allocation>, record: &Record) -> Result<(), String> {
        let (lease, enclave) = (allocation.lease, allocation.enclave);
        let terms = allocation.loan.ok_or("lends to nobody")?;
        let fragment = FragmentId { task: allocation.task, index: allocation.fragment };
        unless(!self.leases.contains_key(&lease), || format!("{lease} is given twice"))?;
        let of = self.leases.get(&terms.of).filter(|of| of.live && of.fragment == fragment);
        let of = of.ok_or_else(|| format!("{lease} is lent for {}, which does not live", terms.of))?;
        let own = of.enclave == terms.borrower && enclave != of.enclave && allocation.until <= of.until;
        unless(own, || format!("{lease} is not for its borrower, or for longer"))?;
        let known = self.tasks.get(&fragment.task).ok_or("lends for an unknown task")?;
        let delegates = known.request.fragment(fragment.index).is_some_and(|spec| spec.delegates.is_some());
        unless(known.live && delegates, || "lends for what may hand nothing on".to_owned())?;
        let truth = self.fit_for_work(enclave, record)?;
        unless(!self.kept.contains_key(&enclave), || format!("{} is lent while it is cleared", enclave.short()))?;
        let SeatDemand { cpu, memory, gpus, time } = terms.demand;
        let demand = Demand { cpu, memory, gpus, time, ..Demand::default() };
        self.has_room(enclave, truth, &demand)?;
        let price = truth.rate.per_hour(cpu, memory);
        unless(allocation.price_hour == price, || format!("a price of {}, not {price}", allocation.price_hour))?;
        let micros = u128::from(price.0) * u128::from(allocation.until.since(allocation.from));
        let cost_max = MicroUsd(u64::try_from(micros.div_ceil(3600)).unwrap_or(u64::MAX));
        let held = Held {
            fragment,
            enclave,
            demand,
            until: allocation.until,
            seat: None,
            cost_max,
            allocation: allocation.digest(),
            live: true,
            within: None,
            of: Some(terms.of),
        };
        unless(self.leaves_room(enclave, &held, allocation.from, truth.capacity), || {
            format!("lends room of {} that is reserved", enclave.short())
        })?;
        unless(self.leaves_booked(enclave, held.until, held.demand, truth.capacity), || {
            format!("lends room of {} that is booked for a swarm", enclave.short())
        })?;
        self.leases.insert(lease, held);
        let known = self.tasks.get_mut(&fragment.task).ok_or("lends for an unknown task")?;
        known.committed = known.committed.saturating_add(cost_max);
        known.within_budget()
    }

    /// A loan is given back, and paid.
    pub(super) fn returned(&mut self, lease: LeaseId, charged: MicroUsd) -> Result<(), String> {
        let most = self.leases.get(&lease).filter(|held| held.of.is_some()).map(|held| held.cost_max);
        let most = most.ok_or_else(|| format!("charges for {lease}, which is no loan"))?;
        unless(charged <= most, || format!("charges {charged} for {lease}, at most {most}"))?;
        let (fragment, _) = self.release(lease)?;
        let known = self.tasks.get_mut(&fragment.task).ok_or("a loan of an unknown task")?;
        known.spent = known.spent.saturating_add(charged);
        known.within_budget()
    }
}

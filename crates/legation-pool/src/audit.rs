//! The pool's books held against each other. A difference is a defect of this program, never of a command.
//!
//! 1. every lease belongs to a live task, to the fragment that says so, and to a known enclave that counts it;
//! 2. no enclave has more leased than it offers, and what is leased of it is the sum of its leases;
//! 3. what a task spent and committed is the sum of its parts and within its budget;
//! 4. nobody who is revoked or cordoned holds a lease, and whoever rests on what is revoked is revoked;
//! 5. what a tenant's book says is the sum over its tasks, those that are forgotten included, and its leases;
//! 6. seats of swarms are held as leases are, without fragments, and swarms are as `swarm.rs` says;
//! 7. loans are held as leases are, and each rests on a promise that lives, or on a loan that does;
//! 8. what makes way makes way for somebody who waits, and a place is kept for one;
//! 9. what is booked for a swarm is of one that waits, and nobody else is promised that room from then on;
//! 10. seats of reservations are where these say, and who sits there fits; nobody else is promised their room when they begin;
//! 11. a ceremony hands over what its committee has, and is in force when it can be, and nobody is left out of no call;
//! 12. deadlines, expiries, the queue, ended tasks and idempotency keys are exactly what leases and tasks say.

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{
    Bytes, EnclaveId, FragmentId, FragmentIndex, LeaseId, MicroUsd, Millicores, TenantId, task::Demand,
};

use crate::{
    account::Book,
    pool::Pool,
    queue::Class,
    task::{Phase, Task, TaskState},
};

fn unless(fits: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if fits { Ok(()) } else { Err(what()) }
}

impl Pool {
    /// Checks the books against each other; linear in the size of the pool.
    ///
    /// # Errors
    /// The first two entries that contradict each other, in words.
    pub fn audit(&self) -> Result<(), String> {
        self.audit_enclaves()?;
        self.audit_tasks()?;
        self.audit_leases()?;
        self.audit_swarms()?;
        self.audit_loans()?;
        self.audit_booking()?;
        self.audit_accounts()?;
        self.audit_indexes()?;
        self.audit_claims()?;
        self.audit_reservations()?;
        self.audit_custody()?;
        self.audit_classes()
    }

    /// What enclaves set aside: leases outside of seats, seats, and loans.
    fn held(&self) -> impl Iterator<Item = (LeaseId, EnclaveId, Demand)> + '_ {
        let plain = self.leases.iter().filter(|(_, l)| l.seat.is_none()).map(|(id, l)| (*id, l.enclave, l.demand));
        let seats = self.seats.keys().filter_map(|id| self.seat_holds(*id).map(|(_, s, d)| (*id, s.enclave, d)));
        plain.chain(seats).chain(self.all_loans().map(|(id, _, loan)| (id, loan.enclave, loan.demand())))
    }

    fn audit_enclaves(&self) -> Result<(), String> {
        let revoked = self.revoked.list();
        for (id, enclave) in &self.enclaves {
            let held: Vec<_> = self.held().filter(|(_, of, _)| of == id).collect();
            let names: BTreeSet<LeaseId> = held.iter().map(|(name, ..)| *name).collect();
            let cpu: Millicores = held.iter().map(|(_, _, d)| d.cpu).sum();
            let memory: Bytes = held.iter().map(|(_, _, d)| d.memory).sum();
            let all = enclave.capacity();
            let sums = cpu == enclave.cpu_leased() && memory == enclave.memory_leased();
            let counted = names == *enclave.leases() && sums;
            unless(counted, || format!("what is leased of {id} is not the sum of its leases"))?;
            let within = names.len() as u64 <= u64::from(all.slots) && cpu <= all.cpu && memory <= all.memory;
            unless(within, || format!("more is leased of {id} than it offers"))?;
            unless(enclave.revoked().is_none() || names.is_empty(), || format!("{id} is revoked and holds leases"))?;
            unless(enclave.cordon().is_none() || names.is_empty(), || format!("{id} is cordoned and holds leases"))?;
            let rests = |proof| revoked.iter().any(|r| enclave.rests_on(*id, proof, &r.what));
            let covered = enclave.proofs.all().any(rests);
            unless(!covered || enclave.revoked().is_some(), || format!("{id} rests on what is revoked"))?;
            // Of who is away and has nothing to do, or takes no work anyway, nobody asks.
            let asked = enclave.is_trusted() && !(enclave.is_away() && enclave.is_idle());
            let until = enclave.proofs.until().filter(|until| asked && *until >= self.at);
            let looked = until.is_none_or(|until| self.lapses.looks_at(until.0, enclave.host.0));
            unless(looked, || format!("nobody looks when the proofs of {id} are over"))?;
        }
        self.audit_slots()
    }

    fn audit_tasks(&self) -> Result<(), String> {
        for (id, task) in &self.tasks {
            unless(*id == task.id(), || format!("task {id} is filed under another name"))?;
            let live = task.state == TaskState::Live;
            let charged: MicroUsd = task.fragments.iter().filter_map(|f| f.done.as_ref()).map(|d| d.charged).sum();
            let seats = task.swarm.as_ref().map_or(MicroUsd::ZERO, |s| s.charged);
            let loans = task.lending.as_ref().map_or(MicroUsd::ZERO, |l| l.charged);
            unless(charged.saturating_add(seats).saturating_add(loans) == task.spent, || {
                format!("task {id} spent other than it was charged")
            })?;
            let committed: MicroUsd = self.leases.values().filter(|l| l.fragment.task == *id).map(|l| l.cost_max).sum();
            let seats = task.swarm.iter().flat_map(|s| s.seats.values()).map(|s| s.cost_max);
            let loans = task.lending.iter().flat_map(|l| l.live.values()).map(|l| l.cost_max);
            let committed = seats.chain(loans).fold(committed, MicroUsd::saturating_add);
            unless(committed == task.committed, || format!("task {id} committed other than its leases"))?;
            let total = task.spent.checked_add(task.committed);
            unless(total.is_some_and(|t| t <= task.request.budget), || format!("task {id} is over its budget"))?;
            unless(live || task.keys.is_empty(), || format!("task {id} has ended and keeps keys"))?;
            self.audit_fragments(task, live)?;
        }
        Ok(())
    }

    fn audit_fragments(&self, task: &Task, live: bool) -> Result<(), String> {
        for (index, state) in (0..).map(FragmentIndex).zip(&task.fragments) {
            let id = FragmentId { task: task.id(), index };
            let held = match state.phase {
                Phase::Leased { lease } => self.leases.get(&lease).is_some_and(|l| l.fragment == id) && live,
                _ => true,
            };
            unless(held, || format!("{id} is leased, but not by a lease of its own"))?;
            unless((state.phase == Phase::Done) == state.done.is_some(), || format!("{id} is done without a report"))?;
            unless(state.attempts.len() == state.allocations.len(), || format!("{id} has tries without allocations"))?;
        }
        Ok(())
    }

    fn audit_leases(&self) -> Result<(), String> {
        let mut holders: BTreeMap<FragmentId, LeaseId> = BTreeMap::new();
        for (id, lease) in &self.leases {
            let state = self
                .tasks
                .get(&lease.fragment.task)
                .and_then(|t| t.fragments.get(usize::try_from(lease.fragment.index.0).ok()?));
            let other = holders.insert(lease.fragment, *id);
            let repeated = state.is_some_and(|s| s.copy.is_some() && lease.seat.is_some());
            unless(other.is_none() || repeated, || format!("{id} and another are for the same fragment"))?;
            let phased = state.is_some_and(|s| s.leases().any(|own| own == *id));
            unless(phased, || format!("{id} is for a fragment that does not know it"))?;
            let enclave = self.enclaves.get(&lease.enclave);
            let counted = lease.seat.unwrap_or(*id);
            unless(enclave.is_some_and(|e| e.leases().contains(&counted)), || {
                format!("{id} is of an enclave that does not know it")
            })?;
            unless(*id <= self.last_lease, || format!("{id} was never counted"))?;
        }
        Ok(())
    }

    fn audit_accounts(&self) -> Result<(), String> {
        let mut counted: BTreeMap<&TenantId, Book> = BTreeMap::new();
        for task in self.tasks.values() {
            let book = counted.entry(&task.request.tenant).or_default();
            book.spent = book.spent.saturating_add(task.spent);
            book.metered = book.metered.plus(&task.metered());
            if task.state == TaskState::Live {
                book.tasks += 1;
                book.queued += task.fragments.iter().filter(|f| f.phase == Phase::Queued).count() as u64;
            }
        }
        let plain = self.leases.values().filter(|l| l.seat.is_none()).map(|l| (l.fragment.task, l.demand, l.cost_max));
        let seats = self.seats.keys().filter_map(|id| self.seat_holds(*id).map(|(task, s, d)| (task, d, s.cost_max)));
        let loans = self.all_loans().map(|(_, task, loan)| (task, loan.demand(), loan.cost_max));
        for (task, demand, cost_max) in plain.chain(seats).chain(loans) {
            let Some(task) = self.tasks.get(&task) else { continue };
            let book = counted.entry(&task.request.tenant).or_default();
            book.committed = book.committed.saturating_add(cost_max);
            book.cpu = book.cpu.saturating_add(demand.cpu);
            book.memory = book.memory.saturating_add(demand.memory);
            book.gpus = book.gpus.saturating_add(demand.gpus);
            book.leases += 1;
        }
        for booking in self.reservations.values().filter(|b| b.ended.is_none()) {
            let book = counted.entry(&booking.terms.tenant).or_default();
            book.committed = book.committed.saturating_add(booking.held());
        }
        for (tenant, entry) in self.accounts.entries() {
            let mut book = counted.remove(tenant).unwrap_or_default();
            book.spent = book.spent.saturating_add(entry.forgotten.0);
            book.metered = book.metered.plus(&entry.forgotten.1);
            unless(book == entry.book, || format!("the book of {tenant} is not the sum of its tasks and leases"))?;
        }
        unless(counted.is_empty(), || "a tenant has tasks and no book".to_owned())
    }

    fn audit_indexes(&self) -> Result<(), String> {
        let ends: BTreeSet<_> = self.leases.iter().map(|(id, l)| (l.until, *id)).collect();
        unless(ends == self.ends, || "the ends of leases are not those of the leases".to_owned())?;
        let looked = self.leases.iter().all(|(id, l)| self.deadlines.looks_at(l.deadline().0, *id));
        unless(looked, || "nobody looks at a lease when its time is over".to_owned())?;
        let live = || self.tasks.iter().filter(|(_, t)| t.state == TaskState::Live);
        let expiries: BTreeSet<_> = live().map(|(id, t)| (t.request.expires, *id)).collect();
        unless(expiries == self.expiries, || "expiries are not those of the live tasks".to_owned())?;
        let queue: BTreeMap<_, _> = live()
            .filter(|(_, t)| t.swarm.is_none())
            .flat_map(|(task, t)| {
                let queued = t.request.indexed().zip(&t.fragments).filter(|(_, f)| f.phase == Phase::Queued);
                queued.map(|((index, spec), f)| {
                    (FragmentId { task: *task, index }, (Class::of_fragment(&t.request, spec), f.age()))
                })
            })
            .collect();
        unless(queue == *self.queue.places(), || "the queue is not what waits for an enclave".to_owned())?;
        self.queue.audit()?;
        let ended: BTreeSet<_> =
            self.tasks.iter().filter(|(_, t)| t.state != TaskState::Live).map(|(id, _)| *id).collect();
        let listed = ended.len() == self.ended.len() && self.ended.iter().all(|id| ended.contains(id));
        unless(listed, || "ended tasks are not those that have ended".to_owned())?;
        let named: BTreeMap<_, _> = self
            .tasks
            .iter()
            .filter_map(|(id, t)| t.idempotency.as_ref().map(|k| ((t.request.client, k.key.clone()), (k.body, *id))))
            .collect();
        unless(named == self.idempotency, || "idempotency keys are not those of the tasks".to_owned())?;
        unless(self.managers.iter().all(|m| Some(m.digest()) != self.manager.as_ref().map(|m| m.digest())), || {
            "the manager is among those before".to_owned()
        })
    }
}

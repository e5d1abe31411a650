//! Leases: one enclave promised to one fragment for a time. A lease has one holder; capacity is never over-committed;
//! whatever ends a lease without a result sends its fragment back to the queue.

use legation_core::{
    Allowance, Digest, EnclaveId, FragmentId, LeaseId, MicroUsd, Rejection, Signed, UnixTime,
    statement::{Allocation, Placement},
    task::{Demand, Fragment},
};
use serde::{Deserialize, Serialize};

use crate::{
    apply::{Change, defect},
    event::{Effect, Event, LeaseEnd},
    fair::Cost,
    lapse::LAPSED,
    place::Choice,
    pool::{Env, Pool},
    preempt::Preemption,
    queue::flow_of,
    reserve::OVER,
    task::{Attempt, Phase, TaskState},
    text::{cut, cut_rejection},
    wanted,
};

/// Why a task fails whose client stays silent.
const NOT_GRANTED: &str = "task.not-granted";

/// One promise.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// To whom.
    pub fragment: FragmentId,
    /// By whom.
    pub enclave: EnclaveId,
    /// Begin.
    pub from: UnixTime,
    /// End.
    pub until: UnixTime,
    /// The client has until then to grant.
    pub grant_by: UnixTime,
    /// The enclave has until then to come back, after a new manager began.
    pub return_by: Option<UnixTime>,
    /// It is not ended before, whatever else is over: its enclave has just come back to a new manager.
    pub(crate) grace: Option<UnixTime>,
    /// For whom it makes way, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preempted: Option<Preemption>,
    /// Whether grants and keys are complete, so that it was offered.
    pub offered: bool,
    /// What is set aside.
    pub demand: Demand,
    /// What it may cost at most.
    pub cost_max: MicroUsd,
    /// What the work may use, where policies limit that.
    pub limits: Option<Box<Allowance>>,
    /// Name of the allocation that gave it.
    pub allocation: Digest,
    /// The seat it is within, of a swarm's: nothing is set aside or charged for it beside the seat.
    pub seat: Option<LeaseId>,
}

impl Lease {
    /// When something must happen at the latest. While a new manager waits for the enclave, nothing else is asked of it: what
    /// ended while nobody led is not its fault.
    pub(crate) fn deadline(&self) -> UnixTime {
        let usual = if self.offered { self.until } else { self.grant_by.min(self.until) };
        let usual = self.preempted.as_ref().map_or(usual, |preempted| preempted.until.min(usual));
        self.return_by.unwrap_or_else(|| self.grace.map_or(usual, |grace| grace.max(usual)))
    }
}

impl Pool {
    /// Changes a lease; its deadline may come nearer.
    pub(crate) fn move_deadline(&mut self, id: LeaseId, change: impl FnOnce(&mut Lease)) {
        if let Some(lease) = self.leases.get_mut(&id) {
            let before = lease.deadline();
            change(lease);
            // A later one is found when the one before is over.
            if lease.deadline() < before {
                self.deadlines.put(lease.deadline().0, id);
            }
        }
    }

    pub(crate) fn lease(
        &mut self,
        fragment: FragmentId,
        choice: Choice,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        // What is in a seat takes no more room than that.
        if choice.seat.is_none() {
            self.pass_booking_at(fragment, choice.enclave, env, out)?;
        }
        let task = self.tasks.get(&fragment.task).ok_or_else(|| defect("task of a queued fragment"))?;
        let spec = task.request.fragment(fragment.index).ok_or_else(|| defect("a queued fragment"))?;
        let appointment = self.manager.as_ref().ok_or_else(|| {
            Rejection::new("pool.term", "who leads").expected("a manager that began its term").got("none")
        })?;
        let enclave = self.enclaves.get(&choice.enclave).ok_or_else(|| defect("a chosen enclave"))?;
        let configuration = &enclave.typical().configuration;
        let mut prev = vec![task.request.digest(), appointment.digest()];
        prev.extend(task.fragments[fragment.index.0 as usize].allocations.last().map(Signed::digest));
        let until = lease_end(env.now, spec, self.limits.grant_seconds).plus(self.limits.lease_margin_seconds);
        // A fragment of a swarm rests on the words of all members, and does not outlast its seat.
        let swarm = choice.seat.zip(task.swarm.as_deref());
        let until = swarm.and_then(|(at, s)| s.seats.get(&at.lease)).map_or(until, |seat| seat.until.min(until));
        let round = swarm.and_then(|(at, s)| s.rounds.iter().find(|r| r.seating.round == at.round));
        prev.extend(round.into_iter().flat_map(|r| &r.memberships).map(Signed::digest));
        let allocation = Allocation {
            manager: env.signer.public_key(),
            term: self.term,
            task: fragment.task,
            fragment: fragment.index,
            lease: LeaseId(self.last_lease.0 + 1),
            from: env.now,
            until,
            enclave: choice.enclave,
            provider: configuration.provider.clone(),
            region: configuration.region.clone(),
            price_hour: choice.price_hour,
            limits: self.limits_at(&task.request, spec, enclave, choice.price_hour, env.now)?,
            why: Placement {
                considered: choice.considered,
                eligible: choice.eligible,
                passed_over: choice.passed_over,
                decided_by: choice.decided_by,
            },
            revocations: self.revoked.epoch(),
            seat: choice.seat,
            loan: None,
            prev,
        };
        let allocation = legation_core::dsse::sign(allocation, env.signer);
        out.record(self, env, Event::Leased { allocation: Box::new(allocation) })
    }

    pub(crate) fn absorb_leased(&mut self, allocation: &Signed<Allocation>, now: UnixTime) -> Option<Option<LeaseId>> {
        let id = FragmentId { task: allocation.task, index: allocation.fragment };
        let task = self.tasks.get_mut(&id.task)?;
        let spec = task.request.fragment(id.index)?;
        let demand = spec.demand;
        let seat = allocation.seat.map(|at| at.lease);
        let cost_max = if seat.is_some() { MicroUsd::ZERO } else { wanted::cost_max(allocation.price_hour, &demand) };
        let state = task.fragments.get_mut(usize::try_from(id.index.0).ok()?)?;
        let repeats = matches!(state.phase, Phase::Leased { .. });
        if seat.is_none() {
            if let Some(before) = state.attempts.last() {
                task.uses.forget(before.enclave);
            }
            task.uses.note(allocation.enclave);
            // What was pushed aside was paid for when it was placed first.
            let cost = if state.age().later { self.classes.offered().cost(&demand) } else { Cost::default() };
            let weight = self.accounts.of(&task.request.tenant).terms.weight;
            self.queue.serve(&flow_of(&task.request), id, cost, weight);
        }
        if repeats {
            state.copy = Some(allocation.lease);
        } else {
            state.phase = Phase::Leased { lease: allocation.lease };
        }
        state.allocations.push(allocation.clone());
        state.attempts.push(Attempt {
            lease: allocation.lease,
            enclave: allocation.enclave,
            provider: allocation.provider.clone(),
            region: allocation.region.clone(),
            ended: None,
        });
        match seat {
            None => {
                task.committed = task.committed.saturating_add(cost_max);
                self.accounts.take(&task.request.tenant, &demand, cost_max);
                self.enclaves.get_mut(&allocation.enclave)?.take(allocation.lease, &demand);
            }
            Some(seat) => {
                task.swarm.as_mut()?.seats.get_mut(&seat)?.work = Some(allocation.lease);
                if !repeats {
                    self.accounts.dequeue(&task.request.tenant);
                }
            }
        }
        let lease = Lease {
            fragment: id,
            enclave: allocation.enclave,
            from: allocation.from,
            until: allocation.until,
            grant_by: allocation.from.plus(self.limits.grant_seconds),
            return_by: None,
            grace: None,
            preempted: None,
            offered: false,
            demand,
            cost_max,
            limits: allocation.limits.clone().map(Box::new),
            allocation: allocation.digest(),
            seat,
        };
        self.deadlines.put(lease.deadline().0, allocation.lease);
        self.ends.insert((lease.until, allocation.lease));
        self.leases.insert(allocation.lease, lease);
        self.reindex_room(allocation.enclave);
        self.last_lease = allocation.lease;
        self.note_pushable(allocation.lease);
        self.sit_down(id, allocation.lease, allocation.enclave, cost_max);
        self.give_up_claim(id);
        Some(self.offer_if_ready(allocation.lease, now))
    }

    /// Frees what a lease held; the caller says what becomes of the fragment.
    pub(crate) fn free(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        self.ends.remove(&(lease.until, id));
        if let Some(seat) = lease.seat {
            self.seat_mut(seat)?.work = None;
            return Some(lease);
        }
        if let Some(enclave) = self.enclaves.get_mut(&lease.enclave) {
            enclave.give_back(id, &lease.demand);
            self.classes.room(enclave);
        }
        if let Some(task) = self.tasks.get_mut(&lease.fragment.task) {
            task.committed = task.committed.saturating_sub(lease.cost_max);
            self.pushable.remove(&(task.request.prefer.priority, id));
            self.accounts.give_back(&task.request.tenant, &lease.demand, lease.cost_max);
        }
        self.stand_up(lease.fragment, id, lease.cost_max);
        Some(lease)
    }

    pub(crate) fn absorb_lease_ended(
        &mut self,
        id: LeaseId,
        why: &LeaseEnd,
        (seq, now): (legation_core::Seq, UnixTime),
    ) -> Option<()> {
        let lease = self.free(id)?;
        self.note_misled((lease.fragment.task, id), why, now);
        self.forget_loans(lease.fragment.task, id);
        let task = self.tasks.get_mut(&lease.fragment.task)?;
        let live = task.state == TaskState::Live;
        let state = task.fragments.get_mut(usize::try_from(lease.fragment.index.0).ok()?)?;
        // Where another lease goes on, the client has granted what the fragment needs.
        if *why == LeaseEnd::NotGranted && state.copy.is_none() {
            task.ungranted.note(id, self.last_lease);
        }
        if let Some(attempt) = state.attempts.iter_mut().rev().find(|a| a.lease == id) {
            attempt.ended = Some(why.clone());
        }
        if let (LeaseEnd::Misled { by, .. }, Some(lending)) = (why, task.lending.as_deref_mut()) {
            lending.liars.insert(*by);
        }
        // While it is repeated, the other lease goes on.
        if let Some(copy) = state.copy.take() {
            if copy != id {
                state.phase = Phase::Leased { lease: copy };
            }
            return Some(());
        }
        if live {
            state.phase = Phase::Queued;
            state.queued_at = seq;
            self.accounts.queue(&task.request.tenant, 1);
            self.enqueue(lease.fragment)?;
        }
        Some(())
    }

    /// Ends one lease; its task fails when too many enclaves were tried.
    pub(crate) fn end_lease(
        &mut self,
        id: LeaseId,
        why: LeaseEnd,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        if let Some(task) = self.seat_task(id) {
            return self.end_seats(task, &[id], why, env, out);
        }
        if self.loan(id).is_some() {
            return self.end_loan(id, why, env, out);
        }
        let Some((fragment, seat)) = self.leases.get(&id).map(|l| (l.fragment, l.seat)) else { return Ok(()) };
        // A member that failed a fragment is replaced.
        let failed = seat.filter(|_| why.blames_enclave()).map(|seat| (seat, why.clone()));
        let silent = why == LeaseEnd::NotGranted;
        self.end_loans_of(id, env, out)?;
        out.record(self, env, Event::LeaseEnded { lease: id, why, charged: None })?;
        let Some(task) = self.tasks.get(&fragment.task) else { return Ok(()) };
        let state = &task.fragments[fragment.index.0 as usize];
        // One whose proofs ran out did nothing wrong, and where verifiers are silent they all do: that is waited for.
        // Nor did one that made way.
        let blameless = |end: &LeaseEnd| match end {
            LeaseEnd::Lapsed { why } => why.check == LAPSED,
            LeaseEnd::Preempted { .. } | LeaseEnd::Superseded | LeaseEnd::FailedCopy { .. } => true,
            LeaseEnd::GrantRevoked => true,
            // Who misled it does so once in a task.
            LeaseEnd::Misled { .. } => true,
            _ => false,
        };
        let tried = state.attempts.iter().filter(|a| !a.ended.as_ref().is_some_and(blameless)).count();
        // What another member of its swarm goes on with fails for no copy.
        let fails = task.state == TaskState::Live && !matches!(state.phase, Phase::Leased { .. });
        let spec = task.request.fragment(fragment.index).map(|f| cut(&f.name)).unwrap_or_default();
        if fails && tried as u64 >= u64::from(self.limits.attempts_max) {
            let last = state.attempts.last().and_then(|a| a.ended.as_ref()).map(|end| end.unnamed().to_string());
            let last = last.unwrap_or_default();
            let reason = format!("fragment {} `{spec}` was tried {tried} times; the last time, {last}", fragment.index);
            self.end_task(fragment.task, TaskState::Failed { reason }, env, out)?;
        } else if silent && fails && task.ungranted.rounds >= self.limits.ungranted_max {
            let times = task.ungranted.rounds;
            let reason = format!("{NOT_GRANTED}: its client did not grant in time, {times} times in a row");
            self.end_task(fragment.task, TaskState::Failed { reason }, env, out)?;
        } else if task.state == TaskState::Live && self.is_left_without(&task.request) {
            let reason =
                format!("{OVER}: fragment {} `{spec}` lost its place when its reservation had ended", fragment.index);
            self.end_task(fragment.task, TaskState::Failed { reason }, env, out)?;
        } else {
            out.effects.push(Effect::TaskChanged { task: fragment.task });
        }
        match failed {
            Some((seat, why)) => self.end_seats(fragment.task, &[seat], why, env, out),
            None => Ok(()),
        }
    }

    pub(crate) fn end_leases_of(
        &mut self,
        enclave: EnclaveId,
        why: &LeaseEnd,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let held: Vec<_> =
            self.enclaves.get(&enclave).map(|e| e.leases().iter().copied().collect()).unwrap_or_default();
        for lease in held {
            self.end_lease(lease, why.clone(), env, out)?;
        }
        Ok(())
    }

    pub(crate) fn expire_leases(&mut self, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        let mut over = Vec::new();
        for id in self.deadlines.take(env.now.0) {
            let Some(deadline) = self.leases.get(&id).map(Lease::deadline) else { continue };
            if deadline < env.now {
                over.push((deadline, id));
            } else {
                self.deadlines.put(deadline.0, id);
            }
        }
        over.sort_unstable();
        for (_, id) in over {
            let Some(lease) = self.leases.get(&id) else { continue };
            let enclave = lease.enclave;
            let why = match lease {
                l if l.return_by.is_some_and(|r| r < env.now) => {
                    LeaseEnd::EnclaveLost { why: "it did not return to the new manager".into() }
                }
                Lease { preempted: Some(p), .. } if p.until < env.now => {
                    LeaseEnd::Preempted { by: p.by, tenant: p.tenant.clone(), priority: p.priority }
                }
                l if !l.offered => LeaseEnd::NotGranted,
                _ => LeaseEnd::Expired,
            };
            self.end_lease(id, why, env, out)?;
            out.effects.push(Effect::Cancel { enclave, lease: id });
        }
        Ok(())
    }

    /// An enclave will not run what it was offered.
    pub(crate) fn refused(
        &mut self,
        enclave: EnclaveId,
        lease: LeaseId,
        why: &Rejection,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let seat = self.seat_holds(lease).is_some_and(|(_, seat, _)| seat.enclave == enclave);
        let lent = self.loan(lease).is_some_and(|(_, loan)| loan.enclave == enclave);
        if !seat && !lent {
            self.held_by(lease, enclave)?;
        }
        self.end_lease(lease, LeaseEnd::Refused { why: cut_rejection(why) }, env, out)?;
        Ok(())
    }

    /// The lease, if this enclave holds it.
    pub(crate) fn held_by(&self, id: LeaseId, enclave: EnclaveId) -> Result<&Lease, Rejection> {
        self.leases.get(&id).filter(|l| l.enclave == enclave).ok_or_else(|| {
            Rejection::new("pool.lease", format!("{id}"))
                .expected(format!("a lease of enclave {}", enclave.short()))
                .got("none: it ended, or was never its own")
                .fix("stop this work and forget it")
        })
    }
}

fn lease_end(now: UnixTime, fragment: &Fragment, extra: u64) -> UnixTime {
    now.plus(fragment.demand.time.seconds_up()).plus(extra)
}

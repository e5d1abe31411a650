//! Work: whatever waits goes to whoever of the formed round is free and has the time for it; when nothing waits, what straggles is
//! given to another as well. The first good report wins, and the other lease ends without blame; one that fails while another goes
//! on ends alone.

use legation_core::{
    EnclaveId, FragmentId, FragmentIndex, LeaseId, Rejection, TaskId, UnixTime, swarm::SeatRef, task::Fragment,
};

use super::{HeldSeat, Round, bars, fragment_id};
use crate::{
    apply::Change,
    enclave::{Enclave, Presence},
    event::LeaseEnd,
    place::Choice,
    pool::{Env, Pool},
    task::{FragmentState, Phase, Task, TaskState},
};

/// Finished fragments of a module in the same task before another is called a straggler.
const FINISHED_MIN: usize = 3;
/// Nothing is a straggler before it has run this long, in microseconds: the pool's clock counts seconds.
const STRAGGLES_MIN: u64 = 2_000_000;

/// A member that could take a fragment.
struct Free<'a> {
    lease: LeaseId,
    seat: &'a HeldSeat,
}

impl Pool {
    /// Gives what waits, and what straggles, to members that are free.
    pub(super) fn hand_out(&mut self, id: TaskId, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        while let Some((index, choice)) = self.next_work(id, env.now) {
            self.lease(fragment_id(id, index), choice, env, out)?;
        }
        Ok(())
    }

    fn next_work(&self, id: TaskId, now: UnixTime) -> Option<(FragmentIndex, Choice)> {
        let (task, _, swarm) = self.swarm(id).filter(|(task, ..)| task.state == TaskState::Live)?;
        let round = swarm.formed()?;
        let in_round = |lease: LeaseId| round.seating.seats.iter().any(|s| s.member.lease == lease);
        let free: Vec<_> = swarm
            .seats
            .iter()
            .filter(|(lease, seat)| seat.work.is_none() && in_round(**lease))
            .filter(|(_, seat)| {
                let takes = |e: &Enclave| e.presence() == Presence::Here && e.is_trusted() && e.hold().is_none();
                self.enclaves.get(&seat.enclave).is_some_and(takes)
            })
            .map(|(lease, seat)| Free { lease: *lease, seat })
            .collect();
        if free.is_empty() {
            return None;
        }
        let mut queued: Vec<_> = (0..)
            .map(FragmentIndex)
            .zip(&task.fragments)
            .filter(|(_, state)| state.phase == Phase::Queued)
            .map(|(index, state)| (state.queued_at, index))
            .collect();
        queued.sort_unstable();
        let waits = !queued.is_empty();
        let wanted: Vec<_> = match waits {
            true => queued.into_iter().map(|(_, index)| index).collect(),
            false => self.stragglers(task, now),
        };
        wanted.into_iter().find_map(|index| Some((index, self.member_for(task, index, (round, &free), now)?)))
    }

    /// The first free member that may run a fragment and has the time for it.
    fn member_for(
        &self,
        task: &Task,
        index: FragmentIndex,
        (round, free): (&Round, &[Free<'_>]),
        now: UnixTime,
    ) -> Option<Choice> {
        let spec = task.request.fragment(index)?;
        let state = task.fragments.get(usize::try_from(index.0).ok()?)?;
        let holders: Vec<EnclaveId> = state.leases().filter_map(|l| self.leases.get(&l).map(|l| l.enclave)).collect();
        let failed = |of: EnclaveId| state.attempts.iter().any(|a| a.enclave == of && has_failed(a.ended.as_ref()));
        let eligible = free.iter().filter(|one| {
            let of = one.seat.enclave;
            let vain = holders.contains(&of) || (!holders.is_empty() && failed(of));
            !vain && bars(&state.attempts, of).is_none() && self.has_time(one.seat, spec, now)
        });
        let mut eligible = eligible.filter_map(|one| {
            let enclave = self.enclaves.get(&one.seat.enclave)?;
            let price_hour = enclave.rate().per_hour(spec.demand.cpu, spec.demand.memory);
            self.limits_at(&task.request, spec, enclave, price_hour, now).ok()?;
            Some((one, price_hour))
        });
        let (one, price_hour) = eligible.next()?;
        let others = u32::try_from(eligible.count()).unwrap_or(u32::MAX);
        let number = round.seating.round;
        let what = if holders.is_empty() { "free" } else { "free, to overtake a straggler" };
        Some(Choice {
            enclave: one.seat.enclave,
            price_hour,
            considered: u32::try_from(round.seating.seats.len()).unwrap_or(u32::MAX),
            eligible: others.saturating_add(1),
            passed_over: Vec::new(),
            decided_by: format!("member of round {number} of the swarm, {what}"),
            seat: Some(SeatRef { lease: one.lease, round: number }),
        })
    }

    /// Fragments that have run for longer than others of their module did, the longest first, and are not repeated yet.
    fn stragglers(&self, task: &Task, now: UnixTime) -> Vec<FragmentIndex> {
        let Some(percent) = task.request.swarm.as_ref().and_then(|terms| terms.speculate) else { return Vec::new() };
        let mut slow: Vec<_> = (0..)
            .map(FragmentIndex)
            .zip(&task.fragments)
            .filter_map(|(index, state)| {
                let Phase::Leased { lease } = state.phase else { return None };
                let again = state.copy.is_none() && !was_repeated_in_vain(state, lease);
                let lease = self.leases.get(&lease).filter(|l| l.offered && again)?;
                let ran = now.since(lease.from).saturating_mul(1_000_000);
                let usual = usual_micros(task, index)?;
                let slow = u128::from(ran) * 100 > u128::from(usual) * u128::from(percent);
                (slow && ran >= STRAGGLES_MIN).then_some((std::cmp::Reverse(ran), index))
            })
            .collect();
        slow.sort_unstable();
        slow.into_iter().map(|(_, index)| index).collect()
    }

    /// Whether a fragment could begin in a seat now: it has the time to be granted and to run there.
    fn has_time(&self, seat: &HeldSeat, fragment: &Fragment, now: UnixTime) -> bool {
        let begun = now.plus(self.limits.grant_seconds).plus(self.limits.lease_margin_seconds);
        begun.plus(fragment.demand.time.seconds_up()) <= seat.until
    }

    /// Whether any fragment that is not done could begin in a seat now.
    pub(super) fn is_of_use(&self, task: &Task, seat: &HeldSeat, now: UnixTime) -> bool {
        let mut left = task.request.indexed().zip(&task.fragments).filter(|(_, state)| state.done.is_none());
        left.any(|((_, fragment), _)| self.has_time(seat, fragment, now))
    }

    /// Whether two leases work on a fragment.
    pub(crate) fn is_repeated(&self, fragment: FragmentId) -> bool {
        let task = self.tasks.get(&fragment.task);
        let state = task.and_then(|task| task.fragments.get(usize::try_from(fragment.index.0).ok()?));
        state.is_some_and(|state| state.leases().count() > 1)
    }

    /// Ends the other leases of a fragment that was reported: they lost the race.
    pub(crate) fn supersede(
        &mut self,
        fragment: FragmentId,
        winner: LeaseId,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let state = self.tasks.get(&fragment.task).and_then(|t| t.fragments.get(fragment.index.0 as usize));
        let others: Vec<_> = state.map(|s| s.leases().filter(|l| *l != winner).collect()).unwrap_or_default();
        for lease in others {
            let enclave = self.leases.get(&lease).map(|l| l.enclave);
            self.end_loans_of(lease, env, out)?;
            out.record(self, env, crate::event::Event::LeaseEnded { lease, why: LeaseEnd::Superseded, charged: None })?;
            self.tell_to_stop(enclave, lease, out);
        }
        Ok(())
    }

    /// Whether an allocation may be made within a seat: why not, in words.
    pub(crate) fn seat_takes(&self, allocation: &legation_core::statement::Allocation) -> Result<(), &'static str> {
        let Some((task, _, swarm)) = self.swarm(allocation.task) else {
            return if allocation.seat.is_none() { Ok(()) } else { Err("a seat is used that no swarm has") };
        };
        let Some(SeatRef { lease, round }) = allocation.seat else {
            return Err("a fragment of a swarm is leased outside it");
        };
        let seat = swarm.seats.get(&lease).filter(|s| s.enclave == allocation.enclave && s.work.is_none());
        let formed = swarm.rounds.iter().find(|r| r.seating.round == round && r.is_formed());
        let member = formed.and_then(|r| r.seating.seat(allocation.enclave)).is_some_and(|s| s.member.lease == lease);
        if seat.is_none() || !member {
            return Err("a fragment is leased to who is no free member of a formed round");
        }
        let state = usize::try_from(allocation.fragment.0).ok().and_then(|at| task.fragments.get(at));
        let holders = state.into_iter().flat_map(|s| s.leases()).filter_map(|l| self.leases.get(&l));
        match holders.map(|l| l.enclave).any(|of| of == allocation.enclave) {
            true => Err("a fragment is repeated by who runs it"),
            false => Ok(()),
        }
    }
}

/// Whether a try ended by a failure of its own that did not count, for another went on.
fn has_failed(end: Option<&LeaseEnd>) -> bool {
    matches!(end, Some(LeaseEnd::FailedCopy { .. }))
}

/// Whether a copy of what runs under `lease` failed, or was not granted: another would come to the same.
fn was_repeated_in_vain(state: &FragmentState, lease: LeaseId) -> bool {
    let vain = |end: Option<&LeaseEnd>| has_failed(end) || end == Some(&LeaseEnd::NotGranted);
    state.attempts.iter().any(|a| a.lease > lease && vain(a.ended.as_ref()))
}

/// The median of what finished fragments of the same module took in this task, in microseconds; nothing of too few.
fn usual_micros(task: &Task, index: FragmentIndex) -> Option<u64> {
    let module = task.request.fragment(index)?.module;
    let mut took: Vec<_> = task
        .fragments
        .iter()
        .filter_map(|f| f.done.as_ref())
        .filter(|done| done.report.module == module)
        .map(|done| done.report.usage.micros)
        .collect();
    took.sort_unstable();
    (took.len() >= FINISHED_MIN).then(|| took.get(took.len() / 2).copied())?
}

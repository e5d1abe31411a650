//! Work: whatever waits goes to whoever of the formed round is free; when nothing waits, what straggles is given to another as
//! well. The first good report wins, and the other lease ends without blame.

use legation_core::{EnclaveId, FragmentIndex, LeaseId, Rejection, TaskId, UnixTime, swarm::SeatRef};

use super::{HeldSeat, Round, fragment_id};
use crate::{
    apply::Change,
    enclave::{Enclave, Presence},
    event::LeaseEnd,
    place::Choice,
    pool::{Env, Pool},
    task::{Phase, Task, TaskState},
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
                let takes = |e: &Enclave| e.presence == Presence::Here && e.is_trusted() && e.hold.is_none();
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
        let eligible = free.iter().filter(|one| {
            let of = one.seat.enclave;
            !holders.contains(&of)
                && task.tried(index, of).is_none()
                && now.plus(spec.demand.time.seconds_up()) <= one.seat.until
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
                let lease = self.leases.get(&lease).filter(|l| l.offered && state.copy.is_none())?;
                let ran = now.since(lease.from).saturating_mul(1_000_000);
                let usual = usual_micros(task, index)?;
                let slow = u128::from(ran) * 100 > u128::from(usual) * u128::from(percent);
                (slow && ran >= STRAGGLES_MIN).then_some((std::cmp::Reverse(ran), index))
            })
            .collect();
        slow.sort_unstable();
        slow.into_iter().map(|(_, index)| index).collect()
    }

    /// Ends the other leases of a fragment that was reported: they lost the race.
    pub(crate) fn supersede(
        &mut self,
        fragment: legation_core::FragmentId,
        winner: LeaseId,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let state = self.tasks.get(&fragment.task).and_then(|t| t.fragments.get(fragment.index.0 as usize));
        let others: Vec<_> = state.map(|s| s.leases().filter(|l| *l != winner).collect()).unwrap_or_default();
        for lease in others {
            let enclave = self.leases.get(&lease).map(|l| l.enclave);
            out.record(self, env, crate::event::Event::LeaseEnded { lease, why: LeaseEnd::Superseded })?;
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

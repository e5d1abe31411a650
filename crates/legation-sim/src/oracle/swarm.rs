//! The judge's own books of swarms.

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{
    EnclaveId, FragmentId, LeaseId, MicroUsd, TaskId, UnixTime,
    claims::Capacity,
    statement::Allocation,
    swarm::{Member, Membership, Seating},
    task::Demand,
};
use legation_pool::{Explanation, GangBooking, LeaseEnd, Phase, Record, Task};

use super::{Oracle, cost_max, unless};

/// The swarm of one task: its seats, and the rounds with who joined them.
#[derive(Default)]
pub(super) struct Book {
    seats: BTreeMap<LeaseId, Seat>,
    rounds: BTreeMap<u32, (Vec<Member>, BTreeSet<EnclaveId>)>,
}

struct Seat {
    enclave: EnclaveId,
    until: UnixTime,
    demand: Demand,
    cost_max: MicroUsd,
    works: bool,
}

impl Book {
    pub(super) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// What worked in a seat does no more.
    pub(super) fn leave(&mut self, seat: LeaseId) {
        if let Some(seat) = self.seats.get_mut(&seat) {
            seat.works = false;
        }
    }
}

impl Oracle {
    /// What seats set aside of an enclave.
    pub(super) fn seats_at(&self, enclave: EnclaveId) -> impl Iterator<Item = Demand> + '_ {
        let all = self.tasks.values().flat_map(|task| task.swarm.seats.values());
        all.filter(move |seat| seat.enclave == enclave).map(|seat| seat.demand)
    }

    pub(super) fn seated(&mut self, seating: &Seating, record: &Record) -> Result<(), String> {
        let known = self.tasks.get(&seating.task).ok_or("seats an unknown task")?;
        let terms = known.request.swarm.clone().ok_or("seats a task that asks for no swarm")?;
        let demand = terms.seat_of(&known.request).demand;
        unless(known.live, || "seats a task that has ended".to_owned())?;
        self.booked.take_if(|booked| booked.task == seating.task);
        unless(!known.swarm.rounds.contains_key(&seating.round), || "seats a round twice".to_owned())?;
        let stay = seating.seats.iter().filter(|s| known.swarm.seats.contains_key(&s.member.lease)).count();
        let (had, all) = (known.swarm.seats.len(), usize::from(terms.members));
        unless(stay == had && seating.seats.len() <= all, || "leaves a seat out, or gives too many".to_owned())?;
        unless(had > 0 || seating.seats.len() == all, || "seats a swarm in part".to_owned())?;
        let least = usize::from(terms.least());
        unless(seating.seats.len() >= least, || format!("seats a round of fewer than {least}"))?;
        let known: BTreeSet<_> = known.swarm.seats.keys().copied().collect();
        for seat in seating.seats.iter().filter(|s| !known.contains(&s.member.lease)) {
            let Member { enclave, lease, .. } = seat.member;
            let truth = self.fit_for_work(enclave, record)?;
            self.has_room(enclave, truth, &demand)?;
            unless(self.leaves_booked(enclave, seat.until, demand, truth.capacity), || {
                format!("a seat in room of {} that is booked for another swarm", enclave.short())
            })?;
            let price = truth.rate.per_hour(demand.cpu, demand.memory);
            unless(seat.price_hour == price, || format!("a seat at {}, not {price}", seat.price_hour))?;
            let cost_max = cost_max(price, &demand);
            let task = self.tasks.get_mut(&seating.task).ok_or("seats an unknown task")?;
            task.committed = task.committed.saturating_add(cost_max);
            task.swarm.seats.insert(lease, Seat { enclave, until: seat.until, demand, cost_max, works: false });
            task.within_budget()?;
        }
        let task = self.tasks.get_mut(&seating.task).ok_or("seats an unknown task")?;
        task.swarm.rounds.insert(seating.round, (seating.members(), BTreeSet::new()));
        Ok(())
    }

    /// Room is booked for one swarm at once, which waits for seats.
    pub(super) fn book(&mut self, booking: &GangBooking) -> Result<(), String> {
        let known = self.tasks.get(&booking.task).ok_or("books room for an unknown task")?;
        unless(known.live && known.swarm.is_empty(), || "books room for a swarm that does not wait".to_owned())?;
        let before = self.booked.replace(booking.clone());
        unless(before.is_none(), || "books room for two swarms".to_owned())
    }

    /// Whether a lease or a seat that lasts until then, with all others that last into the time from which its enclave is booked, leaves
    /// the room that is booked.
    pub(super) fn leaves_booked(&self, enclave: EnclaveId, until: UnixTime, demand: Demand, all: Capacity) -> bool {
        let booked = self.booked.as_ref().filter(|booked| booked.enclaves.contains(&enclave));
        let Some(booked) = booked.filter(|booked| until >= booked.at) else { return true };
        let leases = self.leases.values().filter(|l| l.live && l.within.is_none() && l.enclave == enclave);
        let leases = leases.filter(|l| l.until >= booked.at).map(|l| l.demand);
        let seats = self.tasks.values().flat_map(|task| task.swarm.seats.values());
        let seats = seats.filter(|seat| seat.enclave == enclave && seat.until >= booked.at).map(|seat| seat.demand);
        let promised: Vec<Demand> = leases.chain(seats).chain([demand, booked.demand]).collect();
        let cpu: u64 = promised.iter().map(|d| d.cpu.0).sum();
        let memory: u64 = promised.iter().map(|d| d.memory.0).sum();
        cpu <= all.cpu.0 && memory <= all.memory.0 && promised.len() as u64 <= u64::from(all.slots)
    }

    pub(super) fn joined(&mut self, membership: &Membership) -> Result<(), String> {
        let enclave = membership.enclave.enclave_id();
        let task = self.tasks.get_mut(&membership.task).ok_or("joins an unknown task")?;
        let (members, joined) = task.swarm.rounds.get_mut(&membership.round).ok_or("joins an unknown round")?;
        unless(*members == membership.members, || "joins with another list".to_owned())?;
        let listed = members.iter().any(|m| m.enclave == enclave);
        unless(listed && joined.insert(enclave), || "joins without a seat, or twice".to_owned())
    }

    pub(super) fn seats_ended(&mut self, task: TaskId, seats: &[(LeaseId, MicroUsd)]) -> Result<(), String> {
        let task = self.tasks.get_mut(&task).ok_or("ends seats of an unknown task")?;
        for (lease, charged) in seats {
            let seat = task.swarm.seats.remove(lease).ok_or_else(|| format!("ends {lease}, which is no seat"))?;
            unless(!seat.works, || format!("ends {lease}, in which something runs"))?;
            let sat = |(members, joined): &(Vec<Member>, BTreeSet<EnclaveId>)| {
                members.iter().any(|m| m.lease == *lease && joined.contains(&m.enclave))
            };
            let most = if task.swarm.rounds.values().any(sat) { seat.cost_max } else { MicroUsd::ZERO };
            unless(*charged <= most, || format!("charges {charged} for {lease}, at most {most}"))?;
            task.committed = task.committed.saturating_sub(seat.cost_max);
            task.spent = task.spent.saturating_add(*charged);
        }
        task.within_budget()
    }

    /// A fragment has one live lease; one of a swarm may have two, of two enclaves.
    pub(super) fn alone(&self, fragment: FragmentId, allocation: &Allocation) -> Result<(), String> {
        let others = self.holders.range((fragment, LeaseId(0))..=(fragment, LeaseId(u64::MAX)));
        let others: Vec<_> = others.filter_map(|(_, lease)| self.leases.get(lease)).collect();
        let repeats = allocation.seat.is_some()
            && others.len() == 1
            && others.iter().all(|other| other.enclave != allocation.enclave);
        unless(others.is_empty() || repeats, || format!("{fragment} has a lease already"))
    }

    /// A fragment of a swarm goes to a free member of a formed round, and no other has a seat.
    pub(super) fn takes_seat(&mut self, allocation: &Allocation) -> Result<Option<LeaseId>, String> {
        let task = self.tasks.get_mut(&allocation.task).ok_or("leases for an unknown task")?;
        let (asked, named) = (task.request.swarm.is_some(), allocation.seat);
        let Some(named) = named else {
            unless(!asked, || "leases a fragment of a swarm outside it".to_owned())?;
            return Ok(None);
        };
        let (members, joined) = task.swarm.rounds.get(&named.round).ok_or("leases in an unknown round")?;
        unless(joined.len() == members.len(), || "leases in a round that is not formed".to_owned())?;
        let listed = members.iter().any(|m| m.enclave == allocation.enclave && m.lease == named.lease);
        unless(listed, || "leases to who is no member of the round".to_owned())?;
        let seat = task.swarm.seats.get_mut(&named.lease).ok_or("leases in a seat that ended")?;
        unless(!seat.works && seat.enclave == allocation.enclave, || "leases in a seat that is taken".to_owned())?;
        seat.works = true;
        Ok(Some(named.lease))
    }
}

/// A swarm that waits although enough enclaves could take it.
pub(super) fn stuck(id: TaskId, task: &Task, said: &[Explanation]) -> Result<(), String> {
    let (Some(terms), Some(swarm)) = (&task.request.swarm, &task.swarm) else { return Ok(()) };
    // Who failed is not taken again, nor who was lost three times.
    let barred = |enclave: EnclaveId| {
        let ends = swarm.gone.iter().filter(|gone| gone.enclave == enclave).filter_map(|gone| gone.ended.as_ref());
        let (lost, others): (Vec<_>, Vec<_>) = ends.partition(|end| matches!(end, LeaseEnd::EnclaveLost { .. }));
        lost.len() >= 3 || others.into_iter().any(LeaseEnd::blames_enclave)
    };
    let queued = said.iter().filter(|s| s.phase == Phase::Queued);
    let able = queued.map(|s| s.ranking.iter().filter(|r| !barred(r.enclave)).count()).min().unwrap_or(0);
    let wanted = usize::from(terms.members);
    unless(!swarm.seats.is_empty() || able < wanted, || {
        format!("the swarm of task {} waits for {wanted} members, and {able} could be", id.short())
    })
}

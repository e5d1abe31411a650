//! Seating: members are chosen one after another by the index, each held for the length of the question as an estimate holds
//! what it finds, and given back; then there is one record of all, or none.
//!
//! Every round has as many members as must be, the first one all of them. Whoever stays is shown by a passport that counts now, or
//! loses its seat before the round is made. Those who would have nothing to do are not looked for: while as many as must be are
//! left, a fragment has to wait.
//!
//! The choice is greedy: each member is the best beside those before it. Where rules of spread ask for what all share (`same`),
//! the first member decides which; a gang that this misses waits, and is tried again.

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{
    EnclaveId, LeaseId, MicroUsd, Rejection, Signed, TaskId, UnixTime, dsse,
    prefer::Preferences,
    statement::Placement,
    swarm::{Member, Seat, Seating},
    task::Fragment,
};

use super::{HeldSeat, ROUNDS_PER_TASK_MAX, Round, Rulings, Swarm, seat_cost};
use crate::{
    apply::{Change, defect},
    event::{Effect, Event, LeaseEnd},
    fair::Cost,
    lapse::LAPSED,
    place::{self, Choice},
    pool::{Env, Pool},
    queue::{Class, flow_of},
    task::{Phase, Task, TaskState},
    wanted::Wanted,
};

/// Enclaves that are looked at beyond the members wanted, where rules of placement speak about single fragments.
pub(super) const DETOURS_MAX: usize = 64;

/// What decides whether a swarm that never had a seat finds any: the same for all that ask for the same.
pub(super) type Asked = (Class, u16, Preferences);

impl Pool {
    /// Seats a swarm that has none, all or none; gives a swarm that lost members others, as many as there are. Where nobody is
    /// found and the last round can never be formed, those who are left make a new one. What finds nothing is noted in `vain`, and
    /// not looked for again within the same command.
    pub(super) fn seat_swarm(
        &mut self,
        id: TaskId,
        vain: &mut Vec<Asked>,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let Some((task, terms, swarm)) = self.swarm(id) else { return Ok(()) };
        if task.state != TaskState::Live || task.fragments.iter().all(|f| f.done.is_some()) {
            return Ok(());
        }
        let (members, least) = (usize::from(terms.members), usize::from(terms.least()));
        let held = swarm.seats.len();
        let (broken, seatings, rounds) = (swarm.is_broken(), swarm.seatings, swarm.rounds.len());
        let waits = held < least || task.fragments.iter().any(|f| f.phase == Phase::Queued);
        // What is booked for one is of no use to others that ask for the same.
        let booked = held == 0 && self.booked_for(id).is_some();
        let asked = if swarm.gone.is_empty() && held == 0 && !booked { self.asked(task) } else { None };
        if asked.as_ref().is_some_and(|asked| vain.contains(asked)) {
            return Ok(());
        }
        if held == 0 && seatings >= self.limits.attempts_max {
            let reason = format!("its swarm was seated {seatings} times and dissolved each time");
            return self.end_task(id, TaskState::Failed { reason }, env, out);
        }
        let lacks = if waits { members.saturating_sub(held) } else { 0 };
        let mut chosen = match lacks {
            0 => Vec::new(),
            _ => self.choose_gang(id, lacks, BTreeSet::new(), &mut out.rulings, env.now),
        };
        if booked && chosen.len() < members {
            chosen = self.choose_booked(id, &mut out.rulings, env.now);
        }
        let enough = match held {
            0 => chosen.len() == members,
            _ => held.saturating_add(chosen.len()) >= least && (broken || !chosen.is_empty()),
        };
        if !enough {
            vain.extend(asked);
            return Ok(());
        }
        let unproven = self.unproven_members(id, env.now);
        if let Some((_, first)) = unproven.first() {
            let why = Rejection::new(LAPSED, format!("passports of enclave {}", first.short()))
                .expected("one that holds, of a verifier of this tenant's work, and that satisfies the task")
                .got("none")
                .fix("its agent must attest again: see `legation enclave show`");
            let seats: Vec<_> = unproven.iter().map(|(lease, _)| *lease).collect();
            self.end_seats(id, &seats, LeaseEnd::Lapsed { why }, env, out)?;
            return self.seat_swarm(id, vain, env, out);
        }
        if rounds >= ROUNDS_PER_TASK_MAX {
            let reason = format!("its swarm had {rounds} rounds, as many as a task may have");
            return self.end_task(id, TaskState::Failed { reason }, env, out);
        }
        let seating = self.seating(id, &chosen, env)?;
        self.pass_booking(id, &chosen, env, out)?;
        out.record(self, env, Event::SwarmSeated { seating: Box::new(seating) })?;
        self.enlist_all(id, out);
        Ok(())
    }

    /// What a swarm that never had a seat asks for, where that alone decides: no rules of placement look at single fragments.
    fn asked(&self, task: &Task) -> Option<Asked> {
        let terms = task.request.swarm.as_ref().filter(|_| self.is_unruled(&task.request))?;
        let class = Class::of_fragment(&task.request, &terms.seat_of(&task.request));
        Some((class, terms.members, task.request.prefer.clone()))
    }

    /// Members of which no passport counts any more for what they have a seat for.
    fn unproven_members(&self, id: TaskId, now: UnixTime) -> Vec<(LeaseId, EnclaveId)> {
        let Some((task, terms, swarm)) = self.swarm(id) else { return Vec::new() };
        let spec = terms.seat_of(&task.request);
        let seats = swarm.seats.iter().map(|(lease, seat)| (*lease, seat.enclave));
        seats.filter(|(_, enclave)| self.passport_to_show(id, &spec, *enclave, now).is_none()).collect()
    }

    /// Up to `wanted` enclaves, none of those that are `barred`, that could be members beside those that are: none stays held.
    pub(super) fn choose_gang(
        &mut self,
        id: TaskId,
        wanted: usize,
        mut barred: BTreeSet<EnclaveId>,
        rulings: &mut Rulings,
        now: UnixTime,
    ) -> Vec<Choice> {
        let Some((task, terms, swarm)) = self.swarm(id) else { return Vec::new() };
        let seat = terms.seat_of(&task.request);
        let request = task.request.clone();
        let ruled = !self.is_unruled(&request);
        let class = Class::of_fragment(&request, &seat);
        let before: Vec<EnclaveId> = swarm.seats.values().map(|s| s.enclave).collect();
        let mut chosen: Vec<Choice> = Vec::new();
        while chosen.len() < wanted && barred.len() <= DETOURS_MAX {
            let taken: Vec<_> = before.iter().copied().chain(chosen.iter().map(|c| c.enclave)).collect();
            let Some(found) = self.choose_member(id, &seat, (&taken, &barred), class, now) else { break };
            // Rules of placement may see more of a fragment than a seat shows.
            if ruled && !self.may_run_all(id, found.enclave, rulings, now) {
                barred.insert(found.enclave);
                continue;
            }
            self.hold_seat(id, &found, &seat, chosen.len(), true);
            chosen.push(found);
        }
        for (n, one) in chosen.iter().enumerate().rev() {
            self.hold_seat(id, one, &seat, n, false);
        }
        chosen
    }

    fn choose_member(
        &self,
        id: TaskId,
        seat: &Fragment,
        (taken, barred): (&[EnclaveId], &BTreeSet<EnclaveId>),
        class: Class,
        now: UnixTime,
    ) -> Option<Choice> {
        let task = self.tasks.get(&id)?;
        place::choose_for(Wanted::seat(self, task, seat, taken, barred, now), class).ok()
    }

    /// Takes what a seat would take, or gives it back.
    pub(super) fn hold_seat(&mut self, id: TaskId, choice: &Choice, seat: &Fragment, n: usize, take: bool) {
        // No lease has such a number: they are counted by one.
        let lease = LeaseId(u64::MAX.saturating_sub(n as u64));
        let cost = seat_cost(choice.price_hour, &seat.demand);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let tenant = task.request.tenant.clone();
        if take {
            task.committed = task.committed.saturating_add(cost);
            self.accounts.queue(&tenant, 1);
            self.accounts.take(&tenant, &seat.demand, cost);
        } else {
            task.committed = task.committed.saturating_sub(cost);
            self.accounts.give_back(&tenant, &seat.demand, cost);
        }
        if let Some(enclave) = self.enclaves.get_mut(&choice.enclave) {
            if take {
                enclave.take(lease, &seat.demand);
            } else {
                enclave.give_back(lease, &seat.demand);
            }
        }
        self.reindex_room(choice.enclave);
    }

    /// The manager's word on the next round: those who have seats, and those chosen.
    fn seating(&self, id: TaskId, chosen: &[Choice], env: &Env<'_>) -> Result<Signed<Seating>, Rejection> {
        let (task, terms, swarm) = self.swarm(id).ok_or_else(|| defect("a swarm that is seated"))?;
        let appointment = self.manager.as_ref().ok_or_else(|| defect("a swarm is seated and nobody leads"))?;
        let spec = terms.seat_of(&task.request);
        let before = swarm.rounds.last();
        let mut seats = Vec::new();
        for (lease, seat) in &swarm.seats {
            let said = swarm.rounds.iter().rev().find_map(|r| r.seating.seat(seat.enclave));
            let said = said.filter(|s| s.member.lease == *lease).ok_or_else(|| defect("a seat that nobody gave"))?;
            let passport = self.passport_to_show(id, &spec, seat.enclave, env.now);
            let passport = passport.ok_or_else(|| defect("a member that nothing proves"))?;
            seats.push(Seat { member: Member { passport, ..said.member }, ..said.clone() });
        }
        let life = self.seat_seconds(&spec.demand);
        for (n, choice) in (1..).zip(chosen) {
            let enclave = self.enclaves.get(&choice.enclave).ok_or_else(|| defect("a chosen enclave"))?;
            let passport = self.passport_to_show(id, &spec, choice.enclave, env.now);
            let passport = passport.unwrap_or(enclave.proof().passport);
            let configuration = &enclave.typical().configuration;
            let lease = LeaseId(self.last_lease.0.saturating_add(n));
            seats.push(Seat {
                member: Member { enclave: choice.enclave, passport, lease },
                provider: configuration.provider.clone(),
                region: configuration.region.clone(),
                from: env.now,
                until: env.now.plus(life),
                price_hour: choice.price_hour,
                why: Placement {
                    considered: choice.considered,
                    eligible: choice.eligible,
                    passed_over: choice.passed_over.clone(),
                    decided_by: choice.decided_by.clone(),
                },
            });
        }
        seats.sort_by_key(|s| s.member.enclave);
        let mut prev = vec![task.request.digest(), appointment.digest()];
        prev.extend(before.map(|round| round.seating.digest()));
        let seating = Seating {
            manager: env.signer.public_key(),
            term: self.term,
            task: id,
            round: before.map_or(1, |round| round.seating.round.saturating_add(1)),
            at: env.now,
            seats,
            revocations: self.revoked.epoch(),
            prev,
        };
        Ok(dsse::sign(seating, env.signer))
    }

    /// The passport by which an enclave was found good for a seat.
    fn passport_to_show(
        &self,
        id: TaskId,
        seat: &Fragment,
        enclave: EnclaveId,
        now: UnixTime,
    ) -> Option<legation_core::Digest> {
        let (task, enclave) = (self.tasks.get(&id)?, self.enclaves.get(&enclave)?);
        self.proof_to_show(task, seat, enclave, now).map(|proof| proof.passport)
    }

    /// Whether an enclave has a seat in the last round of a swarm and has not joined.
    pub(crate) fn is_asked_to_join(&self, task: TaskId, enclave: EnclaveId) -> bool {
        self.swarm(task).and_then(|(_, _, swarm)| swarm.rounds.last().map(|round| (swarm, round))).is_some_and(
            |(swarm, round)| {
                let member = round.seating.seat(enclave).map(|s| s.member.lease);
                member.is_some_and(|lease| swarm.seats.contains_key(&lease)) && !round.has_joined(enclave)
            },
        )
    }

    /// Asks every member that can be reached, and has not joined, to join the last round.
    pub(super) fn enlist_all(&self, id: TaskId, out: &mut Change) {
        let Some((_, _, swarm)) = self.swarm(id) else { return };
        for seat in swarm.seats.values() {
            let here = self.enclaves.get(&seat.enclave).is_some_and(|e| !e.is_away());
            if here && self.is_asked_to_join(id, seat.enclave) {
                out.effects.push(Effect::Enlist { enclave: seat.enclave, task: id });
            }
        }
    }

    /// Whether a seating can be the next of its task: why not, in words.
    pub(crate) fn seating_may_follow(&self, seating: &Seating) -> Result<(), &'static str> {
        let Some((_, terms, swarm)) = self.swarm(seating.task) else {
            return Err("a task is seated that has no swarm");
        };
        let next = swarm.rounds.last().map_or(1, |r| r.seating.round.saturating_add(1));
        if seating.round != next || !seating.is_well_formed() {
            return Err("rounds of a swarm are not counted by one, or its seats are not in order");
        }
        let kept = |s: &Seat| swarm.seats.get(&s.member.lease).is_some_and(|h| h.enclave == s.member.enclave);
        let stay = seating.seats.iter().filter(|s| kept(s)).count();
        let new: BTreeMap<LeaseId, &Seat> =
            seating.seats.iter().filter(|s| !kept(s)).map(|s| (s.member.lease, s)).collect();
        let counted = (self.last_lease.0.saturating_add(1)..).zip(new.keys()).all(|(n, lease)| lease.0 == n);
        if stay != swarm.seats.len() || !counted {
            return Err("a seating leaves a seat out, or its new seats are not counted by one");
        }
        let (all, least) = (usize::from(terms.members), usize::from(terms.least()));
        let few = if swarm.seats.is_empty() { all } else { least };
        if !(few..=all).contains(&seating.seats.len()) {
            return Err("a swarm is seated in part, or by too many");
        }
        let proven =
            |s: &Seat| self.enclaves.get(&s.member.enclave).is_some_and(|e| e.proof_by(s.member.passport).is_some());
        if seating.seats.iter().all(proven) { Ok(()) } else { Err("a seat is given by a passport that is not known") }
    }

    pub(crate) fn absorb_seated(&mut self, seating: &Signed<Seating>, now: UnixTime) -> Option<()> {
        let id = seating.task;
        let demand = super::seat_demand(&self.tasks.get(&id)?.request)?;
        self.end_booking(id);
        let join_by = now.plus(self.limits.join_seconds);
        let task = self.tasks.get_mut(&id)?;
        let tenant = task.request.tenant.clone();
        let least = usize::from(task.request.swarm.as_ref()?.least());
        let swarm: &mut Swarm = task.swarm.as_mut()?;
        swarm.seatings = swarm.seatings.saturating_add(u32::from(swarm.seats.is_empty()));
        let mut given = 0_u128;
        for seat in &seating.seats {
            let Member { enclave: of, passport, lease } = seat.member;
            if let Some(proof) = self.enclaves.get(&of).and_then(|e| e.proof_by(passport)) {
                swarm.proofs.entry(passport).or_insert_with(|| proof.clone());
            }
            if swarm.seats.contains_key(&lease) {
                continue;
            }
            let cost_max: MicroUsd = seat_cost(seat.price_hour, &demand);
            let held = HeldSeat {
                enclave: of,
                from: seat.from,
                until: seat.until,
                price_hour: seat.price_hour,
                cost_max,
                return_by: None,
                work: None,
                joined: false,
            };
            swarm.seats.insert(lease, held);
            self.seats.insert(lease, id);
            task.committed = task.committed.saturating_add(cost_max);
            self.accounts.queue(&tenant, 1);
            self.accounts.take(&tenant, &demand, cost_max);
            let enclave = self.enclaves.get_mut(&of)?;
            enclave.take(lease, &demand);
            self.classes.room(enclave);
            self.last_lease = self.last_lease.max(lease);
            given = given.saturating_add(1);
        }
        // Seats count as what waited for them would.
        let (cost, weight) = (self.classes.offered().cost(&demand), self.accounts.of(&tenant).terms.weight);
        self.queue.charge(&flow_of(&task.request), Cost(cost.0.saturating_mul(given)), weight);
        if swarm.seats.len() >= least {
            swarm.short_since = None;
        }
        // Nothing can rest on a round that was not formed: who joined it is of no more use.
        for round in swarm.rounds.iter_mut().filter(|round| !round.is_formed()) {
            round.memberships = Vec::new();
        }
        swarm.rounds.push(Round { seating: seating.clone(), memberships: Vec::new(), join_by });
        Some(())
    }
}

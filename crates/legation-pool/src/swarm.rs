//! Swarms: several enclaves held at once for one task (`legation_core::swarm` has the words and the statements).
//!
//! ```text
//!            all or none           every member signs the list          work is pulled, one fragment at a time each
//!  waiting ----------------> forming ----------------------> formed ------------------------------------------> dissolved
//!     ^                        ^    lost, late: replaced, a new round     |
//!     |                        '------------------------------------------'
//!     '---------------- fewer than `least` for too long: every seat is given back
//! ```
//! 1. A gang is tried at once and recorded at once: one record holds the seats of all members, or there is none (`seating.rs`).
//! 2. A seat is a lease of an enclave without a fragment: what it sets aside is held, committed against budget and account, and
//!    charged by time when it ends, for the time that is asked for at most; nothing where its member never joined. Fragments run
//!    inside it: nothing is taken or charged twice. One in which nothing could begin any more ends.
//! 3. Fragments are given to members of formed rounds alone, whenever one is free (`work.rs`); what straggles is given to another
//!    as well, and the first good report wins.
//! 4. Who is lost, revoked, lapses, does not join in time, or fails a fragment loses its seat and is replaced; the others go on.
//!    Who was lost may be taken again, twice; who failed may not.
//! 5. When the task ends, one record gives back every seat.
//! 6. Swarms that wait for seats are `WAITING_MAX` at most, those of one tenant half of what others leave.
//! 7. For the first that has waited for long, room is booked ahead (`ahead.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use legation_core::{
    Digest, EnclaveId, FragmentId, FragmentIndex, LeaseId, MicroUsd, Rejection, Seq, Signed, TaskId, UnixTime,
    statement::Request,
    swarm::{Member, Membership, SeatDemand, Seating, SwarmTerms},
    task::Demand,
};
use serde::{Deserialize, Serialize};

use crate::{
    apply::Change,
    brief::Brief,
    enclave::{Enclave, Presence},
    event::{Effect, Event, LeaseEnd},
    fair::Turn,
    meter::Metered,
    pool::{Env, Pool},
    queue::{Chances, flow_of},
    task::{Attempt, FragmentState, Phase, Task, TaskState},
    wanted,
};

mod ahead;
mod beforehand;
mod forming;
mod rulings;
mod seating;
mod view;
mod work;

pub use ahead::{GangBooking, Unbooked};
pub(crate) use ahead::{Searched, may_close};
pub use beforehand::SwarmEstimate;
pub use forming::EnlistParts;
pub(crate) use rulings::Rulings;
pub use view::{SeatView, SwarmStage, SwarmView};

/// Seats that one swarm may lose for each of its members before its task fails.
const LOST_PER_MEMBER: usize = 8;
/// How often one enclave may be lost until a swarm takes it no more: channels break, and that alone is no failure.
const LOST_MAX: usize = 3;
/// Rounds that one task may have: each is kept, with the words of all of its members.
const ROUNDS_PER_TASK_MAX: usize = 256;
/// Swarms that may wait for seats, in the whole pool.
const WAITING_MAX: usize = 256;

/// The swarm of one task.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Swarm {
    /// Its rounds, the first is 1.
    pub rounds: Vec<Round>,
    /// The seats it holds.
    pub seats: BTreeMap<LeaseId, HeldSeat>,
    /// Seats that ended, as tries.
    pub gone: Vec<Attempt>,
    /// What seats that ended cost.
    pub charged: MicroUsd,
    /// How often it was seated from nothing since one of its fragments was done.
    pub seatings: u32,
    /// Since when it has fewer members than it may, while it has any.
    pub(crate) short_since: Option<UnixTime>,
    /// Its place among those that wait.
    pub(crate) since: Seq,
    /// Since when it has no seat, if it has none; or since room that was booked for it came to nothing.
    pub(crate) waits_since: UnixTime,
    /// Enclaves that ended what was booked for it, and when, the last last: they are not booked for it again for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) shunned: Vec<(UnixTime, EnclaveId)>,
    /// Proofs of all who ever had a seat, by passport: receipts rest on them.
    pub(crate) proofs: BTreeMap<Digest, Brief>,
}

/// One round.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Round {
    /// The manager's word on who is in it.
    pub seating: Signed<Seating>,
    /// The words of those who joined, ascending by enclave.
    pub memberships: Vec<Signed<Membership>>,
    /// Who has not joined by then loses its seat.
    pub join_by: UnixTime,
}

/// A seat that is held.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HeldSeat {
    /// By whom.
    pub enclave: EnclaveId,
    /// Begin.
    pub from: UnixTime,
    /// End at the latest.
    pub until: UnixTime,
    /// One hour of it.
    pub price_hour: MicroUsd,
    /// What it may cost at most.
    pub cost_max: MicroUsd,
    /// The enclave has until then to come back, after a new manager began.
    pub return_by: Option<UnixTime>,
    /// The lease of the fragment that it works on.
    pub work: Option<LeaseId>,
    /// Whether its member ever joined a round: nothing is charged before.
    pub joined: bool,
}

impl Round {
    /// Whether every member signed.
    pub fn is_formed(&self) -> bool {
        self.memberships.len() == self.seating.seats.len()
    }

    /// Whether a member signed.
    pub fn has_joined(&self, enclave: EnclaveId) -> bool {
        self.memberships.iter().any(|m| m.enclave.enclave_id() == enclave)
    }
}

impl Swarm {
    pub(crate) fn new(since: Seq) -> Self {
        Self {
            rounds: Vec::new(),
            seats: BTreeMap::new(),
            gone: Vec::new(),
            charged: MicroUsd::ZERO,
            seatings: 0,
            short_since: None,
            since,
            waits_since: UnixTime(0),
            shunned: Vec::new(),
            proofs: BTreeMap::new(),
        }
    }

    /// The last round whose every member signed, while one of them has a seat.
    pub fn formed(&self) -> Option<&Round> {
        let seated = |r: &Round| r.seating.seats.iter().any(|s| self.seats.contains_key(&s.member.lease));
        self.rounds.iter().rev().find(|round| round.is_formed()).filter(|round| seated(round))
    }

    /// Whether the last round waits for somebody who has no seat any more: it can never be formed.
    fn is_broken(&self) -> bool {
        self.rounds.last().is_some_and(|round| {
            !round.is_formed() && round.seating.seats.iter().any(|s| !self.seats.contains_key(&s.member.lease))
        })
    }
}

impl FragmentState {
    /// Its leases: one, or two while it is repeated.
    pub fn leases(&self) -> impl Iterator<Item = LeaseId> + use<> {
        let own = match self.phase {
            Phase::Leased { lease } => Some(lease),
            _ => None,
        };
        own.into_iter().chain(self.copy)
    }
}

/// What a seat of this request sets aside, as leases do.
pub(crate) fn seat_demand(request: &Request) -> Option<Demand> {
    request.swarm.as_ref().map(|terms| terms.seat_of(request).demand)
}

/// The try that rules an enclave out for what was tried: any that blames it; of those by which it was lost, the third.
pub(crate) fn bars(tries: &[Attempt], enclave: EnclaveId) -> Option<&Attempt> {
    let mut lost = 0;
    tries.iter().filter(|one| one.enclave == enclave).find(|one| match &one.ended {
        Some(LeaseEnd::EnclaveLost { .. }) => {
            lost += 1;
            lost >= LOST_MAX
        }
        Some(end) => end.blames_enclave(),
        None => false,
    })
}

/// What a seat costs by now: every second of it, once its member joined.
fn charge(seat: &HeldSeat, now: UnixTime) -> MicroUsd {
    if !seat.joined {
        return MicroUsd::ZERO;
    }
    let micros = u128::from(seat.price_hour.0) * u128::from(now.since(seat.from));
    MicroUsd(u64::try_from(micros.div_ceil(3600)).unwrap_or(u64::MAX)).min(seat.cost_max)
}

impl Pool {
    /// The task whose seat a lease is.
    pub fn seat_task(&self, lease: LeaseId) -> Option<TaskId> {
        self.seats.get(&lease).copied()
    }

    pub(crate) fn swarm(&self, task: TaskId) -> Option<(&Task, &SwarmTerms, &Swarm)> {
        let task = self.tasks.get(&task)?;
        Some((task, task.request.swarm.as_ref()?, task.swarm.as_deref()?))
    }

    fn seat(&self, lease: LeaseId) -> Option<&HeldSeat> {
        self.tasks.get(self.seats.get(&lease)?)?.swarm.as_ref()?.seats.get(&lease)
    }

    pub(crate) fn seat_mut(&mut self, lease: LeaseId) -> Option<&mut HeldSeat> {
        self.tasks.get_mut(self.seats.get(&lease)?)?.swarm.as_mut()?.seats.get_mut(&lease)
    }

    /// Leases of fragments that an enclave has, those within seats among them, and loans of it: what an agent knows as its work.
    pub(crate) fn work_at(&self, enclave: EnclaveId) -> BTreeSet<LeaseId> {
        let held = self.enclaves.get(&enclave).into_iter().flat_map(|e| e.leases().iter().copied());
        held.filter_map(|lease| self.seat(lease).map_or(Some(lease), |seat| seat.work)).collect()
    }

    /// Looks after every swarm that something may have become possible for, in the order of the queue. Gives those that single
    /// fragments go before: they get their seats after these.
    pub(crate) fn place_swarms(&mut self, env: &Env<'_>, out: &mut Change) -> Result<Vec<TaskId>, Rejection> {
        if self.gangs.is_empty() || !self.may_allocate(env.now) {
            return Ok(Vec::new());
        }
        // Swarms that are concerned themselves, and those that lack members where a seat of theirs would have room.
        let (all, own, open): (bool, BTreeSet<TaskId>, Vec<&Enclave>) = match &out.chances {
            Chances::All | Chances::Left => (true, BTreeSet::new(), Vec::new()),
            Chances::At { enclaves, tasks, .. } => {
                let known: Vec<&Enclave> = enclaves.iter().filter_map(|id| self.enclaves.get(id)).collect();
                let seated = known.iter().flat_map(|e| e.leases()).filter_map(|lease| self.seat_task(*lease));
                let own = tasks.iter().copied().chain(seated).collect();
                (false, own, known.into_iter().filter(|e| e.has_room()).collect())
            }
        };
        let lacks = |id| {
            self.swarm(id).is_some_and(|(_, terms, swarm)| {
                let SeatDemand { cpu, memory, gpus, time } = terms.seat;
                let demand = Demand { cpu, memory, gpus, time, ..Demand::default() };
                swarm.seats.len() < usize::from(terms.members) && open.iter().any(|e| e.fits(&demand))
            })
        };
        let chance = |id: &TaskId| all || own.contains(id) || (!open.is_empty() && lacks(*id));
        let due = self.gangs.iter().map(|(_, id)| *id).filter(chance);
        let mut due: Vec<_> = due.filter_map(|id| Some((self.turn_of_swarm(id)?, id))).collect();
        due.sort_by(|(a, _), (b, _)| a.cmp(b));
        let first = self.queue.after(None);
        let ahead = due.partition_point(|(turn, _)| first.as_ref().is_none_or(|first| turn <= first));
        let behind: Vec<_> = due.split_off(ahead).into_iter().map(|(_, id)| id).collect();
        for task in &behind {
            self.hand_out(*task, env, out)?;
        }
        self.seat_swarms(due.into_iter().map(|(_, id)| id), env, out)?;
        Ok(behind)
    }

    /// The place of a swarm in the order of what waits.
    fn turn_of_swarm(&self, id: TaskId) -> Option<Turn> {
        let flow = flow_of(&self.tasks.get(&id)?.request);
        Some(self.queue.turn(&flow).unwrap_or_else(|| (flow.0, self.queue.begins(&flow), flow.1)))
    }

    /// Gives these swarms the seats that they lack, and work to those who have seats.
    pub(crate) fn seat_swarms(
        &mut self,
        swarms: impl IntoIterator<Item = TaskId>,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let (mut vain, mut rest) = (Vec::new(), swarms.into_iter().collect::<VecDeque<_>>());
        while let Some(task) = rest.pop_front() {
            let before = out.records.len();
            self.seat_swarm(task, &mut vain, env, out)?;
            self.hand_out(task, env, out)?;
            // Whoever got something is behind others now.
            if out.records.len() > before {
                rest.make_contiguous().sort_by_cached_key(|id| self.turn_of_swarm(*id));
            }
        }
        Ok(())
    }

    /// Ends what is over: seats whose time is, or whose enclave did not come back or drains, or did not join; and swarms that
    /// had too few members for too long.
    pub(crate) fn expire_swarms(&mut self, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        let all: Vec<_> = self.gangs.iter().map(|(_, id)| *id).collect();
        for task in all {
            let over = self.seats_over(task, env.now);
            for (lease, why) in over {
                self.end_seats(task, &[lease], why, env, out)?;
            }
            let Some((_, terms, swarm)) = self.swarm(task) else { continue };
            let patience = self.limits.regroup_seconds;
            if swarm.short_since.is_some_and(|since| since.plus(patience) < env.now) {
                let why = format!("fewer than {} members for {patience} seconds", terms.least());
                let seats: Vec<_> = swarm.seats.keys().copied().collect();
                self.end_seats(task, &seats, LeaseEnd::Dissolved { why }, env, out)?;
            }
        }
        Ok(())
    }

    /// Seats that are over, and why. One in which nothing could begin any more ends while as many as must be are left without it,
    /// or when no other is of use either: then all of them end, and the swarm is seated anew.
    fn seats_over(&self, task: TaskId, now: UnixTime) -> Vec<(LeaseId, LeaseEnd)> {
        let Some((known, terms, swarm)) = self.swarm(task) else { return Vec::new() };
        let spent = |s: &HeldSeat| s.work.is_none() && s.return_by.is_none() && !self.is_of_use(known, s, now);
        let none = swarm.seats.values().all(spent);
        let mut spare = swarm.seats.len().saturating_sub(usize::from(terms.least()));
        let late = swarm.rounds.last().filter(|round| !round.is_formed() && round.join_by < now);
        let mut over = Vec::new();
        for (lease, seat) in &swarm.seats {
            let leaves = |e: &Enclave| e.presence() == Presence::Draining || e.hold().is_some();
            let drains = self.enclaves.get(&seat.enclave).is_some_and(leaves);
            let missing = late.is_some_and(|round| !round.has_joined(seat.enclave) && seat.return_by.is_none());
            over.push((
                *lease,
                match seat {
                    s if s.return_by.is_some_and(|by| by < now) => {
                        LeaseEnd::EnclaveLost { why: "it did not return to the new manager".into() }
                    }
                    s if s.return_by.is_none() && s.until < now => {
                        LeaseEnd::Dissolved { why: "the time of its seat was over".into() }
                    }
                    _ if missing => LeaseEnd::NotJoined,
                    s if drains && s.work.is_none() => {
                        LeaseEnd::Dissolved { why: "its enclave takes no more work".into() }
                    }
                    s if (none || spare > 0) && spent(s) => {
                        spare = spare.saturating_sub(1);
                        LeaseEnd::Dissolved { why: "too little time was left of it for any fragment".into() }
                    }
                    _ => continue,
                },
            ));
        }
        over
    }

    /// Ends seats of one swarm together; what runs in them ends first. The task fails when it lost too many.
    pub(crate) fn end_seats(
        &mut self,
        task: TaskId,
        seats: &[LeaseId],
        why: LeaseEnd,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        for lease in seats {
            let Some(work) = self.seat(*lease).and_then(|seat| seat.work) else { continue };
            let enclave = self.leases.get(&work).map(|l| l.enclave);
            self.end_lease(work, why.clone(), env, out)?;
            self.tell_to_stop(enclave, work, out);
        }
        // What ended above may have taken its seat with it, or the whole task.
        let ended: Vec<_> = seats.iter().filter_map(|id| Some((*id, charge(self.seat(*id)?, env.now)))).collect();
        let enclaves: Vec<_> = ended.iter().filter_map(|(id, _)| Some((self.seat(*id)?.enclave, *id))).collect();
        if ended.is_empty() {
            return Ok(());
        }
        // The task is about to end: it does not end a second time here.
        let last = why == LeaseEnd::TaskEnded;
        out.record(self, env, Event::SeatsEnded { task, seats: ended, why })?;
        for (enclave, lease) in enclaves {
            self.tell_to_stop(Some(enclave), lease, out);
            self.give_chance(Some(enclave), task, out);
        }
        if last {
            return Ok(());
        }
        let Some((known, terms, swarm)) = self.swarm(task) else { return Ok(()) };
        let blamed = swarm.gone.iter().filter(|a| a.ended.as_ref().is_some_and(LeaseEnd::blames_enclave)).count();
        if known.state == TaskState::Live && blamed > usize::from(terms.members) * LOST_PER_MEMBER {
            let last = swarm.gone.last().and_then(|a| a.ended.as_ref()).map(ToString::to_string).unwrap_or_default();
            let reason = format!("its swarm lost {blamed} members; the last time, {last}");
            self.end_task(task, TaskState::Failed { reason }, env, out)?;
        }
        Ok(())
    }

    /// Something may have become possible for a swarm, and for whoever waits for an enclave.
    fn give_chance(&self, enclave: Option<EnclaveId>, task: TaskId, out: &mut Change) {
        let tenant = self.tasks.get(&task).map(|t| &t.request.tenant);
        let limited = enclave.is_some() && tenant.is_some_and(|tenant| self.accounts.is_limited(tenant));
        if let Chances::At { enclaves, tasks, .. } = &mut out.chances {
            enclaves.extend(enclave);
            tasks.insert(task);
            if limited {
                out.chances = Chances::Left;
            }
        }
    }

    fn tell_to_stop(&self, enclave: Option<EnclaveId>, lease: LeaseId, out: &mut Change) {
        if let Some(enclave) = enclave
            && self.enclaves.get(&enclave).is_some_and(|e| !e.is_away())
        {
            out.effects.push(Effect::Cancel { enclave, lease });
        }
    }

    pub(crate) fn absorb_seats_ended(
        &mut self,
        id: TaskId,
        seats: &[(LeaseId, MicroUsd)],
        why: &LeaseEnd,
        now: UnixTime,
    ) -> Option<()> {
        let task = self.tasks.get_mut(&id)?;
        let (tenant, demand) = (task.request.tenant.clone(), seat_demand(&task.request)?);
        let least = usize::from(task.request.swarm.as_ref()?.least());
        let swarm = task.swarm.as_mut()?;
        for (lease, charged) in seats {
            let seat = swarm.seats.remove(lease)?;
            self.seats.remove(lease);
            swarm.charged = swarm.charged.saturating_add(*charged);
            task.spent = task.spent.saturating_add(*charged);
            task.committed = task.committed.saturating_sub(seat.cost_max);
            self.accounts.give_back(&tenant, &demand, seat.cost_max);
            self.accounts.charge(&tenant, *charged, &Metered::default());
            let said =
                swarm.rounds.iter().rev().find_map(|r| r.seating.seats.iter().find(|s| s.member.lease == *lease))?;
            swarm.gone.push(Attempt {
                lease: *lease,
                enclave: seat.enclave,
                provider: said.provider.clone(),
                region: said.region.clone(),
                ended: Some(why.clone()),
            });
            if let Some(enclave) = self.enclaves.get_mut(&seat.enclave) {
                enclave.give_back(*lease, &demand);
                self.classes.room(enclave);
            }
        }
        if swarm.seats.is_empty() {
            swarm.waits_since = now;
        }
        swarm.short_since = match swarm.seats.len() {
            0 => None,
            some if some < least => swarm.short_since.or(Some(now)),
            _ => swarm.short_since,
        };
        Some(())
    }

    /// One record gives back all seats of a task that ends.
    pub(crate) fn dissolve(&mut self, task: TaskId, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        let seats: Vec<_> = self.swarm(task).map(|(_, _, s)| s.seats.keys().copied().collect()).unwrap_or_default();
        self.end_seats(task, &seats, LeaseEnd::TaskEnded, env, out)
    }

    /// Seats of `enclave` (of all without one) that no proof is good for any more, by `proven`.
    pub(crate) fn seats_where(
        &self,
        enclave: Option<EnclaveId>,
        unproven: impl Fn(TaskId, EnclaveId) -> bool,
    ) -> Vec<(LeaseId, EnclaveId)> {
        let names: Vec<LeaseId> = match enclave {
            Some(id) => self.enclaves.get(&id).map(|e| e.leases().iter().copied().collect()).unwrap_or_default(),
            None => self.seats.keys().copied().collect(),
        };
        let held = names.into_iter().filter_map(|id| Some((id, self.seat_task(id)?, self.seat(id)?.enclave)));
        held.filter(|(_, task, of)| unproven(*task, *of)).map(|(lease, _, of)| (lease, of)).collect()
    }

    /// A manager began: seats last until their enclaves had time to return.
    pub(crate) fn keep_seats(&mut self, return_by: UnixTime) {
        let held: Vec<_> = self.seats.keys().copied().collect();
        for lease in held {
            if let Some(seat) = self.seat_mut(lease) {
                seat.return_by = Some(return_by);
            }
        }
        let join_by = return_by.plus(self.limits.join_seconds);
        for (_, id) in &self.gangs {
            let swarm = self.tasks.get_mut(id).and_then(|task| task.swarm.as_mut());
            if let Some(round) = swarm.and_then(|swarm| swarm.rounds.last_mut()) {
                round.join_by = round.join_by.max(join_by);
            }
        }
    }

    /// Rebuilds what is found by name alone.
    pub(crate) fn index_swarms(&mut self) {
        for (id, task) in &self.tasks {
            let Some(swarm) = &task.swarm else { continue };
            if task.state == TaskState::Live {
                self.gangs.insert((swarm.since, *id));
            }
            self.seats.extend(swarm.seats.keys().map(|lease| (*lease, *id)));
        }
    }

    /// The books of swarms against the others: every seat is of a live task, counted by its enclave, with at most one lease in it
    /// that says so; and what works on a swarm's fragments is a member of a formed round.
    pub(crate) fn audit_swarms(&self) -> Result<(), String> {
        let mut seats = BTreeMap::new();
        let mut gangs = BTreeSet::new();
        for (id, task) in &self.tasks {
            let (Some(terms), Some(swarm)) = (&task.request.swarm, &task.swarm) else {
                if task.request.swarm.is_some() || task.swarm.is_some() {
                    return Err(format!("task {id} has a swarm that it does not ask for, or none"));
                }
                continue;
            };
            let live = task.state == TaskState::Live;
            if live {
                gangs.insert((swarm.since, *id));
            }
            if (!live && !swarm.seats.is_empty()) || swarm.seats.len() > usize::from(terms.members) {
                return Err(format!("task {id} has ended and holds seats, or holds too many"));
            }
            for (lease, seat) in &swarm.seats {
                seats.insert(*lease, *id);
                let counted = self.enclaves.get(&seat.enclave).is_some_and(|e| e.leases().contains(lease));
                let own = |l: &crate::lease::Lease| {
                    l.seat == Some(*lease) && l.enclave == seat.enclave && l.fragment.task == *id
                };
                let works = seat.work.is_none_or(|work| self.leases.get(&work).is_some_and(own));
                if !counted || !works {
                    return Err(format!("seat {lease} is not known to its enclave, or to what runs in it"));
                }
            }
            for state in &task.fragments {
                let held: Vec<_> = state.leases().filter_map(|l| self.leases.get(&l)).collect();
                let apart =
                    held.iter().enumerate().all(|(n, a)| held.iter().skip(n + 1).all(|b| a.enclave != b.enclave));
                let seated = held.iter().all(|l| {
                    let seat = l.seat.and_then(|id| swarm.seats.get(&id));
                    let formed = swarm.rounds.iter().any(|r| {
                        r.is_formed() && r.seating.seat(l.enclave).is_some_and(|s| Some(s.member.lease) == l.seat)
                    });
                    seat.is_some_and(|s| s.work.is_some_and(|w| state.leases().any(|own| own == w))) && formed
                });
                if !apart || !seated {
                    return Err(format!("a fragment of task {id} is worked on outside its swarm, or twice by one"));
                }
            }
        }
        if seats != self.seats || gangs != self.gangs {
            return Err("seats or swarms are not those of the tasks".to_owned());
        }
        Ok(())
    }

    /// What a lease, a seat or a loan sets aside.
    pub(crate) fn set_aside(&self, id: LeaseId) -> Option<Demand> {
        let seat = || self.seat_holds(id).map(|(_, _, demand)| demand);
        let loan = || self.loan(id).map(|(_, loan)| loan.demand());
        self.leases.get(&id).map(|l| l.demand).or_else(seat).or_else(loan)
    }

    /// The demand that is held by a seat.
    pub(crate) fn seat_holds(&self, lease: LeaseId) -> Option<(TaskId, &HeldSeat, Demand)> {
        let task = self.seats.get(&lease)?;
        Some((*task, self.seat(lease)?, seat_demand(&self.tasks.get(task)?.request)?))
    }
}

/// A fragment of a task.
fn fragment_id(task: TaskId, index: FragmentIndex) -> FragmentId {
    FragmentId { task, index }
}

/// What a seat may cost at most at this price.
fn seat_cost(price_hour: MicroUsd, demand: &Demand) -> MicroUsd {
    wanted::cost_max(price_hour, demand)
}

/// The list of a round, from its seating.
fn listed(seating: &Seating, enclave: EnclaveId) -> Option<Member> {
    seating.seat(enclave).map(|s| s.member)
}

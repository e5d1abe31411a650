//! Booking ahead: a swarm that has waited for long is given room from a time on, so that smaller work does not pass it for ever.
//!
//! A swarm (a *gang*: all of its seats or none) holds nothing while it waits, and whatever is smaller takes what becomes free. EASY
//! backfilling (Lifka, JSSPP 1995; Mu'alem and Feitelson, IEEE TPDS 12(6), 2001) bounds that by one booking:
//! 1. The first gang in the order of the queue that has waited for longer than [`PATIENCE`], and for which there is such a time within
//!    [`HORIZON`], is booked as many enclaves as it asks for at the earliest time at which all of them have room, by the terms of what
//!    is leased and reserved. There is one booking in the pool; a gang of a higher priority takes its place.
//! 2. Others have that room only with what ends before (`seats.rs` counts a booking as it counts reservations): what is shorter is
//!    let through, and the gang has its seats by then. Where there is room for it sooner, it is seated sooner, there or elsewhere.
//!    Work of a higher priority goes first here too: the booking ends before the record that takes room of it.
//! 3. A booking ends with the record that seats its gang or ends its task; else by a record of its own: when it is late, when more
//!    urgent work passes, or when an enclave of it takes no more work or no longer suits. A gang that was late has to be patient anew,
//!    and others have their turn. For one that lost an enclave other room is booked at once, before the rest is given to others; that
//!    enclave is passed over for [`SHUN_SECONDS`]. Who is away has twice the time to come back that leases have when managers change.
//! 4. Nothing is booked for a gang whose seats its account or its budget has no room for now, or that would expire before.
//! 5. Enclaves that have room now are found by the index. The others are met in the order in which what is there ends: for one gang
//!    at most [`ENDS_MAX`] ends, [`LOOKS_MAX`] leases on the enclaves met, and [`RECHECKS_MAX`] on those that are held against a later
//!    time (`search.rs`). It is searched once in every
//!    [`SEARCH_EVERY`]th second, on a tick, for the first [`FIRST_TRIED`] gangs and [`OTHERS_TRIED`] that take turns.

use std::{collections::BTreeSet, fmt};

use legation_core::{
    EnclaveId, FragmentId, MicroUsd, Milligpus, Rejection, TaskId, UnixTime,
    task::{Demand, Fragment},
};
use serde::{Deserialize, Serialize};

use super::{Rulings, Swarm};
use crate::{
    apply::Change,
    enclave::Enclave,
    event::Event,
    place::Choice,
    policy::PLACE,
    pool::{Env, Pool},
    task::{Task, TaskState},
    wanted::Wanted,
};

mod search;

use search::Unable;

/// Seconds that a gang waits before room is booked for it: as long as clients have to grant, within which much becomes free of
/// itself; and a booking is at the cost of all others.
const PATIENCE: u64 = 30;
/// Seconds after its time until a booking is late: leases end at the first tick after their last second.
const LATE_MAX: u64 = 5;
/// Seconds between two searches.
const SEARCH_EVERY: u64 = 4;
/// Gangs for which every search looks, the first in their order.
const FIRST_TRIED: usize = 2;
/// Gangs behind those for which one search looks: those that find nothing are not in the way of the others for long.
const OTHERS_TRIED: usize = 2;
/// Ends of leases, seats and reservations that are gone through for one gang.
const ENDS_MAX: usize = 4_096;
/// Leases on the enclaves that are met there, each enclave counted as one more, and fragments that rules of placement are asked about.
const LOOKS_MAX: usize = 16_384;
/// Leases on the enclaves that could have seats, looked at again as later times are tried, each enclave counted as one more: enough
/// for four times of 64 full enclaves.
const RECHECKS_MAX: usize = 65_536;
/// Seconds until the last end that is looked at: who has to wait for longer does not keep the one booking from others.
const HORIZON: u64 = 3_600;
/// Seconds for which an enclave that ended a booking is not booked for that gang again.
const SHUN_SECONDS: u64 = 300;
/// Enclaves that are remembered for that, of one gang.
const SHUNNED_MAX: usize = 8;

/// Room that is booked for a gang: a seat on each of these enclaves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GangBooking {
    /// The task whose swarm it is for.
    pub task: TaskId,
    /// Where: as many as the swarm has members.
    pub enclaves: BTreeSet<EnclaveId>,
    /// First second: the swarm has its seats by then.
    pub at: UnixTime,
    /// Last second.
    pub until: UnixTime,
    /// What a seat sets aside.
    pub demand: Demand,
}

/// Why a booking ended without its gang being seated, or ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Unbooked {
    /// Its time came, and the gang was not seated.
    Late,
    /// An enclave of it takes no more work, or no longer suits.
    Enclave {
        /// Which.
        enclave: EnclaveId,
        /// The check that it does not pass.
        check: String,
    },
    /// More urgent work has room of it, or is booked instead.
    Passed,
}

impl fmt::Display for Unbooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => f.write_str("its time came, and there was no room for all"),
            Self::Passed => f.write_str("more urgent work went first"),
            Self::Enclave { enclave, check } => write!(f, "enclave {}: {check}", enclave.short()),
        }
    }
}

impl Pool {
    /// What is booked for a gang, if anything is.
    pub fn gang_booking(&self) -> Option<&GangBooking> {
        self.ahead.as_deref()
    }

    /// What is booked for the swarm of this task.
    pub(crate) fn booked_for(&self, task: TaskId) -> Option<&GangBooking> {
        self.gang_booking().filter(|booking| booking.task == task)
    }

    /// What is booked for a swarm, if it counts against the work of a task: it is another's, and of no lower priority.
    pub(crate) fn booking_against(&self, task: &Task) -> Option<&GangBooking> {
        self.gang_booking().filter(|booking| {
            let of = self.tasks.get(&booking.task);
            booking.task != task.id() && of.is_none_or(|of| task.request.prefer.priority <= of.request.prefer.priority)
        })
    }

    /// Whether a swarm has to have an enclave soon that is kept for a task's work until then.
    pub(crate) fn is_booked_soon(&self, task: &Task, enclave: EnclaveId, until: UnixTime) -> bool {
        let booking = self.booking_against(task).filter(|booking| booking.enclaves.contains(&enclave));
        booking.is_some_and(|booking| booking.at <= until.plus(LATE_MAX))
    }

    /// Ends what is booked for a swarm if a lease of a more urgent fragment, about to be recorded, takes room of it.
    pub(crate) fn pass_booking_at(
        &mut self,
        fragment: FragmentId,
        enclave: EnclaveId,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let Some(task) = self.tasks.get(&fragment.task).filter(|_| self.ahead.is_some()) else { return Ok(()) };
        // What is in a reservation's seat takes no more than that.
        let spec = task.request.fragment(fragment.index).filter(|_| task.request.prefer.reservation.is_none());
        let Some(demand) = spec.map(|spec| spec.demand) else { return Ok(()) };
        let over = (env.now, env.now.plus(self.lease_seconds(&demand)));
        if self.takes_booked(enclave, &demand, over) { self.end_passed(env, out) } else { Ok(()) }
    }

    /// The same of the seats of another swarm.
    pub(super) fn pass_booking(
        &mut self,
        id: TaskId,
        chosen: &[Choice],
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let task = self.tasks.get(&id).filter(|_| self.ahead.is_some() && self.booked_for(id).is_none());
        let Some(demand) = task.and_then(|task| super::seat_demand(&task.request)) else { return Ok(()) };
        let over = (env.now, env.now.plus(self.seat_seconds(&demand)));
        let takes = chosen.iter().any(|choice| self.takes_booked(choice.enclave, &demand, over));
        if takes { self.end_passed(env, out) } else { Ok(()) }
    }

    fn end_passed(&mut self, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        let Some(task) = self.gang_booking().map(|booking| booking.task) else { return Ok(()) };
        out.record(self, env, Event::GangUnbooked { task, why: Unbooked::Passed })
    }

    /// Ends a booking of which an enclave is of no more use, and books its gang other room before anybody has that of the rest. Its
    /// enclaves are judged when something happened that may close one, and all of them anew when it is searched.
    pub(crate) fn tend_booking(&mut self, search: bool, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        let Some(booking) = self.gang_booking().filter(|_| search || out.closes) else { return Ok(()) };
        let task = booking.task;
        let Some((enclave, check)) = self.closed(booking, search, &mut out.rulings, env.now) else { return Ok(()) };
        out.record(self, env, Event::GangUnbooked { task, why: Unbooked::Enclave { enclave, check } })?;
        if !self.may_allocate(env.now) {
            return Ok(());
        }
        let ends = self.ends_ahead(env.now);
        match self.find_ahead(task, &ends, &mut out.rulings, env.now) {
            Some(booking) => out.record(self, env, Event::GangBooked { booking: Box::new(booking) }),
            None => Ok(()),
        }
    }

    /// An enclave that is booked and of no more use, and the check that it does not pass.
    fn closed(
        &self,
        booking: &GangBooking,
        anew: bool,
        rulings: &mut Rulings,
        now: UnixTime,
    ) -> Option<(EnclaveId, String)> {
        let (task, terms, _) = self.swarm(booking.task)?;
        let seat = terms.seat_of(&task.request);
        booking.enclaves.iter().find_map(|id| {
            if !anew && self.is_usable(*id, now) {
                return None;
            }
            Some((*id, self.unfit(task, &seat, *id, rulings, now)?))
        })
    }

    /// Why an enclave is of no use for a seat, whatever runs there, and whatever else the tenant has. Who is away has time to come
    /// back, as for leases after a change of managers.
    fn unfit(
        &self,
        task: &Task,
        seat: &Fragment,
        id: EnclaveId,
        rulings: &mut Rulings,
        now: UnixTime,
    ) -> Option<String> {
        let away = self.enclaves.get(&id).is_some_and(Enclave::is_away);
        if away && self.is_usable(id, now) {
            return None;
        }
        let none = BTreeSet::new();
        let wanted = Wanted::seat(self, task, seat, &[], &none, now).without_account();
        match self.could_join(wanted, id, rulings) {
            Ok(_) => None,
            Err(Unable::Alone(check)) => Some(check),
            Err(Unable::Beside) => Some("place.spread".to_owned()),
            Err(Unable::Ruled) => Some(PLACE.to_owned()),
        }
    }

    /// Whether it is searched now: once in a second, whatever number of ticks it has.
    pub(crate) fn begins_search(&mut self, now: UnixTime) -> bool {
        let begins = now.0.is_multiple_of(SEARCH_EVERY) && self.searched.0 != Some(now);
        if begins {
            self.searched = Searched(Some(now));
        }
        begins
    }

    /// Ends a booking that is late, after everybody who waits was looked at; and books room for the first gang that has waited for
    /// long and for which there is some at a time that is known. A gang of a higher priority takes the place of one that is booked.
    pub(crate) fn book_ahead(&mut self, search: bool, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        let late = self.gang_booking().filter(|booking| env.now > booking.at.plus(LATE_MAX));
        if let Some(task) = late.map(|booking| booking.task) {
            out.record(self, env, Event::GangUnbooked { task, why: Unbooked::Late })?;
            self.place_queued(env, out)?;
        }
        if !search || self.gangs.is_empty() || !self.may_allocate(env.now) {
            return Ok(());
        }
        let gangs = self.gangs_to_book(env.now);
        let ends = if gangs.is_empty() { Vec::new() } else { self.ends_ahead(env.now) };
        for task in gangs {
            let Some(booking) = self.find_ahead(task, &ends, &mut out.rulings, env.now) else { continue };
            let passes = self.ahead.is_some();
            self.end_passed(env, out)?;
            out.record(self, env, Event::GangBooked { booking: Box::new(booking) })?;
            // Others may have what the one before no longer has.
            return if passes { self.place_queued(env, out) } else { Ok(()) };
        }
        Ok(())
    }

    /// Gangs that have waited for long and are looked at now, in their order: while room is booked for one, those of a higher
    /// priority.
    fn gangs_to_book(&self, now: UnixTime) -> Vec<TaskId> {
        let booked = self.gang_booking().and_then(|booking| self.tasks.get(&booking.task));
        let above = booked.map(|task| task.request.prefer.priority);
        let long = |id: &TaskId| {
            self.swarm(*id).is_some_and(|(task, _, swarm)| {
                let waits = task.state == TaskState::Live && swarm.seats.is_empty();
                let higher = above.is_none_or(|above| above < task.request.prefer.priority);
                waits
                    && higher
                    && now.since(swarm.waits_since) > PATIENCE
                    && task.fragments.iter().any(|f| f.done.is_none())
            })
        };
        let waiting = self.gangs.iter().map(|(_, id)| *id).filter(long);
        let mut waiting: Vec<_> = waiting.filter_map(|id| Some((self.turn_of_swarm(id)?, id))).collect();
        waiting.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut first: Vec<TaskId> = waiting.into_iter().map(|(_, id)| id).collect();
        let others = first.split_off(FIRST_TRIED.min(first.len()));
        let turn = usize::try_from(now.0 / SEARCH_EVERY).unwrap_or(0);
        let begin = turn.saturating_mul(OTHERS_TRIED).checked_rem(others.len()).unwrap_or(0);
        first.extend(others.into_iter().skip(begin).take(OTHERS_TRIED));
        first
    }

    /// The enclaves that are booked for a swarm, as far as each can be a member beside those before it: none stays held.
    pub(super) fn choose_booked(&mut self, id: TaskId, rulings: &mut Rulings, now: UnixTime) -> Vec<Choice> {
        let Some(enclaves) = self.booked_for(id).map(|booking| booking.enclaves.clone()) else { return Vec::new() };
        let Some((task, terms, _)) = self.swarm(id) else { return Vec::new() };
        let seat = terms.seat_of(&task.request);
        let all = u32::try_from(enclaves.len()).unwrap_or(u32::MAX);
        let mut chosen: Vec<Choice> = Vec::new();
        for enclave in enclaves {
            let beside: Vec<EnclaveId> = chosen.iter().map(|choice| choice.enclave).collect();
            let Some(price_hour) = self.joins_now(id, (&seat, enclave), &beside, rulings, now) else { break };
            let found = Choice {
                enclave,
                price_hour,
                considered: all,
                eligible: all,
                passed_over: Vec::new(),
                decided_by: format!("price {price_hour}/h, booked ahead for the swarm"),
                seat: None,
            };
            self.hold_seat(id, &found, &seat, chosen.len(), true);
            chosen.push(found);
        }
        for (n, one) in chosen.iter().enumerate().rev() {
            self.hold_seat(id, one, &seat, n, false);
        }
        chosen
    }

    /// What an hour of a seat costs on an enclave that can be a member beside these now.
    fn joins_now(
        &self,
        id: TaskId,
        (seat, enclave): (&Fragment, EnclaveId),
        beside: &[EnclaveId],
        rulings: &mut Rulings,
        now: UnixTime,
    ) -> Option<MicroUsd> {
        let (task, known) = (self.tasks.get(&id)?, self.enclaves.get(&enclave)?);
        let none = BTreeSet::new();
        let wanted = || Wanted::seat(self, task, seat, beside, &none, now);
        wanted().judge(enclave, known).ok()?;
        self.could_join(wanted(), enclave, rulings).ok()
    }

    /// Whether a booking can be made: why not, in words.
    pub(crate) fn booking_may_follow(&self, booking: &GangBooking) -> Result<(), &'static str> {
        let Some((task, terms, swarm)) = self.swarm(booking.task) else {
            return Err("room is booked for a task that has no swarm");
        };
        if self.ahead.is_some() || !swarm.seats.is_empty() {
            return Err("room is booked twice, or for a swarm that has seats");
        }
        let asked = super::seat_demand(&task.request) == Some(booking.demand);
        let whole = booking.enclaves.len() == usize::from(terms.members);
        if asked && whole && booking.at <= booking.until {
            Ok(())
        } else {
            Err("room is booked other than a swarm asks for")
        }
    }

    pub(crate) fn absorb_unbooked(&mut self, task: TaskId, why: &Unbooked, now: UnixTime) -> Option<()> {
        self.end_booking(task);
        let swarm = self.tasks.get_mut(&task)?.swarm.as_mut()?;
        match why {
            Unbooked::Late => swarm.waits_since = now,
            Unbooked::Enclave { enclave, .. } => swarm.shun(*enclave, now),
            Unbooked::Passed => {}
        }
        Some(())
    }

    /// A gang is seated, or its task ends: nothing is booked for it any more.
    pub(crate) fn end_booking(&mut self, task: TaskId) {
        self.ahead.take_if(|booking| booking.task == task);
    }

    /// The booking is of a gang that waits, and leaves the enclaves what they have: accelerators aside, which come and go as their
    /// passports say.
    pub(crate) fn audit_booking(&self) -> Result<(), String> {
        let Some(booking) = self.gang_booking() else { return Ok(()) };
        let GangBooking { task, enclaves, at, until, demand } = booking;
        let waits = self.swarm(*task).is_some_and(|(known, terms, swarm)| {
            let whole = enclaves.len() == usize::from(terms.members);
            known.state == TaskState::Live && swarm.seats.is_empty() && whole && at <= until
        });
        if !waits {
            return Err(format!("room is booked for task {task}, which does not wait for it"));
        }
        let at = (*at).max(self.at);
        let known = enclaves.iter().filter_map(|id| Some((*id, self.enclaves.get(id)?)));
        let mut judged = known.filter(|_| demand.gpus == Milligpus::ZERO);
        match judged.find(|of| !self.fits_over(*of, (demand, 0), (at, at))) {
            Some((id, _)) => Err(format!("{id} is booked for task {task}, and promised to others beyond {at}")),
            None => Ok(()),
        }
    }
}

impl Swarm {
    /// Has an enclave not be booked for it for a while.
    fn shun(&mut self, enclave: EnclaveId, now: UnixTime) {
        self.shunned.retain(|(since, id)| *id != enclave && now.since(*since) <= SHUN_SECONDS);
        if self.shunned.len() >= SHUNNED_MAX {
            self.shunned.remove(0);
        }
        self.shunned.push((now, enclave));
    }

    /// The enclaves that are not booked for it now.
    fn shunned_at(&self, now: UnixTime) -> BTreeSet<EnclaveId> {
        let known = self.shunned.iter().filter(|(since, _)| now.since(*since) <= SHUN_SECONDS);
        known.map(|(_, id)| *id).collect()
    }
}

/// When room was searched last: a hint, and two are always equal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Searched(Option<UnixTime>);

impl PartialEq for Searched {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Whether an enclave may be of no more use for a booking after an event. Who only left has time to come back: the next search sees
/// whether it did.
pub(crate) fn may_close(event: &Event) -> bool {
    matches!(
        event,
        Event::Attested { .. }
            | Event::Draining { .. }
            | Event::Cordoned { .. }
            | Event::Decommissioned { .. }
            | Event::Revoked { .. }
            | Event::Lapsed { .. }
            | Event::Barred { .. }
            | Event::Withdrawn { .. }
    )
}

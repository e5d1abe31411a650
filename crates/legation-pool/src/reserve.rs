//! Reservations: seats on enclaves, set aside for a tenant from one second to another.
//!
//! 1. A reservation is admitted only if so many enclaves, or places on them, can hold it beside what is leased past its beginning
//!    and beside other reservations, if its tenant's quota could hold it and those beside it in time, and if its tenant can pay it.
//! 2. Until it begins, others may have its seats with leases that end by then; from then to its end nobody else has them.
//! 3. A request that names it is placed in its seats and nowhere else. One that names a reservation that is unknown, over, not
//!    begun or another tenant's is refused, and so is one that does not fit into a seat or would not end in time.
//! 4. What it costs at most is committed while it lasts: each seat at the price of its enclave. When it ends, it is charged for the
//!    time that each seat was held and could be used, at the price of where it was, less what work in its seats was charged or may
//!    yet be. One that is cancelled before it begins costs nothing; none is cancelled while work is in its seats.
//! 5. A seat whose enclave is gone is moved to another that can hold it and that its tenant can pay; where there is none, the
//!    reservation is short and says so.

use std::collections::BTreeSet;

use legation_core::{
    EnclaveId, FragmentId, LeaseId, MicroUsd, Rejection, Requirement, ReservationId, Seq, TaskId, TenantId, UnixTime,
    prefer::{DataTerms, Preferences},
    statement::Request,
    task::Demand,
};
use serde::{Deserialize, Serialize};

use crate::{
    apply::Change,
    event::Event,
    pool::{Env, Pool},
    queue::Chances,
    task::{Phase, TaskState},
    text::cut,
};

/// Seats of one reservation at most.
pub const SEATS_MAX: u32 = 256;
/// Reservations that have not ended, at most.
const RESERVATIONS_MAX: usize = 1000;
/// Of one tenant.
const TENANTS_MAX: usize = 32;
/// Ended ones of a tenant that are kept for questions.
const ENDED_KEPT: usize = 64;
/// How far ahead one may end, in seconds: ninety days.
const AHEAD_MAX: u64 = 90 * 86_400;
/// Shortest, in seconds.
const SHORTEST: u64 = 60;
/// Longest name, in bytes.
const NAME_MAX: usize = 64;
/// Reservations whose seats are moved by one tick; each takes a look at every enclave.
const MOVED_MAX: usize = 2;
/// Seconds between two tries for one reservation.
const MOVE_EVERY: u64 = 8;

/// Why tasks fail whose reservation has ended.
pub(crate) const OVER: &str = "reservation.over";

/// What a reservation is asked to be.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReservationTerms {
    /// Whose.
    pub tenant: TenantId,
    /// What people call it: one name for each of a tenant that has not ended.
    pub name: String,
    /// How many seats.
    pub seats: u32,
    /// What each sets aside; of time, fuel and output nothing is set aside.
    pub demand: Demand,
    /// What their enclaves must satisfy.
    pub require: Requirement,
    /// Who is best among those, and how they are spread.
    #[serde(default)]
    pub prefer: Preferences,
    /// What is said of the data that comes there.
    #[serde(default)]
    pub data: DataTerms,
    /// First second.
    pub from: UnixTime,
    /// Last second.
    pub until: UnixTime,
}

/// One seat.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// Where.
    pub enclave: EnclaveId,
    /// What an hour of it costs.
    pub price_hour: MicroUsd,
    /// From when on it is charged: since it is there, and the reservation has begun.
    pub since: UnixTime,
    /// Since when its enclave cannot be used, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short: Option<UnixTime>,
    /// Who sits there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
}

/// How a reservation ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ReservationEnd {
    /// Its time was over.
    Over,
    /// It was given up.
    Cancelled {
        /// By whom.
        author: String,
    },
}

/// A reservation in the pool.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Booking {
    /// What it was asked to be.
    pub terms: ReservationTerms,
    /// By whom.
    pub author: String,
    /// Its seats.
    pub seats: Vec<Seat>,
    /// What is owed for seats where they were before.
    pub accrued: MicroUsd,
    /// What work in its seats was charged.
    pub worked: MicroUsd,
    /// What leases in its seats may yet cost at most.
    pub taken: MicroUsd,
    /// What it was charged itself, when it ended.
    pub charged: MicroUsd,
    /// How it ended, if it did.
    pub ended: Option<ReservationEnd>,
}

/// A reservation as people see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ReservationView {
    /// Its name in requests.
    pub reservation: ReservationId,
    /// What it is.
    #[serde(flatten)]
    pub booking: Booking,
    /// Seats whose enclaves cannot be used now.
    pub short: u32,
    /// What is committed for it, beside leases in its seats.
    pub held: MicroUsd,
}

impl Seat {
    /// What is owed for it until `at`: nothing for the time that it could not be used.
    fn owed(&self, at: UnixTime) -> MicroUsd {
        let at = self.short.map_or(at, |short| short.min(at));
        Pool::seat_cost(self, at.since(self.since))
    }
}

impl Booking {
    /// What is owed for the time that has passed of it.
    fn owed(&self, now: UnixTime) -> MicroUsd {
        let at = now.min(self.terms.until);
        self.seats.iter().map(|seat| seat.owed(at)).sum::<MicroUsd>().saturating_add(self.accrued)
    }

    /// What is committed for it beside leases in its seats: what it costs if all of its seats can be used to its end.
    pub(crate) fn held(&self) -> MicroUsd {
        if self.ended.is_some() {
            return MicroUsd::ZERO;
        }
        let all = self.seats.iter().map(|seat| Pool::seat_cost(seat, self.terms.until.since(seat.since)));
        let all = all.sum::<MicroUsd>().saturating_add(self.accrued);
        all.saturating_sub(self.worked.saturating_add(self.taken))
    }

    /// A seat is elsewhere from now on.
    fn move_seat(&mut self, seat: usize, enclave: EnclaveId, price_hour: MicroUsd, now: UnixTime) {
        let since = now.max(self.terms.from);
        if let Some(seat) = self.seats.get_mut(seat) {
            self.accrued = self.accrued.saturating_add(seat.owed(now.min(self.terms.until)));
            *seat = Seat { enclave, price_hour, since, short: None, lease: None };
        }
    }

    /// These of its seats cannot be used from now on, and the others can.
    fn count_short(&mut self, seats: &[u32], now: UnixTime) {
        for (index, seat) in (0_u32..).zip(&mut self.seats) {
            match (seats.contains(&index), seat.short) {
                (true, None) => seat.short = Some(now),
                (false, Some(_)) => {
                    self.accrued = self.accrued.saturating_add(seat.owed(now.min(self.terms.until)));
                    (seat.since, seat.short) = (now.max(self.terms.from), None);
                }
                (true, Some(_)) | (false, None) => {}
            }
        }
    }

    fn name(&self) -> (&TenantId, &str) {
        (&self.terms.tenant, &self.terms.name)
    }
}

impl ReservationTerms {
    fn validate(&self, now: UnixTime) -> Result<(), Rejection> {
        let bad = |claim: &str| Rejection::new("reservation.terms", claim.to_owned());
        self.prefer.validate()?;
        self.data.validate()?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > NAME_MAX || !self.name.chars().all(plain) {
            return Err(bad("name of the reservation")
                .expected(format!("1 to {NAME_MAX} of a-z, 0-9 and `-`"))
                .got(format!("{:?}", self.name)));
        }
        if !(1..=SEATS_MAX).contains(&self.seats) {
            return Err(bad("seats of the reservation").expected(format!("1 to {SEATS_MAX}")).got(self.seats));
        }
        if self.demand.cpu.0 == 0 || self.demand.memory.0 == 0 {
            return Err(bad("what each seat sets aside").expected("some compute and some memory").got("none"));
        }
        if self.prefer.reservation.is_some() {
            return Err(bad("what the reservation wants").expected("enclaves").got("another reservation"));
        }
        let timely = self.from >= now && self.until >= self.from.plus(SHORTEST) && self.until <= now.plus(AHEAD_MAX);
        if !timely {
            return Err(bad("time of the reservation")
                .expected(format!("at least {SHORTEST} s, from {now} on, to {} at most", now.plus(AHEAD_MAX)))
                .got(format!("{} to {}", self.from, self.until))
                .fix("check the clock, or split it"));
        }
        Ok(())
    }
}

impl Pool {
    /// One reservation, as of `now`.
    pub fn reservation(&self, id: ReservationId, now: UnixTime) -> Option<ReservationView> {
        let booking = self.reservations.get(&id)?.clone();
        let short = booking.seats.iter().filter(|seat| !self.is_usable(seat.enclave, now)).count();
        let short = if booking.ended.is_some() { 0 } else { u32::try_from(short).unwrap_or(u32::MAX) };
        Some(ReservationView { reservation: id, held: booking.held(), booking, short })
    }

    /// All that are known of those tenants that `sees` picks, by name, as of `now`.
    pub fn reservations<'a>(
        &'a self,
        sees: impl Fn(&TenantId) -> bool + 'a,
        now: UnixTime,
    ) -> impl Iterator<Item = ReservationView> + 'a {
        let seen = self.reservations.iter().filter(move |(_, booking)| sees(&booking.terms.tenant));
        seen.filter_map(move |(id, _)| self.reservation(*id, now))
    }

    /// The one of a tenant's that has not ended and is called so.
    pub fn reservation_called(&self, tenant: &TenantId, name: &str) -> Option<ReservationId> {
        let called = |b: &Booking| b.ended.is_none() && b.name() == (tenant, name);
        self.reservations.iter().find(|(_, booking)| called(booking)).map(|(id, _)| *id)
    }

    fn booking(&self, id: ReservationId) -> Result<&Booking, Rejection> {
        self.reservations.get(&id).ok_or_else(|| {
            Rejection::new("reservation.unknown", id.to_string())
                .expected("a reservation of this pool")
                .got("none; those that ended long ago are forgotten")
                .fix("see `legation reserve list`")
        })
    }

    /// Sets seats aside.
    pub(crate) fn reserve(
        &mut self,
        terms: ReservationTerms,
        author: &str,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let live = || self.reservations.values().filter(|b| b.ended.is_none());
        let refuse = |check: &str, claim: String| Rejection::new(check, claim);
        let known = self.reservation_called(&terms.tenant, &terms.name);
        if let Some(known) = known.and_then(|id| self.reservations.get(&id)) {
            // Asked for again: it is there.
            return match known.terms == terms {
                true => Ok(()),
                false => Err(refuse("reservation.name", format!("reservation `{}`", terms.name))
                    .expected("a name that no other reservation of the tenant has, which has not ended")
                    .got("one with other terms")
                    .fix("choose another name, or cancel it")),
            };
        }
        terms.validate(env.now)?;
        let own = live().filter(|b| b.terms.tenant == terms.tenant).count();
        for (what, count, most) in [
            ("reservations of the pool", live().count(), RESERVATIONS_MAX),
            ("reservations of the tenant", own, TENANTS_MAX),
        ] {
            if count >= most {
                return Err(refuse("reservation.many", what.to_owned())
                    .expected(format!("at most {most}"))
                    .fix("try again when one has ended"));
            }
        }
        self.check_seats(&terms)?;
        let (seats, why) = self.find_seats(&terms, &[], terms.seats, env.now);
        if seats.len() < terms.seats as usize {
            return Err(refuse("reservation.seats", format!("seats from {} to {}", terms.from, terms.until))
                .expected(terms.seats)
                .got(match why {
                    Some(check) => format!("{}; most enclaves are ruled out by `{check}`", seats.len()),
                    None => seats.len().to_string(),
                })
                .fix("ask for fewer or smaller seats, another time, or relax the requirements"));
        }
        let booking = Booking {
            author: cut(author),
            seats,
            accrued: MicroUsd::ZERO,
            worked: MicroUsd::ZERO,
            taken: MicroUsd::ZERO,
            charged: MicroUsd::ZERO,
            ended: None,
            terms,
        };
        self.check_left(&booking.terms.tenant, booking.held())?;
        out.record(self, env, Event::Reserved { booking: Box::new(booking) })
    }

    /// Gives a reservation up: what waits for its seats fails. Not while work is in them: that would neither be charged for the time
    /// that it held them, nor could its tenant's budget be kept.
    pub(crate) fn cancel_reservation(
        &mut self,
        id: ReservationId,
        author: &str,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let booking = self.booking(id)?;
        if booking.ended.is_some() {
            return Ok(());
        }
        let busy = booking.seats.iter().filter(|seat| seat.lease.is_some()).count();
        if busy > 0 {
            return Err(Rejection::new("reservation.busy", format!("seats of {id} that work is in"))
                .expected("none")
                .got(busy)
                .fix("cancel those tasks, or wait until they are done"));
        }
        self.end_reservation(id, ReservationEnd::Cancelled { author: cut(author) }, env, out)
    }

    fn end_reservation(
        &mut self,
        id: ReservationId,
        why: ReservationEnd,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let booking = self.booking(id)?;
        let charged = booking.owed(env.now).saturating_sub(booking.worked.saturating_add(booking.taken));
        out.record(self, env, Event::ReservationEnded { reservation: id, why, charged })?;
        out.chances = Chances::All;
        for task in self.tasks_without(id) {
            let reason = format!("{OVER}: {id} has ended, and not all of it was placed");
            self.end_task(task, TaskState::Failed { reason }, env, out)?;
        }
        Ok(())
    }

    /// Tasks that name a reservation and of which something waits.
    fn tasks_without(&self, id: ReservationId) -> Vec<TaskId> {
        let named = self.tasks.iter().filter(|(_, t)| t.request.prefer.reservation == Some(id));
        let waiting = named.filter(|(_, t)| {
            let waits = |phase: &Phase| matches!(phase, Phase::Queued | Phase::Waiting);
            t.state == TaskState::Live && t.fragments.iter().any(|f| waits(&f.phase))
        });
        waiting.map(|(task, _)| *task).collect()
    }

    /// Ends reservations whose time is over, and moves seats whose enclaves are gone.
    pub(crate) fn tend_reservations(&mut self, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        let live = self.reservations.iter().filter(|(_, b)| b.ended.is_none());
        let (over, rest): (Vec<_>, Vec<_>) = live.partition(|(_, b)| b.terms.until < env.now);
        let over: Vec<_> = over.into_iter().map(|(id, _)| *id).collect();
        let due = rest.into_iter().filter(|(id, _)| id.0 % MOVE_EVERY == env.now.0 % MOVE_EVERY);
        let due: Vec<_> = due.map(|(id, _)| *id).collect();
        for id in over {
            self.end_reservation(id, ReservationEnd::Over, env, out)?;
        }
        let mut lost = Vec::new();
        for reservation in due {
            let Some(booking) = self.reservations.get(&reservation) else { continue };
            let gone = (0_u32..).zip(&booking.seats).filter(|(_, seat)| !self.is_usable(seat.enclave, env.now));
            let gone: Vec<_> = gone.collect();
            let seats: Vec<u32> = gone.iter().map(|(index, _)| *index).collect();
            let known = (0_u32..).zip(&booking.seats).filter(|(_, seat)| seat.short.is_some()).map(|(index, _)| index);
            let changed = !known.eq(seats.iter().copied());
            let empty: Vec<u32> =
                gone.iter().filter(|(_, seat)| seat.lease.is_none()).map(|(index, _)| *index).collect();
            if changed {
                out.record(self, env, Event::SeatsShort { reservation, seats })?;
            }
            if !empty.is_empty() {
                lost.push((reservation, empty));
            }
        }
        // Those that nobody can help are not in the way of the others for long.
        let turn = usize::try_from(env.now.0 / MOVE_EVERY).unwrap_or(0);
        let first = turn.checked_rem(lost.len()).unwrap_or(0);
        lost.rotate_left(first);
        for (reservation, seats) in lost.into_iter().take(MOVED_MAX) {
            self.move_seats(reservation, &seats, env, out)?;
        }
        Ok(())
    }

    /// Moves seats to where they can be held and paid, as many as there is room for.
    fn move_seats(
        &mut self,
        reservation: ReservationId,
        seats: &[u32],
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let Some(booking) = self.reservations.get(&reservation) else { return Ok(()) };
        let others = (0_u32..).zip(&booking.seats).filter(|(index, _)| !seats.contains(index));
        let kept: Vec<_> = others.map(|(_, seat)| seat.clone()).collect();
        let count = u32::try_from(seats.len()).unwrap_or(u32::MAX);
        let (found, _) = self.find_seats(&booking.terms, &kept, count, env.now);
        for (seat, Seat { enclave, price_hour, .. }) in seats.iter().copied().zip(found) {
            let Some(booking) = self.reservations.get(&reservation) else { break };
            let mut moved = booking.clone();
            moved.move_seat(seat as usize, enclave, price_hour, env.now);
            let more = moved.held().saturating_sub(booking.held());
            // What its tenant cannot pay it does not get: the reservation stays short.
            if self.check_left(&booking.terms.tenant, more).is_ok() {
                out.record(self, env, Event::Reseated { reservation, seat, enclave, price_hour })?;
            }
        }
        Ok(())
    }

    /// Whether a request may name the reservation that it names.
    pub(crate) fn check_reservation(&self, request: &Request, now: UnixTime) -> Result<(), Rejection> {
        let Some(id) = request.prefer.reservation else { return Ok(()) };
        let booking = self.booking(id)?;
        let terms = &booking.terms;
        let refuse = |check: &str, claim: &str| Rejection::new(check, format!("{claim} of {id}"));
        if terms.tenant != request.tenant {
            return Err(refuse("reservation.foreign", "tenant").expected(&request.tenant).got("another"));
        }
        if booking.ended.is_some() || now > terms.until {
            return Err(refuse("reservation.over", "end").expected(format!("after {now}")).got(terms.until));
        }
        if now < terms.from {
            return Err(refuse("reservation.early", "beginning")
                .expected(format!("not after {now}"))
                .got(terms.from)
                .fix("submit when it has begun"));
        }
        for (index, fragment) in request.indexed() {
            let (asked, seat) = (&fragment.demand, &terms.demand);
            if asked.cpu > seat.cpu || asked.memory > seat.memory || asked.gpus > seat.gpus {
                return Err(refuse("reservation.size", "seats")
                    .expected(format!("{}, {}, {} at least, for fragment {index}", asked.cpu, asked.memory, asked.gpus))
                    .got(format!("{}, {}, {}", seat.cpu, seat.memory, seat.gpus))
                    .fix("ask for less, or reserve more"));
            }
            let ends = now.plus(self.lease_seconds(asked));
            if ends > terms.until {
                return Err(refuse("reservation.time", "end")
                    .expected(format!("{ends} at the earliest, for fragment {index}, with time to grant"))
                    .got(terms.until)
                    .fix("shorten the time limit"));
            }
        }
        Ok(())
    }

    pub(crate) fn absorb_reserved(&mut self, booking: &Booking, seq: Seq) {
        let id = ReservationId(seq.0);
        for seat in &booking.seats {
            self.seats_at.entry(seat.enclave).or_default().insert(id);
        }
        self.accounts.hold(&booking.terms.tenant, MicroUsd::ZERO, booking.held());
        self.reservations.insert(id, booking.clone());
    }

    pub(crate) fn absorb_reseated(
        &mut self,
        id: ReservationId,
        seat: u32,
        enclave: EnclaveId,
        price_hour: MicroUsd,
        now: UnixTime,
    ) -> Option<()> {
        self.change_booking(id, |booking| booking.move_seat(seat as usize, enclave, price_hour, now))
    }

    pub(crate) fn absorb_seats_short(&mut self, id: ReservationId, seats: &[u32], now: UnixTime) -> Option<()> {
        self.change_booking(id, |booking| booking.count_short(seats, now))
    }

    pub(crate) fn absorb_reservation_ended(
        &mut self,
        id: ReservationId,
        why: &ReservationEnd,
        charged: MicroUsd,
    ) -> Option<()> {
        let tenant = self.reservations.get(&id)?.terms.tenant.clone();
        self.change_booking(id, |booking| {
            booking.charged = charged;
            booking.ended = Some(why.clone());
            booking.seats.iter_mut().for_each(|seat| seat.lease = None);
        })?;
        self.accounts.charge_for_time(&tenant, charged);
        let mut ended = self.reservations.iter().filter(|(_, b)| b.ended.is_some() && b.terms.tenant == tenant);
        let oldest = ended.next().map(|(id, _)| *id);
        if ended.count() >= ENDED_KEPT
            && let Some(oldest) = oldest
        {
            self.reservations.remove(&oldest);
        }
        Some(())
    }

    /// Changes a reservation, and with it what is committed for it and which enclaves have seats.
    fn change_booking(&mut self, id: ReservationId, change: impl FnOnce(&mut Booking)) -> Option<()> {
        let booking = self.reservations.get_mut(&id)?;
        let before = booking.held();
        let places: BTreeSet<_> = booking.seats.iter().map(|seat| seat.enclave).collect();
        change(booking);
        self.accounts.hold(&booking.terms.tenant, before, booking.held());
        let live = booking.ended.is_none();
        let now: BTreeSet<_> = booking.seats.iter().map(|seat| seat.enclave).filter(|_| live).collect();
        for enclave in places.union(&now) {
            let there = self.seats_at.entry(*enclave).or_default();
            if now.contains(enclave) {
                there.insert(id);
            } else {
                there.remove(&id);
            }
            if there.is_empty() {
                self.seats_at.remove(enclave);
            }
        }
        Some(())
    }

    /// Whether a task names a reservation that is over.
    pub(crate) fn is_left_without(&self, request: &Request) -> bool {
        let named = request.prefer.reservation;
        named.is_some_and(|id| self.reservations.get(&id).is_none_or(|booking| booking.ended.is_some()))
    }

    /// The reservation that a fragment's task names, if it has not ended.
    fn named(&self, fragment: FragmentId) -> Option<ReservationId> {
        let id = self.tasks.get(&fragment.task)?.request.prefer.reservation?;
        self.reservations.get(&id).filter(|b| b.ended.is_none()).map(|_| id)
    }

    /// A lease takes the seat on its enclave that its task's reservation has there.
    pub(crate) fn sit_down(&mut self, fragment: FragmentId, lease: LeaseId, enclave: EnclaveId, cost_max: MicroUsd) {
        if let Some(id) = self.named(fragment) {
            self.sit_down_in(id, lease, enclave, cost_max);
        }
    }

    pub(crate) fn sit_down_in(&mut self, id: ReservationId, lease: LeaseId, enclave: EnclaveId, cost_max: MicroUsd) {
        self.change_booking(id, |booking| {
            if let Some(seat) = booking.seats.iter_mut().find(|s| s.enclave == enclave && s.lease.is_none()) {
                seat.lease = Some(lease);
                booking.taken = booking.taken.saturating_add(cost_max);
            }
        });
    }

    /// A lease leaves its seat, if it has one.
    pub(crate) fn stand_up(&mut self, fragment: FragmentId, lease: LeaseId, cost_max: MicroUsd) {
        if let Some(id) = self.named(fragment) {
            self.stand_up_from(id, lease, cost_max);
        }
    }

    pub(crate) fn stand_up_from(&mut self, id: ReservationId, lease: LeaseId, cost_max: MicroUsd) {
        self.change_booking(id, |booking| {
            if let Some(seat) = booking.seats.iter_mut().find(|s| s.lease == Some(lease)) {
                seat.lease = None;
                booking.taken = booking.taken.saturating_sub(cost_max);
            }
        });
    }

    /// Work in a seat was charged.
    pub(crate) fn note_worked(&mut self, fragment: FragmentId, charged: MicroUsd) {
        let Some(id) = self.named(fragment) else { return };
        self.change_booking(id, |booking| booking.worked = booking.worked.saturating_add(charged));
    }

    pub(crate) fn audit_reservations(&self) -> Result<(), String> {
        let mut places = std::collections::BTreeMap::new();
        for (id, booking) in self.reservations.iter().filter(|(_, b)| b.ended.is_none()) {
            for seat in &booking.seats {
                places.entry(seat.enclave).or_insert_with(BTreeSet::new).insert(*id);
                let Some(lease) = seat.lease else { continue };
                let own = self.leases.get(&lease).is_some_and(|l| {
                    l.enclave == seat.enclave && self.named(l.fragment) == Some(*id) && l.until <= booking.terms.until
                });
                if !own {
                    return Err(format!("a seat of {id} is taken by what is not its own"));
                }
            }
            for (enclave, known) in
                booking.seats.iter().filter_map(|s| Some((s.enclave, self.enclaves.get(&s.enclave)?)))
            {
                let at = booking.terms.from.max(self.at);
                if !self.fits_over((enclave, known), (&booking.terms.demand, 0), (at, at)) {
                    return Err(format!("{enclave} is promised to {id} and to others at its beginning"));
                }
            }
        }
        if places == self.seats_at { Ok(()) } else { Err("seats are not where reservations say".to_owned()) }
    }
}

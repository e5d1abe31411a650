//! Room over time: what reservations set aside of an enclave, beside leases and each other, from when until when.
//!
//! Reservations begin when they begin, leases end at their last second: between two beginnings the room only grows. So whoever fits
//! at its own beginning, and wherever a reservation begins while it lasts, fits throughout. A lease in a seat counts as the seat.
//! Where accelerators are reserved they are counted whole: a share of one may not be cut out of one that is reserved.
//!
//! What is booked for a swarm that waits (`swarm/ahead.rs`) counts as a reservation does, for everybody but that swarm and work of a
//! higher priority.

use std::collections::BTreeSet;

use legation_core::{
    EnclaveId, FragmentIndex, LeaseId, MicroUsd, UnixTime, dsse, statement::Assurance, statement::Request, task::Demand,
};

use crate::{
    enclave::{Enclave, Presence},
    pool::Pool,
    relax::Nobody,
    reserve::{Booking, ReservationTerms, Seat},
    task::{Attempt, Phase, Task},
    wanted::{Refusal, Wanted, cost_max},
};

/// Enclaves that one search for seats looks at beyond the first of each seat: whoever asks for what hardly is there is refused
/// rather than keep everybody waiting.
const LOOKS_MAX: usize = 50_000;

/// What is taken of an enclave at one moment.
#[derive(Clone, Copy, Default)]
struct Taken {
    cpu: u64,
    memory: u64,
    slots: u64,
    gpus: u64,
    /// Some of its accelerators are reserved.
    gpus_reserved: bool,
}

/// Room of an enclave that is set aside for a time: seats of a reservation, or one that is booked for a swarm.
#[derive(Clone, Copy)]
struct Aside<'a> {
    from: UnixTime,
    until: UnixTime,
    demand: &'a Demand,
    reservation: Option<&'a Booking>,
}

impl Aside<'_> {
    /// How many seats of it are on an enclave where it has any.
    fn seats(&self, enclave: EnclaveId) -> u64 {
        self.reservation.map_or(1, |b| b.seats.iter().filter(|seat| seat.enclave == enclave).count() as u64)
    }
}

/// What counts beside a demand.
#[derive(Clone, Copy)]
struct Beside<'a> {
    reservations: bool,
    /// Beside reservations, what is booked for a swarm.
    booked: bool,
    leases: bool,
    /// Leases that do not count.
    without: &'a [LeaseId],
}

/// Everything.
const ALL: Beside<'static> = Beside { reservations: true, booked: true, leases: true, without: &[] };

impl Taken {
    fn add(&mut self, demand: &Demand, times: u64) {
        let more = |sum: &mut u64, one: u64| *sum = sum.saturating_add(one.saturating_mul(times));
        more(&mut self.cpu, demand.cpu.0);
        more(&mut self.memory, demand.memory.0);
        more(&mut self.slots, 1);
        more(&mut self.gpus, demand.gpus.0.div_ceil(1000));
    }

    fn within(&self, enclave: &Enclave) -> bool {
        let all = enclave.capacity();
        let gpus = enclave.gpus_left().len() as u64;
        self.cpu <= all.cpu.0
            && self.memory <= all.memory.0
            && self.slots <= u64::from(all.slots)
            && (!self.gpus_reserved || self.gpus <= gpus)
    }
}

impl Pool {
    /// What is set aside on an enclave; what is booked for a swarm, only if that counts.
    fn aside_at(&self, enclave: EnclaveId, booked: bool) -> impl Iterator<Item = Aside<'_>> {
        let ids = self.seats_at.get(&enclave).into_iter().flatten();
        let reserved = ids.filter_map(|id| self.reservations.get(id)).map(|booking| Aside {
            from: booking.terms.from,
            until: booking.terms.until,
            demand: &booking.terms.demand,
            reservation: Some(booking),
        });
        let swarm = self.gang_booking().filter(|booking| booked && booking.enclaves.contains(&enclave));
        let swarm = swarm.map(|booking| Aside {
            from: booking.at,
            until: booking.until,
            demand: &booking.demand,
            reservation: None,
        });
        reserved.chain(swarm)
    }

    /// Whether seats like `demand` fit on an enclave, so many more, from one second to another, beside leases and reservations.
    pub(crate) fn fits_over(
        &self,
        (id, enclave): (EnclaveId, &Enclave),
        (demand, times): (&Demand, u64),
        over: (UnixTime, UnixTime),
    ) -> bool {
        let seats = Taken { gpus_reserved: demand.gpus.0 > 0, ..Taken::default() };
        self.first_short((id, enclave), (seats, demand, times), over, ALL).is_none()
    }

    /// The same of one seat beside leases and reservations, whatever is booked for a swarm.
    pub(crate) fn fits_unbooked(&self, of: (EnclaveId, &Enclave), demand: &Demand, over: (UnixTime, UnixTime)) -> bool {
        let seats = Taken { gpus_reserved: demand.gpus.0 > 0, ..Taken::default() };
        self.first_short(of, (seats, demand, 1), over, Beside { booked: false, ..ALL }).is_none()
    }

    /// Whether what has room beside leases and reservations would take room that is booked for a swarm.
    pub(crate) fn takes_booked(&self, id: EnclaveId, demand: &Demand, over: (UnixTime, UnixTime)) -> bool {
        let booked = self.gang_booking().filter(|booking| booking.enclaves.contains(&id));
        let enclave = booked.and_then(|_| self.enclaves.get(&id));
        enclave.is_some_and(|enclave| self.reserved_from((id, enclave), demand, over, true).is_some())
    }

    /// The first second of a time at which a demand, so many times, does not fit beside what counts.
    fn first_short(
        &self,
        (id, enclave): (EnclaveId, &Enclave),
        (begin, demand, times): (Taken, &Demand, u64),
        (from, until): (UnixTime, UnixTime),
        beside: Beside<'_>,
    ) -> Option<UnixTime> {
        let begins = self.aside_at(id, beside.booked).map(|aside| aside.from);
        let begins = begins.filter(|at| from < *at && *at <= until);
        let short = std::iter::once(from).chain(begins).filter(|at| {
            let mut taken = self.taken((id, enclave), *at, begin, beside);
            taken.add(demand, times);
            !taken.within(enclave)
        });
        short.min()
    }

    fn taken(&self, (id, enclave): (EnclaveId, &Enclave), at: UnixTime, begin: Taken, beside: Beside<'_>) -> Taken {
        let mut taken = begin;
        let aside = self.aside_at(id, beside.booked);
        for aside in aside.filter(|aside| beside.reservations && aside.from <= at && at <= aside.until) {
            taken.add(aside.demand, aside.seats(id));
            taken.gpus_reserved |= aside.demand.gpus.0 > 0;
        }
        let counted = enclave.leases().iter().filter(|lease| beside.leases && !beside.without.contains(lease));
        for lease in counted {
            if let Some(demand) = self.questions.get(lease) {
                taken.add(demand, 1);
                continue;
            }
            if let Some((_, _, demand)) = self.seat_holds(*lease).filter(|(_, seat, _)| at <= seat.until) {
                taken.add(&demand, 1);
            }
            if let Some((_, loan)) = self.loan(*lease).filter(|(_, loan)| at <= loan.until()) {
                taken.add(&loan.demand(), 1);
            }
            let Some(held) = self.leases.get(lease).filter(|held| at <= held.until) else { continue };
            if !beside.reservations || !self.is_seated(held) {
                taken.add(&held.demand, 1);
            }
        }
        taken
    }

    /// Whether a lease is in a seat of a reservation that has not ended.
    fn is_seated(&self, lease: &crate::lease::Lease) -> bool {
        let task = self.tasks.get(&lease.fragment.task);
        let booking = task.and_then(|t| self.reservations.get(&t.request.prefer.reservation?));
        booking.is_some_and(|b| b.ended.is_none())
    }

    /// Whether room of an enclave is reserved or booked in a time.
    pub(crate) fn is_reserved_in(&self, id: EnclaveId, over: (UnixTime, UnixTime)) -> bool {
        self.is_aside_in(id, over, ALL.booked)
    }

    fn is_aside_in(&self, id: EnclaveId, (now, until): (UnixTime, UnixTime), booked: bool) -> bool {
        self.aside_at(id, booked).any(|aside| aside.from <= until && now <= aside.until)
    }

    /// The first moment of a time at which reservations, and what is booked for a swarm where that is to count, leave no room for a
    /// demand, if there is one. Where it is leases that leave none, and reservations would, there is none.
    fn reserved_from(
        &self,
        (id, enclave): (EnclaveId, &Enclave),
        demand: &Demand,
        over: (UnixTime, UnixTime),
        booked: bool,
    ) -> Option<UnixTime> {
        if !self.is_aside_in(id, over, booked) {
            return None;
        }
        let all = Beside { booked, ..ALL };
        let short = |beside| self.first_short((id, enclave), (Taken::default(), demand, 1), over, beside);
        let at = short(all)?;
        let full = short(Beside { reservations: false, ..all }).is_some();
        match short(Beside { leases: false, ..all }) {
            Some(reserved) => Some(reserved),
            None if full => None,
            None => Some(at),
        }
    }

    /// Whether a demand fits beside reservations, and what is booked for a swarm where that is to count, once these leases are gone.
    pub(crate) fn fits_without(
        &self,
        (id, enclave): (EnclaveId, &Enclave),
        demand: &Demand,
        over: (UnixTime, UnixTime),
        (without, booked): (&[LeaseId], bool),
    ) -> bool {
        let beside = Beside { without, booked, ..ALL };
        !self.is_aside_in(id, over, booked)
            || self.first_short((id, enclave), (Taken::default(), demand, 1), over, beside).is_none()
    }

    /// Whether a seat on an enclave can be used, now or when it comes back soon.
    pub(crate) fn is_usable(&self, id: EnclaveId, now: UnixTime) -> bool {
        let Some(enclave) = self.enclaves.get(&id) else { return false };
        let reachable = match enclave.presence() {
            Presence::Here => true,
            Presence::Draining => false,
            Presence::Away { since } => now <= since.plus(self.limits.return_seconds.saturating_mul(2)),
        };
        reachable && enclave.is_trusted() && enclave.hold().is_none() && !enclave.is_alone()
    }

    /// Seats for a reservation beside those that it has, the best first, and what else was in the way.
    pub(crate) fn find_seats(
        &self,
        terms: &ReservationTerms,
        kept: &[Seat],
        count: u32,
        now: UnixTime,
    ) -> (Vec<Seat>, Option<String>) {
        let Some(mut task) = self.as_task(terms, kept, count, now) else { return (Vec::new(), None) };
        let first = u32::try_from(kept.len()).unwrap_or(u32::MAX);
        let mut why: std::collections::BTreeMap<String, u32> = std::collections::BTreeMap::new();
        let mut able = Vec::new();
        if let Some(wanted) = Wanted::new(self, &task, FragmentIndex(first), now) {
            let mut wanted = wanted.without_account();
            for (id, enclave) in &self.enclaves {
                // Room is asked below, over the whole time: what runs there now may have ended by then.
                match wanted.stands(*id, enclave) {
                    Ok(standing) => able.push((standing.effective, *id, standing.price_hour)),
                    Err(refusal) => *why.entry(refusal.check().to_owned()).or_default() += 1,
                }
            }
        }
        able.sort_unstable();
        let window = (terms.from.max(now), terms.until);
        let mut found: Vec<Seat> = Vec::new();
        let mut looks = LOOKS_MAX;
        // Where there is no room for a seat beside those found there.
        let mut full = BTreeSet::new();
        for index in (first..).map(FragmentIndex).take(count as usize) {
            let Some(wanted) = Wanted::new(self, &task, index, now) else { break };
            let mut wanted = wanted.without_account();
            let mut seat = None;
            for (_, id, price_hour) in &able {
                let Some(enclave) = self.enclaves.get(id).filter(|_| !full.contains(id)) else { continue };
                let Some(left) = looks.checked_sub(1) else { break };
                looks = left;
                if wanted.kind_within(enclave.typical(), enclave.rate()).is_err() || wanted.apart(*id).is_err() {
                    continue;
                }
                let more = found.iter().filter(|seat| seat.enclave == *id).count() as u64 + 1;
                if self.fits_over((*id, enclave), (&terms.demand, more), window) {
                    seat = Some((*id, *price_hour));
                    break;
                }
                full.insert(*id);
            }
            let Some((id, price_hour)) = seat else {
                *why.entry(crate::wanted::CAPACITY.to_owned()).or_default() += 1;
                break;
            };
            sit(self, &mut task, index, id);
            found.push(Seat { enclave: id, price_hour, since: window.0, short: None, lease: None });
        }
        let most = why.into_iter().max_by_key(|(_, count)| *count).map(|(check, _)| check);
        (found, most)
    }

    /// A reservation as a task that nobody submits: a fragment for each seat.
    fn as_task(&self, terms: &ReservationTerms, kept: &[Seat], count: u32, now: UnixTime) -> Option<Task> {
        let seats = kept.len().checked_add(count as usize)?;
        let key = legation_core::Signer::public_key(&Nobody);
        let piece = legation_core::task::Fragment {
            name: "seat".into(),
            owner: None,
            module: legation_core::Digest::of(b"reservation"),
            args: Vec::new(),
            inputs: Vec::new(),
            demand: terms.demand,
            require: legation_core::Requirement::any(),
            delegates: None,
        };
        let request = Request {
            client: key,
            sealing: legation_core::SealingPublicKey::from_bytes([0; legation_core::SealingPublicKey::LEN]),
            tenant: terms.tenant.clone(),
            name: terms.name.clone(),
            created: now,
            expires: terms.until,
            fragments: vec![piece; seats],
            require: terms.require.clone(),
            prefer: terms.prefer.clone(),
            data: terms.data.clone(),
            swarm: None,
            assurance: Assurance::Attested,
            budget: MicroUsd(u64::MAX),
            nonce: legation_core::Digest::of(b"reservation"),
            prev: Vec::new(),
        };
        let mut task = Task::new(&dsse::sign(request, &Nobody), None, self.seq);
        for (index, seat) in (0..).map(FragmentIndex).zip(kept) {
            sit(self, &mut task, index, seat.enclave);
        }
        Some(task)
    }

    /// What a seat costs for a time, in seconds.
    pub(crate) fn seat_cost(seat: &Seat, seconds: u64) -> MicroUsd {
        let time = legation_core::Millis(seconds.saturating_mul(1000));
        cost_max(seat.price_hour, &Demand { time, ..Demand::default() })
    }
}

/// Has a fragment of a reservation's task be on an enclave.
fn sit(pool: &Pool, task: &mut Task, index: FragmentIndex, id: EnclaveId) {
    let Some(configuration) = pool.enclaves.get(&id).map(|e| &e.typical().configuration) else { return };
    let lease = legation_core::LeaseId(u64::MAX);
    if let Some(state) = task.fragments.get_mut(index.0 as usize) {
        state.phase = Phase::Leased { lease };
        state.attempts.push(Attempt {
            lease,
            enclave: id,
            provider: configuration.provider.clone(),
            region: configuration.region.clone(),
            ended: None,
        });
    }
}

impl<'a> Wanted<'a> {
    /// Whether an enclave is within what reservations leave, or in a seat of the one that the request names.
    pub(crate) fn seated(&self, id: EnclaveId) -> Result<(), Refusal<'a>> {
        // Loans have no seats: neither of a reservation nor of the task's own swarm.
        let loan = self.loan_lasts().is_some();
        let Some(named) = self.prefer().reservation.filter(|_| !loan) else {
            let Some(enclave) = self.pool.enclaves.get(&id) else { return Ok(()) };
            let booked = loan || self.pool.booking_against(self.task).is_some();
            let over = (self.now, self.ends());
            let from = self.pool.reserved_from((id, enclave), &self.fragment.demand, over, booked);
            return from.map_or(Ok(()), |from| Err(Refusal::Reserved(from)));
        };
        let known = self.pool.reservations.get(&named).filter(|b| b.ended.is_none());
        let Some(booking) = known else { return Err(Refusal::Seat("the reservation is over")) };
        if self.now < booking.terms.from || self.ends() > booking.terms.until {
            return Err(Refusal::Seat("it would not end within the reservation"));
        }
        let mut seats = booking.seats.iter().filter(|seat| seat.enclave == id).peekable();
        match (seats.peek().is_some(), seats.any(|seat| seat.lease.is_none())) {
            (_, true) => Ok(()),
            (true, false) => Err(Refusal::Seat("every seat of the reservation on it is taken")),
            (false, _) => Err(Refusal::Seat("the reservation has no seat on it")),
        }
    }

    /// The last second of a lease that begins now.
    pub(crate) fn ends(&self) -> UnixTime {
        let demand = &self.fragment.demand;
        if let Some(lasts) = self.loan_lasts() {
            return self.now.plus(lasts.seconds_up());
        }
        self.now.plus(if self.is_seat() { self.pool.seat_seconds(demand) } else { self.pool.lease_seconds(demand) })
    }
}

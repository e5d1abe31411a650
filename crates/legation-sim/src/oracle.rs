//! The judge: it sees every record when it becomes durable, everything that is acknowledged, and every offer that is obeyed, and
//! keeps books of its own, simpler than the pool's and slower.
//!
//! Invariants, after every step
//! 1. records are numbered without gaps; terms only grow; a term has one manager, and its first record begins it;
//! 2. a fragment has one live lease; whatever ends or reports a lease is about a live one, by its holder;
//! 3. no enclave is leased beyond the capacity that its *machine* has, whatever its passport says;
//! 4. nothing is leased to an enclave that is away, draining, revoked, cordoned or unproven at that moment, that was blamed for the
//!    fragment, or that is a development machine where the pool admits none;
//! 5. what a task was charged and is committed to stays within its budget;
//! 6. what is acknowledged is in the journal: tasks, grants, reports, revocations; and whoever leads knows them;
//! 7. an agent obeys no offer of an older term than it obeyed, none that is not in the journal, and none beyond its capacity;
//! 8. a swarm is seated whole or not at all, and within its machines; its fragments are leased to members of rounds that all members
//!    joined, one at a time each, and one fragment to two of them at most; its seats are given back before its task ends;
//!    An enclave is lent to another that works then, for no longer, and within its machine; loans are given back before what they are
//!    for ends, and cost no more than they may;
//! 9. a pool that only absorbs the records passes its own audit, and is equal to the leader's;
//! 10. nothing is pushed aside unless accounts consent and what pushes is more urgent, and nobody else gets a place that is being
//!     cleared;
//! 11. nobody gets room that is reserved for another, or booked for a swarm, while its lease may last; nothing new goes to whom the
//!     operator cordoned; room is booked for one swarm at once, which waits.
//! 12. an epoch of a swarm key has one committee in force at most; all of its members confirmed and had their shares by then, as many
//!     as open of the committee before handed over to it, and nobody in an epoch to two; the key stays what it was. As many as open of the
//!     shares that there are make it, fewer do not, nor do they with one of an earlier epoch. A share is erased when another committee has it
//!     surely, no sooner.
//!
//! At the end
//! 13. the store holds every record that was ever durable, byte for byte, and a pool rebuilt from them is equal to the others (in
//!     seeds with real signatures by way of JSON, and with every signature checked);
//! 14. when faults stop, every task ends within a bound, unless no enclave can take it;
//! 15. and within it there is a committee in force of members that are there, unless too few are or the key is out of reach; and who is
//!     there has erased its shares of those before.

mod custody;
mod loans;
mod swarm;

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{
    Bytes, Digest, EnclaveId, FragmentId, LeaseId, MicroUsd, Millicores, PublicKey, ReservationId, Revocable, Revoked,
    Signed, TaskId, Term, UnixTime,
    claims::{Capacity, Rate},
    statement::{Allocation, Passport, Report, Request},
    task::Demand,
};
use legation_pool::{AccountTerms, Booking, Event, GangBooking, LeaseEnd, Limits, Phase, Pool, Record, TaskState};

pub(crate) use custody::Share;

/// What it knows of an enclave.
#[derive(Default)]
struct Seen {
    /// Chip and slot.
    slot: Option<(String, u16)>,
    passports: Vec<Signed<Passport>>,
    here: bool,
    draining: bool,
    cordoned: bool,
    /// By its operator.
    held: bool,
}

/// What it knows of a lease.
struct Held {
    fragment: FragmentId,
    enclave: EnclaveId,
    demand: Demand,
    until: UnixTime,
    /// The reservation that its request names.
    seat: Option<ReservationId>,
    cost_max: MicroUsd,
    allocation: Digest,
    live: bool,
    /// The seat of a swarm that it is within.
    within: Option<LeaseId>,
    /// Of a loan: the lease that it is for.
    of: Option<LeaseId>,
}

/// What it knows of a task.
struct Known {
    request: Box<Signed<Request>>,
    live: bool,
    spent: MicroUsd,
    committed: MicroUsd,
    swarm: swarm::Book,
}

/// What machines really are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Truth {
    pub(crate) capacity: Capacity,
    pub(crate) rate: Rate,
    pub(crate) production: bool,
}

/// Something that was acknowledged, or answered as done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Acknowledged {
    Task(TaskId),
    Grant(TaskId, Digest),
    Report(EnclaveId, LeaseId),
    Cancelled(TaskId),
    Revoked(Box<Revocable>),
}

/// The judge.
pub(crate) struct Oracle {
    limits: Limits,
    mirror: Pool,
    records: Vec<Record>,
    managers: BTreeMap<Term, PublicKey>,
    truth: BTreeMap<EnclaveId, Truth>,
    enclaves: BTreeMap<EnclaveId, Seen>,
    leases: BTreeMap<LeaseId, Held>,
    holders: BTreeSet<(FragmentId, LeaseId)>,
    tasks: BTreeMap<TaskId, Known>,
    grants: BTreeSet<Digest>,
    revoked: Revoked,
    /// What tenants may do: all of them have the default account.
    terms: AccountTerms,
    /// For whom places are being cleared.
    kept: BTreeMap<EnclaveId, FragmentId>,
    reserved: BTreeMap<ReservationId, Booking>,
    booked: Option<GangBooking>,
    blamed: BTreeSet<(FragmentId, EnclaveId)>,
    /// Highest term that each boot obeyed.
    obeyed: BTreeMap<EnclaveId, Term>,
    acknowledged: Vec<Acknowledged>,
    custody: custody::Book,
}

fn unless(fits: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if fits { Ok(()) } else { Err(what()) }
}

fn cost_max(price_hour: MicroUsd, demand: &Demand) -> MicroUsd {
    let cost = (u128::from(price_hour.0) * u128::from(demand.time.0)).div_ceil(3_600_000);
    MicroUsd(u64::try_from(cost).unwrap_or(u64::MAX))
}

impl Oracle {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            mirror: Pool::new(limits),
            records: Vec::new(),
            managers: BTreeMap::new(),
            truth: BTreeMap::new(),
            enclaves: BTreeMap::new(),
            leases: BTreeMap::new(),
            holders: BTreeSet::new(),
            tasks: BTreeMap::new(),
            grants: BTreeSet::new(),
            revoked: Revoked::default(),
            terms: AccountTerms::default(),
            kept: BTreeMap::new(),
            reserved: BTreeMap::new(),
            booked: None,
            blamed: BTreeSet::new(),
            obeyed: BTreeMap::new(),
            acknowledged: Vec::new(),
            custody: custody::Book::default(),
        }
    }

    /// A machine booted, or an agent started again as the same enclave.
    pub(crate) fn booted(&mut self, enclave: EnclaveId, truth: Truth) {
        self.truth.insert(enclave, truth);
        self.custody.lives(enclave);
    }

    /// The pool as the journal makes it.
    pub(crate) fn pool(&self) -> &Pool {
        &self.mirror
    }

    /// A batch is durable.
    pub(crate) fn durable(&mut self, batch: &[Record]) -> Result<(), String> {
        for record in batch {
            self.judge(record).map_err(|why| format!("record {}: {why}", record.seq.0))?;
            self.mirror.absorb(record).map_err(|why| format!("record {} cannot follow: {why}", record.seq.0))?;
            if let Event::CustodySaid { .. } = &record.event {
                self.heard_custody().map_err(|why| format!("record {}: {why}", record.seq.0))?;
            }
            self.records.push(record.clone());
        }
        self.mirror.audit().map_err(|why| format!("the pool's own audit: {why}"))
    }

    fn judge(&mut self, record: &Record) -> Result<(), String> {
        let expected = self.records.len() as u64 + 1;
        unless(record.seq.0 == expected, || format!("is not record {expected}"))?;
        let newest = self.managers.last_key_value().map_or(Term(0), |(term, _)| *term);
        match &record.event {
            Event::TermBegan { appointment } => {
                unless(record.term > newest, || format!("term {} begins after term {}", record.term.0, newest.0))?;
                self.managers.insert(record.term, appointment.key);
                self.enclaves.values_mut().for_each(|e| e.here = false);
            }
            _ => {
                unless(record.term == newest, || format!("of term {} in term {}", record.term.0, newest.0))?;
            }
        }
        match &record.event {
            Event::Attested { passport, .. } => {
                self.displace(passport);
                let seen = self.enclaves.entry(passport.enclave_id()).or_default();
                seen.passports.push((**passport).clone());
                seen.cordoned = false;
                let truth = self.truth.get(&passport.enclave_id());
                let admitted = self.limits.allow_development || truth.is_some_and(|t| t.production);
                unless(admitted, || format!("admits {}, a development machine", passport.enclave_id().short()))?;
            }
            Event::Arrived { enclave } => self.enclaves.entry(*enclave).or_default().here = true,
            Event::Left { enclave, .. } => self.enclaves.entry(*enclave).or_default().here = false,
            Event::Cordoned { enclave, .. } => self.enclaves.entry(*enclave).or_default().held = true,
            Event::Uncordoned { enclave, .. } => self.enclaves.entry(*enclave).or_default().held = false,
            Event::AccountSet { tenant: None, terms, .. } => self.terms = terms.clone(),
            Event::Claimed { fragment, enclave, victims, .. } => self.claimed(*fragment, *enclave, victims)?,
            Event::Unclaimed { fragment, .. } => self.kept.retain(|_, other| other != fragment),
            Event::Reserved { booking } => {
                self.reserved.insert(ReservationId(record.seq.0), (**booking).clone());
            }
            Event::Reseated { reservation, seat, enclave, .. } => {
                let known = self.reserved.get_mut(reservation).ok_or("moves a seat of no reservation")?;
                known.seats.get_mut(*seat as usize).ok_or("moves a seat that is not there")?.enclave = *enclave;
            }
            Event::ReservationEnded { reservation, .. } => {
                self.reserved.remove(reservation).ok_or("ends a reservation that is none")?;
            }
            Event::Draining { enclave } => self.enclaves.entry(*enclave).or_default().draining = true,
            Event::Revoked { revocation } => self.revoked.insert(revocation.clone()),
            Event::Lapsed { enclave, .. } | Event::Barred { enclave, .. } => {
                self.enclaves.entry(*enclave).or_default().cordoned = true;
            }
            Event::Withdrawn { enclave, verifier, .. } => {
                let seen = self.enclaves.entry(*enclave).or_default();
                seen.passports.retain(|p| p.verifier_id() != *verifier);
            }
            Event::Submitted { request, .. } => {
                let known = Known {
                    request: request.clone(),
                    live: true,
                    spent: MicroUsd::ZERO,
                    committed: MicroUsd::ZERO,
                    swarm: swarm::Book::default(),
                };
                let before = self.tasks.insert(TaskId::new(request.digest()), known);
                unless(before.is_none(), || "submits a task again".to_owned())?;
            }
            Event::Granted { grant, .. } => {
                self.grants.insert(grant.digest());
            }
            Event::Leased { allocation } => self.leased(allocation, record)?,
            Event::SwarmSeated { seating } => self.seated(seating, record)?,
            Event::SwarmJoined { membership } => self.joined(membership)?,
            Event::SeatsEnded { task, seats, .. } => self.seats_ended(*task, seats)?,
            Event::GangBooked { booking } => self.book(booking)?,
            Event::GangUnbooked { task, .. } => {
                let ended = self.booked.take_if(|booked| booked.task == *task);
                unless(ended.is_some(), || "ends a booking that is none".to_owned())?;
            }
            Event::Lent { allocation, .. } => self.lent(allocation, record)?,
            Event::LeaseEnded { lease, charged: Some(charged), .. } => self.returned(*lease, *charged)?,
            Event::LeaseEnded { lease, why, charged: None } => {
                let held = self.release(*lease)?;
                // A swarm takes again who was lost.
                let swarm = self.tasks.get(&held.0.task).is_some_and(|task| task.request.swarm.is_some());
                if why.blames_enclave() && !(swarm && matches!(why, LeaseEnd::EnclaveLost { .. })) {
                    self.blamed.insert(held);
                }
                if let LeaseEnd::Lapsed { .. } | LeaseEnd::Revoked = why {
                    unless(record.at.0 > 0, || "without a time".to_owned())?;
                }
            }
            Event::Reported { report, charged, attached, .. } => {
                unless(attached.is_empty(), || "takes answers, and nobody calls here".to_owned())?;
                self.reported(report, *charged)?;
            }
            Event::Proved { .. } | Event::Unproved { .. } => {
                return Err("speaks of a proof that nobody owes".to_owned());
            }
            Event::TaskEnded { task, .. } => {
                let known = self.tasks.get_mut(task).ok_or("ends an unknown task")?;
                unless(known.live, || "ends a task twice".to_owned())?;
                known.live = false;
                self.booked.take_if(|booked| booked.task == *task);
                self.kept.retain(|_, fragment| fragment.task != *task);
                let seats = known.swarm.is_empty();
                unless(seats, || "ends a task that holds seats".to_owned())?;
                let open = self.holders.iter().any(|(fragment, _)| fragment.task == *task);
                unless(!open, || "ends a task that holds leases".to_owned())?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Consent of both sides, and more urgent; all of it on one enclave.
    fn claimed(&mut self, fragment: FragmentId, enclave: EnclaveId, victims: &[LeaseId]) -> Result<(), String> {
        let short = enclave.short();
        let priority = |of: FragmentId| self.tasks.get(&of.task).map(|t| t.request.prefer.priority);
        unless(self.terms.may_preempt && self.terms.preemptible, || format!("clears {short} without consent"))?;
        for victim in victims {
            let held = self.leases.get(victim).filter(|held| held.live && held.enclave == enclave);
            let held = held.ok_or_else(|| format!("clears {short} of {victim}, which is not there"))?;
            unless(priority(held.fragment) < priority(fragment), || format!("{victim} is as urgent as {fragment}"))?;
        }
        let other = self.kept.insert(enclave, fragment);
        unless(other.is_none(), || format!("clears {short} twice"))
    }

    /// Whether reservations of others leave room for a lease on an enclave, as long as it may last.
    fn leaves_room(&self, enclave: EnclaveId, lease: &Held, from: UnixTime, all: Capacity) -> bool {
        self.reserved.iter().filter(|(id, _)| lease.seat != Some(**id)).all(|(_, booking)| {
            let seats = booking.seats.iter().filter(|seat| seat.enclave == enclave).count() as u64;
            let at = booking.terms.from.max(from);
            if seats == 0 || at > lease.until || at > booking.terms.until {
                return true;
            }
            let others =
                self.leases.values().filter(|l| l.live && l.within.is_none() && l.enclave == enclave && l.until >= at);
            let others = || others.clone().filter(|l| l.seat.is_none()).chain([lease]).map(|l| l.demand);
            let demand = booking.terms.demand;
            let cpu = others().map(|d| d.cpu.0).sum::<u64>() + demand.cpu.0 * seats;
            let memory = others().map(|d| d.memory.0).sum::<u64>() + demand.memory.0 * seats;
            let slots = others().count() as u64 + seats;
            cpu <= all.cpu.0 && memory <= all.memory.0 && slots <= u64::from(all.slots)
        })
    }

    /// Another boot of a machine takes the place of the one before. Should that return, what its operator said of it holds.
    fn displace(&mut self, passport: &Signed<Passport>) {
        let slot = Some((passport.claims.chip.value.clone(), passport.configuration.slot));
        self.enclaves.entry(passport.enclave_id()).or_default().slot.clone_from(&slot);
        for (id, seen) in &mut self.enclaves {
            if seen.slot == slot && *id != passport.enclave_id() {
                seen.here = false;
                seen.passports.clear();
            }
        }
    }

    fn leased(&mut self, allocation: &Signed<Allocation>, record: &Record) -> Result<(), String> {
        let (lease, enclave) = (allocation.lease, allocation.enclave);
        let fragment = FragmentId { task: allocation.task, index: allocation.fragment };
        let short = enclave.short();
        unless(allocation.term <= record.term, || "an allocation of a later term".to_owned())?;
        unless(!self.leases.contains_key(&lease), || format!("{lease} is given twice"))?;
        self.alone(fragment, allocation)?;
        let known = self.tasks.get(&fragment.task).ok_or("leases for an unknown task")?;
        unless(known.live, || "leases for a task that has ended".to_owned())?;
        let spec = known.request.fragment(fragment.index).ok_or("leases for an unknown fragment")?.clone();
        let reservation = known.request.prefer.reservation;
        let truth = self.fit_for_work(enclave, record)?;
        let kept = self.kept.get(&enclave).is_none_or(|other| *other == fragment) || allocation.seat.is_some();
        unless(kept, || format!("leases to {short}, which is being cleared for another"))?;
        let again = self.blamed.contains(&(fragment, enclave));
        unless(!again, || format!("leases {fragment} again to {short}, which failed it"))?;
        let price = truth.rate.per_hour(spec.demand.cpu, spec.demand.memory);
        unless(allocation.price_hour == price, || format!("a price of {}, not {price}", allocation.price_hour))?;
        let within = self.takes_seat(allocation)?;
        if within.is_none() {
            self.has_room(enclave, truth, &spec.demand)?;
        }
        let held = Held {
            fragment,
            enclave,
            demand: spec.demand,
            until: allocation.until,
            seat: reservation,
            cost_max: if within.is_some() { MicroUsd::ZERO } else { cost_max(price, &spec.demand) },
            allocation: allocation.digest(),
            live: true,
            within,
            of: None,
        };
        unless(within.is_some() || self.leaves_room(enclave, &held, allocation.from, truth.capacity), || {
            format!("leases room of {short} that is reserved")
        })?;
        unless(within.is_some() || self.leaves_booked(enclave, held.until, held.demand, truth.capacity), || {
            format!("leases room of {short} that is booked for a swarm")
        })?;
        self.kept.retain(|_, other| *other != fragment);
        let cost = held.cost_max;
        self.leases.insert(lease, held);
        self.holders.insert((fragment, lease));
        let known = self.tasks.get_mut(&fragment.task).ok_or("leases for an unknown task")?;
        known.committed = known.committed.saturating_add(cost);
        known.within_budget()
    }

    /// Whether anything may be given to an enclave at that moment; what its machine really is.
    fn fit_for_work(&self, enclave: EnclaveId, record: &Record) -> Result<Truth, String> {
        let short = enclave.short();
        let seen = self.enclaves.get(&enclave).ok_or_else(|| format!("leases to {short}, which never attested"))?;
        let truth = self.truth.get(&enclave).ok_or_else(|| format!("leases to {short}, which never booted"))?;
        unless(seen.here, || format!("leases to {short}, which is away"))?;
        unless(!seen.draining, || format!("leases to {short}, which is draining"))?;
        unless(!seen.held, || format!("leases to {short}, which its operator cordoned"))?;
        unless(!seen.cordoned, || format!("leases to {short}, which is cordoned"))?;
        unless(self.limits.allow_development || truth.production, || {
            format!("leases to {short}, a development machine")
        })?;
        let mut proofs = seen.passports.iter().filter(|p| p.valid_at(record.at));
        let proof = proofs.find(|p| self.revoked.of(p).is_none());
        unless(proof.is_some(), || format!("leases to {short}, of which no proof holds at {}", record.at))?;
        unless(seen.passports.iter().all(|p| self.revoked.of(p).is_none()), || format!("leases to {short}, revoked"))?;
        Ok(*truth)
    }

    /// Whether a machine has room for another demand.
    fn has_room(&self, enclave: EnclaveId, truth: Truth, demand: &Demand) -> Result<(), String> {
        let short = enclave.short();
        let plain = self.leases.values().filter(|l| l.live && l.within.is_none() && l.enclave == enclave);
        let mine: Vec<Demand> = plain.map(|l| l.demand).chain(self.seats_at(enclave)).collect();
        let mine = || mine.iter().copied();
        let cpu: Millicores = mine().map(|d| d.cpu).sum::<Millicores>().saturating_add(demand.cpu);
        let memory: Bytes = mine().map(|d| d.memory).sum::<Bytes>().saturating_add(demand.memory);
        let slots = mine().count() as u64 + 1;
        let Capacity { cpu: cpu_max, memory: memory_max, slots: slots_max } = truth.capacity;
        unless(cpu <= cpu_max && memory <= memory_max && slots <= u64::from(slots_max), || {
            format!(
                "leases more of {short} than it has: {cpu} of {cpu_max}, {memory} of {memory_max}, {slots} of {slots_max} slots"
            )
        })
    }

    fn release(&mut self, lease: LeaseId) -> Result<(FragmentId, EnclaveId), String> {
        let held = self.leases.get_mut(&lease).ok_or_else(|| format!("ends {lease}, which never was"))?;
        unless(held.live, || format!("ends {lease} twice"))?;
        held.live = false;
        let lent = self.leases.values().any(|other| other.live && other.of == Some(lease));
        unless(!lent, || format!("ends {lease} before what is lent under it"))?;
        let held = self.leases.get(&lease).ok_or_else(|| format!("ends {lease}, which never was"))?;
        self.holders.remove(&(held.fragment, lease));
        let known = self.tasks.get_mut(&held.fragment.task).ok_or("a lease of an unknown task")?;
        known.committed = known.committed.saturating_sub(held.cost_max);
        if let Some(seat) = held.within {
            known.swarm.leave(seat);
        }
        Ok((held.fragment, held.enclave))
    }

    fn reported(&mut self, report: &Signed<Report>, charged: MicroUsd) -> Result<(), String> {
        let (fragment, holder) = self.release(report.lease)?;
        let loan = self.leases.get(&report.lease).is_some_and(|held| held.of.is_some());
        let same = !loan && fragment == FragmentId { task: report.task, index: report.fragment };
        unless(same, || format!("a report of {} for {fragment}", report.lease))?;
        unless(report.enclave.enclave_id() == holder, || {
            format!(
                "a report of {} by {}, not its holder {}",
                report.lease,
                report.enclave.enclave_id().short(),
                holder.short()
            )
        })?;
        let most = self.leases.get(&report.lease).map_or(MicroUsd::ZERO, |l| l.cost_max);
        unless(charged <= most, || format!("charges {charged} for {}, at most {most}", report.lease))?;
        let known = self.tasks.get_mut(&fragment.task).ok_or("a report for an unknown task")?;
        unless(known.live, || "a report for a task that has ended".to_owned())?;
        known.spent = known.spent.saturating_add(charged);
        known.within_budget()
    }

    /// Somebody received the answer that something is done.
    pub(crate) fn acknowledged(&mut self, what: Acknowledged) -> Result<(), String> {
        self.holds(&what)?;
        self.acknowledged.push(what);
        Ok(())
    }

    fn holds(&self, what: &Acknowledged) -> Result<(), String> {
        let there = match what {
            Acknowledged::Task(task) => self.tasks.contains_key(task),
            Acknowledged::Grant(task, grant) => self.grants.contains(grant) && self.tasks.contains_key(task),
            Acknowledged::Cancelled(task) => self.tasks.get(task).is_some_and(|t| !t.live),
            Acknowledged::Revoked(what) => self.revoked.get(what).is_some(),
            // Reported, or ended before: nobody waits for it.
            Acknowledged::Report(enclave, lease) => {
                self.leases.get(lease).is_none_or(|l| !l.live || l.enclave != *enclave)
            }
        };
        unless(there, || format!("was acknowledged and is not in the journal: {what:?}"))
    }

    /// A client that was told that its task is taken hears from whoever leads that there is no such task.
    pub(crate) fn denied(&self, task: TaskId) -> String {
        format!("task {} was acknowledged, and a leader says that it does not know it", task.short())
    }

    /// A boot obeys an offer, and runs these from then on.
    pub(crate) fn obeys(
        &mut self,
        enclave: EnclaveId,
        term: Term,
        allocation: &Signed<Allocation>,
        runs: impl Iterator<Item = Demand> + Clone,
    ) -> Result<(), String> {
        let short = enclave.short();
        let highest = self.obeyed.entry(enclave).or_default();
        unless(term >= *highest, || format!("{short} obeys term {} after term {}", term.0, highest.0))?;
        *highest = term;
        let held = self.leases.get(&allocation.lease);
        let known = held.is_some_and(|l| l.allocation == allocation.digest() && l.enclave == enclave);
        unless(known, || format!("{short} obeys an offer of {} that is not in the journal", allocation.lease))?;
        let Some(truth) = self.truth.get(&enclave) else { return Err(format!("{short} never booted")) };
        let cpu: Millicores = runs.clone().map(|d| d.cpu).sum();
        let memory: Bytes = runs.clone().map(|d| d.memory).sum();
        let slots = runs.count() as u64;
        let Capacity { cpu: cpu_max, memory: memory_max, slots: slots_max } = truth.capacity;
        unless(cpu <= cpu_max && memory <= memory_max && slots <= u64::from(slots_max), || {
            format!("{short} runs more than it has")
        })
    }

    /// The leader's pool, after what it decided became durable.
    pub(crate) fn same(&self, leader: &Pool) -> Result<(), String> {
        let differs = leader.seq() == self.mirror.seq() && *leader != self.mirror;
        unless(!differs, || format!("the leader's pool differs from the journal's at record {}", leader.seq().0))
    }

    /// What must be true in the end, of what the store holds.
    pub(crate) fn conclude(&self, stored: &[Record], by_json: bool) -> Result<(), String> {
        unless(stored.len() == self.records.len(), || {
            format!("the store holds {} records, {} were durable", stored.len(), self.records.len())
        })?;
        unless(stored == self.records, || "the store holds other records than were durable".to_owned())?;
        legation_pool::check_history(stored).map_err(|why| format!("the journal does not hold: {why}"))?;
        let mut again = Pool::new(self.limits);
        for record in stored {
            if by_json {
                let text = serde_json::to_vec(record).map_err(|e| format!("record {}: {e}", record.seq.0))?;
                let read: Record =
                    serde_json::from_slice(&text).map_err(|e| format!("record {}: {e}", record.seq.0))?;
                let twice = serde_json::to_vec(&read).map_err(|e| format!("record {}: {e}", record.seq.0))?;
                unless(text == twice, || format!("record {} is written otherwise again", record.seq.0))?;
                again.absorb(&read).map_err(|why| format!("record {}: {why}", record.seq.0))?;
            } else {
                again.absorb(record).map_err(|why| format!("record {}: {why}", record.seq.0))?;
            }
        }
        unless(again == self.mirror, || "a pool rebuilt from the journal differs".to_owned())?;
        self.acknowledged.iter().try_for_each(|what| self.holds(what))
    }

    /// Tasks that have not ended although something could take them: a defect once faults have stopped for long enough.
    pub(crate) fn stuck(&self, now: legation_core::UnixTime) -> Result<(), String> {
        for (id, task) in self.mirror.tasks().iter().filter(|(_, t)| t.state == TaskState::Live) {
            let phases: Vec<_> = task.fragments.iter().map(|f| &f.phase).collect();
            let leased = phases.iter().any(|p| matches!(p, Phase::Leased { .. }));
            unless(!leased, || format!("task {} still holds leases: {phases:?}", id.short()))?;
            let said = self.mirror.explain(*id, now).map_err(|why| why.to_string())?;
            let waits = said.iter().any(|s| s.phase == Phase::Queued);
            unless(waits, || format!("task {} waits for nothing: {phases:?}", id.short()))?;
            if task.swarm.is_some() {
                swarm::stuck(*id, task, &said)?;
                continue;
            }
            for one in said.iter().filter(|s| s.phase == Phase::Queued) {
                unless(one.ranking.is_empty(), || {
                    format!("{} of task {} waits, and could be placed", one.name, id.short())
                })?;
            }
        }
        Ok(())
    }
}

impl Known {
    fn within_budget(&self) -> Result<(), String> {
        let total = self.spent.checked_add(self.committed);
        unless(total.is_some_and(|t| t <= self.request.budget), || {
            format!("{} spent and {} committed of {}", self.spent, self.committed, self.request.budget)
        })
    }
}

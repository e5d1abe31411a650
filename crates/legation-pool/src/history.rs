//! What a whole journal must say, whoever wrote it: the judgement of audits, of failover tests and of simulations over a history
//! in which several managers led.
//!
//! It shares no code with [`Pool`](crate::Pool): it keeps books of its own, from the records alone, so that a defect of the pool
//! cannot hide itself. It reads no clock. What the statements in the records may say to each other was judged when they were
//! made; here it is judged what may follow what.
//!
//! 1. positions begin with 1 and leave no gap (`history.gap`);
//! 2. terms only grow, each begins once, with one manager, and every record is of the term that began last (`history.term`);
//! 3. a task is submitted once, and one name that a client gave its try means one task while that task lives
//!    (`history.submitted`);
//! 4. whoever is promised attested before, is not revoked, and the promise is signed by the manager of the record's own term
//!    (`history.allocation`);
//! 5. no promise is made twice, and no fragment has two at once (a swarm's may have two, of two of its members), or another after
//!    its report (`history.lease`);
//! 6. what is promised of an enclave at once is within what it attested (`history.capacity`);
//! 7. what ends a promise ends one that lives, and a report is taken for one that lives, of its own enclave, fragment and
//!    allocation (`history.ended`, `history.report`);
//! 8. a task that ended has no promises, nothing is granted, promised or reported for it, and one that completed has a completed
//!    report of every fragment (`history.task`);
//! 9. what a task was charged is within its budget (`history.budget`);
//! 10. a swarm is seated whole or not at all, no round of it has fewer members than must be, seats are counted as promises are and
//!     are given back before their task ends, at no charge where nobody joined, and its fragments are promised to members of rounds
//!     that all members joined, one at a time each (`history.swarm`);
//! 11. room is booked for one swarm at once, which waits; nobody else is promised it beyond the time from which it is booked, and no
//!     booking outlives its swarm's wait or task (`history.booking`);
//! 12. an enclave is lent to one that works then, for no longer than that, counted by one, and given back before; what it cost is
//!     within the task's budget; who misled a borrower was lent to it (`history.loan`);
//! 13. revocations are counted by one (`history.revocation`);
//! 14. a proof is of an answer behind a report that was taken, which was to be proven, by the enclave that answered, once
//!     (`history.proof`);
//! 15. a swarm key has charters that follow each other, each call is by who leads, of enclaves that attested and are not revoked, and
//!     whoever follows as custodians do comes along (`history.custody`).
//!
//! Beside the journal, what others remember is held against it: [`HistoryFacts::check_acknowledged`] for clients,
//! [`HistoryFacts::check_obeyed`] for agents.

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{
    Bytes, Digest, EnclaveId, FragmentId, FragmentIndex, LeaseId, MicroUsd, Millicores, Milligpus, PublicKey,
    Rejection, Revocable, RevocationEpoch, Seq, SwarmName, TaskId, Term, UnixTime,
    claims::Capacity,
    statement::{Allocation, Outcome, Passport, Report, Request},
    swarm::{Member, Membership, Seating},
    task::Demand,
};

use crate::{
    event::{Event, IdempotencyKey, Record},
    swarm::GangBooking,
    task::TaskState,
};

mod custody;
mod loans;
mod proofs;

/// One term.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TermFacts {
    /// Which.
    pub term: Term,
    /// Key of the manager that led.
    pub manager: PublicKey,
    /// Record that began it.
    pub began: Seq,
}

/// One task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskFacts {
    /// Record that submitted it.
    pub submitted: Seq,
    /// Record that ended it, and how.
    pub ended: Option<(Seq, TaskState)>,
    /// Reports that were taken, by fragment: the record, and whether the fragment completed.
    pub reports: BTreeMap<FragmentIndex, (Seq, bool)>,
    /// What it was charged.
    pub charged: MicroUsd,
    fragments: u32,
    budget: MicroUsd,
    demands: Vec<Demand>,
    swarm: Option<SwarmFacts>,
}

/// One promise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseFacts {
    /// Record that made it.
    pub made: Seq,
    /// Term in which it was made.
    pub term: Term,
    /// To whom.
    pub fragment: FragmentId,
    /// By whom.
    pub enclave: EnclaveId,
    /// Record that ended it: a report, or an end without one.
    pub ended: Option<Seq>,
    allocation: Digest,
    seat: Option<LeaseId>,
    /// Its last second.
    until: UnixTime,
    /// Of a loan: the promise that it is for.
    of: Option<LeaseId>,
}

/// What a client was told: a task that was taken, or that completed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acknowledged {
    /// The task.
    pub task: TaskId,
    /// Journal position of the answer.
    pub version: Seq,
    /// Whether the answer said that it completed.
    pub completed: bool,
}

/// An offer that an agent obeyed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Obeyed {
    /// The promise that was offered.
    pub lease: LeaseId,
    /// Term of the manager that offered it.
    pub term: Term,
    /// Journal position of the offer.
    pub seq: Seq,
}

/// What an enclave attested, and what of it is promised.
#[derive(Clone, PartialEq, Debug, Default)]
struct EnclaveBook {
    capacity: Option<Capacity>,
    gpus: Milligpus,
    /// Each with its last second.
    held: BTreeMap<LeaseId, (Demand, UnixTime)>,
    revoked: bool,
}

/// A swarm: what it asks for, its rounds, and the seats that live with the promise that runs in each.
#[derive(Clone, PartialEq, Eq, Debug)]
struct SwarmFacts {
    members: usize,
    least: usize,
    seat: Demand,
    rounds: BTreeMap<u32, RoundFacts>,
    seats: BTreeMap<LeaseId, (EnclaveId, Option<LeaseId>)>,
}

/// A round: who was seated, and who joined.
#[derive(Clone, PartialEq, Eq, Debug)]
struct RoundFacts {
    members: Vec<Member>,
    joined: BTreeSet<EnclaveId>,
}

/// A history as far as it was read.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct HistoryFacts {
    last: Seq,
    terms: Vec<TermFacts>,
    tasks: BTreeMap<TaskId, TaskFacts>,
    leases: BTreeMap<LeaseId, LeaseFacts>,
    last_lease: Option<LeaseId>,
    /// The promises that a fragment has now.
    holders: BTreeSet<(FragmentId, LeaseId)>,
    enclaves: BTreeMap<EnclaveId, EnclaveBook>,
    /// By what they are for: loans that live, and how many there were.
    loans: BTreeMap<LeaseId, (BTreeSet<LeaseId>, u32)>,
    booked: Option<GangBooking>,
    /// Answers that were to be proven.
    to_prove: BTreeMap<Digest, proofs::Answered>,
    named: BTreeMap<(PublicKey, String), TaskId>,
    revoked: BTreeSet<Revocable>,
    revocations: RevocationEpoch,
    swarm_keys: BTreeMap<SwarmName, custody::KeyFacts>,
}

/// Reads a whole journal, from its first record on.
///
/// # Errors
/// The first record that cannot follow those before.
pub fn check_history<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<HistoryFacts, Rejection> {
    let mut facts = HistoryFacts::default();
    records.into_iter().try_for_each(|record| facts.take(record))?;
    Ok(facts)
}

fn unless(fits: bool, why: impl FnOnce() -> Rejection) -> Result<(), Rejection> {
    if fits { Ok(()) } else { Err(why()) }
}

fn bad(check: &str, claim: impl Into<String>) -> Rejection {
    Rejection::new(check, claim)
}

impl HistoryFacts {
    /// Takes the next record.
    ///
    /// # Errors
    /// It cannot follow those before; what is known is then of no further use.
    pub fn take(&mut self, record: &Record) -> Result<(), Rejection> {
        self.event(record).map_err(|why| Rejection {
            claim: format!("{} (record {}, {})", why.claim, record.seq.0, record.event.kind()),
            ..why
        })
    }

    fn event(&mut self, record: &Record) -> Result<(), Rejection> {
        let (seq, term) = (record.seq, record.term);
        unless(self.last.0.checked_add(1) == Some(seq.0), || {
            bad("history.gap", "position").expected(format!("{} and one", self.last.0)).got(seq.0)
        })?;
        let before = self.terms.last().map_or(Term(0), |t| t.term);
        let begins = matches!(record.event, Event::TermBegan { .. });
        unless(if begins { term > before } else { term == before && term > Term(0) }, || {
            bad("history.term", "term of the record").expected(format!("after term {}", before.0)).got(term.0)
        })?;
        self.last = seq;
        match &record.event {
            Event::TermBegan { appointment } => {
                self.terms.push(TermFacts { term, manager: appointment.key, began: seq });
                Ok(())
            }
            Event::Attested { passport, .. } => self.attested(passport),
            Event::Revoked { revocation } => {
                let next = self.revocations.0.checked_add(1);
                unless(next == Some(revocation.epoch.0), || {
                    bad("history.revocation", "epoch").expected("one more").got(revocation.epoch.0)
                })?;
                self.revocations = revocation.epoch;
                if let Revocable::Enclave(enclave) = &revocation.what
                    && let Some(book) = self.enclaves.get_mut(enclave)
                {
                    book.revoked = true;
                }
                self.revoked.insert(revocation.what.clone());
                Ok(())
            }
            Event::Submitted { request, idempotency } => {
                self.submitted(TaskId::new(request.digest()), request, idempotency.as_ref())
            }
            Event::Granted { grant, .. } => self.live(grant.task).map(|_| ()),
            Event::Leased { allocation } => self.leased(allocation, allocation.digest(), term),
            Event::Claimed { fragment, enclave, victims, .. } => {
                self.live(fragment.task)?;
                let stray = victims
                    .iter()
                    .find(|victim| self.leases.get(victim).is_none_or(|l| l.ended.is_some() || l.enclave != *enclave));
                match stray {
                    None => Ok(()),
                    Some(lease) => Err(bad("history.claim", "a promise that makes way")
                        .expected(format!("one that lives, of {}", enclave.short()))
                        .got(lease)),
                }
            }
            Event::Lent { allocation, .. } => self.lent(allocation, allocation.digest(), term),
            Event::LeaseEnded { lease, why, charged } => {
                let freed = self.free(*lease, "history.ended")?;
                self.misled(*lease, why)?;
                self.paid(&freed, *charged)
            }
            Event::Reported { report, charged, attached, .. } => {
                self.reported(report, *charged)?;
                self.answered(report.task, attached);
                Ok(())
            }
            Event::Proved { task, statement } => self.proved(*task, statement),
            Event::Unproved { task, report, .. } => self.unproved(*task, *report),
            Event::SwarmSeated { seating } => self.seated(seating, term),
            Event::SwarmJoined { membership } => self.joined(membership),
            Event::SeatsEnded { task, seats, .. } => self.seats_ended(*task, seats),
            Event::CharterSet { charter, .. } => self.chartered(charter),
            Event::CustodyAsked { swarm, .. } => self.asked_for(swarm),
            Event::CustodyCalled { swarm, call, .. } => self.called(swarm, call, (term, record.at)),
            Event::CustodySaid { swarm, word } => self.said(swarm, word, record.at),
            Event::CustodyEnded { swarm, call, .. } => self.call_ended(swarm, *call, record.at),
            Event::GangBooked { booking } => self.booked(booking),
            Event::GangUnbooked { task, .. } => {
                let ended = self.booked.take_if(|booking| booking.task == *task);
                unless(ended.is_some(), || {
                    bad("history.booking", "a booking that ends").expected("one that lives, of this task").got(task)
                })
            }
            Event::TaskEnded { task, state } => {
                self.booked.take_if(|booking| booking.task == *task);
                self.task_ended(*task, state)
            }
            // About nothing that is kept here.
            _ => Ok(()),
        }
    }

    fn attested(&mut self, passport: &Passport) -> Result<(), Rejection> {
        let id = passport.enclave_id();
        unless(!self.revoked.contains(&Revocable::Enclave(id)), || {
            bad("history.allocation", "an enclave that attests").expected("one that is not revoked").got(id)
        })?;
        let book = self.enclaves.entry(id).or_default();
        book.capacity = Some(passport.configuration.capacity);
        // Verifiers may see more or fewer devices: the most of them is what an enclave can have.
        let gpus = u64::try_from(passport.claims.gpus.len()).unwrap_or(u64::MAX).saturating_mul(1000);
        book.gpus = book.gpus.max(Milligpus(gpus));
        Ok(())
    }

    fn submitted(
        &mut self,
        task: TaskId,
        request: &Request,
        idempotency: Option<&IdempotencyKey>,
    ) -> Result<(), Rejection> {
        unless(!self.tasks.contains_key(&task), || {
            bad("history.submitted", "a task that is submitted").expected("one that was not before").got(task)
        })?;
        if let Some(IdempotencyKey { key, .. }) = idempotency {
            let before = self.named.insert((request.client, key.clone()), task);
            let lives = before.is_some_and(|other| self.tasks.get(&other).is_some_and(|t| t.ended.is_none()));
            unless(!lives, || {
                bad("history.submitted", format!("the name `{key}` of a try")).expected("one that is free").got(task)
            })?;
        }
        let fragments = u32::try_from(request.fragments.len()).unwrap_or(u32::MAX);
        let demands = request.fragments.iter().map(|f| f.demand).collect();
        let facts = TaskFacts {
            submitted: self.last,
            ended: None,
            reports: BTreeMap::new(),
            charged: MicroUsd::ZERO,
            fragments,
            budget: request.budget,
            demands,
            swarm: request.swarm.as_ref().map(|terms| SwarmFacts {
                members: usize::from(terms.members),
                least: usize::from(terms.least()),
                seat: terms.seat_of(request).demand,
                rounds: BTreeMap::new(),
                seats: BTreeMap::new(),
            }),
        };
        self.tasks.insert(task, facts);
        Ok(())
    }

    fn live(&mut self, id: TaskId) -> Result<&mut TaskFacts, Rejection> {
        let task = self.tasks.get_mut(&id).filter(|task| task.ended.is_none());
        task.ok_or_else(|| bad("history.task", "a task that goes on").expected("one that lives").got(id))
    }

    fn leased(&mut self, allocation: &Allocation, name: Digest, term: Term) -> Result<(), Rejection> {
        let leads = self.terms.last().is_some_and(|t| t.manager == allocation.manager && t.term == allocation.term);
        unless(leads && allocation.term == term, || {
            bad("history.allocation", "manager and term of an allocation")
                .expected(format!("those that lead, term {}", term.0))
                .got(format!("{} in term {}", allocation.manager.id().short(), allocation.term.0))
        })?;
        let (id, enclave) = (allocation.lease, allocation.enclave);
        let fragment = FragmentId { task: allocation.task, index: allocation.fragment };
        let task = self.live(fragment.task)?;
        let done = task.reports.contains_key(&fragment.index);
        let demand = usize::try_from(fragment.index.0).ok().and_then(|at| task.demands.get(at)).copied();
        let demand = demand.filter(|_| !done).ok_or_else(|| {
            bad("history.lease", "a fragment that is promised an enclave")
                .expected("one of its task, not done")
                .got(fragment)
        })?;
        self.count(id)?;
        let others: Vec<_> = self.held_for(fragment).collect();
        let elsewhere = |other: &LeaseId| self.leases.get(other).is_some_and(|l| l.enclave != enclave);
        let repeats = allocation.seat.is_some() && others.len() == 1 && others.iter().all(elsewhere);
        unless(others.is_empty() || repeats, || {
            let known = others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            bad("history.lease", format!("promises for {fragment}"))
                .expected("one at once")
                .got(format!("{known} and {id}"))
        })?;
        self.holders.insert((fragment, id));
        self.within_swarm(allocation)?;
        let book = self.enclaves.get_mut(&enclave).filter(|book| !book.revoked);
        let book = book.ok_or_else(|| {
            bad("history.allocation", "an enclave that is promised")
                .expected("one that attested, not revoked")
                .got(enclave)
        })?;
        if allocation.seat.is_none() {
            book.held.insert(id, (demand, allocation.until));
            book.within(enclave)?;
            self.leaves_booked(enclave)?;
        }
        let seat = allocation.seat.map(|seat| seat.lease);
        let (made, until) = (self.last, allocation.until);
        let facts = LeaseFacts { made, term, fragment, enclave, ended: None, allocation: name, seat, until, of: None };
        self.leases.insert(id, facts);
        Ok(())
    }

    /// Ends a promise that lives.
    fn free(&mut self, id: LeaseId, check: &str) -> Result<LeaseFacts, Rejection> {
        self.nothing_lent_under(id)?;
        let lease = self.leases.get_mut(&id).filter(|lease| lease.ended.is_none());
        let lease = lease.ok_or_else(|| bad(check, "a promise that ends").expected("one that lives").got(id))?;
        lease.ended = Some(self.last);
        if let Some(book) = self.enclaves.get_mut(&lease.enclave) {
            book.held.remove(&id);
        }
        let lease = lease.clone();
        self.holders.remove(&(lease.fragment, id));
        self.returned(id, &lease);
        let swarm = self.tasks.get_mut(&lease.fragment.task).and_then(|task| task.swarm.as_mut());
        if let Some((_, work)) = lease.seat.zip(swarm).and_then(|(seat, swarm)| swarm.seats.get_mut(&seat)) {
            *work = None;
        }
        Ok(lease)
    }

    /// Promises are counted upwards, so one that was used before is below.
    fn count(&mut self, id: LeaseId) -> Result<(), Rejection> {
        let last = self.last_lease.replace(id);
        unless(last < Some(id), || bad("history.lease", "name of a promise").expected("one never used before").got(id))
    }

    /// The promises that a fragment has.
    fn held_for(&self, fragment: FragmentId) -> impl Iterator<Item = LeaseId> + '_ {
        self.holders.range((fragment, LeaseId(0))..=(fragment, LeaseId(u64::MAX))).map(|(_, lease)| *lease)
    }

    fn seated(&mut self, seating: &Seating, term: Term) -> Result<(), Rejection> {
        let leads = self.terms.last().is_some_and(|t| t.manager == seating.manager && t.term == seating.term);
        let claim = format!("round {} of the swarm of task {}", seating.round, seating.task.short());
        let wrong = |expected: &str| Err(bad("history.swarm", claim.clone()).expected(expected));
        let swarm = self.live(seating.task)?.swarm.clone();
        let Some(mut swarm) = swarm.filter(|_| leads && seating.term == term) else {
            return wrong("one by the manager that leads, of a task that asks for a swarm");
        };
        let stay = seating.seats.iter().filter(|s| swarm.seats.contains_key(&s.member.lease)).count();
        let whole = stay == swarm.seats.len() && seating.seats.len() <= swarm.members;
        let few = if stay == 0 { swarm.members } else { swarm.least };
        if !whole || seating.seats.len() < few {
            return wrong("all of its seats, and as many as it asks for when it has none, or as it must have");
        }
        self.booked.take_if(|booking| booking.task == seating.task);
        let mut new: Vec<_> = seating.seats.iter().filter(|s| !swarm.seats.contains_key(&s.member.lease)).collect();
        new.sort_by_key(|s| s.member.lease);
        for seat in new {
            let Member { enclave, lease, .. } = seat.member;
            self.count(lease)?;
            let book = self.enclaves.get_mut(&enclave).filter(|book| !book.revoked);
            let Some(book) = book else { return wrong("enclaves that attested, not revoked") };
            book.held.insert(lease, (swarm.seat, seat.until));
            book.within(enclave)?;
            self.leaves_booked(enclave)?;
            swarm.seats.insert(lease, (enclave, None));
        }
        let round = RoundFacts { members: seating.members(), joined: BTreeSet::new() };
        if swarm.rounds.insert(seating.round, round).is_some() {
            return wrong("a round that was not seated before");
        }
        self.live(seating.task)?.swarm = Some(swarm);
        Ok(())
    }

    /// Room is booked for one swarm at once, that waits, and beside what is promised.
    fn booked(&mut self, booking: &GangBooking) -> Result<(), Rejection> {
        let claim = format!("what is booked for task {}", booking.task.short());
        let wrong = |expected: &str| Err(bad("history.booking", claim.clone()).expected(expected));
        if self.booked.is_some() {
            return wrong("nothing, while room is booked for another");
        }
        let swarm = self.live(booking.task)?.swarm.as_ref().filter(|swarm| swarm.seats.is_empty());
        let Some(asked) = swarm.map(|swarm| (swarm.members, swarm.seat)) else {
            return wrong("seats of a swarm that has none");
        };
        if asked != (booking.enclaves.len(), booking.demand) || booking.at > booking.until {
            return wrong("as many seats as it asks for, and such ones");
        }
        self.booked = Some(booking.clone());
        booking.enclaves.iter().try_for_each(|enclave| self.leaves_booked(*enclave))
    }

    /// What is promised of an enclave leaves what is booked there.
    fn leaves_booked(&self, enclave: EnclaveId) -> Result<(), Rejection> {
        let Some(booked) = self.booked.as_ref().filter(|booked| booked.enclaves.contains(&enclave)) else {
            return Ok(());
        };
        match self.enclaves.get(&enclave).filter(|book| !book.revoked) {
            Some(book) => book.leaves(enclave, booked),
            None => Err(bad("history.booking", "an enclave that is booked")
                .expected("one that attested, not revoked")
                .got(enclave)),
        }
    }

    fn joined(&mut self, membership: &Membership) -> Result<(), Rejection> {
        let enclave = membership.enclave.enclave_id();
        let swarm = self.live(membership.task)?.swarm.as_mut();
        let round = swarm.and_then(|s| s.rounds.get_mut(&membership.round)).filter(|r| r.members == membership.members);
        let joined = round.is_some_and(|r| r.members.iter().any(|m| m.enclave == enclave) && r.joined.insert(enclave));
        unless(joined, || {
            bad("history.swarm", "who joins a swarm").expected("a member of that round, once").got(enclave)
        })
    }

    fn seats_ended(&mut self, task: TaskId, seats: &[(LeaseId, MicroUsd)]) -> Result<(), Rejection> {
        for (lease, charged) in seats {
            let known = self.live(task)?;
            let sat = |round: &RoundFacts| {
                round.members.iter().any(|m| m.lease == *lease && round.joined.contains(&m.enclave))
            };
            let joined = known.swarm.as_ref().is_some_and(|swarm| swarm.rounds.values().any(sat));
            unless(joined || *charged == MicroUsd::ZERO, || {
                bad("history.swarm", "what a seat cost that nobody joined by").expected(MicroUsd::ZERO).got(charged)
            })?;
            let seat = known.swarm.as_mut().and_then(|swarm| swarm.seats.remove(lease));
            let seat = seat.filter(|(_, work)| work.is_none());
            let (enclave, _) = seat.ok_or_else(|| {
                bad("history.swarm", "a seat that ends").expected("one that lives, with nothing in it").got(lease)
            })?;
            known.charged = known.charged.saturating_add(*charged);
            let (charged, budget) = (known.charged, known.budget);
            unless(charged <= budget, || {
                bad("history.budget", format!("what task {} was charged", task.short())).expected(budget).got(charged)
            })?;
            if let Some(book) = self.enclaves.get_mut(&enclave) {
                book.held.remove(lease);
            }
        }
        Ok(())
    }

    /// What a swarm's fragment is promised is a member that has nothing else, of a round that all joined; what is of no swarm
    /// has no seat.
    fn within_swarm(&mut self, allocation: &Allocation) -> Result<(), Rejection> {
        let swarm = self.live(allocation.task)?.swarm.as_mut();
        let (swarm, seat) = match (swarm, allocation.seat) {
            (None, None) => return Ok(()),
            (Some(swarm), Some(seat)) => (swarm, seat),
            _ => {
                return Err(
                    bad("history.swarm", "seat of an allocation").expected("one exactly where there is a swarm")
                );
            }
        };
        let member = swarm.rounds.get(&seat.round).is_some_and(|round| {
            let listed = round.members.iter().any(|m| m.enclave == allocation.enclave && m.lease == seat.lease);
            listed && round.joined.len() == round.members.len()
        });
        let held = swarm.seats.get_mut(&seat.lease).filter(|(of, work)| *of == allocation.enclave && work.is_none());
        match held.filter(|_| member) {
            Some((_, work)) => {
                *work = Some(allocation.lease);
                Ok(())
            }
            None => Err(bad("history.swarm", "who is promised a fragment of a swarm")
                .expected("a free member of a formed round")
                .got(allocation.enclave)),
        }
    }

    fn reported(&mut self, report: &Report, charged: MicroUsd) -> Result<(), Rejection> {
        let lease = self.free(report.lease, "history.report")?;
        let fragment = FragmentId { task: report.task, index: report.fragment };
        let own = lease.of.is_none()
            && lease.fragment == fragment
            && lease.enclave == report.enclave.enclave_id()
            && report.prev.first() == Some(&lease.allocation);
        unless(own, || {
            bad("history.report", "enclave, fragment and allocation of a report")
                .expected(format!("those of {}: {} by {}", report.lease, lease.fragment, lease.enclave.short()))
                .got(format!("{fragment} by {}", report.enclave.enclave_id().short()))
        })?;
        let seq = self.last;
        let task = self.live(report.task)?;
        let before = task.reports.insert(report.fragment, (seq, report.outcome == Outcome::Completed));
        unless(before.is_none(), || bad("history.report", "reports of a fragment").expected("one").got(fragment))?;
        task.charged = task.charged.saturating_add(charged);
        let (charged, budget) = (task.charged, task.budget);
        unless(charged <= budget, || {
            bad("history.budget", format!("what task {} was charged", report.task.short()))
                .expected(budget)
                .got(charged)
        })
    }

    fn task_ended(&mut self, id: TaskId, state: &TaskState) -> Result<(), Rejection> {
        let from = (FragmentId { task: id, index: FragmentIndex(0) }, LeaseId(0));
        let to = (FragmentId { task: id, index: FragmentIndex(u32::MAX) }, LeaseId(u64::MAX));
        let held = self.holders.range(from..=to).next().map(|(_, lease)| *lease);
        let seq = self.last;
        let task = self.live(id)?;
        let seats = task.swarm.as_ref().map_or(0, |swarm| swarm.seats.len());
        unless(seats == 0, || {
            bad("history.swarm", "seats of a task that ended").expected("none: all were given back").got(seats)
        })?;
        task.ended = Some((seq, state.clone()));
        let done = u32::try_from(task.reports.values().filter(|(_, completed)| *completed).count());
        let whole = *state != TaskState::Completed || done == Ok(task.fragments);
        unless(whole, || {
            bad("history.task", "reports of a task that completed")
                .expected(format!("one of each of {} fragments", task.fragments))
                .got(format!("{}, {done:?} of them completed", task.reports.len()))
        })?;
        unless(*state != TaskState::Live, || bad("history.task", "how a task ends").expected("not alive"))?;
        unless(held.is_none(), || {
            bad("history.task", "promises of a task that ended")
                .expected("none")
                .got(held.map_or_else(String::new, |l| l.to_string()))
        })
    }

    /// The last position.
    pub fn last(&self) -> Seq {
        self.last
    }

    /// All terms, ascending.
    pub fn terms(&self) -> &[TermFacts] {
        &self.terms
    }

    /// All tasks.
    pub fn tasks(&self) -> &BTreeMap<TaskId, TaskFacts> {
        &self.tasks
    }

    /// All promises.
    pub fn leases(&self) -> &BTreeMap<LeaseId, LeaseFacts> {
        &self.leases
    }

    /// The term of the record at `seq`; nothing beyond the end.
    pub fn term_at(&self, seq: Seq) -> Option<Term> {
        if seq > self.last {
            return None;
        }
        let begun = self.terms.partition_point(|t| t.began <= seq);
        self.terms.get(begun.checked_sub(1)?).map(|t| t.term)
    }

    /// Holds what a client was told against the journal: nothing that was acknowledged is lost, or was said too early.
    ///
    /// # Errors
    /// `history.acknowledged`: what is not in the journal as it was told.
    pub fn check_acknowledged(&self, told: &Acknowledged) -> Result<(), Rejection> {
        let lost = |claim: &str, got: String| {
            let expected = format!("in the journal up to record {}", told.version.0);
            Err(bad("history.acknowledged", format!("{claim} of task {}", told.task.short()))
                .expected(expected)
                .got(got))
        };
        let Some(task) = self.tasks.get(&told.task) else { return lost("submission", "nothing".to_owned()) };
        if task.submitted > told.version || told.version > self.last {
            return lost("submission", format!("record {}, of {}", task.submitted.0, self.last.0));
        }
        match &task.ended {
            _ if !told.completed => Ok(()),
            Some((at, TaskState::Completed)) if *at <= told.version => Ok(()),
            other => lost("completion", format!("{other:?}")),
        }
    }

    /// Holds the offers that one enclave obeyed, in their order, against the journal: each followed from records that are
    /// still there, about a promise that lived then, and none is of an older term than one before it.
    ///
    /// # Errors
    /// `history.obeyed`: the first that does not.
    pub fn check_obeyed(&self, enclave: EnclaveId, obeyed: impl IntoIterator<Item = Obeyed>) -> Result<(), Rejection> {
        let mut newest = Term(0);
        for Obeyed { lease, term, seq } in obeyed {
            let wrong = |expected: &str, got: String| {
                let claim = format!("offer of {lease} obeyed by {} in term {} at {}", enclave.short(), term.0, seq.0);
                Err(bad("history.obeyed", claim).expected(expected).got(got))
            };
            if term < newest {
                return wrong("no older term than one obeyed before", format!("term {} before it", newest.0));
            }
            newest = term;
            if self.term_at(seq) != Some(term) {
                return wrong("a record of that term at that position", format!("{:?}", self.term_at(seq)));
            }
            let lived = self.leases.get(&lease).filter(|known| {
                known.enclave == enclave && known.made <= seq && known.ended.is_none_or(|ended| ended > seq)
            });
            if lived.is_none() {
                return wrong("a promise of this enclave that lived then", format!("{:?}", self.leases.get(&lease)));
            }
        }
        Ok(())
    }
}

impl EnclaveBook {
    /// What is promised is within what was attested.
    fn within(&self, enclave: EnclaveId) -> Result<(), Rejection> {
        let all: Vec<_> = self.held.values().map(|(demand, _)| *demand).collect();
        self.holds(enclave, "history.capacity", &all)
    }

    /// So is what lasts into the time from which it is booked, with what is booked.
    fn leaves(&self, enclave: EnclaveId, booked: &GangBooking) -> Result<(), Rejection> {
        let lasts = self.held.values().filter(|(_, until)| *until >= booked.at).map(|(demand, _)| *demand);
        let all: Vec<_> = lasts.chain([booked.demand]).collect();
        self.holds(enclave, "history.booking", &all)
    }

    fn holds(&self, enclave: EnclaveId, check: &str, promised: &[Demand]) -> Result<(), Rejection> {
        let cpu: Millicores = promised.iter().map(|d| d.cpu).sum();
        let memory: Bytes = promised.iter().map(|d| d.memory).sum();
        let gpus: Milligpus = promised.iter().map(|d| d.gpus).sum();
        let slots = u32::try_from(promised.len()).unwrap_or(u32::MAX);
        let all = self.capacity.unwrap_or(Capacity { cpu: Millicores(0), memory: Bytes(0), slots: 0 });
        unless(cpu <= all.cpu && memory <= all.memory && slots <= all.slots && gpus <= self.gpus, || {
            bad(check, format!("what is promised of {}", enclave.short()))
                .expected(format!("at most {}, {}, {} slots, {}", all.cpu, all.memory, all.slots, self.gpus))
                .got(format!("{cpu}, {memory}, {slots} slots, {gpus}"))
        })
    }
}

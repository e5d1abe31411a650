//! What may follow: a record is checked as a whole before it changes anything, so that one that cannot follow changes nothing.
//!
//! The checks are those of the pool's own books. What a statement may say was judged when its command was.

use legation_core::{FragmentId, LeaseId, Seq, Term, UnixTime};

use crate::{
    brief::Piece,
    enclave::{Enclave, slot_of},
    event::{Event, LeaseEnd, RECORD_VERSION, RECORD_VERSION_OLDEST, Record},
    pool::{Corrupt, Pool},
    task::{Phase, Task, TaskState},
};

impl Pool {
    /// Whether `record` can be the next one.
    pub(crate) fn may_follow(&self, record: &Record) -> Result<(), Corrupt> {
        let seq = record.seq;
        if !(RECORD_VERSION_OLDEST..=RECORD_VERSION).contains(&record.version) {
            return Err(Corrupt::Version { seq, version: record.version });
        }
        if self.seq.0.checked_add(1) != Some(seq.0) {
            return Err(Corrupt::Gap { after: self.seq, got: seq });
        }
        let begins = matches!(record.event, Event::TermBegan { .. });
        let in_term = if begins { record.term > self.term } else { record.term == self.term && self.term > Term(0) };
        if !in_term {
            let what = format!("term {} after term {}", record.term.0, self.term.0);
            return Err(Corrupt::Impossible { seq, what });
        }
        self.event_may_follow(&record.event, seq, record.at)
    }

    fn event_may_follow(&self, event: &Event, seq: Seq, at: UnixTime) -> Result<(), Corrupt> {
        let unknown = |what: String| Corrupt::Unknown { seq, what };
        let unless = |fits: bool, what: &str| match fits {
            true => Ok(()),
            false => Err(Corrupt::Impossible { seq, what: what.to_owned() }),
        };
        let enclave = |id| self.enclaves.get(&id).ok_or_else(|| unknown(format!("enclave {id}")));
        let lease = |id: LeaseId| self.leases.get(&id).ok_or_else(|| unknown(id.to_string()));
        let live = |id| match self.tasks.get(&id) {
            None => Err(unknown(format!("task {id}"))),
            Some(task) => unless(task.state == TaskState::Live, "a task goes on after its end").map(|()| task),
        };
        match event {
            Event::TermBegan { .. } => Ok(()),
            Event::Attested { passport, collateral, .. } => {
                let id = passport.enclave_id();
                let known = |d| self.collateral.contains_key(d) || collateral.iter().any(|item| item.digest() == *d);
                unless(passport.collateral.iter().all(known), "a passport rests on collateral that no record holds")?;
                let fits = Piece::new(seq, collateral.len()).is_some();
                unless(fits, "a record holds more collateral than can be counted")?;
                let known = self.enclaves.get(&id);
                let trusted = known.is_none_or(|e| e.revoked().is_none()) && self.revoked.of(passport).is_none();
                unless(trusted, "an enclave attests that is revoked")?;
                unless(self.memory.retired(passport).is_none(), "an enclave attests that was decommissioned")?;
                let twin = self.holder_of(&slot_of(passport)).filter(|t| *t != id);
                let idle = twin.and_then(|t| self.enclaves.get(&t)).is_none_or(Enclave::is_idle);
                unless(idle, "an enclave that holds leases is replaced")
            }
            Event::Arrived { enclave: id } => {
                unless(enclave(*id)?.revoked().is_none(), "an enclave arrives after it was revoked")
            }
            Event::Left { enclave: id, .. } => unless(!enclave(*id)?.is_away(), "an enclave leaves that is away"),
            Event::Draining { enclave: id } | Event::Cordoned { enclave: id, .. } => enclave(*id).map(|_| ()),
            Event::Uncordoned { enclave: id, .. } => match self.retired().contains_key(id) || self.memory.holds(*id) {
                true => Ok(()),
                false => enclave(*id).map(|_| ()),
            },
            Event::Decommissioned { enclave: id, .. } => {
                unless(enclave(*id)?.is_idle(), "an enclave that holds leases is decommissioned")
            }
            Event::Revoked { revocation } => {
                unless(self.revoked.get(&revocation.what).is_none(), "something is revoked twice")?;
                let next = self.revoked.epoch().0.checked_add(1);
                unless(next == Some(revocation.epoch.0), "revocation epochs are not counted by one")
            }
            Event::Lapsed { enclave: id, .. } => {
                let known = enclave(*id)?;
                unless(known.is_trusted(), "an enclave lapses that is revoked or cordoned")?;
                unless(!known.proofs.hold_at(at), "an enclave lapses that is proven")
            }
            Event::Barred { enclave: id, .. } => {
                unless(enclave(*id)?.is_trusted(), "an enclave is barred that is revoked or cordoned")
            }
            Event::Withdrawn { enclave: id, verifier, .. } => unless(
                enclave(*id)?.proofs.of_verifier(*verifier).is_some(),
                "a passport is taken back that was not given",
            ),
            Event::Submitted { request, .. } => {
                let known = self.tasks.get(&legation_core::TaskId::new(request.digest()));
                unless(known.is_none_or(|t| t.state != TaskState::Live), "a task is submitted twice")
            }
            Event::Granted { grant, .. } => live(grant.task).map(|_| ()),
            Event::Leased { allocation } => {
                let task = live(allocation.task)?;
                let (phase, copy) = phase(task, allocation.fragment.0);
                let repeats = task.swarm.is_some() && matches!(phase, Some(Phase::Leased { .. })) && copy.is_none();
                let waits = phase == Some(&Phase::Queued) || repeats;
                unless(waits, "a fragment is leased that does not wait for an enclave")?;
                self.seat_takes(allocation).or_else(|what| unless(false, what))?;
                unless(self.last_lease.0.checked_add(1) == Some(allocation.lease.0), "leases are not counted by one")?;
                enclave(allocation.enclave).map(|_| ())
            }
            Event::Lent { allocation, .. } => {
                live(allocation.task)?;
                self.loan_may_follow(allocation).or_else(|what| unless(false, what))?;
                unless(self.last_lease.0.checked_add(1) == Some(allocation.lease.0), "leases are not counted by one")?;
                enclave(allocation.enclave).map(|_| ())
            }
            Event::Claimed { fragment, enclave: id, victims, .. } => {
                let (phase, _) = phase(live(fragment.task)?, fragment.index.0);
                let free = enclave(*id)?.claimed().is_none() && !self.claims.contains_key(fragment);
                unless(phase == Some(&Phase::Queued) && free, "a place is claimed twice, or for what does not wait")?;
                for victim in victims {
                    let held = lease(*victim)?;
                    unless(held.enclave == *id && held.preempted.is_none(), "a lease makes way elsewhere, or twice")?;
                }
                Ok(())
            }
            Event::Unclaimed { fragment, .. } => {
                unless(self.claims.contains_key(fragment), "a claim ends that nobody has")
            }
            Event::LeaseEnded { lease: id, charged, .. } if self.loan(*id).is_some() || charged.is_some() => {
                let (_, loan) = self.loan(*id).ok_or_else(|| unknown(format!("loan {id}")))?;
                let paid = charged.is_some_and(|charged| charged <= loan.cost_max);
                unless(paid, "a loan ends at no price, or costs too much")?;
                unless(self.loans_under(*id).is_empty(), "a loan ends before what rests on it")
            }
            Event::LeaseEnded { lease: id, why, .. } => {
                unless(self.loans_under(*id).is_empty(), "a lease ends before what is lent under it")?;
                let fragment = lease(*id)?.fragment;
                let alone = matches!(why, LeaseEnd::FailedCopy { .. }) && !self.is_repeated(fragment);
                unless(!alone, "a lease fails beside another, which is not there")?;
                if let LeaseEnd::Misled { by, .. } = why {
                    let lending = self.tasks.get(&fragment.task).and_then(|task| task.lending.as_deref());
                    let lent =
                        lending.is_some_and(|l| l.kept.values().any(|loan| loan.root == *id && loan.enclave == *by));
                    unless(lent, "a lease is misled by one that was not lent to it")?;
                }
                let task = self.tasks.get(&fragment.task);
                task.map(|_| ()).ok_or_else(|| unknown(format!("the task of {id}")))
            }
            Event::Reported { report, charged, attached, .. } => {
                let held = lease(report.lease)?;
                unless(self.loans_under(report.lease).is_empty(), "a lease ends before what is lent under it")?;
                let known = self.answers_of(report, attached, seq).is_some();
                unless(known, "a report rests on loans or proofs that are not known")?;
                unless(*charged <= held.cost_max, "a report is charged more than its lease may cost")?;
                let fragment = FragmentId { task: report.task, index: report.fragment };
                live(report.task)?;
                unless(
                    held.fragment == fragment && held.enclave == report.enclave.enclave_id(),
                    "a report is about another lease",
                )?;
                let (_, copy) = phase(live(report.task)?, report.fragment.0);
                unless(copy.is_none(), "a fragment is reported that two work on")?;
                self.proof_of(report).map(|_| ()).ok_or_else(|| unknown("the passport of a report".to_owned()))
            }
            Event::Proved { task, statement } => {
                let fits = self.check_proof(*task, statement);
                fits.map_err(|why| Corrupt::Impossible { seq, what: why.to_string() })
            }
            Event::Unproved { task, report, .. } => {
                unless(self.may_be_unproved(*task, *report), "an execution is not proven of which that is not awaited")
            }
            Event::SwarmSeated { seating } => {
                live(seating.task)?;
                self.seating_may_follow(seating).or_else(|what| unless(false, what))?;
                seating.seats.iter().try_for_each(|s| enclave(s.member.enclave).map(|_| ()))
            }
            Event::SwarmJoined { membership } => {
                live(membership.task)?;
                unless(self.joins(membership), "who joins a swarm has no seat in its last round, or joins again")
            }
            Event::SeatsEnded { task, seats, .. } => {
                live(*task)?;
                let held = |(id, charged): &(LeaseId, legation_core::MicroUsd)| {
                    self.seat_holds(*id).is_some_and(|(of, seat, _)| {
                        let most = if seat.joined { seat.cost_max } else { legation_core::MicroUsd::ZERO };
                        of == *task && seat.work.is_none() && *charged <= most
                    })
                };
                unless(
                    !seats.is_empty() && seats.iter().all(held),
                    "a seat ends that is not held, or works, or costs too much",
                )
            }
            Event::GangBooked { booking } => {
                live(booking.task)?;
                self.booking_may_follow(booking).or_else(|what| unless(false, what))?;
                booking.enclaves.iter().try_for_each(|id| enclave(*id).map(|_| ()))
            }
            Event::GangUnbooked { task, .. } => {
                live(*task)?;
                unless(self.booked_for(*task).is_some(), "what is not booked is booked no longer")
            }
            Event::ReferenceAdded { value, .. } => {
                self.with_reference(value).map(|_| ()).map_err(|why| Corrupt::Impossible { seq, what: why.to_string() })
            }
            Event::ReferenceExpired { name, .. } => {
                self.references().get(name).map(|_| ()).ok_or_else(|| unknown(format!("reference value {name}")))
            }
            Event::PolicySet { scope, text, .. } => self
                .load_policy(scope, text)
                .map(|_| ())
                .map_err(|why| Corrupt::Impossible { seq, what: why.to_string() }),
            Event::DistancesSet { .. } | Event::DistancesMeasured { .. } => Ok(()),
            Event::Reserved { booking } => {
                let fresh = booking.ended.is_none() && booking.seats.iter().all(|seat| seat.lease.is_none());
                unless(fresh, "a reservation begins with what it cannot have")?;
                booking.seats.iter().try_for_each(|seat| enclave(seat.enclave).map(|_| ()))
            }
            Event::Reseated { reservation, seat, enclave: id, .. } => {
                let known = self.reservations.get(reservation).and_then(|b| b.seats.get(*seat as usize));
                let known = known.ok_or_else(|| unknown(format!("seat {seat} of {reservation}")))?;
                unless(known.lease.is_none(), "a seat is moved that is taken")?;
                enclave(*id).map(|_| ())
            }
            Event::SeatsShort { reservation, seats } => {
                let known = self.reservations.get(reservation);
                let known = known.ok_or_else(|| unknown(reservation.to_string()))?;
                let there = seats.last().is_none_or(|last| known.seats.len() > *last as usize);
                let ordered = seats.is_sorted_by(|a, b| a < b);
                unless(known.ended.is_none() && there && ordered, "seats are short that are not there")
            }
            Event::ReservationEnded { reservation, .. } => {
                let known = self.reservations.get(reservation);
                let known = known.ok_or_else(|| unknown(reservation.to_string()))?;
                unless(known.ended.is_none(), "a reservation ends twice")
            }
            Event::AccountSet { terms, .. } => {
                terms.validate().map_err(|why| Corrupt::Impossible { seq, what: why.to_string() })
            }
            Event::CharterSet { charter, .. } => {
                self.charter_may_follow(charter).map_err(|why| Corrupt::Impossible { seq, what: why.to_string() })
            }
            Event::CustodyAsked { swarm, .. } => {
                self.swarm_keys.get(swarm).map(|_| ()).ok_or_else(|| unknown(format!("swarm key {swarm}")))
            }
            Event::CustodyCalled { swarm, call, .. } => {
                call.members.iter().try_for_each(|member| enclave(member.enclave).map(|_| ()))?;
                self.call_may_follow(swarm, call, at).or_else(|what| unless(false, what))
            }
            Event::CustodySaid { swarm, word } => {
                let known = self.swarm_keys.get(swarm).ok_or_else(|| unknown(format!("swarm key {swarm}")))?;
                let new = known.hears(word, at).is_ok_and(|board| board.is_some());
                unless(new, "a word is said that no ceremony hears, or again")
            }
            Event::CustodyEnded { swarm, call, why, .. } => {
                let known = self.swarm_keys.get(swarm).ok_or_else(|| unknown(format!("swarm key {swarm}")))?;
                let ends = known.may_end(*call, *why, self.revoked.epoch(), at);
                unless(ends, "a call comes to nothing that is not open, or goes on")
            }
            Event::TaskEnded { task, state } => {
                let task = live(*task)?;
                let held = task.fragments.iter().any(|f| matches!(f.phase, Phase::Leased { .. }))
                    || task.swarm.as_ref().is_some_and(|s| !s.seats.is_empty());
                unless(!held, "a task ends that holds leases")?;
                unless(*state != TaskState::Live, "a task ends alive")
            }
        }
    }
}

/// How a fragment stands, and its second lease.
fn phase(task: &Task, index: u32) -> (Option<&Phase>, Option<LeaseId>) {
    let state = usize::try_from(index).ok().and_then(|at| task.fragments.get(at));
    (state.map(|f| &f.phase), state.and_then(|f| f.copy))
}

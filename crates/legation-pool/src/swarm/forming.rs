//! Forming: every member of a round is shown all the others, judges them itself, and signs the list.

use std::sync::Arc;

use legation_core::{
    EnclaveId, Rejection, Seq, Signed, TaskId, Term,
    statement::{Appointment, Request},
    swarm::{Membership, Seating},
};

use super::listed;
use crate::{
    apply::Change,
    brief::Brief,
    event::Event,
    pool::{Env, Pool},
    task::unknown,
};

/// Everything a member needs to judge its round.
#[derive(Clone, Debug)]
pub struct EnlistParts {
    /// Term of the manager.
    pub term: Term,
    /// Position of the pool.
    pub seq: Seq,
    /// Who is in the round.
    pub seating: Signed<Seating>,
    /// The appointment of the manager that seated.
    pub appointment: Arc<Signed<Appointment>>,
    /// The request.
    pub request: Arc<Signed<Request>>,
    /// Where the passports of the members are, with the appointments of their verifiers: in the order of the seating, the reader
    /// among them.
    pub members: Vec<Brief>,
}

impl Pool {
    /// What `enclave` is asked to join: the last round of a task's swarm.
    ///
    /// # Errors
    /// It has no seat in that round.
    pub fn enlistment(&self, task: TaskId, enclave: EnclaveId) -> Result<EnlistParts, Rejection> {
        let gone =
            || Rejection::new("pool.seat", format!("seat of enclave {}", enclave.short())).expected("one").got("none");
        let (known, _, swarm) = self.swarm(task).ok_or_else(gone)?;
        let round = swarm.rounds.last().filter(|r| r.seating.seat(enclave).is_some()).ok_or_else(gone)?;
        let proofs = round.seating.seats.iter().map(|seat| swarm.proofs.get(&seat.member.passport).cloned());
        let members: Option<Vec<_>> = proofs.collect();
        let digest = round.seating.prev.get(1).copied();
        let appointment = self.managers.iter().chain(&self.manager).find(|a| Some(a.digest()) == digest);
        Ok(EnlistParts {
            term: self.term,
            seq: self.seq,
            appointment: appointment.ok_or_else(gone)?.clone(),
            request: known.request.clone(),
            members: members.ok_or_else(gone)?,
            seating: round.seating.clone(),
        })
    }

    /// A member joins the last round: it signed the list as it was seated.
    pub(crate) fn joined(
        &mut self,
        enclave: EnclaveId,
        membership: Signed<Membership>,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let bad = |claim: &str| Rejection::new("pool.membership", claim.to_owned());
        let (_, _, swarm) = self.swarm(membership.task).ok_or_else(|| unknown(membership.task))?;
        let round = swarm.rounds.last().ok_or_else(|| bad("round that is joined").expected("one").got("none"))?;
        if membership.round != round.seating.round {
            return Err(bad("round that is joined")
                .expected(round.seating.round)
                .got(membership.round)
                .fix("wait to be asked for the round that followed"));
        }
        let member = listed(&round.seating, enclave).filter(|m| swarm.seats.contains_key(&m.lease));
        let Some(member) = member else {
            return Err(bad("member that joins").expected("one with a seat").got(enclave.short()));
        };
        let wanted = Membership::of(&round.seating, round.seating.digest(), membership.enclave);
        if membership.enclave.enclave_id() != enclave || wanted.as_ref() != Some(membership.predicate()) {
            return Err(bad("list that the member signed")
                .expected(format!("that of round {}, with its seat {}", round.seating.round, member.lease))
                .got("another"));
        }
        if round.has_joined(enclave) {
            return Ok(());
        }
        let task = membership.task;
        out.record(self, env, Event::SwarmJoined { membership: Box::new(membership) })?;
        self.give_chance(None, task, out);
        Ok(())
    }

    /// Whether a membership can be the next of its round.
    pub(crate) fn joins(&self, membership: &Membership) -> bool {
        let enclave = membership.enclave.enclave_id();
        self.swarm(membership.task).is_some_and(|(_, _, swarm)| {
            swarm.rounds.last().is_some_and(|round| {
                let seat = listed(&round.seating, enclave);
                round.seating.round == membership.round
                    && round.seating.members() == membership.members
                    && !round.has_joined(enclave)
                    && seat.is_some_and(|m| swarm.seats.contains_key(&m.lease))
            })
        })
    }

    pub(crate) fn absorb_joined(&mut self, membership: &Signed<Membership>) -> Option<()> {
        let swarm = self.tasks.get_mut(&membership.task)?.swarm.as_mut()?;
        let enclave = membership.enclave.enclave_id();
        if let Some(seat) = swarm.seats.values_mut().find(|seat| seat.enclave == enclave) {
            seat.joined = true;
        }
        let round = swarm.rounds.last_mut()?;
        round.memberships.push(membership.clone());
        round.memberships.sort_by_key(|m| m.enclave.enclave_id());
        Some(())
    }
}

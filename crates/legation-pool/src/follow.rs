//! What may follow: a record is checked as a whole before it changes anything, so that one that cannot follow changes nothing.
//!
//! The checks are those of the pool's own books. What a statement may say was judged when its command was.

use legation_core::{FragmentId, LeaseId, Seq, Term, UnixTime};

use crate::{
    enclave::{Presence, slot_of},
    event::{Event, RECORD_VERSION, RECORD_VERSION_OLDEST, Record},
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
            Event::Attested { passport, .. } => {
                let id = passport.enclave_id();
                let known = self.enclaves.get(&id);
                let trusted = known.is_none_or(|e| e.revoked.is_none()) && self.revoked.of(passport).is_none();
                unless(trusted, "an enclave attests that is revoked")?;
                let twin = self.by_slot.get(&slot_of(passport)).filter(|t| **t != id);
                let idle = twin.and_then(|t| self.enclaves.get(t)).is_none_or(|e| e.leases.is_empty());
                unless(idle, "an enclave that holds leases is replaced")
            }
            Event::Arrived { enclave: id } => {
                unless(enclave(*id)?.revoked.is_none(), "an enclave arrives after it was revoked")
            }
            Event::Left { enclave: id, .. } => {
                unless(!matches!(enclave(*id)?.presence, Presence::Away { .. }), "an enclave leaves that is away")
            }
            Event::Draining { enclave: id } => enclave(*id).map(|_| ()),
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
            Event::Withdrawn { enclave: id, verifier, .. } => {
                unless(enclave(*id)?.proofs.of(*verifier).is_some(), "a passport is taken back that was not given")
            }
            Event::Submitted { request, .. } => {
                let known = self.tasks.get(&legation_core::TaskId::new(request.digest()));
                unless(known.is_none_or(|t| t.state != TaskState::Live), "a task is submitted twice")
            }
            Event::Granted { grant, .. } => live(grant.task).map(|_| ()),
            Event::Leased { allocation } => {
                let phase = phase(live(allocation.task)?, allocation.fragment.0);
                unless(phase == Some(&Phase::Queued), "a fragment is leased that does not wait for an enclave")?;
                unless(self.last_lease.0.checked_add(1) == Some(allocation.lease.0), "leases are not counted by one")?;
                enclave(allocation.enclave).map(|_| ())
            }
            Event::LeaseEnded { lease: id, .. } => self
                .tasks
                .get(&lease(*id)?.fragment.task)
                .map(|_| ())
                .ok_or_else(|| unknown(format!("the task of {id}"))),
            Event::Reported { report, charged, .. } => {
                let held = lease(report.lease)?;
                unless(*charged <= held.cost_max, "a report is charged more than its lease may cost")?;
                let fragment = FragmentId { task: report.task, index: report.fragment };
                live(report.task)?;
                unless(
                    held.fragment == fragment && held.enclave == report.enclave.enclave_id(),
                    "a report is about another lease",
                )?;
                self.proof_of(report).map(|_| ()).ok_or_else(|| unknown("the passport of a report".to_owned()))
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
            Event::DistancesSet { .. } => Ok(()),
            Event::AccountSet { terms, .. } => {
                terms.validate().map_err(|why| Corrupt::Impossible { seq, what: why.to_string() })
            }
            Event::TaskEnded { task, state } => {
                let held = live(*task)?.fragments.iter().any(|f| matches!(f.phase, Phase::Leased { .. }));
                unless(!held, "a task ends that holds leases")?;
                unless(*state != TaskState::Live, "a task ends alive")
            }
        }
    }
}

fn phase(task: &Task, index: u32) -> Option<&Phase> {
    task.fragments.get(usize::try_from(index).ok()?).map(|f| &f.phase)
}

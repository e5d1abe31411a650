//! Views: what API, command line and bills show. All of it is derived; nothing here is state.

use std::sync::Arc;

use legation_core::{
    EnclaveId, FragmentIndex, LeaseId, MicroUsd, ProviderId, Region, RevocationEpoch, Seq, Signed, TaskId, TenantId,
    Term, UnixTime,
    claims::{Capacity, Evidence, Rate, TeeKind},
    statement::{Allocation, Appointment, Outcome, Passport, Placement, Usage},
    task::{OutputRef, WrappedKey},
};
use serde::{Deserialize, Serialize};

use crate::{
    enclave::{Enclave, Presence},
    pool::Pool,
    task::{Attempt, Phase, Task, TaskState, unknown},
};

/// An enclave as people see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EnclaveView {
    /// Its name.
    pub enclave: EnclaveId,
    /// Its owner.
    pub provider: ProviderId,
    /// Its place.
    pub region: Region,
    /// Its kind.
    pub tee: TeeKind,
    /// What its verdict rests on, such as `development(local)`.
    pub anchor: String,
    /// Whether it can be reached.
    pub presence: Presence,
    /// Why it is no longer trusted, if so.
    pub revoked: Option<String>,
    /// What it offers.
    pub capacity: Capacity,
    /// What it costs.
    pub rate: Rate,
    /// Fragments it holds now.
    pub leases: usize,
    /// When it last proved itself.
    pub proven: UnixTime,
    /// Until when that holds.
    pub proof_expires: UnixTime,
    /// Launch measurement.
    pub measurement: String,
    /// Security version of the hardware.
    pub tcb: String,
    /// Opaque identity of its chip.
    pub chip: String,
}

/// The pool in a few numbers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PoolView {
    /// Term of the manager.
    pub term: Term,
    /// Position of the journal.
    pub seq: Seq,
    /// Revocations so far.
    pub revocations: RevocationEpoch,
    /// Enclaves that can be reached and take work.
    pub enclaves_here: usize,
    /// Enclaves known.
    pub enclaves_known: usize,
    /// Tasks that have not ended.
    pub tasks_live: usize,
    /// Tasks that have, of those still known.
    pub tasks_ended: usize,
    /// Fragments that wait for an enclave.
    pub fragments_queued: usize,
    /// Leases.
    pub leases: usize,
    /// What of the enclaves here is offered, in all.
    pub capacity: Capacity,
    /// Whether any enclave here rests on a development root.
    pub development: bool,
}

/// A task as people see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TaskView {
    /// Its name.
    pub task: TaskId,
    /// What people call it.
    pub name: String,
    /// On whose account.
    pub tenant: TenantId,
    /// How it stands.
    pub state: TaskState,
    /// When it was asked for.
    pub created: UnixTime,
    /// When it is given up.
    pub expires: UnixTime,
    /// What it cost so far.
    pub spent: MicroUsd,
    /// What it may cost.
    pub budget: MicroUsd,
    /// Its fragments.
    pub fragments: Vec<FragmentView>,
}

/// A fragment as people see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FragmentView {
    /// Which.
    pub fragment: FragmentIndex,
    /// What people call it.
    pub name: String,
    /// How it stands.
    pub phase: Phase,
    /// Whether it was offered to its enclave.
    pub offered: bool,
    /// Its tries, oldest first.
    pub attempts: Vec<Attempt>,
    /// Why the last choice was made.
    pub placement: Option<Placement>,
    /// Price of one hour where it is.
    pub price_hour: Option<MicroUsd>,
    /// What it cost.
    pub charged: Option<MicroUsd>,
    /// How its execution ended.
    pub outcome: Option<Outcome>,
    /// What its execution used.
    pub usage: Option<Usage>,
    /// What it wrote.
    pub output: Option<OutputRef>,
    /// What it logged.
    pub log: Option<OutputRef>,
    /// Keys of output and log, wrapped to its owner.
    pub keys: Vec<WrappedKey>,
}

/// What the clients of a task must grant now: an enclave is promised, and it waits.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Needs {
    /// The promise.
    pub lease: LeaseId,
    /// The fragment.
    pub fragment: FragmentIndex,
    /// The manager's word.
    pub allocation: Signed<Allocation>,
    /// The manager's appointment.
    pub manager: Signed<Appointment>,
    /// The enclave's passport: judge it before granting.
    pub passport: Signed<Passport>,
    /// The verifier's appointment.
    pub verifier: Signed<Appointment>,
    /// The evidence behind the passport: judge it again if you trust no verifier.
    pub evidence: Evidence,
    /// Outputs it reads, with their keys as they were wrapped to the fragments' owners.
    pub upstream: Vec<UpstreamKey>,
    /// What is missing, in words.
    pub missing: String,
}

/// The key of an output that another fragment reads.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct UpstreamKey {
    /// Fragment that wrote it.
    pub fragment: FragmentIndex,
    /// The output.
    pub output: OutputRef,
    /// Its key, wrapped to that fragment's owner.
    pub key: WrappedKey,
}

impl EnclaveView {
    fn of(id: EnclaveId, enclave: &Enclave) -> Self {
        let passport = enclave.passport();
        Self {
            enclave: id,
            provider: passport.configuration.provider.clone(),
            region: passport.configuration.region.clone(),
            tee: passport.claims.tee.value,
            anchor: passport.claims.anchor.to_string(),
            presence: enclave.presence.clone(),
            revoked: enclave.revoked.clone(),
            capacity: enclave.capacity(),
            rate: passport.configuration.rate,
            leases: enclave.leases.len(),
            proven: passport.issued,
            proof_expires: passport.expires,
            measurement: passport.claims.measurement.value.clone(),
            tcb: passport.claims.tcb.value.clone(),
            chip: passport.claims.chip.value.clone(),
        }
    }
}

impl TaskView {
    fn of(pool: &Pool, id: TaskId, task: &Task) -> Self {
        let request = &task.request;
        let fragments = request.indexed().zip(&task.fragments).map(|((index, fragment), state)| {
            let done = state.done.as_ref();
            let last = state.allocations.last();
            FragmentView {
                fragment: index,
                name: fragment.name.clone(),
                phase: state.phase.clone(),
                offered: match state.phase {
                    Phase::Leased { lease } => pool.leases.get(&lease).is_some_and(|l| l.offered),
                    _ => false,
                },
                attempts: state.attempts.clone(),
                placement: last.map(|a| a.why.clone()),
                price_hour: last.map(|a| a.price_hour),
                charged: done.map(|d| d.charged),
                outcome: done.map(|d| d.report.outcome.clone()),
                usage: done.map(|d| d.report.usage),
                output: done.and_then(|d| d.report.output.clone()),
                log: done.and_then(|d| d.report.log.clone()),
                keys: done.map(|d| d.keys.clone()).unwrap_or_default(),
            }
        });
        Self {
            task: id,
            name: request.name.clone(),
            tenant: request.tenant.clone(),
            state: task.state.clone(),
            created: request.created,
            expires: request.expires,
            spent: task.spent,
            budget: request.budget,
            fragments: fragments.collect(),
        }
    }
}

impl Pool {
    /// The pool in a few numbers.
    pub fn view(&self) -> PoolView {
        let here = || self.enclaves.values().filter(|e| e.presence == Presence::Here && e.revoked.is_none());
        let none = Capacity { cpu: Default::default(), memory: Default::default(), slots: 0 };
        PoolView {
            term: self.term,
            seq: self.seq,
            revocations: self.revocations,
            enclaves_here: here().count(),
            enclaves_known: self.enclaves.len(),
            tasks_live: self.tasks.len().saturating_sub(self.ended.len()),
            tasks_ended: self.ended.len(),
            fragments_queued: self.queue.len(),
            leases: self.leases.len(),
            capacity: here().map(Enclave::capacity).fold(none, |sum, c| Capacity {
                cpu: sum.cpu.saturating_add(c.cpu),
                memory: sum.memory.saturating_add(c.memory),
                slots: sum.slots.saturating_add(c.slots),
            }),
            development: here().any(|e| e.passport().claims.anchor.is_development()),
        }
    }

    /// One enclave.
    ///
    /// # Errors
    /// The enclave is unknown.
    pub fn enclave_view(&self, id: EnclaveId) -> Result<EnclaveView, legation_core::Rejection> {
        self.known(id).map(|enclave| EnclaveView::of(id, enclave))
    }

    /// All enclaves, by name.
    pub fn enclave_views(&self) -> impl Iterator<Item = EnclaveView> + '_ {
        self.enclaves.iter().map(|(id, enclave)| EnclaveView::of(*id, enclave))
    }

    /// One task.
    ///
    /// # Errors
    /// The task is unknown.
    pub fn task_view(&self, id: TaskId) -> Result<TaskView, legation_core::Rejection> {
        self.tasks.get(&id).map(|task| TaskView::of(self, id, task)).ok_or_else(|| unknown(id))
    }

    /// All tasks, by name.
    pub fn task_views(&self) -> impl Iterator<Item = TaskView> + '_ {
        self.tasks.iter().map(|(id, task)| TaskView::of(self, *id, task))
    }

    /// What the clients of a task must grant now.
    ///
    /// # Errors
    /// The task is unknown.
    pub fn needs(&self, id: TaskId, now: UnixTime) -> Result<Vec<Needs>, legation_core::Rejection> {
        let task = self.tasks.get(&id).ok_or_else(|| unknown(id))?;
        let mut needs = Vec::new();
        for (index, state) in (0..).map(FragmentIndex).zip(&task.fragments) {
            let Phase::Leased { lease: lease_id } = state.phase else { continue };
            let Some(lease) = self.leases.get(&lease_id).filter(|l| !l.offered) else { continue };
            let Some(missing) = self.missing(lease, now) else { continue };
            let (Some(enclave), Some(allocation), Some(fragment)) =
                (self.enclaves.get(&lease.enclave), state.allocations.last(), task.request.fragment(index))
            else {
                continue;
            };
            let Some(manager) = self.manager_of(allocation) else { continue };
            let upstream = fragment.upstream().filter_map(|up| {
                let done = task.done(up)?;
                let output = done.report.output.clone()?;
                let key = done.keys.iter().find(|k| k.object == output.object)?.clone();
                Some(UpstreamKey { fragment: up, output, key })
            });
            needs.push(Needs {
                lease: lease_id,
                fragment: index,
                allocation: allocation.clone(),
                manager: (**manager).clone(),
                passport: enclave.passport().clone(),
                verifier: (*enclave.proof.appointment).clone(),
                evidence: (*enclave.proof.evidence).clone(),
                upstream: upstream.collect(),
                missing: missing.to_string(),
            });
        }
        Ok(needs)
    }

    /// Appointment of the manager that made an allocation.
    pub(crate) fn manager_of(&self, allocation: &Allocation) -> Option<&Arc<Signed<Appointment>>> {
        let digest = *allocation.prev.get(1)?;
        self.managers.iter().chain(&self.manager).find(|a| a.digest() == digest)
    }
}

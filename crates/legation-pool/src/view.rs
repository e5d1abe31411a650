//! Views: what API, command line and bills show. All of it is derived; nothing here is state.

use std::sync::Arc;

use legation_core::{
    Allowance, EnclaveId, FragmentId, FragmentIndex, KeyId, LeaseId, MicroUsd, ProviderId, Region, Rejection,
    RevocationEpoch, Seq, Signed, TaskId, TenantId, Term, UnixTime,
    claims::{
        Attested, Capacity, Claims, CollateralItem, Confidence, Evidence, Gpu, Rate, RevocationCheck, Source, Tcb,
        TeeKind,
    },
    prefer::Priority,
    requirement::Candidate,
    statement::{Allocation, Appointment, Outcome, Passport, Placement, Tier, Usage},
    task::{Fragment, OutputRef, WrappedKey},
};
use serde::{Deserialize, Serialize};

use crate::{
    archive::Archive,
    brief::{Brief, Proof},
    enclave::{Cordon, Enclave, Presence, Withdrawal},
    loan::LoanView,
    meter::Metered,
    owed::OwedView,
    pool::Pool,
    preempt::{Claim, Preemption},
    retire::Hold,
    swarm::SwarmView,
    task::{Attempt, FragmentState, Phase, Task, TaskState, unknown},
    trust::TrustView,
    wait::Waiting,
};

/// An enclave as people see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EnclaveView {
    /// Its name.
    pub enclave: EnclaveId,
    /// Its accelerators, as their own evidence shows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<Gpu>,
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
    /// Security version of the hardware, and what its verifier says of it.
    pub tcb: Tcb,
    /// Opaque identity of its chip.
    pub chip: String,
    /// Which of the chip's slots it has.
    pub slot: u16,
    /// Further claims, each with how much to believe it.
    pub claims: Vec<ClaimView>,
    /// Its proofs, one of each verifier, the freshest first.
    pub proofs: Vec<ProofView>,
    /// Whether the proof that holds longest is due for renewal and was not renewed: nine tenths of its life are over.
    pub overdue: bool,
    /// Why nothing is placed on it until it proves itself anew, if so.
    pub cordon: Option<Cordon>,
    /// The last passport that was taken back and not given anew.
    pub withdrawal: Option<Withdrawal>,
    /// Why nothing new is placed on it, as its operator says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// What speaks against it, by what it did; nothing where nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<TrustView>,
    /// How urgent the work is that it is kept for, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Priority>,
    /// The more urgent fragment that it is kept for, if it is; told to the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed: Option<FragmentId>,
}

/// A claim as people see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ClaimView {
    /// Its name in requirements.
    pub name: String,
    /// Its value, in words.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
    /// How much to believe it.
    pub confidence: Confidence,
}

/// A proof as people see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ProofView {
    /// The verifier, by its key.
    pub verifier: KeyId,
    /// Tenants whose work it is trusted with; all without a list.
    pub tenants: Option<Vec<TenantId>>,
    /// When the evidence was judged.
    pub issued: UnixTime,
    /// Until when the passport holds.
    pub expires: UnixTime,
    /// Its age, in seconds.
    pub age_seconds: u64,
    /// Whether it holds now.
    pub holds: bool,
    /// Whether nine tenths of its life are over: it should have been renewed.
    pub overdue: bool,
    /// The verdict.
    pub status: Tier,
    /// The policy that gave it.
    pub policy: String,
    /// Names of the reference values that it is equal to.
    pub images: Vec<String>,
    /// Until when it is admitted although something must be mended.
    pub grace: Option<GraceView>,
    /// Since when a piece of collateral behind it is past its next update, if so.
    pub stale_since: Option<UnixTime>,
    /// Whether the vendor's revocation lists were held against the machine's chain.
    pub revocation: RevocationCheck,
}

/// A dated exception as people see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct GraceView {
    /// Last second of it.
    pub until: UnixTime,
    /// Which rule grants it.
    pub rule: String,
    /// What must be mended until then.
    pub why: String,
    /// What is left of it, in seconds.
    pub seconds_left: u64,
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
    /// What it used so far.
    #[serde(default)]
    pub metered: Metered,
    /// Its fragments.
    pub fragments: Vec<FragmentView>,
    /// The enclaves that work on it at once, if it asks for a swarm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swarm: Option<SwarmView>,
    /// The enclaves that are or were lent to those that work on it: the last that ended, then those that live.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loans: Vec<LoanView>,
    /// The proofs of executions that it is owed, by report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proofs: Vec<OwedView>,
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
    /// What it was metered as.
    #[serde(default)]
    pub metered: Option<Metered>,
    /// What it may use where it is, where policies limit that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Allowance>,
    /// How it stands in the queue, if it waits for an enclave; told of the first few of one task, and not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// For whom it makes way, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preempted: Option<Preemption>,
    /// The place that is being cleared for it, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
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
    /// The collateral to judge it with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collateral: Vec<CollateralItem>,
    /// Outputs it reads, with their keys as they were wrapped to the fragments' owners.
    pub upstream: Vec<UpstreamKey>,
    /// What is missing, in words.
    pub missing: String,
}

/// A need without the proof: that is in the journal.
#[derive(Clone, PartialEq, Debug)]
pub struct Need {
    /// Where the proof is that the client is to judge.
    pub proof: Brief,
    lease: LeaseId,
    fragment: FragmentIndex,
    allocation: Signed<Allocation>,
    manager: Signed<Appointment>,
    upstream: Vec<UpstreamKey>,
    missing: String,
}

impl Need {
    /// With the proof, as it is told.
    ///
    /// # Errors
    /// As [`Brief::whole`].
    pub fn whole<A: Archive + ?Sized>(self, archive: &A) -> Result<Needs, Rejection> {
        let Proof { passport, appointment, evidence, collateral } = self.proof.whole(archive)?;
        let Self { lease, fragment, allocation, manager, upstream, missing, proof: _ } = self;
        let verifier = appointment;
        Ok(Needs { lease, fragment, allocation, manager, passport, verifier, evidence, collateral, upstream, missing })
    }
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
    fn of(pool: &Pool, (id, enclave): (EnclaveId, &Enclave), now: UnixTime) -> Self {
        let claimant = enclave.claimed().and_then(|fragment| pool.tasks.get(&fragment.task));
        let passport = enclave.typical();
        let (proof, claims) = (enclave.proof(), enclave.claims());
        let proofs: Vec<_> = enclave.proofs().map(|proof| ProofView::of(proof, now)).collect();
        Self {
            slot: passport.configuration.slot,
            claims: claims_of(&claims),
            gpus: claims.gpus.iter().map(|gpu| gpu.value.clone()).collect(),
            overdue: proofs.iter().max_by_key(|p| p.expires).is_none_or(|p| p.overdue),
            proofs,
            cordon: enclave.cordon().cloned(),
            withdrawal: enclave.withdrawal().cloned(),
            hold: enclave.hold().cloned(),
            trust: enclave.trust(now),
            kept: claimant.map(|task| task.request.prefer.priority),
            claimed: enclave.claimed(),
            enclave: id,
            provider: passport.configuration.provider.clone(),
            region: passport.configuration.region.clone(),
            tee: passport.claims.tee.value,
            anchor: passport.claims.anchor.to_string(),
            presence: enclave.presence(),
            revoked: enclave.revoked().map(|r| r.why.clone()),
            capacity: enclave.capacity(),
            rate: passport.configuration.rate,
            leases: enclave.leases().len(),
            proven: proof.issued,
            proof_expires: proof.expires,
            measurement: passport.claims.measurement.value.clone(),
            tcb: passport.ear.tcb.clone(),
            chip: claims.chip.value,
        }
    }
}

/// Claims beside those that a view names itself, as far as the machine shows them.
fn claims_of(claims: &Claims) -> Vec<ClaimView> {
    fn view<T>(name: &str, claim: &Attested<T>, value: impl FnOnce(&T) -> String) -> ClaimView {
        ClaimView {
            name: name.to_owned(),
            value: value(&claim.value),
            source: claim.source,
            confidence: claim.confidence,
        }
    }
    let mut all = vec![
        view("tee", &claims.tee, ToString::to_string),
        view("measurement", &claims.measurement, Clone::clone),
        view("chip", &claims.chip, Clone::clone),
        view("tcb", &claims.tcb, ToString::to_string),
        view("debug", &claims.debug, ToString::to_string),
        view("confidential", &claims.confidential, ToString::to_string),
        view("product", &claims.product, Clone::clone),
    ];
    all.extend(claims.vmpl.iter().map(|c| view("vmpl", c, ToString::to_string)));
    all.extend(claims.region.iter().map(|c| view("region", c, ToString::to_string)));
    all.extend(claims.operator.iter().map(|c| view("operator", c, Clone::clone)));
    all.extend(claims.memory.iter().map(|c| view("memory", c, ToString::to_string)));
    let features = |names: &std::collections::BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(" ");
    all.extend(claims.features.iter().map(|c| view("features", c, features)));
    all.extend(claims.gpus.iter().map(|c| {
        view("gpu", c, |gpu| {
            format!(
                "{}, firmware {}, driver {}, chip {}, rests on {}",
                gpu.model, gpu.firmware, gpu.driver, gpu.chip, gpu.anchor
            )
        })
    }));
    all
}

impl ProofView {
    fn of(proof: &Brief, now: UnixTime) -> Self {
        let passport = proof.typical();
        let (age, life) = (now.since(proof.issued), proof.expires.since(proof.issued));
        Self {
            verifier: proof.verifier(),
            tenants: proof.appointment().scope.as_ref().and_then(|s| s.tenants.clone()),
            issued: proof.issued,
            expires: proof.expires,
            age_seconds: age,
            holds: proof.holds_at(now),
            overdue: age.saturating_mul(10) > life.saturating_mul(9),
            status: passport.ear.status,
            policy: passport.ear.policy.clone(),
            images: passport.ear.images.clone(),
            grace: passport.ear.grace.as_ref().map(|grace| GraceView {
                until: grace.until,
                rule: grace.rule.clone(),
                why: grace.why.clone(),
                seconds_left: grace.until.since(now),
            }),
            stale_since: passport.claims.stale_since,
            revocation: passport.claims.revocation,
        }
    }
}

impl TaskView {
    fn of(pool: &Pool, id: TaskId, task: &Task) -> Self {
        let request = &task.request;
        let fragments = request.indexed().zip(&task.fragments).map(|((index, fragment), state)| {
            let done = state.done.as_ref();
            let last = state.allocations.last();
            let held = match state.phase {
                Phase::Leased { lease } => pool.leases.get(&lease),
                _ => None,
            };
            FragmentView {
                fragment: index,
                name: fragment.name.clone(),
                phase: state.phase.clone(),
                offered: held.is_some_and(|l| l.offered),
                preempted: held.and_then(|l| l.preempted.clone()),
                claim: pool.claims.get(&FragmentId { task: id, index }).cloned(),
                attempts: state.attempts.clone(),
                placement: last.map(|a| a.why.clone()),
                price_hour: last.map(|a| a.price_hour),
                charged: done.map(|d| d.charged),
                outcome: done.map(|d| d.report.outcome.clone()),
                usage: done.map(|d| d.report.usage),
                metered: done.map(|d| d.metered),
                limits: last.and_then(|a| a.limits.clone()),
                waiting: None,
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
            metered: task.metered(),
            fragments: fragments.collect(),
            swarm: SwarmView::of(pool, task),
            loans: LoanView::all(task),
            proofs: OwedView::all(task),
        }
    }
}

impl Pool {
    /// The pool in a few numbers.
    pub fn view(&self) -> PoolView {
        let here = || self.enclaves.values().filter(|e| e.presence() == Presence::Here && e.is_trusted());
        let none = Capacity { cpu: Default::default(), memory: Default::default(), slots: 0 };
        PoolView {
            term: self.term,
            seq: self.seq,
            revocations: self.revoked.epoch(),
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
            development: here().any(|e| e.typical().claims.anchor.is_development()),
        }
    }

    /// One enclave, as of `now`.
    ///
    /// # Errors
    /// The enclave is unknown.
    pub fn enclave_view(&self, id: EnclaveId, now: UnixTime) -> Result<EnclaveView, Rejection> {
        self.known(id).map(|enclave| EnclaveView::of(self, (id, enclave), now))
    }

    /// All enclaves, by name, as of `now`.
    pub fn enclave_views(&self, now: UnixTime) -> impl Iterator<Item = EnclaveView> + '_ {
        self.enclaves.iter().map(move |(id, enclave)| EnclaveView::of(self, (*id, enclave), now))
    }

    /// One task, without waits: what lists show.
    pub fn task_line(&self, id: TaskId) -> Option<TaskView> {
        self.tasks.get(&id).map(|task| TaskView::of(self, id, task))
    }

    /// One task, with the waits of its first few fragments that wait, as of the last record.
    ///
    /// # Errors
    /// The task is unknown.
    pub fn task_view(&self, id: TaskId) -> Result<TaskView, Rejection> {
        let task = self.tasks.get(&id).ok_or_else(|| unknown(id))?;
        let mut view = TaskView::of(self, id, task);
        let waits = self.waits(id, task);
        for fragment in &mut view.fragments {
            fragment.waiting = waits.get(&fragment.fragment).copied();
        }
        Ok(view)
    }

    /// What the clients of a task must grant now.
    ///
    /// # Errors
    /// The task is unknown.
    pub fn needs(&self, id: TaskId, now: UnixTime) -> Result<Vec<Need>, Rejection> {
        let task = self.tasks.get(&id).ok_or_else(|| unknown(id))?;
        let mut needs = Vec::new();
        for (index, state) in (0..).map(FragmentIndex).zip(&task.fragments) {
            for lease_id in state.leases() {
                let Some(lease) = self.leases.get(&lease_id).filter(|l| !l.offered) else { continue };
                let Some(missing) = self.missing(lease, now) else { continue };
                let (Some(enclave), Some(allocation), Some(fragment)) =
                    (self.enclaves.get(&lease.enclave), allocation_of(state, lease_id), task.request.fragment(index))
                else {
                    continue;
                };
                let Some(manager) = self.manager_of(allocation) else { continue };
                // Without one, the lease ends by itself soon: nobody is asked to rely on another.
                let Some(proof) = self.proof_to_show(task, fragment, enclave, now) else { continue };
                let upstream = fragment.upstream().filter_map(|up| {
                    let done = task.done(up)?;
                    let output = done.report.output.clone()?;
                    let key = done.keys.iter().find(|k| k.object == output.object)?.clone();
                    Some(UpstreamKey { fragment: up, output, key })
                });
                needs.push(Need {
                    proof: proof.clone(),
                    lease: lease_id,
                    fragment: index,
                    allocation: allocation.clone(),
                    manager: (**manager).clone(),
                    upstream: upstream.collect(),
                    missing: missing.to_string(),
                });
            }
        }
        Ok(needs)
    }

    /// The proof by which an enclave was found good for a fragment: the freshest that its tenant may rely on and that
    /// satisfies the requirements.
    pub(crate) fn proof_to_show<'a>(
        &self,
        task: &Task,
        fragment: &Fragment,
        enclave: &'a Enclave,
        now: UnixTime,
    ) -> Option<&'a Brief> {
        let demand = &fragment.demand;
        let price_hour = enclave.rate().per_hour(demand.cpu, demand.memory);
        let good = enclave.proofs.for_tenant(&task.request.tenant, now);
        let good = good.filter(|c| self.permits(&task.request, fragment, &c.kind, price_hour, now).is_ok());
        let mut good = good.filter(|proof| {
            let candidate = Candidate { passport: proof.typical(), price_hour };
            task.request.require.check(&candidate).is_ok() && fragment.require.check(&candidate).is_ok()
        });
        good.next()
    }

    /// Appointment of the manager that made an allocation.
    pub(crate) fn manager_of(&self, allocation: &Allocation) -> Option<&Arc<Signed<Appointment>>> {
        let digest = *allocation.prev.get(1)?;
        self.managers.iter().chain(&self.manager).find(|a| a.digest() == digest)
    }
}

/// The manager's word on one of a fragment's leases.
fn allocation_of(state: &FragmentState, lease: LeaseId) -> Option<&Signed<Allocation>> {
    state.allocations.iter().rev().find(|a| a.lease == lease)
}

//! Tasks and their fragments: submitted, granted, run, ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use legation_core::{
    Digest, EnclaveId, FragmentId, FragmentIndex, LeaseId, MicroUsd, ObjectId, ProviderId, Region, Rejection, Seq,
    Signed, TaskId, UnixTime,
    statement::{Aggregate, Allocation, Grant, Report, Request},
    task::{Fragment, Input, WrappedKey},
};
use serde::{Deserialize, Serialize};

use crate::{
    apply::Change,
    attached::Carried,
    brief::Brief,
    chip::Chip,
    event::{Effect, Event, IdempotencyKey, LeaseEnd},
    grant::{check_new, check_total},
    loan::Lending,
    meter::Metered,
    offer::Recorded,
    owed::Owed,
    pool::{Env, Pool},
    queue::flow_of,
    swarm::Swarm,
};

/// Longest idempotency key, in bytes.
const IDEMPOTENCY_KEY_MAX: usize = 255;
/// Largest request, in bytes of what is signed: every fragment is offered with the whole of it, in one message that has a bound.
const REQUEST_MAX: usize = 256 * 1024;
/// Names of forgotten tasks kept until their requests expire, so that no request runs twice.
const FORGOTTEN_MAX: usize = 1_000_000;
/// Dates of others may be this many seconds off: clocks differ.
pub(crate) const SKEW: u64 = 60;

/// How a task stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TaskState {
    /// Not ended.
    Live,
    /// Every result is there.
    Completed,
    /// It cannot complete.
    Failed {
        /// Why, in words.
        reason: String,
    },
    /// Its client gave it up.
    Cancelled,
    /// Its time was over.
    Expired,
}

/// How a fragment stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Phase {
    /// Outputs it reads are not there yet; of an ended task, they never will be.
    Waiting,
    /// Waits for an enclave; of an ended task, none will be asked.
    Queued,
    /// An enclave is promised; it waits for grants or runs.
    Leased {
        /// The promise.
        lease: LeaseId,
    },
    /// It was run.
    Done,
}

/// One try of a fragment on an enclave.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// The promise.
    pub lease: LeaseId,
    /// The enclave.
    pub enclave: EnclaveId,
    /// Its owner.
    pub provider: ProviderId,
    /// Its place.
    pub region: Region,
    /// Why it ended without a result, if it did.
    pub ended: Option<LeaseEnd>,
}

/// What a fragment left.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Done {
    /// The report.
    pub report: Signed<Report>,
    /// The aggregate, of a reducing fragment.
    pub aggregate: Option<Signed<Aggregate>>,
    /// Keys of what it left, wrapped to its owner.
    pub keys: Vec<WrappedKey>,
    /// The proof the report names.
    pub proof: Brief,
    /// Where it was run: the enclave may be forgotten before the task is.
    pub(crate) chip: Chip,
    /// What it cost.
    pub charged: MicroUsd,
    /// What it used.
    pub metered: Metered,
    /// The answers that it rests on, if its enclave handed calls on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Box<Answers>>,
}

/// What a report rests on of calls to enclaves that were lent: where the journal has it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Answers {
    /// Answers, calls and grants by enclaves; then the allocations of the loans.
    pub records: Vec<Recorded>,
    /// Appointments of the managers that lent.
    pub(crate) managers: Vec<Digest>,
    /// The proofs of the enclaves that answered.
    pub(crate) proofs: Vec<Brief>,
    /// How much came with the report.
    pub(crate) carried: Carried,
}

impl Done {
    /// Its own proof, and those behind the answers that it rests on.
    pub(crate) fn proofs(&self) -> impl Iterator<Item = &Brief> {
        std::iter::once(&self.proof).chain(self.answers.iter().flat_map(|answers| &answers.proofs))
    }

    pub(crate) fn proofs_mut(&mut self) -> impl Iterator<Item = &mut Brief> {
        std::iter::once(&mut self.proof).chain(self.answers.iter_mut().flat_map(|answers| &mut answers.proofs))
    }
}

/// One fragment of a task.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FragmentState {
    /// How it stands.
    pub phase: Phase,
    /// Its tries, oldest first.
    pub attempts: Vec<Attempt>,
    /// The manager's word on each try.
    pub allocations: Vec<Signed<Allocation>>,
    /// What it left.
    pub done: Option<Done>,
    /// Its second lease, while it is repeated on another member of its swarm.
    pub copy: Option<LeaseId>,
    pub(crate) queued_at: Seq,
}

/// One task.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Task {
    /// What the client asked for.
    #[serde(with = "crate::snapshot::shared")]
    pub request: Arc<Signed<Request>>,
    /// How it stands.
    pub state: TaskState,
    /// Its fragments, in the order of the request.
    pub fragments: Vec<FragmentState>,
    /// Grants given.
    pub grants: Vec<Signed<Grant>>,
    /// Keys released; none once the task has ended.
    pub keys: Vec<WrappedKey>,
    /// What it cost so far.
    pub spent: MicroUsd,
    /// What its live leases may cost at most.
    pub committed: MicroUsd,
    /// The enclaves that work on it at once, if it asks for a swarm.
    pub swarm: Option<Box<Swarm>>,
    /// The enclaves that are or were lent to those that work on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lending: Option<Box<Lending>>,
    /// The answers that are to be proven, by report.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub owed: BTreeMap<Digest, Owed>,
    /// How many fragments each enclave has or had last.
    pub(crate) uses: Uses,
    pub(crate) idempotency: Option<IdempotencyKey>,
    /// How its client fails to grant.
    #[serde(default)]
    pub(crate) ungranted: Ungranted,
}

/// How often in a row a client did not grant in time. Leases that wait for it together count as one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Ungranted {
    pub(crate) rounds: u32,
    /// Leases up to this one belong to the rounds so far.
    after: LeaseId,
}

impl Default for Ungranted {
    fn default() -> Self {
        Self { rounds: 0, after: LeaseId(0) }
    }
}

impl Ungranted {
    /// A lease ended that was not granted in time; `last` is the last that was given.
    pub(crate) fn note(&mut self, lease: LeaseId, last: LeaseId) {
        if lease > self.after {
            *self = Self { rounds: self.rounds.saturating_add(1), after: last };
        }
    }
}

/// How many fragments of a task each enclave has or had last.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Uses(pub(crate) BTreeMap<EnclaveId, u32>);

impl Uses {
    pub(crate) fn note(&mut self, enclave: EnclaveId) {
        *self.0.entry(enclave).or_default() += 1;
    }

    pub(crate) fn forget(&mut self, enclave: EnclaveId) {
        if let Some(uses) = self.0.get_mut(&enclave) {
            *uses -= 1;
            if *uses == 0 {
                self.0.remove(&enclave);
            }
        }
    }
}

impl Task {
    /// A task as it is asked for: what reads no output waits for an enclave.
    pub(crate) fn new(request: &Signed<Request>, idempotency: Option<&IdempotencyKey>, seq: Seq) -> Self {
        let fragments = request.fragments.iter().map(|fragment| FragmentState {
            phase: if fragment.is_reducing() { Phase::Waiting } else { Phase::Queued },
            attempts: Vec::new(),
            allocations: Vec::new(),
            done: None,
            copy: None,
            queued_at: seq,
        });
        Self {
            fragments: fragments.collect(),
            request: Arc::new(request.clone()),
            state: TaskState::Live,
            grants: Vec::new(),
            keys: Vec::new(),
            spent: MicroUsd::ZERO,
            committed: MicroUsd::ZERO,
            swarm: request.swarm.as_ref().map(|_| Box::new(Swarm::new(seq))),
            lending: None,
            owed: BTreeMap::new(),
            uses: Uses::default(),
            idempotency: idempotency.cloned(),
            ungranted: Ungranted::default(),
        }
    }

    /// The name of one of its fragments.
    pub(crate) fn id_of(&self, index: FragmentIndex) -> FragmentId {
        FragmentId { task: self.id(), index }
    }

    /// What its work used so far.
    pub fn metered(&self) -> Metered {
        self.fragments.iter().filter_map(|f| f.done.as_ref()).map(|done| &done.metered).sum()
    }

    /// Its name.
    pub fn id(&self) -> TaskId {
        TaskId::new(self.request.digest())
    }

    /// The try that rules `enclave` out for the fragment, if any.
    pub(crate) fn tried(&self, index: FragmentIndex, enclave: EnclaveId) -> Option<&Attempt> {
        let state = self.fragments.get(usize::try_from(index.0).ok()?)?;
        state.attempts.iter().find(|a| a.enclave == enclave && a.ended.as_ref().is_some_and(LeaseEnd::blames_enclave))
    }

    /// How many other fragments of this task an enclave has or had last: results spread over enclaves where they can.
    pub(crate) fn used(&self, enclave: EnclaveId, except: FragmentIndex) -> u32 {
        let own = self.fragments.get(except.0 as usize).and_then(|f| f.attempts.last());
        let uses = self.uses.0.get(&enclave).copied().unwrap_or(0);
        uses.saturating_sub(u32::from(own.is_some_and(|a| a.enclave == enclave)))
    }

    /// Objects a fragment reads, in order; nothing while one of them does not exist yet.
    pub fn objects(&self, fragment: &Fragment) -> Option<Vec<ObjectId>> {
        fragment.inputs.iter().map(|input| self.object(input)).collect()
    }

    /// The object an input is, if it exists yet.
    pub(crate) fn object(&self, input: &Input) -> Option<ObjectId> {
        match input {
            Input::Sealed(sealed) => Some(sealed.object),
            Input::Output { fragment } => self.done(*fragment)?.report.output.as_ref().map(|o| o.object),
        }
    }

    /// What a fragment left, when it was run.
    pub fn done(&self, index: FragmentIndex) -> Option<&Done> {
        self.fragments.get(usize::try_from(index.0).ok()?)?.done.as_ref()
    }

    pub(crate) fn ready(&self, fragment: &Fragment) -> bool {
        fragment.upstream().all(|up| self.done(up).is_some())
    }
}

impl Pool {
    pub(crate) fn submit(
        &mut self,
        request: Signed<Request>,
        mut grants: Vec<Signed<Grant>>,
        idempotency: Option<IdempotencyKey>,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let task = TaskId::new(request.digest());
        if let Some(key) = &idempotency {
            self.check_idempotency(&request, key, task)?;
        }
        if self.tasks.contains_key(&task) {
            return Ok(());
        }
        self.check_submission(&request, &grants, env.now)?;
        self.check_queue(&request, env.now)?;
        let mut seen = BTreeSet::new();
        grants.retain(|g| seen.insert(g.digest()));
        out.record(self, env, Event::Submitted { request: Box::new(request), idempotency })?;
        for grant in grants {
            out.record(self, env, Event::Granted { grant: Box::new(grant), keys: Vec::new() })?;
        }
        Ok(())
    }

    /// What a request is refused for before anything is recorded, beside a queue that is full.
    pub(crate) fn check_submission(
        &self,
        request: &Signed<Request>,
        grants: &[Signed<Grant>],
        now: UnixTime,
    ) -> Result<(), Rejection> {
        let task = TaskId::new(request.digest());
        let size = request.envelope().payload().len();
        if size > REQUEST_MAX {
            return Err(Rejection::new("request.size", "size of the request")
                .expected(format!("at most {REQUEST_MAX} bytes"))
                .got(size)
                .fix("put long arguments into inputs, or split the work into several tasks"));
        }
        request.validate()?;
        let dated_well = request.created <= now.plus(SKEW) && now < request.expires;
        if !dated_well {
            return Err(Rejection::new("request.dates", "dates of the request")
                .expected(format!("created by {}, expiring after it", now))
                .got(format!("created {}, expires {}", request.created, request.expires))
                .fix("make the request anew; check the clock"));
        }
        if self.forgotten.contains(&(request.expires, task)) {
            return Err(Rejection::new("task.forgotten", format!("task {}", task.short()))
                .expected("a request that was not run before")
                .got("one that was, and has ended so long ago that it was forgotten")
                .fix("make the request anew"));
        }
        let live = self.tasks.len().saturating_sub(self.ended.len());
        if live >= self.limits.live_tasks_max {
            return Err(Rejection::new("pool.full", "tasks that have not ended")
                .expected(format!("fewer than {}", self.limits.live_tasks_max))
                .got(live)
                .fix("try again when some have ended"));
        }
        for grant in grants {
            check_new(request, grant, now)?;
        }
        check_total(grants.iter(), 0)?;
        self.check_swarm_account(request)?;
        self.check_reservation(request, now)?;
        self.check_account(request)
    }

    /// A queue that is full takes no more: whoever asks is told when to try again. What waits of one tenant, with this, is at most
    /// half of what other tenants leave of the queue; so there is always some of it left for others. What is placed at once does
    /// not wait.
    pub(crate) fn check_queue(&mut self, request: &Signed<Request>, now: UnixTime) -> Result<(), Rejection> {
        self.check_gangs(request, now)?;
        let more = request.fragments.iter().filter(|f| !f.is_reducing()).count();
        let own = self.accounts.entries().get(&request.tenant).map_or(0, |entry| entry.book.queued);
        let own = usize::try_from(own).unwrap_or(usize::MAX);
        let others = self.queue.len().saturating_sub(own);
        let most = self.limits.queue_max.saturating_sub(others) / 2;
        if own.saturating_add(more) <= most {
            return Ok(());
        }
        let waits = more.saturating_sub(self.placed_at_once(request, now));
        if waits == 0 || own.saturating_add(waits) <= most {
            return Ok(());
        }
        let (seconds, ahead) = (self.retry_after(now), self.queue.len());
        Err(Rejection::new("pool.queue", "fragments of the tenant that wait for an enclave")
            .expected(format!("at most {most} with these, half of what other tenants leave of the queue"))
            .got(own.saturating_add(waits))
            .fix(format!("try again in {seconds} s, when a lease ends; {ahead} fragments wait now")))
    }

    /// A key means one thing to one client; what others call theirs is no matter.
    fn check_idempotency(&self, request: &Request, key: &IdempotencyKey, task: TaskId) -> Result<(), Rejection> {
        if key.key.is_empty() || key.key.len() > IDEMPOTENCY_KEY_MAX {
            return Err(Rejection::new("idempotency.key", "length of the idempotency key")
                .expected(format!("1 to {IDEMPOTENCY_KEY_MAX} bytes"))
                .got(key.key.len()));
        }
        match self.idempotency.get(&(request.client, key.key.clone())) {
            Some((body, known)) if *body != key.body || *known != task => {
                Err(Rejection::new("idempotency.reused", format!("idempotency key `{}`", key.key))
                    .expected(format!("the body it was first used with, {body}"))
                    .got(key.body)
                    .fix("use a new key for a new request"))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn absorb_submitted(
        &mut self,
        request: &Signed<Request>,
        idempotency: Option<&IdempotencyKey>,
        seq: Seq,
    ) {
        let id = TaskId::new(request.digest());
        if self.tasks.contains_key(&id) {
            // A pool with a smaller memory had forgotten it when it was asked for again.
            self.ended.retain(|ended| *ended != id);
            self.settle(id);
        }
        let mut task = Task::new(request, idempotency, seq);
        let queued = request.indexed().zip(&task.fragments).filter(|(_, state)| state.phase == Phase::Queued);
        let queued: Vec<_> = queued.map(|((index, _), _)| index).collect();
        self.accounts.begin(&request.tenant, queued.len() as u64);
        if let Some(swarm) = &mut task.swarm {
            swarm.waits_since = self.at;
            self.gangs.insert((swarm.since, id));
        }
        if let Some(key) = idempotency {
            let before = self.idempotency.insert((request.client, key.key.clone()), (key.body, id));
            if let Some(task) = before.and_then(|(_, before)| self.tasks.get_mut(&before)) {
                // As above: the name was free again.
                task.idempotency = None;
            }
        }
        self.expiries.insert((request.expires, id));
        self.tasks.insert(id, task);
        for index in queued {
            self.enqueue(FragmentId { task: id, index });
        }
    }

    pub(crate) fn live_task(&self, id: TaskId) -> Result<&Task, Rejection> {
        match self.tasks.get(&id) {
            Some(task) if task.state == TaskState::Live => Ok(task),
            Some(task) => Err(Rejection::new("task.ended", format!("task {}", id.short()))
                .expected("a task that has not ended")
                .got(format!("{:?}", task.state))),
            None => Err(unknown(id)),
        }
    }

    pub(crate) fn cancel(&mut self, task: TaskId, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        self.live_task(task)?;
        self.end_task(task, TaskState::Cancelled, env, out)?;
        Ok(())
    }

    /// Ends a task: first what it holds is freed, then it is over.
    pub(crate) fn end_task(
        &mut self,
        task: TaskId,
        state: TaskState,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let leases = self.tasks.get(&task).into_iter().flat_map(|t| &t.fragments).flat_map(FragmentState::leases);
        let held: Vec<_> = leases.collect();
        for lease in held {
            let Some(enclave) = self.leases.get(&lease).map(|l| l.enclave) else { continue };
            self.end_loans_of(lease, env, out)?;
            out.record(self, env, Event::LeaseEnded { lease, why: LeaseEnd::TaskEnded, charged: None })?;
            out.effects.push(Effect::Cancel { enclave, lease });
        }
        self.dissolve(task, env, out)?;
        out.record(self, env, Event::TaskEnded { task, state })
    }

    pub(crate) fn absorb_task_ended(&mut self, id: TaskId, state: &TaskState, now: UnixTime) -> Option<()> {
        let task = self.tasks.get_mut(&id)?;
        task.state = state.clone();
        // Grants stay for the receipt; keys are of no more use.
        task.keys = Vec::new();
        self.expiries.remove(&(task.request.expires, id));
        if let Some(swarm) = &task.swarm {
            self.gangs.remove(&(swarm.since, id));
            self.ahead.take_if(|booking| booking.task == id);
        }
        let (mut waited, flow) = (0, flow_of(&task.request));
        for (index, state) in (0..).map(FragmentIndex).zip(&task.fragments) {
            let in_queue = self.queue.take_out(&flow, FragmentId { task: id, index });
            waited += u64::from(in_queue || (task.swarm.is_some() && state.phase == Phase::Queued));
        }
        let fragments = task.fragments.len();
        for index in (0..).map(FragmentIndex).take(if self.claims.is_empty() { 0 } else { fragments }) {
            self.give_up_claim(FragmentId { task: id, index });
        }
        let task = self.tasks.get(&id)?;
        self.accounts.end(&task.request.tenant, waited);
        self.ended.push_back(id);
        while self.ended.len() > self.limits.ended_tasks_kept {
            let Some(oldest) = self.ended.pop_front() else { break };
            self.forget(oldest);
        }
        while self.forgotten.len() > FORGOTTEN_MAX || self.forgotten.first().is_some_and(|(expires, _)| *expires < now)
        {
            self.forgotten.pop_first();
        }
        Some(())
    }

    /// What a task cost stays in its account's book when the task is forgotten.
    fn settle(&mut self, id: TaskId) {
        if let Some(task) = self.tasks.get(&id) {
            self.accounts.forget(&task.request.tenant, task.spent, &task.metered());
        }
    }

    fn forget(&mut self, id: TaskId) {
        self.settle(id);
        let Some(task) = self.tasks.remove(&id) else { return };
        self.forgotten.insert((task.request.expires, id));
        if let Some(key) = task.idempotency {
            self.idempotency.remove(&(task.request.client, key.key));
        }
    }

    pub(crate) fn expire_tasks(&mut self, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        while let Some((_, task)) = self.expiries.first().copied().filter(|(at, _)| *at < env.now) {
            self.end_task(task, TaskState::Expired, env, out)?;
        }
        Ok(())
    }
}

pub(crate) fn unknown(id: TaskId) -> Rejection {
    Rejection::new("task.unknown", "the task")
        .expected("one of this pool")
        .got(id)
        .fix("see `legation task list`; old tasks are forgotten")
}

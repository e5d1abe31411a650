//! The life of one offer: read, judged, entered; module and inputs fetched; run; reported or refused.
//!
//! An offer that has all it needs (its module is compiled, it reads nothing) is judged and run on one thread without a stop. An
//! execution outlives its connection: what it still has to fetch or to say waits for the next one, until its lease ends.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use legation_core::{Digest, LeaseId, Rejection, UnixTime, unit::Bytes};
use legation_net::{
    SendError, StreamId,
    message::{Offer, Reported, ToManager},
};
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    agent::Inner,
    books::{Entry, Pending, Stop},
    delegations::Handing,
    engine::{EngineConfig, MAKING_MAX, PrepareError, Prepared},
    execution::{Stopped, execute},
    fetch::FetchError,
    intake::Unreadable,
    offer::{Standing, Work, judge_offer},
    passports::none_for,
    session::Link,
    status::Status,
};

/// Objects of one fragment asked for at once.
const FETCHES_MAX: usize = 8;
/// Modules whose fetching is remembered before those that are over are swept.
const GATES_SWEEP: usize = 256;
/// How long a refusal waits for a connection.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(60);

/// Lets one execution fetch a module while the others that need it wait.
pub(crate) struct Gates {
    modules: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    making: Arc<Semaphore>,
}

impl Default for Gates {
    fn default() -> Self {
        Self { modules: Mutex::default(), making: Arc::new(Semaphore::new(MAKING_MAX)) }
    }
}

impl Gates {
    /// Leave to compile, which is waited for here rather than on a thread.
    pub(crate) async fn making(&self) -> Option<OwnedSemaphorePermit> {
        self.making.clone().acquire_owned().await.ok()
    }

    pub(crate) fn of(&self, module: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut gates = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(&module).and_then(Weak::upgrade) {
            return gate;
        }
        if gates.len() >= GATES_SWEEP {
            gates.retain(|_, gate| gate.strong_count() > 0);
        }
        let gate = Arc::new(tokio::sync::Mutex::new(()));
        gates.insert(module, Arc::downgrade(&gate));
        gate
    }
}

/// A lease in the books. Dropped without [`Ticket::settle`], which only a panic does, it leaves the books.
struct Ticket {
    agent: Arc<Inner>,
    lease: LeaseId,
    settled: bool,
}

impl Ticket {
    /// The run ended: enters its report, or takes it off the books. Gives what is to be said.
    fn settle(mut self, result: Result<Pending, Stopped>) -> Step {
        self.settled = true;
        let lease = self.lease;
        let step = match result {
            Ok(pending) => {
                let (outcome, monitored) = (pending.reported.report.outcome.clone(), pending.reported.report.monitor);
                match self.agent.books().report(pending) {
                    Some(pending) => {
                        self.agent.tell(Status::Reported { lease, outcome });
                        if let Some(monitored) = monitored {
                            self.agent.tell(Status::Monitored { lease, monitored });
                        }
                        Step::Deliver(pending)
                    }
                    None => Step::Done,
                }
            }
            Err(stopped) => {
                let wanted = self.agent.books().abandon(lease);
                match stopped {
                    Stopped::Refused(why) if wanted => Step::Refuse { lease, why },
                    _ => Step::Done,
                }
            }
        };
        self.agent.progress.notify_one();
        step
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.settled {
            tracing::error!(lease = %self.lease, "an execution ended without a word: it is given up");
            self.agent.books().abandon(self.lease);
            self.agent.progress.notify_one();
        }
    }
}

/// What to do next about an offer.
enum Step {
    Done,
    Refuse { lease: LeaseId, why: Rejection },
    Deliver(Arc<Pending>),
    Gather { work: Box<Work>, ticket: Ticket, stop: Stop },
}

/// What is offered.
pub(crate) enum Offered {
    /// The message as it came.
    Message(bytes::Bytes),
    /// Read already.
    Read(Box<Offer>),
}

/// Takes an offer from its message to its end. `turn` is held while it is judged.
pub(crate) async fn take(agent: Arc<Inner>, offered: Offered, turn: OwnedSemaphorePermit) {
    let judging = agent.clone();
    let Ok(mut step) = spawn_blocking(move || consider(&judging, offered, turn)).await else { return };
    if let Step::Gather { work, ticket, stop } = step {
        let gathered = tokio::select! {
            gathered = gather(&agent, &work) => gathered,
            () = stop.notify.notified() => Err(Stopped::Cancelled),
        };
        step = match gathered {
            Err(stopped) => ticket.settle(Err(stopped)),
            Ok(gathered) => {
                let running = spawn_blocking(move || run(&work, ticket, gathered, &stop));
                let Ok(step) = running.await else { return };
                step
            }
        };
    }
    match step {
        Step::Refuse { lease, why } => refuse(&agent, lease, why).await,
        Step::Deliver(pending) => {
            // Without a connection, the next one begins by delivering what is pending.
            let link = agent.link.borrow().clone();
            if let Some(link) = link
                && let Err(error) = deliver(&link, &pending).await
            {
                tracing::debug!(lease = %pending.lease, %error, "report waits for the next connection");
            }
        }
        Step::Done | Step::Gather { .. } => {}
    }
}

/// Reads and judges an offer; runs it at once if it has all it needs.
fn consider(agent: &Arc<Inner>, offered: Offered, turn: OwnedSemaphorePermit) -> Step {
    let offer = match offered {
        Offered::Read(offer) => Ok(offer),
        Offered::Message(message) => agent.intake.read(&message).map(Box::new),
    };
    let offer = match offer {
        Ok(offer) => offer,
        Err(Unreadable { lease: Some(lease), why }) => return Step::Refuse { lease, why },
        Err(Unreadable { lease: None, why }) => {
            tracing::warn!(%why, "unreadable offer ignored");
            return Step::Done;
        }
    };
    let entered = enter(agent, &offer);
    drop(turn);
    let lease = offer.allocation.lease;
    let (work, stop) = match entered {
        Ok(Some(entered)) => entered,
        Ok(None) => return Step::Done,
        Err(Refusal::Again(pending)) => return Step::Deliver(pending),
        Err(Refusal::Why(why)) => return Step::Refuse { lease, why },
    };
    let ticket = Ticket { agent: agent.clone(), lease, settled: false };
    let obeyed = (offer.term, offer.seq);
    agent.tell(Status::Offer { lease, task: work.task, fragment: work.plan.index, obeyed });
    let module = agent.bench.engine.cached(&work.plan.fragment.module);
    match module.filter(|_| work.plan.inputs.is_empty()) {
        Some(module) => run(&work, ticket, Gathered { module: Ok(module), inputs: Vec::new(), _room: None }, &stop),
        None => Step::Gather { work: Box::new(work), ticket, stop },
    }
}

enum Refusal {
    Again(Arc<Pending>),
    Why(Rejection),
}

/// Judges and enters under one lock: what is left is what was judged.
fn enter(agent: &Inner, offer: &Offer) -> Result<Option<(Work, Stop)>, Refusal> {
    let (lease, allocation) = (offer.allocation.lease, offer.allocation.digest());
    let tenant = &offer.request.tenant;
    let (passports, none) = {
        let held = agent.passports();
        (held.for_tenant(tenant), held.is_empty())
    };
    let revoked = agent.revocations.all();
    let mut books = agent.books();
    match books.known(lease, allocation) {
        Some(Entry::Again(pending)) => return Err(Refusal::Again(pending)),
        Some(Entry::Known) => return Ok(None),
        None => {}
    }
    books.open().map_err(Refusal::Why)?;
    books.check_member(&offer.allocation).map_err(Refusal::Why)?;
    // By the freshest passport by which it may be run; if by none, why not by the freshest.
    let mut refusal = None;
    let work = passports.iter().find_map(|admitted| {
        let standing = Standing {
            passport: &admitted.passport,
            appointment: &admitted.appointment,
            revoked: &revoked,
            operators: &agent.config.operators,
            obeyed: books.obeyed(),
            left: books.left(),
            memory_max: agent.memory_max,
            now: agent.now(),
        };
        let judged = judge_offer(offer, &standing);
        judged.inspect_err(|why| refusal = refusal.take().or_else(|| Some(why.clone()))).ok()
    });
    let work = work.ok_or_else(|| {
        let yet = || Rejection::new("offer.passport", "passport of this enclave").expected("one").got("none yet");
        Refusal::Why(refusal.unwrap_or_else(|| if none { yet() } else { none_for(tenant) }))
    })?;
    let stop = books.enter(lease, allocation, work.plan.fragment.demand, (offer.term, offer.seq));
    Ok(Some((work, stop)))
}

/// What an execution reads.
struct Gathered {
    module: Result<Arc<Prepared>, PrepareError>,
    inputs: Vec<Vec<u8>>,
    _room: Option<OwnedSemaphorePermit>,
}

fn run(work: &Work, ticket: Ticket, gathered: Gathered, stop: &Stop) -> Step {
    let agent = ticket.agent.clone();
    let Gathered { module, inputs, _room } = gathered;
    let handing = work.under.as_deref().map(|under| Arc::new(Handing::new(agent.clone(), under.clone())));
    let passport = || agent.passport_for(work);
    let result = execute(&agent.bench, work, (module, inputs), handing, &stop.cancel, passport);
    ticket.settle(result)
}

/// Fetches module and inputs before the lease ends.
async fn gather(agent: &Arc<Inner>, work: &Work) -> Result<Gathered, Stopped> {
    let left = Duration::from_secs(work.until.since(agent.now()));
    let all = async {
        let size: Bytes = work.plan.inputs.iter().map(|i| i.size).sum();
        let room = room(&agent.input_memory, size).await;
        let module = module(agent, work.plan.fragment.module).await?;
        let wanted: Vec<_> = work.plan.inputs.iter().map(|i| (i.ciphertext, i.size)).collect();
        // A module that will not run needs no inputs.
        let inputs = if module.is_ok() { fetch(agent, &wanted, "an input").await? } else { Vec::new() };
        Ok(Gathered { module, inputs, _room: room })
    };
    let result: Result<Gathered, Rejection> = timeout(left, all).await.unwrap_or_else(|_| {
        Err(Rejection::new("fetch.late", "module and inputs")
            .expected(format!("before the lease ends at {}", work.until))
            .got("not all of them")
            .fix("see whether the manager can be reached"))
    });
    result.map_err(Stopped::Refused)
}

/// Room for inputs of `size`; judgement has bounded it to less than there is in all.
async fn room(memory: &Arc<Semaphore>, size: Bytes) -> Option<OwnedSemaphorePermit> {
    let kib = u32::try_from(size.0.div_ceil(1024)).unwrap_or(u32::MAX);
    if kib == 0 {
        return None;
    }
    memory.clone().acquire_many_owned(kib).await.ok()
}

/// The compiled module: kept, or fetched and compiled by one execution for all that wait.
async fn module(agent: &Arc<Inner>, digest: Digest) -> Result<Result<Arc<Prepared>, PrepareError>, Rejection> {
    let gate = agent.gates.of(digest);
    let turn = gate.lock_owned().await;
    if let Some(module) = agent.bench.engine.cached(&digest) {
        return Ok(Ok(module));
    }
    let wasm = wasm(agent, digest).await?;
    let engine = agent.bench.engine.clone();
    // The compilation keeps its turn: it goes on when nobody waits for it any more, and whoever comes next waits here, on no thread.
    let leave = agent.gates.making().await;
    let prepared = spawn_blocking(move || {
        let made = engine.prepare(&wasm);
        drop((turn, leave));
        made
    })
    .await;
    prepared.map_err(|_| Rejection::new("agent.engine", "compilation of the module").got("a panic"))
}

async fn wasm(agent: &Inner, digest: Digest) -> Result<Vec<u8>, Rejection> {
    let wanted = [(digest, EngineConfig::default().module_max)];
    fetch(agent, &wanted, "the module").await?.pop().ok_or_else(|| FetchError::Lost.rejection("the module"))
}

/// The bytes of a module, for another agent that lacks it.
///
/// # Errors
/// The manager does not have it, or could not be reached before `until`.
pub(crate) async fn module_bytes(agent: &Inner, digest: Digest, until: UnixTime) -> Result<Vec<u8>, Rejection> {
    let left = Duration::from_secs(until.since(agent.now()));
    timeout(left, wasm(agent, digest)).await.unwrap_or_else(|_| Err(FetchError::Lost.rejection("the module")))
}

/// Objects by digest, in order, each of at most so many bytes; over as many connections as it takes.
async fn fetch(agent: &Inner, wanted: &[(Digest, Bytes)], what: &str) -> Result<Vec<Vec<u8>>, Rejection> {
    let mut out = Vec::with_capacity(wanted.len());
    for group in wanted.chunks(FETCHES_MAX) {
        let mut got: Vec<Option<Vec<u8>>> = vec![None; group.len()];
        while got.iter().any(Option::is_none) {
            let link = agent.linked().await;
            let mut waiting = Vec::with_capacity(group.len());
            for (place, (digest, max)) in group.iter().enumerate().filter(|(place, _)| got[*place].is_none()) {
                let (stream, receiver) = link.fetches.expect(*digest, *max);
                if link.sender.send_control(&ToManager::Fetch { digest: *digest, stream }).await.is_err() {
                    break;
                }
                waiting.push((place, receiver));
            }
            for (place, receiver) in waiting {
                match receiver.await.unwrap_or(Err(FetchError::Lost)) {
                    Ok(bytes) => got[place] = Some(bytes),
                    Err(FetchError::Lost) => {}
                    Err(other) => return Err(other.rejection(what)),
                }
            }
            if got.iter().any(Option::is_none) {
                link.sender.closed().await;
                agent.unlink(&link);
            }
        }
        out.extend(got.into_iter().flatten());
    }
    Ok(out)
}

async fn refuse(agent: &Inner, lease: LeaseId, why: Rejection) {
    agent.tell(Status::Refused { lease, why: why.clone() });
    let say = async {
        let link = agent.linked().await;
        if let Err(error) = link.sender.send_control(&ToManager::Refuse { lease, why }).await {
            tracing::debug!(%lease, %error, "refusal not sent: the next connection says that nothing runs");
        }
    };
    let _ = timeout(REFUSAL_PATIENCE, say).await;
}

/// [`ToManager::Report`], without a copy of the report.
#[derive(Serialize)]
#[serde(tag = "say", content = "with", rename_all = "kebab-case")]
enum Say<'a> {
    Report(&'a Reported),
}

/// Sends what a report names, then the report.
pub(crate) async fn deliver(link: &Link, pending: &Pending) -> Result<(), SendError> {
    for (digest, bytes) in &pending.objects {
        let _turn = link.stores.acquire().await;
        let stream = link.fetches.stream();
        link.sender.send_control(&ToManager::Store { digest: *digest, stream }).await?;
        link.sender.send_data(StreamId(stream), bytes.clone(), true).await?;
    }
    link.sender.send_control(&Say::Report(&pending.reported)).await
}

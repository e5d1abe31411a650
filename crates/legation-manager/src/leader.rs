//! The leader: the one place where commands are decided, while this manager leads.
//!
//! ```text
//!  callers ──► inbox ──► decider (pool) ──► open batch ──► keeper (journal) ──► verdicts, answers, effects
//! ```
//! Two threads. The `decider` owns the pool and applies what comes in; the `keeper` owns the journal and makes the batch before
//! durable meanwhile. Nothing is answered and no effect performed that is not durable, nor an answer given that rests on what is not.
//!
//! When a batch cannot be made durable, everything decided since is refused and the pool is read anew from the journal: what was not
//! written has not happened. When it is unknown whether it was written, it is found out before anything else is said; whoever has waited
//! long, or when this manager stops, is told that it is unknown (`manager.unsettled`). When this manager leads no longer
//! ([`crate::leadership`]), everything is refused with where the leader is. A command that fails in the middle, by a defect, ends the
//! use of that pool: it is read anew.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use legation_core::{
    Rejection, Seq, Signed, Signer, TaskId, Term, UnixTime,
    statement::{Appointment, Grant, Request},
};
use legation_net::Revocations;
use legation_policy::Policy;
use legation_pool::{Command, Estimate, Limits, Pool};
use tokio::sync::{oneshot, watch};

use crate::{
    Clock,
    archive::{Archive, CACHE_MAX},
    effects::Effects,
    journal::{Advertised, Candidate, Journal, JournalError},
    leadership::{Claimant, Leadership, Timing},
    metrics::Metrics,
};

mod batch;
mod changes;
mod decider;
mod deliver;
mod keeper;
mod pipe;
mod standing;

use batch::{Answer, Verdict};
use changes::Changes;
use decider::Decider;
use deliver::Delivery;
use keeper::Keeper;
use pipe::Pipe;
use standing::Standing;

pub(crate) use standing::standby;
pub use standing::{LeaderView, ManagerView, Role};

/// Commands and questions that may wait for the leader.
const QUEUE_MAX: usize = 16_384;
/// Time between ticks.
const TICK: Duration = Duration::from_millis(500);

/// Asks a pool and gives what is to be told once what it rests on is durable; or is told why not.
type Question = Box<dyn FnOnce(Result<&mut Pool, Rejection>) -> Option<Answer> + Send>;

enum Job {
    Command(Command, oneshot::Sender<Verdict>),
    Question(Question),
    Tick,
    /// There is an order.
    Wake,
    Stop(oneshot::Sender<()>),
}

/// The door to the leader; cheap to clone.
#[derive(Clone)]
pub struct Leader {
    jobs: mpsc::SyncSender<Job>,
    appraisal: watch::Receiver<Option<Arc<Policy>>>,
    changes: Arc<Changes>,
    standing: Arc<Standing>,
    archive: Archive,
    /// The same by another door.
    for_agents: Archive,
    own: Advertised,
}

/// What both threads work with.
pub(crate) struct Parts {
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) appointment: Signed<Appointment>,
    pub(crate) effects: Effects,
    /// What the channels are told, once it is durable.
    pub(crate) revocations: Revocations,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    /// Records between two snapshots.
    pub(crate) snapshot_every: u64,
}

/// What the keeper claims with, and where.
pub(crate) struct Seat {
    pub(crate) journal: Box<dyn Journal>,
    pub(crate) candidate: Candidate,
    pub(crate) limits: Limits,
    pub(crate) timing: Timing,
}

impl Leader {
    /// Reads the journal, leads or finds out who does, and starts the threads.
    ///
    /// Says whether it leads: then it is about to ([`Self::role`]).
    ///
    /// # Errors
    /// The journal cannot be read or appended to, or the manager may not lead.
    pub(crate) fn start(parts: Parts, seat: Seat) -> Result<(Self, bool), LeadError> {
        let (jobs, inbox) = mpsc::sync_channel(QUEUE_MAX);
        let Seat { mut journal, candidate, limits, timing } = seat;
        let own = candidate.addresses.clone();
        let standing = Arc::new(Standing::new(candidate.name.clone(), candidate.instance, journal.kind()));
        let claimant = Claimant { candidate, signer: parts.signer.clone(), appointment: parts.appointment.clone() };
        let parts = Arc::new(parts);
        let (appraisal, appraisal_watch) = watch::channel(None);
        let (snapshots, saver) = mpsc::sync_channel(1);
        let (changes, pipe) = (Arc::new(Changes::default()), Arc::new(Pipe::default()));
        let delivery = Delivery { parts: parts.clone(), changes: changes.clone(), appraisal, snapshots };
        let delivery = Arc::new(delivery);
        let mut store = journal.snapshots()?;
        let archive = Archive::new(journal.archive()?, CACHE_MAX);
        let for_agents = archive.beside(journal.archive()?);
        let woken = jobs.clone();
        let mut keeper = Keeper {
            journal,
            leadership: Leadership::new(claimant, timing, limits),
            parts: parts.clone(),
            pipe: pipe.clone(),
            standing: standing.clone(),
            delivery: delivery.clone(),
            // A full inbox wakes it as well.
            wake: Box::new(move || drop(woken.try_send(Job::Wake))),
            held: None,
            held_since: Duration::ZERO,
            failing: false,
        };
        let leads = keeper.begin()?;
        let decider = Decider { parts, pipe, standing: standing.clone(), delivery, reign: None, parked: Vec::new() };
        let told = standing.clone();
        thread("snapshots", move || deliver::save(&saver, &mut *store, &told))?;
        thread("decider", move || decider.run(&inbox))?;
        thread("journal", move || keeper.run())?;
        let ticks = jobs.clone();
        thread("ticker", move || {
            while ticks.send(Job::Tick).is_ok() {
                std::thread::sleep(TICK);
            }
        })?;
        Ok((Self { jobs, appraisal: appraisal_watch, changes, standing, archive, for_agents, own }, leads))
    }

    /// A leader over this journal without channels or an API, for benchmarks and tests: offers and cancellations go nowhere. A snapshot
    /// is taken every so many records. Returns when it leads, or knows who does.
    ///
    /// # Errors
    /// As a manager's start.
    pub fn alone(
        journal: Box<dyn Journal>,
        claimant: Claimant,
        limits: Limits,
        timing: Timing,
        snapshot_every: u64,
        clock: Clock,
    ) -> Result<Self, LeadError> {
        let Claimant { candidate, signer, appointment } = claimant;
        let (effects, revocations, metrics) = (Effects::default(), Revocations::new(), Metrics::default());
        let parts = Parts { signer, appointment, effects, revocations, clock, metrics, snapshot_every };
        let (leader, leads) = Self::start(parts, Seat { journal, candidate, limits, timing })?;
        while leads && !leader.standing.leads() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(leader)
    }

    /// Applies a command; returns when it is durable.
    ///
    /// # Errors
    /// Why the pool refuses it, or that the manager does not lead, is overloaded or stopping.
    pub async fn apply(&self, command: Command) -> Result<Seq, Rejection> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job::Command(command, reply)).map_err(|e| busy(&e))?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Asks something of the pool; answers when all that the answer rests on is durable.
    ///
    /// # Errors
    /// The manager does not lead, is overloaded or stopping.
    pub async fn ask<T: Send + 'static>(&self, ask: impl FnOnce(&Pool) -> T + Send + 'static) -> Result<T, Rejection> {
        self.question(|pool| ask(pool)).await
    }

    /// What a request would come to, were it submitted now.
    ///
    /// # Errors
    /// What the submission would be refused for; the manager does not lead, is overloaded or stopping.
    pub(crate) async fn estimate(
        &self,
        request: Signed<Request>,
        grants: Vec<Signed<Grant>>,
        now: UnixTime,
    ) -> Result<Estimate, Rejection> {
        // It takes what it would take, and gives it back before it answers.
        self.question(move |pool| pool.estimate(request, &grants, now)).await?
    }

    async fn question<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Pool) -> T + Send + 'static,
    ) -> Result<T, Rejection> {
        let (reply, answer) = oneshot::channel();
        let question: Question = Box::new(move |pool| match pool {
            Ok(pool) => {
                let said = ask(pool);
                Some(Box::new(move |may: Result<(), Rejection>| drop(reply.send(may.map(|()| said)))))
            }
            Err(why) => {
                let _ = reply.send(Err(why));
                None
            }
        });
        self.jobs.try_send(Job::Question(question)).map_err(|e| busy(&e))?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Where proofs are whole that the pool has in brief: for what clients ask.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// The same for what agents are sent, which does not wait for what clients ask.
    pub(crate) fn archive_for_agents(&self) -> &Archive {
        &self.for_agents
    }

    /// Watches a task for changes.
    pub fn watch(&self, task: TaskId) -> watch::Receiver<u64> {
        self.changes.watch(task)
    }

    /// Whether this manager leads: it does once its term's first record is durable.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.standing.role()
    }

    /// The term that this manager leads, and the position of the record that began it: what others obeyed in earlier terms lies
    /// before.
    ///
    /// # Errors
    /// It does not lead.
    pub fn began(&self) -> Result<(Term, Seq), Rejection> {
        match *self.standing.role().borrow() {
            Role::Leads(term, began) => Ok((term, began)),
            Role::Follows => Err(self.standing.refusal()),
        }
    }

    /// Why nothing is taken here, when this manager does not lead.
    pub fn refusal(&self) -> Option<Rejection> {
        (!self.standing.leads()).then(|| self.standing.refusal())
    }

    /// Where another manager leads.
    pub fn elsewhere(&self) -> Option<Advertised> {
        self.standing.leader().filter(|_| !self.standing.leads())
    }

    /// This manager as people see it.
    pub fn view(&self) -> ManagerView {
        self.standing.view(&self.own)
    }

    /// The pool's policy with its reference values, as of now and durably; nothing until one was set.
    pub fn appraisal(&self) -> watch::Receiver<Option<Arc<Policy>>> {
        self.appraisal.clone()
    }

    /// Stops after what has come in is durable; another may lead at once.
    pub async fn stop(&self) {
        let (reply, done) = oneshot::channel();
        if self.jobs.try_send(Job::Stop(reply)).is_ok() {
            let _ = done.await;
        }
    }
}

/// Why a manager cannot lead.
#[derive(Debug, thiserror::Error)]
pub enum LeadError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The pool refuses this manager.
    #[error("manager may not lead: {0}")]
    Refused(#[from] Rejection),
    /// No thread.
    #[error("thread could not be started: {source}")]
    Thread {
        /// Why.
        source: std::io::Error,
    },
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), LeadError> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map(drop).map_err(|source| LeadError::Thread { source })
}

fn busy<T>(error: &mpsc::TrySendError<T>) -> Rejection {
    match error {
        mpsc::TrySendError::Full(_) => Rejection::new("manager.busy", "requests that wait for the manager")
            .expected(format!("at most {QUEUE_MAX}"))
            .fix("try again in a moment"),
        mpsc::TrySendError::Disconnected(_) => stopping(),
    }
}

fn stopping() -> Rejection {
    Rejection::new("manager.stopping", "the manager").expected("running").got("stopping").fix("try again in a moment")
}

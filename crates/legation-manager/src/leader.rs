//! The leader: one thread that owns the pool. It takes what has come in, applies it, appends the whole batch to the
//! journal with one sync, and only then answers and performs effects. Nothing is answered that is not durable.
//!
//! When the journal cannot be appended to, the batch is refused and the pool is read anew from the journal: what was not
//! written has not happened.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
};

use legation_core::{Rejection, Seq, Signed, Signer, TaskId, Term, UnixTime, statement::Appointment};
use legation_net::Revocations;
use legation_policy::{Policy, Scope};
use legation_pool::{Applied, Command, Effect, Limits, Pool};
use tokio::sync::{oneshot, watch};
use tracing::{debug, error, info, warn};

use crate::{
    Clock,
    effects::Effects,
    journal::{Journal, JournalError},
    metrics::Metrics,
    revocations::SignedRevocations,
};

/// Commands and questions that may wait for the leader.
const QUEUE_MAX: usize = 16_384;
/// Most of them in one batch.
const BATCH_MAX: usize = 256;
/// Time between ticks.
const TICK: std::time::Duration = std::time::Duration::from_millis(500);

type Question = Box<dyn FnOnce(&Pool) + Send>;

/// What a command came to, once it is durable.
type Verdict = Result<Seq, Rejection>;
/// Whom to tell, and what.
type Reply = (oneshot::Sender<Verdict>, Verdict);

enum Job {
    Command(Command, oneshot::Sender<Verdict>),
    Question(Question),
    Tick,
    Stop(oneshot::Sender<()>),
}

/// The door to the leader; cheap to clone.
#[derive(Clone)]
pub struct Leader {
    jobs: mpsc::SyncSender<Job>,
    appraisal: watch::Receiver<Option<Arc<Policy>>>,
    changes: Arc<Changes>,
    began: (Term, Seq),
}

/// Wakes whoever waits for a task.
#[derive(Default)]
pub struct Changes {
    waiting: std::sync::Mutex<BTreeMap<TaskId, watch::Sender<u64>>>,
}

/// Tasks watched at which those that nobody watches any more are swept out.
const WATCHED_SWEEP: usize = 1024;

impl Changes {
    /// Watches a task: the value grows with every change.
    pub fn watch(&self, task: TaskId) -> watch::Receiver<u64> {
        let mut waiting = self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Amortised: each sweep at least halves a map of the forgotten, or the map is as large as its watchers are many.
        if waiting.len() >= WATCHED_SWEEP && waiting.len().is_power_of_two() {
            waiting.retain(|_, sender| sender.receiver_count() > 0);
        }
        waiting.entry(task).or_insert_with(|| watch::channel(0).0).subscribe()
    }

    fn wake(&self, task: TaskId) {
        let mut waiting = self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(sender) = waiting.get(&task) {
            if sender.receiver_count() == 0 {
                waiting.remove(&task);
            } else {
                sender.send_modify(|n| *n += 1);
            }
        }
    }
}

/// What the leader works with.
pub(crate) struct Parts {
    pub(crate) journal: Box<dyn Journal>,
    pub(crate) limits: Limits,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) appointment: Signed<Appointment>,
    pub(crate) effects: Effects,
    /// What the channels are told, once it is durable.
    pub(crate) revocations: Revocations,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
}

struct Worker {
    parts: Parts,
    pool: Pool,
    /// The policy in force, and the record that made it so.
    appraisal: watch::Sender<Option<Arc<Policy>>>,
    appraisal_as_of: Seq,
    changes: Arc<Changes>,
}

impl Leader {
    /// Reads the journal, begins a term, and starts the thread.
    ///
    /// # Errors
    /// The journal cannot be read or appended to, or the manager may not lead.
    pub(crate) fn start(parts: Parts) -> Result<Self, LeadError> {
        let (jobs, inbox) = mpsc::sync_channel(QUEUE_MAX);
        let mut parts = parts;
        let pool = replay(&mut *parts.journal, parts.limits)?;
        parts.revocations.learn(Arc::new(pool.revoked().clone()), (parts.clock)());
        let (appraisal, appraisal_watch) = watch::channel(pool.policy(&Scope::Pool).cloned());
        let appraisal_as_of = pool.policies_changed();
        let changes = Arc::new(Changes::default());
        let mut worker = Worker { parts, pool, appraisal, appraisal_as_of, changes: changes.clone() };
        worker.begin_term()?;
        worker.parts.effects.begin_with(worker.signed_revocations());
        let began = (worker.pool.term(), worker.pool.seq());
        let failed = |source| LeadError::Thread { source };
        std::thread::Builder::new().name("leader".into()).spawn(move || worker.run(&inbox)).map_err(failed)?;
        let ticks = jobs.clone();
        std::thread::Builder::new()
            .name("ticker".into())
            .spawn(move || {
                while ticks.send(Job::Tick).is_ok() {
                    std::thread::sleep(TICK);
                }
            })
            .map_err(failed)?;
        Ok(Self { jobs, appraisal: appraisal_watch, changes, began })
    }

    /// Applies a command; returns when it is durable.
    ///
    /// # Errors
    /// Why the pool refuses it, or that the manager is overloaded or stopping.
    pub async fn apply(&self, command: Command) -> Result<Seq, Rejection> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job::Command(command, reply)).map_err(|e| busy(&e))?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Asks something of the pool as it is durably.
    ///
    /// # Errors
    /// The manager is overloaded or stopping.
    pub async fn ask<T: Send + 'static>(&self, ask: impl FnOnce(&Pool) -> T + Send + 'static) -> Result<T, Rejection> {
        let (reply, answer) = oneshot::channel();
        let question: Question = Box::new(move |pool| {
            let _ = reply.send(ask(pool));
        });
        self.jobs.try_send(Job::Question(question)).map_err(|e| busy(&e))?;
        answer.await.map_err(|_| stopping())
    }

    /// Watches a task for changes.
    pub fn watch(&self, task: TaskId) -> watch::Receiver<u64> {
        self.changes.watch(task)
    }

    /// This manager's term, and the position of the record that began it: what others obeyed in earlier terms lies before.
    pub fn began(&self) -> (Term, Seq) {
        self.began
    }

    /// The pool's policy with its reference values, as of now and durably; nothing until one was set.
    pub fn appraisal(&self) -> watch::Receiver<Option<Arc<Policy>>> {
        self.appraisal.clone()
    }

    /// Stops after what has come in is durable.
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

fn replay(journal: &mut dyn Journal, limits: Limits) -> Result<Pool, JournalError> {
    let started = std::time::Instant::now();
    let mut pool = Pool::new(limits);
    journal.read(Seq(0), &mut |record| {
        pool.absorb(&record)?;
        Ok(())
    })?;
    if pool.seq() > Seq(0) {
        info!(records = pool.seq().0, ms = started.elapsed().as_millis(), "journal read");
    }
    Ok(pool)
}

impl Worker {
    fn begin_term(&mut self) -> Result<(), LeadError> {
        let term = Term(self.parts.journal.newest_term()?.0.max(self.pool.term().0) + 1);
        let command = Command::BeginTerm { term, appointment: Box::new(self.parts.appointment.clone()) };
        let applied = self.pool.apply(command, (self.parts.clock)(), &*self.parts.signer)?;
        self.parts.journal.append(&applied.records)?;
        info!(term = term.0, seq = self.pool.seq().0, "this manager leads");
        Ok(())
    }

    fn run(mut self, inbox: &mpsc::Receiver<Job>) {
        while let Ok(first) = inbox.recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX {
                match inbox.try_recv() {
                    Ok(job) => batch.push(job),
                    Err(_) => break,
                }
            }
            if let Some(stopped) = self.batch(batch) {
                let _ = stopped.send(());
                return;
            }
        }
    }

    fn batch(&mut self, batch: Vec<Job>) -> Option<oneshot::Sender<()>> {
        let (now, began) = ((self.parts.clock)(), std::time::Instant::now());
        let (mut records, mut effects, mut replies) = (Vec::new(), Vec::new(), Vec::new());
        let (mut questions, mut stop) = (Vec::new(), None);
        for job in batch {
            match job {
                Job::Command(command, reply) => {
                    let result = self.apply(command, now, &mut records, &mut effects);
                    replies.push((reply, result));
                }
                Job::Tick => {
                    if let Err(why) = self.apply(Command::Tick, now, &mut records, &mut effects) {
                        error!(%why, "tick failed");
                    }
                }
                Job::Question(question) => questions.push(question),
                Job::Stop(reply) => stop = Some(reply),
            }
        }
        if !records.is_empty() {
            if let Err(why) = self.parts.journal.append(&records) {
                self.recover(&why, replies);
                return stop;
            }
            self.parts.metrics.committed(records.len());
            if self.parts.revocations.epoch() != self.pool.revocations() {
                self.parts.revocations.learn(Arc::new(self.pool.revoked().clone()), now);
            }
            let changed = self.pool.policies_changed();
            if self.appraisal_as_of != changed {
                self.appraisal_as_of = changed;
                self.appraisal.send_replace(self.pool.policy(&Scope::Pool).cloned());
            }
        }
        for (reply, result) in replies {
            let _ = reply.send(result);
        }
        self.perform(effects, began);
        for question in questions {
            question(&self.pool);
        }
        stop
    }

    fn apply(
        &mut self,
        command: Command,
        now: UnixTime,
        records: &mut Vec<legation_pool::Record>,
        effects: &mut Vec<Effect>,
    ) -> Result<Seq, Rejection> {
        match self.pool.apply(command, now, &*self.parts.signer) {
            Ok(Applied { records: new, effects: todo }) => {
                records.extend(new);
                effects.extend(todo);
                Ok(self.pool.seq())
            }
            Err(why) => {
                debug!(%why, "command refused");
                self.parts.metrics.refused(&why);
                Err(why)
            }
        }
    }

    /// The batch could not be written: it has not happened. Nobody is told otherwise.
    fn recover(&mut self, why: &JournalError, replies: Vec<Reply>) {
        error!(%why, "journal cannot be appended to: nothing of this batch happened");
        let refusal = Rejection::new("journal.append", "writing to the journal")
            .expected("a durable record")
            .got(why)
            .fix("free space on the disk of the data folder (or end the other manager), then try again");
        for (reply, _) in replies {
            let _ = reply.send(Err(refusal.clone()));
        }
        if matches!(why, JournalError::Fenced { .. } | JournalError::Gap { .. }) {
            error!("another manager leads: this one ends");
            std::process::exit(1);
        }
        match replay(&mut *self.parts.journal, self.parts.limits) {
            Ok(pool) => self.pool = pool,
            Err(why) => {
                error!(%why, "journal cannot be read back: this manager ends, the journal is as it was");
                std::process::exit(1);
            }
        }
    }

    fn signed_revocations(&self) -> SignedRevocations {
        let Parts { signer, appointment, clock, .. } = &self.parts;
        SignedRevocations::of(self.pool.revoked(), &**signer, appointment, clock())
    }

    fn perform(&mut self, effects: Vec<Effect>, began: std::time::Instant) {
        let mut changed: Vec<TaskId> = Vec::new();
        if effects.iter().any(|e| matches!(e, Effect::Revocations)) {
            self.parts.effects.revocations(self.signed_revocations(), began);
        }
        for effect in effects {
            match effect {
                Effect::TaskChanged { task } => {
                    if changed.last() != Some(&task) {
                        changed.push(task);
                    }
                }
                Effect::Offer { enclave, lease } => match self.pool.offer(lease) {
                    Ok(parts) => self.parts.effects.offer(enclave, parts),
                    // The lease ended in the same batch.
                    Err(why) => debug!(%why, "offer is moot"),
                },
                Effect::Revocations => {}
                Effect::Reattest { enclave, why } => {
                    self.parts.effects.reattest(enclave, &why);
                }
                Effect::Cancel { enclave, lease } => self.parts.effects.cancel(enclave, lease),
                Effect::Close { enclave, why } => {
                    warn!(%enclave, %why, "closing channel");
                    self.parts.effects.close(enclave, why);
                }
            }
        }
        for task in changed {
            self.changes.wake(task);
        }
    }
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

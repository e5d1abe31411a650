//! The thread that decides: it owns the pool while this manager leads, applies what comes in, and hands over records with all that
//! may be said and done once they are durable. It waits for nobody but a full batch.

use std::{
    sync::{Arc, mpsc},
    time::Instant,
};

use legation_core::{Rejection, Seq, UnixTime};
use legation_policy::Scope;
use legation_pool::{Applied, Command, DEFECT, Effect, Pool};
use tokio::sync::watch;
use tracing::{debug, error};

use super::{
    Job, Parts, Question,
    batch::{Batch, Outcome},
    deliver::Delivery,
    pipe::{Order, Pipe, Pushed},
    standing::{Role, Standing},
};
use crate::{leadership::Began, revocations::SignedRevocations};

/// Most jobs between two looks at the orders.
const JOBS_MAX: usize = 256;
/// Shortest time between two snapshots that are handed over.
const SNAPSHOT_APART: std::time::Duration = std::time::Duration::from_secs(1);
/// Most questions that wait while the pool is read anew, and how long they do.
const PARKED_MAX: usize = 1024;
const PARKED_TIME: std::time::Duration = std::time::Duration::from_secs(1);

pub(super) struct Decider {
    pub(super) parts: Arc<Parts>,
    pub(super) pipe: Arc<Pipe>,
    pub(super) standing: Arc<Standing>,
    pub(super) delivery: Arc<Delivery>,
    /// A pool, and the reign it is of.
    pub(super) reign: Option<Reign>,
    /// Questions that came while the pool was read anew: they change nothing, so they can wait for it.
    pub(super) parked: Vec<(Instant, Question)>,
}

/// What it decides with.
pub(super) struct Reign {
    number: u64,
    pool: Pool,
    /// Records from which on a snapshot is due.
    snapshot_at: u64,
    /// What was last told of policies and revocations.
    policies: Seq,
    revocations: legation_core::RevocationEpoch,
    /// A command failed half-way: the pool is no longer what the journal will say, and nothing is decided with it.
    broken: bool,
}

impl Decider {
    pub(super) fn run(mut self, inbox: &mpsc::Receiver<Job>) {
        while let Ok(first) = inbox.recv() {
            self.obey();
            let began = Instant::now();
            let mut batch = Batch::default();
            self.unpark(began, &mut batch);
            let mut next = Some(first);
            let mut left = JOBS_MAX;
            while let Some(job) = next.take() {
                match job {
                    Job::Stop(stopped) => {
                        self.hand_over(batch);
                        self.pipe.stop(stopped);
                        return;
                    }
                    // What came while others were decided may rest on a later second.
                    job => self.job(job, (self.parts.clock)(), began, &mut batch),
                }
                left -= 1;
                if left > 0 && batch.records.len() < super::pipe::BATCH_MAX {
                    next = inbox.try_recv().ok();
                }
            }
            self.snapshot(&mut batch);
            self.hand_over(batch);
            // What was decided before goes first: it is good.
            if let Some(reign) = self.reign.as_ref().filter(|reign| reign.broken) {
                self.pipe.read_anew(reign.number);
            }
        }
    }

    /// Does what the writing thread ordered.
    fn obey(&mut self) {
        match self.pipe.order() {
            None => {}
            Some((number, Order::Begin(began))) => self.begin(number, *began),
            Some((number, Order::Reset(pool))) => {
                self.tell_all(&pool);
                let snapshot_at = self.snapshot_at(self.standing.snapshot());
                let (policies, revocations) = (pool.policies_changed(), pool.revocations());
                self.reign = Some(Reign { number, pool: *pool, snapshot_at, policies, revocations, broken: false });
                self.pipe.during(number, || self.standing.set_stalled(false));
            }
            Some((_, Order::End)) => self.reign = None,
        }
    }

    fn begin(&mut self, number: u64, began: Began) {
        let Began { pool, term, at, snapshot } = began;
        self.tell_all(&pool);
        self.parts.effects.begin_with(self.signed_revocations(&pool));
        let (policies, revocations) = (pool.policies_changed(), pool.revocations());
        let snapshot_at = self.snapshot_at(snapshot);
        self.reign = Some(Reign { number, pool, snapshot_at, policies, revocations, broken: false });
        self.pipe.during(number, || {
            self.standing.set_stalled(false);
            self.standing.set_role(Role::Leads(term, at));
        });
    }

    /// What a pool says that is durable.
    fn tell_all(&self, pool: &Pool) {
        self.parts.revocations.learn(Arc::new(pool.revoked().clone()), (self.parts.clock)());
        self.delivery.policy(pool.policy(&Scope::Pool).cloned());
    }

    fn snapshot_at(&self, last: Option<Seq>) -> u64 {
        last.map_or(0, |seq| seq.0).saturating_add(self.parts.snapshot_every)
    }

    /// Answers the questions that waited, or refuses those that waited for too long.
    fn unpark(&mut self, now: Instant, batch: &mut Batch) {
        let stalled = self.standing.is_stalled();
        for (since, question) in std::mem::take(&mut self.parked) {
            match &mut self.reign {
                Some(reign) if !stalled && !reign.broken => {
                    batch.outcomes.extend(question(Ok(&mut reign.pool)).map(Outcome::Answer));
                }
                Some(_) if now.duration_since(since) < PARKED_TIME => self.parked.push((since, question)),
                _ => drop(question(Err(self.refusal()))),
            }
        }
    }

    /// Why nothing is decided now.
    fn refusal(&self) -> Rejection {
        match &self.reign {
            Some(reign) if reign.broken => super::standing::read_anew(),
            _ => self.standing.refusal(),
        }
    }

    fn job(&mut self, job: Job, now: UnixTime, began: Instant, batch: &mut Batch) {
        let stalled = self.standing.is_stalled();
        let Some(reign) = self.reign.as_mut().filter(|reign| !stalled && !reign.broken) else {
            match job {
                Job::Command(_, reply) => drop(reply.send(Err(self.refusal()))),
                Job::Question(question) if self.reign.is_some() && self.parked.len() < PARKED_MAX => {
                    self.parked.push((began, question));
                }
                Job::Question(question) => drop(question(Err(self.refusal()))),
                Job::Tick | Job::Wake | Job::Stop(_) => {}
            }
            return;
        };
        match job {
            Job::Command(command, reply) => {
                let verdict = decide(&self.parts, reign, command, now, began, batch);
                batch.outcomes.push(Outcome::Verdict(reply, verdict));
            }
            Job::Question(question) => batch.outcomes.extend(question(Ok(&mut reign.pool)).map(Outcome::Answer)),
            Job::Tick => {
                if let Err(why) = decide(&self.parts, reign, Command::Tick, now, began, batch) {
                    error!(%why, "tick failed");
                }
            }
            Job::Wake | Job::Stop(_) => {}
        }
    }

    fn signed_revocations(&self, pool: &Pool) -> SignedRevocations {
        signed_revocations(&self.parts, pool)
    }

    /// Has the pool saved now and then, as of the end of this batch.
    fn snapshot(&mut self, batch: &mut Batch) {
        let Some(reign) = self.reign.as_mut().filter(|reign| !reign.broken) else { return };
        let seq = reign.pool.seq().0;
        if seq >= reign.snapshot_at && self.standing.snapshots_rested() {
            reign.snapshot_at = seq.saturating_add(self.parts.snapshot_every);
            self.standing.rest_snapshots(SNAPSHOT_APART);
            batch.outcomes.push(Outcome::Snapshot(Box::new(reign.pool.clone())));
        }
    }

    fn hand_over(&mut self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        let number = self.reign.as_ref().map_or(0, |reign| reign.number);
        match self.pipe.push(number, batch) {
            Pushed::Taken => {}
            Pushed::Now(batch) if self.standing.is_good() => self.delivery.deliver(batch),
            // It slept, or cannot say whether it still leads.
            Pushed::Now(batch) => batch.refuse(&self.standing.refusal()),
            Pushed::Over(batch) => {
                self.reign = None;
                batch.refuse(&self.standing.refusal());
            }
        }
    }
}

/// Applies a command and notes what follows.
fn decide(
    parts: &Parts,
    reign: &mut Reign,
    command: Command,
    now: UnixTime,
    began: Instant,
    batch: &mut Batch,
) -> Result<Seq, Rejection> {
    let Applied { records, effects } = match reign.pool.apply(command, now, &*parts.signer) {
        Ok(applied) => applied,
        Err(why) => {
            parts.metrics.refused(&why);
            if why.check == DEFECT {
                error!(%why, "the pool contradicts itself: it is read anew from the journal");
                reign.broken = true;
            } else {
                debug!(%why, "command refused");
            }
            return Err(why);
        }
    };
    batch.records.extend(records);
    let pool = &reign.pool;
    if reign.revocations != pool.revocations() {
        reign.revocations = pool.revocations();
        batch.outcomes.push(Outcome::Revoked(Arc::new(pool.revoked().clone()), now));
    }
    if reign.policies != pool.policies_changed() {
        reign.policies = pool.policies_changed();
        batch.outcomes.push(Outcome::Policy(pool.policy(&Scope::Pool).cloned()));
    }
    for effect in effects {
        let outcome = match effect {
            Effect::TaskChanged { task } => Outcome::Changed(task),
            Effect::Offer { enclave, lease } => match pool.offer(lease) {
                Ok(parts) => Outcome::Offer(enclave, Box::new(parts)),
                // The lease ended with the same command.
                Err(why) => {
                    debug!(%why, "offer is moot");
                    continue;
                }
            },
            Effect::Enlist { enclave, task } => match pool.enlistment(task, enclave) {
                Ok(parts) => Outcome::Enlist(enclave, Box::new(parts)),
                // Its seat ended with the same command.
                Err(why) => {
                    debug!(%why, "there is nothing to join");
                    continue;
                }
            },
            Effect::Lend { enclave, loan } => match pool.loan_parts(loan, enclave) {
                Ok(parts) => Outcome::Lend(enclave, Box::new(parts)),
                // The loan ended with the same command.
                Err(why) => {
                    debug!(%why, "nobody is lent any more");
                    continue;
                }
            },
            Effect::Lent { enclave, loan, ask } => match pool.loan_parts(loan, enclave) {
                Ok(parts) => Outcome::Lent(enclave, ask, Box::new(parts)),
                Err(why) => {
                    debug!(%why, "nobody is lent any more");
                    continue;
                }
            },
            Effect::LoanEnded { enclave, loan, why } => Outcome::LoanEnded(enclave, loan, why),
            Effect::Revocations => Outcome::Revocations(Box::new(signed_revocations(parts, pool)), began),
            Effect::Reattest { enclave, why } => Outcome::Reattest(enclave, why),
            Effect::Custody { enclave, swarm } => Outcome::Custody(enclave, swarm),
            Effect::Cancel { enclave, lease } => Outcome::Cancel(enclave, lease),
            Effect::Close { enclave, why } => Outcome::Close(enclave, why),
        };
        batch.outcomes.push(outcome);
    }
    Ok(pool.seq())
}

fn signed_revocations(parts: &Parts, pool: &Pool) -> SignedRevocations {
    SignedRevocations::of(pool.revoked(), &*parts.signer, &parts.appointment, (parts.clock)())
}

/// What tells how the policy stands.
pub(super) type Appraisal = watch::Sender<Option<Arc<legation_policy::Policy>>>;

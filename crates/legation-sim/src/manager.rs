//! A manager as a node. Who leads is the product's state machine ([`Leadership`]) over the product's journal; what is decided is the
//! product's pool. Around them stand, as events instead of threads, what the product's two threads and its gate do:
//!
//! * the *decider* applies what comes in at once, and adds records and what follows from them to an open batch;
//! * the *keeper* takes turns, and makes one batch durable after another; what follows is done when its call to the store has come
//!   back. While an append's outcome is unknown nothing is decided; what did not happen is refused, and the pool is read anew;
//! * the *gate* lets agents in while this manager leads, and ends their channels when it does not.
//!
//! An answer that rests on no new record is given only while the term surely lasts.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use legation_core::{
    EnclaveId, LeaseId, Rejection, RevocationEpoch, Revoked, Seq, Signed, Signer, TaskId, Term,
    statement::{Appointment, Passport},
};
use legation_manager::{
    journal::Candidate,
    leadership::{Began, Claimant, Fate, Leadership, Timing, Turn},
};
use legation_policy::Scope;
use legation_pool::{
    Applied, Command, DEFECT, Effect, EnlistParts, Event, LoanParts, Need, OfferParts, Pool, Record, TaskState,
};

use crate::{
    clock::{Clock, Instant, Span},
    defect::Defect,
    ether::Ether,
    fault::Fault,
    keys::Key,
    message::{Answer, Connection, CustodyNews, Message, Node, Timer},
    plan::Mischief,
    store::Store,
};

mod deliver;
mod gate;

/// How long terms last, and how often they are looked at.
pub(crate) const TIMING: Timing = Timing {
    ttl: Duration::from_millis(2000),
    renew: Duration::from_millis(500),
    poll: Duration::from_millis(250),
    margin: Duration::from_millis(200),
};
/// Between two ticks.
const TICK: Span = Span::millis(500);
/// Pause before a loss that could not be recorded is tried again.
const LOSS_AGAIN: Span = Span::millis(500);
/// Pause before the journal is read anew after a batch did not happen.
const AGAIN: Span = Span::millis(250);
/// Records between two snapshots.
const SNAPSHOT_EVERY: u64 = 40;
/// A policy that admits every machine that the pool admits.
const POLICY: &str = "@id(\"all\") permit (principal, action, resource);";

/// What a manager is appointed with.
#[derive(Clone)]
pub(crate) struct Office {
    pub(crate) signer: Key,
    pub(crate) appointment: Signed<Appointment>,
    pub(crate) verifier: Key,
    pub(crate) verifier_appointment: Signed<Appointment>,
}

/// Whom to tell what a command came to.
enum Reply {
    Nobody,
    Caller {
        to: Node,
        number: u64,
    },
    Applicant {
        agent: usize,
        connection: Connection,
        passport: Box<Signed<Passport>>,
    },
    Present {
        agent: usize,
        connection: Connection,
        enclave: EnclaveId,
    },
    Refusal {
        agent: usize,
        connection: Connection,
    },
    Report {
        agent: usize,
        connection: Connection,
        lease: LeaseId,
    },
    Lost {
        enclave: EnclaveId,
    },
    /// The gate opens.
    Open,
}

/// One thing to do when what is before it is durable.
enum Outcome {
    Verdict(Reply, Result<Seq, Rejection>),
    View { to: Node, number: u64, view: Result<(TaskState, Vec<Need>), Rejection> },
    Offer(EnclaveId, Box<OfferParts>),
    Enlist(EnclaveId, Box<EnlistParts>),
    Lend(EnclaveId, Box<LoanParts>),
    Lent(EnclaveId, Option<u64>, Box<LoanParts>),
    LoanEnded(EnclaveId, LeaseId, String),
    Cancel(EnclaveId, LeaseId),
    Reattest(EnclaveId, String),
    CustodyChanged(EnclaveId),
    CustodyNews { agent: usize, connection: Connection, news: Box<CustodyNews> },
    Close(EnclaveId, Rejection),
    Revocations(Rc<Revoked>),
    Snapshot(Box<Pool>),
}

/// Records that become durable together, and what follows.
#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    outcomes: Vec<Outcome>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.outcomes.is_empty()
    }
}

/// What the decider decides with.
struct Reign {
    pool: Pool,
    revocations: RevocationEpoch,
    snapshot_at: u64,
}

/// What the keeper's last calls came to, to be acted upon when they have come back.
enum Came {
    Turn(Result<Turn, String>),
    Written(Fate, Batch),
    Reloaded(Result<Box<Pool>, String>),
}

/// One manager.
pub(crate) struct Manager {
    index: usize,
    office: Office,
    pub(crate) clock: Clock,
    pub(crate) up: bool,
    pub(crate) life: u32,
    pub(crate) frozen: Option<Instant>,
    leadership: Leadership,
    /// When the keeper looks again by itself.
    wakes: Option<Instant>,
    /// The keeper waits for its calls.
    came: Option<Came>,
    /// A batch whose outcome is unknown.
    held: Option<Batch>,
    stalled: bool,
    good_until: Instant,
    /// Its term, and the position of the record that began it.
    began: Option<(Term, Seq)>,
    reign: Option<Reign>,
    batch: Batch,
    /// Agents are let in.
    open: bool,
    /// The pool has no policy yet, and is to have one first.
    seeds: bool,
    /// Ways to enclaves: the newest connection of each.
    links: BTreeMap<EnclaveId, (Connection, usize)>,
    /// Losses that could not be recorded yet.
    losses: BTreeSet<EnclaveId>,
    /// What is revoked, as far as it is durable.
    revoked: Rc<Revoked>,
}

fn standing_by() -> Rejection {
    Rejection::new("manager.standby", "this manager").expected("the one that leads")
}

fn unwritten() -> Rejection {
    Rejection::new("journal.append", "writing to the journal").expected("a durable record")
}

fn transient(why: &Rejection) -> bool {
    matches!(why.check.as_str(), "manager.busy" | "journal.append")
}

impl Manager {
    pub(crate) fn new(index: usize, office: Office, ether: &mut Ether) -> Self {
        let leadership = Self::process(index, &office, ether);
        Self {
            index,
            office,
            clock: Clock::default(),
            up: true,
            life: 0,
            frozen: None,
            leadership,
            wakes: None,
            came: None,
            held: None,
            stalled: false,
            good_until: Instant::default(),
            began: None,
            reign: None,
            batch: Batch::default(),
            open: false,
            seeds: false,
            links: BTreeMap::new(),
            losses: BTreeSet::new(),
            revoked: Rc::default(),
        }
    }

    /// A new process: the same name, another instance.
    fn process(index: usize, office: &Office, ether: &mut Ether) -> Leadership {
        let candidate =
            Candidate { name: format!("manager {index}"), instance: ether.number(), addresses: Default::default() };
        let claimant = Claimant {
            candidate,
            signer: std::sync::Arc::new(office.signer.clone()),
            appointment: office.appointment.clone(),
        };
        Leadership::new(claimant, TIMING, ether.plan.limits)
    }

    fn node(&self) -> Node {
        Node::Manager(self.index)
    }

    /// Whether it believes that it leads.
    pub(crate) fn leads(&self) -> bool {
        self.reign.is_some()
    }

    /// Its pool, when nothing of it waits for the store.
    pub(crate) fn settled_pool(&self) -> Option<&Pool> {
        let quiet = self.came.is_none() && self.held.is_none() && self.batch.is_empty();
        self.reign.as_ref().filter(|_| quiet).map(|reign| &reign.pool)
    }

    pub(crate) fn start(&mut self, ether: &mut Ether) {
        self.up = true;
        let soon = ether.between((Span::millis(1), Span::millis(300)));
        self.wakes = Some(ether.now.plus(soon));
        ether.ring(self.node(), self.life, soon, Timer::Keep);
        ether.ring(self.node(), self.life, soon, Timer::Tick);
    }

    /// It dies with all it had in memory, and comes back after `down`.
    pub(crate) fn crash(&mut self, ether: &mut Ether, down: Span) {
        ether.tell(self.node(), || format!("dies, for {down}"));
        ether.cut_all(self.node(), "the manager died");
        let (clock, life) = (self.clock, self.life + 1);
        *self = Self { clock, life, up: false, ..Self::new(self.index, self.office.clone(), ether) };
        ether.ring(self.node(), self.life, down, Timer::Restart);
    }

    pub(crate) fn freeze(&mut self, ether: &mut Ether, span: Span) {
        ether.fault(Fault::ManagerFreeze);
        if self.leads() && u128::from(span.0) > TIMING.ttl.as_micros() {
            ether.fault(Fault::LeaderFreezePastTerm);
        }
        ether.tell(self.node(), || format!("stands still for {span}"));
        self.frozen = Some(ether.now.plus(span));
    }

    pub(crate) fn thaw(&mut self, ether: &mut Ether) {
        self.frozen = None;
        ether.tell(self.node(), || "goes on");
    }

    pub(crate) fn rings(&mut self, ether: &mut Ether, store: &mut Store, timer: Timer) {
        match timer {
            Timer::Restart => {
                ether.tell(self.node(), || "starts");
                self.start(ether);
            }
            Timer::Keep if self.wakes.is_some_and(|wakes| wakes <= ether.now) => {
                self.wakes = None;
                self.keep(ether, store);
            }
            Timer::Came => {
                if let Some(came) = self.came.take() {
                    self.acts(ether, store, came);
                    self.keep(ether, store);
                }
            }
            Timer::Tick => {
                ether.ring(self.node(), self.life, TICK, Timer::Tick);
                if self.reign.is_some() && !self.stalled && std::mem::take(&mut self.seeds) {
                    self.seed(ether);
                }
                self.decide(ether, Command::Tick, Reply::Nobody);
                self.keep(ether, store);
            }
            Timer::Losses => {
                for enclave in std::mem::take(&mut self.losses) {
                    if !self.links.contains_key(&enclave) {
                        self.lose(ether, enclave, "the channel ended");
                    }
                }
                self.keep(ether, store);
            }
            _ => {}
        }
    }

    // The keeper

    /// Does what is next, unless a call is under way.
    fn keep(&mut self, ether: &mut Ether, store: &mut Store) {
        if self.came.is_some() {
            return;
        }
        let now = Duration::from_micros(ether.now.0);
        let wall = self.clock.unix(ether.now);
        if self.leadership.due() <= now {
            let leadership = &mut self.leadership;
            let (turn, took) =
                store.visit(ether, Node::Manager(self.index), |journal| leadership.turn(journal, now, wall));
            self.comes(ether, took, Came::Turn(turn.map_err(|why| why.to_string())));
        } else if self.held.is_none() && !self.batch.is_empty() {
            self.write(ether, store, now);
        } else {
            let due = self.leadership.due().saturating_sub(now);
            let due = Span(u64::try_from(due.as_micros()).unwrap_or(u64::MAX).min(60_000_000));
            let at = ether.now.plus(due);
            if self.wakes.is_none_or(|wakes| at < wakes || wakes < ether.now) {
                self.wakes = Some(at);
                ether.ring(self.node(), self.life, due, Timer::Keep);
            }
        }
    }

    fn comes(&mut self, ether: &mut Ether, took: Span, came: Came) {
        self.came = Some(came);
        ether.ring(self.node(), self.life, took, Timer::Came);
    }

    fn write(&mut self, ether: &mut Ether, store: &mut Store, now: Duration) {
        let batch = std::mem::take(&mut self.batch);
        if batch.records.is_empty() {
            // What is before it is durable.
            self.deliver_if_good(ether, store, batch);
            return self.keep(ether, store);
        }
        let leadership = &mut self.leadership;
        let (fate, took) =
            store.visit(ether, Node::Manager(self.index), |journal| leadership.append(journal, &batch.records, now));
        self.comes(ether, took, Came::Written(fate, batch));
        // The worst moment to stand still: it is durable, and nothing of it is said or done.
        if !ether.calm && ether.plan.mischief.contains(&Mischief::ManagerFreeze) && ether.random.chance(10) {
            let span = ether.between((Span::seconds(2), Span::seconds(12)));
            ether.fault(Fault::FreezeInAppend);
            self.freeze(ether, span);
        }
    }

    fn acts(&mut self, ether: &mut Ether, store: &mut Store, came: Came) {
        match came {
            Came::Turn(Ok(turn)) => {
                self.turned(ether, store, turn);
                self.set_good_until();
            }
            Came::Turn(Err(why)) => ether.tell(self.node(), || format!("the journal fails: {why}")),
            Came::Written(fate, batch) => match fate {
                Fate::Durable => self.durable(ether, store, batch),
                Fate::Unknown(why) => {
                    ether.reach("manager: an append's outcome is unknown");
                    ether.tell(self.node(), || format!("does not know whether its batch is written: {why}"));
                    if ether.is(Defect::BelievesUnknown) {
                        return self.durable(ether, store, batch);
                    }
                    self.stalled = true;
                    self.held = Some(batch);
                    self.set_good_until();
                }
                Fate::Refused(why) => {
                    ether.tell(self.node(), || format!("its batch is refused: {why}"));
                    self.roll_back(ether, store, batch);
                }
                Fate::Ended(why) => {
                    ether.reach("manager: ends, fenced");
                    self.ended(ether, &why.to_string());
                    self.refuse(ether, batch, &standing_by());
                }
            },
            Came::Reloaded(Ok(pool)) => {
                let refusal = unwritten();
                let open = std::mem::take(&mut self.batch);
                self.refuse(ether, open, &refusal);
                ether.reach("manager: reads its journal again");
                ether.tell(self.node(), || format!("has read its journal anew, up to {}", pool.seq().0));
                self.begins(ether, *pool);
            }
            Came::Reloaded(Err(why)) => self.ended(ether, &why),
        }
    }

    fn set_good_until(&mut self) {
        let until = self.leadership.until().filter(|_| self.held.is_none());
        self.good_until = Instant(until.map_or(0, |until| u64::try_from(until.as_micros()).unwrap_or(u64::MAX)));
    }

    fn turned(&mut self, ether: &mut Ether, store: &mut Store, turn: Turn) {
        match turn {
            Turn::Quiet => {}
            Turn::Began(began) => {
                let Began { pool, term, at, .. } = *began;
                ether.reach("manager: leads");
                if term.0 > 1 {
                    ether.reach("manager: failover");
                }
                ether.tell(self.node(), || format!("leads term {} from record {} on", term.0, at.0));
                self.began = Some((term, at));
                self.set_good_until();
                let verdict = ether.oracle.same(&pool);
                ether.judge(verdict);
                self.begins(ether, pool);
                self.seed(ether);
            }
            Turn::Settled { done } => {
                ether.reach(if done { "manager: settled, done" } else { "manager: settled, not done" });
                let Some(batch) = self.held.take() else { return };
                match (done, self.leadership.until().is_some()) {
                    (true, true) => {
                        self.stalled = false;
                        self.durable(ether, store, batch);
                    }
                    (true, false) => self.tell_verdicts(ether, batch),
                    (false, true) => self.roll_back(ether, store, batch),
                    (false, false) => self.refuse(ether, batch, &standing_by()),
                }
            }
            Turn::Ended(why) => {
                ether.reach("manager: ends");
                if ether.is(Defect::LeadsAfterExpiry) {
                    return;
                }
                self.ended(ether, &why.to_string());
            }
            Turn::Refused(why) => ether.violate(format!("a manager may not lead: {why}")),
        }
    }

    /// A pool to decide with, that is durable.
    fn begins(&mut self, ether: &mut Ether, pool: Pool) {
        self.stalled = false;
        self.revoked = Rc::new(pool.revoked().clone());
        let revocations = pool.revocations();
        let snapshot_at = self.leadership.snapshot().map_or(0, |s| s.0).saturating_add(SNAPSHOT_EVERY);
        self.reign = Some(Reign { pool, revocations, snapshot_at });
        ether.tell(self.node(), || "decides");
    }

    /// What a manager does first: the pool has a policy before an agent is let in.
    fn seed(&mut self, ether: &mut Ether) {
        let lacks = self.reign.as_ref().is_some_and(|reign| reign.pool.policy(&Scope::Pool).is_none());
        if ether.plan.strict && lacks {
            let command = Command::SetPolicy { scope: Scope::Pool, text: POLICY.into(), author: "its folder".into() };
            self.decide(ether, command, Reply::Open);
        } else {
            self.open = true;
        }
    }

    fn durable(&mut self, ether: &mut Ether, store: &mut Store, batch: Batch) {
        if let Some(reign) = self.reign.as_ref().filter(|_| self.batch.is_empty()) {
            let verdict = ether.oracle.same(&reign.pool);
            ether.judge(verdict);
        }
        if self.good_until <= ether.now {
            ether.reach("manager: hears of its append when its term may be over");
        }
        self.deliver(ether, store, batch);
    }

    /// A batch did not happen: neither did what was decided after it. The pool is read anew.
    fn roll_back(&mut self, ether: &mut Ether, store: &mut Store, batch: Batch) {
        ether.reach("manager: rolls back");
        self.stalled = true;
        self.refuse(ether, batch, &unwritten());
        let open = std::mem::take(&mut self.batch);
        self.refuse(ether, open, &unwritten());
        self.reign = None;
        let leadership = &mut self.leadership;
        let (pool, took) = store.visit(ether, Node::Manager(self.index), |journal| leadership.reload(journal));
        let pool = pool.map(Box::new).map_err(|why| why.to_string());
        self.comes(ether, Span(took.0 + AGAIN.0), Came::Reloaded(pool));
    }

    /// This manager leads no longer.
    fn ended(&mut self, ether: &mut Ether, why: &str) {
        ether.tell(self.node(), || format!("leads no longer: {why}"));
        self.good_until = Instant::default();
        self.stalled = false;
        self.began = None;
        self.reign = None;
        let open = std::mem::take(&mut self.batch);
        self.refuse(ether, open, &standing_by());
        self.open = false;
        self.seeds = false;
        self.losses.clear();
        for (connection, agent) in std::mem::take(&mut self.links).into_values() {
            self.close(ether, agent, connection, standing_by());
        }
    }

    // The decider

    /// Applies a command, and adds what follows to the open batch.
    fn decide(&mut self, ether: &mut Ether, command: Command, reply: Reply) {
        let ticks = matches!(command, Command::Tick);
        let now = self.clock.unix(ether.now);
        let stalled = self.stalled;
        let Some(reign) = self.reign.as_mut().filter(|_| !stalled) else {
            let refusal = if stalled { unwritten() } else { standing_by() };
            return self.reply(ether, reply, Err(refusal));
        };
        if ether.is(Defect::DropsRevocations) && matches!(command, Command::Revoke { .. }) {
            let seq = reign.pool.seq();
            return self.reply(ether, reply, Ok(seq));
        }
        let Applied { records, effects } = match reign.pool.apply(command, now, &self.office.signer) {
            Ok(applied) => applied,
            Err(why) => {
                if why.check == DEFECT || ticks {
                    ether.violate(format!("the pool's own defect: {why}"));
                }
                ether.tally.reach(&format!("refused: {}", why.check));
                // It rests on what was decided before, which may not be durable yet.
                self.batch.outcomes.push(Outcome::Verdict(reply, Err(why)));
                return;
            }
        };
        let pool = &reign.pool;
        let mut outcomes = Vec::new();
        for effect in effects {
            outcomes.push(match effect {
                Effect::Offer { enclave, lease } => match pool.offer(lease) {
                    Ok(parts) => Outcome::Offer(enclave, Box::new(parts)),
                    // The lease ended with the same command.
                    Err(_) => continue,
                },
                Effect::Enlist { enclave, task } => match pool.enlistment(task, enclave) {
                    Ok(parts) => Outcome::Enlist(enclave, Box::new(parts)),
                    Err(_) => continue,
                },
                Effect::Lend { enclave, loan } => match pool.loan_parts(loan, enclave) {
                    Ok(parts) => Outcome::Lend(enclave, Box::new(parts)),
                    Err(_) => continue,
                },
                Effect::Lent { enclave, loan, ask } => match pool.loan_parts(loan, enclave) {
                    Ok(parts) => Outcome::Lent(enclave, ask, Box::new(parts)),
                    Err(_) => continue,
                },
                Effect::LoanEnded { enclave, loan, why } => Outcome::LoanEnded(enclave, loan, why),
                Effect::Cancel { enclave, lease } => Outcome::Cancel(enclave, lease),
                Effect::Reattest { enclave, why } => Outcome::Reattest(enclave, why),
                // There is one swarm key.
                Effect::Custody { enclave, .. } => Outcome::CustodyChanged(enclave),
                Effect::Close { enclave, why } => Outcome::Close(enclave, why),
                _ => continue,
            });
        }
        if reign.revocations != pool.revocations() {
            reign.revocations = pool.revocations();
            outcomes.insert(0, Outcome::Revocations(Rc::new(pool.revoked().clone())));
        }
        if ether.plan.real && !records.is_empty() && pool.seq().0 >= reign.snapshot_at {
            reign.snapshot_at = pool.seq().0.saturating_add(SNAPSHOT_EVERY);
            outcomes.push(Outcome::Snapshot(Box::new(pool.clone())));
        }
        let verdict = Ok(pool.seq());
        for record in &records {
            if let Event::CustodyEnded { why, .. } = &record.event {
                ether.tally.reach(&format!("custody: a call comes to nothing: {why}"));
            }
        }
        self.batch.records.extend(records);
        if ether.is(Defect::OffersBeforeDurable) {
            for outcome in outcomes {
                self.does(ether, None, outcome);
            }
        } else {
            self.batch.outcomes.extend(outcomes);
        }
        if ether.is(Defect::AnswersBeforeDurable) {
            self.reply(ether, reply, verdict);
        } else {
            self.batch.outcomes.push(Outcome::Verdict(reply, verdict));
        }
    }

    fn view(&mut self, ether: &mut Ether, to: Node, number: u64, task: TaskId) {
        let now = self.clock.unix(ether.now);
        let stalled = self.stalled;
        let view = match self.reign.as_ref().filter(|_| !stalled) {
            None => {
                let answer = Rc::new(Answer::Refused(if stalled { unwritten() } else { standing_by() }));
                return ether.send(self.node(), to, Message::Answer { number, answer });
            }
            Some(reign) => match (reign.pool.tasks().get(&task), reign.pool.needs(task, now)) {
                (Some(known), Ok(needs)) => Ok((known.state.clone(), needs)),
                (_, Err(why)) => Err(why),
                (None, Ok(_)) => Err(Rejection::new("task.unknown", "the task")),
            },
        };
        self.batch.outcomes.push(Outcome::View { to, number, view });
    }

    /// Its key, for whoever wants to know who leads.
    pub(crate) fn id(&self) -> legation_core::PublicKey {
        self.office.signer.public_key()
    }
}

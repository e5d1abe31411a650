//! A client as a node: it submits tasks to whoever leads, grants what they need, and waits. Whatever is not answered is asked again,
//! of the next manager, under the same name; so nothing it was told may be lost, and nothing it asked may happen twice.
//!
//! The first client is the operator too.

use std::rc::Rc;

use legation_core::{
    Revocable, Signed, TaskId, dsse,
    statement::{Grant, Request},
    task::WrappedKey,
};
use legation_pool::{IdempotencyKey, TaskState};

use crate::{
    clock::{Clock, Span},
    ether::Ether,
    fault::Fault,
    keys::Key,
    message::{Answer, Call, Message, Node, Timer},
    oracle::Acknowledged,
    statements::{self, Shape, Wish},
};

/// A call that is not answered by then is made again.
const PATIENCE: Span = Span::millis(2500);
/// Between two looks at a task.
const LOOK: (Span, Span) = (Span::millis(500), Span::millis(1500));

/// Something a client wants.
pub(crate) enum Job {
    /// A task, of a wish until it is submitted for the first time.
    Task(Box<Errand>),
    /// A request that must be refused.
    Bad { name: String },
    /// What the operator wants.
    Order { call: Rc<Call>, done: Option<Acknowledged> },
}

/// A task and how far it is.
pub(crate) struct Errand {
    pub(crate) name: String,
    pub(crate) wish: Wish,
    /// It grants nothing.
    pub(crate) silent: bool,
    /// It is given up after so many looks.
    pub(crate) patience: Option<u32>,
    request: Option<Signed<Request>>,
    taken: bool,
    looks: u32,
    grants: Vec<(Signed<Grant>, Vec<WrappedKey>)>,
}

impl Errand {
    pub(crate) fn new(name: String, wish: Wish) -> Self {
        Self { name, wish, silent: false, patience: None, request: None, taken: false, looks: 0, grants: Vec::new() }
    }
}

struct Slot {
    job: Job,
    over: bool,
    /// The call that waits for its answer.
    call: u64,
    /// Its next look: earlier ones that still ring do nothing.
    turn: u32,
}

/// One client.
pub(crate) struct Client {
    index: usize,
    key: Key,
    pub(crate) clock: Clock,
    slots: Vec<Slot>,
    /// Who led last, as far as it knows.
    guess: usize,
}

impl Client {
    pub(crate) fn new(index: usize, real: bool) -> Self {
        let key = Key::new(&format!("client {index}"), real);
        Self { index, key, clock: Clock::default(), slots: Vec::new(), guess: index }
    }

    fn node(&self) -> Node {
        Node::Client(self.index)
    }

    /// Takes a job on, to be begun after a while.
    pub(crate) fn take(&mut self, ether: &mut Ether, job: Job, after: Span) {
        let number = self.slots.len();
        self.slots.push(Slot { job, over: false, call: 0, turn: 0 });
        self.look_after(ether, number, after);
    }

    fn look_after(&mut self, ether: &mut Ether, job: usize, span: Span) {
        let node = self.node();
        if let Some(slot) = self.slots.get_mut(job) {
            slot.turn += 1;
            ether.ring(node, 0, span, Timer::Look { job, turn: slot.turn });
        }
    }

    /// Tasks that it was told are taken, and whose end it has not seen.
    pub(crate) fn waits(&self) -> bool {
        self.slots.iter().any(|s| !s.over && matches!(&s.job, Job::Task(_) | Job::Order { .. }))
    }

    pub(crate) fn rings(&mut self, ether: &mut Ether, timer: Timer) {
        let Timer::Look { job, turn } = timer else { return };
        let Some(slot) = self.slots.get(job).filter(|s| !s.over && s.turn == turn) else { return };
        if slot.call != 0 {
            // Not answered: the next one may know.
            self.guess += 1;
        }
        let Some(call) = self.next(ether, job) else { return };
        let number = ether.number();
        if let Some(slot) = self.slots.get_mut(job) {
            slot.call = number;
        }
        let manager = self.guess % ether.plan.managers;
        ether.send(self.node(), Node::Manager(manager), Message::Call { number, call });
        self.look_after(ether, job, PATIENCE);
    }

    /// What a job asks next.
    fn next(&mut self, ether: &mut Ether, job: usize) -> Option<Rc<Call>> {
        let now = self.clock.unix(ether.now);
        let (key, node) = (self.key.clone(), self.node());
        let errand = match &mut self.slots.get_mut(job)?.job {
            Job::Order { call, .. } => return Some(call.clone()),
            Job::Bad { name } => {
                let (what, request) = statements::bad_request(&key, name, now, &mut ether.random);
                ether.fault(Fault::ClientBad);
                ether.tell(node, || format!("asks for what must be refused: {what}"));
                return Some(submit(&dsse::sign(request, &key), Vec::new(), name));
            }
            Job::Task(errand) => errand,
        };
        if !errand.taken {
            let request = errand
                .request
                .get_or_insert_with(|| dsse::sign(statements::request(&key, &errand.name, &errand.wish, now), &key));
            let silent = errand.silent;
            let grants = statements::policy_grant(request, &key).filter(|_| !silent).into_iter().collect();
            return Some(submit(request, grants, &errand.name));
        }
        let task = TaskId::new(errand.request.as_ref()?.digest());
        if let Some((grant, keys)) = errand.grants.last() {
            return Some(Rc::new(Call::Grant { grant: grant.clone(), keys: keys.clone() }));
        }
        errand.looks += 1;
        if errand.patience.is_some_and(|patience| errand.looks > patience) {
            errand.patience = None;
            ether.fault(Fault::ClientCancels);
            return Some(Rc::new(Call::Cancel { task }));
        }
        Some(Rc::new(Call::View { task }))
    }

    pub(crate) fn hears(&mut self, ether: &mut Ether, from: Node, message: Message) {
        let Message::Answer { number, answer } = message else { return };
        let Some(job) = self.slots.iter().position(|s| s.call == number && !s.over) else { return };
        let node = self.node();
        let standby = matches!(&*answer, Answer::Refused(why) if why.check == "manager.standby");
        if let Node::Manager(manager) = from {
            self.guess = if standby { manager + 1 } else { manager };
        }
        let Some(slot) = self.slots.get_mut(job) else { return };
        slot.call = 0;
        let mut pause = ether.between(LOOK);
        let again = matches!(&*answer, Answer::Refused(why) if matches!(why.check.as_str(), "manager.standby" | "journal.append" | "manager.busy"));
        if again {
            self.look_after(ether, job, pause);
            return;
        }
        match &mut slot.job {
            Job::Order { done, .. } => {
                slot.over = true;
                if let (Answer::Done(_), Some(done)) = (&*answer, done.take()) {
                    ether.tell(node, || format!("is told that it is done: {done:?}"));
                    let verdict = ether.oracle.acknowledged(done);
                    ether.judge(verdict);
                }
            }
            Job::Bad { name } => {
                slot.over = true;
                match &*answer {
                    Answer::Refused(why) => ether.tally.reach(&format!("bad request refused by {}", why.check)),
                    _ => ether.violate(format!("a request that must be refused was taken: {name}")),
                }
            }
            Job::Task(errand) => {
                if answered(ether, node, errand, &answer) {
                    slot.over = true;
                    return;
                }
                if !errand.grants.is_empty() {
                    pause = Span::millis(1);
                }
            }
        }
        if let Some(false) = self.slots.get(job).map(|s| s.over) {
            self.look_after(ether, job, pause);
        }
    }
}

fn submit(request: &Signed<Request>, grants: Vec<Signed<Grant>>, name: &str) -> Rc<Call> {
    let idempotency = IdempotencyKey { key: name.to_owned(), body: request.digest() };
    Rc::new(Call::Submit { request: request.clone(), grants, idempotency })
}

/// What an answer means to an errand; whether it is over.
fn answered(ether: &mut Ether, node: Node, errand: &mut Errand, answer: &Answer) -> bool {
    let Some(request) = &errand.request else { return true };
    let task = TaskId::new(request.digest());
    match answer {
        Answer::Done(seq) if !errand.taken => {
            errand.taken = true;
            ether.tell(node, || format!("is told that task {} is taken, at {}", task.short(), seq.0));
            let verdict = ether.oracle.acknowledged(Acknowledged::Task(task));
            ether.judge(verdict);
        }
        Answer::Done(_) => match errand.grants.pop() {
            Some((grant, _)) => {
                let verdict = ether.oracle.acknowledged(Acknowledged::Grant(task, grant.digest()));
                ether.judge(verdict);
            }
            None => {
                ether.tell(node, || format!("is told that task {} is cancelled", task.short()));
                let verdict = ether.oracle.acknowledged(Acknowledged::Cancelled(task));
                ether.judge(verdict);
            }
        },
        Answer::View { state, needs } => {
            if *state != TaskState::Live {
                let how = match state {
                    TaskState::Completed => "completed",
                    TaskState::Failed { .. } => "failed",
                    TaskState::Cancelled => "cancelled",
                    _ => "expired",
                };
                ether.tally.reach(&format!("task {how}"));
                ether.tell(node, || format!("sees task {} {how}", task.short()));
                return true;
            }
            if errand.silent {
                return false;
            }
            let key = Key::new(&node.to_string(), ether.plan.real);
            errand.grants.extend(needs.iter().filter_map(|need| statements::answer_need(request, need, &key)));
        }
        Answer::Refused(why) => {
            ether.tally.reach(&format!("client: refused by {}", why.check));
            ether.tell(node, || format!("is refused task {}: {why}", task.short()));
            if !errand.taken {
                return true;
            }
            if why.check == "task.unknown" {
                let what = ether.oracle.denied(task);
                if !ether.plan.store_clock_jumps() {
                    ether.violate(what);
                }
            }
            // A grant that is refused was for a lease that has ended; a task that ended cannot be cancelled.
            errand.grants.pop();
        }
    }
    false
}

/// A wish that no pool can fulfil: the pool says so, or it waits until it is over.
pub(crate) fn greedy(wish: Wish) -> Wish {
    Wish { require: 2, life: 40, shape: Shape::Single, ..wish }
}

/// What a revocation is of, for the oracle.
pub(crate) fn revocation(what: Revocable) -> Job {
    let call = Rc::new(Call::Revoke { what: what.clone(), why: "stolen".into() });
    Job::Order { call, done: Some(Acknowledged::Revoked(Box::new(what))) }
}

//! The task behind the questions of one execution: events in, what the machine wants done out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use legation_core::{
    Digest, EnclaveId, Envelope, LeaseId, Millis, Rejection, Revoked, Signed, UnixTime,
    delegation::{
        session::{
            Delegator, DelegatorAction, DelegatorEvent, JobId, Now, Question, Settled, ToDelegate, ToDelegator,
            UNFIT_MAX,
        },
        vote::SILENT,
    },
    statement::{Assurance, Committed, Outcome, Passport},
    task::DELEGATION_DEPTH_MAX,
};
use legation_net::{
    delegation::{Answered, QuestionKey, Submitted, ToBorrower, ToLent},
    message::{Lending, Peer},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use zeroize::Zeroizing;

use super::{
    ATTACHED_MAX, Asked, Desk, News, Order, Used, blame,
    line::{Line, OnLine, UNREACHED},
    modules::Modules,
};
use crate::{
    agent::Inner,
    engine::AskError,
    inflow::Inflow,
    lending::{self, Standing},
    offer::Under,
    peers::Out,
    status::Status,
};

mod wishes;

use wishes::{Patience, Wish};

/// Loans of one execution at once.
const LINES_MAX: usize = 16;
/// What came over all lines and was not yet looked at.
const EVENTS_MAX: usize = 64;
/// Loans that nobody asked anything for so long are given back: they cost.
const IDLE: Duration = Duration::from_secs(5);
/// Questions of which none gets on for so long need another loan.
const STUCK: Duration = Duration::from_secs(1);
/// How often a delegate is given one module: its channel may break on the way, and its cache may forget.
const SERVED_MAX: u8 = 8;
/// How long the manager may take nothing of what it is told, before what else happened is looked at; and until it is told again.
const TELL: Duration = Duration::from_secs(1);
/// When to look again where nothing is due.
const LOOK: Duration = Duration::from_secs(60);
/// Check of a refusal because the delegate could not get the module of a call.
const MODULE: &str = "delegate.module";
/// JSON around the payload of an envelope, about.
const ENVELOPE_EXTRA: usize = 320;

/// One question that has no answer yet.
struct Job {
    question: Box<Question>,
    asked: Asked,
    /// What those who were asked wrote, by what their reports commit to: those who agree wrote the same.
    outputs: BTreeMap<Digest, Zeroizing<Vec<u8>>>,
    /// How the manager answered what was wished for it.
    patience: Patience,
    /// How many enclaves could not be given its module.
    unsupplied: u32,
}

/// One enclave that was lent.
struct Loaned {
    line: Line,
    enclave: EnclaveId,
    until: UnixTime,
    /// The passport that the manager named: others are held against it.
    named: Signed<Passport>,
    /// Calls that have no answer, nor one on its way.
    calls: BTreeMap<Digest, JobId>,
    /// Outputs on their way.
    inflow: Inflow<Arriving>,
    streams: u64,
    /// Modules that it asked for, and how often.
    served: BTreeMap<Digest, u8>,
    /// Whether it takes calls.
    ready: bool,
}

struct Arriving {
    job: JobId,
    call: Digest,
    key: QuestionKey,
    answered: Answered,
}

impl Loaned {
    /// Nobody waits for the answer to a call, nor for its output.
    fn forget(&mut self, call: &Digest) {
        self.calls.remove(call);
        self.inflow.retain(|arriving| arriving.call != *call);
    }
}

/// An output that is here, committed to under the key of its question.
struct Gathered {
    loan: LeaseId,
    job: JobId,
    answered: Answered,
    output: Zeroizing<Vec<u8>>,
    committed: Committed,
}

struct Driver {
    agent: Arc<Inner>,
    under: Under,
    desk: Arc<Desk>,
    machine: Delegator,
    began: Instant,
    jobs: BTreeMap<JobId, Job>,
    by_question: BTreeMap<Digest, JobId>,
    settled: BTreeMap<JobId, Settled>,
    attached: BTreeMap<Digest, Envelope>,
    attached_size: usize,
    /// Loans and passports behind the answers, where this execution answers somebody in turn.
    behind: BTreeMap<Digest, Envelope>,
    loans: BTreeMap<LeaseId, Loaned>,
    /// What was asked of the manager and not answered.
    wishes: BTreeMap<u64, Wish>,
    /// When something was asked of it last.
    wished: Option<Instant>,
    /// Enclaves that were of no use since the last answer.
    useless: u32,
    /// Enclaves that are of no use.
    avoid: BTreeSet<EnclaveId>,
    /// Loans that are over for this execution, and those of them that the manager is still to be told of.
    parted: BTreeSet<LeaseId>,
    returns: Vec<LeaseId>,
    /// Why those of them whose enclave was of no use were parted with.
    shunned: BTreeMap<LeaseId, Rejection>,
    /// Why no question can have an answer.
    hopeless: Option<Rejection>,
    modules: Modules,
    lines: mpsc::Sender<(LeaseId, OnLine)>,
    gathered: mpsc::Sender<Gathered>,
    idle: Option<Instant>,
    stuck: Option<Instant>,
    /// When a loan made way for another last.
    made_way: Option<Instant>,
}

/// Starts a driver. It ends with the execution.
pub(super) fn start(agent: &Arc<Inner>, under: &Under, desk: &Arc<Desk>) -> mpsc::UnboundedSender<Order> {
    let (orders, heard) = mpsc::unbounded_channel();
    let news = agent.borrowers.enter(under.own.lease);
    let (lines, on_lines) = mpsc::channel(EVENTS_MAX);
    let (gathered, outputs) = mpsc::channel(EVENTS_MAX);
    let driver = Driver {
        machine: Delegator::new(
            agent.bench.identity.clone(),
            under.request.clone(),
            under.own.clone(),
            under.grants.clone(),
            under.above.iter().cloned(),
            DELEGATION_DEPTH_MAX,
        )
        .having_spent(under.spent),
        agent: agent.clone(),
        under: under.clone(),
        desk: desk.clone(),
        began: Instant::now(),
        jobs: BTreeMap::new(),
        by_question: BTreeMap::new(),
        settled: BTreeMap::new(),
        attached: BTreeMap::new(),
        attached_size: 0,
        behind: BTreeMap::new(),
        loans: BTreeMap::new(),
        wishes: BTreeMap::new(),
        wished: None,
        useless: 0,
        avoid: BTreeSet::from([agent.boot.identity.enclave_id()]),
        parted: BTreeSet::new(),
        returns: Vec::new(),
        shunned: BTreeMap::new(),
        hopeless: None,
        modules: Modules::default(),
        lines,
        gathered,
        idle: None,
        stuck: None,
        made_way: None,
    };
    tokio::spawn(driver.drive(heard, news, on_lines, outputs));
    orders
}

impl Driver {
    async fn drive(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut news: mpsc::Receiver<News>,
        mut on_lines: mpsc::Receiver<(LeaseId, OnLine)>,
        mut outputs: mpsc::Receiver<Gathered>,
    ) {
        let mut link = self.agent.link.subscribe();
        // When the manager is told what it took no more of.
        let mut tells: Option<Instant> = None;
        let asked = loop {
            let wakes = tells.into_iter().fold(self.wakes(), Instant::min);
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Ask { job, question, asked }) => self.ask(job, question, asked),
                    Some(Order::Forget(job)) => self.step(DelegatorEvent::Cancel(job)),
                    Some(Order::Finish(answer)) => break Some(answer),
                    None => break None,
                },
                Some(heard) = news.recv() => self.hear(heard),
                Some((loan, what)) = on_lines.recv() => self.on_line(loan, what),
                Some(output) = outputs.recv() => self.arrived(output),
                // A manager that is new here knows of no wish.
                Ok(()) = link.changed() => self.wishes.clear(),
                () = sleep_until(wakes) => self.tick(),
            }
            if tells.is_none_or(|at| at <= Instant::now()) {
                // Whoever finishes is heard also while the manager's link stands still; what was not said stays to be said.
                tells = timeout(TELL, self.talk()).await.err().map(|_| Instant::now() + TELL);
            }
            // What could not be asked for now is asked for in a while, not at once.
            if self.stuck.is_some_and(|since| since.elapsed() >= STUCK) {
                self.stuck = Some(Instant::now());
            }
        };
        // Before it is answered: the next call of the same loan may hand parts on at once, under the same promise.
        news.close();
        self.agent.borrowers.leave(self.under.own.lease);
        while let Ok(heard) = news.try_recv() {
            if let News::Lent { loan, .. } = heard {
                self.returns.push(loan.allocation.lease);
            }
        }
        if let Some(answer) = asked {
            // Whoever asked has room for it, or waits no longer.
            let _ = answer.try_send(self.used());
        }
        for loan in self.loans.keys().copied().collect::<Vec<_>>() {
            self.part(loan, true);
        }
        self.talk().await;
    }

    fn now(&self) -> Now {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { date: self.agent.now(), ms: Millis(ms) }
    }

    /// When to look again, if nothing happens before.
    fn wakes(&self) -> Instant {
        let due = self.machine.next_timeout().and_then(|ms| self.began.checked_add(Duration::from_millis(ms.0)));
        let idle = self.idle.map(|since| since + IDLE);
        let stuck = self.stuck.map(|since| since + STUCK);
        let again = self.wishes_again();
        [due, idle, stuck, again].into_iter().flatten().fold(Instant::now() + LOOK, Instant::min)
    }

    fn ask(&mut self, id: JobId, question: Box<Question>, asked: Asked) {
        self.by_question.insert(question.question, id);
        let (outputs, patience) = (BTreeMap::new(), Patience::default());
        self.jobs.insert(id, Job { question: question.clone(), asked, outputs, patience, unsupplied: 0 });
        self.step(DelegatorEvent::Ask { job: id, question });
    }

    /// Tells the machine, and does what it says.
    fn step(&mut self, event: DelegatorEvent) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let revoked = self.agent.revocations.all();
            let now = self.now();
            for action in self.machine.handle(event, now, &revoked) {
                events.extend(self.act(action));
            }
            if let Some(why) = self.hopeless.take() {
                for job in self.jobs.keys() {
                    self.desk.put(*job, Err(AskError::Unanswered(why.clone())));
                    events.push_back(DelegatorEvent::Cancel(*job));
                }
            }
        }
        self.idle = if self.jobs.is_empty() { self.idle.or_else(|| Some(Instant::now())) } else { None };
        let rests = |loaned: &Loaned| loaned.calls.is_empty() && loaned.inflow.is_empty();
        let waits = !self.jobs.is_empty() && self.wishes.is_empty() && self.loans.values().all(rests);
        self.stuck = if waits { self.stuck.or_else(|| Some(Instant::now())) } else { None };
    }

    fn act(&mut self, action: DelegatorAction) -> Option<DelegatorEvent> {
        match action {
            DelegatorAction::Send { loan, message } => self.say(loan, *message),
            DelegatorAction::Done { job, settled } => self.done(job, *settled),
            DelegatorAction::GaveUp { job, why } => {
                if self.close(job).is_some() {
                    self.desk.put(job, Err(AskError::Unanswered(why)));
                }
            }
            DelegatorAction::Distrust { loan, why } => {
                self.shun(loan, &why);
                self.agent.tell(Status::Distrusted { loan, why });
                self.part(loan, true);
                return Some(DelegatorEvent::Gone(loan));
            }
            DelegatorAction::GiveBack { loan, why } => {
                tracing::warn!(%loan, %why, "a loan of no use");
                if !blame::is_borrowers(&why, &self.under, &self.agent.revocations.all()) {
                    self.shun(loan, &why);
                }
                // What this enclave may not hand on, it may hand on to nobody.
                if why.check.starts_with("delegation.") {
                    self.hopeless = Some(why);
                }
                self.part(loan, true);
            }
        }
        None
    }

    /// An enclave that is of no use is not asked for again; the manager hears why.
    fn shun(&mut self, loan: LeaseId, why: &Rejection) {
        self.avoid.extend(self.loans.get(&loan).map(|loaned| loaned.enclave));
        self.useless = self.useless.saturating_add(1);
        self.shunned.insert(loan, blame::brief(why));
    }

    fn say(&mut self, loan: LeaseId, message: ToDelegate) {
        let Some(loaned) = self.loans.get_mut(&loan) else { return };
        let said = match message {
            ToDelegate::Submit(call) => {
                let job = self.by_question.get(&call.question);
                let Some((id, job)) = job.and_then(|id| Some((*id, self.jobs.get(id)?))) else { return };
                let digest = call.digest();
                // Its answer is here already, but for the output.
                if loaned.inflow.any(|arriving| arriving.call == digest) {
                    return;
                }
                loaned.calls.insert(digest, id);
                loaned.streams = loaned.streams.saturating_add(1);
                let (stream, key) = (loaned.streams, job.asked.key.clone());
                let word = ToLent::Submit(Box::new(Submitted { call, stream, key }));
                Out { word: Some(word), data: Some((stream, job.asked.input.clone())) }
            }
            ToDelegate::Cancel { call } => {
                loaned.forget(&call);
                Out::word(ToLent::Session(Box::new(ToDelegate::Cancel { call })))
            }
            describe @ ToDelegate::Describe { .. } => Out::word(ToLent::Session(Box::new(describe))),
        };
        if let Some(out) = &loaned.line.out
            && out.try_send(said).is_err()
        {
            // It ended, or its peer does not read, and it ends now: what it does not take is said again on the next.
            loaned.line.out = None;
        }
    }

    /// A question stays without an answer.
    fn fail(&mut self, id: JobId, why: Rejection) {
        self.desk.put(id, Err(AskError::Unanswered(why)));
        self.step(DelegatorEvent::Cancel(id));
    }

    /// Takes a question off.
    fn close(&mut self, id: JobId) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        self.by_question.remove(&job.question.question);
        for loaned in self.loans.values_mut() {
            loaned.calls.retain(|_, of| *of != id);
            loaned.inflow.retain(|arriving| arriving.job != id);
        }
        Some(job)
    }

    fn done(&mut self, id: JobId, settled: Settled) {
        let Some(mut job) = self.close(id) else { return };
        let new: BTreeMap<Digest, Envelope> = settled
            .statements
            .iter()
            .filter(|statement| !self.attached.contains_key(&statement.digest()))
            .map(|statement| (statement.digest(), statement.clone()))
            .collect();
        // The pool has these: only whoever is answered in turn has not.
        let loans = if self.under.own.loan.is_some() { settled.loans.as_slice() } else { &[] };
        let loans: BTreeMap<Digest, Envelope> = loans
            .iter()
            .filter(|statement| !self.behind.contains_key(&statement.digest()))
            .map(|statement| (statement.digest(), statement.clone()))
            .collect();
        let travels = |s: &Envelope| (s.payload().len() / 3).saturating_mul(4).saturating_add(ENVELOPE_EXTRA);
        let size: usize = new.values().chain(loans.values()).map(travels).sum();
        let all = self.attached_size.saturating_add(size);
        if all > ATTACHED_MAX {
            let why = Rejection::new("delegate.calls", "statements behind the answers of one execution")
                .expected(format!("at most {} KiB", ATTACHED_MAX >> 10))
                .got(format!("{} KiB", all >> 10))
                .fix("make fewer calls, or such as make fewer themselves");
            return self.desk.put(id, Err(AskError::TooMany(why)));
        }
        // By what the answer that counts commits to: nothing else that whoever gave it sent can be read.
        let committed = settled.report.answer.and_then(|answer| answer.output);
        let output = committed.and_then(|committed| job.outputs.remove(&committed.commitment));
        let ended = match (&settled.report.outcome, output) {
            (Outcome::Completed, Some(output)) => Ok(output),
            (Outcome::Completed, None) => Err(AskError::Unanswered(
                Rejection::new("delegate.output", "output of the call").expected("what was committed to").got("none"),
            )),
            (Outcome::Failed { reason }, _) => {
                let why = Rejection::new("delegate.failed", "execution of the call").expected("completed").got(reason);
                Err(if SILENT.contains(&reason.as_str()) { AskError::Silent(why) } else { AskError::Failed(why) })
            }
        };
        self.attached_size = all;
        self.desk.attached.store(all, Ordering::Relaxed);
        self.attached.extend(new);
        self.behind.extend(loans);
        self.settled.insert(id, settled);
        self.useless = 0;
        self.desk.put(id, ended);
    }

    /// For the report.
    fn used(&self) -> Used {
        let mut seen = BTreeSet::new();
        let answers = self.settled.values().flat_map(|settled| &settled.answers);
        let answers = answers.filter(|answer| seen.insert(**answer)).copied().collect();
        let dissent: BTreeSet<Digest> = self.settled.values().flat_map(|s| s.dissent.iter().copied()).collect();
        Used {
            answers,
            dissent: dissent.into_iter().collect(),
            attached: self.attached.values().cloned().collect(),
            loans: self.behind.values().cloned().collect(),
            handed: self.machine.handed(),
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Lent { ask, loan } => {
                if let Some(ask) = ask {
                    self.granted(ask);
                }
                self.lent(*loan);
            }
            News::Refused { ask, why } => self.refused(ask, why),
            News::Ended { loan, why } => {
                if self.loans.contains_key(&loan) {
                    tracing::debug!(%loan, why, "a loan ended");
                    self.part(loan, false);
                    self.step(DelegatorEvent::Gone(loan));
                }
            }
        }
    }

    /// What this agent knows of itself when it judges a loan.
    fn standing<'a>(&'a self, revoked: &'a Revoked) -> Standing<'a> {
        Standing {
            identity: self.agent.boot.identity.enclave_id(),
            operators: &self.agent.config.operators,
            revoked,
            obeyed: self.agent.books().obeyed().0,
            now: self.agent.now(),
        }
    }

    fn lent(&mut self, lending: Lending) {
        let loan = lending.allocation.lease;
        if self.loans.contains_key(&loan) {
            return;
        }
        if self.parted.contains(&loan) || self.loans.len() >= LINES_MAX {
            return self.returns.push(loan);
        }
        let revoked = self.agent.revocations.all();
        let judged = lending::judge_lent(&lending, &self.under.own, &self.standing(&revoked));
        if let Err(why) = judged {
            tracing::warn!(%loan, %why, "a loan that is refused");
            match blame::is_lenders(&why) {
                true => self.shun(loan, &why),
                false => self.useless = self.useless.saturating_add(1),
            }
            self.avoid.insert(lending.allocation.enclave);
            self.returns.push(loan);
            return self.step(DelegatorEvent::Tick);
        }
        let (allocation, named) = (lending.allocation, lending.other.passport);
        let (enclave, until) = (allocation.enclave, allocation.until);
        self.step(DelegatorEvent::Lent { loan: Box::new(allocation), passport: Box::new(named.clone()) });
        if self.parted.contains(&loan) {
            self.avoid.insert(enclave);
            return;
        }
        self.agent.books().borrowed(loan);
        let line = Line::open(&self.agent, loan, named.clone(), &self.lines);
        let loaned = Loaned {
            line,
            enclave,
            until,
            named,
            calls: BTreeMap::new(),
            inflow: Inflow::default(),
            streams: 0,
            served: BTreeMap::new(),
            ready: false,
        };
        self.loans.insert(loan, loaned);
        // A question of whom nobody was free may have waited for this one.
        self.step(DelegatorEvent::Tick);
    }

    fn on_line(&mut self, loan: LeaseId, what: OnLine) {
        let Some(loaned) = self.loans.get_mut(&loan) else { return };
        match what {
            OnLine::Up { out, met } => {
                loaned.line.out = Some(out);
                self.shown(loan, met);
                self.step(DelegatorEvent::Opened(loan));
            }
            OnLine::Shown(passport) => self.shown(loan, passport),
            OnLine::Down => {
                loaned.line.out = None;
                loaned.ready = false;
                loaned.inflow.clear();
                self.step(DelegatorEvent::Closed(loan));
            }
            OnLine::Dead(why) => {
                tracing::debug!(%loan, %why, "a delegate that is lost");
                // Where nobody can be reached, that is not the fault of one of them; it is no reason to dial ever more, either.
                let mut others = self.loans.iter().filter(|(other, _)| **other != loan).map(|(_, other)| other);
                let nobody = others.clone().next().is_some() && others.all(|other| other.line.out.is_none());
                match why.check == UNREACHED && nobody {
                    true => self.useless = self.useless.saturating_add(1),
                    false => self.shun(loan, &why),
                }
                self.part(loan, true);
                self.step(DelegatorEvent::Gone(loan));
            }
            OnLine::Word(word) => match *word {
                ToBorrower::Session(said) => self.said(loan, said),
                ToBorrower::Answered(answered) => self.answered(loan, *answered),
                ToBorrower::Passport(peer) => self.answers_by(loan, *peer),
                ToBorrower::Fetch { digest, stream } => self.fetch(loan, digest, stream),
            },
            OnLine::Data { stream, last, bytes } => {
                let Some((arriving, gathered)) = loaned.inflow.data(stream, &bytes, last) else { return };
                let Arriving { job, key, answered, .. } = arriving;
                match gathered {
                    Ok(output) => {
                        let tell = self.gathered.clone();
                        // Committing to megabytes takes milliseconds. A driver that has ended needs no output.
                        drop(tokio::task::spawn_blocking(move || {
                            let committed = key.output(&output);
                            let _ = tell.blocking_send(Gathered { loan, job, answered, output, committed });
                        }));
                    }
                    Err(_) => self.take(loan, answered, None),
                }
            }
        }
    }

    /// A passport that the enclave of a loan shows counts beside the one that was named, if the same verifier gave it: that one was
    /// held against the tenant's trust. Of others the enclave says that it answers by them.
    fn shown(&mut self, loan: LeaseId, passport: Arc<Signed<Passport>>) {
        if self.loans.get(&loan).is_some_and(|loaned| loaned.named.prev == passport.prev) {
            self.step(DelegatorEvent::Renewed { loan, passport: Box::new((*passport).clone()) });
        }
    }

    /// The enclave of a loan says by which passport it answers: that one counts if the manager could have named it. Whether the pool's
    /// journal has it, the manager alone could say; an honest enclave holds none that it has not, and another is to blame for what it
    /// signs by one.
    fn answers_by(&mut self, loan: LeaseId, peer: Peer) {
        let Some(loaned) = self.loans.get(&loan) else { return };
        let (revoked, tenant) = (self.agent.revocations.all(), &self.under.request.tenant);
        let judged = lending::judge_later(&peer, &loaned.named, tenant, &self.standing(&revoked));
        match judged {
            Ok(()) => self.step(DelegatorEvent::Renewed { loan, passport: Box::new(peer.passport) }),
            // No answer that rests on it will be taken.
            Err(why) => tracing::warn!(%loan, %why, "a delegate answers by a passport that does not count"),
        }
    }

    fn said(&mut self, loan: LeaseId, said: Box<ToDelegator>) {
        let Some(loaned) = self.loans.get_mut(&loan) else { return };
        let (mut useless, mut unsupplied) = (None, None);
        match &*said {
            ToDelegator::Challenge { .. } => loaned.ready = true,
            ToDelegator::Refused { call, why, .. } => {
                // What was called off here gets no module either: no refusal of it is the enclave's fault.
                let waits = loaned.calls.contains_key(call) || loaned.inflow.any(|arriving| arriving.call == *call);
                let asked = loaned.calls.get(call).copied();
                loaned.forget(call);
                let job = asked.and_then(|id| Some((id, self.jobs.get_mut(&id)?)));
                let proven = job.as_ref().is_none_or(|(_, job)| job.question.assurance == Assurance::Proven);
                useless = (waits && blame::is_useless(why, proven)).then(|| why.clone());
                // What this side does not have, no enclave can be given.
                if let Some((id, job)) = job
                    && why.check == MODULE
                    && self.modules.lacks(&job.question.module)
                {
                    useless = None;
                    job.unsupplied = job.unsupplied.saturating_add(1);
                    unsupplied = (job.unsupplied >= UNFIT_MAX).then(|| (id, why.clone()));
                }
            }
            ToDelegator::Unavailable { .. } | ToDelegator::Accepted { .. } | ToDelegator::Answered { .. } => {}
        }
        self.step(DelegatorEvent::Heard { loan, message: said, output: None });
        if let Some((id, why)) = unsupplied {
            self.fail(id, why);
        }
        if let Some(why) = useless
            && self.loans.contains_key(&loan)
        {
            self.shun(loan, &why);
            self.part(loan, true);
            self.step(DelegatorEvent::Gone(loan));
        }
    }

    /// An answer whose output is still to come, or that has none. A call has one, until it is submitted again: what else is said of
    /// it is let pass, and takes no room.
    fn answered(&mut self, loan: LeaseId, answered: Answered) {
        let Some(answer) = answered.report.answer else { return };
        let Some(loaned) = self.loans.get_mut(&loan) else { return };
        let job = loaned.calls.remove(&answer.call);
        let Some((id, job)) = job.and_then(|id| Some((id, self.jobs.get(&id)?))) else { return };
        let expected = answer.output.filter(|output| output.size <= job.question.demand.output);
        match (answered.stream, expected) {
            (Some(stream), Some(output)) => {
                let key = job.asked.key.clone();
                loaned.inflow.expect(stream, output.size, Arriving { job: id, call: answer.call, key, answered });
            }
            // Of a call that failed there is none; of another the machine will see that it is missing.
            _ => self.take(loan, answered, None),
        }
    }

    fn arrived(&mut self, gathered: Gathered) {
        let Gathered { loan, job: id, answered, output, committed } = gathered;
        // Nothing is kept for an enclave that was parted with.
        if !self.loans.contains_key(&loan) {
            return;
        }
        let Some(job) = self.jobs.get_mut(&id) else { return };
        // What a report does not commit to is nobody's output: the machine will see that, too.
        let named = answered.report.answer.and_then(|answer| answer.output) == Some(committed);
        let new = named && !job.outputs.contains_key(&committed.commitment);
        if new {
            job.outputs.insert(committed.commitment, output);
        }
        self.take(loan, answered, Some(committed));
        // Nor what came with a report that does not hold.
        if new
            && self.shunned.contains_key(&loan)
            && let Some(job) = self.jobs.get_mut(&id)
        {
            job.outputs.remove(&committed.commitment);
        }
    }

    /// An answer, whole.
    fn take(&mut self, loan: LeaseId, answered: Answered, output: Option<Committed>) {
        let Answered { report, behind, .. } = answered;
        let message = Box::new(ToDelegator::Answered { report, behind });
        self.step(DelegatorEvent::Heard { loan, message, output });
    }

    /// A delegate lacks a module: it gets that of the call it has, a few times; what else it asks for would only fill memory.
    fn fetch(&mut self, loan: LeaseId, digest: Digest, stream: u64) {
        let Some(loaned) = self.loans.get_mut(&loan) else { return };
        let Some(out) = loaned.line.out.clone() else { return };
        let asked = loaned.calls.values().any(|id| self.jobs.get(id).is_some_and(|job| job.question.module == digest));
        let missing = !asked || !self.under.allows(&digest) || {
            let times = loaned.served.entry(digest).or_default();
            *times = times.saturating_add(1);
            *times > SERVED_MAX
        };
        if missing {
            if out.try_send(Out::word(ToLent::Missing { stream })).is_err() {
                loaned.line.out = None;
            }
            return;
        }
        self.modules.send(&self.agent, (digest, self.under.until()), out, stream);
    }

    fn tick(&mut self) {
        let now = self.agent.now();
        self.forget_wishes();
        let over: Vec<LeaseId> = self.loans.iter().filter(|(_, l)| l.until <= now).map(|(loan, _)| *loan).collect();
        for loan in over {
            self.part(loan, false);
            self.step(DelegatorEvent::Gone(loan));
        }
        if self.idle.is_some_and(|since| since.elapsed() >= IDLE) {
            for loan in self.loans.keys().copied().collect::<Vec<_>>() {
                self.part(loan, true);
                self.step(DelegatorEvent::Gone(loan));
            }
            // Looked at again when there was a question.
            self.idle = Some(Instant::now() + LOOK);
        }
        self.step(DelegatorEvent::Tick);
    }

    /// A loan is over for this execution; the manager is told, where it does not know.
    fn part(&mut self, loan: LeaseId, tell: bool) {
        self.loans.remove(&loan);
        self.agent.books().part(loan);
        if self.parted.insert(loan) && tell {
            self.returns.push(loan);
        }
    }
}

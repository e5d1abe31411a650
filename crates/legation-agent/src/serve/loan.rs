//! The task behind one loan of this enclave: the machine, the borrower's channel, the call that runs.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use legation_core::{
    Digest, LeaseId, Millis, Rejection, Signed,
    delegation::{
        Call, Sum,
        call::check_peer,
        session::{ANSWERS_MAX, BUSY, Delegate, DelegateAction, DelegateEvent, Now, Standing, ToDelegate, ToDelegator},
    },
    statement::{Assurance, Passport},
};
use legation_keys::Entropy;
use legation_net::{
    Channel, OsEntropy, Sender,
    delegation::{Answered, QuestionKey, Submitted, ToBorrower, ToLent},
    message::{Lending, Peer},
};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::{Instant, sleep_until},
};
use zeroize::Zeroizing;

use super::{
    answer::{self, Failed, Ran},
    proven,
};
use crate::{
    agent::Inner,
    engine::{Cancel, EngineConfig, PrepareError, Prepared},
    inflow::Inflow,
    offer::OUTPUT_BYTES_MAX,
    passports::Admitted,
    peers::{Came, OUT_MAX, Out, converse},
    status::Status,
};

/// Bytes of outputs kept to be given again, where the loan has as much memory.
const OUTPUTS_KEPT: u64 = 64 << 20;
/// How often a loan that works looks at the clock and at what was revoked.
const LOOK: Duration = Duration::from_secs(1);
/// A call that is answered or refused so soon is not said to be taken before: nobody submits it again for
/// [`RESEND`](legation_core::delegation::session::RESEND).
const SOON: Duration = Duration::from_millis(100);
/// Streams on which this side asks for modules: numbers that inputs do not have.
const FETCHES: u64 = 1 << 32;

/// What is broken where a call ends without a word.
const EXECUTION: &str = "execution of the call";

/// What happens to a loan.
pub(super) enum Event {
    /// The borrower opened a channel, and described the loan.
    Opened { channel: Channel, describe: Box<ToDelegate>, shown: watch::Receiver<Option<Admitted>> },
    /// Something came over the channel of this number.
    Came(u64, Came<ToLent>),
    /// That channel is gone.
    Closed(u64),
    /// A module that was fetched is compiled, or cannot be; nothing, if whoever compiles broke.
    Prepared(Digest, Option<Result<Arc<Prepared>, PrepareError>>),
    /// A call has run.
    Ran(Digest, Box<Result<Ran, Failed>>),
}

/// What comes on a stream.
#[derive(Clone, Copy)]
enum Expected {
    /// The input of a call.
    Input(Digest),
    /// A module, for the call that waits for it.
    Module { call: Digest, module: Digest },
}

impl Expected {
    /// For which call.
    fn call(self) -> Digest {
        match self {
            Self::Input(call) | Self::Module { call, .. } => call,
        }
    }
}

/// A call that was submitted and does not run yet.
struct Waiting {
    key: QuestionKey,
    size: u64,
    input: Option<Zeroizing<Vec<u8>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// For its input, a channel, or a module that is being compiled.
    Waits,
    /// For its module, on this stream.
    Fetches(u64),
    /// In the engine.
    Runs,
}

struct Executing {
    call: Signed<Call>,
    stop: Cancel,
    phase: Phase,
}

struct Server {
    agent: Arc<Inner>,
    lending: Arc<Lending>,
    machine: Delegate,
    /// To itself, from what it starts.
    events: mpsc::Sender<Event>,
    /// The newest channel, by number.
    line: Option<mpsc::Sender<Out<ToBorrower>>>,
    /// That channel itself, also while it ends.
    channel: Option<Sender>,
    number: u64,
    streams: u64,
    inflow: Inflow<Expected>,
    waiting: BTreeMap<Digest, Waiting>,
    executing: Option<Executing>,
    /// Calls that the borrower is still to be told are taken, and when, the first at the front.
    taken: VecDeque<(Digest, Instant)>,
    /// Whether a module is being compiled: one at a time, whoever waited for it and does not any more.
    prepares: bool,
    /// What its calls handed on so far: the grant is for all of them.
    handed: Arc<Mutex<Sum>>,
    /// Outputs of answers that may be asked for again, the oldest first.
    outputs: VecDeque<(Digest, Bytes)>,
    /// The last passport that there was.
    passport: Arc<Signed<Passport>>,
    /// Those that answers rest on which may be asked for again, the one that was used last at the end.
    rested: VecDeque<Admitted>,
    /// By which the borrower was told last that it is answered, on the newest channel.
    told: Option<Digest>,
    began: Instant,
}

/// Begins to serve a loan that was judged; until `ended`, or its time is over. Whether it does: without a passport nobody can.
#[must_use]
pub(super) fn serve(
    agent: &Arc<Inner>,
    lending: Arc<Lending>,
    events: mpsc::Sender<Event>,
    heard: mpsc::Receiver<Event>,
    ended: watch::Receiver<bool>,
) -> bool {
    let Some(Admitted { passport, .. }) = answer::passports(agent, &lending).into_iter().next() else {
        return false;
    };
    let server = Server {
        machine: Delegate::new(lending.request.clone(), lending.allocation.clone()),
        agent: agent.clone(),
        lending,
        events,
        line: None,
        channel: None,
        number: 0,
        streams: 0,
        inflow: Inflow::default(),
        waiting: BTreeMap::new(),
        executing: None,
        taken: VecDeque::new(),
        prepares: false,
        handed: Arc::default(),
        outputs: VecDeque::new(),
        passport,
        rested: VecDeque::new(),
        told: None,
        began: Instant::now(),
    };
    tokio::spawn(server.serve(heard, ended));
    true
}

impl Server {
    async fn serve(mut self, mut heard: mpsc::Receiver<Event>, mut ended: watch::Receiver<bool>) {
        let lease = self.lease();
        loop {
            self.say_taken();
            let wakes = self.wakes();
            tokio::select! {
                // It is said, or whoever could say it is gone.
                _ = ended.changed() => break,
                Some(event) = heard.recv() => self.event(event),
                () = sleep_until(wakes) => self.step(DelegateEvent::Tick),
            }
            if self.lending.allocation.until <= self.agent.now() {
                break;
            }
        }
        self.step(DelegateEvent::Ended);
        if let Some(executing) = &self.executing {
            executing.stop.cancel();
        }
        self.agent.loans.end(lease);
        self.agent.books().end(lease);
        self.agent.progress.notify_one();
        tracing::debug!(loan = %lease, "a loan of this enclave is over");
    }

    fn lease(&self) -> LeaseId {
        self.lending.allocation.lease
    }

    /// When to look again, if nothing happens before.
    fn wakes(&self) -> Instant {
        let now = self.agent.now();
        let over = self.lending.allocation.until;
        let next = self.machine.next_timeout().map_or(over, |next| next.min(over));
        let due = Duration::from_secs(next.since(now)).max(Duration::from_millis(50));
        let next = Instant::now() + if self.executing.is_some() { due.min(LOOK) } else { due };
        self.taken.front().map_or(next, |(_, at)| next.min(*at))
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Opened { channel, describe, shown } => self.opened(channel, describe, shown),
            Event::Came(number, came) if number == self.number => self.came(came),
            Event::Closed(number) if number == self.number => {
                (self.line, self.channel) = (None, None);
                self.nothing_comes();
                self.step(DelegateEvent::Closed);
            }
            // Of a channel that another has replaced.
            Event::Came(..) | Event::Closed(_) => {}
            Event::Prepared(module, made) => {
                self.prepares = false;
                // Whoever waits for it now, though another may have asked for it.
                let ready = self.ready().is_some_and(|(_, wanted)| wanted == module);
                match made {
                    Some(made) if ready => self.run(made),
                    None if ready => self.fail(broken("module of the call")),
                    _ => self.go(),
                }
            }
            Event::Ran(call, result) => self.ran(call, *result),
        }
    }

    /// The borrower's newest channel counts: it opens another when it has lost the one before.
    fn opened(&mut self, channel: Channel, describe: Box<ToDelegate>, shown: watch::Receiver<Option<Admitted>>) {
        self.number = self.number.saturating_add(1);
        let number = self.number;
        // At once, whatever waits on it: else its borrower fills the agent's seats with channels that it does not read.
        if let Some(replaced) = self.channel.replace(channel.sender().clone()) {
            let why =
                Rejection::new("delegate.session", "channel of the loan").expected("the newest").got("an older one");
            replaced.revoke(why.fix("use the channel that was opened last"));
        }
        let (out, words) = mpsc::channel(OUT_MAX);
        let events = self.events.clone();
        tokio::spawn(async move {
            let wrap = |came| Event::Came(number, came);
            let error = converse::<ToLent, ToBorrower, _>(channel, words, shown, &events, wrap).await;
            tracing::debug!(%error, "a borrower's channel has ended");
            // A loan that is over needs no more to know.
            let _ = events.send(Event::Closed(number)).await;
        });
        (self.line, self.told) = (Some(out), None);
        self.nothing_comes();
        let mut challenge = [0; 32];
        OsEntropy.fill(&mut challenge);
        self.step(DelegateEvent::Opened { challenge: Digest::from_bytes(challenge) });
        self.step(DelegateEvent::Heard(describe));
        self.go();
    }

    fn came(&mut self, came: Came<ToLent>) {
        match came {
            Came::Word(word) => match *word {
                ToLent::Submit(submitted) => self.submitted(*submitted),
                // A call comes with its key, or not at all.
                ToLent::Session(said) if matches!(*said, ToDelegate::Submit(_)) => {
                    tracing::warn!(loan = %self.lease(), "a call without the key of its question: ignored");
                }
                ToLent::Session(said) => self.step(DelegateEvent::Heard(said)),
                ToLent::Missing { stream } => {
                    if self.executing.as_ref().is_some_and(|executing| executing.phase == Phase::Fetches(stream)) {
                        self.missing();
                    }
                }
            },
            Came::Data { stream, last, bytes } => match self.inflow.data(stream, &bytes, last) {
                None => {}
                Some((Expected::Input(call), input)) => {
                    if let (Some(waiting), Ok(input)) = (self.waiting.get_mut(&call), input) {
                        waiting.input = Some(input);
                    }
                    self.go();
                }
                Some((Expected::Module { module, .. }, wasm)) => self.prepare(module, wasm.ok()),
            },
            Came::Shown(passport) => {
                if let Err(why) = check_peer(&self.lending.other.passport, &passport) {
                    tracing::warn!(%why, "a borrower became another");
                    self.line = None;
                }
            }
        }
    }

    /// Nothing that was expected comes any more: its channel is gone. Over the next each call is submitted again, and is taken then.
    fn nothing_comes(&mut self) {
        self.inflow.clear();
        self.taken.clear();
        if let Some(executing) = self.executing.as_mut().filter(|e| matches!(e.phase, Phase::Fetches(_))) {
            executing.phase = Phase::Waits;
        }
    }

    /// A call, whose input follows: room is made for it once the machine has taken it, and for no other.
    fn submitted(&mut self, submitted: Submitted) {
        let Submitted { call, stream, key } = submitted;
        let (digest, size) = (call.digest(), call.input.size);
        if !self.machine.holds(&digest)
            && !self.machine.has_answered(&digest)
            && let Err(why) = self.room(&call)
        {
            return self.say(ToDelegator::Refused { call: digest, ran: false, why });
        }
        self.step(DelegateEvent::Heard(Box::new(ToDelegate::Submit(call))));
        let runs = self.executing.as_ref().is_some_and(|e| e.call.digest() == digest && e.phase == Phase::Runs);
        let here = self.waiting.get(&digest).is_some_and(|waiting| waiting.input.is_some());
        if runs || here || !self.machine.holds(&digest) {
            return;
        }
        self.forget(&digest);
        self.waiting.insert(digest, Waiting { key, size: size.0, input: None });
        self.give_way();
        self.inflow.expect(stream, size, Expected::Input(digest));
    }

    /// Bytes of memory that the loan sets aside.
    fn memory(&self) -> u64 {
        self.lending.allocation.loan.map_or(0, |terms| terms.demand.memory.0)
    }

    /// Bytes of inputs of calls that wait.
    fn waits(&self) -> u64 {
        self.waiting.values().map(|waiting| waiting.size).fold(0, u64::saturating_add)
    }

    /// Bytes of the input of the call that runs.
    fn runs(&self) -> u64 {
        let running = self.executing.as_ref().filter(|executing| executing.phase == Phase::Runs);
        running.map_or(0, |executing| executing.call.input.size.0)
    }

    /// Bytes of outputs that are kept.
    fn kept(&self) -> u64 {
        self.outputs.iter().map(|(_, output)| output.len() as u64).fold(0, u64::saturating_add)
    }

    /// Outputs that are kept give way to inputs, the oldest first: whoever makes a new call has those before, or gave them up.
    fn give_way(&mut self) {
        let room = self.memory().saturating_sub(self.waits()).saturating_sub(self.runs());
        while self.kept() > room {
            self.outputs.pop_front();
        }
    }

    /// Whether a new call fits into what the loan sets aside: its input beside those that are here, and what is kept of its output.
    fn room(&self, call: &Call) -> Result<(), Rejection> {
        let most = self.memory();
        let held = call.input.size.0.saturating_add(self.waits());
        if held > most {
            return Err(Rejection::new("delegate.room", "inputs of calls that wait")
                .expected(format!("at most {most} bytes, the memory of the loan"))
                .got(held)
                .fix("hand on smaller inputs, or wait for answers"));
        }
        let with = held.saturating_add(self.runs());
        if with > most {
            return Err(Rejection::new(BUSY, "inputs of calls that wait, and of the one that runs")
                .expected(format!("at most {most} bytes, the memory of the loan"))
                .got(with)
                .fix("ask again when the call that runs has ended"));
        }
        let output = most.min(OUTPUT_BYTES_MAX.0);
        if call.demand.output.0 > output {
            return Err(Rejection::new("delegate.room", "output that a call may have")
                .expected(format!("at most {output} bytes, the memory of the loan or what any output may be"))
                .got(call.demand.output)
                .fix("allow less output"));
        }
        Ok(())
    }

    /// Nothing is waited for any more on account of this call.
    fn forget(&mut self, call: &Digest) {
        self.waiting.remove(call);
        self.inflow.retain(|expected| expected.call() != *call);
    }

    fn now(&self) -> Now {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { date: self.agent.now(), ms: Millis(ms) }
    }

    /// Tells the machine, and does what it says.
    fn step(&mut self, event: DelegateEvent) {
        if let Some(Admitted { passport, .. }) = answer::passports(&self.agent, &self.lending).into_iter().next() {
            self.passport = passport;
        }
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let revoked = self.agent.revocations.all();
            let now = self.now();
            let standing = Standing { passport: &self.passport, revoked: &revoked };
            for action in self.machine.handle(event, now, &standing) {
                events.extend(self.act(action));
            }
        }
    }

    fn act(&mut self, action: DelegateAction) -> Option<DelegateEvent> {
        match action {
            DelegateAction::Send(said) => self.say(*said),
            DelegateAction::Execute(call) => {
                self.executing = Some(Executing { call, stop: Cancel::new(), phase: Phase::Waits });
                self.go();
            }
            DelegateAction::Stop { call } => {
                let executing = self.executing.as_ref().filter(|executing| executing.call.digest() == call)?;
                executing.stop.cancel();
                if executing.phase != Phase::Runs {
                    return self.give_up(stopped());
                }
            }
        }
        None
    }

    /// The call that was to run does not.
    fn give_up(&mut self, why: Rejection) -> Option<DelegateEvent> {
        let call = self.executing.take()?.call.digest();
        self.forget(&call);
        self.idle();
        Some(DelegateEvent::Failed { call, ran: false, why })
    }

    fn fail(&mut self, why: Rejection) {
        if let Some(failed) = self.give_up(why) {
            self.step(failed);
        }
    }

    fn idle(&self) {
        self.agent.books().calls(self.lease(), false);
        self.agent.progress.notify_one();
    }

    fn say(&mut self, said: ToDelegator) {
        let out = match said {
            ToDelegator::Accepted { call } => {
                if self.taken.iter().all(|(taken, _)| *taken != call) {
                    self.taken.push_back((call, Instant::now() + SOON));
                }
                return;
            }
            ToDelegator::Answered { report, behind } => {
                // What this enclave answers with has one.
                let Some(answer) = report.answer else { return };
                let call = answer.call;
                self.forget(&call);
                self.taken.retain(|(taken, _)| *taken != call);
                self.tell_passport(report.prev.get(1).copied());
                let kept = self.outputs.iter().find(|(of, _)| *of == call).map(|(_, output)| output.clone());
                match (answer.output, kept) {
                    (None, _) => Out::word(ToBorrower::Answered(Box::new(Answered { report, behind, stream: None }))),
                    (Some(_), Some(output)) => {
                        self.streams = self.streams.saturating_add(1);
                        let stream = self.streams;
                        let word = ToBorrower::Answered(Box::new(Answered { report, behind, stream: Some(stream) }));
                        Out { word: Some(word), data: Some((stream, output)) }
                    }
                    (Some(_), None) => {
                        let why = Rejection::new("delegate.forgotten", "output of a call that was answered")
                            .expected("one that is still kept")
                            .got("one that had to make room")
                            .fix("ask another enclave");
                        Out::word(ToBorrower::Session(Box::new(ToDelegator::Refused { call, ran: true, why })))
                    }
                }
            }
            said => {
                if let ToDelegator::Refused { call, .. } = &said {
                    self.forget(call);
                    self.taken.retain(|(taken, _)| taken != call);
                }
                Out::word(ToBorrower::Session(Box::new(said)))
            }
        };
        self.put(out);
    }

    /// Tells the borrower what was taken a while ago, and is neither answered nor refused.
    fn say_taken(&mut self) {
        let now = Instant::now();
        while let Some((call, _)) = self.taken.front().filter(|(_, at)| *at <= now).copied() {
            self.taken.pop_front();
            self.put(Out::word(ToBorrower::Session(Box::new(ToDelegator::Accepted { call }))));
        }
    }

    /// Says by which passport the next answer is given, unless the borrower heard that on this channel last: it knows the one that the
    /// manager named, and this enclave may have others since, or of other verifiers.
    fn tell_passport(&mut self, digest: Option<Digest>) {
        if self.told == digest {
            return;
        }
        let Some(admitted) = self.rested.iter().find(|admitted| Some(admitted.digest()) == digest) else { return };
        let (passport, appointment) = ((*admitted.passport).clone(), (*admitted.appointment).clone());
        self.told = digest;
        self.put(Out::word(ToBorrower::Passport(Box::new(Peer { passport, appointment }))));
    }

    /// Puts something on the borrower's channel. One that takes no more ends: its borrower does not read. What was not said then is
    /// asked for again over the next.
    fn put(&mut self, out: Out<ToBorrower>) {
        if let Some(line) = &self.line
            && line.try_send(out).is_err()
        {
            self.line = None;
        }
    }

    /// The call that is to run, and its module, where its input is here and nothing was done about the module yet.
    fn ready(&self) -> Option<(Digest, Digest)> {
        let executing = self.executing.as_ref().filter(|executing| executing.phase == Phase::Waits)?;
        let call = executing.call.digest();
        self.waiting.get(&call)?.input.as_ref()?;
        Some((call, executing.call.module))
    }

    /// Brings the call that is to run a step on, if what it waits for is here.
    fn go(&mut self) {
        let Some((call, module)) = self.ready() else { return };
        if let Some(module) = self.agent.bench.engine.cached(&module) {
            return self.run(Ok(module));
        }
        if self.prepares || self.line.is_none() {
            return;
        }
        self.streams = self.streams.saturating_add(1);
        let stream = FETCHES | self.streams;
        if let Some(executing) = &mut self.executing {
            executing.phase = Phase::Fetches(stream);
        }
        self.inflow.expect(stream, EngineConfig::default().module_max, Expected::Module { call, module });
        self.put(Out::word(ToBorrower::Fetch { digest: module, stream }));
    }

    /// Compiles what came as a module, if it is the one that was asked for.
    fn prepare(&mut self, module: Digest, wasm: Option<Zeroizing<Vec<u8>>>) {
        let Some(wasm) = wasm.filter(|wasm| Digest::of(wasm) == module) else { return self.missing() };
        if let Some(prover) = &self.agent.prover {
            prover.keep_module(module, &wasm);
        }
        if let Some(executing) = &mut self.executing {
            executing.phase = Phase::Waits;
        }
        self.prepares = true;
        let (engine, events) = (self.agent.bench.engine.clone(), self.events.clone());
        let agent = self.agent.clone();
        tokio::spawn(async move {
            // One compilation of a module at a time has a thread; it keeps its turn when this loan is over.
            let turn = agent.gates.of(module).lock_owned().await;
            let leave = agent.gates.making().await;
            if events.is_closed() {
                return;
            }
            let making = spawn_blocking(move || {
                let made = engine.prepare(&wasm);
                drop((turn, leave));
                made
            });
            let made = making.await.ok();
            // A loan that is over needs no module.
            let _ = events.send(Event::Prepared(module, made)).await;
        });
    }

    /// The borrower does not have the module that a call waits for.
    fn missing(&mut self) {
        let why = Rejection::new("delegate.module", "module of the call")
            .expected("one that its delegator can give")
            .got("none, or other bytes")
            .fix("upload the module to the pool");
        self.fail(why);
    }

    fn run(&mut self, module: Result<Arc<Prepared>, PrepareError>) {
        let Some(lineage) = self.machine.lineage().cloned() else { return };
        let Some(executing) = self.executing.as_mut() else { return };
        let call = executing.call.clone();
        let Some(Waiting { key, input: Some(input), .. }) = self.waiting.remove(&call.digest()) else { return };
        executing.phase = Phase::Runs;
        let stop = executing.stop.clone();
        let (digest, assurance) = (call.digest(), call.assurance);
        let job = answer::Job {
            agent: self.agent.clone(),
            lending: self.lending.clone(),
            lineage,
            call,
            key,
            module,
            input: Arc::new(input),
            stop: stop.clone(),
            handed: self.handed.clone(),
        };
        self.agent.books().calls(self.lease(), true);
        let events = self.events.clone();
        // However it ends, it is said: else the loan would wait for it, and take calls that never run. A loan that is over needs no
        // answer.
        match assurance {
            Assurance::Proven => {
                let running = tokio::spawn(async move { proven::run(job, &stop).await });
                tokio::spawn(async move {
                    let result = running.await.unwrap_or_else(|_| Err(Failed::after(broken(EXECUTION))));
                    let _ = events.send(Event::Ran(digest, Box::new(result))).await;
                });
            }
            // By the thread that ran it: no other has to wake for it.
            Assurance::Attested | Assurance::Replicated { .. } => drop(spawn_blocking(move || {
                let result = catch_unwind(AssertUnwindSafe(|| answer::run(job)));
                let result = result.unwrap_or_else(|_| Err(Failed::after(broken(EXECUTION))));
                let _ = events.blocking_send(Event::Ran(digest, Box::new(result)));
            })),
        }
    }

    fn ran(&mut self, call: Digest, result: Result<Ran, Failed>) {
        let ours = self.executing.take_if(|executing| executing.call.digest() == call).is_some();
        if !ours {
            return;
        }
        self.idle();
        match result {
            Err(Failed { why, ran }) => self.step(DelegateEvent::Failed { call, ran, why }),
            Ok(Ran { report, admitted, behind, output }) => {
                if let Some(monitored) = report.monitor {
                    self.agent.tell(Status::Monitored { lease: self.lease(), monitored });
                }
                if let Some(output) = output {
                    self.outputs.push_back((call, Bytes::from_owner(output)));
                }
                let most = OUTPUTS_KEPT.min(self.memory());
                while self.outputs.len() > ANSWERS_MAX || (self.outputs.len() > 1 && self.kept() > most) {
                    self.outputs.pop_front();
                }
                self.rested.retain(|known| known.digest() != admitted.digest());
                self.rested.push_back(admitted);
                // No more answers than these may be asked for again.
                if self.rested.len() > ANSWERS_MAX {
                    self.rested.pop_front();
                }
                self.step(DelegateEvent::Ran { report: Box::new(report), behind });
            }
        }
    }
}

/// What ran here for a call ended without a word.
fn broken(claim: &str) -> Rejection {
    Rejection::new("delegate.broken", claim.to_owned())
        .expected("an end")
        .got("none: this enclave failed")
        .fix("ask another enclave")
}

fn stopped() -> Rejection {
    Rejection::new("delegate.cancelled", "the call").expected("somebody who waits for it").got("nobody")
}

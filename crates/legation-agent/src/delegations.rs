//! What a running module asks of other enclaves, on this side: from the engine's question to the report's `prev`.
//!
//! ```text
//! engine thread                driver (one task for each execution that asks)                 lines (one for each loan)
//!   | ask: checked, committed -->| core's Delegator: borrows, calls, retries, votes <------------>| channel to the delegate
//!   | wait <---- desk ----------|   Borrow, GiveBack ---> manager ---> Lent, LoanEnded           |
//!   | finish ------------------->| answers for the report; every loan given back                  |
//! ```
//! The machine in `legation_core::delegation::session` decides; the driver does what it says. Loans stay with their channels
//! while the execution asks, so only its first calls wait for them. Nothing here outlives the execution.

mod blame;
mod driver;
mod line;
mod modules;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc as blocking,
    },
    time::{Duration, Instant},
};

use legation_core::{
    Bytes, Digest, Envelope, Fuel, LeaseId, Millis, Rejection, UnixTime,
    delegation::{
        CallDemand, Sum,
        attenuate::purse,
        session::{JobId, Question},
    },
    proven::{PROOFS_MAX, may_be_assured},
    statement::{Assurance, Delegable},
};
use legation_net::{OsEntropy, delegation::QuestionKey, message::Lending};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::{
    agent::Inner,
    engine::{Ask, AskError, AskOptions, Delegations},
    offer::Under,
};

/// Work allowed for a call where the question does not say.
const FUEL_DEFAULT: Fuel = Fuel(1_000_000_000);
/// Memory allowed for it.
const MEMORY_DEFAULT: Bytes = Bytes::mib(64);
/// Time allowed for it.
const TIME_DEFAULT: Millis = Millis(10_000);
/// Most output of one answer.
const OUTPUT_MAX: Bytes = Bytes::mib(64);
/// Bytes of statements that one report may bring along, as they travel: a control message holds them, with room for the report.
const ATTACHED_MAX: usize = 640 << 10;
/// What the statements of one call come to, about: so much is set aside for each that is asked.
const ATTACHED_EACH: usize = 8 << 10;
/// How long the end of an execution waits for the list of its answers: the driver is never busy for long.
const FINISH: Duration = Duration::from_secs(5);
/// News of a manager that one driver has not heard yet.
const NEWS_MAX: usize = 256;

impl Under {
    fn passed(&self) -> impl Iterator<Item = &Delegable> {
        self.grants.iter().filter_map(|grant| grant.delegable.as_ref())
    }

    /// Whether a module may be handed on by all grants.
    fn allows(&self, module: &Digest) -> bool {
        self.passed().all(|passed| passed.modules.contains(module))
    }

    fn fuel(&self) -> Fuel {
        self.passed().map(|passed| passed.fuel).min().unwrap_or_default()
    }

    /// The weakest assurance that every grant takes.
    fn assurance(&self) -> Assurance {
        self.passed().map(|passed| passed.assurance).fold(Assurance::Attested, Assurance::both)
    }

    /// Until when anything may be asked.
    fn until(&self) -> UnixTime {
        self.own.until
    }
}

/// What the report of an execution says of the calls it made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Used {
    /// Answers, each once, in the order of the questions.
    pub(crate) answers: Vec<Digest>,
    /// Of these, those that disagreed, ascending.
    pub(crate) dissent: Vec<Digest>,
    /// Statements that they rest on and nobody else has, each once.
    pub(crate) attached: Vec<Envelope>,
    /// Loans and passports behind them, each once, for whoever is answered in turn.
    pub(crate) loans: Vec<Envelope>,
    /// What was handed on by these grants, before and now.
    pub(crate) handed: Sum,
}

/// What the engine's thread asks of the driver.
enum Order {
    Ask { job: JobId, question: Box<Question>, asked: Asked },
    Forget(JobId),
    Finish(blocking::SyncSender<Used>),
}

/// A question's own bytes, beside what statements say of it.
struct Asked {
    key: QuestionKey,
    input: bytes::Bytes,
}

/// What a driver hears of the manager.
pub(crate) enum News {
    Lent { ask: Option<u64>, loan: Box<Lending> },
    Refused { ask: u64, why: Rejection },
    Ended { loan: LeaseId, why: String },
}

/// Where answers lie until the engine takes them.
#[derive(Default)]
struct Desk {
    slots: Mutex<HashMap<u64, Slot>>,
    ended: Condvar,
    /// Bytes of statements that the report will bring along.
    attached: AtomicUsize,
}

enum Slot {
    /// By how many enclaves it is to be answered.
    Waiting(usize),
    Ended(Result<Zeroizing<Vec<u8>>, AskError>),
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A question ended. What nobody waits for any more is dropped.
    fn put(&self, job: JobId, ended: Result<Zeroizing<Vec<u8>>, AskError>) {
        if let Some(slot @ Slot::Waiting(_)) = self.lock().get_mut(&job.0) {
            *slot = Slot::Ended(ended);
        }
        self.ended.notify_all();
    }
}

/// Hands on what one execution asks.
pub(crate) struct Handing {
    agent: Arc<Inner>,
    under: Under,
    desk: Arc<Desk>,
    next: AtomicU64,
    /// Questions that were to be proven.
    proven: AtomicUsize,
    /// To the driver, once there is one: an execution that asks nothing starts none.
    orders: Mutex<Option<mpsc::UnboundedSender<Order>>>,
}

impl Handing {
    pub(crate) fn new(agent: Arc<Inner>, under: Under) -> Self {
        Self {
            agent,
            under,
            desk: Arc::default(),
            next: AtomicU64::new(1),
            proven: AtomicUsize::new(0),
            orders: Mutex::default(),
        }
    }

    /// The execution is over: what its report is to say. Every loan is given back. To be called on a thread that may wait.
    ///
    /// # Errors
    /// `agent.calls`: nobody says which answers it used. A report that left them out would say that this enclave did it all: so there
    /// must be none.
    pub(crate) fn finish(&self) -> Result<Used, Rejection> {
        let Some(orders) = self.orders().take() else {
            return Ok(Used { handed: self.under.spent, ..Used::default() });
        };
        let untold = || {
            Rejection::new("agent.calls", "calls of the execution, for its report")
                .expected("those that it made, with their answers")
                .got("nothing in time")
                .fix("nothing: the work is leased anew")
        };
        let (answer, used) = blocking::sync_channel(1);
        orders.send(Order::Finish(answer)).map_err(|_| untold())?;
        used.recv_timeout(FINISH).map_err(|_| untold())
    }

    /// All that may be handed on by these grants: what counts as handed on where nobody knows.
    pub(crate) fn all(&self) -> Sum {
        purse(&self.under.grants)
    }

    fn orders(&self) -> MutexGuard<'_, Option<mpsc::UnboundedSender<Order>>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Orders are few: as many as questions that the engine lets be open, twice.
    fn order(&self, order: Order) -> Result<(), Rejection> {
        let mut orders = self.orders();
        let sender = orders.get_or_insert_with(|| driver::start(&self.agent, &self.under, &self.desk));
        sender.send(order).map_err(|_| {
            Rejection::new("delegate.driver", "whoever hands questions on").expected("it to run").got("it ended")
        })
    }

    /// What the question asks, within what may be handed on at all.
    fn question(&self, ask: &Ask<'_>, key: &QuestionKey) -> Result<Question, AskError> {
        let (options, most) = (ask.options, &self.under.demand);
        let refuse = |check: &str, claim: &str| Rejection::new(&format!("delegate.{check}"), claim.to_owned());
        if !self.under.allows(&ask.module) {
            return Err(AskError::NotAllowed(
                refuse("module", "module to hand on")
                    .expected("one that request and grants let be handed on")
                    .got(ask.module)
                    .fix("name it in `delegates` of the fragment, and in `delegable` of every grant"),
            ));
        }
        let left = Millis(self.under.until().since(self.agent.now()).saturating_mul(1000));
        let demand = CallDemand {
            // A part of what there is: another question may come.
            fuel: options.fuel.unwrap_or(FUEL_DEFAULT.min(Fuel((self.under.fuel().0 / 4).max(1)))),
            memory: options.memory.unwrap_or(MEMORY_DEFAULT.min(most.memory)),
            // No loan outlasts the execution.
            time: options.time_ms.unwrap_or(TIME_DEFAULT.min(most.time).min(left)),
            output: ask.output,
        };
        // What a delegate keeps of an output is within what its loan sets aside.
        let output_max = OUTPUT_MAX.min(most.memory);
        if demand.memory > most.memory || demand.time > most.time || demand.output > output_max {
            return Err(AskError::Invalid(
                refuse("demand", "memory, time and output of the call")
                    .expected(format!("at most {}, {} ms and {output_max}", most.memory, most.time.0))
                    .got(format!("{}, {} ms and {}", demand.memory, demand.time.0, demand.output))
                    .fix("a call may have what its fragment has: ask for less, or give the fragment more"),
            ));
        }
        if demand.fuel > self.under.fuel() || demand.fuel == Fuel::ZERO {
            return Err(AskError::NotAllowed(
                refuse("fuel", "fuel of the call")
                    .expected(format!("some, at most {}", self.under.fuel()))
                    .got(demand.fuel)
                    .fix("ask for less, or have more granted to be handed on"),
            ));
        }
        let assurance = options.assurance.unwrap_or_else(|| self.under.assurance());
        assurance.validate().map_err(AskError::Invalid)?;
        may_be_assured(assurance, &self.under.request.data).map_err(AskError::NotAllowed)?;
        if assurance == Assurance::Proven && self.proven.fetch_add(1, Ordering::Relaxed) >= PROOFS_MAX {
            return Err(AskError::TooMany(
                refuse("proofs", "calls of one execution that are to be proven")
                    .expected(format!("at most {PROOFS_MAX}, as many proofs as a receipt may have"))
                    .got("more")
                    .fix("have fewer and larger parts proven"),
            ));
        }
        let within = Millis(u64::try_from(ask.within.as_millis()).unwrap_or(u64::MAX)).min(left);
        Ok(Question {
            question: ask.question,
            module: ask.module,
            args: options.args.clone(),
            input: key.input(ask.input),
            demand,
            assurance,
            require: options.require.clone(),
            within,
        })
    }
}

impl Delegations for Handing {
    fn copies(&self, options: &AskOptions) -> u8 {
        options.assurance.unwrap_or_else(|| self.under.assurance()).copies()
    }

    fn ask(&self, ask: &Ask<'_>) -> Result<u64, AskError> {
        let waits = |slot: &Slot| if let Slot::Waiting(copies) = slot { *copies } else { 0 };
        let waiting: usize = self.desk.lock().values().map(waits).sum();
        let attached = self.desk.attached.load(Ordering::Relaxed);
        let copies = usize::from(self.copies(ask.options));
        if attached.saturating_add(waiting.saturating_add(copies).saturating_mul(ATTACHED_EACH)) > ATTACHED_MAX {
            return Err(AskError::TooMany(
                Rejection::new("delegate.calls", "calls of one execution")
                    .expected(format!("as many as fit into its report, {} KiB", ATTACHED_MAX >> 10))
                    .got(format!("{} KiB of statements, {waiting} calls that go on", attached >> 10))
                    .fix("make fewer and larger calls"),
            ));
        }
        let key = QuestionKey::generate(&mut OsEntropy);
        let question = Box::new(self.question(ask, &key)?);
        let job = JobId(self.next.fetch_add(1, Ordering::Relaxed));
        let input = bytes::Bytes::from_owner(Zeroizing::new(ask.input.to_vec()));
        let asked = Asked { key, input };
        self.desk.lock().insert(job.0, Slot::Waiting(copies));
        self.order(Order::Ask { job, question, asked }).map_err(|why| {
            self.desk.lock().remove(&job.0);
            AskError::Unanswered(why)
        })?;
        Ok(job.0)
    }

    fn wait(&self, question: u64, most: Duration) -> Option<Result<Zeroizing<Vec<u8>>, AskError>> {
        let until = Instant::now().checked_add(most)?;
        let mut slots = self.desk.lock();
        loop {
            match slots.get(&question) {
                Some(Slot::Waiting(_)) => {}
                Some(Slot::Ended(Err(error))) => return Some(Err(error.clone())),
                Some(Slot::Ended(Ok(_))) => break,
                None => {
                    let why = Rejection::new("delegate.question", "question").expected("one that is open").got("none");
                    return Some(Err(AskError::Unanswered(why)));
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            (slots, _) = self.desk.ended.wait_timeout(slots, left).unwrap_or_else(PoisonError::into_inner);
        }
        match slots.remove(&question) {
            Some(Slot::Ended(ended)) => Some(ended),
            _ => None,
        }
    }

    fn forget(&self, question: u64) {
        self.desk.lock().remove(&question);
        if let Some(orders) = &*self.orders() {
            // A driver that has ended has nothing to forget.
            let _ = orders.send(Order::Forget(JobId(question)));
        }
    }
}

/// For a call whose grants would let parts be run by others, where whoever asked set nothing aside for that: others who are asked the
/// same may have been given some.
#[derive(Debug)]
pub(crate) struct Withheld;

impl Delegations for Withheld {
    fn ask(&self, _: &Ask<'_>) -> Result<u64, AskError> {
        Err(AskError::NotAllowed(
            Rejection::new("delegate.allowed", "what this call may have run by others")
                .expected("some of what the grants let be passed on")
                .got("nothing: it is set aside for others, or used up")
                .fix("grant more to hand on, or ask fewer enclaves at once"),
        ))
    }

    fn wait(&self, _: u64, _: Duration) -> Option<Result<Zeroizing<Vec<u8>>, AskError>> {
        None
    }

    fn forget(&self, _: u64) {}
}

impl fmt::Debug for Handing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handing({})", self.under.own.lease)
    }
}

/// The drivers of this agent, by the promise that their loans are for.
#[derive(Default)]
pub(crate) struct Borrowers {
    drivers: Mutex<BTreeMap<LeaseId, mpsc::Sender<News>>>,
    asks: AtomicU64,
}

impl Borrowers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<LeaseId, mpsc::Sender<News>>> {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name for a wish that no other of this boot has.
    fn ask(&self) -> u64 {
        self.asks.fetch_add(1, Ordering::Relaxed)
    }

    fn enter(&self, lease: LeaseId) -> mpsc::Receiver<News> {
        let (news, heard) = mpsc::channel(NEWS_MAX);
        self.lock().insert(lease, news);
        heard
    }

    /// A driver hears no more. Another may have entered under the same promise by now, and stays.
    fn leave(&self, lease: LeaseId) {
        let mut drivers = self.lock();
        if drivers.get(&lease).is_some_and(|news| news.is_closed()) {
            drivers.remove(&lease);
        }
    }

    /// Hands a loan to whoever borrows under that promise; nothing where nobody does any more.
    pub(crate) fn lent(&self, ask: Option<u64>, loan: Box<Lending>) -> Option<()> {
        let of = loan.borrower.lease;
        let driver = self.lock().get(&of).cloned()?;
        driver.try_send(News::Lent { ask, loan }).ok()
    }

    /// No loan came of a wish.
    pub(crate) fn refused(&self, ask: u64, why: &Rejection) {
        for driver in self.lock().values() {
            // Whoever is too busy to hear it asks again when its question has waited.
            let _ = driver.try_send(News::Refused { ask, why: why.clone() });
        }
    }

    /// A loan is over, whosever it was.
    pub(crate) fn ended(&self, loan: LeaseId, why: &str) {
        for driver in self.lock().values() {
            let _ = driver.try_send(News::Ended { loan, why: why.to_owned() });
        }
    }
}

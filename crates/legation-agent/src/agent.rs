//! The agent: who this boot is, what all its connections share, and the loop that keeps one of them open.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use legation_core::{
    EnclaveId, Rejection, Revocation, RevocationEpoch, Revoked, Signed, Signer, UnixTime,
    claims::{Configuration, Role},
    revocation::REVOCATIONS_MAX,
    statement::Passport,
    unit::Bytes,
};
use legation_keys::{Entropy, IdentityKey, SealingKey};
use legation_log::observer::Observer;
use legation_net::{
    AnchoredJudge, Channel, ChannelError, Clock, Credential, Endpoint, OsEntropy, Revocations, Timing, tls::TlsError,
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, sleep},
};

use crate::{
    admission::Boot,
    assignment::Gates,
    attester::Attester,
    books::Books,
    config::AgentConfig,
    custody::{self, CustodyError, work::Desk},
    delegations::Borrowers,
    engine::{Engine, EngineConfig, EngineError, INSTANCES_MAX},
    execution::Bench,
    intake::Intake,
    monitor::{Monitor, Settings},
    offer::Work,
    passports::{Admitted, Passports},
    patience::{Patience, Trouble},
    peers::{self, Peers},
    prover::{self, Prover},
    resources::Machine,
    search::{STANDBY, Search, is_passing},
    serve::Loans,
    session::{self, Ended, Link},
    shutdown::{Shutdown, Stage},
    status::Status,
};

/// Memory for inputs, as they travel, of all fragments together: those that find none wait.
const INPUT_MEMORY: Bytes = Bytes::mib(256);
/// Offers judged at once; more wait in the channel, whose queues are bounded.
const JUDGING_MAX: usize = 16;

/// How an agent with several managers keeps watch over the one that leads: another may lead long before one that is frozen
/// would be given up otherwise.
const WATCHFUL: Timing = Timing { ping: Duration::from_secs(1), silence: Duration::from_secs(3), ..Timing::DEFAULT };

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration asks for more than the machine has.
    #[error("machine cannot offer what is configured: {0}")]
    Capacity(Box<Rejection>),
    /// What `[custody]` and `[state]` ask for cannot be had.
    #[error("custodian cannot be: {0}")]
    Custody(Box<CustodyError>),
    /// What `[prover]` names cannot be used.
    #[error("prover cannot be used: {0}")]
    Prover(Box<Rejection>),
    /// The engine did not start.
    #[error("engine did not start: {0}")]
    Engine(#[from] EngineError),
    /// The identity key cannot be used with TLS.
    #[error("identity key cannot be used: {0}")]
    Tls(#[from] TlsError),
}

/// How an agent ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Asked to, with nothing left to do.
    Drained,
    /// Asked to, with work left behind: its time was over, or it was asked to go at once.
    Stopped,
}

/// An agent with the keys of this boot, not connected yet.
pub struct Agent(Arc<Inner>);

/// Is called with everything that happens.
type Listener = dyn Fn(&Status) + Send + Sync;

/// What all connections and executions share.
pub(crate) struct Inner {
    pub(crate) config: AgentConfig,
    pub(crate) boot: Boot,
    pub(crate) attester: Arc<dyn Attester>,
    pub(crate) endpoint: Endpoint,
    pub(crate) peers: Peers,
    /// Executions here that may borrow others.
    pub(crate) borrowers: Borrowers,
    /// Loans of this enclave to others.
    pub(crate) loans: Loans,
    /// What proves executions, where that is configured.
    pub(crate) prover: Option<Arc<Prover>>,
    /// Its part in keeping a swarm key, where that is configured.
    pub(crate) custody: Option<Desk>,
    pub(crate) bench: Bench,
    pub(crate) memory_max: Bytes,
    pub(crate) intake: Intake,
    pub(crate) gates: Gates,
    pub(crate) judging: Arc<Semaphore>,
    /// In KiB.
    pub(crate) input_memory: Arc<Semaphore>,
    pub(crate) shutdown: Shutdown,
    /// The connection on which this agent is present.
    pub(crate) link: watch::Sender<Option<Arc<Link>>>,
    /// Something ended that a draining agent waits for.
    pub(crate) progress: Notify,
    leave_by: OnceLock<Instant>,
    books: Mutex<Books>,
    passports: Mutex<Passports>,
    /// What is revoked: shared with the judge of all channels.
    pub(crate) revocations: Revocations,
    /// What it heard of transparency logs.
    pub(crate) observer: Mutex<Observer>,
    listener: OnceLock<Box<Listener>>,
}

impl Agent {
    /// Measures the machine, makes the keys of this boot, opens a custodian's state and starts the engine. Nothing is connected before
    /// [`Self::run`].
    ///
    /// # Errors
    /// The machine has less than the configuration offers, state cannot be had, or engine or TLS do not start.
    pub fn start(config: AgentConfig, attester: Arc<dyn Attester>, shutdown: Shutdown) -> Result<Self, StartError> {
        let machine = Machine::measure();
        let mut configuration = machine.offer(&config).map_err(|why| StartError::Capacity(Box::new(why)))?;
        let prover = config.prover.as_ref().map(Prover::open).transpose();
        let prover = prover.map_err(|why| StartError::Prover(Box::new(why)))?.map(Arc::new);
        configuration.prover = prover.as_ref().map(|prover| prover.claim());
        let capacity = configuration.capacity;
        let memory_max = capacity.memory.min(Bytes::gib(4));
        // A cancelled run may hold its place for another tick while its lease is given to the next.
        let instances = capacity.slots.saturating_add(capacity.slots / 4 + 8).min(INSTANCES_MAX);
        let engine = Engine::new(EngineConfig { instances_max: instances, memory_max, ..EngineConfig::default() })?;

        let identity = Arc::new(IdentityKey::generate(&mut OsEntropy));
        let custody = config.custody.as_ref();
        let custody = custody.map(|custody| Desk::open(custody, config.state.as_ref(), identity.clone(), &*attester));
        let custody = custody.transpose().map_err(|why| StartError::Custody(Box::new(why)))?;
        let alone = config.custody.as_ref().is_some_and(|custody| custody.alone);
        let books = if alone { Books::of_custodian(capacity) } else { Books::new(capacity) };
        let sealing = SealingKey::generate(&mut OsEntropy);
        let boot = Boot::new(identity.public_key(), sealing.public().clone(), configuration);
        let clock: Clock = Arc::new(system_time);
        let revocations = Revocations::new();
        let judge =
            AnchoredJudge::new(config.operators.clone()).admit(Role::Manager).with_revocations(revocations.clone());
        let endpoint = Endpoint::new(identity.clone(), Role::Agent, Credential::None, Arc::new(judge), clock.clone())?;
        let endpoint = if config.managers.len() > 1 { endpoint.with_timing(WATCHFUL) } else { endpoint };
        let peers = Peers::new(identity.clone(), config.operators.clone(), revocations.clone(), clock.clone())?;
        tracing::info!(
            enclave = %boot.identity.enclave_id().short(),
            kind = %attester.kind(),
            image = %attester.image().short(),
            cpu = %capacity.cpu,
            memory = %capacity.memory,
            slots = capacity.slots,
            "started"
        );
        Ok(Self(Arc::new(Inner {
            boot,
            attester,
            endpoint,
            peers,
            borrowers: Borrowers::default(),
            loans: Loans::default(),
            prover,
            custody,
            bench: Bench { engine, identity, sealing, clock, monitor: Monitor::new(Settings::default()) },
            memory_max,
            intake: Intake::default(),
            gates: Gates::default(),
            judging: Arc::new(Semaphore::new(JUDGING_MAX)),
            input_memory: Arc::new(Semaphore::new((INPUT_MEMORY.0 / 1024) as usize)),
            shutdown,
            link: watch::Sender::new(None),
            progress: Notify::new(),
            leave_by: OnceLock::new(),
            books: Mutex::new(books),
            passports: Mutex::default(),
            revocations,
            observer: Mutex::default(),
            listener: OnceLock::new(),
            config,
        })))
    }

    /// Calls `listener` with everything that happens, on the thread on which it happens: it must be quick. The first one stays.
    pub fn on_status(self, listener: impl Fn(&Status) + Send + Sync + 'static) -> Self {
        let _ = self.0.listener.set(Box::new(listener));
        self
    }

    /// Name of this boot.
    pub fn enclave(&self) -> EnclaveId {
        self.0.boot.identity.enclave_id()
    }

    /// What it offers; measured into its evidence.
    pub fn configuration(&self) -> &Configuration {
        &self.0.boot.configuration
    }

    /// Connects, attests, serves, and comes back whenever it is lost; ends only when asked to. Nothing runs any more when it ends.
    pub async fn run(self) -> Exit {
        let exit = tokio::select! {
            exit = self.stay() => exit,
            never = peers::listen(self.0.clone()) => match never {},
            // Dropped with this future, and with it the process that proves.
            never = prover::work(self.0.clone()) => match never {},
            never = custody::work::work(self.0.clone()) => match never {},
        };
        self.0.loans.end_all();
        // A runtime that is dropped waits for its blocking threads: what the engine still runs is stopped.
        self.0.books().stop_all();
        exit
    }

    async fn stay(&self) -> Exit {
        let agent = &self.0;
        let mut patience = Patience::new(agent.config.reconnect);
        let mut search = Search::new(agent.config.managers.clone());
        loop {
            let trouble = tokio::select! {
                ended = agent.attend(&mut search, &mut patience) => match ended {
                    Ok(exit) => return exit,
                    Err(trouble) => trouble,
                },
                () = agent.shutdown.asked(Stage::Now) => return Exit::Stopped,
            };
            if agent.shutdown.stage() >= Stage::Drain {
                agent.books().drain();
                if agent.books().idle() {
                    return Exit::Drained;
                }
                if Instant::now() >= agent.leave_by() {
                    return Exit::Stopped;
                }
            }
            let pause = patience.pause(trouble, random());
            tracing::info!(?pause, "trying again after a pause");
            tokio::select! {
                () = sleep(pause) => {}
                // Somebody who waits for the end does not wait for the pause as well.
                () = agent.shutdown.asked(Stage::Drain) => {
                    if agent.books().idle() {
                        return Exit::Drained;
                    }
                    tokio::select! {
                        () = sleep(pause.min(agent.config.reconnect.first)) => {}
                        () = agent.shutdown.asked(Stage::Now) => return Exit::Stopped,
                    }
                }
            }
        }
    }
}

impl Inner {
    /// One connection, from dialling to its end: how this agent ends with it, or what is to be waited for.
    async fn attend(self: &Arc<Self>, search: &mut Search, patience: &mut Patience) -> Result<Exit, Trouble> {
        let shown = self.admitted();
        self.show(shown.clone());
        let (manager, channel) = search.round(self).await?;
        match self.serve(&manager, channel, patience, shown).await {
            Ended::Drained => Ok(Exit::Drained),
            Ended::Stopped => Ok(Exit::Stopped),
            Ended::Turned(why) if why.check == STANDBY => {
                search.hint(&why);
                self.tell(Status::StandsBy { manager, why });
                Err(Trouble::Electing)
            }
            Ended::Turned(why) => {
                let passing = is_passing(&why);
                self.tell(Status::Turned { manager, why });
                Err(if passing { Trouble::Failed } else { Trouble::Refused })
            }
            Ended::Lost(why) => {
                self.tell(Status::Disconnected { manager, why });
                // Where there are others, one of them takes over, or leads already.
                Err(if self.config.managers.len() > 1 { Trouble::Electing } else { Trouble::Failed })
            }
        }
    }

    async fn serve(
        self: &Arc<Self>,
        manager: &str,
        channel: Channel,
        patience: &mut Patience,
        shown: Option<Admitted>,
    ) -> Ended {
        match session::hold(self, channel, manager, patience, shown).await {
            session::Over::Channel(error) => self.lost(error),
            session::Over::Here(ended) => ended,
        }
    }

    /// A channel that is refused will be refused again with the same passport: the next begins with attestation.
    fn lost(&self, error: ChannelError) -> Ended {
        match error {
            ChannelError::RefusedByPeer(why) => {
                if !is_passing(&why) {
                    self.passports().forget();
                }
                Ended::Turned(why)
            }
            ChannelError::Refused(why) => Ended::Turned(why),
            other => Ended::Lost(other.to_string()),
        }
    }

    pub(crate) fn now(&self) -> UnixTime {
        (self.bench.clock)()
    }

    /// When a draining agent goes, whatever still runs: counted from the first time it is asked for.
    pub(crate) fn leave_by(&self) -> Instant {
        *self.leave_by.get_or_init(|| Instant::now() + self.config.drain)
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        // Every change leaves the books whole, so a panic elsewhere does not spoil them.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn passports(&self) -> MutexGuard<'_, Passports> {
        // Every change leaves them whole.
        self.passports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows this passport from now on: to managers on the next connection, to other agents on those that are open, too.
    pub(crate) fn show(&self, admitted: Option<Admitted>) {
        self.endpoint.set_credential(admitted.as_ref().map_or(Credential::None, Admitted::credential));
        self.peers.show(admitted);
    }

    /// The passport to show, while it has life left.
    pub(crate) fn admitted(&self) -> Option<Admitted> {
        self.passports().to_show(self.now()).cloned()
    }

    /// The passport to name in the report of `work`: the freshest that holds, is of a verifier that is trusted with its
    /// tenant's work, and satisfies its requirements.
    pub(crate) fn passport_for(&self, work: &Work) -> Option<Arc<Signed<Passport>>> {
        let now = self.now();
        let good = self.passports().for_tenant(&work.tenant);
        good.into_iter().map(|a| a.passport).find(|p| now <= p.expires && work.accepts(p))
    }

    /// Learns what is revoked, on top of what is known: nothing returns because a manager forgot it, and epochs of one journal
    /// say nothing of another's. Gives the epoch, as it is counted here, up to which channels must have looked.
    ///
    /// # Errors
    /// More than is kept.
    pub(crate) fn heed(&self, list: &legation_core::RevocationList) -> Result<RevocationEpoch, Rejection> {
        let known = self.revocations.all();
        let new: Vec<_> = list.revocations.iter().filter(|r| known.get(&r.what).is_none()).collect();
        if new.is_empty() && list.epoch <= known.epoch() {
            return Ok(known.epoch());
        }
        let mut all: Revoked = (*known).clone();
        // What is new here is newer than all that channels have looked at.
        let next = RevocationEpoch(known.epoch().0.saturating_add(1));
        new.into_iter().for_each(|r| all.insert(Revocation { epoch: r.epoch.max(next), ..r.clone() }));
        if all.len() > REVOCATIONS_MAX {
            return Err(Rejection::new("revocation.list", "revocations of this pool and of those before it")
                .expected(format!("at most {REVOCATIONS_MAX}"))
                .got(all.len()));
        }
        let epoch = all.epoch();
        let all = Arc::new(all);
        self.passports().heed(&all);
        self.revocations.learn(all, self.now());
        Ok(epoch)
    }

    pub(crate) fn tell(&self, status: Status) {
        status.log();
        if let Some(listener) = self.listener.get() {
            listener(&status);
        }
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Agent({})", self.enclave().short())
    }
}

/// Draws 64 random bits.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    OsEntropy.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// A clock before 1970 is as wrong as any: every passport will be refused, with both dates.
fn system_time() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

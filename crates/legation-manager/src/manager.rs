//! Starting and stopping a manager.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use legation_attest::challenge::CHALLENGES_MAX;
use legation_core::{
    Envelope, PublicKey, Rejection, Signed, Signer, UnixTime,
    claims::{Anchors, Role},
    statement::{Appointment, Office},
};
use legation_keys::{Entropy, IdentityKey};
use legation_net::{AnchoredJudge, Bounds, Credential, Endpoint, Listener, OsEntropy, Revocations};
use legation_pool::Limits;
use legation_verifier::{Door, collateral::Keeper};
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::JoinHandle,
};
use tracing::{info, warn};

use crate::{
    Clock,
    api::{self, App},
    borrowing::Borrowing,
    calls::Change,
    config::{LogConfig, ManagerConfig},
    doors::Doors,
    effects::Effects,
    gate::{self, Gate, RefusedWords},
    gossip,
    journal::{Advertised, Candidate, Journal, Records},
    leader::{LeadError, Leader, Parts, Role as Standing, Seat},
    leadership::Timing,
    log::Log,
    metrics::Metrics,
    own::{self, Own},
    proving::Proving,
    refusals::Refusals,
    reign::Reign,
    round_trips::{self, RoundTrips},
    seed, store,
    turnstile::Turnstile,
};

/// How often it is looked whether collateral changed.
const COLLATERAL_LOOK: Duration = Duration::from_secs(5);

/// How long the journal may take to end.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Where a manager listens; written to `addresses.json` in its data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// For agents.
    pub agents: SocketAddr,
    /// For clients.
    pub api: SocketAddr,
    /// For health and metrics.
    pub admin: SocketAddr,
}

/// Why a manager does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its configuration, keys or appointments will not do.
    #[error("{0}")]
    Refused(#[from] Rejection),
    /// It cannot lead.
    #[error("{0}")]
    Lead(#[from] LeadError),
    /// An address cannot be had.
    #[error("cannot listen on {address}: {source}; end what listens there, or configure another address")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written or read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No TLS configuration can be made of the key.
    #[error("{0}")]
    Tls(#[from] legation_net::tls::TlsError),
}

/// A running manager.
pub struct Manager {
    /// Where it listens.
    pub addresses: Addresses,
    leader: Leader,
    stop: Arc<Notify>,
    stop_keeper: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Manager {
    /// Starts everything; returns when it listens, and leads or knows who does.
    ///
    /// # Errors
    /// What is wrong and what to do.
    pub async fn start(config: ManagerConfig, clock: Clock) -> Result<Self, StartError> {
        Self::start_with(config, clock, Vec::new()).await
    }

    /// As [`Self::start`], asking these verifiers too.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(
        config: ManagerConfig,
        clock: Clock,
        verifiers: Vec<Arc<dyn Door>>,
    ) -> Result<Self, StartError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| StartError::File { path, source }
        };
        std::fs::create_dir_all(&config.data).map_err(file(&config.data))?;
        let anchors: Anchors = read_json(&config.anchors)?;
        let key = read_key(&config.key)?;
        let appointment = read_appointment(&config.appointment, &anchors, &key, Office::Manager)?;
        let verifier_key = read_key(&config.verifier_key)?;
        let verifier_appointment =
            read_appointment(&config.verifier_appointment, &anchors, &verifier_key, Office::Verifier)?;
        if config.allow_development {
            warn!("this manager admits DEVELOPMENT enclaves: they prove the protocol, not confidentiality");
        }
        let (effects, metrics, revocations) = (Effects::default(), Metrics::default(), Revocations::new());
        let signer: Arc<dyn Signer> = Arc::new(key);
        // First of all the lock: a second manager on this folder touches nothing.
        let opening = config.clone();
        let (journal, records) = blocking(move || open_journal(&opening)).await??;
        let log = match (&config.log, records) {
            (Some(wanted), Some(records)) => Some(open_log(&config, wanted, records).await?),
            _ => None,
        };
        let objects = Arc::new(store::objects(&config).await?);
        let open = watch::channel(false).0;
        let judge = AnchoredJudge::new(anchors.operators.clone())
            .admit(Role::Agent)
            .admit_applicants()
            .with_revocations(revocations.clone());
        let turnstile = Arc::new(Turnstile::new(judge, open.subscribe()));
        let credential = Credential::Appointment { appointment: appointment.envelope().clone() };
        let endpoint =
            Arc::new(Endpoint::new(signer.clone(), Role::Manager, credential, turnstile.clone(), clock.clone())?);
        let listen = |address: SocketAddr| move |source| StartError::Listen { address, source };
        let bounds = Bounds { channels: config.agent_connections_max, ..Bounds::DEFAULT };
        let agents = Listener::bind(config.agents, endpoint, bounds).await.map_err(listen(config.agents))?;
        let api = TcpListener::bind(config.api).await.map_err(listen(config.api))?;
        let admin = TcpListener::bind(config.admin).await.map_err(listen(config.admin))?;
        let addresses = Addresses {
            agents: agents.address(),
            api: api.local_addr().map_err(listen(config.api))?,
            admin: admin.local_addr().map_err(listen(config.admin))?,
        };
        let parts = Parts {
            signer,
            appointment,
            effects: effects.clone(),
            revocations: revocations.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            snapshot_every: config.journal.snapshot_every,
        };
        let seat = Seat {
            journal,
            candidate: candidate(&config, &addresses),
            limits: Limits {
                slots_per_chip: config.slots_per_chip,
                alarms_max: config.alarms_max,
                dissents_max: config.dissents_max,
                allow_development: config.allow_development,
                ..Limits::default()
            },
            timing: Timing::default(),
        };
        let (leader, leads) = blocking(move || Leader::start(parts, seat)).await??;
        turnstile.follow(leader.clone());
        let mut role = leader.role();
        if leads {
            let _ = role.wait_for(|role| matches!(role, Standing::Leads(..))).await;
            seed::seed(&leader, &config).await?;
        }
        let policy = match leader.appraisal().borrow().clone() {
            Some(policy) => policy,
            // Until this manager leads, its verifier is asked nothing.
            None => seed::of_folder(&config)?,
        };
        let own = Own::new(&config, &anchors, verifier_key, verifier_appointment, policy, clock.clone())?;
        let remote = config.verifiers.iter().map(|verifier| own::remote(verifier, &anchors));
        let remote = remote.collect::<Result<Vec<_>, _>>()?;
        let doors: Vec<_> = std::iter::once(own.door).chain(remote).chain(verifiers).collect();
        if doors.len() > CHALLENGES_MAX {
            return Err(Rejection::new("config.verifier", "verifiers of this manager, its own included")
                .expected(format!("at most {CHALLENGES_MAX}"))
                .got(doors.len())
                .fix("remove some `[[verifier]]` from its configuration")
                .into());
        }
        let doors = Doors::new(doors, anchors.operators.clone(), revocations, clock.clone(), metrics.clone());
        let doors = Arc::new(doors);
        let refusals = Arc::new(Refusals::default());
        let config = Arc::new(config);
        let proving = Proving::default();
        let app = App {
            leader: leader.clone(),
            objects: objects.clone(),
            config: config.clone(),
            effects: effects.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            trials: api::policies::trials(),
            receipts: api::tasks::receipts(),
            doors: doors.clone(),
            refusals: refusals.clone(),
            keeper: own.keeper.clone(),
            proving: proving.clone(),
            log: log.clone(),
            turns: api::log::Turns::default(),
        };
        let gate = Arc::new(Gate {
            leader: leader.clone(),
            effects,
            objects,
            doors: doors.clone(),
            refusals,
            clock,
            metrics,
            stored: Notify::new(),
            spreading: std::sync::Mutex::new(None),
            called: std::sync::Mutex::default(),
            open,
            round_trips: RoundTrips::default(),
            proving,
            borrowing: Borrowing::default(),
            refused_words: RefusedWords::default(),
            log: log.clone(),
        });
        let reign =
            Reign { leader: leader.clone(), config: config.clone(), appraisers: own.appraisers, gate: gate.clone() };
        if leads {
            reign.open();
        }
        let stop = Arc::new(Notify::new());
        let (stop_keeper, stopped) = watch::channel(false);
        let tasks = vec![
            tokio::spawn(gate::serve(gate.clone(), agents)),
            tokio::spawn(doors.watch()),
            tokio::spawn(reign.run(leads)),
            tokio::spawn(keep(own.keeper.clone(), stopped)),
            tokio::spawn(follow_collateral(own.keeper, gate.clone())),
            tokio::spawn(round_trips::follow(gate.clone(), config.region.clone())),
            tokio::spawn(gossip::spread(gate, log)),
            serve_http(api, api::router(app.clone()), stop.clone()),
            serve_http(admin, api::admin(app), stop.clone()),
        ];
        let path = config.data.join("addresses.json");
        let text = serde_json::to_string(&addresses).unwrap_or_default();
        std::fs::write(&path, text).map_err(file(&path))?;
        info!(agents = %addresses.agents, api = %addresses.api, admin = %addresses.admin, "manager is up");
        Ok(Self { addresses, leader, stop, stop_keeper, tasks })
    }

    /// The door to what leads: for whoever runs a manager in its own process.
    pub fn leader(&self) -> Leader {
        self.leader.clone()
    }

    /// Stops: takes no more, finishes what is being answered, leaves the journal complete.
    pub async fn stop(self) {
        self.stop.notify_waiters();
        self.stop_keeper.send_replace(true);
        // A journal that is away is not waited for: what was acknowledged is safe.
        if tokio::time::timeout(STOP_WAIT, self.leader.stop()).await.is_err() {
            warn!("the journal did not end in time: another manager leads once this one's term expires");
        }
        for task in &self.tasks {
            task.abort();
        }
        info!("manager stopped");
    }
}

/// A journal, and what reads its records beside it.
type Opened = (Box<dyn Journal>, Option<Box<dyn Records>>);

/// Opens the journal, and a door to its records where a transparency log is kept.
fn open_journal(config: &ManagerConfig) -> Result<Opened, LeadError> {
    let mut journal = store::open(config)?;
    let records = config.log.is_some().then(|| journal.archive()).transpose()?;
    Ok((journal, records))
}

/// Opens the transparency log, which follows the journal behind `records`.
async fn open_log(config: &ManagerConfig, log: &LogConfig, records: Box<dyn Records>) -> Result<Log, Rejection> {
    let key = read_key(&log.key)?;
    let (folder, LogConfig { origin, key: key_file }) = (config.data.clone(), log.clone());
    let opened = blocking(move || Log::start(&folder, &origin, &key_file, Arc::new(key), records)).await?;
    opened.map_err(|e| e.refusal())
}

/// Runs what may block.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Result<T, Rejection> {
    let done = tokio::task::spawn_blocking(run).await;
    done.map_err(|e| Rejection::new("manager.start", "the leader").got(e))
}

/// Who this manager is to the others.
fn candidate(config: &ManagerConfig, addresses: &Addresses) -> Candidate {
    let mut instance = [0; 8];
    OsEntropy.fill(&mut instance);
    let listens = || Advertised { agents: addresses.agents.to_string(), api: format!("http://{}", addresses.api) };
    Candidate {
        name: config.called().to_owned(),
        instance: u64::from_le_bytes(instance),
        addresses: config.advertise.clone().unwrap_or_else(listens),
    }
}

/// Keeps collateral current until the manager stops.
async fn keep(keeper: Arc<Keeper>, stopped: watch::Receiver<bool>) {
    keeper.run(stopped).await;
}

/// Has agents attest again whenever collateral behind their proofs changes: a new list may name a certificate, a new level a
/// firmware.
async fn follow_collateral(keeper: Arc<Keeper>, gate: Arc<Gate>) {
    let mut before = keeper.shelf().get();
    loop {
        tokio::time::sleep(COLLATERAL_LOOK).await;
        let now = keeper.shelf().get();
        if Arc::ptr_eq(&before, &now) {
            continue;
        }
        let change = Change::between(&before, &now);
        if !change.is_empty() {
            gate.collateral_changed(change).await;
        }
        before = now;
    }
}

fn serve_http(listener: TcpListener, router: axum::Router, stop: Arc<Notify>) -> JoinHandle<()> {
    tokio::spawn(async move {
        use axum::serve::ListenerExt;
        let listener = listener.tap_io(|tcp| {
            // Answers are small and wanted at once.
            let _ = tcp.set_nodelay(true);
        });
        let stopped = async move { stop.notified().await };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
            warn!(%error, "HTTP server ended");
        }
    })
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Rejection> {
    let at = || Rejection::new("config.file", path.display().to_string());
    let text = std::fs::read(path).map_err(|e| at().expected("a readable file").got(e))?;
    serde_json::from_slice(&text).map_err(|e| at().expected("its JSON").got(e))
}

fn read_key(path: &Path) -> Result<IdentityKey, Rejection> {
    let at = || Rejection::new("config.key", path.display().to_string());
    let text = std::fs::read_to_string(path).map(zeroize::Zeroizing::new);
    let text = text.map_err(|e| at().expected("a readable key file").got(e))?;
    IdentityKey::from_pem(&text).map_err(|e| at().expected("an Ed25519 private key, PEM").got(e))
}

fn read_appointment(
    path: &Path,
    anchors: &Anchors,
    key: &IdentityKey,
    office: Office,
) -> Result<Signed<Appointment>, Rejection> {
    let at = || Rejection::new("config.appointment", path.display().to_string());
    let envelope: Envelope = read_json(path)?;
    let appointment = envelope.open::<Appointment>().map_err(|e| at().expected("an appointment").got(e))?;
    let (key, operators): (PublicKey, _) = (key.public_key(), &anchors.operators);
    if !operators.contains(&appointment.operator) || appointment.key != key || appointment.office != office {
        return Err(at()
            .expected(format!("{office:?} {} by an operator of the anchors", key.id()))
            .got(format!("{:?} {} by {}", appointment.office, appointment.key.id(), appointment.operator.id()))
            .fix("have the operator's root appoint this key: `legation init` does it"));
    }
    Ok(appointment)
}

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        UnixTime(since.map_or(0, |d| d.as_secs()))
    })
}

//! `legation verifier`: a verifier from its files, until it is told to stop.
//!
//! Policy and reference values are read again on SIGHUP and when a file changes; a file that does not pass leaves the
//! policy in force and shows in `/readyz` and the status. Key, appointment and anchors are read once: to change whom the
//! verifier trusts, start it anew. It keeps nothing but collateral, so it can be stopped at any moment.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use axum::serve::Listener;
use legation_attest::{Judge, Roots};
use legation_core::{Envelope, Rejection, Signed, Signer, claims::Anchors, statement::Appointment, statement::Office};
use legation_keys::IdentityKey;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

use crate::{
    Appraisers, Clock, LocalVerifier, Parts,
    activation::{Endorsements, TpmEndorsements},
    collateral::{Checker, Keeper, Wants},
    config::{VerifierConfig, read_secret, read_text},
    policy::{self, Limits},
    service::Service,
};

/// Most connections at once.
pub const CONNECTIONS_MAX: usize = 4096;
/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How long requests may go on after the verifier was told to stop.
const FAREWELL: Duration = Duration::from_secs(10);

/// A running verifier.
pub struct Server {
    address: SocketAddr,
    verifier: LocalVerifier,
    keeper: Arc<Keeper>,
    policy: Arc<PolicyFiles>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// Where the policy is read from.
struct PolicyFiles {
    policy: PathBuf,
    references: Option<PathBuf>,
    limits: Limits,
    appraisers: Arc<Appraisers>,
    seen: Mutex<Vec<Option<SystemTime>>>,
}

impl PolicyFiles {
    fn stamps(&self) -> Vec<Option<SystemTime>> {
        let stamp = |path: &PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).ok();
        [Some(&self.policy), self.references.as_ref()].into_iter().flatten().map(stamp).collect()
    }

    fn changed(&self) -> bool {
        let now = self.stamps();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *seen != now;
        *seen = now;
        changed
    }

    fn reload(&self, service: &Service) -> Result<(), Rejection> {
        match policy::load(&self.policy, self.references.as_deref(), self.limits) {
            Ok(appraising) => {
                let before = self.appraisers.get().digest;
                tracing::info!(policy = appraising.name, %before, now = %appraising.digest, "policy read again");
                self.appraisers.set(appraising);
                service.set_troubles(Vec::new());
                Ok(())
            }
            Err(why) => {
                tracing::error!(%why, "policy cannot be read: the one in force stays");
                service.set_troubles(vec![format!("the policy's files changed and cannot be read: {why}")]);
                Err(why)
            }
        }
    }
}

impl Server {
    /// Starts a verifier.
    ///
    /// # Errors
    /// A file that is missing or wrong, or an address that is taken.
    pub async fn start(config: VerifierConfig, clock: Clock) -> Result<Self, Rejection> {
        let key = IdentityKey::from_pem(&read_text(&config.key, "key")?).map_err(|e| {
            Rejection::new("config.verifier", format!("key {}", config.key.display()))
                .expected("an Ed25519 private key, PEM")
                .got(e)
                .fix("make one with `legation verifier init`")
        })?;
        let anchors = read_anchors(&config)?;
        let appointment = read_appointment(&config, &key, &anchors)?;
        let challenge_secret = read_secret(&config.challenge_secret)?;
        let limits = Limits { development: config.allow_development, passport_seconds: config.passport_seconds };
        let appraisers = Arc::new(Appraisers::new(policy::load(&config.policy, config.references.as_deref(), limits)?));
        let policy = Arc::new(PolicyFiles {
            policy: config.policy.clone(),
            references: config.references.clone(),
            limits,
            appraisers: Arc::clone(&appraisers),
            seen: Mutex::default(),
        });
        policy.changed();
        let roots = Roots::new(&anchors)?;
        let checker = Checker::new(roots.clone());
        let keeper = Arc::new(Keeper::open(config.collateral.keeper()?, checker, Arc::clone(&clock))?);
        let verifier = LocalVerifier::new(Parts {
            name: config.name.clone(),
            key,
            appointment,
            judge: Arc::new(Judge::with_grace(roots.clone(), keeper.grace_seconds())),
            appraisers,
            shelf: Arc::clone(keeper.shelf()),
            wants: Some(Arc::clone(&keeper) as Arc<dyn Wants>),
            challenge_secret,
            endorsements: (!anchors.tpm.is_empty()).then(|| {
                let shelf = Arc::clone(keeper.shelf());
                Arc::new(TpmEndorsements::new(roots, shelf, keeper.grace_seconds())) as Arc<dyn Endorsements>
            }),
            clock,
        });
        let service =
            Service::new(verifier.clone(), Some(Arc::clone(&keeper)), &config.token_sha256, config.in_flight_max);
        let listener = Bounded::bind(config.listen).await.map_err(|e| {
            Rejection::new("config.verifier", format!("`listen` {}", config.listen))
                .expected("an address that is free")
                .got(e)
                .fix("stop what listens there, or choose another")
        })?;
        let address = listener.address;
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, service.clone(), stopped.clone()));
        let keeping = Arc::clone(&keeper);
        tasks.spawn({
            let stopped = stopped.clone();
            async move { keeping.run(stopped).await }
        });
        tasks.spawn(watch_files(Arc::clone(&policy), service, stopped));
        tracing::info!(%address, name = config.name, development = config.allow_development, "verifier is here");
        Ok(Self { address, verifier, keeper, policy, stop, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The verifier itself.
    pub fn verifier(&self) -> &LocalVerifier {
        &self.verifier
    }

    /// What keeps its collateral.
    pub fn keeper(&self) -> &Arc<Keeper> {
        &self.keeper
    }

    /// Stops listening, lets requests end, and waits for that.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let end = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, end).await.is_err() {
            tracing::warn!("requests did not end in time: cut off");
            self.tasks.shutdown().await;
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Server({} at {}, policy {})",
            crate::Door::name(&self.verifier),
            self.address,
            self.policy.policy.display()
        )
    }
}

fn read_anchors(config: &VerifierConfig) -> Result<Anchors, Rejection> {
    let text = read_text(&config.anchors, "anchor file")?;
    let mut anchors: Anchors = serde_json::from_str(&text).map_err(|e| {
        Rejection::new("config.verifier", format!("anchor file {}", config.anchors.display()))
            .expected("the JSON that `legation init` makes")
            .got(e)
            .fix("correct the file")
    })?;
    if !config.allow_development {
        anchors.development.clear();
        anchors.tpm.retain(|root| !root.development);
    }
    Ok(anchors)
}

fn read_appointment(
    config: &VerifierConfig,
    key: &IdentityKey,
    anchors: &Anchors,
) -> Result<Signed<Appointment>, Rejection> {
    let refuse = |expected: String, got: String| {
        Rejection::new("config.verifier", format!("appointment {}", config.appointment.display()))
            .expected(expected)
            .got(got)
            .fix("have the operator appoint this key as verifier")
    };
    let text = read_text(&config.appointment, "appointment")?;
    let envelope: Envelope =
        serde_json::from_str(&text).map_err(|e| refuse("a signed appointment, JSON".into(), e.to_string()))?;
    let appointment: Signed<Appointment> =
        envelope.open().map_err(|e| refuse("a signed appointment".into(), e.to_string()))?;
    if !anchors.operators.contains(&appointment.operator) {
        return Err(refuse(
            "by an operator of the anchor file".into(),
            format!("by key {}", appointment.operator.id()),
        ));
    }
    if appointment.key != key.public_key() || appointment.office != Office::Verifier {
        let expected = format!("of key {} as verifier", key.public_key().id());
        return Err(refuse(expected, format!("of key {} as {:?}", appointment.key.id(), appointment.office)));
    }
    Ok(appointment)
}

async fn stopping(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone means stop as well.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn serve(listener: Bounded, service: Service, stopped: watch::Receiver<bool>) {
    let served = axum::serve(listener, service.router()).with_graceful_shutdown(stopping(stopped)).await;
    if let Err(e) = served {
        tracing::error!(%e, "the listener failed");
    }
}

async fn watch_files(policy: Arc<PolicyFiles>, service: Service, stopped: watch::Receiver<bool>) {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup()).map_err(|e| tracing::warn!(%e, "SIGHUP is not heard")).ok();
    let stop = stopping(stopped);
    tokio::pin!(stop);
    loop {
        let asked = async {
            match &mut hangup {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        let forced = tokio::select! {
            () = &mut stop => return,
            _ = asked => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        let changed = policy.changed();
        if changed || forced {
            // What went wrong is logged and shown; the policy in force stays.
            let _ = policy.reload(&service);
        }
    }
}

/// A listener that holds at most [`CONNECTIONS_MAX`] connections; more wait to be accepted.
struct Bounded {
    inner: TcpListener,
    address: SocketAddr,
    room: Arc<Semaphore>,
}

impl Bounded {
    async fn bind(address: SocketAddr) -> io::Result<Self> {
        let inner = TcpListener::bind(address).await?;
        let address = inner.local_addr()?;
        Ok(Self { inner, address, room: Arc::new(Semaphore::new(CONNECTIONS_MAX)) })
    }
}

impl Listener for Bounded {
    type Io = Held;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Held, SocketAddr) {
        loop {
            let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else {
                std::future::pending::<()>().await;
                continue;
            };
            match self.inner.accept().await {
                Ok((stream, peer)) => {
                    // Answers are small and whole: nothing is gained by waiting for more to send.
                    let _ = stream.set_nodelay(true);
                    return (Held { stream, _permit: permit }, peer);
                }
                Err(e) => {
                    tracing::warn!(%e, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A connection that gives its room back when it ends.
struct Held {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Held {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Held {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

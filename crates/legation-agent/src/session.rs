//! One connection to a manager: attest if need be, be present, serve, renew, leave.
//!
//! ```text
//!             +-- no passport --> Asked -- challenge, evidence, admitted --> Renewing --+
//! connected --+                                                                         +--> present: offers are served
//!             +-- a passport that still holds ------------------------------------------+        | 60 to 80 % of its life
//!                                                                                                v
//!                                                                               Asked, Renewing again, beside the work
//! ```
//! Where the attestation key of this machine is a TPM's that nobody certified, Asked is preceded by Activating: credential,
//! secret, the verifier's word on the key, which is kept while it holds.
//!
//! One task reads the channel and never waits for work: offers are judged and run elsewhere, data frames only copied and hashed.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use legation_core::{
    Digest, LeaseId, Rejection, RevocationList, Signed, dsse,
    statement::{Appointment, KeyAttestation, Passport},
};
use legation_log::observer::{Heard, Told};
use legation_net::{
    Channel, ChannelError, Incoming, Receiver, Sender,
    message::{Enlist, ToAgent, ToManager},
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

use crate::{
    admission,
    agent::{Inner, random},
    assignment::{self, Offered},
    attester::AttestError,
    custody,
    fetch::Fetches,
    intake,
    passports::Admitted,
    patience::Patience,
    prover, serve,
    shutdown::Stage,
    status::Status,
    swarm,
};

/// How long the manager may take from being asked for a nonce to admitting or refusing.
const ATTEST_PATIENCE: Duration = Duration::from_secs(30);
/// Pause before a renewal that failed is tried again, at least.
const RENEW_AGAIN: Duration = Duration::from_secs(5);
/// Between two attestations that somebody else asked for, at least.
const REATTEST_APART: Duration = Duration::from_secs(5);
/// How long channels may take to look at what was revoked.
const HEED_PATIENCE: Duration = Duration::from_secs(5);
/// Objects sent at once. Those whose data waits in the channel's queue come on top: at most [`legation_net::DATA_QUEUE_MAX`].
const STORES_MAX: usize = 16;
/// News of a session's own helpers that wait to be heard.
const NEWS_MAX: usize = 8;

/// The connection on which this agent is present.
pub(crate) struct Link {
    pub(crate) sender: Sender,
    pub(crate) fetches: Fetches,
    /// Objects being stored: a manager admits a bounded number announced and not complete.
    pub(crate) stores: Semaphore,
}

/// How a try to serve a manager ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// One side would not have the other.
    Turned(Rejection),
    /// The network, or the other side, failed.
    Lost(String),
    /// Asked to stop, and nothing is left to do.
    Drained,
    /// Asked to stop, and time was over.
    Stopped,
}

/// What ended a session.
pub(crate) enum Over {
    /// The channel.
    Channel(ChannelError),
    /// This side.
    Here(Ended),
}

/// How much of the life of a verifier's word on an attestation key must be left for evidence to carry it: one part in this many.
const KEY_LIFE_SHARE: u64 = 5;

/// What a session's helpers found.
enum News {
    /// The peer has accepted a new passport.
    Renewed(Admitted),
    /// This machine would not attest.
    Unable(String),
}

/// Where attestation stands.
enum Attesting {
    /// Nothing to do before then.
    Resting { until: Instant },
    /// The attestation key is being activated: `proving` from the credential on, until the word on the key comes.
    Activating { give_up: Instant, proving: bool },
    /// A nonce is asked for; then evidence over it is made, sent and judged.
    Asked { give_up: Instant, proving: bool },
    /// The passport is being shown.
    Renewing { give_up: Instant },
}

impl Attesting {
    fn wakes(&self) -> Instant {
        match self {
            Self::Resting { until } => *until,
            Self::Activating { give_up, .. } | Self::Asked { give_up, .. } | Self::Renewing { give_up } => *give_up,
        }
    }
}

struct Session<'a> {
    agent: &'a Arc<Inner>,
    link: Arc<Link>,
    manager: &'a str,
    attesting: Attesting,
    /// When the last attestation began.
    began: Option<Instant>,
    /// Somebody asked for another while one was under way.
    again: bool,
    /// The passport that the peer knows.
    shown: Option<Digest>,
    present: bool,
    draining: Option<Instant>,
    news: mpsc::Sender<News>,
}

/// Serves a manager over `channel` until either ends.
pub(crate) async fn hold(
    agent: &Arc<Inner>,
    channel: Channel,
    manager: &str,
    patience: &mut Patience,
    shown: Option<Admitted>,
) -> Over {
    let (sender, mut receiver) = channel.split();
    let (news, mut heard) = mpsc::channel(NEWS_MAX);
    let link = Arc::new(Link { sender, fetches: Fetches::new(), stores: Semaphore::new(STORES_MAX) });
    let attesting = Attesting::Resting { until: Instant::now() };
    let mut session = Session {
        agent,
        link,
        manager,
        attesting,
        began: None,
        again: false,
        shown: shown.as_ref().map(Admitted::digest),
        present: false,
        draining: None,
        news,
    };
    let over = session.serve(&mut receiver, &mut heard, patience).await;
    agent.unlink(&session.link);
    over
}

impl Session<'_> {
    async fn serve(
        &mut self,
        receiver: &mut Receiver,
        heard: &mut mpsc::Receiver<News>,
        patience: &mut Patience,
    ) -> Over {
        if self.shown.is_some()
            && let Err(over) = self.admitted(patience).await
        {
            return over;
        }
        loop {
            let wakes = self.wakes();
            let leave_by = self.draining;
            let step = tokio::select! {
                incoming = receiver.recv() => match incoming {
                    Ok(incoming) => self.incoming(incoming).await,
                    Err(error) => Err(Over::Channel(error)),
                },
                Some(news) = heard.recv() => match news {
                    News::Renewed(admitted) => {
                        self.shown = Some(admitted.digest());
                        self.agent.show(Some(admitted));
                        self.admitted(patience).await
                    }
                    News::Unable(why) => self.failed(Rejection::new("agent.attest", "evidence of this machine").got(why)),
                },
                () = sleep_until(wakes) => self.wake().await,
                () = self.agent.shutdown.asked(Stage::Drain), if leave_by.is_none() => self.drain().await,
                () = self.agent.progress.notified(), if leave_by.is_some() => Ok(()),
                () = sleep_until(leave_by.unwrap_or(wakes)), if leave_by.is_some() => return self.give_up().await,
            };
            if let Err(over) = step {
                return over;
            }
            if self.draining.is_some() && self.agent.books().idle() {
                self.link.sender.close().await;
                return Over::Here(Ended::Drained);
            }
        }
    }

    async fn say(&self, message: &ToManager) -> Result<(), Over> {
        match self.link.sender.send_control(message).await {
            Ok(()) => Ok(()),
            Err(legation_net::SendError::Ended(error)) => Err(Over::Channel(error)),
            Err(other) => Err(Over::Here(Ended::Lost(other.to_string()))),
        }
    }

    async fn incoming(&mut self, incoming: Incoming) -> Result<(), Over> {
        match incoming {
            Incoming::Data { stream, last, bytes } => {
                self.link.fetches.data(stream, &bytes, last);
                Ok(())
            }
            Incoming::Control(message) if intake::is_offer(&message) => self.offered(Offered::Message(message)).await,
            Incoming::Control(message) => match serde_json::from_slice::<ToAgent>(&message) {
                Ok(message) => self.heard(message).await,
                Err(error) => {
                    let why = Rejection::new("agent.message", "message of the manager")
                        .expected("one of this protocol")
                        .got(error)
                        .fix("run agent and manager of one version");
                    self.link.sender.revoke(why.clone());
                    Err(Over::Here(Ended::Turned(why)))
                }
            },
            // The manager showed another appointment: the channel has judged it.
            Incoming::Renewed(_) => Ok(()),
        }
    }

    /// Hands an offer on. Waiting for a turn holds the channel back, and with it a manager that offers faster than can be judged.
    async fn offered(&self, offered: Offered) -> Result<(), Over> {
        if !self.present {
            tracing::warn!("an offer before this agent was present: ignored");
            return Ok(());
        }
        let Ok(turn) = self.agent.judging.clone().acquire_owned().await else { return Ok(()) };
        tokio::spawn(assignment::take(self.agent.clone(), offered, turn));
        Ok(())
    }

    async fn heard(&mut self, message: ToAgent) -> Result<(), Over> {
        match message {
            ToAgent::Challenge { nonce } => {
                if let Attesting::Asked { proving, .. } = &mut self.attesting
                    && !*proving
                {
                    *proving = true;
                    self.attest(nonce);
                }
                Ok(())
            }
            ToAgent::Admitted { passport, appointment } => self.take(*passport, *appointment),
            ToAgent::Refused { why } => self.failed(why),
            ToAgent::Offer(offer) => self.offered(Offered::Read(offer)).await,
            ToAgent::Enlist(enlist) => self.enlisted(&enlist).await,
            ToAgent::Lend(lending) => match serve::lend(self.agent, *lending) {
                Some(refusal) => self.say(&refusal).await,
                None => Ok(()),
            },
            ToAgent::Lent { ask, loan } => {
                let lease = loan.allocation.lease;
                match self.agent.borrowers.lent(ask, loan) {
                    Some(()) => Ok(()),
                    // Whoever wanted it is done.
                    None => self.say(&ToManager::GiveBack { loan: lease, why: None }).await,
                }
            }
            ToAgent::LoanRefused { ask, why } => {
                self.agent.borrowers.refused(ask, &why);
                Ok(())
            }
            ToAgent::LoanEnded { loan, why } => {
                self.promise_over(loan, &why);
                Ok(())
            }
            ToAgent::ProofWanted { report } => {
                prover::wanted(self.agent, &self.link, report);
                Ok(())
            }
            ToAgent::ProofTaken { report } => {
                prover::taken(self.agent, report);
                Ok(())
            }
            ToAgent::ProofRefused { report, why } => {
                prover::refused(self.agent, report, why);
                Ok(())
            }
            ToAgent::Cancel { lease } => {
                self.promise_over(lease, "cancelled");
                tracing::debug!(%lease, "cancelled");
                Ok(())
            }
            ToAgent::Acknowledged { lease } => {
                self.agent.books().end(lease);
                self.agent.progress.notify_one();
                self.agent.tell(Status::Acknowledged { lease });
                Ok(())
            }
            ToAgent::Activate { credential, secret } => {
                if let Attesting::Activating { proving, .. } = &mut self.attesting
                    && !*proving
                {
                    *proving = true;
                    self.activate(credential, secret);
                }
                Ok(())
            }
            ToAgent::KeyAttested { statement, appointment } => self.key_attested(&statement, &appointment).await,
            ToAgent::Reattest { why } => {
                self.reattest(&why);
                Ok(())
            }
            ToAgent::Revocations { list, appointment } => self.heed(&list, &appointment),
            ToAgent::Checkpoint { note, key, old, seed, path } => {
                self.compare(Told { note: &note, key: &key, old, seed, path: &path }).await
            }
            ToAgent::CustodyChanged { .. } | ToAgent::Custody(_) => {
                custody::work::hear(self.agent, message);
                Ok(())
            }
            ToAgent::Missing { stream } => {
                self.link.fetches.missing(stream);
                Ok(())
            }
        }
    }

    /// A promise is over: whatever it was, of a fragment, of a seat, or of a loan on either side.
    fn promise_over(&self, lease: LeaseId, why: &str) {
        self.agent.books().end(lease);
        self.agent.loans.end(lease);
        self.agent.borrowers.ended(lease, why);
        self.agent.progress.notify_one();
    }

    /// Holds a checkpoint of the manager's transparency log against what this agent heard before. Work goes on whatever it finds: a
    /// forked log concerns those who rely on it, and what they need is to hear of it.
    async fn compare(&self, told: Told<'_>) -> Result<(), Over> {
        let heard = self.agent.observer.lock().unwrap_or_else(PoisonError::into_inner).hear(told);
        match heard {
            Ok(Heard::Taken { size }) => tracing::trace!(size, "the transparency log has grown"),
            Ok(Heard::Known) => {}
            Ok(Heard::Ask { size }) => return self.say(&ToManager::AskLog { old: size, note: None }).await,
            Ok(Heard::Less { size, note }) => {
                return self.say(&ToManager::AskLog { old: size, note: Some(note) }).await;
            }
            Ok(Heard::Unshown { size }) => {
                let why = format!("it is not shown to continue its own {size} entries");
                self.agent.tell(Status::LogUnproven { manager: self.manager.to_owned(), why });
            }
            Ok(Heard::OtherKey { origin }) => {
                let why = format!("the log {origin} came with another key");
                self.agent.tell(Status::LogUnproven { manager: self.manager.to_owned(), why });
            }
            Ok(Heard::Forked(fork)) => {
                self.agent.tell(Status::LogForked { manager: self.manager.to_owned(), evidence: fork });
            }
            Err(why) => {
                self.agent.tell(Status::LogUnproven { manager: self.manager.to_owned(), why: why.to_string() });
            }
        }
        Ok(())
    }

    /// Judges the members of a swarm's round, and joins them or says why not. What is not about a seat of this enclave is ignored.
    async fn enlisted(&mut self, enlist: &Enlist) -> Result<(), Over> {
        let agent = self.agent;
        let Some(seat) = enlist.seating.seat(agent.boot.identity.enclave_id()).map(|s| s.member.lease) else {
            tracing::warn!("asked to join a swarm without a seat in it: ignored");
            return Ok(());
        };
        let judged = {
            let revoked = agent.revocations.all();
            let now = agent.now();
            let obeyed = agent.books().obeyed().0;
            let standing = swarm::Standing {
                identity: agent.boot.identity,
                operators: &agent.config.operators,
                revoked: &revoked,
                obeyed,
                now,
            };
            swarm::judge(enlist, &standing)
        };
        let answer = match judged {
            Ok(membership) => {
                let signed = dsse::sign(membership, &*agent.bench.identity);
                agent.books().join(seat, signed.digest());
                agent.tell(Status::Joined { task: signed.task, round: signed.round, members: signed.members.len() });
                ToManager::Join(Box::new(signed))
            }
            Err(why) => {
                agent.tell(Status::Refused { lease: seat, why: why.clone() });
                ToManager::Refuse { lease: seat, why }
            }
        };
        self.say(&answer).await
    }

    /// Time to renew, or too long without an answer.
    async fn wake(&mut self) -> Result<(), Over> {
        self.tell_overdue();
        if Instant::now() < self.attesting.wakes() {
            return Ok(());
        }
        match self.attesting {
            Attesting::Resting { .. } if self.wants_activation() => {
                self.attesting = Attesting::Activating { give_up: Instant::now() + ATTEST_PATIENCE, proving: false };
                self.ask_activation();
                Ok(())
            }
            Attesting::Resting { .. } => self.ask_challenge().await,
            Attesting::Activating { .. } | Attesting::Asked { .. } | Attesting::Renewing { .. } => self.failed(
                Rejection::new("agent.attest", "answer of the verifier")
                    .expected(format!("within {ATTEST_PATIENCE:?}"))
                    .got("none"),
            ),
        }
    }

    async fn ask_challenge(&mut self) -> Result<(), Over> {
        self.began = Some(Instant::now());
        self.again = false;
        self.attesting = Attesting::Asked { give_up: Instant::now() + ATTEST_PATIENCE, proving: false };
        self.say(&ToManager::AskChallenge).await
    }

    /// Whether there is an attestation key without a verifier's word that has a while to hold.
    fn wants_activation(&self) -> bool {
        let Some(key) = self.agent.attester.activation() else { return false };
        let now = self.agent.now();
        key.endorsed().is_none_or(|(from, until)| now.plus(until.since(from) / KEY_LIFE_SHARE) >= until)
    }

    /// Asks for a credential for the attestation key.
    fn ask_activation(&self) {
        self.answer(|agent| {
            let Some(key) = agent.attester.activation() else { return Ok(None) };
            let keys = key.keys()?;
            Ok(Some(ToManager::AskActivation { ak: keys.ak, ek: keys.ek, certificates: keys.certificates }))
        });
    }

    /// Finds the secret in a credential elsewhere, and sends it.
    fn activate(&self, credential: Vec<u8>, secret: Vec<u8>) {
        self.answer(move |agent| {
            let Some(key) = agent.attester.activation() else { return Ok(None) };
            Ok(Some(ToManager::Activated { secret: key.activate(&credential, &secret)? }))
        });
    }

    /// Keeps a verifier's word on the attestation key, and goes on to attest.
    async fn key_attested(
        &mut self,
        statement: &Signed<KeyAttestation>,
        appointment: &Signed<Appointment>,
    ) -> Result<(), Over> {
        let (Attesting::Activating { proving: true, .. }, Some(key)) =
            (&self.attesting, self.agent.attester.activation())
        else {
            tracing::warn!("a word on an attestation key that was not asked for: ignored");
            return Ok(());
        };
        let operators = &self.agent.boot.configuration.operators;
        if let Err(why) = admission::check_key(statement, appointment, operators, self.agent.now()) {
            return self.failed(why);
        }
        if let Err(error) = key.endorse(statement, appointment) {
            return self.failed(Rejection::new("agent.key-attestation", "the verifier's word").got(error));
        }
        tracing::debug!(until = %statement.expires, "the attestation key is attested");
        self.ask_challenge().await
    }

    /// Makes evidence over `nonce` elsewhere, and sends it.
    fn attest(&self, nonce: legation_core::Digest) {
        self.answer(move |agent| {
            let binding = agent.boot.binding(agent.attester.image(), nonce, agent.now());
            let evidence = agent.attester.attest(&binding.encode(), &agent.boot.encoded)?;
            Ok(Some(ToManager::Evidence(Box::new(evidence))))
        });
    }

    /// Has the hardware make an answer on a thread that may wait for it, and sends it.
    fn answer(&self, make: impl FnOnce(&Inner) -> Result<Option<ToManager>, AttestError> + Send + 'static) {
        let (agent, link, news) = (self.agent.clone(), self.link.clone(), self.news.clone());
        tokio::spawn(async move {
            let why = match spawn_blocking(move || make(&agent)).await {
                Ok(Ok(None)) => return,
                Ok(Ok(Some(answer))) => {
                    // When the channel has ended, the session knows already.
                    let _ = link.sender.send_control(&answer).await;
                    return;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "a panic".to_owned(),
            };
            let _ = news.send(News::Unable(why)).await;
        });
    }

    /// Takes a passport that its verifier gave for this boot, and shows it if it lives longest. There may be one of each
    /// verifier for one evidence, as they come.
    fn take(&mut self, passport: Signed<Passport>, appointment: Signed<Appointment>) -> Result<(), Over> {
        let asked = matches!(self.attesting, Attesting::Asked { .. });
        let now = self.agent.now();
        let checked = self.agent.boot.check(&passport, &appointment, now);
        let checked = checked.and_then(|()| self.agent.revocations.of(&passport).map_or(Ok(()), Err));
        if let Err(why) = checked {
            if asked {
                return self.failed(why);
            }
            tracing::warn!(%why, "a passport that is of no use: ignored");
            return Ok(());
        }
        let (enclave, until) = (passport.enclave_id(), passport.expires);
        if self.agent.passports().take(Admitted::new(passport, appointment), now) {
            self.agent.tell(Status::Attested { enclave, until });
        }
        if !matches!(self.attesting, Attesting::Renewing { .. }) {
            self.rest();
            self.show();
        }
        Ok(())
    }

    /// Shows the passport that lives longest, unless the peer knows it or is being shown one.
    fn show(&mut self) {
        let best = self.agent.passports().longest().cloned();
        let Some(best) = best.filter(|best| self.shown != Some(best.digest())) else { return };
        if matches!(self.attesting, Attesting::Renewing { .. }) {
            return;
        }
        self.attesting = Attesting::Renewing { give_up: Instant::now() + ATTEST_PATIENCE };
        let (sender, news) = (self.link.sender.clone(), self.news.clone());
        tokio::spawn(async move {
            // A failure ends the channel, and the session hears of it there.
            if sender.renew(best.credential()).await.is_ok() {
                let _ = news.send(News::Renewed(best)).await;
            }
        });
    }

    /// Nothing to do until a passport is to be renewed, or somebody who asked meanwhile is to be obeyed.
    fn rest(&mut self) {
        let renew = self.agent.passports().renew_in(self.agent.now(), random());
        self.attesting = Attesting::Resting { until: self.soon(Instant::now() + renew) };
        self.tell_overdue();
    }

    /// `until`, or as soon as may be when another attestation was asked for.
    fn soon(&self, until: Instant) -> Instant {
        let now = Instant::now();
        let soonest = self.began.map_or(now, |began| (began + REATTEST_APART).max(now));
        if self.again { until.min(soonest) } else { until }
    }

    /// Attests again, now or when the attestation that is under way is over, but not more often than is bearable.
    fn reattest(&mut self, why: &str) {
        tracing::info!(why = %why.chars().take(512).collect::<String>(), "asked to attest again");
        self.again = true;
        if let Attesting::Resting { until } = self.attesting {
            self.attesting = Attesting::Resting { until: self.soon(until) };
        }
    }

    fn wakes(&self) -> Instant {
        let late = self.agent.passports().overdue_in(self.agent.now()).map(|left| Instant::now() + left);
        late.map_or(self.attesting.wakes(), |late| late.min(self.attesting.wakes()))
    }

    fn tell_overdue(&self) {
        let now = self.agent.now();
        let overdue = self.agent.passports().overdue(now);
        for late in overdue {
            let (verifier, age_seconds, until) = (late.verifier, now.since(late.issued), late.expires);
            self.agent.tell(Status::Overdue { verifier, age_seconds, until });
        }
    }

    /// Heeds what is revoked: drops passports and, by the judge they share, channels. Answers when all channels have looked.
    fn heed(&mut self, list: &Signed<RevocationList>, appointment: &Signed<Appointment>) -> Result<(), Over> {
        let operators = &self.agent.boot.configuration.operators;
        let opened = RevocationList::open(list.envelope(), appointment.envelope(), operators);
        let heeded = opened.and_then(|list| self.agent.heed(&list));
        let looked = match heeded {
            Ok(looked) => looked,
            Err(why) => {
                tracing::warn!(%why, "a list of revocations that cannot be believed: ignored");
                return Ok(());
            }
        };
        self.show();
        let (agent, link, epoch) = (self.agent.clone(), self.link.clone(), list.epoch);
        tokio::spawn(async move {
            if tokio::time::timeout(HEED_PATIENCE, agent.revocations.settled(looked)).await.is_err() {
                tracing::warn!(epoch = epoch.0, "channels have not all looked at what was revoked");
                return;
            }
            agent.tell(Status::Heeded { epoch });
            // When the channel has ended, nobody waits for this.
            let _ = link.sender.send_control(&ToManager::Heeded { epoch }).await;
        });
        Ok(())
    }

    /// Attestation failed: without a passport that is the end; with one, it is tried again while the passport lasts.
    fn failed(&mut self, why: Rejection) -> Result<(), Over> {
        // The refusal may be of the word on the key: another verifier's, or one of a verifier that is revoked.
        if let Some(key) = self.agent.attester.activation() {
            key.forget();
        }
        if !self.present {
            return Err(Over::Here(Ended::Turned(why)));
        }
        let left = self.agent.passports().last().map_or(0, |a| a.passport.expires.since(self.agent.now()));
        let pause =
            Duration::from_secs(left / 4).clamp(RENEW_AGAIN, self.agent.config.reconnect.refused.max(RENEW_AGAIN));
        self.attesting = Attesting::Resting { until: self.soon(Instant::now() + pause) };
        self.tell_overdue();
        self.agent.tell(Status::Turned { manager: self.manager.to_owned(), why });
        Ok(())
    }

    /// The peer knows a passport: rests until one is to be renewed, and is present if that is new.
    async fn admitted(&mut self, patience: &mut Patience) -> Result<(), Over> {
        self.rest();
        self.show();
        if self.present {
            return Ok(());
        }
        patience.reset();
        self.present = true;
        let (running, obeyed, pending) = {
            let books = self.agent.books();
            (books.held(), books.obeyed(), books.pending())
        };
        let count = running.len();
        self.say(&ToManager::Present { running, obeyed }).await?;
        // Whatever is reported from here on goes out on this link by itself; what was pending before is sent again.
        self.agent.link.send_replace(Some(self.link.clone()));
        self.agent.tell(Status::Present { manager: self.manager.to_owned(), running: count, obeyed });
        let link = self.link.clone();
        tokio::spawn(async move {
            for pending in pending {
                if let Err(error) = assignment::deliver(&link, &pending).await {
                    tracing::debug!(lease = %pending.lease, %error, "report waits for the next connection");
                    return;
                }
            }
        });
        if self.draining.is_some() {
            self.say(&ToManager::Draining).await?;
        }
        Ok(())
    }

    async fn drain(&mut self) -> Result<(), Over> {
        self.draining = Some(self.agent.leave_by());
        self.agent.books().drain();
        self.agent.tell(Status::Draining);
        if self.present {
            self.say(&ToManager::Draining).await?;
        }
        Ok(())
    }

    /// The time to drain is over: what runs is stopped and refused.
    async fn give_up(&self) -> Over {
        let stopped = self.agent.books().stop_all();
        for lease in stopped {
            let why = Rejection::new("agent.draining", "work of an agent that stops")
                .expected(format!("an end within {:?}", self.agent.config.drain))
                .got("none")
                .fix("nothing: the work goes to another enclave");
            self.agent.tell(Status::Refused { lease, why: why.clone() });
            if self.say(&ToManager::Refuse { lease, why }).await.is_err() {
                break;
            }
        }
        self.link.sender.close().await;
        Over::Here(Ended::Stopped)
    }
}

impl Inner {
    /// The connection on which this agent is present, once there is one.
    pub(crate) async fn linked(&self) -> Arc<Link> {
        let mut links = self.link.subscribe();
        loop {
            if let Some(link) = links.borrow_and_update().clone() {
                return link;
            }
            // The sender is in `self`, so it cannot be gone.
            let _ = links.changed().await;
        }
    }

    /// That connection is over.
    pub(crate) fn unlink(&self, link: &Arc<Link>) {
        link.fetches.close();
        self.link.send_if_modified(|current| {
            let same = current.as_ref().is_some_and(|current| Arc::ptr_eq(current, link));
            if same {
                *current = None;
            }
            same
        });
    }
}

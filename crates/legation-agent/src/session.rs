//! One connection to a manager: attest if need be, be present, serve, renew, leave.
//!
//! ```text
//!             +-- no passport --> Asked -- challenge, evidence, admitted --> Renewing --+
//! connected --+                                                                         +--> present: offers are served
//!             +-- a passport that still holds ------------------------------------------+        | 60 to 80 % of its life
//!                                                                                                v
//!                                                                               Asked, Renewing again, beside the work
//! ```
//! One task reads the channel and never waits for work: offers are judged and run elsewhere, data frames only copied and hashed.

use std::{sync::Arc, time::Duration};

use legation_core::{
    Rejection,
    statement::{Appointment, Passport},
};
use legation_net::{
    Channel, ChannelError, Incoming, Receiver, Sender,
    message::{ToAgent, ToManager},
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

use crate::{
    agent::{Admitted, Inner, random},
    assignment::{self, Offered},
    fetch::Fetches,
    intake,
    patience::{Patience, renew_in},
    shutdown::Stage,
    status::Status,
};

/// How long the manager may take from being asked for a nonce to admitting or refusing.
const ATTEST_PATIENCE: Duration = Duration::from_secs(30);
/// Pause before a renewal that failed is tried again, at least.
const RENEW_AGAIN: Duration = Duration::from_secs(5);
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
    /// A nonce is asked for; then evidence over it is made, sent and judged.
    Asked { give_up: Instant, proving: bool },
    /// The passport is being shown.
    Renewing { give_up: Instant },
}

impl Attesting {
    fn wakes(&self) -> Instant {
        match self {
            Self::Resting { until } => *until,
            Self::Asked { give_up, .. } | Self::Renewing { give_up } => *give_up,
        }
    }
}

struct Session<'a> {
    agent: &'a Arc<Inner>,
    link: Arc<Link>,
    manager: &'a str,
    attesting: Attesting,
    present: bool,
    draining: Option<Instant>,
    news: mpsc::Sender<News>,
}

/// Serves a manager over `channel` until either ends.
pub(crate) async fn hold(agent: &Arc<Inner>, channel: Channel, manager: &str, patience: &mut Patience) -> Over {
    let (sender, mut receiver) = channel.split();
    let (news, mut heard) = mpsc::channel(NEWS_MAX);
    let link = Arc::new(Link { sender, fetches: Fetches::new(), stores: Semaphore::new(STORES_MAX) });
    let attesting = Attesting::Resting { until: Instant::now() };
    let mut session = Session { agent, link, manager, attesting, present: false, draining: None, news };
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
        if let Some(admitted) = self.agent.admitted()
            && let Err(over) = self.admitted(&admitted, patience).await
        {
            return over;
        }
        loop {
            let wakes = self.attesting.wakes();
            let leave_by = self.draining;
            let step = tokio::select! {
                incoming = receiver.recv() => match incoming {
                    Ok(incoming) => self.incoming(incoming).await,
                    Err(error) => Err(Over::Channel(error)),
                },
                Some(news) = heard.recv() => match news {
                    News::Renewed(admitted) => {
                        self.agent.admit(admitted.clone());
                        self.admitted(&admitted, patience).await
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
            ToAgent::Admitted { passport, appointment } => self.show(*passport, &appointment),
            ToAgent::Refused { why } => self.failed(why),
            ToAgent::Offer(offer) => self.offered(Offered::Read(offer)).await,
            ToAgent::Cancel { lease } => {
                self.agent.books().end(lease);
                self.agent.progress.notify_one();
                tracing::debug!(%lease, "cancelled");
                Ok(())
            }
            ToAgent::Acknowledged { lease } => {
                self.agent.books().end(lease);
                self.agent.progress.notify_one();
                self.agent.tell(Status::Acknowledged { lease });
                Ok(())
            }
            ToAgent::Missing { stream } => {
                self.link.fetches.missing(stream);
                Ok(())
            }
        }
    }

    /// Time to renew, or too long without an answer.
    async fn wake(&mut self) -> Result<(), Over> {
        match self.attesting {
            Attesting::Resting { .. } => {
                self.attesting = Attesting::Asked { give_up: Instant::now() + ATTEST_PATIENCE, proving: false };
                self.say(&ToManager::AskChallenge).await
            }
            Attesting::Asked { .. } | Attesting::Renewing { .. } => self.failed(
                Rejection::new("agent.attest", "answer of the verifier")
                    .expected(format!("within {ATTEST_PATIENCE:?}"))
                    .got("none"),
            ),
        }
    }

    /// Makes evidence over `nonce` elsewhere, and sends it.
    fn attest(&self, nonce: legation_core::Digest) {
        let (agent, link, news) = (self.agent.clone(), self.link.clone(), self.news.clone());
        tokio::spawn(async move {
            let making = agent.clone();
            let evidence = spawn_blocking(move || {
                let binding = making.boot.binding(making.attester.image(), nonce, making.now());
                making.attester.attest(&binding.encode(), &making.boot.encoded)
            });
            let why = match evidence.await {
                Ok(Ok(evidence)) => {
                    // When the channel has ended, the session knows already.
                    let _ = link.sender.send_control(&ToManager::Evidence(Box::new(evidence))).await;
                    return;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "a panic".to_owned(),
            };
            let _ = news.send(News::Unable(why)).await;
        });
    }

    /// Checks a passport and shows it on this channel.
    fn show(
        &mut self,
        passport: legation_core::Signed<Passport>,
        appointment: &legation_core::Signed<Appointment>,
    ) -> Result<(), Over> {
        if !matches!(self.attesting, Attesting::Asked { .. }) {
            tracing::warn!("a passport that was not asked for: ignored");
            return Ok(());
        }
        if let Err(why) = self.agent.boot.check(&passport, appointment, self.agent.now()) {
            return self.failed(why);
        }
        self.attesting = Attesting::Renewing { give_up: Instant::now() + ATTEST_PATIENCE };
        let admitted = Admitted::new(passport, appointment);
        let (sender, news) = (self.link.sender.clone(), self.news.clone());
        tokio::spawn(async move {
            // A failure ends the channel, and the session hears of it there.
            if sender.renew(admitted.credential()).await.is_ok() {
                let _ = news.send(News::Renewed(admitted)).await;
            }
        });
        Ok(())
    }

    /// Attestation failed: without a passport that is the end; with one, it is tried again while the passport lasts.
    fn failed(&mut self, why: Rejection) -> Result<(), Over> {
        if !self.present {
            return Err(Over::Here(Ended::Turned(why)));
        }
        let left = self.agent.passport().map_or(0, |p| p.expires.since(self.agent.now()));
        let pause =
            Duration::from_secs(left / 4).clamp(RENEW_AGAIN, self.agent.config.reconnect.refused.max(RENEW_AGAIN));
        self.attesting = Attesting::Resting { until: Instant::now() + pause };
        self.agent.tell(Status::Turned { manager: self.manager.to_owned(), why });
        Ok(())
    }

    /// The peer knows the passport: rests until it is to be renewed, and is present if that is new.
    async fn admitted(&mut self, admitted: &Admitted, patience: &mut Patience) -> Result<(), Over> {
        let renew = renew_in(&admitted.passport, self.agent.now(), random());
        self.attesting = Attesting::Resting { until: Instant::now() + renew };
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

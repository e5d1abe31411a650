//! Channels between agents: who may be at the other end, what is shown there, and how words and data go over one.
//!
//! 1. A peer is an attested agent of an operator that this one obeys, like every agent a manager admits: the same judge, the same
//!    revocations, both ways.
//! 2. That is not enough: a channel is of use only to a loan that names both ends ([`crate::serve`], [`crate::delegations`]).
//! 3. When this enclave gets another passport, it is shown on every open channel.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use legation_core::{PublicKey, Rejection, Signed, claims::Role, statement::Passport};
use legation_keys::IdentityKey;
use legation_net::{
    AnchoredJudge, Arrival, Bounds, Channel, ChannelError, Clock, Credential, Endpoint, Incoming, Listener,
    Revocations, Sender, Standing, StreamId, Timing, tls::TlsError,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};

use crate::{agent::Inner, passports::Admitted, serve};

/// How much a listening agent takes on: a few hundred loans at most. Whoever connects and says nothing takes one of the handshakes.
const BOUNDS: Bounds = Bounds { handshakes: 128, channels: 512 };
/// A peer that says nothing is noticed soon: its calls go elsewhere.
const TIMING: Timing = Timing {
    handshake: Duration::from_secs(2),
    ping: Duration::from_millis(500),
    silence: Duration::from_secs(2),
    ..Timing::DEFAULT
};
/// What goes out over a channel and was not sent yet, in words: whoever has more to say talks to somebody who does not read.
pub(crate) const OUT_MAX: usize = 64;
/// Pause before an address that could not be had is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(5);

/// This agent's end of all channels to other agents.
pub(crate) struct Peers {
    pub(crate) endpoint: Arc<Endpoint>,
    shown: watch::Sender<Option<Admitted>>,
}

/// What came over a channel.
pub(crate) enum Came<R> {
    /// A control message.
    Word(Box<R>),
    /// Bytes of a stream.
    Data { stream: u64, last: bool, bytes: Bytes },
    /// The peer showed another passport, which was judged well.
    Shown(Arc<Signed<Passport>>),
}

/// What goes over a channel: a control message, then the data that it announces; either may be missing.
pub(crate) struct Out<W> {
    pub(crate) word: Option<W>,
    pub(crate) data: Option<(u64, Bytes)>,
}

impl<W> Out<W> {
    /// A control message alone.
    pub(crate) fn word(word: W) -> Self {
        Self { word: Some(word), data: None }
    }
}

impl Peers {
    pub(crate) fn new(
        identity: Arc<IdentityKey>,
        operators: Vec<PublicKey>,
        revocations: Revocations,
        clock: Clock,
    ) -> Result<Self, TlsError> {
        let judge = AnchoredJudge::new(operators).admit(Role::Agent).with_revocations(revocations);
        let endpoint = Endpoint::new(identity, Role::Agent, Credential::None, Arc::new(judge), clock)?;
        Ok(Self { endpoint: Arc::new(endpoint.with_timing(TIMING)), shown: watch::Sender::new(None) })
    }

    /// Shows this passport from now on, also on channels that are open.
    pub(crate) fn show(&self, admitted: Option<Admitted>) {
        self.endpoint.set_credential(admitted.as_ref().map_or(Credential::None, Admitted::credential));
        self.shown.send_replace(admitted);
    }

    /// What tells a channel that another passport is to be shown; to be had before the channel opens.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Admitted>> {
        self.shown.subscribe()
    }
}

/// Listens where the configuration says, for ever; for nobody, where it does not.
pub(crate) async fn listen(agent: Arc<Inner>) -> Infallible {
    let Some(address) = agent.config.listen.clone() else { return std::future::pending().await };
    loop {
        match Listener::bind(&*address, agent.peers.endpoint.clone(), BOUNDS).await {
            Ok(listener) => {
                tracing::info!(address = %listener.address(), "takes channels of other agents");
                accept(&agent, listener).await;
            }
            Err(error) => tracing::error!(%address, %error, "cannot listen for other agents: trying again"),
        }
        sleep(BIND_AGAIN).await;
    }
}

async fn accept(agent: &Arc<Inner>, mut listener: Listener) {
    // Dropped with this future: nobody is greeted by an agent that has ended.
    let mut greetings = JoinSet::new();
    while let Some(Arrival { from, channel }) = listener.accept().await {
        while greetings.try_join_next().is_some() {}
        match channel {
            Ok(channel) => drop(greetings.spawn(serve::greet(agent.clone(), channel))),
            Err(error) => tracing::debug!(%from, %error, "no channel with another agent"),
        }
    }
}

/// Runs a channel to its end: what comes goes to `events`, what is put in `out` goes out, in order. Ends when the channel does, when
/// nobody hears any more, or, after the last word was sent, when `out` is closed.
pub(crate) async fn converse<R, W, E>(
    channel: Channel,
    mut out: mpsc::Receiver<Out<W>>,
    shown: watch::Receiver<Option<Admitted>>,
    events: &mpsc::Sender<E>,
    wrap: impl Fn(Came<R>) -> E,
) -> ChannelError
where
    R: DeserializeOwned,
    W: Serialize,
{
    let (sender, mut receiver) = channel.split();
    let reading = async {
        loop {
            let came = match receiver.recv().await {
                Err(error) => return error,
                Ok(Incoming::Data { stream, last, bytes }) => Came::Data { stream: stream.0, last, bytes },
                Ok(Incoming::Renewed(Standing::Attested(passport))) => Came::Shown(passport),
                Ok(Incoming::Renewed(_)) => continue,
                Ok(Incoming::Control(message)) => match serde_json::from_slice::<R>(&message) {
                    Ok(word) => Came::Word(Box::new(word)),
                    Err(error) => {
                        sender.revoke(unreadable(&error));
                        return sender.closed().await;
                    }
                },
            };
            if events.send(wrap(came)).await.is_err() {
                return sender.close().await;
            }
        }
    };
    let writing = async {
        while let Some(Out { word, data }) = out.recv().await {
            if let Some(word) = word
                && let Err(error) = sender.send_control(&word).await
            {
                tracing::debug!(%error, "a word to another agent was not sent");
                break;
            }
            if let Some((stream, bytes)) = data
                && sender.send_data(StreamId(stream), bytes, true).await.is_err()
            {
                break;
            }
        }
        sender.close().await
    };
    tokio::select! {
        why = reading => why,
        why = writing => why,
        never = showing(&sender, shown) => match never {},
    }
}

/// Shows each new passport on a channel.
async fn showing(sender: &Sender, mut shown: watch::Receiver<Option<Admitted>>) -> Infallible {
    while shown.changed().await.is_ok() {
        let credential = shown.borrow_and_update().as_ref().map(Admitted::credential);
        // A channel on which that fails ends, and says so to whoever reads it.
        if let Some(credential) = credential
            && sender.renew(credential).await.is_err()
        {
            break;
        }
    }
    std::future::pending().await
}

fn unreadable(error: &serde_json::Error) -> Rejection {
    Rejection::new("agent.peer-message", "message of another agent")
        .expected("one of this protocol")
        .got(error)
        .fix("run agents of one version")
}

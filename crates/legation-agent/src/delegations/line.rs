//! A loan's channel, as its borrower keeps it: dialled, held against the passport that the manager named, dialled again.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use legation_core::{LeaseId, Rejection, Signed, delegation::call::check_peer, statement::Passport};
use legation_net::{
    ChannelError, Standing,
    delegation::{ToBorrower, ToLent},
};
use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, sleep},
};

use crate::{
    agent::Inner,
    peers::{Came, OUT_MAX, Out, converse},
};

/// Pause before the second dial; doubled for each after it.
const AGAIN: Duration = Duration::from_millis(50);
/// A channel that lasted so long was one: what comes and goes is dialled ever more slowly.
const LASTED: Duration = Duration::from_secs(1);
/// A delegate that could not be reached for so long is given back: one dial that waits in vain is not enough for that.
const GIVE_UP: Duration = Duration::from_secs(3);

/// Check of a delegate that could not be reached. Every other reason why a line is dead is about who is there.
pub(super) const UNREACHED: &str = "delegate.unreached";

/// What happens on a line.
pub(super) enum OnLine {
    /// A channel is up; `out` goes out on it. The peer showed this passport.
    Up { out: mpsc::Sender<Out<ToLent>>, met: Arc<Signed<Passport>> },
    /// The delegate said this.
    Word(Box<ToBorrower>),
    /// Bytes of a stream.
    Data { stream: u64, last: bool, bytes: Bytes },
    /// It showed another passport.
    Shown(Arc<Signed<Passport>>),
    /// The channel is gone; it is dialled again.
    Down,
    /// There will be no channel: somebody else is there, or nobody.
    Dead(Rejection),
}

/// A line that is dropped ends.
pub(super) struct Line {
    task: AbortHandle,
    pub(super) out: Option<mpsc::Sender<Out<ToLent>>>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    /// Begins to dial the enclave of `named` for a loan. What happens goes to `events`.
    pub(super) fn open(
        agent: &Arc<Inner>,
        loan: LeaseId,
        named: Signed<Passport>,
        events: &mpsc::Sender<(LeaseId, OnLine)>,
    ) -> Self {
        let (agent, events) = (agent.clone(), events.clone());
        let task = tokio::spawn(async move {
            let why = keep(&agent, loan, &named, &events).await;
            // A driver that has ended needs no more to know.
            let _ = events.send((loan, OnLine::Dead(why))).await;
        });
        Self { task: task.abort_handle(), out: None }
    }
}

/// Dials until the delegate is another than was named, or has not been there for too long; says which.
async fn keep(
    agent: &Arc<Inner>,
    loan: LeaseId,
    named: &Signed<Passport>,
    events: &mpsc::Sender<(LeaseId, OnLine)>,
) -> Rejection {
    let Some(address) = &named.configuration.advertise else {
        return Rejection::new("delegate.address", "where the enclave takes channels")
            .expected("an address")
            .got("none");
    };
    let (mut pause, mut away) = (AGAIN, Instant::now());
    loop {
        let shown = agent.peers.watch();
        let error = match agent.peers.endpoint.connect(&**address, Some(&named.enclave)).await {
            Ok(channel) => {
                let met = match channel.sender().standing() {
                    Standing::Attested(met) => met,
                    _ => return refused("an attested enclave", "another peer"),
                };
                if let Err(why) = check_peer(named, &met) {
                    channel.sender().revoke(why.clone());
                    return why;
                }
                let (out, words) = mpsc::channel(OUT_MAX);
                if events.send((loan, OnLine::Up { out, met })).await.is_err() {
                    return refused("somebody who waits", "nobody");
                }
                let wrap = |came| match came {
                    Came::Word(word) => (loan, OnLine::Word(word)),
                    Came::Data { stream, last, bytes } => (loan, OnLine::Data { stream, last, bytes }),
                    Came::Shown(passport) => (loan, OnLine::Shown(passport)),
                };
                let up = Instant::now();
                let error = converse::<ToBorrower, ToLent, _>(channel, words, shown, events, wrap).await;
                if events.send((loan, OnLine::Down)).await.is_err() {
                    return refused("somebody who waits", "nobody");
                }
                away = Instant::now();
                if up.elapsed() >= LASTED {
                    pause = AGAIN;
                }
                error
            }
            Err(error) => error,
        };
        tracing::debug!(%loan, %error, "no channel to a delegate");
        match error {
            ChannelError::Refused(why) | ChannelError::RefusedByPeer(why) => return why,
            other if away.elapsed() >= GIVE_UP => {
                return Rejection::new(UNREACHED, "channel to the delegate")
                    .expected("a channel")
                    .got(other.to_string());
            }
            _ => {}
        }
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(GIVE_UP);
    }
}

fn refused(expected: &str, got: &str) -> Rejection {
    Rejection::new("delegate.lost", "channel to the delegate").expected(expected).got(got)
}

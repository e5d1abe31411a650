//! An open channel as its owner holds it: a [`Sender`] that can be cloned and a [`Receiver`].
//!
//! Messages of one kind arrive in the order in which they were sent; control messages overtake data. Every queue is bounded,
//! by number and by bytes, in both directions: a slow reader makes the sender wait, not memory grow.
//!
//! The channel lives in one task of its own, which ends when the last sender or the receiver is dropped, when either side
//! closes or refuses, or when the peer falls silent. The first reason is kept and is what every call returns afterwards.

use std::{
    fmt,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use legation_core::{PublicKey, Rejection, claims::Role};
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, watch},
    time::Instant,
};

use crate::{
    driver::{self, Goodbye, Queues, Shared},
    endpoint::{Endpoint, Established},
    error::{ChannelError, SendError},
    frame::{CONTROL_MAX, DATA_MAX, Encoded, Kind, StreamId},
    judge::{Credential, Standing},
    renewal::Renewals,
};

/// Frames of the protocol itself that wait to be written.
pub(crate) const URGENT_QUEUE_MAX: usize = 16;
/// Control messages that wait to be written.
pub const CONTROL_QUEUE_MAX: usize = 1024;
/// Bytes of control messages that wait to be written.
pub const CONTROL_QUEUE_BYTES_MAX: usize = 4 * CONTROL_MAX;
/// Data frames that wait to be written.
pub const DATA_QUEUE_MAX: usize = 16;
/// Frames that wait for the owner.
pub const INCOMING_QUEUE_MAX: usize = 256;
/// Bytes of frames that wait for the owner.
pub const INCOMING_QUEUE_BYTES_MAX: usize = 2 * CONTROL_MAX;

/// A place in a [listener's bounds](crate::listen::Bounds), given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Seat {
    /// A place nobody counts.
    pub(crate) fn none() -> Self {
        Self { _permit: None }
    }

    /// A counted place.
    pub(crate) fn of(permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: Some(permit) }
    }
}

/// What comes out of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A control message: JSON that only the owner understands.
    Control(Bytes),
    /// Part of a stream. It shares memory with its neighbours: copy what is kept for long.
    Data {
        /// Which stream.
        stream: StreamId,
        /// Whether the stream ends here.
        last: bool,
        /// Its next bytes.
        bytes: Bytes,
    },
    /// The peer showed another credential and has this standing from here on.
    Renewed(Standing),
}

/// An open channel, both halves.
#[derive(Debug)]
pub struct Channel {
    sender: Sender,
    receiver: Receiver,
}

/// The half that sends and steers. Clones share the channel.
#[derive(Clone)]
pub struct Sender(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    control: mpsc::Sender<Queued>,
    data: mpsc::Sender<Encoded>,
    budget: Arc<Semaphore>,
    renewing: tokio::sync::Mutex<()>,
}

/// A control message with its share of the queue's bytes.
pub(crate) struct Queued {
    pub(crate) frame: Encoded,
    pub(crate) _share: OwnedSemaphorePermit,
}

/// The half that receives.
pub struct Receiver {
    shared: Arc<Shared>,
    incoming: mpsc::Receiver<(Incoming, usize)>,
    budget: Arc<Semaphore>,
}

impl Channel {
    pub(crate) fn start<IO>(endpoint: &Endpoint, established: Established<IO>, seat: Seat) -> Self
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Established { reader, writer, session, credential, peer } = established;
        let (urgent_tx, urgent) = mpsc::channel(URGENT_QUEUE_MAX);
        let (control_tx, control) = mpsc::channel(CONTROL_QUEUE_MAX);
        let (data_tx, data) = mpsc::channel(DATA_QUEUE_MAX);
        let (incoming_tx, incoming) = mpsc::channel(INCOMING_QUEUE_MAX);
        let budget = Arc::new(Semaphore::new(INCOMING_QUEUE_BYTES_MAX));
        let shared = Arc::new(Shared {
            session: session.clone(),
            peer_role: peer.role,
            judge: endpoint.judge.clone(),
            clock: endpoint.clock.clone(),
            timing: endpoint.timing,
            opened: Instant::now(),
            standing: watch::Sender::new(peer.standing),
            ended: watch::Sender::new(None),
            goodbye: watch::Sender::new(None),
            renewals: Mutex::new(Renewals::new(session, credential, peer.credential)),
            renewed: watch::Sender::new(0),
            urgent: urgent_tx,
            pinged: AtomicU64::new(0),
            round_trip_micros: AtomicU64::new(u64::MAX),
        });
        let queues = Queues { urgent, control, data };
        let inbox = driver::Inbox { queue: incoming_tx, budget: budget.clone() };
        tokio::spawn(driver::drive(reader, writer, queues, inbox, shared.clone(), seat));
        let sender = Sender(Arc::new(Inner {
            shared: shared.clone(),
            control: control_tx,
            data: data_tx,
            budget: Arc::new(Semaphore::new(CONTROL_QUEUE_BYTES_MAX)),
            renewing: tokio::sync::Mutex::new(()),
        }));
        Self { sender, receiver: Receiver { shared, incoming, budget } }
    }

    /// The sending half, to call things on without splitting.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// The receiving half, to call things on without splitting.
    pub fn receiver(&mut self) -> &mut Receiver {
        &mut self.receiver
    }

    /// Both halves.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }
}

impl Sender {
    /// The peer's identity key, as TLS proved it.
    pub fn peer(&self) -> &PublicKey {
        self.0.shared.session.peer()
    }

    /// What the peer does in the pool.
    pub fn peer_role(&self) -> Role {
        self.0.shared.peer_role
    }

    /// The peer's standing now.
    pub fn standing(&self) -> Standing {
        self.0.shared.standing.borrow().clone()
    }

    /// Time from a ping to its answer, near the least of late; nothing before the first. A peer can make it longer by answering
    /// late; not shorter, but by guessing what a ping on its way says.
    pub fn round_trip(&self) -> Option<Duration> {
        self.0.shared.round_trip()
    }

    /// Sends `message` as JSON once there is room. Dropping the future before it is done sends nothing.
    ///
    /// # Errors
    /// Over [`CONTROL_MAX`], or the channel has ended.
    pub async fn send_control<T: Serialize + ?Sized>(&self, message: &T) -> Result<(), SendError> {
        let frame = Encoded::json(Kind::Control, message)?;
        let gone = |_| self.ended();
        let share = self.0.budget.clone().acquire_many_owned(share(&frame)).await.map_err(|_| self.ended())?;
        Ok(self.0.control.send(Queued { frame, _share: share }).await.map_err(gone)?)
    }

    /// Sends `message` as JSON if there is room at once.
    ///
    /// # Errors
    /// [`SendError::Full`], over [`CONTROL_MAX`], or the channel has ended.
    pub fn try_send<T: Serialize + ?Sized>(&self, message: &T) -> Result<(), SendError> {
        let frame = Encoded::json(Kind::Control, message)?;
        if self.0.control.is_closed() {
            return Err(self.ended().into());
        }
        let share = match self.0.budget.clone().try_acquire_many_owned(share(&frame)) {
            Ok(share) => share,
            Err(TryAcquireError::NoPermits) => return Err(SendError::Full),
            Err(TryAcquireError::Closed) => return Err(self.ended().into()),
        };
        self.0.control.try_send(Queued { frame, _share: share }).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => SendError::Full,
            mpsc::error::TrySendError::Closed(_) => self.ended().into(),
        })
    }

    /// Sends the next bytes of a stream, in frames of at most [`DATA_MAX`], without copying them. Waits while the queue is
    /// full. Dropping the future in between leaves a part of `bytes` sent: the stream should then be given up.
    ///
    /// # Errors
    /// The channel has ended.
    pub async fn send_data(&self, stream: StreamId, mut bytes: Bytes, last: bool) -> Result<(), SendError> {
        loop {
            let piece = bytes.split_to(bytes.len().min(DATA_MAX));
            let ends = bytes.is_empty();
            self.0.data.send(Encoded::data(stream, piece, last && ends)?).await.map_err(|_| self.ended())?;
            if ends {
                return Ok(());
            }
        }
    }

    /// Shows `credential` from now on: a fresh exchange in both directions on this connection. When this returns, the peer has
    /// judged it well, and all that is sent afterwards arrives after [`Incoming::Renewed`]. Dropping the future does not stop
    /// an exchange that has begun.
    ///
    /// # Errors
    /// The channel has ended, in particular because the peer refused.
    pub async fn renew(&self, credential: Credential) -> Result<(), ChannelError> {
        let shared = &self.0.shared;
        let _turn = self.0.renewing.lock().await;
        let mut renewed = shared.renewed.subscribe();
        let mut ended = shared.ended.subscribe();
        let mut begun = false;
        while !begun {
            begun = shared.begin_renewal(&credential, &mut renewed)?;
            // Not begun: an exchange that the peer began must end first. Begun: this one must.
            tokio::select! {
                biased;
                _ = ended.wait_for(Option::is_some) => return Err(self.ended()),
                _ = renewed.changed() => {}
            }
        }
        Ok(())
    }

    /// Ends the channel after what is queued was sent, and waits until it has ended.
    pub async fn close(&self) -> ChannelError {
        self.0.shared.say_goodbye(Goodbye::Drain);
        self.closed().await
    }

    /// Ends the channel at once; the peer is told `reason` if it still listens.
    pub fn revoke(&self, reason: Rejection) {
        self.0.shared.say_goodbye(Goodbye::Refuse(ChannelError::Refused(reason)));
    }

    /// Waits until the channel has ended, and says why.
    pub async fn closed(&self) -> ChannelError {
        let mut ended = self.0.shared.ended.subscribe();
        let _ = ended.wait_for(Option::is_some).await;
        self.ended()
    }

    fn ended(&self) -> ChannelError {
        self.0.shared.why()
    }
}

/// A frame's share of a queue's bytes.
fn share(frame: &Encoded) -> u32 {
    u32::try_from(frame.size()).unwrap_or(u32::MAX)
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.say_goodbye(Goodbye::Drain);
    }
}

impl Receiver {
    /// What comes next. Dropping the future loses nothing. After the channel's end, what had arrived still comes.
    ///
    /// # Errors
    /// Why the channel has ended.
    pub async fn recv(&mut self) -> Result<Incoming, ChannelError> {
        match self.incoming.recv().await {
            Some((incoming, share)) => {
                self.budget.add_permits(share);
                Ok(incoming)
            }
            None => Err(self.shared.why()),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.say_goodbye(Goodbye::Drain);
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender(to {} {}, {})", self.peer_role(), self.peer().id().short(), self.standing())
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver(from {} {})", self.shared.peer_role, self.shared.session.peer().id().short())
    }
}

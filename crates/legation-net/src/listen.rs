//! Accepts connections, with a bound on handshakes at once and on channels at once.
//!
//! While all handshakes are taken nothing more is accepted, so newcomers wait in the kernel's bounded queue; a slow or silent
//! client frees its place when the handshake's time is over. When all channels are taken, newcomers are turned away at once.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream, ToSocketAddrs},
    sync::{Semaphore, mpsc},
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use crate::{
    channel::{Channel, Seat},
    endpoint::Endpoint,
    error::ChannelError,
};

/// Finished handshakes that wait for [`Listener::accept`].
const ARRIVALS_MAX: usize = 64;
/// Pause after the system could not accept, which it cannot while the process has too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How much a listener takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Handshakes at once.
    pub handshakes: usize,
    /// Channels at once, those in their handshake included.
    pub channels: usize,
}

impl Bounds {
    /// What production uses: handshakes of a millisecond each, and a few thousand agents.
    pub const DEFAULT: Self = Self { handshakes: 128, channels: 16_384 };
}

/// Who came, and how it went.
#[derive(Debug)]
pub struct Arrival {
    /// From where.
    pub from: SocketAddr,
    /// The channel, or why there is none.
    pub channel: Result<Channel, ChannelError>,
}

/// Accepts channels until it is dropped. Channels live on.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    arrivals: mpsc::Receiver<Arrival>,
    task: AbortHandle,
}

impl Listener {
    /// Listens on `addr` for `endpoint`.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn bind(addr: impl ToSocketAddrs, endpoint: Arc<Endpoint>, bounds: Bounds) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let address = listener.local_addr()?;
        let (tx, arrivals) = mpsc::channel(ARRIVALS_MAX);
        let task = tokio::spawn(accept(listener, endpoint, bounds, tx)).abort_handle();
        Ok(Self { address, arrivals, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next arrival. Failed handshakes are told of while somebody listens, and forgotten when there are too many.
    pub async fn accept(&mut self) -> Option<Arrival> {
        self.arrivals.recv().await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, endpoint: Arc<Endpoint>, bounds: Bounds, arrivals: mpsc::Sender<Arrival>) {
    let handshakes = Arc::new(Semaphore::new(bounds.handshakes));
    let channels = Arc::new(Semaphore::new(bounds.channels));
    // Dropped with this future: no handshake outlives its listener.
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let Ok(turn) = handshakes.clone().acquire_owned().await else { return };
        let (tcp, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(seat) = channels.clone().try_acquire_owned() else {
            tracing::warn!(%from, channels = bounds.channels, "turned a connection away: no channel is free");
            continue;
        };
        let (endpoint, arrivals) = (endpoint.clone(), arrivals.clone());
        tasks.spawn(async move {
            let channel = handshake(&endpoint, tcp, Seat::of(seat), from).await;
            drop(turn);
            match channel {
                // The owner may be slow to take channels, and gone altogether: then the channel is dropped and closes.
                Ok(channel) => drop(arrivals.send(Arrival { from, channel: Ok(channel) }).await),
                Err(error) => drop(arrivals.try_send(Arrival { from, channel: Err(error) })),
            }
        });
    }
}

async fn handshake(endpoint: &Endpoint, tcp: TcpStream, seat: Seat, from: SocketAddr) -> Result<Channel, ChannelError> {
    endpoint.accept_in(tcp, seat).await.inspect_err(|error| tracing::debug!(%from, %error, "handshake failed"))
}

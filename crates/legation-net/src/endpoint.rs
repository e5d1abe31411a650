//! One side's identity, credential, judge and patience: what every channel of a process has in common, and how they open.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use legation_core::{Digest, PublicKey, Rejection, Signer, UnixTime, claims::Role};
use legation_keys::Entropy;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    net::{TcpStream, ToSocketAddrs},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::{
    channel::{Channel, Seat},
    entropy::OsEntropy,
    error::ChannelError,
    frame::{self, Encoded, Frame, Kind},
    handshake::{Exchange, Hello, Peer, Proof, Session, Side},
    judge::{Credential, Judge},
    tls::{self, Exporters, TlsError, TlsIdentity},
    wire::{FrameReader, write_batch},
};

/// Most bytes that TLS holds for a connection before the socket takes them.
const TLS_BUFFER_MAX: usize = 256 * 1024;

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// How long a side waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// For the whole handshake, from the first byte of TLS to the last proof; also for a renewal.
    pub handshake: Duration,
    /// Between two pings.
    pub ping: Duration,
    /// For any sign of life; some pings must fit in.
    pub silence: Duration,
    /// For the peer to take anything at all, and for a closing channel to deliver what is queued.
    pub stall: Duration,
    /// Between two looks at whether the peer's standing still holds.
    pub check: Duration,
    /// For an applicant to become more than that.
    pub applicant: Duration,
    /// For the peer to end its side after this side has ended.
    pub linger: Duration,
}

impl Timing {
    /// What production uses.
    pub const DEFAULT: Self = Self {
        handshake: Duration::from_secs(5),
        ping: Duration::from_secs(3),
        silence: Duration::from_secs(10),
        stall: Duration::from_secs(30),
        check: Duration::from_secs(1),
        applicant: Duration::from_secs(300),
        linger: Duration::from_secs(1),
    };
}

impl Default for Timing {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// One side of every channel of a process.
pub struct Endpoint {
    pub(crate) tls: TlsIdentity,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) role: Role,
    pub(crate) judge: Arc<dyn Judge>,
    pub(crate) clock: Clock,
    pub(crate) timing: Timing,
    credential: Mutex<Credential>,
}

/// What a handshake leaves behind.
pub(crate) struct Established<IO> {
    pub(crate) reader: FrameReader<ReadHalf<TlsStream<IO>>>,
    pub(crate) writer: WriteHalf<TlsStream<IO>>,
    pub(crate) session: Arc<Session>,
    pub(crate) credential: Credential,
    pub(crate) peer: Peer,
}

impl Endpoint {
    /// The side of `signer`, who does `role`, shows `credential`, and believes `judge` about others as of `clock`.
    ///
    /// # Errors
    /// When no TLS configuration can be made of the key.
    pub fn new(
        signer: Arc<dyn Signer>,
        role: Role,
        credential: Credential,
        judge: Arc<dyn Judge>,
        clock: Clock,
    ) -> Result<Self, TlsError> {
        let tls = TlsIdentity::new(signer.clone())?;
        Ok(Self { tls, signer, role, judge, clock, timing: Timing::DEFAULT, credential: Mutex::new(credential) })
    }

    /// Waits otherwise than [`Timing::DEFAULT`].
    pub fn with_timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Shows this on channels opened from now on. Open channels [renew](crate::Sender::renew) theirs.
    pub fn set_credential(&self, credential: Credential) {
        *self.credential.lock().unwrap_or_else(PoisonError::into_inner) = credential;
    }

    /// Dials `addr`. With `key`, only the holder of that key will do.
    ///
    /// # Errors
    /// Whatever keeps the channel from opening; [`ChannelError::RefusedByPeer`] holds the peer's reason.
    pub async fn connect(&self, addr: impl ToSocketAddrs, key: Option<&PublicKey>) -> Result<Channel, ChannelError> {
        let after = self.timing.handshake;
        let tcp = timeout(after, TcpStream::connect(addr))
            .await
            .map_err(|_| ChannelError::HandshakeTimeout { after })?
            .map_err(ChannelError::io)?;
        tcp.set_nodelay(true).map_err(ChannelError::io)?;
        self.connect_over(tcp, key).await
    }

    /// As [`Self::connect`], over a stream that is open already.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_over<IO>(&self, io: IO, key: Option<&PublicKey>) -> Result<Channel, ChannelError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let dial = async {
            let connector = TlsConnector::from(self.tls.client());
            let mut stream = connector
                .connect_with(tls::server_name(), io, |session| session.set_buffer_limit(Some(TLS_BUFFER_MAX)))
                .await
                .map_err(|e| ChannelError::Handshake(Arc::new(e)))?;
            // TLS 1.3 lets the dialler finish before the listener has seen its certificate; its proof says that it has.
            stream.flush().await.map_err(ChannelError::io)?;
            let (peer, exporters) = (tls::peer_key(stream.get_ref().1)?, Exporters::of(stream.get_ref().1)?);
            if let Some(key) = key.filter(|key| **key != peer) {
                return Err(ChannelError::Refused(
                    Rejection::new("channel.diverted", "key at the other end").expected(key.id()).got(peer.id()),
                ));
            }
            self.exchange(stream.into(), Side::Dialler, peer, exporters).await
        };
        Ok(Channel::start(self, self.within(dial).await?, Seat::none()))
    }

    /// Answers a connection that was accepted.
    ///
    /// # Errors
    /// Whatever keeps the channel from opening; the peer was told when it was refused.
    pub async fn accept(&self, tcp: TcpStream) -> Result<Channel, ChannelError> {
        self.accept_in(tcp, Seat::none()).await
    }

    /// As [`Self::accept`], over any stream.
    ///
    /// # Errors
    /// As [`Self::accept`].
    pub async fn accept_over<IO>(&self, io: IO) -> Result<Channel, ChannelError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let established = self.within(self.answer(io)).await?;
        Ok(Channel::start(self, established, Seat::none()))
    }

    /// As [`Self::accept`]; the channel keeps `seat` while it lives.
    pub(crate) async fn accept_in(&self, tcp: TcpStream, seat: Seat) -> Result<Channel, ChannelError> {
        tcp.set_nodelay(true).map_err(ChannelError::io)?;
        let established = self.within(self.answer(tcp)).await?;
        Ok(Channel::start(self, established, seat))
    }

    async fn answer<IO>(&self, io: IO) -> Result<Established<IO>, ChannelError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let acceptor = TlsAcceptor::from(self.tls.server());
        let stream = acceptor
            .accept_with(io, |session| session.set_buffer_limit(Some(TLS_BUFFER_MAX)))
            .await
            .map_err(|e| ChannelError::Handshake(Arc::new(e)))?;
        let (peer, exporters) = (tls::peer_key(stream.get_ref().1)?, Exporters::of(stream.get_ref().1)?);
        self.exchange(stream.into(), Side::Listener, peer, exporters).await
    }

    async fn within<T>(&self, handshake: impl Future<Output = Result<T, ChannelError>>) -> Result<T, ChannelError> {
        let after = self.timing.handshake;
        timeout(after, handshake).await.unwrap_or(Err(ChannelError::HandshakeTimeout { after }))
    }

    /// Says hello and proof, and hears them. A peer that is refused is told why.
    async fn exchange<IO>(
        &self,
        stream: TlsStream<IO>,
        side: Side,
        peer: PublicKey,
        exporters: Exporters,
    ) -> Result<Established<IO>, ChannelError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let session = Arc::new(Session::new(side, self.role, self.signer.clone(), peer, exporters));
        let credential = self.credential.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = FrameReader::new(reader, self.timing.silence);
        match self.converse(&mut reader, &mut writer, &session, &credential).await {
            Ok(peer) => {
                reader.open();
                Ok(Established { reader, writer, session, credential, peer })
            }
            Err(error) => {
                if let Some(reason) = error.told() {
                    let farewell = async {
                        let close = [Encoded::close(Some(&reason))];
                        write_batch(&mut writer, &close, self.timing.linger, true).await?;
                        writer.shutdown().await.map_err(ChannelError::io)?;
                        // A socket closed over unread bytes resets the connection, and the reason with it.
                        reader.drain().await;
                        Ok::<_, ChannelError>(())
                    };
                    // Whether the peer hears it is its own affair.
                    let _ = timeout(self.timing.linger, farewell).await;
                }
                Err(error)
            }
        }
    }

    async fn converse<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        reader: &mut FrameReader<ReadHalf<TlsStream<IO>>>,
        writer: &mut WriteHalf<TlsStream<IO>>,
        session: &Arc<Session>,
        credential: &Credential,
    ) -> Result<Peer, ChannelError> {
        let mut exchange = Exchange::begin(session.clone(), credential.clone(), nonce());
        let stall = self.timing.stall;
        write_batch(writer, &[Encoded::json(Kind::Hello, exchange.hello())?], stall, true).await?;
        let hello: Hello = match reader.next().await? {
            Frame::Hello(json) => frame::json(Kind::Hello, &json)?,
            other => return Err(unexpected(other)),
        };
        let proof = exchange.hear(hello, &*self.judge, (self.clock)()).map_err(ChannelError::Refused)?;
        write_batch(writer, &[Encoded::json(Kind::Proof, &proof)?], stall, true).await?;
        let proof: Proof = match reader.next().await? {
            Frame::Proof(json) => frame::json(Kind::Proof, &json)?,
            other => return Err(unexpected(other)),
        };
        exchange.conclude(&proof).map_err(ChannelError::Refused)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({} {})", self.role, self.signer.public_key().id().short())
    }
}

/// Another frame than the exchange wants: the peer's refusal, or a peer that does not know the protocol.
fn unexpected(frame: Frame) -> ChannelError {
    match frame {
        Frame::Close(Some(reason)) => ChannelError::RefusedByPeer(reason),
        Frame::Close(None) => ChannelError::ClosedByPeer,
        _ => ChannelError::Refused(Rejection::new("channel.order", "order of the handshake").expected("hello, proof")),
    }
}

/// A nonce that was never used before.
pub(crate) fn nonce() -> Digest {
    let mut bytes = [0; 32];
    OsEntropy.fill(&mut bytes);
    Digest::from_bytes(bytes)
}

//! A peer made by hand from the protocol's parts, which can say anything.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use legation_core::{Digest, PublicKey, Rejection, UnixTime, claims::Role};
use legation_net::{
    Credential, Judge, Standing,
    frame::{self, Encoded, Frame, Kind, Phase},
    handshake::{Exchange, Hello, Proof, Session, Side},
    tls::{Exporters, TlsIdentity},
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::world::key;

pub(crate) struct Raw {
    pub(crate) tls: TlsStream<TcpStream>,
    pub(crate) session: Arc<Session>,
    buffer: BytesMut,
}

/// Believes everybody.
pub(crate) struct Anyone;

impl Judge for Anyone {
    fn judge(&self, _: Role, _: &PublicKey, _: &Credential, _: UnixTime) -> Result<Standing, Rejection> {
        Ok(Standing::Applicant)
    }
}

/// What one side said in a handshake, as it travelled.
pub(crate) struct Said {
    pub(crate) hello: Vec<u8>,
    pub(crate) proof: Vec<u8>,
}

impl Raw {
    /// Dials with the key of `seed` and stops after TLS.
    pub(crate) async fn dial(address: SocketAddr, seed: u8, role: Role) -> Self {
        let identity = TlsIdentity::new(key(seed)).unwrap();
        let tcp = TcpStream::connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from("anything").unwrap();
        let tls = TlsConnector::from(identity.client()).connect(name, tcp).await.unwrap();
        let connection = tls.get_ref().1;
        let peer = spki(&connection.peer_certificates().unwrap()[0]);
        let exporters = Exporters::of(connection).unwrap();
        let session = Arc::new(Session::new(Side::Dialler, role, key(seed), peer, exporters));
        Self { tls, session, buffer: BytesMut::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.tls.write_all(bytes).await.unwrap();
        self.tls.flush().await.unwrap();
    }

    /// The next frame, or nothing at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let read = async {
            loop {
                if let Some(frame) = frame::decode(&mut self.buffer, Phase::Open).unwrap() {
                    return Some(frame);
                }
                if self.tls.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        };
        timeout(Duration::from_secs(10), read).await.expect("a frame or an end in time")
    }

    /// The reason of the close frame, which must come before anything of the owner's.
    pub(crate) async fn reason(&mut self) -> Option<String> {
        loop {
            match self.next().await? {
                Frame::Close(reason) => return reason.map(|r| r.check),
                Frame::Ping(_) | Frame::Pong(_) | Frame::Hello(_) | Frame::Proof(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The whole handshake, as it should be; gives what this side said.
    pub(crate) async fn handshake(&mut self, credential: Credential) -> Said {
        let mut exchange = Exchange::begin(self.session.clone(), credential, Digest::of(&[9]));
        let hello = Encoded::json(Kind::Hello, exchange.hello()).unwrap().to_vec();
        self.send(&hello).await;
        let proof = exchange.hear(self.hear_hello().await.0, &Anyone, UnixTime(0)).unwrap();
        let proof = Encoded::json(Kind::Proof, &proof).unwrap().to_vec();
        self.send(&proof).await;
        let Some(Frame::Proof(theirs)) = self.next().await else { panic!("no proof") };
        let theirs: Proof = serde_json::from_slice(&theirs).unwrap();
        exchange.conclude(&theirs).unwrap();
        Said { hello, proof }
    }

    /// The peer's hello, parsed and as it travelled.
    pub(crate) async fn hear_hello(&mut self) -> (Hello, Vec<u8>) {
        let Some(Frame::Hello(json)) = self.next().await else { panic!("no hello") };
        let hello: Hello = serde_json::from_slice(&json).unwrap();
        let wire = Encoded::json(Kind::Hello, &hello).unwrap().to_vec();
        (hello, wire)
    }
}

/// The Ed25519 key in a certificate of ours: the only such structure in it.
fn spki(certificate: &[u8]) -> PublicKey {
    let found = certificate.windows(44).find_map(PublicKey::from_spki);
    found.expect("a certificate with an Ed25519 key")
}

//! Peers that lie, replay, reflect, dawdle, or speak something else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use legation_core::{Digest, UnixTime, claims::Role};
use legation_net::{
    ChannelError, Credential, Timing,
    frame::{CONTROL_MAX, Encoded, HELLO_MAX, Kind},
    handshake::{Exchange, VERSION},
    tls::{ALPN, TlsIdentity},
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    raw::{Anyone, Raw},
    world::{AGENT, NOW, TIMING, World, check, ended, key, listen, passport},
};

fn good() -> Credential {
    passport(AGENT, NOW, NOW + 600)
}

#[tokio::test]
async fn what_was_said_in_one_session_is_worth_nothing_in_another() {
    let world = World::new();
    let (mut listener, address) = listen(world.manager()).await;
    let mut first = Raw::dial(address, AGENT, Role::Agent).await;
    let said = first.handshake(good()).await;
    assert!(listener.accept().await.unwrap().channel.is_ok());
    // The same key, hello, credential and nonce, byte for byte, in another session.
    let mut second = Raw::dial(address, AGENT, Role::Agent).await;
    second.send(&said.hello).await;
    second.hear_hello().await;
    second.send(&said.proof).await;
    assert_eq!(second.reason().await.as_deref(), Some("channel.proof"));
    assert_eq!(check(&listener.accept().await.unwrap().channel.unwrap_err()), "refused channel.proof");
    // And over a session of another key, which is what a relay has.
    let mut third = Raw::dial(address, 77, Role::Agent).await;
    third.send(&said.hello).await;
    assert_eq!(third.reason().await.as_deref(), Some("channel.key"));
}

#[tokio::test]
async fn what_a_side_said_cannot_be_said_back_to_it() {
    let world = World::new();
    let judge = || world.judge().admit_applicants();
    // Two agents, so that the roles are the same, without credentials, so that nothing else tells them apart; at last with
    // the listener's own key, so that only the direction differs.
    for seed in [77, AGENT] {
        let agent = world.endpoint_with(AGENT, Role::Agent, Credential::None, judge());
        let (mut listener, address) = listen(agent).await;
        let mut raw = Raw::dial(address, seed, Role::Agent).await;
        let (_, hello) = raw.hear_hello().await;
        raw.send(&hello).await;
        let Some(legation_net::frame::Frame::Proof(proof)) = raw.next().await else { panic!("no proof") };
        let proof: serde_json::Value = serde_json::from_slice(&proof).unwrap();
        raw.send(&Encoded::json(Kind::Proof, &proof).unwrap().to_vec()).await;
        assert_eq!(raw.reason().await.as_deref(), Some("channel.proof"), "seed {seed}");
        assert_eq!(check(&listener.accept().await.unwrap().channel.unwrap_err()), "refused channel.proof");
    }
}

#[tokio::test]
async fn altered_hellos_and_proofs_are_refused() {
    let world = World::new();
    let (_listener, address) = listen(world.manager()).await;
    let flip = |at: usize| {
        move |proof: &mut Vec<u8>| {
            // Inside the base64 of the signature, to another digit.
            let at = proof.len() - 12 - at;
            proof[at] = if proof[at] == b'A' { b'B' } else { b'A' };
        }
    };
    for (name, alter) in [
        ("end", Box::new(flip(0)) as Box<dyn Fn(&mut Vec<u8>)>),
        ("middle", Box::new(flip(40))),
        ("begin", Box::new(flip(70))),
    ] {
        let mut raw = Raw::dial(address, AGENT, Role::Agent).await;
        let mut exchange = Exchange::begin(raw.session.clone(), good(), Digest::of(b"n"));
        raw.send(&Encoded::json(Kind::Hello, exchange.hello()).unwrap().to_vec()).await;
        let proof = exchange.hear(raw.hear_hello().await.0, &Anyone, UnixTime(0)).unwrap();
        let mut proof = Encoded::json(Kind::Proof, &proof).unwrap().to_vec();
        alter(&mut proof);
        raw.send(&proof).await;
        assert_eq!(raw.reason().await.as_deref(), Some("channel.proof"), "{name}");
    }
    // The proof is for the hello that was heard: another nonce, another credential will not do.
    for (name, nonce, credential) in
        [("nonce", Digest::of(b"other"), good()), ("credential", Digest::of(b"n"), passport(AGENT, NOW, NOW + 601))]
    {
        let mut raw = Raw::dial(address, AGENT, Role::Agent).await;
        let heard = Exchange::begin(raw.session.clone(), good(), Digest::of(b"n"));
        raw.send(&Encoded::json(Kind::Hello, heard.hello()).unwrap().to_vec()).await;
        let mut signed = Exchange::begin(raw.session.clone(), credential, nonce);
        let proof = signed.hear(raw.hear_hello().await.0, &Anyone, UnixTime(0)).unwrap();
        raw.send(&Encoded::json(Kind::Proof, &proof).unwrap().to_vec()).await;
        assert_eq!(raw.reason().await.as_deref(), Some("channel.proof"), "{name}");
    }
    // Another version, and fields that nobody knows.
    let mut raw = Raw::dial(address, AGENT, Role::Agent).await;
    let mut hello = Exchange::begin(raw.session.clone(), good(), Digest::of(b"n")).hello().clone();
    hello.version = VERSION + 1;
    raw.send(&Encoded::json(Kind::Hello, &hello).unwrap().to_vec()).await;
    assert_eq!(raw.reason().await.as_deref(), Some("channel.version"));
    let mut raw = Raw::dial(address, AGENT, Role::Agent).await;
    let mut json = serde_json::to_value(&hello).unwrap();
    json["extra"] = 1.into();
    raw.send(&Encoded::json(Kind::Hello, &json).unwrap().to_vec()).await;
    assert_eq!(raw.reason().await.as_deref(), Some("channel.frame"));
}

#[tokio::test]
async fn frames_out_of_bounds_or_order_end_the_connection() {
    let world = World::new();
    let (mut listener, address) = listen(world.manager()).await;
    let head =
        |payload: usize, kind: Kind| [&u32::try_from(payload + 1).unwrap().to_be_bytes()[..], &[kind as u8]].concat();
    for (name, bytes, expected) in [
        ("large hello", head(HELLO_MAX + 1, Kind::Hello), "channel.frame"),
        ("control first", Encoded::json(Kind::Control, "x").unwrap().to_vec(), "channel.frame"),
        ("data first", head(9, Kind::Data), "channel.frame"),
        ("garbage", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "channel.frame"),
        ("proof first", Encoded::json(Kind::Proof, "x").unwrap().to_vec(), "channel.order"),
    ] {
        let mut raw = Raw::dial(address, AGENT, Role::Agent).await;
        raw.send(&bytes).await;
        assert_eq!(raw.reason().await.as_deref(), Some(expected), "{name}");
        assert!(listener.accept().await.unwrap().channel.is_err());
    }
    for (name, bytes, expected) in [
        ("large control", head(CONTROL_MAX + 1, Kind::Control), "channel.frame"),
        ("unknown kind", vec![0, 0, 0, 1, 99], "channel.frame"),
        (
            "second proof",
            Encoded::json(Kind::Proof, &serde_json::json!({"signature": sig()})).unwrap().to_vec(),
            "channel.order",
        ),
    ] {
        let mut raw = Raw::dial(address, AGENT, Role::Agent).await;
        raw.handshake(good()).await;
        raw.send(&bytes).await;
        assert_eq!(raw.reason().await.as_deref(), Some(expected), "{name}");
        let channel = listener.accept().await.unwrap().channel.unwrap();
        ended(channel.sender()).await;
        if name == "large control" {
            let why = ended(channel.sender()).await.to_string();
            assert!(why.contains("Control frame of 1048577 bytes is over its limit of 1048576"), "{why}");
        }
    }
}

fn sig() -> String {
    legation_core::encoding::base64(&[0; 64])
}

#[tokio::test]
async fn dawdlers_are_dropped_in_time() {
    let world = World::new();
    let timing = Timing { handshake: Duration::from_millis(600), ..TIMING };
    let (mut listener, address) = listen(world.manager().with_timing(timing)).await;
    // TLS, and then nothing.
    let mut mute = Raw::dial(address, AGENT, Role::Agent).await;
    let begun = Instant::now();
    mute.hear_hello().await;
    assert!(mute.next().await.is_none());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let error = listener.accept().await.unwrap().channel.unwrap_err();
    assert!(matches!(error, ChannelError::HandshakeTimeout { .. }), "{error}");
    // A byte now and then: of TLS, of a hello.
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00]).await.unwrap();
    let mut crawl = Raw::dial(address, AGENT, Role::Agent).await;
    let begun = Instant::now();
    loop {
        if slow.write_all(&[0]).await.is_err() || crawl.tls.write_all(&[0]).await.is_err() {
            break;
        }
        let _ = crawl.tls.flush().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "still there");
    }
    for _ in 0..2 {
        assert!(listener.accept().await.unwrap().channel.is_err());
    }
}

#[tokio::test]
async fn silent_clients_do_not_keep_others_out_for_long() {
    let world = World::new();
    let timing = Timing { handshake: Duration::from_millis(400), ..TIMING };
    let bounds = legation_net::Bounds { handshakes: 4, channels: 100 };
    let manager = Arc::new(world.manager().with_timing(timing));
    let mut listener = legation_net::Listener::bind("127.0.0.1:0", manager, bounds).await.unwrap();
    let address = listener.address();
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let accepting = tokio::spawn(async move {
        loop {
            if let Ok(channel) = listener.accept().await.unwrap().channel {
                return channel;
            }
        }
    });
    assert!(world.agent().connect(address, None).await.is_ok());
    assert_eq!(accepting.await.unwrap().sender().peer_role(), Role::Agent);
}

#[tokio::test]
async fn other_tls_is_refused() {
    let world = World::new();
    let (mut listener, address) = listen(world.manager()).await;
    let connect = async |config: ClientConfig| {
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("anything").unwrap();
        match TlsConnector::from(Arc::new(config)).connect(name, tcp).await {
            Err(error) => error.to_string(),
            // The refusal of a client's certificate comes after the client believes itself connected.
            Ok(mut tls) => tls.read_u8().await.unwrap_err().to_string(),
        }
    };
    let ours = || (*TlsIdentity::new(key(AGENT)).unwrap().client()).clone();
    let mut no_alpn = ours();
    no_alpn.alpn_protocols.clear();
    let mut other_alpn = ours();
    other_alpn.alpn_protocols = vec![b"h2".to_vec()];
    let mut no_certificate = ours();
    no_certificate.client_auth_cert_resolver = Arc::new(NoCertificate);
    let classical = {
        let mut provider = (**ours().crypto_provider()).clone();
        provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config
    };
    for (name, config, expected) in [
        ("other protocol", other_alpn, "NoApplicationProtocol"),
        ("no certificate", no_certificate, "CertificateRequired"),
        ("no hybrid key exchange", classical, "HandshakeFailure"),
    ] {
        let error = connect(config).await;
        assert!(error.contains(expected), "{name}: {error}");
        assert!(matches!(listener.accept().await.unwrap().channel, Err(ChannelError::Handshake(_))), "{name}");
    }
    let _ = connect(no_alpn).await;
    assert!(matches!(listener.accept().await.unwrap().channel, Err(ChannelError::Tls(_))));
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn tls_1_2_and_what_is_no_tls_are_refused() {
    let world = World::new();
    let (mut listener, address) = listen(world.manager()).await;
    for (name, bytes, alert) in [
        // ClientHello of TLS 1.2: ECDHE-RSA-AES128-GCM-SHA256, P-256, RSA-PKCS1-SHA256, without supported_versions.
        ("tls 1.2", tls12_client_hello(), Some(70)),
        ("http", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), None),
        ("zeros", vec![0; 600], None),
    ] {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer).await;
        if let Some(alert) = alert {
            // A fatal alert record and nothing else: protocol_version (RFC 8446 section 6).
            assert_eq!(
                (answer.first(), answer.len(), answer.last()),
                (Some(&0x15), 7, Some(&alert)),
                "{name}: {answer:?}"
            );
        } else {
            assert!(answer.len() <= 7, "{name}: {answer:?}");
        }
        assert!(matches!(listener.accept().await.unwrap().channel, Err(ChannelError::Handshake(_))), "{name}");
    }
    assert!(world.agent().connect(address, None).await.is_ok(), "and others are served as before");
}

fn tls12_client_hello() -> Vec<u8> {
    let extensions: Vec<u8> = [
        &[0x00, 0x0a, 0, 4, 0, 2, 0x00, 0x17][..], // supported_groups: secp256r1
        &[0x00, 0x0b, 0, 2, 1, 0],                 // ec_point_formats: uncompressed
        &[0x00, 0x0d, 0, 4, 0, 2, 0x04, 0x01],     // signature_algorithms: rsa_pkcs1_sha256
        &[0x00, 0x17, 0, 0],                       // extended_master_secret
    ]
    .concat();
    let mut body = vec![0x03, 0x03];
    body.extend_from_slice(&[0x5a; 32]);
    body.extend_from_slice(&[0, 0, 2, 0xc0, 0x2f, 1, 0]);
    body.extend_from_slice(&u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend_from_slice(&extensions);
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    let record = u16::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[0x16, 0x03, 0x01], &record[..], &[0x01, 0], &length[..], &body[..]].concat()
}

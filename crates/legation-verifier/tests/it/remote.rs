//! The client side: replicas that are away, in trouble or somebody else, and TLS.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, http::StatusCode};
use legation_core::{Digest, encoding, statement::Office};
use legation_keys::IdentityKey;
use legation_verifier::{Door, RemoteConfig, RemoteVerifier, http::Authorities};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::{self, pki_types::PrivatePkcs8KeyDer};

use crate::world::{Hand, Made, NOW, answer, appoint, check_of, listen, remote, serve, url, verifier};

/// An address where nobody listens.
async fn nowhere() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    url(listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_call_goes_on_to_the_next_replica_and_remembers_who_was_away() {
    let hand = Hand::at(NOW);
    let local = verifier(Made::default(), &hand);
    let good = url(serve(&local).await);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let busy = Router::new().fallback(move || {
        counted.fetch_add(1, SeqCst);
        async { (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")], "") }
    });
    let busy = url(listen(busy).await);
    let door = remote(&local, &[nowhere().await, busy, good]);
    let challenge = door.challenge().await.unwrap();
    assert_eq!(asked.load(SeqCst), 1);
    let issued = door.verify(answer(&[challenge]), vec![challenge]).await.unwrap();
    assert_eq!(issued.passport.verifier.id(), local.key());
    assert_eq!(asked.load(SeqCst), 1, "a replica that was overloaded a moment ago is asked last");

    let alone = remote(&local, &[nowhere().await, nowhere().await]);
    let refusal = alone.challenge().await.unwrap_err();
    assert_eq!(refusal.check, "verifier.unreachable");
    assert!(refusal.got.matches("http://127.0.0.1").count() >= 2, "says what each said: {refusal}");
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_no_reason_to_ask_elsewhere() {
    let hand = Hand::at(NOW);
    let (local, replica) = (verifier(Made::default(), &hand), verifier(Made::default(), &hand));
    let door = remote(&local, &[url(serve(&local).await), url(serve(&replica).await)]);
    let foreign = Digest::of(b"not a challenge");
    assert_eq!(check_of(door.verify(answer(&[foreign]), vec![foreign]).await), "challenge.foreign");
    let asked = remote(&replica, &[url(serve(&replica).await)]).status().await.unwrap();
    assert!(asked.refused.is_empty(), "{:?}", asked.refused);
}

#[tokio::test]
async fn another_verifier_at_the_same_address_is_not_believed() {
    let hand = Hand::at(NOW);
    let other = verifier(Made { seed: 3, ..Made::default() }, &hand);
    let ours = verifier(Made::default(), &hand);
    let door = remote(&ours, &[url(serve(&other).await)]);
    let challenge = door.challenge().await.unwrap();
    assert_eq!(check_of(door.verify(answer(&[challenge]), vec![challenge]).await), "verifier.answer");
}

#[tokio::test]
async fn a_configuration_that_makes_no_sense_is_refused() {
    let key = IdentityKey::from_seed([2; 32]);
    let make = |urls: &[&str], office| {
        check_of(RemoteVerifier::new(RemoteConfig {
            name: "far".to_owned(),
            urls: urls.iter().map(|u| (*u).to_owned()).collect(),
            appointment: appoint(&key, office),
            token: None,
            authorities: Authorities::Given(b"no certificate".to_vec()),
        }))
    };
    assert_eq!(make(&["http://127.0.0.1:1"], Office::Verifier), "ok");
    assert_eq!(make(&[], Office::Verifier), "verifier.config");
    assert_eq!(make(&["http://127.0.0.1:1"; 17], Office::Verifier), "verifier.config");
    assert_eq!(make(&["http://127.0.0.1:1"], Office::Manager), "verifier.config");
    assert_eq!(make(&["http://verifier.example"], Office::Verifier), "http.url");
    assert_eq!(make(&["https://verifier.example"], Office::Verifier), "http.authorities");
}

/// Answers one TLS client after the other with a challenge.
async fn tls_server() -> (String, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let der = made.cert.der().clone();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![der.clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let body = format!("{{\"challenge\":\"{}\"}}", Digest::of(b"over TLS"));
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", encoding::base64(&der));
    (format!("https://localhost:{port}"), pem.into_bytes())
}

#[tokio::test]
async fn tls_ends_at_an_authority_that_was_given() {
    let (url, authority) = tls_server().await;
    let key = IdentityKey::from_seed([2; 32]);
    let door = |authority: Vec<u8>| {
        RemoteVerifier::new(RemoteConfig {
            name: "far".to_owned(),
            urls: vec![url.clone()],
            appointment: appoint(&key, Office::Verifier),
            token: None,
            authorities: Authorities::Given(authority),
        })
        .unwrap()
    };
    assert_eq!(door(authority).challenge().await.unwrap(), Digest::of(b"over TLS"));
    let (_, another) = tls_server().await;
    let refused = tokio::time::timeout(Duration::from_secs(20), door(another).challenge()).await.unwrap();
    assert_eq!(check_of(refused), "verifier.unreachable");
}

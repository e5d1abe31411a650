//! `legation verifier` from its files: what is refused at the start, what is read again, and how it ends.

use std::{fs, path::Path, time::Duration};

use legation_core::{Signer, statement::Office};
use legation_keys::IdentityKey;
use legation_verifier::{Door, config::VerifierConfig, server::Server};

use crate::world::{Hand, NOW, POLICY, STRICT, anchors, answer, appoint, check_of, references, remote, url};

fn write(dir: &Path, file: &str, text: &str) {
    fs::write(dir.join(file), text).unwrap();
}

/// A deployment of one verifier; `change` is made to its configuration.
fn deploy(dir: &Path, change: (&str, &str)) -> Result<VerifierConfig, legation_core::Rejection> {
    let key = IdentityKey::from_seed([2; 32]);
    write(dir, "verifier.key", &key.to_pem());
    write(dir, "appointment.json", &appoint(&key, Office::Verifier).envelope().to_json());
    write(dir, "challenge.secret", &format!("{}\n", "5c".repeat(32)));
    write(dir, "anchors.json", &serde_json::to_string(&anchors()).unwrap());
    write(dir, "appraisal.cedar", POLICY);
    write(dir, "references.json", &references());
    let config = r#"
        name = "one"
        listen = "127.0.0.1:0"
        key = "verifier.key"
        appointment = "appointment.json"
        challenge_secret = "challenge.secret"
        anchors = "anchors.json"
        policy = "appraisal.cedar"
        references = "references.json"
        allow_development = true
        [collateral]
        dir = "collateral"
    "#;
    write(dir, "verifier.toml", &config.replace(change.0, change.1));
    VerifierConfig::load(&dir.join("verifier.toml"))
}

#[tokio::test]
async fn a_policy_is_read_again_and_a_broken_one_leaves_the_old_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOW);
    let server = Server::start(deploy(dir.path(), ("", "")).unwrap(), hand.clock()).await.unwrap();
    let door = remote(server.verifier(), &[url(server.address())]);
    let challenge = door.challenge().await.unwrap();
    let made = answer(&[challenge]);
    door.verify(made.clone(), vec![challenge]).await.unwrap();
    let before = door.status().await.unwrap().policy.digest;

    let until = async |wanted: &dyn Fn(&legation_verifier::service::Status) -> bool| {
        for _ in 0..200 {
            if wanted(&door.status().await.unwrap()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the change was not taken up: {:?}", door.status().await.unwrap());
    };
    write(dir.path(), "appraisal.cedar", "permit everything");
    until(&|s| s.warnings.iter().any(|w| w.contains("cannot be read"))).await;
    assert_eq!(door.status().await.unwrap().policy.digest, before);
    assert_eq!(check_of(door.verify(made.clone(), vec![challenge]).await), "ok", "the old one is in force");
    write(dir.path(), "appraisal.cedar", STRICT);
    until(&|s| s.policy.digest != before && s.warnings.is_empty()).await;
    assert_eq!(check_of(door.verify(made, vec![challenge]).await), "policy.nothing");

    let address = server.address();
    server.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn development_is_admitted_where_the_configuration_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOW);
    let config = deploy(dir.path(), ("allow_development = true", "")).unwrap();
    let server = Server::start(config, hand.clock()).await.unwrap();
    let challenge = server.verifier().challenge().await.unwrap();
    // Not even judged: its root is none of those that are looked at.
    let check = check_of(server.verifier().verify(answer(&[challenge]), vec![challenge]).await);
    assert!(check.starts_with("snp."), "{check}");
    server.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_together_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOW);
    for (from, to) in [
        ("127.0.0.1:0", "0.0.0.0:0"),
        ("name = \"one\"", "name = \"one\"\n unknown = 1"),
        ("name = \"one\"", ""),
        ("name = \"one\"", "name = \"one\"\n in_flight_max = 0"),
    ] {
        let refusal = deploy(dir.path(), (from, to)).unwrap_err();
        assert!(refusal.check == "config.verifier" && !refusal.fix.is_empty(), "{to}: {refusal}");
    }
    let config = deploy(dir.path(), ("", "")).unwrap();
    let stranger = IdentityKey::from_seed([77; 32]);
    let key = IdentityKey::from_seed([2; 32]);
    for (file, text) in [
        ("verifier.key", stranger.to_pem().to_string()),
        ("verifier.key", "no key".to_owned()),
        ("challenge.secret", "5c".repeat(31)),
        ("appointment.json", "{}".to_owned()),
        ("appointment.json", appoint(&key, Office::Manager).envelope().to_json()),
        ("anchors.json", format!("{{\"operators\":[\"{}\"]}}", stranger.public_key())),
    ] {
        deploy(dir.path(), ("", "")).unwrap();
        write(dir.path(), file, &text);
        let refused = Server::start(config.clone(), hand.clock()).await;
        assert_eq!(check_of(refused), "config.verifier", "{file}");
    }
    deploy(dir.path(), ("", "")).unwrap();
    let mut grace = config.clone();
    grace.collateral.grace_days = 91;
    assert_eq!(check_of(Server::start(grace, hand.clock()).await), "config.collateral");
}

//! The way of an attestation key: credential, secret, a verifier's word, and evidence that carries it. The TPM here is played;
//! a real emulator goes this way in `attester_tpm` and in the tests of the whole cloud.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use legation_agent::{
    Agent, Shutdown, Status,
    attester::{ActivationKeys, AttestError, Attester, DevelopmentAttester, KeyActivation, TpmError},
};
use legation_core::{
    Digest, Signed, UnixTime,
    claims::{Evidence, TeeKind},
    statement::{Appointment, KeyAttestation, Office},
};
use legation_net::message::{ToAgent, ToManager};

use crate::{
    manager::{Conn, IMAGE, Manager, Running, config},
    world::{self, MANAGER, STRANGER, VERIFIER, now, sign},
};

/// A development chip that says its key must be activated first.
struct Played {
    chip: DevelopmentAttester,
    word: Mutex<Option<(UnixTime, UnixTime)>>,
    activated: AtomicUsize,
}

impl Attester for Played {
    fn kind(&self) -> TeeKind {
        self.chip.kind()
    }

    fn image(&self) -> Digest {
        self.chip.image()
    }

    fn attest(&self, binding: &[u8], configuration: &[u8]) -> Result<Evidence, AttestError> {
        assert!(self.endorsed().is_some(), "evidence before the key was attested");
        self.chip.attest(binding, configuration)
    }

    fn activation(&self) -> Option<&dyn KeyActivation> {
        Some(self)
    }
}

impl KeyActivation for Played {
    fn keys(&self) -> Result<ActivationKeys, AttestError> {
        Ok(ActivationKeys { ak: b"ak".to_vec(), ek: b"ek".to_vec(), certificates: vec![b"certificate".to_vec()] })
    }

    fn activate(&self, credential: &[u8], secret: &[u8]) -> Result<Digest, AttestError> {
        self.activated.fetch_add(1, Ordering::SeqCst);
        if credential != b"credential" {
            return Err(TpmError::Malformed("the credential").into());
        }
        Ok(Digest::of(secret))
    }

    fn endorse(&self, statement: &Signed<KeyAttestation>, _: &Signed<Appointment>) -> Result<(), AttestError> {
        if statement.ak != b"ak" {
            return Err(TpmError::OtherKey.into());
        }
        *self.word.lock().unwrap() = Some((statement.issued, statement.expires));
        Ok(())
    }

    fn endorsed(&self) -> Option<(UnixTime, UnixTime)> {
        *self.word.lock().unwrap()
    }

    fn forget(&self) {
        *self.word.lock().unwrap() = None;
    }
}

fn start(manager: &Manager) -> (Running, Arc<Played>) {
    let chip = DevelopmentAttester::measure(world::root().chip(7), IMAGE).unwrap();
    let played = Arc::new(Played { chip, word: Mutex::new(None), activated: AtomicUsize::new(0) });
    let (shutdown, statuses) = (Shutdown::new(), Arc::new(Mutex::new(Vec::new())));
    let seen = statuses.clone();
    let agent = Agent::start(config(&manager.address()), played.clone(), shutdown.clone())
        .unwrap()
        .on_status(move |status: &Status| seen.lock().unwrap().push(status.clone()));
    (Running { enclave: agent.enclave(), shutdown, statuses, task: tokio::spawn(agent.run()) }, played)
}

fn word(manager: &Manager, seconds: u64, change: impl FnOnce(&mut KeyAttestation)) -> ToAgent {
    let mut statement = KeyAttestation {
        verifier: world::key(VERIFIER),
        ak: b"ak".to_vec(),
        ek: vec![b"certificate".to_vec()],
        issued: now(),
        expires: now().plus(seconds),
        prev: vec![manager.verifier().digest()],
    };
    change(&mut statement);
    let appointment = Box::new(manager.verifier().clone());
    ToAgent::KeyAttested { statement: Box::new(sign(statement)), appointment }
}

/// Answers a request for activation with a credential; the secret that came back.
async fn activate(manager: &mut Manager, conn: &mut Conn) -> Digest {
    let ToManager::AskActivation { ak, ek, certificates } = conn.next(manager).await else { panic!("not asked") };
    assert_eq!((&ak[..], &ek[..], certificates), (&b"ak"[..], &b"ek"[..], vec![b"certificate".to_vec()]));
    conn.say(&ToAgent::Activate { credential: b"credential".to_vec(), secret: b"secret".to_vec() }).await;
    let ToManager::Activated { secret } = conn.next(manager).await else { panic!("not activated") };
    secret
}

#[tokio::test]
async fn a_key_is_activated_once_and_again_before_its_word_is_over() {
    let mut manager = Manager::new().await;
    manager.passports_last(5);
    let (_agent, played) = start(&manager);
    let mut conn = manager.accept().await;
    assert_eq!(activate(&mut manager, &mut conn).await, Digest::of(b"secret"));
    // A word for twelve seconds: the first renewal of the passport, at 3 to 4, still finds a fifth of it; one of the next does not.
    conn.say(&word(&manager, 12, |_| ())).await;
    assert!(matches!(conn.next(&mut manager).await, ToManager::AskChallenge));
    manager.attest(&mut conn).await.unwrap();
    let ToManager::Present { .. } = conn.next(&mut manager).await else { panic!("not present") };
    assert!(matches!(conn.next(&mut manager).await, ToManager::AskChallenge), "the word still holds");
    manager.attest(&mut conn).await.unwrap();
    assert_eq!(played.activated.load(Ordering::SeqCst), 1);
    loop {
        match conn.next(&mut manager).await {
            ToManager::AskChallenge => manager.attest(&mut conn).await.unwrap(),
            ToManager::AskActivation { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    let left = played.endorsed().unwrap().1.since(now());
    assert!(left <= 3, "renewed with {left} of 12 seconds left");
}

#[tokio::test]
async fn a_refused_word_is_forgotten() {
    let mut manager = Manager::new().await;
    let (agent, played) = start(&manager);
    let mut conn = manager.accept().await;
    activate(&mut manager, &mut conn).await;
    conn.say(&word(&manager, 600, |_| ())).await;
    assert!(matches!(conn.next(&mut manager).await, ToManager::AskChallenge));
    assert!(played.endorsed().is_some());
    let why = legation_core::Rejection::new("tpm.key-attestation", "the key attestation");
    conn.say(&ToAgent::Refused { why }).await;
    agent.sees(|s| matches!(s, Status::Turned { why, .. } if why.check == "tpm.key-attestation")).await;
    // The next connection begins with the key.
    let mut conn = manager.accept().await;
    activate(&mut manager, &mut conn).await;
}

#[tokio::test]
async fn a_word_that_may_not_be_believed_is_refused() {
    type Change = fn(&mut KeyAttestation);
    let changes: [(&str, Change); 5] = [
        ("signed by another", |s| s.verifier = world::key(STRANGER)),
        ("signed by the manager", |s| s.verifier = world::key(MANAGER)),
        ("resting on nothing", |s| s.prev.clear()),
        ("over already", |s| s.expires = now().minus(1)),
        ("about another key", |s| s.ak = b"another".to_vec()),
    ];
    let mut manager = Manager::new().await;
    for (name, change) in changes {
        let (agent, played) = start(&manager);
        let mut conn = manager.accept().await;
        activate(&mut manager, &mut conn).await;
        conn.say(&word(&manager, 600, change)).await;
        agent.sees(|s| matches!(s, Status::Turned { why, .. } if why.check == "agent.key-attestation")).await;
        assert!(played.endorsed().is_none(), "{name}");
        agent.shutdown.now();
        agent.task.await.unwrap();
    }
    // An appointment as manager is none as verifier.
    let (agent, _) = start(&manager);
    let mut conn = manager.accept().await;
    activate(&mut manager, &mut conn).await;
    let appointment = sign(world::appointment(Office::Manager, now()));
    let ToAgent::KeyAttested { statement, .. } = word(&manager, 600, |s| {
        s.verifier = world::key(MANAGER);
        s.prev = vec![appointment.digest()];
    }) else {
        panic!()
    };
    conn.say(&ToAgent::KeyAttested { statement, appointment: Box::new(appointment) }).await;
    agent.sees(|s| matches!(s, Status::Turned { why, .. } if why.claim == "appointment of the verifier")).await;
}

#[tokio::test]
async fn a_credential_for_another_key_and_words_out_of_turn_give_nothing() {
    let mut manager = Manager::new().await;
    let (agent, played) = start(&manager);
    let mut conn = manager.accept().await;
    let ToManager::AskActivation { .. } = conn.next(&mut manager).await else { panic!("not asked") };
    // Out of turn: a challenge, a word, a passport.
    conn.say(&word(&manager, 600, |_| ())).await;
    conn.say(&ToAgent::Challenge { nonce: Digest::of(b"early") }).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(played.endorsed().is_none());
    conn.say(&ToAgent::Activate { credential: b"of another".to_vec(), secret: b"secret".to_vec() }).await;
    agent.sees(|s| matches!(s, Status::Turned { why, .. } if why.check == "agent.attest")).await;
    assert!(played.endorsed().is_none());
}

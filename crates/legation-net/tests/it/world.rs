//! An operator, a verifier, a clock that tests move, and endpoints that know them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use legation_core::{
    Bytes, Digest, MicroUsd, Millicores, ProviderId, PublicKey, Region, Revocable, Revocation, RevocationEpoch,
    Revoked, SealingPublicKey, Signer, UnixTime,
    claims::{Anchor, Attested, Capacity, Claims, Configuration, Rate, Role, Tcb, TeeKind},
    dsse,
    statement::{Appointment, Ear, Office, Passport, Tier},
};
use legation_keys::IdentityKey;
use legation_net::{
    AnchoredJudge, Bounds, Channel, ChannelError, Clock, Credential, Endpoint, Listener, Revocations, Sender, Timing,
};

/// When every test begins.
pub(crate) const NOW: u64 = 1_795_262_400;
/// Seeds of the keys everybody knows.
pub(crate) const OPERATOR: u8 = 200;
pub(crate) const VERIFIER: u8 = 201;
pub(crate) const MANAGER: u8 = 1;
pub(crate) const AGENT: u8 = 2;

/// Waits short enough for tests, long enough for a busy machine.
pub(crate) const TIMING: Timing = Timing {
    handshake: Duration::from_millis(2000),
    ping: Duration::from_millis(100),
    silence: Duration::from_millis(3000),
    stall: Duration::from_millis(5000),
    check: Duration::from_millis(20),
    applicant: Duration::from_secs(60),
    linger: Duration::from_millis(500),
};

#[derive(Clone)]
pub(crate) struct World {
    time: Arc<AtomicU64>,
    pub(crate) revocations: Revocations,
    revoked: Arc<Mutex<Revoked>>,
}

pub(crate) fn key(seed: u8) -> Arc<IdentityKey> {
    Arc::new(IdentityKey::from_seed([seed; 32]))
}

pub(crate) fn public(seed: u8) -> PublicKey {
    key(seed).public_key()
}

impl World {
    pub(crate) fn new() -> Self {
        Self { time: Arc::new(AtomicU64::new(NOW)), revocations: Revocations::new(), revoked: Arc::default() }
    }

    pub(crate) fn clock(&self) -> Clock {
        let time = self.time.clone();
        Arc::new(move || UnixTime(time.load(Ordering::Relaxed)))
    }

    pub(crate) fn set_time(&self, unix: u64) {
        self.time.store(unix, Ordering::Relaxed);
    }

    /// Revokes the enclave of a key.
    pub(crate) fn revoke(&self, seed: u8) {
        self.revoke_all(Revocable::Enclave(public(seed).enclave_id()));
    }

    pub(crate) fn revoke_all(&self, what: Revocable) {
        let mut all = self.revoked.lock().unwrap();
        let epoch = RevocationEpoch(all.epoch().0 + 1);
        let at = (self.clock())();
        all.insert(Revocation { what, epoch, at, why: "test".to_owned() });
        self.revocations.learn(Arc::new(all.clone()), at);
    }

    /// A judge that admits agents and managers, but no applicants.
    pub(crate) fn judge(&self) -> AnchoredJudge {
        let judge = AnchoredJudge::new(vec![public(OPERATOR)]).admit(Role::Agent).admit(Role::Manager);
        judge.with_revocations(self.revocations.clone())
    }

    pub(crate) fn endpoint(&self, seed: u8, role: Role, credential: Credential) -> Endpoint {
        self.endpoint_with(seed, role, credential, self.judge())
    }

    pub(crate) fn endpoint_with(&self, seed: u8, role: Role, credential: Credential, judge: AnchoredJudge) -> Endpoint {
        Endpoint::new(key(seed), role, credential, Arc::new(judge), self.clock()).unwrap().with_timing(TIMING)
    }

    /// A manager with an appointment for a day.
    pub(crate) fn manager(&self) -> Endpoint {
        self.endpoint(MANAGER, Role::Manager, manager_credential(MANAGER))
    }

    /// An agent with a passport for ten minutes.
    pub(crate) fn agent(&self) -> Endpoint {
        self.endpoint(AGENT, Role::Agent, passport(AGENT, NOW, NOW + 600))
    }
}

pub(crate) fn appointment(operator: u8, seed: u8, office: Office, from: u64, until: u64) -> legation_core::Envelope {
    let appointment = Appointment {
        operator: public(operator),
        key: public(seed),
        office,
        scope: None,
        not_before: UnixTime(from),
        not_after: UnixTime(until),
    };
    dsse::sign(appointment, &*key(operator)).envelope().clone()
}

pub(crate) fn manager_credential(seed: u8) -> Credential {
    Credential::Appointment { appointment: appointment(OPERATOR, seed, Office::Manager, NOW, NOW + 86_400) }
}

/// A passport by the verifier that everybody knows.
pub(crate) fn passport(seed: u8, from: u64, until: u64) -> Credential {
    passport_by(OPERATOR, VERIFIER, seed, from, until)
}

pub(crate) fn passport_by(operator: u8, verifier: u8, seed: u8, from: u64, until: u64) -> Credential {
    let appointment = appointment(operator, verifier, Office::Verifier, NOW - 86_400, NOW + 86_400);
    let passport = Passport {
        verifier: public(verifier),
        issued: UnixTime(from),
        expires: UnixTime(until),
        enclave: public(seed),
        sealing: SealingPublicKey::from_bytes([seed; SealingPublicKey::LEN]),
        ear: Ear {
            status: Tier::Warning,
            vector: BTreeMap::from([("hardware".into(), 32)]),
            policy: "test".into(),
            policy_digest: Digest::of(b"test"),
            tcb: Tcb::unknown("1"),
            images: Vec::new(),
            grace: None,
        },
        claims: Claims {
            vmpl: Some(Attested::hardware(0)),
            ..Claims::basic(
                TeeKind::DevSnp,
                Anchor::Development("test".into()),
                "00".repeat(48),
                Attested::hardware("11".repeat(64)),
                Attested::hardware(Tcb::unknown("1")),
                Attested::endorsed("milan".into()),
                "22".repeat(64),
            )
        },
        configuration: Configuration {
            provider: ProviderId::new("p").unwrap(),
            region: Region::new("r").unwrap(),
            capacity: Capacity { cpu: Millicores(1000), memory: Bytes::mib(64), slots: 1 },
            rate: Rate { core_hour: MicroUsd(1), gib_hour: MicroUsd(1) },
            operators: vec![public(operator)],
            advertise: None,
            prover: None,
            custody: None,
            slot: 0,
        },
        evidence: Digest::of(&[seed]),
        collateral: Vec::new(),
        prev: vec![appointment.digest()],
    };
    Credential::Passport { passport: dsse::sign(passport, &*key(verifier)).envelope().clone(), appointment }
}

pub(crate) async fn listen(endpoint: Endpoint) -> (Listener, SocketAddr) {
    let listener = Listener::bind("127.0.0.1:0", Arc::new(endpoint), Bounds::DEFAULT).await.unwrap();
    let address = listener.address();
    (listener, address)
}

/// A channel's two ends: the dialler's, then the listener's.
pub(crate) async fn pair(dialler: &Endpoint, listener: Endpoint) -> (Channel, Channel) {
    let (mut listener, address) = listen(listener).await;
    let (near, far) = tokio::join!(dialler.connect(address, None), listener.accept());
    (near.unwrap(), far.unwrap().channel.unwrap())
}

/// How both ends fail: the dialler's error, then the listener's.
pub(crate) async fn refused(dialler: &Endpoint, listener: Endpoint) -> (ChannelError, ChannelError) {
    let (mut listener, address) = listen(listener).await;
    let (near, far) = tokio::join!(dialler.connect(address, None), listener.accept());
    (near.unwrap_err(), far.unwrap().channel.unwrap_err())
}

/// Why a channel ended, which it must do in time.
pub(crate) async fn ended(sender: &Sender) -> ChannelError {
    tokio::time::timeout(Duration::from_secs(20), sender.closed()).await.expect("the channel ends")
}

/// The check of a refusal, and who refused.
pub(crate) fn check(error: &ChannelError) -> String {
    match error {
        ChannelError::Refused(reason) => format!("refused {}", reason.check),
        ChannelError::RefusedByPeer(reason) => format!("told {}", reason.check),
        other => other.to_string(),
    }
}

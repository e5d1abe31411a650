//! What the tests share: a development root with its chip (made once: RSA-4096 keys take seconds), an operator, verifiers
//! behind real sockets, and a clock that is turned by hand.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use legation_attest::{
    Judge, Roots,
    challenge::join,
    dev::{Chip, ChipSpec, DevelopmentRoot, Guest},
    snp::{Product, TcbVersion},
};
use legation_core::{
    Bytes, Digest, MicroUsd, Millicores, ProviderId, Region, SealingPublicKey, Signed, Signer, UnixTime,
    claims::{Anchors, Capacity, Configuration, Evidence, KeyBinding, Rate, Role, Shelf},
    dsse,
    statement::{Appointment, Office},
};
use legation_keys::IdentityKey;
use legation_policy::{Options, Policy, ReferenceKind, ReferenceValue, References, Scope};
use legation_verifier::{
    Appraisers, Appraising, Clock, Current, Door, LocalVerifier, Parts, RemoteConfig, RemoteVerifier,
    activation::Endorsements,
    collateral::{Keeper, Wants},
    http::Authorities,
    service::Service,
};
use zeroize::Zeroizing;

pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);
pub(crate) const MEASUREMENT: [u8; 48] = [0x11; 48];

/// A clock that is turned by hand.
#[derive(Clone)]
pub(crate) struct Hand(Arc<AtomicU64>);

impl Hand {
    pub(crate) fn at(now: UnixTime) -> Self {
        Self(Arc::new(AtomicU64::new(now.0)))
    }

    pub(crate) fn clock(&self) -> Clock {
        let hand = self.clone();
        Arc::new(move || hand.now())
    }

    pub(crate) fn now(&self) -> UnixTime {
        UnixTime(self.0.load(SeqCst))
    }

    pub(crate) fn set(&self, now: UnixTime) {
        self.0.store(now.0, SeqCst);
    }

    pub(crate) fn forward(&self, seconds: u64) {
        self.0.fetch_add(seconds, SeqCst);
    }
}

pub(crate) struct World {
    pub(crate) root: DevelopmentRoot,
    pub(crate) chip: Chip,
}

pub(crate) fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let root = DevelopmentRoot::generate("laptop", NOW.minus(1000)).unwrap();
        let tcb = TcbVersion { fmc: None, bootloader: 4, tee: 0, snp: 24, microcode: 0xdb };
        let spec = ChipSpec { product: Product::Milan, chip_id: [0xc1; 64], tcb };
        let chip = root.issue(&spec, NOW.minus(1000)).unwrap();
        World { root, chip }
    })
}

pub(crate) fn operator() -> IdentityKey {
    IdentityKey::from_seed([1; 32])
}

pub(crate) fn anchors() -> Anchors {
    Anchors {
        operators: vec![operator().public_key()],
        development: vec![world().root.anchor()],
        tpm: Vec::new(),
        logs: Vec::new(),
    }
}

pub(crate) fn roots() -> Roots {
    Roots::new(&anchors()).unwrap()
}

pub(crate) fn appoint(key: &IdentityKey, office: Office) -> Signed<Appointment> {
    let operator = operator();
    let appointment = Appointment {
        operator: operator.public_key(),
        key: key.public_key(),
        office,
        scope: None,
        not_before: NOW.minus(1000),
        not_after: NOW.plus(400 * 86_400),
    };
    dsse::sign(appointment, &operator)
}

/// Admits the world's image, on development chips.
pub(crate) const POLICY: &str = r#"
@id("agent-1") permit (principal in Image::"agent-1", action == Action::"admit", resource);
"#;
/// Admits nothing.
pub(crate) const STRICT: &str = r#"
@id("nothing") permit (principal, action == Action::"admit", resource) when { false };
"#;

/// The reference values of the world, as a file has them.
pub(crate) fn references() -> String {
    let value = ReferenceValue {
        name: "agent-1".to_owned(),
        value: ReferenceKind::Image {
            measurement: legation_core::encoding::hex(&MEASUREMENT),
            registers: Default::default(),
            tees: [legation_core::claims::TeeKind::DevSnp].into(),
        },
        owner: "release team".to_owned(),
        made: NOW,
        expires: None,
        source: "the tests".to_owned(),
    };
    serde_json::to_string(&[value]).unwrap()
}

pub(crate) fn policy(text: &str) -> Policy {
    let references = Arc::new(References::from_json(&references()).unwrap());
    Policy::load("test", text, references, Options::of(Scope::Pool, true)).unwrap()
}

pub(crate) fn appraising(policy: Policy) -> Appraising {
    Appraising { name: policy.name().to_owned(), digest: policy.digest(), appraiser: Arc::new(policy) }
}

fn configuration() -> Configuration {
    Configuration {
        provider: ProviderId::new("acme").unwrap(),
        region: Region::new("eu-west").unwrap(),
        capacity: Capacity { cpu: Millicores(4000), memory: Bytes(8 << 30), slots: 2 },
        rate: Rate { core_hour: MicroUsd(40_000), gib_hour: MicroUsd(5000) },
        slot: 0,
        operators: vec![operator().public_key()],
        advertise: None,
        prover: None,
        custody: None,
    }
}

/// Evidence of the world's chip over this nonce.
pub(crate) fn evidence(nonce: Digest) -> Evidence {
    let configuration = configuration();
    let binding = KeyBinding {
        role: Role::Agent,
        identity: IdentityKey::from_seed([9; 32]).public_key(),
        sealing: SealingPublicKey::from_bytes([7; SealingPublicKey::LEN]),
        image: Digest::of(b"image"),
        configuration: Digest::of(&configuration.encode()),
        not_before: NOW.minus(100_000),
        not_after: NOW.plus(400 * 86_400),
        nonce,
    };
    world().chip.evidence(&Guest::new(MEASUREMENT), &binding, &configuration).unwrap()
}

/// Evidence that answers these challenges.
pub(crate) fn answer(challenges: &[Digest]) -> Arc<Evidence> {
    Arc::new(evidence(join(challenges)))
}

/// A verifier with this key and challenge secret.
pub(crate) struct Made {
    pub(crate) seed: u8,
    pub(crate) secret: u8,
    pub(crate) keeper: Option<Arc<Keeper>>,
    pub(crate) endorsements: Option<Arc<dyn Endorsements>>,
}

impl Default for Made {
    fn default() -> Self {
        Self { seed: 2, secret: 5, keeper: None, endorsements: None }
    }
}

pub(crate) fn verifier(made: Made, hand: &Hand) -> LocalVerifier {
    LocalVerifier::new(parts(made, hand))
}

pub(crate) fn parts(made: Made, hand: &Hand) -> Parts {
    let key = IdentityKey::from_seed([made.seed; 32]);
    let appointment = appoint(&key, Office::Verifier);
    let shelf = made.keeper.as_ref().map_or_else(|| Arc::new(Current::new(Shelf::empty())), |k| Arc::clone(k.shelf()));
    Parts {
        name: format!("verifier-{}", made.seed),
        key,
        appointment,
        judge: Arc::new(Judge::new(roots())),
        appraisers: Arc::new(Appraisers::new(appraising(policy(POLICY)))),
        shelf,
        wants: made.keeper.map(|k| k as Arc<dyn Wants>),
        challenge_secret: Zeroizing::new([made.secret; 32]),
        endorsements: made.endorsements,
        clock: hand.clock(),
    }
}

/// Serves a router on a port of its own until the test ends.
pub(crate) async fn listen(router: axum::Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

pub(crate) async fn serve(verifier: &LocalVerifier) -> SocketAddr {
    listen(Service::new(verifier.clone(), None, &[], 64).router()).await
}

pub(crate) fn remote(verifier: &LocalVerifier, urls: &[String]) -> RemoteVerifier {
    RemoteVerifier::new(RemoteConfig {
        name: "remote".to_owned(),
        urls: urls.to_vec(),
        appointment: verifier.appointment().clone(),
        token: None,
        authorities: Authorities::System,
    })
    .unwrap()
}

pub(crate) fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

pub(crate) fn check_of<T>(result: Result<T, legation_core::Rejection>) -> String {
    result.map_or_else(|r| r.check, |_| "ok".to_owned())
}

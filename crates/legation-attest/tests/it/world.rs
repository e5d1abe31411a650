//! What the tests share: one development root, its chip, an operator and a verifier. Made once: RSA-4096 keys take
//! seconds.

use std::sync::OnceLock;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use legation_attest::{
    AppraisalPolicy, Judge, ReferenceValue, Roots, Verifier,
    dev::{Chip, ChipSpec, DevelopmentRoot, Guest},
    snp::{Product, TcbVersion},
};
use legation_core::{
    Bytes, Digest, MicroUsd, Millicores, ProviderId, PublicKey, Region, Rejection, SealingPublicKey, Signature, Signed,
    Signer, UnixTime,
    claims::{Anchors, Capacity, Configuration, Evidence, KeyBinding, Rate, Role},
    dsse,
    statement::{Appointment, Office},
};

pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);
pub(crate) const MEASUREMENT: [u8; 48] = [0x11; 48];

pub(crate) struct Key(Ed25519KeyPair);

impl Key {
    pub(crate) fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }
}

impl Signer for Key {
    fn public_key(&self) -> PublicKey {
        PublicKey::from_bytes(self.0.public_key().as_ref().try_into().unwrap())
    }

    fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).as_ref().try_into().unwrap())
    }
}

pub(crate) struct World {
    pub(crate) root: DevelopmentRoot,
    pub(crate) chip: Chip,
    pub(crate) judge: Judge,
    pub(crate) operator: Key,
    pub(crate) verifier: Key,
    pub(crate) appointment: Signed<Appointment>,
    pub(crate) policy: AppraisalPolicy,
}

pub(crate) fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let root = DevelopmentRoot::generate("laptop", NOW).unwrap();
        let chip = root.issue(&spec(0xc1), NOW).unwrap();
        let (operator, verifier) = (Key::new(1), Key::new(2));
        let appointment = appoint(&operator, &verifier, Office::Verifier);
        let mut policy = AppraisalPolicy::new("test");
        policy.development = true;
        policy.measurements = vec![reference("agent-1", &MEASUREMENT, None)];
        World { judge: Judge::new(roots(&root)), root, chip, operator, verifier, appointment, policy }
    })
}

impl World {
    pub(crate) fn as_verifier(&self) -> Verifier<'_> {
        Verifier { signer: &self.verifier, appointment: &self.appointment, judge: &self.judge, policy: &self.policy }
    }
}

pub(crate) fn spec(chip: u8) -> ChipSpec {
    let tcb = TcbVersion { fmc: None, bootloader: 4, tee: 0, snp: 24, microcode: 0xdb };
    ChipSpec { product: Product::Milan, chip_id: [chip; 64], tcb }
}

pub(crate) fn anchors(root: &DevelopmentRoot) -> Anchors {
    Anchors { operators: vec![Key::new(1).public_key()], development: vec![root.anchor()], tpm: Vec::new() }
}

pub(crate) fn roots(root: &DevelopmentRoot) -> Roots {
    Roots::new(&anchors(root)).unwrap()
}

pub(crate) fn reference(name: &str, measurement: &[u8; 48], expires: Option<UnixTime>) -> ReferenceValue {
    ReferenceValue {
        name: name.to_owned(),
        measurement: legation_core::encoding::hex(measurement),
        owner: "release team".to_owned(),
        expires,
    }
}

pub(crate) fn appoint(operator: &Key, key: &Key, office: Office) -> Signed<Appointment> {
    let appointment = Appointment {
        operator: operator.public_key(),
        key: key.public_key(),
        office,
        scope: None,
        not_before: NOW.minus(1000),
        not_after: NOW.plus(100_000),
    };
    dsse::sign(appointment, operator)
}

pub(crate) fn nonce(n: u8) -> Digest {
    Digest::of(&[n])
}

pub(crate) fn configuration() -> Configuration {
    Configuration {
        provider: ProviderId::new("acme").unwrap(),
        region: Region::new("eu-west").unwrap(),
        capacity: Capacity { cpu: Millicores(4000), memory: Bytes(8 << 30), slots: 2 },
        rate: Rate { core_hour: MicroUsd(40_000), gib_hour: MicroUsd(5000) },
        slot: 0,
        operators: vec![Key::new(1).public_key()],
    }
}

pub(crate) fn binding() -> KeyBinding {
    KeyBinding {
        role: Role::Agent,
        identity: Key::new(9).public_key(),
        sealing: SealingPublicKey::from_bytes([7; SealingPublicKey::LEN]),
        image: Digest::of(b"image"),
        configuration: Digest::of(&configuration().encode()),
        not_before: NOW.minus(10),
        not_after: NOW.plus(10_000),
        nonce: nonce(1),
    }
}

/// Evidence of the world's chip for a guest of [`MEASUREMENT`].
pub(crate) fn evidence() -> Evidence {
    world().chip.evidence(&Guest::new(MEASUREMENT), &binding(), &configuration()).unwrap()
}

pub(crate) fn check_of<T>(result: Result<T, Rejection>) -> String {
    result.map_or_else(|r| r.check, |_| "ok".to_owned())
}

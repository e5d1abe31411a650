//! What the tests share: one development root, its chip, an operator and a verifier. Made once: RSA-4096 keys take
//! seconds.

use std::sync::OnceLock;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use legation_attest::{
    Appraiser, Judge, Roots, Verifier,
    appraisal::{PASSPORT_SECONDS_DEFAULT, status},
    dev::{Chip, ChipSpec, DevelopmentRoot, Guest},
    snp::{Product, TcbVersion},
};
use legation_core::{
    Bytes, Digest, MicroUsd, Millicores, ProviderId, PublicKey, Region, Rejection, SealingPublicKey, Signature, Signed,
    Signer, UnixTime,
    claims::{Anchors, Capacity, Configuration, Evidence, Judged, KeyBinding, Rate, Role},
    dsse, encoding,
    statement::{Appointment, Ear, Office},
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
    pub(crate) policy: Listed,
}

pub(crate) fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let root = DevelopmentRoot::generate("laptop", NOW).unwrap();
        let chip = root.issue(&spec(0xc1), NOW).unwrap();
        let (operator, verifier) = (Key::new(1), Key::new(2));
        let appointment = appoint(&operator, &verifier, Office::Verifier);
        let policy = Listed(vec![encoding::hex(&MEASUREMENT)]);
        World { judge: Judge::new(roots(&root)), root, chip, operator, verifier, appointment, policy }
    })
}

/// Admits these measurements, as a development root deserves.
pub(crate) struct Listed(Vec<String>);

impl Appraiser for Listed {
    fn appraise(&self, judged: &Judged, _: UnixTime) -> Result<Ear, Rejection> {
        if !self.0.contains(&judged.claims.measurement.value) {
            return Err(Rejection::new("appraisal.measurement", "measurement").got(&judged.claims.measurement.value));
        }
        let vector = [("hardware".to_owned(), 32)].into();
        Ok(Ear {
            status: status(&vector),
            vector,
            policy: "test".to_owned(),
            policy_digest: Digest::of(b"test"),
            tcb: judged.claims.tcb.value.clone(),
            images: Vec::new(),
            grace: None,
        })
    }

    fn passport_seconds(&self) -> u64 {
        PASSPORT_SECONDS_DEFAULT
    }
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
    Anchors {
        operators: vec![Key::new(1).public_key()],
        development: vec![root.anchor()],
        tpm: Vec::new(),
        logs: Vec::new(),
    }
}

pub(crate) fn roots(root: &DevelopmentRoot) -> Roots {
    Roots::new(&anchors(root)).unwrap()
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
        advertise: None,
        prover: None,
        custody: None,
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

/// As [`check_of`], of a refusal that also says what would have passed and what to do.
pub(crate) fn check_and_fix<T>(result: Result<T, Rejection>) -> String {
    if let Err(rejection) = &result {
        assert!(!rejection.fix.is_empty() && !rejection.expected.is_empty(), "{rejection}");
    }
    check_of(result)
}

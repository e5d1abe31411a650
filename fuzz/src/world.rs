//! A development root and one enclave's evidence under it: what a stranger would begin with.

use std::{path::PathBuf, sync::LazyLock};

use legation_attest::{
    Judge, Roots,
    dev::{Chip, ChipSpec, DevelopmentRoot, Guest},
    snp::{Product, TcbVersion},
};
use legation_core::{
    Bytes, Digest, MicroUsd, Millicores, ProviderId, PublicKey, Region, SealingPublicKey, UnixTime,
    claims::{Anchors, Capacity, Configuration, Evidence, EvidenceJudge as _, Judged, KeyBinding, Rate, Role, Shelf},
};

use crate::{
    held::{HELD, Held},
    said::{SAID, Said},
    stored::{STORED, Stored},
};

/// As of when evidence is judged.
pub const NOW: UnixTime = UnixTime(1_800_000_000);
/// Names a folder in which root and chip are kept from run to run, and into which seeds are written.
const FOLDER: &str = "LEGATION_FUZZ_WORLD";

/// The judge, and what it finds of the one enclave.
pub struct World {
    pub judge: Judge,
    pub judged: Judged,
    evidence: Evidence,
}

/// Made once: RSA keys take seconds.
pub static WORLD: LazyLock<Option<World>> = LazyLock::new(world);

fn kept(name: &str) -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(|folder| PathBuf::from(folder).join(name))
}

fn hardware() -> Option<(DevelopmentRoot, Chip)> {
    let read = |name: &str| std::fs::read(kept(name)?).ok();
    if let (Some(root), Some(chip)) = (read("root.pem"), read("chip.pem")) {
        return Some((DevelopmentRoot::from_pem(&root).ok()?, Chip::from_pem(&chip).ok()?));
    }
    let root = DevelopmentRoot::generate("fuzz", NOW).ok()?;
    let tcb = TcbVersion { fmc: None, bootloader: 4, tee: 0, snp: 24, microcode: 219 };
    let chip = root.issue(&ChipSpec { product: Product::Milan, chip_id: [7; 64], tcb }, NOW).ok()?;
    for (name, pem) in [("root.pem", root.to_pem().ok()?), ("chip.pem", chip.to_pem().ok()?)] {
        if let Some(path) = kept(name) {
            let _ = std::fs::write(path, &*pem);
        }
    }
    Some((root, chip))
}

fn world() -> Option<World> {
    let (root, chip) = hardware()?;
    let configuration = Configuration {
        provider: ProviderId::new("fuzz").ok()?,
        region: Region::new("eu-north").ok()?,
        capacity: Capacity { cpu: Millicores(4000), memory: Bytes::gib(8), slots: 4 },
        rate: Rate { core_hour: MicroUsd(1), gib_hour: MicroUsd(1) },
        slot: 0,
        operators: Vec::new(),
        advertise: None,
        prover: None,
        custody: None,
    };
    let binding = KeyBinding {
        role: Role::Agent,
        identity: PublicKey::from_bytes([1; 32]),
        sealing: SealingPublicKey::from_bytes([2; SealingPublicKey::LEN]),
        image: Digest::of(b"image"),
        configuration: Digest::of(&configuration.encode()),
        not_before: NOW,
        not_after: NOW.plus(1000),
        nonce: Digest::of(b"nonce"),
    };
    // Signed anew at every start: the signature is one of many, the rest is the same.
    let evidence = chip.evidence(&Guest::new([3; 48]), &binding, &configuration).ok()?;
    let anchors =
        Anchors { operators: Vec::new(), development: vec![root.anchor()], tpm: Vec::new(), logs: Vec::new() };
    let judge = Judge::new(Roots::new(&anchors).ok()?);
    let judged = judge.judge(&evidence, &Shelf::empty(), NOW).ok()?;
    Some(World { judge, judged, evidence })
}

/// Writes what a corpus begins with, where a folder for it is named.
pub fn seed() {
    let target = std::env::var("LEGATION_FUZZ_TARGET").unwrap_or_default();
    let seeds = match target.split('-').next() {
        Some("evidence") => WORLD.as_ref().map(World::seeds),
        Some("store") => STORED.as_ref().and_then(Stored::seeds),
        Some("swarm") => HELD.as_ref().map(Held::seeds),
        Some("custody") => SAID.as_ref().map(Said::seeds),
        _ => None,
    };
    if let (Some(folder), Some(seeds)) = (kept("seeds"), seeds) {
        let _ = std::fs::create_dir_all(&folder);
        for (name, bytes) in seeds {
            let _ = std::fs::write(folder.join(name), bytes);
        }
    }
}

impl World {
    fn seeds(&self) -> Vec<(&'static str, Vec<u8>)> {
        vec![
            ("binding", self.evidence.binding.clone()),
            ("configuration", self.evidence.configuration.clone()),
            ("evidence", serde_json::to_vec(&self.evidence).unwrap_or_default()),
            ("claims", serde_json::to_vec(&self.judged.claims).unwrap_or_default()),
        ]
    }
}

//! How long verifying, signing and admitting take on one core: `cargo run -p legation-attest --release --example
//! verify_speed`.

use std::{hint::black_box, time::Instant};

use legation_attest::{
    DevelopmentRoots,
    dev::{ChipSpec, DevelopmentError, DevelopmentRoot, Guest},
    snp::{ChainCache, Presented, Product, TcbVersion, verify},
};
use legation_core::{Rejection, UnixTime, claims::Anchors};

/// Rounds of each measurement; the mean is printed.
const ROUNDS: u32 = 300;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Development(#[from] DevelopmentError),
    #[error(transparent)]
    Rejection(#[from] Rejection),
}

fn measure<T>(what: &str, mut work: impl FnMut() -> T) {
    let begin = Instant::now();
    for _ in 0..ROUNDS {
        black_box(work());
    }
    println!("{what}: {:.3} ms", begin.elapsed().as_secs_f64() * 1000.0 / f64::from(ROUNDS));
}

fn main() -> Result<(), Failure> {
    let now = UnixTime(1_800_000_000);
    let begin = Instant::now();
    let root = DevelopmentRoot::generate("speed", now)?;
    println!("development root, two RSA-4096 keys: {:.0} ms", begin.elapsed().as_secs_f64() * 1000.0);
    let tcb = TcbVersion { fmc: None, bootloader: 4, tee: 0, snp: 24, microcode: 219 };
    let chip = root.issue(&ChipSpec { product: Product::Milan, chip_id: [1; 64], tcb }, now)?;
    let guest = Guest::new([2; 48]);
    let report = chip.report(&guest, &[3; 64])?;
    let roots = DevelopmentRoots::new(&Anchors {
        operators: Vec::new(),
        development: vec![root.anchor()],
        tpm: Vec::new(),
        logs: Vec::new(),
    })?;
    let endorsements = chip.endorsements();
    let presented = Presented {
        report: &report,
        leaf: &endorsements[0],
        intermediate: Some(&endorsements[1]),
        crls: &[],
        grace: 0,
    };
    let (cold, warm) = (ChainCache::new(0), ChainCache::default());
    verify(&presented, &roots, &warm, now)?;
    measure("report signed", || chip.report(&guest, &[3; 64]));
    measure("report verified, chain too", || verify(&presented, &roots, &cold, now));
    measure("report verified, chain cached", || verify(&presented, &roots, &warm, now));
    Ok(())
}

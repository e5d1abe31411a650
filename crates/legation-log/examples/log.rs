//! How fast the log is: entries appended a second, with their tiles written, and the time of a proof; beside them, in the same run,
//! as many bare hashes as each cannot do without.
//!
//! Prints JSON on stdout. With `--smoke`, small numbers that say nothing but that it works.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its figures")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use legation_core::Digest;
use legation_log::{MemoryTiles, Prover, TileFault, Tree, leaf_hash};

/// Entries between two checkpoints: about what a busy manager journals in a quarter of a second.
const BATCH: u64 = 10_000;
/// Entries appended in a second, at least.
const APPENDS_AIM: f64 = 100_000.0;
/// Median time of an inclusion proof out of tiles, in microseconds, at most.
const PROOF_AIM_US: f64 = 10.0;

fn entry(index: u64) -> Digest {
    // Not hashed: the entries of the log are there already when it appends them.
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&index.to_be_bytes());
    Digest::from_bytes(bytes)
}

/// Of so many times, the one that this share of them does not exceed, in microseconds.
fn quantile(times: &[Duration], share: f64) -> f64 {
    let at = (times.len().saturating_sub(1)) as f64 * share;
    times.get(at as usize).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

/// As JSON, and the median in microseconds.
fn figures(mut times: Vec<Duration>) -> (String, f64) {
    times.sort_unstable();
    let p50 = quantile(&times, 0.5);
    let p99 = quantile(&times, 0.99);
    (format!("{{\"p50_us\": {p50:.2}, \"p99_us\": {p99:.2}, \"proofs\": {}}}", times.len()), p50)
}

/// So many SHA-256 of a leaf, and of a node (RFC 6962 section 2.1: a byte, and an entry or two hashes), and nothing else.
fn bare(leaves: u64, nodes: u64) -> Duration {
    let began = Instant::now();
    for _ in 0..leaves {
        black_box(Digest::of(black_box(&[0_u8; 33])));
    }
    for _ in 0..nodes {
        black_box(Digest::of(black_box(&[1_u8; 65])));
    }
    began.elapsed()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let smoke = std::env::args().any(|arg| arg == "--smoke");
    let (size, proofs) = if smoke { (20_000, 200) } else { (2_000_000, 100_000) };
    eprintln!("log: appending {size} entries");

    let (mut tree, mut tiles) = (Tree::new(), MemoryTiles::new());
    let began = Instant::now();
    for index in 0..size {
        tree.append(entry(index).as_bytes())?;
        if (index + 1).is_multiple_of(BATCH) {
            tree.flush(&mut tiles)?;
            black_box(tree.root());
        }
    }
    tree.flush(&mut tiles)?;
    let appending = began.elapsed();
    let root = tree.root();
    // Every entry is a leaf, and for all but one there is a node above two.
    let hashing = bare(size, size - 1);

    // Positions that a proof of anything recent has, then positions over the whole log with the nodes of few tiles kept.
    let recent = |turn: u64| size - 1 - (turn * 7919) % (size / 20);
    let anywhere = |turn: u64| (turn * 1_000_003) % size;
    let run = |prover: &mut Prover<MemoryTiles>, place: &dyn Fn(u64) -> u64| {
        let mut times = Vec::new();
        for turn in 0..proofs {
            let index = place(turn);
            let began = Instant::now();
            let proof = prover.inclusion(index, size)?;
            times.push(began.elapsed());
            if turn < 100 {
                assert_eq!(proof.verify(&leaf_hash(entry(index).as_bytes()), &root), Ok(()));
            }
        }
        Ok::<_, TileFault<std::convert::Infallible>>(times)
    };
    let mut prover = Prover::new(tiles.clone());
    run(&mut prover, &recent)?;
    let (warm, warm_p50) = figures(run(&mut prover, &recent)?);
    let (cold, cold_p50) = figures(run(&mut Prover::keeping(tiles.clone(), 16), &anywhere)?);

    let began = Instant::now();
    let proof = prover.inclusion(size / 3, size)?;
    let leaf = leaf_hash(entry(size / 3).as_bytes());
    for _ in 0..proofs {
        black_box(black_box(&proof).verify(&leaf, &root))?;
    }
    let verifying = began.elapsed().as_secs_f64() * 1e6 / proofs as f64;
    // A path has a hash for each level of the tree.
    let levels = u64::from(size.next_power_of_two().ilog2());
    let path = bare(0, proofs * levels).as_secs_f64() * 1e6 / proofs as f64;

    let began = Instant::now();
    let again = Tree::restore(size, &mut tiles)?;
    let restoring = began.elapsed().as_secs_f64() * 1e6;
    assert_eq!(again.root(), root);

    let per_second = |took: Duration| size as f64 / took.as_secs_f64();
    let appends = per_second(appending);
    let met = appends >= APPENDS_AIM && warm_p50 <= PROOF_AIM_US;
    // Of a proof that finds its tiles nowhere at hand, each tile is hashed anew: said, and not what is aimed at.
    let met_cold = cold_p50 <= PROOF_AIM_US;
    println!(
        "{{\"bench\": \"log\", \"entries\": {size}, \"appends_per_s\": {appends:.0}, \"bare_hashes_of_as_many_per_s\": {:.0}, \
         \"batch\": {BATCH}, \"tiles\": {}, \
         \"inclusion_recent\": {warm}, \"inclusion_anywhere_16_tiles_kept\": {cold}, \
         \"verify_us\": {verifying:.2}, \"bare_hashes_of_a_path_us\": {path:.2}, \"restore_us\": {restoring:.1}, \
         \"aim\": {{\"appends_per_s\": {APPENDS_AIM:.0}, \"inclusion_p50_us\": {PROOF_AIM_US:.0}}}, \"met\": {met}, \"met_anywhere\": {met_cold}}}",
        per_second(hashing),
        tiles.len(),
    );
    Ok(())
}

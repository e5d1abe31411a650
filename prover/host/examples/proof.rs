//! What a proof costs: a sieve of Eratosthenes proven under keys of several heights, and under the first of them a larger one, too, each
//! in a process of its own, so that its memory is its own. Prints JSON. The aims are those of the design: five times the 5,000 instructions per second, and less
//! than the memory, of its first probe.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use legation_core::{
    Digest, UnixTime, encoding,
    statement::{ExecutionClaim, args_digest},
};
use legation_proven::{PINNED_VERSION, Pinned, Verifier};
use legation_prover::{Job, JobFile, KeyFiles, OPENVM, Prover, SEGMENT_MEMORY, WASMI, commit};
use serde_json::{Value, json};

/// Writes how many primes there are below `LIMIT`.
const SIEVE: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 4)
    (func $crossed (param $at i32) (result i32) (i32.load8_u offset=1024 (local.get $at)))
    (func (export "_start") (local $at i32) (local $multiple i32) (local $primes i32)
        (local.set $at (i32.const 2))
        (loop $next
            (if (i32.eqz (call $crossed (local.get $at))) (then
                (local.set $primes (i32.add (local.get $primes) (i32.const 1)))
                (local.set $multiple (i32.shl (local.get $at) (i32.const 1)))
                (block $out (loop $cross
                    (br_if $out (i32.ge_u (local.get $multiple) (i32.const LIMIT)))
                    (i32.store8 offset=1024 (local.get $multiple) (i32.const 1))
                    (local.set $multiple (i32.add (local.get $multiple) (local.get $at)))
                    (br $cross)))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $at) (i32.const LIMIT))))
        (i32.store (i32.const 0) (i32.const 8))
        (i32.store (i32.const 4) (i32.const 4))
        (i32.store (i32.const 8) (local.get $primes))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"#;
/// Limit of the sieve, and primes below it.
const SIZES: [(u32, u32); 2] = [(500, 95), (2_000, 303)];
/// Aims: instructions in a second, and memory in KiB.
const AIMS: (f64, u64) = (25_000.0, 6_000_000);

#[derive(Parser)]
struct Cli {
    /// The program that is proven
    #[arg(long)]
    program: PathBuf,
    /// Where keys of each height are kept
    #[arg(long)]
    keys: PathBuf,
    /// Heights of the stacked trace
    #[arg(long, value_delimiter = ',', default_value = "22,24,20")]
    heights: Vec<usize>,
    /// What the proof system may reckon that a segment takes, in MiB
    #[arg(long, default_value_t = SEGMENT_MEMORY >> 20)]
    segment_mib: usize,
    /// Only the smaller sieve, under keys of the first height
    #[arg(long)]
    smoke: bool,
    /// Proves one sieve under keys of the first height, in this process
    #[arg(long, hide = true)]
    one: Option<u32>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let height = *cli.heights.first().context("no height")?;
    if let Some(limit) = cli.one {
        let answer = prove(&cli, height, limit)?;
        return writeln!(std::io::stdout(), "{answer}").context("stdout");
    }
    let [(small, _), (large, _)] = SIZES;
    let mut runs: Vec<_> = cli.heights.iter().map(|height| (*height, small)).collect();
    // The first height is what is proven under: there, memory must not grow with the length.
    runs.insert(1, (height, large));
    if cli.smoke {
        runs.truncate(1);
    }
    let mut all = Vec::new();
    for (height, limit) in runs {
        eprintln!("proof: sieve to {limit}, height {height}");
        all.push(child(&cli, height, limit)?);
    }
    let figure = |of: &Value, name: &str| of[name].as_f64().unwrap_or(0.0);
    let fastest = all.iter().map(|one| figure(one, "instructions_per_second")).fold(0.0, f64::max);
    let least = all.iter().map(|one| figure(one, "memory_peak_kib")).fold(f64::MAX, f64::min);
    let both = all
        .iter()
        .any(|one| figure(one, "instructions_per_second") >= AIMS.0 && figure(one, "memory_peak_kib") <= AIMS.1 as f64);
    let answer = json!({
        "aim": { "instructions_per_second": AIMS.0, "memory_peak_kib": AIMS.1 },
        "met": { "speed": fastest >= AIMS.0, "memory": least <= AIMS.1 as f64, "both_at_once": both },
        "proofs": all,
    });
    writeln!(std::io::stdout(), "{answer:#}").context("stdout")
}

fn keys(folder: &Path, height: usize) -> PathBuf {
    folder.join(format!("height-{height}"))
}

/// The same in a process of its own.
fn child(cli: &Cli, height: usize, limit: u32) -> Result<Value> {
    let mut command = Command::new(env::current_exe().context("this program")?);
    command.arg("--program").arg(&cli.program).arg("--keys").arg(&cli.keys);
    command.arg("--segment-mib").arg(cli.segment_mib.to_string());
    command.arg("--heights").arg(height.to_string()).arg("--one").arg(limit.to_string());
    let out = command.stdout(Stdio::piped()).spawn()?.wait_with_output()?;
    ensure!(out.status.success(), "proving the sieve to {limit} under height {height} failed");
    serde_json::from_slice(&out.stdout).context("the proof's figures")
}

fn prove(cli: &Cli, height: usize, limit: u32) -> Result<Value> {
    let program = &cli.program;
    let (_, primes) = SIZES.into_iter().find(|(size, _)| *size == limit).context("a size that is measured")?;
    let files = KeyFiles::new(keys(&cli.keys, height));
    let begun = Instant::now();
    let made = files.make(height)?;
    let keygen = begun.elapsed().as_secs_f64();
    let elf = fs::read(program).with_context(|| format!("failed to read {}", program.display()))?;
    let begun = Instant::now();
    let prover = Prover::with_segments(&files, &elf, cli.segment_mib << 20)?;
    let setup = begun.elapsed().as_secs_f64();

    let module = wat::parse_str(SIEVE.replace("LIMIT", &limit.to_string()))?;
    let claim = ExecutionClaim {
        module: Digest::of(&module),
        args: args_digest(&[]),
        seed: Digest::of(b"seed"),
        clock: UnixTime(0),
        inputs: Vec::new(),
        output: Some(commit(&[2; 32], &primes.to_le_bytes())),
    };
    let output_key = Some(encoding::hex(&[2; 32]));
    let file = JobFile { claim, module: PathBuf::new(), args: Vec::new(), inputs: Vec::new(), output_key };
    let job = Job::new(&file, module.into(), Vec::new())?;

    let begun = Instant::now();
    let counted = prover.count(&job)?;
    let dry = begun.elapsed().as_secs_f64();
    Prover::agree(&counted, &job)?;
    let instructions = counted.estimate.instructions;
    let proof = prover.prove(&job, instructions)?;

    let pinned = Pinned {
        version: PINNED_VERSION.to_owned(),
        openvm: OPENVM.to_owned(),
        wasmi: WASMI.to_owned(),
        stacked_height: u32::try_from(height)?,
        elf: Digest::of(&elf),
        commitment: String::new(),
        key: files.name()?,
    };
    let key = files.verifying_key()?;
    let verifier = Verifier::new(&pinned, &key)?;
    let mut times = Vec::new();
    for _ in 0..11 {
        let begun = Instant::now();
        let (public, _) = verifier.open(&proof.bytes)?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        ensure!(public == job.claim.public_value().as_bytes(), "the proof is of something else");
    }
    times.sort_by(f64::total_cmp);
    Ok(json!({
        "sieve_to": limit,
        "stacked_height": height,
        "segment_memory_mib": cli.segment_mib,
        "keygen_seconds": made.then_some(keygen),
        "setup_seconds": setup,
        "instructions": instructions,
        "segments": counted.estimate.segments,
        "dry_seconds": dry,
        "prove_seconds": proof.seconds,
        "instructions_per_second": instructions as f64 / proof.seconds,
        "verify_ms_p50": times.get(5),
        "proof_bytes": proof.bytes.len(),
        "memory_peak_kib": memory_peak(),
    }))
}

fn memory_peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()
}

//! `legation-prover`: what a proof of execution costs, making it, checking it. stdout is one JSON document; stderr is for people.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 4 refused because it would cost too much, 6 the proof is not good.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{ExitCode, exit},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use legation_core::{
    Digest, UnixTime,
    proven::{ExecutionJudge, PROOF_MAX},
    statement::{ExecutionClaim, args_digest},
};
use legation_proven::{PINNED_VERSION, Pinned, Verifier};
use legation_prover::{Counted, DEFAULT_STACKED_HEIGHT, Job, JobFile, KeyFiles, Limits, OPENVM, Prover, WASMI};
use serde_json::{Value, json};

/// Refused because it would cost too much.
const TOO_LARGE: u8 = 4;
/// The proof is not good.
const INVALID: u8 = 6;
const TICK: Duration = Duration::from_secs(5);
/// A command that does nothing: `(module (func (export "_start")))`. Proving it shows the commitment to the program.
const IDLE: &[u8] =
    b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\0\x0a\x04\x01\x02\0\x0b";

#[derive(Parser)]
#[command(name = "legation-prover", version, max_term_width = 100)]
/// Estimates, makes and checks proofs of execution
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the keys, unless they are there: minutes, once
    Keygen {
        /// Folder of the keys
        #[arg(long)]
        keys: PathBuf,
        /// Logarithm of the height of the stacked trace, 20 to 24: lower takes less memory
        #[arg(long, default_value_t = DEFAULT_STACKED_HEIGHT)]
        stacked_height: usize,
    },
    /// Writes down what readers pin of a program that was just built: proves an empty execution once
    Pin {
        #[command(flatten)]
        program: Program,
        /// Where to write it
        #[arg(long)]
        out: PathBuf,
    },
    /// Counts what a proof would cost, by a dry execution
    Estimate {
        #[command(flatten)]
        program: Program,
        #[command(flatten)]
        work: Work,
        /// Before the module has run: the claimed output is not looked at
        #[arg(long)]
        before: bool,
    },
    /// Proves, unless it would cost too much
    Prove {
        #[command(flatten)]
        program: Program,
        #[command(flatten)]
        work: Work,
        /// What is pinned: the proof is checked against it before it is given out
        #[arg(long)]
        pinned: PathBuf,
        /// Where to write the proof
        #[arg(long)]
        out: PathBuf,
    },
    /// Checks a proof of a claim
    Verify {
        /// What is pinned
        #[arg(long)]
        pinned: PathBuf,
        /// The verifying key
        #[arg(long)]
        key: PathBuf,
        /// Name of the program that the proof must be of. Default: the pinned one
        #[arg(long)]
        program: Option<Digest>,
        /// What the proof must make public, in hexadecimal
        #[arg(long, conflicts_with = "claim", required_unless_present = "claim")]
        public: Option<Digest>,
        /// In its place the claim that follows from: the `claim` of the statement, or of a job
        #[arg(long)]
        claim: Option<PathBuf>,
        /// The proof; it may be a pipe
        #[arg(long)]
        proof: PathBuf,
    },
}

#[derive(Args)]
struct Program {
    /// Folder of the keys
    #[arg(long)]
    keys: PathBuf,
    /// The program, an ELF file
    #[arg(long)]
    program: PathBuf,
}

#[derive(Args)]
struct Work {
    /// The job, a JSON file
    #[arg(long)]
    job: PathBuf,
    /// Most instructions that are proven
    #[arg(long, default_value_t = 100_000_000)]
    max_instructions: u64,
    /// Most seconds that a proof may take
    #[arg(long, default_value_t = 3600.0)]
    max_seconds: f64,
    /// Most seconds that the dry execution may take
    #[arg(long, default_value_t = 300)]
    max_dry_seconds: u64,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok((code, answer)) => {
            println!("{answer}");
            ExitCode::from(code)
        }
        Err(error) => {
            eprintln!("legation-prover: error: {error:#}");
            println!("{}", json!({ "error": format!("{error:#}") }));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(u8, Value)> {
    match command {
        Command::Keygen { keys, stacked_height } => {
            let keys = KeyFiles::new(keys);
            let made = keys.make(stacked_height)?;
            Ok((0, json!({ "made": made, "key": keys.name()?, "stacked_height": stacked_height, "openvm": OPENVM })))
        }
        Command::Pin { program, out } => pin(&program, &out),
        Command::Estimate { program, work, before } => {
            let (prover, job) = open(&program, &work)?;
            let counted = count(&prover, &job, &work)?;
            if !before {
                Prover::agree(&counted, &job)?;
            }
            Ok(cost(&counted, &work))
        }
        Command::Prove { program, work, pinned, out } => prove(&program, &work, &pinned, &out),
        Command::Verify { pinned, key, program, public, claim, proof } => {
            let public = match (public, claim) {
                (Some(public), _) => public,
                (None, Some(claim)) => read_claim(&claim)?.public_value(),
                (None, None) => bail!("neither --public nor --claim says what the proof is to be of"),
            };
            verify(&pinned, &key, program, public, &proof)
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("failed to read {}", path.display()))
}

fn read_pinned(path: &Path) -> Result<Pinned> {
    let text = fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    Ok(Pinned::from_text(&text)?)
}

fn open(program: &Program, work: &Work) -> Result<(Prover, Job)> {
    let job = Job::open(&work.job)?;
    Ok((Prover::open(&KeyFiles::new(&program.keys), &read(&program.program)?)?, job))
}

/// The dry execution, which ends this process when it takes too long: nothing else can stop it.
fn count(prover: &Prover, job: &Job, work: &Work) -> Result<Counted> {
    let most = work.max_dry_seconds;
    let watch = Watch::start("dry execution", None, Some(Duration::from_secs(most)));
    let counted = prover.count(job);
    watch.end();
    counted
}

/// As [`count`], held against what is claimed.
fn dry(prover: &Prover, job: &Job, work: &Work) -> Result<Counted> {
    let counted = count(prover, job, work)?;
    Prover::agree(&counted, job)?;
    Ok(counted)
}

fn cost(counted: &Counted, work: &Work) -> (u8, Value) {
    let limits = Limits { instructions: work.max_instructions, seconds: work.max_seconds };
    let mut answer = json!({ "estimate": counted.estimate, "accepted": true });
    match counted.estimate.over(&limits) {
        None => (0, answer),
        Some(why) => {
            answer["accepted"] = json!(false);
            answer["refused"] = json!(why);
            (TOO_LARGE, answer)
        }
    }
}

fn prove(program: &Program, work: &Work, pinned: &Path, out: &Path) -> Result<(u8, Value)> {
    let keys = KeyFiles::new(&program.keys);
    let verifier = Verifier::new(&read_pinned(pinned)?, &keys.verifying_key()?)?;
    let (prover, job) = open(program, work)?;
    let counted = dry(&prover, &job, work)?;
    let (code, mut answer) = cost(&counted, work);
    if code != 0 {
        return Ok((code, answer));
    }
    let watch = Watch::start("proof", Some(counted.estimate.seconds), None);
    let proof = prover.prove(&job, counted.estimate.instructions);
    watch.end();
    let proof = proof?;
    let begun = Instant::now();
    verifier
        .judge(&verifier.program(), &job.claim.public_value(), &proof.bytes)
        .context("the proof that was just made")?;
    let verified = begun.elapsed();
    fs::write(out, &proof.bytes).with_context(|| format!("failed to write {}", out.display()))?;
    answer["program"] = json!(verifier.program());
    answer["proof"] = json!(Digest::of(&proof.bytes));
    answer["size"] = json!(proof.bytes.len());
    answer["seconds"] = json!(proof.seconds);
    answer["verify_seconds"] = json!(verified.as_secs_f64());
    answer["memory_peak_kib"] = json!(memory_peak());
    Ok((0, answer))
}

fn read_claim(path: &Path) -> Result<ExecutionClaim> {
    let none = || format!("{} is no claim", path.display());
    let text: Value = serde_json::from_slice(&read(path)?).with_context(none)?;
    serde_json::from_value(text.get("claim").cloned().unwrap_or(text)).with_context(none)
}

/// Never more than the largest proof and one byte: what is longer is no proof, and is refused as such.
fn read_proof(path: &Path) -> Result<Vec<u8>> {
    let failed = || format!("failed to read {}", path.display());
    let most = u64::try_from(PROOF_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut proof = Vec::new();
    fs::File::open(path).with_context(failed)?.take(most).read_to_end(&mut proof).with_context(failed)?;
    Ok(proof)
}

/// The answer repeats what it is about, so that whoever asked can tell it from the answer to something else.
fn verify(pinned: &Path, key: &Path, program: Option<Digest>, public: Digest, proof: &Path) -> Result<(u8, Value)> {
    let verifier = Verifier::new(&read_pinned(pinned)?, &read(key)?)?;
    let program = program.unwrap_or_else(|| verifier.program());
    let proof = read_proof(proof)?;
    let begun = Instant::now();
    let judged = verifier.judge(&program, &public, &proof);
    let seconds = begun.elapsed().as_secs_f64();
    let mut answer = json!({
        "good": judged.is_ok(), "program": program, "public": public, "proof": Digest::of(&proof), "seconds": seconds,
    });
    let Err(why) = judged else { return Ok((0, answer)) };
    eprintln!("legation-prover: {why}");
    answer["why"] = json!(why);
    Ok((INVALID, answer))
}

/// Proves an execution of nothing, and writes down the program that was proven to run.
fn pin(program: &Program, out: &Path) -> Result<(u8, Value)> {
    let keys = KeyFiles::new(&program.keys);
    let elf = read(&program.program)?;
    let claim = ExecutionClaim {
        module: Digest::of(IDLE),
        args: args_digest(&[]),
        seed: Digest::from_bytes([0; 32]),
        clock: UnixTime(0),
        inputs: Vec::new(),
        output: None,
    };
    let file = JobFile { claim, module: PathBuf::new(), args: Vec::new(), inputs: Vec::new(), output_key: None };
    let job = Job::new(&file, IDLE.to_vec().into(), Vec::new())?;
    let prover = Prover::open(&keys, &elf)?;
    let counted = prover.count(&job)?;
    Prover::agree(&counted, &job)?;
    let watch = Watch::start("proof", Some(counted.estimate.seconds), None);
    let proof = prover.prove(&job, counted.estimate.instructions);
    watch.end();
    let proof = proof?;
    let mut pinned = Pinned {
        version: PINNED_VERSION.to_owned(),
        openvm: OPENVM.to_owned(),
        wasmi: WASMI.to_owned(),
        stacked_height: u32::try_from(keys.stacked_height()?)?,
        elf: Digest::of(&elf),
        commitment: String::new(),
        key: keys.name()?,
    };
    let key = keys.verifying_key()?;
    let (public, commitment) = Verifier::new(&pinned, &key)?.open(&proof.bytes)?;
    ensure!(public == job.claim.public_value().as_bytes(), "the program does not make public what it should");
    pinned.commitment = legation_core::encoding::hex(&commitment);
    Verifier::new(&pinned, &key)?.judge(&pinned.program(), &job.claim.public_value(), &proof.bytes)?;
    fs::write(out, pinned.to_text()).with_context(|| format!("failed to write {}", out.display()))?;
    Ok((
        0,
        json!({ "pinned": pinned, "program": pinned.program(), "start_up_instructions": counted.estimate.instructions }),
    ))
}

/// Says on stderr how far something is, and ends the process when it takes too long.
struct Watch {
    done: Arc<AtomicBool>,
}

impl Watch {
    fn start(what: &'static str, expected: Option<f64>, most: Option<Duration>) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let (seen, begun) = (done.clone(), Instant::now());
        thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                thread::park_timeout(TICK);
                let spent = begun.elapsed();
                if seen.load(Ordering::Relaxed) {
                    break;
                }
                let of = expected.map_or(String::new(), |seconds| format!(" of about {seconds:.0} s"));
                eprintln!("legation-prover: {what}: {} s{of}", spent.as_secs());
                if most.is_some_and(|most| spent > most) {
                    let why = format!("the {what} takes longer than {} s", spent.as_secs());
                    println!("{}", json!({ "accepted": false, "refused": why }));
                    std::io::stdout().flush().ok();
                    exit(TOO_LARGE.into());
                }
            }
        });
        Self { done }
    }

    fn end(self) {
        self.done.store(true, Ordering::Relaxed);
    }
}

/// Most memory that this process held, in KiB; nothing where the system does not say.
fn memory_peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()
}

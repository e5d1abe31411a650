//! Proofs, good and bad, with the built program: its path and that of the keys are in `LEGATION_PROVER_PROGRAM` and
//! `LEGATION_PROVER_KEYS`, which `cargo xtask prover test` sets. Without them, what needs them is skipped, loudly.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{env, fs, path::PathBuf};

use legation_core::{
    Digest, Rejection, UnixTime, encoding,
    proven::{ExecutionJudge, PROOF_MAX},
    statement::{ExecutionClaim, args_digest},
};
use legation_proven::{Pinned, Verifier};
use legation_prover::{Job, JobFile, JobInput, KeyFiles, Limits, Prover, commit};
use zeroize::Zeroizing;

/// Reads up to 64 bytes and writes them; `BODY` follows.
const ECHO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\40\00\00\00\40\00\00\00")
    (func (export "_start")
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
        (i32.store (i32.const 4) (i32.load (i32.const 16)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20)))
        BODY))"#;
const INPUT: &[u8] = b"what is proven";

/// What the program is given.
type Items = Vec<Zeroizing<Vec<u8>>>;

fn module(body: &str) -> Vec<u8> {
    wat::parse_str(ECHO.replace("BODY", body)).unwrap()
}

fn job_file(module: &[u8], input: &[u8], output: &[u8]) -> JobFile {
    let claim = ExecutionClaim {
        module: Digest::of(module),
        args: args_digest(&[]),
        seed: Digest::of(b"seed"),
        clock: UnixTime(1_795_262_400),
        inputs: vec![commit(&[1; 32], input)],
        output: Some(commit(&[2; 32], output)),
    };
    let input = JobInput { file: PathBuf::from("input"), key: encoding::hex(&[1; 32]) };
    let output_key = Some(encoding::hex(&[2; 32]));
    JobFile { claim, module: PathBuf::from("module.wasm"), args: Vec::new(), inputs: vec![input], output_key }
}

fn job(module: &[u8], input: &[u8], output: &[u8]) -> Job {
    Job::new(&job_file(module, input, output), module.to_vec().into(), vec![input.to_vec().into()]).unwrap()
}

#[test]
fn a_job_that_is_not_what_it_claims_is_refused_before_it_costs_anything() {
    let folder = tempfile::tempdir().unwrap();
    let module = module("");
    fs::write(folder.path().join("module.wasm"), &module).unwrap();
    fs::write(folder.path().join("input"), INPUT).unwrap();
    let path = folder.path().join("job.json");
    let open = |file: &JobFile| {
        fs::write(&path, serde_json::to_vec(file).unwrap()).unwrap();
        Job::open(&path).map(|job| job.claim).map_err(|why| format!("{why:#}"))
    };
    let good = job_file(&module, INPUT, INPUT);
    assert_eq!(open(&good), Ok(good.claim.clone()));
    let bends: [(&str, fn(&mut JobFile)); 7] = [
        ("the module is not", |f| f.claim.module = Digest::of(b"other")),
        ("the arguments are not", |f| f.args.push("more".to_owned())),
        ("input 0 is not", |f| f.claim.inputs = vec![Digest::of(b"other")]),
        ("input 0 is not", |f| f.inputs.iter_mut().for_each(|input| input.key = encoding::hex(&[9; 32]))),
        ("key of input 0", |f| f.inputs.iter_mut().for_each(|input| input.key.clear())),
        ("2 inputs are claimed", |f| f.claim.inputs.push(Digest::of(b"more"))),
        ("a key for the output", |f| f.output_key = None),
    ];
    for (expect, bend) in bends {
        let mut bent = good.clone();
        bend(&mut bent);
        let why = open(&bent).unwrap_err();
        assert!(why.contains(expect), "{expect}: {why}");
    }
}

struct Proven {
    prover: Prover,
    pinned: Pinned,
    key: Vec<u8>,
    job: Job,
    proof: Vec<u8>,
}

/// One proof for all that follows, as it costs minutes; nothing where the program is not there.
fn proven() -> Option<Proven> {
    let (program, keys) = (env::var_os("LEGATION_PROVER_PROGRAM")?, env::var_os("LEGATION_PROVER_KEYS")?);
    let keys = KeyFiles::new(keys);
    let prover = Prover::open(&keys, &fs::read(program).unwrap()).unwrap();
    let pinned = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/PINNED.json");
    let pinned = Pinned::from_text(&fs::read_to_string(pinned).unwrap()).unwrap();
    let job = job(&module(""), INPUT, INPUT);
    let counted = prover.count(&job).unwrap();
    Prover::agree(&counted, &job).unwrap();
    let tight = Limits { instructions: counted.estimate.instructions - 1, seconds: 1e9 };
    assert!(counted.estimate.over(&tight).is_some());
    let proof = prover.prove(&job, counted.estimate.instructions).unwrap().bytes;
    Some(Proven { prover, pinned, key: keys.verifying_key().unwrap(), job, proof })
}

#[test]
fn executions_are_proven_and_nothing_else_is() {
    let Some(proven) = proven() else {
        eprintln!("SKIPPED: no built program: `cargo xtask prover test` proves and refuses executions");
        return;
    };
    convinces_of_its_execution_and_of_no_other(&proven);
    altered_it_convinces_of_nothing(&proven);
    another_program_or_key_convinces_of_nothing(&proven);
    what_does_not_end_well_is_not_proven(&proven.prover);
}

fn check(verifier: &Verifier, claim: &ExecutionClaim, proof: &[u8]) -> Result<(), String> {
    verifier.judge(&verifier.program(), &claim.public_value(), proof).map_err(|why: Rejection| why.check)
}

fn convinces_of_its_execution_and_of_no_other(Proven { pinned, key, job, proof, .. }: &Proven) {
    let verifier = Verifier::new(pinned, key).unwrap();
    check(&verifier, &job.claim, proof).unwrap();
    let bends: [(&str, fn(&mut ExecutionClaim)); 8] = [
        ("other module", |c| c.module = Digest::of(b"other")),
        ("other arguments", |c| c.args = args_digest(&["x".to_owned()])),
        ("other input", |c| c.inputs = vec![commit(&[1; 32], b"other")]),
        ("no input", |c| c.inputs.clear()),
        ("altered output", |c| c.output = Some(commit(&[2; 32], b"what is Proven"))),
        ("no output", |c| c.output = None),
        ("other seed", |c| c.seed = Digest::of(b"other")),
        ("other clock", |c| c.clock = UnixTime(0)),
    ];
    for (what, bend) in bends {
        let mut claim = job.claim.clone();
        bend(&mut claim);
        assert_eq!(check(&verifier, &claim, proof), Err("proof.wrong".to_owned()), "{what}");
    }
}

fn altered_it_convinces_of_nothing(Proven { pinned, key, job, proof, .. }: &Proven) {
    let verifier = Verifier::new(pinned, key).unwrap();
    let step = proof.len() / 40;
    for at in (0..proof.len()).step_by(step.max(1)) {
        let mut altered = proof.clone();
        altered[at] ^= 1;
        assert!(check(&verifier, &job.claim, &altered).is_err(), "byte {at}");
    }
    for len in [0, 1, proof.len() / 2, proof.len() - 1] {
        assert!(check(&verifier, &job.claim, &proof[..len]).is_err(), "first {len} bytes");
    }
    assert!(check(&verifier, &job.claim, &[&proof[..], &[0]].concat()).is_err(), "a byte more");
    assert_eq!(check(&verifier, &job.claim, &vec![0; PROOF_MAX + 1]), Err("proof.bytes".to_owned()));
    assert!(check(&verifier, &job.claim, &vec![0xff; 1 << 20]).is_err());
}

fn another_program_or_key_convinces_of_nothing(Proven { pinned, key, job, proof, .. }: &Proven) {
    let mut commitment = pinned.commitment_bytes().unwrap();
    commitment[0] ^= 1;
    let other = Pinned { commitment: encoding::hex(&commitment), ..pinned.clone() };
    let verifier = Verifier::new(&other, key).unwrap();
    assert_eq!(check(&verifier, &job.claim, proof), Err("proof.wrong".to_owned()), "another interpreter ran");
    let public = job.claim.public_value();
    let why = verifier.judge(&pinned.program(), &public, proof).unwrap_err();
    assert_eq!(why.check, "proof.program", "a program by another name");
    let mut altered = key.clone();
    altered[7] ^= 1;
    assert_eq!(Verifier::new(pinned, &altered).err().map(|why| why.check), Some("proof.key".to_owned()));
}

fn what_does_not_end_well_is_not_proven(prover: &Prover) {
    for (what, body) in [
        ("trap", "unreachable"),
        ("division", "(drop (i32.div_u (i32.const 1) (i32.const 0)))"),
        ("exit code", "(call $exit (i32.const 1))"),
    ] {
        assert!(prover.count(&job(&module(body), INPUT, INPUT)).is_err(), "{what}");
    }
    // Aborts: what the program is given is malformed.
    let bends: [(&str, fn(&mut Items)); 4] = [
        ("a head cut short", |items| drop(items[0].pop())),
        ("a byte more in the head", |items| items[0].push(0)),
        ("a module that is none", |items| items[1].truncate(9)),
        ("an input missing", |items| drop(items.pop())),
    ];
    for (what, bend) in bends {
        let mut bent = job(&module(""), INPUT, INPUT);
        bend(&mut bent.items);
        assert!(prover.count(&bent).is_err(), "{what}");
    }
    // It ends well, with another output than is claimed: no proof of that can be made, and it is noticed before.
    let wrong = job(&module(""), INPUT, b"what was never written");
    let counted = prover.count(&wrong).unwrap();
    assert!(Prover::agree(&counted, &wrong).is_err());
}

//! Counting and proving executions of the program.

use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use legation_core::Digest;
use openvm_sdk::{F, Sdk, StdIn};
use openvm_transpiler::elf::Elf;

use crate::{Estimate, Job, KeyFiles, estimate};

/// Memory of the machine that is proven, in bytes.
const MACHINE_MEMORY: u32 = 1 << 29;
/// What the proof system may reckon that a segment takes, in bytes. It takes up to three and a half times that (measured), and by the proof
/// system's own default of 15 GiB more than most machines have.
pub const SEGMENT_MEMORY: usize = 3 << 29;

/// The program and its keys, ready.
pub struct Prover {
    sdk: Sdk,
    elf: Elf,
    keys: KeyFiles,
}

/// What a dry execution shows.
#[derive(Clone, Debug)]
pub struct Counted {
    /// What the program makes public.
    pub public: Vec<u8>,
    /// What a proof would cost.
    pub estimate: Estimate,
}

/// A proof, made.
#[derive(Clone, Debug)]
pub struct Proof {
    /// As it travels.
    pub bytes: Vec<u8>,
    /// How long it took.
    pub seconds: f64,
}

impl Prover {
    /// Reads keys and program.
    ///
    /// # Errors
    /// There are no keys, or `elf` is no program for the machine.
    pub fn open(keys: &KeyFiles, elf: &[u8]) -> Result<Self> {
        Self::with_segments(keys, elf, SEGMENT_MEMORY)
    }

    /// The same, with segments of another size: of what the proof system reckons to take at most `memory` bytes.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn with_segments(keys: &KeyFiles, elf: &[u8], memory: usize) -> Result<Self> {
        let elf =
            Elf::decode(elf, MACHINE_MEMORY).map_err(|why| anyhow!("the program is none for this machine: {why}"))?;
        Ok(Self { sdk: keys.load(memory)?, elf, keys: keys.clone() })
    }

    /// Executes without proving: what is made public, and how many instructions it takes.
    ///
    /// # Errors
    /// The module traps, exits with another code than 0, calls what is not here, or its output is not to be committed to: there
    /// is nothing to prove.
    pub fn count(&self, job: &Job) -> Result<Counted> {
        let (public, segments) = self
            .sdk
            .execute_metered(self.elf.clone(), stdin(job))
            .context("the execution does not end well, so there is nothing to prove")?;
        let instructions = segments.iter().map(|segment| segment.num_insns).sum();
        let rate = estimate::rate(self.keys.folder());
        let bytes = segments.len().saturating_mul(estimate::segment_bytes(self.keys.stacked_height()?));
        Ok(Counted { public, estimate: Estimate::of(instructions, segments.len(), bytes, rate) })
    }

    /// Holds what a dry execution made public against the claim of its job.
    ///
    /// # Errors
    /// They differ: the claim is of another output, clock or seed, and a proof of it cannot be made.
    pub fn agree(counted: &Counted, job: &Job) -> Result<()> {
        let expected: Digest = job.claim.public_value();
        ensure!(
            counted.public == expected.as_bytes(),
            "the module, on these inputs, does not give what is claimed: its output, seed or clock is another"
        );
        Ok(())
    }

    /// Proves. `instructions` are what was counted, from which the rate of this machine is learnt.
    ///
    /// # Errors
    /// The proof system failed.
    pub fn prove(&self, job: &Job, instructions: u64) -> Result<Proof> {
        let mut prover = self.sdk.app_prover(self.elf.clone()).context("failed to commit to the program")?;
        let started = Instant::now();
        let proof = prover.prove(stdin(job)).context("failed to prove")?;
        let seconds = started.elapsed().as_secs_f64();
        estimate::keep_rate(self.keys.folder(), instructions, seconds);
        Ok(Proof { bytes: bitcode::serialize(&proof).context("failed to write the proof")?, seconds })
    }
}

fn stdin(job: &Job) -> StdIn<F> {
    let mut stdin: StdIn<F> = StdIn::default();
    job.items.iter().for_each(|item| stdin.write_bytes(item));
    stdin
}

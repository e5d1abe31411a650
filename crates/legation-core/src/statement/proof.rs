//! Proofs of execution: that a report's module, on the inputs that it committed to, gives the output that it committed to.
//!
//! The statement says what is proven and of which report; the proof itself, some hundred kilobytes, travels beside it
//! ([`crate::proven`]). Nothing rests on who signs: the proof convinces by itself, the signature only says who made it.

use serde::{Deserialize, Serialize};

use super::{Outcome, Report};
use crate::{
    digest::{Digest, DigestWriter},
    dsse::{Predicate, Subject},
    key::PublicKey,
    rejection::Rejection,
    time::UnixTime,
    unit::Bytes,
};

/// What begins the bytes whose digest a proof makes public.
const DOMAIN: &[u8] = b"legation-execution-v1";
/// What ends them: the program says it last, when the module ended with exit code 0 and nothing was amiss.
const OK: &[u8] = b"ok\0\x01";

/// What an execution is proven to be. A proof makes one digest of it public ([`Self::public_value`]).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutionClaim {
    /// Module that ran, by SHA-256.
    pub module: Digest,
    /// Its arguments ([`args_digest`]).
    pub args: Digest,
    /// Seed of its randomness.
    pub seed: Digest,
    /// What its clocks showed.
    pub clock: UnixTime,
    /// Commitments of the plaintexts it read, in order.
    pub inputs: Vec<Digest>,
    /// Commitment of what it wrote; nothing when it wrote nothing and the report names no output.
    pub output: Option<Digest>,
}

impl ExecutionClaim {
    /// What is to be proven of `report`, whose module had the arguments `args` and clocks that showed `clock`: of an answer
    /// those of its call, of a fragment its own, and the time of the request.
    ///
    /// # Errors
    /// `proof.outcome`: the execution did not complete. Failures are not proven.
    pub fn of(report: &Report, args: &[String], clock: UnixTime) -> Result<Self, Rejection> {
        if report.outcome != Outcome::Completed {
            return Err(Rejection::new("proof.outcome", "execution to be proven")
                .expected("one that completed")
                .got("one that failed")
                .fix("failures are attested, not proven"));
        }
        let output = match &report.answer {
            Some(answer) => answer.output.as_ref().map(|output| output.commitment),
            None => report.output.as_ref().map(|output| output.commitment),
        };
        Ok(Self {
            module: report.module,
            args: args_digest(args),
            seed: report.seed,
            clock,
            inputs: report.inputs.clone(),
            output,
        })
    }

    /// The 32 bytes that a proof of this makes public: SHA-256 of
    ///
    /// ```text
    /// "legation-execution-v1" · module (32) · args (32) · seed (32) · clock (8) · number of inputs (4) · each input (32)
    ///     · 1 and the output (33), or 33 zeros without one · "ok" 0 1
    /// ```
    /// with numbers in big-endian order. It is one digest because that is what the program can make public, and because
    /// nothing of it is public unless the last word was reached.
    pub fn public_value(&self) -> Digest {
        let mut hash = DigestWriter::new();
        hash.update(DOMAIN);
        for part in [&self.module, &self.args, &self.seed] {
            hash.update(part.as_bytes());
        }
        hash.update(&self.clock.0.to_be_bytes());
        hash.update(&count(self.inputs.len()));
        self.inputs.iter().for_each(|input| hash.update(input.as_bytes()));
        match &self.output {
            Some(output) => {
                hash.update(&[1]);
                hash.update(output.as_bytes());
            }
            None => hash.update(&[0; 33]),
        }
        hash.update(OK);
        hash.finish()
    }
}

/// The digest of arguments: SHA-256 of their number (4 bytes, big-endian), then each as its length (the same) and its bytes.
pub fn args_digest(args: &[String]) -> Digest {
    let mut hash = DigestWriter::new();
    hash.update(&count(args.len()));
    for arg in args {
        hash.update(&count(arg.len()));
        hash.update(arg.as_bytes());
    }
    hash.finish()
}

/// Numbers of inputs and arguments, and lengths of arguments, are bounded far below 2^32.
fn count(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes()
}

/// That a report's execution is proven, and by which program and proof.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutionProof {
    /// Key of whoever made the proof, who signs this.
    pub prover: PublicKey,
    /// The report, by the digest of its envelope.
    pub report: Digest,
    /// What is proven.
    pub claim: ExecutionClaim,
    /// Program whose execution was proven, the interpreter, by the name that its publisher pins it under.
    pub program: Digest,
    /// The proof, by SHA-256.
    pub proof: Digest,
    /// Bytes of the proof.
    pub size: Bytes,
    /// When it was made.
    pub made: UnixTime,
    /// The report.
    pub prev: Vec<Digest>,
}

impl Predicate for ExecutionProof {
    const TYPE: &'static str = "https://legation.dev/execution-proof/v1";

    fn signer(&self) -> PublicKey {
        self.prover
    }

    fn prev(&self) -> &[Digest] {
        &self.prev
    }

    fn subjects(&self) -> Vec<Subject> {
        vec![Subject::new("report", self.report), Subject::new("proof", self.proof)]
    }
}

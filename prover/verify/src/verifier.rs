//! The judge of proofs of the pinned program.

use std::panic::{AssertUnwindSafe, catch_unwind};

use legation_core::{
    Digest, Rejection,
    proven::{ExecutionJudge, PROOF_MAX},
};
use openvm_sdk::{DefaultStarkEngine, keygen::AppVerifyingKey, prover::verify_app_proof};
use openvm_stark_backend::p3_field::PrimeField32;

use crate::Pinned;

/// Largest verifying key read, in bytes.
pub const KEY_MAX: usize = 64 << 20;
/// Bytes that the program makes public.
const PUBLIC: usize = 32;

/// Judges proofs of one program.
pub struct Verifier {
    key: AppVerifyingKey,
    commitment: Vec<u8>,
    program: Digest,
}

fn bad(what: &str, claim: &str) -> Rejection {
    Rejection::new(&format!("proof.{what}"), claim.to_owned())
}

impl Verifier {
    /// Takes the verifying key of a pinned program, as `legation-prover keygen` writes it.
    ///
    /// # Errors
    /// `proof.key`: it is not the key that is pinned. `proof.pinned`: what is pinned is malformed.
    pub fn new(pinned: &Pinned, key: &[u8]) -> Result<Self, Rejection> {
        // The digest first: nothing reads bytes that are not the pinned ones.
        if key.len() > KEY_MAX || Digest::of(key) != pinned.key {
            return Err(bad("key", "verifying key")
                .expected(pinned.key)
                .got(Digest::of(key))
                .fix("use the key that was published with the program"));
        }
        let commitment = pinned
            .commitment_bytes()
            .map_err(|why| bad("pinned", "commitment to the pinned program").expected("hexadecimal").got(why))?;
        let key = bitcode::deserialize(key)
            .map_err(|why| bad("key", "verifying key").expected("one of this release").got(why))?;
        Ok(Self { key, commitment, program: pinned.program() })
    }

    /// Name of the program.
    pub fn program(&self) -> Digest {
        self.program
    }

    /// What a proof makes public, and the commitment to the program that it is of, whichever that is.
    ///
    /// # Errors
    /// `proof.bytes` or `proof.wrong`: it proves nothing.
    pub fn open(&self, proof: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Rejection> {
        if proof.len() > PROOF_MAX {
            let got = format!("{} bytes", proof.len());
            return Err(bad("bytes", "size of a proof").expected(format!("at most {PROOF_MAX} bytes")).got(got));
        }
        // The proof system asserts what an honest prover guarantees. A stranger's proof that violates it is refused, not a panic.
        catch_unwind(AssertUnwindSafe(|| self.opened(proof))).unwrap_or_else(|_| {
            Err(bad("wrong", "proof of an execution").expected("a good one").got("one that breaks its own form"))
        })
    }

    fn opened(&self, proof: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Rejection> {
        let proof = bitcode::deserialize(proof)
            .map_err(|why| bad("bytes", "form of a proof").expected("one of the pinned release").got(why))?;
        let commitment = verify_app_proof::<DefaultStarkEngine>(&self.key, &proof)
            .map_err(|why| bad("wrong", "proof of an execution").expected("one that verifies").got(why))?;
        let cells = &proof.user_public_values.public_values;
        let public: Result<Vec<u8>, _> = cells.iter().map(|cell| u8::try_from(cell.as_canonical_u32())).collect();
        let public =
            public.map_err(|_| bad("wrong", "public values of a proof").expected("bytes").got("larger numbers"))?;
        let commitment = commitment_bytes(&commitment)
            .map_err(|why| bad("wrong", "commitment in a proof").expected("one").got(why))?;
        Ok((public, commitment))
    }
}

/// A commitment as it is pinned.
///
/// # Errors
/// It cannot be written, which no commitment of the proof system does.
pub fn commitment_bytes<C: serde::Serialize>(commitment: &C) -> Result<Vec<u8>, bitcode::Error> {
    bitcode::serialize(commitment)
}

impl ExecutionJudge for Verifier {
    fn judge(&self, program: &Digest, public: &Digest, proof: &[u8]) -> Result<(), Rejection> {
        if *program != self.program {
            return Err(bad("program", "program behind a proof of execution")
                .expected(self.program)
                .got(program)
                .fix("use a build that pins that program, if you trust it"));
        }
        let (made_public, commitment) = self.open(proof)?;
        if commitment != self.commitment {
            return Err(bad("wrong", "program that was proven to run")
                .expected("the pinned one")
                .got("another")
                .fix("prove with the program that is pinned"));
        }
        if made_public.len() != PUBLIC || made_public != public.as_bytes() {
            return Err(bad("wrong", "what the execution made public")
                .expected(public)
                .got(legation_core::encoding::hex(made_public.get(..PUBLIC).unwrap_or(&made_public)))
                .fix("the proof is of another module, input, output, or of an execution that did not end well"));
        }
        Ok(())
    }
}

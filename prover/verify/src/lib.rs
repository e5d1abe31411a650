//! Checks proofs of execution: that the pinned program, the interpreter of `prover/guest`, ran to its end and made exactly these
//! 32 bytes public. What the bytes mean is `legation_core::statement::ExecutionClaim`'s to say.
//!
//! A proof is good when
//! 1. it has at most `PROOF_MAX` bytes, and is of the form of the pinned release of the proof system;
//! 2. it verifies under the pinned key: every segment, their order, the end with exit code 0, the public bytes in the last memory;
//! 3. the program that ran has the pinned commitment;
//! 4. it makes 32 bytes public, and they are those that were claimed.
//!
//! A program is named by SHA-256 over key and commitment, so that other parameters or another interpreter are another program.
//! It is *not* zero-knowledge: a proof is to be given only to whoever may learn of the inputs.

mod pinned;
mod verifier;

pub use pinned::{PINNED_VERSION, Pinned};
pub use verifier::{KEY_MAX, Verifier, commitment_bytes};

//! The program whose execution is proven: it runs a WebAssembly command, as the engine of an enclave does, on inputs that were
//! committed to, commits to the output, and gives one digest of all that, to be made public.
//!
//! ```text
//! witness (secret):  module, arguments, seed, clock, inputs, keys of the commitments
//! public:            SHA-256("legation-execution-v1" · SHA-256(module) · SHA-256(arguments) · seed · clock
//!                        · HMAC(key, input).. · HMAC(key, output) · "ok" 0 1)
//! ```
//! Invariants
//! 1. The digest is given only when the module ended by itself, with exit code 0. A trap, another exit code, a call of
//!    something that is not here, a malformed witness: each is an error, and there is no proof.
//! 2. Every byte that the module can observe is from the witness, and bound by the digest: module, arguments, inputs, their
//!    lengths, seed, clock.
//! 3. The module is validated before anything of it runs: the interpreter has no undefined behaviour that a module could ask
//!    for. Functions that never run are not validated.
//!
//! It is *not* the engine: no fuel, no limit of memory or time. What would have exceeded those has no completed report, and
//! a proof is of a completed report.

mod machine;
mod public;
mod sha;
mod wasi;
mod witness;

pub use machine::run;
pub use public::{claim, hmac};
pub use sha::Sha256;
pub use witness::{Malformed, Witness};

/// Why there is nothing to prove.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// The witness is not one.
    Witness(Malformed),
    /// The module is invalid, imports what is not here, or is no command.
    Module(String),
    /// The module trapped.
    Trap(String),
    /// The module ended with this exit code, not 0.
    Exit(i32),
    /// It wrote something, and no key to commit to it is there.
    Uncommitted,
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Witness(why) => write!(f, "witness: {why}"),
            Self::Module(why) => write!(f, "module: {why}"),
            Self::Trap(why) => write!(f, "trap: {why}"),
            Self::Exit(code) => write!(f, "exit code {code}"),
            Self::Uncommitted => f.write_str("output without a key to commit to it"),
        }
    }
}

/// Runs the witness and gives what is to be made public.
///
/// # Errors
/// There is nothing to prove.
pub fn prove(witness: &Witness) -> Result<[u8; 32], Refused> {
    let output = run(witness)?;
    claim(witness, &output)
}

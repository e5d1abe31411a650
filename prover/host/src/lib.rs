//! Proofs of execution: what one costs, making it, and the keys for it. The binary `legation-prover` is this behind a command
//! line; an agent with capability `prover` runs it as a process of its own, which can be given memory, priority and an end.
//!
//! It is *not* an enclave's engine and holds no rights: it gets plaintexts and keys of commitments (not of objects) from whoever
//! ran the module, and gives a proof.

mod estimate;
mod job;
mod keys;
mod prover;

pub use estimate::{DEFAULT_RATE, Estimate, Limits, RATE_FILE, SETUP_SECONDS};
pub use job::{Job, JobFile, JobInput, commit};
pub use keys::{DEFAULT_STACKED_HEIGHT, KeyFiles, OPENVM, STACKED_HEIGHTS, WASMI};
pub use prover::{Counted, Proof, Prover, SEGMENT_MEMORY};

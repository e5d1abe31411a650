//! The words of the project through their public doors: what is accepted, what is refused, and by which check.
//!
//! Nothing here uses the crates that make real keys or judge real evidence: [`party`] has a signer and a judge that are just
//! enough, [`world`] a federated task in two rounds whose every statement a test can bend before it is signed, [`handed`] a task
//! whose enclave hands parts on.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod attenuation;
mod bytes;
mod custody;
mod custody_policy;
mod custody_random;
mod custody_refusals;
mod custody_return;
mod delegated;
mod demands;
mod dsse;
mod evaluation;
mod grants;
mod handed;
mod inconsistent;
mod party;
mod proofs;
mod proven;
mod purses;
mod receipts;
mod requirement;
mod revocations;
mod sessions;
mod swarm;
mod tamper;
mod vectors;
mod votes;
mod words;
mod world;

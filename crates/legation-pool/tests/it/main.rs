//! The pool through its door: stories, golden decisions, generated histories, and how fast it goes.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod enclaves;
mod explain;
mod journal;
mod leases;
mod policies;
mod proofs;
mod properties;
mod reports;
mod revocation;
mod speed;
mod tasks;
mod terms;
mod world;

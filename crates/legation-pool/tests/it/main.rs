//! The pool through its door: stories, golden decisions, generated histories, and how fast it goes.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod enclaves;
mod explain;
mod journal;
mod leases;
mod properties;
mod reports;
mod speed;
mod tasks;
mod terms;
mod world;

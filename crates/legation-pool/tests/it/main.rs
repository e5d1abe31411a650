//! The pool through its door: stories, golden decisions, generated histories, and how fast it goes.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod accounts;
mod archive;
mod custody;
mod distances;
mod enclaves;
mod estimates;
mod explain;
mod history;
mod journal;
mod leases;
mod lifecycle;
mod loans;
mod metering;
mod openb;
mod permits;
mod placement;
mod policies;
mod preemption;
mod proofs;
mod properties;
mod queueing;
mod reports;
mod reservations;
mod revocation;
mod scenario;
mod snapshots;
mod speed;
mod swarms;
mod tasks;
mod terms;
mod trust;
mod world;

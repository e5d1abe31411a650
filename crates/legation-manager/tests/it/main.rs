//! Tests of the manager's library through its public doors, in one binary. What it does as a process is tested with the
//! binary, in the crate that makes it.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod archive;
mod faulty;
mod journal;
mod journal_contract;
mod leader;
mod leadership;
mod log;
mod postgres;
mod sizes;
mod speed;
#[expect(dead_code, reason = "the world of the pool's own tests has more than measurements need")]
#[path = "../../../legation-pool/tests/it/world.rs"]
mod world;

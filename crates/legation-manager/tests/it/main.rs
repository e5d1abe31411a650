//! Tests of the manager's library through its public doors, in one binary. What it does as a process is tested with the
//! binary, in the crate that makes it.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod journal;

//! Tests of the agent through its public doors, in one binary.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::print_stderr, reason = "tests say what they measured or skipped")]

mod config;
mod engine;
mod guests;
mod manager;
mod offer;
mod resources;
mod session;
mod world;

//! Tests of the agent through its public doors, in one binary.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::print_stderr, reason = "tests say what they measured or skipped")]

mod asking;
mod attester_activation;
mod attester_detection;
#[cfg(feature = "nitro")]
mod attester_nitro;
#[cfg(feature = "tpm")]
mod attester_tpm;
mod attester_tsm;
mod component;
mod config;
mod custody;
mod delegation;
mod engine;
mod failover;
mod guests;
mod lending;
mod lent;
mod limits;
mod log;
mod manager;
mod monitor;
mod offer;
mod resources;
mod session;
mod state;
#[cfg(feature = "tpm")]
mod state_tpm;
mod swarm;
mod world;

//! Tests of the binary and the client library with real processes, real sockets and real files, in one binary.
//!
//! Every test has a deployment of its own in a folder of its own, on a loopback address of its own, and waits for nothing
//! without a bound. What it starts ends with it.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::expect_used, reason = "a test that panics says what it waited for")]
#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod accounts;
mod by_hand;
mod collateral;
mod custodian;
mod delegate;
mod detect;
mod dev;
mod evidence;
mod evidence_kinds;
mod failover;
mod handed;
#[cfg(feature = "hsm")]
mod hsm;
mod http;
mod judgement;
mod key;
mod liar;
mod log;
mod openapi;
mod operator;
mod policy;
#[path = "../../../legation-manager/tests/it/postgres.rs"]
mod postgres;
mod proven;
mod receipts;
mod recovery;
mod refusals;
mod revocation;
mod run;
mod slow;
mod swarms;
#[cfg(feature = "tpm")]
mod tpm_cloud;
mod trio;
mod verifiers;
mod words;
mod world;

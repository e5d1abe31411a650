//! The crate through its public doors: real sockets, a vendor that is played, a clock that is turned by hand.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so aloud")]

mod collateral;
mod load;
mod remote;
mod server;
mod service;
mod store;
mod vendor;
mod world;

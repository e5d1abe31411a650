//! Attested channels through their public doors, over real TCP connections on the loopback.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod bounds;
mod hostile;
mod keylog;
mod life;
mod opening;
mod raw;
mod renewal;
mod revocation;
mod world;

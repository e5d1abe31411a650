//! A verifier as a service: it turns evidence into passports, and keeps the collateral that this needs.
//!
//! ```text
//! evidence, challenges --> LocalVerifier --> passport        judges with a snapshot of the shelf, never fetches
//!                               ^ shelf
//! vendors, mirrors, files --> Keeper --> Store               fetches and keeps, never judges evidence
//! ```
//! Verification itself is pure and lives in `legation-attest`; here are the key, the clock, the files and the network
//! around it. A verifier remembers nothing between two requests: any replica with the same key and the same challenge
//! secret serves any of them.
//!
//! * [`door`]: how a verifier is asked, wherever it is; [`local`]: in this process; [`remote`]: behind HTTP.
//! * [`service`]: the HTTP service; [`config`] and [`server`]: `legation verifier`.
//! * [`collateral`]: what vendors publish about machines: kept, dated, refreshed, never fetched while somebody waits.
//! * [`activation`]: credentials for TPMs, without memory.

pub mod activation;
pub mod collateral;
pub mod config;
pub mod current;
pub mod door;
pub mod http;
pub mod local;
mod metrics;
pub mod policy;
pub mod remote;
pub mod server;
pub mod service;

use std::sync::Arc;

use legation_core::UnixTime;

pub use current::{Appraisers, Appraising, Current};
pub use door::{Activation, Door, Issued};
pub use local::{LocalVerifier, Parts};
pub use remote::{RemoteConfig, RemoteVerifier};

/// Where the time comes from: the system's clock, or a test's.
pub type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        UnixTime(since.map_or(0, |d| d.as_secs()))
    })
}

/// A source of random bytes: the operating system's.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], legation_core::Rejection> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| {
        legation_core::Rejection::new("verifier.randomness", "randomness of the system")
            .expected("random bytes")
            .got("none")
            .fix("see to the machine's random device")
    })?;
    Ok(bytes)
}

//! The manager: keeps the journal, performs what the pool decides, answers clients and agents.
//!
//! It is *not* trusted with anything but availability and honest bookkeeping: it never holds a plaintext, a data key or a
//! private key of an enclave, and every statement it passes on is checked by whoever relies on it.
//!
//! [`leader`] owns the pool and the [`journal`]; `gate` holds the channels of agents, `attestation` asks the
//! verifiers (`doors`) about them; [`api`] is the clients'; `effects` is what the pool decided, on its way out; [`log`] is the
//! transparency log of what the journal holds.

pub mod api;
pub mod archive;
mod attestation;
mod borrowing;
mod calls;
pub mod config;
mod custody;
mod doors;
mod effects;
mod gate;
mod gossip;
pub mod journal;
pub mod leader;
pub mod leadership;
pub mod log;
mod manager;
mod metrics;
mod objects;
mod own;
mod proving;
pub mod recovery;
mod refusals;
mod reign;
mod revocations;
mod round_trips;
mod seed;
mod store;
mod turnstile;

pub use config::{JournalConfig, LogConfig, ManagerConfig, RemoteVerifierConfig, Tenant};
pub use doors::VerifierView;
pub use leader::{LeaderView, ManagerView};
pub use manager::{Addresses, Manager, StartError, system_clock};
pub use objects::copy_objects;
pub use refusals::Refusal;
pub use revocations::{RevocationsView, SignedRevocations};

/// Where time comes from.
pub type Clock = std::sync::Arc<dyn Fn() -> legation_core::UnixTime + Send + Sync>;

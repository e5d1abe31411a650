//! The agent inside the enclave: proves what it is, judges what it is offered, runs it, and signs what it did.
//!
//! It is *not* where anything is decided about others' work: placement, money and trust in enclaves are the manager's and the
//! client's. It opens no socket but its one channel to a manager ([`legation_net`]) and, where work is handed on, channels to the
//! enclaves that the manager lends; keeps nothing on disk (but inputs, while they are proven, and a custodian's [`state`], sealed), and its
//! keys never leave it: a new boot is a new enclave.
//!
//! The way of an offer: [`Agent`] hears it, [`offer`] judges it, the [`engine`] runs it; what comes back is a signed report.
//!
//! * [`config`] and [`resources`]: what steers it, and what of the machine it offers. Both are measured into its evidence.
//! * [`attester`]: where evidence comes from.
//! * [`books`]: what was promised and not yet acknowledged; which term was obeyed.
//! * [`offer`], [`swarm`] and [`lending`]: pure judgement over signed statements, of work, of fellow members, of loans.
//! * [`engine`]: runs WebAssembly, and only that.
//! * `prover`: has proven, after the fact, what was to be, by a process of its own.
//! * [`custody`]: helps to keep a swarm key, where it is set up for that.
//! * [`state`]: what a custodian keeps over restarts, sealed, on a disk that nobody trusts.
//! * [`monitor`]: says how a run looks beside earlier ones of its module.

mod admission;
mod agent;
mod assignment;
pub mod attester;
pub mod books;
pub mod config;
pub mod custody;
mod delegations;
pub mod engine;
mod execution;
mod fetch;
mod inflow;
mod intake;
pub mod lending;
pub mod monitor;
pub mod offer;
mod passports;
mod patience;
mod peers;
mod prover;
pub mod resources;
mod search;
mod serve;
mod session;
mod shutdown;
pub mod state;
mod status;
pub mod swarm;

pub use agent::{Agent, Exit, StartError};
pub use config::{AgentConfig, ConfigError};
pub use shutdown::Shutdown;
pub use status::Status;

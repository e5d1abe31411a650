//! The agent inside the enclave: proves what it is, judges what it is offered, runs it, and signs what it did.
//!
//! It is *not* where anything is decided about others' work: placement, money and trust in enclaves are the manager's and the
//! client's. It opens no socket but its one channel to a manager ([`legation_net`]), keeps nothing on disk, and its keys never
//! leave it: a new boot is a new enclave.
//!
//! The way of an offer: [`Agent`] hears it, [`offer`] judges it, the [`engine`] runs it; what comes back is a signed report.
//!
//! * [`config`] and [`resources`]: what steers it, and what of the machine it offers. Both are measured into its evidence.
//! * [`attester`]: where evidence comes from.
//! * [`books`]: what was promised and not yet acknowledged; which term was obeyed.
//! * [`offer`] and [`swarm`]: pure judgement over signed statements, of work and of fellow members.
//! * [`engine`]: runs WebAssembly, and only that.

mod admission;
mod agent;
mod assignment;
pub mod attester;
pub mod books;
pub mod config;
pub mod engine;
mod execution;
mod fetch;
mod intake;
pub mod offer;
mod passports;
mod patience;
pub mod resources;
mod search;
mod session;
mod shutdown;
mod status;
pub mod swarm;

pub use agent::{Agent, Exit, StartError};
pub use config::{AgentConfig, ConfigError};
pub use shutdown::Shutdown;
pub use status::Status;

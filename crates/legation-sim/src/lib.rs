//! Whole deployments in one thread under one seed, with a hostile world: managers, agents, clients, a network and a store, with
//! delay, loss, partition, crash, freezing, wrong clocks, lying agents and bad disks. The same seed gives the same history, byte for
//! byte.
//!
//! What runs is the product's: the pool with all its commands (`legation-pool`), and the agents' books and judgement
//! (`legation-agent`). What surrounds them are adapters of this crate, which follow the product's own steps in messages
//! instead of threads. The judge is the head of `oracle.rs`: it lists the invariants. Kinds of faults are [`Fault`]; every one must happen
//! over a set of seeds. [`Defect`] lists deliberate defects of the adapters that must be found.
//!
//! # What is not simulated, and remaining nondeterminism
//! * No threads, runtimes, sockets or files: what only goes wrong between threads is not found here. Stores with files and databases
//!   are tested with real processes.
//! * Channels are names of connections: TLS, the handshake and passports on the wire are not run. An agent's enclave is what it says
//!   it is, as a channel would prove.
//! * Evidence is not judged: the verifier believes what it is shown. Nothing is sealed, wrapped or opened; modules do not run.
//! * Custody is the product's but for the agents' part: charters, calls, boards, vows and who is called when are; shares, dealings and
//!   rosters are toys (`toy.rs`), and nobody releases with them. Members do not judge passports of others.
//! * Statements travel as values, so signatures are not checked on the way; in one of sixteen seeds they are made and checked when the
//!   journal is read back.
//! * Clocks jump and are off, but do not run at other speeds. Stopwatches (terms, patience) are right on every node.
//! * Nothing here reads a clock, the environment or random numbers, and no map with a random order is walked. What is left is the
//!   compiler and the version of this program: a seed means the same only in the same version.

mod agent;
mod client;
mod clock;
mod defect;
mod ether;
mod fault;
mod keys;
mod manager;
mod message;
mod oracle;
mod plan;
mod random;
mod statements;
mod store;
mod toy;
mod world;

pub use defect::Defect;
pub use fault::{Fault, Tally};
pub use world::{Outcome, run};

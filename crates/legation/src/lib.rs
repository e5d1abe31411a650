//! The client of Legation, and what the one binary is made of.
//!
//! * [`home`]: who this client is: its keys, its token, what it trusts.
//! * [`client`]: the manager's API.
//! * [`party`]: holders of data and keys: seal, judge enclaves, grant, open results.
//! * [`run`]: a job from modules and inputs to results and a receipt.
//! * [`log`]: the transparency log: comparing, proving, witnessing.
//! * [`verify`]: receipts and evidence, offline; [`custody`]: who has a swarm key.
//! * [`root`]: the operator's root, in a file or in a hardware security module (`hsm`, with the feature of that name).
//! * [`setup`]: makes a deployment: roots, keys, appointments, configurations.
//! * [`cloud`]: runs one on this machine, as processes; [`emulator`]: the emulated TPMs of one.
//!
//! The client trusts its anchors and nothing else: not the manager, not the providers, not the network.

pub mod client;
pub mod cloud;
pub mod custody;
pub mod emulator;
pub mod exit;
pub mod home;
#[cfg(feature = "hsm")]
pub mod hsm;
pub mod log;
pub mod party;
pub mod root;
pub mod run;
mod secret;
pub mod setup;
pub mod verify;

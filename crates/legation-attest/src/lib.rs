//! Evidence to claims, claims to an appraisal, an appraisal to a passport.
//!
//! ```text
//! Evidence --Judge--> Judged(Claims) --Appraiser--> Ear --issue--> Passport --open--> believed by a peer
//! ```
//! It is *not* where evidence is fetched, collateral downloaded or a nonce remembered: no clock, no file, no socket,
//! and no randomness but one named exception ([`dev`], which makes keys and signs like a chip would). Time is an
//! argument of everything that depends on it.
//!
//! * [`evidence`] judges whole [`legation_core::claims::Evidence`] by its kind:
//!   [`snp`] for AMD SEV-SNP, [`dcap`] for Intel TDX and SGX, [`nitro`] for AWS Nitro Enclaves, [`tpm`] for TPM 2.0,
//!   [`azure`] for Azure's confidential VMs, and [`nvidia`] for GPUs of a machine.
//! * [`x509`] reads certificates and revocation lists, and verifies chains for the kinds without a profile of their own;
//!   [`cache`] remembers what was verified.
//! * [`appraisal`] is the seam to whoever holds claims against a policy; [`passport`] issues and opens the signed result;
//!   [`challenge`] gives nonces that nobody has to remember.
//! * [`dev`] is a development root: byte-exact SEV-SNP reports that prove the protocol, never confidentiality.
//! * [`report_view`] lists every check on a report in a file, for people and scripts.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod appraisal;
pub mod azure;
pub mod cache;
pub mod challenge;
mod check;
pub mod dcap;
pub mod dev;
pub mod evidence;
pub mod nitro;
pub mod nvidia;
mod oid;
pub mod passport;
mod pem;
pub mod report_view;
pub mod snp;
pub mod tpm;
#[cfg(fuzzing)]
pub mod unverified;
pub mod x509;

pub use appraisal::Appraiser;
pub use evidence::{Judge, Roots};
pub use passport::{Verifier, admit};
pub use snp::{AmdRoots, DevelopmentRoots};

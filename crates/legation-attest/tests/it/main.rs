//! The crate through its public door: published reports, every bit of a report, an unmodified verifier as oracle, whole
//! evidence, policies and passports, and bytes of no meaning at all.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod azure;
mod dcap;
mod development;
mod flips;
mod fuzz;
mod judging;
mod nitro;
mod nvidia;
mod oracle;
mod passports;
mod samples;
mod tpm;
mod vectors;
mod world;

//! Evidence to claims, claims to an appraisal, an appraisal to a passport.
//!
//! ```text
//! Evidence --Judge--> Judged(Claims) --appraise--> Ear --issue--> Passport --open--> believed by a peer
//! ```
//! It is *not* where evidence is fetched, collateral downloaded or a nonce remembered: no clock, no file, no socket,
//! and no randomness but one named exception ([`dev`], which makes keys and signs like a chip would). Time is an
//! argument of everything that depends on it.
//!
//! * [`snp`] verifies AMD SEV-SNP reports; [`evidence`] judges whole [`legation_core::claims::Evidence`] by its kind.
//! * [`appraisal`] holds claims against a policy; [`passport`] issues and opens the signed result.
//! * [`dev`] is a development root: byte-exact SEV-SNP reports that prove the protocol, never confidentiality.
//! * [`report_view`] lists every check on a report in a file, for people and scripts.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod appraisal;
pub mod dev;
pub mod evidence;
mod oid;
pub mod passport;
mod pem;
pub mod report_view;
pub mod snp;

pub use appraisal::{AppraisalPolicy, MinimumTcb, ReferenceValue, appraise};
pub use evidence::Judge;
pub use passport::{Verifier, admit};
pub use snp::{AmdRoots, DevelopmentRoots, Roots};

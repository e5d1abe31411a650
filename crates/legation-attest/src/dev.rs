//! The development root of trust: everything AMD's chain has, made here, so that the whole protocol runs on a laptop.
//!
//! It proves the verifier and the protocol, **never confidentiality**: whoever holds the root's file, or a chip's, can
//! sign anything. So its certificates say DEVELOPMENT and NOT AMD, its evidence is of its own kind (`dev-snp`), its
//! verdicts carry [`Anchor::Development`](legation_core::claims::Anchor), and nothing is admitted under it unless the
//! reader's anchor file names the root *and* the appraisal policy says `development`.
//!
//! ARK and ASK have RSA-4096 keys and sign with RSASSA-PSS, SHA-384 and a salt of 48 bytes; a chip's VCEK is a P-384
//! key with AMD's extensions (VCEK specification 57230); reports are of version 3 (firmware ABI 56860), in the shape
//! of Milan or Genoa. An unmodified SEV-SNP verifier that is given the development ARK accepts them.
//!
//! # The exception to purity
//! Key generation, PSS salts and ECDSA nonces come from aws-lc's own generator, which reads the operating system's:
//! this module stands for hardware, and hardware has its own randomness. Nothing else in this crate draws any.
//! Signatures therefore differ from call to call; what they are over does not.

mod chip;
pub(crate) mod der;
pub(crate) mod root;

pub use chip::{Chip, ChipSpec, Guest};
pub use root::DevelopmentRoot;

use aws_lc_rs::rand::SystemRandom;

use crate::snp::Product;

/// How long development certificates are valid, in years of 365 days.
pub const CERTIFICATE_YEARS: u64 = 10;

/// Why a development root or chip was not made, read or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DevelopmentError {
    /// The root's name is not a name.
    #[error("name of the development root: {0}")]
    Name(String),
    /// The cryptographic library would not do this with a private key.
    #[error("the cryptographic library would not {0} a key")]
    Key(&'static str),
    /// Chips of this product, or with its security version, are not made here.
    #[error("development chips of {0} with such an id or security version are not made")]
    Product(Product),
    /// The file is not of the kind, damaged, or mixed up.
    #[error("file of a development root or chip: {0}")]
    File(String),
}

/// The library's own generator; it is what its signing functions take.
#[expect(clippy::disallowed_methods, reason = "stands for the randomness of hardware: see the module's documentation")]
fn hardware_random() -> SystemRandom {
    SystemRandom::new()
}

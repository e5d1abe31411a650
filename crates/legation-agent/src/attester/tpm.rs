//! TPM 2.0: quotes over registers, by a key that a verifier has seen activated.
//!
//! * The endorsement key is made from the TCG's template of the configured kind, whose certificate its maker left in the TPM.
//!   A TPM has one of each kind; anchor files name the kind by which they know the TPMs of a root, so that one TPM is one
//!   chip. Intermediate certificates come from the TPM as well, where its maker put them there, and from a configured file.
//! * The attestation key (ECC P-256, restricted) is made under it once for each start of the agent. It never leaves the TPM;
//!   what is kept here is the blob by which the TPM loads it again after it has lost it.
//! * A quote covers registers 0 to 7 of SHA-256 and those configured; its qualifying data are the first 32 bytes of the
//!   report data. Registers that change while they are read are read again.
//! * A development TPM measures the agent itself: register 16, which anybody may reset, is reset and extended by the SHA-256
//!   of the executable. That is the agent's own word about itself, good for development and for nothing else. Of a TPM that
//!   is not for development the agent extends nothing: what starts the agent measures it, or nothing does.
//!
//! A TPM hides no memory from the host. Sources: *TPM 2.0 Library Specification* Part 3; *TCG EK Credential Profile* 2.2.

use legation_core::claims::TpmKey;

#[cfg(feature = "tpm")]
mod attester;
#[cfg(feature = "tpm")]
mod device;

#[cfg(feature = "tpm")]
pub use attester::{LOG_MAX, TpmAttester};
#[cfg(feature = "tpm")]
pub use device::CHAIN_MAX;

/// Register of a development TPM that the agent measures itself into.
pub const OWN_REGISTER: u8 = 16;
/// Registers that every quote covers.
pub const REGISTERS: std::ops::RangeInclusive<u8> = 0..=7;
/// Most tries to read registers that stay as they are while they are quoted.
pub const QUOTE_TRIES_MAX: u32 = 5;

/// Why a TPM gave nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TpmError {
    /// A command failed.
    #[error("{what} failed: {why}")]
    Command {
        /// Which.
        what: &'static str,
        /// As the TPM or its library says it.
        why: String,
    },
    /// It holds no certificate of an endorsement key of the configured kind that is its own.
    #[error(
        "no endorsement key of kind {kind} with a certificate ({why}); if its maker certified another kind, name that as `key` of \
         `[tpm]` and in the anchor file"
    )]
    NoEndorsementKey {
        /// The kind.
        kind: TpmKey,
        /// What is there instead.
        why: String,
    },
    /// Registers changed in every try.
    #[error(
        "registers changed during each of {QUOTE_TRIES_MAX} quotes; leave out those that the running system extends"
    )]
    Changing,
    /// A credential has not the form of one.
    #[error("{0} has not the form it should have")]
    Malformed(&'static str),
    /// A verifier's word is about another key.
    #[error("the verifier's word is about another attestation key")]
    OtherKey,
}

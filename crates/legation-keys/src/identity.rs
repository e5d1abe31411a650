//! The identity key: an Ed25519 key (RFC 8032) that says who an enclave, client, manager or verifier is.
//!
//! On disk it is PKCS#8 version 1 (RFC 5208 with the algorithm of RFC 8410), which rustls, rcgen and openssl all read; version 2
//! (RFC 5958, with the public key) is read too, because some tools write nothing else. Both are matched byte by byte: an
//! Ed25519 key has one DER encoding in each, so no general parser stands between a file and a secret.
//!
//! Checks on reading:
//! 1. a PEM file has at most [`PEM_MAX`] bytes, one `PRIVATE KEY` block and nothing beside it but white space;
//! 2. its body is canonical base64;
//! 3. the DER is exactly an Ed25519 private key without attributes;
//! 4. a public key that comes along is the one of the private key.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use legation_core::{
    PublicKey, Signature, Signer,
    encoding::{self, EncodingError},
};
use zeroize::Zeroizing;

use crate::entropy::Entropy;

/// Longest PEM file of an identity key read, in bytes.
pub const PEM_MAX: usize = 4096;

/// DER of a version 1 PKCS#8 Ed25519 key up to the 32 bytes of its seed (RFC 8410 section 7).
const PKCS8_V1: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// The same of version 2 (RFC 5958): another length, another version, the public key after the seed.
const PKCS8_V2: [u8; 16] =
    [0x30, 0x51, 0x02, 0x01, 0x01, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// What stands between seed and public key in version 2: `[1] IMPLICIT BIT STRING` without unused bits.
const PKCS8_V2_PUBLIC: [u8; 3] = [0x81, 0x21, 0x00];

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// An Ed25519 private key.
pub struct IdentityKey {
    // aws-lc wipes the memory that it frees, but gives a seed out only in memory that nobody wipes: so ours is kept beside.
    pair: Ed25519KeyPair,
    seed: Zeroizing<[u8; 32]>,
}

/// Why bytes are not an identity key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityKeyError {
    /// Longer than [`PEM_MAX`].
    #[error("key file is longer than {PEM_MAX} bytes")]
    TooLong,
    /// Not one PEM block of this label (RFC 7468).
    #[error("not one PEM block between `{PEM_BEGIN}` and `{PEM_END}`")]
    Pem,
    /// The body of the PEM block is not canonical base64.
    #[error("PEM body is {0}")]
    Encoding(#[from] EncodingError),
    /// Not the PKCS#8 encoding of an Ed25519 key.
    #[error("not an Ed25519 private key in PKCS#8 (make one with `openssl genpkey -algorithm ed25519`)")]
    Pkcs8,
    /// The public key stored beside the private one belongs to another.
    #[error("stored public key is not the one of the private key")]
    OtherPublicKey,
}

impl IdentityKey {
    /// A new key.
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut seed[..]);
        Self::new(seed)
    }

    /// The key whose 32-byte private key (RFC 8032 section 5.1.5) is `seed`.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self::new(Zeroizing::new(seed))
    }

    #[expect(clippy::expect_used, reason = "any 32 bytes are an Ed25519 seed; aws-lc fails here only out of memory")]
    fn new(seed: Zeroizing<[u8; 32]>) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed[..]).expect("any 32 bytes are a seed");
        Self { pair, seed }
    }

    /// DER of the key as PKCS#8 version 1: 48 bytes.
    pub fn pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([&PKCS8_V1[..], &self.seed[..]].concat())
    }

    /// Reads PKCS#8, version 1 or 2.
    ///
    /// # Errors
    /// Checks 3 and 4 of this module.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, IdentityKeyError> {
        let (seed, public) = if let Some(seed) = der.strip_prefix(&PKCS8_V1) {
            (seed, None)
        } else {
            let rest = der.strip_prefix(&PKCS8_V2).ok_or(IdentityKeyError::Pkcs8)?;
            let (seed, rest) = rest.split_at_checked(32).ok_or(IdentityKeyError::Pkcs8)?;
            (seed, Some(rest.strip_prefix(&PKCS8_V2_PUBLIC).ok_or(IdentityKeyError::Pkcs8)?))
        };
        let seed: &[u8; 32] = seed.try_into().map_err(|_| IdentityKeyError::Pkcs8)?;
        let key = Self::new(Zeroizing::new(*seed));
        match public {
            Some(public) if public.len() != 32 => Err(IdentityKeyError::Pkcs8),
            Some(public) if public != key.public_key().as_bytes() => Err(IdentityKeyError::OtherPublicKey),
            _ => Ok(key),
        }
    }

    /// The key as a PEM file (RFC 7468, label `PRIVATE KEY`), as `openssl genpkey` would have written it.
    pub fn to_pem(&self) -> Zeroizing<String> {
        // 48 bytes are one line of 64 characters, so nothing needs to be folded.
        let body = Zeroizing::new(encoding::base64(&self.pkcs8()));
        Zeroizing::new([PEM_BEGIN, "\n", &body, "\n", PEM_END, "\n"].concat())
    }

    /// Reads a PEM file.
    ///
    /// # Errors
    /// The checks of this module.
    pub fn from_pem(text: &str) -> Result<Self, IdentityKeyError> {
        if text.len() > PEM_MAX {
            return Err(IdentityKeyError::TooLong);
        }
        let inner = text
            .trim_ascii()
            .strip_prefix(PEM_BEGIN)
            .and_then(|t| t.strip_suffix(PEM_END))
            .filter(|t| !t.contains('-'))
            .ok_or(IdentityKeyError::Pem)?;
        let mut body = Zeroizing::new(String::with_capacity(inner.len()));
        body.extend(inner.lines().map(str::trim_ascii));
        let der = Zeroizing::new(encoding::unbase64(&body)?);
        Self::from_pkcs8(&der)
    }
}

impl Signer for IdentityKey {
    fn public_key(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey::from_bytes(bytes)
    }

    fn sign(&self, message: &[u8]) -> Signature {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.pair.sign(message).as_ref());
        Signature(bytes)
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKey({}, private)", self.public_key().id().short())
    }
}

//! Public keys, signatures and the signing capability. Private keys live in `legation-keys`.

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    digest::Digest,
    encoding::{self, EncodingError},
    id::{EnclaveId, KeyId},
};

/// DER of an Ed25519 SubjectPublicKeyInfo up to the key itself (RFC 8410 section 4).
const ED25519_SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// An Ed25519 public key (RFC 8032), written as base64 of its 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

/// An Ed25519 signature (RFC 8032).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

/// The signature does not belong to this key and message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signature is not by this key over these bytes")]
pub struct BadSignature;

/// What can sign with an Ed25519 key it never shows, and always does. A key that may be out of reach, as one in a hardware token is, is
/// no signer: see [`crate::dsse::Unsigned`].
pub trait Signer: Send + Sync {
    /// The public half.
    fn public_key(&self) -> PublicKey;
    /// Signs `message`; deterministic (RFC 8032), so the same statement always gives the same envelope.
    fn sign(&self, message: &[u8]) -> Signature;
}

impl PublicKey {
    /// Wraps the 32 bytes of a public key.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// DER SubjectPublicKeyInfo (RFC 8410), as X.509, TLS and openssl know the key.
    pub fn spki(&self) -> [u8; 44] {
        let mut out = [0; 44];
        out[..12].copy_from_slice(&ED25519_SPKI_PREFIX);
        out[12..].copy_from_slice(&self.0);
        out
    }

    /// The key in a DER SubjectPublicKeyInfo, if it is an Ed25519 one.
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        let key = der.strip_prefix(&ED25519_SPKI_PREFIX)?;
        key.try_into().ok().map(Self)
    }

    /// Name of this key.
    pub fn id(&self) -> KeyId {
        KeyId::new(Digest::of(&self.spki()))
    }

    /// Name of the enclave whose identity key this is.
    pub fn enclave_id(&self) -> EnclaveId {
        self.id().into()
    }

    /// Checks `signature` over `message`.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, &signature.0).map_err(|_| BadSignature)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encoding::base64(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id().short())
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({}..)", encoding::hex(&self.0[..4]))
    }
}

impl FromStr for PublicKey {
    type Err = EncodingError;

    fn from_str(text: &str) -> Result<Self, EncodingError> {
        encoding::unbase64_array(text).map(Self)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        encoding::from_text(d)
    }
}

/// An X-Wing public key (X25519 + ML-KEM-768, draft-connolly-cfrg-xwing-kem): what objects are sealed to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SealingPublicKey(Box<[u8; Self::LEN]>);

impl SealingPublicKey {
    /// Bytes of an X-Wing public key.
    pub const LEN: usize = 1216;

    /// Wraps the bytes; whether they are a valid key is found when something is sealed to it.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(Box::new(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// SHA-256 of the bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0[..])
    }
}

impl fmt::Debug for SealingPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingPublicKey({})", self.digest().short())
    }
}

impl Serialize for SealingPublicKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&encoding::base64(&self.0[..]))
    }
}

impl<'de> Deserialize<'de> for SealingPublicKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let encoding::Text(text) = encoding::Text::deserialize(d)?;
        encoding::unbase64_array(&text).map(Self::from_bytes).map_err(serde::de::Error::custom)
    }
}

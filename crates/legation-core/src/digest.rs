//! SHA-256 digests: the one way this project names bytes.
//!
//! Bytes are hashed and signed *as they travel*; nothing is ever re-encoded in order to be checked.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::encoding::{self, EncodingError};

/// A SHA-256 digest (FIPS 180-4), shown as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_output(&digest::digest(&digest::SHA256, bytes))
    }

    /// The digest of the concatenation of `parts`. The caller separates domains and lengths.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut hasher = DigestWriter::new();
        for part in parts {
            hasher.update(part);
        }
        hasher.finish()
    }

    fn from_output(output: &digest::Digest) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(output.as_ref());
        Self(out)
    }

    /// Wraps 32 bytes that are already a digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 hexadecimal digits, for people.
    pub fn short(&self) -> String {
        encoding::hex(&self.0[..6])
    }
}

/// SHA-256 over bytes that arrive in pieces.
pub struct DigestWriter(digest::Context);

impl DigestWriter {
    /// An empty hash.
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Digest {
        Digest::from_output(&self.0.finish())
    }
}

impl Default for DigestWriter {
    fn default() -> Self {
        Self::new()
    }
}

/// SHA-512 of the concatenation of `parts`.
pub fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    let mut ctx = digest::Context::new(&digest::SHA512);
    for part in parts {
        ctx.update(part);
    }
    let mut out = [0; 64];
    out.copy_from_slice(ctx.finish().as_ref());
    out
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encoding::hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl FromStr for Digest {
    type Err = EncodingError;

    fn from_str(text: &str) -> Result<Self, EncodingError> {
        encoding::unhex_array(text).map(Self)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        encoding::from_text(d)
    }
}

//! Under what an object's key is wrapped to a swarm key, and the wrapped key as everybody but custodians sees it: bytes.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::terms::Generation;
use crate::{
    digest::Digest,
    encoding::{self, Text},
    id::{ObjectId, TenantId},
    rejection::Rejection,
};

/// Separates the digests of labels from everybody's.
const DOMAIN: &[u8; 17] = b"legation-label-v1";
/// What a wrapped key begins with.
const KIND: &[u8; 16] = b"legation-lock-v1";

/// What one object's key is wrapped under: who releases it must see all of this, judge it, and compute the digest anew.
///
/// One label is for one object's key. What is released for it opens everything ever wrapped under it, for good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label {
    /// Whose object it is.
    pub tenant: TenantId,
    /// SHA-256 of the release policy's text.
    pub policy: Digest,
    /// The object.
    pub object: ObjectId,
    /// Of the swarm key.
    pub generation: Generation,
}

impl Label {
    /// SHA-256 of `"legation-label-v1"` · length of the tenant's name (1) · the name · policy (32) · object (16) · generation (8): what
    /// members sign to release.
    pub fn digest(&self) -> Digest {
        let tenant = self.tenant.as_str().as_bytes();
        // A name has at most 63 bytes.
        let len = u8::try_from(tenant.len()).unwrap_or(u8::MAX);
        Digest::of_parts(&[
            DOMAIN,
            &[len],
            tenant,
            self.policy.as_bytes(),
            self.object.as_bytes(),
            &self.generation.0.to_be_bytes(),
        ])
    }
}

/// An object's key, wrapped to a swarm key under a label, in the bytes that travel: `"legation-lock-v1"` · SHA-256 of the swarm key (32) ·
/// label (32) · ciphertext (160). What opens it is in `legation-keys`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SwarmSealed(Box<[u8; Self::LEN]>);

impl SwarmSealed {
    /// Bytes of a wrapped key.
    pub const LEN: usize = 240;

    /// Wraps the bytes, if they begin as they should. Whether the ciphertext is one, and says something, who opens it finds.
    ///
    /// # Errors
    /// `custody.sealed`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Rejection> {
        match <[u8; Self::LEN]>::try_from(bytes) {
            Ok(whole) if whole.starts_with(KIND) => Ok(Self(Box::new(whole))),
            Ok(_) => Err(Rejection::new("custody.sealed", "key wrapped to a swarm key").expected("its first bytes")),
            Err(_) => Err(Rejection::new("custody.sealed", "key wrapped to a swarm key")
                .expected(format!("{} bytes", Self::LEN))
                .got(bytes.len())),
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Name of the swarm key that it is wrapped to, as it says.
    pub fn key(&self) -> Digest {
        self.digest_at(16)
    }

    /// Digest of the label that it is wrapped under, as it says.
    pub fn label(&self) -> Digest {
        self.digest_at(48)
    }

    fn digest_at(&self, at: usize) -> Digest {
        let mut out = [0; 32];
        out.copy_from_slice(&self.0[at..at + 32]);
        Digest::from_bytes(out)
    }
}

impl fmt::Debug for SwarmSealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SwarmSealed(to {} under {})", self.key().short(), self.label().short())
    }
}

impl Serialize for SwarmSealed {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&encoding::base64(&self.0[..]))
    }
}

impl<'de> Deserialize<'de> for SwarmSealed {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(d)?;
        let bytes = encoding::unbase64(&text).map_err(serde::de::Error::custom)?;
        Self::from_bytes(&bytes).map_err(serde::de::Error::custom)
    }
}

/// An object in custody, as whoever names the object says it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustodyRef {
    /// Of the swarm key.
    pub generation: Generation,
    /// SHA-256 of the release policy's text.
    pub policy: Digest,
    /// Its key, wrapped.
    pub key: SwarmSealed,
}

impl CustodyRef {
    /// The label that the key of `tenant`'s `object` must be wrapped under, which it is.
    ///
    /// # Errors
    /// `custody.swarm`: it is wrapped to another key than `swarm` (a digest); `custody.label`: it is another tenant's or object's.
    pub fn label(&self, swarm: Digest, tenant: &TenantId, object: ObjectId) -> Result<Label, Rejection> {
        if self.key.key() != swarm {
            return Err(Rejection::new("custody.swarm", "swarm key that an object's key is wrapped to")
                .expected(swarm)
                .got(self.key.key())
                .fix("wrap the object's key to the swarm key in force"));
        }
        let label = Label { tenant: tenant.clone(), policy: self.policy, object, generation: self.generation };
        if label.digest() != self.key.label() {
            return Err(Rejection::new("custody.label", "label that an object's key is wrapped under")
                .expected(format!("that of {object} of {tenant}: {}", label.digest().short()))
                .got(self.key.label().short())
                .fix("name the tenant, the policy and the object that it was wrapped for"));
        }
        Ok(label)
    }
}

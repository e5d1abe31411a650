//! An object's key, wrapped to a swarm key under a label: Boneh and Franklin's identity-based encryption with the label as the
//! identity, made safe against chosen ciphertexts by Fujisaki and Okamoto's transform (in `tle` of commonware-cryptography).

use std::fmt;

use commonware_cryptography::bls12381::{
    primitives::{
        group::{G1, G2},
        variant::MinSig,
    },
    tle::{self, Block, Ciphertext},
};
use legation_core::{Digest, custody::Label};
use zeroize::Zeroizing;

use super::{
    curve::g2_bytes,
    release::NAMESPACE,
    roster::SwarmKey,
    wire::{ReadError, Reader},
};
use crate::{
    entropy::{Entropy, Source},
    object::ObjectKey,
};

/// What a wrapped key begins with.
const KIND: &str = "legation-lock-v1";

/// An object's key, wrapped to a swarm key under a label.
///
/// Nothing in it says who wrapped it: the object's commitment says whether it is the key.
#[derive(Clone, PartialEq, Eq)]
pub struct SwarmSealed {
    key: Digest,
    label: Digest,
    u: G2,
    v: [u8; 32],
    w: [u8; 32],
}

impl SwarmSealed {
    /// Bytes of a wrapped key.
    pub const LEN: usize = 16 + 32 + 32 + 96 + 32 + 32;

    /// Wraps `object`'s key to `key` under `label`; draws 32 bytes of `entropy`.
    #[expect(clippy::expect_used, reason = "refused is the identity alone, and no swarm key is that")]
    pub fn seal(key: &SwarmKey, label: &Label, object: &ObjectKey, entropy: &mut dyn Entropy) -> Self {
        let label = label.digest();
        let plain = Zeroizing::new(Block::new(*object.as_bytes()));
        let target = (NAMESPACE, &label.as_bytes()[..]);
        let Ciphertext { u, v, w } = tle::encrypt::<_, MinSig>(&mut Source(entropy), key.point(), target, &plain)
            .expect("a swarm key is not the identity");
        Self { key: key.id(), label, u, v: array(&v), w: array(&w) }
    }

    /// Opens with the swarm key's signature on the label; nothing else opens.
    pub(super) fn open(&self, signature: &G1) -> Option<ObjectKey> {
        let ciphertext = Ciphertext::<MinSig> { u: self.u, v: Block::new(self.v), w: Block::new(self.w) };
        let plain = Zeroizing::new(tle::decrypt(signature, &ciphertext)?);
        ObjectKey::from_slice(&plain)
    }

    /// Reads a wrapped key.
    ///
    /// # Errors
    /// The format of [`super`], of which a wrapped key has one spelling.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReadError> {
        let mut from = Reader::new(bytes, KIND)?;
        let key = from.digest("swarm key")?;
        let label = from.digest("label")?;
        let u = from.g2("ciphertext")?;
        let v = *from.array("ciphertext")?;
        let w = *from.array("ciphertext")?;
        from.end()?;
        Ok(Self { key, label, u, v, w })
    }

    /// The wrapped key in the format of [`super`].
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let mut rest = &mut out[..];
        let parts: [&[u8]; 6] =
            [KIND.as_bytes(), self.key.as_bytes(), self.label.as_bytes(), &g2_bytes(&self.u), &self.v, &self.w];
        for part in parts {
            let (head, tail) = rest.split_at_mut(part.len());
            head.copy_from_slice(part);
            rest = tail;
        }
        out
    }

    /// SHA-256 of the swarm key that it is wrapped to.
    pub fn key(&self) -> Digest {
        self.key
    }

    /// Digest of the label that it is wrapped under.
    pub fn label(&self) -> Digest {
        self.label
    }
}

fn array(block: &Block) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(block);
    out
}

impl fmt::Debug for SwarmSealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SwarmSealed(to {} under {})", self.key.short(), self.label.short())
    }
}

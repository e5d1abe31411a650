//! Something small that is sealed to one X-Wing key.

use legation_core::SealingPublicKey;
use zeroize::Zeroizing;

use super::wire::{ReadError, Reader};
use crate::{
    entropy::Entropy,
    object::TAG,
    sealing::{self, ENCAPSULATED_LEN, SealingKey, UnwrapError, WrapError},
};

/// What a parcel is bound to. No two uses have the same `info`, which begins with a domain and has fields of fixed lengths.
pub(super) struct Binding {
    pub(super) info: Vec<u8>,
    pub(super) aad: Vec<u8>,
}

/// A ciphertext with its encapsulated key, of the lengths that reading checked.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Parcel {
    encapsulated: Vec<u8>,
    sealed: Vec<u8>,
}

impl Parcel {
    pub(super) fn seal(
        to: &SealingPublicKey,
        binding: &Binding,
        plain: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<Self, WrapError> {
        let (encapsulated, sealed) = sealing::seal_to(to, &binding.info, &binding.aad, plain, entropy)?;
        Ok(Self { encapsulated, sealed })
    }

    pub(super) fn open(&self, key: &SealingKey, binding: &Binding) -> Result<Zeroizing<Vec<u8>>, UnwrapError> {
        key.open_from(&self.encapsulated, &self.sealed, &binding.info, &binding.aad)
    }

    /// Reads one with `plain` bytes inside.
    pub(super) fn read(from: &mut Reader<'_>, plain: usize, part: &'static str) -> Result<Self, ReadError> {
        let encapsulated = from.take(ENCAPSULATED_LEN, part)?.to_vec();
        Ok(Self { encapsulated, sealed: from.take(plain + TAG, part)?.to_vec() })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.encapsulated);
        out.extend_from_slice(&self.sealed);
    }
}

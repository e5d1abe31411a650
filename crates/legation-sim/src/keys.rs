//! Keys of everybody, the same for every seed: made once.
//!
//! Statements travel here as values that only their signer's key can make ([`legation_core::Signed`]), and nothing reads them
//! from bytes; so in most seeds signatures are left blank, which is fifty times as fast. In the others they are real, and the
//! journal is read back from JSON, which checks every one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use legation_core::{Digest, EnclaveId, PublicKey, SealingPublicKey, Signature, Signer};

/// What belongs to one name.
#[derive(Debug)]
struct Pair {
    pair: Ed25519KeyPair,
    public: PublicKey,
    enclave: EnclaveId,
    sealing: SealingPublicKey,
}

/// A key of somebody.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pair: Arc<Pair>,
    real: bool,
}

static MADE: Mutex<BTreeMap<String, Arc<Pair>>> = Mutex::new(BTreeMap::new());

impl Key {
    /// The key of `name`. `real` says whether it signs in earnest.
    pub(crate) fn new(name: &str, real: bool) -> Self {
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pair) = made.get(name) {
            return Self { pair: pair.clone(), real };
        }
        let seed = Digest::of(name.as_bytes());
        #[expect(clippy::expect_used, reason = "32 bytes are a seed of Ed25519")]
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_bytes()).expect("a seed");
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(pair.public_key().as_ref()).for_each(|(to, from)| *to = *from);
        let public = PublicKey::from_bytes(bytes);
        let mut bytes = [0; SealingPublicKey::LEN];
        bytes.iter_mut().zip(seed.as_bytes().iter().cycle()).for_each(|(to, from)| *to = *from);
        let sealing = SealingPublicKey::from_bytes(bytes);
        let pair = Arc::new(Pair { pair, public, enclave: public.enclave_id(), sealing });
        made.insert(name.to_owned(), pair.clone());
        Self { pair, real }
    }

    /// The enclave whose identity key this is.
    pub(crate) fn enclave(&self) -> EnclaveId {
        self.pair.enclave
    }

    /// A key that things are sealed to.
    pub(crate) fn sealing(&self) -> &SealingPublicKey {
        &self.pair.sealing
    }
}

impl Signer for Key {
    fn public_key(&self) -> PublicKey {
        self.pair.public
    }

    fn sign(&self, message: &[u8]) -> Signature {
        let mut signature = Signature([0; 64]);
        if self.real {
            let made = self.pair.pair.sign(message);
            signature.0.iter_mut().zip(made.as_ref()).for_each(|(to, from)| *to = *from);
        }
        signature
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_key_and_signs_in_earnest_where_asked() {
        let (real, blank) = (Key::new("somebody", true), Key::new("somebody", false));
        assert_eq!((real.public_key(), real.enclave()), (blank.public_key(), blank.enclave()));
        real.public_key().verify(b"text", &real.sign(b"text")).unwrap();
        real.public_key().verify(b"text", &blank.sign(b"text")).unwrap_err();
    }
}

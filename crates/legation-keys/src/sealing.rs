//! The sealing key, and object keys wrapped to it: HPKE (RFC 9180) in base mode.
//!
//! | part | choice | id |
//! |---|---|---|
//! | KEM | X-Wing = ML-KEM-768 + X25519 (draft-connolly-cfrg-xwing-kem, draft-ietf-hpke-pq) | `0x647a` |
//! | KDF | HKDF-SHA256 | `0x0001` |
//! | AEAD | AES-256-GCM | `0x0002` |
//! | info | `"legation-wrap-v1"` · task (32) · fragment (4) · module (32) · direction (1) · epoch (8) | 93 bytes |
//! | aad | object id (16) | |
//!
//! Integers are big-endian and every field has one length, so no two uses have the same `info`. Direction is 0 for an input,
//! 1 for an output, 2 for a log; the epoch is 0 as long as no key is released by a swarm. The recipient's key needs no place
//! there: X-Wing binds it in the shared secret.
//!
//! Base mode says nothing about *who* wrapped a key: grants and reports, which are signed, say that.
//!
//! Checks on wrapping, so that nobody seals to a key that hides nothing:
//! 1. the ML-KEM half is a reduced encapsulation key (FIPS 203 section 7.2), and not the zero vector;
//! 2. the X25519 half is not of low order (RFC 9180 section 7.1.4): with a fixed scalar it does not give zero.
//!
//! Checks on unwrapping:
//! 1. the key was wrapped to this recipient;
//! 2. its parts have their lengths, and the X25519 half of the encapsulated key is not of low order;
//! 3. task, fragment, module, direction and object are those that it was wrapped for, and no byte was changed: the AEAD says
//!    yes or no to all of these at once, and cannot say which.

use std::fmt;

use aws_lc_rs::agreement;
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, aead::AesGcm256, kdf::HkdfSha256, kem::XWing,
    single_shot_open, single_shot_seal_with_rng,
};
use legation_core::{
    Digest, ObjectId, SealingPublicKey,
    task::{Direction, WrapUse, WrappedKey},
};
use zeroize::Zeroizing;

use crate::{
    entropy::{Entropy, Source},
    object::{ObjectKey, TAG},
    text::{self, KeyTextError},
};

/// Bytes of an X-Wing encapsulated key.
pub const ENCAPSULATED_LEN: usize = 1120;
/// Bytes of a wrapped object key: the key and a tag.
pub const WRAPPED_LEN: usize = 32 + TAG;

/// Separates our HPKE contexts from everybody's.
const DOMAIN: &[u8; 16] = b"legation-wrap-v1";
/// Master-key epoch of directly wrapped keys.
const EPOCH: u64 = 0;
/// What a key file begins with.
const TEXT_PREFIX: &str = "legation-sealing-key-v1:";
/// Bytes of the ML-KEM-768 vector in an X-Wing public key; a 32-byte seed and the X25519 key follow.
const MLKEM_VECTOR: usize = 1152;
/// Bytes of an X25519 public key, at the end of X-Wing keys and encapsulated keys.
const X25519_LEN: usize = 32;

type PrivateKey = <XWing as Kem>::PrivateKey;
type KemPublicKey = <XWing as Kem>::PublicKey;
type EncappedKey = <XWing as Kem>::EncappedKey;

/// An X-Wing private key: opens what was sealed to its public half.
pub struct SealingKey {
    private: PrivateKey,
    public: SealingPublicKey,
}

/// Why an object key was not wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// The recipient's key is not an X-Wing public key, or one of its halves hides nothing.
    #[error("sealing key {recipient} is not a valid X-Wing public key")]
    Recipient {
        /// SHA-256 of the key.
        recipient: Digest,
    },
}

/// Why a wrapped key did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnwrapError {
    /// It was wrapped to somebody else.
    #[error("wrapped to sealing key {wrapped_to}, not to this one, {own}")]
    OtherRecipient {
        /// SHA-256 of the key it names.
        wrapped_to: Digest,
        /// SHA-256 of this key's public half.
        own: Digest,
    },
    /// A part has another length than the suite gives it.
    #[error("{part} has {got} bytes, expected {expected}")]
    Length {
        /// Which part.
        part: &'static str,
        /// Bytes of such a part.
        expected: usize,
        /// Bytes found.
        got: usize,
    },
    /// The encapsulated key has an X25519 half of low order: no honest sender makes one.
    #[error("encapsulated key is degenerate")]
    Degenerate,
    /// The AEAD refused.
    #[error("not wrapped for this task, fragment, module, direction and object, or altered on the way")]
    Refused,
}

impl SealingKey {
    /// A new key.
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut seed[..]);
        Self::new(&seed)
    }

    /// The key whose 32-byte X-Wing decapsulation key (draft-connolly-cfrg-xwing-kem section 5.2) is `seed`.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self::new(&Zeroizing::new(seed))
    }

    #[expect(clippy::expect_used, reason = "lengths are those of the types on both sides")]
    fn new(seed: &[u8; 32]) -> Self {
        let private = PrivateKey::from_bytes(seed).expect("any 32 bytes are an X-Wing private key");
        let mut public = [0; SealingPublicKey::LEN];
        XWing::sk_to_pk(&private).write_exact(&mut public);
        Self { private, public: SealingPublicKey::from_bytes(public) }
    }

    /// The public half.
    pub fn public(&self) -> &SealingPublicKey {
        &self.public
    }

    /// The key as the line of a key file.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut seed = Zeroizing::new([0; 32]);
        self.private.write_exact(&mut seed[..]);
        text::write(TEXT_PREFIX, &seed)
    }

    /// Reads the line of a key file.
    ///
    /// # Errors
    /// It is not the file of a sealing key.
    pub fn from_text(line: &str) -> Result<Self, KeyTextError> {
        text::read(TEXT_PREFIX, line).map(|seed| Self::new(&seed))
    }

    /// Opens a key that was wrapped to this one for `used_for`.
    ///
    /// The object's id in `wrapped` is authenticated, not chosen: compare it with that of the object to open.
    ///
    /// # Errors
    /// The checks of this module.
    pub fn unwrap(&self, wrapped: &WrappedKey, used_for: &WrapUse) -> Result<ObjectKey, UnwrapError> {
        let own = self.public.digest();
        if wrapped.recipient != own {
            return Err(UnwrapError::OtherRecipient { wrapped_to: wrapped.recipient, own });
        }
        for (part, bytes, expected) in [
            ("encapsulated key", &wrapped.encapsulated, ENCAPSULATED_LEN),
            ("sealed object key", &wrapped.sealed, WRAPPED_LEN),
        ] {
            if bytes.len() != expected {
                return Err(UnwrapError::Length { part, expected, got: bytes.len() });
            }
        }
        let opened =
            self.open_from(&wrapped.encapsulated, &wrapped.sealed, &info(used_for), wrapped.object.as_bytes())?;
        ObjectKey::from_slice(&opened).ok_or(UnwrapError::Refused)
    }

    /// Opens what [`seal_to`] sealed to this key: checks 2 and 3 of this module, but for the lengths, which are the caller's.
    pub(crate) fn open_from(
        &self,
        encapsulated: &[u8],
        sealed: &[u8],
        info: &[u8],
        aad: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, UnwrapError> {
        if encapsulated.last_chunk::<X25519_LEN>().is_none_or(|half| is_low_order(half)) {
            return Err(UnwrapError::Degenerate);
        }
        let encapsulated = EncappedKey::from_bytes(encapsulated).map_err(|_| UnwrapError::Degenerate)?;
        single_shot_open::<AesGcm256, HkdfSha256, XWing>(
            &OpModeR::Base,
            &self.private,
            &encapsulated,
            info,
            sealed,
            aad,
        )
        .map(Zeroizing::new)
        .map_err(|_| UnwrapError::Refused)
    }
}

/// Wraps the key of `object` to `recipient` for `used_for`; draws 64 bytes of `entropy`.
///
/// # Errors
/// The recipient's key is not one to seal to.
pub fn wrap(
    key: &ObjectKey,
    object: ObjectId,
    recipient: &SealingPublicKey,
    used_for: &WrapUse,
    entropy: &mut dyn Entropy,
) -> Result<WrappedKey, WrapError> {
    let (encapsulated, sealed) = seal_to(recipient, &info(used_for), object.as_bytes(), key.as_bytes(), entropy)?;
    Ok(WrappedKey { object, recipient: recipient.digest(), encapsulated, sealed })
}

/// Seals `plain` to `recipient`, bound to `info` and `aad`: the encapsulated key, and the ciphertext with its tag. Draws 64 bytes
/// of `entropy`. No two uses may have the same `info`.
pub(crate) fn seal_to(
    recipient: &SealingPublicKey,
    info: &[u8],
    aad: &[u8],
    plain: &[u8],
    entropy: &mut dyn Entropy,
) -> Result<(Vec<u8>, Vec<u8>), WrapError> {
    let public = check_recipient(recipient)?;
    single_shot_seal_with_rng::<AesGcm256, HkdfSha256, XWing>(
        &OpModeS::Base,
        &public,
        info,
        plain,
        aad,
        &mut Source(entropy),
    )
    .map(|(encapsulated, sealed)| (encapsulated.to_bytes().to_vec(), sealed))
    .map_err(|_| WrapError::Recipient { recipient: recipient.digest() })
}

/// The checks on wrapping: a key that hides what is sealed to it.
pub(crate) fn check_recipient(recipient: &SealingPublicKey) -> Result<KemPublicKey, WrapError> {
    let refused = || WrapError::Recipient { recipient: recipient.digest() };
    let bytes = recipient.as_bytes();
    let hides_nothing =
        bytes[..MLKEM_VECTOR].iter().all(|b| *b == 0) || is_low_order(&bytes[SealingPublicKey::LEN - X25519_LEN..]);
    if hides_nothing {
        return Err(refused());
    }
    KemPublicKey::from_bytes(bytes).map_err(|_| refused())
}

/// The HPKE `info` of one use.
fn info(used_for: &WrapUse) -> Vec<u8> {
    let direction = match used_for.direction {
        Direction::Input => 0u8,
        Direction::Output => 1,
        Direction::Log => 2,
    };
    [
        &DOMAIN[..],
        used_for.task.digest().as_bytes(),
        &used_for.fragment.0.to_be_bytes(),
        used_for.module.as_bytes(),
        &[direction],
        &EPOCH.to_be_bytes(),
    ]
    .concat()
}

/// Whether every X25519 exchange with this public key gives zero.
fn is_low_order(public: &[u8]) -> bool {
    // Any scalar finds out: clamping makes it a multiple of the cofactor, and aws-lc refuses an all-zero result (RFC 7748
    // section 6.1). Nothing secret is exchanged.
    agreement::PrivateKey::from_private_key(&agreement::X25519, &[1; X25519_LEN])
        .map_err(drop)
        .and_then(|scalar| {
            let peer = agreement::UnparsedPublicKey::new(&agreement::X25519, public);
            agreement::agree(&scalar, peer, (), |_| Ok(()))
        })
        .is_err()
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({}, private)", self.public.digest().short())
    }
}

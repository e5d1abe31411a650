//! Key schedule, nonces and segments of version 2: see the format in [`super`].

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    constant_time, hkdf,
};
use legation_core::{ObjectId, encoding};
use zeroize::Zeroize;

use super::{DOMAIN, ObjectKey, TAG};

/// What fixes an object's key without saying anything about it.
#[derive(Clone, Copy)]
pub struct KeyCommitment([u8; 32]);

impl KeyCommitment {
    /// The commitment to the key of this object.
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8160 bytes; 32 are asked for")]
    pub fn of(key: &ObjectKey, object: ObjectId) -> Self {
        let info: [&[u8]; 2] = [b"check", object.as_bytes()];
        let mut out = [0; 32];
        prk(key).expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut out)).expect("32 bytes");
        Self(out)
    }

    /// Wraps 32 bytes that are already a commitment.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for KeyCommitment {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for KeyCommitment {}

impl fmt::Display for KeyCommitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encoding::hex(&self.0))
    }
}

impl fmt::Debug for KeyCommitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyCommitment({})", encoding::hex(&self.0[..6]))
    }
}

fn prk(key: &ObjectKey) -> hkdf::Prk {
    hkdf::Salt::new(hkdf::HKDF_SHA256, DOMAIN).extract(key.as_bytes())
}

/// Seals and opens segments of one object.
pub(super) struct Cipher {
    cipher: LessSafeKey,
    aad: [u8; DOMAIN.len() + 16],
}

impl Cipher {
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8160 bytes; 32 are asked for")]
    pub(super) fn new(key: &ObjectKey, object: ObjectId) -> Self {
        let info: [&[u8]; 2] = [b"seal", object.as_bytes()];
        let cipher: UnboundKey = prk(key).expand(&info, &AES_256_GCM).expect("32 bytes").into();
        let mut aad = [0; DOMAIN.len() + 16];
        aad[..DOMAIN.len()].copy_from_slice(DOMAIN);
        aad[DOMAIN.len()..].copy_from_slice(object.as_bytes());
        Self { cipher: LessSafeKey::new(cipher), aad }
    }

    /// Encrypts a segment into `out`, which is [`TAG`] bytes longer; `None` when it is not. The caller never seals other bytes
    /// at an index and a flag.
    pub(super) fn seal(&self, index: u32, last: bool, plain: &[u8], out: &mut [u8]) -> Option<()> {
        let (text, tag) = out.split_last_chunk_mut::<TAG>()?;
        let nonce = nonce(index, last);
        self.cipher.seal_out_of_place_scatter(nonce, Aad::from(self.aad), plain, text, &[], tag).ok()
    }

    /// Decrypts a segment into `out`, which is [`TAG`] bytes shorter. `None`, and `out` is wiped, when it is not authentic.
    pub(super) fn open(&self, index: u32, last: bool, sealed: &[u8], out: &mut [u8]) -> Option<()> {
        let opened = sealed.split_last_chunk::<TAG>().and_then(|(text, tag)| {
            let nonce = nonce(index, last);
            self.cipher.open_separate_gather(nonce, Aad::from(self.aad), text, tag, out).ok()
        });
        if opened.is_none() {
            out.zeroize();
        }
        opened
    }
}

/// Distinct for every index and flag, under a key that is one object's alone.
fn nonce(index: u32, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[7..11].copy_from_slice(&index.to_be_bytes());
    nonce[11] = u8::from(last);
    Nonce::assume_unique_for_key(nonce)
}

//! One segment at a time: key schedule, nonces, digest and commitment. The format lives here and nowhere else; writer, reader
//! and the functions for memory only cut the stream.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    constant_time, hkdf, hmac,
};
use legation_core::{Bytes, Digest, DigestWriter, ObjectId, task::OutputRef};
use zeroize::{Zeroize, Zeroizing};

use super::{ObjectKey, OpenError, SEGMENTS_MAX, SealError, TAG};

const DOMAIN: &[u8; 18] = b"legation-object-v1";

fn prk(key: &ObjectKey) -> hkdf::Prk {
    hkdf::Salt::new(hkdf::HKDF_SHA256, DOMAIN).extract(key.as_bytes())
}

#[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8160 bytes; 32 are asked for")]
fn commit_key(prk: &hkdf::Prk, object: ObjectId) -> hmac::Key {
    let info: [&[u8]; 2] = [b"commit", object.as_bytes()];
    prk.expand(&info, hmac::HMAC_SHA256).expect("32 bytes").into()
}

/// The commitment to a whole plaintext.
pub(super) fn commitment(key: &ObjectKey, object: ObjectId, plaintext: &[u8]) -> Digest {
    let tag = hmac::sign(&commit_key(&prk(key), object), plaintext);
    let mut out = [0; 32];
    out.copy_from_slice(tag.as_ref());
    Digest::from_bytes(out)
}

/// `k_commit` alone, which opens nothing.
#[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8160 bytes; 32 are asked for")]
pub(super) fn commitment_key(key: &ObjectKey, object: ObjectId) -> Zeroizing<[u8; 32]> {
    let info: [&[u8]; 2] = [b"commit", object.as_bytes()];
    let prk = prk(key);
    let mut out = Zeroizing::new([0; 32]);
    prk.expand(&info, hmac::HMAC_SHA256).and_then(|okm| okm.fill(out.as_mut_slice())).expect("32 bytes");
    out
}

/// What sealing and opening share.
struct Stream {
    cipher: LessSafeKey,
    commit: hmac::Context,
    hash: DigestWriter,
    object: ObjectId,
    aad: [u8; DOMAIN.len() + 16],
    next: u32,
    size: u64,
}

impl Stream {
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8160 bytes; 32 are asked for")]
    fn new(key: &ObjectKey, object: ObjectId) -> Self {
        let prk = prk(key);
        let seal_info: [&[u8]; 2] = [b"seal", object.as_bytes()];
        let cipher: UnboundKey = prk.expand(&seal_info, &AES_256_GCM).expect("32 bytes").into();
        let commit = commit_key(&prk, object);
        let mut aad = [0; DOMAIN.len() + 16];
        aad[..DOMAIN.len()].copy_from_slice(DOMAIN);
        aad[DOMAIN.len()..].copy_from_slice(object.as_bytes());
        Self {
            cipher: LessSafeKey::new(cipher),
            commit: hmac::Context::with_key(&commit),
            hash: DigestWriter::new(),
            object,
            aad,
            next: 0,
            size: 0,
        }
    }

    /// Distinct for every index and flag, and the key is this object's alone: never used twice to seal.
    fn nonce(&self, last: bool) -> Nonce {
        let mut nonce = [0; 12];
        nonce[7..11].copy_from_slice(&self.next.to_be_bytes());
        nonce[11] = u8::from(last);
        Nonce::assume_unique_for_key(nonce)
    }

    fn passed(&mut self, bytes: usize) {
        self.next += 1;
        self.size += bytes as u64;
    }

    fn finish(self) -> OutputRef {
        let mut commitment = [0; 32];
        commitment.copy_from_slice(self.commit.sign().as_ref());
        OutputRef {
            object: self.object,
            ciphertext: self.hash.finish(),
            size: Bytes(self.size),
            commitment: Digest::from_bytes(commitment),
        }
    }
}

/// Seals segments in order.
pub(super) struct Sealer(Stream);

impl Sealer {
    pub(super) fn new(key: &ObjectKey, object: ObjectId) -> Self {
        Self(Stream::new(key, object))
    }

    /// Encrypts the next segment in place. The caller cuts: [`super::SEGMENT`] bytes for all but the last.
    pub(super) fn seal(&mut self, segment: &mut [u8], last: bool) -> Result<[u8; TAG], SealError> {
        if self.0.next >= SEGMENTS_MAX {
            return Err(SealError::TooLong);
        }
        self.0.commit.update(segment);
        let nonce = self.0.nonce(last);
        let sealed = self.0.cipher.seal_in_place_separate_tag(nonce, Aad::from(self.0.aad), segment);
        let mut tag = [0; TAG];
        // GCM refuses only what is longer than 64 GiB.
        tag.copy_from_slice(sealed.map_err(|_| SealError::TooLong)?.as_ref());
        self.0.hash.update(segment);
        self.0.hash.update(&tag);
        self.0.passed(segment.len() + TAG);
        Ok(tag)
    }

    /// What names the object. Only after the last segment.
    pub(super) fn finish(self) -> OutputRef {
        self.0.finish()
    }
}

/// Opens segments in order.
pub(super) struct Opener(Stream);

impl Opener {
    pub(super) fn new(key: &ObjectKey, object: ObjectId) -> Self {
        Self(Stream::new(key, object))
    }

    /// Decrypts the next segment with its tag into `out`, which is [`TAG`] bytes shorter. On an error `out` is wiped.
    pub(super) fn open(&mut self, sealed: &[u8], last: bool, out: &mut [u8]) -> Result<(), OpenError> {
        let segment = self.0.next;
        if segment >= SEGMENTS_MAX {
            return Err(OpenError::TooLong);
        }
        let result = self.attempt(sealed, last, out).map_err(|()| match (last, self.attempt(sealed, !last, out)) {
            // Only to say what is wrong: with the other flag the same bytes are authentic.
            (true, Ok(())) => OpenError::Truncated { segments: segment + 1 },
            (false, Ok(())) => OpenError::Extended { segment },
            // Nothing at all is the one cut that no tag can be checked for.
            (true, Err(())) if sealed.is_empty() => OpenError::Truncated { segments: segment },
            (_, Err(())) => OpenError::Altered { segment },
        });
        if let Err(error) =
            result.and(if out.is_empty() && segment > 0 { Err(OpenError::Empty { segment }) } else { Ok(()) })
        {
            out.zeroize();
            return Err(error);
        }
        self.0.commit.update(out);
        self.0.hash.update(sealed);
        self.0.passed(sealed.len());
        Ok(())
    }

    fn attempt(&self, sealed: &[u8], last: bool, out: &mut [u8]) -> Result<(), ()> {
        let (text, tag) = sealed.split_last_chunk::<TAG>().ok_or(())?;
        let nonce = self.0.nonce(last);
        self.0.cipher.open_separate_gather(nonce, Aad::from(self.0.aad), text, tag, out).map_err(drop)
    }

    /// Checks the commitment, and says what was opened. Only after the last segment.
    pub(super) fn finish(self, commitment: Option<&Digest>) -> Result<OutputRef, OpenError> {
        let opened = self.0.finish();
        let got = opened.commitment;
        match commitment {
            Some(expected) if constant_time::verify_slices_are_equal(expected.as_bytes(), got.as_bytes()).is_err() => {
                Err(OpenError::Commitment { expected: *expected, got })
            }
            _ => Ok(opened),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::SEGMENT;

    fn at(next: u32) -> (Sealer, Opener) {
        let (key, object) = (ObjectKey::from_bytes([7; 32]), ObjectId::from_bytes([9; 16]));
        let (mut sealer, mut opener) = (Sealer::new(&key, object), Opener::new(&key, object));
        sealer.0.next = next;
        opener.0.next = next;
        (sealer, opener)
    }

    #[test]
    fn index_stops_at_its_limit() {
        let (mut sealer, mut opener) = at(SEGMENTS_MAX - 1);
        let mut sealed = vec![1; 5];
        let tag = sealer.seal(&mut sealed, true).unwrap();
        sealed.extend(tag);
        let mut out = [0; 5];
        opener.open(&sealed, true, &mut out).unwrap();
        assert_eq!(out, [1; 5]);
        assert_eq!(sealer.seal(&mut [0; 5], true), Err(SealError::TooLong));
        assert_eq!(opener.open(&sealed, true, &mut out), Err(OpenError::TooLong));
    }

    #[test]
    fn authentic_empty_segment_after_others_is_refused() {
        let (mut sealer, mut opener) = at(0);
        let mut first = vec![3; SEGMENT];
        let tag = sealer.seal(&mut first, false).unwrap();
        first.extend(tag);
        let empty = sealer.seal(&mut [], true).unwrap();
        opener.open(&first, false, &mut vec![0; SEGMENT]).unwrap();
        assert_eq!(opener.open(&empty, true, &mut []), Err(OpenError::Empty { segment: 1 }));
    }

    #[test]
    fn refused_segment_leaves_no_plaintext() {
        let (mut sealer, mut opener) = at(0);
        let mut sealed = vec![3; 64];
        let tag = sealer.seal(&mut sealed, false).unwrap();
        sealed.extend(tag);
        let mut out = [0xaa; 64];
        assert_eq!(opener.open(&sealed, true, &mut out), Err(OpenError::Truncated { segments: 1 }));
        assert_eq!(out, [0; 64]);
    }
}

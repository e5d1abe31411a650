//! Sealed objects: streams of bytes that only the holder of the object's key can read, and nobody can change.
//!
//! # Format, version 1
//! No header: everything that is not ciphertext comes from the request or report that names the object.
//!
//! ```text
//! object   = segment* last                    segment = AES-256-GCM of exactly 65536 bytes, and its 16-byte tag
//!                                             last    = the same of 1 to 65536 bytes; of 0 only when it is the whole object
//! nonce    = 0 (7 bytes) · index (4 bytes, big-endian) · last? (1 byte: 1 on the last segment, else 0)
//! aad      = "legation-object-v1" · object id (16 bytes)
//! prk      = HKDF-Extract-SHA256(salt = "legation-object-v1", object key)
//! k_seal   = HKDF-Expand(prk, "seal"   · object id, 32)
//! k_commit = HKDF-Expand(prk, "commit" · object id, 32)
//! commitment = HMAC-SHA256(k_commit, plaintext)
//! ```
//!
//! This is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár: *Online Authenticated-Encryption and its Nonce-Reuse
//! Misuse-Resistance*, CRYPTO 2015) with an empty prefix, because every object has a key of its own: index and flag make the
//! nonces distinct, the index stops reordering and removal, the flag stops truncation and extension, the object's id (in key
//! and associated data) stops one object from standing in for another.
//!
//! **One key seals one object once.** Sealing two plaintexts under one key and one id would repeat nonces, and GCM then gives
//! both away. So whoever seals draws a new [`ObjectKey`] for it.
//!
//! # The commitment
//! It *hides*: without `k_commit` it is a pseudorandom function of the plaintext, so it may stand in a public request even
//! when the plaintext can be guessed. It *binds*: two pairs of key and plaintext with one commitment are a collision of SHA-256
//! (all keys have 32 bytes). It also mends GCM, which does not commit to its key: somebody who knows two keys can make a
//! ciphertext that opens under either, to two meanings. The commitment fixes `k_commit`, thereby the object's key,
//! `k_seal`, and the one plaintext. So whoever opens what a *statement* names passes the commitment along; without it, the
//! segments prove only that somebody with this key sealed them.
//!
//! # Checks on opening
//! 1. every segment is authentic at its index under this key and id, before any of its bytes is given out;
//! 2. the one that ends the stream is flagged last, no other is, and only a whole object is empty;
//! 3. there are at most [`SEGMENTS_MAX`] segments;
//! 4. the commitment, if given, is the plaintext's: compared before the last segment's bytes are given out.
//!
//! A reader gives out authentic bytes before it has seen the end. They are a true prefix, but only the end of the stream
//! (`read` returning 0) says that they are all.

mod reader;
mod segment;
mod writer;

use std::{fmt, io};

use aws_lc_rs::constant_time;
use legation_core::{Bytes, Digest, ObjectId, task::OutputRef};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use self::segment::{Opener, Sealer};
pub use self::{reader::OpenReader, writer::SealWriter};
use crate::{
    entropy::Entropy,
    text::{self, KeyTextError},
};

/// Plaintext bytes of every segment but the last.
pub const SEGMENT: usize = 65536;
/// Bytes of a segment's tag.
pub const TAG: usize = 16;
/// Most segments of an object. Far below 2^32, so an index never wraps; and 2^36 blocks under one key keep the advantage of
/// any distinguisher of AES-GCM near 2^-56.
pub const SEGMENTS_MAX: u32 = 1 << 24;
/// Most plaintext bytes of an object: 1 TiB.
pub const OBJECT_MAX: Bytes = Bytes(SEGMENTS_MAX as u64 * SEGMENT as u64);

const SEALED_SEGMENT: usize = SEGMENT + TAG;
/// What a key file begins with.
const TEXT_PREFIX: &str = "legation-object-key-v1:";

/// The 256-bit key of one sealed object. Draw a new one for each.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ObjectKey([u8; 32]);

/// A sealed object in memory, with what names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// The ciphertext.
    pub bytes: Vec<u8>,
    /// The object's id.
    pub object: ObjectId,
    /// SHA-256 of the ciphertext.
    pub ciphertext: Digest,
    /// Bytes of the ciphertext.
    pub size: Bytes,
    /// Commitment to the plaintext.
    pub commitment: Digest,
}

/// Why an object was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The plaintext is longer than [`OBJECT_MAX`].
    #[error("object is longer than {} bytes", OBJECT_MAX.0)]
    TooLong,
    /// An earlier write failed, so what was written is not an object.
    #[error("an earlier write failed: the object is broken, seal it again")]
    Broken,
}

/// Why an object did not open. From a reader it comes inside an [`io::Error`] ([`OpenError::of`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A segment is not authentic: altered, moved, cut in its middle, of another object, or the key is another.
    #[error("segment {segment} is altered, cut or misplaced, or the key or object id is another's")]
    Altered {
        /// Its index.
        segment: u32,
    },
    /// The stream ends at an authentic segment that is not the last.
    #[error("truncated: the object goes on after its {segments} segments")]
    Truncated {
        /// How many whole segments there are.
        segments: u32,
    },
    /// There is something after the last segment.
    #[error("extended: bytes follow segment {segment}, which is the last")]
    Extended {
        /// Index of the last segment.
        segment: u32,
    },
    /// The last segment is empty though the object is not: authentic, but not what a sealer writes.
    #[error("segment {segment} is empty in an object that is not")]
    Empty {
        /// Its index.
        segment: u32,
    },
    /// More than [`SEGMENTS_MAX`] segments.
    #[error("more than {SEGMENTS_MAX} segments")]
    TooLong,
    /// The plaintext is authentic, but not the one committed to.
    #[error("plaintext has commitment {got}, expected {expected}")]
    Commitment {
        /// The commitment asked for.
        expected: Digest,
        /// That of the plaintext.
        got: Digest,
    },
    /// The reader was asked for its result before it was read to its end.
    #[error("object was not read to its end")]
    Unread,
}

impl OpenError {
    /// The refusal inside an error of [`OpenReader`]; nothing when the error is the inner reader's.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl ObjectKey {
    /// A new key.
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        let mut key = Self([0; 32]);
        entropy.fill(&mut key.0);
        key
    }

    /// Wraps 32 secret bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key as the line of a key file.
    pub fn to_text(&self) -> Zeroizing<String> {
        text::write(TEXT_PREFIX, &self.0)
    }

    /// Reads the line of a key file.
    ///
    /// # Errors
    /// It is not the file of an object key.
    pub fn from_text(line: &str) -> Result<Self, KeyTextError> {
        text::read(TEXT_PREFIX, line).map(|bytes| Self(*bytes))
    }
}

impl PartialEq for ObjectKey {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for ObjectKey {}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObjectKey(secret)")
    }
}

/// Bytes of the ciphertext of `plaintext` bytes; nothing beyond [`OBJECT_MAX`].
pub fn sealed_len(plaintext: Bytes) -> Option<Bytes> {
    let segments = plaintext.0.div_ceil(SEGMENT as u64).max(1);
    (plaintext <= OBJECT_MAX).then(|| Bytes(plaintext.0 + segments * TAG as u64))
}

/// Bytes of the plaintext of `ciphertext` bytes; nothing when no object has that length.
pub fn opened_len(ciphertext: Bytes) -> Option<Bytes> {
    let segments = ciphertext.0.div_ceil(SEALED_SEGMENT as u64).max(1);
    let plaintext = Bytes(ciphertext.0.checked_sub(segments * TAG as u64)?);
    // A length that only leads there (an empty last segment) is refused by going back.
    (sealed_len(plaintext) == Some(ciphertext)).then_some(plaintext)
}

/// Seals `plaintext` in one go. `key` must be new: one key seals one object once.
///
/// # Errors
/// The plaintext is longer than [`OBJECT_MAX`].
pub fn seal(key: &ObjectKey, object: ObjectId, plaintext: &[u8]) -> Result<Sealed, SealError> {
    let size = sealed_len(Bytes(plaintext.len() as u64)).ok_or(SealError::TooLong)?;
    let capacity = usize::try_from(size.0).map_err(|_| SealError::TooLong)?;
    let mut sealer = Sealer::new(key, object);
    // It holds plaintext until each segment is encrypted in place, and has its full capacity from the start, so that growing
    // leaves no copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    let mut rest = plaintext;
    loop {
        let (segment, after) = rest.split_at(rest.len().min(SEGMENT));
        let start = bytes.len();
        bytes.extend_from_slice(segment);
        let tag = sealer.seal(&mut bytes[start..], after.is_empty())?;
        bytes.extend_from_slice(&tag);
        if after.is_empty() {
            break;
        }
        rest = after;
    }
    let OutputRef { object, ciphertext, size, commitment } = sealer.finish();
    Ok(Sealed { bytes: std::mem::take(&mut *bytes), object, ciphertext, size, commitment })
}

/// The commitment to `plaintext` alone, as [`seal`] would give it. Nothing is encrypted: one key may commit to many plaintexts.
pub fn commitment(key: &ObjectKey, object: ObjectId, plaintext: &[u8]) -> Digest {
    segment::commitment(key, object, plaintext)
}

/// The key of the object's commitment (`k_commit`): for whoever proves that a commitment is to a plaintext, and must not be able
/// to open or seal anything. With it, guesses of the plaintext can be tested.
pub fn commitment_key(key: &ObjectKey, object: ObjectId) -> Zeroizing<[u8; 32]> {
    segment::commitment_key(key, object)
}

/// Opens `ciphertext` in one go; gives nothing out unless every check passed.
///
/// # Errors
/// The checks of this module.
pub fn open(
    key: &ObjectKey,
    object: ObjectId,
    ciphertext: &[u8],
    commitment: Option<&Digest>,
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let mut opener = Opener::new(key, object);
    let mut plaintext = Zeroizing::new(Vec::with_capacity(ciphertext.len()));
    let mut rest = ciphertext;
    loop {
        let (segment, after) = rest.split_at(rest.len().min(SEALED_SEGMENT));
        let start = plaintext.len();
        plaintext.resize(start + segment.len().saturating_sub(TAG), 0);
        opener.open(segment, after.is_empty(), &mut plaintext[start..])?;
        if after.is_empty() {
            opener.finish(commitment)?;
            return Ok(plaintext);
        }
        rest = after;
    }
}

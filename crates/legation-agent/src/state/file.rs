//! A file of sealed state: what stands in the open, and what is sealed.
//!
//! | bytes | what |
//! |---|---|
//! | 14 | `legation-state` |
//! | 2 | version, 1 |
//! | 1 + n | kind of machine that it is sealed to, as in configurations |
//! | 1 + n | purpose |
//! | 8 | incarnation |
//! | 2 + n | what the sealer gives the key for again |
//! | 32 | which key that is: HKDF-SHA256 of it |
//! | 12 | nonce, random |
//! | 4 | bytes that follow |
//! | n | AES-256-GCM of the contents, its tag last, over everything above |
//!
//! Numbers are big-endian. Contents: a byte that counts identity keys, each of them (a byte for its length, PKCS#8), then a byte 0; or a
//! byte 1, four for a length, and what is kept.
//!
//! A key seals a file again at each write. With random nonces of 96 bits it may do that 2^32 times (NIST SP 800-38D, section 8.3): no disk
//! lives that long.

use std::sync::Arc;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    constant_time, hkdf,
};
use legation_core::claims::TeeKind;
use legation_keys::{Entropy, IdentityKey};
use zeroize::Zeroizing;

use super::{BLOB_MAX, Key, LOST, PURPOSE_MAX};

/// What every file begins with.
const MAGIC: &[u8; 14] = b"legation-state";
/// Version of the format that is written, and the only one read.
pub const VERSION: u16 = 1;
/// Largest contents kept beside identity keys, in bytes.
pub const KEPT_MAX: usize = 1 << 20;
/// Most identity keys kept.
pub const IDENTITIES_MAX: usize = 16;
/// Largest file, in bytes.
pub const FILE_MAX: usize = KEPT_MAX + 16 * 1024;
const CHECK: usize = 32;
const NONCE: usize = 12;
const TAG: usize = 16;

/// What is wrong with a file of sealed state.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// It, or what is to be kept, is larger than [`FILE_MAX`] or [`KEPT_MAX`].
    #[error("too large: expected at most {expected} bytes, got {got}")]
    Large {
        /// Most.
        expected: usize,
        /// How many there are, or one more than the most.
        got: usize,
    },
    /// It is another file.
    #[error("not a file of sealed state: it does not begin with `legation-state`; {LOST}")]
    Other,
    /// Another version of this program wrote it.
    #[error("format of sealed state: expected version {VERSION}, got {0}; start the agent that wrote it")]
    Version(u16),
    /// It is longer or shorter than it says.
    #[error("torn, cut or lengthened: expected {expected} bytes, got {got}; {LOST}")]
    Torn {
        /// How many it should have, as far as it could be read.
        expected: usize,
        /// How many it has.
        got: usize,
    },
    /// A part of it has not its form.
    #[error("altered: {0} has not the form it should have; {LOST}")]
    Malformed(&'static str),
    /// It keeps something else.
    #[error(
        "purpose of sealed state: expected {expected}, got {got}; configure the agent as it was, or name another folder"
    )]
    Purpose {
        /// What is opened.
        expected: String,
        /// What it is for.
        got: String,
    },
    /// It is sealed to another kind of machine.
    #[error(
        "machine that state is sealed to: expected {expected}, got {got}; attest with what it was sealed to. {LOST}"
    )]
    Kind {
        /// What this machine seals to.
        expected: TeeKind,
        /// What it is sealed to.
        got: TeeKind,
    },
    /// The key of this machine and program is not the one it is sealed with.
    #[error(
        "key of sealed state: expected this one's, got another: another machine or another program sealed it, or it was altered; start the \
         program that sealed it, on its machine. {LOST}"
    )]
    Key,
    /// It is not as it was written.
    #[error("altered: what is sealed is not authentic; {LOST}")]
    Altered,
    /// More identity keys than fit.
    #[error(
        "identity keys kept: expected at most {IDENTITIES_MAX}, got more; forget those that no roster and no call names"
    )]
    Identities,
}

/// What stands in the open, and is authentic once the file is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Head {
    /// What it is sealed to.
    pub(super) kind: TeeKind,
    /// What it is for.
    pub(super) purpose: String,
    /// How often it was opened.
    pub(super) incarnation: u64,
    /// What the sealer gives the key for.
    pub(super) blob: Vec<u8>,
}

/// Where what is sealed is in a file, and how.
pub(super) struct Frame {
    at: usize,
    check: [u8; CHECK],
    nonce: [u8; NONCE],
}

/// What is sealed.
#[derive(Clone, Default)]
pub(super) struct Contents {
    pub(super) identities: Vec<Arc<IdentityKey>>,
    pub(super) kept: Option<Zeroizing<Vec<u8>>>,
}

/// Reads what stands in the open. Nothing of it is authentic yet.
///
/// # Errors
/// It is no whole file of this version.
pub(super) fn parse(bytes: &[u8]) -> Result<(Head, Frame), Flaw> {
    if bytes.len() > FILE_MAX {
        return Err(Flaw::Large { expected: FILE_MAX, got: bytes.len() });
    }
    if !bytes.starts_with(&MAGIC[..bytes.len().min(MAGIC.len())]) {
        return Err(Flaw::Other);
    }
    let mut rest = Rest { bytes, at: 0 };
    rest.take(MAGIC.len())?;
    let version = u16::from_be_bytes(rest.array()?);
    if version != VERSION {
        return Err(Flaw::Version(version));
    }
    let kind = rest.short()?;
    let kind = std::str::from_utf8(kind).ok().and_then(TeeKind::named).ok_or(Flaw::Malformed("the kind of machine"))?;
    let purpose = rest.short()?;
    let purpose = std::str::from_utf8(purpose).ok().filter(|text| is_purpose(text));
    let purpose = purpose.ok_or(Flaw::Malformed("its purpose"))?.to_owned();
    let incarnation = u64::from_be_bytes(rest.array()?);
    // The next is one more.
    if incarnation == 0 || incarnation == u64::MAX {
        return Err(Flaw::Malformed("its incarnation"));
    }
    let blob = usize::from(u16::from_be_bytes(rest.array()?));
    if blob > BLOB_MAX {
        return Err(Flaw::Malformed("what its key is had for"));
    }
    let blob = rest.take(blob)?.to_vec();
    let check = rest.array()?;
    let nonce = rest.array()?;
    let body = usize::try_from(u32::from_be_bytes(rest.array()?)).unwrap_or(usize::MAX);
    let expected = rest.at.saturating_add(body);
    if expected != bytes.len() || body < TAG {
        return Err(Flaw::Torn { expected, got: bytes.len() });
    }
    Ok((Head { kind, purpose, incarnation, blob }, Frame { at: rest.at, check, nonce }))
}

/// Opens a file that was [`parse`]d, in its place: `bytes` are of no use afterwards.
///
/// # Errors
/// This is not its key, or it was altered.
pub(super) fn open(bytes: &mut [u8], frame: &Frame, key: &Key) -> Result<Contents, Flaw> {
    let (cipher, check) = schedule(key);
    constant_time::verify_slices_are_equal(&check, &frame.check).map_err(|_| Flaw::Key)?;
    let (open, sealed) = bytes.split_at_mut_checked(frame.at).ok_or(Flaw::Altered)?;
    let nonce = Nonce::assume_unique_for_key(frame.nonce);
    let plain = cipher.open_in_place(nonce, Aad::from(&*open), sealed).map_err(|_| Flaw::Altered)?;
    contents(plain)
}

/// A whole file.
///
/// # Errors
/// The contents are too large.
pub(super) fn write(
    head: &Head,
    key: &Key,
    contents: &Contents,
    entropy: &mut dyn Entropy,
) -> Result<Zeroizing<Vec<u8>>, Flaw> {
    if contents.identities.len() > IDENTITIES_MAX {
        return Err(Flaw::Identities);
    }
    let kept = contents.kept.as_deref().map(Vec::as_slice);
    if let Some(kept) = kept.filter(|kept| kept.len() > KEPT_MAX) {
        return Err(Flaw::Large { expected: KEPT_MAX, got: kept.len() });
    }
    let identities: Vec<_> = contents.identities.iter().map(|identity| identity.pkcs8()).collect();
    let plain = 2 + identities.iter().map(|der| 1 + der.len()).sum::<usize>() + kept.map_or(0, |kept| 4 + kept.len());

    let (cipher, check) = schedule(key);
    let mut nonce = [0; NONCE];
    entropy.fill(&mut nonce);
    let body = u32::try_from(plain + TAG).map_err(|_| Flaw::Large { expected: KEPT_MAX, got: plain })?;
    let mut open = Vec::with_capacity(256 + head.blob.len());
    open.extend_from_slice(MAGIC);
    open.extend_from_slice(&VERSION.to_be_bytes());
    put_short(&mut open, head.kind.name().as_bytes(), "the kind of machine")?;
    put_short(&mut open, head.purpose.as_bytes(), "its purpose")?;
    open.extend_from_slice(&head.incarnation.to_be_bytes());
    let blob = u16::try_from(head.blob.len()).ok().filter(|_| head.blob.len() <= BLOB_MAX);
    open.extend_from_slice(&blob.ok_or(Flaw::Malformed("what its key is had for"))?.to_be_bytes());
    open.extend_from_slice(&head.blob);
    open.extend_from_slice(&check);
    open.extend_from_slice(&nonce);
    open.extend_from_slice(&body.to_be_bytes());

    // As large as it gets: what grows leaves secrets behind where it was.
    let mut bytes = Zeroizing::new(Vec::<u8>::with_capacity(open.len() + plain + TAG));
    bytes.extend_from_slice(&open);
    bytes.push(u8::try_from(identities.len()).map_err(|_| Flaw::Identities)?);
    for der in &identities {
        put_short(&mut bytes, der, "an identity key")?;
    }
    bytes.push(u8::from(kept.is_some()));
    if let Some(kept) = kept {
        let length = u32::try_from(kept.len()).map_err(|_| Flaw::Large { expected: KEPT_MAX, got: kept.len() })?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(kept);
    }
    let (_, secret) = bytes.split_at_mut(open.len());
    let nonce = Nonce::assume_unique_for_key(nonce);
    // GCM refuses only what is longer than 64 GiB.
    let tag = cipher.seal_in_place_separate_tag(nonce, Aad::from(&open), secret);
    let tag = tag.map_err(|_| Flaw::Large { expected: KEPT_MAX, got: plain })?;
    bytes.extend_from_slice(tag.as_ref());
    Ok(bytes)
}

/// Whether a text can be a purpose: it is the name of a file as well.
pub(super) fn is_purpose(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    (1..=PURPOSE_MAX).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(good)
}

/// What seals and opens, and what says which key it is without saying anything about it.
#[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8160 bytes; 32 are asked for")]
fn schedule(key: &Key) -> (LessSafeKey, [u8; CHECK]) {
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, MAGIC).extract(&key[..]);
    let (seal, which): ([&[u8]; 1], [&[u8]; 1]) = ([b"seal"], [b"check"]);
    let cipher: UnboundKey = prk.expand(&seal, &AES_256_GCM).expect("32 bytes").into();
    let mut check = [0; CHECK];
    prk.expand(&which, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut check)).expect("32 bytes");
    (LessSafeKey::new(cipher), check)
}

fn contents(plain: &[u8]) -> Result<Contents, Flaw> {
    // It is authentic: whatever is wrong here, this program wrote.
    let bad = || Flaw::Malformed("what is sealed");
    let mut rest = Rest { bytes: plain, at: 0 };
    let [count] = rest.array()?;
    let mut identities = Vec::new();
    for _ in 0..count {
        let identity = IdentityKey::from_pkcs8(rest.short()?).map_err(|_| bad())?;
        identities.push(Arc::new(identity));
    }
    let kept = match rest.array()? {
        [0] => None,
        [1] => {
            let length = usize::try_from(u32::from_be_bytes(rest.array()?)).map_err(|_| bad())?;
            Some(Zeroizing::new(rest.take(length)?.to_vec()))
        }
        _ => return Err(bad()),
    };
    if rest.at != plain.len() || identities.len() > IDENTITIES_MAX {
        return Err(bad());
    }
    Ok(Contents { identities, kept })
}

fn put_short(out: &mut Vec<u8>, bytes: &[u8], what: &'static str) -> Result<(), Flaw> {
    out.push(u8::try_from(bytes.len()).map_err(|_| Flaw::Malformed(what))?);
    out.extend_from_slice(bytes);
    Ok(())
}

/// What is not read yet.
struct Rest<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Flaw> {
        let end = self.at.saturating_add(count);
        let taken = self.bytes.get(self.at..end).ok_or(Flaw::Torn { expected: end, got: self.bytes.len() })?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// Up to 255 bytes after one that says how many.
    fn short(&mut self) -> Result<&'a [u8], Flaw> {
        let [length] = self.array()?;
        self.take(length.into())
    }
}

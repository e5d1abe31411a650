//! Cosignatures of witnesses (c2sp.org/tlog-cosignature, version 1, Ed25519): at this time, this was the largest tree of the log that
//! the witness had seen, and it continued every one before.
//!
//! What is signed is `cosignature/v1`, a line `time SECONDS`, and the text of the checkpoint; the signature is the time in eight bytes,
//! most significant first, and 64 bytes of Ed25519.

use legation_core::{Signature, Signer, UnixTime};

use crate::note::{KeyKind, Note, NoteError, NoteKey, NoteSignature};

/// Latest time that the specification allows, in Unix seconds.
const TIME_MAX: u64 = i64::MAX as u64;

fn message(text: &str, at: UnixTime) -> String {
    format!("cosignature/v1\ntime {}\n{text}", at.0)
}

/// A witness's signature of the text of a checkpoint.
///
/// # Errors
/// The name cannot be one of a key.
pub fn cosign(text: &str, name: &str, signer: &dyn Signer, at: UnixTime) -> Result<NoteSignature, NoteError> {
    let key = NoteKey::new(name, KeyKind::Witness, signer.public_key())?;
    let at = UnixTime(at.0.min(TIME_MAX));
    let signature = signer.sign(message(text, at).as_bytes());
    Ok(NoteSignature::by(&key, [&at.0.to_be_bytes()[..], &signature.0].concat()))
}

/// When `key`, a witness's, last signed the note.
///
/// # Errors
/// It did not, or a signature under its name does not verify.
pub fn cosigned(note: &Note, key: &NoteKey) -> Result<UnixTime, NoteError> {
    let bad = || NoteError::BadSignature { name: key.name().to_owned() };
    if key.kind() != KeyKind::Witness {
        return Err(NoteError::Key);
    }
    let mut latest = UnixTime(0);
    for bytes in note.signed_as(key)? {
        let (time, signature) = bytes.split_first_chunk::<8>().ok_or_else(bad)?;
        let at = UnixTime(u64::from_be_bytes(*time));
        let signature = Signature(signature.try_into().map_err(|_| bad())?);
        if at.0 > TIME_MAX || key.key().verify(message(note.text(), at).as_bytes(), &signature).is_err() {
            return Err(bad());
        }
        latest = latest.max(at);
    }
    Ok(latest)
}

//! How a 32-byte secret is written in a key file: one line, `legation-KIND-key-v1:` and base64. The kind is part of the text,
//! so a key file is never taken for another sort of key.

use legation_core::encoding::{self, EncodingError};
use zeroize::Zeroizing;

/// Longest key file read, in bytes.
const TEXT_MAX: usize = 256;

/// Why a text is not the key asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// It does not begin with the prefix of this kind of key, or is longer than any key file.
    #[error("not a key file of this kind: expected one line beginning with `{expected}`")]
    Kind {
        /// The prefix wanted.
        expected: &'static str,
    },
    /// What follows the prefix is not 32 bytes of base64.
    #[error("key file does not hold 32 bytes of base64: {0}")]
    Encoding(#[from] EncodingError),
}

/// The line of a key file, with its line break.
pub(crate) fn write(prefix: &'static str, secret: &[u8; 32]) -> Zeroizing<String> {
    let body = Zeroizing::new(encoding::base64(secret));
    let mut out = Zeroizing::new(String::with_capacity(prefix.len() + body.len() + 1));
    out.push_str(prefix);
    out.push_str(&body);
    out.push('\n');
    out
}

/// The secret of a key file; white space after the line is forgiven, because editors add it.
pub(crate) fn read(prefix: &'static str, text: &str) -> Result<Zeroizing<[u8; 32]>, KeyTextError> {
    let body = Some(text)
        .filter(|t| t.len() <= TEXT_MAX)
        .and_then(|t| t.trim_ascii_end().strip_prefix(prefix))
        .ok_or(KeyTextError::Kind { expected: prefix })?;
    let bytes = Zeroizing::new(encoding::unbase64(body)?);
    let mut secret = Zeroizing::new([0; 32]);
    if bytes.len() != secret.len() {
        return Err(EncodingError::Length { expected: secret.len(), got: bytes.len() }.into());
    }
    secret.copy_from_slice(&bytes);
    Ok(secret)
}

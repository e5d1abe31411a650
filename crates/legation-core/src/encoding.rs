//! Strict text forms of bytes: lower-case hexadecimal for names, RFC 4648 base64 with padding for contents.
//!
//! Both decoders refuse every spelling but the one the encoder writes (no upper case, no missing padding, no trailing
//! bits), so that two different texts never mean the same bytes.

use std::{fmt, str::FromStr};

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Deserializer};

/// Why a text is not the one spelling of some bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodingError {
    /// Not lower-case hexadecimal of even length.
    #[error("not lower-case hexadecimal: {0}")]
    Hex(String),
    /// Not canonical padded base64.
    #[error("not canonical base64: {0}")]
    Base64(String),
    /// Right alphabet, wrong number of bytes.
    #[error("expected {expected} bytes, got {got}")]
    Length {
        /// Bytes wanted.
        expected: usize,
        /// Bytes found.
        got: usize,
    },
}

/// Lower-case hexadecimal of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// The bytes of a lower-case hexadecimal text.
pub fn unhex(text: &str) -> Result<Vec<u8>, EncodingError> {
    HEXLOWER.decode(text.as_bytes()).map_err(|e| EncodingError::Hex(e.to_string()))
}

/// Exactly `N` bytes of lower-case hexadecimal.
pub fn unhex_array<const N: usize>(text: &str) -> Result<[u8; N], EncodingError> {
    let bytes = unhex(text)?;
    let got = bytes.len();
    bytes.try_into().map_err(|_| EncodingError::Length { expected: N, got })
}

/// Padded base64 (RFC 4648 section 4) of `bytes`.
pub fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// The bytes of a canonical padded base64 text.
pub fn unbase64(text: &str) -> Result<Vec<u8>, EncodingError> {
    // The decoder takes several padded texts in a row.
    if text.trim_end_matches('=').contains('=') {
        return Err(EncodingError::Base64("padding before the end".to_owned()));
    }
    BASE64.decode(text.as_bytes()).map_err(|e| EncodingError::Base64(e.to_string()))
}

/// Exactly `N` bytes of canonical padded base64.
pub fn unbase64_array<const N: usize>(text: &str) -> Result<[u8; N], EncodingError> {
    let bytes = unbase64(text)?;
    let got = bytes.len();
    bytes.try_into().map_err(|_| EncodingError::Length { expected: N, got })
}

/// Deserialises anything that parses from text.
pub fn from_text<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// `#[serde(with = "encoding::b64")]` for byte strings in JSON.
pub mod b64 {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes bytes as base64.
    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&super::base64(bytes))
    }

    /// Reads canonical base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        super::unbase64(&text).map_err(serde::de::Error::custom)
    }
}

/// `#[serde(with = "encoding::b64_list")]` for lists of byte strings in JSON.
pub mod b64_list {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes each byte string as base64.
    pub fn serialize<S: Serializer>(list: &[Vec<u8>], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(list.iter().map(|bytes| super::base64(bytes)))
    }

    /// Reads a list of canonical base64 texts.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Vec<u8>>, D::Error> {
        let list = Vec::<String>::deserialize(d)?;
        list.iter().map(|text| super::unbase64(text).map_err(serde::de::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_spelling_is_accepted() {
        for bad in ["A0", "a", "0g", " 00"] {
            assert!(unhex(bad).is_err(), "{bad}");
        }
        for bad in ["AA=", "AAA", "AB==", "A A=", "AA==\n", "AA==AA=="] {
            assert!(unbase64(bad).is_err(), "{bad}");
        }
        assert_eq!(unbase64("AA=="), Ok(vec![0]));
        assert_eq!(unhex_array::<2>("00ff"), Ok([0, 255]));
        assert_eq!(unhex_array::<2>("00"), Err(EncodingError::Length { expected: 2, got: 1 }));
    }
}

//! Strict text forms of bytes: lower-case hexadecimal for names, RFC 4648 base64 with padding for contents.
//!
//! Both decoders refuse every spelling but the one the encoder writes (no upper case, no missing padding, no trailing
//! bits), so that two different texts never mean the same bytes.

use std::{borrow::Cow, fmt, str::FromStr};

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Deserializer, de::Visitor};

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
    if let (pairs, []) = text.as_bytes().as_chunks()
        && pairs.len() == N
    {
        let (mut out, mut seen) = ([0; N], 0);
        for (byte, [high, low]) in out.iter_mut().zip(pairs) {
            let (high, low) = (nibble(*high), nibble(*low));
            seen |= high | low;
            *byte = high << 4 | low;
        }
        if seen < 16 {
            return Ok(out);
        }
    }
    // The library says what is wrong.
    let bytes = unhex(text)?;
    let got = bytes.len();
    bytes.try_into().map_err(|_| EncodingError::Length { expected: N, got })
}

/// What a hexadecimal digit stands for, without a branch; `u8::MAX` for all else.
fn nibble(digit: u8) -> u8 {
    let (number, letter) = (digit.wrapping_sub(b'0'), digit.wrapping_sub(b'a'));
    match (number < 10, letter < 6) {
        (true, _) => number,
        (_, true) => letter + 10,
        _ => u8::MAX,
    }
}

/// Padded base64 (RFC 4648 section 4) of `bytes`.
pub fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// The bytes of a canonical padded base64 text.
pub fn unbase64(text: &str) -> Result<Vec<u8>, EncodingError> {
    let mut bytes = Vec::with_capacity(text.len().div_ceil(4) * 3);
    for block in text.as_bytes().as_chunks().0 {
        let Some(twelve) = unbase64_block(block) else { break };
        bytes.extend_from_slice(&twelve);
    }
    // The library reads the end, with its padding, and says what is wrong.
    match unbase64_any(&text[bytes.len() / 3 * 4..]) {
        Ok(end) => {
            bytes.extend_from_slice(&end);
            Ok(bytes)
        }
        Err(_) => unbase64_any(text),
    }
}

/// What each character stands for at each place of a group of four; `u32::MAX` where it is none of the alphabet.
static GROUPS: [[u32; 256]; 4] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut groups = [[u32::MAX; 256]; 4];
    let mut value: u32 = 0;
    while value < 64 {
        let character = alphabet[value as usize] as usize;
        groups[0][character] = value << 18;
        groups[1][character] = value << 12;
        groups[2][character] = value << 6;
        groups[3][character] = value;
        value += 1;
    }
    groups
};

/// The bytes of 16 characters without padding.
fn unbase64_block(block: &[u8; 16]) -> Option<[u8; 12]> {
    let at = |place: usize, character: &u8| GROUPS[place][usize::from(*character)];
    let (mut bits, mut seen) = (0, 0);
    for [a, b, c, d] in block.as_chunks().0 {
        let group = at(0, a) | at(1, b) | at(2, c) | at(3, d);
        seen |= group;
        bits = bits << 24 | u128::from(group);
    }
    let [bytes @ .., _, _, _, _] = (bits << 32).to_be_bytes();
    (seen != u32::MAX).then_some(bytes)
}

/// As the library reads it, in full.
fn unbase64_any(text: &str) -> Result<Vec<u8>, EncodingError> {
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

/// A text that stays where it is read from, if it stands there as it is. (serde copies what is a `Cow` by itself; and what it borrows
/// where it is told to, it asks for in a way by which CBOR gives no long texts.)
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_string(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text)))
    }
}

/// Deserialises anything that parses from text.
pub fn from_text<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    let Text(text) = Text::deserialize(d)?;
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
        let super::Text(text) = super::Text::deserialize(d)?;
        super::unbase64(&text).map_err(serde::de::Error::custom)
    }
}

/// `#[serde(with = "encoding::b64_option")]` for byte strings in JSON that may be absent: beside it, `default` and `skip_serializing_if`.
pub mod b64_option {
    use serde::{Deserializer, Serializer};

    /// Writes bytes as base64; where there are none, null.
    pub fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, s: S) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => super::b64::serialize(bytes, s),
            None => s.serialize_none(),
        }
    }

    /// Reads canonical base64. Null is not the spelling of anything.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<u8>>, D::Error> {
        super::b64::deserialize(d).map(Some)
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

    /// Every character at every place: the same bytes, or the same refusal.
    #[test]
    fn our_readers_say_what_the_library_says() {
        let bytes: Vec<u8> = (0..50).map(|i: u8| i.wrapping_mul(37)).collect();
        for length in [1, 2, 3, 11, 12, 13, 47, 48, 49, 50] {
            let text = base64(&bytes[..length]);
            assert_eq!(unbase64(&text).as_deref(), Ok(&bytes[..length]));
            for (at, other) in (0..text.len()).flat_map(|at| ('\0'..='\u{e9}').map(move |other| (at, other))) {
                let text = format!("{}{other}{}", &text[..at], &text[at + 1..]);
                assert_eq!(unbase64(&text), unbase64_any(&text), "{text:?}");
            }
        }
        let text = hex(&bytes[..16]);
        for (at, other) in (0..32).flat_map(|at| ('\0'..='\u{e9}').map(move |other| (at, other))) {
            let text = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert_eq!(unhex_array::<16>(&text).map(Vec::from), unhex(&text), "{text:?}");
        }
    }
}

//! An attestation document as the Nitro Security Module writes it: parsed, bounded, not believed.
//!
//! It is an untagged COSE_Sign1 (RFC 9052 section 4.2) around a CBOR map. CBOR has many spellings for one value; the
//! module writes the shortest, with definite lengths (but for the map itself, whose length newer versions leave out),
//! and nothing else is let in: envelope and payload must be what writing the parsed values again gives.

use std::collections::BTreeMap;

use ciborium::Value;
use coset::{CborSerializable as _, CoseSign1};
use legation_core::{Rejection, encoding};

use super::check::Check;
use crate::x509::LINKS_MAX;

/// Largest document read, in bytes. Real ones have about 5 KiB.
pub const DOCUMENT_MAX: usize = 32 * 1024;
/// Largest certificate in a document, in bytes.
pub const CERTIFICATE_MAX: usize = 1024;
/// Most bytes of what the enclave adds: user data, nonce, public key.
pub const USER_DATA_MAX: usize = 1024;
/// Longest name of a module, in bytes.
pub const MODULE_MAX: usize = 128;
/// Highest register.
const REGISTER_MAX: u8 = 31;
/// Bytes of a signature: r and s, each of 48 bytes.
const SIGNATURE: usize = 96;
/// `{1: -35}`: ECDSA with SHA-384 (RFC 9053 section 2.1).
const PROTECTED: [u8; 4] = [0xa1, 0x01, 0x38, 0x22];
/// How every document begins: an array of four, the protected header, an empty map.
const BEGIN: [u8; 7] = [0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0];

/// A parsed document.
#[derive(Clone, Debug)]
pub struct Document {
    /// Name of the module: EC2 instance and enclave.
    pub module_id: String,
    /// When it was made, in milliseconds since 1970.
    pub timestamp_ms: u64,
    /// Registers by number; 32, 48 or 64 bytes each.
    pub registers: BTreeMap<u8, Vec<u8>>,
    /// Certificate of the key that signed, DER.
    pub certificate: Vec<u8>,
    /// Its issuers, root first, DER.
    pub bundle: Vec<Vec<u8>>,
    /// A key of the enclave, DER, where it gave one.
    pub public_key: Option<Vec<u8>>,
    /// What the enclave had signed, where it gave any.
    pub user_data: Option<Vec<u8>>,
    /// A challenge, where the enclave gave one.
    pub nonce: Option<Vec<u8>>,
    /// What the signature covers: the Sig_structure (RFC 9052 section 4.4) of header and payload as they came.
    pub(super) signed: Vec<u8>,
    /// r and s, each of 48 bytes, big-endian.
    pub(super) signature: Vec<u8>,
}

impl Document {
    /// Parses one document; nothing may stand behind it.
    ///
    /// # Errors
    /// The first of the checks on size, envelope, payload and registers that refuses.
    pub fn parse(bytes: &[u8]) -> Result<Self, Rejection> {
        Self::parse_on(bytes, &mut |_| ())
    }

    pub(super) fn parse_on(bytes: &[u8], passed: crate::check::Trail<'_>) -> Result<Self, Rejection> {
        if bytes.is_empty() || bytes.len() > DOCUMENT_MAX {
            return Err(Check::Size
                .refuse("size of the document", format!("1 to {DOCUMENT_MAX} bytes"), bytes.len())
                .fix("send the document as the Nitro Security Module gave it"));
        }
        passed(Check::Size.id());
        let envelope = envelope(bytes).map_err(|why| {
            Check::Envelope
                .refuse("envelope of the document", "an untagged COSE_Sign1 with ES384 and nothing behind it", why)
                .fix("send the document alone, without the response around it, as the Nitro Security Module gave it")
        })?;
        passed(Check::Envelope.id());
        let payload = envelope.payload.as_deref().unwrap_or_default();
        let mut document = Self::payload(payload).map_err(|why| {
            Check::Payload
                .refuse(
                    "payload of the document",
                    "the fields of an attestation document of an enclave, each once",
                    why,
                )
                .fix("ask the Nitro Security Module of an enclave; documents of a NitroTPM are another kind")
        })?;
        passed(Check::Payload.id());
        document.check_registers()?;
        passed(Check::Registers.id());
        document.signed = envelope.tbs_data(&[]);
        document.signature = envelope.signature;
        Ok(document)
    }

    fn payload(bytes: &[u8]) -> Result<Self, String> {
        let mut fields = fields(bytes)?;
        let mut take = |name: &str| fields.remove(name).filter(|value| !value.is_null());
        let module_id = text("module_id", take("module_id"), MODULE_MAX)?;
        let digest = text("digest", take("digest"), MODULE_MAX)?;
        if digest != "SHA384" {
            return Err(format!("digest {digest:?}"));
        }
        let timestamp = take("timestamp").and_then(|value| value.into_integer().ok());
        let timestamp_ms = timestamp.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
        let certificate = bytes_of("certificate", take("certificate"), 1, CERTIFICATE_MAX)?;
        let bundle = take("cabundle").and_then(|value| value.into_array().ok()).ok_or("cabundle: no array")?;
        if bundle.is_empty() || bundle.len() >= LINKS_MAX {
            return Err(format!("cabundle: {} certificates, not 1 to {}", bundle.len(), LINKS_MAX - 1));
        }
        let bundle = bundle.into_iter().map(|value| bytes_of("cabundle", Some(value), 1, CERTIFICATE_MAX));
        let mut optional = |name: &str| match take(name) {
            None => Ok(None),
            value => bytes_of(name, value, 0, USER_DATA_MAX).map(Some),
        };
        let (public_key, user_data, nonce) = (optional("public_key")?, optional("user_data")?, optional("nonce")?);
        let document = Self {
            module_id,
            timestamp_ms: timestamp_ms.ok_or("timestamp: no positive number")?,
            registers: registers(take("pcrs"))?,
            certificate,
            bundle: bundle.collect::<Result<_, _>>()?,
            public_key,
            user_data,
            nonce,
            signed: Vec::new(),
            signature: Vec::new(),
        };
        match fields.pop_first() {
            None => Ok(document),
            Some((name, _)) => Err(format!("unknown field {name:?}")),
        }
    }

    fn check_registers(&self) -> Result<(), Rejection> {
        let refuse = |claim: String, expected: &str, got: String| {
            Err(Check::Registers
                .refuse(claim, expected, got)
                .fix("send the document as the Nitro Security Module gave it"))
        };
        for (number, value) in &self.registers {
            if !matches!(value.len(), 32 | 48 | 64) || *number > REGISTER_MAX {
                let got = format!("register {number} of {} bytes", value.len());
                return refuse(format!("register {number}"), "numbers 0 to 31, of 32, 48 or 64 bytes", got);
            }
        }
        match (0..=2).find(|number| !self.registers.contains_key(number)) {
            None => Ok(()),
            Some(missing) => refuse(format!("register {missing}"), "its value", "none".to_owned()),
        }
    }
}

/// The document inside a file: a bare one, or the response of the Nitro Security Module around it. It begins where a
/// document must, and ends where its signature does. A file without one is given back whole, for [`Document::parse`] to
/// refuse.
pub fn find_document(file: &[u8]) -> &[u8] {
    let window = &file[..file.len().min(2 * DOCUMENT_MAX)];
    let Some(start) = window.windows(BEGIN.len()).position(|w| w == BEGIN) else { return file };
    let found = &file[start..];
    let end = byte_string(found, BEGIN.len()).and_then(|payload_end| byte_string(found, payload_end));
    end.and_then(|end| found.get(..end)).unwrap_or(found)
}

/// Where the CBOR byte string that begins at `at` ends, by its head alone.
fn byte_string(bytes: &[u8], at: usize) -> Option<usize> {
    let (head, length) = match *bytes.get(at..)? {
        [0x58, length, ..] => (2, usize::from(length)),
        [0x59, high, low, ..] => (3, usize::from(u16::from_be_bytes([high, low]))),
        _ => return None,
    };
    at.checked_add(head)?.checked_add(length)
}

fn envelope(bytes: &[u8]) -> Result<CoseSign1, String> {
    let sign1 = CoseSign1::from_slice(bytes).map_err(|e| format!("no COSE_Sign1 ({e})"))?;
    if sign1.protected.original_data.as_deref() != Some(&PROTECTED[..]) {
        let header = sign1.protected.original_data.unwrap_or_default();
        return Err(format!("protected header {}", encoding::hex(&header[..header.len().min(32)])));
    }
    if !sign1.unprotected.is_empty() {
        return Err("an unprotected header".to_owned());
    }
    if sign1.payload.is_none() {
        return Err("a detached payload".to_owned());
    }
    if sign1.signature.len() != SIGNATURE {
        return Err(format!("a signature of {} bytes", sign1.signature.len()));
    }
    let again = sign1.clone().to_vec().map_err(|e| format!("an envelope that cannot be written ({e})"))?;
    if again != bytes { Err("an envelope in another spelling of CBOR".to_owned()) } else { Ok(sign1) }
}

/// The entries of the payload by name, each once.
fn fields(bytes: &[u8]) -> Result<BTreeMap<String, Value>, String> {
    let mut rest = bytes;
    let value: Value = ciborium::from_reader(&mut rest).map_err(|e| format!("no CBOR ({e})"))?;
    if !rest.is_empty() {
        return Err(format!("{} bytes behind the map", rest.len()));
    }
    let mut again = Vec::with_capacity(bytes.len());
    ciborium::into_writer(&value, &mut again).map_err(|e| format!("a map that cannot be written ({e})"))?;
    let same = match *bytes {
        // The module's newer versions write the map, and nothing inside it, without its length.
        [0xbf, ref entries @ .., 0xff] => again.get(1..).is_some_and(|again| again == entries),
        _ => again == bytes,
    };
    if !same {
        return Err("another spelling of CBOR".to_owned());
    }
    let mut fields = BTreeMap::new();
    for (name, value) in value.into_map().map_err(|_| "no map")? {
        let name = name.into_text().map_err(|_| "a field without a name")?;
        if fields.insert(name.clone(), value).is_some() {
            return Err(format!("field {name:?} twice"));
        }
    }
    Ok(fields)
}

fn registers(value: Option<Value>) -> Result<BTreeMap<u8, Vec<u8>>, String> {
    let entries = value.and_then(|value| value.into_map().ok()).ok_or("pcrs: no map")?;
    if entries.is_empty() || entries.len() > usize::from(REGISTER_MAX) + 1 {
        return Err(format!("pcrs: {} entries, not 1 to 32", entries.len()));
    }
    let mut registers = BTreeMap::new();
    for (number, value) in entries {
        let number = number.into_integer().ok().and_then(|n| u8::try_from(n).ok()).ok_or("pcrs: no number")?;
        if registers.insert(number, bytes_of("pcrs", Some(value), 0, 64)?).is_some() {
            return Err(format!("pcrs: register {number} twice"));
        }
    }
    Ok(registers)
}

fn text(name: &str, value: Option<Value>, max: usize) -> Result<String, String> {
    let text = value.and_then(|value| value.into_text().ok()).ok_or_else(|| format!("{name}: no text"))?;
    if (1..=max).contains(&text.len()) {
        Ok(text)
    } else {
        Err(format!("{name}: {} bytes, not 1 to {max}", text.len()))
    }
}

fn bytes_of(name: &str, value: Option<Value>, min: usize, max: usize) -> Result<Vec<u8>, String> {
    let bytes = value.and_then(|value| value.into_bytes().ok()).ok_or_else(|| format!("{name}: no bytes"))?;
    let size = bytes.len();
    if (min..=max).contains(&size) { Ok(bytes) } else { Err(format!("{name}: {size} bytes, not {min} to {max}")) }
}

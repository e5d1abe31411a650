//! The transcript that an NVIDIA GPU signs: parsed, bounded, not believed.
//!
//! ```text
//! GET_MEASUREMENTS  11 E0 01 FF  nonce[32]  slot                                        (DSP0274 1.1, section 10.11.1)
//! MEASUREMENTS      11 60 xx xx  blocks  length[3]  block..  nonce[32]  length[2]  opaque..  signature[96]
//! block             index  01  size[2]  type  size[2]  SHA-384[48]
//! opaque            (type[2]  size[2]  value)..                                         (NVIDIA's own)
//! ```
//! Numbers are little-endian; r and s of the signature are big-endian.

use std::collections::BTreeMap;

use legation_core::{Rejection, encoding};

use super::check::Check;
use crate::check::Trail;

/// Largest report read, in bytes. Real ones have about 4 KiB.
pub const REPORT_MAX: usize = 32 * 1024;
/// Most fields in the opaque data.
pub const FIELDS_MAX: usize = 64;
/// SPDM 1.1 GET_MEASUREMENTS: with a signature, of all measurements.
const REQUEST: [u8; 4] = [0x11, 0xe0, 0x01, 0xff];
/// SPDM 1.1 MEASUREMENTS.
const RESPONSE: [u8; 2] = [0x11, 0x60];
/// Measurements in the form that DMTF specifies.
const DMTF: u8 = 1;
/// Bytes of SHA-384.
const HASH: usize = 48;
/// Bytes of a signature: r and s, each of 48 bytes.
const SIGNATURE: usize = 96;

/// Fields of the opaque data that this crate reads, by NVIDIA's numbers.
mod field {
    pub(super) const DRIVER_VERSION: u16 = 3;
    pub(super) const VBIOS_VERSION: u16 = 6;
    pub(super) const NVDEC0_STATUS: u16 = 11;
    pub(super) const CHIP_SKU: u16 = 15;
    pub(super) const CHIP_SKU_MODIFIER: u16 = 16;
    pub(super) const PROJECT: u16 = 17;
    pub(super) const PROJECT_SKU: u16 = 18;
    pub(super) const FWID: u16 = 20;
    pub(super) const FEATURE_FLAG: u16 = 36;
    /// Numbers that NVIDIA's tools know: 1 to 25, 32 to 36.
    pub(super) const fn is_known(number: u16) -> bool {
        matches!(number, 1..=25 | 32..=36)
    }
}

/// How GPUs of one machine share its secrets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// One GPU passed through (SPT).
    Single,
    /// Several GPUs, encrypted links (MPT).
    Multiple,
    /// Several GPUs, links protected by the fabric (PPCIE).
    ProtectedPcie,
}

/// What a transcript says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transcript {
    /// Nonce of the request.
    pub nonce: [u8; 32],
    /// SHA-384 measurements by their index, 1 to 254.
    pub measurements: BTreeMap<u8, [u8; HASH]>,
    /// Version of the driver.
    pub driver: String,
    /// Version of the VBIOS, as NVIDIA's tools write it: `96.00.9f.00.01`.
    pub vbios: String,
    /// Project, its SKU, the chip's SKU and its modifier, as NVIDIA names reference measurements by; absent on none of
    /// the known parts.
    pub board: Option<String>,
    /// Identity of the firmware, where the driver reports it.
    pub firmware: Option<[u8; HASH]>,
    /// How GPUs share secrets, where the driver reports it.
    pub mode: Option<Mode>,
    /// Whether the video decoder is on, where the driver reports it: then a measurement more counts.
    pub decoder: Option<bool>,
    /// How many bytes the signature covers.
    pub(super) signed_len: usize,
    /// r and s, each of 48 bytes, big-endian.
    pub(super) signature: [u8; SIGNATURE],
}

impl Transcript {
    /// Parses one report; nothing may stand behind its signature.
    ///
    /// # Errors
    /// The first of the checks on transcript, measurements and opaque data that refuses.
    pub fn parse(bytes: &[u8]) -> Result<Self, Rejection> {
        Self::parse_on(bytes, &mut |_| ())
    }

    pub(super) fn parse_on(bytes: &[u8], passed: Trail<'_>) -> Result<Self, Rejection> {
        let fix = "send the report as the GPU's driver gave it";
        let parts = Parts::read(bytes).map_err(|why| {
            Check::Transcript
                .refuse("form of the report", "an SPDM 1.1 request for all measurements and its signed answer", why)
                .fix(fix)
        })?;
        passed(Check::Transcript.id());
        let measurements = measurements(parts.blocks, parts.record).map_err(|why| {
            Check::Measurements.refuse("measurements of the report", "SHA-384 values numbered from 1 on", why).fix(fix)
        })?;
        passed(Check::Measurements.id());
        let mut transcript = Self {
            nonce: parts.nonce,
            measurements,
            driver: String::new(),
            vbios: String::new(),
            board: None,
            firmware: None,
            mode: None,
            decoder: None,
            signed_len: parts.signed_len,
            signature: parts.signature,
        };
        transcript.opaque(parts.opaque).map_err(|why| {
            Check::Opaque.refuse("opaque data of the report", "known fields, each once", why).fix(fix)
        })?;
        passed(Check::Opaque.id());
        Ok(transcript)
    }

    fn opaque(&mut self, bytes: &[u8]) -> Result<(), String> {
        let fields = fields(bytes)?;
        let text = |number: u16| fields.get(&number).map(|value| printable(number, value)).transpose();
        self.driver = text(field::DRIVER_VERSION)?.filter(|text| !text.is_empty()).ok_or("no driver version")?;
        self.vbios = vbios(fields.get(&field::VBIOS_VERSION).ok_or("no VBIOS version")?)?;
        let board = [field::PROJECT, field::PROJECT_SKU, field::CHIP_SKU, field::CHIP_SKU_MODIFIER];
        let board = board.into_iter().map(text).collect::<Result<Option<Vec<_>>, _>>()?;
        self.board = board.map(|parts| parts.join("-"));
        self.firmware = match fields.get(&field::FWID) {
            None => None,
            Some(value) => Some((*value).try_into().map_err(|_| "a firmware identity that is no SHA-384")?),
        };
        self.mode = match fields.get(&field::FEATURE_FLAG).map(|value| number(value)) {
            None => None,
            Some(Some(0)) => Some(Mode::Single),
            Some(Some(1)) => Some(Mode::Multiple),
            Some(Some(2)) => Some(Mode::ProtectedPcie),
            Some(other) => return Err(format!("feature flag {other:?}")),
        };
        self.decoder = match fields.get(&field::NVDEC0_STATUS).copied() {
            None => None,
            Some([0xaa]) => Some(true),
            Some([0x55]) => Some(false),
            Some(other) => return Err(format!("decoder status {}", encoding::hex(&other[..other.len().min(8)]))),
        };
        Ok(())
    }
}

/// A transcript cut into its parts.
struct Parts<'a> {
    nonce: [u8; 32],
    blocks: u8,
    record: &'a [u8],
    opaque: &'a [u8],
    signed_len: usize,
    signature: [u8; SIGNATURE],
}

impl<'a> Parts<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, String> {
        if bytes.len() > REPORT_MAX {
            return Err(format!("{} bytes, more than {REPORT_MAX}", bytes.len()));
        }
        let mut reader = Reader(bytes);
        let request: [u8; 4] = reader.array()?;
        if request != REQUEST {
            return Err(format!("request {}, not {}", encoding::hex(&request), encoding::hex(&REQUEST)));
        }
        let nonce = reader.array()?;
        let [slot] = reader.array()?;
        if slot != 0 {
            return Err(format!("certificate slot {slot}, not 0"));
        }
        let response: [u8; 2] = reader.array()?;
        if response != RESPONSE {
            return Err(format!("answer {}, not {}", encoding::hex(&response), encoding::hex(&RESPONSE)));
        }
        let params: [u8; 2] = reader.array()?;
        if params != [0, 0] {
            return Err(format!("parameters of the answer {}, not 0000", encoding::hex(&params)));
        }
        let [blocks, low, middle, high] = reader.array()?;
        let record = reader.take(u32::from_le_bytes([low, middle, high, 0]) as usize)?;
        reader.take(32)?;
        let opaque_len = u16::from_le_bytes(reader.array()?);
        let opaque = reader.take(usize::from(opaque_len))?;
        let signed_len = bytes.len() - reader.0.len();
        let signature = reader.array()?;
        if !reader.0.is_empty() {
            return Err(format!("{} bytes behind the signature", reader.0.len()));
        }
        Ok(Self { nonce, blocks, record, opaque, signed_len, signature })
    }
}

/// Bytes that are taken from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let short = || format!("{} bytes where {count} must be", self.0.len());
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (taken, rest) =
            self.0.split_first_chunk().ok_or_else(|| format!("{} bytes where {N} must be", self.0.len()))?;
        self.0 = rest;
        Ok(*taken)
    }
}

fn measurements(blocks: u8, record: &[u8]) -> Result<BTreeMap<u8, [u8; HASH]>, String> {
    let mut reader = Reader(record);
    let mut measurements = BTreeMap::new();
    for expected in 1..=blocks {
        let [index, form, low, high] = reader.array()?;
        let size = usize::from(u16::from_le_bytes([low, high]));
        if index != expected || form != DMTF || size != 3 + HASH {
            return Err(format!("block {index} of form {form} and {size} bytes where block {expected} must be"));
        }
        let [kind, low, high] = reader.array()?;
        let size = usize::from(u16::from_le_bytes([low, high]));
        // The high bit of the kind says that a value is no hash.
        if kind & 0x80 != 0 || size != HASH {
            return Err(format!("block {index} with a value of kind {kind:02x}h and {size} bytes"));
        }
        measurements.insert(index, reader.array()?);
    }
    if measurements.is_empty() || !reader.0.is_empty() {
        return Err(format!("{blocks} blocks with {} bytes behind them", reader.0.len()));
    }
    Ok(measurements)
}

fn fields(bytes: &[u8]) -> Result<BTreeMap<u16, &[u8]>, String> {
    let mut reader = Reader(bytes);
    let mut fields = BTreeMap::new();
    while !reader.0.is_empty() {
        let number = u16::from_le_bytes(reader.array()?);
        let size = u16::from_le_bytes(reader.array()?);
        let value = reader.take(usize::from(size))?;
        if !field::is_known(number) || fields.len() == FIELDS_MAX {
            return Err(format!("unknown field {number}"));
        }
        if fields.insert(number, value).is_some() {
            return Err(format!("field {number} twice"));
        }
    }
    Ok(fields)
}

/// A text that zeros may end, of characters that mean nothing to a terminal.
fn printable(number: u16, value: &[u8]) -> Result<String, String> {
    let end = value.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    let text = value.get(..end).unwrap_or_default();
    if !text.iter().all(u8::is_ascii_graphic) {
        return Err(format!("field {number} is no text"));
    }
    Ok(text.iter().map(|b| char::from(*b)).collect())
}

/// A little-endian number of 1 to 8 bytes.
fn number(value: &[u8]) -> Option<u64> {
    if !(1..=8).contains(&value.len()) {
        return None;
    }
    Some(value.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// The first four of eight bytes backwards, then the fifth.
fn vbios(value: &[u8]) -> Result<String, String> {
    let [a, b, c, d, e, ..] = *value else { return Err("a VBIOS version of another size".to_owned()) };
    if value.len() != 8 {
        return Err(format!("a VBIOS version of {} bytes", value.len()));
    }
    Ok(format!("{d:02x}.{c:02x}.{b:02x}.{a:02x}.{e:02x}"))
}

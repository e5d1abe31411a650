//! `TPMS_ATTEST` of a quote (TPM 2.0 Library, Part 2, section 10.12.12), and the registers it is over.

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{Digest, DigestWriter};

use super::{
    algorithm::HashAlg,
    wire::{Malformed, Reader, value},
};

/// Largest `TPMS_ATTEST` read, in bytes. A quote over three banks has about 200.
pub const QUOTE_MAX: usize = 1024;
/// Registers of one bank (PC Client Platform TPM Profile).
pub const REGISTERS: u8 = 24;
/// Most banks in one quote.
pub const BANKS_MAX: usize = 8;
/// Largest qualifying data, in bytes: a `TPM2B_DATA` holds a `TPMT_HA`.
pub const QUALIFYING_MAX: usize = 66;
/// Largest name of a key, in bytes.
const NAME_MAX: usize = 66;
/// `TPM_GENERATED_VALUE`: no restricted key signs bytes from outside that begin with it.
const GENERATED: u32 = 0xff54_4347;
/// `TPM_ST_ATTEST_QUOTE`.
const ATTEST_QUOTE: u16 = 0x8018;

/// Values of registers by bank and index.
pub type Pcrs = BTreeMap<HashAlg, BTreeMap<u8, Vec<u8>>>;

/// Domain of measurements.
const MEASUREMENT: &[u8] = b"legation-tpm-registers-v1";

/// The measurement of a machine by its quoted registers: SHA-256 over `legation-tpm-registers-v1` and, of each register,
/// its bank (`TPM_ALG_ID`, 2 bytes, big-endian), its number (1 byte) and its value; banks by ascending id, then registers.
///
/// Bank and number are in it because a TPM hashes values alone: a register that anybody may extend would pass for another
/// that holds the same.
pub fn measurement(pcrs: &Pcrs) -> Digest {
    let mut hash = DigestWriter::new();
    hash.update(MEASUREMENT);
    for (bank, values) in pcrs {
        for (register, value) in values {
            hash.update(&bank.id().to_be_bytes());
            hash.update(&[*register]);
            hash.update(value);
        }
    }
    hash.finish()
}

/// What a TPM says in a quote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quote {
    /// Qualified name of the key that signed.
    pub signer: Vec<u8>,
    /// The qualifying data that the quote was asked with.
    pub extra_data: Vec<u8>,
    /// Milliseconds the TPM has been powered on, over all its resets.
    pub clock: u64,
    /// Resets since it was last cleared.
    pub reset_count: u32,
    /// Resumes since the last reset.
    pub restart_count: u32,
    /// Whether no larger clock was ever shown.
    pub safe: bool,
    /// Vendor's number of the firmware.
    pub firmware: u64,
    /// The registers, in the order in which their values were hashed.
    pub selection: Vec<Selection>,
    /// Digest over the values, by the hash algorithm of the signature.
    pub pcr_digest: Vec<u8>,
}

/// Registers of one bank (`TPMS_PCR_SELECTION`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selection {
    /// The bank.
    pub bank: HashAlg,
    /// Which of it.
    pub registers: BTreeSet<u8>,
}

impl Quote {
    /// Reads a `TPMS_ATTEST`, which must be a quote that a TPM made.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > QUOTE_MAX {
            return Err(Malformed::TooLarge { what: "the quote", got: bytes.len(), max: QUOTE_MAX });
        }
        let mut r = Reader::new(bytes);
        let magic = r.u32("magic")?;
        if magic != GENERATED {
            return Err(value("magic", format!("{magic:#010x}, not {GENERATED:#010x}")));
        }
        let kind = r.u16("type")?;
        if kind != ATTEST_QUOTE {
            return Err(value("type", format!("{kind:#06x}, not that of a quote, {ATTEST_QUOTE:#06x}")));
        }
        let signer = r.sized(NAME_MAX, "qualifiedSigner")?.to_vec();
        let extra_data = r.sized(QUALIFYING_MAX, "extraData")?.to_vec();
        let clock = r.u64("clock")?;
        let (reset_count, restart_count) = (r.u32("resetCount")?, r.u32("restartCount")?);
        let safe = match r.u8("safe")? {
            0 => false,
            1 => true,
            other => return Err(value("safe", other)),
        };
        let firmware = r.u64("firmwareVersion")?;
        let selection = selection(&mut r)?;
        let pcr_digest = r.sized(HashAlg::Sha384.size(), "pcrDigest")?.to_vec();
        r.finish()?;
        Ok(Self { signer, extra_data, clock, reset_count, restart_count, safe, firmware, selection, pcr_digest })
    }

    /// The values of the selected registers, one after the other as the TPM hashed them; none when `pcrs` has others or
    /// not all of them.
    pub fn selected(&self, pcrs: &Pcrs) -> Option<Vec<u8>> {
        let wanted: BTreeSet<_> =
            self.selection.iter().flat_map(|s| s.registers.iter().map(|r| (s.bank, *r))).collect();
        let given: BTreeSet<_> = pcrs.iter().flat_map(|(bank, of)| of.keys().map(|r| (*bank, *r))).collect();
        if wanted != given {
            return None;
        }
        let mut out = Vec::new();
        for selection in &self.selection {
            for register in &selection.registers {
                out.extend_from_slice(pcrs.get(&selection.bank)?.get(register)?);
            }
        }
        Some(out)
    }
}

/// `TPML_PCR_SELECTION`.
fn selection(r: &mut Reader<'_>) -> Result<Vec<Selection>, Malformed> {
    let count = r.u32("number of banks")? as usize;
    if count > BANKS_MAX {
        return Err(Malformed::TooLarge { what: "number of banks", got: count, max: BANKS_MAX });
    }
    let mut out: Vec<Selection> = Vec::new();
    for _ in 0..count {
        let bank = HashAlg::read(r.u16("bank")?, "bank")?;
        let size = usize::from(r.u8("size of a selection")?);
        if size > 4 {
            return Err(Malformed::TooLarge { what: "size of a selection", got: size, max: 4 });
        }
        let bits = r.take(size, "selection")?;
        let set = |register: u8| {
            let byte = bits.get(usize::from(register / 8)).copied().unwrap_or(0);
            byte & (1 << (register % 8)) != 0
        };
        if let Some(register) = (REGISTERS..32).find(|r| set(*r)) {
            return Err(value("selection", format!("register {register} of {bank}")));
        }
        if out.iter().any(|s| s.bank == bank) {
            return Err(value("selection", format!("{bank} twice")));
        }
        out.push(Selection { bank, registers: (0..REGISTERS).filter(|r| set(*r)).collect() });
    }
    Ok(out)
}

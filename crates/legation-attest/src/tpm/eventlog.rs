//! Event logs: what firmware and boot loader say they measured into registers, in order.
//!
//! A log is nobody's word. It counts for as much as it replays to registers that hardware quoted: then its digests are
//! those that were measured, in the banks that were quoted and in no other. The data beside a digest are covered only
//! where the digest is the data's own, so the extractors here take the bank that was replayed and hash what they give back.
//!
//! Sources: *TCG PC Client Platform Firmware Profile* (TCG2, crypto-agile: the first event says which digests each
//! event has); *Guest-Hypervisor Communication Interface for Intel TDX* (CCEL: the same format, over the measurement
//! registers of a TD). Logs of SHA-1 alone, from before, are refused.

use std::collections::BTreeMap;

use super::{
    algorithm::HashAlg,
    quote::REGISTERS,
    wire::{Malformed, Reader, value},
};

mod extract;

/// Largest log read, in bytes. Those of published machines have 23 to 45 KiB; a CCEL table is padded to 256 KiB.
pub const LOG_MAX: usize = 256 * 1024;
/// Most events in one log. Published ones have about 100.
pub const EVENTS_MAX: usize = 4096;
/// Most hash algorithms in one log.
pub const ALGORITHMS_MAX: usize = 8;
/// Largest digest of any algorithm, in bytes.
const DIGEST_MAX: usize = 64;

/// `EV_NO_ACTION`: says something and extends nothing.
pub const EV_NO_ACTION: u32 = 0x0000_0003;
/// `EV_IPL`: a boot loader's measurement.
pub const EV_IPL: u32 = 0x0000_000d;
/// `EV_EFI_VARIABLE_DRIVER_CONFIG`: a variable that steers the firmware.
pub const EV_EFI_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;

const SPEC_ID: &[u8; 16] = b"Spec ID Event03\0";
const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";
/// Measurement registers of a TD, from index 1 on.
const RTMRS: u32 = 4;

/// A log, read and not believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventLog<'a> {
    /// `TPM_ALG_ID` and digest size of every algorithm in the log, in its order.
    pub algorithms: Vec<(u16, usize)>,
    /// The events, without the first, which says the format.
    pub events: Vec<Event<'a>>,
}

/// One event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// Index of the register: a PCR, or 0 for MRTD and 1 to 4 for the RTMRs of a TD.
    pub register: u32,
    /// Type (`EV_*`).
    pub kind: u32,
    /// Digests by `TPM_ALG_ID`.
    pub digests: Vec<(u16, &'a [u8])>,
    /// What was measured, or words about it.
    pub data: &'a [u8],
}

impl Event<'_> {
    /// Its digest of this algorithm.
    pub fn digest(&self, alg: HashAlg) -> Option<&[u8]> {
        self.digests.iter().find(|(id, _)| *id == alg.id()).map(|(_, digest)| *digest)
    }

    /// Whether this event extends its register.
    pub fn extends(&self) -> bool {
        self.kind != EV_NO_ACTION
    }

    /// Whether `bytes` are what was measured, by its digest for `bank`. In a bank that was not replayed to quoted
    /// registers that digest is whatever the log's writer made it.
    fn measured(&self, bytes: &[u8], bank: HashAlg) -> bool {
        bank.is_strong() && self.digest(bank).is_some_and(|digest| bank.digest(&[bytes]) == digest)
    }
}

impl<'a> EventLog<'a> {
    /// Reads a log that ends with its last event, as the kernel shows it
    /// (`/sys/kernel/security/tpm0/binary_bios_measurements`).
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::read(bytes, false)
    }

    /// Reads a log in an area that is filled up with zeros or ones behind the last event, as an ACPI table (CCEL) is.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn parse_padded(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::read(bytes, true)
    }

    fn read(bytes: &'a [u8], padded: bool) -> Result<Self, Malformed> {
        if bytes.len() > LOG_MAX {
            return Err(Malformed::TooLarge { what: "the event log", got: bytes.len(), max: LOG_MAX });
        }
        let mut r = Reader::new(bytes);
        let algorithms = header(&mut r)?;
        let mut events = Vec::new();
        let filler = |rest: &[u8]| rest.iter().all(|b| *b == 0) || rest.iter().all(|b| *b == 0xff);
        while !(r.rest().is_empty() || padded && filler_begins(r.rest()) && filler(r.rest())) {
            if events.len() == EVENTS_MAX {
                return Err(Malformed::TooLarge { what: "number of events", got: EVENTS_MAX + 1, max: EVENTS_MAX });
            }
            events.push(event(&mut r, &algorithms)?);
        }
        Ok(Self { algorithms, events })
    }

    /// The values of a TPM's registers after every event, from a reset on: those that any event extends, and register 0
    /// where the log says from which locality the TPM was started.
    ///
    /// # Errors
    /// A register that no TPM has, an event without a digest of this algorithm, a start that is told too late.
    pub fn replay(&self, alg: HashAlg) -> Result<BTreeMap<u8, Vec<u8>>, Malformed> {
        let mut registers: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        for event in &self.events {
            if let Some(locality) = startup_locality(event)? {
                let mut first = vec![0; alg.size()];
                if let Some(last) = first.last_mut() {
                    *last = locality;
                }
                if registers.insert(0, first).is_some() {
                    return Err(value("StartupLocality", "behind an event of register 0"));
                }
                continue;
            }
            if !event.extends() {
                continue;
            }
            let register = u8::try_from(event.register).ok().filter(|r| *r < REGISTERS);
            let register = register.ok_or_else(|| value("register", event.register))?;
            extend(registers.entry(register).or_insert_with(|| reset_value(register, alg)), event, alg)?;
        }
        Ok(registers)
    }

    /// The values of a TD's four measurement registers after every event of a CCEL: index 1 to 4 is RTMR 0 to 3.
    ///
    /// # Errors
    /// A register that no TD has, or an event without a SHA-384 digest.
    pub fn replay_rtmrs(&self) -> Result<[Vec<u8>; RTMRS as usize], Malformed> {
        let alg = HashAlg::Sha384;
        let mut registers = std::array::from_fn(|_| vec![0; alg.size()]);
        for event in self.events.iter().filter(|event| event.extends()) {
            let index = event.register.checked_sub(1).and_then(|i| usize::try_from(i).ok());
            let register = index.and_then(|i| registers.get_mut(i)).ok_or_else(|| value("register", event.register))?;
            extend(register, event, alg)?;
        }
        Ok(registers)
    }
}

/// A register after a reset, before anything is measured into it (PC Client Platform TPM Profile, section 4.6.2).
pub(crate) fn reset_value(register: u8, alg: HashAlg) -> Vec<u8> {
    vec![if (17..=22).contains(&register) { 0xff } else { 0 }; alg.size()]
}

fn extend(register: &mut Vec<u8>, event: &Event<'_>, alg: HashAlg) -> Result<(), Malformed> {
    let digest = event.digest(alg).ok_or_else(|| value("event", format!("one without a {alg} digest")))?;
    *register = alg.digest(&[register, digest]);
    Ok(())
}

fn startup_locality(event: &Event<'_>) -> Result<Option<u8>, Malformed> {
    let Some(rest) = event.data.strip_prefix(STARTUP_LOCALITY).filter(|_| !event.extends()) else { return Ok(None) };
    match (event.register, rest) {
        (0, [locality @ (0 | 3 | 4)]) => Ok(Some(*locality)),
        _ => Err(value("StartupLocality", format!("{} bytes for register {}", rest.len(), event.register))),
    }
}

/// Cheap first look at whether the filler may begin here: an event's header has neither of these.
fn filler_begins(rest: &[u8]) -> bool {
    let head = rest.get(..12).unwrap_or(rest);
    head.iter().all(|b| *b == 0) || head.iter().all(|b| *b == 0xff)
}

/// The first event, in the form of older logs: which digests the others have.
fn header(r: &mut Reader<'_>) -> Result<Vec<(u16, usize)>, Malformed> {
    r.u32_le("register of the first event")?;
    let kind = r.u32_le("type of the first event")?;
    r.take(20, "digest of the first event")?;
    let size = r.u32_le("size of the first event")? as usize;
    let data = r.take(size, "first event")?;
    let mut r = Reader::new(data);
    let signature = r.array::<16>("signature of the first event")?;
    if kind != EV_NO_ACTION || &signature != SPEC_ID {
        return Err(value("first event", "not the one of a crypto-agile log"));
    }
    r.take(8, "platform and version")?;
    let count = r.u32_le("number of algorithms")? as usize;
    if !(1..=ALGORITHMS_MAX).contains(&count) {
        return Err(Malformed::TooLarge { what: "number of algorithms", got: count, max: ALGORITHMS_MAX });
    }
    let mut algorithms: Vec<(u16, usize)> = Vec::new();
    for _ in 0..count {
        let (id, size) = (r.u16_le("algorithm")?, usize::from(r.u16_le("digest size")?));
        let known = HashAlg::of_id(id).map(HashAlg::size);
        if size == 0 || size > DIGEST_MAX || known.is_some_and(|len| len != size) {
            return Err(value("digest size", format!("{size} of algorithm {id:#06x}")));
        }
        if algorithms.iter().any(|(other, _)| *other == id) {
            return Err(value("algorithm", format!("{id:#06x} twice")));
        }
        algorithms.push((id, size));
    }
    let vendor = usize::from(r.u8("size of the vendor's part")?);
    r.take(vendor, "vendor's part")?;
    r.finish()?;
    Ok(algorithms)
}

/// `TCG_PCR_EVENT2`.
fn event<'a>(r: &mut Reader<'a>, algorithms: &[(u16, usize)]) -> Result<Event<'a>, Malformed> {
    let register = r.u32_le("register")?;
    let kind = r.u32_le("event type")?;
    let count = r.u32_le("number of digests")? as usize;
    if count > algorithms.len() {
        return Err(Malformed::TooLarge { what: "number of digests", got: count, max: algorithms.len() });
    }
    let mut digests: Vec<(u16, &[u8])> = Vec::with_capacity(count);
    for _ in 0..count {
        let id = r.u16_le("algorithm of a digest")?;
        let known = algorithms.iter().find(|(other, _)| *other == id);
        let (_, size) = known.ok_or_else(|| value("algorithm of a digest", format!("{id:#06x}, not of this log")))?;
        if digests.iter().any(|(other, _)| *other == id) {
            return Err(value("algorithm of a digest", format!("{id:#06x} twice")));
        }
        digests.push((id, r.take(*size, "digest")?));
    }
    let size = r.u32_le("size of an event")? as usize;
    Ok(Event { register, kind, digests, data: r.take(size, "event")? })
}

//! What a log that replayed to quoted registers shows for certain.
//!
//! That is little: of an event, the digest alone is covered. Its type and its data are whoever's wrote the log, and after
//! boot, software may extend registers and add events of its own. So
//! * secure boot is read from the first event of PCR 7 and from no other: the firmware measures that variable there
//!   before anything else (PC Client Platform Firmware Profile, section 3.3.4.8), and nothing later can come first;
//! * of a boot loader's text, the text was measured, but who measured it, and whether as a command or as the kernel's
//!   command line, nobody shows. To hold a machine to a command line, hold it to its PCR 8.

use super::{EV_EFI_VARIABLE_DRIVER_CONFIG, EV_IPL, Event, EventLog};
use crate::tpm::{algorithm::HashAlg, wire::Reader};

/// Longest text taken from a log, in bytes.
const TEXT_MAX: usize = 4096;
/// Longest name of a variable, in UTF-16 units.
const NAME_MAX: u64 = 256;
/// `EFI_GLOBAL_VARIABLE`, 8be4df61-93ca-11d2-aa0d-00e098032b8c, as it stands in memory (UEFI section 3.3).
const GLOBAL_VARIABLE: [u8; 16] =
    [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];
/// The register of the state of secure boot.
const POLICY: u32 = 7;

impl EventLog<'_> {
    /// Whether the firmware of a machine with a TPM enforced secure boot; none when its log does not show it in `bank`,
    /// which must be one whose register 7 was quoted and replayed.
    pub fn secure_boot(&self, bank: HashAlg) -> Option<bool> {
        let first = self.events.iter().find(|event| event.register == POLICY && event.extends())?;
        secure_boot(first, bank)
    }

    /// The texts that were measured as a boot loader's, with their registers, in order: GRUB's commands and the kernel's
    /// command line. `bank` is one that was replayed to quoted registers.
    pub fn boot_texts(&self, bank: HashAlg) -> Vec<(u32, String)> {
        let texts = self.events.iter().filter(|event| event.kind == EV_IPL);
        texts.filter_map(|event| boot_text(event, bank).map(|text| (event.register, text))).collect()
    }
}

/// `UEFI_VARIABLE_DATA` of `SecureBoot`, if the event is that and was measured as it stands.
fn secure_boot(event: &Event<'_>, bank: HashAlg) -> Option<bool> {
    let mut r = Reader::new(event.data);
    let guid = r.array::<16>("guid").ok()?;
    let units = r.u64_le("name length").ok().filter(|units| *units <= NAME_MAX)?;
    let len = r.u64_le("data length").ok()?;
    let name = r.take(usize::try_from(units).ok()?.checked_mul(2)?, "name").ok()?;
    let data = r.take(usize::try_from(len).ok()?, "data").ok()?;
    r.finish().ok()?;
    let named = name.iter().copied().eq("SecureBoot".encode_utf16().flat_map(u16::to_le_bytes));
    let is_it = event.kind == EV_EFI_VARIABLE_DRIVER_CONFIG && guid == GLOBAL_VARIABLE && named;
    match data {
        [on @ (0 | 1)] if is_it && event.measured(event.data, bank) => Some(*on == 1),
        _ => None,
    }
}

/// GRUB measures the text behind a label such as `grub_cmd: `, without the zero that ends it in the log.
fn boot_text(event: &Event<'_>, bank: HashAlg) -> Option<String> {
    let data = event.data.strip_suffix(&[0]).unwrap_or(event.data);
    let text =
        std::str::from_utf8(data).ok().filter(|text| text.len() <= TEXT_MAX && !text.contains(char::is_control))?;
    let measured = text.split_once(": ").map_or(text, |(_, behind)| behind);
    event.measured(measured.as_bytes(), bank).then(|| measured.to_owned())
}

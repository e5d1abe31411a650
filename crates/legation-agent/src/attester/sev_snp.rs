//! AMD SEV-SNP: the report by configfs-tsm, and the certificates that the host gives with it.
//!
//! Sources: *SEV Secure Nested Paging Firmware ABI Specification*, AMD 56860 (the report, table 23); *Guest-Hypervisor
//! Communication Block Standardization*, AMD 56421, section 4.1.8.1 (the table of certificates: GUID, offset, length).

use std::path::Path;

use legation_core::{
    Digest,
    claims::{Evidence, KeyBinding, TeeKind},
};

use super::{
    AttestError, Attester, AttesterError, certificates,
    configfs::{Entries, Tsm},
    evidence, shown,
};
use legation_attest::snp::Vcek;

/// The name by which the kernel knows it.
pub const PROVIDER: &str = "sev_guest";
/// Bytes of a report.
const REPORT_LEN: usize = 1184;
/// Where a report has its flags; bits 4 to 2 name the signing key.
const FLAGS: usize = 0x48;
/// Where a report repeats what was asked.
const REPORT_DATA: usize = 0x50;
/// Most entries of a table of certificates.
pub const TABLE_ENTRIES_MAX: usize = 16;
/// Bytes of one entry: GUID, offset, length.
const ENTRY_LEN: usize = 24;

/// Certificates in the host's table that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Slot {
    Vcek,
    Vlek,
    Intermediate,
}

/// GUIDs in the order of their text. Hosts write them so; a host that stores them as EFI does is understood as well.
const GUIDS: [(Slot, [u8; 16]); 3] = [
    (Slot::Vcek, [0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd]),
    (Slot::Vlek, [0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1]),
    (
        Slot::Intermediate,
        [0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82],
    ),
];

/// Attests with the firmware of the processor.
pub struct SnpAttester<E> {
    tsm: Tsm<E>,
    image: Digest,
    /// For hosts that give none.
    configured: Vec<Vec<u8>>,
}

impl<E: Entries> SnpAttester<E> {
    /// Over these entries of configfs-tsm. `vcek` names a file with the certificate of the chip's key, perhaps with the
    /// intermediate after it, for hosts that give none.
    ///
    /// # Errors
    /// The file cannot be read or holds something else.
    pub fn new(entries: E, image: Digest, vcek: Option<&Path>) -> Result<Self, AttesterError> {
        let configured = vcek.map(certificates::read).transpose()?.unwrap_or_default();
        Ok(Self { tsm: Tsm::new(entries), image, configured })
    }
}

impl<E: Entries> Attester for SnpAttester<E> {
    fn kind(&self) -> TeeKind {
        TeeKind::SevSnp
    }

    fn image(&self) -> Digest {
        self.image
    }

    fn attest(&self, binding: &[u8], configuration: &[u8]) -> Result<Evidence, AttestError> {
        let asked = KeyBinding::report_data(binding);
        let got = self.tsm.report(PROVIDER, &asked)?;
        let report = got.outblob;
        if report.len() != REPORT_LEN {
            let (expected, got) = (format!("{REPORT_LEN} bytes"), format!("{} bytes", report.len()));
            return Err(AttestError::Report { what: "report of SEV-SNP", expected, got });
        }
        let carried = &report[REPORT_DATA..REPORT_DATA + 64];
        if *carried != asked {
            let (expected, got) = (format!("{}..", shown(&asked)), format!("{}..", shown(carried)));
            return Err(AttestError::Report { what: "report data in the report of SEV-SNP", expected, got });
        }
        let from_host = from_table(&got.auxblob, wants_vlek(&report));
        let endorsements = match from_host {
            Ok(found) if !found.is_empty() => found,
            _ if !self.configured.is_empty() => self.configured.clone(),
            // The verifier has AMD's service give it, for the chip that the report names.
            Ok(_) | Err(NoTable::Empty) if Vcek::of_report(&report).is_ok() => Vec::new(),
            Ok(_) => return Err(AttestError::NoCertificate("has none for this report's key".to_owned())),
            Err(NoTable::Empty) => return Err(AttestError::NoCertificate("is empty".to_owned())),
            Err(NoTable::Malformed(why)) => return Err(AttestError::NoCertificate(why)),
        };
        Ok(evidence(TeeKind::SevSnp, report, endorsements, binding, configuration))
    }
}

/// Why the host's table gives no certificate.
enum NoTable {
    /// The host gives none.
    Empty,
    /// What it gives is no table; a fragment that follows "the table".
    Malformed(String),
}

impl NoTable {
    fn new(why: impl Into<String>) -> Self {
        Self::Malformed(why.into())
    }
}

/// SIGNING_KEY: 0 is the VCEK, 1 the VLEK.
fn wants_vlek(report: &[u8]) -> bool {
    report.get(FLAGS).is_some_and(|flags| (flags >> 2) & 7 == 1)
}

/// The leaf for the report's key, and the intermediate, out of the host's table; empty when the leaf is not there.
///
/// The table is the host's word and bounded: [`TABLE_ENTRIES_MAX`] entries, each inside the blob, each of one certificate's
/// size, ended by an entry of zeros.
fn from_table(table: &[u8], vlek: bool) -> Result<Vec<Vec<u8>>, NoTable> {
    let (mut leaf, mut intermediate) = (None, None);
    if table.is_empty() {
        return Err(NoTable::Empty);
    }
    for index in 0..=TABLE_ENTRIES_MAX {
        let entry = table
            .chunks_exact(ENTRY_LEN)
            .nth(index)
            .ok_or_else(|| NoTable::new("does not end with an entry of zeros"))?;
        let (guid, place) = entry.split_at(16);
        if entry.iter().all(|byte| *byte == 0) {
            // An intermediate without its leaf is worth nothing.
            return Ok(leaf.map_or_else(Vec::new, |leaf| [leaf].into_iter().chain(intermediate).collect()));
        }
        let Some(slot) = slot(guid) else { continue };
        let number = |at: usize| {
            let bytes = place.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
            bytes.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX)
        };
        let (offset, length) = (number(0), number(4));
        let bytes = offset.checked_add(length).and_then(|end| table.get(offset..end));
        let bytes = bytes.ok_or_else(|| {
            NoTable::new(format!("has a certificate at {offset} with {length} bytes, beyond its end"))
        })?;
        let certificate =
            certificates::one(bytes).map_err(|why| NoTable::new(format!("has something that is {why}")))?;
        match slot {
            Slot::Vcek if !vlek => leaf = Some(certificate),
            Slot::Vlek if vlek => leaf = Some(certificate),
            Slot::Vcek | Slot::Vlek => {}
            Slot::Intermediate => intermediate = Some(certificate),
        }
    }
    Err(NoTable::new(format!("has more than {TABLE_ENTRIES_MAX} entries")))
}

fn slot(guid: &[u8]) -> Option<Slot> {
    let known = |text: &[u8; 16]| {
        let mut efi = *text;
        efi[..4].reverse();
        efi[4..6].reverse();
        efi[6..8].reverse();
        guid == text || guid == efi
    };
    GUIDS.iter().find(|(_, text)| known(text)).map(|(slot, _)| *slot)
}

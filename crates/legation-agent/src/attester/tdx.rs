//! Intel TDX: the quote by configfs-tsm. It carries the certificates of its key itself.
//!
//! Sources: *Intel TDX DCAP Quoting Library API*, appendix A.3 (quotes of version 4 and 5: header of 48 bytes; version 5 has type
//! and size of the body after it; the body of TDX 1.0 and of 1.5 repeats what was asked at 520).

use legation_core::{
    Digest,
    claims::{Evidence, KeyBinding, TeeKind},
};

use super::{
    AttestError, Attester,
    configfs::{Entries, Tsm},
    evidence, shown,
};

/// The name by which the kernel knows it.
pub const PROVIDER: &str = "tdx_guest";
/// Bytes of a quote's header.
const HEADER: usize = 48;
/// Bytes of type and size of the body, from version 5 on.
const BODY_HEADER: usize = 6;
/// Where a body repeats what was asked.
const REPORT_DATA: usize = 520;

/// Attests with the quoting service of the host.
pub struct TdxAttester<E> {
    tsm: Tsm<E>,
    image: Digest,
}

impl<E: Entries> TdxAttester<E> {
    /// Over these entries of configfs-tsm.
    pub fn new(entries: E, image: Digest) -> Self {
        Self { tsm: Tsm::new(entries), image }
    }
}

impl<E: Entries> Attester for TdxAttester<E> {
    fn kind(&self) -> TeeKind {
        TeeKind::Tdx
    }

    fn image(&self) -> Digest {
        self.image
    }

    fn attest(&self, binding: &[u8], configuration: &[u8]) -> Result<Evidence, AttestError> {
        let asked = KeyBinding::report_data(binding);
        let quote = self.tsm.report(PROVIDER, &asked)?.outblob;
        let version = quote.first_chunk::<2>().copied().map(u16::from_le_bytes);
        let body = match version {
            Some(4) => HEADER,
            Some(5) => HEADER + BODY_HEADER,
            other => {
                let got = other.map_or("nothing".to_owned(), |v| format!("version {v} in {} bytes", quote.len()));
                return Err(AttestError::Report { what: "quote of TDX", expected: "version 4 or 5".to_owned(), got });
            }
        };
        let carried = quote.get(body + REPORT_DATA..body + REPORT_DATA + 64).unwrap_or_default();
        if *carried != asked {
            let (expected, got) = (format!("{}..", shown(&asked)), format!("{}..", shown(carried)));
            return Err(AttestError::Report { what: "report data in the quote of TDX", expected, got });
        }
        Ok(evidence(TeeKind::Tdx, quote, Vec::new(), binding, configuration))
    }
}

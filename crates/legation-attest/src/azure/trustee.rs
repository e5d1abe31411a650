//! Azure evidence in the JSON of the Confidential Containers project (`az-snp-vtpm`, `az-tdx-vtpm`), turned into ours:
//! published samples and attesters in use write it.

use legation_core::{Rejection, encoding};
use serde::Deserialize;

use super::{Report, check::Check, hcl::unbase64_url};
use crate::{
    pem,
    tpm::{HashAlg, Pcrs, REGISTERS, Signature},
};

/// Largest text read, in bytes. Numbers for bytes make it long.
pub const TRUSTEE_MAX: usize = 256 * 1024;

#[derive(Deserialize)]
struct Wire {
    #[serde(alias = "tpm_quote")]
    quote: WireQuote,
    #[serde(alias = "hcl_report")]
    report: Bytes,
    #[serde(default)]
    td_quote: Option<Bytes>,
    #[serde(default)]
    vcek: Option<String>,
}

#[derive(Deserialize)]
struct WireQuote {
    message: Bytes,
    signature: Bytes,
    pcrs: Vec<Bytes>,
}

/// Bytes, as numbers, hexadecimal or base64 for URLs: older and newer versions differ.
#[derive(Deserialize)]
#[serde(untagged)]
enum Bytes {
    Numbers(Vec<u8>),
    Text(String),
}

impl Bytes {
    /// Hexadecimal where that is what the version writes here.
    fn hex(self) -> Option<Vec<u8>> {
        match self {
            Self::Numbers(bytes) => Some(bytes),
            Self::Text(text) => encoding::unhex(&text).ok(),
        }
    }

    fn base64(self) -> Option<Vec<u8>> {
        match self {
            Self::Numbers(bytes) => Some(bytes),
            Self::Text(text) => unbase64_url(&text),
        }
    }
}

/// A report of ours and its endorsements (VCEK; none for TDX) from that JSON.
///
/// # Errors
/// `az.report`.
pub fn from_trustee_json(json: &[u8]) -> Result<(Report, Vec<Vec<u8>>), Rejection> {
    let refuse = |got: String| {
        Check::Report
            .refuse("form of the evidence", "JSON of az-snp-vtpm or az-tdx-vtpm evidence", got)
            .fix("send the evidence as the attester wrote it")
    };
    if json.len() > TRUSTEE_MAX {
        return Err(refuse(format!("{} bytes, more than {TRUSTEE_MAX}", json.len())));
    }
    let wire: Wire = serde_json::from_slice(json).map_err(|e| refuse(e.to_string()))?;
    read(wire).ok_or_else(|| refuse("bytes of another spelling, or registers of another size".to_owned()))
}

fn read(wire: Wire) -> Option<(Report, Vec<Vec<u8>>)> {
    let mut registers = std::collections::BTreeMap::new();
    for (register, value) in (0..REGISTERS).zip(wire.quote.pcrs) {
        let value = value.hex().filter(|value| value.len() == HashAlg::Sha256.size())?;
        registers.insert(register, value);
    }
    let report = Report {
        hcl: wire.report.base64()?,
        quote: wire.quote.message.hex()?,
        signature: Signature::wrap_rsassa_sha256(&wire.quote.signature.hex()?),
        pcrs: Pcrs::from([(HashAlg::Sha256, registers)]),
        td_quote: match wire.td_quote {
            Some(quote) => Some(quote.base64()?),
            None => None,
        },
    };
    let endorsements = match wire.vcek {
        None => Vec::new(),
        Some(text) if text.starts_with("-----") => {
            pem::read(text.as_bytes()).ok()?.into_iter().map(|block| block.der.to_vec()).collect()
        }
        Some(text) => vec![unbase64_url(&text)?],
    };
    Some((report, endorsements))
}

//! The report that Azure's paravisor (HCL) keeps in its vTPM at NV index 01400001h: a header, a hardware report, and the
//! runtime data whose hash the hardware report carries.
//!
//! ```text
//!    0  header: `HCLA`, version, size, request type, status, reserved       32 bytes, little-endian
//!   32  hardware report: SNP report, or TDREPORT and zeros                1184 bytes
//! 1216  size, version, report type, hash type, size of the runtime data     20 bytes, little-endian
//! 1236  runtime data: JSON
//! ```
//! Source: Azure's *Guest attestation* documentation, layout of the attestation report.

use legation_core::{Rejection, encoding};
use serde::Deserialize;

use super::check::Check;
use crate::tpm::{HashAlg, Key, Malformed, Reader};

/// Largest report of the paravisor read, in bytes. Its NV index has 2600.
pub const HCL_MAX: usize = 8 * 1024;
/// Where the hardware report begins.
const HARDWARE: usize = 32;
/// Bytes of the hardware report.
const HARDWARE_LEN: usize = 1184;
/// Bytes between the hardware report and the runtime data.
const HEAD_LEN: usize = 20;
const SIGNATURE: &[u8; 4] = b"HCLA";
/// Report types: SEV-SNP and TDX.
const TYPE_SNP: u32 = 2;
const TYPE_TDX: u32 = 4;
/// Where a TDREPORT has its report data (Intel TDX module ABI, REPORTMACSTRUCT), and where MRTD (TDINFO_STRUCT).
const TD_REPORT_DATA: usize = 128;
const TD_MRTD: usize = 512 + 16;
/// The paravisor's attestation key.
const ATTESTATION_KEY: &str = "HCLAkPub";
/// Most keys in the runtime data.
const KEYS_MAX: usize = 16;

/// What hardware the paravisor runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hardware {
    /// AMD SEV-SNP.
    Snp,
    /// Intel TDX.
    Tdx,
}

/// A paravisor's report, read and not believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HclReport<'a> {
    /// Of which hardware it is.
    pub hardware: Hardware,
    /// The hardware's report: 1184 bytes of an SNP report, or a TDREPORT and zeros.
    pub report: &'a [u8],
    /// Hash of the runtime data, as the hardware must carry it.
    pub digest: Vec<u8>,
    /// The runtime data, JSON.
    pub runtime: &'a [u8],
}

impl<'a> HclReport<'a> {
    /// Reads a report. What stands behind the runtime data must be zeros.
    ///
    /// # Errors
    /// `az.hcl`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Rejection> {
        Self::read(bytes).map_err(|e| {
            Check::Hcl
                .refuse("form of the paravisor's report", "a header, a hardware report and runtime data", e)
                .fix("send NV index 01400001h of the vTPM as it is")
        })
    }

    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let value = |what: &'static str, got: String| Malformed::Value { what, got };
        if bytes.len() > HCL_MAX {
            return Err(Malformed::TooLarge { what: "the paravisor's report", got: bytes.len(), max: HCL_MAX });
        }
        let mut r = Reader::new(bytes);
        let signature = r.array::<4>("signature")?;
        if &signature != SIGNATURE {
            return Err(value("signature", encoding::hex(&signature)));
        }
        let version = r.u32_le("version")?;
        if !(1..=2).contains(&version) {
            return Err(value("version", version.to_string()));
        }
        r.take(HARDWARE - 8, "header")?;
        let report = r.take(HARDWARE_LEN, "hardware report")?;
        let size = r.u32_le("size of the runtime part")? as usize;
        r.u32_le("version of the runtime part")?;
        let hardware = match r.u32_le("report type")? {
            TYPE_SNP => Hardware::Snp,
            TYPE_TDX => Hardware::Tdx,
            other => return Err(value("report type", format!("{other}, neither SNP nor TDX"))),
        };
        let alg = match r.u32_le("hash type")? {
            1 => HashAlg::Sha256,
            2 => HashAlg::Sha384,
            other => return Err(value("hash type", format!("{other}, neither SHA-256 nor SHA-384"))),
        };
        let len = r.u32_le("size of the runtime data")? as usize;
        if len.checked_add(HEAD_LEN) != Some(size) {
            return Err(value("size of the runtime part", format!("{size} around runtime data of {len}")));
        }
        let runtime = r.take(len, "runtime data")?;
        if r.rest().iter().any(|b| *b != 0) {
            return Err(Malformed::Trailing(r.rest().len()));
        }
        Ok(Self { hardware, report, digest: alg.digest(&[runtime]), runtime })
    }

    /// What the report data of the hardware must be: the hash of the runtime data, then zeros.
    pub fn report_data(&self) -> Vec<u8> {
        let mut out = self.digest.clone();
        out.resize(64, 0);
        out
    }

    /// Report data and MRTD of the TDREPORT. Nobody but its own CPU can verify a TDREPORT: they count for as much as a
    /// quote repeats them.
    pub(super) fn trust_domain(&self) -> Option<(&'a [u8], &'a [u8])> {
        let field = |at: usize, len: usize| self.report.get(at..)?.get(..len);
        Some((field(TD_REPORT_DATA, 64)?, field(TD_MRTD, 48)?))
    }
}

/// What the paravisor says in its runtime data; further fields are nobody's business here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Runtime {
    /// The vTPM's attestation key.
    pub ak: Key,
    /// Whether the firmware it gave the guest enforces secure boot.
    pub secure_boot: Option<bool>,
}

#[derive(Deserialize)]
struct Wire {
    keys: Vec<WireKey>,
    #[serde(rename = "vm-configuration")]
    configuration: Option<WireConfiguration>,
}

#[derive(Deserialize)]
struct WireConfiguration {
    #[serde(rename = "secure-boot")]
    secure_boot: Option<bool>,
}

#[derive(Deserialize)]
struct WireKey {
    kid: String,
    kty: String,
    e: Option<String>,
    n: Option<String>,
}

impl Runtime {
    /// Reads runtime data.
    ///
    /// # Errors
    /// `az.runtime-data` without exactly one RSA key of the attestation key's name.
    pub fn parse(json: &[u8]) -> Result<Self, Rejection> {
        let refuse = |got: String| {
            Check::Runtime
                .refuse("runtime data of the paravisor", format!("JSON with one RSA key `{ATTESTATION_KEY}`"), got)
                .fix("send NV index 01400001h of the vTPM as it is")
        };
        let wire: Wire = serde_json::from_slice(json).map_err(|e| refuse(e.to_string()))?;
        if wire.keys.len() > KEYS_MAX {
            return Err(refuse(format!("{} keys, more than {KEYS_MAX}", wire.keys.len())));
        }
        let mut named = wire.keys.iter().filter(|key| key.kid == ATTESTATION_KEY);
        let (Some(key), None) = (named.next(), named.next()) else {
            return Err(refuse("none, or more than one".to_owned()));
        };
        let number = |text: &Option<String>| text.as_deref().and_then(unbase64_url);
        let (Some(modulus), Some(exponent), "RSA") = (number(&key.n), number(&key.e), key.kty.as_str()) else {
            return Err(refuse(format!("a key of type `{}` without its numbers", key.kty)));
        };
        let exponent = exponent.iter().try_fold(0_u32, |n, b| n.checked_mul(256)?.checked_add(u32::from(*b)));
        let ak = Key::rsa(&modulus, exponent.unwrap_or(0)).map_err(|e| refuse(e.to_string()))?;
        Ok(Self { ak, secure_boot: wire.configuration.and_then(|c| c.secure_boot) })
    }
}

/// Base64 with the alphabet for URLs (RFC 4648 section 5), with or without padding.
pub(super) fn unbase64_url(text: &str) -> Option<Vec<u8>> {
    let bare = text.trim_end_matches('=');
    let padded = bare.replace('-', "+").replace('_', "/") + &"=".repeat((4 - bare.len() % 4) % 4);
    encoding::unbase64(&padded).ok()
}

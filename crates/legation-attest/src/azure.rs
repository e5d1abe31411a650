//! Azure confidential VMs, whose guests reach the hardware through a paravisor's vTPM alone: from a vTPM quote and the
//! paravisor's report to claims.
//!
//! The hardware measures the paravisor and signs a report that carries the hash of the runtime data. Those name the
//! vTPM's attestation key, and that key signs the quote over the guest's registers and over what the guest binds. So
//! the claims are the hardware's, the measurement is the paravisor's, and what the guest itself started is in the
//! registers `pcr0` to `pcr23`, by the word of measured software: hold a machine to them too. The privilege level is
//! the paravisor's, not the guest's.
//!
//! It is pure, as [`crate::tpm`] and [`crate::snp`] are; what verifies a TDX quote is an argument of [`verify_tdx`].
//!
//! These checks are made, in this order; each has the stable name that its rejection carries:
//!
//! 1. `az.report`: the report is JSON of this version, at most [`REPORT_MAX`] bytes, nothing twice, nothing unknown.
//! 2. `az.hcl`: the paravisor's report has its layout, is of the hardware asked for, and its hash is SHA-256 or SHA-384.
//! 3. `az.runtime-data`: the runtime data are JSON with exactly one RSA key `HCLAkPub`.
//! 4. `tpm.quote`, `tpm.signature`, `tpm.selection`, `tpm.values`, `tpm.clock`: the quote under that key, by the list
//!    in [`crate::tpm`]. What the quote binds may have any length here: the claims say it, and whoever asked compares.
//! 5. `az.endorsements`: VCEK, and at most ASK; none with a TDX quote.
//! 6. `snp.*`: the SNP report, by the list in [`crate::snp`], against AMD's roots; or the TDX quote, by the caller's.
//! 7. `az.binding`: the report data of the hardware are the hash of the runtime data, then zeros.
//! 8. `az.trust-domain`: with TDX, the quote's MRTD is that of the TDREPORT in the paravisor's report.
//!
//! The attestation key comes without its public area: that it is restricted to what the vTPM says is the paravisor's
//! doing, which the hardware measured.

mod check;
mod hcl;
mod trustee;

use legation_core::{
    Rejection, UnixTime,
    claims::{Attested, Claims, TeeKind},
    encoding::{self, b64},
};
use serde::{Deserialize, Serialize};

pub use check::Check;
pub use hcl::{HCL_MAX, Hardware, HclReport, Runtime};
pub use trustee::{TRUSTEE_MAX, from_trustee_json};

use crate::{
    check::Trail,
    snp::{self, AmdRoots, ChainCache, Crl},
    tpm::{self, Given, Pcrs, Quoted, SECURE_BOOT},
};

/// Largest report, in bytes of JSON.
pub const REPORT_MAX: usize = 64 * 1024;

/// What an attester sends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The paravisor's report: NV index 01400001h of the vTPM.
    #[serde(with = "b64")]
    pub hcl: Vec<u8>,
    /// `TPMS_ATTEST` of the vTPM, as it gave it.
    #[serde(with = "b64")]
    pub quote: Vec<u8>,
    /// `TPMT_SIGNATURE` over it.
    #[serde(with = "b64")]
    pub signature: Vec<u8>,
    /// Values of the quoted registers, by bank (`sha256`) and index, in lower-case hexadecimal.
    #[serde(with = "tpm::pcrs")]
    pub pcrs: Pcrs,
    /// TDX quote over the TDREPORT in the paravisor's report.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "tpm::optional_b64")]
    pub td_quote: Option<Vec<u8>>,
}

impl Report {
    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`Self::encode`] writes.
    ///
    /// # Errors
    /// `az.report`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Rejection> {
        let refuse = |expected: String, got: String| {
            Check::Report.refuse("form of the report", expected, got).fix("run agent and verifier of one version")
        };
        if bytes.len() > REPORT_MAX {
            return Err(refuse(format!("at most {REPORT_MAX} bytes"), bytes.len().to_string()));
        }
        let expected = "JSON of an Azure report of this version";
        serde_json::from_slice(bytes).map_err(|e| refuse(expected.to_owned(), e.to_string()))
    }
}

/// What the vTPM and the paravisor said, before the hardware's word on it.
struct Said<'a> {
    hcl: HclReport<'a>,
    runtime: Runtime,
    quoted: Quoted,
}

/// Verifies the report of a VM on SEV-SNP against AMD's roots as of `at`: endorsements are VCEK and, where there is one,
/// ASK. `grace` is for revocation lists past their next update, in seconds.
///
/// # Errors
/// The first check that refuses.
pub fn verify_snp(
    report: &[u8],
    endorsements: &[Vec<u8>],
    roots: &AmdRoots,
    cache: &ChainCache,
    crls: &[Crl],
    grace: u64,
    at: UnixTime,
) -> Result<Claims, Rejection> {
    let trust = AmdTrust { roots, cache, crls, grace };
    verify_snp_on(report, endorsements, &trust, at, &mut |_| ())
}

/// What the chain of a SEV-SNP report is held against.
pub(crate) struct AmdTrust<'a> {
    pub(crate) roots: &'a AmdRoots,
    pub(crate) cache: &'a ChainCache,
    pub(crate) crls: &'a [Crl],
    /// Seconds for which a list past its next update is still believed.
    pub(crate) grace: u64,
}

/// As [`verify_snp`], noting each check that passes.
pub(crate) fn verify_snp_on(
    report: &[u8],
    endorsements: &[Vec<u8>],
    trust: &AmdTrust<'_>,
    at: UnixTime,
    passed: Trail<'_>,
) -> Result<Claims, Rejection> {
    let report = Report::parse(report)?;
    passed(Check::Report.id());
    let said = said_on(&report, Hardware::Snp, passed)?;
    let (leaf, intermediate) = match endorsements {
        [leaf] => (leaf, None),
        [leaf, intermediate] => (leaf, Some(intermediate.as_slice())),
        other => return Err(number_of_endorsements("VCEK, or VCEK and ASK", other.len())),
    };
    passed(Check::Endorsements.id());
    let presented =
        snp::Presented { report: said.hcl.report, leaf, intermediate, crls: trust.crls, grace: trust.grace };
    let claims = snp::verify_on(&presented, trust.roots, trust.cache, at, passed)?;
    check_binding(&said.hcl, &claims)?;
    passed(Check::Binding.id());
    Ok(finish(TeeKind::AzSnpVtpm, &said, &report.pcrs, claims))
}

/// Verifies the report of a VM on TDX; `quote` verifies its TDX quote.
///
/// # Errors
/// The first check that refuses.
pub fn verify_tdx(
    report: &[u8],
    endorsements: &[Vec<u8>],
    quote: impl FnOnce(&[u8]) -> Result<Claims, Rejection>,
) -> Result<Claims, Rejection> {
    verify_tdx_on(report, endorsements, quote, &mut |_| ())
}

/// As [`verify_tdx`], noting each check that passes; those of the quote are for who verifies it to note.
pub(crate) fn verify_tdx_on(
    report: &[u8],
    endorsements: &[Vec<u8>],
    quote: impl FnOnce(&[u8]) -> Result<Claims, Rejection>,
    passed: Trail<'_>,
) -> Result<Claims, Rejection> {
    let report = Report::parse(report)?;
    passed(Check::Report.id());
    let said = said_on(&report, Hardware::Tdx, passed)?;
    if !endorsements.is_empty() {
        return Err(number_of_endorsements("none: a TDX quote brings its own", endorsements.len()));
    }
    let Some(td_quote) = &report.td_quote else {
        return Err(Check::Endorsements
            .refuse("TDX quote", "one over the TDREPORT of the paravisor's report", "none")
            .fix("have the platform quote the TDREPORT, and send the quote"));
    };
    passed(Check::Endorsements.id());
    let claims = quote(td_quote)?;
    check_binding(&said.hcl, &claims)?;
    passed(Check::Binding.id());
    check_domain(&said.hcl, &claims)?;
    passed(Check::Domain.id());
    Ok(finish(TeeKind::AzTdxVtpm, &said, &report.pcrs, claims))
}

fn said_on<'a>(report: &'a Report, hardware: Hardware, passed: Trail<'_>) -> Result<Said<'a>, Rejection> {
    let hcl = HclReport::parse(&report.hcl)?;
    if hcl.hardware != hardware {
        return Err(Check::Hcl
            .refuse("hardware of the paravisor's report", format!("{hardware:?}"), format!("{:?}", hcl.hardware))
            .fix("send the evidence as the kind of machine it is of"));
    }
    passed(Check::Hcl.id());
    let runtime = Runtime::parse(hcl.runtime)?;
    passed(Check::Runtime.id());
    let given = Given { quote: &report.quote, signature: &report.signature, pcrs: &report.pcrs, barred: &[] };
    let quoted = tpm::quoted_on(&given, &runtime.ak, None, &[], passed)?;
    Ok(Said { hcl, runtime, quoted })
}

fn number_of_endorsements(expected: &str, got: usize) -> Rejection {
    Check::Endorsements
        .refuse("number of endorsements", expected, got)
        .fix("send the certificates of the hardware's report alone; the root is never sent")
}

fn check_binding(hcl: &HclReport<'_>, claims: &Claims) -> Result<(), Rejection> {
    let expected = encoding::hex(&hcl.report_data());
    if claims.report_data == expected {
        return Ok(());
    }
    Err(Check::Binding
        .refuse("report data of the hardware's report", expected, &claims.report_data)
        .fix("send the paravisor's report and the hardware's of one boot"))
}

fn check_domain(hcl: &HclReport<'_>, claims: &Claims) -> Result<(), Rejection> {
    let (report_data, mrtd) = hcl.trust_domain().unwrap_or_default();
    let (report_data, mrtd) = (encoding::hex(report_data), encoding::hex(mrtd));
    if report_data == claims.report_data && mrtd == claims.measurement.value {
        return Ok(());
    }
    let got = format!("MRTD {} over {}", claims.measurement.value, claims.report_data);
    Err(Check::Domain
        .refuse("trust domain of the TDX quote", format!("MRTD {mrtd} over {report_data}"), got)
        .fix("have the platform quote the TDREPORT of this boot"))
}

/// The hardware's claims, with what the vTPM adds.
fn finish(kind: TeeKind, said: &Said<'_>, pcrs: &Pcrs, claims: Claims) -> Claims {
    let mut registers = claims.registers;
    registers.extend(tpm::registers(pcrs));
    let mut features = claims.features;
    if let Some(on) = said.runtime.secure_boot {
        // The weaker source of the two: what is absent is absent by the paravisor's word.
        let mut names = features.map(|f| f.value).unwrap_or_default();
        names.extend(on.then(|| SECURE_BOOT.to_owned()));
        features = Some(Attested::measured(names));
    }
    Claims {
        tee: Attested { value: kind, ..claims.tee },
        registers,
        features,
        report_data: encoding::hex(&said.quoted.quote.extra_data),
        ..claims
    }
}

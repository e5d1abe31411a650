//! NVIDIA GPUs in confidential mode: from an SPDM transcript and its certificates to what the GPU is.
//!
//! It is evidence of a device of a machine, never of a machine: it says that a genuine GPU answered a nonce. Which
//! machine asked is for whoever chose the nonce: [`legation_core::claims::DeviceEvidence`] takes the first 32 bytes of
//! the machine's own report data.
//!
//! It is pure. It does not compare measurements with NVIDIA's reference values (RIM), which are signed XML that NVIDIA
//! serves, and does not ask NVIDIA's OCSP service about certificates: it hands the measurements and versions out, for
//! policy to compare. So it proves *which* GPU with which driver and firmware, and not that the firmware is free of
//! known holes, nor that confidential mode is on: the driver of a machine that was itself measured says that.
//!
//! Sources: *Security Protocol and Data Model*, DMTF DSP0274 1.1; the fields of the opaque data as NVIDIA's attestation
//! SDK reads them; TCG *DICE Attestation Architecture*; RFC 5280.
//!
//! [`verify`] makes these checks, in this order; each has the stable name that its rejection carries:
//!
//!  1. `nvidia.transcript`: the report is, byte for byte, one SPDM 1.1 GET_MEASUREMENTS for all measurements with a
//!     signature from slot 0, and one MEASUREMENTS answer; at most [`REPORT_MAX`] bytes, nothing behind.
//!  2. `nvidia.measurements`: every block is a SHA-384 value in DMTF's form; they are numbered from 1 on without gaps.
//!  3. `nvidia.opaque`: the opaque data hold fields that NVIDIA defines, each once, of the size they must have;
//!     versions of driver and VBIOS are among them.
//!  4. `nvidia.nonce`: the nonce in the request is the expected one.
//!  5. `nvidia.certificate`: the certificates are X.509 of version 3, at most [`crate::x509::LINKS_MAX`] of them.
//!  6. `nvidia.root`: the chain ends in NVIDIA's device identity root, pinned by the SHA-256 of its DER.
//!  7. `nvidia.chain`: names, authorities, path lengths and signatures hold from root to leaf; the leaf's key is for
//!     signatures; there are a leaf, a device certificate and an authority at least.
//!  8. `nvidia.dates`: every certificate is inside its dates at `at`.
//!  9. `nvidia.architecture`: leaf and device certificate have the name of one Hopper or Blackwell GPU.
//! 10. `nvidia.signature`: the leaf's key, on P-384, signed all bytes before the signature, as they came.
//! 11. `nvidia.firmware`: the leaf names the firmware it was issued for, and where the report names one, it is that.

mod check;
mod firmware;
mod transcript;

use std::collections::BTreeMap;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use legation_core::{
    Digest, Rejection, UnixTime,
    claims::{Anchor, Gpu},
    encoding,
};

pub use check::Check;
#[cfg(fuzzing)]
pub(crate) use firmware::certified as firmware_named;
pub use transcript::{FIELDS_MAX, Mode, REPORT_MAX, Transcript};

use crate::{
    check::Trail,
    x509::{self, Certificate, ChainCache, Key, Root, Rules, Trust},
};

/// SHA-256 of the DER of `CN=NVIDIA Device Identity CA, O=NVIDIA`. NVIDIA prints no fingerprint; this one is computed
/// from the certificate at the end of the chains in the sample evidence of its attestation SDK, and pinned.
pub const ROOT: Digest = Digest::from_bytes([
    0x10, 0x2b, 0xf6, 0x59, 0xd5, 0x41, 0x96, 0x14, 0xc9, 0xd8, 0xe6, 0xae, 0xce, 0xbc, 0x80, 0x45, 0x4e, 0xb2, 0x6b,
    0x1d, 0xf6, 0xa7, 0x69, 0xac, 0x72, 0x0b, 0x9a, 0x69, 0x0b, 0x16, 0x7b, 0x48,
]);
/// Name of NVIDIA's root in verdicts.
pub const ROOT_NAME: &str = "nvidia-device-identity";

/// How chains of GPUs are judged.
const RULES: Rules = Rules {
    certificate: Check::Certificate.id(),
    root: Check::Root.id(),
    chain: Check::Chain.id(),
    dates: Check::Dates.id(),
    revocation: None,
    understood: &[],
    purpose: None,
    signs: true,
    fix: "send the certificates as the GPU's driver gave them, leaf first",
};

/// How leaves' common names begin, with the architecture.
const ARCHITECTURES: [(&str, &str); 2] = [("GH", "hopper"), ("GB", "blackwell")];

/// What a verified transcript shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GpuEvidence {
    /// What claims say of it. Its chip is the SHA-256 of the key in its device certificate, which the boot ROM holds;
    /// the leaf's key changes with the firmware.
    pub gpu: Gpu,
    /// What the verdict rests on.
    pub anchor: Anchor,
    /// SHA-384 measurements by index, lower-case hex; to be compared with NVIDIA's reference values by whoever has
    /// them.
    pub measurements: BTreeMap<u8, String>,
    /// Project and SKU, as NVIDIA names reference values by, where the driver reports them.
    pub board: Option<String>,
    /// SHA-384 of the firmware that the leaf was issued for, lower-case hex.
    pub firmware: String,
    /// How GPUs of the machine share secrets, where the driver reports it.
    pub mode: Option<Mode>,
    /// Whether the video decoder is on, where the driver reports it.
    pub decoder: Option<bool>,
}

/// Verifies a GPU's report over `nonce` with its certificates, leaf first, root last, as of `at`. The module's list
/// says what is checked.
///
/// # Errors
/// The first check that refuses.
pub fn verify(
    report: &[u8],
    chain: &[Vec<u8>],
    nonce: &[u8; 32],
    at: UnixTime,
    cache: &ChainCache,
) -> Result<GpuEvidence, Rejection> {
    verify_on(report, chain, nonce, at, cache, &mut |_| ())
}

/// As [`verify`], noting each check that passes.
pub(crate) fn verify_on(
    report: &[u8],
    chain: &[Vec<u8>],
    nonce: &[u8; 32],
    at: UnixTime,
    cache: &ChainCache,
    passed: Trail<'_>,
) -> Result<GpuEvidence, Rejection> {
    let transcript = Transcript::parse_on(report, passed)?;
    if transcript.nonce != *nonce {
        return Err(Check::Nonce
            .refuse("nonce of the request", encoding::hex(nonce), encoding::hex(&transcript.nonce))
            .fix("ask the GPU for a report over the first 32 bytes of the machine's report data"));
    }
    passed(Check::Nonce.id());

    let ders: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    let roots = [Root::pinned(Anchor::Production(ROOT_NAME.to_owned()), ROOT)];
    let trust = Trust { roots: &roots, crls: &[], grace: 0, rules: &RULES };
    let chain = x509::chain_on(&ders, &trust, cache, at, passed)?;
    let leaf = chain.leaf();
    let [_, device, _, ..] = chain.keys() else {
        return Err(Check::Chain
            .refuse(
                "number of certificates",
                "a leaf, its device certificate and NVIDIA's above them",
                chain.keys().len(),
            )
            .fix(RULES.fix));
    };

    // The device certificate names the chip too. NVIDIA's own, which many chips share, do not begin so.
    let names = [&leaf.common_name, &leaf.issuer_common_name].map(|name| name.as_deref().unwrap_or_default());
    let Some((_, model)) = ARCHITECTURES.iter().find(|(begin, _)| names.iter().all(|n| n.starts_with(begin))) else {
        return Err(Check::Architecture
            .refuse("names of leaf and device", "of one Hopper (GH..) or Blackwell (GB..) GPU", names.join(", "))
            .fix("run a version that knows this architecture"));
    };
    passed(Check::Architecture.id());
    check_signature(report, &transcript, leaf)?;
    passed(Check::Signature.id());
    let firmware = certified_firmware(&transcript, leaf)?;
    passed(Check::Firmware.id());

    Ok(GpuEvidence {
        gpu: Gpu {
            model: (*model).to_owned(),
            driver: transcript.driver,
            firmware: transcript.vbios,
            chip: device.to_string(),
            anchor: chain.anchor().name().to_owned(),
        },
        anchor: chain.anchor().clone(),
        measurements: transcript.measurements.iter().map(|(index, value)| (*index, encoding::hex(value))).collect(),
        board: transcript.board,
        firmware: encoding::hex(&firmware),
        mode: transcript.mode,
        decoder: transcript.decoder,
    })
}

fn check_signature(report: &[u8], transcript: &Transcript, leaf: &Certificate) -> Result<(), Rejection> {
    let refuse = |got: &str| {
        Err(Check::Signature
            .refuse("signature of the report", "by the leaf's key on P-384 over request and answer", got)
            .fix("send the report as the GPU's driver gave it, with the certificates of the same GPU"))
    };
    let Key::P384(key) = leaf.key() else { return refuse(leaf.key().kind()) };
    let signed = report.get(..transcript.signed_len).unwrap_or_default();
    match UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key).verify(signed, &transcript.signature) {
        Ok(()) => Ok(()),
        Err(_) => refuse("another signature"),
    }
}

fn certified_firmware(transcript: &Transcript, leaf: &Certificate) -> Result<[u8; 48], Rejection> {
    let fix = "send the report with the certificates that the GPU gave in the same boot";
    let Some(certified) = firmware::certified(leaf) else {
        return Err(Check::Firmware.refuse("firmware of the leaf", "a SHA-384 in its DICE extension", "none").fix(fix));
    };
    match transcript.firmware {
        Some(reported) if reported != certified => Err(Check::Firmware
            .refuse("firmware of the report", encoding::hex(&certified), encoding::hex(&reported))
            .fix(fix)),
        _ => Ok(certified),
    }
}

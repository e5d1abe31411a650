//! AMD SEV-SNP: from a report and its certificates to claims.
//!
//! It is pure: certificates, revocation lists and the time are arguments. It takes no policy either: whether debugging,
//! a privilege level or an old security version is acceptable is for [`crate::appraisal`], which finds them in the
//! claims.
//!
//! Sources: *SEV Secure Nested Paging Firmware ABI Specification*, AMD 56860 (the report); *Versioned Chip Endorsement
//! Key (VCEK) Certificate and KDS Interface Specification*, AMD 57230 (the certificates); RFC 5280, RFC 4055.
//!
//! [`verify`] makes these checks, in this order; each has the stable name that its rejection carries:
//!
//!  1. `snp.length`: the report has exactly 1184 bytes.
//!  2. `snp.version`: its version is 2, 3, 4 or 5.
//!  3. `snp.reserved`: every reserved bit and byte is zero, in the signed part, in the padding of the signature's two
//!     integers and behind them; bit 17 of the policy is one.
//!  4. `snp.algorithm`: SIGNATURE_ALGO is 1, ECDSA P-384 with SHA-384.
//!  5. `snp.certificate`: leaf and intermediate are X.509 of AMD's profile: DER to the last byte, version 3, RSASSA-PSS
//!     with SHA-384 and a salt of 48 bytes, RSA-4096 or P-384, no extension that is unknown and critical or unreadable.
//!  6. `snp.root`: the intermediate's issuer is a root pinned for this kind of evidence.
//!  7. `snp.chain`: the root's key signed the intermediate, the intermediate's key the leaf, by raw bytes; names match;
//!     root and intermediate are authorities with certificate signing in their key usage, the leaf is none.
//!  8. `snp.dates`: leaf, intermediate and root are inside their dates at `at`.
//!  9. `snp.crl`: every revocation list at hand of that root is signed by it, was issued by `at`, is not past its next
//!     update (by more than the grace, which the claims then say), and does not name the intermediate.
//! 10. `snp.extensions`: the leaf has AMD's extensions, well-formed, with either a chip's id (VCEK) or a cloud
//!     provider's (VLEK), a common name that says the same, and was issued by the intermediate for that kind of leaf.
//! 11. `snp.signing-key`: SIGNING_KEY names the kind of the leaf, MASK_CHIP_KEY is clear (the signature would be
//!     zeros), AUTHOR_KEY_DIGEST is zeros unless AUTHOR_KEY_EN is set.
//! 12. `snp.product`: the leaf's product is the root's, and, from version 3 on, that of the CPUID family and model.
//! 13. `snp.chip-id`: with a VCEK, CHIP_ID is the certified one (on Turin: its 8 bytes, then zeros). A masked (zero)
//!     CHIP_ID is accepted: the VCEK itself is the chip's, and its certificate says which.
//! 14. `snp.tcb`: REPORTED_TCB equals the certified security version; REPORTED_TCB and COMMITTED_TCB are not above
//!     CURRENT_TCB in any component; the committed firmware is not newer than the current one.
//! 15. `snp.signature`: the leaf's key signed bytes 0 to 29Fh of the report, as they came.
//! 16. `snp.migration`: a guest whose policy lets it migrate has no migration agent (REPORT_ID_MA is all ones):
//!     with one it could leave the chip the claims name.
//! 17. `snp.vmpl`: the report was asked for from privilege level 0 to 3, not by the hypervisor.
//!
//! ECDSA lets anybody turn a signature into a second valid one for the same bytes. So a report's identity is a hash of
//! bytes 0 to 29Fh ([`signed_part`]), never of the whole.

mod certificate;
mod chain;
mod check;
mod crl;
mod features;
mod leaf;
mod report;
mod roots;
mod tcb;
#[cfg(test)]
mod tests;
mod vcek;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use legation_core::{
    Rejection, UnixTime,
    claims::{Attested, Claims, RevocationCheck, Tcb},
    encoding,
};

pub use certificate::CERTIFICATE_MAX;
pub use chain::{Chain, ChainCache};
pub use check::Check;
pub use crl::Crl;
pub use leaf::CSP_ID_MAX;
pub use report::{
    Cpuid, FirmwareVersion, GuestPolicy, KeyFlags, REPORT_LEN, RawTcb, Report, SIGNED_LEN, SigningKey, VMPL_HYPERVISOR,
    VMPL_MAX,
};
pub use roots::{AmdRoots, DEVELOPMENT, DEVELOPMENT_ROOTS_MAX, DevelopmentRoots, LeafKind, Root, RootSet};
pub use tcb::{Product, TcbError, TcbVersion};
pub use vcek::Vcek;

pub(crate) use crate::check::Trail;
pub(crate) use certificate::Certificate;
use leaf::{Holder, Leaf};
pub(crate) use leaf::{Holder as LeafHolder, Leaf as LeafCertificate};
pub(crate) use roots::DEVELOPMENT_ASK;

/// A report and the certificates that came with it, and the collateral the verifier holds.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The report.
    pub report: &'a [u8],
    /// VCEK or VLEK, DER.
    pub leaf: &'a [u8],
    /// ASK or ASVK, DER; the built-in ASK is used when there is none.
    pub intermediate: Option<&'a [u8]>,
    /// Revocation lists, of any root: those of the chain's root are checked.
    pub crls: &'a [Crl],
    /// Seconds for which a list past its next update is still believed; 0 for not at all.
    pub grace: u64,
}

/// The bytes of a report that its signature covers: what to hash where a report needs an identity.
pub fn signed_part(report: &[u8]) -> Option<&[u8]> {
    (report.len() == REPORT_LEN).then(|| &report[..SIGNED_LEN])
}

/// Verifies a report against pinned roots as of `at`. The module's list says what is checked.
///
/// # Errors
/// The first check that refuses.
pub fn verify<R: RootSet>(
    presented: &Presented<'_>,
    roots: &R,
    cache: &ChainCache,
    at: UnixTime,
) -> Result<Claims, Rejection> {
    verify_on(presented, roots, cache, at, &mut |_| ())
}

/// As [`verify`], noting each check that passes.
pub(crate) fn verify_on<R: RootSet>(
    presented: &Presented<'_>,
    roots: &R,
    cache: &ChainCache,
    at: UnixTime,
    passed: Trail<'_>,
) -> Result<Claims, Rejection> {
    let report = Report::parse_on(presented.report, passed)?;
    let chain = chain::chain(presented, roots, cache, at, passed)?;
    let leaf = &chain.leaf;

    check_signing_key(&report, &leaf.holder)?;
    passed(Check::SigningKey.id());
    check_product(&report, leaf.product, chain.root_product)?;
    passed(Check::Product.id());
    check_chip(&report, leaf)?;
    passed(Check::ChipId.id());
    check_tcb(&report, leaf)?;
    passed(Check::Tcb.id());
    check_signature(presented.report, &report, leaf)?;
    passed(Check::Signature.id());
    check_migration(&report)?;
    passed(Check::Migration.id());
    if report.vmpl > VMPL_MAX {
        return Err(Check::Vmpl
            .refuse("privilege level", format!("0 to {VMPL_MAX}"), report.vmpl)
            .fix("ask for the report from inside the guest"));
    }
    passed(Check::Vmpl.id());

    let claims = Claims::basic(
        R::KIND,
        chain.anchor.clone(),
        encoding::hex(&report.measurement),
        chip(&report, leaf),
        Attested::hardware(Tcb::unknown(leaf.tcb.to_string())),
        Attested::endorsed(leaf.product.name().to_owned()),
        encoding::hex(&report.report_data),
    );
    Ok(Claims {
        registers: features::registers(&report),
        features: Some(Attested::hardware(features::features(&report))),
        debug: Attested::hardware(report.policy.debug()),
        vmpl: Some(Attested::hardware(report.vmpl)),
        stale_since: chain.stale_since,
        revocation: RevocationCheck::of(chain.lists > 0),
        ..claims
    })
}

fn check_signing_key(report: &Report, holder: &Holder) -> Result<(), Rejection> {
    let expected = match holder {
        Holder::Chip(_) => SigningKey::Vcek,
        Holder::Provider(_) => SigningKey::Vlek,
    };
    let flags = report.key_flags;
    if flags.signing_key() != expected {
        return Err(Check::SigningKey
            .refuse("SIGNING_KEY of the report", format!("{expected:?}"), format!("{:?}", flags.signing_key()))
            .fix("send the certificate of the key that signed: VCEK for the chip's, VLEK for the cloud provider's"));
    }
    if flags.mask_chip_key() {
        return Err(Check::SigningKey
            .refuse("MASK_CHIP_KEY of the report", "0", "1: the firmware wrote zeros for a signature")
            .fix("have the host configure the firmware to sign reports"));
    }
    if !flags.author_key() && report.author_key_digest != [0; 48] {
        return Err(Check::SigningKey.refuse("AUTHOR_KEY_DIGEST without AUTHOR_KEY_EN", "zeros", "a digest"));
    }
    Ok(())
}

fn check_product(report: &Report, certified: Product, root: Option<Product>) -> Result<(), Rejection> {
    if let Some(root) = root.filter(|root| *root != certified) {
        return Err(Check::Product.refuse("product of the leaf", root, certified));
    }
    let Some(cpuid) = report.cpuid else { return Ok(()) };
    if Product::from_cpuid(cpuid.family, cpuid.model) != Some(certified) {
        let got = format!("family {:02x}h model {:02x}h stepping {}", cpuid.family, cpuid.model, cpuid.stepping);
        return Err(Check::Product
            .refuse("processor of the report", certified, got)
            .fix("send the certificate of the chip that made the report"));
    }
    Ok(())
}

fn check_chip(report: &Report, leaf: &Leaf) -> Result<(), Rejection> {
    let (id, padding) = report.chip_id.split_at(leaf.product.hwid_len());
    let hwid = match &leaf.holder {
        Holder::Chip(hwid) if !report.chip_masked() => hwid.as_slice(),
        // A masked id says nothing, and a VLEK certifies no chip.
        _ => id,
    };
    if id != hwid || padding.iter().any(|b| *b != 0) {
        return Err(Check::ChipId
            .refuse("CHIP_ID of the report", encoding::hex(hwid), encoding::hex(&report.chip_id))
            .fix("send the VCEK of the chip that made the report"));
    }
    Ok(())
}

fn check_tcb(report: &Report, leaf: &Leaf) -> Result<(), Rejection> {
    let read = |name: &str, bytes: RawTcb| {
        TcbVersion::decode(leaf.product, bytes)
            .ok_or_else(|| Check::Tcb.refuse(format!("reserved bytes of {name}"), "zeros", encoding::hex(&bytes)))
    };
    let reported = read("REPORTED_TCB", report.reported_tcb)?;
    let current = read("CURRENT_TCB", report.current_tcb)?;
    let committed = read("COMMITTED_TCB", report.committed_tcb)?;
    read("LAUNCH_TCB", report.launch_tcb)?;
    if reported != leaf.tcb {
        return Err(Check::Tcb
            .refuse("REPORTED_TCB of the report", leaf.tcb, reported)
            .fix("fetch the certificate for the security version the report names"));
    }
    for (name, version) in [("REPORTED_TCB", reported), ("COMMITTED_TCB", committed)] {
        if !current.at_least(&version) {
            return Err(Check::Tcb.refuse(format!("{name} of the report"), format!("at most {current}"), version));
        }
    }
    if report.committed > report.current {
        let text = |v: FirmwareVersion| format!("{}.{}.{}", v.major, v.minor, v.build);
        let expected = format!("at most {}", text(report.current));
        return Err(Check::Tcb.refuse("committed firmware version", expected, text(report.committed)));
    }
    Ok(())
}

fn check_signature(bytes: &[u8], report: &Report, leaf: &Leaf) -> Result<(), Rejection> {
    let signed = signed_part(bytes).unwrap_or_default();
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &leaf.key).verify(signed, &report.signature).map_err(|_| {
        Check::Signature
            .refuse("signature of the report", "by the leaf's key over bytes 0 to 29Fh", "another signature")
            .fix("send the report as the firmware wrote it, with the certificate of the key that signed it")
    })
}

fn check_migration(report: &Report) -> Result<(), Rejection> {
    if report.policy.migration() && report.report_id_ma != [0xff; 32] {
        return Err(Check::Migration
            .refuse(
                "REPORT_ID_MA of a guest that may migrate",
                "all ones: no agent",
                encoding::hex(&report.report_id_ma),
            )
            .fix("launch the guest without a migration agent"));
    }
    Ok(())
}

/// The chip by the strongest word on it; with a VLEK and a masked id, the cloud provider.
fn chip(report: &Report, leaf: &Leaf) -> Attested<String> {
    match &leaf.holder {
        Holder::Chip(hwid) if report.chip_masked() => Attested::endorsed(encoding::hex(hwid)),
        Holder::Chip(hwid) => Attested::hardware(encoding::hex(hwid)),
        Holder::Provider(csp) if report.chip_masked() => Attested::endorsed(encoding::hex(csp.as_bytes())),
        Holder::Provider(_) => Attested::hardware(encoding::hex(&report.chip_id[..leaf.product.hwid_len()])),
    }
}

//! The quoting enclave: whether its report carries the quote's key, and whether it is the one Intel describes.
//!
//! Source: *Intel SGX and TDX Provisioning Certification Service API*, "Enclave Identity", and the verification steps of
//! *Intel SGX ECDSA QuoteGenReference and Verification*.

use dcap_qvl::QeIdentity;
use legation_core::{Digest, Rejection, claims::TeeKind, encoding};

use super::{
    bytes::zeros,
    check::Check,
    quote::{EnclaveReport, Quote},
};

/// The debug bit of ATTRIBUTES.
const DEBUG: u64 = 1 << 1;

/// `SHA-256(attestation key || QE data)`, then zeros, in the report's data.
pub(crate) fn check_binding(quote: &Quote<'_>) -> Result<(), Rejection> {
    let hash = Digest::of_parts(&[quote.key, quote.qe_data]);
    let (bound, rest) = quote.qe.report_data.split_at(32);
    if bound != hash.as_bytes() || !zeros(rest) {
        return Err(Check::QeBinding
            .refuse(
                "report data of the quoting enclave",
                format!("{hash}, then zeros"),
                encoding::hex(quote.qe.report_data),
            )
            .fix("send the quote as the quoting enclave wrote it"));
    }
    Ok(())
}

/// MRSIGNER, ISVPRODID, and MISCSELECT and ATTRIBUTES under their masks, of an enclave that is not debugged.
pub(crate) fn check_identity(qe: &EnclaveReport<'_>, identity: &QeIdentity, kind: TeeKind) -> Result<(), Rejection> {
    let refuse = |what: &str, expected: String, got: String| {
        Err(Check::QeIdentity
            .refuse(format!("{what} of the quoting enclave"), expected, got)
            .fix("quote with Intel's own quoting enclave, as its DCAP packages install it"))
    };
    let id = if kind == TeeKind::Sgx { "QE" } else { "TD_QE" };
    if identity.id != id {
        return refuse("identity", id.to_owned(), identity.id.clone());
    }
    if *qe.mr_signer != identity.mrsigner {
        return refuse("MRSIGNER", encoding::hex(&identity.mrsigner), encoding::hex(qe.mr_signer));
    }
    if qe.isv_prod_id != identity.isvprodid {
        return refuse("ISVPRODID", identity.isvprodid.to_string(), qe.isv_prod_id.to_string());
    }
    let masked = |bytes: &[u8], mask: &[u8]| bytes.iter().zip(mask).map(|(b, m)| b & m).collect::<Vec<u8>>();
    let misc = qe.misc_select.to_le_bytes();
    for (what, got, expected, mask) in [
        ("MISCSELECT", &misc[..], &identity.miscselect[..], &identity.miscselect_mask[..]),
        ("ATTRIBUTES", &qe.attributes[..], &identity.attributes[..], &identity.attributes_mask[..]),
    ] {
        if masked(got, mask) != masked(expected, mask) {
            return refuse(what, encoding::hex(expected), encoding::hex(got));
        }
    }
    if qe.flags & DEBUG != 0 {
        return refuse("ATTRIBUTES", "no debugging".to_owned(), encoding::hex(qe.attributes));
    }
    Ok(())
}

//! The verdict of `dcap-qvl` on a quote, and which signature is wrong when it refuses.

use dcap_qvl::verify::QuoteVerifier;
use legation_core::{
    Rejection, UnixTime,
    claims::{Tcb, TeeKind},
};

use super::{
    IntelRoot,
    certificate::{self, Certificate},
    check::Check,
    collateral::Collateral,
    pck::Pck,
    quote::Quote,
    tcb,
};
use crate::check::Trail;

/// The steps here, in order.
const STEPS: [Check; 4] = [Check::Signature, Check::QeSignature, Check::CollateralSignature, Check::Chain];

/// What the library says of a domain without SEPT_VE_DISABLE. In 0.7.1 it is the very last thing that `verify_impl`
/// says, behind every signature, chain, list and level, and behind the other attributes; the unit tests hold it to that.
const NO_SEPT_VE_DISABLE: &str = "SEPT_VE_DISABLE is not enabled";

/// Whether the attestation key in `quote` signed its header and body: the one check of the library that reads anything
/// beyond what [`super::cache::key`] has in it, apart from the time.
pub(crate) fn quote_is_signed(quote: &Quote<'_>) -> bool {
    let mut point = [4; 65];
    point[1..].copy_from_slice(quote.key);
    certificate::signed(&point, quote.signed, quote.signature)
}

/// Verifies with the library, as of a time at which every document is current, and holds its levels against `tcb`.
#[expect(clippy::too_many_arguments, reason = "the whole of what a verdict depends on, in one place")]
pub(crate) fn verify(
    kind: TeeKind,
    quote: &Quote<'_>,
    pck: &Pck,
    collateral: &Collateral,
    tcb: &Tcb,
    root: &IntelRoot,
    as_of: UnixTime,
    passed: Trail<'_>,
) -> Result<(), Rejection> {
    let verifier = match root.custom_der() {
        None => QuoteVerifier::new_prod(),
        Some(der) => QuoteVerifier::new(der.to_vec()),
    };
    // The library prefers this chain to the quote's: it is the quote's, as we read it.
    let mut given = collateral.library.clone();
    given.pck_certificate_chain = Some(certificate::to_pem(&pck.chain));
    match verifier.allow_debug(true).verify(quote.whole, &given, as_of.0) {
        Ok(found) => {
            let advisories = tcb::advisories(found.advisory_ids);
            if tcb::status_named(&found.status) != Some(tcb.status) || advisories != tcb.advisories {
                let text = |status: &str, advisories: &[String]| format!("{status} {}", advisories.join(" "));
                return Err(Check::Chain
                    .refuse(
                        "TCB status in dcap-qvl",
                        text(tcb.status.name(), &tcb.advisories),
                        text(&found.status, &advisories),
                    )
                    .fix("report this: two readings of one collateral differ"));
            }
            STEPS.into_iter().for_each(|step| passed(step.id()));
            Ok(())
        }
        Err(error) => {
            let why = format!("{error:#}");
            signatures(quote, pck, collateral, passed)?;
            if kind == TeeKind::AzTdxVtpm && why == NO_SEPT_VE_DISABLE {
                passed(Check::Chain.id());
                return Ok(());
            }
            Err(Check::Chain
                .refuse("chains and revocation lists", "verified by dcap-qvl", why)
                .fix("fetch the collateral again, and the PCK certificate of the platform"))
        }
    }
}

/// The signatures that are not of certificates or lists, one by one.
fn signatures(quote: &Quote<'_>, pck: &Pck, collateral: &Collateral, passed: Trail<'_>) -> Result<(), Rejection> {
    if !quote_is_signed(quote) {
        return Err(Check::Signature
            .refuse("signature of the quote", "by the attestation key over header and body", "another signature")
            .fix("send the quote as the quoting enclave wrote it"));
    }
    passed(Check::Signature.id());
    let by = |signer: Option<&Certificate>, bytes: &[u8], signature: &[u8]| {
        signer.is_some_and(|signer| signer.signed(bytes, signature))
    };
    if !by(pck.leaf(), quote.qe_bytes, quote.qe_signature) {
        return Err(Check::QeSignature
            .refuse("signature of the quoting enclave's report", "by the PCK certificate's key", "another signature")
            .fix("send the quote with the PCK certificate of the platform that made it"));
    }
    passed(Check::QeSignature.id());
    let given = &collateral.library;
    for (what, chain, text, signature) in [
        ("TCB info", &collateral.tcb_chain, &given.tcb_info, &given.tcb_info_signature),
        ("QE identity", &collateral.qe_chain, &given.qe_identity, &given.qe_identity_signature),
    ] {
        if !by(chain.first(), text.as_bytes(), signature) {
            return Err(Check::CollateralSignature
                .refuse(format!("signature of the {what}"), "by Intel's TCB signing certificate", "another signature")
                .fix("fetch the collateral again, and keep the signed text byte for byte"));
        }
    }
    passed(Check::CollateralSignature.id());
    Ok(())
}

//! Intel TDX and SGX: from a DCAP quote and collateral to claims.
//!
//! It is pure: the collateral and the time are arguments, and nothing is fetched. It takes no policy: whether debugging or
//! an old TCB level is acceptable is for [`crate::appraisal`], which finds them in the claims. What Intel's rules refuse
//! whoever asks, a revoked level or one that no document knows, is refused here.
//!
//! [`verify`] makes these checks, in this order; each has the stable name that its rejection carries:
//!
//!  1. `dcap.collateral-form`: the collateral is whole; made when it is parsed ([`Collateral::parse`]).
//!  2. `dcap.size`: the quote has at most [`QUOTE_MAX`] bytes.
//!  3. `dcap.version`: it is of version 3 for SGX, 4 or 5 for TDX, and a body of version 5 is of TDX 1.0, 1.5 or 1.5 ex.
//!  4. `dcap.form`: every length in it is exact, certification data is of types 6 and 5, and nothing but zeros follows it.
//!  5. `dcap.kind`: it is of the kind of machine that the evidence says.
//!  6. `dcap.algorithm`: ECDSA P-256 with SHA-256, by a quoting enclave of Intel's.
//!  7. `dcap.reserved`: reserved bytes of the enclave's and the quoting enclave's report are zero.
//!  8. `dcap.module`: MRSIGNERSEAM and SEAMATTRIBUTES are zero: a module that Intel signed, without attributes.
//!  9. `dcap.certificate`: the quote carries PCK certificate, authority and root, with Intel's extension in the first.
//! 10. `dcap.root`: the chains of quote and collateral end in the pinned root itself.
//! 11. `dcap.collateral-kind`: the collateral is for this kind of quote.
//! 12. `dcap.collateral`: it is for this platform: FMSPC, PCE, and the authority's revocation list.
//! 13. `dcap.freshness`: TCB info, QE identity and lists are issued and before their next update; past it, they count as of
//!     their last good second for the grace given, and the claims say since when they are stale.
//! 14. `dcap.dates`: every certificate of every chain is inside its dates, at `at` and as of that second.
//! 15. `dcap.crl`: no list names PCK certificate, authority or signer of the collateral.
//! 16. `dcap.qe-binding`: the quoting enclave's report carries the attestation key's hash.
//! 17. `dcap.qe-identity`: the quoting enclave is the one that the identity describes, and not debugged.
//! 18. `dcap.tcb`: platform, TDX module and quoting enclave reach levels that Intel has not revoked.
//! 19. `dcap.attributes`: reserved attributes are zero; a domain is not migratable, is bound to no service domain, and has
//!     SEPT_VE_DISABLE, except behind Azure's paravisor; an enclave is initialised.
//! 20. `dcap.signature`: the attestation key signed header and body.
//! 21. `dcap.qe-signature`: the PCK certificate's key signed the quoting enclave's report.
//! 22. `dcap.collateral-signature`: the signer of TCB info and of QE identity signed them.
//! 23. `dcap.chain`: everything verifies in `dcap-qvl`, which checks signatures of certificates and lists as well, and finds
//!     the same status and advisories.
//!
//! Checks 20 to 23 are the library's. It refuses without a name, so when it refuses they are made here one by one to
//! find which. Nothing is accepted that the library did not verify, with one door: it has no option for domains without
//! SEPT_VE_DISABLE, which it refuses after everything else, and Azure has no others. See `library.rs`.
//!
//! A platform's next quote costs one signature: see [`Cache`].
//!
//! ECDSA lets anybody turn a signature into a second valid one, and zeros may follow a quote. So a quote's identity is a
//! hash of [`Quote::signed_part`], never of the whole.

mod attributes;
mod bytes;
mod cache;
mod certificate;
mod check;
mod collateral;
mod freshness;
mod library;
mod pck;
mod qe;
mod quote;
mod root;
mod tcb;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use legation_core::{
    Rejection, UnixTime,
    claims::{Attested, Claims, RevocationCheck, TeeKind},
    encoding,
};

pub use cache::{COLLATERALS_MAX, Cache};
pub use certificate::{CERTIFICATE_MAX, CHAIN_MAX};
pub use check::Check;
pub use collateral::{Collateral, LEVELS_MAX, REVOKED_MAX};
pub use freshness::{Dated, Freshness};
pub use quote::{QUOTE_MAX, Quote};
pub use root::IntelRoot;

use crate::check::Trail;
use cache::Platform;
use freshness::Held;
use pck::{Authority, Pck};
use quote::Body;

/// A quote, and the collateral the verifier holds about its platform.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// What the evidence says it is: [`TeeKind::Tdx`], [`TeeKind::Sgx`], or [`TeeKind::AzTdxVtpm`] for the quote of a
    /// trust domain behind Azure's paravisor.
    pub kind: TeeKind,
    /// The quote; zeros may follow it.
    pub quote: &'a [u8],
    /// The item that [`collateral_name`] names, parsed.
    pub collateral: &'a Collateral,
    /// How long past its next update collateral may still be believed, in seconds; 0 for not at all.
    pub grace_seconds: u64,
}

/// Parses a quote of either kind; see [`Quote::parse`].
///
/// # Errors
/// `dcap.size`, `dcap.version` or `dcap.form`.
pub fn parse_quote(bytes: &[u8]) -> Result<Quote<'_>, Rejection> {
    Quote::parse(bytes)
}

/// Name of the collateral item that `quote` needs: `intel/{tdx|sgx}/{FMSPC, lower-case hex}/{platform|processor}`, from the
/// PCK certificate in it. Nothing is verified: a forged quote names what it likes, within that form.
///
/// # Errors
/// `dcap.size`, `dcap.version`, `dcap.form` or `dcap.certificate`.
pub fn collateral_name(quote: &[u8]) -> Result<String, Rejection> {
    name_for(&Quote::parse(quote)?)
}

fn name_for(quote: &Quote<'_>) -> Result<String, Rejection> {
    let pck = Pck::read(quote)?;
    Ok(pck::collateral_name(quote.kind(), &pck.fmspc(), pck.authority))
}

/// Verifies a quote under a pinned root as of `at`. The module's list says what is checked.
///
/// # Errors
/// The first check that refuses.
pub fn verify(presented: &Presented<'_>, root: &IntelRoot, cache: &Cache, at: UnixTime) -> Result<Claims, Rejection> {
    verify_on(presented, root, cache, at, &mut |_| ())
}

/// As [`verify`], noting each check that passes.
pub(crate) fn verify_on(
    presented: &Presented<'_>,
    root: &IntelRoot,
    cache: &Cache,
    at: UnixTime,
    passed: Trail<'_>,
) -> Result<Claims, Rejection> {
    let Presented { kind, collateral, .. } = *presented;
    passed(Check::CollateralForm.id());
    let quote = Quote::parse_on(presented.quote, passed)?;
    check_kind(kind, &quote)?;
    passed(Check::Kind.id());
    quote.check_algorithm()?;
    passed(Check::Algorithm.id());
    check_reserved(&quote)?;
    passed(Check::Reserved.id());
    check_module(&quote)?;
    passed(Check::Module.id());

    let key = cache::key(kind, &quote, collateral, root);
    if let Some((platform, held)) = remembered(presented, &quote, cache.platform(&key), at) {
        Check::ALL.iter().filter(|check| **check >= Check::Certificate).for_each(|check| passed(check.id()));
        return Ok(claims(kind, &quote, &platform, held, root));
    }
    let (platform, held) = judge(presented, &quote, root, at, passed)?;
    let platform = Arc::new(platform);
    cache.insert(key, Arc::clone(&platform));
    Ok(claims(kind, &quote, &platform, held, root))
}

/// A remembered platform that still holds at `at`, when its key signed this quote and the body, which every quote has of
/// its own, passes. Otherwise everything is checked anew, and whatever is wrong gets its name there.
fn remembered(
    presented: &Presented<'_>,
    quote: &Quote<'_>,
    platform: Option<Arc<Platform>>,
    at: UnixTime,
) -> Option<(Arc<Platform>, Held)> {
    let platform = platform?;
    let held = presented.collateral.freshness().hold(presented.grace_seconds, at).ok()?;
    let passes = platform.covers(held.as_of, at)
        && attributes::check(presented.kind, &quote.body).is_ok()
        && library::quote_is_signed(quote);
    passes.then_some((platform, held))
}

/// Everything about the platform, and the signature of the quote.
fn judge(
    presented: &Presented<'_>,
    quote: &Quote<'_>,
    root: &IntelRoot,
    at: UnixTime,
    passed: Trail<'_>,
) -> Result<(Platform, Held), Rejection> {
    let Presented { kind, collateral, .. } = *presented;
    let pck = Pck::read(quote)?;
    passed(Check::Certificate.id());
    root.check(&pck, collateral)?;
    passed(Check::Root.id());
    check_collateral_kind(quote, collateral)?;
    passed(Check::CollateralKind.id());
    check_collateral(&pck, collateral)?;
    passed(Check::Collateral.id());
    let held = collateral.freshness().hold(presented.grace_seconds, at)?;
    passed(Check::Freshness.id());
    let certificates = check_dates(&pck, collateral, held.as_of, at)?;
    passed(Check::Dates.id());
    let chains = [&pck.chain, &collateral.tcb_chain, &collateral.qe_chain];
    for certificate in chains.into_iter().flatten() {
        collateral.root_crl.check(certificate)?;
        collateral.pck_crl.check(certificate)?;
    }
    passed(Check::Revocation.id());
    qe::check_binding(quote)?;
    passed(Check::QeBinding.id());
    qe::check_identity(&quote.qe, &collateral.qe_identity, quote.kind())?;
    passed(Check::QeIdentity.id());
    let tcb = tcb::evaluate(collateral, &quote.body, &pck.extension, &quote.qe)?;
    passed(Check::Tcb.id());
    attributes::check(kind, &quote.body)?;
    passed(Check::Attributes.id());
    library::verify(kind, quote, &pck, collateral, &tcb, root, held.as_of, passed)?;

    let freshness = collateral.freshness();
    let last_good = freshness.next().map(|d| d.last_good).unwrap_or_default();
    let platform = Platform {
        tcb,
        chip: pck.chip(),
        fmspc: pck.fmspc(),
        features: pck.features(),
        from: freshness.issued(),
        until: last_good,
        certificates,
    };
    Ok((platform, held))
}

fn check_kind(kind: TeeKind, quote: &Quote<'_>) -> Result<(), Rejection> {
    let expected = match kind {
        TeeKind::Sgx => TeeKind::Sgx,
        TeeKind::Tdx | TeeKind::AzTdxVtpm => TeeKind::Tdx,
        other => {
            return Err(Check::Kind
                .refuse("kind of the evidence", "tdx, sgx or az-tdx-vtpm", other)
                .fix("send the evidence under the kind of machine that made it"));
        }
    };
    if quote.kind() != expected {
        return Err(Check::Kind
            .refuse("kind of the quote", expected, quote.kind())
            .fix("send the evidence under the kind of machine that made it"));
    }
    Ok(())
}

fn check_reserved(quote: &Quote<'_>) -> Result<(), Rejection> {
    let enclave = match &quote.body {
        Body::Sgx(report) => Some(("the enclave's report", report)),
        Body::Td(_) => None,
    };
    for (what, report) in [Some(("the quoting enclave's report", &quote.qe)), enclave].into_iter().flatten() {
        if !report.reserved_is_zero() {
            return Err(Check::Reserved
                .refuse(format!("reserved bytes of {what}"), "zeros", "something else")
                .fix("run a verifier that knows what they mean"));
        }
    }
    Ok(())
}

fn check_module(quote: &Quote<'_>) -> Result<(), Rejection> {
    let Body::Td(report) = &quote.body else { return Ok(()) };
    for (what, bytes) in [("MRSIGNERSEAM", &report.mr_signer_seam[..]), ("SEAMATTRIBUTES", report.seam_attributes)] {
        if !bytes::zeros(bytes) {
            return Err(Check::Module
                .refuse(format!("{what} of the TDX module"), "zeros: a module of Intel's", encoding::hex(bytes))
                .fix("run the domain under the TDX module that Intel signed"));
        }
    }
    Ok(())
}

fn check_collateral_kind(quote: &Quote<'_>, collateral: &Collateral) -> Result<(), Rejection> {
    if collateral.kind() != quote.kind() {
        return Err(Check::CollateralKind
            .refuse("kind of the collateral", quote.kind(), collateral.kind())
            .fix("fetch TCB info and QE identity of the quote's kind: they differ between SGX and TDX"));
    }
    Ok(())
}

fn check_collateral(pck: &Pck, collateral: &Collateral) -> Result<(), Rejection> {
    let refuse = |claim: &str, expected: String, got: String| {
        Err(Check::Collateral
            .refuse(claim, expected, got)
            .fix("fetch the collateral of this platform: its name is in the quote's PCK certificate"))
    };
    if collateral.fmspc() != pck.fmspc() {
        return refuse("FMSPC of the collateral", pck.fmspc(), collateral.fmspc().to_owned());
    }
    let pce = encoding::hex(&pck.extension.pce_id);
    if !collateral.tcb_info.pce_id.eq_ignore_ascii_case(&pce) {
        return refuse("PCE of the collateral", pce, collateral.tcb_info.pce_id.clone());
    }
    for (list, certificate) in [(&collateral.pck_crl, pck.chain.first()), (&collateral.root_crl, pck.chain.get(1))] {
        if let Some(certificate) = certificate
            && !list.issuer_is(&certificate.issuer)
        {
            let got = list.issuer_text().to_owned();
            return refuse("issuer of the revocation list", certificate.issuer_text.clone(), got);
        }
    }
    if collateral.authority == Authority::Other {
        return refuse("authority of the collateral", pck.authority.name().to_owned(), "another".to_owned());
    }
    Ok(())
}

/// Dates of every certificate; gives when all are valid.
fn check_dates(
    pck: &Pck,
    collateral: &Collateral,
    as_of: UnixTime,
    at: UnixTime,
) -> Result<(UnixTime, UnixTime), Rejection> {
    let (mut from, mut until) = (UnixTime(0), UnixTime(u64::MAX));
    let chains = [&pck.chain, &collateral.tcb_chain, &collateral.qe_chain, &collateral.crl_chain];
    for certificate in chains.into_iter().flatten() {
        for moment in [at, as_of] {
            if !certificate.covers(moment) {
                let expected = format!("{} to {}", certificate.not_before, certificate.not_after);
                return Err(Check::Dates
                    .refuse(format!("dates of {}", certificate.subject_text), expected, moment)
                    .fix("fetch current certificates and collateral, or judge as of a time inside their dates"));
            }
        }
        from = from.max(certificate.not_before);
        until = until.min(certificate.not_after);
    }
    Ok((from, until))
}

fn claims(kind: TeeKind, quote: &Quote<'_>, platform: &Platform, held: Held, root: &IntelRoot) -> Claims {
    let mut features = attributes::features(&quote.body);
    features.extend(platform.features.iter().map(|name| (*name).to_owned()));
    let (measurement, registers) = measurements(&quote.body);
    let claims = Claims::basic(
        kind,
        root.anchor(),
        measurement,
        Attested::endorsed(platform.chip.clone()),
        Attested::endorsed(platform.tcb.clone()),
        Attested::endorsed(platform.fmspc.clone()),
        encoding::hex(quote.report_data()),
    );
    Claims {
        registers,
        debug: Attested::hardware(attributes::debug(&quote.body)),
        // Some names come from the report, some from the PCK certificate: a set is as sure as its least sure member.
        features: Some(Attested::endorsed(features)),
        stale_since: held.stale_since,
        // The collateral has the lists of both authorities, and check `dcap.revocation` cannot be passed without them.
        revocation: RevocationCheck::Checked,
        ..claims
    }
}

/// MRTD or MRENCLAVE, and the registers beside it, lower-case hex; numbers as hex of fixed width.
fn measurements(body: &Body<'_>) -> (String, BTreeMap<String, String>) {
    let mut registers = BTreeMap::new();
    let mut register = |name: &str, hex: String| registers.insert(name.to_owned(), hex);
    match body {
        Body::Td(report) => {
            for (name, bytes) in ["rtmr0", "rtmr1", "rtmr2", "rtmr3"].into_iter().zip(report.rtmr) {
                register(name, encoding::hex(bytes));
            }
            register("mrseam", encoding::hex(report.mr_seam));
            register("mrconfigid", encoding::hex(report.mr_config_id));
            register("mrowner", encoding::hex(report.mr_owner));
            register("mrownerconfig", encoding::hex(report.mr_owner_config));
            (encoding::hex(report.mr_td), registers)
        }
        Body::Sgx(report) => {
            register("mrsigner", encoding::hex(report.mr_signer));
            register("isvprodid", format!("{:04x}", report.isv_prod_id));
            register("isvsvn", format!("{:04x}", report.isv_svn));
            if attributes::is_configured(report) {
                register("configid", encoding::hex(report.config_id));
                register("configsvn", format!("{:04x}", report.config_svn));
                register("isvfamilyid", encoding::hex(report.family_id));
                register("isvextprodid", encoding::hex(report.ext_prod_id));
            }
            (encoding::hex(report.mr_enclave), registers)
        }
    }
}

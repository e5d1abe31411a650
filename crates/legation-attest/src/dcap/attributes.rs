//! Attributes of enclaves and trust domains: what would undo their protection, and what policies may ask for by name.
//!
//! Sources: *Intel TDX Module ABI Specification* 348551, ATTRIBUTES and XFAM; *Intel SDM* volume 3D, ATTRIBUTES and
//! MISCSELECT; volume 1, chapter 13 (XCR0 and IA32_XSS).

use std::collections::BTreeSet;

use dcap_qvl::quote::TDAttributes;
use legation_core::{Rejection, claims::TeeKind, encoding};

use super::{
    bytes::zeros,
    check::Check,
    quote::{Body, EnclaveReport, TdReport},
};

/// Bits of an enclave's ATTRIBUTES.
const INIT: u64 = 1 << 0;
const DEBUG: u64 = 1 << 1;
/// Key separation and sharing: CONFIGID, CONFIGSVN, ISVFAMILYID and ISVEXTPRODID count.
const KSS: u64 = 1 << 7;
const ENCLAVE_FLAGS: [(u64, &str); 6] = [
    (1 << 2, "mode-64"),
    (1 << 4, "provision-key"),
    (1 << 5, "einittoken-key"),
    (1 << 6, "cet-enclave"),
    (KSS, "kss"),
    (1 << 10, "aex-notify"),
];
/// EXINFO and CPINFO, the parts of MISC that exist.
const MISC_KNOWN: u32 = 0b11;

/// Parts of the extended state an enclave or domain may use, each by the bits that make it.
const EXTENDED_STATE: [(u64, &str); 7] = [
    (1 << 2, "avx"),
    (0b111 << 5, "avx512"),
    (1 << 8, "pt"),
    (1 << 9, "pku"),
    (0b11 << 11, "cet"),
    (1 << 14, "uintr"),
    (0b11 << 17, "amx"),
];

/// Whether the owner may look inside, or profile it: what Intel calls untrusted.
pub(crate) fn debug(body: &Body<'_>) -> bool {
    match body {
        Body::Sgx(report) => report.flags & DEBUG != 0,
        Body::Td(report) => report.td_attributes[0] != 0,
    }
}

/// Whether the enclave has a configuration of its own.
pub(crate) fn is_configured(report: &EnclaveReport<'_>) -> bool {
    report.flags & KSS != 0
}

/// Attributes by name.
pub(crate) fn features(body: &Body<'_>) -> BTreeSet<String> {
    let (mut names, state) = match body {
        Body::Sgx(report) => {
            let flags = ENCLAVE_FLAGS.into_iter().filter(|(bit, _)| report.flags & bit != 0).map(|(_, name)| name);
            (flags.collect::<Vec<_>>(), report.xfrm)
        }
        Body::Td(report) => (domain_flags(report), u64::from_le_bytes(*report.xfam)),
    };
    names.extend(EXTENDED_STATE.into_iter().filter(|(bits, _)| state & bits == *bits).map(|(_, name)| name));
    names.into_iter().map(str::to_owned).collect()
}

fn domain_flags(report: &TdReport<'_>) -> Vec<&'static str> {
    let mut names = vec![report.generation()];
    let Ok(attributes) = TDAttributes::parse(*report.td_attributes) else { return names };
    let (sec, other) = (&attributes.sec, &attributes.other);
    let flags = [
        (sec.icssd, "icssd"),
        (sec.lass, "lass"),
        (sec.sept_ve_disable, "sept-ve-disable"),
        (sec.pks, "pks"),
        (sec.kl, "kl"),
        (other.tpa, "tpa"),
        (other.perfmon, "perfmon"),
    ];
    names.extend(flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name));
    names
}

/// Refuses attributes under which a report says nothing. Debugging is for the policy.
pub(crate) fn check(kind: TeeKind, body: &Body<'_>) -> Result<(), Rejection> {
    match body {
        Body::Sgx(report) => check_enclave(report),
        Body::Td(report) => check_domain(kind, report),
    }
}

fn check_enclave(report: &EnclaveReport<'_>) -> Result<(), Rejection> {
    let known = ENCLAVE_FLAGS.into_iter().fold(INIT | DEBUG, |known, (bit, _)| known | bit);
    if report.flags & !known != 0 || report.flags & INIT == 0 || report.misc_select & !MISC_KNOWN != 0 {
        let got = format!("attributes {:016x}h, MISCSELECT {:08x}h", report.flags, report.misc_select);
        return Err(Check::Attributes
            .refuse("attributes of the enclave", "an initialised enclave with attributes that are known", got)
            .fix("build the enclave without attributes that this version does not know"));
    }
    if !is_configured(report) {
        let unused: [&[u8]; 3] = [report.ext_prod_id, report.config_id, report.family_id];
        if report.config_svn != 0 || !unused.into_iter().all(zeros) {
            return Err(Check::Attributes
                .refuse("configuration of an enclave without KSS", "zeros", "CONFIGID, ISVFAMILYID or ISVEXTPRODID")
                .fix("launch the enclave with the KSS attribute to configure it"));
        }
    }
    Ok(())
}

fn check_domain(kind: TeeKind, report: &TdReport<'_>) -> Result<(), Rejection> {
    let refuse = |claim: &str, expected: &str, got: String, fix: &str| {
        Err(Check::Attributes.refuse(claim, expected, got).fix(fix))
    };
    let text = encoding::hex(report.td_attributes);
    let Ok(attributes) = TDAttributes::parse(*report.td_attributes) else {
        return refuse("attributes of the domain", "8 bytes", text, "send the quote as it was written");
    };
    if attributes.reserved != 0 {
        let fix = "launch the domain without attributes that this version does not know";
        return refuse("reserved attributes of the domain", "zeros", text, fix);
    }
    if attributes.sec.migratable {
        return refuse(
            "MIGRATABLE of the domain",
            "clear: it stays on its machine",
            text,
            "launch it without migration",
        );
    }
    let later = report.later.as_ref();
    let bound = later.is_some_and(|l| !zeros(l.mr_service_td) || l.service.is_some_and(|fields| !zeros(fields)));
    if attributes.sec.servtd_ext || bound {
        let fix = "launch the domain without service domains: they can look inside";
        return refuse("service domains of the domain", "none", "SERVTD_EXT or MR_SERVICE_TD".to_owned(), fix);
    }
    // Azure's paravisor handles the exceptions itself, and its domains have the attribute clear.
    if !attributes.sec.sept_ve_disable && kind != TeeKind::AzTdxVtpm {
        let fix = "launch the domain with SEPT_VE_DISABLE: without it the host can raise exceptions inside at will";
        return refuse("SEPT_VE_DISABLE of the domain", "set", text, fix);
    }
    Ok(())
}

//! What a report says of the platform and of the guest's policy, by name, and the identities beside the measurement.
//!
//! Sources: *SEV Secure Nested Paging Firmware ABI Specification*, AMD 56860, "ATTESTATION_REPORT Structure" (PLATFORM_INFO)
//! and "Guest Policy". A bit counts only from the version of the report on that defines it: what older firmware leaves in
//! a bit it does not know says nothing. Where the absence of something is worth asking for, it has a name of its own
//! (`smt-disabled`), so that a policy need not take silence for it.

use std::collections::{BTreeMap, BTreeSet};

use legation_core::encoding;

use super::report::Report;

/// Bits of PLATFORM_INFO: bit, first version of the report that defines it, name. The firmware says what is so now.
const PLATFORM: [(u32, u32, &str); 7] = [
    (0, 2, "smt"),
    (1, 2, "tsme"),
    (2, 2, "ecc"),
    (3, 2, "rapl-disabled"),
    (4, 2, "ciphertext-hiding"),
    (5, 3, "alias-check-complete"),
    (7, 5, "tio"),
];
/// Bits of POLICY, likewise. What a policy demands, the firmware enforces as long as the guest lives; what it allows, may
/// be. Debugging is a claim of its own.
const POLICY: [(u32, u32, &str); 8] = [
    (16, 2, "policy-smt-allowed"),
    (18, 2, "policy-migration-allowed"),
    (20, 2, "policy-single-socket"),
    (21, 2, "policy-cxl-allowed"),
    (22, 2, "policy-aes-256-xts"),
    (23, 2, "policy-rapl-disabled"),
    (24, 2, "policy-ciphertext-hiding"),
    (25, 5, "policy-page-swap-disabled"),
];
const SMT: u64 = 1;

/// Features of the platform and of the guest's policy. The report is signed by the hardware, and so are they.
pub(super) fn features(report: &Report) -> BTreeSet<String> {
    let named = |table: &[(u32, u32, &'static str)], bits: u64| {
        let set = table.iter().filter(|(bit, from, _)| report.version >= *from && bits >> bit & 1 == 1);
        set.map(|(_, _, name)| *name).collect::<Vec<_>>()
    };
    let mut names = named(&PLATFORM, report.platform_info);
    names.extend(named(&POLICY, report.policy.0));
    if report.platform_info & SMT == 0 {
        names.push("smt-disabled");
    }
    names.into_iter().map(str::to_owned).collect()
}

/// What the report says of the guest beside its measurement, lower-case hex; what is zero was not given at launch, and is
/// left out. `hostdata` is the host's word alone; the others are of the ID block, whose key `idkeydigest` names.
pub(super) fn registers(report: &Report) -> BTreeMap<String, String> {
    let svn = report.guest_svn.to_be_bytes();
    let all: [(&str, &[u8]); 6] = [
        ("hostdata", &report.host_data),
        ("idkeydigest", &report.id_key_digest),
        ("authorkeydigest", &report.author_key_digest),
        ("familyid", &report.family_id),
        ("imageid", &report.image_id),
        ("guestsvn", &svn),
    ];
    let given = all.into_iter().filter(|(_, bytes)| bytes.iter().any(|b| *b != 0));
    given.map(|(name, bytes)| (name.to_owned(), encoding::hex(bytes))).collect()
}

//! What only a holder of signing keys can try: chains, lists, levels and quotes that are properly signed and still wrong.

mod world;

use legation_core::{
    Rejection, UnixTime,
    claims::{Anchor, Claims, TcbStatus, TeeKind},
};

use self::world::{AUTHORITY, DAY, Foreign, NOW, PCK, SEPT_VE_DISABLE, Spec, TCB_SIGNER, svns};
use super::{Cache, Check, IntelRoot, Presented, verify, verify_on};

fn check_of(result: &Result<Claims, Rejection>) -> &str {
    result.as_ref().map_or_else(|r| r.check.as_str(), |_| "ok")
}

#[track_caller]
fn expect(spec: &Spec, expected: &str) -> Result<Claims, Rejection> {
    let result = spec.verdict();
    assert_eq!(check_of(&result), expected, "{result:?}");
    result
}

fn with(change: impl FnOnce(&mut Spec)) -> Spec {
    let mut spec = Spec::default();
    change(&mut spec);
    spec
}

#[test]
fn every_form_of_quote_verifies() {
    let tdx = expect(&Spec::default(), "ok").unwrap();
    assert_eq!(tdx.anchor, Anchor::Development("intel-unit-test".to_owned()), "never production");
    assert_eq!(tdx.measurement.value, "7d".repeat(48));
    assert_eq!(
        (tdx.registers["rtmr2"].clone(), tdx.registers["mrownerconfig"].clone()),
        ("b0".repeat(48), "0c".repeat(48))
    );
    for (spec, generation) in
        [(Spec::default(), "tdx-1.0"), (with(|s| s.later = true), "tdx-1.5"), (with(|s| s.ex = true), "tdx-1.5-ex")]
    {
        let features = expect(&spec, "ok").unwrap().features.unwrap().value;
        assert!(
            features.contains(generation) && features.contains("amx") && !features.contains("avx512"),
            "{features:?}"
        );
    }
    let sgx = expect(&with(|s| s.sgx = true), "ok").unwrap();
    assert_eq!((sgx.measurement.value, sgx.tee.value), ("e1".repeat(32), TeeKind::Sgx));
    assert_eq!((sgx.registers["isvprodid"].as_str(), sgx.registers["isvsvn"].as_str()), ("0009", "0003"));
    let processor = with(|s| s.authority = "Intel SGX PCK Processor CA");
    assert_eq!(processor.build().collateral().name(), "intel/tdx/50806f000000/processor");
    expect(&processor, "ok").unwrap();
}

#[test]
fn a_unit_test_root_is_not_intels() {
    let world = Spec::default().build();
    let collateral = world.collateral();
    let presented = Presented { kind: TeeKind::Tdx, quote: &world.quote, collateral: &collateral, grace_seconds: 0 };
    let refused = verify(&presented, &IntelRoot::production(), &Cache::default(), UnixTime(NOW));
    assert_eq!(check_of(&refused), "dcap.root");
    // The same names under another key.
    let refused = verify(&presented, &Spec::default().build().root, &Cache::default(), UnixTime(NOW));
    assert_eq!(check_of(&refused), "dcap.root");
}

/// What refuses a signature by another key of the same kind.
const FOREIGN: [(Foreign, &str); 9] = [
    (Foreign::Quote, "dcap.signature"),
    (Foreign::QeReport, "dcap.qe-signature"),
    (Foreign::TcbInfo, "dcap.collateral-signature"),
    (Foreign::QeIdentity, "dcap.collateral-signature"),
    (Foreign::Pck, "dcap.chain"),
    (Foreign::Authority, "dcap.chain"),
    (Foreign::TcbSigner, "dcap.chain"),
    (Foreign::RootCrl, "dcap.chain"),
    (Foreign::PckCrl, "dcap.chain"),
];

#[test]
fn each_signature_must_be_by_the_key_that_is_certified_for_it() {
    for (foreign, expected) in FOREIGN {
        for sgx in [false, true] {
            let _ = expect(&with(|s| (s.foreign, s.sgx) = (Some(foreign), sgx)), expected);
        }
    }
}

#[test]
fn a_revoked_certificate_is_refused_by_name() {
    for (by_root, by_authority) in [(vec![AUTHORITY], vec![]), (vec![TCB_SIGNER], vec![]), (vec![], vec![1, PCK, 9])] {
        let spec = with(|s| (s.revoked_by_root, s.revoked_by_authority) = (by_root, by_authority));
        let rejection = expect(&spec, "dcap.crl").unwrap_err();
        assert!(rejection.got.starts_with("serial number"), "{rejection}");
    }
    // Numbers of the other authority's certificates say nothing.
    let spec = with(|s| (s.revoked_by_root, s.revoked_by_authority) = (vec![PCK, 77], vec![AUTHORITY, TCB_SIGNER]));
    expect(&spec, "ok").unwrap();
}

#[test]
fn dates_of_certificates_and_documents() {
    let cases = [
        (with(|s| s.pck_dates = (NOW - 9, NOW - 1)), "dcap.dates"),
        (with(|s| s.pck_dates = (NOW - 9, NOW)), "ok"),
        (with(|s| s.pck_dates = (NOW, NOW + 9)), "ok"),
        (with(|s| s.pck_dates = (NOW + 1, NOW + 9)), "dcap.dates"),
        (with(|s| s.tcb_dates = (NOW - 9, NOW - 1)), "dcap.freshness"),
        (with(|s| s.tcb_dates = (NOW - 9, NOW)), "ok"),
        (with(|s| s.tcb_dates = (NOW, NOW + 9)), "ok"),
        (with(|s| s.tcb_dates = (NOW + 1, NOW + 9)), "dcap.freshness"),
        // The library reads no issue date of a list: this check is ours.
        (with(|s| s.crl_dates = (NOW + 1, NOW + 9)), "dcap.freshness"),
        (with(|s| s.crl_dates = (NOW, NOW + 9)), "ok"),
        (with(|s| s.crl_dates = (NOW - 9, NOW)), "dcap.freshness"),
        (with(|s| s.crl_dates = (NOW - 9, NOW + 1)), "ok"),
    ];
    for (spec, expected) in cases {
        let _ = expect(&spec, expected);
    }
}

#[test]
fn a_grace_bridges_documents_but_no_certificate() {
    let spec = with(|s| {
        s.tcb_dates = (NOW - DAY, NOW + DAY);
        s.pck_dates = (NOW - DAY, NOW + 3 * DAY);
    });
    let world = spec.build();
    let cache = Cache::default();
    for round in ["cold", "warm"] {
        let verdict = |grace, at| world.verify(&world.quote, world.kind, grace, at, &cache);
        let fresh = verdict(0, NOW + DAY).unwrap();
        assert_eq!(fresh.stale_since, None, "{round}");
        assert_eq!(check_of(&verdict(0, NOW + DAY + 1)), "dcap.freshness");
        let stale = verdict(DAY, NOW + 2 * DAY).unwrap();
        assert_eq!(stale.stale_since, Some(UnixTime(NOW + DAY)));
        assert_eq!(Claims { stale_since: None, ..stale }, fresh);
        assert_eq!(check_of(&verdict(DAY, NOW + 2 * DAY + 1)), "dcap.freshness");
        assert_eq!(check_of(&verdict(9 * DAY, NOW + 3 * DAY)), "ok");
        assert_eq!(check_of(&verdict(9 * DAY, NOW + 3 * DAY + 1)), "dcap.dates", "the PCK certificate ended");
        assert_eq!(cache.len(), 1);
    }
    // The platform was certified after its collateral had ended: there is no second at which both hold.
    let late = with(|s| (s.tcb_dates, s.pck_dates) = ((NOW - 9 * DAY, NOW - DAY), (NOW - 9, NOW + 9))).build();
    let result = late.verify(&late.quote, late.kind, 9 * DAY, NOW, &cache);
    assert!(matches!(check_of(&result), "dcap.dates" | "dcap.freshness"), "{result:?}");
}

#[test]
fn a_platform_has_the_first_level_it_reaches() {
    use TcbStatus::{OutOfDate, OutOfDateConfigurationNeeded, SwHardeningNeeded, UpToDate};
    let tcb = |spec: &Spec| expect(spec, "ok").unwrap().tcb.value;
    let newest = tcb(&Spec::default());
    assert_eq!((newest.status, newest.level.as_deref(), newest.shortfall.len()), (UpToDate, Some("2024-03-13"), 0));
    let expected = format!("cpuSvn={}&pceSvn=13&teeTcbSvn=060103{}&qeSvn=6", "03".repeat(16), "00".repeat(13));
    assert_eq!(newest.version, expected);

    let older = tcb(&with(|s| (s.cpu_svn[2], s.pce_svn) = (2, 12)));
    assert_eq!((older.status, older.level.as_deref()), (OutOfDate, Some("2023-08-09")));
    assert_eq!(older.advisories, ["INTEL-SA-00001", "INTEL-SA-00002"], "ascending");
    let short: Vec<_> = older.shortfall.iter().map(ToString::to_string).collect();
    assert_eq!(short, ["sgx-svn-3 2 below 3", "pce-svn 12 below 13"]);

    let oldest = tcb(&with(|s| s.cpu_svn = [1; 16]));
    assert_eq!(oldest.status, OutOfDateConfigurationNeeded);
    let microcode = tcb(&with(|s| s.tee_tcb_svn = svns(&[6, 1, 2])));
    assert_eq!((microcode.status, microcode.shortfall[0].component.as_str()), (OutOfDate, "tdx-svn-3"));
    // An old module makes the level old, in status and date.
    let module = tcb(&with(|s| s.tee_tcb_svn = svns(&[4, 1, 3])));
    assert_eq!((module.status, module.level.as_deref()), (OutOfDate, Some("2021-05-01")));
    assert_eq!(
        (module.advisories, module.shortfall[0].to_string()),
        (vec!["INTEL-SA-00004".to_owned()], "tdx-module-svn 4 below 6".to_owned())
    );
    let quoting = tcb(&with(|s| s.qe_isv_svn = 5));
    assert_eq!((quoting.status, quoting.advisories[0].as_str()), (OutOfDate, "INTEL-SA-00005"));
    assert_eq!(quoting.shortfall[0].to_string(), "qe-svn 5 below 6");
    // A module without a version of its own is judged by the platform's level.
    assert_eq!(tcb(&with(|s| s.tee_tcb_svn = svns(&[5, 0, 3]))).status, UpToDate);

    for (word, status) in [
        ("SWHardeningNeeded", SwHardeningNeeded),
        ("ConfigurationNeeded", TcbStatus::ConfigurationNeeded),
        ("ConfigurationAndSWHardeningNeeded", TcbStatus::ConfigurationAndSwHardeningNeeded),
        ("OutOfDate", OutOfDate),
        ("OutOfDateConfigurationNeeded", OutOfDateConfigurationNeeded),
    ] {
        for sgx in [false, true] {
            assert_eq!(tcb(&with(|s| (s.status[0], s.sgx) = (word, sgx))).status, status);
        }
    }

    for refused in [
        with(|s| s.cpu_svn = [0; 16]),
        with(|s| s.pce_svn = 4),
        with(|s| s.tee_tcb_svn = svns(&[3, 1, 3])),
        with(|s| s.tee_tcb_svn = svns(&[9, 2, 3])),
        with(|s| s.qe_isv_svn = 3),
        with(|s| s.status[0] = "Revoked"),
        with(|s| s.qe_status = "Revoked"),
        with(|s| s.module_status = "Revoked"),
        with(|s| (s.sgx, s.status[0]) = (true, "Revoked")),
    ] {
        let _ = expect(&refused, "dcap.tcb");
    }
    // A status that a document of Intel's never has.
    let _ = expect(&with(|s| s.status[0] = "TDRelaunchAdvised"), "dcap.chain");
}

#[test]
fn a_domain_of_tdx_1_5_is_judged_by_what_it_was_launched_on_and_what_runs_now() {
    let tcb = |spec: &Spec| expect(spec, "ok").unwrap().tcb.value;
    // Launched on an old module that was updated beneath it: to be launched again.
    let updated = with(|s| (s.later, s.tee_tcb_svn) = (true, svns(&[4, 1, 3])));
    assert_eq!(tcb(&updated).status, TcbStatus::OutOfDate);
    assert!(tcb(&updated).version.contains("&teeTcbSvn2=0601"));
    let configured = with(|s| (s.later, s.tee_tcb_svn, s.status[0]) = (true, svns(&[4, 1, 3]), "ConfigurationNeeded"));
    assert_eq!(tcb(&configured).status, TcbStatus::OutOfDateConfigurationNeeded);
    let _ = expect(&with(|s| (s.later, s.tee_tcb_svn2) = (true, svns(&[9, 9, 3]))), "dcap.tcb");
    let revoked = with(|s| (s.later, s.tee_tcb_svn, s.module_status) = (true, svns(&[4, 1, 3]), "Revoked"));
    let _ = expect(&revoked, "dcap.tcb");
}

#[test]
fn attributes_that_undo_the_protection_are_refused_and_others_named() {
    let attributes = |bits: u64| with(|s| s.td_attributes = bits);
    let named = expect(&attributes(SEPT_VE_DISABLE | 1 << 27 | 1 << 30 | 1 << 31 | 1 << 63), "ok").unwrap();
    let features = named.features.unwrap().value;
    for name in ["lass", "sept-ve-disable", "pks", "kl", "perfmon"] {
        assert!(features.contains(name), "{name} in {features:?}");
    }
    for bit in [0, 4, 5, 6] {
        let debug = expect(&attributes(SEPT_VE_DISABLE | 1 << bit), "ok").unwrap();
        assert!(debug.debug.value, "bit {bit} is for the policy");
    }
    for bit in (1..4).chain(7..16).chain(23..27).chain(32..62).chain([17, 29]) {
        let _ = expect(&attributes(SEPT_VE_DISABLE | 1 << bit), "dcap.attributes");
    }
    let _ = expect(&attributes(0), "dcap.attributes");

    let body = |change: fn(&mut Vec<u8>)| with(|s| s.body = change);
    let later = |change: fn(&mut Vec<u8>)| with(|s| (s.later, s.body) = (true, change));
    let ex = |change: fn(&mut Vec<u8>)| with(|s| (s.ex, s.body) = (true, change));
    let sgx = |change: fn(&mut Vec<u8>)| with(|s| (s.sgx, s.body) = (true, change));
    let qe = |change: fn(&mut Vec<u8>)| with(|s| s.qe = change);
    let cases = [
        ("another signer of the module", body(|b| b[48 + 64] = 1), "dcap.module"),
        ("attributes of the module", body(|b| b[48 + 119] = 0x80), "dcap.module"),
        ("another vendor", body(|b| b[12] = 0), "dcap.algorithm"),
        ("P-384", body(|b| b[2] = 3), "dcap.algorithm"),
        ("version 6", body(|b| b[0] = 6), "dcap.version"),
        ("a TDX quote of version 3", body(|b| b[0] = 3), "dcap.version"),
        ("an SGX quote of version 4", sgx(|b| b[0] = 4), "dcap.version"),
        ("an SGX body of version 5", later(|b| b[48] = 1), "dcap.version"),
        ("an unknown body", later(|b| b[48] = 5), "dcap.version"),
        ("a body of another size", later(|b| b[50] = 0), "dcap.form"),
        ("a service domain", later(|b| b[54 + 600] = 1), "dcap.attributes"),
        ("fields of a service domain", ex(|b| b[54 + 884] = 1), "dcap.attributes"),
        ("an enclave that is debugged", sgx(|b| b[48 + 48] = 0b111), "ok"),
        ("an enclave that is not initialised", sgx(|b| b[48 + 48] = 0b100), "dcap.attributes"),
        ("an unknown attribute of an enclave", sgx(|b| b[48 + 48] = 0b1101), "dcap.attributes"),
        ("MISCSELECT EXINFO", sgx(|b| b[48 + 16] = 1), "ok"),
        ("MISCSELECT unknown", sgx(|b| b[48 + 16] = 4), "dcap.attributes"),
        ("reserved bytes of an enclave", sgx(|b| b[48 + 20] = 1), "dcap.reserved"),
        ("reserved bytes of an enclave at the end", sgx(|b| b[48 + 303] = 1), "dcap.reserved"),
        ("a configuration without KSS", sgx(|b| b[48 + 192] = 1), "dcap.attributes"),
        ("a configuration with KSS", sgx(|b| (b[48 + 48], b[48 + 192]) = (0b1000_0101, 1)), "ok"),
        ("reserved bytes of the quoting enclave", qe(|b| b[160] = 1), "dcap.reserved"),
        ("another signer of the quoting enclave", qe(|b| b[128] = 1), "dcap.qe-identity"),
        ("the quoting enclave's product", qe(|b| b[256] = 1), "dcap.qe-identity"),
        ("a debugged quoting enclave", qe(|b| b[48] = 0x17), "dcap.qe-identity"),
        ("an attribute under the mask", qe(|b| b[49] = 1), "dcap.qe-identity"),
        ("an attribute outside of the mask", qe(|b| b[48] = 0x11), "ok"),
        ("MISCSELECT of the quoting enclave", qe(|b| b[16] = 1), "dcap.qe-identity"),
        ("another key in the quoting enclave's report", qe(|b| b[320] ^= 1), "dcap.qe-binding"),
        ("something behind the key's hash", qe(|b| b[383] = 1), "dcap.qe-binding"),
    ];
    for (what, spec, expected) in cases {
        let result = spec.verdict();
        assert_eq!(check_of(&result), expected, "{what}: {result:?}");
        if let Ok(claims) = result {
            assert_eq!(claims.debug.value, what.contains("debugged"), "{what}");
            assert_eq!(claims.registers.contains_key("configid"), what.contains("KSS"), "{what}");
        }
    }
}

#[test]
fn collateral_of_another_platform_is_refused() {
    for spec in [with(|s| s.fmspc = [1; 6]), with(|s| s.pce_id = [0, 1])] {
        let _ = expect(&spec, "dcap.collateral");
    }
    let _ = expect(&with(|s| s.authority = "Intel SGX PCK Other CA"), "dcap.certificate");
    let (tdx, sgx) = (Spec::default().build(), with(|s| s.sgx = true).build());
    let result = tdx.verify(&sgx.quote, TeeKind::Sgx, 0, NOW, &Cache::default());
    assert_eq!(check_of(&result), "dcap.root", "a platform of another world");
}

#[test]
fn a_platform_without_a_provisioning_id_is_known_by_its_key() {
    let chip = |spec: &Spec| expect(spec, "ok").unwrap().chip.value;
    let (a, b) = (with(|s| s.ppid = [0; 16]), with(|s| s.ppid = [0; 16]));
    assert_ne!(chip(&a), chip(&b), "two keys");
    assert_eq!(chip(&Spec::default()), chip(&Spec::default()), "one provisioning id, whatever the key");
}

/// The library refuses a domain without SEPT_VE_DISABLE after everything else. This holds it to that: behind Azure's
/// paravisor such a domain passes, and everything else that is wrong with it is found all the same.
#[test]
fn behind_azures_paravisor_a_domain_may_handle_exceptions_itself() {
    let azure = |spec: &Spec| {
        let world = spec.build();
        world.verify(&world.quote, TeeKind::AzTdxVtpm, 0, NOW, &Cache::new(0))
    };
    let claims = azure(&with(|s| s.td_attributes = 0)).unwrap();
    assert_eq!((claims.tee.value, claims.debug.value), (TeeKind::AzTdxVtpm, false));
    assert_eq!((claims.tcb.value.status, claims.product.value.as_str()), (TcbStatus::UpToDate, "50806f000000"));
    assert!(!claims.features.unwrap().value.contains("sept-ve-disable"));
    assert!(azure(&Spec::default()).is_ok(), "with the attribute as well");
    assert!(azure(&with(|s| s.td_attributes = 1)).unwrap().debug.value);

    let spec = with(|s| s.td_attributes = 0);
    for (foreign, expected) in FOREIGN {
        let result = azure(&Spec { foreign: Some(foreign), ..spec.clone() });
        assert_eq!(check_of(&result), expected);
    }
    for (wrong, expected) in [
        (Spec { td_attributes: 1 << 29, ..spec.clone() }, "dcap.attributes"),
        (Spec { td_attributes: 1 << 17, ..spec.clone() }, "dcap.attributes"),
        (Spec { td_attributes: 1 << 40, ..spec.clone() }, "dcap.attributes"),
        (Spec { status: ["Revoked"; 3], ..spec.clone() }, "dcap.tcb"),
        (Spec { status: ["TDRelaunchAdvised"; 3], ..spec.clone() }, "dcap.chain"),
        (Spec { revoked_by_root: vec![AUTHORITY], ..spec.clone() }, "dcap.crl"),
        (Spec { sgx: true, ..spec.clone() }, "dcap.kind"),
    ] {
        assert_eq!(check_of(&azure(&wrong)), expected);
    }
    let world = spec.build();
    let cache = Cache::default();
    for round in ["cold", "warm"] {
        let mut quote = world.quote.clone();
        for byte in 0..632 {
            quote[byte] ^= 1;
            assert!(world.verify(&quote, TeeKind::AzTdxVtpm, 0, NOW, &cache).is_err(), "{round} byte {byte}");
            quote[byte] ^= 1;
        }
        assert!(world.verify(&quote, TeeKind::AzTdxVtpm, 0, NOW, &cache).is_ok());
        let elsewhere = world.verify(&quote, TeeKind::Tdx, 0, NOW, &cache);
        assert_eq!(
            check_of(&elsewhere),
            "dcap.attributes",
            "{round}: what was remembered for Azure is no other kind's"
        );
    }
}

#[test]
fn checks_are_noted_in_their_order_until_one_refuses() {
    let all: Vec<_> = Check::ALL.iter().map(|check| check.id()).collect();
    let (good, forged) = (Spec::default().build(), with(|s| s.foreign = Some(Foreign::QeReport)).build());
    let cache = Cache::default();
    for (world, what, expected) in [
        (&good, "cold", all.len()),
        (&good, "warm", all.len()),
        (&forged, "forged", all.iter().position(|id| *id == "dcap.qe-signature").unwrap()),
    ] {
        let collateral = world.collateral();
        let presented =
            Presented { kind: TeeKind::Tdx, quote: &world.quote, collateral: &collateral, grace_seconds: 0 };
        let mut noted = Vec::new();
        let result = verify_on(&presented, &world.root, &cache, UnixTime(NOW), &mut |id| noted.push(id));
        assert_eq!(noted, all[..expected], "{what}");
        assert_eq!(result.is_ok(), expected == all.len());
    }
    assert_eq!(cache.len(), 1);
}

type Change = fn(&mut [u8]);

#[test]
fn another_quote_of_a_remembered_platform_is_judged_by_its_own_body() {
    let tdx: &[(&str, Change, &str)] = &[
        ("another measurement", |b| b[48 + 136] = 1, "ok"),
        ("other report data", |b| b[48 + 520] = 1, "ok"),
        ("another register", |b| b[48 + 328] = 1, "ok"),
        ("debugged", |b| b[48 + 120] = 1, "ok"),
        ("migratable", |b| b[48 + 123] |= 0x20, "dcap.attributes"),
        ("without SEPT_VE_DISABLE", |b| b[48 + 123] = 0, "dcap.attributes"),
        ("a reserved attribute", |b| b[48 + 120] = 2, "dcap.attributes"),
        ("another signer of the module", |b| b[48 + 64] = 1, "dcap.module"),
        ("attributes of the module", |b| b[48 + 112] = 1, "dcap.module"),
        ("an older module", |b| b[48] = 4, "out of date"),
        ("a module below every level", |b| b[48] = 3, "dcap.tcb"),
        ("an older launch", |b| b[48 + 2] = 2, "out of date"),
        ("another vendor", |b| b[12] = 1, "dcap.algorithm"),
    ];
    let later: &[(&str, Change, &str)] = &[
        ("a service domain", |b| b[54 + 600] = 1, "dcap.attributes"),
        ("an unknown module now", |b| b[54 + 585] = 9, "dcap.tcb"),
        ("another measurement", |b| b[54 + 136] = 1, "ok"),
    ];
    let sgx: &[(&str, Change, &str)] = &[
        ("another measurement", |b| b[48 + 64] = 1, "ok"),
        ("debugged", |b| b[48 + 48] = 7, "ok"),
        ("an unknown attribute", |b| b[48 + 48] = 0b1101, "dcap.attributes"),
        ("MISCSELECT unknown", |b| b[48 + 16] = 4, "dcap.attributes"),
        ("a configuration without KSS", |b| b[48 + 192] = 1, "dcap.attributes"),
        ("reserved bytes", |b| b[48 + 20] = 1, "dcap.reserved"),
    ];
    for (spec, changes) in [(Spec::default(), tdx), (with(|s| s.later = true), later), (with(|s| s.sgx = true), sgx)] {
        let world = spec.build();
        let cache = Cache::default();
        let first = world.verify(&world.quote, world.kind, 0, NOW, &cache).unwrap();
        for (what, change, expected) in changes {
            let quote = world.another(change);
            let warm = world.verify(&quote, world.kind, 0, NOW, &cache);
            assert_eq!(
                warm,
                world.verify(&quote, world.kind, 0, NOW, &Cache::new(0)),
                "{what}: as if nothing was remembered"
            );
            let found = match &warm {
                Ok(claims) if claims.tcb.value.status == TcbStatus::OutOfDate => "out of date",
                other => check_of(other),
            };
            assert_eq!(found, *expected, "{what}: {warm:?}");
            if let Ok(claims) = warm {
                assert_ne!(claims, first, "{what}");
                assert_eq!(claims.debug.value, *what == "debugged");
            }
            // The old signature under the new body.
            let mut forged = quote;
            forged[quote_signature(&world.quote)].copy_from_slice(&world.quote[quote_signature(&world.quote)]);
            assert!(world.verify(&forged, world.kind, 0, NOW, &cache).is_err(), "{what}, forged");
        }
    }
}

fn quote_signature(quote: &[u8]) -> std::ops::Range<usize> {
    let begin = super::parse_quote(quote).unwrap().signed_part().len() + 4;
    begin..begin + 64
}

#[test]
fn the_oldest_platform_is_forgotten_first() {
    let world = Spec::default().build();
    let cache = Cache::new(2);
    world.verify(&world.quote, world.kind, 0, NOW, &cache).unwrap();
    assert_eq!(cache.len(), 1);
    for (n, spec) in [Spec::default(), with(|s| s.later = true)].iter().enumerate() {
        let other = spec.build();
        other.verify(&other.quote, other.kind, 0, NOW, &cache).unwrap();
        assert_eq!(cache.len(), 2, "round {n}: the oldest goes first");
    }
    assert!(Cache::new(0).is_empty());
}

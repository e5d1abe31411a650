//! Published reports of real machines, each at a time and with the verdict it must have. Not in the repository.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use legation_attest::{
    AmdRoots, Judge, Roots,
    report_view::{CheckOutcome, FilePolicy, Filed, Outcome, Verdict, verify_file},
    snp::{Check, Product, Vcek},
};
use legation_core::{
    UnixTime,
    claims::{Anchor, Anchors, CollateralItem, Evidence, EvidenceJudge as _, RevocationCheck, Shelf, Source, TeeKind},
    encoding,
};

use crate::world::{binding, check_of, configuration, evidence, roots, world};

/// Inside the dates of every VCEK here: 2026-02-13.
const T: u64 = 1_771_000_000;

/// A folder of published evidence beside the repository, if it is there.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/evidence").join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no published evidence at {}", folder.display());
    None
}

pub(crate) fn samples() -> Option<PathBuf> {
    folder("snp")
}

pub(crate) fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn pem(ders: &[&[u8]]) -> Vec<u8> {
    let block =
        |der: &&[u8]| format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", encoding::base64(der));
    ders.iter().map(block).collect::<String>().into_bytes()
}

pub(crate) fn der_of(pem: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(pem.to_vec()).unwrap();
    let body: String =
        text.lines().skip_while(|l| !l.starts_with("-----BEGIN")).skip(1).take_while(|l| !l.starts_with('-')).collect();
    encoding::unbase64(&body).unwrap()
}

fn production() -> Roots {
    Roots::new(&Anchors::default()).unwrap()
}

fn verdict(report: &[u8], certificates: &[u8], at: u64) -> Verdict {
    let policy = FilePolicy::default();
    verify_file(&Filed::Snp { development: false, report, certificates }, &production(), &policy, UnixTime(at))
}

fn refused(verdict: &Verdict) -> &str {
    verdict.rejection().map_or("ok", |r| r.check.as_str())
}

#[test]
fn real_reports_have_the_verdicts_they_must_have() {
    let Some(folder) = samples() else { return };
    // Report, leaf, intermediate, time, expected check that refuses.
    let table: &[(&str, &str, Option<&str>, u64, &str)] = &[
        ("milan-v2", "milan-v2/vcek.der", None, T, "ok"),
        ("milan-v2", "milan-v2/vcek.der", None, 1_700_000_000, "ok"),
        ("milan-v2", "milan-v2/vcek.der", None, 1_674_583_105, "snp.dates"),
        ("milan-v2", "milan-v2/vcek.der", None, 1_674_583_106, "ok"),
        ("milan-v2", "milan-v2/vcek.der", None, 1_895_507_906, "ok"),
        ("milan-v2", "milan-v2/vcek.der", None, 1_895_507_907, "snp.dates"),
        ("genoa-ms", "genoa-ms/vcek.pem", None, T, "ok"),
        ("turin-ms", "turin-ms/vcek.pem", None, T, "ok"),
        ("genoa-ms", "genoa-ms/vcek.pem", None, 1_700_000_000, "snp.dates"),
        // VCEKs from 2026-02-05T02:05:07Z and T01:04:33Z on.
        ("genoa-ms", "genoa-ms/vcek.pem", None, 1_770_257_106, "snp.dates"),
        ("genoa-ms", "genoa-ms/vcek.pem", None, 1_770_257_107, "ok"),
        ("turin-ms", "turin-ms/vcek.pem", None, 1_770_253_472, "snp.dates"),
        ("turin-ms", "turin-ms/vcek.pem", None, 1_770_253_473, "ok"),
        // The signature is genuine, the host may debug the guest.
        ("milan-go", "milan-go/vcek.der", None, T, "policy.debug"),
        // A VLEK: its intermediate must come with it, and it lived from 2024-12-10 to 2025-12-10.
        ("milan-vlek", "milan-vlek/vlek.der", Some("roots/milan-asvk.der"), 1_740_000_000, "ok"),
        ("milan-vlek", "milan-vlek/vlek.der", Some("roots/milan-asvk.der"), 1_733_868_861, "ok"),
        ("milan-vlek", "milan-vlek/vlek.der", Some("roots/milan-asvk.der"), 1_733_868_860, "snp.dates"),
        ("milan-vlek", "milan-vlek/vlek.der", Some("roots/milan-asvk.der"), 1_765_404_861, "ok"),
        ("milan-vlek", "milan-vlek/vlek.der", Some("roots/milan-asvk.der"), 1_765_404_862, "snp.dates"),
        ("milan-vlek", "milan-vlek/vlek.der", None, 1_740_000_000, "snp.root"),
        ("milan-vlek", "milan-vlek/vlek.der", Some("roots/genoa-asvk.der"), 1_740_000_000, "snp.chain"),
        ("milan-vlek", "milan-v2/vcek.der", None, T, "snp.signing-key"),
        ("milan-v2", "milan-vlek/vlek.der", Some("roots/milan-asvk.der"), 1_740_000_000, "snp.signing-key"),
        // Certificates that are not of the report.
        ("milan-v2", "milan-v2/vcek-invalid-legacy.der", None, T, "snp.chain"),
        ("milan-v2", "milan-go/vcek.der", None, T, "snp.chip-id"),
        ("milan-go", "milan-v2/vcek.der", None, T, "snp.chip-id"),
        ("genoa-ms", "milan-v2/vcek.der", None, T, "snp.product"),
        ("milan-v2", "genoa-ms/vcek.pem", None, T, "snp.chip-id"),
        ("turin-ms", "turin-virtee/vcek.der", None, T, "snp.chip-id"),
        ("turin-ms", "genoa-ms/vcek.pem", None, T, "snp.product"),
        ("milan-v2", "roots/milan-asvk.der", None, T, "snp.root"),
    ];
    for (report, leaf, intermediate, at, expected) in table {
        let bytes = read(&folder, &format!("{report}/report.bin"));
        let leaf_bytes = read(&folder, leaf);
        let certificates = match intermediate {
            None => leaf_bytes,
            Some(intermediate) => pem(&[&leaf_bytes, &read(&folder, intermediate)]),
        };
        let verdict = verdict(&bytes, &certificates, *at);
        assert_eq!(refused(&verdict), *expected, "{report} with {leaf} at {at}: {:?}", verdict.rejection());
        assert_eq!(verdict.verdict == Outcome::Valid, *expected == "ok");
    }
}

#[test]
fn what_a_real_report_shows_is_what_it_says() {
    let Some(folder) = samples() else { return };
    let table = [
        (
            "milan-v2",
            "milan-v2/vcek.der",
            "milan",
            "a1f3930413247bb3",
            "c38427a30d4c7af9",
            "blSPL=3&teeSPL=0&snpSPL=8&ucodeSPL=115",
        ),
        (
            "genoa-ms",
            "genoa-ms/vcek.pem",
            "genoa",
            "5feee30d6d7e1a29",
            "b1e24a27bbc3a4d5",
            "blSPL=10&teeSPL=0&snpSPL=23&ucodeSPL=84",
        ),
        (
            "turin-ms",
            "turin-ms/vcek.pem",
            "turin",
            "6d6c354511d6f7c6",
            "59790fb1c39f35c1",
            "fmcSPL=1&blSPL=1&teeSPL=1&snpSPL=4&ucodeSPL=81",
        ),
    ];
    for (report, leaf, product, measurement, chip, tcb) in table {
        let verdict = verdict(&read(&folder, &format!("{report}/report.bin")), &read(&folder, leaf), T);
        let claims = verdict.claims.unwrap();
        assert_eq!(claims.anchor, Anchor::Production(format!("amd-{product}")));
        assert_eq!(claims.product.value, product);
        assert!(claims.measurement.value.starts_with(measurement) && claims.chip.value.starts_with(chip), "{report}");
        assert_eq!(claims.chip.value.len(), if product == "turin" { 16 } else { 128 });
        assert_eq!(claims.tcb.value.version, tcb);
        assert_eq!(
            (claims.debug.value, claims.vmpl.as_ref().unwrap().value, claims.tee.value),
            (false, 0, TeeKind::SevSnp)
        );
    }
    for (report, leaf, names) in [
        ("milan-v2", "milan-v2/vcek.der", "policy-smt-allowed smt"),
        ("genoa-ms", "genoa-ms/vcek.pem", "alias-check-complete ecc policy-smt-allowed smt tsme"),
        ("turin-ms", "turin-ms/vcek.pem", "alias-check-complete ecc policy-smt-allowed smt"),
    ] {
        let claims = verdict(&read(&folder, &format!("{report}/report.bin")), &read(&folder, leaf), T).claims.unwrap();
        let features = claims.features.unwrap();
        let found = features.value.into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!((found.as_str(), features.source), (names, Source::Hardware), "{report}");
        assert_eq!(claims.revocation, RevocationCheck::Unchecked, "a file comes without lists");
    }
    let debug = verdict(&read(&folder, "milan-go/report.bin"), &read(&folder, "milan-go/vcek.der"), T);
    assert!(debug.claims.unwrap().debug.value, "claims of a genuine report are shown even when the policy refuses it");

    let vlek = pem(&[&read(&folder, "milan-vlek/vlek.der"), &read(&folder, "roots/milan-asvk.der")]);
    let claims = verdict(&read(&folder, "milan-vlek/report.bin"), &vlek, 1_740_000_000).claims.unwrap();
    assert_eq!(claims.chip.value, encoding::hex(b"CN=cc-us-east-2.amazonaws.com"), "masked chip: the key's holder");
    assert_eq!((claims.chip.source, claims.vmpl.as_ref().unwrap().value), (Source::Endorsed, 1));
}

#[test]
fn a_full_chain_in_one_file_is_read_and_its_root_not_believed() {
    let Some(folder) = samples() else { return };
    let report = read(&folder, "genoa-ms/report.bin");
    let text = |name: &str| read(&folder, name);
    let file = |parts: &[&str]| parts.iter().flat_map(|p| text(p)).collect::<Vec<u8>>();
    for (parts, expected) in [
        (&["genoa-ms/vcek.pem", "roots/genoa-ask.pem"][..], "ok"),
        (&["genoa-ms/vcek.pem", "roots/genoa-ask.pem", "roots/genoa-ark.pem"], "ok"),
        (&["genoa-ms/vcek.pem", "roots/genoa-ark.pem"], "ok"),
        (&["genoa-ms/vcek.pem", "roots/milan-ask.pem"], "snp.chain"),
        (&["roots/genoa-ask.pem", "genoa-ms/vcek.pem"], "snp.root"),
        (&["genoa-ms/vcek.pem", "roots/genoa-ask.pem", "roots/milan-ask.pem"], "snp.certificate"),
        (&["roots/genoa-ark.pem"], "snp.certificate"),
        (&[], "snp.certificate"),
    ] {
        let verdict = verdict(&report, &file(parts), T);
        assert_eq!(refused(&verdict), expected, "{parts:?}");
    }
}

#[test]
fn a_verdict_lists_every_check_up_to_the_one_that_refused() {
    let Some(folder) = samples() else { return };
    let mut report = read(&folder, "genoa-ms/report.bin");
    report[0x90] ^= 1;
    let verdict = verdict(&report, &read(&folder, "genoa-ms/vcek.pem"), T);
    let outcomes: Vec<_> = verdict.checks.iter().map(|line| (line.check.as_str(), line.outcome)).collect();
    let at = Check::ALL.iter().position(|c| *c == Check::Signature).unwrap();
    assert!(outcomes[..at].iter().all(|(_, o)| *o == CheckOutcome::Pass), "{outcomes:?}");
    assert_eq!(outcomes[at], ("snp.signature", CheckOutcome::Refused));
    assert!(outcomes[at + 1..].iter().all(|(_, o)| *o == CheckOutcome::NotReached), "{outcomes:?}");
    assert_eq!(outcomes.last().unwrap().0, "policy.tcb");
    assert!(verdict.claims.is_none());
}

#[test]
fn a_product_is_verified_under_its_own_root_only() {
    let Some(folder) = samples() else { return };
    let report = read(&folder, "genoa-ms/report.bin");
    let leaf = read(&folder, "genoa-ms/vcek.pem");
    let ask = read(&folder, "roots/genoa-ask.pem");
    for (certificates, expected) in [(leaf.clone(), "snp.root"), ([leaf, ask].concat(), "snp.root")] {
        let amd = AmdRoots::only(&[Product::Milan, Product::Turin]).unwrap();
        let roots = Roots { amd, ..Roots::new(&Anchors::default()).unwrap() };
        let policy = FilePolicy::default();
        let verdict = verify_file(
            &Filed::Snp { development: false, report: &report, certificates: &certificates },
            &roots,
            &policy,
            UnixTime(T),
        );
        assert_eq!(refused(&verdict), expected);
    }
}

#[test]
fn production_evidence_is_not_development_evidence() {
    let Some(folder) = samples() else { return };
    let mut evidence = legation_core::claims::Evidence {
        kind: TeeKind::SevSnp,
        report: read(&folder, "milan-v2/report.bin"),
        endorsements: vec![read(&folder, "milan-v2/vcek.der")],
        devices: Vec::new(),
        binding: binding().encode(),
        configuration: configuration().encode(),
    };
    let judge = Judge::new(roots(&world().root));
    assert_eq!(
        check_of(judge.judge(&evidence, &Shelf::empty(), UnixTime(T))),
        "evidence.report-data",
        "genuine, and binds other keys"
    );
    evidence.kind = TeeKind::DevSnp;
    assert_eq!(check_of(judge.judge(&evidence, &Shelf::empty(), UnixTime(T))), "snp.root");
    let policy = FilePolicy::default();
    let (report, leaf) = (&evidence.report, &evidence.endorsements[0]);
    let verdict = verify_file(
        &Filed::Snp { development: true, report, certificates: leaf },
        &roots(&world().root),
        &policy,
        UnixTime(T),
    );
    assert_eq!(refused(&verdict), "snp.root");
}

#[test]
fn amds_certificates_are_no_development_roots() {
    let Some(folder) = samples() else { return };
    for product in ["milan", "genoa", "turin"] {
        for kind in ["ark", "ask"] {
            let text = String::from_utf8(read(&folder, &format!("roots/{product}-{kind}.pem"))).unwrap();
            let body: String = text.lines().filter(|l| !l.starts_with("-----")).collect();
            let ark = encoding::unbase64(&body).unwrap();
            let development = vec![legation_core::claims::DevelopmentAnchor { name: "mine".to_owned(), ark }];
            let refusal =
                Roots::new(&Anchors { operators: Vec::new(), development, tpm: Vec::new(), logs: Vec::new() })
                    .unwrap_err();
            assert_eq!(refusal.check, "roots.development");
            assert!(refusal.claim.starts_with("key of root"), "{refusal}");
        }
    }
}

/// Where a host gives no certificates, the report names the one it needs, and that one is looked up by its name.
#[test]
fn a_report_without_certificates_is_judged_by_the_one_at_hand() {
    let Some(folder) = samples() else { return };
    let judge = Judge::new(production());
    let bare = |report: Vec<u8>| Evidence { kind: TeeKind::SevSnp, report, endorsements: Vec::new(), ..evidence() };
    let verdict = |report: &[u8], items: &[(&str, &[u8])]| {
        let item = |(name, bytes): &(&str, &[u8])| {
            Arc::new(CollateralItem { name: (*name).to_owned(), bytes: bytes.to_vec() })
        };
        let shelf: Shelf = items.iter().map(item).collect();
        judge.judge(&bare(report.to_vec()), &shelf, UnixTime(T)).unwrap_err()
    };
    let mut kept = Vec::new();
    for (name, product) in [("genoa-ms", Product::Genoa), ("turin-ms", Product::Turin)] {
        let report = read(&folder, &format!("{name}/report.bin"));
        let vcek = der_of(&read(&folder, &format!("{name}/vcek.pem")));
        let of = Vcek::of_certificate(&vcek, &production().amd, UnixTime(T)).unwrap();
        assert_eq!((&of, of.product), (&Vcek::of_report(&report).unwrap(), product));
        let why = verdict(&report, &[]);
        assert_eq!((why.check.as_str(), why.expected), ("collateral.missing", of.name()));
        // Everything up to the signature holds; these reports were made for others' keys.
        assert_eq!(verdict(&report, &[(&of.name(), &vcek)]).check, "evidence.report-data", "{name}");
        kept.push((report, of.name(), vcek));
    }
    let [(genoa, genoa_name, genoa_vcek), (turin, turin_name, turin_vcek)] = kept.try_into().unwrap();
    assert_eq!(verdict(&genoa, &[(&turin_name, &turin_vcek)]).check, "collateral.missing");
    assert_eq!(verdict(&genoa, &[(&genoa_name, &turin_vcek)]).check, "snp.product", "the name makes nothing true");
    assert_eq!(verdict(&turin, &[(&turin_name, &genoa_vcek)]).check, "snp.product");
    // Of these nobody can say whose they are: version 2 names no product, and a provider's key is no chip's.
    for name in ["milan-v2", "milan-vlek"] {
        let report = read(&folder, &format!("{name}/report.bin"));
        assert_eq!(verdict(&report, &[(&genoa_name, &genoa_vcek)]).check, "evidence.endorsements", "{name}");
    }
    let mut masked = genoa;
    masked[0x1a0..0x1e0].fill(0);
    assert_eq!(verdict(&masked, &[(&genoa_name, &genoa_vcek)]).check, "evidence.endorsements");
}

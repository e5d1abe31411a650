//! What only a holder of signing keys can try: reports and chains that are properly signed and still wrong.

use std::sync::OnceLock;

use aws_lc_rs::{
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use legation_core::{
    Rejection, UnixTime,
    claims::{Anchors, Claims, Source},
};

use super::{
    AmdRoots, Certificate, ChainCache, Crl, DevelopmentRoots, GuestPolicy, Presented, Product, REPORT_LEN, RootSet,
    TcbVersion, VMPL_HYPERVISOR, verify,
};
use crate::{
    dev::{Chip, ChipSpec, DevelopmentRoot, Guest, der, root::sign},
    oid, x509,
};

const NOW: UnixTime = UnixTime(1_800_000_000);

struct World {
    root: DevelopmentRoot,
    chip: Chip,
    roots: DevelopmentRoots,
    cache: ChainCache,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let root = DevelopmentRoot::generate("unit", NOW).unwrap();
        let tcb = TcbVersion { fmc: None, bootloader: 10, tee: 2, snp: 23, microcode: 0xd9 };
        let chip = root.issue(&ChipSpec { product: Product::Genoa, chip_id: [0xab; 64], tcb }, NOW).unwrap();
        let anchors =
            Anchors { operators: Vec::new(), development: vec![root.anchor()], tpm: Vec::new(), logs: Vec::new() };
        World { roots: DevelopmentRoots::new(&anchors).unwrap(), root, chip, cache: ChainCache::default() }
    })
}

/// A report with what a chip sends beside it, VCEK and ASK.
fn presented<'a>(report: &'a [u8], endorsements: &'a [Vec<u8>]) -> Presented<'a> {
    Presented { report, leaf: &endorsements[0], intermediate: Some(&endorsements[1]), crls: &[], grace: 0 }
}

fn check_of<T>(result: Result<T, Rejection>) -> String {
    result.map_or_else(|r| r.check, |_| "ok".to_owned())
}

/// A report changed before it was signed.
fn resigned(change: impl Fn(&mut [u8; REPORT_LEN])) -> String {
    check_of(claimed(change))
}

fn claimed(change: impl Fn(&mut [u8; REPORT_LEN])) -> Result<Claims, Rejection> {
    let world = world();
    let mut report = world.chip.report(&Guest::new([1; 48]), &[2; 64]).unwrap();
    change(&mut report);
    let report = world.chip.signed(report).unwrap();
    verify(&presented(&report, &world.chip.endorsements()), &world.roots, &world.cache, NOW)
}

#[test]
fn features_are_those_that_the_version_of_the_report_defines() {
    let names = |version: u8, platform: u8, policy: u64| {
        let claims = claimed(|r| {
            (r[0], r[0x40]) = (version, platform);
            r[0x41..0x48].fill(0);
            r[8..16].copy_from_slice(&(GuestPolicy::RESERVED_ONE | policy).to_le_bytes());
            r[0x160..0x180].fill(0xff);
            if version == 2 {
                r[0x188..0x18b].fill(0);
            }
        });
        let features = claims.unwrap().features.unwrap();
        assert_eq!(features.source, Source::Hardware);
        features.value.into_iter().collect::<Vec<_>>().join(" ")
    };
    let all = 0x3ff << 16 & !GuestPolicy::RESERVED_ONE & !GuestPolicy::DEBUG;
    let known = "ciphertext-hiding ecc";
    for (version, platform, policy, expected) in [
        (3, 0, 0, "smt-disabled".to_owned()),
        (3, 1, 0, "smt".to_owned()),
        (3, 2, GuestPolicy::SMT, "policy-smt-allowed smt-disabled tsme".to_owned()),
        (2, 0xff, 0, format!("{known} rapl-disabled smt tsme")),
        (3, 0xff, 0, format!("alias-check-complete {known} rapl-disabled smt tsme")),
        (5, 0xff, 0, format!("alias-check-complete {known} rapl-disabled smt tio tsme")),
        (
            3,
            0,
            all,
            "policy-aes-256-xts policy-ciphertext-hiding policy-cxl-allowed policy-migration-allowed policy-rapl-disabled \
             policy-single-socket policy-smt-allowed smt-disabled"
                .to_owned(),
        ),
        (5, 0, 1 << 25, "policy-page-swap-disabled smt-disabled".to_owned()),
    ] {
        assert_eq!(names(version, platform, policy), expected, "version {version}, {platform:x}h, {policy:x}h");
    }
}

#[test]
fn what_was_given_at_launch_is_in_registers_and_zeros_are_not() {
    assert!(claimed(|_| ()).unwrap().registers.is_empty());
    let claims = claimed(|r| {
        r[4..8].copy_from_slice(&7_u32.to_le_bytes());
        r[0x1f] = 1;
        r[0x20] = 2;
        r[0xc0] = 3;
        r[0xe0] = 4;
        (r[0x110], r[0x48]) = (5, 1);
    });
    let registers: Vec<_> = claims.unwrap().registers.into_iter().collect();
    let filled = |first: &str, bytes: usize| format!("{first}{}", "00".repeat(bytes - 1));
    let expected = [
        ("authorkeydigest", filled("05", 48)),
        ("familyid", format!("{}01", "00".repeat(15))),
        ("guestsvn", "00000007".to_owned()),
        ("hostdata", filled("03", 32)),
        ("idkeydigest", filled("04", 48)),
        ("imageid", filled("02", 16)),
    ];
    assert_eq!(registers, expected.map(|(name, value)| (name.to_owned(), value)));
}

/// Whoever makes a certificate chooses its names: they are shown, and do nothing else.
#[test]
fn a_strangers_subject_does_not_reach_a_terminal_raw() {
    let evil = der::name("forged", "ARK\u{1b}[2J\nvalid as of now\u{202e}");
    let leaf = leaf(&der::name("forged", "SEV-VCEK"), &evil, vcek_extensions());
    let presented = Presented { report: &report(), leaf: &leaf, intermediate: None, crls: &[], grace: 0 };
    let why = verify(&presented, &world().roots, &ChainCache::new(0), NOW).unwrap_err();
    assert_eq!(why.check, "snp.root");
    let text = why.to_string();
    assert!(text.contains("valid as of now") && text.contains("\\u{1b}[2J\\n"), "{text}");
    for part in [&why.got, &why.claim, &why.expected, &why.fix, &text] {
        assert!(!part.chars().any(|c| c.is_control() || c == '\u{202e}'), "{part:?}");
    }
}

#[test]
fn a_signed_report_is_still_held_against_its_certificate_and_itself() {
    let ones = |r: &mut [u8; REPORT_LEN]| r[0x160..0x180].fill(0xff);
    let policy = |r: &mut [u8; REPORT_LEN], bits: u64| r[8..16].copy_from_slice(&bits.to_le_bytes());
    type Change<'a> = Box<dyn Fn(&mut [u8; REPORT_LEN]) + 'a>;
    let table: Vec<(&str, &str, Change<'_>)> = vec![
        ("nothing changed", "ok", Box::new(|_| ())),
        ("version 1", "snp.version", Box::new(|r| r[0] = 1)),
        ("version 6", "snp.version", Box::new(|r| r[0] = 6)),
        ("version 4", "ok", Box::new(|r| r[0] = 4)),
        ("version 5", "ok", Box::new(|r| r[0] = 5)),
        ("version 5 with mitigations", "ok", Box::new(|r| (r[0], r[0x1f8], r[0x200]) = (5, 0x3f, 0x3f))),
        ("version 3 with mitigations", "snp.reserved", Box::new(|r| r[0x1f8] = 1)),
        ("version 2 with a processor", "snp.reserved", Box::new(|r| r[0] = 2)),
        (
            "version 2",
            "ok",
            Box::new(|r| {
                r[0] = 2;
                r[0x188..0x18b].fill(0);
            }),
        ),
        ("bit 17 of the policy clear", "snp.reserved", Box::new(move |r| policy(r, 0))),
        ("bit 26 of the policy", "snp.reserved", Box::new(move |r| policy(r, GuestPolicy::RESERVED_ONE | 1 << 26))),
        ("bit 25 of the policy", "ok", Box::new(move |r| policy(r, GuestPolicy::RESERVED_ONE | 1 << 25))),
        (
            "debugging, which is for the policy",
            "ok",
            Box::new(move |r| policy(r, GuestPolicy::RESERVED_ONE | GuestPolicy::DEBUG)),
        ),
        ("unknown key flag", "snp.reserved", Box::new(|r| r[0x48] = 0x20)),
        ("unknown platform feature", "ok", Box::new(|r| r[0x40] = 0xff)),
        ("another algorithm", "snp.algorithm", Box::new(|r| r[0x34] = 2)),
        ("signed by a VLEK", "snp.signing-key", Box::new(|r| r[0x48] = 1 << 2)),
        ("signed by a reserved key", "snp.signing-key", Box::new(|r| r[0x48] = 2 << 2)),
        ("signed by none", "snp.signing-key", Box::new(|r| r[0x48] = 7 << 2)),
        ("chip key masked", "snp.signing-key", Box::new(|r| r[0x48] = 2)),
        ("author key without its flag", "snp.signing-key", Box::new(|r| r[0x110] = 1)),
        ("author key with its flag", "ok", Box::new(|r| (r[0x110], r[0x48]) = (1, 1))),
        ("Milan's model", "snp.product", Box::new(|r| r[0x189] = 0x01)),
        ("Bergamo's model", "ok", Box::new(|r| r[0x189] = 0xa0)),
        ("unknown family", "snp.product", Box::new(|r| r[0x188] = 0x17)),
        ("another chip", "snp.chip-id", Box::new(|r| r[0x1df] = 0)),
        ("no chip", "ok", Box::new(|r| r[0x1a0..0x1e0].fill(0))),
        ("older reported version", "snp.tcb", Box::new(|r| r[0x187] -= 1)),
        ("newer reported version", "snp.tcb", Box::new(|r| r[0x186] += 1)),
        ("current older than reported", "snp.tcb", Box::new(|r| r[0x3f] -= 1)),
        ("current newer than reported", "ok", Box::new(|r| r[0x3f] += 1)),
        ("committed newer than current", "snp.tcb", Box::new(|r| r[0x1e0] += 1)),
        ("committed older than current", "ok", Box::new(|r| r[0x1e0] -= 1)),
        ("committed firmware newer than current", "snp.tcb", Box::new(|r| r[0x1ed] += 1)),
        ("reserved byte of a security version", "snp.tcb", Box::new(|r| r[0x1f3] = 1)),
        (
            "may migrate, with an agent",
            "snp.migration",
            Box::new(move |r| {
                policy(r, GuestPolicy::RESERVED_ONE | GuestPolicy::MIGRATE_MA);
                r[0x160] = 0;
            }),
        ),
        (
            "may migrate, without one",
            "ok",
            Box::new(move |r| {
                policy(r, GuestPolicy::RESERVED_ONE | GuestPolicy::MIGRATE_MA);
                ones(r);
            }),
        ),
        ("privilege level 3", "ok", Box::new(|r| r[0x30] = 3)),
        ("privilege level 4", "snp.vmpl", Box::new(|r| r[0x30] = 4)),
        (
            "asked for by the hypervisor",
            "snp.vmpl",
            Box::new(|r| r[0x30..0x34].copy_from_slice(&VMPL_HYPERVISOR.to_le_bytes())),
        ),
    ];
    for (what, expected, change) in table {
        assert_eq!(resigned(change), expected, "{what}");
    }
    for at in [0x4c, 0x4f, 0x18b, 0x19f, 0x1eb, 0x1ef, 0x1f8, 0x207, 0x208, 0x29f] {
        assert_eq!(resigned(|r| r[at] = 0x80), "snp.reserved", "reserved byte {at:03x}h");
    }
}

/// Keys for forged authorities; every certificate below is properly signed by one of them.
fn key() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    KEY.get_or_init(|| KeyPair::generate(KeySize::Rsa4096).unwrap())
}

struct Authority<'a> {
    subject: &'a [u8],
    issuer: &'a [u8],
    extensions: Vec<Vec<u8>>,
}

/// A certificate by [`key`] for [`key`].
fn authority(a: &Authority<'_>) -> Vec<u8> {
    certificate(a, &der::rsa_spki(key().public_key().as_ref()))
}

fn certificate(a: &Authority<'_>, spki: &[u8]) -> Vec<u8> {
    let dates = (NOW, NOW.plus(1000));
    let tbs =
        der::ToBeSigned { serial: &[7], issuer: a.issuer, subject: a.subject, dates, spki, extensions: &a.extensions };
    sign(&der::to_be_signed(&tbs), key()).unwrap()
}

/// The point of the chip's key, in a new certificate by [`key`].
fn leaf(subject: &[u8], issuer: &[u8], extensions: Vec<Vec<u8>>) -> Vec<u8> {
    let vcek = Certificate::parse("", &world().chip.endorsements()[0]).unwrap();
    let x509::Key::P384(point) = &vcek.key else { panic!("a VCEK has a P-384 key") };
    certificate(&Authority { subject, issuer, extensions }, &der::p384_spki(point))
}

fn vcek_extensions() -> Vec<Vec<u8>> {
    let spec = world().chip.spec();
    der::vcek_extensions(spec.product, &spec.tcb, &spec.chip_id)
}

fn report() -> [u8; REPORT_LEN] {
    world().chip.report(&Guest::new([1; 48]), &[2; 64]).unwrap()
}

fn verify_chain<R: RootSet>(leaf: &[u8], intermediate: Option<&[u8]>, roots: &R, at: UnixTime) -> String {
    let presented = Presented { report: &report(), leaf, intermediate, crls: &[], grace: 0 };
    check_of(verify(&presented, roots, &ChainCache::new(0), at))
}

#[test]
fn amds_names_without_amds_keys_are_nothing() {
    let amd = AmdRoots::only(&[Product::Genoa]).unwrap();
    let root = &amd.roots()[0];
    let (ark, ask) = (&root.ark.subject, &root.ask.as_ref().unwrap().subject);
    let forged_ask =
        authority(&Authority { subject: ask, issuer: ark, extensions: der::ca_extensions(Some(0), false) });
    let forged_leaf = leaf(&der::name("unit", "SEV-VCEK"), ask, vcek_extensions());
    assert_eq!(verify_chain(&forged_leaf, Some(&forged_ask), &amd, NOW), "snp.chain", "forged intermediate");
    assert_eq!(verify_chain(&forged_leaf, None, &amd, NOW), "snp.chain", "forged leaf under the real intermediate");
    let real_ask = &root.ask.as_ref().unwrap().der;
    assert_eq!(
        verify_chain(&forged_leaf, Some(real_ask), &amd, NOW),
        "snp.chain",
        "forged leaf, real intermediate sent"
    );
}

#[test]
fn each_of_amds_intermediates_certifies_its_own_product_and_kind_of_leaf() {
    let ark_name = der::name("forged", "ARK-Genoa");
    let ark =
        authority(&Authority { subject: &ark_name, issuer: &ark_name, extensions: der::ca_extensions(None, true) });
    let roots = |product| AmdRoots::in_place_of_amd(product, Certificate::parse("", &ark).unwrap());
    let mut vlek_extensions = vcek_extensions();
    // hwID, the last, makes way for a cspID.
    vlek_extensions.pop();
    vlek_extensions.push(der::csp_extension("CN=cloud.example"));
    let chain = |ask: &str, leaf_name: &str, extensions: &[Vec<u8>]| {
        let ask = der::name("forged", ask);
        let extended = Authority { subject: &ask, issuer: &ark_name, extensions: der::ca_extensions(Some(0), false) };
        (leaf(&der::name("forged", leaf_name), &ask, extensions.to_vec()), authority(&extended))
    };
    let vcek = vcek_extensions();
    for (what, product, (leaf, ask), expected) in [
        ("VCEK by the ASK", Product::Genoa, chain("SEV-Genoa", "SEV-VCEK", &vcek), "ok"),
        ("VCEK by the ASVK", Product::Genoa, chain("SEV-VLEK-Genoa", "SEV-VCEK", &vcek), "snp.extensions"),
        ("VLEK by the ASK", Product::Genoa, chain("SEV-Genoa", "SEV-VLEK", &vlek_extensions), "snp.extensions"),
        // The report says that a VCEK signed it.
        ("VLEK by the ASVK", Product::Genoa, chain("SEV-VLEK-Genoa", "SEV-VLEK", &vlek_extensions), "snp.signing-key"),
        ("VLEK named VCEK", Product::Genoa, chain("SEV-VLEK-Genoa", "SEV-VCEK", &vlek_extensions), "snp.extensions"),
        ("VCEK by the ASK of another product", Product::Genoa, chain("SEV-Milan", "SEV-VCEK", &vcek), "snp.extensions"),
        ("VCEK that names another product", Product::Milan, chain("SEV-Milan", "SEV-VCEK", &vcek), "snp.product"),
    ] {
        assert_eq!(verify_chain(&leaf, Some(&ask), &roots(product), NOW), expected, "{what}");
    }
}

#[test]
fn every_certificate_must_be_what_its_place_demands() {
    let ark_name = der::name("forged", "ARK-DEV");
    let ask_name = der::name("forged", "SEV-DEV");
    let vcek_name = der::name("forged", "SEV-VCEK");
    let ca = |path_len| der::ca_extensions(path_len, true);
    let ark = |extensions| authority(&Authority { subject: &ark_name, issuer: &ark_name, extensions });
    let roots = |ark: Vec<u8>| {
        let development = vec![legation_core::claims::DevelopmentAnchor { name: "forged".to_owned(), ark }];
        // The same key as root and intermediate: only names and extensions are under test.
        DevelopmentRoots::new(&Anchors { operators: Vec::new(), development, tpm: Vec::new(), logs: Vec::new() })
    };
    let good_roots = roots(ark(ca(None))).unwrap();
    let ask = |subject: &[u8], extensions| authority(&Authority { subject, issuer: &ark_name, extensions });
    let good_ask = ask(&ask_name, ca(Some(0)));
    let good_leaf = leaf(&vcek_name, &ask_name, vcek_extensions());

    let with = |extra: Vec<Vec<u8>>| [vcek_extensions(), extra].concat();
    let without = |i: usize| {
        let mut extensions = vcek_extensions();
        extensions.remove(i);
        extensions
    };
    let other_name = der::name("forged", "SEV-OTHER");
    let table: Vec<(&str, &str, Vec<u8>, Vec<u8>)> = vec![
        ("a good chain", "ok", good_leaf.clone(), good_ask.clone()),
        ("intermediate without authority", "snp.chain", good_leaf.clone(), ask(&ask_name, Vec::new())),
        ("intermediate of another name", "snp.chain", good_leaf.clone(), ask(&other_name, ca(Some(0)))),
        (
            "leaf issued by another name of the same key",
            "snp.extensions",
            leaf(&vcek_name, &other_name, vcek_extensions()),
            ask(&other_name, ca(Some(0))),
        ),
        ("leaf with authority", "snp.chain", leaf(&vcek_name, &ask_name, with(ca(None))), good_ask.clone()),
        ("root as leaf", "snp.chain", ark(ca(None)), good_ask.clone()),
        ("intermediate as leaf", "snp.chain", good_ask.clone(), good_ask.clone()),
        ("leaf of another name", "snp.extensions", leaf(&other_name, &ask_name, vcek_extensions()), good_ask.clone()),
        ("extension twice", "snp.certificate", leaf(&vcek_name, &ask_name, with(vcek_extensions())), good_ask.clone()),
        ("no structVersion", "snp.extensions", leaf(&vcek_name, &ask_name, without(0)), good_ask.clone()),
        ("no productName", "snp.extensions", leaf(&vcek_name, &ask_name, without(1)), good_ask.clone()),
        ("no security version", "snp.extensions", leaf(&vcek_name, &ask_name, without(2)), good_ask.clone()),
        ("no chip", "snp.extensions", leaf(&vcek_name, &ask_name, without(10)), good_ask.clone()),
        ("not a certificate", "snp.certificate", b"0000".to_vec(), good_ask.clone()),
        ("bytes behind the leaf", "snp.certificate", [good_leaf.clone(), vec![0]].concat(), good_ask.clone()),
        ("oversized leaf", "snp.certificate", vec![0x30; super::CERTIFICATE_MAX + 1], good_ask.clone()),
    ];
    for (what, expected, leaf, ask) in table {
        assert_eq!(verify_chain(&leaf, Some(&ask), &good_roots, NOW), expected, "{what}");
    }
    assert_eq!(verify_chain(&good_leaf, None, &good_roots, NOW), "snp.root", "a development root has no built-in ASK");
    assert_eq!(verify_chain(&good_leaf, Some(&good_ask), &good_roots, NOW.minus(1)), "snp.dates", "too early");
    assert_eq!(verify_chain(&good_leaf, Some(&good_ask), &good_roots, NOW.plus(1000)), "ok", "last second");
    assert_eq!(verify_chain(&good_leaf, Some(&good_ask), &good_roots, NOW.plus(1001)), "snp.dates", "too late");
    assert_eq!(check_of(roots(ark(Vec::new()))), "roots.development", "a root without authority");
    assert_eq!(check_of(roots(good_ask)), "roots.development", "a root that is not self-issued");
    let short = roots(ark(ca(Some(0)))).unwrap();
    assert_eq!(verify_chain(&good_leaf, Some(&ask(&ask_name, ca(Some(0)))), &short, NOW), "snp.chain", "path too long");
}

#[test]
fn a_cached_chain_never_outlives_its_dates_and_is_of_its_roots_alone() {
    let world = world();
    let (endorsements, report) = (world.chip.endorsements(), report());
    let first = presented(&report, &endorsements);
    let cache = ChainCache::new(1);
    assert!(verify(&first, &world.roots, &cache, NOW).is_ok());
    assert_eq!(cache.len(), 1);
    let end = NOW.plus(crate::dev::CERTIFICATE_YEARS * 365 * 86_400);
    for (at, expected) in [(NOW.minus(1), "snp.dates"), (NOW, "ok"), (end, "ok"), (end.plus(1), "snp.dates")] {
        assert_eq!(check_of(verify(&first, &world.roots, &cache, at)), expected, "{at}");
    }
    assert_eq!(check_of(verify(&first, &AmdRoots::all().unwrap(), &cache, NOW)), "snp.root");
    let none = DevelopmentRoots::new(&Anchors::default()).unwrap();
    assert_eq!(check_of(verify(&first, &none, &cache, NOW)), "snp.root");

    let other = world.root.issue(&ChipSpec { chip_id: [0xcd; 64], ..world.chip.spec().clone() }, NOW).unwrap();
    let (endorsements, report) = (other.endorsements(), other.report(&Guest::new([1; 48]), &[2; 64]).unwrap());
    assert!(verify(&presented(&report, &endorsements), &world.roots, &cache, NOW).is_ok());
    assert_eq!(cache.len(), 1, "the oldest chain goes first");
    assert!(verify(&first, &world.roots, &cache, NOW).is_ok());
}

#[test]
fn a_cached_chain_tells_of_a_stale_list_at_the_times_it_is_stale() {
    let world = world();
    let (endorsements, report) = (world.chip.endorsements(), report());
    let crls = [Crl::parse(&world.root.revocation_list(&[], NOW, 100).unwrap()).unwrap()];
    let presented = Presented { crls: &crls, grace: 1000, ..presented(&report, &endorsements) };
    let cache = ChainCache::default();
    let due = NOW.plus(100);
    for (at, stale) in [(due.plus(9), Some(due)), (NOW, None), (due, None), (due.plus(1), Some(due))] {
        assert_eq!(verify(&presented, &world.roots, &cache, at).unwrap().stale_since, stale, "{at}");
    }
    assert_eq!(check_of(verify(&presented, &world.roots, &cache, due.plus(1001))), "snp.crl");
}

/// Every copy of `der` with one bit flipped.
fn flips(der: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..8 * der.len()).map(|bit| {
        let mut changed = der.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        (format!("bit {} of byte {}", bit % 8, bit / 8), changed)
    })
}

/// Also those that no signature covers: the frame around the signed part, and the second name of the algorithm.
#[test]
fn every_flipped_bit_of_a_certificate_is_refused() {
    let world = world();
    let (ark, ask, vcek) = (world.root.ark(), world.root.ask(), &world.chip.endorsements()[0]);
    for (what, der, issuer) in [("ARK", ark, ark), ("ASK", ask, ark), ("VCEK", vcek, ask)] {
        let issuer = Certificate::parse(what, issuer).unwrap();
        let holds = |der: &[u8]| Certificate::parse(what, der).is_ok_and(|c| c.signed_by(&issuer));
        assert!(holds(der), "{what}");
        for (place, changed) in flips(der) {
            assert!(!holds(&changed), "{place} of the {what}");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_revocation_list_is_refused() {
    let world = world();
    let list = world.root.revocation_list(&[vec![1], vec![2, 3]], NOW, 1000).unwrap();
    let signer = |der: &[u8]| Crl::parse(der).ok().and_then(|crl| crl.signed_under(&world.roots).map(str::to_owned));
    assert_eq!(signer(&list).as_deref(), Some("unit"));
    for (place, changed) in flips(&list) {
        assert_eq!(signer(&changed), None, "{place}");
    }
}

#[test]
fn what_other_vendors_use_is_refused_although_it_is_x509() {
    let name = der::name("forged", "SEV-VCEK");
    let with = |extensions: Vec<Vec<u8>>| leaf(&name, &name, extensions);
    let of_key = |spki: &[u8]| certificate(&Authority { subject: &name, issuer: &name, extensions: Vec::new() }, spki);
    let small = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let p256 = x509::tests::key(&rcgen::PKCS_ECDSA_P256_SHA256);
    let mut self_signed = x509::tests::params("SEV-VCEK", NOW, NOW.plus(1000));
    x509::tests::authority(&mut self_signed, None);
    let other = x509::tests::issue(self_signed, None, &rcgen::PKCS_ECDSA_P384_SHA384);
    // A valid form of the wrong hash: SHA-256 throughout, and a salt of its length.
    let sha256 = [&oid::SHA384[..8], &[1]].concat();
    let weaker =
        replaced(&replaced(&with(Vec::new()), oid::SHA384, &sha256), &[0xa2, 3, 2, 1, 48], &[0xa2, 3, 2, 1, 32]);
    let critical = der::extension(&[oid::AMD, oid::AMD_CSP_ID], true, &[0x16, 0]);
    let unreadable = der::extension(&[oid::SUBJECT_ALT_NAME], false, &[0xff]);
    for (got, certificate) in [
        ("Pss(Sha256)", weaker),
        ("Ecdsa(Sha384)", other.der.clone()),
        ("RSA key of 2048 bits", of_key(&der::rsa_spki(small.public_key().as_ref()))),
        ("P-256 key", of_key(&rcgen::PublicKeyData::subject_public_key_info(&p256))),
        ("critical extension 1.3.6.1.4.1.3704.1.5", with(vec![critical])),
        ("extension 2.5.29.17", with(vec![unreadable])),
        ("common name", leaf(&[0x30, 0], &name, Vec::new())),
    ] {
        x509::Certificate::parse("", "", &certificate).unwrap_or_else(|e| panic!("{got}: {e}"));
        let refused = Certificate::parse("leaf", &certificate).map(|_| ()).unwrap_err();
        assert!(refused.check == "snp.certificate" && refused.got.contains(got), "{got}: {refused}");
    }
    for (got, point) in [("critical extension", true), ("Ecdsa(Sha384)", false)] {
        let list = x509::tests::list(&other, x509::tests::List { point, ..Default::default() });
        x509::Crl::parse("", &list).unwrap();
        let refused = Crl::parse(&list).unwrap_err();
        assert!(refused.check == "snp.crl" && refused.got.contains(got), "{got}: {refused}");
    }
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for at in 0..=out.len() - from.len() {
        if out[at..].starts_with(from) {
            out[at..at + to.len()].copy_from_slice(to);
        }
    }
    out
}

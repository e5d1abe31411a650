//! What only a holder of signing keys can try: reports and chains that are properly signed and still wrong.

use std::sync::OnceLock;

use aws_lc_rs::{
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use legation_core::{Rejection, UnixTime, claims::Anchors};

use super::{
    AmdRoots, Certificate, ChainCache, DevelopmentRoots, GuestPolicy, Presented, Product, REPORT_LEN, RootSet,
    TcbVersion, VMPL_HYPERVISOR, verify,
};
use crate::dev::{Chip, ChipSpec, DevelopmentRoot, Guest, der, root::sign};

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
        let anchors = Anchors { operators: Vec::new(), development: vec![root.anchor()], tpm: Vec::new() };
        World { roots: DevelopmentRoots::new(&anchors).unwrap(), root, chip, cache: ChainCache::default() }
    })
}

fn check_of<T>(result: Result<T, Rejection>) -> String {
    result.map_or_else(|r| r.check, |_| "ok".to_owned())
}

/// A report changed before it was signed.
fn resigned(change: impl Fn(&mut [u8; REPORT_LEN])) -> String {
    let world = world();
    let mut report = world.chip.report(&Guest::new([1; 48]), &[2; 64]).unwrap();
    change(&mut report);
    let report = world.chip.signed(report).unwrap();
    let endorsements = world.chip.endorsements();
    let presented = Presented {
        report: &report,
        leaf: &endorsements[0],
        intermediate: Some(&endorsements[1]),
        crls: &[],
        grace: 0,
    };
    check_of(verify(&presented, &world.roots, &world.cache, NOW))
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
    let super::Key::P384(point) = vcek.key else { panic!("a VCEK has a P-384 key") };
    certificate(&Authority { subject, issuer, extensions }, &der::p384_spki(&point))
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
        DevelopmentRoots::new(&Anchors { operators: Vec::new(), development, tpm: Vec::new() })
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
    let endorsements = world.chip.endorsements();
    let report = report();
    let presented = Presented {
        report: &report,
        leaf: &endorsements[0],
        intermediate: Some(&endorsements[1]),
        crls: &[],
        grace: 0,
    };
    let cache = ChainCache::new(1);
    assert!(verify(&presented, &world.roots, &cache, NOW).is_ok());
    assert_eq!(cache.len(), 1);
    let end = NOW.plus(crate::dev::CERTIFICATE_YEARS * 365 * 86_400);
    for (at, expected) in [(NOW.minus(1), "snp.dates"), (NOW, "ok"), (end, "ok"), (end.plus(1), "snp.dates")] {
        assert_eq!(check_of(verify(&presented, &world.roots, &cache, at)), expected, "{at}");
    }
    assert_eq!(check_of(verify(&presented, &AmdRoots::all().unwrap(), &cache, NOW)), "snp.root");
    let none = DevelopmentRoots::new(&Anchors::default()).unwrap();
    assert_eq!(check_of(verify(&presented, &none, &cache, NOW)), "snp.root");

    let other = world.root.issue(&ChipSpec { chip_id: [0xcd; 64], ..world.chip.spec().clone() }, NOW).unwrap();
    let (endorsements, report) = (other.endorsements(), other.report(&Guest::new([1; 48]), &[2; 64]).unwrap());
    let second = Presented {
        report: &report,
        leaf: &endorsements[0],
        intermediate: Some(&endorsements[1]),
        crls: &[],
        grace: 0,
    };
    assert!(verify(&second, &world.roots, &cache, NOW).is_ok());
    assert_eq!(cache.len(), 1, "the oldest chain goes first");
    assert!(verify(&presented, &world.roots, &cache, NOW).is_ok());
}

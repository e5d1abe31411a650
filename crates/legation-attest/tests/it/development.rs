//! The development root: files, names, revocation, and what it must never pass for.

use std::sync::Arc;

use legation_attest::{
    AmdRoots, Judge, Roots,
    dev::{Chip, ChipSpec, DevelopmentError, DevelopmentRoot, Guest},
    snp::{ChainCache, Crl, Presented, Product, TcbVersion, verify},
};
use legation_core::claims::{
    Anchor, Anchors, CollateralItem, DevelopmentAnchor, EvidenceJudge as _, RevocationCheck, Shelf, Source, TeeKind,
};

use crate::world::{MEASUREMENT, NOW, binding, check_of, configuration, evidence, roots, spec, world};

#[test]
fn development_evidence_is_never_production_evidence() {
    let world = world();
    let judged = world.judge.judge(&evidence(), &Shelf::empty(), NOW).unwrap();
    assert_eq!(judged.claims.anchor, Anchor::Development("laptop".to_owned()));
    assert_eq!(judged.claims.tee.value, TeeKind::DevSnp);

    let mut lied = evidence();
    lied.kind = TeeKind::SevSnp;
    assert_eq!(
        check_of(world.judge.judge(&lied, &Shelf::empty(), NOW)),
        "snp.root",
        "kind alone makes nothing production"
    );

    let (report, endorsements) = (&lied.report, &lied.endorsements);
    let presented =
        Presented { report, leaf: &endorsements[0], intermediate: Some(&endorsements[1]), crls: &[], grace: 0 };
    assert_eq!(check_of(verify(&presented, &AmdRoots::all().unwrap(), &ChainCache::default(), NOW)), "snp.root");

    let strict = Judge::new(Roots::new(&Anchors::default()).unwrap());
    assert_eq!(
        check_of(strict.judge(&evidence(), &Shelf::empty(), NOW)),
        "snp.root",
        "an anchor file without development roots"
    );
}

#[test]
fn certificates_say_what_they_are() {
    let root = &world().root;
    for der in [root.ark(), root.ask(), &world().chip.endorsements()[0]] {
        let text = String::from_utf8_lossy(der);
        for words in ["DEVELOPMENT", "NOT AMD", "laptop"] {
            assert!(text.contains(words), "{words}");
        }
    }
}

#[test]
fn root_and_chip_survive_their_files_and_hide_their_keys() {
    let world = world();
    let file = world.root.to_pem().unwrap();
    let root = DevelopmentRoot::from_pem(&file).unwrap();
    assert_eq!((root.name(), root.ark(), root.ask()), ("laptop", world.root.ark(), world.root.ask()));
    let chip = root.issue(&spec(0x55), NOW).unwrap();
    let read = Chip::from_pem(&chip.to_pem().unwrap()).unwrap();
    assert_eq!((read.spec(), read.endorsements()), (chip.spec(), chip.endorsements()));
    let evidence = read.evidence(&Guest::new(MEASUREMENT), &binding(), &configuration()).unwrap();
    world.judge.judge(&evidence, &Shelf::empty(), NOW).unwrap();
    assert_eq!(format!("{root:?}"), "DevelopmentRoot(laptop)");
    assert_eq!(format!("{read:?}"), "Chip(milan 555555555555)");

    let text = String::from_utf8(file.to_vec()).unwrap();
    let chip_text = String::from_utf8(chip.to_pem().unwrap().to_vec()).unwrap();
    let other_text = String::from_utf8(root.issue(&spec(0x56), NOW).unwrap().to_pem().unwrap().to_vec()).unwrap();
    let key_of = |t: &str| t[t.find("-----BEGIN PRIVATE").unwrap()..].to_owned();
    let mixed = chip_text.replace(&key_of(&chip_text), &key_of(&other_text));
    for (what, bad) in [("empty", ""), ("half", &text[..text.len() / 2]), ("chip", &chip_text)] {
        assert!(matches!(DevelopmentRoot::from_pem(bad.as_bytes()), Err(DevelopmentError::File(_))), "{what}");
    }
    for (what, bad) in [("root", text.as_str()), ("another chip's key", &mixed)] {
        assert!(matches!(Chip::from_pem(bad.as_bytes()), Err(DevelopmentError::File(_))), "{what}");
    }
}

#[test]
fn what_development_does_not_make_is_refused() {
    let root = &world().root;
    let turin = ChipSpec { product: Product::Turin, ..spec(1) };
    let fmc = ChipSpec { tcb: TcbVersion { fmc: Some(1), ..spec(1).tcb }, ..spec(1) };
    for bad in [turin, fmc] {
        assert!(matches!(root.issue(&bad, NOW), Err(DevelopmentError::Product(_))), "{bad:?}");
    }
    for bad in ["", "Capital", "a b", "-a"] {
        assert!(matches!(DevelopmentRoot::generate(bad, NOW), Err(DevelopmentError::Name(_))), "{bad}");
    }
}

#[test]
fn an_anchor_file_that_says_something_twice_or_wrongly_is_refused() {
    let anchor = world().root.anchor();
    let named = |name: &str| DevelopmentAnchor { name: name.to_owned(), ..anchor.clone() };
    let ask = DevelopmentAnchor { name: "b".to_owned(), ark: world().root.ask().to_vec() };
    for (what, development, expected) in [
        ("one", vec![anchor.clone()], "ok"),
        ("under another name", vec![named("elsewhere")], "ok"),
        ("twice", vec![anchor.clone(), anchor.clone()], "roots.development"),
        ("one key, two names", vec![named("a"), named("b")], "roots.development"),
        ("no name", vec![named("Not A Name")], "roots.development"),
        ("an intermediate", vec![ask], "roots.development"),
        ("too many", vec![anchor.clone(); 17], "roots.development"),
        ("no certificate", vec![DevelopmentAnchor { name: "a".to_owned(), ark: vec![0x30, 0] }], "snp.certificate"),
    ] {
        assert_eq!(
            check_of(Roots::new(&Anchors { operators: Vec::new(), development, tpm: Vec::new(), logs: Vec::new() })),
            expected,
            "{what}"
        );
    }
}

#[test]
fn a_revoked_intermediate_takes_its_chips_with_it() {
    let world = world();
    let crl = |serials: &[Vec<u8>], from, seconds| world.root.revocation_list(serials, from, seconds).unwrap();
    let with = |list: Vec<u8>| {
        let name = format!("dev/{}/crl", world.root.anchor().name);
        Shelf::from_iter([Arc::new(CollateralItem { name, bytes: list })])
    };
    let ask = world.root.ask_serial();
    let mut forged = world.root.revocation_list(&[], NOW, 1000).unwrap();
    *forged.last_mut().unwrap() ^= 1;
    for (what, list, expected) in [
        ("nothing revoked", crl(&[], NOW, 1000), "ok"),
        ("another serial", crl(&[vec![0x80, 1], vec![1]], NOW, 1000), "ok"),
        ("the intermediate", crl(&[vec![1], ask], NOW, 1000), "snp.crl"),
        ("stale", crl(&[], NOW.minus(1001), 1000), "snp.crl"),
        ("last second", crl(&[], NOW.minus(1000), 1000), "ok"),
        ("of tomorrow", crl(&[], NOW.plus(1), 1000), "snp.crl"),
        ("forged", forged, "snp.crl"),
    ] {
        let judge = Judge::with_grace(roots(&world.root), 0);
        // The chain is in the judge's cache before the list comes.
        judge.judge(&evidence(), &Shelf::empty(), NOW).unwrap();
        assert_eq!(check_of(judge.judge(&evidence(), &with(list), NOW)), expected, "{what}");
    }
    let judge = Judge::with_grace(roots(&world.root), 0);
    let (list, late) = (with(crl(&[], NOW, 1000)), evidence_until(NOW.plus(2000)));
    let judged = judge.judge(&evidence(), &list, NOW).unwrap();
    assert_eq!(judged.collateral, list.items().map(|item| item.digest()).collect::<Vec<_>>());
    assert_eq!((judged.claims.stale_since, judged.claims.revocation), (None, RevocationCheck::Checked));
    // The chain is in the judge's cache: a verdict without the list is another.
    let unlisted = judge.judge(&evidence(), &Shelf::empty(), NOW).unwrap();
    assert_eq!(unlisted.claims.revocation, RevocationCheck::Unchecked);
    let at = NOW.plus(1001);
    assert_eq!(check_of(judge.judge(&late, &list, at)), "snp.crl", "a cached chain outlives no list");
    // A grace is dated, and the claims say that it was needed.
    let lenient = Judge::with_grace(roots(&world.root), 10);
    lenient.judge(&evidence(), &list, NOW).unwrap();
    let judged = lenient.judge(&late, &list, NOW.plus(1010)).unwrap();
    assert_eq!(judged.claims.stale_since, Some(NOW.plus(1000)));
    assert_eq!(check_of(lenient.judge(&late, &list, NOW.plus(1011))), "snp.crl");
    for bad in [&b""[..], b"0\0", world.root.ark()] {
        assert_eq!(check_of(Crl::parse(bad)), "snp.crl");
    }
}

fn evidence_until(not_after: legation_core::UnixTime) -> legation_core::claims::Evidence {
    let mut binding = binding();
    binding.not_after = not_after;
    world().chip.evidence(&Guest::new(MEASUREMENT), &binding, &configuration()).unwrap()
}

#[test]
fn a_masked_chip_is_known_by_its_certificate() {
    let guest = Guest { mask_chip_id: true, ..Guest::new(MEASUREMENT) };
    let evidence = world().chip.evidence(&guest, &binding(), &configuration()).unwrap();
    let chip = world().judge.judge(&evidence, &Shelf::empty(), NOW).unwrap().claims.chip;
    assert_eq!((chip.value, chip.source), ("c1".repeat(64), Source::Endorsed));
}

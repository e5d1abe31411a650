//! Whole evidence.

use legation_attest::{Judge, Roots, dev::Guest};
use legation_core::{
    Digest,
    claims::{Anchors, ENDORSEMENTS_MAX, EVIDENCE_MAX, Evidence, EvidenceJudge as _, KeyBinding, Shelf},
};

use crate::world::{MEASUREMENT, NOW, binding, check_of, configuration, evidence, world};

#[test]
fn evidence_that_is_not_whole_is_refused() {
    type Change = fn(&mut Evidence);
    let json = |bytes: &[u8], from: &str, to: &str| {
        String::from_utf8(bytes.to_vec()).unwrap().replacen(from, to, 1).into_bytes()
    };
    let table: &[(&str, &str, Change)] = &[
        ("untouched", "ok", |_| ()),
        ("report too large", "evidence.size", |e| e.report = vec![0; EVIDENCE_MAX]),
        ("too many endorsements", "evidence.size", |e| e.endorsements = vec![vec![1]; ENDORSEMENTS_MAX + 1]),
        ("no endorsement", "evidence.endorsements", |e| e.endorsements.clear()),
        ("root sent along", "evidence.endorsements", |e| e.endorsements.push(world().root.ark().to_vec())),
        ("no intermediate", "snp.root", |e| e.endorsements.truncate(1)),
        ("endorsements the wrong way round", "snp.root", |e| e.endorsements.swap(0, 1)),
        ("short report", "snp.length", |e| e.report.truncate(1183)),
        ("long report", "snp.length", |e| e.report.push(0)),
        ("empty report", "snp.length", |e| e.report.clear()),
        ("empty binding", "evidence.binding", |e| e.binding.clear()),
        ("empty configuration", "evidence.configuration", |e| e.configuration.clear()),
        ("another spelling of the binding", "evidence.report-data", |e| e.binding.push(b' ')),
        ("another spelling of the configuration", "evidence.configuration", |e| e.configuration.push(b'\n')),
    ];
    for (what, expected, change) in table {
        let mut evidence = evidence();
        change(&mut evidence);
        assert_eq!(check_of(world().judge.judge(&evidence, &Shelf::empty(), NOW)), *expected, "{what}");
    }
    let good = evidence();
    for (what, binding, configuration, expected) in [
        (
            "unknown field in the binding",
            json(&good.binding, "{", r#"{"x":1,"#),
            good.configuration.clone(),
            "evidence.binding",
        ),
        (
            "unknown field in the configuration",
            good.binding.clone(),
            json(&good.configuration, "{", r#"{"x":1,"#),
            "evidence.configuration",
        ),
        (
            "another identity",
            json(&good.binding, "agent", "manager"),
            good.configuration.clone(),
            "evidence.report-data",
        ),
        (
            "another region",
            good.binding.clone(),
            json(&good.configuration, "eu-west", "us-east"),
            "evidence.configuration",
        ),
    ] {
        let changed = Evidence { binding, configuration, ..good.clone() };
        assert_eq!(check_of(world().judge.judge(&changed, &Shelf::empty(), NOW)), expected, "{what}");
    }
}

#[test]
fn keys_are_good_as_long_as_their_binding_says() {
    let bound = binding();
    for (at, expected) in [(NOW, "ok"), (bound.not_after, "ok"), (bound.not_after.plus(1), "evidence.dates")] {
        assert_eq!(check_of(world().judge.judge(&evidence(), &Shelf::empty(), at)), expected, "{at}");
    }
    let early = KeyBinding { not_before: NOW.plus(1), ..bound };
    let evidence = world().chip.evidence(&Guest::new(MEASUREMENT), &early, &configuration()).unwrap();
    assert_eq!(check_of(world().judge.judge(&evidence, &Shelf::empty(), NOW)), "evidence.dates");
}

#[test]
fn a_configuration_that_was_not_measured_is_refused() {
    let bound = KeyBinding { configuration: Digest::of(b"another"), ..binding() };
    let evidence = world().chip.evidence(&Guest::new(MEASUREMENT), &bound, &configuration()).unwrap();
    assert_eq!(check_of(world().judge.judge(&evidence, &Shelf::empty(), NOW)), "evidence.configuration");
}

#[test]
fn two_judges_agree_and_one_remembers() {
    let fresh = Judge::new(
        Roots::new(&Anchors {
            operators: Vec::new(),
            development: vec![world().root.anchor()],
            tpm: Vec::new(),
            logs: Vec::new(),
        })
        .unwrap(),
    );
    let evidence = evidence();
    let first = fresh.judge(&evidence, &Shelf::empty(), NOW).unwrap();
    assert_eq!(first, fresh.judge(&evidence, &Shelf::empty(), NOW).unwrap());
    assert_eq!(first, world().judge.judge(&evidence, &Shelf::empty(), NOW).unwrap());
    assert_eq!(first.binding, binding());
    assert_eq!(first.configuration, configuration());
}

//! Whole evidence, and policies.

use legation_attest::{
    AppraisalPolicy, Judge, MinimumTcb, Roots, appraise,
    dev::{ChipSpec, Guest},
    snp::{GuestPolicy, Product, TcbVersion},
};
use legation_core::{
    Digest, Rejection, UnixTime,
    claims::{Anchors, ENDORSEMENTS_MAX, EVIDENCE_MAX, Evidence, EvidenceJudge as _, KeyBinding, Shelf},
    statement::Tier,
};

use crate::world::{MEASUREMENT, NOW, binding, check_of, configuration, evidence, reference, spec, world};

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
        Roots::new(&Anchors { operators: Vec::new(), development: vec![world().root.anchor()], tpm: Vec::new() })
            .unwrap(),
    );
    let evidence = evidence();
    let first = fresh.judge(&evidence, &Shelf::empty(), NOW).unwrap();
    assert_eq!(first, fresh.judge(&evidence, &Shelf::empty(), NOW).unwrap());
    assert_eq!(first, world().judge.judge(&evidence, &Shelf::empty(), NOW).unwrap());
    assert_eq!(first.binding, binding());
    assert_eq!(first.configuration, configuration());
}

fn appraise_guest(guest: &Guest, change: impl Fn(&mut AppraisalPolicy)) -> Result<Tier, Rejection> {
    let evidence = world().chip.evidence(guest, &binding(), &configuration()).unwrap();
    let judged = world().judge.judge(&evidence, &Shelf::empty(), NOW).unwrap();
    let mut policy = world().policy.clone();
    change(&mut policy);
    appraise(&judged, &policy, NOW).map(|ear| ear.status)
}

#[test]
fn a_policy_decides_what_is_acceptable() {
    let guest = Guest::new(MEASUREMENT);
    let debug = Guest { policy: GuestPolicy(guest.policy.0 | GuestPolicy::DEBUG), ..guest.clone() };
    let level_1 = Guest { vmpl: 1, ..guest.clone() };
    let other = Guest::new([0x22; 48]);
    let minimum = |change: fn(&mut TcbVersion)| {
        let ChipSpec { product, mut tcb, .. } = spec(0);
        change(&mut tcb);
        vec![MinimumTcb { product, tcb }]
    };
    type Change<'a> = Box<dyn Fn(&mut AppraisalPolicy) + 'a>;
    let table: Vec<(&str, &str, &Guest, Change<'_>)> = vec![
        ("as it is", "ok", &guest, Box::new(|_| ())),
        ("production only", "appraisal.anchor", &guest, Box::new(|p| p.development = false)),
        ("debuggable", "appraisal.debug", &debug, Box::new(|_| ())),
        ("debuggable and permitted", "ok", &debug, Box::new(|p| p.debug = true)),
        ("level 1", "appraisal.vmpl", &level_1, Box::new(|_| ())),
        ("level 1, permitted", "ok", &level_1, Box::new(|p| p.vmpl_max = 1)),
        ("exactly the minimum", "ok", &guest, Box::new(|p| p.minimum_tcb = minimum(|_| ()))),
        ("microcode below it", "appraisal.tcb", &guest, Box::new(|p| p.minimum_tcb = minimum(|t| t.microcode += 1))),
        ("firmware below it", "appraisal.tcb", &guest, Box::new(|p| p.minimum_tcb = minimum(|t| t.snp += 1))),
        (
            "newer and older at once",
            "appraisal.tcb",
            &guest,
            Box::new(|p| p.minimum_tcb = minimum(|t| (t.snp, t.tee) = (1, 1))),
        ),
        (
            "minimum of another product",
            "ok",
            &guest,
            Box::new(|p| {
                p.minimum_tcb = minimum(|t| t.snp = 255);
                p.minimum_tcb[0].product = Product::Genoa;
            }),
        ),
        ("unknown image", "appraisal.measurement", &other, Box::new(|_| ())),
        ("no image known", "appraisal.measurement", &guest, Box::new(|p| p.measurements.clear())),
        (
            "expired",
            "appraisal.expired",
            &guest,
            Box::new(|p| p.measurements = vec![reference("old", &MEASUREMENT, Some(NOW.minus(1)))]),
        ),
        ("last second", "ok", &guest, Box::new(|p| p.measurements = vec![reference("old", &MEASUREMENT, Some(NOW))])),
        (
            "expired and renewed",
            "ok",
            &guest,
            Box::new(|p| {
                let expired = reference("old", &MEASUREMENT, Some(NOW.minus(1)));
                p.measurements = vec![expired, reference("new", &MEASUREMENT, Some(NOW.plus(1)))];
            }),
        ),
        ("a policy of no sense", "appraisal.policy", &guest, Box::new(|p| p.passport_seconds = 0)),
    ];
    for (what, expected, guest, change) in table {
        let result = appraise_guest(guest, change);
        // Nothing in development is ever affirmed.
        assert!(result.as_ref().map_or(true, |status| *status == Tier::Warning), "{what}");
        assert_eq!(check_of(result), expected, "{what}");
    }
}

#[test]
fn a_refused_measurement_names_the_images_that_are_known() {
    let refusal = appraise_guest(&Guest::new([0x22; 48]), |p| {
        p.measurements.push(reference("agent-2", &[0x33; 48], None));
    });
    let refusal = refusal.unwrap_err();
    assert_eq!((refusal.expected.as_str(), refusal.got), ("agent-1, agent-2", "22".repeat(48)));
}

#[test]
fn production_claims_are_affirmed() {
    use legation_core::claims::Anchor;
    let mut judged = world().judge.judge(&evidence(), &Shelf::empty(), NOW).unwrap();
    judged.claims.anchor = Anchor::Production("amd-milan".to_owned());
    let mut policy = world().policy.clone();
    policy.development = false;
    let ear = appraise(&judged, &policy, NOW).unwrap();
    assert_eq!((ear.status, ear.policy.as_str()), (Tier::Affirming, "test"));
    let vector: Vec<_> = ear.vector.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let expected = "configuration=2 executables=3 hardware=2 instance-identity=2 runtime-opaque=2";
    assert_eq!(vector.join(" "), expected);
    judged.claims.tcb.value.version = "nonsense".to_owned();
    policy.minimum_tcb = vec![MinimumTcb { product: Product::Milan, tcb: spec(0).tcb }];
    assert_eq!(check_of(appraise(&judged, &policy, UnixTime(0))), "appraisal.tcb");
}

#[test]
fn a_policy_file_says_everything_or_is_refused() {
    let policy: AppraisalPolicy = serde_json::from_str(r#"{"name":"strict"}"#).unwrap();
    assert_eq!(policy, AppraisalPolicy::new("strict"));
    assert!(!policy.development && !policy.debug && policy.vmpl_max == 0 && policy.passport_seconds == 600);
    assert!(serde_json::from_str::<AppraisalPolicy>(r#"{"name":"a","developement":true}"#).is_err());
}

//! Policies x claims -> verdict.

use std::{collections::BTreeSet, sync::Arc};

use legation_attest::Appraiser;
use legation_core::{
    UnixTime,
    claims::{Anchor, Attested, Claims, Gpu, RevocationCheck, TcbStatus, TeeKind},
    statement::Tier,
};
use legation_policy::{Options, Policy, References};

use crate::world::{Guest, NOW, firmware, image, known, load, references, when};

fn gpu() -> Attested<Gpu> {
    let word = |w: &str| w.to_owned();
    let (chip, anchor) = (word("c"), word("nvidia-device-identity"));
    Attested::measured(Gpu { model: word("hopper"), driver: word("1"), firmware: word("2"), chip, anchor })
}

#[test]
fn conditions_see_what_was_attested() {
    type Change = fn(&mut Claims);
    let same: Change = |_| {};
    let table: [(&str, Change, bool); 43] = [
        ("principal in Image::\"known\"", same, true),
        ("principal in Image::\"known\"", |c| c.measurement.value = "00".repeat(48), false),
        ("principal in Image::\"old\"", |c| c.measurement.value = "ef".repeat(48), false),
        ("principal in [Image::\"other\", Image::\"known\"]", same, true),
        ("principal in Image::\"known\"", |c| c.tee.value = TeeKind::Tdx, false),
        ("principal.tee == Tee::\"sev-snp\"", same, true),
        ("principal.tee in [Tee::\"tdx\", Tee::\"sgx\"]", same, false),
        ("principal.tee in [Tee::\"tdx\", Tee::\"sgx\"]", |c| c.tee.value = TeeKind::Sgx, true),
        ("principal.product == \"milan\"", same, true),
        ("!principal.development", same, true),
        ("!principal.debug", |c| c.debug.value = true, false),
        ("principal.confidential", |c| c.confidential.value = false, false),
        ("principal has vmpl && principal.vmpl == 0", same, true),
        ("principal has vmpl && principal.vmpl == 0", |c| c.vmpl = None, false),
        ("principal has vmpl && principal.vmpl == 0", |c| c.vmpl = Some(Attested::hardware(2)), false),
        ("principal.tcb.status == TcbStatus::\"unknown\"", same, true),
        ("principal.tcb.shortfall == 0", same, true),
        ("principal.tcb has age_days && principal.tcb.age_days < 400", same, false),
        (
            "principal.tcb has age_days && principal.tcb.age_days == 10",
            |c| c.tcb.value.level = Some("2026-11-11".into()),
            true,
        ),
        // A level of the future has no age.
        ("principal.tcb has age_days", |c| c.tcb.value.level = Some("2026-11-22".into()), false),
        ("principal.tcb.advisories.contains(\"SA-1\")", |c| c.tcb.value.advisories = vec!["SA-1".into()], true),
        ("principal.region like \"eu-*\"", same, true),
        ("principal.region == \"us\"", |c| c.region = Some(Attested::endorsed("us".parse().unwrap())), true),
        ("principal.confidence.region >= 900", same, false),
        ("principal.confidence.region >= 900", |c| c.region = Some(Attested::endorsed("us".parse().unwrap())), true),
        ("principal.provider == \"aurora\"", same, true),
        ("principal has operator && principal.operator == \"x\"", same, false),
        (
            "principal has operator && principal.operator == \"x\"",
            |c| c.operator = Some(Attested::endorsed("x".into())),
            true,
        ),
        (
            "principal has features && principal.features.contains(\"smt-disabled\")",
            |c| c.features = Some(Attested::hardware(BTreeSet::from(["smt-disabled".into()]))),
            true,
        ),
        ("principal has features && principal.features.contains(\"smt-disabled\")", same, false),
        ("principal has features", same, false),
        // Nobody says anything, and so nobody says that there is nothing.
        ("principal has features && !principal.features.contains(\"smt\")", same, false),
        (
            "principal has features && principal.features.isEmpty()",
            |c| c.features = Some(Attested::hardware(BTreeSet::new())),
            true,
        ),
        ("principal.gpu_count == 1 && principal.gpus.contains(\"hopper\")", |c| c.gpus = vec![gpu()], true),
        ("principal.gpu_drivers.contains(\"1\") && principal.gpu_firmware == [\"2\"]", |c| c.gpus = vec![gpu()], true),
        ("principal.gpu_drivers.contains(\"1\")", same, false),
        ("principal.confidence.gpus >= 900", |c| c.gpus = vec![gpu()], false),
        (
            "principal.hasTag(\"pcr4\") && principal.getTag(\"pcr4\") == \"aa\"",
            |c| {
                c.registers.insert("pcr4".into(), "aa".into());
            },
            true,
        ),
        ("principal.hasTag(\"pcr4\")", same, false),
        ("principal.stale_collateral", |c| c.stale_since = Some(NOW), true),
        ("principal.revocation_checked", same, true),
        ("principal.revocation_checked", |c| c.revocation = RevocationCheck::Unchecked, false),
        ("principal.cpu >= 4000 && principal.memory == 8589934592 && principal.slot == 0", same, true),
    ];
    for (condition, change, admitted) in table {
        let guest = Guest::milan().with(change);
        let verdict = when(condition).admit(guest.subject(), NOW);
        assert_eq!(verdict.is_ok(), admitted, "{condition}: {verdict:?}");
    }
}

#[test]
fn names_that_hide_behind_escapes_are_seen() {
    let escaped = when("principal[\"deb\\u{75}g\"] == false && principal[\"\\u{73}lot\"] == 0");
    assert!(escaped.admit(Guest::milan().subject(), NOW).is_ok());
    assert!(escaped.admit(Guest::milan().with(|c| c.debug.value = true).subject(), NOW).is_err());
}

#[test]
fn time_is_an_argument() {
    let policy = when("context.now < datetime(\"2026-11-22\")");
    let guest = Guest::milan();
    assert!(policy.admit(guest.subject(), NOW).is_ok());
    assert!(policy.admit(guest.subject(), NOW.plus(86_400)).is_err());
    assert!(policy.admit(guest.subject(), UnixTime(u64::MAX)).is_err(), "no time that Cedar cannot say is let in");
}

#[test]
fn forbid_wins_and_silence_refuses() {
    let text = |effect: &str| {
        format!(
            "@id(\"a\") permit (principal, action, resource) when {{ principal.slot == 0 }};\n\
             @id(\"b\") {effect} (principal, action, resource) when {{ principal.provider == \"aurora\" }};"
        )
    };
    let mut guest = Guest::milan();
    assert!(load(&text("permit")).unwrap().admit(guest.subject(), NOW).is_ok());
    let why = load(&text("forbid")).unwrap().admit(guest.subject(), NOW).unwrap_err();
    assert_eq!(why.check, "policy.b");
    guest.configuration.slot = 1;
    guest.configuration.provider = "other".parse().unwrap();
    assert!(load(&text("forbid")).unwrap().admit(guest.subject(), NOW).is_err());
}

#[test]
fn a_forbid_that_cannot_be_evaluated_refuses() {
    let policy = load(
        "@id(\"a\") permit (principal, action, resource);\n\
         @id(\"b\") forbid (principal, action, resource) when { principal.memory * 9223372036854775807 > 0 };",
    )
    .unwrap();
    let why = policy.admit(Guest::milan().subject(), NOW).unwrap_err();
    assert_eq!((why.check.as_str(), why.expected.as_str()), ("policy.b", "a forbid that can be evaluated"));
}

#[test]
fn no_text_lowers_the_floor() {
    let everything = "@id(\"a\") permit (principal, action, resource);";
    let development = Guest::milan().with(|c| {
        c.anchor = Anchor::Development("local".into());
        c.tee.value = TeeKind::DevSnp;
    });
    let strict = load(everything).unwrap();
    assert_eq!(strict.admit(development.subject(), NOW).unwrap_err().check, "appraisal.anchor");
    let options = Options { allow_development: true, ..Options::default() };
    let lax = Policy::load("test", everything, references(), options).unwrap();
    let ear = lax.admit(development.subject(), NOW).unwrap().ear;
    assert_eq!((ear.status, ear.vector["hardware"], ear.vector["runtime-opaque"]), (Tier::Warning, 32, 32));
    let revoked = Guest::milan().with(|c| c.tcb.value.status = TcbStatus::Revoked);
    assert_eq!(strict.admit(revoked.subject(), NOW).unwrap_err().check, "appraisal.tcb");
    let debug = Guest::milan().with(|c| c.debug.value = true);
    assert_eq!(strict.admit(debug.subject(), NOW).unwrap().ear.status, Tier::Warning);
}

#[test]
fn the_vector_says_what_is_wanting() {
    let policy = load("@id(\"a\") permit (principal, action, resource);").unwrap();
    type Change = fn(&mut Claims);
    let table: [(&str, i8, Tier, Change); 11] = [
        ("executables", 3, Tier::Affirming, |_| {}),
        ("executables", 33, Tier::Warning, |c| c.measurement.value = "00".repeat(48)),
        ("runtime-opaque", 32, Tier::Warning, |c| c.confidential.value = false),
        ("configuration", 32, Tier::Warning, |c| c.debug.value = true),
        ("configuration", 32, Tier::Warning, |c| c.tcb.value.status = TcbStatus::ConfigurationNeeded),
        ("hardware", 32, Tier::Warning, |c| c.tcb.value.status = TcbStatus::OutOfDate),
        ("hardware", 2, Tier::Affirming, |c| c.tcb.value.status = TcbStatus::SwHardeningNeeded),
        ("instance-identity", 32, Tier::Warning, |c| c.stale_since = Some(NOW)),
        ("instance-identity", 32, Tier::Warning, |c| c.revocation = RevocationCheck::Unchecked),
        ("instance-identity", 32, Tier::Warning, |c| {
            (c.tee.value, c.revocation) = (TeeKind::AzSnpVtpm, RevocationCheck::Unchecked);
        }),
        // Another kind than the image's, which is a warning of its own.
        ("instance-identity", 2, Tier::Warning, |c| {
            (c.tee.value, c.revocation) = (TeeKind::Nitro, RevocationCheck::Unchecked);
        }),
    ];
    for (name, value, status, change) in table {
        let guest = Guest::milan().with(change);
        let ear = policy.admit(guest.subject(), NOW).unwrap().ear;
        assert_eq!((ear.vector[name], ear.status), (value, status), "{name}");
        assert_eq!((ear.policy.as_str(), ear.policy_digest), ("test", policy.digest()));
    }
}

#[test]
fn a_dated_exception_ends_on_its_day() {
    // 2027-01-31T23:59:59Z.
    let last = UnixTime(1_801_353_600 + 86_399);
    let exception = "@id(\"old-firmware\") @grace(\"2027-01-31\") @why(\"microcode update\")
        permit (principal, action, resource) when { principal.tcb.status == TcbStatus::\"out-of-date\" };";
    let good = "@id(\"current\") permit (principal, action, resource) when { principal.tcb.status == TcbStatus::\"up-to-date\" };";
    let with = |minimum: &str| {
        let references =
            Arc::new(References::new([image("known", known(), None), firmware("fw", "milan", minimum)]).unwrap());
        Policy::load("test", &format!("{exception}\n{good}"), references, Options::default()).unwrap()
    };
    let guest = Guest::milan();
    let behind = with("blSPL=4&teeSPL=0&snpSPL=24&ucodeSPL=220");
    for (at, admitted) in [(NOW, true), (last, true), (last.plus(1), false)] {
        let verdict = behind.admit(guest.subject(), at);
        assert_eq!(verdict.is_ok(), admitted, "{at}");
        match verdict {
            Ok(admission) => {
                let grace = admission.ear.grace.unwrap();
                assert_eq!(
                    (grace.until, grace.rule.as_str(), grace.why.as_str()),
                    (last, "old-firmware", "microcode update")
                );
                assert_eq!(admission.ear.status, Tier::Warning);
                assert_eq!(admission.ear.tcb.shortfall.len(), 1);
            }
            Err(why) => {
                assert_eq!(why.check, "policy.old-firmware");
                assert!(why.expected.contains("2027-01-31T23:59:59Z") && why.fix.contains("microcode update"), "{why}");
            }
        }
    }
    // Where a lasting permit holds too, nothing is excused.
    let current = with("blSPL=4&teeSPL=0&snpSPL=24&ucodeSPL=219").admit(guest.subject(), NOW).unwrap();
    assert_eq!((current.ear.status, current.ear.grace), (Tier::Affirming, None));
    assert_eq!(current.rules, ["current"]);
}

#[test]
fn passports_live_as_long_as_the_shortest_permit_that_holds() {
    let policy = load(
        "@id(\"a\") @passport_seconds(\"900\") permit (principal, action, resource);\n\
         @id(\"b\") @passport_seconds(\"120\") permit (principal, action, resource) when { principal.slot == 0 };\n\
         @id(\"c\") @passport_seconds(\"60\") permit (principal, action, resource) when { principal.slot == 1 };",
    )
    .unwrap();
    let mut guest = Guest::milan();
    for (slot, seconds) in [(0, 120), (1, 60), (2, 900)] {
        guest.configuration.slot = slot;
        assert_eq!(policy.admit(guest.subject(), NOW).unwrap().passport_seconds, seconds);
    }
    assert_eq!(policy.passport_seconds(), 60);
    assert_eq!(when("true").admit(guest.subject(), NOW).unwrap().passport_seconds, 600);
}

//! Refusals say which rule, which condition, what was found and what to do.

use std::sync::Arc;

use legation_core::{
    Rejection,
    claims::{Attested, Claims, TeeKind},
};
use legation_policy::{Options, Policy, ReferenceKind, ReferenceValue, References};

use crate::world::{Guest, NOW, image, known, load, when};

fn refusal(text: &str, change: impl FnOnce(&mut Claims)) -> Rejection {
    let policy = load(text).unwrap();
    policy.admit(Guest::milan().with(change).subject(), NOW).unwrap_err()
}

#[test]
fn the_first_condition_that_fails_is_shown_with_what_it_read() {
    let table: [(&str, &str, &str); 12] = [
        ("principal.slot == 0 && principal.region == \"us\"", "principal.region == \"us\"", "region \"eu-north\""),
        (
            "principal.slot == 0 && (principal.debug || principal.region == \"us\")",
            "principal.debug || principal.region == \"us\"",
            "debug false, region \"eu-north\"",
        ),
        ("!(principal.slot == 0)", "!(principal.slot == 0)", "slot 0"),
        (
            "principal has operator && principal.operator == \"x\"",
            "principal has operator (the first of 2 conditions that fail)",
            "operator absent: its evidence does not say",
        ),
        ("principal in Image::\"other\"", "principal in Image::\"other\"", "image known (measurement ab"),
        (
            "principal has features && principal.features.contains(\"smt-disabled\")",
            "principal has features (the first of 2 conditions that fail)",
            "features absent: its evidence does not say",
        ),
        ("principal.region like \"us-*\"", "principal.region like \"us-*\"", "region \"eu-north\""),
        ("principal.tee in [Tee::\"tdx\"]", "principal.tee in [Tee::\"tdx\"]", "tee sev-snp"),
        (
            "principal.tcb.status == TcbStatus::\"up-to-date\"",
            "principal.tcb.status == TcbStatus::\"up-to-date\"",
            "tcb.status unknown",
        ),
        ("principal.confidence.region >= 900", "principal.confidence.region >= 900", "confidence.region 300"),
        (
            "context.now > datetime(\"2027-01-01\")",
            "context.now > datetime(\"2027-01-01\")",
            "now 2026-11-21T12:00:00Z",
        ),
        ("if principal.debug then true else false", "if principal.debug then true else false", "debug false"),
    ];
    for (condition, expected, got) in table {
        let why = when(condition).admit(Guest::milan().subject(), NOW).unwrap_err();
        assert_eq!((why.check.as_str(), why.claim.as_str()), ("policy.a", "rule `a` of policy `test`"));
        assert_eq!(why.expected, expected);
        assert!(why.got.starts_with(got), "{condition}: {}", why.got);
        assert!(!why.fix.is_empty(), "{condition}");
    }
}

#[test]
fn the_closest_permit_speaks() {
    let text = "@id(\"far\") permit (principal, action, resource) when { principal.debug && principal.slot == 7 };\n\
                @id(\"near\") @fix(\"ask for slot 3\") permit (principal in Image::\"known\", action == Action::\"admit\", resource)\n\
                    when { !principal.debug } when { principal.slot == 3 };\n\
                @id(\"same\") permit (principal, action, resource) unless { principal.slot == 0 };";
    let why = refusal(text, |_| {});
    assert_eq!(why.check, "policy.near");
    assert_eq!(why.expected, "principal.slot == 3");
    assert_eq!(why.fix, "ask for slot 3; or meet one of the rules `same`, `far`");
    let why = refusal(text, |c| c.measurement.value = "00".repeat(48));
    assert_eq!((why.check.as_str(), why.expected.as_str()), ("policy.same", "!(principal.slot == 0)"));
}

#[test]
fn a_scope_is_a_condition_too() {
    let text = "@id(\"a\") permit (principal is Enclave in Image::\"other\", action in [Action::\"admit\"], resource);";
    let why = refusal(text, |_| {});
    assert_eq!(why.expected, "principal is Enclave in Image::\"other\"");
}

#[test]
fn a_forbid_that_fires_is_named() {
    let text = "@id(\"all\") permit (principal, action, resource);\n\
                @id(\"no-debug\") @fix(\"launch it without debug\") forbid (principal, action, resource) when { principal.debug };\n\
                @id(\"level\") forbid (principal, action, resource) when { principal has vmpl && principal.vmpl > 0 };";
    let why = refusal(text, |c| c.debug.value = true);
    let rejection = Rejection::new("policy.no-debug", "rule `no-debug` of policy `test`");
    assert_eq!(why, rejection.expected("not (principal.debug)").got("debug true").fix("launch it without debug"));
    let why = refusal(text, |c| c.vmpl = Some(Attested::hardware(2)));
    assert_eq!(why.expected, "not (principal has vmpl && principal.vmpl > 0)");
    assert_eq!((why.check.as_str(), why.got.as_str()), ("policy.level", "vmpl 2"));
    assert_eq!(why.fix, "ask for the report from a more privileged level, or change rule `level`");
}

#[test]
fn another_guest_on_a_known_firmware_is_told_which_register_differs() {
    let registers =
        [("rtmr0", "a0"), ("rtmr1", "a1"), ("rtmr2", "a2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let guest = Guest::milan().with(|c| {
        c.tee.value = TeeKind::Tdx;
        c.registers = registers.into();
    });
    let value =
        ReferenceValue { value: ReferenceKind::image_of(&guest.claims).unwrap(), ..image("web", known(), None) };
    let references = Arc::new(References::new([value]).unwrap());
    let text = "@id(\"a\") permit (principal in Image::\"web\", action, resource);";
    let policy = Policy::load("test", text, references, Options::default()).unwrap();
    policy.admit(guest.subject(), NOW).unwrap();
    let other = guest.with(|c| drop(c.registers.insert("rtmr2".to_owned(), "bb".to_owned())));
    let why = policy.admit(other.subject(), NOW).unwrap_err();
    assert_eq!((why.check.as_str(), why.expected.as_str()), ("policy.a", "principal in Image::\"web\""));
    assert!(why.fix.contains("`web`") && why.fix.contains("`rtmr2` is bb here"), "{why}");
}

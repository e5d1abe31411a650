//! What is wrong in a text is told when it is loaded, with its place.

use std::sync::Arc;

use legation_core::{TenantId, UnixTime};
use legation_policy::{Options, Policy, References, Scope, THIS_BUILD, starter};

use crate::world::{NOW, image, known, load, references};

/// The first problem's check, line, column, and everything that is said.
fn problem(text: &str) -> (String, usize, usize, String) {
    let Err(error) = load(text) else { panic!("{text}") };
    let first = error.problems.first().unwrap().clone();
    (first.check, first.line, first.column, error.to_string())
}

#[test]
fn every_mistake_has_a_check_a_place_and_a_hint() {
    let permit = "@id(\"a\") permit (principal, action, resource)";
    let table = [
        // Attributes, types, actions, kinds.
        (format!("{permit}\n when {{ principal.debgu }};"), "policy.schema", 2, 9, "debug"),
        (format!("{permit}\n when {{ principal.debug == 1 }};"), "policy.schema", 2, 9, "Bool"),
        (format!("{permit}\n when {{ principal.vmpl == 0 }};"), "policy.schema", 2, 9, "optional"),
        (format!("{permit}\n unless {{ principal.features.contains(\"smt\") }};"), "policy.schema", 2, 11, "optional"),
        (format!("{permit}\n when {{ principal.tee == \"sev-snp\" }};"), "policy.schema", 2, 9, "String"),
        (format!("{permit}\n when {{ principal.tee == Tee::\"sev-spn\" }};"), "policy.schema", 2, 26, "sev-spn"),
        (format!("{permit}\n when {{ principal.tcb.status == TcbStatus::\"good\" }};"), "policy.schema", 2, 33, "good"),
        (format!("{permit}\n when {{ principal.confidence.regoin > 1 }};"), "policy.schema", 2, 9, "regoin"),
        (format!("{permit}\n when {{ context.time > 1 }};"), "policy.schema", 2, 9, "time"),
        (format!("{permit}\n when {{ principal.region }};"), "policy.schema", 2, 9, "Bool"),
        (
            "@id(\"a\")\npermit (principal, action == Action::\"admitt\", resource);".into(),
            "policy.schema",
            2,
            30,
            "admit",
        ),
        ("@id(\"a\")\npermit (principal == User::\"x\", action, resource);".into(), "policy.schema", 2, 22, "User"),
        // Syntax.
        (format!("{permit}\n wehn {{ true }};"), "policy.syntax", 2, 2, "when"),
        (format!("{permit}\n when {{ true }}"), "policy.syntax", 0, 0, ""),
        ("\"".into(), "policy.syntax", 0, 0, ""),
        ("@id(\"a\") permit (principal == ?principal, action, resource);".into(), "policy.template", 0, 0, "entity"),
        // Names and annotations.
        ("\npermit (principal, action, resource);".into(), "policy.id", 2, 1, "@id"),
        (format!("{permit};\n{permit};"), "policy.id", 2, 1, "name of its own"),
        ("@id(\"A b\") permit (principal, action, resource);".into(), "policy.id", 1, 1, "a-z"),
        (format!("@grcae(\"2027-01-31\") {permit};"), "policy.annotation", 1, 1, "@grace"),
        (format!("@grace(\"2027-02-31\") @why(\"x\") {permit};"), "policy.annotation", 1, 1, "2027-01-31"),
        (format!("@grace(\"2027-01-31\") {permit};"), "policy.annotation", 1, 1, "mended"),
        (format!("@why(\"x\") {permit};"), "policy.annotation", 1, 1, "until when"),
        (format!("@passport_seconds(\"3601\") {permit};"), "policy.annotation", 1, 1, "3600"),
        (
            format!("{permit};\n@id(\"b\") @grace(\"2027-01-31\") @why(\"x\") forbid (principal, action, resource);"),
            "policy.annotation",
            2,
            1,
            "permit",
        ),
        // Things that are not there.
        (
            "@id(\"a\")\npermit (principal in Image::\"unknown\", action, resource);".into(),
            "policy.reference",
            2,
            29,
            "legation reference add",
        ),
        (
            format!("{permit}\n when {{ principal in [Image::\"known\", Image::\"nope\"] }};"),
            "policy.reference",
            2,
            46,
            "nope",
        ),
        (format!("{permit}\n when {{ principal == Enclave::\"3f\" }};"), "policy.entity", 2, 31, "every boot"),
        (format!("{permit}\n when {{ resource == Tenant::\"b\" }};"), "policy.entity", 2, 29, "Pool::\"pool\""),
        // Nothing to admit.
        (String::new(), "policy.permit", 0, 0, "permit"),
        ("@id(\"a\") forbid (principal, action, resource);".into(), "policy.permit", 0, 0, "permit"),
    ];
    for (text, check, line, column, says) in table {
        let (found, at, column_found, told) = problem(&text);
        assert_eq!(found, check, "{text}\n{told}");
        if line > 0 {
            assert_eq!((at, column_found), (line, column), "{text}\n{told}");
        }
        assert!(told.contains(says), "{text}\n{told}");
    }
}

#[test]
fn all_mistakes_of_a_stage_are_told_at_once() {
    let error = load(
        "@id(\"a\") permit (principal, action, resource) when { principal.x };\n\
         @id(\"b\") permit (principal, action, resource) when { principal.y };",
    )
    .unwrap_err();
    let rules: Vec<_> = error.problems.iter().map(|p| p.rule.as_deref().unwrap()).collect();
    assert_eq!(rules, ["a", "b"]);
    let rejection = error.rejection();
    assert_eq!(rejection.check, "policy.schema");
    assert!(rejection.got.contains("2:"), "{rejection}");
}

#[test]
fn texts_are_bounded() {
    let rule = |i: usize| format!("@id(\"r{i}\") permit (principal, action, resource);\n");
    let many = |n: usize| (0..n).map(rule).collect::<String>();
    assert!(load(&many(256)).is_ok());
    assert_eq!(problem(&many(257)).0, "policy.rules");
    assert_eq!(problem(&format!("{}//{}", many(1), "x".repeat(64 << 10))).0, "policy.size");
    let nested = |n: usize| {
        let condition = format!("{}true{}", "(".repeat(n), ")".repeat(n));
        format!("@id(\"a\") permit (principal, action, resource) when {{ {condition} }};")
    };
    assert!(load(&nested(31)).is_ok());
    for n in [33, 20_000] {
        assert_eq!(problem(&nested(n)).0, "policy.depth");
    }
    for operator in ["&& true", "|| true", "== true"] {
        let text =
            format!("@id(\"a\") permit (principal, action, resource) when {{ true {} }};", operator.repeat(5000));
        let check = problem(&text).0;
        assert!(check == "policy.depth" || check == "policy.syntax", "{check}");
    }
    let (not, minus) = ("!".repeat(50_000), "-".repeat(50_000));
    for text in [not, minus, ".a".repeat(20_000), "if true then ".repeat(4000), "[".repeat(60_000)] {
        let text = format!("@id(\"a\") permit (principal, action, resource) when {{ {text} 1 }};");
        assert!(load(&text).is_err());
    }
}

#[test]
fn the_deepest_texts_that_are_let_in_fit_a_small_stack() {
    let and = |n: usize| vec!["principal.debug"; n].join(" && ");
    let or = |n: usize| vec!["principal.slot == 1"; n].join(" || ");
    let plus = format!("1{} > 0", " + 1".repeat(500));
    let times = format!("{}principal.slot{} > 0", "(1 * ".repeat(30), ")".repeat(30));
    let ifs = format!("{}true", "if principal.debug then true else ".repeat(200));
    let nots = format!("{}true{}", "!(".repeat(30), ")".repeat(30));
    for condition in [and(255), or(255), plus, times, ifs, nots] {
        let text = format!("@id(\"a\") permit (principal, action, resource) when {{ {condition} }};");
        let run = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
            // Cedar's validator counts its stack and may refuse: what matters is that nothing overflows.
            if let Ok(policy) = load(&text) {
                let guest = crate::world::Guest::milan();
                let _ = policy.admit(guest.subject(), NOW);
            }
        });
        run.unwrap().join().unwrap();
    }
}

#[test]
fn what_is_doubtful_is_a_warning() {
    let text = "@id(\"a\") @grace(\"2026-01-31\") @why(\"x\") permit (principal in Image::\"old\", action, resource);\n\
                @id(\"b\") permit (principal, action, resource) when { principal.debug && !principal.debug && false };";
    let policy = load(text).unwrap();
    let checks: Vec<_> = policy.warnings(NOW).into_iter().map(|p| p.check).collect();
    assert_eq!(checks, ["policy.doubt", "policy.grace", "policy.expired"]);
    let early: Vec<_> = policy.warnings(UnixTime(1_700_000_000)).into_iter().map(|p| p.check).collect();
    assert_eq!(early, ["policy.doubt"]);
    assert_eq!(policy.check_images(NOW).unwrap_err().problems[0].check, "policy.expired");
    policy.check_images(UnixTime(1_700_000_000)).unwrap();
}

#[test]
fn unused_values_are_told_and_other_values_are_held_to() {
    let policy = load("@id(\"a\") permit (principal in Image::\"known\", action, resource);").unwrap();
    assert_eq!(policy.unused(), ["old", "other"]);
    let fewer = References::new([image("other", known(), None)]).unwrap();
    let error = policy.with_references(Arc::new(fewer)).unwrap_err();
    assert_eq!(error.problems[0].check, "policy.reference");
    let more = References::new([image("known", "00".repeat(48), None)]).unwrap();
    let other = policy.with_references(Arc::new(more)).unwrap();
    let guest = crate::world::Guest::milan();
    assert!(policy.admit(guest.subject(), NOW).is_ok());
    assert!(other.admit(guest.subject(), NOW).is_err());
    assert_ne!(policy, other);
}

#[test]
fn a_tenants_policy_is_asked_about_that_tenant() {
    let options = Options { scope: Scope::Tenant(TenantId::new("acme").unwrap()), ..Options::default() };
    let text = "@id(\"a\") permit (principal, action, resource == Tenant::\"acme\");";
    let policy = Policy::load("tenant/acme", text, references(), options.clone()).unwrap();
    assert!(policy.admit(crate::world::Guest::milan().subject(), NOW).is_ok());
    let pool = text.replace("Tenant::\"acme\"", "Pool::\"pool\"");
    let error = Policy::load("tenant/acme", &pool, references(), options.clone()).unwrap_err();
    assert_eq!(error.problems[0].check, "policy.entity");
    assert!(Policy::load("Tenant", text, references(), options.clone()).is_err());
    assert!(Policy::load("a/b/c", text, references(), options).is_err());
}

#[test]
fn the_starter_loads_without_a_warning() {
    let references = Arc::new(References::new([image(THIS_BUILD, known(), None)]).unwrap());
    let policy = Policy::load("appraisal", &starter(THIS_BUILD), references, Options::default()).unwrap();
    assert_eq!(policy.warnings(NOW), []);
    assert_eq!(policy.unused(), [""; 0]);
}

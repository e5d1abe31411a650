//! What holds for every policy.

use legation_core::claims::{Attested, Claims};
use proptest::prelude::*;

use crate::world::{Guest, NOW, load};

fn atom() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "principal.debug",
        "!principal.debug",
        "principal.slot == 0",
        "principal.slot > 0",
        "principal in Image::\"known\"",
        "principal in [Image::\"old\", Image::\"other\"]",
        "principal has vmpl",
        "(principal has vmpl && principal.vmpl == 0)",
        "principal.region like \"eu*\"",
        "(principal has features && principal.features.contains(\"smt\"))",
        "principal.tcb.status == TcbStatus::\"unknown\"",
        "principal.memory * 4611686018427387904 > 1",
        "principal.confidence.region >= 900",
    ])
    .prop_map(str::to_owned)
}

fn condition() -> impl Strategy<Value = String> {
    atom().prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} && {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} || {b}")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("(if {a} then {b} else {c})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            inner.prop_map(|a| format!("({a})")),
        ]
    })
}

fn rule(effect: &'static str) -> impl Strategy<Value = String> {
    let clause = (prop::bool::ANY, condition())
        .prop_map(|(when, text)| format!("{} {{ {text} }}", if when { "when" } else { "unless" }));
    let scope = prop::sample::select(vec!["principal", "principal in Image::\"known\"", "principal is Enclave"]);
    (scope, prop::collection::vec(clause, 0..3)).prop_map(move |(scope, clauses)| {
        format!("{effect} ({scope}, action == Action::\"admit\", resource) {};", clauses.join("\n"))
    })
}

fn policy() -> impl Strategy<Value = String> {
    (prop::collection::vec(rule("permit"), 1..5), prop::collection::vec(rule("forbid"), 0..3)).prop_map(|(p, f)| {
        let rules = p.into_iter().chain(f).enumerate();
        rules.map(|(i, rule)| format!("@id(\"r{i}\")\n{rule}\n")).collect()
    })
}

fn guest() -> impl Strategy<Value = Guest> {
    (prop::bool::ANY, prop::option::of(0u32..4), 0u16..2, prop::bool::ANY, prop::bool::ANY).prop_map(
        |(debug, vmpl, slot, known, smt)| {
            let mut guest = Guest::milan().with(|c: &mut Claims| {
                c.debug.value = debug;
                c.vmpl = vmpl.map(Attested::hardware);
                if !known {
                    c.measurement.value = "cd".repeat(48);
                }
                c.features = smt.then(|| Attested::hardware(["smt".to_owned()].into()));
            });
            guest.configuration.slot = slot;
            guest
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// A forbid never lets anybody in, and a permit never keeps anybody out.
    #[test]
    fn a_forbid_never_admits_more(text in policy(), forbid in rule("forbid"), permit in rule("permit"), guest in guest()) {
        let Ok(base) = load(&text) else { return Ok(()) };
        let admitted = base.admit(guest.subject(), NOW).is_ok();
        if let Ok(more) = load(&format!("{text}@id(\"extra\")\n{forbid}")) {
            prop_assert!(admitted || more.admit(guest.subject(), NOW).is_err());
        }
        if let Ok(more) = load(&format!("{text}@id(\"extra\")\n{permit}")) {
            prop_assert!(!admitted || more.admit(guest.subject(), NOW).is_ok());
        }
    }

    /// A refusal names a rule that is there: a forbid that fires, or a permit with a condition that Cedar finds false.
    #[test]
    fn a_refusal_can_be_checked(text in policy(), guest in guest()) {
        let Ok(policy) = load(&text) else { return Ok(()) };
        let Err(why) = policy.admit(guest.subject(), NOW) else { return Ok(()) };
        let id = why.check.strip_prefix("policy.").unwrap().to_owned();
        let index: usize = id.strip_prefix('r').unwrap().parse().unwrap();
        let rule = text.split("@id(").nth(index + 1).unwrap();
        prop_assert!(!why.fix.is_empty());
        if rule.contains("forbid") {
            // The named rule alone, made a permit, holds (or cannot be evaluated).
            let alone = load(&format!("@id({}", rule.replacen("forbid", "permit", 1))).unwrap();
            prop_assert!(alone.admit(guest.subject(), NOW).is_ok() || why.expected.starts_with("a forbid that"));
        } else {
            // The condition that is shown does not hold, alone.
            let shown = why.expected.split(" (the first of").next().unwrap();
            let alone = load(&format!("@id(\"a\") permit (principal, action, resource) when {{ {shown} }};"));
            // Strict typing may need a guard beside it (`has vmpl`); then there is nothing to hold it against.
            if let Ok(alone) = alone {
                prop_assert!(alone.admit(guest.subject(), NOW).is_err(), "{why}");
            }
        }
    }

    /// Whatever bytes a tenant sends, an answer comes back.
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,300}") {
        let _ = load(&text);
    }

    #[test]
    fn arbitrary_words_never_panic(words in prop::collection::vec(prop::sample::select(vec![
        "@id(\"a\")", "@grace(\"2027-01-31\")", "permit", "forbid", "(", ")", "{", "}", "[", "]", "when", "unless", "principal",
        "action", "resource", "context", ",", ";", "==", "in", "has", "is", "like", "&&", "||", "!", "-", "if", "then", "else",
        ".", "::", "Image", "\"known\"", "\"", "\\", "//", "\n", "debug", "tcb", "1", "9999999999999999999", "?principal", "é",
    ]), 0..60)) {
        let _ = load(&words.join(" "));
        let _ = load(&words.concat());
    }
}

//! What a requirement says of an enclave, and which part it reports as unmet.

use expect_test::expect;
use legation_core::{
    Bytes, MicroUsd, Millicores, Requirement,
    claims::{Anchor, Attested, Judged, TeeKind},
    requirement::Candidate,
    statement::Passport,
};
use proptest::prelude::*;

use crate::{
    party::evidence,
    world::{T0, digest, judged, passport_of},
};

fn enclave() -> Judged {
    judged("enclave-north", legation_core::UnixTime(T0))
}

fn passport(judged: &Judged) -> Passport {
    passport_of(judged.clone(), &evidence(judged), legation_core::UnixTime(T0), digest("appointment"))
}

fn check(judged: &Judged, source: &str) -> Result<(), legation_core::Rejection> {
    let requirement = Requirement::parse(source).unwrap_or_else(|error| panic!("{error}"));
    let passport = passport(judged);
    requirement.check(&Candidate { passport: &passport, price_hour: MicroUsd(20_000) })
}

/// A development SEV-SNP machine of `north-hosting` in `eu-north`, product milan, 8 cores, 16 GiB, 0.02 dollars an hour.
#[test]
fn every_attribute_and_operator() {
    for (source, met) in [
        ("any", true),
        ("not any", false),
        ("tee in [dev-snp] and region == \"eu-north\" and price <= 0.02 usd/h", true),
        ("tee == dev-snp", true),
        ("tee == sev-snp", false),
        ("tee != sev-snp", true),
        ("tee in [sev-snp, dev-snp]", true),
        ("region == eu-north", true),
        ("region == \"EU-NORTH\"", false),
        ("region != eu-south", true),
        ("region in [eu-south, eu-west]", false),
        ("provider == north-hosting", true),
        ("provider in [north-hosting]", true),
        ("product == milan", true),
        ("product != milan", false),
        ("development", true),
        ("development == yes", true),
        ("development != yes", false),
        ("development == no", false),
        ("debug", false),
        ("not debug", true),
        ("debug == false", true),
        ("debug in [yes, no]", true),
        ("price < 0.02 usd/h", false),
        ("price <= 0.02 usd/h", true),
        ("price <= 0.019999 usd/h", false),
        ("price == 0.02 usd/h", true),
        ("price != 0.02 usd/h", false),
        ("price >= 0.02 usd/h", true),
        ("price > 0.02 usd/h", false),
        ("price > 0.019999 usd/h", true),
        ("price in [0.01 usd/h, 0.02 usd/h]", true),
        ("cpu >= 8 cores", true),
        ("cpu > 8 cores", false),
        ("cpu >= 8.001 cores", false),
        ("cpu < 8.001 cores", true),
        ("memory >= 16 GiB", true),
        ("memory == 16384 MiB", true),
        ("memory == 16777216 KiB", true),
        ("memory > 16 GiB", false),
        ("memory < 16.5 GiB", true),
        ("confidence(tee) == 1", true),
        ("confidence(product) == 0.95", true),
        ("confidence(product) > 0.95", false),
        ("confidence(debug) >= 0.999", true),
        ("confidence(development) == 1", true),
        ("confidence(region) == 0.3", true),
        ("confidence(provider) < 0.31", true),
        ("confidence(price) > 0.3", false),
        ("confidence(cpu) <= 0.3 and confidence(memory) <= 0.3", true),
    ] {
        assert_eq!(check(&enclave(), source).is_ok(), met, "{source}");
    }
    let mut other = enclave();
    other.claims.anchor = Anchor::Production("amd-milan".to_owned());
    other.claims.tee = Attested::hardware(TeeKind::SevSnp);
    other.claims.debug = Attested::measured(true);
    other.configuration.capacity.cpu = Millicores(500);
    other.configuration.capacity.memory = Bytes(1 << 20);
    for (source, met) in [
        ("development", false),
        ("tee == sev-snp", true),
        ("debug and confidence(debug) == 0.8", true),
        ("cpu == 0.5 cores", true),
        ("memory == 1 MiB", true),
    ] {
        assert_eq!(check(&other, source).is_ok(), met, "{source}");
    }
}

#[test]
fn the_part_that_is_not_met_is_named() {
    let mut out = String::new();
    for source in [
        "tee == sev-snp",
        "tee in [dev-snp] and region == \"us\" and price <= 0.01 usd/h",
        "any and price <= 0.01 usd/h and region == us",
        "tee == sev-snp or region == us",
        "any and (tee == sev-snp or (debug and any)) and region == us",
        "not development",
        "not (any and development)",
        "debug",
        "development == no",
        "not any or not any",
        "confidence(region) >= 0.5",
        "cpu >= 16 cores",
        "memory >= 1.5 GiB and memory <= 4 GiB",
        "region in [us, \"eu-south\"]",
        "provider != north-hosting",
    ] {
        let why = check(&enclave(), source).expect_err(source);
        out.push_str(&format!("{}: {}: {} / {}\n", why.check, why.claim, why.expected, why.got));
    }
    expect![[r#"
        require.tee: the tee of the enclave: tee == sev-snp / dev-snp
        require.region: the region of the enclave: region == "us" / "eu-north"
        require.price: the price of the enclave: price <= 0.01 usd/h / 0.020000 usd/h
        require.tee: none of the alternatives: tee == sev-snp or region == us / dev-snp, "eu-north"
        require.tee: none of the alternatives: tee == sev-snp or (debug and any) / dev-snp, no
        require.not: an exclusion: not development / what it excludes
        require.not: an exclusion: not (any and development) / what it excludes
        require.debug: the debug of the enclave: debug / no
        require.development: the development of the enclave: development == no / yes
        require.not: none of the alternatives: not any or not any / what it excludes, what it excludes
        require.confidence.region: the confidence(region) of the enclave: confidence(region) >= 0.5 / 0.300
        require.cpu: the cpu of the enclave: cpu >= 16 cores / 8.000 cores
        require.memory: the memory of the enclave: memory <= 4 GiB / 16 GiB
        require.region: the region of the enclave: region in [us, "eu-south"] / "eu-north"
        require.provider: the provider of the enclave: provider != north-hosting / "north-hosting"
    "#]]
    .assert_eq(&out);
}

/// An expression over two yes-or-no attributes.
#[derive(Clone, Debug)]
enum Tree {
    Debug,
    Development,
    Any,
    Not(Box<Tree>),
    And(Vec<Tree>),
    Or(Vec<Tree>),
}

impl Tree {
    fn holds(&self, debug: bool, development: bool) -> bool {
        match self {
            Self::Debug => debug,
            Self::Development => development,
            Self::Any => true,
            Self::Not(inner) => !inner.holds(debug, development),
            Self::And(parts) => parts.iter().all(|p| p.holds(debug, development)),
            Self::Or(parts) => parts.iter().any(|p| p.holds(debug, development)),
        }
    }

    /// Written with no more parentheses than `not` before `and` before `or` needs.
    fn write(&self, binding: u8) -> String {
        let (own, text) = match self {
            Self::Debug => (3, "debug".to_owned()),
            Self::Development => (3, "development == yes".to_owned()),
            Self::Any => (3, "any".to_owned()),
            Self::Not(inner) => (2, format!("not {}", inner.write(2))),
            Self::And(parts) => (1, parts.iter().map(|p| p.write(2)).collect::<Vec<_>>().join(" and ")),
            Self::Or(parts) => (0, parts.iter().map(|p| p.write(1)).collect::<Vec<_>>().join(" or ")),
        };
        if own < binding { format!("({text})") } else { text }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![Just(Tree::Debug), Just(Tree::Development), Just(Tree::Any)];
    leaf.prop_recursive(6, 48, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|t| Tree::Not(Box::new(t))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Tree::And),
            prop::collection::vec(inner, 2..4).prop_map(Tree::Or),
        ]
    })
}

#[test]
fn not_binds_before_and_before_or() {
    for (source, holds) in [
        ("any or any and not any", true),
        ("(any or any) and not any", false),
        ("not any and not any or any", true),
        ("not (any and not any or any)", false),
        ("not any or any", true),
        ("not (any or any)", false),
        ("not any and any", false),
        ("not any or not any or any", true),
    ] {
        assert_eq!(check(&enclave(), source).is_ok(), holds, "{source}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn evaluation_follows_the_grammar(tree in tree(), debug: bool, development: bool) {
        let source = tree.write(0);
        let mut enclave = enclave();
        enclave.claims.debug.value = debug;
        if !development {
            enclave.claims.anchor = Anchor::Production("amd-milan".to_owned());
        }
        prop_assert_eq!(check(&enclave, &source).is_ok(), tree.holds(debug, development), "{}", source);
    }

    #[test]
    fn numbers_are_exact(micro in 0_u64..3_000_000, digits in 6_usize..12) {
        let source = |number: u64| format!("price == {}.{:06}{} usd/h", number / 1_000_000, number % 1_000_000, "0".repeat(digits - 6));
        let passport = passport(&enclave());
        let candidate = Candidate { passport: &passport, price_hour: MicroUsd(micro) };
        prop_assert!(Requirement::parse(&source(micro)).unwrap().check(&candidate).is_ok());
        prop_assert!(Requirement::parse(&source(micro + 1)).unwrap().check(&candidate).is_err());
    }
}

#[test]
fn what_could_be_asked_instead() {
    let passport = passport(&enclave());
    let candidate = Candidate { passport: &passport, price_hour: MicroUsd(20_500) };
    let instead = |source: &str| {
        let requirement = Requirement::parse(source).unwrap();
        let mut lines = Vec::new();
        for index in 0..requirement.conjuncts() {
            let dropped = requirement.without(index).unwrap();
            lines.push(format!("without {}: {}", dropped.from, dropped.requirement));
            if let Some(moved) = requirement.admitting(index, &candidate) {
                lines.push(format!("{} ({}): {}", moved.to.unwrap(), moved.change, moved.requirement));
                assert!(requirement.without(requirement.conjuncts()).is_none());
            }
        }
        lines.join("\n")
    };
    assert_eq!(instead("any"), "");
    assert_eq!(instead("development"), "without development: any");
    expect![[r#"
        without price <= 0.02 usd/h: (region == "moon" or tee == tdx) and not debug and memory >= 64 GiB
        price <= 0.0205 usd/h (25): price <= 0.0205 usd/h and (region == "moon" or tee == tdx) and not debug and memory >= 64 GiB
        without (region == "moon" or tee == tdx): price <= 0.02 usd/h and not debug and memory >= 64 GiB
        without not debug: price <= 0.02 usd/h and (region == "moon" or tee == tdx) and memory >= 64 GiB
        without memory >= 64 GiB: price <= 0.02 usd/h and (region == "moon" or tee == tdx) and not debug
        memory >= 16 GiB (750): price <= 0.02 usd/h and (region == "moon" or tee == tdx) and not debug and memory >= 16 GiB"#]]
    .assert_eq(&instead(
        "price <= 0.02 usd/h and ((region == \"moon\" or tee == tdx) and not debug) and memory >= 64 GiB",
    ));
    expect![[r#"
        without region in [moon, mars]: tee == tdx and confidence(region) > 0.5 and price < 0.0205 usd/h and debug == yes
        region in ["moon", "mars", "eu-north"] (500): region in ["moon", "mars", "eu-north"] and tee == tdx and confidence(region) > 0.5 and price < 0.0205 usd/h and debug == yes
        without tee == tdx: region in [moon, mars] and confidence(region) > 0.5 and price < 0.0205 usd/h and debug == yes
        tee in [tdx, dev-snp] (500): region in [moon, mars] and tee in [tdx, dev-snp] and confidence(region) > 0.5 and price < 0.0205 usd/h and debug == yes
        without confidence(region) > 0.5: region in [moon, mars] and tee == tdx and price < 0.0205 usd/h and debug == yes
        confidence(region) >= 0.3 (400): region in [moon, mars] and tee == tdx and confidence(region) >= 0.3 and price < 0.0205 usd/h and debug == yes
        without price < 0.0205 usd/h: region in [moon, mars] and tee == tdx and confidence(region) > 0.5 and debug == yes
        price <= 0.0205 usd/h (0): region in [moon, mars] and tee == tdx and confidence(region) > 0.5 and price <= 0.0205 usd/h and debug == yes
        without debug == yes: region in [moon, mars] and tee == tdx and confidence(region) > 0.5 and price < 0.0205 usd/h"#]]
    .assert_eq(&instead(
        "region in [moon, mars] and tee == tdx and confidence(region) > 0.5 and price < 0.0205 usd/h and debug == yes",
    ));
}

//! The requirement language as text: what is read, and how what is not read is pointed at.

use expect_test::{Expect, expect};
use legation_core::{
    Digest, Requirement,
    requirement::{DEPTH_MAX, LIST_MAX, SOURCE_MAX},
};
use proptest::prelude::*;

/// The error of each source, rendered.
fn errors(sources: &[&str], want: Expect) {
    let mut out = String::new();
    for source in sources {
        let error = Requirement::parse(source).expect_err(source);
        // An empty excerpt leaves nothing but an indent.
        error.to_string().lines().for_each(|line| out.push_str(&format!("{}\n", line.trim_end())));
    }
    want.assert_eq(&out);
}

#[test]
fn what_is_read() {
    for source in [
        "any",
        "tee in [dev-snp] and region == \"eu-north\" and price <= 0.02 usd/h",
        "tee == sev-snp",
        "tee == \"sev-snp\"",
        "tee != dev-snp or not development",
        "region in [eu-north, \"eu-south\",us]",
        "region == or or provider == and",
        "not not not debug",
        "not (debug or development)",
        "((((any))))",
        "development == yes and debug == no and development != false and debug != true",
        "product == milan",
        "price<=0.02usd/h",
        "price < 1 usd / h",
        "price == 0.000001 usd/h",
        "cpu >= 1 core and cpu <= 0.5 cores",
        "memory >= 512 MiB and memory < 4 GiB and memory > 1.5 KiB",
        "memory > 0.000976562500 MiB",
        "cpu < 18446744073709551.615 cores",
        "confidence(tee) >= 0.95 and confidence(region) == 0 and confidence(debug) <= 1.000",
        "confidence(price) in [0.3, 1]",
        "\ttee ==\n  dev-snp\r\n",
        "\u{a0}any\u{2003}",
        "region == \"\u{e5}land\"",
        "region == \"\"",
    ] {
        let requirement = Requirement::parse(source).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((requirement.source(), requirement.to_string().as_str()), (source, source));
        assert_eq!(requirement.digest(), Digest::of(source.as_bytes()));
        assert_eq!(source.parse::<Requirement>().unwrap(), requirement);
        let json = serde_json::to_string(&requirement).unwrap();
        assert_eq!(json, serde_json::to_string(source).unwrap());
        assert_eq!(serde_json::from_str::<Requirement>(&json).unwrap(), requirement);
    }
    assert_eq!(Requirement::default(), Requirement::any());
    assert_eq!(Requirement::parse("any").unwrap(), Requirement::any());
    assert_ne!(Requirement::parse("any ").unwrap(), Requirement::any(), "the source is what is signed");
    let error = serde_json::from_str::<Requirement>("\"pric < 1 usd/h\"").unwrap_err().to_string();
    assert!(error.contains("did you mean `price`?"), "{error}");
}

#[test]
fn an_error_points_at_its_column() {
    errors(
        &[
            "",
            "   ",
            "tee",
            "tee =",
            "tee = dev-snp",
            "tee == trustzone",
            "tee == 1",
            "tee < sev-snp",
            "tee in dev-snp",
            "tee in []",
            "tee in [dev-snp",
            "tee in [dev-snp,]",
            "tee in [dev-snp sev-snp]",
            "regio == eu",
            "colour == red",
            "price <= 0.02",
            "price <= 0.02 usd",
            "price <= 0.02 usd/day",
            "price <= 0.02 eur/h",
            "price <= 0.0000001 usd/h",
            "price <= 1. usd/h",
            "price <= 1.2.3 usd/h",
            "price <= -1 usd/h",
            "price <= 18446744073709.551616 usd/h",
            "price == cheap",
            "cpu >= 2",
            "cpu >= 0.0001 cores",
            "memory >= 4",
            "memory >= 4 GB",
            "memory >= 0.0000000009313 GiB",
            "memory >= much",
            "cpu >= many",
            "memory >= 99999999999 GiB",
            "region == 5",
            "region == \"eu",
            "debug == maybe",
            "debug < yes",
            "confidence(tee) >= 1.001",
            "confidence(tee) >= 0.9995",
            "confidence(trust) >= 1",
            "confidence tee >= 1",
            "confidence(tee >= 1",
            "any any",
            "any and",
            "any or or any",
            "and any",
            "not",
            "(any",
            "any)",
            "()",
            "debug & development",
            "any; drop",
            "region in [eu, \"a name that is so long that nobody would want to read all of it, let alone twice\" us]",
            "tee == dev-snp, debug",
        ],
        expect![[r#"
            column 1: expected an attribute (tee, region, provider, product, development, debug, price, cpu, memory, confidential, tcb.status, tcb.shortfall, grace, image, measurement, operator, gpu, gpus, feature, verifier), found the end

              ^
            column 4: expected an attribute (tee, region, provider, product, development, debug, price, cpu, memory, confidential, tcb.status, tcb.shortfall, grace, image, measurement, operator, gpu, gpus, feature, verifier), found the end

                 ^
            column 4: expected `==`, `!=`, `<`, `<=`, `>`, `>=` or `in` after `tee`, found the end
              tee
                 ^
            column 5: `=` has no meaning here; equality is `==`
              tee =
                  ^
            column 5: `=` has no meaning here; equality is `==`
              tee = dev-snp
                  ^
            column 8: `tee` is compared with one of sev-snp, tdx, sgx, nitro, tpm, az-snp-vtpm, az-tdx-vtpm, dev-snp, dev-tpm, found `trustzone`
              tee == trustzone
                     ^
            column 8: `tee` is compared with one of sev-snp, tdx, sgx, nitro, tpm, az-snp-vtpm, az-tdx-vtpm, dev-snp, dev-tpm, found `1`
              tee == 1
                     ^
            column 5: `tee` has no order: compare it with `==`, `!=` or `in`
              tee < sev-snp
                  ^
            column 8: expected `[` after `in`, found `dev-snp`
              tee in dev-snp
                     ^
            column 9: `tee` is compared with one of sev-snp, tdx, sgx, nitro, tpm, az-snp-vtpm, az-tdx-vtpm, dev-snp, dev-tpm, found `]`
              tee in []
                      ^
            column 16: expected `,` or `]`, found the end
              tee in [dev-snp
                             ^
            column 17: `tee` is compared with one of sev-snp, tdx, sgx, nitro, tpm, az-snp-vtpm, az-tdx-vtpm, dev-snp, dev-tpm, found `]`
              tee in [dev-snp,]
                              ^
            column 17: expected `,` or `]`, found `sev-snp`
              tee in [dev-snp sev-snp]
                              ^
            column 1: no attribute `regio`, did you mean `region`? (there are tee, region, provider, product, development, debug, price, cpu, memory, confidential, tcb.status, tcb.shortfall, grace, image, measurement, operator, gpu, gpus, feature, verifier)
              regio == eu
              ^
            column 1: no attribute `colour` (there are tee, region, provider, product, development, debug, price, cpu, memory, confidential, tcb.status, tcb.shortfall, grace, image, measurement, operator, gpu, gpus, feature, verifier)
              colour == red
              ^
            column 14: expected `usd/h` after `0.02`, found the end
              price <= 0.02
                           ^
            column 18: expected `usd/h` after `0.02`, found the end
              price <= 0.02 usd
                               ^
            column 19: expected `usd/h` after `0.02`, found `day`
              price <= 0.02 usd/day
                                ^
            column 15: expected `usd/h` after `0.02`, found `eur`
              price <= 0.02 eur/h
                            ^
            column 10: `price` is compared with a price, such as 0.02 usd/h, found `0.0000001`
              price <= 0.0000001 usd/h
                       ^
            column 10: `price` is compared with a price, such as 0.02 usd/h, found `1.`
              price <= 1. usd/h
                       ^
            column 10: `price` is compared with a price, such as 0.02 usd/h, found `1.2.3`
              price <= 1.2.3 usd/h
                       ^
            column 10: `-` has no meaning here
              price <= -1 usd/h
                       ^
            column 10: `price` is compared with a price, such as 0.02 usd/h, found `18446744073709.551616`
              price <= 18446744073709.551616 usd/h
                       ^
            column 10: `price` is compared with a price, such as 0.02 usd/h, found `cheap`
              price == cheap
                       ^
            column 9: expected `cores` after `2`, found the end
              cpu >= 2
                      ^
            column 8: `cpu` is compared with a number of cores, such as 2 cores, found `0.0001`
              cpu >= 0.0001 cores
                     ^
            column 12: expected `KiB`, `MiB` or `GiB` after `4`, found the end
              memory >= 4
                         ^
            column 13: expected `KiB`, `MiB` or `GiB` after `4`, found `GB`
              memory >= 4 GB
                          ^
            column 11: `memory` is compared with a size, such as 512 MiB or 4 GiB, found `0.0000000009313`
              memory >= 0.0000000009313 GiB
                        ^
            column 11: `memory` is compared with a size, such as 512 MiB or 4 GiB, found `much`
              memory >= much
                        ^
            column 8: `cpu` is compared with a number of cores, such as 2 cores, found `many`
              cpu >= many
                     ^
            column 11: `memory` is compared with a size, such as 512 MiB or 4 GiB, found `99999999999`
              memory >= 99999999999 GiB
                        ^
            column 11: `region` is compared with a name, such as "eu-north", found `5`
              region == 5
                        ^
            column 11: text without a closing quote
              region == "eu
                        ^
            column 10: `debug` is compared with yes or no, found `maybe`
              debug == maybe
                       ^
            column 7: `debug` has no order: compare it with `==`, `!=` or `in`
              debug < yes
                    ^
            column 20: `confidence(tee)` is compared with a number from 0 to 1, found `1.001`
              confidence(tee) >= 1.001
                                 ^
            column 20: `confidence(tee)` is compared with a number from 0 to 1, found `0.9995`
              confidence(tee) >= 0.9995
                                 ^
            column 12: expected `confidence(ATTRIBUTE)` with one of tee, region, provider, product, development, debug, price, cpu, memory, confidential, tcb.status, tcb.shortfall, grace, image, measurement, operator, gpu, gpus, feature, verifier
              confidence(trust) >= 1
                         ^
            column 1: no attribute `confidence` (there are tee, region, provider, product, development, debug, price, cpu, memory, confidential, tcb.status, tcb.shortfall, grace, image, measurement, operator, gpu, gpus, feature, verifier)
              confidence tee >= 1
              ^
            column 12: expected `confidence(ATTRIBUTE)` with one of tee, region, provider, product, development, debug, price, cpu, memory, confidential, tcb.status, tcb.shortfall, grace, image, measurement, operator, gpu, gpus, feature, verifier
              confidence(tee >= 1
                         ^
            column 5: expected `and`, `or` or the end, found `any`
              any any
                  ^
            column 8: expected an attribute (tee, region, provider, product, development, debug, price, cpu, memory, confidential, tcb.status, tcb.shortfall, grace, image, measurement, operator, gpu, gpus, feature, verifier), found the end
              any and
                     ^
            column 8: no attribute `or` (there are tee, region, provider, product, development, debug, price, cpu, memory, confidential, tcb.status, tcb.shortfall, grace, image, measurement, operator, gpu, gpus, feature, verifier)
              any or or any
                     ^
            column 1: no attribute `and` (there are tee, region, provider, product, development, debug, price, cpu, memory, confidential, tcb.status, tcb.shortfall, grace, image, measurement, operator, gpu, gpus, feature, verifier)
              and any
              ^
            column 4: expected an attribute (tee, region, provider, product, development, debug, price, cpu, memory, confidential, tcb.status, tcb.shortfall, grace, image, measurement, operator, gpu, gpus, feature, verifier), found the end
              not
                 ^
            column 5: expected `)`, found the end
              (any
                  ^
            column 4: expected `and`, `or` or the end, found `)`
              any)
                 ^
            column 2: expected an attribute (tee, region, provider, product, development, debug, price, cpu, memory, confidential, tcb.status, tcb.shortfall, grace, image, measurement, operator, gpu, gpus, feature, verifier), found `)`
              ()
               ^
            column 7: `&` has no meaning here
              debug & development
                    ^
            column 4: `;` has no meaning here
              any; drop
                 ^
            column 99: expected `,` or `]`, found `us`
               that nobody would want to read all of it, let alone twice" us]
                                                                          ^
            column 15: expected `and`, `or` or the end, found `,`
              tee == dev-snp, debug
                            ^
        "#]],
    );
}

#[test]
fn columns_are_counted_in_characters_and_control_characters_are_not_shown() {
    errors(
        &["region == \"\u{e5}\u{4e2d}\u{1f512}\" nad debug", "\u{e5}", "any\n\tor \u{1b}[31m", "region == eu\u{301}"],
        expect![[r#"
            column 17: expected `and`, `or` or the end, found `nad`
              region == "å中🔒" nad debug
                              ^
            column 1: `å` has no meaning here
              å
              ^
            column 9: `�` has no meaning here
              any  or  [31m
                      ^
            column 13: `́` has no meaning here
              region == eú
                          ^
        "#]],
    );
}

#[test]
fn a_long_source_is_shown_around_its_error() {
    let long = format!("{}regio == eu{}", "any and ".repeat(40), " and any".repeat(40));
    errors(
        &[&long],
        expect![[r#"
            column 321: no attribute `regio`, did you mean `region`? (there are tee, region, provider, product, development, debug, price, cpu, memory, confidential, tcb.status, tcb.shortfall, grace, image, measurement, operator, gpu, gpus, feature, verifier)
              and any and any and any and any and any and any and any and regio == eu and any and any and any and any and any and any
                                                                          ^
        "#]],
    );
}

#[test]
fn limits() {
    let list = |n: usize| format!("region in [{}]", vec!["eu"; n].join(","));
    assert!(Requirement::parse(&list(LIST_MAX)).is_ok());
    let error = Requirement::parse(&list(LIST_MAX + 1)).unwrap_err();
    assert_eq!(error.what, "more than 64 entries");
    assert_eq!(error.column, list(LIST_MAX + 1).len(), "at the bracket after the entry too many");

    // Each `not` and each parenthesis is one step down.
    for (open, close, steps) in [("not ", "", 1), ("(", ")", 1), ("not (", ")", 2)] {
        let nested = |times: usize| format!("{}any{}", open.repeat(times), close.repeat(times));
        let most = DEPTH_MAX / steps;
        assert!(Requirement::parse(&nested(most)).is_ok(), "{open}");
        let error = Requirement::parse(&nested(most + 1)).unwrap_err();
        assert_eq!(error.what, "nested deeper than 32", "{open}");
        assert_eq!(Requirement::parse(&nested(most + 400)).unwrap_err().column, error.column, "{open}");
    }
    // Flat is not deep.
    assert!(Requirement::parse(&vec!["debug"; 400].join(" or ")).is_ok());
    assert!(Requirement::parse(&vec!["debug"; 400].join(" and ")).is_ok());

    let padded = |n: usize| format!("any{}", " ".repeat(n - 3));
    assert!(Requirement::parse(&padded(SOURCE_MAX)).is_ok());
    for n in [SOURCE_MAX + 1, 10 * SOURCE_MAX, 1 << 24] {
        let error = Requirement::parse(&padded(n)).unwrap_err();
        assert_eq!((error.column, error.what.as_str()), (1, "longer than 4096 bytes"));
        assert!(error.to_string().len() < 300);
    }
    let wide = "\u{1f512}".repeat(SOURCE_MAX / 4 + 1);
    assert_eq!(Requirement::parse(&wide).unwrap_err().what, "longer than 4096 bytes");
}

/// What is likely to get far into the parser.
fn soup() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "tee",
        "region",
        "provider",
        "product",
        "development",
        "debug",
        "price",
        "cpu",
        "memory",
        "confidence",
        "(",
        ")",
        "[",
        "]",
        ",",
        "and",
        "or",
        "not",
        "in",
        "any",
        "==",
        "!=",
        "<",
        "<=",
        ">",
        ">=",
        "=",
        "0.02",
        "1",
        "1.",
        ".5",
        "99999999999999999999",
        "usd",
        "/",
        "h",
        "cores",
        "GiB",
        "sev-snp",
        "dev-snp",
        "\"eu\"",
        "\"",
        "yes",
        "\u{e5}",
        "\u{0}",
    ];
    prop::collection::vec((prop::sample::select(WORDS), prop::sample::select(&["", " ", "\n"][..])), 0..60)
        .prop_map(|parts| parts.into_iter().flat_map(|(word, space)| [word, space]).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_makes_the_parser_panic(source in prop_oneof![any::<String>(), soup(), "[a-z()\\[\\]<>=!\" .0-9]{0,200}"]) {
        match Requirement::parse(&source) {
            Ok(requirement) => {
                prop_assert_eq!(requirement.source(), &source);
                prop_assert!(Requirement::parse(requirement.source()).is_ok());
            }
            Err(error) => {
                let characters = source.chars().count();
                prop_assert!((1..=characters + 1).contains(&error.column), "column {} of {}", error.column, characters);
                let shown = error.to_string();
                let lines: Vec<_> = shown.lines().collect();
                prop_assert_eq!(lines.last().map(|l| l.trim()), Some("^"), "{}", shown);
                prop_assert!(!shown.replace('\n', "").contains(char::is_control), "{:?}", shown);
            }
        }
    }
}

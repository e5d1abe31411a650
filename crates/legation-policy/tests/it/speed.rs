//! What a verdict costs, in time on the processor (Linux; other work on the machine does not count). By hand: `cargo test --release -p legation-policy -- --ignored --nocapture`.

use std::sync::Arc;

use legation_core::{
    Bytes, Digest, MicroUsd,
    prefer::{DataTerms, Priority},
    task::Demand,
};
use legation_policy::{Asked, Options, Policy, References};

use crate::world::{Guest, NOW, firmware, image, known};

/// Seconds this thread has been on a processor.
fn on_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// Twenty rules as an operator would write them.
fn twenty() -> String {
    let mut text = String::new();
    for i in 0..10 {
        text.push_str(&format!(
            "@id(\"image-{i}\") permit (principal in Image::\"image-{i}\", action == Action::\"admit\", resource) when {{ \
             !principal.debug && principal.tcb.status in [TcbStatus::\"up-to-date\", TcbStatus::\"sw-hardening-needed\"] && \
             principal.confidence.region >= 300 }};\n"
        ));
    }
    for (i, condition) in [
        "principal.debug",
        "principal has vmpl && principal.vmpl > 0",
        "principal.region like \"cn-*\"",
        "!principal.confidential",
        "principal.provider == \"mallory\"",
        "principal.stale_collateral",
        "principal.tee == Tee::\"tpm\"",
        "principal.tcb.advisories.contains(\"INTEL-SA-00615\")",
        "principal.memory < 1073741824",
        "principal.gpu_count > 8",
    ]
    .iter()
    .enumerate()
    {
        text.push_str(&format!("@id(\"not-{i}\") forbid (principal, action, resource) when {{ {condition} }};\n"));
    }
    text
}

#[test]
#[ignore = "a measurement"]
fn a_policy_of_twenty_rules() {
    let values = (0..10)
        .map(|i| image(&format!("image-{i}"), if i == 7 { known() } else { format!("{i:02x}").repeat(48) }, None));
    let references =
        References::new(values.chain([firmware("fw", "milan", "blSPL=4&teeSPL=0&snpSPL=24&ucodeSPL=219")])).unwrap();
    let started = on_cpu();
    let policy = Policy::load("speed", &twenty(), Arc::new(references), Options::default()).unwrap();
    println!("load, with the schema once: {:.1} ms", (on_cpu() - started) * 1e3);
    let started = on_cpu();
    let again = Policy::load("speed", &twenty(), policy.references().clone(), Options::default()).unwrap();
    println!("load again: {:.1} ms", (on_cpu() - started) * 1e3);
    let good = Guest::milan();
    let bad = Guest::milan().with(|c| c.measurement.value = "ff".repeat(48));
    assert!(again.admit(good.subject(), NOW).is_ok() && again.admit(bad.subject(), NOW).is_err());
    for (name, guest) in [("admitted", &good), ("refused and explained", &bad)] {
        let mut best = f64::MAX;
        for _ in 0..5 {
            const N: u32 = 20_000;
            let started = on_cpu();
            for _ in 0..N {
                std::hint::black_box(policy.admit(std::hint::black_box(guest.subject()), NOW)).ok();
            }
            best = best.min((on_cpu() - started) * 1e6 / f64::from(N));
        }
        println!("{name}: {best:.1} us");
    }
}

#[test]
#[ignore = "a measurement"]
fn rules_of_placement() {
    let mut text = "@id(\"all\") permit (principal, action == Action::\"admit\", resource);\n".to_owned();
    for i in 0..20 {
        text.push_str(&format!(
            "@id(\"p-{i}\") @limit_memory(\"{} MiB\") permit (principal, action == Action::\"place\", resource) when {{ \
             context.regulations.contains(\"r-{i}\") && resource.region like \"eu-*\" && resource.confidence.tee >= 300 }};\n",
            100 + i
        ));
    }
    let policy = Policy::load("speed", &text, Arc::new(References::default()), Options::default()).unwrap();
    let guest = Guest::milan();
    let tenant = legation_core::TenantId::new("acme").unwrap();
    let data = DataTerms { regulations: ["r-7".to_owned(), "r-9".to_owned()].into(), ..DataTerms::default() };
    let (demand, usd) = (Demand::default(), MicroUsd(1000));
    let asked = Asked {
        tenant: &tenant,
        data: &data,
        priority: Priority(4),
        module: Digest::of(b"module"),
        demand,
        budget: usd,
        price_hour: usd,
        cost_max: usd,
    };
    assert_eq!(policy.place(guest.subject(), &asked, NOW).unwrap().memory, Some(Bytes::mib(107)));
    const TIMES: u32 = 20_000;
    let each = |what: &str, work: &dyn Fn()| {
        let started = on_cpu();
        (0..TIMES).for_each(|_| work());
        println!("{what}: {:.1} us", (on_cpu() - started) * 1e6 / f64::from(TIMES));
    };
    each("placement by twenty rules", &|| drop(policy.place(guest.subject(), &asked, NOW)));
    each("digest of what they see", &|| {
        std::hint::black_box(policy.sees(&asked));
    });
}

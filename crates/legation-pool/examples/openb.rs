//! The openb trace through the real pool, beside other strategies in the same program: placed share, cost, fragmentation, time.
//! `cargo xtask bench openb` keeps its figures; `--smoke` takes a slice.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed measurement")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its figures")]

use legation_core::prefer::Weights;
use openb::{
    peers::Rule,
    replay::{Tale, in_pool, inflated, with},
    trace::Trace,
};

#[path = "../tests/it/openb/mod.rs"]
mod openb;
#[path = "../tests/it/world.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod world;

fn main() {
    let Some(trace) = Trace::read() else {
        println!("{}", serde_json::json!({ "skipped": "no trace in ../shared/traces" }));
        return;
    };
    let smoke = std::env::args().any(|a| a == "--smoke");
    let trace = if smoke { trace.slice(10, 800) } else { trace };
    let load = if smoke { 1.1 } else { 1.3 };
    let usual = Weights::default();
    let packing = Weights { cost: 0, proximity: 0, posture: 0, fit: 100 };
    let mut results = Vec::new();
    for (name, tale) in [("as it was", Tale::of(&trace.pods)), ("inflated", inflated(&trace, load))] {
        for (weights, called) in [(usual, "pool, usual weights"), (packing, "pool, fit alone")] {
            eprintln!("openb: {name}: {called}");
            let mut outcome = in_pool(&trace, &tale, weights, smoke);
            outcome.name = called.to_owned();
            results.push(with_tale(name, outcome.json()));
        }
        for rule in Rule::ALL {
            eprintln!("openb: {name}: {}", rule.name());
            results.push(with_tale(name, with(&trace, &tale, rule).json()));
        }
    }
    let gpus: usize = trace.nodes.iter().map(|n| n.gpus).sum();
    let report = serde_json::json!({
        "bench": "openb", "nodes": trace.nodes.len(), "gpus": gpus, "pods": trace.pods.len(),
        "source": "hkust-adsl/kubernetes-scheduler-simulator, openb (Alibaba; FGD, ATC'23), first half of the pods",
        "inflated_load": load,
        "of_the_pool_us_per_decision": "the whole command: judged, placed, allocation signed, books kept; of the others the choice alone",
        "load_average": std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
        "results": results,
    });
    println!("{report}");
}

fn with_tale(tale: &str, mut outcome: serde_json::Value) -> serde_json::Value {
    outcome["tale"] = tale.into();
    outcome
}

//! `cargo xtask bench pool`: what the pool costs, part by part. `--only NAME` measures one of them:
//!
//! * `durable`: placements through the leader and its journal, many clients, requests signed beforehand;
//! * `sockets`: the same from end to end: a manager process, thousands of agents with attested channels of their own, and clients over
//!   HTTP; agents hold what they are offered, and run nothing;
//! * `memory`: bytes of the manager for each enclave;
//! * `recovery`: a journal of a million records read back;
//! * `failover`: three manager processes on one PostgreSQL, whose leader is killed over and over.
//!
//! One decision alone, among 1k to 1M enclaves and beside other strategies, is `cargo xtask bench decide`.
//!
//! Sizes: `--enclaves`, `--tasks`, `--agents`, `--records`, `--kills`; `--smoke` makes all of them small. Prints one JSON object.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its figures")]

use std::path::{Path, PathBuf};

use legation::exit::{Exit, Failure};
use serde_json::{Value, json};

mod durable;
mod failover;
mod memory;
mod people;
#[expect(dead_code, clippy::unwrap_used, reason = "tests use more of it, and panic")]
#[path = "../../../legation-manager/tests/it/postgres.rs"]
mod postgres;
mod recovery;
mod sockets;

/// As in the program that is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How much of each.
pub(crate) struct Sizes {
    enclaves: usize,
    tasks: usize,
    agents: usize,
    records: u64,
    kills: usize,
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let smoke = args.iter().any(|a| a == "--smoke");
    let value = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)).cloned();
    let number = |name: &str, usual: usize, small: usize| {
        let usual = if smoke { small } else { usual };
        value(name).map_or(Ok(usual), |n| n.parse().map_err(|_| Failure::new(Exit::Usage, format!("{name} {n}"))))
    };
    let sizes = Sizes {
        enclaves: number("--enclaves", 100_000, 2_000)?,
        tasks: number("--tasks", 40_000, 300)?,
        agents: number("--agents", 5_000, 20)?,
        records: number("--records", 1_000_000, 4_000)? as u64,
        kills: number("--kills", 7, 1)?,
    };
    if value("--child").is_some_and(|child| child == "memory") {
        println!("{}", memory::child(sizes.enclaves)?);
        return Ok(());
    }
    let only = value("--only");
    let wanted = |part: &str| only.as_ref().is_none_or(|only| only == part);
    let mut report = json!({
        "bench": "pool",
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "load_average_before": load(),
    });
    let run = || tokio::runtime::Runtime::new().map_err(failed);
    if wanted("memory") {
        report["memory"] = memory::measure(sizes.enclaves)?;
    }
    if wanted("recovery") {
        report["recovery"] = recovery::measure(sizes.records)?;
    }
    if wanted("durable") {
        report["durable"] = run()?.block_on(durable::measure(sizes.enclaves.min(5_000), sizes.tasks))?;
    }
    if wanted("sockets") {
        report["sockets"] = run()?.block_on(sockets::measure(sizes.agents, sizes.tasks))?;
    }
    if wanted("failover") {
        report["failover"] = run()?.block_on(failover::measure(sizes.kills))?;
    }
    report["load_average_after"] = load();
    println!("{report}");
    Ok(())
}

/// Processes that want to run, as the kernel averages them over one, five and fifteen minutes.
fn load() -> Value {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).filter_map(|n| n.parse::<f64>().ok()).collect::<Vec<_>>().into()
}

pub(crate) fn failed(why: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failure, why)
}

pub(crate) fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Quantiles of latencies, in milliseconds.
pub(crate) fn quantiles(mut seconds: Vec<f64>) -> Value {
    seconds.sort_unstable_by(f64::total_cmp);
    let at = |q: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into a list")]
        let index = (count(seconds.len().saturating_sub(1)) * q).round() as usize;
        seconds.get(index).map(|s| round(s * 1000.0))
    };
    json!({ "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0) })
}

#[expect(clippy::cast_precision_loss, reason = "millions")]
pub(crate) fn count(n: usize) -> f64 {
    n as f64
}

/// A program that cargo built beside this one.
pub(crate) fn beside(name: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(failed)?;
    Ok(own.parent().and_then(Path::parent).unwrap_or(Path::new(".")).join(name))
}

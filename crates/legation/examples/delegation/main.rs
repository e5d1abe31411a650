//! `cargo xtask bench delegation`: what handing work on costs.
//!
//! * `grants`: the check of a chain of three grants, as it comes over a channel, beside three signatures by the library alone;
//! * `receipt`: a receipt of 1,000 statements, most of them calls and answers, from its text to the verdict, on one core;
//! * `calls`: a call from inside a running module to a warm delegate, by a manager and two agents as processes on loopback.
//!
//! `--only NAME` measures one of them; `--smoke` makes all of them small. Prints one JSON object. The rest of that measurement (what
//! counting and watching cost, channels over channels, the log, tokens of others) is in programs of their own.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its figures")]

use std::{hint::black_box, time::Instant};

use legation::exit::{Exit, Failure};
use serde_json::{Value, json};

mod calls;
mod grants;
mod paper;
mod receipt;

/// As in the program that is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let smoke = args.iter().any(|a| a == "--smoke");
    let only = args.iter().position(|a| a == "--only").and_then(|at| args.get(at + 1));
    let wanted = |part: &str| only.is_none_or(|only| only == part);
    let mut report = json!({
        "bench": "delegation",
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
    });
    if wanted("grants") {
        report["grants"] = grants::measure(if smoke { 50 } else { 20_000 })?;
    }
    if wanted("receipt") {
        report["receipt"] = receipt::measure(if smoke { (10, 2) } else { (495, 50) })?;
    }
    if wanted("calls") {
        report["calls"] = calls::measure(if smoke { (5, 2) } else { (61, 30) }).await?;
    }
    println!("{report}");
    Ok(())
}

pub(crate) fn failed(why: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failure, why)
}

/// Microseconds that `work` takes, each time, in ascending order; once more before that is counted.
pub(crate) fn times<T>(rounds: usize, mut work: impl FnMut() -> Result<T, Failure>) -> Result<Vec<f64>, Failure> {
    black_box(work()?);
    let mut took = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let began = Instant::now();
        black_box(work()?);
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    took.sort_unstable_by(f64::total_cmp);
    Ok(took)
}

/// As [`times`] of two in turn, so that neither has the better seconds.
pub(crate) fn in_turn<A, B>(
    rounds: usize,
    mut one: impl FnMut() -> Result<A, Failure>,
    mut other: impl FnMut() -> Result<B, Failure>,
) -> Result<(Vec<f64>, Vec<f64>), Failure> {
    let (mut first, mut second) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    for _ in 0..rounds {
        first.extend(times(1, &mut one)?);
        second.extend(times(1, &mut other)?);
    }
    first.sort_unstable_by(f64::total_cmp);
    second.sort_unstable_by(f64::total_cmp);
    Ok((first, second))
}

/// A quantile of ascending figures.
pub(crate) fn quantile(figures: &[f64], q: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a list"
    )]
    let at = (figures.len().saturating_sub(1) as f64 * q).round() as usize;
    figures.get(at).copied().unwrap_or(f64::NAN)
}

/// p50 and p99 of ascending figures.
pub(crate) fn spread(figures: &[f64]) -> Value {
    json!({ "p50": round(quantile(figures, 0.5)), "p99": round(quantile(figures, 0.99)) })
}

pub(crate) fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

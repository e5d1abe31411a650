//! `cargo xtask bench meters`: what counting and watching cost a module that runs.
//!
//! Each module runs in five hosts, one after the other in every round, which differ in what is counted and in nothing else:
//! * `bare`: wasmtime set as the agent sets it, with the same answers to WASI, and neither fuel, epochs, trace nor monitor;
//! * `epochs`: with epochs, which can end a run and count nothing;
//! * `fuel`: with fuel alone;
//! * `fuel_and_epochs`: with both, as the agent's engine is set;
//! * `engine`: the agent's engine, which charges host calls and keeps a trace of them, and the monitor's judgement of the run.
//!
//! `train` (arithmetic of floating point in loops) and `words` (a branch for every byte) are modules of `guests/`; `calls` does
//! nothing but call the host, which no real module does: it shows what a call costs. Prints one JSON object; `--smoke`
//! makes all of it small.
//!
//! Times are of whole runs, instantiation and wiping included. What is said of two hosts is the median over the rounds of the ratio
//! of their times in that round: a machine that has slow seconds has them for both.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    fmt::{Display, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use legation_agent::{
    engine::{Cancel, Engine, EngineConfig, Prepared, RunInput},
    monitor::{Monitor, Sample, Settings},
};
use legation_core::{Bytes, Digest, Fuel, TenantId, UnixTime};
use serde_json::{Map, Value, json};

mod bare;

use bare::{Bare, Counted};

pub(crate) type Failure = Box<dyn std::error::Error>;

/// The hosts, in the order in which they stand in every list here.
const HOSTS: [&str; 5] = ["bare", "epochs", "fuel", "fuel_and_epochs", "engine"];
/// What the bare ones among them count.
const COUNTED: [Counted; 4] = [
    Counted { fuel: false, epochs: false },
    Counted { fuel: false, epochs: true },
    Counted { fuel: true, epochs: false },
    Counted { fuel: true, epochs: true },
];
/// Most that the engine may be slower than the bare host, in per cent.
const AIM: f64 = 10.0;
/// Rows of the table that is trained on.
const ROWS: usize = 100;

/// A module and what it is given.
struct Work {
    name: &'static str,
    what: &'static str,
    wasm: Vec<u8>,
    args: Vec<String>,
    input: Vec<u8>,
    /// Whether the aim is about it.
    real: bool,
}

/// The agent's engine with its monitor, as a task runs in it.
struct Watched {
    engine: Engine,
    module: Arc<Prepared>,
    monitor: Monitor,
    tenant: TenantId,
    digest: Digest,
}

/// What a run in the engine says of itself.
struct Ran {
    stdout: Vec<u8>,
    sample: Sample,
}

fn main() -> Result<(), Failure> {
    let smoke = std::env::args().any(|arg| arg == "--smoke");
    let rounds = if smoke { 3 } else { 41 };
    let mut modules = Map::new();
    let (mut met, mut judgement) = (true, Value::Null);
    for work in works(smoke)? {
        let (found, within) = measure(&work, rounds)?;
        met &= within || !work.real;
        if judgement.is_null() {
            judgement = judge(&work, if smoke { 100 } else { 10_000 })?;
        }
        modules.insert(work.name.to_owned(), found);
    }
    let report = json!({
        "bench": "meters",
        "what": "whole runs of a module in hosts that count more and more, in turn; ratios are medians over the rounds",
        "rounds": rounds,
        "modules": modules,
        "judgement_alone_us": judgement,
        "aim": { "engine_over_bare_percent": AIM, "of": "train and words" },
        "met": met,
    });
    println!("{report}");
    Ok(())
}

fn works(smoke: bool) -> Result<Vec<Work>, Failure> {
    let (epochs, bytes, calls) = if smoke { (10, 10_000, 100) } else { (20_000, 7 << 20, 100_000) };
    let guest = |name: &str| {
        let path = format!("guests/{name}.wasm");
        std::fs::read(&path).map_err(|e| failed(format!("{path}: {e}; run it in the root of the repository")))
    };
    let mut table = String::from("a,y\n");
    for row in 0..ROWS {
        writeln!(table, "{row},{}", row % 7)?;
    }
    // Words of one to eight letters.
    let mut text = Vec::with_capacity(bytes + 9);
    while text.len() < bytes {
        let letters = (text.len().wrapping_mul(2_654_435_761) >> 7) & 7;
        text.extend(std::iter::repeat_n(b'w', letters + 1));
        text.push(b' ');
    }
    text.truncate(bytes);
    Ok(vec![
        Work {
            name: "train",
            what: "guests/train.wasm: gradient descent over 100 rows",
            wasm: guest("train")?,
            args: vec![format!("epochs={epochs}"), "rate=0.0001".to_owned(), "l2=0.5".to_owned()],
            input: table.into_bytes(),
            real: true,
        },
        Work {
            name: "words",
            what: "guests/split.wasm: counts the words of a text, byte by byte",
            wasm: guest("split")?,
            args: Vec::new(),
            input: text,
            real: true,
        },
        Work {
            name: "calls",
            what: "fd_write of eight bytes, again and again",
            wasm: wat::parse_str(calling(calls))?,
            args: Vec::new(),
            input: Vec::new(),
            real: false,
        },
    ])
}

/// A module that writes so often.
fn calling(times: u32) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00\08\00\00\00")
            (data (i32.const 16) "8 bytes\n")
            (func (export "_start") (local $left i32)
                (local.set $left (i32.const {times}))
                (loop $again
                    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                    (br_if $again (local.get $left)))))"#
    )
}

impl Watched {
    fn new(work: &Work) -> Result<Self, Failure> {
        let engine = Engine::new(EngineConfig { instances_max: 1, ..EngineConfig::default() })?;
        let module = engine.prepare(&work.wasm)?;
        let (monitor, tenant) = (Monitor::new(Settings::default()), TenantId::new("bench").map_err(failed)?);
        Ok(Self { engine, module, monitor, tenant, digest: Digest::of(&work.wasm) })
    }

    fn run(&self, work: &Work) -> Result<Ran, Failure> {
        let watch = self.monitor.begin(self.digest, &self.tenant);
        let input = RunInput {
            args: &work.args,
            inputs: vec![work.input.as_slice()],
            fuel: Fuel(1 << 60),
            memory: Bytes::mib(64),
            deadline: Duration::from_secs(60),
            output_max: Bytes::mib(16),
            log_max: Bytes::kib(64),
            seed: [0; 32],
            now_fixed: UnixTime(0),
            delegations: None,
        };
        let outcome = self.engine.run(&self.module, input, &Cancel::new());
        if let Err(why) = &outcome.result {
            return Err(failed(format!("{}: {why}: {}", work.name, String::from_utf8_lossy(&outcome.stderr))));
        }
        let sample = Sample {
            fuel: outcome.usage.fuel,
            input: Bytes(work.input.len() as u64),
            host_calls: outcome.usage.host_calls,
            memory: outcome.usage.memory_peak,
            output: Bytes(outcome.stdout.len() as u64),
        };
        std::hint::black_box(watch.end(Some(&sample), &[7; 32]).with(outcome.calls));
        Ok(Ran { stdout: outcome.stdout, sample })
    }
}

/// What was found of one module, and whether the engine is within the aim.
fn measure(work: &Work, rounds: usize) -> Result<(Value, bool), Failure> {
    let bare: Vec<Bare> = COUNTED.iter().map(|counted| Bare::new(&work.wasm, *counted)).collect::<Result<_, _>>()?;
    let watched = Watched::new(work)?;
    let Ran { stdout: wanted, sample } = watched.run(work)?;
    let mut took = HOSTS.map(|_| Vec::with_capacity(rounds));
    // One round more than is counted, to begin with; and each round begins with another host.
    for round in 0..=rounds {
        for turn in 0..HOSTS.len() {
            let host = (round + turn) % HOSTS.len();
            let began = Instant::now();
            let stdout = match bare.get(host) {
                Some(bare) => bare.run(&work.args, &work.input)?,
                None => watched.run(work)?.stdout,
            };
            let ms = began.elapsed().as_secs_f64() * 1e3;
            if stdout != wanted {
                return Err(failed(format!("{} says another thing in {}", work.name, HOSTS[host])));
            }
            if round > 0 {
                took[host].push(ms);
            }
        }
    }
    let (mut times, mut over) = (Map::new(), Map::new());
    let mut last = 0.0;
    for (host, ms) in HOSTS.iter().zip(&took) {
        times.insert((*host).to_owned(), json!({ "p50": round(quantile(ms, 0.5)), "p99": round(quantile(ms, 0.99)) }));
        let ratios: Vec<f64> = ms.iter().zip(&took[0]).map(|(one, bare)| (one / bare - 1.0) * 100.0).collect();
        last = quantile(&ratios, 0.5);
        over.insert((*host).to_owned(), json!(round(last)));
    }
    let calls = sample.host_calls.max(1) as f64;
    let per_call = (quantile(&took[HOSTS.len() - 1], 0.5) - quantile(&took[0], 0.5)) * 1e6 / calls;
    let mut found = json!({
        "what": work.what, "input_bytes": work.input.len(), "fuel": sample.fuel.0, "host_calls": sample.host_calls,
        "ms": times, "over_bare_percent": over,
    });
    if work.real {
        found["met"] = json!(last <= AIM);
    } else {
        found["engine_over_bare_ns_per_call"] = json!(round(per_call));
    }
    Ok((found, last <= AIM))
}

/// The monitor's judgement of one run, without the run, in microseconds.
fn judge(work: &Work, rounds: usize) -> Result<Value, Failure> {
    let watched = Watched::new(work)?;
    let sample = watched.run(work)?.sample;
    let mut took = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let began = Instant::now();
        let watch = watched.monitor.begin(watched.digest, &watched.tenant);
        std::hint::black_box(watch.end(Some(&sample), &[7; 32]));
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(json!({ "p50": round(quantile(&took, 0.5)), "p99": round(quantile(&took, 0.99)) }))
}

/// A quantile of figures in any order.
fn quantile(figures: &[f64], q: f64) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_unstable_by(f64::total_cmp);
    let at = (figures.len().saturating_sub(1) as f64 * q).round() as usize;
    figures.get(at).copied().unwrap_or(f64::NAN)
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

pub(crate) fn failed(why: impl Display) -> Failure {
    why.to_string().into()
}

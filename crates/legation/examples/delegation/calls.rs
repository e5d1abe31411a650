//! Calls from inside a running module: a manager and two agents as processes on loopback, one of which is lent to the other. How long a
//! module runs is in its report; runs of one call and of many differ by what a call to a warm delegate takes.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use legation::{
    cloud::Cloud,
    exit::Failure,
    home::Home,
    party::Trust,
    run::{Job, Part, Runner, now},
    setup,
};
use legation_core::{
    Bytes, Digest, Fuel, MicroUsd, Millicores, Milligpus, Millis, Requirement,
    statement::{Assurance, Report},
    task::{Delegation, Demand},
};
use serde_json::{Value, json};

use crate::{failed, quantile, round, spread};

/// What is handed on, and comes back.
const INPUT_BYTES: usize = 1024;
/// A run that cannot go on for long.
const DEMAND: Demand = Demand {
    cpu: Millicores(250),
    memory: Bytes::mib(16),
    fuel: Fuel(1_000_000_000),
    time: Millis(30_000),
    output: Bytes::mib(1),
    gpus: Milligpus::ZERO,
};

/// What one run took: all of it, and of that the executions at the delegate, in microseconds.
struct Took {
    whole: f64,
    there: f64,
}

pub(crate) async fn measure((calls, rounds): (u32, usize)) -> Result<Value, Failure> {
    let program = beside("legation")?;
    let dir = std::env::temp_dir().join(format!("legation-bench-delegation-{}", std::process::id()));
    let mut plans = setup::nine_agents();
    plans.truncate(2);
    let deployment = setup::development(&dir, &plans, &program, now())?;
    let home = Home::open(&deployment.client)?;
    let mut cloud = Cloud::new(deployment, &program)?;
    cloud.start()?;
    let client = cloud.ready(plans.len(), Duration::from_secs(60), |_| {}).await?;
    let trust = Trust::new(home.anchors.clone()).map_err(failed)?;
    let runner = Runner {
        client: client.clone(),
        party: Arc::new(home.party()?),
        tenant: home.config.tenant.clone(),
        trust: Arc::new(trust),
        clock: Arc::new(now),
    };
    let echo = std::fs::read("guests/echo.wasm").map_err(|e| failed(format!("guests/echo.wasm: {e}")))?;
    let echo = client.put_object(echo.into()).await?;
    let one = client.put_object(caller(&echo, 1)?.into()).await?;
    let many = client.put_object(caller(&echo, calls)?.into()).await?;

    eprintln!("delegation: {rounds} rounds of runs with 1 and with {calls} calls");
    let (mut each, mut there, mut first) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..=rounds {
        let (few, more) = (run(&runner, one, echo).await?, run(&runner, many, echo).await?);
        // The first compiles the modules.
        if n > 0 {
            let further = f64::from(calls.saturating_sub(1));
            each.push((more.whole - few.whole) / further);
            there.push((more.there - few.there) / further);
            first.push(few.whole);
        }
    }
    cloud.stop().await;
    std::fs::remove_dir_all(&dir).map_err(failed)?;
    for figures in [&mut each, &mut there, &mut first] {
        figures.sort_unstable_by(f64::total_cmp);
    }
    let overhead = quantile(&each, 0.5) - quantile(&there, 0.5);
    Ok(json!({
        "what": "a call from inside a module to a warm delegate in another process, over an attested channel on loopback, signed and \
            answered with a signed report; of each run the mean of its further calls",
        "input_bytes": INPUT_BYTES, "rounds": rounds, "calls_of_a_run": calls,
        "call_us": spread(&each), "of_that_executing_there_us": spread(&there),
        "overhead_p50_us": round(overhead),
        "run_with_its_first_call_and_loan_us": spread(&first),
        "aim": { "overhead_p50_us": 1000 },
        "met": overhead <= 1000.0,
    }))
}

/// Hands `INPUT_BYTES` to `callee` so often, one call after the other, without options.
fn caller(callee: &Digest, times: u32) -> Result<Vec<u8>, Failure> {
    let mut digest = String::new();
    for byte in callee.as_bytes() {
        write!(digest, "\\{byte:02x}").map_err(failed)?;
    }
    let text = format!(
        "(module
          (import \"legation_task_v1\" \"delegate_start\" (func $start (param i32 i32 i32 i32 i32) (result i32)))
          (import \"legation_task_v1\" \"delegate_wait\" (func $wait (param i32) (result i32)))
          (import \"legation_task_v1\" \"delegate_read\" (func $read (param i32 i32 i32) (result i32)))
          (import \"legation_task_v1\" \"delegate_close\" (func $close (param i32) (result i32)))
          (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
          (memory (export \"memory\") 2)
          (data (i32.const 1024) \"{digest}\")
          (func (export \"_start\") (local $left i32) (local $call i32)
            (local.set $left (i32.const {times}))
            (loop $again
              (local.set $call
                (call $start (i32.const 1024) (i32.const 2048) (i32.const {INPUT_BYTES}) (i32.const 0) (i32.const 0)))
              (if (i32.lt_s (local.get $call) (i32.const 0))
                (then (call $exit (i32.sub (i32.const 0) (local.get $call)))))
              (if (i32.ne (call $wait (local.get $call)) (i32.const {INPUT_BYTES})) (then (call $exit (i32.const 99))))
              (drop (call $read (local.get $call) (i32.const 65536) (i32.const {INPUT_BYTES})))
              (drop (call $close (local.get $call)))
              (local.set $left (i32.sub (local.get $left) (i32.const 1)))
              (br_if $again (local.get $left)))))"
    );
    wat::parse_str(text).map_err(failed)
}

/// Runs a module that may call `callee`, to its receipt.
async fn run(runner: &Runner, module: Digest, callee: Digest) -> Result<Took, Failure> {
    let budget = MicroUsd(100_000);
    let part = Part {
        name: "calls".to_owned(),
        module,
        args: Vec::new(),
        inputs: Vec::new(),
        demand: DEMAND,
        require: Requirement::any(),
        owner: None,
        delegates: Some(Delegation {
            modules: vec![callee],
            depth: 1,
            fuel: Fuel(100_000_000_000),
            budget,
            assurance: Assurance::Attested,
        }),
    };
    let job = Job {
        name: "calls".to_owned(),
        parts: vec![part],
        require: Requirement::any(),
        budget,
        swarm: None,
        life_seconds: 300,
        prefer: Default::default(),
        data: Default::default(),
        builds_on: Vec::new(),
    };
    let submitted = runner.submit_and_wait(job, &[], 20).await?;
    let outcome = runner.follow(submitted, |_| {}).await?;
    let mut took = Took { whole: 0.0, there: 0.0 };
    for report in outcome.receipt.envelopes.iter().filter_map(|envelope| envelope.peek::<Report>().ok()) {
        let micros = f64::from(u32::try_from(report.usage.micros).map_err(failed)?);
        let of = if report.answer.is_some() { &mut took.there } else { &mut took.whole };
        *of += micros;
    }
    Ok(took)
}

/// A program that cargo built beside this one.
fn beside(name: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(failed)?;
    Ok(own.parent().and_then(Path::parent).unwrap_or(Path::new(".")).join(name))
}

//! `cargo xtask bench e2e`: no-op tasks through the whole path. A manager and two agents as processes on loopback, real
//! attested channels, a durable journal; the client signs every request and grant, and the agent every report.
//!
//! Prints one JSON object: tasks per second with 64 outstanding, latency with one, CPU per task of each process.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use legation::{
    cloud::Cloud,
    exit::{Exit, Failure},
    home::Home,
    party::Trust,
    run::{Job, Part, Runner, now},
    setup,
};
use legation_core::{
    Bytes, Digest, Fuel, MicroUsd, Millicores, Milligpus, Millis, Requirement, claims::Capacity, task::Demand,
};
use legation_pool::TaskState;

/// Tasks in flight in the throughput part.
const OUTSTANDING: usize = 64;
/// What a no-op asks for.
const DEMAND: Demand = Demand {
    cpu: Millicores(1),
    memory: Bytes::mib(1),
    fuel: Fuel(100_000),
    time: Millis(10_000),
    output: Bytes(1024),
    gpus: Milligpus::ZERO,
};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let smoke = std::env::args().any(|a| a == "--smoke");
    let (tasks, singles) = if smoke { (400, 50) } else { (20_000, 1000) };
    let program = beside("legation")?;
    let dir = std::env::temp_dir().join(format!("legation-bench-{}", std::process::id()));
    let mut plans = setup::nine_agents();
    plans.truncate(2);
    for plan in &mut plans {
        plan.capacity = Capacity { cpu: Millicores(1000), memory: Bytes::mib(512), slots: 256 };
    }
    let deployment = setup::development(&dir, &plans, &program, now())?;
    let home = Home::open(&deployment.client)?;
    let mut cloud = Cloud::new(deployment, &program)?;
    cloud.start()?;
    let client = cloud.ready(plans.len(), Duration::from_secs(60), |_| {}).await?;
    let trust = Trust::new(home.anchors.clone()).map_err(|why| Failure::refused(Exit::Usage, &why))?;
    let runner = Arc::new(Runner {
        client: client.clone(),
        party: Arc::new(home.party()?),
        tenant: home.config.tenant.clone(),
        trust: Arc::new(trust),
        clock: Arc::new(now),
    });
    let module =
        std::fs::read("guests/noop.wasm").map_err(|e| Failure::new(Exit::Usage, format!("guests/noop.wasm: {e}")))?;
    let module = client.put_object(module.into()).await?;

    for _ in 0..50 {
        one(&runner, module).await?;
    }
    let mut latencies = Vec::with_capacity(singles);
    for _ in 0..singles {
        let began = Instant::now();
        one(&runner, module).await?;
        latencies.push(began.elapsed());
    }
    latencies.sort_unstable();

    let processes = processes(&cloud);
    let before: Vec<f64> = processes.iter().map(|(_, id)| cpu_ms(*id)).collect();
    let (began, left) = (Instant::now(), Arc::new(AtomicUsize::new(tasks)));
    let workers: Vec<_> = (0..OUTSTANDING)
        .map(|_| {
            let (runner, left) = (runner.clone(), left.clone());
            tokio::spawn(async move {
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                    one(&runner, module).await?;
                }
                Ok::<_, Failure>(())
            })
        })
        .collect();
    for worker in workers {
        worker.await.map_err(|e| Failure::new(Exit::Failure, e))??;
    }
    let elapsed = began.elapsed();
    let per_task: serde_json::Map<String, serde_json::Value> = processes
        .iter()
        .zip(&before)
        .map(|((name, id), before)| (name.clone(), round((cpu_ms(*id) - before) / count(tasks)).into()))
        .collect();
    let total: f64 = per_task.values().filter_map(serde_json::Value::as_f64).sum();
    let quantile = |q: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into a short list")]
        let at = ((count(latencies.len()) - 1.0) * q).round() as usize;
        round(latencies[at].as_secs_f64() * 1000.0)
    };
    let report = serde_json::json!({
        "bench": "e2e", "agents": plans.len(), "task": "no-op, policy grant, journalled, signed report",
        "throughput": { "outstanding": OUTSTANDING, "tasks": tasks, "seconds": round(elapsed.as_secs_f64()),
            "tasks_per_second": (count(tasks) / elapsed.as_secs_f64()).round() },
        "latency_ms_one_outstanding": { "tasks": singles, "p50": quantile(0.5), "p99": quantile(0.99), "max": quantile(1.0) },
        "cpu_ms_per_task": per_task, "cpu_ms_per_task_total": round(total),
        "aims": { "tasks_per_second": 2000, "p99_ms": 20, "cpu_ms_per_task": 0.84 },
    });
    println!("{report}");
    cloud.stop().await;
    std::fs::remove_dir_all(&dir).map_err(|e| Failure::new(Exit::Failure, format!("{}: {e}", dir.display())))
}

/// One no-op task, from signing to its end.
async fn one(runner: &Runner, module: Digest) -> Result<(), Failure> {
    let part = Part {
        name: "noop".to_owned(),
        module,
        args: Vec::new(),
        inputs: Vec::new(),
        demand: DEMAND,
        require: Requirement::any(),
        owner: None,
        delegates: None,
    };
    let job = Job {
        name: "noop".to_owned(),
        parts: vec![part],
        require: Requirement::any(),
        budget: MicroUsd(1000),
        swarm: None,
        life_seconds: 60,
        prefer: Default::default(),
        data: Default::default(),
        builds_on: Vec::new(),
    };
    let submitted = runner.submit_and_wait(job, &[], 20).await?;
    let state = &submitted.view().state;
    if *state == TaskState::Completed { Ok(()) } else { Err(Failure::new(Exit::TaskFailed, format!("{state:?}"))) }
}

fn beside(name: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(|e| Failure::new(Exit::Failure, e))?;
    let folder = own.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    Ok(folder.join(name))
}

fn processes(cloud: &Cloud) -> Vec<(String, u32)> {
    let mut all = vec![("client".to_owned(), std::process::id())];
    all.extend(cloud.manager_process().map(|id| ("manager".to_owned(), id)));
    all.extend(cloud.agent_processes().map(|(name, id)| (name.to_owned(), id)));
    all
}

/// User and system time of a process so far (proc(5), fields 14 and 15, in ticks of 10 ms).
fn cpu_ms(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    #[expect(clippy::cast_precision_loss, reason = "seconds, not centuries")]
    let ms = ticks as f64 * 10.0;
    ms
}

#[expect(clippy::cast_precision_loss, reason = "thousands")]
fn count(n: usize) -> f64 {
    n as f64
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

//! Placements through the leader and its journal: the manager is in this process, its clients are tasks that each wait for the
//! answer before they ask again, and every answer is durable. Enclaves are entered as a verifier would have them; nobody is
//! connected, so offers are made and lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use legation::{exit::Failure, setup};
use legation_manager::{JournalConfig, Manager, ManagerConfig, config::Store, leader::Leader, system_clock};
use legation_policy::Scope;
use legation_pool::Command;
use serde_json::{Value, json};

use crate::{count, failed, people::People, postgres::Postgres, quantiles, round};

/// Who is let in: the enclaves of this measurement have no image that any reference value names.
const ANYBODY: &str = "@id(\"anybody\") permit (principal, action, resource);";

/// Clients, and fragments of each task, of one run: latency under load is that of so many who wait at once.
const RUNS: [(usize, usize); 5] = [(1, 1), (64, 1), (512, 1), (8, 20), (64, 20)];

pub(crate) async fn measure(enclaves: usize, tasks: usize) -> Result<Value, Failure> {
    let sqlite = of(&JournalConfig::default(), enclaves, tasks).await?;
    let postgres = Postgres::start();
    let postgresql = match &postgres {
        Some(postgres) => {
            let journal =
                JournalConfig { store: Store::Postgres, url: Some(postgres.url()), ..JournalConfig::default() };
            of(&journal, enclaves, tasks).await?
        }
        None => json!("not measured: PostgreSQL is not installed"),
    };
    Ok(json!({
        "what": "submissions with a grant, signed beforehand, applied and journalled by the leader: durable when answered; signatures of \
            submissions are checked before it. A placement is a fragment that got its enclave by a signed allocation.",
        "sqlite": sqlite,
        "postgresql": postgresql,
        "aims": { "placements_per_second": { "sqlite": 30_000, "postgresql": 10_000 }, "p99_ms": 10 },
    }))
}

async fn of(journal: &JournalConfig, enclaves: usize, tasks: usize) -> Result<Value, Failure> {
    let dir = tempfile::tempdir().map_err(failed)?;
    let image = std::env::current_exe().map_err(failed)?;
    let deployment = setup::development(&dir.path().join("cloud"), &[], &image, legation::run::now())?;
    let mut config = ManagerConfig::load(&deployment.manager).map_err(failed)?;
    config.journal = journal.clone();
    let manager = Manager::start(config, system_clock()).await.map_err(failed)?;
    let leader = manager.leader();
    let people = People::new()?;
    leader
        .apply(Command::SetPolicy { scope: Scope::Pool, text: ANYBODY.into(), author: "bench".into() })
        .await
        .map_err(failed)?;
    eprintln!("pool: {enclaves} enclaves are let in");
    for n in 0..enclaves {
        let (enclave, command) = people.attested(n)?;
        leader.apply(command).await.map_err(failed)?;
        leader.apply(Command::Arrived { enclave, running: Vec::new() }).await.map_err(failed)?;
    }
    let (mut rows, mut placed) = (Vec::new(), 0);
    for (n, (clients, fragments)) in RUNS.into_iter().enumerate() {
        let share = if clients == 1 { tasks / 20 } else { tasks / 2 / fragments };
        eprintln!("pool: {share} submissions of {fragments} fragments by {clients} clients");
        let commands = (0..share).map(|task| {
            let (request, grant) = people.submission(n * 10_000_000 + task, fragments)?;
            Ok(Command::Submit { request: Box::new(request), grants: vec![grant], idempotency: None })
        });
        let commands = commands.collect::<Result<Vec<_>, Failure>>()?;
        placed += share * fragments;
        rows.push(drive(&leader, clients, fragments, commands, placed).await?);
    }
    manager.stop().await;
    Ok(json!({ "enclaves": enclaves, "runs": rows }))
}

/// Has so many clients submit all of them.
async fn drive(
    leader: &Leader,
    clients: usize,
    fragments: usize,
    commands: Vec<Command>,
    placed: usize,
) -> Result<Value, Failure> {
    let total = commands.len() * fragments;
    let commands: Arc<Vec<std::sync::Mutex<Option<Command>>>> =
        Arc::new(commands.into_iter().map(|c| std::sync::Mutex::new(Some(c))).collect());
    let next = Arc::new(AtomicUsize::new(0));
    let (begun, before) = (Instant::now(), cpu_by_thread());
    let workers = (0..clients).map(|_| {
        let (leader, commands, next) = (leader.clone(), commands.clone(), next.clone());
        tokio::spawn(async move {
            let mut took: Vec<f64> = Vec::new();
            while let Some(slot) = commands.get(next.fetch_add(1, Ordering::Relaxed)) {
                let command = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
                let Some(command) = command else { continue };
                let asked = Instant::now();
                leader.apply(command).await?;
                took.push(asked.elapsed().as_secs_f64());
            }
            Ok::<_, legation_core::Rejection>(took)
        })
    });
    let workers: Vec<_> = workers.collect();
    let mut took = Vec::new();
    for worker in workers {
        took.extend(worker.await.map_err(failed)?.map_err(failed)?);
    }
    let (seconds, after) = (begun.elapsed(), cpu_by_thread());
    let each = |name: &str| {
        let micros =
            after.get(name).zip(before.get(name)).map(|(after, before)| (after - before) / 1000.0 / count(total));
        micros.map(round)
    };
    let cpu = json!({
        "deciding": each("decider"), "journal": each("journal"), "snapshots": each("snapshots"), "clients_of_this_process": each("tokio-rt-worker"),
    });
    let leased = leader.ask(|pool| pool.view().leases).await.map_err(failed)?;
    if leased < placed {
        return Err(failed(format!("only {leased} leases where {placed} were asked for")));
    }
    let per_second = count(total) / seconds.max(Duration::from_micros(1)).as_secs_f64();
    Ok(json!({
        "clients": clients, "fragments_each": fragments, "placements": total, "seconds": round(seconds.as_secs_f64()),
        "placements_per_second": per_second.round(), "ms": quantiles(took), "cpu_us_each": cpu,
    }))
}

/// CPU time of this process in nanoseconds, by the names of its threads, as the kernel counts it.
fn cpu_by_thread() -> std::collections::BTreeMap<String, f64> {
    let mut all = std::collections::BTreeMap::new();
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    for thread in threads {
        let read = |file: &str| std::fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        let nanos = read("schedstat").split_whitespace().next().and_then(|n| n.parse::<f64>().ok());
        *all.entry(read("comm").trim().to_owned()).or_insert(0.0) += nanos.unwrap_or(0.0);
    }
    all
}

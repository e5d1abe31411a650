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
use legation_manager::{Manager, ManagerConfig, leader::Leader, system_clock};
use legation_policy::Scope;
use legation_pool::Command;
use serde_json::{Value, json};

use crate::{count, failed, people::People, quantiles, round};

/// Who is let in: the enclaves of this measurement have no image that any reference value names.
const ANYBODY: &str = "@id(\"anybody\") permit (principal, action, resource);";

pub(crate) async fn measure(enclaves: usize, tasks: usize) -> Result<Value, Failure> {
    let sqlite = of_sqlite(enclaves, tasks).await?;
    Ok(json!({
        "what": "submissions with a grant, signed beforehand, applied and journalled by the leader: durable when answered; signatures of \
            submissions are checked before it",
        "sqlite": sqlite,
        "aims": { "placements_per_second": { "sqlite": 30_000, "postgresql": 10_000 }, "p99_ms": 10 },
    }))
}

async fn of_sqlite(enclaves: usize, tasks: usize) -> Result<Value, Failure> {
    let dir = tempfile::tempdir().map_err(failed)?;
    let image = std::env::current_exe().map_err(failed)?;
    let deployment = setup::development(&dir.path().join("cloud"), &[], &image, legation::run::now())?;
    let config = ManagerConfig::load(&deployment.manager).map_err(failed)?;
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
    let mut rows = Vec::new();
    for clients in [1, 64, 512] {
        let share = if clients == 1 { tasks / 20 } else { tasks / 2 };
        eprintln!("pool: {share} submissions by {clients} clients");
        let offset = clients * 10_000_000;
        let commands = (0..share).map(|n| {
            let (request, grant) = people.submission(offset + n)?;
            Ok(Command::Submit { request: Box::new(request), grants: vec![grant], idempotency: None })
        });
        let commands = commands.collect::<Result<Vec<_>, Failure>>()?;
        rows.push(drive(&leader, clients, commands).await?);
    }
    manager.stop().await;
    Ok(json!({ "enclaves": enclaves, "runs": rows }))
}

/// Has so many clients submit all of them.
async fn drive(leader: &Leader, clients: usize, commands: Vec<Command>) -> Result<Value, Failure> {
    let total = commands.len();
    let commands: Arc<Vec<std::sync::Mutex<Option<Command>>>> =
        Arc::new(commands.into_iter().map(|c| std::sync::Mutex::new(Some(c))).collect());
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
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
    let seconds = begun.elapsed();
    let leased = leader.ask(|pool| pool.view().leases).await.map_err(failed)?;
    if leased < total {
        return Err(failed(format!("only {leased} leases after {total} submissions")));
    }
    let per_second = count(total) / seconds.max(Duration::from_micros(1)).as_secs_f64();
    Ok(json!({
        "clients": clients, "placements": total, "seconds": round(seconds.as_secs_f64()),
        "placements_per_second": per_second.round(), "ms": quantiles(took),
    }))
}

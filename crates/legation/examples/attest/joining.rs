//! Agents from the start of their processes until all are attested and one task has a fragment on each.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
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
use legation_core::{Bytes, Fuel, MicroUsd, Millicores, Millis, Requirement, claims::Capacity, task::Demand};
use legation_pool::TaskState;
use serde_json::{Value, json};

use crate::kinds::round;

pub(super) async fn measure(agents: usize) -> Result<Value, Failure> {
    let program = beside("legation")?;
    let dir = std::env::temp_dir().join(format!("legation-bench-join-{}", std::process::id()));
    let kinds = setup::nine_agents();
    let plans: Vec<_> = (0..agents)
        .map(|i| {
            let mut plan = kinds[i % kinds.len()].clone();
            plan.name = format!("agent-{i}");
            plan.capacity = Capacity { cpu: Millicores(100), memory: Bytes::mib(8), slots: 1 };
            plan
        })
        .collect();
    let deployment = setup::development(&dir, &plans, &program, now())?;
    let home = Home::open(&deployment.client)?;
    let mut cloud = Cloud::new(deployment, &program)?;
    cloud.start_manager()?;
    let client = cloud.ready(0, Duration::from_secs(60), |_| {}).await?;
    let began = Instant::now();
    for plan in &plans {
        cloud.start_agent(&plan.name)?;
    }
    let spawned = began.elapsed();
    let client = {
        drop(client);
        cloud.ready(agents, Duration::from_secs(120), |_| {}).await?
    };
    let attested = began.elapsed();

    let trust = Trust::new(home.anchors.clone()).map_err(|why| Failure::refused(Exit::Usage, &why))?;
    let runner = Runner {
        client: client.clone(),
        party: Arc::new(home.party()?),
        tenant: home.config.tenant.clone(),
        trust: Arc::new(trust),
        clock: Arc::new(now),
    };
    let module =
        std::fs::read("guests/noop.wasm").map_err(|e| Failure::new(Exit::Usage, format!("guests/noop.wasm: {e}")))?;
    let module = client.put_object(module.into()).await?;
    let part = |i: usize| Part {
        name: format!("noop-{i}"),
        module,
        args: Vec::new(),
        inputs: Vec::new(),
        demand: Demand {
            cpu: Millicores(100),
            memory: Bytes::mib(8),
            fuel: Fuel(100_000),
            time: Millis(10_000),
            output: Bytes(1024),
        },
        require: Requirement::any(),
        owner: None,
    };
    let job = Job {
        name: "one on each".to_owned(),
        parts: (0..agents).map(part).collect(),
        require: Requirement::any(),
        budget: MicroUsd(1_000_000),
        life_seconds: 60,
        builds_on: Vec::new(),
    };
    let submitted = runner.submit_and_wait(job, &[], 20).await?;
    let placed = began.elapsed();
    let state = &submitted.view().state;
    if *state != TaskState::Completed {
        return Err(Failure::new(Exit::TaskFailed, format!("{state:?}")));
    }
    cloud.stop().await;
    std::fs::remove_dir_all(&dir).map_err(|e| Failure::new(Exit::Failure, format!("{}: {e}", dir.display())))?;
    Ok(json!({
        "what": "processes of agents on one machine, from their start; the manager was up",
        "agents": agents,
        "processes_started_s": round(spawned.as_secs_f64()),
        "all_attested_s": round(attested.as_secs_f64()),
        "a_task_of_as_many_fragments_done_s": round(placed.as_secs_f64()),
        "aims": { "all_attested_and_placed_s": 1.5 },
    }))
}

/// A program that cargo built beside this one.
pub(super) fn beside(name: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(|e| Failure::new(Exit::Failure, e))?;
    let folder = own.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    Ok(folder.join(name))
}

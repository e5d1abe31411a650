//! Agents from their start until all are attested and one task has a fragment on each; and how long a revocation takes to
//! reach all of them.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use legation::{
    client::Client,
    cloud::Cloud,
    exit::{Exit, Failure},
    home::Home,
    party::Trust,
    run::{Job, Part, Runner, now},
    setup,
};
use legation_agent::{
    Agent, AgentConfig, Shutdown,
    attester::{self, DevelopmentAttester},
    config::Development,
};
use legation_core::{
    Bytes, Digest, Fuel, MicroUsd, Millicores, Milligpus, Millis, Requirement, claims::Capacity, task::Demand,
};
use legation_pool::TaskState;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::kinds::round;

/// Chips that are revoked, one after the other.
const VICTIMS: usize = 9;

/// How agents run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    /// Each a process, which loads, seeds its random numbers, and measures its own file.
    Processes,
    /// All in this process: each with keys, channel, engine and evidence of its own.
    Here,
}

/// A cloud whose agents were just started and have all attested.
struct Joined {
    dir: PathBuf,
    home: Home,
    cloud: Cloud,
    client: Client,
    here: Vec<(Shutdown, JoinHandle<()>)>,
    began: Instant,
    started: Duration,
    attested: Duration,
}

async fn join(agents: usize, run: Run) -> Result<Joined, Failure> {
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
    let configs = deployment.agents.clone();
    let mut cloud = Cloud::new(deployment, &program)?;
    cloud.start_manager()?;
    cloud.ready(0, Duration::from_secs(60), |_| {}).await?;
    let image = File::open(&program).and_then(attester::image).map_err(failed)?;
    let began = Instant::now();
    let mut here = Vec::new();
    for (name, config) in &configs {
        match run {
            Run::Processes => cloud.start_agent(name)?,
            Run::Here => here.push(start_here(config, image)?),
        }
    }
    let started = began.elapsed();
    let client = cloud.ready(agents, Duration::from_secs(120), |_| {}).await?;
    let attested = began.elapsed();
    Ok(Joined { dir, home, cloud, client, here, began, started, attested })
}

fn start_here(config: &Path, image: Digest) -> Result<(Shutdown, JoinHandle<()>), Failure> {
    let config = AgentConfig::read(config).map_err(failed)?;
    let Some(Development::Chip(chip)) = &config.development else { return Err(failed("no development chip")) };
    let attester = DevelopmentAttester::of(DevelopmentAttester::chip(chip).map_err(failed)?, image);
    let shutdown = Shutdown::new();
    let agent = Agent::start(config, Arc::new(attester), shutdown.clone()).map_err(failed)?;
    Ok((
        shutdown,
        tokio::spawn(async move {
            agent.run().await;
        }),
    ))
}

impl Joined {
    async fn leave(self) -> Result<(), Failure> {
        for (shutdown, _) in &self.here {
            shutdown.now();
        }
        for (_, agent) in self.here {
            agent.await.map_err(failed)?;
        }
        self.cloud.stop().await;
        std::fs::remove_dir_all(&self.dir)
            .map_err(|e| Failure::new(Exit::Failure, format!("{}: {e}", self.dir.display())))
    }
}

fn failed(why: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failure, why)
}

/// From the command to the last agent that has heeded it: it has checked the signed list, dropped what it covers, and said so.
pub(super) async fn revocation(agents: usize) -> Result<Value, Failure> {
    let joined = join(agents, Run::Processes).await?;
    let token = joined.home.config.operator_token.clone().unwrap_or_default();
    let operator = Client::new(&joined.home.config.api, &token)?;
    let victims: Vec<_> = operator.enclaves().await?.into_iter().take(VICTIMS.min(agents.saturating_sub(1))).collect();
    let mut took = Vec::new();
    for victim in victims {
        let made = operator.revoke("chip", &victim.chip, "bench").await?;
        let until = Instant::now() + Duration::from_secs(30);
        let ms = loop {
            let view = operator.revocations().await?;
            if let Some(ms) = view.last_heeded_ms.filter(|_| view.epoch == made.revocation.epoch) {
                break ms;
            }
            if Instant::now() > until {
                let text = format!("{} of {} agents heeded a revocation in 30 s", view.heeded_by, view.of);
                return Err(Failure::new(Exit::Failure, text));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        took.push(ms);
    }
    joined.leave().await?;
    took.sort_by(f64::total_cmp);
    Ok(json!({
        "what": "revocation of a chip, from the command to the last agent that heeded it; agents are processes on one machine",
        "agents": agents, "revocations": took.len(),
        "median_ms": took.get(took.len() / 2).copied().map(round), "longest_ms": took.last().copied().map(round),
    }))
}

pub(super) async fn measure(agents: usize, run: Run) -> Result<Value, Failure> {
    let joined = join(agents, run).await?;
    let Joined { home, client, began, started, attested, .. } = &joined;
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
            gpus: Milligpus::ZERO,
        },
        require: Requirement::any(),
        owner: None,
        delegates: None,
    };
    let job = Job {
        name: "one on each".to_owned(),
        parts: (0..agents).map(part).collect(),
        require: Requirement::any(),
        budget: MicroUsd(1_000_000),
        swarm: None,
        life_seconds: 60,
        prefer: Default::default(),
        data: Default::default(),
        builds_on: Vec::new(),
    };
    let submitted = runner.submit_and_wait(job, &[], 20).await?;
    let placed = began.elapsed();
    let state = &submitted.view().state;
    if *state != TaskState::Completed {
        return Err(Failure::new(Exit::TaskFailed, format!("{state:?}")));
    }
    let (started, attested) = (*started, *attested);
    joined.leave().await?;
    Ok(json!({
        "what": match run {
            Run::Processes => "each agent a process, from its start; the manager was up",
            Run::Here => "agents in one process, each with keys, channel, engine and evidence of its own; the manager was up",
        },
        "agents": agents,
        "started_s": round(started.as_secs_f64()),
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

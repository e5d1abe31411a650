//! From submission to the offer at the agent, over real sockets: a manager process, thousands of agents in this one, each with keys,
//! evidence and an attested channel of its own, and clients over HTTP. Agents hold what they are offered and run nothing. Each is in
//! a slot of its own of a development chip that has eight.

use std::{
    collections::HashMap,
    fs::File,
    process::Command as Process,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use legation::{
    client::Client,
    cloud::Cloud,
    exit::{Exit, Failure},
    home::Home,
    party::Trust,
    run::{Job, Part, Runner, now},
    setup::{self, AgentPlan},
};
use legation_agent::{
    AgentConfig,
    attester::{self, Attester, DevelopmentAttester},
    config::Development,
};
use legation_core::{
    Bytes, Digest, Envelope, MicroUsd, Millicores, ProviderId, Region, Requirement, TaskId,
    claims::{Capacity, Configuration, KeyBinding, Rate, Role},
    statement::Allocation,
    task::Demand,
};
use legation_keys::{IdentityKey, SealingKey};
use legation_manager::{ManagerConfig, api::tasks::Submission};
use legation_net::{
    AnchoredJudge, Channel, Credential, Endpoint, Incoming, OsEntropy,
    message::{ToAgent, ToManager},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};

use crate::{beside, count, failed, quantiles, round};

/// Files that this process and its manager have open beside channels.
const FILES_BESIDE: usize = 1000;
/// Agents that join at once.
const JOINING: usize = 32;
/// Connections that an agent tries.
const TRIES: usize = 10;
/// Clients.
const CLIENTS: usize = 64;
/// Agents on one chip.
const SLOTS: usize = 8;

/// When what was submitted, and when it was offered.
#[derive(Default)]
struct Ledger {
    submitted: Mutex<HashMap<TaskId, Instant>>,
    took: Mutex<Vec<f64>>,
    offers: AtomicUsize,
    changed: Notify,
}

impl Ledger {
    fn submitted(&self, task: TaskId) {
        self.submitted.lock().unwrap_or_else(PoisonError::into_inner).insert(task, Instant::now());
    }

    fn offered(&self, task: TaskId) {
        let known = self.submitted.lock().unwrap_or_else(PoisonError::into_inner).get(&task).copied();
        if let Some(at) = known {
            let mut took = self.took.lock().unwrap_or_else(PoisonError::into_inner);
            took.push(at.elapsed().as_secs_f64());
        }
        self.offers.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_waiters();
    }
}

/// What all agents share.
struct Fleet {
    manager: String,
    /// One for each chip.
    attesters: Vec<DevelopmentAttester>,
    operators: Vec<legation_core::PublicKey>,
    joining: Semaphore,
    /// Connections that failed and were tried again.
    retries: AtomicUsize,
    ledger: Ledger,
}

pub(crate) async fn measure(agents: usize, tasks: usize) -> Result<Value, Failure> {
    let files = raise_files(agents);
    let program = beside("legation")?;
    let dir = std::env::temp_dir().join(format!("legation-bench-pool-{}", std::process::id()));
    let plans = setup::nine_agents().into_iter().cycle().take(agents.div_ceil(SLOTS)).enumerate();
    let plans: Vec<_> = plans.map(|(n, plan)| AgentPlan { name: format!("chip-{n}"), lent: false, ..plan }).collect();
    let deployment = setup::development(&dir, &plans, &program, now())?;
    let mut config = ManagerConfig::load(&deployment.manager).map_err(failed)?;
    config.agent_connections_max = agents + 1000;
    config.slots_per_chip = u16::try_from(SLOTS).map_err(failed)?;
    std::fs::write(&deployment.manager, toml::to_string(&config).map_err(failed)?).map_err(failed)?;
    let home = Home::open(&deployment.client)?;
    let agent_files: Vec<_> = deployment.agents.iter().map(|(_, file)| file.clone()).collect();
    let mut cloud = Cloud::new(deployment, &program)?;
    cloud.start_manager()?;
    let client = cloud.ready(0, Duration::from_secs(60), |_| {}).await?;

    let image = File::open(&program).and_then(attester::image).map_err(failed)?;
    let configs = agent_files.iter().map(|file| AgentConfig::read(file).map_err(failed));
    let configs = configs.collect::<Result<Vec<_>, Failure>>()?;
    let attesters = configs.iter().map(|config| {
        let Some(Development::Chip(chip)) = &config.development else { return Err(failed("no development chip")) };
        Ok(DevelopmentAttester::of(DevelopmentAttester::chip(chip).map_err(failed)?, image))
    });
    let Some(config) = configs.first() else { return Err(failed("no agent")) };
    let fleet = Arc::new(Fleet {
        manager: config.managers.first().cloned().unwrap_or_default(),
        attesters: attesters.collect::<Result<_, _>>()?,
        operators: config.operators.clone(),
        joining: Semaphore::new(JOINING),
        retries: AtomicUsize::new(0),
        ledger: Ledger::default(),
    });
    eprintln!("pool: {agents} agents join");
    let begun = Instant::now();
    for n in 0..agents {
        let fleet = fleet.clone();
        tokio::spawn(async move {
            if let Err(why) = fleet.agent(n).await {
                eprintln!("pool: agent {n}: {why}");
            }
        });
    }
    cloud.ready(agents, Duration::from_secs(600), |_| {}).await?;
    let joined = begun.elapsed().as_secs_f64();
    let manager = cloud.manager_process();
    let memory = manager.map(resident_mib);
    let runner = runner(&home, &client)?;
    let module =
        std::fs::read("guests/noop.wasm").map_err(|e| Failure::new(Exit::Usage, format!("guests/noop.wasm: {e}")))?;
    let module = client.put_object(module.into()).await?;
    let mut rows = Vec::new();
    for fragments in [1, 20] {
        rows.push(fleet.load(&runner, module, tasks / fragments, fragments).await?);
    }
    cloud.stop().await;
    std::fs::remove_dir_all(&dir).map_err(failed)?;
    Ok(json!({
        "what": "from submission over HTTP to the offer at the agent; manager, agents and clients share the cores of one machine; policy \
            grants, journal on SQLite; agents hold their leases",
        "agents": agents, "open_files_allowed": files, "joined_in_s": round(joined),
        "joined_per_second": round(count(agents) / joined), "connections_tried_again": fleet.retries.load(Ordering::Relaxed), "manager_resident_mib": memory,
        "runs": rows,
        "aims": { "placements_per_second": 3750 },
    }))
}

impl Fleet {
    /// Submits tasks of so many fragments each; ends when every fragment was offered.
    async fn load(
        self: &Arc<Self>,
        runner: &Runner,
        module: Digest,
        tasks: usize,
        fragments: usize,
    ) -> Result<Value, Failure> {
        eprintln!("pool: {tasks} tasks of {fragments} fragments are signed");
        let submissions = (0..tasks).map(|_| submission(runner, module, fragments));
        let submissions: Arc<Vec<_>> = Arc::new(submissions.collect());
        self.ledger.took.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let before = self.ledger.offers.load(Ordering::Relaxed);
        let wanted = before + tasks * fragments;
        let next = Arc::new(AtomicUsize::new(0));
        eprintln!("pool: they are submitted");
        let begun = Instant::now();
        let workers = (0..CLIENTS).map(|_| {
            let (fleet, submissions, next) = (self.clone(), submissions.clone(), next.clone());
            let client = runner.client.clone();
            tokio::spawn(async move {
                while let Some((task, submission)) = submissions.get(next.fetch_add(1, Ordering::Relaxed)) {
                    fleet.ledger.submitted(*task);
                    client.submit(submission, 0).await?;
                }
                Ok::<_, legation::client::ClientError>(())
            })
        });
        let workers: Vec<_> = workers.collect();
        for worker in workers {
            worker.await.map_err(failed)?.map_err(failed)?;
        }
        let answered = begun.elapsed();
        let until = Instant::now() + Duration::from_secs(120);
        while self.ledger.offers.load(Ordering::Relaxed) < wanted {
            if Instant::now() > until {
                let got = self.ledger.offers.load(Ordering::Relaxed) - before;
                return Err(failed(format!("{got} of {} offers came", wanted - before)));
            }
            let _ = tokio::time::timeout(Duration::from_millis(20), self.ledger.changed.notified()).await;
        }
        let offered = begun.elapsed();
        let took = self.ledger.took.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let per_second = |seconds: Duration| (count(tasks * fragments) / seconds.as_secs_f64()).round();
        Ok(json!({
            "tasks": tasks, "fragments_each": fragments, "clients": CLIENTS,
            "seconds": round(offered.as_secs_f64()),
            "placements_per_second": per_second(offered), "acknowledged_per_second": per_second(answered),
            "submission_to_offer_ms": quantiles(took),
        }))
    }

    /// One agent: joins, attests, is present, and counts what it is offered until its channel ends.
    async fn agent(self: Arc<Self>, n: usize) -> Result<(), Failure> {
        let turn = self.joining.acquire().await.map_err(failed)?;
        let identity = Arc::new(IdentityKey::generate(&mut OsEntropy));
        let sealing = SealingKey::generate(&mut OsEntropy);
        let (provider, region) = [("aurora", "eu-north"), ("boreal", "eu-central"), ("cumulus", "us-east")][n % 3];
        let configuration = Configuration {
            provider: ProviderId::new(provider).map_err(failed)?,
            region: Region::new(region).map_err(failed)?,
            capacity: Capacity { cpu: Millicores(8000), memory: Bytes::gib(16), slots: 256 },
            rate: Rate { core_hour: MicroUsd(9_000 + 1_000 * (n as u64 % 7)), gib_hour: MicroUsd(1_500) },
            slot: u16::try_from(n % SLOTS).map_err(failed)?,
            operators: self.operators.clone(),
            advertise: None,
            prover: None,
            custody: None,
        };
        let clock: legation_net::Clock = Arc::new(now);
        let judge = AnchoredJudge::new(self.operators.clone()).admit(Role::Manager);
        let endpoint =
            Endpoint::new(identity.clone(), Role::Agent, Credential::None, Arc::new(judge), clock).map_err(failed)?;
        let channel = self.connect(&endpoint).await?;
        let mut turn = Some(turn);
        let attester = self.attesters.get(n / SLOTS).ok_or_else(|| failed("a chip is missing"))?;
        self.serve(channel, attester, (&identity, &sealing), &configuration, &mut turn).await
    }

    /// As agents do: a machine that has too much to do is tried again.
    async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, Failure> {
        for _ in 1..TRIES {
            match endpoint.connect(&self.manager, None).await {
                Ok(channel) => return Ok(channel),
                Err(_) => drop(self.retries.fetch_add(1, Ordering::Relaxed)),
            }
        }
        endpoint.connect(&self.manager, None).await.map_err(failed)
    }

    async fn serve(
        &self,
        channel: Channel,
        attester: &DevelopmentAttester,
        (identity, sealing): (&IdentityKey, &SealingKey),
        configuration: &Configuration,
        turn: &mut Option<tokio::sync::SemaphorePermit<'_>>,
    ) -> Result<(), Failure> {
        use legation_core::Signer;
        let (sender, mut receiver) = channel.split();
        sender.send_control(&ToManager::AskChallenge).await.map_err(failed)?;
        loop {
            let bytes = match receiver.recv().await {
                Ok(Incoming::Control(bytes)) => bytes,
                Ok(_) => continue,
                // The manager has stopped: so does the measurement.
                Err(_) => return Ok(()),
            };
            if let Ok(Said { say: "offer", with: Some(Offered { allocation }) }) = serde_json::from_slice(&bytes) {
                // Believed: what a real agent checks is not measured here.
                let allocation: Allocation = allocation.peek().map_err(failed)?;
                self.ledger.offered(allocation.task);
                continue;
            }
            match serde_json::from_slice::<ToAgent>(&bytes).map_err(failed)? {
                ToAgent::Challenge { nonce } => {
                    let encoded = configuration.encode();
                    let binding = KeyBinding {
                        role: Role::Agent,
                        identity: identity.public_key(),
                        sealing: sealing.public().clone(),
                        image: attester.image(),
                        configuration: Digest::of(&encoded),
                        not_before: now().minus(60),
                        not_after: now().plus(86_400),
                        nonce,
                    };
                    let evidence = attester.attest(&binding.encode(), &encoded).map_err(failed)?;
                    sender.send_control(&ToManager::Evidence(Box::new(evidence))).await.map_err(failed)?;
                }
                ToAgent::Admitted { passport, appointment } => {
                    let credential = Credential::Passport {
                        passport: passport.envelope().clone(),
                        appointment: appointment.envelope().clone(),
                    };
                    let sender = sender.clone();
                    tokio::spawn(async move {
                        if sender.renew(credential).await.is_ok() {
                            let obeyed = (legation_core::Term(0), legation_core::Seq(0));
                            let present = ToManager::Present { running: Vec::new(), obeyed };
                            drop(sender.send_control(&present).await);
                        }
                    });
                    drop(turn.take());
                }
                ToAgent::Revocations { list, .. } => {
                    sender.send_control(&ToManager::Heeded { epoch: list.epoch }).await.map_err(failed)?;
                }
                ToAgent::Refused { why } => return Err(failed(why)),
                _ => {}
            }
        }
    }
}

/// A message, looked at no further than to know an offer.
#[derive(Deserialize)]
struct Said<'a> {
    say: &'a str,
    #[serde(default)]
    with: Option<Offered>,
}

#[derive(Deserialize)]
struct Offered {
    allocation: Envelope,
}

pub(crate) fn submission(runner: &Runner, module: Digest, fragments: usize) -> (TaskId, Submission) {
    let part = || Part {
        name: "noop".to_owned(),
        module,
        args: Vec::new(),
        inputs: Vec::new(),
        demand: Demand { cpu: Millicores(1), memory: Bytes::mib(1), output: Bytes(1024), ..Demand::default() },
        require: Requirement::any(),
        owner: None,
        delegates: None,
    };
    let job = Job {
        name: "noop".to_owned(),
        parts: (0..fragments).map(|_| part()).collect(),
        require: Requirement::any(),
        prefer: Default::default(),
        data: Default::default(),
        budget: MicroUsd(1_000_000),
        swarm: None,
        life_seconds: 3600,
        builds_on: Vec::new(),
    };
    let request = runner.request(&job);
    let all: Vec<_> = request.indexed().map(|(index, _)| index).collect();
    let grants = vec![runner.party.policy_grant(&request, &all)];
    (TaskId::new(request.digest()), Submission { request, grants })
}

pub(crate) fn runner(home: &Home, client: &Client) -> Result<Runner, Failure> {
    let trust = Trust::new(home.anchors.clone()).map_err(|why| Failure::refused(Exit::Usage, &why))?;
    Ok(Runner {
        client: client.clone(),
        party: Arc::new(home.party()?),
        tenant: home.config.tenant.clone(),
        trust: Arc::new(trust),
        clock: Arc::new(now),
    })
}

/// Lets this process, and those that it starts, have many files open, as far as the system allows; gives how many.
fn raise_files(agents: usize) -> usize {
    let allowed = || {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok()).unwrap_or(0)
    };
    let wanted = agents + FILES_BESIDE;
    if allowed() < wanted {
        let own = std::process::id().to_string();
        let limit = format!("--nofile={wanted}:{wanted}");
        let raised = Process::new("prlimit").args(["--pid", &own, &limit]).status();
        if !raised.is_ok_and(|status| status.success()) {
            eprintln!("pool: {wanted} open files are wanted and {} allowed; see `ulimit -n`", allowed());
        }
    }
    allowed()
}

fn resident_mib(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

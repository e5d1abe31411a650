//! The job itself: start the cloud, seal, train in rounds, lose an agent, verify the receipt.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use legation::{
    client::Client,
    cloud::Cloud,
    home::Home,
    party::{Party, Trust},
    run::{Job, Outcome, Part, PartInput, Runner, now},
    setup,
    verify::{last_line, verify},
};
use legation_attest::dev::Chip;
use legation_core::{
    Bytes, Digest, EnclaveId, Fuel, MicroUsd, Millicores, Milligpus, Millis, Receipt, Requirement, TaskId,
    encoding::hex,
    task::{Demand, SealedRef},
};
use legation_pool::{Phase, TaskView};

use crate::{
    Progress,
    data::{Study, study},
    learn::{self, Model, quality},
    summary::{Place, Qualities, Summary},
};

/// What every enclave must satisfy.
const REQUIRE: &str = "tee in [dev-snp] and price <= 0.05 usd/h and not debug";
/// Where each hospital lets its rows go.
const RESIDENCE: [&str; 3] =
    ["region in [eu-north, eu-central]", "region == eu-central", "region in [eu-north, eu-central, us-east]"];
/// The round in which an agent is killed, counted from 0.
const KILL_IN: usize = 2;
/// How long after its work began.
const KILL_AFTER: Duration = Duration::from_millis(120);
/// What a training may take: three times what it does take.
const TRAIN: Demand = Demand {
    cpu: Millicores(500),
    memory: Bytes::mib(64),
    fuel: Fuel(10_000_000_000),
    time: Millis(60_000),
    output: Bytes::mib(1),
    gpus: Milligpus::ZERO,
};

/// A hospital: a party with rows, sealed once.
struct Hospital {
    name: &'static str,
    party: Arc<Party>,
    rows: SealedRef,
    residence: Requirement,
}

/// Runs everything.
pub(crate) async fn run(legation: &Path, dir: &Path, kill: bool, progress: &Progress) -> Result<Summary> {
    let started = Instant::now();
    progress.say("making a development deployment: operator, manager, verifier, nine chips of three providers");
    let deployment = setup::development(dir, &setup::nine_agents(), legation, now())?;
    let agents_by_chip = chips(&deployment)?;
    let home = Home::open(&deployment.client)?;
    let anchors_file = deployment.root.join("anchors.json");
    let mut cloud = Cloud::new(deployment, legation)?;
    cloud.start()?;
    let said = std::cell::Cell::new(usize::MAX);
    let client = cloud
        .ready(9, Duration::from_secs(90), |here| {
            if said.replace(here) != here {
                progress.say(&format!("{here} of 9 enclaves have proven themselves"));
            }
        })
        .await?;
    let enclaves: BTreeMap<EnclaveId, String> = client
        .enclaves()
        .await?
        .into_iter()
        .filter_map(|e| Some((e.enclave, agents_by_chip.get(&e.chip)?.clone())))
        .collect();
    ensure!(enclaves.len() == 9, "every enclave's chip is one of the deployment");
    let ready = started.elapsed();

    let study = study();
    let trust = Arc::new(Trust::new(home.anchors.clone()).map_err(|why| anyhow!("{why}"))?);
    let runner = Runner {
        client: client.clone(),
        party: Arc::new(home.party()?),
        tenant: home.config.tenant.clone(),
        trust,
        clock: legation_manager_clock(),
    };
    let train = store(&client, "guests/train.wasm").await?;
    let reduce = store(&client, "guests/reduce.wasm").await?;
    progress.say("each hospital seals its rows under a key of its own");
    let mut hospitals = Vec::new();
    for (hospital, residence) in study.hospitals.iter().zip(RESIDENCE) {
        let party = Arc::new(Party::generate());
        let sealed = party.seal("rows", &hospital.csv).map_err(|why| anyhow!("{why}"))?;
        client.put_object(sealed.ciphertext.into()).await?;
        let residence = Requirement::parse(residence)?;
        hospitals.push(Hospital { name: hospital.name, party, rows: sealed.reference, residence });
    }

    let (mut model, mut receipt, mut rounds, mut killed): (Option<Vec<u8>>, Option<Receipt>, Vec<_>, _) =
        (None, None, Vec::new(), None);
    let mut qualities = Vec::new();
    let trained = Instant::now();
    for round in 0..learn::ROUNDS {
        progress.say(&format!("round {} of {}: three enclaves train, a fourth averages", round + 1, learn::ROUNDS));
        let job = job(&runner, &hospitals, (train, reduce), round, model.as_deref(), receipt.take()).await?;
        let holders: Vec<_> = hospitals.iter().map(|h| h.party.clone()).collect();
        let submitted = runner.submit(job, &holders).await?;
        let task = submitted.task;
        let follow = runner.follow(submitted, |_| {});
        let outcome = if kill && round == KILL_IN {
            let (outcome, victim) = tokio::join!(follow, kill_one(&mut cloud, &client, task, &enclaves, progress));
            killed = Some(victim?);
            outcome?
        } else {
            follow.await?
        };
        let Outcome { view, results, receipt: new, .. } = outcome;
        let result = results.first().context("a round gives one model")?;
        qualities.push(quality(&Model::parse(result)?, &study.held_out));
        model = Some(result.to_vec());
        receipt = Some(new);
        explained(&client, task, &view).await?;
        rounds.push(places(&view, &enclaves));
    }
    let training = trained.elapsed();
    let last = Model::parse(&model.context("there was a round")?)?;
    let mut receipt = receipt.context("there was a round")?;

    progress.say("proving that every statement is in the pool's transparency log");
    let anchors = legation::home::read_anchors(&anchors_file)?;
    legation::log::prove(&client, &mut receipt, legation::log::anchor(&anchors, None)?, None).await?;

    progress.say("verifying the receipt offline, with the anchors only");
    let receipt_file = dir.join("receipt.json");
    std::fs::write(&receipt_file, receipt.to_text())?;
    let answer = verify(&std::fs::read(&receipt_file)?, &anchors, None)?;
    cloud.stop().await;
    Ok(Summary {
        rounds,
        killed,
        quality: Qualities::of(&study, &last, &qualities)?,
        seconds_to_ready: ready.as_secs_f64(),
        seconds_of_training: training.as_secs_f64(),
        seconds_in_all: started.elapsed().as_secs_f64(),
        statements: receipt.envelopes.len(),
        receipt: receipt_file.display().to_string(),
        anchors: anchors_file.display().to_string(),
        verdict: last_line(&answer),
        valid: matches!(answer, legation::verify::Answer::Valid(_)),
    })
}

fn legation_manager_clock() -> Arc<dyn Fn() -> legation_core::UnixTime + Send + Sync> {
    Arc::new(now)
}

/// One round: a training per hospital, and the averaging.
async fn job(
    runner: &Runner,
    hospitals: &[Hospital],
    (train, reduce): (Digest, Digest),
    round: usize,
    model: Option<&[u8]>,
    before: Option<Receipt>,
) -> Result<Job> {
    let mut parts = Vec::new();
    let model = match model {
        Some(model) => {
            let sealed = runner.party.seal("model", model).map_err(|why| anyhow!("{why}"))?;
            runner.client.put_object(sealed.ciphertext.into()).await?;
            Some(sealed.reference)
        }
        None => None,
    };
    for hospital in hospitals {
        let mut inputs = vec![PartInput::Sealed(hospital.rows.clone())];
        inputs.extend(model.clone().map(PartInput::Sealed));
        parts.push(Part {
            name: format!("train {}", hospital.name),
            module: train,
            args: learn::train_args(),
            inputs,
            demand: TRAIN,
            require: hospital.residence.clone(),
            owner: Some(hospital.party.clone()),
            delegates: None,
        });
    }
    parts.push(Part {
        name: "average".to_owned(),
        module: reduce,
        args: Vec::new(),
        inputs: (0..hospitals.len()).map(PartInput::Output).collect(),
        demand: TRAIN,
        require: Requirement::any(),
        owner: None,
        delegates: None,
    });
    Ok(Job {
        name: format!("federated training, round {}", round + 1),
        parts,
        require: Requirement::parse(REQUIRE)?,
        budget: MicroUsd(100_000),
        swarm: None,
        life_seconds: 600,
        prefer: Default::default(),
        data: Default::default(),
        builds_on: before.into_iter().collect(),
    })
}

async fn store(client: &Client, module: &str) -> Result<Digest> {
    let bytes = std::fs::read(module).with_context(|| format!("{module}: run the demo from the repository's root"))?;
    Ok(client.put_object(bytes.into()).await?)
}

/// Chips of a deployment, by their opaque identity, with the agent that has each.
fn chips(deployment: &setup::Deployment) -> Result<BTreeMap<String, String>> {
    let mut chips = BTreeMap::new();
    for (name, config) in &deployment.agents {
        let pem = std::fs::read(config.with_file_name("chip.pem"))?;
        chips.insert(hex(&Chip::from_pem(&pem)?.spec().chip_id), name.clone());
    }
    Ok(chips)
}

/// Waits until the second hospital's training runs, and kills the agent it runs on.
async fn kill_one(
    cloud: &mut Cloud,
    client: &Client,
    task: TaskId,
    enclaves: &BTreeMap<EnclaveId, String>,
    progress: &Progress,
) -> Result<String> {
    loop {
        let view = client.task(task, 0).await?.view;
        let victim = view.fragments.get(1).context("a round has four fragments")?;
        ensure!(victim.phase != Phase::Done, "the training was over before its agent could be killed");
        if victim.offered {
            let enclave = victim.attempts.last().context("what is offered was leased")?.enclave;
            let agent = enclaves.get(&enclave).context("a known enclave")?;
            tokio::time::sleep(KILL_AFTER).await;
            cloud.kill_agent(agent).await?;
            progress.say(&format!("killed agent {agent} (SIGKILL) while it trained for {}", victim.name));
            return Ok(agent.clone());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Holds `legation explain` to its word: every placement of a task, those that were moved included, has its reason there, and the
/// last is the one that what ran was allocated with.
async fn explained(client: &Client, task: TaskId, view: &TaskView) -> Result<()> {
    let explanations = client.explain(task).await?;
    ensure!(explanations.len() == view.fragments.len(), "every fragment of {task} is explained");
    for (told, fragment) in explanations.iter().zip(&view.fragments) {
        let tries = (told.attempts.len(), told.placements.len(), fragment.attempts.len());
        ensure!(
            tries.0 == tries.2 && tries.1 == tries.2 && tries.2 > 0,
            "{}: tries are left out: {tries:?}",
            told.name
        );
        ensure!(told.placements.last() == fragment.placement.as_ref(), "{}: another reason", told.name);
        for why in &told.placements {
            ensure!(!why.decided_by.is_empty() && why.eligible > 0, "{}: no reason: {why:?}", told.name);
        }
    }
    Ok(())
}

fn places(view: &TaskView, enclaves: &BTreeMap<EnclaveId, String>) -> Vec<Place> {
    view.fragments
        .iter()
        .filter_map(|f| {
            let at = f.attempts.last()?;
            let agent = |id: &EnclaveId| enclaves.get(id).cloned().unwrap_or_else(|| id.short());
            let moved = f.attempts.iter().filter_map(|a| Some(format!("{}: {}", agent(&a.enclave), a.ended.as_ref()?)));
            Some(Place {
                fragment: f.name.clone(),
                agent: agent(&at.enclave),
                provider: at.provider.to_string(),
                region: at.region.to_string(),
                why: f.placement.as_ref().map(|p| p.decided_by.clone()).unwrap_or_default(),
                considered: f.placement.as_ref().map_or(0, |p| p.considered),
                eligible: f.placement.as_ref().map_or(0, |p| p.eligible),
                micro_usd: f.charged.unwrap_or_default().0,
                milliseconds: f.usage.map_or(0, |u| u.micros / 1000),
                moved_from: moved.collect(),
            })
        })
        .collect()
}

impl Qualities {
    fn of(study: &Study, last: &Model, rounds: &[learn::Quality]) -> Result<Self> {
        let all = study.hospitals.iter().flat_map(|h| &h.patients);
        let central = quality(&learn::fit(all, learn::L2)?, &study.held_out);
        let mut alone = BTreeMap::new();
        for hospital in &study.hospitals {
            let model = learn::fit(&hospital.patients, learn::L2)?;
            alone.insert(
                format!("{} ({} patients)", hospital.name, hospital.rows),
                quality(&model, &study.held_out).into(),
            );
        }
        Ok(Self {
            held_out: study.held_out.len(),
            federated: quality(last, &study.held_out).into(),
            by_round: rounds.iter().copied().map(Into::into).collect(),
            centralised: central.into(),
            alone,
        })
    }
}

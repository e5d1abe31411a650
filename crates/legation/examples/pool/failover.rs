//! From the SIGKILL of the leader to the next submission that is acknowledged: three manager processes on one PostgreSQL, and a
//! client that submits all the time and knows all three. There are no agents: an acknowledged submission waits for one.

use std::time::{Duration, Instant};

use legation::{client::Client, cloud::Cloud, exit::Failure, home::Home, run::Runner, setup};
use legation_core::Digest;
use legation_manager::{JournalConfig, config::Store};
use serde_json::{Value, json};

use crate::{
    beside, count, failed,
    postgres::Postgres,
    quantiles,
    sockets::{runner, submission},
};

const MANAGERS: usize = 3;
/// Far more than it takes.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long the pool runs between two kills.
const BETWEEN: Duration = Duration::from_secs(2);

pub(crate) async fn measure(kills: usize) -> Result<Value, Failure> {
    let Some(postgres) = Postgres::start() else { return Ok(json!("not measured: PostgreSQL is not installed")) };
    let program = beside("legation")?;
    let dir = tempfile::tempdir().map_err(failed)?;
    let journal = JournalConfig { store: Store::Postgres, url: Some(postgres.url()), ..JournalConfig::default() };
    let now = legation::run::now();
    let deployment = setup::development(&dir.path().join("cloud"), &[], &program, now)?;
    let deployment = setup::several_managers(&deployment, MANAGERS, &journal, now)?;
    let home = Home::open(&deployment.client)?;
    let mut cloud = Cloud::new(deployment, &program)?;
    cloud.start()?;
    cloud.ready(0, WAIT_MAX, |_| {}).await?;
    let client = Client::new(&home.config.api, &home.config.token)?;
    let runner = runner(&home, &client)?;
    let module = client.put_object("no module: nobody runs it".into()).await?;
    let mut took = Vec::new();
    submit(&runner, module).await?;
    for kill in 0..kills {
        let quiet = Instant::now();
        while quiet.elapsed() < BETWEEN {
            submit(&runner, module).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let leader = leader(&client).await?;
        let killed = Instant::now();
        cloud.kill_manager_of(&leader).await?;
        submit(&runner, module).await?;
        took.push(killed.elapsed().as_secs_f64());
        eprintln!("pool: leader {leader} killed ({} of {kills}): {:?}", kill + 1, killed.elapsed());
        cloud.start_manager_of(&leader)?;
    }
    cloud.stop().await;
    let longest = took.iter().copied().fold(0.0, f64::max);
    let mean = took.iter().sum::<f64>() / count(took.len().max(1));
    Ok(json!({
        "what": "from SIGKILL of the leading manager process to the next acknowledged submission, by a client that knows all managers; terms \
            of 2 s in PostgreSQL",
        "managers": MANAGERS, "kills": kills, "mean_ms": (mean * 1000.0).round(), "longest_ms": (longest * 1000.0).round(),
        "ms": quantiles(took),
        "aims": { "longest_ms": 3000 },
    }))
}

/// One submission, acknowledged; and given up, so that nothing piles up.
async fn submit(runner: &Runner, module: Digest) -> Result<(), Failure> {
    let (task, submission) = submission(runner, module, 1);
    runner.client.submit(&submission, 0).await.map_err(failed)?;
    runner.client.cancel(task).await.map_err(failed)?;
    Ok(())
}

async fn leader(client: &Client) -> Result<String, Failure> {
    let view = client.manager().await.map_err(failed)?;
    view.leader.map(|leader| leader.name).ok_or_else(|| failed("nobody leads"))
}

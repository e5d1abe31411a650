//! A pool whose leader dies, is frozen, is cut off from its journal, or whose journal goes away, while clients submit all the time.
//! Nothing that was acknowledged is lost, nothing stale is obeyed, and it goes on by itself.

use std::time::{Duration, Instant};

use crate::{
    postgres::Postgres,
    slow::{self, SECOND},
    trio::{Following, Line, Load, MANAGERS, Trio, refusal},
    world::{SOON, eventually, guest, program, repository, spawn},
};

/// The others.
fn but(manager: &str) -> Vec<&'static str> {
    MANAGERS.into_iter().filter(|name| *name != manager).collect()
}

/// Waits until `manager` follows another, and takes nothing.
async fn stands_by(trio: &Trio, manager: &'static str) {
    let stands_by = eventually("it stands by", Duration::from_secs(15), async || {
        let view = trio.view(manager).await?;
        (view.role == "follows" && view.leader.is_some_and(|leader| leader.name != manager)).then_some(())
    });
    stands_by.await;
    let runner = legation::run::Runner { client: trio.only(manager), ..trio.runner() };
    let module = legation_core::Digest::of(b"a module");
    assert_eq!(refusal(trio.only(manager).task(legation_core::TaskId::new(module), 0).await).check, "manager.standby");
    assert!(runner.client.put_object(bytes::Bytes::from_static(b"a module")).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_dies_or_is_frozen_is_replaced() {
    let Some(mut trio) = Trio::start().await else { return };
    let load = Load::start(&trio).await;
    let runner = trio.runner();
    let job = slow::job(&runner, 3, 3 * SECOND).await;
    let job = Following::start(runner, job).await;

    // Killed: the others know nothing of it until its term is over.
    let first = trio.leader_of(&MANAGERS).await;
    trio.agents_are_with(first).await;
    let killed = Instant::now();
    trio.cloud.kill_manager_of(first).await.unwrap();
    // Whatever it wrote last: what counts is what another acknowledges.
    let (others, end) = (but(first), trio.end());
    let (acknowledged, second) = tokio::join!(load.next(killed, end), trio.leader_of(&others));
    let back = trio.agents_are_with(second).await;
    println!(
        "failover: {acknowledged:?} from SIGKILL to the next acknowledged submission; agents were back {back:?} later"
    );
    assert!(acknowledged < Duration::from_secs(8), "{acknowledged:?}");
    load.completes(killed).await;
    let outcome = job.completes().await;
    slow::check(&outcome, 3, 3 * SECOND, &trio.home.anchors);
    for fragment in &outcome.view.fragments {
        assert_eq!(fragment.attempts.len(), 1, "what ran went on: {fragment:?}");
    }
    trio.audit(&load.told());

    // It comes back as one of the others.
    trio.cloud.start_manager_of(first).unwrap();
    stands_by(&trio, first).await;

    // Frozen past its term: while it sleeps another leads; awake, it knows at once that it does not.
    let frozen = Instant::now();
    trio.signal(second, "STOP").await;
    let end = trio.end();
    let third = trio.leader_of(&but(second)).await;
    let acknowledged = load.next(frozen, end).await;
    let back = trio.agents_are_with(third).await;
    println!(
        "failover: {acknowledged:?} from SIGSTOP to the next acknowledged submission; agents were back {back:?} later"
    );
    load.completes(frozen).await;
    trio.signal(second, "CONT").await;
    stands_by(&trio, second).await;
    let woken = Instant::now();
    load.next(woken, trio.end()).await;
    load.completes(woken).await;

    // The command line finds its way too, whatever is asked first.
    trio.legation(&["run", &guest("noop")]).await.ended(0, &[]);
    let apis = trio.home.config.api.replace(',', ",http://");
    trio.legation(&["--manager", &apis, "run", &guest("noop")]).await.ended(0, &[]);
    let told = load.stop().await;
    let facts = trio.audit(&told);
    let managers: std::collections::BTreeSet<_> = facts.terms().iter().map(|t| t.manager).collect();
    assert!(facts.terms().len() >= 3 && managers.len() >= 2, "{:?}", facts.terms());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_its_journal_is_replaced_and_the_journal_may_go_away() {
    let Some(mut trio) = Trio::start().await else { return };
    let load = Load::start(&trio).await;

    // Cut off, first without a word, then with broken connections.
    for line in [Line::Silent, Line::Drops] {
        let leader = trio.leader_of(&MANAGERS).await;
        let cut = Instant::now();
        trio.line(leader, line);
        let end = trio.end();
        let next = trio.leader_of(&but(leader)).await;
        let acknowledged = load.next(cut, end).await;
        let back = trio.agents_are_with(next).await;
        println!("failover: {acknowledged:?} from a line that is {line:?}; agents were back {back:?} later");
        load.completes(cut).await;
        trio.line(leader, Line::Passes);
        stands_by(&trio, leader).await;
        trio.audit(&load.told());
    }

    // PostgreSQL itself goes away in the middle of work, and comes back.
    let runner = trio.runner();
    let job = slow::job(&runner, 3, SECOND).await;
    let job = Following::start(runner, job).await;
    trio.postgres.stop_immediately();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let back = Instant::now();
    trio.postgres.restart();
    let acknowledged = load.next(back, trio.end()).await;
    println!("failover: {acknowledged:?} from PostgreSQL's return to the next acknowledged submission");
    let outcome = job.completes().await;
    slow::check(&outcome, 3, SECOND, &trio.home.anchors);
    load.completes(back).await;
    let told = load.stop().await;
    trio.audit(&told);
}

/// The commands of the page on several managers, as it has them, with another PostgreSQL.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_commands_make_a_pool_of_three_managers() {
    let Some(postgres) = Postgres::start() else { return };
    let here = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(repository("guests").canonicalize().unwrap(), here.path().join("guests")).unwrap();
    std::fs::copy(postgres.password_file(), here.path().join("password")).unwrap();
    let page = std::fs::read_to_string(repository("docs/operate.md")).unwrap();
    let chapter = page.split("\n## Several managers\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let block = chapter.split("```console\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let (mut running, mut home, mut ran) = (Vec::new(), None, 0);
    for line in block.lines() {
        let line = line.strip_prefix("$ ").unwrap();
        let line = line.replace("postgres://legation@127.0.0.1:5432/legation", &postgres.tcp_url());
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["export", setting] => home = Some(here.path().join(setting.strip_prefix("LEGATION_HOME=").unwrap())),
            ["legation", "manager" | "agent", "--config", _] => {
                running.push(spawn(here.path(), None, &words[1..]));
            }
            ["legation", "run", ..] => {
                // Nobody is there yet: it waits for its managers, and its task for an enclave.
                let done = eventually("the run is done", SOON, async || {
                    let run = program(here.path(), home.as_deref(), &words[1..]).await;
                    (run.code == Some(0)).then_some(())
                });
                done.await;
                ran += 1;
            }
            ["legation", ..] => {
                eventually("it does as the page says", SOON, async || {
                    let said = program(here.path(), home.as_deref(), &words[1..]).await;
                    (said.code == Some(0)).then_some(())
                })
                .await;
            }
            _ => panic!("what does the page want? {line}"),
        }
    }
    assert_eq!((running.len(), ran), (4, 1), "three managers, an agent, a run");
    // And one of them may go.
    running.remove(0).kill().await.unwrap();
    program(here.path(), home.as_deref(), &["run", &guest("noop")]).await.ended(0, &[]);
    for process in &mut running {
        process.kill().await.unwrap();
    }
}

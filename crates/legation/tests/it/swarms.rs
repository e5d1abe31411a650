//! Swarms of real processes: formed by members that judge each other, kept whole when one is killed, faster than one that stands
//! still, and with a receipt that holds.

use std::{collections::BTreeSet, time::Duration};

use legation::run::{Job, Outcome, Runner};
use legation_core::{
    Bytes, EnclaveId, Millicores, Millis, TaskId,
    swarm::{SeatDemand, SwarmTerms},
};
use legation_pool::{LeaseEnd, Phase, SwarmStage, SwarmView};
use tokio::time::{sleep, timeout};

use crate::{
    slow::{self, SECOND},
    world::{SOON, World, eventually, guest, signal},
};

const AGENTS: [&str; 4] = ["aurora", "boreal", "cumulus", "dune"];

/// Rows of a table that take long enough to slow one down who is at it.
const SHORT: usize = SECOND * 2 / 3;
/// One that hardly moves stands still so long, a fraction of what makes it silent, and moves so long.
const STILL: Duration = Duration::from_secs(2);
const MOVES: Duration = Duration::from_millis(100);

/// Trainings by a swarm, and their average.
async fn job(runner: &Runner, (fragments, rows): (usize, usize), members: u16, speculate: Option<u16>) -> Job {
    let seat =
        SeatDemand { cpu: Millicores(250), memory: Bytes::mib(16), gpus: Default::default(), time: Millis(250_000) };
    let swarm = SwarmTerms { members, least: Some(2), seat, speculate };
    Job { swarm: Some(swarm), ..slow::job(runner, fragments, rows).await }
}

/// The swarm, once `wanted` of it.
async fn seen(world: &World, task: TaskId, what: &str, wanted: impl Fn(&SwarmView) -> bool) -> SwarmView {
    let look = eventually(what, SOON, async || {
        let swarm = world.client().task(task, 0).await.ok()?.view.swarm?;
        wanted(&swarm).then_some(swarm)
    });
    look.await
}

/// Which agent an enclave is.
async fn name_of(world: &World, enclave: EnclaveId) -> &'static str {
    for name in AGENTS {
        if world.enclave(name).await == enclave {
            return name;
        }
    }
    panic!("{enclave} is none of the agents");
}

fn verified(outcome: &Outcome, world: &World) -> Vec<String> {
    let text = outcome.receipt.to_text();
    match legation::verify::verify(text.as_bytes(), &world.home().anchors, None).unwrap() {
        legation::verify::Answer::Valid(verdict) => {
            assert!(verdict.completed && verdict.task == outcome.task);
            verdict.links.into_iter().map(|l| l.kind).collect()
        }
        legation::verify::Answer::Invalid { at, why } => panic!("receipt invalid at {at}: {why}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_killed_is_replaced_and_the_receipt_holds() {
    let mut world = World::started(&AGENTS).await;
    let runner = world.runner();
    let job = job(&runner, (8, SECOND), 3, None).await;
    let submitted = runner.submit(job, &[]).await.unwrap();
    let task = submitted.task;
    let following = tokio::spawn(async move { runner.follow(submitted, |_| {}).await });
    let before =
        seen(&world, task, "the swarm works", |s| s.seats.iter().filter(|s| s.works_on.is_some()).count() == 3).await;
    assert_eq!((before.stage, before.round, before.seats.len()), (SwarmStage::Formed, Some(1), 3));
    let chips: BTreeSet<_> = before.seats.iter().map(|s| s.enclave).collect();
    assert_eq!(chips.len(), 3);

    let lost = before.seats[1].enclave;
    world.cloud.kill_agent(name_of(&world, lost).await).await.unwrap();
    let after =
        seen(&world, task, "another has its place", |s| s.round == Some(2) || s.stage == SwarmStage::Dissolved).await;
    assert!(after.seats.iter().all(|s| s.enclave != lost), "{after:?}");

    let outcome = timeout(SOON, following).await.expect("it did not end in time").unwrap().unwrap();
    slow::check(&outcome, 8, SECOND, &world.home().anchors);
    let swarm = outcome.view.swarm.clone().unwrap();
    assert_eq!((swarm.stage, swarm.seats.len()), (SwarmStage::Dissolved, 0));
    assert!(swarm.gone.iter().any(|g| g.enclave == lost && matches!(g.ended, Some(LeaseEnd::EnclaveLost { .. }))));
    // Who was asked to work was a member, and every member of each round that was worked in has signed.
    let kinds = verified(&outcome, &world);
    let count = |kind: &str| kinds.iter().filter(|k| *k == kind).count();
    assert!(count("membership") >= 6 && count("seating") == 2, "{kinds:?}");
    // Everything was given back, and seats are what was paid for.
    assert_eq!(world.client().pool().await.unwrap().leases, 0);
    assert!(outcome.view.spent == swarm.charged && outcome.view.fragments.iter().all(|f| f.charged.unwrap().0 == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_hardly_moves_is_overtaken() {
    let world = World::started(&AGENTS).await;
    let runner = world.runner();
    let job = job(&runner, (6, SHORT), 3, Some(120)).await;
    let submitted = runner.submit(job, &[]).await.unwrap();
    let task = submitted.task;
    let mut following = tokio::spawn(async move { runner.follow(submitted, |_| {}).await });
    // Three have shown what is usual, and nothing waits but what is under way.
    let usual = eventually("half of it is done", SOON, async || {
        let view = world.client().task(task, 0).await.ok()?.view;
        let done = view.fragments.iter().filter(|f| f.phase == Phase::Done).count();
        view.swarm.filter(|_| done >= 3)
    });
    let swarm = usual.await;
    // Whoever began last has the most before it.
    let last = swarm.seats.iter().filter(|s| s.works_on.is_some()).max_by_key(|s| s.works_on).unwrap();
    let process = world.process(name_of(&world, last.enclave).await);
    // It moves just enough to be there for all, so that it is never found silent, however slow the machine of this test is.
    let outcome = timeout(SOON, async {
        loop {
            signal(process, "STOP").await;
            let ended = timeout(STILL, &mut following).await;
            signal(process, "CONT").await;
            match ended {
                Ok(outcome) => break outcome,
                Err(_) => sleep(MOVES).await,
            }
        }
    });
    let outcome = outcome.await.expect("it did not end in time").unwrap().unwrap();
    let swarm = outcome.view.swarm.clone().unwrap();
    let ends: Vec<_> =
        outcome.view.fragments.iter().flat_map(|f| &f.attempts).filter_map(|a| a.ended.clone()).collect();
    assert!(swarm.repeated > 0 && ends.contains(&LeaseEnd::Superseded), "{swarm:?} {ends:?}");
    verified(&outcome, &world);
    let rows = format!("\nrows {}\n", 6 * SHORT);
    assert!(String::from_utf8_lossy(&outcome.results[0]).contains(&rows));
}

#[tokio::test]
async fn the_commands_say_who_works_with_whom() {
    let world = World::started(&["aurora", "boreal"]).await;
    let files: Vec<_> = ["one", "two", "three"].map(|name| world.file(name, format!("{name}\n"))).into();
    let receipt = world.path("receipt.json");
    let run = |swarm: &str, more: &[&str]| {
        let mut args: Vec<String> = ["run", &guest("echo"), "--swarm", swarm, "--input"].map(str::to_owned).into();
        args.extend(files.iter().cloned());
        args.extend(more.iter().map(|s| (*s).to_owned()));
        args
    };
    let dry = world.legation(&run("2", &["--dry-run"])).await.ended(0, &[]);
    assert!(
        dry.out().contains("be run by a free member") && dry.out().contains("2 of 2 seats could be given now"),
        "{}",
        dry.out()
    );
    // Three chips are not there: it would wait, and does until it is given up.
    world.legation(&run("3", &["--dry-run"])).await.ended(5, &[]);
    world.legation(&run("1", &[])).await.ended(3, &["swarm.members"]);
    world.legation(&run("2", &["--least", "3"])).await.ended(3, &["swarm.least"]);
    let ran = world.legation(&run("2", &["--receipt", &receipt])).await.ended(0, &[]);
    assert_eq!(ran.out(), "one\ntwo\nthree\n");
    let task = world.client().tasks(None).await.unwrap().tasks[0].task;
    let shown = world.legation(&["swarm", "show", &task.to_string()]).await.ended(0, &[]).out();
    assert!(shown.contains("swarm    dissolved") && shown.contains("the task ended"), "{shown}");
    let shown = world.legation(&["task", "show", &task.to_string()]).await.ended(0, &[]).out();
    assert!(shown.contains("members  0 of 2, 2 at least"), "{shown}");
    world.legation(&["receipt", "verify", &receipt]).await.ended(0, &[]);
    let links = world.legation(&["receipt", "show", &receipt]).await.ended(0, &[]).out();
    assert!(links.contains("judged and joined the 2 members of round 1"), "{links}");
    world.legation(&["run", &guest("noop")]).await.ended(0, &[]);
    let all = world.client().tasks(None).await.unwrap().tasks;
    let plain = all.iter().find(|t| t.swarm.is_none()).unwrap().task;
    world.legation(&["swarm", "show", &plain.to_string()]).await.ended(2, &["asks for no swarm"]);
}

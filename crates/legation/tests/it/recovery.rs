//! Processes that die, freeze, drain, return or are sent away in the middle of a run: the run goes on, and its receipt holds.

use std::{collections::BTreeSet, time::Duration};

use legation::{
    exit::Failure,
    run::{Job, Outcome, Runner},
};
use legation_core::{EnclaveId, Requirement, TaskId, claims::Anchors};
use legation_pool::{LeaseEnd, Presence, TaskView};
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    slow::{self, MOMENT, SECOND},
    world::{SOON, World, eventually, finish, guest, signal, spawn},
};

/// A job that is followed in the background, as a client does that waits for it.
struct Followed {
    task: TaskId,
    anchors: Anchors,
    following: JoinHandle<Result<Outcome, Failure>>,
}

impl Followed {
    /// Follows with the runner whose party sealed what the job reads: nobody else has the keys.
    async fn of(runner: Runner, job: Job) -> Self {
        let anchors = runner.trust.anchors().clone();
        let submitted = runner.submit(job, &[]).await.unwrap();
        let task = submitted.task;
        Self { task, anchors, following: tokio::spawn(async move { runner.follow(submitted, |_| {}).await }) }
    }

    /// So many trainings on tables of `rows` rows.
    async fn training(world: &World, fragments: usize, rows: usize) -> Self {
        let runner = world.runner();
        let job = slow::job(&runner, fragments, rows).await;
        Self::of(runner, job).await
    }

    /// Waits until this many of its fragments run.
    async fn runs(&self, world: &World, fragments: usize) -> TaskView {
        let running = eventually("the job runs", SOON, async || {
            let view = world.client().task(self.task, 0).await.ok()?.view;
            assert!(!self.following.is_finished(), "it has ended: {view:#?}");
            (view.fragments.iter().filter(|f| f.offered).count() >= fragments).then_some(view)
        });
        running.await
    }

    /// Waits for its end, and fails the test unless all of it holds.
    async fn completes(self, fragments: usize, rows: usize) -> Outcome {
        let outcome = timeout(SOON, self.following).await.expect("the job did not end in time").unwrap().unwrap();
        slow::check(&outcome, fragments, rows, &self.anchors);
        outcome
    }
}

/// Where the fragments are that run.
fn places(view: &TaskView) -> BTreeSet<EnclaveId> {
    view.fragments.iter().filter(|f| f.offered).map(|f| f.attempts.last().unwrap().enclave).collect()
}

/// Why fragments were moved away from `enclave`.
fn moved_from(outcome: &Outcome, enclave: EnclaveId) -> Vec<LeaseEnd> {
    let attempts = outcome.view.fragments.iter().flat_map(|f| &f.attempts);
    attempts.filter(|a| a.enclave == enclave).filter_map(|a| a.ended.clone()).collect()
}

async fn tasks(world: &World) -> BTreeSet<TaskId> {
    world.client().tasks(None).await.unwrap().tasks.into_iter().map(|t| t.task).collect()
}

#[tokio::test]
async fn a_manager_that_is_killed_goes_on_where_it_was() {
    let mut world = World::started(&["aurora", "boreal"]).await;
    // One task that has ended, one that waits for an enclave that never comes, one that runs.
    world.legation(&["run", &guest("noop")]).await.ended(0, &[]);
    let runner = world.runner();
    let mut waiting = slow::job(&runner, 1, MOMENT).await;
    waiting.require = Requirement::parse("region == \"nowhere\"").unwrap();
    let waiting = Followed::of(runner, waiting).await;
    let job = Followed::training(&world, 6, SECOND).await;
    job.runs(&world, 4).await;

    for term in 2..=3 {
        let (before, known) = (world.client().pool().await.unwrap(), tasks(&world).await);
        world.cloud.kill_manager().await.unwrap();
        world.cloud.start_manager().unwrap();
        world.ready(2).await;
        let after = world.client().pool().await.unwrap();
        assert_eq!(after.term.0, term);
        assert!(after.seq > before.seq, "{before:?} {after:?}");
        assert_eq!(tasks(&world).await, known);
        assert_eq!((known.len(), after.tasks_live + after.tasks_ended), (3, 3));
    }

    let outcome = job.completes(6, SECOND).await;
    // Whoever worked has come back and gone on: nothing was run again.
    for fragment in &outcome.view.fragments {
        assert_eq!(fragment.attempts.len(), 1, "{fragment:?}");
    }
    world.client().cancel(waiting.task).await.unwrap();
    assert!(timeout(SOON, waiting.following).await.unwrap().unwrap().is_err());
    // And the pool takes work as before.
    world.legation(&["run", &guest("noop")]).await.ended(0, &[]);
}

#[tokio::test]
async fn an_agent_that_knows_more_than_the_journal_does_not_work_for_it() {
    let mut world = World::started(&["aurora"]).await;
    world.legation(&["run", &guest("noop")]).await.ended(0, &[]);
    world.cloud.kill_manager().await.unwrap();
    // What a restored backup is: the journal as it was some time ago.
    let data = world.root.join("manager/data");
    let journal = ["journal.sqlite", "journal.sqlite-wal"];
    for file in journal {
        std::fs::copy(data.join(file), world.root.join(file)).unwrap();
    }
    world.cloud.start_manager().unwrap();
    world.ready(1).await;
    for _ in 0..3 {
        world.legation(&["run", &guest("noop")]).await.ended(0, &[]);
    }
    world.cloud.kill_manager().await.unwrap();
    let _ = std::fs::remove_file(data.join("journal.sqlite-shm"));
    for file in journal {
        std::fs::copy(world.root.join(file), data.join(file)).unwrap();
    }
    world.cloud.start_manager().unwrap();
    world.logs("manager", &["ERROR", "manager.lost-tail", "restore a newer copy"], SOON).await;
    world.logs("aurora", &["turned away", "manager.lost-tail"], SOON).await;
    world.ready(0).await;
    assert_eq!(world.client().pool().await.unwrap().enclaves_here, 0);
    let args = ["run", &guest("noop"), "--timeout", "2"];
    world.legation(&args).await.ended(5, &["found no enclave"]);
    // One that has obeyed nothing yet may work for it.
    world.cloud.kill_agent("aurora").await.unwrap();
    world.cloud.start_agent("aurora").unwrap();
    world.ready(1).await;
    world.legation(&["run", &guest("noop")]).await.ended(0, &[]);
}

#[tokio::test]
async fn work_of_a_killed_agent_moves_and_the_agent_may_return() {
    let mut world = World::started(&["aurora", "boreal"]).await;
    let boreal = world.enclave("boreal").await;
    let job = Followed::training(&world, 4, SECOND).await;
    assert_eq!(places(&job.runs(&world, 4).await).len(), 2);
    world.cloud.kill_agent("boreal").await.unwrap();
    let outcome = job.completes(4, SECOND).await;
    let moved = moved_from(&outcome, boreal);
    assert!(!moved.is_empty() && moved.iter().all(|why| matches!(why, LeaseEnd::EnclaveLost { .. })), "{moved:?}");

    // The same machine with the keys of another boot takes the place of the one before.
    world.cloud.start_agent("boreal").unwrap();
    world.ready(2).await;
    assert_ne!(world.enclave("boreal").await, boreal);
    assert_eq!(world.client().pool().await.unwrap().enclaves_known, 2);
    let args = ["run", &guest("noop"), "--require", "region == \"eu-central\""];
    world.legation(&args).await.ended(0, &[]);
}

#[tokio::test]
async fn one_chip_is_one_enclave_at_a_time() {
    let mut world = World::started(&["aurora", "boreal"]).await;
    let first = world.enclave("boreal").await;
    let file = world.agent_file("boreal");
    // A copy of the machine, or its leaked key: refused while the first is here.
    let mut twin = spawn(&world.root, None, &["agent", "--config", file.to_str().unwrap()]);
    world.logs("manager", &["attestation refused", "pool.chip", "which is here"], SOON).await;
    assert_eq!(world.enclave("boreal").await, first);
    assert_eq!(world.client().pool().await.unwrap().enclaves_here, 2);
    twin.kill().await.unwrap();
    // What is refused now is taken when the first has left, without anybody's help.
    let twin = spawn(&world.root, None, &["agent", "--config", file.to_str().unwrap()]);
    world.cloud.kill_agent("boreal").await.unwrap();
    let replaced = async {
        while world.enclave("boreal").await == first {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, replaced).await.unwrap();
    world.ready(2).await;
    assert_eq!(world.client().pool().await.unwrap().enclaves_known, 2);
    signal(twin.id().unwrap(), "TERM").await;
    let said = finish(twin).await.ended(0, &[]);
    assert!(said.stderr.contains("draining"), "{}", said.stderr);
}

#[tokio::test]
async fn work_of_a_frozen_agent_moves() {
    let mut world = World::started(&["aurora", "boreal"]).await;
    let boreal = world.enclave("boreal").await;
    let job = Followed::training(&world, 2, SECOND).await;
    assert!(places(&job.runs(&world, 2).await).contains(&boreal));
    let process = world.process("boreal");
    signal(process, "STOP").await;
    // Its connection stands; only its silence tells.
    let outcome = job.completes(2, SECOND).await;
    let moved = moved_from(&outcome, boreal);
    assert!(matches!(&moved[..], [LeaseEnd::EnclaveLost { .. }]), "{moved:?}");
    let view = world.client().enclave(boreal).await.unwrap();
    assert!(matches!(view.presence, Presence::Away { .. }) && view.leases == 0, "{view:?}");
    // Awake, it comes back as who it was; nobody wants what it did meanwhile.
    let before = world.task(outcome.task).await;
    signal(process, "CONT").await;
    world.ready(2).await;
    assert_eq!(world.enclave("boreal").await, boreal);
    assert_eq!(world.task(outcome.task).await, before);
    let args = ["run", &guest("noop"), "--require", "region == \"eu-central\""];
    world.legation(&args).await.ended(0, &[]);
}

#[tokio::test]
async fn an_agent_that_is_asked_to_stop_finishes_what_it_has() {
    let mut world = World::new(&["aurora", "boreal"]);
    world.cloud.start_manager().unwrap();
    world.cloud.start_agent("aurora").unwrap();
    let file = world.agent_file("boreal");
    let agent = spawn(&world.root, None, &["agent", "--config", file.to_str().unwrap()]);
    world.ready(2).await;
    let (aurora, boreal) = (world.enclave("aurora").await, world.enclave("boreal").await);
    let job = Followed::training(&world, 2, SECOND).await;
    assert!(places(&job.runs(&world, 2).await).contains(&boreal));
    signal(agent.id().unwrap(), "TERM").await;
    let client = world.client();
    let drains = eventually("boreal drains", SOON, async || {
        let presence = client.enclave(boreal).await.unwrap().presence;
        (presence != Presence::Here).then_some(presence)
    });
    assert_eq!(drains.await, Presence::Draining);
    let outcome = job.completes(2, SECOND).await;
    assert!(moved_from(&outcome, boreal).is_empty(), "{:?}", outcome.view);
    let began: Vec<_> = outcome.view.fragments.iter().map(|f| f.attempts[0].enclave).collect();
    assert!(began[..2].contains(&boreal) && began[2] == aurora, "{began:?}");
    finish(agent).await.ended(0, &["draining"]);

    // Asked twice, it does not wait for what would take minutes.
    let agent = spawn(&world.root, None, &["agent", "--config", file.to_str().unwrap()]);
    world.ready(2).await;
    let boreal = world.enclave("boreal").await;
    let job = Followed::training(&world, 2, 5 * SECOND).await;
    assert!(places(&job.runs(&world, 2).await).contains(&boreal));
    signal(agent.id().unwrap(), "TERM").await;
    // Two that come at once may be one.
    let drains = eventually("boreal drains", SOON, async || {
        let presence = world.client().enclave(boreal).await.unwrap().presence;
        (presence != Presence::Here).then_some(presence)
    });
    assert_eq!(drains.await, Presence::Draining);
    signal(agent.id().unwrap(), "TERM").await;
    let stopped = std::time::Instant::now();
    finish(agent).await.ended(0, &["draining"]);
    assert!(stopped.elapsed() < Duration::from_secs(5), "{:?}", stopped.elapsed());
    let outcome = job.completes(2, 5 * SECOND).await;
    assert_eq!(moved_from(&outcome, boreal).len(), 1, "{:?}", outcome.view);
}

#[tokio::test]
async fn work_of_a_revoked_enclave_moves_and_it_does_not_return() {
    let mut world = World::started(&["aurora", "boreal"]).await;
    let boreal = world.enclave("boreal").await;
    let job = Followed::training(&world, 4, SECOND).await;
    assert!(places(&job.runs(&world, 4).await).contains(&boreal));
    let args = ["enclave", "revoke", &boreal.to_string(), "--why", "its key was seen elsewhere"];
    let said = world.legation(&args).await.ended(0, &[]).out();
    assert!(said.contains("is revoked: its key was seen elsewhere"), "{said}");
    let outcome = job.completes(4, SECOND).await;
    let moved = moved_from(&outcome, boreal);
    assert!(!moved.is_empty() && moved.iter().all(|why| *why == LeaseEnd::Revoked), "{moved:?}");
    // Those who read the receipt learn of it as well.
    assert_eq!((outcome.receipt.revocations.0, world.client().pool().await.unwrap().revocations.0), (1, 1));

    // The agent is told, and told again whenever it comes back.
    let turned = || {
        let log = world.log("boreal");
        log.lines().filter(|l| l.contains("turned away") && l.contains("its key was seen elsewhere")).count()
    };
    eventually("boreal is turned away again", SOON, async || (turned() >= 2).then_some(())).await;
    let view = world.client().enclave(boreal).await.unwrap();
    assert_eq!(view.revoked.as_deref(), Some("its key was seen elsewhere"));
    assert!(matches!(view.presence, Presence::Away { .. }), "{view:?}");
    let list = world.legation(&["enclave", "list"]).await.ended(0, &[]).out();
    assert!(list.contains("revoked"), "{list}");
    // So it stays when the manager starts anew.
    world.cloud.kill_manager().await.unwrap();
    world.cloud.start_manager().unwrap();
    world.ready(1).await;
    assert_eq!(world.client().enclave(boreal).await.unwrap().revoked, view.revoked);
    // Started anew, the machine is judged anew.
    world.cloud.kill_agent("boreal").await.unwrap();
    world.cloud.start_agent("boreal").unwrap();
    world.ready(2).await;
    assert_eq!(world.client().pool().await.unwrap().enclaves_known, 3);
}

#[tokio::test]
async fn enclaves_prove_themselves_again_before_their_passports_end() {
    let mut world = World::new(&["aurora"]);
    let life = 10;
    let policy = world.deployment().manager.with_file_name("appraisal.cedar");
    let text = std::fs::read_to_string(&policy).unwrap();
    let shorter = format!("@passport_seconds(\"{life}\")\n@id(\"known-image\")");
    std::fs::write(&policy, text.replace("@id(\"known-image\")", &shorter)).unwrap();
    world.start().await;
    let aurora = world.enclave("aurora").await;
    let first = world.client().enclave(aurora).await.unwrap();
    assert_eq!(first.proof_expires.since(first.proven), life);
    let client = world.client();
    let renewed = eventually("two renewals", Duration::from_secs(4 * life), async || {
        let view = client.enclave(aurora).await.unwrap();
        assert_eq!(view.presence, Presence::Here, "it is here all the time");
        (legation::run::now() > first.proof_expires && view.proven > first.proven.plus(life / 2 + 5)).then_some(view)
    });
    assert!(renewed.await.proof_expires > first.proof_expires.plus(life / 2));
    let receipt = world.path("receipt.json");
    world.legation(&["run", &guest("noop"), "--receipt", &receipt]).await.ended(0, &[]);
    world.legation(&["receipt", "verify", &receipt]).await.ended(0, &[]);
    assert!(!world.log("manager").contains("enclave left"), "{}", world.log("manager"));
}

//! Revocation and lapse with real processes and real work: what is revoked falls, its work ends elsewhere, and whoever reads
//! the receipt learns of it.

use std::time::Duration;

use legation_core::{EnclaveId, Revocable};
use legation_pool::{LeaseEnd, Presence};
use tokio::time::timeout;

use crate::{
    slow::{self, SECOND},
    world::{SOON, World, eventually, guest, signal},
};

/// Starts a training of four fragments, and waits until one of them runs on `enclave`.
async fn training(world: &World, enclave: EnclaveId) -> Followed {
    let runner = world.runner();
    let job = slow::job(&runner, 4, SECOND).await;
    let anchors = runner.trust.anchors().clone();
    let submitted = runner.submit(job, &[]).await.unwrap();
    let task = submitted.task;
    let following = tokio::spawn(async move { runner.follow(submitted, |_| {}).await });
    eventually("it runs there", SOON, async || {
        let view = world.client().task(task, 0).await.ok()?.view;
        let there = |f: &&legation_pool::FragmentView| f.offered && f.attempts.last().unwrap().enclave == enclave;
        view.fragments.iter().find(there).map(|_| ())
    })
    .await;
    Followed { anchors, following }
}

struct Followed {
    anchors: legation_core::claims::Anchors,
    following: tokio::task::JoinHandle<Result<legation::run::Outcome, legation::exit::Failure>>,
}

impl Followed {
    async fn completes(self) -> legation::run::Outcome {
        let outcome = timeout(SOON, self.following).await.expect("the job did not end in time").unwrap().unwrap();
        slow::check(&outcome, 4, SECOND, &self.anchors);
        outcome
    }
}

fn moved_from(outcome: &legation::run::Outcome, enclave: EnclaveId) -> Vec<LeaseEnd> {
    let attempts = outcome.view.fragments.iter().flat_map(|f| &f.attempts);
    attempts.filter(|a| a.enclave == enclave).filter_map(|a| a.ended.clone()).collect()
}

#[tokio::test]
async fn a_revoked_chip_falls_and_its_work_ends_elsewhere() {
    let mut world = World::started(&["aurora", "boreal"]).await;
    let boreal = world.enclave("boreal").await;
    // Work that boreal did before, to be read after.
    let receipt = world.path("before.json");
    let args = ["run", &guest("noop"), "--receipt", &receipt, "--require", "provider == \"boreal\""];
    world.legation(&args).await.ended(0, &[]);
    // Dates are seconds: what was finished in the second of a revocation counts as finished after it.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let job = training(&world, boreal).await;
    let chip = world.client().enclave(boreal).await.unwrap().chip;

    // What would revoke nothing is a mistake, unless it is meant in advance; and then the name must be one.
    for (kind, name, more, exit, says) in [
        ("chip", &chip[..4], None, 2, "is too short"),
        ("chip", "0123456789abcdef0123", None, 2, "the pool knows no chip"),
        ("anchor", "amd-millan", None, 2, "the pool knows no anchor"),
        ("provider", "bor", None, 2, "the pool knows no provider"),
        ("chip", "node 7", Some("--unknown"), 3, "revocation.name"),
        ("measurement", "0123456789abcdef", Some("--unknown"), 3, "revocation.name"),
    ] {
        let args: Vec<&str> = ["revoke", kind, name, "--why", "a mistake"].into_iter().chain(more).collect();
        world.legation(&args).await.ended(exit, &[says]);
    }

    let args = ["revoke", "chip", &chip[..12], "--why", "its VCEK leaked"];
    let said = world.legation(&args).await.ended(0, &[]).out();
    assert!(said.contains("is revoked: its VCEK leaked"), "{said}");
    // Its own channel may have ended before the list went out.
    let heeded = ["heeded by 1 of 1 agents within ", "heeded by 2 of 2 agents within "];
    assert!(said.contains("epoch 1; 1 enclave fell; ") && heeded.iter().any(|h| said.contains(h)), "{said}");
    println!("{said}");
    let view = world.client().enclave(boreal).await.unwrap();
    assert!(view.revoked.is_some() && matches!(view.presence, Presence::Away { .. }), "{view:?}");

    let outcome = job.completes().await;
    let moved = moved_from(&outcome, boreal);
    assert!(!moved.is_empty() && moved.iter().all(|why| *why == LeaseEnd::Revoked), "{moved:?}");
    assert_eq!(outcome.receipt.revocations.0, 1, "the receipt says as of which epoch");

    // It does not come back, and not with new keys either: the chip is what is revoked.
    world.logs("boreal", &["turned away", "its VCEK leaked"], SOON).await;
    world.cloud.kill_agent("boreal").await.unwrap();
    world.cloud.start_agent("boreal").unwrap();
    let refused = eventually("boreal is refused", SOON, async || {
        let all = world.operator().refusals(None).await.unwrap();
        all.into_iter().find(|r| r.enclave != boreal && r.why.check == "revocation")
    });
    let refused = refused.await;
    assert!(refused.why.got.contains("its VCEK leaked") && !refused.why.fix.is_empty(), "{refused:?}");
    assert_eq!(world.client().pool().await.unwrap().enclaves_here, 1);

    // The list says so, verifies, and is held against receipts: what was done before is valid, with a warning.
    let list = world.legation(&["revocations", "list"]).await.ended(0, &[]).out();
    assert!(list.contains("chip") && list.contains("its VCEK leaked"), "{list}");
    let saved = world.path("revocations.json");
    world.legation(&["revocations", "save", &saved]).await.ended(0, &["saved 1 revocations, epoch 1"]);
    let args = ["receipt", "verify", &receipt, "--revocations", &saved];
    let said = world.legation(&args).await.ended(0, &[]).out();
    assert!(said.contains("warning: the chip") && said.contains("after its report was finished"), "{said}");
    let said = world.legation(&args[..3]).await.ended(0, &[]).out();
    assert!(!said.contains("warning"), "{said}");
    let forged = std::fs::read_to_string(&saved).unwrap().replacen("\"sig\":\"", "\"sig\":\"A", 1);
    let forged = world.file("forged.json", forged);
    let ran = world.legation(&["receipt", "verify", &receipt, "--revocations", &forged]).await;
    assert_ne!(ran.code, Some(0), "{ran:?}");

    // Nothing of it is lost when the manager starts anew.
    world.cloud.kill_manager().await.unwrap();
    world.cloud.start_manager().unwrap();
    world.ready(1).await;
    let view = world.client().revocations().await.unwrap();
    assert_eq!((view.epoch.0, &view.entries[0].what), (1, &Revocable::Chip(chip)));
    world.legation(&["run", &guest("noop")]).await.ended(0, &[]);
}

#[tokio::test]
async fn the_work_of_an_enclave_that_lapses_ends_elsewhere() {
    let mut world = World::new(&["aurora", "boreal"]);
    // Shorter than the silence after which a channel is given up.
    let policy = world.deployment().manager.with_file_name("appraisal.cedar");
    let text = std::fs::read_to_string(&policy).unwrap();
    let shorter = "@passport_seconds(\"8\")\n@id(\"known-image\")";
    std::fs::write(&policy, text.replace("@id(\"known-image\")", shorter)).unwrap();
    world.start().await;
    let boreal = world.enclave("boreal").await;
    let job = training(&world, boreal).await;
    let frozen = world.process("boreal");
    signal(frozen, "STOP").await;
    let lapsed = eventually("boreal lapses", Duration::from_secs(20), async || {
        let view = world.client().enclave(boreal).await.unwrap();
        (view.leases == 0 && view.presence != Presence::Here || view.cordon.is_some()).then_some(view)
    });
    let lapsed = lapsed.await;
    assert!(lapsed.overdue, "{lapsed:?}");
    let outcome = job.completes().await;
    let moved = moved_from(&outcome, boreal);
    let lapse = |why: &LeaseEnd| match why {
        LeaseEnd::Lapsed { why } => why.check == "pool.lapsed",
        LeaseEnd::EnclaveLost { why } => why.contains("it held until"),
        _ => false,
    };
    assert!(!moved.is_empty() && moved.iter().all(lapse), "{moved:?}");
    signal(frozen, "CONT").await;
    // A new passport restores it.
    eventually("boreal is back", SOON, async || {
        let view = world.client().enclave(boreal).await.ok()?;
        (view.presence == Presence::Here && view.cordon.is_none() && !view.overdue).then_some(())
    })
    .await;
    world.legation(&["run", &guest("noop"), "--require", "provider == \"boreal\""]).await.ended(0, &[]);
}

#[tokio::test]
async fn an_enclave_attests_again_when_it_is_asked_to() {
    let world = World::started(&["aurora"]).await;
    let aurora = world.enclave("aurora").await;
    let before = world.client().enclave(aurora).await.unwrap();
    // So that a second attestation in the same second is told from the first.
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.legation(&["enclave", "reattest", &aurora.to_string()]).await.ended(0, &[]);
    eventually("a new passport", SOON, async || {
        let view = world.client().enclave(aurora).await.ok()?;
        (view.proven > before.proven).then_some(())
    })
    .await;
    let shown = world.legation(&["enclave", "show", &aurora.to_string()]).await.ended(0, &[]).out();
    assert!(shown.contains("proof        by ") && shown.contains("claim        tcb"), "{shown}");
    let verifiers = world.legation(&["verifier", "list"]).await.ended(0, &[]).out();
    assert!(verifiers.contains("local") && verifiers.contains("answers"), "{verifiers}");
}

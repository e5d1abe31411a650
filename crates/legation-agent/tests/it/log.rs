//! What an agent hears of its manager's transparency log: it follows one that grows, asks where something is missing, and is loud
//! about one that shows two pasts. Its work goes on.

use legation_agent::Status;
use legation_core::Signer as _;
use legation_keys::IdentityKey;
use legation_log::{Checkpoint, KeyKind, MemoryTiles, NoteKey, Prover, Tree};
use legation_net::message::{ToAgent, ToManager};

use crate::manager::{Manager, config, simple, start};

const ORIGIN: &str = "log.example/agents";

/// A checkpoint of the log that tells this story after three entries that every story has.
fn checkpoint(story: &str, old: u64, new: u64) -> ToAgent {
    let key = IdentityKey::from_seed([4; 32]);
    let (mut tree, mut tiles) = (Tree::new(), MemoryTiles::new());
    for index in 0..new {
        let entry = if index < 3 { format!("common {index}") } else { format!("{story} {index}") };
        tree.append(entry.as_bytes()).unwrap();
    }
    tree.flush(&mut tiles).unwrap();
    let (seed, path) = match old {
        0 => (None, Vec::new()),
        old => Prover::new(tiles).beginning(old, new).map(|(seed, path)| (Some(seed), path)).unwrap(),
    };
    let vkey = NoteKey::new(ORIGIN, KeyKind::Log, key.public_key()).unwrap().to_string();
    let signed = Checkpoint { origin: ORIGIN.to_owned(), size: new, root: tree.root() }.sign(&key).unwrap();
    ToAgent::Checkpoint { note: signed.note().to_string(), key: vkey, old, seed, path }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forked_log_is_reported_and_the_work_goes_on() {
    let mut manager = Manager::new().await;
    let agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    conn.say(&checkpoint("one", 0, 4)).await;
    conn.say(&checkpoint("one", 4, 9)).await;
    // It remembers nine entries, and is told what continues seven.
    conn.say(&checkpoint("one", 7, 20)).await;
    let ToManager::AskLog { old, note } = conn.next(&mut manager).await else { panic!("not asked") };
    assert_eq!((old, note), (9, None));
    conn.say(&checkpoint("one", 9, 20)).await;

    conn.say(&checkpoint("other", 20, 21)).await;
    agent.sees(|s| matches!(s, Status::LogForked { .. })).await;
    // It has read all of the above by now.
    assert!(!agent.saw(|s| matches!(s, Status::LogUnproven { .. })), "all was well before");
    let statuses = agent.statuses.lock().unwrap().clone();
    let evidence = statuses.iter().find_map(|status| match status {
        Status::LogForked { evidence, .. } => Some(evidence.clone()),
        _ => None,
    });
    let key = NoteKey::new(ORIGIN, KeyKind::Log, IdentityKey::from_seed([4; 32]).public_key()).unwrap();
    evidence.unwrap().verify(&key).unwrap();

    let module = manager.serve(&std::fs::read(crate::guests::path("noop.wasm")).unwrap());
    let offer = manager.offer(&conn, &simple(module, &[], 1), 0, &[], Vec::new());
    let lease = conn.offer(&offer).await;
    conn.report(&mut manager, lease).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_checkpoint_of_the_log_is_reported() {
    let mut manager = Manager::new().await;
    let agent = start(config(&manager.address()));
    let conn = manager.admit().await;
    conn.say(&checkpoint("one", 0, 4)).await;
    let ToAgent::Checkpoint { note, key, .. } = checkpoint("one", 0, 5) else { panic!("a checkpoint") };
    let altered = note.replace("\n5\n", "\n6\n");
    conn.say(&ToAgent::Checkpoint { note: altered, key: key.clone(), old: 0, seed: None, path: Vec::new() }).await;
    agent.sees(|s| matches!(s, Status::LogUnproven { why, .. } if why.contains("signature"))).await;
    let other = NoteKey::new(ORIGIN, KeyKind::Log, IdentityKey::from_seed([5; 32]).public_key()).unwrap();
    let other = other.to_string();
    conn.say(&ToAgent::Checkpoint { note, key: other, old: 0, seed: None, path: Vec::new() }).await;
    agent.sees(|s| matches!(s, Status::LogUnproven { why, .. } if why.contains("another key"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_never_shows_it_is_reported_once_and_one_that_shows_less_is_told_so() {
    let mut manager = Manager::new().await;
    let agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    conn.say(&checkpoint("one", 0, 4)).await;
    // Whatever it answers, it is about the tree of nobody.
    for size in 10..30 {
        conn.say(&checkpoint("one", 0, size)).await;
    }
    agent.sees(|s| matches!(s, Status::LogUnproven { why, .. } if why.contains("its own 4 entries"))).await;
    let whole = checkpoint("one", 4, 40);
    conn.say(&whole).await;
    conn.say(&checkpoint("one", 0, 9)).await;
    // It sends the larger one that it knows, so that a manager which lost what it signed hears of it.
    let (size, shown) = loop {
        match conn.next(&mut manager).await {
            ToManager::AskLog { old, note: None } => assert_eq!(old, 4),
            ToManager::AskLog { old, note: Some(note) } => break (old, note),
            other => panic!("said {other:?}"),
        }
    };
    let ToAgent::Checkpoint { note, .. } = whole else { panic!("a checkpoint") };
    assert_eq!((size, shown), (40, note));
    let statuses = agent.statuses.lock().unwrap();
    let said = statuses.iter().filter(|s| matches!(s, Status::LogUnproven { .. } | Status::LogForked { .. })).count();
    assert_eq!(said, 1, "{statuses:?}");
}

//! The transparency log with real processes: a receipt is proved, a witness signs and remembers, agents hear of checkpoints, and a
//! log that shows two pasts is convicted.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use legation::{home::read_anchors, log::witness::State};
use legation_core::{Digest, Receipt, Signer as _, claims::WitnessAnchor, encoding::unhex, receipt::RECEIPT_MAX};
use legation_keys::IdentityKey;
use legation_log::{Checkpoint, Fork, Tree};
use tokio::io::AsyncWriteExt as _;

use crate::{
    by_hand::followed,
    http::{Request, send},
    world::{SOON, World, eventually, guest},
};

const ORIGIN: &str = "legation.local/log";

/// A world with a receipt of one task.
async fn worked() -> (World, String) {
    let world = World::started(&["aurora"]).await;
    let receipt = world.path("receipt.json");
    world.legation(&["run", &guest("noop"), "--receipt", &receipt]).await.ended(0, &[]);
    (world, receipt)
}

#[tokio::test]
async fn a_receipt_is_proved_to_be_in_the_log_and_an_altered_one_is_refused() {
    let (world, receipt) = worked().await;
    let anchors = world.root.join("anchors.json").to_str().unwrap().to_owned();
    let check = ["receipt", "verify", &receipt, "--anchors", &anchors, "--logged"];
    let bare = Receipt::from_text(&fs::read(&receipt).unwrap()).unwrap();
    let out = world.legation(&check).await.ended(6, &[]).out();
    assert!(out.contains("INVALID at the log: receipt.log"), "{out}");
    world.legation(&check[..5]).await.ended(0, &["does not show"]);

    world.legation(&["log", "prove", &receipt, "--anchors", &anchors]).await.ended(0, &[ORIGIN]);
    let out = world.legation(&check).await.ended(0, &[]).out();
    assert!(out.contains(&format!(" of {ORIGIN}, cosigned by no witness")), "{out}");

    // By hand as well, with nothing of ours.
    let script = crate::world::repository("docs/check-log.sh");
    let by_hand = |receipt: &str| std::process::Command::new(&script).arg(receipt).arg(&anchors).output().unwrap();
    let said = by_hand(&receipt);
    if said.status.code() == Some(2) {
        eprintln!("SKIPPED: {}", String::from_utf8_lossy(&said.stderr));
    } else {
        assert!(said.status.success(), "{said:?}");
    }

    let good = Receipt::from_text(&fs::read(&receipt).unwrap()).unwrap();
    // Step by step, as the pages show it.
    let folder = tempfile::tempdir().unwrap();
    fs::copy(&receipt, folder.path().join("receipt.json")).unwrap();
    fs::copy(&anchors, folder.path().join("anchors.json")).unwrap();
    let last = good.envelopes.last().unwrap().digest();
    if let Some(said) = followed("docs/receipt.md", folder.path()) {
        let found = said.starts_with(&last.to_string()) && good.roots.last() == Some(&last);
        assert!(found && said.contains("Signature Verified Successfully"), "{said}");
    }
    if let Some(said) = followed("docs/log.md", folder.path()) {
        let section = good.log.as_ref().unwrap();
        let proof = section.proofs.last().unwrap().as_ref().unwrap();
        let path: Vec<_> = proof.path.iter().map(|at| section.nodes[usize::try_from(*at).unwrap()]).collect();
        let leaf = Digest::of(&[&[0_u8][..], &last.as_bytes()[..]].concat());
        let ends = format!("{}\n", serde_json::json!([proof.index, path]));
        let found = said.starts_with(&leaf.to_string()) && said.ends_with(&ends);
        assert!(found && said.contains("Signature Verified Successfully"), "{said}");
    }
    let mut moved = good.clone();
    moved.log.as_mut().unwrap().proofs.swap(0, 1);
    let mut altered = good.clone();
    let node = altered.log.as_mut().unwrap().nodes.first_mut().unwrap();
    *node = Digest::of(node.as_bytes());
    // A hash that stands there twice, and results that are no statements: then no proof is needed, and nothing is bound.
    let mut twice = good.clone();
    let section = twice.log.as_mut().unwrap();
    let last = section.proofs.iter_mut().flatten().next_back().unwrap().path.last_mut().unwrap();
    let again = section.nodes[usize::try_from(*last).unwrap()];
    *last = u32::try_from(section.nodes.len()).unwrap();
    section.nodes.push(again);
    let mut unbound = good.clone();
    unbound.roots = vec![Digest::of(b"no statement of this receipt")];
    let section = unbound.log.as_mut().unwrap();
    section.nodes.clear();
    section.proofs.iter_mut().for_each(|proof| *proof = None);
    let unbound = world.file("unbound.json", unbound.to_text());
    let said = by_hand(&unbound);
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.code() == Some(2) || text.contains("no statement of this receipt"), "{said:?}");
    for (what, bad) in [("moved", moved), ("altered", altered), ("twice", twice)] {
        let file = world.file(&format!("{what}.json"), bad.to_text());
        let out = world.legation(&["receipt", "verify", &file, "--anchors", &anchors]).await.ended(6, &[]).out();
        assert!(out.contains("receipt.log."), "{what}: {out}");
        assert_ne!(by_hand(&file).status.code(), Some(0), "{what}");
    }

    // Whoever has evidence against the log is not content with a receipt from which the section was cut off.
    let key = IdentityKey::from_pem(&fs::read_to_string(world.root.join("manager/log.key")).unwrap()).unwrap();
    let evidence = world.file("fork.json", serde_json::to_string(&fork(&key)).unwrap());
    let cut = world.file("cut.json", bare.to_text());
    let args = ["receipt", "verify", &cut, "--anchors", &anchors, "--fork", &evidence];
    let out = world.legation(&args).await.ended(6, &[]).out();
    assert!(out.contains("INVALID at the log: receipt.log"), "{out}");
    let args = ["receipt", "verify", &receipt, "--anchors", &anchors, "--fork", &evidence];
    let out = world.legation(&args).await.ended(6, &[]).out();
    assert!(out.contains("receipt.log.forked"), "{out}");
    // Evidence that convicts no log of the anchors is a mistake of whoever brings it.
    let useless = world.file("useless.json", serde_json::to_string(&fork(&IdentityKey::from_seed([5; 32]))).unwrap());
    let args = ["receipt", "verify", &receipt, "--anchors", &anchors, "--fork", &useless];
    world.legation(&args).await.ended(2, &["evidence of a fork"]);
    let mut without = read_anchors(anchors.as_ref()).unwrap();
    without.logs.clear();
    let without = world.file("without.json", serde_json::to_string(&without).unwrap());
    let args = ["receipt", "verify", &receipt, "--anchors", &without, "--fork", &evidence];
    world.legation(&args).await.ended(2, &["evidence of a fork"]);

    let cose = world.path("cose");
    world.legation(&["receipt", "export", &receipt, "--cose", &cose, "--anchors", &anchors]).await.ended(0, &[]);
    assert_eq!(fs::read_dir(&cose).unwrap().count(), good.envelopes.len());
    // COSE_Sign1, tagged.
    let first = good.envelopes[0].digest();
    assert_eq!(fs::read(format!("{cose}/{first}.cose")).unwrap()[..2], unhex("d284").unwrap());
}

#[tokio::test]
async fn proving_a_receipt_never_costs_the_receipt() {
    let (world, receipt) = worked().await;
    let anchors = world.root.join("anchors.json").to_str().unwrap().to_owned();
    let bare = fs::read(&receipt).unwrap();
    let names = || {
        let folder = fs::read_dir(std::path::Path::new(&receipt).parent().unwrap()).unwrap();
        folder.map(|entry| entry.unwrap().file_name()).filter(|name| name.to_str().unwrap().contains("receipt"))
    };
    let before = names().count();

    // It is replaced by another file, whole; who may read it stays, and nothing is left beside it.
    fs::set_permissions(&receipt, fs::Permissions::from_mode(0o640)).unwrap();
    let inode = fs::metadata(&receipt).unwrap().ino();
    world.legation(&["log", "prove", &receipt, "--anchors", &anchors]).await.ended(0, &[ORIGIN]);
    let now = fs::metadata(&receipt).unwrap();
    assert!(now.ino() != inode && now.mode() & 0o777 == 0o640, "{now:?}");
    assert_eq!(names().count(), before, "{:?}", names().collect::<Vec<_>>());

    // One that is full has no room for the proofs.
    let mut full = Receipt::from_text(&bare).unwrap();
    let room = RECEIPT_MAX - full.to_text().len() - 16;
    full.evidence[0].report.extend(vec![0; room / 4 * 3]);
    let text = full.to_text();
    assert!(Receipt::check_size(text.len() as u64).is_ok() && text.len() + 64 > RECEIPT_MAX, "{}", text.len());
    let full = world.file("full.json", &text);
    world.legation(&["log", "prove", &full, "--anchors", &anchors]).await.ended(6, &["receipt.size"]);
    assert!(fs::read_to_string(&full).unwrap() == text, "it stays what it was");
    let absent = world.path("absent.json");
    world.legation(&["log", "prove", &absent, "--anchors", &anchors]).await.ended(10, &["cannot read"]);
}

/// Two pasts of two entries, by this key.
fn fork(key: &IdentityKey) -> Fork {
    let [older, newer] = ["one", "other"].map(|story| {
        let mut tree = Tree::new();
        for entry in [story, "common"] {
            tree.append(entry.as_bytes()).unwrap();
        }
        let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 2, root: tree.root() };
        checkpoint.sign(key).unwrap().note().to_string()
    });
    Fork { older, newer, seed: None, path: Vec::new() }
}

#[tokio::test]
async fn a_witness_signs_what_grows_and_keeps_evidence_of_what_does_not() {
    let (world, receipt) = worked().await;
    let anchors = world.root.join("anchors.json").to_str().unwrap().to_owned();
    // From here on all of the task is in the log.
    world.legation(&["log", "prove", &receipt, "--anchors", &anchors]).await.ended(0, &[]);
    let key = IdentityKey::from_seed([9; 32]);
    let (pem, state) = (world.file("witness.key", &*key.to_pem()), world.path("witness.json"));
    let base = ["log", "witness", "--anchors", &anchors, "--name", "witness.example", "--key", &pem, "--state", &state];
    let with = |more: &[&str]| base.iter().chain(more).map(|arg| (*arg).to_owned()).collect::<Vec<String>>();
    world.legation(&with(&["--once"])).await.ended(2, &["--begin"]);
    let signed: u64 = world.legation(&with(&["--once", "--begin"])).await.ended(0, &[]).out().trim().parse().unwrap();
    world.legation(&with(&["--once", "--begin"])).await.ended(2, &["forgets"]);
    world.legation(&["run", &guest("noop")]).await.ended(0, &[]);
    eventually("the log has grown and is signed", SOON, async || {
        let now: u64 = world.legation(&with(&["--once"])).await.ended(0, &[]).out().trim().parse().unwrap();
        (now > signed).then_some(())
    })
    .await;

    // Two processes with one memory would sign two pasts: the second does not begin.
    let held = State::open(state.as_ref()).unwrap();
    world.legation(&with(&["--once"])).await.ended(2, &["a witness that runs"]);
    drop(held);
    // What is signed again is not written again: each writing is another file.
    eventually("a look at a log that has not grown", SOON, async || {
        let before = fs::read_to_string(&state).unwrap();
        let inode = fs::metadata(&state).unwrap().ino();
        let now = world.legation(&with(&["--once"])).await.ended(0, &[]).out();
        let grown = fs::read_to_string(&state).unwrap() != before;
        let size = serde_json::from_str::<serde_json::Value>(&before).unwrap()[ORIGIN]["size"].to_string();
        assert_eq!(fs::metadata(&state).unwrap().ino() == inode, now.trim() == size, "{now}, {size}, {grown}");
        (!grown).then_some(())
    })
    .await;

    // A reader who demands the witness is content with what it signed.
    let mut demanding = read_anchors(anchors.as_ref()).unwrap();
    demanding.logs[0].witnesses = vec![WitnessAnchor { name: "witness.example".to_owned(), key: key.public_key() }];
    demanding.logs[0].quorum = 1;
    let demanding = world.file("demanding.json", serde_json::to_string(&demanding).unwrap());
    let remembered: serde_json::Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
    let cosigned = world.file("cosigned.txt", remembered[ORIGIN]["note"].as_str().unwrap());
    world.legation(&["log", "prove", &receipt, "--anchors", &demanding]).await.ended(6, &["receipt.log.witnesses"]);
    let args = ["log", "prove", &receipt, "--anchors", &demanding, "--cosigned", &cosigned];
    world.legation(&args).await.ended(0, &[]);
    let args = ["receipt", "verify", &receipt, "--anchors", &demanding, "--logged"];
    let out = world.legation(&args).await.ended(0, &[]).out();
    assert!(out.contains("cosigned by witness.example at "), "{out}");

    // Somebody with the log's key signs another past of the size that the witness signed.
    let pem = fs::read_to_string(world.root.join("manager/log.key")).unwrap();
    let log = IdentityKey::from_pem(&pem).unwrap();
    let size = remembered[ORIGIN]["size"].as_u64().unwrap();
    let mut tree = Tree::new();
    for number in 0..size {
        tree.append(&number.to_be_bytes()).unwrap();
    }
    let other = Checkpoint { origin: ORIGIN.to_owned(), size, root: tree.root() }.sign(&log).unwrap();
    let fork = Fork {
        older: remembered[ORIGIN]["note"].as_str().unwrap().to_owned(),
        newer: other.note().to_string(),
        seed: None,
        path: Vec::new(),
    };
    let evidence = world.file("fork.json", serde_json::to_string(&fork).unwrap());
    let out = world.legation(&["log", "verify", &evidence, "--anchors", &anchors]).await.ended(0, &[]).out();
    assert!(out.contains("has FORKED"), "{out}");
    let args = ["receipt", "verify", &receipt, "--anchors", &demanding, "--fork", &evidence];
    let out = world.legation(&args).await.ended(6, &[]).out();
    assert!(out.contains("receipt.log.forked"), "{out}");
    // Whoever saved more than the log shows is told that it lost its end, and keeps what was saved.
    let more = Checkpoint { origin: ORIGIN.to_owned(), size: size + 1000, root: tree.root() }.sign(&log).unwrap();
    let saved = world.file("more.txt", more.note().to_string());
    let args = ["log", "checkpoint", "--anchors", &anchors, "--save", &saved];
    world.legation(&args).await.ended(6, &[&format!("and had {}", size + 1000)]);
    assert_eq!(fs::read_to_string(&saved).unwrap(), more.note().to_string());
    // Whoever saved the other one learns of it from the log itself.
    let saved = world.file("saved.txt", other.note().to_string());
    let args = ["log", "checkpoint", "--anchors", &anchors, "--save", &saved];
    world.legation(&args).await.ended(6, &["has FORKED"]);
}

#[tokio::test]
async fn the_log_is_served_to_anybody_and_told_to_agents() {
    let (world, _) = worked().await;
    let api = world.deployment().addresses.api;
    let get = async |path: &str| send(api, Request::get(path)).await;
    // The log follows the journal, a moment behind.
    let (_text, size) = eventually("six entries are in a checkpoint", SOON, async || {
        let note = get("/log/v1/checkpoint").await;
        assert_eq!(note.status, 200);
        let text = String::from_utf8(note.body).unwrap();
        assert!(text.starts_with(ORIGIN), "{text}");
        let size: u64 = text.lines().nth(1).unwrap().parse().unwrap();
        (size >= 6).then_some((text, size))
    })
    .await;
    for (path, status) in [
        (format!("/log/v1/checkpoint?size={size}"), 200),
        ("/log/v1/checkpoint?size=1".to_owned(), 200),
        ("/log/v1/checkpoint?size=1000000".to_owned(), 422),
        ("/log/v1/checkpoint?size=x".to_owned(), 400),
        ("/log/v1/key".to_owned(), 200),
        ("/log/v1/tile/0/000.p/1".to_owned(), 200),
        ("/log/v1/tile/entries/000.p/1".to_owned(), 200),
        ("/log/v1/tile/0/000".to_owned(), 404),
        ("/log/v1/tile/0/0".to_owned(), 404),
        ("/log/v1/tile/x/../../v1/pool".to_owned(), 404),
        (format!("/log/v1/proof/inclusion?digest={}", Digest::of(b"")), 404),
        ("/log/v1/proof/inclusion?digest=00".to_owned(), 400),
        ("/log/v1/proof/consistency?old=1".to_owned(), 200),
        ("/log/v1/proof/consistency?old=1000000".to_owned(), 422),
        (format!("/log/v1/receipt?digest={}", Digest::of(b"")), 404),
        // There is one of the latest tree alone.
        (format!("/log/v1/receipt?digest={}&size=1", Digest::of(b"")), 400),
    ] {
        assert_eq!(get(&path).await.status, status, "{path}");
    }
    let early = get("/log/v1/checkpoint?size=1").await.body;
    assert_eq!(get("/log/v1/checkpoint?size=1").await.body, early, "signed the same again");
    let prove = async |digests: &str| {
        send(api, Request::new("POST", "/log/v1/proof/receipt").json(format!("{{\"digests\":[{digests}]}}"))).await
    };
    assert_eq!(prove("").await.status, 200);
    let digest = format!("\"{}\"", Digest::of(b""));
    assert_eq!(prove(&digest).await.status, 200);
    prove(&format!("{digest},{digest}")).await.refused(422, "log.proofs");
    // Whoever announces a list of digests may send it slowly; there are only so many at once, and the next is told so at once.
    let mut slow = Vec::new();
    let answer = loop {
        let mut tcp = tokio::net::TcpStream::connect(api).await.unwrap();
        let head =
            Request::new("POST", "/log/v1/proof/receipt").header("content-type", "application/json").head(api, 100);
        tcp.write_all(head.as_bytes()).await.unwrap();
        slow.push(tcp);
        let answer = prove("").await;
        if answer.status != 200 {
            break answer;
        }
        assert!(slow.len() < 100, "there is no end of turns");
    };
    answer.refused(429, "log.busy");
    assert!(slow.len() > 16, "{} who are slow hold up everybody", slow.len());
    assert_eq!(get("/log/v1/checkpoint?size=1").await.status, 200, "others have turns of their own");
    drop(slow);
    eventually("the turns are over", SOON, async || (prove("").await.status == 200).then_some(())).await;
    // Agents have heard of it by now, and found nothing wrong.
    assert!(!world.log("aurora").contains("transparency log"), "{}", world.log("aurora"));
    assert!(!world.log("manager").contains("agents are not told"));
}

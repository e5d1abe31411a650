//! `legation init` and `legation dev`: a deployment out of nothing, and a small cloud of it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::world::{SOON, World, eventually, finish, guest, program, signal, spawn};

/// Names of all files under a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { left.push(path) } else { found.push(path.to_str().unwrap().to_owned()) }
        }
    }
    found
}

#[tokio::test]
async fn init_makes_a_deployment_and_replaces_none() {
    let here = tempfile::tempdir().unwrap();
    let said = program(here.path(), None, &["init", "cloud"]).await.ended(0, &["DEVELOPMENT"]).out();
    for word in ["legation manager --config", "legation agent --config", "LEGATION_HOME=", "never confidentiality"] {
        assert!(said.contains(word), "no `{word}` in {said}");
    }
    // What is secret only its owner may read.
    let cloud = here.path().join("cloud");
    let secret = |path: &str| [".key", "chip.pem", "client.toml"].iter().any(|end| path.ends_with(end));
    let made = files(&cloud);
    assert_eq!(made.iter().filter(|path| secret(path)).count(), 2 + 2 + 3 + 9, "{made:?}");
    for path in made.iter().filter(|path| secret(path)) {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{path}");
    }
    let before: Vec<_> = made.iter().map(|path| fs::read(path).unwrap()).collect();
    program(here.path(), None, &["init", "cloud"]).await.ended(2, &["holds a deployment already"]);
    assert!(made.iter().map(|path| fs::read(path).unwrap()).eq(before), "it is as it was");
    // Custodians are set up where that is asked for.
    let agent = |folder: &str| fs::read_to_string(here.path().join(folder).join("agents/aurora-1/agent.toml")).unwrap();
    program(here.path(), None, &["init", "keepers", "--custody"]).await.ended(0, &[]);
    assert!(agent("keepers").contains("[custody]\nswarm = \"main\"\n") && !agent("cloud").contains("[custody]"));
    // Nothing runs yet.
    let home = cloud.join("client");
    program(here.path(), Some(&home), &["pool", "show"]).await.ended(7, &["cannot be reached"]);
}

#[tokio::test]
async fn dev_runs_a_small_cloud_until_it_is_interrupted() {
    let here = tempfile::tempdir().unwrap();
    let home = here.path().join("cloud/client");
    // The second time it finds what the first has made, and has it keep a swarm key.
    for (name, ended_by, more) in [("INT", "made", &[][..]), ("TERM", "found", &["--custody", "5/9"][..])] {
        let mut dev = spawn(here.path(), None, &[&["dev", "--data", "cloud"][..], more].concat());
        let mut lines = BufReader::new(dev.stdout.take().unwrap()).lines();
        let first = tokio::time::timeout(SOON, lines.next_line()).await.expect("it is not up in time").unwrap();
        let first = first.expect("a line before its end");
        assert!(first.starts_with("9 DEVELOPMENT enclaves are here"), "{ended_by}: {first}");
        let input = here.path().join("input");
        fs::write(&input, ended_by).unwrap();
        let args = ["run", &guest("echo"), "--input", input.to_str().unwrap(), "--receipt", "receipt.json"];
        let ran = program(here.path(), Some(&home), &args).await.ended(0, &[]);
        assert_eq!(ran.out(), ended_by);
        let args = ["receipt", "verify", "receipt.json"];
        program(here.path(), Some(&home), &args).await.ended(0, &[]);
        if !more.is_empty() {
            eventually("nine keep the key", SOON, async || {
                let said = program(here.path(), Some(&home), &["key", "status"]).await.ended(0, &[]).out();
                said.contains("9 of 9 are here, 5 open: margin 4").then_some(())
            })
            .await;
        }
        let process = dev.id().unwrap();
        signal(process, name).await;
        finish(dev).await.ended(0, &["stopping"]);
        // Everything that it started has ended in order, and nothing is left behind.
        eventually("its processes end", Duration::from_secs(20), async || {
            let running = fs::read_dir("/proc").unwrap().flatten().any(|entry| {
                let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains(here.path().to_str().unwrap())
            });
            (!running).then_some(())
        })
        .await;
        let log = fs::read_to_string(here.path().join("cloud/logs/manager.log")).unwrap();
        assert!(log.lines().rev().take(12).any(|line| line.contains("manager stopped")), "{log}");
    }
}

/// A manager that knows where it is measures how far its agents' regions are; whoever asks is told by whom.
#[tokio::test]
async fn managers_measure_how_far_their_agents_are() {
    let mut world = World::new(&["aurora", "boreal"]);
    world.manager_config(|config| config.region = Some("home-1".parse().unwrap()));
    world.start().await;
    let client = world.client();
    let known = eventually("round trips are measured", SOON, async || {
        let known = client.distances().await.unwrap();
        (known.len() == 2).then_some(known)
    });
    for trip in known.await {
        assert_eq!((trip.from.as_str(), trip.source), ("home-1", legation_pool::Source::Channels));
        assert!((1..1000).contains(&trip.ms), "loopback: {trip:?}");
    }
    let shown = world.legation(&["pool", "distances", "show"]).await.ended(0, &[]).out();
    assert_eq!(shown.matches("measured").count(), 2, "{shown}");
    // What is known counts at placement.
    let input = world.root.join("input");
    fs::write(&input, "near").unwrap();
    let args = ["run", &guest("echo"), "--input", input.to_str().unwrap(), "--near", "home-1", "--within", "1000"];
    world.legation(&args).await.ended(0, &[]);
}

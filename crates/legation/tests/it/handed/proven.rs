//! A leg at the end of a chain that is to be proven, by real processes: its result is there at once, attested; its receipt says more later.

use std::{os::unix::fs::PermissionsExt, time::Instant};

use legation_core::TaskId;
use legation_pool::{OwedView, Progress, Stands};

use super::*;

/// The cheapest runs the fragment, the next is asked first, and one alone proves.
const PROVING: [(&str, &str, &str, &str); 3] = [
    ("boreal-1", "boreal", "eu-central", "0.003"),
    ("aurora-1", "aurora", "eu-north", "0.03"),
    (PROVER, "cumulus", "us-east", "0.3"),
];
const PROVER: &str = "cumulus-1";
/// A proof of a small execution takes a minute or two; the tests of the prover measure it.
const PROOF: Duration = Duration::from_secs(20 * 60);

/// `[prover]` of an agent.
fn section(world: &World, files: [(&str, String); 4]) -> toml::Table {
    let mut table = toml::Table::new();
    for (key, value) in files {
        table.insert(key.into(), value.into());
    }
    table.insert("folder".into(), world.path("private").into());
    // What it takes of this machine is this machine's matter.
    table.insert("memory_mib".into(), 64.into());
    table.insert("instructions_max".into(), 50_000_000.into());
    table
}

/// What proves here: legation-prover, its program and its keys; nothing where they were not made, which is said.
fn prover() -> Option<[String; 3]> {
    let named = |name: &str| std::env::var(name).ok();
    let all = [named("LEGATION_PROVER"), named("LEGATION_PROVER_PROGRAM"), named("LEGATION_PROVER_KEYS")];
    let [Some(program), Some(guest), Some(keys)] = all else {
        eprintln!(
            "SKIPPED: a proof needs LEGATION_PROVER, LEGATION_PROVER_PROGRAM, LEGATION_PROVER_KEYS (docs/proven.md)"
        );
        return None;
    };
    Some([program, guest, keys])
}

/// A prover in name: it says what the real one says, of a program that nobody pins, and waits for a file before it is done.
fn pretender(world: &World) -> toml::Table {
    let key = Digest::of(b"verifying key");
    let program = Digest::of_parts(&[b"legation-program-v1", key.as_bytes(), &[0, 255]]);
    let pinned = format!("{{\"version\":\"legation-program/v1\",\"commitment\":\"00ff\",\"key\":\"{key}\"}}");
    let script = format!(
        r#"#!/bin/sh
here=$(dirname "$0")
command=$1
out=
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$2 ;;
  esac
  shift
done
estimate='"estimate":{{"instructions":756297,"seconds":70.5}},"accepted":true'
if [ "$command" = prove ]; then
  echo 'legation-prover: proof: 32 s of about 71 s' >&2
  while [ ! -e "$here/go" ]; do sleep 0.05; done
  printf 'a proof of it' > "$out"
fi
echo "{{$estimate,\"program\":\"{program}\"}}"
"#
    );
    let (script, pinned) = (world.file("prover", &script), world.file("PINNED.json", &pinned));
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let (guest, keys) = (world.file("guest.elf", "a program"), world.path("prover-keys"));
    fs::create_dir(&keys).unwrap();
    section(world, [("program", script), ("guest", guest), ("pinned", pinned), ("keys", keys)])
}

/// What proves in a world: the real prover where it was made, one in name elsewhere.
pub(super) enum Proving {
    Real { program: String, pinned: String },
    Pretended,
}

impl Proving {
    /// Gives the agent `name` a prover.
    pub(super) fn here(world: &mut World, name: &str) -> Self {
        let (proving, table) = match prover() {
            Some([program, guest, keys]) => {
                let pinned = repository("prover/guest/PINNED.json").to_str().unwrap().to_owned();
                let files =
                    [("program", program.clone()), ("guest", guest), ("pinned", pinned.clone()), ("keys", keys)];
                (Self::Real { program, pinned }, section(world, files))
            }
            None => (Self::Pretended, pretender(world)),
        };
        world.agent_config(name, |config| {
            config.insert("prover".into(), table.into());
        });
        proving
    }

    /// Waits for the one proof of a task, writes its receipt with it, and says what may be said of it.
    pub(super) async fn done(&self, world: &World, task: TaskId, receipt: &str) {
        // What the one in name waits for.
        fs::write(world.path("go"), b"").unwrap();
        until(world, task, PROOF, is_there).await;
        let name = task.to_string();
        let written = world.legation(&["task", "receipt", &name, "--out", receipt]).await;
        written.ended(0, &["with 1 proofs of execution"]);
        let mut verify = vec!["receipt", "verify", receipt, "--json"];
        let says = match self {
            Self::Real { program, pinned } => {
                verify.extend(["--prover", program, "--pinned", pinned]);
                "\"proof\":\"good\""
            }
            // It is of the report, and of a program that this reader does not know: neither for nor against it.
            Self::Pretended => "\"proof\":\"not-judged\"",
        };
        let judged = world.legation(&verify).await.ended(0, &[]).out();
        assert_eq!(judged.replace(' ', "").matches(says).count(), 1, "{judged}");
    }
}

/// Runs a chain of three whose last leg is to be proven; the task, whose receipt is attested.
async fn chain(world: &mut World, receipt: &str) -> TaskId {
    for (name, ..) in &PROVING {
        world.cloud.start_agent(name).unwrap();
    }
    world.ready(PROVING.len()).await;
    let (relay, echo) = (module("relay"), module("echo"));
    let first = format!("{relay}:\"fuel\":100000000,\"time_ms\":100000,\"require\":\"provider == aurora\"");
    let second = format!("{echo}:\"fuel\":100000000,\"time_ms\":50000,\"assurance\":\"proven\"");
    let input = world.file("input", TEXT);
    let (code, modules) = (guest("relay"), format!("{},{}", guest("relay"), guest("echo")));
    let mut args = vec!["run", &code, "--input", &input, "--receipt", receipt, "--cpu", "200", "--time", "120"];
    args.extend(["--sensitivity", "internal", "--delegate", modules.as_str(), "--delegate-depth", "2", "--"]);
    args.extend([first.as_str(), second.as_str()]);
    assert_eq!(world.legation(&args).await.ended(0, &[]).out(), TEXT);
    let verdict = read(world, receipt);
    let assured: Vec<_> = verdict.executions.iter().map(|ran| (ran.assurance, ran.proof)).collect();
    assert_eq!(assured[..2], [(Assurance::Attested, None); 2]);
    assert_eq!(assured[2..], [(Assurance::Attested, Some(ProofState::Awaited))]);
    verdict.task
}

fn read(world: &World, receipt: &str) -> Verdict {
    match verify(&fs::read(receipt).unwrap(), &world.home().anchors, None).unwrap() {
        Answer::Valid(verdict) => verdict,
        Answer::Invalid { .. } => panic!("the receipt is not valid"),
    }
}

/// Waits until the one proof of a task stands so.
async fn until(world: &World, task: TaskId, most: Duration, stands: impl Fn(&OwedView) -> bool) {
    let begun = Instant::now();
    loop {
        let proofs = world.task(task).await.proofs;
        let [proof] = proofs.as_slice() else { panic!("{proofs:?}") };
        if stands(proof) {
            return;
        }
        assert!(!matches!(proof.stands, Stands::Failed { .. }) && begun.elapsed() < most, "{proof:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn is_there(proof: &OwedView) -> bool {
    matches!(proof.stands, Stands::There { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_follows_its_answer_and_outlives_the_manager() {
    let (mut world, _) = world(&PROVING);
    let prover = pretender(&world);
    world.agent_config(PROVER, |config| {
        config.insert("prover".into(), prover.into());
    });
    let receipt = world.path("receipt.json");
    let task = chain(&mut world, &receipt).await;
    let name = task.to_string();
    until(&world, task, SOON, |proof| proof.progress == Some(Progress { done: 450, seconds_left: 39 })).await;
    let shown = world.legation(&["task", "show", &name]).await.ended(0, &[]).out();
    assert!(shown.contains("running, 45 %: about 39 s"), "{shown}");
    world.legation(&["task", "receipt", &name, "--out", &receipt]).await.ended(0, &["with 0 proofs of execution"]);

    fs::write(world.path("go"), b"").unwrap();
    until(&world, task, SOON, is_there).await;
    // What was told is in the journal, and the bytes are with the objects: the next manager has both.
    world.cloud.kill_manager().await.unwrap();
    world.cloud.start_manager().unwrap();
    world.ready(PROVING.len()).await;
    until(&world, task, SOON, is_there).await;
    let shown = world.legation(&["task", "show", &name]).await.ended(0, &[]).out();
    assert!(shown.contains("there since "), "{shown}");
    world.legation(&["task", "receipt", &name, "--out", &receipt]).await.ended(0, &["with 1 proofs of execution"]);
    let verdict = read(&world, &receipt);
    // It is of the report, and of a program that this reader does not know: neither for nor against it.
    assert_eq!(verdict.executions[2].proof, Some(ProofState::NotJudged));
    assert_eq!(verdict.executions[2].assurance, Assurance::Attested);
    assert!(fs::read_dir(world.path("private")).unwrap().next().is_none(), "inputs are wiped");
}

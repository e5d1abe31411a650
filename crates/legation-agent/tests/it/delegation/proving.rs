//! Answers that are to be proven: given at once, and proven afterwards by a process of its own. The prover is a script that says
//! what the real one says; what it is told is what the real one reads.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use aws_lc_rs::hmac;
use legation_core::{
    Bytes, Rejection,
    delegation::session::PROOF_COST,
    encoding::{hex, unhex},
    prefer::Sensitivity,
    proven::{ExecutionJudge, ProofItem, Proving, check_item},
    statement::ExecutionProof,
};
use tempfile::TempDir;

use super::*;

const PROVEN: &str = "{\"assurance\":\"proven\",\"time_ms\":15000}";
const PROOF: &[u8] = b"a proof of it";
const TEXT: &[u8] = b"what only the enclaves may read";

/// A prover that does what its mode says, in a folder of its own.
struct Fake {
    folder: TempDir,
    program: Digest,
}

impl Fake {
    fn new(mode: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = Digest::of(b"verifying key");
        let program = Digest::of_parts(&[b"legation-program-v1", key.as_bytes(), &[0, 255]]);
        let pinned = format!(
            "{{\"version\":\"legation-program/v1\",\"openvm\":\"2.0.2\",\"wasmi\":\"2.0.0\",\"stacked_height\":24,\
             \"elf\":\"{key}\",\"commitment\":\"00ff\",\"key\":\"{key}\"}}"
        );
        let script = format!(
            r#"#!/bin/sh
here=$(dirname "$0")
command=$1
job=
out=
echo "$*" >> "$here/arguments"
while [ $# -gt 0 ]; do
  case $1 in
    --job) job=$2 ;;
    --out) out=$2 ;;
  esac
  shift
done
cp "$job" "$here/$command.json"
stat -c %a "$job" "$(dirname "$job")" > "$here/modes"
echo "$$" > "$here/pid"
estimate='"estimate":{{"instructions":756297,"segments":1,"rate":12500.0,"seconds":70.5}},"accepted":true'
case $command/$(cat "$here/mode") in
  estimate/dear)
    echo '{{"estimate":{{"instructions":900000000,"seconds":72010.0}},"accepted":false,"refused":"too much"}}'
    exit 4 ;;
  estimate/slow-count) exec sleep 600 ;;
  estimate/broken) echo '{{"error":"no keys"}}'; exit 1 ;;
  estimate/*) echo "{{$estimate}}" ;;
  prove/fails) echo '{{"error":"the proof system failed"}}'; exit 1 ;;
  prove/garbage) echo 'a word' ;;
  prove/floods) exec head -c 200000 /dev/zero ;;
  prove/nothing) echo "{{$estimate,\"program\":\"{program}\"}}" ;;
  prove/other) echo "{{$estimate,\"program\":\"{key}\"}}" ;;
  prove/stuck) exec sleep 600 ;;
  prove/*)
    echo 'legation-prover: proof: 32 s of about 71 s' >&2
    while [ ! -e "$here/go" ]; do sleep 0.05; done
    printf '%s' '{proof}' > "$out"
    echo "{{$estimate,\"program\":\"{program}\",\"size\":13}}" ;;
esac
"#,
            proof = String::from_utf8_lossy(PROOF),
        );
        let fake = Self { folder, program };
        for (name, text) in [("mode", mode), ("guest.elf", "elf"), ("PINNED.json", &pinned), ("prover", &script)] {
            fs::write(fake.path(name), text).unwrap();
        }
        fs::create_dir(fake.path("keys")).unwrap();
        fs::set_permissions(fake.path("prover"), fs::Permissions::from_mode(0o755)).unwrap();
        fake
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> ProverConfig {
        ProverConfig {
            program: self.path("prover"),
            guest: self.path("guest.elf"),
            pinned: self.path("PINNED.json"),
            keys: self.path("keys"),
            folder: self.path("private"),
            memory: Bytes::mib(16),
            instructions: 20_000_000,
            longest: Duration::from_secs(60),
            estimate: Duration::from_secs(30),
        }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Waits until a command of it runs.
    async fn runs(&self, command: &str) {
        self.until(|| self.path(&format!("{command}.json")).exists() && self.path("pid").exists()).await;
    }

    /// Waits until nothing of it is left: no process, no file with an input.
    async fn gone(&self) {
        let alive = || {
            let process = Path::new("/proc").join(self.read("pid").trim());
            // One that is dead and not yet waited for has no command line.
            !fs::read(process.join("cmdline")).unwrap_or_default().is_empty()
        };
        let empty = || fs::read_dir(self.path("private")).unwrap().next().is_none();
        self.until(|| !alive() && empty()).await;
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        for _ in 0..600 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{:?}", fs::read_dir(self.folder.path()).unwrap().collect::<Vec<_>>());
    }
}

/// Finds every proof good that is this one.
struct Knows(Digest);

impl ExecutionJudge for Knows {
    fn judge(&self, program: &Digest, _: &Digest, proof: &[u8]) -> Result<(), Rejection> {
        match *program == self.0 && proof == PROOF {
            true => Ok(()),
            false => Err(Rejection::new("proof.wrong", "the proof")),
        }
    }
}

async fn world(fake: &Fake, others: u8) -> World {
    let mut world = World::of(others, Some(&fake.config())).await;
    world.data.sensitivity = Sensitivity::Internal;
    world
}

/// Has the module of a fragment ask for an answer that is proven, and lends it the first of the others.
async fn asked(world: &mut World, options: &str) -> (Asking, Signed<Allocation>) {
    let asking = world.ask(&caller(options), &echo_after(1), 1, TEXT, Assurance::Attested).await;
    let (ask, terms) = world.wish().await;
    assert!(terms.proven, "a loan that proves nothing is of no use");
    let (told, lent) = world.loan(&asking, 0, &terms);
    world.others[0].1.say(&ToAgent::Lend(Box::new(lent))).await;
    let allocation = told.allocation.clone();
    world.asker.say(&ToAgent::Lent { ask: Some(ask), loan: Box::new(told) }).await;
    (asking, allocation)
}

/// The next that the first of the others says of proofs.
async fn hears(world: &mut World) -> ToManager {
    let (manager, other) = (&mut world.manager, &mut world.others[0].1);
    other.next(manager).await
}

async fn offered(world: &mut World) -> (Box<Signed<ExecutionProof>>, bool) {
    loop {
        match hears(world).await {
            ToManager::Proved { statement, stored, .. } => return (statement, stored),
            ToManager::Proving { .. } => {}
            other => panic!("expected a proof, got {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_attested_at_once_and_its_proof_follows() {
    let fake = Fake::new("good");
    let mut world = world(&fake, 1).await;
    let said = world.passport(0).configuration.prover.unwrap();
    assert_eq!((said.program, said.instructions), (fake.program, 20_000_000), "measured into its evidence");
    let (asking, _) = asked(&mut world, PROVEN).await;
    let reported = world.report(&asking).await;
    assert_eq!(open(&world.manager, &reported).0.as_deref(), Some(TEXT));
    world.receipt(&asking, &reported).unwrap();
    let (calls, answers) = (attached::<Call>(&reported), attached::<Report>(&reported));
    assert_eq!(calls[0].assurance, Assurance::Proven);

    // It is told how far it is, while it is made.
    loop {
        match hears(&mut world).await {
            ToManager::Proving { report, done, seconds_left, task: of } => {
                assert_eq!((report, of), (answers[0].digest(), task(&asking.request)));
                if (done, seconds_left) == (450, 39) {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    // The prover reads what is claimed, keys that commit, and the input; nobody else does, and none of it is in its arguments.
    let job: serde_json::Value = serde_json::from_str(&fake.read("prove.json")).unwrap();
    let key = unhex(job["inputs"][0]["key"].as_str().unwrap()).unwrap();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), TEXT);
    assert_eq!(job["claim"]["inputs"][0], hex(tag.as_ref()));
    let key = unhex(job["output_key"].as_str().unwrap()).unwrap();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), TEXT);
    assert_eq!(job["claim"]["output"], hex(tag.as_ref()));
    assert_eq!(fake.read("modes"), "600\n700\n");
    let arguments = fake.read("arguments");
    assert!(!arguments.contains(&hex(&key)) && !arguments.contains("what only"), "{arguments}");
    assert!(arguments.lines().any(|line| line.starts_with("estimate ") && line.contains(" --before")), "{arguments}");

    fs::write(fake.path("go"), b"").unwrap();
    let (statement, stored) = offered(&mut world).await;
    assert!(!stored, "bytes that nobody wants are not sent");
    fake.gone().await;
    world.others[0].0.sees(|s| matches!(s, Status::Proved { .. })).await;
    // A manager that has not heard of the answer yet is told again; one that wants it is given it.
    let report = statement.report;
    let unknown = Rejection::new("proof.unknown", "the report");
    world.others[0].1.say(&ToAgent::ProofRefused { report, why: unknown }).await;
    let (again, stored) = offered(&mut world).await;
    assert_eq!((again.digest(), stored), (statement.digest(), false));
    world.others[0].1.say(&ToAgent::ProofWanted { report }).await;
    let mut sent = false;
    while !sent || !world.manager.objects.contains_key(&statement.proof) {
        sent |= offered(&mut world).await.1;
    }
    assert_eq!(world.manager.objects[&statement.proof], PROOF);
    let item = ProofItem { statement: statement.envelope().clone(), proof: PROOF.to_vec() };
    let proving = Proving { report: &answers[0], args: &calls[0].args, clock: asking.request.created };
    check_item(&item, &proving, &Knows(fake.program)).unwrap();
    world.others[0].1.say(&ToAgent::ProofTaken { report }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_much_is_refused_with_the_figures_before_it_runs() {
    let fake = Fake::new("dear");
    let mut world = world(&fake, 1).await;
    let (asking, _) = asked(&mut world, PROVEN).await;
    // Another may have more room for it; where there is none, that is what the module hears.
    let (ask, terms) = world.wish().await;
    assert!(terms.proven && terms.exclude.contains(&world.passport(0).enclave_id()), "{terms:?}");
    let why = Rejection::new("loan.capacity", "enclaves that could be lent now");
    world.asker.say(&ToAgent::LoanRefused { ask, why }).await;
    let reported = world.report(&asking).await;
    let log = open(&world.manager, &reported).1.unwrap();
    for said in [PROOF_COST, "900000000 instructions, about 72010 s: too much", "at most 20000000 instructions"] {
        assert!(log.contains(said), "{said}: {log}");
    }
    assert!(matches!(reported.report.outcome, Outcome::Failed { .. }));
    assert!(attached::<Report>(&reported).is_empty() && fake.read("prove.json").is_empty());
    fake.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_proven_stays_attested_and_says_why() {
    for (mode, why) in [
        ("fails", "the proof system failed"),
        ("garbage", "the prover ended with Some(0)"),
        ("floods", "an answer of more than"),
        ("nothing", "proof.failed"),
        ("other", "one of program"),
    ] {
        let fake = Fake::new(mode);
        let mut world = world(&fake, 1).await;
        let (asking, _) = asked(&mut world, PROVEN).await;
        let reported = world.report(&asking).await;
        assert_eq!(open(&world.manager, &reported).0.as_deref(), Some(TEXT), "{mode}");
        let answer = attached::<Report>(&reported)[0].digest();
        loop {
            match hears(&mut world).await {
                ToManager::Unproved { report, why: said, .. } => {
                    assert_eq!(report, answer);
                    assert!(said.to_string().contains(why), "{mode}: {said}");
                    break;
                }
                ToManager::Proving { .. } => {}
                other => panic!("{mode}: {other:?}"),
            }
        }
        world.others[0].1.say(&ToAgent::ProofTaken { report: answer }).await;
        fake.gone().await;
    }
    // A prover that cannot even count is found out before anybody relies on it.
    let fake = Fake::new("broken");
    let mut world = world(&fake, 1).await;
    let (asking, loan) = asked(&mut world, PROVEN).await;
    assert!(world.given_back(loan.lease).await.is_some());
    let (_, terms) = world.wish().await;
    assert!(terms.exclude.contains(&loan.enclave));
    drop(asking);
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_ends_with_the_call_and_proving_with_the_agent() {
    let fake = Fake::new("slow-count");
    let mut first = world(&fake, 1).await;
    let (_asking, loan) = asked(&mut first, PROVEN).await;
    // The manager gives the module meanwhile.
    first.asker.serves(&mut first.manager, fake.runs("estimate")).await;
    let over = ToAgent::LoanEnded { loan: loan.lease, why: "it was given back".to_owned() };
    first.others[0].1.say(&over).await;
    fake.gone().await;

    let fake = Fake::new("stuck");
    let mut second = world(&fake, 1).await;
    let (asking, loan) = asked(&mut second, PROVEN).await;
    second.report(&asking).await;
    fake.runs("prove").await;
    // The loan is over: its proof goes on.
    second.others[0].1.say(&ToAgent::LoanEnded { loan: loan.lease, why: String::new() }).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(fs::read_dir(fake.path("private")).unwrap().next().is_some());
    second.others[0].0.shutdown.now();
    fake.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_of_what_rests_on_something_revoked_is_given_up() {
    let fake = Fake::new("stuck");
    let mut world = world(&fake, 1).await;
    let (asking, _) = asked(&mut world, PROVEN).await;
    let reported = world.report(&asking).await;
    fake.runs("prove").await;
    let grant = attached::<Grant>(&reported)[0].digest();
    let list = crate::session::revoked(&world.manager, 1, &[legation_core::Revocable::Grant(grant)]);
    world.others[0].1.say(&list).await;
    loop {
        match hears(&mut world).await {
            ToManager::Unproved { why, .. } => {
                assert!(why.check.starts_with("revo"), "{why}");
                break;
            }
            ToManager::Proving { .. } | ToManager::Heeded { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    fake.gone().await;
}

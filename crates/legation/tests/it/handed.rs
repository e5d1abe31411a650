//! Work that is handed on, by real processes: through four enclaves of three providers, at the end to three replicas of which one lies,
//! and to one enclave whose answer is proven; and what everybody who reads its receipt says of that.

use std::{collections::BTreeSet, fs, io::ErrorKind, process::Stdio, time::Duration};

use legation::{
    setup::AgentPlan,
    verify::{Answer, verify},
};
use legation_core::{
    Bytes, Digest, EnclaveId, Fuel, Millicores, ProviderId, Receipt, Region,
    claims::Capacity,
    proven::ProofState,
    receipt::{Execution, Verdict},
    statement::{Assurance, Diversity, Grant, Outcome, Report},
};
use tokio::process::Command;

use self::proven::Proving;
use crate::{
    liar::{LIE, Liar},
    world::{SOON, World, finish_within, guest, program, repository, spawn},
};

mod proven;

/// Agents: name, provider, region, dollars for a core an hour. The fragment goes to the cheapest; each hop names the provider of
/// the next; for the replicas each provider has one chip left, of which one is a liar's; the leg that is proven names its region.
const AGENTS: [(&str, &str, &str, &str); 8] = [
    ("aurora-1", "aurora", "eu-north", "0.03"),
    ("boreal-1", "boreal", "eu-central", "0.03"),
    ("boreal-2", "boreal", "eu-central", "0.03"),
    ("cumulus-1", "cumulus", "us-east", "0.003"),
    ("cumulus-2", "cumulus", "us-east", "0.003"),
    ("cumulus-3", "cumulus", "us-east", "0.003"),
    (PROVER, "cumulus", "us-west", "0.5"),
    (LIAR, "aurora", "eu-west", "0.3"),
];
const LIAR: &str = "mallory";
/// It proves, too.
const PROVER: &str = "cumulus-4";
/// First of the ports on which agents take each other's channels.
const PORT: u16 = 24_470;
const TEXT: &str = "a text that passes through every hand\n";

fn plan((name, provider, region, core_hour_usd): (&str, &str, &str, &'static str)) -> AgentPlan {
    AgentPlan {
        name: name.to_owned(),
        provider: ProviderId::new(provider).unwrap(),
        region: Region::new(region).unwrap(),
        capacity: Capacity { cpu: Millicores(1000), memory: Bytes::mib(512), slots: 4 },
        core_hour_usd,
        gib_hour_usd: "0.001",
        lent: false,
    }
}

/// A deployment of these agents whose manager runs; each agent can be lent once it does, at an address that is given.
fn world(agents: &[(&str, &str, &str, &'static str)]) -> (World, Vec<String>) {
    let plans: Vec<_> = agents.iter().copied().map(plan).collect();
    let mut world = World::planned(&plans);
    let ip = world.deployment().addresses.agents.ip();
    let mut addresses = Vec::new();
    for ((name, ..), port) in agents.iter().zip(PORT..) {
        let address = format!("{ip}:{port}");
        world.agent_config(name, |table| {
            table.insert("listen".into(), address.clone().into());
            table.insert("advertise".into(), address.clone().into());
        });
        addresses.push(address);
    }
    world.cloud.start_manager().unwrap();
    (world, addresses)
}

/// Digest of a committed guest module.
fn module(name: &str) -> Digest {
    Digest::of(&fs::read(guest(name)).unwrap())
}

/// What an independent checker of receipts says of one: its exit code and its words; nothing where it cannot run here, which is said.
async fn checker(command: &[&str], receipt: &str, anchors: &str) -> Option<(Option<i32>, String)> {
    let [tool, args @ ..] = command else { panic!("no command") };
    let mut process = Command::new(tool);
    process.args(args).args([receipt, anchors]).current_dir(repository(".")).stdin(Stdio::null()).kill_on_drop(true);
    let ended = match tokio::time::timeout(SOON, process.output()).await.expect("it did not end in time") {
        Ok(ended) => ended,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("SKIPPED: {tool} is not here");
            return None;
        }
        Err(error) => panic!("{tool}: {error}"),
    };
    let said = [ended.stdout, ended.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if ended.status.code() == Some(2) && said.contains(": needs ") {
        eprintln!("SKIPPED: {said}");
        return None;
    }
    Some((ended.status.code(), said))
}

/// Fails the test unless everybody who can check the receipt finds it valid, and a changed one not.
async fn everybody_agrees(world: &World, receipt: &str) {
    let changed = world.path("changed.json");
    let mut bytes = fs::read(receipt).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
    fs::write(&changed, bytes).unwrap();
    everybody_says(world, receipt, true).await;
    everybody_says(world, &changed, false).await;
}

/// Fails the test unless everybody who can check receipts finds this file valid, or everybody invalid.
async fn everybody_says(world: &World, file: &str, valid: bool) {
    let anchors = world.path("anchors.json");
    let code = |invalid: i32| if valid { 0 } else { invalid };
    // Offline: with the anchors, and no home.
    let elsewhere = tempfile::tempdir().unwrap();
    let args = ["receipt", "verify", file, "--anchors", anchors.as_str()];
    program(elsewhere.path(), None, &args).await.ended(code(6), &[]);
    let by_hand = repository("docs/check-receipt.sh");
    let by_hand = [by_hand.to_str().unwrap()];
    for (command, invalid) in [(&by_hand[..], 1), (&["node", "web/receipt/check.mjs"][..], 6)] {
        if let Some((ended, said)) = checker(command, file, &anchors).await {
            assert_eq!(ended, Some(code(invalid)), "{command:?} of {file}:\n{said}");
        }
    }
}

/// The one execution that disagreed with the majority: its report, by the report that used it.
fn dissenter(verdict: &Verdict) -> (&Execution, Digest) {
    let dissenting = |ran: &&Execution| ran.call.is_some_and(|call| call.dissents);
    let found: Vec<_> = verdict.executions.iter().filter(dissenting).collect();
    let [one] = found.as_slice() else { panic!("{found:#?}") };
    (*one, one.call.unwrap().used_by)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_four_ends_in_a_vote_against_a_liar_and_in_a_proof_and_all_of_it_is_shown() {
    let (mut world, addresses) = world(&AGENTS);
    let proving = Proving::here(&mut world, PROVER);
    for (name, ..) in AGENTS.iter().filter(|(name, ..)| *name != LIAR) {
        world.cloud.start_agent(name).unwrap();
    }
    let liar = Liar::start(&world, LIAR, addresses.last().unwrap()).await;
    world.ready(AGENTS.len()).await;

    let (relay, echo) = (module("relay"), module("echo"));
    let hop = |seconds: u32, require: &str| {
        format!("{relay}:\"fuel\":100000000,\"time_ms\":{},\"require\":\"{require}\"", seconds * 1000)
    };
    let replicas =
        "\"assurance\":{\"replicated\":{\"k\":3,\"diverse\":\"provider\"}},\"require\":\"region != us-west\"";
    let proven = "\"assurance\":\"proven\",\"require\":\"region == us-west\"";
    let hops = [
        hop(200, "provider == boreal"),
        hop(160, "provider == aurora and region == eu-north"),
        hop(120, "provider == cumulus and region == us-east"),
        format!("{echo}:\"fuel\":100000000,\"time_ms\":10000,{replicas}"),
        "+".to_owned(),
        format!("{echo}:\"fuel\":100000000,\"time_ms\":60000,{proven}"),
    ];
    let (input, receipt) = (world.file("input", TEXT), world.path("receipt.json"));
    let (code, modules) = (guest("relay"), format!("{},{}", guest("relay"), guest("echo")));
    let mut args = vec!["run", &code, "--input", &input, "--receipt", &receipt, "--cpu", "200", "--time", "240"];
    args.extend([
        "--budget",
        "1",
        "--sensitivity",
        "internal",
        "--delegate",
        modules.as_str(),
        "--delegate-depth",
        "4",
        "--",
    ]);
    args.extend(hops.iter().map(String::as_str));
    // A real prover counts what its leg takes before that runs.
    let run = spawn(&world.root, Some(&world.deployment().client), &args);
    let ran = finish_within(run, Duration::from_secs(240)).await.ended(0, &[]);
    assert_eq!(ran.out(), TEXT.repeat(2), "what most of the replicas said, and the other leg, back through every hand");

    // Eight executions, each on a chip of its own, in the tree that was asked for.
    let text = fs::read(&receipt).unwrap();
    let anchors = world.home().anchors;
    let Answer::Valid(verdict) = verify(&text, &anchors, None).unwrap() else { panic!("the receipt is not valid") };
    assert!(verdict.completed);
    let all = &verdict.executions;
    assert_eq!(all.iter().map(|ran| ran.depth).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 4, 4, 4]);
    let providers: Vec<_> = all.iter().map(|ran| ran.provider.to_string()).collect();
    assert_eq!(providers[..4], ["cumulus", "boreal", "aurora", "cumulus"]);
    assert_eq!(all.iter().map(|ran| ran.enclave).collect::<BTreeSet<_>>().len(), 8);
    assert!(all.iter().all(|ran| ran.outcome == Outcome::Completed && ran.fuel > Fuel::ZERO));
    assert!(all[..4].iter().all(|ran| ran.module == relay) && all[4..].iter().all(|ran| ran.module == echo));
    for (below, above) in [(1, 0), (2, 1), (3, 2), (4, 3), (5, 3), (6, 3), (7, 3)] {
        assert_eq!(all[below].call.unwrap().used_by, all[above].report, "execution {below}");
    }
    let three = Assurance::Replicated { k: 3, diverse: Diversity::Provider };
    let (replicas, others): (Vec<_>, Vec<_>) = all[4..].iter().partition(|ran| ran.assurance == three);
    let voted: BTreeSet<_> = replicas.iter().map(|ran| ran.provider.to_string()).collect();
    assert!(replicas.len() == 3 && voted.len() == 3, "{voted:?}");
    // The leg that is to be proven is attested so far.
    let [leg] = others.as_slice() else { panic!("{others:#?}") };
    assert_eq!((leg.assurance, leg.proof), (Assurance::Attested, Some(ProofState::Awaited)));
    assert_eq!(leg.enclave, world.enclave(PROVER).await);

    // The one that lied is named, by the report of whoever asked; the others said the same.
    let (lied, used_by) = dissenter(&verdict);
    assert_eq!((lied.enclave, used_by), (liar, all[3].report));
    assert_eq!(lied.output.unwrap().size.0, LIE.len() as u64);
    let honest: BTreeSet<_> = replicas.iter().filter(|ran| ran.enclave != liar).map(|ran| ran.output).collect();
    assert!(honest.len() == 1 && !honest.contains(&lied.output));
    let read = Receipt::from_text(&text).unwrap();
    let report = read.envelopes.iter().find(|envelope| envelope.digest() == used_by).unwrap();
    assert_eq!(report.peek::<Report>().unwrap().dissent, [lied.report]);
    // Each enclave that handed something on has signed what it passed on, and nobody passed on more.
    let mut depths: Vec<_> = read.envelopes.iter().filter_map(|e| e.peek::<Grant>().ok()).map(|g| g.depth).collect();
    depths.sort_unstable();
    assert_eq!(depths, [0, 0, 0, 0, 1, 2, 3, 4]);

    // Whoever asked does not trust it any more, and gave it back.
    let asked = name_of(&world, all[3].enclave).await;
    let loan = format!("loan={} ", lied.lease);
    world.logs(asked, &["a delegate is not trusted any more", &loan, "delegator.dissent"], SOON).await;
    let view = world.task(verdict.task).await;
    let loans: Vec<_> = view.loans.iter().map(|loan| (loan.depth, loan.enclave)).collect();
    assert!(all[1..].iter().all(|ran| loans.contains(&(ran.depth, ran.enclave))), "{loans:?}");
    assert!(view.loans.iter().all(|loan| loan.ended.is_some() && loan.charged.is_some()), "{:?}", view.loans);
    assert_eq!(world.client().pool().await.unwrap().leases, 0);

    // People see it at once.
    let shown = world.legation(&["receipt", "verify", &receipt]).await.ended(0, &[]).out();
    assert_eq!(shown.matches("DISSENTS: answer ").count(), 1, "{shown}");
    everybody_agrees(&world, &receipt).await;
    // Without the dissenter's answer there is no receipt: a vote cannot be made to look unanimous.
    let mut less = read;
    less.envelopes.retain(|envelope| envelope.digest() != lied.report);
    let judged = verify(less.to_text().as_bytes(), &anchors, None).unwrap();
    assert!(matches!(judged, Answer::Invalid { .. }));

    // The proof follows, and the receipt that is written anew says more.
    proving.done(&world, verdict.task, &receipt).await;
    // Proofs are not judged by hand, nor in the page: what they say of the rest is the same.
    everybody_says(&world, &receipt, true).await;
}

/// Which agent an enclave is.
async fn name_of(world: &World, enclave: EnclaveId) -> &'static str {
    for (name, ..) in AGENTS {
        // The liar's chip has an enclave, too.
        if world.enclave(name).await == enclave {
            return name;
        }
    }
    panic!("{enclave} is none of the agents");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_ends_where_the_grants_do() {
    let (mut world, _) = world(&AGENTS[..3]);
    for (name, ..) in &AGENTS[..3] {
        world.cloud.start_agent(name).unwrap();
    }
    world.ready(3).await;
    let (relay, echo) = (module("relay"), module("echo"));
    let (first, second) = (format!("{relay}:\"fuel\":100000000"), echo.to_string());
    let (input, receipt) = (world.file("input", TEXT), world.path("receipt.json"));
    let (code, modules) = (guest("relay"), format!("{},{}", guest("relay"), guest("echo")));
    let run = |depth: &'static str| {
        let mut args = vec!["run", code.as_str(), "--input", input.as_str(), "--receipt", receipt.as_str()];
        args.extend(["--cpu", "200", "--time", "60", "--delegate", modules.as_str(), "--delegate-depth", depth]);
        args.extend(["--", first.as_str(), second.as_str()]);
        args
    };
    // The enclave that was asked may ask nobody: it says so, and the module fails with that.
    let ran = world.legation(&run("1")).await.ended(8, &["failed: fragment #0", "exit-1"]);
    assert!(ran.stdout.is_empty());
    let task = world.client().tasks(None).await.unwrap().tasks[0].task.to_string();
    let log = world.legation(&["task", "logs", &task]).await.ended(0, &[]).out();
    assert!(log.contains("relay: error -12"), "{log}");
    // A failure is proved like a success: the answer that failed is in the receipt.
    let anchors = world.home().anchors;
    let Answer::Valid(verdict) = verify(&fs::read(&receipt).unwrap(), &anchors, None).unwrap() else {
        panic!("invalid")
    };
    assert!(!verdict.completed);
    let ended: Vec<_> = verdict.executions.iter().map(|ran| (ran.depth, ran.outcome.clone())).collect();
    let failed = || Outcome::Failed { reason: "exit-1".to_owned() };
    assert_eq!(ended, [(0, failed()), (1, failed())]);
    // One level more, and it goes through.
    let ran = world.legation(&run("2")).await.ended(0, &[]);
    assert_eq!(ran.out(), TEXT);
    everybody_agrees(&world, &receipt).await;
}

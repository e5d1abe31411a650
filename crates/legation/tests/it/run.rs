//! `legation run`: bytes in, bytes out, a receipt; and what it says when that cannot be.

use std::{sync::Arc, time::Duration};

use legation_pool::TaskState;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::Child,
    sync::Notify,
    time::timeout,
};

use crate::{
    slow,
    world::{SOON, World, edit, eventually, finish, guest, program, signal, spawn},
};

/// A module without imports that loops for ever.
const SPINS: &str = r#"(module (func (export "_start") (loop (br 0))))"#;

fn wasm(world: &World, name: &str, wat: &str) -> String {
    world.file(name, wat::parse_str(wat).unwrap())
}

#[tokio::test]
async fn results_come_back_as_the_module_wrote_them() {
    let world = World::started(&["aurora", "boreal"]).await;
    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let (bytes, out, receipt) = (world.file("bytes", &every_byte), world.path("out"), world.path("receipt.json"));

    let args = ["run", &guest("echo"), "--input", &bytes, "--receipt", &receipt, "--out", &out];
    let ran = world.legation(&args).await.ended(0, &[]);
    assert_eq!(std::fs::read(&out).unwrap(), every_byte);
    assert!(ran.out().contains("#0 bytes") && ran.out().contains("done"), "{}", ran.out());
    world.legation(&["receipt", "verify", &receipt]).await.ended(0, &[]);

    // Without --out, standard output is the result and nothing else.
    let ran = world.legation(&["run", &guest("echo"), "-i", &bytes]).await.ended(0, &["#0 bytes"]);
    assert_eq!(ran.stdout, every_byte);
    let ran = world.legation(&["-o", "json", "run", &guest("echo"), "-i", &bytes, "--out", &out]).await.ended(0, &[]);
    assert_eq!(ran.json()["state"]["kind"], "completed");

    // Nothing in, nothing out; and nothing to grant, so the work goes out at once.
    let ran = world.legation(&["run", &guest("noop"), "--receipt", &receipt]).await.ended(0, &[]);
    assert!(ran.stdout.is_empty());
    world.legation(&["receipt", "verify", &receipt]).await.ended(0, &[]);
    let empty = world.file("empty", "");
    let ran = world.legation(&["run", &guest("echo"), "--input", &empty]).await.ended(0, &[]);
    assert!(ran.stdout.is_empty());

    // Several inputs are several fragments; each result has a file.
    let (first, second) = (world.file("first", "one\n"), world.file("second", "two\n"));
    world.legation(&["run", &guest("echo"), "-i", &first, &second, "--out", &out]).await.ended(0, &[]);
    for (i, text) in ["one\n", "two\n"].iter().enumerate() {
        assert_eq!(std::fs::read_to_string(format!("{out}-{i}")).unwrap(), *text);
    }

    // What fragments wrote goes through one more module, in order.
    let (first, second) = (world.file("first", "a,y\n1,2\n3,4\n"), world.file("second", "a,y\n5,6\n"));
    let ran = world
        .legation(&[
            "run",
            &guest("train"),
            "--input",
            &first,
            &second,
            "--reduce",
            &guest("reduce"),
            "--receipt",
            &receipt,
            "--",
            "epochs=2",
            "rate=0.01",
            "l2=0.5",
        ])
        .await
        .ended(0, &["#2 reduce"]);
    assert!(ran.out().starts_with("legation-linear 1\ntarget y\nrows 3\nfeatures 1\n"), "{}", ran.out());
    let shown = world.legation(&["receipt", "show", &receipt]).await.ended(0, &[]).out();
    assert_eq!(shown.matches("aggregate").count(), 1, "{shown}");
}

#[tokio::test]
async fn what_cannot_start_says_what_to_mend() {
    let world = World::new(&["aurora"]);
    let (echo, here) = (guest("echo"), world.file("here", "x"));
    // Nothing listens: a command gives up after a moment, and says where it looked.
    for args in [vec!["pool", "show"], vec!["run", &echo, "-i", &here]] {
        let home = world.home();
        world.legation(&args).await.ended(7, &["cannot be reached", &home.config.api, "is it running?"]);
    }
    let usage: [(&[&str], &[&str]); 10] = [
        (&["--require", "region = \"eu-north\""], &["requirement is not understood", "column 8"]),
        (&["--require", "price <= 0.02"], &["requirement is not understood", "column"]),
        (&["--require", "colour == \"red\""], &["column 1", "colour"]),
        (&["--budget", "ten"], &["an amount", "dollars, such as 0.05", "ten"]),
        (&["--budget", "0.0000001"], &["an amount", "0.0000001"]),
        (&["--input", "nowhere"], &["cannot read nowhere"]),
        (&["--reduce", "nowhere"], &["cannot read nowhere"]),
        (&["--fuel", "much"], &["--fuel", "much"]),
        (&["--memory", "18446744073709551615"], &["--memory"]),
        (&["--no-such"], &["--no-such"]),
    ];
    for (args, said) in usage {
        let args: Vec<&str> = ["run", &echo].iter().chain(args).copied().collect();
        world.legation(&args).await.ended(2, said);
    }
    world.legation(&["run", "nowhere.wasm"]).await.ended(2, &["cannot read nowhere.wasm"]);

    // A home that is none, or not quite one.
    let elsewhere = tempfile::tempdir().unwrap();
    program(elsewhere.path(), None, &["task", "list"]).await.ended(2, &["client.toml", "LEGATION_HOME"]);
    let toml = world.deployment().client.join("client.toml");
    let good = std::fs::read_to_string(&toml).unwrap();
    for (from, to, said) in [
        ("tenant =", "colour = \"red\"\ntenant =", "unknown field `colour`"),
        ("tenant =", "# tenant =", "missing field `tenant`"),
        ("api =", "api =\n", "client.toml"),
    ] {
        std::fs::write(&toml, good.replace(from, to)).unwrap();
        world.legation(&["pool", "show"]).await.ended(2, &["client.toml", said]);
    }
    let elsewhere = world.file("elsewhere.toml", good);
    std::fs::copy(elsewhere, &toml).unwrap();
    std::fs::write(world.deployment().client.join("identity.key"), "not a key").unwrap();
    world.legation(&["run", &echo]).await.ended(2, &["identity.key"]);
    // No secret of a file that is wrong is shown.
    let token = world.home().config.token;
    std::fs::write(&toml, format!("token = \"{token}\"\ntoken = 5\n")).unwrap();
    let ran = world.legation(&["pool", "show"]).await.ended(2, &["client.toml"]);
    assert!(!ran.stderr.contains(&token), "the token is shown: {}", ran.stderr);
}

#[tokio::test]
async fn a_task_that_fails_in_its_module_says_how() {
    let world = World::started(&["aurora"]).await;
    let not_csv = world.file("rows", "an input that is no CSV");
    let trap = r#"(module (func $deep unreachable) (func (export "_start") (call $deep)))"#;
    let grows = r#"(module (memory 1) (func (export "_start") (drop (memory.grow (i32.const 1600)))))"#;
    let spins = wasm(&world, "spins.wasm", SPINS);
    let exits = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32))) (memory (export "memory") 1)
        (func (export "_start") (call $exit (i32.const 7))))"#;
    let asks = r#"(module (import "env" "secret" (func)) (func (export "_start")))"#;
    let train = guest("train");
    // Arguments, the reason in the task, what its log says.
    let table: Vec<(Vec<&str>, &str, &str)> = vec![
        (vec![&train, "-i", &not_csv, "--", "epochs=2", "rate=0.1", "l2=0"], "exit-2", "train: rows: line 1, column 1"),
        (vec![&train, "-i", &not_csv, "--", "epochs=2"], "exit-2", "train: argument rate= is missing"),
        (vec!["exits.wasm"], "exit-7", "7"),
        (vec!["trap.wasm"], "trap", "unreachable"),
        (vec!["not.wasm"], "malformed-module", "legation: "),
        (vec!["asks.wasm"], "malformed-module", "secret"),
        (vec![&spins, "--fuel", "1"], "out-of-fuel", "out of fuel"),
        (vec![&spins, "--fuel", "1000000000", "--time", "1"], "deadline", "deadline passed"),
        (vec!["grows.wasm", "--memory", "16"], "out-of-memory", "16 MiB"),
    ];
    wasm(&world, "exits.wasm", exits);
    wasm(&world, "trap.wasm", trap);
    wasm(&world, "asks.wasm", asks);
    wasm(&world, "grows.wasm", grows);
    world.file("not.wasm", "not a module");
    let receipt = world.path("receipt.json");
    for (args, reason, log) in &table {
        let args: Vec<&str> = ["run", "--receipt", &receipt].iter().chain(args).copied().collect();
        let ran = world.legation(&args).await.ended(8, &["failed: fragment #0", reason, "legation task logs"]);
        assert!(ran.stdout.is_empty(), "{ran:?}");
        // The command that it names, as a person would type it.
        let task = ran.stderr.split("legation task logs ").nth(1).unwrap().split('`').next().unwrap();
        let shown = world.legation(&["task", "show", task, "--output", "json"]).await.ended(0, &[]).json();
        assert_eq!(shown["state"]["kind"], "failed");
        assert!(shown["state"]["reason"].as_str().unwrap().ends_with(reason), "{args:?}: {shown}");
        let logs = world.legation(&["task", "logs", task]).await.ended(0, &[]).out();
        assert!(logs.starts_with("--- #0 `") && logs.contains(log), "{args:?}: {logs}");
        // A failure has evidence too.
        let verified = world.legation(&["receipt", "verify", &receipt]).await.ended(0, &[]).out();
        assert!(verified.contains(&format!("task {task} failed")), "{args:?}: {verified}");
    }
    // The enclave is none the worse for it.
    world.legation(&["run", &guest("echo"), "-i", &not_csv]).await.ended(0, &[]);
    let list = world.legation(&["task", "list"]).await.ended(0, &[]).out();
    assert_eq!(list.lines().filter(|l| l.contains("failed")).count(), table.len(), "{list}");
}

#[tokio::test]
async fn without_an_enclave_in_time_there_are_reasons() {
    let world = World::started(&["aurora", "boreal"]).await;
    let echo = guest("echo");
    let table: [(&[&str], [&str; 2]); 3] = [
        (&["--require", "region == \"us-east\""], ["require.region", "eu-north"]),
        (&["--require", "tee in [sev-snp]"], ["require.tee", "dev-snp"]),
        (&["--memory", "4096"], ["pool.capacity", "512 MiB"]),
    ];
    // All at once: each waits until its time is over.
    let runs = table.iter().map(|(args, _)| {
        let args: Vec<&str> = ["run", &echo, "--timeout", "2"].iter().chain(*args).copied().collect();
        let child = spawn(&world.root, Some(&world.deployment().client), &args);
        finish(child)
    });
    let runs: Vec<_> = runs.map(tokio::spawn).collect();
    for (run, (args, reasons)) in runs.into_iter().zip(&table) {
        let ran = run.await.unwrap().ended(5, &["1 fragments found no enclave", "see `legation explain "]);
        // The command that it names, as a person would type it.
        let task = ran.stderr.split("legation explain ").nth(1).unwrap().split('`').next().unwrap().to_owned();
        let explained = world.legation(&["explain", &task]).await.ended(0, &[]).out();
        for word in reasons.iter().chain(&["aurora", "boreal", "eu-central"]) {
            assert!(explained.contains(word), "{args:?}: no `{word}` in\n{explained}");
        }
        let json = world.legation(&["explain", &task, "--output", "json"]).await.ended(0, &[]).json();
        let classes = json[0]["classes"].as_array().unwrap();
        let checks: Vec<_> = classes.iter().map(|class| &class["why_not"][0]["why"]["check"]).collect();
        assert_eq!(checks, [reasons[0]; 2], "{args:?}");
        // What it says would do, does.
        let instead = json[0]["relaxations"].as_array().unwrap();
        assert!(!instead.is_empty() && instead.iter().all(|r| r["enclaves"].as_u64() >= Some(1)), "{args:?}: {json}");
    }
    // What no enclave ever was cheap enough for is not waited for.
    let args = ["run", &echo, "--budget", "0.000001", "--time", "3000"];
    world.legation(&args).await.ended(3, &["request.budget", "0.000001 usd", "raise the budget"]);
}

/// A door to the manager that lets everything through but a submission, which waits for `open`.
async fn door(manager: String, (asked, open): (Arc<Notify>, Arc<Notify>)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (manager, asked, open) = (TcpStream::connect(&manager).await.unwrap(), asked.clone(), open.clone());
            tokio::spawn(async move {
                let ((mut from, mut to_client), (mut answers, mut to)) = (client.into_split(), manager.into_split());
                tokio::spawn(async move { tokio::io::copy(&mut answers, &mut to_client).await });
                let mut read = vec![0; 1 << 16];
                while let Ok(n @ 1..) = from.read(&mut read).await {
                    if read[..n].starts_with(b"POST /v1/tasks?") {
                        asked.notify_one();
                        open.notified().await;
                    }
                    to.write_all(&read[..n]).await.unwrap();
                }
            });
        }
    });
    address
}

/// Waits until a process says these words on standard error. What it says after them is for [`finish`].
async fn says(process: &mut Child, words: &str) {
    let stderr = process.stderr.as_mut().unwrap();
    let heard = async {
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains(words) {
            let read = stderr.read_buf(&mut said).await.unwrap();
            assert!(read > 0, "it ended, and did not say `{words}` but:\n{}", String::from_utf8_lossy(&said));
        }
    };
    timeout(SOON, heard).await.unwrap_or_else(|_| panic!("it did not say `{words}`"));
}

#[tokio::test]
async fn ctrl_c_is_heard_while_a_task_is_submitted() {
    let world = World::started(&["aurora"]).await;
    let spins = wasm(&world, "spins.wasm", SPINS);
    let (asked, open) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let address = door(world.home().config.api.to_string(), (asked.clone(), open.clone())).await;
    let toml = world.deployment().client.join("client.toml");
    edit(&toml, |config: &mut toml::Table| drop(config.insert("api".to_owned(), address.into())));

    for again in [false, true] {
        let mut run = spawn(&world.root, Some(&world.deployment().client), &["run", &spins, "--fuel", "1000000000"]);
        timeout(SOON, asked.notified()).await.unwrap();
        signal(run.id().unwrap(), "INT").await;
        // It waits for the manager's word, and would follow no task. A second interrupt before it has heard the first would be none.
        says(&mut run, "interrupt again").await;
        assert!(run.try_wait().unwrap().is_none(), "it ended at the first interrupt");
        match again {
            true => {
                signal(run.id().unwrap(), "INT").await;
                finish(run).await.ended(3, &["legation task list"]);
            }
            false => {
                open.notify_one();
                finish(run).await.ended(3, &["was cancelled"]);
            }
        }
        let tasks = world.client().tasks(None).await.unwrap().tasks;
        assert!(tasks.iter().all(|task| task.state == TaskState::Cancelled) && tasks.len() == 1, "{tasks:?}");
    }
}

#[tokio::test]
async fn ctrl_c_gives_the_task_up() {
    let world = World::started(&["aurora"]).await;
    let spins = wasm(&world, "spins.wasm", SPINS);
    let args = ["run", &spins, "--fuel", "1000000000", "--time", "600"];
    let run = spawn(&world.root, Some(&world.deployment().client), &args);
    let task = eventually("the module runs", Duration::from_secs(20), async || {
        let tasks = world.client().tasks(None).await.unwrap().tasks;
        tasks.into_iter().find(|t| t.fragments[0].offered).map(|t| t.task)
    });
    let task = task.await;
    signal(run.id().unwrap(), "INT").await;
    finish(run).await.ended(3, &["was cancelled"]);
    assert_eq!(world.task(task).await.state, TaskState::Cancelled);
    // The enclave has stopped working on it: there is room for something that needs all of it.
    let args = ["run", &guest("noop"), "--cpu", "1000", "--memory", "500"];
    world.legation(&args).await.ended(0, &[]);
    world.legation(&["task", "cancel", &task.to_string()]).await.ended(3, &["task.ended"]);
    // So it is when it is given up from elsewhere.
    let args = ["run", &spins, "--fuel", "1000000000", "--time", "600", "--name", "again"];
    let run = spawn(&world.root, Some(&world.deployment().client), &args);
    let task = eventually("the module runs again", Duration::from_secs(20), async || {
        let tasks = world.client().tasks(None).await.unwrap().tasks;
        tasks.into_iter().find(|t| t.name == "again" && t.fragments[0].offered).map(|t| t.task)
    });
    let task = task.await.to_string();
    world.legation(&["task", "cancel", &task[..8]]).await.ended(0, &[]);
    finish(run).await.ended(3, &["was cancelled"]);
}

#[tokio::test]
async fn names_may_be_shortened_while_they_are_one() {
    let world = World::started(&["aurora", "boreal"]).await;
    world.legation(&["run", &guest("noop")]).await.ended(0, &[]);
    let task = world.client().tasks(None).await.unwrap().tasks[0].task.to_string();
    for name in [&task, &task[..12], &task[..1]] {
        let shown = world.legation(&["task", "show", name]).await.ended(0, &[]).out();
        assert!(shown.contains(&task) && shown.contains("completed"), "{shown}");
    }
    let (none, both) = (if task.starts_with('0') { "1" } else { "0" }, "");
    world.legation(&["task", "show", none]).await.ended(2, &["no task begins with", "legation task list"]);
    world.legation(&["enclave", "show", both]).await.ended(2, &["2 enclaves begin with", "give more of the name"]);
    let aurora = world.enclave("aurora").await.to_string();
    let shown = world.legation(&["enclave", "show", &aurora[..10]]).await.ended(0, &[]).out();
    for word in ["aurora", "eu-north", "dev-snp", "development(local)", "here"] {
        assert!(shown.contains(word), "no `{word}` in {shown}");
    }
    let table = world.legation(&["enclave", "list"]).await.ended(0, &[]).out();
    assert_eq!(table.lines().count(), 3, "{table}");
    let json = world.legation(&["enclave", "list", "-o", "json"]).await.ended(0, &[]).json();
    assert_eq!(json.as_array().map(Vec::len), Some(2));
    let pool = world.legation(&["pool", "show"]).await.ended(0, &[]).out();
    assert!(pool.contains("2 here, 2 known") && pool.contains("DEVELOPMENT"), "{pool}");
    // Somebody without the operator's token is told so before anything is asked.
    world.legation(&["enclave", "drain", &aurora]).await.ended(0, &[]);
    let listed = world.legation(&["enclave", "list"]).await.ended(0, &[]).out();
    assert!(listed.contains("draining"), "{listed}");
    edit::<toml::Table>(&world.deployment().client.join("client.toml"), |table| {
        table.remove("operator_token");
    });
    let args = ["enclave", "revoke", &aurora, "--why", "test"];
    world.legation(&args).await.ended(2, &["no operator token", "only the operator"]);
}

#[tokio::test]
async fn many_fragments_share_a_small_pool() {
    let world = World::started(&["aurora", "boreal"]).await;
    let runner = world.runner();
    let job = slow::job(&runner, 24, slow::MOMENT).await;
    let submitted = runner.submit(job, &[]).await.unwrap();
    let outcome = timeout(SOON, runner.follow(submitted, |_| {})).await.unwrap().unwrap();
    slow::check(&outcome, 24, slow::MOMENT, runner.trust.anchors());
}

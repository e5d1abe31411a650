//! Whoever may not, whatever is too large, and machines that are not what they should be: refused with words that say what to
//! do, and nobody else is the worse for it.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use legation::{client::Client, home::read_anchors, party::Party};
use legation_core::{Digest, TaskId, TenantId, claims::Anchors};
use legation_manager::{Tenant, api::tasks::Submission};
use legation_pool::TaskState;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    http::{Answer, Request, receive, send},
    slow,
    world::{PROGRAM, SOON, World, eventually, guest, program, with_template},
};

/// A body that nobody wants.
const HUGE: usize = 100 << 20;

/// A folder's entries.
fn entries(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// A submission of a small job, as the tenant would make it. Its module is stored once.
async fn submission(world: &World) -> (TaskId, Vec<u8>) {
    let runner = world.runner();
    let request = runner.request(&slow::idle(&runner).await);
    let task = TaskId::new(request.digest());
    (task, serde_json::to_vec(&Submission { request, grants: Vec::new() }).unwrap())
}

/// How a manager of this world is started.
fn manager(world: &World) -> [String; 3] {
    ["manager".to_owned(), "--config".to_owned(), world.deployment().manager.to_str().unwrap().to_owned()]
}

#[tokio::test]
async fn a_second_manager_on_the_same_journal_ends_and_the_first_does_not_notice() {
    let world = World::started(&["aurora"]).await;
    // The first is in the middle of something.
    let (api, token) = (world.deployment().addresses.api, world.home().config.token);
    let bytes = vec![7; 1 << 20];
    let put = Request::new("PUT", &format!("/v1/objects/{}", Digest::of(&bytes))).token(&token);
    let mut tcp = TcpStream::connect(api).await.unwrap();
    tcp.write_all(put.head(api, bytes.len()).as_bytes()).await.unwrap();
    tcp.write_all(&bytes[..bytes.len() / 2]).await.unwrap();
    let incoming = world.root.join("manager/data/incoming");
    eventually("the upload begins", SOON, async || (!entries(&incoming).is_empty()).then_some(())).await;

    let said = ["journal.sqlite is in use by another manager", "its own data folder"];
    for _ in 0..2 {
        let second = program(&world.root, None, &manager(&world)).await.ended(1, &said);
        assert!(second.stdout.is_empty(), "{second:?}");
    }
    tcp.write_all(&bytes[bytes.len() / 2..]).await.unwrap();
    assert_eq!(receive(&mut tcp).await.status, 201);
    world.legation(&["run", &guest("noop")]).await.ended(0, &[]);
    assert_eq!(world.client().pool().await.unwrap().term.0, 1);

    // With a journal of its own it still cannot have the addresses.
    world.manager_config(|config| config.data = "other".into());
    let busy = world.deployment().addresses.agents.to_string();
    program(&world.root, None, &manager(&world))
        .await
        .ended(1, &["cannot listen on", &busy, "configure another address"]);
    world.legation(&["run", &guest("noop")]).await.ended(0, &[]);
}

#[tokio::test]
async fn a_journal_that_does_not_hold_together_stops_the_start() {
    let mut world = World::started(&["aurora"]).await;
    world.legation(&["run", &guest("noop")]).await.ended(0, &[]);
    world.cloud.kill_agent("aurora").await.unwrap();
    world.cloud.kill_manager().await.unwrap();
    let data = world.root.join("manager/data");
    let journal = data.join("journal.sqlite");
    // As one file, to copy back.
    rusqlite::Connection::open(&journal).unwrap().execute_batch("pragma wal_checkpoint(truncate)").unwrap();
    let good = fs::read(&journal).unwrap();
    for (sql, said) in [
        ("update journal set version = 9 where seq = 4", "record 4 cannot be read: version 9"),
        ("update journal set record = 'x' where seq = 5", "record 5 cannot be read"),
        ("delete from journal where seq = 3", "record Seq(4) follows record Seq(2)"),
        (
            "update journal set record = json_set(record, '$.enclave', printf('%064d', 0)) where kind = 'arrived'",
            "journal does not hold together",
        ),
    ] {
        let db = rusqlite::Connection::open(&journal).unwrap();
        db.execute_batch(sql).unwrap();
        drop(db);
        program(&world.root, None, &manager(&world)).await.ended(1, &[said]);
        for file in ["journal.sqlite-wal", "journal.sqlite-shm"] {
            let _ = fs::remove_file(data.join(file));
        }
        fs::write(&journal, &good).unwrap();
    }
    fs::write(&journal, "not a journal".repeat(1000)).unwrap();
    program(&world.root, None, &manager(&world)).await.ended(1, &["journal could not be prepared", "not a database"]);
    fs::write(&journal, &good).unwrap();
    world.cloud.start().unwrap();
    world.ready(1).await;
    world.legation(&["run", &guest("noop")]).await.ended(0, &[]);
}

#[tokio::test]
async fn unknown_keys_and_wrong_files_are_named() {
    let world = World::new(&["aurora"]);
    let agent_file = world.agent_file("aurora");
    let agent = ["agent", "--config", agent_file.to_str().unwrap()];
    let good = fs::read_to_string(&agent_file).unwrap();
    let wrong: [(&str, &str, &[&str]); 5] = [
        ("colour = \"red\"\n", "", &["agent.toml", "colour", "an unknown key"]),
        ("", "\n[capacity.speed]\n", &["agent.toml", "capacity.speed", "an unknown key"]),
        ("", "\n[developement]\nchip = \"chip.pem\"\n", &["agent.toml", "developement", "an unknown key"]),
        ("not toml", "", &["agent.toml", "not TOML"]),
        ("region = \"twice\"\n", "", &["agent.toml", "region"]),
    ];
    for (before, after, said) in wrong {
        fs::write(&agent_file, format!("{before}{good}{after}")).unwrap();
        program(&world.root, None, &agent).await.ended(2, said);
    }
    fs::write(&agent_file, &good).unwrap();
    world.agent_config("aurora", |table| drop(table.remove("development")));
    program(&world.root, None, &agent)
        .await
        .ended(2, &["nothing to attest with", "not configured: set `chip` in `[development]`"]);
    fs::write(&agent_file, &good).unwrap();
    let chip = agent_file.with_file_name("chip.pem");
    fs::write(&chip, "not a chip").unwrap();
    program(&world.root, None, &agent).await.ended(2, &["chip.pem", "not a development chip"]);
    program(&world.root, None, &["agent", "--config", "nowhere.toml"])
        .await
        .ended(2, &["nowhere.toml", "cannot be read"]);

    let manager_file = world.deployment().manager.clone();
    let good = fs::read_to_string(&manager_file).unwrap();
    for (line, said) in [
        ("colour = \"red\"\n", &["manager.toml", "unknown field `colour`"][..]),
        ("not toml", &["manager.toml", "config.manager"]),
        ("api = 5\n", &["manager.toml"]),
    ] {
        fs::write(&manager_file, format!("{line}{good}")).unwrap();
        program(&world.root, None, &manager(&world)).await.ended(2, said);
    }
    fs::write(&manager_file, &good).unwrap();
    world.manager_config(|config| config.api = "0.0.0.0:24442".parse().unwrap());
    program(&world.root, None, &manager(&world)).await.ended(2, &["a loopback address", "0.0.0.0", "api_behind_proxy"]);
    fs::write(&manager_file, &good).unwrap();
    program(&world.root, None, &["manager", "--config", "nowhere.toml"])
        .await
        .ended(2, &["nowhere.toml", "a readable file"]);
    program(&world.root, None, &["manager"]).await.ended(2, &["--config"]);
    // Keys that nobody appointed.
    let keys = manager_file.with_file_name("manager.key");
    fs::copy(manager_file.with_file_name("verifier.key"), keys).unwrap();
    program(&world.root, None, &manager(&world))
        .await
        .ended(1, &["manager.appointment.json", "Manager", "appoint this key"]);
}

#[tokio::test]
async fn machines_that_are_not_what_they_should_be_are_not_let_in() {
    let mut world = World::new(&["aurora", "boreal", "cumulus"]);
    world.cloud.start_manager().unwrap();
    world.cloud.start_agent("aurora").unwrap();
    world.ready(1).await;

    // Another image: the program with a byte more.
    let image = world.root.join("other-image");
    let mut bytes = fs::read(PROGRAM).unwrap();
    bytes.push(0);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&image).unwrap();
    file.write_all(&bytes).unwrap();
    drop(file);
    let log = fs::File::create(world.root.join("logs/boreal.log")).unwrap();
    let config = world.agent_file("boreal");
    let _boreal = tokio::process::Command::new(&image)
        .args(["agent", "--config", config.to_str().unwrap()])
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let measured = legation::setup::measure(&image).unwrap();
    let refused = ["policy.known-image", "expected principal in Image::\"this-build\"", &measured];
    world.logs("manager", &refused, SOON).await;
    world.logs("boreal", &["turned away", refused[0], refused[1], "make a reference value"], SOON).await;

    // A chip of a root that is not among the anchors.
    let stranger = World::of("second", &["cumulus"]);
    fs::copy(
        stranger.agent_file("cumulus").with_file_name("chip.pem"),
        world.agent_file("cumulus").with_file_name("chip.pem"),
    )
    .unwrap();
    world.cloud.start_agent("cumulus").unwrap();
    world.logs("cumulus", &["turned away", "snp.chain"], SOON).await;
    assert_eq!(world.client().pool().await.unwrap().enclaves_known, 1);
    let metrics = send(world.deployment().addresses.admin, Request::get("/metrics")).await.text();
    for check in ["policy.known-image", "snp.chain"] {
        assert!(metrics.contains(&format!("refusals_total{{check=\"{check}\"}}")), "no {check} in {metrics}");
    }

    // An agent whose operator is another obeys no manager of this one.
    world.cloud.kill_agent("cumulus").await.unwrap();
    let operator = stranger.home().anchors.operators[0].to_string();
    world.agent_config("cumulus", |table| drop(table.insert("operators".into(), vec![operator].into())));
    world.cloud.start_agent("cumulus").unwrap();
    world.logs("cumulus", &["turned away", "operator"], SOON).await;
    world.legation(&["run", &guest("noop")]).await.ended(0, &[]);
}

#[tokio::test]
async fn a_production_policy_admits_no_development_enclave() {
    let mut world = World::new(&["aurora"]);
    world.manager_config(|config| config.allow_development = false);
    world.cloud.start().unwrap();
    let refused = ["appraisal.anchor", "expected a hardware vendor's root", "got development(local)"];
    world.logs("manager", &refused, SOON).await;
    world.logs("aurora", &["turned away", refused[0], "use real hardware"], SOON).await;
    assert!(!world.log("manager").contains("admits DEVELOPMENT"), "{}", world.log("manager"));
    let client = world.client();
    assert_eq!(client.pool().await.unwrap().enclaves_known, 0);
    let args = ["run", &guest("noop"), "--timeout", "2"];
    world.legation(&args).await.ended(5, &["found no enclave"]);
}

#[tokio::test]
async fn a_client_believes_its_anchors_and_not_the_manager() {
    let world = World::started(&["aurora"]).await;
    let (input, out) = (world.file("input", "a secret"), world.path("out"));
    let anchors = world.deployment().client.join("anchors.json");
    let good = world.home().anchors;
    let stranger = with_template("second", |template| read_anchors(&template.join("anchors.json")).unwrap());
    for (trusted, said) in [
        (Anchors { development: Vec::new(), ..good.clone() }, "development"),
        (Anchors { development: stranger.development.clone(), ..good.clone() }, "snp.chain"),
        (Anchors { operators: stranger.operators.clone(), ..good.clone() }, "client.manager"),
    ] {
        fs::write(&anchors, serde_json::to_string(&trusted).unwrap()).unwrap();
        // It has something to lose: it judges first, and grants nothing.
        let args = ["run", &guest("echo"), "--input", &input, "--out", &out, "--name", "sealed"];
        let ran = world.legation(&args).await.ended(4, &[said]);
        assert!(ran.stdout.is_empty(), "{ran:?}");
        // It has nothing to lose: it judges what comes back, and shows none of it.
        let args = ["run", &guest("noop"), "--out", &out, "--name", "bare"];
        let ran = world.legation(&args).await.ended(6, &["receipt of the task is not valid at"]);
        assert!(ran.stdout.is_empty() && !Path::new(&out).exists(), "{ran:?}");
    }
    let tasks = world.client().tasks(None).await.unwrap().tasks;
    let sealed: Vec<_> = tasks.iter().filter(|t| t.name == "sealed").collect();
    assert_eq!((tasks.len(), sealed.len()), (6, 3));
    for task in sealed {
        // What is not followed any more holds no enclave.
        assert_eq!(task.state, TaskState::Cancelled, "{task:?}");
        assert!(task.fragments.iter().all(|f| f.outcome.is_none()), "{task:?}");
    }
    assert_eq!(world.client().pool().await.unwrap().leases, 0);
    fs::write(&anchors, serde_json::to_string(&good).unwrap()).unwrap();
    world.legation(&["run", &guest("echo"), "--input", &input, "--out", &out]).await.ended(0, &[]);
    assert_eq!(fs::read_to_string(&out).unwrap(), "a secret");
}

#[tokio::test]
async fn bodies_that_are_too_large_are_refused_at_once() {
    let mut world = World::new(&[]);
    world.manager_config(|config| config.object_max_bytes = legation_core::Bytes::mib(1));
    world.start().await;
    let (api, token) = (world.deployment().addresses.api, world.home().config.token);
    let began = Instant::now();
    let post = || Request::new("POST", "/v1/tasks").token(&token);
    send(api, post().json(vec![b' '; HUGE])).await.refused(413, "api.size");
    let object = Digest::of(b"something else");
    let put = || Request::new("PUT", &format!("/v1/objects/{object}")).token(&token);
    send(api, put().body(vec![0; HUGE])).await.refused(413, "object.size");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // Without a token nothing of it is read.
    assert_eq!(send(api, Request::new("POST", "/v1/tasks").json(vec![b' '; HUGE])).await.status, 401);
    // The server is none the worse for it, nor is its disk.
    assert_eq!(send(api, Request::get("/v1/pool").token(&token)).await.status, 200);
    assert_eq!(entries(world.root.join("manager/data/incoming")), Vec::<PathBuf>::new());

    // What is small is judged by what it is.
    send(api, put().body("something")).await.refused(422, "object.digest");
    send(api, Request::new("PUT", "/v1/objects/short").token(&token).body("x")).await.refused(400, "object.name");
    send(api, Request::get(&format!("/v1/objects/{object}")).token(&token)).await.refused(404, "object.unknown");
    assert_eq!(send(api, Request::new("HEAD", &format!("/v1/objects/{object}")).token(&token)).await.status, 404);
    assert_eq!(send(api, put().body("something else")).await.status, 201);
    assert_eq!(send(api, put().body("something else")).await.status, 200);
    assert_eq!(send(api, Request::new("HEAD", &format!("/v1/objects/{object}")).token(&token)).await.status, 200);
    assert_eq!(send(api, Request::get(&format!("/v1/objects/{object}")).token(&token)).await.text(), "something else");
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (body, status) in [("", 400), ("{}", 422), ("{", 400), (nested.as_str(), 422), ("{\"request\": 5}", 422)] {
        send(api, post().json(body)).await.refused(status, "api.body");
    }
    send(api, post().body("{}")).await.refused(415, "api.body");
    for (path, check) in [
        ("/v1/tasks?wait=soon", "api.query"),
        ("/v1/tasks?hurry=1", "api.query"),
        ("/v1/tasks?page_token=zz", "page.token"),
    ] {
        send(api, Request::get(path).token(&token)).await.refused(400, check);
    }
    send(api, Request::get("/v1/tasks/short").token(&token)).await.refused(400, "task.name");
    send(api, Request::get("/v1/enclaves/short").token(&token)).await.refused(400, "enclave.name");
    send(api, Request::new("DELETE", "/v1/tasks").token(&token)).await.refused(405, "api.method");
}

#[tokio::test]
async fn an_upload_that_ends_in_the_middle_leaves_nothing() {
    let mut world = World::new(&[]);
    world.start().await;
    let (api, token) = (world.deployment().addresses.api, world.home().config.token);
    let incoming = world.root.join("manager/data/incoming");
    let bytes = vec![7; 1 << 20];
    let digest = Digest::of(&bytes);
    let put = Request::new("PUT", &format!("/v1/objects/{digest}")).token(&token);
    let mut tcp = TcpStream::connect(api).await.unwrap();
    tcp.write_all(put.head(api, bytes.len()).as_bytes()).await.unwrap();
    tcp.write_all(&bytes[..1000]).await.unwrap();
    eventually("the upload begins", SOON, async || (!entries(&incoming).is_empty()).then_some(())).await;
    drop(tcp);
    eventually("its file goes", SOON, async || entries(&incoming).is_empty().then_some(())).await;
    let look = Request::new("HEAD", &format!("/v1/objects/{digest}")).token(&token);
    assert_eq!(send(api, look).await.status, 404);
}

#[tokio::test]
async fn strangers_learn_nothing() {
    let mut world = World::new(&["aurora"]);
    let other = Party::generate();
    world.manager_config(|config| {
        let (name, key) = (TenantId::new("other").unwrap(), other.key());
        config.tenants.push(Tenant { name, key, token_sha256: Digest::of(b"other-token") });
    });
    world.start().await;
    let (api, home) = (world.deployment().addresses.api, world.home());
    let token = &home.config.token;
    let (task, body) = submission(&world).await;
    let submit = |token: &str| Request::new("POST", "/v1/tasks").token(token).json(body.clone());

    // No token, a wrong one, another scheme.
    let path = format!("/v1/tasks/{task}");
    send(api, Request::get(&path)).await.refused(401, "api.token");
    send(api, Request::get(&path).token("x")).await.refused(401, "api.token");
    send(api, Request::get(&path).token("")).await.refused(401, "api.token");
    send(api, Request::get(&path).header("authorization", "Basic eDp5")).await.refused(401, "api.token");
    send(api, Request::get(&path).header("authorization", token)).await.refused(401, "api.token");
    send(api, submit("x")).await.refused(401, "api.token");
    let toml = world.deployment().client.join("client.toml");
    let good = fs::read_to_string(&toml).unwrap();
    fs::write(&toml, good.replace(token.as_str(), "wrong")).unwrap();
    let refused = ["api.token", "an unknown one", "LEGATION_HOME"];
    world.legation(&["task", "list"]).await.ended(3, &refused);
    world.legation(&["run", &guest("noop")]).await.ended(3, &refused);
    fs::write(&toml, good).unwrap();

    // A request of one tenant with the token of another, and a request nobody registered.
    send(api, submit("other-token")).await.refused(403, "api.tenant");
    let operator = home.config.operator_token.clone().unwrap();
    send(api, submit(&operator)).await.refused(403, "api.tenant");
    let mut runner = world.runner();
    runner.party = other.into();
    let request = runner.request(&slow::idle(&runner).await);
    let forged = serde_json::to_vec(&Submission { request, grants: Vec::new() }).unwrap();
    send(api, Request::new("POST", "/v1/tasks").token(token).json(forged)).await.refused(403, "request.client");

    // A task is its tenant's and the operator's; to another tenant there is none.
    assert_eq!(send(api, submit(token)).await.status, 200);
    for (method, tail) in [("GET", ""), ("GET", "/explain"), ("GET", "/receipt"), ("POST", "/cancel")] {
        let path = format!("/v1/tasks/{task}{tail}");
        send(api, Request::new(method, &path).token("other-token")).await.refused(404, "task.unknown");
    }
    let grants =
        Request::new("POST", &format!("/v1/tasks/{task}/grants")).token("other-token").json("{\"grants\": []}");
    send(api, grants).await.refused(404, "task.unknown");
    let stranger = Client::new(&api.to_string(), "other-token").unwrap();
    assert!(stranger.tasks(None).await.unwrap().tasks.is_empty());
    assert_eq!(world.operator().tasks(None).await.unwrap().tasks.len(), 1);
    assert_eq!(world.client().tasks(None).await.unwrap().tasks[0].task, task);
    // The unknown task of a stranger and an unknown task look the same.
    let nothing = "0".repeat(64);
    let unknown = send(api, Request::get(&format!("/v1/tasks/{nothing}")).token("other-token")).await.text();
    let hidden = send(api, Request::get(&path).token("other-token")).await.text();
    assert_eq!(unknown.replace(&nothing, ""), hidden.replace(&task.to_string(), ""));

    // What only the operator may do.
    let aurora = world.enclave("aurora").await;
    let revoke = |body: &str| Request::new("POST", "/v1/revocations").json(body);
    let whole = format!("{{\"kind\": \"enclave\", \"name\": \"{aurora}\", \"why\": \"x\"}}");
    send(api, revoke(&whole).token(token)).await.refused(403, "api.operator");
    let nobody = whole.replace("enclave", "tenant");
    send(api, revoke(&nobody).token(&operator)).await.refused(422, "revocation.name");
    for (tail, body) in [("reattest", ""), ("drain", "")] {
        let path = format!("/v1/enclaves/{aurora}/{tail}");
        send(api, Request::new("POST", &path).token(token).json(body)).await.refused(403, "api.operator");
        let absent = path.replace(&aurora.to_string(), &nothing);
        send(api, Request::new("POST", &absent).token(&operator).json(body)).await.refused(404, "pool.enclave");
    }
    assert_eq!(world.client().pool().await.unwrap().enclaves_here, 1);
}

#[tokio::test]
async fn an_idempotency_key_means_one_thing() {
    let mut world = World::new(&[]);
    world.start().await;
    let (api, token) = (world.deployment().addresses.api, world.home().config.token);
    let (first, second) = (submission(&world).await, submission(&world).await);
    let submit = async |key: &str, body: &[u8]| -> Answer {
        send(api, Request::new("POST", "/v1/tasks").token(&token).header("idempotency-key", key).json(body)).await
    };
    for _ in 0..2 {
        let answer = submit("try", &first.1).await;
        assert_eq!((answer.status, &answer.json()["view"]["task"]), (200, &first.0.to_string().into()));
    }
    submit("try", &second.1).await.refused(409, "idempotency.reused");
    assert_eq!(submit("another", &second.1).await.status, 200);
    submit(&"x".repeat(300), &second.1).await.refused(422, "idempotency.key");
    assert_eq!(world.client().tasks(None).await.unwrap().tasks.len(), 2);
    // It does after a crash as well.
    world.cloud.kill_manager().await.unwrap();
    world.cloud.start_manager().unwrap();
    world.ready(0).await;
    submit("try", &second.1).await.refused(409, "idempotency.reused");
    assert_eq!(submit("try", &first.1).await.status, 200);
    assert_eq!(world.client().tasks(None).await.unwrap().tasks.len(), 2);
}

/// A small disk, mounted; or nothing where that is not allowed.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "legation-test"]).arg(at).output();
        match mounted {
            Ok(done) if done.status.success() => Some(Self(at.to_owned())),
            Ok(done) => {
                eprintln!("SKIPPED: no small disk can be mounted: {}", String::from_utf8_lossy(&done.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("SKIPPED: no small disk can be mounted: {error}");
                None
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still hold it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let mut world = World::new(&[]);
    let data = world.root.join("manager/data");
    let Some(_disk) = Disk::mount(&data, "3m") else { return };
    let ballast = data.join("ballast");
    fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    world.start().await;
    let (api, token): (SocketAddr, _) = (world.deployment().addresses.api, world.home().config.token);
    let submit = async |body: Vec<u8>| send(api, Request::new("POST", "/v1/tasks").token(&token).json(body)).await;
    let mut acknowledged = Vec::new();
    let refused = loop {
        assert!(acknowledged.len() < 2000, "the disk does not get full");
        let (task, body) = submission(&world).await;
        let answer = submit(body).await;
        match answer.status {
            200 => acknowledged.push(task),
            _ => break (task, answer),
        }
    };
    refused.1.refused(507, "journal.append");
    assert!(refused.1.json()["fix"].as_str().unwrap().contains("free space"));
    assert!(acknowledged.len() > 10, "{}", acknowledged.len());
    // So it stays until there is room; what is known is served meanwhile.
    let (_, body) = submission(&world).await;
    submit(body).await.refused(507, "journal.append");
    for size in [10_000, 2 << 20] {
        let object = vec![1; size];
        let put = Request::new("PUT", &format!("/v1/objects/{}", Digest::of(&object))).token(&token).body(object);
        send(api, put).await.refused(507, "object.disk");
        assert_eq!(entries(data.join("incoming")), Vec::<PathBuf>::new());
    }
    let known = async |world: &World| {
        let (mut known, mut next) = (Vec::new(), None);
        loop {
            let page = world.client().tasks(next.as_deref()).await.unwrap();
            known.extend(page.tasks.into_iter().map(|t| t.task));
            next = page.next;
            if next.is_none() {
                known.sort();
                return known;
            }
        }
    };
    acknowledged.sort();
    assert!(known(&world).await == acknowledged, "what was not acknowledged has not happened");

    fs::remove_file(&ballast).unwrap();
    let (task, body) = submission(&world).await;
    assert_eq!(submit(body).await.status, 200);
    acknowledged.push(task);
    acknowledged.sort();
    world.cloud.kill_manager().await.unwrap();
    world.cloud.start_manager().unwrap();
    world.ready(0).await;
    assert!(known(&world).await == acknowledged, "the journal gives back what was acknowledged");
    let (_, body) = submission(&world).await;
    assert_eq!(submit(body).await.status, 200);
}

//! Several verifiers of one pool, each a process: what each gives counts for itself, one that stops takes nobody along, and one
//! that is trusted by a tenant alone vouches for that tenant's work alone.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use legation::home::{ClientConfig, write_secret};
use legation_core::{Digest, EnclaveId, KeyId, Signer, TenantId};
use legation_keys::{IdentityKey, SealingKey};
use legation_manager::{Tenant, VerifierView};
use legation_net::OsEntropy;
use legation_pool::{EnclaveView, Presence};
use tokio::process::{Child, Command};

use crate::world::{PROGRAM, SOON, World, eventually, guest, program, signal};

/// Beside the ports that a world has on its own address.
const PORT: u16 = 24_444;

/// A second verifier of a world: its files, and its process while it runs.
struct Second {
    folder: PathBuf,
    process: Option<Child>,
}

impl Second {
    /// Makes the files of one and names it in the manager's configuration, as docs/verifier.md has it.
    async fn of(world: &World, scope: &[&str]) -> Self {
        let folder = world.root.join("second");
        let listen = SocketAddr::new(world.deployment().addresses.api.ip(), PORT).to_string();
        let (anchors, operator) = (world.path("anchors.json"), world.path("operator.key"));
        let init = ["verifier", "init", folder.to_str().unwrap(), "--name", "second", "--allow-development"];
        let rest = ["--anchors", &anchors, "--operator", &operator, "--listen", &listen];
        let said = world.legation(&[&init[..], &rest, scope].concat()).await.ended(0, &[]).out();
        assert!(said.contains("next  legation verifier --config"), "{said}");
        let named = format!(
            "\n[[verifier]]\nname = \"second\"\nurls = [\"http://{listen}\"]\nappointment = \"../second/appointment.json\"\n"
        );
        let mut config = fs::File::options().append(true).open(&world.deployment().manager).unwrap();
        config.write_all(named.as_bytes()).unwrap();
        // It admits what the pool does, until a test says otherwise.
        fs::copy(world.deployment().manager.with_file_name("appraisal.cedar"), folder.join("appraisal.cedar")).unwrap();
        Self { folder, process: None }
    }

    fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.folder.join("../logs/second.log")).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("verifier").arg("--config").arg(self.folder.join("verifier.toml")).env_remove("LEGATION_LOG");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).kill_on_drop(true);
        self.process = Some(command.spawn().unwrap());
    }

    async fn kill(&mut self) {
        self.process.take().unwrap().kill().await.unwrap();
    }
}

/// What the list of verifiers says of one.
async fn listed(world: &World, name: &str) -> VerifierView {
    world.client().verifiers().await.unwrap().into_iter().find(|v| v.name == name).unwrap()
}

/// The line of `legation verifier list` about one.
async fn line(world: &World, name: &str) -> String {
    let list = world.legation(&["verifier", "list"]).await.ended(0, &[]).out();
    list.lines()
        .map(str::trim_start)
        .find(|l| l.starts_with(name))
        .unwrap_or_else(|| panic!("no {name} in {list}"))
        .to_owned()
}

/// Verifiers whose passports for it hold, the freshest first.
fn vouching(view: &EnclaveView) -> Vec<KeyId> {
    view.proofs.iter().filter(|p| p.holds).map(|p| p.verifier).collect()
}

/// Has enclaves attest again, now and then, until each is as `wanted` says.
async fn attest_until(world: &World, enclaves: &[EnclaveId], what: &str, wanted: impl Fn(&EnclaveView) -> bool) {
    const APART: Duration = Duration::from_secs(1);
    let (operator, mut asked) = (world.operator(), None::<Instant>);
    let started = Instant::now();
    loop {
        let mut left = Vec::new();
        for enclave in enclaves {
            let view = operator.enclave(*enclave).await.unwrap();
            if !wanted(&view) {
                left.push(view);
            }
        }
        if left.is_empty() {
            return;
        }
        assert!(started.elapsed() < SOON, "not in time: {what}: {left:#?}");
        if asked.is_none_or(|at| at.elapsed() > APART) {
            asked = Some(Instant::now());
            for view in &left {
                operator.reattest(view.enclave).await.unwrap();
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_pool_goes_on_with_the_verifier_that_is_left() {
    let mut world = World::new(&["aurora", "boreal"]);
    let mut second = Second::of(&world, &[]).await;
    // Short lives, so that its silence is soon noticed.
    let policy = second.folder.join("appraisal.cedar");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, text.replace("@id(\"known-image\")", "@passport_seconds(\"4\")\n@id(\"known-image\")")).unwrap();

    // One that is named and does not run keeps nobody out.
    world.start().await;
    let enclaves = [world.enclave("aurora").await, world.enclave("boreal").await];
    let failing = eventually("its absence is told", SOON, async || {
        let line = line(&world, "second").await;
        line.contains("failing: verifier.unreachable").then_some(line)
    });
    assert!(failing.await.contains("never"));
    world.logs("manager", &["WARN", "verifier does not answer", "second"], SOON).await;
    let args = ["reference", "list", "--output", "json"];
    let references = world.legation(&args).await.ended(0, &[]);
    fs::write(second.folder.join("references.json"), &references.stdout).unwrap();

    // Both vouch for each enclave.
    second.start();
    let keys = [listed(&world, "local").await.key, listed(&world, "second").await.key];
    let both = |view: &EnclaveView| keys.iter().all(|key| vouching(view).contains(key));
    attest_until(&world, &enclaves, "both vouch", both).await;
    let shown = world.legation(&["enclave", "show", &enclaves[0].to_string()]).await.ended(0, &[]).out();
    let proofs: Vec<_> = shown.lines().filter(|l| l.starts_with("proof  ")).collect();
    assert_eq!(proofs.len(), 2, "{shown}");
    for key in keys {
        let by = format!("by {} for all tenants", key.short());
        assert!(proofs.iter().any(|p| p.contains(&by) && p.contains("this-build")), "{shown}");
    }
    assert!(line(&world, "second").await.contains("answers"));

    // Killed, it is shown to be silent; nobody else is the worse for it.
    second.kill().await;
    let silent = eventually("it is silent", SOON, async || {
        let view = listed(&world, "second").await;
        view.silent.then_some(view)
    });
    assert!(silent.await.failure.is_some_and(|why| why.check == "verifier.unreachable"));
    assert!(line(&world, "second").await.contains("SILENT") && line(&world, "local").await.contains("answers"));
    eventually("what it said is over", SOON, async || {
        let all = world.client().enclaves().await.unwrap();
        all.iter().all(|view| vouching(view) == keys[..1]).then_some(())
    })
    .await;
    for view in world.client().enclaves().await.unwrap() {
        assert!(view.presence == Presence::Here && view.cordon.is_none() && view.withdrawal.is_none(), "{view:?}");
    }
    world.legation(&["run", &guest("noop")]).await.ended(0, &[]);

    // Started again, it is heard again.
    second.start();
    attest_until(&world, &enclaves, "both vouch again", both).await;
    let view = listed(&world, "second").await;
    assert!(!view.silent && view.last_success >= view.last_failure, "{view:?}");
    // Asked to stop, it ends.
    let mut process = second.process.take().unwrap();
    signal(process.id().unwrap(), "TERM").await;
    let ended = tokio::time::timeout(SOON, process.wait()).await.expect("it does not end").unwrap();
    assert!(ended.success(), "{ended}");
}

/// Registers another tenant with a home of its own.
fn tenant(world: &World, name: &str) -> PathBuf {
    let home = world.root.join(name);
    fs::create_dir(&home).unwrap();
    let (key, token) = (IdentityKey::generate(&mut OsEntropy), format!("token-of-{name}"));
    write_secret(&home.join("identity.key"), &key.to_pem()).unwrap();
    write_secret(&home.join("sealing.key"), &SealingKey::generate(&mut OsEntropy).to_text()).unwrap();
    fs::copy(world.path("anchors.json"), home.join("anchors.json")).unwrap();
    let config = ClientConfig {
        api: world.deployment().addresses.api.to_string(),
        tenant: TenantId::new(name).unwrap(),
        token: token.clone(),
        operator_token: None,
    };
    write_secret(&home.join("client.toml"), &toml::to_string(&config).unwrap()).unwrap();
    world.manager_config(|manager| {
        let (name, token_sha256) = (config.tenant, Digest::of(token.as_bytes()));
        manager.tenants.push(Tenant { name, key: key.public_key(), token_sha256 });
    });
    home
}

#[tokio::test]
async fn a_verifier_of_one_tenant_vouches_for_that_tenants_work_until_it_is_revoked() {
    let mut world = World::new(&["aurora", "boreal"]);
    let other = tenant(&world, "other");
    let mut second = Second::of(&world, &["--tenant", "other"]).await;
    let manager = world.deployment().manager.parent().unwrap().to_owned();
    fs::copy(manager.join("references.json"), second.folder.join("references.json")).unwrap();
    // What the pool's own verifier does not admit, the tenant's does.
    let policy = manager.join("appraisal.cedar");
    let own = "@id(\"elsewhere\") forbid (principal, action, resource) when { principal.region == \"eu-central\" };\n";
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, format!("{text}\n{own}")).unwrap();
    second.start();
    world.start().await;

    let (aurora, boreal) = (world.enclave("aurora").await, world.enclave("boreal").await);
    let keys = [listed(&world, "local").await.key, listed(&world, "second").await.key];
    attest_until(&world, &[aurora], "both vouch for aurora", |view| vouching(view).len() == 2).await;
    let view = world.client().enclave(boreal).await.unwrap();
    assert!(vouching(&view) == keys[1..] && view.presence == Presence::Here && view.cordon.is_none(), "{view:?}");
    let shown = world.legation(&["enclave", "show", &boreal.to_string()]).await.ended(0, &[]).out();
    assert!(shown.contains(&format!("by {} for other: ", keys[1].short())), "{shown}");
    let told = line(&world, "second").await;
    assert!(told.contains(" other ") && told.contains("answers"), "{told}");

    // The same machine is none for one tenant, and one for the other.
    let there = ["run", &guest("noop"), "--require", "provider == \"boreal\"", "--timeout"];
    let run =
        async |home: &Path, seconds: &str| program(&world.root, Some(home), &[&there[..], &[seconds]].concat()).await;
    let own = world.deployment().client.clone();
    run(&own, "2").await.ended(5, &["found no enclave"]);
    let task = world.client().tasks(None).await.unwrap().tasks[0].task;
    let explained = world.legation(&["explain", &task.to_string()]).await.ended(0, &[]).out();
    assert!(explained.contains("no: place.verifier: ") && explained.contains("the work of demo"), "{explained}");
    run(&other, "60").await.ended(0, &[]);
    world.legation(&["run", &guest("noop")]).await.ended(0, &[]);

    // Revoked by its name, it takes along whom nobody else vouches for.
    let args = ["revoke", "verifier", "second", "--why", "its key was copied"];
    let said = world.legation(&args).await.ended(0, &[]).out();
    assert!(said.contains("is revoked: its key was copied") && said.contains("1 enclave fell"), "{said}");
    let view = world.client().enclave(aurora).await.unwrap();
    assert!(view.revoked.is_none() && view.cordon.is_none(), "{view:?}");
    assert_eq!(view.proofs.iter().map(|p| p.verifier).collect::<Vec<_>>(), keys[..1]);
    let view = world.client().enclave(boreal).await.unwrap();
    assert!(view.proofs.is_empty() && view.cordon.is_some_and(|c| c.why.got.contains("its key was copied")));
    assert!(line(&world, "second").await.contains("REVOKED"));
    run(&other, "2").await.ended(5, &["found no enclave"]);
    // Whoever is left works on, and is not judged by it any more.
    program(&world.root, Some(&other), &["run", &guest("noop")]).await.ended(0, &[]);
    let before = world.client().enclave(aurora).await.unwrap().proven;
    attest_until(&world, &[aurora], "aurora proves itself anew", |view| view.proven > before).await;
    assert_eq!(vouching(&world.client().enclave(aurora).await.unwrap()), keys[..1]);

    // A manager that starts anew trusts it no more than the one before.
    world.cloud.kill_manager().await.unwrap();
    world.cloud.start_manager().unwrap();
    world.ready(1).await;
    assert!(line(&world, "second").await.contains("REVOKED"));
    let view = world.client().enclave(aurora).await.unwrap();
    assert!(view.presence == Presence::Here && vouching(&view) == keys[..1], "{view:?}");
    world.legation(&["run", &guest("noop")]).await.ended(0, &[]);
}

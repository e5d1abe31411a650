//! Reference values and policies, set from the command line at a running manager: what does not load is refused with words,
//! what refuses an enclave takes it out with its work, and all of it outlives the manager.

use std::fs;

use legation_core::{EnclaveId, TaskId, TenantId};
use legation_policy::Scope;
use legation_pool::{EnclaveView, LeaseEnd, Presence};

use crate::{
    slow::{self, SECOND},
    world::{PROGRAM, SOON, World, eventually, guest, program},
};

/// The policy that the deployment begins with.
fn starter(world: &World) -> String {
    fs::read_to_string(world.deployment().manager.with_file_name("appraisal.cedar")).unwrap()
}

/// A measurement that no machine has.
fn nobodys() -> String {
    "ab".repeat(48)
}

/// Whether work may be placed on it, and nothing is held against it.
fn is_whole(view: &EnclaveView) -> bool {
    view.presence == Presence::Here && view.cordon.is_none() && view.withdrawal.is_none()
}

/// Waits until an enclave is as `wanted` says.
async fn becomes(world: &World, what: &str, enclave: EnclaveId, wanted: impl Fn(&EnclaveView) -> bool) -> EnclaveView {
    let look = async || {
        let view = world.client().enclave(enclave).await.ok()?;
        wanted(&view).then_some(view)
    };
    eventually(what, SOON, look).await
}

/// Runs a task that could run anywhere; where it ran.
async fn runs_on(world: &World) -> (TaskId, EnclaveId) {
    world.legation(&["run", &guest("noop")]).await.ended(0, &[]);
    let newest = world.client().tasks(None).await.unwrap().tasks[0].task;
    let view = world.task(newest).await;
    (newest, view.fragments[0].attempts.last().unwrap().enclave)
}

#[tokio::test]
async fn reference_values_are_made_listed_and_ended_and_policies_held_to_them() {
    let world = World::started(&["aurora"]).await;
    let aurora = world.enclave("aurora").await;
    let measurement = world.client().enclave(aurora).await.unwrap().measurement;

    // Of a running enclave, of a file, of what somebody published, of a firmware.
    let args = ["reference", "add", "running", "--enclave", &aurora.to_string()[..12], "--owner", "ops"];
    let said = world.legation(&[&args[..], &["--expires", "2099-06-30"]].concat()).await.ended(0, &[]).out();
    for word in ["dev-snp", "ops", &measurement, &aurora.short(), "2099-06-30T23:59:59Z", "used by      unused"] {
        assert!(said.contains(word), "no `{word}` in {said}");
    }
    let args = ["reference", "add", "build", "--file", PROGRAM, "--owner", "ops"];
    let said = world.legation(&args).await.ended(0, &[]).out();
    assert!(said.contains(&measurement) && said.contains("file legation"), "{said}");
    let value = nobodys();
    let args = ["reference", "add", "published", "--value", &value, "--owner", "ops", "--source", "release notes"];
    world.legation(&args).await.ended(2, &["--tee"]);
    let bare = [&args[..], &["--tee", "tdx"]].concat();
    world.legation(&bare).await.ended(3, &["reference.registers", "rtmr1", "--register"]);
    let registers = [format!("rtmr1={value}"), format!("rtmr2={value}")];
    let whole = [&bare[..], &["--register", &registers[0], "--register", &registers[1]]].concat();
    world.legation(&whole).await.ended(0, &[]);
    let firmware = "milan:blSPL=4&teeSPL=0&snpSPL=24&ucodeSPL=219";
    let args = ["reference", "add", "milan", "--firmware", firmware, "--owner", "ops"];
    world.legation(&args).await.ended(0, &[]);

    // What makes no sense, and what only the operator may do.
    let args = ["reference", "add", "running", "--value", &value, "--tee", "sev-snp", "--owner", "ops"];
    world.legation(&args).await.ended(3, &["reference.name", "that still counts", "choose another name"]);
    world.legation(&[&args[..], &["--replace"]].concat()).await.ended(0, &[]);
    let short = ["reference", "add", "short", "--value", "abcd", "--tee", "sev-snp", "--owner", "ops"];
    world.legation(&short).await.ended(3, &["reference.value", "48"]);
    world.legation(&["reference", "show", "nobody"]).await.ended(3, &["reference.unknown", "legation reference list"]);
    let tenant = world.root.join("tenant");
    fs::create_dir(&tenant).unwrap();
    for file in ["anchors.json", "identity.key", "sealing.key"] {
        fs::copy(world.deployment().client.join(file), tenant.join(file)).unwrap();
    }
    let config = fs::read_to_string(world.deployment().client.join("client.toml")).unwrap();
    let config: String =
        config.lines().filter(|l| !l.starts_with("operator_token")).map(|l| format!("{l}\n")).collect();
    fs::write(tenant.join("client.toml"), config).unwrap();
    program(&world.root, Some(&tenant), &args).await.ended(2, &["only the operator"]);

    // Whoever reads the list sees what nobody uses.
    let list = world.legation(&["reference", "list"]).await.ended(0, &[]).out();
    let line = |name: &str| {
        list.lines().map(str::trim_start).find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {list}"))
    };
    assert!(line("this-build").ends_with("appraisal"), "{list}");
    for name in ["running", "build", "published", "milan"] {
        assert!(line(name).ends_with("unused"), "{list}");
    }
    assert!(line("milan").contains("firmware milan from"), "{list}");
    let listed = world.legation(&["reference", "list", "--output", "json"]).await.ended(0, &[]);
    let listed = world.file("listed.json", &listed.stdout);

    // A policy that names what is not there loads nowhere; one that names something unused is found by the list above.
    let permit = |name: &str| format!("@id(\"only\")\npermit (principal in Image::\"{name}\", action, resource);\n");
    let unknown = world.file("unknown.cedar", permit("nobody"));
    for verb in ["set", "test", "diff"] {
        let refused = ["policy.reference", "Image::\"nobody\"", "legation reference add"];
        world.legation(&["policy", verb, &unknown]).await.ended(3, &refused);
    }
    world.legation(&["policy", "check", &unknown]).await.ended(0, &[]);
    let checked = world.legation(&["policy", "check", &unknown, "--references", &listed]).await.ended(2, &[]).out();
    assert!(checked.contains("unknown.cedar:2:") && checked.contains("policy.reference"), "{checked}");
    let good = world.file("good.cedar", permit("build"));
    let checked = world.legation(&["policy", "check", &good, "--references", &listed]).await.ended(0, &[]).out();
    assert!(checked.contains("note: reference value `published` is not used"), "{checked}");
    assert!(checked.contains("loads: 1 rules") && !checked.contains("`build` is not used"), "{checked}");
    let asks = world.file("asks.cedar", permit("build").replace(");", ") when { principal.colour == \"red\" };"));
    world.legation(&["policy", "set", &asks]).await.ended(3, &["policy.schema", "2:", "colour"]);
    let checked = world.legation(&["policy", "check", &asks]).await.ended(2, &[]).out();
    assert!(checked.contains("asks.cedar:2:") && checked.contains("colour"), "{checked}");
    program(&world.root, Some(&tenant), &["policy", "set", &good]).await.ended(3, &["api.operator"]);

    // What is over is named by no new policy; what is used is not ended by a slip.
    let args = ["reference", "expire", "this-build"];
    world.legation(&args).await.ended(3, &["reference.used", "used by appraisal", "--force"]);
    let said = world.legation(&["reference", "expire", "build"]).await.ended(0, &[]).out();
    assert!(said.contains("EXPIRED"), "{said}");
    for verb in ["set", "test", "diff"] {
        world.legation(&["policy", verb, &good]).await.ended(3, &["policy.expired", "`build` expired at", "ask ops"]);
    }
    let listed = world.legation(&["reference", "list", "--output", "json"]).await.ended(0, &[]);
    let listed = world.file("listed.json", &listed.stdout);
    let checked = world.legation(&["policy", "check", &good, "--references", &listed]).await.ended(2, &[]).out();
    assert!(checked.contains("policy.expired") && checked.contains("does not load"), "{checked}");
    // Nothing of this was set, and nobody was the worse for it.
    assert_eq!(world.client().policy(&Scope::Pool).await.unwrap().current.version, 1);
    world.legation(&["run", &guest("noop")]).await.ended(0, &[]);
}

#[tokio::test]
async fn a_policy_that_refuses_an_enclave_takes_it_out_until_the_policy_goes() {
    let world = World::started(&["aurora", "boreal"]).await;
    let (aurora, boreal) = (world.enclave("aurora").await, world.enclave("boreal").await);
    // Work that would take minutes, where it is cheapest.
    let runner = world.runner();
    let job = slow::job(&runner, 1, 200 * SECOND).await;
    let submitted = runner.submit(job, &[]).await.unwrap();
    let task = submitted.task;
    let following = tokio::spawn(async move { runner.follow(submitted, |_| {}).await });
    let attempts = async || world.task(task).await.fragments[0].attempts.clone();
    let offered = async || world.task(task).await.fragments[0].offered.then_some(());
    eventually("it runs", SOON, offered).await;
    assert_eq!(attempts().await[0].enclave, aurora);

    // What would happen, before it happens.
    let old = world.file("old.cedar", starter(&world));
    let rule = "@id(\"not-in-the-north\")\n@fix(\"move the machine to the south\")\n\
                forbid (principal, action, resource) when { principal.region == \"eu-north\" };\n";
    let new = world.file("new.cedar", format!("{}\n{rule}", starter(&world)));
    let said = world.legation(&["policy", "check", &new]).await.ended(0, &[]).out();
    assert!(said.contains("loads: 4 rules"), "{said}");
    let said = world.legation(&["policy", "test", &new]).await.ended(3, &[]).out();
    assert!(said.contains("would refuse 1 of 2, because 1 fail policy.not-in-the-north"), "{said}");
    let said = world.legation(&["policy", "test", &old]).await.ended(0, &[]).out();
    assert!(said.contains("would refuse 0 of 2"), "{said}");
    let said = world.legation(&["policy", "diff", &new]).await.ended(0, &[]).out();
    for words in ["+ rule not-in-the-north", "1 of 2 enclaves change", &aurora.short(), "+ refused: policy.not-in"] {
        assert!(said.contains(words), "no `{words}` in {said}");
    }
    assert!(!said.contains(&boreal.short()), "{said}");
    assert!(is_whole(&world.client().enclave(aurora).await.unwrap()), "asking changes nothing");

    let said = world.legation(&["policy", "set", &new]).await.ended(0, &[]).out();
    assert!(said.contains("policy appraisal is version 2 now"), "{said}");
    let out = becomes(&world, "aurora is taken out, and its verifier takes its word back", aurora, |view| {
        view.cordon.is_some() && view.withdrawal.is_some()
    })
    .await;
    let (cordon, withdrawal) = (out.cordon.unwrap(), out.withdrawal.unwrap());
    assert!(cordon.why.check == "policy.not-in-the-north" && cordon.why == withdrawal.why, "{cordon:?} {withdrawal:?}");
    assert_eq!((cordon.why.fix.as_str(), cordon.revocation), ("move the machine to the south", None));
    let shown = world.legation(&["enclave", "show", &aurora.to_string()]).await.ended(0, &[]).out();
    for words in
        ["state        cordoned", "withdrawn    by ", "policy.not-in-the-north", "move the machine to the south"]
    {
        assert!(shown.contains(words), "no `{words}` in {shown}");
    }
    let list = world.legation(&["enclave", "list"]).await.ended(0, &[]).out();
    assert_eq!(list.matches("cordoned").count(), 1, "{list}");
    world.logs("aurora", &["policy.not-in-the-north"], SOON).await;

    // What ran there goes on elsewhere, what is new begins there, and both say why.
    let moved = eventually("the work moves", SOON, async || {
        let all = attempts().await;
        (all.len() == 2).then_some(all)
    });
    let moved = moved.await;
    let lapsed =
        |end: &Option<LeaseEnd>| matches!(end, Some(LeaseEnd::Lapsed { why }) if why.check == cordon.why.check);
    assert!(lapsed(&moved[0].ended) && moved[1].enclave == boreal, "{moved:?}");
    let explained = world.legation(&["explain", &task.to_string()]).await.ended(0, &[]).out();
    assert!(explained.contains("ended: lapsed policy.not-in-the-north: "), "{explained}");
    let (newer, place) = runs_on(&world).await;
    assert_eq!(place, boreal);
    let explained = world.legation(&["explain", &newer.to_string()]).await.ended(0, &[]).out();
    assert!(explained.contains("policy.not-in-the-north"), "{explained}");
    assert!(is_whole(&world.client().enclave(boreal).await.unwrap()));
    following.abort();
    world.legation(&["task", "cancel", &task.to_string()]).await.ended(0, &[]);

    // The text of before is a version like any other, and lets it in again.
    let versions = world.legation(&["policy", "versions", "--output", "json"]).await.ended(0, &[]).json();
    let texts: Vec<_> =
        versions.as_array().unwrap().iter().map(|v| (v["version"].as_u64(), v["text"].as_str())).collect();
    assert_eq!(texts[1], (Some(1), Some(starter(&world).as_str())));
    assert!(texts.len() == 2 && texts[0].1.unwrap().ends_with(rule), "{texts:?}");
    world.legation(&["policy", "set", &old]).await.ended(0, &[]);
    becomes(&world, "aurora is back", aurora, is_whole).await;
    let shown = world.legation(&["enclave", "show", &aurora.to_string()]).await.ended(0, &[]).out();
    assert!(shown.contains("state        here") && !shown.contains("withdrawn"), "{shown}");
    assert_eq!(runs_on(&world).await.1, aurora);
    let versions = world.legation(&["policy", "versions"]).await.ended(0, &[]).out();
    assert_eq!(versions.lines().filter(|l| l.contains("operator")).count(), 2, "{versions}");
}

#[tokio::test]
async fn an_image_whose_value_is_ended_is_out_until_the_value_is_made_anew() {
    let world = World::started(&["aurora"]).await;
    let aurora = world.enclave("aurora").await;
    let said = world.legation(&["reference", "expire", "this-build", "--force"]).await.ended(0, &[]).out();
    assert!(said.contains("EXPIRED") && said.contains("used by      appraisal"), "{said}");
    let out = becomes(&world, "aurora is taken out", aurora, |view| view.cordon.is_some()).await;
    let why = out.cordon.unwrap().why;
    assert!(why.check == "policy.known-image" && !why.fix.is_empty(), "{why:?}");
    world.legation(&["run", &guest("noop"), "--timeout", "2"]).await.ended(5, &["found no enclave"]);
    // The policy in force is doubtful now, and says so.
    let shown = world.legation(&["policy", "show"]).await.ended(0, &[]).out();
    assert!(shown.contains("warning      ") && shown.contains("policy.expired"), "{shown}");

    // What it measured is known yet.
    let args = ["reference", "add", "this-build", "--enclave", &aurora.to_string(), "--owner", "release team"];
    let said = world.legation(&args).await.ended(0, &[]).out();
    assert!(said.contains("used by      appraisal"), "{said}");
    becomes(&world, "aurora is back", aurora, is_whole).await;
    assert_eq!(runs_on(&world).await.1, aurora);
}

#[tokio::test]
async fn policies_versions_and_reference_values_outlive_the_manager() {
    let mut world = World::started(&["aurora"]).await;
    let value = nobodys();
    for name in ["kept", "ended"] {
        let args = ["reference", "add", name, "--value", &value, "--tee", "sev-snp", "--owner", "ops"];
        world.legation(&[&args[..], &["--expires", "2099-06-30"]].concat()).await.ended(0, &[]);
    }
    world.legation(&["reference", "expire", "ended"]).await.ended(0, &[]);
    let second = world.file("second.cedar", format!("{}\n// Read by two people.\n", starter(&world)));
    world.legation(&["policy", "set", &second]).await.ended(0, &[]);
    let text = "@id(\"overseas\") permit (principal, action, resource) when { principal.region == \"us-east\" };\n";
    let tenants = world.file("tenant.cedar", text);
    world.legation(&["policy", "set", &tenants, "--tenant", "demo"]).await.ended(0, &[]);

    let queries: [&[&str]; 6] = [
        &["reference", "list"],
        &["policy", "list"],
        &["policy", "show"],
        &["policy", "versions"],
        &["policy", "show", "--tenant", "demo"],
        &["policy", "versions", "--tenant", "demo"],
    ];
    let all = async |world: &World| {
        let mut answers = Vec::new();
        for query in queries {
            answers.push(world.legation(&[query, &["--output", "json"]].concat()).await.ended(0, &[]).json());
        }
        answers
    };
    let before = all(&world).await;
    assert_eq!(before[3].as_array().unwrap().len(), 2);
    assert_eq!(before[4]["current"]["author"], "tenant demo");
    world.cloud.kill_manager().await.unwrap();
    world.cloud.start_manager().unwrap();
    world.ready(1).await;
    assert_eq!(all(&world).await, before);

    // They are not only shown: the tenant's policy still keeps its tasks off, and what is over is still over.
    let args = ["run", &guest("noop"), "--timeout", "2"];
    world.legation(&args).await.ended(5, &["found no enclave"]);
    let task = world.client().tasks(None).await.unwrap().tasks[0].task;
    let explained = world.legation(&["explain", &task.to_string()]).await.ended(0, &[]).out();
    assert!(explained.contains("no: place.policy: "), "{explained}");
    let permit = "@id(\"a\") permit (principal in Image::\"ended\", action, resource);\n";
    let ended = world.file("ended.cedar", permit);
    world.legation(&["policy", "set", &ended]).await.ended(3, &["policy.expired"]);
    let anywhere = world.file("anywhere.cedar", "@id(\"anywhere\") permit (principal, action, resource);\n");
    world.legation(&["policy", "set", &anywhere, "--tenant", "demo"]).await.ended(0, &[]);
    world.legation(&["run", &guest("noop")]).await.ended(0, &[]);
    let demo = Scope::Tenant(TenantId::new("demo").unwrap());
    assert_eq!(world.client().policy(&demo).await.unwrap().current.version, 2);
}

//! Accounts and estimates from the command line, at a running manager.

use crate::world::{Ran, World, guest};

/// Ended so and printed all of this.
#[track_caller]
fn printed(ran: Ran, code: i32, words: &[&str]) {
    let out = ran.ended(code, &[]).out();
    for word in words {
        assert!(out.contains(word), "no `{word}` in {out}");
    }
}

#[tokio::test]
async fn a_budget_stops_work_until_it_is_topped_up_and_a_dry_run_says_so_before() {
    let world = World::started(&["aurora"]).await;
    let noop = guest("noop");

    // What it would come to; nothing is submitted.
    let said = world.legation(&["run", &noop, "--dry-run"]).await.ended(0, &[]).out();
    for word in ["be placed now", "the only class", "as at most", "account   any left"] {
        assert!(said.contains(word), "no `{word}` in {said}");
    }
    assert!(world.client().tasks(None).await.unwrap().tasks.is_empty());
    world.legation(&["run", &noop]).await.ended(0, &[]);
    let said = world.legation(&["run", &noop, "--dry-run", "-o", "json"]).await.ended(0, &[]).out();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["fragments"][0]["outlook"]["past_runs"], 1);

    // A budget that pays for nothing refuses at once, the same before and when it is asked for.
    let tenant = world.client().accounts().await.unwrap()[0].tenant.clone().unwrap().to_string();
    let show = world
        .legation(&["account", "set", &tenant, "--budget", "0.000001", "--weight", "50"])
        .await
        .ended(0, &[])
        .out();
    assert!(show.contains("budget    0.000001 usd") && show.contains("weight    50"), "{show}");
    for args in [&["run", &noop, "--dry-run"][..], &["run", &noop]] {
        world.legation(args).await.ended(3, &["account.budget", "top the account up"]);
    }
    printed(world.legation(&["account", "set", &tenant, "--top-up", "1"]).await, 0, &["1.000001 usd"]);
    world.legation(&["run", &noop]).await.ended(0, &[]);
    let show = world.legation(&["account", "show"]).await.ended(0, &[]).out();
    assert!(show.contains("ms in enclaves") && show.contains("committed 0.000000 usd"), "{show}");
    let list = world.legation(&["account", "list"]).await.ended(0, &[]).out();
    assert!(list.contains(&tenant) && list.contains("own"), "{list}");
    printed(world.legation(&["account", "show", "--default"]).await, 0, &["the default account"]);

    // What would wait says why, and ends with another code.
    let mars = ["run", &noop, "--dry-run", "--residency", "mars-1"];
    printed(world.legation(&mars).await, 5, &["wait for an enclave", "data.residency", "mars-1"]);
    world.legation(&["run", &noop, "--priority", "9"]).await.ended(3, &["account.priority"]);
}

#[tokio::test]
async fn limits_of_a_placement_stand_in_the_task_and_in_its_receipt() {
    let world = World::started(&["aurora"]).await;
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.cedar");
    let text = "@id(\"small\") @limit_memory(\"64 MiB\") @limit_egress(\"1 MiB\")\n\
                permit (principal, action == Action::\"place\", resource);\n";
    std::fs::write(&rules, text).unwrap();
    let tenant = world.client().accounts().await.unwrap();
    let tenant = match tenant.first().and_then(|view| view.tenant.clone()) {
        Some(tenant) => tenant.to_string(),
        None => panic!("a tenant sees its own account"),
    };
    let rules = rules.to_str().unwrap();
    printed(world.legation(&["policy", "check", rules, "--tenant", &tenant]).await, 0, &["loads: 1 rules"]);
    let test = ["policy", "test", rules, "--tenant", &tenant, "--place", &tenant, "--sensitivity", "restricted"];
    printed(world.legation(&test).await, 0, &["would refuse 0 of 1"]);
    world.legation(&["policy", "set", rules, "--tenant", &tenant]).await.ended(0, &[]);
    let noop = guest("noop");
    printed(world.legation(&["run", &noop, "--dry-run"]).await, 5, &["limits.egress"]);
    let receipt = folder.path().join("receipt.json");
    let receipt = receipt.to_str().unwrap();
    let run = ["run", &noop, "--result-max", "1", "--receipt", receipt];
    world.legation(&run).await.ended(0, &[]);
    let limits = format!("at most memory 64 MiB, egress 1 MiB by tenant/{tenant}/small");
    printed(world.legation(&["receipt", "show", receipt]).await, 0, &[&limits]);
    let task = world.client().tasks(None).await.unwrap().tasks[0].task.to_string();
    printed(world.legation(&["task", "show", &task]).await, 0, &[&limits]);
}

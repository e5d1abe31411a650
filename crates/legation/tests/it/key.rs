//! `legation key` with real processes: nine agents of three providers make a swarm key, hand it on, and lose members of its committee; who
//! checks for itself sees the same key all the while.

use legation::setup;
use legation_core::{SwarmName, custody::Epoch};
use legation_pool::CustodyView;
use serde_json::Value;

use crate::world::{SOON, World, edit, eventually};

fn main_key() -> SwarmName {
    SwarmName::new("main").unwrap()
}

/// The swarm key, once it is so.
async fn stands(world: &World, what: &str, wanted: impl Fn(&CustodyView) -> bool) -> CustodyView {
    let client = world.client();
    let look = eventually(what, SOON, async || {
        let view = client.key(&main_key()).await.ok()?;
        wanted(&view).then_some(view)
    });
    look.await
}

fn is_at(view: &CustodyView, epoch: u64) -> bool {
    view.committee.as_ref().is_some_and(|committee| committee.epoch == Epoch(epoch))
}

async fn json(world: &World, args: &[&str]) -> Value {
    world.legation(args).await.ended(0, &[]).json()
}

/// Checks who has the key; gives its name, its epoch, and whether it was seen before.
async fn verified(world: &World) -> (String, u64, String) {
    let said = json(world, &["key", "verify", "--json"]).await;
    let text = |name: &str| said[name].as_str().unwrap_or_else(|| panic!("no {name} in {said}")).to_owned();
    (text("id"), said["epoch"].as_u64().unwrap(), text("pinned"))
}

#[tokio::test]
async fn nine_agents_make_a_key_hand_it_on_and_lose_two_members() {
    let mut world = World::planned(&setup::nine_agents());
    setup::custodians(world.deployment()).unwrap();
    world.start().await;
    let none = world.legation(&["key", "status"]).await.ended(0, &[]).out();
    assert!(none.contains("legation key charter"), "{none}");
    world.legation(&["key", "verify"]).await.ended(3, &["[custody.unknown]"]);

    // A charter is enough.
    let charter = ["key", "charter", "--of", "5/9", "--provider-max", "3", "--epoch", "1d", "--require", "development"];
    let said = world.legation(&charter).await.ended(0, &[]).out();
    assert!(said.contains("charter     1: 5 of 9, at most 3 with one provider"), "{said}");
    stands(&world, "the key is made", |view| is_at(view, 0)).await;
    let status = json(&world, &["key", "status", "--json"]).await;
    let committee = &status[0]["committee"];
    let numbers = ["epoch", "margin", "here"].map(|name| committee[name].as_i64());
    assert_eq!(numbers, [Some(0), Some(4), Some(9)]);
    assert_eq!(status[0]["warnings"], Value::Array(Vec::new()));
    let shown = world.legation(&["key", "status"]).await.ended(0, &[]).out();
    for words in ["main: good", "9 of 9 are here, 5 open: margin 4", "aurora", "boreal", "cumulus"] {
        assert!(shown.contains(words), "no `{words}` in {shown}");
    }

    // Who has it shows to whoever looks, and it is remembered.
    let (id, epoch, pinned) = verified(&world).await;
    assert_eq!((epoch, pinned.as_str()), (0, "new"));
    assert_eq!(verified(&world).await, (id.clone(), 0, "same".to_owned()));
    let saved = world.path("bundle.json");
    let said = world.legation(&["key", "verify", "--key", &id, "--save", &saved]).await.ended(0, &[]).out();
    assert!(said.contains("swarm key `main` is good") && said.contains("not confidentiality"), "{said}");
    world.legation(&["key", "verify", "--key", &"0".repeat(64)]).await.ended(4, &["[key.expected]"]);
    world.legation(&["key", "verify", "--file", &saved]).await.ended(0, &[]);
    let bundle = std::fs::read_to_string(&saved).unwrap();
    let cut = |change: fn(&mut Value)| {
        let mut value: Value = serde_json::from_str(&bundle).unwrap();
        change(&mut value);
        value.to_string()
    };
    for (name, text, said) in [
        ("a word is missing", cut(|b| drop(b["board"]["words"].as_array_mut().unwrap().pop())), "[key.force]"),
        ("five passports are missing", cut(|b| b["peers"].as_array_mut().unwrap().truncate(4)), "[key.members]"),
        ("nothing was said", cut(|b| b["board"] = Value::Null), "[key.force]"),
        ("a signature is another", bundle.replacen("\"sig\":\"", "\"sig\":\"A", 1), "does not show"),
        ("not JSON", "{".to_owned(), "does not show"),
    ] {
        let file = world.file("changed.json", text);
        let ran = world.legation(&["key", "verify", "--file", &file]).await;
        assert!(ran.stderr.contains(said), "{name}: {ran:?}");
        ran.ended(4, &[]);
    }

    // Another committee, the same key.
    let said = world.legation(&["key", "rotate"]).await.ended(0, &[]).out();
    assert!(said.contains("epoch       1, "), "{said}");
    assert_eq!(verified(&world).await, (id.clone(), 1, "same".to_owned()));
    // What was over is not shown as what is.
    world.legation(&["key", "verify", "--file", &saved]).await.ended(4, &["[key.stale]"]);

    // Two of nine are lost: the margin says so, and that there is nobody to take their place.
    for agent in ["aurora-1", "boreal-1"] {
        world.cloud.kill_agent(agent).await.unwrap();
    }
    let two_lost = |view: &CustodyView| view.committee.as_ref().is_some_and(|committee| committee.margin == 2);
    let view = stands(&world, "two are missed", two_lost).await;
    assert!(view.warnings.iter().any(|warning| warning.contains("no other committee can be called")), "{view:?}");
    let shown = world.legation(&["key", "status"]).await.ended(0, &[]).out();
    assert!(shown.contains("away since") && shown.contains("warning: "), "{shown}");
    world.legation(&["key", "rotate"]).await.ended(5, &["custody.candidates"]);

    // A smaller committee there is enough for: it comes into force without them.
    let smaller = ["key", "charter", "--of", "4/7", "--provider-max", "3", "--require", "development"];
    world.legation(&smaller).await.ended(0, &[]);
    let view = stands(&world, "another committee is in force", |view| is_at(view, 2)).await;
    let committee = view.committee.unwrap();
    assert_eq!((committee.here, committee.margin), (7, 3));
    assert_eq!(committee.key.id().to_string(), id);
    assert_eq!(verified(&world).await, (id.clone(), 2, "same".to_owned()));

    // Another key of that name is refused for as long as it is remembered.
    let pins = world.deployment().client.join("swarms.json");
    let text = std::fs::read_to_string(&pins).unwrap();
    std::fs::write(&pins, text.replace(&id, &"0".repeat(64))).unwrap();
    world.legation(&["key", "verify"]).await.ended(4, &["[key.pinned]", "--replace-pin"]);
    world.legation(&["key", "verify", "--replace-pin"]).await.ended(0, &[]);
    assert_eq!(verified(&world).await, (id, 2, "same".to_owned()));
    std::fs::write(&pins, "{").unwrap();
    world.legation(&["key", "verify"]).await.ended(4, &["[key.pins]"]);
}

#[tokio::test]
async fn what_is_wrong_with_a_charter_is_said_and_nothing_is_signed() {
    let mut world = World::new(&["aurora"]);
    world.start().await;
    let other = World::of("second", &[]);
    let root = other.root.join("operator.key");
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["--of", "4/9", "--require", "any"], 2, &["no majority"]),
        (&["--of", "five"], 2, &["wants T/N"]),
        (&["--of", "5/9"], 2, &["--require"]),
        (&["--of", "5/9", "--require", "tee = x"], 2, &["--require"]),
        (&["--of", "5/9", "--require", "any", "--provider-max", "5"], 2, &["[custody.providers]", "1 to 4"]),
        (&["--of", "2/2", "--require", "any"], 2, &["[custody.providers]", "a smaller threshold"]),
        (&["--of", "5/9", "--require", "any", "--epoch", "1"], 2, &["wants a time"]),
        (&["--of", "5/9", "--require", "any", "--epoch", "1s"], 2, &["[custody.charter]", "60 to"]),
        (&["--of", "5/9", "--require", "any", "--not-after", "1"], 3, &["[custody.charter]", "after"]),
        (&["--of", "5/9", "--require", "any", "--swarm", "Main"], 2, &["is not a name"]),
        (&["--of", "5/9", "--require", "any", "--operator", "none"], 2, &["none"]),
        (&["--of", "5/9", "--require", "any", "--operator", root.to_str().unwrap()], 2, &["is not the root"]),
    ];
    for &(args, code, said) in cases {
        let args: Vec<&str> = ["key", "charter"].into_iter().chain(args.iter().copied()).collect();
        world.legation(&args).await.ended(code, said);
    }
    assert!(world.client().keys().await.unwrap().is_empty());
    world.legation(&["key", "rotate"]).await.ended(3, &["[custody.unknown]"]);
    world.legation(&["key", "status", "--swarm", "main"]).await.ended(3, &["[custody.unknown]"]);

    // Good, and nobody is there to be called: that is said.
    let charter = ["key", "charter", "--of", "2/3", "--require", "any"];
    let said = world.legation(&charter).await.ended(0, &[]).out();
    for words in ["nobody has it yet", "warning: no other committee can be called now", "[custody]"] {
        assert!(said.contains(words), "no `{words}` in {said}");
    }
    world.legation(&["key", "verify"]).await.ended(4, &["[key.force]", "legation key status"]);
    // One after the other: each rests on the one before.
    let said = world.legation(&charter).await.ended(0, &[]).out();
    assert!(said.contains("charter     2: 2 of 3"), "{said}");
    // The operator alone.
    edit::<toml::Table>(&world.deployment().client.join("client.toml"), |table| drop(table.remove("operator_token")));
    world.legation(&charter).await.ended(2, &["only the operator may do this"]);
    world.legation(&["key", "rotate"]).await.ended(2, &["only the operator may do this"]);
    world.legation(&["key", "status"]).await.ended(0, &[]);
}

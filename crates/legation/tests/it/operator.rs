//! What an operator does to a running pool, from the command line alone: room is reserved, and one enclave after the other
//! is kept free, taken out and let back in, while work goes on.

use legation::run::now;
use serde_json::{Value, json};
use tokio::process::Child;

use crate::{
    slow::SECOND,
    world::{Ran, SOON, World, edit, eventually, finish, guest, spawn},
};

/// What a command that succeeds prints for programs.
async fn asked(world: &World, args: &[&str]) -> Value {
    let args: Vec<&str> = ["-o", "json"].into_iter().chain(args.iter().copied()).collect();
    world.legation(&args).await.ended(0, &[]).json()
}

/// Ended so and printed all of this.
#[track_caller]
fn printed(ran: Ran, code: i32, words: &[&str]) {
    let out = ran.ended(code, &[]).out();
    for word in words {
        assert!(out.contains(word), "no `{word}` in {out}");
    }
}

/// The task that is called `name`, once it is as `wanted`.
async fn seen(world: &World, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let look = eventually(name, SOON, async || {
        let all = asked(world, &["task", "list"]).await;
        all.as_array()?.iter().find(|task| task["name"] == *name && wanted(task)).cloned()
    });
    look.await
}

/// The enclave of a provider, once it is here.
async fn here(world: &World, provider: &str) -> String {
    let look = eventually(provider, SOON, async || {
        let all = asked(world, &["enclave", "list"]).await;
        let own = |e: &&Value| e["provider"] == *provider && e["presence"]["kind"] == "here";
        Some(all.as_array()?.iter().find(own)?["enclave"].as_str()?.to_owned())
    });
    look.await
}

/// Whether the first try of a task's only fragment was offered to an enclave of this provider.
fn works_at(task: &Value, provider: &str) -> bool {
    let fragment = &task["fragments"][0];
    fragment["offered"].as_bool() == Some(true) && fragment["attempts"][0]["provider"] == *provider
}

/// Starts what takes a few seconds, wherever `require` allows.
fn train(world: &World, name: &str, require: &str) -> Child {
    let mut table = "a,y\n".to_owned();
    (0..4 * SECOND).for_each(|row| table.push_str(&format!("1,{}\n", row % 7)));
    let (module, table) = (guest("train"), world.file(&format!("{name}.csv"), table));
    let limits = ["--cpu", "250", "--memory", "16", "--fuel", "1000000", "--time", "120"];
    let mut args: Vec<&str> = vec!["run", &module, "--name", name, "--input", &table, "--require", require];
    args.extend(limits);
    args.extend(["--", "epochs=1000000", "rate=0.0001", "l2=0.5"]);
    spawn(&world.root, Some(&world.deployment().client), &args)
}

#[tokio::test]
async fn a_reservation_keeps_its_room_until_it_is_given_up() {
    let world = World::started(&["aurora"]).await;
    let noop = guest("noop");

    // What cannot be held is refused, and says what is wrong with it.
    let (terms, seats) = ("[reservation.terms]", "[reservation.seats]");
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["nightly", "--seconds", "600", "--from", "1000000000"], 3, &[terms, "time of the reservation"]),
        (&["nightly", "--seconds", "59"], 3, &[terms, "at least 60 s"]),
        (&["nightly", "--seconds", "99999999999"], 3, &[terms, "split it"]),
        (&["Nightly", "--seconds", "600"], 3, &[terms, "name of the reservation"]),
        (&["nightly", "--seconds", "600", "--cpu", "0"], 3, &[terms, "some compute"]),
        (&["nightly", "--seconds", "600", "--cpu", "1000000"], 3, &[seats, "fewer or smaller seats"]),
        (&["nightly", "--seconds", "600", "--seats", "2"], 3, &[seats]),
        (&["nightly", "--seconds", "600", "--seats", "257"], 2, &["257"]),
    ];
    for &(args, code, said) in cases {
        let args: Vec<&str> = ["reserve", "create"].into_iter().chain(args.iter().copied()).collect();
        world.legation(&args).await.ended(code, said);
    }
    assert_eq!(asked(&world, &["reserve", "list"]).await, json!([]));

    // All of the enclave, in a while. The same name with the same terms is the same reservation.
    let (later, far) = (now().plus(300).0.to_string(), now().plus(5000).0.to_string());
    let create = ["reserve", "create", "nightly", "--from", &later, "--seconds", "600"];
    let made = asked(&world, &create).await;
    assert_eq!(made["seats"].as_array().map(Vec::len), Some(1), "{made}");
    assert_eq!(asked(&world, &create).await["reservation"], made["reservation"]);
    let other = ["reserve", "create", "nightly", "--from", &later, "--seconds", "700"];
    world.legation(&other).await.ended(3, &["[reservation.name]", "choose another name"]);
    let nightly = format!("reservation-{}", made["reservation"]);
    let other = ["reserve", "create", "theirs", "--tenant", "other", "--from", &far, "--seconds", "600"];
    let theirs = format!("reservation-{}", asked(&world, &other).await["reservation"]);

    // Until it begins, its room is anybody's who leaves in time; it cannot be used yet, and another tenant's never.
    world.legation(&["run", &noop]).await.ended(0, &[]);
    world.legation(&["run", &noop, "--reservation", &nightly]).await.ended(3, &["[reservation.early]"]);
    world.legation(&["run", &noop, "--reservation", &theirs]).await.ended(3, &["[reservation.foreign]"]);
    let dry = world.legation(&["run", &noop, "--time", "400", "--dry-run"]).await;
    printed(dry, 5, &["wait for an enclave", "1 place.reserved", "shorten the time limit"]);
    let long = ["run", &noop, "--time", "400", "--name", "long"];
    let long = spawn(&world.root, Some(&world.deployment().client), &long);
    let waits = seen(&world, "long", |task| task["fragments"][0]["phase"]["kind"] == "queued").await;
    let explain = ["explain", waits["task"].as_str().unwrap()];
    printed(world.legation(&explain).await, 0, &["queued", "no: place.reserved"]);
    printed(world.legation(&["reserve", "list"]).await, 0, &[&nightly, "1 of 1", "held", &theirs, "other"]);

    // Given up before it begins it costs nothing, and what waited goes on. Given up again, it is as it was.
    let cancel = ["reserve", "cancel", &nightly];
    let given_up = format!("{nightly} is given up; it cost 0.000000 usd");
    printed(world.legation(&cancel).await, 0, &[&given_up]);
    let before = asked(&world, &["reserve", "show", &nightly]).await;
    assert_eq!(before["ended"]["kind"], "cancelled");
    finish(long).await.ended(0, &[]);
    printed(world.legation(&cancel).await, 0, &["had ended before: given up by "]);
    assert_eq!(asked(&world, &["reserve", "show", &nightly]).await, before);
    printed(world.legation(&["reserve", "list"]).await, 0, &["given up by "]);
    world.legation(&["run", &noop, "--reservation", &nightly]).await.ended(3, &["[reservation.over]"]);

    // One that begins soon: from then on its seat is for what names it, and for nothing else.
    let soon = now().plus(5).0.to_string();
    let made = asked(&world, &["reserve", "create", "nightly", "--from", &soon, "--seconds", "600"]).await;
    let nightly = format!("reservation-{}", made["reservation"]);
    let ran = eventually("the reservation begins", SOON, async || {
        let ran = world.legation(&["run", &noop, "--reservation", &nightly]).await;
        (!ran.stderr.contains("[reservation.early]")).then_some(ran)
    });
    ran.await.ended(0, &[]);
    printed(world.legation(&["run", &noop, "--dry-run"]).await, 5, &["1 place.reserved"]);
    for (option, value, check) in [("--memory", "300", "reservation.size"), ("--time", "590", "reservation.time")] {
        let args = ["run", &noop, "--reservation", &nightly, option, value];
        world.legation(&args).await.ended(3, &[check]);
    }

    // While work is in its seat it is not given up.
    let for_ever = "(module (func (export \"_start\") (loop (br 0))))";
    let spins = world.file("spins", wat::parse_str(for_ever).unwrap());
    let args = ["run", &spins, "--name", "spins", "--reservation", &nightly, "--time", "120", "--fuel", "1000000"];
    let _running = spawn(&world.root, Some(&world.deployment().client), &args);
    let spins = seen(&world, "spins", |task| works_at(task, "aurora")).await;
    let cancel = ["reserve", "cancel", &nightly];
    world.legation(&cancel).await.ended(3, &["[reservation.busy]", "cancel those tasks"]);
    world.legation(&["task", "cancel", spins["task"].as_str().unwrap()]).await.ended(0, &[]);
    eventually("the seat is free", SOON, async || {
        let shown = asked(&world, &["reserve", "show", &nightly]).await;
        shown["seats"][0]["lease"].is_null().then_some(())
    })
    .await;
    world.legation(&cancel).await.ended(0, &[]);
    world.legation(&["run", &noop]).await.ended(0, &[]);
}

#[tokio::test]
async fn enclaves_are_kept_free_taken_out_and_let_back_in_while_work_goes_on() {
    let mut world = World::started(&["aurora", "boreal"]).await;
    let (aurora, boreal) = (here(&world, "aurora").await, here(&world, "boreal").await);
    let noop = guest("noop");
    let at_boreal = ["run", &noop, "--require", "provider == \"boreal\""];

    // Cordoned: what runs there ends well, and nothing new comes.
    let stays = train(&world, "stays", at_boreal[3]);
    seen(&world, "stays", |task| works_at(task, "boreal")).await;
    let held = asked(&world, &["enclave", "cordon", &boreal[..16], "--why", "a fan is loud"]).await;
    assert!(held["leases"] == 1 && held["hold"]["why"] == "a fan is loud", "{held}");
    let dry: Vec<&str> = at_boreal.into_iter().chain(["--dry-run"]).collect();
    printed(world.legation(&dry).await, 5, &["wait for an enclave", "1 pool.held"]);
    printed(world.legation(&["enclave", "list"]).await, 0, &["cordoned by its operator"]);
    printed(world.legation(&["enclave", "show", &boreal]).await, 0, &["cordoned by its operator", ": a fan is loud"]);
    finish(stays).await.ended(0, &[]);
    let stayed = seen(&world, "stays", |task| task["state"]["kind"] == "completed").await;
    assert_eq!(stayed["fragments"][0]["attempts"].as_array().map(Vec::len), Some(1), "{stayed}");

    // With the other cordoned there is one place to go, and then one to move to.
    let moves = train(&world, "moves", "any");
    seen(&world, "moves", |task| works_at(task, "aurora")).await;
    printed(world.legation(&["enclave", "uncordon", &boreal[..16]]).await, 0, &["takes work again"]);
    let gone = asked(&world, &["enclave", "decommission", &aurora, "--why", "sold to a museum"]).await;
    assert_eq!(gone["hold"]["why"], "sold to a museum", "{gone}");
    world.legation(&at_boreal).await.ended(0, &[]);
    finish(moves).await.ended(0, &[]);
    let moved = seen(&world, "moves", |task| task["state"]["kind"] == "completed").await;
    let tries = &moved["fragments"][0]["attempts"];
    assert_eq!(tries[0]["ended"], json!({"kind": "enclave-lost", "why": "decommissioned: sold to a museum"}));
    assert!(tries[1]["provider"] == "boreal" && tries[1]["ended"].is_null(), "{tries}");

    // It is forgotten, and remembered as taken out: its machine is told so, whatever boots on it.
    world.legation(&["enclave", "show", &aurora]).await.ended(3, &["[pool.enclave]"]);
    printed(world.legation(&["enclave", "retired"]).await, 0, &[&aurora, "sold to a museum"]);
    let refused = ["turned away", "pool.decommissioned", "sold to a museum", "legation enclave uncordon"];
    world.logs("aurora", &refused, SOON).await;
    world.cloud.kill_agent("aurora").await.unwrap();
    // So that what the fresh boot is told is not taken for what the one before was.
    std::fs::remove_file(world.path("logs/aurora.log")).unwrap();
    world.cloud.start_agent("aurora").unwrap();
    world.logs("aurora", &refused, SOON).await;
    let at_aurora = ["run", &noop, "--require", "provider == \"aurora\""];
    let dry: Vec<&str> = at_aurora.into_iter().chain(["--dry-run"]).collect();
    printed(world.legation(&dry).await, 5, &["wait for an enclave"]);

    // Let back in, by its whole name: it is in no list.
    world.legation(&["enclave", "uncordon", &aurora[..16]]).await.ended(2, &["no enclave begins with"]);
    printed(world.legation(&["enclave", "uncordon", &aurora]).await, 0, &["may attest anew"]);
    assert_ne!(here(&world, "aurora").await, aurora);
    world.legation(&at_aurora).await.ended(0, &[]);
    assert_eq!(asked(&world, &["enclave", "retired"]).await, json!({}));
}

#[tokio::test]
async fn names_that_nobody_has_are_told_apart_from_words_that_are_none() {
    let world = World::started(&["aurora", "boreal"]).await;
    let (noop, nobody) = (guest("noop"), "0".repeat(64));
    let (none, unknown) = ("no enclave begins with `zz`", "[pool.enclave]");
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["enclave", "show", "zz"], 2, &[none, "legation enclave list"]),
        (&["enclave", "cordon", "zz", "--why", "x"], 2, &[none]),
        (&["enclave", "decommission", "zz", "--why", "x"], 2, &[none]),
        (&["enclave", "uncordon", "zz"], 2, &[none]),
        (&["enclave", "decommission", "", "--why", "x"], 2, &["2 enclaves begin with", "more of the name"]),
        (&["enclave", "decommission", &nobody], 2, &["--why"]),
        (&["enclave", "show", &nobody], 3, &[unknown, "legation enclave list"]),
        (&["enclave", "cordon", &nobody, "--why", "x"], 3, &[unknown]),
        (&["enclave", "decommission", &nobody, "--why", "x"], 3, &[unknown]),
        (&["enclave", "uncordon", &nobody], 3, &[unknown]),
        (&["reserve", "show", "reservation-999999"], 3, &["[reservation.unknown]", "one of yours"]),
        (&["reserve", "cancel", "reservation-999999"], 3, &["[reservation.unknown]", "one of yours"]),
        (&["reserve", "cancel", "nightly"], 2, &["nightly"]),
        (&["run", &noop, "--reservation", "reservation-999999"], 3, &["[reservation.unknown]"]),
    ];
    for &(args, code, said) in cases {
        world.legation(args).await.ended(code, said);
    }
    // Who has no operator's token is told so before anything is asked of the manager.
    edit::<toml::Table>(&world.deployment().client.join("client.toml"), |table| drop(table.remove("operator_token")));
    let aurora = here(&world, "aurora").await;
    for command in ["cordon", "decommission"] {
        let args = ["enclave", command, &aurora, "--why", "x"];
        world.legation(&args).await.ended(2, &["only the operator may do this"]);
    }
    let args = ["reserve", "create", "theirs", "--tenant", "other", "--seconds", "600"];
    world.legation(&args).await.ended(2, &["only the operator may do this"]);
    assert!(asked(&world, &["enclave", "show", &aurora]).await["hold"].is_null());
}

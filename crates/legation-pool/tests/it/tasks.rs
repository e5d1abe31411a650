//! What becomes of tasks: submitted once, granted, run, reduced, ended, forgotten.

use legation_core::{
    Digest, FragmentIndex, MicroUsd, Rejection, Signed, Signer, TaskId,
    dsse::sign,
    statement::{Grant, Request},
};
use legation_pool::{Command, Effect, IdempotencyKey, LeaseEnd, Limits, Phase, TaskState};

use crate::world::*;

fn try_named(key: &str, body: &str) -> Option<IdempotencyKey> {
    Some(IdempotencyKey { key: key.into(), body: Digest::of(body.as_bytes()) })
}

#[test]
fn a_task_with_a_policy_grant_is_offered_at_once_and_completes() {
    let mut world = World::new([Machine::new("a")]);
    let request = world.signed(vec![fragment("only")]);
    let grant = sign(policy_grant(&request, &world.client), &world.client);
    let applied = world.submit_with(&request, vec![grant], None).unwrap();
    did(&applied, &["submitted", "granted with 0 keys", "lease-1 for #0", "-> offer lease-1"]);
    let task = TaskId::new(request.digest());
    let (lease, enclave) = world.lease(task, 0).unwrap();
    let parts = world.pool.offer(lease).unwrap();
    assert_eq!((parts.allocation.enclave, parts.grants.len(), parts.keys.len()), (enclave, 1, 0));
    let applied = world.run(lease);
    did(&applied, &["reported #0", "completed"]);
    assert!(applied.effects.contains(&Effect::TaskChanged { task }));
    // A tenth of a core for two seconds, at a cent per core-hour, rounded up.
    let known = world.pool.tasks().get(&task).unwrap();
    assert_eq!((known.spent, known.committed), (MicroUsd(1), MicroUsd(0)));
    assert!(world.pool.leases().is_empty());
    let receipt = world.receipt(task);
    assert_eq!((receipt.roots.len(), receipt.evidence.len()), (1, 1));
}

#[test]
fn a_task_with_inputs_waits_for_the_grants_of_its_owner_and_of_each_holder() {
    let mut world = World::new([Machine::new("a")]);
    let holder = Key::new("hospital");
    let inputs = vec![sealed("own", None), sealed("theirs", Some(&holder))];
    let request = world.signed(vec![reading(fragment("both"), inputs)]);
    let applied = world.submit_with(&request, Vec::new(), None).unwrap();
    did(&applied, &["submitted", "lease-1 for #0"]);
    let task = TaskId::new(request.digest());
    let (lease, enclave) = world.lease(task, 0).unwrap();
    let needs = world.needs(task);
    assert_eq!((needs[0].lease, needs[0].passport.enclave_id()), (lease, enclave));
    assert_eq!(needs[0].allocation.prev[1], needs[0].manager.digest());
    assert!(world.pool.offer(lease).is_err(), "an offer before its grants");
    let client = Key::new("client");
    did(&world.grant(lease, &client), &["granted with 1 keys"]);
    assert!(world.needs(task)[0].missing.contains("release"));
    did(&world.grant(lease, &holder), &["granted with 1 keys", "-> offer lease-1"]);
    assert!(world.needs(task).is_empty());
    assert_eq!(
        world.pool.offer(lease).unwrap().keys.iter().map(|k| k.object).collect::<Vec<_>>(),
        [object("own"), object("theirs")]
    );
    // Again: nothing is new.
    did(&world.grant(lease, &holder), &[]);
    did(&world.run(lease), &["reported #0", "completed"]);
    assert!(world.pool.tasks().get(&task).unwrap().keys.is_empty(), "keys outlive their task");
}

#[test]
fn keys_may_follow_their_grant() {
    let mut world = World::new([Machine::new("a")]);
    let request = world.signed(vec![reading(fragment("two"), vec![sealed("x", None), sealed("y", None)])]);
    let task = world.submit(&request);
    let (lease, _) = world.lease(task, 0).unwrap();
    let client = Key::new("client");
    let (grant, keys) = world.grant_to(lease, &client);
    let grant = Box::new(sign(grant, &client));
    let mut send = |keys: &[_]| world.apply(Command::Grant { grant: grant.clone(), keys: keys.to_vec() }).unwrap();
    did(&send(&keys[..1]), &["granted with 1 keys"]);
    did(&send(&keys[..1]), &[]);
    did(&send(&keys), &["granted with 1 keys", "-> offer lease-1"]);
    assert_eq!(world.pool.tasks()[&task].grants.len(), 1, "one grant, though it came three times");
}

#[test]
fn grants_that_help_nobody_are_refused() {
    let mut world = World::new([Machine::new("a")]);
    let holder = Key::new("hospital");
    let inputs = vec![sealed("own", None), sealed("theirs", Some(&holder))];
    let request = world.signed(vec![reading(fragment("both"), inputs)]);
    let task = world.submit(&request);
    let (lease, enclave) = world.lease(task, 0).unwrap();
    let client = Key::new("client");
    let (good, keys) = world.grant_to(lease, &client);
    let recipient = keys[0].recipient;
    let mut check = |claim: &str, change: &dyn Fn(&mut Grant), keys: Vec<_>, wanted: &str| {
        let mut grant = good.clone();
        change(&mut grant);
        let command = Command::Grant { grant: Box::new(sign(grant, &client)), keys };
        assert_eq!(world.refused(command), wanted, "{claim}");
    };
    let unchanged = |_: &mut Grant| {};
    check("over", &|g| g.expires = START.minus(1), keys.clone(), "grant.expires");
    check("of another task", &|g| g.task = TaskId::new(module()), keys.clone(), "task.unknown");
    check("beyond the request", &|g| g.budget = MicroUsd(u64::MAX), keys.clone(), "grant.budget");
    check("for a fragment that is not", &|g| g.fragments = vec![FragmentIndex(7)], keys.clone(), "grant.fragments");
    let theirs = || vec![wrapped(object("theirs"), recipient)];
    check("a key it does not release", &unchanged, theirs(), "grant.keys");
    check("a key of another holder", &|g| g.releases.push(object("theirs")), theirs(), "grant.releases");
    let stranger = vec![wrapped(object("own"), Digest::of(b"stranger"))];
    check("a key for a stranger", &unchanged, stranger, "grant.recipient");
    let mut large = keys.clone();
    large[0].sealed = vec![0; 1 << 16];
    check("a key of 64 KiB", &unchanged, large, "grant.wrapped");
    assert_eq!(world.lease(task, 0), Some((lease, enclave)));
    did(&world.grant(lease, &client), &["granted with 1 keys"]);
}

#[test]
fn who_holds_one_input_has_no_say_on_another() {
    let mut world = World::new([Machine::new("a")]);
    let parts =
        vec![owned(fragment("north"), "north"), reading(fragment("sum"), vec![output_of(0), sealed("own", None)])];
    let task = world.submit(&world.signed(parts));
    let north = Key::new("north");
    world.grant(world.lease(task, 0).unwrap().0, &north);
    world.run(world.lease(task, 0).unwrap().0);
    // North holds the output that is read, and sends a key of the client's object with it.
    let (grant, mut keys) = world.grant_to(world.lease(task, 1).unwrap().0, &north);
    let mut grant = Grant { releases: vec![grant.releases[0], object("own")], ..grant };
    keys.push(wrapped(object("own"), keys[0].recipient));
    let stray = Command::Grant { grant: Box::new(sign(grant.clone(), &north)), keys: keys.clone() };
    assert_eq!(world.refused(stray), "grant.keys");
    grant.releases.pop();
    keys.pop();
    did(&world.apply(Command::Grant { grant: Box::new(sign(grant, &north)), keys }).unwrap(), &["granted with 1 keys"]);
}

#[test]
fn a_grant_that_is_over_does_not_spoil_a_newer_one() {
    let mut world = World::new([Machine::new("a")]);
    let request = world.signed(vec![reading(fragment("slow"), vec![sealed("x", None), sealed("y", None)])]);
    let task = world.submit(&request);
    let (lease, _) = world.lease(task, 0).unwrap();
    let client = Key::new("client");
    let (mut short, keys) = world.grant_to(lease, &client);
    short.expires = world.now.plus(5);
    // One key is missing, so that it is not offered yet; then the grant is over.
    world.apply(Command::Grant { grant: Box::new(sign(short, &client)), keys: keys[..1].to_vec() }).unwrap();
    world.wait(10);
    did(&world.grant(lease, &client), &["granted with 1 keys", "-> offer lease-1"]);
    let offered = world.pool.offer(lease).unwrap().grants;
    assert!(offered.iter().all(|g| g.expires >= world.now), "an offer with a grant that is over: {offered:?}");
    did(&world.run(lease), &["reported #0", "completed"]);
}

#[test]
fn reducing_fragments_wait_for_what_they_read() {
    let mut world = World::new([Machine::new("a"), Machine::new("b")]);
    let parts = vec![
        owned(fragment("north"), "north"),
        owned(fragment("south"), "south"),
        reading(fragment("sum"), vec![output_of(0), output_of(1)]),
    ];
    let request = world.signed(parts);
    let task = world.submit(&request);
    assert_eq!(world.phase(task, 2), Phase::Waiting);
    let (north, south) = (world.lease(task, 0).unwrap(), world.lease(task, 1).unwrap());
    assert_ne!(north.1, south.1, "parts of one task on one enclave though there are two");
    let (north_key, south_key) = (Key::new("north"), Key::new("south"));
    did(&world.grant(north.0, &north_key), &["granted with 0 keys", "-> offer lease-1"]);
    did(&world.grant(south.0, &south_key), &["granted with 0 keys", "-> offer lease-2"]);
    did(&world.run(south.0), &["reported #1"]);
    assert_eq!(world.phase(task, 2), Phase::Waiting);
    did(&world.run(north.0), &["reported #0", "lease-3 for #2"]);
    let needs = world.needs(task);
    let upstream: Vec<_> = needs[0].upstream.iter().map(|u| (u.fragment.0, u.key.recipient)).collect();
    assert_eq!(upstream, [(0, sealing("north").digest()), (1, sealing("south").digest())]);
    let (sum, _) = world.lease(task, 2).unwrap();
    let client = Key::new("client");
    did(&world.grant(sum, &client), &["granted with 0 keys"]);
    did(&world.grant(sum, &south_key), &["granted with 1 keys"]);
    did(&world.grant(sum, &north_key), &["granted with 1 keys", "-> offer lease-3"]);
    assert_eq!(world.pool.offer(sum).unwrap().upstream.len(), 2);
    did(&world.run(sum), &["reported #2", "completed"]);
    assert_eq!(world.receipt(task).roots.len(), 1);
}

#[test]
fn a_failed_fragment_fails_the_task_and_stops_the_others() {
    let mut world = World::new([Machine::new("a")]);
    let task = world.submit_granted(vec![fragment("good"), fragment("bad")]);
    let (bad, _) = world.lease(task, 1).unwrap();
    let applied = world.fail(bad, "exit-2");
    let failed = "failed: fragment #1 `bad` failed: exit-2";
    did(&applied, &["reported #1", "lease-1 ended: the task ended", failed, "-> cancel lease-1"]);
    assert!(world.pool.leases().is_empty());
    assert_eq!(world.receipt(task).roots.len(), 1, "a failure has its receipt too");
}

#[test]
fn a_reason_of_any_length_is_kept_short() {
    let mut world = World::new([Machine::new("a")]);
    let task = world.submit_granted(vec![fragment("loud")]);
    let (lease, _) = world.lease(task, 0).unwrap();
    world.fail(lease, &"!".repeat(100_000));
    match world.state(task) {
        TaskState::Failed { reason } => assert!(reason.len() < 3000, "{} bytes", reason.len()),
        state => panic!("{state:?}"),
    }
}

#[test]
fn a_task_ends_when_its_client_gives_it_up() {
    let mut world = World::new([Machine::new("a")]);
    let task = world.submit_granted(vec![fragment("one"), fragment("two"), fragment("waits")]);
    let applied = world.apply(Command::Cancel { task }).unwrap();
    let ended = ["lease-1 ended: the task ended", "lease-2 ended: the task ended", "cancelled"];
    did(&applied, &[&ended[..], &["-> cancel lease-1", "-> cancel lease-2"]].concat());
    assert_eq!(world.refused(Command::Cancel { task }), "task.ended");
    assert_eq!(world.pool.view().fragments_queued, 0);
    did(&world.wait(1), &[]);
}

#[test]
fn a_task_ends_when_its_time_is_over() {
    let mut world = World::new([]);
    let task = world.submit_granted(vec![fragment("waits")]);
    did(&world.wait(HOUR), &[]);
    did(&world.wait(1), &["expired"]);
    assert_eq!(world.state(task), TaskState::Expired);
}

#[test]
fn freed_room_goes_to_the_next_task() {
    let mut world = World::new([Machine::new("a").slots(1)]);
    let first = world.submit_granted(vec![fragment("first")]);
    let second = world.submit_granted(vec![fragment("second")]);
    assert_eq!(world.phase(second, 0), Phase::Queued);
    let applied = world.apply(Command::Cancel { task: first }).unwrap();
    did(
        &applied,
        &["lease-1 ended: the task ended", "cancelled", "lease-2 for #0", "-> cancel lease-1", "-> offer lease-2"],
    );
}

#[test]
fn a_budget_is_never_exceeded() {
    let mut world = World::new([Machine::new("a").slots(9)]);
    // A tenth of a core for a minute may cost 17 millionths: room for two at a time.
    let mut asked = request("client", "tight", world.now, vec![fragment("1"), fragment("2"), fragment("3")]);
    asked.budget = MicroUsd(34);
    let asked = sign(asked, &world.client);
    let grant = sign(policy_grant(&asked, &world.client), &world.client);
    world.submit_with(&asked, vec![grant], None).unwrap();
    let task = TaskId::new(asked.digest());
    assert_eq!(world.pool.tasks().get(&task).unwrap().committed, MicroUsd(34));
    assert_eq!(world.phase(task, 2), Phase::Queued);
    let why = world.pool.explain(task, world.now).unwrap()[2].classes[0].why_not[0].why.clone();
    assert_eq!(why.check, "pool.budget");
    // What it was charged is less than what it might have been, but not little enough.
    did(&world.run(world.lease(task, 0).unwrap().0), &["reported #0"]);
    let applied = world.run(world.lease(task, 1).unwrap().0);
    did(&applied, &["reported #1", "lease-3 for #2", "-> offer lease-3"]);
}

#[test]
fn what_cannot_be_counted_is_over_the_budget() {
    let costly = |name, cents| Machine::new(name).at("alpha", "eu-1", cents).slots(9);
    let mut world = World::new([costly("a", 1_000_000_000), costly("b", 1_000_000_000)]);
    let forever = |name| {
        let mut fragment = fragment(name);
        fragment.demand.time = legation_core::Millis(legation_core::task::REQUEST_LIFE_MAX * 1000);
        fragment.demand.cpu = legation_core::Millicores(2000);
        fragment
    };
    let mut asked = request("client", "dear", world.now, vec![forever("1"), forever("2")]);
    asked.budget = MicroUsd(u64::MAX);
    let asked = sign(asked, &world.client);
    let task = world.submit(&asked);
    // Two of them may cost 3 * 10^15 each: countable. The audit would find an overflow.
    assert!(world.lease(task, 0).is_some() && world.lease(task, 1).is_some());
    world.apply(Command::Cancel { task }).unwrap();
    assert_eq!(world.pool.tasks().get(&task).unwrap().committed, MicroUsd(0));
    let mut world = World::new([costly("c", u64::MAX / 10_000)]);
    let task = world.submit(&asked);
    assert!(world.lease(task, 0).is_some());
    assert_eq!(world.pool.tasks().get(&task).unwrap().committed, MicroUsd(u64::MAX));
    assert_eq!(world.phase(task, 1), Phase::Queued);
}

#[test]
fn submitting_again_changes_nothing() {
    let mut world = World::new([Machine::new("a")]);
    let request = world.signed(vec![fragment("once")]);
    let task = world.submit(&request);
    let leases = world.pool.leases().len();
    did(&world.submit_with(&request, Vec::new(), None).unwrap(), &[]);
    assert_eq!((world.pool.leases().len(), world.pool.tasks().len()), (leases, 1));
    world.apply(Command::Cancel { task }).unwrap();
    did(&world.submit_with(&request, Vec::new(), None).unwrap(), &[]);
    assert_eq!(world.state(task), TaskState::Cancelled);
}

#[test]
fn an_idempotency_key_means_one_thing_to_one_client() {
    let mut world = World::new([]);
    let first = world.signed(vec![fragment("first")]);
    world.submit_with(&first, Vec::new(), try_named("k", "body")).unwrap();
    did(&world.submit_with(&first, Vec::new(), try_named("k", "body")).unwrap(), &[]);
    let second = world.signed(vec![fragment("second")]);
    let mut refused = |request: &Signed<Request>, idempotency| {
        world.refused(Command::Submit { request: Box::new(request.clone()), grants: Vec::new(), idempotency })
    };
    assert_eq!(refused(&first, try_named("k", "other body")), "idempotency.reused");
    assert_eq!(refused(&second, try_named("k", "body")), "idempotency.reused");
    assert_eq!(refused(&second, try_named("", "body")), "idempotency.key");
    assert_eq!(refused(&second, try_named(&"k".repeat(256), "body")), "idempotency.key");
    // Another client's keys are its own.
    let other = Key::new("other");
    let theirs = sign(request("other", "theirs", world.now, vec![fragment("theirs")]), &other);
    did(&world.submit_with(&theirs, Vec::new(), try_named("k", "their body")).unwrap(), &["submitted"]);
}

#[test]
fn requests_out_of_their_time_are_refused() {
    let mut world = World::new([]);
    for (claim, created, expires, wanted) in [
        ("over", START.minus(100), START, "request.dates"),
        ("of tomorrow", START.plus(86_400), START.plus(90_000), "request.dates"),
        ("ending before its begin", START.plus(1), START, "request.expires"),
    ] {
        let mut asked = request("client", claim, START, vec![fragment("late")]);
        (asked.created, asked.expires) = (created, expires);
        let request = Box::new(sign(asked, &world.client));
        let command = Command::Submit { request, grants: Vec::new(), idempotency: None };
        assert_eq!(world.refused(command), wanted, "{claim}");
    }
}

#[test]
fn a_pool_takes_so_many_live_tasks() {
    let mut world = World::with(Limits { live_tasks_max: 2, ..Limits::default() }, []);
    let first = world.submit_granted(vec![fragment("1")]);
    world.submit_granted(vec![fragment("2")]);
    let third = world.signed(vec![fragment("3")]);
    let submit = Command::Submit { request: Box::new(third), grants: Vec::new(), idempotency: None };
    assert_eq!(world.refused(submit.clone()), "pool.full");
    world.apply(Command::Cancel { task: first }).unwrap();
    did(&world.apply(submit).unwrap(), &["submitted"]);
}

#[test]
fn a_fragment_is_tried_so_often() {
    let limits = Limits { attempts_max: 3, ..Limits::default() };
    let mut world = World::with(limits, [Machine::new("a"), Machine::new("b"), Machine::new("c"), Machine::new("d")]);
    let task = world.submit_granted(vec![fragment("other"), fragment("picky")]);
    for _ in 0..2 {
        world.refuse(world.lease(task, 1).unwrap().0);
    }
    let last = world.lease(task, 1).unwrap().0;
    let applied = world.refuse(last);
    let failed =
        "failed: fragment #1 `picky` was tried 3 times; the last time, the enclave refused: agent.busy: the engine";
    let (ended, stopped) =
        ("lease-4 ended: the enclave refused: agent.busy: the engine", "lease-1 ended: the task ended");
    did(&applied, &[ended, stopped, failed, "-> cancel lease-1"]);
}

#[test]
fn ended_tasks_are_forgotten_and_not_run_again() {
    for kept in [0, 2] {
        let mut world = World::with(Limits { ended_tasks_kept: kept, ..Limits::default() }, [Machine::new("a")]);
        let mut requests = Vec::new();
        for n in 0..4 {
            let request = world.signed(vec![fragment("short")]);
            world.submit_with(&request, Vec::new(), try_named(&format!("key {n}"), "body")).unwrap();
            let task = TaskId::new(request.digest());
            if n % 2 == 0 {
                world.apply(Command::Cancel { task }).unwrap();
            } else {
                let (lease, enclave) = world.lease(task, 0).unwrap();
                let grant = sign(policy_grant(&request, &world.client), &world.client);
                world.apply(Command::Grant { grant: Box::new(grant), keys: Vec::new() }).unwrap();
                assert_eq!(world.pool.leases().get(&lease).unwrap().enclave, enclave);
                world.run(lease);
            }
            requests.push(request);
        }
        assert_eq!(world.pool.tasks().len(), kept);
        assert_eq!(world.pool.view().tasks_live, 0);
        let gone = Command::Submit { request: Box::new(requests[0].clone()), grants: Vec::new(), idempotency: None };
        assert_eq!(world.refused(gone.clone()), "task.forgotten");
        // Its key is free again.
        let fresh = world.signed(vec![fragment("short")]);
        world.submit_with(&fresh, Vec::new(), try_named("key 0", "other body")).unwrap();
        world.wait(HOUR + 1);
        assert_eq!(world.refused(gone), "request.dates");
    }
}

#[test]
fn the_same_grant_twice_counts_once() {
    let mut world = World::new([Machine::new("a")]);
    let request = world.signed(vec![fragment("once")]);
    let grant = sign(policy_grant(&request, &world.client), &world.client);
    let applied = world.submit_with(&request, vec![grant.clone(), grant], None).unwrap();
    did(&applied, &["submitted", "granted with 0 keys", "lease-1 for #0", "-> offer lease-1"]);
}

#[test]
fn too_many_grants_are_refused() {
    let mut world = World::new([]);
    let request = world.signed(vec![fragment("popular")]);
    let grant = |n| sign(Grant { budget: MicroUsd(n), ..policy_grant(&request, &world.client) }, &world.client);
    let grants = (0..8193).map(grant).collect();
    let command = Command::Submit { request: Box::new(request.clone()), grants, idempotency: None };
    assert_eq!(world.refused(command), "grant.many");
}

#[test]
fn an_enclave_is_not_asked_twice_for_what_it_refused() {
    let mut world = World::new([Machine::new("a"), Machine::new("b")]);
    let task = world.submit_granted(vec![fragment("moves")]);
    let (first, refuser) = world.lease(task, 0).unwrap();
    let applied = world.refuse(first);
    let refused = "lease-1 ended: the enclave refused: agent.busy: the engine";
    did(&applied, &[refused, "lease-2 for #0", "-> offer lease-2"]);
    let (second, other) = world.lease(task, 0).unwrap();
    assert_ne!(refuser, other);
    world.refuse(second);
    assert_eq!(world.phase(task, 0), Phase::Queued, "both have refused");
    let why = world.pool.explain(task, world.now).unwrap().remove(0);
    assert!(why.classes.iter().flat_map(|c| &c.why_not).all(|reason| reason.why.check == "pool.tried"));
    assert_eq!(why.classes.iter().map(|c| (c.enclaves, c.free)).collect::<Vec<_>>(), [(2, 0)]);
    // Another fragment may still go there.
    let other_task = world.submit_granted(vec![fragment("welcome")]);
    assert!(world.lease(other_task, 0).is_some());
    let kinds: Vec<_> =
        world.tries(task, 0).into_iter().map(|(_, e)| matches!(e, Some(LeaseEnd::Refused { .. }))).collect();
    assert_eq!(kinds, [true, true]);
}

#[test]
fn what_an_enclave_says_is_kept_short() {
    let mut world = World::new([Machine::new("a")]);
    let task = world.submit_granted(vec![fragment("loud")]);
    let (lease, enclave) = world.lease(task, 0).unwrap();
    let why = Rejection::new("agent.busy", "!".repeat(100_000)).got("!".repeat(100_000));
    world.apply(Command::Refuse { enclave, lease, why }).unwrap();
    let text = serde_json::to_string(&world.tries(task, 0)[0].1).unwrap();
    assert!(text.len() < 6000, "{} bytes", text.len());
}

#[test]
fn a_client_key_is_not_a_manager_key() {
    let mut world = World::new([]);
    let other = Key::new("client");
    assert_ne!(other.public_key(), world.manager.public_key());
    let before = world.pool.clone();
    let why = world.pool.apply(Command::Tick, world.now, &other).unwrap_err();
    assert_eq!(why.check, "pool.term");
    assert_eq!(world.pool, before);
    let bare = World::bare(Limits::default());
    let mut world = bare;
    assert_eq!(world.refused(Command::Tick), "pool.term");
}

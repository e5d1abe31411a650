//! An agent and its manager, over real channels: from the first word to the last.

use std::{fs, time::Duration};

use legation_agent::{Exit, Status};
use legation_core::{
    Digest, Fuel, LeaseId, Millis, Rejection, Revocable, Revocation, RevocationEpoch, RevocationList, Seq, Signed,
    Term,
    receipt::Receipt,
    statement::{Office, Outcome, Request},
    task::{Input, OutputRef},
    unit::Bytes,
};
use legation_net::message::{Offer, ToAgent, ToManager, Upstream};
use tokio::time::timeout;

use crate::{
    guests,
    manager::{Conn, IMAGE, Manager, PATIENCE, config, open, simple, start, start_as, task},
    world::{self, OPERATOR, STRANGER, now, sign},
};

fn guest(name: &str) -> Vec<u8> {
    fs::read(guests::path(&format!("{name}.wasm"))).unwrap()
}

/// Never ends.
fn endless() -> Vec<u8> {
    wat::parse_str("(module (func (export \"_start\") (loop br 0)))").unwrap()
}

async fn acknowledge(conn: &Conn, lease: LeaseId) {
    conn.say(&ToAgent::Acknowledged { lease }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attested_present_offered_reported() {
    let mut manager = Manager::new().await;
    let agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    assert_eq!(conn.passport().enclave_id(), agent.enclave);

    let module = manager.serve(&guest("echo"));
    let rows = world::seal(b"hello, sealed world");
    manager.serve(&rows.sealed.bytes);
    let request = simple(module, &[&rows], 1);
    let offer = manager.offer(&conn, &request, 0, &[&rows], Vec::new());
    let lease = conn.offer(&offer).await;
    let reported = conn.report(&mut manager, lease).await;
    let report = &reported.report;
    assert_eq!((report.task, &report.outcome), (task(&request), &Outcome::Completed));
    assert_eq!(report.inputs, [rows.sealed.commitment]);
    assert_eq!(report.prev, [offer.allocation.digest(), conn.passport().digest(), offer.grants[0].digest()]);
    assert!(report.usage.fuel > Fuel(0) && report.started <= report.finished);
    assert_eq!(open(&manager, &reported), (Some(b"hello, sealed world".to_vec()), None));
    assert!(reported.aggregate.is_none());
    acknowledge(&conn, lease).await;
    agent.sees(|s| matches!(s, Status::Acknowledged { .. })).await;
    for (name, seen) in [
        ("attested", agent.saw(|s| matches!(s, Status::Attested { .. }))),
        ("present", agent.saw(|s| matches!(s, Status::Present { running: 0, .. }))),
        ("offer", agent.saw(|s| matches!(s, Status::Offer { .. }))),
        ("reported", agent.saw(|s| matches!(s, Status::Reported { .. }))),
    ] {
        assert!(seen, "{name}");
    }

    // The same again draws another seed and other keys; nothing is fetched twice that is kept.
    manager.objects.remove(&module);
    let second = manager.offer(&conn, &simple(module, &[], 2), 0, &[], Vec::new());
    let lease = conn.offer(&second).await;
    let again = conn.report(&mut manager, lease).await;
    assert_ne!(again.report.seed, report.seed);
    assert_eq!((&again.report.output, &again.report.log), (&None, &None));
}

/// A list of this manager's.
pub(crate) fn revoked(manager: &Manager, epoch: u64, what: &[Revocable]) -> ToAgent {
    let revocation = |what: &Revocable| Revocation {
        what: what.clone(),
        epoch: RevocationEpoch(epoch),
        at: now(),
        why: "stolen".into(),
    };
    let list = RevocationList {
        manager: manager.appointment.key,
        at: now(),
        epoch: RevocationEpoch(epoch),
        revocations: what.iter().map(revocation).collect(),
        prev: vec![manager.appointment.digest()],
    };
    ToAgent::Revocations { list: Box::new(sign(list)), appointment: Box::new(manager.appointment.clone()) }
}

/// Epochs are counted by each journal: a lower one may say something new, and is not answered as heeded before it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_adds_up_whatever_its_epoch() {
    let mut manager = Manager::new().await;
    let agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    let chip = |name: &str| Revocable::Chip(name.into());
    let verifier = Revocable::Verifier(conn.passport().verifier_id());
    for (epoch, what) in [(5, vec![chip("one")]), (2, vec![chip("two")]), (2, vec![chip("two")])] {
        conn.say(&revoked(&manager, epoch, &what)).await;
        let ToManager::Heeded { epoch: heeded } = conn.next(&mut manager).await else { panic!("not heeded") };
        assert_eq!(heeded, RevocationEpoch(epoch));
    }
    agent.sees(|s| matches!(s, Status::Heeded { .. })).await;
    // A list of another journal, of a lower epoch: its verifier's passport is dropped, so the agent comes back without one.
    conn.say(&revoked(&manager, 1, &[verifier])).await;
    let ToManager::Heeded { epoch } = conn.next(&mut manager).await else { panic!("not heeded") };
    assert_eq!(epoch, RevocationEpoch(1));
    drop(conn);
    let back = manager.accept().await;
    assert!(matches!(back.sender.standing(), legation_net::Standing::Applicant));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reducing_fragment_leaves_an_aggregate_and_a_receipt_that_verifies() {
    let mut manager = Manager::new().await;
    let _agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    let module = manager.serve(&guest("echo"));
    let rows = world::seal(b"one, ");
    manager.serve(&rows.sealed.bytes);
    let map = || world::fragment("map", module, vec![Input::Sealed(rows.reference("rows"))]);
    let reading = |i| Input::Output { fragment: legation_core::FragmentIndex(i) };
    let reduce = world::fragment("reduce", module, vec![reading(1), reading(0), reading(1)]);
    let request = sign(world::request(vec![map(), map(), reduce], now(), 1));

    let (mut statements, mut reports, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
    for index in [0, 1] {
        let offer = manager.offer(&conn, &request, index, &[&rows], Vec::new());
        let lease = conn.offer(&offer).await;
        let reported = conn.report(&mut manager, lease).await;
        acknowledge(&conn, lease).await;
        outputs.push(rewrap(&reported.report.output, &reported.keys[0], &request, index));
        statements.extend([offer.allocation.envelope().clone(), offer.grants[0].envelope().clone()]);
        reports.push(reported.report);
    }
    let up = |i: usize| Upstream {
        report: reports[i].clone(),
        passport: conn.passport().clone(),
        appointment: manager.verifier().clone(),
    };
    let upstream = vec![up(1), up(0), up(1)];
    let offer = manager.offer(&conn, &request, 2, &[&outputs[1], &outputs[0], &outputs[1]], upstream);
    let lease = conn.offer(&offer).await;
    let reported = conn.report(&mut manager, lease).await;
    assert_eq!(open(&manager, &reported).0.unwrap(), b"one, one, one, ");
    let aggregate = reported.aggregate.unwrap();
    let behind: Vec<Digest> = [1, 0, 1].map(|i: usize| reports[i].digest()).to_vec();
    assert_eq!(aggregate.reports, behind);
    assert_eq!(aggregate.prev[0], reported.report.digest());
    assert_eq!(aggregate.result, reported.report.output);

    // Every reader of a receipt runs the checks again, by the same rules.
    statements.extend(reports.iter().map(|r| r.envelope().clone()));
    statements.extend([
        manager.appointment.envelope().clone(),
        manager.verifier().envelope().clone(),
        request.envelope().clone(),
        conn.passport().envelope().clone(),
        offer.allocation.envelope().clone(),
        offer.grants[0].envelope().clone(),
        reported.report.envelope().clone(),
        aggregate.envelope().clone(),
    ]);
    let evidence = manager.evidence();
    let receipt = Receipt::assemble(
        task(&request),
        legation_core::RevocationEpoch(0),
        vec![aggregate.digest()],
        statements,
        evidence,
        [],
    )
    .unwrap();
    let verdict = receipt.verify(manager.anchors(), manager.judge()).unwrap();
    assert!(verdict.completed);
}

/// What an owner does with the output of a fragment: opens its key, to wrap it to the next enclave.
fn rewrap(
    output: &Option<OutputRef>,
    key: &legation_core::task::WrappedKey,
    request: &Signed<Request>,
    index: u32,
) -> world::Secret {
    let index = legation_core::FragmentIndex(index);
    let module = request.fragment(index).unwrap().module;
    let direction = legation_core::task::Direction::Output;
    let used_for = legation_core::task::WrapUse { task: task(request), fragment: index, module, direction };
    let key = world::sealing(world::CLIENT).unwrap(key, &used_for).unwrap();
    let OutputRef { object, ciphertext, size, commitment } = output.clone().unwrap();
    world::Secret { key, sealed: legation_keys::Sealed { bytes: Vec::new(), object, ciphertext, size, commitment } }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_module_does_wrong_is_reported_with_its_log() {
    let mut manager = Manager::new().await;
    let _agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    let command = |body: &str| {
        let text = format!(
            "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func $w (param i32 i32 i32 i32) (result i32)))
               (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
               (memory (export \"memory\") 1) (data (i32.const 64) \"said\")
               (func $say (param i32) (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 4))
                 (drop (call $w (local.get 0) (i32.const 0) (i32.const 1) (i32.const 16))))
               (func (export \"_start\") {body}))"
        );
        wat::parse_str(text).unwrap()
    };
    let limited = |change: fn(&mut Request)| change;
    let none = limited(|_| {});
    for (module, change, reason, log) in [
        (
            command("(call $say (i32.const 2)) (call $exit (i32.const 7))"),
            none,
            "exit-7",
            "said\nlegation: exit code 7\n",
        ),
        (command("(call $say (i32.const 1)) unreachable"), none, "trap", "legation: trap"),
        (endless(), limited(|r| r.fragments[0].demand.fuel = Fuel(100_000)), "out-of-fuel", "out of fuel"),
        (
            endless(),
            limited(|r| {
                r.fragments[0].demand.fuel = Fuel(u64::MAX >> 1);
                r.fragments[0].demand.time = Millis(200);
            }),
            "deadline",
            "deadline passed",
        ),
        (
            endless(),
            limited(|r| {
                r.fragments[0].demand.fuel = Fuel(u64::MAX >> 1);
                // Pays for a few milliseconds.
                r.budget = legation_core::MicroUsd(1);
                r.fragments[0].demand.cpu = legation_core::Millicores(1000);
            }),
            "over-budget",
            "deadline passed",
        ),
        (command("(drop (memory.grow (i32.const 300)))"), none, "out-of-memory", "out of memory"),
        (
            command("(loop (call $say (i32.const 1)) br 0)"),
            limited(|r| r.fragments[0].demand.output = Bytes(1000)),
            "output-too-large",
            "1000 B",
        ),
        (
            command("(local i32)"),
            limited(|r| {
                r.fragments[0].args = vec!["x".repeat(4000); 40];
            }),
            "run-args",
            "run refused",
        ),
        (b"\0asm\x01\0\0\0 nonsense".to_vec(), none, "malformed-module", "malformed"),
        (b"#!/bin/sh".to_vec(), none, "malformed-module", "not a WebAssembly module"),
        (wat::parse_str("(module (memory 1))").unwrap(), none, "malformed-module", "_start"),
        (wat::parse_str("(module (import \"env\" \"x\" (func)))").unwrap(), none, "malformed-module", "unknown import"),
        (
            wat::parse_str("(module (memory 60000) (func (export \"_start\")))").unwrap(),
            none,
            "module-does-not-fit",
            "does not fit",
        ),
    ] {
        let digest = manager.serve(&module);
        let mut request = simple(digest, &[], 1).predicate().clone();
        change(&mut request);
        let request = sign(request);
        let offer = manager.offer(&conn, &request, 0, &[], Vec::new());
        let lease = conn.offer(&offer).await;
        let reported = conn.report(&mut manager, lease).await;
        assert_eq!(reported.report.outcome, Outcome::Failed { reason: reason.into() });
        assert!(reported.report.usage.fuel <= request.fragments[0].demand.fuel);
        let (output, told) = open(&manager, &reported);
        let told = told.unwrap();
        assert!(output.is_none() && told.contains(log), "{reason}: {told}");
        assert!(told.ends_with('\n') && reported.aggregate.is_none());
        acknowledge(&conn, lease).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_others_read_must_be_there_and_an_owner_must_have_a_key() {
    let mut manager = Manager::new().await;
    let _agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    let module = manager.serve(&guest("noop"));
    let reading = Input::Output { fragment: legation_core::FragmentIndex(0) };
    let fragments = vec![world::fragment("map", module, vec![]), world::fragment("reduce", module, vec![reading])];
    let silent = sign(world::request(fragments, now(), 1));

    let mut keyless = simple(module, &[], 2).predicate().clone();
    keyless.sealing = legation_core::SealingPublicKey::from_bytes([0; 1216]);
    let echo = manager.serve(&guest("echo"));
    let rows = world::seal(b"rows");
    manager.serve(&rows.sealed.bytes);
    keyless.fragments = vec![world::fragment("one", echo, vec![Input::Sealed(rows.reference("rows"))])];
    let keyless = sign(keyless);

    for (request, read, reason) in [(&silent, vec![], "no-output"), (&keyless, vec![&rows], "owner-sealing-key")] {
        let offer = manager.offer(&conn, request, 0, &read, Vec::new());
        let lease = conn.offer(&offer).await;
        let reported = conn.report(&mut manager, lease).await;
        assert_eq!(reported.report.outcome, Outcome::Failed { reason: reason.into() });
        assert_eq!(reported.report.output, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_enclave_cannot_do_is_refused_with_a_reason() {
    let mut manager = Manager::new().await;
    let agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    let echo = manager.serve(&guest("echo"));
    let good = world::seal(b"good");
    manager.serve(&good.sealed.bytes);

    // The ciphertext was altered where it is kept.
    let altered = world::seal(b"altered");
    let mut bytes = altered.sealed.bytes.clone();
    bytes[0] ^= 1;
    manager.objects.insert(altered.sealed.ciphertext, bytes.clone());
    // It was altered before the request named it.
    let mut sealed_badly = world::seal(b"altered");
    let mut other = sealed_badly.sealed.bytes.clone();
    other[0] ^= 1;
    sealed_badly.sealed.ciphertext = manager.serve(&other);
    // Another plaintext was committed to.
    let mut committed = world::seal(b"one");
    committed.sealed.commitment = world::seal(b"two").sealed.commitment;
    manager.serve(&committed.sealed.bytes);
    let mut longer = world::seal(b"longer");
    longer.sealed.size = Bytes(longer.sealed.size.0 - 1);
    manager.serve(&longer.sealed.bytes);
    let lost = world::seal(b"lost");
    let absent = Digest::of(b"absent");

    for (name, module, input, check) in [
        ("ciphertext altered", echo, &altered, "fetch.digest"),
        ("ciphertext sealed badly", echo, &sealed_badly, "input.open"),
        ("another commitment", echo, &committed, "input.commitment"),
        ("larger than it says", echo, &longer, "fetch.size"),
        ("nowhere", echo, &lost, "fetch.missing"),
        ("module nowhere", absent, &good, "fetch.missing"),
    ] {
        let request = simple(module, &[input], 1);
        let offer = manager.offer(&conn, &request, 0, &[input], Vec::new());
        let lease = conn.offer(&offer).await;
        let why = conn.refusal(&mut manager, lease).await;
        assert_eq!(why.check, check, "{name}: {why}");
    }

    // A key wrapped for another fragment of the task, under this object's name.
    let two = vec![
        world::fragment("a", echo, vec![Input::Sealed(good.reference("rows"))]),
        world::fragment("b", echo, vec![Input::Sealed(good.reference("rows"))]),
    ];
    let request = sign(world::request(two, now(), 1));
    let mut offer = manager.offer(&conn, &request, 0, &[&good], Vec::new());
    offer.keys = vec![good.wrap(&conn.passport().sealing, &request, legation_core::FragmentIndex(1))];
    let lease = conn.offer(&offer).await;
    assert_eq!(conn.refusal(&mut manager, lease).await.check, "input.key");

    // Nothing was left behind: all of its capacity can still be had.
    let mut request = simple(echo, &[&good], 9).predicate().clone();
    request.fragments[0].demand.cpu = legation_core::Millicores(1000);
    request.fragments[0].demand.memory = Bytes::mib(256);
    let offer = manager.offer(&conn, &sign(request), 0, &[&good], Vec::new());
    let lease = conn.offer(&offer).await;
    assert_eq!(conn.report(&mut manager, lease).await.report.outcome, Outcome::Completed);
    assert!(agent.saw(|s| matches!(s, Status::Refused { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_offers_are_refused_over_the_wire() {
    let mut manager = Manager::new().await;
    let _agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    let module = manager.serve(&guest("noop"));
    let request = simple(module, &[], 1);
    type Change = fn(&mut Offer);
    let cases: Vec<(&str, Change, &str)> = vec![
        ("older term after a newer", |o| o.term = Term(2), "offer.term"),
        (
            "another operator",
            |o| {
                let mut appointment = o.appointment.predicate().clone();
                appointment.operator = world::key(STRANGER);
                o.appointment = sign(appointment);
            },
            "offer.operator",
        ),
        ("no grant", |o| o.grants.clear(), "grant.missing"),
        (
            "more than there is",
            |o| {
                let mut request = o.request.predicate().clone();
                request.fragments[0].demand.memory = Bytes::mib(300);
                o.request = sign(request);
                let mut allocation = o.allocation.predicate().clone();
                (allocation.task, allocation.prev[0]) = (task(&o.request), o.request.digest());
                let rate = world::configuration().rate;
                allocation.price_hour = rate.per_hour(legation_core::Millicores(100), Bytes::mib(300));
                let mut grant = o.grants[0].predicate().clone();
                (grant.task, grant.prev) = (task(&o.request), vec![o.request.digest()]);
                (o.allocation, o.grants) = (sign(allocation), vec![sign(grant)]);
            },
            "offer.capacity",
        ),
    ];
    // One that is obeyed first, so that there is a term to be older than.
    let offer = manager.offer(&conn, &request, 0, &[], Vec::new());
    let lease = conn.offer(&offer).await;
    conn.report(&mut manager, lease).await;
    for (name, change, check) in cases {
        let mut offer = manager.offer(&conn, &request, 0, &[], Vec::new());
        change(&mut offer);
        let lease = conn.offer(&offer).await;
        let why = conn.refusal(&mut manager, lease).await;
        assert_eq!(why.check, check, "{name}: {why}");
    }

    // A signature that is not one: the lease is still told.
    let offer = manager.offer(&conn, &request, 0, &[], Vec::new());
    let mut message = serde_json::to_value(ToAgent::Offer(Box::new(offer.clone()))).unwrap();
    let signature = offer.request.envelope().to_json();
    let other = manager.offer(&conn, &simple(module, &[], 3), 0, &[], Vec::new());
    let theirs: serde_json::Value = serde_json::from_str(&other.grants[0].envelope().to_json()).unwrap();
    let mut forged: serde_json::Value = serde_json::from_str(&signature).unwrap();
    forged["signatures"] = theirs["signatures"].clone();
    message["with"]["request"] = forged;
    conn.sender.send_control(&message).await.unwrap();
    assert_eq!(conn.refusal(&mut manager, offer.allocation.lease).await.check, "offer.signature");

    // Something that is no offer at all is let pass; the agent goes on.
    conn.sender.send_control(&serde_json::json!({ "say": "offer", "with": { "term": 3 } })).await.unwrap();
    let lease = conn.offer(&manager.offer(&conn, &request, 0, &[], Vec::new())).await;
    conn.report(&mut manager, lease).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_offer_again_changes_nothing() {
    let mut manager = Manager::new().await;
    let agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    let (noop, endless) = (manager.serve(&guest("noop")), manager.serve(&endless()));

    // While it runs: nothing. After it was reported: the same report, byte for byte.
    let offer = manager.offer(&conn, &simple(noop, &[], 1), 0, &[], Vec::new());
    let lease = conn.offer(&offer).await;
    let first = conn.report(&mut manager, lease).await;
    conn.offer(&offer).await;
    let second = conn.report(&mut manager, lease).await;
    assert_eq!(first.report.digest(), second.report.digest());
    assert_eq!(agent.statuses.lock().unwrap().iter().filter(|s| matches!(s, Status::Reported { .. })).count(), 1);

    // After it was acknowledged: nothing. What comes next on the channel is the answer to the next offer.
    acknowledge(&conn, lease).await;
    conn.offer(&offer).await;
    let slow = manager.offer(&conn, &long(endless), 0, &[], Vec::new());
    let running = conn.offer(&slow).await;
    agent.sees(|s| matches!(s, Status::Offer { lease, .. } if *lease == running)).await;
    conn.offer(&slow).await;
    conn.offer(&slow).await;
    let next = manager.offer(&conn, &simple(noop, &[], 2), 0, &[], Vec::new());
    let lease = conn.offer(&next).await;
    conn.report(&mut manager, lease).await;
    // Cancelled: it stops, and its capacity is free at once.
    conn.say(&ToAgent::Cancel { lease: running }).await;
    let mut whole = simple(noop, &[], 3).predicate().clone();
    whole.fragments[0].demand.cpu = legation_core::Millicores(1000);
    let next = manager.offer(&conn, &sign(whole), 0, &[], Vec::new());
    let lease = conn.offer(&next).await;
    conn.report(&mut manager, lease).await;
    // A cancel that comes before its offer: the offer is void.
    let void = manager.offer(&conn, &simple(noop, &[], 4), 0, &[], Vec::new());
    conn.say(&ToAgent::Cancel { lease: void.allocation.lease }).await;
    conn.offer(&void).await;
    let next = manager.offer(&conn, &simple(noop, &[], 5), 0, &[], Vec::new());
    let lease = conn.offer(&next).await;
    conn.report(&mut manager, lease).await;
}

/// A request whose fragment has fuel and time for as long as a test takes.
fn long(module: Digest) -> Signed<Request> {
    let mut request = simple(module, &[], 77).predicate().clone();
    request.fragments[0].demand.fuel = Fuel(u64::MAX >> 1);
    request.fragments[0].demand.time = Millis(50_000);
    sign(request)
}

/// Runs for about as long as a reconnection takes, then prints nothing.
fn while_away() -> Vec<u8> {
    let text = "(module (func (export \"_start\") (local i64)
        (loop (local.set 0 (i64.add (local.get 0) (i64.const 1)))
              (br_if 0 (i64.lt_u (local.get 0) (i64.const 1000000000))))))";
    wat::parse_str(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn work_outlives_its_channel_and_is_reported_on_the_next() {
    let mut manager = Manager::new().await;
    let agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    let (module, noop) = (manager.serve(&while_away()), manager.serve(&guest("noop")));
    let offer = manager.offer(&conn, &long(module), 0, &[], Vec::new());
    let running = conn.offer(&offer).await;
    let done = manager.offer(&conn, &simple(noop, &[], 1), 0, &[], Vec::new());
    let kept = conn.offer(&done).await;
    let first = conn.report(&mut manager, kept).await;
    let passport = conn.passport.take();
    conn.sender.revoke(Rejection::new("test", "the channel is cut"));
    drop(conn);

    // A refusal makes an agent attest anew; what ran goes on, and what was not acknowledged comes again.
    let mut conn = manager.accept().await;
    assert!(matches!(conn.next(&mut manager).await, ToManager::AskChallenge));
    manager.attest(&mut conn).await.unwrap();
    let ToManager::Present { running: held, obeyed } = conn.next(&mut manager).await else { panic!("not present") };
    assert_eq!((held, obeyed), (vec![running, kept], (Term(3), Seq(2))));
    let mut reports = vec![];
    while reports.len() < 2 {
        let ToManager::Report(reported) = conn.next(&mut manager).await else { panic!("no report") };
        reports.push(reported);
    }
    assert_eq!(reports[0].report.digest(), first.report.digest());
    assert_eq!((reports[1].report.lease, &reports[1].report.outcome), (running, &Outcome::Completed));
    assert_eq!(reports[1].report.prev[1], conn.passport().digest());
    assert_ne!(passport.unwrap().digest(), conn.passport().digest());
    agent.sees(|s| matches!(s, Status::Turned { why, .. } if why.check == "test")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passport_that_holds_is_shown_again_and_objects_under_way_are_asked_for_again() {
    let mut manager = Manager::new().await;
    let agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    let noop = guest("noop");
    let module = Digest::of(&noop);
    let offer = manager.offer(&conn, &simple(module, &[], 1), 0, &[], Vec::new());
    let lease = conn.offer(&offer).await;
    agent.sees(|s| matches!(s, Status::Offer { .. })).await;
    let passport = conn.passport.take();
    // It asks for the module; the manager goes away without an answer.
    conn.sender.close().await;
    drop(conn);

    let mut conn = manager.accept().await;
    assert!(conn.sender.standing().is_admitted(), "shows its passport at once");
    conn.passport = passport;
    manager.serve(&noop);
    let ToManager::Present { running, .. } = conn.next(&mut manager).await else { panic!("not present") };
    assert_eq!(running, [lease]);
    let reported = conn.report(&mut manager, lease).await;
    assert_eq!(reported.report.outcome, Outcome::Completed);
    assert!(agent.saw(|s| matches!(s, Status::Disconnected { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn passports_are_renewed_on_the_open_channel() {
    let mut manager = Manager::new().await;
    manager.passports_last(7);
    let _agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    let first = conn.passport().clone();
    for _ in 0..2 {
        assert!(matches!(conn.next(&mut manager).await, ToManager::AskChallenge));
        let age = now().since(conn.passport().issued);
        assert!((3..=6).contains(&age), "renewed at {age} of 7 seconds");
        manager.attest(&mut conn).await.unwrap();
    }
    let module = manager.serve(&guest("noop"));
    let offer = manager.offer(&conn, &simple(module, &[], 1), 0, &[], Vec::new());
    let lease = conn.offer(&offer).await;
    let report = conn.report(&mut manager, lease).await.report;
    assert_ne!(report.prev[1], first.digest());

    // A renewal that is refused does not end the work: it is tried again while the passport lasts.
    assert!(matches!(conn.next(&mut manager).await, ToManager::AskChallenge));
    conn.say(&ToAgent::Refused { why: Rejection::new("test", "not now") }).await;
    let offer = manager.offer(&conn, &simple(module, &[], 2), 0, &[], Vec::new());
    let lease = conn.offer(&offer).await;
    conn.report(&mut manager, lease).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_agent_finishes_reports_and_leaves() {
    let mut manager = Manager::new().await;
    let agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    let (module, noop) = (manager.serve(&while_away()), manager.serve(&guest("noop")));
    let lease = conn.offer(&manager.offer(&conn, &long(module), 0, &[], Vec::new())).await;
    agent.sees(|s| matches!(s, Status::Offer { .. })).await;
    agent.shutdown.drain();
    assert!(matches!(conn.next(&mut manager).await, ToManager::Draining));
    let late = conn.offer(&manager.offer(&conn, &simple(noop, &[], 1), 0, &[], Vec::new())).await;
    assert_eq!(conn.refusal(&mut manager, late).await.check, "agent.draining");
    conn.report(&mut manager, lease).await;
    assert!(!agent.task.is_finished(), "left before its report was acknowledged");
    acknowledge(&conn, lease).await;
    assert_eq!(conn.try_next(&mut manager).await.map(|m| format!("{m:?}")), None);
    assert_eq!(timeout(PATIENCE, agent.task).await.unwrap().unwrap(), Exit::Drained);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_has_an_end_and_a_second_word_is_the_last() {
    let mut manager = Manager::new().await;
    let mut short = config(&manager.address());
    short.drain = Duration::from_millis(300);
    let agent = start(short);
    let mut conn = manager.admit().await;
    let module = manager.serve(&endless());
    let lease = conn.offer(&manager.offer(&conn, &long(module), 0, &[], Vec::new())).await;
    agent.sees(|s| matches!(s, Status::Offer { .. })).await;
    agent.shutdown.drain();
    assert!(matches!(conn.next(&mut manager).await, ToManager::Draining));
    assert_eq!(conn.refusal(&mut manager, lease).await.check, "agent.draining");
    assert_eq!(timeout(PATIENCE, agent.task).await.unwrap().unwrap(), Exit::Stopped);

    let agent = start(config(&manager.address()));
    let conn = manager.admit().await;
    conn.offer(&manager.offer(&conn, &long(module), 0, &[], Vec::new())).await;
    agent.sees(|s| matches!(s, Status::Offer { .. })).await;
    agent.shutdown.drain();
    agent.shutdown.now();
    assert_eq!(timeout(PATIENCE, agent.task).await.unwrap().unwrap(), Exit::Stopped);

    // Nobody to leave: it just goes.
    drop(manager);
    let agent = start(config("127.0.0.1:1"));
    agent.sees(|s| matches!(s, Status::Disconnected { .. })).await;
    agent.shutdown.drain();
    assert_eq!(timeout(PATIENCE, agent.task).await.unwrap().unwrap(), Exit::Drained);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_verifier_will_not_have_is_told_again_and_again() {
    let mut manager = Manager::new().await;
    for (name, root, image, check) in [
        ("another image", world::root(), &b"something else"[..], "appraisal.measurement"),
        ("another development root", world::foreign_root(), IMAGE, "snp."),
    ] {
        let agent = start_as(config(&manager.address()), root, image);
        for _ in 0..2 {
            let mut conn = manager.accept().await;
            assert!(matches!(conn.next(&mut manager).await, ToManager::AskChallenge));
            let why = manager.attest(&mut conn).await.unwrap_err();
            assert!(why.check.starts_with(check), "{name}: {why}");
        }
        agent.sees(|s| matches!(s, Status::Turned { why, .. } if why.check.starts_with(check))).await;
        assert!(!agent.saw(|s| matches!(s, Status::Present { .. })));
        agent.shutdown.now();
        agent.task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_no_operator_appointed_gets_nothing() {
    let mut appointment = world::appointment(Office::Manager, now());
    appointment.operator = world::key(STRANGER);
    let manager = Manager::appointed(appointment).await;
    let agent = start(config(&manager.address()));
    agent.sees(|s| matches!(s, Status::Turned { why, .. } if why.check == "channel.operator")).await;
    assert!(!agent.saw(|s| matches!(s, Status::Attested { .. })));
    assert_ne!(world::key(OPERATOR), world::key(STRANGER));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: run with --release --ignored --nocapture"]
async fn measure_tasks_per_second() {
    let mut manager = Manager::new().await;
    let mut big = config(&manager.address());
    big.capacity.slots = Some(256);
    big.capacity.cpu = Some(legation_core::Millicores(2000));
    let _agent = start(big);
    let mut conn = manager.admit().await;
    let module = manager.serve(&guest("noop"));
    const TASKS: u64 = 4000;
    let offers: Vec<_> = (0..TASKS)
        .map(|nonce| {
            let mut request = simple(module, &[], nonce).predicate().clone();
            request.fragments[0].demand.cpu = legation_core::Millicores(1);
            request.fragments[0].demand.memory = Bytes::mib(1);
            manager.offer(&conn, &sign(request), 0, &[], Vec::new())
        })
        .collect();
    let began = std::time::Instant::now();
    let (mut sent, mut done) = (0, 0);
    while done < TASKS {
        while sent < TASKS && sent - done < 200 {
            conn.offer(&offers[sent as usize]).await;
            sent += 1;
        }
        match conn.next(&mut manager).await {
            ToManager::Report(reported) => {
                assert_eq!(reported.report.outcome, Outcome::Completed);
                acknowledge(&conn, reported.report.lease).await;
                done += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    let took = began.elapsed();
    eprintln!("{TASKS} tasks of one fragment in {took:?}: {:.0} a second", TASKS as f64 / took.as_secs_f64());
}

#[tokio::test(flavor = "multi_thread")]
async fn time_that_the_lease_or_the_grants_lack_is_no_fault_of_the_task() {
    let mut manager = Manager::new().await;
    let agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    let (endless, noop) = (manager.serve(&endless()), manager.serve(&guest("noop")));

    // The lease ends long before the demand does.
    let mut offer = manager.offer(&conn, &long(endless), 0, &[], Vec::new());
    let mut allocation = offer.allocation.predicate().clone();
    allocation.until = now().plus(3);
    offer.allocation = sign(allocation);
    let lease = conn.offer(&offer).await;
    let why = conn.refusal(&mut manager, lease).await;
    assert_eq!(why.check, "agent.late", "{why}");

    // The grant ends while the module is on its way, which this test delays by not listening.
    let mut offer = manager.offer(&conn, &simple(noop, &[], 1), 0, &[], Vec::new());
    let mut grant = offer.grants[0].predicate().clone();
    grant.expires = now().plus(1);
    offer.grants = vec![sign(grant)];
    let lease = conn.offer(&offer).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let why = conn.refusal(&mut manager, lease).await;
    assert_eq!(why.check, "agent.late", "{why}");

    // Cancelled while its module is on its way: not a word more of it.
    let other = manager.serve(&wat::parse_str("(module (func (export \"_start\")))").unwrap());
    let offer = manager.offer(&conn, &simple(other, &[], 2), 0, &[], Vec::new());
    let lease = conn.offer(&offer).await;
    agent.sees(|s| matches!(s, Status::Offer { lease: seen, .. } if *seen == lease)).await;
    conn.say(&ToAgent::Cancel { lease }).await;
    let offer = manager.offer(&conn, &simple(noop, &[], 3), 0, &[], Vec::new());
    let lease = conn.offer(&offer).await;
    conn.report(&mut manager, lease).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_asks_to_drain() {
    let mut manager = Manager::new().await;
    let agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    agent.sees(|s| matches!(s, Status::Present { .. })).await;
    agent.shutdown.on_signals().unwrap();
    let own = std::process::id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &own]).status().unwrap().success());
    assert!(matches!(conn.next(&mut manager).await, ToManager::Draining));
    assert_eq!(timeout(PATIENCE, agent.task).await.unwrap().unwrap(), Exit::Drained);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_fragments_share_modules_inputs_and_slots() {
    let mut manager = Manager::new().await;
    let agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    let module = manager.serve(&guest("echo"));
    // 300 KB in twenty inputs: several data frames each way, several rounds of fetching.
    let secrets: Vec<_> = (0..20_u8).map(|i| world::seal(&vec![i; 15_000 + usize::from(i)])).collect();
    for secret in &secrets {
        manager.serve(&secret.sealed.bytes);
    }
    let read: Vec<_> = secrets.iter().collect();
    let whole: Vec<u8> = (0..20_u8).flat_map(|i| vec![i; 15_000 + usize::from(i)]).collect();
    let request = simple(module, &read, 1);
    let mut waiting = std::collections::BTreeSet::new();
    // All slots are taken, then given up at once.
    let endless = long(manager.serve(&endless()));
    for _ in 0..8 {
        waiting.insert(conn.offer(&manager.offer(&conn, &endless, 0, &[], Vec::new())).await);
    }
    for lease in &waiting {
        agent.sees(|s| matches!(s, Status::Offer { lease: seen, .. } if seen == lease)).await;
    }
    let ninth = conn.offer(&manager.offer(&conn, &endless, 0, &[], Vec::new())).await;
    assert_eq!(conn.refusal(&mut manager, ninth).await.check, "offer.capacity");
    for lease in std::mem::take(&mut waiting) {
        conn.say(&ToAgent::Cancel { lease }).await;
    }
    for _ in 0..8 {
        let offer = manager.offer(&conn, &request, 0, &read, Vec::new());
        waiting.insert(conn.offer(&offer).await);
    }
    let mut reports = Vec::new();
    while !waiting.is_empty() {
        match conn.next(&mut manager).await {
            ToManager::Report(reported) => {
                assert!(waiting.remove(&reported.report.lease));
                reports.push(reported);
            }
            other => panic!("{other:?}"),
        }
    }
    // One that ends the round also ends what data frames were still behind its report.
    let last = manager.offer(&conn, &request, 0, &read, Vec::new());
    let last = conn.offer(&last).await;
    let last = conn.report(&mut manager, last).await;
    for reported in reports.iter().map(|r| &**r).chain([&last]) {
        assert_eq!(open(&manager, reported).0.as_ref(), Some(&whole));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_results_at_once_do_not_flood_a_manager_that_is_slow() {
    let mut manager = Manager::new().await;
    let mut wide = config(&manager.address());
    wide.capacity.slots = Some(200);
    let _agent = start(wide);
    let mut conn = manager.admit().await;
    // Prints four times 60,000 bytes: enough to fill every queue on the way.
    let say = "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func $w (param i32 i32 i32 i32) (result i32)))
        (memory (export \"memory\") 1)
        (func $say (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))))
        (func (export \"_start\") (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 60000))
          (call $say) (call $say) (call $say) (call $say)))";
    let module = manager.serve(&wat::parse_str(say).unwrap());
    let small = |nonce| {
        let mut request = simple(module, &[], nonce).predicate().clone();
        request.fragments[0].demand.cpu = legation_core::Millicores(1);
        request.fragments[0].demand.memory = Bytes::mib(1);
        sign(request)
    };
    // The first fetches the module; the others have it, and pile up while nobody reads.
    let first = conn.offer(&manager.offer(&conn, &small(0), 0, &[], Vec::new())).await;
    let first = conn.report(&mut manager, first).await;
    assert_eq!(open(&manager, &first).0.unwrap().len(), 240_000);
    for nonce in 1..=150 {
        conn.offer(&manager.offer(&conn, &small(nonce), 0, &[], Vec::new())).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..150 {
        let ToManager::Report(reported) = conn.next(&mut manager).await else { panic!("no report") };
        assert!(reported.report.output.is_some());
    }
}

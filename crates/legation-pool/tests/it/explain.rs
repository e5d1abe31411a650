//! Golden decisions: where work goes in a pool of nine, and why not elsewhere. A change of placement shows in the diff.

use std::fmt::Write;

use expect_test::{Expect, expect};
use legation_core::{MicroUsd, Requirement, TaskId, dsse::sign, statement::Request};
use legation_pool::Command;

use crate::world::*;

/// Three providers in three regions each, at one to nine cents per core-hour; one slot each.
fn nine() -> World {
    let mut machines = Vec::new();
    for (p, provider) in ["alpha", "bravo", "carol"].into_iter().enumerate() {
        for (r, region) in ["eu-1", "us-1", "ap-1"].into_iter().enumerate() {
            let cents = [[1, 2, 3], [2, 2, 4], [3, 1, 9]][p][r];
            machines.push(Machine::new(&format!("{provider} {region}")).at(provider, region, cents).slots(1));
        }
    }
    World::new(machines)
}

fn submit(world: &mut World, change: impl FnOnce(&mut Request)) -> TaskId {
    let name = format!("task at {}", world.pool.seq().0);
    let mut asked = request("client", &name, world.now, vec![fragment("part")]);
    change(&mut asked);
    let asked = sign(asked, &world.client);
    let grant = sign(policy_grant(&asked, &world.client), &world.client);
    world.submit_with(&asked, vec![grant], None).unwrap();
    TaskId::new(asked.digest())
}

/// What `explain` says, without names that are hashes.
fn render(world: &World, task: TaskId) -> String {
    let mut out = String::new();
    for said in world.pool.explain(task, world.now).unwrap() {
        write!(out, "{} {}: {}", said.fragment, said.name, said.require).unwrap();
        match (said.placements.last(), said.attempts.last()) {
            (Some(why), Some(last)) => {
                let passed: Vec<_> = why.passed_over.iter().map(|p| format!("{} {}", p.enclaves, p.check)).collect();
                let passed = if passed.is_empty() {
                    "none".to_owned()
                } else {
                    if passed.is_empty() { "none".to_owned() } else { passed.join(", ") }
                };
                let of = format!("{} of {} eligible", why.eligible, why.considered);
                writeln!(
                    out,
                    "\n  -> {} {}, {}; {of}; passed over: {passed}",
                    last.provider, last.region, why.decided_by,
                )
                .unwrap();
            }
            _ => writeln!(out, "\n  -> waits").unwrap(),
        }
        let mut lines: Vec<_> = said
            .classes
            .iter()
            .map(|class| {
                let place = format!("{} {}", class.provider, class.region);
                match class.why_not.first() {
                    None => format!("     {place}: {} per hour", class.price_hour),
                    Some(reason) => {
                        let why = &reason.why;
                        format!("     {place}: {}; expected {}; got {}", why.check, why.expected, why.got)
                    }
                }
            })
            .collect();
        lines.sort();
        writeln!(out, "{}", lines.join("\n")).unwrap();
    }
    out
}

#[track_caller]
fn check(world: &World, task: TaskId, wanted: &Expect) {
    wanted.assert_eq(&render(world, task));
}

fn require(text: &str) -> Requirement {
    text.parse().unwrap()
}

#[test]
fn golden_decisions() {
    let mut world = nine();
    let cheap = submit(&mut world, |_| {});
    check(
        &world,
        cheap,
        &expect![[r#"
            #0 part: (any) and (any)
              -> alpha eu-1, price 0.001000 usd/h, posture +105.0 %, fit +4.7 %; best of 9 classes that were asked; 9 of 9 eligible; passed over: none
                 alpha ap-1: 0.003000 usd per hour
                 alpha eu-1: pool.capacity; expected 0.100 cores, 64 MiB and a slot; got 1.900 cores, 960 MiB and 0 slots left
                 alpha us-1: 0.002000 usd per hour
                 bravo ap-1: 0.004000 usd per hour
                 bravo eu-1: 0.002000 usd per hour
                 bravo us-1: 0.002000 usd per hour
                 carol ap-1: 0.009000 usd per hour
                 carol eu-1: 0.003000 usd per hour
                 carol us-1: 0.001000 usd per hour
        "#]],
    );
    let second = submit(&mut world, |_| {});
    check(
        &world,
        second,
        &expect![[r#"
            #0 part: (any) and (any)
              -> carol us-1, price 0.001000 usd/h, posture +105.0 %, fit +4.7 %; best of 9 classes that were asked; 9 of 9 eligible; passed over: none
                 alpha ap-1: 0.003000 usd per hour
                 alpha eu-1: pool.capacity; expected 0.100 cores, 64 MiB and a slot; got 1.900 cores, 960 MiB and 0 slots left
                 alpha us-1: 0.002000 usd per hour
                 bravo ap-1: 0.004000 usd per hour
                 bravo eu-1: 0.002000 usd per hour
                 bravo us-1: 0.002000 usd per hour
                 carol ap-1: 0.009000 usd per hour
                 carol eu-1: 0.003000 usd per hour
                 carol us-1: pool.capacity; expected 0.100 cores, 64 MiB and a slot; got 1.900 cores, 960 MiB and 0 slots left
        "#]],
    );
    let european = submit(&mut world, |r| r.require = require("region == \"eu-1\" and not provider == \"alpha\""));
    check(
        &world,
        european,
        &expect![[r##"
            #0 part: (region == "eu-1" and not provider == "alpha") and (any)
              -> bravo eu-1, price 0.002000 usd/h, posture +105.0 %, fit +4.7 %; best of 9 classes that were asked; 2 of 9 eligible; passed over: 6 require.region, 1 require.not
                 alpha ap-1: require.region; expected region == "eu-1"; got "ap-1"
                 alpha eu-1: require.not; expected not provider == "alpha"; got what it excludes
                 alpha us-1: require.region; expected region == "eu-1"; got "us-1"
                 bravo ap-1: require.region; expected region == "eu-1"; got "ap-1"
                 bravo eu-1: pool.capacity; expected 0.100 cores, 64 MiB and a slot; got 1.900 cores, 960 MiB and 0 slots left
                 bravo us-1: require.region; expected region == "eu-1"; got "us-1"
                 carol ap-1: require.region; expected region == "eu-1"; got "ap-1"
                 carol eu-1: 0.003000 usd per hour
                 carol us-1: require.region; expected region == "eu-1"; got "us-1"
        "##]],
    );
    let spread = submit(&mut world, |r| r.fragments = vec![fragment("left"), fragment("right")]);
    check(
        &world,
        spread,
        &expect![[r#"
            #0 left: (any) and (any)
              -> alpha us-1, price 0.002000 usd/h, posture +105.0 %, fit +4.7 %; best of 9 classes that were asked; 9 of 9 eligible; passed over: none
                 alpha ap-1: 0.003000 usd per hour
                 alpha eu-1: pool.capacity; expected 0.100 cores, 64 MiB and a slot; got 1.900 cores, 960 MiB and 0 slots left
                 alpha us-1: pool.capacity; expected 0.100 cores, 64 MiB and a slot; got 1.900 cores, 960 MiB and 0 slots left
                 bravo ap-1: 0.004000 usd per hour
                 bravo eu-1: pool.capacity; expected 0.100 cores, 64 MiB and a slot; got 1.900 cores, 960 MiB and 0 slots left
                 bravo us-1: pool.capacity; expected 0.100 cores, 64 MiB and a slot; got 1.900 cores, 960 MiB and 0 slots left
                 carol ap-1: 0.009000 usd per hour
                 carol eu-1: 0.003000 usd per hour
                 carol us-1: pool.capacity; expected 0.100 cores, 64 MiB and a slot; got 1.900 cores, 960 MiB and 0 slots left
            #1 right: (any) and (any)
              -> bravo us-1, price 0.002000 usd/h, posture +105.0 %, fit +4.7 %; best of 9 classes that were asked; 9 of 9 eligible; passed over: none
                 alpha ap-1: 0.003000 usd per hour
                 alpha eu-1: pool.capacity; expected 0.100 cores, 64 MiB and a slot; got 1.900 cores, 960 MiB and 0 slots left
                 alpha us-1: pool.capacity; expected 0.100 cores, 64 MiB and a slot; got 1.900 cores, 960 MiB and 0 slots left
                 bravo ap-1: 0.004000 usd per hour
                 bravo eu-1: pool.capacity; expected 0.100 cores, 64 MiB and a slot; got 1.900 cores, 960 MiB and 0 slots left
                 bravo us-1: pool.capacity; expected 0.100 cores, 64 MiB and a slot; got 1.900 cores, 960 MiB and 0 slots left
                 carol ap-1: 0.009000 usd per hour
                 carol eu-1: 0.003000 usd per hour
                 carol us-1: pool.capacity; expected 0.100 cores, 64 MiB and a slot; got 1.900 cores, 960 MiB and 0 slots left
        "#]],
    );
    let poor = submit(&mut world, |r| r.budget = MicroUsd(17));
    check(
        &world,
        poor,
        &expect![[r#"
        #0 part: (any) and (any)
          -> waits
             alpha ap-1: pool.budget; expected within the budget of 0.000017 usd; got up to 0.000050 usd with this one
             alpha eu-1: pool.capacity; expected 0.100 cores, 64 MiB and a slot; got 1.900 cores, 960 MiB and 0 slots left
             alpha us-1: pool.budget; expected within the budget of 0.000017 usd; got up to 0.000034 usd with this one
             bravo ap-1: pool.budget; expected within the budget of 0.000017 usd; got up to 0.000067 usd with this one
             bravo eu-1: pool.budget; expected within the budget of 0.000017 usd; got up to 0.000034 usd with this one
             bravo us-1: pool.budget; expected within the budget of 0.000017 usd; got up to 0.000034 usd with this one
             carol ap-1: pool.budget; expected within the budget of 0.000017 usd; got up to 0.000150 usd with this one
             carol eu-1: pool.budget; expected within the budget of 0.000017 usd; got up to 0.000050 usd with this one
             carol us-1: pool.capacity; expected 0.100 cores, 64 MiB and a slot; got 1.900 cores, 960 MiB and 0 slots left
    "#]],
    );
    let nowhere = submit(&mut world, |r| {
        r.require = require("price < 0.002 usd/h");
        r.fragments[0].require = require("not development");
    });
    check(
        &world,
        nowhere,
        &expect![[r#"
        #0 part: (price < 0.002 usd/h) and (not development)
          -> waits
             alpha ap-1: require.price; expected price < 0.002 usd/h; got 0.003000 usd/h
             alpha eu-1: require.not; expected not development; got what it excludes
             alpha us-1: require.price; expected price < 0.002 usd/h; got 0.002000 usd/h
             bravo ap-1: require.price; expected price < 0.002 usd/h; got 0.004000 usd/h
             bravo eu-1: require.price; expected price < 0.002 usd/h; got 0.002000 usd/h
             bravo us-1: require.price; expected price < 0.002 usd/h; got 0.002000 usd/h
             carol ap-1: require.price; expected price < 0.002 usd/h; got 0.009000 usd/h
             carol eu-1: require.price; expected price < 0.002 usd/h; got 0.003000 usd/h
             carol us-1: require.not; expected not development; got what it excludes
    "#]],
    );
}

#[test]
fn golden_history() {
    let mut world = nine();
    let task = submit(&mut world, |r| r.require = require("provider == \"bravo\""));
    let (lease, first) = world.lease(task, 0).unwrap();
    world.refuse(lease);
    let (_, second) = world.lease(task, 0).unwrap();
    world.revoke(legation_core::Revocable::Enclave(second));
    let (_, third) = world.lease(task, 0).unwrap();
    world.lose(third);
    world.apply(Command::Drain { enclave: first }).unwrap();
    check(
        &world,
        task,
        &expect![[r##"
            #0 part: (provider == "bravo") and (any)
              -> bravo ap-1, price 0.004000 usd/h, posture +105.0 %, fit +4.7 %; best of 9 classes that were asked; 3 of 9 eligible; passed over: 6 require.provider
                 alpha ap-1: require.provider; expected provider == "bravo"; got "alpha"
                 alpha eu-1: require.provider; expected provider == "bravo"; got "alpha"
                 alpha us-1: require.provider; expected provider == "bravo"; got "alpha"
                 bravo ap-1: pool.away; expected an open channel; got away since 2027-01-15T08:00:00Z
                 bravo eu-1: pool.draining; expected taking work; got draining
                 bravo us-1: pool.revoked; expected not revoked; got stolen
                 carol ap-1: require.provider; expected provider == "bravo"; got "carol"
                 carol eu-1: require.provider; expected provider == "bravo"; got "carol"
                 carol us-1: require.provider; expected provider == "bravo"; got "carol"
        "##]],
    );
}

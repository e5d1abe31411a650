//! How fast the pool goes, printed: `cargo test -p legation-pool speed -- --ignored --nocapture`.

use std::time::Instant;

use legation_core::{TaskId, dsse::sign};
use legation_pool::{Applied, Command, Limits, Phase, Pool};

use crate::world::*;

/// Tasks per second through a pool of so many enclaves: submitted with a policy grant, leased, offered, reported.
fn measure(enclaves: usize, tasks: usize, require: &str) {
    let limits = Limits { ended_tasks_kept: 100, ..Limits::default() };
    let mut world = World::bare(limits);
    let mut pool = Pool::new(limits);
    let appointment = Box::new(world.appointment(&world.manager, legation_core::statement::Office::Manager));
    pool.apply(Command::BeginTerm { term: legation_core::Term(1), appointment }, START, &world.manager).unwrap();
    for n in 0..enclaves {
        let machine = Machine::new(&format!("machine {n}")).at("alpha", "eu-1", 1 + n as u64 % 7);
        pool.apply(world.attested(&machine), START, &world.manager).unwrap();
        pool.apply(Command::Arrived { enclave: machine.id, running: Vec::new() }, START, &world.manager).unwrap();
        world.machines.insert(machine.id, machine);
    }
    let submits: Vec<_> = (0..tasks)
        .map(|n| {
            let mut asked = request("client", &format!("no-op {n}"), START, vec![fragment("no-op")]);
            asked.require = require.parse().unwrap();
            let request = sign(asked, &world.client);
            let grant = sign(policy_grant(&request, &world.client), &world.client);
            (
                TaskId::new(request.digest()),
                Command::Submit { request: Box::new(request), grants: vec![grant], idempotency: None },
            )
        })
        .collect();
    let (mut submitting, mut reporting) = (std::time::Duration::ZERO, std::time::Duration::ZERO);
    let mut records = 0;
    for (task, submit) in submits {
        let begun = Instant::now();
        let applied: Applied = pool.apply(submit, START, &world.manager).unwrap();
        submitting += begun.elapsed();
        records += applied.records.len();
        let Phase::Leased { lease } = pool.tasks()[&task].fragments[0].phase else { panic!("not leased") };
        let enclave = pool.leases()[&lease].enclave;
        std::mem::swap(&mut world.pool, &mut pool);
        let report = world.reporting(enclave, world.ran(lease));
        std::mem::swap(&mut world.pool, &mut pool);
        let begun = Instant::now();
        records += pool.apply(report, START, &world.manager).unwrap().records.len();
        reporting += begun.elapsed();
    }
    let micros = |d: std::time::Duration| d.as_secs_f64() * 1e6 / tasks as f64;
    println!(
        "{enclaves:>5} enclaves, `{require}`: {:>7.0} tasks/s; submit {:.1} us, report {:.1} us, {} records each",
        tasks as f64 / (submitting + reporting).as_secs_f64(),
        micros(submitting),
        micros(reporting),
        records / tasks,
    );
}

/// The same when work waits that nobody can take.
fn measure_crowded(enclaves: usize, waiting: usize, tasks: usize) {
    let mut world = World::bare(Limits::default());
    let mut pool = Pool::new(Limits::default());
    let appointment = Box::new(world.appointment(&world.manager, legation_core::statement::Office::Manager));
    pool.apply(Command::BeginTerm { term: legation_core::Term(1), appointment }, START, &world.manager).unwrap();
    for n in 0..enclaves {
        let machine = Machine::new(&format!("machine {n}"));
        pool.apply(world.attested(&machine), START, &world.manager).unwrap();
        pool.apply(Command::Arrived { enclave: machine.id, running: Vec::new() }, START, &world.manager).unwrap();
        world.machines.insert(machine.id, machine);
    }
    let submit = |pool: &mut Pool, name: String, require: &str| {
        let mut asked = request("client", &name, START, vec![fragment("no-op")]);
        asked.require = require.parse().unwrap();
        let request = sign(asked, &world.client);
        let command = Command::Submit { request: Box::new(request), grants: Vec::new(), idempotency: None };
        let begun = Instant::now();
        pool.apply(command, START, &world.manager).unwrap();
        begun.elapsed()
    };
    for n in 0..waiting {
        submit(&mut pool, format!("waits {n}"), "region == \"moon\"");
    }
    let took: std::time::Duration = (0..tasks).map(|n| submit(&mut pool, format!("goes {n}"), "any")).sum();
    let begun = Instant::now();
    pool.apply(Command::Tick, START, &world.manager).unwrap();
    println!(
        "{enclaves:>5} enclaves, {waiting} fragments waiting for the moon: submit {:.1} us, tick {:.1} us",
        took.as_secs_f64() * 1e6 / tasks as f64,
        begun.elapsed().as_secs_f64() * 1e6,
    );
}

#[test]
#[ignore = "a measurement, not a check"]
fn speed() {
    measure(2, 4000, "any");
    measure(1000, 2000, "any");
    measure(1000, 500, "region == \"eu-1\" and price < 0.005 usd/h");
    measure_crowded(1000, 2000, 200);
}

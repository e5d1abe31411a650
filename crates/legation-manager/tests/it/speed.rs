//! How fast a leader goes over real journals, printed: `cargo nextest run -p legation-manager speed --run-ignored all --no-capture`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use legation_core::{Bytes, Millicores, Signer, claims::Capacity, dsse::sign, statement::Office};
use legation_manager::{
    journal::{Journal, sqlite::SqliteJournal},
    leader::Leader,
    leadership::{Claimant, Timing},
    recovery::recover,
};
use legation_pool::{Command, Limits};

use crate::{
    journal_contract::{candidate, open},
    postgres::Postgres,
    world::{Key, Machine, START, World, fragment, request},
};

/// What placements are made on: enclaves with room for everything.
fn limits() -> Limits {
    Limits { allow_development: true, live_tasks_max: 10_000_000, ..Limits::default() }
}

fn claimant(world: &World) -> Claimant {
    let appointment = world.appointment(&world.manager, Office::Manager);
    Claimant { candidate: candidate("speed"), signer: Arc::new(Key::new("manager")), appointment }
}

fn submission(world: &World, n: usize) -> Command {
    let asked = request("client", &format!("no-op {n}"), START, vec![fragment("no-op")]);
    Command::Submit { request: Box::new(sign(asked, &world.client)), grants: Vec::new(), idempotency: None }
}

/// Placements through a leader with so many outstanding at once.
async fn place(leader: &Leader, submissions: Vec<Command>, outstanding: usize) -> (f64, Duration, Duration) {
    let number = submissions.len();
    let mut shares: Vec<Vec<Command>> = (0..outstanding).map(|_| Vec::new()).collect();
    for (n, submission) in submissions.into_iter().enumerate() {
        shares[n % outstanding].push(submission);
    }
    let begun = Instant::now();
    let workers: Vec<_> = shares
        .into_iter()
        .map(|share| {
            let leader = leader.clone();
            tokio::spawn(async move {
                let mut took = Vec::with_capacity(share.len());
                for command in share {
                    let begun = Instant::now();
                    leader.apply(command).await.unwrap();
                    took.push(begun.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::with_capacity(number);
    for worker in workers {
        took.extend(worker.await.unwrap());
    }
    let rate = number as f64 / begun.elapsed().as_secs_f64();
    took.sort_unstable();
    (rate, took[number / 2], took[number * 99 / 100])
}

fn measure(store: &str, journal: impl Journal + 'static, number: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = World::bare(limits());
    let clock: legation_manager::Clock = Arc::new(|| START);
    let leader =
        Leader::alone(Box::new(journal), claimant(&world), limits(), Timing::default(), 50_000, clock).unwrap();
    runtime.block_on(async {
        for n in 0..1000 {
            let mut machine = Machine::new(&format!("machine {n}")).at("alpha", "eu-1", 1 + n % 7);
            machine.configuration.capacity =
                Capacity { cpu: Millicores(1 << 40), memory: Bytes(1 << 50), slots: 1 << 30 };
            leader.apply(world.attested(&machine)).await.unwrap();
            leader.apply(Command::Arrived { enclave: machine.id, running: Vec::new() }).await.unwrap();
        }
        let mut first = 0;
        for outstanding in [1, 16, 64, 256, 1024] {
            let number = if outstanding == 1 { number / 20 } else { number };
            let submissions = (first..first + number).map(|n| submission(&world, n)).collect();
            first += number;
            let (rate, p50, p99) = place(&leader, submissions, outstanding).await;
            println!("{store:>8}, {outstanding:>4} outstanding: {rate:>7.0} placements/s, p50 {p50:?}, p99 {p99:?}");
        }
        println!("{store:>8}: {:?}", leader.view());
        leader.stop().await;
    });
}

#[test]
#[ignore = "a measurement, not a check"]
fn speed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.sqlite");
    measure("sqlite", SqliteJournal::open(&path).unwrap(), 20_000);
    std::thread::sleep(Duration::from_secs(1));
    restart("sqlite", &mut SqliteJournal::open(&path).unwrap());
    let Some(postgres) = Postgres::start() else { return };
    measure("postgres", open(&postgres.url()), 20_000);
    restart("postgres", &mut open(&postgres.url()));
}

/// How long reading takes, with a snapshot of the end and without one; how long making one does, and how large it is.
fn restart(store: &str, journal: &mut dyn Journal) {
    let records = journal.head().unwrap().last.0;
    let begun = Instant::now();
    let read = recover(journal, limits()).unwrap();
    println!("{store:>8}: {records} records, from snapshot {:?}: {:?}", read.snapshot, begun.elapsed());
    let begun = Instant::now();
    let copy = read.pool.clone();
    let cloned = begun.elapsed();
    let bytes = copy.snapshot().unwrap();
    let made = begun.elapsed() - cloned;
    let begun = Instant::now();
    journal.save_snapshot(copy.seq(), &bytes).unwrap();
    println!("{store:>8}: clone {cloned:?}, make {made:?}, {} bytes, save {:?}", bytes.len(), begun.elapsed());
    let begun = Instant::now();
    let again = recover(journal, limits()).unwrap();
    println!("{store:>8}: from snapshot {:?}: {:?}", again.snapshot, begun.elapsed());
    assert!(again.pool == read.pool);
}

/// A journal of a million records: tasks that were submitted, leased, granted, reported.
#[test]
#[ignore = "a measurement, not a check"]
fn a_million_records() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.sqlite");
    let mut journal = SqliteJournal::open(&path).unwrap();
    let claimant = claimant(&World::bare(limits()));
    let term = journal.claim(&claimant.candidate, Duration::from_secs(3600)).unwrap();
    let mut world = World::bare(limits());
    let mut pool = legation_pool::Pool::new(limits());
    let signer = Key::new("manager");
    assert_eq!(signer.public_key(), world.manager.public_key());
    let mut batch = Vec::new();
    let mut last = legation_core::Seq(0);
    let mut apply = |pool: &mut legation_pool::Pool, command: Command, batch: &mut Vec<_>| {
        batch.extend(pool.apply(command, START, &signer).unwrap().records);
        if batch.len() >= 1000 {
            journal.append(term, last, batch).unwrap();
            last = pool.seq();
            batch.clear();
        }
    };
    apply(&mut pool, Command::BeginTerm { term, appointment: Box::new(claimant.appointment.clone()) }, &mut batch);
    for n in 0..1000 {
        let machine = Machine::new(&format!("machine {n}"));
        apply(&mut pool, world.attested(&machine), &mut batch);
        apply(&mut pool, Command::Arrived { enclave: machine.id, running: Vec::new() }, &mut batch);
        world.machines.insert(machine.id, machine);
    }
    let mut n = 0;
    while pool.seq().0 < 1_000_000 {
        let asked = request("client", &format!("no-op {n}"), START, vec![fragment("no-op")]);
        let request = sign(asked, &world.client);
        let task = legation_core::TaskId::new(request.digest());
        let grants = vec![sign(crate::world::policy_grant(&request, &world.client), &world.client)];
        apply(&mut pool, Command::Submit { request: Box::new(request), grants, idempotency: None }, &mut batch);
        let legation_pool::Phase::Leased { lease } = pool.tasks()[&task].fragments[0].phase else {
            panic!("not leased")
        };
        let enclave = pool.leases()[&lease].enclave;
        std::mem::swap(&mut world.pool, &mut pool);
        let report = world.reporting(enclave, world.ran(lease));
        std::mem::swap(&mut world.pool, &mut pool);
        apply(&mut pool, report, &mut batch);
        n += 1;
    }
    journal.append(term, last, &batch).unwrap();
    println!("{n} tasks, {} records", pool.seq().0);
    restart("sqlite", &mut journal);
}

//! Placement by the index, held against the plain scan: pools of every shape, requests of every kind, until they are full.
//!
//! 1. Whatever could be placed by the scan is placed, and nothing else.
//! 2. What is chosen is among what the scan admits, and little worse than its best: regret is measured and bounded.
//! 3. Nothing is over-committed, accelerators one by one included.

use legation_core::{
    Bytes, FragmentIndex, MicroUsd, Millicores, Milligpus, Millis, Region, TaskId,
    dsse::sign,
    prefer::{Axis, Preferences, Spread, SpreadRule, Weights},
    statement::Office,
    task::Fragment,
};
use legation_pool::{Command, Event, Limits, Pool, RoundTrip};

use crate::world::*;

/// A generator that every machine repeats.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

const REGIONS: [&str; 6] = ["eu-1", "eu-2", "us-1", "us-2", "ap-1", "sa-1"];

fn machine(dice: &mut Dice, n: usize) -> Machine {
    let mut machine = Machine::new(&format!("machine {n}"));
    let cores = dice.of(&[1, 2, 4, 8, 16, 64]);
    let configuration = &mut machine.configuration;
    configuration.region = Region::new(dice.of(&REGIONS)).unwrap();
    configuration.provider = legation_core::ProviderId::new(dice.of(&["alpha", "bravo", "carol", "delta"])).unwrap();
    configuration.capacity.cpu = Millicores(cores * 1000);
    configuration.capacity.memory = Bytes::gib(cores * dice.of(&[1, 2, 4]));
    configuration.capacity.slots = u32::try_from(cores * 2).unwrap();
    configuration.rate.core_hour = MicroUsd(dice.of(&[0, 8_000, 9_000, 10_000, 12_000, 20_000]));
    configuration.rate.gib_hour = MicroUsd(dice.of(&[0, 1_000, 3_000]));
    let gpus: &[_] = &["gpu a", "gpu b", "gpu c", "gpu d"];
    if dice.below(4) == 0 {
        machine.gpus = gpus[..dice.of(&[1, 2, 4])].to_vec();
        // One name is one accelerator in the whole pool.
        let own = |name: &&'static str| -> &'static str { format!("{name} of {n}").leak() };
        machine.gpus = machine.gpus.iter().map(own).collect();
    }
    machine
}

fn wish(dice: &mut Dice) -> Preferences {
    let region = Region::new(dice.of(&REGIONS)).unwrap();
    let near = (dice.below(2) == 0).then_some(region);
    let within = (near.is_some() && dice.below(3) == 0).then(|| Millis(dice.of(&[10, 60, 150])));
    let axis = dice.of(&[Axis::Provider, Axis::Region, Axis::Enclave, Axis::Chip]);
    let rule = dice.of(&[SpreadRule::Distinct, SpreadRule::Same, SpreadRule::Apart, SpreadRule::Together]);
    let spread = if dice.below(3) == 0 { vec![Spread { axis, rule }] } else { Vec::new() };
    let weight = |dice: &mut Dice| dice.of(&[0, 50, 100, 100, 300]);
    let weights = Weights {
        cost: dice.of(&[0, 50, 100, 200]),
        proximity: weight(dice),
        posture: weight(dice),
        fit: weight(dice),
    };
    Preferences { weights, near, within, spread, ..Preferences::default() }
}

fn piece(dice: &mut Dice) -> Fragment {
    let mut piece = fragment("piece");
    piece.demand.cpu = Millicores(dice.of(&[1, 100, 500, 1000, 1900, 4000, 30_000]));
    piece.demand.memory = Bytes::mib(dice.of(&[1, 64, 1000, 4096, 30_000]));
    piece.demand.gpus = Milligpus(dice.of(&[0, 0, 0, 0, 200, 600, 1000, 2000, 4000]));
    piece.demand.output = Bytes(1024);
    piece
}

const REQUIRE: [&str; 6] = [
    "any",
    "region == \"eu-1\"",
    "provider in [alpha, bravo] and price < 0.05 usd/h",
    "gpus >= 1",
    "not (region == \"us-1\")",
    "provider == \"nobody\"",
];

struct Tally {
    placed: u32,
    waiting: u32,
    /// Sum of regrets, in millionths, and the worst.
    regret: (u64, u64),
}

/// Fills a pool and empties it at random, each choice against the scan.
fn fill(seed: u64, machines: usize, requests: usize) -> Tally {
    let mut dice = Dice(seed | 1);
    let limits = Limits { attempts_max: 64, ..limits() };
    let world = World::bare(limits);
    let (mut pool, mut mirror) = (Pool::new(limits), Pool::new(limits));
    let mut tally = Tally { placed: 0, waiting: 0, regret: (0, 0) };
    let mut now = START;
    let mut apply = |pool: &mut Pool, command: Command, now| {
        let records = pool.apply(command, now, &world.manager).unwrap().records;
        for record in &records {
            if let Event::Leased { allocation } = &record.event {
                let ranking = mirror.ranking(allocation.task, allocation.fragment, now);
                let best = ranking.first().unwrap().effective;
                let chosen = ranking.iter().find(|r| r.enclave == allocation.enclave);
                // The scan admits who was chosen.
                let chosen = chosen.unwrap().effective;
                let regret = (chosen - best) * 1_000_000 / best;
                tally.placed += 1;
                tally.regret = (tally.regret.0 + regret, tally.regret.1.max(regret));
            }
            mirror.absorb(record).unwrap();
        }
        for record in &records {
            let Event::Submitted { request, .. } = &record.event else { continue };
            let task = TaskId::new(request.digest());
            for (index, state) in (0..).map(FragmentIndex).zip(&pool.tasks()[&task].fragments) {
                if state.phase == legation_pool::Phase::Queued {
                    tally.waiting += 1;
                    assert_eq!(pool.ranking(task, index, now), [], "somebody could take what waits");
                }
            }
        }
    };
    let appointment = Box::new(world.appointment(&world.manager, Office::Manager));
    apply(&mut pool, Command::BeginTerm { term: legation_core::Term(1), appointment }, now);
    let mut rows = Vec::new();
    for (n, from) in REGIONS.iter().enumerate() {
        for (m, to) in REGIONS.iter().enumerate().skip(n + 1) {
            // One pair that nobody has measured.
            if (n, m) != (0, 5) {
                let ms = 7 + u32::try_from(dice.below(200)).unwrap();
                rows.push(RoundTrip { from: Region::new(from).unwrap(), to: Region::new(to).unwrap(), ms });
            }
        }
    }
    apply(&mut pool, Command::SetDistances { rows, author: "test".into() }, now);
    for n in 0..machines {
        let machine = machine(&mut dice, n);
        apply(&mut pool, world.attested_by(&Key::new("verifier"), None, &machine, now.plus(HOUR)), now);
        apply(&mut pool, Command::Arrived { enclave: machine.id, running: Vec::new() }, now);
    }
    for n in 0..requests {
        let count = dice.of(&[1, 1, 2, 5]);
        let mut asked = request("client", &format!("task {n}"), now, (0..count).map(|_| piece(&mut dice)).collect());
        asked.prefer = wish(&mut dice);
        asked.budget = MicroUsd(dice.of(&[1_000_000, 1_000_000, 20_000]));
        asked.require = dice.of(&REQUIRE).parse().unwrap();
        let asked = sign(asked, &world.client);
        apply(&mut pool, Command::Submit { request: Box::new(asked), grants: Vec::new(), idempotency: None }, now);
        match dice.below(8) {
            0 => {
                now = now.plus(1 + dice.below(20));
                apply(&mut pool, Command::Tick, now);
            }
            1..4 => {
                let tasks: Vec<_> =
                    pool.tasks().iter().filter(|(_, t)| t.state == legation_pool::TaskState::Live).collect();
                let task = *tasks[dice.below(tasks.len() as u64) as usize].0;
                apply(&mut pool, Command::Cancel { task }, now);
            }
            _ => {}
        }
        if n % 16 == 0 {
            pool.audit().unwrap();
        }
    }
    pool.audit().unwrap();
    assert_eq!(pool, mirror);
    tally
}

#[test]
fn the_index_finds_what_the_scan_finds() {
    let (mut placed, mut waiting, mut sum, mut worst) = (0, 0, 0, 0);
    for seed in 1..=24 {
        let tally = fill(seed * 0x9e37_79b9, 3 + 9 * (seed as usize % 8), 60);
        placed += tally.placed;
        waiting += tally.waiting;
        sum += tally.regret.0;
        worst = worst.max(tally.regret.1);
    }
    let mean = sum / u64::from(placed.max(1));
    println!("{placed} placed, {waiting} waiting; regret {mean} ppm on average, {worst} ppm at worst");
    assert!(placed > 1000 && waiting > 100, "{placed} placed, {waiting} waiting: the test tests too little");
    assert!(mean < 50_000, "regret is {mean} ppm on average");
}

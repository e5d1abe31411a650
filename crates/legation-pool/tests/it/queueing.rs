//! A full pool: who is next, how long it takes, and what is refused when too much waits.

use std::collections::BTreeMap;

use legation_core::{
    Bytes, Millicores, Millis, Signed, TaskId, TenantId, UnixTime, dsse::sign, prefer::Priority, statement::Request,
    task::Fragment,
};
use legation_pool::{AccountTerms, Command, Event, Limits, Phase, Pool, TaskState};

use crate::world::*;

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn account(world: &mut World, name: &str, terms: AccountTerms) {
    let command = Command::SetAccount { tenant: Some(tenant(name)), terms, as_of: None, author: "operator".into() };
    world.apply(command).unwrap();
}

/// A fragment with a demand of its own: thousandths of a core, seconds.
fn piece(cpu: u64, seconds: u64) -> Fragment {
    let mut piece = fragment("piece");
    piece.demand.cpu = Millicores(cpu);
    piece.demand.time = Millis(seconds * 1000);
    piece
}

fn asked(world: &World, of: &str, priority: u8, fragments: Vec<Fragment>) -> Signed<Request> {
    let name = format!("task of {of} at {}", world.pool.seq().0);
    let mut asked = request("client", &name, world.now, fragments);
    asked.tenant = tenant(of);
    asked.prefer.priority = Priority(priority);
    asked.expires = world.now.plus(40 * HOUR);
    sign(asked, &world.client)
}

fn submit(world: &mut World, of: &str, priority: u8, fragments: Vec<Fragment>) -> TaskId {
    let asked = asked(world, of, priority, fragments);
    let grant = sign(policy_grant(&asked, &world.client), &world.client);
    world.submit_with(&asked, vec![grant], None).unwrap();
    TaskId::new(asked.digest())
}

/// Whose work was leased since a record, in its order, with what it may take of time.
fn leased(world: &World, since: usize) -> Vec<(TenantId, u64)> {
    let leased = world.records[since..].iter().filter_map(|record| match &record.event {
        Event::Leased { allocation } => Some(allocation),
        _ => None,
    });
    let of = |task: &TaskId| &world.pool.tasks()[task].request;
    leased
        .map(|a| (of(&a.task).tenant.clone(), of(&a.task).fragment(a.fragment).unwrap().demand.time.0 / 1000))
        .collect()
}

/// Ends the oldest lease by a report.
fn finish_one(world: &mut World) {
    let oldest = *world.pool.leases().keys().next().unwrap();
    world.run(oldest);
}

/// Theorem 1 of the paper, for every pair and every interval: what two tenants got, over their weights, is no further apart
/// than one largest fragment of each.
fn check_shares(order: &[(TenantId, u64)], weights: &[(&str, u64)], largest: u64) {
    for from in (0..order.len()).step_by(7) {
        let mut got: BTreeMap<&str, u64> = BTreeMap::new();
        for (n, (of, seconds)) in order.iter().enumerate().skip(from) {
            let (name, _) = weights.iter().find(|(name, _)| of.as_str() == *name).unwrap();
            *got.entry(name).or_default() += seconds;
            for (one, weight) in weights {
                for (other, others) in weights {
                    let share = |name, weight: u64| got.get(name).copied().unwrap_or(0) * 10_000 / weight;
                    let apart = share(*one, *weight).saturating_sub(share(*other, *others));
                    let bound = largest * 10_000 / weight + largest * 10_000 / others + 2;
                    assert!(
                        apart <= bound,
                        "{one} and {other} are {apart} apart from {from} to {n}, more than {bound}"
                    );
                }
            }
        }
    }
}

#[test]
fn shares_follow_weights_and_nobody_starves() {
    let weights = [("lion", 400), ("wolf", 200), ("mouse", 100)];
    let mut world = World::new([Machine::new("a").slots(4)]);
    for (name, weight) in weights {
        account(&mut world, name, AccountTerms { weight: u32::try_from(weight).unwrap(), ..AccountTerms::default() });
    }
    let since = world.records.len();
    for round in 0..6 {
        for (name, weight) in weights {
            // Work of other lengths, so that counting leases would not do.
            let parts = (0..weight / 5).map(|n| piece(100, [20, 40, 60][(n + round) as usize % 3]));
            submit(&mut world, name, 4, parts.collect());
        }
    }
    let mut order = Vec::new();
    loop {
        let waits = |name| world.pool.account(&tenant(name)).book.queued;
        // Work conserving: while something waits, no slot is free.
        assert_eq!(world.pool.leases().len(), 4);
        if weights.iter().any(|(name, _)| waits(name) == 0) {
            break;
        }
        finish_one(&mut world);
        order = leased(&world, since);
    }
    // The first few were leased one by one as they were asked for.
    check_shares(&order[4..order.len() - 1], &weights, 60);
    let got = |name| order.iter().filter(|(of, _)| *of == tenant(name)).map(|(_, seconds)| seconds).sum::<u64>();
    println!("{} leases: lion {} s, wolf {} s, mouse {} s", order.len(), got("lion"), got("wolf"), got("mouse"));
    assert!(order.len() > 200, "{} leases: the test tests too little", order.len());
    // A pool that is restored in the midst of it goes on in the same order.
    let restored = Pool::restore(&world.pool.snapshot().unwrap(), limits()).unwrap();
    assert_eq!(restored, world.pool);
}

#[test]
fn nobody_saves_up_what_others_used_or_pays_for_what_was_free() {
    let mut world = World::new([Machine::new("a").slots(1)]);
    // One of them had the pool for itself.
    submit(&mut world, "early", 4, (0..40).map(|_| piece(100, 60)).collect());
    for _ in 0..20 {
        finish_one(&mut world);
    }
    submit(&mut world, "late", 4, (0..40).map(|_| piece(100, 60)).collect());
    let since = world.records.len();
    for _ in 0..18 {
        finish_one(&mut world);
    }
    let order = leased(&world, since);
    let late = order.iter().filter(|(of, _)| *of == tenant("late")).count();
    assert!((8..=10).contains(&late), "{late} of {}", order.len());
    // Alone again, and then not: as before.
    assert!(order.windows(3).all(|w| w.iter().any(|(of, _)| *of == tenant("late"))), "{order:?}");
}

#[test]
fn what_is_more_urgent_goes_first_as_far_as_its_account_allows() {
    let mut world = World::new([Machine::new("a").slots(1)]);
    account(&mut world, "urgent", AccountTerms { priority_max: Priority(7), ..AccountTerms::default() });
    submit(&mut world, "usual", 4, vec![piece(100, 60); 4]);
    let since = world.records.len();
    submit(&mut world, "patient", 2, vec![piece(100, 60)]);
    submit(&mut world, "urgent", 7, vec![piece(100, 60); 2]);
    submit(&mut world, "urgent", 5, vec![piece(100, 60)]);
    let refused = asked(&world, "usual", 5, vec![piece(100, 60)]);
    assert_eq!(world.submit_with(&refused, Vec::new(), None).unwrap_err().check, "account.priority");
    for _ in 0..7 {
        finish_one(&mut world);
    }
    let order: Vec<_> = leased(&world, since).into_iter().map(|(of, _)| of.to_string()).collect();
    assert_eq!(order, ["urgent", "urgent", "urgent", "usual", "usual", "usual", "patient"]);
}

#[test]
fn a_queue_that_is_full_says_when_to_try_again() {
    let limits = Limits { queue_max: 10, ..limits() };
    let mut world = World::with(limits, [Machine::new("a").slots(1)]);
    submit(&mut world, "one", 4, vec![piece(100, 60); 6]);
    // Half of what the others leave is one tenant's at most; what is placed at once does not count.
    let more = asked(&world, "one", 4, vec![piece(100, 60)]);
    let why = world.submit_with(&more, Vec::new(), None).unwrap_err();
    assert_eq!(
        (why.check.as_str(), why.expected.as_str()),
        ("pool.queue", "at most 5 with these, half of what other tenants leave of the queue")
    );
    assert_eq!(why.fix, "try again in 105 s, when a lease ends; 5 fragments wait now");
    let more = asked(&world, "two", 4, vec![piece(100, 60); 3]);
    assert_eq!(world.submit_with(&more, Vec::new(), None).unwrap_err().check, "pool.queue");
    submit(&mut world, "two", 4, vec![piece(100, 60); 2]);
    submit(&mut world, "three", 4, vec![piece(100, 60)]);
    let more = asked(&world, "three", 4, vec![piece(100, 60)]);
    assert_eq!(world.submit_with(&more, Vec::new(), None).unwrap_err().check, "pool.queue");
    assert_eq!(world.pool.retry_after(world.now), 105);
    finish_one(&mut world);
    finish_one(&mut world);
    world.submit_with(&more, Vec::new(), None).unwrap();
}

#[test]
fn what_cannot_be_placed_is_in_nobodys_way() {
    let limits = Limits { queue_max: 10, ..limits() };
    let mut world = World::with(limits, [Machine::new("a").slots(1)]);
    // As much as fits into the queue of what fits nowhere.
    for of in ["one", "two", "three", "four"] {
        while world.submit_with(&asked(&world, of, 4, vec![piece(4000, 60)]), Vec::new(), None).is_ok() {}
    }
    let more = asked(&world, "one", 4, vec![piece(100, 60); 2]);
    assert_eq!(world.submit_with(&more, Vec::new(), None).unwrap_err().check, "pool.queue");
    // There is a place for this.
    let task = submit(&mut world, "one", 4, vec![piece(100, 60)]);
    assert!(world.lease(task, 0).is_some());
}

#[test]
fn what_waited_in_vain_is_no_credit() {
    let mut world = World::new([Machine::new("a").slots(1)]);
    submit(&mut world, "vain", 4, vec![piece(4000, 60)]);
    for _ in 0..3 {
        submit(&mut world, "usual", 4, vec![piece(100, 60); 100]);
    }
    for _ in 0..250 {
        finish_one(&mut world);
    }
    submit(&mut world, "vain", 4, vec![piece(100, 60); 40]);
    let since = world.records.len();
    for _ in 0..20 {
        finish_one(&mut world);
    }
    let usual = leased(&world, since).iter().filter(|(of, _)| *of == tenant("usual")).count();
    assert!((8..=11).contains(&usual), "{usual} of 20");
}

/// The quickest of a few reports in a pool where one tenant waits in so many lines.
fn report_in(lines: u64) -> std::time::Duration {
    let mut world = World::new([Machine::new("a").slots(1)]);
    for first in (0..lines).step_by(100) {
        submit(&mut world, "one", 4, (first..first + 100).map(|n| piece(100, 60 + n)).collect());
    }
    let oldest = *world.pool.leases().keys().next().unwrap();
    let enclave = world.pool.leases()[&oldest].enclave;
    let report = world.reporting(enclave, world.ran(oldest));
    let times = (0..7).map(|_| {
        let (mut pool, report) = (world.pool.clone(), report.clone());
        let begun = std::time::Instant::now();
        let applied = pool.apply(report, world.now, &world.manager).unwrap();
        assert!(applied.records.iter().any(|r| matches!(r.event, Event::Leased { .. })));
        begun.elapsed()
    });
    times.min().unwrap()
}

#[test]
fn a_report_costs_the_same_however_many_lines_wait() {
    let (few, many) = (report_in(100), report_in(5000));
    println!("a report: {few:?} with 100 lines, {many:?} with 5000");
    assert!(many < few * 8, "{few:?} with 100 lines, {many:?} with 5000");
}

#[test]
fn whoever_waits_is_told_who_goes_before() {
    let mut world = World::new([Machine::new("a").slots(1)]);
    submit(&mut world, "one", 4, vec![piece(100, 60); 4]);
    let task = submit(&mut world, "two", 4, vec![piece(100, 60); 2]);
    let view = world.pool.task_view(task).unwrap();
    let waits: Vec<_> = view.fragments.iter().map(|f| f.waiting.unwrap()).collect();
    // Nothing of it runs yet: its first goes first; then they take turns.
    assert_eq!(waits.iter().map(|w| w.ahead).collect::<Vec<_>>(), [0, 2]);
    let most: Vec<_> = waits.iter().map(|w| w.wait.unwrap().seconds_max).collect();
    assert!(most[0] < most[1] && (106..600).contains(&most[0]), "{most:?}");
    // Nobody else than those that could take it stands in the way.
    assert!(world.pool.task_view(task).unwrap().fragments.iter().all(|f| f.phase == Phase::Queued));
}

/// When something was told of a wait, and what: at most, and expected.
struct Told {
    at: UnixTime,
    most: u64,
    expected: u64,
}

/// One pool under a load of one seed; every wait that was told is held against what came.
fn honest(seed: u64) -> (u32, u64, u64) {
    let mut state = seed | 1;
    let mut below = move |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % n
    };
    let machines = (0..3 + below(4)).map(|n| {
        let mut machine = Machine::new(&format!("machine {n}")).slots(u32::try_from(2 + below(5)).unwrap());
        machine.configuration.capacity.cpu = Millicores(1000 * (1 + below(4)));
        machine.configuration.capacity.memory = Bytes::gib(1 + below(2));
        machine
    });
    let mut world = World::new(machines.collect::<Vec<_>>());
    for name in ["a", "b", "c"] {
        let terms = AccountTerms {
            weight: u32::try_from(50 + below(300)).unwrap(),
            priority_max: Priority(9),
            ..AccountTerms::default()
        };
        account(&mut world, name, terms);
    }
    let mut waiting: BTreeMap<(TaskId, usize), Vec<Told>> = BTreeMap::new();
    for _ in 0..20 {
        let of = ["a", "b", "c"][below(3) as usize];
        let priority = [4, 4, 4, 5, 3][below(5) as usize];
        let parts = (0..1 + below(6)).map(|_| {
            let mut piece = piece([100, 300, 700, 1000][below(4) as usize], 5 + below(60));
            piece.demand.memory = Bytes::mib([16, 128, 700][below(3) as usize]);
            piece
        });
        let parts = parts.collect();
        submit(&mut world, of, priority, parts);
    }
    let mut ends: BTreeMap<_, UnixTime> = BTreeMap::new();
    let (mut told, mut error, mut waited) = (0_u32, 0_u64, 0_u64);
    let mut now = world.now;
    while world.pool.tasks().values().any(|t| t.state == TaskState::Live) {
        assert!(world.now.since(START) < 20 * HOUR, "seed {seed} does not end");
        for (lease, held) in world.pool.leases() {
            let most = held.demand.time.0 / 1000;
            ends.entry(*lease).or_insert_with(|| held.from.plus(1 + below(most)));
        }
        let live: Vec<_> =
            world.pool.tasks().iter().filter(|(_, t)| t.state == TaskState::Live).map(|(id, _)| *id).collect();
        for task in live {
            for (n, fragment) in world.pool.task_view(task).unwrap().fragments.iter().enumerate() {
                match (&fragment.phase, fragment.waiting.and_then(|w| w.wait)) {
                    (Phase::Queued, Some(wait)) => {
                        let told = Told { at: world.now, most: wait.seconds_max, expected: wait.seconds_expected };
                        waiting.entry((task, n)).or_default().push(told);
                    }
                    (Phase::Queued, None) => {}
                    _ => {
                        for Told { at, most, expected } in waiting.remove(&(task, n)).into_iter().flatten() {
                            let took = now.since(at);
                            assert!(took <= most, "seed {seed}: told {most} s at {at}, it took {took} s");
                            told += 1;
                            error += took.abs_diff(expected);
                            waited += took;
                        }
                    }
                }
            }
        }
        world.now = world.now.plus(1);
        now = world.now;
        let over: Vec<_> = ends.iter().filter(|(_, at)| **at <= now).map(|(lease, _)| *lease).collect();
        for lease in over {
            ends.remove(&lease);
            if let Some(held) = world.pool.leases().get(&lease) {
                let (enclave, seconds) = (held.enclave, now.since(held.from));
                let mut ran = world.ran(lease);
                ran.report.usage.micros = (seconds * 1_000_000).min(held.demand.time.0 * 1000);
                world.apply(world.reporting(enclave, ran)).unwrap();
            }
        }
    }
    (told, error, waited)
}

#[test]
fn no_wait_is_longer_than_was_said() {
    let (mut told, mut error, mut waited) = (0, 0, 0);
    for seed in 1..=8 {
        let one = honest(seed * 0x9e37_79b9);
        (told, error, waited) = (told + one.0, error + one.1, waited + one.2);
    }
    let per_cent = error * 100 / waited.max(1);
    println!("{told} waits told, none longer than said; what was expected was off by {per_cent} % of the time waited");
    assert!(told > 1000, "{told} waits: the test tests too little");
}

//! The monitor: false alarms as rare as promised, real changes noticed, host calls traced and held to what a module declares.

use std::{
    fs,
    time::{Duration, Instant},
};

use legation_agent::{
    Status,
    engine::{Cancel, Engine, EngineConfig, PrepareError, RunFailure, RunInput, RunOutcome},
    monitor::{Judged, Monitor, Sample, Settings},
};
use legation_core::{
    Bytes, Digest, Fuel, TenantId, UnixTime,
    monitor::{CallSet, Feature, HostCall, Verdict},
    statement::Outcome,
};
use legation_net::message::ToAgent;
use proptest::prelude::*;

use crate::{
    guests,
    manager::{Manager, config, simple, start},
};

/// Runs that a history learns from.
const LEARNT: usize = 64;
/// log2 of 100 and of 10, in thousandths, rounded.
const ALARM: i32 = 6644;
const SUSPECT: i32 = 3322;

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        seed.chunks_mut(8).for_each(|word| word.copy_from_slice(&self.next().to_le_bytes()));
        seed
    }
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn sample(fuel: u64, input: u64, host_calls: u64, memory: u64, output: u64) -> Sample {
    let (fuel, input, memory, output) = (Fuel(fuel), Bytes(input), Bytes(memory), Bytes(output));
    Sample { fuel, input, host_calls, memory, output }
}

/// Inputs of 1,000 to 2,000 bytes, and so much fuel for each byte, give or take 5 %.
fn usual(dice: &mut Dice, by_byte: u64) -> Sample {
    let input = 1000 + dice.below(1000);
    sample(input * by_byte * (950 + dice.below(100)) / 1000, input, 10, 1 << 20, 32)
}

/// What runs of one history are like, by a number that is the history's own.
type Kind = fn(&mut Dice, u64) -> Sample;

/// Histories of one kind: how many ever raise the alarm, and how many are ever worth a tenth of it.
fn histories(kind: Kind, seed: u64, count: u64) -> (u32, u32) {
    let monitor = Monitor::new(Settings { histories: 1, ..Settings::default() });
    let (mut dice, acme) = (Dice(seed), tenant("acme"));
    let (mut alarms, mut suspects) = (0, 0);
    for number in 0..count {
        let (module, own, mut worst) = (Digest::of(&number.to_le_bytes()), dice.next(), Verdict::Learning);
        for _ in 0..LEARNT + 300 {
            let (run, seed) = (kind(&mut dice, own), dice.seed());
            let said = monitor.begin(module, &acme).end(Some(&run), &seed);
            let least = match said.verdict {
                Verdict::Alarm => ALARM,
                Verdict::Suspect => SUSPECT,
                Verdict::Learning | Verdict::Normal => i32::MIN,
            };
            assert!(said.evidence >= least, "{said:?}");
            worst = worst.max(said.verdict);
        }
        alarms += u32::from(worst == Verdict::Alarm);
        suspects += u32::from(worst >= Verdict::Suspect);
    }
    (alarms, suspects)
}

/// 300 histories of each kind, 300 bets each: chance may bring about 12 alarms and 120 suspicions, and four standard deviations
/// more (3.4 and 10.4).
#[test]
fn false_alarms_are_as_rare_as_promised() {
    let kinds: [Kind; 4] = [
        // Every run the same: all scores are equal.
        |_, own| sample(1000 + own % 1000, 10, 5, 1 << 20, 100),
        // One of two, one of them rare.
        |dice, _| sample(if dice.below(20) == 0 { 9000 } else { 1000 }, 10, 5, 1 << 20, 100),
        // Of every size there is.
        |dice, _| {
            let (fuel, input, output) = (1_u64 << dice.below(50), 1_u64 << dice.below(20), 1_u64 << dice.below(30));
            sample(fuel, input, dice.below(1000), dice.below(1 << 32), output)
        },
        // Each history at its own level, which its runs share: exchangeable, and not independent.
        |dice, own| usual(dice, 10 + own % 90),
    ];
    let (mut alarms, mut suspects) = (0, 0);
    for (kind, seed) in kinds.into_iter().zip(1..) {
        let (a, s) = histories(kind, seed, 300);
        alarms += a;
        suspects += s;
    }
    assert!(alarms <= 25 && suspects <= 161, "{alarms} alarms, {suspects} suspicions");
    // The bound is not kept by never saying anything.
    assert!(suspects >= 10, "{suspects} suspicions");
}

#[test]
fn three_times_the_fuel_raises_the_alarm_and_is_named() {
    let (monitor, acme) = (Monitor::new(Settings::default()), tenant("acme"));
    for before in [LEARNT, 100, 500] {
        let mut needed = Vec::new();
        for seed in 0..20_u64 {
            let mut dice = Dice(seed);
            let module = Digest::of_parts(&[&before.to_le_bytes(), &seed.to_le_bytes()]);
            let mut run = |by_byte: u64| {
                let (run, seed) = (usual(&mut dice, by_byte), dice.seed());
                monitor.begin(module, &acme).end(Some(&run), &seed)
            };
            for _ in 0..before {
                run(50);
            }
            let alarm = (1..=30).find_map(|n| Some((n, run(150))).filter(|(_, said)| said.verdict == Verdict::Alarm));
            let (runs, said) = alarm.unwrap();
            assert_eq!(said.worst, Some(Feature::Fuel));
            needed.push(runs);
            // It stays, also when all seems well again.
            let after = run(50);
            assert_eq!((after.verdict, after.evidence), (Verdict::Alarm, said.evidence));
        }
        needed.sort_unstable();
        assert!(needed[needed.len() / 2] <= 11, "after {before} usual runs: {needed:?}");
    }
}

#[test]
fn only_runs_that_completed_count_and_each_tenant_has_its_own_history() {
    let (monitor, module, mut dice) = (Monitor::new(Settings::default()), Digest::of(b"module"), Dice(7));
    let learning = Judged { verdict: Verdict::Learning, evidence: 0, worst: None };
    let mut run = |monitor: &Monitor, whose: &str, counts: bool| {
        let (run, seed) = (usual(&mut dice, 50), dice.seed());
        monitor.begin(module, &tenant(whose)).end(counts.then_some(&run), &seed)
    };
    for _ in 0..LEARNT - 1 {
        assert_eq!(run(&monitor, "acme", true), learning);
        assert_eq!(run(&monitor, "acme", false), learning);
        drop(monitor.begin(module, &tenant("acme")));
    }
    assert_eq!(run(&monitor, "acme", true), Judged { verdict: Verdict::Normal, ..learning });
    assert_eq!(run(&monitor, "acme", false), Judged { verdict: Verdict::Normal, ..learning });
    assert_eq!(run(&monitor, "globex", true), learning);
    assert_eq!(monitor.histories(), 2);

    // The least recently used is forgotten, and begins anew.
    let small = Monitor::new(Settings { histories: 2, ..Settings::default() });
    for _ in 0..LEARNT {
        run(&small, "acme", true);
    }
    run(&small, "globex", true);
    assert_eq!(run(&small, "acme", true).verdict, Verdict::Normal);
    run(&small, "initech", true);
    assert_eq!((run(&small, "acme", true).verdict, small.histories()), (Verdict::Normal, 2));
    run(&small, "globex", true);
    run(&small, "initech", true);
    assert_eq!((run(&small, "acme", true), small.histories()), (learning, 2));
}

#[test]
fn a_tenant_of_many_modules_makes_its_own_histories_be_forgotten() {
    let monitor = Monitor::new(Settings { histories: 4, ..Settings::default() });
    let (mut dice, module) = (Dice(11), Digest::of(b"module"));
    let mut run = |module: Digest, whose: &str| {
        let (run, seed) = (usual(&mut dice, 50), dice.seed());
        monitor.begin(module, &tenant(whose)).end(Some(&run), &seed).verdict
    };
    for _ in 0..LEARNT {
        run(module, "acme");
    }
    // The least recently used of all is acme's, each time.
    for number in 0..100_u64 {
        run(Digest::of(&number.to_le_bytes()), "mallory");
    }
    assert_ne!(run(module, "acme"), Verdict::Learning);
    // Nor is another kept out: room is made by whoever has most.
    for _ in 0..LEARNT {
        run(module, "globex");
        run(module, "acme");
    }
    assert!([run(module, "globex"), run(module, "acme")].iter().all(|verdict| *verdict != Verdict::Learning));
    assert_eq!(monitor.histories(), 4);
}

/// Of runs at one time the quick ones end first; were they the reference, the slow ones would be alarming.
#[test]
fn runs_count_in_the_order_in_which_they_began() {
    let (acme, mut dice) = (tenant("acme"), Dice(3));
    let runs: Vec<_> = (0..320).map(|_| (usual(&mut dice, 50), dice.seed())).collect();
    let said = |at_once: usize| {
        let monitor = Monitor::new(Settings::default());
        let mut said = None;
        for together in runs.chunks(at_once) {
            let mut watches: Vec<_> =
                together.iter().map(|run| (monitor.begin(Digest::of(b"m"), &acme), run)).collect();
            watches.sort_by_key(|(_, (run, _))| run.fuel);
            for (watch, (run, seed)) in watches {
                said = Some(watch.end(Some(run), seed));
            }
        }
        said.unwrap().evidence
    };
    let one_by_one = said(1);
    assert_ne!(one_by_one, 0);
    assert_eq!([said(8), said(64), said(320)], [one_by_one; 3]);

    // One that never ends is passed over in the end, and no longer asked when it does.
    let monitor = Monitor::new(Settings::default());
    let module = Digest::of(b"m");
    let endless = monitor.begin(module, &acme);
    let mut last = Verdict::Learning;
    for n in 0..1024 {
        assert_eq!(last, Verdict::Learning, "{n}");
        let (run, seed) = (usual(&mut dice, 50), dice.seed());
        last = monitor.begin(module, &acme).end(Some(&run), &seed).verdict;
    }
    assert_ne!(last, Verdict::Learning);
    assert_eq!(endless.end(Some(&usual(&mut dice, 5000)), &[0; 32]).verdict, last);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_run_is_too_strange(
        runs in proptest::collection::vec((any::<[u64; 5]>(), 0..5_u8, any::<[u8; 32]>()), 60..140),
    ) {
        let (monitor, acme) = (Monitor::new(Settings { alarm: 2, histories: 1 }), tenant("acme"));
        let mut alarmed = false;
        for ([a, b, c, d, e], strange, seed) in runs {
            let run = match strange {
                0 => sample(u64::MAX, 0, 0, 0, 0),
                1 => sample(0, u64::MAX, u64::MAX, u64::MAX, u64::MAX),
                2 => sample(0, 0, 0, 0, 0),
                _ => sample(a, b, c, d, e),
            };
            let said = monitor.begin(Digest::of(b"m"), &acme).end(Some(&run), &seed);
            prop_assert!((-64_000..1_024_000).contains(&said.evidence));
            prop_assert_eq!(said.worst.is_some(), said.verdict >= Verdict::Suspect);
            prop_assert!(!alarmed || said.verdict == Verdict::Alarm);
            alarmed = said.verdict == Verdict::Alarm;
        }
    }
}

// Below: through the engine.

fn engine() -> Engine {
    Engine::new(EngineConfig { instances_max: 4, memory_max: Bytes::mib(16), ..EngineConfig::default() }).unwrap()
}

fn run_on(engine: &Engine, wat: &str, input: &[u8]) -> RunOutcome {
    let module = engine.prepare(&wat::parse_str(wat).unwrap()).unwrap();
    let input = RunInput {
        args: &[],
        inputs: vec![input],
        fuel: Fuel(1_000_000_000),
        memory: Bytes::mib(16),
        deadline: Duration::from_secs(60),
        output_max: Bytes::mib(1),
        log_max: Bytes::kib(4),
        seed: [1; 32],
        now_fixed: UnixTime(1_795_262_400),
        delegations: None,
    };
    engine.run(&module, input, &Cancel::new())
}

/// Copies standard input to standard output, 4 bytes at a time; `calls` is its custom section, in the text format.
fn echo(calls: &str) -> String {
    format!(
        "(module {calls}
        (import \"wasi_snapshot_preview1\" \"fd_read\" (func $read (param i32 i32 i32 i32) (result i32)))
        (import \"wasi_snapshot_preview1\" \"fd_write\" (func $write (param i32 i32 i32 i32) (result i32)))
        (import \"wasi_snapshot_preview1\" \"random_get\" (func (param i32 i32) (result i32)))
        (memory (export \"memory\") 1)
        (func (export \"_start\") (loop $more
            (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 4))
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (i32.store (i32.const 4) (i32.load (i32.const 8)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
            (br_if $more (i32.load (i32.const 8))))))"
    )
}

fn calls(names: &[&str]) -> CallSet {
    names.iter().map(|name| HostCall::named(name).unwrap()).collect()
}

#[test]
fn the_trace_is_what_the_documentation_says() {
    let (one, other) = (engine(), engine());
    let got = run_on(&one, &echo(""), b"abcdef");
    // Number, errno and bytes: reads of 4, 2 and 0 bytes, each with a write of as many.
    let mut records = Vec::new();
    for bytes in [4_u32, 2, 0] {
        for number in [20_u16, 26] {
            records.extend(number.to_le_bytes());
            records.extend(0_u16.to_le_bytes());
            records.extend(bytes.to_le_bytes());
        }
    }
    assert_eq!(got.calls.trace, Digest::of_parts(&[b"legation.monitor.trace.v1", &records]));
    assert_eq!((got.calls.set, got.usage.host_calls), (calls(&["fd_read", "fd_write"]), 6));

    // Replicas agree wherever they run; other bytes of the same length change outputs, not calls; another length changes both.
    assert_eq!(run_on(&other, &echo(""), b"abcdef").calls, got.calls);
    assert_eq!(run_on(&one, &echo(""), b"ghijkl").calls, got.calls);
    let longer = run_on(&one, &echo(""), b"abcdefg").calls;
    assert!(longer.set == got.calls.set && longer.trace != got.calls.trace);
}

#[test]
fn a_call_that_is_not_declared_ends_the_run_at_once() {
    let engine = engine();
    let declared = |section: &str| engine.prepare(&wat::parse_str(echo(section)).unwrap()).unwrap().declared();
    let both = "(@custom \"legation.calls\" \"fd_read,fd_write,proc_exit\")";
    assert_eq!(declared(""), calls(&["fd_read", "fd_write", "random_get"]));
    assert_eq!(declared(both), calls(&["fd_read", "fd_write"]));
    assert_eq!(declared("(@custom \"legation.calls\" \"\")"), CallSet::EMPTY);

    let good = run_on(&engine, &echo(both), b"abc");
    assert_eq!((good.result, good.stdout.as_slice()), (Ok(()), &b"abc"[..]));

    let got = run_on(&engine, &echo("(@custom \"legation.calls\" \"fd_read\\00\")"), b"abc");
    assert_eq!(got.result, Err(RunFailure::Undeclared { call: "fd_write" }));
    assert_eq!((got.stdout.len(), got.usage.host_calls), (0, 2));
    // The report says what it tried.
    assert_eq!(got.calls.set, calls(&["fd_read", "fd_write"]));
    let failure = got.result.unwrap_err();
    assert!(!failure.is_resource_trap());
    assert_eq!(failure.class(), "undeclared_call");

    for section in [
        "(@custom \"legation.calls\" \"fd_read,launch\")",
        "(@custom \"legation.calls\" \"fd_read\") (@custom \"legation.calls\" \"fd_write\")",
    ] {
        let error = engine.prepare(&wat::parse_str(echo(section)).unwrap()).unwrap_err();
        assert!(matches!(error, PrepareError::Calls { .. }) && error.check() == "module.calls", "{error}");
    }
}

/// Reads up to 64 KiB and spins as often for each byte as the byte says: one module, two ways to behave.
const SPIN: &str = "(module
    (import \"wasi_snapshot_preview1\" \"fd_read\" (func $read (param i32 i32 i32 i32) (result i32)))
    (memory (export \"memory\") 2)
    (func (export \"_start\") (local $i i32) (local $k i32)
        (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 65536))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (loop $next
            (local.set $k (i32.load8_u offset=1024 (local.get $i)))
            (loop $spin
                (br_if $spin (i32.gt_s (local.tee $k (i32.sub (local.get $k) (i32.const 1))) (i32.const 0))))
            (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.load (i32.const 8)))))))";

#[test]
fn a_module_that_begins_to_work_harder_is_noticed_in_the_engine() {
    let (engine, monitor, acme, mut dice) = (engine(), Monitor::new(Settings::default()), tenant("acme"), Dice(11));
    let module = Digest::of(SPIN.as_bytes());
    let mut run = |byte: u8| {
        let input = vec![byte; 1000 + usize::try_from(dice.below(1000)).unwrap()];
        let watch = monitor.begin(module, &acme);
        let got = run_on(&engine, SPIN, &input);
        assert_eq!(got.result, Ok(()));
        let ran = sample(got.usage.fuel.0, input.len() as u64, got.usage.host_calls, got.usage.memory_peak.0, 0);
        watch.end(Some(&ran), &dice.seed())
    };
    for n in 0..100 {
        let said = run(1);
        let expected = if n < LEARNT - 1 { said.verdict == Verdict::Learning } else { said.verdict < Verdict::Alarm };
        assert!(expected, "{n}: {said:?}");
    }
    let alarm = (1..=30).map(|_| run(9)).find(|said| said.verdict == Verdict::Alarm);
    assert_eq!(alarm.and_then(|said| said.worst), Some(Feature::Fuel));
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_carry_what_the_monitor_says() {
    let mut manager = Manager::new().await;
    let agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    let module = manager.serve(&fs::read(guests::path("echo.wasm")).unwrap());
    let mut traces = Vec::new();
    for nonce in 1..=LEARNT as u64 {
        let offer = manager.offer(&conn, &simple(module, &[], nonce), 0, &[], Vec::new());
        let lease = conn.offer(&offer).await;
        let report = conn.report(&mut manager, lease).await.report;
        conn.say(&ToAgent::Acknowledged { lease }).await;
        assert_eq!(report.outcome, Outcome::Completed);
        let said = report.monitor.unwrap();
        let expected = if nonce < LEARNT as u64 { Verdict::Learning } else { Verdict::Normal };
        assert_eq!((said.verdict, said.evidence, said.worst), (expected, 0, None), "{nonce}");
        assert!(said.calls.contains(HostCall::named("fd_read").unwrap()));
        traces.push(said.trace);
    }
    // Same module, same (absent) input: the same calls.
    traces.dedup();
    assert_eq!(traces.len(), 1);
    agent.sees(|s| matches!(s, Status::Monitored { monitored, .. } if monitored.verdict == Verdict::Normal)).await;
}

#[test]
#[ignore = "a measurement, not a check: cargo test -p legation-agent --test it monitor::measure -- --ignored --nocapture"]
#[expect(clippy::print_stderr, reason = "its output is its purpose")]
fn measure() {
    let (monitor, acme, mut dice) = (Monitor::new(Settings::default()), tenant("acme"), Dice(1));
    let runs: Vec<_> = (0..100_000).map(|_| (usual(&mut dice, 50), dice.seed())).collect();
    let started = Instant::now();
    for (run, seed) in &runs {
        monitor.begin(Digest::of(b"m"), &acme).end(Some(run), seed);
    }
    eprintln!("begin and end of a run: {:?}", started.elapsed() / 100_000);
    // 2 Mi host calls in one run.
    let engine = engine();
    let input = vec![7_u8; 1 << 20];
    let started = Instant::now();
    let got = run_on(&engine, &echo(""), &input);
    eprintln!("{} host calls: {:?} each", got.usage.host_calls, started.elapsed() / got.usage.host_calls as u32);
}

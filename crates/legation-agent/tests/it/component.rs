//! Components of the world `legation:task` through the engine: what one can do, what it cannot, and that nothing it does harms the
//! host. They are written as text (`component.wat`); those that `cargo xtask guests` builds from Python and JavaScript run here too, and
//! so does the command that it builds from Rust.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, LazyLock},
    thread,
    time::{Duration, Instant},
};

use legation_agent::engine::{
    AskError, Cancel, Delegations, Engine, EngineConfig, PrepareError, Prepared, RunFailure, RunInput, RunOutcome,
};
use legation_core::{Bytes, Digest, Fuel, Rejection};

use crate::asking::{Fake, input};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    Engine::new(EngineConfig { instances_max: 8, memory_max: Bytes::mib(128), ..EngineConfig::default() }).unwrap()
});

/// A component that does `body`, with these options in its memory.
fn task(options: &str, body: &str) -> String {
    let quoted = options.replace('\\', "\\\\").replace('"', "\\\"");
    include_str!("component.wat")
        .replace("BODY\n", &format!("{body}\n"))
        .replace("    DATA\n", &format!("    (data (i32.const 160) \"{quoted}\")\n"))
        .replace("OPTIONS)", &format!("{})", options.len()))
}

fn run(wat: &str, input: RunInput<'_>) -> RunOutcome {
    let component = ENGINE.prepare(&wat::parse_str(wat).unwrap()).unwrap();
    ENGINE.run(&component, input, &Cancel::new())
}

fn refused(wasm: &[u8]) -> PrepareError {
    ENGINE.prepare(wasm).unwrap_err()
}

fn trap(body: &str) -> String {
    match run(&task("", body), RunInput { memory: Bytes::mib(96), ..input(None) }).result {
        Err(RunFailure::Trap(why)) => why,
        other => panic!("{body}: {other:?}"),
    }
}

/// Writes its input four bytes at a time, its arguments with a line each, the lengths of its inputs, the time, and 40 random
/// bytes; logs its first argument.
const ALL: &str = r#"
    (block $end (loop $more
      (call $read (i32.const 4) (i32.const 16))
      (br_if $end (i32.eqz (i32.load (i32.const 20))))
      (call $out)
      (br $more)))
    (call $args (i32.const 16))
    (local.set $a (i32.load (i32.const 16)))
    (call $log (i32.load (local.get $a)) (i32.load offset=4 (local.get $a)))
    (local.set $n (i32.load (i32.const 20)))
    (i32.store8 (i32.const 2048) (i32.const 10))
    (block $end (loop $more
      (br_if $end (i32.eqz (local.get $n)))
      (call $write (i32.load (local.get $a)) (i32.load offset=4 (local.get $a)))
      (call $write (i32.const 2048) (i32.const 1))
      (local.set $a (i32.add (local.get $a) (i32.const 8)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br $more)))
    (call $inputs (i32.const 16))
    (call $write (i32.load (i32.const 16)) (i32.mul (i32.load (i32.const 20)) (i32.const 8)))
    (i64.store (i32.const 2048) (call $now))
    (call $write (i32.const 2048) (i32.const 8))
    (call $random (i32.const 40) (i32.const 16))
    (call $out)
"#;

/// Begins two questions, and writes both answers, the second first.
const TWO: &str = r#"
    (local.set $a (call $ask)) (local.set $b (call $ask))
    (call $wait (local.get $b) (i32.const 16)) (call $told)
    (call $wait (local.get $a) (i32.const 16)) (call $told)
"#;

/// Asks once, and writes what it is told.
const ONE: &str = r#"
    (call $delegate (i32.const 64) (i32.const 64) (i32.const 128) (i32.const 6) (i32.const 160) (i32.const OPTIONS)
      (i32.const 16))
    (call $told)
"#;

const SPIN: &str = "(loop $ever (br $ever))";

fn everything(seed: u8) -> RunOutcome {
    let args = ["first".to_owned(), String::new(), "thïrd".to_owned()];
    run(
        &task("", ALL),
        RunInput { args: &args, inputs: vec![&b"some "[..], b"", b"input"], seed: [seed; 32], ..input(None) },
    )
}

#[test]
fn a_component_is_given_everything_and_gives_everything() {
    let got = everything(1);
    assert_eq!(got.result, Ok(()));
    let lengths = [5_u64, 0, 5].map(u64::to_le_bytes).concat();
    let now = 1_795_262_400_u64.to_le_bytes();
    let known = ["some input".as_bytes(), "first\n\nthïrd\n".as_bytes(), &lengths, &now].concat();
    assert_eq!(&got.stdout[..known.len()], &known[..]);
    assert_eq!(got.stdout.len(), known.len() + 40);
    assert_eq!(got.stderr, b"first\n");
    let names: Vec<_> = got.calls.set.calls().map(|call| call.name()).collect();
    let functions = ["task_args", "task_inputs", "task_read", "task_write", "task_log", "task_now", "task_random"];
    assert_eq!(names, functions);
    // Three pieces and the end, one for each write, and one for each other.
    assert_eq!(got.usage.host_calls, 4 + (3 + 6 + 1 + 1 + 1) + 5);
    assert_eq!((got.usage.memory_peak, got.starved), (Bytes::kib(64), false));

    let component = ENGINE.prepare(&wat::parse_str(task("", ALL)).unwrap()).unwrap();
    assert_eq!(component.memory_min(), Bytes::kib(64));
    let declared: Vec<_> = component.declared().calls().map(|call| call.name()).collect();
    let handed = ["delegate_start", "delegate_wait", "delegate_error", "delegate_close"];
    assert_eq!(declared, [&handed[..], &functions].concat());
    assert!(ENGINE.cached(&component.digest()).is_some());
}

#[test]
fn the_same_run_is_the_same_and_only_its_seed_changes_it() {
    let without_wall = |mut got: RunOutcome| {
        got.usage.wall = Duration::ZERO;
        got
    };
    let (one, again, other) = (everything(1), everything(1), everything(2));
    assert_eq!(without_wall(one.clone()), without_wall(again));
    assert_ne!(one.stdout, other.stdout);
    assert_eq!((one.usage.fuel, one.calls), (other.usage.fuel, other.calls));
    // Sizes and order are in the trace.
    let short = run(&task("", ALL), RunInput { args: &["first".to_owned()], ..input(None) });
    assert_ne!(short.calls.trace, one.calls.trace);
}

#[test]
fn an_error_is_an_exit_code_and_is_in_the_log() {
    let fails = "(i32.store8 (i32.const 32) (i32.const 1)) (i32.store (i32.const 36) (i32.const 128))
        (i32.store (i32.const 40) (i32.const 6)) (call $write (i32.const 64) (i32.const 2))";
    let got = run(&task("", fails), input(None));
    assert_eq!((got.result, got.stdout, got.stderr), (Err(RunFailure::Exit(1)), b"ab".to_vec(), b"input!\n".to_vec()));
}

#[test]
fn what_breaks_the_rules_is_a_trap_and_its_own_doing() {
    for (body, words) in [
        ("(unreachable)", "unreachable"),
        ("(drop (i32.load (i32.const 65536)))", "out of bounds"),
        // Lists and texts outside memory, wrapping, or no text.
        ("(call $write (i32.const 65530) (i32.const 7))", "out of bounds"),
        ("(call $write (i32.const 64) (i32.const -1))", "out of bounds"),
        ("(call $log (i32.const 65536) (i32.const 1))", "out of bounds"),
        ("(i32.store8 (i32.const 128) (i32.const 255)) (call $log (i32.const 128) (i32.const 6))", "utf-8"),
        // Where an answer should go: outside, and askew.
        ("(call $read (i32.const 1) (i32.const 65532))", "out of bounds"),
        ("(call $args (i32.const 18))", "aligned"),
        // More in one call than may be handed over, with a memory that has it.
        (
            "(drop (memory.grow (i32.const 1100))) (call $write (i32.const 0) (i32.const 67375105))",
            "too much data is being copied",
        ),
        // What `run` gives: no value of its type.
        ("(return (i32.const 65533))", "aligned"),
        ("(return (i32.const 65536))", "out of bounds"),
        ("(i32.store8 (i32.const 32) (i32.const 7))", "discriminant"),
        (
            "(i32.store8 (i32.const 32) (i32.const 1)) (i32.store (i32.const 36) (i32.const -9))
             (i32.store (i32.const 40) (i32.const 9))",
            "out of bounds",
        ),
    ] {
        let why = trap(body);
        assert!(why.contains(words), "{body}: {why:?} lacks {words:?}");
    }
    // The largest list that may be handed over passes, and is charged.
    let most = "(drop (memory.grow (i32.const 1100))) (call $write (i32.const 0) (i32.const 67375104))";
    let wide = || RunInput { memory: Bytes::mib(96), output_max: Bytes::mib(80), ..input(None) };
    let got = run(&task("", most), wide());
    assert_eq!((got.result, got.stdout.len()), (Ok(()), 67_375_104));
    assert!(got.usage.fuel.0 > 67_375_104);
    let got = run(&task("", most), RunInput { fuel: Fuel(1_000_000), ..wide() });
    assert_eq!((got.result, got.stdout.len()), (Err(RunFailure::OutOfFuel), 0));
}

#[test]
fn every_limit_ends_a_run() {
    let whole = everything(1).usage.fuel;
    let args = ["first".to_owned(), String::new(), "thïrd".to_owned()];
    let with = |fuel: u64| RunInput {
        args: &args,
        inputs: vec![&b"some "[..], b"", b"input"],
        fuel: Fuel(fuel),
        ..input(None)
    };
    assert_eq!(run(&task("", ALL), with(whole.0)).result, Ok(()));
    // The last call costs 140; what comes behind it is not looked at any more.
    let short = run(&task("", ALL), with(whole.0 - 120));
    assert_eq!((short.result, short.usage.fuel.0), (Err(RunFailure::OutOfFuel), whole.0 - 120));
    assert_eq!(run(&task("", SPIN), input(None)).result, Err(RunFailure::OutOfFuel));

    let endless = || RunInput { fuel: Fuel(u64::MAX >> 1), ..input(None) };
    let got = run(&task("", SPIN), RunInput { deadline: Duration::from_millis(100), ..endless() });
    assert_eq!(got.result, Err(RunFailure::Deadline));
    let cancel = Cancel::new();
    let component = ENGINE.prepare(&wat::parse_str(task("", SPIN)).unwrap()).unwrap();
    thread::scope(|s| {
        s.spawn(|| {
            thread::sleep(Duration::from_millis(100));
            cancel.cancel();
        });
        assert_eq!(ENGINE.run(&component, endless(), &cancel).result, Err(RunFailure::Cancelled));
    });

    let got = run(&task("", "(drop (memory.grow (i32.const 1)))"), RunInput { memory: Bytes::kib(64), ..input(None) });
    let limit = Bytes::kib(64);
    assert_eq!(got.result, Err(RunFailure::OutOfMemory { limit, asked: Bytes::kib(128) }));
    let got = run(&task("", ""), RunInput { memory: Bytes::kib(32), ..input(None) });
    assert_eq!(got.result, Err(RunFailure::OutOfMemory { limit: Bytes::kib(32), asked: limit }));
    // What the host gives may need more as well: 1 MiB at once is given, and no more.
    let big = vec![7; 3 << 20];
    let read = "(call $read (i32.const -1) (i32.const 16)) (call $out)";
    let got = run(&task("", read), RunInput { inputs: vec![&big], ..input(None) });
    assert_eq!((got.result, got.stdout.len()), (Ok(()), 1 << 20));
    let got = run(&task("", read), RunInput { inputs: vec![&big], memory: limit, ..input(None) });
    assert!(matches!(got.result, Err(RunFailure::OutOfMemory { .. })), "{:?}", got.result);

    let write = "(call $write (i32.const 0) (i32.const 3))";
    assert_eq!(run(&task("", write), RunInput { output_max: Bytes(3), ..input(None) }).stdout.len(), 3);
    let got = run(&task("", write), RunInput { output_max: Bytes(2), ..input(None) });
    assert_eq!(got.result, Err(RunFailure::OutputTooLarge { limit: Bytes(2) }));
    let log = "(call $log (i32.const 128) (i32.const 6)) (call $log (i32.const 128) (i32.const 6))";
    let got = run(&task("", log), RunInput { log_max: Bytes(8), ..input(None) });
    assert_eq!(got.stderr, b"input!\ni\n[log cut here: 6 more bytes]\n");

    let deep = "(call $deeper (i32.const 0))";
    let text = task("", deep).replacen(
        "(func $out ",
        "(func $deeper (param i32) (call $deeper (i32.add (local.get 0) (i32.const 1))) (call $out)) (func $out ",
        1,
    );
    assert_eq!(run(&text, input(None)).result, Err(RunFailure::StackOverflow));
}

#[test]
fn runs_are_counted_whatever_they_are_made_of() {
    let one =
        Engine::new(EngineConfig { instances_max: 1, memory_max: Bytes::mib(1), ..EngineConfig::default() }).unwrap();
    let spin = one.prepare(&wat::parse_str(task("", SPIN)).unwrap()).unwrap();
    // It needs neither a memory nor a table.
    let bare = one.prepare(&wat::parse_str("(module (func (export \"_start\")))").unwrap()).unwrap();
    let run = |module: &Prepared, fuel| {
        let input = RunInput { fuel: Fuel(fuel), memory: Bytes::mib(1), ..input(None) };
        one.run(module, input, &Cancel::new()).result
    };
    let cancel = Cancel::new();
    thread::scope(|s| {
        let long = s.spawn(|| {
            let input = || RunInput { fuel: Fuel(u64::MAX >> 1), memory: Bytes::mib(1), ..input(None) };
            loop {
                let got = one.run(&spin, input(), &cancel).result;
                if got != Err(RunFailure::Busy { instances_max: 1 }) {
                    return got;
                }
            }
        });
        let started = Instant::now();
        while run(&bare, 1000) != Err(RunFailure::Busy { instances_max: 1 }) {
            assert!(started.elapsed() < Duration::from_secs(30), "never busy");
        }
        cancel.cancel();
        assert_eq!(long.join().unwrap(), Err(RunFailure::Cancelled));
    });
    for _ in 0..20 {
        assert_eq!(run(&bare, 1000), Ok(()));
        assert_eq!(run(&spin, 1000), Err(RunFailure::OutOfFuel));
    }
}

#[test]
fn a_question_goes_out_whole_and_its_answer_comes_back_whole() {
    let options = "{\"args\":[\"a\",\"b c\"],\"output\":11}";
    for (body, answers) in [(ONE, 1), (TWO, 2)] {
        let fake = Fake::loud();
        let got = run(&task(options, body), input(Some(fake.clone())));
        assert_eq!((got.result, got.stdout), (Ok(()), b"INPUT!".repeat(answers)));
        let asked = fake.asked();
        assert_eq!(asked.len(), answers);
        for asked in asked {
            assert_eq!((asked.module, asked.input.as_slice()), (Digest::from_bytes([0xab; 32]), &b"input!"[..]));
            assert_eq!((asked.options.args, asked.output), (vec!["a".to_owned(), "b c".to_owned()], Bytes(11)));
        }
        assert!(fake.forgotten.lock().unwrap().is_empty());
        let names: Vec<_> = got.calls.set.calls().map(|call| call.name()).collect();
        assert_eq!(names, ["delegate_start", "delegate_wait", "task_write"]);
        assert_eq!(got.usage.host_calls, 3 * answers as u64);
    }
    // A question is over when its answer was given, or when it is forgotten.
    let again = "(local.set $a (call $ask)) (call $wait (local.get $a) (i32.const 16)) (call $wait (local.get $a) (i32.const 16))
        (call $told)";
    let got = run(&task("", again), input(Some(Fake::loud())));
    assert!(String::from_utf8(got.stdout.clone()).unwrap().starts_with('1'), "{got:?}");
    let fake = Fake::new(|_| None);
    let forgets = "(call $forget (call $ask)) (call $forget (i32.const 77)) (drop (call $ask))";
    assert_eq!(run(&task("", forgets), input(Some(fake.clone()))).result, Ok(()));
    assert_eq!(*fake.forgotten.lock().unwrap(), [101, 102]);
}

#[test]
fn every_failure_has_its_cause_and_its_reason() {
    let why = |check: &str| Rejection::new(check, "it").got("a");
    type Make = fn(Rejection) -> AskError;
    for (make, cause, starved) in [
        (AskError::NotAllowed as Make, "0", true),
        (AskError::Invalid as Make, "1", true),
        (AskError::TooMany as Make, "2", true),
        (AskError::Unanswered as Make, "3", true),
        (AskError::Failed as Make, "4", false),
        (AskError::Silent as Make, "4", true),
    ] {
        let got = run(&task("", ONE), input(Some(Fake::new(move |_| Some(Err(make(why("some.check"))))))));
        assert_eq!((got.result, got.starved), (Ok(()), starved));
        assert_eq!(String::from_utf8(got.stdout).unwrap(), format!("{cause}{}", why("some.check")));
    }
    // Whoever may ask nobody is told so; what cannot be read is not asked.
    let said = |options: &str, body: &str, with: Option<Arc<Fake>>| {
        let got = run(&task(options, body), input(with));
        assert_eq!(got.result, Ok(()), "{body}");
        String::from_utf8(got.stdout).unwrap()
    };
    assert!(said("", ONE, None).starts_with("0delegate.allowed"));
    for options in ["[]", "7", "{\"fuel\":-1}", "{\"more\":1}"] {
        let fake = Fake::loud();
        let text = said(options, ONE, Some(fake.clone()));
        assert!(text.starts_with("1delegate.options") && fake.asked().is_empty(), "{options}: {text}");
    }
    for (body, words) in [
        // One digit too few, and a capital.
        (ONE.replacen("(i32.const 64) (i32.const 64)", "(i32.const 64) (i32.const 63)", 1), "SHA-256"),
        (format!("(i32.store8 (i32.const 64) (i32.const 65)) {ONE}"), "SHA-256"),
        ("(call $wait (i32.const 0) (i32.const 16)) (call $told)".to_owned(), "started"),
    ] {
        let fake = Fake::loud();
        let text = said("", &body, Some(fake.clone()));
        assert!(text.starts_with('1') && text.contains(words) && fake.asked().is_empty(), "{body}: {text}");
    }
    // While it waits, the deadline holds.
    let with: Arc<dyn Delegations> = Fake::new(|_| None);
    let soon = RunInput { deadline: Duration::from_millis(100), delegations: Some(with), ..input(None) };
    assert_eq!(run(&task("", ONE), soon).result, Err(RunFailure::Deadline));
}

#[test]
fn a_component_calls_only_what_it_declares() {
    let declares = |names: &str| {
        let mut wasm = wat::parse_str(task("", ALL)).unwrap();
        let name = "legation.calls";
        wasm.extend([0, (1 + name.len() + names.len()) as u8, name.len() as u8]);
        wasm.extend_from_slice(name.as_bytes());
        wasm.extend_from_slice(names.as_bytes());
        wasm
    };
    let component = ENGINE.prepare(&declares("task_read,task_write")).unwrap();
    let got = ENGINE.run(&component, RunInput { inputs: vec![&b"in"[..]], ..input(None) }, &Cancel::new());
    assert_eq!((got.result, got.stdout), (Err(RunFailure::Undeclared { call: "task_args" }), b"in".to_vec()));
    assert!(matches!(refused(&declares("task_reed")), PrepareError::Calls { .. }));
}

#[test]
fn what_is_not_of_the_world_is_refused_by_name() {
    let check = |text: &str, check: &str, words: &[&str]| {
        let error = refused(&wat::parse_str(text).unwrap());
        let rejection = Rejection::from(&error);
        assert_eq!(rejection.check, check, "{text}: {error}");
        for words in words {
            assert!(rejection.to_string().contains(words), "{rejection} lacks {words:?}");
        }
    };
    let run = "(core module $m (func (export \"run\") (result i32) (i32.const 0)) (memory (export \"memory\") 1))
        (core instance $m (instantiate $m))
        (func (export \"run\") (result (result (error string))) (canon lift (core func $m \"run\") (memory (core memory $m \"memory\"))))";
    let imports = |import: &str| format!("(component {import} {run})");
    assert!(ENGINE.prepare(&wat::parse_str(imports("")).unwrap()).is_ok());
    let instance = |name: &str, exports: &str| imports(&format!("(import \"{name}\" (instance {exports}))"));
    check(
        &instance("wasi:cli/environment@0.2.0", "(export \"get-arguments\" (func (result (list string))))"),
        "module.import",
        &["wasi:cli/environment@0.2.0", "get-arguments", "--stub-wasi"],
    );
    check(
        &instance("legation:task/host@1.0.0", "(export \"launch\" (func))"),
        "module.import",
        &["legation:task/host@1.0.0", "launch", "task.wit"],
    );
    for name in ["legation:task/host@1.0.1", "legation:task/host@2.0.0", "legation:task/host", "other:task/host@1.0.0"]
    {
        check(&instance(name, "(export \"now\" (func (result u64)))"), "module.import", &[name, "now"]);
    }
    check(&imports("(import \"now\" (func (result u64)))"), "module.import", &["now"]);
    check(
        &instance("legation:task/host@1.0.0", "(export \"now\" (func (result u32)))"),
        "module.world",
        &["legation:task/host@1.0.0"],
    );
    // Its own `run`.
    check("(component)", "module.world", &["`run`", "task.wit"]);
    check(
        &imports("").replace("(result (result (error string)))", "(result u32)"),
        "module.world",
        &["func() -> result"],
    );
    check("(component (component $c) (instance (export \"run\") (instantiate $c)))", "module.world", &["no function"]);
}

#[test]
fn what_has_no_room_or_is_malformed_is_refused() {
    let fits = |text: &str, words: &str| {
        let error = refused(&wat::parse_str(text).unwrap());
        assert!(matches!(error, PrepareError::DoesNotFit { .. }) && error.to_string().contains(words), "{error}");
    };
    let module = "(core module $m (memory (export \"memory\") 1))";
    let twice = "(core instance (instantiate $m)) (core instance (instantiate $m))";
    fits(&format!("(component {module} {twice})"), "memories");
    fits(
        &format!("(component {} {twice})", "(core module $m (table 1 funcref) (table 1 funcref) (table 1 funcref))"),
        "tables",
    );
    fits(
        &format!("(component {})", module.replace("\") 1", "\") 3000") + "(core instance (instantiate $m))"),
        "memory",
    );
    let many = "(core instance (instantiate $m))".repeat(129);
    fits(&format!("(component (core module $m) {many})"), "core module instances");
    // Each doubles the one before: thirty of them would be a thousand million instances.
    let nested = (0..30)
        .fold("(component $c (core module $m) (core instance (instantiate $m)))".to_owned(), |inner, _| {
            format!("(component $c {inner} (instance (instantiate $c)) (instance (instantiate $c)))")
        });
    let started = Instant::now();
    fits(&nested, "within it");
    assert!(started.elapsed() < Duration::from_secs(5));

    let good = wat::parse_str(task("", ALL)).unwrap();
    for cut in (8..good.len()).step_by(61).skip(1) {
        assert!(ENGINE.prepare(&good[..cut]).is_err(), "cut at {cut}");
    }
    for at in (8..good.len()).step_by(37) {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        // Some still mean something; none does harm.
        if let Ok(component) = ENGINE.prepare(&bad) {
            let input = RunInput { fuel: Fuel(1_000_000), ..input(None) };
            let got = ENGINE.run(&component, input, &Cancel::new());
            assert!(!matches!(got.result, Err(RunFailure::Engine(_))), "{at}: {:?}", got.result);
        }
    }
}

/// A few hundred bytes of each would take gigabytes, or minutes.
#[test]
fn what_doubles_is_refused_before_it_is_compiled() {
    let fits = |text: &str, words: &str| {
        let wasm = wat::parse_str(text).unwrap();
        let started = Instant::now();
        let error = refused(&wasm);
        let took = started.elapsed();
        assert!(matches!(error, PrepareError::DoesNotFit { .. }) && error.to_string().contains(words), "{error}");
        // Far below the minutes that it would take, and far above what two slow cores make of a moment.
        assert!(took < Duration::from_secs(10), "{took:?}: {error}");
    };
    let times = |count: u32, each: &dyn Fn(u32) -> String| (1..=count).map(each).collect::<String>();
    let bags = times(17, &|n| {
        let last = n - 1;
        format!("(instance $i{n} (export \"a\" (instance $i{last})) (export \"b\" (instance $i{last})))")
    });
    let uses = times(20, &|_| "(instance (export \"a\" (instance $i17)))".to_owned());
    fits(&format!("(component (instance $i0) {bags} {uses})"), "instances of its own");

    let chain = times(17, &|n| format!("(instance $i{n} (instantiate $c (with \"x\" (instance $i{}))))", n - 1));
    let twice = "(import \"x\" (instance $x)) (export \"a\" (instance $x)) (export \"b\" (instance $x))";
    let text = format!("(component (import \"i\" (instance $i0)) (component $c {twice}) {chain})");
    fits(&text, "within it imports instances");
    let many = "(instance (instantiate $c))".repeat(9);
    fits(&format!("(component (component $c) {many})"), "instances of components");

    let tuples = |count| times(count, &|n| format!("(type $r{n} (tuple $r{} $r{}))", n - 1, n - 1));
    let lifts = |doubled: u32, count: usize| {
        let lift = "(func (type $f) (canon lift (core func $c \"f\") (memory (core memory $c \"m\"))
            (realloc (core func $c \"r\"))))";
        let (tuples, lifts) = (tuples(doubled), lift.repeat(count));
        format!(
            "(component (type $r0 (tuple u8 u8)) {tuples} (type $f (func (param \"p\" $r{doubled})))
                (core module $m (memory (export \"m\") 1) (func (export \"f\") (param i32))
                    (func (export \"r\") (param i32 i32 i32 i32) (result i32) i32.const 0))
                (core instance $c (instantiate $m)) {lifts})"
        )
    };
    fits(&lifts(17, 1), "one of its types");
    fits(&lifts(9, 100), "at each use");
    fits(&lifts(2, 1025), "lifted and lowered");
    // Few of a small one pass: what it lacks is told by what comes after.
    assert!(matches!(refused(&wat::parse_str(lifts(4, 3)).unwrap()), PrepareError::World { .. }));

    let doubled = times(13, &|n| {
        let last = n - 1;
        format!(
            "(type $t{n} (instance (alias outer 1 $t{last} (type $x)) (export \"a\" (instance (type $x)))
                (export \"b\" (instance (type $x)))))"
        )
    });
    fits(&format!("(component (type $t0 (instance)) {doubled})"), "one of its types");
}

/// Each level is three bytes, and would be a call of whoever reads it.
#[test]
fn types_within_types_are_refused_before_they_are_read() {
    // So many times a type that declares one type, and one that declares nothing.
    let nested = |kind: u8, times: usize| {
        let types = [&[1_u8][..], &[kind, 1, 1].repeat(times), &[kind, 0]].concat();
        let size = (0..5_u32).map(|at| ((types.len() >> (7 * at)) & 0x7f) as u8 | if at < 4 { 0x80 } else { 0 });
        let mut wasm = b"\0asm\x0d\0\x01\0\x07".to_vec();
        wasm.extend(size);
        wasm.extend(types);
        wasm
    };
    // Those of components, and those of instances.
    for (kind, times) in [(0x41, 1_000_000), (0x42, 1_000_000), (0x41, 16), (0x42, 16)] {
        let started = Instant::now();
        let error = refused(&nested(kind, times));
        let took = started.elapsed();
        let words = "types within types";
        assert!(matches!(error, PrepareError::DoesNotFit { .. }) && error.to_string().contains(words), "{error}");
        assert!(took < Duration::from_secs(10), "{took:?}: {error}");
    }
    // As many as may be: what it lacks is told by what comes after.
    let error = refused(&nested(0x42, 15));
    assert!(matches!(error, PrepareError::World { .. }), "{error}");
    assert!(matches!(refused(&nested(0x42, 15)[..40]), PrepareError::Malformed { .. }));

    // Types beside each other are many, and their names and numbers are no types.
    let types = "(type (instance (type (enum \"A\" \"B\")) (type (instance (type (list u8)))))) (type (option u8))";
    let results = "(type (result u8 (error string)))";
    let run = "(core module $m (func (export \"run\") (result i32) (i32.const 0)) (memory (export \"memory\") 1))
        (core instance $m (instantiate $m))
        (func (export \"run\") (result (result (error string)))
            (canon lift (core func $m \"run\") (memory (core memory $m \"memory\"))))";
    let text = format!("(component {} {} {run})", types.repeat(200), results.repeat(200));
    assert!(ENGINE.prepare(&wat::parse_str(text).unwrap()).is_ok());
}

/// What `cargo xtask guests` built, if it did.
fn built(name: &str) -> Option<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/guests/components").join(name);
    let wasm = fs::read(&path).ok();
    if wasm.is_none() {
        eprintln!("SKIPPED: no {}: `cargo xtask guests` builds it where its tools are", path.display());
    }
    wasm
}

/// What it makes of a half that failed elsewhere: a failure of its own.
fn fails_with_it(got: RunOutcome, log: &str) {
    assert_eq!((got.result, got.stdout.len()), (Err(RunFailure::Exit(1)), 0), "{log}");
    assert!(log.contains("a half was not counted: failed: "), "{log}");
}

/// It counts that half itself.
fn makes_up_for_it(got: RunOutcome, log: &str) {
    assert_eq!((got.result, got.stdout), (Ok(()), b"words 3000\n".to_vec()), "{log}");
    assert_eq!(log.matches("counted here: delegate.failed: execution of the call; ").count(), 2, "{log}");
}

/// Counts words alone and with others, says what failed, and is the same each time.
fn splits(name: &str, failed: fn(RunOutcome, &str)) {
    let Some(wasm) = built(name) else { return };
    let started = Instant::now();
    let component = ENGINE.prepare(&wasm).unwrap();
    eprintln!("{name}: {} bytes, compiled in {:?} to {}", wasm.len(), started.elapsed(), component.code_size());
    let run = |text: &[u8], args: &[String], fake: Option<Arc<Fake>>| {
        let with = RunInput { memory: Bytes::mib(64), args, fuel: Fuel(20_000_000_000), ..input(fake) };
        ENGINE.run(&component, RunInput { inputs: vec![text], ..with }, &Cancel::new())
    };
    let module = ["module=".to_owned() + &"ab".repeat(32)];
    let count = |text: &[u8]| text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count();

    let small = run(b" a b\nc \t", &module, None);
    eprintln!("{name}: {:?}", small.usage);
    assert_eq!(
        (small.result, small.stdout),
        (Ok(()), b"words 3\n".to_vec()),
        "{}",
        String::from_utf8_lossy(&small.stderr)
    );
    assert_eq!(run(b"", &[], None).stdout, b"words 0\n");

    let long = b"one two three ".repeat(1000);
    let alone = run(&long, &module, None);
    assert_eq!((alone.result, alone.stdout), (Ok(()), b"words 3000\n".to_vec()));
    let log = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(log.contains("counted here: ") && log.contains(" may be handed on"), "{log}");

    let counts = || Fake::new(move |half| Some(Ok(format!("words {}\n", count(half)).into_bytes())));
    let fake = counts();
    let shared = run(&long, &module, Some(fake.clone()));
    assert_eq!((&shared.result, shared.stdout.as_slice()), (&Ok(()), &b"words 3000\n"[..]));
    // By what the others said, not by itself.
    assert_eq!(String::from_utf8_lossy(&shared.stderr), "");
    let asked = fake.asked();
    assert_eq!(asked.iter().map(|asked| asked.module).collect::<Vec<_>>(), [Digest::from_bytes([0xab; 32]); 2]);
    assert_eq!(asked.iter().flat_map(|asked| asked.input.clone()).collect::<Vec<_>>(), long);
    assert_eq!((&asked[0].options.args[..], asked[0].output), (&module[..], Bytes(64)));
    let again = run(&long, &module, Some(counts()));
    assert_eq!((again.usage.fuel, again.calls, again.stderr), (shared.usage.fuel, shared.calls, shared.stderr));

    let why = || AskError::Failed(Rejection::new("delegate.failed", "execution of the call").got("exit-3"));
    let got = run(&long, &module, Some(Fake::new(move |_| Some(Err(why())))));
    let log = String::from_utf8_lossy(&got.stderr).into_owned();
    assert!(log.contains("exit-3"), "{log}");
    failed(got, &log);
}

#[test]
fn the_guest_in_rust_splits() {
    splits("rust.wasm", makes_up_for_it);
}

#[test]
fn the_guest_in_python_splits() {
    splits("python.wasm", fails_with_it);
}

#[test]
fn the_guest_in_javascript_splits() {
    splits("javascript.wasm", fails_with_it);
}

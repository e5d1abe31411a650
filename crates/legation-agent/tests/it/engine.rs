//! The engine: what a module can do, what it cannot, and that nothing it does harms the host.

use std::{
    fmt::Write as _,
    fs,
    sync::{Arc, LazyLock},
    thread,
    time::{Duration, Instant},
};

use legation_agent::engine::{
    Cancel, Engine, EngineConfig, EngineError, INSTANCES_MAX, PrepareError, Prepared, RunFailure, RunInput, RunOutcome,
    WASM_STACK,
};
use legation_core::{Bytes, Digest, Fuel, Rejection, UnixTime};
use proptest::prelude::*;

const FAULT: i32 = 21;
const INVAL: i32 = 28;
const PAGE: u64 = 65536;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| engine(|_| {}));

fn engine(change: impl FnOnce(&mut EngineConfig)) -> Engine {
    let mut config = EngineConfig { instances_max: 16, memory_max: Bytes::mib(64), ..EngineConfig::default() };
    change(&mut config);
    Engine::new(config).unwrap()
}

fn prepare(wat: &str) -> Result<Arc<Prepared>, PrepareError> {
    ENGINE.prepare(&wat::parse_str(wat).unwrap())
}

fn input<'a>() -> RunInput<'a> {
    RunInput {
        args: &[],
        inputs: Vec::new(),
        fuel: Fuel(1_000_000_000),
        memory: Bytes::mib(16),
        deadline: Duration::from_secs(60),
        output_max: Bytes::mib(1),
        log_max: Bytes::kib(4),
        seed: [1; 32],
        now_fixed: UnixTime(1_795_262_400),
        delegations: None,
    }
}

fn run(wat: &str, input: RunInput<'_>) -> RunOutcome {
    ENGINE.run(&prepare(wat).unwrap(), input, &Cancel::new())
}

/// A command that may call the functions named, with `body` in `_start` and one page of memory.
fn command(imports: &[&str], body: &str) -> String {
    let mut out = String::from("(module\n");
    for name in imports {
        let (_, ty) = PREVIEW1.iter().find(|(known, _)| known == name).unwrap();
        let params: String = ty.bytes().map(|b| if b == b'I' { " i64" } else { " i32" }).collect();
        let result = if *name == "proc_exit" { "" } else { "(result i32)" };
        writeln!(out, "(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param{params}) {result}))")
            .unwrap();
    }
    writeln!(out, "(memory (export \"memory\") 1)\n(func (export \"_start\") {body}))").unwrap();
    out
}

/// All of preview 1: name and parameters (`i` 32 bits, `I` 64), from the WASI documentation rather than from the engine.
const PREVIEW1: &[(&str, &str)] = &[
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "iIi"),
    ("fd_advise", "iIIi"),
    ("fd_allocate", "iII"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "iII"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "iI"),
    ("fd_filestat_set_times", "iIIi"),
    ("fd_pread", "iiiIi"),
    ("fd_prestat_get", "ii"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_pwrite", "iiiIi"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiiIi"),
    ("fd_renumber", "ii"),
    ("fd_seek", "iIii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiiIIi"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiiIIii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("proc_exit", "i"),
    ("proc_raise", "i"),
    ("sched_yield", ""),
    ("random_get", "ii"),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

/// Copies standard input to standard output, 8 KiB at a time.
fn echo() -> String {
    command(
        &["fd_read", "fd_write"],
        "(loop $more
            (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 8192))
            (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (i32.store (i32.const 4) (i32.load (i32.const 8)))
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
            (br_if $more (i32.load (i32.const 8))))",
    )
}

/// Calls `name` with `args` and exits with what it answers, so that an errno becomes an exit code.
fn errno_of(name: &str, args: &[u64], prelude: &str) -> Result<(), RunFailure> {
    let (_, ty) = PREVIEW1.iter().find(|(known, _)| *known == name).unwrap();
    let args: String = ty
        .bytes()
        .zip(args)
        .map(|(ty, v)| if ty == b'I' { format!("(i64.const {v})") } else { format!("(i32.const {v})") })
        .collect();
    run(&command(&[name, "proc_exit"], &format!("{prelude} (call $proc_exit (call ${name} {args}))")), input()).result
}

/// Writes `count` bytes at 2048 to `fd`.
fn write(fd: u32, count: u32) -> String {
    format!(
        "(i32.store (i32.const 0) (i32.const 2048)) (i32.store (i32.const 4) (i32.const {count}))
         (drop (call $fd_write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 8)))"
    )
}

#[test]
fn echo_returns_all_inputs_in_order() {
    let big = vec![7_u8; 100_000];
    let module = prepare(&echo()).unwrap();
    for inputs in [vec![], vec![&b""[..]], vec![b"one", b"", b"two"], vec![&big, b"tail"]] {
        let expect = inputs.concat();
        let got = ENGINE.run(&module, RunInput { inputs, ..input() }, &Cancel::new());
        assert_eq!(got.result, Ok(()));
        assert_eq!(got.stdout, expect);
        assert_eq!(got.usage.memory_peak, Bytes(PAGE));
        assert!(got.usage.fuel.0 > 2 * expect.len() as u64 && got.usage.host_calls >= 2);
    }
}

#[test]
fn arguments_and_environment_arrive() {
    let get = |what: &str| {
        command(
            &[&format!("{what}_get"), &format!("{what}_sizes_get"), "fd_write"],
            &format!(
                "(drop (call ${what}_sizes_get (i32.const 8) (i32.const 12)))
                 (drop (call ${what}_get (i32.const 1024) (i32.const 2048)))
                 (i32.store (i32.const 0) (i32.load (i32.const 1024))) (i32.store (i32.const 4) (i32.load (i32.const 12)))
                 (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))"
            ),
        )
    };
    let args = ["one".to_owned(), String::new(), "drei ü".to_owned()];
    let got = run(&get("args"), RunInput { args: &args, ..input() });
    assert_eq!(String::from_utf8(got.stdout).unwrap(), "task\0one\0\0drei ü\0");
    let got = run(&get("environ"), RunInput { inputs: vec![b"abc", b"", b"defgh"], ..input() });
    assert_eq!(String::from_utf8(got.stdout).unwrap(), "LEGATION_INPUTS=3,0,5\0");
}

#[test]
fn a_run_that_breaks_a_rule_is_refused_before_it_starts() {
    let check = |input: RunInput<'_>, check: &str| {
        let got = run(&command(&[], ""), input);
        assert!(matches!(&got.result, Err(RunFailure::Refused(r)) if r.check == check), "{:?}", got.result);
        assert_eq!(got.usage.fuel, Fuel(0));
    };
    check(RunInput { args: &["a\0b".into()], ..input() }, "run.args");
    check(RunInput { args: &vec!["a".into(); 1025], ..input() }, "run.args");
    check(RunInput { args: &["a".repeat(200_000)], ..input() }, "run.args");
    check(RunInput { inputs: vec![b""; 1025], ..input() }, "run.inputs");
    check(RunInput { memory: Bytes::gib(1), ..input() }, "run.memory");

    let other = engine(|_| {}).prepare(&wat::parse_str(command(&[], "")).unwrap()).unwrap();
    let got = ENGINE.run(&other, input(), &Cancel::new()).result;
    assert!(matches!(&got, Err(RunFailure::Refused(r)) if r.check == "run.module"), "{got:?}");
}

#[test]
fn exit_codes_and_traps_are_told_apart() {
    for (imports, body, expect) in [
        (&[][..], "", Ok(())),
        (&["proc_exit"], "(call $proc_exit (i32.const 0)) unreachable", Ok(())),
        (&["proc_exit"], "(call $proc_exit (i32.const 7))", Err(RunFailure::Exit(7))),
        (&["proc_exit"], "(call $proc_exit (i32.const -1))", Err(RunFailure::Exit(-1))),
    ] {
        assert_eq!(run(&command(imports, body), input()).result, expect, "{body}");
    }
    for (body, words) in [
        ("unreachable", "unreachable"),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", "divide by zero"),
        ("(drop (i32.load (i32.const 65536)))", "out of bounds"),
        ("(drop (i32.load offset=0xfffffff0 (i32.const -1)))", "out of bounds"),
    ] {
        let got = run(&command(&[], body), input()).result;
        let Err(RunFailure::Trap(text)) = &got else { panic!("{body}: {got:?}") };
        assert!(text.contains(words) && text.contains("in function 0"), "{text}");
        assert!(got.is_err_and(|e| !e.is_resource_trap()));
    }
    let named = run(
        "(module (func $deep\\n unreachable) (func (export \"_start\") (call $deep)))".replace("\\n", "").as_str(),
        input(),
    );
    assert!(matches!(&named.result, Err(RunFailure::Trap(text)) if text.contains("`deep`")), "{:?}", named.result);
}

#[test]
fn an_endless_loop_ends_by_fuel_deadline_or_cancel() {
    let module = prepare(&command(&[], "(loop (br 0))")).unwrap();
    let endless = RunInput { fuel: Fuel(u64::MAX), ..input() };

    let got = ENGINE.run(&module, RunInput { fuel: Fuel(10_000_000), ..input() }, &Cancel::new());
    assert_eq!(got.result, Err(RunFailure::OutOfFuel));
    assert_eq!(got.usage.fuel, Fuel(10_000_000));

    let got = ENGINE.run(&module, RunInput { deadline: Duration::from_millis(50), ..endless.clone() }, &Cancel::new());
    assert_eq!(got.result, Err(RunFailure::Deadline));
    assert!(got.usage.wall >= Duration::from_millis(50) && got.usage.wall < Duration::from_secs(5), "{:?}", got.usage);

    let cancel = Cancel::new();
    let canceller = cancel.clone();
    let got = thread::scope(|s| {
        s.spawn(move || {
            thread::sleep(Duration::from_millis(50));
            canceller.cancel();
        });
        ENGINE.run(&module, endless.clone(), &cancel)
    });
    assert_eq!(got.result, Err(RunFailure::Cancelled));
    assert!(got.usage.wall < Duration::from_secs(5));

    // Cancelled before, and deadlines at both ends of the scale.
    assert_eq!(ENGINE.run(&module, endless.clone(), &cancel).result, Err(RunFailure::Cancelled));
    let got = ENGINE.run(&module, RunInput { deadline: Duration::ZERO, ..endless }, &Cancel::new());
    assert_eq!(got.result, Err(RunFailure::Deadline));
    let got = run(&command(&[], ""), RunInput { deadline: Duration::MAX, fuel: Fuel(u64::MAX), ..input() });
    assert_eq!(got.result, Ok(()));
}

#[test]
fn a_loop_in_the_start_section_ends_too() {
    let wat = "(module (func $s (loop (br 0))) (start $s) (func (export \"_start\")))";
    assert_eq!(run(wat, RunInput { fuel: Fuel(1_000_000), ..input() }).result, Err(RunFailure::OutOfFuel));
}

#[test]
fn work_inside_host_calls_and_bulk_operations_costs_fuel() {
    for (imports, body) in [
        (&["sched_yield"][..], "(loop (drop (call $sched_yield)) (br 0))"),
        (&["random_get"], "(loop (drop (call $random_get (i32.const 0) (i32.const 65536))) (br 0))"),
        (&[], "(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) (br 0))"),
    ] {
        let started = Instant::now();
        let got = run(&command(imports, body), RunInput { fuel: Fuel(20_000_000), ..input() });
        assert_eq!(got.result, Err(RunFailure::OutOfFuel), "{body}");
        assert!(got.usage.host_calls <= 200_000);
        assert!(started.elapsed() < Duration::from_secs(10), "{body}: {:?}", got.usage);
    }
}

#[test]
fn memory_tables_and_stack_have_ceilings() {
    let bomb = command(&[], "(loop (drop (memory.grow (i32.const 16))) (br 0))");
    let got = run(&bomb, input());
    let limit = Bytes::mib(16);
    assert_eq!(got.result, Err(RunFailure::OutOfMemory { limit, asked: Bytes(17 * 16 * PAGE - 15 * PAGE) }));
    assert_eq!(got.usage.memory_peak, Bytes(limit.0 - 15 * PAGE));
    assert!(got.result.is_err_and(|e| e.is_resource_trap()));

    for grow in ["65535", "65536", "-1"] {
        let got = run(&command(&[], &format!("(drop (memory.grow (i32.const {grow})))")), input()).result;
        assert!(matches!(got, Err(RunFailure::OutOfMemory { .. })), "{grow}: {got:?}");
    }
    // The module's own maximum answers -1 and goes on.
    let own = "(module (memory 1 2) (func (export \"_start\")
        (if (i32.ne (memory.grow (i32.const 2)) (i32.const -1)) (then unreachable))))";
    assert_eq!(run(own, input()).result, Ok(()));
    // Too large from the beginning: for this run, then for this engine.
    let got = run("(module (memory 512) (func (export \"_start\")))", input()).result;
    assert_eq!(got, Err(RunFailure::OutOfMemory { limit, asked: Bytes::mib(32) }));
    let got = prepare("(module (memory 2048) (func (export \"_start\")))");
    assert!(matches!(got, Err(PrepareError::DoesNotFit { .. })), "{got:?}");

    let got = run(
        "(module (table 1 funcref) (func (export \"_start\")
        (loop (drop (table.grow (ref.null func) (i32.const 1000))) (br 0))))",
        input(),
    )
    .result;
    assert_eq!(got, Err(RunFailure::TableFull { limit: 65536, asked: 66001 }));
    let got = run(
        "(module (table 1 funcref) (func (export \"_start\")
        (drop (table.grow (ref.null func) (i32.const -1)))))",
        RunInput { fuel: Fuel(u64::MAX), ..input() },
    )
    .result;
    assert!(matches!(got, Err(RunFailure::TableFull { .. })), "{got:?}");
    for wat in [
        "(module (table 100000 funcref) (func (export \"_start\")))",
        "(module (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref) (func (export \"_start\")))",
    ] {
        assert!(matches!(prepare(wat), Err(PrepareError::DoesNotFit { .. })), "{:?}", prepare(wat));
    }

    // On a thread that has just what the documentation asks for.
    let deep = "(module (func $f (call $f)) (func (export \"_start\") (call $f)))";
    let small = thread::Builder::new().stack_size(WASM_STACK + (512 << 10));
    let got = small.spawn(|| run(deep, input()).result).unwrap().join().unwrap();
    assert_eq!(got, Err(RunFailure::StackOverflow));
}

#[test]
fn output_has_a_ceiling_and_the_log_is_cut() {
    let flood = |fd| command(&["fd_write"], &format!("(loop {} (br 0))", write(fd, 60_000)));
    let got = run(&flood(1), input());
    assert_eq!(got.result, Err(RunFailure::OutputTooLarge { limit: Bytes::mib(1) }));
    assert_eq!(got.stdout.len(), 17 * 60_000);

    let got = run(&flood(2), RunInput { fuel: Fuel(10_000_000), ..input() });
    assert_eq!(got.result, Err(RunFailure::OutOfFuel));
    let marker = format!("\n[log cut here: {} more bytes]\n", got.usage.log_dropped.0);
    assert!(got.stderr.ends_with(marker.as_bytes()) && got.stderr.len() == 4096 + marker.len());
    assert!(got.usage.log_dropped.0 > 9_000_000);

    // Exactly what is allowed passes.
    for (count, expect) in [(100, Ok(())), (101, Err(RunFailure::OutputTooLarge { limit: Bytes(100) }))] {
        let got = run(&command(&["fd_write"], &write(1, count)), RunInput { output_max: Bytes(100), ..input() });
        assert_eq!(got.result, expect);
    }
    let got = run(&command(&["fd_write"], &write(2, 4096)), input());
    assert_eq!((got.stderr.len(), got.usage.log_dropped), (4096, Bytes(0)));
}

/// For each host call: arguments that work, and which of them are pointers to how many bytes.
#[test]
fn every_pointer_of_every_host_call_is_checked() {
    type Case = (&'static str, &'static [u64], &'static [(usize, u64)]);
    let cases: &[Case] = &[
        ("args_get", &[1024, 2048], &[(0, 4), (1, 5)]),
        ("args_sizes_get", &[1024, 2048], &[(0, 4), (1, 4)]),
        ("environ_get", &[1024, 2048], &[(0, 4), (1, 17)]),
        ("environ_sizes_get", &[1024, 2048], &[(0, 4), (1, 4)]),
        ("clock_res_get", &[0, 1024], &[(1, 8)]),
        ("clock_time_get", &[1, 0, 1024], &[(2, 8)]),
        ("fd_fdstat_get", &[0, 1024], &[(1, 24)]),
        ("fd_filestat_get", &[0, 1024], &[(1, 64)]),
        ("fd_read", &[0, 1024, 1, 2048], &[(1, 8), (3, 4)]),
        ("fd_write", &[1, 1024, 1, 2048], &[(1, 8), (3, 4)]),
        ("poll_oneoff", &[1024, 4096, 2, 2048], &[(0, 96), (1, 64), (3, 4)]),
        ("random_get", &[1024, 16], &[(0, 16)]),
    ];
    for (name, good, pointers) in cases {
        assert_eq!(errno_of(name, good, ""), Ok(()), "{name}{good:?}");
        for (at, size) in *pointers {
            let with = |pointer: u64| {
                let mut args = good.to_vec();
                args[*at] = pointer;
                errno_of(name, &args, "")
            };
            assert_eq!(with(PAGE - size), Ok(()), "{name}: argument {at} at the very end");
            for hostile in [PAGE - size + 1, PAGE - 1, PAGE, PAGE + 1, 1 << 31, (1 << 32) - size, (1 << 32) - 1] {
                assert_eq!(with(hostile), Err(RunFailure::Exit(FAULT)), "{name}: argument {at} = {hostile}");
            }
        }
    }
}

#[test]
fn hostile_lengths_and_vectors_are_refused() {
    let vector = |base: u64, len: u64| {
        format!("(i32.store (i32.const 1024) (i32.const {base})) (i32.store (i32.const 1028) (i32.const {len}))")
    };
    let max = u64::from(u32::MAX);
    for (name, fd) in [("fd_read", 0), ("fd_write", 1), ("fd_write", 2)] {
        for (base, len) in
            [(PAGE, 1), (PAGE - 1, 2), (0, PAGE + 1), (0, max), (max, 1), (max, max), (1, max), (1 << 31, 1 << 31)]
        {
            let got = errno_of(name, &[fd, 1024, 1, 2048], &vector(base, len));
            assert_eq!(got, Err(RunFailure::Exit(FAULT)), "{name}({fd}): {base}+{len}");
        }
        for (count, errno) in [(1025, INVAL), (max, INVAL), (1 << 29, INVAL)] {
            let got = errno_of(name, &[fd, 1024, count, 2048], "");
            assert_eq!(got, Err(RunFailure::Exit(errno)), "{name}({fd}): {count} vectors");
        }
        // The vector's own list runs over the end.
        assert_eq!(errno_of(name, &[fd, PAGE - 1024, 1024, 2048], ""), Err(RunFailure::Exit(FAULT)));
        assert_eq!(errno_of(name, &[fd, PAGE, 0, 2048], ""), Ok(()));
        // Nothing is read or written through a pointer that is not there.
        assert_eq!(errno_of(name, &[3, 1024, 1, 2048], ""), Err(RunFailure::Exit(8)));
        assert_eq!(errno_of(name, &[max, 1024, 1, 2048], ""), Err(RunFailure::Exit(8)));
    }
    for (len, expect) in [(PAGE, Ok(())), (PAGE + 1, Err(RunFailure::Exit(FAULT))), (max, Err(RunFailure::OutOfFuel))] {
        assert_eq!(errno_of("random_get", &[0, len], ""), expect, "random_get {len}");
    }
    for (count, errno) in [(0, INVAL), (1025, INVAL), (max, INVAL), (1024, FAULT)] {
        assert_eq!(
            errno_of("poll_oneoff", &[40_000, 0, count, 2048], ""),
            Err(RunFailure::Exit(errno)),
            "poll {count}"
        );
    }
    assert_eq!(errno_of("clock_time_get", &[4, 0, 1024], ""), Err(RunFailure::Exit(INVAL)));
}

#[test]
fn a_thousand_overlapping_buffers_cost_what_they_move() {
    // 1024 vectors of 60 KiB over the same bytes: 60 MiB in one call.
    let fill = "(local $i i32) (loop $next
        (i32.store (i32.mul (local.get $i) (i32.const 8)) (i32.const 0))
        (i32.store offset=4 (i32.mul (local.get $i) (i32.const 8)) (i32.const 61440))
        (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1024))))";
    let body = |fd| {
        format!("{fill} (drop (call $fd_write (i32.const {fd}) (i32.const 0) (i32.const 1024) (i32.const 65000)))")
    };
    let got = run(&command(&["fd_write"], &body(1)), input());
    assert_eq!(got.result, Err(RunFailure::OutputTooLarge { limit: Bytes::mib(1) }));
    let got = run(&command(&["fd_write"], &body(2)), input());
    assert_eq!((got.result, got.usage.log_dropped), (Ok(()), Bytes(1024 * 61440 - 4096)));
    assert!(got.usage.fuel.0 > 1024 * 61440);
}

#[test]
fn descriptors_behave_like_pipes_and_nothing_else_opens() {
    for (name, args, errno) in [
        ("fd_seek", &[0, 0, 0, 1024][..], 70),
        ("fd_tell", &[1, 1024], 70),
        ("fd_seek", &[3, 0, 0, 1024], 8),
        ("fd_read", &[1, 1024, 1, 2048], 8),
        ("fd_write", &[0, 1024, 1, 2048], 8),
        ("fd_close", &[3], 8),
        ("fd_prestat_get", &[3, 1024], 8),
        ("fd_prestat_dir_name", &[3, 1024, 8], 8),
        ("fd_fdstat_get", &[3, 1024], 8),
        ("path_open", &[3, 0, 0, 4, 0, 0, 0, 0, 1024], 76),
        ("path_unlink_file", &[3, 0, 4], 76),
        ("sock_accept", &[0, 0, 1024], 8),
        ("proc_raise", &[6], 52),
    ] {
        assert_eq!(errno_of(name, args, ""), Err(RunFailure::Exit(errno)), "{name}{args:?}");
    }
    assert_eq!(errno_of("fd_fdstat_set_flags", &[0, 4], ""), Ok(()));
    let closed = command(
        &["fd_close", "proc_exit"],
        "(drop (call $fd_close (i32.const 1))) (call $proc_exit (call $fd_close (i32.const 1)))",
    );
    assert_eq!(run(&closed, input()).result, Err(RunFailure::Exit(8)));
}

#[test]
fn clocks_stand_still_and_sleep_takes_no_time() {
    // clock 0 at 1024, a sleep of ten minutes, clock 1 at 1032.
    let body = "(drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 1024)))
         (i64.store (i32.const 4096) (i64.const 0x1122334455667788)) (i64.store offset=24 (i32.const 4096) (i64.const 600000000000))
         (drop (call $poll_oneoff (i32.const 4096) (i32.const 1040) (i32.const 1) (i32.const 8)))
         (drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 1032)))
         (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 27))
         (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))";
    let got = run(&command(&["clock_time_get", "poll_oneoff", "fd_write"], body), input());
    let now = (1_795_262_400_u64 * 1_000_000_000).to_le_bytes();
    let event = [&0x1122334455667788_u64.to_le_bytes()[..], &[0, 0, 0]].concat();
    assert_eq!(got.stdout, [&now[..], &now, &event].concat());
    assert!(got.usage.wall < Duration::from_secs(10));
}

#[test]
fn what_is_not_a_command_is_refused_with_a_reason() {
    let check = |wasm: &[u8], check: &str, words: &str| {
        let error = ENGINE.prepare(wasm).unwrap_err();
        let rejection = Rejection::from(&error);
        assert_eq!(rejection.check, check, "{error}");
        assert!(rejection.to_string().contains(words), "{rejection} lacks {words:?}");
        assert!(!rejection.fix.is_empty() && rejection.to_string().len() < 1500);
    };
    let wat = |text: &str| wat::parse_str(text).unwrap();
    let good = wat(&echo());
    check(b"", "module.kind", "empty");
    check(b"(module)", "module.kind", "wat2wasm");
    check(b"\x7fELF\x02\x01\x01", "module.kind", "native");
    check(b"\0asm\x02\0\0\0", "module.kind", "version");
    check(&[0x55; 4096], "module.kind", "something else");
    check(&wat("(component)"), "module.world", "`run`");
    check(b"\0asm\x0c\0\x01\0", "module.kind", "component of another version");
    check(b"\0asm\x01\0\0\0\xff\xff\xff\xff\xff", "module.valid", "malformed");
    for cut in (8..good.len()).step_by(7).skip(1) {
        let refused = ENGINE.prepare(&good[..cut]);
        assert!(refused.is_err(), "cut at {cut}");
    }
    check(&vec![0; 33 << 20], "module.size", "32 MiB");

    let import = |module: &str, name: &str| {
        wat(&format!("(module (import \"{module}\" \"{name}\" (func)) (func (export \"_start\")))"))
    };
    check(&import("wasi_snapshot_preview1", "path_teleport"), "module.import", "`path_teleport`");
    check(&import("env", "launch"), "module.import", "`env` `launch`");
    check(&import("wasi_unstable", "fd_write"), "module.import", "predecessor");
    check(&import("wasi:cli/run@0.2.0", "run"), "module.import", "preview 2");
    check(&import("env", "x\\1b[31m"), "module.import", "\\u{1b}");
    check(
        &wat("(module (import \"env\" \"memory\" (memory 1)) (func (export \"_start\")))"),
        "module.import",
        "`memory`",
    );
    check(&import("wasi_snapshot_preview1", "fd_write"), "module.import_type", "param i32 i32 i32 i32");
    let global = "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (global i32)) (func (export \"_start\")))";
    check(&wat(global), "module.import_type", "a global");

    check(&wat("(module)"), "module.start", "_start");
    check(&wat("(module (func (export \"_initialize\")))"), "module.start", "reactor");
    check(&wat("(module (memory (export \"_start\") 1))"), "module.start_type", "a memory");
    check(&wat("(module (func (export \"_start\") (param i32)))"), "module.start_type", "param i32");
    check(&wat(&echo().replace("(export \"memory\")", "")), "module.memory", "memory");
}

#[test]
fn features_that_would_make_machines_differ_are_off() {
    for wat in [
        "(module (memory 1 1 shared) (func (export \"_start\")))",
        "(module (memory i64 1) (func (export \"_start\")))",
        "(module (memory 1) (memory 1) (func (export \"_start\")))",
        "(module (func (export \"_start\") (drop (i8x16.relaxed_swizzle (v128.const i64x2 0 0) (v128.const i64x2 0 0)))))",
        "(module (tag $e) (func (export \"_start\") (throw $e)))",
        "(module (type $s (struct)) (func (export \"_start\") (drop (struct.new $s))))",
        "(module (memory 1 (pagesize 1)) (func (export \"_start\")))",
    ] {
        let got = prepare(wat);
        assert!(matches!(got, Err(PrepareError::Malformed { .. })), "{wat}: {got:?}");
    }
    // The sign and payload of a NaN are fixed.
    let nan = command(
        &["fd_write"],
        "(local $z f64)
         (f64.store (i32.const 2048) (f64.div (local.get $z) (local.get $z)))
         (f64.store (i32.const 2056) (f64.sqrt (f64.const -1)))
         (i32.store (i32.const 0) (i32.const 2048)) (i32.store (i32.const 4) (i32.const 16))
         (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))",
    );
    assert_eq!(run(&nan, input()).stdout, [0x7ff8_0000_0000_0000_u64.to_le_bytes(); 2].concat());
}

#[test]
fn all_of_preview_1_links() {
    let names: Vec<&str> = PREVIEW1.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), 46);
    assert_eq!(run(&command(&names, ""), input()).result, Ok(()));
}

/// 4 KiB of randomness in pieces, some of it as work, all of it as output.
fn dice() -> String {
    command(
        &["random_get", "fd_write", "sched_yield"],
        "(local $i i32) (local $n i32)
         (loop $next
            (drop (call $random_get (i32.add (i32.const 4096) (local.get $i)) (i32.const 17)))
            (local.set $n (i32.and (i32.load8_u (i32.add (i32.const 4096) (local.get $i))) (i32.const 63)))
            (loop $spin (drop (call $sched_yield))
                (br_if $spin (i32.gt_s (local.tee $n (i32.sub (local.get $n) (i32.const 1))) (i32.const 0))))
            (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 17))) (i32.const 4096))))
         (i32.store (i32.const 0) (i32.const 4096)) (i32.store (i32.const 4) (i32.const 4096))
         (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))",
    )
}

/// All that must be equal between runs.
fn without_wall(mut outcome: RunOutcome) -> RunOutcome {
    outcome.usage.wall = Duration::ZERO;
    outcome
}

#[test]
fn same_module_input_and_seed_give_the_same_run() {
    let module = prepare(&dice()).unwrap();
    let run = |seed| without_wall(ENGINE.run(&module, RunInput { seed, ..input() }, &Cancel::new()));
    let first = run([1; 32]);
    assert_eq!((first.result.clone(), first.stdout.len()), (Ok(()), 4096));
    for _ in 0..20 {
        assert_eq!(run([1; 32]), first);
    }
    let fresh = engine(|_| {});
    let again = fresh.prepare(&wat::parse_str(dice()).unwrap()).unwrap();
    assert_eq!(without_wall(fresh.run(&again, input(), &Cancel::new())), first);
    let other = run([2; 32]);
    assert_ne!(other.stdout, first.stdout);
    assert_ne!(other.usage.fuel, first.usage.fuel);
    // Failures as well.
    let short = |fuel| without_wall(ENGINE.run(&module, RunInput { fuel: Fuel(fuel), ..input() }, &Cancel::new()));
    let half = first.usage.fuel.0 / 2;
    assert_eq!(short(half).result, Err(RunFailure::OutOfFuel));
    assert_eq!(short(half), short(half));
    assert_eq!(short(first.usage.fuel.0 + 1000).result, Ok(()));
}

#[test]
fn nothing_of_a_run_is_left_for_the_next() {
    // Exits 1 if any byte of its memory is not zero, then dirties all of it.
    let body = "(local $i i32) (drop (memory.grow (i32.const 15)))
        (loop $next
            (if (i64.ne (i64.load (local.get $i)) (i64.const 0)) (then (call $proc_exit (i32.const 1))))
            (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8))) (i32.const 1048576))))
        (memory.fill (i32.const 0) (i32.const 255) (i32.const 1048576))";
    let one = engine(|config| config.instances_max = 1);
    let module = one.prepare(&wat::parse_str(command(&["proc_exit"], body)).unwrap()).unwrap();
    let other = one.prepare(&wat::parse_str(command(&["proc_exit", "sched_yield"], body)).unwrap()).unwrap();
    for turn in 0..20 {
        let module = if turn % 3 == 0 { &other } else { &module };
        assert_eq!(one.run(module, input(), &Cancel::new()).result, Ok(()), "turn {turn}");
    }
}

#[test]
fn one_run_too_many_is_told_so() {
    let one = engine(|config| config.instances_max = 1);
    let spin = one.prepare(&wat::parse_str(command(&[], "(loop (br 0))")).unwrap()).unwrap();
    let noop = one.prepare(&wat::parse_str(command(&[], "")).unwrap()).unwrap();
    let cancel = Cancel::new();
    thread::scope(|s| {
        // The two compete for the one slot until the long run has it.
        let long = s.spawn(|| {
            loop {
                let got = one.run(&spin, RunInput { fuel: Fuel(u64::MAX), ..input() }, &cancel).result;
                if got != Err(RunFailure::Busy { instances_max: 1 }) {
                    return got;
                }
            }
        });
        let started = Instant::now();
        while one.run(&noop, input(), &Cancel::new()).result != Err(RunFailure::Busy { instances_max: 1 }) {
            assert!(started.elapsed() < Duration::from_secs(30), "never busy");
        }
        cancel.cancel();
        assert_eq!(long.join().unwrap(), Err(RunFailure::Cancelled));
    });
    assert_eq!(one.run(&noop, input(), &Cancel::new()).result, Ok(()));
}

#[test]
fn eight_threads_run_side_by_side() {
    let engine = engine(|config| config.instances_max = 8);
    let modules: Vec<_> =
        [dice(), echo()].iter().map(|text| engine.prepare(&wat::parse_str(text).unwrap()).unwrap()).collect();
    let run = |turn: usize| {
        let seed = [(turn % 5) as u8; 32];
        let bytes = vec![turn as u8; turn * 100];
        without_wall(engine.run(&modules[turn % 2], RunInput { seed, inputs: vec![&bytes], ..input() }, &Cancel::new()))
    };
    let alone: Vec<_> = (0..40).map(run).collect();
    thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| (0..40).for_each(|turn| assert_eq!(run(turn), alone[turn], "turn {turn}")));
        }
    });
}

#[test]
fn modules_are_compiled_once_and_the_cache_is_bounded() {
    let wasm = |n: u32| wat::parse_str(command(&[], &format!("(drop (i32.const {n}))"))).unwrap();
    let few = engine(|config| config.cache_modules = 2);
    let same: Vec<_> = thread::scope(|s| {
        let threads: Vec<_> = (0..4).map(|_| s.spawn(|| few.prepare(&wasm(0)).unwrap())).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(same.iter().all(|module| Arc::ptr_eq(module, &same[0])));
    assert_eq!(same[0].digest(), Digest::of(&wasm(0)));
    let kept = |n| few.clone().cached(&Digest::of(&wasm(n))).is_some();
    few.prepare(&wasm(1)).unwrap();
    assert!(kept(0) && kept(1));
    // 0 is now the least recently used but for this touch.
    few.prepare(&wasm(0)).unwrap();
    few.prepare(&wasm(2)).unwrap();
    assert!(kept(0) && !kept(1) && kept(2));
    // What was dropped from the cache still runs where it is held.
    few.prepare(&wasm(3)).unwrap();
    few.prepare(&wasm(4)).unwrap();
    assert!(!kept(0));
    assert_eq!(few.run(&same[0], input(), &Cancel::new()).result, Ok(()));

    let small = engine(|config| config.cache_bytes = Bytes::mib(1));
    let count = (1 << 20) / same[0].code_size().0 as u32 + 1;
    (0..count).for_each(|n| drop(small.prepare(&wasm(n)).unwrap()));
    assert!(small.cached(&Digest::of(&wasm(0))).is_none());
    assert!(small.cached(&Digest::of(&wasm(count - 1))).is_some());
}

#[test]
fn sizes_out_of_range_are_refused() {
    for change in [
        (|c| c.instances_max = 0) as fn(&mut EngineConfig),
        |c| c.instances_max = 1025,
        |c| c.memory_max = Bytes(65535),
        |c| c.memory_max = Bytes((1 << 32) + 1),
        |c| c.module_max = Bytes(0),
        |c| c.cache_modules = 0,
        |c| c.cache_bytes = Bytes(0),
    ] {
        let mut config = EngineConfig::default();
        change(&mut config);
        assert!(matches!(Engine::new(config), Err(EngineError::Config(_))));
    }
    let largest = engine(|config| {
        config.instances_max = INSTANCES_MAX;
        config.memory_max = Bytes::gib(4);
    });
    let module =
        largest.prepare(&wat::parse_str(command(&[], "(drop (memory.grow (i32.const 65535)))")).unwrap()).unwrap();
    let got = largest.run(&module, RunInput { memory: Bytes::gib(4), ..input() }, &Cancel::new());
    assert_eq!((got.result, got.usage.memory_peak), (Ok(()), Bytes::gib(4)));
}

/// Resident memory of this process, from `/proc/self/statm` (pages of 4 KiB).
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn a_thousand_runs_do_not_leak() {
    // Each dirties 2 MiB and prints 32 KiB: 2 GiB in all if anything stayed.
    let body = format!(
        "(drop (memory.grow (i32.const 31))) (memory.fill (i32.const 0) (i32.const 1) (i32.const 2097152)) {}",
        write(1, 32768)
    );
    let module = prepare(&command(&["fd_write"], &body)).unwrap();
    let run = || assert_eq!(ENGINE.run(&module, input(), &Cancel::new()).result, Ok(()));
    (0..100).for_each(|_| run());
    let before = resident();
    (0..1000).for_each(|_| run());
    let grown = resident().saturating_sub(before);
    // Other tests run in this process meanwhile.
    assert!(grown < 256 << 20, "{} MiB more than before", grown >> 20);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_never_panic_the_compiler(noise in proptest::collection::vec(any::<u8>(), 0..200), envelope in any::<bool>()) {
        let bytes = if envelope { [b"\0asm\x01\0\0\0", &noise[..]].concat() } else { noise };
        if let Ok(module) = ENGINE.prepare(&bytes) {
            drop(ENGINE.run(&module, RunInput { fuel: Fuel(10_000), ..input() }, &Cancel::new()));
        }
    }

    #[test]
    fn a_damaged_module_is_refused_or_runs_within_its_limits(
        hits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        which in 0..2_usize,
    ) {
        let mut bytes = wat::parse_str([echo(), dice()][which].as_str()).unwrap();
        for (at, byte) in hits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(module) = ENGINE.prepare(&bytes) {
            let got = ENGINE.run(&module, RunInput { fuel: Fuel(1_000_000), inputs: vec![b"abc"], ..input() }, &Cancel::new());
            prop_assert!(got.usage.fuel <= Fuel(1_000_000));
            prop_assert!(!matches!(got.result, Err(RunFailure::Engine(_) | RunFailure::Busy { .. })), "{:?}", got.result);
        }
    }
}

#[test]
#[ignore = "a measurement, not a check: cargo test -p legation-agent --test it measure -- --ignored --nocapture"]
#[expect(clippy::print_stderr, reason = "its output is its purpose")]
fn measure() {
    let bytes = vec![1_u8; 135_091];
    for (name, text, inputs) in [
        ("no-op", command(&[], ""), vec![]),
        ("echo 5 B", echo(), vec![&b"hello"[..]]),
        ("echo 135 KB", echo(), vec![&bytes]),
    ] {
        let module = prepare(&text).unwrap();
        let mut times: Vec<Duration> = (0..20_000)
            .map(|_| ENGINE.run(&module, RunInput { inputs: inputs.clone(), ..input() }, &Cancel::new()))
            .map(|got| got.result.map(|()| got.usage.wall).unwrap())
            .collect();
        times.sort_unstable();
        eprintln!("{name}: p50 {:?}, p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
    }
}

//! `legation_task_v1` through the engine: what a module can ask, what it is told, and that nothing it says harms the host.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex},
    thread,
    time::{Duration, Instant},
};

use legation_agent::engine::{
    ASKED_MAX, Ask, AskError, AskOptions, Cancel, Delegations, Engine, EngineConfig, OPEN_MAX, PrepareError,
    RunFailure, RunInput, RunOutcome,
};
use legation_core::{
    Bytes, Digest, Fuel, Millis, Rejection, UnixTime,
    statement::{Assurance, Diversity},
};
use zeroize::Zeroizing;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    Engine::new(EngineConfig { instances_max: 8, memory_max: Bytes::mib(64), ..EngineConfig::default() }).unwrap()
});

/// What was asked, as it came.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Asked {
    pub(crate) question: Digest,
    pub(crate) module: Digest,
    pub(crate) input: Vec<u8>,
    pub(crate) options: AskOptions,
    pub(crate) output: Bytes,
}

pub(crate) type Answer = Result<Vec<u8>, AskError>;

type Answering = Box<dyn Fn(&[u8]) -> Option<Answer> + Send + Sync>;

/// Answers with what it is told to, or never.
pub(crate) struct Fake {
    answer: Answering,
    asked: Mutex<Vec<Asked>>,
    open: Mutex<BTreeMap<u64, Option<Answer>>>,
    pub(crate) forgotten: Mutex<Vec<u64>>,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fake")
    }
}

impl Fake {
    pub(crate) fn new(answer: impl Fn(&[u8]) -> Option<Answer> + Send + Sync + 'static) -> Arc<Self> {
        let (asked, open, forgotten) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { answer: Box::new(answer), asked, open, forgotten })
    }

    /// Whatever it is asked, it says in capitals.
    pub(crate) fn loud() -> Arc<Self> {
        Self::new(|input| Some(Ok(input.to_ascii_uppercase())))
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Delegations for Fake {
    fn ask(&self, ask: &Ask<'_>) -> Result<u64, AskError> {
        let Ask { question, module, input, options, output, .. } = ask;
        let mut asked = self.asked.lock().unwrap();
        asked.push(Asked {
            question: *question,
            module: *module,
            input: input.to_vec(),
            options: (*options).clone(),
            output: *output,
        });
        let name = 100 + asked.len() as u64;
        self.open.lock().unwrap().insert(name, (self.answer)(input));
        Ok(name)
    }

    fn wait(&self, question: u64, most: Duration) -> Option<Result<Zeroizing<Vec<u8>>, AskError>> {
        let answer = self.open.lock().unwrap().get(&question).cloned().flatten();
        if answer.is_none() {
            thread::sleep(most);
        }
        answer.map(|answer| answer.map(Zeroizing::new))
    }

    fn forget(&self, question: u64) {
        self.forgotten.lock().unwrap().push(question);
    }
}

/// Bytes 0 to 31 are a digest, 64 to 69 an input, 128 the options.
fn guest(options: &str, body: &str) -> String {
    let task = |name: &str, params: usize| {
        let params = " i32".repeat(params);
        format!("(import \"legation_task_v1\" \"delegate_{name}\" (func ${name} (param{params}) (result i32)))")
    };
    format!(
        "(module {} {} {} {} {}
          (import \"wasi_snapshot_preview1\" \"fd_write\" (func $fd_write (param i32 i32 i32 i32) (result i32)))
          (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
          (memory (export \"memory\") 1)
          (data (i32.const 0) \"{}\") (data (i32.const 64) \"input!\") (data (i32.const 128) \"{}\")
          ;; Exits with what is below zero, its sign turned.
          (func $good (param i32) (result i32)
            (if (i32.lt_s (local.get 0) (i32.const 0)) (then (call $exit (i32.sub (i32.const 0) (local.get 0)))))
            (local.get 0))
          (func $out (param i32 i32)
            (i32.store (i32.const 1000) (local.get 0)) (i32.store (i32.const 1004) (local.get 1))
            (drop (call $fd_write (i32.const 1) (i32.const 1000) (i32.const 1) (i32.const 1008))))
          (func $ask (result i32)
            (call $good (call $start (i32.const 0) (i32.const 64) (i32.const 6) (i32.const 128) (i32.const {}))))
          (func (export \"_start\") (local $a i32) (local $b i32) (local $n i32) {body}))",
        task("start", 5),
        task("wait", 1),
        task("read", 3),
        task("error", 3),
        task("close", 1),
        "m".repeat(32),
        options.replace('\\', "\\\\").replace('"', "\\\""),
        options.len(),
    )
}

pub(crate) fn input(with: Option<Arc<Fake>>) -> RunInput<'static> {
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
        delegations: with.map(|with| -> Arc<dyn Delegations> { with }),
    }
}

fn run(wat: &str, input: RunInput<'_>) -> RunOutcome {
    let module = ENGINE.prepare(&wat::parse_str(wat).unwrap()).unwrap();
    ENGINE.run(&module, input, &Cancel::new())
}

/// Asks once, waits, and copies the answer out, four bytes at a time.
const ONE: &str = "(local.set $a (call $ask)) (drop (call $good (call $wait (local.get $a))))
    (loop $more
      (local.set $n (call $good (call $read (local.get $a) (i32.const 2000) (i32.const 4))))
      (call $out (i32.const 2000) (local.get $n)) (br_if $more (local.get $n)))
    (drop (call $good (call $close (local.get $a))))";

#[test]
fn an_answer_comes_back_whole_and_the_question_went_out_whole() {
    let fake = Fake::loud();
    let options = "{\"args\":[\"a\",\"b c\"],\"fuel\":7,\"memory\":65536,\"time_ms\":9,\"output\":11,\
                   \"assurance\":{\"replicated\":{\"k\":3,\"diverse\":\"provider\"}},\"require\":\"region == eu\"}";
    let got = run(&guest(options, ONE), input(Some(fake.clone())));
    assert_eq!((got.result, got.stdout), (Ok(()), b"INPUT!".to_vec()));
    let asked = fake.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].module, Digest::from_bytes([b'm'; 32]));
    assert_eq!((asked[0].input.as_slice(), asked[0].output), (&b"input!"[..], Bytes(11)));
    let said = &asked[0].options;
    assert_eq!(said.args, ["a", "b c"]);
    assert_eq!((said.fuel, said.memory, said.time_ms), (Some(Fuel(7)), Some(Bytes(65536)), Some(Millis(9))));
    assert_eq!(said.assurance, Some(Assurance::Replicated { k: 3, diverse: Diversity::Provider }));
    assert_eq!(said.require.as_ref().map(|r| r.source().to_owned()).as_deref(), Some("region == eu"));
    assert!(fake.forgotten.lock().unwrap().is_empty(), "what was answered is not forgotten");

    // Without options: the defaults.
    let fake = Fake::loud();
    assert_eq!(run(&guest("", ONE), input(Some(fake.clone()))).stdout, b"INPUT!");
    assert_eq!((fake.asked()[0].options.clone(), fake.asked()[0].output), (AskOptions::default(), Bytes::mib(1)));
}

#[test]
fn questions_are_named_after_the_seed_and_asked_at_once() {
    let two = "(local.set $a (call $ask)) (local.set $b (call $ask))
        (drop (call $good (call $wait (local.get $b)))) (drop (call $good (call $wait (local.get $a))))
        (call $out (i32.const 2000) (call $good (call $read (local.get $a) (i32.const 2000) (i32.const 99))))
        (call $out (i32.const 2000) (call $good (call $read (local.get $b) (i32.const 2000) (i32.const 99))))";
    let names = |seed: u8| {
        let fake = Fake::loud();
        let got = run(&guest("", two), RunInput { seed: [seed; 32], ..input(Some(fake.clone())) });
        assert_eq!((got.result, got.stdout), (Ok(()), b"INPUT!INPUT!".to_vec()));
        fake.asked().iter().map(|asked| asked.question).collect::<Vec<_>>()
    };
    let (one, again, other) = (names(1), names(1), names(2));
    assert_eq!(one, again);
    assert!(one[0] != one[1] && one[0] != other[0] && one[1] != other[1]);
}

#[test]
fn lies_are_answered_with_an_errno_and_nothing_is_asked() {
    const FAULT: i32 = 21;
    for (name, call, errno) in [
        ("module", "(call $start (i32.const 65505) (i32.const 64) (i32.const 6) (i32.const 0) (i32.const 0))", FAULT),
        (
            "module, wrapping",
            "(call $start (i32.const -1) (i32.const 64) (i32.const 6) (i32.const 0) (i32.const 0))",
            FAULT,
        ),
        ("input", "(call $start (i32.const 0) (i32.const 65530) (i32.const 7) (i32.const 0) (i32.const 0))", FAULT),
        (
            "input, wrapping",
            "(call $start (i32.const 0) (i32.const -4) (i32.const 8) (i32.const 0) (i32.const 0))",
            FAULT,
        ),
        ("input, long", "(call $start (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 0))", 35),
        ("options", "(call $start (i32.const 0) (i32.const 64) (i32.const 6) (i32.const 65535) (i32.const 2))", FAULT),
        (
            "options, long",
            "(call $start (i32.const 0) (i32.const 64) (i32.const 6) (i32.const 0) (i32.const 300000))",
            35,
        ),
        (
            "options, no JSON",
            "(call $start (i32.const 0) (i32.const 64) (i32.const 6) (i32.const 64) (i32.const 6))",
            28,
        ),
        ("wait", "(call $wait (i32.const 0))", 8),
        ("wait, negative", "(call $wait (i32.const -1))", 8),
        ("read", "(call $read (i32.const 0) (i32.const 0) (i32.const 9))", 8),
        ("read, pointer", "(call $read (i32.const 0) (i32.const 65536) (i32.const 1))", FAULT),
        ("error", "(call $error (i32.const 0) (i32.const 0) (i32.const 9))", 8),
        ("error, pointer", "(call $error (i32.const -1) (i32.const -1) (i32.const 9))", FAULT),
        ("close", "(call $close (i32.const 0))", 8),
    ] {
        let fake = Fake::loud();
        let got = run(&guest("", &format!("(drop (call $good {call}))")), input(Some(fake.clone())));
        assert_eq!(got.result, Err(RunFailure::Exit(errno)), "{name}");
        assert!(fake.asked().is_empty(), "{name}");
    }
    for options in
        ["[]", "7", "{\"fuel\":-1}", "{\"more\":1}", "{\"assurance\":\"replicated\"}", "{\"require\":\"region ==\"}"]
    {
        let got = run(&guest(options, "(drop (call $ask))"), input(Some(Fake::loud())));
        assert_eq!(got.result, Err(RunFailure::Exit(28)), "{options}");
    }
    // What was not waited for cannot be read, what was closed is gone.
    for (body, errno) in [
        ("(drop (call $good (call $read (call $ask) (i32.const 0) (i32.const 1))))", 6),
        (
            "(local.set $a (call $ask)) (drop (call $close (local.get $a))) (drop (call $good (call $wait (local.get $a))))",
            8,
        ),
    ] {
        assert_eq!(run(&guest("", body), input(Some(Fake::loud()))).result, Err(RunFailure::Exit(errno)), "{body}");
    }
}

/// Asks, waits, and gives out why that failed.
const WHY: &str = "(local.set $a (call $start (i32.const 0) (i32.const 64) (i32.const 6) (i32.const 0) (i32.const 0)))
    (if (i32.ge_s (local.get $a) (i32.const 0)) (then (local.set $b (call $wait (local.get $a))))
      (else (local.set $b (local.get $a)) (local.set $a (i32.const -1))))
    (local.set $n (call $good (call $error (local.get $a) (i32.const 2000) (i32.const 4000))))
    (call $out (i32.const 2000) (local.get $n))
    (call $exit (i32.sub (i32.const 0) (local.get $b)))";

#[test]
fn every_failure_has_its_number_and_its_reason() {
    let why = |check: &str| Rejection::new(check, "it").got("\u{1}a\nb");
    type Make = fn(Rejection) -> AskError;
    for (make, errno) in [
        (AskError::NotAllowed as Make, 76),
        (AskError::Invalid as Make, 28),
        (AskError::TooMany as Make, 33),
        (AskError::Unanswered as Make, 23),
        (AskError::Failed as Make, 12),
        (AskError::Silent as Make, 12),
    ] {
        let got = run(&guest("", WHY), input(Some(Fake::new(move |_| Some(Err(make(why("some.check"))))))));
        assert_eq!(got.result, Err(RunFailure::Exit(errno)));
        assert_eq!(String::from_utf8(got.stdout).unwrap(), why("some.check").to_string());
    }
    // Whoever may ask nobody is told so at once.
    let got = run(&guest("", WHY), input(None));
    assert_eq!(got.result, Err(RunFailure::Exit(76)));
    assert!(String::from_utf8(got.stdout).unwrap().starts_with("delegate.allowed"));
    let got = run(
        &guest(
            "[]",
            "(drop (call $start (i32.const 0) (i32.const 64) (i32.const 6) (i32.const 128) (i32.const 2)))
        (call $out (i32.const 2000) (call $error (i32.const -1) (i32.const 2000) (i32.const 4000)))",
        ),
        input(Some(Fake::loud())),
    );
    assert!(String::from_utf8(got.stdout).unwrap().starts_with("delegate.options"));
}

/// Asks as often as it can, and gives out how often that was and with what it ended.
fn greedy(options: &str, close: bool) -> String {
    let len = options.len();
    let close = if close { "(drop (call $close (local.get $a)))" } else { "" };
    format!(
        "(block $done (loop $more
           (local.set $a (call $start (i32.const 0) (i32.const 64) (i32.const 6) (i32.const 128) (i32.const {len})))
           (br_if $done (i32.lt_s (local.get $a) (i32.const 0)))
           {close}
           (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $more)))
         (i32.store (i32.const 3000) (local.get $n)) (i32.store (i32.const 3004) (local.get $a))
         (call $out (i32.const 3000) (i32.const 8))"
    )
}

#[test]
fn questions_are_bounded_by_number_and_by_bytes() {
    let count = |options: &str, close: bool, with: Arc<Fake>| {
        let got = run(&guest(options, &greedy(options, close)), input(Some(with)));
        assert_eq!(got.result, Ok(()));
        let word = |at: usize| i32::from_le_bytes(got.stdout[at..at + 4].try_into().unwrap());
        (word(0), word(4))
    };
    let small = "{\"output\":9}";
    assert_eq!(count(small, false, Fake::loud()), (OPEN_MAX as i32, -33));
    let fake = Fake::loud();
    assert_eq!(count(small, true, fake.clone()), (ASKED_MAX as i32, -33));
    assert_eq!(fake.forgotten.lock().unwrap().len(), ASKED_MAX as usize, "what is closed unanswered is forgotten");
    // 16 MiB of memory: five answers of at most 3 MB, and their inputs.
    assert_eq!(count("{\"output\":3000000}", false, Fake::loud()), (5, -33));
    // Each of three enclaves gives one.
    let three = "{\"output\":1500000,\"assurance\":{\"replicated\":{\"k\":3,\"diverse\":\"chip\"}}}";
    assert_eq!(count(three, false, Fake::loud()), (3, -33));
}

/// Grants that let a question be run by nine enclaves at least.
#[derive(Debug)]
struct Nine(Arc<Fake>);

impl Delegations for Nine {
    fn ask(&self, ask: &Ask<'_>) -> Result<u64, AskError> {
        self.0.ask(ask)
    }

    fn copies(&self, options: &AskOptions) -> u8 {
        options.assurance.map_or(9, Assurance::copies)
    }

    fn wait(&self, question: u64, most: Duration) -> Option<Result<Zeroizing<Vec<u8>>, AskError>> {
        self.0.wait(question, most)
    }

    fn forget(&self, question: u64) {
        self.0.forget(question);
    }
}

#[test]
fn answers_that_the_grants_ask_for_are_counted() {
    let asks = |options: &str, with: Arc<dyn Delegations>| {
        let with = RunInput { delegations: Some(with), ..input(None) };
        let got = run(&guest(options, &greedy(options, false)), with);
        assert_eq!(got.result, Ok(()));
        (i32::from_le_bytes(got.stdout[..4].try_into().unwrap()), got.starved)
    };
    // 16 MiB of memory, and 1 MiB for each answer.
    assert_eq!(asks("", Fake::loud()), (15, false));
    assert_eq!(asks("", Arc::new(Nine(Fake::loud()))), (1, true), "other grants might have let it ask more");
    let one = "{\"assurance\":\"attested\"}";
    assert_eq!(asks(one, Arc::new(Nine(Fake::loud()))), (15, false));
}

#[test]
fn fuel_is_charged_for_what_moves() {
    let fuel = |len: u32| {
        let body = format!(
            "(drop (call $good (call $wait (call $good
               (call $start (i32.const 0) (i32.const 64) (i32.const {len}) (i32.const 0) (i32.const 0))))))"
        );
        let got = run(&guest("", &body), input(Some(Fake::new(|_| Some(Ok(b"x".to_vec()))))));
        assert_eq!(got.result, Ok(()));
        got.usage.fuel.0
    };
    assert_eq!(fuel(1010) - fuel(10), 4 * 1000, "a byte that is copied and hashed");
    let long = "(drop (call $start (i32.const 0) (i32.const 64) (i32.const 60000) (i32.const 0) (i32.const 0)))";
    let fake = Fake::loud();
    let got = run(&guest("", long), RunInput { fuel: Fuel(10_000), ..input(Some(fake.clone())) });
    assert_eq!(got.result, Err(RunFailure::OutOfFuel));
    assert_eq!(got.usage.fuel, Fuel(10_000));
    assert!(fake.asked().is_empty(), "what is not paid for is not asked");
}

#[test]
fn a_run_that_was_told_what_others_may_not_be_told_says_so() {
    let why = || Rejection::new("some.check", "it");
    type Make = fn(Rejection) -> AskError;
    // It copes, and completes.
    let copes = guest("", "(drop (call $wait (call $ask)))");
    for (make, starved) in [
        (AskError::Unanswered as Make, true),
        (AskError::NotAllowed as Make, true),
        (AskError::TooMany as Make, true),
        (AskError::Invalid as Make, true),
        (AskError::Silent as Make, true),
        (AskError::Failed as Make, false),
    ] {
        let got = run(&copes, input(Some(Fake::new(move |_| Some(Err(make(why())))))));
        assert_eq!((got.result, got.starved), (Ok(()), starved), "{:?}", make(why()));
    }
    assert!(!run(&copes, input(Some(Fake::loud()))).starved);
    // What the engine itself refuses is the same everywhere.
    let nobody =
        guest("", "(drop (call $start (i32.const 0) (i32.const 64) (i32.const 6) (i32.const 128) (i32.const 0)))");
    let got = run(&nobody, input(None));
    assert_eq!((got.result, got.starved), (Ok(()), false));
}

/// Keeps how long each question may take.
#[derive(Debug, Default)]
struct Patient(Mutex<Vec<Duration>>);

impl Delegations for Patient {
    fn ask(&self, ask: &Ask<'_>) -> Result<u64, AskError> {
        self.0.lock().unwrap().push(ask.within);
        Err(AskError::NotAllowed(Rejection::new("some.check", "it")))
    }

    fn wait(&self, _: u64, _: Duration) -> Option<Result<Zeroizing<Vec<u8>>, AskError>> {
        None
    }

    fn forget(&self, _: u64) {}
}

#[test]
fn questions_end_a_little_before_the_run() {
    let patient = Arc::new(Patient::default());
    let ask =
        guest("", "(drop (call $start (i32.const 0) (i32.const 64) (i32.const 6) (i32.const 128) (i32.const 0)))");
    for (deadline, most) in [(60_000, 58_000), (1_000, 900)] {
        let with: Arc<dyn Delegations> = patient.clone();
        let got =
            run(&ask, RunInput { deadline: Duration::from_millis(deadline), delegations: Some(with), ..input(None) });
        assert_eq!(got.result, Ok(()));
        let within = patient.0.lock().unwrap().pop().unwrap();
        assert!(within <= Duration::from_millis(most), "{within:?} of {deadline} ms");
    }
}

#[test]
fn a_run_that_waits_ends_by_its_deadline_and_by_cancellation() {
    let wait = guest("", "(drop (call $wait (call $ask)))");
    let fake = Fake::new(|_| None);
    let started = Instant::now();
    let got = run(&wait, RunInput { deadline: Duration::from_millis(100), ..input(Some(fake.clone())) });
    assert_eq!(got.result, Err(RunFailure::Deadline));
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(*fake.forgotten.lock().unwrap(), [101]);

    let cancel = Cancel::new();
    let other = cancel.clone();
    let canceller = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        other.cancel();
    });
    let module = ENGINE.prepare(&wat::parse_str(&wait).unwrap()).unwrap();
    let got = ENGINE.run(&module, input(Some(Fake::new(|_| None))), &cancel);
    assert_eq!(got.result, Err(RunFailure::Cancelled));
    canceller.join().unwrap();
}

#[test]
fn runs_that_ask_the_same_and_hear_the_same_are_the_same() {
    let whole = |answer: &'static [u8]| {
        let fake = Fake::new(move |_| Some(Ok(answer.to_vec())));
        let got = run(&guest("", ONE), input(Some(fake)));
        (got.result, got.stdout, got.usage.fuel, got.usage.host_calls, got.calls)
    };
    let (one, again) = (whole(b"answer"), whole(b"answer"));
    assert_eq!(one, again);
    let names: Vec<_> = one.4.set.calls().map(|call| call.name()).collect();
    assert_eq!(names, ["fd_write", "delegate_start", "delegate_wait", "delegate_read", "delegate_close"]);
    assert_ne!(one.4.trace, whole(b"longer answer").4.trace);
    // As with any host call, contents are not in the trace.
    assert_eq!(one.4.trace, whole(b"ANSWER").4.trace);
}

#[test]
fn a_module_asks_only_by_what_is_there_and_what_it_declares() {
    let prepare = |wat: &str| ENGINE.prepare(&wat::parse_str(wat).unwrap()).unwrap_err();
    let import = |module: &str, name: &str, ty: &str| {
        format!(
            "(module (import \"{module}\" \"{name}\" (func {ty})) (memory (export \"memory\") 1) (func (export \"_start\")))"
        )
    };
    let error = prepare(&import("legation_task_v1", "delegate_all", "(result i32)"));
    assert!(matches!(&error, PrepareError::UnknownImport { name, .. } if name == "delegate_all"), "{error}");
    assert!(error.fix().contains("delegate.h"));
    let error = prepare(&import("wasi_snapshot_preview1", "delegate_wait", "(param i32) (result i32)"));
    assert!(matches!(error, PrepareError::UnknownImport { .. }), "{error}");
    let error = prepare(&import("legation_task_v1", "delegate_wait", "(param i64) (result i32)"));
    assert!(matches!(error, PrepareError::ImportType { .. }), "{error}");

    let fake = Fake::loud();
    let declared =
        guest("", "(drop (call $ask))").replacen("(module ", "(module (@custom \"legation.calls\" \"fd_write\") ", 1);
    let got = run(&declared, input(Some(fake.clone())));
    assert_eq!(got.result, Err(RunFailure::Undeclared { call: "delegate_start" }));
    assert!(fake.asked().is_empty());
}

//! The program's library, run natively: it runs what the engine runs, says what the crate `legation-core` says, and refuses the
//! rest.

use std::fs;

use legation_guest::{Malformed, Refused, Sha256, Witness, claim, hmac, prove, run};
use serde::Deserialize;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs a module in text form on one input; gives what it wrote.
fn wat(text: &str, input: &str) -> Result<String, Refused> {
    let module = wat::parse_str(text).unwrap();
    let witness = Witness { module, inputs: vec![([1; 32], input.into())], ..Witness::default() };
    run(&witness).map(|output| String::from_utf8(output).unwrap())
}

#[derive(Deserialize)]
struct Case {
    name: String,
    program: String,
    args: Vec<String>,
    inputs: Vec<Vec<Piece>>,
    lengths: Option<String>,
    exit: i32,
    stdout: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Piece {
    Once(String),
    Times(String, usize),
}

#[test]
fn the_committed_modules_behave_as_their_cases_say() {
    let guests = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guests");
    let cases = fs::read_to_string(format!("{guests}/cases.jsonl")).unwrap();
    let mut held = 0;
    for line in cases.lines().filter(|line| !line.is_empty()) {
        let case: Case = serde_json::from_str(line).unwrap();
        // Lengths that are not the inputs' are for programs that somebody else starts.
        let Ok(module) = fs::read(format!("{guests}/{}.wasm", case.program)) else { continue };
        if case.lengths.is_some() {
            continue;
        }
        let text = |piece: &Piece| match piece {
            Piece::Once(text) => text.clone(),
            Piece::Times(text, times) => text.repeat(*times),
        };
        let inputs =
            case.inputs.iter().map(|pieces| ([1; 32], pieces.iter().map(text).collect::<String>().into_bytes()));
        let witness = Witness { module, args: case.args, inputs: inputs.collect(), ..Witness::default() };
        let ended = run(&witness);
        if matches!(&ended, Err(Refused::Trap(why)) if why.contains("of which there is no proof")) {
            // It asks other enclaves.
            continue;
        }
        match case.exit {
            0 => {
                let expect = case.stdout.unwrap_or_default();
                assert_eq!(
                    ended.map(|output| String::from_utf8_lossy(&output).into_owned()),
                    Ok(expect),
                    "{}",
                    case.name
                );
            }
            code => assert_eq!(ended, Err(Refused::Exit(code)), "{}", case.name),
        }
        held += 1;
    }
    assert!(held > 50, "{held} cases");
}

#[test]
fn digests_are_sha256_and_commitments_hmac() {
    for (text, digest) in [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
    ] {
        assert_eq!(hex(&Sha256::of(text.as_bytes())), digest, "{text}");
    }
    // However it is cut.
    let long: Vec<u8> = (0..1000_u32).map(|n| n as u8).collect();
    for cut in [1, 55, 56, 63, 64, 65, 500] {
        let mut hash = Sha256::new();
        long.chunks(cut).for_each(|piece| hash.update(piece));
        assert_eq!(hash.finish(), Sha256::of(&long), "{cut}");
    }
    let expect = "5bc2988af85f9b534a7aef6086870243599240de61e02a8074f2c99a4dd8c9a2";
    assert_eq!(hex(&hmac(&[1; 32], b"first")), expect, "by Python's hmac");
}

/// By Python's hashlib and hmac, from the documented layout; `legation-core` has the same layout in its own test.
#[test]
fn the_public_value_is_the_one_that_others_compute() {
    let witness = Witness {
        module: b"module".to_vec(),
        args: vec!["--level".into(), "3".into()],
        seed: [7; 32],
        clock: 1_795_262_400,
        inputs: vec![([1; 32], b"first".to_vec()), ([2; 32], Vec::new())],
        output_key: Some([3; 32]),
    };
    let expect = "58a3cd677fb85d3a8a208aef9cfa2ae6e8f4cb4b3cfc21b8dcf9ec86701b0fd3";
    assert_eq!(claim(&witness, b"output").map(|value| hex(&value)).unwrap(), expect);
    let silent = Witness { module: b"module".to_vec(), ..Witness::default() };
    let expect = "94816667bd08ef9f8cc667c3aab0fb31c265e564b79361355c98926d2c94c98b";
    assert_eq!(claim(&silent, b"").map(|value| hex(&value)).unwrap(), expect);
    assert_eq!(claim(&silent, b"x"), Err(Refused::Uncommitted));
}

#[test]
fn every_part_of_the_witness_is_bound() {
    let good = Witness {
        module: wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#).unwrap(),
        args: vec!["a".into()],
        seed: [7; 32],
        clock: 5,
        inputs: vec![([1; 32], b"in".to_vec())],
        output_key: Some([3; 32]),
    };
    let value = prove(&good).unwrap();
    let bends: [(&str, fn(&mut Witness)); 9] = [
        ("module", |w| w.module.extend_from_slice(&[0, 2, 1, b'x'])),
        ("argument", |w| w.args = vec!["b".into()]),
        ("no argument", |w| w.args.clear()),
        ("seed", |w| w.seed[0] ^= 1),
        ("clock", |w| w.clock += 1),
        ("input", |w| w.inputs[0].1 = b"on".to_vec()),
        ("key of an input", |w| w.inputs[0].0 = [2; 32]),
        ("no input", |w| w.inputs.clear()),
        ("key of the output", |w| w.output_key = Some([4; 32])),
    ];
    for (what, bend) in bends {
        let mut bent = good.clone();
        bend(&mut bent);
        assert_ne!(prove(&bent).unwrap(), value, "{what}");
    }
}

const IMPORTS: &str = r#"
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\08\00\00\00\02\00\00\00hi")"#;
const WRITE: &str = "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))";

#[test]
fn only_a_good_end_is_proven() {
    let start = |body: &str| wat(&format!(r#"(module {IMPORTS} (func (export "_start") {body}))"#), "");
    assert_eq!(start(WRITE), Ok("hi".into()));
    assert_eq!(start(&format!("{WRITE} (call $exit (i32.const 0))")), Ok("hi".into()));
    assert_eq!(start(&format!("{WRITE} (call $exit (i32.const 3))")), Err(Refused::Exit(3)));
    let traps = [
        "unreachable",
        "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
        "(drop (i32.load (i32.const -1)))",
        "(drop (call $poll (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)))",
    ];
    for body in traps {
        assert!(matches!(start(&format!("{WRITE} {body}")), Err(Refused::Trap(_))), "{body}");
    }
}

#[test]
fn what_is_no_command_is_refused() {
    let bytes = |module: &[u8]| run(&Witness { module: module.to_vec(), ..Witness::default() });
    for module in [&b""[..], b"\0asm", b"\x7fELF"] {
        assert!(matches!(bytes(module), Err(Refused::Module(_))), "{module:?}");
    }
    for (what, text) in [
        ("no start", "(module)"),
        ("a start that takes something", r#"(module (func (export "_start") (param i32)))"#),
        ("an import from elsewhere", r#"(module (import "env" "f" (func)) (func (export "_start")))"#),
        ("an imported memory", r#"(module (import "wasi_snapshot_preview1" "m" (memory 1)) (func (export "_start")))"#),
        (
            "another type",
            r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32))) (func (export "_start")))"#,
        ),
    ] {
        assert!(matches!(wat(text, ""), Err(Refused::Module(_))), "{what}");
    }
    // Invalid: `i32.add` on an empty stack. It is refused when it would run, and not before.
    let module =
        b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\0\x0a\x06\x01\x04\0\x6a\x1a\x0b";
    assert!(bytes(module).is_err());
}

#[test]
fn pointers_of_the_guest_are_checked() {
    for (vecs, count, out, errno) in
        [(0, 1, 65_533, 21), (65_535, 1, 16, 21), (0, 1025, 16, 28), (0, -1, 16, 28), (0, 1, 16, 0)]
    {
        let body = format!(
            "(call $exit (call $write (i32.const 1) (i32.const {vecs}) (i32.const {count}) (i32.const {out})))"
        );
        let ended = wat(&format!(r#"(module {IMPORTS} (func (export "_start") {body}))"#), "");
        let expect = if errno == 0 { Ok("hi".to_owned()) } else { Err(Refused::Exit(errno)) };
        assert_eq!(ended, expect, "{vecs} {count} {out}");
    }
}

#[test]
fn a_head_is_read_as_it_is_written_and_nothing_else_is() {
    let witness = Witness {
        module: b"m".to_vec(),
        args: vec!["one".into(), String::new()],
        seed: [9; 32],
        clock: 77,
        inputs: vec![([1; 32], b"x".to_vec())],
        output_key: Some([5; 32]),
    };
    let head = witness.head();
    assert_eq!(Witness::inputs_of(&head), Ok(1));
    assert_eq!(Witness::read(&head, b"m".to_vec(), vec![b"x".to_vec()]), Ok(witness));
    assert_eq!(Witness::read(&head, Vec::new(), Vec::new()), Err(Malformed::Inputs));
    for len in 0..head.len() {
        assert_eq!(Witness::inputs_of(&head[..len]), Err(Malformed::Short), "{len}");
    }
    let bent = |at: usize, byte: u8| {
        let mut head = head.clone();
        head[at] = byte;
        Witness::inputs_of(&head)
    };
    assert_eq!(bent(40, 2), Err(Malformed::Flag));
    assert_eq!(bent(73, 255), Err(Malformed::Many));
    assert_eq!(bent(81, 0), Err(Malformed::Argument));
    assert_eq!(bent(81, 0xff), Err(Malformed::Argument));
    assert_eq!(Witness::inputs_of(&[&head[..], &[0]].concat()), Err(Malformed::Long));
}

//! The committed guest modules behave as their cases say, through the engine that tasks run in.

use std::{fs, path::PathBuf, time::Duration};

use legation_agent::engine::{Cancel, Engine, EngineConfig, RunFailure, RunInput};
use legation_core::{Fuel, UnixTime, unit::Bytes};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    program: String,
    args: Vec<String>,
    inputs: Vec<Vec<Piece>>,
    /// Not the true ones: the engine always tells the true ones.
    lengths: Option<String>,
    exit: i32,
    stdout: Option<String>,
    stderr: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Piece {
    Text(String),
    Repeated(String, usize),
}

impl Piece {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Repeated(text, times) => text.repeat(*times),
        }
    }
}

pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../guests").join(name)
}

#[test]
fn every_case_of_the_guests_holds_in_the_engine() {
    let engine = Engine::new(EngineConfig { instances_max: 2, ..EngineConfig::default() }).unwrap();
    let (mut ran, mut lying) = (0, 0);
    for line in fs::read_to_string(path("cases.jsonl")).unwrap().lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        if case.lengths.is_some() {
            lying += 1;
            continue;
        }
        let module = engine.prepare(&fs::read(path(&format!("{}.wasm", case.program))).unwrap()).unwrap();
        let inputs: Vec<Vec<u8>> =
            case.inputs.iter().map(|pieces| pieces.iter().map(Piece::text).collect::<String>().into_bytes()).collect();
        let input = RunInput {
            args: &case.args,
            inputs: inputs.iter().map(Vec::as_slice).collect(),
            fuel: Fuel(200_000_000_000),
            memory: Bytes::mib(80),
            deadline: Duration::from_secs(120),
            output_max: Bytes::mib(16),
            log_max: Bytes::kib(64),
            seed: [0; 32],
            now_fixed: UnixTime(0),
            delegations: None,
        };
        let outcome = engine.run(&module, input, &Cancel::new());
        let exit = match &outcome.result {
            Ok(()) => 0,
            Err(RunFailure::Exit(code)) => *code,
            Err(other) => panic!("{}: {other}", case.name),
        };
        let (stdout, stderr) =
            (String::from_utf8_lossy(&outcome.stdout), String::from_utf8_lossy(&outcome.stderr).into_owned());
        assert_eq!(exit, case.exit, "{}: {stderr}", case.name);
        match &case.stdout {
            Some(expected) => assert_eq!(stdout, *expected, "{}", case.name),
            None if exit != 0 => assert_eq!(stdout, "", "{}", case.name),
            None => {}
        }
        if let Some(expected) = &case.stderr {
            assert!(stderr.contains(expected), "{}: `{stderr}` lacks `{expected}`", case.name);
        }
        ran += 1;
    }
    assert!(ran > 50, "{ran} cases ran");
    eprintln!("{ran} cases ran; SKIPPED: {lying} whose LEGATION_INPUTS lies, which this engine never does");
}

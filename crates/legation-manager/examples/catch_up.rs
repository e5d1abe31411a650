//! `cargo xtask bench catch-up`: how fast the transparency log follows a journal that is there already, as after its file was lost.
//!
//! The journal is one of `SQLite` whose records have a grant each, so an entry each. Beside it, in the same rounds: the same records read
//! and nothing done with them (reading one verifies its signature), and their digests appended to a tree in memory.
//! Prints one JSON object; `--smoke` makes it small.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    hint::black_box,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use legation_core::{
    Digest, EnclaveId, FragmentIndex, Fuel, MicroUsd, Seq, Signer, TaskId, Term, UnixTime, dsse,
    statement::{Grant, GrantSubject},
};
use legation_keys::IdentityKey;
use legation_log::{MemoryTiles, Tree};
use legation_manager::{
    journal::{Advertised, Candidate, Journal, sqlite::SqliteJournal},
    log::{Log, leaves},
};
use legation_pool::{Event, RECORD_VERSION, Record};
use serde_json::json;

type Failure = Box<dyn std::error::Error>;

/// Records that are written, and read, at once.
const BATCH: usize = 256;
/// When everything happens: a log has no clock.
const AT: UnixTime = UnixTime(1_795_262_400);
/// How long the log may take.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> Result<(), Failure> {
    let smoke = std::env::args().any(|arg| arg == "--smoke");
    let (size, rounds) = if smoke { (600, 1) } else { (50_000, 3) };
    let records = records(size);
    let (mut log, mut reading, mut tree) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let dir = tempfile::tempdir()?;
        let mut journal = filled(dir.path(), &records)?;
        reading.push(read(&mut journal, size)?);
        tree.push(appended(&records)?);
        log.push(followed(dir.path(), &mut journal, size)?);
    }
    let per_second = |took: Vec<Duration>| (size as f64 / median(took)).round();
    let report = json!({
        "bench": "catch-up",
        "what": "entries a second of a log that follows a journal from its beginning; and what it consists of",
        "records": size, "rounds": rounds,
        "log_per_s": per_second(log),
        "records_read_per_s": per_second(reading),
        "tree_in_memory_per_s": per_second(tree),
    });
    println!("{report}");
    Ok(())
}

/// Grants, no two alike.
fn records(size: u64) -> Vec<Record> {
    let key = IdentityKey::from_seed([1; 32]);
    let enclave: EnclaveId = IdentityKey::from_seed([2; 32]).public_key().enclave_id();
    let task = Digest::of(b"task");
    let record = |number: u64| {
        let grant = Grant {
            issuer: key.public_key(),
            task: TaskId::new(task),
            fragments: vec![FragmentIndex(0)],
            subject: GrantSubject::Enclave(enclave),
            modules: vec![Digest::of(b"module")],
            fuel: Fuel(number),
            budget: MicroUsd(1),
            depth: 0,
            expires: AT.plus(3600),
            releases: Vec::new(),
            delegable: None,
            prev: vec![task],
        };
        let grant = Box::new(dsse::sign(grant, &key));
        let event = Event::Granted { grant, keys: Vec::new() };
        Record { version: RECORD_VERSION, seq: Seq(number), term: Term(1), at: AT, event }
    };
    (1..=size).map(record).collect()
}

fn filled(dir: &Path, records: &[Record]) -> Result<SqliteJournal, Failure> {
    let mut journal = SqliteJournal::open(&dir.join("journal.sqlite"))?;
    let candidate = Candidate { name: "bench".to_owned(), instance: 1, addresses: Advertised::default() };
    let term = journal.claim(&candidate, Duration::ZERO)?;
    let mut after = Seq(0);
    for batch in records.chunks(BATCH) {
        journal.append(term, after, batch)?;
        after = batch.last().map_or(after, |last| last.seq);
    }
    Ok(journal)
}

/// Every record, as the log reads them.
fn read(journal: &mut SqliteJournal, size: u64) -> Result<Duration, Failure> {
    let mut archive = journal.archive()?;
    let all: Vec<Seq> = (1..=size).map(Seq).collect();
    let began = Instant::now();
    for page in all.chunks(BATCH) {
        if black_box(archive.records(page)?).len() != page.len() {
            return Err("the journal lost records".into());
        }
    }
    Ok(began.elapsed())
}

/// The tree alone, without any file.
fn appended(records: &[Record]) -> Result<Duration, Failure> {
    let (mut tree, mut tiles) = (Tree::new(), MemoryTiles::new());
    let began = Instant::now();
    for page in records.chunks(BATCH) {
        for leaf in page.iter().flat_map(|record| leaves(&record.event)) {
            tree.append(leaf.as_bytes())?;
        }
        tree.flush(&mut tiles)?;
    }
    black_box(tree.root());
    Ok(began.elapsed())
}

/// From the start of the log to its checkpoint of everything.
fn followed(dir: &Path, journal: &mut SqliteJournal, size: u64) -> Result<Duration, Failure> {
    let key = Arc::new(IdentityKey::from_seed([7; 32]));
    let records = journal.archive()?;
    let began = Instant::now();
    let log = Log::start(dir, "log.example/bench", &dir.join("log.key"), key, records)?;
    while !log.checkpoint().is_ok_and(|now| now.checkpoint().size == size) {
        if began.elapsed() > PATIENCE {
            return Err(format!("{size} entries are not there: {:?}", log.checkpoint()).into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(began.elapsed())
}

/// In seconds.
fn median(mut took: Vec<Duration>) -> f64 {
    took.sort_unstable();
    took.get(took.len() / 2).map_or(f64::NAN, Duration::as_secs_f64)
}

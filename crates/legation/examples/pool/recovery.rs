//! A journal of many records, read back as a manager does that starts.

use std::time::{Duration, Instant};

use legation::exit::Failure;
use legation_core::{Seq, TaskId};
use legation_manager::{
    journal::{Advertised, Candidate, Journal, Snapshots, sqlite::SqliteJournal},
    recovery::recover,
};
use legation_pool::{Command, Limits, Pool};
use serde_json::{Value, json};

use crate::{count, failed, people::People, round};

const ENCLAVES: usize = 1000;
const BATCH: usize = 4096;
/// Records between two snapshots, as a manager takes them.
const SNAPSHOT_EVERY: u64 = 50_000;

pub(crate) fn measure(records: u64) -> Result<Value, Failure> {
    eprintln!("pool: a journal of {records} records is written");
    let dir = tempfile::tempdir().map_err(failed)?;
    let path = dir.path().join("journal.sqlite");
    let limits = Limits { ended_tasks_kept: 1000, ..Limits::default() };
    let begun = Instant::now();
    write(&path, records, limits)?;
    let wrote = begun.elapsed().as_secs_f64();
    let bytes = std::fs::metadata(&path).map_err(failed)?.len();
    eprintln!("pool: it is read back");
    let begun = Instant::now();
    let mut journal = SqliteJournal::open(&path).map_err(failed)?;
    let mut pool = Pool::new(limits);
    let mut absorb = |record| {
        pool.absorb(&record)?;
        Ok(())
    };
    journal.read(Seq(0), &mut absorb).map_err(failed)?;
    let read = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let recovered = recover(&mut journal, limits).map_err(failed)?;
    let from_snapshot = begun.elapsed().as_secs_f64();
    if recovered.snapshot.is_none() || recovered.pool != pool {
        return Err(failed("the snapshot was not used, or made another pool"));
    }
    Ok(json!({
        "what": "SQLite; tasks submitted, leased and cancelled on 1000 enclaves",
        "records": pool.seq().0, "journal_mib": bytes >> 20, "written_in_s": round(wrote),
        "without_snapshot": { "seconds": round(read), "records_per_second": (count(records as usize) / read).round() },
        "from_snapshot": {
            "seconds": round(from_snapshot), "records_after_it": pool.seq().0 - recovered.snapshot.map_or(0, |seq| seq.0),
        },
        "aims": { "seconds_from_a_snapshot": 10 },
    }))
}

fn write(path: &std::path::Path, records: u64, limits: Limits) -> Result<(), Failure> {
    let people = People::new()?;
    let mut journal = SqliteJournal::open(path).map_err(failed)?;
    let mut pool = Pool::new(limits);
    let addresses = Advertised { agents: String::new(), api: String::new() };
    let candidate = Candidate { name: "bench".to_owned(), instance: 1, addresses };
    let term = journal.claim(&candidate, Duration::from_secs(60)).map_err(failed)?;
    let (mut batch, mut after, mut snapshot) = (Vec::new(), Seq(0), None);
    let mut apply = |pool: &mut Pool, command: Command| {
        batch.extend(pool.apply(command, people.now, &people.manager).map_err(failed)?.records);
        if batch.len() >= BATCH {
            journal.append(term, after, &batch).map_err(failed)?;
            (after, batch) = (pool.seq(), Vec::new());
        }
        if snapshot.is_none() && batch.is_empty() && pool.seq().0 + SNAPSHOT_EVERY > records {
            snapshot = Some(pool.snapshot().map_err(failed)?);
            journal.save_snapshot(pool.seq(), snapshot.as_deref().unwrap_or_default()).map_err(failed)?;
        }
        Ok::<_, Failure>(())
    };
    apply(&mut pool, people.begin_term())?;
    for n in 0..ENCLAVES.min(records as usize / 8) {
        let (enclave, command) = people.attested(n)?;
        apply(&mut pool, command)?;
        apply(&mut pool, Command::Arrived { enclave, running: Vec::new() })?;
    }
    let mut n = 0;
    while pool.seq().0 < records {
        let (request, grant) = people.submission(n, 1)?;
        let task = TaskId::new(request.digest());
        apply(&mut pool, Command::Submit { request: Box::new(request), grants: vec![grant], idempotency: None })?;
        apply(&mut pool, Command::Cancel { task })?;
        n += 1;
    }
    journal.append(term, after, &batch).map_err(failed)
}

//! What a journal on a disk has to withstand, beside the contract of all stores (`journal_contract`).

use std::path::{Path, PathBuf};

use std::time::{Duration, Instant};

use legation_core::{Digest, EnclaveId, Seq, Term};
use legation_manager::journal::{Journal, JournalError, sqlite::SqliteJournal};
use legation_pool::{Event, RECORD_VERSION, Record};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::journal_contract::{candidate, read, record, records};

const HOUR: Duration = Duration::from_secs(3600);

/// A folder with a journal in it.
struct Disk(TempDir);

impl Disk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("journal.sqlite")
    }

    fn open(&self) -> SqliteJournal {
        SqliteJournal::open(&self.path()).unwrap()
    }

    /// Changes the file behind the store's back.
    fn execute(&self, sql: &str) {
        assert!(Connection::open(self.path()).unwrap().execute(sql, []).unwrap() > 0, "{sql} changed nothing");
    }
}

fn fill(journal: &mut SqliteJournal, number: u64) {
    let term = journal.claim(&candidate("a"), HOUR).unwrap();
    journal.append(term, Seq(0), &records(1..=number, term)).unwrap();
}

#[test]
fn a_journal_of_before_there_were_terms_is_taken_over() {
    let disk = Disk::new();
    let old = Connection::open(disk.path()).unwrap();
    old.execute_batch(
        "create table journal (
             seq integer primary key, version integer not null, term integer not null, at integer not null,
             kind text not null, record text not null) strict;",
    )
    .unwrap();
    for Record { version, seq, term, at, event } in [record(1, 1), record(2, 6)] {
        let row = (seq.0.cast_signed(), version, term.0.cast_signed(), at.0.cast_signed(), event.kind());
        let text = serde_json::to_string(&event).unwrap();
        let insert = "insert into journal values (?, ?, ?, ?, ?, ?)";
        old.execute(insert, (row.0, row.1, row.2, row.3, row.4, text)).unwrap();
    }
    drop(old);
    let mut journal = disk.open();
    assert_eq!((journal.head().unwrap().last, journal.head().unwrap().term()), (Seq(2), Term(6)));
    assert_eq!(journal.claim(&candidate("a"), HOUR).unwrap(), Term(7));
    drop(journal);
    Connection::open(disk.path()).unwrap().execute_batch("pragma user_version = 9").unwrap();
    let error = SqliteJournal::open(&disk.path()).err().unwrap();
    assert!(matches!(error, JournalError::Schema { found: 9, known: 1 }), "{error}");
}

#[test]
fn what_was_appended_outlives_the_process() {
    let disk = Disk::new();
    for number in 1..=4 {
        let mut journal = disk.open();
        assert_eq!(journal.head().unwrap().term(), Term(number - 1));
        // Whoever held the last term is gone, or the file would be in use.
        let term = journal.claim(&candidate(&format!("process {number}")), HOUR).unwrap();
        assert_eq!(term, Term(number));
        let last = Seq((number - 1) * 10);
        let gap = journal.append(term, Seq(last.0 + 1), &records([last.0 + 2], term));
        assert!(matches!(gap, Err(JournalError::Gap { .. })));
        let before = Term(number - 1);
        let fenced = journal.append(before, last, &records([last.0 + 1], before));
        assert!(matches!(fenced, Err(JournalError::Fenced { .. })));
        journal.append(term, last, &records(last.0 + 1..=last.0 + 10, term)).unwrap();
        assert_eq!(read(&mut journal, 0).unwrap().len() as u64, number * 10);
    }
    // Also one that was not closed: its files as they were when the power went.
    let mut journal = disk.open();
    journal.append(Term(4), Seq(40), &records([41], Term(4))).unwrap();
    let copy = Disk::new();
    for file in ["journal.sqlite", "journal.sqlite-wal"] {
        std::fs::copy(disk.0.path().join(file), copy.0.path().join(file)).unwrap();
    }
    let mut copied = copy.open();
    assert_eq!(read(&mut copied, 0).unwrap(), read(&mut journal, 0).unwrap());
    assert_eq!(copied.head().unwrap().term(), Term(4));
}

/// Whoever reads for long keeps the write-ahead log from beginning anew, and nobody from appending.
#[test]
fn who_reads_for_long_keeps_nobody_from_appending() {
    let disk = Disk::new();
    let mut journal = disk.open();
    fill(&mut journal, 1);
    let reader = Connection::open(disk.path()).unwrap();
    reader.execute_batch("begin").unwrap();
    let seen = || reader.query_row("select count(*) from journal", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(seen(), 1);
    // Several checkpoints, 8 MiB apart.
    let why = "x".repeat(1 << 20);
    for seq in 2..=36_u64 {
        let mut large = record(seq, 1);
        large.event = Event::Left { enclave: EnclaveId::new(Digest::of(&seq.to_be_bytes())), why: why.clone() };
        let begun = Instant::now();
        journal.append(Term(1), Seq(seq - 1), &[large]).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(2), "record {seq} took {:?}", begun.elapsed());
    }
    assert_eq!(seen(), 1, "it reads what was there when it began");
    drop(reader);
    assert_eq!(read(&mut journal, 0).unwrap().len(), 36);
}

#[test]
fn one_manager_at_a_time() {
    let disk = Disk::new();
    let mut first = disk.open();
    let one = first.claim(&candidate("a"), HOUR).unwrap();
    first.append(one, Seq(0), &records([1], one)).unwrap();
    for _ in 0..2 {
        let error = SqliteJournal::open(&disk.path()).err().unwrap();
        assert!(matches!(&error, JournalError::InUse { path } if *path == disk.path()), "{error}");
        assert!(error.to_string().contains("in use by another manager"), "{error}");
    }
    first.append(one, Seq(1), &records([2], one)).unwrap();
    drop(first);
    assert_eq!(read(&mut disk.open(), 0).unwrap().len(), 2);
}

#[test]
fn a_record_that_cannot_be_read_is_named() {
    let table = [
        ("update journal set version = 1 where seq = 3", "version 1, and this program knows versions 2 to 7"),
        ("update journal set version = 8 where seq = 3", "version 8, and this program knows versions 2 to 7"),
        ("update journal set version = -1 where seq = 3", "its version is -1"),
        ("update journal set term = -1 where seq = 3", "its term is -1"),
        ("update journal set at = -1 where seq = 3", "its time is -1"),
        ("update journal set version = 4294967297 where seq = 3", "version"),
        ("update journal set record = '' where seq = 3", "EOF"),
        ("update journal set record = 'not json' where seq = 3", "expected"),
        ("update journal set record = '{\"event\":\"unheard-of\"}' where seq = 3", "unheard-of"),
        ("update journal set record = replace(record, '}', ',\"more\":1}') where seq = 3", "more"),
        ("update journal set record = substr(record, 1, length(record) - 1) where seq = 3", "EOF"),
    ];
    for (sql, said) in table {
        let disk = Disk::new();
        fill(&mut disk.open(), 5);
        disk.execute(sql);
        let mut journal = disk.open();
        let mut before = Vec::new();
        let result = journal.read(Seq(0), &mut |record| {
            before.push(record);
            Ok(())
        });
        let Err(JournalError::Unreadable { seq: Seq(3), why }) = &result else { panic!("{sql}: {result:?}") };
        assert!(why.contains(said), "{sql}: {why}");
        assert_eq!(before, records(1..=2, Term(1)), "{sql}");
        // Who reads on behind it reads what is good.
        assert_eq!(read(&mut journal, 3).unwrap(), records(4..=5, Term(1)), "{sql}");
    }
}

#[test]
fn what_is_no_journal_is_refused() {
    let disk = Disk::new();
    std::fs::write(disk.path(), "certainly not a database, long enough to be looked at".repeat(100)).unwrap();
    let error = SqliteJournal::open(&disk.path()).err().unwrap();
    assert!(matches!(error, JournalError::Store { .. }) && error.to_string().contains("not a database"), "{error}");
    let nowhere = Path::new("/nowhere/at/all/journal.sqlite");
    let error = SqliteJournal::open(nowhere).err().unwrap();
    assert!(matches!(error, JournalError::File { .. }) && error.to_string().contains("/nowhere/at/all"), "{error}");
    // A table of the same name that is another.
    let disk = Disk::new();
    Connection::open(disk.path()).unwrap().execute_batch("create table journal (seq integer primary key)").unwrap();
    let error = SqliteJournal::open(&disk.path()).err().unwrap();
    assert!(matches!(error, JournalError::Store { .. }), "{error}");
}

#[test]
fn the_file_is_what_its_documentation_says() {
    let disk = Disk::new();
    fill(&mut disk.open(), 2);
    let db = Connection::open(disk.path()).unwrap();
    let row = |seq: i64| {
        db.query_row("select version, term, at, kind, record from journal where seq = ?", [seq], |row| {
            Ok((row.get::<_, u32>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get(3)?, row.get(4)?))
        })
        .unwrap()
    };
    let (version, term, at, kind, text): (_, _, _, String, String) = row(2);
    assert_eq!((version, term, at, kind.as_str()), (RECORD_VERSION, 1, 1_800_000_002, "left"));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["event"], "left");
    assert_eq!(row(1).3, "arrived");
    let mode: String = db.query_row("pragma journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
}

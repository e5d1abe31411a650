//! The contract of a journal, held against every store; and what a store on a disk has to withstand beside it.

use std::path::{Path, PathBuf};

use legation_core::{Digest, EnclaveId, Seq, Term, UnixTime};
use legation_manager::journal::{Journal, JournalError, memory::MemoryJournal, sqlite::SqliteJournal};
use legation_pool::{Event, RECORD_VERSION, Record};
use rusqlite::Connection;
use tempfile::TempDir;

/// A record about nothing in particular, told apart by its position.
fn record(seq: u64, term: u64) -> Record {
    let enclave = EnclaveId::new(Digest::of(&seq.to_be_bytes()));
    let event = if seq.is_multiple_of(2) {
        Event::Left { enclave, why: format!("reason {seq}: \"quoted\", \n, \u{1f980}, '; drop table journal") }
    } else {
        Event::Arrived { enclave }
    };
    Record { version: RECORD_VERSION, seq: Seq(seq), term: Term(term), at: UnixTime(1_800_000_000 + seq), event }
}

/// Records of these positions, of one term.
fn records(seqs: impl IntoIterator<Item = u64>, term: u64) -> Vec<Record> {
    seqs.into_iter().map(|seq| record(seq, term)).collect()
}

/// All records after a position.
fn read(journal: &mut dyn Journal, after: u64) -> Result<Vec<Record>, JournalError> {
    let mut found = Vec::new();
    journal.read(Seq(after), &mut |record| {
        found.push(record);
        Ok(())
    })?;
    Ok(found)
}

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

/// Runs a test of the contract on a fresh store of every kind.
fn every_store(test: impl Fn(&str, &mut dyn Journal)) {
    test("memory", &mut MemoryJournal::default());
    let disk = Disk::new();
    test("sqlite", &mut disk.open());
}

#[test]
fn what_was_appended_is_read_in_order() {
    every_store(|store, journal| {
        assert_eq!((journal.newest_term().unwrap(), read(journal, 0).unwrap()), (Term(0), Vec::new()), "{store}");
        journal.append(&[]).unwrap();
        journal.append(&records(1..=1, 1)).unwrap();
        journal.append(&records(2..=300, 1)).unwrap();
        journal.append(&records(301..=302, 7)).unwrap();
        let all: Vec<_> = records(1..=300, 1).into_iter().chain(records(301..=302, 7)).collect();
        for after in [0, 1, 150, 301, 302, 1000] {
            let wanted: Vec<_> = all.iter().filter(|r| r.seq.0 > after).cloned().collect();
            assert!(read(journal, after).unwrap() == wanted, "{store} after {after}");
        }
        assert_eq!(journal.newest_term().unwrap(), Term(7), "{store}");
    });
}

#[test]
fn a_batch_that_leaves_a_gap_is_refused_whole() {
    every_store(|store, journal| {
        let gap = |result: Result<(), JournalError>, after: u64, got: u64| {
            let error = result.unwrap_err();
            let is = matches!(error, JournalError::Gap { after: a, got: g } if (a, g) == (Seq(after), Seq(got)));
            assert!(is, "{store}: {error}");
        };
        gap(journal.append(&records([2], 1)), 0, 2);
        gap(journal.append(&records([0], 1)), 0, 0);
        journal.append(&records(1..=3, 1)).unwrap();
        gap(journal.append(&records([5], 1)), 3, 5);
        gap(journal.append(&records([3], 1)), 3, 3);
        gap(journal.append(&records([4, 5, 7], 1)), 5, 7);
        gap(journal.append(&records([4, 4], 1)), 4, 4);
        gap(journal.append(&records([5, 4], 1)), 3, 5);
        assert_eq!(read(journal, 0).unwrap(), records(1..=3, 1), "{store}");
        journal.append(&records([4], 1)).unwrap();
    });
}

#[test]
fn a_writer_of_an_earlier_term_is_fenced_off() {
    every_store(|store, journal| {
        journal.append(&records([1], 3)).unwrap();
        for (batch, ours, newest) in [
            (records([2], 2), 2, 3),
            (records([2, 3], 0), 0, 3),
            // A term does not go back within a batch either.
            (vec![record(2, 5), record(3, 4)], 4, 5),
        ] {
            let error = journal.append(&batch).unwrap_err();
            let is =
                matches!(error, JournalError::Fenced { ours: o, newest: n } if (o, n) == (Term(ours), Term(newest)));
            assert!(is, "{store}: {error}");
        }
        assert_eq!((journal.newest_term().unwrap(), read(journal, 0).unwrap().len()), (Term(3), 1), "{store}");
        // The first record of a new term claims it, and from then on the old one is over.
        journal.append(&records([2], 4)).unwrap();
        assert!(matches!(journal.append(&records([3], 3)), Err(JournalError::Fenced { .. })), "{store}");
        journal.append(&records([3], 4)).unwrap();
    });
}

#[test]
fn a_reader_that_has_enough_stops() {
    every_store(|store, journal| {
        journal.append(&records(1..=5, 1)).unwrap();
        let mut seen = 0;
        let stopped = journal.read(Seq(0), &mut |record| {
            seen += 1;
            if record.seq == Seq(3) {
                return Err(JournalError::Unreadable { seq: record.seq, why: "enough".to_owned() });
            }
            Ok(())
        });
        assert!(matches!(stopped, Err(JournalError::Unreadable { seq: Seq(3), .. })), "{store}");
        assert_eq!(seen, 3, "{store}");
        journal.append(&records([6], 1)).unwrap();
    });
}

#[test]
fn what_was_appended_outlives_the_process() {
    let disk = Disk::new();
    for term in 1..=4 {
        let mut journal = disk.open();
        assert_eq!(journal.newest_term().unwrap(), Term(term - 1));
        let first = (term - 1) * 10 + 1;
        assert!(matches!(journal.append(&records([first + 1], term)), Err(JournalError::Gap { .. })));
        assert!(term == 1 || matches!(journal.append(&records([first], term - 2)), Err(JournalError::Fenced { .. })));
        journal.append(&records(first..first + 10, term)).unwrap();
        assert_eq!(read(&mut journal, 0).unwrap().len() as u64, term * 10);
    }
    // Also one that was not closed: its files as they were when the power went.
    let mut journal = disk.open();
    journal.append(&records([41], 4)).unwrap();
    let copy = Disk::new();
    for file in ["journal.sqlite", "journal.sqlite-wal"] {
        std::fs::copy(disk.0.path().join(file), copy.0.path().join(file)).unwrap();
    }
    let mut copied = copy.open();
    assert_eq!(read(&mut copied, 0).unwrap(), read(&mut journal, 0).unwrap());
    assert_eq!(copied.newest_term().unwrap(), Term(4));
}

#[test]
fn one_manager_at_a_time() {
    let disk = Disk::new();
    let mut first = disk.open();
    first.append(&records([1], 1)).unwrap();
    for _ in 0..2 {
        let error = SqliteJournal::open(&disk.path()).err().unwrap();
        assert!(matches!(&error, JournalError::InUse { path } if *path == disk.path()), "{error}");
        assert!(error.to_string().contains("in use by another manager"), "{error}");
    }
    first.append(&records([2], 1)).unwrap();
    drop(first);
    assert_eq!(read(&mut disk.open(), 0).unwrap().len(), 2);
}

#[test]
fn a_record_that_cannot_be_read_is_named() {
    let table = [
        ("update journal set version = 1 where seq = 3", "version 1, and this program knows version 2"),
        ("update journal set version = 3 where seq = 3", "version 3, and this program knows version 2"),
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
        disk.open().append(&records(1..=5, 1)).unwrap();
        disk.execute(sql);
        let mut journal = disk.open();
        let mut before = Vec::new();
        let result = journal.read(Seq(0), &mut |record| {
            before.push(record);
            Ok(())
        });
        let Err(JournalError::Unreadable { seq: Seq(3), why }) = &result else { panic!("{sql}: {result:?}") };
        assert!(why.contains(said), "{sql}: {why}");
        assert_eq!(before, records(1..=2, 1), "{sql}");
        // Who reads on behind it reads what is good.
        assert_eq!(read(&mut journal, 3).unwrap(), records(4..=5, 1), "{sql}");
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
    disk.open().append(&[record(1, 9), record(2, 9)]).unwrap();
    let db = Connection::open(disk.path()).unwrap();
    let row = |seq: i64| {
        db.query_row("select version, term, at, kind, record from journal where seq = ?", [seq], |row| {
            Ok((row.get::<_, u32>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get(3)?, row.get(4)?))
        })
        .unwrap()
    };
    let (version, term, at, kind, text): (_, _, _, String, String) = row(2);
    assert_eq!((version, term, at, kind.as_str()), (RECORD_VERSION, 9, 1_800_000_002, "left"));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["event"], "left");
    assert_eq!(row(1).3, "arrived");
    let mode: String = db.query_row("pragma journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
}

//! The transparency log as a view of the journal: the same whatever store the journal is in, made again when it is lost, and silent
//! when the journal is another.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use legation_core::{Digest, Rejection, Seq, Term};
use legation_keys::IdentityKey;
use legation_log::{Checkpoint, SignedCheckpoint, TilePath, Tree, cose, leaf_hash, tile};
use legation_manager::{
    journal::{Journal, memory::MemoryJournal, sqlite::SqliteJournal},
    log::{Log, LogError, leaves},
};
use legation_pool::Record;

use crate::{
    journal_contract::{candidate, open},
    postgres::Postgres,
    world::{Key, Machine, World, fragment},
};

const ORIGIN: &str = "log.example/tests";

/// What a pool writes in which three tasks run.
fn records() -> Vec<Record> {
    records_of(&["one", "two", "three"])
}

/// Another journal, and more of it.
fn others() -> Vec<Record> {
    records_of(&["else", "two", "three", "four"])
}

fn records_of(tasks: &[&str]) -> Vec<Record> {
    let mut world = World::new([Machine::new("a"), Machine::new("b")]);
    for name in tasks {
        let task = world.submit_granted(vec![fragment(name)]);
        let (lease, _) = world.lease(task, 0).unwrap();
        if !world.pool.leases()[&lease].offered {
            world.grant(lease, &Key::new("client"));
        }
        world.run(lease);
    }
    world.records.clone()
}

/// Every digest once, in the order of the records.
fn expected(records: &[Record]) -> (Vec<Digest>, Tree) {
    let (mut seen, mut all, mut tree) = (BTreeSet::new(), Vec::new(), Tree::new());
    for leaf in records.iter().flat_map(|record| leaves(&record.event)) {
        if seen.insert(leaf) {
            tree.append(leaf.as_bytes()).unwrap();
            all.push(leaf);
        }
    }
    (all, tree)
}

fn fill(journal: &mut dyn Journal, records: &[Record]) {
    let term = journal.claim(&candidate("before"), Duration::ZERO).unwrap();
    assert_eq!(term, Term(1));
    journal.append(term, Seq(0), records).unwrap();
}

fn memory(records: &[Record]) -> MemoryJournal {
    let mut journal = MemoryJournal::default();
    fill(&mut journal, records);
    journal
}

fn start(folder: &Path, journal: &mut dyn Journal) -> Log {
    start_by(&folder.join("log.key"), folder, journal).unwrap()
}

/// With the key, and so its mark, somewhere else than the data.
fn start_by(key_file: &Path, folder: &Path, journal: &mut dyn Journal) -> Result<Log, LogError> {
    Log::start(folder, ORIGIN, key_file, Arc::new(key()), journal.archive().unwrap())
}

fn key() -> IdentityKey {
    IdentityKey::from_seed([7; 32])
}

/// Waits until the log says that its journal is another than the one that was signed.
fn refuses(log: &Log) -> Rejection {
    refuses_by(log, "log.journal")
}

/// Waits until the log says that this check fails.
fn refuses_by(log: &Log, check: &str) -> Rejection {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let now = log.checkpoint();
        if let Err(why) = &now
            && why.check == check
        {
            return why.clone();
        }
        assert!(Instant::now() < deadline, "no {check}: {now:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the log has this many entries.
fn settled(log: &Log, size: u64) -> Arc<SignedCheckpoint> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let now = log.checkpoint();
        if let Ok(checkpoint) = &now
            && checkpoint.checkpoint().size == size
        {
            return checkpoint.clone();
        }
        assert!(Instant::now() < deadline, "{size} entries are not there: {now:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until it says so of a log that is as large as what was signed.
fn past_is_another(log: &Log) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !refuses(log).claim.contains("past of") {
        assert!(Instant::now() < deadline, "{:?}", log.checkpoint());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn one_journal_has_one_log_in_whatever_store_it_is() {
    let records = records();
    let (all, tree) = expected(&records);
    assert!(all.len() > 10, "{} statements", all.len());
    let dir = tempfile::tempdir().unwrap();
    let folder = |name: &str| {
        let folder = dir.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    };
    let check = |name: &str, journal: &mut dyn Journal| {
        let log = start(&folder(name), journal);
        let checkpoint = settled(&log, all.len() as u64);
        assert_eq!(checkpoint.checkpoint().root, tree.root(), "{name}");
        checkpoint.note().to_string()
    };
    let one = check("memory", &mut memory(&records));
    let mut sqlite = SqliteJournal::open(&folder("sqlite-journal").join("journal.sqlite")).unwrap();
    fill(&mut sqlite, &records);
    assert_eq!(check("sqlite", &mut sqlite), one, "the same to the signature");
    if let Some(postgres) = Postgres::start() {
        let mut journal = open(&postgres.database("log"));
        fill(&mut journal, &records);
        assert_eq!(check("postgres", &mut journal), one);
    }
}

#[test]
fn it_follows_a_journal_that_grows_and_is_made_again_when_it_is_lost() {
    let records = records();
    let (all, tree) = expected(&records);
    let half = records.len() / 2;
    let before = expected(&records[..half]).0.len() as u64;
    let dir = tempfile::tempdir().unwrap();
    let mut journal = memory(&records[..half]);
    let log = start(dir.path(), &mut journal);
    let early = settled(&log, before);
    journal.append(Term(1), Seq(half as u64), &records[half..]).unwrap();
    let late = settled(&log, all.len() as u64);
    assert_eq!(late.checkpoint().root, tree.root());
    let proof = log.consistency(before, None).unwrap();
    proof.verify(&early.checkpoint().root, &late.checkpoint().root).unwrap();
    assert_eq!(log.checkpoint_at(before).unwrap().note(), early.note(), "what was signed once is signed again");
    drop(log);
    // Stopped and started: nothing is signed anew.
    let log = start(dir.path(), &mut journal);
    assert_eq!(settled(&log, all.len() as u64).note(), late.note());
    drop(log);
    // Lost: the same comes out of the journal.
    let other = tempfile::tempdir().unwrap();
    assert_eq!(settled(&start(other.path(), &mut journal), all.len() as u64).note(), late.note());
}

#[test]
fn a_journal_that_lost_its_end_is_signed_no_more() {
    let records = records();
    let all = expected(&records).0.len() as u64;
    let dir = tempfile::tempdir().unwrap();
    drop(settled(&start(dir.path(), &mut memory(&records)), all));
    let log = start(dir.path(), &mut memory(&records[..records.len() - 1]));
    refuses(&log);
    assert_eq!(log.section(&[], None).unwrap_err().check, "log.journal");
}

#[test]
fn a_journal_that_changes_its_past_while_it_runs_is_signed_no_more() {
    let (records, others) = (records(), others());
    let half = records.len() / 2;
    let (before, after) = (&records[..half], &others);
    assert!(after.len() > half && after[half - 1] != before[half - 1], "another past, and more of it");
    let dir = tempfile::tempdir().unwrap();
    let mut journal = memory(before);
    let log = start(dir.path(), &mut journal);
    let signed = settled(&log, expected(before).0.len() as u64);
    // A database went over to a copy without the last records, and others were written in their place.
    journal.damage_records(|kept| *kept = after.clone());
    refuses(&log);
    // It came back.
    journal.damage_records(|kept| *kept = records.clone());
    let whole = settled(&log, expected(&records).0.len() as u64);
    let proof = log.consistency(signed.checkpoint().size, None).unwrap();
    proof.verify(&signed.checkpoint().root, &whole.checkpoint().root).unwrap();
}

#[test]
fn a_restored_data_folder_signs_no_second_past() {
    let (records, others) = (records(), others());
    let all = expected(&records).0.len() as u64;
    assert!(expected(&others).0.len() as u64 > all);
    let keys = tempfile::tempdir().unwrap();
    let key_file = keys.path().join("log.key");
    let data = || tempfile::tempdir().unwrap();
    let first = data();
    let signed = settled(&start_by(&key_file, first.path(), &mut memory(&records)).unwrap(), all);
    let mark = std::fs::read_to_string(keys.path().join("log.key.last")).unwrap();
    assert_eq!(mark, signed.note().to_string(), "what was given out was noted beside the key");

    // An old copy of the journal in an empty folder: nothing but the mark knows of more.
    let (second, half) = (data(), records.len() / 2);
    let mut journal = memory(&others[..half]);
    let log = start_by(&key_file, second.path(), &mut journal).unwrap();
    let why = refuses(&log);
    assert!(why.expected.contains(&format!("{all} entries")), "{why}");
    // It goes on, past the size that was signed.
    journal.append(Term(1), Seq(half as u64), &others[half..]).unwrap();
    past_is_another(&log);
    drop(log);
    assert_eq!(std::fs::read_to_string(keys.path().join("log.key.last")).unwrap(), mark, "nothing was signed");

    // The right journal, and the log is made again.
    let third = data();
    let again = settled(&start_by(&key_file, third.path(), &mut memory(&records)).unwrap(), all);
    assert_eq!(again.note(), signed.note());
}

#[test]
fn a_mark_that_is_not_of_this_log_stops_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = memory(&records());
    for text in ["", "no note", "log.example/tests\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n"] {
        std::fs::write(dir.path().join("log.key.last"), text).unwrap();
        let started = start_by(&dir.path().join("log.key"), dir.path(), &mut journal);
        let why = started.map(drop).unwrap_err().refusal();
        assert_eq!(why.check, "log.mark", "{text:?}");
    }
}

#[test]
fn a_larger_checkpoint_that_somebody_shows_binds_it() {
    let records = records();
    let (all, tree) = expected(&records);
    let (half, whole) = (records.len() / 2, all.len() as u64);
    let dir = tempfile::tempdir().unwrap();
    let mut journal = memory(&records[..half]);
    let log = start(dir.path(), &mut journal);
    settled(&log, expected(&records[..half]).0.len() as u64);
    let larger = |root| Checkpoint { origin: ORIGIN.to_owned(), size: whole, root };
    let stranger = larger(tree.root()).sign(&IdentityKey::from_seed([8; 32])).unwrap();
    assert_eq!(log.shown(&stranger.note().to_string()).unwrap_err().check, "log.checkpoint");
    let shown = larger(tree.root()).sign(&key()).unwrap();
    log.shown(&shown.note().to_string()).unwrap();
    // Nobody adds to the journal: it lost what was signed.
    refuses(&log);
    journal.append(Term(1), Seq(half as u64), &records[half..]).unwrap();
    assert_eq!(settled(&log, whole).note(), shown.note());
    // The same about another past.
    drop(log);
    let dir = tempfile::tempdir().unwrap();
    let mut journal = memory(&records[..half]);
    let log = start(dir.path(), &mut journal);
    settled(&log, expected(&records[..half]).0.len() as u64);
    log.shown(&larger(Digest::of(b"another past")).sign(&key()).unwrap().note().to_string()).unwrap();
    refuses(&log);
    journal.append(Term(1), Seq(half as u64), &records[half..]).unwrap();
    past_is_another(&log);
}

#[test]
fn a_checkpoint_that_cannot_be_noted_is_not_forgotten() {
    let records = records();
    let whole = expected(&records).0.len() as u64;
    let half = records.len() / 2;
    let dir = tempfile::tempdir().unwrap();
    let mut journal = memory(&records[..half]);
    let log = start(dir.path(), &mut journal);
    settled(&log, expected(&records[..half]).0.len() as u64);
    // The mark is written aside first, where now something else is.
    let aside = dir.path().join("log.key.last.new");
    std::fs::create_dir(&aside).unwrap();
    let other = Checkpoint { origin: ORIGIN.to_owned(), size: whole, root: Digest::of(b"another past") };
    let other = other.sign(&key()).unwrap().note().to_string();
    log.shown(&other).unwrap();
    refuses_by(&log, "log.mark");
    journal.append(Term(1), Seq(half as u64), &records[half..]).unwrap();
    // There is room again: what was shown is noted before anything else is signed.
    std::fs::remove_dir(&aside).unwrap();
    past_is_another(&log);
    assert_eq!(std::fs::read_to_string(dir.path().join("log.key.last")).unwrap(), other, "nothing else was signed");
}

/// Turns one bit of the first hash of the log's file.
fn rot(folder: &Path) {
    let file = rusqlite::Connection::open(folder.join("log.sqlite")).unwrap();
    let select = "select bytes from tile where level = 0 and number = 0";
    let mut bytes: Vec<u8> = file.query_row(select, [], |row| row.get(0)).unwrap();
    bytes[0] ^= 1;
    file.execute("update tile set bytes = ? where level = 0 and number = 0", [bytes]).unwrap();
}

#[test]
fn a_tile_that_is_wrong_does_not_become_a_second_past() {
    let records = records();
    let (all, tree) = expected(&records);
    let dir = tempfile::tempdir().unwrap();
    let mut journal = memory(&records);
    let log = start(dir.path(), &mut journal);
    let latest = settled(&log, all.len() as u64);
    rot(dir.path());
    for size in 1..all.len() as u64 {
        let why = log.checkpoint_at(size).unwrap_err();
        assert!(why.check == "log.store" && why.got.contains("hold together"), "{size}: {why}");
    }
    assert_eq!(log.checkpoint_at(all.len() as u64).unwrap().note(), latest.note(), "the latest is not made of tiles");
    assert_eq!(log.cose(&all[1]).unwrap_err().check, "log.store");
    drop(log);
    // Nor is anything signed that grows out of it.
    let again = start_by(&dir.path().join("log.key"), dir.path(), &mut journal);
    assert!(matches!(again.map(drop), Err(LogError::Damaged(_))));
    // Without the file the same is made again.
    let other = tempfile::tempdir().unwrap();
    let made = start_by(&dir.path().join("log.key"), other.path(), &mut journal).unwrap();
    assert_eq!(settled(&made, all.len() as u64).checkpoint().root, tree.root());
}

#[test]
fn a_section_names_each_statement_once() {
    let records = records();
    let all = expected(&records).0;
    let dir = tempfile::tempdir().unwrap();
    let log = start(dir.path(), &mut memory(&records));
    settled(&log, all.len() as u64);
    let section = log.section(&all, None).unwrap();
    assert!(section.proofs.iter().all(Option::is_some));
    assert_eq!(log.section(&all[..2], Some(1)).unwrap().proofs[1], None, "not yet then");
    assert_eq!(log.section(&[all[0], all[1], all[0]], None).unwrap_err().check, "log.proofs");
}

#[test]
fn every_statement_is_proved_and_nothing_else() {
    let records = records();
    let (all, _) = expected(&records);
    let dir = tempfile::tempdir().unwrap();
    let log = start(dir.path(), &mut memory(&records));
    let checkpoint = settled(&log, all.len() as u64);
    let root = checkpoint.checkpoint().root;
    for (position, digest) in all.iter().enumerate() {
        let proof = log.inclusion(digest, None).unwrap();
        assert_eq!(proof.index, position as u64);
        proof.verify(&leaf_hash(digest.as_bytes()), &root).unwrap();
        let receipt = log.cose(digest).unwrap();
        cose::verify(&receipt, digest.as_bytes(), &log.public_key()).unwrap();
    }
    let stranger = Digest::of(b"never said");
    assert_eq!(log.inclusion(&stranger, None).unwrap_err().check, "log.unknown");
    let last = all.last().unwrap();
    assert_eq!(log.inclusion(last, Some(all.len() as u64 - 1)).unwrap_err().check, "log.unknown", "not yet then");
    assert_eq!(log.inclusion(last, Some(all.len() as u64 + 1)).unwrap_err().check, "log.size");
    assert_eq!(log.consistency(all.len() as u64 + 1, None).unwrap_err().check, "log.size");

    let path = |text: String| text.parse::<TilePath>().unwrap();
    let entries = log.tile(path(format!("tile/entries/000.p/{}", all.len()))).unwrap().unwrap();
    let digests: Vec<&[u8]> = all.iter().map(|digest| &digest.as_bytes()[..]).collect();
    assert_eq!(tile::entries(&entries).unwrap(), digests);
    let hashes = log.tile(path(format!("tile/0/000.p/{}", all.len()))).unwrap().unwrap();
    assert_eq!(hashes[..32], leaf_hash(all[0].as_bytes()).as_bytes()[..]);
    assert_eq!(log.tile(path(format!("tile/0/000.p/{}", all.len() + 1))), Ok(None));
    assert_eq!(log.tile(path("tile/0/000".to_owned())), Ok(None));
    assert_eq!(log.tile(path("tile/7/x001/000".to_owned())), Ok(None));
}

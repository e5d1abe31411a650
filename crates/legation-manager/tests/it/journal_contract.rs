//! The contract of a journal, held against every store: memory, SQLite, PostgreSQL.
//!
//! Each store has a clock that the tests move, but PostgreSQL: there they wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use legation_core::{Digest, EnclaveId, Seq, Term, UnixTime};
use legation_manager::journal::{
    Advertised, Candidate, Journal, JournalError, Snapshots,
    memory::MemoryJournal,
    migrate::{MigrateError, migrate, sum},
    postgres::{PostgresJournal, PostgresSettings},
    sqlite::SqliteJournal,
};
use legation_pool::{Event, RECORD_VERSION, Record};

use crate::postgres::Postgres;

/// How long terms of these tests last.
const TTL: Duration = Duration::from_millis(400);

/// A record about nothing in particular, told apart by its position.
pub(crate) fn record(seq: u64, term: u64) -> Record {
    let enclave = EnclaveId::new(Digest::of(&seq.to_be_bytes()));
    let event = if seq.is_multiple_of(2) {
        Event::Left { enclave, why: format!("reason {seq}: \"quoted\", \n, \0, \u{1f980}, '; drop table journal") }
    } else {
        Event::Arrived { enclave }
    };
    Record { version: RECORD_VERSION, seq: Seq(seq), term: Term(term), at: UnixTime(1_800_000_000 + seq), event }
}

/// Records of these positions, of one term.
pub(crate) fn records(seqs: impl IntoIterator<Item = u64>, term: Term) -> Vec<Record> {
    seqs.into_iter().map(|seq| record(seq, term.0)).collect()
}

/// All records after a position.
pub(crate) fn read(journal: &mut dyn Journal, after: u64) -> Result<Vec<Record>, JournalError> {
    let mut found = Vec::new();
    journal.read(Seq(after), &mut |record| {
        found.push(record);
        Ok(())
    })?;
    Ok(found)
}

pub(crate) fn candidate(name: &str) -> Candidate {
    let [first, ..] = *Digest::of(name.as_bytes()).as_bytes();
    let addresses = Advertised { agents: format!("{name}.example:7001"), api: format!("https://{name}.example") };
    // The highest bit is set in some: numbers in SQL are signed.
    Candidate { name: name.to_owned(), instance: u64::from(first) << 56 | 7, addresses }
}

/// A store under test.
struct Store {
    name: &'static str,
    journal: Box<dyn Journal>,
    /// Lets time pass for it.
    pass: Box<dyn Fn(Duration)>,
}

/// One rule, and what checks it.
type Rule = (&'static str, fn(&mut Store));

/// What every store keeps.
const CONTRACT: [Rule; 10] = [
    ("what was appended is read in order", what_was_appended_is_read_in_order),
    ("a batch that leaves a gap is refused whole", a_batch_that_leaves_a_gap_is_refused_whole),
    ("a term has one holder", a_term_has_one_holder),
    ("a superseded writer is refused, whatever it does", a_superseded_writer_is_refused),
    ("expiry alone takes nothing away", expiry_alone_takes_nothing_away),
    ("a term that is given back is free at once", a_term_that_is_given_back_is_free_at_once),
    ("a reader that has enough stops", a_reader_that_has_enough_stops),
    ("snapshots are kept, the newest two", snapshots_are_kept),
    ("what is in doubt is settled", what_is_in_doubt_is_settled),
    ("single records are read beside", single_records_are_read_beside),
];

fn clock() -> (Arc<AtomicU64>, Arc<dyn Fn() -> Duration + Send + Sync>) {
    let now = Arc::new(AtomicU64::new(1_000_000));
    let shared = now.clone();
    (now, Arc::new(move || Duration::from_millis(shared.load(Ordering::SeqCst))))
}

fn pass(now: Arc<AtomicU64>) -> Box<dyn Fn(Duration)> {
    Box::new(move |time| {
        now.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    })
}

#[test]
fn memory_keeps_the_contract() {
    for (what, test) in CONTRACT {
        println!("{what}");
        let (now, clock) = clock();
        test(&mut Store { name: "memory", journal: Box::new(MemoryJournal::new(clock)), pass: pass(now) });
    }
}

#[test]
fn sqlite_keeps_the_contract() {
    for (what, test) in CONTRACT {
        println!("{what}");
        let (now, clock) = clock();
        let dir = tempfile::tempdir().unwrap();
        let journal = SqliteJournal::open_with(&dir.path().join("journal.sqlite"), clock).unwrap();
        test(&mut Store { name: "sqlite", journal: Box::new(journal), pass: pass(now) });
    }
}

#[test]
fn postgres_keeps_the_contract() {
    let Some(postgres) = Postgres::start() else { return };
    for (n, (what, test)) in CONTRACT.into_iter().enumerate() {
        println!("{what}");
        let journal = open(&postgres.database(&format!("contract{n}")));
        test(&mut Store { name: "postgres", journal: Box::new(journal), pass: Box::new(std::thread::sleep) });
    }
    several_doors_of_one_server(&postgres);
    an_append_that_was_cut_off_is_settled_for_good(&postgres);
    passwords_and_versions(&postgres);
    over_tls_the_server_is_checked(&postgres);
}

pub(crate) fn open(url: &str) -> PostgresJournal {
    PostgresJournal::open(PostgresSettings::new(url, None, None).unwrap()).unwrap()
}

fn single_records_are_read_beside(store: &mut Store) {
    let journal = &mut store.journal;
    // Opened before anything is there, as a manager does.
    let mut beside = journal.archive().unwrap();
    assert_eq!(beside.records(&[Seq(1)]).unwrap(), [], "{}", store.name);
    let term = journal.claim(&candidate("writer"), TTL).unwrap();
    journal.append(term, Seq(0), &records(1..=5, term)).unwrap();
    let asked = [4, 2, 2, 9].map(Seq);
    assert_eq!(beside.records(&asked).unwrap(), records([2, 4], term), "{}: each once, in order", store.name);
    assert_eq!(beside.records(&[]).unwrap(), [], "{}", store.name);
    // Whoever reads keeps nobody from writing, and sees what was written since.
    journal.append(term, Seq(5), &records(6..=9, term)).unwrap();
    assert_eq!(beside.records(&asked).unwrap(), records([2, 4, 9], term), "{}", store.name);
    assert_eq!(journal.archive().unwrap().records(&[Seq(9)]).unwrap(), records([9], term), "{}", store.name);
}

fn gap(store: &str, result: Result<(), JournalError>, after: u64, got: u64) {
    let error = result.unwrap_err();
    let is = matches!(error, JournalError::Gap { after: a, got: g } if (a, g) == (Seq(after), Seq(got)));
    assert!(is, "{store}: {error}");
}

fn fenced(store: &str, result: Result<(), JournalError>, ours: Term, newest: Term) {
    let error = result.unwrap_err();
    let is = matches!(error, JournalError::Fenced { ours: o, newest: n } if (o, n) == (ours, newest));
    assert!(is, "{store}: {error}");
}

fn what_was_appended_is_read_in_order(Store { name, journal, .. }: &mut Store) {
    let head = journal.head().unwrap();
    assert_eq!((head.last, head.holder, read(&mut **journal, 0).unwrap()), (Seq(0), None, Vec::new()), "{name}");
    let one = journal.claim(&candidate("a"), TTL).unwrap();
    journal.append(one, Seq(0), &[]).unwrap();
    journal.append(one, Seq(0), &records(1..=1, one)).unwrap();
    journal.append(one, Seq(1), &records(2..=5000, one)).unwrap();
    let two = journal.claim(&candidate("a"), TTL).unwrap();
    assert_eq!((one, two), (Term(1), Term(2)), "{name}: who leads may claim again");
    journal.append(two, Seq(5000), &records(5001..=5002, two)).unwrap();
    let all: Vec<_> = records(1..=5000, one).into_iter().chain(records(5001..=5002, two)).collect();
    for after in [0, 1, 150, 2000, 4000, 5001, 5002, 10_000] {
        let wanted: Vec<_> = all.iter().filter(|r| r.seq.0 > after).cloned().collect();
        assert!(read(&mut **journal, after).unwrap() == wanted, "{name} after {after}");
    }
    for (seq, wanted) in [(0, None), (1, all.first()), (5001, all.get(5000)), (5003, None)] {
        assert_eq!(journal.record(Seq(seq)).unwrap().as_ref(), wanted, "{name} {seq}");
    }
    let head = journal.head().unwrap();
    assert_eq!((head.last, head.term()), (Seq(5002), two), "{name}");
}

fn a_batch_that_leaves_a_gap_is_refused_whole(Store { name, journal, .. }: &mut Store) {
    let term = journal.claim(&candidate("a"), TTL).unwrap();
    gap(name, journal.append(term, Seq(1), &records([2], term)), 0, 2);
    gap(name, journal.append(term, Seq(0), &records([2], term)), 0, 2);
    gap(name, journal.append(term, Seq(0), &records([0], term)), 0, 0);
    journal.append(term, Seq(0), &records(1..=3, term)).unwrap();
    gap(name, journal.append(term, Seq(4), &records([5], term)), 3, 5);
    gap(name, journal.append(term, Seq(2), &records([3], term)), 3, 3);
    gap(name, journal.append(term, Seq(0), &records([1], term)), 3, 1);
    gap(name, journal.append(term, Seq(3), &records([4, 5, 7], term)), 5, 7);
    gap(name, journal.append(term, Seq(3), &records([4, 4], term)), 4, 4);
    gap(name, journal.append(term, Seq(3), &records([5, 4], term)), 3, 5);
    // A term does not change within a batch either, nor is another's written.
    assert!(journal.append(term, Seq(3), &[record(4, term.0), record(5, term.0 + 1)]).is_err(), "{name}");
    assert!(journal.append(term, Seq(3), &[record(4, term.0 - 1)]).is_err(), "{name}");
    let other = Record { version: RECORD_VERSION + 1, ..record(4, term.0) };
    assert!(matches!(journal.append(term, Seq(3), &[other]), Err(JournalError::Unreadable { .. })), "{name}");
    assert_eq!(read(&mut **journal, 0).unwrap(), records(1..=3, term), "{name}");
    journal.append(term, Seq(3), &records([4], term)).unwrap();
}

fn a_term_has_one_holder(Store { name, journal, pass }: &mut Store) {
    let (a, b) = (candidate("a"), candidate("b"));
    let one = journal.claim(&a, TTL).unwrap();
    let holder = journal.head().unwrap().holder.unwrap();
    assert_eq!((holder.term, &holder.candidate, holder.expired), (one, &a, false), "{name}");
    let refused = journal.claim(&b, TTL).unwrap_err();
    let JournalError::Led(led) = &refused else { panic!("{name}: {refused}") };
    assert_eq!((led.term, &led.candidate), (one, &a), "{name}");
    // Another process of the same name is another.
    let twin = Candidate { instance: a.instance ^ 1, ..a.clone() };
    assert!(matches!(journal.claim(&twin, TTL), Err(JournalError::Led(_))), "{name}");
    pass(TTL / 2);
    journal.renew(one, TTL).unwrap();
    pass(TTL * 3 / 4);
    assert!(matches!(journal.claim(&b, TTL), Err(JournalError::Led(_))), "{name}: renewed in between");
    pass(TTL);
    assert!(journal.head().unwrap().holder.unwrap().expired, "{name}");
    assert_eq!(journal.claim(&b, TTL).unwrap(), Term(one.0 + 1), "{name}");
    let holder = journal.head().unwrap().holder.unwrap();
    assert_eq!((&holder.candidate, holder.expired), (&b, false), "{name}");
}

fn a_superseded_writer_is_refused(Store { name, journal, pass }: &mut Store) {
    let one = journal.claim(&candidate("a"), TTL).unwrap();
    journal.append(one, Seq(0), &records([1], one)).unwrap();
    pass(TTL * 2);
    let two = journal.claim(&candidate("b"), TTL).unwrap();
    // From the claim on, also before the first record of the new term.
    for _ in 0..2 {
        fenced(name, journal.append(one, Seq(1), &records([2], one)), one, two);
        fenced(name, journal.renew(one, TTL), one, two);
        fenced(name, journal.release(one), one, two);
        fenced(name, journal.settle(one).map(|_| ()), one, two);
    }
    journal.append(two, Seq(1), &records([2], two)).unwrap();
    fenced(name, journal.append(one, Seq(1), &records([2], one)), one, two);
    fenced(name, journal.append(one, Seq(2), &records([3], one)), one, two);
    fenced(name, journal.append(Term(9), Seq(2), &records([3], Term(9))), Term(9), two);
    let wanted: Vec<_> = records([1], one).into_iter().chain(records([2], two)).collect();
    assert_eq!(read(&mut **journal, 0).unwrap(), wanted, "{name}");
    assert!(!journal.head().unwrap().holder.unwrap().expired, "{name}: the old holder ended the new one's term");
}

fn expiry_alone_takes_nothing_away(Store { name, journal, pass }: &mut Store) {
    let one = journal.claim(&candidate("a"), TTL).unwrap();
    pass(TTL * 2);
    assert!(journal.head().unwrap().holder.unwrap().expired, "{name}");
    journal.append(one, Seq(0), &records([1], one)).unwrap();
    journal.renew(one, TTL).unwrap();
    assert!(matches!(journal.claim(&candidate("b"), TTL), Err(JournalError::Led(_))), "{name}");
    journal.append(one, Seq(1), &records([2], one)).unwrap();
}

fn a_term_that_is_given_back_is_free_at_once(Store { name, journal, .. }: &mut Store) {
    let one = journal.claim(&candidate("a"), Duration::from_secs(3600)).unwrap();
    journal.release(one).unwrap();
    let two = journal.claim(&candidate("b"), Duration::from_secs(3600)).unwrap();
    assert_eq!(two, Term(one.0 + 1), "{name}");
    fenced(name, journal.append(one, Seq(0), &records([1], one)), one, two);
}

fn a_reader_that_has_enough_stops(Store { name, journal, .. }: &mut Store) {
    let term = journal.claim(&candidate("a"), TTL).unwrap();
    journal.append(term, Seq(0), &records(1..=5, term)).unwrap();
    let mut seen = 0;
    let stopped = journal.read(Seq(0), &mut |record| {
        seen += 1;
        if record.seq == Seq(3) {
            return Err(JournalError::Unreadable { seq: record.seq, why: "enough".to_owned() });
        }
        Ok(())
    });
    assert!(matches!(stopped, Err(JournalError::Unreadable { seq: Seq(3), .. })), "{name}");
    assert_eq!(seen, 3, "{name}");
    journal.append(term, Seq(5), &records([6], term)).unwrap();
}

fn snapshots_are_kept(Store { name, journal, .. }: &mut Store) {
    assert_eq!(journal.newest_snapshot(None).unwrap(), None, "{name}");
    let bytes = |n: u8| vec![n; 3_000_000 + usize::from(n)];
    let mut door = journal.snapshots().unwrap();
    for n in 1..=4_u8 {
        door.save_snapshot(Seq(u64::from(n) * 10), &bytes(n)).unwrap();
    }
    // The same once more changes nothing.
    journal.save_snapshot(Seq(40), &bytes(4)).unwrap();
    for (before, wanted) in [(None, Some(4)), (Some(Seq(41)), Some(4)), (Some(Seq(40)), Some(3)), (Some(Seq(30)), None)]
    {
        let found = journal.newest_snapshot(before).unwrap();
        let wanted = wanted.map(|n: u8| (Seq(u64::from(n) * 10), Ok(bytes(n))));
        assert_eq!(found.map(|s| (s.seq, s.bytes)), wanted, "{name} before {before:?}");
    }
}

fn what_is_in_doubt_is_settled(Store { name, journal, .. }: &mut Store) {
    let one = journal.claim(&candidate("a"), TTL).unwrap();
    assert_eq!(journal.settle(one).unwrap(), Seq(0), "{name}");
    journal.append(one, Seq(0), &records(1..=3, one)).unwrap();
    assert_eq!(journal.settle(one).unwrap(), Seq(3), "{name}");
    journal.append(one, Seq(3), &records([4], one)).unwrap();
    assert_eq!(journal.settle(one).unwrap(), Seq(4), "{name}");
}

fn several_doors_of_one_server(postgres: &Postgres) {
    let url = postgres.database("doors");
    let (mut a, mut b) = (open(&url), open(&url));
    let one = a.claim(&candidate("a"), TTL).unwrap();
    a.append(one, Seq(0), &records(1..=2, one)).unwrap();
    assert_eq!(read(&mut b, 0).unwrap(), records(1..=2, one));
    assert!(matches!(b.claim(&candidate("b"), TTL), Err(JournalError::Led(_))));
    std::thread::sleep(TTL);
    // Both at once: one of them wins.
    let rivals: Vec<_> = (0..8)
        .map(|n| {
            let url = url.clone();
            std::thread::spawn(move || open(&url).claim(&candidate(&format!("rival {n}")), TTL).ok())
        })
        .collect();
    let won: Vec<_> = rivals.into_iter().filter_map(|rival| rival.join().unwrap()).collect();
    assert_eq!(won, [Term(one.0 + 1)]);
    fenced("postgres", a.append(one, Seq(2), &records([3], one)), one, won[0]);
    assert_eq!(b.head().unwrap().last, Seq(2));
}

/// An append that waits in the server while its manager has given up: when it is settled that it did not happen, it never does.
fn an_append_that_was_cut_off_is_settled_for_good(postgres: &Postgres) {
    let url = postgres.database("doubt");
    let mut journal = open(&url);
    let one = journal.claim(&candidate("a"), Duration::from_secs(60)).unwrap();
    journal.append(one, Seq(0), &records([1], one)).unwrap();
    // Somebody holds the row: the append waits for it in the server until its deadline.
    let mut holder = hold_row(postgres, "doubt", Duration::from_secs(4));
    std::thread::sleep(Duration::from_millis(500));
    let failed = journal.append(one, Seq(1), &records([2], one)).unwrap_err();
    assert!(matches!(failed, JournalError::Store { what: "append", .. }), "{failed}");
    let settled = loop {
        match journal.settle(one) {
            Ok(settled) => break settled,
            Err(JournalError::Store { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    };
    holder.wait().unwrap();
    // Whichever it was, it stays so.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(journal.head().unwrap().last, settled);
    journal.append(one, settled, &records([settled.0 + 1], one)).unwrap();
}

fn passwords_and_versions(postgres: &Postgres) {
    let settings =
        |password: Option<&std::path::Path>| PostgresSettings::new(&postgres.tcp_url(), password, None).unwrap();
    let mut journal = PostgresJournal::open(settings(Some(&postgres.password_file()))).unwrap();
    journal.claim(&candidate("a"), TTL).unwrap();
    let wrong = postgres.password_file().with_extension("wrong");
    std::fs::write(&wrong, "hunter2").unwrap();
    for file in [None, Some(wrong.as_path())] {
        let why = PostgresJournal::open(settings(file)).err().unwrap().to_string();
        assert!(why.contains("password") && !why.contains("hunter2"), "{why}");
    }
    let settings = PostgresSettings::new(&postgres.url_of("nowhere"), None, None).unwrap();
    let why = PostgresJournal::open(settings).err().unwrap().to_string();
    assert!(why.contains("database \"nowhere\" does not exist"), "{why}");
    postgres.query("update legation_schema set version = 7");
    let why = PostgresJournal::open(PostgresSettings::new(&postgres.url(), None, None).unwrap()).err().unwrap();
    assert!(matches!(why, JournalError::Schema { found: 7, known: 1 }), "{why}");
    postgres.query("update legation_schema set version = 1; update journal set version = 9");
    let url = postgres.database("strange");
    let mut journal = open(&url);
    let term = journal.claim(&candidate("a"), TTL).unwrap();
    journal.append(term, Seq(0), &records(1..=3, term)).unwrap();
    postgres.query_in("strange", "update journal set version = 9 where seq = 2");
    let why = read(&mut journal, 0).unwrap_err();
    assert!(
        matches!(&why, JournalError::Unreadable { seq: Seq(2), .. }) && why.to_string().contains("version 9"),
        "{why}"
    );
    postgres.query_in("strange", "update snapshot_part set bytes = '\\x00'");
}

/// Has the server speak TLS as well, with this certificate and key.
fn speak_tls(postgres: &Postgres, certificate: &str, key: &str) {
    let owned = postgres.password_file();
    for (name, text) in [("server.crt", certificate), ("server.key", key)] {
        let path = owned.with_file_name("data").join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let chown = std::process::Command::new("chown").arg("--reference").args([&owned, &path]).status();
        assert!(chown.unwrap().success());
    }
    postgres.query("alter system set ssl = on");
    postgres.query("select pg_reload_conf()");
    let begun = std::time::Instant::now();
    while postgres.query("show ssl").trim() != "on" {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", postgres.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn over_tls_the_server_is_checked(postgres: &Postgres) {
    let pem = |what: &str, der: &[u8]| {
        format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", legation_core::encoding::base64(der))
    };
    let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (ours, other) = (made(), made());
    speak_tls(postgres, &pem("CERTIFICATE", ours.cert.der()), &pem("PRIVATE KEY", &ours.signing_key.serialize_der()));
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("good.pem"), dir.path().join("bad.pem"));
    std::fs::write(&good, pem("CERTIFICATE", ours.cert.der())).unwrap();
    std::fs::write(&bad, pem("CERTIFICATE", other.cert.der())).unwrap();
    let password = postgres.password_file();
    let open = |host: &str, authorities: &std::path::Path| {
        let url = format!("{}?sslmode=require", postgres.tcp_url().replace("127.0.0.1", host));
        PostgresJournal::open(PostgresSettings::new(&url, Some(&password), Some(authorities)).unwrap())
    };
    let mut journal = open("localhost", &good).unwrap();
    journal.head().unwrap();
    let spoken = postgres.query("select count(*) from pg_stat_ssl where ssl and version = 'TLSv1.3'");
    assert!(spoken.trim().parse::<u32>().unwrap() >= 1, "{spoken}");
    for (host, authorities, said) in [("localhost", &bad, "certificate"), ("127.0.0.1", &good, "certificate")] {
        let why = open(host, authorities).err().unwrap().to_string();
        assert!(why.contains(said), "{host}: {why}");
    }
}

#[test]
fn a_damaged_snapshot_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut sqlite = SqliteJournal::open(&dir.path().join("journal.sqlite")).unwrap();
    sqlite.save_snapshot(Seq(7), b"what was saved").unwrap();
    let file = dir.path().join("snapshot-7");
    let good = std::fs::read(&file).unwrap();
    for (what, bytes) in [
        ("a bit", {
            let mut b = good.clone();
            *b.last_mut().unwrap() ^= 1;
            b
        }),
        ("cut off", good[..good.len() - 1].to_vec()),
        ("the header alone", good[..20].to_vec()),
        ("nothing", Vec::new()),
        ("another file", b"what is this?".to_vec()),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let found = sqlite.newest_snapshot(None).unwrap().unwrap();
        assert!(found.seq == Seq(7) && found.bytes.is_err(), "{what}");
    }
    std::fs::write(&file, good).unwrap();
    assert_eq!(sqlite.newest_snapshot(None).unwrap().unwrap().bytes.unwrap(), b"what was saved");
    let mut memory = MemoryJournal::default();
    memory.save_snapshot(Seq(1), b"bytes").unwrap();
    memory.damage_snapshot(Seq(1), |bytes| bytes.push(0));
    assert!(memory.newest_snapshot(None).unwrap().unwrap().bytes.is_err());
}

#[test]
fn a_journal_moves_to_another_store() {
    let Some(postgres) = Postgres::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut from = SqliteJournal::open(&dir.path().join("journal.sqlite")).unwrap();
    let one = from.claim(&candidate("a"), TTL).unwrap();
    from.append(one, Seq(0), &records(1..=1500, one)).unwrap();
    from.claim(&candidate("a"), TTL).unwrap();
    let three = from.claim(&candidate("a"), TTL).unwrap();
    from.append(three, Seq(1500), &records(1501..=2700, three)).unwrap();
    from.save_snapshot(Seq(2000), b"a pool").unwrap();

    let url = postgres.database("target");
    let mut told = Vec::new();
    let migrated = migrate(&mut from, &mut open(&url), 1, &mut |n| told.push(n)).unwrap();
    assert_eq!((migrated.sum.records, migrated.had, migrated.snapshot), (2700, 0, Some(Seq(2000))));
    assert_eq!(told, [1000, 1500, 2500, 2700]);
    let mut target = open(&url);
    assert!(read(&mut target, 0).unwrap() == read(&mut from, 0).unwrap());
    assert_eq!(sum(&mut target).unwrap(), sum(&mut from).unwrap());
    assert_eq!(target.newest_snapshot(None).unwrap().unwrap().bytes.unwrap(), b"a pool");
    // Once more: there is nothing left to do.
    let again = migrate(&mut from, &mut target, 2, &mut |_| ()).unwrap();
    assert_eq!((again.had, again.sum), (2700, migrated.sum));
    // A manager goes on from there.
    assert_eq!(target.claim(&candidate("b"), TTL).unwrap(), Term(4));
    target.append(Term(4), Seq(2700), &records([2701], Term(4))).unwrap();
    assert!(matches!(migrate(&mut from, &mut target, 3, &mut |_| ()), Err(MigrateError::Led(_))));

    // One that was interrupted in the middle of a term goes on.
    let url = postgres.database("halfway");
    let mut half = open(&url);
    let mut stopped = MemoryJournal::default();
    let first = stopped.claim(&candidate("a"), TTL).unwrap();
    stopped.append(first, Seq(0), &records(1..=900, first)).unwrap();
    migrate(&mut stopped, &mut half, 4, &mut |_| ()).unwrap();
    let went_on = migrate(&mut from, &mut open(&url), 5, &mut |_| ()).unwrap();
    assert_eq!((went_on.had, went_on.sum), (900, migrated.sum));
    // Another journal is not mixed in.
    let mut other = MemoryJournal::default();
    let term = other.claim(&candidate("a"), TTL).unwrap();
    other.append(term, Seq(0), &records(1..=10, term)).unwrap();
    let mut beside = MemoryJournal::default();
    let term = beside.claim(&Candidate { name: "migration".into(), ..candidate("a") }, TTL).unwrap();
    beside.append(term, Seq(0), &[Record { at: UnixTime(1), ..record(1, term.0) }]).unwrap();
    assert!(matches!(migrate(&mut other, &mut beside, 6, &mut |_| ()), Err(MigrateError::Other(Seq(1)))));
}

/// Has another connection hold the row of the newest term for so long.
fn hold_row(postgres: &Postgres, database: &str, time: Duration) -> std::process::Child {
    let seconds = time.as_secs_f64();
    let sql = format!("begin; select 1 from term for update; select pg_sleep({seconds}); commit");
    postgres.psql(database).args(["-c", &sql]).stdout(std::process::Stdio::null()).spawn().unwrap()
}

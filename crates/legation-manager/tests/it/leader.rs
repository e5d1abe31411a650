//! The leader as threads: what is acknowledged is durable, what is not has not happened, whatever the store does.

use std::{
    path::Path,
    process::Command as Process,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use legation_core::{Rejection, Revocable, Seq, Term, UnixTime};
use legation_manager::{
    Clock,
    journal::{Journal, Snapshots, memory::MemoryJournal, sqlite::SqliteJournal},
    leader::{Leader, Role},
    leadership::{Claimant, Timing},
    recovery::recover,
};
use legation_pool::{Command, Limits, Pool};
use tokio::runtime::Runtime;

use crate::{
    faulty::{Fault, Faulty, Next},
    journal_contract::{candidate, open, read},
    leadership::claimant,
    postgres::Postgres,
};

fn clock() -> Clock {
    Arc::new(|| UnixTime(1_800_000_100))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn start(journal: impl Journal + 'static, claimant: Claimant, snapshot_every: u64) -> Leader {
    let (limits, timing) = (Limits::default(), Timing::default());
    Leader::alone(Box::new(journal), claimant, limits, timing, snapshot_every, clock()).unwrap()
}

/// A store in memory whose time passes, and what steers it.
fn memory() -> (MemoryJournal, Fault) {
    let began = Instant::now();
    (MemoryJournal::new(Arc::new(move || began.elapsed())), Fault::default())
}

fn faulty(store: &MemoryJournal, fault: &Fault) -> Faulty {
    Faulty { inner: store.clone(), fault: fault.clone(), exclusive: false }
}

/// A command that makes one record, told apart by its number.
fn command(n: usize) -> Command {
    Command::Revoke { what: Revocable::named("chip", &format!("{n:08x}")).unwrap(), why: "a test".to_owned() }
}

/// Numbers of the commands that a pool has taken.
fn taken(pool: &Pool) -> Vec<usize> {
    let number = |r: legation_core::Revocation| match r.what {
        Revocable::Chip(name) => usize::from_str_radix(&name, 16).unwrap(),
        other => panic!("{other:?}"),
    };
    pool.revoked().list().into_iter().map(number).collect()
}

fn recovered(journal: &mut dyn Journal) -> Vec<usize> {
    taken(&recover(journal, Limits::default()).unwrap().pool)
}

/// Applies until it is taken; says how many tries were refused, and by which checks.
async fn apply_until_taken(leader: &Leader, n: usize, patience: Duration) -> Vec<String> {
    let (begun, mut refused) = (Instant::now(), Vec::new());
    loop {
        match leader.apply(command(n)).await {
            Ok(_) => return refused,
            Err(why) => {
                assert!(begun.elapsed() < patience, "{why}");
                assert!(!why.fix.is_empty(), "{why}");
                refused.push(why.check);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

#[test]
fn many_commands_share_few_syncs_and_are_all_there() {
    runtime().block_on(async {
        let (store, fault) = memory();
        fault.slow.store(3, Ordering::SeqCst);
        let leader = start(faulty(&store, &fault), claimant("a", 1000), 1_000_000);
        let all: Vec<_> = (0..600)
            .map(|n| {
                let leader = leader.clone();
                tokio::spawn(async move { leader.apply(command(n)).await.unwrap() })
            })
            .collect();
        let mut seqs = Vec::new();
        for one in all {
            seqs.push(one.await.unwrap());
        }
        seqs.sort_unstable();
        assert_eq!(seqs, (2..=601).map(Seq).collect::<Vec<_>>());
        let appends = fault.appends.load(Ordering::SeqCst);
        assert!((3..=60).contains(&appends), "{appends} appends for 600 commands");
        leader.stop().await;
        let mut numbers = recovered(&mut store.clone());
        numbers.sort_unstable();
        assert_eq!(numbers, (0..600).collect::<Vec<_>>());
        // Stopped, it gave its term back.
        assert!(store.clone().head().unwrap().holder.unwrap().expired);
        assert_eq!(leader.apply(command(999)).await.unwrap_err().check, "manager.stopping");
    });
}

#[test]
fn no_answer_comes_before_what_it_rests_on_is_durable() {
    runtime().block_on(async {
        let (store, fault) = memory();
        let leader = start(faulty(&store, &fault), claimant("a", 1000), 1_000_000);
        fault.slow.store(300, Ordering::SeqCst);
        let begun = Instant::now();
        let writer = tokio::spawn({
            let leader = leader.clone();
            async move { leader.apply(command(1)).await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        let seen = leader.ask(taken).await.unwrap();
        assert_eq!(seen, [1]);
        assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
        // A refusal may rest on it as well; nothing here waits for a second append, because there is none.
        writer.await.unwrap().unwrap();
        let appends = fault.appends.load(Ordering::SeqCst);
        assert_eq!(leader.ask(taken).await.unwrap(), [1]);
        assert_eq!(fault.appends.load(Ordering::SeqCst), appends);
    });
}

#[test]
fn a_batch_that_is_lost_has_not_happened_and_one_that_is_not_has() {
    runtime().block_on(async {
        let (store, fault) = memory();
        let leader = start(faulty(&store, &fault), claimant("a", 1000), 1_000_000);
        leader.apply(command(1)).await.unwrap();
        fault.set(Next::Lost);
        let why = leader.apply(command(2)).await.unwrap_err();
        assert_eq!(why.check, "journal.append", "{why}");
        assert!(why.got.contains("the connection is gone"), "{why}");
        apply_until_taken(&leader, 3, Duration::from_secs(5)).await;
        assert_eq!(leader.ask(taken).await.unwrap(), [1, 3]);
        fault.set(Next::Unheard);
        leader.apply(command(4)).await.unwrap();
        leader.apply(command(5)).await.unwrap();
        assert_eq!(leader.ask(taken).await.unwrap(), [1, 3, 4, 5]);
        assert_eq!(recovered(&mut store.clone()), [1, 3, 4, 5]);
        let terms: Vec<_> = read(&mut store.clone(), 0).unwrap().iter().map(|r| r.term).collect();
        assert_eq!(terms, [Term(1); 5], "it led all the time");
    });
}

#[test]
fn a_store_that_goes_away_is_waited_for_and_nothing_acknowledged_is_lost() {
    for next in [Next::LostAndAway, Next::UnheardAndAway] {
        runtime().block_on(async {
            let (store, fault) = memory();
            let leader = start(faulty(&store, &fault), claimant("a", 1000), 1_000_000);
            leader.apply(command(1)).await.unwrap();
            fault.set(next);
            let doubtful = tokio::spawn({
                let leader = leader.clone();
                async move { leader.apply(command(2)).await }
            });
            tokio::time::sleep(Duration::from_millis(300)).await;
            let why = leader.apply(command(3)).await.unwrap_err();
            assert_eq!(why.check, "journal.append", "{next:?}: {why}");
            // Beyond the term: it leads no longer, and says the same.
            tokio::time::sleep(Duration::from_millis(2500)).await;
            assert_eq!(*leader.role().borrow(), Role::Follows, "{next:?}");
            let why = leader.apply(command(3)).await.unwrap_err();
            assert_eq!(why.check, "journal.append", "{next:?}: {why}");
            assert!(!doubtful.is_finished(), "{next:?}: nothing is said before it is known");
            fault.away(false);
            let refused = apply_until_taken(&leader, 4, Duration::from_secs(10)).await;
            assert!(!refused.is_empty());
            let done = doubtful.await.unwrap();
            let wanted = if next == Next::UnheardAndAway { vec![1, 2, 4] } else { vec![1, 4] };
            assert_eq!((done.is_ok(), recovered(&mut store.clone())), (wanted.contains(&2), wanted), "{next:?}");
            assert!(matches!(*leader.role().borrow(), Role::Leads(Term(2), _)), "{next:?}");
        });
    }
}

/// Also where nobody else could lead, and so much came that the open batch was full: what comes after is refused, and it stops.
#[test]
fn a_store_that_stays_away_hangs_neither_callers_nor_the_end() {
    runtime().block_on(async {
        let (store, fault) = memory();
        let journal = Faulty { inner: store.clone(), fault: fault.clone(), exclusive: true };
        let leader = start(journal, claimant("a", 1000), 1_000_000);
        leader.apply(command(1)).await.unwrap();
        fault.set(Next::LostAndAway);
        fault.slow.store(300, Ordering::SeqCst);
        let asks = |n: usize| {
            let leader = leader.clone();
            tokio::spawn(async move { leader.apply(command(n)).await })
        };
        let doubtful = asks(2);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let behind: Vec<_> = (3..1500).map(asks).collect();
        let patience = Duration::from_secs(5);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let answer = tokio::time::timeout(patience, leader.apply(command(2000))).await;
        let why = answer.expect("it is answered").unwrap_err();
        assert_eq!(why.check, "journal.append", "{why}");
        assert!(!doubtful.is_finished(), "it may yet become known");
        tokio::time::timeout(patience, leader.stop()).await.expect("it stops");
        let why = doubtful.await.unwrap().unwrap_err();
        assert_eq!(why.check, "manager.unsettled", "{why}");
        assert!(why.got.contains("may have been written") && !why.fix.is_empty(), "{why}");
        let mut unwritten = 0;
        for one in behind {
            let why = one.await.unwrap().unwrap_err();
            assert!(matches!(why.check.as_str(), "journal.append" | "manager.unsettled"), "{why}");
            unwritten += usize::from(why.check == "journal.append");
        }
        assert!(unwritten > 256, "{unwritten}");
        assert_eq!(recovered(&mut store.clone()), [1]);
        assert_eq!(leader.apply(command(3000)).await.unwrap_err().check, "manager.stopping");
    });
}

#[test]
fn whoever_was_superseded_says_where_the_leader_is() {
    runtime().block_on(async {
        let (store, fault) = memory();
        let leader = start(faulty(&store, &fault), claimant("a", 1000), 1_000_000);
        leader.apply(command(1)).await.unwrap();
        // It sleeps, and another claims.
        fault.away(true);
        tokio::time::sleep(Duration::from_millis(2100)).await;
        // Its term would last longer than anything here is waited for.
        let timing = Timing { ttl: Duration::from_secs(300), ..Timing::default() };
        let claims = claimant("b", 1000);
        let other =
            Leader::alone(Box::new(store.clone()), claims, Limits::default(), timing, 1_000_000, clock()).unwrap();
        fault.away(false);
        let begun = Instant::now();
        let why = loop {
            let why = leader.apply(command(2)).await.unwrap_err();
            // For a moment nobody leads.
            if why.check == "manager.standby" && !why.got.is_empty() {
                break why;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert!(begun.elapsed() < Duration::from_secs(5), "{why}");
        };
        assert_eq!(why.got, "https://b.example", "{why}");
        assert!(leader.ask(taken).await.is_err());
        assert_eq!(leader.elsewhere().unwrap(), candidate("b").addresses);
        other.apply(command(3)).await.unwrap();
        let mut view = leader.view();
        while view.seq < 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            view = leader.view();
        }
        assert_eq!((view.role.as_str(), view.term, view.lag_records), ("follows", 2, 0), "{view:?}");
        assert_eq!(view.leader.unwrap().name, "b");
        // The other goes, and gives its term back; this one takes over at once.
        other.stop().await;
        apply_until_taken(&leader, 4, Duration::from_secs(30)).await;
        assert_eq!(recovered(&mut store.clone()), [1, 3, 4]);
    });
}

#[test]
fn snapshots_are_taken_and_read() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.sqlite");
        let leader = start(SqliteJournal::open(&path).unwrap(), claimant("a", 1000), 10);
        for n in 0..35 {
            leader.apply(command(n)).await.unwrap();
        }
        let begun = Instant::now();
        while leader.view().snapshot.is_none_or(|seq| seq < 30) {
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", leader.view());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        leader.stop().await;
        // The lock goes with the threads.
        let mut again = loop {
            match SqliteJournal::open(&path) {
                Ok(journal) => break journal,
                Err(why) => assert!(begun.elapsed() < Duration::from_secs(20), "{why}"),
            }
        };
        let newest = again.newest_snapshot(None).unwrap().unwrap();
        assert!(newest.seq.0 >= 30 && newest.bytes.is_ok());
        assert_eq!(again.newest_snapshot(Some(newest.seq)).unwrap().unwrap().bytes.map(|_| ()), Ok(()));
        let found = recover(&mut again, Limits::default()).unwrap();
        assert_eq!((found.snapshot, taken(&found.pool).len()), (Some(newest.seq), 35));
    });
}

/// A file system of 2 MiB, gone with the value.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Process::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            other => {
                eprintln!("SKIPPED: no small file system can be mounted here: {other:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Process::new("umount").arg("-l").arg(self.path()).output();
    }
}

#[test]
fn a_full_disk_stops_it_and_room_lets_it_go_on() {
    let Some(disk) = Small::mount() else { return };
    runtime().block_on(async {
        let path = disk.path().join("journal.sqlite");
        let leader = start(SqliteJournal::open(&path).unwrap(), claimant("a", 1000), 1_000_000);
        leader.apply(command(0)).await.unwrap();
        let ballast = disk.path().join("ballast");
        // Ends when the disk is full.
        let _ = std::fs::write(&ballast, vec![1; 4 << 20]);
        let (mut acknowledged, mut why) = (vec![0], None);
        for n in 1..2000 {
            match leader.apply(command(n)).await {
                Ok(_) => acknowledged.push(n),
                Err(refusal) => {
                    why = Some(refusal);
                    break;
                }
            }
        }
        let why: Rejection = why.expect("a full disk takes everything");
        assert_eq!(why.check, "journal.append", "{why}");
        assert!(why.got.contains("full") && why.fix.contains("free space"), "{why}");
        // It still leads, answers what it knows, and says what is wrong.
        assert!(leader.view().trouble.is_some_and(|trouble| trouble.contains("full")));
        let begun = Instant::now();
        let seen = loop {
            match leader.ask(taken).await {
                Ok(seen) => break seen,
                Err(_) => assert!(begun.elapsed() < Duration::from_secs(5)),
            }
        };
        assert_eq!(seen, acknowledged);
        for n in 3000..3003 {
            assert!(leader.apply(command(n)).await.is_err());
        }
        std::fs::remove_file(&ballast).unwrap();
        let refused = apply_until_taken(&leader, 5000, Duration::from_secs(10)).await;
        assert!(refused.iter().all(|check| check == "journal.append"), "{refused:?}");
        acknowledged.push(5000);
        assert_eq!(leader.ask(taken).await.unwrap(), acknowledged);
        leader.stop().await;
        let begun = Instant::now();
        let mut journal = loop {
            match SqliteJournal::open(&path) {
                Ok(journal) => break journal,
                Err(why) => assert!(begun.elapsed() < Duration::from_secs(20), "{why}"),
            }
        };
        assert_eq!(recovered(&mut journal), acknowledged);
    });
}

#[test]
fn a_database_that_is_stopped_is_waited_for() {
    let Some(mut postgres) = Postgres::start() else { return };
    let runtime = runtime();
    let leader = start(open(&postgres.url()), claimant("a", 1000), 20);
    let mut acknowledged: Vec<usize> = Vec::new();
    let mut n = 0;
    for round in 0..2 {
        // Somebody writes all the time while the server stops and comes back. What is being written when it stops may be refused, or
        // acknowledged once it is back: either is the truth.
        let (written, back) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let writer = runtime.spawn({
            let (leader, from, written, back) = (leader.clone(), n, written.clone(), back.clone());
            async move {
                let (mut done, mut refused) = (Vec::new(), Vec::new());
                for n in from.. {
                    let begun_after = back.load(Ordering::SeqCst);
                    match leader.apply(command(n)).await {
                        Ok(_) => done.push(n),
                        Err(why) => {
                            refused.push(why);
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }
                    written.store(done.len(), Ordering::SeqCst);
                    if begun_after && done.last() == Some(&n) {
                        return (done, refused, n + 1);
                    }
                }
                unreachable!()
            }
        });
        let patience = Instant::now();
        while written.load(Ordering::SeqCst) < 20 {
            assert!(patience.elapsed() < Duration::from_secs(60), "round {round}: too few are acknowledged");
            std::thread::sleep(Duration::from_millis(5));
        }
        postgres.stop_immediately();
        std::thread::sleep(Duration::from_millis([300, 4000][round]));
        postgres.restart();
        back.store(true, Ordering::SeqCst);
        let bounded = async { tokio::time::timeout(Duration::from_secs(60), writer).await };
        let (done, refused, next) = runtime.block_on(bounded).expect("it is written again").unwrap();
        for why in &refused {
            assert!(matches!(why.check.as_str(), "journal.append" | "manager.standby"), "{why}");
            assert!(!why.fix.is_empty(), "{why}");
        }
        acknowledged.extend(done);
        n = next;
        // What was refused is not there, what was acknowledged is.
        assert_eq!(recovered(&mut open(&postgres.url())), acknowledged, "round {round}");
    }
    runtime.block_on(leader.stop());
}

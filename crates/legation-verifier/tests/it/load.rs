//! What verification costs. Ignored: figures mean something in a release build alone.
//!
//! `cargo test --release -p legation-verifier --test it load -- --ignored --nocapture`

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use legation_attest::challenge::join;
use legation_core::Digest;
use legation_verifier::Door;

use crate::world::{Hand, Made, NOW, evidence, remote, serve, url, verifier};

/// CPU time of this process so far: user and system, in clock ticks of 10 ms (proc(5)).
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|i| fields[*i].parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// 10,000 passports of ten minutes, each renewed once within those ten minutes of a clock that is turned by hand. The
/// agents' own work (evidence) is made beforehand and not counted.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn renewing_ten_thousand_passports_in_ten_minutes_costs_under_a_twentieth_of_a_core() {
    const PASSPORTS: u64 = 10_000;
    const SECONDS: u64 = 600;
    let hand = Hand::at(NOW);
    let local = verifier(Made::default(), &hand);
    let mut used = Duration::ZERO;
    let mut done = 0;
    for second in 0..SECONDS {
        hand.set(NOW.plus(second));
        let now = PASSPORTS * (second + 1) / SECONDS - done;
        let mut answers = Vec::new();
        for _ in 0..now {
            let challenge = local.challenge().await.unwrap();
            answers.push((Arc::new(evidence(join(&[challenge]))), challenge));
        }
        let before = cpu_fine();
        for (evidence, challenge) in answers {
            local.verify(evidence, vec![challenge]).await.unwrap();
        }
        used += cpu_fine() - before;
        done += now;
    }
    let share = used.as_secs_f64() / SECONDS as f64;
    println!("{done} renewals in {SECONDS} s: {used:.2?} of CPU, {:.2} % of a core", share * 100.0);
    assert_eq!(done, PASSPORTS);
    assert!(share < 0.05, "{share}");
}

/// Finer than ticks: what the scheduler counted, in nanoseconds, over all threads.
fn cpu_fine() -> Duration {
    let mut nanos = 0_u64;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        nanos += text.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or_default();
    }
    Duration::from_nanos(nanos)
}

/// Verifications by HTTP with cached chains: 32 clients on keep-alive connections in this same process.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn verifications_by_http() {
    const CLIENTS: usize = 32;
    const EACH: usize = 250;
    let hand = Hand::at(NOW);
    let local = verifier(Made::default(), &hand);
    let base = url(serve(&local).await);
    let door = Arc::new(remote(&local, &[base]));
    let challenge: Digest = door.challenge().await.unwrap();
    let made = Arc::new(evidence(join(&[challenge])));
    door.verify(Arc::clone(&made), vec![challenge]).await.unwrap();
    let (began, used) = (Instant::now(), cpu());
    let failed = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (door, made, failed) = (Arc::clone(&door), Arc::clone(&made), Arc::clone(&failed));
            tokio::spawn(async move {
                for _ in 0..EACH {
                    if door.verify(Arc::clone(&made), vec![challenge]).await.is_err() {
                        failed.fetch_add(1, SeqCst);
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let (took, total) = (began.elapsed(), CLIENTS * EACH);
    println!(
        "{total} verifications by HTTP in {took:.2?}: {:.0} per second, {:.0} per second of CPU (server and clients)",
        total as f64 / took.as_secs_f64(),
        total as f64 / (cpu() - used).as_secs_f64(),
    );
    assert_eq!(failed.load(SeqCst), 0);
}

//! What a channel costs: attested connections per second, control messages, and bulk data against bare TLS.
//!
//! Both ends run in this process, over the loopback, in one runtime of two threads; so CPU time is that of both ends together.
//! Bulk rounds alternate between the bare connection and the channel, because a shared machine has good and bad seconds; the
//! medians count. The bare connection is tokio-rustls with the very same TLS configuration, written and read 64 KiB at a time.
//! The result is JSON on standard output.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that fails should stop")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use legation_net::{Incoming, StreamId, frame::DATA_MAX, tls::TlsIdentity};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[path = "../tests/it/world.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod world;

use world::{World, key, listen, pair};

/// Bytes of one bulk round.
const BULK: usize = 2_000_000_000 / DATA_MAX * DATA_MAX;
const ROUNDS: usize = 7;
const CONNECTIONS: usize = 400;
const CONCURRENT: usize = 8;
const MESSAGES: usize = 300_000;
const ECHOES: usize = 5_000;

/// CPU time of this process, user and system (proc(5): fields 14 and 15 of `stat`, in hundredths of a second).
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 = after_name.split_ascii_whitespace().skip(11).take(2).map(|f| f.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

struct Spent {
    wall: Duration,
    cpu: Duration,
}

async fn spent(work: impl Future<Output = ()>) -> Spent {
    let (wall, before) = (Instant::now(), cpu());
    work.await;
    Spent { wall: wall.elapsed(), cpu: cpu() - before }
}

impl Spent {
    fn mb_per_s(&self) -> f64 {
        BULK as f64 / 1e6 / self.wall.as_secs_f64()
    }

    fn cpu_ms_per_gb(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e3 / (BULK as f64 / 1e9)
    }
}

async fn connections(concurrent: usize) -> Value {
    let world = World::new();
    let (mut listener, address) = listen(world.manager()).await;
    let agent = Arc::new(world.agent());
    let accepting = tokio::spawn(async move {
        while let Some(arrival) = listener.accept().await {
            let channel = arrival.channel.unwrap();
            tokio::spawn(async move { channel.sender().closed().await });
        }
    });
    let spent = spent(async {
        let mut diallers = tokio::task::JoinSet::new();
        for _ in 0..concurrent {
            let agent = agent.clone();
            diallers.spawn(async move {
                for _ in 0..CONNECTIONS / concurrent {
                    drop(agent.connect(address, None).await.unwrap());
                }
            });
        }
        while let Some(done) = diallers.join_next().await {
            done.unwrap();
        }
    })
    .await;
    accepting.abort();
    json!({
        "concurrent": concurrent,
        "per_second": (CONNECTIONS as f64 / spent.wall.as_secs_f64()).round(),
        "cpu_ms_each": spent.cpu.as_secs_f64() * 1e3 / CONNECTIONS as f64,
    })
}

async fn bare() -> Spent {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = (TlsIdentity::new(key(1)).unwrap(), TlsIdentity::new(key(2)).unwrap());
    let accepting = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        TlsAcceptor::from(far.server()).accept(tcp).await.unwrap()
    });
    let tcp = TcpStream::connect(address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let mut tls = TlsConnector::from(near.client()).connect(ServerName::try_from("x").unwrap(), tcp).await.unwrap();
    let mut far = accepting.await.unwrap();
    spent(async move {
        let reading = tokio::spawn(async move {
            let (mut buffer, mut got) = (vec![0; DATA_MAX], 0);
            while got < BULK {
                got += far.read(&mut buffer).await.unwrap();
            }
            assert_eq!(got, BULK);
            far
        });
        let writing = tokio::spawn(async move {
            let piece = vec![7; DATA_MAX];
            for _ in 0..BULK / DATA_MAX {
                tls.write_all(&piece).await.unwrap();
            }
            tls.flush().await.unwrap();
            tls
        });
        drop((reading.await.unwrap(), writing.await.unwrap()));
    })
    .await
}

async fn channel() -> Spent {
    let world = World::new();
    let (near, far) = pair(&world.agent(), world.manager()).await;
    let ((near, _near_receiver), (_far_sender, mut far)) = (near.split(), far.split());
    spent(async move {
        let reading = tokio::spawn(async move {
            let mut got = 0;
            while got < BULK {
                let Incoming::Data { bytes, .. } = far.recv().await.unwrap() else { panic!("not data") };
                got += bytes.len();
            }
            far
        });
        let writing = tokio::spawn(async move {
            let piece = Bytes::from(vec![7; DATA_MAX]);
            for _ in 0..BULK / DATA_MAX {
                near.send_data(StreamId(1), piece.clone(), false).await.unwrap();
            }
            near
        });
        drop((reading.await.unwrap(), writing.await.unwrap()));
    })
    .await
}

async fn control() -> Value {
    let world = World::new();
    let (near, far) = pair(&world.agent(), world.manager()).await;
    let ((near, mut near_receiver), (far_sender, mut far)) = (near.split(), far.split());
    let message = json!({ "say": "present", "with": "x".repeat(100) });
    let sent = spent(async {
        let sending = async {
            for _ in 0..MESSAGES {
                near.send_control(&message).await.unwrap();
            }
        };
        let receiving = async {
            for _ in 0..MESSAGES {
                far.recv().await.unwrap();
            }
        };
        tokio::join!(sending, receiving);
    })
    .await;
    let echo = tokio::spawn(async move {
        while far.recv().await.is_ok() {
            far_sender.send_control("pong").await.unwrap();
        }
    });
    let mut micros = Vec::with_capacity(ECHOES);
    for _ in 0..ECHOES {
        let begun = Instant::now();
        near.send_control("ping").await.unwrap();
        near_receiver.recv().await.unwrap();
        micros.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    echo.abort();
    json!({
        "messages_per_second": (MESSAGES as f64 / sent.wall.as_secs_f64()).round(),
        "cpu_us_each": sent.cpu.as_secs_f64() * 1e6 / MESSAGES as f64,
        "echo_us_p50": median(micros),
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn summary(rounds: &[Spent]) -> (f64, Value) {
    let cpu = median(rounds.iter().map(Spent::cpu_ms_per_gb).collect());
    let mb = median(rounds.iter().map(Spent::mb_per_s).collect());
    let all: Vec<_> = rounds.iter().map(|r| r.cpu_ms_per_gb().round()).collect();
    (cpu, json!({ "mb_per_second": mb.round(), "cpu_ms_per_gb": cpu.round(), "cpu_ms_per_gb_rounds": all }))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let opened = [connections(1).await, connections(CONCURRENT).await];
    let control = control().await;
    let (mut plain, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plain.push(bare().await);
        ours.push(channel().await);
    }
    let ((plain_cpu, plain), (ours_cpu, ours)) = (summary(&plain), summary(&ours));
    let report = json!({
        "connections": opened,
        "control": control,
        "bulk": { "bytes_per_round": BULK, "bare_tls": plain, "channel": ours, "cpu_ratio": ours_cpu / plain_cpu },
    });
    println!("{report:#}");
}

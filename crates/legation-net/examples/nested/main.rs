//! `cargo xtask bench nested`: what a channel costs that is carried over another one, beside that one alone.
//!
//! Both ends run in this process, over the loopback, in one runtime of two threads. Rounds alternate between one channel and one
//! within another, because a shared machine has good and bad seconds; the medians count.
//! * `loopback`: as much as the processor lets through: everything is encrypted and decrypted twice, and nothing but that is waited for;
//! * `line`: the same over a line of 1 Gbit/s: what is left there are the bytes of the inner channel's records and frames;
//! * `round_trip`: a control message and its answer, over the loopback;
//! * `aes`: AES-256-GCM alone, sealed and opened once and twice: what encrypting twice costs at the least.
//!
//! Prints one JSON object; `--smoke` makes all of it small.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that fails should stop")]

use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use legation_net::{Channel, Incoming, StreamId, frame::DATA_MAX};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

mod inside;
mod line;
#[path = "../../tests/it/world.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod world;

use inside::Inside;
use line::{Line, RATE};
use world::World;

/// Most that the inner channel may be slower than the outer one alone, in per cent.
const AIM: f64 = 10.0;
/// Plaintext of one record of TLS, in bytes (RFC 8446 section 5.1).
const RECORD: usize = 16 * 1024;
/// What a tag and the record's own head add to it, in bytes.
const ROOM: usize = 64;

/// How much is measured.
struct Sizes {
    rounds: usize,
    /// Bytes of a round over the loopback, over the line, and through AES alone.
    loopback: usize,
    line: usize,
    aes: usize,
    /// Messages and their answers in a round.
    echoes: usize,
}

/// What a round took.
struct Spent {
    bytes: usize,
    wall: Duration,
    cpu: Duration,
}

impl Spent {
    fn mb_per_s(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.wall.as_secs_f64()
    }

    fn cpu_ms_per_gb(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e3 / (self.bytes as f64 / 1e9)
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let smoke = std::env::args().any(|arg| arg == "--smoke");
    let sizes = if smoke {
        Sizes { rounds: 2, loopback: 2_000_000, line: 2_000_000, aes: 2_000_000, echoes: 20 }
    } else {
        Sizes { rounds: 7, loopback: 1_000_000_000, line: 125_000_000, aes: 1_000_000_000, echoes: 2_000 }
    };
    let (aes_once, aes_twice) = aes(&sizes);
    let (loopback, cpu_of_one) = loopback(&sizes).await;
    let line = line(&sizes).await;
    let round_trip = round_trip(&sizes).await;
    let met = [&loopback, &line, &round_trip].iter().all(|part| part["met"] == json!(true));
    let least = aes_once / cpu_of_one * 100.0;
    let report = json!({
        "bench": "nested",
        "what": "a channel carried over another channel, beside one channel alone",
        "loopback": loopback,
        "line": line,
        "round_trip": round_trip,
        "aes": {
            "what": "AES-256-GCM in one thread, records of 16 KiB sealed and opened",
            "once_cpu_ms_per_gb": round(aes_once), "twice_cpu_ms_per_gb": round(aes_twice),
            "once_more_percent_of_one_channel": round(least),
            "aim_can_be_met_where_the_processor_is_the_limit": least <= AIM,
        },
        "aim": { "slower_percent": AIM },
        "met": met,
    });
    println!("{report}");
}

/// Bulk as fast as it goes; and the processor time of one channel for each GB.
async fn loopback(sizes: &Sizes) -> (Value, f64) {
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..sizes.rounds {
        one.push(bulk(alone(tcp().await).await, sizes.loopback).await);
        two.push(bulk(nested(tcp().await).await, sizes.loopback).await);
    }
    let cpu = |rounds: &[Spent]| median(rounds.iter().map(Spent::cpu_ms_per_gb).collect());
    let (cpu_one, cpu_two) = (cpu(&one), cpu(&two));
    let mut found = throughput(&one, &two);
    found["one_cpu_ms_per_gb"] = json!(round(cpu_one));
    found["nested_cpu_ms_per_gb"] = json!(round(cpu_two));
    (found, cpu_one)
}

/// Bulk over a line that is slower than the processor.
async fn line(sizes: &Sizes) -> Value {
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..sizes.rounds {
        let (near, far) = tcp().await;
        one.push(bulk(alone((Line::of(near), Line::of(far))).await, sizes.line).await);
        let (near, far) = tcp().await;
        two.push(bulk(nested((Line::of(near), Line::of(far))).await, sizes.line).await);
    }
    let mut found = throughput(&one, &two);
    found["line_mb_per_s"] = json!(RATE / 1e6);
    found
}

fn throughput(one: &[Spent], two: &[Spent]) -> Value {
    let mb = |rounds: &[Spent]| median(rounds.iter().map(Spent::mb_per_s).collect());
    let slower =
        median(one.iter().zip(two).map(|(one, two)| (one.mb_per_s() / two.mb_per_s() - 1.0) * 100.0).collect());
    json!({
        "bytes_per_round": one.first().map_or(0, |round| round.bytes),
        "one_mb_per_s": round(mb(one)), "nested_mb_per_s": round(mb(two)),
        "slower_percent": round(slower), "met": slower <= AIM,
    })
}

async fn round_trip(sizes: &Sizes) -> Value {
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..sizes.rounds {
        one.push(echoes(alone(tcp().await).await, sizes.echoes).await);
        two.push(echoes(nested(tcp().await).await, sizes.echoes).await);
    }
    let slower = median(one.iter().zip(&two).map(|(one, two)| (two / one - 1.0) * 100.0).collect());
    let (one, two) = (median(one), median(two));
    json!({
        "one_us_p50": round(one), "nested_us_p50": round(two), "added_us": round(two - one),
        "slower_percent": round(slower),
        "slower_percent_where_the_network_takes_1_ms": round((two - one) / (1000.0 + one) * 100.0),
        "met": slower <= AIM,
    })
}

/// Two ends of a connection over the loopback.
async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (near, (far, _)) = (near.unwrap(), far.unwrap());
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}

/// A channel over these two ends.
async fn alone<IO>((near, far): (IO, IO)) -> (Channel, Channel)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let world = World::new();
    let (agent, manager) = (world.agent(), world.manager());
    let (near, far) = tokio::join!(agent.connect_over(near, None), manager.accept_over(far));
    (near.unwrap(), far.unwrap())
}

/// A channel over a channel over these two ends.
async fn nested<IO>(ends: (IO, IO)) -> (Channel, Channel)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (near, far) = alone(ends).await;
    alone((Inside::of(near), Inside::of(far))).await
}

/// Sends so much from one end to the other.
async fn bulk((near, far): (Channel, Channel), bytes: usize) -> Spent {
    let pieces = (bytes / DATA_MAX).max(1);
    let bytes = pieces * DATA_MAX;
    let ((near, _near_receiver), (_far_sender, mut far)) = (near.split(), far.split());
    let (began, before) = (Instant::now(), cpu());
    let reading = tokio::spawn(async move {
        let mut got = 0;
        while got < bytes {
            let Incoming::Data { bytes, .. } = far.recv().await.unwrap() else { panic!("not data") };
            got += bytes.len();
        }
        far
    });
    let writing = tokio::spawn(async move {
        let piece = Bytes::from(vec![7; DATA_MAX]);
        for _ in 0..pieces {
            near.send_data(StreamId(1), piece.clone(), false).await.unwrap();
        }
        near
    });
    let ends = (reading.await.unwrap(), writing.await.unwrap());
    let spent = Spent { bytes, wall: began.elapsed(), cpu: cpu() - before };
    drop(ends);
    spent
}

/// The median time of a message and its answer, in microseconds.
async fn echoes((near, far): (Channel, Channel), times: usize) -> f64 {
    let ((near, mut answers), (far_sender, mut far)) = (near.split(), far.split());
    let echo = tokio::spawn(async move {
        while far.recv().await.is_ok() {
            far_sender.send_control("pong").await.unwrap();
        }
    });
    let mut micros = Vec::with_capacity(times);
    for _ in 0..times {
        let began = Instant::now();
        near.send_control("ping").await.unwrap();
        answers.recv().await.unwrap();
        micros.push(began.elapsed().as_secs_f64() * 1e6);
    }
    echo.abort();
    median(micros)
}

/// Processor time of AES alone, in ms for each GB: sealed and opened once, and twice.
fn aes(sizes: &Sizes) -> (f64, f64) {
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    for _ in 0..sizes.rounds {
        once.push(layers(1, sizes.aes));
        twice.push(layers(2, sizes.aes));
    }
    (median(once), median(twice))
}

fn layers(layers: u8, bytes: usize) -> f64 {
    let keys: Vec<_> =
        (0..layers).map(|layer| LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[layer; 32]).unwrap())).collect();
    // One nonce for all: nothing is hidden here, and the speed is the same.
    let nonce = || Nonce::assume_unique_for_key([0; 12]);
    let mut record = Vec::with_capacity(RECORD + ROOM);
    record.resize(RECORD, 7);
    let records = (bytes / RECORD).max(1);
    let began = Instant::now();
    for _ in 0..records {
        for key in &keys {
            key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut record).unwrap();
        }
        for key in keys.iter().rev() {
            let plain = key.open_in_place(nonce(), Aad::empty(), &mut record).unwrap().len();
            record.truncate(plain);
        }
    }
    began.elapsed().as_secs_f64() * 1e3 / ((records * RECORD) as f64 / 1e9)
}

/// CPU time of this process, user and system (proc(5): fields 14 and 15 of `stat`, in hundredths of a second).
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 = after_name.split_ascii_whitespace().skip(11).take(2).map(|f| f.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

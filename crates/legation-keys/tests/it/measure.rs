//! Speed, on demand: `cargo test --release -p legation-keys -- --ignored --nocapture measure`.

use std::{
    hint::black_box,
    io::{self, Read, Write},
    time::Instant,
};

use legation_core::{
    Digest, FragmentIndex, ObjectId, Signer, TaskId,
    task::{Direction, WrapUse},
};
use legation_keys::{IdentityKey, ObjectKey, OpenReader, SealWriter, SealingKey, open, seal, wrap};

use crate::{Counter, plaintext};

const OBJECT: ObjectId = ObjectId::from_bytes([1; 16]);

/// Shortest of nine rounds, in seconds a call.
fn seconds(calls: u32, mut work: impl FnMut()) -> f64 {
    let round = |_| {
        let start = Instant::now();
        (0..calls).for_each(|_| work());
        start.elapsed().as_secs_f64() / f64::from(calls)
    };
    (0..9).map(round).fold(f64::INFINITY, f64::min)
}

#[test]
#[ignore = "measures, asserts nothing"]
fn measure() {
    let mut entropy = Counter::new(1);
    let sealing = SealingKey::generate(&mut entropy);
    let identity = IdentityKey::generate(&mut entropy);
    let key = ObjectKey::generate(&mut entropy);
    let used_for = WrapUse {
        task: TaskId::new(Digest::from_bytes([1; 32])),
        fragment: FragmentIndex(0),
        module: Digest::from_bytes([2; 32]),
        direction: Direction::Input,
    };
    let wrapped = wrap(&key, OBJECT, sealing.public(), &used_for, &mut entropy).unwrap();
    let us = |name: &str, seconds: f64| println!("{name:<24} {:8.1} us", seconds * 1e6);
    us("sealing key: generate", seconds(50, || drop(SealingKey::generate(&mut entropy))));
    us("wrap", seconds(50, || drop(wrap(&key, OBJECT, sealing.public(), &used_for, &mut Counter::new(3)))));
    us("unwrap", seconds(50, || drop(sealing.unwrap(&wrapped, &used_for))));
    us(
        "sign 1 KiB",
        seconds(50, || {
            black_box(identity.sign(&[0; 1024]));
        }),
    );

    let text = plaintext(64 << 20);
    let sealed = seal(&key, OBJECT, &text).unwrap();
    let small = seal(&key, OBJECT, &text[..1024]).unwrap();
    us("seal 1 KiB", seconds(200, || drop(seal(&key, OBJECT, &text[..1024]))));
    us("open 1 KiB", seconds(200, || drop(open(&key, OBJECT, &small.bytes, Some(&small.commitment)))));
    let gb = |name: &str, seconds: f64| println!("{name:<24} {:8.2} GB/s", text.len() as f64 / seconds / 1e9);
    gb("seal 64 MiB", seconds(1, || drop(seal(&key, OBJECT, &text))));
    gb("open 64 MiB", seconds(1, || drop(open(&key, OBJECT, &sealed.bytes, Some(&sealed.commitment)))));
    gb(
        "SealWriter 64 MiB",
        seconds(1, || {
            let mut writer = SealWriter::new(&key, OBJECT, io::sink());
            writer.write_all(&text).unwrap();
            drop(writer.finish());
        }),
    );
    let mut chunk = vec![0; 256 << 10];
    gb(
        "OpenReader 64 MiB",
        seconds(1, || {
            let mut reader = OpenReader::new(&key, OBJECT, &sealed.bytes[..], Some(sealed.commitment));
            while reader.read(&mut chunk).unwrap() > 0 {}
        }),
    );
    gb(
        "SHA-256 alone",
        seconds(1, || {
            black_box(Digest::of(&text));
        }),
    );
}

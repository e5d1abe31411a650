//! How fast the sealed store's format is on one core, from memory to fragments and back; beside it, in the same run, each of the
//! parts that it cannot do without: AES-256-GCM, Reed-Solomon and the digests alone, over as much.
//!
//! Prints JSON on stdout. Rates are bytes of *plaintext* a second of this thread's time on a processor (where the system tells it;
//! else of the clock), the best of some rounds that take turns: whoever shares the machine slows all of them alike. With `--smoke`,
//! small numbers that say nothing but that it works.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{hint::black_box, time::Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use legation_core::{Digest, ObjectId};
use legation_keys::{
    ObjectKey, SEGMENT,
    store::{
        Code, Manifest, MendStep, Mender, Opener, PAGE, PIECE, Path, PieceDigest, PieceList, Position, Sealer, Step,
        Stripe, StripeIndex,
    },
};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const DATA: usize = 5;
const PARITY: usize = 4;
const STRIPE: usize = DATA * SEGMENT;
/// Bytes handed over at once.
const CHUNK: usize = 1 << 20;
/// From memory to fragments, and back without a loss.
const AIM_GB_S: f64 = 1.0;

/// Nanoseconds that this thread ran, or nothing where the system does not tell.
fn on_processor() -> Option<u64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}

/// Billions of bytes a second.
fn rate(bytes: usize, work: impl FnOnce() -> Fallible<()>) -> Fallible<f64> {
    let (clock, ran) = (Instant::now(), on_processor());
    work()?;
    let ran = ran.zip(on_processor()).map(|(before, after)| (after - before) as f64);
    let nanoseconds = ran.filter(|ran| *ran > 0.0).unwrap_or(clock.elapsed().as_nanos() as f64);
    Ok(bytes as f64 / nanoseconds)
}

/// What the parts work on: stripes of random bytes, used over and over, as those of an object's are.
struct Bench {
    text: Vec<u8>,
    object: ObjectId,
    key: ObjectKey,
    code: Code,
    stored: Stored,
}

/// An object in memory: by fragment its pieces, each with its path.
struct Stored {
    manifest: Manifest,
    pieces: Vec<Vec<(Vec<u8>, Path)>>,
}

impl Bench {
    fn new(len: usize) -> Fallible<Self> {
        let mut text = vec![0; len];
        let block = Digest::of(b"plaintext");
        for (at, byte) in text.iter_mut().enumerate() {
            *byte = block.as_bytes()[at % 32] ^ (at / 32) as u8 ^ (at >> 13) as u8;
        }
        let (object, code) = (ObjectId::from_bytes([1; 16]), Code::new(DATA as u8, PARITY as u8)?);
        let key = || ObjectKey::from_bytes([2; 32]);
        let mut pieces = vec![Vec::new(); DATA + PARITY];
        let mut digests = vec![Vec::<PieceDigest>::new(); DATA + PARITY];
        let mut lists = vec![PieceList::new(); DATA + PARITY];
        let manifest = put(&key(), object, code, &text, len, &mut |stripe| {
            for piece in stripe.pieces() {
                let at = usize::from(piece.position.0);
                pieces[at].push(piece.bytes.to_vec());
                digests[at].push(piece.digest);
                lists[at].push(piece.digest);
            }
        })?;
        let mut kept = Vec::new();
        for ((pieces, digests), list) in pieces.into_iter().zip(&digests).zip(&lists) {
            let mut with_paths = Vec::new();
            for (page, (pieces, digests)) in (0..).zip(pieces.chunks(PAGE as usize).zip(digests.chunks(PAGE as usize)))
            {
                let bytes: Vec<u8> = digests.iter().flat_map(|digest| *digest.as_bytes()).collect();
                let held = list.page(page, &bytes)?;
                for (index, piece) in (page * PAGE..).zip(pieces) {
                    with_paths.push((piece.clone(), list.path(&held, index)?));
                }
            }
            kept.push(with_paths);
        }
        Ok(Self { text, object, key: key(), code, stored: Stored { manifest, pieces: kept } })
    }

    fn aes(&self, len: usize) -> Fallible<()> {
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[3; 32])?);
        let mut stripe = self.text[..STRIPE].to_vec();
        for index in 0..len / STRIPE {
            for (at, segment) in (0..).zip(stripe.chunks_exact_mut(SEGMENT)) {
                let mut nonce = [0; 12];
                nonce[..8].copy_from_slice(&(index as u64).to_be_bytes());
                nonce[8] = at;
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = cipher.seal_in_place_separate_tag(nonce, Aad::from([0; 34]), segment)?;
                black_box(tag.as_ref());
            }
        }
        Ok(())
    }

    fn encode(&self, len: usize) -> Fallible<()> {
        let mut encoder = ReedSolomonEncoder::new(DATA, PARITY, PIECE)?;
        for _ in 0..len / STRIPE {
            for piece in self.text.chunks_exact(PIECE).take(DATA) {
                encoder.add_original_shard(piece)?;
            }
            black_box(encoder.encode()?.recovery(0));
        }
        Ok(())
    }

    /// Of a stripe's data, as much as parity can stand for.
    fn decode(&self, len: usize) -> Fallible<()> {
        let mut decoder = ReedSolomonDecoder::new(DATA, PARITY, PIECE)?;
        for _ in 0..len / STRIPE {
            for (at, piece) in self.text.chunks_exact(PIECE).take(DATA).enumerate() {
                match at {
                    0 => decoder.add_original_shard(0, piece)?,
                    _ => decoder.add_recovery_shard(at - 1, piece)?,
                }
            }
            black_box(decoder.decode()?.restored_original(1));
        }
        Ok(())
    }

    /// BLAKE3 of every piece, data and parity.
    fn blake3(&self, len: usize) {
        for _ in 0..len / STRIPE {
            for piece in self.text.chunks_exact(PIECE).take(DATA + PARITY) {
                black_box(blake3::hash(piece));
            }
        }
    }

    fn sha256(&self, len: usize) {
        for _ in 0..len / STRIPE {
            for piece in self.text.chunks_exact(PIECE).take(DATA + PARITY) {
                black_box(Digest::of(piece));
            }
        }
    }

    fn put(&self, len: usize) -> Fallible<()> {
        let mut lists = vec![PieceList::new(); DATA + PARITY];
        let manifest = put(&self.key, self.object, self.code, &self.text, len, &mut |stripe| {
            for piece in stripe.pieces() {
                lists[usize::from(piece.position.0)].push(black_box(&piece).digest);
            }
        })?;
        black_box(manifest.digest());
        Ok(())
    }

    /// Reads the object, but for these fragments, and goes on until so many bytes are read.
    fn get(&self, len: usize, lost: &[Position]) -> Fallible<()> {
        for _ in 0..len / self.text.len() {
            let mut opener = Opener::new(&self.key, self.stored.manifest.clone())?;
            lost.iter().for_each(|position| opener.lose(*position));
            loop {
                match opener.step()? {
                    Step::Want { stripe, positions } => {
                        for position in positions {
                            let (bytes, path) = self.stored.piece(position, stripe);
                            opener.give(position, stripe, bytes, path)?;
                        }
                    }
                    Step::Plain(bytes) => {
                        black_box(bytes);
                    }
                    Step::End => break,
                }
            }
        }
        Ok(())
    }

    fn mend(&self, len: usize, lost: Position) -> Fallible<()> {
        for _ in 0..len / self.text.len() {
            let mut mender = Mender::new(self.stored.manifest.clone(), &[lost])?;
            loop {
                match mender.step()? {
                    MendStep::Want { stripe, positions } => {
                        for position in positions {
                            let (bytes, path) = self.stored.piece(position, stripe);
                            mender.give(position, stripe, bytes, path)?;
                        }
                    }
                    MendStep::Made(stripe) => {
                        black_box(stripe.pieces());
                    }
                    MendStep::End => break,
                }
            }
        }
        Ok(())
    }
}

impl Stored {
    fn piece(&self, position: Position, stripe: StripeIndex) -> (&[u8], &Path) {
        let (bytes, path) = &self.pieces[usize::from(position.0)][stripe.0 as usize];
        (bytes, path)
    }
}

/// Seals `text` over and over, until so many bytes are sealed.
fn put(
    key: &ObjectKey,
    object: ObjectId,
    code: Code,
    text: &[u8],
    len: usize,
    keep: &mut dyn FnMut(&Stripe<'_>),
) -> Fallible<Manifest> {
    let mut sealer = Sealer::new(key, object, code);
    for _ in 0..len / text.len() {
        for mut chunk in text.chunks(CHUNK) {
            while let Some(stripe) = sealer.push(&mut chunk)? {
                keep(&stripe);
            }
        }
    }
    let (stripe, manifest) = sealer.finish()?;
    keep(&stripe);
    Ok(manifest)
}

/// Most memory that the process had at once, in MiB.
fn memory_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib / 1024)
}

/// One thing that is measured, over so many bytes.
type Work<'a> = Box<dyn Fn(usize) -> Fallible<()> + 'a>;

fn main() -> Fallible<()> {
    let smoke = std::env::args().any(|arg| arg == "--smoke");
    let (len, rounds) = if smoke { (4 << 20, 1) } else { (128 << 20, 5) };
    let bench = Bench::new(if smoke { 4 << 20 } else { 32 << 20 })?;
    let data_lost: Vec<_> = (1..DATA as u8).map(Position).collect();
    let works: [(&str, Work<'_>); 11] = [
        ("put", Box::new(|len| bench.put(len))),
        ("aes_256_gcm_alone", Box::new(|len| bench.aes(len))),
        ("reed_solomon_alone", Box::new(|len| bench.encode(len))),
        (
            "blake3_of_fragments_alone",
            Box::new(|len| {
                bench.blake3(len);
                Ok(())
            }),
        ),
        (
            "sha256_of_fragments_alone",
            Box::new(|len| {
                bench.sha256(len);
                Ok(())
            }),
        ),
        ("get", Box::new(|len| bench.get(len, &[]))),
        ("get_1_of_data_lost", Box::new(|len| bench.get(len, &data_lost[..1]))),
        ("get_4_of_data_lost", Box::new(|len| bench.get(len, &data_lost))),
        ("reed_solomon_decode_4_alone", Box::new(|len| bench.decode(len))),
        ("mend_1_of_data", Box::new(|len| bench.mend(len, Position(1)))),
        ("mend_1_of_parity", Box::new(|len| bench.mend(len, Position(DATA as u8)))),
    ];
    let mut best = vec![0.0_f64; works.len()];
    for _ in 0..rounds {
        for ((_, work), best) in works.iter().zip(&mut best) {
            *best = best.max(rate(len, || work(len))?);
        }
    }
    let rates: Vec<_> = works.iter().zip(&best).map(|((name, _), rate)| format!("\"{name}\": {rate:.3}")).collect();
    // One after another over the same bytes: what the parts alone leave possible.
    let parts = 1.0 / best[1..4].iter().map(|rate| 1.0 / rate).sum::<f64>();
    let met = best[0] >= AIM_GB_S && best[5] >= AIM_GB_S;
    println!(
        "{{\"bench\": \"store\", \"code\": \"{DATA}+{PARITY}\", \"segment_bytes\": {SEGMENT}, \"plaintext_bytes_a_round\": {len}, \
         \"rounds\": {rounds}, \"gb_per_s\": {{{}}}, \"put_if_it_were_its_parts_alone\": {parts:.3}, \
         \"memory_mib_with_the_object\": {}, \"aim\": {{\"put\": {AIM_GB_S:.1}, \"get\": {AIM_GB_S:.1}}}, \"met\": {met}}}",
        rates.join(", "),
        memory_mib().map_or("null".to_owned(), |mib| mib.to_string()),
    );
    Ok(())
}

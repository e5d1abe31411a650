//! The crate through its public doors.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod identity;
mod measure;
mod object;
mod sealing;
mod store;
mod store_read;
mod swarm;
mod swarm_attack;
mod swarm_parse;

use legation_core::Digest;
use legation_keys::Entropy;

/// Repeatable bytes: SHA-256 of a seed and a counter.
pub(crate) struct Counter {
    seed: u64,
    drawn: u64,
}

impl Counter {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }
}

impl Entropy for Counter {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            self.drawn += 1;
            let block = Digest::of_parts(&[&self.seed.to_be_bytes(), &self.drawn.to_be_bytes()]);
            chunk.copy_from_slice(&block.as_bytes()[..chunk.len()]);
        }
    }
}

/// Exactly these bytes, as test vectors prescribe them; asking for more is a failed test.
pub(crate) struct Script(pub(crate) Vec<u8>);

impl Entropy for Script {
    fn fill(&mut self, out: &mut [u8]) {
        let rest = self.0.split_off(out.len());
        out.copy_from_slice(&self.0);
        self.0 = rest;
    }
}

/// Repeatable plaintext of `len` bytes.
pub(crate) fn plaintext(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Counter::new(len as u64).fill(&mut bytes);
    bytes
}

//! The guest's randomness: SHA-256 in counter mode over the caller's seed. The stream does not depend on how it is cut into calls.

use legation_core::Digest;
use zeroize::Zeroizing;

const DOMAIN: &[u8] = b"legation.task.random.v1";
const BLOCK: usize = 32;

pub(super) struct Stream {
    seed: Zeroizing<[u8; 32]>,
    counter: u64,
    block: Zeroizing<[u8; BLOCK]>,
    /// Bytes of `block` already given out.
    used: usize,
}

impl Default for Stream {
    fn default() -> Self {
        Self::new(&[0; 32])
    }
}

impl Stream {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        Self { seed: Zeroizing::new(*seed), counter: 0, block: Zeroizing::new([0; BLOCK]), used: BLOCK }
    }

    pub(super) fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.used == BLOCK {
                let next = Digest::of_parts(&[DOMAIN, self.seed.as_slice(), &self.counter.to_le_bytes()]);
                self.block.copy_from_slice(next.as_bytes());
                self.counter += 1;
                self.used = 0;
            }
            let n = out.len().min(BLOCK - self.used);
            let (head, tail) = out.split_at_mut(n);
            head.copy_from_slice(&self.block[self.used..self.used + n]);
            self.used += n;
            out = tail;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Stream;

    #[test]
    fn the_stream_is_the_same_however_it_is_cut() {
        let mut whole = [0; 200];
        Stream::new(&[7; 32]).fill(&mut whole);
        for cut in [1, 3, 31, 32, 33, 64, 199] {
            let mut pieces = [0; 200];
            let mut stream = Stream::new(&[7; 32]);
            pieces.chunks_mut(cut).for_each(|piece| stream.fill(piece));
            assert_eq!(pieces, whole, "cut into {cut}");
        }
        let mut other = [0; 200];
        Stream::new(&[8; 32]).fill(&mut other);
        assert_ne!(other, whole);
        assert_ne!(whole[..32], whole[32..64]);
    }
}

//! Restoring as the matrix that it is: each missing piece of data is a sum of multiples of those that are here.
//!
//! The library's decoder works out anew, for every stripe, what is missing: with stripes as small as these that takes several times
//! as long as all else. As long as the same fragments are missing the multiples are the same, so they are asked of it once (each
//! column is what it restores from a one at one place and zeros at all others), and applied with its multiplication.

use reed_solomon_simd::{
    Error, ReedSolomonDecoder,
    engine::{DefaultEngine, Engine, GfElement, tables, utils},
};

use super::Code;

/// 32 symbols of the code: their low bytes, then their high bytes.
pub(super) type Chunk = [u8; 64];

/// What restores all missing data of a stripe out of the pieces at some positions.
pub(super) struct Matrix {
    engine: DefaultEngine,
    filled: usize,
    from: Vec<usize>,
    /// A missing position, and the logarithm of the multiple of each piece that it is a sum of; nothing stands for zero.
    rows: Vec<(usize, Vec<Option<GfElement>>)>,
}

impl Matrix {
    /// For a stripe of `filled` pieces of data and the pieces at `from`, which are as many.
    pub(super) fn new(code: Code, filled: usize, from: Vec<usize>) -> Result<Self, Error> {
        let (m, p) = (code.m(), code.n() - code.m());
        let missing = (0..filled).filter(|position| !from.contains(position));
        let mut rows: Vec<_> = missing.map(|position| (position, Vec::new())).collect();
        let mut decoder = ReedSolomonDecoder::new(m, p, size_of::<Chunk>())?;
        let logarithms = &tables::get_exp_log().log;
        for one in &from {
            for absent in filled..m {
                decoder.add_original_shard(absent, [0; 64])?;
            }
            for position in &from {
                let mut symbol = [0; 64];
                symbol[0] = u8::from(position == one);
                match position.checked_sub(m) {
                    None => decoder.add_original_shard(*position, symbol)?,
                    Some(parity) => decoder.add_recovery_shard(parity, symbol)?,
                }
            }
            let restored = decoder.decode()?;
            for (position, multiples) in &mut rows {
                let symbol = restored.restored_original(*position);
                let symbol = symbol.map_or(0, |bytes| GfElement::from_le_bytes([bytes[0], bytes[32]]));
                multiples.push((symbol != 0).then(|| logarithms[usize::from(symbol)]));
            }
        }
        Ok(Self { engine: DefaultEngine::new(), filled, from, rows })
    }

    pub(super) fn is_for(&self, filled: usize, from: &[usize]) -> bool {
        self.filled == filled && self.from == from
    }

    /// Where in what [`Matrix::apply`] makes this missing piece is.
    pub(super) fn row(&self, position: usize) -> Option<usize> {
        self.rows.iter().position(|(missing, _)| *missing == position)
    }

    /// Makes the missing pieces out of these, which are in order, all of one length.
    pub(super) fn apply(&self, pieces: &[(usize, &[u8])], scratch: &mut Vec<Chunk>, made: &mut Vec<Vec<Chunk>>) {
        let len = pieces.first().map_or(0, |(_, piece)| piece.len());
        made.resize(self.rows.len(), Vec::new());
        for piece in &mut *made {
            piece.clear();
            piece.resize(len.div_ceil(size_of::<Chunk>()), [0; 64]);
        }
        for (nth, (_, piece)) in pieces.iter().enumerate() {
            for ((_, multiples), made) in self.rows.iter().zip(&mut *made) {
                if let Some(multiple) = multiples[nth] {
                    lay(piece, scratch);
                    self.engine.mul(scratch, multiple);
                    utils::xor(made, scratch);
                }
            }
        }
        let half = len % size_of::<Chunk>() / 2;
        for last in made.iter_mut().filter_map(|piece| piece.last_mut()).filter(|_| half > 0) {
            last.copy_within(32..32 + half, half);
        }
    }
}

/// A piece in chunks: of the last, which may be short, the first half is low bytes too.
fn lay(piece: &[u8], chunks: &mut Vec<Chunk>) {
    let (whole, tail) = piece.as_chunks();
    chunks.clear();
    chunks.extend_from_slice(whole);
    if !tail.is_empty() {
        let (low, high) = tail.split_at(tail.len() / 2);
        let mut last = [0; 64];
        last[..low.len()].copy_from_slice(low);
        last[32..32 + high.len()].copy_from_slice(high);
        chunks.push(last);
    }
}

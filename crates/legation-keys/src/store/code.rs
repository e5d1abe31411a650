//! The erasure code, and the one place that knows the library of it.
//!
//! It corrects losses and finds no error: what is decoded was held against its digest before, and what comes out is authenticated
//! after. It sees ciphertext alone, so nothing of it is wiped.

use reed_solomon_simd::{DecoderResult, EncoderResult, ReedSolomonDecoder, ReedSolomonEncoder};

use super::{
    Code,
    matrix::{Chunk, Matrix},
};

/// The code cannot be computed: the number or lengths of pieces do not fit it, which is a defect of the caller in this crate.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("erasure code: {0}")]
pub struct CoderError(reed_solomon_simd::Error);

/// Working space of the code, kept from stripe to stripe.
pub(super) struct Coder {
    code: Code,
    encoder: Option<(usize, ReedSolomonEncoder)>,
    decoder: Option<(usize, ReedSolomonDecoder)>,
    zeros: Vec<u8>,
    /// What the last stripe was restored from: number of pieces of data, and positions.
    before: (usize, Vec<usize>),
    matrix: Option<Matrix>,
    scratch: Vec<Chunk>,
    made: Vec<Vec<Chunk>>,
}

/// The parity of a stripe.
pub(super) struct Coded<'a>(Option<EncoderResult<'a>>);

/// The data of a stripe that was missing.
pub(super) enum Restored<'a> {
    Nothing,
    Decoded(DecoderResult<'a>),
    /// By a matrix, each so many bytes.
    Made(&'a Matrix, &'a [Vec<Chunk>], usize),
}

impl Coder {
    pub(super) fn new(code: Code) -> Self {
        let (before, matrix) = ((0, Vec::new()), None);
        let (zeros, scratch, made) = (Vec::new(), Vec::new(), Vec::new());
        Self { code, encoder: None, decoder: None, zeros, before, matrix, scratch, made }
    }

    /// The parity of all the data of a stripe, in order, each `len` bytes.
    pub(super) fn encode<'a>(
        &mut self,
        len: usize,
        data: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Coded<'_>, CoderError> {
        let (m, p) = (self.code.m(), self.code.n() - self.code.m());
        if p == 0 {
            return Ok(Coded(None));
        }
        let encoder = match &mut self.encoder {
            Some((before, encoder)) => {
                if *before != len {
                    encoder.reset(m, p, len).map_err(CoderError)?;
                    *before = len;
                }
                encoder
            }
            none => &mut none.insert((len, ReedSolomonEncoder::new(m, p, len).map_err(CoderError)?)).1,
        };
        for piece in data {
            encoder.add_original_shard(piece).map_err(CoderError)?;
        }
        encoder.encode().map(|result| Coded(Some(result))).map_err(CoderError)
    }

    /// The data that is missing among `pieces`, each `len` bytes with its position, in order of these; they are as many as the
    /// stripe has data, which is `filled`: all other data is known to be zero.
    pub(super) fn restore(
        &mut self,
        len: usize,
        filled: usize,
        pieces: &[(usize, &[u8])],
    ) -> Result<Restored<'_>, CoderError> {
        let (m, p) = (self.code.m(), self.code.n() - self.code.m());
        if p == 0 {
            return Ok(Restored::Nothing);
        }
        // The first stripe of a kind is decoded as it is, for it may be the only one; for a second the matrix is worth its price.
        let from: Vec<_> = pieces.iter().map(|(position, _)| *position).collect();
        if self.before == (filled, from.clone()) {
            if !self.matrix.as_ref().is_some_and(|matrix| matrix.is_for(filled, &from)) {
                self.matrix = Some(Matrix::new(self.code, filled, from).map_err(CoderError)?);
            }
            if let Some(matrix) = &self.matrix {
                matrix.apply(pieces, &mut self.scratch, &mut self.made);
                return Ok(Restored::Made(matrix, &self.made, len));
            }
        } else {
            self.before = (filled, from);
        }
        self.zeros.resize(len, 0);
        let decoder = match &mut self.decoder {
            Some((before, decoder)) => {
                if *before != len {
                    decoder.reset(m, p, len).map_err(CoderError)?;
                    *before = len;
                }
                decoder
            }
            none => &mut none.insert((len, ReedSolomonDecoder::new(m, p, len).map_err(CoderError)?)).1,
        };
        for absent in filled..m {
            decoder.add_original_shard(absent, &self.zeros).map_err(CoderError)?;
        }
        for (position, piece) in pieces {
            match position.checked_sub(m) {
                None => decoder.add_original_shard(*position, piece),
                Some(parity) => decoder.add_recovery_shard(parity, piece),
            }
            .map_err(CoderError)?;
        }
        decoder.decode().map(Restored::Decoded).map_err(CoderError)
    }
}

impl Coded<'_> {
    /// A piece of parity, counted from the first of them.
    pub(super) fn parity(&self, index: usize) -> Option<&[u8]> {
        self.0.as_ref()?.recovery(index)
    }
}

impl Restored<'_> {
    /// A piece of data that was missing.
    pub(super) fn data(&self, position: usize) -> Option<&[u8]> {
        match self {
            Self::Nothing => None,
            Self::Decoded(result) => result.restored_original(position),
            Self::Made(matrix, made, len) => made.get(matrix.row(position)?)?.as_flattened().get(..*len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_matrix_restores_is_what_the_decoder_does() {
        for (data, parity) in [(1, 1), (1, 3), (2, 1), (5, 4), (4, 7), (16, 16)] {
            let code = Code::new(data, parity).unwrap();
            let (m, n) = (code.m(), code.n());
            for (len, filled) in [(2, m), (62, m), (64, m), (116, m), (116, 1), (1040, m - m / 3), (192, m)] {
                let byte = |at: usize, i: usize| if at < filled { (at * 83 + i * 31 + i / 64 + 7) as u8 } else { 0 };
                let mut pieces: Vec<Vec<u8>> = (0..m).map(|at| (0..len).map(|i| byte(at, i)).collect()).collect();
                let mut coder = Coder::new(code);
                let coded = coder.encode(len, pieces.iter().map(|piece| &piece[..])).unwrap();
                let parity: Vec<_> = (0..n - m).map(|index| coded.parity(index).unwrap().to_vec()).collect();
                drop(coded);
                pieces.extend(parity);
                // Of what the stripe has, any that are enough: here those at and after a place, in a circle.
                let has: Vec<_> = (0..filled).chain(m..n).collect();
                for first in 0..has.len() {
                    let mut from: Vec<_> = has.iter().cycle().skip(first).take(filled).copied().collect();
                    from.sort_unstable();
                    let from: Vec<_> = from.iter().map(|at| (*at, &pieces[*at][..])).collect();
                    for time in 0..3 {
                        let restored = coder.restore(len, filled, &from).unwrap();
                        assert_eq!(matches!(restored, Restored::Made(..)), time > 0);
                        for missing in (0..filled).filter(|at| from.iter().all(|(here, _)| here != at)) {
                            let expected = Some(&pieces[missing][..]);
                            assert_eq!(restored.data(missing), expected, "{code:?} {len} {filled} {first} {time}");
                        }
                    }
                }
            }
        }
    }
}

//! How an object of so many bytes is cut into segments, stripes and pieces: arithmetic, and nothing else.

use std::fmt;

use legation_core::Bytes;

use super::{PIECE, SEGMENT, SEGMENTS_MAX, TAG};

/// Most pieces of data in a stripe.
pub const DATA_MAX: u8 = 16;
/// Most pieces of parity in a stripe.
pub const PARITY_MAX: u8 = 16;

/// Which of an object's fragments: data first, then parity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position(pub u8);

/// Which of an object's stripes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StripeIndex(pub u32);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for StripeIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many pieces a stripe has: any `data` of its `data + parity` give it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Code {
    data: u8,
    parity: u8,
}

/// There is no such code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no code of {data} + {parity}: a stripe has 1 to {DATA_MAX} pieces of data and at most {PARITY_MAX} of parity")]
pub struct CodeError {
    /// Pieces of data asked for.
    pub data: u8,
    /// Pieces of parity asked for.
    pub parity: u8,
}

impl Code {
    /// A code of so many pieces of data, of which `parity` may be lost.
    ///
    /// # Errors
    /// No data, or more than [`DATA_MAX`] or [`PARITY_MAX`].
    pub fn new(data: u8, parity: u8) -> Result<Self, CodeError> {
        if data == 0 || data > DATA_MAX || parity > PARITY_MAX {
            return Err(CodeError { data, parity });
        }
        Ok(Self { data, parity })
    }

    /// Pieces of data in a stripe: as many as it takes to read.
    pub fn data(&self) -> u8 {
        self.data
    }

    /// Pieces of parity in a stripe: as many as may be lost.
    pub fn parity(&self) -> u8 {
        self.parity
    }

    /// Fragments of an object.
    pub fn fragments(&self) -> u8 {
        self.data + self.parity
    }

    /// All positions, in order.
    pub fn positions(&self) -> impl Iterator<Item = Position> + use<> {
        (0..self.fragments()).map(Position)
    }

    pub(super) fn m(&self) -> usize {
        usize::from(self.data)
    }

    pub(super) fn n(&self) -> usize {
        usize::from(self.fragments())
    }

    /// Plaintext bytes of a full stripe.
    pub fn stripe(&self) -> Bytes {
        Bytes(u64::from(self.data) * SEGMENT as u64)
    }
}

/// Bytes of every piece when a stripe is coded whose first segment is this long.
pub(super) fn shard_len(first: usize) -> usize {
    first.next_multiple_of(2)
}

/// The lengths of everything in an object of so many bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    code: Code,
    size: Bytes,
    segments: u32,
}

impl Layout {
    /// The layout of an object of `size` plaintext bytes; nothing when it is longer than [`crate::OBJECT_MAX`].
    pub fn new(code: Code, size: Bytes) -> Option<Self> {
        let segments = u32::try_from(size.0.div_ceil(SEGMENT as u64).max(1)).ok()?;
        (segments <= SEGMENTS_MAX).then_some(Self { code, size, segments })
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Plaintext bytes.
    pub fn size(&self) -> Bytes {
        self.size
    }

    /// Segments: at least one.
    pub fn segments(&self) -> u32 {
        self.segments
    }

    /// Stripes: at least one.
    pub fn stripes(&self) -> u32 {
        self.segments.div_ceil(u32::from(self.code.data))
    }

    /// Pieces of a fragment; none of one of data that the object is too short for, or of one that it has not.
    pub fn pieces(&self, position: Position) -> u32 {
        let data = u32::from(self.code.data);
        match u32::from(position.0) {
            j if j < data => self.segments.saturating_sub(j).div_ceil(data),
            j if j < u32::from(self.code.fragments()) => self.stripes(),
            _ => 0,
        }
    }

    /// Bytes of a piece; nothing when there is no such piece.
    pub fn piece_len(&self, position: Position, stripe: StripeIndex) -> Option<usize> {
        if stripe.0 >= self.pieces(position) {
            return None;
        }
        let first = stripe.0 * u32::from(self.code.data);
        Some(match position.0 < self.code.data {
            true => self.sealed_len(first + u32::from(position.0)),
            false => shard_len(self.sealed_len(first)),
        })
    }

    /// Bytes of a fragment.
    pub fn fragment_len(&self, position: Position) -> Bytes {
        let Some(last) = self.pieces(position).checked_sub(1).map(StripeIndex) else { return Bytes::ZERO };
        let tail = self.piece_len(position, last).unwrap_or_default();
        Bytes(Self::piece_offset(last).0 + tail as u64)
    }

    /// Where in its fragment a piece begins.
    pub fn piece_offset(stripe: StripeIndex) -> Bytes {
        Bytes(u64::from(stripe.0) * PIECE as u64)
    }

    /// Bytes of a segment with its tag.
    fn sealed_len(&self, segment: u32) -> usize {
        let before = u64::from(segment) * SEGMENT as u64;
        self.size.0.saturating_sub(before).min(SEGMENT as u64) as usize + TAG
    }

    /// Pieces of data that a stripe has.
    pub(super) fn filled(&self, stripe: StripeIndex) -> usize {
        let before = stripe.0.saturating_mul(u32::from(self.code.data));
        self.segments.saturating_sub(before).min(u32::from(self.code.data)) as usize
    }

    /// Bytes of each piece as it is coded.
    pub(super) fn shard_len(&self, stripe: StripeIndex) -> usize {
        shard_len(self.sealed_len(stripe.0 * u32::from(self.code.data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OBJECT_MAX;

    /// Data, parity, bytes; segments, stripes; pieces of each fragment; bytes of the last piece of each.
    type Case<'a> = (u8, u8, usize, u32, u32, &'a [u32], &'a [usize]);

    #[test]
    fn pieces_and_lengths() {
        let tail = TAG + 1;
        let cases: [Case<'_>; 6] = [
            (2, 1, 0, 1, 1, &[1, 0, 1], &[16, 0, 16]),
            (2, 1, 1, 1, 1, &[1, 0, 1], &[tail, 0, 18]),
            (2, 1, SEGMENT + 1, 2, 1, &[1, 1, 1], &[PIECE, tail, PIECE]),
            (2, 1, 2 * SEGMENT, 2, 1, &[1, 1, 1], &[PIECE, PIECE, PIECE]),
            (2, 1, 2 * SEGMENT + 1, 3, 2, &[2, 1, 2], &[tail, PIECE, 18]),
            (1, 0, 3 * SEGMENT - 1, 3, 3, &[3], &[PIECE - 1]),
        ];
        for (data, parity, size, segments, stripes, pieces, tails) in cases {
            let layout = Layout::new(Code::new(data, parity).unwrap(), Bytes(size as u64)).unwrap();
            assert_eq!((layout.segments(), layout.stripes()), (segments, stripes), "{size}");
            for (position, (pieces, tail)) in (0..).map(Position).zip(pieces.iter().zip(tails)) {
                assert_eq!(layout.pieces(position), *pieces, "{size} {position}");
                let last = pieces.checked_sub(1).map(StripeIndex);
                assert_eq!(last.and_then(|s| layout.piece_len(position, s)).unwrap_or(0), *tail, "{size} {position}");
                assert_eq!(layout.piece_len(position, StripeIndex(*pieces)), None);
                let len = (pieces.saturating_sub(1) as usize * PIECE + tail) as u64;
                assert_eq!(layout.fragment_len(position), Bytes(len));
            }
            assert_eq!(layout.piece_len(Position(data + parity), StripeIndex(0)), None);
        }
    }

    #[test]
    fn limits() {
        for (data, parity) in [(0, 1), (17, 0), (1, 17), (255, 255)] {
            assert_eq!(Code::new(data, parity), Err(CodeError { data, parity }));
        }
        let code = Code::new(16, 16).unwrap();
        let most = Layout::new(code, OBJECT_MAX).unwrap();
        assert_eq!((most.segments(), most.stripes()), (SEGMENTS_MAX, SEGMENTS_MAX / 16));
        assert_eq!(most.fragment_len(Position(31)), Bytes(u64::from(SEGMENTS_MAX) / 16 * PIECE as u64));
        assert_eq!(Layout::new(code, Bytes(OBJECT_MAX.0 + 1)), None);
        assert_eq!(Layout::new(code, Bytes(u64::MAX)), None);
    }
}

//! Opening: asks for pieces, takes those of any fragments that are enough, and gives plaintext out in order.
//!
//! ```text
//! caller                              Opener
//!   step()                     ──►      Want: these pieces of this stripe
//!   fetches them from holders
//!   give(piece and path)       ──►      ok, or the fragment is altered: named, and not asked again
//!   lose(position)             ──►      a holder that does not answer
//!   step()                     ──►      Plain: the next bytes, authentic · Want, again · End
//! ```

use std::ops::Range;

use legation_core::Bytes;
use zeroize::Zeroizing;

use super::{
    Altered, CoderError, KeyCommitment, Manifest, ObjectKey, Path, PieceError, Position, SEGMENT, StripeIndex, TAG,
    TooFew,
    cipher::Cipher,
    code::Coder,
    gather::{Gather, Missing, Set},
    list::Frontier,
};

/// Why an object does not open.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// The key is not the one that the manifest commits to.
    #[error("this is not the object's key: its commitment is {got}, expected {expected}")]
    WrongKey {
        /// The manifest's commitment.
        expected: KeyCommitment,
        /// The key's.
        got: KeyCommitment,
    },
    /// The range ends beyond the object.
    #[error("bytes {} to {} are not in an object of {} bytes", .range.start, .range.end, .size.0)]
    Range {
        /// What was asked for.
        range: Range<u64>,
        /// The object's size.
        size: Bytes,
    },
    /// Too few pieces of a stripe are to be had. It may pass: a holder may come back.
    #[error(transparent)]
    TooFew(#[from] TooFew),
    /// Every piece is the manifest's, and yet a segment is not authentic: no holder altered it, the manifest names no object that
    /// was sealed with this key. Nothing more comes out.
    #[error(
        "segment {segment} is not authentic though its pieces are the manifest's: who wrote the manifest did not seal this"
    )]
    Inconsistent {
        /// The segment.
        segment: u32,
    },
    /// Every segment is authentic, and yet what was restored of a lost fragment is not what the manifest names: its parity is of
    /// something else, so that readers would differ with the fragments that they lose. The last segment does not come out.
    #[error(
        "fragment {position} as it was restored is not the manifest's, though its segments are authentic: who wrote the manifest \
         made parity of something else"
    )]
    Restored {
        /// The fragment.
        position: Position,
    },
    /// The erasure code failed.
    #[error(transparent)]
    Code(#[from] CoderError),
}

/// What an [`Opener`] does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// It needs these pieces.
    Want {
        /// Of this stripe.
        stripe: StripeIndex,
        /// Of these fragments.
        positions: Vec<Position>,
    },
    /// The next bytes of plaintext, of one segment.
    Plain(&'a [u8]),
    /// All of it was given out.
    End,
}

/// Opens one object, or a part of it, and holds one stripe of it.
///
/// Bytes come out when their segment was authenticated; only [`Step::End`] says that they are all that was asked for.
pub struct Opener {
    gather: Gather,
    coder: Coder,
    cipher: Cipher,
    /// The plaintext that is still to be given out.
    rest: Range<u64>,
    /// The object is empty, and that was not authenticated yet.
    empty: bool,
    /// The trees of the fragments of data as they were read, when the whole object is.
    trees: Option<Vec<Frontier>>,
    plain: Zeroizing<Vec<u8>>,
    refused: Option<OpenError>,
}

impl Opener {
    /// Opens the whole object.
    ///
    /// # Errors
    /// The key is another.
    pub fn new(key: &ObjectKey, manifest: Manifest) -> Result<Self, OpenError> {
        let size = manifest.layout().size().0;
        let mut opener = Self::range(key, manifest, 0..size)?;
        opener.empty = size == 0;
        Ok(opener)
    }

    /// Opens these bytes of the plaintext: a part, or what is left after an interruption. Of each stripe it asks for the pieces
    /// that hold them, as long as these are to be had.
    ///
    /// All that comes out is authentic under the key. That pieces which were restored are also those of the fragments that were
    /// lost shows only when the whole object is read: of a part, whoever wrote the manifest could have them restored to others.
    ///
    /// # Errors
    /// The key is another, or the object has no such bytes.
    pub fn range(key: &ObjectKey, manifest: Manifest, range: Range<u64>) -> Result<Self, OpenError> {
        let (expected, got) = (manifest.commitment(), KeyCommitment::of(key, manifest.object()));
        if expected != got {
            return Err(OpenError::WrongKey { expected, got });
        }
        let size = manifest.layout().size();
        if range.start > range.end || range.end > size.0 {
            return Err(OpenError::Range { range, size });
        }
        let (coder, cipher) = (Coder::new(manifest.layout().code()), Cipher::new(key, manifest.object()));
        let plain = Zeroizing::new(vec![0; SEGMENT]);
        let whole = range == (0..size.0);
        let trees = whole.then(|| vec![Frontier::default(); manifest.layout().code().m()]);
        let gather = Gather::new(manifest, StripeIndex(0));
        Ok(Self { gather, coder, cipher, rest: range, empty: false, trees, plain, refused: None })
    }

    /// Plaintext bytes before the next that comes out: where a later [`Opener::range`] goes on.
    pub fn offset(&self) -> Bytes {
        Bytes(self.rest.start)
    }

    /// The fragments that were found to be altered, in the order in which they were found.
    pub fn altered(&self) -> &[Altered] {
        self.gather.altered()
    }

    /// This fragment cannot be had: its pieces are not asked for any more.
    pub fn lose(&mut self, position: Position) {
        self.gather.lose(position);
    }

    /// This fragment can be had again. One that was altered stays out.
    pub fn regain(&mut self, position: Position) {
        self.gather.regain(position);
    }

    /// Takes a piece of the current stripe, with its path.
    ///
    /// # Errors
    /// It is not wanted; or it is not the object's, and its fragment is not asked for again.
    pub fn give(
        &mut self,
        position: Position,
        stripe: StripeIndex,
        bytes: &[u8],
        path: &Path,
    ) -> Result<(), PieceError> {
        self.gather.give(position, stripe, bytes, path)
    }

    /// Says what it needs, or gives the next bytes.
    ///
    /// # Errors
    /// Too few pieces are to be had (which may pass), or what they hold is not authentic (which does not).
    pub fn step(&mut self) -> Result<Step<'_>, OpenError> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        if self.rest.is_empty() && !self.empty {
            return Ok(Step::End);
        }
        let m = u32::from(self.gather.layout().code().data());
        let segment = segment_of(self.rest.start);
        let stripe = StripeIndex(segment / m);
        self.gather.turn(stripe);
        // Of this stripe, from this segment to the last that is wanted.
        let last = segment_of(self.rest.end.max(1) - 1).min(stripe.0 * m + (m - 1));
        let goal = Set::of((segment..=last).map(|segment| Position((segment % m) as u8)));
        if let Missing::Ask(positions) = self.gather.missing(goal)? {
            return Ok(Step::Want { stripe, positions });
        }
        self.gather.restore(&mut self.coder, goal)?;

        let position = Position((segment % m) as u8);
        let opened = self.open(segment, position).ok_or(OpenError::Inconsistent { segment });
        let bounds = match opened.and_then(|bounds| self.name(segment, position).map(|()| bounds)) {
            Ok(bounds) => bounds,
            Err(refused) => {
                self.refused = Some(refused.clone());
                return Err(refused);
            }
        };
        if self.empty {
            self.empty = false;
            return Ok(Step::End);
        }
        self.rest.start += bounds.len() as u64;
        Ok(Step::Plain(&self.plain[bounds]))
    }

    /// Opens a segment that is here into `plain`, and says which part of it is wanted.
    fn open(&mut self, segment: u32, position: Position) -> Option<Range<usize>> {
        let last = segment + 1 == self.gather.layout().segments();
        let sealed = self.gather.piece(position);
        let len = sealed.len().checked_sub(TAG)?;
        self.cipher.open(segment, last, sealed, self.plain.get_mut(..len)?)?;
        let before = u64::from(segment) * SEGMENT as u64;
        let from = (self.rest.start - before) as usize;
        let to = (self.rest.end - before).min(len as u64) as usize;
        (from <= to).then_some(from..to)
    }

    /// Enters a segment that was opened into the tree of its fragment. With the last of a whole object, the trees must be the
    /// manifest's: paths show it of what holders gave, and only this of what was restored.
    fn name(&mut self, segment: u32, position: Position) -> Result<(), OpenError> {
        let Some(trees) = &mut self.trees else { return Ok(()) };
        if let Some(tree) = trees.get_mut(usize::from(position.0)) {
            tree.push(self.gather.digest(position));
        }
        if segment + 1 < self.gather.layout().segments() {
            return Ok(());
        }
        let fragments = (0..).map(Position).zip(self.gather.manifest().fragments());
        match fragments.zip(&*trees).find(|((_, expected), tree)| tree.root() != **expected) {
            Some(((position, _), _)) => Err(OpenError::Restored { position }),
            None => Ok(()),
        }
    }
}

/// The segment that this byte of the plaintext is in.
fn segment_of(byte: u64) -> u32 {
    (byte / SEGMENT as u64) as u32
}

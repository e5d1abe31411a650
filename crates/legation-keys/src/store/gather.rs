//! The pieces of one stripe as they come in, from whichever fragments are to be had: each held against the manifest first.

use std::fmt;

use super::{
    Altered, CoderError, Layout, Manifest, PIECE, Path, PieceDigest, PieceError, Position, StripeIndex, code::Coder,
    piece_digest,
};

/// Positions, a bit for each.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Set(u32);

impl Set {
    pub(super) fn of(positions: impl IntoIterator<Item = Position>) -> Self {
        let mut set = Self::default();
        positions.into_iter().for_each(|position| set.insert(position));
        set
    }

    pub(super) fn insert(&mut self, position: Position) {
        self.0 |= Self::bit(position);
    }

    pub(super) fn remove(&mut self, position: Position) {
        self.0 &= !Self::bit(position);
    }

    pub(super) fn has(self, position: Position) -> bool {
        self.0 & Self::bit(position) != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Position> {
        (0..32).map(Position).filter(move |position| self.has(*position))
    }

    /// Nothing for what no code has.
    fn bit(position: Position) -> u32 {
        1_u32.checked_shl(position.0.into()).unwrap_or(0)
    }
}

/// A stripe of which fewer pieces are to be had than it takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stripe {stripe} cannot be read: it takes {need} of its pieces, and {have} are to be had{}", Named(.altered))]
pub struct TooFew {
    /// The stripe.
    pub stripe: StripeIndex,
    /// Pieces that are here or may be asked for.
    pub have: usize,
    /// Pieces that it takes.
    pub need: usize,
    /// The fragments that were found to be altered.
    pub altered: Vec<Altered>,
}

struct Named<'a>(&'a [Altered]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|altered| write!(f, "; {altered}"))
    }
}

/// What is still missing for what is wanted of a stripe.
pub(super) enum Missing {
    /// Pieces to ask for.
    Ask(Vec<Position>),
    /// Nothing: all is there, or can be restored.
    Nothing,
}

pub(super) struct Gather {
    manifest: Manifest,
    stripe: StripeIndex,
    /// What is here of this stripe.
    have: Set,
    /// Pieces by position, each filled up with zeros to the length it is coded with.
    pieces: Vec<Vec<u8>>,
    /// Digests by position, of pieces of this stripe that came with a path to the manifest's.
    proven: Vec<Option<PieceDigest>>,
    /// Fragments that are never asked again, and why.
    altered: Vec<Altered>,
    /// Fragments that are not asked for now.
    lost: Set,
}

impl Gather {
    pub(super) fn new(manifest: Manifest, stripe: StripeIndex) -> Self {
        let n = manifest.layout().code().n();
        let (have, lost) = (Set::default(), Set::default());
        Self { manifest, stripe, have, pieces: vec![Vec::new(); n], proven: vec![None; n], altered: Vec::new(), lost }
    }

    pub(super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(super) fn layout(&self) -> Layout {
        self.manifest.layout()
    }

    pub(super) fn stripe(&self) -> StripeIndex {
        self.stripe
    }

    pub(super) fn altered(&self) -> &[Altered] {
        &self.altered
    }

    pub(super) fn lose(&mut self, position: Position) {
        self.lost.insert(position);
    }

    pub(super) fn regain(&mut self, position: Position) {
        self.lost.remove(position);
    }

    /// Goes to another stripe, and forgets the pieces of this one.
    pub(super) fn turn(&mut self, stripe: StripeIndex) {
        if self.stripe != stripe {
            self.stripe = stripe;
            self.have = Set::default();
            self.proven.fill(None);
        }
    }

    /// Those of `positions` that have a piece in this stripe.
    pub(super) fn present(&self, positions: impl IntoIterator<Item = Position>) -> Set {
        let layout = self.layout();
        Set::of(positions.into_iter().filter(|position| layout.piece_len(*position, self.stripe).is_some()))
    }

    fn bad(&self) -> Set {
        Set::of(self.altered.iter().map(|altered| altered.position))
    }

    /// Takes a piece, if it is the manifest's.
    pub(super) fn give(
        &mut self,
        position: Position,
        stripe: StripeIndex,
        bytes: &[u8],
        path: &Path,
    ) -> Result<(), PieceError> {
        if stripe != self.stripe || self.have.has(position) || self.bad().has(position) {
            return Err(PieceError::Unwanted { position, stripe });
        }
        let digest = match self.manifest.proven(position, stripe, bytes, path) {
            Ok(digest) => digest,
            Err(error) => {
                if let PieceError::Altered(altered) = error {
                    self.altered.push(altered);
                }
                return Err(error);
            }
        };
        self.proven[usize::from(position.0)] = Some(digest);
        let len = self.layout().shard_len(stripe);
        let piece = &mut self.pieces[usize::from(position.0)];
        piece.clear();
        piece.reserve_exact(PIECE);
        piece.extend_from_slice(bytes);
        piece.resize(len, 0);
        self.have.insert(position);
        Ok(())
    }

    /// What must be asked for so that the pieces at `goal` are here or can be restored.
    pub(super) fn missing(&self, goal: Set) -> Result<Missing, TooFew> {
        let missing = goal.without(self.have);
        let shunned = self.bad().0 | self.lost.0;
        if missing.is_empty() {
            return Ok(Missing::Nothing);
        }
        if missing.and(Set(shunned)).is_empty() {
            return Ok(Missing::Ask(missing.iter().collect()));
        }
        // One that is wanted is not to be had: any others of the stripe do, as many as it has pieces of data.
        let need = self.layout().filled(self.stripe);
        let here = self.have.len();
        if here >= need {
            return Ok(Missing::Nothing);
        }
        let others = self.present(self.layout().code().positions()).without(self.have).without(Set(shunned));
        if here + others.len() < need {
            let altered = self.altered.clone();
            return Err(TooFew { stripe: self.stripe, have: here + others.len(), need, altered });
        }
        Ok(Missing::Ask(others.iter().take(need - here).collect()))
    }

    /// Restores the pieces at `goal`. Only when nothing is missing for it.
    pub(super) fn restore(&mut self, coder: &mut Coder, goal: Set) -> Result<(), CoderError> {
        let missing = goal.without(self.have);
        if missing.is_empty() {
            return Ok(());
        }
        let code = self.layout().code();
        let len = self.layout().shard_len(self.stripe);
        let filled = self.layout().filled(self.stripe);
        let all_data = self.present((0..code.data()).map(Position));
        let parity = missing.without(all_data);
        // Parity is coded anew, out of all data.
        let data = if parity.is_empty() { missing } else { all_data.without(self.have) };
        if !data.is_empty() {
            let here = self.have.iter().take(filled);
            let pieces = here.map(|position| (usize::from(position.0), &self.pieces[usize::from(position.0)][..]));
            let restored = coder.restore(len, filled, &pieces.collect::<Vec<_>>())?;
            for position in data.iter() {
                fill(&mut self.pieces[usize::from(position.0)], restored.data(position.0.into()));
            }
            self.have = Set(self.have.0 | data.0);
        }
        if !parity.is_empty() {
            let m = code.m();
            let (data, others) = self.pieces.split_at_mut(m);
            // Those that the stripe does not have are zero; their places hold pieces of earlier stripes.
            for absent in &mut data[filled..] {
                absent.clear();
                absent.resize(len, 0);
            }
            let coded = coder.encode(len, data.iter().map(|piece| &piece[..len]))?;
            for position in parity.iter() {
                let index = usize::from(position.0) - m;
                fill(&mut others[index], coded.parity(index));
            }
            self.have = Set(self.have.0 | parity.0);
        }
        Ok(())
    }

    /// A piece that is here, without what it was filled up with.
    pub(super) fn piece(&self, position: Position) -> &[u8] {
        let len = self.layout().piece_len(position, self.stripe).unwrap_or_default();
        self.pieces.get(usize::from(position.0)).and_then(|piece| piece.get(..len)).unwrap_or_default()
    }

    /// The digest of a piece that is here: proven, or that of what was restored, which nothing proves yet.
    pub(super) fn digest(&self, position: Position) -> PieceDigest {
        let proven = self.proven.get(usize::from(position.0)).copied().flatten();
        proven.unwrap_or_else(|| piece_digest(self.manifest.object(), position, self.stripe, self.piece(position)))
    }
}

fn fill(piece: &mut Vec<u8>, bytes: Option<&[u8]>) {
    piece.clear();
    piece.extend_from_slice(bytes.unwrap_or_default());
}

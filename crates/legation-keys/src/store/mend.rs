//! Repair: makes lost fragments anew out of others, without the key. Whoever repairs sees ciphertext alone.

use super::{
    Altered, CoderError, Manifest, Path, Piece, PieceError, PieceList, Position, StripeIndex, TooFew,
    code::Coder,
    gather::{Gather, Missing, Set},
};

/// Why fragments are not made anew.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MendError {
    /// The object has no such fragment, or this list is longer than it.
    #[error("object has no fragment {position}, or not so many pieces of it")]
    Position {
        /// What was asked for.
        position: Position,
    },
    /// Too few pieces of a stripe are to be had. It may pass: a holder may come back.
    #[error(transparent)]
    TooFew(#[from] TooFew),
    /// Every piece that went in is the manifest's, and yet not what came out: it names fragments that do not belong together, or
    /// the list that was gone on with is another's. What came out is worth nothing.
    #[error("fragment {position} as it was made is not the manifest's, though all that it was made of is")]
    Inconsistent {
        /// The fragment.
        position: Position,
    },
    /// The erasure code failed.
    #[error(transparent)]
    Code(#[from] CoderError),
}

/// What a [`Mender`] does next.
#[derive(Debug, PartialEq, Eq)]
pub enum MendStep<'a> {
    /// It needs these pieces.
    Want {
        /// Of this stripe.
        stripe: StripeIndex,
        /// Of these fragments.
        positions: Vec<Position>,
    },
    /// The pieces of one stripe that were lost.
    Made(Mended<'a>),
    /// All pieces were given out, and they are the manifest's.
    End,
}

/// The lost pieces of one stripe.
#[derive(Debug, PartialEq, Eq)]
pub struct Mended<'a>(Vec<Piece<'a>>);

impl<'a> Mended<'a> {
    /// They, by position.
    pub fn pieces(&self) -> &[Piece<'a>] {
        &self.0
    }
}

/// Makes fragments anew, and holds one stripe.
///
/// What comes out is known to be the manifest's only at [`MendStep::End`]: until then, keep it aside.
pub struct Mender {
    gather: Gather,
    coder: Coder,
    /// The fragments that are made, and the pieces of them that were given out.
    lost: Vec<(Position, PieceList)>,
    /// The pieces of this stripe were given out.
    made: bool,
}

impl Mender {
    /// Begins to make these fragments.
    ///
    /// # Errors
    /// There is no such fragment.
    pub fn new(manifest: Manifest, lost: &[Position]) -> Result<Self, MendError> {
        let lists = Set::of(lost.iter().copied()).iter().map(|position| (position, PieceList::new())).collect();
        if let Some(position) = lost.iter().find(|position| position.0 >= manifest.layout().code().fragments()) {
            return Err(MendError::Position { position: *position });
        }
        Ok(Self::at(manifest, StripeIndex(0), lists))
    }

    /// Goes on to make this fragment after those of its pieces that this list is of.
    ///
    /// # Errors
    /// There is no such fragment, or it has fewer pieces.
    pub fn resume(manifest: Manifest, position: Position, list: PieceList) -> Result<Self, MendError> {
        let known = position.0 < manifest.layout().code().fragments();
        if !known || list.len() > manifest.layout().pieces(position) {
            return Err(MendError::Position { position });
        }
        Ok(Self::at(manifest, StripeIndex(list.len()), vec![(position, list)]))
    }

    fn at(manifest: Manifest, stripe: StripeIndex, lost: Vec<(Position, PieceList)>) -> Self {
        let coder = Coder::new(manifest.layout().code());
        let mut gather = Gather::new(manifest, stripe);
        lost.iter().for_each(|(position, _)| gather.lose(*position));
        Self { gather, coder, lost, made: false }
    }

    /// The fragments that were found to be altered, in the order in which they were found.
    pub fn altered(&self) -> &[Altered] {
        self.gather.altered()
    }

    /// This fragment cannot be had either: its pieces are not asked for any more.
    pub fn lose(&mut self, position: Position) {
        self.gather.lose(position);
    }

    /// This fragment can be had again, if it is not among those that are made.
    pub fn regain(&mut self, position: Position) {
        if !self.lost.iter().any(|(lost, _)| *lost == position) {
            self.gather.regain(position);
        }
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

    /// Says what it needs, or gives the pieces of the next stripe.
    ///
    /// # Errors
    /// Too few pieces are to be had (which may pass), or the fragments do not belong together (which does not).
    pub fn step(&mut self) -> Result<MendStep<'_>, MendError> {
        if std::mem::take(&mut self.made) {
            self.gather.turn(StripeIndex(self.gather.stripe().0 + 1));
        }
        let stripe = self.gather.stripe();
        let goal = self.gather.present(self.lost.iter().map(|(position, _)| *position));
        // Fragments end with the last stripe or the one before it, so none has a piece further on.
        if goal.is_empty() {
            return self.check().map(|()| MendStep::End);
        }
        if let Missing::Ask(positions) = self.gather.missing(goal)? {
            return Ok(MendStep::Want { stripe, positions });
        }
        self.gather.restore(&mut self.coder, goal)?;
        self.made = true;
        let mut pieces = Vec::with_capacity(self.lost.len());
        for (position, list) in self.lost.iter_mut().filter(|(position, _)| goal.has(*position)) {
            let (bytes, digest) = (self.gather.piece(*position), self.gather.digest(*position));
            list.push(digest);
            pieces.push(Piece { position: *position, stripe, bytes, digest });
        }
        Ok(MendStep::Made(Mended(pieces)))
    }

    /// The lists of the pieces that were given out, for whoever keeps them.
    pub fn into_lists(self) -> Vec<(Position, PieceList)> {
        self.lost
    }

    fn check(&self) -> Result<(), MendError> {
        let manifest = self.gather.manifest();
        match self.lost.iter().find(|(position, list)| !manifest.is_list(*position, list)) {
            Some((position, _)) => Err(MendError::Inconsistent { position: *position }),
            None => Ok(()),
        }
    }
}

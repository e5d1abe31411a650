//! Sealing: plaintext in, in chunks of any size; stripes of pieces out, each piece with its digest; at the end the manifest.

use legation_core::{Bytes, ObjectId};
use zeroize::Zeroizing;

use super::{
    Code, CoderError, Fields, KeyCommitment, Layout, Manifest, OBJECT_MAX, ObjectKey, PIECE, PieceDigest, Position,
    SEGMENT, SEGMENTS_MAX, StripeIndex, TAG,
    cipher::Cipher,
    code::{Coded, Coder},
    layout,
    list::Frontier,
    piece_digest,
};

const MAGIC: &[u8; 16] = b"legation-put-v2\n";
/// The digest of a piece that a stripe does not have.
const ABSENT: PieceDigest = PieceDigest::from_bytes([0; 32]);
/// Longest [`Checkpoint`], in bytes.
pub const CHECKPOINT_MAX: usize = 70 + 32 * 32 * (24 + 1);

/// Why an object was not sealed, or not further.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SealError {
    /// The plaintext is longer than [`OBJECT_MAX`].
    #[error("object is longer than {} bytes", OBJECT_MAX.0)]
    TooLong,
    /// Bytes were left over when it was to end: what [`Sealer::push`] did not take yet.
    #[error("the end of the object was not taken: push until no stripe is given")]
    LeftOver,
    /// It was finished, or an earlier call failed.
    #[error("the object is finished or broken: seal it again under a new key")]
    Ended,
    /// Taken up again with other bytes than before: to go on would seal two plaintexts under one nonce.
    #[error(
        "what is read differs from what was read before the interruption, at stripe {stripe}: put it again under a new key"
    )]
    Changed {
        /// The stripe.
        stripe: StripeIndex,
    },
    /// Taken up again with another key.
    #[error("this is not the key of the interrupted put")]
    WrongKey,
    /// The erasure code failed.
    #[error(transparent)]
    Code(#[from] CoderError),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Segments gather.
    Filling,
    /// A stripe was given out, and leaves with the next call.
    Out,
    /// Finished, or broken.
    Ended,
}

/// Seals one object, and holds one stripe of it.
///
/// Nothing is an object before [`Sealer::finish`] and the manifest that it gives.
pub struct Sealer {
    object: ObjectId,
    code: Code,
    commitment: KeyCommitment,
    cipher: Cipher,
    coder: Coder,
    /// Plaintext of a segment that is not whole, or may be the last.
    pending: Zeroizing<Vec<u8>>,
    /// The stripe's segments, each in a place for a whole one.
    sealed: Vec<u8>,
    /// How many there are, and the length of the last.
    filled: usize,
    tail: usize,
    stripe: StripeIndex,
    /// Of the stripe's pieces, by position.
    digests: Vec<PieceDigest>,
    /// The trees of all stripes before.
    frontiers: Vec<Frontier>,
    /// Plaintext bytes sealed.
    size: u64,
    /// What the first stripe must give, when an interrupted put is taken up.
    due: Option<Vec<PieceDigest>>,
    state: State,
}

impl Sealer {
    /// Begins an object. `key` must be new: one key seals one object once.
    pub fn new(key: &ObjectKey, object: ObjectId, code: Code) -> Self {
        Self {
            object,
            code,
            commitment: KeyCommitment::of(key, object),
            cipher: Cipher::new(key, object),
            coder: Coder::new(code),
            pending: Zeroizing::new(Vec::with_capacity(SEGMENT)),
            sealed: vec![0; code.m() * PIECE],
            filled: 0,
            tail: 0,
            stripe: StripeIndex(0),
            digests: vec![ABSENT; code.n()],
            frontiers: vec![Frontier::default(); code.n()],
            size: 0,
            due: None,
            state: State::Filling,
        }
    }

    /// Takes up a put that ended after this checkpoint was kept. Plaintext goes on at [`Sealer::offset`]; the first stripe is the
    /// checkpoint's own once more, and is given out only if it is the same.
    ///
    /// # Errors
    /// The key is another.
    pub fn resume(key: &ObjectKey, checkpoint: &Checkpoint) -> Result<Self, SealError> {
        let mut sealer = Self::new(key, checkpoint.object, checkpoint.code);
        if sealer.commitment != checkpoint.commitment {
            return Err(SealError::WrongKey);
        }
        sealer.stripe = checkpoint.stripe;
        sealer.size = u64::from(checkpoint.stripe.0) * checkpoint.code.stripe().0;
        sealer.frontiers.clone_from(&checkpoint.frontiers);
        sealer.due = Some(checkpoint.digests.clone());
        Ok(sealer)
    }

    /// Plaintext bytes taken so far, or before what is wanted next.
    pub fn offset(&self) -> Bytes {
        Bytes(self.size + self.pending.len() as u64)
    }

    /// Takes bytes from the front of `bytes`: all of them, or as many as it needs to be sure of a stripe, which it gives then.
    /// Call it until it gives none.
    ///
    /// # Errors
    /// The object is too long, ended, or another than the interrupted one. No error passes: the object is broken.
    pub fn push(&mut self, bytes: &mut &[u8]) -> Result<Option<Stripe<'_>>, SealError> {
        self.retire()?;
        while !bytes.is_empty() {
            // Only a byte beyond it shows that a segment is not the last.
            if self.pending.len() == SEGMENT {
                self.seal(None, false)?;
            } else if self.pending.is_empty() && bytes.len() > SEGMENT {
                let (segment, rest) = bytes.split_at(SEGMENT);
                self.seal(Some(segment), false)?;
                *bytes = rest;
            } else {
                let (taken, rest) = bytes.split_at(bytes.len().min(SEGMENT - self.pending.len()));
                self.pending.extend_from_slice(taken);
                *bytes = rest;
                continue;
            }
            if self.filled == self.code.m() {
                return self.emit(false).map(Some);
            }
        }
        Ok(None)
    }

    /// Ends the object: gives its last stripe, and the manifest, which is worth something when all stripes are kept.
    ///
    /// # Errors
    /// As [`Sealer::push`].
    pub fn finish(&mut self) -> Result<(Stripe<'_>, Manifest), SealError> {
        self.retire()?;
        // A stripe is only ever given when there is a byte after it.
        if self.pending.is_empty() && self.size > 0 {
            self.state = State::Ended;
            let stripe = self.stripe;
            return Err(if self.due.is_some() { SealError::Changed { stripe } } else { SealError::LeftOver });
        }
        self.seal(None, true)?;
        let size = Bytes(self.size);
        let layout = Layout::new(self.code, size).ok_or(SealError::TooLong)?;
        let last = self.emit(true)?;
        let trees = last.frontiers.iter().zip(code_digests(&last)).map(|(tree, digest)| {
            let mut tree = tree.clone();
            digest.into_iter().for_each(|digest| tree.push(digest));
            tree.root()
        });
        let manifest = Manifest::new(last.object, layout, last.commitment, trees.collect());
        Ok((last, manifest))
    }

    /// Enters a stripe that was given out into the trees.
    fn retire(&mut self) -> Result<(), SealError> {
        match self.state {
            State::Ended => return Err(SealError::Ended),
            State::Filling => return Ok(()),
            State::Out => {}
        }
        // Only whole stripes are followed by others: all their pieces are there.
        for (tree, digest) in self.frontiers.iter_mut().zip(&self.digests) {
            tree.push(*digest);
        }
        self.stripe.0 += 1;
        self.filled = 0;
        self.state = State::Filling;
        Ok(())
    }

    /// Seals a segment: these bytes, or those that are pending.
    fn seal(&mut self, direct: Option<&[u8]>, last: bool) -> Result<(), SealError> {
        let before = std::mem::replace(&mut self.state, State::Ended);
        let plain = direct.unwrap_or(&self.pending);
        let index = self.stripe.0 * u32::from(self.code.data()) + self.filled as u32;
        if index >= SEGMENTS_MAX {
            return Err(SealError::TooLong);
        }
        self.tail = plain.len() + TAG;
        let slot = &mut self.sealed[self.filled * PIECE..][..self.tail];
        // GCM refuses only what is longer than 64 GiB.
        self.cipher.seal(index, last, plain, slot).ok_or(SealError::TooLong)?;
        let position = Position(self.filled as u8);
        self.digests[self.filled] = piece_digest(self.object, position, self.stripe, slot);
        self.size += plain.len() as u64;
        self.filled += 1;
        if direct.is_none() {
            self.pending.clear();
        }
        self.state = before;
        Ok(())
    }

    /// Codes the segments that are sealed, and gives the stripe.
    fn emit(&mut self, last: bool) -> Result<Stripe<'_>, SealError> {
        self.state = State::Ended;
        let m = self.code.m();
        let first = if self.filled > 1 { PIECE } else { self.tail };
        let len = layout::shard_len(first);
        self.sealed[(self.filled - 1) * PIECE + self.tail..].fill(0);
        self.digests[self.filled..m].fill(ABSENT);
        let coded = self.coder.encode(len, self.sealed.chunks_exact(PIECE).map(|slot| &slot[..len]))?;
        for (index, digest) in self.digests[m..].iter_mut().enumerate() {
            let piece = coded.parity(index).unwrap_or_default();
            *digest = piece_digest(self.object, Position((m + index) as u8), self.stripe, piece);
        }
        if self.due.take().is_some_and(|due| due != self.digests) {
            return Err(SealError::Changed { stripe: self.stripe });
        }
        if !last {
            self.state = State::Out;
        }
        Ok(Stripe {
            object: self.object,
            code: self.code,
            commitment: self.commitment,
            index: self.stripe,
            filled: self.filled,
            tail: self.tail,
            sealed: &self.sealed,
            coded,
            digests: &self.digests,
            frontiers: &self.frontiers,
        })
    }
}

/// The digests of the pieces that a stripe has, by position.
fn code_digests(stripe: &Stripe<'_>) -> impl Iterator<Item = Option<PieceDigest>> {
    let absent = stripe.filled..stripe.code.m();
    stripe.digests.iter().enumerate().map(move |(at, digest)| (!absent.contains(&at)).then_some(*digest))
}

/// A stripe, sealed and coded.
pub struct Stripe<'a> {
    object: ObjectId,
    code: Code,
    commitment: KeyCommitment,
    index: StripeIndex,
    filled: usize,
    tail: usize,
    sealed: &'a [u8],
    coded: Coded<'a>,
    digests: &'a [PieceDigest],
    frontiers: &'a [Frontier],
}

/// What one holder gets of a stripe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece<'a> {
    /// The fragment that it is of.
    pub position: Position,
    /// The stripe that it is of: it is the fragment's piece of this index.
    pub stripe: StripeIndex,
    /// Ciphertext, or parity of it.
    pub bytes: &'a [u8],
    /// Its digest, for the fragment's list.
    pub digest: PieceDigest,
}

impl Stripe<'_> {
    /// Which it is.
    pub fn index(&self) -> StripeIndex {
        self.index
    }

    /// Its pieces, by position; of the last stripe, those that it has.
    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let m = self.code.m();
        code_digests(self).enumerate().filter_map(move |(at, digest)| {
            let bytes = match at.checked_sub(m) {
                Some(parity) => self.coded.parity(parity)?,
                None if at + 1 == self.filled => &self.sealed[at * PIECE..][..self.tail],
                None => &self.sealed[at * PIECE..][..PIECE],
            };
            Some(Piece { position: Position(at as u8), stripe: self.index, bytes, digest: digest? })
        })
    }

    /// What a put is taken up with when it is interrupted while this stripe is on its way: keep it before the first piece leaves,
    /// and so that of *every* stripe, each in place of the one before. All stripes before must be kept by their holders by then.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            object: self.object,
            code: self.code,
            commitment: self.commitment,
            stripe: self.index,
            frontiers: self.frontiers.to_vec(),
            digests: self.digests.to_vec(),
        }
    }
}

/// Where a put stands. It holds no secret: the key is kept elsewhere.
///
/// An older checkpoint than the last that was kept must not be used: the stripe that it repeats was followed by others, which
/// would be sealed anew unchecked. If the bytes have changed there, two plaintexts are sealed under one nonce, and both are
/// given away. So a put whose checkpoint comes from a backup, from a disk that somebody else can set back, or from where two may
/// take it up at once, is not taken up: it is put again under a new key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    object: ObjectId,
    code: Code,
    commitment: KeyCommitment,
    stripe: StripeIndex,
    frontiers: Vec<Frontier>,
    digests: Vec<PieceDigest>,
}

/// Bytes are no checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a checkpoint of a put into the sealed store, version 2")]
pub struct CheckpointError;

impl Checkpoint {
    /// The object that is put.
    pub fn object(&self) -> ObjectId {
        self.object
    }

    /// The stripe that is given out first when it is taken up: what holders have of it or after it is replaced.
    pub fn stripe(&self) -> StripeIndex {
        self.stripe
    }

    /// Its one spelling.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(self.object.as_bytes());
        bytes.extend_from_slice(&[self.code.data(), self.code.parity()]);
        bytes.extend_from_slice(self.commitment.as_bytes());
        bytes.extend_from_slice(&self.stripe.0.to_be_bytes());
        let trees = self.frontiers.iter().flat_map(Frontier::peaks);
        trees.chain(&self.digests).for_each(|digest| bytes.extend_from_slice(digest.as_bytes()));
        bytes
    }

    /// Reads what [`Checkpoint::to_bytes`] wrote, and nothing else.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        Self::read(bytes).ok_or(CheckpointError)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        (fields.take()? == *MAGIC).then_some(())?;
        let object = ObjectId::from_bytes(fields.take()?);
        let [data, parity] = fields.take()?;
        let code = Code::new(data, parity).ok()?;
        let commitment = KeyCommitment::from_bytes(fields.take()?);
        let stripe = StripeIndex(u32::from_be_bytes(fields.take()?));
        (stripe.0 < SEGMENTS_MAX.div_ceil(u32::from(data))).then_some(())?;
        let peaks = Frontier::peak_count(stripe.0);
        let mut tree = || fields.digests(peaks).and_then(|peaks| Frontier::restore(stripe.0, peaks));
        let frontiers = (0..code.n()).map(|_| tree()).collect::<Option<_>>()?;
        let digests = fields.digests(code.n())?;
        fields.0.is_empty().then_some(Self { object, code, commitment, stripe, frontiers, digests })
    }
}

//! An object of the sealed store as its holders have it: what a stranger would begin with.

use std::{ops::Range, sync::LazyLock};

use legation_core::ObjectId;
use legation_keys::{
    ObjectKey, SEGMENT,
    store::{Checkpoint, Code, Manifest, Path, PieceDigest, PieceList, Position, Sealer, Stripe, StripeIndex},
};

const OBJECT: ObjectId = ObjectId::from_bytes([9; 16]);
/// Plaintext bytes: two stripes, and one whose pieces are so short that inputs hold them.
const SIZE: usize = 4 * SEGMENT + 100;
/// The last stripe.
pub const LAST: StripeIndex = StripeIndex(2);
/// Every byte of the plaintext.
pub const BYTE: u8 = 1;

/// Its key.
pub fn key() -> ObjectKey {
    ObjectKey::from_bytes([8; 32])
}

/// The plaintext of the last stripe.
pub fn tail() -> Range<u64> {
    4 * SEGMENT as u64..SIZE as u64
}

/// The object.
pub struct Stored {
    pub manifest: Manifest,
    checkpoint: Checkpoint,
    holders: Vec<Holder>,
}

/// One fragment.
#[derive(Clone, Default)]
struct Holder {
    pieces: Vec<Vec<u8>>,
    digests: Vec<PieceDigest>,
    list: PieceList,
}

/// Made once.
pub static STORED: LazyLock<Option<Stored>> = LazyLock::new(stored);

fn keep(holders: &mut [Holder], stripe: &Stripe<'_>) {
    for piece in stripe.pieces() {
        let holder = &mut holders[usize::from(piece.position.0)];
        holder.pieces.push(piece.bytes.to_vec());
        holder.digests.push(piece.digest);
        holder.list.push(piece.digest);
    }
}

fn stored() -> Option<Stored> {
    let code = Code::new(2, 1).ok()?;
    let text = vec![BYTE; SIZE];
    let mut sealer = Sealer::new(&key(), OBJECT, code);
    let mut holders = vec![Holder::default(); usize::from(code.fragments())];
    let mut rest = &text[..];
    while let Some(stripe) = sealer.push(&mut rest).ok()? {
        keep(&mut holders, &stripe);
    }
    let (stripe, manifest) = sealer.finish().ok()?;
    keep(&mut holders, &stripe);
    Some(Stored { manifest, checkpoint: stripe.checkpoint(), holders })
}

impl Stored {
    /// A piece, where there is one.
    pub fn piece(&self, position: Position, stripe: StripeIndex) -> Option<&[u8]> {
        let holder = self.holders.get(usize::from(position.0))?;
        holder.pieces.get(usize::try_from(stripe.0).ok()?).map(Vec::as_slice)
    }

    /// The list of the first fragment, and the file of its digests.
    pub fn list(&self) -> Option<(&PieceList, Vec<u8>)> {
        self.holders.first().map(|holder| (&holder.list, file(&holder.digests)))
    }

    fn path(&self, position: Position, stripe: StripeIndex) -> Option<Path> {
        let holder = self.holders.get(usize::from(position.0))?;
        let page = holder.list.page(0, &file(&holder.digests)).ok()?;
        holder.list.path(&page, stripe.0).ok()
    }

    /// What target `store-piece` reads: place, number of digests, path, piece.
    fn answer(&self, position: Position, stripe: StripeIndex) -> Option<Vec<u8>> {
        let path = self.path(position, stripe)?;
        let place = [position.0, u8::try_from(stripe.0).ok()?, u8::try_from(path.len()).ok()?];
        Some([&place[..], &path.to_bytes(), self.piece(position, stripe)?].concat())
    }

    /// What a corpus begins with.
    pub fn seeds(&self) -> Option<Vec<(&'static str, Vec<u8>)>> {
        Some(vec![
            ("manifest", self.manifest.to_bytes()),
            ("checkpoint", self.checkpoint.to_bytes()),
            ("list", self.list()?.1),
            ("data", self.answer(Position(0), LAST)?),
            ("parity", self.answer(Position(2), LAST)?),
        ])
    }
}

fn file(digests: &[PieceDigest]) -> Vec<u8> {
    digests.iter().flat_map(PieceDigest::as_bytes).copied().collect()
}

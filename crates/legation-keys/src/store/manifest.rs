//! What names a stored object: all that a reader needs to know before it believes a holder, in one spelling.
//!
//! Its owner signs its [digest](Manifest::digest), or the bytes, elsewhere.

use std::fmt;

use legation_core::{Bytes, Digest, ObjectId};

use super::{
    Code, CodeError, Fields, FragmentDigest, KeyCommitment, Layout, OBJECT_MAX, Path, PieceDigest, PieceList, Position,
    StripeIndex, digest, piece_digest,
};

const MAGIC: &[u8; 16] = b"legation-store-2";
/// Longest manifest, in bytes.
pub const MANIFEST_MAX: usize = 74 + 32 * 32;

/// The name of a stored object: its length, how it is cut, and what fixes its key and every byte of its fragments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    object: ObjectId,
    layout: Layout,
    commitment: KeyCommitment,
    fragments: Vec<FragmentDigest>,
}

/// Why bytes are no manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// They do not begin as one.
    #[error("not a manifest of the sealed store, version 2")]
    Magic,
    /// They are shorter or longer than it says.
    #[error("manifest has {got} bytes, expected {expected}")]
    Length {
        /// As many as one of its code has.
        expected: usize,
        /// As many as there are.
        got: usize,
    },
    /// There is no such code.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// There is no object of this size.
    #[error("object of {} bytes is longer than {}", .size.0, OBJECT_MAX.0)]
    TooLong {
        /// The size it says.
        size: Bytes,
    },
    /// It names pieces of a fragment that has none, because the object is too short for it.
    #[error("fragment {position} has no piece in an object of {} bytes, expected {expected}, got {got}", .size.0)]
    Absent {
        /// The fragment.
        position: Position,
        /// The size it says.
        size: Bytes,
        /// The digest of no piece.
        expected: FragmentDigest,
        /// The manifest's.
        got: FragmentDigest,
    },
}

/// A piece that a holder answered with, and that is not the object's: with the request and the holder's signature it says who lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("fragment {position} is altered at stripe {stripe}: {why}")]
pub struct Altered {
    /// The fragment.
    pub position: Position,
    /// The stripe of the piece.
    pub stripe: StripeIndex,
    /// What is wrong with it.
    pub why: Why,
}

/// What is wrong with a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is cut or extended.
    Length {
        /// Bytes that it has in the object.
        expected: usize,
        /// Bytes that came.
        got: usize,
    },
    /// Its path is longer or shorter than any to this place.
    Path {
        /// Digests of a path to it.
        expected: usize,
        /// Digests that came.
        got: usize,
    },
    /// Piece and path do not lead to the manifest's digest of the fragment.
    Digest {
        /// The manifest's.
        expected: FragmentDigest,
        /// Where they lead.
        got: FragmentDigest,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { expected, got } => write!(f, "piece has {got} bytes, expected {expected}"),
            Self::Path { expected, got } => write!(f, "path has {got} digests, expected {expected}"),
            Self::Digest { expected, got } => write!(f, "piece and path lead to {got}, expected {expected}"),
        }
    }
}

/// Why a piece is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PieceError {
    /// Nobody wants it: the object has no such piece, or it is not needed now. No fault of who sent it.
    #[error("piece of fragment {position} at stripe {stripe} is not wanted")]
    Unwanted {
        /// The fragment.
        position: Position,
        /// The stripe.
        stripe: StripeIndex,
    },
    /// It is not the object's.
    #[error(transparent)]
    Altered(#[from] Altered),
}

impl Manifest {
    pub(super) fn new(
        object: ObjectId,
        layout: Layout,
        commitment: KeyCommitment,
        fragments: Vec<FragmentDigest>,
    ) -> Self {
        Self { object, layout, commitment, fragments }
    }

    /// The object's id.
    pub fn object(&self) -> ObjectId {
        self.object
    }

    /// Its lengths and its code.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// What fixes its key.
    pub fn commitment(&self) -> KeyCommitment {
        self.commitment
    }

    /// The digest of each fragment, by position.
    pub fn fragments(&self) -> &[FragmentDigest] {
        &self.fragments
    }

    /// SHA-256 of [`Manifest::to_bytes`]: the object's name, which fixes its plaintext.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Its one spelling.
    pub fn to_bytes(&self) -> Vec<u8> {
        let code = self.layout.code();
        let mut bytes = Vec::with_capacity(74 + 32 * code.n());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(self.object.as_bytes());
        bytes.extend_from_slice(&self.layout.size().0.to_be_bytes());
        bytes.extend_from_slice(&[code.data(), code.parity()]);
        bytes.extend_from_slice(self.commitment.as_bytes());
        self.fragments.iter().for_each(|digest| bytes.extend_from_slice(digest.as_bytes()));
        bytes
    }

    /// Reads what [`Manifest::to_bytes`] wrote, and nothing else.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut fields = Fields(bytes);
        if fields.take() != Some(*MAGIC) {
            return Err(ManifestError::Magic);
        }
        let short = ManifestError::Length { expected: 74 + 32, got: bytes.len() };
        let object = ObjectId::from_bytes(fields.take().ok_or(short)?);
        let size = Bytes(fields.take().map(u64::from_be_bytes).ok_or(short)?);
        let [data, parity] = fields.take().ok_or(short)?;
        let code = Code::new(data, parity)?;
        let expected = 74 + 32 * code.n();
        if bytes.len() != expected {
            return Err(ManifestError::Length { expected, got: bytes.len() });
        }
        let commitment = KeyCommitment::from_bytes(fields.take().ok_or(short)?);
        let digests = fields.digests(code.n()).ok_or(short)?;
        let fragments: Vec<_> = digests.iter().map(|digest| FragmentDigest::from_bytes(*digest.as_bytes())).collect();
        let layout = Layout::new(code, size).ok_or(ManifestError::TooLong { size })?;
        let expected = digest::root(None);
        for (position, got) in code.positions().zip(fragments.iter().copied()) {
            if layout.pieces(position) == 0 && got != expected {
                return Err(ManifestError::Absent { position, size, expected, got });
            }
        }
        Ok(Self { object, layout, commitment, fragments })
    }

    /// Checks one piece that a holder gave, with its path. No key is needed: so anybody can have a holder prove that it still has
    /// what it promised to keep.
    ///
    /// # Errors
    /// There is no such piece, or this is not it.
    pub fn check(&self, position: Position, stripe: StripeIndex, bytes: &[u8], path: &Path) -> Result<(), PieceError> {
        self.proven(position, stripe, bytes, path).map(drop)
    }

    /// The digest of a piece, once it is checked.
    pub(super) fn proven(
        &self,
        position: Position,
        stripe: StripeIndex,
        bytes: &[u8],
        path: &Path,
    ) -> Result<PieceDigest, PieceError> {
        let unwanted = PieceError::Unwanted { position, stripe };
        let expected = self.layout.piece_len(position, stripe).ok_or(unwanted)?;
        let root = *self.fragments.get(usize::from(position.0)).ok_or(unwanted)?;
        let altered = |why| PieceError::Altered(Altered { position, stripe, why });
        if bytes.len() != expected {
            return Err(altered(Why::Length { expected, got: bytes.len() }));
        }
        let count = self.layout.pieces(position);
        let digest = piece_digest(self.object, position, stripe, bytes);
        match path.climb(digest, stripe.0, count) {
            Some(got) if got == root => Ok(digest),
            Some(got) => Err(altered(Why::Digest { expected: root, got })),
            None => {
                let expected = Path::expected(stripe.0, count);
                Err(altered(Why::Path { expected, got: path.len() }))
            }
        }
    }

    /// Whether this is the list of all pieces of a fragment: what a holder asks before it says that it keeps them. A digest does
    /// not say how long its piece is: a holder also holds each against [`Layout::piece_len`], or it would be blamed for a manifest
    /// that gives another length.
    pub fn is_list(&self, position: Position, list: &PieceList) -> bool {
        self.fragments.get(usize::from(position.0)) == Some(&list.root()) && list.len() == self.layout.pieces(position)
    }
}

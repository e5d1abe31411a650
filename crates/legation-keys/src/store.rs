//! Objects of the sealed store: encrypted as a stream, spread over holders of whom none can read anything, any few of whom may be
//! lost, and of whom each that alters a byte is named.
//!
//! It is *not* a store: it keeps nothing, asks nobody and signs nothing. Bytes go in, bytes come out, and memory is bounded by a
//! few stripes, whatever the object's size. Who holds which fragment, and whether a [`Manifest`] is its owner's, is decided
//! elsewhere.
//!
//! # Format, version 2
//! ```text
//! object     = m+p fragments and a manifest, 1 <= m <= 16, 0 <= p <= 16
//! segment    = AES-256-GCM of exactly 65536 bytes, and its 16-byte tag;
//!              the last: the same of 1 to 65536 bytes; of 0 only when it is the whole object
//! nonce      = 0 (7 bytes) · index (4 bytes, big-endian) · last? (1 byte: 1 on the last segment, else 0)
//! aad        = "legation-object-v2" · object id (16 bytes)
//! prk        = HKDF-Extract-SHA256(salt = "legation-object-v2", object key)
//! k_seal     = HKDF-Expand(prk, "seal"  · object id, 32)
//! commitment = HKDF-Expand(prk, "check" · object id, 32)
//!
//! stripe s   = pieces 0..m: the segments m·s .. m·s+m, as many as there are (all m, but for the last stripe);
//!              pieces m..m+p: their Reed-Solomon parity, coded as if all were as long as the first, made even, zeros added
//! fragment j = its pieces (·, j), stripe after stripe; nothing stands for a piece that is not there
//! digest     = BLAKE3, keyed with "legation-object-v2 piece digest.", of piece · object id · j (1 byte) · s (4 bytes, big-endian)
//! inner      = BLAKE3, keyed with "legation-object-v2 inner digest.", of left · right
//! root of j  = root over the digests of fragment j in the shape of RFC 6962; of none, the inner hash of nothing
//! manifest   = "legation-store-2" · object id · plaintext bytes (8 bytes, big-endian) · m (1 byte) · p (1 byte)
//!              · commitment · roots
//! ```
//! The parity is that of Leopard-RS in GF(2^16) (Lin, Al-Naffouri, Han: *FFT Algorithm for Binary Extension Finite Fields*, IEEE
//! Transactions on Information Theory 62, 2016), as `reed-solomon-simd` codes it. Pieces are sealed segments, so what a range
//! needs is known from its bounds, and one altered byte is one segment's, one piece's and one holder's.
//!
//! # What binds what
//! The **manifest's digest names the plaintext.** Its commitment fixes the key (a second key with one commitment is a collision of
//! SHA-256), the roots of its fragments of data fix every byte of ciphertext, and plaintext is a function of the two: so AES-GCM,
//! which does not commit to its key, cannot open to two meanings here. It hides, because key commitment and roots are of a
//! pseudorandom function's values alone; it shows the object's length.
//!
//! Nothing says that **parity** is of this data: whoever writes the manifest knows the key, and can make parity of other segments
//! that are as authentic. So what was restored counts as the manifest's only when it was held against the root of the fragment
//! that was lost (check 4), which takes all of the fragment. A *part* of an object with restored pieces in it is only known to
//! be from whoever has the key.
//!
//! Segments are STREAM (Hoang, Reyhanitabar, Rogaway, Vizár, CRYPTO 2015) as in version 1 of the format, under a key of the
//! object's own: **one key seals one object once**, and whoever seals draws a new one. The one exception is a put that is taken up
//! again ([`Checkpoint`]): it seals the same bytes, and is refused before it gives out others.
//!
//! # Checks on reading
//! 1. a piece is at the place in its fragment's tree that was asked for, under the manifest's root for this position: else this
//!    fragment is altered, is named ([`Altered`]) and is not asked again, and other pieces of the stripe take its place;
//! 2. the key is that of the manifest's commitment, before anything is opened;
//! 3. every segment is authentic at its index under this key and id, flagged last exactly if the manifest's size makes it so,
//!    before any of its bytes is given out. Should it not be, no holder did it: whoever wrote the manifest did;
//! 4. of a whole object, every fragment of data as it was read, restored pieces among them, has the manifest's root, before any of
//!    the last segment's bytes is given out.

mod cipher;
mod code;
mod digest;
mod gather;
mod layout;
mod list;
mod manifest;
mod matrix;
mod mend;
mod open;
mod seal;

pub use self::{
    cipher::KeyCommitment,
    code::CoderError,
    digest::{FragmentDigest, PieceDigest, piece_digest},
    gather::TooFew,
    layout::{Code, CodeError, DATA_MAX, Layout, PARITY_MAX, Position, StripeIndex},
    list::{ListError, ListPage, PAGE, PATH_MAX, Path, PieceList},
    manifest::{Altered, MANIFEST_MAX, Manifest, ManifestError, PieceError, Why},
    mend::{MendError, MendStep, Mended, Mender},
    open::{OpenError, Opener, Step},
    seal::{CHECKPOINT_MAX, Checkpoint, CheckpointError, Piece, SealError, Sealer, Stripe},
};
use crate::object::{OBJECT_MAX, ObjectKey, SEGMENT, SEGMENTS_MAX, TAG};

/// Bytes of a sealed segment, and so of every piece but the last.
pub const PIECE: usize = SEGMENT + TAG;
/// What keys and associated data of this version begin with.
const DOMAIN: &[u8; 18] = b"legation-object-v2";

/// The fields of a fixed layout, from its front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    /// So many digests.
    fn digests(&mut self, count: usize) -> Option<Vec<PieceDigest>> {
        // Nothing is set aside for what is not there.
        (self.0.len() / 32 >= count).then_some(())?;
        (0..count).map(|_| self.take().map(PieceDigest::from_bytes)).collect()
    }
}

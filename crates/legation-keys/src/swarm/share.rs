//! One member's share of a key.

use commonware_cryptography::bls12381::primitives::group::Private;
use legation_core::{Digest, custody::Epoch};
use zeroize::Zeroizing;

use super::{
    curve::{self, SCALAR_LEN},
    roster::Roster,
    terms::ShareIndex,
    wire::{ReadError, Reader},
};

/// What a share begins with.
const KIND: &str = "legation-held-v1";

/// One member's share of a key. Secret: wiped when dropped, never shown, not to be copied.
///
/// It is worth as much after its epoch as in it, as long as the key lives: so whoever hands it on drops it, and whatever kept it.
pub struct Share {
    roster: Digest,
    epoch: Epoch,
    index: ShareIndex,
    private: Private,
}

impl Share {
    pub(super) fn new(roster: Digest, epoch: Epoch, index: ShareIndex, private: Private) -> Self {
        Self { roster, epoch, index, private }
    }

    /// Reads a share that was kept. Whether it is one, [`Share::fits`] says.
    ///
    /// # Errors
    /// The format of [`super`], of which a share has one spelling.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReadError> {
        let mut from = Reader::new(bytes, KIND)?;
        let roster = from.digest("roster")?;
        let epoch = Epoch(from.u64("epoch")?);
        let index = from.index("index")?;
        let private = from.secret("share")?;
        from.end()?;
        Ok(Self { roster, epoch, index, private })
    }

    /// The share in the format of [`super`], to be sealed and kept.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Never grown: growing would leave a copy behind.
        let mut out = Zeroizing::new(Vec::with_capacity(KIND.len() + 32 + 8 + 2 + SCALAR_LEN));
        out.extend_from_slice(KIND.as_bytes());
        out.extend_from_slice(self.roster.as_bytes());
        out.extend_from_slice(&self.epoch.0.to_be_bytes());
        out.extend_from_slice(&self.index.get().to_be_bytes());
        out.extend_from_slice(&curve::private_bytes(&self.private)[..]);
        out
    }

    /// Whether it is the share that `roster` says is there.
    pub fn fits(&self, roster: &Roster) -> bool {
        self.roster == roster.digest()
            && self.epoch == roster.epoch()
            && roster.public_at(self.index) == Some(curve::public(&self.private))
    }

    /// Digest of the roster it belongs to.
    pub fn roster(&self) -> Digest {
        self.roster
    }

    /// The epoch it belongs to.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Where it is.
    pub fn index(&self) -> ShareIndex {
        self.index
    }

    pub(super) fn private(&self) -> &Private {
        &self.private
    }
}

//! The public result of a ceremony: who has a share of which key, and what each share's public half is.

use std::fmt;

use commonware_cryptography::bls12381::primitives::group::G2;
use legation_core::{
    Digest, EnclaveId,
    custody::{Epoch, MEMBERS_MAX, Threshold},
};

use super::{
    curve::{self, Commitment, G2_LEN},
    terms::ShareIndex,
    wire::{ReadError, Reader},
};

/// What a roster begins with.
const KIND: &str = "legation-rost-v1";
/// Where a roster names the one before it and there is none.
const NONE: Digest = Digest::from_bytes([0; 32]);

/// The public half of a swarm key: what owners wrap to. It outlives every committee that has it.
#[derive(Clone, PartialEq, Eq)]
pub struct SwarmKey(G2);

/// Who has a share of which key.
///
/// That it is the outcome of a ceremony, its members say by signing its digest.
#[derive(Clone, PartialEq, Eq)]
pub struct Roster {
    ceremony: Digest,
    epoch: Epoch,
    previous: Option<Digest>,
    threshold: Threshold,
    members: Vec<EnclaveId>,
    dealings: Vec<(ShareIndex, Digest)>,
    polynomial: Commitment,
    digest: Digest,
}

impl SwarmKey {
    /// Bytes of a key: a compressed point of G2.
    pub const LEN: usize = G2_LEN;

    /// The key that these bytes are.
    ///
    /// # Errors
    /// They are not the one spelling of a point of its group other than the identity.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Result<Self, ReadError> {
        curve::g2(bytes).map(Self).ok_or(ReadError::Point { part: "swarm key" })
    }

    /// The bytes.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        curve::g2_bytes(&self.0)
    }

    /// SHA-256 of the bytes: what names the key.
    pub fn id(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    pub(super) fn point(&self) -> G2 {
        self.0
    }
}

impl fmt::Debug for SwarmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SwarmKey({})", self.id().short())
    }
}

impl Roster {
    pub(super) fn new(
        ceremony: Digest,
        epoch: Epoch,
        previous: Option<Digest>,
        threshold: Threshold,
        members: Vec<EnclaveId>,
        dealings: Vec<(ShareIndex, Digest)>,
        polynomial: Commitment,
    ) -> Self {
        let mut roster =
            Self { ceremony, epoch, previous, threshold, members, dealings, polynomial, digest: Digest::of(&[]) };
        roster.digest = Digest::of(&roster.to_bytes());
        roster
    }

    /// Reads a roster.
    ///
    /// # Errors
    /// The format of [`super`], of which a roster has one spelling; members and dealers are in ascending order.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReadError> {
        let mut from = Reader::new(bytes, KIND)?;
        let ceremony = from.digest("ceremony")?;
        let epoch = Epoch(from.u64("epoch")?);
        let previous = Some(from.digest("previous roster")?).filter(|previous| *previous != NONE);
        if previous.is_some() != (epoch.0 > 0) {
            return Err(ReadError::Epoch);
        }
        let threshold = from.threshold()?;
        let members = (0..threshold.members())
            .map(|_| from.digest("members").map(EnclaveId::new))
            .collect::<Result<Vec<_>, _>>()?;
        if !members.is_sorted_by(|a, b| a < b) {
            return Err(ReadError::Order { part: "members" });
        }
        // The first committee's dealings are its members'; later ones are of a committee that this does not describe.
        let (least, most) = if epoch.0 == 0 { (threshold.needed(), threshold.members()) } else { (2, MEMBERS_MAX) };
        let count = from.u16("dealings")?;
        if !(least..=most).contains(&count) {
            return Err(ReadError::Bounds { part: "number of dealings", got: count });
        }
        let mut dealings = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let dealer = from.index("dealer")?;
            if epoch.0 == 0 && dealer.get() > threshold.members() {
                return Err(ReadError::Bounds { part: "dealer", got: dealer.get() });
            }
            dealings.push((dealer, from.digest("dealings")?));
        }
        if !dealings.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err(ReadError::Order { part: "dealers" });
        }
        let points = (0..threshold.needed()).map(|_| from.g2("polynomial")).collect::<Result<_, _>>()?;
        from.end()?;
        let (polynomial, digest) = (Commitment::new(points), Digest::of(bytes));
        Ok(Self { ceremony, epoch, previous, threshold, members, dealings, polynomial, digest })
    }

    /// The roster in the format of [`super`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = KIND.as_bytes().to_vec();
        out.extend_from_slice(self.ceremony.as_bytes());
        out.extend_from_slice(&self.epoch.0.to_be_bytes());
        out.extend_from_slice(self.previous.unwrap_or(NONE).as_bytes());
        out.extend_from_slice(&self.threshold.needed().to_be_bytes());
        out.extend_from_slice(&self.threshold.members().to_be_bytes());
        self.members.iter().for_each(|member| out.extend_from_slice(member.digest().as_bytes()));
        // Never more than there can be dealers.
        let count = u16::try_from(self.dealings.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        for (dealer, dealing) in &self.dealings {
            out.extend_from_slice(&dealer.get().to_be_bytes());
            out.extend_from_slice(dealing.as_bytes());
        }
        out.extend_from_slice(&self.polynomial.to_bytes());
        out
    }

    /// SHA-256 of its bytes: what members sign, and what shares and partials name.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Digest of the ceremony that made it.
    pub fn ceremony(&self) -> Digest {
        self.ceremony
    }

    /// How often the key had changed hands.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Digest of the roster before, after the first.
    pub fn previous(&self) -> Option<Digest> {
        self.previous
    }

    /// How many of how many open.
    pub fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// Who has a share, in ascending order.
    pub fn members(&self) -> &[EnclaveId] {
        &self.members
    }

    /// The dealings that it is made of, by dealer.
    pub fn dealings(&self) -> &[(ShareIndex, Digest)] {
        &self.dealings
    }

    /// The key: the same in every epoch.
    pub fn key(&self) -> SwarmKey {
        SwarmKey(self.public())
    }

    /// Who has the share at `index`.
    pub fn member(&self, index: ShareIndex) -> Option<EnclaveId> {
        self.members.get(index.place()).copied()
    }

    /// Where the share of `enclave` is.
    pub fn index_of(&self, enclave: EnclaveId) -> Option<ShareIndex> {
        let at = self.members.binary_search(&enclave).ok()?;
        ShareIndex::all(self.threshold.members()).nth(at)
    }

    /// The public half of the key.
    pub(super) fn public(&self) -> G2 {
        self.polynomial.constant()
    }

    /// The public half of a share.
    pub(super) fn public_at(&self, index: ShareIndex) -> Option<G2> {
        (index.get() <= self.threshold.members()).then(|| self.polynomial.at(index))
    }
}

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roster({}, epoch {}, {}, {:?})", self.digest.short(), self.epoch, self.threshold, self.key())
    }
}

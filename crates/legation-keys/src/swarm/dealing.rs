//! What one dealer gives every member: a commitment that everybody sees, and for each a share that only it can open.

use std::fmt;

use commonware_cryptography::bls12381::primitives::group::Private;
use legation_core::{Digest, custody::Threshold};

use super::{
    ceremony::Chair,
    curve::{Commitment, Polynomial, SCALAR_LEN, private_bytes},
    parcel::{Binding, Parcel},
    proof::{Context, Proof},
    terms::ShareIndex,
    wire::{ReadError, Reader},
};
use crate::{entropy::Entropy, sealing::WrapError};

/// What a dealing begins with, and what the sealing of its shares is bound to.
const KIND: &str = "legation-deal-v1";

/// A dealing, as far as it can be read. Whether it is sound, [`super::Ceremony::check`] says.
///
/// Nothing in it names who sent it: the dealer signs its digest.
#[derive(Clone, PartialEq, Eq)]
pub struct Dealing {
    ceremony: Digest,
    dealer: ShareIndex,
    threshold: Threshold,
    commitment: Commitment,
    proof: Proof,
    shares: Vec<Parcel>,
    digest: Digest,
}

impl Dealing {
    /// Shares `constant`, or a secret that is drawn, among the members who took these chairs. Draws 64 bytes for each coefficient
    /// that is not given, 32 for the proof, and 64 for each member.
    pub(super) fn make(
        context: &Context,
        constant: Option<&Private>,
        threshold: Threshold,
        chairs: &[Chair],
        entropy: &mut dyn Entropy,
    ) -> Result<Self, WrapError> {
        let polynomial = Polynomial::draw(constant, threshold.needed(), entropy);
        let commitment = polynomial.commit();
        let proof = Proof::make(context, &polynomial, &commitment, entropy);
        let shares = ShareIndex::all(threshold.members())
            .zip(chairs)
            .map(|(member, chair)| {
                let share = private_bytes(&polynomial.at(member));
                let binding = binding(context, &commitment, &proof, member);
                Parcel::seal(chair.sealing(), &binding, &share[..], entropy)
            })
            .collect::<Result<Vec<_>, WrapError>>()?;
        let &Context { ceremony, dealer } = context;
        Ok(Self { ceremony, dealer, threshold, commitment, proof, shares, digest: Digest::of(&[]) }.with_digest())
    }

    /// Reads a dealing.
    ///
    /// # Errors
    /// The format of [`super`], of which a dealing has one spelling.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReadError> {
        let mut from = Reader::new(bytes, KIND)?;
        let ceremony = from.digest("ceremony")?;
        let dealer = from.index("dealer")?;
        let threshold = from.threshold()?;
        let points = (0..threshold.needed()).map(|_| from.g2("commitment")).collect::<Result<_, _>>()?;
        let commitment = Commitment::new(points);
        let proof = Proof::read(&mut from)?;
        let shares = (0..threshold.members())
            .map(|_| Parcel::read(&mut from, SCALAR_LEN, "sealed shares"))
            .collect::<Result<_, _>>()?;
        from.end()?;
        Ok(Self { ceremony, dealer, threshold, commitment, proof, shares, digest: Digest::of(bytes) })
    }

    /// The dealing in the format of [`super`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = KIND.as_bytes().to_vec();
        out.extend_from_slice(self.ceremony.as_bytes());
        for number in [self.dealer.get(), self.threshold.needed(), self.threshold.members()] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.commitment.to_bytes());
        out.extend_from_slice(self.proof.to_bytes().as_flattened());
        self.shares.iter().for_each(|share| share.write(&mut out));
        out
    }

    /// Digest of the ceremony it belongs to.
    pub fn ceremony(&self) -> Digest {
        self.ceremony
    }

    /// Who dealt: a place in the committee before, or in the new one where there was none.
    pub fn dealer(&self) -> ShareIndex {
        self.dealer
    }

    /// Among how many it shares.
    pub fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// SHA-256 of its bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub(super) fn commitment(&self) -> &Commitment {
        &self.commitment
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proof.holds(&self.context(), &self.commitment)
    }

    /// The parcel of `member`, and what it is bound to.
    pub(super) fn parcel(&self, member: ShareIndex) -> Option<(&Parcel, Binding)> {
        let parcel = self.shares.get(member.place())?;
        Some((parcel, binding(&self.context(), &self.commitment, &self.proof, member)))
    }

    fn context(&self) -> Context {
        Context { ceremony: self.ceremony, dealer: self.dealer }
    }

    fn with_digest(mut self) -> Self {
        self.digest = Digest::of(&self.to_bytes());
        self
    }
}

/// What the sealing of one share is bound to.
fn binding(context: &Context, commitment: &Commitment, proof: &Proof, member: ShareIndex) -> Binding {
    let info = [
        KIND.as_bytes(),
        context.ceremony.as_bytes(),
        &context.dealer.get().to_be_bytes(),
        &member.get().to_be_bytes(),
    ]
    .concat();
    let [challenge, response] = proof.to_bytes();
    let aad = Digest::of_parts(&[&commitment.to_bytes(), &challenge, &response]);
    Binding { info, aad: aad.as_bytes().to_vec() }
}

impl fmt::Debug for Dealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dealing({}, by {}, {})", self.digest.short(), self.dealer, self.threshold)
    }
}

//! What a member answers when it lets somebody open a label: its partial, sealed to who asked.
//!
//! A partial is secret: `t` of them open the label for good, for whoever has them. That it is one, everybody who may see it can
//! check ([`Roster::verify_partial`]): a member that lies is known.

use commonware_cryptography::bls12381::primitives::{group::G1, ops, variant::MinSig};
use legation_core::{Digest, SealingPublicKey, custody::Label};
use zeroize::Zeroizing;

use super::{
    curve::{self, G1_LEN},
    opener::PartError,
    parcel::{Binding, Parcel},
    roster::Roster,
    share::Share,
    terms::ShareIndex,
    wire::{ReadError, Reader},
};
use crate::{
    entropy::Entropy,
    sealing::{SealingKey, WrapError},
};

/// What a sealed partial begins with, and what its sealing is bound to.
const KIND: &str = "legation-part-v1";
/// Under which labels are signed and keys wrapped. The swarm key signs nothing else, ever.
pub(super) const NAMESPACE: &[u8] = b"legation-swarm-release-v1";

/// A member's signature on a label. Secret: wiped when dropped, never shown.
pub struct Partial {
    roster: Digest,
    label: Digest,
    member: ShareIndex,
    point: Zeroizing<[u8; G1_LEN]>,
}

/// A partial on its way to who asked.
///
/// Nothing in it names who sent it: a channel or a signature does.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedPartial {
    roster: Digest,
    label: Digest,
    member: ShareIndex,
    parcel: Parcel,
}

/// Why a sealed partial did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// It was not sealed to this key for this roster, label, member and ask, or was altered.
    #[error("the partial of member {member} is not sealed to this key for this ask, or altered")]
    Unopened {
        /// Whose it claims to be.
        member: ShareIndex,
    },
    /// It opened, so its sender made it so, and it is no point of the group.
    #[error("the partial of member {member} is no signature at all")]
    Malformed {
        /// Whose it claims to be.
        member: ShareIndex,
    },
}

impl Share {
    /// Releases `label` to whoever has the private half of `to`; draws 64 bytes of `entropy`. `ask` is a digest of what this
    /// answers (who asks, on what grounds): the answer opens for that alone.
    ///
    /// The caller has judged whether it may: against the fields of the label, not its digest.
    ///
    /// # Errors
    /// The key hides nothing.
    pub fn release(
        &self,
        label: &Label,
        to: &SealingPublicKey,
        ask: Digest,
        entropy: &mut dyn Entropy,
    ) -> Result<SealedPartial, WrapError> {
        let (roster, member, label) = (self.roster(), self.index(), label.digest());
        let point = curve::g1_bytes(&ops::sign_message::<MinSig>(self.private(), NAMESPACE, label.as_bytes()));
        let parcel = Parcel::seal(to, &binding(roster, label, member, ask), &point[..], entropy)?;
        Ok(SealedPartial { roster, label, member, parcel })
    }
}

impl SealedPartial {
    /// Reads a sealed partial.
    ///
    /// # Errors
    /// The format of [`super`], of which a sealed partial has one spelling.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReadError> {
        let mut from = Reader::new(bytes, KIND)?;
        let roster = from.digest("roster")?;
        let label = from.digest("label")?;
        let member = from.index("index")?;
        let parcel = Parcel::read(&mut from, G1_LEN, "sealed partial")?;
        from.end()?;
        Ok(Self { roster, label, member, parcel })
    }

    /// The sealed partial in the format of [`super`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = KIND.as_bytes().to_vec();
        out.extend_from_slice(self.roster.as_bytes());
        out.extend_from_slice(self.label.as_bytes());
        out.extend_from_slice(&self.member.get().to_be_bytes());
        self.parcel.write(&mut out);
        out
    }

    /// Opens what was sealed to `key` for `ask`. Whether it is a partial, [`Roster::verify_partial`] says.
    ///
    /// # Errors
    /// It does not open, or nothing like a partial is inside.
    pub fn open(&self, key: &SealingKey, ask: Digest) -> Result<Partial, UnsealError> {
        let &Self { roster, label, member, ref parcel } = self;
        let opened =
            parcel.open(key, &binding(roster, label, member, ask)).map_err(|_| UnsealError::Unopened { member })?;
        let malformed = UnsealError::Malformed { member };
        let point = Zeroizing::new(*opened.first_chunk::<G1_LEN>().ok_or(malformed)?);
        curve::g1(&point).ok_or(malformed)?;
        Ok(Partial { roster, label, member, point })
    }

    /// Digest of the roster whose member sent it.
    pub fn roster(&self) -> Digest {
        self.roster
    }

    /// Digest of the label that it opens a part of.
    pub fn label(&self) -> Digest {
        self.label
    }

    /// Whose it claims to be.
    pub fn member(&self) -> ShareIndex {
        self.member
    }
}

impl Partial {
    /// Digest of the roster it belongs to.
    pub fn roster(&self) -> Digest {
        self.roster
    }

    /// Digest of the label it is on.
    pub fn label(&self) -> Digest {
        self.label
    }

    /// Whose it is.
    pub fn member(&self) -> ShareIndex {
        self.member
    }

    pub(super) fn point(&self) -> Option<G1> {
        curve::g1(&self.point)
    }
}

impl Roster {
    /// Whether `partial` is its member's signature on `label`: if not, that member lied.
    ///
    /// # Errors
    /// It is of another roster or label, or [`PartError::Invalid`].
    pub fn verify_partial(&self, label: &Label, partial: &Partial) -> Result<(), PartError> {
        self.verify_on(label.digest(), partial)
    }

    pub(super) fn verify_on(&self, label: Digest, partial: &Partial) -> Result<(), PartError> {
        let member = self.claims(label, partial)?;
        let public = self.public_at(member).ok_or(PartError::NotMember { index: member })?;
        partial
            .point()
            .and_then(|point| ops::verify_message::<MinSig>(&public, NAMESPACE, label.as_bytes(), &point).ok())
            .ok_or(PartError::Invalid { member })
    }

    /// Whose partial it claims to be, if it claims to be one of this roster and label.
    pub(super) fn claims(&self, label: Digest, partial: &Partial) -> Result<ShareIndex, PartError> {
        if partial.roster != self.digest() {
            return Err(PartError::OtherRoster { expected: self.digest(), got: partial.roster });
        }
        if partial.label != label {
            return Err(PartError::OtherLabel { expected: label, got: partial.label });
        }
        self.member(partial.member).map(|_| partial.member).ok_or(PartError::NotMember { index: partial.member })
    }
}

/// What the sealing of one partial is bound to.
fn binding(roster: Digest, label: Digest, member: ShareIndex, ask: Digest) -> Binding {
    let info =
        [KIND.as_bytes(), roster.as_bytes(), label.as_bytes(), &member.get().to_be_bytes(), ask.as_bytes()].concat();
    Binding { info, aad: Vec::new() }
}

//! One ceremony: who hands a key to whom. Everything in it is public.
//!
//! Checks on a dealing, that anybody makes ([`Ceremony::check`]):
//! 1. it is of this ceremony, with its threshold;
//! 2. the dealer is one: a member of the committee before, or of the first;
//! 3. after the first committee, what it shares is the dealer's own share: the constant is its public half in the roster before;
//! 4. the dealer knows every coefficient of what it committed to.
//!
//! Checks of each member ([`Ceremony::open`]):
//! 5. its share opens;
//! 6. it is the one committed to.
//!
//! A dealing counts only when *every* member opened its own: nobody may be counted as holding a share that it never got. Which
//! dealings count, and that all members mean the same ones, is for the caller to settle.

use commonware_cryptography::bls12381::primitives::group::Private;
use legation_core::{
    Digest, EnclaveId, SealingPublicKey,
    custody::{Epoch, Threshold, ceremony_digest},
};

use super::{
    curve::{self, Commitment},
    dealing::Dealing,
    proof::Context,
    roster::Roster,
    share::Share,
    terms::ShareIndex,
};
use crate::{
    entropy::Entropy,
    sealing::{SealingKey, WrapError, check_recipient},
};

/// A member to be, with a sealing key that it made for this ceremony alone and forgets after it: what is sealed to it lies open to
/// whoever sees the journal, and old shares are as good as new ones for as long as the key lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chair {
    enclave: EnclaveId,
    sealing: SealingPublicKey,
}

/// One ceremony.
pub struct Ceremony {
    threshold: Threshold,
    chairs: Vec<Chair>,
    from: Option<Roster>,
    digest: Digest,
}

/// Why this is not a ceremony.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CeremonyError {
    /// Not as many chairs as members.
    #[error("{got} chairs, expected {expected}")]
    Chairs {
        /// Members of the new committee.
        expected: u16,
        /// Chairs given.
        got: usize,
    },
    /// The chairs are not in ascending order of their enclaves, or one enclave has two.
    #[error("enclave {enclave} is not after the one before it: chairs stand in ascending order, one for each enclave")]
    Order {
        /// The first out of order.
        enclave: EnclaveId,
    },
    /// Two chairs with one key: one of them could open what is sealed to the other.
    #[error("enclave {enclave} has the sealing key of another")]
    SharedKey {
        /// The later of the two.
        enclave: EnclaveId,
    },
    /// The key has changed hands as often as can be counted.
    #[error("no epoch follows {epoch}")]
    Epoch {
        /// The last.
        epoch: Epoch,
    },
}

/// Why nothing was dealt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DealError {
    /// A first committee deals secrets that it draws, not shares.
    #[error("this ceremony hands on no key: it makes one")]
    First,
    /// Later committees are dealt the shares of the one before, not secrets that are drawn.
    #[error("this ceremony makes no key: it hands one on")]
    Later,
    /// No such dealer.
    #[error("no member {dealer} among {dealers}")]
    Dealer {
        /// Who wanted to deal.
        dealer: ShareIndex,
        /// How many may.
        dealers: u16,
    },
    /// The share is not one of the roster that this ceremony goes on from, or not the one there.
    #[error("the share is of roster {got}, or not what that roster says of it; expected {expected}")]
    Share {
        /// The roster before.
        expected: Digest,
        /// The share's.
        got: Digest,
    },
    /// A chair's key hides nothing.
    #[error(transparent)]
    Seal(#[from] WrapError),
}

/// What is wrong with a dealing. All but the last two, everybody can see; of the last two, either dealer or member lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DealingError {
    /// Check 1.
    #[error("of ceremony {got}, expected {expected}")]
    OtherCeremony {
        /// This one.
        expected: Digest,
        /// The dealing's.
        got: Digest,
    },
    /// Check 1.
    #[error("shares among {got}, expected {expected}")]
    Threshold {
        /// The ceremony's.
        expected: Threshold,
        /// The dealing's.
        got: Threshold,
    },
    /// Check 2.
    #[error("dealer {dealer} is none of {dealers}")]
    Dealer {
        /// Who dealt.
        dealer: ShareIndex,
        /// How many may.
        dealers: u16,
    },
    /// Check 3.
    #[error("dealer {dealer} shares something else than its share")]
    Constant {
        /// Who dealt.
        dealer: ShareIndex,
    },
    /// Check 4.
    #[error("dealer {dealer} does not prove that it knows what it shares")]
    Unproven {
        /// Who dealt.
        dealer: ShareIndex,
    },
    /// There is no such member, or the key is not the one of its chair: nobody's fault but the caller's.
    #[error("member {member} has not this sealing key")]
    OtherMember {
        /// Who was to open.
        member: ShareIndex,
    },
    /// Check 5.
    #[error("dealer {dealer} sealed nothing that member {member} can open")]
    Unopened {
        /// Who dealt.
        dealer: ShareIndex,
        /// Whose share it is.
        member: ShareIndex,
    },
    /// Check 6.
    #[error("dealer {dealer} gave member {member} something else than it committed to")]
    Mismatch {
        /// Who dealt.
        dealer: ShareIndex,
        /// Whose share it is.
        member: ShareIndex,
    },
}

/// What remains of a dealing that is sound as far as everybody can see.
#[derive(Clone, PartialEq, Eq)]
pub struct Checked {
    pub(super) ceremony: Digest,
    pub(super) dealer: ShareIndex,
    pub(super) dealing: Digest,
    pub(super) commitment: Commitment,
}

/// What one dealing gives one member: a part of its share. Secret, wiped when dropped.
pub struct Subshare {
    pub(super) checked: Checked,
    pub(super) member: ShareIndex,
    pub(super) private: Private,
}

impl Chair {
    /// A chair of `enclave`, which has the private half of `sealing`.
    ///
    /// # Errors
    /// The key hides nothing.
    pub fn new(enclave: EnclaveId, sealing: SealingPublicKey) -> Result<Self, WrapError> {
        check_recipient(&sealing)?;
        Ok(Self { enclave, sealing })
    }

    /// Whose it is.
    pub fn enclave(&self) -> EnclaveId {
        self.enclave
    }

    /// What its shares are sealed to.
    pub fn sealing(&self) -> &SealingPublicKey {
        &self.sealing
    }
}

impl Ceremony {
    /// The ceremony that `call` (a digest) asks for: those on `chairs`, in ascending order of their enclaves, will hold the key
    /// of `from`, or a new one. Whoever is on a chair has the index of its place, from 1.
    ///
    /// # Errors
    /// The chairs are not those of such a committee.
    pub fn new(
        call: Digest,
        threshold: Threshold,
        chairs: Vec<Chair>,
        from: Option<Roster>,
    ) -> Result<Self, CeremonyError> {
        if chairs.len() != usize::from(threshold.members()) {
            return Err(CeremonyError::Chairs { expected: threshold.members(), got: chairs.len() });
        }
        for pair in chairs.windows(2) {
            if pair[0].enclave >= pair[1].enclave {
                return Err(CeremonyError::Order { enclave: pair[1].enclave });
            }
        }
        for (at, chair) in chairs.iter().enumerate() {
            if chairs[..at].iter().any(|other| other.sealing == chair.sealing) {
                return Err(CeremonyError::SharedKey { enclave: chair.enclave });
            }
        }
        if let Some(epoch) = from.as_ref().map(Roster::epoch).filter(|epoch| epoch.0 == u64::MAX) {
            return Err(CeremonyError::Epoch { epoch });
        }
        let named: Vec<(EnclaveId, Digest)> =
            chairs.iter().map(|chair| (chair.enclave, chair.sealing.digest())).collect();
        let digest = ceremony_digest(call, threshold, &named, from.as_ref().map(Roster::digest));
        Ok(Self { threshold, chairs, from, digest })
    }

    /// [`ceremony_digest`] of all that was given: what dealings are bound to.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Of the new committee.
    pub fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// The chairs, in order.
    pub fn chairs(&self) -> &[Chair] {
        &self.chairs
    }

    /// The roster that it goes on from.
    pub fn from(&self) -> Option<&Roster> {
        self.from.as_ref()
    }

    /// Where `enclave` will be in the new committee.
    pub fn index_of(&self, enclave: EnclaveId) -> Option<ShareIndex> {
        ShareIndex::all(self.threshold.members())
            .zip(&self.chairs)
            .find_map(|(index, chair)| (chair.enclave == enclave).then_some(index))
    }

    /// How many may deal: members of the committee before, or of the first.
    pub fn dealers(&self) -> u16 {
        self.from.as_ref().map_or(self.threshold, Roster::threshold).members()
    }

    /// How many dealings the roster is made of: exactly as many as open, of the committee before; as many of the first, or more.
    pub fn dealings_needed(&self) -> u16 {
        self.from.as_ref().map_or(self.threshold, Roster::threshold).needed()
    }

    /// Deals a part of a new key, as member `dealer` of the first committee.
    ///
    /// # Errors
    /// This ceremony makes no key, or `dealer` is not in it.
    pub fn deal(&self, dealer: ShareIndex, entropy: &mut dyn Entropy) -> Result<Dealing, DealError> {
        if self.from.is_some() {
            return Err(DealError::Later);
        }
        if dealer.get() > self.dealers() {
            return Err(DealError::Dealer { dealer, dealers: self.dealers() });
        }
        let context = Context { ceremony: self.digest, dealer };
        Ok(Dealing::make(&context, None, self.threshold, &self.chairs, entropy)?)
    }

    /// Deals the share that one holds, to the committee that follows.
    ///
    /// # Errors
    /// This ceremony hands on no key, or not the one of this share.
    pub fn redeal(&self, held: &Share, entropy: &mut dyn Entropy) -> Result<Dealing, DealError> {
        let from = self.from.as_ref().ok_or(DealError::First)?;
        if !held.fits(from) {
            return Err(DealError::Share { expected: from.digest(), got: held.roster() });
        }
        let context = Context { ceremony: self.digest, dealer: held.index() };
        Ok(Dealing::make(&context, Some(held.private()), self.threshold, &self.chairs, entropy)?)
    }

    /// Checks 1 to 4 of this module.
    ///
    /// # Errors
    /// What is wrong with it, and whose it is.
    pub fn check(&self, dealing: &Dealing) -> Result<Checked, DealingError> {
        let dealer = dealing.dealer();
        if dealing.ceremony() != self.digest {
            return Err(DealingError::OtherCeremony { expected: self.digest, got: dealing.ceremony() });
        }
        if dealing.threshold() != self.threshold {
            return Err(DealingError::Threshold { expected: self.threshold, got: dealing.threshold() });
        }
        if dealer.get() > self.dealers() {
            return Err(DealingError::Dealer { dealer, dealers: self.dealers() });
        }
        if self.from.as_ref().is_some_and(|from| from.public_at(dealer) != Some(dealing.commitment().constant())) {
            return Err(DealingError::Constant { dealer });
        }
        if !dealing.is_proven() {
            return Err(DealingError::Unproven { dealer });
        }
        Ok(Checked {
            ceremony: self.digest,
            dealer,
            dealing: dealing.digest(),
            commitment: dealing.commitment().clone(),
        })
    }

    /// All checks of this module: what `dealing` gives to `member`, whose chair's key is `key`.
    ///
    /// # Errors
    /// What is wrong with it, and whose it is.
    pub fn open(&self, dealing: &Dealing, member: ShareIndex, key: &SealingKey) -> Result<Subshare, DealingError> {
        if self.chairs.get(member.place()).is_none_or(|chair| chair.sealing != *key.public()) {
            return Err(DealingError::OtherMember { member });
        }
        let checked = self.check(dealing)?;
        let dealer = checked.dealer;
        let unopened = DealingError::Unopened { dealer, member };
        let (parcel, binding) = dealing.parcel(member).ok_or(unopened)?;
        let opened = parcel.open(key, &binding).map_err(|_| unopened)?;
        let mismatch = DealingError::Mismatch { dealer, member };
        let bytes = opened.first_chunk().ok_or(mismatch)?;
        let private = curve::private(bytes).ok_or(mismatch)?;
        if curve::public(&private) != checked.commitment.at(member) {
            return Err(mismatch);
        }
        Ok(Subshare { checked, member, private })
    }
}

impl Checked {
    /// Who dealt.
    pub fn dealer(&self) -> ShareIndex {
        self.dealer
    }

    /// Digest of the dealing.
    pub fn dealing(&self) -> Digest {
        self.dealing
    }
}

impl Subshare {
    /// What everybody can see of the dealing it comes from.
    pub fn checked(&self) -> &Checked {
        &self.checked
    }
}

//! Dealings become a roster, which everybody can compute, and a share, which only its member can.

use commonware_cryptography::bls12381::primitives::group::Private;
use legation_core::custody::Epoch;

use super::{
    ceremony::{Ceremony, Checked, Subshare},
    curve::{self, Commitment, Mix},
    roster::Roster,
    share::Share,
    terms::ShareIndex,
};

/// Why dealings do not make a roster, or parts a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CombineError {
    /// A part is of another ceremony, or the roster is.
    #[error("not all of this is of one ceremony")]
    OtherCeremony,
    /// Two dealings of one dealer.
    #[error("two dealings of dealer {dealer}")]
    Twice {
        /// Whose they are.
        dealer: ShareIndex,
    },
    /// Too few dealings, or after the first committee too many: which ones count must be settled.
    #[error("{got} dealings, expected {least} to {most}")]
    Count {
        /// Fewest.
        least: u16,
        /// Most.
        most: u16,
        /// Given.
        got: usize,
    },
    /// A coefficient came out as the identity: somebody knew the others' secrets, or had unbelievable luck.
    #[error("the dealings cancel each other")]
    Degenerate,
    /// The key that comes out is not the one that went in.
    #[error("the key would change")]
    OtherKey,
    /// A part of the share is missing: the member did not open this dealing, which should not have counted then.
    #[error("no part by dealer {dealer}, whose dealing counts")]
    Missing {
        /// Who dealt.
        dealer: ShareIndex,
    },
    /// The parts are of several members, or do not add up to what the roster says.
    #[error("the parts are not those of one member's share")]
    Parts,
}

impl Ceremony {
    /// The roster that these dealings make, whatever their order.
    ///
    /// # Errors
    /// They are not of this ceremony, not as many as it takes, or cancel each other.
    pub fn roster(&self, dealings: &[Checked]) -> Result<Roster, CombineError> {
        let (least, most) = match self.from() {
            Some(_) => (self.dealings_needed(), self.dealings_needed()),
            None => (self.dealings_needed(), self.dealers()),
        };
        if !(usize::from(least)..=usize::from(most)).contains(&dealings.len()) {
            return Err(CombineError::Count { least, most, got: dealings.len() });
        }
        if dealings.iter().any(|checked| checked.ceremony != self.digest()) {
            return Err(CombineError::OtherCeremony);
        }
        let mut sorted: Vec<&Checked> = dealings.iter().collect();
        sorted.sort_by_key(|checked| checked.dealer);
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0].dealer == pair[1].dealer) {
            return Err(CombineError::Twice { dealer: pair[0].dealer });
        }
        let dealers: Vec<ShareIndex> = sorted.iter().map(|checked| checked.dealer).collect();
        let commitments: Vec<&Commitment> = sorted.iter().map(|checked| &checked.commitment).collect();
        let polynomial = self.mix(&dealers).commitments(&commitments);
        if polynomial.is_degenerate() {
            return Err(CombineError::Degenerate);
        }
        if self.from().is_some_and(|from| from.public() != polynomial.constant()) {
            return Err(CombineError::OtherKey);
        }
        Ok(Roster::new(
            self.digest(),
            self.from().map_or(Epoch(0), |from| Epoch(from.epoch().0 + 1)),
            self.from().map(Roster::digest),
            self.threshold(),
            self.chairs().iter().map(|chair| chair.enclave()).collect(),
            sorted.iter().map(|checked| (checked.dealer, checked.dealing)).collect(),
            polynomial,
        ))
    }

    /// The share of `roster` that these parts add up to. Parts of other dealings are passed over.
    ///
    /// # Errors
    /// The roster is of another ceremony, or a part is missing.
    pub fn share(&self, roster: &Roster, parts: &[Subshare]) -> Result<Share, CombineError> {
        if roster.ceremony() != self.digest() {
            return Err(CombineError::OtherCeremony);
        }
        let mut counted: Vec<&Subshare> = Vec::with_capacity(roster.dealings().len());
        for &(dealer, dealing) in roster.dealings() {
            let part = parts.iter().find(|part| part.checked.dealer == dealer && part.checked.dealing == dealing);
            counted.push(part.ok_or(CombineError::Missing { dealer })?);
        }
        let member = counted.first().ok_or(CombineError::Parts)?.member;
        if counted.iter().any(|part| part.member != member) {
            return Err(CombineError::Parts);
        }
        let dealers: Vec<ShareIndex> = counted.iter().map(|part| part.checked.dealer).collect();
        let privates: Vec<&Private> = counted.iter().map(|part| &part.private).collect();
        let private = self.mix(&dealers).privates(&privates);
        if roster.public_at(member) != Some(curve::public(&private)) {
            return Err(CombineError::Parts);
        }
        Ok(Share::new(roster.digest(), roster.epoch(), member, private))
    }

    fn mix(&self, dealers: &[ShareIndex]) -> Mix {
        if self.from().is_some() { Mix::at_zero(dealers) } else { Mix::Sum }
    }
}

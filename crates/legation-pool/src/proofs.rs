//! What proves one enclave: passports of several verifiers in brief, one of each that counts, and a few before them.
//!
//! 1. A verifier's newer passport replaces its older one; the older one is kept a while, since a report may name it.
//! 2. A proof that is dropped (its verifier took it back, or is revoked) is dropped with those before it: nothing rests on
//!    it from then on.
//! 3. The newest proof is remembered also when no proof counts any more: it says what the enclave was.

use legation_core::{Digest, KeyId, TenantId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::{brief::Brief, kind::Kinds};

/// Passports of one verifier for one enclave that are kept, the current one included: a report may name the one before the
/// last renewal.
const PROOFS_KEPT: usize = 3;
/// Verifiers whose passports for one enclave are kept.
pub(crate) const VERIFIERS_MAX: usize = 16;

/// The proofs of one enclave.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Image")]
pub(crate) struct Proofs {
    /// Those that count, the freshest first; those before them, newest last; the newest, where it is none of these.
    kept: Box<[Brief]>,
    /// How many count.
    current: u8,
    /// How many were before them.
    earlier: u8,
    /// Place of the newest.
    newest: u8,
}

/// As it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    kept: Box<[Brief]>,
    current: u8,
    earlier: u8,
    newest: u8,
}

impl TryFrom<Image> for Proofs {
    type Error = &'static str;

    fn try_from(Image { kept, current, earlier, newest }: Image) -> Result<Self, Self::Error> {
        let fits = usize::from(newest) < kept.len() && usize::from(current) + usize::from(earlier) <= kept.len();
        if fits { Ok(Self { kept, current, earlier, newest }) } else { Err("numbers of proofs that are not there") }
    }
}

impl Proofs {
    pub(crate) fn new(proof: Brief) -> Self {
        Self { kept: Box::new([proof]), current: 1, earlier: 0, newest: 0 }
    }

    fn of(current: Vec<Brief>, earlier: Vec<Brief>, newest: Brief) -> Self {
        // There are at most VERIFIERS_MAX of the one and PROOFS_KEPT times as many of the other.
        let number = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
        let (counting, before) = (number(current.len()), number(earlier.len()));
        let mut kept = Vec::with_capacity(current.len() + earlier.len() + 1);
        kept.extend(current);
        kept.extend(earlier);
        let place = kept.iter().position(|known| known.passport == newest.passport);
        let place = place.unwrap_or_else(|| {
            kept.push(newest);
            kept.len() - 1
        });
        Self { kept: kept.into_boxed_slice(), current: counting, earlier: before, newest: number(place) }
    }

    /// Takes a proof in place of the one of the same verifier.
    pub(crate) fn take(&mut self, proof: Brief) {
        let (mut current, mut earlier) = (self.current().to_vec(), self.earlier().to_vec());
        let verifier = proof.verifier();
        if let Some(place) = current.iter().position(|c| c.verifier() == verifier) {
            earlier.push(current.remove(place));
            let same = |p: &Brief| p.verifier() == verifier;
            if earlier.iter().filter(|p| same(p)).count() >= PROOFS_KEPT
                && let Some(oldest) = earlier.iter().position(same)
            {
                earlier.remove(oldest);
            }
        }
        if current.len() >= VERIFIERS_MAX
            && let Some(first) = current.iter().enumerate().min_by_key(|(_, c)| c.expires).map(|(i, _)| i)
        {
            let gone = current.remove(first).verifier();
            earlier.retain(|p| p.verifier() != gone);
        }
        current.push(proof.clone());
        current.sort_by_key(|c| std::cmp::Reverse(c.rank()));
        *self = Self::of(current, earlier, proof);
    }

    /// Whether there is room for a proof of `verifier` at `now`, if need be for one that is over.
    pub(crate) fn has_room_for(&self, verifier: KeyId, now: UnixTime) -> bool {
        let current = self.current();
        current.len() < VERIFIERS_MAX || current.iter().any(|c| c.verifier() == verifier || c.expires < now)
    }

    /// Drops all proofs that `gone` says; says whether one of them counted.
    pub(crate) fn drop_where(&mut self, gone: impl Fn(&Brief) -> bool) -> bool {
        if !self.kept.iter().any(&gone) {
            return false;
        }
        let left = |proofs: &[Brief]| proofs.iter().filter(|p| !gone(p)).cloned().collect::<Vec<_>>();
        let (current, earlier) = (left(self.current()), left(self.earlier()));
        let lost = current.len() < self.current().len();
        let newest = current.first().unwrap_or(self.newest()).clone();
        *self = Self::of(current, earlier, newest);
        lost
    }

    pub(crate) fn newest(&self) -> &Brief {
        &self.kept[usize::from(self.newest)]
    }

    /// Those that count, the freshest first.
    pub(crate) fn current(&self) -> &[Brief] {
        &self.kept[..usize::from(self.current)]
    }

    fn earlier(&self) -> &[Brief] {
        &self.kept[usize::from(self.current)..][..usize::from(self.earlier)]
    }

    pub(crate) fn of_verifier(&self, verifier: KeyId) -> Option<&Brief> {
        self.current().iter().find(|c| c.verifier() == verifier)
    }

    /// The proof whose passport has this digest, unless it was dropped.
    pub(crate) fn by(&self, passport: Digest) -> Option<&Brief> {
        self.current().iter().chain(self.earlier().iter().rev()).find(|p| p.passport == passport)
    }

    /// Whether any holds at `now`.
    pub(crate) fn hold_at(&self, now: UnixTime) -> bool {
        self.current().iter().any(|c| c.holds_at(now))
    }

    /// Whether all are over at `now`: then none returns by itself.
    pub(crate) fn are_over_at(&self, now: UnixTime) -> bool {
        self.current().iter().all(|c| c.expires < now)
    }

    /// Those that hold at `now` and whose verifier is trusted with the work of `tenant`, the freshest first.
    pub(crate) fn for_tenant<'a, 'b>(
        &'a self,
        tenant: &'b TenantId,
        now: UnixTime,
    ) -> impl Iterator<Item = &'a Brief> + use<'a, 'b> {
        self.current().iter().filter(move |c| c.holds_at(now) && c.appointment().covers_tenant(tenant))
    }

    /// All that are kept and were not dropped.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Brief> {
        self.current().iter().chain(self.earlier())
    }

    /// All that are kept, and the newest.
    pub(crate) fn kept(&self) -> &[Brief] {
        &self.kept
    }

    /// Until when one of them holds.
    pub(crate) fn until(&self) -> Option<UnixTime> {
        self.current().iter().map(|c| c.expires).max()
    }

    /// Lets proofs that were read share what others have too.
    pub(crate) fn adopt(&mut self, kinds: &mut Kinds) {
        self.kept.iter_mut().for_each(|brief| kinds.adopt(brief));
    }
}

//! What proves one enclave: passports of several verifiers in brief, one of each that counts, and a few before them.
//!
//! 1. A verifier's newer passport replaces its older one; the older one is kept a while, since a report may name it ([`Earlier`]).
//! 2. A proof that is dropped (its verifier took it back, or is revoked) is dropped with those before it: nothing rests on
//!    it from then on, but what the enclave answered before, when it was lent (`loan.rs`).
//! 3. The newest proof is remembered also when no proof counts any more: it says what the enclave was.

use legation_core::{Digest, KeyId, TenantId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::{brief::Brief, kind::Kinds};

/// Verifiers whose passports for one enclave are kept.
pub(crate) const VERIFIERS_MAX: usize = 16;
/// The first version of records whose renewals of idle enclaves keep less.
const FEWER_SINCE: u32 = 5;

/// How many passports of one verifier are kept at a renewal, before the current one.
///
/// Work that runs may name the one before the last renewal, or the one before that. Who has no work may be given some before it is
/// told of its new passport: the pool knows a passport from its record on, the enclave when the manager has handed it on. Its report
/// may name the one before; one before that it has no reason to name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Earlier(usize);

impl Earlier {
    /// For an enclave that has no leases, or some, by a record of this version: what older ones say must come out as it did.
    pub(crate) fn of(idle: bool, version: u32) -> Self {
        Self(if idle && version >= FEWER_SINCE { 1 } else { 2 })
    }
}

/// The proofs of one enclave.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Image", into = "Image")]
pub(crate) enum Proofs {
    /// One that counts, and perhaps one before it, as of most enclaves.
    Few { current: Brief, before: Option<Box<Brief>> },
    /// Any others.
    Several {
        /// Those that count, the freshest first; those before them, newest last; the newest, where it is none of these.
        kept: Box<[Brief]>,
        /// How many count.
        current: u8,
        /// How many were before them.
        earlier: u8,
        /// Place of the newest.
        newest: u8,
    },
}

/// As it is written and read.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    kept: Vec<Brief>,
    current: u8,
    earlier: u8,
    newest: u8,
}

impl From<Proofs> for Image {
    fn from(proofs: Proofs) -> Self {
        match proofs {
            Proofs::Few { current, before } => {
                let kept: Vec<_> = std::iter::once(current).chain(before.map(|before| *before)).collect();
                Self { current: 1, earlier: u8::from(kept.len() > 1), newest: 0, kept }
            }
            Proofs::Several { kept, current, earlier, newest } => {
                Self { kept: kept.into_vec(), current, earlier, newest }
            }
        }
    }
}

impl TryFrom<Image> for Proofs {
    type Error = &'static str;

    fn try_from(image: Image) -> Result<Self, Self::Error> {
        let fits = usize::from(image.newest) < image.kept.len()
            && usize::from(image.current) + usize::from(image.earlier) <= image.kept.len();
        if fits { Ok(Self::made(image)) } else { Err("numbers of proofs that are not there") }
    }
}

impl Proofs {
    pub(crate) fn new(proof: Brief) -> Self {
        Self::Few { current: proof, before: None }
    }

    /// The same proofs always make the same value.
    fn made(Image { mut kept, current, earlier, newest }: Image) -> Self {
        let few = current == 1 && newest == 0 && earlier <= 1 && kept.len() == 1 + usize::from(earlier);
        let before = if few && earlier == 1 { kept.pop() } else { None };
        match kept.pop() {
            Some(only) if few => Self::Few { current: only, before: before.map(Box::new) },
            last => {
                kept.extend(last);
                Self::Several { kept: kept.into_boxed_slice(), current, earlier, newest }
            }
        }
    }

    fn of(current: Vec<Brief>, earlier: Vec<Brief>, newest: Brief) -> Self {
        // There are at most VERIFIERS_MAX of the one and twice as many of the other.
        let number = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
        let (counting, before) = (number(current.len()), number(earlier.len()));
        let place = current.iter().chain(&earlier).position(|known| known.passport == newest.passport);
        // Exactly so much: allocators leave what shrinks where it is.
        let mut kept = Vec::with_capacity(current.len() + earlier.len() + usize::from(place.is_none()));
        kept.extend(current);
        kept.extend(earlier);
        let place = place.unwrap_or_else(|| {
            kept.push(newest);
            kept.len() - 1
        });
        Self::made(Image { kept, current: counting, earlier: before, newest: number(place) })
    }

    /// Takes a proof in place of the one of the same verifier, of whose earlier ones it keeps so many.
    pub(crate) fn take(&mut self, proof: Brief, Earlier(most): Earlier) {
        let (mut current, mut earlier) = (self.current().to_vec(), self.earlier().to_vec());
        let verifier = proof.verifier();
        if let Some(place) = current.iter().position(|c| c.verifier() == verifier) {
            earlier.push(current.remove(place));
            let same = |p: &Brief| p.verifier() == verifier;
            while earlier.iter().filter(|p| same(p)).count() > most
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
        if !self.kept().any(&gone) {
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
        match self {
            Self::Few { current, .. } => current,
            Self::Several { kept, newest, .. } => &kept[usize::from(*newest)],
        }
    }

    /// Those that count, the freshest first.
    pub(crate) fn current(&self) -> &[Brief] {
        match self {
            Self::Few { current, .. } => std::slice::from_ref(current),
            Self::Several { kept, current, .. } => &kept[..usize::from(*current)],
        }
    }

    fn earlier(&self) -> &[Brief] {
        match self {
            Self::Few { before, .. } => before.as_deref().map_or(&[], std::slice::from_ref),
            Self::Several { kept, current, earlier, .. } => &kept[usize::from(*current)..][..usize::from(*earlier)],
        }
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
    pub(crate) fn kept(&self) -> impl Iterator<Item = &Brief> {
        let (first, rest): (&[Brief], &[Brief]) = match self {
            Self::Few { .. } => (self.current(), self.earlier()),
            Self::Several { kept, .. } => (kept, &[]),
        };
        first.iter().chain(rest)
    }

    /// Bytes that they take beside themselves.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Few { before, .. } => before.as_deref().map_or(0, size_of_val),
            Self::Several { kept, .. } => size_of_val(&**kept),
        }
    }

    /// Until when one of them holds.
    pub(crate) fn until(&self) -> Option<UnixTime> {
        self.current().iter().map(|c| c.expires).max()
    }

    /// Lets proofs that were read share what others have too.
    pub(crate) fn adopt(&mut self, kinds: &mut Kinds) {
        let (first, rest): (&mut [Brief], Option<&mut Brief>) = match self {
            Self::Few { current, before } => (std::slice::from_mut(current), before.as_deref_mut()),
            Self::Several { kept, .. } => (kept, None),
        };
        first.iter_mut().chain(rest).for_each(|brief| kinds.adopt(brief));
    }
}

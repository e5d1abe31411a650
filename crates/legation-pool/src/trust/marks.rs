//! What speaks against an enclave, by the tenants in whose tasks it was found: arithmetic in integers, without a pool.
//!
//! The model is Beta reputation with forgetting (Jøsang and Ismail, "The Beta Reputation System", Bled 2002), with the base rate of
//! subjective logic: with evidence `r` for somebody and `s` against, a base rate `a` and a prior weight `W = 2`, the expectation is
//! `(r + a W) / (r + s + W)`. What is doubted is what is missing to 1. Here `a = 1` and `r = 0`, so doubt is `s / (s + 2)`:
//! 1. Whoever attested is believed to begin with, so nothing is kept of whom nothing is said.
//! 2. Good conduct earns nothing: agreement can be had for nothing, by asking what everybody answers alike, and a broken machine
//!    that errs now and then would buy itself back with it. Time alone forgives, and the operator.
//! 3. Evidence is halved with each [`HALF_LIFE`], on a straight line between; what is left of it below [`FADED`] is forgotten, with
//!    its counts.
//! 4. What is found in tasks of one tenant counts at most [`TENANT_MAX`] and [`TENANT_DISSENTS`], whatever else it makes happen.

use legation_core::{TenantId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::footprint::block;

/// Seconds in which evidence is halved: a week.
pub(crate) const HALF_LIFE: u64 = 7 * 24 * 3600;
/// Weight of a dissent, in thousandths of one piece of evidence.
pub(crate) const DISSENT: u32 = 1000;
/// Weight of a hint: of what may be another's doing.
pub(crate) const HINT: u32 = 100;
/// Most that hints in tasks of one tenant weigh.
pub(crate) const HINTS_MAX: u32 = 200;
/// Most that everything in tasks of one tenant weighs.
pub(crate) const TENANT_MAX: u32 = 2000;
/// Dissents in tasks of one tenant that count where dissents are counted.
pub(crate) const TENANT_DISSENTS: u32 = 2;
/// Tenants that are kept apart; of more, those that weigh least are forgotten.
pub(crate) const TENANTS_MAX: usize = 16;
/// What weighs less is nothing.
const FADED: u32 = 10;
/// Weight of what is believed of an enclave before anything is known of it (`W`).
const PRIOR: u64 = 2000;

/// What somebody did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Conduct {
    /// It signed an answer that the majority of its question contradicts.
    Dissent,
    /// Its monitor raised an alarm, or it had a part in an answer that others contradict, or that cannot be counted.
    Hint,
}

/// What was found in tasks of one tenant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mark {
    pub(crate) tenant: TenantId,
    /// Reports with dissents of it, and reports with hints.
    pub(crate) dissents: u32,
    pub(crate) hints: u32,
    /// The last of them.
    pub(crate) at: UnixTime,
    /// What dissents weigh, and what hints do, as of then.
    dissent: u32,
    hint: u32,
}

/// All that speaks against one enclave, by tenant.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Marks(Vec<Mark>);

/// What is left of a weight after so many seconds: half after each half-life.
fn faded(weight: u32, seconds: u64) -> u32 {
    let (halves, rest) = (seconds / HALF_LIFE, seconds % HALF_LIFE);
    let whole = u32::try_from(halves).ok().and_then(|halves| weight.checked_shr(halves)).unwrap_or(0);
    let gone = u64::from(whole).saturating_mul(rest) / (2 * HALF_LIFE);
    whole.saturating_sub(u32::try_from(gone).unwrap_or(u32::MAX))
}

impl Mark {
    fn of(tenant: &TenantId, conduct: Conduct, at: UnixTime) -> Self {
        let (dissents, hints) = match conduct {
            Conduct::Dissent => (1, 0),
            Conduct::Hint => (0, 1),
        };
        Self { tenant: tenant.clone(), dissents, hints, at, dissent: dissents * DISSENT, hint: hints * HINT }
    }

    /// Both together.
    fn add(&mut self, more: &Self) {
        let at = self.at.max(more.at);
        let (here, there) = (at.since(self.at), at.since(more.at));
        let sum = |one: u32, other: u32, most: u32| faded(one, here).saturating_add(faded(other, there)).min(most);
        self.dissent = sum(self.dissent, more.dissent, TENANT_MAX);
        self.hint = sum(self.hint, more.hint, HINTS_MAX);
        self.dissents = self.dissents.saturating_add(more.dissents);
        self.hints = self.hints.saturating_add(more.hints);
        self.at = at;
    }

    /// What it weighs, in thousandths of one piece of evidence.
    fn weight(&self, now: UnixTime) -> u32 {
        let seconds = now.since(self.at);
        let all = faded(self.dissent, seconds).saturating_add(faded(self.hint, seconds)).min(TENANT_MAX);
        if all < FADED { 0 } else { all }
    }
}

impl Marks {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What still counts, by tenant.
    pub(crate) fn live(&self, now: UnixTime) -> impl Iterator<Item = &Mark> {
        self.0.iter().filter(move |mark| mark.weight(now) > 0)
    }

    /// Something was found in a task of `tenant`.
    pub(crate) fn note(&mut self, tenant: &TenantId, conduct: Conduct, now: UnixTime) {
        self.fade(now);
        self.take(Mark::of(tenant, conduct, now));
    }

    /// What was said of another boot of the same machine holds too.
    pub(crate) fn join(&mut self, other: Self) {
        other.0.into_iter().for_each(|mark| self.take(mark));
    }

    fn take(&mut self, mark: Mark) {
        match self.0.binary_search_by(|known| known.tenant.cmp(&mark.tenant)) {
            Ok(at) => {
                if let Some(known) = self.0.get_mut(at) {
                    known.add(&mark);
                }
            }
            Err(at) => self.0.insert(at, mark),
        }
        if self.0.len() > TENANTS_MAX {
            self.forget_least();
        }
    }

    /// Forgets what weighs least.
    fn forget_least(&mut self) {
        let now = self.0.iter().map(|mark| mark.at).max().unwrap_or_default();
        let least = self.0.iter().enumerate().min_by_key(|(n, mark)| (mark.weight(now), mark.at, *n));
        if let Some(n) = least.map(|(n, _)| n) {
            self.0.remove(n);
        }
    }

    /// Forgets what counts no more.
    pub(crate) fn fade(&mut self, now: UnixTime) {
        self.0.retain(|mark| mark.weight(now) > 0);
    }

    /// How much it is doubted, as a part of `whole`, and less than that.
    pub(crate) fn doubt(&self, now: UnixTime, whole: u32) -> u32 {
        let against: u64 = self.0.iter().map(|mark| u64::from(mark.weight(now))).sum();
        u32::try_from(against.saturating_mul(u64::from(whole)) / (against + PRIOR)).unwrap_or(u32::MAX)
    }

    /// Its dissents, as far as they count: some of each tenant.
    pub(crate) fn dissents(&self, now: UnixTime) -> u32 {
        self.live(now).map(|mark| mark.dissents.min(TENANT_DISSENTS)).sum()
    }

    /// Bytes beside itself.
    pub(crate) fn weigh(&self) -> usize {
        block(self.0.capacity() * size_of::<Mark>())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn tenant(n: usize) -> TenantId {
        TenantId::new(&format!("t{n}")).unwrap()
    }

    fn marks(all: &[(usize, Conduct, u64)]) -> Marks {
        let mut marks = Marks::default();
        all.iter().for_each(|(n, conduct, after)| marks.note(&tenant(*n), *conduct, NOW.plus(*after)));
        marks
    }

    /// Doubt and what counts as dissents, right after the last mark and later.
    #[test]
    fn what_is_found_weighs_as_the_table_says() {
        use Conduct::{Dissent, Hint};
        type Case<'a> = (&'a [(usize, Conduct, u64)], u64, u32, u32);
        let cases: [Case<'_>; 13] = [
            (&[], 0, 0, 0),
            (&[(0, Dissent, 0)], 0, 333, 1),
            // 500 of 2500, then 250 of 2250; in the middle of the first week 750 of 2750.
            (&[(0, Dissent, 0)], HALF_LIFE / 2, 272, 1),
            (&[(0, Dissent, 0)], HALF_LIFE, 200, 1),
            (&[(0, Dissent, 0)], 2 * HALF_LIFE, 111, 1),
            // 15, then less than is remembered; with it goes the count.
            (&[(0, Dissent, 0)], 6 * HALF_LIFE, 7, 1),
            (&[(0, Dissent, 0)], 7 * HALF_LIFE, 0, 0),
            (&[(0, Dissent, 0), (0, Dissent, 0)], 0, 500, 2),
            // One tenant says no more than two.
            (&[(0, Dissent, 0), (0, Dissent, 0), (0, Dissent, 0), (0, Hint, 0)], 0, 500, 2),
            (&[(0, Dissent, 0), (1, Dissent, 0), (2, Dissent, 0)], 0, 600, 3),
            (&[(0, Hint, 0)], 0, 47, 0),
            (&[(0, Hint, 0), (0, Hint, 0), (0, Hint, 0)], 0, 90, 0),
            // What was said a week ago counts half beside what is said now.
            (&[(0, Dissent, 0), (0, Dissent, HALF_LIFE)], HALF_LIFE, 428, 2),
        ];
        for (all, after, doubt, dissents) in cases {
            let (marks, now) = (marks(all), NOW.plus(after));
            assert_eq!((marks.doubt(now, 1000), marks.dissents(now)), (doubt, dissents), "{all:?} after {after}");
        }
    }

    /// As many tenants as there are: the strongest are kept, and a crowd of weak ones pushes nobody out.
    #[test]
    fn few_tenants_are_kept_and_those_that_weigh_most() {
        let mut all = marks(&[(0, Conduct::Dissent, 0)]);
        for n in 1..100 {
            all.note(&tenant(n), Conduct::Hint, NOW.plus(n as u64));
        }
        let now = NOW.plus(100);
        assert_eq!((all.live(now).count(), all.dissents(now)), (TENANTS_MAX, 1));
        for n in 100..200 {
            all.note(&tenant(n), Conduct::Dissent, now);
        }
        assert_eq!((all.live(now).count(), all.dissents(now)), (TENANTS_MAX, 16));
        assert_eq!(all.doubt(now, 1000), 888, "16 of 18");
        all.fade(now.plus(10 * HALF_LIFE));
        assert!(all.is_empty());
    }

    fn conduct() -> impl Strategy<Value = Conduct> {
        prop_oneof![Just(Conduct::Dissent), Just(Conduct::Hint)]
    }

    proptest! {
        /// A weight never grows with time, is halved by each half-life, and is gone in the end.
        #[test]
        fn weights_fade(weight in 0..=TENANT_MAX, seconds in 0..20 * HALF_LIFE, more in 0..2 * HALF_LIFE) {
            prop_assert!(faded(weight, seconds + more) <= faded(weight, seconds));
            prop_assert_eq!(faded(weight, seconds + HALF_LIFE), faded(faded(weight, HALF_LIFE), seconds));
            prop_assert_eq!(faded(weight, HALF_LIFE), weight / 2);
            prop_assert_eq!(faded(weight, u64::MAX), 0);
        }

        /// Whatever happens in whatever order: doubt stays within what its tenants may cause, falls with time, and rises with what
        /// is found; a tenant without marks has no part in it.
        #[test]
        fn doubt_is_bounded_by_tenants(
            all in prop::collection::vec((0..24_usize, conduct(), 0..3 * HALF_LIFE), 0..60),
            later in 0..3 * HALF_LIFE,
        ) {
            let mut marks = Marks::default();
            let mut now = NOW;
            let mut tenants = BTreeMap::<usize, u32>::new();
            for (n, conduct, after) in all {
                // Steps are short beside what is remembered, and time may stand still.
                now = now.plus(after / 16);
                let before = marks.doubt(now, 1000);
                let known = marks.live(now).count();
                marks.note(&tenant(n), conduct, now);
                // Where nobody had to be forgotten for it.
                if known < TENANTS_MAX {
                    prop_assert!(marks.doubt(now, 1000) >= before);
                }
                *tenants.entry(n).or_default() += u32::from(conduct == Conduct::Dissent);
                let most: u64 = tenants.len().min(TENANTS_MAX) as u64 * u64::from(TENANT_MAX);
                prop_assert!(u64::from(marks.doubt(now, 1000)) <= most * 1000 / (most + PRIOR));
                let said: u32 = tenants.values().map(|n| (*n).min(TENANT_DISSENTS)).sum();
                prop_assert!(marks.dissents(now) <= said);
                prop_assert!(marks.0.is_sorted_by(|a, b| a.tenant < b.tenant) && marks.0.len() <= TENANTS_MAX);
            }
            prop_assert!(marks.doubt(now.plus(later), 1000) <= marks.doubt(now, 1000));
            // As it is written, it is read; what was faded says the same as what was not.
            let text = serde_json::to_string(&marks).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Marks>(&text).unwrap(), &marks);
            let (mut less, then) = (marks.clone(), now.plus(later));
            less.fade(then);
            prop_assert_eq!((less.doubt(then, 1000), less.dissents(then)), (marks.doubt(then, 1000), marks.dissents(then)));
        }

        /// Marks of two boots are those of one that did all of it, where nobody had to be forgotten; a clock that went back aside.
        #[test]
        fn boots_are_joined(all in prop::collection::vec((0..4_usize, conduct(), any::<bool>()), 0..30)) {
            let (mut one, mut two, mut both) = (Marks::default(), Marks::default(), Marks::default());
            for (n, conduct, first) in all {
                let boot = if first { &mut one } else { &mut two };
                boot.note(&tenant(n), conduct, NOW);
                both.note(&tenant(n), conduct, NOW);
            }
            one.join(two);
            prop_assert_eq!(one, both);
        }
    }
}

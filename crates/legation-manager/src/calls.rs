//! Who is called to attest again, and what those who were away missed.
//!
//! Whoever proved itself after a call has answered it, whichever verifier gave the passport: one that is silent or behind
//! leaves passports over replaced collateral standing, and nobody is called for those for ever.

use std::collections::{BTreeSet, VecDeque};

use legation_core::{
    Digest, UnixTime,
    claims::{Claims, Shelf},
};

/// Most changes of collateral that are remembered: whoever is away for longer attests again anyway.
const CHANGES_MAX: usize = 256;

/// What is new on a shelf, as far as it concerns machines that were judged by what was there before.
#[derive(Clone, Default, Debug)]
pub(crate) struct Change {
    /// Items that were replaced, by digest. Certificates of chips concern nobody else, and never change.
    replaced: BTreeSet<Digest>,
    /// Products and roots of which a first list came: `amd/milan/vcek/crl` concerns what says `milan` as its product,
    /// `dev/laptop/crl` what rests on that root.
    listed: BTreeSet<String>,
}

impl Change {
    pub(crate) fn between(before: &Shelf, now: &Shelf) -> Self {
        let held = before.items().filter(|item| !item.name.starts_with("vcek/"));
        let replaced = held
            .map(|item| (item.digest(), now.get(&item.name)))
            .filter(|(digest, now)| now.is_none_or(|(now, _)| now != *digest))
            .map(|(digest, _)| digest);
        let first = now.items().filter(|item| item.name.ends_with("/crl") && before.get(&item.name).is_none());
        let listed = first.filter_map(|item| item.name.split('/').nth(1).map(str::to_owned));
        Self { replaced: replaced.collect(), listed: listed.collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.replaced.is_empty() && self.listed.is_empty()
    }

    /// Whether it concerns a machine with these claims; `rests_on` says whether it was judged by a piece of collateral.
    pub(crate) fn concerns(&self, claims: &Claims, rests_on: impl Fn(&Digest) -> bool) -> bool {
        self.replaced.iter().any(rests_on)
            || self.listed.contains(&claims.product.value)
            || self.listed.contains(claims.anchor.name())
    }
}

/// The calls so far.
#[derive(Clone, Default, Debug)]
pub(crate) struct Calls {
    /// The last call to all, and why.
    all: Option<(UnixTime, String)>,
    /// Changes of collateral, oldest first.
    changes: VecDeque<(UnixTime, Change)>,
}

impl Calls {
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_none() && self.changes.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn all(&mut self, at: UnixTime, why: &str) {
        self.all = Some((at, why.to_owned()));
    }

    pub(crate) fn by(&mut self, at: UnixTime, change: Change) {
        self.changes.push_back((at, change));
        if self.changes.len() > CHANGES_MAX {
            self.changes.pop_front();
        }
    }

    /// Why an enclave is to attest again, if it is: `proven` is when its newest passport was issued, and its proofs have these
    /// claims and rest on this collateral.
    pub(crate) fn missed<F>(&self, proven: UnixTime, proofs: &[(&Claims, F)]) -> Option<String>
    where
        F: Fn(&Digest) -> bool,
    {
        if let Some((_, why)) = self.all.as_ref().filter(|(at, _)| proven <= *at) {
            return Some(why.clone());
        }
        let mut missed = self.changes.iter().filter(|(at, _)| proven <= *at);
        let concerns = |change: &Change| proofs.iter().any(|(claims, rests_on)| change.concerns(claims, rests_on));
        missed.any(|(_, change)| concerns(change)).then(|| "collateral changed".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use legation_core::claims::{Anchor, Attested, CollateralItem, Tcb, TeeKind};

    use super::*;

    fn item(name: &str, bytes: &[u8]) -> Arc<CollateralItem> {
        Arc::new(CollateralItem { name: name.into(), bytes: bytes.to_vec() })
    }

    fn claims(product: &str, anchor: &str) -> Claims {
        Claims::basic(
            TeeKind::SevSnp,
            Anchor::Production(anchor.into()),
            "00".into(),
            Attested::hardware("c0".to_owned()),
            Attested::hardware(Tcb::unknown("1")),
            Attested::endorsed(product.to_owned()),
            String::new(),
        )
    }

    #[test]
    fn a_change_concerns_whom_it_might_judge_otherwise() {
        let (old, same, chip) =
            (item("intel/tdx/0/platform", b"1"), item("intel/sgx/0/platform", b"1"), item("vcek/a", b"1"));
        let before: Shelf = [old.clone(), same.clone(), chip.clone()].into_iter().collect();
        let list = item("amd/milan/vcek/crl", b"list");
        let now: Shelf = [item("intel/tdx/0/platform", b"2"), same.clone(), item("vcek/a", b"2"), list.clone()]
            .into_iter()
            .collect();
        let change = Change::between(&before, &now);
        for (what, claims, collateral, concerned) in [
            ("judged by what was replaced", claims("tdx", "intel-sgx-root"), old.digest(), true),
            ("judged by what stays", claims("sgx", "intel-sgx-root"), same.digest(), false),
            ("its own chip's certificate", claims("genoa", "amd-genoa"), chip.digest(), false),
            ("of the product of a first list", claims("milan", "amd-milan"), chip.digest(), true),
        ] {
            assert_eq!(change.concerns(&claims, |digest| *digest == collateral), concerned, "{what}");
        }
        assert!(Change::between(&now, &now).is_empty());
        // A list that is replaced concerns those that were held against it.
        let newer: Shelf = now.items().cloned().chain([item("amd/milan/vcek/crl", b"newer")]).collect();
        let change = Change::between(&now, &newer);
        assert!(change.concerns(&claims("milan", "amd-milan"), |digest| *digest == list.digest()));
        assert!(!change.concerns(&claims("milan", "amd-milan"), |_| false));
    }

    #[test]
    fn whoever_proved_itself_after_a_call_has_answered_it() {
        let (old, at) = (item("intel/tdx/0/platform", b"1"), UnixTime(1_800_000_000));
        let before: Shelf = [old.clone()].into_iter().collect();
        let mut calls = Calls::default();
        assert!(calls.is_empty());
        calls.by(at, Change::between(&before, &Shelf::empty()));
        let tdx = claims("tdx", "intel-sgx-root");
        let (old, genoa) = (old.digest(), claims("genoa", "amd-genoa"));
        let by = |collateral: Option<Digest>| move |digest: &Digest| collateral == Some(*digest);
        let proofs = [(&genoa, by(None)), (&tdx, by(Some(old)))];
        let missed = |calls: &Calls, proven: UnixTime| calls.missed(proven, &proofs);
        assert_eq!(calls.missed(at, &proofs[..1]), None, "the other proof is concerned");
        assert!(missed(&calls, at.minus(5)).is_some() && missed(&calls, at).is_some());
        // A verifier elsewhere is silent, or has the old item yet: its passport over it stands.
        assert_eq!(missed(&calls, at.plus(1)), None);
        calls.all(at.plus(10), "the policy changed");
        assert_eq!(missed(&calls, at.plus(10)).as_deref(), Some("the policy changed"));
        assert_eq!(missed(&calls, at.plus(11)), None);
    }
}

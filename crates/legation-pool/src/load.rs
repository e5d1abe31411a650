//! What leases have of an enclave, and which of its accelerators. Of one without accelerators that does nothing there is nothing to
//! keep.

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{Bytes, LeaseId, Millicores, Milligpus, task::Demand};
use serde::{Deserialize, Serialize};

use crate::enclave::Enclave;

/// A whole accelerator, in thousandths.
pub(crate) const WHOLE: u16 = 1000;

/// Accelerators, by their place in the evidence, and how much of each, in thousandths.
type Shares = Vec<(usize, u16)>;

/// What is leased, and what of the accelerators is left.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    leases: BTreeSet<LeaseId>,
    cpu: Millicores,
    memory: Bytes,
    /// What is left of each accelerator.
    gpus_left: Box<[u16]>,
    /// Which of them leases have.
    gpus_leased: BTreeMap<LeaseId, Shares>,
}

static NO_LEASES: BTreeSet<LeaseId> = BTreeSet::new();

impl Load {
    /// Of so many accelerators nobody has anything; nothing where there are none.
    pub(crate) fn of_gpus(count: usize) -> Option<Box<Self>> {
        let gpus_left = vec![WHOLE; count].into_boxed_slice();
        (count > 0).then(|| Box::new(Self { gpus_left, ..Self::default() }))
    }

    fn is_nothing(&self) -> bool {
        self.leases.is_empty() && self.gpus_left.is_empty() && self.gpus_leased.is_empty()
    }

    /// Which accelerators a lease gets: a share of the one that has least left and enough, or whole ones, first come.
    fn pick_gpus(&self, need: Milligpus) -> Shares {
        let all = || self.gpus_left.iter().copied().enumerate();
        if need >= Milligpus(u64::from(WHOLE)) {
            let count = usize::try_from(need.0.div_ceil(u64::from(WHOLE))).unwrap_or(usize::MAX);
            return all().filter(|(_, left)| *left == WHOLE).take(count).collect();
        }
        let Some(share) = u16::try_from(need.0).ok().filter(|share| *share > 0) else { return Vec::new() };
        all()
            .filter(|(_, left)| *left >= share)
            .min_by_key(|(n, left)| (*left, *n))
            .map(|(n, _)| (n, share))
            .into_iter()
            .collect()
    }

    fn take(&mut self, lease: LeaseId, demand: &Demand) {
        if !self.leases.insert(lease) {
            return;
        }
        let gpus = self.pick_gpus(demand.gpus);
        for (gpu, share) in &gpus {
            if let Some(left) = self.gpus_left.get_mut(*gpu) {
                *left = left.saturating_sub(*share);
            }
        }
        if !gpus.is_empty() {
            self.gpus_leased.insert(lease, gpus);
        }
        self.cpu = self.cpu.saturating_add(demand.cpu);
        self.memory = self.memory.saturating_add(demand.memory);
    }

    fn give_back(&mut self, lease: LeaseId, demand: &Demand) {
        if !self.leases.remove(&lease) {
            return;
        }
        for (gpu, share) in self.gpus_leased.remove(&lease).unwrap_or_default() {
            if let Some(left) = self.gpus_left.get_mut(gpu) {
                *left = left.saturating_add(share).min(WHOLE);
            }
        }
        self.cpu = self.cpu.saturating_sub(demand.cpu);
        self.memory = self.memory.saturating_sub(demand.memory);
    }

    /// Accelerators may come and go; what leases have of them stays theirs.
    fn renew_gpus(&mut self, count: usize) {
        self.gpus_left = vec![WHOLE; count].into_boxed_slice();
        for (gpu, share) in self.gpus_leased.values().flatten() {
            if let Some(left) = self.gpus_left.get_mut(*gpu) {
                *left = left.saturating_sub(*share);
            }
        }
    }

    /// Bytes of what is left of each accelerator, and how many leases have some.
    pub(crate) fn devices(&self) -> (usize, usize) {
        (size_of_val(&*self.gpus_left), self.gpus_leased.len())
    }
}

impl Enclave {
    /// What is leased of it.
    pub fn leases(&self) -> &BTreeSet<LeaseId> {
        self.load.as_ref().map_or(&NO_LEASES, |load| &load.leases)
    }

    /// Whether nothing is leased of it.
    pub fn is_idle(&self) -> bool {
        self.leases().is_empty()
    }

    /// Compute that is leased.
    pub fn cpu_leased(&self) -> Millicores {
        self.load.as_ref().map_or(Millicores::ZERO, |load| load.cpu)
    }

    /// Memory that is leased.
    pub fn memory_leased(&self) -> Bytes {
        self.load.as_ref().map_or(Bytes::ZERO, |load| load.memory)
    }

    /// What is left of each accelerator, in thousandths, in the order of its evidence.
    pub fn gpus_left(&self) -> &[u16] {
        self.load.as_ref().map_or(&[], |load| &load.gpus_left)
    }

    /// Which accelerators a lease has, and how much of each, in thousandths.
    pub(crate) fn gpus_of(&self, lease: LeaseId) -> &[(usize, u16)] {
        self.load.as_ref().and_then(|load| load.gpus_leased.get(&lease)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn renew_gpus(&mut self, count: usize) {
        if count > 0 || self.load.is_some() {
            self.bear(|load| load.renew_gpus(count));
        }
    }

    pub(crate) fn take(&mut self, lease: LeaseId, demand: &Demand) {
        self.bear(|load| load.take(lease, demand));
    }

    pub(crate) fn give_back(&mut self, lease: LeaseId, demand: &Demand) {
        if self.load.is_some() {
            self.bear(|load| load.give_back(lease, demand));
        }
    }

    /// Changes what it bears; where nothing is left of that, nothing is kept.
    fn bear(&mut self, change: impl FnOnce(&mut Load)) {
        change(self.load.get_or_insert_default());
        self.load.take_if(|load| load.is_nothing());
    }
}

//! The classes of the enclaves here: the index, bound to names and proofs. All of it is derived from the rest of the pool, in
//! [`Pool::absorb`](crate::Pool::absorb); two of them are always equal, and a copy remembers no verdicts.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use legation_core::{Digest, EnclaveId, Region, Seq, UnixTime};

use crate::{
    distance::Distances,
    enclave::Enclave,
    fair::Offered,
    index::{ClassId, HostId, Index, RegionId, Terms, push_tight},
    kind::Kind,
    pool::Pool,
    queue::Class as Shape,
    rank,
};

/// Most shapes of work whose verdicts about classes are remembered.
const SCREENS_MAX: usize = 4096;
/// Most places from which distances are remembered.
const NEAR_MAX: usize = 1024;
/// Seconds that verdicts about classes are remembered: policies may speak of the time.
const REMEMBERED_SECONDS: u64 = 30;

/// An enclave's number in the index, and the second after which it is looked at next, as far as that is known (`lapse.rs`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handle(pub(crate) HostId, pub(crate) u64);

impl Default for Handle {
    fn default() -> Self {
        Self(HostId(u32::MAX), u64::MAX)
    }
}

impl PartialEq for Handle {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What makes enclaves alike: the kind of their proof, by all that can be asked about it and the appointment of its verifier.
type Key = (Digest, Digest);

/// The classes, and who is in them.
#[derive(Default)]
pub(crate) struct Classes {
    index: Index,
    by_key: BTreeMap<Key, ClassId>,
    kinds: Vec<Option<Arc<Kind>>>,
    by_region: BTreeMap<Region, RegionId>,
    regions: Vec<Region>,
    hosts: Vec<EnclaveId>,
    /// What each of them counts for.
    shares: Vec<Offered>,
    offered: Offered,
    memo: Mutex<Memo>,
}

/// What was found out and may be forgotten.
#[derive(Default)]
pub(crate) struct Memo {
    as_of: Option<(Seq, UnixTime)>,
    screens: BTreeMap<Shape, Screen>,
    near: BTreeMap<Region, Arc<Near>>,
}

/// What one shape of work made of the classes.
#[derive(Default)]
pub(crate) struct Screen {
    /// For each class: nothing yet, that it will do, or the place of the check that it does not pass.
    verdicts: Vec<u16>,
    checks: Vec<String>,
    /// For each region, the rows of the index whose classes do not pass, a bit each; as of a numbering of rows.
    refused: Vec<Vec<u64>>,
    generation: u64,
}

/// How far the regions are from one place.
pub(crate) struct Near {
    /// Milliseconds, by the number of the region.
    pub(crate) ms: Vec<Option<u32>>,
    /// Nearest first.
    pub(crate) order: Vec<RegionId>,
}

const GOOD: u16 = 1;

impl Screen {
    /// What is known of a class: that it will do, or which check it does not pass.
    pub(crate) fn known(&self, class: ClassId) -> Option<Result<(), &str>> {
        match self.verdicts.get(class.0 as usize).copied().unwrap_or(0) {
            0 => None,
            GOOD => Some(Ok(())),
            n => Some(Err(self.checks.get(usize::from(n) - 2).map_or("", String::as_str))),
        }
    }

    /// Of 64 rows of a region, those that are not known to be refused.
    pub(crate) fn open(&self, region: RegionId, word: usize) -> u64 {
        !self.refused.get(region.0 as usize).and_then(|words| words.get(word)).copied().unwrap_or(0)
    }

    /// Notes that the class in a row is refused.
    pub(crate) fn refuse(&mut self, region: RegionId, row: usize) {
        let (region, word) = (region.0 as usize, row / 64);
        if self.refused.len() <= region {
            self.refused.resize(region + 1, Vec::new());
        }
        let words = &mut self.refused[region];
        if words.len() <= word {
            words.resize(word + 1, 0);
        }
        words[word] |= 1 << (row % 64);
    }

    pub(crate) fn note(&mut self, class: ClassId, verdict: Result<(), &str>) {
        let at = class.0 as usize;
        if self.verdicts.len() <= at {
            self.verdicts.resize(at + 1, 0);
        }
        self.verdicts[at] = match verdict {
            Ok(()) => GOOD,
            Err(check) => {
                let known = self.checks.iter().position(|c| c == check);
                let place = known.unwrap_or_else(|| {
                    self.checks.push(check.to_owned());
                    self.checks.len() - 1
                });
                u16::try_from(place + 2).unwrap_or(0)
            }
        };
    }
}

impl Memo {
    /// Forgets what other policies or another time made of classes.
    fn refresh(&mut self, changed: Seq, now: UnixTime) {
        let fresh = |(seq, at): (Seq, UnixTime)| seq == changed && at <= now && now.since(at) < REMEMBERED_SECONDS;
        if !self.as_of.is_some_and(fresh) {
            self.as_of = Some((changed, now));
            self.screens.clear();
        }
    }

    pub(crate) fn screen(&mut self, shape: Shape, changed: Seq, now: UnixTime, generation: u64) -> &mut Screen {
        self.refresh(changed, now);
        if self.screens.len() >= SCREENS_MAX && !self.screens.contains_key(&shape) {
            self.screens.clear();
        }
        let screen = self.screens.entry(shape).or_default();
        if screen.generation != generation {
            screen.generation = generation;
            screen.refused.clear();
        }
        screen
    }
}

impl Classes {
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    pub(crate) fn memo(&self) -> MutexGuard<'_, Memo> {
        self.memo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn kind(&self, class: ClassId) -> Option<&Kind> {
        self.kinds.get(class.0 as usize)?.as_deref()
    }

    pub(crate) fn enclave(&self, host: HostId) -> Option<EnclaveId> {
        self.hosts.get(host.0 as usize).copied()
    }

    /// Every class.
    pub(crate) fn all(&self) -> impl Iterator<Item = ClassId> + '_ {
        self.by_key.values().copied()
    }

    /// Bytes that it takes.
    pub(crate) fn weight(&self) -> usize {
        self.index.weight() + self.hosts.capacity() * size_of::<EnclaveId>()
    }

    /// How many classes there are.
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// What all known enclaves offer together.
    pub(crate) fn offered(&self) -> &Offered {
        &self.offered
    }

    /// Has an enclave count for so much.
    fn count(&mut self, host: HostId, share: Offered) {
        let at = host.0 as usize;
        if self.shares.len() <= at {
            self.shares.resize(at + 1, Offered::default());
        }
        let before = std::mem::replace(&mut self.shares[at], share);
        let all = &mut self.offered;
        for (sum, before, after) in [
            (&mut all.cpu, before.cpu, share.cpu),
            (&mut all.memory, before.memory, share.memory),
            (&mut all.gpus, before.gpus, share.gpus),
            (&mut all.slots, before.slots, share.slots),
        ] {
            *sum = sum.saturating_sub(before).saturating_add(after);
        }
    }

    /// Whether anybody takes work at all.
    pub(crate) fn any_room(&self) -> bool {
        self.index.listed() > 0
    }

    /// How far each region is from `place`.
    pub(crate) fn near(&self, place: &Region, distances: &Distances) -> Arc<Near> {
        let mut memo = self.memo();
        if let Some(known) = memo.near.get(place) {
            return known.clone();
        }
        let ms: Vec<_> = self.regions.iter().map(|region| distances.ms(place, region)).collect();
        let mut order: Vec<_> = self.by_region.values().copied().collect();
        order.sort_by_key(|id| (ms.get(id.0 as usize).copied().flatten().unwrap_or(rank::UNKNOWN_MS), *id));
        let near = Arc::new(Near { ms, order });
        if memo.near.len() >= NEAR_MAX {
            memo.near.clear();
        }
        memo.near.insert(place.clone(), near.clone());
        near
    }

    pub(crate) fn distances_changed(&mut self) {
        self.memo().near.clear();
    }

    fn region(&mut self, region: &Region) -> RegionId {
        if let Some(known) = self.by_region.get(region) {
            return *known;
        }
        let id = self.index.add_region();
        self.by_region.insert(region.clone(), id);
        self.regions.push(region.clone());
        self.memo().near.clear();
        id
    }

    fn class(&mut self, kind: &Arc<Kind>) -> ClassId {
        let (passport, key) = (kind.typical(), kind.key());
        if let Some(known) = self.by_key.get(&key) {
            return *known;
        }
        let region = self.region(rank::region(passport));
        let rate = passport.configuration.rate;
        let id = self.index.add_class(Terms {
            region,
            core_hour: rate.core_hour.0,
            gib_hour: rate.gib_hour.0,
            posture: rank::posture(passport),
            gpus: !passport.claims.gpus.is_empty(),
        });
        let at = id.0 as usize;
        if self.kinds.len() <= at {
            self.kinds.resize(at + 1, None);
        }
        self.kinds[at] = Some(kind.clone());
        self.by_key.insert(key, id);
        id
    }

    /// Drops classes that nobody is in.
    fn drop_empty(&mut self, classes: Vec<ClassId>) {
        for class in classes {
            if self.index.members(class) > 0 {
                continue;
            }
            if let Some(kind) = self.kinds.get_mut(class.0 as usize).and_then(Option::take) {
                self.by_key.remove(&kind.key());
                self.index.drop_class(class);
            }
            // Its number may be another's soon.
            for screen in self.memo().screens.values_mut() {
                if let Some(verdict) = screen.verdicts.get_mut(class.0 as usize) {
                    *verdict = 0;
                }
            }
        }
    }

    /// Notes who an enclave is and by which proofs, anew.
    pub(crate) fn enter(&mut self, id: EnclaveId, enclave: &mut Enclave) {
        let mut handle = enclave.host.0;
        let mut empty = Vec::new();
        if handle == Handle::default().0 {
            handle = self.index.add_host(enclave.total());
            enclave.host = Handle(handle, u64::MAX);
            let at = handle.0 as usize;
            match self.hosts.get_mut(at) {
                Some(known) => *known = id,
                // Numbers are given without gaps.
                None => push_tight(&mut self.hosts, id),
            }
        } else {
            empty = self.index.leave(handle);
        }
        for proof in enclave.proofs.current() {
            let class = self.class(&proof.kind);
            self.index.join(handle, class, proof.issued.0, proof.expires.0);
        }
        self.drop_empty(empty);
        let (total, slots) = (enclave.total(), enclave.capacity().slots);
        let [cpu, memory, gpus] = [total.cpu, total.memory, total.gpus].map(u128::from);
        self.count(handle, Offered { cpu, memory, gpus, slots: u128::from(slots) });
        self.room(enclave);
    }

    /// Notes what an enclave has left, and whether it takes work.
    pub(crate) fn room(&mut self, enclave: &Enclave) {
        let open = enclave.is_open();
        if enclave.host.0 != Handle::default().0 {
            self.index.set_room(enclave.host.0, enclave.room(), open);
        }
    }

    /// Forgets an enclave.
    pub(crate) fn leave(&mut self, enclave: &Enclave) {
        if enclave.host.0 != Handle::default().0 {
            self.count(enclave.host.0, Offered::default());
            let empty = self.index.drop_host(enclave.host.0);
            self.drop_empty(empty);
        }
    }
}

impl Clone for Classes {
    fn clone(&self) -> Self {
        Self {
            index: self.index.clone(),
            by_key: self.by_key.clone(),
            kinds: self.kinds.clone(),
            by_region: self.by_region.clone(),
            regions: self.regions.clone(),
            hosts: self.hosts.clone(),
            shares: self.shares.clone(),
            offered: self.offered,
            memo: Mutex::default(),
        }
    }
}

impl PartialEq for Classes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl std::fmt::Debug for Classes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Classes({} of {} enclaves)", self.by_key.len(), self.hosts.len())
    }
}

impl Pool {
    /// Brings the index up to date with an enclave whose proofs, presence or trust may have changed.
    pub(crate) fn reindex(&mut self, id: EnclaveId) {
        if let Some(enclave) = self.enclaves.get_mut(&id) {
            self.classes.enter(id, enclave);
        }
    }

    /// Brings the index up to date with what an enclave has left.
    pub(crate) fn reindex_room(&mut self, id: EnclaveId) {
        if let Some(enclave) = self.enclaves.get(&id) {
            self.classes.room(enclave);
        }
    }

    /// Makes the index anew from the books.
    pub(crate) fn reindex_all(&mut self) {
        self.classes = Classes::default();
        for (id, enclave) in self.enclaves.iter_mut() {
            enclave.host = Handle::default();
            self.classes.enter(*id, enclave);
        }
    }

    /// Holds the index against the books.
    pub(crate) fn audit_classes(&self) -> Result<(), String> {
        for (id, enclave) in &self.enclaves {
            let handle = enclave.host.0;
            let known = self.classes.enclave(handle) == Some(*id);
            let room = known && self.classes.index.room(handle) == enclave.room();
            if !room {
                return Err(format!("the index has {id} elsewhere, or with other room"));
            }
        }
        let listed: usize = self.enclaves.values().filter(|e| e.has_room()).map(|e| e.proofs.current().len()).sum();
        if listed == self.classes.index.listed() {
            Ok(())
        } else {
            Err(format!(
                "the index lists {} memberships of enclaves with room, not {listed}",
                self.classes.index.listed()
            ))
        }
    }
}

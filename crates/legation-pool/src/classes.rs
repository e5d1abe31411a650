//! The classes of the enclaves here: the index, bound to names and proofs. All of it is derived from the rest of the pool, in
//! [`Pool::absorb`](crate::Pool::absorb); two of them are always equal, and a copy remembers no verdicts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use legation_core::{Digest, EnclaveId, Region, Seq, UnixTime};

use crate::{
    distance::Distances,
    enclave::Enclave,
    fair::Offered,
    footprint::tree,
    index::{Amount, ClassId, HostId, Index, RegionId, Terms, push_tight},
    kind::Kind,
    lapse::Looked,
    pool::Pool,
    queue::Class as Shape,
    rank,
    slots::Slots,
};

/// Most shapes of work whose verdicts about classes are remembered.
const SCREENS_MAX: usize = 4096;
/// Most places from which distances are remembered.
const NEAR_MAX: usize = 1024;
/// Seconds that verdicts about classes are remembered: policies may speak of the time.
const REMEMBERED_SECONDS: u64 = 30;

/// An enclave's number in the index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handle(pub(crate) HostId);

impl Default for Handle {
    fn default() -> Self {
        Self(HostId(u32::MAX))
    }
}

impl PartialEq for Handle {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What an enclave counts for beside what the index has of it.
#[derive(Clone, Copy, Default)]
struct Share {
    /// Thousandths of accelerators.
    gpus: u32,
    slots: u32,
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
    shares: Vec<Share>,
    /// Those that something speaks against. There are few, and others are asked nothing about it.
    doubted: BTreeSet<HostId>,
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

    /// Whether something speaks against an enclave.
    pub(crate) fn is_doubted(&self, host: HostId) -> bool {
        self.doubted.contains(&host)
    }

    /// Every class.
    pub(crate) fn all(&self) -> impl Iterator<Item = ClassId> + '_ {
        self.by_key.values().copied()
    }

    /// Bytes that it takes.
    pub(crate) fn weight(&self) -> usize {
        let hosts = self.hosts.capacity() * size_of::<EnclaveId>();
        let doubted = tree::<HostId, ()>(self.doubted.len());
        self.index.weight() + hosts + self.shares.capacity() * size_of::<Share>() + doubted
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
    fn count(&mut self, host: HostId, total: Amount, slots: u32) {
        let share = Share { gpus: u32::try_from(total.gpus).unwrap_or(u32::MAX), slots };
        let before = match self.shares.get_mut(host.0 as usize) {
            Some(known) => std::mem::replace(known, share),
            // Numbers are given without gaps.
            None => {
                push_tight(&mut self.shares, share);
                Share::default()
            }
        };
        let (cpu, memory) = self.index.set_total(host, total.cpu, total.memory);
        let all = &mut self.offered;
        for (sum, before, after) in [
            (&mut all.cpu, cpu, total.cpu),
            (&mut all.memory, memory, total.memory),
            (&mut all.gpus, u64::from(before.gpus), u64::from(share.gpus)),
            (&mut all.slots, u64::from(before.slots), u64::from(share.slots)),
        ] {
            *sum = sum.saturating_sub(u128::from(before)).saturating_add(u128::from(after));
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
        match self.regions.get_mut(id.0 as usize) {
            Some(gone) => *gone = region.clone(),
            // Numbers are given without gaps.
            None => self.regions.push(region.clone()),
        }
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
                let region = self.index.drop_class(class);
                if self.index.drop_region(region) {
                    self.by_region.remove(rank::region(kind.typical()));
                    self.memo().near.clear();
                }
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
            // It counts for nothing yet.
            handle = self.index.add_host(Amount::default());
            (enclave.host, enclave.looked) = (Handle(handle), Looked::default());
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
        self.count(handle, enclave.total(), enclave.capacity().slots);
        self.room(enclave);
    }

    /// Notes what an enclave has left, whether it takes work, and whether something speaks against it.
    pub(crate) fn room(&mut self, enclave: &Enclave) {
        let open = enclave.is_open();
        let host = enclave.host.0;
        if host != Handle::default().0 {
            self.index.set_room(host, enclave.room(), open);
            if enclave.marks().is_some() {
                self.doubted.insert(host);
            } else {
                self.doubted.remove(&host);
            }
        }
    }

    /// Forgets an enclave.
    pub(crate) fn leave(&mut self, enclave: &Enclave) {
        if enclave.host.0 != Handle::default().0 {
            self.count(enclave.host.0, Amount::default(), 0);
            self.doubted.remove(&enclave.host.0);
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
            doubted: self.doubted.clone(),
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
        (self.classes, self.slots) = (Classes::default(), Slots::default());
        for (id, enclave) in self.enclaves.iter_mut() {
            enclave.host = Handle::default();
            self.classes.enter(*id, enclave);
            self.slots.note(enclave);
        }
    }

    /// Holds the index against the books.
    pub(crate) fn audit_classes(&self) -> Result<(), String> {
        for (id, enclave) in &self.enclaves {
            let handle = enclave.host.0;
            let known = self.classes.enclave(handle) == Some(*id);
            let room = known && self.classes.index.room(handle) == enclave.room();
            let total = known && self.classes.index.total(handle) == (enclave.total().cpu, enclave.total().memory);
            if !room || !total {
                return Err(format!("the index has {id} elsewhere, or with other room"));
            }
        }
        let mut all = Offered::default();
        for enclave in self.enclaves.values() {
            let Amount { cpu, memory, gpus } = enclave.total();
            all.cpu = all.cpu.saturating_add(cpu.into());
            all.memory = all.memory.saturating_add(memory.into());
            all.gpus = all.gpus.saturating_add(gpus.into());
            all.slots = all.slots.saturating_add(enclave.capacity().slots.into());
        }
        if all != self.classes.offered {
            return Err("what all enclaves offer together is not the sum of what each does".to_owned());
        }
        let marked = self.enclaves.values().filter(|e| e.marks().is_some()).map(|e| e.host.0);
        if marked.collect::<BTreeSet<_>>() != self.classes.doubted {
            return Err("the index has others doubted than those that something speaks against".to_owned());
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

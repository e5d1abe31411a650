//! The class index: who has room, found in about two microseconds among a million.
//!
//! Enclaves that are alike in all that requirements, policies and prices can see form a *class*; what is asked about them is
//! asked once for the class. A class keeps its members by how much they have free: a bit for each of 32 x 32 buckets (half octaves of
//! compute, and of memory or, where there are accelerators, how much of those), and in a bucket an intrusive list. Classes stand
//! in their region, cheapest first, side by side, with a bit for each amount that any of their members has.
//!
//! A search first goes through regions, nearest or cheapest first, for the few classes with the lowest price that may have room and
//! that its judge admits; then it looks into those, at the tightest buckets first and at a few members of each. What that leaves
//! out costs at most a few percent of the effective price (`regret`, which tests bound), never a feasible enclave: when nothing was
//! found, more and more is looked at, in the end everything. The plain scan over all enclaves is the oracle of the property
//! tests.
//!
//! It knows numbers only: names, proofs and reasons are its caller's ([`Judge`]).

mod bits;
mod search;

use bits::Rows;
use search::{Narrow, Search};

/// A class, by its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ClassId(pub u32);
/// A region, by its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RegionId(pub u32);
/// An enclave, by its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HostId(pub u32);

/// What is asked for, or free: compute in thousandths of a core, memory in bytes, accelerators in thousandths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Amount {
    /// Thousandths of a core.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
    /// Thousandths of an accelerator: below 1000 a share of one, from there whole ones.
    pub gpus: u64,
}

/// What an enclave has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Room {
    /// Thousandths of a core.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
    /// Leases that it could take.
    pub slots: u32,
    /// The largest free share of one accelerator, in thousandths.
    pub share: u16,
    /// Accelerators that are wholly free.
    pub whole: u16,
}

/// What the members of a class have in common, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Where.
    pub region: RegionId,
    /// Price of a core for an hour, in millionths of a dollar.
    pub core_hour: u64,
    /// Price of a GiB for an hour, in millionths of a dollar.
    pub gib_hour: u64,
    /// What its posture costs, in thousandths of the price, before weights.
    pub posture: u32,
    /// Whether its members have accelerators.
    pub gpus: bool,
}

/// How a search weighs, all in percent; see `rank.rs` for what the numbers mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weighing {
    /// Whether price counts.
    pub cost: bool,
    /// Of posture.
    pub posture: u64,
    /// Of fit.
    pub fit: u64,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// How much.
    pub need: Amount,
    /// How to weigh.
    pub weighing: Weighing,
    /// For each region: what its distance costs, in thousandths of the price, weighed; [`TOO_FAR`] where it is not
    /// to be. Empty when distance does not count.
    pub distances: &'a [u32],
    /// Regions in the order to be tried; all others after them. May be empty.
    pub order: &'a [RegionId],
    /// Now, in seconds.
    pub now: u64,
}

/// Distance of a region that is not to be taken.
pub const TOO_FAR: u32 = u32::MAX;

/// What the index cannot know.
pub trait Judge {
    /// Of 64 rows of a region, those that are not known to be refused, a bit each. Rows are numbered anew whenever
    /// [`Index::generation`] changes.
    fn screen(&self, region: RegionId, word: usize) -> u64;
    /// Whether a class will do; if so, what else it costs, in thousandths of the price.
    fn class(&mut self, class: ClassId, region: RegionId, row: usize) -> Option<u32>;
    /// Whether a member will do, who has the room; if so, what else it costs.
    fn host(&mut self, host: HostId) -> Option<u32>;
}

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Who.
    pub host: HostId,
    /// By which class.
    pub class: ClassId,
    /// Its effective price: smaller is better.
    pub effective: u64,
}

/// Nobody.
const NIL: u32 = u32::MAX;
/// Levels of each dimension of the buckets.
const LEVELS: usize = 32;
/// Pairs of levels.
const LANES: usize = LEVELS * LEVELS;
/// Words of a class's mask: two levels of compute in each.
const WORDS: usize = LEVELS / 2;
/// Classes that are looked into, at first and when nothing was found in those; after that, all.
const WIDTHS: [usize; 3] = [3, 64, usize::MAX];
/// Members of a class that are compared with each other.
const HITS: u32 = 3;
/// Members of a bucket that are looked at without a hit before the next bucket is tried.
const PROBES: u32 = 8;
/// What somebody who is found costs at least for age and fit, in thousandths, as far as it is worth looking: whoever could be better
/// than the best by less than this is left out.
const OWN: u64 = 40;
/// How much dearer than those left out the best may be, in thousandths, before more is looked at.
const MUCH: u64 = 200;

#[derive(Clone, Copy, Debug)]
struct Member {
    host: u32,
    class: u32,
    next: u32,
    prev: u32,
    /// The next membership of the same host.
    sibling: u32,
    /// Its proof holds from then..
    from: u64,
    /// ..until then.
    until: u64,
    /// Where it is listed; [`UNLISTED`] where it is not.
    bucket: u16,
}

const UNLISTED: u16 = u16::MAX;

#[derive(Clone, Copy, Debug)]
struct Host {
    room: Room,
    total_cpu: u64,
    total_memory: u64,
    first: u32,
    /// Whether it takes work at all.
    open: bool,
}

#[derive(Clone, Debug)]
struct Class {
    terms: Terms,
    /// Buckets with members.
    mask: [u64; WORDS],
    /// First member of each bucket in `mask`, in the order of the buckets.
    heads: Vec<u32>,
    /// Members, listed or not.
    members: u32,
    /// Place of its row in its region.
    row: u32,
}

/// What decides about a class, side by side with its neighbours.
#[derive(Clone, Copy, Debug)]
struct Row {
    core_hour: u64,
    gib_hour: u64,
    class: u32,
    posture: u32,
    gpus: bool,
}

/// For each level of compute, the highest level of the second dimension among members with so much compute or more,
/// counted from 1; 0 where there is none.
type Stairs = [u8; LEVELS];

#[derive(Clone, Debug, Default)]
struct Region {
    /// By reference price.
    rows: Vec<Row>,
    /// What the members of each row have.
    stairs: Vec<Stairs>,
    /// For each level of compute, and in it for each level of the second dimension, a bit for each row: which have a member with so
    /// much of both, or more.
    fits: Rows<LANES>,
    /// A bit for each row: which have accelerators.
    gpus: Rows<1>,
    /// The least that any row asks.
    core_min: u64,
    gib_min: u64,
    /// The least and the most that a GiB costs of a core, in 1024ths.
    ratio_min: u64,
    ratio_max: u64,
    /// Classes with a member that is listed.
    open: u32,
}

/// The index.
#[derive(Clone, Debug, Default)]
pub struct Index {
    regions: Vec<Region>,
    /// Regions, cheapest first.
    cheapest: Vec<RegionId>,
    free_regions: Vec<u32>,
    classes: Vec<Class>,
    free_classes: Vec<u32>,
    members: Vec<Member>,
    free_members: Vec<u32>,
    hosts: Vec<Host>,
    free_hosts: Vec<u32>,
    listed: usize,
    generation: u64,
}

/// Adds to a list that is to take little more than it holds: it grows by an eighth.
pub(crate) fn push_tight<T>(all: &mut Vec<T>, one: T) {
    if all.len() == all.capacity() {
        all.reserve_exact(all.len() / 8 + 16);
    }
    all.push(one);
}

/// The price that orders classes: of one core with four GiB.
fn reference(core_hour: u64, gib_hour: u64) -> u64 {
    core_hour.saturating_add(gib_hour.saturating_mul(4))
}

/// What accelerators cost that lie idle beside work, in thousandths.
const IDLE: u64 = 300;
/// Largest ratio of prices that is told apart, in 1024ths.
const RATIO_MAX: u64 = 1 << 20;

/// Price of an hour of `need`, in billionths of a dollar, and a millionth of a dollar that orders what is free.
fn price(core_hour: u64, gib_hour: u64, need: &Amount) -> u64 {
    let memory = gib_hour.saturating_mul(need.memory >> 20).saturating_mul(1000) >> 10;
    core_hour.saturating_mul(need.cpu).saturating_add(memory).saturating_add(1000)
}

/// A price with so many thousandths more.
fn dearer(price: u64, thousandths: u64) -> u64 {
    price.saturating_mul(thousandths.saturating_add(1000))
}

/// Half octaves: 2 for each doubling, 1 for each half of one.
fn level(value: u64, smallest: u32) -> usize {
    let value = value.max(2);
    let top = 63 - value.leading_zeros();
    let half = (value >> (top - 1)) & 1;
    let level = 2 * (u64::from(top).saturating_sub(u64::from(smallest))) + half * u64::from(top >= smallest);
    (level as usize).min(LEVELS - 1)
}

/// From 62 to 4 million thousandths; 1000, 1500, 2000 and their like each begin a level.
fn cpu_level(milli: u64) -> usize {
    level(milli.saturating_mul(1049) >> 10, 6)
}

/// From 8 MiB to 512 GiB.
fn memory_level(bytes: u64) -> usize {
    level(bytes >> 20, 3)
}

/// Eighths of a share, then whole accelerators.
fn gpu_level(share: u16, whole: u16) -> usize {
    if whole > 0 { (8 + usize::from(whole)).min(LEVELS - 1) } else { usize::from(share / 125).min(8) }
}

/// The smallest level in which a need for accelerators may be met.
fn gpu_need(need: u64) -> usize {
    if need >= 1000 { (8 + (need / 1000) as usize).min(LEVELS - 1) } else { (need / 125) as usize }
}

fn bucket(room: &Room, gpus: bool) -> u16 {
    let second = if gpus { gpu_level(room.share, room.whole) } else { memory_level(room.memory) };
    (cpu_level(room.cpu) * LEVELS + second) as u16
}

impl Class {
    fn stairs(&self) -> Stairs {
        let (mut stairs, mut top) = ([0; LEVELS], 0);
        for (level, stair) in stairs.iter_mut().enumerate().rev() {
            let lane = (self.mask[level / 2] >> (LEVELS * (level % 2))) as u32;
            top = top.max(32 - lane.leading_zeros());
            *stair = top as u8;
        }
        stairs
    }
}

impl Room {
    /// Whether there is `need`.
    pub fn fits(&self, need: &Amount) -> bool {
        let gpus = match need.gpus {
            0 => true,
            share @ 1..1000 => u64::from(self.share) >= share,
            whole => u64::from(self.whole) >= whole.div_ceil(1000),
        };
        self.slots > 0 && self.cpu >= need.cpu && self.memory >= need.memory && gpus
    }

    /// What would be left over and of little use, in thousandths of the price: compute without memory or memory without
    /// compute (up to 100), a hole where a smaller one would do (up to 50), accelerators beside work that needs none (300), a fresh
    /// accelerator where a share of one in use would do (100).
    fn misfit(&self, need: &Amount, total_cpu: u64, total_memory: u64) -> u64 {
        let left = |free: u64, need: u64, total: u64| free.saturating_sub(need).saturating_mul(1000) / total.max(1);
        let cpu = left(self.cpu, need.cpu, total_cpu);
        let memory = left(self.memory >> 20, need.memory >> 20, total_memory >> 20);
        let shape = cpu.abs_diff(memory) / 10 + cpu.min(memory) / 20;
        let gpus = match need.gpus {
            0 if self.share > 0 => IDLE,
            1..1000 if self.share == 1000 => 100,
            _ => 0,
        };
        shape + gpus
    }
}

impl Index {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that hosts, their memberships, and what regions know of their classes take; classes themselves are few.
    pub fn weight(&self) -> usize {
        let regions: usize = self.regions.iter().map(|region| region.fits.weight()).sum();
        let free = self.free_members.capacity() + self.free_hosts.capacity();
        self.members.capacity() * size_of::<Member>()
            + self.hosts.capacity() * size_of::<Host>()
            + free * size_of::<u32>()
            + regions
    }

    /// Members that are listed: hosts that take work and have a slot, once for each class.
    pub fn listed(&self) -> usize {
        self.listed
    }

    /// Changes whenever rows of regions are numbered anew: when classes come and go.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Members of a class, listed or not.
    pub fn members(&self, class: ClassId) -> u32 {
        self.classes.get(class.0 as usize).map_or(0, |c| c.members)
    }

    /// Makes a region.
    pub fn add_region(&mut self) -> RegionId {
        let id = self.free_regions.pop().map_or_else(
            || {
                self.regions.push(Region::default());
                RegionId(u32::try_from(self.regions.len() - 1).unwrap_or(NIL))
            },
            RegionId,
        );
        self.cheapest.push(id);
        id
    }

    /// Drops a region that has no classes; says whether it had none. Its number may be another's soon.
    pub fn drop_region(&mut self, region: RegionId) -> bool {
        if !self.regions[region.0 as usize].rows.is_empty() {
            return false;
        }
        self.regions[region.0 as usize] = Region::default();
        self.cheapest.retain(|known| *known != region);
        self.free_regions.push(region.0);
        true
    }

    /// Makes a class. Its region must have been made by [`Self::add_region`].
    pub fn add_class(&mut self, terms: Terms) -> ClassId {
        let class = Class { terms, mask: [0; WORDS], heads: Vec::new(), members: 0, row: 0 };
        let id = match self.free_classes.pop() {
            Some(id) => {
                self.classes[id as usize] = class;
                id
            }
            None => {
                self.classes.push(class);
                u32::try_from(self.classes.len() - 1).unwrap_or(NIL)
            }
        };
        let Terms { core_hour, gib_hour, posture, gpus, region } = terms;
        let row = Row { core_hour, gib_hour, class: id, posture, gpus };
        let found = &mut self.regions[region.0 as usize];
        let key = (reference(core_hour, gib_hour), id);
        let at = found.rows.partition_point(|r| (reference(r.core_hour, r.gib_hour), r.class) < key);
        found.insert(at, row);
        self.renumber(region);
        ClassId(id)
    }

    /// Drops a class without members; gives its region.
    pub fn drop_class(&mut self, class: ClassId) -> RegionId {
        let Class { terms, members, row, .. } = &self.classes[class.0 as usize];
        debug_assert_eq!(*members, 0);
        let (region, row) = (terms.region, *row as usize);
        self.regions[region.0 as usize].remove(row);
        self.renumber(region);
        self.free_classes.push(class.0);
        region
    }

    /// After rows of a region have changed.
    fn renumber(&mut self, region: RegionId) {
        self.generation += 1;
        let found = &mut self.regions[region.0 as usize];
        found.core_min = found.rows.iter().map(|r| r.core_hour).min().unwrap_or(0);
        found.gib_min = found.rows.iter().map(|r| r.gib_hour).min().unwrap_or(0);
        let ratio = |row: &Row| (row.gib_hour.saturating_mul(1024) / row.core_hour.max(1)).min(RATIO_MAX);
        found.ratio_min = found.rows.iter().map(ratio).min().unwrap_or(0);
        found.ratio_max = found.rows.iter().map(|row| ratio(row) + 1).max().unwrap_or(0);
        for (row, known) in found.rows.iter().enumerate() {
            self.classes[known.class as usize].row = row as u32;
        }
        let regions = &self.regions;
        self.cheapest.sort_by_key(|id| {
            let region = &regions[id.0 as usize];
            (reference(region.core_min, region.gib_min), *id)
        });
    }

    /// Makes a host, which takes no work yet.
    pub fn add_host(&mut self, total: Amount) -> HostId {
        let host =
            Host { room: Room::default(), total_cpu: total.cpu, total_memory: total.memory, first: NIL, open: false };
        match self.free_hosts.pop() {
            Some(id) => {
                self.hosts[id as usize] = host;
                HostId(id)
            }
            None => {
                push_tight(&mut self.hosts, host);
                HostId(u32::try_from(self.hosts.len() - 1).unwrap_or(NIL))
            }
        }
    }

    /// Compute and memory that a host has in all.
    pub(crate) fn total(&self, host: HostId) -> (u64, u64) {
        self.hosts.get(host.0 as usize).map_or((0, 0), |known| (known.total_cpu, known.total_memory))
    }

    /// Says what a host has in all; gives what it had.
    pub(crate) fn set_total(&mut self, host: HostId, cpu: u64, memory: u64) -> (u64, u64) {
        let before = self.total(host);
        if let Some(known) = self.hosts.get_mut(host.0 as usize) {
            (known.total_cpu, known.total_memory) = (cpu, memory);
        }
        before
    }

    /// Drops a host and its memberships; gives the classes that it leaves without members.
    pub fn drop_host(&mut self, host: HostId) -> Vec<ClassId> {
        let empty = self.leave(host);
        self.free_hosts.push(host.0);
        empty
    }

    /// Ends all memberships of a host; gives the classes that it leaves without members.
    pub fn leave(&mut self, host: HostId) -> Vec<ClassId> {
        let mut empty = Vec::new();
        let mut at = std::mem::replace(&mut self.hosts[host.0 as usize].first, NIL);
        while at != NIL {
            let Member { class, sibling, .. } = self.members[at as usize];
            if self.unlist(at) {
                self.note(class);
            }
            let known = &mut self.classes[class as usize];
            known.members -= 1;
            if known.members == 0 {
                empty.push(ClassId(class));
            }
            self.free_members.push(at);
            at = sibling;
        }
        empty
    }

    /// Makes a host a member of a class, by a proof that holds from `from` until `until`.
    pub fn join(&mut self, host: HostId, class: ClassId, from: u64, until: u64) {
        let sibling = self.hosts[host.0 as usize].first;
        let member =
            Member { host: host.0, class: class.0, next: NIL, prev: NIL, sibling, from, until, bucket: UNLISTED };
        let at = match self.free_members.pop() {
            Some(at) => {
                self.members[at as usize] = member;
                at
            }
            None => {
                push_tight(&mut self.members, member);
                u32::try_from(self.members.len() - 1).unwrap_or(NIL)
            }
        };
        self.hosts[host.0 as usize].first = at;
        self.classes[class.0 as usize].members += 1;
        self.relist(at);
    }

    /// Says what a host has left, and whether it takes work at all.
    pub fn set_room(&mut self, host: HostId, room: Room, open: bool) {
        let known = &mut self.hosts[host.0 as usize];
        known.room = room;
        known.open = open;
        let mut at = known.first;
        while at != NIL {
            self.relist(at);
            at = self.members[at as usize].sibling;
        }
    }

    /// What a host has left.
    pub fn room(&self, host: HostId) -> Room {
        self.hosts[host.0 as usize].room
    }

    /// Lists a member where it belongs now.
    fn relist(&mut self, at: u32) {
        let Member { host, class, bucket: before, .. } = self.members[at as usize];
        let host = &self.hosts[host as usize];
        let gpus = self.classes[class as usize].terms.gpus;
        let wanted = if host.open && host.room.slots > 0 { bucket(&host.room, gpus) } else { UNLISTED };
        if wanted == before {
            return;
        }
        let left = self.unlist(at);
        let entered = wanted != UNLISTED && self.list(at, wanted);
        if left || entered {
            self.note(class);
        }
    }

    /// Lists a member that is not; says whether it is the first of its bucket.
    fn list(&mut self, at: u32, wanted: u16) -> bool {
        let class = &mut self.classes[self.members[at as usize].class as usize];
        let (word, bit) = (usize::from(wanted / 64), 1_u64 << (wanted % 64));
        let rank = rank(&class.mask, wanted);
        let mut next = NIL;
        let first = class.mask[word] & bit == 0;
        if first {
            class.mask[word] |= bit;
            class.heads.insert(rank, at);
        } else {
            next = std::mem::replace(&mut class.heads[rank], at);
            self.members[next as usize].prev = at;
        }
        let member = &mut self.members[at as usize];
        (member.bucket, member.next, member.prev) = (wanted, next, NIL);
        self.listed += 1;
        first
    }

    /// Says whether it was the last of its bucket.
    fn unlist(&mut self, at: u32) -> bool {
        let Member { class, next, prev, bucket, .. } = self.members[at as usize];
        if bucket == UNLISTED {
            return false;
        }
        let last = next == NIL && prev == NIL;
        if next != NIL {
            self.members[next as usize].prev = prev;
        }
        if prev != NIL {
            self.members[prev as usize].next = next;
        } else {
            let class = &mut self.classes[class as usize];
            let rank = rank(&class.mask, bucket);
            if next != NIL {
                class.heads[rank] = next;
            } else {
                class.heads.remove(rank);
                class.mask[usize::from(bucket / 64)] &= !(1 << (bucket % 64));
            }
        }
        self.members[at as usize].bucket = UNLISTED;
        self.listed -= 1;
        last
    }

    /// Has the region of a class know which buckets of it have members.
    fn note(&mut self, class: u32) {
        let class = &self.classes[class as usize];
        self.regions[class.terms.region.0 as usize].changed(class);
    }

    /// The effective price of one host by one class, as the search counts it; `extra` is what distance and its judge say.
    pub fn effective(
        &self,
        (host, class): (HostId, ClassId),
        need: &Amount,
        weighing: Weighing,
        extra: u32,
        now: u64,
        total: &Amount,
    ) -> u64 {
        let terms = &self.classes[class.0 as usize].terms;
        let known = &self.hosts[host.0 as usize];
        let mut at = known.first;
        let mut age = 0;
        while at != NIL {
            let member = &self.members[at as usize];
            if member.class == class.0 {
                age = self::age(now, member.from, member.until);
            }
            at = member.sibling;
        }
        let misfit = known.room.misfit(need, total.cpu, total.memory);
        let own = (age * weighing.posture + misfit * weighing.fit) / 100;
        let posture = u64::from(terms.posture) * weighing.posture / 100;
        effective(terms, need, weighing.cost, u64::from(extra) + posture + own)
    }

    /// The best of those that have room and that `judge` admits, or one that is little worse.
    pub fn best(&self, query: &Query<'_>, judge: &mut impl Judge) -> Option<Found> {
        let second = memory_level(query.need.memory);
        let mut search = Search {
            index: self,
            query,
            cpu: cpu_level(query.need.cpu),
            second: [second, gpu_need(query.need.gpus)],
            narrow: [Narrow::default(); WIDTHS[0]],
            few: 0,
            wide: Vec::new(),
            best: None,
            skipped: false,
            thorough: false,
        };
        for width in WIDTHS {
            if search.run(width, judge) {
                return search.best;
            }
        }
        if search.skipped {
            // Somebody may have been passed over among many that had too little.
            search.thorough = true;
            search.run(usize::MAX, judge);
        }
        search.best
    }
}

impl Region {
    /// Notes what the mask of a class says now.
    fn changed(&mut self, class: &Class) {
        let (row, after) = (class.row as usize, class.stairs());
        let before = std::mem::replace(&mut self.stairs[row], after);
        self.open = (self.open + u32::from(after[0] > 0)) - u32::from(before[0] > 0);
        for (level, (before, after)) in before.into_iter().zip(after).enumerate() {
            let (least, most) = (usize::from(before.min(after)), usize::from(before.max(after)));
            self.fits.flip(row, level * LEVELS + least..level * LEVELS + most);
        }
    }

    /// A row whose class has no members yet.
    fn insert(&mut self, at: usize, row: Row) {
        self.rows.insert(at, row);
        self.stairs.insert(at, [0; LEVELS]);
        self.fits.insert(at, self.rows.len());
        self.gpus.insert(at, self.rows.len());
        if row.gpus {
            self.gpus.flip(at, 0..1);
        }
    }

    /// Drops a row whose class has no members left.
    fn remove(&mut self, at: usize) {
        self.rows.remove(at);
        self.stairs.remove(at);
        self.fits.remove(at, self.rows.len());
        self.gpus.remove(at, self.rows.len());
    }

    /// Which of 64 rows have a member with so much: a level of compute, and of the second dimension without and with accelerators.
    fn fitting(&self, word: usize, cpu: usize, second: [usize; 2]) -> u64 {
        let at = |second: usize| self.fits.word(word, cpu * LEVELS + second);
        let gpus = self.gpus.word(word, 0);
        at(second[0]) & !gpus | at(second[1]) & gpus
    }
}

/// How many buckets with members come before `bucket`.
fn rank(mask: &[u64; WORDS], bucket: u16) -> usize {
    let (word, below) = (usize::from(bucket / 64), (1_u64 << (bucket % 64)) - 1);
    let before: u32 = mask.iter().take(word).map(|w| w.count_ones()).sum();
    (before + (mask[word] & below).count_ones()) as usize
}

/// What the age of a proof costs, in thousandths of the price: up to 50 at the end of its life.
pub(crate) fn age(now: u64, from: u64, until: u64) -> u64 {
    now.saturating_sub(from) * 50 / until.saturating_sub(from).max(1)
}

/// The parts of an effective price that are one enclave's own, for explanations: age and fit, in thousandths, before weights.
pub(crate) fn own_parts(room: &Room, need: &Amount, total: &Amount, now: u64, (from, until): (u64, u64)) -> (u64, u64) {
    (age(now, from, until), room.misfit(need, total.cpu, total.memory))
}

/// The effective price of somebody, as the search counts it.
pub(crate) fn effective(terms: &Terms, need: &Amount, cost: bool, thousandths: u64) -> u64 {
    let base = if cost { price(terms.core_hour, terms.gib_hour, need) } else { 1000 };
    dearer(base, thousandths)
}

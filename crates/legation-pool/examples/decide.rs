//! How fast a decision is: the class index beside a full scan and random sampling, over pools of a thousand to a million.
//!
//! `cargo run --release -p legation-pool --example decide [SIZES..]` prints one JSON object a line. Enclaves differ by region (32, with
//! round trips of 5 to 250 ms), kind of machine (4), trust (4), tags (4), price (16 levels) and size (7 x 3); requests by what
//! they need, the kinds and tags they admit, least trust, origin, and longest round trip. Each pool is filled with two
//! allocations for each enclave first. Regret is how much dearer the choice is than the best that the full scan finds.

use std::{collections::BTreeMap, time::Instant};

use legation_pool::index::{
    Amount, ClassId, Found, HostId, Index, Judge, Query, RegionId, Room, TOO_FAR, Terms, Weighing,
};

const REGIONS: usize = 32;
const KINDS: u64 = 4;
const TRUST: u64 = 4;
const TAGS: u64 = 4;
const PRICES: u64 = 16;
const WEIGHING: Weighing = Weighing { cost: true, posture: 100, fit: 100 };
const NOW: u64 = 1_000;
/// Requests that come to a pool that is full already.
const CHURN: usize = 200_000;

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// What a class is beside its price.
#[derive(Clone, Copy)]
struct Tags {
    kind: u64,
    trust: u64,
    tag: u64,
}

struct World {
    index: Index,
    classes: Vec<Tags>,
    terms: Vec<Terms>,
    /// The class of each host, and what it has in all.
    hosts: Vec<(u32, Amount)>,
    screens: BTreeMap<u64, Vec<Vec<u64>>>,
    ms: Vec<Vec<u32>>,
    order: Vec<Vec<RegionId>>,
}

#[derive(Clone)]
struct Request {
    need: Amount,
    kinds: u64,
    tags: u64,
    trust: u64,
    origin: usize,
    distances: Vec<u32>,
}

struct Admits<'a> {
    classes: &'a [Tags],
    request: &'a Request,
    /// Rows known to be refused, for each region: what a pool remembers of each shape of work.
    refused: &'a mut Vec<Vec<u64>>,
}

impl Admits<'_> {
    fn admits(classes: &[Tags], request: &Request, class: ClassId) -> bool {
        let tags = classes[class.0 as usize];
        let Request { kinds, tags: wanted, trust, .. } = request;
        kinds >> tags.kind & 1 == 1 && wanted >> tags.tag & 1 == 1 && tags.trust >= *trust
    }
}

impl Judge for Admits<'_> {
    fn screen(&self, region: RegionId, word: usize) -> u64 {
        !self.refused[region.0 as usize].get(word).copied().unwrap_or(0)
    }

    fn class(&mut self, class: ClassId, region: RegionId, row: usize) -> Option<u32> {
        if Self::admits(self.classes, self.request, class) {
            return Some(0);
        }
        let words = &mut self.refused[region.0 as usize];
        words.resize(words.len().max(row / 64 + 1), 0);
        words[row / 64] |= 1 << (row % 64);
        None
    }

    fn host(&mut self, _: HostId) -> Option<u32> {
        Some(0)
    }
}

impl World {
    fn new(hosts: usize, dice: &mut Dice) -> Self {
        let mut ms = vec![vec![1_u32; REGIONS]; REGIONS];
        let pairs = (0..REGIONS).flat_map(|from| (0..from).map(move |to| (from, to)));
        for (from, to) in pairs {
            let trip = 5 + dice.below(245) as u32;
            (ms[from][to], ms[to][from]) = (trip, trip);
        }
        let order = (0..REGIONS).map(|from| {
            let mut order: Vec<_> = (0..REGIONS).collect();
            order.sort_by_key(|to| ms[from][*to]);
            order.into_iter().map(|to| RegionId(to as u32)).collect()
        });
        let order = order.collect();
        let mut index = Index::new();
        let (mut classes, mut all) = (Vec::new(), Vec::new());
        for _ in 0..REGIONS {
            index.add_region();
        }
        for region in 0..REGIONS as u32 {
            for kind in 0..KINDS {
                for trust in 0..TRUST {
                    for tag in 0..TAGS {
                        for price in 0..PRICES {
                            let core_hour = 5_000 + 5_000 * price;
                            let terms = Terms {
                                region: RegionId(region),
                                core_hour,
                                gib_hour: core_hour / 8,
                                posture: 50 * (TRUST - 1 - trust) as u32,
                                gpus: false,
                            };
                            index.add_class(terms);
                            classes.push(Tags { kind, trust, tag });
                            all.push(terms);
                        }
                    }
                }
            }
        }
        let mut world = Self { index, classes, terms: all, hosts: Vec::new(), screens: BTreeMap::new(), ms, order };
        for _ in 0..hosts {
            let cpu = dice.of(&[2, 4, 8, 16, 32, 64, 96]) * 1000;
            let total = Amount { cpu, memory: (cpu / 1000 * dice.of(&[2, 4, 8]) / 4 + 1) << 30, gpus: 0 };
            let class = dice.below(world.classes.len() as u64) as u32;
            let host = world.index.add_host(total);
            world.index.join(host, ClassId(class), NOW - dice.below(300), NOW + 300);
            world.hosts.push((class, total));
            let room = Room { cpu: total.cpu, memory: total.memory, slots: 256, share: 0, whole: 0 };
            world.index.set_room(host, room, true);
        }
        world
    }

    fn request(&self, dice: &mut Dice) -> Request {
        let cpu = dice.of(&[1, 1, 2, 2, 4, 8, 16]) * 1000;
        let memory = (cpu / 1000 * dice.of(&[1, 2, 4, 8]) / 4).max(1) << 30;
        let origin = dice.below(REGIONS as u64) as usize;
        let within = dice.of(&[30, 100, 300]);
        let distances = self.ms[origin].iter().map(|ms| if *ms > within { TOO_FAR } else { *ms }).collect();
        Request {
            need: Amount { cpu, memory, gpus: 0 },
            kinds: dice.of(&[0b1111, 0b0110, 0b0010, 0b1000]),
            tags: dice.of(&[0b1111, 0b0011, 0b0100]),
            trust: dice.below(TRUST),
            origin,
            distances,
        }
    }

    fn best(&mut self, request: &Request) -> Option<Found> {
        let shape = request.kinds << 16 | request.tags << 8 | request.trust;
        let refused = self.screens.entry(shape).or_insert_with(|| vec![Vec::new(); REGIONS]);
        let query = Query {
            need: request.need,
            weighing: WEIGHING,
            distances: &request.distances,
            order: &self.order[request.origin],
            now: NOW,
        };
        self.index.best(&query, &mut Admits { classes: &self.classes, request, refused })
    }

    /// Effective price of one host, if it could take the request.
    fn standing(&self, host: usize, request: &Request) -> Option<u64> {
        let (class, total) = self.hosts[host];
        let terms = self.terms[class as usize];
        let distance = request.distances[terms.region.0 as usize];
        let room = self.index.room(HostId(host as u32));
        if distance == TOO_FAR || !room.fits(&request.need) {
            return None;
        }
        if !Admits::admits(&self.classes, request, ClassId(class)) {
            return None;
        }
        Some(self.index.effective(
            (HostId(host as u32), ClassId(class)),
            &request.need,
            WEIGHING,
            distance,
            NOW,
            &total,
        ))
    }

    fn scan(&self, request: &Request) -> Option<u64> {
        (0..self.hosts.len()).filter_map(|host| self.standing(host, request)).min()
    }

    /// The best of `wanted` among at most `probes` taken at random.
    fn sample(&self, request: &Request, wanted: usize, probes: usize, dice: &mut Dice) -> Option<u64> {
        let picks = (0..probes).map(|_| dice.below(self.hosts.len() as u64) as usize);
        picks.filter_map(|host| self.standing(host, request)).take(wanted).min()
    }

    fn take(&mut self, found: Found, need: &Amount) {
        let mut room = self.index.room(found.host);
        room.cpu -= need.cpu;
        room.memory -= need.memory;
        room.slots -= 1;
        self.index.set_room(found.host, room, true);
    }

    fn give_back(&mut self, host: HostId, need: &Amount) {
        let mut room = self.index.room(host);
        room.cpu += need.cpu;
        room.memory += need.memory;
        room.slots += 1;
        self.index.set_room(host, room, true);
    }
}

struct Quality {
    regret_percent: f64,
    missed: usize,
}

fn quality(found: &[Option<u64>], best: &[Option<u64>]) -> Quality {
    let (mut sum, mut count, mut missed) = (0.0, 0, 0);
    for pair in found.iter().zip(best) {
        match pair {
            (Some(found), Some(best)) => {
                sum += *found as f64 / *best as f64 - 1.0;
                count += 1;
            }
            (None, Some(_)) => missed += 1,
            _ => {}
        }
    }
    Quality { regret_percent: 100.0 * sum / f64::from(count.max(1)), missed }
}

/// Time of this thread on a processor, so that neighbours do not count; on the clock where the system does not say.
struct Stopwatch(Option<u64>, Instant);

impl Stopwatch {
    fn cpu() -> Option<u64> {
        std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
    }

    fn start() -> Self {
        Self(Self::cpu(), Instant::now())
    }

    fn nanos(&self, count: usize) -> f64 {
        let spent = self.0.zip(Self::cpu()).map(|(from, to)| to.saturating_sub(from) as f64);
        spent.unwrap_or_else(|| self.1.elapsed().as_secs_f64() * 1e9) / count as f64
    }
}

fn measure(hosts: usize) {
    let dice = &mut Dice(0x9e37_79b9_7f4a_7c15);
    let mut world = World::new(hosts, dice);
    let mut live = Vec::new();
    for _ in 0..2 * hosts {
        let request = world.request(dice);
        if let Some(found) = world.best(&request) {
            world.take(found, &request.need);
            live.push((found.host, request.need));
        }
    }
    let questions = (60_000_000 / hosts).clamp(60, 2_000);
    let requests: Vec<_> = (0..questions).map(|_| world.request(dice)).collect();
    let watch = Stopwatch::start();
    let best: Vec<_> = requests.iter().map(|r| world.scan(r)).collect();
    let scan_ns = watch.nanos(questions);
    let watch = Stopwatch::start();
    let sampled: Vec<_> = requests.iter().map(|r| world.sample(r, 8, 256, dice)).collect();
    let sample_ns = watch.nanos(questions);
    let found: Vec<_> = requests.iter().map(|r| world.best(r).map(|f| f.effective)).collect();
    let rounds = (300_000 / questions).max(1);
    let watch = Stopwatch::start();
    for _ in 0..rounds {
        for request in &requests {
            std::hint::black_box(world.best(request));
        }
    }
    let find_ns = watch.nanos(rounds * questions);
    let (decide_and_lease_ns, release_ns, waits) = churn(&mut world, &mut live, dice);
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    let (index, random) = (quality(&found, &best), quality(&sampled, &best));
    println!(
        "{{\"enclaves\":{hosts},\"feasible\":{},\"asked\":{questions},\"scan_ns\":{scan_ns:.0},\"sample8_ns\":{sample_ns:.0},\
         \"sample8_regret_percent\":{:.2},\"sample8_missed\":{},\"index_ns\":{find_ns:.0},\"index_regret_percent\":{:.2},\
         \"index_missed\":{},\"decide_and_lease_ns\":{:.0},\"p50_ns\":{:.0},\"p99_ns\":{:.0},\"release_ns\":{:.0},\"refused\":{}}}",
        best.iter().flatten().count(),
        random.regret_percent,
        random.missed,
        index.regret_percent,
        index.missed,
        decide_and_lease_ns,
        at(0.5),
        at(0.99),
        release_ns,
        CHURN - waits.len(),
    );
}

/// Requests that come to a full pool, in rounds of leasing and of giving back others: CPU of one decision with its lease and
/// of one release, and the clock's word on each decision, ascending.
fn churn(world: &mut World, live: &mut Vec<(HostId, Amount)>, dice: &mut Dice) -> (f64, f64, Vec<f64>) {
    let (mut leasing, mut returning, mut waits) = (0.0, 0.0, Vec::with_capacity(CHURN));
    let rounds = 20;
    for _ in 0..rounds {
        let requests: Vec<_> = (0..CHURN / rounds).map(|_| world.request(dice)).collect();
        let mut leased = 0;
        let watch = Stopwatch::start();
        for request in &requests {
            let began = Instant::now();
            if let Some(found) = world.best(request) {
                world.take(found, &request.need);
                waits.push(began.elapsed().as_nanos() as f64);
                live.push((found.host, request.need));
                leased += 1;
            }
        }
        leasing += watch.nanos(1);
        let ends: Vec<_> = (0..leased).map(|_| live.swap_remove(dice.below(live.len() as u64) as usize)).collect();
        let watch = Stopwatch::start();
        for (host, need) in ends {
            world.give_back(host, &need);
        }
        returning += watch.nanos(1);
    }
    waits.sort_by(f64::total_cmp);
    (leasing / CHURN as f64, returning / waits.len().max(1) as f64, waits)
}

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|size| size.parse().ok()).collect();
    for hosts in if sizes.is_empty() { vec![1_000, 10_000, 100_000, 1_000_000] } else { sizes } {
        measure(hosts);
    }
}

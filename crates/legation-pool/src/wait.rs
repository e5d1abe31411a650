//! How long what waits will wait: a bound, and what is expected.
//!
//! The bound counts volume. While a fragment waits, none of the enclaves that could take it has room for it; so on each of them stands
//! work of at least so much *mass* that one more does not fit. What can stand there is what is leased there now, to its end, and what
//! may go first, for its whole time. All of that, divided by how many enclaves are blocked, is the longest wait. It may go first:
//! 1. everything in a higher band, and what is older in the same flow;
//! 2. of another flow of the same band, what its weight lets it have before this one's turn, and one more;
//! 3. whatever is smaller in some dimension, at any time: it may fit where this does not.
//!
//! It holds while leases end in their time, nothing that waits is tried again, and nobody arrives who may go first. Any few of the
//! enclaves give a bound, so at most [`LEASES_WALKED_MAX`] leases are walked over in all, on the enclaves where one ends first; beside
//! them, one entry for each line of the queue, once for what asks for the same. Where more than [`LINES_MAX`] lines wait, or on the
//! enclave where one ends first stand more leases than that, nothing is told. Answers are kept until the next record. What is expected counts the same with the time that modules took before, for the tenants that ran them, and
//! without what might slip by.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Mutex, PoisonError},
};

use legation_core::{
    FragmentId, FragmentIndex, LeaseId, Seq, TaskId, UnixTime, claims::Capacity, prefer::Priority, task::Demand,
};
use serde::{Deserialize, Serialize};

use crate::{
    enclave::{Enclave, Leaving},
    estimate::Wait,
    fair::{Cost, Flow, Line, Spot, Tag},
    pool::Pool,
    queue::{Class, flow_of},
    task::{Phase, Task, TaskState},
    wanted::{Refusal, Wanted},
};

/// Leases that are gone through for one answer, those that end first, to find enclaves.
const LEASES_LOOKED_AT: usize = 256;
/// Leases on those enclaves that are walked over, in all; an enclave alone counts as one more.
const LEASES_WALKED_MAX: usize = 512;
/// Lines of the queue beyond which no waits are told.
const LINES_MAX: usize = 2_000;
/// Fragments of a task whose waits are told.
pub(crate) const WAITS_TOLD_MAX: usize = 4;
/// Tasks whose waits are remembered.
const TASKS_REMEMBERED: usize = 4_096;
/// Seconds that the end of a lease may be noticed late: it ends after its last second, at the next tick.
const LATE: u64 = 2;
/// Longest that a client is asked to wait before it tries again, in seconds.
const RETRY_MAX: u64 = 300;
/// A mass that blocks an enclave.
const FULL: u128 = 1_000_000;

/// How fragments of tasks stand, as of a record: derived, so never compared and never copied.
#[derive(Default)]
pub(crate) struct Told(Mutex<(Seq, BTreeMap<TaskId, Waits>)>);

/// How the first few of a task that wait stand.
pub(crate) type Waits = BTreeMap<FragmentIndex, Waiting>;

impl Clone for Told {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Told {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

/// How a fragment stands in the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Waiting {
    /// How many go before it, as things are now.
    pub ahead: u64,
    /// How long it waits, as far as that is known: not where no lease that ends makes room for it.
    pub wait: Option<Wait>,
}

/// What stands in the way on the enclaves that were looked at.
#[derive(Default)]
struct Field {
    enclaves: u64,
    /// Leases on enclaves that were looked at, whether or not they could take it.
    looked: usize,
    /// Mass times seconds at most, of what is leased there.
    volume: u128,
    /// What of it is expected.
    usual: Amounts,
    /// What all of them offer.
    all: Amounts,
    /// The smallest of them, for masses of what may come.
    least: Option<Gap>,
    /// The first room there, if nobody else came.
    first: Option<Wait>,
}

/// How much more than nothing, in each dimension, blocks a fragment on an enclave.
#[derive(Clone, Copy)]
struct Gap {
    cpu: u64,
    memory: u64,
    slots: u64,
    gpus: bool,
}

impl Gap {
    /// On an enclave of this capacity; nothing where the fragment never fits.
    fn of(all: Capacity, demand: &Demand) -> Option<Self> {
        let cpu = all.cpu.0.checked_sub(demand.cpu.0)?.saturating_add(1);
        let memory = all.memory.0.checked_sub(demand.memory.0)?.saturating_add(1);
        Some(Self { cpu, memory, slots: u64::from(all.slots).max(1), gpus: demand.gpus.0 > 0 })
    }

    fn least(self, other: Self) -> Self {
        let Self { cpu, memory, slots, gpus } = self;
        Self { cpu: cpu.min(other.cpu), memory: memory.min(other.memory), slots: slots.min(other.slots), gpus }
    }

    /// What work of this demand adds to what blocks. Where the sum is less than [`FULL`], nothing is blocked.
    fn mass(&self, demand: &Demand) -> u128 {
        if self.gpus && demand.gpus.0 > 0 {
            return FULL;
        }
        let part = |part: u64, whole: u64| (u128::from(part) * FULL).div_ceil(u128::from(whole.max(1)));
        let parts = [part(demand.cpu.0, self.cpu), part(demand.memory.0, self.memory), part(1, self.slots)];
        parts.into_iter().max().unwrap_or(FULL).min(FULL)
    }
}

/// Compute, memory and slots; or so much of each for so many seconds.
#[derive(Clone, Copy, Default)]
struct Amounts([u128; 3]);

impl Amounts {
    fn of(demand: &Demand) -> Self {
        Self([u128::from(demand.cpu.0), u128::from(demand.memory.0), 1])
    }

    fn offered(all: Capacity) -> Self {
        Self([u128::from(all.cpu.0), u128::from(all.memory.0), u128::from(all.slots)])
    }

    fn times(self, n: u128) -> Self {
        Self(self.0.map(|one| one.saturating_mul(n)))
    }

    fn plus(self, other: Self) -> Self {
        let [a, b, c] = self.0;
        let [x, y, z] = other.0;
        Self([a.saturating_add(x), b.saturating_add(y), c.saturating_add(z)])
    }

    /// How often `all` goes into the scarcest dimension of this.
    fn over(self, all: Self) -> u64 {
        let parts = self.0.into_iter().zip(all.0).map(|(part, all)| part / all.max(1));
        u64::try_from(parts.max().unwrap_or(0)).unwrap_or(u64::MAX)
    }
}

/// What waits are reckoned from: the same for all that ask for the same.
struct Around {
    demand: Demand,
    field: Field,
    gap: Gap,
    others: Vec<Other>,
}

/// Another flow.
struct Other {
    band: Reverse<Priority>,
    tag: Tag,
    weight: u32,
    parts: Vec<Part>,
}

/// What may go before a fragment.
#[derive(Default)]
struct Before {
    count: u64,
    volume: u128,
    usual: Amounts,
}

/// What of a line may go before.
struct Part {
    count: u64,
    cost: Cost,
    volume: u128,
    usual: Amounts,
    /// It may slip by at any time.
    smaller: bool,
}

impl Pool {
    /// In how many seconds a lease that runs now ends at the latest: when it is worth trying again.
    pub fn retry_after(&self, now: UnixTime) -> u64 {
        self.ends.first().map_or(1, |(until, _)| until.since(now)).clamp(1, RETRY_MAX)
    }

    /// How the first few fragments of a task stand that wait for an enclave, as of the last record.
    pub(crate) fn waits(&self, id: TaskId, task: &Task) -> Waits {
        let mut told = self.told.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.0 != self.seq || told.1.len() >= TASKS_REMEMBERED {
            *told = (self.seq, BTreeMap::new());
        }
        told.1.entry(id).or_insert_with(|| self.reckon(id, task)).clone()
    }

    fn reckon(&self, id: TaskId, task: &Task) -> Waits {
        let mut waits = Waits::new();
        if task.state != TaskState::Live {
            return waits;
        }
        let mut known: BTreeMap<Class, Option<Around>> = BTreeMap::new();
        let all = (0..).map(FragmentIndex).zip(&task.fragments).filter(|(_, state)| state.phase == Phase::Queued);
        if let Some(booking) = self.booked_for(id) {
            // Its seats are there by then, unless one of these enclaves leaves or more urgent work comes.
            let seconds = booking.at.since(self.at);
            let wait = Some(Wait { seconds_max: seconds, seconds_expected: seconds });
            return all.take(WAITS_TOLD_MAX).map(|(index, _)| (index, Waiting { ahead: 0, wait })).collect();
        }
        for (index, state) in all.take(WAITS_TOLD_MAX) {
            let name = FragmentId { task: id, index };
            let Some((class, age)) = self.queue.place(name) else { continue };
            // Where it was tried, it is not placed again: those that were not are alike.
            let alone = (!state.attempts.is_empty()).then(|| self.around(task, index, self.at));
            let around = match &alone {
                Some(alone) => alone,
                None => known.entry(class).or_insert_with(|| self.around(task, index, self.at)),
            };
            waits.extend(around.as_ref().map(|around| (index, self.stands(task, around, (Some((age, name)), &[])))));
        }
        waits
    }

    /// How a fragment would stand that waits from now on, behind others like `also` of its own task.
    pub(crate) fn waiting(&self, task: &Task, index: FragmentIndex, also: &[Demand], now: UnixTime) -> Option<Waiting> {
        Some(self.stands(task, &self.around(task, index, now)?, (None, also)))
    }

    fn stands(&self, task: &Task, around: &Around, of: (Option<Spot>, &[Demand])) -> Waiting {
        let before = self.before(task, around, of);
        Waiting { ahead: before.count, wait: self.wait(&around.field, &before) }
    }

    fn around(&self, task: &Task, index: FragmentIndex, now: UnixTime) -> Option<Around> {
        if self.queue.lines() > LINES_MAX {
            return None;
        }
        let demand = task.request.fragment(index)?.demand;
        let field = self.field(task, index, now);
        let gap =
            field.least.or_else(|| Gap::of(Capacity { cpu: demand.cpu, memory: demand.memory, slots: 1 }, &demand))?;
        let own = flow_of(&task.request);
        let flows =
            self.queue.bands.iter().flat_map(|(band, b)| b.flows.iter().map(|(tenant, flow)| (*band, tenant, flow)));
        let others =
            flows.filter(|(band, tenant, _)| (*band, *tenant) != (own.0, &own.1)).map(|(band, tenant, flow)| {
                let weight = self.accounts.of(tenant).terms.weight;
                Other { band, tag: flow.tag, weight, parts: self.parts(flow, &demand, &gap) }
            });
        Some(Around { demand, gap, others: others.collect(), field })
    }

    fn wait(&self, field: &Field, before: &Before) -> Option<Wait> {
        let first = field.first?;
        if self.queue.len() <= 1 && before.volume == 0 {
            return Some(first);
        }
        let blocked = FULL * u128::from(field.enclaves.max(1));
        let most = field.volume.saturating_add(before.volume).div_ceil(blocked);
        let seconds_max = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
        // Those that were not looked at are as those that were.
        let share = ((self.leases.len() as u64).max(1) / (field.looked as u64).max(1)).max(1);
        let (usual, all) = (field.usual.times(share.into()), field.all.times(share.into()));
        let expected = match before.count {
            0 => first.seconds_expected,
            _ => usual.plus(before.usual).over(all).max(first.seconds_expected),
        };
        Some(Wait { seconds_max, seconds_expected: expected.min(seconds_max) })
    }

    /// The enclaves that could take a fragment and have no room for it, as far as leases on them are among those that end first.
    fn field(&self, task: &Task, index: FragmentIndex, now: UnixTime) -> Field {
        let mut field = Field::default();
        let Some(mut wanted) = Wanted::new(self, task, index, now) else { return field };
        let demand = wanted.fragment.demand;
        let mut seen = BTreeSet::new();
        let mut left = LEASES_WALKED_MAX;
        for (_, lease) in self.ends.iter().take(LEASES_LOOKED_AT) {
            let Some(id) = self.leases.get(lease).map(|l| l.enclave) else { continue };
            let Some(enclave) = self.enclaves.get(&id).filter(|_| seen.insert(id)) else { continue };
            let walks = enclave.leases().len().saturating_add(1);
            let Some(rest) = left.checked_sub(walks) else { break };
            left = rest;
            field.looked = field.looked.saturating_add(enclave.leases().len());
            if !matches!(wanted.judge(id, enclave), Err(Refusal::Capacity)) {
                continue;
            }
            // What leases leave there may be reserved.
            if self.is_reserved_in(id, (now, now.plus(self.lease_seconds(&demand)))) {
                continue;
            }
            let Some(gap) = Gap::of(enclave.capacity(), &demand).filter(|_| demand.gpus.0 <= enclave.total().gpus)
            else {
                continue;
            };
            let Some((volume, usual, first)) = self.blocking(enclave, &gap, &demand, now) else { continue };
            field.enclaves += 1;
            field.volume = field.volume.saturating_add(volume);
            field.usual = field.usual.plus(usual);
            field.all = field.all.plus(Amounts::offered(enclave.capacity()));
            field.least = Some(field.least.map_or(gap, |least| least.least(gap)));
            field.first = field.first.into_iter().chain([first]).min_by_key(|w| (w.seconds_expected, w.seconds_max));
        }
        field
    }

    /// What stands on an enclave, and when it leaves room for a demand if nobody else comes: leases end one after the other.
    fn blocking(&self, enclave: &Enclave, gap: &Gap, demand: &Demand, now: UnixTime) -> Option<(u128, Amounts, Wait)> {
        let mut ends = Vec::new();
        let (mut volume, mut usual) = (0_u128, Amounts::default());
        for id in enclave.leases() {
            // What a question holds there ends when nobody knows.
            let (expected, until) = self.ends_at(*id, now)?;
            let set_aside = self.set_aside(*id)?;
            let most = u128::from(until.since(now).saturating_add(LATE));
            volume = volume.saturating_add(gap.mass(&set_aside).saturating_mul(most));
            usual = usual.plus(Amounts::of(&set_aside).times(expected.since(now).into()));
            ends.push((expected, until, *id));
        }
        ends.sort_unstable();
        let (mut rest, mut latest) = (Leaving::new(enclave, demand), now);
        for (expected, until, id) in ends {
            latest = latest.max(until);
            rest.leaves(id, &self.set_aside(id)?);
            if rest.fits(demand) {
                return Some((
                    volume,
                    usual,
                    Wait { seconds_max: latest.since(now), seconds_expected: expected.since(now) },
                ));
            }
        }
        None
    }

    /// When a lease ends: as modules ran before, and at the latest.
    fn ends_at(&self, id: LeaseId, now: UnixTime) -> Option<(UnixTime, UnixTime)> {
        if let Some((_, seat, _)) = self.seat_holds(id) {
            let until = seat.until.max(now);
            return Some((until, until));
        }
        if let Some((_, loan)) = self.loan(id) {
            let until = loan.until().max(now);
            return Some((until, until));
        }
        let lease = self.leases.get(&id)?;
        let task = self.tasks.get(&lease.fragment.task)?;
        let module = task.request.fragment(lease.fragment.index)?.module;
        let mean = self.history.of(&task.request.tenant, module).and_then(|past| past.mean_micros());
        let expected = mean.map_or(lease.until, |micros| lease.from.plus(micros.div_ceil(1_000_000)));
        let until = lease.deadline().min(lease.until).max(now);
        Some((expected.max(now).min(until), until))
    }

    /// How long a lease for this demand lasts at most, from when it is given, in seconds.
    pub(crate) fn lease_seconds(&self, demand: &Demand) -> u64 {
        let extra = self.limits.grant_seconds.saturating_add(self.limits.lease_margin_seconds);
        demand.time.seconds_up().saturating_add(extra)
    }

    /// The same of a seat of a swarm: whoever joins in time has all of the time that is asked for.
    pub(crate) fn seat_seconds(&self, demand: &Demand) -> u64 {
        self.lease_seconds(demand).saturating_add(self.limits.join_seconds)
    }

    fn part(&self, line: &Line, count: u64, demand: &Demand, gap: &Gap) -> Part {
        let cost = self.classes.offered().cost(&line.demand);
        let most = self.lease_seconds(&line.demand).saturating_add(LATE);
        let known = line.spots.first().and_then(|(_, fragment)| {
            let request = &self.tasks.get(&fragment.task)?.request;
            self.history.of(&request.tenant, request.fragment(fragment.index)?.module)?.mean_micros()
        });
        let expected = known.map_or(line.demand.time.seconds_up(), |micros| micros.div_ceil(1_000_000)).min(most);
        let d = &line.demand;
        Part {
            count,
            cost: Cost(cost.0.saturating_mul(u128::from(count))),
            volume: gap.mass(d).saturating_mul(u128::from(count)).saturating_mul(u128::from(most)),
            usual: Amounts::of(d).times(u128::from(count).saturating_mul(u128::from(expected))),
            smaller: d.cpu < demand.cpu || d.memory < demand.memory || d.gpus < demand.gpus,
        }
    }

    fn before(&self, task: &Task, around: &Around, (spot, also): (Option<Spot>, &[Demand])) -> Before {
        let own = flow_of(&task.request);
        let weight = self.accounts.of(&own.1).terms.weight;
        let Around { demand, gap, .. } = around;
        let mut before = Before::default();
        // Its own flow first: it says when its turn is.
        let (mut ahead, mut slips) = (Cost::default(), Cost::default());
        for line in self.queue.flow(&own).into_iter().flat_map(|flow| flow.lines.values()) {
            let older = spot.map_or(line.spots.len(), |spot| line.spots.range(..spot).count()) as u64;
            let younger = (line.spots.len() as u64).saturating_sub(older);
            let part = self.part(line, older, demand, gap);
            ahead.0 = ahead.0.saturating_add(part.cost.0);
            before.add(&part);
            let part = self.part(line, younger, demand, gap);
            if part.smaller {
                slips.0 = slips.0.saturating_add(part.cost.0);
                before.slip(&part);
            }
        }
        for demand in also {
            let line = Line { spots: BTreeSet::new(), demand: *demand };
            let part = self.part(&line, 1, demand, gap);
            ahead.0 = ahead.0.saturating_add(part.cost.0);
            before.add(&part);
        }
        let begins = self.queue.begins(&own);
        let turn = begins.after(ahead, weight);
        let latest = turn.after(slips, weight);
        for Other { band, tag, weight, parts } in &around.others {
            if *band < own.0 {
                parts.iter().for_each(|part| before.add(part));
            } else {
                let slips = parts.iter().filter(|part| part.smaller);
                slips.for_each(|part| before.slip(part));
            }
            if *band == own.0 {
                let most = latest.cost_from(*tag, *weight);
                let usual = turn.cost_from(*tag, *weight);
                before.share(parts, *tag <= latest, most, usual);
            }
        }
        before
    }

    fn parts(&self, flow: &Flow, demand: &Demand, gap: &Gap) -> Vec<Part> {
        flow.lines.values().map(|line| self.part(line, line.spots.len() as u64, demand, gap)).collect()
    }
}

impl Before {
    fn add(&mut self, part: &Part) {
        self.count = self.count.saturating_add(part.count);
        self.volume = self.volume.saturating_add(part.volume);
        self.usual = self.usual.plus(part.usual);
    }

    /// It may go first, and is not expected to.
    fn slip(&mut self, part: &Part) {
        self.volume = self.volume.saturating_add(part.volume);
    }

    /// What another flow of the band has before this one's turn: leases of so much cost, and one more.
    fn share(&mut self, parts: &[Part], begins: bool, most: Cost, usual: Cost) {
        if !begins {
            return;
        }
        let all = |of: &dyn Fn(&Part) -> u128| parts.iter().map(of).fold(0_u128, u128::saturating_add);
        let (count, cost) = (all(&|p| u128::from(p.count)), all(&|p| p.cost.0).max(1));
        let each = |p: &Part| u128::from(p.count.max(1));
        // Those that are no smaller: so much cost of the worst of them, and one of it more; no more than there are.
        let regular = parts.iter().filter(|p| !p.smaller && p.count > 0);
        let worst = regular.clone().map(|p| {
            let (cost, volume) = (p.cost.0.max(1) / each(p), p.volume / each(p));
            (most.0.saturating_mul(volume) / cost.max(1), volume.saturating_mul(2))
        });
        let worst = worst.fold((0, 0), |a: (u128, u128), b| (a.0.max(b.0), a.1.max(b.1)));
        let there = regular.map(|p| p.volume).fold(0, u128::saturating_add);
        self.volume = self.volume.saturating_add(worst.0.saturating_add(worst.1).min(there));
        let some = (usual.0.saturating_mul(count) / cost).saturating_add(1).min(count);
        self.count = self.count.saturating_add(u64::try_from(some).unwrap_or(u64::MAX));
        let usual = parts.iter().fold(Amounts::default(), |sum, part| sum.plus(part.usual));
        self.usual = self.usual.plus(Amounts(usual.0.map(|all| all.saturating_mul(some) / count.max(1))));
    }
}

//! Who is next when the pool is full: weighted fair queueing across tenants, in integers.
//!
//! What waits is kept in *bands*, one for each priority; in a band by tenant, its *flow*; in a flow by shape of work, a *line*, oldest
//! first. Higher bands go first. Within a band it is start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): each flow has a
//! start tag in virtual time, the smallest goes next, and a lease moves the tag of its tenant on by its cost over the tenant's weight.
//! Virtual time is the largest start tag that was served; a tenant that comes back begins there, so that nobody saves up what others
//! used meanwhile and nobody pays for having used what was free. Nor does whoever waits for what nobody can give: when a flow that
//! fell behind the clock is served, it begins at most the cost of that lease behind it.
//!
//! The cost of a fragment is its dominant share (Ghodsi et al., NSDI 2011) of what all known enclaves offer, times what it may take
//! of time: what is set aside, not what is used.
//!
//! Invariants: tags move when a lease is recorded, and at no other time, so a journal always gives the same order. Each operation
//! takes time logarithmic in what waits. For two tenants that wait all the time in one band, and whatever either waits for fits what
//! becomes free: what they were leased, over their weights, differs by at most one largest fragment of each (the paper's theorem 1).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
};

use legation_core::{FragmentId, Seq, TenantId, prefer::Priority, task::Demand};
use serde::{Deserialize, Serialize};

use crate::queue::Class;

/// A point, or a span, of virtual time: billionths of the pool, milliseconds, hundredths of a weight.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(into = "(u64, u64)", from = "(u64, u64)")]
pub(crate) struct Tag(u128);

/// What one weight is counted in: costs are divided by weights without losing much.
const FINE: u128 = 10_000;

impl From<(u64, u64)> for Tag {
    fn from((high, low): (u64, u64)) -> Self {
        Self(u128::from(high) << 64 | u128::from(low))
    }
}

impl From<Tag> for (u64, u64) {
    fn from(tag: Tag) -> Self {
        let low = u64::try_from(tag.0 & u128::from(u64::MAX)).unwrap_or(0);
        (u64::try_from(tag.0 >> 64).unwrap_or(u64::MAX), low)
    }
}

impl Tag {
    /// The tag after a lease of this cost, for a tenant of this weight.
    pub(crate) fn after(self, cost: Cost, weight: u32) -> Self {
        Self(self.0.saturating_add(cost.0.saturating_mul(FINE) / u128::from(weight.max(1))))
    }

    /// The tag by which this one is reached by a lease of this cost.
    fn before(self, cost: Cost, weight: u32) -> Self {
        Self(self.0.saturating_sub(cost.0.saturating_mul(FINE) / u128::from(weight.max(1))))
    }

    /// What a tenant of this weight is leased, at most, before its tag passes this one.
    pub(crate) fn cost_from(self, from: Self, weight: u32) -> Cost {
        Cost(self.0.saturating_sub(from.0).saturating_mul(u128::from(weight)) / FINE)
    }
}

/// What a lease takes of the pool: billionths of it, times milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Cost(pub(crate) u128);

/// What all enclaves offer together: what shares are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Offered {
    pub(crate) cpu: u128,
    pub(crate) memory: u128,
    pub(crate) gpus: u128,
    pub(crate) slots: u128,
}

impl Offered {
    /// The cost of a fragment: its dominant share times its time. At least one of each.
    pub(crate) fn cost(&self, demand: &Demand) -> Cost {
        let share = |part: u64, whole: u128| (u128::from(part) * 1_000_000_000).div_ceil(whole.max(1));
        let shares = [
            share(demand.cpu.0, self.cpu),
            share(demand.memory.0, self.memory),
            share(demand.gpus.0, self.gpus),
            share(1, self.slots),
        ];
        let dominant = shares.into_iter().max().unwrap_or(1).clamp(1, 1_000_000_000);
        Cost(dominant * u128::from(demand.time.0.max(1)))
    }
}

/// How old what waits is: what was pushed aside goes before the rest of its tenant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Age {
    pub(crate) later: bool,
    pub(crate) since: Seq,
}

/// A place in a flow.
pub(crate) type Spot = (Age, FragmentId);

/// A flow by name: the band it is in, and whose it is. In the order of bands.
pub(crate) type FlowId = (Reverse<Priority>, TenantId);

/// A flow at its place in the order of all.
pub(crate) type Turn = (Reverse<Priority>, Tag, TenantId);

/// What waits of one tenant and one shape, oldest first.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Line {
    pub(crate) spots: BTreeSet<Spot>,
    /// What each of them asks for.
    pub(crate) demand: Demand,
}

/// What waits of one tenant in one band.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Flow {
    pub(crate) tag: Tag,
    pub(crate) lines: BTreeMap<Class, Line>,
    /// The oldest of each line, oldest first.
    heads: BTreeSet<(Spot, Class)>,
}

/// Everything of one priority.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Band {
    /// Virtual time.
    clock: Tag,
    pub(crate) flows: BTreeMap<TenantId, Flow>,
    /// Flows of which something waits, in their order.
    order: BTreeSet<(Tag, TenantId)>,
    /// Flows of which nothing does, while their tags are ahead of the clock.
    idle: BTreeSet<(Tag, TenantId)>,
}

/// All that waits for an enclave.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Queue {
    pub(crate) bands: BTreeMap<Reverse<Priority>, Band>,
    places: BTreeMap<FragmentId, (Class, Age)>,
}

/// Virtual time of each band, and the tags of its flows: what of the queue is state of its own.
pub(crate) type Clocks = Vec<(Priority, Tag, Vec<(TenantId, Tag)>)>;

impl Flow {
    /// The oldest of each line, oldest first.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (Spot, Class)> + '_ {
        self.heads.iter().copied()
    }

    /// The first of them after one.
    pub(crate) fn head_after(&self, head: Option<(Spot, Class)>) -> Option<(Spot, Class)> {
        let from = head.map_or(Unbounded, Excluded);
        self.heads.range((from, Unbounded)).next().copied()
    }

    /// Puts something into its line.
    fn add(&mut self, class: Class, demand: Demand, spot: Spot) {
        let line = self.lines.entry(class).or_insert_with(|| Line { spots: BTreeSet::new(), demand });
        let before = line.spots.first().copied();
        line.spots.insert(spot);
        if before.is_none_or(|first| spot < first) {
            before.map(|first| self.heads.remove(&(first, class)));
            self.heads.insert((spot, class));
        }
    }

    /// Takes something out of its line.
    fn remove(&mut self, class: Class, spot: Spot) {
        let Some(line) = self.lines.get_mut(&class) else { return };
        line.spots.remove(&spot);
        let first = line.spots.first().copied();
        if first.is_none() {
            self.lines.remove(&class);
        }
        if self.heads.remove(&(spot, class)) {
            self.heads.extend(first.map(|first| (first, class)));
        }
    }

    /// The next of a line after `spot`.
    pub(crate) fn next(&self, class: Class, spot: Spot) -> Option<Spot> {
        self.lines.get(&class)?.spots.range((Excluded(spot), Unbounded)).next().copied()
    }
}

impl Band {
    fn leave(&mut self, tenant: &TenantId) {
        let Some(flow) = self.flows.get(tenant).filter(|flow| flow.lines.is_empty()) else { return };
        let tag = flow.tag;
        self.order.remove(&(tag, tenant.clone()));
        self.idle.insert((tag, tenant.clone()));
        self.forget_idle();
    }

    /// Whoever is idle and no longer ahead begins where the clock is, as if it were new.
    fn forget_idle(&mut self) {
        while let Some((tag, _)) = self.idle.first()
            && *tag <= self.clock
            && let Some((_, tenant)) = self.idle.pop_first()
        {
            self.flows.remove(&tenant);
        }
    }
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// How many lines there are.
    pub(crate) fn lines(&self) -> usize {
        self.bands.values().flat_map(|band| band.flows.values()).map(|flow| flow.lines.len()).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Where a fragment waits, if it does.
    pub(crate) fn place(&self, fragment: FragmentId) -> Option<(Class, Age)> {
        self.places.get(&fragment).copied()
    }

    /// All that waits, by name.
    pub(crate) fn places(&self) -> &BTreeMap<FragmentId, (Class, Age)> {
        &self.places
    }

    pub(crate) fn flow(&self, (band, tenant): &FlowId) -> Option<&Flow> {
        self.bands.get(band)?.flows.get(tenant)
    }

    /// The place of a flow in the order of all, if something of it waits.
    pub(crate) fn turn(&self, id: &FlowId) -> Option<Turn> {
        let flow = self.flow(id).filter(|flow| !flow.lines.is_empty())?;
        Some((id.0, flow.tag, id.1.clone()))
    }

    /// The flow after a place in the order of all.
    pub(crate) fn after(&self, turn: Option<&Turn>) -> Option<Turn> {
        let Some((band, tag, tenant)) = turn else { return self.first_from(Unbounded) };
        let next =
            self.bands.get(band).and_then(|b| b.order.range((Excluded((*tag, tenant.clone())), Unbounded)).next());
        match next {
            Some((tag, tenant)) => Some((*band, *tag, tenant.clone())),
            None => self.first_from(Excluded(*band)),
        }
    }

    fn first_from(&self, from: std::ops::Bound<Reverse<Priority>>) -> Option<Turn> {
        self.bands.range((from, Unbounded)).find_map(|(band, b)| {
            let (tag, tenant) = b.order.first()?;
            Some((*band, *tag, tenant.clone()))
        })
    }

    /// Where the next of a tenant begins in a band, at the latest.
    pub(crate) fn begins(&self, (band, tenant): &FlowId) -> Tag {
        let Some(band) = self.bands.get(band) else { return Tag::default() };
        match band.flows.get(tenant) {
            Some(flow) => flow.tag.max(band.clock),
            None => band.clock,
        }
    }

    /// A fragment waits from now on.
    pub(crate) fn put(&mut self, (band, tenant): FlowId, class: Class, demand: Demand, (age, fragment): Spot) {
        let band = self.bands.entry(band).or_default();
        let clock = band.clock;
        let flow = band.flows.entry(tenant.clone()).or_default();
        if flow.lines.is_empty() {
            band.idle.remove(&(flow.tag, tenant.clone()));
            flow.tag = flow.tag.max(clock);
            band.order.insert((flow.tag, tenant));
        }
        flow.add(class, demand, (age, fragment));
        self.places.insert(fragment, (class, age));
    }

    /// A fragment no longer waits; says whether it did.
    pub(crate) fn take_out(&mut self, (band, tenant): &FlowId, fragment: FragmentId) -> bool {
        let Some((class, age)) = self.places.remove(&fragment) else { return false };
        let Some(band) = self.bands.get_mut(band) else { return true };
        if let Some(flow) = band.flows.get_mut(tenant) {
            flow.remove(class, (age, fragment));
            if flow.lines.is_empty() {
                band.leave(tenant);
            }
        }
        true
    }

    /// A fragment that waits is leased an enclave: its tenant is served, and virtual time goes on.
    pub(crate) fn serve(&mut self, id: &FlowId, fragment: FragmentId, cost: Cost, weight: u32) {
        if let Some(band) = self.bands.get_mut(&id.0)
            && let Some(flow) = band.flows.get_mut(&id.1)
        {
            band.order.remove(&(flow.tag, id.1.clone()));
            // What waited in vain is no credit: else what comes later of the same tenant would starve the others.
            let begins = flow.tag.max(band.clock.before(cost, weight));
            band.clock = band.clock.max(begins);
            flow.tag = begins.after(cost, weight);
            band.order.insert((flow.tag, id.1.clone()));
            band.forget_idle();
        }
        self.take_out(id, fragment);
    }

    /// A tenant was given what did not wait here, such as the seats of a swarm: it counts as if it had.
    pub(crate) fn charge(&mut self, (band, tenant): &FlowId, cost: Cost, weight: u32) {
        let band = self.bands.entry(*band).or_default();
        let clock = band.clock;
        let flow = band.flows.entry(tenant.clone()).or_insert_with(|| Flow { tag: clock, ..Flow::default() });
        let known = (flow.tag, tenant.clone());
        let waits = band.order.remove(&known);
        if !waits {
            band.idle.remove(&known);
            flow.tag = flow.tag.max(clock);
        }
        let begins = flow.tag.max(clock.before(cost, weight));
        band.clock = clock.max(begins);
        flow.tag = begins.after(cost, weight);
        let now = (flow.tag, tenant.clone());
        if waits { &mut band.order } else { &mut band.idle }.insert(now);
        band.forget_idle();
    }

    pub(crate) fn clocks(&self) -> Clocks {
        let flows = |band: &Band| band.flows.iter().map(|(tenant, flow)| (tenant.clone(), flow.tag)).collect();
        self.bands.iter().map(|(band, b)| (band.0, b.clock, flows(b))).collect()
    }

    /// A queue with these clocks, in which this waits.
    pub(crate) fn of(clocks: Clocks, waiting: impl IntoIterator<Item = (FlowId, Class, Demand, Spot)>) -> Self {
        let mut queue = Self::default();
        for (priority, clock, flows) in clocks {
            let flows = flows.into_iter().map(|(tenant, tag)| (tenant, Flow { tag, ..Flow::default() }));
            queue.bands.insert(Reverse(priority), Band { clock, flows: flows.collect(), ..Band::default() });
        }
        for ((band, tenant), class, demand, spot) in waiting {
            let flow = queue.bands.entry(band).or_default().flows.entry(tenant).or_default();
            flow.add(class, demand, spot);
            queue.places.insert(spot.1, (class, spot.0));
        }
        for band in queue.bands.values_mut() {
            for (tenant, flow) in &band.flows {
                let place = if flow.lines.is_empty() { &mut band.idle } else { &mut band.order };
                place.insert((flow.tag, tenant.clone()));
            }
        }
        queue
    }

    /// Whether the parts of it fit.
    pub(crate) fn audit(&self) -> Result<(), String> {
        let mut waiting = 0;
        for band in self.bands.values() {
            for (tenant, flow) in &band.flows {
                let key = (flow.tag, tenant.clone());
                if band.order.contains(&key) == flow.lines.is_empty()
                    || band.idle.contains(&key) != flow.lines.is_empty()
                {
                    return Err(format!("the flow of {tenant} is not where its tag says"));
                }
                let heads = flow.lines.iter().filter_map(|(class, line)| Some((*line.spots.first()?, *class)));
                if heads.collect::<BTreeSet<_>>() != flow.heads {
                    return Err(format!("what leads the lines of {tenant} is not what is listed"));
                }
                waiting += flow.lines.values().map(|line| line.spots.len()).sum::<usize>();
            }
            if band.order.len() + band.idle.len() != band.flows.len() {
                return Err("a flow has two places".to_owned());
            }
        }
        if waiting == self.places.len() { Ok(()) } else { Err("what waits is not what is listed".to_owned()) }
    }
}

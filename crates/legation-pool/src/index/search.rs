//! One search through the index: the few classes that may be best, then their tightest members.

use super::{
    ClassId, Found, HITS, HostId, IDLE, Index, Judge, LEVELS, MUCH, Member, NIL, OWN, PROBES, Query, RegionId, Row,
    TOO_FAR, WIDTHS, age, dearer, price, reference,
};

/// A class that may be worth a look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Narrow {
    /// Its lowest effective price.
    bound: u64,
    base: u64,
    dearer_by: u64,
    class: u32,
    gpus: bool,
}

pub(super) struct Search<'a> {
    pub(super) index: &'a Index,
    pub(super) query: &'a Query<'a>,
    /// The lowest levels that may do: of compute, and of the second dimension without and with accelerators.
    pub(super) cpu: usize,
    pub(super) second: [usize; 2],
    /// The few classes with the lowest bounds, ascending.
    pub(super) narrow: [Narrow; WIDTHS[0]],
    pub(super) few: usize,
    /// The same, when those were not enough.
    pub(super) wide: Vec<Narrow>,
    pub(super) best: Option<Found>,
    /// Whether anything was left out that was not looked at.
    pub(super) skipped: bool,
    pub(super) thorough: bool,
}

impl Search<'_> {
    /// Looks into at most `width` classes; says whether that is enough.
    pub(super) fn run(&mut self, width: usize, judge: &mut impl Judge) -> bool {
        let order = if self.query.order.is_empty() { &self.index.cheapest } else { self.query.order };
        (self.few, self.wide) = (0, Vec::new());
        for region in order {
            self.region(*region, width, judge);
        }
        if width > WIDTHS[0] {
            let mut wide = std::mem::take(&mut self.wide);
            let by = |n: &Narrow| (n.bound, n.class);
            if wide.len() > width {
                wide.select_nth_unstable_by_key(width, by);
                wide.truncate(width);
            }
            wide.sort_unstable_by_key(by);
            self.look_into(&wide, judge);
        } else {
            let (narrow, few) = (self.narrow, self.few);
            self.look_into(&narrow[..few], judge);
            // Whoever was left out asks no less than the last of these: is that much better than what was found?
            let left = if few == width { narrow[few - 1].bound } else { u64::MAX };
            if self.best.is_some_and(|best| left.saturating_add(left / 1000 * MUCH) < best.effective) {
                return false;
            }
        }
        self.best.is_some()
    }

    fn look_into(&mut self, classes: &[Narrow], judge: &mut impl Judge) {
        for class in classes {
            // Everybody costs something for age and fit.
            let least = class.bound.saturating_add(class.bound / 1000 * OWN);
            if self.best.is_some_and(|best| least >= best.effective) {
                return;
            }
            self.class(class, judge);
        }
    }

    fn base(&self, core_hour: u64, gib_hour: u64) -> u64 {
        if self.query.weighing.cost { price(core_hour, gib_hour, &self.query.need) } else { 1000 }
    }

    /// Whether a class with this bound is one too many.
    fn beaten(&self, bound: u64, width: usize) -> bool {
        width == WIDTHS[0] && self.few == width && bound >= self.narrow[width - 1].bound
    }

    fn enter(&mut self, new: Narrow, width: usize) {
        if width > WIDTHS[0] {
            return self.wide.push(new);
        }
        if self.few == width {
            self.skipped = true;
        } else {
            self.few += 1;
        }
        let mut at = self.few - 1;
        while at > 0 && self.narrow[at - 1].bound > new.bound {
            self.narrow[at] = self.narrow[at - 1];
            at -= 1;
        }
        self.narrow[at] = new;
    }

    fn region(&mut self, id: RegionId, width: usize, judge: &mut impl Judge) {
        let Query { distances, need, weighing, .. } = *self.query;
        let region = &self.index.regions[id.0 as usize];
        let distance = distances.get(id.0 as usize).copied().unwrap_or(0);
        if region.open == 0 || distance == TOO_FAR {
            return;
        }
        let distance = u64::from(distance);
        if self.beaten(dearer(self.base(region.core_min, region.gib_min), distance), width) {
            return;
        }
        // What a row asks at least for each millionth of a dollar of its reference price, by which rows are sorted: in 1024ths of a
        // thousandth of it.
        let memory = (region.ratio_min * (need.memory >> 20).saturating_mul(1000)) >> 20;
        let mixed = need.cpu.saturating_add(memory).saturating_mul(1 << 20) / (1024 + 4 * region.ratio_max);
        let apart = need.cpu.min((need.memory >> 30).saturating_mul(250)).saturating_mul(1024);
        let share = mixed.max(apart);
        for word in 0..region.gpus.words() {
            let mut open = region.fitting(word, self.cpu, self.second);
            if open != 0 {
                open &= judge.screen(id, word);
            }
            while open != 0 {
                let place = word * 64 + open.trailing_zeros() as usize;
                let row = &region.rows[place];
                open &= open - 1;
                let least = reference(row.core_hour, row.gib_hour).saturating_mul(share) >> 10;
                if weighing.cost && self.beaten(dearer(least, distance), width) {
                    return;
                }
                self.row(row, (id, place), distance, width, judge);
            }
        }
    }

    fn row(
        &mut self,
        row: &Row,
        (region, place): (RegionId, usize),
        distance: u64,
        width: usize,
        judge: &mut impl Judge,
    ) {
        let Query { need, weighing, .. } = self.query;
        if need.gpus > 0 && !row.gpus {
            return;
        }
        let base = self.base(row.core_hour, row.gib_hour);
        // Accelerators that lie idle beside the work count, too: only a member without free ones would be cheaper.
        let idle = if row.gpus && need.gpus == 0 { IDLE } else { 0 };
        let dearer_by = distance + (u64::from(row.posture) * weighing.posture + idle * weighing.fit) / 100;
        let bound = dearer(base, dearer_by);
        if self.beaten(bound, width) {
            return;
        }
        let Some(extra) = judge.class(ClassId(row.class), region, place) else { return };
        let (bound, dearer_by) = (dearer(base, dearer_by + u64::from(extra)), dearer_by + u64::from(extra));
        let dearer_by = dearer_by - idle * weighing.fit / 100;
        if extra == 0 || !self.beaten(bound, width) {
            self.enter(Narrow { bound, base, dearer_by, class: row.class, gpus: row.gpus }, width);
        }
    }

    /// The levels of the second dimension that may do.
    fn lane(&self, gpus: bool) -> u64 {
        u64::from(u32::MAX << self.second[usize::from(gpus)])
    }

    /// The buckets of a word that may do.
    fn wanted(&self, word: usize, lane: u64) -> u64 {
        let low = if 2 * word < self.cpu { 0 } else { lane };
        low | lane << LEVELS
    }

    fn class(&mut self, narrow: &Narrow, judge: &mut impl Judge) {
        let class = &self.index.classes[narrow.class as usize];
        let mut hits = 0;
        let lane = self.lane(narrow.gpus);
        let mut before: u32 = class.mask[..self.cpu / 2].iter().map(|word| word.count_ones()).sum();
        for (word, mask) in class.mask.iter().enumerate().skip(self.cpu / 2) {
            let mut left = mask & self.wanted(word, lane);
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                let rank = before + (mask & ((1 << bit) - 1)).count_ones();
                let mut at = class.heads[rank as usize];
                let mut probes = 0;
                while at != NIL {
                    if probes >= PROBES && !self.thorough {
                        self.skipped = true;
                        break;
                    }
                    let member = &self.index.members[at as usize];
                    at = member.next;
                    match self.member(member, ClassId(narrow.class), narrow.base, narrow.dearer_by, judge) {
                        Some(fresh) => hits += u32::from(fresh),
                        None => probes += 1,
                    }
                    if hits >= HITS {
                        return;
                    }
                }
            }
            before += mask.count_ones();
        }
    }

    /// Looks at one member: whether it will do, and if so, whether nothing special made it dearer.
    fn member(
        &mut self,
        member: &Member,
        class: ClassId,
        base: u64,
        dearer_by: u64,
        judge: &mut impl Judge,
    ) -> Option<bool> {
        let Query { need, weighing, now, .. } = self.query;
        let host = &self.index.hosts[member.host as usize];
        if !host.room.fits(need) || *now < member.from || *now > member.until {
            return None;
        }
        let extra = judge.host(HostId(member.host))?;
        let age = age(*now, member.from, member.until) * weighing.posture;
        let misfit = host.room.misfit(need, host.total_cpu, host.total_memory) * weighing.fit;
        let effective = dearer(base, dearer_by + u64::from(extra) + (age + misfit) / 100);
        let host = HostId(member.host);
        let better = self.best.is_none_or(|best| (effective, host) < (best.effective, best.host));
        if better {
            self.best = Some(Found { host, class, effective });
        }
        Some(extra == 0)
    }
}

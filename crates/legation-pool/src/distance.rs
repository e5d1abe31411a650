//! How far regions are from each other: round trips as the operator gives them, and those that managers measure to their agents
//! where the operator says nothing.

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{Region, Rejection};
use serde::{Deserialize, Serialize};

use crate::{
    apply::Change,
    event::Event,
    pool::{Env, Pool},
    queue::Chances,
    rank,
    text::cut,
};

/// Most regions whose distances are known.
pub const REGIONS_MAX: usize = 512;
/// Longest round trip, in milliseconds.
const MS_MAX: u32 = 60_000;
/// A measured round trip counts anew when it differs from the one before by more than this share of it, and by more than so many
/// milliseconds: the journal is no log of jitter.
const MOVED: (u32, u32) = (4, 2);

/// One measured round trip.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundTrip {
    /// From there.
    pub from: Region,
    /// To there.
    pub to: Region,
    /// And back, in milliseconds, rounded up.
    pub ms: u32,
}

/// Who says how long a round trip takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The operator's table.
    Operator,
    /// Channels to agents, as the leading manager measures them.
    Channels,
}

/// A round trip that counts, and who says so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KnownRoundTrip {
    /// From there.
    pub from: Region,
    /// To there.
    pub to: Region,
    /// And back, in milliseconds, rounded up.
    pub ms: u32,
    /// By whom.
    pub source: Source,
}

type Rows = BTreeMap<Region, BTreeMap<Region, u32>>;

fn find(rows: &Rows, from: &Region, to: &Region) -> Option<u32> {
    let known = |a, b| rows.get(a).and_then(|row| row.get(b)).copied();
    known(from, to).or_else(|| known(to, from))
}

/// The regions that rows are about.
fn ends(rows: &Rows) -> BTreeSet<Region> {
    rows.keys().chain(rows.values().flat_map(BTreeMap::keys)).cloned().collect()
}

/// Every round trip that is known.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Distances {
    rows: Rows,
    /// What channels say.
    #[serde(default)]
    measured: Rows,
}

impl Distances {
    /// Milliseconds of a round trip; of one within a region that nobody measured, 1.
    pub(crate) fn ms(&self, from: &Region, to: &Region) -> Option<u32> {
        let measured = || find(&self.measured, from, to);
        find(&self.rows, from, to).or_else(measured).or_else(|| (from == to).then_some(1))
    }

    /// Forgets what was measured to or from other regions than these.
    fn keep(&mut self, regions: &BTreeSet<Region>) {
        for row in self.measured.values_mut() {
            row.retain(|to, _| regions.contains(to));
        }
        self.measured.retain(|from, row| regions.contains(from) && !row.is_empty());
    }

    fn list(&self) -> Vec<KnownRoundTrip> {
        let all = |rows: &Rows, source| -> Vec<KnownRoundTrip> {
            let row = |(from, row): (&Region, &BTreeMap<Region, u32>)| -> Vec<_> {
                let one =
                    |(to, ms): (&Region, &u32)| KnownRoundTrip { from: from.clone(), to: to.clone(), ms: *ms, source };
                row.iter().map(one).collect()
            };
            rows.iter().flat_map(row).collect()
        };
        let mut known = all(&self.rows, Source::Operator);
        known.extend(all(&self.measured, Source::Channels));
        known
    }
}

impl Pool {
    /// Every round trip that is known: where both say something, the operator's counts.
    pub fn distances(&self) -> Vec<KnownRoundTrip> {
        self.distances.list()
    }

    /// Takes a whole new table of round trips.
    pub(crate) fn set_distances(
        &mut self,
        rows: Vec<RoundTrip>,
        author: &str,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let regions: BTreeSet<&Region> = rows.iter().flat_map(|r| [&r.from, &r.to]).collect();
        if regions.len() > REGIONS_MAX {
            return Err(Rejection::new("distances.regions", "regions in the table of round trips")
                .expected(format!("at most {REGIONS_MAX}"))
                .got(regions.len())
                .fix("leave out regions that no enclave and no client is in"));
        }
        if let Some(row) = rows.iter().find(|r| r.ms > MS_MAX) {
            return Err(Rejection::new("distances.ms", format!("round trip from {} to {}", row.from, row.to))
                .expected(format!("at most {MS_MAX} ms"))
                .got(row.ms)
                .fix("give milliseconds"));
        }
        let mut seen = BTreeSet::new();
        if let Some(row) = rows.iter().find(|r| !seen.insert((&r.from, &r.to))) {
            return Err(Rejection::new("distances.twice", "round trips in the table")
                .expected("each once")
                .got(format!("{} to {} twice", row.from, row.to)));
        }
        if self.distances.rows == table(&rows) {
            return Ok(());
        }
        out.chances = Chances::All;
        out.record(self, env, Event::DistancesSet { rows, author: cut(author) })
    }

    pub(crate) fn absorb_distances(&mut self, rows: &[RoundTrip]) {
        self.distances.rows = table(rows);
        self.classes.distances_changed();
    }

    /// Regions that measured distances are kept of where there is no room for all: those that known enclaves are in, whose number is
    /// bounded, and those that are measured from. Whoever boots under ever new names takes no room from others for long.
    fn regions_kept(&self, rows: &[RoundTrip]) -> BTreeSet<Region> {
        let enclaves = self.enclaves.values().flat_map(|enclave| {
            let passport = enclave.typical();
            [rank::region(passport), &passport.configuration.region]
        });
        enclaves.chain(rows.iter().map(|row| &row.from)).cloned().collect()
    }

    /// Takes what channels say of how far their ends are; what has not moved enough is left as it is, and so is what does not fit.
    pub(crate) fn measure_distances(
        &mut self,
        rows: Vec<RoundTrip>,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let measured = &self.distances.measured;
        let moved = |row: &RoundTrip| match find(measured, &row.from, &row.to) {
            Some(before) => row.ms.abs_diff(before) > (before / MOVED.0).max(MOVED.1),
            None => true,
        };
        let mut rows: Vec<_> = rows.into_iter().filter(|row| row.ms <= MS_MAX && moved(row)).collect();
        let mut regions = ends(measured);
        let named = rows.iter().flat_map(|row| [&row.from, &row.to]);
        let all = regions.iter().chain(named).collect::<BTreeSet<&Region>>().len();
        if all > REGIONS_MAX {
            let kept = self.regions_kept(&rows);
            regions.retain(|region| kept.contains(region));
        }
        rows.retain(|row| {
            let mut more = regions.clone();
            more.extend([row.from.clone(), row.to.clone()]);
            let fits = more.len() <= REGIONS_MAX;
            if fits {
                regions = more;
            }
            fits
        });
        if rows.is_empty() {
            return Ok(());
        }
        out.chances = Chances::All;
        out.record(self, env, Event::DistancesMeasured { rows })
    }

    pub(crate) fn absorb_measured(&mut self, rows: &[RoundTrip]) {
        let mut regions = ends(&self.distances.measured);
        regions.extend(rows.iter().flat_map(|row| [row.from.clone(), row.to.clone()]));
        if regions.len() > REGIONS_MAX {
            let kept = self.regions_kept(rows);
            self.distances.keep(&kept);
        }
        for RoundTrip { from, to, ms } in rows {
            // One direction is kept: a round trip has none.
            if let Some(row) = self.distances.measured.get_mut(to)
                && let Some(known) = row.get_mut(from)
            {
                *known = *ms;
                continue;
            }
            self.distances.measured.entry(from.clone()).or_default().insert(to.clone(), *ms);
        }
        self.classes.distances_changed();
    }
}

fn table(rows: &[RoundTrip]) -> Rows {
    let mut known = Rows::default();
    for RoundTrip { from, to, ms } in rows {
        known.entry(from.clone()).or_default().insert(to.clone(), *ms);
    }
    known
}

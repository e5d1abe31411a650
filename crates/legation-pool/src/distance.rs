//! How far regions are from each other: measured round trips, as the operator gives them.

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{Region, Rejection};
use serde::{Deserialize, Serialize};

use crate::{
    apply::Change,
    event::Event,
    pool::{Env, Pool},
    queue::Chances,
    text::cut,
};

/// Most regions whose distances are known.
pub const REGIONS_MAX: usize = 512;
/// Longest round trip, in milliseconds.
const MS_MAX: u32 = 60_000;

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

/// Every round trip that is known.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Distances {
    rows: BTreeMap<Region, BTreeMap<Region, u32>>,
}

impl Distances {
    /// Milliseconds of a round trip; of one within a region that nobody measured, 1.
    pub(crate) fn ms(&self, from: &Region, to: &Region) -> Option<u32> {
        let known = |a, b| self.rows.get(a).and_then(|row: &BTreeMap<Region, u32>| row.get(b)).copied();
        known(from, to).or_else(|| known(to, from)).or_else(|| (from == to).then_some(1))
    }

    pub(crate) fn list(&self) -> Vec<RoundTrip> {
        let row = |(from, row): (&Region, &BTreeMap<Region, u32>)| -> Vec<_> {
            row.iter().map(|(to, ms)| RoundTrip { from: from.clone(), to: to.clone(), ms: *ms }).collect()
        };
        self.rows.iter().flat_map(row).collect()
    }
}

impl Pool {
    /// Every round trip that is known.
    pub fn distances(&self) -> Vec<RoundTrip> {
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
        if self.distances == table(&rows) {
            return Ok(());
        }
        out.chances = Chances::All;
        out.record(self, env, Event::DistancesSet { rows, author: cut(author) })
    }

    pub(crate) fn absorb_distances(&mut self, rows: &[RoundTrip]) {
        self.distances = table(rows);
        self.classes.distances_changed();
    }
}

fn table(rows: &[RoundTrip]) -> Distances {
    let mut known = Distances::default();
    for RoundTrip { from, to, ms } in rows {
        known.rows.entry(from.clone()).or_default().insert(to.clone(), *ms);
    }
    known
}

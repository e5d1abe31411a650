//! How far agents are: round trips of their channels, gathered by region and told to the pool now and then.
//!
//! A region is as far as the median of its agents that are here: one that answers late moves it little.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use legation_core::{EnclaveId, Region};
use legation_pool::{Command, RoundTrip};
use tracing::debug;

use crate::gate::Gate;

/// How often the pool is told; it takes what has moved.
const TELL: Duration = Duration::from_secs(15);

/// The last round trip of every agent that is here.
#[derive(Default)]
pub(crate) struct RoundTrips(Mutex<HashMap<EnclaveId, (Region, Duration)>>);

impl RoundTrips {
    fn all(&self) -> MutexGuard<'_, HashMap<EnclaveId, (Region, Duration)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, enclave: EnclaveId, region: &Region, took: Duration) {
        self.all().insert(enclave, (region.clone(), took));
    }

    pub(crate) fn forget(&self, enclave: EnclaveId) {
        self.all().remove(&enclave);
    }

    /// From `here` to every region that has agents.
    fn from(&self, here: &Region) -> Vec<RoundTrip> {
        let mut regions: BTreeMap<Region, Vec<Duration>> = BTreeMap::new();
        for (region, took) in self.all().values() {
            regions.entry(region.clone()).or_default().push(*took);
        }
        let median = |(to, mut all): (Region, Vec<Duration>)| {
            all.sort_unstable();
            let took = all.get(all.len() / 2)?;
            let ms = u32::try_from(took.as_micros().div_ceil(1000)).unwrap_or(u32::MAX).max(1);
            Some(RoundTrip { from: here.clone(), to, ms })
        };
        regions.into_iter().filter_map(median).collect()
    }
}

/// Tells the pool while this manager leads.
pub(crate) async fn follow(gate: Arc<Gate>, here: Option<Region>) {
    let Some(here) = here else { return };
    loop {
        tokio::time::sleep(TELL).await;
        let rows = gate.round_trips.from(&here);
        if rows.is_empty() || !*gate.open.borrow() {
            continue;
        }
        if let Err(why) = gate.leader.apply(Command::MeasureDistances { rows }).await {
            debug!(%why, "round trips are not noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use legation_core::Digest;

    use super::*;

    #[test]
    fn a_region_is_as_far_as_the_median_of_its_agents() {
        let trips = RoundTrips::default();
        let region = |name: &str| Region::new(name).unwrap();
        let note = |n: u8, at: &str, micros| {
            trips.note(EnclaveId::new(Digest::of(&[n])), &region(at), Duration::from_micros(micros));
        };
        note(1, "eu-1", 100);
        note(2, "us-1", 80_500);
        note(3, "us-1", 79_000);
        note(4, "us-1", 9_000_000);
        let row = |to: &str, ms| RoundTrip { from: region("eu-1"), to: region(to), ms };
        assert_eq!(trips.from(&region("eu-1")), [row("eu-1", 1), row("us-1", 81)]);
        trips.forget(EnclaveId::new(Digest::of(&[4])));
        trips.forget(EnclaveId::new(Digest::of(&[1])));
        note(2, "us-1", 70_000);
        assert_eq!(trips.from(&region("eu-1")), [row("us-1", 79)]);
    }
}

//! The runtime integrity monitor: says in every report how the run looks beside the earlier runs of its module.
//!
//! It is *not* proof of anything: replicas that agree are ([`calls`] makes their host calls comparable). It is for what runs
//! once. It stops nothing but a host call that a module said it never makes; its verdicts inform whoever leases.
//!
//! # The bound
//! If the runs of one module for one tenant are exchangeable (any order of them as likely as any other: independent runs on inputs
//! of one kind are), then the chance that this history *ever* raises an alarm is at most 1 in [`Settings::alarm`]. Why:
//!
//! 1. The first 16 runs fix medians and spreads. Given them, the others are still exchangeable, and so are their scores,
//!    which are a fixed function of each run (`score`).
//! 2. P-values are taken from a Pólya urn over the cells that 48 more scores make. They are exactly uniform and independent,
//!    also for scores that are equal (`conformal`). Plain ranks in a *fixed* window would not be: a calibration that happens
//!    to lie low would be betted on for ever (on fixed references compare arXiv:2602.13848).
//! 3. A capital of bets, each fair against uniform p-values, is a test martingale; by Ville's inequality it ever reaches `c` with
//!    chance at most `1 / c` (`martingale`; arXiv:2006.02329).
//! 4. Runs are taken in the order in which they began, and whether one counts (it completed) depends on itself alone (`history`).
//!
//! The bound is per history: among a thousand of them, ten false alarms would be no surprise. And it is about change, not about
//! malice: other inputs are a change too.
//!
//! # Costs
//! About a microsecond and two short locks per run, 8 bytes of SHA-256 per host call; of fixed size. Nothing here reads a clock
//! or draws randomness: the draws come from the seed of each run, so whoever has reports and samples in their order can compute
//! every verdict again.

pub mod calls;
mod conformal;
mod history;
mod martingale;
mod score;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use legation_core::{Digest, TenantId, monitor::Monitored};

pub use history::Judged;
pub use score::Sample;

use calls::Calls;
use conformal::Draw;
use history::{Entry, History};
use score::Features;

/// How the monitor is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Capital that raises an alarm; one in so many histories ever does so by chance, at most.
    pub alarm: u32,
    /// Histories kept; beyond them the least recently used is forgotten, of the tenant that has most.
    pub histories: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { alarm: 100, histories: 1024 }
    }
}

/// A module and whose work it does: no tenant's runs are measured by another's.
type Of = (Digest, TenantId);

/// All histories of one agent process. A new boot begins with none.
pub struct Monitor {
    settings: Settings,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    histories: BTreeMap<Of, Used>,
    /// Counts uses; the entry with the smallest stamp is the least recently used.
    clock: u64,
}

struct Used {
    history: Arc<Mutex<History>>,
    at: u64,
}

impl Kept {
    /// Forgets the least recently used history of the tenant that has most of them, the one that `newcomer` is about to have included:
    /// nobody makes another's histories be forgotten, nor the alarms in them, by having many.
    fn make_room(&mut self, newcomer: &TenantId) {
        let mut counts: BTreeMap<&TenantId, usize> = BTreeMap::from([(newcomer, 1)]);
        for (_, tenant) in self.histories.keys() {
            let count = counts.entry(tenant).or_default();
            *count = count.saturating_add(1);
        }
        let most = counts.values().copied().max().unwrap_or_default();
        let of_many = self.histories.iter().filter(|((_, tenant), _)| counts.get(tenant) == Some(&most));
        let oldest = of_many.min_by_key(|(_, used)| used.at).map(|(of, _)| of.clone());
        if let Some(oldest) = oldest {
            self.histories.remove(&oldest);
        }
    }
}

impl Monitor {
    /// Knows of no run yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, kept: Mutex::default() }
    }

    /// A run begins. Runs count in the order of these calls.
    pub fn begin(&self, module: Digest, tenant: &TenantId) -> Watch {
        let of = (module, tenant.clone());
        let mut kept = lock(&self.kept);
        kept.clock = kept.clock.saturating_add(1);
        let at = kept.clock;
        if !kept.histories.contains_key(&of) && kept.histories.len() >= self.settings.histories {
            kept.make_room(tenant);
        }
        let new = || Arc::new(Mutex::new(History::new(self.settings.alarm.into())));
        let used = kept.histories.entry(of).or_insert_with(|| Used { history: new(), at });
        used.at = at;
        let history = used.history.clone();
        drop(kept);
        let number = lock(&history).begin();
        Watch { history, number, over: false }
    }

    /// Histories that are kept.
    pub fn histories(&self) -> usize {
        lock(&self.kept).histories.len()
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("settings", &self.settings).field("histories", &self.histories()).finish()
    }
}

/// A run that goes on. Dropped without [`Self::end`], it does not count, and nobody waits for it.
#[derive(Debug)]
pub struct Watch {
    history: Arc<Mutex<History>>,
    number: u64,
    over: bool,
}

impl Watch {
    /// The run is over. Only one that completed has a sample, and counts; the others hear how their history looks.
    pub fn end(mut self, sample: Option<&Sample>, seed: &[u8; 32]) -> Judged {
        self.over = true;
        let features = sample.map(Features::from);
        let mut history = lock(&self.history);
        history.end(self.number, features.map(|features| Entry { features, draw: Draw::of(seed) }));
        history.judge(features.as_ref())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.over {
            lock(&self.history).end(self.number, None);
        }
    }
}

impl Judged {
    /// As a report says it.
    pub fn with(self, calls: Calls) -> Monitored {
        let Self { verdict, evidence, worst } = self;
        Monitored { calls: calls.set, trace: calls.trace, verdict, evidence, worst }
    }
}

/// A poisoned lock is fine: nothing here panics between two changes that belong together.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

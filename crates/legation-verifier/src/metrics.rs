//! Numbers for operators, in Prometheus text. Labels are names of our own checks and of items that are kept: both finite.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use legation_core::{Rejection, UnixTime};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::collateral::ItemStatus;

/// Most checks that are counted apart.
const CHECKS_MAX: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Check {
    check: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Item {
    name: String,
}

/// The numbers of one verifier.
pub(crate) struct Metrics {
    registry: Registry,
    issued: Counter<u64, AtomicU64>,
    overloaded: Counter<u64, AtomicU64>,
    seconds: Histogram,
    refusals: Family<Check, Counter>,
    stale: Family<Item, Gauge<i64, AtomicI64>>,
    age: Family<Item, Gauge<i64, AtomicI64>>,
    last_success: AtomicU64,
    refused: Mutex<BTreeMap<String, u64>>,
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("legation");
        let (issued, overloaded) = (Counter::default(), Counter::default());
        let seconds = Histogram::new([0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0]);
        let (refusals, stale, age) = (Family::default(), Family::default(), Family::default());
        registry.register("verifier_passports", "Passports issued", issued.clone());
        registry.register("verifier_overloads", "Requests turned away for load", overloaded.clone());
        registry.register("verifier_seconds", "Time from request to verdict", seconds.clone());
        registry.register("verifier_refusals", "Evidence refused, by check", Family::clone(&refusals));
        registry.register("collateral_stale", "1 while an item is past its next update", Family::clone(&stale));
        registry.register("collateral_age_seconds", "Seconds since an item was issued", Family::clone(&age));
        Arc::new(Self {
            registry,
            issued,
            overloaded,
            seconds,
            refusals,
            stale,
            age,
            last_success: AtomicU64::new(0),
            refused: Mutex::default(),
        })
    }

    pub(crate) fn issued(&self, at: UnixTime, took: Duration) {
        self.issued.inc();
        self.seconds.observe(took.as_secs_f64());
        self.last_success.fetch_max(at.0, Relaxed);
    }

    pub(crate) fn refused(&self, why: &Rejection, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let known = refused.len() < CHECKS_MAX || refused.contains_key(&why.check);
        let check = if known { why.check.as_str() } else { "others" };
        *refused.entry(check.to_owned()).or_default() += 1;
        self.refusals.get_or_create(&Check { check: check.to_owned() }).inc();
    }

    pub(crate) fn overloaded(&self) {
        self.overloaded.inc();
    }

    pub(crate) fn count(&self) -> u64 {
        self.issued.get()
    }

    pub(crate) fn refusals(&self) -> BTreeMap<String, u64> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn last_success(&self) -> Option<UnixTime> {
        Some(UnixTime(self.last_success.load(Relaxed))).filter(|at| at.0 > 0)
    }

    /// Prometheus text, with the collateral as it stands.
    pub(crate) fn text(&self, collateral: &[ItemStatus], now: UnixTime) -> String {
        // Items come and go: what is no longer kept is no longer told.
        self.stale.clear();
        self.age.clear();
        for item in collateral {
            let label = Item { name: item.name.clone() };
            self.stale.get_or_create(&label).set(i64::from(item.state.is_stale()));
            if let Some(issued) = item.issued {
                self.age.get_or_create(&label).set(i64::try_from(now.since(issued)).unwrap_or(i64::MAX));
            }
        }
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut out, &self.registry);
        out
    }
}

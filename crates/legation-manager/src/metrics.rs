//! Numbers for operators, in Prometheus text on the admin listener.

use std::sync::{Arc, atomic::AtomicU64};

use legation_core::Rejection;
use legation_pool::CustodyView;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::leader::ManagerView;

/// Which check refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Check {
    check: String,
}

/// Which swarm key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSwarm {
    swarm: String,
}

/// How those stand who have swarm keys, of each that somebody has.
#[derive(Clone, Default)]
struct Custody {
    here: Family<OfSwarm, Gauge>,
    margin: Family<OfSwarm, Gauge>,
    epoch: Family<OfSwarm, Gauge>,
    age: Family<OfSwarm, Gauge>,
}

impl Custody {
    fn register(&self, registry: &mut Registry) {
        let Self { here, margin, epoch, age } = self.clone();
        registry.register("custodians_here", "Custodians of a swarm key that release", here);
        registry.register(
            "custody_margin",
            "How many more may be lost before nobody can open; below 0 nobody can",
            margin,
        );
        registry.register("custody_epoch", "How often a swarm key has changed hands", epoch);
        registry.register("custody_age_seconds", "For how long the committee has been in force", age);
    }
}

/// The numbers; cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    records: Counter<u64, AtomicU64>,
    batches: Histogram,
    refusals: Family<Check, Counter>,
    channels: Gauge,
    objects: Counter,
    silent: Gauge,
    heeded: Histogram,
    leads: Gauge,
    term: Gauge,
    lag: Gauge,
    snapshot: Gauge,
    custody: Custody,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("legation_manager");
        let records = Counter::default();
        let batches = Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]);
        let refusals = Family::default();
        let channels = Gauge::default();
        let objects = Counter::default();
        registry.register("journal_records", "Records written to the journal", records.clone());
        registry.register("journal_batch_records", "Records in one durable batch", batches.clone());
        registry.register("refusals", "Commands refused, by check", refusals.clone());
        registry.register("channels", "Channels to attested agents", channels.clone());
        let silent = Gauge::default();
        let heeded = Histogram::new([1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0]);
        registry.register("silent_verifiers", "Verifiers silent for longer than their passports live", silent.clone());
        registry.register(
            "revocation_heeded_ms",
            "Milliseconds from a revocation to the last present agent having heeded it",
            heeded.clone(),
        );
        registry.register("object_bytes", "Bytes of objects stored", objects.clone());
        let (leads, term, lag, snapshot) = (Gauge::default(), Gauge::default(), Gauge::default(), Gauge::default());
        registry.register("leads", "1 while this manager leads", leads.clone());
        registry.register("term", "The newest term it knows of", term.clone());
        registry.register("journal_lag_records", "Records it has yet to read", lag.clone());
        registry.register("journal_snapshot", "Position of the last snapshot", snapshot.clone());
        let custody = Custody::default();
        custody.register(&mut registry);
        let registry = Arc::new(registry);
        Self {
            registry,
            records,
            batches,
            refusals,
            channels,
            objects,
            silent,
            heeded,
            leads,
            term,
            lag,
            snapshot,
            custody,
        }
    }
}

impl Metrics {
    pub(crate) fn committed(&self, records: usize) {
        self.records.inc_by(records as u64);
        #[expect(clippy::cast_precision_loss, reason = "a batch has hundreds of records at most")]
        self.batches.observe(records as f64);
    }

    pub(crate) fn refused(&self, why: &Rejection) {
        self.refusals.get_or_create(&Check { check: why.check.clone() }).inc();
    }

    pub(crate) fn channels(&self, open: usize) {
        self.channels.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    pub(crate) fn standing(&self, view: &ManagerView) {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.leads.set(i64::from(view.role == "leads"));
        self.term.set(number(view.term));
        self.lag.set(number(view.lag_records));
        self.snapshot.set(number(view.snapshot.unwrap_or(0)));
    }

    /// The swarm keys as they are now; of one that nobody has, or that is not among them, nothing is told.
    pub(crate) fn custody(&self, keys: &[CustodyView]) {
        let Custody { here, margin, epoch, age } = &self.custody;
        [here, margin, epoch, age].into_iter().for_each(Family::clear);
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for key in keys {
            let Some(committee) = &key.committee else { continue };
            let of = OfSwarm { swarm: key.swarm.to_string() };
            here.get_or_create(&of).set(i64::from(committee.here));
            margin.get_or_create(&of).set(i64::from(committee.margin));
            epoch.get_or_create(&of).set(number(committee.epoch.0));
            age.get_or_create(&of).set(number(committee.age));
        }
    }

    pub(crate) fn silent_verifiers(&self, silent: i64) {
        self.silent.set(silent);
    }

    pub(crate) fn heeded(&self, took: std::time::Duration) {
        self.heeded.observe(took.as_secs_f64() * 1000.0);
    }

    pub(crate) fn stored(&self, bytes: u64) {
        self.objects.inc_by(bytes);
    }

    /// Prometheus text.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut out, &self.registry);
        out
    }
}

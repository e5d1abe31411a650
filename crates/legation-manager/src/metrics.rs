//! Numbers for operators, in Prometheus text on the admin listener.

use std::sync::{Arc, atomic::AtomicU64};

use legation_core::Rejection;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Which check refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Check {
    check: String,
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
        registry.register("object_bytes", "Bytes of objects stored", objects.clone());
        Self { registry: Arc::new(registry), records, batches, refusals, channels, objects }
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

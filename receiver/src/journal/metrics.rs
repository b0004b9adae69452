use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::lasting::Lasting;

/// What the journal shows to Prometheus.
pub(super) struct Metrics {
    pub(super) append_seconds: Histogram,
    used_bytes: Gauge,
    capacity_bytes: Gauge,
    outage_left_seconds: Gauge<f64, AtomicU64>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        // 50 us, below any sync, to 1.6 s, beyond any deadline of a reply.
        Self {
            append_seconds: Histogram::new(exponential_buckets(50e-6, 2.0, 16)),
            used_bytes: Gauge::default(),
            capacity_bytes: Gauge::default(),
            outage_left_seconds: Gauge::default(),
        }
    }

    pub(super) fn fill(&self, used_bytes: u64, capacity_bytes: u64) {
        self.used_bytes.set(i64::try_from(used_bytes).unwrap_or(i64::MAX));
        self.capacity_bytes
            .set(i64::try_from(capacity_bytes).unwrap_or(i64::MAX));
    }

    pub(super) fn lasts(&self, lasting: Lasting) {
        self.outage_left_seconds.set(lasting.seconds());
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "receiver_journal_append",
            "From handing a record to the journal until it was durable",
            Unit::Seconds,
            self.append_seconds.clone(),
        );
        registry.register_with_unit(
            "receiver_journal_used",
            "What the journal takes of its capacity on disk",
            Unit::Bytes,
            self.used_bytes.clone(),
        );
        registry.register_with_unit(
            "receiver_journal_capacity",
            "What records may take on disk: from here on the journal is full",
            Unit::Bytes,
            self.capacity_bytes.clone(),
        );
        registry.register_with_unit(
            "receiver_journal_outage_left",
            "Until the journal or its disk is full at the present rate if Kafka takes nothing; +Inf while nothing comes",
            Unit::Seconds,
            self.outage_left_seconds.clone(),
        );
    }
}

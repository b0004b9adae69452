use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// What the journal shows to Prometheus.
pub(super) struct Metrics {
    pub(super) append_seconds: Histogram,
    pub(super) used_bytes: Gauge,
}

impl Metrics {
    pub(super) fn new() -> Self {
        // 50 us, below any sync, to 1.6 s, beyond any deadline of a reply.
        Self {
            append_seconds: Histogram::new(exponential_buckets(50e-6, 2.0, 16)),
            used_bytes: Gauge::default(),
        }
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
            "What the journal takes of its bound on disk",
            Unit::Bytes,
            self.used_bytes.clone(),
        );
    }
}

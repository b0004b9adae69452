use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::loss::{Loss, Losses};

/// What the publisher shows to Prometheus.
#[derive(Clone)]
pub struct PublisherMetrics {
    published: Family<Published, Counter>,
    losses: Losses,
    backlog_records: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Published {
    outcome: &'static str,
}

impl PublisherMetrics {
    /// Adds them to the registry. `losses` counts for all parts that can lose a record.
    pub fn new(registry: &mut Registry, losses: Losses) -> Self {
        let metrics = Self {
            published: Family::default(),
            losses,
            backlog_records: Gauge::default(),
        };
        registry.register(
            "receiver_published",
            "Records by how their way to Kafka ended; failed ones are sent again, found ones were there already",
            metrics.published.clone(),
        );
        registry.register(
            "receiver_backlog_records",
            "Records in the journal that Kafka has not acknowledged",
            metrics.backlog_records.clone(),
        );
        metrics
    }

    pub(super) fn delivered(&self, records: u64) {
        self.published(records, "delivered");
    }

    pub(super) fn failed(&self, records: u64) {
        self.published(records, "failed");
    }

    /// A record that an old client or a former start has published without knowing it.
    pub(super) fn found(&self) {
        self.published(1, "found");
    }

    pub(super) fn dead_letter(&self) {
        self.published(1, "dead_letter");
    }

    pub(super) fn lost(&self, reason: Loss, records: u64) {
        self.losses.count(reason, records);
    }

    pub(super) fn backlog(&self, records: u64) {
        self.backlog_records.set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    fn published(&self, records: u64, outcome: &'static str) {
        if records > 0 {
            self.published.get_or_create(&Published { outcome }).inc_by(records);
        }
    }
}

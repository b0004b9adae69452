use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What the publisher shows to Prometheus.
#[derive(Clone)]
pub struct PublisherMetrics {
    published: Family<Published, Counter>,
    lost: Family<Lost, Counter>,
    backlog_records: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Published {
    outcome: &'static str,
}

/// Every reason for a loss. All are there at 0 from the start: of a counter that begins with its first loss,
/// Prometheus sees no rise.
const LOST_REASONS: [&str; 9] = [
    "journal_broken",
    "journal_damaged",
    "journal_full",
    "journal_overrun",
    "panic",
    "stopping",
    "too_large_for_broker",
    "undecodable",
    "unencodable",
];

/// Why a record will never be in the topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Lost {
    /// One of a few words in the code.
    reason: &'static str,
}

impl Lost {
    /// For one of the reasons that are known.
    pub fn because(reason: &'static str) -> Self {
        debug_assert!(LOST_REASONS.contains(&reason), "{reason} is not shown from the start");
        Self { reason }
    }
}

impl PublisherMetrics {
    /// Adds them to the registry.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            published: Family::default(),
            lost: Family::default(),
            backlog_records: Gauge::default(),
        };
        for reason in LOST_REASONS {
            drop(metrics.lost.get_or_create(&Lost::because(reason)));
        }
        registry.register(
            "receiver_published",
            "Records by how their way to Kafka ended; failed ones are sent again",
            metrics.published.clone(),
        );
        registry.register(
            "receiver_lost",
            "Records that will never be in the topic, by reason",
            metrics.lost.clone(),
        );
        registry.register(
            "receiver_backlog_records",
            "Records in the journal that Kafka has not acknowledged",
            metrics.backlog_records.clone(),
        );
        metrics
    }

    /// The counter by reason, for the other parts that can lose a record.
    pub fn lost(&self) -> Family<Lost, Counter> {
        self.lost.clone()
    }

    pub(super) fn delivered(&self, records: u64) {
        self.published(records, "delivered");
    }

    pub(super) fn failed(&self, records: u64) {
        self.published(records, "failed");
    }

    pub(super) fn dead_letter(&self) {
        self.published(1, "dead_letter");
    }

    pub(super) fn lost_record(&self, reason: &'static str) {
        self.lost_records(reason, 1);
    }

    pub(super) fn lost_records(&self, reason: &'static str, records: u64) {
        self.lost.get_or_create(&Lost::because(reason)).inc_by(records);
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

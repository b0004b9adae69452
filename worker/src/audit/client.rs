//! How the audit talks to Kafka.

use std::time::Duration;

use portcullis_schema::kafka::Kafka;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use tracing::debug;

use crate::stream::client::shared;

/// For one answer of a broker, which takes milliseconds; the drain waits for it.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(2);

/// The member of the group that chooses who audits. It reads nothing.
pub(super) fn member(kafka: &Kafka, group: &str) -> ClientConfig {
    let mut client = common(kafka, group);
    // Whoever audits goes on when another worker joins: a new one would have to read the last hour again.
    client.set("partition.assignment.strategy", "cooperative-sticky");
    client.set("queued.max.messages.kbytes", "64");
    client
}

/// The one that reads. It is a member of no group.
pub(super) fn reader(kafka: &Kafka, group: &str) -> ClientConfig {
    let mut client = common(kafka, group);
    // What was cut off would be taken for missing, so it has to be known.
    client.set("auto.offset.reset", "error");
    // Together 4 MiB and one fetch, beside the worker's own 16 MiB: enough for 100,000 records a second.
    client.set("queued.max.messages.kbytes", "4096");
    client.set("fetch.message.max.bytes", "262144");
    client.set("fetch.queue.backoff.ms", "50");
    client.set("fetch.error.backoff.ms", "500");
    client
}

fn common(kafka: &Kafka, group: &str) -> ClientConfig {
    let mut client = shared(kafka);
    client.set("client.id", "portcullis-worker-audit");
    client.set("group.id", group);
    client.set("enable.auto.commit", "false");
    client.set("enable.auto.offset.store", "false");
    client
}

/// The client repeats itself while a broker is away; the audit tells the change.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Quiet {}

//! How the audit talks to Kafka.

use std::time::Duration;

use portcullis_schema::kafka::Kafka;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;

use crate::stream::client::{Quiet, shared};

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
    // A question for the ends waits behind a fetch that finds nothing, for each partition: by default 500 ms.
    client.set("fetch.wait.max.ms", "100");
    client
}

/// Whether Kafka answers a client that has not met it before.
pub(super) fn is_answered(kafka: &Kafka, group: &str) -> bool {
    let client: KafkaResult<BaseConsumer<Quiet>> = common(kafka, group).create_with_context(Quiet);
    client.is_ok_and(|client| {
        let answer = client.fetch_metadata(Some(&kafka.topics.ledger), ANSWER_MAX);
        answer.is_ok_and(|metadata| !metadata.brokers().is_empty())
    })
}

fn common(kafka: &Kafka, group: &str) -> ClientConfig {
    let mut client = shared(kafka);
    client.set("client.id", "portcullis-worker-audit");
    client.set("group.id", group);
    client.set("enable.auto.commit", "false");
    client.set("enable.auto.offset.store", "false");
    client
}

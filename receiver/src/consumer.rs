//! The client for topics that a receiver reads whole, by itself.

use portcullis_schema::kafka::Kafka;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut};

/// No member ever joins it and nothing is committed to it, but the client asks for one, and for its coordinator: a
/// cluster with access rights has to let the receiver describe it.
pub(crate) const GROUP: &str = "portcullis-receiver-unused";

/// A consumer that is assigned its partitions and commits nothing.
pub(crate) fn new(kafka: &Kafka) -> Result<BaseConsumer<Quiet>, KafkaError> {
    config(kafka).create_with_context(Quiet)
}

/// One that reads what is there and goes on elsewhere: a fetch that finds nothing any more would hold up the next one for
/// the usual 500 ms.
pub(crate) fn hurried(kafka: &Kafka) -> Result<BaseConsumer<Quiet>, KafkaError> {
    config(kafka).set("fetch.wait.max.ms", "10").create_with_context(Quiet)
}

fn config(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    // The first wake-up after silence, and the recovery after a fault, must not wait for the defaults of 1 s and 500 ms.
    config
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.error.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "2000")
        // What is fetched ahead of the reader, a partition; the default of 64 MiB is memory that a start never gives back.
        .set("queued.max.messages.kbytes", "1024")
        .set("socket.timeout.ms", "10000");
    for (name, value) in kafka.client_properties() {
        config.set(name, value);
    }
    config
        .set("group.id", GROUP)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("allow.auto.create.topics", "false");
    config
}

/// The client recovers from these by itself; what it cannot is met by a new one.
pub(crate) fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut)
    )
}

/// librdkafka tells each trouble of each connection, again and again; what matters of it is told here, once.
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "consumer");
    }
}

impl ConsumerContext for Quiet {}

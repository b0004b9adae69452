//! How the worker talks to Kafka: the properties that are its own, over those of the operator.

use portcullis_schema::kafka::Kafka;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use tracing::debug;

/// The operator's properties, and what all clients share.
pub(crate) fn shared(kafka: &Kafka) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("client.id", "portcullis-worker");
    // The default of 60 s hides a broker that is frozen.
    client.set("socket.timeout.ms", "15000");
    client.set("reconnect.backoff.max.ms", "2000");
    for (name, value) in kafka.client_properties() {
        client.set(name, value);
    }
    client.set("allow.auto.create.topics", "false");
    client
}

/// Of many partitions, and so exposed to a fault of librdkafka up to 2.12.1: where a broker that comes back knows the
/// leader of some of them and not yet of others, it may read memory that is not its own, and the process dies
/// (<https://github.com/confluentinc/librdkafka/issues/5280>; once in a hundred kills of a broker under load). A
/// supervisor starts the worker again, which counts from its commits; nothing is lost but the seconds between.
pub(super) fn consumer(kafka: &Kafka, group: &str) -> ClientConfig {
    let mut client = shared(kafka);
    client.set("group.id", group);
    // A worker that joins or leaves takes no partition, and so no window, from those that keep theirs, and nobody
    // pauses. The price: partitions are shared by their number, not topic by topic, so one worker may have more of
    // the callbacks and another more of the signals; both cost about the same.
    client.set("partition.assignment.strategy", "cooperative-sticky");
    // Offsets follow what they led to: they are stored here when that is acknowledged, and the client commits what
    // is stored, twice a second and before a partition is given away. A crash repeats half a second of records.
    client.set("enable.auto.offset.store", "false");
    client.set("enable.auto.commit", "true");
    client.set("auto.commit.interval.ms", "500");
    client.set("auto.offset.reset", "earliest");
    // From a callback to the refusal of the next one a tenth of a second may pass, with two reads in between, and the
    // defaults are 1 s and 500 ms. A fetch itself may wait: a broker answers it as soon as there is something.
    client.set("fetch.queue.backoff.ms", "10");
    client.set("fetch.error.backoff.ms", "50");
    // 16 MiB are 20,000 records: a second's work. The default of 64 MiB only makes a restart larger.
    client.set("queued.max.messages.kbytes", "16384");
    // New partitions and topics are noticed within this.
    client.set("topic.metadata.refresh.interval.ms", "30000");
    client
}

/// For questions. It is a member of no group, but the client asks for the name of one.
pub(super) fn asker(kafka: &Kafka, group: &str) -> ClientConfig {
    let mut client = shared(kafka);
    client.set("client.id", "portcullis-worker-ends");
    client.set("group.id", group);
    client.set("enable.auto.commit", "false");
    client
}

pub(super) fn producer(kafka: &Kafka) -> ClientConfig {
    let mut client = shared(kafka);
    client.set("acks", "all");
    client.set("enable.idempotence", "true");
    client.set("compression.type", "lz4");
    client.set("linger.ms", "1");
    // The partition that a Java client would choose too.
    client.set("partitioner", "murmur2_random");
    // Then the reason is told and it is tried again, for ever.
    client.set("message.timeout.ms", "30000");
    client
}

/// The client repeats itself while a broker is away; who uses it tells the change.
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Quiet {}

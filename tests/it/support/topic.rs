use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use portcullis_schema::{AuditRecord, Finding, Verdict};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use super::{Kafka, PATIENCE};

const POLL: Duration = Duration::from_millis(20);

/// A whole topic, read from its beginning as any client could.
pub(crate) struct Topic {
    name: String,
    partitions: Range<i32>,
    consumer: BaseConsumer,
    kept: Vec<Kept>,
}

/// A message of it.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: String,
    pub(crate) at_millis: Option<i64>,
    pub(crate) headers: BTreeMap<String, String>,
    /// Empty for a null.
    pub(crate) value: String,
}

impl Topic {
    /// One of the topics of `kafka`.
    pub(crate) fn of(kafka: &Kafka, name: &str) -> Self {
        let plan = kafka.topics.plans().into_iter().find(|plan| plan.name == name);
        Self::of_partitions(kafka, name, 0..plan.expect("one of the topics").partitions)
    }

    /// Some of its partitions.
    pub(crate) fn of_partitions(kafka: &Kafka, name: &str, partitions: Range<i32>) -> Self {
        let consumer: BaseConsumer = client(kafka)
            .set("group.id", "unused")
            .set("enable.auto.commit", "false")
            // Never past anything, should a broker that comes back not know a position at once.
            .set("auto.offset.reset", "earliest")
            .create()
            .expect("a consumer");
        let mut assignment = TopicPartitionList::new();
        for partition in partitions.clone() {
            assignment
                .add_partition_offset(name, partition, Offset::Beginning)
                .expect("an offset");
        }
        consumer.assign(&assignment).expect("assigned");
        Self {
            name: name.to_owned(),
            partitions,
            consumer,
            kept: Vec::new(),
        }
    }

    /// Reads on until what was read fulfils `condition`; panics with `what` when that takes too long.
    #[track_caller]
    pub(crate) fn read_until(&mut self, what: &str, mut condition: impl FnMut(&[Kept]) -> bool) -> &[Kept] {
        let began = Instant::now();
        while !condition(&self.kept) {
            assert!(
                began.elapsed() < PATIENCE,
                "not within {PATIENCE:?}: {what}; {} messages of {} were read",
                self.kept.len(),
                self.name
            );
            self.take_what_is_there();
        }
        &self.kept
    }

    /// Reads everything that is in it at this moment.
    #[track_caller]
    pub(crate) fn read_to_end(&mut self) -> &[Kept] {
        let ends = self.ends().expect("the ends of its partitions");
        let began = Instant::now();
        while !self.has_reached(&ends) {
            assert!(began.elapsed() < PATIENCE, "{} is not read to its end", self.name);
            self.take_what_is_there();
        }
        &self.kept
    }

    /// The next offset of each partition.
    pub(crate) fn ends(&self) -> KafkaResult<Vec<i64>> {
        self.partitions
            .clone()
            .map(|partition| {
                let marks = self.consumer.fetch_watermarks(&self.name, partition, PATIENCE)?;
                Ok(marks.1)
            })
            .collect()
    }

    /// What has come by now, at most so many messages, without a wait and without a memory of them here.
    pub(crate) fn take(&mut self, messages_max: usize) -> Vec<Kept> {
        let come = std::iter::from_fn(|| self.consumer.poll(Duration::ZERO));
        let come = come.take(messages_max).filter_map(Result::ok);
        come.map(|message| Kept::of(&message)).collect()
    }

    fn has_reached(&self, ends: &[i64]) -> bool {
        let positions = self.consumer.position().expect("positions");
        self.partitions.clone().zip(ends).all(|(partition, end)| {
            let position = positions.find_partition(&self.name, partition).map(|at| at.offset());
            *end == 0 || matches!(position, Some(Offset::Offset(offset)) if offset >= *end)
        })
    }

    fn take_what_is_there(&mut self) {
        // Troubles of connections pass, or the caller's patience ends.
        while let Some(polled) = self.consumer.poll(POLL) {
            self.kept.extend(polled.ok().as_ref().map(Kept::of));
        }
    }
}

impl Kept {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).expect("text");
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: text(message.key()),
            at_millis: message.timestamp().to_millis(),
            headers: headers
                .map(|header| (header.key.to_owned(), text(header.value)))
                .collect(),
            value: text(message.payload()),
        }
    }

    #[track_caller]
    pub(crate) fn record(&self) -> AuditRecord {
        AuditRecord::decode(self.value.as_bytes()).expect("a record")
    }

    #[track_caller]
    pub(crate) fn finding(&self) -> Finding {
        Finding::decode(self.value.as_bytes()).expect("a finding")
    }

    #[track_caller]
    pub(crate) fn verdict(&self) -> Verdict {
        Verdict::decode(self.value.as_bytes()).expect("a verdict")
    }
}

/// Writes keys and values into a topic, as any client could, and waits until Kafka has them.
pub(crate) fn publish(kafka: &Kafka, topic: &str, messages: impl Iterator<Item = (String, Vec<u8>)>) {
    let producer: BaseProducer = client(kafka)
        .set("partitioner", "murmur2_random")
        .create()
        .expect("a producer");
    for (key, value) in messages {
        let record = BaseRecord::to(topic).key(&key).payload(&value);
        producer.send(record).map_err(|(error, _)| error).expect("room");
    }
    producer.flush(PATIENCE).expect("acknowledged");
}

/// Writes one message to a partition of the writer's choice, with a time in milliseconds; without a value, a null.
pub(crate) fn publish_at(kafka: &Kafka, topic: &str, (partition, at): (i32, i64), key: &str, value: Option<&[u8]>) {
    let producer: BaseProducer = client(kafka).create().expect("a producer");
    let mut record = BaseRecord::to(topic).partition(partition).timestamp(at).key(key);
    record.payload = value;
    producer.send(record).map_err(|(error, _)| error).expect("room");
    producer.flush(PATIENCE).expect("acknowledged");
}

fn client(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.bootstrap)
        .set("reconnect.backoff.max.ms", "500")
        .set("fetch.wait.max.ms", kafka.fetch_wait_max_ms());
    config
}

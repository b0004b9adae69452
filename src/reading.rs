//! A topic read up to the ends that it has when the reading begins, for the commands that do one thing and end.

use std::collections::HashMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use portcullis_schema::Timestamp;
use portcullis_schema::kafka::Kafka;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use crate::failure::Failure;
use crate::kafka::{ANSWER_MAX, Witness, client, failure, partitions};

const POLL: Duration = Duration::from_millis(100);
/// A broker that sends nothing for that long while there is something to send is away.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// A client that reads.
pub(crate) struct Reading<'k> {
    kafka: &'k Kafka,
    doing: &'static str,
    witness: Witness,
    consumer: BaseConsumer<Witness>,
}

/// What is to be read of a topic.
pub(crate) struct Extent<'t> {
    topic: &'t str,
    pub(crate) parts: Vec<Part>,
}

/// What is to be read of a partition, in offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) partition: i32,
    /// The first that is kept.
    pub(crate) kept: i64,
    /// The first that is read, which may lie above.
    pub(crate) start: i64,
    /// Behind the last.
    pub(crate) end: i64,
}

impl<'k> Reading<'k> {
    /// `doing` is what did not happen where it fails.
    pub(crate) fn new(kafka: &'k Kafka, doing: &'static str) -> Result<Self, Failure> {
        let witness = Witness::default();
        let mut config = client(kafka);
        config
            .set("group.id", "portcullis-reading") // demanded by assign; nothing is ever stored for it
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            // 16 MiB are 20,000 records, beside what is under way. The defaults only make the process larger.
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.wait.max.ms", "10")
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.error.backoff.ms", "50");
        let consumer = config.create_with_context(witness.clone());
        let consumer = consumer.map_err(|error| failure(kafka, &witness, doing, &error))?;
        Ok(Self {
            kafka,
            doing,
            witness,
            consumer,
        })
    }

    /// All that is kept of `topic` at this moment.
    pub(crate) fn whole<'t>(&self, topic: &'t str) -> Result<Extent<'t>, Failure> {
        let count = partitions(self.kafka, topic, self.doing)?;
        let mut parts = Vec::new();
        for partition in (0..).take(count) {
            let (kept, end) = self.told(bounds(&self.consumer, topic, partition))?;
            parts.push(Part {
                partition,
                kept,
                start: kept,
                end,
            });
        }
        Ok(Extent { topic, parts })
    }

    /// The same, without what lies before the first message with the time `from` or a later one.
    pub(crate) fn since<'t>(&self, topic: &'t str, from: Timestamp) -> Result<Extent<'t>, Failure> {
        let mut extent = self.whole(topic)?;
        let starts = self.told(starts(&self.consumer, &extent, from))?;
        for part in &mut extent.parts {
            let start = starts.get(&part.partition).copied().unwrap_or(part.end);
            part.start = start.clamp(part.kept, part.end);
        }
        Ok(extent)
    }

    /// Hands over each message, those of a partition in their order. Where retention cuts the old end off meanwhile,
    /// the first offsets are left out.
    pub(crate) fn read(&self, extent: &Extent<'_>, each: impl FnMut(&BorrowedMessage<'_>)) -> Result<(), Failure> {
        self.told(read(&self.consumer, extent, each))
    }

    fn told<T>(&self, answered: KafkaResult<T>) -> Result<T, Failure> {
        answered.map_err(|error| failure(self.kafka, &self.witness, self.doing, &error))
    }
}

impl Extent<'_> {
    /// How many messages it is at most.
    pub(crate) fn messages(&self) -> u64 {
        let messages = self.parts.iter().map(|part| part.end.saturating_sub(part.start));
        messages.filter_map(|messages| u64::try_from(messages).ok()).sum()
    }
}

/// A partition that was made or moved this moment has nobody to answer for it yet.
fn bounds(consumer: &BaseConsumer<Witness>, topic: &str, partition: i32) -> KafkaResult<(i64, i64)> {
    let deadline = Instant::now() + ANSWER_MAX;
    loop {
        match consumer.fetch_watermarks(topic, partition, ANSWER_MAX) {
            Err(error) if is_passing(&error) && Instant::now() < deadline => sleep(RETRY_PAUSE),
            answered => return answered,
        }
    }
}

fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
        )
    )
}

/// Of each partition that has a message of that time or later.
fn starts(consumer: &BaseConsumer<Witness>, extent: &Extent<'_>, from: Timestamp) -> KafkaResult<HashMap<i32, i64>> {
    let mut asked = TopicPartitionList::new();
    for part in &extent.parts {
        let from = Offset::Offset(from.as_millis().max(0));
        asked.add_partition_offset(extent.topic, part.partition, from)?;
    }
    let answered = consumer.offsets_for_times(asked, ANSWER_MAX)?;
    let mut starts = HashMap::new();
    for element in answered.elements() {
        element.error()?;
        if let Offset::Offset(start) = element.offset() {
            starts.insert(element.partition(), start);
        }
    }
    Ok(starts)
}

/// A partition is done when its position reaches its end, or librdkafka says that it has: the last offset of a
/// compacted topic may never be delivered.
fn read(
    consumer: &BaseConsumer<Witness>,
    extent: &Extent<'_>,
    mut each: impl FnMut(&BorrowedMessage<'_>),
) -> KafkaResult<()> {
    let mut assigned = TopicPartitionList::new();
    let mut ends = HashMap::new();
    for part in extent.parts.iter().filter(|part| part.start < part.end) {
        assigned.add_partition_offset(extent.topic, part.partition, Offset::Offset(part.start))?;
        ends.insert(part.partition, part.end);
    }
    consumer.assign(&assigned)?;
    let mut heard = Instant::now();
    while !ends.is_empty() {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                heard = Instant::now();
                // Of a partition that is done comes what was written since.
                let Some(end) = ends.get(&message.partition()).copied() else {
                    continue;
                };
                if message.offset() + 1 >= end {
                    ends.remove(&message.partition());
                }
                if message.offset() < end {
                    each(&message);
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ends.remove(&partition);
            }
            Some(Err(error)) if heard.elapsed() > SILENCE_MAX => return Err(error),
            None if heard.elapsed() > SILENCE_MAX => return Err(KafkaError::NoMessageReceived),
            Some(Err(_)) | None => {}
        }
    }
    consumer.unassign()
}

use std::collections::HashSet;
use std::time::{Duration, Instant};

use portcullis_schema::kafka::Kafka;
use portcullis_schema::{Timestamp, Uuid, headers};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode::{
    GroupAuthorizationFailed, TopicAuthorizationFailed, UnknownTopic, UnknownTopicOrPartition,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{Message, Offset, TopicPartitionList};
use tracing::debug;

use super::{GoesOn, NAP, Sought, Unread};
use crate::consumer::{self, Quiet};

/// How long the broker may take to answer one question.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// The whole of the reading: some hundred thousand messages. Ours come first, so most are found by then even where
/// others have written far more since.
const READ_MAX: Duration = Duration::from_secs(5);
/// Without a message for that long the broker stands still, or a leader is gone.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// So many messages at the end of a partition are read whatever their timestamps say: a broker that stamps by its own
/// clock may be behind this one. With 12 partitions, 10 MB.
const LAST_ALWAYS: i64 = 1_000;

/// Moves the ids that are in the topic from `sought` to `present`.
pub(super) fn read(
    kafka: &Kafka,
    topic: &str,
    sought: &mut Sought,
    present: &mut HashSet<Uuid>,
    goes_on: GoesOn<'_>,
) -> Result<(), Unread> {
    let consumer = consumer::hurried(kafka).map_err(Unread::Failed)?;
    let partitions = partitions(&consumer, topic)?;
    let stretches = stretches(&consumer, topic, partitions, sought.least, goes_on)?;
    let began = Instant::now();
    for stretch in stretches {
        if sought.ids.is_empty() {
            break;
        }
        let until = began + READ_MAX;
        read_stretch(&consumer, topic, stretch, until, sought, present, goes_on)?;
    }
    Ok(())
}

/// A part of a partition.
struct Stretch {
    partition: i32,
    from: i64,
    end: i64,
}

/// One partition after the other, not all at once: where a broker that comes back knows the leader of some of the
/// partitions that are fetched and not of others, librdkafka up to 2.12.1 reads memory that is not its own
/// (<https://github.com/confluentinc/librdkafka/issues/5280>), and a broker that comes back is what this is for.
fn read_stretch(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    stretch: Stretch,
    until: Instant,
    sought: &mut Sought,
    present: &mut HashSet<Uuid>,
    goes_on: GoesOn<'_>,
) -> Result<(), Unread> {
    let mut assignment = TopicPartitionList::new();
    let from = Offset::Offset(stretch.from);
    assignment
        .add_partition_offset(topic, stretch.partition, from)
        .map_err(failed)?;
    consumer.assign(&assignment).map_err(failed)?;
    let (mut heard, mut asked) = (Instant::now(), Instant::now());
    while !sought.ids.is_empty() {
        if asked.elapsed() >= NAP {
            asked = Instant::now();
            if !goes_on() {
                return Err(Unread::Stopped);
            }
        }
        if Instant::now() > until {
            return Err(Unread::TooLong);
        }
        match consumer.poll(NAP) {
            Some(Ok(message)) => {
                heard = Instant::now();
                if let Some(id) = id_of(&message).filter(|id| sought.ids.remove(id)) {
                    present.insert(id);
                }
                if message.partition() == stretch.partition && message.offset() + 1 >= stretch.end {
                    break;
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) if partition == stretch.partition => break,
            Some(Err(error)) if is_forbidden(&error) => return Err(failed(error)),
            Some(Err(error)) => debug!(%error, topic, "comparing"),
            None if heard.elapsed() > SILENCE_MAX => return Err(Unread::Silent),
            None => {}
        }
    }
    Ok(())
}

/// How many the topic has, none where it does not exist. The first question: without an answer, Kafka is away.
fn partitions(consumer: &BaseConsumer<Quiet>, topic: &str) -> Result<i32, Unread> {
    let metadata = consumer
        .fetch_metadata(Some(topic), ASK_TIMEOUT)
        .map_err(Unread::Away)?;
    let Some(described) = metadata.topics().first() else {
        return Ok(0);
    };
    let error: Option<RDKafkaErrorCode> = described.error().map(Into::into);
    match error.map(KafkaError::MetadataFetch) {
        None => Ok(i32::try_from(described.partitions().len()).unwrap_or(i32::MAX)),
        Some(KafkaError::MetadataFetch(UnknownTopic | UnknownTopicOrPartition)) => Ok(0),
        Some(error) => Err(failed(error)),
    }
}

/// Where a record of ours may lie, in each partition that is not empty from there on.
fn stretches(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    partitions: i32,
    least: Timestamp,
    goes_on: GoesOn<'_>,
) -> Result<Vec<Stretch>, Unread> {
    let mut stretches = Vec::new();
    if partitions == 0 {
        return Ok(stretches);
    }
    let mut times = TopicPartitionList::new();
    for partition in 0..partitions {
        let time = Offset::Offset(least.as_millis());
        times.add_partition_offset(topic, partition, time).map_err(failed)?;
    }
    let starts = consumer.offsets_for_times(times, ASK_TIMEOUT).map_err(failed)?;
    for start in starts.elements() {
        if !goes_on() {
            return Err(Unread::Stopped);
        }
        start.error().map_err(failed)?;
        let partition = start.partition();
        let (low, end) = consumer
            .fetch_watermarks(topic, partition, ASK_TIMEOUT)
            .map_err(failed)?;
        let last = (end - LAST_ALWAYS).max(low);
        let from = match start.offset() {
            Offset::Offset(offset) => offset.min(last),
            // No message is as late.
            _ => last,
        };
        if from < end {
            stretches.push(Stretch { partition, from, end });
        }
    }
    Ok(stretches)
}

fn failed(error: KafkaError) -> Unread {
    match error.rdkafka_error_code() {
        Some(TopicAuthorizationFailed) => Unread::Forbidden,
        Some(GroupAuthorizationFailed) => Unread::NoGroup,
        _ => Unread::Failed(error),
    }
}

fn is_forbidden(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(TopicAuthorizationFailed | GroupAuthorizationFailed)
    )
}

fn id_of(message: &BorrowedMessage<'_>) -> Option<Uuid> {
    let header = message.headers()?.iter().find(|header| header.key == headers::ID)?;
    Uuid::try_parse_ascii(header.value?).ok()
}

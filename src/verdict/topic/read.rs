use std::collections::HashMap;
use std::io::{IsTerminal, stderr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use portcullis_schema::kafka::Kafka;
use portcullis_schema::{Verdict, VerdictKey};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use crate::failure::Failure;
use crate::kafka::{ANSWER_MAX, Witness, client, failure, partitions};

const DOING: &str = "the verdicts were not read";
const POLL: Duration = Duration::from_millis(100);
/// A broker that sends nothing for that long while there is something to send is away.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const RETRY_PAUSE: Duration = Duration::from_millis(50);
const PROGRESS_EVERY: usize = 50_000;

/// What the topic holds: the latest for each key.
#[derive(Default)]
pub(in crate::verdict) struct Held {
    /// Expired ones too, in the order of their keys.
    pub(in crate::verdict) verdicts: Vec<Verdict>,
    /// What has the key of a verdict and is none, and why.
    pub(in crate::verdict) unreadable: Vec<String>,
}

/// Reads the whole topic, up to the ends that it has now.
pub(in crate::verdict) fn read(kafka: &Kafka) -> Result<Held, Failure> {
    let topic = &kafka.topics.verdicts;
    let count = partitions(kafka, topic, DOING)?;
    let witness = Witness::default();
    let failed = |error: KafkaError| failure(kafka, &witness, DOING, &error);
    let mut config = client(kafka);
    config
        .set("group.id", "portcullis-verdicts") // demanded by assign; nothing is ever stored for it
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "10")
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.error.backoff.ms", "50");
    let consumer: BaseConsumer<Witness> = config.create_with_context(witness.clone()).map_err(failed)?;
    let ends = ends(&consumer, topic, count).map_err(failed)?;
    let latest = read_to(&consumer, topic, ends).map_err(failed)?;
    Ok(Held::from(latest))
}

/// The end of each partition that is not empty.
fn ends(consumer: &BaseConsumer<Witness>, topic: &str, count: usize) -> KafkaResult<HashMap<i32, i64>> {
    let mut ends = HashMap::new();
    for partition in (0..).take(count) {
        let (start, end) = bounds(consumer, topic, partition)?;
        if start < end {
            ends.insert(partition, end);
        }
    }
    Ok(ends)
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

/// A value for each key; `None` where it was lifted.
type Latest = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// A partition is done when its position reaches its end, or librdkafka says that it has: the last offset of a
/// compacted topic may never be delivered.
fn read_to(consumer: &BaseConsumer<Witness>, topic: &str, mut ends: HashMap<i32, i64>) -> KafkaResult<Latest> {
    let mut assigned = TopicPartitionList::new();
    for partition in ends.keys() {
        assigned.add_partition_offset(topic, *partition, Offset::Beginning)?;
    }
    consumer.assign(&assigned)?;
    let mut latest = Latest::new();
    let mut read: usize = 0;
    let mut heard = Instant::now();
    while !ends.is_empty() {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                heard = Instant::now();
                read += 1;
                if ends
                    .get(&message.partition())
                    .is_some_and(|end| message.offset() + 1 >= *end)
                {
                    ends.remove(&message.partition());
                }
                keep(&mut latest, &message);
                tell_progress(read);
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ends.remove(&partition);
            }
            Some(Err(error)) if heard.elapsed() > SILENCE_MAX => return Err(error),
            None if heard.elapsed() > SILENCE_MAX => return Err(KafkaError::NoMessageReceived),
            Some(Err(_)) | None => {}
        }
    }
    Ok(latest)
}

fn keep(latest: &mut Latest, message: &BorrowedMessage<'_>) {
    if let Some(key) = message.key() {
        latest.insert(key.to_vec(), message.payload().map(<[u8]>::to_vec));
    }
}

fn tell_progress(read: usize) {
    if read.is_multiple_of(PROGRESS_EVERY) && stderr().is_terminal() {
        eprintln!("{read} verdicts read");
    }
}

impl From<Latest> for Held {
    /// A key that is none of a verdict belongs to something else that the topic carries, such as heartbeats.
    fn from(latest: Latest) -> Self {
        let mut held = Self::default();
        for (key, value) in latest {
            let key = String::from_utf8_lossy(&key);
            let Some(value) = value.filter(|_| key.parse::<VerdictKey>().is_ok()) else {
                continue;
            };
            match Verdict::decode(&value) {
                Ok(verdict) => held.verdicts.push(verdict),
                Err(error) => held.unreadable.push(format!("{}: {error}", key.escape_debug())),
            }
        }
        held.verdicts.sort_by_cached_key(Verdict::key);
        held.unreadable.sort();
        held
    }
}

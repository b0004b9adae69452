use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use portcullis_schema::kafka::Kafka;
use portcullis_schema::{Reached, Standstill, Timestamp};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::debug;

use super::client::{self, ANSWER_MAX};
use crate::stream::client::Quiet;

/// Every partition of the three topics, read from about the same moment on.
pub(super) struct Reading {
    consumer: BaseConsumer<Quiet>,
    topics: [String; 3],
    /// The offset that comes next.
    next: Offsets,
    /// Whether a partition has lost its old end, so that older records may be cut off.
    pub(super) is_cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Topic {
    Callbacks,
    DeadLetters,
    Ledger,
}

pub(super) type Place = (Topic, i32);

pub(super) type Offsets = BTreeMap<Place, i64>;

/// What the audit has to begin anew for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error("topic {0} does not exist, or may not be read; portcullis topics create")]
    NoTopic(String),
    #[error("a topic has another number of partitions than before")]
    Partitions,
    #[error("nothing of partition {partition} of {topic} comes though it goes on from {next} to {end}")]
    Standstill {
        topic: String,
        partition: i32,
        next: i64,
        end: i64,
    },
}

const ALL: [Topic; 3] = [Topic::Callbacks, Topic::DeadLetters, Topic::Ledger];

impl Reading {
    pub(super) fn begin(kafka: &Kafka, group: &str, from: Timestamp) -> Result<Self, Trouble> {
        let consumer: BaseConsumer<Quiet> =
            BaseConsumer::from_config_and_context(&client::reader(kafka, group), Quiet)?;
        let names = &kafka.topics;
        let mut reading = Self {
            consumer,
            topics: [
                names.callbacks.clone(),
                names.dead_letters.clone(),
                names.ledger.clone(),
            ],
            next: Offsets::new(),
            is_cut: false,
        };
        for topic in ALL {
            let starts = reading.starts(topic, from)?;
            reading.next.extend(starts);
        }
        let mut assigned = TopicPartitionList::new();
        for ((topic, partition), next) in &reading.next {
            assigned.add_partition_offset(reading.name(*topic), *partition, Offset::Offset(*next))?;
        }
        reading.consumer.assign(&assigned)?;
        Ok(reading)
    }

    /// The next message, and which topic it is of.
    pub(super) fn poll(&mut self, wait: Duration) -> Option<KafkaResult<(Topic, BorrowedMessage<'_>)>> {
        let message = match self.consumer.poll(wait)? {
            Ok(message) => message,
            Err(error) => return Some(Err(error)),
        };
        let topic = ALL
            .into_iter()
            .find(|topic| self.topics[*topic as usize] == message.topic())?;
        self.next.insert((topic, message.partition()), message.offset() + 1);
        Some(Ok((topic, message)))
    }

    /// Where the records and the dead letters end now.
    pub(super) fn ends(&self) -> Result<Offsets, Trouble> {
        let mut ends = Offsets::new();
        for topic in [Topic::Callbacks, Topic::DeadLetters] {
            let known = self.next.keys().filter(|(of, _)| *of == topic).count();
            // A record in a partition that is not read would be taken for missing.
            if self.partitions(topic)? != known {
                return Err(Trouble::Partitions);
            }
            for partition in (0..).take(known) {
                let (_, end) = self
                    .consumer
                    .fetch_watermarks(self.name(topic), partition, ANSWER_MAX)?;
                ends.insert((topic, partition), end);
            }
        }
        Ok(ends)
    }

    /// Compares what was read with `ends`, which have just been asked for.
    pub(super) fn look(&self, ends: &Offsets, standstill: &mut Standstill<Place>) -> Result<(), Trouble> {
        let next = |place| self.next.get(place).copied().unwrap_or(0);
        let reached = ends.iter().map(|(place, end)| Reached {
            partition: *place,
            next: next(place),
            end: *end,
        });
        let Some(still) = standstill.look(Instant::now(), reached) else {
            return Ok(());
        };
        let (topic, partition) = still.partition;
        Err(Trouble::Standstill {
            topic: self.name(topic).to_owned(),
            partition,
            next: still.next,
            end: still.end,
        })
    }

    pub(super) fn has_passed(&self, ends: &Offsets) -> bool {
        ends.iter()
            .all(|(place, end)| self.next.get(place).is_some_and(|next| next >= end))
    }

    fn starts(&mut self, topic: Topic, from: Timestamp) -> Result<Offsets, Trouble> {
        let mut asked = TopicPartitionList::new();
        let mut bounds = BTreeMap::new();
        for partition in (0..).take(self.partitions(topic)?) {
            // Before the question for the time: what comes between them is read.
            let known = self
                .consumer
                .fetch_watermarks(self.name(topic), partition, ANSWER_MAX)?;
            bounds.insert(partition, known);
            let from = Offset::Offset(from.as_millis().max(0));
            asked.add_partition_offset(self.name(topic), partition, from)?;
        }
        let answered = self.consumer.offsets_for_times(asked, ANSWER_MAX)?;
        let mut starts = Offsets::new();
        for (partition, (kept, end)) in bounds {
            let found = answered.find_partition(self.name(topic), partition);
            let start = match found.map(|found| found.offset()) {
                Some(Offset::Offset(start)) => start,
                _ => end,
            };
            self.is_cut |= topic == Topic::Callbacks && start == kept && kept > 0;
            starts.insert((topic, partition), start);
        }
        debug!(?topic, ?starts, "audit begins");
        Ok(starts)
    }

    fn partitions(&self, topic: Topic) -> Result<usize, Trouble> {
        let metadata = self.consumer.fetch_metadata(Some(self.name(topic)), ANSWER_MAX)?;
        let partitions = metadata.topics().iter().map(|topic| topic.partitions().len()).sum();
        match partitions {
            0 => Err(Trouble::NoTopic(self.name(topic).to_owned())),
            some => Ok(some),
        }
    }

    fn name(&self, topic: Topic) -> &str {
        &self.topics[topic as usize]
    }
}

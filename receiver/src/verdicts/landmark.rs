use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode::OperationTimedOut;
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use crate::consumer::{Quiet, is_passing};

/// How long the broker may take to give one message again.
const ANSWER_MAX: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);

/// A message that was read of a partition: as long as the same one stands at its offset, the topic is the one that it
/// was read from.
///
/// Why not the topic's own id: librdkafka knows it, and the Rust client has no way to ask for it.
///
/// What is not noticed: a topic made anew that has the very same message at the same offset, as a copy of the former
/// one would; and one made anew before any message of the former was read. What looks like a topic made anew and is none:
/// one that compaction took every trace of the landmark from, or that lost its end with a broker. All of such a topic is
/// read again, which costs time and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Landmark {
    offset: i64,
    /// Kafka's, in milliseconds; writers choose it, or the broker.
    at: Option<i64>,
    /// CRC-32 of key and value, each behind its length.
    content: u32,
}

/// What stands where the landmarks stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The same messages.
    Same,
    /// Something else: the topic was made anew.
    Other,
    /// Nothing: compaction took the message away, or the topic was made anew.
    Nothing,
}

impl Landmark {
    pub(super) fn of(message: &BorrowedMessage<'_>) -> Self {
        let mut content = crc32fast::Hasher::new();
        for part in [message.key(), message.payload()] {
            // A null and an empty value are not the same.
            content.update(&part.map_or(u64::MAX, |bytes| bytes.len() as u64).to_be_bytes());
            content.update(part.unwrap_or_default());
        }
        Self {
            offset: message.offset(),
            at: message.timestamp().to_millis(),
            content: content.finalize(),
        }
    }

    /// `message` is the first one that the broker gives from the landmark's offset on, or of the whole partition where
    /// that does not reach as far.
    fn beside(self, message: &BorrowedMessage<'_>) -> Found {
        if message.offset() > self.offset {
            return Found::Nothing;
        }
        match Self::of(message) == self {
            true => Found::Same,
            false => Found::Other,
        }
    }
}

/// Reads the messages at the landmarks again, one for each partition that has one. [`Found::Same`] only where all of them
/// are. Blocks, at most for [`ANSWER_MAX`] a partition; takes the consumer's assignment.
pub(super) fn look(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    landmarks: &[Option<Landmark>],
) -> Result<Found, KafkaError> {
    let mut found = Found::Same;
    for (partition, landmark) in (0..).zip(landmarks) {
        let Some(landmark) = landmark else { continue };
        // One partition at a time, for the reason that `Partitions` has.
        found = look_at(consumer, topic, partition, *landmark)?;
        if found != Found::Same {
            break;
        }
    }
    consumer.unassign()?;
    Ok(found)
}

fn look_at(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    partition: i32,
    landmark: Landmark,
) -> Result<Found, KafkaError> {
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, partition, Offset::Offset(landmark.offset))?;
    consumer.assign(&assignment)?;
    let until = Instant::now() + ANSWER_MAX;
    while Instant::now() < until {
        match consumer.poll(POLL) {
            Some(Ok(message)) if message.partition() == partition => return Ok(landmark.beside(&message)),
            Some(Err(KafkaError::PartitionEOF(ended))) if ended == partition => return Ok(Found::Nothing),
            Some(Err(KafkaError::PartitionEOF(_)) | Ok(_)) | None => {}
            Some(Err(error)) if is_passing(&error) => {}
            Some(Err(error)) => return Err(error),
        }
    }
    Err(KafkaError::MessageConsumption(OperationTimedOut))
}

#[cfg(test)]
mod tests {
    use portcullis_schema::kafka::Kafka;
    use rdkafka::ClientConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    use super::*;
    use crate::consumer;

    const TOPIC: &str = "verdicts";

    fn read_all(consumer: &BaseConsumer<Quiet>) -> Vec<Landmark> {
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(TOPIC, 0, Offset::Beginning)
            .expect("an offset");
        consumer.assign(&assignment).expect("assigned");
        let mut landmarks = Vec::new();
        loop {
            match consumer.poll(ANSWER_MAX) {
                Some(Ok(message)) => landmarks.push(Landmark::of(&message)),
                Some(Err(KafkaError::PartitionEOF(_))) => return landmarks,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn only_the_same_message_at_the_same_offset_proves_the_topic() {
        let cluster = MockCluster::new(1).expect("a test cluster");
        cluster.create_topic(TOPIC, 1, 1).expect("a topic");
        let bootstrap = cluster.bootstrap_servers();
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &bootstrap)
            .create()
            .expect("a producer");
        for value in [Some("a"), Some("b"), Some(""), None] {
            let mut record = BaseRecord::to(TOPIC).key("key").timestamp(7);
            record.payload = value;
            producer.send(record).map_err(|(error, _)| error).expect("room");
        }
        producer.flush(ANSWER_MAX).expect("acknowledged");
        let kafka = Kafka {
            bootstrap,
            ..Kafka::default()
        };
        let consumer = consumer::hurried(&kafka).expect("a consumer");
        let landmarks = read_all(&consumer);
        assert_eq!(landmarks.len(), 4);

        let look = |landmark: Option<Landmark>| look(&consumer, TOPIC, &[landmark]).expect("an answer");
        assert_eq!(look(None), Found::Same);
        for landmark in &landmarks {
            assert_eq!(look(Some(*landmark)), Found::Same, "{landmark:?}");
        }
        for (place, other) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
            let moved = Landmark {
                offset: landmarks[place].offset,
                ..landmarks[other]
            };
            assert_eq!(look(Some(moved)), Found::Other, "{place} {other}");
        }
        let beyond = Landmark {
            offset: 100,
            ..landmarks[0]
        };
        assert_eq!(look(Some(beyond)), Found::Other, "behind the end");
        let gone = Landmark {
            offset: landmarks[3].offset + 1,
            ..landmarks[3]
        };
        assert_eq!(look(Some(gone)), Found::Nothing, "at the end");
    }
}

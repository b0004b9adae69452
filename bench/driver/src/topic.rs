//! One topic for each contestant and round: made before, counted after. Every callback carries its number in its
//! name, so what was answered and is missing can be told from what came twice.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::load::{APP, denied_operator};

/// As many as the product's own default.
const PARTITIONS: i32 = 12;
/// One metadata or offset question; a broker that was frozen needs some seconds to come to itself.
const QUESTION: Duration = Duration::from_secs(30);
/// Until a full queue has room again.
const QUEUE_PAUSE: Duration = Duration::from_millis(20);
/// Nothing new for so long: whoever still owes a record has given it up. Longer than the 10 s freeze's retries.
const STILL: Duration = Duration::from_secs(3);
/// A producer that has not drained by then is counted as it is.
const DRAIN_MAX: Duration = Duration::from_secs(90);

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "bench")
        .set("auto.offset.reset", "earliest");
    config
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "5");
    config
}

/// Makes an empty topic.
pub(crate) fn create(bootstrap: &str, name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create()?;
    let topic = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1));
    let made = async_wait(admin.create_topics([&topic], &AdminOptions::new()))?;
    for outcome in made {
        outcome.map_err(|(topic, code)| format!("topic {topic} could not be made: {code}"))?;
    }
    Ok(())
}

/// The admin client answers by a future and librdkafka's own thread completes it, so waiting needs no runtime.
fn async_wait<T>(future: impl Future<Output = Result<T, KafkaError>>) -> Result<T, KafkaError> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(outcome) = future.as_mut().poll(&mut context) {
            return outcome;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Writes a verdict for each of so many denied operators, as any Kafka client could.
pub(crate) fn write_verdicts(bootstrap: &str, topic: &str, denied: u64) -> Result<(), Box<dyn std::error::Error>> {
    let producer: BaseProducer = client(bootstrap)
        .set("acks", "all")
        .set("queue.buffering.max.messages", "200000")
        .create()?;
    for index in 0..denied {
        let operator = denied_operator(index);
        let verdict = serde_json::json!({
            "id": format!("01935e1c-0000-7000-8000-{index:012x}"), "app": APP,
            "subject": {"kind": "operator", "value": operator}, "commands": [], "effect": "deny", "code": 10_101,
            "text": "denied", "source": "moderator", "reason": "bench", "by": "bench",
            "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2099-01-01T00:00:00Z",
        });
        let key = format!("{APP}/operator/{operator}/moderator");
        let payload = verdict.to_string();
        let mut record = BaseRecord::to(topic).key(&key).payload(&payload);
        while let Err((error, refused)) = producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            producer.poll(QUEUE_PAUSE);
            record = refused;
        }
    }
    producer.flush(QUESTION)?;
    Ok(())
}

fn ends(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i64>, KafkaError> {
    (0..PARTITIONS)
        .map(|partition| Ok(consumer.fetch_watermarks(topic, partition, QUESTION)?.1))
        .collect()
}

/// Waits until nothing more arrives; when the last record was seen to arrive.
pub(crate) fn wait_until_still(bootstrap: &str, topic: &str) -> Result<Instant, KafkaError> {
    let consumer: BaseConsumer = client(bootstrap).create()?;
    let started = Instant::now();
    let (mut before, mut changed) = (ends(&consumer, topic)?, Instant::now());
    while changed.elapsed() < STILL && started.elapsed() < DRAIN_MAX {
        std::thread::sleep(Duration::from_millis(100));
        let now = ends(&consumer, topic)?;
        if now != before {
            (before, changed) = (now, Instant::now());
        }
    }
    Ok(changed)
}

/// How often each callback's number stands in the topic.
pub(crate) fn count(bootstrap: &str, topic: &str) -> Result<HashMap<u64, u32>, Box<dyn std::error::Error>> {
    let consumer: BaseConsumer = client(bootstrap).create()?;
    let ends = ends(&consumer, topic)?;
    let mut assignment = TopicPartitionList::new();
    let mut missing: u64 = 0;
    for (partition, end) in (0..).zip(&ends) {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        missing += u64::try_from(*end)?;
    }
    consumer.assign(&assignment)?;
    let mut counts = HashMap::new();
    let mut heard = Instant::now();
    while missing > 0 {
        if heard.elapsed() > QUESTION {
            return Err(format!("{missing} records of {topic} could not be read").into());
        }
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message?;
        heard = Instant::now();
        missing -= 1;
        if let Some(number) = message.payload().and_then(number) {
            *counts.entry(number).or_default() += 1;
        }
    }
    Ok(counts)
}

/// The number in a record's name, wherever the contestant has put the name.
fn number(payload: &[u8]) -> Option<u64> {
    const MARK: &[u8] = b"\"callback-";
    let start = payload.windows(MARK.len()).position(|bytes| bytes == MARK)? + MARK.len();
    let digits = payload[start..].split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_record_is_known_by_the_number_in_its_name() {
        assert_eq!(number(br#"{"body":{"Name":"callback-42","Type":"x"}}"#), Some(42));
        assert_eq!(number(br#"{"body":{"Name": "callback-7"}}"#), Some(7));
        assert_eq!(number(br#"{"name":"other"}"#), None);
    }
}

use std::time::{Duration, Instant};

use portcullis_schema::kafka::Kafka;
use portcullis_schema::{Verdict, VerdictKey, headers};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord};

use crate::failure::Failure;
use crate::kafka::{Witness, client, failure, partitions};

const DOING: &str = "the verdict was not written";
/// After that long a person wants to know; librdkafka reports every message by then.
const ACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
const SOURCE: &str = "/moderators";

/// Returns when Kafka has the verdict on all replicas.
pub(in crate::verdict) fn issue(kafka: &Kafka, verdict: &Verdict) -> Result<(), Failure> {
    let value = verdict.encode().map_err(|error| Failure::Usage(error.to_string()))?;
    let (id, time) = (verdict.id.to_string(), verdict.issued_at.to_string());
    let headers = [
        (headers::SPEC_VERSION, headers::SPEC_VERSION_VALUE),
        (headers::ID, &id),
        (headers::TYPE, headers::TYPE_VERDICT),
        (headers::SOURCE, SOURCE),
        (headers::TIME, &time),
        (headers::CONTENT_TYPE, headers::CONTENT_TYPE_VALUE),
    ];
    let headers = headers.into_iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        let value = Some(value);
        headers.insert(Header { key, value })
    });
    let (key, topic) = (verdict.key().to_string(), &kafka.topics.verdicts);
    let record = BaseRecord::to(topic).key(&key).payload(&value).headers(headers);
    send(kafka, vec![record])
}

/// Returns when Kafka has a null for each key on all replicas.
pub(in crate::verdict) fn lift(kafka: &Kafka, keys: &[VerdictKey]) -> Result<(), Failure> {
    let keys: Vec<String> = keys.iter().map(VerdictKey::to_string).collect();
    let records = keys.iter().map(|key| BaseRecord::to(&kafka.topics.verdicts).key(key));
    send(kafka, records.collect())
}

fn send(kafka: &Kafka, records: Vec<BaseRecord<'_, String, Vec<u8>>>) -> Result<(), Failure> {
    partitions(kafka, &kafka.topics.verdicts, DOING)?;
    let witness = Witness::default();
    let failed = |error: KafkaError| failure(kafka, &witness, DOING, &error);
    let mut config = client(kafka);
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("message.timeout.ms", ACKNOWLEDGED_MAX.as_millis().to_string());
    let producer: BaseProducer<Witness> = config.create_with_context(witness.clone()).map_err(failed)?;
    let expected = records.len();
    for record in records {
        producer.send(record).map_err(|(error, _)| failed(error))?;
    }
    // Its own report comes first; the second is for a librdkafka that does not keep its word.
    let deadline = Instant::now() + ACKNOWLEDGED_MAX + Duration::from_secs(1);
    while witness.reported() < expected && Instant::now() < deadline {
        producer.poll(Duration::from_millis(20));
    }
    witness.delivered(expected).map_err(failed)
}

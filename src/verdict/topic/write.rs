use std::time::{Duration, Instant};

use portcullis_schema::kafka::Kafka;
use portcullis_schema::{Verdict, VerdictKey, headers};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord};

use super::read::Place;
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
    let (key, topic) = (verdict.key().to_string().into_bytes(), &kafka.topics.verdicts);
    let record = BaseRecord::to(topic).key(&key).payload(&value).headers(headers);
    send(kafka, vec![record])
}

/// Returns when Kafka has a null for each key, and one in each of the places, on all replicas. Without those the verdicts
/// of clients with another partitioner would be kept by compaction, and hold again when the key's null is gone.
pub(in crate::verdict) fn lift<'p>(
    kafka: &Kafka,
    keys: &[VerdictKey],
    places: impl Iterator<Item = &'p Place>,
) -> Result<(), Failure> {
    let topic = &kafka.topics.verdicts;
    let keys: Vec<Vec<u8>> = keys.iter().map(|key| key.to_string().into_bytes()).collect();
    let at_places = places.map(|place| BaseRecord::to(topic).key(&place.written).partition(place.partition));
    let by_keys = keys.iter().map(|key| BaseRecord::to(topic).key(key));
    // Those of the keys are the latest, wherever they are.
    send(kafka, at_places.chain(by_keys).collect())
}

fn send(kafka: &Kafka, records: Vec<BaseRecord<'_, Vec<u8>, Vec<u8>>>) -> Result<(), Failure> {
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

use portcullis_schema::kafka::Kafka;
use portcullis_schema::settings::Section;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::BaseProducer;
use rdkafka::types::RDKafkaConfRes;

use super::MASK;
use crate::kafka::{Witness, client};

const ALLOWED: &str = "what https://github.com/confluentinc/librdkafka/blob/v2.12.1/CONFIGURATION.md lists";

/// librdkafka itself says which properties there are and what they may be. Each is tried alone, so that every mistake
/// is told; then all together, since some contradict each other or name files. `places` knows their lines.
pub(super) fn check(root: &Section, places: &Section, kafka: &Kafka) {
    let mut plain = true;
    for (name, value) in &kafka.properties {
        let alone = ClientConfig::from_iter([(name.clone(), value.clone())]);
        let Err(error) = alone.create_native_config() else {
            continue;
        };
        plain = false;
        let key = format!("kafka.properties.{name}");
        root.mistake(places.place(name), &key, found(&error), ALLOWED);
    }
    if let Err(error) = together(kafka)
        && plain
    {
        root.mistake(places.place(""), "kafka.properties", found(&error), ALLOWED);
    }
}

/// A client without an address, which therefore connects to nothing. A masked password may be anything, a
/// masked key is no key.
fn together(kafka: &Kafka) -> KafkaResult<()> {
    let mut unconnected = client(kafka);
    unconnected.remove("bootstrap.servers");
    for (name, _) in kafka
        .properties
        .iter()
        .filter(|(name, value)| name.ends_with(".pem") && *value == MASK)
    {
        unconnected.remove(name);
    }
    let _: BaseProducer<Witness> = unconnected.create_with_context(Witness::default())?;
    Ok(())
}

fn found(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..) => "an unknown property".to_owned(),
        KafkaError::ClientConfig(_, why, ..) | KafkaError::ClientCreation(why) => why.clone(),
        other => other.to_string(),
    }
}

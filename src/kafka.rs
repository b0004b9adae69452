//! Clients of Kafka for the commands that do one thing and end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_schema::kafka::Kafka;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};

use crate::failure::Failure;

/// How long a broker may take for one answer: a person waits, and a broker that lives answers within milliseconds.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What librdkafka has heard of a failure lies in its queue by then.
const HEARSAY: Duration = Duration::from_millis(50);

/// Keeps what librdkafka says of a client: the last complaint, so that the one message that the person reads says why,
/// instead of a dozen log lines around it; and what became of each message.
#[derive(Clone, Default)]
pub(crate) struct Witness(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    complaint: Option<String>,
    reports: Vec<KafkaResult<()>>,
}

impl Witness {
    /// How many messages were reported, acknowledged or given up.
    pub(crate) fn reported(&self) -> usize {
        self.seen().reports.len()
    }

    /// Whether Kafka has all of the `expected` messages; else the first reason why not.
    pub(crate) fn delivered(&self, expected: usize) -> KafkaResult<()> {
        let seen = self.seen();
        if seen.reports.len() < expected {
            return Err(KafkaError::Canceled);
        }
        seen.reports.iter().cloned().collect()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Witness {
    fn log(&self, level: RDKafkaLogLevel, _facility: &str, message: &str) {
        tracing::debug!(message, "librdkafka");
        if level as i32 <= RDKafkaLogLevel::Error as i32 {
            // "[thrd:ADDRESS/bootstrap]: ADDRESS/bootstrap: Connect to ... (after ...)": thread and state say nothing to a person.
            let text = message.split_once("]: ").map_or(message, |(_, text)| text);
            let text = text.split_once(" (after ").map_or(text, |(text, _)| text);
            self.seen().complaint = Some(text.to_owned());
        }
    }

    fn error(&self, _error: KafkaError, reason: &str) {
        tracing::debug!(reason, "librdkafka");
    }
}

impl ConsumerContext for Witness {}

impl ProducerContext for Witness {
    type DeliveryOpaque = ();

    fn delivery(&self, delivery: &DeliveryResult<'_>, (): ()) {
        let report = delivery.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        self.seen().reports.push(report);
    }
}

/// What every client is made from: the operator's properties, and nothing that creates a topic by accident.
pub(crate) fn client(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("client.id", "portcullis");
    for (name, value) in kafka.client_properties() {
        config.set(name, value);
    }
    config.set("allow.auto.create.topics", "false");
    config
}

/// Every topic with its number of partitions: the first thing that each command asks, so that a cluster which cannot
/// be reached is told here, with what librdkafka heard. All at once, since to ask for one by its name could create it.
pub(crate) fn topics(kafka: &Kafka, doing: &str) -> Result<HashMap<String, usize>, Failure> {
    let witness = Witness::default();
    let failed = |error: KafkaError| failure(kafka, &witness, doing, &error);
    let client: BaseProducer<Witness> = client(kafka).create_with_context(witness.clone()).map_err(failed)?;
    let metadata = client.client().fetch_metadata(None, ANSWER_MAX).map_err(|error| {
        client.poll(HEARSAY);
        failed(error)
    })?;
    let topics = metadata
        .topics()
        .iter()
        .map(|topic| (topic.name().to_owned(), topic.partitions().len()));
    Ok(topics.collect())
}

/// The partitions of one topic, which must be there.
pub(crate) fn partitions(kafka: &Kafka, topic: &str, doing: &str) -> Result<usize, Failure> {
    let found = topics(kafka, doing)?.remove(topic);
    found.ok_or_else(|| {
        Failure::Away(format!(
            "{doing}: topic {topic} does not exist in Kafka at {}, or this user may not see it; to create it: \
             portcullis topics create",
            kafka.bootstrap
        ))
    })
}

/// What a person does about `error`, which came while `doing` something.
pub(crate) fn failure(kafka: &Kafka, witness: &Witness, doing: &str, error: &KafkaError) -> Failure {
    let why = witness.seen().complaint.clone().unwrap_or_else(|| cause(error));
    let bootstrap = &kafka.bootstrap;
    Failure::Away(match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed,
        ) => format!(
            "{doing}: Kafka at {bootstrap} does not allow it ({}); grant the right to the user of kafka.properties",
            cause(error)
        ),
        _ => format!(
            "{doing}: Kafka at {bootstrap} cannot be reached or does not answer: {why}\n\
             Check that the broker runs, that kafka.bootstrap is its address as seen from this machine, and the \
             security settings in kafka.properties."
        ),
    })
}

fn cause(error: &KafkaError) -> String {
    error
        .rdkafka_error_code()
        .map_or_else(|| error.to_string(), |code| code.to_string())
}

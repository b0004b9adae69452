use std::sync::{Mutex, PoisonError};

use portcullis_schema::kafka::Kafka;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, ProducerContext};

/// Records handed over and not acknowledged, at most. At 50,000 a second and 5 ms to acknowledge, 250 are under way;
/// the rest is room for a leader change without an idle network afterwards.
pub(super) const FLIGHT_RECORDS_MAX: usize = 16_384;
/// The same in bytes, which is what their copies in librdkafka take of memory.
pub(super) const FLIGHT_BYTES_MAX: usize = 16 << 20;

/// Tells one message of the publisher from another in its delivery report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// The record of the journal at this position.
    Record(u64),
    /// That record as a dead letter, whole.
    DeadWhole(u64),
    /// That record as a dead letter, without its body.
    DeadBare(u64),
    /// The ledger entry of the journal at this position.
    Ledger(u64),
}

/// Tags as librdkafka carries them: the position and two bits. The journal would need 10,000 years to need these.
impl Tag {
    const WHOLE: usize = 1 << 62;
    const BARE: usize = 1 << 63;

    pub(super) fn to_opaque(self) -> usize {
        let (Self::Record(position) | Self::DeadWhole(position) | Self::DeadBare(position) | Self::Ledger(position)) =
            self;
        let position = position as usize & !(Self::WHOLE | Self::BARE);
        match self {
            Self::Record(_) => position,
            Self::DeadWhole(_) => position | Self::WHOLE,
            Self::DeadBare(_) => position | Self::BARE,
            Self::Ledger(_) => position | Self::WHOLE | Self::BARE,
        }
    }

    fn of_opaque(opaque: usize) -> Self {
        let position = (opaque & !(Self::WHOLE | Self::BARE)) as u64;
        match (opaque & Self::WHOLE != 0, opaque & Self::BARE != 0) {
            (false, false) => Self::Record(position),
            (true, false) => Self::DeadWhole(position),
            (false, true) => Self::DeadBare(position),
            (true, true) => Self::Ledger(position),
        }
    }
}

/// Collects the delivery reports; whoever polls takes them. Bounded by what is in flight.
#[derive(Default)]
pub(super) struct Reports {
    reports: Mutex<Vec<(Tag, Result<(), KafkaError>)>>,
    heard: Mutex<Option<String>>,
}

impl Reports {
    pub(super) fn take(&self) -> Vec<(Tag, Result<(), KafkaError>)> {
        std::mem::take(&mut *self.reports.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The latest trouble with a connection, whether it has passed or not.
    pub(super) fn heard(&self) -> Option<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "librdkafka");
    }

    /// Passing troubles of connections: the client goes on by itself. Told when nothing is acknowledged for long.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "publisher's client");
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let outcome = result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.push((Tag::of_opaque(opaque), outcome));
    }
}

/// A new client. What the operator sets comes first and what the promises rest on last.
pub(super) fn new(kafka: &Kafka) -> KafkaResult<BaseProducer<Reports>> {
    let mut config = ClientConfig::new();
    config
        .set("compression.type", "lz4")
        .set("linger.ms", "5")
        // A broker that stands still is noticed within this time; 60 s, the default, would hide it.
        .set("socket.timeout.ms", "15000")
        .set("reconnect.backoff.max.ms", "2000");
    for (name, value) in kafka.client_properties() {
        config.set(name, value);
    }
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        // The journal is behind it: a message waits as long as it takes.
        .set("message.timeout.ms", "0")
        // As Java's clients, so that everybody finds an operator's records on the same partition.
        .set("partitioner", "murmur2_random")
        .set("allow.auto.create.topics", "false")
        .set("queue.buffering.max.messages", (2 * FLIGHT_RECORDS_MAX).to_string())
        .set("queue.buffering.max.kbytes", (4 * (FLIGHT_BYTES_MAX >> 10)).to_string());
    config.create_with_context(Reports::default())
}

#[cfg(test)]
mod tests {
    use super::Tag;

    #[test]
    fn a_tag_survives_the_way_through_librdkafka() {
        for position in [0, 1, 1 << 40] {
            let dead = [Tag::DeadWhole(position), Tag::DeadBare(position)];
            for tag in dead.into_iter().chain([Tag::Record(position), Tag::Ledger(position)]) {
                assert_eq!(Tag::of_opaque(tag.to_opaque()), tag);
            }
        }
    }
}

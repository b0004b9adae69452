use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use portcullis_schema::kafka::Kafka;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

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
    /// That record in a batch of its own.
    Alone(u64),
    /// That record as a dead letter, whole.
    DeadWhole(u64),
    /// That record as a dead letter, without its body.
    DeadBare(u64),
    /// The ledger entry of the journal at this position.
    Ledger(u64),
}

/// Tags as librdkafka carries them: three bits and the position. The journal would need 10,000 years to need these.
impl Tag {
    const KIND: u32 = 61;

    pub(super) fn position(self) -> u64 {
        match self {
            Self::Record(position)
            | Self::Alone(position)
            | Self::DeadWhole(position)
            | Self::DeadBare(position)
            | Self::Ledger(position) => position,
        }
    }

    pub(super) fn to_opaque(self) -> usize {
        let kind = match self {
            Self::Record(_) => 0,
            Self::Alone(_) => 1,
            Self::DeadWhole(_) => 2,
            Self::DeadBare(_) => 3,
            Self::Ledger(_) => 4,
        };
        (kind << Self::KIND) | (self.position() as usize & ((1 << Self::KIND) - 1))
    }

    fn of_opaque(opaque: usize) -> Self {
        let position = (opaque & ((1 << Self::KIND) - 1)) as u64;
        match opaque >> Self::KIND {
            0 => Self::Record(position),
            1 => Self::Alone(position),
            2 => Self::DeadWhole(position),
            3 => Self::DeadBare(position),
            _ => Self::Ledger(position),
        }
    }
}

/// What the publisher hands its messages to: a producer, and a second one for messages that must not share a batch.
/// librdkafka fails a batch over the broker's limit as a whole and never splits it, so only a message that was sent
/// alone is known to be too large itself.
pub(super) struct Client {
    kafka: Kafka,
    together: BaseProducer<Reports>,
    alone: Option<BaseProducer<Reports>>,
}

/// A message, its tag inside.
pub(super) type Outgoing<'message> = BaseRecord<'message, str, [u8], usize>;

impl Client {
    pub(super) fn new(kafka: &Kafka) -> KafkaResult<Self> {
        Ok(Self {
            kafka: kafka.clone(),
            together: producer(config(kafka))?,
            alone: None,
        })
    }

    pub(super) fn send(&self, message: Outgoing<'_>) -> KafkaResult<()> {
        hand_over(&self.together, message)
    }

    /// In a batch of its own.
    pub(super) fn send_alone(&mut self, message: Outgoing<'_>) -> KafkaResult<()> {
        let producer = match self.alone.take() {
            Some(producer) => producer,
            None => {
                let mut config = config(&self.kafka);
                config.set("batch.num.messages", "1").set("linger.ms", "0");
                producer(config)?
            }
        };
        hand_over(self.alone.insert(producer), message)
    }

    /// Serves all that there is, and waits for nothing.
    pub(super) fn poll(&self) {
        if let Some(alone) = &self.alone {
            serve(alone);
        }
        serve(&self.together);
    }

    pub(super) fn take_reports(&self) -> Vec<(Tag, Result<(), KafkaError>)> {
        let mut reports = self.together.context().take();
        if let Some(alone) = &self.alone {
            reports.append(&mut alone.context().take());
        }
        reports
    }

    /// The latest trouble with a connection, whether it has passed or not.
    pub(super) fn heard(&self) -> Option<String> {
        self.together.context().heard()
    }

    /// Whether it had no connection left, and nothing was acknowledged since.
    pub(super) fn was_cut_off(&self) -> bool {
        self.together.context().cut_off.load(Ordering::Relaxed)
    }

    /// Lets go of a client that may not end: closing it waits for what it has under way.
    pub(super) fn close_aside(self) {
        let closing = std::thread::Builder::new()
            .name("publisher-close".to_owned())
            .spawn(move || drop(self));
        if let Err(error) = closing {
            tracing::error!(%error, "publisher's client was closed in place");
        }
    }

    /// Why it works no more; no report may say so when nothing is in flight.
    pub(super) fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        let alone = self.alone.as_ref().map(Producer::client);
        let mut clients = std::iter::once(self.together.client()).chain(alone);
        clients.find_map(|client| client.fatal_error())
    }
}

/// A poll without a wait serves one event: the reports of one partition's batch, an error, a line of librdkafka's log. So
/// it is repeated while there are any: once in each turn of the publisher would be fewer than there are batches, and
/// acknowledged records would wait for their trim in a queue that grows. Ends, since what is in flight is bounded.
///
/// Never with a wait: rust-rdkafka hands librdkafka whole milliseconds of what is left, so of each wait the last one passes
/// in a busy loop. While Kafka is away, the publisher asking every 5 ms, that was a fifth of a core.
fn serve(producer: &BaseProducer<Reports>) {
    loop {
        let before = producer.context().served();
        producer.poll(Duration::ZERO);
        if producer.context().served() == before {
            return;
        }
    }
}

/// However long the producer's own queue is full: it is larger than the flight, so it is full only while what an old
/// client left is being given up.
fn hand_over(producer: &BaseProducer<Reports>, mut message: Outgoing<'_>) -> KafkaResult<()> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let patience = Instant::now() + PATIENCE;
    loop {
        match producer.send(message) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if Instant::now() < patience => {
                message = back;
                std::thread::sleep(Duration::from_millis(5));
                serve(producer);
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// Collects the delivery reports; whoever polls takes them. Bounded by what is in flight.
#[derive(Default)]
struct Reports {
    reports: Mutex<Vec<(Tag, Result<(), KafkaError>)>>,
    heard: Mutex<Option<String>>,
    /// Calls of this context, of whatever kind.
    served: AtomicU64,
    /// No broker could be reached, and nothing was acknowledged since.
    cut_off: AtomicBool,
}

impl Reports {
    fn take(&self) -> Vec<(Tag, Result<(), KafkaError>)> {
        std::mem::take(&mut *self.reports.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    fn serves(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    fn heard(&self) -> Option<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.serves();
        tracing::debug!(?level, facility, message, "librdkafka");
    }

    /// Passing troubles of connections: the client goes on by itself. Told when nothing is acknowledged for long.
    fn error(&self, error: KafkaError, reason: &str) {
        self.serves();
        tracing::debug!(%error, reason, "publisher's client");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.cut_off.store(true, Ordering::Relaxed);
        }
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        self.serves();
        let outcome = result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        if outcome.is_ok() {
            self.cut_off.store(false, Ordering::Relaxed);
        }
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.push((Tag::of_opaque(opaque), outcome));
    }
}

/// What the operator sets comes first and what the promises rest on last.
fn config(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("compression.type", "lz4")
        .set("linger.ms", "5")
        // A broker that stands still is noticed within this time; 60 s, the default, would hide it.
        .set("socket.timeout.ms", "15000")
        .set("reconnect.backoff.max.ms", "2000")
        // How long a topic that is gone is waited for before that is an error, and told.
        .set("topic.metadata.propagation.max.ms", "5000");
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
    config
}

fn producer(config: ClientConfig) -> KafkaResult<BaseProducer<Reports>> {
    config.create_with_context(Reports::default())
}

#[cfg(test)]
mod tests {
    use super::Tag;

    #[test]
    fn a_tag_survives_the_way_through_librdkafka() {
        for position in [0, 1, 1 << 40] {
            let tags = [Tag::Record, Tag::Alone, Tag::DeadWhole, Tag::DeadBare, Tag::Ledger];
            for tag in tags.map(|tag| tag(position)) {
                assert_eq!(Tag::of_opaque(tag.to_opaque()), tag);
            }
        }
    }
}

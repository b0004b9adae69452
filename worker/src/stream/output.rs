//! Writes what was concluded, and returns when Kafka has all of it.
//!
//! A letter that fails is sent again until it is acknowledged: the detector has moved on, so going back would mean to
//! rebuild its windows. Meanwhile nothing is committed, and after a crash the same letters come again with the same ids.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use portcullis_schema::Readiness;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use tracing::{debug, error, info, warn};

use super::letter::Letter;
use super::stop::Stop;

const OUTPUT: &str = "output";
/// An acknowledgement takes milliseconds; who waits for one this long should not be called ready.
const SLOW: Duration = Duration::from_secs(2);
/// How often a wait looks up to see whether the worker is to stop.
const LOOK_UP: Duration = Duration::from_millis(100);
/// After this time a producer that had no connection left may have lost Kafka for good: librdkafka can forget every broker
/// and look for none (issue 5301). One that is well is back within a second or two.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// Between two attempts, doubled up to the second: a topic that is missing or a right that was taken is put right by a
/// person.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The worker is to stop, and its deadline is over.
#[derive(Debug)]
pub(super) struct GivenUp;

pub(super) struct Output {
    config: ClientConfig,
    producer: ThreadedProducer<Reports>,
    reports: Receiver<Report>,
    readiness: Readiness,
    failing: bool,
}

/// Why letters are sent again by a new producer.
const CUT_OFF: KafkaError = KafkaError::MessageProduction(RDKafkaErrorCode::AllBrokersDown);

/// What became of the letter at a place of the batch.
type Report = (usize, Result<(), KafkaError>);

/// Hands reports on, from the client's thread.
struct Reports {
    sender: Sender<Report>,
    /// There was no connection left, and nothing was acknowledged since.
    cut_off: AtomicBool,
}

impl Output {
    pub(super) fn new(config: ClientConfig, readiness: Readiness) -> KafkaResult<Self> {
        let (producer, reports) = connect(&config)?;
        readiness.set(OUTPUT, "nothing had to be written yet");
        Ok(Self {
            config,
            producer,
            reports,
            readiness,
            failing: false,
        })
    }

    /// Returns when every letter is acknowledged.
    pub(super) fn write(&mut self, letters: &[Letter], stop: &Stop) -> Result<(), GivenUp> {
        let mut open: Vec<usize> = (0..letters.len()).collect();
        let mut pause = PAUSE.0;
        loop {
            let failures = self.attempt(letters, &open, stop)?;
            let Some((_, error)) = failures.first() else { break };
            self.fails(error);
            if stop.is_over() {
                return Err(GivenUp);
            }
            let again = failures
                .iter()
                .filter(|(place, error)| can_succeed(&letters[*place], error));
            open = again.map(|(place, _)| *place).collect();
            self.renew_where_lost();
            stop.wait(pause);
            pause = (pause * 2).min(PAUSE.1);
        }
        self.succeeds(letters.len());
        Ok(())
    }

    /// Sends the open letters and waits for what becomes of them; the failures, in the letters' order.
    fn attempt(&self, letters: &[Letter], open: &[usize], stop: &Stop) -> Result<Vec<(usize, KafkaError)>, GivenUp> {
        let mut failures = Vec::new();
        let mut in_flight = 0;
        for place in open {
            match self.send(&letters[*place], *place) {
                Ok(()) => in_flight += 1,
                Err(error) => failures.push((*place, error)),
            }
        }
        let began = Instant::now();
        while in_flight > 0 {
            match self.reports.recv_timeout(LOOK_UP) {
                Ok((place, result)) => {
                    in_flight -= 1;
                    failures.extend(result.err().map(|error| (place, error)));
                }
                Err(RecvTimeoutError::Timeout) if stop.is_over() => return Err(GivenUp),
                Err(RecvTimeoutError::Timeout) if began.elapsed() > LOST_AFTER && self.is_cut_off() => {
                    return Ok(open.iter().map(|place| (*place, CUT_OFF)).collect());
                }
                Err(RecvTimeoutError::Timeout) if began.elapsed() > SLOW => {
                    self.readiness.unset(OUTPUT, "no acknowledgement from kafka");
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Not as long as the producer lives, which holds the other end.
                Err(RecvTimeoutError::Disconnected) => return Err(GivenUp),
            }
        }
        failures.sort_by_key(|(place, _)| *place);
        Ok(failures)
    }

    fn send(&self, letter: &Letter, place: usize) -> KafkaResult<()> {
        let mut record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(&letter.topic, place).headers(letter.headers());
        record.key = letter.key.as_deref();
        record.payload = letter.value.as_deref();
        record.timestamp = letter.timestamp;
        self.producer.send(record).map_err(|(error, _)| error)
    }

    /// An idempotent producer that lost its place is lost for good, and so may be one that is cut off. A new one begins anew;
    /// where Kafka is away, that costs nothing.
    fn renew_where_lost(&mut self) {
        if let Some((code, reason)) = self.producer.client().fatal_error() {
            warn!(%code, reason, "producer is lost, making a new one");
        } else if self.is_cut_off() {
            debug!("nothing is acknowledged, making a new producer");
        } else {
            return;
        }
        match connect(&self.config) {
            Ok((producer, reports)) => (self.producer, self.reports) = (producer, reports),
            Err(error) => error!(%error, "no new producer"),
        }
    }

    fn is_cut_off(&self) -> bool {
        self.producer.context().cut_off.load(Ordering::Relaxed)
    }

    fn fails(&mut self, error: &KafkaError) {
        self.readiness.unset(OUTPUT, error.to_string());
        if !std::mem::replace(&mut self.failing, true) {
            warn!(%error, "output is not acknowledged, trying again");
        }
    }

    fn succeeds(&mut self, letters: usize) {
        if letters > 0 {
            self.readiness.set(OUTPUT, "the last output was acknowledged");
        }
        if std::mem::replace(&mut self.failing, false) {
            info!("output is acknowledged again");
        }
    }
}

/// What no broker ever takes would hold up everything behind it.
fn can_succeed(letter: &Letter, error: &KafkaError) -> bool {
    let too_large = error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge);
    if too_large {
        let bytes = letter.value.as_ref().map_or(0, Vec::len);
        error!(topic = letter.topic, bytes, "output is lost: too large for the broker");
    }
    !too_large
}

fn connect(config: &ClientConfig) -> KafkaResult<(ThreadedProducer<Reports>, Receiver<Report>)> {
    let (sender, reports) = channel();
    let reporting = Reports {
        sender,
        cut_off: AtomicBool::new(false),
    };
    let producer = ThreadedProducer::from_config_and_context(config, reporting)?;
    Ok((producer, reports))
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, place: usize) {
        let result = result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        if result.is_ok() {
            self.cut_off.store(false, Ordering::Relaxed);
        }
        // Nobody listens any more while the producer is dropped.
        let _ = self.sender.send((place, result));
    }
}

impl ClientContext for Reports {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "librdkafka");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.cut_off.store(true, Ordering::Relaxed);
        }
    }
}

//! Sees to it that no other receiver runs under this one's instance name: the records of two would pass for one's.
//!
//! The same data directory is refused by the journal's lock already. On another directory or machine, the ledger tells:
//! a boot of this name that never lived on this data and is heard now is a namesake. Of two, the later start yields: its
//! process ends with the reason, or, when it had to take traffic before anybody could be asked because Kafka was away,
//! it stays and is no longer ready: what comes is still answered and recorded, since boots tell the records apart.

mod namesakes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portcullis_schema::kafka::Kafka;
use portcullis_schema::{HEARTBEAT_EVERY, LedgerEntry, Readiness, Timestamp};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::consumer::{self, Quiet, is_passing};
pub use namesakes::Namesake;
pub(crate) use namesakes::Namesakes;

/// The latch that this module owns.
const LATCH: &str = "instance";
/// How much of the ledger's end is read at start: the last half minute of 600 receivers.
const ENTRIES_READ: i64 = 2_000;
/// A boot that was heard within this time before the start may be alive.
const ALIVE_WITHIN: Duration = Duration::from_secs(3 * HEARTBEAT_EVERY.as_secs());
/// How long it is listened for then: two heartbeats, and half of one for the way.
const LISTEN_FOR: Duration = Duration::from_millis(2_500 * HEARTBEAT_EVERY.as_secs());
/// A start does not wait longer for a Kafka that is away.
const ASK_FOR: Duration = Duration::from_secs(5);
/// How long the broker may take to answer one question.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// This receiver's own heartbeats come back here. Without any entry for so long, Kafka is away or the client has lost it
/// and never says so (`publisher.rs`): only a new one tells.
const SILENCE_MAX: Duration = Duration::from_secs(6 * HEARTBEAT_EVERY.as_secs());
/// Between two tries while Kafka is away.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// The bound on noticing a stop.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// The listening thread.
pub(crate) struct Instance {
    stop: Arc<AtomicBool>,
    found: watch::Receiver<Option<Namesake>>,
}

impl Instance {
    pub(crate) fn start(kafka: Kafka, namesakes: Namesakes, readiness: Readiness) -> std::io::Result<Self> {
        readiness.unset(
            LATCH,
            "the ledger is being asked whether another receiver has this name",
        );
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, found) = watch::channel(None);
        let listener = Listener {
            kafka,
            namesakes,
            readiness,
            tell,
            stop: Arc::clone(&stop),
            began: Instant::now(),
            taken: false,
            settled: false,
        };
        std::thread::Builder::new()
            .name("instance".to_owned())
            .spawn(move || listener.run())?;
        Ok(Self { stop, found })
    }

    /// Whom this receiver has to yield to, when it is known before this one was ready.
    pub(crate) fn found(&self) -> watch::Receiver<Option<Namesake>> {
        self.found.clone()
    }

    /// The thread ends within [`ANSWER_MAX`]. It holds nothing that anybody would have to wait for.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Listener {
    kafka: Kafka,
    namesakes: Namesakes,
    readiness: Readiness,
    tell: watch::Sender<Option<Namesake>>,
    stop: Arc<AtomicBool>,
    began: Instant,
    /// Whether a namesake that is alive has the name already.
    taken: bool,
    /// Whether the latch was opened once.
    settled: bool,
}

impl Listener {
    fn run(mut self) {
        let mut said = false;
        while !self.stopping() {
            let Err(error) = self.listen() else {
                continue;
            };
            if !std::mem::replace(&mut said, true) {
                let topic = &self.kafka.topics.ledger;
                warn!(topic, %error, "the ledger cannot be read, nobody can be asked whether another receiver has this name; trying again");
            }
            if self.began.elapsed() > ASK_FOR {
                self.open("the ledger cannot be read, so nobody could be asked whether another receiver has this name");
            }
            std::thread::sleep(RETRY_PAUSE);
        }
    }

    /// Until the stop, or for as long as anything is heard; an error is for trying again.
    fn listen(&mut self) -> Result<(), KafkaError> {
        let consumer = consumer::new(&self.kafka)?;
        let end = self.assign(&consumer)?;
        let mut next = 0;
        let mut listened_since = None;
        let mut heard = Instant::now();
        while !self.stopping() && heard.elapsed() < SILENCE_MAX {
            match consumer.poll(POLL_WAIT) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    next = message.offset() + 1;
                    if let Some(entry) = message.payload().and_then(|json| LedgerEntry::decode(json).ok()) {
                        self.hear(&entry, message.offset() < end);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => next = next.max(end),
                Some(Err(error)) if !is_passing(&error) => return Err(error),
                Some(Err(_)) | None => {}
            }
            if next >= end && !self.settled && !self.taken {
                let since = *listened_since.get_or_insert_with(Instant::now);
                self.decide(since);
            }
        }
        Ok(())
    }

    /// Assigns the end of the ledger, and gives the offset behind its last entry of now.
    fn assign(&self, consumer: &BaseConsumer<Quiet>) -> Result<i64, KafkaError> {
        let topic = &self.kafka.topics.ledger;
        let (low, end) = consumer.fetch_watermarks(topic, 0, ANSWER_MAX)?;
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(topic, 0, Offset::Offset(low.max(end - ENTRIES_READ)))?;
        consumer.assign(&assignment)?;
        Ok(end)
    }

    fn hear(&mut self, entry: &LedgerEntry, before_start: bool) {
        if before_start {
            self.namesakes.recall(entry);
            return;
        }
        let Some(namesake) = self.namesakes.hear(entry) else {
            return;
        };
        if !self.namesakes.yields_to(&namesake) {
            warn!(%namesake, "another receiver was started under this one's name, it has to yield");
            return;
        }
        let reason = format!("{namesake}; give each receiver a receiver.instance of its own, or stop one of the two");
        if !std::mem::replace(&mut self.taken, true) {
            error!("{reason}");
        }
        self.readiness.unset(LATCH, reason);
        if !self.settled {
            self.tell.send_replace(Some(namesake));
        }
    }

    /// What the end of the ledger says, and the silence since.
    fn decide(&mut self, since: Instant) {
        let suspect = self.namesakes.suspect(Timestamp::now(), ALIVE_WITHIN);
        match suspect {
            Some(suspect) if since.elapsed() < LISTEN_FOR => self.readiness.unset(
                LATCH,
                format!("{suspect}; ready when it is not heard for {} s", LISTEN_FOR.as_secs()),
            ),
            _ => self.open("no other receiver has this name"),
        }
    }

    fn open(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.settled, true) {
            info!("{reason}");
            self.readiness.set(LATCH, reason);
        }
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

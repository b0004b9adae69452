//! Which of the unacknowledged records are in Kafka already, so that only the others are sent.
//!
//! When a process dies or a client is given up, some records are in the topic though no acknowledgement was seen, or
//! none led to a trim in time. Sent again they would be there twice. So before a new client begins, the beginning of
//! what is unacknowledged is compared with the end of the topic, and of the dead letters.
//!
//! Why that is little work. Publishing is in order and its flight is bounded, so only the first unacknowledged records
//! can be there ([`SOUGHT_BYTES_MAX`]). A message's timestamp is its record's `received_at`, so in each partition none
//! of them lies before the first message that is as late as the earliest of them. From there to the end of now the
//! ids in the headers are compared; no JSON is read.
//!
//! It runs on the publisher's thread and delays nothing but publishing. While Kafka is away nothing could be published
//! either, so it waits. Where it cannot be done, because the topic may not be read or takes too long to read, that is
//! said once and publishing goes on without.
//!
//! A repeat, with the same id, can still happen:
//! - A request of the old client is on its way to the broker, or in a broker that stands still, when the end is asked
//!   for: it is appended afterwards.
//! - The comparison could not be done, or had to end before the end of the topic.
//! - The broker stamps messages by its own clock (`message.timestamp.type`), and that is behind this machine's by more
//!   than the last messages of a partition, which are read in any case, cover.

mod topic;

use std::collections::HashSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use portcullis_schema::kafka::Kafka;
use portcullis_schema::{Timestamp, Uuid};
use rdkafka::error::KafkaError;
use tracing::{debug, info, warn};

use super::client::FLIGHT_BYTES_MAX;
use crate::consumer::GROUP;
use crate::entry::{Entry, Kind};
use crate::journal::{Journal, Position, StoreError};

/// So much of the journal is compared, from the first unacknowledged record on: what can be in flight, and as much
/// again for blocks that were acknowledged and not yet trimmed.
const SOUGHT_BYTES_MAX: usize = 2 * FLIGHT_BYTES_MAX;
/// Bounds the memory for their ids to some 5 MB where records are tiny; with 300 bytes a record, the other bound is
/// reached first.
const SOUGHT_RECORDS_MAX: usize = 131_072;
/// A topic that is there and cannot be read through is tried so many times: a leader change passes.
const TRIES_MAX: u32 = 3;
/// Between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// The bound on noticing a stop between two questions to the broker.
const NAP: Duration = Duration::from_millis(100);

/// What the last comparison found.
pub(super) struct Tail {
    kafka: Kafka,
    present: HashSet<Uuid>,
    said: bool,
}

/// The process stops; what is not compared stays in the journal.
#[derive(Debug)]
pub(super) struct Stopped;

/// Called several times a second while a comparison lasts; false ends it.
pub(super) type GoesOn<'asked> = &'asked mut dyn FnMut() -> bool;

/// Why a topic was not read to its end.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("the process stops")]
    Stopped,
    #[error("Kafka does not answer: {0}")]
    Away(KafkaError),
    #[error("it was not read: {0}")]
    Failed(KafkaError),
    #[error("reading it stalled")]
    Silent,
    #[error("reading it takes too long")]
    TooLong,
    #[error("Kafka does not let this client read it: grant it Read on that topic")]
    Forbidden,
    #[error("Kafka does not let this client read: grant it Read on group {GROUP}")]
    NoGroup,
}

/// The records to be found.
struct Sought {
    ids: HashSet<Uuid>,
    least: Timestamp,
}

impl Tail {
    pub(super) fn new(kafka: Kafka) -> Self {
        Self {
            kafka,
            present: HashSet::new(),
            said: false,
        }
    }

    /// Compares the records in `unsure`, those of an old client or of a former start, with what is in Kafka.
    pub(super) fn compare(
        &mut self,
        journal: &Journal,
        unsure: Range<Position>,
        goes_on: GoesOn<'_>,
    ) -> Result<(), Stopped> {
        self.present.clear();
        let began = Instant::now();
        let mut sought = loop {
            match Sought::read(journal, unsure.clone()) {
                Ok(sought) => break sought,
                // The journal is being opened again, and says so itself.
                Err(_) => pause(RETRY_PAUSE, goes_on)?,
            }
        };
        let records = sought.ids.len();
        for topic in [
            self.kafka.topics.callbacks.clone(),
            self.kafka.topics.dead_letters.clone(),
        ] {
            if !sought.ids.is_empty() {
                self.look_through(&topic, &mut sought, goes_on)?;
            }
        }
        let (found, took) = (self.present.len(), began.elapsed());
        if found > 0 {
            info!(
                records,
                found,
                ?took,
                "some of the unacknowledged records are in Kafka already"
            );
        } else if records > 0 {
            debug!(records, ?took, "none of the unacknowledged records is in Kafka");
        }
        Ok(())
    }

    /// Whether the record was found, and need not be sent. Says so once for each record.
    pub(super) fn takes(&mut self, id: &Uuid) -> bool {
        !self.present.is_empty() && self.present.remove(id)
    }

    /// Until it is read, or cannot be.
    fn look_through(&mut self, topic: &str, sought: &mut Sought, goes_on: GoesOn<'_>) -> Result<(), Stopped> {
        let mut tries = 0;
        loop {
            match topic::read(&self.kafka, topic, sought, &mut self.present, goes_on) {
                Ok(()) => {
                    self.said = false;
                    return Ok(());
                }
                Err(Unread::Stopped) => return Err(Stopped),
                Err(Unread::Away(error)) => debug!(%error, topic, "comparing waits for Kafka"),
                Err(unread @ (Unread::Failed(_) | Unread::Silent)) if tries + 1 < TRIES_MAX => {
                    debug!(error = %unread, topic, "comparing is tried again");
                    tries += 1;
                }
                Err(unread) => {
                    if !std::mem::replace(&mut self.said, true) {
                        warn!(topic, error = %unread, "cannot see which records are in the topic already, some may be there twice");
                    }
                    return Ok(());
                }
            }
            pause(RETRY_PAUSE, goes_on)?;
        }
    }
}

impl Sought {
    fn read(journal: &Journal, unsure: Range<Position>) -> Result<Self, StoreError> {
        let mut sought = Self {
            ids: HashSet::new(),
            least: Timestamp::from_micros(i64::MAX),
        };
        let (mut from, mut bytes) = (unsure.start, 0);
        while from < unsure.end && bytes < SOUGHT_BYTES_MAX && sought.ids.len() < SOUGHT_RECORDS_MAX {
            let Some(block) = journal.read(from)? else {
                break;
            };
            from = block.end();
            bytes += block.entries().map(|(_, entry)| entry.len()).sum::<usize>();
            // What is no entry is told, and counted, where it should be sent.
            let entries = block.entries().filter_map(|(_, entry)| Entry::decode(entry).ok());
            for entry in entries.filter(|entry| entry.kind == Kind::Record) {
                sought.least = sought.least.min(entry.received_at);
                sought.ids.insert(entry.id);
            }
        }
        Ok(sought)
    }
}

fn pause(pause: Duration, goes_on: GoesOn<'_>) -> Result<(), Stopped> {
    let until = Instant::now() + pause;
    while Instant::now() < until {
        if !goes_on() {
            return Err(Stopped);
        }
        std::thread::sleep(NAP);
    }
    Ok(())
}

use std::collections::HashMap;
use std::time::Duration;

use portcullis_schema::account::{Account, Limits, Numbered, SLACK};
use portcullis_schema::kafka::Kafka;
use portcullis_schema::{LedgerEntry, Timestamp, headers};
use rdkafka::message::{BorrowedMessage, Headers, Message};

use super::progress::Progress;
use crate::failure::Failure;
use crate::reading::{Extent, Reading};

const DOING: &str = "the records were not reconciled";

const LIMITS: Limits = Limits {
    // A receiver that crashes every two minutes for as long as the ledger is kept: 10 MB.
    boots_max: 20_000,
    // Four thousand million records, a week of 7,000 a second: 600 MB.
    chunks_max: 1 << 20,
};

/// What the topics hold.
pub(super) struct Counted {
    pub(super) account: Account,
    /// Messages in `callbacks` that are no record.
    pub(super) undecodable: u64,
    /// Messages in `ledger` that are no entry.
    pub(super) undecodable_entries: u64,
    /// Entries.
    pub(super) entries: u64,
}

/// Reads `callbacks`, `dead-letters` and `ledger`, from the moment `from` on where there is one.
///
/// The order makes the proof: the ledger's end is asked for first, and what is before it is heard last. So each entry
/// was in the ledger before the ends of the other topics were asked for, and these were read up to there.
pub(super) fn count(kafka: &Kafka, from: Option<Timestamp>, now: Timestamp) -> Result<Counted, Failure> {
    let topics = &kafka.topics;
    let reading = Reading::new(kafka, DOING)?;
    let extent = |topic| match from {
        Some(from) => reading.since(topic, from),
        None => reading.whole(topic),
    };
    let ledger = extent(&topics.ledger)?;
    let (callbacks, letters) = (extent(&topics.callbacks)?, extent(&topics.dead_letters)?);
    let horizon = from.map_or(Timestamp::from_micros(i64::MIN), |from| from.after(SLACK));
    let mut counted = Counted {
        account: Account::new(horizon, LIMITS),
        undecodable: 0,
        undecodable_entries: 0,
        entries: 0,
    };
    let mut progress = Progress::new("records", callbacks.messages());
    let mut cut = Cut::new(&callbacks, kept_at_least(kafka), now);
    reading.read(&callbacks, |message| {
        progress.step();
        cut.pass(message, now);
        counted.record(message);
    })?;
    counted.account.raise_horizon(cut.horizon);
    progress.done();
    let mut progress = Progress::new("dead letters", letters.messages());
    reading.read(&letters, |message| {
        progress.step();
        counted.dead_letter(message);
    })?;
    progress.done();
    let mut progress = Progress::new("ledger entries", ledger.messages());
    reading.read(&ledger, |message| {
        progress.step();
        counted.hear(message);
    })?;
    progress.done();
    Ok(counted)
}

impl Counted {
    fn record(&mut self, message: &BorrowedMessage<'_>) {
        match Numbered::decode(message.payload().unwrap_or_default()) {
            Ok(record) => self.account.record(&record),
            Err(_) => self.undecodable += 1,
        }
    }

    /// Those that were read from a topic are in it.
    fn dead_letter(&mut self, message: &BorrowedMessage<'_>) {
        let mut headers = message.headers().into_iter().flat_map(Headers::iter);
        if headers.any(|header| header.key == headers::DEAD_PARTITION) {
            return;
        }
        if let Ok(record) = Numbered::decode(message.payload().unwrap_or_default()) {
            self.account.dead_letter(&record);
        }
    }

    fn hear(&mut self, message: &BorrowedMessage<'_>) {
        match LedgerEntry::decode(message.payload().unwrap_or_default()) {
            Ok(entry) => {
                self.entries += 1;
                self.account.hear(&entry);
            }
            Err(_) => self.undecodable_entries += 1,
        }
    }
}

/// What retention has cut off of `callbacks`, before the reading or while it went on.
struct Cut {
    /// The offset that comes next where nothing is cut off, by partition.
    next: HashMap<i32, i64>,
    /// From when on nothing is.
    horizon: Timestamp,
}

impl Cut {
    fn new(callbacks: &Extent<'_>, kept_at_least: Duration, now: Timestamp) -> Self {
        let next = callbacks.parts.iter().map(|part| {
            let begins_within = part.start > part.kept;
            (part.partition, if begins_within { part.start } else { 0 })
        });
        // Of what is cut off whole no message tells the time; it is as old as retention demands.
        let is_emptied = callbacks
            .parts
            .iter()
            .any(|part| 0 < part.kept && part.kept == part.end);
        let horizon = match is_emptied {
            true => now.before(kept_at_least).after(SLACK),
            false => Timestamp::from_micros(i64::MIN),
        };
        Self {
            next: next.collect(),
            horizon,
        }
    }

    fn pass(&mut self, message: &BorrowedMessage<'_>, now: Timestamp) {
        let next = self.next.insert(message.partition(), message.offset() + 1);
        if next.is_some_and(|next| next < message.offset()) {
            let millis = message.timestamp().to_millis();
            let at = millis.map_or(now, |millis| Timestamp::from_micros(millis.saturating_mul(1_000)));
            self.horizon = self.horizon.max(at.after(SLACK));
        }
    }
}

/// How long the topic is kept at least, as `portcullis topics check` demands.
fn kept_at_least(kafka: &Kafka) -> Duration {
    let plans = kafka.topics.plans().into_iter();
    let settings = plans
        .filter(|plan| plan.name == kafka.topics.callbacks)
        .flat_map(|plan| plan.settings);
    let millis = settings
        .filter(|(name, _)| *name == "retention.ms")
        .find_map(|(_, value)| value.parse().ok());
    Duration::from_millis(millis.unwrap_or(0))
}

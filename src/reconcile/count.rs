use std::collections::HashMap;
use std::time::Duration;

use portcullis_schema::account::{Account, Limits, Numbered, SLACK};
use portcullis_schema::kafka::Kafka;
use portcullis_schema::{LedgerEntry, Timestamp, headers};
use rdkafka::message::{BorrowedMessage, Headers, Message};

use super::progress::Progress;
use crate::failure::Failure;
use crate::reading::{Part, Reading};

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
    let mut cut = Cut::new(&callbacks.parts, kept_at_least(kafka), now);
    reading.read(&callbacks, |message| {
        progress.step();
        cut.pass(message.partition(), message.offset(), time(message).unwrap_or(now));
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
    /// Whoever reads from the oldest that is kept does not know what was before it. The first message that is kept tells
    /// it nearly: behind an outage one receiver catches up with old records between the new ones of another, so that
    /// something later than it may be gone. It is no later than retention demands, whatever the order was.
    fn new(parts: &[Part], kept_at_least: Duration, now: Timestamp) -> Self {
        let is_cut = |part: &Part| part.kept > 0 && part.start == part.kept;
        let next = parts
            .iter()
            .map(|part| (part.partition, if is_cut(part) { 0 } else { part.start }));
        let horizon = match parts.iter().any(is_cut) {
            true => now.before(kept_at_least).after(SLACK),
            false => Timestamp::from_micros(i64::MIN),
        };
        Self {
            next: next.collect(),
            horizon,
        }
    }

    fn pass(&mut self, partition: i32, offset: i64, at: Timestamp) {
        let next = self.next.insert(partition, offset + 1);
        if next.is_some_and(|next| next < offset) {
            self.horizon = self.horizon.max(at.after(SLACK));
        }
    }
}

fn time(message: &BorrowedMessage<'_>) -> Option<Timestamp> {
    let millis = message.timestamp().to_millis()?;
    Some(Timestamp::from_micros(millis.saturating_mul(1_000)))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use portcullis_schema::Timestamp;
    use portcullis_schema::account::SLACK;

    use super::{Cut, Part};

    const KEPT: Duration = Duration::from_secs(7 * 86_400);
    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    fn part(kept: i64, start: i64, end: i64) -> Part {
        Part {
            partition: 0,
            kept,
            start,
            end,
        }
    }

    #[test]
    fn nothing_is_cut_off_where_reading_begins_at_zero_or_later_than_what_is_kept() {
        for part in [part(0, 0, 9), part(0, 0, 0), part(3, 5, 9)] {
            let mut cut = Cut::new(&[part], KEPT, NOW);
            cut.pass(0, part.start, NOW);
            cut.pass(0, part.start + 1, NOW);
            assert_eq!(cut.horizon.as_micros(), i64::MIN, "{part:?}");
        }
    }

    #[test]
    fn what_is_cut_off_is_older_than_retention_and_than_the_first_that_is_kept() {
        let oldest = NOW.before(KEPT);
        for (first, horizon) in [(oldest.before(SLACK), oldest), (NOW, NOW)] {
            let mut cut = Cut::new(&[part(3, 3, 9)], KEPT, NOW);
            assert_eq!(cut.horizon, oldest.after(SLACK));
            cut.pass(0, 3, first);
            assert_eq!(cut.horizon, horizon.after(SLACK));
        }
    }

    #[test]
    fn what_is_cut_off_while_it_is_read_is_older_than_what_comes_next() {
        let mut cut = Cut::new(&[part(0, 0, 9)], KEPT, NOW);
        cut.pass(0, 4, NOW);
        assert_eq!(cut.horizon, NOW.after(SLACK));
    }
}

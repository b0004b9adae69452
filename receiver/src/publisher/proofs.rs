use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::entry::Entry;
use crate::journal::Position;

/// How long a ledger entry may hold its block in the journal when Kafka takes records but not the ledger. The client
/// goes on trying behind that; only a crash would then lose the entry, and the next one proves as much.
const PATIENCE: Duration = Duration::from_secs(10);

/// The ledger entries in flight. Each waits here until everything before it is acknowledged, and only then is sent:
/// that makes it a proof (`portcullis_schema::LedgerEntry`). Knows nothing of Kafka.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    /// In the journal's order; at most as many as entries in flight.
    held: VecDeque<(Position, Entry<'static>)>,
    sent: VecDeque<(Position, Instant)>,
}

impl Proofs {
    pub(super) fn hold(&mut self, position: Position, entry: Entry<'static>) {
        self.held.push_back((position, entry));
    }

    /// The next entry to send at `now`, when the oldest block in flight, with so many `open` entries, waits for nothing
    /// but ledger entries.
    pub(super) fn next(
        &mut self,
        block: &Range<Position>,
        open: usize,
        now: Instant,
    ) -> Option<(Position, Entry<'static>)> {
        let held = self.held.iter().filter(|(position, _)| block.contains(position));
        let sent = self.sent.iter().filter(|(position, _)| block.contains(position));
        if held.count() + sent.count() != open {
            return None;
        }
        let next = self.held.pop_front_if(|(position, _)| block.contains(position))?;
        self.sent.push_back((next.0, now));
        Some(next)
    }

    /// Kafka has answered for the entry; false when nobody waits for it any more.
    pub(super) fn settle(&mut self, position: Position) -> bool {
        let sent = self.sent.len();
        self.sent.retain(|(at, _)| *at != position);
        self.sent.len() < sent
    }

    /// An entry that Kafka has not answered for in time.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<Position> {
        let overdue = |(_, since): &mut (Position, Instant)| now.duration_since(*since) > PATIENCE;
        self.sent.pop_front_if(overdue).map(|(position, _)| position)
    }

    /// Forgets all: they are handed to another client.
    pub(super) fn abandon(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use portcullis_schema::{Timestamp, Uuid};

    use super::{PATIENCE, Proofs};
    use crate::entry::{Entry, Kind};

    fn entry() -> Entry<'static> {
        Entry {
            kind: Kind::Ledger,
            id: Uuid::nil(),
            received_at: Timestamp::default(),
            key: "".into(),
            command: "".into(),
            payload: Default::default(),
        }
    }

    #[test]
    fn an_entry_is_sent_only_when_all_of_its_block_and_before_it_is_acknowledged() {
        let (mut proofs, now) = (Proofs::default(), Instant::now());
        for position in [11, 13, 20] {
            proofs.hold(position, entry());
        }
        let mut next = |block, open| proofs.next(&block, open, now).map(|(position, _)| position);
        assert_eq!(next(0..10, 0), None, "an older block is in front");
        assert_eq!(next(10..15, 3), None, "a record of the block is open");
        assert_eq!(next(10..15, 2), Some(11));
        assert_eq!(next(10..15, 2), Some(13));
        assert_eq!(next(10..15, 2), None);
        assert_eq!(next(15..21, 1), Some(20));
    }

    #[test]
    fn an_entry_that_kafka_does_not_take_is_waited_for_within_a_bound() {
        let (mut proofs, now) = (Proofs::default(), Instant::now());
        proofs.hold(3, entry());
        assert!(proofs.next(&(0..4), 1, now).is_some());
        assert_eq!(proofs.overdue(now + PATIENCE), None);
        assert_eq!(proofs.overdue(now + PATIENCE + Duration::from_millis(1)), Some(3));
        assert!(!proofs.settle(3), "its answer comes too late");
    }
}

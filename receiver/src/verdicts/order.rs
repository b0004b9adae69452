use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};

use portcullis_schema::{AppId, Source, Subject};
use rdkafka::Message;
use rdkafka::message::BorrowedMessage;

/// Subjects that are told apart, in a table of 36 MB that is given back when everything is read. Of those beyond, whoever is
/// read last has the last word.
const SUBJECTS_MAX: usize = 1_800_000;
/// A partition's place in a [`Word`].
const PARTITION_BITS: u32 = 16;

/// Which of several partitions has the last word about a subject and source, while they are read from far back: then the
/// order in which their messages come means nothing. Within a partition the later offset holds; of two partitions the one
/// with the later message, by Kafka's timestamp.
///
/// A subject may be in two partitions since the topic was given more of them, or because its writers do not agree on the
/// partitioner. What comes later, when everything up to now is read, holds in the order in which it comes.
#[derive(Default)]
pub(super) struct Order {
    /// By a hash under a random key: of a million subjects no two have the same, but once in 30 million starts.
    words: HashMap<u64, Word>,
    hasher: RandomState,
}

/// A message's milliseconds, and its partition, which decides between two of the same moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Word(i64);

impl Order {
    /// Whether `message` says what holds about the subject, after all that was asked before.
    pub(super) fn holds(
        &mut self,
        app: AppId,
        subject: &Subject,
        source: Source,
        message: &BorrowedMessage<'_>,
    ) -> bool {
        let word = Word::new(message.timestamp().to_millis(), message.partition());
        self.is_last(self.hasher.hash_one((app, subject, source)), word)
    }

    fn is_last(&mut self, subject: u64, word: Word) -> bool {
        let has_room = self.words.len() < SUBJECTS_MAX;
        match self.words.entry(subject) {
            Entry::Vacant(place) => {
                if has_room {
                    place.insert(word);
                }
                true
            }
            Entry::Occupied(mut known) => {
                let is_last = known.get().partition() == word.partition() || word > *known.get();
                if is_last {
                    known.insert(word.max(*known.get()));
                }
                is_last
            }
        }
    }
}

impl Word {
    fn new(millis: Option<i64>, partition: i32) -> Self {
        let partition = i64::from(partition) & ((1 << PARTITION_BITS) - 1);
        let millis = millis.unwrap_or(0).clamp(0, i64::MAX >> PARTITION_BITS);
        Self(millis << PARTITION_BITS | partition)
    }

    fn partition(self) -> i64 {
        self.0 & ((1 << PARTITION_BITS) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Order, Word};

    #[test]
    fn in_whatever_order_partitions_are_read_the_one_with_the_latest_message_has_the_last_word() {
        // Of partition 0, 1 and 2, each with its times in the order of its offsets; a writer's clock may go back.
        let partitions = [vec![3, 9, 4], vec![5, 8], vec![7]];
        for first in 0..3 {
            for second in (0..3).filter(|second| *second != first) {
                let mut order = Order::default();
                let mut last = None;
                for partition in [first, second, 3 - first - second] {
                    for time in &partitions[partition] {
                        let word = Word::new(Some(*time), i32::try_from(partition).expect("few"));
                        if order.is_last(1, word) {
                            last = Some((partition, *time));
                        }
                    }
                }
                assert_eq!(last, Some((0, 4)), "{first} then {second}");
            }
        }
    }
}

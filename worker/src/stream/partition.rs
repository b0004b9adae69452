//! One assigned partition: its windows, and how far they have come.
//!
//! Windows live and die with their partition. Whoever gets it next reads the records of their history once more,
//! silently: what these led to was written before. Where that history begins is told by the commit itself, in its
//! metadata, as an offset: it needs no look-up by time, so it does not depend on the broker's timestamps or on a
//! clock that was wrong.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use portcullis_schema::{Mode, Timestamp};

use crate::detector::{self, Capacity, Detector, LATENESS};
use crate::rules::Rules;

/// How many legs a trail has at the most: enough to hit its start within a thousandth, and 64 KB.
const LEGS_MAX: usize = 4_096;

/// Which topic a partition is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Callbacks,
    Signals,
}

pub(super) struct Partition {
    pub(super) detector: Detector,
    /// The offset that is read next; absent until the first message of a partition that was never committed.
    next: Option<i64>,
    /// Below it everything was acknowledged before the partition came here.
    silent_below: i64,
    /// What was given to the client to be committed.
    stored: Option<Checkpoint>,
    trail: Trail,
}

/// What a commit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// Everything below was acknowledged.
    pub(super) offset: i64,
    /// Where the records begin from which the windows follow.
    pub(super) rewind: i64,
}

/// How a message stands to what was done before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// What it leads to was written before.
    Silent,
    /// It is new.
    New,
    /// It is new, and the partition's offsets began anew below those that were read: windows are empty.
    Anew,
}

impl Checkpoint {
    const REWIND: &str = "rewind=";

    pub(super) fn metadata(&self) -> String {
        format!("{}{}", Self::REWIND, self.rewind)
    }

    /// From a commit; without the worker's metadata, as a tool that sets offsets writes it, nothing is rewound.
    pub(super) fn parse(offset: i64, metadata: &str) -> Option<Self> {
        let rewind = metadata.strip_prefix(Self::REWIND)?.parse().ok()?;
        (0..=offset).contains(&rewind).then_some(Self { offset, rewind })
    }
}

impl Partition {
    pub(super) fn new(kind: Kind, rules: &Rules, capacity: &Arc<Capacity>, from: Option<&Checkpoint>) -> Self {
        Self {
            detector: Detector::within(rules, capacity),
            next: from.map(|checkpoint| checkpoint.rewind),
            silent_below: from.map_or(0, |checkpoint| checkpoint.offset),
            stored: from.cloned(),
            trail: Trail::new(history(kind, rules)),
        }
    }

    /// A message was read.
    pub(super) fn pass(&mut self, offset: i64, rules: &Rules, capacity: &Arc<Capacity>) -> Passage {
        let anew = self.next.is_some_and(|next| offset < next);
        if anew {
            self.detector = Detector::within(rules, capacity);
            self.silent_below = 0;
            self.stored = None;
            self.trail = Trail::new(self.trail.history);
        }
        self.next = Some(offset + 1);
        match anew {
            true => Passage::Anew,
            false if offset < self.silent_below => Passage::Silent,
            false => Passage::New,
        }
    }

    /// The message at `offset` was of the moment `at`.
    pub(super) fn mark(&mut self, offset: i64, at: Timestamp) {
        self.trail.mark(offset, at);
    }

    pub(super) fn next(&self) -> Option<i64> {
        self.next
    }

    /// What may be committed when all that was read is acknowledged; `None` where that was stored already, or where
    /// nothing new was read yet.
    pub(super) fn checkpoint(&self) -> Option<Checkpoint> {
        let offset = self.next.filter(|next| *next >= self.silent_below)?;
        let rewind = self.trail.start().unwrap_or(offset).min(offset);
        let checkpoint = Checkpoint { offset, rewind };
        (self.stored.as_ref() != Some(&checkpoint)).then_some(checkpoint)
    }

    pub(super) fn stored(&mut self, checkpoint: Checkpoint) {
        self.stored = Some(checkpoint);
    }
}

/// How far back the records reach from which the findings of a partition follow: with a rule by operator in its
/// windows, with others in those of the signals.
fn history(kind: Kind, rules: &Rules) -> Duration {
    let active = rules.iter().filter(|rule| rule.mode() != Mode::Off);
    let counted_here = active.filter(|rule| match kind {
        Kind::Callbacks => rule.is_counted_at_once(),
        Kind::Signals => !rule.is_counted_at_once(),
    });
    let longest = counted_here.map(|rule| detector::history(&rule.measure())).max();
    longest.map_or(Duration::ZERO, |history| history + LATENESS)
}

/// Where the records of the last `history` begin. Offsets rise while times only nearly do, so it is kept in legs,
/// runs of offsets with their latest moment; the legs before the first that is late enough are behind.
struct Trail {
    history: Duration,
    newest: Option<Timestamp>,
    legs: VecDeque<Leg>,
    leg_records: i64,
}

struct Leg {
    first: i64,
    newest: Timestamp,
}

impl Trail {
    fn new(history: Duration) -> Self {
        Self {
            history,
            newest: None,
            legs: VecDeque::new(),
            leg_records: 1,
        }
    }

    fn start(&self) -> Option<i64> {
        self.legs.front().map(|leg| leg.first)
    }

    fn mark(&mut self, offset: i64, at: Timestamp) {
        if self.history.is_zero() {
            return;
        }
        let newest = self.newest.map_or(at, |newest| newest.max(at));
        self.newest = Some(newest);
        match self.legs.back_mut() {
            Some(leg) if offset < leg.first + self.leg_records => leg.newest = leg.newest.max(at),
            _ => self.legs.push_back(Leg {
                first: offset,
                newest: at,
            }),
        }
        let oldest = newest.before(self.history);
        while self.legs.front().is_some_and(|leg| leg.newest < oldest) {
            self.legs.pop_front();
        }
        if self.legs.len() > LEGS_MAX {
            self.join_pairs();
        }
    }

    fn join_pairs(&mut self) {
        let mut joined: VecDeque<Leg> = VecDeque::with_capacity(LEGS_MAX);
        for (place, leg) in self.legs.drain(..).enumerate() {
            match joined.back_mut() {
                Some(former) if place % 2 == 1 => former.newest = former.newest.max(leg.newest),
                _ => joined.push_back(leg),
            }
        }
        self.legs = joined;
        self.leg_records *= 2;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use portcullis_schema::Timestamp;
    use proptest::prelude::*;

    use super::{Capacity, Checkpoint, Kind, LEGS_MAX, Partition, Passage, Rules, Trail};
    use std::sync::Arc;

    const RULE: &str = "[[rule]]\nname = \"a\"\ncommands = [\"Group.CallbackBeforeCreateTopic\"]\n\
        by = \"operator\"\nwindow = \"60s\"\nthreshold = 5\n";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000 + second * 1_000_000)
    }

    #[test]
    fn a_commit_reads_back_and_one_of_another_tool_is_none() {
        let checkpoint = Checkpoint { offset: 10, rewind: 3 };
        assert_eq!(Checkpoint::parse(10, &checkpoint.metadata()), Some(checkpoint));
        for metadata in ["", "rewind=11", "rewind=-1", "rewind=", "3"] {
            assert_eq!(Checkpoint::parse(10, metadata), None, "{metadata}");
        }
    }

    #[test]
    fn a_partition_is_silent_below_its_commit_and_begins_anew_below_its_offsets() {
        let (rules, capacity) = (Rules::read("r", RULE).expect("rules"), Arc::new(Capacity::default()));
        let from = Checkpoint { offset: 10, rewind: 3 };
        let mut partition = Partition::new(Kind::Callbacks, &rules, &capacity, Some(&from));
        let mut pass = |offset| {
            let passage = partition.pass(offset, &rules, &capacity);
            partition.mark(offset, at(offset));
            (passage, partition.checkpoint())
        };
        let commit = |offset, rewind| Some(Checkpoint { offset, rewind });
        assert_eq!(pass(3), (Passage::Silent, None));
        assert_eq!(pass(9), (Passage::Silent, None), "that was committed before");
        assert_eq!(pass(10), (Passage::New, commit(11, 3)));
        assert_eq!(pass(200), (Passage::New, commit(201, 200)), "180 s later");
        assert_eq!(pass(0), (Passage::Anew, commit(1, 0)));
        assert_eq!(pass(1), (Passage::New, commit(2, 0)));
        partition.stored(Checkpoint { offset: 2, rewind: 0 });
        assert_eq!(partition.checkpoint(), None);
    }

    proptest! {
        #[test]
        fn a_trail_starts_at_or_before_every_record_of_its_history(
            times in proptest::collection::vec(0_i64..400, 1..200),
        ) {
            let mut trail = Trail::new(Duration::from_secs(100));
            for (offset, time) in (0_i64..).zip(&times) {
                trail.mark(offset, at(*time));
            }
            let newest = times.iter().max().copied().unwrap_or(0);
            let first = (0_i64..).zip(&times).find(|(_, time)| **time >= newest - 100);
            prop_assert_eq!(trail.start(), first.map(|(offset, _)| offset));
        }
    }

    #[test]
    fn a_long_trail_stays_small_and_starts_early_enough() {
        let mut trail = Trail::new(Duration::from_secs(100_000));
        for offset in 0..300_000 {
            trail.mark(offset, at(offset));
        }
        let start = trail.start().expect("a start");
        assert!(trail.legs.len() <= LEGS_MAX);
        assert!((199_000..=199_999).contains(&start), "{start}");
    }
}

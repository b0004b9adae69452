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

use crate::detector::{Capacity, Detector, LATENESS};
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
    /// What the last successful commit said.
    committed: Option<i64>,
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
            committed: from.map(|checkpoint| checkpoint.offset),
            trail: Trail::new(history(kind, rules)),
        }
    }

    /// A message was read.
    pub(super) fn pass(&mut self, offset: i64, rules: &Rules, capacity: &Arc<Capacity>) -> Passage {
        let anew = self.next.is_some_and(|next| offset < next);
        if anew {
            self.detector = Detector::within(rules, capacity);
            self.silent_below = 0;
            self.committed = None;
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

    /// What is to be committed, unless it was, or nothing new was read yet.
    pub(super) fn checkpoint(&self) -> Option<Checkpoint> {
        let offset = self
            .next
            .filter(|next| *next >= self.silent_below && self.committed != Some(*next))?;
        let rewind = self.trail.start().unwrap_or(offset).min(offset);
        Some(Checkpoint { offset, rewind })
    }

    pub(super) fn committed(&mut self, offset: i64) {
        self.committed = Some(offset);
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
    let longest = counted_here.map(|rule| rule.measure().history()).max();
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

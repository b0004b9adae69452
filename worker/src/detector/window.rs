//! One rule's window over one subject.
//!
//! A window keeps the last `threshold` observations within its length; a new one that makes it full is a hit. A hit
//! empties the window, so that the next one needs `threshold` new observations: otherwise every later record would be
//! a hit too.
//!
//! Why two tallies: since when a window counts is history, and history has no end. A worker that restarts, or a replay
//! that begins in the middle, would count a long burst in another phase and come to other findings than before. So
//! what a hit emptied is forgotten on a schedule that only the records' own time sets. Time is cut into spans of half
//! a window. The hits of a span are told by a tally that began, with nothing emptied, at the start of the span before
//! it; meanwhile the other tally warms up for the span that follows. So every hit follows from the records of the
//! last two windows alone, wherever one begins to read, and over a short burst both tallies agree.

use std::collections::VecDeque;
use std::time::Duration;

use portcullis_schema::{Timestamp, Uuid};

use crate::rules::Measure;

/// The last observations, by time and then by record.
#[derive(Debug)]
pub(crate) struct Window {
    seen: VecDeque<Observation>,
    span: i64,
    /// For each tally how many of `seen` it counts.
    counted: [usize; 2],
}

#[derive(Clone, Copy, Debug)]
struct Observation {
    at: Timestamp,
    record: Uuid,
    /// Of a rule that counts distinct values the value's hash, else 0.
    value: u64,
    /// For each tally whether it counts this one.
    counts: [bool; 2],
}

/// How far back the records reach that the hits of a moment follow from.
pub(crate) fn history(measure: &Measure) -> Duration {
    measure.length * 2
}

fn span_of(measure: &Measure, at: Timestamp) -> i64 {
    let half = i64::try_from(measure.length.as_micros() / 2).unwrap_or(i64::MAX);
    at.as_micros().div_euclid(half.max(1))
}

impl Window {
    pub(crate) fn new(measure: &Measure, at: Timestamp) -> Self {
        Self {
            // Most subjects are seen once: their window is one observation large.
            seen: VecDeque::with_capacity(1),
            span: span_of(measure, at),
            counted: [0; 2],
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.seen.len()
    }

    /// Counts a record, or with `value` a distinct value of it; the records within the window, when it is a hit.
    ///
    /// A repeat of a record counts once. A late record takes its place in the order of time, unless it is older than
    /// the window or than all of the last `threshold` observations.
    pub(crate) fn observe(
        &mut self,
        measure: &Measure,
        at: Timestamp,
        record: Uuid,
        value: Option<u64>,
    ) -> Option<Vec<Uuid>> {
        self.enter_span(span_of(measure, at));
        let newest = self.seen.back().map_or(at, |last| last.at.max(at));
        let oldest = newest.before(measure.length);
        while self.seen.front().is_some_and(|first| first.at <= oldest) {
            self.forget(0);
        }
        if at <= oldest || !self.admit(at, record, value) {
            return None;
        }
        if self.seen.len() > measure.threshold {
            self.forget(0);
        }
        let told = self.told_by();
        let evidence = (self.counted[told] >= measure.threshold).then(|| self.evidence(told, record));
        for tally in 0..self.counted.len() {
            if self.counted[tally] >= measure.threshold {
                self.empty(tally);
            }
        }
        evidence
    }

    /// The tally whose hits are told.
    fn told_by(&self) -> usize {
        usize::from(self.span % 2 != 0)
    }

    fn enter_span(&mut self, span: i64) {
        if span <= self.span {
            return;
        }
        let skipped = span - self.span > 1;
        self.span = span;
        self.begin(1 - self.told_by());
        if skipped {
            self.begin(self.told_by());
        }
    }

    fn begin(&mut self, tally: usize) {
        for observation in &mut self.seen {
            observation.counts[tally] = true;
        }
        self.counted[tally] = self.seen.len();
    }

    fn empty(&mut self, tally: usize) {
        for observation in &mut self.seen {
            observation.counts[tally] = false;
        }
        self.counted[tally] = 0;
    }

    /// Whether it was new.
    fn admit(&mut self, at: Timestamp, record: Uuid, value: Option<u64>) -> bool {
        let same = value.and_then(|value| self.seen.iter().position(|earlier| earlier.value == value));
        if let Some(place) = same {
            let earlier = self.seen[place];
            if (earlier.at, earlier.record) >= (at, record) {
                return false;
            }
            self.forget(place);
        }
        // Nearly always the newest: the search begins at the end.
        let behind = self
            .seen
            .iter()
            .rev()
            .take_while(|other| (other.at, other.record) > (at, record))
            .count();
        let place = self.seen.len() - behind;
        let before = place.checked_sub(1).and_then(|before| self.seen.get(before));
        if before.is_some_and(|before| (before.at, before.record) == (at, record)) {
            return false;
        }
        self.seen.insert(
            place,
            Observation {
                at,
                record,
                value: value.unwrap_or(0),
                counts: [true; 2],
            },
        );
        self.counted = self.counted.map(|counted| counted + 1);
        true
    }

    fn forget(&mut self, place: usize) {
        if let Some(observation) = self.seen.remove(place) {
            for (counted, counts) in self.counted.iter_mut().zip(observation.counts) {
                *counted -= usize::from(counts);
            }
        }
    }

    /// The oldest first, the record that crossed the threshold last.
    fn evidence(&self, tally: usize, crossing: Uuid) -> Vec<Uuid> {
        let counted = self.seen.iter().filter(|observation| observation.counts[tally]);
        let others = counted
            .map(|observation| observation.record)
            .filter(|record| *record != crossing);
        others.chain([crossing]).collect()
    }
}

use std::collections::BTreeMap;

use super::Span;

/// Ranges of a boot that are kept; what a person looks at are the first few. Beyond, only the records are counted.
pub(super) const RANGES_MAX: usize = 256;

/// What is proven to be missing.
#[derive(Clone, Debug, Default)]
pub(super) struct Missing {
    /// First to last.
    ranges: BTreeMap<u64, u64>,
    records: u64,
}

impl Missing {
    /// Adds a range above all that are there.
    pub(super) fn add(&mut self, hole: Span) {
        self.records = self.records.saturating_add(hole.records());
        let has_room = self.ranges.len() < RANGES_MAX;
        match self.ranges.last_entry() {
            Some(mut former) if former.get().checked_add(1) == Some(hole.first) => {
                former.insert(hole.last);
            }
            _ if has_room => {
                self.ranges.insert(hole.first, hole.last);
            }
            _ => {}
        }
    }

    /// It came after all; whether it was missing.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        let range = self.ranges.range(..=number).next_back();
        let Some((first, last)) = range
            .map(|(first, last)| (*first, *last))
            .filter(|(_, last)| *last >= number)
        else {
            return false;
        };
        self.ranges.remove(&first);
        if first < number {
            self.ranges.insert(first, number - 1);
        }
        if number < last {
            self.ranges.insert(number + 1, last);
        }
        self.records = self.records.saturating_sub(1);
        true
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    pub(super) fn ranges(&self) -> Vec<Span> {
        let ranges = self.ranges.iter();
        ranges
            .map(|(first, last)| Span {
                first: *first,
                last: *last,
            })
            .collect()
    }
}

use std::collections::BTreeMap;

use uuid::Uuid;

use super::missing::{Missing, RANGES_MAX};
use super::seen::Seen;
use super::{BootReport, Ending, Span};
use crate::{LedgerEntry, LedgerEvent, Timestamp};

/// What is known of one start of a receiver. Numbers in `base..floor` are judged: seen, or missing. Those from `floor`
/// on are remembered until an entry judges them.
#[derive(Clone, Debug, Default)]
pub(super) struct Boot {
    pub(super) receiver: String,
    /// When it was last heard of, in steps of the account.
    pub(super) touched: u64,
    pub(super) seen: Seen,
    pub(super) missing: Missing,
    pub(super) repeats: u64,
    records: u64,
    too_large: u64,
    first: Option<u64>,
    last: Option<u64>,
    base: Option<u64>,
    floor: u64,
    /// Below this, what was seen was forgotten to keep the bound of the memory.
    forgotten_below: u64,
    told: Option<Told>,
    followed: Option<(Uuid, Timestamp)>,
}

/// Reasons for a loss that are kept of a boot, and the longest text: whoever writes an entry of a megabyte must not fill
/// the memory. A receiver knows nine reasons.
const REASONS_MAX: usize = 32;
pub(super) const TEXT_BYTES_MAX: usize = 255;

/// What its entries say.
#[derive(Clone, Debug)]
struct Told {
    at: Timestamp,
    stopped: bool,
    lost: BTreeMap<String, u64>,
    host: String,
}

impl Boot {
    pub(super) fn of(receiver: &str) -> Self {
        let receiver = receiver.to_owned();
        Self {
            receiver,
            ..Self::default()
        }
    }

    pub(super) fn is_told_of(&self) -> bool {
        self.told.is_some()
    }

    /// Counts a record, or the dead letter of one.
    pub(super) fn record(&mut self, number: u64, too_large: bool) {
        self.first = Some(self.first.map_or(number, |first| first.min(number)));
        self.last = Some(self.last.map_or(number, |last| last.max(number)));
        let new = match self.base {
            Some(base) if number < base => true,
            Some(_) if number < self.floor => self.missing.remove(number),
            _ => self.seen.insert(number),
        };
        match new {
            true => self.records += 1,
            false => self.repeats += 1,
        }
        self.too_large += u64::from(too_large && new);
    }

    /// What it remembers is dropped, and not judged any more.
    pub(super) fn forget(&mut self) {
        self.seen = Seen::default();
        let below = self.last.map_or(0, |last| last.saturating_add(1));
        self.forgotten_below = self.forgotten_below.max(below);
    }

    /// What of it becomes certain by one of its own entries.
    pub(super) fn hear(&mut self, entry: &LedgerEntry, horizon: Timestamp) -> Vec<Span> {
        if self.told.as_ref().is_none_or(|told| told.at <= entry.at) {
            let fits = |text: &String| text.len() <= TEXT_BYTES_MAX;
            let lost = entry.lost.iter().filter(|(reason, _)| fits(reason));
            self.told = Some(Told {
                at: entry.at,
                stopped: entry.event == LedgerEvent::Stopped,
                lost: lost
                    .take(REASONS_MAX)
                    .map(|(reason, records)| (reason.clone(), *records))
                    .collect(),
                host: Some(entry.host.clone()).filter(fits).unwrap_or_default(),
            });
        }
        if self.base.is_none() && entry.at >= horizon {
            let started = matches!(entry.event, LedgerEvent::Started { .. });
            let base = if started { 0 } else { entry.next_seq };
            (self.base, self.floor) = (Some(base), base);
        }
        self.judge_below(entry.next_seq)
    }

    /// What of it becomes certain by the first entry of the boot after it.
    pub(super) fn follow(&mut self, by: Uuid, at: Timestamp, next_seq: Option<u64>) -> Vec<Span> {
        self.followed = Some((by, at));
        next_seq.map_or_else(Vec::new, |next_seq| self.judge_below(next_seq))
    }

    fn judge_below(&mut self, next_seq: u64) -> Vec<Span> {
        if self.base.is_none() || next_seq < self.floor {
            return Vec::new();
        }
        let mut certain = Vec::new();
        for hole in self.seen.holes(self.floor.max(self.forgotten_below), next_seq) {
            self.missing.add(hole);
            if certain.len() < RANGES_MAX {
                certain.push(hole);
            }
        }
        self.floor = next_seq;
        self.seen.drop_below(next_seq);
        certain
    }

    pub(super) fn report(&self, boot: Uuid) -> BootReport {
        let judged = self.base.map(|base| (base, self.floor));
        let above = self.floor.max(self.forgotten_below);
        let holes = || {
            let end = self.last.filter(|_| judged.is_some()).unwrap_or(0);
            self.seen.holes(above, end)
        };
        let told = self.told.as_ref();
        BootReport {
            receiver: self.receiver.clone(),
            boot,
            first: self.first,
            last: self.last,
            records: self.records,
            too_large: self.too_large,
            repeats: self.repeats,
            judged,
            forgotten_below: self.forgotten_below,
            missing: self.missing.ranges(),
            missing_records: self.missing.records(),
            late: holes().take(RANGES_MAX).collect(),
            late_records: holes().fold(0, |sum: u64, hole| sum.saturating_add(hole.records())),
            lost: told.map(|told| told.lost.clone()).unwrap_or_default(),
            host: told.map(|told| told.host.clone()).unwrap_or_default(),
            ending: match (self.followed, told) {
                (Some((by, at)), _) => Ending::Followed { by, at },
                (None, None) => Ending::Unknown,
                (None, Some(told)) if told.stopped => Ending::Stopped { at: told.at },
                (None, Some(told)) => Ending::Open { heard: told.at },
            },
        }
    }
}

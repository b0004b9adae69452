//! What is missing of the records, by what their receivers say in the ledger. Pure: records, dead letters and entries
//! go in, in nearly any order; a report comes out.
//!
//! **The one order that counts.** [`Account::hear`] may be given an entry only when every record has been counted that
//! was in `callbacks`, and every dead letter, at a moment *after* the entry was in the ledger. So its user first knows
//! that the entry is there, because it was read or because the ledger's end lies behind it; then asks for the end
//! offsets of the other topics; then reads these up to there; then gives the entry. The entries themselves come in the
//! order of the ledger.
//!
//! **Where a boot begins.** Retention, or who reads, cuts off the old end of the topics. From the horizon on every
//! record is there to be counted: one that was received then, if it is not missing. So a boot that says at or after
//! the horizon that it started is judged from 0; one that was there before, from the next number that its first entry
//! after the horizon names. A boot without such an entry is not judged at all.
//!
//! **Memory.** What an entry has judged is dropped but for the ranges that are missing, so an account that goes on
//! for ever holds what came since the last entries. Both what it remembers and the number of boots are bounded
//! ([`Limits`]); what had to be forgotten is not judged, and said.

mod boot;
mod missing;
mod numbered;
mod seen;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use uuid::Uuid;

use crate::{LedgerEntry, LedgerEvent, Timestamp};
use boot::{Boot, TEXT_BYTES_MAX};
pub use numbered::Numbered;

/// How much later than the first moment that is kept whole the horizon is. A record carries the moment at which its
/// callback's head came, and gets its number and its place in the journal up to a deadline later; and retention cuts
/// whole segments, whose records are not exactly in the order of their times.
pub const SLACK: Duration = Duration::from_secs(60);

/// Bounds of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Boots, of about 500 bytes without their records. Where there are more, the one heard of longest ago is
    /// forgotten, those first of which no entry tells.
    pub boots_max: usize,
    /// Chunks of 4,096 sequence numbers that wait for an entry, of 550 bytes.
    pub chunks_max: usize,
}

/// The account.
#[derive(Clone, Debug)]
pub struct Account {
    limits: Limits,
    horizon: Timestamp,
    boots: HashMap<Uuid, Boot>,
    chunks: usize,
    steps: u64,
    strangers: u64,
    forgotten: Forgotten,
}

/// Boots that were forgotten to make room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// How many.
    pub boots: u64,
    /// What was missing of them.
    pub missing_records: u64,
    /// What was there more than once of them.
    pub repeats: u64,
}

/// Numbers in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first.
    pub first: u64,
    /// The last, not below the first.
    pub last: u64,
}

/// Records that an entry has just proven to be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The receiver.
    pub receiver: String,
    /// The boot that gave the numbers.
    pub boot: Uuid,
    /// The numbers.
    pub span: Span,
}

/// What is known of one boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootReport {
    /// The receiver's instance.
    pub receiver: String,
    /// Which start of it.
    pub boot: Uuid,
    /// The lowest number that was seen.
    pub first: Option<u64>,
    /// The highest number that was seen.
    pub last: Option<u64>,
    /// Numbers that were seen, dead letters among them. Below what is judged a repeat counts as a record.
    pub records: u64,
    /// Those of them that are dead letters, because they were too large.
    pub too_large: u64,
    /// Messages with a number that had been seen before.
    pub repeats: u64,
    /// From which number on, and below which, every number is either seen or missing. `None`: nothing can be said, since
    /// no entry tells of it from the horizon on.
    pub judged: Option<(u64, u64)>,
    /// Numbers below are left out of the judgement, since they had to be forgotten. 0: none.
    pub forgotten_below: u64,
    /// Ranges that are missing, the first 256.
    pub missing: Vec<Span>,
    /// Records that are missing, in all ranges.
    pub missing_records: u64,
    /// Holes above what is proven, the first 256: their records may still be in the receiver's journal.
    pub late: Vec<Span>,
    /// Records in all of these holes.
    pub late_records: u64,
    /// Records that the receiver counted as lost, by reason.
    pub lost: BTreeMap<String, u64>,
    /// The machine, as the receiver calls it; empty where it is not known.
    pub host: String,
    /// How it ended.
    pub ending: Ending,
}

/// How a boot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// No entry tells of it.
    Unknown,
    /// It has not ended, as far as the ledger tells.
    Open {
        /// Its last entry.
        heard: Timestamp,
    },
    /// In order.
    Stopped {
        /// When.
        at: Timestamp,
    },
    /// Another boot went on with its journal.
    Followed {
        /// Which.
        by: Uuid,
        /// When that one started.
        at: Timestamp,
    },
}

impl Account {
    /// An empty one. Every record that was received at or after `horizon` will be counted, unless it is missing: the
    /// moment from which on the topics are read or kept, and [`SLACK`].
    pub fn new(horizon: Timestamp, limits: Limits) -> Self {
        Self {
            limits,
            horizon,
            boots: HashMap::new(),
            chunks: 0,
            steps: 0,
            strangers: 0,
            forgotten: Forgotten::default(),
        }
    }

    /// Something older turned out to be cut off than was known. Only before the first entry.
    pub fn raise_horizon(&mut self, horizon: Timestamp) {
        self.horizon = self.horizon.max(horizon);
    }

    /// From when on boots are judged.
    pub fn horizon(&self) -> Timestamp {
        self.horizon
    }

    /// A record in `callbacks`.
    pub fn record(&mut self, record: &Numbered<'_>) {
        self.count(record, false);
    }

    /// A record in `dead-letters` because it was too large for `callbacks`.
    pub fn dead_letter(&mut self, record: &Numbered<'_>) {
        self.count(record, true);
    }

    /// An entry of the ledger. See the module about when. Returns what became certain by it.
    pub fn hear(&mut self, entry: &LedgerEntry) -> Vec<Hole> {
        let horizon = self.horizon;
        let mut holes = Vec::new();
        if let LedgerEvent::Started {
            former_boot: Some(former),
            former_next_seq,
        } = &entry.event
            && former != &entry.boot
        {
            self.judge(*former, &mut holes, |boot| {
                boot.follow(entry.boot, entry.at, *former_next_seq)
            });
        }
        if self.boot(&entry.receiver, entry.boot).is_some() {
            self.judge(entry.boot, &mut holes, |boot| boot.hear(entry, horizon));
        }
        holes
    }

    /// Every boot that it remembers, by receiver, then in the order of their last signs of life.
    pub fn boots(&self) -> Vec<BootReport> {
        let mut reports: Vec<BootReport> = self.boots.iter().map(|(id, boot)| boot.report(*id)).collect();
        reports.sort_by_cached_key(|report| (report.receiver.clone(), report.ending.moment(), report.boot));
        reports
    }

    /// Of all boots, those that were forgotten too.
    pub fn missing_records(&self) -> u64 {
        let boots = self.boots.values().map(|boot| boot.missing.records());
        boots.fold(self.forgotten.missing_records, u64::saturating_add)
    }

    /// Of all boots, those that were forgotten too.
    pub fn repeats(&self) -> u64 {
        let boots = self.boots.values().map(|boot| boot.repeats);
        boots.fold(self.forgotten.repeats, u64::saturating_add)
    }

    /// Boots that had to be forgotten.
    pub fn forgotten(&self) -> Forgotten {
        self.forgotten
    }

    /// Records and entries with the boot of another receiver, or a name that is too long for one: somebody made them up,
    /// or copied a boot's id.
    pub fn strangers(&self) -> u64 {
        self.strangers
    }

    fn count(&mut self, record: &Numbered<'_>, too_large: bool) {
        let number = record.seq;
        let chunks_max = self.limits.chunks_max;
        let Some(boot) = self.boot(&record.receiver, record.boot) else {
            return;
        };
        let before = boot.seen.chunks();
        let fits = boot.seen.has_room_for(number);
        boot.record(number, too_large);
        self.chunks = self.chunks + self.boots[&record.boot].seen.chunks() - before;
        if !fits && self.chunks > chunks_max {
            self.forget_chunks();
        }
    }

    fn judge(&mut self, id: Uuid, holes: &mut Vec<Hole>, judge: impl FnOnce(&mut Boot) -> Vec<Span>) {
        let Some(boot) = self.boots.get_mut(&id) else { return };
        let before = boot.seen.chunks();
        let certain = judge(boot);
        holes.extend(certain.into_iter().map(|span| Hole {
            receiver: boot.receiver.clone(),
            boot: id,
            span,
        }));
        self.chunks = self.chunks + boot.seen.chunks() - before;
    }

    /// `None` where the boot is another receiver's, or that has no name that a receiver can have.
    fn boot(&mut self, receiver: &str, id: Uuid) -> Option<&mut Boot> {
        self.steps += 1;
        if receiver.len() > TEXT_BYTES_MAX {
            self.strangers += 1;
            return None;
        }
        if !self.boots.contains_key(&id) {
            if self.boots.len() >= self.limits.boots_max {
                self.forget_boot();
            }
            self.boots.insert(id, Boot::of(receiver));
        }
        let boot = self.boots.get_mut(&id).filter(|boot| boot.receiver == receiver);
        match boot {
            Some(boot) => {
                boot.touched = self.steps;
                Some(boot)
            }
            None => {
                self.strangers += 1;
                None
            }
        }
    }

    fn forget_boot(&mut self) {
        let oldest = self
            .boots
            .iter()
            .min_by_key(|(_, boot)| (boot.is_told_of(), boot.touched));
        let Some(boot) = oldest.map(|(id, _)| *id).and_then(|id| self.boots.remove(&id)) else {
            return;
        };
        self.chunks -= boot.seen.chunks();
        self.forgotten.boots += 1;
        self.forgotten.missing_records = self.forgotten.missing_records.saturating_add(boot.missing.records());
        self.forgotten.repeats += boot.repeats;
    }

    fn forget_chunks(&mut self) {
        let remembering = self.boots.values_mut().filter(|boot| boot.seen.chunks() > 0);
        if let Some(boot) = remembering.min_by_key(|boot| boot.touched) {
            self.chunks -= boot.seen.chunks();
            boot.forget();
        }
    }
}

impl BootReport {
    /// Records that the receiver counted as lost.
    pub fn lost_records(&self) -> u64 {
        self.lost.values().fold(0, |sum, records| sum.saturating_add(*records))
    }
}

impl Ending {
    /// The last that was heard of the boot, where something was.
    pub fn moment(&self) -> Option<Timestamp> {
        match self {
            Self::Unknown => None,
            Self::Open { heard: at } | Self::Stopped { at } | Self::Followed { at, .. } => Some(*at),
        }
    }
}

impl Span {
    /// How many.
    pub fn records(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(formatter, "{}", self.first),
            false => write!(formatter, "{}..={}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests;

//! Records that will never be in the topic: each is counted once, by reason, wherever it is lost.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Why a record is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The disk refused it, and the journal closed before that changed.
    JournalBroken,
    /// It was in the journal, and cannot be read any more.
    JournalDamaged,
    /// The journal had no room, and neither had memory.
    JournalFull,
    /// Records came faster than the disk takes them.
    JournalOverrun,
    /// Making it panicked.
    Panic,
    /// It came after the journal was closed.
    Stopping,
    /// The broker takes it in no form, not even as a dead letter.
    TooLargeForBroker,
    /// The journal's entry is of another version.
    Undecodable,
    /// It cannot be written as JSON.
    Unencodable,
}

/// The counter. Cheap to clone; all clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Losses(Family<Reason, Counter>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: Loss,
}

impl Loss {
    const ALL: [Self; 9] = [
        Self::JournalBroken,
        Self::JournalDamaged,
        Self::JournalFull,
        Self::JournalOverrun,
        Self::Panic,
        Self::Stopping,
        Self::TooLargeForBroker,
        Self::Undecodable,
        Self::Unencodable,
    ];

    /// The label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::JournalBroken => "journal_broken",
            Self::JournalDamaged => "journal_damaged",
            Self::JournalFull => "journal_full",
            Self::JournalOverrun => "journal_overrun",
            Self::Panic => "panic",
            Self::Stopping => "stopping",
            Self::TooLargeForBroker => "too_large_for_broker",
            Self::Undecodable => "undecodable",
            Self::Unencodable => "unencodable",
        }
    }
}

impl EncodeLabelValue for Loss {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        EncodeLabelValue::encode(&self.name(), encoder)
    }
}

impl Losses {
    /// With every reason at 0 from the start: of a counter that begins with its first loss, Prometheus sees no rise.
    pub fn new(registry: &mut Registry) -> Self {
        let losses = Self::default();
        for reason in Loss::ALL {
            drop(losses.0.get_or_create(&Reason { reason }));
        }
        registry.register(
            "receiver_lost",
            "Records that will never be in the topic, by reason",
            losses.0.clone(),
        );
        losses
    }

    /// What is lost so far, by the reasons there are.
    pub fn so_far(&self) -> BTreeMap<String, u64> {
        let counts = Loss::ALL.map(|reason| (reason, self.0.get_or_create(&Reason { reason }).get()));
        let lost = counts.into_iter().filter(|(_, count)| *count > 0);
        lost.map(|(reason, count)| (reason.name().to_owned(), count)).collect()
    }

    /// So many more are lost.
    pub fn count(&self, reason: Loss, records: u64) {
        self.0.get_or_create(&Reason { reason }).inc_by(records);
    }
}

//! Records that will never be in the topic: each is counted once, by reason, wherever it is lost. Losses come in
//! thousands, so the log has two lines for an episode of each reason: its first loss with what to do, and how many it
//! took when it is over.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tracing::{error, warn};

/// Without a loss for so long, an episode is over: more than the pauses between two tries of a broken disk.
const OVER_AFTER: Duration = Duration::from_secs(5);

/// Why a record is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
pub struct Losses {
    counts: Family<Reason, Counter>,
    episodes: Arc<Mutex<Episodes>>,
}

/// By reason, those that are not over: one each at the most.
#[derive(Debug, Default)]
struct Episodes(BTreeMap<Loss, Episode>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Episode {
    records: u64,
    began: Instant,
    last: Instant,
}

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

    fn what_to_do(self) -> &'static str {
        match self {
            Self::JournalBroken => {
                "see to the disk of receiver.data, it goes on by itself when that takes writes again"
            }
            Self::JournalDamaged => "see to the disk of receiver.data, it does not give back what was written",
            Self::JournalFull => "bring Kafka back, which makes room, or give receiver.journal.bytes_max more",
            Self::JournalOverrun => "see to the disk of receiver.data, or spread the callbacks over more receivers",
            Self::Panic => "this is a bug: what was printed before tells where",
            Self::Stopping => "nothing: the receiver is being stopped",
            Self::TooLargeForBroker => "raise max.message.bytes of the topic for dead letters",
            Self::Undecodable => "start the version that wrote the journal until it is published",
            Self::Unencodable => "this is a bug: the line before tells of which record",
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
            drop(losses.counts.get_or_create(&Reason { reason }));
        }
        registry.register(
            "receiver_lost",
            "Records that will never be in the topic, by reason",
            losses.counts.clone(),
        );
        losses
    }

    /// What is lost so far, by the reasons there are.
    pub fn so_far(&self) -> BTreeMap<String, u64> {
        let counts = Loss::ALL.map(|reason| (reason, self.counts.get_or_create(&Reason { reason }).get()));
        let lost = counts.into_iter().filter(|(_, count)| *count > 0);
        lost.map(|(reason, count)| (reason.name().to_owned(), count)).collect()
    }

    /// So many more are lost.
    pub fn count(&self, reason: Loss, records: u64) {
        self.counts.get_or_create(&Reason { reason }).inc_by(records);
        if self.lock().add(reason, records, Instant::now()) {
            error!(
                reason = reason.name(),
                "records are being lost: {}",
                reason.what_to_do()
            );
        }
    }

    /// Says what is over. To be called every so often.
    pub fn look(&self) {
        self.say_over(OVER_AFTER);
    }

    /// Says what has not been said yet: nothing comes any more.
    pub fn end(&self) {
        self.say_over(Duration::ZERO);
    }

    fn say_over(&self, silence: Duration) {
        let over = self.lock().take_over(Instant::now(), silence);
        for (reason, Episode { records, began, last }) in over {
            warn!(
                reason = reason.name(),
                records,
                lasted = ?last - began,
                "no more records are being lost; so many were, `portcullis reconcile` tells which"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Episodes> {
        self.episodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Episodes {
    /// Whether an episode begins with it.
    fn add(&mut self, reason: Loss, records: u64, now: Instant) -> bool {
        let first = !self.0.contains_key(&reason);
        let episode = self.0.entry(reason).or_insert(Episode {
            records: 0,
            began: now,
            last: now,
        });
        episode.records += records;
        episode.last = episode.last.max(now);
        first
    }

    /// Those without a loss for `silence`.
    fn take_over(&mut self, now: Instant, silence: Duration) -> Vec<(Loss, Episode)> {
        let is_over = |_: &Loss, episode: &mut Episode| now.saturating_duration_since(episode.last) >= silence;
        self.0.extract_if(.., is_over).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_of_a_reason_begins_once_and_its_total_is_told_once_when_it_is_over() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut episodes = Episodes::default();
        assert!(episodes.add(Loss::JournalFull, 1, at(0)));
        assert!(!episodes.add(Loss::JournalFull, 2, at(1)));
        assert!(episodes.add(Loss::Panic, 1, at(4)), "another reason");
        assert!(!episodes.add(Loss::JournalFull, 1, at(4)));

        assert_eq!(episodes.take_over(at(8), OVER_AFTER), []);
        assert!(!episodes.add(Loss::Panic, 1, at(8)), "it goes on");
        let told = Episode {
            records: 4,
            began: at(0),
            last: at(4),
        };
        assert_eq!(episodes.take_over(at(9), OVER_AFTER), [(Loss::JournalFull, told)]);
        assert_eq!(episodes.take_over(at(12), OVER_AFTER), []);

        assert!(episodes.add(Loss::JournalFull, 1, at(12)), "a new one");
        let left = episodes.take_over(at(12), Duration::ZERO);
        assert_eq!(left.iter().map(|(_, episode)| episode.records).sum::<u64>(), 3);
    }
}

use std::time::{Duration, Instant};

use portcullis_schema::kafka::Kafka;
use tracing::{debug, error, info, warn};

use super::failed::Failed;
use crate::journal::Lasting;

/// Without an acknowledgement for that long, Kafka is said to be away: a leader change takes a second or two.
const STALLED_AFTER: Duration = Duration::from_secs(5);
/// What happens to single records is said this often at most, for as long as it goes on.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Whether records reach Kafka, said when that changes and not for each record or try.
pub(super) struct Health {
    kafka: Kafka,
    /// When there was last an acknowledgement, or nothing to be acknowledged.
    well: Instant,
    trouble: Option<Trouble>,
    dead_letters: Events,
    alone: Events,
}

/// What was said last, so that it is not said again.
#[derive(PartialEq, Eq)]
enum Trouble {
    Failed(String),
    Stalled,
}

/// Such as happen to single records.
#[derive(Default)]
struct Events {
    said: Option<Instant>,
    since: u64,
}

impl Health {
    pub(super) fn new(kafka: Kafka) -> Self {
        Self {
            kafka,
            well: Instant::now(),
            trouble: None,
            dead_letters: Events::default(),
            alone: Events::default(),
        }
    }

    /// Kafka has acknowledged, or nothing is left that it could acknowledge.
    pub(super) fn is_well(&mut self, backlog: u64) {
        self.well = Instant::now();
        if self.trouble.take().is_some() {
            let bootstrap = &self.kafka.bootstrap;
            info!(bootstrap, backlog, "Kafka acknowledges again");
        }
    }

    /// Nothing is handed over at present.
    pub(super) fn is_idle(&mut self) {
        self.well = Instant::now();
    }

    /// Acknowledgements are awaited. `heard` is what the client last said of its connections.
    pub(super) fn waits(&mut self, backlog: u64, lasting: Lasting, heard: Option<String>) {
        if self.trouble.is_none() && self.is_stalled() {
            self.trouble = Some(Trouble::Stalled);
            let bootstrap = &self.kafka.bootstrap;
            let message = "Kafka acknowledges nothing, records wait in the journal";
            warn!(bootstrap, backlog, %lasting, heard, "{message}");
        }
    }

    /// Whether acknowledgements are awaited for long.
    pub(super) fn is_stalled(&self) -> bool {
        self.well.elapsed() > STALLED_AFTER
    }

    /// A client is given up.
    pub(super) fn failed(&mut self, failed: &Failed, backlog: u64) {
        let reason = failed.told(&self.kafka);
        if matches!(failed, Failed::Lost) {
            warn!(reason, backlog, "publishing goes on with a new client");
            return;
        }
        let trouble = Some(Trouble::Failed(reason.clone()));
        if self.trouble == trouble {
            debug!(reason, backlog, "publishing failed again");
            return;
        }
        self.trouble = trouble;
        let message = "publishing failed, it is tried again and records wait in the journal";
        error!(reason, backlog, "{message}");
    }

    /// A record went to the dead letters.
    pub(super) fn dead_letter(&mut self) {
        if let Some(records) = self.dead_letters.happened() {
            let topic = &self.kafka.topics.callbacks;
            warn!(
                topic,
                records,
                "records over the topic's max.message.bytes went to the dead letters: raise it, or lower receiver.body_bytes_max"
            );
        }
    }

    /// A record fits into the topic, but did not in a batch with others. Unless one of those became a dead letter, it
    /// was the batch that was too large.
    pub(super) fn sent_alone(&mut self) {
        if self.dead_letters.were_said() {
            return;
        }
        if let Some(records) = self.alone.happened() {
            let topic = &self.kafka.topics.callbacks;
            warn!(
                topic,
                records,
                "batches are over the topic's max.message.bytes, their records are sent one by one: raise it, or set batch.size below it in [kafka] properties"
            );
        }
    }
}

impl Events {
    /// How many there were since that was last said, where it is to be said now.
    fn happened(&mut self) -> Option<u64> {
        self.since += 1;
        if self.were_said() {
            return None;
        }
        self.said = Some(Instant::now());
        Some(std::mem::take(&mut self.since))
    }

    fn were_said(&self) -> bool {
        self.said.is_some_and(|said| said.elapsed() < SAY_EVERY)
    }
}

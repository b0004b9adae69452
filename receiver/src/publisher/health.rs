use std::time::{Duration, Instant};

use portcullis_schema::kafka::Kafka;
use tracing::{error, info, warn};

use super::failed::Failed;
use crate::journal::Lasting;

/// Without an acknowledgement for that long, Kafka is said to be away: a leader change takes a second or two.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// Whether records reach Kafka, said when that changes and not for each record or try.
pub(super) struct Health {
    kafka: Kafka,
    /// When there was last an acknowledgement, or nothing to be acknowledged.
    well: Instant,
    trouble: Option<Trouble>,
}

/// What was said last, so that it is not said again.
#[derive(PartialEq, Eq)]
enum Trouble {
    Failed(String),
    Stalled,
}

impl Health {
    pub(super) fn new(kafka: Kafka) -> Self {
        Self {
            kafka,
            well: Instant::now(),
            trouble: None,
        }
    }

    /// Kafka has acknowledged, or nothing is left that it could acknowledge.
    pub(super) fn is_well(&mut self, backlog: u64) {
        self.well = Instant::now();
        if self.trouble.take().is_some() {
            info!(bootstrap = self.kafka.bootstrap, backlog, "Kafka acknowledges again");
        }
    }

    /// Nothing is handed over at present.
    pub(super) fn is_idle(&mut self) {
        self.well = Instant::now();
    }

    /// Acknowledgements are awaited. `heard` is what the client last said of its connections.
    pub(super) fn waits(&mut self, backlog: u64, lasting: Lasting, heard: Option<String>) {
        if self.trouble.is_none() && self.well.elapsed() > STALLED_AFTER {
            self.trouble = Some(Trouble::Stalled);
            let bootstrap = &self.kafka.bootstrap;
            warn!(
                bootstrap,
                backlog, %lasting, heard, "Kafka acknowledges nothing, records wait in the journal"
            );
        }
    }

    /// A client is given up.
    pub(super) fn failed(&mut self, failed: &Failed, backlog: u64) {
        let reason = failed.told(&self.kafka);
        let trouble = Trouble::Failed(reason.clone());
        if self.trouble.as_ref() == Some(&trouble) {
            tracing::debug!(reason, backlog, "publishing failed again");
            return;
        }
        self.trouble = Some(trouble);
        error!(
            reason,
            backlog, "publishing failed, it is tried again and records wait in the journal"
        );
    }
}

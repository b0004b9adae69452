//! What this boot says of its own sequence: started, each ten seconds how far it is, stopped; so that anyone can prove
//! from the topics alone what is missing.
//!
//! Why the entries go through the journal. An entry's place in it says what came before: once the entry is durable, so
//! is every record below its `next_seq`, or it is counted as lost. The publisher keeps that order, and so what is in
//! the topic is a proof and not a guess. An entry also outlives an outage like a record does. While the journal takes
//! nothing there are no heartbeats; the next one tells what was lost meanwhile.

mod former;

use std::sync::Arc;

use portcullis_schema::{HEARTBEAT_EVERY, LedgerEntry, LedgerEvent, Timestamp, id};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tracing::error;

pub(crate) use former::Former;

use crate::entry::{Entry, Kind};
use crate::journal::Journal;
use crate::loss::Losses;
use crate::record::Boot;

/// The task that says that the boot goes on.
pub(crate) struct Ledger {
    speaker: Arc<Speaker>,
    beating: JoinHandle<()>,
}

/// What is said, and by whom.
pub(crate) struct Speaker {
    pub(crate) boot: Boot,
    pub(crate) host: String,
    pub(crate) journal: Journal,
    pub(crate) losses: Losses,
}

impl Ledger {
    /// Says that the boot has started, and that it goes on until [`Ledger::stop`]. Must be called within a runtime.
    pub(crate) fn start(speaker: Speaker, former: &Former) -> Self {
        speaker.say(LedgerEvent::Started {
            former_boot: former.last_boot(),
            former_next_seq: former.next_seq(),
        });
        let speaker = Arc::new(speaker);
        let beating = Arc::clone(&speaker);
        Self {
            speaker,
            beating: tokio::spawn(async move { beating.beat().await }),
        }
    }

    /// Says that the boot has ended: to be called when its last record is in the journal.
    pub(crate) fn stop(self) {
        self.beating.abort();
        self.speaker.say(LedgerEvent::Stopped);
    }
}

impl Speaker {
    async fn beat(&self) {
        let mut ticks = interval(HEARTBEAT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once, where the start has been said already.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            self.say(LedgerEvent::Heartbeat);
        }
    }

    fn say(&self, event: LedgerEvent) {
        let at = Timestamp::now();
        // Not awaited: the journal keeps the order, and what it cannot take now the next heartbeat tells.
        drop(self.journal.append_with(|| self.entry(event, at)));
    }

    /// Made in the journal's order, so that the numbers given are those of the records before it.
    fn entry(&self, event: LedgerEvent, at: Timestamp) -> Vec<u8> {
        let entry = LedgerEntry {
            receiver: self.boot.receiver().to_owned(),
            boot: self.boot.id(),
            at,
            event,
            next_seq: self.boot.numbers_given(),
            host: self.host.clone(),
            lost: self.losses.so_far(),
        };
        let payload = entry.encode().unwrap_or_else(|error| {
            error!(%error, "ledger entry cannot be encoded");
            Vec::new()
        });
        let entry = Entry {
            kind: Kind::Ledger,
            id: id::random(at),
            received_at: at,
            key: entry.key().into(),
            command: "".into(),
            payload: payload.into(),
        };
        entry.encode()
    }
}

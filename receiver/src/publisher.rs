//! From the journal to Kafka: every record, in the journal's order, and trimmed only when Kafka has it.
//!
//! One thread follows the journal and hands its entries to librdkafka, which batches and sends them. What is handed
//! over stays in the journal until it is acknowledged, so the publisher may give up a client at any time and go on with
//! a new one from the first record that is not acknowledged. What the old client, or the process before a crash, had
//! published all the same is found at the end of the topic and not sent again; `tail.rs` says when a record may be
//! there twice nevertheless, with the same id.
//!
//! It never gives up a record. A client that fails for good (a fatal error, a topic that is gone, a right that was
//! taken) is replaced after a pause, for as long as it takes. A record that is over the broker's limit would stop all
//! behind it, so it goes to `dead-letters`, whole or without its body, and is counted.
//!
//! An entry for the `ledger` is sent when all before it is acknowledged, so that it proves what it says; it never holds
//! a record up, and one that Kafka refuses is left out and said aloud.
//!
//! Why librdkafka's own retries suffice in between: `message.timeout.ms=0` lets a message wait for ever, and
//! idempotence keeps the order and lets nothing in twice while the client lives.
//!
//! They do not always: a client that is told of no broker at all, by one that has just come back and is not yet
//! registered again, forgets every broker that it knew and never asks again (librdkafka issue 5301; 2.12.1 did so after 7
//! of 35 freezes of a single broker, each of 14 to 40 s). So a client that gets no acknowledgement though Kafka answers
//! others is replaced as well.

mod client;
mod failed;
mod flight;
mod follow;
mod health;
mod message;
mod metrics;
mod proofs;
mod tail;
mod witness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portcullis_schema::kafka::Kafka;

pub use metrics::PublisherMetrics;

use crate::journal::Journal;
use crate::priority;
use follow::Follower;

/// From the deadline of a drain to the end of the thread: enough to let go of a client. Beyond, it reads from a disk that
/// hangs, and the process ends without it.
const END_MAX: Duration = Duration::from_secs(3);
const END_POLL: Duration = Duration::from_millis(5);

/// The publishing thread.
pub struct Publisher {
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
    journal: Journal,
}

/// What a drain left in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// Records that are not acknowledged.
    pub records: u64,
}

/// When to end.
#[derive(Default)]
struct Stop {
    asked: AtomicBool,
    deadline: std::sync::OnceLock<Instant>,
}

impl Stop {
    /// Whether the thread must end with `all_done` or without.
    fn is_due(&self, all_done: bool) -> bool {
        self.asked.load(Ordering::Acquire)
            && (all_done || self.deadline.get().is_none_or(|deadline| Instant::now() >= *deadline))
    }
}

impl Publisher {
    /// Starts from the oldest record in the journal. Kafka need not be there.
    pub fn start(kafka: &Kafka, instance: &str, journal: Journal, metrics: PublisherMetrics) -> std::io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let follower = Follower::new(kafka.clone(), instance, journal.clone(), metrics, Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("publisher".to_owned())
            .spawn(move || {
                priority::give_way(priority::PUBLISHING);
                follower.run();
            })?;
        Ok(Self { stop, thread, journal })
    }

    /// Publishes what the journal holds, for at most `patience`, and ends. The journal must be sealed
    /// already, and is closed by this, so that the last trim is durable too. Blocks, beyond `patience` for at most 3 s and
    /// what [`Journal::close`] takes.
    pub fn drain(self, patience: Duration) -> Remaining {
        let deadline = Instant::now() + patience;
        // Set once: a drain takes the publisher.
        let _ = self.stop.deadline.set(deadline);
        self.stop.asked.store(true, Ordering::Release);
        while !self.thread.is_finished() && Instant::now() < deadline + END_MAX {
            std::thread::sleep(END_POLL);
        }
        if !self.thread.is_finished() {
            tracing::warn!("the publisher does not end, stopping goes on without it");
        } else if self.thread.join().is_err() {
            tracing::error!("the publisher panicked");
        }
        self.journal.close();
        Remaining {
            records: self.journal.backlog_records(),
        }
    }
}

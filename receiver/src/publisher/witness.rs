use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use portcullis_schema::kafka::Kafka;
use rdkafka::consumer::Consumer;
use tracing::debug;

use crate::consumer;

/// Between two questions.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long the broker may take for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// An older answer does not tell that Kafka is there.
const FRESH_MAX: Duration = Duration::from_secs(5);

/// Tells whether Kafka would take records of another client: asked while the publisher's own hears nothing, so that a
/// Kafka that is away is told from a client that has lost it.
///
/// Each question is a new client's: an old one may have lost Kafka in the same way. On a thread of its own, since an
/// answer may take as long as the publisher needs to notice that its own client goes on.
pub(super) struct Witness {
    answered: Arc<Mutex<Option<Instant>>>,
    stop: Arc<AtomicBool>,
}

impl Witness {
    /// Asks until it is dropped.
    pub(super) fn start(kafka: Kafka) -> Self {
        let witness = Self {
            answered: Arc::default(),
            stop: Arc::default(),
        };
        let (answered, stop) = (Arc::clone(&witness.answered), Arc::clone(&witness.stop));
        let asking = std::thread::Builder::new().name("witness".to_owned()).spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if takes_records(&kafka) {
                    *answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                }
                std::thread::sleep(ASK_EVERY);
            }
        });
        if let Err(error) = asking {
            debug!(%error, "nobody can be asked whether Kafka is there");
        }
        witness
    }

    /// Whether Kafka has answered within the last seconds.
    pub(super) fn is_answered(&self) -> bool {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.is_some_and(|at| at.elapsed() < FRESH_MAX)
    }
}

/// Nobody waits for the thread: it ends within one answer and a pause.
impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Whether every partition of `callbacks` has a leader among the brokers that are told.
fn takes_records(kafka: &Kafka) -> bool {
    let Ok(client) = consumer::new(kafka) else {
        return false;
    };
    let Ok(metadata) = client.fetch_metadata(Some(&kafka.topics.callbacks), ANSWER_MAX) else {
        return false;
    };
    let brokers: Vec<i32> = metadata.brokers().iter().map(|broker| broker.id()).collect();
    metadata.topics().first().is_some_and(|topic| {
        let mut partitions = topic.partitions().iter();
        topic.error().is_none() && partitions.all(|partition| brokers.contains(&partition.leader()))
    })
}

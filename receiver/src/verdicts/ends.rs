use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portcullis_schema::Reached;
use portcullis_schema::kafka::Kafka;
use rdkafka::consumer::Consumer;

use crate::consumer;

/// Between two questions: what the lag is measured to.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long the broker may take for one partition.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// An older answer does not tell that the broker is there.
const FRESH_MAX: Duration = Duration::from_secs(5);
/// The bound on noticing a stop.
const NAP: Duration = Duration::from_millis(100);

/// Asks the broker again and again where the topic ends, so that the reader knows whether it has all of it: silence on
/// the topic and a broker that is away look the same otherwise.
///
/// With a client and a thread of its own: on the reader's connection a question waits behind the fetch that is under
/// way, up to `fetch.wait.max.ms` for each partition, and a verdict would wait as long.
pub(super) struct Ends {
    latest: Arc<Mutex<Option<Asked>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// An answer.
#[derive(Clone)]
struct Asked {
    at: Instant,
    /// For each partition, the offset behind its last message.
    ends: Vec<i64>,
}

impl Ends {
    /// Ends with `stop`, beside the reader, or when it is dropped.
    pub(super) fn start(kafka: Kafka, stop: Arc<AtomicBool>) -> std::io::Result<Self> {
        let latest = Arc::new(Mutex::new(None));
        let (answers, stopped) = (Arc::clone(&latest), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("verdict-ends".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    ask_on(&kafka, &answers, &stopped);
                    rest(ASK_EVERY, &stopped);
                }
            })?;
        Ok(Self {
            latest,
            stop,
            thread: Some(thread),
        })
    }

    /// How many partitions the topic has, as far as is known.
    pub(super) fn partitions(&self) -> Option<usize> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref().map(|asked| asked.ends.len()).filter(|count| *count > 0)
    }

    /// When a question was asked of which `next` has reached the answer; `None` where there is no newer one.
    pub(super) fn reached(&self, next: &[i64]) -> Option<Instant> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = latest.as_ref()?;
        let reached = asked.ends.len() == next.len() && next.iter().zip(&asked.ends).all(|(next, end)| next >= end);
        let at = asked.at;
        reached.then(|| {
            *latest = None;
            at
        })
    }

    /// Whether a question that was asked after `then` is answered, and the answer not taken yet.
    pub(super) fn answered_after(&self, then: Instant) -> bool {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref().is_some_and(|asked| asked.at > then)
    }

    /// How far `next` is in each partition; nothing where the last answer is old, or of another number of partitions.
    pub(super) fn beside(&self, next: &[i64]) -> Vec<Reached<usize>> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = latest
            .as_ref()
            .filter(|asked| asked.at.elapsed() < FRESH_MAX && asked.ends.len() == next.len());
        let both = fresh.into_iter().flat_map(|asked| next.iter().zip(&asked.ends));
        both.enumerate()
            .map(|(partition, (next, end))| Reached {
                partition,
                next: *next,
                end: *end,
            })
            .collect()
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends within one answer; a panic in it has been printed, and only the lag suffers.
            let _ = thread.join();
        }
    }
}

/// With one client until it fails.
fn ask_on(kafka: &Kafka, answers: &Mutex<Option<Asked>>, stopped: &AtomicBool) {
    let topic = &kafka.topics.verdicts;
    let Ok(consumer) = consumer::new(kafka) else {
        return;
    };
    while !stopped.load(Ordering::Relaxed) {
        let at = Instant::now();
        let Ok(metadata) = consumer.fetch_metadata(Some(topic), ANSWER_MAX) else {
            return;
        };
        let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        let ends: Result<Vec<i64>, _> = (0..)
            .take(partitions)
            .map(|partition| {
                consumer
                    .fetch_watermarks(topic, partition, ANSWER_MAX)
                    .map(|(_, end)| end)
            })
            .collect();
        let Ok(ends) = ends else {
            return;
        };
        *answers.lock().unwrap_or_else(PoisonError::into_inner) = Some(Asked { at, ends });
        rest(ASK_EVERY, stopped);
    }
}

fn rest(pause: Duration, stopped: &AtomicBool) {
    let until = Instant::now() + pause;
    while Instant::now() < until && !stopped.load(Ordering::Relaxed) {
        std::thread::sleep(NAP);
    }
}

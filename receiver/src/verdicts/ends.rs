use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portcullis_schema::Reached;
use portcullis_schema::kafka::Kafka;
use rdkafka::consumer::Consumer;

use super::landmark::{self, Found, Landmark};
use crate::consumer;

/// Between two questions: what the lag is measured to.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long the broker may take for one partition.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// An older answer does not tell that the broker is there.
const FRESH_MAX: Duration = Duration::from_secs(5);
/// Between two looks at the landmarks, each a fetch a partition: how long a topic made anew may go unnoticed where it has
/// grown beyond the offsets of the former one.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The bound on noticing a stop.
const NAP: Duration = Duration::from_millis(100);

/// Asks the broker again and again where the topic ends, so that the reader knows whether it has all of it: silence on
/// the topic and a broker that is away look the same otherwise. And whether it is still the topic that was read.
///
/// A landmark is proven when one that was proven before still stands after it was read: both are of one topic then, since
/// one that is deleted does not come back. So what the reader reads last is not trusted at once: it may be of a topic made
/// anew, read on at an offset of the former one.
///
/// With a client and a thread of its own: on the reader's connection a question waits behind the fetch that is under
/// way, up to `fetch.wait.max.ms` for each partition, and a verdict would wait as long.
pub(super) struct Ends {
    shared: Arc<Mutex<Shared>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    latest: Option<Asked>,
    read: Read,
}

/// An answer.
struct Asked {
    at: Instant,
    /// For each partition, the offset behind its last message.
    ends: Vec<i64>,
    /// Whether the topic is not the one that was read.
    other: bool,
}

/// What the reader has read, each for each partition.
#[derive(Clone, Default)]
struct Read {
    /// Counts its beginnings: an answer to a question of before one says nothing.
    beginnings: u64,
    next: Vec<i64>,
    last: Vec<Option<Landmark>>,
    proven: Vec<Option<Landmark>>,
}

impl Ends {
    /// Ends with `stop`, beside the reader, or when it is dropped.
    pub(super) fn start(kafka: Kafka, stop: Arc<AtomicBool>) -> std::io::Result<Self> {
        let shared = Arc::default();
        let (answers, stopped) = (Arc::clone(&shared), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("verdict-ends".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    ask_on(&kafka, &answers, &stopped);
                    rest(ASK_EVERY, &stopped);
                }
            })?;
        Ok(Self {
            shared,
            stop,
            thread: Some(thread),
        })
    }

    /// The reader begins at `next`, with landmarks that are known to be of the topic; former answers say nothing more.
    pub(super) fn begin(&self, next: &[i64], proven: &[Option<Landmark>]) {
        let mut shared = lock(&self.shared);
        shared.latest = None;
        shared.read = Read {
            beginnings: shared.read.beginnings + 1,
            next: next.to_vec(),
            last: proven.to_vec(),
            proven: proven.to_vec(),
        };
    }

    /// The first message of a partition that has no landmark yet: since then it has been the same topic, or not.
    pub(super) fn first(&self, partition: usize, landmark: Landmark) {
        if let Some(proven) = lock(&self.shared).read.proven.get_mut(partition) {
            proven.get_or_insert(landmark);
        }
    }

    /// The reader has come to `next`, and read these messages last.
    pub(super) fn read(&self, next: &[i64], last: &[Option<Landmark>]) {
        let read = &mut lock(&self.shared).read;
        next.clone_into(&mut read.next);
        last.clone_into(&mut read.last);
    }

    /// For each partition a message of the topic that the reader has read everything of up to where it is, in case the
    /// topic is still the same.
    pub(super) fn proven(&self) -> Vec<Option<Landmark>> {
        lock(&self.shared).read.proven.clone()
    }

    /// Whether the topic may be another one than the reader has begun with.
    pub(super) fn is_other(&self) -> bool {
        lock(&self.shared).latest.as_ref().is_some_and(|asked| asked.other)
    }

    /// How many partitions the topic has, as far as is known.
    pub(super) fn partitions(&self) -> Option<usize> {
        let shared = lock(&self.shared);
        shared
            .latest
            .as_ref()
            .map(|asked| asked.ends.len())
            .filter(|count| *count > 0)
    }

    /// When a question was asked of which `next` has reached the answer; `None` where there is no newer one.
    pub(super) fn reached(&self, next: &[i64]) -> Option<Instant> {
        let latest = &mut lock(&self.shared).latest;
        let asked = latest.as_ref().filter(|asked| !asked.other)?;
        let reached = asked.ends.len() == next.len() && next.iter().zip(&asked.ends).all(|(next, end)| next >= end);
        let at = asked.at;
        reached.then(|| {
            *latest = None;
            at
        })
    }

    /// Whether a question that was asked after `then` is answered, and the answer not taken yet.
    pub(super) fn answered_after(&self, then: Instant) -> bool {
        let shared = lock(&self.shared);
        shared.latest.as_ref().is_some_and(|asked| asked.at > then)
    }

    /// How far `next` is in each partition; nothing where the last answer is old, or of another number of partitions.
    pub(super) fn beside(&self, next: &[i64]) -> Vec<Reached<usize>> {
        let shared = lock(&self.shared);
        let fresh = shared
            .latest
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
fn ask_on(kafka: &Kafka, shared: &Mutex<Shared>, stopped: &AtomicBool) {
    let topic = &kafka.topics.verdicts;
    let Ok(consumer) = consumer::hurried(kafka) else {
        return;
    };
    let mut looked: Option<Instant> = None;
    while !stopped.load(Ordering::Relaxed) {
        let at = Instant::now();
        let read = lock(shared).read.clone();
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
        let mut other = read.next.iter().zip(&ends).any(|(next, end)| next > end);
        let due = looked.is_none_or(|then| then.elapsed() >= LOOK_EVERY) && ends.len() == read.next.len();
        if due && !other {
            let Ok(found) = landmark::look(&consumer, topic, &read.proven) else {
                return;
            };
            looked = Some(Instant::now());
            other = found != Found::Same;
        }
        let mut shared = lock(shared);
        if shared.read.beginnings == read.beginnings {
            // Until the reader begins anew.
            other |= shared.latest.as_ref().is_some_and(|asked| asked.other);
            shared.latest = Some(Asked { at, ends, other });
            if due && !other {
                shared.read.prove(read.last);
            }
        }
        drop(shared);
        rest(ASK_EVERY, stopped);
    }
}

impl Read {
    /// These were read before what was proven was found to stand still.
    fn prove(&mut self, last: Vec<Option<Landmark>>) {
        for (proven, last) in self.proven.iter_mut().zip(last) {
            *proven = last.or(*proven);
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn rest(pause: Duration, stopped: &AtomicBool) {
    let until = Instant::now() + pause;
    while Instant::now() < until && !stopped.load(Ordering::Relaxed) {
        std::thread::sleep(NAP);
    }
}

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use portcullis_schema::kafka::Kafka;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use tracing::debug;

use super::Stop;
use super::client::{self, Quiet};
use super::membership::Place;
use super::partition::Kind;

/// Between two questions: as often as the lag is shown.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long the broker may take for one partition.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// An older answer does not tell that the broker is there.
const FRESH_MAX: Duration = Duration::from_secs(5);

/// Asks the brokers again and again where the worker's partitions end. Not the group's own client: what that has heard
/// last is what it has fetched, so one that fetches no more would show no lag.
#[derive(Clone)]
pub(crate) struct Ends(Arc<Mutex<Known>>);

/// What messages a partition holds.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    /// The offset of the first.
    pub(super) low: i64,
    /// The offset behind the last.
    pub(super) end: i64,
    asked: Instant,
}

#[derive(Default)]
struct Known {
    extents: BTreeMap<Place, Extent>,
    /// Of which partitions the next question is.
    asked_for: Vec<Place>,
}

impl Ends {
    /// On a thread of its own, until `stop`.
    pub(crate) fn start(kafka: Kafka, group: String, stop: Stop) -> io::Result<Self> {
        let ends = Self(Arc::default());
        let answers = ends.clone();
        thread::Builder::new().name("worker-ends".to_owned()).spawn(move || {
            while !stop.is_asked() {
                if let Err(error) = answers.ask_on(&kafka, &group, &stop) {
                    debug!(%error, "ends are not known");
                }
                stop.wait(ASK_EVERY);
            }
        })?;
        Ok(ends)
    }

    /// What was told last of these partitions, which the next question is of too.
    pub(super) fn of(&self, places: Vec<Place>) -> BTreeMap<Place, Extent> {
        let mut known = self.known();
        known.extents.retain(|place, _| places.contains(place));
        known.asked_for = places;
        known.extents.clone()
    }

    /// With one client until it fails.
    fn ask_on(&self, kafka: &Kafka, group: &str, stop: &Stop) -> KafkaResult<()> {
        let client: BaseConsumer<Quiet> = BaseConsumer::from_config_and_context(&client::asker(kafka, group), Quiet)?;
        while !stop.is_asked() {
            let places = self.known().asked_for.clone();
            for place in places {
                let topic = match place.0 {
                    Kind::Callbacks => &kafka.topics.callbacks,
                    Kind::Signals => &kafka.topics.signals,
                };
                let asked = Instant::now();
                let (low, end) = client.fetch_watermarks(topic, place.1, ANSWER_MAX)?;
                self.known().extents.insert(place, Extent { low, end, asked });
            }
            stop.wait(ASK_EVERY);
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Extent {
    /// The offset that a reader comes to next who was given `next`, if any.
    pub(super) fn next(&self, next: Option<i64>) -> i64 {
        next.unwrap_or(0).max(self.low)
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.asked.elapsed() < FRESH_MAX
    }
}

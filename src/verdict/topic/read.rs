use std::collections::HashMap;
use std::io::{IsTerminal, stderr};

use portcullis_schema::kafka::Kafka;
use portcullis_schema::{Verdict, VerdictKey};
use rdkafka::message::Message;

use crate::failure::Failure;
use crate::reading::Reading;

const PROGRESS_EVERY: usize = 50_000;

/// What the topic holds.
#[derive(Default)]
pub(in crate::verdict) struct Held {
    /// One for each key, expired ones too, in the order of their keys.
    pub(in crate::verdict) verdicts: Vec<Verdict>,
    /// What has the key of a verdict and is none, and why.
    pub(in crate::verdict) unreadable: Vec<String>,
    /// Where verdicts stand, those among them that do not hold because another one of their key does.
    pub(in crate::verdict) places: Vec<Place>,
}

/// Where a verdict stands that some client wrote: the same one may stand in several partitions, and under keys that say the
/// same in another form.
pub(in crate::verdict) struct Place {
    /// What it is about.
    pub(in crate::verdict) key: VerdictKey,
    pub(in crate::verdict) partition: i32,
    /// The message's key, byte for byte.
    pub(in crate::verdict) written: Vec<u8>,
}

/// The last message for each partition and key: compaction keeps that one.
type Latest = HashMap<(i32, Vec<u8>), Said>;

struct Said {
    offset: i64,
    /// Kafka's, in milliseconds.
    at: i64,
    /// `None` where it lifts.
    value: Option<Vec<u8>>,
}

/// Reads the whole topic, up to the ends that it has now.
pub(in crate::verdict) fn read(kafka: &Kafka) -> Result<Held, Failure> {
    let reading = Reading::new(kafka, "the verdicts were not read")?;
    let topic = reading.whole(&kafka.topics.verdicts)?;
    let mut latest = Latest::new();
    let mut read: usize = 0;
    reading.read(&topic, |message| {
        read += 1;
        tell_progress(read);
        let key = message.key().unwrap_or_default().to_vec();
        let said = Said {
            offset: message.offset(),
            at: message.timestamp().to_millis().unwrap_or(0),
            value: message.payload().map(<[u8]>::to_vec),
        };
        latest.insert((message.partition(), key), said);
    })?;
    Ok(Held::from(latest))
}

fn tell_progress(read: usize) {
    if read.is_multiple_of(PROGRESS_EVERY) && stderr().is_terminal() {
        eprintln!("{read} verdicts read");
    }
}

impl From<Latest> for Held {
    /// What is no verdict, under a key that is none of a verdict, belongs to something else that the topic carries, such as
    /// heartbeats.
    fn from(latest: Latest) -> Self {
        let mut held = Self::default();
        let mut last: HashMap<VerdictKey, Vec<Last>> = HashMap::new();
        for ((partition, written), Said { offset, at, value }) in latest {
            let key = String::from_utf8_lossy(&written);
            let key_read = key.parse::<VerdictKey>();
            let (key, verdict) = match (value.as_deref().map(Verdict::decode), key_read) {
                (Some(Ok(verdict)), _) => {
                    let key = verdict.key();
                    held.places.push(Place {
                        key: key.clone(),
                        partition,
                        written,
                    });
                    (key, Some(verdict))
                }
                (Some(Err(error)), Ok(_)) => {
                    held.unreadable.push(format!("{}: {error}", key.escape_debug()));
                    continue;
                }
                (None, Ok(key)) => (key, None),
                (_, Err(_)) => continue,
            };
            let said = last.entry(key).or_default();
            said.push(Last {
                partition,
                offset,
                at,
                verdict,
            });
        }
        let verdicts = last.into_values().filter_map(holding);
        held.verdicts.extend(verdicts);
        held.verdicts.sort_by_cached_key(Verdict::key);
        held.unreadable.sort();
        held
    }
}

/// The last message under one of the forms of a key in one partition.
struct Last {
    partition: i32,
    offset: i64,
    at: i64,
    verdict: Option<Verdict>,
}

/// What receivers that start have in force, `None` where it was lifted: within a partition the later offset holds, of two
/// partitions the one with the later message.
fn holding(mut said: Vec<Last>) -> Option<Verdict> {
    let latest = said.iter().max_by_key(|last| (last.at, last.partition))?.partition;
    said.retain(|last| last.partition == latest);
    said.into_iter().max_by_key(|last| last.offset)?.verdict
}

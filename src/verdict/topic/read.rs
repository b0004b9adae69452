use std::collections::HashMap;
use std::io::{IsTerminal, stderr};

use portcullis_schema::kafka::Kafka;
use portcullis_schema::{Verdict, VerdictKey};
use rdkafka::message::Message;

use crate::failure::Failure;
use crate::reading::Reading;

const PROGRESS_EVERY: usize = 50_000;

/// What the topic holds: the latest for each key.
#[derive(Default)]
pub(in crate::verdict) struct Held {
    /// Expired ones too, in the order of their keys.
    pub(in crate::verdict) verdicts: Vec<Verdict>,
    /// What has the key of a verdict and is none, and why.
    pub(in crate::verdict) unreadable: Vec<String>,
}

/// A value for each key; `None` where it was lifted.
type Latest = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// Reads the whole topic, up to the ends that it has now.
pub(in crate::verdict) fn read(kafka: &Kafka) -> Result<Held, Failure> {
    let reading = Reading::new(kafka, "the verdicts were not read")?;
    let topic = reading.whole(&kafka.topics.verdicts)?;
    let mut latest = Latest::new();
    let mut read: usize = 0;
    reading.read(&topic, |message| {
        read += 1;
        tell_progress(read);
        if let Some(key) = message.key() {
            latest.insert(key.to_vec(), message.payload().map(<[u8]>::to_vec));
        }
    })?;
    Ok(Held::from(latest))
}

fn tell_progress(read: usize) {
    if read.is_multiple_of(PROGRESS_EVERY) && stderr().is_terminal() {
        eprintln!("{read} verdicts read");
    }
}

impl From<Latest> for Held {
    /// A key that is none of a verdict belongs to something else that the topic carries, such as heartbeats.
    fn from(latest: Latest) -> Self {
        let mut held = Self::default();
        for (key, value) in latest {
            let key = String::from_utf8_lossy(&key);
            let Some(value) = value.filter(|_| key.parse::<VerdictKey>().is_ok()) else {
                continue;
            };
            match Verdict::decode(&value) {
                Ok(verdict) => held.verdicts.push(verdict),
                Err(error) => held.unreadable.push(format!("{}: {error}", key.escape_debug())),
            }
        }
        held.verdicts.sort_by_cached_key(Verdict::key);
        held.unreadable.sort();
        held
    }
}

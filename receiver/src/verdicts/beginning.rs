use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode::UnknownTopicOrPartition;
use tracing::{info, warn};

use super::landmark::{self, Found};
use super::{ASK_TIMEOUT, Reader};
use crate::consumer;
use crate::decision::Forgotten;

/// Where reading begins, and what becomes of memory where that is not where it ended.
impl Reader {
    /// Where each partition is to be read from, which is where memory ends; gives the end offsets of now.
    pub(super) fn find_ends(&mut self) -> Result<Vec<i64>, KafkaError> {
        let consumer = consumer::hurried(&self.options.kafka)?;
        let topic = &self.options.kafka.topics.verdicts;
        let metadata = consumer.fetch_metadata(Some(topic), ASK_TIMEOUT)?;
        let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        if let Some(error) = metadata.topics().first().and_then(|topic| topic.error()) {
            return Err(KafkaError::MetadataFetch(error.into()));
        }
        // Nothing to read is not the same as read to its end.
        if partitions == 0 {
            return Err(KafkaError::MetadataFetch(UnknownTopicOrPartition));
        }
        let (mut lows, mut ends) = (Vec::with_capacity(partitions), Vec::with_capacity(partitions));
        for partition in (0..).take(partitions) {
            let (low, end) = consumer.fetch_watermarks(topic, partition, ASK_TIMEOUT)?;
            lows.push(low);
            ends.push(end);
        }
        let mut proven = self.ends.proven();
        let is_shorter = self.next.len() > partitions || self.next.iter().zip(&ends).any(|(next, end)| next > end);
        let found = match is_shorter {
            true => Found::Other,
            false => landmark::look(&consumer, topic, &proven)?,
        };
        match found {
            Found::Same => {}
            Found::Other => {
                warn!(topic, before = ?self.next, ends = ?ends, "the topic was made anew, reading all of it")
            }
            Found::Nothing => {
                warn!(topic, before = ?self.next, ends = ?ends, "it is not certain that the topic is the one that was read, reading all of it")
            }
        }
        if found != Found::Same {
            self.next.clear();
            proven.clear();
            self.anew = true;
            self.options.keeper.begin_anew();
        }
        // Partitions that were added are read from their beginning.
        self.next.resize(partitions, 0);
        proven.resize(partitions, None);
        for (next, low) in self.next.iter_mut().zip(lows) {
            *next = (*next).max(low);
        }
        self.landmarks.clone_from(&proven);
        self.ends.begin(&self.next, &proven);
        Ok(ends)
    }

    /// The topic is read to its end: what it does not say has no ground. False where that had kept something of the topic
    /// out: then all of it has to be read once more.
    pub(super) fn forget_what_is_not_said(&mut self) -> bool {
        self.anew = false;
        let Forgotten { verdicts, had_room } = self.options.keeper.end_anew();
        if verdicts > 0 {
            info!(verdicts, "verdicts that the topic does not have are forgotten");
        }
        if !had_room {
            warn!("there was no room for all verdicts beside them, reading the topic once more");
            self.next.clear();
        }
        had_room
    }
}

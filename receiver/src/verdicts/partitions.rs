use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use portcullis_schema::kafka::Kafka;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::{Offset, TopicPartitionList};
use tracing::error;

use crate::consumer::{self, Quiet};

/// The partitions of the topic, each read by a client of its own.
///
/// Why not one client for all: where a broker that comes back knows the leader of some of the partitions that a client
/// fetches and not yet of others, librdkafka up to 2.12.1 reads memory that is not its own, and the process dies
/// (<https://github.com/confluentinc/librdkafka/issues/5280>). With one partition it cannot be so. It costs three threads
/// and some 100 KiB a partition.
pub(super) struct Partitions {
    clients: Vec<BaseConsumer<Quiet>>,
    bell: Arc<Bell>,
    /// Whose turn it is, so that a busy partition does not silence the others.
    turn: usize,
}

/// Rung by any client that has something.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Partitions {
    /// Each from the offset in `starts`.
    pub(super) fn assign(kafka: &Kafka, starts: &[i64]) -> Result<Self, KafkaError> {
        let bell = Arc::new(Bell::default());
        let mut clients = Vec::with_capacity(starts.len());
        for (partition, start) in (0..).zip(starts) {
            let mut client = consumer::new(kafka)?;
            let of_client = Arc::clone(&bell);
            client.set_nonempty_callback(move || of_client.ring());
            let mut assignment = TopicPartitionList::new();
            assignment.add_partition_offset(&kafka.topics.verdicts, partition, Offset::Offset(*start))?;
            client.assign(&assignment)?;
            clients.push(client);
        }
        Ok(Self { clients, bell, turn: 0 })
    }

    /// What is there of any partition, at once.
    pub(super) fn take(&mut self) -> Option<Result<BorrowedMessage<'_>, KafkaError>> {
        let count = self.clients.len();
        for _ in 0..count {
            let turn = self.turn;
            self.turn = (turn + 1) % count;
            // Asked first whether there is something, because what it gives borrows from the client.
            if let Some(taken) = self.clients[turn].poll(Duration::ZERO) {
                return Some(taken);
            }
        }
        None
    }

    /// Until there may be something, at most for `timeout`.
    pub(super) fn wait(&self, timeout: Duration) {
        self.bell.wait(timeout);
    }

    /// Lets go of clients that may not end: closing waits for what they have under way.
    pub(super) fn close_aside(self) {
        let closing = std::thread::Builder::new()
            .name("verdicts-close".to_owned())
            .spawn(move || drop(self));
        if let Err(error) = closing {
            error!(%error, "verdict clients were closed in place");
        }
    }

    /// The offset that the client of `partition` goes on with, at the end of the partition.
    pub(super) fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        let client = self.clients.get(usize::try_from(partition).ok()?)?;
        let positions = client.position().ok()?;
        match positions.find_partition(topic, partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_one();
    }

    fn wait(&self, timeout: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.heard.wait_timeout_while(rung, timeout, |rung| !*rung);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}

//! The worker's membership in its group: which partitions it has, from where it reads them, and what it commits.
//!
//! Called by the client from within a poll, on the worker's own thread: nothing here runs beside the stream.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_schema::Readiness;
use portcullis_schema::kafka::Topics;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tracing::{debug, error, info, warn};

use super::partition::{Checkpoint, Kind, Partition};
use crate::detector::Capacity;
use crate::rules::Rules;

/// The group's coordinator has just answered when this is asked; far below the five minutes that a rebalance may take.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(15);
const GROUP: &str = "group";

/// Where a message comes from.
pub(super) type Place = (Kind, i32);

pub(crate) struct Membership {
    topics: Topics,
    rules: Rules,
    capacity: Arc<Capacity>,
    readiness: Readiness,
    partitions: Mutex<BTreeMap<Place, Partition>>,
    /// Whether an assignment could not be taken over, so that the group has to be joined anew.
    broken: AtomicBool,
    commits_fail: AtomicBool,
}

impl Membership {
    pub(super) fn new(topics: Topics, rules: Rules, capacity: Arc<Capacity>, readiness: Readiness) -> Self {
        readiness.unset(GROUP, "joining the group");
        Self {
            topics,
            rules,
            capacity,
            readiness,
            partitions: Mutex::default(),
            broken: AtomicBool::new(false),
            commits_fail: AtomicBool::new(false),
        }
    }

    /// The assigned partitions. Not to be held over a poll, which may change them.
    pub(super) fn partitions(&self) -> MutexGuard<'_, BTreeMap<Place, Partition>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn kind(&self, topic: &str) -> Option<Kind> {
        let kinds = [
            (&self.topics.callbacks, Kind::Callbacks),
            (&self.topics.signals, Kind::Signals),
        ];
        kinds.into_iter().find(|(name, _)| *name == topic).map(|(_, kind)| kind)
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Everything that was read is acknowledged: the client may commit it, now and then, and whenever a partition is
    /// given away.
    pub(super) fn store(&self, consumer: &BaseConsumer<Self>) {
        for (place, partition) in self.partitions().iter_mut() {
            let Some(checkpoint) = partition.checkpoint() else {
                continue;
            };
            // What fails here is stored with the next batch.
            match self.store_one(consumer, *place, &checkpoint) {
                Ok(()) => partition.stored(checkpoint),
                Err(error) => debug!(%error, "offset was not stored"),
            }
        }
    }

    fn store_one(&self, consumer: &BaseConsumer<Self>, place: Place, checkpoint: &Checkpoint) -> KafkaResult<()> {
        let mut list = TopicPartitionList::with_capacity(1);
        let mut element = list.add_partition(self.topic(place.0), place.1);
        element.set_offset(Offset::Offset(checkpoint.offset))?;
        element.set_metadata(checkpoint.metadata());
        consumer.store_offsets(&list)
    }

    pub(super) fn topic(&self, kind: Kind) -> &str {
        match kind {
            Kind::Callbacks => &self.topics.callbacks,
            Kind::Signals => &self.topics.signals,
        }
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) -> KafkaResult<()> {
        let committed = match list.count() {
            0 => TopicPartitionList::new(),
            _ => consumer.committed_offsets(list.clone(), COMMITTED_TIMEOUT)?,
        };
        for element in committed.elements() {
            element.error()?;
            let (Some(kind), partition) = (self.kind(element.topic()), element.partition()) else {
                continue;
            };
            let from = self.start(element.topic(), partition, element.offset(), element.metadata());
            if let Some(checkpoint) = &from {
                list.set_partition_offset(element.topic(), partition, Offset::Offset(checkpoint.rewind))?;
            }
            let state = Partition::new(kind, &self.rules, &self.capacity, from.as_ref());
            self.partitions().insert((kind, partition), state);
        }
        Ok(())
    }

    /// `None` where nothing was committed: then the partition is read from its beginning.
    fn start(&self, topic: &str, partition: i32, offset: Offset, metadata: &str) -> Option<Checkpoint> {
        let Offset::Offset(offset) = offset else { return None };
        match Checkpoint::parse(offset, metadata) {
            Some(checkpoint) => {
                let rewound = offset - checkpoint.rewind;
                debug!(topic, partition, offset, rewound, "partition assigned");
                Some(checkpoint)
            }
            None => {
                warn!(
                    topic,
                    partition, offset, "offset was not committed by a worker, windows begin empty"
                );
                Some(Checkpoint { offset, rewind: offset })
            }
        }
    }

    fn revoke(&self, list: &TopicPartitionList) {
        let mut partitions = self.partitions();
        for element in list.elements() {
            if let Some(kind) = self.kind(element.topic()) {
                partitions.remove(&(kind, element.partition()));
            }
        }
    }

    fn tell(&self) {
        let partitions = self.partitions().len();
        info!(partitions, "partitions assigned");
        self.readiness.set(GROUP, format!("{partitions} partitions assigned"));
    }
}

impl ConsumerContext for Membership {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let taken = if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if let Err(error) = self.assign(consumer, list) {
                error!(%error, "partitions cannot be taken over, joining anew");
                self.broken.store(true, Ordering::Relaxed);
            }
            match cooperative {
                true => consumer.incremental_assign(list),
                false => consumer.assign(list),
            }
        } else {
            if consumer.assignment_lost() {
                warn!("group membership was lost");
                self.readiness.unset(GROUP, "membership was lost, joining anew");
            }
            self.revoke(list);
            match cooperative {
                true => consumer.incremental_unassign(list),
                false => consumer.unassign(),
            }
        };
        match taken {
            Ok(()) if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.tell(),
            Ok(()) => {}
            Err(error) => {
                error!(%error, "assignment failed, joining anew");
                self.broken.store(true, Ordering::Relaxed);
            }
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        let failed = result.is_err();
        if failed != self.commits_fail.swap(failed, Ordering::Relaxed) {
            match &result {
                Ok(()) => info!("offsets are committed again"),
                Err(error) => warn!(%error, "offsets are not committed, trying again"),
            }
        }
    }
}

impl ClientContext for Membership {
    /// The client repeats itself while a broker is away; the stream tells the change.
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "librdkafka");
    }
}

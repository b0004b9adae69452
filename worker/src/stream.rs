//! From Kafka to Kafka: the loop that the worker's thread runs.
//!
//! Read what is there, observe it, write what it led to, wait until Kafka has it, and only then store the offsets for
//! the client to commit. Whatever was under way when a process dies happens again in the next one, with the same ids.

pub(crate) mod client;
mod ends;
mod letter;
mod membership;
mod observer;
mod output;
mod partition;
mod stop;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use portcullis_schema::{Reached, Readiness, Standstill, Timestamp};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Message};
use tracing::{debug, error, info, warn};

use crate::Config;
use crate::detector::Capacity;
use crate::metrics::Metrics;
use crate::rules::Rules;
pub(crate) use ends::Ends;
use ends::Extent;
use letter::Letters;
use membership::{Membership, Place};
use observer::Observer;
use output::{GivenUp, Output};
pub(crate) use stop::Stop;

/// How many messages are taken together: their output is one wait for Kafka, and what a crash repeats.
const BATCH_MAX: usize = 500;
/// A consumer that had no connection left and gets nothing for so long, though the broker tells others that there is
/// some, has lost it: one that is well is back within a second or two.
const CUT_OFF_AFTER: Duration = Duration::from_secs(5);
/// How long an idle worker waits before it looks whether it is to stop.
const IDLE: Duration = Duration::from_millis(50);
/// How often the gauges are brought up to date; Prometheus looks less often.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// Before the group is joined anew.
const REJOIN_AFTER: Duration = Duration::from_secs(1);

pub(crate) type Group = BaseConsumer<Membership>;

pub(crate) struct Stream {
    config: Config,
    rules: Rules,
    capacity: Arc<Capacity>,
    metrics: Metrics,
    readiness: Readiness,
    stop: Stop,
    observer: Observer,
    output: Output,
    ends: Ends,
    standstill: Standstill<Place>,
    /// The same where the consumer had no connection left.
    cut_off: Standstill<Place>,
    unreachable: bool,
    evicting: bool,
}

/// How following the group ended.
enum Ended {
    /// The worker is to stop.
    Stopped,
    /// The consumer is of no use any more.
    Broken,
}

struct Broken;

impl Stream {
    /// Makes the clients, which shows whether the operator's properties are any.
    pub(crate) fn new(
        config: Config,
        rules: Rules,
        metrics: Metrics,
        readiness: Readiness,
        stop: Stop,
        ends: Ends,
    ) -> KafkaResult<(Self, Group)> {
        let capacity = Arc::default();
        let stream = Self {
            observer: Observer::new(&config, &rules, &capacity, metrics.clone()),
            output: Output::new(client::producer(&config.kafka), readiness.clone())?,
            config,
            rules,
            capacity,
            metrics,
            readiness,
            stop,
            ends,
            standstill: Standstill::default(),
            cut_off: Standstill::after(CUT_OFF_AFTER),
            unreachable: false,
            evicting: false,
        };
        let group = stream.join()?;
        Ok((stream, group))
    }

    /// Until the worker is stopped; no error of Kafka's ends it.
    pub(crate) fn run(mut self, mut group: Group) {
        loop {
            if let Ended::Stopped = self.follow(&group) {
                // Leaving the group commits what was stored.
                return;
            }
            self.stop.wait(REJOIN_AFTER);
            match self.join() {
                Ok(anew) => close_aside(std::mem::replace(&mut group, anew)),
                Err(error) => error!(%error, "no new consumer"),
            }
        }
    }

    fn join(&self) -> KafkaResult<Group> {
        let kafka = &self.config.kafka;
        let topics = kafka.topics.clone();
        let (rules, capacity) = (self.rules.clone(), Arc::clone(&self.capacity));
        let membership = Membership::new(topics, rules, capacity, self.readiness.clone());
        let group = BaseConsumer::from_config_and_context(&client::consumer(kafka, &self.config.group), membership)?;
        // Partitions are shared by number: those of an idle topic would leave a worker without work.
        let topics: &[&str] = match self.rules.need_signals() {
            true => &[&kafka.topics.callbacks, &kafka.topics.signals],
            false => &[&kafka.topics.callbacks],
        };
        group.subscribe(topics)?;
        Ok(group)
    }

    fn follow(&mut self, group: &Group) -> Ended {
        let mut measured = Instant::now();
        while !self.stop.is_asked() {
            let Ok(batch) = self.gather(group) else {
                return Ended::Broken;
            };
            if let Err(GivenUp) = self.process(group.context(), &batch) {
                return Ended::Stopped;
            }
            group.context().store(group);
            if measured.elapsed() >= MEASURE_EVERY {
                self.measure(group.context());
                // A full batch may have left some of a partition with the client.
                if batch.len() < BATCH_MAX && self.stands_still(group.context()) {
                    return Ended::Broken;
                }
                measured = Instant::now();
            }
        }
        Ended::Stopped
    }

    /// Waits for a message, and takes those that came with it. A rebalance ends it, so that every message of a batch
    /// was read before the rebalance; those of partitions that were taken away or given anew are then left out.
    fn gather<'g>(&mut self, group: &'g Group) -> Result<Vec<BorrowedMessage<'g>>, Broken> {
        let mut batch = Vec::new();
        let mut wait = IDLE;
        while batch.len() < BATCH_MAX {
            match group.poll(wait) {
                Some(Ok(message)) => batch.push(message),
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    error!(%code, "consumer is lost, joining anew");
                    return Err(Broken);
                }
                Some(Err(error)) => self.unreached(&error),
                None => break,
            }
            wait = Duration::ZERO;
        }
        if !batch.is_empty() {
            self.reached();
        }
        if group.context().is_broken() {
            Err(Broken)
        } else {
            Ok(batch)
        }
    }

    fn process(&mut self, membership: &Membership, batch: &[BorrowedMessage<'_>]) -> Result<(), GivenUp> {
        if batch.is_empty() {
            return Ok(());
        }
        if self.stop.is_over() {
            return Err(GivenUp);
        }
        let now = Timestamp::now();
        let mut letters = Letters::default();
        let mut partitions = membership.partitions();
        for message in batch {
            let Some(kind) = membership.kind(message.topic()) else {
                continue;
            };
            if let Some(partition) = partitions.get_mut(&(kind, message.partition())) {
                self.observer.observe(kind, partition, message, now, &mut letters);
            }
        }
        self.output.write(&letters.in_order(), &self.stop)
    }

    /// Of the assigned partitions whose end is known.
    fn progress(&self, membership: &Membership) -> Vec<(Reached<Place>, Extent)> {
        let partitions = membership.partitions();
        let extents = self.ends.of(partitions.keys().copied().collect());
        let both = extents.into_iter().filter_map(|(place, extent)| {
            let reached = Reached {
                partition: place,
                next: extent.next(partitions.get(&place)?.next()),
                end: extent.end,
            };
            Some((reached, extent))
        });
        both.collect()
    }

    /// Whether the client gets nothing of a partition though the broker has more, and says so.
    fn stands_still(&mut self, membership: &Membership) -> bool {
        let known = self.progress(membership).into_iter();
        let fresh: Vec<_> = known
            .filter_map(|(reached, extent)| extent.is_fresh().then_some(reached))
            .collect();
        let still = self.standstill.look(Instant::now(), fresh.iter().copied());
        let cut_off = match self.unreachable {
            true => self.cut_off.look(Instant::now(), fresh),
            false => None,
        };
        let still = still.or(cut_off);
        if let Some(Reached { partition, next, end }) = still {
            let (topic, partition) = (membership.topic(partition.0), partition.1);
            warn!(
                topic,
                partition, next, end, "nothing of a partition comes though the broker has some, joining the group anew"
            );
        }
        still.is_some()
    }

    fn measure(&mut self, membership: &Membership) {
        let known = self.progress(membership).into_iter();
        let behind = known.map(|(reached, _)| reached.end.saturating_sub(reached.next).max(0));
        self.metrics.lag(behind.sum());
        let mut subjects: BTreeMap<String, usize> = self.rules.iter().map(|rule| (rule.name().to_owned(), 0)).collect();
        for partition in membership.partitions().values() {
            for (rule, windows) in partition.detector.subjects() {
                *subjects.entry(rule.to_owned()).or_default() += windows;
            }
        }
        self.metrics.subjects_tracked(&subjects);
        let evicting = self.metrics.subjects_evicted(self.capacity.evicted()) > 0;
        if evicting != std::mem::replace(&mut self.evicting, evicting) {
            let subjects = self.capacity.subjects();
            match evicting {
                true => warn!(subjects, "too many subjects, the longest idle ones are forgotten"),
                false => info!(subjects, "subjects have room again"),
            }
        }
    }

    fn unreached(&mut self, error: &KafkaError) {
        debug!(%error, "nothing can be read");
        if !std::mem::replace(&mut self.unreachable, true) {
            warn!(%error, "kafka cannot be read, trying again");
        }
    }

    fn reached(&mut self) {
        if std::mem::replace(&mut self.unreachable, false) {
            info!("kafka is read again");
        }
    }
}

/// Closing a consumer waits for the group's coordinator, without a bound.
fn close_aside(group: Group) {
    let closing = thread::Builder::new()
        .name("worker-leave".to_owned())
        .spawn(move || drop(group));
    if let Err(error) = closing {
        error!(%error, "old consumer was closed in place");
    }
}

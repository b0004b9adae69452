use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use portcullis_schema::Timestamp;
use portcullis_schema::kafka::Kafka;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tracing::{debug, warn};

use super::client::{self, ANSWER_MAX};

/// A member that had no connection left may never look for one again (librdkafka issue 5301), and then nobody would audit:
/// one that has no duty after this time joins anew. Longer than one that is well takes to come back.
const CUT_OFF_AFTER: Duration = Duration::from_secs(10);

/// Whether this worker is the one that audits: partition 0 of `ledger` is its own, in a group that has no other use.
/// So there is exactly one wherever Kafka is, and another takes over when it is gone.
pub(super) struct Duty {
    kafka: Kafka,
    group: String,
    member: BaseConsumer<Member>,
    /// Since when the member may have lost Kafka.
    cut_off: Option<Instant>,
    told: bool,
}

#[derive(Default)]
struct Member {
    on: AtomicBool,
    broken: AtomicBool,
}

impl Duty {
    pub(super) fn new(kafka: &Kafka, group: &str) -> KafkaResult<Self> {
        Ok(Self {
            kafka: kafka.clone(),
            group: group.to_owned(),
            member: join(kafka, group)?,
            cut_off: None,
            told: false,
        })
    }

    pub(super) fn is_on(&self) -> bool {
        self.member.context().on.load(Ordering::Relaxed)
    }

    /// Leaves a note for whoever audits next: from when on not everything was judged. It is the metadata of a commit; the
    /// offset says nothing.
    pub(super) fn leave_note(&self, from: Timestamp) {
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(&self.kafka.topics.ledger, 0);
        element.set_metadata(from.to_string());
        let noted = element
            .set_offset(Offset::Offset(0))
            .and_then(|()| self.member.commit(&list, CommitMode::Async));
        if let Err(error) = noted {
            debug!(%error, "audit left no note");
        }
    }

    /// What the auditor before left, this worker itself or another.
    pub(super) fn note(&self) -> KafkaResult<Option<Timestamp>> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.kafka.topics.ledger, 0);
        let committed = self.member.committed_offsets(asked, ANSWER_MAX)?;
        let note = committed.find_partition(&self.kafka.topics.ledger, 0);
        Ok(note.and_then(|element| element.metadata().parse().ok()))
    }

    /// Takes part in the group; to be called again and again, at the latest every few minutes.
    pub(super) fn attend(&mut self, wait: Duration) {
        match self.member.poll(wait) {
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                warn!(%code, "member of the audit's group is lost, joining anew");
                self.member.context().broken.store(true, Ordering::Relaxed);
            }
            Some(Err(error)) => self.fails(&error),
            // The partition is paused.
            Some(Ok(_)) | None => {}
        }
        if self.member.context().broken.load(Ordering::Relaxed) || self.may_be_lost() {
            self.rejoin();
        }
    }

    /// Waits for an answer of Kafka where there is nothing else to do: while it is away a new member gets on no better, and
    /// the old ones would never be closed.
    fn may_be_lost(&mut self) -> bool {
        let long = self.cut_off.is_some_and(|since| since.elapsed() > CUT_OFF_AFTER);
        if self.is_on() || !long {
            return false;
        }
        self.cut_off = Some(Instant::now());
        client::is_answered(&self.kafka, &self.group)
    }

    /// What a person has to put right is told once; brokers come and go by themselves.
    fn fails(&mut self, error: &KafkaError) {
        use RDKafkaErrorCode as Code;
        if error.rdkafka_error_code() == Some(Code::AllBrokersDown) {
            self.cut_off.get_or_insert_with(Instant::now);
        }
        let needs_a_person = matches!(
            error.rdkafka_error_code(),
            Some(
                Code::GroupAuthorizationFailed
                    | Code::TopicAuthorizationFailed
                    | Code::UnknownTopic
                    | Code::UnknownTopicOrPartition
            )
        );
        debug!(%error, "audit's group");
        if needs_a_person && !std::mem::replace(&mut self.told, true) {
            let (group, topic) = (&self.group, &self.kafka.topics.ledger);
            warn!(%error, group, topic, "this worker cannot audit: it needs the topic and the right to read it in that group");
        }
    }

    fn rejoin(&mut self) {
        self.cut_off = None;
        match join(&self.kafka, &self.group) {
            Ok(anew) => {
                let former = std::mem::replace(&mut self.member, anew);
                // Closing waits for the group's coordinator, without a bound.
                let closing = thread::Builder::new().name("audit-leave".to_owned());
                if let Err(error) = closing.spawn(move || drop(former)) {
                    warn!(%error, "former member of the audit's group was closed in place");
                }
            }
            Err(error) => warn!(%error, "no new member of the audit's group"),
        }
    }
}

fn join(kafka: &Kafka, group: &str) -> KafkaResult<BaseConsumer<Member>> {
    let member = BaseConsumer::from_config_and_context(&client::member(kafka, group), Member::default())?;
    member.subscribe(&[&kafka.topics.ledger])?;
    Ok(member)
}

impl Member {
    fn assign(consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList, cooperative: bool) -> KafkaResult<()> {
        list.set_all_offsets(Offset::End)?;
        match cooperative {
            true => consumer.incremental_assign(list)?,
            false => consumer.assign(list)?,
        }
        // It is read from elsewhere, by the reader.
        consumer.pause(list)
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let is_own = list.elements().iter().any(|element| element.partition() == 0);
        let taken = if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let taken = Self::assign(consumer, list, cooperative);
            if is_own && taken.is_ok() {
                self.on.store(true, Ordering::Relaxed);
            }
            taken
        } else {
            if is_own {
                self.on.store(false, Ordering::Relaxed);
            }
            match cooperative {
                true => consumer.incremental_unassign(list),
                false => consumer.unassign(),
            }
        };
        if let Err(error) = taken {
            warn!(%error, "audit's group assigns in vain, joining anew");
            self.on.store(false, Ordering::Relaxed);
            self.broken.store(true, Ordering::Relaxed);
        }
    }
}

impl ClientContext for Member {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "librdkafka");
    }
}

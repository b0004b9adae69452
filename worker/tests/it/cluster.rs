//! An embedded broker, and what a test writes to it and reads from it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use portcullis_schema::kafka::Kafka;
use portcullis_schema::{AuditRecord, Finding, Verdict};
use portcullis_worker::{Config, Rules, Worker};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::message::{Headers, Message, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// How long a test waits for anything; the embedded broker takes 3 s to form a group.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    broker: MockCluster<'static, DefaultProducerContext>,
    kafka: Kafka,
}

/// A topic as it is read so far.
pub(crate) struct Reader {
    consumer: BaseConsumer<DefaultConsumerContext>,
    messages: Vec<OwnedMessage>,
}

impl Cluster {
    pub(crate) fn start(partitions: i32) -> Self {
        let broker = MockCluster::new(1).expect("a cluster");
        // When a member leaves, the embedded broker lets the others wait as long as a session; and a fetch that finds
        // nothing waits for the whole of its time.
        let session = [
            ("session.timeout.ms", "4000"),
            ("heartbeat.interval.ms", "500"),
            ("fetch.wait.max.ms", "10"),
        ];
        let kafka = Kafka {
            bootstrap: broker.bootstrap_servers(),
            properties: session.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..Kafka::default()
        };
        for plan in kafka.topics.plans() {
            let partitions = if plan.partitions == 12 { partitions } else { 1 };
            broker.create_topic(&plan.name, partitions, 1).expect("a topic");
        }
        Self { broker, kafka }
    }

    pub(crate) fn worker(&self, instance: &str, rules: &Rules) -> Worker {
        self.worker_with(instance, rules, |_| {})
    }

    pub(crate) fn worker_with(&self, instance: &str, rules: &Rules, change: impl FnOnce(&mut Config)) -> Worker {
        let mut config = Config {
            instance: instance.to_owned(),
            group: "portcullis-worker".to_owned(),
            admin: ([127, 0, 0, 1], 0).into(),
            rules: "rules.toml".into(),
            automatic_verdicts: true,
            kafka: self.kafka.clone(),
        };
        change(&mut config);
        Worker::start(config, rules.clone()).expect("a worker")
    }

    pub(crate) fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    pub(crate) fn broker(&self) -> &MockCluster<'static, DefaultProducerContext> {
        &self.broker
    }

    /// Publishes as the receiver does.
    pub(crate) fn publish(&self, records: &[AuditRecord]) {
        let messages = records.iter().map(|record| {
            let json = record.encode().expect("json");
            (record.key().into_bytes(), json, record.received_at.as_millis())
        });
        self.write(&self.kafka.topics.callbacks, messages);
    }

    /// Writes something else.
    pub(crate) fn write_raw(&self, topic: &str, key: &str, value: &[u8]) {
        self.write(topic, [(key.as_bytes().to_vec(), value.to_vec(), 1_800_000_000_000)]);
    }

    fn write(&self, topic: &str, messages: impl IntoIterator<Item = (Vec<u8>, Vec<u8>, i64)>) {
        let producer: BaseProducer = self.client().create().expect("a producer");
        for (key, value, timestamp) in messages {
            let record = BaseRecord::to(topic).key(&key).payload(&value).timestamp(timestamp);
            producer
                .send(record)
                .map_err(|(error, _)| error)
                .expect("a place in the queue");
        }
        producer.flush(PATIENCE).expect("acknowledged");
    }

    pub(crate) fn read(&self, topic: &str) -> Reader {
        let consumer: BaseConsumer = self.client().create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions(topic, &consumer) {
            list.add_partition_offset(topic, partition, Offset::Beginning)
                .expect("an offset");
        }
        consumer.assign(&list).expect("assigned");
        Reader {
            consumer,
            messages: Vec::new(),
        }
    }

    pub(crate) fn findings(&self) -> Reader {
        self.read(&self.kafka.topics.findings)
    }

    pub(crate) fn verdicts(&self) -> Reader {
        self.read(&self.kafka.topics.verdicts)
    }

    /// What the group has committed, over all partitions of a topic.
    pub(crate) fn committed(&self, topic: &str) -> i64 {
        let consumer: BaseConsumer = self.client().create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, self.partitions(topic, &consumer) - 1);
        let committed = consumer.committed_offsets(list, PATIENCE).expect("offsets");
        let offsets = committed.elements();
        offsets
            .iter()
            .filter_map(|element| element.offset().to_raw())
            .filter(|offset| *offset > 0)
            .sum()
    }

    pub(crate) fn expect_committed(&self, topic: &str, offset: i64) {
        wait_until(&format!("{offset} of {topic} are committed"), || {
            self.committed(topic) == offset
        });
    }

    fn partitions(&self, topic: &str, consumer: &BaseConsumer) -> i32 {
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("metadata");
        i32::try_from(metadata.topics()[0].partitions().len()).expect("few")
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.kafka.bootstrap);
        client.set("group.id", "portcullis-worker");
        client.set("enable.auto.commit", "false");
        client.set("fetch.wait.max.ms", "10");
        client
    }
}

impl Reader {
    /// All messages as soon as there are `count`.
    pub(crate) fn expect(&mut self, count: usize) -> &[OwnedMessage] {
        wait_until(&format!("{count} messages"), || {
            self.poll(Duration::from_millis(100));
            self.messages.len() >= count
        });
        &self.messages
    }

    /// What is there now, after `something else` was seen to have happened.
    pub(crate) fn all(&mut self) -> &[OwnedMessage] {
        while self.poll(Duration::from_secs(1)) {}
        &self.messages
    }

    pub(crate) fn findings(&mut self, count: usize) -> Vec<Finding> {
        let messages = self.expect(count).iter();
        messages
            .map(|message| Finding::decode(payload(message)).expect("a finding"))
            .collect()
    }

    pub(crate) fn verdicts(&mut self, count: usize) -> Vec<Verdict> {
        let messages = self.expect(count).iter();
        messages
            .map(|message| Verdict::decode(payload(message)).expect("a verdict"))
            .collect()
    }

    fn poll(&mut self, wait: Duration) -> bool {
        match self.consumer.poll(wait) {
            Some(Ok(message)) => {
                self.messages.push(message.detach());
                true
            }
            _ => false,
        }
    }
}

pub(crate) fn payload(message: &OwnedMessage) -> &[u8] {
    message.payload().unwrap_or_default()
}

pub(crate) fn headers(message: &OwnedMessage) -> BTreeMap<String, String> {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    let texts = headers.map(|header| {
        let value = String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned();
        (header.key.to_owned(), value)
    });
    texts.collect()
}

pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

use std::time::{Duration, Instant};

use portcullis_receiver::entry::{Entry, Kind};
use portcullis_receiver::journal::Journal;
use portcullis_receiver::loss::Losses;
use portcullis_receiver::publisher::{Publisher, PublisherMetrics};
use portcullis_schema::kafka::Kafka;
use portcullis_schema::{Timestamp, Uuid};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::front::Front;
use crate::scratch::{DEADLINE, Scratch, append_all, eventually};

/// librdkafka's own cluster in this process, with one partition a topic so that the order can be seen.
struct Cluster(MockCluster<'static, DefaultProducerContext>);

impl Cluster {
    fn new() -> Self {
        Self::with_brokers(1)
    }

    fn with_brokers(brokers: i32) -> Self {
        let cluster = MockCluster::new(brokers).expect("cluster");
        for topic in ["callbacks", "dead-letters", "ledger"] {
            cluster.create_topic(topic, 1, 1).expect("topic");
        }
        Self(cluster)
    }

    fn kafka(&self) -> Kafka {
        let mut kafka = Kafka {
            bootstrap: self.0.bootstrap_servers(),
            ..Kafka::default()
        };
        let quick = ("reconnect.backoff.max.ms".to_owned(), "200".to_owned());
        kafka.properties.extend([quick]);
        kafka
    }

    fn refuse_produce(&self, error: RDKafkaRespErr, times: usize) {
        self.0.request_errors(RDKafkaApiKey::Produce, &vec![error; times]);
    }

    /// Reads the topic from its start until `enough`.
    fn read_until(&self, topic: &str, enough: impl Fn(&[OwnedMessage]) -> bool) -> Vec<OwnedMessage> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.0.bootstrap_servers())
            .set("group.id", "test")
            .set("fetch.wait.max.ms", "10")
            .create()
            .expect("consumer");
        let mut partitions = TopicPartitionList::new();
        partitions
            .add_partition_offset(topic, 0, Offset::Beginning)
            .expect("partition");
        consumer.assign(&partitions).expect("assigned");
        let start = Instant::now();
        let mut messages = Vec::new();
        while !enough(&messages) {
            let so_far = messages.len();
            assert!(start.elapsed() < DEADLINE, "only {so_far} messages in {topic}");
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                messages.push(message.detach());
            }
        }
        messages
    }
}

fn entry(number: u64) -> Entry<'static> {
    Entry {
        kind: Kind::Record,
        id: Uuid::from_u128(u128::from(number)),
        received_at: Timestamp::from_micros(1_700_000_000_000_000 + number as i64 * 1_000),
        key: format!("1400000001/operator-{}", number % 7).into(),
        command: "Group.CallbackBeforeCreateTopic".into(),
        payload: format!("{{\"number\":{number}}}").into_bytes().into(),
    }
}

fn append(journal: &Journal, numbers: std::ops::Range<u64>) {
    append_all(journal, numbers.map(|number| entry(number).encode()));
}

fn header<'message>(message: &'message OwnedMessage, name: &str) -> Option<&'message str> {
    let headers = message.headers()?;
    let found = headers.iter().find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}

/// The ids in the topic, each once, in the order of their first appearance.
fn distinct_ids(messages: &[OwnedMessage]) -> Vec<String> {
    let mut ids = Vec::new();
    for message in messages {
        let id = header(message, "ce_id").expect("an id").to_owned();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

fn ids(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|number| entry(number).id.to_string()).collect()
}

struct Publishing {
    registry: Registry,
    publisher: Publisher,
}

fn publish(kafka: &Kafka, journal: &Journal) -> Publishing {
    let mut registry = Registry::default();
    let losses = Losses::new(&mut registry);
    let metrics = PublisherMetrics::new(&mut registry, losses);
    let publisher = Publisher::start(kafka, "receiver-1", journal.clone(), metrics).expect("started");
    Publishing { registry, publisher }
}

impl Publishing {
    fn drain(self, journal: &Journal) -> u64 {
        journal.seal();
        self.publisher.drain(DEADLINE).records
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("encoded");
        text
    }
}

#[test]
fn records_arrive_in_order_with_key_timestamp_and_headers() {
    let (cluster, scratch) = (Cluster::new(), Scratch::new());
    let journal = scratch.open();
    let publishing = publish(&cluster.kafka(), &journal);

    append(&journal, 0..500);

    let messages = cluster.read_until("callbacks", |messages| messages.len() >= 500);
    for (number, message) in (0..500).zip(&messages) {
        let expected = entry(number);
        assert_eq!(message.key(), Some(expected.key.as_bytes()));
        assert_eq!(message.payload(), Some(&*expected.payload));
        assert_eq!(message.timestamp().to_millis(), Some(expected.received_at.as_millis()));
        assert_eq!(header(message, "ce_specversion"), Some("1.0"));
        assert_eq!(header(message, "ce_id"), Some(expected.id.to_string().as_str()));
        assert_eq!(header(message, "ce_source"), Some("/receivers/receiver-1"));
        assert_eq!(
            header(message, "ce_time"),
            Some(expected.received_at.to_string().as_str())
        );
        assert_eq!(header(message, "content-type"), Some("application/json"));
    }
    assert_eq!(publishing.drain(&journal), 0);
}

#[test]
fn what_is_acknowledged_is_trimmed_and_counted() {
    let (cluster, scratch) = (Cluster::new(), Scratch::new());
    let journal = scratch.open();
    cluster.0.broker_down(1).expect("down");
    let publishing = publish(&cluster.kafka(), &journal);
    append(&journal, 0..300);
    assert_eq!(journal.backlog_records(), 300, "nothing is trimmed before Kafka has it");

    cluster.0.broker_up(1).expect("up");

    eventually("the backlog is trimmed", || journal.backlog_records() == 0);
    let metrics = publishing.metrics();
    assert!(
        metrics.contains("receiver_published_total{outcome=\"delivered\"} 300"),
        "{metrics}"
    );
    assert_eq!(publishing.drain(&journal), 0);
}

#[test]
fn a_backlog_of_the_former_start_is_published() {
    let (cluster, scratch) = (Cluster::new(), Scratch::new());
    cluster.0.broker_down(1).expect("down");
    let journal = scratch.open();
    let publishing = publish(&cluster.kafka(), &journal);
    append(&journal, 0..200);
    journal.seal();
    assert_eq!(publishing.publisher.drain(Duration::ZERO).records, 200);
    drop(journal);

    cluster.0.broker_up(1).expect("up");
    let journal = scratch.open();
    let publishing = publish(&cluster.kafka(), &journal);
    append(&journal, 200..250);

    let messages = cluster.read_until("callbacks", |messages| distinct_ids(messages).len() == 250);
    assert_eq!(distinct_ids(&messages), ids(0..250));
    assert_eq!(publishing.drain(&journal), 0);
}

#[test]
fn what_a_crash_left_in_the_journal_and_in_the_topic_is_not_sent_again() {
    let (cluster, scratch) = (Cluster::new(), Scratch::new());
    let journal = scratch.open();
    append(&journal, 0..200);
    // Nothing of it is acknowledged here, and all of it in the topic.
    let crashed = scratch.crash();
    assert_eq!(publish(&cluster.kafka(), &journal).drain(&journal), 0);

    let journal = crashed.open();
    append(&journal, 200..250);
    let publishing = publish(&cluster.kafka(), &journal);

    eventually("all is acknowledged", || journal.backlog_records() == 0);
    let messages = cluster.read_until("callbacks", |messages| distinct_ids(messages).len() == 250);
    assert_eq!(distinct_ids(&messages), ids(0..250));
    assert_eq!(messages.len(), 250, "some are there twice");
    let metrics = publishing.metrics();
    for counted in ["outcome=\"found\"} 200", "outcome=\"delivered\"} 50"] {
        assert!(metrics.contains(counted), "{counted}: {metrics}");
    }
    assert_eq!(publishing.drain(&journal), 0);
}

#[test]
fn a_topic_that_may_not_be_read_holds_nothing_up() {
    let (cluster, scratch) = (Cluster::new(), Scratch::new());
    let journal = scratch.open();
    append(&journal, 0..20);
    let crashed = scratch.crash();
    assert_eq!(publish(&cluster.kafka(), &journal).drain(&journal), 0);

    let forbidden = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.0.request_errors(RDKafkaApiKey::Fetch, &[forbidden; 100]);
    let journal = crashed.open();
    append(&journal, 20..30);
    let publishing = publish(&cluster.kafka(), &journal);

    eventually("all is acknowledged", || journal.backlog_records() == 0);
    cluster.0.clear_request_errors(RDKafkaApiKey::Fetch);
    let messages = cluster.read_until("callbacks", |messages| distinct_ids(messages).len() == 30);
    assert_eq!(messages.len(), 50, "those that could not be found are there twice");
    assert_eq!(publishing.drain(&journal), 0);
}

#[test]
fn a_drain_ends_though_what_the_former_start_left_cannot_be_compared() {
    let (cluster, scratch) = (Cluster::new(), Scratch::new());
    cluster.0.broker_down(1).expect("down");
    let journal = scratch.open();
    append(&journal, 0..20);
    let publishing = publish(&cluster.kafka(), &journal);
    eventually("the backlog is shown", || {
        publishing.metrics().contains("receiver_backlog_records 20")
    });
    journal.seal();

    let remaining = publishing.publisher.drain(Duration::from_millis(300));

    assert_eq!(remaining.records, 20);
}

#[test]
fn a_refused_batch_is_sent_again_until_it_is_taken() {
    let (cluster, scratch) = (Cluster::new(), Scratch::new());
    let journal = scratch.open();
    cluster.refuse_produce(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, 2);
    let publishing = publish(&cluster.kafka(), &journal);

    append(&journal, 0..100);

    let messages = cluster.read_until("callbacks", |messages| distinct_ids(messages).len() == 100);
    assert_eq!(distinct_ids(&messages), ids(0..100));
    eventually("all is trimmed", || journal.backlog_records() == 0);
    assert!(
        publishing.metrics().contains("outcome=\"failed\""),
        "no client was given up"
    );
    assert_eq!(publishing.drain(&journal), 0);
}

#[test]
fn a_client_that_failed_for_good_is_replaced() {
    let (cluster, scratch) = (Cluster::new(), Scratch::new());
    let journal = scratch.open();
    let publishing = publish(&cluster.kafka(), &journal);
    append(&journal, 0..10);
    eventually("the first records are acknowledged", || journal.backlog_records() == 0);

    // Fatal to an idempotent producer, where a foreign epoch or an unknown producer is not.
    cluster.refuse_produce(RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, 1);
    append(&journal, 10..60);

    let messages = cluster.read_until("callbacks", |messages| distinct_ids(messages).len() == 60);
    assert_eq!(distinct_ids(&messages), ids(0..60));
    assert!(
        publishing.metrics().contains("outcome=\"failed\""),
        "no client was given up"
    );
    assert_eq!(publishing.drain(&journal), 0);
}

#[test]
fn a_record_over_the_limit_of_the_broker_becomes_a_dead_letter_and_stops_nothing() {
    let (cluster, scratch) = (Cluster::new(), Scratch::new());
    let journal = scratch.open();
    let publishing = publish(&cluster.kafka(), &journal);
    // In its batch, and alone.
    cluster.refuse_produce(RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, 2);

    append(&journal, 0..1);
    let letters = cluster.read_until("dead-letters", |messages| !messages.is_empty());
    append(&journal, 1..10);

    assert_eq!(letters[0].payload(), Some(&*entry(0).payload));
    assert_eq!(header(&letters[0], "dead_letter_topic"), Some("callbacks"));
    assert!(header(&letters[0], "dead_letter_reason").is_some());
    let messages = cluster.read_until("callbacks", |messages| distinct_ids(messages).len() == 9);
    assert_eq!(distinct_ids(&messages), ids(1..10));
    assert_eq!(publishing.drain(&journal), 0);
}

#[test]
fn records_that_only_together_are_over_the_limit_of_the_broker_all_arrive() {
    let (cluster, scratch) = (Cluster::new(), Scratch::new());
    let journal = scratch.open();
    append(&journal, 0..50);
    cluster.refuse_produce(RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, 1);

    let publishing = publish(&cluster.kafka(), &journal);

    eventually("all is acknowledged", || journal.backlog_records() == 0);
    let messages = cluster.read_until("callbacks", |messages| messages.len() >= 50);
    assert_eq!(distinct_ids(&messages), ids(0..50));
    assert!(
        !publishing.metrics().contains("dead_letter"),
        "{}",
        publishing.metrics()
    );
    assert_eq!(publishing.drain(&journal), 0);
}

#[test]
fn a_change_of_the_leader_loses_and_repeats_nothing() {
    let (cluster, scratch) = (Cluster::with_brokers(2), Scratch::new());
    let journal = scratch.open();
    let publishing = publish(&cluster.kafka(), &journal);
    for (leader, numbers) in [(1, 0..100), (2, 100..200), (1, 200..300)] {
        cluster
            .0
            .partition_leader("callbacks", 0, Some(leader))
            .expect("a leader");
        append(&journal, numbers);
    }
    // And in the middle of what is in flight, the old one gone for good.
    cluster.0.broker_down(1).expect("down");
    append(&journal, 300..400);
    cluster.0.partition_leader("callbacks", 0, Some(2)).expect("a leader");

    eventually("all is acknowledged", || journal.backlog_records() == 0);
    // The test's own consumer has its coordinator there.
    cluster.0.broker_up(1).expect("up");
    let messages = cluster.read_until("callbacks", |messages| distinct_ids(messages).len() == 400);
    assert_eq!(distinct_ids(&messages), ids(0..400));
    assert_eq!(messages.len(), 400, "some are there twice");
    assert!(
        !publishing.metrics().contains("outcome=\"failed\""),
        "a client was given up"
    );
    assert_eq!(publishing.drain(&journal), 0);
}

#[test]
fn a_record_that_fits_nowhere_is_counted_as_lost_and_stops_nothing() {
    let (cluster, scratch) = (Cluster::new(), Scratch::new());
    let journal = scratch.open();
    let mut kafka = cluster.kafka();
    kafka
        .properties
        .insert("message.max.bytes".to_owned(), "2000".to_owned());
    let publishing = publish(&kafka, &journal);

    let huge = Entry {
        payload: vec![b'x'; 10_000].into(),
        ..entry(0)
    };
    append_all(&journal, [huge.encode()]);
    append(&journal, 1..10);

    let messages = cluster.read_until("callbacks", |messages| distinct_ids(messages).len() == 9);
    assert_eq!(distinct_ids(&messages), ids(1..10));
    let metrics = publishing.metrics();
    assert!(
        metrics.contains("receiver_lost_total{reason=\"too_large_for_broker\"} 1"),
        "{metrics}"
    );
    assert_eq!(publishing.drain(&journal), 0);
}

#[test]
fn records_of_a_journal_that_is_gone_are_counted_and_stop_nothing() {
    let (cluster, scratch) = (Cluster::new(), Scratch::new());
    let journal = scratch.open();
    append(&journal, 0..10);
    append(&journal, 10..200);
    journal.trim(10);
    eventually("some are trimmed", || journal.first_position() > 0);
    let kept = journal.backlog_records();
    journal.close();
    drop(journal);
    for segment in scratch.segments() {
        std::fs::remove_file(segment).expect("removed");
    }

    let journal = scratch.open();
    assert_eq!(journal.recovery().missing, kept);
    let publishing = publish(&cluster.kafka(), &journal);
    append(&journal, 200..250);

    let messages = cluster.read_until("callbacks", |messages| distinct_ids(messages).len() == 50);
    assert_eq!(distinct_ids(&messages), ids(200..250));
    let metrics = publishing.metrics();
    let lost = format!("receiver_lost_total{{reason=\"journal_damaged\"}} {kept}");
    assert!(metrics.contains(&lost), "{lost}: {metrics}");
    assert_eq!(publishing.drain(&journal), 0, "nothing waits for what is lost");
}

#[test]
fn records_before_the_next_ones_are_trimmed_though_damage_took_those_between() {
    let (cluster, scratch) = (Cluster::new(), Scratch::new());
    cluster.0.broker_down(1).expect("down");
    let journal = scratch.open();
    let publishing = publish(&cluster.kafka(), &journal);
    append(&journal, 0..20);
    append(&journal, 20..40);
    append(&journal, 40..60);
    journal.seal();
    assert_eq!(publishing.publisher.drain(Duration::ZERO).records, 60);
    drop(journal);
    cut_in_half(&scratch.segments()[0]);

    // The client that has passed over them is given up: they are not counted again.
    cluster.refuse_produce(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, 1);
    cluster.0.broker_up(1).expect("up");
    let journal = scratch.open();
    let lost = journal.recovery().missing;
    assert!((1..60).contains(&lost), "{lost}");
    let publishing = publish(&cluster.kafka(), &journal);

    eventually("what is left is published, the rest counted", || {
        journal.backlog_records() == 0
    });
    let metrics = publishing.metrics();
    for counted in [
        format!("receiver_lost_total{{reason=\"journal_damaged\"}} {lost}"),
        format!("receiver_published_total{{outcome=\"delivered\"}} {}", 60 - lost),
    ] {
        assert!(metrics.contains(&counted), "{counted}: {metrics}");
    }
    assert_eq!(publishing.drain(&journal), 0);
}

/// Of what is written in it.
fn cut_in_half(log: &std::path::Path) {
    let bytes = std::fs::read(log).expect("read");
    let written = bytes.iter().rposition(|byte| *byte != 0).expect("written");
    std::fs::write(log, &bytes[..written / 2]).expect("written");
}

/// As one that has lost all brokers and looks for none: `publisher.rs` tells how that happens.
#[test]
fn a_client_that_gets_no_acknowledgement_though_kafka_answers_others_is_replaced() {
    let (cluster, scratch) = (Cluster::new(), Scratch::new());
    let front = Front::before(&cluster.0.bootstrap_servers());
    let kafka = Kafka {
        bootstrap: front.bootstrap(),
        ..cluster.kafka()
    };
    let journal = scratch.open();
    let publishing = publish(&kafka, &journal);
    append(&journal, 0..1);
    eventually("the client is well", || journal.backlog_records() == 0);

    front.ignore_those_who_are_there();
    append(&journal, 1..10);

    let messages = cluster.read_until("callbacks", |messages| messages.len() >= 10);
    assert_eq!(distinct_ids(&messages), ids(0..10));
    assert_eq!(publishing.drain(&journal), 0);
}

#[test]
fn a_drain_says_what_remains_when_kafka_is_away() {
    let (cluster, scratch) = (Cluster::new(), Scratch::new());
    cluster.0.broker_down(1).expect("down");
    let journal = scratch.open();
    let publishing = publish(&cluster.kafka(), &journal);
    append(&journal, 0..20);
    journal.seal();

    let remaining = publishing.publisher.drain(Duration::from_millis(300));

    assert_eq!(remaining.records, 20);
}

#[test]
fn a_ledger_entry_is_published_only_when_all_before_it_is_and_holds_nothing_up() {
    let (cluster, scratch) = (Cluster::new(), Scratch::new());
    let journal = scratch.open();
    let ledger_entry = |number| Entry {
        kind: Kind::Ledger,
        ..entry(number)
    };
    cluster.0.partition_leader("callbacks", 0, None).expect("no leader");
    for entry in [ledger_entry(0), entry(1), ledger_entry(2)] {
        append_all(&journal, [entry.encode()]); // each a block of its own
    }
    let publishing = publish(&cluster.kafka(), &journal);
    cluster.read_until("ledger", |messages| !messages.is_empty());

    cluster.0.partition_leader("callbacks", 0, Some(1)).expect("a leader");
    let proofs = cluster.read_until("ledger", |messages| messages.len() == 2);
    assert_eq!(
        cluster.read_until("callbacks", |messages| !messages.is_empty()).len(),
        1
    );
    assert_eq!(proofs[1].payload(), Some(&*entry(2).payload));

    // Refused for good, in the middle of records that Kafka takes.
    cluster.refuse_produce(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, 1);
    append_all(&journal, [ledger_entry(3)].map(|entry| entry.encode()));
    eventually("the refused entry is left out", || journal.backlog_records() == 0);
    append_all(&journal, [entry(4).encode()]);
    cluster.read_until("callbacks", |messages| messages.len() == 2);
    assert_eq!(publishing.drain(&journal), 0);
}

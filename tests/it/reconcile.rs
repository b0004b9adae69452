use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_schema::{LedgerEntry, LedgerEvent, Timestamp, Uuid, id};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::support::{
    Ended, Folder, Kafka, PATIENCE, Portcullis, Site, free_address, not_checked, publish, wait_until,
};

/// What receivers would have written, and what `portcullis reconcile` says to it.
struct Topics {
    folder: Folder,
    kafka: Kafka,
}

/// One start of a receiver.
#[derive(Clone, Copy)]
struct Boot {
    receiver: &'static str,
    boot: Uuid,
}

fn boot(receiver: &'static str) -> Boot {
    let boot = Uuid::new_v4();
    Boot { receiver, boot }
}

fn ago(seconds: u64) -> Timestamp {
    Timestamp::now().before(Duration::from_secs(seconds))
}

impl Boot {
    fn record(self, seq: u64) -> (String, Vec<u8>) {
        let at = Timestamp::now();
        let record = json!({
            "id": id::random(at), "receiver": self.receiver, "boot": self.boot, "seq": seq, "received_at": at,
            "command": "Group.CallbackBeforeCreateTopic", "authentic": true, "rung": "normal",
        });
        // Each to a partition of its own.
        (format!("1400000001/{seq}"), record.to_string().into_bytes())
    }

    fn entry(self, seconds_ago: u64, event: LedgerEvent, next_seq: u64) -> LedgerEntry {
        LedgerEntry {
            receiver: self.receiver.to_owned(),
            boot: self.boot,
            at: ago(seconds_ago),
            event,
            next_seq,
            host: "host-1".to_owned(),
            lost: BTreeMap::new(),
        }
    }

    fn started(self, seconds_ago: u64) -> LedgerEntry {
        let event = LedgerEvent::Started {
            former_boot: None,
            former_next_seq: None,
        };
        self.entry(seconds_ago, event, 0)
    }

    fn heartbeat(self, seconds_ago: u64, next_seq: u64) -> LedgerEntry {
        self.entry(seconds_ago, LedgerEvent::Heartbeat, next_seq)
    }
}

fn write_records(kafka: &Kafka, boot: Boot, numbers: impl IntoIterator<Item = u64>) {
    let records = numbers.into_iter().map(|seq| boot.record(seq));
    publish(kafka, &kafka.topics.callbacks, records);
}

fn write_entries(kafka: &Kafka, entries: &[LedgerEntry]) {
    let entries = entries.iter().map(|entry| (entry.key(), entry.encode().expect("json")));
    publish(kafka, &kafka.topics.ledger, entries);
}

impl Topics {
    fn start() -> Self {
        let (folder, kafka) = (Folder::new(), Kafka::start());
        folder.write("portcullis.toml", &kafka.section());
        Self { folder, kafka }
    }

    fn records(&self, boot: Boot, numbers: impl IntoIterator<Item = u64>) {
        write_records(&self.kafka, boot, numbers);
    }

    fn ledger(&self, entries: &[LedgerEntry]) {
        write_entries(&self.kafka, entries);
    }

    fn reconcile(&self, more: &[&str]) -> Ended {
        Portcullis::command(self.folder.path(), &[&["reconcile"], more].concat()).run()
    }

    fn report(&self, code: i32) -> Value {
        self.reconcile(&["--json"]).expect(code).json().remove(0)
    }
}

#[test]
fn a_record_that_was_removed_is_named_with_its_number() {
    let topics = Topics::start();
    let (broken, whole) = (boot("receiver-1"), boot("receiver-2"));
    topics.records(broken, (0..500).filter(|seq| !(101..=103).contains(seq) && *seq != 200));
    topics.records(whole, 0..300);
    let mut counted = broken.heartbeat(1, 500);
    counted.lost.insert("journal_full".to_owned(), 3);
    topics.ledger(&[broken.started(60), whole.started(60), counted, whole.heartbeat(1, 300)]);

    let report = topics.report(1);
    assert_eq!((&report["ok"], &report["missing_records"]), (&json!(false), &json!(4)));
    assert_eq!(report["boots"][0]["missing"], json!([[101, 103], [200, 200]]));
    assert_eq!(report["boots"][0]["lost"], json!({"journal_full": 3}));
    assert_eq!(report["boots"][1]["missing"], json!([]));
    assert_eq!(report["boots"][1]["ending"]["kind"], "running");

    let told = topics.reconcile(&[]).expect(1).out;
    for part in [
        "receiver-1 on host-1, boot ",
        "MISSING  4 records, numbers 101 to 103, 200\n",
        "lost     3 journal_full\n",
        "MISSING: 4 records of receiver-1 are in no topic. It counted only 3 as lost",
    ] {
        assert!(told.contains(part), "{part} in\n{told}");
    }
}

#[test]
fn nothing_is_missing_over_a_crash_and_a_stop_and_repeats_and_dead_letters_are_told() {
    let topics = Topics::start();
    let (crashed, stopped) = (boot("receiver-1"), boot("receiver-1"));
    topics.records(crashed, (0..100).filter(|seq| *seq != 50).chain(90..100));
    let (letter, of_a_worker) = (crashed.record(50), (String::from("k"), b"no record".to_vec()));
    publish(
        &topics.kafka,
        &topics.kafka.topics.dead_letters,
        [letter, of_a_worker.clone()].into_iter(),
    );
    publish(
        &topics.kafka,
        &topics.kafka.topics.callbacks,
        std::iter::once(of_a_worker),
    );
    topics.records(stopped, 0..10);
    let followed = LedgerEvent::Started {
        former_boot: Some(crashed.boot),
        former_next_seq: Some(100),
    };
    topics.ledger(&[
        crashed.started(90),
        crashed.heartbeat(80, 40),
        stopped.entry(70, followed, 0),
        stopped.entry(60, LedgerEvent::Stopped, 10),
    ]);

    let report = topics.report(0);
    assert_eq!(
        (&report["ok"], &report["repeats"], &report["undecodable"]),
        (&json!(true), &json!(10), &json!(1))
    );
    let of_boot = |boot: Boot| {
        let boots = report["boots"].as_array().expect("boots").iter();
        boots
            .into_iter()
            .find(|told| told["boot"] == json!(boot.boot))
            .expect("told")
            .clone()
    };
    let (crashed, stopped) = (of_boot(crashed), of_boot(stopped));
    for (field, value) in [
        ("records", 100),
        ("repeats", 10),
        ("too_large", 1),
        ("first", 0),
        ("last", 99),
        ("checked_below", 100),
    ] {
        assert_eq!(crashed[field], value, "{field}");
    }
    assert_eq!(
        (&crashed["ending"]["kind"], &crashed["ending"]["by"]),
        (&json!("followed"), &stopped["boot"])
    );
    assert_eq!(stopped["ending"]["kind"], "stopped");

    let told = topics.reconcile(&[]).expect(0).out;
    assert!(
        told.contains("Nothing is missing: every record that the ledger tells of is in Kafka, 110 records of 2 boots."),
        "{told}"
    );
    assert!(
        told.contains("100, numbers 0 to 99, 1 of them in the dead letters: too large, and 10 repeats\n"),
        "{told}"
    );
    assert!(
        told.contains("Messages in callbacks that cannot be read, and count as no record: 1."),
        "{told}"
    );
}

#[test]
fn what_is_above_the_last_proof_of_a_silent_receiver_is_late_and_no_failure() {
    let topics = Topics::start();
    let silent = boot("receiver-1");
    topics.records(silent, (0..100).filter(|seq| *seq != 95));
    topics.ledger(&[silent.started(7_400), silent.heartbeat(7_300, 90)]);

    let report = topics.report(0);
    assert_eq!(
        (&report["late_records"], &report["boots"][0]["late"]),
        (&json!(1), &json!([[95, 95]]))
    );
    assert_eq!(report["boots"][0]["ending"]["kind"], "silent");
    let told = topics.reconcile(&[]).expect(0).out;
    assert!(
        told.contains("receiver-1 has been silent for 2 h with 1 record late")
            && told.contains("data directory on host-1"),
        "{told}"
    );
}

#[test]
fn an_empty_ledger_proves_nothing_and_says_so() {
    let topics = Topics::start();
    topics.records(boot("receiver-1"), [0, 2]);
    let told = topics.reconcile(&[]).expect(0).out;
    assert!(
        told.contains("Nothing can be proven: the ledger has no entry"),
        "{told}"
    );
}

/// The test cluster finds no offset by a time.
#[test]
fn what_was_received_before_the_given_time_is_not_judged() {
    let topics = Topics::start();
    if !topics.kafka.is_real() {
        not_checked(
            "how records are read from a moment on",
            "this is the test cluster, which does not know it; tests/kafka/run runs the tests on a real Kafka",
        );
        return;
    }
    let old = boot("receiver-1");
    topics.records(old, [0, 1, 3, 5]);
    topics.ledger(&[
        old.started(7_300),
        old.heartbeat(7_200, 3),
        old.heartbeat(600, 5),
        old.heartbeat(1, 6),
    ]);
    let told = |code, from| {
        topics
            .reconcile(&["--json", "--from", from])
            .expect(code)
            .json()
            .remove(0)
    };
    assert_eq!(told(1, "3h")["boots"][0]["missing"], json!([[2, 2], [4, 4]]));
    let judged = told(0, "1h");
    assert_eq!(
        (
            &judged["boots"][0]["checked_from"],
            &judged["boots"][0]["checked_below"]
        ),
        (&json!(5), &json!(6))
    );
    let nothing = told(0, "2100-01-01T00:00:00Z");
    assert_eq!(nothing["boots"], json!([]));
}

/// The test cluster deletes nothing.
#[test]
fn what_retention_has_cut_off_is_not_called_missing() {
    let topics = Topics::start();
    if !topics.kafka.is_real() {
        not_checked(
            "how the old end of a topic is cut off",
            "this is the test cluster, which cannot be asked to; tests/kafka/run runs the tests on a real Kafka",
        );
        return;
    }
    let receiver = boot("receiver-1");
    topics.records(receiver, 0..200);
    cut_off(&topics.kafka);
    topics.records(receiver, 200..400);
    topics.ledger(&[
        receiver.started(60),
        receiver.heartbeat(30, 150),
        receiver.heartbeat(1, 400),
    ]);
    let report = topics.report(0);
    assert_eq!(report["boots"][0]["records"], 200);
    assert_eq!(report["boots"][0]["checked_from"], Value::Null);
}

/// Deletes all records that are in `callbacks`, as retention does.
fn cut_off(kafka: &Kafka) {
    let name = &kafka.topics.callbacks;
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &kafka.bootstrap)
        .create()
        .expect("a client");
    let mut ends = TopicPartitionList::new();
    for partition in 0..12 {
        ends.add_partition_offset(name, partition, Offset::End)
            .expect("an offset");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let deleted = runtime.block_on(admin.delete_records(&ends, &AdminOptions::new()));
    for element in deleted.expect("deleted").elements() {
        assert_eq!(element.error(), Ok(()));
    }
}

#[test]
fn a_kafka_that_is_away_and_a_time_that_is_none_are_told_with_what_to_do() {
    let away = free_address().to_string();
    let folder = Folder::new();
    let ended = Portcullis::command(folder.path(), &["reconcile"])
        .environment("PORTCULLIS__KAFKA__BOOTSTRAP", &away)
        .run()
        .expect(69);
    assert!(
        ended.err.contains(&away) && ended.err.contains("kafka.bootstrap"),
        "{}",
        ended.err
    );
    let ended = Portcullis::command(folder.path(), &["reconcile", "--from", "yesterday"])
        .run()
        .expect(2);
    assert!(
        ended.err.contains("2026-11-24T12:00:00Z") && ended.err.contains("1h"),
        "{}",
        ended.err
    );
}

#[test]
fn a_worker_tells_what_is_missing_of_the_hour_before_it_began() {
    let site = Site::at(Kafka::start()).rules("");
    let receiver = boot("receiver-1");
    let write = || {
        write_records(&site.kafka, receiver, (0..200).filter(|seq| *seq != 123));
        write_entries(&site.kafka, &[receiver.started(600), receiver.heartbeat(1, 200)]);
    };
    // The test cluster finds no offset by a time: there a worker begins with what comes.
    if site.kafka.is_real() {
        write();
    }
    let worker = site.worker("worker-1").ready();
    wait_until("the worker audits", PATIENCE, || {
        worker.metric("worker_auditing ") == 1.0
    });
    if !site.kafka.is_real() {
        write();
    }
    wait_until("the hole is told", PATIENCE, || {
        worker.metric("worker_missing_records ") == 1.0
    });
    assert_eq!(worker.metric("worker_repeated_records_total "), 0.0);
    worker.stop();
}

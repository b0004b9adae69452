use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use portcullis_schema::{AuditRecord, Timestamp};
use portcullis_worker::{Drained, Rules, Worker};
use prometheus_client::registry::Registry;
use rdkafka::message::Message;
use serde_json::json;

use crate::cluster::{Cluster, headers, payload, wait_until};
use crate::front::Front;
use crate::records::{record, record_with, rule, rules};

const BOUND: Duration = Duration::from_secs(20);

/// `count` records of `operator`, of this moment, numbered from `first`.
fn now(first: u64, count: u64, operator: &str) -> Vec<AuditRecord> {
    let now = Timestamp::now();
    let numbered = (first..first + count).zip(0..);
    numbered
        .map(|(number, millis)| record(number, operator, now.after(Duration::from_millis(millis))))
        .collect()
}

fn burst() -> Rules {
    rules(&rule("burst", &[]))
}

fn shared_address() -> Rules {
    let changes = [("by", "\"client_ip\""), ("count", "{ distinct = \"operator\" }")];
    rules(&rule("shared", &changes))
}

/// One record each of `count` operators behind one address.
fn from_one_address(first: u64, count: u64) -> Vec<AuditRecord> {
    let now = Timestamp::now();
    (first..first + count)
        .map(|number| {
            let fields = json!({ "operator": format!("o{number}"), "client_ip": "203.0.113.7" });
            record_with(number, now, fields)
        })
        .collect()
}

pub(crate) fn metrics(worker: &Worker) -> String {
    let mut registry = Registry::default();
    worker.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
    text
}

#[test]
fn five_records_lead_to_a_finding_a_verdict_and_then_the_offset() {
    let cluster = Cluster::start(3);
    let worker = cluster.worker("worker-1", &burst());
    let records = now(0, 5, "leckie");
    cluster.publish(&records);

    let mut findings = cluster.findings();
    let finding = findings.findings(1).remove(0);
    let mut verdicts = cluster.verdicts();
    let verdict = verdicts.verdicts(1).remove(0);
    assert_eq!(
        finding.evidence,
        records.iter().map(|record| record.id).collect::<Vec<_>>()
    );
    assert_eq!((finding.verdict, finding.by.as_str()), (Some(verdict.id), "worker-1"));
    assert_eq!((verdict.subject.value(), verdict.by.as_str()), ("leckie", "worker-1"));

    let message = &verdicts.expect(1)[0];
    assert_eq!(message.key(), Some(&b"1400000001/operator/leckie/rule"[..]));
    assert_eq!(message.timestamp().to_millis(), Some(verdict.issued_at.as_millis()));
    let told = headers(message);
    assert_eq!(told["ce_type"], "portcullis.verdict");
    assert_eq!(told["ce_source"], "/workers/worker-1");
    assert_eq!(told["ce_id"], verdict.id.to_string());
    let message = &findings.expect(1)[0];
    assert_eq!(message.key(), Some(&b"burst/leckie"[..]));
    assert_eq!(headers(message)["ce_type"], "portcullis.finding");

    cluster.expect_committed("callbacks", 5);
    assert!(
        worker.is_alive() && worker.readiness().is_ready(),
        "{:?}",
        worker.readiness().latches()
    );
    wait_until("the gauges are measured", || {
        metrics(&worker).contains("worker_subjects{rule=\"burst\"} 1")
    });
    let metrics = metrics(&worker);
    for line in [
        "worker_records_total{outcome=\"observed\"} 5",
        "worker_record_age_seconds_count 5",
        "worker_findings_total{rule=\"burst\",mode=\"enforce\"} 1",
        "worker_verdicts_total{outcome=\"issued\"} 1",
        "worker_lag_records 0",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    assert_eq!(worker.drain(BOUND), Drained::Left);
}

#[test]
fn a_count_by_address_is_whole_over_partitions_and_two_workers() {
    let cluster = Cluster::start(6);
    let workers = [
        cluster.worker("worker-1", &shared_address()),
        cluster.worker("worker-2", &shared_address()),
    ];
    wait_until("both have partitions", || {
        workers.iter().all(|worker| worker.readiness().is_ready())
    });

    cluster.publish(&from_one_address(0, 5));

    let verdict = cluster.verdicts().verdicts(1).remove(0);
    assert_eq!(verdict.subject.to_string(), "client_ip 203.0.113.7");
    cluster.expect_committed("callbacks", 5);
    cluster.expect_committed("signals", 5);
    assert_eq!(cluster.findings().all().len(), 1);
    for worker in workers {
        assert_eq!(worker.drain(BOUND), Drained::Left);
    }
}

#[test]
fn windows_go_with_their_partition_to_a_worker_that_joins() {
    let cluster = Cluster::start(6);
    let first = cluster.worker("worker-1", &burst());
    let operators: Vec<String> = (0..12).map(|number| format!("operator-{number}")).collect();
    let publish = |first, count| {
        for operator in &operators {
            cluster.publish(&now(first, count, operator));
        }
    };
    publish(0, 4);
    cluster.expect_committed("callbacks", 48);
    let second = cluster.worker("worker-2", &burst());
    let shares = || [&first, &second].map(|worker| worker.readiness().latches()["group"].reason.clone());
    wait_until("both have half", || {
        shares() == ["3 partitions assigned", "3 partitions assigned"]
    });

    publish(4, 1);

    let mut findings = cluster.findings();
    let found = findings.findings(12);
    cluster.expect_committed("callbacks", 60);
    assert_eq!(findings.all().len(), 12);
    assert!(found.iter().all(|finding| finding.evidence.len() == 5));
    let by: BTreeSet<&str> = found.iter().map(|finding| finding.by.as_str()).collect();
    assert_eq!(by, BTreeSet::from(["worker-1", "worker-2"]));
    first.drain(BOUND);
    second.drain(BOUND);
}

#[test]
fn what_cannot_be_decoded_is_a_dead_letter_and_the_stream_goes_on() {
    let cluster = Cluster::start(1);
    let rules = rules(&[rule("burst", &[]), rule("shared", &[("by", "\"client_ip\"")])].concat());
    let worker = cluster.worker("worker-1", &rules);
    cluster.write_raw("callbacks", "k", b"{\"id\":");
    cluster.write_raw("signals", "s", b"[]");
    cluster.publish(&now(0, 5, "leckie"));

    assert_eq!(cluster.verdicts().verdicts(1).len(), 1);
    let mut dead = cluster.read(&cluster.kafka().topics.dead_letters);
    let letters = dead.expect(2);
    let letter = letters
        .iter()
        .find(|letter| letter.key() == Some(b"k"))
        .expect("the callback");
    assert_eq!(payload(letter), b"{\"id\":");
    let told = headers(letter);
    assert_eq!(
        (
            told["dead_letter_topic"].as_str(),
            told["dead_letter_partition"].as_str()
        ),
        ("callbacks", "0")
    );
    assert_eq!(told["dead_letter_offset"], "0");
    assert!(
        told["dead_letter_reason"].starts_with("not the json of a record"),
        "{told:?}"
    );
    cluster.expect_committed("callbacks", 6);
    assert!(metrics(&worker).contains("worker_records_total{outcome=\"dead_letter\"} 2"));
    worker.drain(BOUND);
}

#[test]
fn a_worker_that_restarts_in_the_middle_of_a_window_finds_what_it_would_have_found() {
    for drained in [true, false] {
        let cluster = Cluster::start(1);
        let worker = cluster.worker("worker-1", &burst());
        let records = now(0, 11, "leckie");
        cluster.publish(&records[..7]);
        cluster.expect_committed("callbacks", 7);
        if drained {
            assert_eq!(worker.drain(BOUND), Drained::Left);
        } else {
            assert_eq!(worker.drain(Duration::ZERO), Drained::Cut);
        }
        let worker = cluster.worker("worker-1", &burst());
        cluster.publish(&records[7..]);

        cluster.expect_committed("callbacks", 11);
        let mut findings = cluster.findings();
        findings.findings(2);
        findings.all();
        let crossings: Vec<_> = findings
            .findings(2)
            .iter()
            .map(|finding| finding.evidence.last().copied())
            .collect();
        assert_eq!(
            crossings,
            [Some(records[4].id), Some(records[9].id)],
            "the first is not written again"
        );
        assert_eq!(cluster.verdicts().all().len(), 2);
        worker.drain(BOUND);
    }
}

#[test]
fn signals_are_not_written_again_by_a_worker_that_rebuilds_its_windows() {
    let cluster = Cluster::start(1);
    let both = rules(&[rule("burst", &[]), rule("shared", &[("by", "\"client_ip\"")])].concat());
    let worker = cluster.worker("worker-1", &both);
    cluster.publish(&from_one_address(0, 3));
    cluster.expect_committed("callbacks", 3);
    cluster.expect_committed("signals", 3);
    worker.drain(BOUND);

    let worker = cluster.worker("worker-1", &both);
    cluster.publish(&from_one_address(3, 2));

    assert_eq!(cluster.verdicts().verdicts(1)[0].rule.as_deref(), Some("shared"));
    cluster.expect_committed("signals", 5);
    assert_eq!(cluster.read("signals").all().len(), 5);
    assert!(
        metrics(&worker).contains("worker_records_total{outcome=\"rebuilt\"} 6"),
        "{}",
        metrics(&worker)
    );
    worker.drain(BOUND);
}

#[test]
fn what_a_cut_worker_had_not_committed_comes_again_with_the_same_ids() {
    let cluster = Cluster::start(1);
    refuse_verdicts(&cluster, true);
    let worker = cluster.worker("worker-1", &burst());
    cluster.publish(&now(0, 5, "leckie"));
    let mut findings = cluster.findings();
    let finding = findings.findings(1).remove(0);
    wait_until("output is not ready", || !worker.readiness().is_ready());
    assert_eq!(worker.drain(Duration::ZERO), Drained::Cut);
    refuse_verdicts(&cluster, false);

    let worker = cluster.worker("worker-2", &burst());

    let verdict = cluster.verdicts().verdicts(1).remove(0);
    assert_eq!(finding.verdict, Some(verdict.id));
    assert_eq!(findings.findings(2)[1].id, finding.id);
    cluster.expect_committed("callbacks", 5);
    worker.drain(BOUND);
}

#[test]
fn output_that_is_refused_is_written_when_it_is_taken_again() {
    let cluster = Cluster::start(1);
    let worker = cluster.worker("worker-1", &burst());
    refuse_verdicts(&cluster, true);
    cluster.publish(&now(0, 5, "leckie"));
    wait_until("output is not ready", || {
        worker
            .readiness()
            .latches()
            .get("output")
            .is_some_and(|latch| !latch.ready)
    });
    assert_eq!(cluster.committed("callbacks"), 0, "the offset does not run ahead");

    refuse_verdicts(&cluster, false);

    assert_eq!(cluster.verdicts().verdicts(1).len(), 1);
    cluster.expect_committed("callbacks", 5);
    assert!(worker.readiness().is_ready());
    worker.drain(BOUND);
}

#[test]
fn without_automatic_verdicts_there_are_findings_that_say_so() {
    let cluster = Cluster::start(1);
    let worker = cluster.worker_with("worker-1", &burst(), |config| config.automatic_verdicts = false);
    cluster.publish(&now(0, 5, "leckie"));

    let finding = cluster.findings().findings(1).remove(0);
    assert_eq!(
        (finding.verdict, finding.withheld.as_deref()),
        (None, Some("automatic_verdicts_off"))
    );
    cluster.expect_committed("callbacks", 5);
    assert!(cluster.verdicts().all().is_empty());
    worker.drain(BOUND);
}

#[test]
fn a_verdict_that_would_be_over_already_is_withheld() {
    let cluster = Cluster::start(1);
    let worker = cluster.worker("worker-1", &burst());
    let past = Timestamp::now().before(Duration::from_secs(601));
    let records: Vec<_> = (0..5).map(|number| record(number, "leckie", past)).collect();
    cluster.publish(&records);

    let finding = cluster.findings().findings(1).remove(0);
    assert_eq!((finding.verdict, finding.withheld.as_deref()), (None, Some("expired")));
    cluster.expect_committed("callbacks", 5);
    assert!(cluster.verdicts().all().is_empty());
    worker.drain(BOUND);
}

#[test]
fn a_worker_waits_for_a_broker_that_is_away() {
    let cluster = Cluster::start(1);
    cluster.broker().broker_down(1).expect("down");
    let worker = cluster.worker("worker-1", &burst());
    assert!(!worker.readiness().is_ready());
    cluster.broker().broker_up(1).expect("up");
    cluster.publish(&now(0, 5, "leckie"));
    assert_eq!(cluster.verdicts().verdicts(1).len(), 1);
    worker.drain(BOUND);
}

#[test]
fn draining_ends_at_the_deadline_when_the_broker_is_frozen() {
    let cluster = Cluster::start(1);
    let worker = cluster.worker("worker-1", &burst());
    wait_until("the group is joined", || worker.readiness().is_ready());
    cluster
        .broker()
        .broker_round_trip_time(1, Duration::from_secs(10))
        .expect("slow");
    let began = Instant::now();
    assert_eq!(worker.drain(Duration::from_millis(300)), Drained::Cut);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

fn refuse_verdicts(cluster: &Cluster, refuse: bool) {
    let error = match refuse {
        true => rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        false => rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR,
    };
    cluster
        .broker()
        .topic_error(&cluster.kafka().topics.verdicts, error)
        .expect("a topic");
}

/// As one that has lost all brokers and looks for none: `receiver/src/publisher.rs` tells how that happens.
#[test]
fn a_producer_that_gets_no_acknowledgement_though_kafka_answers_others_is_replaced() {
    let cluster = Cluster::start(1);
    let front = Front::before(&cluster.kafka().bootstrap);
    let worker = cluster.worker_with("worker-1", &burst(), |config| {
        config.kafka.bootstrap = front.bootstrap()
    });
    let mut findings = cluster.findings();
    cluster.publish(&now(0, 5, "leckie"));
    assert_eq!(findings.findings(1)[0].subject.value, "leckie");

    front.ignore_those_who_are_there();
    cluster.publish(&now(5, 5, "jared"));

    assert_eq!(findings.findings(2)[1].subject.value, "jared");
    cluster.expect_committed("callbacks", 10);
    assert_eq!(worker.drain(BOUND), Drained::Left);
}

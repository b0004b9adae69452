use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_schema::{LedgerEntry, LedgerEvent, Timestamp, Uuid};
use portcullis_worker::{Drained, Rules, Worker};
use serde_json::json;

use crate::cluster::{Cluster, wait_until};
use crate::records::{record_with, rule, rules};
use crate::stream::metrics;

const BOUND: Duration = Duration::from_secs(20);

/// What a receiver's boot writes.
struct Boot(Uuid);

impl Boot {
    fn publish(&self, cluster: &Cluster, numbers: impl Iterator<Item = u64>) {
        let records = numbers.map(|seq| {
            // Of other operators, so that they are spread over the partitions.
            let fields = json!({ "boot": self.0, "seq": seq, "operator": format!("o{seq}") });
            record_with(seq, Timestamp::now(), fields)
        });
        cluster.publish(&records.collect::<Vec<_>>());
    }

    fn start(&self, cluster: &Cluster) {
        let event = LedgerEvent::Started {
            former_boot: None,
            former_next_seq: None,
        };
        self.say(cluster, event, 0);
    }

    fn say(&self, cluster: &Cluster, event: LedgerEvent, next_seq: u64) {
        self.say_at(cluster, Timestamp::now(), event, next_seq);
    }

    fn say_at(&self, cluster: &Cluster, at: Timestamp, event: LedgerEvent, next_seq: u64) {
        let entry = LedgerEntry {
            receiver: "receiver-1".to_owned(),
            boot: self.0,
            at,
            event,
            next_seq,
            host: String::new(),
            lost: BTreeMap::new(),
        };
        cluster.write_raw("ledger", &entry.key(), &entry.encode().expect("json"));
    }
}

fn some_rule() -> Rules {
    rules(&rule("burst", &[]))
}

fn tells(worker: &Worker, line: &str) -> bool {
    metrics(worker).lines().any(|told| told == line)
}

fn wait_until_told(worker: &Worker, line: &str) {
    wait_until(line, || tells(worker, line));
}

#[test]
fn a_record_that_the_ledger_proves_missing_is_told_and_one_that_is_only_late_is_not() {
    let cluster = Cluster::start(3);
    let worker = cluster.worker("worker-1", &some_rule());
    wait_until_told(&worker, "worker_auditing 1");
    let (whole, broken) = (Boot(Uuid::from_u128(1)), Boot(Uuid::from_u128(2)));
    whole.start(&cluster);
    whole.publish(&cluster, (0..50).chain(0..3));
    whole.say(&cluster, LedgerEvent::Heartbeat, 50);
    broken.start(&cluster);
    broken.publish(&cluster, (0..50).filter(|seq| ![7, 8, 40].contains(seq)));
    broken.say(&cluster, LedgerEvent::Heartbeat, 20);

    wait_until_told(&worker, "worker_missing_records 2");
    wait_until_told(&worker, "worker_repeated_records_total 3");
    broken.say(&cluster, LedgerEvent::Stopped, 50);
    wait_until_told(&worker, "worker_missing_records 3");
    // It was late after all.
    broken.publish(&cluster, [40].into_iter());
    wait_until_told(&worker, "worker_missing_records 2");
    assert!(tells(&worker, "worker_repeated_records_total 3"));
    assert_eq!(worker.drain(BOUND), Drained::Left);
}

#[test]
fn one_of_two_workers_audits_and_the_other_takes_over() {
    let cluster = Cluster::start(3);
    let mut workers: Vec<Worker> = ["worker-1", "worker-2"]
        .into_iter()
        .map(|name| cluster.worker(name, &some_rule()))
        .collect();
    let auditing = |workers: &[Worker]| {
        workers
            .iter()
            .filter(|worker| tells(worker, "worker_auditing 1"))
            .count()
    };
    wait_until("both have partitions and one audits", || {
        workers.iter().all(|worker| worker.readiness().is_ready()) && auditing(&workers) == 1
    });
    let place = workers
        .iter()
        .position(|worker| tells(worker, "worker_auditing 1"))
        .expect("one");
    let auditor = workers.remove(place);
    let other = &workers[0];
    assert_eq!(auditor.drain(BOUND), Drained::Left);

    wait_until_told(other, "worker_auditing 1");
    let boot = Boot(Uuid::from_u128(3));
    boot.start(&cluster);
    boot.publish(&cluster, 1..10);
    boot.say(&cluster, LedgerEvent::Heartbeat, 10);
    wait_until_told(other, "worker_missing_records 1");
}

#[test]
fn the_audit_goes_on_after_an_outage_and_knows_what_it_knew() {
    let cluster = Cluster::start(3);
    let worker = cluster.worker("worker-1", &some_rule());
    wait_until_told(&worker, "worker_auditing 1");
    let boot = Boot(Uuid::from_u128(4));
    boot.start(&cluster);
    boot.publish(&cluster, 0..10);
    cluster.expect_committed("callbacks", 10);
    cluster.broker().broker_down(1).expect("down");
    cluster.broker().broker_up(1).expect("up");
    boot.publish(&cluster, 11..20);
    boot.say(&cluster, LedgerEvent::Heartbeat, 20);
    wait_until_told(&worker, "worker_missing_records 1");
    assert!(worker.readiness().is_ready(), "{:?}", worker.readiness().latches());
    worker.drain(BOUND);
}

#[test]
fn whoever_audits_next_begins_where_the_one_before_had_come_to() {
    let cluster = Cluster::start(3);
    let hours_ago = |hours: u64| Timestamp::now().before(Duration::from_secs(hours * 3_600));
    let (fresh, late) = (Boot(Uuid::from_u128(5)), Boot(Uuid::from_u128(6)));
    let first = cluster.worker("worker-1", &some_rule());
    wait_until_told(&first, "worker_auditing 1");
    // Of `late` nothing is heard any more, as in an outage.
    let last_heard = hours_ago(3);
    late.say_at(&cluster, last_heard, LedgerEvent::Heartbeat, 5);
    fresh.start(&cluster);
    fresh.say(&cluster, LedgerEvent::Heartbeat, 1);
    wait_until_told(&first, "worker_missing_records 1");
    assert_eq!(first.drain(BOUND), Drained::Left);

    let second = cluster.worker("worker-2", &some_rule());
    wait_until_told(&second, "worker_auditing 1");
    late.publish(&cluster, [5, 6, 8, 9].into_iter());
    late.say_at(&cluster, last_heard, LedgerEvent::Heartbeat, 5);
    late.say_at(&cluster, hours_ago(2), LedgerEvent::Heartbeat, 10);
    wait_until_told(&second, "worker_missing_records 1");
}

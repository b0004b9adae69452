//! Kafka away: at start, in the middle, at the end. No answer changes, and everything is in the topic afterwards.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::support::{Callback, Caller, Kafka, Kept, Outage, PATIENCE, Site, Topic, wait_until};

/// Posted in each phase.
const MANY: usize = 30;
/// A client that nobody answers gives up its request after 3 s instead of 15: the test waits as long for the frozen
/// broker's first answer.
const IMPATIENT: [(&str, &str); 2] = [("socket.timeout.ms", "3000"), ("reconnect.backoff.max.ms", "500")];

#[test]
fn a_receiver_that_starts_without_kafka_answers_at_once_and_is_ready_when_kafka_comes() {
    for outage in [Outage::Down, Outage::Frozen] {
        let site = Site::with_properties(Kafka::breakable(), &IMPATIENT);
        site.moderate("deny", &["--operator", "denied", "--code", "10101"]);
        site.kafka.fail(outage);
        let receiver = site.receiver();
        wait_until("it listens", PATIENCE, || receiver.readiness().is_some());
        let mut caller = site.caller();
        post_many(&mut caller, "away");
        let reason = receiver.reason("verdicts");
        assert!(!receiver.is_ready(), "{outage:?}: nothing is known of the verdicts");
        assert_eq!(receiver.metric("receiver_verdict_lag_seconds"), f64::INFINITY);
        wait_until("it says why", PATIENCE, || {
            receiver.reason("verdicts").contains(&site.kafka.bootstrap)
        });
        assert!(!receiver.is_ready(), "{outage:?}: {reason}");

        site.kafka.recover(outage);
        let receiver = receiver.ready();
        assert_eq!(
            caller.post(&Callback::topic("denied", "x")).code(),
            10_101,
            "{outage:?}"
        );
        post_many(&mut caller, "back");
        expect_in_topic(&site, &["away", "back"]);
        receiver.stop();
    }
}

#[test]
fn what_was_answered_is_soon_in_kafka_while_more_keeps_coming() {
    let site = Site::at(Kafka::start());
    let receiver = site.receiver().ready();
    let (posted, load) = (AtomicU64::new(0), AtomicBool::new(true));
    thread::scope(|scope| {
        let (load, posted) = (&load, &posted);
        let mut caller = site.caller();
        scope.spawn(move || {
            // One operator after the other, so that every partition has its turn.
            while load.load(Ordering::SeqCst) {
                let number = posted.load(Ordering::SeqCst);
                caller.post(&Callback::topic(&format!("user-{number}"), "steady"));
                posted.store(number + 1, Ordering::SeqCst);
            }
        });
        let _ends_it = EndsLoad(load);
        for _ in 0..5 {
            let by_now = posted.load(Ordering::SeqCst) as f64;
            wait_until("what came by now is acknowledged, though more comes", PATIENCE, || {
                receiver.metric("receiver_published_total{outcome=\"delivered\"}") >= by_now
                    && posted.load(Ordering::SeqCst) as f64 > by_now
            });
        }
    });
    wait_until("nothing waits when nothing comes", PATIENCE, || {
        receiver.metric("receiver_backlog_records") == 0.0
    });
    receiver.stop();
}

#[test]
fn an_outage_changes_no_answer_and_loses_no_record() {
    for outage in [Outage::Down, Outage::Frozen] {
        let site = Site::with_properties(Kafka::breakable(), &IMPATIENT);
        site.moderate("deny", &["--operator", "denied", "--code", "10101"]);
        let receiver = site.receiver().ready();
        let mut caller = site.caller();
        post_many(&mut caller, "before");

        site.kafka.fail(outage);
        post_many(&mut caller, "meanwhile");
        assert_eq!(
            caller.post(&Callback::topic("denied", "x")).code(),
            10_101,
            "{outage:?}"
        );
        // It answers from memory, and says that this grows old.
        wait_until("the lag grows", PATIENCE, || {
            receiver.metric("receiver_verdict_lag_seconds") > 2.0
        });
        assert!(receiver.metric("receiver_backlog_records") >= MANY as f64, "{outage:?}");
        assert!(receiver.is_ready(), "{outage:?}");
        wait_until("it says that records wait", PATIENCE, || {
            receiver
                .log()
                .contains("Kafka acknowledges nothing, records wait in the journal")
        });
        post_many(&mut caller, "still");

        site.kafka.recover(outage);
        expect_in_topic(&site, &["before", "meanwhile", "still"]);
        wait_until("the backlog is gone", PATIENCE, || {
            receiver.metric("receiver_backlog_records") == 0.0
        });
        wait_until("it says that they do not any more", PATIENCE, || {
            receiver.log().contains("Kafka acknowledges again")
        });
        wait_until("the lag is gone", PATIENCE, || {
            receiver.metric("receiver_verdict_lag_seconds") < 2.0
        });
        site.moderate("lift", &["--operator", "denied"]);
        wait_until("verdicts are read again", PATIENCE, || {
            caller.post(&Callback::topic("denied", "x")).code() == 0
        });
        assert_eq!(receiver.metric("receiver_lost_total"), 0.0, "{outage:?}");
        receiver.stop();
    }
}

#[test]
fn what_a_stop_and_a_kill_in_an_outage_leave_behind_the_next_start_publishes() {
    let outage = Outage::Down;
    let site = Site::with_properties(Kafka::breakable(), &IMPATIENT).rules("");
    let worker = site.worker("worker-1").ready();
    site.moderate("deny", &["--operator", "denied", "--code", "10101"]);
    let receiver = site.receiver().ready();
    let mut caller = site.caller();
    post_many(&mut caller, "before");

    site.kafka.fail(outage);
    post_many(&mut caller, "meanwhile");
    for process in [&receiver, &worker] {
        process.ask_to_stop();
    }
    receiver.stopped();
    worker.stopped();

    // Kafka is still away, and the verdicts of the last start hold.
    let receiver = site.receiver().ready();
    let reason = receiver.reason("verdicts");
    assert!(reason.contains("snapshot") && reason.contains("away"), "{reason}");
    let mut caller = site.caller();
    assert_eq!(caller.post(&Callback::topic("denied", "x")).code(), 10_101);
    post_many(&mut caller, "next start");
    receiver.kill();

    let receiver = site.receiver().ready();
    let mut caller = site.caller();
    assert_eq!(caller.post(&Callback::topic("denied", "x")).code(), 10_101);
    post_many(&mut caller, "after the kill");

    site.kafka.recover(outage);
    expect_in_topic(&site, &["before", "meanwhile", "next start", "after the kill"]);
    wait_until("the snapshot is not all there is", PATIENCE, || {
        !receiver.reason("verdicts").contains("away")
    });
    receiver.stop();
}

#[test]
fn a_verdict_that_came_after_the_start_holds_after_a_stop_and_a_start_without_kafka() {
    let site = Site::at(Kafka::breakable());
    let receiver = site.receiver().ready();
    let mut caller = site.caller();
    site.moderate("deny", &["--operator", "denied", "--code", "10101"]);
    wait_until("it is refused", PATIENCE, || {
        caller.post(&Callback::topic("denied", "x")).code() == 10_101
    });
    receiver.stop();

    site.kafka.fail(Outage::Down);
    let receiver = site.receiver().ready();
    let mut caller = site.caller();
    assert_eq!(caller.post(&Callback::topic("denied", "x")).code(), 10_101);
    assert_eq!(receiver.metric("receiver_verdicts "), 1.0);
    assert!(receiver.metric("receiver_verdict_lag_seconds") < PATIENCE.as_secs_f64());
    receiver.kill();
}

/// Every one of them must be answered with what is allowed.
#[track_caller]
fn post_many(caller: &mut Caller, phase: &str) {
    for name in names(phase) {
        assert_eq!(caller.post(&Callback::topic("operator", &name)).code(), 0, "{name}");
    }
}

/// Every callback of these phases, and each boot without a hole.
#[track_caller]
fn expect_in_topic(site: &Site, phases: &[&str]) {
    let posted: BTreeSet<String> = phases.iter().flat_map(|phase| names(phase)).collect();
    let mut topic = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
    topic.read_until("every callback", |kept| {
        let names: BTreeSet<String> = kept.iter().filter_map(|kept| kept.record().name).collect();
        names.is_superset(&posted)
    });
    let records: Vec<_> = topic.read_to_end().iter().map(Kept::record).collect();
    let boots: BTreeSet<_> = records.iter().map(|record| record.boot).collect();
    for boot in boots {
        let of_boot = records.iter().filter(|record| record.boot == boot);
        let sequence: BTreeSet<u64> = of_boot.map(|record| record.seq).collect();
        assert_eq!(
            sequence.last().map(|last| last + 1),
            Some(sequence.len() as u64),
            "{sequence:?}"
        );
    }
}

fn names(phase: &str) -> impl Iterator<Item = String> {
    (0..MANY).map(move |number| format!("{phase} {number}"))
}

/// Ends the load also when the test fails, so that its thread does not keep it from failing.
struct EndsLoad<'load>(&'load AtomicBool);

impl Drop for EndsLoad<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

//! What Prometheus sees.

use std::collections::BTreeSet;

use crate::support::{Callback, Kafka, PATIENCE, Site, head, wait_until};

const RULE: &str = r#"
[[rule]]
name = "topic-burst"
commands = ["Group.CallbackBeforeCreateTopic"]
by = "operator"
count = "records"
window = "60s"
threshold = 5
mode = "enforce"
verdict = { effect = "deny", code = 10101, text = "too many topics, try later", for = "10m" }
"#;
/// What a caller chooses, somewhere in a callback.
const CHOSEN: &str = "chosen-by-a-caller";

#[test]
fn every_metric_has_its_promised_name_and_no_label_that_a_caller_chose() {
    let site = Site::at(Kafka::start()).rules(RULE);
    let (worker, receiver) = (site.worker("worker-1").ready(), site.receiver().ready());
    let mut caller = site.caller();
    let named = |name: &str| Callback::topic(CHOSEN, name).platform(CHOSEN).client_ip(CHOSEN);
    for number in 0..5 {
        caller.post(&named(&format!("{CHOSEN} {number}")));
    }
    caller.post(&Callback::new(CHOSEN, CHOSEN).path("/chosen-by-a-caller"));
    let forged = Callback::new(CHOSEN, "").target_signed(0, CHOSEN);
    assert_eq!(caller.send(&head("POST", &forged, "Content-Length: 0")).status, 403);
    wait_until("the abuser is refused", PATIENCE, || {
        caller.post(&named("x")).code() != 0
    });
    wait_until("the gauges are up to date", PATIENCE, || {
        receiver.metric("receiver_verdicts ") == 1.0 && worker.metric("worker_subjects{") >= 1.0
    });

    let (of_receiver, of_worker) = (receiver.metrics(), worker.metrics());
    for metrics in [&of_receiver, &of_worker] {
        assert!(!metrics.contains(CHOSEN), "{metrics}");
    }
    for (name, labels) in [
        ("receiver_callbacks_total", &["command", "outcome"][..]),
        ("receiver_reply_seconds_bucket", &["le"]),
        ("receiver_reply_seconds_count", &[]),
        ("receiver_journal_append_seconds_bucket", &["le"]),
        ("receiver_journal_used_bytes", &[]),
        ("receiver_journal_capacity_bytes", &[]),
        ("receiver_journal_outage_left_seconds", &[]),
        ("receiver_backlog_records", &[]),
        ("receiver_published_total", &["outcome"]),
        // Nothing is lost here; every reason is there at 0.
        ("receiver_lost_total", &["reason"]),
        ("receiver_verdicts", &[]),
        ("receiver_verdict_lag_seconds", &[]),
        ("receiver_rung", &[]),
    ] {
        assert_eq!(
            labels_of(&of_receiver, name),
            labels.iter().copied().collect(),
            "{name}"
        );
    }
    for (name, labels) in [
        ("worker_records_total", &["outcome"][..]),
        ("worker_record_age_seconds_bucket", &["le"]),
        ("worker_findings_total", &["rule", "mode"]),
        ("worker_verdicts_total", &["outcome"]),
        ("worker_subjects", &["rule"]),
        ("worker_lag_records", &[]),
        ("worker_auditing", &[]),
        ("worker_missing_records", &[]),
        ("worker_repeated_records_total", &[]),
    ] {
        assert_eq!(labels_of(&of_worker, name), labels.iter().copied().collect(), "{name}");
    }
    let counted = |outcome: &str| {
        receiver.metric(&format!(
            "receiver_callbacks_total{{command=\"other\",outcome=\"{outcome}\"}}"
        ))
    };
    // One of them is no JSON, one is not from Chat; neither command is in the list.
    assert_eq!((counted("unreadable"), counted("forged")), (1.0, 1.0), "{of_receiver}");
    assert_eq!(receiver.metric("receiver_lost_total"), 0.0);
}

/// The names of the labels of all samples of this name; panics without a sample.
#[track_caller]
fn labels_of<'a>(metrics: &'a str, name: &str) -> BTreeSet<&'a str> {
    let samples: Vec<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' '])))
        .collect();
    assert!(!samples.is_empty(), "{name} is not in\n{metrics}");
    let labels = samples
        .iter()
        .filter_map(|rest| rest.strip_prefix('{')?.split_once('}'));
    let pairs = labels.flat_map(|(labels, _)| labels.split(','));
    pairs
        .filter_map(|pair| pair.split_once('='))
        .map(|(label, _)| label)
        .collect()
}

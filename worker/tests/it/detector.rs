use std::sync::Arc;

use portcullis_schema::{AuditRecord, Mode, SubjectKind};
use portcullis_worker::{BRAKE, BrakeChange, Brakes, Capacity, Detector, Hit};
use serde_json::json;

use crate::records::{at, record, record_with, rule, rules};

fn burst() -> Detector {
    Detector::new(&rules(&rule("burst", &[])))
}

/// The numbers of the records that crossed the threshold.
fn crossings(detector: &mut Detector, records: &[AuditRecord]) -> Vec<u64> {
    let mut crossings = Vec::new();
    for record in records {
        crossings.extend(detector.observe_whole(record).iter().map(|_| record.seq));
    }
    crossings
}

/// Records of one operator at these seconds, numbered from 0.
fn records(seconds: &[f64]) -> Vec<AuditRecord> {
    (0..)
        .zip(seconds)
        .map(|(number, second)| record(number, "a", at(*second)))
        .collect()
}

#[test]
fn the_record_that_fills_the_window_is_a_hit_and_the_next_hit_needs_as_many_again() {
    let seconds: Vec<f64> = (0..12).map(f64::from).collect();
    assert_eq!(crossings(&mut burst(), &records(&seconds)), [4, 9]);
}

#[test]
fn a_record_as_old_as_the_window_has_fallen_out() {
    assert_eq!(
        crossings(&mut burst(), &records(&[0.0, 1.0, 2.0, 3.0, 60.0])),
        [0_u64; 0]
    );
    assert_eq!(crossings(&mut burst(), &records(&[0.0, 1.0, 2.0, 3.0, 59.999])), [4]);
    assert_eq!(
        crossings(&mut burst(), &records(&[0.0, 20.0, 40.0, 61.0, 62.0, 63.0])),
        [5]
    );
}

#[test]
fn a_repeated_record_counts_once() {
    let mut repeated = records(&[0.0, 1.0, 2.0, 3.0]);
    repeated.extend(repeated.clone());
    let mut detector = burst();
    assert_eq!(crossings(&mut detector, &repeated), [0_u64; 0]);
    assert_eq!(crossings(&mut detector, &[record(9, "a", at(4.0))]), [9]);
    assert_eq!(crossings(&mut detector, &repeated), [0_u64; 0], "nor after the hit");
}

#[test]
fn late_records_count_by_their_own_time() {
    assert_eq!(crossings(&mut burst(), &records(&[4.0, 1.0, 3.0, 0.0, 2.0])), [4]);
    assert_eq!(
        crossings(&mut burst(), &records(&[61.0, 62.0, 63.0, 64.0, 0.5])),
        [0_u64; 0]
    );
    assert_eq!(crossings(&mut burst(), &records(&[61.0, 62.0, 63.0, 64.0, 5.0])), [4]);
}

#[test]
fn what_was_refused_or_forged_or_names_no_app_does_not_count() {
    let mut detector = burst();
    for fields in [
        json!({ "decision": { "effect": "deny", "by": "verdict" } }),
        json!({ "decision": { "effect": "drop", "by": "moderator" } }),
        json!({ "authentic": false }),
        json!({ "app": null }),
        json!({ "command": "State.StateChange" }),
        json!({ "operator": null }),
        json!({ "operator": "" }),
    ] {
        for number in 0..5 {
            let mut all = json!({ "operator": "a" });
            all.as_object_mut()
                .expect("fields")
                .extend(fields.as_object().cloned().expect("fields"));
            assert_eq!(
                detector.observe_whole(&record_with(number, at(0.0), all)),
                [],
                "{fields}"
            );
        }
    }
    assert_eq!(crossings(&mut detector, &records(&[1.0, 1.0, 1.0, 1.0, 1.0])), [4]);
}

#[test]
fn subjects_and_apps_are_counted_apart() {
    let mut detector = burst();
    for number in 0..4 {
        for operator in ["a", "b"] {
            assert_eq!(detector.observe_whole(&record(number, operator, at(0.0))), []);
            let other = json!({ "operator": operator, "app": 5 });
            assert_eq!(detector.observe_whole(&record_with(number, at(0.0), other)), []);
        }
    }
}

#[test]
fn distinct_values_count_once_each_and_stay_as_long_as_they_are_seen() {
    let rule = rule(
        "copied",
        &[
            ("by", "\"name\""),
            ("count", "{ distinct = \"operator\" }"),
            ("threshold", "3"),
        ],
    );
    let mut detector = Detector::new(&rules(&rule));
    let mut seen = |number, operator: &str, second| {
        let fields = json!({ "operator": operator, "name": "Free Coins" });
        detector.observe_whole(&record_with(number, at(second), fields)).len()
    };
    assert_eq!(
        [
            seen(0, "a", 0.0),
            seen(1, "a", 1.0),
            seen(2, "b", 2.0),
            seen(3, "b", 3.0)
        ],
        [0; 4]
    );
    assert_eq!(
        [seen(4, "a", 50.0), seen(5, "c", 62.5)],
        [0, 1],
        "a by its latest, b has half a second left"
    );
    assert_eq!([seen(6, "c", 63.0), seen(7, "d", 63.0), seen(8, "e", 63.0)], [0, 0, 1]);
}

#[test]
fn a_hit_of_an_enforced_rule_gives_a_finding_and_a_verdict_with_its_evidence() {
    let mut detector = burst();
    let records = records(&[0.0, 1.0, 2.0, 3.0, 4.0]);
    let mut hits: Vec<Hit> = records
        .iter()
        .flat_map(|record| detector.observe_whole(record))
        .collect();
    let Hit { finding, verdict } = hits.remove(0);
    let verdict = verdict.expect("a verdict");
    assert_eq!(
        (finding.rule.as_str(), finding.mode, finding.count, finding.threshold),
        ("burst", Mode::Enforce, 5, 5)
    );
    assert_eq!(
        (finding.window.as_str(), finding.at, finding.withheld),
        ("60s", at(4.0), None)
    );
    assert_eq!(
        finding.evidence,
        records.iter().map(|record| record.id).collect::<Vec<_>>()
    );
    assert_eq!(finding.verdict, Some(verdict.id));
    assert_ne!(finding.id, verdict.id);
    assert_eq!(
        (verdict.subject.kind(), verdict.subject.value()),
        (SubjectKind::Operator, "a")
    );
    assert_eq!((verdict.issued_at, verdict.expires_at), (at(4.0), Some(at(604.0))));
    assert_eq!((verdict.code, verdict.text.as_str()), (Some(10_101), "later"));
    assert_eq!(verdict.reason, "5 records in 60s");
    assert_eq!(verdict.evidence, finding.evidence);
    assert_eq!(verdict.commands, ["Group.CallbackBeforeCreateTopic"]);
}

#[test]
fn every_subject_that_a_verdict_can_be_about_gets_one() {
    for (by, kind, value) in [
        ("operator", SubjectKind::Operator, "a"),
        ("client_ip", SubjectKind::ClientIp, "203.0.113.7"),
        ("name", SubjectKind::Name, "free colns"),
        ("app", SubjectKind::Everyone, ""),
    ] {
        let by = format!("{by:?}");
        let mut detector = Detector::new(&rules(&rule("a", &[("by", &by), ("threshold", "1")])));
        let fields = json!({ "operator": "a", "client_ip": "203.0.113.7", "name": "Free  Coins" });
        let hits = detector.observe_whole(&record_with(0, at(0.0), fields));
        let verdict = hits[0].verdict.as_ref().expect("a verdict");
        assert_eq!((verdict.subject.kind(), verdict.subject.value()), (kind, value));
    }
}

#[test]
fn a_rule_that_is_off_does_nothing() {
    let mut detector = Detector::new(&rules(&rule("a", &[("mode", "\"off\""), ("by", "\"name\"")])));
    let observed = detector.observe(&record_with(0, at(0.0), json!({ "name": "n" })));
    assert!(observed.hits.is_empty() && observed.signals.is_empty());
}

#[test]
fn other_subjects_than_the_operator_lead_to_one_signal_for_all_their_rules() {
    let text = [
        rule("one", &[("by", "\"client_ip\"")]),
        rule("two", &[("by", "\"client_ip\""), ("count", "{ distinct = \"name\" }")]),
        rule("not", &[("by", "\"client_ip\""), ("when", "'platform == \"Web\"'")]),
        rule("else", &[("by", "\"name\"")]),
        rule("here", &[]),
    ];
    let mut detector = Detector::new(&rules(&text.concat()));
    let fields = json!({ "operator": "a", "client_ip": "::ffff:203.0.113.7", "name": "N\u{200b}ame" });
    let signals = detector.observe(&record_with(0, at(0.0), fields)).signals;
    let told = signals.iter().map(|signal| {
        let counts = signal
            .counts
            .iter()
            .map(|count| (count.rule.as_str(), count.distinct.as_deref()));
        (signal.key(), counts.collect::<Vec<_>>())
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            (
                "1400000001/client_ip/203.0.113.7".to_owned(),
                vec![("one", None), ("two", Some("narne"))]
            ),
            ("1400000001/name/narne".to_owned(), vec![("else", None)]),
        ]
    );
}

#[test]
fn a_signal_of_rules_that_are_gone_is_left_out() {
    let mut there = Detector::new(&rules(&rule("gone", &[("by", "\"name\""), ("threshold", "1")])));
    let signal = there
        .observe(&record_with(0, at(0.0), json!({ "name": "n" })))
        .signals
        .remove(0);
    assert_eq!(there.observe_signal(&signal).len(), 1);
    assert_eq!(burst().observe_signal(&signal), []);
    let mut renamed = Detector::new(&rules(&rule("came", &[("by", "\"name\""), ("threshold", "1")])));
    assert_eq!(renamed.observe_signal(&signal), []);
}

#[test]
fn past_the_capacity_the_longest_idle_subject_is_forgotten() {
    let rules = rules(&rule("burst", &[]));
    let capacity = Arc::new(Capacity::new(3, 1_000));
    let mut detector = Detector::within(&rules, &capacity);
    for number in 0..4 {
        detector.observe_whole(&record(number, "a", at(0.0)));
    }
    for operator in ["b", "c"] {
        detector.observe_whole(&record(10, operator, at(1.0)));
    }
    assert_eq!((capacity.subjects(), capacity.evicted()), (3, 0));
    detector.observe_whole(&record(11, "d", at(1.0)));
    assert_eq!((capacity.subjects(), capacity.evicted()), (3, 1));
    assert_eq!(
        detector.observe_whole(&record(5, "a", at(2.0))),
        [],
        "a is counted from the start"
    );
    drop(detector);
    assert_eq!(capacity.subjects(), 0);
}

#[test]
fn subjects_whose_windows_are_over_are_swept() {
    let mut detector = burst();
    for number in 0..100 {
        detector.observe_whole(&record(number, &number.to_string(), at(0.0)));
    }
    assert_eq!(detector.subjects().collect::<Vec<_>>(), [("burst", 100)]);
    for number in 0..60 {
        detector.observe_whole(&record(number, "later", at(121.0)));
    }
    assert_eq!(detector.subjects().collect::<Vec<_>>(), [("burst", 1)]);
}

#[test]
fn a_brake_withholds_the_verdicts_past_its_number_until_the_hour_is_over() {
    let rules = rules(&rule(
        "burst",
        &[("threshold", "1"), ("brakes", "{ subjects_per_hour = 2 }")],
    ));
    let (mut detector, mut brakes) = (Detector::new(&rules), Brakes::new(&rules));
    let mut judged = |number, operator: &str, second| {
        let mut hit = detector.observe_whole(&record(number, operator, at(second))).remove(0);
        let change = brakes.apply(&mut hit);
        assert_eq!(hit.finding.verdict, hit.verdict.as_ref().map(|verdict| verdict.id));
        assert_eq!(hit.finding.withheld.is_some(), hit.verdict.is_none());
        assert!(hit.finding.withheld.is_none_or(|why| why == BRAKE));
        (hit.verdict.is_some(), change)
    };
    assert_eq!(judged(0, "a", 0.0), (true, None));
    assert_eq!(judged(1, "b", 10.0), (true, None));
    assert_eq!(judged(2, "c", 20.0), (false, Some(BrakeChange::Holds)));
    assert_eq!(judged(3, "d", 30.0), (false, None));
    assert_eq!(
        judged(4, "a", 40.0),
        (true, Some(BrakeChange::Released)),
        "whom it denies already it may deny again"
    );
    assert_eq!(judged(5, "e", 3_620.0), (true, None), "b is over an hour ago");
}

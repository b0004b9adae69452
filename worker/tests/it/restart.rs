//! The same records give the same findings, wherever one begins to read.

use std::time::Duration;

use portcullis_schema::AuditRecord;
use portcullis_worker::{Detector, Hit, Rules};
use proptest::prelude::*;
use serde_json::json;

use crate::records::{at, record_with, rule, rules};

/// Rules of 20 and 30 seconds: what they find follows from the last 60 seconds, and from a minute more with late
/// records.
const HISTORY: Duration = Duration::from_secs(120);

fn counting() -> Rules {
    rules(
        &[
            rule("records", &[("window", "\"20s\""), ("threshold", "3")]),
            rule(
                "names",
                &[
                    ("window", "\"30s\""),
                    ("threshold", "4"),
                    ("count", "{ distinct = \"name\" }"),
                ],
            ),
            rule(
                "shared",
                &[
                    ("window", "\"30s\""),
                    ("by", "\"name\""),
                    ("count", "{ distinct = \"operator\" }"),
                ],
            ),
            rule(
                "single",
                &[("window", "\"1s\""), ("threshold", "1"), ("when", "'name == \"n0\"'")],
            ),
        ]
        .concat(),
    )
}

/// Records in the order of a partition: each a little after the one before, some late by up to a minute.
fn histories() -> impl Strategy<Value = Vec<AuditRecord>> {
    let step = (0_u64..9_000, 0_u64..60_000, 0_u8..4, 0_u8..3, 0_u8..6, 0_u8..10);
    proptest::collection::vec(step, 0..300).prop_map(|steps| {
        let mut records: Vec<AuditRecord> = Vec::new();
        let mut now = 0;
        for (number, (step, late, lateness, operator, name, repeat)) in (0..).zip(steps) {
            now += step / 4;
            let millis = if lateness == 0 { now.saturating_sub(late) } else { now };
            let fields = json!({ "operator": format!("o{operator}"), "name": format!("n{name}") });
            let again = (repeat == 0).then(|| records.last().cloned()).flatten();
            #[expect(clippy::cast_precision_loss, reason = "minutes, in milliseconds")]
            let fresh = || record_with(number, at(millis as f64 / 1_000.0), fields);
            records.push(again.unwrap_or_else(fresh));
        }
        records
    })
}

fn hits(rules: &Rules, records: &[AuditRecord]) -> Vec<Vec<Hit>> {
    let mut detector = Detector::new(rules);
    records.iter().map(|record| detector.observe_whole(record)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_detector_that_begins_one_history_earlier_finds_the_same_bit_for_bit(
        records in histories(),
        cut in 0.0_f64..1.0,
    ) {
        let rules = counting();
        let whole = hits(&rules, &records);
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place")]
        let cut = (records.len() as f64 * cut) as usize;
        let newest = records[..cut].iter().map(|record| record.received_at).max();
        let oldest = newest.map(|newest| newest.before(HISTORY));
        let rewound = records.iter().position(|record| oldest.is_none_or(|oldest| record.received_at >= oldest)).unwrap_or(0);
        let again = hits(&rules, &records[rewound..]);
        prop_assert_eq!(&whole[cut..], &again[cut - rewound.min(cut)..]);
    }

    #[test]
    fn every_finding_has_exactly_its_verdict_and_evidence_within_the_window(records in histories()) {
        let rules = counting();
        for (record, hits) in records.iter().zip(hits(&rules, &records)) {
            for Hit { finding, verdict } in hits {
                prop_assert_eq!(finding.verdict, verdict.map(|verdict| verdict.id));
                prop_assert_eq!(finding.evidence.last(), Some(&record.id));
                prop_assert_eq!(finding.evidence.len() as u64, finding.threshold);
                let length = portcullis_schema::units::duration(&finding.window).expect("a window");
                let times: Vec<_> = finding
                    .evidence
                    .iter()
                    .filter_map(|id| records.iter().find(|record| record.id == *id))
                    .map(|record| record.received_at)
                    .collect();
                let (oldest, newest) = (times.iter().min().copied(), times.iter().max().copied());
                prop_assert!(oldest.zip(newest).is_some_and(|(oldest, newest)| newest.since(oldest) < length));
            }
        }
    }
}

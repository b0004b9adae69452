//! What the worker shows to Prometheus, and the only place that knows the names. A label is a rule's name or one of a
//! fixed list: nothing that a caller chooses.

use std::collections::BTreeMap;

use portcullis_schema::Finding;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Cheap to clone; all clones are the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    records: Family<RecordLabels, Counter>,
    record_age: Histogram,
    findings: Family<FindingLabels, Counter>,
    verdicts: Family<VerdictLabels, Counter>,
    condition_errors: Family<RuleLabels, Counter>,
    subjects: Family<RuleLabels, Gauge>,
    subjects_evicted: Counter,
    lag_records: Gauge,
    auditing: Gauge,
    missing_records: Gauge,
    repeated_records: Counter,
}

/// What became of a message: of a callback's record, or of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// The rules saw it.
    Observed,
    /// It is not from Chat.
    NotAuthentic,
    /// It was refused, so it does not count.
    Refused,
    /// It names no app.
    NoApp,
    /// A signal was counted.
    Signal,
    /// Read once more to fill the windows; what it led to was written before.
    Rebuilt,
    /// It could not be decoded.
    DeadLetter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RecordLabels {
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FindingLabels {
    rule: String,
    mode: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabels {
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabels {
    rule: String,
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let name = match self {
            Self::Observed => "observed",
            Self::NotAuthentic => "not_authentic",
            Self::Refused => "refused",
            Self::NoApp => "no_app",
            Self::Signal => "signal",
            Self::Rebuilt => "rebuilt",
            Self::DeadLetter => "dead_letter",
        };
        EncodeLabelValue::encode(&name, encoder)
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            records: Family::default(),
            // 1 ms, the best that a broker does, to 4.6 hours, a long outage.
            record_age: Histogram::new(exponential_buckets(0.001, 2.0, 25)),
            findings: Family::default(),
            verdicts: Family::default(),
            condition_errors: Family::default(),
            subjects: Family::default(),
            subjects_evicted: Counter::default(),
            lag_records: Gauge::default(),
            auditing: Gauge::default(),
            missing_records: Gauge::default(),
            repeated_records: Counter::default(),
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "worker_records",
            "Messages read, records and signals, by what became of them",
            self.records.clone(),
        );
        registry.register_with_unit(
            "worker_record_age",
            "From the callback until the rules saw its record",
            Unit::Seconds,
            self.record_age.clone(),
        );
        registry.register("worker_findings", "Hits of the rules", self.findings.clone());
        registry.register(
            "worker_verdicts",
            "What became of the verdicts of enforced rules: issued, or why not",
            self.verdicts.clone(),
        );
        registry.register(
            "worker_condition_errors",
            "Records over which a rule's condition could not be evaluated",
            self.condition_errors.clone(),
        );
        registry.register("worker_subjects", "Subjects that have a window", self.subjects.clone());
        registry.register(
            "worker_subjects_evicted",
            "Subjects that were forgotten to make room before their windows were over",
            self.subjects_evicted.clone(),
        );
        registry.register(
            "worker_lag_records",
            "Messages in the assigned partitions that were not read yet",
            self.lag_records.clone(),
        );
        registry.register(
            "worker_auditing",
            "1 on the one worker of the group that looks for missing records",
            self.auditing.clone(),
        );
        registry.register(
            "worker_missing_records",
            "Records that the ledger proves to be missing, since an hour before this worker began to audit",
            self.missing_records.clone(),
        );
        registry.register(
            "worker_repeated_records",
            "Messages with a record that had been there already, as this worker audited",
            self.repeated_records.clone(),
        );
    }

    pub(crate) fn message_read(&self, outcome: Outcome) {
        self.records.get_or_create(&RecordLabels { outcome }).inc();
    }

    pub(crate) fn record_aged(&self, age: std::time::Duration) {
        self.record_age.observe(age.as_secs_f64());
    }

    /// A finding, and the verdict that it did or did not lead to.
    pub(crate) fn found(&self, finding: &Finding) {
        let labels = FindingLabels {
            rule: finding.rule.clone(),
            mode: finding.mode.name(),
        };
        self.findings.get_or_create(&labels).inc();
        let outcome = match (&finding.verdict, &finding.withheld) {
            (Some(_), _) => "issued",
            (None, Some(why)) => why,
            (None, None) => return,
        };
        let outcome = outcome.to_owned();
        self.verdicts.get_or_create(&VerdictLabels { outcome }).inc();
    }

    pub(crate) fn condition_failed(&self, rule: &str) {
        let rule = rule.to_owned();
        self.condition_errors.get_or_create(&RuleLabels { rule }).inc();
    }

    pub(crate) fn subjects_tracked(&self, by_rule: &BTreeMap<String, usize>) {
        for (rule, subjects) in by_rule {
            let labels = RuleLabels { rule: rule.clone() };
            self.subjects.get_or_create(&labels).set(signed(*subjects));
        }
    }

    /// How many there were since this was called last.
    pub(crate) fn subjects_evicted(&self, in_all: u64) -> u64 {
        let since = in_all.saturating_sub(self.subjects_evicted.get());
        self.subjects_evicted.inc_by(since);
        since
    }

    pub(crate) fn audit_began(&self) {
        self.auditing.set(1);
    }

    /// What is missing in all, and what was repeated since this was called last.
    pub(crate) fn audited(&self, missing: u64, repeated: u64) {
        self.missing_records.set(i64::try_from(missing).unwrap_or(i64::MAX));
        self.repeated_records.inc_by(repeated);
    }

    /// Whoever audits next says what is missing.
    pub(crate) fn audit_ended(&self) {
        self.auditing.set(0);
        self.missing_records.set(0);
    }

    pub(crate) fn lag(&self, records: i64) {
        self.lag_records.set(records);
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

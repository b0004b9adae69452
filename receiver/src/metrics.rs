//! The receiver's metrics that belong to no part of their own; the journal and the publisher bring theirs. Every name
//! of a label's value is known beforehand: nothing that a caller chooses becomes one.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use portcullis_schema::{Command, Rung};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::loss::{Loss, Losses};
use crate::outcome::Outcome;

/// From far below the product's own cost to Chat's 2 s.
const REPLY_SECONDS: [f64; 14] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1.0, 2.0,
];

/// Facts are told by name, so that no call site can mistype a label.
#[derive(Clone)]
pub(crate) struct Metrics {
    callbacks: Family<Callbacks, Counter>,
    reply_seconds: Histogram,
    losses: Losses,
    forged_unrecorded: Counter,
    verdicts: Gauge,
    verdicts_read: Family<VerdictsRead, Counter>,
    verdicts_evicted: Gauge,
    verdict_lag_seconds: Gauge<f64, AtomicU64>,
    rung: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Callbacks {
    command: &'static str,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictsRead {
    outcome: &'static str,
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        EncodeLabelValue::encode(&self.name(), encoder)
    }
}

impl Metrics {
    /// `losses` counts for all parts that can lose a record.
    pub(crate) fn new(registry: &mut Registry, losses: Losses) -> Self {
        let metrics = Self {
            callbacks: Family::default(),
            reply_seconds: Histogram::new(REPLY_SECONDS),
            losses,
            forged_unrecorded: Counter::default(),
            verdicts: Gauge::default(),
            verdicts_read: Family::default(),
            verdicts_evicted: Gauge::default(),
            verdict_lag_seconds: Gauge::default(),
            rung: Gauge::default(),
        };
        let m = metrics.clone();
        registry.register(
            "receiver_callbacks",
            "Callbacks by command and by how they ended",
            m.callbacks,
        );
        registry.register(
            "receiver_reply_seconds",
            "From a callback's head to its reply",
            m.reply_seconds,
        );
        registry.register(
            "receiver_forged_unrecorded",
            "Requests that are not from Chat and are not recorded: beyond the budget, or the journal is full",
            m.forged_unrecorded,
        );
        registry.register("receiver_verdicts", "Subjects with a verdict in memory", m.verdicts);
        registry.register(
            "receiver_verdicts_read",
            "Messages of the topic by what became of them",
            m.verdicts_read,
        );
        registry.register(
            "receiver_verdicts_evicted",
            "Subjects that had to go for newer ones: raise receiver.decisions.verdicts_max",
            m.verdicts_evicted,
        );
        registry.register(
            "receiver_verdict_lag_seconds",
            "Since the memory was last known to hold everything in the topic, +Inf where it never was",
            m.verdict_lag_seconds,
        );
        registry.register(
            "receiver_rung",
            "0 normal, 1 journal_slow, 2 journal_full, 3 overloaded",
            m.rung,
        );
        metrics
    }

    pub(crate) fn answered(&self, command: &Command, outcome: Outcome, took: Duration) {
        let command = command.label();
        self.callbacks.get_or_create(&Callbacks { command, outcome }).inc();
        self.reply_seconds.observe(took.as_secs_f64());
    }

    /// A record that will never be in the topic.
    pub(crate) fn lost(&self, reason: Loss) {
        self.losses.count(reason, 1);
    }

    /// Says which losses are over.
    pub(crate) fn look(&self) {
        self.losses.look();
    }

    /// To count on by, without all the others.
    pub(crate) fn losses(&self) -> Losses {
        self.losses.clone()
    }

    pub(crate) fn forged_unrecorded(&self) {
        self.forged_unrecorded.inc();
    }

    pub(crate) fn verdict_read(&self, outcome: &'static str) {
        self.verdicts_read.get_or_create(&VerdictsRead { outcome }).inc();
    }

    pub(crate) fn verdicts(&self, subjects: u64, evicted: u64) {
        self.verdicts.set(i64::try_from(subjects).unwrap_or(i64::MAX));
        self.verdicts_evicted.set(i64::try_from(evicted).unwrap_or(i64::MAX));
    }

    /// `None`: there is no end to it.
    pub(crate) fn verdict_lag(&self, lag: Option<Duration>) {
        self.verdict_lag_seconds
            .set(lag.map_or(f64::INFINITY, |lag| lag.as_secs_f64()));
    }

    pub(crate) fn rung(&self, rung: Rung) {
        self.rung.set(match rung {
            Rung::Normal | Rung::Unknown => 0,
            Rung::JournalSlow => 1,
            Rung::JournalFull => 2,
            Rung::Overloaded => 3,
        });
    }
}

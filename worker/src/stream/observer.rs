//! What one message leads to: decode, observe, judge, and say it in letters.

use std::collections::HashSet;
use std::sync::Arc;

use portcullis_schema::kafka::Topics;
use portcullis_schema::{AuditRecord, Signal, Timestamp};
use rdkafka::message::{BorrowedMessage, Message};
use tracing::{info, warn};

use super::letter::{Letter, Letters};
use super::partition::{Kind, Partition, Passage};
use crate::Config;
use crate::condition::ConditionError;
use crate::detector::{BrakeChange, Brakes, Capacity, Hit, Standing};
use crate::metrics::{Metrics, Outcome};
use crate::rules::Rules;

/// Why a verdict is withheld, as its finding says: the operator has switched them off.
const AUTOMATIC_VERDICTS_OFF: &str = "automatic_verdicts_off";
/// Why a verdict is withheld: the worker was so far behind that it would be over.
const EXPIRED: &str = "expired";

pub(super) struct Observer {
    instance: String,
    topics: Topics,
    automatic_verdicts: bool,
    rules: Rules,
    capacity: Arc<Capacity>,
    brakes: Brakes,
    metrics: Metrics,
    /// Rules whose condition failed once: it is counted always, and told once.
    conditions_failed: HashSet<Arc<str>>,
}

/// What is understood of a message.
struct Understood {
    at: Timestamp,
    outcome: Outcome,
    hits: Vec<Hit>,
    signals: Vec<Signal>,
}

/// Why bytes are a dead letter.
#[derive(Debug, thiserror::Error)]
enum Undecodable {
    #[error("no value")]
    Empty,
    #[error("not the json of a record or a signal: {0}")]
    Json(#[source] serde_json::Error),
}

impl Observer {
    pub(super) fn new(config: &Config, rules: &Rules, capacity: &Arc<Capacity>, metrics: Metrics) -> Self {
        Self {
            instance: config.instance.clone(),
            topics: config.kafka.topics.clone(),
            automatic_verdicts: config.automatic_verdicts,
            rules: rules.clone(),
            capacity: Arc::clone(capacity),
            brakes: Brakes::new(rules),
            metrics,
            conditions_failed: HashSet::new(),
        }
    }

    /// Observes a message of the partition; what is new goes into `letters`.
    pub(super) fn observe(
        &mut self,
        kind: Kind,
        partition: &mut Partition,
        message: &BorrowedMessage<'_>,
        now: Timestamp,
        letters: &mut Letters,
    ) {
        let passage = partition.pass(message.offset(), &self.rules, &self.capacity);
        let (topic, offset) = (message.topic(), message.offset());
        if passage == Passage::Anew {
            warn!(
                topic,
                partition = message.partition(),
                offset,
                "offsets began anew, windows are empty"
            );
        }
        let silent = passage == Passage::Silent;
        let payload = message.payload().ok_or(Undecodable::Empty);
        let understood = payload.and_then(|json| match kind {
            Kind::Callbacks => self.record(partition, json),
            Kind::Signals => self.signal(partition, json),
        });
        match understood {
            Ok(understood) => {
                // A clock that is ahead would hide the true records behind its own.
                partition.mark(offset, understood.at.min(now));
                self.conclude(understood, now, silent, letters);
            }
            Err(error) if !silent => {
                warn!(topic, partition = message.partition(), offset, %error, "dead letter");
                self.metrics.message_read(Outcome::DeadLetter);
                letters.dead(Letter::dead(&self.topics, message, &error.to_string()));
            }
            Err(_) => self.metrics.message_read(Outcome::Rebuilt),
        }
    }

    fn record(&mut self, partition: &mut Partition, json: &[u8]) -> Result<Understood, Undecodable> {
        let record = AuditRecord::decode(json).map_err(Undecodable::Json)?;
        let observed = partition.detector.observe(&record);
        for (rule, error) in observed.condition_errors {
            self.condition_failed(rule, &error);
        }
        Ok(Understood {
            at: record.received_at,
            outcome: match Standing::of(&record) {
                Standing::Counts => Outcome::Observed,
                Standing::NotAuthentic => Outcome::NotAuthentic,
                Standing::Refused => Outcome::Refused,
                Standing::NoApp => Outcome::NoApp,
            },
            hits: observed.hits,
            signals: observed.signals,
        })
    }

    fn signal(&mut self, partition: &mut Partition, json: &[u8]) -> Result<Understood, Undecodable> {
        let signal = Signal::decode(json).map_err(Undecodable::Json)?;
        Ok(Understood {
            at: signal.at,
            outcome: Outcome::Signal,
            hits: partition.detector.observe_signal(&signal),
            signals: Vec::new(),
        })
    }

    fn conclude(&mut self, understood: Understood, now: Timestamp, silent: bool, letters: &mut Letters) {
        if silent {
            self.metrics.message_read(Outcome::Rebuilt);
            for mut hit in understood.hits {
                self.brake(&mut hit);
            }
            return;
        }
        self.metrics.message_read(understood.outcome);
        if understood.outcome != Outcome::Signal {
            self.metrics.record_aged(now.since(understood.at));
        }
        for mut hit in understood.hits {
            self.judge(&mut hit, now);
            self.metrics.found(&hit.finding);
            letters.hit(&self.topics, &hit);
        }
        letters.signals(&self.topics, &understood.signals);
    }

    /// What the detector cannot know: who says it, what time it is, and what the process may do.
    fn judge(&mut self, hit: &mut Hit, now: Timestamp) {
        hit.finding.by.clone_from(&self.instance);
        if let Some(verdict) = &mut hit.verdict {
            verdict.by.clone_from(&self.instance);
        }
        if !self.automatic_verdicts {
            hit.withhold(AUTOMATIC_VERDICTS_OFF);
        }
        if hit.verdict.as_ref().is_some_and(|verdict| verdict.is_expired(now)) {
            hit.withhold(EXPIRED);
        }
        self.brake(hit);
    }

    fn brake(&mut self, hit: &mut Hit) {
        let rule = hit.finding.rule.clone();
        match self.brakes.apply(hit) {
            Some(BrakeChange::Holds) => warn!(rule, "brake holds: the rule denied too many subjects, findings only"),
            Some(BrakeChange::Released) => info!(rule, "brake released: the rule denies again"),
            None => {}
        }
    }

    fn condition_failed(&mut self, rule: Arc<str>, error: &ConditionError) {
        self.metrics.condition_failed(&rule);
        if !self.conditions_failed.contains(&rule) {
            let why = std::error::Error::source(error).map(ToString::to_string);
            warn!(rule = &*rule, %error, why, "condition failed for a record, which does not count; told once");
            self.conditions_failed.insert(rule);
        }
    }
}

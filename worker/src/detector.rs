//! The judgement: records in, hits and signals out.
//!
//! Pure: no clock, no I/O, no randomness. Time is the record's `received_at`, ids are derived from the records, so
//! the same records lead to the same findings, bit for bit: live, in a replay, and after a crash.
//!
//! Only authentic callbacks that were let through count. What was refused created nothing, so it neither counts
//! towards the next hit nor prolongs a verdict: that ends when it expires.
//!
//! Records lie by operator, so whoever reads a partition sees all records of its operators and a rule by `operator`
//! counts them at once. Any other rule would see a part only; its record becomes a [`Signal`], one for each subject
//! with the rules that it concerns, and whoever reads the subject's partition of the signals counts it.

mod brakes;
mod capacity;
mod group;
mod hit;
mod subjects;
mod window;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use portcullis_schema::{AuditRecord, Effect, Mode, Signal, SignalCount};

pub use brakes::{BRAKE, BrakeChange, Brakes};
pub use capacity::Capacity;
pub use hit::Hit;

use crate::condition::ConditionError;
use crate::field::{Fields, Root};
use crate::rules::Rules;
use group::{Counted, Group};
pub(crate) use window::history;

/// How late a record may come and still be counted as if it had come in time: a receiver publishes within
/// milliseconds, and within seconds over a change of leaders. A receiver that comes back from an outage is later;
/// its records count too, as exactly as the windows still remember.
pub(crate) const LATENESS: Duration = Duration::from_secs(60);

/// The windows of some partitions, or of all of them.
pub struct Detector {
    rules: Rules,
    groups: Vec<Group>,
}

/// What a record led to.
#[derive(Debug, Default)]
pub struct Observed {
    /// What the rules concluded.
    pub hits: Vec<Hit>,
    /// What others have to count.
    pub signals: Vec<Signal>,
    /// Which conditions could not be evaluated, by rule.
    pub condition_errors: Vec<(Arc<str>, ConditionError)>,
}

/// Whether a record counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Counts,
    /// It is not from Chat.
    NotAuthentic,
    /// It was refused, so it created nothing.
    Refused,
    /// It names no app.
    NoApp,
}

impl Standing {
    /// Of this record.
    pub fn of(record: &AuditRecord) -> Self {
        let refused = |effect| matches!(effect, Effect::Deny | Effect::Drop);
        match (record.authentic, record.app, &record.decision) {
            (false, _, _) => Self::NotAuthentic,
            (true, None, _) => Self::NoApp,
            (true, Some(_), Some(decision)) if refused(decision.effect) => Self::Refused,
            (true, Some(_), _) => Self::Counts,
        }
    }
}

impl Detector {
    /// With a [`Capacity`] of its own.
    pub fn new(rules: &Rules) -> Self {
        Self::within(rules, &Arc::new(Capacity::default()))
    }

    /// Several detectors of a process share its capacity.
    pub fn within(rules: &Rules, capacity: &Arc<Capacity>) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            if rule.mode == Mode::Off {
                continue;
            }
            match groups.iter_mut().find(|group| *group.by() == rule.by) {
                Some(group) => group.add(index, rule),
                None => {
                    let mut group = Group::new(rule.by.clone(), Arc::clone(capacity));
                    group.add(index, rule);
                    groups.push(group);
                }
            }
        }
        Self {
            rules: rules.clone(),
            groups,
        }
    }

    /// Counts what can be counted from the records of a partition, and says what has to be counted elsewhere.
    pub fn observe(&mut self, record: &AuditRecord) -> Observed {
        let mut observed = Observed::default();
        let (Some(app), Standing::Counts) = (record.app, Standing::of(record)) else {
            return observed;
        };
        let fields = Fields::new(record);
        for group in &mut self.groups {
            let counts = concerned(&self.rules, group, &fields, &mut observed.condition_errors);
            if counts.is_empty() {
                continue;
            }
            // A name's skeleton costs more than a command that differs.
            let Some(subject) = group.by().subject(&fields) else {
                continue;
            };
            let signal = Signal {
                record: record.id,
                at: record.received_at,
                app,
                subject,
                counts,
            };
            if group.by().root() == Root::Operator {
                count(&self.rules, group, &signal, &mut observed.hits);
            } else {
                observed.signals.push(signal);
            }
        }
        observed
    }

    /// Counts what another reader of records passed on. Rules that are not known, or that group otherwise by now, are
    /// left out: the rules may have changed while the signal was under way.
    pub fn observe_signal(&mut self, signal: &Signal) -> Vec<Hit> {
        let mut hits = Vec::new();
        let group = self
            .groups
            .iter_mut()
            .find(|group| group.by().text() == signal.subject.by);
        if let Some(group) = group {
            count(&self.rules, group, signal, &mut hits);
        }
        hits
    }

    /// [`Detector::observe`] for whoever sees all records: the signals are counted here too.
    pub fn observe_whole(&mut self, record: &AuditRecord) -> Vec<Hit> {
        let mut observed = self.observe(record);
        for signal in &observed.signals {
            let hits = self.observe_signal(signal);
            observed.hits.extend(hits);
        }
        observed.hits
    }

    /// For each rule that is not off, how many subjects have a window.
    pub fn subjects(&self) -> impl Iterator<Item = (&str, usize)> {
        let windows = self.groups.iter().flat_map(Group::windows);
        windows.filter_map(|(rule, windows)| Some((&*self.rules.get(rule)?.name, windows)))
    }
}

impl fmt::Debug for Detector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.subjects()).finish()
    }
}

/// The rules of a group that the record concerns.
fn concerned(
    rules: &Rules,
    group: &Group,
    fields: &Fields<'_>,
    errors: &mut Vec<(Arc<str>, ConditionError)>,
) -> Vec<SignalCount> {
    let mut counts = Vec::new();
    for rule in group.rules().filter_map(|index| rules.get(index)) {
        match rule.is_about(fields) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                errors.push((Arc::clone(&rule.name), error));
                continue;
            }
        }
        let distinct = rule.distinct.as_ref().map(|path| path.value(fields));
        if distinct == Some(None) {
            continue;
        }
        counts.push(SignalCount {
            rule: rule.name.to_string(),
            distinct: distinct.flatten(),
        });
    }
    counts
}

fn count(rules: &Rules, group: &mut Group, signal: &Signal, hits: &mut Vec<Hit>) {
    let named = |name: &str| {
        group
            .rules()
            .position(|index| rules.get(index).is_some_and(|rule| *rule.name == *name))
    };
    let counted: Vec<Counted<'_>> = signal
        .counts
        .iter()
        .filter_map(|count| {
            Some(Counted {
                place: named(&count.rule)?,
                distinct: count.distinct.as_deref(),
            })
        })
        .collect();
    for crossing in group.observe(signal, &counted) {
        if let Some(rule) = rules.get(crossing.rule) {
            hits.push(Hit::new(rule, signal, crossing));
        }
    }
}

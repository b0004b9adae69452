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
mod subjects;
mod window;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use portcullis_schema::{
    AuditRecord, Effect, Finding, FindingSubject, Mode, Signal, SignalCount, Source, Subject, Timestamp, Uuid, Verdict,
    id,
};

pub use brakes::{BRAKE, BrakeChange, Brakes};
pub use capacity::Capacity;

use crate::condition::ConditionError;
use crate::field::{Fields, Root};
use crate::rules::{Rule, Rules};
use group::{Counted, Crossing, Group};
pub(crate) use window::Measure;

/// What is kept of a hit's evidence: the newest records. More than a person reads, and 4 KB in a finding.
const EVIDENCE_MAX: usize = 100;

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

/// A finding, and the verdict that it led to: one at most, and none without a finding.
///
/// Both are without the worker's instance, which is not the detector's to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// What was found.
    pub finding: Finding,
    /// Of an enforced rule.
    pub verdict: Option<Verdict>,
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

impl Hit {
    /// Takes the verdict back and says why. A hit without a verdict stays as it is.
    pub fn withhold(&mut self, why: &str) {
        if self.verdict.take().is_some() {
            self.finding.verdict = None;
            self.finding.withheld = Some(why.to_owned());
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
            let Some(value) = group.by().value(&fields) else {
                continue;
            };
            let counts = concerned(&self.rules, group, &fields, &mut observed.condition_errors);
            if counts.is_empty() {
                continue;
            }
            let signal = Signal {
                record: record.id,
                at: record.received_at,
                app,
                subject: FindingSubject {
                    by: group.by().text().to_owned(),
                    value,
                },
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
            hits.push(hit(rule, signal, crossing));
        }
    }
}

fn hit(rule: &Rule, signal: &Signal, crossing: Crossing) -> Hit {
    let name_and_record: [&[u8]; 2] = [rule.name.as_bytes(), signal.record.as_bytes()];
    let id_of = |kind: &[u8]| id::derived(signal.at, &[kind, name_and_record[0], name_and_record[1]]);
    let count = crossing.evidence.len();
    let evidence = crossing.evidence[count.saturating_sub(EVIDENCE_MAX)..].to_vec();
    let verdict = verdict(rule, signal, id_of(b"verdict"), count, &evidence);
    let finding = Finding {
        id: id_of(b"finding"),
        rule: rule.name.to_string(),
        mode: rule.mode,
        app: signal.app,
        subject: signal.subject.clone(),
        count: count as u64,
        threshold: rule.threshold as u64,
        window: rule.window_text.clone(),
        at: signal.at,
        by: String::new(),
        evidence,
        verdict: verdict.as_ref().map(|verdict| verdict.id),
        withheld: None,
    };
    Hit { finding, verdict }
}

fn verdict(rule: &Rule, signal: &Signal, id: Uuid, count: usize, evidence: &[Uuid]) -> Option<Verdict> {
    if rule.mode != Mode::Enforce {
        return None;
    }
    let denial = rule.denial.as_ref()?;
    let subject = Subject::parse(rule.by.subject_kind()?, &signal.subject.value).ok()?;
    let issued_at: Timestamp = signal.at;
    Some(Verdict {
        id,
        app: signal.app,
        subject,
        commands: rule.commands.iter().map(|command| command.name().to_owned()).collect(),
        effect: Effect::Deny,
        code: denial.code,
        text: denial.text.clone(),
        source: Source::Rule,
        rule: Some(rule.name.to_string()),
        reason: format!("{count} {} in {}", rule.counted(), rule.window_text),
        by: String::new(),
        issued_at,
        expires_at: Some(issued_at.after(denial.lasts)),
        evidence: evidence.to_vec(),
    })
}

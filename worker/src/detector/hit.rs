//! What a crossed threshold leads to. Ids are derived from the rule and the record that crossed it, so whoever comes to
//! the same conclusion again says the same.

use portcullis_schema::{Effect, Finding, Mode, Signal, Source, Subject, Uuid, Verdict, id};

use super::group::Crossing;
use crate::rules::Rule;

/// What is kept of a hit's evidence: the newest records. More than a person reads, and 4 KB in a finding.
const EVIDENCE_MAX: usize = 100;

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

impl Hit {
    /// What a crossing of the rule's threshold leads to.
    pub(super) fn new(rule: &Rule, signal: &Signal, crossing: Crossing) -> Self {
        let id_of = |kind: &[u8]| id::derived(signal.at, &[kind, rule.name.as_bytes(), signal.record.as_bytes()]);
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
        Self { finding, verdict }
    }

    /// Takes the verdict back and says why. A hit without a verdict stays as it is.
    pub fn withhold(&mut self, why: &str) {
        if self.verdict.take().is_some() {
            self.finding.verdict = None;
            self.finding.withheld = Some(why.to_owned());
        }
    }
}

fn verdict(rule: &Rule, signal: &Signal, id: Uuid, count: usize, evidence: &[Uuid]) -> Option<Verdict> {
    if rule.mode != Mode::Enforce {
        return None;
    }
    let denial = rule.denial.as_ref()?;
    let subject = Subject::parse(rule.by.subject_kind()?, &signal.subject.value).ok()?;
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
        reason: reason(rule, signal, count),
        by: String::new(),
        issued_at: signal.at,
        expires_at: Some(signal.at.after(denial.lasts)),
        evidence: evidence.to_vec(),
    })
}

/// For the moderator, who cannot read a skeleton.
fn reason(rule: &Rule, signal: &Signal, count: usize) -> String {
    let reason = format!("{count} {} in {}", rule.counted(), rule.window_text);
    match &signal.subject.written {
        Some(written) => format!("{reason}, written {written:?}"),
        None => reason,
    }
}

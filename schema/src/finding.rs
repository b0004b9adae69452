use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{AppId, Timestamp};

/// A rule's hit. Topic `findings`, key `RULE/SUBJECT`.
///
/// It is a function of the records alone: the same records give the same finding, its id included, live, in a replay
/// and after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Derived from the rule and from the record that crossed the threshold.
    pub id: Uuid,
    /// Which rule.
    pub rule: String,
    /// Whether it is enforced.
    pub mode: Mode,
    /// Within which app.
    pub app: AppId,
    /// Whose records were counted.
    pub subject: FindingSubject,
    /// What was counted within the window.
    pub count: u64,
    /// From which count on it is a hit.
    pub threshold: u64,
    /// As the rule writes it, such as `60s`.
    pub window: String,
    /// `received_at` of the record that crossed the threshold.
    pub at: Timestamp,
    /// The worker's instance.
    #[serde(default)]
    pub by: String,
    /// Ids of the records within the window, the oldest first; the last one crossed the threshold.
    pub evidence: Vec<Uuid>,
    /// The verdict that it led to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Uuid>,
    /// Why an enforced rule gave no verdict, such as `brake` or `automatic_verdicts_off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<String>,
}

/// By what the rule groups, and the group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FindingSubject {
    /// `operator`, `client_ip`, `name`, `app`, or a field path.
    pub by: String,
    /// The value that the records have in common, in the form in which it is compared; for `name` its skeleton.
    pub value: String,
    /// The value as the record that crossed the threshold has it, where that reads otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<String>,
}

impl FindingSubject {
    /// The value for a person: as it was written.
    pub fn shown(&self) -> &str {
        self.written.as_deref().unwrap_or(&self.value)
    }
}

/// What a rule does with its hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A finding and a verdict.
    Enforce,
    /// A finding only.
    Shadow,
    /// Nothing.
    Off,
}

impl Mode {
    /// As a rule writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
            Self::Off => "off",
        }
    }
}

impl Finding {
    /// Its key in the topic. Without the app, as interface says: subjects of two apps share a partition, no more.
    pub fn key(&self) -> String {
        format!("{}/{}", self.rule, self.subject.value)
    }

    /// As JSON.
    pub fn encode(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// From JSON; unknown fields pass.
    pub fn decode(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }
}

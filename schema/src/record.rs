use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{AppId, Timestamp};

/// What is kept of a callback, and what was decided and why. Topic `callbacks`.
///
/// Neither a token nor `Sign` is ever part of it. Of `body`, `body_text` and `body_base64` at most one is there; none
/// for an empty body.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditRecord {
    /// UUIDv7 of `received_at`; a record that is published twice carries the same one.
    pub id: Uuid,
    /// The receiver's instance.
    pub receiver: String,
    /// One for each start of that receiver.
    pub boot: Uuid,
    /// Counts from 0 for each boot without a hole: a hole in the topic is a loss.
    pub seq: u64,
    /// When the callback's head was read.
    pub received_at: Timestamp,
    /// Absent where the query names no app that is a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppId>,
    /// As the query names it; empty where it names none.
    #[serde(default)]
    pub command: String,
    /// Whether the signature held, or the app takes unsigned callbacks.
    pub authentic: bool,
    /// Who acts, by UserID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The address of the user's device, in its canonical form. What is no address stays in `query`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<String>,
    /// `OptPlatform`, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The text that was judged, decoded: the name of what is created, or what is said, one text a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The parameters of the query that have no field of their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, String>,
    /// The body, where it is JSON: whole, without blanks between its parts.
    #[serde(deserialize_with = "even_null", default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Box<RawValue>>,
    /// The body, where it is text but not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_text: Option<String>,
    /// The body, where it is neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// The command that the body names, where it is another than the query's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_command: Option<String>,
    /// Why the callback could not be answered normally: `unreadable`, `too_large`, `stalled`, `forged`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<String>,
    /// Absent where nothing was decided, because the callback is not authentic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<RecordedDecision>,
    /// How far the answer path was degraded.
    pub rung: Rung,
}

/// What was answered, and on which ground.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedDecision {
    /// Whether Chat was told to go on.
    pub effect: Effect,
    /// The code that was answered, of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u32>,
    /// The text that was answered with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The ground.
    pub by: DecidedBy,
    /// The verdict, where one was the ground.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Uuid>,
    /// Its rule, where a rule gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// For each partition of `verdicts`, the next offset that was not yet in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verdicts_at: Vec<i64>,
    /// The accounts that were refused though the callback as a whole may go on: invited members, subscribers, friends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
}

/// What a verdict or a decision does with a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Chat goes on.
    Allow,
    /// Chat refuses, and the caller learns it.
    Deny,
    /// Chat refuses, and the caller believes in success; only where the command has that.
    Drop,
}

/// The ground of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecidedBy {
    /// A moderator's verdict.
    Moderator,
    /// A rule's verdict.
    Verdict,
    /// No verdict applies.
    Default,
    /// The configured fallback: no decision could be made.
    Fallback,
    /// A ground that a newer version knows.
    #[serde(other)]
    Unknown,
}

/// How far the answer path is degraded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Not at all.
    #[default]
    Normal,
    /// Answers do not wait for the journal's disk beyond the deadline.
    JournalSlow,
    /// The journal takes no more records.
    JournalFull,
    /// Decisions are not looked up.
    Overloaded,
    /// A rung that a newer version knows.
    #[serde(other)]
    Unknown,
}

/// A body that is `null` is one: not the same as none.
fn even_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

impl AuditRecord {
    /// The key in `callbacks`: `APP/OPERATOR`, or `APP` without an operator; never empty, since librdkafka would put
    /// all records with an empty key on one partition.
    pub fn key(&self) -> String {
        match (self.app, &self.operator) {
            (Some(app), Some(operator)) => [&app.to_string(), "/", operator].concat(),
            (Some(app), None) => app.to_string(),
            (None, _) => "unknown".to_owned(),
        }
    }

    /// As JSON.
    pub fn encode(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// The same, behind what `bytes` hold already. After an error they hold a part of it.
    pub fn encode_into(&self, bytes: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(bytes, self)
    }

    /// From JSON; unknown fields pass.
    pub fn decode(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }
}

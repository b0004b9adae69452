use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{AppId, FindingSubject, Timestamp};

/// One record as the rules of one subject count it. Topic `signals`, key `APP/BY/VALUE`.
///
/// Records lie by operator, so a count by anything else would be split over partitions and workers. Whoever reads the
/// record writes a signal under the subject, and whoever owns the subject's partition counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// The record's id: a repeated signal counts once.
    pub record: Uuid,
    /// The record's `received_at`.
    pub at: Timestamp,
    /// Within which app.
    pub app: AppId,
    /// Under whom it counts.
    pub subject: FindingSubject,
    /// The rules whose commands and condition the record meets.
    pub counts: Vec<SignalCount>,
}

/// One rule's share in a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalCount {
    /// Its name.
    pub rule: String,
    /// What a rule that counts distinct values saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct: Option<String>,
}

impl Signal {
    /// Its key in the topic.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.app, self.subject.by, self.subject.value)
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

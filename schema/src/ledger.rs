use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Timestamp;

/// What a receiver says of its own sequence, so that a hole can be proven and told from a delay. Topic `ledger`, key
/// `RECEIVER/BOOT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The receiver's instance.
    pub receiver: String,
    /// Which start of it.
    pub boot: Uuid,
    /// When it was said.
    pub at: Timestamp,
    /// What is said.
    #[serde(flatten)]
    pub event: LedgerEvent,
    /// The sequence number that the next record gets.
    pub next_seq: u64,
    /// Records of this boot that will never be in the topic, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lost: BTreeMap<String, u64>,
}

/// The life of a boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum LedgerEvent {
    /// It began.
    Started {
        /// The boot before it on the same data, where one is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        former_boot: Option<Uuid>,
        /// The sequence number that the former boot would have given next.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        former_next_seq: Option<u64>,
    },
    /// It goes on.
    Heartbeat,
    /// It ended in order.
    Stopped,
}

impl LedgerEntry {
    /// Its key in the topic.
    pub fn key(&self) -> String {
        format!("{}/{}", self.receiver, self.boot)
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

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Timestamp;

/// How often a running receiver says that it goes on: 8,640 entries of some 250 bytes a day, 65 MB in the 30 days that
/// the topic keeps them; and no loss stays unknown for longer than a person needs to look.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);

/// What a receiver says of its own sequence, so that a hole can be proven and told from a delay. Topic `ledger`, key
/// `RECEIVER/BOOT`.
///
/// An entry goes through the journal like a record, and is published only when all that was journaled before it is
/// acknowledged. So it is a proof: at the time that it is in the topic, every record of its boot below
/// [`LedgerEntry::next_seq`] is in `callbacks` or, where it was too large for the broker, in `dead-letters`; what is in
/// neither is lost. The same holds for the former boot below `former_next_seq`. A number above the last entry's is not
/// missing but late: its record may still be in the receiver's journal.
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
    /// The machine it runs on, to tell two receivers apart that were given one name. Empty where it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Records that will never be in the topic, by reason, as this boot counted them; among them may be records of former
    /// boots that it found in the journal.
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
        /// The sequence number that the former boot would have given next; where its journal had been emptied or was
        /// damaged, a lower bound.
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

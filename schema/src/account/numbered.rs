use std::borrow::Cow;

use serde::Deserialize;
use uuid::Uuid;

/// Of a record only its place in the sequence, whatever else it holds: a third of the work of reading it whole.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Numbered<'a> {
    /// The receiver's instance.
    #[serde(borrow)]
    pub receiver: Cow<'a, str>,
    /// Which start of it.
    pub boot: Uuid,
    /// The sequence number.
    pub seq: u64,
}

impl<'a> Numbered<'a> {
    /// From the JSON of a record.
    pub fn decode(json: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }
}

use portcullis_schema::{AuditRecord, Uuid, headers};
use rdkafka::message::{Header, OwnedHeaders};

use crate::entry::Entry;
use crate::loss::Loss;

/// What a dead letter without its body still tells of it, in characters.
const BODY_CHARS_KEPT: usize = 1_000;

/// CloudEvents in binary mode: what is the same for every record of a receiver is made once, and copied.
pub(super) struct RecordHeaders(OwnedHeaders);

impl RecordHeaders {
    pub(super) fn new(source: &str) -> Self {
        let same = [
            (headers::SPEC_VERSION, headers::SPEC_VERSION_VALUE),
            (headers::TYPE, headers::TYPE_RECORD),
            (headers::SOURCE, source),
            (headers::CONTENT_TYPE, headers::CONTENT_TYPE_VALUE),
        ];
        Self(same.into_iter().fold(OwnedHeaders::new_with_capacity(same.len()), put))
    }

    pub(super) fn of(&self, entry: &Entry<'_>) -> OwnedHeaders {
        let mut buffer = Uuid::encode_buffer();
        let id = entry.id.hyphenated().encode_lower(&mut buffer);
        let own = [(headers::ID, &*id), (headers::TIME, &entry.received_at.to_string())];
        own.into_iter().fold(self.0.clone(), put)
    }

    /// The same, and where it was meant to go and why it did not.
    pub(super) fn of_dead_letter(&self, entry: &Entry<'_>, topic: &str) -> OwnedHeaders {
        let why = [
            (headers::DEAD_REASON, Loss::TooLargeForBroker.name()),
            (headers::DEAD_TOPIC, topic),
        ];
        why.into_iter().fold(self.of(entry), put)
    }
}

/// A ledger entry's value says all else.
pub(super) fn ledger_headers() -> OwnedHeaders {
    put(
        OwnedHeaders::new_with_capacity(1),
        (headers::CONTENT_TYPE, headers::CONTENT_TYPE_VALUE),
    )
}

/// The record with the beginning of its body only. `None` where it is no record that this version can read.
pub(super) fn without_body(entry: &Entry<'_>) -> Option<Vec<u8>> {
    let mut record = AuditRecord::decode(&entry.payload).ok()?;
    let beginning = |text: &str| text.chars().take(BODY_CHARS_KEPT).collect::<String>();
    record.body_text = match (&record.body, &record.body_text) {
        (Some(json), _) => Some(beginning(json.get())),
        (None, text) => text.as_deref().map(beginning),
    };
    record.body = None;
    record.body_base64 = record.body_base64.as_deref().map(beginning);
    record.name = record.name.as_deref().map(beginning);
    record.query.clear();
    record.encode().ok()
}

fn put(headers: OwnedHeaders, (key, value): (&str, &str)) -> OwnedHeaders {
    headers.insert(Header {
        key,
        value: Some(value),
    })
}

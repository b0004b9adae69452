use portcullis_schema::{AuditRecord, headers};
use rdkafka::message::{Header, OwnedHeaders};

use crate::entry::Entry;
use crate::loss::Loss;

/// What a dead letter without its body still tells of it, in characters.
const BODY_CHARS_KEPT: usize = 1_000;

/// CloudEvents in binary mode.
pub(super) fn record_headers(entry: &Entry<'_>, source: &str) -> OwnedHeaders {
    let (id, time) = (entry.id.to_string(), entry.received_at.to_string());
    [
        (headers::SPEC_VERSION, headers::SPEC_VERSION_VALUE),
        (headers::ID, &id),
        (headers::TYPE, headers::TYPE_RECORD),
        (headers::SOURCE, source),
        (headers::TIME, &time),
        (headers::CONTENT_TYPE, headers::CONTENT_TYPE_VALUE),
    ]
    .into_iter()
    .fold(OwnedHeaders::new_with_capacity(6), put)
}

/// A ledger entry's value says all else.
pub(super) fn ledger_headers() -> OwnedHeaders {
    put(
        OwnedHeaders::new_with_capacity(1),
        (headers::CONTENT_TYPE, headers::CONTENT_TYPE_VALUE),
    )
}

/// The same, and where it was meant to go and why it did not.
pub(super) fn dead_letter_headers(entry: &Entry<'_>, source: &str, topic: &str) -> OwnedHeaders {
    [
        (headers::DEAD_REASON, Loss::TooLargeForBroker.name()),
        (headers::DEAD_TOPIC, topic),
    ]
    .into_iter()
    .fold(record_headers(entry, source), put)
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

//! Names and values of Kafka headers: CloudEvents in Kafka's binary mode
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>), and those of
//! dead letters.

/// Version of the CloudEvents specification.
pub const SPEC_VERSION: &str = "ce_specversion";
/// Value of [`SPEC_VERSION`].
pub const SPEC_VERSION_VALUE: &str = "1.0";
/// Id of the record, finding or verdict.
pub const ID: &str = "ce_id";
/// One of the `TYPE_` values.
pub const TYPE: &str = "ce_type";
/// Who wrote it: `/receivers/INSTANCE`, `/workers/INSTANCE` or `/moderators`.
pub const SOURCE: &str = "ce_source";
/// RFC 3339; for a record `received_at`, for a verdict `issued_at`, for a finding `at`.
pub const TIME: &str = "ce_time";
/// Media type of the value.
pub const CONTENT_TYPE: &str = "content-type";
/// Value of [`CONTENT_TYPE`].
pub const CONTENT_TYPE_VALUE: &str = "application/json";

/// An audit record.
pub const TYPE_RECORD: &str = "portcullis.callback.recorded";
/// A finding.
pub const TYPE_FINDING: &str = "portcullis.finding";
/// A verdict.
pub const TYPE_VERDICT: &str = "portcullis.verdict";

/// Why it is a dead letter.
pub const DEAD_REASON: &str = "dead_letter_reason";
/// The topic that it was read from, or was meant for.
pub const DEAD_TOPIC: &str = "dead_letter_topic";
/// The partition that it was read from.
pub const DEAD_PARTITION: &str = "dead_letter_partition";
/// The offset that it was read at.
pub const DEAD_OFFSET: &str = "dead_letter_offset";

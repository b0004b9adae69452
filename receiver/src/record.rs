//! The audit record of a callback: its id, its place in the boot's sequence, and what was decided and why.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_schema::{AppId, AuditRecord, Rung, Timestamp, Uuid, id};

use crate::callback::{Callback, Query};
use crate::decision::Decision;
use crate::entry::{Entry, Kind};
use crate::outcome::Outcome;

/// One start of a receiver. Gives every record its sequence number: a number that is given and not in the topic is a
/// loss that any consumer can see.
///
/// The number is given when the record enters the journal, in the journal's order, and not when it is made: a crash then
/// takes the last numbers only. Given earlier, it could leave a hole below a record that was quicker on its way.
#[derive(Clone, Debug)]
pub struct Boot(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    receiver: String,
    boot: Uuid,
    next_seq: AtomicU64,
}

impl Boot {
    /// A start of `receiver`, the instance, at this moment.
    pub fn new(receiver: String, at: Timestamp) -> Self {
        Self(Arc::new(Inner {
            receiver,
            boot: id::random(at),
            next_seq: AtomicU64::new(0),
        }))
    }

    pub(crate) fn id(&self) -> Uuid {
        self.0.boot
    }

    /// The instance's name.
    pub(crate) fn receiver(&self) -> &str {
        &self.0.receiver
    }

    /// The number that the next record gets.
    pub(crate) fn numbers_given(&self) -> u64 {
        self.0.next_seq.load(Ordering::Relaxed)
    }

    /// The next number. A record that is lost before the journal could refuse it takes one too, so that it is missed.
    pub fn next_seq(&self) -> u64 {
        self.0.next_seq.fetch_add(1, Ordering::Relaxed)
    }

    /// The record of an authentic callback, its number still to come.
    pub fn record(
        &self,
        callback: Callback,
        decision: &Decision,
        outcome: Outcome,
        rung: Rung,
        received_at: Timestamp,
    ) -> AuditRecord {
        let caller = callback.caller;
        let mut record = AuditRecord {
            app: Some(caller.app),
            command: caller.command.name().to_owned(),
            authentic: true,
            operator: callback.operator,
            client_ip: caller.client_ip.map(|address| address.to_canonical().to_string()),
            platform: caller.platform,
            name: callback.name,
            query: callback.query,
            body_command: callback.body_command,
            rejection: outcome.rejection().map(str::to_owned),
            decision: Some(decision.recorded()),
            rung,
            ..self.blank(received_at)
        };
        callback.body.keep_in(&mut record);
        record
    }

    /// The record of a request that is not from Chat: what its query claims, without a body and a decision.
    pub(crate) fn record_of_forged(
        &self,
        query: Query<'_>,
        outcome: Outcome,
        rung: Rung,
        at: Timestamp,
    ) -> AuditRecord {
        let (app, command) = query.claims();
        AuditRecord {
            app: app.and_then(|text| text.parse::<AppId>().ok()),
            command: command.unwrap_or_default().chars().take(128).collect(),
            rejection: outcome.rejection().map(str::to_owned),
            query: query.into_others_within(FORGED_QUERY_BYTES_MAX),
            rung,
            ..self.blank(at)
        }
    }

    fn blank(&self, received_at: Timestamp) -> AuditRecord {
        AuditRecord {
            id: id::random(received_at),
            receiver: self.0.receiver.clone(),
            boot: self.0.boot,
            seq: SEQ_TO_COME,
            received_at,
            app: None,
            command: String::new(),
            authentic: false,
            operator: None,
            client_ip: None,
            platform: None,
            name: None,
            query: Default::default(),
            body: None,
            body_text: None,
            body_base64: None,
            body_command: None,
            rejection: None,
            decision: None,
            rung: Rung::Normal,
        }
    }
}

/// What is kept of a stranger's query: ten times what Chat's has. Each byte takes up to six in a record, so with all that
/// the budget lets through these are 60 KiB a second.
const FORGED_QUERY_BYTES_MAX: usize = 1 << 10;

/// Most records are smaller; a larger one is moved once or twice while it is written.
const USUAL_BYTES: usize = 1 << 10;

/// As the journal keeps it, less the number. An error where serde_json fails, which it has no reason to.
pub fn encode(record: &AuditRecord) -> serde_json::Result<Unnumbered> {
    let head = Entry {
        kind: Kind::Record,
        id: record.id,
        received_at: record.received_at,
        key: record.key().into(),
        command: record.command.as_str().into(),
        payload: Default::default(),
    };
    let mut bytes = head.encode_with_room(USUAL_BYTES);
    let payload = bytes.len();
    record.encode_into(&mut bytes)?;
    let from = payload + BYTES_BEFORE_SEQ;
    let seq = position(&bytes[from..], SEQ_FIELD).map_or(bytes.len()..bytes.len(), |field| {
        let digits = from + field + SEQ_FIELD.len();
        digits..digits + SEQ_TO_COME_DIGITS
    });
    Ok(Unnumbered { bytes, seq })
}

/// Stands for the number in a record that has none yet: as long as a number can be.
const SEQ_TO_COME: u64 = u64::MAX;
const SEQ_TO_COME_DIGITS: usize = 20;
/// No text comes before this field but the receiver's instance, which has no quotes.
const SEQ_FIELD: &[u8] = b"\"seq\":";
/// At least so many bytes of a record come before that field: its id, the boot, and three names of fields.
const BYTES_BEFORE_SEQ: usize = r#"{"id":"","receiver":"","boot":"","#.len() + 2 * 36;

/// A record on its way into the journal.
#[derive(Debug)]
pub struct Unnumbered {
    bytes: Vec<u8>,
    /// Where the digits are to stand.
    seq: Range<usize>,
}

impl Unnumbered {
    /// With its number.
    pub fn numbered(mut self, seq: u64) -> Vec<u8> {
        self.bytes.splice(self.seq, seq.to_string().into_bytes());
        self.bytes
    }
}

fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use portcullis_schema::{AuditRecord, Rung, Timestamp};

    use super::{Boot, encode};
    use crate::callback::Query;
    use crate::entry::Entry;
    use crate::outcome::Outcome;

    #[test]
    fn the_number_changes_nothing_else_in_a_record() {
        let at = Timestamp::from_micros(1_700_000_000_000_000);
        let boot = Boot::new("receiver-1".to_owned(), at);
        let hostile = Query::parse("CallbackCommand=%22seq%22:18446744073709551615&a=%22seq%22:1");
        let record = boot.record_of_forged(hostile, Outcome::Forged, Rung::Normal, at);
        for seq in [0, 42, u64::MAX] {
            let bytes = encode(&record).expect("encodes").numbered(seq);
            let entry = Entry::decode(&bytes).expect("an entry");
            let read = AuditRecord::decode(&entry.payload).expect("a record");
            assert_eq!(read.seq, seq);
            let expected = AuditRecord { seq, ..record.clone() };
            assert_eq!(*entry.payload, expected.encode().expect("encodes"));
        }
    }

    #[test]
    fn numbers_are_dense_from_zero() {
        let boot = Boot::new("receiver-1".to_owned(), Timestamp::default());
        assert_eq!([boot.next_seq(), boot.next_seq(), boot.next_seq()], [0, 1, 2]);
    }
}

//! The audit record of a callback: its id, its place in the boot's sequence, and what was decided and why.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_schema::{AppId, AuditRecord, Rung, Timestamp, Uuid, id};

use crate::callback::{Callback, Query};
use crate::decision::Decision;
use crate::entry::Entry;
use crate::outcome::Outcome;

/// One start of a receiver. Gives every record its sequence number: a number that is given and not in the topic is a
/// loss that any consumer can see.
#[derive(Clone, Debug)]
pub(crate) struct Boot(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    receiver: String,
    boot: Uuid,
    next_seq: AtomicU64,
}

impl Boot {
    pub(crate) fn new(receiver: String, at: Timestamp) -> Self {
        Self(Arc::new(Inner {
            receiver,
            boot: id::random(at),
            next_seq: AtomicU64::new(0),
        }))
    }

    pub(crate) fn id(&self) -> Uuid {
        self.0.boot
    }

    /// The record of an authentic callback.
    pub(crate) fn record(
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
    pub(crate) fn record_of_forged(&self, query: Query, outcome: Outcome, rung: Rung, at: Timestamp) -> AuditRecord {
        let (app, command) = query.claims();
        AuditRecord {
            app: app.and_then(|text| text.parse::<AppId>().ok()),
            command: command.unwrap_or_default().chars().take(128).collect(),
            rejection: outcome.rejection().map(str::to_owned),
            query: query.into_others(),
            rung,
            ..self.blank(at)
        }
    }

    fn blank(&self, received_at: Timestamp) -> AuditRecord {
        AuditRecord {
            id: id::random(received_at),
            receiver: self.0.receiver.clone(),
            boot: self.0.boot,
            seq: self.0.next_seq.fetch_add(1, Ordering::Relaxed),
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

/// As the journal keeps it.
pub(crate) fn to_entry(record: &AuditRecord) -> serde_json::Result<Entry> {
    Ok(Entry {
        id: record.id,
        received_at: record.received_at,
        key: record.key(),
        command: record.command.clone(),
        payload: record.encode()?,
    })
}

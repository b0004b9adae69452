//! What the worker writes, ready to be sent.

use portcullis_schema::kafka::Topics;
use portcullis_schema::{Finding, Signal, Timestamp, Uuid, Verdict, headers};
use tracing::error;

use crate::detector::Hit;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};

/// A message for one of the topics.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) topic: String,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    /// Milliseconds since the epoch; absent: when it is sent.
    pub(super) timestamp: Option<i64>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

/// The letters of a batch. Findings go before verdicts, so that whoever reads a verdict finds why.
#[derive(Debug, Default)]
pub(super) struct Letters {
    first: Vec<Letter>,
    verdicts: Vec<Letter>,
}

impl Letters {
    pub(super) fn hit(&mut self, topics: &Topics, hit: &Hit) {
        debug_assert_eq!(
            hit.finding.verdict,
            hit.verdict.as_ref().map(|verdict| verdict.id),
            "OneVerdictPerFinding"
        );
        self.first.extend(encoded(Letter::finding(topics, &hit.finding)));
        let verdict = hit.verdict.as_ref().map(|verdict| Letter::verdict(topics, verdict));
        self.verdicts.extend(verdict.and_then(encoded));
    }

    pub(super) fn signals(&mut self, topics: &Topics, signals: &[Signal]) {
        let letters = signals.iter().map(|signal| Letter::signal(topics, signal));
        self.first.extend(letters.filter_map(encoded));
    }

    pub(super) fn dead(&mut self, letter: Letter) {
        self.first.push(letter);
    }

    pub(super) fn in_order(mut self) -> Vec<Letter> {
        self.first.append(&mut self.verdicts);
        self.first
    }
}

/// Plain fields always encode; should they not, that letter alone is lost.
fn encoded(letter: serde_json::Result<Letter>) -> Option<Letter> {
    letter
        .inspect_err(|error| error!(%error, "output is lost: cannot be encoded"))
        .ok()
}

impl Letter {
    pub(super) fn finding(topics: &Topics, finding: &Finding) -> serde_json::Result<Self> {
        Ok(Self {
            topic: topics.findings.clone(),
            key: Some(finding.key().into_bytes()),
            value: Some(finding.encode()?),
            timestamp: Some(finding.at.as_millis()),
            headers: cloud_event(headers::TYPE_FINDING, finding.id, &finding.by, finding.at),
        })
    }

    pub(super) fn verdict(topics: &Topics, verdict: &Verdict) -> serde_json::Result<Self> {
        Ok(Self {
            topic: topics.verdicts.clone(),
            key: Some(verdict.key().to_string().into_bytes()),
            value: Some(verdict.encode()?),
            timestamp: Some(verdict.issued_at.as_millis()),
            headers: cloud_event(headers::TYPE_VERDICT, verdict.id, &verdict.by, verdict.issued_at),
        })
    }

    /// The time of the record, so that signals are kept as long as the records that they stand for.
    pub(super) fn signal(topics: &Topics, signal: &Signal) -> serde_json::Result<Self> {
        Ok(Self {
            topic: topics.signals.clone(),
            key: Some(signal.key().into_bytes()),
            value: Some(signal.encode()?),
            timestamp: Some(signal.at.as_millis()),
            headers: vec![text(headers::CONTENT_TYPE, headers::CONTENT_TYPE_VALUE)],
        })
    }

    /// Key, value and headers as they came, and why and from where.
    pub(super) fn dead(topics: &Topics, message: &BorrowedMessage<'_>, reason: &str) -> Self {
        let mut all: Vec<(String, Option<Vec<u8>>)> = Vec::new();
        for header in message.headers().into_iter().flat_map(Headers::iter) {
            all.push((header.key.to_owned(), header.value.map(<[u8]>::to_vec)));
        }
        all.push(text(headers::DEAD_REASON, reason));
        all.push(text(headers::DEAD_TOPIC, message.topic()));
        all.push(text(headers::DEAD_PARTITION, &message.partition().to_string()));
        all.push(text(headers::DEAD_OFFSET, &message.offset().to_string()));
        Self {
            topic: topics.dead_letters.clone(),
            // Never an empty key: all of them would land on one partition.
            key: message.key().filter(|key| !key.is_empty()).map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            timestamp: message.timestamp().to_millis(),
            headers: all,
        }
    }

    pub(super) fn headers(&self) -> OwnedHeaders {
        let empty = OwnedHeaders::new_with_capacity(self.headers.len());
        self.headers.iter().fold(empty, |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: value.as_ref(),
            })
        })
    }
}

fn cloud_event(kind: &str, id: Uuid, instance: &str, at: Timestamp) -> Vec<(String, Option<Vec<u8>>)> {
    vec![
        text(headers::SPEC_VERSION, headers::SPEC_VERSION_VALUE),
        text(headers::ID, &id.to_string()),
        text(headers::TYPE, kind),
        text(headers::SOURCE, &format!("/workers/{instance}")),
        text(headers::TIME, &at.to_string()),
        text(headers::CONTENT_TYPE, headers::CONTENT_TYPE_VALUE),
    ]
}

fn text(key: &str, value: &str) -> (String, Option<Vec<u8>>) {
    (key.to_owned(), Some(value.as_bytes().to_vec()))
}

//! What a rule can look at in a record, by name.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::OnceLock;

use portcullis_schema::{AuditRecord, FindingSubject, Subject, SubjectKind, text};
use serde_json::Value;

/// The longest value that is counted, in bytes: the longest subject of a verdict. What is longer does not count.
const VALUE_BYTES_MAX: usize = Subject::BYTES_MAX;

/// What is kept of a value as it was written, in characters: enough for a person to know it again.
const WRITTEN_CHARS_MAX: usize = 100;

/// A record, its body parsed when a rule first asks for it.
pub(crate) struct Fields<'a> {
    record: &'a AuditRecord,
    body: OnceLock<Value>,
}

/// The fields that a rule can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Root {
    App,
    Command,
    Operator,
    ClientIp,
    Platform,
    Name,
    Query,
    Body,
    BodyText,
    BodyCommand,
    Rejection,
    Receiver,
}

/// A field, or a value inside one: `operator`, `query.OptPlatform`, `body.MsgBody.0.MsgType`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Path {
    text: Box<str>,
    root: Root,
    inside: Box<[Box<str>]>,
}

impl Root {
    pub(crate) const ALL: [Self; 12] = [
        Self::App,
        Self::Command,
        Self::Operator,
        Self::ClientIp,
        Self::Platform,
        Self::Name,
        Self::Query,
        Self::Body,
        Self::BodyText,
        Self::BodyCommand,
        Self::Rejection,
        Self::Receiver,
    ];

    /// As it stands in the record.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Command => "command",
            Self::Operator => "operator",
            Self::ClientIp => "client_ip",
            Self::Platform => "platform",
            Self::Name => "name",
            Self::Query => "query",
            Self::Body => "body",
            Self::BodyText => "body_text",
            Self::BodyCommand => "body_command",
            Self::Rejection => "rejection",
            Self::Receiver => "receiver",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|root| root.name() == name)
    }
}

impl Path {
    /// What [`Path::parse`] accepts, for mistakes.
    pub(crate) const FORM: &str = "\"operator\", \"client_ip\", \"name\", \"app\", or another field such as \
        \"platform\", \"query.OptPlatform\", \"body.GroupId\"";

    /// A field without parts, or a value in `query` (one name) or `body` (names, and numbers into lists).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let root = Root::parse(parts.next()?)?;
        let inside: Box<[Box<str>]> = parts.map(Into::into).collect();
        let fits = match root {
            Root::Query => inside.len() == 1,
            Root::Body => !inside.is_empty(),
            _ => inside.is_empty(),
        };
        let named = inside.iter().all(|part| !part.is_empty());
        (fits && named && text.len() <= VALUE_BYTES_MAX).then(|| Self {
            text: text.into(),
            root,
            inside,
        })
    }

    /// `operator`.
    pub(crate) fn operator() -> Self {
        Self {
            text: Root::Operator.name().into(),
            root: Root::Operator,
            inside: Box::default(),
        }
    }

    /// As it is written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn root(&self) -> Root {
        self.root
    }

    /// The kind of subject that a verdict can name for it.
    pub(crate) fn subject_kind(&self) -> Option<SubjectKind> {
        match self.root {
            Root::Operator => Some(SubjectKind::Operator),
            Root::ClientIp => Some(SubjectKind::ClientIp),
            Root::Name => Some(SubjectKind::Name),
            Root::App => Some(SubjectKind::Everyone),
            _ => None,
        }
    }

    /// The record's value in the form in which it is compared; `None` where there is nothing to compare.
    pub(crate) fn value(&self, fields: &Fields<'_>) -> Option<String> {
        self.canonical(&self.raw(fields)?)
    }

    /// Whom the record is about, seen by this field; `None` where there is nothing to compare.
    pub(crate) fn subject(&self, fields: &Fields<'_>) -> Option<FindingSubject> {
        let raw = self.raw(fields)?;
        let value = self.canonical(&raw)?;
        let written = (*raw != value).then(|| raw.chars().take(WRITTEN_CHARS_MAX).collect());
        Some(FindingSubject {
            by: self.text.to_string(),
            value,
            written,
        })
    }

    /// Brings a value into the form in which it is compared: equal to a person, equal as text.
    pub(crate) fn canonical(&self, raw: &str) -> Option<String> {
        let value = match self.root {
            Root::ClientIp => raw.parse::<IpAddr>().ok()?.to_canonical().to_string(),
            Root::Name => text::skeleton(raw),
            _ => raw.to_owned(),
        };
        (1..=VALUE_BYTES_MAX).contains(&value.len()).then_some(value)
    }

    fn raw<'f>(&self, fields: &'f Fields<'_>) -> Option<Cow<'f, str>> {
        match self.root {
            Root::App => fields.record.app.map(|app| app.to_string().into()),
            Root::Query => {
                let name: &str = self.inside.first()?;
                fields.record.query.get(name).map(|value| value.as_str().into())
            }
            Root::Body => self.in_body(fields.body()),
            root => fields.text(root).map(Cow::Borrowed),
        }
    }

    fn in_body<'f>(&self, body: &'f Value) -> Option<Cow<'f, str>> {
        let mut value = body;
        for part in &self.inside {
            value = match value {
                Value::Object(object) => object.get(&**part)?,
                Value::Array(items) => items.get(part.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        match value {
            Value::String(text) => Some(text.into()),
            Value::Number(number) => Some(number.to_string().into()),
            Value::Bool(boolean) => Some(boolean.to_string().into()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

impl<'a> Fields<'a> {
    pub(crate) fn new(record: &'a AuditRecord) -> Self {
        Self {
            record,
            body: OnceLock::new(),
        }
    }

    pub(crate) fn record(&self) -> &'a AuditRecord {
        self.record
    }

    /// The body; null where there is none, or where it is nested deeper than 128 levels.
    pub(crate) fn body(&self) -> &Value {
        self.body.get_or_init(|| {
            let body = self.record.body.as_deref();
            body.and_then(|json| serde_json::from_str(json.get()).ok())
                .unwrap_or(Value::Null)
        })
    }

    /// A field that is one text; `None` for the others and where it is absent.
    pub(crate) fn text(&self, root: Root) -> Option<&'a str> {
        match root {
            Root::Command => Some(&self.record.command),
            Root::Operator => self.record.operator.as_deref(),
            Root::ClientIp => self.record.client_ip.as_deref(),
            Root::Platform => self.record.platform.as_deref(),
            Root::Name => self.record.name.as_deref(),
            Root::BodyText => self.record.body_text.as_deref(),
            Root::BodyCommand => self.record.body_command.as_deref(),
            Root::Rejection => self.record.rejection.as_deref(),
            Root::Receiver => Some(&self.record.receiver),
            Root::App | Root::Query | Root::Body => None,
        }
    }
}

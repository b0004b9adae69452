use std::fmt;
use std::str::FromStr;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::{AppId, Command, Effect, Subject, SubjectError, SubjectKind, Timestamp};

/// What a rule or a moderator concluded about a subject. Topic `verdicts`, compacted by [`VerdictKey`].
///
/// The latest wins for each subject and source. Any client that can write this JSON can issue one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// UUIDv7 of `issued_at`.
    pub id: Uuid,
    /// Within which app.
    pub app: AppId,
    /// About whom or what.
    pub subject: Subject,
    /// The commands that it applies to; empty: all that can be refused.
    #[serde(default)]
    pub commands: Vec<String>,
    /// What it does.
    pub effect: Effect,
    /// The refusal's code; a command that cannot carry it answers its plain refusal, see [`crate::Codes::code`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "code")]
    pub code: Option<u32>,
    /// What the caller reads with the code.
    #[serde(default)]
    pub text: String,
    /// Who concludes.
    pub source: Source,
    /// The rule, where one gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// For the moderator, never for the caller.
    #[serde(default)]
    pub reason: String,
    /// The worker's instance, or the moderator.
    #[serde(default)]
    pub by: String,
    /// Since when.
    pub issued_at: Timestamp,
    /// Until when, exclusive; absent: until it is lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Ids of the records that led to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Uuid>,
}

/// Who concludes. A moderator wins over a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A person.
    Moderator,
    /// A rule of the worker.
    Rule,
}

/// What a verdict replaces when it is issued, and what lifts it when its value is null: `APP/KIND/VALUE/SOURCE`.
/// The value may contain slashes; the other three parts do not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerdictKey {
    /// Within which app.
    pub app: AppId,
    /// About whom or what.
    pub subject: Subject,
    /// Who concluded.
    pub source: Source,
}

/// Why bytes of the topic are no verdict, or no key.
#[derive(Debug, thiserror::Error)]
pub enum VerdictError {
    /// Not the JSON of a verdict.
    #[error("not a verdict")]
    Undecodable(#[source] serde_json::Error),
    /// The subject of the key is none.
    #[error("not the key of a verdict")]
    KeySubject(#[source] SubjectError),
    /// The key has another form.
    #[error("key {0:?} is not APP/KIND/VALUE/SOURCE")]
    KeyForm(String),
}

/// A number, or its digits as text. One that no command could carry is as good as none: who is to be refused is refused.
fn code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Spelled {
        Code(u32),
        Text(String),
        Other(IgnoredAny),
    }
    Ok(match Spelled::deserialize(deserializer)? {
        Spelled::Code(code) => Some(code),
        Spelled::Text(text) => text.parse().ok(),
        Spelled::Other(IgnoredAny) => None,
    })
}

impl Source {
    /// As it stands in a verdict.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Moderator => "moderator",
            Self::Rule => "rule",
        }
    }
}

impl Verdict {
    /// Its key in the topic.
    pub fn key(&self) -> VerdictKey {
        VerdictKey {
            app: self.app,
            subject: self.subject.clone(),
            source: self.source,
        }
    }

    /// Whether it is over at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Whether it is about callbacks of `command`.
    pub fn applies_to(&self, command: &Command) -> bool {
        self.commands.is_empty() || self.commands.iter().any(|name| name == command.name())
    }

    /// As JSON.
    pub fn encode(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// From JSON; unknown fields pass, an unknown kind of subject, effect or source does not: a verdict that is
    /// understood in part could refuse the wrong people.
    pub fn decode(json: &[u8]) -> Result<Self, VerdictError> {
        serde_json::from_slice(json).map_err(VerdictError::Undecodable)
    }
}

impl fmt::Display for VerdictKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, value) = (self.subject.kind().name(), self.subject.value());
        write!(formatter, "{}/{kind}/{value}/{}", self.app, self.source.name())
    }
}

impl FromStr for VerdictKey {
    type Err = VerdictError;

    fn from_str(text: &str) -> Result<Self, VerdictError> {
        let form = || VerdictError::KeyForm(text.chars().take(200).collect());
        let (app, rest) = text.split_once('/').ok_or_else(form)?;
        let (kind, rest) = rest.split_once('/').ok_or_else(form)?;
        let (value, source) = rest.rsplit_once('/').ok_or_else(form)?;
        let kind = SubjectKind::parse(kind).ok_or_else(form)?;
        Ok(Self {
            app: app.parse().map_err(|_| form())?,
            subject: Subject::parse(kind, value).map_err(VerdictError::KeySubject)?,
            source: match source {
                "moderator" => Source::Moderator,
                "rule" => Source::Rule,
                _ => return Err(form()),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Verdict, VerdictKey};

    #[test]
    fn a_verdict_whose_code_no_command_could_carry_is_one_all_the_same() {
        for (code, read) in [
            ("10101", Some(10_101)),
            ("\"10101\"", Some(10_101)),
            ("-1", None),
            ("99999999999", None),
            ("10101.5", None),
            ("\"later\"", None),
            ("null", None),
            ("[]", None),
        ] {
            let json = format!(
                r#"{{"id":"01935e1c-0000-7000-8000-000000000000","app":1,"subject":{{"kind":"operator","value":"a"}},
                "effect":"deny","code":{code},"source":"rule","issued_at":"2026-01-01T00:00:00Z"}}"#
            );
            assert_eq!(Verdict::decode(json.as_bytes()).expect(code).code, read, "{code}");
        }
    }

    #[test]
    fn a_key_reads_back_also_where_the_value_has_slashes() {
        for text in [
            "1400000001/operator/leckie/rule",
            "1400000001/operator/a/b//c/moderator",
            "1400000001/client_ip/203.0.113.0/24/moderator",
            "1400000001/everyone//rule",
        ] {
            assert_eq!(text.parse::<VerdictKey>().expect(text).to_string(), text);
        }
        for text in [
            "",
            "1400000001",
            "x/operator/a/rule",
            "1/operator/a/worker",
            "1/hat/a/rule",
            "1/operator//rule",
        ] {
            assert!(text.parse::<VerdictKey>().is_err(), "{text}");
        }
    }
}

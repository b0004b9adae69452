use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::text;

/// Who or what a verdict is about, within an app. Its value is canonical: equal subjects are equal values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    kind: SubjectKind,
    value: Box<str>,
}

/// The kinds of subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectKind {
    /// The user who acts, by UserID.
    Operator,
    /// The address of the user's device, or a prefix of addresses.
    ClientIp,
    /// A name, compared by [`text::skeleton`].
    Name,
    /// A part of a name, compared by [`text::skeleton`].
    Term,
    /// Every callback of the app.
    Everyone,
}

/// Why a text is no subject of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Nothing to compare with is left.
    #[error("{} {value:?} has no visible character", kind.name())]
    Empty {
        /// Of which kind.
        kind: SubjectKind,
        /// As it came.
        value: String,
    },
    /// Longer than [`Subject::BYTES_MAX`].
    #[error("{} has {bytes} bytes, at most {} are allowed", kind.name(), Subject::BYTES_MAX)]
    TooLong {
        /// Of which kind.
        kind: SubjectKind,
        /// Its length.
        bytes: usize,
    },
    /// Neither an address nor a prefix.
    #[error("client_ip {0:?} is neither an address such as 203.0.113.7 nor a prefix such as 203.0.113.0/24")]
    NoAddress(String),
}

impl SubjectKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Operator, Self::ClientIp, Self::Name, Self::Term, Self::Everyone];

    /// As it stands in a verdict.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::ClientIp => "client_ip",
            Self::Name => "name",
            Self::Term => "term",
            Self::Everyone => "everyone",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Subject {
    /// The longest value. A UserID has at most 32 bytes, a group name 30; topic names have no documented limit, so
    /// there is room for what a person would still read.
    pub const BYTES_MAX: usize = 1_024;

    /// Brings `value` into the canonical form of its kind.
    pub fn parse(kind: SubjectKind, value: &str) -> Result<Self, SubjectError> {
        let canonical = match kind {
            SubjectKind::Everyone => return Ok(Self::everyone()),
            SubjectKind::Operator => value.into(),
            SubjectKind::ClientIp => prefix(value)
                .map(show_prefix)
                .ok_or_else(|| SubjectError::NoAddress(value.chars().take(64).collect()))?,
            SubjectKind::Name | SubjectKind::Term => text::skeleton(value).into(),
        };
        Self::checked(kind, canonical, value)
    }

    /// Every callback of the app.
    pub fn everyone() -> Self {
        Self {
            kind: SubjectKind::Everyone,
            value: "".into(),
        }
    }

    /// One address. A v4 address inside v6 is that v4 address.
    pub fn address(address: IpAddr) -> Self {
        Self {
            kind: SubjectKind::ClientIp,
            value: address.to_canonical().to_string().into(),
        }
    }

    /// The prefix of addresses, of which one address is the longest.
    pub fn prefix(prefix: IpNet) -> Self {
        Self {
            kind: SubjectKind::ClientIp,
            value: show_prefix(prefix),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> SubjectKind {
        self.kind
    }

    /// Its canonical value; empty for everyone.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The addresses that a `client_ip` subject covers.
    pub fn addresses(&self) -> Option<IpNet> {
        match self.kind {
            SubjectKind::ClientIp => prefix(&self.value),
            _ => None,
        }
    }

    fn checked(kind: SubjectKind, canonical: Box<str>, given: &str) -> Result<Self, SubjectError> {
        if canonical.is_empty() {
            return Err(SubjectError::Empty {
                kind,
                value: given.chars().take(64).collect(),
            });
        }
        if canonical.len() > Self::BYTES_MAX {
            return Err(SubjectError::TooLong {
                kind,
                bytes: canonical.len(),
            });
        }
        Ok(Self { kind, value: canonical })
    }
}

/// As people write it: `operator leckie`, `everyone`.
impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            SubjectKind::Everyone => formatter.write_str(self.kind.name()),
            kind => write!(formatter, "{} {}", kind.name(), self.value.escape_debug()),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Written<'a> {
    kind: SubjectKind,
    #[serde(default)]
    value: std::borrow::Cow<'a, str>,
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = Written {
            kind: self.kind,
            value: (&*self.value).into(),
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        Self::parse(written.kind, &written.value).map_err(de::Error::custom)
    }
}

fn prefix(text: &str) -> Option<IpNet> {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().ok()?.trunc(),
    };
    Some(match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => IpNet::new(v4.into(), v6.prefix_len() - 96).ok()?,
            None => net,
        },
        _ => net,
    })
}

fn show_prefix(net: IpNet) -> Box<str> {
    if net.prefix_len() == net.max_prefix_len() {
        return net.addr().to_string().into();
    }
    net.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::{Subject, SubjectKind};

    #[test]
    fn equal_subjects_have_equal_values_however_they_are_written() {
        for (kind, one, other) in [
            (SubjectKind::ClientIp, "203.0.113.7", "203.0.113.7/32"),
            (SubjectKind::ClientIp, "203.0.113.0/24", "203.0.113.99/24"),
            (SubjectKind::ClientIp, "203.0.113.7", "::ffff:203.0.113.7"),
            (SubjectKind::ClientIp, "2001:db8::1", "2001:0DB8:0:0::1"),
            (SubjectKind::Name, "Free Coins", "frее  сoins"),
            (SubjectKind::Everyone, "", "*"),
        ] {
            let one = Subject::parse(kind, one).expect(one);
            assert_eq!(one, Subject::parse(kind, other).expect(other));
            assert_eq!(Subject::parse(kind, one.value()), Ok(one));
        }
    }

    #[test]
    fn what_cannot_be_compared_is_no_subject() {
        for (kind, value) in [
            (SubjectKind::Operator, ""),
            (SubjectKind::ClientIp, "203.0.113"),
            (SubjectKind::ClientIp, "203.0.113.0/33"),
            (SubjectKind::Name, "\u{200b} "),
        ] {
            assert!(Subject::parse(kind, value).is_err(), "{value:?}");
        }
        assert!(Subject::parse(SubjectKind::Operator, &"x".repeat(Subject::BYTES_MAX + 1)).is_err());
    }
}

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What a decision reads of a body. A field that is missing or of another kind is absent; of a repeated one the last
/// counts, as with most parsers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) command: Option<String>,
    pub(super) operator: Option<String>,
    pub(super) name: Option<String>,
}

impl Fields {
    pub(super) fn read(json: &RawValue) -> Self {
        let Ok(raw) = serde_json::from_str::<Raw<'_>>(json.get()) else {
            return Self::default();
        };
        Self {
            command: raw.command.and_then(text),
            operator: raw.operator.and_then(text),
            name: raw.name.and_then(text),
        }
    }
}

/// The fields as they stand, so that an odd one does not take the others with it.
#[derive(Default)]
struct Raw<'a> {
    command: Option<&'a RawValue>,
    operator: Option<&'a RawValue>,
    name: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Raw<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Raw<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw<'de>, A::Error> {
                let mut raw = Raw::default();
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    let field = match &*key {
                        "CallbackCommand" => &mut raw.command,
                        "Operator_Account" => &mut raw.operator,
                        "Name" => &mut raw.name,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *field = Some(map.next_value()?);
                }
                Ok(raw)
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// A text, or the digits of a number. A lone surrogate, which JSON can spell and Unicode cannot, becomes a replacement
/// character: the operator and the rest of the name must still be judged.
fn text(raw: &RawValue) -> Option<String> {
    let raw = raw.get();
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw)
            .ok()
            .or_else(|| serde_json::from_str(&without_lone_surrogates(raw)).ok()),
        b'-' | b'0'..=b'9' => Some(raw.to_owned()),
        _ => None,
    }
}

fn without_lone_surrogates(raw: &str) -> String {
    let mut rest = raw;
    let mut mended = String::with_capacity(raw.len());
    while let Some(at) = rest.find('\\') {
        let escape = &rest[at..];
        mended.push_str(&rest[..at]);
        let taken = match (unit(escape), escape.get(6..).and_then(unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                mended.push_str("\\ufffd");
                rest = &escape[6..];
                continue;
            }
            (Some(_), _) => 6,
            (None, _) => 2,
        };
        let taken = taken.min(escape.len());
        mended.push_str(&escape[..taken]);
        rest = &escape[taken..];
    }
    mended.push_str(rest);
    mended
}

/// The code unit of a `\uXXXX` at the start.
fn unit(escape: &str) -> Option<u16> {
    let digits = escape.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::Fields;

    fn read(text: &str) -> Fields {
        Fields::read(&RawValue::from_string(text.to_owned()).expect(text))
    }

    fn name(text: &str) -> Option<String> {
        read(&format!(r#"{{"Operator_Account":"o","Name":{text}}}"#)).name
    }

    #[test]
    fn an_odd_field_does_not_take_the_others_with_it() {
        for odd in ["null", "[]", "{\"a\":{}}", "true", r#""\ud800""#, "5"] {
            let fields = read(&format!(r#"{{"Name":{odd},"Operator_Account":"leckie"}}"#));
            assert_eq!(fields.operator.as_deref(), Some("leckie"), "{odd}");
        }
        assert_eq!(read("[1,2]"), Fields::default());
        assert_eq!(read("\"text\""), Fields::default());
    }

    #[test]
    fn names_are_decoded_as_a_person_would_read_them() {
        for (written, read) in [
            (r#""plain""#, Some("plain")),
            (r#""\u0041\n""#, Some("A\n")),
            (r#""\ud83d\ude00""#, Some("😀")),
            (r#""a\ud800b""#, Some("a\u{fffd}b")),
            (r#""\udc00\\ud800""#, Some("\u{fffd}\\ud800")),
            (r#""\ud800\ud83d\ude00""#, Some("\u{fffd}😀")),
            ("12345678901234567890", Some("12345678901234567890")),
            ("null", None),
        ] {
            assert_eq!(name(written).as_deref(), read, "{written}");
        }
    }

    #[test]
    fn of_a_repeated_field_the_last_counts() {
        assert_eq!(read(r#"{"Name":"a","Name":"b"}"#).name.as_deref(), Some("b"));
    }
}

use std::borrow::Cow;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use portcullis_schema::AuditRecord;
use serde_json::value::RawValue;

/// Levels of nesting that a body may have to count as JSON. Chat's own have 4; readers of the topic stop at 100 to 128
/// (serde_json, Jackson's default is 1,000), and a record nests the body one deeper.
const DEPTH_MAX: usize = 64;

/// A callback's body, as a record keeps it.
#[derive(Clone, Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// JSON, without comments, byte-order mark and blanks between its parts.
    Json(Box<RawValue>),
    /// Text that is no JSON.
    Text(String),
    /// Neither.
    Bytes(Vec<u8>),
}

impl Body {
    /// Never fails: what is no JSON is kept as it is. A body that is compressed with gzip, whatever its headers say, is
    /// read where it unfolds to at most `bytes_max`.
    pub fn parse(bytes: &[u8], bytes_max: usize) -> Self {
        if bytes.is_empty() {
            return Self::Empty;
        }
        let bytes = unfolded(bytes, bytes_max).map_or(Cow::Borrowed(bytes), Cow::Owned);
        match std::str::from_utf8(&bytes) {
            Ok(text) => match json(text, Controls::Refused) {
                Some(json) => Self::Json(json),
                None => Self::Text(text.to_owned()),
            },
            Err(_) => Self::Bytes(bytes.into_owned()),
        }
    }

    /// The JSON that a decision reads; `None` where there is none. What is JSON but for bytes that are no UTF-8, or for
    /// control characters inside its strings, is read as less strict parsers do: who acts must be judged all the same.
    pub(super) fn readable(&self) -> Option<Cow<'_, RawValue>> {
        match self {
            Self::Json(json) => Some(Cow::Borrowed(json)),
            Self::Text(text) => json(text, Controls::Escaped).map(Cow::Owned),
            Self::Bytes(bytes) => json(&String::from_utf8_lossy(bytes), Controls::Escaped).map(Cow::Owned),
            Self::Empty => None,
        }
    }

    /// Puts it into the field of `record` that it belongs to.
    pub fn keep_in(self, record: &mut AuditRecord) {
        use base64::Engine;
        match self {
            Self::Empty => {}
            Self::Json(json) => record.body = Some(json),
            Self::Text(text) => record.body_text = Some(text),
            Self::Bytes(bytes) => {
                record.body_base64 = Some(base64::engine::general_purpose::STANDARD.encode(bytes));
            }
        }
    }
}

/// What gzip has made of it; no text begins with gzip's two magic bytes.
fn unfolded(bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    const MAGIC: [u8; 2] = [0x1f, 0x8b];
    if !bytes.starts_with(&MAGIC) {
        return None;
    }
    let mut unfolded = Vec::new();
    // A byte more than may be, to know that it is too many: a bomb goes no further.
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut unfolded).ok()?;
    (unfolded.len() <= bytes_max).then_some(unfolded)
}

/// What becomes of control characters, which JSON has no place for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Controls {
    /// It is no JSON.
    Refused,
    /// In a string they are escaped, elsewhere left out.
    Escaped,
}

fn json(text: &str, controls: Controls) -> Option<Box<RawValue>> {
    RawValue::from_string(compact(text, controls)?).ok()
}

/// One line of JSON: a byte-order mark, comments (Chat's own samples have them) and blanks outside of strings left out.
/// `None` when it nests deeper than [`DEPTH_MAX`] or a comment or string does not end; whether the rest is JSON, the
/// parser says. A caller's spelling of numbers, escapes, repeated and unknown fields stays as it came.
fn compact(text: &str, controls: Controls) -> Option<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let bytes = text.as_bytes();
    let mut kept = Vec::with_capacity(bytes.len());
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => at += 1,
            b'\0'..b' ' if controls == Controls::Escaped => at += 1,
            b'/' => at = comment_end(bytes, at)?,
            b'"' => {
                let end = string_end(bytes, at)?;
                match controls {
                    Controls::Refused => kept.extend_from_slice(&bytes[at..end]),
                    Controls::Escaped => escape_controls(&bytes[at..end], &mut kept),
                }
                at = end;
            }
            b'[' | b'{' if depth == DEPTH_MAX => return None,
            other => {
                match other {
                    b'[' | b'{' => depth += 1,
                    b']' | b'}' => depth = depth.saturating_sub(1),
                    // Two values with only a blank between them must not become one.
                    _ if joins(kept.last(), bytes, at) => return None,
                    _ => {}
                }
                kept.push(*other);
                at += 1;
            }
        }
    }
    String::from_utf8(kept).ok()
}

fn escape_controls(string: &[u8], kept: &mut Vec<u8>) {
    for byte in string {
        match byte {
            b'\0'..b' ' => kept.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => kept.push(*byte),
        }
    }
}

/// Behind the string that starts at `start`.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Behind the comment that starts at `start`, of either form; one of a line may also end with the text.
fn comment_end(bytes: &[u8], start: usize) -> Option<usize> {
    match bytes.get(start + 1)? {
        b'/' => Some(
            bytes[start..]
                .iter()
                .position(|byte| matches!(byte, b'\n' | b'\r'))
                .map_or(bytes.len(), |length| start + length),
        ),
        b'*' => bytes[start + 2..]
            .windows(2)
            .position(|pair| pair == b"*/")
            .map(|length| start + length + 4),
        _ => None,
    }
}

fn joins(before: Option<&u8>, bytes: &[u8], at: usize) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
    let adjacent = at > 0 && word(bytes[at - 1]);
    !adjacent && word(bytes[at]) && before.is_some_and(|last| word(*last))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::{Body, DEPTH_MAX};

    const MAX: usize = 1 << 20;

    fn json(text: &str) -> Option<String> {
        match Body::parse(text.as_bytes(), MAX) {
            Body::Json(json) => Some(json.get().to_owned()),
            _ => None,
        }
    }

    #[test]
    fn the_sample_with_comments_is_json() {
        let sample = "\u{feff}{\n\"CallbackCommand\": \"Group.CallbackBeforeCreateTopic\", // Callback command\r\
                      \"Name\": \"a // \\\" b\" /* Group name */\r} // end";
        assert_eq!(
            json(sample).as_deref(),
            Some("{\"CallbackCommand\":\"Group.CallbackBeforeCreateTopic\",\"Name\":\"a // \\\" b\"}")
        );
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).expect("into memory");
        encoder.finish().expect("into memory")
    }

    #[test]
    fn a_compressed_body_is_read_and_a_bomb_or_a_broken_one_is_kept_as_it_came() {
        let folded = gzip(br#"{"Name": "x"}"#);
        assert!(matches!(Body::parse(&folded, MAX), Body::Json(json) if json.get() == r#"{"Name":"x"}"#));
        let bomb = gzip(&vec![b' '; 100 * MAX]);
        for unreadable in [bomb, folded[..10].to_vec(), vec![0x1f, 0x8b]] {
            assert!(matches!(Body::parse(&unreadable, MAX), Body::Bytes(kept) if kept == unreadable));
        }
    }

    #[test]
    fn what_is_no_json_stays_as_it_came() {
        for text in [
            "{",
            "[1,]",
            "{\"a\":1}{",
            "1 2",
            "tr ue",
            "\"open",
            "{\"a\": /* open",
            "nul",
            "\u{0}",
            "a=b&c=d",
            "- 1",
        ] {
            assert!(
                matches!(Body::parse(text.as_bytes(), MAX), Body::Text(kept) if kept == text),
                "{text:?}"
            );
        }
        assert!(matches!(Body::parse(&[b'{', 0xff], MAX), Body::Bytes(kept) if kept == [b'{', 0xff]));
        assert!(matches!(Body::parse(&[], MAX), Body::Empty));
    }

    #[test]
    fn what_is_json_but_for_odd_bytes_is_kept_as_it_came_and_read_as_a_person_would() {
        for (body, read) in [
            (&b"{\"Name\":\"a\xffb\"}"[..], "{\"Name\":\"a\u{fffd}b\"}"),
            (
                b"{\"Name\":\"a\xed\xa0\x80\"}",
                "{\"Name\":\"a\u{fffd}\u{fffd}\u{fffd}\"}",
            ),
            (b"{\"Name\":\"a\nb\0\"}", "{\"Name\":\"a\\u000ab\\u0000\"}"),
            (b"{\"Name\":\"a\"}\0\0", "{\"Name\":\"a\"}"),
            (b"{\"Name\":\"a\", // \"\xff\r \"b\":1}\x01", "{\"Name\":\"a\",\"b\":1}"),
        ] {
            let parsed = Body::parse(body, MAX);
            assert_eq!(
                parsed.readable().map(|json| json.get().to_owned()).as_deref(),
                Some(read)
            );
            match parsed {
                Body::Text(kept) => assert_eq!(kept.as_bytes(), body),
                Body::Bytes(kept) => assert_eq!(kept, body),
                Body::Empty | Body::Json(_) => panic!("{read}"),
            }
        }
        for body in [&b"a=b"[..], b"", b"{\"Name\":\"a\xff", b"{\"Name\":\"a\n"] {
            assert!(Body::parse(body, MAX).readable().is_none());
        }
    }

    #[test]
    fn nesting_is_bounded_so_that_readers_of_the_topic_can_follow() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(json(&nested(DEPTH_MAX)).is_some());
        assert!(json(&nested(DEPTH_MAX + 1)).is_none());
        assert!(json(&nested(100_000)).is_none());
    }

    #[test]
    fn oddities_that_are_still_json_are_kept_to_the_letter() {
        for text in [
            r#"{"Name":"\ud800"}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"n":1e400,"m":00001e-0}"#,
            "\"only text\"",
            "5",
        ] {
            if serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok() {
                assert_eq!(json(text).as_deref(), Some(text));
            }
        }
    }

    proptest! {
        #[test]
        fn compaction_changes_no_value(value in "[\\[\\]{}\",:a0-9 \\n/*\\\\-]{0,60}") {
            let strict = serde_json::from_str::<serde_json::Value>(&value).ok();
            if let Some(strict) = strict {
                let compacted = json(&value).map(|text| serde_json::from_str::<serde_json::Value>(&text).expect("json"));
                prop_assert_eq!(compacted, Some(strict));
            }
        }

        #[test]
        fn arbitrary_bytes_are_kept(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            match Body::parse(&bytes, MAX) {
                Body::Empty => prop_assert!(bytes.is_empty()),
                Body::Json(_) => {}
                Body::Text(text) => prop_assert_eq!(text.into_bytes(), bytes),
                Body::Bytes(kept) => prop_assert_eq!(kept, bytes),
            }
        }
    }
}

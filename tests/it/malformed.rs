//! What Chat never sends, or should not: every authentic callback is answered in the contract and recorded, and what
//! is not from Chat is turned away.

use portcullis_schema::AuditRecord;
use serde_json::Value;

use crate::support::{CREATE_TOPIC, Callback, Kafka, Kept, Site, TOKEN, Topic, head};

/// `receiver.body_bytes_max`.
const BODY_BYTES_MAX: usize = 64 << 10;

const CHUNKED: &str = "Transfer-Encoding: chunked";

/// A body that an authentic callback of topic creation has, and what its record must say.
struct Oddity {
    name: &'static str,
    body: Vec<u8>,
    framing: Framing,
    holds: fn(&AuditRecord) -> bool,
}

/// How the body is sent.
#[derive(Clone, Copy)]
enum Framing {
    Length,
    Chunked,
    /// The length is announced, half of it comes.
    Stalled,
    /// In chunks, of which the second has no length.
    BrokenChunk,
    /// Behind a query of 40,000 characters and 200 headers.
    HugeHead,
}

const FILLER: usize = 40_000;

fn oddities() -> Vec<Oddity> {
    let plain = |name, body: &str, holds| Oddity {
        name,
        body: body.into(),
        framing: Framing::Length,
        holds,
    };
    let framed = |name, framing, holds| Oddity {
        name,
        body: br#"{"Operator_Account":"odd","Name":"whole"}"#.to_vec(),
        framing,
        holds,
    };
    vec![
        Oddity {
            body: b"{\"Operator_Account\":\"odd\",\"Name\":\"\xff\xfe\"}".to_vec(),
            ..plain("no-utf8", "", |record| {
                read(record, Some("odd"), Some("\u{fffd}\u{fffd}")) && record.body_base64.is_some()
            })
        },
        Oddity {
            body: b"\xff\xfe{\"".to_vec(),
            ..plain("bytes", "", |record| {
                rejected(record, "unreadable") && record.body_base64.is_some()
            })
        },
        plain(
            "control-characters",
            "{\"Operator_Account\":\"odd\",\"Name\":\"a\n\u{1}b\"}\u{0}",
            |record| read(record, Some("odd"), Some("a\n\u{1}b")) && record.body_text.is_some(),
        ),
        plain(
            "lone-surrogate-in-a-key",
            r#"{"\ud800":1,"Operator_Account":"odd","Name":"x"}"#,
            |record| read(record, Some("odd"), Some("x")),
        ),
        plain("empty", "", |record| rejected(record, "unreadable")),
        plain("no-json", "a=b&c=d", |record| {
            rejected(record, "unreadable") && record.body_text.as_deref() == Some("a=b&c=d")
        }),
        plain("cut-json", "{\"Operator_Account\":\"odd\"", |record| {
            rejected(record, "unreadable")
        }),
        plain("deep", &"[".repeat(10_000), |record| {
            rejected(record, "unreadable") && record.body_text.as_deref().map(str::len) == Some(10_000)
        }),
        plain("deep-and-closed", &deep(100), |record| rejected(record, "unreadable")),
        Oddity {
            body: vec![b' '; 100],
            ..plain("blank", "", |record| rejected(record, "unreadable"))
        },
        plain("no-object", "[1,2]", |record| read(record, None, None)),
        plain(
            "lone-surrogate",
            r#"{"Operator_Account":"odd","Name":"\ud800x"}"#,
            |record| read(record, Some("odd"), Some("\u{fffd}x")) && body(record).contains(r"\ud800x"),
        ),
        plain(
            "repeated-keys",
            r#"{"Operator_Account":"first","Operator_Account":"odd","Name":"x"}"#,
            |record| read(record, Some("odd"), Some("x")) && body(record).contains("first"),
        ),
        plain("name-is-a-number", r#"{"Operator_Account":"odd","Name":5}"#, |record| {
            read(record, Some("odd"), Some("5"))
        }),
        plain("name-is-null", r#"{"Operator_Account":"odd","Name":null}"#, |record| {
            read(record, Some("odd"), None)
        }),
        plain(
            "name-is-an-object",
            r#"{"Operator_Account":"odd","Name":{"a":[]}}"#,
            |record| read(record, Some("odd"), None),
        ),
        plain(
            "another-command",
            r#"{"CallbackCommand":"Some.Other","Operator_Account":"odd"}"#,
            |record| {
                read(record, Some("odd"), None)
                    && record.command == CREATE_TOPIC
                    && record.body_command.as_deref() == Some("Some.Other")
            },
        ),
        Oddity {
            body: vec![b'x'; BODY_BYTES_MAX + 1],
            ..plain("a-byte-too-large", "", too_large)
        },
        Oddity {
            body: vec![b'x'; 3 << 20],
            ..plain("far-too-large", "", too_large)
        },
        framed("chunked", Framing::Chunked, |record| {
            read(record, Some("odd"), Some("whole"))
        }),
        framed("broken-chunk", Framing::BrokenChunk, |record| {
            rejected(record, "stalled") && record.body_text.as_deref() == Some("{\"")
        }),
        framed("huge-head", Framing::HugeHead, |record| {
            read(record, Some("odd"), Some("whole")) && record.query["filler"].len() == FILLER
        }),
        framed("stalled", Framing::Stalled, |record| {
            rejected(record, "stalled") && record.body_text.as_deref() == Some(r#"{"Operator_Account":"#)
        }),
    ]
}

#[test]
fn whatever_an_authentic_callback_is_it_is_answered_and_recorded() {
    let site = Site::at(Kafka::start());
    let receiver = site.receiver().ready();
    let mut caller = site.caller();
    let oddities = oddities();
    for oddity in &oddities {
        let answer = caller.send(&oddity.request());
        assert_eq!(answer.code(), 0, "{}", oddity.name);
        // Else the rest of the body would be read as the next request.
        let unfinished = matches!(oddity.framing, Framing::Stalled | Framing::BrokenChunk);
        assert_eq!(answer.closes(), unfinished, "{}", oddity.name);
    }

    let mut topic = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
    let kept = topic.read_until("a record of each", |kept| kept.len() >= oddities.len());
    for oddity in &oddities {
        let mut records = kept.iter().map(Kept::record);
        let record = records.find(|record| record.query.get("oddity").map(String::as_str) == Some(oddity.name));
        let record = record.unwrap_or_else(|| panic!("{} is not recorded", oddity.name));
        assert!(
            record.authentic && (oddity.holds)(&record),
            "{}: {record:?}",
            oddity.name
        );
    }
    assert_eq!(receiver.metric("receiver_lost_total"), 0.0);
}

#[test]
fn what_is_not_from_chat_is_turned_away_and_recorded_as_that() {
    let site = Site::at(Kafka::start());
    let _receiver = site.receiver().ready();
    let mut caller = site.caller();
    let callback = Callback::topic("forger", "x").parameter("marked", "yes");
    let now = |apart: i64| {
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        now.expect("after 1970").as_secs().saturating_add_signed(apart)
    };
    let right = callback.target();
    let (path, query) = right.split_once('?').expect("a query");
    let without = |name: &str| {
        let kept: Vec<&str> = query
            .split('&')
            .filter(|parameter| !parameter.starts_with(name))
            .collect();
        format!("{path}?{}", kept.join("&"))
    };
    let forged = [
        ("another token", callback.target_signed(now(0), "another token")),
        ("a stale time", callback.target_signed(now(-120), TOKEN)),
        ("a time to come", callback.target_signed(now(120), TOKEN)),
        ("no signature", without("Sign=")),
        ("no time", without("RequestTime=")),
        ("no app", without("SdkAppid=")),
        (
            "a repeated command",
            format!("{right}&CallbackCommand=Group.CallbackAfterCreateTopic"),
        ),
        ("a repeated app", format!("{right}&SDKAPPID=1400000001")),
        (
            "an unknown app",
            right.replace("SdkAppid=1400000001", "SdkAppid=1400000002"),
        ),
        (
            "no number as an app",
            right.replace("SdkAppid=1400000001", "SdkAppid=x"),
        ),
    ];
    for (what, target) in &forged {
        let length = format!("Content-Length: {}", callback.body().len());
        let answer = caller.send(&[&head("POST", target, &length), callback.body()].concat());
        assert_eq!(answer.status, 403, "{what}");
        let reason: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert!(reason["error"].is_string(), "{what}: {reason}");
    }
    assert_eq!(caller.post(&callback).code(), 0, "the same caller, authentic");

    let mut topic = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
    let kept = topic.read_until("a record of each", |kept| kept.len() > forged.len());
    let records = kept.iter().map(Kept::record);
    let (authentic, forgeries): (Vec<_>, Vec<_>) = records.partition(|record| record.authentic);
    assert_eq!((authentic.len(), forgeries.len()), (1, forged.len()));
    for record in forgeries {
        assert!(rejected(&record, "forged") && record.decision.is_none(), "{record:?}");
        assert_eq!(record.query["marked"], "yes");
        assert_eq!(record.operator, None);
    }
}

#[test]
fn what_is_no_callback_gets_a_calm_answer() {
    let site = Site::at(Kafka::start());
    let _receiver = site.receiver().ready();
    let mut caller = site.caller();
    let signed = Callback::topic("a", "b").target();
    for (method, target, status) in [
        ("GET", "/", 200),
        ("GET", "/favicon.ico?x=1", 200),
        ("GET", signed.as_str(), 200),
        ("HEAD", "/", 200),
        ("POST", "/", 200),
        ("POST", "/?some=probe", 200),
        ("PUT", "/", 405),
        ("DELETE", signed.as_str(), 405),
        ("OPTIONS", "/", 405),
        ("PATCH", "/", 405),
    ] {
        let framing = if method == "POST" { "Content-Length: 0" } else { "" };
        let answer = caller.send(&head(method, target, framing));
        assert_eq!(answer.status, status, "{method} {target}");
        if method != "HEAD" {
            let body: Value = serde_json::from_str(&answer.body).expect("JSON");
            assert!(body.is_object(), "{method} {target}");
        }
    }
}

impl Oddity {
    fn request(&self) -> Vec<u8> {
        let callback = Callback::new(CREATE_TOPIC, "").parameter("oddity", self.name);
        let target = match self.framing {
            Framing::HugeHead => callback.parameter("filler", &"x".repeat(FILLER)).target(),
            _ => callback.target(),
        };
        let length = format!("Content-Length: {}", self.body.len());
        let crowded = length.clone() + &"\r\nX-Filler: x".repeat(200);
        let (framing, body) = match self.framing {
            Framing::Length => (length.as_str(), self.body.clone()),
            Framing::Stalled => (length.as_str(), self.body[..self.body.len() / 2].to_vec()),
            Framing::HugeHead => (crowded.as_str(), self.body.clone()),
            Framing::Chunked => (CHUNKED, chunked(&self.body)),
            Framing::BrokenChunk => (CHUNKED, b"2\r\n{\"\r\nno length\r\n".to_vec()),
        };
        [head("POST", &target, framing), body].concat()
    }
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut chunks = Vec::new();
    for chunk in body.chunks(7) {
        chunks.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        chunks.extend(chunk);
        chunks.extend(b"\r\n");
    }
    chunks.extend(b"0\r\n\r\n");
    chunks
}

fn deep(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

fn rejected(record: &AuditRecord, reason: &str) -> bool {
    record.rejection.as_deref() == Some(reason)
}

fn too_large(record: &AuditRecord) -> bool {
    rejected(record, "too_large") && record.body_text.as_deref().map(str::len) == Some(BODY_BYTES_MAX)
}

fn read(record: &AuditRecord, operator: Option<&str>, name: Option<&str>) -> bool {
    record.rejection.is_none() && record.operator.as_deref() == operator && record.name.as_deref() == name
}

fn body(record: &AuditRecord) -> &str {
    record.body.as_deref().map_or("", |body| body.get())
}

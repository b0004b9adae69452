//! Whatever comes in, as long as it is HTTP: what is from Chat is answered in the contract of its command and recorded,
//! and nothing else is taken for it.

use std::collections::BTreeSet;
use std::time::SystemTime;

use portcullis_schema::{Command, CommandKind};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::support::{APP, Callback, Caller, Kafka, Kept, Site, TOKEN, Topic, head};

#[allow(dead_code)] // what the play tells of it besides
#[path = "../../src/simulate/contract.rs"]
mod contract;

use contract::{Answer, Asked, check};

const CASES: u32 = 400;

#[derive(Clone, Debug)]
struct Request {
    command: String,
    parameters: Vec<(String, String)>,
    forgery: Option<Forgery>,
    headers: Vec<(String, String)>,
    body: Sent,
    chunk: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Forgery {
    Unsigned,
    AnotherToken,
    Old,
    Twice,
    AnotherApp,
}

#[derive(Clone, Debug)]
struct Sent {
    bytes: Vec<u8>,
    /// The friends that it is about.
    friends: Vec<String>,
}

fn request() -> impl Strategy<Value = Request> {
    let known: Vec<String> = CommandKind::ALL.iter().map(|kind| kind.name().to_owned()).collect();
    let command = prop_oneof![4 => prop::sample::select(known), 1 => "[A-Za-z0-9.%+_-]{1,40}"];
    let text = "[A-Za-z0-9.%+_~-]{0,20}";
    let parameters = prop::collection::vec(("[A-Za-z]{1,10}", text), 0..5);
    let forgeries = vec![
        Forgery::Unsigned,
        Forgery::AnotherToken,
        Forgery::Old,
        Forgery::Twice,
        Forgery::AnotherApp,
    ];
    let forgery = prop::option::weighted(0.2, prop::sample::select(forgeries));
    let header = ("[Xx]-[A-Za-z0-9-]{1,20}", "[ -~]{0,60}");
    let said = prop::sample::select(vec![
        ("Content-Type", "text/plain; charset=utf-16"),
        ("Content-Encoding", "gzip"),
        ("Content-Encoding", "br, gzip"),
        ("Accept", "text/html"),
        ("Accept-Encoding", "gzip"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("Upgrade", "h2c"),
        ("TE", "trailers"),
    ]);
    let said = said.prop_map(|(name, value)| (name.to_owned(), value.to_owned()));
    let headers = prop::collection::vec(prop_oneof![3 => header, 2 => said], 0..6);
    (
        command,
        parameters,
        forgery,
        headers,
        body(),
        prop::option::of(1..200_usize),
    )
        .prop_map(|(command, parameters, forgery, headers, body, chunk)| Request {
            command,
            parameters,
            forgery,
            headers,
            body,
            chunk,
        })
}

fn body() -> impl Strategy<Value = Sent> {
    let plain = |bytes| Sent {
        bytes,
        friends: Vec::new(),
    };
    let bytes = prop::collection::vec(any::<u8>(), 0..400).prop_map(plain);
    let texts = "\\PC{0,200}".prop_map(move |text| plain(text.into_bytes()));
    let fields = prop::collection::btree_map(prop::sample::select(FIELDS.to_vec()), value(), 0..8);
    let fields = fields.prop_map(move |fields| plain(serde_json::to_vec(&fields).expect("JSON")));
    let friends = prop::collection::vec("\\PC{0,12}", 1..6).prop_map(|friends| {
        let items: Vec<Value> = friends
            .iter()
            .map(|friend| json!({"To_Account": friend, "AddWording": "hi"}))
            .collect();
        let body = json!({"From_Account": "leckie", "Requester_Account": "leckie", "FriendItem": items, "ResponseFriendItem": items});
        Sent {
            bytes: body.to_string().into_bytes(),
            friends,
        }
    });
    prop_oneof![bytes, texts, fields, friends]
}

/// What bodies have, but whom they are about.
const FIELDS: [&str; 9] = [
    "CallbackCommand",
    "Operator_Account",
    "From_Account",
    "Requestor_Account",
    "Name",
    "Type",
    "EventTime",
    "MsgBody",
    "CloudCustomData",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,30}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[A-Za-z]{1,8}", inner, 0..4)
                .prop_map(|fields| Value::from_iter(fields.into_iter())),
        ]
    })
}

impl Request {
    fn bytes(&self) -> Vec<u8> {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970");
        let seconds = now.as_secs();
        let mut callback = Callback::new(&self.command, self.body.bytes.clone());
        for (name, value) in &self.parameters {
            callback = callback.parameter(name, value);
        }
        let signed = callback.target_signed(seconds, TOKEN);
        let target = match self.forgery {
            None => signed,
            Some(Forgery::Unsigned) => signed.split("&Sign=").next().unwrap_or_default().to_owned(),
            Some(Forgery::AnotherToken) => callback.target_signed(seconds, "a token of somebody else"),
            Some(Forgery::Old) => callback.target_signed(seconds - 3_600, TOKEN),
            Some(Forgery::Twice) => format!("{signed}&Sign=0"),
            Some(Forgery::AnotherApp) => signed.replace(&APP.to_string(), "5"),
        };
        let (framing, body) = match self.chunk {
            None => (
                format!("Content-Length: {}", self.body.bytes.len()),
                self.body.bytes.clone(),
            ),
            Some(chunk) => {
                let mut body = Vec::new();
                for part in self.body.bytes.chunks(chunk) {
                    body.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                    body.extend_from_slice(part);
                    body.extend_from_slice(b"\r\n");
                }
                body.extend_from_slice(b"0\r\n\r\n");
                ("Transfer-Encoding: chunked".to_owned(), body)
            }
        };
        let headers = self.headers.iter().map(|(name, value)| format!("\r\n{name}: {value}"));
        let lines: String = std::iter::once(framing).chain(headers).collect();
        [head("POST", &target, &lines), body].concat()
    }

    /// Names that a callback of Chat has anyway: a second one of them is what a forger would send.
    fn repeats(&self) -> bool {
        const OWN: [&str; 7] = [
            "sdkappid",
            "callbackcommand",
            "contenttype",
            "clientip",
            "optplatform",
            "sign",
            "requesttime",
        ];
        let mut seen: BTreeSet<String> = OWN.iter().map(|name| (*name).to_owned()).collect();
        self.parameters
            .iter()
            .any(|(name, _)| !seen.insert(name.to_lowercase()))
    }
}

#[test]
fn whatever_comes_from_chat_is_answered_in_its_contract_and_recorded_and_nothing_else_is_taken_for_it() {
    let site = Site::at(Kafka::start());
    let receiver = site.receiver().ready();
    site.moderate("deny", &["--operator", "leckie", "--code", "10150", "--text", "no"]);
    let mut from_chat = 0;
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    });
    let caller = std::cell::RefCell::new(site.caller());
    let counted = std::cell::Cell::new(0_usize);
    let ran = runner.run(&request(), |request| {
        prop_assume!(!request.repeats());
        let authentic = request.forgery.is_none();
        let answer = ask(&mut caller.borrow_mut(), &request);
        if authentic {
            counted.set(counted.get() + 1);
        }
        let asked = Asked {
            command: Command::parse(&decoded(&request.command)),
            about: request.body.friends.clone(),
            from_chat: authentic,
        };
        let checked = check(&asked, &answer);
        prop_assert!(
            checked.is_ok(),
            "{checked:?} by {}",
            String::from_utf8_lossy(&answer.body)
        );
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
    from_chat += counted.get();
    assert!(from_chat > CASES as usize / 2);
    let mut topic = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
    let authentic = |kept: &[Kept]| kept.iter().filter(|kept| kept.record().authentic).count();
    let kept = topic.read_until("every one is recorded", |kept| authentic(kept) >= from_chat);
    assert_eq!(authentic(kept), from_chat);
    receiver.stop();
}

fn ask(caller: &mut Caller, request: &Request) -> Answer {
    let answer = caller.send(&request.bytes());
    let content_type = answer
        .headers
        .iter()
        .find_map(|header| header.strip_prefix("content-type: "));
    Answer {
        status: answer.status,
        content_type: content_type.unwrap_or_default().to_owned(),
        body: answer.body.into_bytes(),
    }
}

/// As a query is read.
fn decoded(text: &str) -> String {
    let pair = format!("a={text}");
    let read = form_urlencoded::parse(pair.as_bytes()).next();
    read.map(|(_, value)| value.into_owned()).unwrap_or_default()
}

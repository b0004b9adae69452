//! A body of any bytes, of any command: it is decided about and kept whole, and what is answered the command can carry.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portcullis_receiver::callback::{Body, Callback, Caller, Query};
use portcullis_receiver::decision::{Decisions, Question};
use portcullis_receiver::{Fallback, Tokens};
use portcullis_schema::{AppId, AuditRecord, Command, CommandKind, Effect, Shape, Timestamp, Verdict};

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
const BODY_BYTES_MAX: usize = 64 << 10;
/// Escaped, every byte takes six at the most; operator and judged text stand beside the body once more.
const GROWTH_MAX: usize = 20;

/// Verdicts that much of what comes in meets.
static DECISIONS: LazyLock<Decisions> = LazyLock::new(|| {
    let (decisions, mut keeper) = Decisions::new(1_000, Fallback::default());
    for (kind, value) in [
        ("operator", "leckie"),
        ("name", "free"),
        ("term", "coin"),
        ("client_ip", "192.0.2.0/24"),
    ] {
        let json = format!(
            r#"{{"id":"01935e1c-7d3a-7000-8000-000000000001","app":1,"subject":{{"kind":"{kind}","value":"{value}"}},
            "effect":"drop","code":10150,"text":"no","source":"rule","issued_at":"2023-11-14T22:13:20.000000Z"}}"#
        );
        keeper.put(&Verdict::decode(json.as_bytes()).expect("a verdict"), NOW);
    }
    keeper.settle(&[1]);
    keeper.warm();
    decisions
});

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else {
        return;
    };
    let kind = CommandKind::ALL[usize::from(*choice) % CommandKind::ALL.len()];
    let raw = format!("SdkAppid=1&CallbackCommand={}&ClientIP=192.0.2.7", kind.name());
    let mut query = Query::parse(&raw);
    let apps = BTreeMap::from([(AppId(1), Tokens::new(Vec::new()))]);
    let caller = Caller::authenticate(&mut query, &apps, NOW).expect("unsigned callbacks are taken");
    let callback = Callback::new(caller, query.into_others(), Body::parse(bytes, BODY_BYTES_MAX));
    let question = Question {
        app: callback.app(),
        command: callback.command(),
        operator: callback.operator(),
        client_ip: callback.client_ip(),
        name: callback.name(),
        items: &callback.items,
        readable: callback.is_json,
    };
    let decision = DECISIONS.decide(&question, NOW);
    let command = Command::Known(kind);
    match command.refusal() {
        None => assert!(decision.code.is_none() && decision.effect == Effect::Allow),
        Some(refusal) => {
            if decision.effect == Effect::Deny {
                assert!(refusal.codes.carry(decision.code.expect("a refusal has a code")));
            }
            for item in &decision.refused {
                assert!(refusal.shape != Shape::Whole && refusal.codes.carry(item.code));
                assert_eq!(callback.items[item.index].account, item.account);
            }
        }
    }
    let mut record = blank();
    record.operator = callback.operator().map(str::to_owned);
    record.name = callback.name().map(str::to_owned);
    let is_json = callback.is_json;
    callback.body.keep_in(&mut record);
    let kept = [
        record.body.is_some(),
        record.body_text.is_some(),
        record.body_base64.is_some(),
    ];
    assert!(kept.iter().filter(|kept| **kept).count() <= 1, "kept once");
    assert!(is_json || record.body.is_none(), "what is kept as JSON can be read");
    let json = record.encode().expect("encodes");
    assert!(
        json.len() <= 4_096 + GROWTH_MAX * bytes.len(),
        "{} bytes of {}",
        json.len(),
        bytes.len()
    );
    let again = AuditRecord::decode(&json).expect("decodes");
    assert_eq!(again.encode().expect("encodes"), json);
});

fn blank() -> AuditRecord {
    let json = br#"{"id":"01935e1c-7d3a-7000-8000-000000000001","receiver":"r","boot":"01935e1c-7d3a-7000-8000-000000000001",
        "seq":0,"received_at":"2023-11-14T22:13:20.000000Z","command":"c","authentic":true,"query":{},"rung":"normal"}"#;
    AuditRecord::decode(json).expect("a record")
}

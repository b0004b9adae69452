//! Records and rules as the tests write them.

use std::time::Duration;

use portcullis_schema::{AppId, AuditRecord, Timestamp, id};
use portcullis_worker::Rules;
use serde_json::{Value, json};

pub(crate) const APP: AppId = AppId(1_400_000_001);
pub(crate) const TOPIC: &str = "Group.CallbackBeforeCreateTopic";

/// A fixed moment, plus `seconds`.
pub(crate) fn at(seconds: f64) -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000).after(Duration::from_secs_f64(seconds))
}

/// An authentic callback of `operator` that was let through, `number` its identity.
pub(crate) fn record(number: u64, operator: &str, at: Timestamp) -> AuditRecord {
    record_with(number, at, json!({ "operator": operator }))
}

/// The same with fields of its own, which win.
pub(crate) fn record_with(number: u64, at: Timestamp, fields: Value) -> AuditRecord {
    let mut record = json!({
        "id": id::derived(at, &[b"record", &number.to_be_bytes()]), "receiver": "receiver-1",
        "boot": "00000000-0000-4000-8000-000000000000", "seq": number, "received_at": at, "app": APP,
        "command": TOPIC, "authentic": true, "decision": { "effect": "allow", "by": "default" }, "rung": "normal",
    });
    let (Some(record_fields), Value::Object(fields)) = (record.as_object_mut(), fields) else {
        panic!("fields are an object");
    };
    record_fields.extend(fields);
    // As it comes from Kafka: a raw body is read from text only.
    AuditRecord::decode(record.to_string().as_bytes()).expect("a record")
}

pub(crate) fn rules(text: &str) -> Rules {
    Rules::read("rules.toml", text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// An enforced rule: five by operator in a minute, unless `changes` says otherwise.
pub(crate) fn rule(name: &str, changes: &[(&str, &str)]) -> String {
    let mut lines = vec![
        ("name", format!("{name:?}")),
        ("commands", format!("[{TOPIC:?}]")),
        ("by", "\"operator\"".to_owned()),
        ("window", "\"60s\"".to_owned()),
        ("threshold", "5".to_owned()),
        ("mode", "\"enforce\"".to_owned()),
        (
            "verdict",
            "{ effect = \"deny\", code = 10101, text = \"later\", for = \"10m\" }".to_owned(),
        ),
    ];
    for (key, value) in changes {
        lines.retain(|(other, _)| other != key);
        lines.push((key, (*value).to_owned()));
    }
    let lines: Vec<String> = lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    format!("[[rule]]\n{}", lines.concat())
}

//! What goes back to Chat, and what is kept of it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use portcullis_schema::{AuditRecord, DecidedBy, Effect};
use serde_json::{Value, json};

use crate::support::{APP, Answer, Callback, Caller, Kafka, Kept, PATIENCE, Site, TOKEN, Topic, head, wait_until};

/// The sample of Chat's page "Before a Topic Is Created", comments included.
const SAMPLE: &str = r#"{
"CallbackCommand": "Group.CallbackBeforeCreateTopic", // Callback command
"Operator_Account": "leckie", // Operator
"Type": "Community", // Group type
"Name": "MyFirstTopic" // Group name
}"#;
const GO_ON: &str = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#;
const IN_FORCE_MAX: Duration = Duration::from_secs(30);

#[test]
fn a_caller_that_has_ended_its_own_side_is_answered_all_the_same() {
    let site = Site::at(Kafka::start());
    let receiver = site.receiver().ready();
    let request = Callback::topic("leckie", "MyFirstTopic").request();
    for sent in [request.as_slice(), &request[..request.len() - 1]] {
        let mut stream = TcpStream::connect(site.listen()).expect("a connection");
        stream.write_all(sent).expect("written");
        stream.shutdown(Shutdown::Write).expect("ended");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer, and then the end");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:?}");
        assert!(answer.ends_with(GO_ON), "{answer:?}");
    }
    receiver.stop();
}

#[test]
fn the_sample_of_the_protocol_page_may_go_on_and_is_recorded_whole() {
    let site = Site::at(Kafka::start());
    let _receiver = site.receiver().ready();
    let mut caller = site.caller();
    let paths = ["/", "/any/path", "/index.php"];
    for path in paths {
        let answer = caller.post(&Callback::new("Group.CallbackBeforeCreateTopic", SAMPLE).path(path));
        assert_eq!((answer.status, answer.body.as_str()), (200, GO_ON), "{path}");
        assert_eq!(answer.code(), 0);
    }

    let mut topic = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
    let kept = topic.read_until("a record of each", |kept| kept.len() >= paths.len());
    for message in kept {
        let record: Value = serde_json::from_str(&message.value).expect("JSON");
        assert_eq!(
            record["body"],
            json!({
                "CallbackCommand": "Group.CallbackBeforeCreateTopic", "Operator_Account": "leckie",
                "Type": "Community", "Name": "MyFirstTopic",
            })
        );
        for (field, value) in [
            ("app", json!(APP)),
            ("command", json!("Group.CallbackBeforeCreateTopic")),
            ("authentic", json!(true)),
            ("operator", json!("leckie")),
            ("name", json!("MyFirstTopic")),
            ("client_ip", json!("203.0.113.7")),
            ("platform", json!("iOS")),
            ("receiver", json!("receiver-1")),
            ("rung", json!("normal")),
        ] {
            assert_eq!(record[field], value, "{field}");
        }
        assert_eq!(record["decision"]["effect"], "allow");
        assert_eq!(record["decision"]["by"], "default");
        assert_eq!(record["query"]["contenttype"], "json");
        assert!(record["query"]["RequestTime"].is_string(), "{record}");

        assert_eq!(message.key, "1400000001/leckie");
        let received_at = message.record().received_at;
        assert_eq!(message.at_millis, Some(received_at.as_millis()));
        let text = |field: &str| record[field].as_str().expect(field).to_owned();
        let headers = [
            ("ce_specversion", "1.0".to_owned()),
            ("ce_id", text("id")),
            ("ce_type", "portcullis.callback.recorded".to_owned()),
            ("ce_source", "/receivers/receiver-1".to_owned()),
            ("ce_time", text("received_at")),
            ("content-type", "application/json".to_owned()),
        ];
        assert_eq!(
            message.headers,
            headers.map(|(name, value)| (name.to_owned(), value)).into()
        );
        assert_eq!(message.record().boot, kept[0].record().boot);
    }
    // They have one key, so they lie on one partition, in order.
    let sequence: Vec<u64> = kept.iter().map(|message| message.record().seq).collect();
    assert_eq!(sequence, [0, 1, 2]);
}

#[test]
fn every_record_is_there_once_when_every_start_ends_in_order() {
    let site = Site::at(Kafka::start());
    for start in 0..3 {
        let receiver = site.receiver().ready();
        let mut caller = site.caller();
        for number in 0..20 {
            let callback = Callback::topic(&format!("user-{number}"), &format!("start {start}"));
            assert_eq!(caller.post(&callback).code(), 0);
        }
        receiver.stop();
    }
    let mut topic = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
    let mut records: Vec<AuditRecord> = topic.read_to_end().iter().map(Kept::record).collect();
    records.sort_by_key(|record| (record.boot, record.seq));
    let sequence: Vec<u64> = records.iter().map(|record| record.seq).collect();
    let dense: Vec<u64> = (0..3).flat_map(|_| 0..20).collect();
    assert_eq!(sequence, dense);
}

#[test]
fn neither_a_signature_nor_a_token_is_ever_recorded() {
    let site = Site::at(Kafka::start());
    let _receiver = site.receiver().ready();
    let mut caller = site.caller();
    // Some projects put a token into the URL that Chat is told.
    let in_the_url = Callback::topic("a", "b").parameter("token", TOKEN);
    let target = in_the_url.target();
    let sign = target
        .split('&')
        .find_map(|parameter| parameter.strip_prefix("Sign="))
        .expect("a signature");
    caller.post(&in_the_url);
    let forged = target.replace(sign, &sign.replace(['0', '1', '2'], "3"));
    let refused = caller.send(&head("POST", &forged, "Content-Length: 0"));
    assert_eq!(refused.status, 403);

    let mut topic = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
    let kept = topic.read_until("both records", |kept| kept.len() >= 2);
    for message in kept {
        let all = format!("{message:?}");
        for secret in [TOKEN, sign, "Sign\"", "3333"] {
            assert!(!all.contains(secret), "{secret} in {all}");
        }
    }
}

#[test]
fn a_moderators_refusal_reaches_the_caller_in_the_codes_that_the_command_has() {
    let site = Site::at(Kafka::start());
    let _receiver = site.receiver().ready();
    let mut caller = site.caller();
    let topic = "Group.CallbackBeforeCreateTopic";
    let verdicts: [(&str, &[&str], (i64, &str)); 4] = [
        ("plain", &[], (1, "")),
        (
            "lowest",
            &["--code", "10100", "--text", "not today"],
            (10_100, "not today"),
        ),
        (
            "highest",
            &["--code", "10200", "--command", topic, "--text", "\"ñ\" \u{1f6ab}"],
            (10_200, "\"ñ\" \u{1f6ab}"),
        ),
        ("without-text", &["--code", "10150"], (10_150, "")),
    ];
    for (operator, reply, refusal) in verdicts {
        site.moderate("deny", &[&["--operator", operator], reply].concat());
        let answer = refused(&mut caller, &Callback::topic(operator, "x"));
        let (code, text) = answer.refusal();
        assert_eq!((code, text.as_str()), refusal, "{operator}");
    }

    // A verdict without commands is about all that can be refused, one with commands about these.
    let group = |operator: &str| {
        let body = json!({"Operator_Account": operator, "Type": "Public", "Name": "x"}).to_string();
        Callback::new("Group.CallbackBeforeCreateGroup", body)
    };
    assert_eq!(caller.post(&group("lowest")).code(), 10_100);
    assert_eq!(caller.post(&group("highest")).body, GO_ON);
    // What only tells, and what nobody knows, goes on whoever it is.
    for command in [
        "Group.CallbackAfterCreateTopic",
        "State.StateChange",
        "Some.NewCommand",
        "",
    ] {
        let told = Callback::new(command, json!({"Operator_Account": "lowest"}).to_string());
        assert_eq!(caller.post(&told).body, GO_ON, "{command:?}");
    }

    let mut records = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
    let of_plain = |kept: &Kept| kept.key.ends_with("/plain");
    let kept = records.read_until("the refusal's record", |kept| {
        kept.iter()
            .filter(|kept| of_plain(kept))
            .any(|kept| kept.record().decision.is_some_and(|decision| decision.code == Some(1)))
    });
    let last = kept.iter().rfind(|kept| of_plain(kept)).expect("read").record();
    let decision = last.decision.expect("a decision");
    assert_eq!((decision.effect, decision.by), (Effect::Deny, DecidedBy::Moderator));
    let held = site.held();
    let plain = held
        .iter()
        .find(|verdict| verdict["subject"]["value"] == "plain")
        .expect("held");
    assert_eq!(json!(decision.verdict), plain["id"]);
}

#[track_caller]
fn refused(caller: &mut Caller, callback: &Callback) -> Answer {
    let mut answer = caller.post(callback);
    wait_until("the callback is refused", IN_FORCE_MAX, || {
        answer = caller.post(callback);
        answer.code() != 0
    });
    answer
}

//! Each command that can be refused, in the samples of Chat's own pages and in its own shape of an answer.

use portcullis_schema::{Timestamp, Verdict, id};
use serde_json::{Value, json};

use crate::support::{APP, Callback, Kafka, PATIENCE, Site, publish, wait_until};

/// The command, a body by `mallory`, and how it is answered when nobody, and when `mallory`, is denied with 10150,
/// 120500 and 38500 in three verdicts, one for each range of codes.
struct Case {
    command: &'static str,
    body: Value,
    allowed: Value,
    refused: Value,
}

fn ok() -> Value {
    whole(0, "")
}

fn whole(code: u32, text: &str) -> Value {
    json!({"ActionStatus": "OK", "ErrorInfo": text, "ErrorCode": code})
}

fn friends(results: Value) -> Value {
    json!({"ActionStatus": "OK", "ErrorInfo": "", "ErrorCode": 0, "ResultItem": results})
}

fn case(command: &'static str, body: Value, refused: Value) -> Case {
    Case {
        command,
        body,
        allowed: ok(),
        refused,
    }
}

fn cases() -> Vec<Case> {
    let message = json!([{"MsgType": "TIMTextElem", "MsgContent": {"Text": "red packet"}}]);
    vec![
        case(
            "Group.CallbackBeforeCreateTopic",
            json!({"Operator_Account": "mallory", "Type": "Community", "Name": "MyFirstTopic"}),
            whole(10_150, "no"),
        ),
        case(
            "Group.CallbackBeforeCreateGroup",
            json!({"Operator_Account": "mallory", "Owner_Account": "leckie", "Type": "Public", "Name": "MyFirstGroup",
                "CreateGroupNum": 123, "MemberList": [{"Member_Account": "bob"}], "EventTime": "1670574414123"}),
            whole(10_150, "no"),
        ),
        case(
            "Group.CallbackBeforeApplyJoinGroup",
            json!({"GroupId": "@TGS#2J4SZEAEL", "Type": "Public", "Requestor_Account": "mallory"}),
            whole(10_150, "no"),
        ),
        case(
            "Group.CallbackBeforeInviteJoinGroup",
            json!({"GroupId": "@TGS#2J4SZEAEL", "Type": "Public", "Operator_Account": "leckie",
                "DestinationMembers": [{"Member_Account": "jared"}, {"Member_Account": "mallory"}]}),
            json!({"ActionStatus": "OK", "ErrorInfo": "", "ErrorCode": 0, "RefusedMembers_Account": ["mallory"]}),
        ),
        case(
            "Group.CallbackBeforeSendMsg",
            json!({"GroupId": "@TGS#2J4SZEAEL", "Type": "Live", "From_Account": "mallory",
                "Operator_Account": "admin", "Random": 123_456, "OnlineOnlyFlag": 1, "MsgBody": message}),
            whole(10_150, "no"),
        ),
        case(
            "C2C.CallbackBeforeSendMsg",
            json!({"From_Account": "mallory", "To_Account": "jared", "MsgSeq": 48_374, "MsgRandom": 4_294_967_295_u32,
                "MsgTime": 1_557_481_126, "MsgKey": "48374_1", "OnlineOnlyFlag": 1, "MsgBody": message}),
            whole(120_500, "no"),
        ),
        Case {
            command: "Sns.CallbackPrevFriendAdd",
            body: json!({"Requester_Account": "mallory", "From_Account": "mallory", "EventTime": 1_631_777_344_870_u64,
                "FriendItem": [{"To_Account": "id1", "AddWording": "hi"}, {"To_Account": "id2"}]}),
            allowed: friends(json!([
                {"To_Account": "id1", "ResultCode": 0, "ResultInfo": ""},
                {"To_Account": "id2", "ResultCode": 0, "ResultInfo": ""},
            ])),
            refused: friends(json!([
                {"To_Account": "id1", "ResultCode": 38_500, "ResultInfo": "no"},
                {"To_Account": "id2", "ResultCode": 38_500, "ResultInfo": "no"},
            ])),
        },
        Case {
            command: "Sns.CallbackPrevFriendResponse",
            body: json!({"Requester_Account": "mallory", "From_Account": "mallory", "ResponseFriendItem": [
                {"To_Account": "id1", "Remark": "r", "TagName": "t", "ResponseAction": "Response_Action_AgreeAndAdd"}]}),
            allowed: friends(json!([{"To_Account": "id1", "ResultCode": 0, "ResultInfo": ""}])),
            refused: friends(json!([{"To_Account": "id1", "ResultCode": 38_500, "ResultInfo": "no"}])),
        },
        case(
            "OfficialAccount.CallbackBeforeCreateOfficialAccount",
            json!({"Operator_Account": "mallory", "Owner_Account": "mallory", "Name": "TestOfficialAccount"}),
            whole(120_500, "no"),
        ),
        case(
            "OfficialAccount.CallbackBeforeAddSubscriber",
            json!({"Official_Account": "@TOA#_a", "Operator_Account": "leckie",
                "SubscribeAccountList": [{"Subscriber_Account": "mallory"}, {"Subscriber_Account": "jared"}]}),
            json!({"ActionStatus": "OK", "ErrorInfo": "", "ErrorCode": 0, "RefusedSubscribers_Account": ["mallory"]}),
        ),
        case(
            "OfficialAccount.CallbackBeforeSendMsg",
            json!({"Official_Account": "mallory", "OnlineOnlyFlag": 1, "MsgBody": message}),
            whole(1, "no"),
        ),
    ]
}

#[test]
fn each_command_is_allowed_and_refused_in_its_own_shape_with_a_code_that_it_can_carry() {
    let site = Site::at(Kafka::start());
    let _receiver = site.receiver().ready();
    let mut caller = site.caller();
    let mut answer = |case: &Case| {
        let answer = caller.post(&Callback::new(case.command, case.body.to_string()));
        assert_eq!(answer.status, 200, "{}: {answer:?}", case.command);
        serde_json::from_str::<Value>(&answer.body).expect("JSON")
    };
    let cases = cases();
    for case in &cases {
        assert_eq!(answer(case), case.allowed, "{}", case.command);
    }

    // A verdict replaces the one before it about the same subject, so each range has its turn.
    for code in [10_150, 120_500, 38_500] {
        let code_text = code.to_string();
        site.moderate("deny", &["--operator", "mallory", "--code", &code_text, "--text", "no"]);
        let carries = |case: &&Case| case.refused.to_string().contains(&code_text);
        for case in cases.iter().filter(carries) {
            wait_until(case.command, PATIENCE, || answer(case) == case.refused);
        }
        let other = cases.iter().find(|case| !carries(case)).expect("another range");
        assert_ne!(
            answer(other),
            other.allowed,
            "{} is refused all the same",
            other.command
        );
    }
    for case in cases.iter().filter(|case| !case.refused.to_string().contains("500")) {
        assert_ne!(answer(case), case.allowed, "{}", case.command);
    }
}

#[test]
fn a_message_is_dropped_without_its_senders_knowledge_where_the_command_has_that() {
    let site = Site::at(Kafka::start());
    let _receiver = site.receiver().ready();
    let mut caller = site.caller();
    let message = json!({"From_Account": "leckie", "To_Account": "jared",
        "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "buy ｃｏｉｎｓ now"}}]});
    let message = Callback::new("C2C.CallbackBeforeSendMsg", message.to_string());
    let now = Timestamp::now();
    let verdict = json!({"id": id::random(now), "app": APP, "subject": {"kind": "term", "value": "coins"},
        "effect": "drop", "source": "moderator", "issued_at": now});
    let verdict = Verdict::decode(verdict.to_string().as_bytes()).expect("a verdict");
    let message_of = |verdict: &Verdict| (verdict.key().to_string(), verdict.encode().expect("JSON"));
    publish(
        &site.kafka,
        &site.kafka.topics.verdicts,
        [message_of(&verdict)].into_iter(),
    );
    wait_until("the message is dropped", PATIENCE, || caller.post(&message).code() == 2);
}

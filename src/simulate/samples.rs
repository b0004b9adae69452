//! Each command that can be refused, in the sample of its page.

use portcullis_schema::CommandKind;
use serde_json::json;

use super::call::Call;

/// The commands of [`sample`].
pub(super) const COMMANDS: [CommandKind; 11] = [
    CommandKind::BeforeCreateTopic,
    CommandKind::BeforeCreateGroup,
    CommandKind::BeforeApplyJoinGroup,
    CommandKind::BeforeInviteJoinGroup,
    CommandKind::BeforeSendGroupMessage,
    CommandKind::BeforeSendMessage,
    CommandKind::BeforeAddFriend,
    CommandKind::BeforeAnswerFriend,
    CommandKind::BeforeCreateOfficialAccount,
    CommandKind::BeforeAddSubscriber,
    CommandKind::BeforeSendOfficialMessage,
];

/// `operator` does it; `text` is the name, or what is said; `friend` is one of whom it is about where it has such.
pub(super) fn sample(kind: CommandKind, operator: &str, client_ip: String, text: &str, friend: &str) -> Call {
    use CommandKind as Kind;
    let name = kind.name();
    let message = json!([{"MsgType": "TIMTextElem", "MsgContent": {"Text": text}}]);
    let (body, about) = match kind {
        Kind::BeforeCreateGroup => (
            json!({"CallbackCommand": name, "Operator_Account": operator, "Owner_Account": operator, "Type": "Public",
                "Name": text, "CreateGroupNum": 123, "MemberList": [{"Member_Account": "bob"}],
                "EventTime": "1670574414123"}),
            vec![],
        ),
        Kind::BeforeApplyJoinGroup => (
            json!({"CallbackCommand": name, "GroupId": "@TGS#2J4SZEAEL", "Type": "Public",
                "Requestor_Account": operator, "EventTime": "1670574414123"}),
            vec![],
        ),
        Kind::BeforeInviteJoinGroup => (
            json!({"CallbackCommand": name, "GroupId": "@TGS#2J4SZEAEL", "Type": "Public", "Operator_Account": operator,
                "DestinationMembers": [{"Member_Account": "jared"}, {"Member_Account": friend}]}),
            vec!["jared", friend],
        ),
        Kind::BeforeSendGroupMessage => (
            json!({"CallbackCommand": name, "GroupId": "@TGS#2J4SZEAEL", "Type": "Public", "From_Account": operator,
                "Operator_Account": operator, "Random": 123_456, "OnlineOnlyFlag": 1, "MsgBody": message}),
            vec![],
        ),
        Kind::BeforeSendMessage => (
            json!({"CallbackCommand": name, "From_Account": operator, "To_Account": "jared", "MsgSeq": 48_374,
                "MsgRandom": 4_294_967_295_u32, "MsgTime": 1_557_481_126, "MsgKey": "48374_1", "OnlineOnlyFlag": 1,
                "MsgBody": message}),
            vec![],
        ),
        Kind::BeforeAddFriend => (
            json!({"CallbackCommand": name, "Requester_Account": operator, "From_Account": operator,
                "FriendItem": [{"To_Account": "id1", "AddWording": text}, {"To_Account": friend}],
                "EventTime": 1_631_777_344_870_u64}),
            vec!["id1", friend],
        ),
        Kind::BeforeAnswerFriend => (
            json!({"CallbackCommand": name, "Requester_Account": operator, "From_Account": operator,
                "ResponseFriendItem": [{"To_Account": friend, "Remark": "r", "TagName": "t",
                    "ResponseAction": "Response_Action_AgreeAndAdd"}]}),
            vec![friend],
        ),
        Kind::BeforeCreateOfficialAccount => (
            json!({"CallbackCommand": name, "Operator_Account": operator, "Owner_Account": operator, "Name": text}),
            vec![],
        ),
        Kind::BeforeAddSubscriber => (
            json!({"CallbackCommand": name, "Official_Account": "@TOA#_a", "Operator_Account": operator,
                "SubscribeAccountList": [{"Subscriber_Account": friend}, {"Subscriber_Account": "jared"}]}),
            vec![friend, "jared"],
        ),
        Kind::BeforeSendOfficialMessage => (
            json!({"CallbackCommand": name, "Official_Account": operator, "OnlineOnlyFlag": 1, "MsgBody": message}),
            vec![],
        ),
        _ => (
            json!({"CallbackCommand": name, "Operator_Account": operator, "Type": "Community", "Name": text}),
            vec![],
        ),
    };
    Call::json(name, client_ip, &body).about(&about)
}

#[cfg(test)]
mod tests {
    use portcullis_schema::CommandKind;

    use super::COMMANDS;

    #[test]
    fn every_command_that_can_be_refused_has_a_sample() {
        for kind in CommandKind::ALL {
            assert_eq!(COMMANDS.contains(kind), kind.refusal().is_some(), "{kind:?}");
        }
    }
}

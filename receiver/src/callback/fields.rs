use std::borrow::Cow;
use std::fmt;

use portcullis_schema::text::FOLDED_BYTES_MAX;
use portcullis_schema::{Command, CommandKind};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What a decision reads of a body. A field that is missing or of another kind is absent; of a repeated one the last
/// counts, as with most parsers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) command: Option<String>,
    pub(super) operator: Option<String>,
    pub(super) name: Option<String>,
    pub(super) items: Vec<Item>,
}

/// One of those whom a callback is about beside its operator: who is invited, who is to subscribe, each friend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The account.
    pub account: String,
    /// What is said to it, where that can be judged.
    pub text: Option<String>,
}

/// Where the items of a command stand: the list, and in each of it the account and the text.
struct List {
    name: &'static str,
    account: &'static str,
    text: &'static str,
}

impl Fields {
    /// `command` says which field is the operator: Chat's pages use another one for each family.
    pub(super) fn read(json: &RawValue, command: &Command) -> Self {
        let kind = match command {
            Command::Known(kind) => Some(*kind),
            Command::Other(_) => None,
        };
        let list = kind.and_then(list_of);
        let list_name = list.as_ref().map_or("", |list| list.name);
        let mut names = [
            "CallbackCommand",
            "Name",
            "MsgBody",
            "Info",
            list_name,
            "",
            "",
            "",
            "",
            "",
        ];
        names[OPERATORS..].copy_from_slice(&operators_of(kind));
        let raw = pick(json, names);
        let [command, name, message, info, items, ..] = raw;
        let state_of = info.filter(|_| kind == Some(CommandKind::StateChange));
        let operator = raw[OPERATORS..].iter().find_map(|raw| account((*raw)?));
        let items = match (items, list) {
            (Some(items), Some(list)) => list.read(items),
            _ => Vec::new(),
        };
        Self {
            command: command.and_then(text),
            operator: operator.or_else(|| account(pick(state_of?, ["To_Account"])[0]?)),
            // What a message says comes before a name that it should not have.
            name: message
                .and_then(message_text)
                .or_else(|| name.and_then(text))
                .or_else(|| texts(items.iter().filter_map(|item| item.text.clone()))),
            items,
        }
    }
}

/// The command that a body names.
pub(super) fn command(json: &RawValue) -> Option<String> {
    text(pick(json, ["CallbackCommand"])[0]?)
}

/// Where the names of the operator begin among those that are picked.
const OPERATORS: usize = 5;

/// The fields that may name who acts, the one that counts first. Both spellings of "requester" are Chat's own.
fn operators_of(kind: Option<CommandKind>) -> [&'static str; 5] {
    const OPERATOR: &str = "Operator_Account";
    const FROM: &str = "From_Account";
    const REQUESTER: &str = "Requester_Account";
    const REQUESTOR: &str = "Requestor_Account";
    const OFFICIAL: &str = "Official_Account";
    use CommandKind as Kind;
    match kind {
        Some(Kind::BeforeApplyJoinGroup) => [REQUESTOR, REQUESTER, OPERATOR, FROM, ""],
        // An administrator may send in a user's name: who is seen to speak is judged.
        Some(
            Kind::BeforeSendGroupMessage
            | Kind::AfterSendGroupMessage
            | Kind::BeforeSendMessage
            | Kind::AfterSendMessage,
        ) => [FROM, OPERATOR, REQUESTER, REQUESTOR, ""],
        Some(Kind::BeforeSendOfficialMessage | Kind::AfterSendOfficialMessage) => {
            [FROM, OPERATOR, OFFICIAL, REQUESTER, REQUESTOR]
        }
        Some(Kind::BeforeAddFriend | Kind::BeforeAnswerFriend) => [REQUESTER, REQUESTOR, FROM, OPERATOR, ""],
        _ => [OPERATOR, FROM, REQUESTER, REQUESTOR, ""],
    }
}

fn list_of(kind: CommandKind) -> Option<List> {
    let (name, account, text) = match kind {
        CommandKind::BeforeInviteJoinGroup => ("DestinationMembers", "Member_Account", ""),
        CommandKind::BeforeAddSubscriber => ("SubscribeAccountList", "Subscriber_Account", ""),
        CommandKind::BeforeAddFriend => ("FriendItem", "To_Account", "AddWording"),
        CommandKind::BeforeAnswerFriend => ("ResponseFriendItem", "To_Account", ""),
        _ => return None,
    };
    Some(List { name, account, text })
}

impl List {
    /// What has no account is left out: nothing could be answered about it.
    fn read(&self, raw: &RawValue) -> Vec<Item> {
        let items = elements(raw).into_iter().filter_map(|item| {
            let [who, said] = pick(item, [self.account, self.text]);
            Some(Item {
                account: text(who?)?,
                text: said.and_then(text),
            })
        });
        items.collect()
    }
}

/// The text that a reader of the message sees: of its text elements, one a line.
fn message_text(raw: &RawValue) -> Option<String> {
    texts(elements(raw).into_iter().filter_map(|element| {
        let content = pick(element, ["MsgContent"])[0]?;
        text(pick(content, ["Text"])[0]?)
    }))
}

/// One a line, and one beyond what a decision folds, so that it sees that there is more; `None` where there is none.
fn texts(lines: impl Iterator<Item = String>) -> Option<String> {
    let mut all: Option<String> = None;
    for line in lines {
        match &mut all {
            None => all = Some(line),
            Some(all) if all.len() > FOLDED_BYTES_MAX => break,
            Some(all) => {
                all.push('\n');
                all.push_str(&line);
            }
        }
    }
    all
}

/// The elements of an array, none of anything else.
fn elements(raw: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// The fields of these names as they stand, so that an odd one does not take the others with it; none of what is no
/// object. An empty name is never found.
fn pick<'a, const N: usize>(raw: &'a RawValue, names: [&str; N]) -> [Option<&'a RawValue>; N] {
    struct Pick<'names, const N: usize>([&'names str; N]);

    impl<'de, const N: usize> Visitor<'de> for Pick<'_, N> {
        type Value = [Option<&'de RawValue>; N];

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut picked = [None; N];
            // As it stands, for a key that cannot be decoded is only one that nobody asks for.
            while let Some(key) = map.next_key::<&RawValue>()? {
                let key = decoded(key);
                match self.0.iter().position(|name| !name.is_empty() && *name == key) {
                    Some(index) => picked[index] = Some(map.next_value()?),
                    None => drop(map.next_value::<IgnoredAny>()?),
                }
            }
            Ok(picked)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    deserializer.deserialize_map(Pick(names)).unwrap_or([None; N])
}

/// A key as it is meant, however it is spelled; an empty one where it cannot be decoded.
fn decoded(key: &RawValue) -> Cow<'_, str> {
    let key = key.get();
    match key.as_bytes() {
        [b'"', inside @ .., b'"'] if memchr::memchr(b'\\', inside).is_none() => Cow::Borrowed(&key[1..key.len() - 1]),
        _ => Cow::Owned(serde_json::from_str(key).unwrap_or_default()),
    }
}

/// A text that names somebody: an empty one is as good as none.
fn account(raw: &RawValue) -> Option<String> {
    text(raw).filter(|account| !account.is_empty())
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

    use portcullis_schema::{Command, CommandKind};

    use super::{Fields, Item};

    fn read(text: &str) -> Fields {
        read_of(CommandKind::BeforeCreateTopic, text)
    }

    fn read_of(kind: CommandKind, text: &str) -> Fields {
        let raw = RawValue::from_string(text.to_owned()).expect(text);
        Fields::read(&raw, &Command::Known(kind))
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
        for odd in [
            r#""\ud800":1"#,
            r#""\ud800\u0041":{"a":[]}"#,
            r#""":0"#,
            r#""Name":{"\udc00":1}"#,
        ] {
            let operator = r#""\u004fperator_Account":"leckie""#;
            for body in [format!("{{{odd},{operator}}}"), format!("{{{operator},{odd}}}")] {
                assert_eq!(read(&body).operator.as_deref(), Some("leckie"), "{body}");
            }
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
    fn an_empty_account_is_nobody_and_hides_nobody() {
        let fields = read_of(
            CommandKind::BeforeApplyJoinGroup,
            r#"{"Requestor_Account":"","Requester_Account":"jared"}"#,
        );
        assert_eq!(fields.operator.as_deref(), Some("jared"));
        assert_eq!(read(r#"{"Operator_Account":""}"#).operator, None);
    }

    #[test]
    fn each_friend_has_an_answer_also_one_without_a_name() {
        let body = r#"{"FriendItem":[{"To_Account":"","AddWording":"hi"},{"To_Account":"b"},{}]}"#;
        let accounts = read_of(CommandKind::BeforeAddFriend, body).items;
        assert_eq!(
            accounts.iter().map(|item| &*item.account).collect::<Vec<_>>(),
            ["", "b"]
        );
    }

    #[test]
    fn a_name_hides_nothing_of_what_a_message_says() {
        let message = r#""MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"\ud800":1,"Text":"red"}}]"#;
        let fields = read_of(
            CommandKind::BeforeSendMessage,
            &format!(r#"{{"From_Account":"jared","Name":"harmless",{message}}}"#),
        );
        assert_eq!(fields.name.as_deref(), Some("red"));
    }

    #[test]
    fn of_a_repeated_field_the_last_counts() {
        assert_eq!(read(r#"{"Name":"a","Name":"b"}"#).name.as_deref(), Some("b"));
    }

    /// The samples of Chat's pages, shortened.
    #[test]
    fn each_family_names_its_operator_its_text_and_whom_it_is_about() {
        use CommandKind as Kind;
        let item = |account: &str, text: Option<&str>| Item {
            account: account.to_owned(),
            text: text.map(str::to_owned),
        };
        let message = r#""MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"red"}},{"MsgType":"TIMFaceElem",
            "MsgContent":{"Index":1}},5,{"MsgContent":{"Text":"packet"}}]"#;
        for (kind, body, operator, name, items) in [
            (
                Kind::BeforeCreateGroup,
                r#"{"Operator_Account":"leckie","Owner_Account":"o","Name":"G","MemberList":[{"Member_Account":"bob"}]}"#
                    .to_owned(),
                Some("leckie"),
                Some("G"),
                vec![],
            ),
            (
                Kind::BeforeApplyJoinGroup,
                r#"{"GroupId":"g","Requestor_Account":"jared"}"#.to_owned(),
                Some("jared"),
                None,
                vec![],
            ),
            (
                Kind::BeforeInviteJoinGroup,
                r#"{"Operator_Account":"leckie","DestinationMembers":[{"Member_Account":"jared"},{},{"Member_Account":7}]}"#
                    .to_owned(),
                Some("leckie"),
                None,
                vec![item("jared", None), item("7", None)],
            ),
            (
                Kind::BeforeSendGroupMessage,
                format!(r#"{{"From_Account":"jared","Operator_Account":"admin",{message}}}"#),
                Some("jared"),
                Some("red\npacket"),
                vec![],
            ),
            (
                Kind::BeforeSendMessage,
                format!(r#"{{"From_Account":"jared","To_Account":"b",{message}}}"#),
                Some("jared"),
                Some("red\npacket"),
                vec![],
            ),
            (
                Kind::BeforeAddFriend,
                r#"{"Requester_Account":"id","From_Account":"id","FriendItem":[{"To_Account":"id1","Remark":"r",
                    "AddWording":"hi"},{"To_Account":"id2"}]}"#
                    .to_owned(),
                Some("id"),
                Some("hi"),
                vec![item("id1", Some("hi")), item("id2", None)],
            ),
            (
                Kind::BeforeAnswerFriend,
                r#"{"Requester_Account":"id","ResponseFriendItem":[{"To_Account":"id1","Remark":"r"}]}"#.to_owned(),
                Some("id"),
                None,
                vec![item("id1", None)],
            ),
            (
                Kind::BeforeAddSubscriber,
                r#"{"Official_Account":"@TOA#_a","Operator_Account":"107867",
                    "SubscribeAccountList":[{"Subscriber_Account":"jared"}]}"#
                    .to_owned(),
                Some("107867"),
                None,
                vec![item("jared", None)],
            ),
            (
                Kind::BeforeSendOfficialMessage,
                format!(r#"{{"Official_Account":"@TOA#_a",{message}}}"#),
                Some("@TOA#_a"),
                Some("red\npacket"),
                vec![],
            ),
            (
                Kind::StateChange,
                r#"{"Info":{"Action":"Login","To_Account":"testuser316"}}"#.to_owned(),
                Some("testuser316"),
                None,
                vec![],
            ),
        ] {
            let fields = read_of(kind, &body);
            assert_eq!(fields.operator.as_deref(), operator, "{kind:?}");
            assert_eq!(fields.name.as_deref(), name, "{kind:?}");
            assert_eq!(fields.items, items, "{kind:?}");
        }
    }
}

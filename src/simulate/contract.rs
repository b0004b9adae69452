//! Whether an answer keeps Chat's contract of its command. Pure: neither a clock nor a socket is asked.

use portcullis_schema::{Command, Refusal, Shape};
use serde_json::{Map, Value};

/// What was asked, as far as the answer depends on it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) command: Command,
    /// The accounts that the callback is about beside its operator, in their order: who is invited, each friend.
    pub(super) about: Vec<String>,
    /// Otherwise it must be turned away.
    pub(super) from_chat: bool,
}

/// What came back.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) body: Vec<u8>,
}

/// What an answer in the contract says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Allowed,
    /// The whole of it, or some of whom it is about.
    Refused,
    /// 403: not from Chat.
    TurnedAway,
}

/// How an answer breaks the contract. What the other side has sent is in none of them but as a number or cut short.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Breach {
    #[error("status {got} where {due} is due")]
    Status { got: u16, due: u16 },
    #[error("the content type is not application/json")]
    ContentType,
    #[error("the body is not one JSON object")]
    NotJson,
    #[error("{0} is missing or of a wrong type")]
    Field(&'static str),
    #[error("a field that this command's answer does not have: {0}")]
    ForeignField(String),
    #[error("ActionStatus is not OK")]
    ActionStatus,
    #[error("{field} {code} is none that this command can carry")]
    Code { field: &'static str, code: u64 },
    #[error("{0} names an account that was not asked about")]
    Stranger(&'static str),
    #[error("ResultItem does not have one item for each friend, in their order")]
    Items,
}

const ACTION_STATUS: &str = "ActionStatus";
const ERROR_INFO: &str = "ErrorInfo";
const ERROR_CODE: &str = "ErrorCode";
const MEMBERS: &str = "RefusedMembers_Account";
const SUBSCRIBERS: &str = "RefusedSubscribers_Account";
const RESULT_ITEM: &str = "ResultItem";
/// Of a foreign field's name: it is shown to a person.
const NAME_CHARS_MAX: usize = 40;

impl Breach {
    /// Its kind, of which there are few.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Status { .. } => "status",
            Self::ContentType => "content_type",
            Self::NotJson => "not_json",
            Self::Field(_) | Self::ForeignField(_) | Self::ActionStatus => "fields",
            Self::Code { .. } => "code",
            Self::Stranger(_) => "accounts",
            Self::Items => "result_item",
        }
    }
}

/// What `answer` says to what was `asked`.
pub(super) fn check(asked: &Asked, answer: &Answer) -> Result<Outcome, Breach> {
    let (due, got) = (if asked.from_chat { 200 } else { 403 }, answer.status);
    if got != due {
        return Err(Breach::Status { got, due });
    }
    let mime = answer.content_type.split(';').next().unwrap_or_default().trim();
    if !mime.eq_ignore_ascii_case("application/json") {
        return Err(Breach::ContentType);
    }
    let fields: Map<String, Value> = serde_json::from_slice(&answer.body).map_err(|_| Breach::NotJson)?;
    if !asked.from_chat {
        return Ok(Outcome::TurnedAway);
    }
    let refusal = asked.command.refusal();
    let extra = refusal.and_then(|refusal| extra_field(refusal.shape));
    let own = |name: &str| [ACTION_STATUS, ERROR_INFO, ERROR_CODE].contains(&name) || extra == Some(name);
    if let Some(foreign) = fields.keys().find(|name| !own(name)) {
        return Err(Breach::ForeignField(foreign.chars().take(NAME_CHARS_MAX).collect()));
    }
    if text(&fields, ACTION_STATUS)? != "OK" {
        return Err(Breach::ActionStatus);
    }
    text(&fields, ERROR_INFO)?;
    let whole = code(&fields, ERROR_CODE, refusal, true)?;
    let some = match (refusal, extra.and_then(|name| fields.get(name))) {
        (Some(refusal), Some(results)) if refusal.shape == Shape::Friends => some_friend(results, asked, refusal)?,
        (Some(refusal), None) if refusal.shape == Shape::Friends && !asked.about.is_empty() => {
            return Err(Breach::Items);
        }
        (Some(_), Some(accounts)) => some_account(accounts, extra.unwrap_or_default(), asked)?,
        (_, _) => false,
    };
    Ok(if whole || some {
        Outcome::Refused
    } else {
        Outcome::Allowed
    })
}

/// The field that an answer may have beside the three.
fn extra_field(shape: Shape) -> Option<&'static str> {
    match shape {
        Shape::Whole => None,
        Shape::Members => Some(MEMBERS),
        Shape::Subscribers => Some(SUBSCRIBERS),
        Shape::Friends => Some(RESULT_ITEM),
    }
}

fn text<'a>(fields: &'a Map<String, Value>, name: &'static str) -> Result<&'a str, Breach> {
    fields.get(name).and_then(Value::as_str).ok_or(Breach::Field(name))
}

/// Whether the code refuses; `drops` where the code that drops without the caller's knowledge is one.
fn code(
    fields: &Map<String, Value>,
    name: &'static str,
    refusal: Option<Refusal>,
    drops: bool,
) -> Result<bool, Breach> {
    let code = fields.get(name).and_then(Value::as_u64).ok_or(Breach::Field(name))?;
    let carried = |refusal: Refusal| {
        let small = u32::try_from(code).ok();
        small.is_some_and(|code| refusal.codes.carry(code) || (drops && refusal.drop == Some(code)))
    };
    if code == 0 {
        Ok(false)
    } else if refusal.is_some_and(carried) {
        Ok(true)
    } else {
        Err(Breach::Code { field: name, code })
    }
}

/// Whether some account is refused, each of them one that was asked about.
fn some_account(accounts: &Value, name: &'static str, asked: &Asked) -> Result<bool, Breach> {
    let accounts = accounts.as_array().ok_or(Breach::Field(name))?;
    for account in accounts {
        let account = account.as_str().ok_or(Breach::Field(name))?;
        if !asked.about.iter().any(|about| about == account) {
            return Err(Breach::Stranger(name));
        }
    }
    Ok(!accounts.is_empty())
}

/// Whether some friend is refused, one item for each in their order.
fn some_friend(results: &Value, asked: &Asked, refusal: Refusal) -> Result<bool, Breach> {
    let results = results.as_array().ok_or(Breach::Field(RESULT_ITEM))?;
    if results.len() != asked.about.len() {
        return Err(Breach::Items);
    }
    let mut refused = false;
    for (result, friend) in results.iter().zip(&asked.about) {
        let result = result.as_object().ok_or(Breach::Field(RESULT_ITEM))?;
        if text(result, "To_Account")? != friend {
            return Err(Breach::Items);
        }
        text(result, "ResultInfo")?;
        refused |= code(result, "ResultCode", Some(refusal), false)?;
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use portcullis_schema::Command;

    use super::{Answer, Asked, Outcome, check};

    const TOPIC: &str = "Group.CallbackBeforeCreateTopic";
    const INVITE: &str = "Group.CallbackBeforeInviteJoinGroup";
    const MESSAGE: &str = "C2C.CallbackBeforeSendMsg";
    const SUBSCRIBE: &str = "OfficialAccount.CallbackBeforeAddSubscriber";
    const FRIEND: &str = "Sns.CallbackPrevFriendAdd";
    const NOTIFICATION: &str = "State.StateChange";

    fn asked(command: &str) -> Asked {
        let about = if [INVITE, SUBSCRIBE, FRIEND].contains(&command) {
            vec!["a".to_owned(), "b".to_owned()]
        } else {
            Vec::new()
        };
        Asked {
            command: Command::parse(command),
            about,
            from_chat: true,
        }
    }

    fn answer(body: &str) -> Answer {
        Answer {
            status: 200,
            content_type: "application/json".to_owned(),
            body: body.as_bytes().to_vec(),
        }
    }

    /// The three fields, and `more` beside them.
    fn with(code: &str, more: &str) -> String {
        format!(r#"{{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":{code}{more}}}"#)
    }

    fn told(command: &str, body: &str) -> Result<Outcome, &'static str> {
        check(&asked(command), &answer(body)).map_err(|breach| breach.kind())
    }

    fn items(items: &[(&str, &str)]) -> String {
        let items: Vec<String> = items
            .iter()
            .map(|(account, code)| format!(r#"{{"To_Account":"{account}","ResultCode":{code},"ResultInfo":""}}"#))
            .collect();
        with("0", &format!(r#","ResultItem":[{}]"#, items.join(",")))
    }

    #[test]
    fn what_each_command_can_answer_is_in_its_contract() {
        for (command, body, outcome) in [
            (TOPIC, with("0", ""), Outcome::Allowed),
            (TOPIC, with("1", ""), Outcome::Refused),
            (TOPIC, with("10100", ""), Outcome::Refused),
            (TOPIC, with("10200", ""), Outcome::Refused),
            (MESSAGE, with("2", ""), Outcome::Refused),
            (MESSAGE, with("130000", ""), Outcome::Refused),
            (INVITE, with("1", ""), Outcome::Refused),
            (
                INVITE,
                with("0", r#","RefusedMembers_Account":["b"]"#),
                Outcome::Refused,
            ),
            (INVITE, with("0", r#","RefusedMembers_Account":[]"#), Outcome::Allowed),
            (
                SUBSCRIBE,
                with("0", r#","RefusedSubscribers_Account":["a","b"]"#),
                Outcome::Refused,
            ),
            (FRIEND, items(&[("a", "0"), ("b", "0")]), Outcome::Allowed),
            (FRIEND, items(&[("a", "0"), ("b", "39000")]), Outcome::Refused),
            (NOTIFICATION, with("0", ""), Outcome::Allowed),
            ("Some.NewCommand", with("0", ""), Outcome::Allowed),
        ] {
            assert_eq!(told(command, &body), Ok(outcome), "{command} {body}");
        }
    }

    #[test]
    fn what_a_command_cannot_answer_is_told_by_its_kind() {
        let fail = with("0", "").replace("OK", "FAIL");
        for (command, body, kind) in [
            (TOPIC, String::new(), "not_json"),
            (TOPIC, "[]".to_owned(), "not_json"),
            (TOPIC, format!("{} x", with("0", "")), "not_json"),
            (TOPIC, "{}".to_owned(), "fields"),
            (TOPIC, fail, "fields"),
            (TOPIC, with("\"0\"", ""), "fields"),
            (TOPIC, with("0.5", ""), "fields"),
            (TOPIC, with("0", r#","RefusedMembers_Account":[]"#), "fields"),
            (TOPIC, with("-1", ""), "fields"),
            (TOPIC, with("2", ""), "code"),
            (TOPIC, with("10099", ""), "code"),
            (TOPIC, with("10201", ""), "code"),
            (TOPIC, with("120001", ""), "code"),
            // 1 modulo 2^32.
            (TOPIC, with("4294967297", ""), "code"),
            (MESSAGE, with("10100", ""), "code"),
            (NOTIFICATION, with("1", ""), "code"),
            ("Some.NewCommand", with("1", ""), "code"),
            (INVITE, with("0", r#","RefusedMembers_Account":["c"]"#), "accounts"),
            (INVITE, with("0", r#","RefusedMembers_Account":"a""#), "fields"),
            (INVITE, with("0", r#","RefusedSubscribers_Account":["a"]"#), "fields"),
            (FRIEND, with("0", ""), "result_item"),
            (FRIEND, items(&[("a", "0")]), "result_item"),
            (FRIEND, items(&[("b", "0"), ("a", "0")]), "result_item"),
            (FRIEND, items(&[("a", "0"), ("b", "1")]), "code"),
            (FRIEND, items(&[("a", "0"), ("b", "null")]), "fields"),
        ] {
            assert_eq!(told(command, &body), Err(kind), "{command} {body}");
        }
    }

    #[test]
    fn status_and_content_type_are_part_of_the_contract() {
        let check = |from_chat: bool, status: u16, content_type: &str| {
            let asked = Asked {
                from_chat,
                ..asked(TOPIC)
            };
            let answer = Answer {
                status,
                content_type: content_type.to_owned(),
                ..answer(&with("0", ""))
            };
            check(&asked, &answer).map_err(|breach| breach.kind())
        };
        for (from_chat, status, content_type, outcome) in [
            (true, 200, "application/json; charset=utf-8", Ok(Outcome::Allowed)),
            (true, 204, "application/json", Err("status")),
            (true, 403, "application/json", Err("status")),
            (true, 200, "text/plain", Err("content_type")),
            (true, 200, "", Err("content_type")),
            (false, 403, "application/json", Ok(Outcome::TurnedAway)),
            (false, 200, "application/json", Err("status")),
            (false, 403, "text/html", Err("content_type")),
        ] {
            assert_eq!(
                check(from_chat, status, content_type),
                outcome,
                "{status} {content_type}"
            );
        }
    }
}

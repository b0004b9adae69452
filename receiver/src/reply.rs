//! What goes back to Chat. HTTP 200 and one JSON object, in the command's own shape: anything else counts as a failed
//! callback, and Chat lets the operation through.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use portcullis_schema::{Command, Shape};
use serde::Serialize;

use crate::callback::Item;
use crate::decision::Decision;

/// The answer to a request, whole.
pub type Reply = Response<Full<Bytes>>;

/// The answer that lets go on, built once.
const ALLOWED: &str = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#;

/// Chat's three fields, all required. `ActionStatus` is always OK: what FAIL does is not documented. Beside them, what
/// the command's own page adds.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Fields<'a> {
    action_status: &'static str,
    error_info: &'a str,
    error_code: u32,
    #[serde(rename = "RefusedMembers_Account", skip_serializing_if = "<[_]>::is_empty")]
    refused_members: &'a [&'a str],
    #[serde(rename = "RefusedSubscribers_Account", skip_serializing_if = "<[_]>::is_empty")]
    refused_subscribers: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    result_item: Option<Vec<ResultItem<'a>>>,
}

/// What becomes of one friend.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ResultItem<'a> {
    #[serde(rename = "To_Account")]
    to_account: &'a str,
    result_code: u32,
    result_info: &'a str,
}

/// Why a request got no callback's answer. For whoever set it up, in one line.
#[derive(Serialize)]
struct Reason<'a> {
    error: &'a str,
}

/// The decision as Chat reads it, about the callback's `items` where it has some.
pub fn to_decision(command: &Command, items: &[Item], decision: &Decision) -> Reply {
    let shape = command.refusal().map_or(Shape::Whole, |refusal| refusal.shape);
    if decision.code.is_none() && decision.refused.is_empty() && shape != Shape::Friends {
        return allowed();
    }
    let whole = Fields {
        action_status: "OK",
        error_info: decision.text.as_deref().unwrap_or_default(),
        error_code: decision.code.unwrap_or_default(),
        refused_members: &[],
        refused_subscribers: &[],
        result_item: None,
    };
    let refused: Vec<&str> = decision.refused.iter().map(|item| item.account.as_str()).collect();
    let fields = match shape {
        Shape::Whole => whole,
        Shape::Members => Fields {
            refused_members: &refused,
            ..whole
        },
        Shape::Subscribers => Fields {
            refused_subscribers: &refused,
            ..whole
        },
        // Chat ignores the code of the whole here; without an item it is the only place that a refusal has.
        Shape::Friends if items.is_empty() => Fields {
            result_item: Some(Vec::new()),
            ..whole
        },
        Shape::Friends => Fields {
            error_info: "",
            error_code: 0,
            result_item: Some(result_items(items, decision)),
            ..whole
        },
    };
    match serde_json::to_string(&fields) {
        Ok(json) => with(StatusCode::OK, json),
        Err(_) => allowed(),
    }
}

/// One for each item, in their order.
fn result_items<'a>(items: &'a [Item], decision: &'a Decision) -> Vec<ResultItem<'a>> {
    let mut refused = decision.refused.iter().peekable();
    let results = items.iter().enumerate().map(|(index, item)| {
        let own = refused.next_if(|refused| refused.index == index);
        let (result_code, result_info) = match (decision.code, own) {
            (Some(code), _) => (code, decision.text.as_deref().unwrap_or_default()),
            (None, Some(refused)) => (refused.code, &*refused.text),
            (None, None) => (0, ""),
        };
        ResultItem {
            to_account: &item.account,
            result_code,
            result_info,
        }
    });
    results.collect()
}

/// Go on.
pub(crate) fn allowed() -> Reply {
    with(StatusCode::OK, ALLOWED)
}

/// What is not from Chat, or no callback at all.
pub(crate) fn refused(status: StatusCode, reason: &str) -> Reply {
    with(
        status,
        serde_json::to_string(&Reason { error: reason }).unwrap_or_default(),
    )
}

/// The answer to a probe.
pub(crate) fn alive() -> Reply {
    with(StatusCode::OK, r#"{"service":"portcullis","callbacks":"POST"}"#)
}

/// The connection must end with this reply: the request on it was not read to its end.
pub(crate) fn closing(mut reply: Reply) -> Reply {
    reply
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    reply
}

fn with(status: StatusCode, json: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(json.into()));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

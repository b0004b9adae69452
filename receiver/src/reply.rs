//! What goes back to Chat. HTTP 200 and one JSON object, in the command's own shape: anything else counts as a failed
//! callback, and Chat lets the operation through.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::decision::Decision;

/// The answer that lets go on, built once.
const ALLOWED: &str = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#;

/// Chat's three fields, all required. `ActionStatus` is always OK: what FAIL does is not documented.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Fields<'a> {
    action_status: &'static str,
    error_info: &'a str,
    error_code: u32,
}

/// Why a request got no callback's answer. For whoever set it up, in one line.
#[derive(Serialize)]
struct Reason<'a> {
    error: &'a str,
}

/// The decision as Chat reads it.
pub(crate) fn to_decision(decision: &Decision) -> Response<Body> {
    let Some(code) = decision.code else {
        return allowed();
    };
    let fields = Fields {
        action_status: "OK",
        error_info: decision.text.as_deref().unwrap_or_default(),
        error_code: code,
    };
    match serde_json::to_string(&fields) {
        Ok(json) => with(StatusCode::OK, json),
        Err(_) => allowed(),
    }
}

/// Go on.
pub(crate) fn allowed() -> Response<Body> {
    with(StatusCode::OK, ALLOWED)
}

/// What is not from Chat, or no callback at all.
pub(crate) fn refused(status: StatusCode, reason: &str) -> Response<Body> {
    with(
        status,
        serde_json::to_string(&Reason { error: reason }).unwrap_or_default(),
    )
}

/// The answer to a probe.
pub(crate) fn alive() -> Response<Body> {
    with(StatusCode::OK, r#"{"service":"portcullis","callbacks":"POST"}"#)
}

/// The connection must end with this reply: the request on it was not read to its end.
pub(crate) fn closing(mut reply: Response<Body>) -> Response<Body> {
    reply
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    reply
}

fn with(status: StatusCode, json: impl Into<Body>) -> Response<Body> {
    let mut reply = Response::new(json.into());
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

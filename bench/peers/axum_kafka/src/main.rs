//! What a good engineer writes in an afternoon: axum, a moka cache of denied operators, and librdkafka's
//! `FutureProducer` with the settings its documentation recommends. `--answer after` waits for the broker's
//! acknowledgement before it answers; `--answer before` answers first and lets the record follow.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::routing::post;
use clap::{Parser, ValueEnum};
use moka::sync::Cache;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::signal::unix::{SignalKind, signal};

type Reply = (StatusCode, [(HeaderName, &'static str); 1], &'static str);

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Answer {
    After,
    Before,
}

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    bootstrap: String,
    #[arg(long)]
    topic: String,
    #[arg(long)]
    denied: PathBuf,
    #[arg(long)]
    token: String,
    #[arg(long, value_enum)]
    answer: Answer,
}

struct Gate {
    answer: Answer,
    token: String,
    topic: String,
    denied: Cache<String, ()>,
    producer: FutureProducer,
}

#[derive(Deserialize)]
struct Callback {
    #[serde(rename = "CallbackCommand")]
    command: String,
    #[serde(rename = "Operator_Account")]
    operator: String,
    #[serde(rename = "Type")]
    group_type: String,
    #[serde(rename = "Name")]
    name: String,
}

#[derive(Serialize)]
struct Record<'a> {
    #[serde(rename = "CallbackCommand")]
    command: &'a str,
    #[serde(rename = "Operator_Account")]
    operator: &'a str,
    #[serde(rename = "Type")]
    group_type: &'a str,
    #[serde(rename = "Name")]
    name: &'a str,
    denied: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let denied = Cache::new(1_000_000);
    for operator in std::fs::read_to_string(&arguments.denied)?.lines() {
        denied.insert(operator.to_owned(), ());
    }
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &arguments.bootstrap)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", "5")
        .create()?;
    let gate = Gate {
        answer: arguments.answer,
        token: arguments.token,
        topic: arguments.topic,
        denied,
        producer,
    };
    let gate = Arc::new(gate);
    let listener = tokio::net::TcpListener::bind(arguments.listen).await?;
    let router = Router::new().route("/", post(answer)).with_state(gate.clone());
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        served = axum::serve(listener, router) => served?,
        _ = terminate.recv() => {}
    }
    gate.producer.flush(Duration::from_secs(30))?;
    Ok(())
}

async fn answer(State(gate): State<Arc<Gate>>, RawQuery(query): RawQuery, body: Bytes) -> Reply {
    if !authentic(&gate.token, query.as_deref().unwrap_or_default()) {
        return reply(
            StatusCode::FORBIDDEN,
            r#"{"ActionStatus":"FAIL","ErrorInfo":"forged","ErrorCode":0}"#,
        );
    }
    let Ok(callback) = serde_json::from_slice::<Callback>(&body) else {
        return reply(StatusCode::OK, r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#);
    };
    let denied = gate.denied.get(&callback.operator).is_some();
    let record = Record {
        command: &callback.command,
        operator: &callback.operator,
        group_type: &callback.group_type,
        name: &callback.name,
        denied,
    };
    let Ok(payload) = serde_json::to_vec(&record) else {
        return reply(StatusCode::INTERNAL_SERVER_ERROR, "{}");
    };
    let message = FutureRecord::to(&gate.topic).key(&callback.operator).payload(&payload);
    match gate.answer {
        Answer::After => {
            if gate.producer.send(message, Duration::from_secs(1)).await.is_err() {
                return reply(StatusCode::SERVICE_UNAVAILABLE, "{}");
            }
        }
        // A full queue is dropped here: the price of not waiting, and what the tables count.
        Answer::Before => drop(gate.producer.send_result(message)),
    }
    if denied {
        return reply(
            StatusCode::OK,
            r#"{"ActionStatus":"OK","ErrorInfo":"denied","ErrorCode":10101}"#,
        );
    }
    reply(StatusCode::OK, r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#)
}

fn reply(status: StatusCode, body: &'static str) -> Reply {
    (status, [(CONTENT_TYPE, "application/json")], body)
}

fn authentic(token: &str, query: &str) -> bool {
    let (mut sign, mut time) = (None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "Sign" => sign = Some(value),
            "RequestTime" => time = Some(value),
            _ => {}
        }
    }
    let (Some(sign), Some(time)) = (sign, time) else {
        return false;
    };
    let digest = Sha256::new()
        .chain_update(token)
        .chain_update(time.as_bytes())
        .finalize();
    let mut expected = String::with_capacity(64);
    for byte in digest {
        expected.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
        expected.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
    }
    expected.as_bytes().ct_eq(sign.as_bytes()).into()
}

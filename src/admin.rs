//! The admin address: `/live`, `/ready`, `/metrics`.
//!
//! On a thread and a runtime of its own, so that it answers when everything else is busy, and so that whoever asks too
//! much slows nothing else down. Nor do those who ask nothing keep anybody out: a probe that waits has a process killed
//! that works. With no place left, whoever has asked nothing for the longest time makes room for a newcomer at once.

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use portcullis_schema::Readiness;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::failure::Failure;

/// Prometheus, a load balancer and a person or two.
const CONNECTIONS_MAX: usize = 64;
/// A connection that sends no request for that long is ended, though its place is not wanted.
const HEAD_MAX: Duration = Duration::from_secs(30);
/// Out of file descriptors, mostly: others give some back meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Shown {
    readiness: Readiness,
    registry: Arc<Registry>,
}

/// Serves until the process ends.
pub(crate) fn serve(listener: TcpListener, readiness: Readiness, registry: Registry) -> Result<(), Failure> {
    let shown = Shown {
        readiness,
        registry: Arc::new(registry),
    };
    let router = Router::new()
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .fallback(async || (StatusCode::NOT_FOUND, "try /live, /ready or /metrics\n"))
        .with_state(shown);
    listener.set_nonblocking(true)?;
    info!(address = %listener.local_addr()?, "admin address is served: /live, /ready, /metrics");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = move || {
        if let Err(error) = runtime.block_on(accept(listener, router)) {
            warn!(%error, "admin address is not served");
        }
    };
    thread::Builder::new().name("admin".to_owned()).spawn(run)?;
    Ok(())
}

async fn accept(listener: TcpListener, router: Router) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut open: Vec<Connection> = Vec::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "admin connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        open.retain(|connection| !connection.task.is_finished());
        if open.len() >= CONNECTIONS_MAX
            && let Some(longest) = (0..open.len()).min_by_key(|number| open[*number].asked.at())
        {
            open.swap_remove(longest).task.abort();
        }
        open.push(Connection::serve(stream, router.clone()));
    }
}

/// One that is open, and when it asked for something; at first when it was accepted.
struct Connection {
    asked: Arc<Asked>,
    task: JoinHandle<()>,
}

struct Asked(Mutex<Instant>);

impl Connection {
    fn serve(stream: TcpStream, router: Router) -> Self {
        let asked = Arc::new(Asked(Mutex::new(Instant::now())));
        let (asks, router) = (Arc::clone(&asked), TowerToHyperService::new(router));
        let service = service_fn(move |request| {
            asks.now();
            router.call(request)
        });
        let task = tokio::spawn(async move {
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                debug!(%error, "admin connection has ended");
            }
        });
        Self { asked, task }
    }
}

impl Asked {
    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn at(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ready(State(shown): State<Shown>) -> Response {
    let latches = shown.readiness.latches();
    let ready = shown.readiness.is_ready();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = format!("{}\n", json!({"ready": ready, "latches": latches}));
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &shown.registry) {
        Ok(()) => ([(CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

//! A connection that speaks HTTP/2: many callbacks at once, each answered when it is.
//!
//! It ends by GOAWAY (RFC 9113, 6.8), first one that names no last request and a ping, then, when the ping has come back,
//! one that does: what was on its way meanwhile is answered. So no look into the socket is needed here.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::connection::Orders;
use super::places::Talk;
use super::{BUFFER_BYTES_MAX, Until};
use crate::answer::{self, Answering};
use crate::patience::Patience;

/// Callbacks at once on one connection. Each takes well under a millisecond, so a hundred of them are all that one
/// connection can bring; the rest waits at the caller.
const STREAMS_MAX: u32 = 128;
/// What a caller may send before it is read: of one body, twice the usual limit; of all on a connection, 1 MiB.
const STREAM_WINDOW_BYTES: u32 = 128 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// What waits to be written for one stream: answers have 60 bytes, seldom some KiB.
const SEND_BYTES_MAX: usize = 64 << 10;
/// Streams that a caller opens and resets at once, before the connection is given up (CVE-2023-44487).
const RESETS_MAX: usize = 64;
/// A caller that is gone without a word is noticed by a ping that nobody answers.
const PING_EVERY: Duration = Duration::from_secs(60);
const PONG_WITHIN: Duration = Duration::from_secs(20);

/// The settings of all such connections.
pub(super) fn settings() -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(BUFFER_BYTES_MAX as u32) // 64 KiB
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN);
    http
}

/// Answers what comes in on `wire`, until the caller or what it is told ends it.
pub(super) async fn serve(
    wire: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    http: http2::Builder<TokioExecutor>,
    answering: Arc<Answering>,
    talk: Arc<Talk>,
    mut orders: Orders,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let under_way = UnderWay::new(Arc::clone(&talk));
        answer::answer(Arc::clone(&answering), request, Patience::new(), move |mut reply, _| {
            drop(under_way);
            // A word for HTTP/1.1 only: here it would be a protocol error (RFC 9113, 8.2.2).
            reply.headers_mut().remove(header::CONNECTION);
            Ok::<_, Infallible>(reply)
        })
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(wire), service));
    let ended = match orders.unless_told(Until::Answered, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(Until::Cut) => return,
        Err(_) => {
            connection.as_mut().graceful_shutdown();
            match orders.unless_told(Until::Cut, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke");
    }
}

/// A request that is being answered; also when its caller gave it up in the middle.
struct UnderWay(Arc<Talk>);

impl UnderWay {
    fn new(talk: Arc<Talk>) -> Self {
        talk.one_more();
        Self(talk)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.one_less();
    }
}

//! A connection that speaks HTTP/2: many callbacks at once, each answered when it is.
//!
//! It ends by GOAWAY (RFC 9113, 6.8), first one that names no last request and a ping, then, when the ping has come back,
//! one that does: what was on its way meanwhile is answered. So no look into the socket is needed here.
//!
//! An answer is written when its caller grants the bytes for it, so each is followed to its last byte ([`Answer`]), and its
//! connection counts as one that does not read from the oldest that is still here ([`Streams`]).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tracing::debug;

use super::connection::Orders;
use super::places::{Stage, Talk};
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
    let streams = Arc::new(Streams::new(talk));
    let service = service_fn(move |request: Request<Incoming>| {
        let mut under_way = UnderWay::begin(Arc::clone(&streams));
        answer::answer(Arc::clone(&answering), request, Patience::new(), move |mut reply, _| {
            under_way.is_answered();
            // A word for HTTP/1.1 only: here it would be a protocol error (RFC 9113, 8.2.2).
            reply.headers_mut().remove(header::CONNECTION);
            Ok::<_, Infallible>(reply.map(|body| Answer::new(body, under_way)))
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

/// What is under way on one connection.
struct Streams {
    talk: Arc<Talk>,
    requests: Mutex<Requests>,
}

/// At most as many as [`STREAMS_MAX`], in both together.
#[derive(Default)]
struct Requests {
    /// Their answers are not made yet.
    answering: usize,
    /// When the answers were made that are not written yet, by their number.
    unwritten: BTreeMap<u64, Instant>,
    next: u64,
}

/// A request until its answer is written; also when its caller gave it up in the middle.
struct UnderWay {
    streams: Arc<Streams>,
    /// The answer's number, once it is made.
    answer: Option<u64>,
}

impl Streams {
    fn new(talk: Arc<Talk>) -> Self {
        Self {
            talk,
            requests: Mutex::default(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Requests)) {
        // Nothing in it is ever half changed.
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut requests);
        // Within, so that the stage is that of the latest change.
        match (requests.answering, requests.unwritten.first_key_value()) {
            (0, None) => self.talk.enter(Stage::Silent),
            (0, Some((_, made))) => self.talk.enter_at(Stage::Writing, *made),
            _ => self.talk.enter(Stage::Answering),
        }
    }
}

impl UnderWay {
    fn begin(streams: Arc<Streams>) -> Self {
        streams.change(|requests| requests.answering += 1);
        Self { streams, answer: None }
    }

    fn is_answered(&mut self) {
        let answer = &mut self.answer;
        self.streams.change(|requests| {
            requests.answering -= 1;
            requests.unwritten.insert(requests.next, Instant::now());
            *answer = Some(requests.next);
            requests.next += 1;
        });
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let answer = self.answer;
        self.streams.change(|requests| match answer {
            None => requests.answering -= 1,
            Some(number) => {
                requests.unwritten.remove(&number);
            }
        });
    }
}

/// An answer that is under way until the last byte of it is written, or nobody can read it any more.
struct Answer {
    body: Full<Bytes>,
    /// `None` once the bytes have it.
    under_way: Option<UnderWay>,
}

/// All bytes of an answer. HTTP/2 keeps them until they are written, however few of them its caller takes at a time.
struct Piece {
    bytes: Bytes,
    _under_way: Option<UnderWay>,
}

impl Answer {
    fn new(body: Full<Bytes>, under_way: UnderWay) -> Self {
        Self {
            body,
            under_way: Some(under_way),
        }
    }
}

impl Body for Answer {
    type Data = Piece;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Infallible>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let piece = |bytes| Piece {
            bytes,
            _under_way: self.under_way.take(),
        };
        polled.map(|frame| frame.map(|frame| frame.map(|frame| frame.map_data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_connection_is_silent_only_when_every_answer_is_written_to_its_last_byte() {
        let talk = Arc::new(Talk::new(Instant::now()));
        let streams = Arc::new(Streams::new(Arc::clone(&talk)));
        let begin = || UnderWay::begin(Arc::clone(&streams));
        let mut unread = begin();
        assert_eq!(talk.stage(), Stage::Answering);
        unread.is_answered();
        assert_eq!(talk.stage(), Stage::Writing);
        let mut answer = Answer::new(Full::from("{}"), unread);
        let given_up = begin();
        assert_eq!(
            talk.stage(),
            Stage::Answering,
            "what nobody reads ends no callback under way"
        );
        drop(given_up);
        assert_eq!(talk.stage(), Stage::Writing);
        let frame = answer.frame().await.expect("a frame").expect("no error");
        drop(answer);
        let mut piece = frame.into_data().ok().expect("bytes");
        piece.advance(1);
        assert_eq!(talk.stage(), Stage::Writing, "one byte is still here");
        drop(piece);
        assert_eq!(talk.stage(), Stage::Silent);
    }
}

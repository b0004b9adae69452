//! One connection, and how it ends without cutting a callback.

use std::convert::Infallible;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::{FIRST_BYTES_WITHIN, Until};
use crate::reply;

/// Answers what comes in on `stream`, until the caller, an answer or `until` ends it.
pub(super) async fn serve(
    stream: TcpStream,
    http: http1::Builder,
    router: TowerToHyperService<Router>,
    stopping: Arc<AtomicBool>,
    mut until: watch::Receiver<Until>,
) {
    let accepted_at = Instant::now();
    let talk = Arc::new(Talk::default());
    let answering = Arc::clone(&talk);
    let service = service_fn(move |request: Request<Incoming>| {
        let (talk, stopping) = (Arc::clone(&answering), Arc::clone(&stopping));
        talk.answering.store(true, Ordering::Relaxed);
        let answered = router.call(request);
        async move {
            let answer: Response<_> = answered.await?;
            talk.answering.store(false, Ordering::Relaxed);
            // Read at the last moment: an answer after the stop is the connection's last.
            Ok::<_, Infallible>(match stopping.load(Ordering::Relaxed) {
                true => reply::closing(answer),
                false => answer,
            })
        }
    });
    let line = Line::new(stream, Arc::clone(&talk));
    let mut connection = pin!(http.serve_connection(TokioIo::new(line), service));
    let quiet = async {
        // A sender that is gone has nothing more to say, and the process ends.
        let _ = until.wait_for(|until| *until >= Until::Quiet).await;
        sleep_until(accepted_at + FIRST_BYTES_WITHIN).await;
    };
    let ended = tokio::select! {
        biased;
        ended = &mut connection => Some(ended),
        () = quiet => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            talk.ends_when_quiet.store(true, Ordering::Relaxed);
            tokio::select! {
                biased;
                ended = &mut connection => ended,
                _ = until.wait_for(|until| *until >= Until::Cut) => return,
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke");
    }
}

/// What the socket must know of the requests on it.
#[derive(Default)]
struct Talk {
    /// A request has come, and its answer is not made yet.
    answering: AtomicBool,
    /// The connection ends as soon as nobody is owed an answer on it.
    ends_when_quiet: AtomicBool,
}

/// A socket that says "end of input" by itself when it is to end and nothing has come in that is not answered.
///
/// hyper's own `graceful_shutdown` closes a connection that waits for a request, also when that request lies in the
/// kernel already or half of its head is read. An end of input it takes for what it is only where a request could
/// begin, and that is where this gives it.
struct Line {
    stream: TcpStream,
    talk: Arc<Talk>,
    /// Bytes were read, and no answer was sent since.
    unanswered: bool,
    /// Something was written and is not flushed.
    written: bool,
}

impl Line {
    fn new(stream: TcpStream, talk: Arc<Talk>) -> Self {
        Self {
            stream,
            talk,
            unanswered: false,
            written: false,
        }
    }

    fn is_over(&self) -> bool {
        let Talk {
            answering,
            ends_when_quiet,
        } = &*self.talk;
        // `unanswered` alone would not do: "100 Continue" is written in the middle of a request.
        ends_when_quiet.load(Ordering::Relaxed)
            && !self.unanswered
            && !answering.load(Ordering::Relaxed)
            && self.kernel_has_nothing()
    }

    /// Asks the kernel itself: what arrived a moment ago has not reached the runtime yet.
    fn kernel_has_nothing(&self) -> bool {
        let peeked = SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        if into.filled().len() > before {
            self.unanswered = true;
        }
        if polled.is_pending() && self.is_over() {
            return Poll::Ready(Ok(()));
        }
        polled
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written = true;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.written = true;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes after each reading too, and here only when everything was written.
        if std::mem::take(&mut self.written) {
            self.unanswered = false;
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write;

    use tokio::net::TcpListener;

    use super::*;

    /// The line of a connection that is to end, and the caller's side of it.
    async fn line() -> (Line, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let caller = std::net::TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (stream, _) = listener.accept().await.expect("the connection");
        (Line::new(stream, Arc::default()), caller)
    }

    /// How many bytes there are, without a wait; 0 is the end.
    async fn read(line: &mut Line) -> Poll<usize> {
        poll_fn(|context| {
            let mut bytes = [0; 16];
            let mut into = ReadBuf::new(&mut bytes);
            let polled = Pin::new(&mut *line).poll_read(context, &mut into);
            Poll::Ready(polled.map(|read| read.map(|()| into.filled().len()).expect("no error")))
        })
        .await
    }

    async fn write(line: &mut Line, bytes: &[u8]) {
        let written = poll_fn(|context| Pin::new(&mut *line).poll_write(context, bytes)).await;
        assert_eq!(written.expect("written"), bytes.len());
        let flushed = poll_fn(|context| Pin::new(&mut *line).poll_flush(context)).await;
        flushed.expect("flushed");
    }

    #[tokio::test]
    async fn bytes_that_came_before_the_end_are_read_though_the_runtime_has_not_seen_them() {
        let (mut line, mut caller) = line().await;
        assert_eq!(read(&mut line).await, Poll::Pending, "nothing has come");
        caller.write_all(b"POST").expect("written");
        line.talk.ends_when_quiet.store(true, Ordering::Relaxed);
        // This is the only thread, and it has not asked for events since.
        assert_eq!(
            read(&mut line).await,
            Poll::Pending,
            "neither an end nor, yet, the bytes"
        );
        line.stream.readable().await.expect("readable");
        assert_eq!(read(&mut line).await, Poll::Ready(4));
        assert_eq!(read(&mut line).await, Poll::Pending, "half a head is no end");
    }

    #[tokio::test]
    async fn a_line_ends_only_when_nobody_is_owed_an_answer() {
        let (mut line, mut caller) = line().await;
        line.talk.ends_when_quiet.store(true, Ordering::Relaxed);
        caller.write_all(b"POST").expect("written");
        line.stream.readable().await.expect("readable");
        assert_eq!(read(&mut line).await, Poll::Ready(4));
        line.talk.answering.store(true, Ordering::Relaxed);
        write(&mut line, b"HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(read(&mut line).await, Poll::Pending, "the body is still to come");
        line.talk.answering.store(false, Ordering::Relaxed);
        assert_eq!(read(&mut line).await, Poll::Ready(0));
    }
}

//! One connection, and how it ends without cutting a callback.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::places::{Stage, Talk};
use super::told::Told;
use super::{FIRST_BYTES_WITHIN, Group, Until};
use crate::answer::{self, Answering};
use crate::patience::Patience;
use crate::reply;
use crate::tls::Whole;

/// Answers what comes in on `wire`, until the caller, an answer or what it is told ends it.
pub(super) async fn serve(
    wire: impl Wire,
    http: http1::Builder,
    answering: Arc<Answering>,
    stopping: Arc<AtomicBool>,
    mut orders: Orders,
) {
    let talk = Arc::clone(&orders.talk);
    let told = Arc::clone(&talk);
    // There is one request at a time: nobody ever waits for it, or finds it gone.
    let resting = Arc::new(Mutex::new(None));
    let service = service_fn(move |request: Request<Incoming>| {
        told.enter(Stage::Answering);
        let (talk, stopping, resting) = (Arc::clone(&told), Arc::clone(&stopping), Arc::clone(&resting));
        let patience = held(&resting).take().unwrap_or_else(Patience::new);
        answer::answer(Arc::clone(&answering), request, patience, move |reply, patience| {
            *held(&resting) = Some(patience);
            talk.enter(Stage::Writing);
            // Read at the last moment: an answer after the stop is the connection's last.
            Ok::<_, Infallible>(match stopping.load(Ordering::Relaxed) {
                true => reply::closing(reply),
                false => reply,
            })
        })
    });
    let ends_when_quiet = Arc::new(AtomicBool::new(false));
    let line = Line::new(wire, talk, Arc::clone(&ends_when_quiet));
    let mut connection = pin!(http.serve_connection(TokioIo::new(line), service));
    let ended = match orders.unless_told(Until::Quiet, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(Until::Cut) => return,
        Err(_) => {
            ends_when_quiet.store(true, Ordering::Relaxed);
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

fn held(resting: &Mutex<Option<Patience>>) -> MutexGuard<'_, Option<Patience>> {
    resting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a connection is told: with all of its group, or alone.
pub(super) struct Orders {
    group: watch::Receiver<Until>,
    /// What the group was told, for who does not listen.
    told: Arc<Told>,
    talk: Arc<Talk>,
    /// The first bytes of a request have come by then, if one comes at once.
    heard_by: Instant,
}

impl Orders {
    pub(super) fn new(group: &Group, talk: Arc<Talk>) -> Self {
        Self {
            group: group.until.subscribe(),
            told: Arc::clone(&group.told),
            talk,
            heard_by: Instant::now() + FIRST_BYTES_WITHIN,
        }
    }

    /// From here on a first request may come.
    pub(super) fn begins_now(&mut self) {
        self.heard_by = Instant::now() + FIRST_BYTES_WITHIN;
    }

    /// What `connection` ends with, or what it is told before that is `least` or more.
    ///
    /// A connection wakes its task twice for each callback, an order once in its life. Listening for one is five futures
    /// in one another, each with a line of memory of its own, so it is polled once, which leaves this task's waker there,
    /// and not again until something was told, which may have taken the waker. (All wakers of a task of the runtime wake
    /// the same task.)
    pub(super) async fn unless_told<F: Future>(
        &mut self,
        least: Until,
        mut connection: Pin<&mut F>,
    ) -> Result<F::Output, Until> {
        let (talk, group) = (Arc::clone(&self.talk), Arc::clone(&self.told));
        let told = || [talk.news(), group.news()];
        let mut listening = pin!(self.at_least(least));
        let mut missed_nothing_since = None;
        poll_fn(|context| {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(Ok(ended));
            }
            let news = told();
            if missed_nothing_since == Some(news) && news.iter().all(|news| news.until() < least) {
                return Poll::Pending;
            }
            missed_nothing_since.get_or_insert(news);
            listening.as_mut().poll(context).map(Err)
        })
        .await
    }

    /// Returns when it is told that, or more.
    pub(super) async fn at_least(&mut self, least: Until) -> Until {
        let (group, heard_by) = (&mut self.group, self.heard_by);
        let of_group = async {
            // A sender that is gone has nothing more to say, and the process ends.
            let told = group
                .wait_for(|until| *until >= least)
                .await
                .map_or(least, |until| *until);
            if told == Until::Quiet {
                sleep_until(heard_by).await;
            }
            told
        };
        tokio::select! {
            told = of_group => told,
            told = self.talk.was_told(least) => told,
        }
    }
}

/// What a request comes in on.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// Whether not a byte of another request has come, as far as this machine can know.
    fn nothing_has_come(&self) -> bool;
}

impl Wire for TcpStream {
    /// Asks the kernel itself: what arrived a moment ago has not reached the runtime yet.
    fn nothing_has_come(&self) -> bool {
        let peeked = SockRef::from(self).peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Wire for TlsStream<Whole> {
    fn nothing_has_come(&self) -> bool {
        let encrypted = self.get_ref().0;
        encrypted.is_whole() && encrypted.stream().nothing_has_come()
    }
}

/// A wire that says "end of input" by itself when it is to end and nothing has come in that is not answered.
///
/// hyper's own `graceful_shutdown` closes a connection that waits for a request, also when that request lies in the
/// kernel already or half of its head is read. An end of input it takes for what it is only where a request could
/// begin, and that is where this gives it.
struct Line<W> {
    wire: W,
    talk: Arc<Talk>,
    /// The connection ends as soon as nobody is owed an answer on it.
    ends_when_quiet: Arc<AtomicBool>,
    /// Bytes were read, and no answer was sent since.
    unanswered: bool,
    /// Something was written and is not flushed.
    written: bool,
}

impl<W: Wire> Line<W> {
    fn new(wire: W, talk: Arc<Talk>, ends_when_quiet: Arc<AtomicBool>) -> Self {
        Self {
            wire,
            talk,
            ends_when_quiet,
            unanswered: false,
            written: false,
        }
    }

    fn is_over(&self) -> bool {
        // `unanswered` alone would not do: "100 Continue" is written in the middle of a request.
        self.ends_when_quiet.load(Ordering::Relaxed)
            && !self.unanswered
            && self.talk.stage() != Stage::Answering
            && self.wire.nothing_has_come()
    }
}

impl<W: Wire> AsyncRead for Line<W> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.wire).poll_read(context, into);
        if into.filled().len() > before {
            self.unanswered = true;
            if self.talk.stage() == Stage::Silent {
                self.talk.enter(Stage::Head);
            }
        }
        if polled.is_pending() && self.is_over() {
            return Poll::Ready(Ok(()));
        }
        polled
    }
}

impl<W: Wire> AsyncWrite for Line<W> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written = true;
        Pin::new(&mut self.wire).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.written = true;
        Pin::new(&mut self.wire).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.wire).poll_flush(context);
        // hyper flushes after each reading too, and here only when everything was written.
        if polled.is_ready() && std::mem::take(&mut self.written) {
            self.unanswered = false;
            if self.talk.stage() == Stage::Writing {
                self.talk.enter(Stage::Silent);
            }
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io::Write;
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::*;

    /// The line of a connection that is to end, and the caller's side of it.
    async fn line() -> (Line<TcpStream>, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let caller = std::net::TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (stream, _) = listener.accept().await.expect("the connection");
        let talk = Arc::new(Talk::new(Instant::now()));
        (Line::new(stream, talk, Arc::default()), caller)
    }

    /// How many bytes there are, without a wait; 0 is the end.
    async fn read(line: &mut Line<TcpStream>) -> Poll<usize> {
        poll_fn(|context| {
            let mut bytes = [0; 16];
            let mut into = ReadBuf::new(&mut bytes);
            let polled = Pin::new(&mut *line).poll_read(context, &mut into);
            Poll::Ready(polled.map(|read| read.map(|()| into.filled().len()).expect("no error")))
        })
        .await
    }

    async fn write(line: &mut Line<TcpStream>, bytes: &[u8]) {
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
        line.ends_when_quiet.store(true, Ordering::Relaxed);
        // This is the only thread, and it has not asked for events since.
        assert_eq!(
            read(&mut line).await,
            Poll::Pending,
            "neither an end nor, yet, the bytes"
        );
        line.wire.readable().await.expect("readable");
        assert_eq!(read(&mut line).await, Poll::Ready(4));
        assert_eq!(read(&mut line).await, Poll::Pending, "half a head is no end");
    }

    #[tokio::test]
    async fn a_line_ends_only_when_nobody_is_owed_an_answer() {
        let (mut line, mut caller) = line().await;
        line.ends_when_quiet.store(true, Ordering::Relaxed);
        caller.write_all(b"POST").expect("written");
        line.wire.readable().await.expect("readable");
        assert_eq!(read(&mut line).await, Poll::Ready(4));
        line.talk.enter(Stage::Answering);
        write(&mut line, b"HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(read(&mut line).await, Poll::Pending, "the body is still to come");
        line.talk.enter(Stage::Writing);
        assert_eq!(read(&mut line).await, Poll::Ready(0));
    }

    #[tokio::test]
    async fn an_order_is_heard_at_once_whatever_was_told_before_it_and_by_whom() {
        const AT_ONCE: Duration = Duration::from_secs(10);
        type Tell = fn(&Group, &Talk);
        let by_group: Tell = |group, _| group.tell(Until::Cut);
        let alone: Tell = |_, talk| talk.tell(Until::Cut);
        let before: [&[Tell]; 4] = [
            &[],
            &[
                |group, _| group.tell(Until::Answered),
                |group, _| group.tell(Until::Answered),
            ],
            &[
                |_, talk| talk.tell(Until::Answered),
                |_, talk| talk.tell(Until::Answered),
            ],
            &[|group, _| group.tell(Until::Quiet), |_, talk| talk.tell(Until::Quiet)],
        ];
        for order in [by_group, alone] {
            for before in before {
                let (group, talk) = (Group::new(Until::Ended), Arc::new(Talk::new(Instant::now())));
                let mut orders = Orders::new(&group, Arc::clone(&talk));
                let listening = tokio::spawn(async move {
                    let connection = pin!(pending::<()>());
                    orders.unless_told(Until::Cut, connection).await
                });
                for tell in before.iter().chain([&order]) {
                    yield_now().await;
                    tell(&group, &talk);
                }
                let heard = timeout(AT_ONCE, listening)
                    .await
                    .expect("it is heard")
                    .expect("no panic");
                assert_eq!(heard, Err(Until::Cut));
            }
        }
    }

    #[tokio::test]
    async fn who_is_to_be_quiet_before_the_first_bytes_can_be_there_is_so_when_they_should_be() {
        for told_first in [true, false] {
            let (group, talk) = (Group::new(Until::Ended), Arc::new(Talk::new(Instant::now())));
            let mut orders = Orders::new(&group, talk);
            let began = Instant::now();
            if told_first {
                group.tell(Until::Quiet);
            }
            let listening = tokio::spawn(async move {
                let connection = pin!(pending::<()>());
                orders.unless_told(Until::Quiet, connection).await
            });
            yield_now().await;
            if !told_first {
                group.tell(Until::Quiet);
            }
            let heard = timeout(20 * FIRST_BYTES_WITHIN, listening).await.expect("it is heard");
            assert_eq!(heard.expect("no panic"), Err(Until::Quiet));
            assert!(began.elapsed() >= FIRST_BYTES_WITHIN - Duration::from_millis(1));
        }
    }
}

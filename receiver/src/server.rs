//! The connections that callbacks come in on: how many, how slow, and how they end.
//!
//! Chat keeps its connections, sends a callback once, and lets the operation through when no answer comes. A
//! connection that is closed while a callback is on its way to it is such a silence. So connections end by an answer
//! that says `Connection: close`, and only those that nobody uses end by being closed:
//!
//! 1. From the stop on every answer is the last of its connection. Accepting goes on, so that whoever was told so finds
//!    the door open: for as long as a connection from before the stop is left, at most for [`LINGER`]. What remains
//!    after that time has been silent throughout.
//! 2. When the socket outlives this process ([`Drain::HandingOver`]), callers may as well wait for the next start: no
//!    more is accepted, and the kernel's queue keeps what comes. When nobody listens afterwards
//!    ([`Drain::Leaving`]), the linger lasts until nobody has come for [`CALM`] either, counted from the last answer on a
//!    connection from before the stop at the earliest: who got it calls again, and a balancer has time to notice. Then
//!    what the kernel has queued is accepted too, and the address is given up.
//! 3. What is under way is answered. A connection without a request ends when the kernel has nothing of it either: at
//!    once, or [`FIRST_BYTES_WITHIN`] after it was accepted. Who has sent half a request has time for the rest, within
//!    a bound; then it is cut, so that no callback is answered whose record would be refused. Who was accepted and waits
//!    for a place gets one that is given back by then, or is cut as well: no caller makes a stop longer.
//!
//! With HTTP/2 ([`streams`]) the same is said by GOAWAY instead of a header. Under encryption a silent connection is one whose
//! last TLS record was read whole; it is closed with a `close_notify`, so that its caller can tell an end from a cut.
//!
//! Places are bounded, and so is what one may do with its own ([`places`]).
//!
//! Why the first step may take its time, and what follows must be quick: while it accepts, a stopping receiver answers
//! as ever. Then the callers of a handed-over socket wait, and have 2 s for the whole of step 3 (milliseconds; where
//! somebody dawdles, [`FIRST_BYTES_WITHIN`] and a reply's deadline), the last records ([`Drain::catch_up`]), and the
//! next start.
//!
//! What no server can rule out: a callback that is sent into a silent connection within the time that the news of its
//! closing takes to the caller. After [`LINGER`] of silence that is unlikely, and a caller that looks before it writes
//! is not concerned.

mod connection;
mod descriptors;
mod places;
mod streams;
mod told;

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;
use prometheus_client::registry::Registry;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use crate::answer::Answering;
use crate::drain::Drain;
use crate::tls::{Handshakes, Spoken};
use connection::Orders;
use descriptors::Trouble;
use places::{Place, Places};
use told::Told;

/// From one request to the next one, idle time included. Long, because Chat keeps connections and never repeats a
/// callback: one that meets a closing connection passes unseen.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// Head and buffered body of a connection, grown to when needed. A request line has some 500 bytes; a head over the
/// bound is answered 431 before anybody can know whether it is from Chat, so the bound is far from what Chat sends.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// The same for the number of headers: Chat sends two, a proxy adds a dozen.
const HEADERS_MAX: usize = 256;
/// Before the next try when the process has no descriptors left: those who are to leave need a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection from before the stop may take to its last answer. What was sent into it while the stop was
/// news to nobody is there within the 2 s that Chat waits; a second more for a machine that is busy. With 15 s of
/// publishing behind it, it stays below the 30 s after which container runtimes kill.
const LINGER: Duration = Duration::from_secs(3);
/// Nobody came for so long: nobody calls, or a balancer sends them elsewhere. Short, because a stop should be, too.
const CALM: Duration = Duration::from_millis(500);
/// From the end of the handshake to the first bytes of a request, which follow it at once or come a round trip later.
/// A round trip around the earth takes 250 ms.
const FIRST_BYTES_WITHIN: Duration = Duration::from_millis(250);
/// What a busy machine may add to a reply's deadline.
const MARGIN: Duration = Duration::from_millis(100);
/// What the kernel queues for a socket, at most: `net.core.somaxconn`.
const QUEUE_MAX: usize = 4_096;

/// Between two tries to make room for a connection: those who are to leave need a moment.
const ROOM_PAUSE: Duration = Duration::from_millis(5);

/// The accepting task, and the way to end it.
pub(crate) struct Server {
    accepting: JoinHandle<()>,
    watching: JoinHandle<()>,
    stop: watch::Sender<Option<Drain>>,
    connections: Arc<Connections>,
    /// What a callback may wait before its answer is made.
    reply_patience: Duration,
}

/// All open connections, and what they are told.
struct Connections {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    /// None: plain HTTP/1.1.
    tls: Option<Handshakes>,
    places: Arc<Places>,
    answering: Arc<Answering>,
    /// Every answer is the last of its connection.
    stopping: Arc<AtomicBool>,
    /// Those that were accepted before the stop, and after it.
    kept: Group,
    fresh: Group,
    last_accepted: Mutex<Instant>,
}

/// Connections that are told the same.
struct Group {
    until: watch::Sender<Until>,
    /// The same as `until` holds, to be read without a lock.
    told: Arc<Told>,
}

/// How long a connection may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Until {
    /// Until its caller, an answer or a timeout ends it.
    Ended,
    /// Until what is under way is answered.
    Answered,
    /// Until nobody is owed an answer.
    Quiet,
    /// Until now.
    Cut,
}

impl Group {
    fn new(until: Until) -> Self {
        Self {
            until: watch::Sender::new(until),
            told: Arc::new(Told::new(until)),
        }
    }

    fn tell(&self, until: Until) {
        // Within, so that whoever sees the one finds the other.
        self.until.send_modify(|told| {
            *told = until;
            self.told.tell(until);
        });
    }
}

impl Server {
    /// Must be called within a runtime.
    pub(crate) fn start(
        listener: TcpListener,
        answering: Arc<Answering>,
        connections_max: usize,
        tls: Option<Handshakes>,
        registry: &mut Registry,
    ) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let reply_patience = answering.patience;
        let connections_max = descriptors::fitting(connections_max);
        let places = Places::new(connections_max, registry);
        let watching = tokio::spawn(Arc::clone(&places).watch());
        let connections = Arc::new(Connections::new(answering, tls, places));
        let (stop, stopped) = watch::channel(None);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&connections), connections_max, stopped));
        Ok(Self {
            accepting,
            watching,
            stop,
            connections,
            reply_patience,
        })
    }

    /// Ends every connection as the module's header tells, and returns when none is left.
    pub(crate) async fn drain(self, drain: Drain) {
        let connections = self.connections;
        connections.stopping.store(true, Ordering::Relaxed);
        connections.kept.tell(Until::Answered);
        let began = Instant::now();
        // Over when nobody is left, or by time; then nothing is to be done about it.
        let _ = timeout(LINGER, connections.linger(drain)).await;
        let lingered = began.elapsed();
        self.stop.send_replace(Some(drain));
        let remained = connections.count();
        // Told before accepting has ended: who waits there for a place gets one of these.
        connections.tell(Until::Quiet);
        let mut accepting = self.accepting;
        // A panic of that task has been printed, and ends it too.
        if timeout(FIRST_BYTES_WITHIN + MARGIN, &mut accepting).await.is_err() {
            warn!("connections that wait for a place are cut, no other one has ended in time");
            accepting.abort();
            let _ = accepting.await;
        }
        let patience = FIRST_BYTES_WITHIN + self.reply_patience + MARGIN;
        if timeout(patience, connections.gone()).await.is_err() {
            let open = connections.count();
            warn!(open, "connections with half a request did not end in time and are cut");
            connections.tell(Until::Cut);
            connections.gone().await;
        }
        self.watching.abort();
        info!(?lingered, remained, "no connection is left, accepting has ended");
    }
}

impl Connections {
    fn new(answering: Arc<Answering>, tls: Option<Handshakes>, places: Arc<Places>) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            // Slow heads are ended by whoever watches the places; hyper would make a timer of its own for each request.
            .header_read_timeout(None)
            .max_buf_size(BUFFER_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            // Whoever has ended its own side waits for its answer like anyone else, and nothing is read meanwhile: that a caller
            // is gone is seen when its answer is written.
            .half_close(true)
            .keep_alive(true);
        Self {
            http1,
            http2: streams::settings(),
            tls,
            places,
            answering,
            stopping: Arc::default(),
            kept: Group::new(Until::Ended),
            fresh: Group::new(Until::Answered),
            last_accepted: Mutex::new(Instant::now()),
        }
    }

    /// Starts answering on it; `place` is given back at its end.
    fn open(self: &Arc<Self>, stream: TcpStream, place: OwnedSemaphorePermit) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection broke");
            return;
        }
        let taken = self.places.take();
        let stopping = Arc::clone(&self.stopping);
        let group = match stopping.load(Ordering::Relaxed) {
            true => &self.fresh,
            false => &self.kept,
        };
        *self.last_accepted.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let Place { talk, .. } = &taken;
        let orders = Orders::new(group, Arc::clone(talk));
        let Some(tls) = self.tls.clone() else {
            let answering = Arc::clone(&self.answering);
            let http = self.http1.clone();
            // A task of its own kind: with the handshake's and HTTP/2's state beside it each would be more than three times as large.
            tokio::spawn(async move {
                connection::serve(stream, http, answering, stopping, orders).await;
                drop((taken, place));
            });
            return;
        };
        let connections = Arc::clone(self);
        tokio::spawn(async move {
            connections
                .serve_encrypted(stream, &tls, stopping, orders, &taken)
                .await;
            drop((taken, place));
        });
    }

    async fn serve_encrypted(
        &self,
        stream: TcpStream,
        tls: &Handshakes,
        stopping: Arc<AtomicBool>,
        mut orders: Orders,
        taken: &Place,
    ) {
        let answering = Arc::clone(&self.answering);
        let shaken = tokio::select! {
            shaken = tls.shake(stream) => shaken,
            _ = orders.at_least(Until::Quiet) => return,
        };
        orders.begins_now();
        match shaken {
            None => {}
            Some((stream, Spoken::Http1)) => {
                connection::serve(stream, self.http1.clone(), answering, stopping, orders).await;
            }
            Some((stream, Spoken::Http2)) => {
                streams::serve(stream, self.http2.clone(), answering, Arc::clone(&taken.talk), orders).await;
            }
        }
    }

    /// For as long as it makes sense to accept further connections.
    async fn linger(&self, drain: Drain) {
        self.kept.until.closed().await;
        if drain == Drain::HandingOver {
            return;
        }
        let mut since = Instant::now();
        loop {
            sleep_until(since + CALM).await;
            let last_accepted = *self.last_accepted.lock().unwrap_or_else(PoisonError::into_inner);
            if last_accepted <= since {
                return;
            }
            since = last_accepted;
        }
    }

    fn tell(&self, until: Until) {
        self.kept.tell(until);
        self.fresh.tell(until);
    }

    async fn gone(&self) {
        self.kept.until.closed().await;
        self.fresh.until.closed().await;
    }

    fn count(&self) -> usize {
        self.kept.until.receiver_count() + self.fresh.until.receiver_count()
    }
}

async fn accept(
    listener: tokio::net::TcpListener,
    connections: Arc<Connections>,
    connections_max: usize,
    mut stopped: watch::Receiver<Option<Drain>>,
) {
    let room = Arc::new(Semaphore::new(connections_max));
    let mut trouble = Trouble::default();
    loop {
        let accepted = tokio::select! {
            _ = stopped.changed() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                if trouble.is_over(Instant::now()) {
                    info!("connections can be accepted again");
                }
                // Not given up when it stops meanwhile: those who leave make room, and the drain waits no longer than it should.
                if let Some(place) = place(&room, &connections.places).await {
                    connections.open(stream, place);
                }
            }
            Err(error) => {
                if trouble.goes_on(Instant::now()) {
                    warn!(%error, "connections cannot be accepted, they wait in the kernel: those that are silent the longest are ended where descriptors are lacking");
                }
                if descriptors::none_is_left(&error) {
                    connections.places.give_up_some();
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    if *stopped.borrow() == Some(Drain::Leaving)
        && let Err(error) = accept_queued(listener, &connections, &room).await
    {
        warn!(%error, "connections that waited to be accepted are cut");
    }
}

/// One waits here at the most, until somebody has left for it; those behind it wait in the kernel. `None` never: the
/// places are there as long as the server is.
async fn place(room: &Arc<Semaphore>, places: &Places) -> Option<OwnedSemaphorePermit> {
    loop {
        match Arc::clone(room).try_acquire_owned() {
            Ok(place) => return Some(place),
            Err(TryAcquireError::Closed) => return None,
            Err(TryAcquireError::NoPermits) => places.make_room(),
        }
        if let Ok(place) = timeout(ROOM_PAUSE, Arc::clone(room).acquire_owned()).await {
            return place.ok();
        }
    }
}

/// What waits in the kernel's queue at this moment, which the end of the listener would reset.
async fn accept_queued(
    listener: tokio::net::TcpListener,
    connections: &Arc<Connections>,
    room: &Arc<Semaphore>,
) -> std::io::Result<()> {
    // Asks the kernel itself: what arrived a moment ago has not reached the runtime yet.
    let listener = listener.into_std()?;
    for _ in 0..QUEUE_MAX {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(stream)?;
        if let Some(place) = place(room, &connections.places).await {
            connections.open(stream, place);
        }
    }
    Ok(())
}

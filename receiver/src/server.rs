//! The connections that callbacks come in on: how many, how slow, and how they end.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::answer::{self, Answering};

/// From one request to the end of the next one's head, idle time included. Long, because Chat keeps connections and
/// never repeats a callback: one that meets a closing connection passes unseen.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// Head and buffered body of a connection, grown to when needed. A request line has some 500 bytes; a head over the
/// bound is answered 431 before anybody can know whether it is from Chat, so the bound is far from what Chat sends.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// The same for the number of headers: Chat sends two, a proxy adds a dozen.
const HEADERS_MAX: usize = 256;
/// Before the next try when the process has no descriptors left: they come back when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The accepting task, and the way to end it.
pub(crate) struct Server {
    stop: watch::Sender<bool>,
    accepting: JoinHandle<GracefulShutdown>,
}

impl Server {
    /// Must be called within a runtime.
    pub(crate) fn start(
        listener: TcpListener,
        answering: Arc<Answering>,
        connections_max: usize,
    ) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let router = Router::new().fallback(answer::answer).with_state(answering);
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, router, connections_max, stopped));
        Ok(Self { stop, accepting })
    }

    /// Accepts no more, lets every request under way be answered and its connection end, at most for `patience`.
    pub(crate) async fn drain(self, patience: Duration) {
        // The accepting task may be gone already; then there is nothing to tell it.
        let _ = self.stop.send(true);
        let Ok(connections) = self.accepting.await else {
            return;
        };
        let open = connections.count();
        if timeout(patience, connections.shutdown()).await.is_err() {
            warn!(open, "connections did not end in time and are cut");
        }
    }
}

async fn accept(
    listener: tokio::net::TcpListener,
    router: Router,
    connections_max: usize,
    mut stopped: watch::Receiver<bool>,
) -> GracefulShutdown {
    let room = Arc::new(Semaphore::new(connections_max));
    let connections = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(true);
    loop {
        let accepted = tokio::select! {
            _ = stopped.changed() => return connections,
            accepted = accept_one(&listener, &room) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "a connection broke");
            }
            drop(place);
        });
    }
}

async fn accept_one(
    listener: &tokio::net::TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    // Never closed, so a place is all that can come of it.
    let place = Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

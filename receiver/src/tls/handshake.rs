use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::files::Certificate;
use super::records::Whole;

/// From the connection to the end of the handshake: two round trips, and some milliseconds of computing on a busy
/// machine. Chat waits 2 s for the whole.
const HANDSHAKE_MAX: Duration = Duration::from_secs(2);
const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// Makes the handshakes, each with the certificate of its moment.
#[derive(Clone)]
pub(crate) struct Handshakes {
    acceptor: TlsAcceptor,
    shown: Arc<Shown>,
    ended: Family<Ended, Counter>,
}

/// What the caller chose to speak (ALPN, RFC 7301); without a choice, HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

struct Shown(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the certificate of the moment")
    }
}

impl Handshakes {
    /// TLS 1.2 and 1.3.
    pub(crate) fn new(certificate: &Certificate, registry: &mut Registry) -> Result<Self, rustls::Error> {
        let shown = Arc::new(Shown(ArcSwap::new(certificate.certified())));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![H2.to_vec(), HTTP1.to_vec()];
        // Whoever comes back without its connection saves most of the computing; tickets cost no memory here.
        config.ticketer = ring::Ticketer::new()?;
        let ended = Family::default();
        registry.register(
            "receiver_tls_handshakes",
            "TLS handshakes by how they ended",
            ended.clone(),
        );
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            shown,
            ended,
        })
    }

    /// From here on this one is shown; false when it is already.
    pub(crate) fn show(&self, certificate: &Certificate) -> bool {
        let certified = certificate.certified();
        let before = self.shown.0.swap(Arc::clone(&certified));
        before.cert != certified.cert
    }

    /// `None` where none came of it: a caller that speaks no TLS, or too slowly, is nobody's callback.
    pub(crate) async fn shake(&self, stream: TcpStream) -> Option<(TlsStream<Whole>, Spoken)> {
        let outcome = timeout(HANDSHAKE_MAX, self.acceptor.accept(Whole::new(stream))).await;
        let (label, done) = match outcome {
            Ok(Ok(done)) => ("done", Some(done)),
            Ok(Err(error)) => {
                debug!(%error, "a handshake failed");
                ("failed", None)
            }
            Err(_) => ("stalled", None),
        };
        self.ended.get_or_create(&Ended { outcome: label }).inc();
        done.map(|stream| {
            let spoken = match stream.get_ref().1.alpn_protocol() {
                Some(H2) => Spoken::Http2,
                _ => Spoken::Http1,
            };
            (stream, spoken)
        })
    }
}

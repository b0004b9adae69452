use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio_rustls::TlsConnector;

use super::{Answer, Callback, PATIENCE};

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// Whose certificates the callers of a test believe.
pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    roots: Arc<RootCertStore>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let own = params.self_signed(&key).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(own.der().clone()).expect("a root");
        Self {
            pem: own.pem(),
            issuer: Issuer::new(params, key),
            roots: Arc::new(roots),
        }
    }

    /// Its own certificate, as PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A new certificate for the loopback address and its key, as PEM.
    pub(crate) fn certificate(&self) -> (String, String) {
        let now = SystemTime::now();
        self.certificate_between(now - DAY, now + 30 * DAY)
    }

    /// One that holds between these two.
    pub(crate) fn certificate_between(&self, from: SystemTime, until: SystemTime) -> (String, String) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        (params.not_before, params.not_after) = (from.into(), until.into());
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// A client that checks whom it talks to.
    fn client(&self, speaks: &[u8]) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(Arc::clone(&self.roots));
        let mut config = config.with_no_client_auth();
        config.alpn_protocols = vec![speaks.to_vec()];
        Arc::new(config)
    }
}

/// Plays Chat over one encrypted connection that it keeps, in HTTP/1.1.
pub(crate) struct TlsCaller {
    connection: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    closed: bool,
}

impl TlsCaller {
    /// Panics where the certificate is not to be believed.
    pub(crate) fn connect(address: SocketAddr, authority: &Authority) -> io::Result<Self> {
        Self::announcing(b"http/1.1", address, authority)
    }

    /// The same for who announces `h2`, and has said nothing of it yet.
    pub(crate) fn announcing(speaks: &[u8], address: SocketAddr, authority: &Authority) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::from(address.ip());
        let client = ClientConnection::new(authority.client(speaks), name).expect("a client");
        let mut stream = StreamOwned::new(client, stream);
        stream.conn.complete_io(&mut stream.sock)?;
        Ok(Self {
            connection: BufReader::new(stream),
            closed: false,
        })
    }

    /// The certificate that was shown.
    pub(crate) fn shown(&self) -> CertificateDer<'static> {
        let certificates = self.connection.get_ref().conn.peer_certificates();
        certificates.expect("a handshake")[0].clone().into_owned()
    }

    pub(crate) fn post(&mut self, callback: &Callback) -> io::Result<Answer> {
        self.connection.get_mut().write_all(&callback.request())?;
        self.answer()
    }

    /// The encrypted bytes of a request, not sent yet.
    pub(crate) fn sealed(&mut self, callback: &Callback) -> Vec<u8> {
        let client = &mut self.connection.get_mut().conn;
        client.writer().write_all(&callback.request()).expect("buffered");
        let mut sealed = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut sealed).expect("sealed");
        }
        sealed
    }

    /// Bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.connection.get_mut().sock.write_all(bytes).expect("written");
    }

    /// Bytes that are no callback, encrypted.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.connection.get_mut().write_all(bytes).expect("written");
    }

    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let answer = Answer::read(&mut self.connection, true)?;
        self.closed |= answer.closes();
        Ok(answer)
    }

    /// Whether the last answer was the connection's last.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns at the end of the connection; true when it was an end and not a cut.
    pub(crate) fn ends_properly(&mut self) -> bool {
        self.connection.read_to_end(&mut Vec::new()).is_ok()
    }
}

/// Plays Chat in HTTP/2.
#[derive(Clone)]
pub(crate) struct Http2(SendRequest<Full<Bytes>>);

impl Http2 {
    pub(crate) async fn connect(address: SocketAddr, authority: &Authority) -> Self {
        Self::granting(None, address, authority).await
    }

    /// For who lets come so many bytes of each answer's body before any is read.
    pub(crate) async fn granting(window_bytes: Option<u32>, address: SocketAddr, authority: &Authority) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let connector = TlsConnector::from(authority.client(b"h2"));
        let stream = connector.connect(ServerName::from(address.ip()), stream).await;
        let stream = stream.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window_bytes)
            .handshake(TokioIo::new(stream))
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        Self(sender)
    }

    /// Whether another request may be sent.
    pub(crate) async fn goes_on(&mut self) -> bool {
        self.0.ready().await.is_ok()
    }

    pub(crate) async fn post(&mut self, target: &str, body: &[u8]) -> hyper::Result<(StatusCode, String)> {
        let (head, body) = self.begin(target, body).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok((head.status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// The head of the answer; its body is not read yet.
    pub(crate) async fn begin(&mut self, target: &str, body: &[u8]) -> hyper::Result<Response<Incoming>> {
        let request = Request::post(format!("https://localhost{target}"))
            .body(Full::new(Bytes::copy_from_slice(body)))
            .expect("a request");
        self.0.send_request(request).await
    }
}

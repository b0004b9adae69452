//! Where callbacks are sent, and how they are signed.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use portcullis_receiver::{Config, Tokens};
use portcullis_schema::{AppId, Timestamp};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::call::{Call, Forgery};
use crate::failure::Failure;

/// For the first look whether anybody listens.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Well outside of the window that a receiver takes.
const OLD_SECONDS: i64 = 3_600;

/// The receiver, and the app that is played.
#[derive(Clone)]
pub(super) struct Target {
    url: String,
    /// With the port.
    host: String,
    path: String,
    app: AppId,
    /// None that is configured.
    stranger: AppId,
    tokens: Tokens,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// An address as an argument: `http://HOST:PORT/PATH`, or the same with `https`.
pub(super) fn url(text: &str) -> Result<Uri, String> {
    let told = "not an address such as https://chat.example.com/ or http://127.0.0.1:8080/";
    let uri: Uri = text.parse().map_err(|_| told.to_owned())?;
    let spoken = matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none();
    if spoken && uri.host().is_some() {
        Ok(uri)
    } else {
        Err(told.to_owned())
    }
}

impl Target {
    /// `app` may be left out where there is only one.
    pub(super) fn new(
        url: Option<Uri>,
        ca: Option<&Path>,
        app: Option<AppId>,
        config: &Config,
    ) -> Result<Self, Failure> {
        let known = || {
            let ids: Vec<String> = config.apps.keys().map(AppId::to_string).collect();
            ids.join(", ")
        };
        let chosen = match app {
            Some(app) => config.apps.get_key_value(&app),
            None if config.apps.len() > 1 => {
                let told = format!(
                    "the configuration has several apps: choose one with --app, of {}",
                    known()
                );
                return Err(Failure::Usage(told));
            }
            None => config.apps.first_key_value(),
        };
        let Some((app, tokens)) = chosen else {
            let told = format!("--app is none of the configuration's apps: {}", known());
            return Err(Failure::Usage(told));
        };
        let (https, host, path) = match url {
            Some(url) => {
                let https = url.scheme_str() == Some("https");
                let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
                let host = url.host().unwrap_or_default();
                (https, format!("{host}:{port}"), url.path().to_owned())
            }
            None => (config.tls.is_some(), config.listen.to_string(), "/".to_owned()),
        };
        let scheme = if https { "https" } else { "http" };
        let tls = match ca {
            _ if https => Some((connector(ca)?, server_name(&host)?)),
            None => None,
            Some(_) => {
                let told = format!(
                    "--ca is for https, and {scheme}://{host}{path} is not encrypted: leave it out, or name an https address with --url"
                );
                return Err(Failure::Usage(told));
            }
        };
        let stranger = (1..).map(AppId).find(|id| !config.apps.contains_key(id));
        Ok(Self {
            url: format!("{scheme}://{host}{path}"),
            host,
            path,
            app: *app,
            stranger: stranger.unwrap_or(AppId(0)),
            tokens: tokens.clone(),
            tls,
        })
    }

    /// Without a query.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// With the port.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Whose certificates are believed, and whom they must name.
    pub(super) fn tls(&self) -> Option<&(TlsConnector, ServerName<'static>)> {
        self.tls.as_ref()
    }

    /// Whether the app has tokens.
    pub(super) fn is_signed(&self) -> bool {
        !self.tokens.accepts_unsigned()
    }

    /// Fails where nobody listens.
    pub(super) fn look(&self) -> Result<(), Failure> {
        let connect = || {
            let mut last = io::Error::from(io::ErrorKind::NotFound);
            for address in self.host.to_socket_addrs()?.collect::<Vec<SocketAddr>>() {
                match TcpStream::connect_timeout(&address, CONNECT_MAX) {
                    Ok(_) => return Ok(()),
                    Err(error) => last = error,
                }
            }
            Err(last)
        };
        connect().map_err(|error| {
            Failure::Away(format!(
                "no receiver answers at {}: {error}; start it with portcullis receiver, or name another one with --url",
                self.url
            ))
        })
    }

    /// Path and query of a callback that is sent at `now`.
    pub(super) fn of(&self, call: &Call, now: Timestamp) -> String {
        let app = match call.forgery {
            Some(Forgery::UnknownApp) => self.stranger,
            _ => self.app,
        };
        let mut url = format!(
            "{}?SdkAppid={app}&CallbackCommand={}&contenttype=json&ClientIP={}&OptPlatform=iOS",
            self.path, call.asked.command, call.client_ip
        );
        if call.forgery == Some(Forgery::Repeated) {
            url.push_str(&format!("&SdkAppid={app}"));
        }
        let seconds = match call.forgery {
            Some(Forgery::Old) => now.as_seconds() - OLD_SECONDS,
            _ => now.as_seconds(),
        }
        .to_string();
        let sign = match call.forgery {
            Some(Forgery::Unsigned) => None,
            Some(Forgery::WrongSign) => Tokens::new(vec!["a token of somebody else".to_owned()]).sign(&seconds),
            _ => self.tokens.sign(&seconds),
        };
        if let Some(sign) = sign {
            url.push_str(&format!("&Sign={sign}&RequestTime={seconds}"));
        }
        url
    }
}

fn connector(ca: Option<&Path>) -> Result<TlsConnector, Failure> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(file) => believe(&mut roots, file)?,
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The certificates in a PEM file.
fn believe(roots: &mut RootCertStore, file: &Path) -> Result<(), Failure> {
    let wrong = |what: String| Failure::Usage(format!("--ca {}: {what}", file.display()));
    let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(format!("not PEM: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(format!("not the certificate of an authority: {error}")))?;
    }
    match roots.is_empty() {
        true => Err(wrong("no certificate in it".to_owned())),
        false => Ok(()),
    }
}

/// Without the port and an IPv6 address's brackets.
fn server_name(host: &str) -> Result<ServerName<'static>, Failure> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(name.to_owned())
        .map_err(|_| Failure::Usage(format!("--url: no certificate can name {name:?}")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_address_is_of_the_web_and_has_no_query() {
        for (text, taken) in [
            ("http://127.0.0.1:8080/", true),
            ("http://[::1]:8080", true),
            ("http://chat.example/some/path", true),
            ("https://127.0.0.1:8080/", true),
            ("ftp://127.0.0.1/", false),
            ("127.0.0.1:8080", false),
            ("http://127.0.0.1:8080/?a=b", false),
            ("/", false),
        ] {
            assert_eq!(super::url(text).is_ok(), taken, "{text}");
        }
    }
}

//! Where callbacks are sent, and how they are signed.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use portcullis_receiver::{Config, Tokens};
use portcullis_schema::{AppId, Timestamp};
use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

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
    host: String,
    app: AppId,
    /// None that is configured.
    stranger: AppId,
    tokens: Tokens,
    roots: RootCerts,
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
        let (url, host) = match url {
            Some(url) => {
                let (scheme, port) = match url.scheme_str() {
                    Some("https") => ("https", 443),
                    _ => ("http", 80),
                };
                let host = url.host().unwrap_or_default();
                let host = format!("{host}:{}", url.port_u16().unwrap_or(port));
                (format!("{scheme}://{host}{}", url.path()), host)
            }
            None => {
                let scheme = if config.tls.is_some() { "https" } else { "http" };
                (format!("{scheme}://{}/", config.listen), config.listen.to_string())
            }
        };
        let stranger = (1..).map(AppId).find(|id| !config.apps.contains_key(id));
        Ok(Self {
            url,
            host,
            app: *app,
            stranger: stranger.unwrap_or(AppId(0)),
            tokens: tokens.clone(),
            roots: ca.map_or(Ok(RootCerts::WebPki), authorities)?,
        })
    }

    /// Without a query.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Whose certificates are believed.
    pub(super) fn roots(&self) -> RootCerts {
        self.roots.clone()
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

    /// The whole address of a callback that is sent at `now`.
    pub(super) fn of(&self, call: &Call, now: Timestamp) -> String {
        let app = match call.forgery {
            Some(Forgery::UnknownApp) => self.stranger,
            _ => self.app,
        };
        let mut url = format!(
            "{}?SdkAppid={app}&CallbackCommand={}&contenttype=json&ClientIP={}&OptPlatform=iOS",
            self.url, call.asked.command, call.client_ip
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

/// The certificates in a PEM file.
fn authorities(file: &Path) -> Result<RootCerts, Failure> {
    let wrong = |what: String| Failure::Usage(format!("--ca {}: {what}", file.display()));
    let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let items: Result<Vec<PemItem<'_>>, _> = parse_pem(&pem).collect();
    let items = items.map_err(|error| wrong(format!("not PEM: {error}")))?;
    let certificates: Vec<Certificate<'_>> = items
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    match certificates.is_empty() {
        true => Err(wrong("no certificate in it".to_owned())),
        false => Ok(RootCerts::Specific(Arc::new(certificates))),
    }
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

//! Where callbacks are sent, and how they are signed.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use axum::http::Uri;
use portcullis_receiver::{Config, Tokens};
use portcullis_schema::{AppId, Timestamp};

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
}

/// An address as an argument: `http://HOST:PORT/PATH`.
pub(super) fn url(text: &str) -> Result<Uri, String> {
    let told = "not an address such as http://127.0.0.1:8080/; TLS is not spoken";
    let uri: Uri = text.parse().map_err(|_| told.to_owned())?;
    let plain = uri.scheme_str() == Some("http") && uri.query().is_none();
    if plain && uri.host().is_some() {
        Ok(uri)
    } else {
        Err(told.to_owned())
    }
}

impl Target {
    /// `app` may be left out where there is only one.
    pub(super) fn new(url: Option<Uri>, app: Option<AppId>, config: &Config) -> Result<Self, Failure> {
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
                let host = url.host().unwrap_or_default();
                let host = format!("{host}:{}", url.port_u16().unwrap_or(80));
                (format!("http://{host}{}", url.path()), host)
            }
            None => (format!("http://{}/", config.listen), config.listen.to_string()),
        };
        let stranger = (1..).map(AppId).find(|id| !config.apps.contains_key(id));
        Ok(Self {
            url,
            host,
            app: *app,
            stranger: stranger.unwrap_or(AppId(0)),
            tokens: tokens.clone(),
        })
    }

    /// Without a query.
    pub(super) fn url(&self) -> &str {
        &self.url
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

#[cfg(test)]
mod tests {
    #[test]
    fn an_address_is_plain_http_and_has_no_query() {
        for (text, taken) in [
            ("http://127.0.0.1:8080/", true),
            ("http://[::1]:8080", true),
            ("http://chat.example/some/path", true),
            ("https://127.0.0.1:8080/", false),
            ("127.0.0.1:8080", false),
            ("http://127.0.0.1:8080/?a=b", false),
            ("/", false),
        ] {
            assert_eq!(super::url(text).is_ok(), taken, "{text}");
        }
    }
}

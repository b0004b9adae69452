use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use portcullis_schema::{AppId, Command, Timestamp};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::Query;
use crate::config::Tokens;

/// How far `RequestTime` may be from our clock, in seconds, against replay (Chat's console page on authentication).
const WINDOW_SECONDS: u64 = 60;
/// Unix seconds have 10 digits for the next 260 years.
const TIME_DIGITS_MAX: usize = 12;
/// The longest documented command has 53 characters; a longer one than this is cut, as it is only counted.
const COMMAND_CHARS_MAX: usize = 128;
/// The longest documented platform has 7.
const PLATFORM_CHARS_MAX: usize = 64;

/// Who calls, and about what: the half of a callback that its query holds, authentic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The app, one of ours.
    pub app: AppId,
    /// The command; where neither the query nor the body names one, an unknown one with an empty name.
    pub command: Command,
    /// The address of the user's device.
    pub client_ip: Option<IpAddr>,
    /// The platform of the user's device, as it came.
    pub platform: Option<String>,
}

/// Why a request is not from Chat. Answered 403: the sender is not Chat, so nothing is let through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forged {
    /// A parameter that can be there once is there twice, so whoever reads it could be made to read another.
    #[error("parameter {0} is repeated")]
    Repeated(&'static str),
    /// No `SdkAppid`, or none that is configured.
    #[error("SdkAppid is not an app of this receiver")]
    UnknownApp,
    /// The app is signed, this request is not.
    #[error("Sign or RequestTime is missing")]
    Unsigned,
    /// `RequestTime` is no number of seconds, or too far from our clock.
    #[error("RequestTime is not within {WINDOW_SECONDS} s of the receiver's clock")]
    OutsideWindow,
    /// None of the app's tokens gives this `Sign`.
    #[error("Sign does not match")]
    WrongSign,
}

impl Caller {
    /// Checks the query against the app's tokens at `now`. Whoever's tokens they are, they are masked in what is kept of
    /// the query, also of one that is turned away.
    ///
    /// `Sign` is the hex SHA-256 of the token followed by `RequestTime` as it was received (Chat's page "Webhook
    /// Overview"). It covers neither the body nor the other parameters.
    pub fn authenticate(query: &mut Query<'_>, apps: &BTreeMap<AppId, Tokens>, now: Timestamp) -> Result<Self, Forged> {
        query.mask(|value| apps.values().flat_map(Tokens::iter).any(|token| value.contains(token)));
        if let Some(parameter) = query.repeated {
            return Err(Forged::Repeated(parameter));
        }
        let app = query.app.as_deref().and_then(|text| text.parse().ok());
        let app = app.ok_or(Forged::UnknownApp)?;
        let tokens = apps.get(&app).ok_or(Forged::UnknownApp)?;
        if !tokens.accepts_unsigned() {
            check_sign(query, tokens, now)?;
        }
        Ok(Self {
            app,
            command: command(query.command.as_deref().unwrap_or_default()),
            client_ip: query.client_ip.as_deref().and_then(address),
            platform: query.platform.as_deref().map(|text| cut(text, PLATFORM_CHARS_MAX)),
        })
    }
}

impl Caller {
    /// As the body names it.
    pub(super) fn set_command(&mut self, name: &str) {
        self.command = command(name);
    }
}

fn command(name: &str) -> Command {
    Command::parse(&cut(name, COMMAND_CHARS_MAX))
}

/// Chat's pages show plain addresses; with brackets, a port or blanks it is the same one.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| {
        let text = text.trim();
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let with_port = || text.parse().map(|address: SocketAddr| address.ip());
        bare.unwrap_or(text).parse().or_else(|_| with_port()).ok()
    })
}

fn check_sign(query: &Query<'_>, tokens: &Tokens, now: Timestamp) -> Result<(), Forged> {
    let (Some(sign), Some(time)) = (&query.sign, &query.request_time) else {
        return Err(Forged::Unsigned);
    };
    let seconds = Some(&**time)
        .filter(|text| text.len() <= TIME_DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse::<i64>().ok())
        .ok_or(Forged::OutsideWindow)?;
    if now.as_seconds().abs_diff(seconds) > WINDOW_SECONDS {
        return Err(Forged::OutsideWindow);
    }
    let sign = decode_hex(sign).ok_or(Forged::WrongSign)?;
    // Every token is tried, whichever matches: the time taken tells nothing.
    let matches = tokens.iter().fold(Choice::from(0), |matched, token| {
        matched | digest(token, time).as_slice().ct_eq(&sign)
    });
    if bool::from(matches) {
        Ok(())
    } else {
        Err(Forged::WrongSign)
    }
}

fn digest(token: &str, time: &str) -> [u8; 32] {
    Sha256::new().chain_update(token).chain_update(time).finalize().into()
}

impl Tokens {
    /// `Sign` as Chat makes it of the first token, for whoever plays Chat at `time`; `None` without a token.
    pub fn sign(&self, time: &str) -> Option<String> {
        use std::fmt::Write;
        let mut sign = String::with_capacity(64);
        for byte in digest(self.iter().next()?, time) {
            let _ = write!(sign, "{byte:02x}"); // a String takes everything
        }
        Some(sign)
    }
}

fn decode_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let high = char::from(digits[0]).to_digit(16)?;
        let low = char::from(digits[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

fn cut(text: &str, chars_max: usize) -> String {
    let end = text.char_indices().nth(chars_max).map_or(text.len(), |(end, _)| end);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use portcullis_schema::{AppId, Timestamp};

    use super::{Caller, Forged};
    use crate::callback::Query;
    use crate::config::Tokens;

    /// The vector of protocol section 2.1, recomputed there.
    const SIGN: &str = "17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061";
    const TIME: i64 = 1_669_872_112;

    fn check(raw: &str, tokens: &[&str], now_seconds: i64) -> Result<Caller, Forged> {
        let tokens = Tokens::new(tokens.iter().map(|token| (*token).to_owned()).collect());
        let apps = BTreeMap::from([(AppId(1), tokens)]);
        Caller::authenticate(
            &mut Query::parse(raw),
            &apps,
            Timestamp::from_micros(now_seconds * 1_000_000),
        )
    }

    #[test]
    fn the_documented_digest_is_authentic_with_either_token_and_in_either_case() {
        let query = format!("SdkAppid=1&Sign={SIGN}&RequestTime={TIME}");
        assert!(check(&query, &["xxxxyyyy"], TIME).is_ok());
        assert!(check(&query, &["other", "xxxxyyyy"], TIME).is_ok());
        let tokens = Tokens::new(vec!["xxxxyyyy".to_owned(), "other".to_owned()]);
        assert_eq!(tokens.sign(&TIME.to_string()).as_deref(), Some(SIGN));
        assert!(check(&query.replace(SIGN, &SIGN.to_uppercase()), &["xxxxyyyy"], TIME).is_ok());
    }

    #[test]
    fn what_is_not_from_chat_is_told_apart() {
        let signed = format!("SdkAppid=1&Sign={SIGN}&RequestTime={TIME}");
        let right = &["xxxxyyyy"];
        // The six characters that an old page prints beside the same digest.
        assert_eq!(check(&signed, &["xxxyyy"], TIME), Err(Forged::WrongSign));
        assert_eq!(check(&signed.replace('1', "2"), right, TIME), Err(Forged::UnknownApp));
        assert_eq!(check("CallbackCommand=x", right, TIME), Err(Forged::UnknownApp));
        assert_eq!(check("SdkAppid=1", right, TIME), Err(Forged::Unsigned));
        assert_eq!(
            check(&format!("SdkAppid=1&Sign={SIGN}"), right, TIME),
            Err(Forged::Unsigned)
        );
        assert_eq!(
            check(&format!("{signed}&sdkappid=1"), right, TIME),
            Err(Forged::Repeated("SdkAppid"))
        );
        assert_eq!(
            check(&format!("{signed}&Sign={SIGN}"), right, TIME),
            Err(Forged::Repeated("Sign"))
        );
        assert_eq!(
            check(&format!("SdkAppid=1&Sign=zz&RequestTime={TIME}"), right, TIME),
            Err(Forged::WrongSign)
        );
        for time in [
            "-1",
            "+1669872112",
            "1669872112.0",
            "",
            "99999999999999999999",
            "1669872112%20",
        ] {
            let query = format!("SdkAppid=1&Sign={SIGN}&RequestTime={time}");
            assert_eq!(check(&query, right, TIME), Err(Forged::OutsideWindow), "{time}");
        }
    }

    #[test]
    fn an_address_is_the_same_with_brackets_a_port_and_blanks() {
        for (text, read) in [
            ("203.0.113.5", Some("203.0.113.5")),
            ("203.0.113.5:4711", Some("203.0.113.5")),
            ("203.0.113.5%20", Some("203.0.113.5")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("203.0.113.005", None),
            ("[203.0.113.5", None),
            ("", None),
        ] {
            let caller = check(&format!("SdkAppid=1&ClientIP={text}"), &[], TIME).expect("unsigned");
            assert_eq!(
                caller.client_ip.map(|address| address.to_string()).as_deref(),
                read,
                "{text}"
            );
        }
    }

    #[test]
    fn the_clock_window_is_sixty_seconds_both_ways() {
        let query = format!("SdkAppid=1&Sign={SIGN}&RequestTime={TIME}");
        for (apart, authentic) in [(0, true), (60, true), (-60, true), (61, false), (-61, false)] {
            assert_eq!(check(&query, &["xxxxyyyy"], TIME + apart).is_ok(), authentic, "{apart}");
        }
    }

    #[test]
    fn without_tokens_unsigned_callbacks_are_taken_of_configured_apps_only() {
        assert!(check("SdkAppId=1&CallbackCommand=x", &[], TIME).is_ok());
        assert_eq!(check("SdkAppid=2", &[], TIME), Err(Forged::UnknownApp));
    }
}

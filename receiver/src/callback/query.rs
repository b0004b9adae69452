use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use portcullis_schema::{Command, Timestamp};

/// Parameters kept beside Chat's own; a query is at most a request line long, this bounds the map.
const OTHERS_MAX: usize = 32;

/// What Chat calls the platforms of devices.
const PLATFORMS: [&str; 9] = [
    "RESTAPI", "Web", "Android", "iOS", "Windows", "Mac", "macOS", "iPad", "Unknown",
];

/// The parameters of the URL. Chat's own are compared without case: its pages print `SdkAppid` and `SdkAppId`. They are
/// borrowed from it where nothing in them is escaped: what a record keeps of them is copied once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query<'url> {
    pub(super) app: Option<Cow<'url, str>>,
    pub(super) command: Option<Cow<'url, str>>,
    pub(super) client_ip: Option<Cow<'url, str>>,
    pub(super) platform: Option<Cow<'url, str>>,
    pub(super) sign: Option<Cow<'url, str>>,
    pub(super) request_time: Option<Cow<'url, str>>,
    /// The first of Chat's parameters that was there twice.
    pub(super) repeated: Option<&'static str>,
    has_content_type: bool,
    others: BTreeMap<String, String>,
}

impl<'url> Query<'url> {
    /// Never fails: percent-escapes that are no UTF-8 become replacement characters.
    pub fn parse(raw: &'url str) -> Self {
        let mut query = Self::default();
        // Chat escapes nothing: decoding what needs none would be most of this function's cost.
        if raw.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
            for (name, value) in form_urlencoded::parse(raw.as_bytes()) {
                query.put(&name, value);
            }
            return query;
        }
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            query.put(name, Cow::Borrowed(value));
        }
        query
    }

    /// Whether nothing in it claims to be a callback, as with the console's probe.
    pub fn claims_nothing(&self) -> bool {
        self.app.is_none() && self.command.is_none() && self.sign.is_none()
    }

    /// What a record keeps of it: everything but `Sign`, less what has a field of its own.
    pub fn into_others(self) -> BTreeMap<String, String> {
        let mut others = self.others;
        if let Some(time) = self.request_time {
            others.insert("RequestTime".to_owned(), time.into_owned());
        }
        if let Some(text) = self.client_ip.filter(|text| text.parse::<IpAddr>().is_err()) {
            others.insert("ClientIP".to_owned(), text.into_owned());
        }
        others
    }

    /// The same of a stranger: as many bytes of it as `bytes_max`, the names in their order, so that a long one takes no more
    /// room than others.
    pub fn into_others_within(self, bytes_max: usize) -> BTreeMap<String, String> {
        let mut left = bytes_max;
        let mut cut = |mut text: String| {
            text.truncate(text.floor_char_boundary(left));
            left -= text.len();
            text
        };
        let others = self.into_others().into_iter();
        let kept = others.map(|(name, value)| (cut(name), cut(value)));
        kept.filter(|(name, _)| !name.is_empty()).collect()
    }

    /// The app and the command as they are claimed, of a request that is not authentic.
    pub fn claims(&self) -> (Option<&str>, Option<&str>) {
        (self.app.as_deref(), self.command.as_deref())
    }

    /// How many seconds `RequestTime` is ahead of `now`, where it is a number.
    pub fn ahead_seconds(&self, now: Timestamp) -> Option<i64> {
        let time: i64 = self.request_time.as_deref()?.parse().ok()?;
        time.checked_sub(now.as_seconds())
    }

    /// Masks parameters that hold a secret, in their names or values: some projects put a token into the configured URL.
    /// Of Chat's own only where they are not what Chat sends: a digit is no secret, even if a token is one.
    pub(super) fn mask(&mut self, holds_secret: impl Fn(&str) -> bool) {
        const MASK: &str = "***";
        let own = [
            self.request_time
                .as_mut()
                .filter(|time| !time.bytes().all(|byte| byte.is_ascii_digit())),
            self.client_ip.as_mut().filter(|text| text.parse::<IpAddr>().is_err()),
            self.command
                .as_mut()
                .filter(|name| matches!(Command::parse(name), Command::Other(_))),
            self.platform.as_mut().filter(|name| !PLATFORMS.contains(&&***name)),
        ];
        for value in own.into_iter().flatten().filter(|value| holds_secret(value)) {
            *value = Cow::Borrowed(MASK);
        }
        for value in self.others.values_mut().filter(|value| holds_secret(value)) {
            *value = MASK.to_owned();
        }
        if self.others.keys().any(|name| holds_secret(name)) {
            self.others.retain(|name, _| !holds_secret(name));
            self.others.insert(MASK.to_owned(), MASK.to_owned());
        }
    }

    fn put(&mut self, name: &str, value: Cow<'url, str>) {
        let (own, label) = if name.eq_ignore_ascii_case("SdkAppid") {
            (&mut self.app, "SdkAppid")
        } else if name.eq_ignore_ascii_case("CallbackCommand") {
            (&mut self.command, "CallbackCommand")
        } else if name.eq_ignore_ascii_case("ClientIP") {
            (&mut self.client_ip, "ClientIP")
        } else if name.eq_ignore_ascii_case("OptPlatform") {
            (&mut self.platform, "OptPlatform")
        } else if name.eq_ignore_ascii_case("Sign") {
            (&mut self.sign, "Sign")
        } else if name.eq_ignore_ascii_case("RequestTime") {
            (&mut self.request_time, "RequestTime")
        } else {
            if name.eq_ignore_ascii_case("contenttype") && std::mem::replace(&mut self.has_content_type, true) {
                self.repeated.get_or_insert("contenttype");
            }
            if self.others.len() < OTHERS_MAX {
                self.others.insert(name.to_owned(), value.into_owned());
            }
            return;
        };
        if own.is_some() {
            self.repeated.get_or_insert(label);
            return;
        }
        *own = Some(value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Query;

    proptest! {
        #[test]
        fn a_query_is_read_as_a_form_is(raw in "([SsAa%+=&0-9ü]|SdkAppid|Sign=|%2[0-9B]){0,20}") {
            let mut expected = Query::default();
            for (name, value) in form_urlencoded::parse(raw.as_bytes()) {
                expected.put(&name, value);
            }
            prop_assert_eq!(Query::parse(&raw), expected);
        }
    }

    #[test]
    fn of_a_stranger_no_more_is_kept_than_has_room() {
        let long = "ü".repeat(10_000);
        let others = Query::parse(&format!("a=b&b={long}&{long}=c&RequestTime={long}")).into_others_within(100);
        let bytes = |text: &String| text.len();
        assert_eq!(
            others
                .iter()
                .map(|(name, value)| bytes(name) + bytes(value))
                .sum::<usize>(),
            100
        );
        assert_eq!(others.get("RequestTime").map(bytes), Some(88));
        assert!(!others.contains_key(&long), "{others:?}");
    }

    #[test]
    fn a_token_is_masked_wherever_it_stands_and_what_chat_sends_is_kept() {
        let secret = |text: &str| text.contains("s3cret");
        let mut query = Query::parse(
            "token=as3cret&s3cret&s3cretly=1&RequestTime=s3cret&ClientIP=s3cret&CallbackCommand=s3cret&a=b&Sign=s3cret&\
             OptPlatform=s3cret",
        );
        query.mask(secret);
        assert_eq!(query.platform.as_deref(), Some("***"));
        assert_eq!(query.claims().1, Some("***"));
        let others: Vec<(String, String)> = query.into_others().into_iter().collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            others,
            [
                pair("***", "***"),
                pair("ClientIP", "***"),
                pair("RequestTime", "***"),
                pair("a", "b"),
                pair("token", "***")
            ]
        );

        // Whatever the token is, what decides is left alone.
        let mut query =
            Query::parse("RequestTime=1669872112&ClientIP=192.0.2.1&CallbackCommand=State.StateChange&OptPlatform=iOS");
        let before = query.clone();
        query.mask(|_| true);
        assert_eq!(query, before);
    }
}

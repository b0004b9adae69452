use std::collections::BTreeMap;

use portcullis_schema::Timestamp;

/// Parameters kept beside Chat's own; a query is at most a request line long, this bounds the map.
const OTHERS_MAX: usize = 32;

/// The parameters of the URL. Chat's own are compared without case: its pages print `SdkAppid` and `SdkAppId`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pub(super) app: Option<String>,
    pub(super) command: Option<String>,
    pub(super) client_ip: Option<String>,
    pub(super) platform: Option<String>,
    pub(super) sign: Option<String>,
    pub(super) request_time: Option<String>,
    /// The first of Chat's parameters that was there twice.
    pub(super) repeated: Option<&'static str>,
    others: BTreeMap<String, String>,
}

impl Query {
    /// Never fails: percent-escapes that are no UTF-8 become replacement characters.
    pub fn parse(raw: &str) -> Self {
        let mut query = Self::default();
        for (name, value) in form_urlencoded::parse(raw.as_bytes()) {
            query.put(&name, value.into_owned());
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
            others.insert("RequestTime".to_owned(), time);
        }
        if let Some(text) = self.client_ip.filter(|text| text.parse::<std::net::IpAddr>().is_err()) {
            others.insert("ClientIP".to_owned(), text);
        }
        others
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

    /// Masks the values of parameters that hold a secret: some projects put a token into the configured URL.
    pub fn mask(&mut self, holds_secret: impl Fn(&str) -> bool) {
        for value in self.others.values_mut() {
            if holds_secret(value) {
                *value = "***".to_owned();
            }
        }
    }

    fn put(&mut self, name: &str, value: String) {
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
            if self.others.len() < OTHERS_MAX {
                self.others.insert(name.to_owned(), value);
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

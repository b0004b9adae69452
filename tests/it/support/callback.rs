use std::time::SystemTime;

use serde_json::json;
use sha2::{Digest, Sha256};

/// The app of every test, and the token that signs its callbacks.
pub(crate) const APP: u64 = 1_400_000_001;
pub(crate) const TOKEN: &str = "a-token-that-nobody-guesses";
pub(crate) const CREATE_TOPIC: &str = "Group.CallbackBeforeCreateTopic";

/// A callback as Chat would send it: what its query says, and its body.
#[derive(Clone, Debug)]
pub(crate) struct Callback {
    path: String,
    command: String,
    client_ip: String,
    platform: String,
    more: String,
    body: Vec<u8>,
}

impl Callback {
    /// A topic is to be created.
    pub(crate) fn topic(operator: &str, name: &str) -> Self {
        let body = json!({
            "CallbackCommand": CREATE_TOPIC, "Operator_Account": operator, "Type": "Community", "Name": name,
        });
        Self::new(CREATE_TOPIC, body.to_string())
    }

    pub(crate) fn new(command: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            path: "/".to_owned(),
            command: command.to_owned(),
            client_ip: "203.0.113.7".to_owned(),
            platform: "iOS".to_owned(),
            more: String::new(),
            body: body.into(),
        }
    }

    pub(crate) fn path(mut self, path: &str) -> Self {
        self.path = path.to_owned();
        self
    }

    pub(crate) fn client_ip(mut self, address: &str) -> Self {
        self.client_ip = address.to_owned();
        self
    }

    pub(crate) fn platform(mut self, platform: &str) -> Self {
        self.platform = platform.to_owned();
        self
    }

    /// One parameter more than Chat sends.
    pub(crate) fn parameter(mut self, name: &str, value: &str) -> Self {
        self.more.push_str(&format!("&{name}={value}"));
        self
    }

    /// Path and query, signed now.
    pub(crate) fn target(&self) -> String {
        let seconds = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970");
        self.target_signed(seconds.as_secs(), TOKEN)
    }

    /// Path and query, signed with any token at any time.
    pub(crate) fn target_signed(&self, seconds: u64, token: &str) -> String {
        let Self {
            path,
            command,
            client_ip,
            platform,
            more,
            ..
        } = self;
        format!(
            "{path}?SdkAppid={APP}&CallbackCommand={command}&contenttype=json&ClientIP={client_ip}\
             &OptPlatform={platform}{more}&Sign={}&RequestTime={seconds}",
            sign(token, seconds)
        )
    }

    /// The whole request, with the headers of Chat's own sample.
    pub(crate) fn request(&self) -> Vec<u8> {
        let length = format!("Content-Length: {}", self.body.len());
        [head("POST", &self.target(), &length), self.body.clone()].concat()
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }
}

/// The head of a request, which `framing` tells where the body ends.
pub(crate) fn head(method: &str, target: &str, framing: &str) -> Vec<u8> {
    let framing = if framing.is_empty() {
        String::new()
    } else {
        format!("{framing}\r\n")
    };
    format!("{method} {target} HTTP/1.1\r\nHost: portcullis\r\n{framing}\r\n").into_bytes()
}

/// Lower-case hex, as Chat writes it.
fn sign(token: &str, seconds: u64) -> String {
    let digest = Sha256::digest(format!("{token}{seconds}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

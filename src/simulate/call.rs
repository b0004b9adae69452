use portcullis_schema::Command;
use serde_json::Value;

use super::contract::Asked;

/// One callback to be sent.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) asked: Asked,
    pub(super) client_ip: String,
    pub(super) body: Vec<u8>,
    pub(super) forgery: Option<Forgery>,
}

/// What is wrong with a callback that is not from Chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forgery {
    /// Of an app that is not configured.
    UnknownApp,
    /// `SdkAppid` is there twice.
    Repeated,
    /// Neither `Sign` nor `RequestTime`.
    Unsigned,
    /// Signed with another token.
    WrongSign,
    /// Signed an hour ago.
    Old,
}

impl Forgery {
    /// Those that show with every app, and behind them those that only an app with tokens can tell.
    pub(super) const ALL: [Self; 5] = [
        Self::UnknownApp,
        Self::Repeated,
        Self::Unsigned,
        Self::WrongSign,
        Self::Old,
    ];
    pub(super) const OF_UNSIGNED_APPS: usize = 2;
}

impl Call {
    pub(super) fn new(command: &str, client_ip: String, body: Vec<u8>) -> Self {
        Self {
            asked: Asked {
                command: Command::parse(command),
                about: Vec::new(),
                from_chat: true,
            },
            client_ip,
            body,
            forgery: None,
        }
    }

    pub(super) fn json(command: &str, client_ip: String, body: &Value) -> Self {
        Self::new(command, client_ip, body.to_string().into_bytes())
    }

    /// Whom it is about beside its operator.
    pub(super) fn about(mut self, accounts: &[&str]) -> Self {
        self.asked.about = accounts.iter().map(|account| (*account).to_owned()).collect();
        self
    }

    pub(super) fn forged(mut self, forgery: Forgery) -> Self {
        self.asked.from_chat = false;
        self.forgery = Some(forgery);
        self
    }
}

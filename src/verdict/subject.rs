use clap::Args;
use portcullis_schema::{AppId, Subject, SubjectKind};

use super::shell;
use crate::failure::Failure;

/// Whom or what a verdict is about.
#[derive(Args, Clone, Debug)]
pub(super) struct About {
    /// The app, by its SDKAppID
    #[arg(long, value_name = "ID", value_parser = app)]
    pub(super) app: AppId,
    #[command(flatten)]
    subject: One,
}

#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
struct One {
    /// The user who acts, by UserID
    #[arg(long, value_name = "USER")]
    operator: Option<String>,
    /// The address of the user's device, or a prefix such as 203.0.113.0/24
    #[arg(long, value_name = "ADDRESS")]
    client_ip: Option<String>,
    /// A whole name; names that look alike are the same
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A part of a name
    #[arg(long, value_name = "TEXT")]
    term: Option<String>,
    /// Every callback of the app
    #[arg(long)]
    everyone: bool,
}

impl About {
    /// In canonical form.
    pub(super) fn subject(&self) -> Result<Subject, Failure> {
        let Some((flag, kind, value)) = self.subject.given() else {
            return Ok(Subject::everyone());
        };
        Subject::parse(kind, value).map_err(|error| Failure::Usage(format!("{flag}: {error}")))
    }

    /// The same arguments again, for a line to be copied.
    pub(super) fn line(&self) -> String {
        let subject = match self.subject.given() {
            // "--operator=-x": a value that begins like a flag would be taken for one.
            Some((flag, _, value)) if value.starts_with('-') => format!("{flag}={}", shell::quote(value)),
            Some((flag, _, value)) => format!("{flag} {}", shell::quote(value)),
            None => "--everyone".to_owned(),
        };
        format!("--app {} {subject}", self.app)
    }
}

/// An app, from an argument.
pub(super) fn app(text: &str) -> Result<AppId, &'static str> {
    text.parse()
        .map_err(|_| "allowed: an SDKAppID, a whole number such as 1400000001")
}

impl One {
    fn given(&self) -> Option<(&'static str, SubjectKind, &str)> {
        let flags = [
            ("--operator", SubjectKind::Operator, &self.operator),
            ("--client-ip", SubjectKind::ClientIp, &self.client_ip),
            ("--name", SubjectKind::Name, &self.name),
            ("--term", SubjectKind::Term, &self.term),
        ];
        flags
            .into_iter()
            .find_map(|(flag, kind, value)| value.as_deref().map(|value| (flag, kind, value)))
    }
}

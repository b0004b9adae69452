use std::io::Write;

use clap::Args;
use portcullis_schema::{AppId, Timestamp};
use serde_json::json;

use super::{shell, subject, table, topic};
use crate::failure::Failure;
use crate::settings::File;

/// What of the verdicts is wanted.
#[derive(Args)]
pub(crate) struct List {
    /// Only those of an app, by its SDKAppID
    #[arg(long, value_name = "ID", value_parser = subject::app)]
    app: Option<AppId>,
    /// Expired ones too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    file: File,
    /// Print a verdict a line, as JSON
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) fn list(self, out: &mut dyn Write) -> Result<(), Failure> {
        let now = Timestamp::now();
        let mut held = topic::read(&self.file.load()?.kafka)?;
        for unreadable in &held.unreadable {
            eprintln!("left out: {}", shell::visible(unreadable));
        }
        held.verdicts
            .retain(|verdict| self.app.is_none_or(|app| app == verdict.app));
        let found = held.verdicts.len();
        held.verdicts.retain(|verdict| self.all || !verdict.is_expired(now));
        if self.json {
            for verdict in &held.verdicts {
                writeln!(out, "{}", json!(verdict))?;
            }
            return Ok(());
        }
        if !held.verdicts.is_empty() {
            table::write(out, &held.verdicts, now)?;
        }
        let (shown, expired) = (held.verdicts.len(), found - held.verdicts.len());
        let verdicts = if shown == 1 { "verdict" } else { "verdicts" };
        match expired {
            0 => writeln!(out, "{shown} {verdicts}")?,
            _ => writeln!(out, "{shown} {verdicts}; {expired} expired, shown with --all")?,
        }
        Ok(())
    }
}

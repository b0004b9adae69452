//! `portcullis config`: what the operator wrote, and what comes of it.

mod effective;
mod render;

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::failure::Failure;
use crate::mistakes;
use crate::settings::File;
use effective::Effective;

/// What can be done with the configuration.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Check file and environment: every mistake at once
    #[command(after_help = "Example:\n  portcullis config check --config portcullis.toml")]
    Check(Arguments),
    /// Show every setting with where it comes from, secrets masked
    #[command(after_help = "Example:\n  portcullis config show --config portcullis.toml")]
    Show(Arguments),
}

/// Which one.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    file: File,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Self::Check(arguments) => arguments.check(out),
            Self::Show(arguments) => arguments.show(out),
        }
    }
}

impl Arguments {
    fn check(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let read = self.file.load_with_apps();
        if self.json {
            mistakes::as_json(read, out)?;
            writeln!(out, "{}", json!({"ok": true, "file": self.file.name()}))?;
            return Ok(());
        }
        read?;
        writeln!(out, "{} holds", self.file.name())?;
        Ok(())
    }

    fn show(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let read = self.file.written().and_then(|written| Ok(Effective::of(&written)?));
        if self.json {
            let effective = mistakes::as_json(read, out)?;
            writeln!(out, "{}", render::json(&effective))?;
            return Ok(());
        }
        Ok(write!(out, "{}", render::toml(&read?))?)
    }
}

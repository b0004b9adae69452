//! `portcullis config`: what the operator wrote, and what comes of it.

mod effective;
mod render;

use std::io::Write;

use clap::{Args, Subcommand};
use portcullis_schema::Timestamp;
use serde_json::json;

use crate::failure::Failure;
use crate::mistakes;
use crate::settings::{File, Settings};
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
            let warnings = warnings(&mistakes::as_json(read, out)?);
            let mut told = json!({"ok": true, "file": self.file.name()});
            if !warnings.is_empty() {
                told["warnings"] = json!(warnings);
            }
            writeln!(out, "{told}")?;
            return Ok(());
        }
        for warning in warnings(&read?) {
            eprintln!("warning: {warning}");
        }
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

/// What a start takes and no operator can mean.
fn warnings(settings: &Settings) -> Vec<String> {
    let certificate = settings.receiver.tls.iter();
    let told = certificate.filter_map(|certificate| {
        let untimely = certificate.check_time(Timestamp::now()).err()?;
        Some(format!(
            "receiver.tls.certificate: the one in {:?} {untimely}: a receiver starts with it, but Chat does not call and lets every \
             operation through; a running receiver keeps the one that it has",
            certificate.chain_path().display().to_string()
        ))
    });
    told.collect()
}

//! `portcullis topics`: the topics as Portcullis needs them. Nothing that exists is ever changed; what is set wrongly is
//! told with the line that sets it right.

mod cluster;
mod fault;
mod report;

use std::io::Write;

use clap::{Args, Subcommand};

use crate::failure::Failure;
use crate::settings::File;
use cluster::Cluster;

/// What can be done with the topics.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Create the topics that are missing, and check the others
    #[command(after_help = "Example:\n  portcullis topics create --config portcullis.toml")]
    Create(Arguments),
    /// Check that every topic exists and is set as Portcullis needs it
    #[command(after_help = "Example:\n  portcullis topics check --config portcullis.toml --json")]
    Check(Arguments),
}

/// Of which cluster.
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
            Self::Create(arguments) => {
                let cluster = Cluster::of(arguments.file.load()?.kafka)?;
                let created = cluster.create_missing()?;
                arguments.report(&cluster, &created, out)
            }
            Self::Check(arguments) => {
                let cluster = Cluster::of(arguments.file.load()?.kafka)?;
                arguments.report(&cluster, &[], out)
            }
        }
    }
}

impl Arguments {
    fn report(&self, cluster: &Cluster, created: &[String], out: &mut dyn Write) -> Result<(), Failure> {
        let report = report::Report::new(cluster.examine()?, created);
        if self.json {
            report.write_json(out)?;
        }
        if !self.json {
            report.write_lines(out)?;
        }
        if report.holds() {
            Ok(())
        } else {
            Err(Failure::DoesNotHold)
        }
    }
}

//! `portcullis reconcile`: proves from the topics what is missing. It changes nothing, and needs no receiver.

mod advice;
mod count;
mod progress;
mod report;
pub(crate) mod words;

use std::io::Write;

use clap::Args;
use portcullis_schema::{Timestamp, units};

use crate::failure::Failure;
use crate::settings::File;
use report::Report;

/// What is to be reconciled.
#[derive(Args)]
pub(crate) struct Reconcile {
    /// From when on, such as 2026-11-24T12:00:00Z, or how long ago, such as 2h [default: all that is kept]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Timestamp>,
    #[command(flatten)]
    file: File,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Reconcile {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let kafka = self.file.load()?.kafka;
        let counted = count::count(&kafka, self.from, Timestamp::now())?;
        // What ran while it was read is told as of now.
        let report = Report::new(counted, Timestamp::now());
        match self.json {
            true => report.write_json(out)?,
            false => report.write_lines(out)?,
        }
        match report.holds() {
            true => Ok(()),
            false => Err(Failure::DoesNotHold),
        }
    }
}

fn moment(text: &str) -> Result<Timestamp, String> {
    if let Some(ago) = units::duration(text) {
        return Ok(Timestamp::now().before(ago));
    }
    text.parse()
        .map_err(|error| format!("{error}, nor {}", units::DURATION_FORM))
}

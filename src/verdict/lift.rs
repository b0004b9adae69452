use std::io::Write;

use clap::Args;
use portcullis_schema::{Source, Timestamp, Verdict, VerdictKey};
use serde_json::json;

use super::{shell, subject, topic};
use crate::failure::Failure;
use crate::settings::File;

/// Verdicts to be lifted.
#[derive(Args)]
pub(crate) struct Lift {
    #[command(flatten)]
    about: subject::About,
    #[command(flatten)]
    file: File,
    /// Print what was lifted as JSON
    #[arg(long)]
    json: bool,
}

impl Lift {
    /// Both sources are lifted, held or not: one that is written in this moment ends too.
    pub(super) fn lift(self, out: &mut dyn Write) -> Result<(), Failure> {
        let subject = self.about.subject()?;
        let kafka = self.file.load()?.kafka;
        let keys = [Source::Moderator, Source::Rule].map(|source| VerdictKey {
            app: self.about.app,
            subject: subject.clone(),
            source,
        });
        let read = topic::read(&kafka)?;
        let places = read.places.iter().filter(|place| keys.contains(&place.key));
        topic::lift(&kafka, &keys, places)?;
        let mut held = read.verdicts;
        held.retain(|verdict| keys.contains(&verdict.key()));
        if self.json {
            writeln!(
                out,
                "{}",
                json!({"app": self.about.app, "subject": subject, "lifted": held})
            )?;
            return Ok(());
        }
        if held.is_empty() {
            writeln!(
                out,
                "nothing to lift: no verdict was held about {subject} of app {}",
                self.about.app
            )?;
        }
        for verdict in &held {
            tell(verdict, out)?;
        }
        Ok(())
    }
}

fn tell(verdict: &Verdict, out: &mut dyn Write) -> Result<(), Failure> {
    let (Verdict { subject, app, id, .. }, from) = (verdict, from(verdict));
    let expired = if verdict.is_expired(Timestamp::now()) {
        ", which had expired"
    } else {
        ""
    };
    writeln!(out, "lifted  {subject} of app {app}: verdict {id} of {from}{expired}")?;
    Ok(())
}

fn from(verdict: &Verdict) -> String {
    match (verdict.source, &verdict.rule) {
        (Source::Rule, Some(rule)) => format!("rule {}", shell::visible(rule)),
        (Source::Rule, None) => "a rule".to_owned(),
        (Source::Moderator, _) => format!("moderator {}", shell::visible(&verdict.by)),
    }
}

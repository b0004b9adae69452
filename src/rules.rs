use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use portcullis_schema::settings::Place;
use portcullis_worker::{Rules, TestOutcome};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::mistakes;

/// What can be done with rules.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Check a file of rules: every mistake at once
    #[command(after_help = "Example:\n  portcullis rules check rules.toml")]
    Check(Named),
    /// Run the tests that stand beside the rules
    #[command(after_help = "Example:\n  portcullis rules test rules.toml")]
    Test(Named),
}

/// Which rules.
#[derive(Args)]
pub(crate) struct Named {
    /// The file of the rules
    file: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Self::Check(named) => named.check(out),
            Self::Test(named) => named.test(out),
        }
    }
}

impl Named {
    fn check(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let rules = self.read(out)?;
        let count = rules.iter().count();
        if self.json {
            writeln!(out, "{}", json!({"ok": true, "rules": count}))?;
            return Ok(());
        }
        for rule in rules.iter() {
            writeln!(out, "{rule}")?;
        }
        writeln!(out, "{} holds, rules: {count}", self.file.display())?;
        Ok(())
    }

    fn test(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let outcomes = self.read(out)?.test();
        let holds = outcomes.iter().all(TestOutcome::passed);
        if self.json {
            let tests: Vec<Value> = outcomes.iter().map(as_json).collect();
            writeln!(out, "{}", json!({"ok": holds, "tests": tests}))?;
        }
        if !self.json {
            for outcome in &outcomes {
                writeln!(out, "{outcome}")?;
            }
            let failed = outcomes.iter().filter(|outcome| !outcome.passed()).count();
            writeln!(out, "{} passed, {failed} failed", outcomes.len() - failed)?;
        }
        if holds { Ok(()) } else { Err(Failure::DoesNotHold) }
    }

    fn read(&self, out: &mut dyn Write) -> Result<Rules, Failure> {
        let read = read(&self.file);
        if self.json {
            return mistakes::as_json(read, out);
        }
        read
    }
}

/// The rules of a file.
pub(crate) fn read(path: &Path) -> Result<Rules, Failure> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Unusable(format!("the file of the rules, {file}, cannot be read: {error}")))?;
    Ok(Rules::read(&file, &text)?)
}

fn as_json(outcome: &TestOutcome) -> Value {
    let line = match outcome.place {
        Place::Line(line) => Some(line),
        Place::Environment(_) | Place::Missing => None,
    };
    json!({
        "rule": outcome.rule,
        "line": line,
        "ok": outcome.passed(),
        "denied": {"found": outcome.denied, "expected": outcome.denied_expected},
        "findings": {"found": outcome.found, "expected": outcome.found_expected},
    })
}

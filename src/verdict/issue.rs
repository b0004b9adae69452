use std::io::{Write, stderr};
use std::time::Duration;

use clap::Args;
use portcullis_schema::units::{self, show_duration};
use portcullis_schema::{AppId, CommandKind, Effect, Source, Timestamp, Verdict, id};
use serde_json::json;

use super::{command, shell, subject, topic};
use crate::failure::Failure;
use crate::settings::File;

/// Every verdict ends: a mistake that nobody remembers must not refuse people for ever.
const LASTING_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How a refusal reads.
#[derive(Args, Default)]
pub(crate) struct Reply {
    /// The code of the refusal [default: the plain refusal of each command]
    #[arg(long)]
    code: Option<u32>,
    /// What the caller reads with the code
    #[arg(long, requires = "code")]
    text: Option<String>,
}

/// A verdict to be issued.
#[derive(Args)]
pub(crate) struct Issue {
    #[command(flatten)]
    about: subject::About,
    /// A command that it applies to, repeatable [default: all that can be refused]
    #[arg(long = "command", value_name = "COMMAND", value_parser = command::parse)]
    commands: Vec<CommandKind>,
    /// How long it holds
    #[arg(long = "for", value_name = "DURATION", default_value = "24h", value_parser = lasting)]
    lasting: Duration,
    /// Why, for other moderators
    #[arg(long, default_value = "")]
    reason: String,
    /// Who decides [default: the user name]
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    #[command(flatten)]
    file: File,
    /// Print the verdict as JSON
    #[arg(long)]
    json: bool,
}

impl Reply {
    fn check(&self, commands: &[CommandKind]) -> Result<(), Failure> {
        let Some(code) = self.code else { return Ok(()) };
        command::check_code(code, commands).map_err(|told| Failure::Usage(format!("--code: {told}")))?;
        if self.text.is_some() && !command::carries_text(code) {
            return Err(Failure::Usage(format!(
                "--text: code {code} carries no text to the caller"
            )));
        }
        Ok(())
    }
}

impl Issue {
    pub(super) fn deny(self, reply: Reply, out: &mut dyn Write) -> Result<(), Failure> {
        self.issue(Effect::Deny, reply, out)
    }

    pub(super) fn allow(self, out: &mut dyn Write) -> Result<(), Failure> {
        self.issue(Effect::Allow, Reply::default(), out)
    }

    fn issue(self, effect: Effect, reply: Reply, out: &mut dyn Write) -> Result<(), Failure> {
        reply.check(&self.commands)?;
        let verdict = self.verdict(effect, reply, Timestamp::now())?;
        let settings = self.file.load()?;
        self.warn_of_app(&settings.receiver);
        topic::issue(&settings.kafka, &verdict)?;
        if self.json {
            writeln!(out, "{}", json!(verdict))?;
            return Ok(());
        }
        self.tell(&verdict, out)
    }

    /// No mistake: a moderator's file need not name apps, and another receiver's may name this one.
    fn warn_of_app(&self, receiver: &portcullis_receiver::Config) {
        let (app, apps) = (self.about.app, &receiver.apps);
        if apps.is_empty() || apps.contains_key(&app) {
            return;
        }
        let known: Vec<String> = apps.keys().map(AppId::to_string).collect();
        // Whoever closed stderr wants no warning, but the verdict.
        let _ = writeln!(
            stderr(),
            "warning: {} has no app {app}, only {}: no receiver with this configuration applies the verdict",
            self.file.name(),
            known.join(", ")
        );
    }

    fn verdict(&self, effect: Effect, reply: Reply, now: Timestamp) -> Result<Verdict, Failure> {
        Ok(Verdict {
            id: id::random(now),
            app: self.about.app,
            subject: self.about.subject()?,
            commands: self.commands.iter().map(|kind| kind.name().to_owned()).collect(),
            effect,
            code: reply.code,
            text: reply.text.unwrap_or_default(),
            source: Source::Moderator,
            rule: None,
            reason: self.reason.clone(),
            by: self.by.clone().unwrap_or_else(user),
            issued_at: now,
            expires_at: Some(now.after(self.lasting)),
            evidence: Vec::new(),
        })
    }

    fn tell(&self, verdict: &Verdict, out: &mut dyn Write) -> Result<(), Failure> {
        let does = match verdict.effect {
            Effect::Allow => "allowed",
            Effect::Deny | Effect::Drop => "denied",
        };
        let commands = match verdict.commands.as_slice() {
            [] => "every command that can be refused".to_owned(),
            some => some.join(", "),
        };
        writeln!(out, "{does:8} {} of app {}: {commands}", verdict.subject, verdict.app)?;
        if let Some(code) = verdict.code {
            writeln!(out, "code     {code} {}", shell::visible(&verdict.text))?;
        }
        if let Some(end) = verdict.expires_at {
            writeln!(out, "until    {end}, for {}", show_duration(self.lasting))?;
        }
        writeln!(out, "by       {}, verdict {}", shell::visible(&verdict.by), verdict.id)?;
        let config = self
            .file
            .argument()
            .map(|file| format!(" --config {}", shell::quote(&file)));
        let line = self.about.line();
        writeln!(
            out,
            "lift it: portcullis verdict lift {line}{}",
            config.unwrap_or_default()
        )?;
        Ok(())
    }
}

fn lasting(text: &str) -> Result<Duration, String> {
    let fits = |duration: &Duration| (Duration::from_secs(1)..=LASTING_MAX).contains(duration);
    let read = units::duration(text).filter(fits);
    read.ok_or_else(|| {
        format!(
            "allowed: {}, from 1s to {}",
            units::DURATION_FORM,
            show_duration(LASTING_MAX)
        )
    })
}

fn user() -> String {
    let names = ["USER", "LOGNAME"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok());
    names
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "moderator".to_owned())
}

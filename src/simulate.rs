//! `portcullis simulate`: plays Chat against a receiver and checks every answer against the contract of its command.

mod call;
mod connection;
mod contract;
mod latency;
mod odd;
mod play;
mod report;
mod samples;
mod scenario;
mod tally;
mod target;

use std::io::{IsTerminal, Write, stderr};
use std::path::PathBuf;
use std::time::Duration;

use axum::http::Uri;
use clap::Args;
use portcullis_schema::{AppId, units};

use crate::failure::Failure;
use crate::process::{Signals, runtime};
use crate::reconcile::words::grouped;
use crate::settings::File;
use play::{Plan, Play};
use report::Report;
use scenario::{Scenario, Stage};
use target::Target;

/// How often it is looked whether the play has ended; and every tenth time it is told on a terminal how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const TELL_EVERY: u32 = 10;
/// Chat's own patience: a later answer is as good as none.
const DEADLINE_MAX: Duration = Duration::from_secs(2);

/// What is played, and against whom.
#[derive(Args)]
pub(crate) struct Simulate {
    /// Where callbacks are sent [default: receiver.listen of the configuration]
    #[arg(long, value_name = "URL", value_parser = target::url)]
    url: Option<Uri>,
    /// The authority of the receiver's certificate, as PEM [default: those that browsers believe]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The app that is played, signed with its first token [default: the only one of the configuration]
    #[arg(long, value_name = "ID")]
    app: Option<AppId>,
    /// Callbacks a second, sent at their time whatever the answers do
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// For how long, such as 30s
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = duration)]
    lasts: Duration,
    /// By when an answer must be there, else a promise is broken: give receiver.reply_deadline and what the network takes,
    /// such as 400ms; the default is Chat's own, and the longest
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = deadline)]
    deadline: Duration,
    // At a millisecond an answer so many carry 500,000 callbacks a second.
    /// At most so many callbacks at once, each on a connection that is kept; further ones wait, and their latency grows
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=512))]
    connections: u16,
    /// What is sent; several take turns
    #[arg(long = "scenario", value_name = "NAME", default_value = "mixed")]
    scenarios: Vec<Scenario>,
    /// Another seed plays other operators and names, the same one the same
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    file: File,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Simulate {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let config = self.file.load_with_apps()?.receiver;
        let target = Target::new(self.url, self.ca.as_deref(), self.app, &config)?;
        target.look()?;
        let stage = Stage {
            seed: self.seed,
            rate: self.rate,
            signed: target.is_signed(),
        };
        let plan = Plan {
            target,
            scenarios: self.scenarios,
            stage,
            lasts: self.lasts,
            connections: self.connections.into(),
            deadline: self.deadline,
        };
        let (play, interrupted) = runtime()?.block_on(watch(plan))?;
        let report = Report::new(&play, interrupted);
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

/// Plays to the end, and tells whether a signal ended it early.
async fn watch(plan: Plan) -> Result<(Play, bool), Failure> {
    let signals = Signals::listen()?;
    let play = Play::start(plan).await?;
    let interrupted = tokio::select! {
        () = signals.stop_requested() => true,
        () = end_of(&play) => false,
    };
    if interrupted {
        play.stop();
        end_of(&play).await;
    }
    Ok((play, interrupted))
}

async fn end_of(play: &Play) {
    let on_terminal = stderr().is_terminal();
    let mut looks = 0;
    while !play.is_finished() {
        tokio::time::sleep(LOOK_EVERY).await;
        looks += 1;
        if on_terminal && looks % TELL_EVERY == 0 {
            tell(play);
        }
    }
    if on_terminal {
        tell(play);
        eprintln!();
    }
}

fn tell(play: &Play) {
    let tally = play.tally();
    let (total, broken) = (tally.total(), tally.broken.values().map(|broken| broken.count));
    // Whoever closed stderr wants no progress.
    let _ = write!(
        stderr(),
        "\r{} of {} sent, {} allowed, {} refused, {} promises broken\x1b[K",
        grouped(total.sent),
        grouped(play.plan().total()),
        grouped(total.allowed),
        grouped(total.refused),
        grouped(broken.sum())
    );
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = units::duration(text).filter(|duration| !duration.is_zero());
    duration.ok_or_else(|| format!("not {}", units::DURATION_FORM))
}

fn deadline(text: &str) -> Result<Duration, String> {
    let deadline = units::duration(text).filter(|deadline| !deadline.is_zero() && *deadline <= DEADLINE_MAX);
    deadline.ok_or_else(|| {
        format!(
            "allowed: {}, from 1ms to {}",
            units::DURATION_FORM,
            units::show_duration(DEADLINE_MAX)
        )
    })
}

use std::io::{Write, stdout};

use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::{config, health, local, logging, receiver, reconcile, rules, simulate, topics, verdict, worker};

/// The gate and the audit pipeline for Tencent Cloud Chat callbacks.
#[derive(Parser)]
#[command(
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 the checked thing does not hold, 2 usage, 64 the configuration is wrong, \
                  69 a needed service is away, 70 a bug.\n\
                  Environment: PORTCULLIS__SECTION__KEY=value overrides the configuration, PORTCULLIS_LOG filters \
                  the logs (info), PORTCULLIS_LOG_FORMAT is json or human."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything in one process on an embedded broker, with sample traffic: the whole loop in a minute
    #[command(after_help = "Example:\n  portcullis local --for 30s")]
    Local(Box<local::Local>),
    /// Answer callbacks and record every one of them
    #[command(after_help = "Example:\n  portcullis receiver --config portcullis.toml")]
    Receiver(receiver::Process),
    /// Read the records, find abuse, issue verdicts
    #[command(after_help = "Example:\n  portcullis worker --config portcullis.toml")]
    Worker(worker::Process),
    /// Create the topics in Kafka, or check how they are set
    #[command(
        subcommand,
        after_help = "Example:\n  portcullis topics create --config portcullis.toml"
    )]
    Topics(topics::Command),
    /// Check the configuration, or show the whole of it
    #[command(
        subcommand,
        after_help = "Example:\n  portcullis config check --config portcullis.toml"
    )]
    Config(config::Command),
    /// Check rules, or run the tests beside them
    #[command(subcommand, after_help = "Example:\n  portcullis rules test rules.toml")]
    Rules(rules::Command),
    /// Deny or allow by a moderator's hand, lift it, list what holds
    #[command(
        subcommand,
        after_help = "Example:\n  portcullis verdict list --config portcullis.toml"
    )]
    Verdict(Box<verdict::Command>),
    /// Prove from the topics whether a record is missing, and which
    #[command(
        after_help = "Examples:\n  portcullis reconcile --config portcullis.toml\n  portcullis reconcile --from 2h --json\n\n\
                      Exit code 1 where a record is missing; what is only late is told and is no failure."
    )]
    Reconcile(reconcile::Reconcile),
    /// Play Chat: signed callbacks at a fixed rate, every answer checked against its contract
    #[command(
        after_help = "Examples:\n  portcullis simulate --config portcullis.toml --rate 500 --for 1m\n  \
                      portcullis simulate --scenario odd --scenario forged --json\n\n\
                      Exit code 1 where a promise is broken: no answer, one after 2 s, one out of the contract."
    )]
    Simulate(simulate::Simulate),
    /// Ask a running receiver or worker whether it is ready
    #[command(after_help = "Example:\n  portcullis health --url http://127.0.0.1:9091/ready")]
    Health(health::Health),
}

/// Does what the arguments say.
pub(crate) fn run() -> Result<(), Failure> {
    let cli = Cli::parse();
    let quiet = matches!(cli.command, Command::Local(_) | Command::Simulate(_));
    logging::start(if quiet { "warn" } else { "info" })?;
    // Not locked: what `local` plays is told by a thread of its own.
    let mut out = stdout();
    match cli.command {
        Command::Local(local) => local.run(&mut out)?,
        Command::Receiver(process) => process.run()?,
        Command::Worker(process) => process.run()?,
        Command::Topics(command) => command.run(&mut out)?,
        Command::Config(command) => command.run(&mut out)?,
        Command::Rules(command) => command.run(&mut out)?,
        Command::Verdict(command) => command.run(&mut out)?,
        Command::Reconcile(reconcile) => reconcile.run(&mut out)?,
        Command::Simulate(simulate) => simulate.run(&mut out)?,
        Command::Health(health) => health.run(&mut out)?,
    }
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn every_command_shows_an_example_and_no_arguments_contradict_each_other() {
        let mut cli = Cli::command();
        cli.build();
        cli.clone().debug_assert();
        let mut commands: Vec<clap::Command> = cli.get_subcommands().cloned().collect();
        while let Some(command) = commands.pop() {
            if command.get_name() == "help" {
                continue;
            }
            let shown = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(shown.starts_with("Example"), "{}", command.get_name());
            commands.extend(command.get_subcommands().cloned());
        }
    }
}

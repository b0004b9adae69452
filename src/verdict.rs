//! `portcullis verdict`: a moderator's hand. It writes to the topic that every receiver reads, and waits until Kafka
//! has it; receivers apply it within moments.

mod command;
mod issue;
mod lift;
mod list;
pub(crate) mod shell;
mod subject;
mod table;
mod topic;

use std::io::Write;

use clap::Subcommand;

use crate::failure::Failure;

/// What a moderator can do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Refuse the callbacks of a subject
    #[command(
        after_help = "Example:\n  portcullis verdict deny --app 1400000001 --operator leckie \
                            --command Group.CallbackBeforeCreateTopic --code 10101 --text 'too many topics' \
                            --for 1h --reason spam"
    )]
    Deny {
        #[command(flatten)]
        verdict: issue::Issue,
        #[command(flatten)]
        reply: issue::Reply,
    },
    /// Let the callbacks of a subject through, whatever a rule concludes
    #[command(
        after_help = "Example:\n  portcullis verdict allow --app 1400000001 --client-ip 203.0.113.0/24 \
                            --for 7d --reason 'our own office'"
    )]
    Allow(issue::Issue),
    /// End the verdicts about a subject, a moderator's and a rule's
    #[command(after_help = "Example:\n  portcullis verdict lift --app 1400000001 --operator leckie")]
    Lift(lift::Lift),
    /// Show the verdicts that hold
    #[command(after_help = "Examples:\n  portcullis verdict list\n  portcullis verdict list --app 1400000001 --json")]
    List(list::List),
}

impl Command {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Self::Deny { verdict, reply } => verdict.deny(reply, out),
            Self::Allow(verdict) => verdict.allow(out),
            Self::Lift(arguments) => arguments.lift(out),
            Self::List(arguments) => arguments.list(out),
        }
    }
}

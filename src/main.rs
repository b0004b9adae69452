//! The binary: one file for each command, each thin over the libraries.

mod cli;
mod failure;
mod kafka;
mod logging;
mod settings;
mod topics;
mod verdict;

use std::process::ExitCode;

use failure::Failure;

fn main() -> ExitCode {
    let ended = std::panic::catch_unwind(cli::run);
    ended
        .unwrap_or(Err(Failure::Bug))
        .map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}

//! The binary: one file for each command, each thin over the libraries.

mod admin;
mod cli;
mod config;
mod failure;
mod health;
mod kafka;
mod local;
mod logging;
mod mistakes;
mod process;
mod reading;
mod receiver;
mod reconcile;
mod rules;
mod settings;
mod simulate;
mod topics;
mod verdict;
mod worker;

use std::process::ExitCode;

use failure::Failure;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let ended = std::panic::catch_unwind(cli::run);
    ended
        .unwrap_or(Err(Failure::Bug))
        .map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}

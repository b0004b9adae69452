//! A campaign of faults: real processes on a Kafka are killed, frozen, restarted, and get full and slow disks, while
//! callers post without a pause. Afterwards every callback that was answered must be in the topic, under one id.
//!
//! `tests/campaign/run --help` tells how a long one is run, and how one is replayed. Without arguments it is the short
//! one that belongs to every test run.
//!
//! [`plan`] makes of a seed what is done and when; [`stage`] owns the processes and does it; [`callers`] play Chat and
//! note in the [`book`] what was answered; [`seen`] reads the topic; [`check`] compares the two. [`campaign`] is the
//! order of all this.

mod arguments;
mod book;
mod callers;
mod campaign;
mod check;
mod guard;
mod interrupt;
mod plan;
mod reconcile;
mod report;
mod seen;
mod stage;

/// What the system tests stand on, of which this uses a part.
#[path = "../it"]
#[allow(dead_code, unused_imports)]
mod it {
    pub(crate) mod support;
}

use std::process::ExitCode;

use arguments::{Arguments, Wish};
use it::support;

fn main() -> ExitCode {
    match Arguments::parse() {
        Wish::Run(arguments) => campaign::run(&arguments.size()),
        Wish::Nothing => ExitCode::SUCCESS,
    }
}

//! Measures the contestants under one contract and prints what the README shows. README.md beside this workspace
//! has the method; `run` builds everything and starts this program with a broker of its own.
//!
//! One direction: `main` walks over rounds and contestants; `contestant` starts one and reads its cost from the
//! system; `load` sends callbacks and judges every answer; `topic` makes the topic, and counts what reached it;
//! `table` turns rounds into medians.

mod contestant;
mod load;
mod measure;
mod scaling;
mod table;
mod topic;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::contestant::Contestant;
use crate::measure::{Bench, Row};

/// One measurement for each table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Table {
    /// CPU a callback, highest rate, latency at a fixed rate, memory, records missing
    Peers,
    /// Ours at half of its highest rate, the broker still for 60 s: latency, and how fast the backlog is published; beside
    /// the floor's latency at such a rate
    Half,
    /// The same with the driver and the threads that answer at real-time priority: what it would be on a machine that does
    /// nothing else; needs root
    Undisturbed,
    /// The broker stands still for 10 s
    Frozen,
    /// kill -9 in the middle of the load
    Killed,
}

/// Drives the contestants on one core from the other, beside a real Kafka; bench/run starts it.
#[derive(Parser)]
struct Arguments {
    /// how often every contestant is measured, interleaved
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// how long one load lasts
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// callbacks a second of the fixed rate
    #[arg(long, default_value_t = 1_000)]
    rate: u64,
    /// who is measured, by name, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Contestant::ALL)]
    contestants: Vec<Contestant>,
    /// what is measured, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Table::Peers, Table::Half, Table::Frozen, Table::Killed])]
    tables: Vec<Table>,
    /// two rounds of 3 s
    #[arg(long)]
    quick: bool,
    /// how ours scales with cores, receivers and verdicts, instead of the tables
    #[arg(long)]
    scaling: bool,
    /// where the raw figures of each round go, besides the tables on stdout
    #[arg(long)]
    json: Option<PathBuf>,
    /// where the built contestants are
    #[arg(long, hide = true)]
    built: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(69)
        }
    }
}

/// False when an answer broke the contract.
fn run(mut arguments: Arguments) -> Result<bool, Box<dyn std::error::Error>> {
    if arguments.quick {
        (arguments.rounds, arguments.seconds) = (2, 3);
    }
    let bench = Bench::new(arguments.built, arguments.seconds, arguments.rate)?;
    if arguments.scaling {
        let rows = scaling::measure(&bench, arguments.rounds)?;
        println!("{}", scaling::markdown(&rows));
        if let Some(path) = arguments.json {
            std::fs::write(path, serde_json::to_vec_pretty(&rows)?)?;
        }
        return Ok(told_wrong(rows.iter().map(|row| row.wrong).sum()));
    }
    let mut rows: Vec<Row> = Vec::new();
    for &table in &arguments.tables {
        for round in 0..arguments.rounds {
            for &contestant in &arguments.contestants {
                if !contestant.takes_part_in(table) {
                    continue;
                }
                eprintln!(
                    "bench: {table:?}, round {} of {}: {}",
                    round + 1,
                    arguments.rounds,
                    contestant.title()
                );
                if !bench.is_built(contestant) {
                    eprintln!("bench: {} was not built and is SKIPPED", contestant.title());
                    continue;
                }
                rows.push(bench.measure(table, contestant, round)?);
            }
        }
    }
    for &table in &arguments.tables {
        println!("{}", table::markdown(table, &rows));
    }
    if let Some(path) = arguments.json {
        std::fs::write(path, serde_json::to_vec_pretty(&rows)?)?;
    }
    Ok(told_wrong(rows.iter().map(|row| row.wrong).sum()))
}

/// False when an answer broke the contract.
fn told_wrong(wrong: u64) -> bool {
    if wrong > 0 {
        eprintln!("bench: {wrong} answers broke the contract");
    }
    wrong == 0
}

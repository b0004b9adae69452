//! Measures the contestants under one contract and prints what the README shows. README.md beside this workspace
//! has the method; `run` builds everything and starts this program with a broker of its own.
//!
//! One direction: `main` walks over rounds and contestants; `contestant` starts one and reads its cost from the
//! system; `load` sends callbacks and judges every answer, `saturation` as many as can be answered; `topic` makes the
//! topic, and counts what reached it; `table` turns rounds into medians. `process` leaves nothing behind.

mod contestant;
mod load;
mod measure;
mod process;
mod saturation;
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
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// how long one load lasts
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// callbacks a second of the fixed rate
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
    /// who is measured, by name, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Contestant::ALL)]
    contestants: Vec<Contestant>,
    /// what is measured, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Table::Peers, Table::Half, Table::Frozen, Table::Killed])]
    tables: Vec<Table>,
    /// two rounds of 3 s
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// how ours scales with cores, receivers and verdicts, instead of the tables
    #[arg(long, conflicts_with_all = ["rate", "contestants", "tables"])]
    scaling: bool,
    /// where the raw figures of each round go, besides the tables on stdout
    #[arg(long)]
    json: Option<PathBuf>,
    /// where the built contestants are
    #[arg(long, hide = true)]
    built: PathBuf,
    /// only says what is wrong with the arguments: before anything else is built
    #[arg(long, hide = true)]
    check: bool,
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

/// False when an answer broke the contract, or a contestant could not be measured.
fn run(mut arguments: Arguments) -> Result<bool, Box<dyn std::error::Error>> {
    if arguments.check {
        return Ok(true);
    }
    if arguments.quick {
        (arguments.rounds, arguments.seconds) = (2, 3);
    }
    let bench = Bench::new(arguments.built.clone(), arguments.seconds, arguments.rate)?;
    if arguments.scaling {
        let (rows, failed) = scaling::measure(&bench, arguments.rounds);
        println!("{}", scaling::markdown(&rows));
        if let Some(path) = arguments.json {
            std::fs::write(path, serde_json::to_vec_pretty(&rows)?)?;
        }
        return Ok(told(rows.iter().map(|row| row.wrong).sum(), failed));
    }
    let (rows, failed) = measure(&bench, &arguments);
    for &table in &arguments.tables {
        println!("{}", table::markdown(table, &rows));
    }
    if let Some(path) = arguments.json {
        std::fs::write(path, serde_json::to_vec_pretty(&rows)?)?;
    }
    Ok(told(rows.iter().map(|row| row.wrong).sum(), failed))
}

/// Everyone once a round, as far as could be measured; how often that failed.
fn measure(bench: &Bench, arguments: &Arguments) -> (Vec<Row>, usize) {
    let (mut rows, mut failed) = (Vec::new(), 0);
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
                match bench.measure(table, contestant, round) {
                    Ok(row) => rows.push(row),
                    Err(error) => {
                        eprintln!("bench: {} could not be measured: {error}", contestant.title());
                        failed += 1;
                    }
                }
                if !bench.has_broker() {
                    eprintln!("bench: the broker has ended, so nothing more can be measured");
                    return (rows, failed.max(1));
                }
            }
        }
    }
    (rows, failed)
}

/// False when an answer broke the contract, or a contestant could not be measured.
fn told(wrong: u64, failed: usize) -> bool {
    if wrong > 0 {
        eprintln!("bench: {wrong} answers broke the contract");
    }
    if failed > 0 {
        eprintln!("bench: {failed} times somebody could not be measured; what was said meanwhile tells why");
    }
    wrong == 0 && failed == 0
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::Arguments;

    #[test]
    fn what_cannot_be_measured_is_said_before_anything_is_built() {
        let read =
            |words: &str| Arguments::try_parse_from(format!("bench-driver --built x {words}").split_whitespace());
        for wrong in [
            "--rate 0",
            "--rounds 0",
            "--seconds 0",
            "--rate 1000000000",
            "--contestants nobody",
            "--quick --rounds 5",
            "--scaling --tables half",
            "--round 3",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(read("--quick --check").is_ok_and(|arguments| arguments.check));
    }
}

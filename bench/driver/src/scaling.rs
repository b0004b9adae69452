//! How ours scales: cores, receivers beside each other, verdicts. One change a case, all else as in the first.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::contestant::{Contestant, Running, Surroundings};
use crate::load::{self, DENIED, End, Load, Outcome, Pace};
use crate::measure::{Bench, SATURATING, SECOND_LOAD, VERDICTS};
use crate::topic;

/// Before the load that is measured.
const WARM: Duration = Duration::from_secs(1);

/// What is changed.
#[derive(Clone, Copy, Serialize)]
struct Case {
    title: &'static str,
    /// As taskset lists them. The driver and the broker are on the second one, always.
    cores: &'static str,
    /// They share the cores and the callers.
    receivers: usize,
    denied: u64,
}

const ONE: Case = Case {
    title: "1 core, 1 receiver, 100,000 verdicts",
    cores: "0",
    receivers: 1,
    denied: DENIED,
};
const CASES: [Case; 7] = [
    ONE,
    Case {
        title: "2 cores, the driver and the broker on one of them",
        cores: "0,1",
        ..ONE
    },
    Case {
        title: "2 receivers on 1 core",
        receivers: 2,
        ..ONE
    },
    Case {
        title: "4 receivers on 1 core",
        receivers: 4,
        ..ONE
    },
    Case {
        title: "no verdicts",
        denied: 0,
        ..ONE
    },
    Case {
        title: "1,000 verdicts",
        denied: 1_000,
        ..ONE
    },
    Case {
        title: "1,000,000 verdicts",
        denied: 1_000_000,
        ..ONE
    },
];

/// The raw figures of one round of a case.
#[derive(Clone, Serialize)]
pub(crate) struct ScalingRow {
    case: Case,
    round: u32,
    cpu_us: f64,
    per_second: f64,
    /// Of the first receiver.
    memory_peak_mib: f64,
    unanswered: u64,
    pub(crate) wrong: u64,
    lost: u64,
}

/// Every case once a round.
pub(crate) fn measure(bench: &Bench, rounds: u32) -> Result<Vec<ScalingRow>, Box<dyn Error>> {
    let mut rows = Vec::new();
    let mut topics = Vec::new();
    for round in 0..rounds {
        for case in CASES {
            eprintln!("bench: scaling, round {} of {rounds}: {}", round + 1, case.title);
            let verdicts = verdicts_topic(case.denied);
            if case.denied != DENIED && !topics.contains(&case.denied) {
                topic::create(&bench.bootstrap, &verdicts)?;
                topic::write_verdicts(&bench.bootstrap, &verdicts, case.denied)?;
                topics.push(case.denied);
            }
            rows.push(measure_case(bench, case, &verdicts, round)?);
        }
    }
    Ok(rows)
}

/// Where so many verdicts are.
fn verdicts_topic(denied: u64) -> String {
    match denied {
        DENIED => VERDICTS.to_owned(),
        other => format!("{VERDICTS}-{other}"),
    }
}

fn measure_case(bench: &Bench, case: Case, verdicts: &str, round: u32) -> Result<ScalingRow, Box<dyn Error>> {
    let name = format!(
        "callbacks-scaling-{}-{}-{}-{round}",
        case.cores, case.receivers, case.denied
    )
    .replace(',', "-");
    topic::create(&bench.bootstrap, &name)?;
    let folders: Vec<PathBuf> = (0..case.receivers)
        .map(|index| bench.built.join("rounds").join(format!("{name}-{index}")))
        .collect();
    let instances: Vec<String> = (0..case.receivers).map(|index| format!("bench-{index}")).collect();
    let mut receivers = Vec::new();
    for (folder, instance) in folders.iter().zip(&instances) {
        let around = Surroundings {
            built: &bench.built,
            folder,
            bootstrap: &bench.bootstrap,
            topic: &name,
            verdicts,
            instance,
            cores: case.cores,
        };
        receivers.push(Running::start(Contestant::OursHost, &around)?);
    }
    let lasts = Duration::from_secs(bench.seconds);
    let warm = saturate(&receivers, case, WARM, 0)?;
    let before = cpu(&receivers)?;
    let measured = saturate(&receivers, case, lasts, case.receivers as u64)?;
    topic::wait_until_still(&bench.bootstrap, &name)?;
    let cpu = cpu(&receivers)? - before;
    let memory_peak_kib = receivers[0].memory_peak_kib()?;
    for receiver in receivers {
        receiver.stop()?;
    }
    let ends = |end| measured.iter().filter(|outcome| outcome.end == end).count() as u64;
    let answers = (ends(End::Answered) + ends(End::Refused)) as f64;
    let counts = topic::count(&bench.bootstrap, &name)?;
    let answered = warm
        .iter()
        .chain(&measured)
        .filter(|outcome| outcome.end == End::Answered);
    for folder in folders {
        // A journal that was counted helps nobody.
        let _ = fs::remove_dir_all(folder.join("data"));
    }
    Ok(ScalingRow {
        case,
        round,
        cpu_us: cpu.as_secs_f64() * 1e6 / answers,
        per_second: answers / lasts.as_secs_f64(),
        memory_peak_mib: memory_peak_kib as f64 / 1024.0,
        unanswered: ends(End::Unanswered),
        wrong: ends(End::Wrong),
        lost: answered.filter(|outcome| !counts.contains_key(&outcome.number)).count() as u64,
    })
}

/// Loads all of them at once; each load has numbers of its own, from the `first_load`th thousand million on.
fn saturate(
    receivers: &[Running],
    case: Case,
    lasts: Duration,
    first_load: u64,
) -> Result<Vec<Outcome>, Box<dyn Error>> {
    thread::scope(|scope| {
        let loads: Vec<_> = (first_load..)
            .zip(receivers)
            .map(|(number, receiver)| {
                let load = Load {
                    address: receiver.address,
                    pace: Pace::Saturation,
                    lasts,
                    connections: SATURATING / receivers.len(),
                    first: number * SECOND_LOAD,
                    judged: true,
                    denied: case.denied,
                };
                scope.spawn(move || load::run(load))
            })
            .collect();
        let mut outcomes = Vec::new();
        for load in loads {
            outcomes.extend(load.join().map_err(|_| "a load panicked")??);
        }
        Ok(outcomes)
    })
}

fn cpu(receivers: &[Running]) -> Result<Duration, Box<dyn Error>> {
    let mut sum = Duration::ZERO;
    for receiver in receivers {
        sum += receiver.cpu()?;
    }
    Ok(sum)
}

/// The table in Markdown: medians, and the ratio to the first case.
pub(crate) fn markdown(rows: &[ScalingRow]) -> String {
    let mut text = "| Portcullis, durability host | CPU us a callback | × the first | max/s | peak MiB | unanswered | wrong | lost |\n\
                    |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    let mut first = None;
    for case in CASES {
        let mine: Vec<&ScalingRow> = rows.iter().filter(|row| row.case.title == case.title).collect();
        let median = |of: fn(&ScalingRow) -> f64| {
            let mut figures: Vec<f64> = mine.iter().map(|row| of(row)).collect();
            figures.sort_by(f64::total_cmp);
            figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let sum = |of: fn(&ScalingRow) -> u64| mine.iter().map(|row| of(row)).sum::<u64>();
        let cpu_us = median(|row| row.cpu_us);
        let ratio = cpu_us / *first.get_or_insert(cpu_us);
        text += &format!(
            "| {} | {cpu_us:.1} | {ratio:.2} | {:.0} | {:.0} | {} | {} | {} |\n",
            case.title,
            median(|row| row.per_second),
            median(|row| row.memory_peak_mib),
            sum(|row| row.unanswered),
            sum(|row| row.wrong),
            sum(|row| row.lost),
        );
    }
    text
}

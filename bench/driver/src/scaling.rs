//! How ours scales: cores, receivers beside each other, verdicts. One change a case, all else as in the first.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::contestant::{Contestant, Running, Surroundings};
use crate::load::{DENIED, End, Load, Pace};
use crate::measure::{Bench, SECOND_LOAD, VERDICTS, WARM, WARMING};
use crate::saturation::{self, cpu, saturate};
use crate::table::{median, spread};
use crate::topic;

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
    /// Of all receivers together.
    callers: usize,
    /// Share of all cores.
    busy: f64,
    /// Of all receivers together: the sum of what each had at most.
    memory_peak_mib: f64,
    unanswered: u64,
    pub(crate) wrong: u64,
    lost: u64,
}

/// Every case once a round, as far as it could be measured; how many could not.
pub(crate) fn measure(bench: &Bench, rounds: u32) -> (Vec<ScalingRow>, usize) {
    let (mut rows, mut failed) = (Vec::new(), 0);
    let mut topics = vec![DENIED];
    for round in 0..rounds {
        for case in CASES {
            eprintln!("bench: scaling, round {} of {rounds}: {}", round + 1, case.title);
            match measure_case(bench, case, &mut topics, round) {
                Ok(row) => rows.push(row),
                Err(error) => {
                    eprintln!("bench: {} could not be measured: {error}", case.title);
                    failed += 1;
                }
            }
            if !bench.has_broker() {
                eprintln!("bench: the broker has ended, so nothing more can be measured");
                return (rows, failed.max(1));
            }
        }
    }
    (rows, failed)
}

/// Where so many verdicts are.
fn verdicts_topic(denied: u64) -> String {
    match denied {
        DENIED => VERDICTS.to_owned(),
        other => format!("{VERDICTS}-{other}"),
    }
}

/// `topics` are the numbers of verdicts for which there is a topic.
fn measure_case(bench: &Bench, case: Case, topics: &mut Vec<u64>, round: u32) -> Result<ScalingRow, Box<dyn Error>> {
    let verdicts = verdicts_topic(case.denied);
    if !topics.contains(&case.denied) {
        topic::create(&bench.bootstrap, &verdicts)?;
        topic::write_verdicts(&bench.bootstrap, &verdicts, case.denied)?;
        topics.push(case.denied);
    }
    let name = format!(
        "callbacks-scaling-{}-{}-{}-{round}",
        case.cores, case.receivers, case.denied
    )
    .replace(',', "-");
    topic::create(&bench.bootstrap, &name)?;
    let folders: Vec<PathBuf> = (0..case.receivers)
        .map(|index| bench.folder(&format!("{name}-{index}")))
        .collect();
    let measured = measure_in(&folders, bench, case, &verdicts, &name, round);
    for folder in folders {
        // A journal of a round that is over helps nobody.
        let _ = fs::remove_dir_all(folder.join("data"));
    }
    measured
}

fn measure_in(
    folders: &[PathBuf],
    bench: &Bench,
    case: Case,
    verdicts: &str,
    name: &str,
    round: u32,
) -> Result<ScalingRow, Box<dyn Error>> {
    let mut receivers = Vec::new();
    for (index, folder) in folders.iter().enumerate() {
        let around = Surroundings {
            verdicts,
            instance: &format!("bench-{index}"),
            cores: case.cores,
            ..bench.surroundings(folder, name)
        };
        receivers.push(Running::start(Contestant::OursHost, &around)?);
    }
    let load = Load {
        address: receivers[0].address, // of the first; each has its own
        pace: Pace::Saturation,
        lasts: WARM,
        connections: WARMING,
        first: 0,
        judged: true,
        denied: case.denied,
    };
    let loads_apart = SECOND_LOAD * case.receivers as u64;
    let warm = saturate(&receivers, load)?;
    let first = 2 * loads_apart;
    let (callers, found) = saturation::find(&receivers, Load { first, ..load })?;
    topic::wait_until_still(&bench.bootstrap, name)?;
    let before = cpu(&receivers)?;
    let measured = saturate(
        &receivers,
        Load {
            lasts: Duration::from_secs(bench.seconds),
            connections: callers,
            first: loads_apart,
            ..load
        },
    )?;
    topic::wait_until_still(&bench.bootstrap, name)?;
    let cpu = cpu(&receivers)? - before;
    let mut memory_peak_kib = 0;
    for receiver in receivers {
        memory_peak_kib += receiver.memory_peak_kib()?;
        receiver.stop()?;
    }
    let counts = topic::count(&bench.bootstrap, name)?;
    let outcomes = [warm.outcomes, found, measured.outcomes].concat();
    let ends = |end| outcomes.iter().filter(move |outcome| outcome.end == end);
    Ok(ScalingRow {
        case,
        round,
        cpu_us: cpu.as_secs_f64() * 1e6 / measured.answers,
        per_second: measured.per_second,
        callers,
        busy: measured.busy,
        memory_peak_mib: memory_peak_kib as f64 / 1024.0,
        unanswered: ends(End::Unanswered).count() as u64,
        wrong: ends(End::Wrong).count() as u64,
        lost: ends(End::Answered)
            .filter(|outcome| !counts.contains_key(&outcome.number))
            .count() as u64,
    })
}

/// The table in Markdown: medians, with the smallest and largest in brackets, and the ratio to the first case.
pub(crate) fn markdown(rows: &[ScalingRow]) -> String {
    let mut text = "| Portcullis, durability host | CPU us a callback | × the first | max/s | callers | cores busy, % | peak MiB, all together | unanswered | wrong | lost |\n\
                    |---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    let mut first = None;
    for case in CASES {
        let mine: Vec<&ScalingRow> = rows.iter().filter(|row| row.case.title == case.title).collect();
        let figures = |of: fn(&ScalingRow) -> f64| mine.iter().map(|row| of(row)).collect::<Vec<_>>();
        let sum = |of: fn(&ScalingRow) -> u64| mine.iter().map(|row| of(row)).sum::<u64>();
        let Some(cpu_us) = median(figures(|row| row.cpu_us)) else {
            continue;
        };
        if case.title == ONE.title {
            first = Some(cpu_us);
        }
        let ratio = first.map_or_else(|| "-".to_owned(), |first| format!("{:.2}", cpu_us / first));
        text += &format!(
            "| {} | {} | {ratio} | {} | {} | {} | {} | {} | {} | {} |\n",
            case.title,
            spread(figures(|row| row.cpu_us), 1),
            spread(figures(|row| row.per_second), 0),
            spread(figures(|row| row.callers as f64), 0),
            spread(figures(|row| row.busy * 100.0), 0),
            spread(figures(|row| row.memory_peak_mib), 0),
            sum(|row| row.unanswered),
            sum(|row| row.wrong),
            sum(|row| row.lost),
        );
    }
    text
}

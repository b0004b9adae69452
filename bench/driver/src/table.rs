//! Rounds become a line of medians, with the smallest and largest in brackets.

use std::fmt::Write;

use crate::Table;
use crate::contestant::Contestant;
use crate::measure::Row;

/// Of both tables of half the highest rate.
macro_rules! half_columns {
    () => {
        "| callbacks/s | CPU us a callback while still | × bare | p50 us | p99 us | p99.9 us | p99.9 us while still | p99.9 us from then on | the same two by its own clock, at most | worst us | backlog | in Kafka after s | published/s, × highest rate | peak MiB | unanswered | wrong | lost | doubled |"
    };
}

/// The table in Markdown; contestants that were not measured have no line.
pub(crate) fn markdown(table: Table, rows: &[Row]) -> String {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.table == table).collect();
    let bare = median(&of(&rows, Contestant::Bare), |row| row.cpu_us);
    let header = match table {
        Table::Peers => {
            "| contestant | CPU us a callback | × bare | max/s | core busy, % | p50 us | p99 us | p99.9 us | peak MiB | unanswered | wrong | lost | doubled |"
        }
        Table::Half => concat!(
            "| half of its highest rate, broker still for 60 s of 125 ",
            half_columns!()
        ),
        Table::Undisturbed => concat!("| the same at real-time priority ", half_columns!()),
        Table::Frozen => {
            "| broker still for 10 s of 20 | in 300 ms, % | unanswered | wrong | answered and lost | doubled |"
        }
        Table::Killed => "| kill -9 under load | called | unanswered | wrong | answered and lost | doubled |",
    };
    let columns = header.matches('|').count() - 1;
    let mut text = format!("{header}\n|{}\n", "---|".repeat(columns));
    for contestant in Contestant::ALL {
        let mine = of(&rows, contestant);
        if mine.is_empty() {
            continue;
        }
        let figure = |of: fn(&Row) -> f64, decimals: usize| spread(&mine, of, decimals);
        let unanswered = figure(|row| row.unanswered as f64, 0);
        let wrong = figure(|row| row.wrong as f64, 0);
        let lost = figure(|row| row.lost as f64, 0);
        let doubled = figure(|row| row.doubled as f64, 0);
        let ratio = bare.zip(median(&mine, |row| row.cpu_us));
        let ratio = ratio.map_or_else(|| "-".to_owned(), |(bare, own)| format!("{:.1}", own / bare));
        let cells = match table {
            Table::Peers => {
                vec![
                    figure(|row| row.cpu_us, 1),
                    ratio,
                    figure(|row| row.per_second, 0),
                    figure(|row| row.cpu_us * row.per_second / 1e4, 0),
                    figure(|row| row.latency_us[0].into(), 0),
                    figure(|row| row.latency_us[1].into(), 0),
                    figure(|row| row.latency_us[2].into(), 0),
                    figure(|row| row.memory_peak_mib, 0),
                    unanswered,
                    wrong,
                    lost,
                    doubled,
                ]
            }
            Table::Half | Table::Undisturbed => {
                let published = |row: &Row| row.published_per_second / row.per_second;
                let of_ours = |cell: String| {
                    if contestant.is_ours() { cell } else { String::new() }
                };
                vec![
                    figure(|row| row.per_second / 2.0, 0),
                    figure(|row| row.cpu_us, 1),
                    ratio,
                    figure(|row| row.latency_us[0].into(), 0),
                    figure(|row| row.latency_us[1].into(), 0),
                    figure(|row| row.latency_us[2].into(), 0),
                    figure(|row| row.still_us.into(), 0),
                    figure(|row| row.catching_up_us.into(), 0),
                    of_ours(format!(
                        "{}, {}",
                        figure(|row| row.own_us[0], 0),
                        figure(|row| row.own_us[1], 0)
                    )),
                    figure(|row| row.latency_us[3].into(), 0),
                    of_ours(figure(|row| row.backlog as f64, 0)),
                    of_ours(figure(|row| row.published_in_s, 1)),
                    of_ours(figure(published, 1)),
                    figure(|row| row.memory_peak_mib, 0),
                    unanswered,
                    wrong,
                    lost,
                    doubled,
                ]
            }
            Table::Frozen => {
                let share = |row: &Row| 100.0 * row.in_deadline as f64 / row.called as f64;
                vec![figure(share, 1), unanswered, wrong, lost, doubled]
            }
            Table::Killed => vec![figure(|row| row.called as f64, 0), unanswered, wrong, lost, doubled],
        };
        // Writing into a String cannot fail.
        let _ = writeln!(text, "| {} | {} |", contestant.title(), cells.join(" | "));
    }
    text
}

fn of<'a>(rows: &[&'a Row], contestant: Contestant) -> Vec<&'a Row> {
    rows.iter()
        .copied()
        .filter(|row| row.contestant == contestant)
        .collect()
}

fn sorted(rows: &[&Row], of: impl Fn(&Row) -> f64) -> Vec<f64> {
    let mut figures: Vec<f64> = rows.iter().map(|row| of(row)).collect();
    figures.sort_by(f64::total_cmp);
    figures
}

fn median(rows: &[&Row], of: impl Fn(&Row) -> f64) -> Option<f64> {
    let figures = sorted(rows, of);
    figures.get(figures.len() / 2).copied()
}

fn spread(rows: &[&Row], of: impl Fn(&Row) -> f64, decimals: usize) -> String {
    let figures = sorted(rows, of);
    let (Some(least), Some(most)) = (figures.first(), figures.last()) else {
        return "-".to_owned();
    };
    let middle = figures[figures.len() / 2];
    if least == most {
        return format!("{middle:.decimals$}");
    }
    format!("{middle:.decimals$} ({least:.decimals$}-{most:.decimals$})")
}

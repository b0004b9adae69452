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
    let bare = of(&rows, Contestant::Bare);
    let header = match table {
        Table::Peers => {
            "| contestant | CPU us a callback at the fixed rate | × bare | CPU us at saturation | × bare | max/s | callers | core busy, % | p50 us | p99 us | p99.9 us | peak MiB | unanswered | wrong | lost | doubled |"
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
        let figure = |of: fn(&Row) -> f64, decimals: usize| spread(figures(&mine, of), decimals);
        let unanswered = figure(|row| row.unanswered as f64, 0);
        let wrong = figure(|row| row.wrong as f64, 0);
        let lost = figure(|row| row.lost as f64, 0);
        let doubled = figure(|row| row.doubled as f64, 0);
        let ratio = |of: fn(&Row) -> f64| {
            let ratio = median(figures(&bare, of)).zip(median(figures(&mine, of)));
            ratio.map_or_else(|| "-".to_owned(), |(bare, own)| format!("{:.1}", own / bare))
        };
        let cells = match table {
            Table::Peers => {
                vec![
                    figure(|row| row.fixed_cpu_us, 1),
                    ratio(|row| row.fixed_cpu_us),
                    figure(|row| row.cpu_us, 1),
                    ratio(|row| row.cpu_us),
                    figure(|row| row.per_second, 0),
                    figure(|row| row.callers as f64, 0),
                    figure(|row| row.busy * 100.0, 0),
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
                let published: fn(&Row) -> f64 = |row| row.published_per_second / row.per_second;
                let of_ours = |cell: String| {
                    if contestant.is_ours() { cell } else { String::new() }
                };
                vec![
                    figure(|row| row.per_second / 2.0, 0),
                    figure(|row| row.cpu_us, 1),
                    ratio(|row| row.cpu_us),
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
                let share: fn(&Row) -> f64 = |row| 100.0 * row.in_deadline as f64 / row.called as f64;
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

fn figures(rows: &[&Row], of: fn(&Row) -> f64) -> Vec<f64> {
    rows.iter().map(|row| of(row)).collect()
}

/// The one in the middle, or the mean of the two there.
pub(crate) fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let upper = *figures.get(figures.len() / 2)?;
    match figures.len() % 2 {
        1 => Some(upper),
        _ => Some(f64::midpoint(figures[figures.len() / 2 - 1], upper)),
    }
}

/// The median, and the smallest and largest in brackets where they differ.
pub(crate) fn spread(figures: Vec<f64>, decimals: usize) -> String {
    let least = figures.iter().copied().min_by(f64::total_cmp);
    let most = figures.iter().copied().max_by(f64::total_cmp);
    let (Some(least), Some(most), Some(middle)) = (least, most, median(figures)) else {
        return "-".to_owned();
    };
    if least == most {
        return format!("{middle:.decimals$}");
    }
    format!("{middle:.decimals$} ({least:.decimals$}-{most:.decimals$})")
}

#[cfg(test)]
mod tests {
    use super::{median, spread};

    #[test]
    fn the_median_of_an_even_number_of_rounds_is_the_mean_of_the_middle_two() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(spread(vec![40.0, 10.0, 30.0, 20.0], 0), "25 (10-40)");
        assert_eq!(spread(vec![7.0, 7.0], 1), "7.0");
        assert_eq!(spread(vec![], 1), "-");
    }
}

//! Numbers and times as a person reads them.

use std::time::Duration;

use portcullis_schema::account::Span;

/// Ranges that are written out; `--json` has more.
const SPANS_SHOWN: usize = 10;

/// `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 record`, `1,234 records`.
pub(super) fn counted(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{} {what}s", grouped(number)),
    }
}

/// In one unit, rounded down; below two of a unit the next smaller one says more.
pub(super) fn rounded(duration: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let seconds = duration.as_secs();
    let fitting = UNITS.into_iter().find(|(unit, _)| seconds >= 2 * unit);
    let (unit, name) = fitting.unwrap_or((1, "s"));
    format!("{} {name}", seconds / unit)
}

/// The first of `spans`, and how many more there are, when they hold `records` in all.
pub(super) fn listed(spans: &[Span], records: u64) -> String {
    let shown = &spans[..spans.len().min(SPANS_SHOWN)];
    let told: Vec<String> = shown
        .iter()
        .map(|span| match span.first == span.last {
            true => span.first.to_string(),
            false => format!("{} to {}", span.first, span.last),
        })
        .collect();
    let told_records = shown
        .iter()
        .fold(0, |sum: u64, span| sum.saturating_add(span.records()));
    match records.saturating_sub(told_records) {
        0 => told.join(", "),
        more => format!("{}, and {} more", told.join(", "), grouped(more)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use portcullis_schema::account::Span;

    use super::{counted, grouped, listed, rounded};

    #[test]
    fn numbers_and_times_are_told_as_a_person_reads_them() {
        for (number, told) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(number), told);
        }
        assert_eq!([counted(1, "record"), counted(2, "record")], ["1 record", "2 records"]);
        for (seconds, told) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7_300, "2 h"),
            (172_800, "2 d"),
        ] {
            assert_eq!(rounded(Duration::from_secs(seconds)), told);
        }
    }

    #[test]
    fn a_long_list_of_ranges_ends_in_how_many_records_more_there_are() {
        let spans: Vec<Span> = (0..12)
            .map(|number| Span {
                first: 10 * number,
                last: 10 * number + 1,
            })
            .collect();
        assert_eq!(listed(&spans[..2], 4), "0 to 1, 10 to 11");
        assert!(
            listed(&spans, 30).ends_with("90 to 91, and 10 more"),
            "{}",
            listed(&spans, 30)
        );
    }
}

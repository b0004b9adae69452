use std::io::{self, Write};
use std::time::Duration;

use portcullis_schema::units::show_duration;
use portcullis_schema::{Effect, Timestamp, Verdict};

use super::shell;

const HEAD: [&str; 9] = [
    "APP", "SUBJECT", "EFFECT", "CODE", "COMMANDS", "FROM", "BY", "REASON", "ENDS IN",
];
/// Strangers choose some of these texts; past that a row is no longer read. `--json` has them whole.
const CELL_CHARS_MAX: usize = 48;

/// A row for each verdict, its columns as wide as they must be.
pub(super) fn write(out: &mut dyn Write, verdicts: &[Verdict], now: Timestamp) -> io::Result<()> {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(verdicts.iter().map(|verdict| row(verdict, now)));
    let widths: [usize; HEAD.len()] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

fn row(verdict: &Verdict, now: Timestamp) -> [String; HEAD.len()] {
    let effect = match verdict.effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
        Effect::Drop => "drop",
    };
    let commands = match verdict.commands.as_slice() {
        [] => "all".to_owned(),
        [one] => cell(one),
        [first, more @ ..] => cell(&format!("{first} +{}", more.len())),
    };
    let from = match &verdict.rule {
        Some(rule) => format!("rule {rule}"),
        None => verdict.source.name().to_owned(),
    };
    [
        verdict.app.to_string(),
        cell(&verdict.subject.to_string()),
        effect.to_owned(),
        code(verdict),
        commands,
        cell(&from),
        cell(&verdict.by),
        cell(&verdict.reason),
        ends_in(verdict, now),
    ]
}

fn code(verdict: &Verdict) -> String {
    match (verdict.effect, verdict.code) {
        (Effect::Allow, _) => "-".to_owned(),
        (_, None) => "plain".to_owned(),
        (_, Some(code)) => code.to_string(),
    }
}

fn cell(text: &str) -> String {
    let visible = shell::visible(text);
    if visible.chars().count() <= CELL_CHARS_MAX {
        return visible;
    }
    let cut: String = visible.chars().take(CELL_CHARS_MAX - 1).collect();
    cut + "…"
}

fn ends_in(verdict: &Verdict, now: Timestamp) -> String {
    match verdict.expires_at {
        None => "never".to_owned(),
        Some(end) if verdict.is_expired(now) => format!("expired {} ago", rounded(now.since(end))),
        Some(end) => rounded(end.since(now)),
    }
}

/// In one unit, rounded up: a verdict with 59 min 59.9 s to go has an hour.
fn rounded(duration: Duration) -> String {
    const UNITS: [u64; 4] = [86_400, 3_600, 60, 1];
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    // Below two of a unit the next smaller one says more.
    let unit = UNITS.into_iter().find(|unit| seconds >= 2 * unit).unwrap_or(1);
    show_duration(Duration::from_secs(seconds.div_ceil(unit) * unit))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::rounded;

    #[test]
    fn what_is_left_is_told_in_one_unit() {
        for (millis, told) in [
            (1, "1s"),
            (59_400, "1m"),
            (3_599_900, "1h"),
            (90_000_000, "25h"),
            (864_000_001, "11d"),
        ] {
            assert_eq!(rounded(Duration::from_millis(millis)), told);
        }
    }
}

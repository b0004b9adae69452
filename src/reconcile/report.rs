use std::io::{self, Write};

use portcullis_schema::Timestamp;
use portcullis_schema::account::{BootReport, Ending, Span};
use serde_json::{Value, json};

use super::advice::{advice, is_silent};
use super::count::Counted;
use super::words::{counted, grouped, listed, rounded};
use crate::verdict::shell::visible;

/// Boots that are written out, of those without trouble and of those with some, the last ones: a receiver that is
/// started anew again and again must not hide the others.
const CALM_SHOWN: usize = 20;
const TROUBLED_SHOWN: usize = 100;

/// What was found, at a moment.
pub(super) struct Report {
    counted: Counted,
    boots: Vec<BootReport>,
    now: Timestamp,
}

impl Report {
    pub(super) fn new(counted: Counted, now: Timestamp) -> Self {
        let boots = counted.account.boots();
        Self { counted, boots, now }
    }

    /// Whether nothing is missing.
    pub(super) fn holds(&self) -> bool {
        self.counted.account.missing_records() == 0
    }

    pub(super) fn write_lines(&self, out: &mut dyn Write) -> io::Result<()> {
        let (troubled, calm): (Vec<&BootReport>, Vec<&BootReport>) =
            self.boots.iter().partition(|boot| is_worth_a_look(boot));
        for (boots, max) in [(calm, CALM_SHOWN), (troubled, TROUBLED_SHOWN)] {
            let hidden = boots.len().saturating_sub(max);
            if hidden > 0 {
                writeln!(
                    out,
                    "{} before those that follow; --json has all\n",
                    counted(hidden as u64, "boot")
                )?;
            }
            for boot in boots.into_iter().skip(hidden) {
                self.write_boot(out, boot)?;
            }
        }
        for sentence in advice(&self.counted, &self.boots, self.now) {
            writeln!(out, "{sentence}")?;
        }
        Ok(())
    }

    pub(super) fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let account = &self.counted.account;
        let boots: Vec<Value> = self.boots.iter().map(|boot| self.json(boot)).collect();
        let from = Some(account.horizon()).filter(|horizon| horizon.as_micros() > i64::MIN);
        let report = json!({
            "ok": self.holds(),
            "judged_from": from,
            "missing_records": account.missing_records(),
            "late_records": self.boots.iter().fold(0, |sum: u64, boot| sum.saturating_add(boot.late_records)),
            "repeats": account.repeats(),
            "ledger_entries": self.counted.entries,
            "undecodable": self.counted.undecodable,
            "undecodable_entries": self.counted.undecodable_entries,
            "strangers": account.strangers(),
            "forgotten_boots": account.forgotten().boots,
            "boots": boots,
            "advice": advice(&self.counted, &self.boots, self.now),
        });
        writeln!(out, "{report}")
    }

    fn write_boot(&self, out: &mut dyn Write, boot: &BootReport) -> io::Result<()> {
        let host = match boot.host.as_str() {
            "" => String::new(),
            host => format!(" on {}", visible(host)),
        };
        writeln!(out, "{}{host}, boot {}", visible(&boot.receiver), boot.boot)?;
        line(out, "state", &self.state(boot))?;
        line(out, "records", &records(boot))?;
        line(out, "checked", &checked(boot))?;
        if boot.missing_records > 0 {
            line(out, "MISSING", &numbers(boot.missing_records, &boot.missing))?;
        }
        if boot.late_records > 0 {
            line(out, "late", &numbers(boot.late_records, &boot.late))?;
        }
        if !boot.lost.is_empty() {
            let lost = boot.lost.iter();
            let reasons: Vec<String> = lost
                .map(|(reason, records)| format!("{} {}", grouped(*records), visible(reason)))
                .collect();
            line(out, "lost", &reasons.join(", "))?;
        }
        writeln!(out)
    }

    fn state(&self, boot: &BootReport) -> String {
        match boot.ending {
            Ending::Unknown => "unknown: the ledger does not tell of it".to_owned(),
            Ending::Open { heard } => {
                let since = rounded(self.now.since(heard));
                match is_silent(boot, self.now) {
                    true => format!("silent for {since}, since {heard}"),
                    false => format!("runs, heard of {since} ago"),
                }
            }
            Ending::Stopped { at } => format!("stopped in order, {at}"),
            Ending::Followed { by, at } => format!("followed by boot {by}, {at}"),
        }
    }

    fn json(&self, boot: &BootReport) -> Value {
        let ending = match boot.ending {
            Ending::Unknown => json!({"kind": "unknown"}),
            Ending::Open { heard } if is_silent(boot, self.now) => json!({"kind": "silent", "since": heard}),
            Ending::Open { heard } => json!({"kind": "running", "heard": heard}),
            Ending::Stopped { at } => json!({"kind": "stopped", "at": at}),
            Ending::Followed { by, at } => json!({"kind": "followed", "by": by, "at": at}),
        };
        let pair = |span: &Span| json!([span.first, span.last]);
        json!({
            "receiver": boot.receiver,
            "boot": boot.boot,
            "host": boot.host,
            "first": boot.first,
            "last": boot.last,
            "records": boot.records,
            "too_large": boot.too_large,
            "repeats": boot.repeats,
            "checked_from": boot.judged.map(|(base, _)| base),
            "checked_below": boot.judged.map(|(_, floor)| floor),
            "missing": boot.missing.iter().map(pair).collect::<Vec<Value>>(),
            "missing_records": boot.missing_records,
            "late": boot.late.iter().map(pair).collect::<Vec<Value>>(),
            "late_records": boot.late_records,
            "lost": boot.lost,
            "ending": ending,
        })
    }
}

fn is_worth_a_look(boot: &BootReport) -> bool {
    boot.missing_records > 0
        || boot.late_records > 0
        || boot.lost_records() > 0
        || matches!(boot.ending, Ending::Open { .. })
}

fn line(out: &mut dyn Write, name: &str, text: &str) -> io::Result<()> {
    writeln!(out, "  {name:8} {text}")
}

fn numbers(records: u64, spans: &[Span]) -> String {
    let number = if records == 1 { "number" } else { "numbers" };
    format!("{}, {number} {}", counted(records, "record"), listed(spans, records))
}

fn records(boot: &BootReport) -> String {
    let (Some(first), Some(last)) = (boot.first, boot.last) else {
        return "none".to_owned();
    };
    let mut told = match first == last {
        true => format!("1, number {first}"),
        false => format!("{}, numbers {first} to {last}", grouped(boot.records)),
    };
    if boot.too_large > 0 {
        told += &format!(", {} of them in the dead letters: too large", grouped(boot.too_large));
    }
    if boot.repeats > 0 {
        told += &format!(", and {}", counted(boot.repeats, "repeat"));
    }
    told
}

fn checked(boot: &BootReport) -> String {
    match boot.judged {
        None => "nothing: no entry of it in the ledger within what is kept".to_owned(),
        Some((base, floor)) if base == floor => format!("nothing yet, from number {base} on"),
        Some((base, floor)) if boot.forgotten_below > base => {
            format!(
                "{base} to {}, but not below {}: no memory",
                floor - 1,
                boot.forgotten_below
            )
        }
        Some((base, floor)) => format!("{base} to {}", floor - 1),
    }
}

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::arguments::Size;
use crate::check::Findings;
use crate::plan::Fault;
use crate::seen::Tally;

/// What a campaign tells while it goes on, and at its end.
pub(crate) struct Report {
    rounds: usize,
    began: Instant,
    /// Faults by what they were, skipped ones apart.
    played: BTreeMap<String, u32>,
    skipped: BTreeMap<&'static str, u32>,
    /// The longest time from the end of a round's faults until all was well again.
    recovery_max: Duration,
}

impl Report {
    pub(crate) fn begin(size: &Size) -> Self {
        let rounds = size.seeds.len() * size.rounds as usize;
        println!("campaign: {rounds} rounds, {} callers, {}", size.callers, size.seeds());
        Self {
            rounds,
            began: Instant::now(),
            played: BTreeMap::new(),
            skipped: BTreeMap::new(),
            recovery_max: Duration::ZERO,
        }
    }

    /// A fault is played.
    pub(crate) fn plays(&mut self, fault: &Fault) {
        let what = format!("{} {}", fault.damage, fault.target);
        *self.played.entry(what).or_default() += 1;
    }

    /// A fault is not played, for this hindrance.
    pub(crate) fn skips(&mut self, hindrance: &'static str) {
        *self.skipped.entry(hindrance).or_default() += 1;
    }

    /// A round is over.
    pub(crate) fn round(&mut self, number: usize, faults: &[String], recovery: Duration, answered: u64, backlog: f64) {
        self.recovery_max = self.recovery_max.max(recovery);
        println!(
            "round {number:>4}/{} {:<66} recovered in {:>4.1} s, answered {answered:>8}, backlog {backlog:>5}, {:>6.1} s",
            self.rounds,
            faults.join(" + "),
            recovery.as_secs_f64(),
            self.began.elapsed().as_secs_f64(),
        );
    }

    /// Everything was compared, and holds so far.
    pub(crate) fn checked(&self, findings: &Findings, caught_up: Duration) {
        println!(
            "      checked: {} answered, {} missing, {} holes, {} counted as lost; caught up in {:.1} s",
            findings.answered,
            findings.missing,
            findings.holes,
            findings.lost,
            caught_up.as_secs_f64(),
        );
    }

    /// The final table.
    pub(crate) fn end(
        &self,
        posted: u64,
        findings: &Findings,
        tally: &Tally,
        why_skipped: &BTreeMap<&'static str, String>,
        reconciled: &str,
    ) {
        let share = tally.repeats as f64 * 100.0 / tally.records.max(1) as f64;
        let unanswered = posted - findings.answered;
        let mut rows = vec![("rounds", self.rounds.to_string()), ("faults", String::new())];
        rows.extend(
            self.played
                .iter()
                .map(|(what, count)| (what.as_str(), count.to_string())),
        );
        let skipped: Vec<(String, String)> = why_skipped
            .iter()
            .map(|(what, why)| {
                let count = self.skipped.get(what).copied().unwrap_or(0);
                ((*what).to_owned(), format!("{count} SKIPPED: {why}"))
            })
            .collect();
        rows.extend(skipped.iter().map(|(what, count)| (what.as_str(), count.clone())));
        rows.extend([
            ("callbacks", posted.to_string()),
            ("not answered, by silenced receivers", unanswered.to_string()),
            ("answered", findings.answered.to_string()),
            (
                "slowest answer of a running receiver",
                format!("{:.0} ms", findings.slowest.as_secs_f64() * 1_000.0),
            ),
            ("answered past the deadline", findings.late.to_string()),
            ("answered with a full disk", findings.from_memory.to_string()),
            ("ANSWERED AND MISSING", findings.missing.to_string()),
            (
                "gone: past the deadline, then killed",
                findings.late_and_killed.to_string(),
            ),
            ("gone: full disk and memory, counted", findings.memory_lost.to_string()),
            ("messages in the topic", tally.records.to_string()),
            ("repeats, with the same id", format!("{} ({share:.3} %)", tally.repeats)),
            ("starts of receivers", tally.boots.len().to_string()),
            ("holes in their sequences", findings.holes.to_string()),
            ("counted as lost", findings.lost.to_string()),
            ("longest recovery", format!("{:.1} s", self.recovery_max.as_secs_f64())),
            ("reconcile", reconciled.to_owned()),
            ("time", format!("{:.0} s", self.began.elapsed().as_secs_f64())),
        ]);
        println!();
        for (what, value) in rows {
            println!("  {what:<40} {value}");
        }
        println!();
    }
}

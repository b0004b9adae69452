use std::io::{self, Write};
use std::time::Duration;

use portcullis_schema::units::show_duration;
use serde_json::{Map, Value, json};

use super::play::{Plan, Play};
use super::tally::{Counts, Tally};
use crate::reconcile::words::grouped;
use crate::verdict::shell::visible;

/// Percentiles in thousandths, as they are called.
const PERCENTILES: [(&str, u64); 4] = [("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999)];

/// What came of a play that has ended.
pub(super) struct Report<'a> {
    plan: &'a Plan,
    tally: Tally,
    lasted: Duration,
    interrupted: bool,
}

impl<'a> Report<'a> {
    pub(super) fn new(play: &'a Play, interrupted: bool) -> Self {
        Self {
            plan: play.plan(),
            tally: play.tally(),
            lasted: play.elapsed(),
            interrupted,
        }
    }

    pub(super) fn holds(&self) -> bool {
        self.tally.holds()
    }

    pub(super) fn write_lines(&self, out: &mut dyn Write) -> io::Result<()> {
        let Plan { target, stage, .. } = self.plan;
        writeln!(
            out,
            "{}, {} callbacks a second for {:.1} s{}, {} connections, seed {}, late after {}\n",
            visible(target.url()),
            grouped(stage.rate.into()),
            self.lasted.as_secs_f64(),
            if self.interrupted { ", ended early" } else { "" },
            self.plan.connections,
            stage.seed,
            show_duration(self.plan.deadline)
        )?;
        let heads = ["sent", "answered", "allowed", "refused", "403", "late"];
        row(out, "scenario", &heads.map(str::to_owned))?;
        for (scenario, counts) in &self.tally.scenarios {
            row(out, scenario.name(), &cells(counts))?;
        }
        if self.tally.scenarios.len() > 1 {
            row(out, "all", &cells(&self.tally.total()))?;
        }
        let mut times = String::new();
        for (name, per_mille) in PERCENTILES {
            times += &format!("  {name} {}", millis(self.tally.latencies.within(per_mille)));
        }
        times += &format!("  max {}", millis(self.tally.latencies.longest()));
        writeln!(out, "\nlatency in ms from the intended time:{times}")?;
        if self.holds() {
            return writeln!(
                out,
                "every answer kept the contract, none was later than {}",
                show_duration(self.plan.deadline)
            );
        }
        for (kind, broken) in &self.tally.broken {
            writeln!(
                out,
                "BROKEN {kind}: {} times, first: {}",
                grouped(broken.count),
                visible(&broken.first)
            )?;
        }
        Ok(())
    }

    pub(super) fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let scenarios = self.tally.scenarios.iter();
        let scenarios: Map<String, Value> = scenarios
            .map(|(scenario, counts)| (scenario.name().to_owned(), counts_json(counts)))
            .collect();
        let broken: Map<String, Value> = self
            .tally
            .broken
            .iter()
            .map(|(kind, broken)| {
                (
                    (*kind).to_owned(),
                    json!({"count": broken.count, "first": broken.first}),
                )
            })
            .collect();
        let mut latency: Map<String, Value> = PERCENTILES
            .iter()
            .map(|(name, per_mille)| ((*name).to_owned(), json!(self.tally.latencies.within(*per_mille))))
            .collect();
        latency.insert("max".to_owned(), json!(self.tally.latencies.longest()));
        let report = json!({
            "ok": self.holds(),
            "url": self.plan.target.url(),
            "rate": self.plan.stage.rate,
            "seconds": self.lasted.as_secs_f64(),
            "interrupted": self.interrupted,
            "connections": self.plan.connections,
            "seed": self.plan.stage.seed,
            "deadline_ms": u64::try_from(self.plan.deadline.as_millis()).unwrap_or(u64::MAX),
            "total": counts_json(&self.tally.total()),
            "scenarios": scenarios,
            "broken": broken,
            "latency_ms": latency,
        });
        writeln!(out, "{report}")
    }
}

fn counts_json(counts: &Counts) -> Value {
    json!({
        "sent": counts.sent,
        "answered": counts.answered,
        "allowed": counts.allowed,
        "refused": counts.refused,
        "turned_away": counts.turned_away,
        "late": counts.late,
    })
}

fn cells(counts: &Counts) -> [String; 6] {
    let Counts {
        sent,
        answered,
        allowed,
        refused,
        turned_away,
        late,
    } = *counts;
    [sent, answered, allowed, refused, turned_away, late].map(grouped)
}

fn row(out: &mut dyn Write, name: &str, cells: &[String; 6]) -> io::Result<()> {
    write!(out, "{name:<13}")?;
    for cell in cells {
        write!(out, " {cell:>11}")?;
    }
    writeln!(out)
}

fn millis(millis: Option<f64>) -> String {
    millis.map_or("-".to_owned(), |millis| format!("{millis:.2}"))
}

use std::io::{self, Write};

use serde_json::{Value, json};

use super::cluster::Examined;

/// What became of each topic.
pub(super) struct Report(Vec<(Examined, Outcome)>);

#[derive(Clone, Copy)]
enum Outcome {
    Created,
    Right,
    Wrong,
    Missing,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Right => "right",
            Self::Wrong => "wrong",
            Self::Missing => "missing",
        }
    }
}

impl Report {
    pub(super) fn new(examined: Vec<Examined>, created: &[String]) -> Self {
        let outcomes = examined.into_iter().map(|topic| {
            let outcome = match (topic.partitions, topic.faults.as_slice()) {
                (0, _) => Outcome::Missing,
                (_, [_, ..]) => Outcome::Wrong,
                (_, []) if created.contains(&topic.plan.name) => Outcome::Created,
                (_, []) => Outcome::Right,
            };
            (topic, outcome)
        });
        Self(outcomes.collect())
    }

    pub(super) fn holds(&self) -> bool {
        self.0.iter().all(|(topic, _)| topic.faults.is_empty())
    }

    pub(super) fn write_lines(&self, out: &mut dyn Write) -> io::Result<()> {
        for (topic, outcome) in &self.0 {
            let (name, partitions) = (&topic.plan.name, topic.partitions);
            let told = match outcome {
                Outcome::Created => "created",
                Outcome::Right => "exists and is right",
                Outcome::Wrong => "exists and is set wrongly",
                Outcome::Missing => "does not exist",
            };
            match partitions {
                0 => writeln!(out, "{name}: {told}")?,
                1 => writeln!(out, "{name}: {told}, 1 partition")?,
                _ => writeln!(out, "{name}: {told}, {partitions} partitions")?,
            }
            for fault in &topic.faults {
                writeln!(out, "  {} is {}, needed: {}", fault.setting, fault.found, fault.needed)?;
                writeln!(out, "  to set it right: {}", fault.fix)?;
            }
        }
        Ok(())
    }

    pub(super) fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let topics = self.0.iter().map(|(topic, outcome)| {
            let faults = topic.faults.iter().map(|fault| {
                json!({"setting": fault.setting, "found": fault.found, "needed": fault.needed, "fix": fault.fix})
            });
            json!({
                "topic": topic.plan.name,
                "outcome": outcome.name(),
                "partitions": topic.partitions,
                "faults": faults.collect::<Vec<Value>>(),
            })
        });
        let topics: Vec<Value> = topics.collect();
        writeln!(out, "{}", json!({"ok": self.holds(), "topics": topics}))
    }
}

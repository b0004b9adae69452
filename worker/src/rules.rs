//! The rules: what is counted of whom, from when on it is a hit, and what a hit leads to.
//!
//! They come from a file of the operator's, read whole: every mistake is told at once, and a file with a mistake has
//! no rules.

mod example;
mod read;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use portcullis_schema::settings::Mistakes;
use portcullis_schema::{AuditRecord, Command, Mode, units};

pub(crate) use example::Example;

use crate::condition::{Condition, ConditionError};
use crate::field::{Fields, Path, Root};

/// All rules of a file. Cheap to clone; all clones are the same ones.
#[derive(Clone, Debug)]
pub struct Rules(Arc<[Rule]>);

/// One rule. `Display` says it in a line.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(crate) name: Arc<str>,
    pub(crate) commands: Vec<Command>,
    pub(crate) condition: Option<Condition>,
    pub(crate) by: Path,
    /// Values of this field are counted, each once; without it records are.
    pub(crate) distinct: Option<Path>,
    pub(crate) window: Duration,
    /// As the operator wrote it.
    pub(crate) window_text: String,
    pub(crate) threshold: usize,
    pub(crate) mode: Mode,
    /// There whenever the mode is `enforce`.
    pub(crate) denial: Option<Denial>,
    pub(crate) subjects_per_hour: Option<usize>,
    pub(crate) examples: Vec<Example>,
}

/// From how many observations within which time on it is a hit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    pub(crate) length: Duration,
    pub(crate) threshold: usize,
}

/// What a hit of an enforced rule leads to.
#[derive(Clone, Debug)]
pub(crate) struct Denial {
    /// Absent: the command's plain refusal.
    pub(crate) code: Option<u32>,
    pub(crate) text: String,
    pub(crate) lasts: Duration,
}

impl Rules {
    /// Reads the text of `file`, a name for mistakes.
    pub fn read(file: &str, text: &str) -> Result<Self, Mistakes> {
        read::rules(file, text).map(|rules| Self(rules.into()))
    }

    /// The rules in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }

    /// Whether any rule counts through signals.
    pub(crate) fn need_signals(&self) -> bool {
        self.iter()
            .any(|rule| rule.mode != Mode::Off && !rule.is_counted_at_once())
    }

    /// Only `rule`.
    pub(crate) fn alone(rule: &Rule) -> Self {
        Self(Arc::from([rule.clone()]))
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Rule> {
        self.0.get(index)
    }
}

impl Rule {
    /// Its name, unique in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it does with its hits.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the record is of one of its commands and meets its condition.
    pub(crate) fn is_about(&self, fields: &Fields<'_>) -> Result<bool, ConditionError> {
        if !self.covers(fields.record()) {
            return Ok(false);
        }
        match &self.condition {
            Some(condition) => condition.holds(fields),
            None => Ok(true),
        }
    }

    pub(crate) fn examples(&self) -> &[Example] {
        &self.examples
    }

    pub(crate) fn measure(&self) -> Measure {
        Measure {
            length: self.window,
            threshold: self.threshold,
        }
    }

    /// Whether it counts records where they lie, by operator, and not through signals.
    pub(crate) fn is_counted_at_once(&self) -> bool {
        self.by.root() == Root::Operator
    }

    fn covers(&self, record: &AuditRecord) -> bool {
        self.commands.iter().any(|command| command.name() == record.command)
    }

    /// What it counts, for people: `records`, `distinct operator`.
    pub(crate) fn counted(&self) -> String {
        match &self.distinct {
            Some(path) => format!("distinct {}", path.text()),
            None => "records".to_owned(),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            threshold,
            window_text,
            ..
        } = self;
        let (mode, counted, by) = (self.mode.name(), self.counted(), self.by.text());
        write!(
            formatter,
            "{name}: {mode}, {threshold} {counted} by {by} in {window_text}"
        )?;
        let deny = match self.mode {
            Mode::Enforce => "deny",
            Mode::Shadow | Mode::Off => "would deny",
        };
        match &self.denial {
            Some(denial) => write!(formatter, ", {deny} for {}", units::show_duration(denial.lasts)),
            None => Ok(()),
        }
    }
}

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use toml::de::{DeTable, DeValue};

use super::node::{Node, Value};
use super::{Mistake, Place, Section};

/// What a file may hold at all.
const TOML: &str = "TOML";

/// A file of settings, parsed but not yet understood.
pub struct Document {
    file: String,
    root: Node,
    mistakes: Rc<RefCell<Vec<Mistake>>>,
}

/// Every mistake of a file, in the order of its lines. `Display` gives a line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    /// The file's name, as the operator gave it.
    pub file: String,
    /// At least one.
    pub mistakes: Vec<Mistake>,
}

impl Document {
    /// Parses `text`; where it is no TOML, the mistakes are kept and told by [`Document::finish`].
    pub fn parse(file: &str, text: &str) -> Self {
        let starts: Vec<usize> = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        let line_of = |byte: usize| starts.partition_point(|start| *start <= byte);
        let (table, errors) = DeTable::parse_recoverable(text);
        let mistakes = errors.iter().map(|error| Mistake {
            place: error
                .span()
                .map_or(Place::Missing, |span| Place::Line(line_of(span.start))),
            key: String::new(),
            found: error.message().replace('\n', ", "),
            allowed: TOML.to_owned(),
        });
        Self {
            file: file.to_owned(),
            mistakes: Rc::new(RefCell::new(mistakes.collect())),
            root: Node::table(Place::Line(1), table.get_ref(), &line_of),
        }
    }

    /// Puts values of the environment over those of the file: `PREFIX__SECTION__KEY=value`. A value is TOML where it
    /// parses as such, else the text as it is.
    pub fn override_from(&mut self, prefix: &str, variables: impl Iterator<Item = (String, String)>) {
        for (name, text) in variables {
            let Some(path) = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix("__")) else {
                continue;
            };
            let place = Place::Environment(name.clone());
            let value = match DeValue::parse(&text) {
                Ok(value) => Node::value(value.get_ref(), 1, &|_| 1).value,
                Err(_) => Value::String(text.clone()),
            };
            let path: Vec<String> = path.to_lowercase().split("__").map(str::to_owned).collect();
            let node = Node {
                place: place.clone(),
                value,
            };
            self.root.put(&path, node.placed(&place));
        }
    }

    /// The whole of it, once: what is not read from it is an unknown key.
    pub fn root(&mut self) -> Section {
        let root = std::mem::replace(
            &mut self.root,
            Node {
                place: Place::Missing,
                value: Value::Table(BTreeMap::new()),
            },
        );
        Section::new(String::new(), root, Rc::clone(&self.mistakes))
    }

    /// `settings`, unless a mistake was found on the way to it. All sections must have gone out of scope.
    pub fn finish<T>(self, settings: T) -> Result<T, Mistakes> {
        let mut mistakes = self.mistakes.take();
        // Half a file has unknown and missing keys that are none: what is no TOML is told alone.
        if mistakes.iter().any(|mistake| mistake.allowed == TOML) {
            mistakes.retain(|mistake| mistake.allowed == TOML);
        }
        if mistakes.is_empty() {
            return Ok(settings);
        }
        mistakes.sort_by(|one, other| one.place.cmp(&other.place));
        Err(Mistakes {
            file: self.file,
            mistakes,
        })
    }
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            match &mistake.place {
                Place::Line(line) => write!(formatter, "{}:{line}: ", self.file)?,
                Place::Environment(name) => write!(formatter, "environment {name}: ")?,
                Place::Missing => write!(formatter, "{}: ", self.file)?,
            }
            if !mistake.key.is_empty() {
                write!(formatter, "{}: ", mistake.key)?;
            }
            write!(formatter, "found {}, allowed: {}", mistake.found, mistake.allowed)?;
        }
        Ok(())
    }
}

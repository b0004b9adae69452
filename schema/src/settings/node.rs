use std::collections::BTreeMap;
use std::fmt;

use toml::de::{DeTable, DeValue};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A line of the file, from 1.
    Line(usize),
    /// A variable of the environment.
    Environment(String),
    /// Nowhere: the value is missing.
    Missing,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    String(String),
    Integer(String),
    Boolean(bool),
    Array(Vec<Node>),
    Table(BTreeMap<String, Node>),
    /// A kind of TOML value that no setting has: a float, a date.
    Unused(String),
}

impl Node {
    /// From parsed TOML; `line_of` tells the line of a byte.
    pub(super) fn table(place: Place, table: &DeTable<'_>, line_of: &dyn Fn(usize) -> usize) -> Self {
        let entries = table.iter().map(|(key, value)| {
            let node = Self::value(value.get_ref(), line_of(key.span().start), line_of);
            (key.get_ref().to_string(), node)
        });
        Self {
            place,
            value: Value::Table(entries.collect()),
        }
    }

    pub(super) fn value(value: &DeValue<'_>, line: usize, line_of: &dyn Fn(usize) -> usize) -> Self {
        let place = Place::Line(line);
        let value = match value {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Integer(integer) => Value::Integer(integer.to_string()),
            DeValue::Boolean(boolean) => Value::Boolean(*boolean),
            DeValue::Array(array) => Value::Array(
                array
                    .iter()
                    .map(|item| Self::value(item.get_ref(), line_of(item.span().start), line_of))
                    .collect(),
            ),
            DeValue::Table(table) => return Self::table(place, table, line_of),
            DeValue::Float(float) => Value::Unused(format!("the number {}", float.as_str())),
            DeValue::Datetime(moment) => Value::Unused(format!("the moment {moment}")),
        };
        Self { place, value }
    }

    /// Puts `node` at `path` below this one; what is no table on the way becomes one.
    pub(super) fn put(&mut self, path: &[String], node: Self) {
        let [key, deeper @ ..] = path else {
            *self = node;
            return;
        };
        if !matches!(self.value, Value::Table(_)) {
            self.value = Value::Table(BTreeMap::new());
        }
        if let Value::Table(entries) = &mut self.value {
            let empty = Self {
                place: node.place.clone(),
                value: Value::Table(BTreeMap::new()),
            };
            entries.entry(key.clone()).or_insert(empty).put(deeper, node);
        }
    }

    /// The same value, said to be written elsewhere.
    pub(super) fn placed(mut self, place: &Place) -> Self {
        self.place = place.clone();
        match &mut self.value {
            Value::Array(items) => {
                for item in items {
                    *item = item.clone().placed(place);
                }
            }
            Value::Table(entries) => {
                for node in entries.values_mut() {
                    *node = node.clone().placed(place);
                }
            }
            _ => {}
        }
        self
    }
}

/// As it is said in a mistake: escaped and cut, since it may be anything.
impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => write!(formatter, "{:?}", text.chars().take(80).collect::<String>()),
            Self::Integer(digits) => formatter.write_str(digits),
            Self::Boolean(boolean) => boolean.fmt(formatter),
            Self::Array(items) => write!(formatter, "a list of {}", items.len()),
            Self::Table(_) => formatter.write_str("a table"),
            Self::Unused(what) => formatter.write_str(what),
        }
    }
}

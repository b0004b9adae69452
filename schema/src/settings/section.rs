use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use super::node::{Node, Value};
use super::{Mistake, Place};
use crate::units;

/// A table of the document. Every read takes a key out and never fails: a mistake is kept for
/// [`super::Document::finish`], and the default stands in until then.
pub struct Section {
    path: String,
    place: Place,
    entries: BTreeMap<String, Node>,
    asked: Vec<String>,
    mistakes: Rc<RefCell<Vec<Mistake>>>,
}

impl Section {
    pub(super) fn new(path: String, node: Node, mistakes: Rc<RefCell<Vec<Mistake>>>) -> Self {
        let Node { place, value } = node;
        let mut section = Self {
            path,
            place,
            entries: BTreeMap::new(),
            asked: Vec::new(),
            mistakes,
        };
        match value {
            Value::Table(entries) => section.entries = entries,
            other => {
                let (place, key) = (section.place.clone(), section.path.clone());
                section.push(place, key, other.to_string(), "a table".to_owned());
            }
        }
        section
    }

    /// Whether the key is there.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether a text stands at the key, for keys that may hold a text or a table.
    pub fn is_string(&self, key: &str) -> bool {
        matches!(self.entries.get(key), Some(node) if matches!(node.value, Value::String(_)))
    }

    /// Whether the key is there and is a table, for what can be written as a word or as a table.
    pub fn is_table(&self, key: &str) -> bool {
        let node = self.entries.get(key);
        node.is_some_and(|node| matches!(node.value, Value::Table(_)))
    }

    /// The keys that nobody has read yet.
    pub fn keys(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// The place of a key that was not read yet, or of the section itself.
    pub fn place(&self, key: &str) -> Place {
        self.entries
            .get(key)
            .map_or_else(|| self.place.clone(), |node| node.place.clone())
    }

    /// Adds a mistake about `key` that its kind does not show, at the place that [`Section::place`] gave.
    pub fn mistake(&self, place: Place, key: &str, found: impl Into<String>, allowed: impl Into<String>) {
        self.push(place, self.path_of(key), found.into(), allowed.into());
    }

    /// Passes the key over: what is wrong with it was told otherwise.
    pub fn pass_over(&mut self, key: &str) {
        self.take(key);
    }

    /// A text.
    pub fn string(&mut self, key: &str, default: &str) -> String {
        self.optional_string(key).unwrap_or_else(|| default.to_owned())
    }

    /// A text that may be missing.
    pub fn optional_string(&mut self, key: &str) -> Option<String> {
        self.read(key, "a text in quotes", |node| match &node.value {
            Value::String(text) => Some(text.clone()),
            // The environment has no quotes: what looks like a number there can be meant as a text.
            Value::Integer(text) if matches!(node.place, Place::Environment(_)) => Some(text.clone()),
            _ => None,
        })
    }

    /// A text that must be there.
    pub fn required_string(&mut self, key: &str) -> String {
        self.required(key, "a text in quotes");
        self.string(key, "")
    }

    /// A text that `parse` understands.
    pub fn parsed<T>(&mut self, key: &str, allowed: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.read(key, allowed, |node| match &node.value {
            Value::String(text) => parse(text),
            _ => None,
        })
    }

    /// One of several words.
    pub fn choice<T: Clone>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        self.parsed(key, &words.join(" or "), |text| {
            choices
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, choice)| choice.clone())
        })
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(key, &allowed, |node| match &node.value {
            Value::Integer(digits) => digits.parse().ok().filter(|number| range.contains(number)),
            _ => None,
        })
    }

    /// Yes or no.
    pub fn boolean(&mut self, key: &str, default: bool) -> bool {
        let read = self.read(key, "true or false", |node| match node.value {
            Value::Boolean(boolean) => Some(boolean),
            _ => None,
        });
        read.unwrap_or(default)
    }

    /// A duration within `range`.
    pub fn duration(&mut self, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let (from, to) = (units::show_duration(*range.start()), units::show_duration(*range.end()));
        let allowed = format!("{}, from {from} to {to}", units::DURATION_FORM);
        self.parsed(key, &allowed, |text| {
            units::duration(text).filter(|value| range.contains(value))
        })
    }

    /// A size within `range`, in bytes.
    pub fn bytes(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let (from, to) = (units::show_bytes(*range.start()), units::show_bytes(*range.end()));
        let allowed = format!("{}, from {from} to {to}", units::BYTES_FORM);
        self.parsed(key, &allowed, |text| {
            units::bytes(text).filter(|value| range.contains(value))
        })
    }

    /// A list of texts, each with its place.
    pub fn strings(&mut self, key: &str) -> Vec<(Place, String)> {
        let read = self.read(key, "a list of texts", |node| match &node.value {
            Value::Array(items) => items
                .iter()
                .map(|item| match &item.value {
                    Value::String(text) => Some((item.place.clone(), text.clone())),
                    _ => None,
                })
                .collect(),
            _ => None,
        });
        read.unwrap_or_default()
    }

    /// A table of texts by free keys.
    pub fn string_table(&mut self, key: &str) -> BTreeMap<String, String> {
        let mut table = self.section(key);
        let keys = table.keys();
        keys.into_iter()
            .filter_map(|name| table.optional_string(&name).map(|text| (name, text)))
            .collect()
    }

    /// A table; empty where it is missing.
    pub fn section(&mut self, key: &str) -> Section {
        let node = self.take(key).unwrap_or(Node {
            place: Place::Missing,
            value: Value::Table(BTreeMap::new()),
        });
        Section::new(self.path_of(key), node, Rc::clone(&self.mistakes))
    }

    /// A list of tables; empty where it is missing.
    pub fn sections(&mut self, key: &str) -> Vec<Section> {
        let items = self.read(key, "a list of tables", |node| match &node.value {
            Value::Array(items) => Some(items.clone()),
            _ => None,
        });
        let path = self.path_of(key);
        let sections = items
            .unwrap_or_default()
            .into_iter()
            .enumerate()
            .map(|(index, item)| Section::new(format!("{path}[{index}]"), item, Rc::clone(&self.mistakes)));
        sections.collect()
    }

    /// Adds a mistake when the key is missing.
    pub fn required(&mut self, key: &str, allowed: &str) {
        if !self.has(key) {
            self.mistake(self.place.clone(), key, "nothing", allowed);
        }
    }

    fn read<T>(&mut self, key: &str, allowed: &str, understand: impl FnOnce(&Node) -> Option<T>) -> Option<T> {
        let node = self.take(key)?;
        let value = understand(&node);
        if value.is_none() {
            self.mistake(node.place, key, node.value.to_string(), allowed);
        }
        value
    }

    fn take(&mut self, key: &str) -> Option<Node> {
        if !self.asked.iter().any(|asked| asked == key) {
            self.asked.push(key.to_owned());
        }
        self.entries.remove(key)
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            return key.to_owned();
        }
        format!("{}.{key}", self.path)
    }

    fn push(&self, place: Place, key: String, found: String, allowed: String) {
        self.mistakes.borrow_mut().push(Mistake {
            place,
            key,
            found,
            allowed,
        });
    }
}

/// What nobody asked for is an unknown key.
impl Drop for Section {
    fn drop(&mut self) {
        for (key, node) in std::mem::take(&mut self.entries) {
            self.mistake(node.place, &key, "an unknown key", self.asked.join(", "));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Document;

    #[test]
    fn every_mistake_is_told_at_once_with_its_line_and_what_is_allowed() {
        let text =
            "[receiver]\nlisten = 5\nreply_deadline = \"soon\"\nmode = \"x\"\ntypo = 1\n\n[[apps]]\nid = \"a\"\n";
        let mut document = Document::parse("p.toml", text);
        {
            let mut root = document.root();
            let mut receiver = root.section("receiver");
            receiver.string("listen", "");
            receiver.duration("reply_deadline", Duration::from_millis(10)..=Duration::from_secs(1));
            receiver.choice("mode", &[("host", 1), ("process", 2)]);
            for mut app in root.sections("apps") {
                app.integer("id", 1..=9);
                app.required("tokens", "a list of texts");
            }
        }
        let told = document.finish(()).expect_err("five mistakes").to_string();
        assert_eq!(
            told,
            "p.toml:2: receiver.listen: found 5, allowed: a text in quotes\n\
             p.toml:3: receiver.reply_deadline: found \"soon\", allowed: a duration such as \"300ms\", \"60s\", \
             \"10m\", \"1h\", \"7d\", from 10ms to 1s\n\
             p.toml:4: receiver.mode: found \"x\", allowed: \"host\" or \"process\"\n\
             p.toml:5: receiver.typo: found an unknown key, allowed: listen, reply_deadline, mode\n\
             p.toml:7: apps[0].tokens: found nothing, allowed: a list of texts\n\
             p.toml:8: apps[0].id: found \"a\", allowed: a whole number from 1 to 9"
        );
    }

    #[test]
    fn the_environment_overrides_the_file_and_is_named_in_mistakes() {
        let mut document = Document::parse("p.toml", "[kafka]\nbootstrap = \"a:1\"\n");
        let variables = [
            ("PORTCULLIS__KAFKA__BOOTSTRAP", "b:2"),
            ("PORTCULLIS__RECEIVER__JOURNAL__BYTES_MAX", "much"),
            ("PORTCULLIS__APPS", "[{ id = 5, tokens = [\"t\"] }]"),
            ("HOME", "/root"),
        ];
        document.override_from(
            "PORTCULLIS",
            variables
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        {
            let mut root = document.root();
            assert_eq!(root.section("kafka").string("bootstrap", ""), "b:2");
            root.section("receiver")
                .section("journal")
                .bytes("bytes_max", 1..=1 << 40);
            let mut apps = root.sections("apps");
            assert_eq!(apps[0].integer("id", 0..=9), Some(5));
            assert_eq!(apps[0].strings("tokens")[0].1, "t");
        }
        let told = document.finish(()).expect_err("one mistake").to_string();
        assert!(
            told.starts_with("environment PORTCULLIS__RECEIVER__JOURNAL__BYTES_MAX: receiver.journal.bytes_max: found")
        );
    }

    #[test]
    fn a_file_that_is_no_toml_tells_its_line() {
        let mut document = Document::parse("p.toml", "[kafka]\nbootstrap = \n");
        document.root().keys();
        let told = document.finish(()).expect_err("one mistake");
        assert!(told.to_string().starts_with("p.toml:2: found "), "{told}");
    }
}

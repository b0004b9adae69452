use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::effective::{Effective, Setting};

/// As the file that would lead to the same, each value with its origin.
pub(super) fn toml(effective: &Effective) -> String {
    let mut text = format!(
        "# The effective configuration. File: {}. Secrets are masked.\n",
        effective.file
    );
    for table in &effective.tables {
        let (open, close) = if table.name == "apps" { ("[[", "]]") } else { ("[", "]") };
        text.push_str(&format!("\n{open}{}{close}\n", table.name));
        for Setting { key, value, origin } in &table.settings {
            let origin = if origin.is_empty() {
                String::new()
            } else {
                format!("  # {origin}")
            };
            let line = match value {
                Value::Null => format!("# {} is not set{origin}\n", toml_key(key)),
                value => format!("{} = {}{origin}\n", toml_key(key), toml_value(value)),
            };
            text.push_str(&line);
        }
    }
    text
}

/// As one value, without the origins.
pub(super) fn json(effective: &Effective) -> Value {
    let mut root = Map::new();
    for table in &effective.tables {
        let settings = table
            .settings
            .iter()
            .map(|setting| (setting.key.clone(), setting.value.clone()));
        let settings = Value::Object(settings.collect());
        match table.name.split_once('.') {
            None if table.name == "apps" => {
                if let Value::Array(apps) = root.entry("apps").or_insert(json!([])) {
                    apps.push(settings);
                }
            }
            None => {
                root.insert(table.name.to_owned(), settings);
            }
            Some((outer, inner)) => root[outer][inner] = settings,
        }
    }
    Value::Object(root)
}

fn toml_key(key: &str) -> String {
    let bare = key
        .chars()
        .all(|character| character.is_ascii_alphanumeric() || "_-".contains(character));
    if bare { key.to_owned() } else { toml_string(key) }
}

fn toml_value(value: &Value) -> String {
    match value {
        Value::String(text) => toml_string(text),
        Value::Array(items) => format!("[{}]", items.iter().map(toml_value).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| format!("{} = {}", toml_key(key), toml_value(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        plain => plain.to_string(),
    }
}

/// A basic string: everything that a terminal would obey by its number.
fn toml_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

use std::io::Write;

use portcullis_schema::settings::{Mistake, Mistakes, Place};
use serde_json::{Value, json};

use crate::failure::Failure;

/// Prints mistakes as JSON, for a program, besides failing with them; anything else passes.
pub(crate) fn as_json<T>(read: Result<T, Failure>, out: &mut dyn Write) -> Result<T, Failure> {
    if let Err(Failure::Configuration(Mistakes { file, mistakes })) = &read {
        let mistakes: Vec<Value> = mistakes.iter().map(mistake).collect();
        writeln!(out, "{}", json!({"ok": false, "file": file, "mistakes": mistakes}))?;
    }
    if let Err(Failure::Unusable(why)) = &read {
        writeln!(out, "{}", json!({"ok": false, "mistakes": [{"found": why}]}))?;
    }
    read
}

fn mistake(mistake: &Mistake) -> Value {
    let Mistake {
        place,
        key,
        found,
        allowed,
    } = mistake;
    let (line, variable) = match place {
        Place::Line(line) => (Some(line), None),
        Place::Environment(name) => (None, Some(name)),
        Place::Missing => (None, None),
    };
    json!({"line": line, "environment": variable, "key": key, "found": found, "allowed": allowed})
}

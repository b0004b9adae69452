use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

const FORMAT: &str = "PORTCULLIS_LOG_FORMAT";
const FILTER: &str = "PORTCULLIS_LOG";

/// Logs go to stderr: for a person on a terminal, as JSON anywhere else. `default` is the filter where the environment
/// has none.
pub(crate) fn start(default: &str) -> Result<(), Failure> {
    let lines = tracing_subscriber::fmt()
        .with_writer(stderr)
        .with_env_filter(filter(default)?);
    if json()? {
        lines.json().flatten_event(true).init();
        return Ok(());
    }
    let colours = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    lines.with_ansi(colours).init();
    Ok(())
}

fn json() -> Result<bool, Failure> {
    match std::env::var(FORMAT).ok().as_deref() {
        Some("json") => Ok(true),
        Some("human") => Ok(false),
        None | Some("") => Ok(!stderr().is_terminal()),
        Some(other) => Err(Failure::Unusable(format!(
            "environment {FORMAT}: found {other:?}, allowed: json or human"
        ))),
    }
}

fn filter(default: &str) -> Result<EnvFilter, Failure> {
    let text = std::env::var(FILTER).unwrap_or_default();
    let wanted = if text.is_empty() { default } else { &text };
    EnvFilter::try_new(wanted).map_err(|error| {
        Failure::Unusable(format!(
            "environment {FILTER}: found {text:?} ({error}), allowed: a filter such as info or warn,portcullis_receiver=debug"
        ))
    })
}

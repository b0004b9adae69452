//! The one file that every command reads, whole, before it does anything.

mod properties;

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use portcullis_schema::kafka::Kafka;
use portcullis_schema::settings::{Document, Mistakes, Section};

use crate::failure::Failure;

const DEFAULT_FILE: &str = "portcullis.toml";
const PREFIX: &str = "PORTCULLIS";

/// Which file it is.
#[derive(Args, Clone, Debug)]
pub(crate) struct File {
    /// The configuration [default: portcullis.toml, where it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The whole of it, checked.
pub(crate) struct Settings {
    /// How to reach Kafka.
    pub(crate) kafka: Kafka,
}

impl File {
    /// Reads the file and the environment.
    pub(crate) fn load(&self) -> Result<Settings, Failure> {
        let text = self.text()?;
        Ok(read(&self.name(), &text, std::env::vars())?)
    }

    /// As the operator calls it.
    pub(crate) fn name(&self) -> String {
        self.path().display().to_string()
    }

    /// The argument that names it again, for a line to be copied.
    pub(crate) fn argument(&self) -> Option<String> {
        self.config.as_ref().map(|path| path.display().to_string())
    }

    fn path(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE))
    }

    /// Without `--config`, a default file that is not there is an empty one: the environment alone may do.
    fn text(&self) -> Result<String, Failure> {
        match std::fs::read_to_string(self.path()) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.config.is_none() => Ok(String::new()),
            Err(error) => Err(Failure::Unusable(format!(
                "configuration {} cannot be read: {error}; name another one with --config FILE",
                self.name()
            ))),
        }
    }
}

fn read(file: &str, text: &str, variables: impl Iterator<Item = (String, String)>) -> Result<Settings, Mistakes> {
    let variables: Vec<_> = variables.collect();
    let mut document = Document::parse(file, text);
    document.override_from(PREFIX, variables.iter().cloned());
    let settings = {
        let mut root = document.root();
        let kafka = Kafka::read(root.section("kafka"));
        properties::check(&root, &properties_of(text, &variables), &kafka);
        Settings { kafka }
    };
    document.finish(settings)
}

/// The properties once more, for their lines: who reads the section takes them out.
fn properties_of(text: &str, variables: &[(String, String)]) -> Section {
    let mut document = Document::parse("", text);
    document.override_from(PREFIX, variables.iter().cloned());
    document.root().section("kafka").section("properties")
}

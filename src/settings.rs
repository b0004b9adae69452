//! The one file that every command reads, whole, before it does anything.

mod properties;
mod secret;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use portcullis_schema::kafka::{Kafka, TopicPlan};
use portcullis_schema::settings::{Document, Mistakes, Place, Section};

use crate::failure::Failure;
pub(crate) use secret::{MASK, is_secret};

const DEFAULT_FILE: &str = "portcullis.toml";
const PREFIX: &str = "PORTCULLIS";
const APPS: &str = "apps";

/// Which file it is.
#[derive(Args, Clone, Debug)]
pub(crate) struct File {
    /// The configuration [default: portcullis.toml, where it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The whole of it, checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// How to reach Kafka.
    pub(crate) kafka: Kafka,
    /// For a receiver.
    pub(crate) receiver: portcullis_receiver::Config,
    /// For a worker.
    pub(crate) worker: portcullis_worker::Config,
}

/// A file and an environment as they were found.
pub(crate) struct Written {
    file: String,
    text: String,
    variables: Vec<(String, String)>,
}

impl File {
    /// The one at `path`.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { config: Some(path) }
    }

    /// Reads the file and the environment, for whoever has nothing to do with the apps: their tokens may lie in files
    /// that only the receiver can read.
    pub(crate) fn load(&self) -> Result<Settings, Failure> {
        Ok(self.written()?.read_without_apps()?)
    }

    /// Reads the file and the environment; at least one app must be there.
    pub(crate) fn load_with_apps(&self) -> Result<Settings, Failure> {
        Ok(self.written()?.read()?)
    }

    /// The file and the environment, unread. Without `--config`, a default file that is not there is an empty one:
    /// the environment alone may do.
    pub(crate) fn written(&self) -> Result<Written, Failure> {
        let (file, text) = match std::fs::read_to_string(self.path()) {
            Ok(text) => (self.name(), text),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.config.is_none() => {
                (format!("{DEFAULT_FILE} (which does not exist)"), String::new())
            }
            Err(error) => {
                return Err(Failure::Unusable(format!(
                    "configuration {} cannot be read: {error}; name another one with --config FILE",
                    self.name()
                )));
            }
        };
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Ok(Written::new(file, text, variables.collect()))
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
}

impl Written {
    pub(crate) fn new(file: String, text: String, variables: Vec<(String, String)>) -> Self {
        Self { file, text, variables }
    }

    /// The file's name, as the operator calls it.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// Everything, each part by its owner.
    pub(crate) fn read(&self) -> Result<Settings, Mistakes> {
        let mut document = self.document();
        let settings = self.settings(&mut document);
        document.finish(settings)
    }

    fn read_without_apps(&self) -> Result<Settings, Mistakes> {
        let mut document = self.document();
        let settings = self.settings(&mut document);
        match document.finish(()) {
            Ok(()) => Ok(settings),
            Err(mut told) => {
                told.mistakes.retain(|mistake| !mistake.key.starts_with(APPS));
                if told.mistakes.is_empty() {
                    Ok(settings)
                } else {
                    Err(told)
                }
            }
        }
    }

    fn settings(&self, document: &mut Document) -> Settings {
        let host = host_name();
        let mut root = document.root();
        if !root.has(APPS) {
            root.mistake(
                Place::Missing,
                APPS,
                "nothing",
                "[[apps]] with the id and the tokens of each app",
            );
        }
        let kafka = Kafka::read(root.section("kafka"));
        properties::check(
            &root,
            &self.document().root().section("kafka").section("properties"),
            &kafka,
        );
        check_names(&root, &kafka);
        let apps = root.sections(APPS);
        Settings {
            receiver: portcullis_receiver::Config::read(root.section("receiver"), apps, kafka.clone(), &host),
            worker: portcullis_worker::Config::read(root.section("worker"), kafka.clone(), &host),
            kafka,
        }
    }

    /// Parsed anew: who reads a section takes its keys out.
    pub(crate) fn document(&self) -> Document {
        let mut document = Document::parse(&self.file, &self.text);
        document.override_from(PREFIX, self.variables.iter().cloned());
        document
    }
}

/// Two kinds of records in one topic would be taken for each other.
fn check_names(root: &Section, kafka: &Kafka) {
    let mut names = BTreeSet::new();
    for TopicPlan { name, .. } in kafka.topics.plans() {
        if !names.insert(name.clone()) {
            let found = format!("{name:?} for two of them");
            root.mistake(
                Place::Missing,
                "kafka.topics",
                found,
                "a name of its own for each topic",
            );
        }
    }
}

/// What an instance is called that the operator does not name: the host, as far as a name may hold it.
fn host_name() -> String {
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    let name: String = host.chars().filter(|character| plain(*character)).take(64).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

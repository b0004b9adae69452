//! How to reach Kafka, and the topics there.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::settings::Section;

/// The section `[kafka]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// `host:port`, several with commas between.
    pub bootstrap: String,
    /// Properties of librdkafka, for every client: security, timeouts, names. May hold secrets.
    pub properties: BTreeMap<String, String>,
    /// What the topics are called.
    pub topics: Topics,
}

/// The names of the topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// Audit records.
    pub callbacks: String,
    /// Verdicts.
    pub verdicts: String,
    /// Findings.
    pub findings: String,
    /// Signals.
    pub signals: String,
    /// Ledger entries.
    pub ledger: String,
    /// Dead letters.
    pub dead_letters: String,
}

/// How a topic is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPlan {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: i32,
    /// Its settings in Kafka, as `name`, `value`.
    pub settings: Vec<(&'static str, String)>,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            callbacks: "callbacks".to_owned(),
            verdicts: "verdicts".to_owned(),
            findings: "findings".to_owned(),
            signals: "signals".to_owned(),
            ledger: "ledger".to_owned(),
            dead_letters: "dead-letters".to_owned(),
        }
    }
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            bootstrap: "127.0.0.1:9092".to_owned(),
            properties: BTreeMap::new(),
            topics: Topics::default(),
        }
    }
}

impl Kafka {
    /// Reads the section.
    pub fn read(mut section: Section) -> Self {
        let bootstrap = section.string("bootstrap", "127.0.0.1:9092");
        let properties = section.string_table("properties");
        let mut names = section.section("topics");
        let default = Topics::default();
        let topics = Topics {
            callbacks: topic_name(&mut names, "callbacks", &default.callbacks),
            verdicts: topic_name(&mut names, "verdicts", &default.verdicts),
            findings: topic_name(&mut names, "findings", &default.findings),
            signals: topic_name(&mut names, "signals", &default.signals),
            ledger: topic_name(&mut names, "ledger", &default.ledger),
            dead_letters: topic_name(&mut names, "dead_letters", &default.dead_letters),
        };
        Self {
            bootstrap,
            properties,
            topics,
        }
    }

    /// Every property for a client, the bootstrap address among them.
    pub fn client_properties(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = self
            .properties
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        std::iter::once(("bootstrap.servers", self.bootstrap.as_str())).chain(own)
    }
}

impl Topics {
    /// All of them with their settings, the same for every environment; replication is the cluster's own default.
    pub fn plans(&self) -> Vec<TopicPlan> {
        const HOUR: Duration = Duration::from_secs(3_600);
        const DAY: Duration = Duration::from_secs(86_400);
        vec![
            kept(&self.callbacks, 12, 7 * DAY),
            TopicPlan {
                name: self.verdicts.clone(),
                partitions: 3,
                settings: vec![("cleanup.policy", "compact".to_owned())],
            },
            kept(&self.findings, 3, 30 * DAY),
            // As many as `callbacks`: every record may lead to a signal. Long enough for the longest window.
            kept(&self.signals, 12, 26 * HOUR),
            kept(&self.ledger, 1, 30 * DAY),
            kept(&self.dead_letters, 1, 30 * DAY),
        ]
    }
}

fn kept(name: &str, partitions: i32, retention: Duration) -> TopicPlan {
    TopicPlan {
        name: name.to_owned(),
        partitions,
        settings: vec![
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", retention.as_millis().to_string()),
        ],
    }
}

/// Kafka's own rule for names: 1 to 249 of these characters, not `.` or `..`.
fn topic_name(section: &mut Section, key: &str, default: &str) -> String {
    let allowed = "1 to 249 letters, digits, '.', '_' or '-'";
    let read = section.parsed(key, allowed, |text| {
        let fits = (1..=249).contains(&text.len()) && text != "." && text != "..";
        let plain = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        (fits && plain).then(|| text.to_owned())
    });
    read.unwrap_or_else(|| default.to_owned())
}

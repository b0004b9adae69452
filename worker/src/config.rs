use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use portcullis_schema::kafka::Kafka;
use portcullis_schema::settings::Section;

/// The section `[worker]`, and how to reach Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What this worker is called in findings and verdicts.
    pub instance: String,
    /// The consumer group: the workers that share the partitions.
    pub group: String,
    /// Where `/live`, `/ready` and `/metrics` are served. The worker itself does not serve them.
    pub admin: SocketAddr,
    /// The file of the rules.
    pub rules: PathBuf,
    /// The one switch that stops all automatic verdicts.
    pub automatic_verdicts: bool,
    /// How to reach Kafka.
    pub kafka: Kafka,
}

impl Config {
    /// Reads the section; `host` is the instance where it names none.
    pub fn read(mut section: Section, kafka: Kafka, host: &str) -> Self {
        let named = |text: &str| (1..=255).contains(&text.len()).then(|| text.to_owned());
        let instance = section.parsed("instance", "a name of 1 to 255 bytes", named);
        let group = section.parsed("group", "a name of 1 to 255 bytes", named);
        let admin = section.parsed("admin", "an address such as \"127.0.0.1:9091\"", |text| {
            text.parse().ok()
        });
        Self {
            instance: instance.unwrap_or_else(|| host.to_owned()),
            group: group.unwrap_or_else(|| "portcullis-worker".to_owned()),
            admin: admin.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 9_091))),
            rules: section.string("rules", "rules.toml").into(),
            automatic_verdicts: section.boolean("automatic_verdicts", true),
            kafka,
        }
    }
}

use portcullis_receiver::journal::Durability;
use portcullis_receiver::{FallbackReply, StaleVerdicts};
use portcullis_schema::kafka::{Kafka, Topics};
use portcullis_schema::settings::{Mistakes, Place, Section};
use portcullis_schema::units::{show_bytes, show_duration};
use serde_json::{Value, json};

use crate::settings::{MASK, Written, is_secret};

/// Every setting, in the order in which an operator would write them.
pub(super) struct Effective {
    pub(super) file: String,
    pub(super) tables: Vec<Table>,
}

/// A table of the file.
pub(super) struct Table {
    /// `receiver.journal`; `apps` stands once for each app.
    pub(super) name: &'static str,
    pub(super) settings: Vec<Setting>,
}

/// One line.
pub(super) struct Setting {
    pub(super) key: String,
    /// Null: not set, which TOML has no value for.
    pub(super) value: Value,
    pub(super) origin: String,
}

impl Effective {
    /// Reads it, and reads it again for the places.
    pub(super) fn of(written: &Written) -> Result<Self, Mistakes> {
        let settings = written.read()?;
        let mut document = written.document();
        let mut root = document.root();
        let mut tables = kafka(&settings.kafka, root.section("kafka"));
        tables.extend(apps(&settings.receiver, root.sections("apps")));
        tables.extend(receiver(&settings.receiver, root.section("receiver")));
        tables.push(worker(&settings.worker, &root.section("worker")));
        Ok(Self {
            file: written.file().to_owned(),
            tables,
        })
    }
}

fn kafka(kafka: &Kafka, mut places: Section) -> Vec<Table> {
    let (properties, names) = (places.section("properties"), places.section("topics"));
    let shown = kafka.properties.iter().map(|(name, value)| {
        let value = if is_secret(name) { MASK } else { value };
        setting(&properties, name, json!(value))
    });
    let Topics {
        callbacks,
        verdicts,
        findings,
        signals,
        ledger,
        dead_letters,
    } = &kafka.topics;
    let topics = [
        ("callbacks", callbacks),
        ("verdicts", verdicts),
        ("findings", findings),
        ("signals", signals),
        ("ledger", ledger),
        ("dead_letters", dead_letters),
    ];
    vec![
        table("kafka", &places, [("bootstrap", json!(kafka.bootstrap))]),
        Table {
            name: "kafka.properties",
            settings: shown.collect(),
        },
        table("kafka.topics", &names, topics.map(|(key, name)| (key, json!(name)))),
    ]
}

/// The apps stand in the order of their ids here, and in any order in the file: their lines are not told.
fn apps(config: &portcullis_receiver::Config, places: Vec<Section>) -> Vec<Table> {
    drop(places);
    let tables = config.apps.iter().map(|(app, tokens)| {
        let masked = if tokens.accepts_unsigned() {
            json!([])
        } else {
            json!([MASK])
        };
        let of = |key: &str, value: Value, origin: String| Setting {
            key: key.to_owned(),
            value,
            origin,
        };
        Table {
            name: "apps",
            settings: vec![
                of("id", json!(app), String::new()),
                of("tokens", masked, format!("{tokens:?}, never shown")),
            ],
        }
    });
    tables.collect()
}

fn receiver(config: &portcullis_receiver::Config, mut places: Section) -> Vec<Table> {
    let (journal, decisions) = (places.section("journal"), places.section("decisions"));
    let (fallback, tls) = (places.section("fallback"), places.section("tls"));
    let stale = match config.stale_verdicts {
        StaleVerdicts::Serve => "serve",
        StaleVerdicts::Wait => "wait",
    };
    let durability = match config.journal_durability {
        Durability::Host => "host",
        Durability::Process => "process",
    };
    let own = [
        ("instance", json!(config.instance)),
        ("listen", json!(config.listen.to_string())),
        ("admin", json!(config.admin.to_string())),
        ("reply_deadline", json!(show_duration(config.reply_deadline))),
        ("body_bytes_max", json!(show_bytes(config.body_bytes_max as u64))),
        ("connections_max", json!(config.connections_max)),
        ("stale_verdicts", json!(stale)),
        ("data", json!(config.data.display().to_string())),
    ];
    let of_journal = [
        ("bytes_max", json!(show_bytes(config.journal_bytes_max))),
        ("durability", json!(durability)),
    ];
    let replies = config.fallback.entries().map(|(command, reply)| match reply {
        FallbackReply::Allow => setting(&fallback, command, json!("allow")),
        FallbackReply::Deny { code, text } => setting(&fallback, command, json!({"deny": code, "text": text})),
    });
    let shown = config.tls.iter().flat_map(|certificate| {
        [
            ("certificate", certificate.chain_path()),
            ("key", certificate.key_path()),
        ]
    });
    let of_tls = shown.map(|(key, path)| setting(&tls, key, json!(path.display().to_string())));
    let of_tls = Table {
        name: "receiver.tls",
        settings: of_tls.collect(),
    };
    let mut receiver = table("receiver", &places, own);
    if config.tls.is_none() {
        receiver.settings.push(Setting {
            key: "tls".to_owned(),
            value: Value::Null,
            origin: "default: plain HTTP, behind a proxy".to_owned(),
        });
    }
    let mut tables = vec![receiver];
    // There is no empty table: one that is written must name both files.
    tables.extend(config.tls.is_some().then_some(of_tls));
    tables.extend([
        table("receiver.journal", &journal, of_journal),
        table(
            "receiver.decisions",
            &decisions,
            [("verdicts_max", json!(config.verdicts_max))],
        ),
        Table {
            name: "receiver.fallback",
            settings: replies.collect(),
        },
    ]);
    tables
}

fn worker(config: &portcullis_worker::Config, places: &Section) -> Table {
    let own = [
        ("instance", json!(config.instance)),
        ("group", json!(config.group)),
        ("admin", json!(config.admin.to_string())),
        ("rules", json!(config.rules.display().to_string())),
        ("automatic_verdicts", json!(config.automatic_verdicts)),
    ];
    table("worker", places, own)
}

fn table<const N: usize>(name: &'static str, places: &Section, settings: [(&str, Value); N]) -> Table {
    let settings = settings.into_iter().map(|(key, value)| setting(places, key, value));
    Table {
        name,
        settings: settings.collect(),
    }
}

fn setting(places: &Section, key: &str, value: Value) -> Setting {
    let origin = match places.has(key).then(|| places.place(key)) {
        Some(Place::Line(line)) => format!("line {line}"),
        Some(Place::Environment(name)) => format!("environment {name}"),
        Some(Place::Missing) | None => "default".to_owned(),
    };
    Setting {
        key: key.to_owned(),
        value,
        origin,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::render;
    use super::Effective;
    use crate::settings::Written;

    const UNLIKE_THE_DEFAULTS: &str = r#"
        [kafka]
        bootstrap = "broker:9093"
        properties = { "security.protocol" = "sasl_plaintext", "sasl.mechanism" = "PLAIN", "sasl.username" = "ann", "sasl.password" = "hidden" }
        topics = { callbacks = "c", verdicts = "v", findings = "f", signals = "s", ledger = "l", dead_letters = "d" }
        [[apps]]
        id = 1400000001
        tokens = ["hidden one", "hidden two"]
        [[apps]]
        id = 5
        tokens = []
        [receiver]
        instance = "r-9"
        listen = "0.0.0.0:1"
        admin = "[::1]:2"
        reply_deadline = "250ms"
        body_bytes_max = "32KiB"
        connections_max = 7
        stale_verdicts = "wait"
        data = "a \"quoted\" \\ folder\u007f"
        journal = { bytes_max = "1GiB", durability = "process" }
        decisions = { verdicts_max = 5000 }
        [receiver.fallback]
        "Group.CallbackBeforeCreateTopic" = { deny = 10100, text = "später" }
        [worker]
        instance = "w-9"
        group = "g"
        admin = "127.0.0.1:3"
        rules = "r.toml"
        automatic_verdicts = false
    "#;

    fn written(text: &str) -> Written {
        Written::new("p.toml".to_owned(), text.to_owned(), Vec::new())
    }

    fn shown(text: &str) -> String {
        render::toml(&Effective::of(&written(text)).expect("holds"))
    }

    #[test]
    fn what_is_shown_reads_back_the_same_but_for_its_secrets() {
        for text in [UNLIKE_THE_DEFAULTS, "[[apps]]\nid = 1\ntokens = ['hidden']\n"] {
            let shown = shown(text);
            assert!(!shown.contains("hidden"), "{shown}");
            let before = written(&text.replace("hidden", "***").replace("*** one\", \"*** two", "***"));
            let before = before.read().expect("the original holds");
            let after = written(&shown).read().unwrap_or_else(|told| panic!("{told}\n{shown}"));
            assert_eq!(
                format!("{before:?}").replace("2 tokens", "1 tokens"),
                format!("{after:?}")
            );
        }
    }

    #[test]
    fn no_key_is_left_out() {
        let shown = shown(UNLIKE_THE_DEFAULTS);
        // An unknown key in each table: the mistakes then list all the known ones.
        let spoilt: String = shown
            .lines()
            .map(|line| {
                if line.starts_with('[') {
                    format!("{line}\nspoilt = 1\n")
                } else {
                    format!("{line}\n")
                }
            })
            .collect();
        let told = written(&spoilt).read().expect_err("unknown keys");
        let known = told.mistakes.iter().filter(|mistake| mistake.found == "an unknown key");
        let known: BTreeSet<&str> = known.flat_map(|mistake| mistake.allowed.split(", ")).collect();
        // Tables of their own, and the other way to give tokens.
        let elsewhere = [
            "properties",
            "topics",
            "journal",
            "decisions",
            "fallback",
            "tls",
            "tokens_file",
        ];
        assert!(known.len() > 20, "{told}");
        for key in known.iter().filter(|key| !elsewhere.contains(*key)) {
            let line =
                |line: &str| line.starts_with(&format!("{key} = ")) || line.starts_with(&format!("\"{key}\" = "));
            assert!(shown.lines().any(line), "{key} is not shown");
        }
    }

    #[test]
    fn every_value_says_where_it_comes_from() {
        let variables = vec![("PORTCULLIS__WORKER__GROUP".to_owned(), "g".to_owned())];
        let text = "[[apps]]\nid = 1\ntokens = []\n[worker]\nrules = 'r'\n".to_owned();
        let shown = render::toml(&Effective::of(&Written::new("p.toml".to_owned(), text, variables)).expect("holds"));
        for line in [
            "group = \"g\"  # environment PORTCULLIS__WORKER__GROUP",
            "rules = \"r\"  # line 5",
            "admin = \"127.0.0.1:9091\"  # default",
            "tokens = []  # 0 tokens, never shown",
            "# tls is not set  # default: plain HTTP, behind a proxy",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line} in\n{shown}");
        }
    }
}

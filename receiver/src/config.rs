//! What the operator sets for a receiver: the sections `[receiver]` and `[[apps]]`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use portcullis_schema::kafka::Kafka;
use portcullis_schema::settings::{Place, Section};
use portcullis_schema::{AppId, Codes, Command, CommandKind};

use crate::journal::Durability;
use crate::tls::Certificate;

/// Chat waits 2 s, the way there and back included; what is left for the way must never be less than this.
const REPLY_DEADLINE_MAX: Duration = Duration::from_millis(1_800);
/// An audit record holds the body and may escape it; six times this and the fields around it stay below the 1 MiB that
/// a broker takes by default.
const BODY_BYTES_MAX: u64 = 128 << 10;
/// The longest token of Chat's `set_callback_token` call.
const TOKEN_BYTES_MAX: usize = 128;

/// Everything that a receiver needs to know before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Names this receiver in records, and no other one.
    pub instance: String,
    /// The machine's name, for the ledger.
    pub host: String,
    /// Where callbacks come in.
    pub listen: SocketAddr,
    /// Where `/live`, `/ready` and `/metrics` are.
    pub admin: SocketAddr,
    /// What callers are shown; `None`: plain HTTP, behind a proxy.
    pub tls: Option<Certificate>,
    /// The longest time from a callback's head to its reply.
    pub reply_deadline: Duration,
    /// What is kept of a body; the rest is read and thrown away.
    pub body_bytes_max: usize,
    /// Connections at a time; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// What readiness does when Kafka is away at start.
    pub stale_verdicts: StaleVerdicts,
    /// The folder of the journal and of the verdict snapshot.
    pub data: PathBuf,
    /// The journal's bound on disk.
    pub journal_bytes_max: u64,
    /// What an answered record has survived.
    pub journal_durability: Durability,
    /// Subjects in memory.
    pub verdicts_max: u64,
    /// What is answered when no decision can be made.
    pub fallback: Fallback,
    /// Whose callbacks are taken.
    pub apps: BTreeMap<AppId, Tokens>,
    /// How to reach Kafka.
    pub kafka: Kafka,
}

/// The tokens that sign an app's callbacks, at most two for a rotation; none: unsigned callbacks are taken.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens(Vec<String>);

/// What readiness does when Kafka is away at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleVerdicts {
    /// Ready with the verdicts of the last snapshot.
    Serve,
    /// Not ready until the topic is read.
    Wait,
}

/// What is answered when no decision can be made, for each command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fallback {
    default: FallbackReply,
    commands: BTreeMap<Command, FallbackReply>,
}

/// One fallback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FallbackReply {
    /// Chat goes on, as it does without an answer.
    #[default]
    Allow,
    /// Chat refuses.
    Deny {
        /// The code; a command that cannot carry it answers its plain refusal.
        code: u32,
        /// What the caller reads.
        text: String,
    },
}

impl Config {
    /// Reads both sections; `host` names the instance where the operator does not.
    pub fn read(mut section: Section, apps: Vec<Section>, kafka: Kafka, host: &str) -> Self {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let instance = section.parsed("instance", INSTANCE_FORM, instance_name);
        let listen = section.parsed("listen", ADDRESS_FORM, |text| text.parse().ok());
        let admin = section.parsed("admin", ADDRESS_FORM, |text| text.parse().ok());
        let tls = Certificate::read(&mut section);
        let reply_deadline = section.duration("reply_deadline", Duration::from_millis(10)..=REPLY_DEADLINE_MAX);
        let body_bytes_max = section.bytes("body_bytes_max", 1 << 10..=BODY_BYTES_MAX);
        let connections_max = section.integer("connections_max", 1..=1_000_000);
        let stale = [("serve", StaleVerdicts::Serve), ("wait", StaleVerdicts::Wait)];
        let stale_verdicts = section.choice("stale_verdicts", &stale);
        let data = section.string("data", "data/receiver").into();
        let mut journal = section.section("journal");
        let bytes_max = journal.bytes("bytes_max", 64 << 20..=1 << 44);
        let durabilities = [("host", Durability::Host), ("process", Durability::Process)];
        let durability = journal.choice("durability", &durabilities);
        let verdicts_max = section
            .section("decisions")
            .integer("verdicts_max", 1_000..=100_000_000);
        Self {
            instance: instance.unwrap_or_else(|| host.to_owned()),
            host: host.to_owned(),
            listen: listen.unwrap_or(loopback(8080)),
            admin: admin.unwrap_or(loopback(9090)),
            tls,
            reply_deadline: reply_deadline.unwrap_or(Duration::from_millis(300)),
            body_bytes_max: body_bytes_max.map_or(64 << 10, |bytes| usize::try_from(bytes).unwrap_or(64 << 10)),
            connections_max: connections_max.map_or(10_000, |count| usize::try_from(count).unwrap_or(10_000)),
            stale_verdicts: stale_verdicts.unwrap_or(StaleVerdicts::Serve),
            data,
            journal_bytes_max: bytes_max.unwrap_or(4 << 30),
            journal_durability: durability.unwrap_or(Durability::Host),
            verdicts_max: verdicts_max.unwrap_or(1_000_000),
            fallback: Fallback::read(section.section("fallback")),
            apps: read_apps(apps),
            kafka,
        }
    }
}

impl Config {
    /// The keys, as the file calls them, that are others in `next` and that a running receiver cannot take over.
    pub(crate) fn fixed_that_differ(&self, next: &Self) -> Vec<&'static str> {
        let Self {
            instance,
            host: _, // no key
            listen,
            admin,
            tls,
            reply_deadline,
            body_bytes_max,
            connections_max,
            stale_verdicts,
            data,
            journal_bytes_max,
            journal_durability,
            verdicts_max,
            fallback: _, // taken over, as apps are
            apps: _,
            kafka: Kafka {
                bootstrap,
                properties,
                topics,
            },
        } = self;
        let fixed = [
            ("kafka.bootstrap", *bootstrap != next.kafka.bootstrap),
            ("kafka.properties", *properties != next.kafka.properties),
            ("kafka.topics", *topics != next.kafka.topics),
            ("receiver.instance", *instance != next.instance),
            ("receiver.listen", *listen != next.listen),
            ("receiver.admin", *admin != next.admin),
            // Another certificate is taken over; from plain HTTP to TLS or back is another listener.
            ("receiver.tls", tls.is_some() != next.tls.is_some()),
            ("receiver.reply_deadline", *reply_deadline != next.reply_deadline),
            ("receiver.body_bytes_max", *body_bytes_max != next.body_bytes_max),
            ("receiver.connections_max", *connections_max != next.connections_max),
            ("receiver.stale_verdicts", *stale_verdicts != next.stale_verdicts),
            ("receiver.data", *data != next.data),
            (
                "receiver.journal.bytes_max",
                *journal_bytes_max != next.journal_bytes_max,
            ),
            (
                "receiver.journal.durability",
                *journal_durability != next.journal_durability,
            ),
            ("receiver.decisions.verdicts_max", *verdicts_max != next.verdicts_max),
        ];
        fixed
            .into_iter()
            .filter_map(|(key, differs)| differs.then_some(key))
            .collect()
    }
}

const ADDRESS_FORM: &str = "an address and a port such as \"127.0.0.1:8080\"";
const INSTANCE_FORM: &str = "1 to 64 letters, digits, '.', '_' or '-'";

fn instance_name(text: &str) -> Option<String> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    (plain && (1..=64).contains(&text.len())).then(|| text.to_owned())
}

fn read_apps(sections: Vec<Section>) -> BTreeMap<AppId, Tokens> {
    let mut apps = BTreeMap::new();
    for mut section in sections {
        let place = section.place("id");
        section.required("id", "the SDKAppID, a whole number");
        let id = section.integer("id", 1..=u64::from(u32::MAX)).map(AppId);
        let tokens = Tokens::read(&mut section);
        if let Some(id) = id
            && apps.insert(id, tokens).is_some()
        {
            section.mistake(place, "id", format!("{id} a second time"), "one entry for each app");
        }
    }
    apps
}

impl Tokens {
    /// From the console's tokens.
    pub fn new(tokens: Vec<String>) -> Self {
        Self(tokens)
    }

    /// Whether callbacks without a signature are taken.
    pub fn accepts_unsigned(&self) -> bool {
        self.0.is_empty()
    }

    /// Each token, for the digest.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    fn read(section: &mut Section) -> Self {
        let allowed = "at most two tokens of 1 to 128 characters; [] takes unsigned callbacks";
        if section.has("tokens") && section.has("tokens_file") {
            let place = section.place("tokens_file");
            section.mistake(place, "tokens_file", "tokens as well", "one of the two");
        }
        let place = section.place(if section.has("tokens") { "tokens" } else { "tokens_file" });
        let tokens: Vec<String> = match section.optional_string("tokens_file") {
            None => {
                section.required("tokens", allowed);
                section.strings("tokens").into_iter().map(|(_, token)| token).collect()
            }
            Some(file) => match std::fs::read_to_string(&file) {
                Ok(text) => {
                    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                    let tokens: Vec<String> = lines.map(str::to_owned).collect();
                    if tokens.is_empty() {
                        // An emptied secret must not open the gate to unsigned callbacks.
                        section.mistake(place.clone(), "tokens_file", "no token in it", "a line for each token");
                    }
                    tokens
                }
                Err(error) => {
                    let found = format!("{file:?}, which cannot be read: {error}");
                    section.mistake(
                        place.clone(),
                        "tokens_file",
                        found,
                        "a readable file, a line for each token",
                    );
                    Vec::new()
                }
            },
        };
        if tokens.len() > 2 {
            section.mistake(place.clone(), "tokens", format!("{} tokens", tokens.len()), allowed);
        }
        // The token itself is never shown.
        if let Some(token) = tokens
            .iter()
            .find(|token| token.is_empty() || token.len() > TOKEN_BYTES_MAX)
        {
            section.mistake(
                place,
                "tokens",
                format!("a token of {} characters", token.len()),
                allowed,
            );
        }
        Self(tokens)
    }
}

/// Shows how many, never which.
impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} tokens", self.0.len())
    }
}

/// The same for every command.
impl From<FallbackReply> for Fallback {
    fn from(default: FallbackReply) -> Self {
        Self {
            default,
            commands: BTreeMap::new(),
        }
    }
}

impl Fallback {
    /// The fallback of `command`.
    pub fn reply(&self, command: &Command) -> &FallbackReply {
        self.commands.get(command).unwrap_or(&self.default)
    }

    /// Each entry by its key in the file, `default` first.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &FallbackReply)> {
        let commands = self.commands.iter().map(|(command, reply)| (command.name(), reply));
        std::iter::once(("default", &self.default)).chain(commands)
    }

    fn read(mut section: Section) -> Self {
        let mut default = None;
        if section.has("default") {
            let place = section.place("default");
            default = FallbackReply::read(&mut section, "default", place, None);
        }
        let mut commands = BTreeMap::new();
        for name in section.keys().into_iter().filter(|name| name != "default") {
            let command = Command::parse(&name);
            let Some(refusal) = command.refusal() else {
                let kinds = CommandKind::ALL.iter().filter(|kind| kind.refusal().is_some());
                let names: Vec<&str> = kinds.map(|kind| kind.name()).collect();
                let allowed = format!("default, or a command that can be refused: {}", names.join(", "));
                section.mistake(section.place(&name), &name, "no such command", allowed);
                section.pass_over(&name);
                continue;
            };
            let place = section.place(&name);
            if let Some(reply) = FallbackReply::read(&mut section, &name, place, Some(refusal.codes)) {
                commands.insert(command, reply);
            }
        }
        Self {
            default: default.unwrap_or_default(),
            commands,
        }
    }
}

impl FallbackReply {
    /// With `codes`, the one that is refused with must be among them; each command carries the default's as it can.
    fn read(section: &mut Section, name: &str, place: Place, codes: Option<Codes>) -> Option<Self> {
        if section.is_string(name) {
            const FORM: &str = "\"allow\" or { deny = CODE, text = \"...\" }";
            return section.parsed(name, FORM, |text| (text == "allow").then_some(Self::Allow));
        }
        let mut reply = section.section(name);
        let text = reply.string("text", "");
        reply.required("deny", "the code of the refusal");
        let code = u32::try_from(reply.integer("deny", 0..=u64::from(u32::MAX))?).ok()?;
        let allowed = codes.map_or(Codes::ALL.to_vec(), |codes| vec![codes]);
        if !allowed.iter().any(|codes| codes.carry(code)) {
            let mut told: Vec<String> = allowed.iter().map(Codes::to_string).collect();
            told.dedup();
            reply.mistake(place, "deny", code.to_string(), told.join("; "));
        }
        Some(Self::Deny { code, text })
    }
}

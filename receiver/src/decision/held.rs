use std::sync::Arc;

use portcullis_schema::{Codes, Command, CommandKind, Effect, Source, Timestamp, Uuid, Verdict};

/// What a person still reads of a refusal; what is longer is cut. Bounds the memory that a verdict may take.
const TEXT_BYTES_MAX: usize = 1_024;
/// The same for the name of a rule.
const RULE_BYTES_MAX: usize = 256;

/// What a decision needs of a verdict, and no more: a million of them are in memory, so what many have in common is kept
/// once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) id: Uuid,
    /// [`Timestamp::MAX`]-like where it has no end: the largest number of microseconds.
    ends: i64,
    pub(crate) ruling: Arc<Ruling>,
}

/// What a verdict says, whoever it is about. All verdicts of a rule say the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ruling {
    pub(crate) effect: Effect,
    pub(crate) source: Source,
    code: Carried,
    pub(crate) text: Arc<str>,
    pub(crate) rule: Option<Arc<str>>,
    commands: Commands,
}

/// A verdict's code as each range of codes can carry it, settled when the verdict is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Carried {
    group: u32,
    message: u32,
    friend: u32,
}

/// A set of known commands, a bit for each. A command that is not known cannot be refused, so none is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Commands(u64);

const _: () = assert!(CommandKind::ALL.len() <= 64, "a bit for each command");

impl Held {
    pub(crate) fn new(id: Uuid, expires_at: Option<Timestamp>, ruling: Arc<Ruling>) -> Self {
        Self {
            id,
            ends: expires_at.map_or(i64::MAX, Timestamp::as_micros),
            ruling,
        }
    }

    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        (self.ends != i64::MAX).then(|| Timestamp::from_micros(self.ends))
    }

    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.ends <= now.as_micros()
    }

    pub(super) fn applies_to(&self, command: &Command) -> bool {
        match command {
            Command::Known(kind) => self.ruling.commands.0 & bit(*kind) != 0,
            Command::Other(_) => false,
        }
    }

    /// The code of its refusal of a command with these codes.
    pub(super) fn code(&self, codes: Codes) -> u32 {
        let code = self.ruling.code;
        match codes {
            Codes::Group => code.group,
            Codes::Message => code.message,
            Codes::Friend => code.friend,
            Codes::Plain => codes.plain(),
        }
    }
}

impl Ruling {
    pub(super) fn of(verdict: &Verdict) -> Self {
        Self::new(
            (verdict.effect, verdict.source),
            verdict.code,
            &verdict.text,
            verdict.rule.as_deref(),
            &verdict.commands,
        )
    }

    pub(crate) fn new(
        (effect, source): (Effect, Source),
        code: Option<u32>,
        text: &str,
        rule: Option<&str>,
        commands: &[String],
    ) -> Self {
        Self {
            effect,
            source,
            code: Carried::new(code),
            text: cut(text, TEXT_BYTES_MAX).into(),
            rule: rule.map(|rule| cut(rule, RULE_BYTES_MAX).into()),
            commands: Commands::of(commands),
        }
    }

    /// Whether it is what the verdict says, without an allocation.
    pub(super) fn is_of(&self, verdict: &Verdict) -> bool {
        self.effect == verdict.effect
            && self.source == verdict.source
            && *self.text == *verdict.text
            && self.rule.as_deref() == verdict.rule.as_deref()
            && self.code == Carried::new(verdict.code)
            && self.commands == Commands::of(&verdict.commands)
    }

    /// What [`Ruling::new`] makes the same of.
    pub(crate) fn code(&self) -> Option<u32> {
        self.code.wanted()
    }

    /// What [`Ruling::new`] makes the same of.
    pub(crate) fn commands(&self) -> Vec<String> {
        self.commands.names()
    }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

impl Carried {
    fn new(wanted: Option<u32>) -> Self {
        Self {
            group: Codes::Group.code(wanted),
            message: Codes::Message.code(wanted),
            friend: Codes::Friend.code(wanted),
        }
    }

    /// What [`Carried::new`] makes the same of: a code that no range carries is as good as none.
    fn wanted(self) -> Option<u32> {
        let each = [
            (Codes::Group, self.group),
            (Codes::Message, self.message),
            (Codes::Friend, self.friend),
        ];
        let own = each.into_iter().find(|(codes, code)| *code != codes.plain());
        own.map(|(_, code)| code)
    }
}

impl Commands {
    /// No names: all that can be refused.
    fn of(names: &[String]) -> Self {
        if names.is_empty() {
            return Self(u64::MAX);
        }
        Self(names.iter().fold(0, |bits, name| match Command::parse(name) {
            Command::Known(kind) => bits | bit(kind),
            Command::Other(_) => bits,
        }))
    }

    /// What [`Commands::of`] understands as the same set.
    fn names(self) -> Vec<String> {
        if self.0 == u64::MAX {
            return Vec::new();
        }
        let named: Vec<String> = CommandKind::ALL
            .iter()
            .filter(|kind| self.0 & bit(**kind) != 0)
            .map(|kind| kind.name().to_owned())
            .collect();
        match named.is_empty() {
            // Only commands that nobody can refuse: not the same as none named.
            true => vec![String::new()],
            false => named,
        }
    }
}

fn bit(kind: CommandKind) -> u64 {
    1 << (kind as u64)
}

use std::sync::Arc;

use portcullis_schema::{AppId, Codes, Command, CommandKind, Effect, Source, Subject, Timestamp, Uuid, Verdict};

/// What a decision needs of a verdict, and no more: a million of them are in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) id: Uuid,
    pub(super) effect: Effect,
    pub(super) source: Source,
    code: Carried,
    pub(super) text: Arc<str>,
    pub(super) rule: Option<Arc<str>>,
    commands: Commands,
    expires_at: Option<Timestamp>,
}

/// A verdict's code as each range of codes can carry it, settled when the verdict is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Carried {
    group: u32,
    message: u32,
    friend: u32,
}

/// A set of known commands, a bit for each. A command that is not known cannot be refused, so none is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Commands(u64);

const _: () = assert!(CommandKind::ALL.len() <= 64, "a bit for each command");

impl Held {
    /// `intern` gives one allocation to equal texts: a rule's verdicts all have the same.
    pub(super) fn new(verdict: &Verdict, mut intern: impl FnMut(&str) -> Arc<str>) -> Self {
        Self {
            id: verdict.id,
            effect: verdict.effect,
            source: verdict.source,
            code: Carried::new(verdict.code),
            text: intern(&verdict.text),
            rule: verdict.rule.as_deref().map(intern),
            commands: Commands::of(&verdict.commands),
            expires_at: verdict.expires_at,
        }
    }

    /// As it came, less what only people read.
    pub(super) fn to_verdict(&self, app: AppId, subject: Subject) -> Verdict {
        Verdict {
            id: self.id,
            app,
            subject,
            commands: self.commands.names(),
            effect: self.effect,
            code: self.code.wanted(),
            text: self.text.to_string(),
            source: self.source,
            rule: self.rule.as_deref().map(str::to_owned),
            reason: String::new(),
            by: String::new(),
            issued_at: Timestamp::default(),
            expires_at: self.expires_at,
            evidence: Vec::new(),
        }
    }

    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    pub(super) fn applies_to(&self, command: &Command) -> bool {
        match command {
            Command::Known(kind) => self.commands.0 & bit(*kind) != 0,
            Command::Other(_) => false,
        }
    }
}

impl Held {
    /// The code of its refusal of a command with these codes.
    pub(super) fn code(&self, codes: Codes) -> u32 {
        match codes {
            Codes::Group => self.code.group,
            Codes::Message => self.code.message,
            Codes::Friend => self.code.friend,
            Codes::Plain => codes.plain(),
        }
    }
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

//! `[[rule.test]]`: records as the operator describes them, and whom the rule must then deny or find.

use std::net::IpAddr;
use std::time::Duration;

use portcullis_schema::settings::{Place, Section};
use portcullis_schema::{AppId, AuditRecord, Command, DecidedBy, Effect, RecordedDecision, Rung, Timestamp, Uuid, id};
use serde_json::value::RawValue;

use crate::field::Path;

/// Examples are read by people; what needs more is a load test.
const TIMES_MAX: u64 = 100_000;
const AT_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// The moment that `at = "0s"` stands for, 2026-01-01T00:00:00Z. Fixed, so that every run is the same.
const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
const APP: u64 = 1_400_000_001;

/// What is given, and what is expected of it.
#[derive(Clone, Debug)]
pub(crate) struct Example {
    pub(crate) place: Place,
    given: Vec<Given>,
    /// The subjects that must be denied, as the rule compares them; absent where it does not say.
    pub(crate) denied: Option<Vec<String>>,
    /// The subjects that there must be findings about, likewise.
    pub(crate) found: Option<Vec<String>>,
}

/// Several records that differ in time only.
#[derive(Clone, Debug)]
struct Given {
    record: AuditRecord,
    at: Duration,
    times: u64,
    every: Duration,
}

impl Example {
    /// In the order of time, each with an identity of its own.
    pub(crate) fn records(&self) -> Vec<AuditRecord> {
        let mut records = Vec::new();
        for given in &self.given {
            let mut at = START.after(given.at);
            for _ in 0..given.times {
                let mut record = given.record.clone();
                record.received_at = at;
                records.push(record);
                at = at.after(given.every);
            }
        }
        records.sort_by_key(|record| record.received_at);
        for (seq, record) in (0..).zip(&mut records) {
            record.seq = seq;
            record.id = id::derived(record.received_at, &[b"example", &seq.to_be_bytes()]);
        }
        records
    }
}

pub(super) fn read(rule: &mut Section, by: &Path, commands: &[(Place, Command)]) -> Vec<Example> {
    let command = commands.first().map_or("", |(_, command)| command.name());
    let examples = rule.sections("test").into_iter();
    examples.map(|section| example(section, by, command)).collect()
}

fn example(mut section: Section, by: &Path, command: &str) -> Example {
    let allowed = "a list of records such as { operator = \"a\", at = \"0s\", times = 5 }";
    section.required("given", allowed);
    let place = section.place("");
    let given: Vec<Given> = section
        .sections("given")
        .into_iter()
        .map(|given| read_given(given, command))
        .collect();
    let (expect_place, expect_allowed) = (
        section.place("expect"),
        "{ denied = [\"a\"] }, { found = [\"a\"] } or both",
    );
    let mut expect = section.section("expect");
    let denied = subjects(&mut expect, "denied", by);
    let found = subjects(&mut expect, "found", by);
    if denied.is_none() && found.is_none() {
        section.mistake(expect_place, "expect", "nothing", expect_allowed);
    }
    Example {
        place,
        given,
        denied,
        found,
    }
}

/// In the form in which the rule compares them.
fn subjects(section: &mut Section, key: &str, by: &Path) -> Option<Vec<String>> {
    let given = section.has(key);
    let mut subjects = Vec::new();
    for (place, raw) in section.strings(key) {
        match by.canonical(&raw) {
            Some(subject) => subjects.push(subject),
            None => section.mistake(place, key, format!("{raw:?}"), format!("values of {}", by.text())),
        }
    }
    given.then_some(subjects)
}

fn read_given(mut section: Section, command: &str) -> Given {
    let mut record = blank();
    record.command = section.string("command", command);
    record.app = section.integer("app", 0..=u64::MAX).or(Some(APP)).map(AppId);
    record.operator = section.optional_string("operator");
    record.client_ip = section.parsed("client_ip", "an address such as \"203.0.113.7\"", |text| {
        text.parse::<IpAddr>()
            .ok()
            .map(|address| address.to_canonical().to_string())
    });
    record.name = section.optional_string("name");
    record.platform = section.optional_string("platform");
    record.query = section.string_table("query");
    record.body = section.parsed("body", "JSON in quotes such as '{\"Type\":\"Public\"}'", |text| {
        RawValue::from_string(text.to_owned()).ok()
    });
    let at = section.duration("at", Duration::ZERO..=AT_MAX).unwrap_or_default();
    let times = section.integer("times", 1..=TIMES_MAX).unwrap_or(1);
    let every = section.duration("every", Duration::ZERO..=AT_MAX).unwrap_or_default();
    Given {
        record,
        at,
        times,
        every,
    }
}

/// An authentic callback that was let through.
fn blank() -> AuditRecord {
    AuditRecord {
        id: Uuid::nil(),
        receiver: "example".to_owned(),
        boot: Uuid::nil(),
        seq: 0,
        received_at: START,
        app: None,
        command: String::new(),
        authentic: true,
        operator: None,
        client_ip: None,
        platform: None,
        name: None,
        query: std::collections::BTreeMap::new(),
        body: None,
        body_text: None,
        body_base64: None,
        body_command: None,
        rejection: None,
        decision: Some(RecordedDecision {
            effect: Effect::Allow,
            code: None,
            text: None,
            by: DecidedBy::Default,
            verdict: None,
            rule: None,
            verdicts_at: Vec::new(),
            refused: Vec::new(),
        }),
        rung: Rung::Normal,
    }
}

//! From the operator's text to rules, every mistake told at once.

use std::time::Duration;

use portcullis_schema::settings::{Document, Mistakes, Place, Section};
use portcullis_schema::{Command, CommandKind, Mode, units};

use super::example;
use super::{Denial, Rule};
use crate::condition::Condition;
use crate::field::Path;

/// A name is a label of metrics and a part of Kafka keys and ids.
const NAME_CHARS_MAX: usize = 64;
/// Below a second the windows measure the network, and above a day they outlive what Kafka keeps of the signals.
const WINDOW: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 3_600));
/// A window keeps as many observations as its threshold: 10,000 of them take 400 KB.
const THRESHOLD_MAX: u64 = 10_000;
/// Every verdict ends; a month is for what a person should look at meanwhile.
const LASTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30 * 24 * 3_600));
/// As long as what a caller would read.
const TEXT_BYTES_MAX: usize = 1_024;
/// A brake remembers every subject of its hour: 100,000 of them take a few MB.
const SUBJECTS_PER_HOUR_MAX: u64 = 100_000;

const COUNT_FORM: &str = "\"records\" or { distinct = \"operator\" } with any field";

pub(super) fn rules(file: &str, text: &str) -> Result<Vec<Rule>, Mistakes> {
    let mut document = Document::parse(file, text);
    let mut rules: Vec<Rule> = Vec::new();
    {
        let mut root = document.root();
        for section in root.sections("rule") {
            let rule = rule(section, &rules);
            rules.push(rule);
        }
    }
    document.finish(rules)
}

/// Reads on behind a mistake with what stands in for the value; [`Document::finish`] then keeps the rule back.
fn rule(mut section: Section, earlier: &[Rule]) -> Rule {
    let name = name(&mut section, earlier);
    let commands = commands(&mut section);
    let condition = condition(&mut section);
    let (by_place, by) = path(&mut section, "by");
    let distinct = distinct(&mut section, by.as_ref());
    let by = by.unwrap_or_else(Path::operator);
    let (window, window_text) = window(&mut section);
    section.required("threshold", "a whole number from 1");
    let threshold = section.integer("threshold", 1..=THRESHOLD_MAX).unwrap_or(1);
    let mode = mode(&mut section);
    let denial = denial(&mut section, mode, &commands);
    if mode == Mode::Enforce {
        refusable(&section, &commands);
        subject(&section, by_place, &by);
    }
    let subjects_per_hour = brake(&mut section);
    let examples = example::read(&mut section, &by, &commands);
    Rule {
        name: name.into(),
        commands: commands.into_iter().map(|(_, command)| command).collect(),
        condition,
        by,
        distinct,
        window,
        window_text,
        threshold: usize::try_from(threshold).unwrap_or(1),
        mode,
        denial,
        subjects_per_hour,
        examples,
    }
}

fn name(section: &mut Section, earlier: &[Rule]) -> String {
    let allowed = format!("1 to {NAME_CHARS_MAX} of a-z, 0-9 and '-'");
    section.required("name", &allowed);
    let place = section.place("name");
    let name = section.parsed("name", &allowed, |text| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=NAME_CHARS_MAX).contains(&text.len()) && text.bytes().all(plain);
        fits.then(|| text.to_owned())
    });
    let name = name.unwrap_or_default();
    if earlier.iter().any(|rule| !name.is_empty() && *rule.name == *name) {
        section.mistake(
            place,
            "name",
            format!("{name:?} again"),
            "a name that no other rule has",
        );
    }
    name
}

fn commands(section: &mut Section) -> Vec<(Place, Command)> {
    let allowed = "a list of commands such as \"Group.CallbackBeforeCreateTopic\"";
    section.required("commands", allowed);
    let (place, given) = (section.place("commands"), section.has("commands"));
    let names = section.strings("commands");
    if given && names.is_empty() {
        section.mistake(place, "commands", "no command", allowed);
    }
    for (place, name) in &names {
        if !is_well_formed(name) {
            section.mistake(
                place.clone(),
                "commands",
                format!("{name:?}"),
                "commands as Chat spells them",
            );
        }
    }
    let parse = |(place, name): (Place, String)| (place, Command::parse(&name));
    names.into_iter().map(parse).collect()
}

/// Two or more words of letters and digits with dots between. Chat adds commands, so the list is not closed.
fn is_well_formed(command: &str) -> bool {
    let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    command.len() <= 128 && command.contains('.') && command.split('.').all(word)
}

fn condition(section: &mut Section) -> Option<Condition> {
    let place = section.place("when");
    let text = section.optional_string("when")?;
    match Condition::parse(&text) {
        Ok(condition) => Some(condition),
        Err(unfit) => {
            section.mistake(place, "when", unfit.found, unfit.allowed);
            None
        }
    }
}

fn path(section: &mut Section, key: &str) -> (Place, Option<Path>) {
    section.required(key, Path::FORM);
    let place = section.place(key);
    (place, section.parsed(key, Path::FORM, Path::parse))
}

fn distinct(section: &mut Section, by: Option<&Path>) -> Option<Path> {
    if !section.is_table("count") {
        section.parsed("count", COUNT_FORM, |text| (text == "records").then_some(()));
        return None;
    }
    let mut count = section.section("count");
    let (place, distinct) = path(&mut count, "distinct");
    let distinct = distinct?;
    if by == Some(&distinct) {
        let found = format!("{:?}, by which the rule groups", distinct.text());
        let allowed = "another field: of this one there is one value only";
        count.mistake(place, "distinct", found, allowed);
    }
    Some(distinct)
}

fn window(section: &mut Section) -> (Duration, String) {
    section.required("window", units::DURATION_FORM);
    let (from, to) = (units::show_duration(WINDOW.0), units::show_duration(WINDOW.1));
    let allowed = format!("{}, from {from} to {to}", units::DURATION_FORM);
    let read = section.parsed("window", &allowed, |text| {
        let window = units::duration(text)?;
        (WINDOW.0..=WINDOW.1)
            .contains(&window)
            .then(|| (window, text.to_owned()))
    });
    read.unwrap_or((WINDOW.0, String::new()))
}

/// Shadow unless it says otherwise: nobody is refused by a line that is missing.
fn mode(section: &mut Section) -> Mode {
    let modes = [Mode::Enforce, Mode::Shadow, Mode::Off].map(|mode| (mode.name(), mode));
    section.choice("mode", &modes).unwrap_or(Mode::Shadow)
}

fn denial(section: &mut Section, mode: Mode, commands: &[(Place, Command)]) -> Option<Denial> {
    if !section.has("verdict") {
        if mode == Mode::Enforce {
            section.required(
                "verdict",
                "what a rule in mode enforce denies: { effect = \"deny\", for = \"10m\", ... }",
            );
        }
        return None;
    }
    let mut verdict = section.section("verdict");
    verdict.required("effect", "\"deny\"");
    verdict.choice("effect", &[("deny", ())]);
    let place = verdict.place("code");
    let code = verdict.integer("code", 0..=u64::from(u32::MAX));
    let code = code.and_then(|code| u32::try_from(code).ok());
    if let Some(code) = code {
        refuses(&verdict, &place, code, commands);
    }
    let allowed = format!("a text of at most {TEXT_BYTES_MAX} bytes");
    let text = verdict.parsed("text", &allowed, |text| {
        (text.len() <= TEXT_BYTES_MAX).then(|| text.to_owned())
    });
    verdict.required("for", units::DURATION_FORM);
    let lasts = verdict.duration("for", LASTS.0..=LASTS.1);
    Some(Denial {
        code,
        text: text.unwrap_or_default(),
        lasts: lasts.unwrap_or(LASTS.0),
    })
}

/// Every command must be able to carry the code, or its caller would read another refusal than the rule says.
fn refuses(verdict: &Section, place: &Place, code: u32, commands: &[(Place, Command)]) {
    for (_, command) in commands {
        let Some(refusal) = command.refusal() else { continue };
        if !refusal.codes.carry(code) {
            let allowed = format!("{}, for {command}", refusal.codes);
            verdict.mistake(place.clone(), "code", code.to_string(), allowed);
        }
    }
}

fn refusable(section: &Section, commands: &[(Place, Command)]) {
    let refused: Vec<&str> = CommandKind::ALL
        .iter()
        .filter(|kind| kind.refusal().is_some())
        .map(|kind| kind.name())
        .collect();
    for (place, command) in commands {
        if command.refusal().is_none() {
            let found = format!(
                "{:?}, which cannot be refused, in a rule that is enforced",
                command.name()
            );
            let allowed = format!("{}; others only in mode \"shadow\"", refused.join(", "));
            section.mistake(place.clone(), "commands", found, allowed);
        }
    }
}

fn subject(section: &Section, place: Place, by: &Path) {
    if by.subject_kind().is_none() {
        let found = format!("{:?}, about which no verdict can be", by.text());
        let allowed = "\"operator\", \"client_ip\", \"name\" or \"app\"; another field only in mode \"shadow\"";
        section.mistake(place, "by", found, allowed);
    }
}

fn brake(section: &mut Section) -> Option<usize> {
    if !section.has("brakes") {
        return None;
    }
    let mut brakes = section.section("brakes");
    let most = brakes.integer("subjects_per_hour", 1..=SUBJECTS_PER_HOUR_MAX)?;
    usize::try_from(most).ok()
}

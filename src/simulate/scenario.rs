//! What Chat is played to send, without chance but the seed's: the same arguments play the same.

use clap::ValueEnum;
use portcullis_schema::CommandKind;
use serde_json::json;

use super::call::{Call, Forgery};
use super::odd;
use super::samples::{COMMANDS, sample};

/// One kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Scenario {
    /// Ordinary operators, every command that can be refused
    Mixed,
    /// One operator creates topic after topic
    Burst,
    /// Many operators create topics of one look-alike name
    CopiedName,
    /// Many operators create topics from one address
    OneAddress,
    /// What Chat only tells, and commands that nobody knows
    Notifications,
    /// Odd JSON and odd text, still to be answered in the contract
    Odd,
    /// Requests that are not from Chat, to be answered 403
    Forged,
}

/// What the callbacks are made for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stage {
    pub(super) seed: u64,
    /// Callbacks a second.
    pub(super) rate: u32,
    /// Whether the app has tokens.
    pub(super) signed: bool,
}

const CREATE_TOPIC: &str = CommandKind::BeforeCreateTopic.name();
/// The fewest ordinary operators; and for each callback a second so many, so that each acts every 20 s: 3 a minute stay
/// below any sensible rule.
const OPERATORS_MIN: u64 = 100;
const OPERATORS_PER_RATE: u64 = 20;
const SPELLINGS: [&str; 4] = [
    "Official Support",
    "Οfficial Suppоrt",
    "0fficial  Support",
    "OfficiaI Support",
];
const SUBJECTS: [&str; 8] = [
    "Hiking", "Chess", "Baking", "Sailing", "Jazz", "Pottery", "Film", "Climbing",
];

impl Scenario {
    /// As it is called on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mixed => "mixed",
            Self::Burst => "burst",
            Self::CopiedName => "copied-name",
            Self::OneAddress => "one-address",
            Self::Notifications => "notifications",
            Self::Odd => "odd",
            Self::Forged => "forged",
        }
    }

    /// The callback of this number, from 0 on.
    pub(super) fn call(self, stage: &Stage, number: u64) -> Call {
        let seed = stage.seed;
        let topic = |operator: String, client_ip: String, name: String| {
            let body = json!({"CallbackCommand": CREATE_TOPIC, "Operator_Account": operator, "Type": "Community",
                "Name": name});
            Call::json(CREATE_TOPIC, client_ip, &body)
        };
        match self {
            Self::Mixed => ordinary(stage, number),
            Self::Burst => topic(
                format!("mallory-{seed}"),
                "203.0.113.66".to_owned(),
                format!("offer {number}"),
            ),
            Self::CopiedName => topic(
                format!("copycat-{seed}-{number}"),
                address_of(number),
                format!("{} {seed}", of(&SPELLINGS, number)),
            ),
            Self::OneAddress => topic(
                format!("account-{seed}-{number}"),
                format!("203.0.113.{}", 100 + seed % 100),
                format!("Invest now {seed} {number}"),
            ),
            Self::Notifications => notification(stage, number),
            Self::Odd => odd::call(stage.seed, number),
            Self::Forged => {
                let known = if stage.signed {
                    &Forgery::ALL[..]
                } else {
                    &Forgery::ALL[..Forgery::OF_UNSIGNED_APPS]
                };
                ordinary(stage, number).forged(of(known, number))
            }
        }
    }
}

fn ordinary(stage: &Stage, number: u64) -> Call {
    let operators = OPERATORS_MIN.max(OPERATORS_PER_RATE * u64::from(stage.rate));
    let operator = number % operators;
    // By chance, so that no operator always does the same.
    let kind = of(&COMMANDS, scattered(stage.seed, number));
    sample(
        kind,
        &format!("user-{}-{operator}", stage.seed),
        address_of(operator),
        &format!("{} {} {number}", of(&SUBJECTS, operator), stage.seed),
        &format!("friend-{operator}"),
    )
}

fn notification(stage: &Stage, number: u64) -> Call {
    const UNKNOWN: &str = "Some.NewCommand";
    let noted = || CommandKind::ALL.iter().filter(|kind| kind.refusal().is_none());
    // One more than there are.
    let turn = usize::try_from(number).unwrap_or(0) % (noted().count() + 1);
    let command = noted().nth(turn).map_or(UNKNOWN, |kind| kind.name());
    let operator = format!("user-{}-{}", stage.seed, scattered(stage.seed, number) % OPERATORS_MIN);
    let body = json!({"CallbackCommand": command, "Operator_Account": operator, "GroupId": "@TGS#2J4SZEAEL",
        "Info": {"Action": "Login", "To_Account": operator, "Reason": "Register"},
        "EventTime": 1_670_574_414_123_u64});
    Call::json(command, address_of(number), &body)
}

/// In 198.18.0.0/15, which is set aside for measurements.
pub(super) fn address_of(number: u64) -> String {
    let [.., middle, low] = number.to_be_bytes();
    format!("198.{}.{middle}.{low}", 18 + (number >> 16) % 2)
}

/// Each in turn; `all` is never empty.
pub(super) fn of<T: Copy>(all: &[T], number: u64) -> T {
    let turn = number % all.len() as u64;
    all[usize::try_from(turn).unwrap_or(0)]
}

/// A number that looks like chance (SplitMix64).
pub(super) fn scattered(seed: u64, number: u64) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut mixed = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(GOLDEN));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::ValueEnum;

    use super::{Scenario, Stage};

    #[test]
    fn ordinary_operators_do_nothing_that_a_sample_rule_takes_for_abuse() {
        let rate = 200;
        let stage = Stage {
            seed: 7,
            rate,
            signed: true,
        };
        let minute: Vec<_> = (0..60 * u64::from(rate))
            .map(|number| Scenario::Mixed.call(&stage, number))
            .collect();
        let mut addresses = BTreeMap::<&str, usize>::new();
        for call in &minute {
            *addresses.entry(&call.client_ip).or_default() += 1;
        }
        assert_eq!(
            addresses.into_values().max(),
            Some(3),
            "operators and addresses are paired"
        );
    }

    #[test]
    fn a_name_on_the_command_line_is_the_one_that_is_told() {
        for scenario in Scenario::value_variants() {
            let value = scenario.to_possible_value().expect("none is hidden");
            assert_eq!(value.get_name(), scenario.name());
        }
    }
}

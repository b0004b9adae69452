//! How many subjects a rule may deny in an hour, in this process.
//!
//! A rule that is wrong, or an attack that makes a good rule hit everyone, must not shut the app. Past the number the
//! rule goes on in shadow: findings, but no verdicts.

use std::collections::HashMap;
use std::time::Duration;

use portcullis_schema::{AppId, Subject, Timestamp};

use super::Hit;
use crate::rules::Rules;

const HOUR: Duration = Duration::from_secs(3_600);

/// Why a verdict is withheld, as its finding says.
pub const BRAKE: &str = "brake";

/// The brakes of all rules that have one.
#[derive(Debug)]
pub struct Brakes(HashMap<String, Brake>);

#[derive(Debug)]
struct Brake {
    subjects_max: usize,
    /// Whom the rule denied within the hour, and when last.
    denied: HashMap<(AppId, Subject), Timestamp>,
    /// Whether the last verdict was withheld.
    holds: bool,
}

/// What a hit changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrakeChange {
    /// From now on verdicts of the rule are withheld.
    Holds,
    /// They are issued again.
    Released,
}

impl Brakes {
    /// All released.
    pub fn new(rules: &Rules) -> Self {
        let braked = rules.iter().filter_map(|rule| {
            let brake = Brake {
                subjects_max: rule.subjects_per_hour?,
                denied: HashMap::new(),
                holds: false,
            };
            Some((rule.name().to_owned(), brake))
        });
        Self(braked.collect())
    }

    /// Withholds the hit's verdict where its rule has denied enough subjects within the hour before it.
    pub fn apply(&mut self, hit: &mut Hit) -> Option<BrakeChange> {
        let brake = self.0.get_mut(&hit.finding.rule)?;
        let verdict = hit.verdict.as_ref()?;
        let now = verdict.issued_at;
        // By distance, so that a record from the future does not stay for ever.
        brake
            .denied
            .retain(|_, at| now.since(*at) < HOUR && at.since(now) < HOUR);
        let subject = (verdict.app, verdict.subject.clone());
        let holds = brake.denied.len() >= brake.subjects_max && !brake.denied.contains_key(&subject);
        if holds {
            hit.withhold(BRAKE);
        } else {
            brake.denied.insert(subject, now);
        }
        let change = if holds {
            BrakeChange::Holds
        } else {
            BrakeChange::Released
        };
        (std::mem::replace(&mut brake.holds, holds) != holds).then_some(change)
    }
}

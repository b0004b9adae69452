//! What came of the callbacks: counts in bounded memory, however many there are.

use std::collections::BTreeMap;
use std::time::Duration;

use super::contract::{Breach, Outcome};
use super::latency::Latencies;
use super::scenario::Scenario;

/// What became of one callback.
#[derive(Debug)]
pub(super) enum Told {
    /// It was answered.
    Answered(Result<Outcome, Breach>),
    /// It was sent, and no whole answer came.
    NoAnswer(String),
    /// No connection was free in time.
    Unsent,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    deadline: Duration,
    pub(super) scenarios: BTreeMap<Scenario, Counts>,
    pub(super) latencies: Latencies,
    /// The few kinds of [`Told`] and [`Breach`] that break a promise.
    pub(super) broken: BTreeMap<&'static str, Broken>,
}

/// Of one scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) answered: u64,
    pub(super) allowed: u64,
    pub(super) refused: u64,
    pub(super) turned_away: u64,
    /// Answered, but after the deadline.
    pub(super) late: u64,
}

/// A promise that was broken, and how the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) count: u64,
    pub(super) first: String,
}

impl Tally {
    /// An answer after more than `deadline` breaks a promise.
    pub(super) fn new(deadline: Duration) -> Self {
        Self {
            deadline,
            scenarios: BTreeMap::new(),
            latencies: Latencies::default(),
            broken: BTreeMap::new(),
        }
    }

    /// Whether every promise was kept.
    pub(super) fn holds(&self) -> bool {
        self.broken.is_empty()
    }

    /// `took` is counted from the moment at which the callback was to be sent.
    pub(super) fn count(&mut self, scenario: Scenario, command: &str, told: Told, took: Duration) {
        let counts = self.scenarios.entry(scenario).or_default();
        counts.sent += u64::from(!matches!(told, Told::Unsent));
        let (kind, how) = match told {
            Told::Answered(answer) => {
                counts.answered += 1;
                self.latencies.add(took);
                if took > self.deadline {
                    counts.late += 1;
                    let how = format!("an answer after {} ms", took.as_millis());
                    self.fault(scenario, command, "late", &how);
                }
                match answer {
                    Ok(outcome) => return self.count_outcome(scenario, outcome),
                    Err(breach) => (breach.kind(), breach.to_string()),
                }
            }
            Told::NoAnswer(how) => ("no_answer", format!("no answer: {how}")),
            Told::Unsent => ("unsent", "not sent: every connection was busy for too long".to_owned()),
        };
        self.fault(scenario, command, kind, &how);
    }

    /// Over all scenarios.
    pub(super) fn total(&self) -> Counts {
        self.scenarios
            .values()
            .fold(Counts::default(), |sum, counts| sum.plus(*counts))
    }

    fn count_outcome(&mut self, scenario: Scenario, outcome: Outcome) {
        let counts = self.scenarios.entry(scenario).or_default();
        match outcome {
            Outcome::Allowed => counts.allowed += 1,
            Outcome::Refused => counts.refused += 1,
            Outcome::TurnedAway => counts.turned_away += 1,
        }
    }

    fn fault(&mut self, scenario: Scenario, command: &str, kind: &'static str, how: &str) {
        let first = || Broken {
            count: 0,
            first: format!("{how} (scenario {}, {command})", scenario.name()),
        };
        self.broken.entry(kind).or_insert_with(first).count += 1;
    }
}

impl Counts {
    fn plus(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            answered: self.answered + other.answered,
            allowed: self.allowed + other.allowed,
            refused: self.refused + other.refused,
            turned_away: self.turned_away + other.turned_away,
            late: self.late + other.late,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Tally, Told};
    use crate::simulate::contract::{Breach, Outcome};
    use crate::simulate::scenario::Scenario;

    #[test]
    fn an_answer_that_is_late_or_wrong_or_missing_breaks_a_promise_and_one_in_time_does_not() {
        const DEADLINE: Duration = Duration::from_millis(300);
        let count = |told: Told, took: Duration| {
            let mut tally = Tally::new(DEADLINE);
            tally.count(Scenario::Mixed, "command", told, took);
            (tally.broken.keys().copied().collect::<Vec<_>>(), tally.total())
        };
        let (broken, counts) = count(Told::Answered(Ok(Outcome::Refused)), DEADLINE);
        assert!(broken.is_empty());
        assert_eq!(
            (counts.sent, counts.answered, counts.refused, counts.late),
            (1, 1, 1, 0)
        );
        let (broken, counts) = count(
            Told::Answered(Ok(Outcome::Allowed)),
            DEADLINE + Duration::from_millis(1),
        );
        assert_eq!((broken, counts.late, counts.allowed), (vec!["late"], 1, 1));
        let (broken, counts) = count(Told::Answered(Err(Breach::NotJson)), 2 * DEADLINE);
        assert_eq!(
            (broken, counts.answered, counts.allowed),
            (vec!["late", "not_json"], 1, 0)
        );
        let (broken, counts) = count(Told::NoAnswer("reset".to_owned()), DEADLINE);
        assert_eq!((broken, counts.sent, counts.answered), (vec!["no_answer"], 1, 0));
        let (broken, counts) = count(Told::Unsent, DEADLINE);
        assert_eq!((broken, counts.sent), (vec!["unsent"], 0));
    }
}

//! `rules test`: the examples beside the rules, run through the detector itself.

use std::fmt;

use portcullis_schema::settings::Place;

use crate::detector::Detector;
use crate::rules::{Example, Rule, Rules};

/// How an example ended. `Display` says it in a line.
#[derive(Clone, Debug)]
pub struct TestOutcome {
    /// The rule that it stands beside.
    pub rule: String,
    /// Where it stands.
    pub place: Place,
    /// The subjects that it expects to be denied, in canonical form, sorted; absent where it does not say.
    pub denied_expected: Option<Vec<String>>,
    /// The subjects that were denied.
    pub denied: Vec<String>,
    /// The subjects that it expects findings about; absent where it does not say.
    pub found_expected: Option<Vec<String>>,
    /// The subjects that there were findings about.
    pub found: Vec<String>,
}

impl Rules {
    /// Runs the examples that stand beside the rules, each through a detector of its own that knows only its rule.
    pub fn test(&self) -> Vec<TestOutcome> {
        let beside = |rule| Rule::examples(rule).iter().map(move |example| run(rule, example));
        self.iter().flat_map(beside).collect()
    }
}

impl TestOutcome {
    /// Whether it went as expected.
    pub fn passed(&self) -> bool {
        let told = [
            (&self.denied, &self.denied_expected),
            (&self.found, &self.found_expected),
        ];
        told.iter()
            .all(|(subjects, expected)| expected.as_ref().is_none_or(|expected| expected == *subjects))
    }
}

impl fmt::Display for TestOutcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.rule)?;
        if let Place::Line(line) = self.place {
            write!(formatter, ", test in line {line}")?;
        }
        if self.passed() {
            return formatter.write_str(": passed");
        }
        if let Some(expected) = &self.denied_expected {
            write!(formatter, ": denied {:?}, expected {expected:?}", self.denied)?;
        }
        match &self.found_expected {
            Some(expected) => write!(formatter, ": found {:?}, expected {expected:?}", self.found),
            None => Ok(()),
        }
    }
}

fn run(rule: &Rule, example: &Example) -> TestOutcome {
    let mut detector = Detector::new(&Rules::alone(rule));
    let (mut denied, mut found) = (Vec::new(), Vec::new());
    for record in example.records() {
        for hit in detector.observe_whole(&record) {
            let subject = hit.finding.subject.value;
            if hit.verdict.is_some() {
                denied.push(subject.clone());
            }
            found.push(subject);
        }
    }
    TestOutcome {
        rule: rule.name.to_string(),
        place: example.place.clone(),
        denied_expected: example.denied.clone().map(sorted),
        denied: sorted(denied),
        found_expected: example.found.clone().map(sorted),
        found: sorted(found),
    }
}

fn sorted(mut subjects: Vec<String>) -> Vec<String> {
    subjects.sort();
    subjects.dedup();
    subjects
}

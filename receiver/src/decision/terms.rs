use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, BuildError};
use portcullis_schema::AppId;

/// The terms that have a verdict, found inside a skeleton in one pass. Made anew when they change and swapped at once.
#[derive(Default)]
pub(super) struct Terms {
    automaton: Option<AhoCorasick>,
    /// By pattern: the term and the apps that have a verdict about it.
    patterns: Vec<(Box<str>, Vec<AppId>)>,
}

impl Terms {
    /// From skeletons, each with its app.
    pub(super) fn new(terms: &BTreeSet<(Box<str>, AppId)>) -> Result<Self, BuildError> {
        let mut patterns: Vec<(Box<str>, Vec<AppId>)> = Vec::new();
        for (term, app) in terms {
            match patterns.last_mut() {
                Some((last, apps)) if last == term => apps.push(*app),
                _ => patterns.push((term.clone(), vec![*app])),
            }
        }
        let automaton = match patterns.is_empty() {
            true => None,
            false => Some(AhoCorasick::new(patterns.iter().map(|(term, _)| term.as_bytes()))?),
        };
        Ok(Self { automaton, patterns })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Every term of `app` inside `skeleton`, once: a text may hold the same one thousands of times.
    pub(super) fn each_in(&self, app: AppId, skeleton: &str, mut visit: impl FnMut(&str)) {
        let Some(automaton) = &self.automaton else {
            return;
        };
        let mut seen = Seen::default();
        for found in automaton.find_overlapping_iter(skeleton) {
            let index = found.pattern().as_usize();
            let (term, apps) = &self.patterns[index];
            if seen.is_first(index, self.patterns.len()) && apps.contains(&app) {
                visit(term);
            }
        }
    }
}

/// A bit for each pattern; none as long as nothing is found, as in most texts.
#[derive(Default)]
struct Seen(Vec<u64>);

impl Seen {
    fn is_first(&mut self, index: usize, count: usize) -> bool {
        self.0.resize(count.div_ceil(64), 0);
        let (word, bit) = (&mut self.0[index / 64], 1 << (index % 64));
        let first = *word & bit == 0;
        *word |= bit;
        first
    }
}

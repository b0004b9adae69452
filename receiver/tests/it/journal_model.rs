use std::collections::{BTreeMap, BTreeSet};

use portcullis_receiver::journal::Journal;
use proptest::prelude::*;

use crate::scratch::{Scratch, append_all, eventually, noise, read_all};

#[derive(Clone, Debug)]
enum Step {
    Append { entries: usize, length: usize },
    Trim { share: u8 },
    Read { share: u8 },
    Reopen,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1usize..40, 0usize..3000).prop_map(|(entries, length)| Step::Append { entries, length }),
        2 => (0..=100u8).prop_map(|share| Step::Trim { share }),
        2 => (0..=100u8).prop_map(|share| Step::Read { share }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

/// What the journal must hold: every entry that was durable and is not trimmed, under its position.
#[derive(Default)]
struct Model {
    entries: BTreeMap<u64, Vec<u8>>,
    next: u64,
}

impl Model {
    /// Trimming goes on while this looks, and by whole blocks: what is read is right, and what must be there is read.
    fn check(&mut self, journal: &Journal) {
        assert_eq!(
            journal.next_position(),
            self.next,
            "positions are dense and never go back"
        );
        let before = journal.first_position();
        let read = read_all(journal, before);
        let after = journal.first_position();
        self.entries = self.entries.split_off(&before);
        for (position, entry) in &read {
            assert!(
                self.entries.get(position) == Some(entry),
                "the entry at {position} is another"
            );
        }
        let read: BTreeSet<u64> = read.iter().map(|(position, _)| *position).collect();
        let missing: Vec<u64> = self
            .entries
            .range(after..)
            .map(|(position, _)| *position)
            .filter(|position| !read.contains(position))
            .collect();
        assert!(
            missing.is_empty(),
            "of {before}.. and then {after}.. were not read: {missing:?}"
        );
    }

    fn at(&self, share: u8) -> u64 {
        self.next * u64::from(share) / 100
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_holds_what_was_durable_and_not_trimmed(steps in prop::collection::vec(step(), 1..25)) {
        // Segments of 128 KiB, so that they are given back and used again.
        let mut scratch = Scratch::with_bytes_max(8 << 20);
        let mut journal = scratch.open();
        let mut model = Model::default();
        let mut trimmed = 0;
        for step in steps {
            match step {
                Step::Append { entries, length } => {
                    let entries: Vec<_> = (0..entries as u64).map(|seed| noise(model.next + seed, length)).collect();
                    for (position, entry) in append_all(&journal, entries.clone()).into_iter().zip(entries) {
                        prop_assert_eq!(position, model.next);
                        model.entries.insert(position, entry);
                        model.next += 1;
                    }
                }
                Step::Trim { share } => {
                    trimmed = trimmed.max(model.at(share));
                    journal.trim(trimmed);
                    if trimmed == model.next {
                        eventually("all is trimmed", || journal.backlog_records() == 0);
                    }
                }
                Step::Read { share } => {
                    let from = model.at(share).max(journal.first_position());
                    for (position, entry) in read_all(&journal, from) {
                        prop_assert_eq!(model.entries.get(&position), Some(&entry));
                    }
                }
                Step::Reopen => {
                    journal.close();
                    journal = scratch.open();
                }
                Step::Crash => {
                    // The append makes sure that no trim is under way while the files are copied.
                    journal.trim(trimmed);
                    append_all(&journal, [Vec::new()]);
                    model.entries.insert(model.next, Vec::new());
                    model.next += 1;
                    let crashed = scratch.crash();
                    journal.close();
                    scratch = crashed;
                    journal = scratch.open();
                    prop_assert_eq!(journal.recovery().missing, 0);
                }
            }
            prop_assert!(journal.first_position() <= trimmed, "nothing is trimmed unasked");
            model.check(&journal);
        }
        journal.close();
    }
}

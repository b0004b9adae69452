use std::collections::BTreeMap;

use super::Span;

const CHUNK_NUMBERS: u64 = 4_096;
const WORDS: usize = 64;

/// A set of sequence numbers, a bit each, in chunks that are there where something was seen. A dense sequence costs an
/// eighth of a byte a number, a lone number the 550 bytes of its chunk: so the number of chunks bounds the memory,
/// whatever the numbers are. That is why it is no compressed bitmap of a library: none tells what it weighs.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(BTreeMap<u64, Box<[u64; WORDS]>>);

impl Seen {
    /// Whether it was not there before.
    pub(super) fn insert(&mut self, number: u64) -> bool {
        let (chunk, word, bit) = place(number);
        let words = self.0.entry(chunk).or_insert_with(|| Box::new([0; WORDS]));
        let new = words[word] & bit == 0;
        words[word] |= bit;
        new
    }

    /// Whether the number's chunk is there, so that inserting it costs nothing.
    pub(super) fn has_room_for(&self, number: u64) -> bool {
        self.0.contains_key(&place(number).0)
    }

    pub(super) fn chunks(&self) -> usize {
        self.0.len()
    }

    /// Forgets what is below `floor`; the chunk that it lies in stays whole.
    pub(super) fn drop_below(&mut self, floor: u64) {
        while let Some(first) = self.0.first_entry() {
            if *first.key() >= place(floor).0 {
                return;
            }
            first.remove();
        }
    }

    /// What is not in it, from `first` on and below `end`, in order.
    pub(super) fn holes(&self, first: u64, end: u64) -> impl Iterator<Item = Span> + '_ {
        let mut from = first;
        std::iter::from_fn(move || {
            let hole = self.next_where(from, false).filter(|hole| *hole < end)?;
            from = self.next_where(hole, true).unwrap_or(end).min(end);
            Some(Span {
                first: hole,
                last: from - 1,
            })
        })
    }

    /// The first number from `from` on that was seen, or was not.
    fn next_where(&self, from: u64, seen: bool) -> Option<u64> {
        let (first_chunk, first_word, first_bit) = place(from);
        let mut expected = first_chunk;
        for (chunk, words) in self.0.range(first_chunk..) {
            if !seen && *chunk != expected {
                break;
            }
            expected = chunk + 1;
            let start = if *chunk == first_chunk { first_word } else { 0 };
            for (word, bits) in words.iter().enumerate().skip(start) {
                let mut wanted = if seen { *bits } else { !bits };
                if (*chunk, word) == (first_chunk, first_word) {
                    wanted &= !(first_bit - 1);
                }
                if wanted != 0 {
                    let before = chunk * CHUNK_NUMBERS + word as u64 * 64;
                    return Some(before + u64::from(wanted.trailing_zeros()));
                }
            }
        }
        // The first number of the first chunk that is not there.
        let absent = || from.max(expected.saturating_mul(CHUNK_NUMBERS));
        (!seen).then(absent)
    }
}

fn place(number: u64) -> (u64, usize, u64) {
    let within = number % CHUNK_NUMBERS;
    // Both fit: 4,096 numbers are 64 words.
    (number / CHUNK_NUMBERS, (within / 64) as usize, 1 << (within % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{Seen, Span};

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![
            0_u64..300,
            4_000_u64..4_200,
            8_100_u64..8_300,
            (u64::MAX - 70)..=u64::MAX
        ]
    }

    proptest! {
        #[test]
        fn holes_are_all_that_was_not_seen(
            numbers in proptest::collection::vec(number(), 0..400), first in number(), length in 0_u64..5_000,
            dropped in 0_u64..9_000,
        ) {
            let end = first.saturating_add(length);
            let mut seen = Seen::default();
            let mut model = BTreeSet::new();
            for number in &numbers {
                prop_assert_eq!(seen.insert(*number), model.insert(*number));
            }
            seen.drop_below(dropped);
            let first = first.max(dropped);
            let holes: Vec<Span> = seen.holes(first, end).collect();
            let missing: Vec<u64> = holes.iter().flat_map(|hole| hole.first..=hole.last).collect();
            let expected: Vec<u64> = (first..end).filter(|number| !model.contains(number)).collect();
            prop_assert_eq!(missing, expected);
            prop_assert!(holes.windows(2).all(|pair| pair[0].last + 1 < pair[1].first), "joined: {:?}", holes);
        }
    }

    #[test]
    fn a_hole_of_all_numbers_is_one_step() {
        let mut seen = Seen::default();
        seen.insert(7);
        let holes: Vec<Span> = seen.holes(0, u64::MAX).collect();
        let last = u64::MAX - 1;
        assert_eq!(holes, [Span { first: 0, last: 6 }, Span { first: 8, last }]);
    }
}

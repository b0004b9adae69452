//! How names are compared: by what a person sees, not by the code points.

use unicode_normalization::UnicodeNormalization;
use unicode_security::confusable_detection;

/// What is folded of a name, in characters. Group names are at most 30 bytes; for topic names no limit is documented,
/// and 4,096 characters fold in about 200 us, so a hostile name cannot hold up a decision.
pub const FOLDED_CHARS_MAX: usize = 4_096;

/// Rounds until nothing changes any more. No single character of Unicode needs more than three (tested).
const ROUNDS_MAX: usize = 4;

/// The skeleton of a name: two names that look alike have the same one, and a skeleton's skeleton is itself.
///
/// Compatibility forms are unified (NFKC), invisible characters removed, case dropped, look-alikes mapped to one
/// prototype (Unicode TS 39), blanks collapsed. The prototypes rewrite plain ASCII too (`m` becomes `rn`), so a
/// skeleton is only ever compared with a skeleton. `i` and `l` become one: the prototypes unite capital I, l and 1,
/// but dropping case first would take capital I to i.
pub fn skeleton(name: &str) -> String {
    let mut folded: String = name.chars().take(FOLDED_CHARS_MAX).collect();
    for _ in 0..ROUNDS_MAX {
        let next = fold(&folded);
        if next == folded {
            break;
        }
        folded = next;
    }
    folded
}

fn fold(text: &str) -> String {
    let lower: String = text.nfkc().flat_map(char::to_lowercase).collect();
    let mut folded = String::with_capacity(lower.len());
    let mut blank_before = true;
    for character in confusable_detection::skeleton(&lower).flat_map(char::to_lowercase) {
        let blank = character.is_whitespace();
        if blank && blank_before {
            continue;
        }
        blank_before = blank;
        folded.push(match character {
            _ if blank => ' ',
            'i' => 'l',
            other => other,
        });
    }
    folded.truncate(folded.trim_end().len());
    folded
}

#[cfg(test)]
mod tests {
    use super::skeleton;
    use proptest::prelude::*;

    #[test]
    fn names_that_look_alike_have_one_skeleton() {
        for (name, alike) in [
            ("paypal", "PayPaI"),
            ("paypal", "раураl"), // Cyrillic
            ("ADMIN", "admin"),
            ("Free Coins", "  free\u{200b}  co\u{00ad}ins "),
            ("win100", "ｗｉｎ１００"), // full width
            ("modern", "rnodern"),
        ] {
            assert_eq!(skeleton(name), skeleton(alike), "{name} and {alike}");
        }
        assert_ne!(skeleton("cats"), skeleton("dogs"));
        assert_ne!(skeleton("频道"), skeleton("頻道二"));
    }

    #[test]
    fn a_name_of_invisible_characters_only_has_an_empty_skeleton() {
        assert_eq!(skeleton("\u{200b}\u{2060} \u{feff}"), "");
    }

    #[test]
    fn every_character_folds_to_an_end() {
        for character in '\0'..=char::MAX {
            let once = skeleton(character.encode_utf8(&mut [0; 4]));
            assert_eq!(super::fold(&once), once, "U+{:04X}", u32::from(character));
        }
    }

    proptest! {
        #[test]
        fn a_skeleton_of_a_skeleton_is_itself(name in "\\PC{0,40}") {
            let once = skeleton(&name);
            prop_assert_eq!(skeleton(&once), once);
        }
    }
}

//! How names are compared: by what a person sees, not by the code points.

include!(concat!(env!("OUT_DIR"), "/characters.rs"));

/// What is folded of a text, in bytes, of it or of its skeleton, whichever are more. A message has at most 12 KiB, which
/// unfold to 120 KiB where they are ligatures of whole sentences. This many take half a millisecond at the most, whatever
/// stands in them.
pub const FOLDED_BYTES_MAX: usize = 128 << 10;

/// Marks of one letter that are brought into their order: more than any language has, as many as the stream-safe text
/// format of UAX 15 allows.
const MARKS_MAX: usize = 30;

/// The skeleton of a name: two names that look alike have the same one, and a skeleton's skeleton is itself.
///
/// Compatibility forms are unified (NFKC), invisible and control characters removed, case dropped, look-alikes mapped to one
/// prototype (Unicode TS 39), blanks collapsed. The prototypes rewrite plain ASCII too (`m` becomes `rn`), so a
/// skeleton is only ever compared with a skeleton. `i` and `l` become one: the prototypes unite capital I, l and 1,
/// but dropping case first would take capital I to i.
pub fn skeleton(name: &str) -> String {
    skeleton_within(name, &mut FOLDED_BYTES_MAX.clone())
}

/// The same for one of several texts that have so many bytes in common, counted as for [`FOLDED_BYTES_MAX`]. None are left
/// where a text had more: then its end is not in the skeleton.
pub fn skeleton_within(text: &str, bytes_left: &mut usize) -> String {
    let mut skeleton = Skeleton::with_capacity(text.len().min(*bytes_left));
    for character in text.chars() {
        let entry = Entry::of(character);
        let bytes = character.len_utf8().max(entry.text().map_or(0, str::len));
        let Some(left) = bytes_left.checked_sub(bytes) else {
            *bytes_left = 0;
            break;
        };
        *bytes_left = left;
        match entry.text() {
            None => skeleton.push(character, entry.class()),
            Some("") => {}
            Some(text) if entry.is_mark() => skeleton.push_mark(text, class_of(character)),
            Some(text) if entry.is_mixed() => {
                for part in text.chars() {
                    skeleton.push(part, Entry::of(part).class());
                }
            }
            Some(text) => skeleton.push_plain(text),
        }
    }
    skeleton.finish()
}

/// What `build.rs` found out of a character: it stays as it is, with its canonical combining class in the lowest bits,
/// or a text stands for it.
#[derive(Clone, Copy)]
struct Entry(u32);

impl Entry {
    fn of(character: char) -> Self {
        let code = u32::from(character) as usize;
        Self(PAGES[usize::from(INDEX[code >> 8])][code & 0xff])
    }

    fn text(self) -> Option<&'static str> {
        let (length, offset) = ((self.0 >> 22 & 0xff) as usize, (self.0 & 0x1f_ffff) as usize);
        (self.0 >> 31 == 1).then(|| &TEXTS[offset..offset + length])
    }

    /// Whether its text has marks or blanks.
    fn is_mixed(self) -> bool {
        self.0 >> 30 & 1 == 1
    }

    /// Whether a text stands for a mark.
    fn is_mark(self) -> bool {
        self.0 >> 21 & 1 == 1
    }

    /// Of a character that stays as it is; 0: no mark.
    fn class(self) -> u8 {
        self.0 as u8
    }
}

/// The canonical combining class of a mark that a text stands for.
fn class_of(mark: char) -> u8 {
    let found = MARKS.binary_search_by_key(&mark, |(known, _)| *known);
    found.map_or(0, |index| MARKS[index].1)
}

/// Of folded characters, one after the other.
struct Skeleton {
    folded: String,
    /// That follow the last letter.
    marks: Vec<Mark>,
    /// Whether a blank comes before what follows.
    blank: bool,
}

struct Mark {
    character: char,
    class: u8,
    /// Of the mark that this one stands for.
    original: u8,
}

impl Skeleton {
    fn with_capacity(bytes: usize) -> Self {
        Self {
            folded: String::with_capacity(bytes),
            marks: Vec::new(),
            blank: false,
        }
    }

    fn push(&mut self, character: char, class: u8) {
        if class != 0 {
            self.add_mark(Mark {
                character,
                class,
                original: class,
            });
            return;
        }
        self.end_letter();
        if character == ' ' {
            self.blank = !self.folded.is_empty();
        } else {
            self.end_blank();
            self.folded.push(character);
        }
    }

    /// What stands for a mark; of another class, or a letter.
    fn push_mark(&mut self, text: &str, original: u8) {
        for character in text.chars() {
            let class = Entry::of(character).class();
            self.add_mark(Mark {
                character,
                class,
                original,
            });
        }
    }

    fn add_mark(&mut self, mark: Mark) {
        if self.marks.len() == MARKS_MAX {
            self.end_letter();
        }
        self.marks.push(mark);
    }

    fn push_plain(&mut self, text: &str) {
        self.end_letter();
        self.end_blank();
        self.folded.push_str(text);
    }

    fn end_letter(&mut self) {
        if self.marks.is_empty() {
            return;
        }
        self.end_blank();
        // Both stable: of one class the order means something.
        self.marks.sort_by_key(|mark| mark.original);
        for marks in self.marks.chunk_by_mut(|_, next| next.class != 0) {
            marks.sort_by_key(|mark| mark.class);
        }
        self.folded.extend(self.marks.drain(..).map(|mark| mark.character));
    }

    fn end_blank(&mut self) {
        if std::mem::take(&mut self.blank) {
            self.folded.push(' ');
        }
    }

    fn finish(mut self) -> String {
        self.end_letter();
        self.folded
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization;
    use unicode_security::confusable_detection;

    use super::{FOLDED_BYTES_MAX, skeleton, skeleton_within};

    fn is_unseen(character: char) -> bool {
        matches!(character, '\0'..='\x08' | '\x0e'..='\x1f' | '\x7f'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{fff9}'..='\u{fffb}')
    }

    /// The same by the libraries' own words, for the whole text and until nothing changes any more.
    fn by_the_libraries(text: &str) -> String {
        let seen = text.nfkc().filter(|character| !is_unseen(*character));
        let lower: String = seen.flat_map(char::to_lowercase).collect();
        let folded: String = confusable_detection::skeleton(&lower)
            .flat_map(char::to_lowercase)
            .map(|character| if character == 'i' { 'l' } else { character })
            .collect();
        let words: Vec<&str> = folded.split_whitespace().collect();
        let once = words.join(" ");
        match once == text {
            true => once,
            false => by_the_libraries(&once),
        }
    }

    #[test]
    fn names_that_look_alike_have_one_skeleton() {
        for (name, alike) in [
            ("paypal", "PayPaI"),
            ("paypal", "раураl"), // Cyrillic
            ("ADMIN", "admin"),
            ("Free Coins", "  free\u{200b}  co\u{00ad}ins "),
            ("win100", "ｗｉｎ１００"), // full width
            ("modern", "rnodern"),
            ("Free Coins", "F\0ree\x1b C\x7foins\u{fff9}"),
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
    fn every_character_is_folded_as_the_libraries_say_and_to_an_end() {
        for character in '\0'..=char::MAX {
            let once = skeleton(character.encode_utf8(&mut [0; 4]));
            let code = u32::from(character);
            assert_eq!(once, by_the_libraries(&character.to_string()), "U+{code:04X}");
            assert_eq!(skeleton(&once), once, "U+{code:04X}");
        }
    }

    #[test]
    fn what_is_folded_is_bounded_and_what_was_left_out_is_told() {
        for filler in [
            "a",
            "m",
            "\u{fdfa}",
            "\u{200b}",
            "a\u{301}\u{316}",
            "\u{316}\u{301}",
            " ",
        ] {
            let (mut left, mut small) = (FOLDED_BYTES_MAX, 100);
            let long = filler.repeat(2 * FOLDED_BYTES_MAX);
            assert!(
                skeleton_within(&long, &mut left).len() <= FOLDED_BYTES_MAX,
                "{filler:?}"
            );
            assert_eq!(left, 0, "{filler:?}");
            assert!(skeleton_within(&long, &mut small).len() <= 100, "{filler:?}");
            assert_eq!(skeleton_within("b", &mut small), "", "nothing is left for others");
        }
        let hidden = "\u{200b}".repeat(4_096) + "red packet";
        assert_eq!(skeleton(&hidden), skeleton("red packet"));
    }

    proptest! {
        #[test]
        fn a_skeleton_of_a_skeleton_is_itself(name in "\\PC{0,40}") {
            let once = skeleton(&name);
            prop_assert_eq!(skeleton(&once), once);
        }

        #[test]
        fn a_text_is_folded_as_the_libraries_say(text in "([aAiIlm1 é]|\u{301}|\u{316}|\u{200b}|\u{a8}|\u{1100}|\u{1161}|\u{11a8}|ﷺ|\\p{M}|\\p{L}|\\PC){0,12}") {
            prop_assert_eq!(skeleton(&text), by_the_libraries(&text));
        }
    }
}

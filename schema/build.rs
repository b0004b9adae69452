//! Makes the table of `src/text.rs`: for every character of Unicode what is compared of it, by the two libraries that
//! know. Made here and not at start, where it would take a second, nor for each name: a character took 100 to 400 ns, so
//! that a message of a few KiB held up a decision for milliseconds.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs, io};

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::canonical_combining_class;
use unicode_security::confusable_detection;

const PAGE: usize = 256;
/// See `Entry` in `src/text.rs`, which takes them apart again.
const IS_TEXT: u32 = 1 << 31;
const IS_MIXED: u32 = 1 << 30;
const LENGTH_SHIFT: u32 = 22;
const IS_MARK: u32 = 1 << 21;
const OFFSET_MAX: usize = 1 << 21;
const LENGTH_MAX: usize = 1 << 8;

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    let mut table = Table {
        pages: vec![[0; PAGE]], // of characters that stay as they are: most
        index: Vec::new(),
        texts: String::new(),
        marks: Vec::new(),
    };
    for first in (0..=u32::from(char::MAX)).step_by(PAGE) {
        let page: Vec<u32> = (first..first + PAGE as u32).map(|code| table.entry(code)).collect();
        table.put(&page);
    }
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    fs::write(Path::new(&out).join("characters.rs"), table.source())
}

struct Table {
    pages: Vec<[u32; PAGE]>,
    index: Vec<usize>,
    texts: String,
    /// The classes of marks that a text stands for, in their order.
    marks: Vec<(char, u8)>,
}

impl Table {
    fn entry(&mut self, code: u32) -> u32 {
        let Some(character) = char::from_u32(code) else {
            return 0;
        };
        let own = character.to_string();
        let folded = folded(&own);
        let class = canonical_combining_class(character);
        if folded == own {
            return u32::from(class);
        }
        if class != 0 {
            self.marks.push((character, class));
        }
        let mixed = folded
            .chars()
            .any(|part| part == ' ' || canonical_combining_class(part) != 0);
        let offset = self.texts.find(&folded).unwrap_or_else(|| {
            self.texts.push_str(&folded);
            self.texts.len() - folded.len()
        });
        assert!(
            offset < OFFSET_MAX && folded.len() < LENGTH_MAX,
            "U+{code:04X} has its place"
        );
        let flags = [(true, IS_TEXT), (mixed, IS_MIXED), (class != 0, IS_MARK)];
        let flags = flags
            .iter()
            .filter(|(holds, _)| *holds)
            .map(|(_, flag)| flag)
            .sum::<u32>();
        flags | (folded.len() as u32) << LENGTH_SHIFT | offset as u32
    }

    fn put(&mut self, page: &[u32]) {
        let known = self.pages.iter().position(|known| known == page);
        self.index.push(known.unwrap_or_else(|| {
            let mut entries = [0; PAGE];
            entries.copy_from_slice(page);
            self.pages.push(entries);
            self.pages.len() - 1
        }));
    }

    fn source(&self) -> String {
        let mut source = String::new();
        let written = [
            write!(source, "static INDEX: [u16; {}] = {:?};", self.index.len(), self.index),
            write!(
                source,
                "static PAGES: [[u32; {PAGE}]; {}] = {:?};",
                self.pages.len(),
                self.pages
            ),
            write!(source, "static TEXTS: &str = {:?};", self.texts),
            write!(
                source,
                "static MARKS: [(char, u8); {}] = {:?};",
                self.marks.len(),
                self.marks
            ),
        ];
        assert!(written.iter().all(Result::is_ok), "a String takes everything");
        source
    }
}

/// Nobody sees them, though Unicode does not count them among what may be ignored: control characters that are no blanks,
/// and the three of interlinear annotation. A name with a NUL in it would pass for another one.
fn is_unseen(character: char) -> bool {
    let control = character.is_control() && !character.is_whitespace();
    control || matches!(character, '\u{fff9}'..='\u{fffb}')
}

/// Until nothing changes any more, as the prototype of a character may have a compatibility form or a capital itself.
fn folded(text: &str) -> String {
    let seen = text.nfkc().filter(|character| !is_unseen(*character));
    let lower: String = seen.flat_map(char::to_lowercase).collect();
    let once: String = confusable_detection::skeleton(&lower)
        .flat_map(char::to_lowercase)
        .map(|character| match character {
            _ if character.is_whitespace() => ' ',
            'i' => 'l',
            other => other,
        })
        .collect();
    match once == text {
        true => once,
        false => folded(&once),
    }
}

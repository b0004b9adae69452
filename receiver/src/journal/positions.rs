//! How far the journal was trimmed and written, in a small file beside it. What damage takes from the store, it cannot
//! tell itself; this can. Written after each commit and never synced: after `kill -9` it is exact, after power loss
//! it may be older, by what the system had not written back.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Position;

/// All entries before `first` were trimmed, all before `next` were durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Positions {
    pub(super) first: Position,
    pub(super) next: Position,
}

/// The file, while the journal is open.
pub(super) struct PositionsFile {
    file: Option<File>,
    written: Positions,
}

impl Positions {
    /// What the former start knew; `None` where there was none, or where the file is damaged.
    pub(super) fn read(journal: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(path_beside(journal)).ok()?)
    }

    /// Twice, so that one that is torn or altered is not believed. Of one length, so that it is overwritten in place.
    fn line(self) -> String {
        let Self { first, next } = self;
        format!("{first:020} {next:020} {first:020} {next:020}\n")
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let mut number = || words.next()?.parse().ok();
        let known = Self {
            first: number()?,
            next: number()?,
        };
        (known.line() == line && known.first <= known.next).then_some(known)
    }
}

impl PositionsFile {
    pub(super) fn closed() -> Self {
        Self {
            file: None,
            written: Positions::default(),
        }
    }

    /// Without it the journal works as well, so a disk that refuses it is no failure.
    pub(super) fn write(&mut self, journal: &Path, positions: Positions) {
        if self.file.is_some() && self.written == positions {
            return;
        }
        let written = self
            .opened(journal)
            .and_then(|file| file.write_all_at(positions.line().as_bytes(), 0));
        match written {
            Ok(()) => self.written = positions,
            Err(error) => {
                self.file = None;
                tracing::debug!(%error, "the journal's positions cannot be written");
            }
        }
    }

    fn opened(&mut self, journal: &Path) -> io::Result<&File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path_beside(journal))?,
        };
        Ok(self.file.insert(file))
    }
}

/// `journal` becomes `journal.positions`.
fn path_beside(journal: &Path) -> PathBuf {
    let mut name = journal.file_name().unwrap_or_default().to_owned();
    name.push(".positions");
    journal.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_believed_only_where_nothing_is_torn_or_altered() {
        let positions = Positions { first: 7, next: 1_234 };
        let line = positions.line();
        assert_eq!(Positions::parse(&line), Some(positions));

        for place in 0..line.len() {
            assert_eq!(Positions::parse(&line[..place]), None, "torn at {place}");
            let mut altered = line.clone().into_bytes();
            altered[place] ^= 1;
            let altered = String::from_utf8(altered).expect("ASCII");
            assert_eq!(Positions::parse(&altered), None, "altered at {place}");
        }
        assert_eq!(Positions::parse(&Positions { first: 9, next: 8 }.line()), None);
    }
}

//! A directory of a test's own, a journal in it, and waiting with a deadline.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portcullis_receiver::journal::{Append, AppendError, Durability, Journal, Options, Position};

/// Far beyond what anything here takes, also on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Scratch {
    directory: tempfile::TempDir,
    bytes_max: u64,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self::with_bytes_max(1 << 30)
    }

    pub(crate) fn with_bytes_max(bytes_max: u64) -> Self {
        Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
            bytes_max,
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("journal")
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            directory: self.path(),
            bytes_max: self.bytes_max,
            durability: Durability::Process,
        }
    }

    pub(crate) fn open(&self) -> Journal {
        Journal::open(self.options()).expect("the journal opens")
    }

    /// The journal's segments that hold something, the newest last.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.path()).expect("read");
        let mut segments: Vec<_> = files.map(|entry| entry.expect("entry").path()).collect();
        segments.retain(|path| path.extension().is_some_and(|end| end == "segment"));
        segments.retain(|path| path.metadata().is_ok_and(|metadata| metadata.len() > 0));
        segments.sort();
        segments
    }

    /// The file beside the journal that remembers its positions.
    pub(crate) fn positions(&self) -> PathBuf {
        self.path().with_extension("positions")
    }

    /// What a crash leaves: the files as they are now, while the journal is open and nothing is appended or trimmed. The
    /// positions first: in a copy they may be older than the rest, as in a crash, but never newer.
    pub(crate) fn crash(&self) -> Self {
        let crashed = Self::with_bytes_max(self.bytes_max);
        if self.positions().exists() {
            copy_file(&self.positions(), &crashed.positions());
        }
        copy(&self.path(), &crashed.path());
        crashed
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create");
    for entry in fs::read_dir(from).expect("read") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            copy_file(&entry.path(), &target);
        }
    }
}

/// The journal takes files away and gives them other names meanwhile: one that is gone holds nothing that is needed.
fn copy_file(from: &Path, to: &Path) {
    match fs::copy(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        copied => drop(copied.expect("copied")),
    }
}

pub(crate) fn written(append: Append) -> Result<Position, AppendError> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("runtime")
        .block_on(append)
}

/// Appends all and waits until the last is durable.
pub(crate) fn append_all(journal: &Journal, entries: impl IntoIterator<Item = Vec<u8>>) -> Vec<Position> {
    let appends: Vec<Append> = entries.into_iter().map(|entry| journal.append(entry)).collect();
    appends
        .into_iter()
        .map(|append| written(append).expect("written"))
        .collect()
}

/// Everything from `from` to the end.
pub(crate) fn read_all(journal: &Journal, from: Position) -> Vec<(Position, Vec<u8>)> {
    let mut entries = Vec::new();
    let mut from = from;
    while let Some(block) = journal.read(from).expect("readable") {
        assert!(block.first() >= from, "blocks come in order");
        entries.extend(block.entries().map(|(position, entry)| (position, entry.to_vec())));
        from = block.end();
    }
    entries
}

/// How many positions are lost: those without a block that were never trimmed, as a reader meets them.
pub(crate) fn lost(journal: &Journal) -> u64 {
    let read = read_all(journal, journal.first_position());
    let from = journal.first_position().max(journal.recovery().trimmed_before);
    let there = read.iter().filter(|(position, _)| *position >= from).count() as u64;
    journal.next_position().saturating_sub(from) - there
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes that do not compress, so that space on disk can be counted.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    std::iter::repeat_with(|| step().to_le_bytes())
        .flatten()
        .take(length)
        .collect()
}

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use portcullis_schema::{AuditRecord, LedgerEntry, Uuid};
use tracing::warn;

use crate::entry::{Entry, Kind};
use crate::journal::Journal;

/// As many starts as may lie within the half minute in which a boot counts as alive, at one every two seconds.
const BOOTS_MAX: usize = 16;

/// The boots that lived on this data before, and how far the last one came.
#[derive(Debug)]
pub(crate) struct Former {
    file: PathBuf,
    /// The newest last.
    boots: VecDeque<Uuid>,
    next_seq: Option<u64>,
}

impl Former {
    /// From the file at `file`, a boot in each line, and from the end of what the journal still holds.
    pub(crate) fn read(file: PathBuf, journal: &Journal) -> Self {
        let boots = match fs::read_to_string(&file) {
            Ok(text) => text.lines().filter_map(|line| line.parse().ok()).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => VecDeque::new(),
            Err(error) => {
                warn!(file = %file.display(), %error, "the former boots cannot be read");
                VecDeque::new()
            }
        };
        let mut former = Self {
            file,
            boots,
            next_seq: None,
        };
        if let Some((boot, next_seq)) = last_of(journal) {
            former.next_seq = Some(next_seq);
            if former.last_boot() != Some(boot) {
                former.boots.push_back(boot);
            }
        }
        former
    }

    /// The boot before this one.
    pub(crate) fn last_boot(&self) -> Option<Uuid> {
        self.boots.back().copied()
    }

    /// The number that it would have given next, where the journal still holds the end of it.
    pub(crate) fn next_seq(&self) -> Option<u64> {
        self.next_seq
    }

    /// Every boot that is known to have lived here.
    pub(crate) fn boots(&self) -> impl Iterator<Item = Uuid> {
        self.boots.iter().copied()
    }

    /// Adds the boot that begins. A disk that refuses it costs no more than a wait at a next start.
    pub(crate) fn remember(&self, boot: Uuid) {
        let skipped = (self.boots.len() + 1).saturating_sub(BOOTS_MAX);
        let boots = self.boots().chain([boot]).skip(skipped);
        let lines: String = boots.map(|boot| format!("{boot}\n")).collect();
        if let Err(error) = replace(&self.file, lines.as_bytes()) {
            warn!(file = %self.file.display(), %error, "this boot cannot be remembered");
        }
    }
}

/// At once: a crash in the middle leaves the former content.
fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = file.with_extension("unfinished");
    let mut new = File::create(&unfinished)?;
    new.write_all(content)?;
    new.sync_all()?;
    fs::rename(&unfinished, file)
}

/// The boot of the journal's last entry, and the number after its own.
fn last_of(journal: &Journal) -> Option<(Uuid, u64)> {
    let block = journal.last_block().ok().flatten()?;
    let (_, bytes) = block.entries().last()?;
    let entry = Entry::decode(bytes).ok()?;
    match entry.kind {
        Kind::Record => {
            let record = AuditRecord::decode(&entry.payload).ok()?;
            Some((record.boot, record.seq + 1))
        }
        Kind::Ledger => {
            let entry = LedgerEntry::decode(&entry.payload).ok()?;
            Some((entry.boot, entry.next_seq))
        }
    }
}

//! fjall takes the first thing in its log that it cannot parse for the end of it, cuts the rest off, and says nothing.
//! After a torn write that is right; after damage in the middle it loses records. The length tells that it happened.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// How far each log was written before fjall opened it. Logs are preallocated with zeros.
pub(super) struct Logs(Vec<(PathBuf, u64)>);

impl Logs {
    /// What cannot be read has no end here; fjall itself will say what it thinks of it.
    pub(super) fn measure(directory: &Path) -> Self {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let logs = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "jnl"));
        Self(
            logs.filter_map(|path| written_end(&path).ok().map(|end| (path, end)))
                .collect(),
        )
    }

    /// Bytes that were there and are not any more. A log that is gone was flushed, whole.
    pub(super) fn cut_bytes(&self) -> u64 {
        let cut = |(path, end): &(PathBuf, u64)| path.metadata().map_or(0, |now| end.saturating_sub(now.len()));
        self.0.iter().map(cut).sum()
    }
}

/// The place after the last byte that is not zero.
fn written_end(path: &Path) -> io::Result<u64> {
    const CHUNK: u64 = 64 << 10;
    // Compared as a whole, because up to 64 MiB of zeros stand between a restart and its first answer.
    static ZEROS: [u8; CHUNK as usize] = [0; CHUNK as usize];
    let mut file = File::open(path)?;
    let mut end = file.metadata()?.len();
    let mut chunk = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        chunk.clear();
        file.seek(SeekFrom::Start(start))?;
        (&mut file).take(end - start).read_to_end(&mut chunk)?;
        if chunk != ZEROS[..chunk.len()]
            && let Some(last) = chunk.iter().rposition(|byte| *byte != 0)
        {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

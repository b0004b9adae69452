use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use portcullis_schema::{Timestamp, Verdict};
use serde::{Deserialize, Serialize};

/// An older one is not used. Kafka keeps a lifted verdict's null for a day (`delete.retention.ms`); behind that, a
/// snapshot could hold what was lifted for ever. An hour is also what a moderator would still call up to date.
const AGE_MAX: Duration = Duration::from_secs(3_600);

/// What memory held at a moment: a line of header, then a line for each verdict, each as it stands in the topic less
/// what only people read.
pub(super) struct Snapshot {
    pub(super) taken_at: Timestamp,
    pub(super) next: Vec<i64>,
    pub(super) verdicts: Vec<Verdict>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    topic: String,
    taken_at: Timestamp,
    /// For each partition, the next offset to read.
    next: Vec<i64>,
}

impl Snapshot {
    /// The snapshot of `topic` at `path`; `None` where there is none that is young enough at `now`.
    pub(super) fn load(path: &Path, topic: &str, now: Timestamp) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut lines = BufReader::new(file).lines();
        let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        let header: Header = serde_json::from_str(&first)?;
        let age = now.since(header.taken_at);
        if header.topic != topic || age > AGE_MAX || header.taken_at > now.after(AGE_MAX) {
            return Ok(None);
        }
        let mut verdicts = Vec::new();
        for line in lines {
            verdicts.push(Verdict::decode(line?.as_bytes()).map_err(io::Error::other)?);
        }
        Ok(Some(Self {
            taken_at: header.taken_at,
            next: header.next,
            verdicts,
        }))
    }

    /// Replaces the snapshot at `path` at once: a crash in the middle leaves the former one.
    pub(super) fn save(
        path: &Path,
        topic: &str,
        next: &[i64],
        taken_at: Timestamp,
        verdicts: impl Iterator<Item = Verdict>,
    ) -> io::Result<()> {
        let unfinished = path.with_extension("unfinished");
        let mut file = BufWriter::new(File::create(&unfinished)?);
        let header = Header {
            topic: topic.to_owned(),
            taken_at,
            next: next.to_vec(),
        };
        serde_json::to_writer(&mut file, &header)?;
        for verdict in verdicts {
            file.write_all(b"\n")?;
            serde_json::to_writer(&mut file, &verdict)?;
        }
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&unfinished, path)
    }
}

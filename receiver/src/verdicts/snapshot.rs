//! What memory held at a moment, in a file, so that a restart need not read the whole topic: a million verdicts are read
//! in less than a second.
//!
//! Layout: chunks, each a length and a CRC-32 (4 bytes each, big-endian) and as many bytes: first JSON ([`Header`]), then
//! postcard ([`Chunk`]); the last one is empty. What verdicts have in common stands once in each chunk, and by name, so
//! that another version reads the same or says that it does not. A file that is cut or altered is not used.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use portcullis_schema::{AppId, Effect, Source, Subject, SubjectKind, Timestamp, Uuid};
use serde::{Deserialize, Serialize};

use super::landmark::Landmark;
use crate::decision::{Decisions, Held, Keeper, Ruling};

/// An older one is not used. Kafka keeps a lifted verdict's null for a day (`delete.retention.ms`); behind that, a
/// snapshot could hold what was lifted for ever. An hour is also what a moderator would still call up to date.
const AGE_MAX: Duration = Duration::from_secs(3_600);
/// How far apart the clocks of before and now may be, as when it was set back a little; more is an error somewhere, and its
/// age is not known.
const AHEAD_MAX: Duration = Duration::from_secs(60);
/// Of the layout.
const VERSION: u32 = 3;
/// Verdicts in one chunk, some 300 KiB.
const CHUNK_VERDICTS: usize = 4_096;
/// A chunk of the longest subjects and texts; a length beyond it is damage.
const CHUNK_BYTES_MAX: usize = 32 << 20;
/// Chunks that are decoded before they are put in force: 1 MiB, so that neither thread waits for the other for long.
const CHUNKS_AHEAD: usize = 4;

/// What a loaded snapshot held.
pub(super) struct Loaded {
    pub(super) taken_at: Timestamp,
    pub(super) place: Place,
    pub(super) verdicts: u64,
}

/// Where in which topic that ends which memory held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) topic: String,
    /// For each partition, the next offset to read.
    pub(super) next: Vec<i64>,
    /// For each partition, what tells whether the topic is still the same.
    pub(super) landmarks: Vec<Option<Landmark>>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    taken_at: Timestamp,
    #[serde(flatten)]
    place: Place,
    /// About so many.
    verdicts: u64,
}

impl Header {
    /// Why what follows does not tell of `topic` as it was not long before `now`.
    fn is_of_no_use(&self, topic: &str, now: Timestamp) -> Option<String> {
        let (age, ahead) = (now.since(self.taken_at), self.taken_at.since(now));
        if self.place.topic != topic {
            return Some(format!("it is of topic {:?}", self.place.topic));
        }
        if age > AGE_MAX {
            return Some(format!("it is {age:.0?} old, and may be at most {AGE_MAX:?}"));
        }
        (ahead > AHEAD_MAX).then(|| format!("it is of {ahead:.0?} after now, so its age is not known"))
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Chunk<'a> {
    /// Each as JSON.
    rulings: Vec<String>,
    #[serde(borrow)]
    verdicts: Vec<Standing<'a>>,
}

#[derive(Serialize, Deserialize)]
struct Standing<'a> {
    app: u64,
    kind: &'a str,
    value: std::borrow::Cow<'a, str>,
    id: [u8; 16],
    expires_at: Option<i64>,
    /// Its place in the chunk.
    ruling: u32,
}

/// A chunk that was read on another core.
struct Decoded {
    rulings: Vec<Ruling>,
    /// Each with the place of its ruling.
    verdicts: Vec<(AppId, Subject, Uuid, Option<Timestamp>, usize)>,
}

#[derive(Serialize, Deserialize)]
struct Said {
    effect: Effect,
    source: Source,
    code: Option<u32>,
    text: String,
    rule: Option<String>,
    commands: Vec<String>,
}

/// Puts the snapshot of `topic` at `path` in force; `None` where there is no file. An error says why it is not used: also
/// where it is of another topic or not young enough at `now`. A part of it may be in force then: the topic replaces it,
/// since it is read from its beginning.
pub(super) fn load(path: &Path, topic: &str, now: Timestamp, keeper: &mut Keeper) -> io::Result<Option<Loaded>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut bytes = Vec::new();
    read_chunk(&mut file, &mut bytes)?;
    let header: Header = serde_json::from_slice(&bytes)?;
    if header.version != VERSION {
        return Err(io::Error::other(format!(
            "it is of version {}, this is {VERSION}",
            header.version
        )));
    }
    if let Some(reason) = header.is_of_no_use(topic, now) {
        return Err(io::Error::other(reason));
    }
    keeper.expect(header.verdicts);
    let verdicts = thread::scope(|scope| {
        let (sender, chunks) = sync_channel(CHUNKS_AHEAD);
        scope.spawn(move || {
            // Whoever does not want it any more has met an error.
            while let Some(chunk) = next_chunk(&mut file, &mut bytes).transpose()
                && sender.send(chunk).is_ok()
            {}
        });
        let mut verdicts = 0;
        for chunk in chunks {
            verdicts += put_chunk(chunk?, now, keeper);
        }
        io::Result::Ok(verdicts)
    })?;
    Ok(Some(Loaded {
        taken_at: header.taken_at,
        place: header.place,
        verdicts,
    }))
}

/// False at the end.
fn read_chunk(file: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut head = [0; 8];
    file.read_exact(&mut head)?;
    let [length, checksum] =
        [&head[..4], &head[4..]].map(|part| part.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)));
    let length = length as usize;
    if length > CHUNK_BYTES_MAX {
        return Err(io::Error::other("it is damaged, or of an older version"));
    }
    bytes.resize(length, 0);
    file.read_exact(bytes)?;
    if crc32fast::hash(bytes) != checksum {
        return Err(io::Error::other("it is damaged"));
    }
    Ok(length > 0)
}

/// `None` at the end.
fn next_chunk(file: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<Option<Decoded>> {
    if !read_chunk(file, bytes)? {
        return Ok(None);
    }
    let chunk: Chunk<'_> = postcard::from_bytes(bytes).map_err(io::Error::other)?;
    let rulings = chunk.rulings.iter().map(|json| {
        let said: Said = serde_json::from_str(json)?;
        let kind = (said.effect, said.source);
        Ok(Ruling::new(
            kind,
            said.code,
            &said.text,
            said.rule.as_deref(),
            &said.commands,
        ))
    });
    let rulings: Vec<Ruling> = rulings.collect::<io::Result<_>>()?;
    let verdicts = chunk.verdicts.iter().map(|standing| {
        let no_kind = || io::Error::other("a kind of subject in it is not known");
        let kind = SubjectKind::parse(standing.kind).ok_or_else(no_kind)?;
        let subject = Subject::parse(kind, &standing.value).map_err(io::Error::other)?;
        let ruling = standing.ruling as usize;
        if ruling >= rulings.len() {
            return Err(io::Error::other("a ruling is missing in it"));
        }
        let expires_at = standing.expires_at.map(Timestamp::from_micros);
        Ok((
            AppId(standing.app),
            subject,
            Uuid::from_bytes(standing.id),
            expires_at,
            ruling,
        ))
    });
    let verdicts = verdicts.collect::<io::Result<_>>()?;
    Ok(Some(Decoded { rulings, verdicts }))
}

fn put_chunk(chunk: Decoded, now: Timestamp, keeper: &mut Keeper) -> u64 {
    let count = chunk.verdicts.len() as u64;
    let rulings: Vec<Arc<Ruling>> = chunk.rulings.into_iter().map(|ruling| keeper.share(ruling)).collect();
    for (app, subject, id, expires_at, ruling) in chunk.verdicts {
        if expires_at.is_none_or(|end| end > now) {
            keeper.hold(app, subject, Held::new(id, expires_at, Arc::clone(&rulings[ruling])));
        }
    }
    count
}

/// Replaces the snapshot at `path` at once: a crash in the middle leaves the former one. What changes meanwhile may be in
/// it or not; the topic has it from `place` on, and says it again.
pub(super) fn save(path: &Path, place: Place, taken_at: Timestamp, decisions: &Decisions) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&unfinished)?);
    let header = Header {
        version: VERSION,
        taken_at,
        place,
        verdicts: decisions.subjects(),
    };
    write_chunk(&mut file, &serde_json::to_vec(&header)?)?;
    let mut pages = Pages::default();
    let mut failed = None;
    decisions.each_held(|app, subject, held| {
        if failed.is_none() {
            failed = pages.add(app, subject, held, &mut file).err();
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    pages.write(&mut file)?;
    write_chunk(&mut file, &[])?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(&unfinished, path)
}

/// The chunk that is being filled.
#[derive(Default)]
struct Pages {
    chunk: Chunk<'static>,
    rulings: Vec<Arc<Ruling>>,
}

impl Pages {
    fn add(&mut self, app: AppId, subject: &Subject, held: &Held, file: &mut impl Write) -> io::Result<()> {
        // The last one first: they come in runs, and there are few.
        let known = self
            .rulings
            .iter()
            .rposition(|ruling| Arc::ptr_eq(ruling, &held.ruling));
        let ruling = match known {
            Some(known) => known,
            None => {
                let ruling = &held.ruling;
                let said = Said {
                    effect: ruling.effect,
                    source: ruling.source,
                    code: ruling.code(),
                    text: ruling.text.to_string(),
                    rule: ruling.rule.as_deref().map(str::to_owned),
                    commands: ruling.commands(),
                };
                self.chunk.rulings.push(serde_json::to_string(&said)?);
                self.rulings.push(Arc::clone(ruling));
                self.rulings.len() - 1
            }
        };
        self.chunk.verdicts.push(Standing {
            app: app.0,
            kind: subject.kind().name(),
            value: subject.value().to_owned().into(),
            id: held.id.into_bytes(),
            expires_at: held.expires_at().map(Timestamp::as_micros),
            ruling: ruling as u32, // at most CHUNK_VERDICTS
        });
        match self.chunk.verdicts.len() < CHUNK_VERDICTS {
            true => Ok(()),
            false => self.write(file),
        }
    }

    fn write(&mut self, file: &mut impl Write) -> io::Result<()> {
        if self.chunk.verdicts.is_empty() {
            return Ok(());
        }
        let bytes = postcard::to_stdvec(&self.chunk).map_err(io::Error::other)?;
        *self = Self::default();
        write_chunk(file, &bytes)
    }
}

fn write_chunk(file: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    file.write_all(&length.to_be_bytes())?;
    file.write_all(&crc32fast::hash(bytes).to_be_bytes())?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use portcullis_schema::{Verdict, id};
    use proptest::prelude::*;

    use super::*;
    use crate::config::Fallback;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    /// What is held, in an order of its own.
    fn all(decisions: &Decisions) -> Vec<String> {
        let mut all = Vec::new();
        decisions.each_held(|app, subject, held| all.push(format!("{app} {subject} {held:?}")));
        all.sort();
        all
    }

    fn verdict(number: u64, kind: SubjectKind, source: Source, text: &str, holds: Option<u64>) -> Verdict {
        Verdict {
            id: id::random(NOW),
            app: AppId(number % 3),
            subject: Subject::parse(kind, &format!("10.0.{}.{}", number / 256 % 256, number % 256)).expect("a subject"),
            commands: if number.is_multiple_of(2) {
                Vec::new()
            } else {
                vec!["Group.CallbackBeforeCreateTopic".to_owned()]
            },
            effect: if number.is_multiple_of(5) {
                Effect::Allow
            } else {
                Effect::Deny
            },
            code: Some(10_100 + (number % 3) as u32),
            text: text.to_owned(),
            source,
            rule: (source == Source::Rule).then(|| "burst".to_owned()),
            reason: String::new(),
            by: String::new(),
            issued_at: NOW,
            expires_at: holds.map(|seconds| NOW.after(Duration::from_secs(seconds))),
            evidence: Vec::new(),
        }
    }

    fn place(next: &[i64]) -> Place {
        Place {
            topic: "verdicts".to_owned(),
            next: next.to_vec(),
            landmarks: vec![None; next.len()],
        }
    }

    fn path() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("verdicts.snapshot");
        (folder, path)
    }

    #[test]
    fn a_snapshot_that_is_cut_or_altered_anywhere_is_refused() {
        let (_folder, path) = path();
        let (decisions, mut keeper) = Decisions::new(10_000, Fallback::default());
        for number in 0..5 {
            keeper.put(
                &verdict(number, SubjectKind::Operator, Source::Rule, "no", Some(60)),
                NOW,
            );
        }
        save(&path, place(&[7]), NOW, &decisions).expect("saved");
        let whole = fs::read(&path).expect("read");
        let load = |bytes: &[u8]| {
            fs::write(&path, bytes).expect("written");
            let (again, mut keeper) = Decisions::new(10_000, Fallback::default());
            let loaded = load(&path, "verdicts", NOW, &mut keeper);
            loaded.map(|loaded| (loaded.map(|loaded| (loaded.place, loaded.verdicts)), all(&again)))
        };
        assert_eq!(load(&whole).expect("loaded"), (Some((place(&[7]), 5)), all(&decisions)));
        for place in 0..whole.len() {
            assert!(load(&whole[..place]).is_err(), "cut at {place}");
            let mut altered = whole.clone();
            altered[place] ^= 1;
            assert!(load(&altered).is_err(), "altered at {place}");
        }
        let former =
            b"{\"version\":2,\"topic\":\"verdicts\",\"taken_at\":\"2023-11-14T22:13:20.000000Z\",\"next\":[7]}\n";
        assert!(load(former).is_err(), "of a version before");
    }

    #[test]
    fn a_snapshot_of_another_topic_or_time_is_refused_with_the_reason() {
        let (_folder, path) = path();
        let (decisions, _keeper) = Decisions::new(10_000, Fallback::default());
        save(&path, place(&[7]), NOW, &decisions).expect("saved");
        let told = |topic: &str, now: Timestamp| {
            let (_, mut keeper) = Decisions::new(10_000, Fallback::default());
            load(&path, topic, now, &mut keeper)
                .err()
                .map(|error| error.to_string())
        };
        let (before, after) = (
            |seconds| NOW.before(Duration::from_secs(seconds)),
            |seconds| NOW.after(Duration::from_secs(seconds)),
        );
        for (topic, now, reason) in [
            ("verdicts", NOW, None),
            ("verdicts", after(3_600), None),
            (
                "verdicts",
                after(3_661),
                Some("it is 3661s old, and may be at most 3600s"),
            ),
            ("verdicts", before(60), None),
            (
                "verdicts",
                before(61),
                Some("it is of 61s after now, so its age is not known"),
            ),
            ("other", NOW, Some("it is of topic \"verdicts\"")),
        ] {
            assert_eq!(told(topic, now).as_deref(), reason, "{topic} {now}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_held_is_held_again(
            verdicts in prop::collection::vec(
                (0..2_000_u64, prop::sample::select(SubjectKind::ALL.to_vec()), any::<bool>(), "\\PC{0,20}", prop::option::of(1..100_u64)),
                0..300,
            ),
            later in 0..100_u64,
        ) {
            let (_folder, path) = path();
            let (decisions, mut keeper) = Decisions::new(10_000, Fallback::default());
            for (number, kind, moderator, text, holds) in &verdicts {
                let source = if *moderator { Source::Moderator } else { Source::Rule };
                keeper.put(&verdict(*number, *kind, source, text, *holds), NOW);
            }
            save(&path, place(&[1, 2]), NOW, &decisions).expect("saved");
            let later = NOW.after(Duration::from_secs(later));
            while keeper.sweep(later) {}
            let (again, mut keeper) = Decisions::new(10_000, Fallback::default());
            let loaded = load(&path, "verdicts", later, &mut keeper).expect("readable").expect("young enough");
            prop_assert_eq!(loaded.place, place(&[1, 2]));
            prop_assert_eq!(all(&again), all(&decisions));
        }
    }
}

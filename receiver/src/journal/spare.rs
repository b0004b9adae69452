//! Segments before they are needed and after.
//!
//! A thread of its own keeps the next segment ready, so that the writer only takes it, and none of this stands between a
//! callback and its answer: making the file, filling it, syncing its directory, removing what is not needed.
//!
//! Why a segment is filled with zeros where a sync is waited for ([`Durability::Host`]): a sync of a file that grows has
//! to make its new size durable as well, a second write through the file system's own journal. Measured on ext4, 4,000
//! times 6,000 bytes and fdatasync: growing 270 us, allocated but not written 280 us, written before 170 us, at two
//! thirds of the processor time and half the 99.9th percentile. What is trimmed is used again, so that in steady
//! traffic nothing is filled at all.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::segment::{Name, Segment};
use super::{Durability, Options};
use crate::priority;

/// Trimmed segments that wait to be used again, beside the one that is ready.
const KEPT_MAX: usize = 1;
/// What segments take beyond the records in them: the rest of the newest, the one that is ready, and the one kept.
pub(super) const BEYOND_RECORDS: u64 = 2 + KEPT_MAX as u64;
/// Filled and synced at once: a millisecond or so of a disk that others wait for.
const FILLED_BYTES: usize = 256 << 10;
/// Left to the others in between. A segment of 16 MiB takes 0.7 s; the highest rate fills it in more than that.
const FILL_PAUSE: Duration = Duration::from_millis(10);
/// After a disk refused. The writer makes a segment for itself meanwhile, or says why it cannot.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const EXTENSION: &str = "segment";
const NUMBER_DIGITS: usize = 10;
const SALT_DIGITS: usize = 8;

/// Where segments lie and how they are made.
pub(super) struct Place {
    directory: PathBuf,
    pub(super) segment_bytes: u64,
    durability: Durability,
    /// Of the next segment. For people who look at the directory: the order is by positions.
    number: AtomicU64,
    salts: RandomState,
}

impl Place {
    pub(super) fn new(options: &Options, number: u64) -> Self {
        Self {
            directory: options.directory.clone(),
            segment_bytes: options.segment_bytes(),
            durability: options.durability,
            number: AtomicU64::new(number),
            salts: RandomState::new(),
        }
    }

    /// A new file, at its full length.
    pub(super) fn create(&self) -> io::Result<Segment> {
        self.create_gently(|| false)
    }

    /// `interrupted` is asked between two writes, and has them wait.
    fn create_gently(&self, interrupted: impl Fn() -> bool) -> io::Result<Segment> {
        self.create_with(|file| self.make_ready(file, interrupted))
    }

    /// A new file, and nothing that whoever needs it now would have to wait for.
    pub(super) fn create_empty(&self) -> io::Result<Segment> {
        self.create_with(|file| {
            self.allocate(file)?;
            self.sync_directory()
        })
    }

    fn create_with(&self, make_ready: impl FnOnce(&File) -> io::Result<()>) -> io::Result<Segment> {
        let name = self.name();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&name.path)?;
        // A part of one would only take what room is left.
        make_ready(&file).inspect_err(|_| drop(fs::remove_file(&name.path)))?;
        Ok(Segment::begin(name, file))
    }

    /// A new life for a file whose records are trimmed.
    fn renew(&self, former: &Path, interrupted: impl Fn() -> bool) -> io::Result<Segment> {
        let name = self.name();
        fs::rename(former, &name.path)?;
        let file = OpenOptions::new().read(true).write(true).open(&name.path)?;
        let made = self.make_ready(&file, interrupted);
        made.inspect_err(|_| drop(fs::remove_file(&name.path)))?;
        Ok(Segment::begin(name, file))
    }

    fn name(&self) -> Name {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let salt = self.salts.hash_one(number) as u32;
        let name = format!("{number:0NUMBER_DIGITS$}-{salt:0SALT_DIGITS$x}.{EXTENSION}");
        Name {
            path: self.directory.join(name),
            salt,
        }
    }

    /// When it returns, a write to the file and a sync of its data are all that a record needs.
    fn make_ready(&self, file: &File, interrupted: impl Fn() -> bool) -> io::Result<()> {
        self.allocate(file)?;
        if self.durability == Durability::Host {
            fill(file, self.segment_bytes, interrupted)?;
        }
        self.sync_directory()
    }

    /// So that a full disk is met here, where another segment can take its place, and not in the middle of a frame.
    fn allocate(&self, file: &File) -> io::Result<()> {
        match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, self.segment_bytes) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_directory(&self) -> io::Result<()> {
        match self.durability {
            Durability::Host => File::open(&self.directory)?.sync_all(),
            Durability::Process => Ok(()),
        }
    }
}

/// The number and the name of a segment.
pub(super) fn parse_name(path: &Path) -> Option<(u64, Name)> {
    let name = path.file_name()?.to_str()?.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    let (number, salt) = name.split_once('-')?;
    let right = number.len() >= NUMBER_DIGITS && salt.len() == SALT_DIGITS;
    let (number, salt) = (number.parse().ok()?, u32::from_str_radix(salt, 16).ok()?);
    let path = path.to_owned();
    right.then_some((number, Name { path, salt }))
}

/// With zeros from its end on.
fn fill(file: &File, length: u64, interrupted: impl Fn() -> bool) -> io::Result<()> {
    static ZEROS: [u8; FILLED_BYTES] = [0; FILLED_BYTES];
    let mut offset = file.metadata()?.len();
    while offset < length {
        if interrupted() {
            return Err(ErrorKind::Interrupted.into());
        }
        let many = (length - offset).min(FILLED_BYTES as u64);
        file.write_all_at(&ZEROS[..many as usize], offset)?;
        file.sync_data()?;
        offset += many;
    }
    Ok(())
}

/// The thread, and what it works on.
pub(super) struct Spare {
    shelf: Arc<Shelf>,
    handle: Option<JoinHandle<()>>,
}

struct Shelf {
    place: Arc<Place>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ready: Option<Segment>,
    /// A reader may still be in one. No more than the journal had.
    trimmed: Vec<Arc<Name>>,
    ended: bool,
}

impl Spare {
    pub(super) fn start(place: Arc<Place>, trimmed: Vec<Arc<Name>>) -> io::Result<Self> {
        let state = State {
            trimmed,
            ..State::default()
        };
        let shelf = Arc::new(Shelf {
            place,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let thread = thread::Builder::new().name("journal-spare".to_owned());
        let handle = thread.spawn({
            let shelf = Arc::clone(&shelf);
            move || {
                priority::give_way(priority::STORING);
                shelf.work();
            }
        })?;
        Ok(Self {
            shelf,
            handle: Some(handle),
        })
    }

    /// The segment that is ready, if there is one already.
    pub(super) fn take(&self) -> Option<Segment> {
        let ready = self.shelf.lock().ready.take();
        self.shelf.changed.notify_one();
        ready
    }

    /// One that is trimmed, made ready here and now: for a disk that has no room for another.
    pub(super) fn renew(&self) -> Option<Segment> {
        let former = self.shelf.lock().trimmed.pop()?;
        self.shelf.prepare(Some(former), || false).ok()
    }

    /// What stands in it is needed no more.
    pub(super) fn put(&self, trimmed: Arc<Name>) {
        self.shelf.lock().trimmed.push(trimmed);
        self.shelf.changed.notify_one();
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.shelf.lock().ended = true;
        self.shelf.changed.notify_one();
        if let Some(handle) = self.handle.take()
            && handle.join().is_err()
        {
            tracing::error!("the thread that prepares the journal's segments panicked");
        }
    }
}

impl Shelf {
    fn work(&self) {
        let mut state = self.lock();
        while !state.ended {
            let worked = if state.ready.is_none() {
                let former = state.trimmed.pop();
                drop(state);
                let prepared = self.prepare(former, || {
                    thread::sleep(FILL_PAUSE);
                    self.lock().ended
                });
                state = self.lock();
                prepared.map(|segment| state.ready = Some(segment))
            } else if state.trimmed.len() > KEPT_MAX
                && let Some(surplus) = state.trimmed.pop()
            {
                drop(state);
                let removed = fs::remove_file(&surplus.path);
                state = self.lock();
                removed
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                Ok(())
            };
            if let Err(error) = worked
                && !state.ended
            {
                tracing::debug!(%error, "no segment of the journal can be prepared");
                let waited = self.changed.wait_timeout(state, RETRY_PAUSE);
                (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn prepare(&self, former: Option<Arc<Name>>, interrupted: impl Fn() -> bool) -> io::Result<Segment> {
        let Some(former) = former else {
            return self.place.create_gently(interrupted);
        };
        // Whoever reads it reads it to the end.
        let is_read = Arc::strong_count(&former) > 1;
        // One that was made for a huge entry, or under another bound, is no use.
        if is_read || former.path.metadata()?.len() > 2 * self.place.segment_bytes {
            fs::remove_file(&former.path)?;
            return self.place.create_gently(interrupted);
        }
        self.place.renew(&former.path, interrupted)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Opening the journal, whatever is found: the receiver must answer. Damage costs the blocks that it hit, and they are
//! counted. A directory that holds something else is set aside and never deleted. A torn last write is no damage:
//! nobody was told that it is durable.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, iter};

use super::positions::Positions;
use super::store::{Extent, Store, StoreError};
use super::{Options, Position};

/// Why there is no journal. A person must act.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Two receivers with the same data directory.
    #[error(
        "the journal in {} is held by another process: stop that one, or give this one a data directory of its own",
        directory.display()
    )]
    Held {
        /// Where it lies.
        directory: PathBuf,
    },
    /// Rights, a read-only file system, too many open files.
    #[error("the journal in {} cannot be used: {}", directory.display(), what_to_do(source))]
    Unusable {
        /// Where it lies.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no thread.
    #[error("the journal's writer cannot be started")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
}

fn what_to_do(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::ReadOnlyFilesystem => {
            "the disk is read-only, mount it for writing or choose a data directory on another"
        }
        ErrorKind::PermissionDenied => {
            "this user must be allowed to read and write there, or needs a data directory of its own"
        }
        _ => "the system refuses, see the reason",
    }
}

/// What was found when the journal was opened.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// The oldest position that is kept, or lost without having been trimmed.
    pub first: Position,
    /// The next position.
    pub next: Position,
    /// All before it were trimmed once. What is missing there is not lost.
    pub trimmed_before: Position,
    /// Positions from there on whose blocks are gone, as far as the positions were known.
    pub missing: u64,
    /// Positions before it whose blocks came back: they are read once more.
    pub again: u64,
    /// What the kept blocks take on disk.
    pub bytes: u64,
    /// Bytes at the end of the journal that could not be read: a torn write, or damage.
    pub cut_bytes: u64,
    /// Where something that is no journal was moved to.
    pub set_aside: Option<PathBuf>,
}

/// What keeps a store from being opened, by what can be done about it.
enum Obstacle {
    /// Another process must end.
    Held,
    /// Space must come back, or the disk must take part again; trying again helps.
    Disk(StoreError),
    /// A person must act.
    Unusable(io::Error),
    /// Nothing helps: set it aside.
    Foreign(StoreError),
}

/// Opens the store for the first time. On a full disk there is none yet: the writer tries again.
pub(super) fn open(options: &Options) -> Result<(Option<Store>, Recovery), OpenError> {
    let directory = &options.directory;
    let unusable = |source| OpenError::Unusable {
        directory: directory.to_owned(),
        source,
    };
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent).map_err(unusable)?;
    }
    let known = Positions::read(directory).unwrap_or_default();
    let mut set_aside_to = None;
    loop {
        match try_open(options, Position::MAX, known) {
            Ok((store, extent)) => {
                let recovery = Recovery {
                    first: extent.first,
                    next: extent.next,
                    trimmed_before: known.first.max(extent.first),
                    missing: extent.missing,
                    again: extent.again,
                    bytes: store.used_bytes(),
                    cut_bytes: store.cut_bytes(),
                    set_aside: set_aside_to,
                };
                recovery.tell();
                return Ok((Some(store), recovery));
            }
            Err(Obstacle::Disk(error)) => {
                tracing::error!(
                    error = %error,
                    "journal cannot be opened, records wait in memory: see to the disk, it goes on by itself"
                );
                let Positions { first, next } = known;
                let recovery = Recovery {
                    first,
                    next,
                    trimmed_before: first,
                    set_aside: set_aside_to,
                    ..Recovery::default()
                };
                return Ok((None, recovery));
            }
            Err(Obstacle::Held) => {
                return Err(OpenError::Held {
                    directory: directory.to_owned(),
                });
            }
            Err(Obstacle::Unusable(source)) => return Err(unusable(source)),
            Err(Obstacle::Foreign(error)) if set_aside_to.is_none() => {
                set_aside_to = Some(set_aside(directory, &error).map_err(unusable)?);
            }
            Err(Obstacle::Foreign(error)) => return Err(unusable(io::Error::other(error))),
        }
    }
}

/// Opens the store again after it broke. What is no journal is set aside at once; all else is the caller's to try again.
pub(super) fn reopen(options: &Options, known: Positions) -> Result<(Store, Extent), StoreError> {
    match try_open(options, known.next, known) {
        Ok(opened) => Ok(opened),
        Err(Obstacle::Held) => Err(StoreError::Held),
        Err(Obstacle::Disk(error)) => Err(error),
        Err(Obstacle::Unusable(error)) => Err(error.into()),
        Err(Obstacle::Foreign(error)) => {
            set_aside(&options.directory, &error)?;
            Err(error)
        }
    }
}

impl Recovery {
    fn tell(&self) {
        let &Self {
            first,
            next,
            missing,
            again,
            cut_bytes,
            ..
        } = self;
        if missing > 0 {
            tracing::error!(first, next, missing, "journal has holes, these records are lost");
        }
        if again > 0 {
            tracing::warn!(
                again,
                "damage brought records back that had been published: they are published again, with the ids they had"
            );
        }
        if cut_bytes > 0 && missing == 0 {
            tracing::warn!(
                cut_bytes,
                next,
                "the end of the journal was cut off: a torn last write, nothing that is known to have been durable"
            );
        }
    }
}

fn try_open(options: &Options, until: Position, known: Positions) -> Result<(Store, Extent), Obstacle> {
    let store = Store::open(options, until)?;
    let extent = store.extent(known)?;
    Ok((store, extent))
}

impl From<StoreError> for Obstacle {
    fn from(error: StoreError) -> Self {
        const EIO: i32 = 5;
        match error {
            StoreError::Held => Self::Held,
            StoreError::Foreign => Self::Foreign(error),
            StoreError::Io(source) => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Disk(source.into()),
                _ if source.raw_os_error() == Some(EIO) => Self::Disk(source.into()),
                _ => Self::Unusable(source),
            },
            StoreError::NoRoom(_)
            | StoreError::Removed
            | StoreError::Hangs
            | StoreError::Panicked
            | StoreError::Doubted
            | StoreError::Away => Self::Disk(error),
        }
    }
}

/// Moves the directory to a name beside it.
fn set_aside(directory: &Path, error: &StoreError) -> io::Result<PathBuf> {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let names = iter::once(format!("{name}.set-aside-{seconds}"))
        .chain((1..).map(|again: u32| format!("{name}.set-aside-{seconds}-{again}")));
    for candidate in names.map(|name| directory.with_file_name(name)) {
        if !candidate.try_exists()? {
            fs::rename(directory, &candidate)?;
            tracing::error!(
                directory = %directory.display(), set_aside = %candidate.display(), error = %error,
                "what is in the journal's directory is no journal of this version and is set aside: \
                 if records in it were not published, the version that wrote it can publish them",
            );
            return Ok(candidate);
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}
